/* Element types: ggml's blocks and the plain types of safetensors, one table. */
#ifndef PLIMSOLL_DTYPE_H
#define PLIMSOLL_DTYPE_H

#include <stdbool.h>
#include <stdint.h>

#include <plimsoll/error.h>

enum pl_dtype {
	PL_DTYPE_UNKNOWN = 0,
#define X(id, name, block_elems, block_bytes, ggml_id) PL_DTYPE_##id,
#include <plimsoll/dtype.def>
#undef X
	PL_DTYPE_COUNT
};

struct pl_dtype_info {
	const char *name;     /* lower case: "q4_k", "bf16" */
	uint32_t block_elems; /* elements in one block, 1 for plain types */
	uint32_t block_bytes; /* bytes of one block */
	int32_t ggml_id;      /* number in GGUF files, -1 when the type is not ggml's */
};

/* Table row; the UNKNOWN row for a value out of range. Never NULL. */
const struct pl_dtype_info *pl_dtype_info(enum pl_dtype t);
const char *pl_dtype_name(enum pl_dtype t);
/* By name, case-insensitive ("Q4_K", "f16", "F8_E4M3"); UNKNOWN when there is none. */
enum pl_dtype pl_dtype_from_name(const char *name);
enum pl_dtype pl_dtype_from_ggml(uint32_t ggml_id);
/* Bytes of n_elems elements laid out in rows of row_elems (each row is whole blocks, as in ggml).
 * 0 on success; -PL_ERR_RANGE when a row is not a whole number of blocks or the size overflows. */
int pl_dtype_bytes(enum pl_dtype t, uint64_t row_elems, uint64_t n_elems, uint64_t *ret_bytes);
/* Bits per element including block scales; 0 for UNKNOWN. */
double pl_dtype_bits(enum pl_dtype t);

#endif
