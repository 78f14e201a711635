/* Commands of trtllm-serve 1.2: the words (tensorrt_llm/commands/serve.py), then the file that overrides them. */
#include <string.h>

#include "base/checked.h"
#include "engine/command_serving.h"

enum action {
	NOTHING, BACKEND, BEAMS, SEQS, TOKENS, CTX, TP, PP, CP, EP, UTIL, CONFIG, CHUNKED, KV_CONFIG, GRAPH_CONFIG, SPEC, ATTN_DP, LORA_CONFIG,
	KV_DTYPE, NOT_MODELLED
};

static const struct pl_flag flags[] = {
#define X(action, kind, names, negatives, env, programs) {action, PL_FLAG_##kind, names, negatives, env, programs},
#include "engine/trtllm_flags.def"
#undef X
};

static int cache_type(struct pl_reader *r, const char *value)
{
	static const struct {
		const char *name;
		enum pl_dtype type;
	} types[] = {{"auto", PL_DTYPE_UNKNOWN}, {"fp8", PL_DTYPE_F8_E4M3}, {"nvfp4", PL_DTYPE_NVFP4}, {"float16", PL_DTYPE_F16},
	             {"bfloat16", PL_DTYPE_BF16}};
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		if (!strcmp(value, types[i].name)) {
			r->cmd->params.type_k = r->cmd->params.type_v = types[i].type;
			return 0;
		}
	return pl_refuse(r, "the cache type '%.40s' is not one of auto, fp8 and nvfp4", value);
}

static uint32_t whole(const json_t *o, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(o, key));
	return n > 0 ? (uint32_t)pl_min_u64((uint64_t)n, UINT32_MAX) : 0;
}

/* Windows by layer, a pattern that repeats. */
static void windows(struct pl_reader *r, const json_t *list)
{
	struct pl_params *p = &r->cmd->params;
	uint32_t n = (uint32_t)pl_min_u64(json_array_size(list), 1024), *w = n ? PL_NEW_N(r->a, uint32_t, n) : NULL;
	for (uint32_t i = 0; w && i < n; i++) {
		json_int_t x = json_integer_value(json_array_get(list, i));
		w[i] = x > 0 ? (uint32_t)pl_min_u64((uint64_t)x, UINT32_MAX) : UINT32_MAX;
	}
	p->max_attention_window = w;
	p->n_max_attention_window = w ? n : 0;
}

static int kv_config(struct pl_reader *r, const char *value)
{
	struct pl_params *p = &r->cmd->params;
	int rc;
	json_t *o = pl_serving_object(r, value, &rc);
	if (!o)
		return rc;
	const json_t *share = json_object_get(o, "free_gpu_memory_fraction"), *tokens = json_object_get(o, "max_tokens"),
	             *host = json_object_get(o, "host_cache_size");
	const char *type = json_string_value(json_object_get(o, "dtype"));
	if (json_is_number(share)) {
		double x = json_number_value(share);
		if (x > 0 && x <= 1)
			p->gpu_memory_utilization_frac = x;
		else
			rc = pl_refuse(r, "free_gpu_memory_fraction %g is not a share above 0 and up to 1", x);
	}
	if (json_integer_value(tokens) > 0)
		p->max_total_tokens = (uint64_t)json_integer_value(tokens);
	windows(r, json_object_get(o, "max_attention_window"));
	if (json_integer_value(host) > 0)
		p->kv_offload_bytes = (uint64_t)json_integer_value(host);
	p->block_size = whole(o, "tokens_per_block") ? whole(o, "tokens_per_block") : p->block_size;
	p->prefix_caching_off = json_is_false(json_object_get(o, "enable_block_reuse"));
	if (!rc && type)
		rc = cache_type(r, type);
	json_decref(o);
	return rc;
}

static int graph_config(struct pl_reader *r, const char *value)
{
	struct pl_params *p = &r->cmd->params;
	int rc;
	size_t i;
	json_t *v;
	if (!strcmp(value, "null") || !*value) {
		p->enforce_eager = true;
		return 0;
	}
	json_t *o = pl_serving_object(r, value, &rc);
	if (!o)
		return rc;
	p->max_cudagraph_batch = whole(o, "max_batch_size");
	json_array_foreach(json_object_get(o, "batch_sizes"), i, v)
		if (json_integer_value(v) > p->max_cudagraph_batch)
			p->max_cudagraph_batch = (uint32_t)pl_min_u64((uint64_t)json_integer_value(v), UINT32_MAX);
	json_decref(o);
	return 0;
}

