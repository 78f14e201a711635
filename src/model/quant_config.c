/* quantization_config of a Hugging Face config (and ModelOpt's hf_quant_config.json beside it): which module is stored how. */
#include <fnmatch.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "model/quant.h"

enum { MAX_MODULE = 256, MAX_PATTERN = 512 };

static const char *str(const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);
	return json_is_string(v) ? json_string_value(v) : "";
}

static uint32_t whole(const json_t *o, const char *key, uint32_t fallback)
{
	const json_t *v = json_object_get(o, key);
	return json_is_integer(v) && json_integer_value(v) > 0 && json_integer_value(v) <= 65536 ? (uint32_t)json_integer_value(v)
	                                                                                         : fallback;
}

static bool truth(const json_t *o, const char *key)
{
	return json_is_true(json_object_get(o, key));
}

/* ---- names of modules ------------------------------------------------------------------------------------------- */

/* The spellings a checkpoint may use for the module of a tensor; patterns are tried on each. */
struct spellings {
	char name[3][MAX_MODULE];
	int n;
};

static void spell(const struct pl_tensor *t, struct spellings *s)
{
	const char *hf = pl_role_info(t->role)->hf_name;
	s->n = 0;
	if (t->layer < 0) {
		(void)snprintf(s->name[s->n++], MAX_MODULE, "%s", hf);
		return;
	}
	if (t->role == PL_ROLE_ATTN_K_B || t->role == PL_ROLE_ATTN_V_B)
		hf = pl_role_info(PL_ROLE_ATTN_KV_B)->hf_name;
	if (t->group == PL_GROUP_EXPERT && !strncmp(hf, "mlp.experts.", 12)) {
		(void)snprintf(s->name[s->n++], MAX_MODULE, "model.layers.%d.mlp.experts.0.%s", t->layer, hf + 12);
		(void)snprintf(s->name[s->n++], MAX_MODULE, "model.layers.%d.block_sparse_moe.experts.0.%s", t->layer, hf + 12);
		(void)snprintf(s->name[s->n++], MAX_MODULE, "model.layers.%d.mixer.experts.0.%s", t->layer, hf + 12);
		return;
	}
	(void)snprintf(s->name[s->n++], MAX_MODULE, "model.layers.%d.%s", t->layer, hf);
	const char *dot = strchr(hf, '.');
	if (dot) /* Nemotron-H calls every mixer "mixer" */
		(void)snprintf(s->name[s->n++], MAX_MODULE, "backbone.layers.%d.mixer%s", t->layer, dot);
}

/* "0-31,40": is il among them? */
static bool in_ranges(const char *text, int32_t il)
{
	while (*text) {
		char *end;
		long first = strtol(text, &end, 10), last = first;
		if (end == text)
			return false;
		if (*end == '-')
			last = strtol(end + 1, &end, 10);
		if (il >= first && il <= last)
			return true;
		text = *end == ',' ? end + 1 : end;
		if (*end && *end != ',')
			return false;
	}
	return false;
}

static bool regex_matches(const char *pattern, const char *name)
{
	regex_t re;
	if (regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB))
		return false;
	bool hit = !regexec(&re, name, 0, NULL, 0);
	regfree(&re);
	return hit;
}

/* A plain entry names the module, one of its parents, or the end of its path ("lm_head", "mlp.gate"). */
static bool plain_matches(const char *pattern, const char *name)
{
	size_t n = strlen(pattern), len = strlen(name);
	if (n && !strncmp(pattern, "language_model.", 15))
		return plain_matches(pattern + 15, name);
	if (n > len)
		return false;
	if (!strncmp(name, pattern, n) && (!name[n] || name[n] == '.'))
		return true;
	for (const char *at = name; (at = strstr(at, pattern)); at++)
		if (at[-1 * (at != name)] == '.' && (!at[n] || at[n] == '.'))
			return true;
	return false;
}

