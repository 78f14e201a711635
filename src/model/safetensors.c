/* safetensors headers: 8 bytes of length, then JSON {name: {dtype, shape, data_offsets}} (format: huggingface/safetensors README).
 * Files may be sharded; what a scheme stores in pieces becomes one tensor again. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/checked.h"
#include "base/nameset.h"
#include "model/build.h"

enum { MAX_HEADER = 100 << 20, MAX_NAME = 512 };

struct reader {
	struct pl_arena *a;
	struct pl_tensor_list list;
	struct pl_nameset modules, names;
	const struct pl_bytes *part;
	uint32_t file_index;
	struct pl_err *err;
};

static int bad(struct reader *r, const char *tensor, const char *what)
{
	return pl_fail(r->err, PL_ERR_FORMAT, r->part->name, "tensor '%.120s': %s", tensor, what);
}

static enum pl_dtype dtype_of(const char *name)
{
	return pl_dtype_from_name(name); /* safetensors and we use the same words: F16, BF16, F8_E4M3, I32 … */
}

struct piece {
	const char *name;
	enum pl_dtype type;
	uint64_t shape[PL_MAX_DIMS], n_elems, bytes;
	uint32_t n_dims;
};

static int read_shape(struct reader *r, const json_t *shape, struct piece *p)
{
	p->n_elems = 1;
	if (!json_is_array(shape))
		return bad(r, p->name, "'shape' is missing");
	p->n_dims = (uint32_t)json_array_size(shape);
	for (uint32_t i = 0; i < p->n_dims; i++) {
		const json_t *v = json_array_get(shape, i);
		if (!json_is_integer(v) || json_integer_value(v) < 0)
			return bad(r, p->name, "a dimension is not a whole number of 0 or more");
		uint64_t d = (uint64_t)json_integer_value(v);
		if (!pl_mul_u64(p->n_elems, d, &p->n_elems))
			return bad(r, p->name, "its shape has more than 2^64 elements");
		if (i < PL_MAX_DIMS)
			p->shape[i] = d;
		else
			p->shape[PL_MAX_DIMS - 1] = pl_sat_mul(p->shape[PL_MAX_DIMS - 1], d);
	}
	return 0;
}

static int read_piece(struct reader *r, const char *name, const json_t *o, uint64_t data_bytes, struct piece *p)
{
	const json_t *dtype = json_object_get(o, "dtype"), *offsets = json_object_get(o, "data_offsets");
	uint64_t want;
	*p = (struct piece){.name = name};
	if (!json_is_string(dtype) || (p->type = dtype_of(json_string_value(dtype))) == PL_DTYPE_UNKNOWN)
		return bad(r, name, "its 'dtype' is not known");
	int rc = read_shape(r, json_object_get(o, "shape"), p);
	if (rc)
		return rc;
	const json_t *b = json_array_get(offsets, 0), *e = json_array_get(offsets, 1);
	if (json_array_size(offsets) != 2 || !json_is_integer(b) || !json_is_integer(e) || json_integer_value(b) < 0 ||
	    json_integer_value(e) < json_integer_value(b))
		return bad(r, name, "'data_offsets' is not a pair of rising numbers");
	if ((uint64_t)json_integer_value(e) > data_bytes)
		return bad(r, name, "its data ends past the end of the file");
	p->bytes = (uint64_t)(json_integer_value(e) - json_integer_value(b));
	if (pl_dtype_bytes(p->type, p->n_elems, p->n_elems, &want) || want != p->bytes)
		return bad(r, name, "its data has another size than its shape");
	return 0;
}

/* "…experts.17.gate_proj" → "…experts.*.gate_proj", so that all experts of a matrix meet. */
static const char *module_of(struct reader *r, const char *name, bool *ret_bias)
{
	size_t len = pl_tensor_module(name, ret_bias);
	char text[MAX_NAME], *out = text;
	if (len >= sizeof text - 8)
		len = sizeof text - 8;
	for (size_t i = 0; i < len; i++) {
		*out++ = name[i];
		if (i < 8 || strncmp(name + i - 8, ".experts.", 9) != 0)
			continue;
		if (isdigit((unsigned char)name[i + 1]))
			*out++ = '*';
		while (i + 1 < len && isdigit((unsigned char)name[i + 1]))
			i++;
	}
	if (*ret_bias)
		*out++ = '+';
	return pl_arena_strndup(r->a, text, (size_t)(out - text));
}

