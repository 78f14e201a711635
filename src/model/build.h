/* How a model is put together: reader → layers → tensors → precision → graph → sums. One owner a step; each takes the
 * half-built model and fills its part. */
#ifndef PLIMSOLL_MODEL_BUILD_H
#define PLIMSOLL_MODEL_BUILD_H

#include <plimsoll/model.h>

struct json_t;

/* Grows while a builder appends; frozen into struct pl_model by pl_model_finish. */
struct pl_tensor_list {
	struct pl_arena *a;
	struct pl_tensor *items;
	uint32_t n, cap;
};
/* Appends a zeroed tensor (dims 1, stacked 1, layer -1); NULL when the arena is exhausted. */
struct pl_tensor *pl_tensor_add(struct pl_tensor_list *list);

/* Length of a tensor's module path: its name without what storage schemes append (".weight", ".qweight", ".bias" …).
 * *ret_bias becomes true for biases and is left alone otherwise. */
size_t pl_tensor_module(const char *name, bool *ret_bias);

/* ---- GGUF header (model/gguf.c) ---- */

enum pl_gguf_type { /* value types of the format */
	PL_GGUF_U8 = 0, PL_GGUF_I8, PL_GGUF_U16, PL_GGUF_I16, PL_GGUF_U32, PL_GGUF_I32, PL_GGUF_F32, PL_GGUF_BOOL,
	PL_GGUF_STRING, PL_GGUF_ARRAY, PL_GGUF_U64, PL_GGUF_I64, PL_GGUF_F64, PL_GGUF_TYPE_COUNT
};
struct pl_gguf_kv {
	const char *key;           /* in the arena, NUL-terminated */
	enum pl_gguf_type type;    /* ARRAY: see elem_type and n */
	enum pl_gguf_type elem_type;
	uint64_t n;                /* elements of an array, 1 otherwise; bytes of a string */
	const uint8_t *data;       /* lent: points into the file; strings of arrays are not copied */
	uint64_t data_len_bytes;
};
struct pl_gguf {
	uint32_t version;
	uint32_t alignment_bytes;
	uint64_t header_bytes;     /* of the first part, up to its data section */
	const struct pl_gguf_kv *kvs;
	uint32_t n_kvs;            /* of the first part */
	struct pl_tensor *tensors; /* name, dims, type, bytes, offset, file_index of all parts; classified */
	uint32_t n_tensors;
	uint64_t file_bytes;
	uint32_t n_files;
};
int pl_gguf_parse(struct pl_arena *a, const struct pl_bytes *parts, uint32_t n_parts, struct pl_gguf *ret, struct pl_err *err)
    PL_MUST_CHECK;
const struct pl_gguf_kv *pl_gguf_find(const struct pl_gguf *g, const char *key);
/* Scalars of any integer or bool type; false when absent or not a number. */
bool pl_gguf_u64(const struct pl_gguf *g, const char *key, uint64_t *ret);
bool pl_gguf_f64(const struct pl_gguf *g, const char *key, double *ret);
/* Element i of a numeric array; a scalar counts for every i. */
bool pl_gguf_u64_at(const struct pl_gguf *g, const char *key, uint64_t i, uint64_t *ret);
/* A string value copied into the arena; NULL when absent. */
const char *pl_gguf_str(struct pl_arena *a, const struct pl_gguf *g, const char *key);

/* ---- layers ---- */

/* From GGUF metadata: arch, layers, n_embd, n_vocab, flags (model/gguf_layers.c). An architecture nobody knows leaves
 * arch_known false and adds a note. */
int pl_layers_from_gguf(struct pl_arena *a, const struct pl_gguf *g, struct pl_model *m, struct pl_err *err) PL_MUST_CHECK;
/* From a config.json (model/hf_layers.c and model/families/): the same fields, plus the tensors of the plain model in
 * its native precision (GGUF-style names and dims; roles, groups, layers set; towers as whole tensors). Only the layers
 * when tensors is NULL. */
int pl_layers_from_config(struct pl_arena *a, const struct json_t *config, struct pl_model *m,
                          struct pl_tensor_list *tensors, struct pl_err *err) PL_MUST_CHECK;

/* ---- precision (model/quant_*.c) ---- */

/* Applies quantization_config (and _hf_quant_config_json) of a config to the plain tensors: types, bytes, quant_name. */
int pl_quant_from_config(struct pl_arena *a, const struct json_t *config, struct pl_model *m, struct pl_tensor *tensors,
                         uint32_t n_tensors, struct pl_err *err) PL_MUST_CHECK;

/* ---- graph and sums ---- */

/* The ops of one step from layers and tensors (model/graph.c). Needs arch_known; leaves the graph empty otherwise. */
int pl_graph_build(struct pl_arena *a, struct pl_model *m, struct pl_err *err) PL_MUST_CHECK;
/* Freezes the tensors into m and computes n_params, n_params_active, n_params_mtp, n_params_vision, weight_bytes
 * (model/finish.c). Checked sums. */
int pl_model_finish(struct pl_arena *a, struct pl_model *m, const struct pl_tensor *tensors, uint32_t n_tensors,
                    struct pl_err *err) PL_MUST_CHECK;

#endif
