/* GGUF v2 and v3 headers (format: ggml docs/gguf.md). Every field is checked against the bytes that are left before it is
 * believed; vocabulary arrays are walked for their bounds and never copied. */
#include <string.h>

#include "base/checked.h"
#include "base/nameset.h"
#include "model/build.h"

enum {
	MAX_KEY_BYTES = 65535,   /* docs/gguf.md */
	MAX_NAME_BYTES = 1024,   /* ggml itself allows 64 (GGML_MAX_NAME) */
	MAX_DEPTH = 4,           /* arrays in arrays */
	MIN_KV_BYTES = 8 + 4 + 1,
	MIN_TENSOR_BYTES = 8 + 4 + 4 + 8,
	DEFAULT_ALIGNMENT = 32
};

struct cursor {
	const struct pl_bytes *part;
	uint64_t at;
	struct pl_err *err;
};

static int past_end(const struct cursor *c, const char *what, uint64_t need)
{
	uint64_t total = c->part->total_len_bytes;
	if (need <= total && c->at <= total - need)
		return pl_fail(c->err, PL_ERR_MORE, c->part->name, "the header continues past byte %llu",
		               (unsigned long long)c->part->len_bytes);
	return pl_fail(c->err, PL_ERR_FORMAT, c->part->name, "%s at byte %llu needs %llu bytes, the file has %llu left", what,
	               (unsigned long long)c->at, (unsigned long long)need, (unsigned long long)pl_sat_sub(total, c->at));
}

/* The next n bytes; NULL with the fault recorded when they are not there. */
static const uint8_t *take(struct cursor *c, uint64_t n, const char *what, int *rc)
{
	if (n > c->part->len_bytes || c->at > c->part->len_bytes - n) {
		*rc = past_end(c, what, n);
		return NULL;
	}
	const uint8_t *p = c->part->data + c->at;
	c->at += n;
	return p;
}

static uint32_t le32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t le64(const uint8_t *p)
{
	return (uint64_t)le32(p) | (uint64_t)le32(p + 4) << 32;
}

static int take_u32(struct cursor *c, const char *what, uint32_t *ret)
{
	int rc = 0;
	const uint8_t *p = take(c, 4, what, &rc);
	if (p)
		*ret = le32(p);
	return rc;
}

static int take_u64(struct cursor *c, const char *what, uint64_t *ret)
{
	int rc = 0;
	const uint8_t *p = take(c, 8, what, &rc);
	if (p)
		*ret = le64(p);
	return rc;
}

static int take_string(struct cursor *c, const char *what, uint64_t max, const uint8_t **ret, uint64_t *ret_len)
{
	uint64_t len;
	int rc = take_u64(c, what, &len);
	if (rc)
		return rc;
	if (len > max)
		return pl_fail(c->err, PL_ERR_FORMAT, c->part->name, "%s at byte %llu is %llu bytes long, the limit is %llu", what,
		               (unsigned long long)(c->at - 8), (unsigned long long)len, (unsigned long long)max);
	*ret = take(c, len, what, &rc);
	*ret_len = len;
	return rc;
}

static unsigned scalar_bytes(enum pl_gguf_type t)
{
	static const uint8_t size[PL_GGUF_TYPE_COUNT] = {
	    [PL_GGUF_U8] = 1,  [PL_GGUF_I8] = 1,  [PL_GGUF_U16] = 2,  [PL_GGUF_I16] = 2, [PL_GGUF_U32] = 4, [PL_GGUF_I32] = 4,
	    [PL_GGUF_F32] = 4, [PL_GGUF_BOOL] = 1, [PL_GGUF_U64] = 8, [PL_GGUF_I64] = 8, [PL_GGUF_F64] = 8,
	};
	return (unsigned)t < PL_GGUF_TYPE_COUNT ? size[t] : 0;
}

