/* Lengths and arrivals of a load: drawn from a seed, the same on every machine. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "measure/load.h"

/* xoshiro256** by Blackman and Vigna (public domain reference), seeded by splitmix64. */
void pl_rng_seed(struct pl_rng *r, uint64_t seed)
{
	for (int i = 0; i < 4; i++) {
		uint64_t z = (seed += UINT64_C(0x9e3779b97f4a7c15));
		z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
		z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
		r->s[i] = z ^ (z >> 31);
	}
}

static uint64_t turn(uint64_t x, int k)
{
	return (x << k) | (x >> (64 - k));
}

uint64_t pl_rng_next(struct pl_rng *r)
{
	uint64_t out = turn(r->s[1] * 5, 7) * 9, t = r->s[1] << 17;
	r->s[2] ^= r->s[0];
	r->s[3] ^= r->s[1];
	r->s[1] ^= r->s[2];
	r->s[0] ^= r->s[3];
	r->s[2] ^= t;
	r->s[3] = turn(r->s[3], 45);
	return out;
}

double pl_rng_unit(struct pl_rng *r)
{
	return ((double)(pl_rng_next(r) >> 11) + 0.5) * 0x1p-53; /* never 0, never 1 */
}

double pl_rng_exponential(struct pl_rng *r, double mean)
{
	return -mean * log(pl_rng_unit(r));
}

static double normal(struct pl_rng *r)
{
	return sqrt(-2 * log(pl_rng_unit(r))) * cos(2 * 3.14159265358979323846 * pl_rng_unit(r));
}

uint32_t pl_length_draw(const struct pl_length *l, struct pl_rng *r)
{
	double v = l->a;
	if (l->kind == PL_LENGTH_UNIFORM)
		v = floor(l->a + pl_rng_unit(r) * (l->b - l->a + 1));
	else if (l->kind == PL_LENGTH_LOGNORMAL)
		v = l->a * exp(l->b * normal(r));
	v = round(v);
	return v < 1 ? 1 : v > 1e7 ? 10000000 : (uint32_t)v;
}

static bool number(const char **at, double *ret)
{
	char *end;
	*ret = strtod(*at, &end);
	bool good = end != *at && isfinite(*ret) && *ret >= 0;
	*at = end;
	return good;
}

int pl_length_parse(const char *text, struct pl_length *ret, struct pl_err *err)
{
	struct pl_length l = {0};
	const char *at = text;
	bool good;
	if (!strncmp(text, "lognormal:", 10)) {
		at += 10;
		l.kind = PL_LENGTH_LOGNORMAL;
		good = number(&at, &l.a) && *at++ == ',' && number(&at, &l.b) && l.a >= 1 && l.b <= 5;
	} else {
		good = number(&at, &l.a) && l.a >= 1;
		if (good && *at == '-') {
			at++;
			l.kind = PL_LENGTH_UNIFORM;
			good = number(&at, &l.b) && l.b >= l.a;
		}
	}
	if (!good || *at || l.a > 1e7 || l.b > 1e7)
		return pl_fail(err, PL_ERR_USAGE, text, "is no length: write 512, 128-1024 or lognormal:512,0.6");
	*ret = l;
	return 0;
}
