/* Bytes of a GGUF v3 header: keys first, then the list of tensors with their offsets. */
#ifndef PLIMSOLL_MODEL_GGUF_WRITE_H
#define PLIMSOLL_MODEL_GGUF_WRITE_H

#include "model/build.h"

enum { PL_GGUF_ALIGNMENT_BYTES = 32 };

/* Keys under construction; grows in the arena. Zero it and set a. */
struct pl_gguf_out {
	struct pl_arena *a;
	uint8_t *buf;
	uint64_t len, cap;
	uint64_t n_kv;
	bool failed; /* out of memory: reported by pl_gguf_finish */
};

void pl_gguf_put_str(struct pl_gguf_out *o, const char *key, const char *value);
void pl_gguf_put_u32(struct pl_gguf_out *o, const char *key, uint32_t value);
void pl_gguf_put_u64(struct pl_gguf_out *o, const char *key, uint64_t value);
void pl_gguf_put_f32(struct pl_gguf_out *o, const char *key, float value);
void pl_gguf_put_bool(struct pl_gguf_out *o, const char *key, bool value);
/* Arrays. Whole numbers are written as u32 or i32, bools as bool. */
void pl_gguf_put_u32s(struct pl_gguf_out *o, const char *key, const uint32_t *values, uint64_t n);
void pl_gguf_put_i32s(struct pl_gguf_out *o, const char *key, const int32_t *values, uint64_t n);
void pl_gguf_put_f32s(struct pl_gguf_out *o, const char *key, const float *values, uint64_t n);
void pl_gguf_put_bools(struct pl_gguf_out *o, const char *key, const bool *values, uint64_t n);
void pl_gguf_put_strs(struct pl_gguf_out *o, const char *key, const char *const *values, uint64_t n);

/* Lays the tensors out one after the other (offset_bytes is written back) and returns the header up to the data
 * section, padded to the alignment. Tensors need name, ne, n_dims, type (one of ggml's) and bytes. */
int pl_gguf_finish(struct pl_gguf_out *o, struct pl_tensor *tensors, uint32_t n_tensors, const uint8_t **ret_header,
                   uint64_t *ret_header_bytes, uint64_t *ret_data_bytes, struct pl_err *err) PL_MUST_CHECK;

#endif