/* Strings one after the other: only their lengths matter here, and there may be hundreds of thousands. */
static int skip_strings(struct cursor *c, const char *key, uint64_t n)
{
	const uint8_t *data = c->part->data;
	uint64_t at = c->at, len = c->part->len_bytes;
	for (uint64_t i = 0; i < n; i++) {
		if (len - at < 8 || le64(data + at) > len - at - 8) {
			uint64_t need = len - at < 8 ? 8 : pl_sat_add(8, le64(data + at));
			c->at = at;
			return past_end(c, key, need);
		}
		at += 8 + le64(data + at);
	}
	c->at = at;
	return 0;
}

static int skip_array(struct cursor *c, const char *key, int depth, enum pl_gguf_type *ret_elem, uint64_t *ret_n)
{
	uint32_t type;
	uint64_t n, bytes;
	int rc = take_u32(c, key, &type);
	if (!rc)
		rc = take_u64(c, key, &n);
	if (rc)
		return rc;
	if (type >= PL_GGUF_TYPE_COUNT)
		return pl_fail(c->err, PL_ERR_FORMAT, c->part->name, "array '%s' has element type %u, the last known is %d", key, type,
		               PL_GGUF_TYPE_COUNT - 1);
	*ret_elem = (enum pl_gguf_type)type;
	*ret_n = n;
	if (type == PL_GGUF_STRING)
		return skip_strings(c, key, n);
	if (type == PL_GGUF_ARRAY) {
		if (depth >= MAX_DEPTH)
			return pl_fail(c->err, PL_ERR_FORMAT, c->part->name, "array '%s' is nested more than %d deep", key, MAX_DEPTH);
		for (uint64_t i = 0; i < n && !rc; i++) {
			enum pl_gguf_type inner;
			uint64_t inner_n;
			rc = skip_array(c, key, depth + 1, &inner, &inner_n);
		}
		return rc;
	}
	if (!pl_mul_u64(n, scalar_bytes((enum pl_gguf_type)type), &bytes))
		return pl_fail(c->err, PL_ERR_FORMAT, c->part->name, "array '%s' has %llu elements, more than any file holds", key,
		               (unsigned long long)n);
	(void)take(c, bytes, key, &rc);
	return rc;
}

static int read_value(struct cursor *c, struct pl_gguf_kv *kv)
{
	uint32_t type;
	uint64_t start;
	int rc = take_u32(c, kv->key, &type);
	if (rc)
		return rc;
	if (type >= PL_GGUF_TYPE_COUNT)
		return pl_fail(c->err, PL_ERR_FORMAT, c->part->name, "key '%s' has type %u, the last known is %d", kv->key, type,
		               PL_GGUF_TYPE_COUNT - 1);
	kv->type = (enum pl_gguf_type)type;
	kv->n = 1;
	start = c->at;
	if (type == PL_GGUF_ARRAY) {
		rc = skip_array(c, kv->key, 0, &kv->elem_type, &kv->n);
		start += 12;
	} else if (type == PL_GGUF_STRING) {
		const uint8_t *unused;
		rc = take_string(c, kv->key, UINT64_MAX - 8, &unused, &kv->n);
		start += 8;
	} else {
		(void)take(c, scalar_bytes(kv->type), kv->key, &rc);
	}
	if (rc)
		return rc;
	kv->data = c->part->data + start;
	kv->data_len_bytes = c->at - start;
	return 0;
}

/* Reserves no more than the bytes left can hold, whatever the header claims. */
static int check_count(struct cursor *c, const char *what, uint64_t n, uint64_t min_bytes)
{
	uint64_t left = pl_sat_sub(c->part->total_len_bytes, c->at);
	if (n > left / min_bytes || n > UINT32_MAX)
		return pl_fail(c->err, PL_ERR_FORMAT, c->part->name, "the header counts %llu %s, the file has room for %llu",
		               (unsigned long long)n, what, (unsigned long long)(left / min_bytes));
	return 0;
}

