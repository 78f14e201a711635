/* What a fit keeps between its steps. */
#ifndef PLIMSOLL_MEASURE_FIT_WORK_H
#define PLIMSOLL_MEASURE_FIT_WORK_H

#include "measure/fit.h"

struct pl_slope { /* d ln(predicted) / d ln(constant) */
	enum pl_family family;
	struct pl_context context;
	enum pl_dtype type;
	double slope;
};

struct pl_fit_entry {
	uint32_t effect;
	double d;
};

struct pl_fit_row {
	struct pl_slope *slopes;
	struct pl_fit_entry *entries;
	uint32_t n_slopes, n_entries;
	double at, w; /* ln(predicted), weight of the step */
	bool use;
};

struct pl_fit_work {
	uint32_t *keys, n_keys, cap_keys;
	struct pl_effect *effects; /* sorted; also those of fit->fitted */
	uint32_t n_effects;
	struct pl_fit_row *rows;
	struct pl_bound_cache cache;
	double *precision, *centre, *gradient, *diagonal, *step, *r, *z, *p, *q;
};

uint32_t pl_fit_index(struct pl_fit *f, uint32_t key);
/* Slopes of all rows at the effects as they are. */
void pl_fit_derive(struct pl_fit *f);
/* At most so many steps; keep_slopes: near the end only the predictions are made again. */
void pl_fit_iterate(struct pl_fit *f, int steps, bool keep_slopes);

#endif