static bool glob_matches(const char *pattern, const char *name)
{
	char whole_pattern[MAX_PATTERN + 4];
	if (!strncmp(pattern, "language_model.", 15))
		return glob_matches(pattern + 15, name);
	if (!fnmatch(pattern, name, 0))
		return true;
	/* a pattern of parents covers what is below them */
	(void)snprintf(whole_pattern, sizeof whole_pattern, "%s.*", pattern);
	return !fnmatch(whole_pattern, name, 0);
}

static bool pattern_matches(const char *pattern, const struct pl_tensor *t, const struct spellings *s)
{
	char bare[MAX_PATTERN];
	const char *at = strstr(pattern, " @layers ");
	if (strlen(pattern) >= sizeof bare)
		return false;
	(void)snprintf(bare, sizeof bare, "%.*s", at ? (int)(at - pattern) : (int)strlen(pattern), pattern);
	if (at && (t->layer < 0 || !in_ranges(at + 9, t->layer)))
		return false;
	for (int i = 0; i < s->n; i++) {
		bool hit = !strncmp(bare, "re:", 3) ? regex_matches(bare + 3, s->name[i])
		           : strchr(bare, '*')      ? glob_matches(bare, s->name[i])
		                                    : plain_matches(bare, s->name[i]);
		if (hit)
			return true;
	}
	return false;
}

static bool listed(const json_t *list, const struct pl_tensor *t, const struct spellings *s)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *v = json_array_get(list, i);
		if (json_is_string(v) && pattern_matches(json_string_value(v), t, s))
			return true;
	}
	return false;
}

static bool ignored(const json_t *q, const struct pl_tensor *t, const struct spellings *s)
{
	static const char *const keys[] = {"ignore",          "ignore__compacted",          "ignored_layers",
	                                   "ignored_layers__compacted", "modules_to_not_convert", "modules_to_not_convert__compacted",
	                                   "exclude_modules", "exclude_modules__compacted", "llm_int8_skip_modules"};
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
		if (listed(json_object_get(q, keys[i]), t, s))
			return true;
	return false;
}

/* ---- schemes ---------------------------------------------------------------------------------------------------- */

static bool algo_scheme(const char *algo, const json_t *q, struct pl_scheme *ret)
{
	static const struct {
		const char *algo, *scheme;
	} algos[] = {{"NVFP4", "nvfp4"}, {"W4A16_NVFP4", "nvfp4"}, {"FP8", "fp8"}, {"MXFP8", "mxfp8"}, {"MXFP4", "mxfp4"},
	             {"FP8_PB_WO", "fp8-block"}, {"W4A16_AWQ", "awq-int4"}, {"W4A8_AWQ", "awq-int4"}};
	(void)q;
	for (size_t i = 0; i < sizeof algos / sizeof *algos; i++)
		if (!strcmp(algo, algos[i].algo))
			return pl_quant_scheme_find(algos[i].scheme, ret);
	return false;
}

/* compressed-tensors: one group of "weights" {num_bits, type, strategy, group_size, block_structure}. */
static bool group_scheme(const json_t *group, const char *format, struct pl_scheme *ret)
{
	const json_t *w = json_object_get(group, "weights");
	uint32_t bits = whole(w, "num_bits", 0), size = whole(w, "group_size", 0);
	const char *strategy = str(w, "strategy"), *own = str(group, "format");
	bool is_float = !strcmp(str(w, "type"), "float");
	format = *own ? own : format;
	if (bits == 4 && is_float) {
		(void)pl_quant_scheme_find(strstr(format, "mxfp4") || size == 32 ? "mxfp4" : "nvfp4", ret);
		return true;
	}
	if (bits == 8 && is_float) {
		const char *name = !strcmp(strategy, "channel") ? "fp8-dynamic" : !strcmp(strategy, "block") ? "fp8-block"
		                   : strstr(format, "mxfp8") || size == 32                                   ? "mxfp8"
		                                                                                             : "fp8";
		return pl_quant_scheme_find(name, ret);
	}
	if (bits == 8 && !size)
		return pl_quant_scheme_find("w8a8-int8", ret);
	if (bits && bits <= 8) {
		(void)pl_quant_scheme_find("w4a16", ret);
		ret->bits = bits;
		ret->group = size ? size : UINT32_MAX;
		return true;
	}
	return false;
}

