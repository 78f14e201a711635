/* Quantiles of errors. */
#ifndef PLIMSOLL_MEASURE_STATS_H
#define PLIMSOLL_MEASURE_STATS_H

#include <stdint.h>

/* The q-quantile (0 … 1) of n values, linear between neighbours (Hyndman and Fan's definition 7); sorts them. NAN for n 0. */
double pl_quantile(double *values, uint32_t n, double q);

#endif