static int speculative(struct pl_reader *r, const char *value)
{
	struct pl_draft *d = &r->cmd->params.draft;
	int rc;
	json_t *o = pl_serving_object(r, value, &rc);
	if (!o)
		return rc;
	const char *type = json_string_value(json_object_get(o, "decoding_type"));
	const json_t *model = json_object_get(o, "speculative_model_dir");
	d->n_max = whole(o, "num_nextn_predict_layers");
	d->n_max = d->n_max ? d->n_max : whole(o, "max_draft_len");
	d->mtp = type && !strcmp(type, "MTP");
	if (json_is_string(model) && !d->mtp)
		r->cmd->draft_ref = pl_arena_strdup(r->a, json_string_value(model));
	if (type && !strncmp(type, "Eagle", 5))
		d->shares = PL_DRAFT_SHARES_EMBED;
	json_decref(o);
	return 0;
}

static int lora_config(struct pl_reader *r, const char *value)
{
	struct pl_params *p = &r->cmd->params;
	int rc;
	json_t *o = pl_serving_object(r, value, &rc);
	if (!o)
		return rc;
	p->max_loras = whole(o, "max_loras") ? whole(o, "max_loras") : 4;
	p->max_lora_rank = whole(o, "max_lora_rank") ? whole(o, "max_lora_rank") : 64;
	json_decref(o);
	return 0;
}

static int apply(struct pl_reader *r, const struct pl_flag *f, const char *value, const char *value2, bool negated)
{
	struct pl_params *p = &r->cmd->params;
	uint32_t n = 0;
	int rc = 0;
	(void)value2;
	(void)negated;
	value = value ? value : "";
	switch ((int)f->action) {
	case BACKEND:
		if (strcmp(value, "pytorch") != 0)
			pl_remark(r, PL_NOTE_WARNING, "--backend %s: the plan is for the pytorch backend", value);
		return 0;
	case BEAMS: return pl_read_u32(r, value, 1, 1024, &p->max_beam_width);
	case SEQS: return pl_read_u32(r, value, 1, 1 << 20, &p->max_num_seqs);
	case TOKENS: return pl_read_u32(r, value, 1, 1 << 24, &p->max_num_batched_tokens);
	case CTX:
		rc = pl_read_u32(r, value, 1, 1 << 28, &n);
		p->n_ctx_tokens = n;
		r->cmd->ctx_stated = true;
		return rc;
	case TP: return pl_read_u32(r, value, 1, 1024, &p->tensor_parallel);
	case PP: return pl_read_u32(r, value, 1, 1024, &p->pipeline_parallel);
	case CP: return pl_read_u32(r, value, 1, 1024, &p->prefill_context_parallel);
	case EP:
		rc = pl_read_u32(r, value, 1, 1024, &n);
		p->expert_parallel = n > 1;
		return rc;
	case UTIL: return pl_serving_share(r, value, &p->gpu_memory_utilization_frac);
	case KV_CONFIG: return kv_config(r, value);
	case GRAPH_CONFIG: return graph_config(r, value);
	case SPEC: return speculative(r, value);
	case LORA_CONFIG: return lora_config(r, value);
	case KV_DTYPE: return cache_type(r, value);
	case ATTN_DP: p->dp_attention = true; return 0;
	case CHUNKED:
	case CONFIG: return 0;
	default: pl_serving_left_out(r, value); return 0;
	}
}

static int begin(struct pl_reader *r)
{
	struct pl_params *p = &r->cmd->params;
	p->tensor_parallel = p->pipeline_parallel = p->data_parallel = 1;
	return 0;
}

static int finish(struct pl_reader *r)
{
	r->cmd->model_ref = r->own.serve.model_word;
	if (!r->cmd->model_ref)
		r->cmd->model_ref = r->stray;
	return pl_read_config_file(r, "--config --extra-llm-api-options --extra_llm_api_options"); /* it overrides the words */
}

#define ROW(sub)                                                                                                                  \
	{"trtllm-serve", sub, "tensorrt_llm.commands.serve", "tensorrt-llm", "1.2", flags, sizeof flags / sizeof *flags, 1,            \
	 PL_STYLE_EQUALS | PL_STYLE_UNDERSCORES, begin, apply, pl_serving_word, NULL, finish}

const struct pl_program pl_programs_trtllm[] = {
    ROW("serve"),
    ROW(NULL),
    {0},
};