static bool is_main(const char *name)
{
	static const char *const side[] = {"qzeros",       "scales",        "g_idx",        "weight_scale", "weight_scale_inv", "weight_scale_2",
	                                   "input_scale",  "weight_shape",  "zero_point",   "global_scale", "SCB",              "absmax",
	                                   "quant_map",    "nested_absmax", "nested_quant_map", "_scales",   "biases",           "weight_format"};
	size_t n = strlen(name);
	for (size_t i = 0; i < sizeof side / sizeof *side; i++) {
		size_t k = strlen(side[i]);
		if (n >= k && !strcmp(name + n - k, side[i]))
			return false;
	}
	return !strstr(name, "quant_state");
}

static enum pl_dtype packed_type(const char *name, enum pl_dtype t)
{
	if (t == PL_DTYPE_I32 && (strstr(name, "qweight") || strstr(name, "weight_packed")))
		return PL_DTYPE_INT4;
	if (t == PL_DTYPE_U8)
		return strstr(name, "_blocks") ? PL_DTYPE_F4 : PL_DTYPE_NF4;
	return t;
}

/* Two four-bit numbers a byte; other types count as they are. */
static uint64_t logical_elems(enum pl_dtype type, const struct piece *p)
{
	return type == PL_DTYPE_INT4 || type == PL_DTYPE_NF4 || type == PL_DTYPE_F4 ? pl_sat_mul(p->bytes, 2) : p->n_elems;
}

static int add_piece(struct reader *r, const struct piece *p)
{
	bool bias = false, is_new = false;
	const char *module = module_of(r, p->name, &bias);
	struct pl_named *slot = module ? pl_nameset_entry(r->a, &r->modules, module, r->list.n, &is_new) : NULL;
	struct pl_tensor *t = slot ? is_new ? pl_tensor_add(&r->list) : &r->list.items[slot->value] : NULL;
	if (!t)
		return pl_fail(r->err, PL_ERR_NOMEM, r->part->name, "out of memory while reading the header");
	if (is_new) {
		t->n_stacked = 0;
		t->file_index = r->file_index;
		pl_tensor_classify(p->name, t);
		t->name = pl_arena_strdup(r->a, p->name);
	}
	if (is_main(p->name)) {
		t->type = packed_type(p->name, p->type);
		t->n_elems = pl_sat_add(t->n_elems, logical_elems(t->type, p));
		if (!t->n_stacked)
			for (uint32_t i = 0; i < p->n_dims && i < PL_MAX_DIMS; i++) /* GGUF order: the contiguous dimension first */
				t->ne[i] = p->shape[(p->n_dims < PL_MAX_DIMS ? p->n_dims : PL_MAX_DIMS) - 1 - i];
		t->n_dims = p->n_dims < PL_MAX_DIMS ? p->n_dims : PL_MAX_DIMS;
		t->n_stacked++;
	}
	if (!pl_add_u64(t->bytes, p->bytes, &t->bytes))
		return bad(r, p->name, "the model is larger than 2^64 bytes");
	return 0;
}

static int by_begin(const void *x, const void *y)
{
	const uint64_t *a = x, *b = y;
	return a[0] != b[0] ? (a[0] > b[0]) - (a[0] < b[0]) : (a[1] > b[1]) - (a[1] < b[1]);
}

static int check_overlap(struct reader *r, uint64_t (*spans)[2], size_t n)
{
	qsort(spans, n, sizeof *spans, by_begin);
	for (size_t i = 1; i < n; i++)
		if (spans[i][0] < spans[i - 1][1])
			return pl_fail(r->err, PL_ERR_FORMAT, r->part->name, "two tensors overlap at offset %llu of the data",
			               (unsigned long long)spans[i][0]);
	return 0;
}