static int read_kvs(struct pl_arena *a, struct cursor *c, uint64_t n, const struct pl_gguf_kv **ret)
{
	int rc = check_count(c, "keys", n, MIN_KV_BYTES);
	/* grows with what is really there, so that a prefix of a file never costs more than the prefix */
	uint64_t cap = n < 64 ? n : 64;
	struct pl_gguf_kv *kvs = PL_NEW_N(a, struct pl_gguf_kv, cap ? cap : 1);
	struct pl_nameset seen = {0};
	for (uint64_t i = 0; i < n && !rc; i++) {
		const uint8_t *key;
		uint64_t len;
		rc = take_string(c, "a key", MAX_KEY_BYTES, &key, &len);
		if (rc)
			break;
		if (i == cap) {
			kvs = pl_arena_grow(a, kvs, cap, cap * 2, sizeof *kvs);
			cap *= 2;
		}
		char *name = kvs ? pl_arena_strndup(a, (const char *)key, (size_t)len) : NULL;
		if (!name)
			return pl_fail(c->err, PL_ERR_NOMEM, c->part->name, "out of memory while reading the header");
		kvs[i].key = name;
		if (!len || strlen(name) != len)
			return pl_fail(c->err, PL_ERR_FORMAT, c->part->name, "key number %llu is empty or holds a zero byte",
			               (unsigned long long)i);
		if (!pl_nameset_add(a, &seen, name))
			return pl_arena_failed(a) ? pl_fail(c->err, PL_ERR_NOMEM, c->part->name, "out of memory while reading the header")
			                          : pl_fail(c->err, PL_ERR_FORMAT, c->part->name, "key '%s' stands twice", name);
		rc = read_value(c, &kvs[i]);
	}
	*ret = kvs;
	return rc;
}

static int check_dims(struct cursor *c, struct pl_tensor *t, uint32_t n_dims)
{
	uint64_t n = 1;
	int rc = 0;
	if (n_dims > PL_MAX_DIMS)
		return pl_fail(c->err, PL_ERR_FORMAT, c->part->name, "tensor '%s' has %u dimensions, the limit is %d", t->name, n_dims,
		               PL_MAX_DIMS);
	t->n_dims = n_dims;
	for (uint32_t d = 0; d < n_dims && !rc; d++) {
		rc = take_u64(c, t->name, &t->ne[d]);
		if (!rc && (t->ne[d] > INT64_MAX || !pl_mul_u64(n, t->ne[d], &n) || n > INT64_MAX))
			return pl_fail(c->err, PL_ERR_FORMAT, c->part->name, "dimension %u of tensor '%s' is %llu: more elements than 2^63", d,
			               t->name, (unsigned long long)t->ne[d]);
	}
	t->n_elems = n;
	return rc;
}

static int check_type(struct cursor *c, struct pl_tensor *t, uint32_t ggml_type)
{
	t->type = pl_dtype_from_ggml(ggml_type);
	if (t->type == PL_DTYPE_UNKNOWN)
		return pl_fail(c->err, PL_ERR_FORMAT, c->part->name, "tensor '%s' has type number %u, which is not a ggml type", t->name,
		               ggml_type);
	if (pl_dtype_bytes(t->type, t->ne[0], t->n_elems, &t->bytes))
		return pl_fail(c->err, PL_ERR_FORMAT, c->part->name,
		               "tensor '%s' has rows of %llu elements, not whole blocks of %u (%s)", t->name,
		               (unsigned long long)t->ne[0], pl_dtype_info(t->type)->block_elems, pl_dtype_name(t->type));
	return 0;
}

