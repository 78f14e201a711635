/* A config.json alone → a model: layers and plain tensors, precision, graph, sums. */
#include <string.h>
#include <strings.h>

#include <jansson.h>

#include "model/build.h"

enum { MAX_CONFIG_BYTES = 64 << 20 };

static bool word_at(const char *s, size_t left, const char *word)
{
	size_t n = strlen(word);
	return left >= n && !memcmp(s, word, n);
}

/* Python writes Infinity, -Infinity and NaN, which JSON lacks: each becomes null, padded with spaces. NaN is too short
 * for that and becomes 0.0; nothing that decides a size may be either. */
static void replace_infinities(char *s, size_t len)
{
	static const struct {
		const char *word, *by;
	} words[] = {{"-Infinity", "null     "}, {"Infinity", "null    "}, {"NaN", "0.0"}};
	bool in_string = false;
	for (size_t i = 0; i < len; i++) {
		if (in_string && s[i] == '\\')
			i++;
		else if (s[i] == '"')
			in_string = !in_string;
		else if (!in_string && (s[i] == 'N' || s[i] == 'I' || s[i] == '-'))
			for (size_t w = 0; w < sizeof words / sizeof *words; w++)
				if (word_at(s + i, len - i, words[w].word))
					memcpy(s + i, words[w].by, strlen(words[w].by));
	}
}

static json_t *parse(struct pl_arena *a, const char *id, const char *json, size_t len, struct pl_err *err)
{
	json_error_t fault;
	if (len > MAX_CONFIG_BYTES) {
		(void)pl_fail(err, PL_ERR_LIMIT, id, "the config has %zu bytes, at most %d are read", len, MAX_CONFIG_BYTES);
		return NULL;
	}
	char *text = pl_arena_strndup(a, json, len);
	if (!text) {
		(void)pl_fail(err, PL_ERR_NOMEM, id, "out of memory while reading the config");
		return NULL;
	}
	replace_infinities(text, len);
	json_t *root = json_loadb(text, len, 0, &fault);
	if (!root)
		(void)pl_fail(err, PL_ERR_FORMAT, id, "no valid JSON at line %d, column %d: %s", fault.line, fault.column, fault.text);
	return root;
}

static int build(struct pl_arena *a, const json_t *root, struct pl_model *m, bool quant, struct pl_err *err)
{
	struct pl_tensor_list list = {.a = a};
	int rc = pl_layers_from_config(a, root, m, &list, err);
	if (!rc && !quant)
		rc = pl_quant_from_config(a, root, m, list.items, list.n, err);
	if (!rc)
		rc = pl_model_finish(a, m, list.items, list.n, err);
	if (!rc && m->arch_known)
		rc = pl_graph_build(a, m, err);
	return rc;
}

/* Configs that were rebuilt from published shapes lost their quantization_config; the repository's name still says how its
 * weights are stored. NULL when it says nothing. */
static const char *precision_in_name(const char *id)
{
	static const struct {
		const char *end, *scheme;
	} names[] = {{"-AWQ", "awq-int4"},       {"-GPTQ-Int4", "gptq-int4"}, {"-GPTQ-Int8", "gptq-int8"},
	             {"-bnb-4bit", "nf4"},       {"-FP8", "fp8"}};
	size_t len = strlen(id);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		size_t n = strlen(names[i].end);
		if (len > n && !strcasecmp(id + len - n, names[i].end))
			return names[i].scheme;
	}
	return NULL;
}

static int quantise_by_name(struct pl_arena *a, const struct pl_model *m, const char *scheme, const struct pl_model **ret_model,
                            struct pl_err *err)
{
	const struct pl_model *stored;
	struct pl_model *out = PL_NEW(a, struct pl_model);
	int rc = pl_model_requantise(a, m, scheme, &stored, err);
	if (rc || !out)
		return rc ? rc : pl_fail(err, PL_ERR_NOMEM, m->name, "out of memory while reading the config");
	*out = *stored;
	out->quant_stored = true;
	pl_note_add(a, &out->notes, PL_NOTE_INFO, "the config does not say how the weights are stored: %s by the repository's name", scheme);
	*ret_model = out;
	return 0;
}

int pl_model_from_config(struct pl_arena *a, const char *id, const char *json, size_t len, const char *quant,
                         const struct pl_model **ret_model, struct pl_err *err)
{
	struct pl_model *m = PL_NEW(a, struct pl_model);
	if (!m)
		return pl_fail(err, PL_ERR_NOMEM, id, "out of memory while reading the config");
	json_t *root = parse(a, id, json, len, err);
	if (!root)
		return err ? -(int)err->code : -PL_ERR_FORMAT;
	m->name = pl_arena_strdup(a, id);
	m->format = PL_FORMAT_CONFIG;
	int rc = build(a, root, m, quant != NULL, err);
	bool silent = !json_object_get(root, "quantization_config") && !json_object_get(root, "_hf_quant_config_json");
	json_decref(root);
	if (rc)
		return rc;
	if (quant)
		return pl_model_requantise(a, m, quant, ret_model, err);
	if (silent && !m->quant_stored && precision_in_name(id))
		return quantise_by_name(a, m, precision_in_name(id), ret_model, err);
	*ret_model = m;
	return 0;
}
