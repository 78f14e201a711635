/* Which catalogued model a loose name means: "llama 7B", "qwen3.6:27b-mlx", "shisa-v2-llama3.1-8b.i1". */
#ifndef PLIMSOLL_MEASURE_MODEL_NAME_H
#define PLIMSOLL_MEASURE_MODEL_NAME_H

#include <plimsoll/catalog.h>

/* Sizes and architectures of all catalogued models, read once. */
struct pl_model_index;
const struct pl_model_index *pl_model_index_make(struct pl_arena *a, struct pl_err *err) PL_MUST_CHECK;

/* params_b: billions of parameters as stated, NAN when not; exact: as an engine prints them (two digits after the point or
 * more), not as a name rounds them. The nearest row by family, version and size; failing that (*ret_by_size) the nearest by size
 * and architecture alone; NULL when none is near. */
const struct pl_model_row *pl_model_by_name(const struct pl_model_index *x, const char *name, double params_b, bool exact, bool *ret_by_size);

#endif
