/* Rows of a table that measured the same thing: how far apart? */
#ifndef PLIMSOLL_MEASURE_REPEATS_H
#define PLIMSOLL_MEASURE_REPEATS_H

#include "measure/table.h"

/* What makes rows the same: a text in the arena; NULL: out of memory. */
typedef const char *pl_row_key(struct pl_arena *a, const struct pl_table *t, uint32_t row);

/* Of the numbers above zero in one column over rows of one key; 0, 0: there is none. */
struct pl_extremes {
	double least, most;
};

/* For each row those of its key, n_rows long, in the arena; NULL: out of memory. */
const struct pl_extremes *pl_repeats(struct pl_arena *a, const struct pl_table *t, const char *column, pl_row_key *key);

/* Largest over smallest; 1 where nothing was measured. */
double pl_extremes_ratio(const struct pl_extremes *x);

#endif
