/* Rows of a table that agree in all cells but the measured ones: how far apart is what they measured? */
#ifndef PLIMSOLL_MEASURE_REPEATS_H
#define PLIMSOLL_MEASURE_REPEATS_H

#include "measure/table.h"

/* For each row the largest over the smallest number above zero in column `value` among the rows whose cells are equal in
 * every column outside `apart` (NULL-terminated); 1 where the row stands alone or its number is none. n_rows long, in the
 * arena; NULL: out of memory. */
const double *pl_repeats_spread(struct pl_arena *a, const struct pl_table *t, const char *value, const char *const *apart);

#endif
