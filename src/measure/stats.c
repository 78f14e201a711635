#include <math.h>
#include <stdlib.h>

#include "measure/stats.h"

static int by_value(const void *x, const void *y)
{
	double a = *(const double *)x, b = *(const double *)y;
	return (a > b) - (a < b);
}

double pl_quantile(double *values, uint32_t n, double q)
{
	if (!n)
		return NAN;
	qsort(values, n, sizeof *values, by_value);
	double at = q * (n - 1);
	uint32_t lower = (uint32_t)floor(at);
	if (lower + 1 >= n)
		return values[n - 1];
	return values[lower] + (at - lower) * (values[lower + 1] - values[lower]);
}
