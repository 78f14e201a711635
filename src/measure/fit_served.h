/* Fits the constants of serving engines on measured cards to served runs.
 *
 * Few constants, drawn towards their priors: kernels in the engine against kernels alone for all engines together, and what
 * each engine adds (sequences, prompts, arrival). ln(TPOT) and ln(TTFT) of a played loop are differentiated by each; steps of
 * Gauss-Newton with Cauchy weights; groups left out are solved from the same slopes and then played again. */
#ifndef PLIMSOLL_MEASURE_FIT_SERVED_H
#define PLIMSOLL_MEASURE_FIT_SERVED_H

#include "measure/served_case.h"

enum { PL_SERVED_METRICS = 5, PL_SERVED_MAX = 48 }; /* TPOT, TTFT, output tokens a second, TTFT and TPOT of split servers; constants */

enum pl_served_group { PL_SERVED_BY_DEVICE = 0, PL_SERVED_BY_MODEL, PL_SERVED_BY_PAIR /* a model on a device */ };

struct pl_served_errors {
	uint32_t n;
	double median_frac, p90_frac;
};

struct pl_served_fit {
	struct pl_effect effects[PL_SERVED_MAX]; /* sorted by key */
	uint32_t n_effects, n_devices;
	struct pl_served_errors fitted[PL_SERVED_METRICS], left_out[3][PL_SERVED_METRICS]; /* by enum pl_served_group */
	struct pl_spread spread[PL_SERVED_METRICS][PL_KIN_NONE + 1]; /* of the pairs left out; of rates by pl_speed_kernels */
};

/* Before the rows of v are predicted: fits without each group; v->held_served then holds what such a fit predicts. */
int pl_served_hold_out(struct pl_validator *v, enum pl_served_group by, struct pl_err *err) PL_MUST_CHECK;

int pl_fit_served(struct pl_arena *a, struct pl_served_case *cases, uint32_t n, struct pl_served_fit *ret,
                  struct pl_err *err) PL_MUST_CHECK;

#endif
