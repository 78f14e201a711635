/* The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (little endian). */
#include <string.h>

#include "base/checked.h"
#include "model/gguf_write.h"

static void put(struct pl_gguf_out *o, const void *data, uint64_t n)
{
	if (o->failed)
		return;
	if (n > o->cap - o->len) {
		uint64_t cap = pl_max_u64(pl_sat_add(o->len, n), pl_sat_mul(o->cap, 2));
		uint8_t *buf = pl_arena_grow(o->a, o->buf, o->len, pl_max_u64(cap, 4096), 1);
		if (!buf) {
			o->failed = true;
			return;
		}
		o->buf = buf;
		o->cap = pl_max_u64(cap, 4096);
	}
	memcpy(o->buf + o->len, data, n);
	o->len += n;
}

static void put_le(struct pl_gguf_out *o, uint64_t v, unsigned n_bytes)
{
	uint8_t b[8];
	for (unsigned i = 0; i < n_bytes; i++)
		b[i] = (uint8_t)(v >> (8 * i));
	put(o, b, n_bytes);
}

static void put_text(struct pl_gguf_out *o, const char *s)
{
	size_t n = strlen(s);
	put_le(o, n, 8);
	put(o, s, n);
}

static void put_key(struct pl_gguf_out *o, const char *key, enum pl_gguf_type type)
{
	put_text(o, key);
	put_le(o, type, 4);
	o->n_kv++;
}

static void put_array(struct pl_gguf_out *o, const char *key, enum pl_gguf_type elem, uint64_t n)
{
	put_key(o, key, PL_GGUF_ARRAY);
	put_le(o, elem, 4);
	put_le(o, n, 8);
}

static uint32_t f32_bits(float f)
{
	uint32_t u;
	memcpy(&u, &f, sizeof u);
	return u;
}

void pl_gguf_put_str(struct pl_gguf_out *o, const char *key, const char *value)
{
	put_key(o, key, PL_GGUF_STRING);
	put_text(o, value);
}

void pl_gguf_put_u32(struct pl_gguf_out *o, const char *key, uint32_t value)
{
	put_key(o, key, PL_GGUF_U32);
	put_le(o, value, 4);
}

void pl_gguf_put_u64(struct pl_gguf_out *o, const char *key, uint64_t value)
{
	put_key(o, key, PL_GGUF_U64);
	put_le(o, value, 8);
}

void pl_gguf_put_f32(struct pl_gguf_out *o, const char *key, float value)
{
	put_key(o, key, PL_GGUF_F32);
	put_le(o, f32_bits(value), 4);
}

void pl_gguf_put_bool(struct pl_gguf_out *o, const char *key, bool value)
{
	put_key(o, key, PL_GGUF_BOOL);
	put_le(o, value, 1);
}

void pl_gguf_put_u32s(struct pl_gguf_out *o, const char *key, const uint32_t *values, uint64_t n)
{
	put_array(o, key, PL_GGUF_U32, n);
	for (uint64_t i = 0; i < n; i++)
		put_le(o, values[i], 4);
}

void pl_gguf_put_i32s(struct pl_gguf_out *o, const char *key, const int32_t *values, uint64_t n)
{
	put_array(o, key, PL_GGUF_I32, n);
	for (uint64_t i = 0; i < n; i++)
		put_le(o, (uint32_t)values[i], 4);
}

void pl_gguf_put_f32s(struct pl_gguf_out *o, const char *key, const float *values, uint64_t n)
{
	put_array(o, key, PL_GGUF_F32, n);
	for (uint64_t i = 0; i < n; i++)
		put_le(o, f32_bits(values[i]), 4);
}

void pl_gguf_put_bools(struct pl_gguf_out *o, const char *key, const bool *values, uint64_t n)
{
	put_array(o, key, PL_GGUF_BOOL, n);
	for (uint64_t i = 0; i < n; i++)
		put_le(o, values[i], 1);
}

void pl_gguf_put_strs(struct pl_gguf_out *o, const char *key, const char *const *values, uint64_t n)
{
	put_array(o, key, PL_GGUF_STRING, n);
	for (uint64_t i = 0; i < n; i++)
		put_text(o, values[i]);
}

/* Name, dimensions, type and offset of one tensor. */
static int put_tensor(struct pl_gguf_out *o, struct pl_tensor *t, uint64_t *data_bytes, struct pl_err *err)
{
	int32_t type = pl_dtype_info(t->type)->ggml_id;
	if (type < 0)
		return pl_fail(err, PL_ERR_UNSUPPORTED, t->name, "GGUF has no element type '%s'",
		               pl_dtype_name(t->type));
	t->offset_bytes = *data_bytes;
	put_text(o, t->name);
	put_le(o, t->n_dims, 4);
	for (uint32_t d = 0; d < t->n_dims; d++)
		put_le(o, t->ne[d], 8);
	put_le(o, (uint32_t)type, 4);
	put_le(o, t->offset_bytes, 8);
	uint64_t end = pl_sat_add(*data_bytes, t->bytes);
	*data_bytes = pl_round_up(end, PL_GGUF_ALIGNMENT_BYTES);
	if (*data_bytes == UINT64_MAX)
		return pl_fail(err, PL_ERR_RANGE, t->name, "tensor '%s' makes the file larger than 2^64 bytes",
		               t->name);
	return 0;
}

int pl_gguf_finish(struct pl_gguf_out *o, struct pl_tensor *tensors, uint32_t n_tensors, const uint8_t **ret_header,
                   uint64_t *ret_header_bytes, uint64_t *ret_data_bytes, struct pl_err *err)
{
	struct pl_gguf_out h = {.a = o->a};
	uint64_t data_bytes = 0;
	put(&h, "GGUF", 4);
	put_le(&h, 3, 4);
	put_le(&h, n_tensors, 8);
	put_le(&h, o->n_kv, 8);
	if (!o->failed)
		put(&h, o->buf, o->len);
	for (uint32_t i = 0; i < n_tensors; i++) {
		int r = put_tensor(&h, &tensors[i], &data_bytes, err);
		if (r < 0)
			return r;
	}
	while (h.len % PL_GGUF_ALIGNMENT_BYTES && !h.failed)
		put_le(&h, 0, 1);
	if (o->failed || h.failed)
		return pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory while writing the header of %u tensors",
		               n_tensors);
	*ret_header = h.buf;
	*ret_header_bytes = h.len;
	*ret_data_bytes = data_bytes;
	return 0;
}
