#include <strings.h>

#include <plimsoll/dtype.h>

#include "base/checked.h"

static const struct pl_dtype_info table[PL_DTYPE_COUNT] = {
    [PL_DTYPE_UNKNOWN] = {"unknown", 1, 0, -1},
#define X(id, name, block_elems, block_bytes, ggml_id) [PL_DTYPE_##id] = {name, block_elems, block_bytes, ggml_id},
#include <plimsoll/dtype.def>
#undef X
};

const struct pl_dtype_info *pl_dtype_info(enum pl_dtype t)
{
	return &table[(unsigned)t < PL_DTYPE_COUNT ? t : PL_DTYPE_UNKNOWN];
}

const char *pl_dtype_name(enum pl_dtype t)
{
	return pl_dtype_info(t)->name;
}

enum pl_dtype pl_dtype_from_name(const char *name)
{
	for (unsigned i = 1; i < PL_DTYPE_COUNT; i++)
		if (!strcasecmp(table[i].name, name))
			return (enum pl_dtype)i;
	return PL_DTYPE_UNKNOWN;
}

enum pl_dtype pl_dtype_from_ggml(uint32_t ggml_id)
{
	for (unsigned i = 1; i < PL_DTYPE_COUNT; i++)
		if (table[i].ggml_id >= 0 && (uint32_t)table[i].ggml_id == ggml_id)
			return (enum pl_dtype)i;
	return PL_DTYPE_UNKNOWN;
}

int pl_dtype_bytes(enum pl_dtype t, uint64_t row_elems, uint64_t n_elems, uint64_t *ret_bytes)
{
	const struct pl_dtype_info *d = pl_dtype_info(t);
	uint64_t bytes;
	if (!d->block_bytes || !d->block_elems)
		return -PL_ERR_RANGE;
	if (row_elems % d->block_elems || n_elems % d->block_elems)
		return -PL_ERR_RANGE;
	if (!pl_mul_u64(n_elems / d->block_elems, d->block_bytes, &bytes))
		return -PL_ERR_RANGE;
	*ret_bytes = bytes;
	return 0;
}

double pl_dtype_bits(enum pl_dtype t)
{
	const struct pl_dtype_info *d = pl_dtype_info(t);
	return 8.0 * d->block_bytes / d->block_elems;
}