static int read_tensor(struct pl_arena *a, struct cursor *c, struct pl_tensor_list *list, struct pl_nameset *seen,
                       uint32_t file_index)
{
	const uint8_t *name;
	uint64_t len;
	uint32_t n_dims, type;
	int rc = take_string(c, "a tensor name", MAX_NAME_BYTES, &name, &len);
	if (rc)
		return rc;
	struct pl_tensor *t = pl_tensor_add(list);
	char *copy = t ? pl_arena_strndup(a, (const char *)name, (size_t)len) : NULL;
	if (!copy)
		return pl_fail(c->err, PL_ERR_NOMEM, c->part->name, "out of memory while reading the header");
	t->name = copy;
	t->file_index = file_index;
	if (!len || strlen(copy) != len)
		return pl_fail(c->err, PL_ERR_FORMAT, c->part->name, "tensor number %u has no name or a zero byte in it", list->n - 1);
	if (!pl_nameset_add(a, seen, copy))
		return pl_arena_failed(a) ? pl_fail(c->err, PL_ERR_NOMEM, c->part->name, "out of memory while reading the header")
		                          : pl_fail(c->err, PL_ERR_FORMAT, c->part->name, "tensor '%s' stands twice", copy);
	rc = take_u32(c, copy, &n_dims);
	if (!rc)
		rc = check_dims(c, t, n_dims);
	if (!rc)
		rc = take_u32(c, copy, &type);
	if (!rc)
		rc = check_type(c, t, type);
	if (!rc)
		rc = take_u64(c, copy, &t->offset_bytes);
	if (!rc) {
		pl_tensor_classify(copy, t);
		if (t->group == PL_GROUP_EXPERT && t->n_dims == 3 && t->ne[2] <= UINT32_MAX)
			t->n_stacked = (uint32_t)t->ne[2];
	}
	return rc;
}

/* Files as written keep tensors in order without gaps; anything else (overlap, past the end) is refused. The order is
 * checked as it stands: ggml itself demands exactly these offsets. */
static int check_offsets(struct cursor *c, const struct pl_tensor *t, uint32_t n, uint64_t alignment, uint64_t data_at)
{
	uint64_t want = 0, room = pl_sat_sub(c->part->total_len_bytes, data_at);
	for (uint32_t i = 0; i < n; i++) {
		uint64_t end;
		if (t[i].offset_bytes % alignment)
			return pl_fail(c->err, PL_ERR_FORMAT, c->part->name, "tensor '%s' starts at offset %llu, not a multiple of %llu",
			               t[i].name, (unsigned long long)t[i].offset_bytes, (unsigned long long)alignment);
		if (t[i].offset_bytes < want)
			return pl_fail(c->err, PL_ERR_FORMAT, c->part->name, "tensor '%s' at offset %llu overlaps the one before, which ends at %llu",
			               t[i].name, (unsigned long long)t[i].offset_bytes, (unsigned long long)want);
		if (!pl_add_u64(t[i].offset_bytes, t[i].bytes, &end) || end > room)
			return pl_fail(c->err, PL_ERR_FORMAT, c->part->name,
			               "tensor '%s' has %llu bytes at offset %llu, the data section has %llu", t[i].name,
			               (unsigned long long)t[i].bytes, (unsigned long long)t[i].offset_bytes, (unsigned long long)room);
		want = end;
	}
	return 0;
}

static int check_magic(struct cursor *c, uint32_t *ret_version)
{
	int rc = 0;
	const uint8_t *p = take(c, 4, "the magic number", &rc);
	if (!p)
		return rc;
	if (memcmp(p, "GGUF", 4))
		return pl_fail(c->err, PL_ERR_FORMAT, c->part->name, "not a GGUF file: it does not begin with 'GGUF'");
	rc = take_u32(c, "the version", ret_version);
	if (rc)
		return rc;
	if (!(*ret_version & 0xffff) && *ret_version)
		return pl_fail(c->err, PL_ERR_UNSUPPORTED, c->part->name, "a big-endian GGUF file: convert it to little-endian first");
	if (*ret_version == 1)
		return pl_fail(c->err, PL_ERR_UNSUPPORTED, c->part->name, "GGUF version 1 of August 2023: convert the model again");
	if (*ret_version < 2 || *ret_version > 3)
		return pl_fail(c->err, PL_ERR_UNSUPPORTED, c->part->name, "GGUF version %u, versions 2 and 3 are known", *ret_version);
	return 0;
}