static int read_header(struct reader *r, json_t *header, uint64_t data_bytes)
{
	const char *name;
	json_t *o;
	size_t n = 0;
	uint64_t(*spans)[2] = pl_arena_calloc(r->a, json_object_size(header) + 1, sizeof *spans);
	if (!spans)
		return pl_fail(r->err, PL_ERR_NOMEM, r->part->name, "out of memory while reading the header");
	json_object_foreach(header, name, o)
	{
		struct piece p;
		bool is_new = false;
		if (!strcmp(name, "__metadata__"))
			continue;
		int rc = read_piece(r, name, o, data_bytes, &p);
		const char *copy = pl_arena_strdup(r->a, name);
		if (!rc && copy && pl_nameset_entry(r->a, &r->names, copy, 0, &is_new) && !is_new)
			return bad(r, name, "it stands in two files");
		p.name = copy;
		if (!rc)
			rc = copy ? add_piece(r, &p) : -PL_ERR_NOMEM;
		if (rc)
			return rc;
		spans[n][0] = (uint64_t)json_integer_value(json_array_get(json_object_get(o, "data_offsets"), 0));
		spans[n][1] = spans[n][0] + p.bytes;
		n += p.bytes != 0;
	}
	return check_overlap(r, spans, n);
}

static int read_part(struct reader *r)
{
	uint64_t len = 0;
	json_error_t fault;
	if (r->part->total_len_bytes < 8 || r->part->len_bytes < 8)
		return pl_fail(r->err, PL_ERR_FORMAT, r->part->name, "the file is too short for a safetensors header");
	for (int i = 7; i >= 0; i--)
		len = len << 8 | r->part->data[i];
	if (len > MAX_HEADER || len > r->part->total_len_bytes - 8)
		return pl_fail(r->err, PL_ERR_FORMAT, r->part->name, "the header claims %llu bytes, the file has %llu and the limit is %d",
		               (unsigned long long)len, (unsigned long long)(r->part->total_len_bytes - 8), MAX_HEADER);
	if (len > r->part->len_bytes - 8)
		return pl_fail(r->err, PL_ERR_MORE, r->part->name, "the header continues past the bytes read");
	json_t *header = json_loadb((const char *)r->part->data + 8, (size_t)len, JSON_REJECT_DUPLICATES, &fault);
	if (!header)
		return pl_fail(r->err, PL_ERR_FORMAT, r->part->name, "the header is not JSON: %s", fault.text);
	int rc = json_is_object(header) ? read_header(r, header, r->part->total_len_bytes - 8 - len)
	                                : pl_fail(r->err, PL_ERR_FORMAT, r->part->name, "the header is not a JSON object");
	json_decref(header);
	return rc;
}

/* ---- with its config -------------------------------------------------------------------------------------------- */

/* What the config says a tensor must be: its logical size, where a packed file cannot tell. */
static void take_logical(struct pl_tensor *t, uint32_t n, const struct pl_tensor_list *built)
{
	for (uint32_t i = 0; i < n; i++) {
		if (t[i].role == PL_ROLE_OTHER)
			continue;
		for (uint32_t k = 0; k < built->n; k++) {
			const struct pl_tensor *b = &built->items[k];
			if (b->role != t[i].role || b->layer != t[i].layer || b->is_bias != t[i].is_bias)
				continue;
			memcpy(t[i].ne, b->ne, sizeof t[i].ne);
			t[i].n_dims = b->n_dims;
			t[i].n_elems = b->n_elems;
			t[i].n_stacked = b->n_stacked;
			t[i].group = b->group;
			break;
		}
	}
}

static int by_layer(const void *x, const void *y)
{
	const struct pl_tensor *a = x, *b = y;
	if (a->layer != b->layer)
		return (a->layer > b->layer) - (a->layer < b->layer);
	return strcmp(a->name, b->name);
}

static int with_config(struct reader *r, struct pl_model *m, const char *json, size_t len)
{
	struct pl_tensor_list built = {.a = r->a};
	json_error_t fault;
	json_t *config = json_loadb(json, len, 0, &fault);
	if (!json_is_object(config)) {
		json_decref(config);
		return pl_fail(r->err, PL_ERR_FORMAT, m->name, "config.json is not a JSON object: %s", fault.text);
	}
	struct pl_err ignored;
	int rc = pl_layers_from_config(r->a, config, m, &built, &ignored);
	if (rc) /* an architecture nobody knows: the layers' shapes stay unknown, the weights are exact all the same */
		rc = pl_layers_from_config(r->a, config, m, NULL, r->err);
	else
		rc = pl_quant_from_config(r->a, config, m, built.items, built.n, r->err);
	if (!rc)
		take_logical(r->list.items, r->list.n, &built);
	json_decref(config);
	return rc;
}

