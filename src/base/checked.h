/* Checked 64-bit arithmetic: every product or sum of sizes goes through here. */
#ifndef PLIMSOLL_BASE_CHECKED_H
#define PLIMSOLL_BASE_CHECKED_H

#include <stdbool.h>
#include <stdint.h>

/* true and *ret on success; false on overflow, *ret then unspecified. */
static inline bool pl_mul_u64(uint64_t a, uint64_t b, uint64_t *ret)
{
	return !__builtin_mul_overflow(a, b, ret);
}

static inline bool pl_add_u64(uint64_t a, uint64_t b, uint64_t *ret)
{
	return !__builtin_add_overflow(a, b, ret);
}

/* For sums and products of memory sizes whose overflow means "larger than any machine": they stick at UINT64_MAX, which
 * no device holds, so that the verdict stays right. */
static inline uint64_t pl_sat_mul(uint64_t a, uint64_t b)
{
	uint64_t r;
	return __builtin_mul_overflow(a, b, &r) ? UINT64_MAX : r;
}

static inline uint64_t pl_sat_add(uint64_t a, uint64_t b)
{
	uint64_t r;
	return __builtin_add_overflow(a, b, &r) ? UINT64_MAX : r;
}

static inline uint64_t pl_sat_sub(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

/* n rounded up to a multiple of unit (unit > 0); sticks at UINT64_MAX. */
static inline uint64_t pl_round_up(uint64_t n, uint64_t unit)
{
	uint64_t rest = n % unit;
	return rest ? pl_sat_add(n, unit - rest) : n;
}

static inline uint64_t pl_ceil_div(uint64_t n, uint64_t d)
{
	return n / d + (n % d != 0);
}

static inline uint64_t pl_min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t pl_max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

#endif