static bool method_scheme(const json_t *q, struct pl_scheme *ret)
{
	const char *method = str(q, "quant_method");
	if (!strcmp(method, "gptq") || !strcmp(method, "awq")) {
		(void)pl_quant_scheme_find(!strcmp(method, "gptq") ? "gptq-int4" : "awq-int4", ret);
		ret->bits = whole(q, "bits", 4);
		ret->group = whole(q, "group_size", json_integer_value(json_object_get(q, "group_size")) == -1 ? UINT32_MAX : 128);
		return true;
	}
	if (!strcmp(method, "bitsandbytes")) {
		bool four = truth(q, "load_in_4bit") || truth(q, "_load_in_4bit");
		(void)pl_quant_scheme_find(four ? "nf4" : "int8", ret);
		ret->double_quant = four && truth(q, "bnb_4bit_use_double_quant");
		return true;
	}
	if (!strcmp(method, "fp8") || !strcmp(method, "fbgemm_fp8")) {
		const json_t *block = json_object_get(q, "weight_block_size");
		(void)pl_quant_scheme_find(json_is_array(block) ? "fp8-block" : "fp8", ret);
		ret->static_input = !strcmp(str(q, "activation_scheme"), "static");
		return true;
	}
	if (!strcmp(method, "mxfp4"))
		return pl_quant_scheme_find("mxfp4", ret);
	if (!*method && whole(q, "bits", 0) && whole(q, "group_size", 0)) { /* MLX */
		(void)pl_quant_scheme_find("mlx-4bit", ret);
		ret->bits = whole(q, "bits", 4);
		ret->group = whole(q, "group_size", 64);
		return true;
	}
	return false;
}

/* MIXED_PRECISION: a scheme for each listed module. */
static bool module_scheme(const json_t *q, const struct pl_tensor *t, const struct spellings *s, struct pl_scheme *ret)
{
	const json_t *lists = json_object_get(q, "quantized_layers__compacted"), *layers = json_object_get(q, "quantized_layers"), *v;
	const char *name;
	for (size_t i = 0; i < json_array_size(lists); i++) {
		const json_t *one = json_array_get(lists, i);
		if (listed(json_object_get(one, "modules"), t, s))
			return algo_scheme(str(json_object_get(one, "scheme"), "quant_algo"), q, ret);
	}
	json_object_foreach((json_t *)(uintptr_t)layers, name, v)
		if (pattern_matches(name, t, s))
			return algo_scheme(str(v, "quant_algo"), q, ret);
	return false;
}

static bool targeted(const json_t *group, const struct pl_tensor *t, const struct spellings *s)
{
	const json_t *targets = json_object_get(group, "targets");
	for (size_t i = 0; i < json_array_size(targets); i++)
		if (!strcmp(json_string_value(json_array_get(targets, i)) ? json_string_value(json_array_get(targets, i)) : "", "Linear"))
			return true;
	return !targets || listed(targets, t, s);
}

static bool tensor_scheme(const json_t *q, const struct pl_tensor *t, const struct spellings *s, struct pl_scheme *ret)
{
	const char *algo = str(q, "quant_algo"), *key;
	const json_t *groups = json_object_get(q, "config_groups"), *group;
	if (!strcmp(algo, "MIXED_PRECISION"))
		return module_scheme(q, t, s, ret);
	if (*algo && algo_scheme(algo, q, ret))
		return true;
	json_object_foreach((json_t *)(uintptr_t)groups, key, group)
		if (targeted(group, t, s) && group_scheme(group, str(q, "format"), ret))
			return true;
	return method_scheme(q, ret);
}