static const char *main_type(const struct pl_tensor *t, uint32_t n)
{
	uint64_t bytes[PL_DTYPE_COUNT] = {0};
	unsigned most = 0;
	for (uint32_t i = 0; i < n; i++)
		if ((bytes[t[i].type] += t[i].bytes) > bytes[most])
			most = t[i].type;
	return pl_dtype_name((enum pl_dtype)most);
}

int pl_model_from_safetensors(struct pl_arena *a, const char *id, const struct pl_bytes *parts, uint32_t n_parts,
                              const char *json, size_t len, const struct pl_model **ret_model, struct pl_err *err)
{
	struct reader r = {.a = a, .list = {.a = a}, .err = err};
	struct pl_model *m = PL_NEW(a, struct pl_model);
	int rc = 0;
	if (!m)
		return pl_fail(err, PL_ERR_NOMEM, id, "out of memory");
	m->name = pl_arena_strdup(a, id);
	m->format = PL_FORMAT_SAFETENSORS;
	m->n_files = n_parts;
	for (uint32_t i = 0; i < n_parts && !rc; i++) {
		r.part = &parts[i];
		r.file_index = i;
		m->file_bytes = pl_sat_add(m->file_bytes, parts[i].total_len_bytes);
		rc = read_part(&r);
	}
	if (rc)
		return rc;
	for (uint32_t i = 0; i < r.list.n; i++)
		r.list.items[i].n_stacked = r.list.items[i].n_stacked ? r.list.items[i].n_stacked : 1;
	if (r.list.n)
		qsort(r.list.items, r.list.n, sizeof *r.list.items, by_layer); /* placement wants layers together */
	if (json) {
		rc = with_config(&r, m, json, len);
	} else {
		m->arch = "unknown";
		pl_note_add(a, &m->notes, PL_NOTE_WARNING,
		            "there is no config.json beside the weights: their size is exact, cache and compute buffers are not counted");
	}
	if (!rc && !m->quant_name)
		m->quant_name = main_type(r.list.items, r.list.n);
	if (!rc)
		rc = pl_model_finish(a, m, r.list.items, r.list.n, err);
	if (!rc)
		rc = pl_graph_build(a, m, err);
	if (!rc)
		*ret_model = m;
	return rc;
}

/* ---- the index of shards ---------------------------------------------------------------------------------------- */

static bool leaves_folder(const char *file)
{
	return !*file || *file == '/' || strstr(file, "..") || strchr(file, '\\') || strlen(file) > 255;
}

static int by_text(const void *x, const void *y)
{
	return strcmp(*(char *const *)x, *(char *const *)y);
}

static int index_files(struct pl_arena *a, const char *name, const char *folder, json_t *map, char **ret_paths, uint32_t max,
                       uint32_t *ret_n, struct pl_err *err)
{
	struct pl_nameset seen = {0};
	const char *tensor;
	json_t *v;
	uint32_t n = 0;
	json_object_foreach(map, tensor, v)
	{
		if (!json_is_string(v) || leaves_folder(json_string_value(v)))
			return pl_fail(err, PL_ERR_FORMAT, name, "tensor '%.120s' is said to be in '%.80s', which is not a file of this folder",
			               tensor, json_is_string(v) ? json_string_value(v) : "?");
		char *path = pl_arena_printf(a, "%s/%s", folder, json_string_value(v));
		if (!path)
			return pl_fail(err, PL_ERR_NOMEM, name, "out of memory");
		if (!pl_nameset_add(a, &seen, path))
			continue;
		if (n == max)
			return pl_fail(err, PL_ERR_LIMIT, name, "the index names more than %u files", max);
		ret_paths[n++] = path;
	}
	if (!n)
		return pl_fail(err, PL_ERR_FORMAT, name, "the index names no file");
	qsort(ret_paths, n, sizeof *ret_paths, by_text);
	*ret_n = n;
	return 0;
}

int pl_safetensors_index(struct pl_arena *a, const char *name, const char *folder, const char *json, size_t len,
                         char **ret_paths, uint32_t max, uint32_t *ret_n, struct pl_err *err)
{
	json_error_t fault;
	json_t *index = json_loadb(json, len, 0, &fault);
	json_t *map = json_object_get(index, "weight_map");
	int rc = json_is_object(map) ? index_files(a, name, folder, map, ret_paths, max, ret_n, err)
	                             : pl_fail(err, PL_ERR_FORMAT, name, "the index has no 'weight_map' of tensors to files");
	json_decref(index);
	return rc;
}
