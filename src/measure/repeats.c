#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/nameset.h"
#include "measure/repeats.h"

static bool stands_apart(const struct pl_table *t, uint32_t column, const char *const *apart)
{
	for (; *apart; apart++)
		if (!strcmp(t->columns[column], *apart))
			return true;
	return false;
}

/* All cells that must agree, one after the other; NULL: out of memory. */
static const char *key_of(struct pl_arena *a, const struct pl_table *t, uint32_t row, const char *const *apart)
{
	size_t n = 1;
	for (uint32_t c = 0; c < t->n_columns; c++)
		n += strlen(t->rows[row].cells[c]) + 1;
	char *key = pl_arena_alloc(a, n), *at = key;
	for (uint32_t c = 0; key && c < t->n_columns; c++) {
		if (stands_apart(t, c, apart))
			continue;
		at = stpcpy(at, t->rows[row].cells[c]);
		*at++ = '\x1f';
	}
	if (key)
		*at = '\0';
	return key;
}

struct extremes {
	double least, most;
};

const double *pl_repeats_spread(struct pl_arena *a, const struct pl_table *t, const char *value, const char *const *apart)
{
	double *spread = PL_NEW_N(a, double, (uint64_t)t->n_rows + 1);
	struct extremes *found = PL_NEW_N(a, struct extremes, (uint64_t)t->n_rows + 1);
	uint32_t *group = PL_NEW_N(a, uint32_t, (uint64_t)t->n_rows + 1), n = 0;
	struct pl_nameset seen = {0};
	int column = pl_table_column(t, value);
	if (!spread || !found || !group)
		return NULL;
	for (uint32_t i = 0; i < t->n_rows; i++) {
		double v = column >= 0 && t->rows[i].n_cells == t->n_columns ? strtod(t->rows[i].cells[column], NULL) : 0;
		bool fresh = false;
		const char *key = v > 0 && isfinite(v) ? key_of(a, t, i, apart) : NULL;
		struct pl_named *e = key ? pl_nameset_entry(a, &seen, key, n, &fresh) : NULL;
		group[i] = UINT32_MAX;
		if (!e)
			continue;
		group[i] = e->value;
		struct extremes *x = &found[e->value];
		*x = fresh ? (struct extremes){v, v} : (struct extremes){fmin(x->least, v), fmax(x->most, v)};
		n += fresh;
	}
	for (uint32_t i = 0; i < t->n_rows; i++)
		spread[i] = group[i] == UINT32_MAX ? 1 : found[group[i]].most / found[group[i]].least;
	return pl_arena_failed(a) ? NULL : spread;
}