static const struct pl_gguf_kv *find_in(const struct pl_gguf_kv *kvs, uint32_t n, const char *key)
{
	for (uint32_t i = 0; i < n; i++)
		if (!strcmp(kvs[i].key, key))
			return &kvs[i];
	return NULL;
}

static uint64_t number_at(enum pl_gguf_type t, const uint8_t *p, bool *ret_ok)
{
	*ret_ok = true;
	switch (t) {
	case PL_GGUF_U8:
	case PL_GGUF_BOOL:
		return p[0];
	case PL_GGUF_I8:
		*ret_ok = p[0] < 128;
		return p[0];
	case PL_GGUF_U16:
	case PL_GGUF_I16:
		*ret_ok = t == PL_GGUF_U16 || p[1] < 128;
		return (uint64_t)p[0] | (uint64_t)p[1] << 8;
	case PL_GGUF_U32:
	case PL_GGUF_I32:
		*ret_ok = t == PL_GGUF_U32 || p[3] < 128;
		return le32(p);
	case PL_GGUF_U64:
	case PL_GGUF_I64:
		*ret_ok = t == PL_GGUF_U64 || p[7] < 128;
		return le64(p);
	default:
		*ret_ok = false;
		return 0;
	}
}

static int read_alignment(struct cursor *c, const struct pl_gguf_kv *kvs, uint32_t n, uint32_t *ret)
{
	const struct pl_gguf_kv *kv = find_in(kvs, n, "general.alignment");
	bool ok = true;
	uint64_t v = kv && kv->type != PL_GGUF_ARRAY ? number_at(kv->type, kv->data, &ok) : DEFAULT_ALIGNMENT;
	if (!ok || !v || v > (1u << 30) || (v & (v - 1)))
		return pl_fail(c->err, PL_ERR_FORMAT, c->part->name, "key 'general.alignment' is %llu, not a power of two up to 2^30",
		               (unsigned long long)v);
	*ret = (uint32_t)v;
	return 0;
}

static int read_part(struct pl_arena *a, const struct pl_bytes *part, uint32_t index, struct pl_gguf *g,
                     struct pl_tensor_list *list, struct pl_nameset *seen, struct pl_err *err)
{
	struct cursor c = {part, 0, err};
	uint64_t n_tensors = 0, n_kvs = 0, data_at;
	const struct pl_gguf_kv *kvs = NULL;
	uint32_t version = 0, alignment = DEFAULT_ALIGNMENT, first = list->n;
	int rc = check_magic(&c, &version);
	if (!rc)
		rc = take_u64(&c, "the number of tensors", &n_tensors);
	if (!rc)
		rc = take_u64(&c, "the number of keys", &n_kvs);
	if (!rc)
		rc = read_kvs(a, &c, n_kvs, &kvs);
	if (!rc)
		rc = read_alignment(&c, kvs, (uint32_t)n_kvs, &alignment);
	if (!rc)
		rc = check_count(&c, "tensors", n_tensors, MIN_TENSOR_BYTES);
	for (uint64_t i = 0; i < n_tensors && !rc; i++)
		rc = read_tensor(a, &c, list, seen, index);
	if (rc)
		return rc;
	data_at = pl_round_up(c.at, alignment);
	if (!index) {
		g->version = version;
		g->alignment_bytes = alignment;
		g->header_bytes = data_at;
		g->kvs = kvs;
		g->n_kvs = (uint32_t)n_kvs;
	} else {
		const struct pl_gguf_kv *no = find_in(kvs, (uint32_t)n_kvs, "split.no");
		bool ok = true;
		if (no && (number_at(no->type, no->data, &ok) != index || !ok))
			return pl_fail(err, PL_ERR_FORMAT, part->name, "this is part %llu of the split model, part %u was expected",
			               (unsigned long long)number_at(no->type, no->data, &ok), index);
	}
	g->file_bytes = pl_sat_add(g->file_bytes, part->total_len_bytes);
	if (list->n == first) /* a file of keys alone: there is no list yet */
		return 0;
	return check_offsets(&c, list->items + first, list->n - first, alignment, data_at);
}

