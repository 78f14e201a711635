#include <string.h>

#include <jansson.h>

#include "base/checked.h"
#include "model/build.h"

/* Configs in the wild hold Infinity and NaN, which JSON has not: written as null here, same length, outside strings. */
static char *plain_json(struct pl_arena *a, const char *json, size_t len)
{
	char *s = pl_arena_strndup(a, json, len);
	bool quoted = false;
	for (size_t i = 0; s && i < len; i++) {
		if (s[i] == '\\' && quoted)
			i++;
		else if (s[i] == '"')
			quoted = !quoted;
		else if (!quoted && len - i >= 8 && !memcmp(s + i, "Infinity", 8))
			memcpy(s + i, i && s[i - 1] == '-' ? "0       " : "null    ", 8);
		else if (!quoted && len - i >= 3 && !memcmp(s + i, "NaN", 3))
			memcpy(s + i, "0  ", 3);
	}
	return s;
}

static enum pl_dtype native_type(const json_t *config)
{
	const json_t *text = json_object_get(config, "text_config");
	const char *keys[] = {"torch_dtype", "dtype"};
	for (int i = 0; i < 4; i++) {
		const json_t *v = json_object_get(i < 2 ? config : text, keys[i % 2]);
		if (!json_is_string(v))
			continue;
		if (strstr(json_string_value(v), "float32"))
			return PL_DTYPE_F32;
		if (!strcmp(json_string_value(v), "float16") || !strcmp(json_string_value(v), "torch.float16"))
			return PL_DTYPE_F16;
		return PL_DTYPE_BF16;
	}
	return PL_DTYPE_BF16;
}

static int plain_bytes(struct pl_tensor *tensors, uint32_t n, enum pl_dtype type, const char *name, struct pl_err *err)
{
	for (uint32_t i = 0; i < n; i++) {
		tensors[i].type = type;
		if (!pl_mul_u64(tensors[i].n_elems, pl_dtype_info(type)->block_bytes, &tensors[i].bytes))
			return pl_fail(err, PL_ERR_RANGE, name, "tensor '%s' is larger than any machine", tensors[i].name);
	}
	return 0;
}

static int build(struct pl_arena *a, const char *id, const json_t *config, const char *quant,
                 const struct pl_model **ret_model, struct pl_err *err)
{
	struct pl_tensor_list list = {.a = a};
	struct pl_model *m = PL_NEW(a, struct pl_model);
	if (!m)
		return pl_fail(err, PL_ERR_NOMEM, id, "out of memory while building the model");
	m->name = pl_arena_strdup(a, id);
	m->format = PL_FORMAT_CONFIG;
	int rc = pl_layers_from_config(a, config, m, &list, err);
	enum pl_dtype type = native_type(config);
	if (!rc)
		rc = plain_bytes(list.items, list.n, type, id, err);
	if (rc)
		return rc;
	m->quant_name = pl_dtype_name(type);
	if (!quant)
		rc = pl_quant_from_config(a, config, m, list.items, list.n, err);
	if (!rc)
		rc = pl_model_finish(a, m, list.items, list.n, err);
	if (!rc)
		rc = pl_graph_build(a, m, err);
	if (rc)
		return rc;
	*ret_model = m;
	return quant ? pl_model_requantise(a, m, quant, ret_model, err) : 0;
}

int pl_model_from_config(struct pl_arena *a, const char *id, const char *json, size_t len, const char *quant,
                         const struct pl_model **ret_model, struct pl_err *err)
{
	enum { MAX_CONFIG = 16 << 20 };
	json_error_t fault;
	if (len > MAX_CONFIG)
		return pl_fail(err, PL_ERR_LIMIT, id, "the config has %zu bytes, the limit is %d", len, MAX_CONFIG);
	char *plain = plain_json(a, json, len);
	if (!plain)
		return pl_fail(err, PL_ERR_NOMEM, id, "out of memory while reading the config");
	json_t *config = json_loadb(plain, len, JSON_REJECT_DUPLICATES, &fault);
	if (!config)
		return pl_fail(err, PL_ERR_FORMAT, id, "the config is not JSON: line %d, column %d: %s", fault.line, fault.column, fault.text);
	int rc = json_is_object(config) ? build(a, id, config, quant, ret_model, err)
	                                : pl_fail(err, PL_ERR_FORMAT, id, "the config is not a JSON object");
	json_decref(config);
	return rc;
}
