/* Rows of tables as observations of a fit. */
#ifndef PLIMSOLL_MEASURE_OBSERVE_H
#define PLIMSOLL_MEASURE_OBSERVE_H

#include "measure/fit.h"
#include "measure/validator.h"

/* Observations of one validator's table, appended to list (grown in a). Kinds without an observe function give none. */
struct pl_observations {
	struct pl_arena *a;
	struct pl_observation *list;
	uint32_t n, cap;
};
int pl_observe_table(struct pl_validator *v, uint32_t table, struct pl_observations *ret, struct pl_err *err) PL_MUST_CHECK;

/* Opens a table as a validation does. */
int pl_validator_open(struct pl_arena *a, const char *path, struct pl_validator **ret, struct pl_err *err) PL_MUST_CHECK;

/* Before the rows of v are predicted: fits without each group; v->held_out[row] then holds what such a fit predicts. */
int pl_hold_out(struct pl_validator *v, enum pl_leave_out by, struct pl_err *err) PL_MUST_CHECK;

#endif