static int check_split(const struct pl_gguf *g, const struct pl_bytes *parts, uint32_t n_parts, struct pl_err *err)
{
	uint64_t n;
	if (pl_gguf_u64(g, "split.count", &n) && n > 1 && n != n_parts)
		return pl_fail(err, PL_ERR_FORMAT, parts[0].name, "the model is split into %llu files, %u are here",
		               (unsigned long long)n, n_parts);
	if (pl_gguf_u64(g, "split.tensors.count", &n) && n != g->n_tensors)
		return pl_fail(err, PL_ERR_FORMAT, parts[0].name, "the split model has %llu tensors, its files hold %u",
		               (unsigned long long)n, g->n_tensors);
	return 0;
}

int pl_gguf_parse(struct pl_arena *a, const struct pl_bytes *parts, uint32_t n_parts, struct pl_gguf *ret,
                  struct pl_err *err)
{
	struct pl_gguf g = {.n_files = n_parts};
	struct pl_tensor_list list = {.a = a};
	struct pl_nameset seen = {0};
	for (uint32_t i = 0; i < n_parts; i++) {
		int rc = read_part(a, &parts[i], i, &g, &list, &seen, err);
		if (rc)
			return rc;
	}
	g.tensors = list.items;
	g.n_tensors = list.n;
	int rc = check_split(&g, parts, n_parts, err);
	if (!rc && pl_arena_failed(a))
		rc = pl_fail(err, PL_ERR_NOMEM, parts[0].name, "out of memory while reading the header");
	if (!rc)
		*ret = g;
	return rc;
}

/* ---- values ----------------------------------------------------------------------------------------------------- */

const struct pl_gguf_kv *pl_gguf_find(const struct pl_gguf *g, const char *key)
{
	return find_in(g->kvs, g->n_kvs, key);
}

bool pl_gguf_u64(const struct pl_gguf *g, const char *key, uint64_t *ret)
{
	const struct pl_gguf_kv *kv = pl_gguf_find(g, key);
	bool ok = false;
	uint64_t v = kv && kv->type != PL_GGUF_ARRAY ? number_at(kv->type, kv->data, &ok) : 0;
	if (ok)
		*ret = v;
	return ok;
}

bool pl_gguf_f64(const struct pl_gguf *g, const char *key, double *ret)
{
	const struct pl_gguf_kv *kv = pl_gguf_find(g, key);
	uint64_t whole;
	if (kv && kv->type == PL_GGUF_F32) {
		uint32_t bits = le32(kv->data);
		float f;
		memcpy(&f, &bits, sizeof f);
		*ret = (double)f;
		return true;
	}
	if (kv && kv->type == PL_GGUF_F64) {
		uint64_t bits = le64(kv->data);
		memcpy(ret, &bits, sizeof *ret);
		return true;
	}
	if (!pl_gguf_u64(g, key, &whole))
		return false;
	*ret = (double)whole;
	return true;
}

bool pl_gguf_u64_at(const struct pl_gguf *g, const char *key, uint64_t i, uint64_t *ret)
{
	const struct pl_gguf_kv *kv = pl_gguf_find(g, key);
	bool ok = false;
	if (!kv || kv->type != PL_GGUF_ARRAY)
		return pl_gguf_u64(g, key, ret);
	if (i >= kv->n || !scalar_bytes(kv->elem_type))
		return false;
	uint64_t v = number_at(kv->elem_type, kv->data + i * scalar_bytes(kv->elem_type), &ok);
	if (ok)
		*ret = v;
	return ok;
}

const char *pl_gguf_str(struct pl_arena *a, const struct pl_gguf *g, const char *key)
{
	const struct pl_gguf_kv *kv = pl_gguf_find(g, key);
	if (!kv || kv->type != PL_GGUF_STRING)
		return NULL;
	return pl_arena_strndup(a, (const char *)kv->data, (size_t)kv->n);
}
