#include <math.h>
#include <stdlib.h>

#include "base/nameset.h"
#include "measure/repeats.h"

const struct pl_extremes *pl_repeats(struct pl_arena *a, const struct pl_table *t, const char *column, pl_row_key *key_of)
{
	struct pl_extremes *ret = PL_NEW_N(a, struct pl_extremes, (uint64_t)t->n_rows + 1);
	struct pl_extremes *groups = PL_NEW_N(a, struct pl_extremes, (uint64_t)t->n_rows + 1);
	uint32_t *group = PL_NEW_N(a, uint32_t, (uint64_t)t->n_rows + 1);
	struct pl_nameset seen = {0};
	if (!ret || !groups || !group)
		return NULL;
	for (uint32_t i = 0; i < t->n_rows; i++) {
		bool fresh;
		const char *key = key_of(a, t, i);
		struct pl_named *e = key ? pl_nameset_entry(a, &seen, key, seen.n, &fresh) : NULL;
		double v = strtod(pl_table_cell(t, i, column), NULL);
		if (!e)
			return NULL;
		group[i] = e->value;
		struct pl_extremes *g = &groups[e->value];
		if (v > 0 && isfinite(v))
			*g = (struct pl_extremes){g->least > 0 ? fmin(g->least, v) : v, fmax(g->most, v)};
	}
	for (uint32_t i = 0; i < t->n_rows; i++)
		ret[i] = groups[group[i]];
	return ret;
}

double pl_extremes_ratio(const struct pl_extremes *x)
{
	return x->least > 0 ? x->most / x->least : 1;
}