static const char *scheme_name(struct pl_arena *a, const struct pl_scheme *s)
{
	switch (s->pack) {
	case PL_PACK_GPTQ:
		return s->group == UINT32_MAX ? pl_arena_printf(a, "gptq-int%u", s->bits) : pl_arena_printf(a, "gptq-int%u g%u", s->bits, s->group);
	case PL_PACK_AWQ:
		return pl_arena_printf(a, "awq-int%u g%u", s->bits, s->group);
	case PL_PACK_INT4_GROUP:
		return pl_arena_printf(a, "w%ua16 g%u", s->bits, s->group);
	case PL_PACK_BNB_INT8:
		return "bnb-int8";
	case PL_PACK_BNB_4BIT:
		return "bnb-4bit";
	case PL_PACK_FP8_TENSOR:
		return "fp8";
	case PL_PACK_FP8_CHANNEL:
		return "fp8-dynamic";
	case PL_PACK_FP8_BLOCK:
		return "fp8-block";
	case PL_PACK_INT8_CHANNEL:
		return "w8a8-int8";
	case PL_PACK_NVFP4:
		return "nvfp4";
	case PL_PACK_MXFP4:
		return "mxfp4";
	case PL_PACK_MXFP8:
		return "mxfp8";
	case PL_PACK_MLX:
		return pl_arena_printf(a, "mlx-%ubit", s->bits);
	default:
		return "bf16";
	}
}

/* The block that says it: config.json's own, else ModelOpt's file of the same repository. */
static const json_t *find_block(const json_t *config)
{
	const json_t *q = json_object_get(config, "quantization_config");
	if (!json_is_object(q))
		q = json_object_get(json_object_get(config, "text_config"), "quantization_config");
	if (!json_is_object(q) || !json_object_size(q))
		q = json_object_get(json_object_get(config, "_hf_quant_config_json"), "quantization");
	if (!json_is_object(q))
		q = json_object_get(config, "quantization"); /* MLX */
	return json_is_object(q) && json_object_size(q) ? q : NULL;
}

int pl_quant_from_config(struct pl_arena *a, const json_t *config, struct pl_model *m, struct pl_tensor *tensors,
                         uint32_t n_tensors, struct pl_err *err)
{
	const json_t *q = find_block(config);
	struct pl_scheme scheme = {0}, last = {0};
	uint64_t most = 0, packed[PL_PACK_MLX + 1] = {0};
	if (!q)
		return 0;
	bool experts_only = !strcmp(str(q, "quant_method"), "mxfp4");
	bool fp4_experts = !strcmp(str(config, "expert_dtype"), "fp4"); /* DeepSeek V4: routed experts in MXFP4, the rest in FP8 blocks */
	for (uint32_t i = 0; i < n_tensors; i++) {
		struct pl_tensor *t = &tensors[i];
		struct spellings s;
		spell(t, &s);
		bool mlx_too = t->role == PL_ROLE_TOKEN_EMBD || t->role == PL_ROLE_OUTPUT;
		if ((!pl_quant_is_linear(t) && !mlx_too) || ignored(q, t, &s) || !tensor_scheme(q, t, &s, &scheme))
			continue;
		if (fp4_experts && scheme.pack == PL_PACK_FP8_BLOCK && pl_role_info(t->role)->group == PL_GROUP_EXPERT)
			scheme = (struct pl_scheme){PL_PACK_MXFP4, 4, 32, false, false};
		if ((mlx_too && scheme.pack != PL_PACK_MLX) || (experts_only && t->group != PL_GROUP_EXPERT))
			continue;
		if (!pl_quant_pack(&scheme, t))
			return pl_fail(err, PL_ERR_RANGE, m->name, "tensor '%s' is larger than any machine", t->name);
		packed[scheme.pack] += t->n_elems;
		if (packed[scheme.pack] > most) {
			most = packed[scheme.pack];
			last = scheme;
		}
	}
	m->quant_stored = most > 0;
	if (most)
		m->quant_name = scheme_name(a, &last);
	else
		pl_note_add(a, &m->notes, PL_NOTE_WARNING,
		            "the quantisation '%s' of this config is not modelled: sizes are those of the plain model",
		            *str(q, "quant_method") ? str(q, "quant_method") : str(q, "quant_algo"));
	return 0;
}
