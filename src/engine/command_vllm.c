/* Commands of vLLM 0.24.0: vllm serve, and the module it was before (vllm/engine/arg_utils.py, vllm/entrypoints/openai/cli_args.py). */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "engine/command_serving.h"

enum action {
	NOTHING, MODEL, MAX_MODEL_LEN, QUANT, DTYPE, EAGER, HF_OVERRIDES, TP, PP, DP, DP_LOCAL, EP, DCP, PCP, DEVICES, BLOCK, UTIL, KV_BYTES,
	KV_DTYPE, BLOCKS, PREFIX, KV_OFFLOAD, CPU_OFFLOAD, LM_ONLY, LIMIT_MM, LORA, MAX_LORAS, LORA_RANK, BATCHED, SEQS, CAPTURE, MAX_CAPTURE,
	SPEC, SPEC_METHOD, SPEC_MODEL, SPEC_TOKENS, COMPILATION, OPT_LEVEL, OPT_ZERO, CONFIG, KV_TRANSFER, NNODES, CHUNKED, MM_CACHE,
	SWAP, FULL_CUDA_GRAPH, NOT_MODELLED
};

static const struct pl_flag flags[] = {
#define X(action, kind, names, negatives, env, programs) {action, PL_FLAG_##kind, names, negatives, env, programs},
#include "engine/vllm_flags.def"
#undef X
};

/* 32768, 32k (1000), 32K (1024), 25.6k: human_readable_int. */
static int read_human(struct pl_reader *r, const char *value, uint64_t *ret)
{
	static const char small[] = "kmgt", large[] = "KMGT";
	char *end;
	double x = strtod(value, &end);
	uint64_t mult = 1;
	if (end == value || !(x >= 0) || x > 1e15)
		return pl_refuse(r, "'%.40s' is not a whole number: the program stops here", value);
	if (*end && strchr(small, *end)) {
		for (const char *c = small; c <= strchr(small, *end); c++)
			mult *= 1000;
		end++;
	} else if (*end && strchr(large, *end)) {
		for (const char *c = large; c <= strchr(large, *end); c++)
			mult *= 1024;
		end++;
	}
	if (*end || (x != (double)(uint64_t)x && mult % 1000))
		return pl_refuse(r, "'%.40s' is not a whole number: the program stops here", value);
	*ret = (uint64_t)(x * (double)mult);
	return 0;
}

static int read_human_u32(struct pl_reader *r, const char *value, uint32_t *ret)
{
	uint64_t n;
	int rc = read_human(r, value, &n);
	if (!rc && (!n || n > 1u << 30))
		return pl_refuse(r, "%s is outside 1 to %u", value, 1u << 30);
	if (!rc)
		*ret = (uint32_t)n;
	return rc;
}

static int read_cache_type(struct pl_reader *r, const char *value)
{
	static const struct {
		const char *name;
		enum pl_dtype type;
	} types[] = {{"auto", PL_DTYPE_UNKNOWN},     {"float16", PL_DTYPE_F16},     {"bfloat16", PL_DTYPE_BF16}, {"fp8", PL_DTYPE_F8_E4M3},
	             {"fp8_e4m3", PL_DTYPE_F8_E4M3}, {"fp8_e5m2", PL_DTYPE_F8_E5M2}, {"fp8_inc", PL_DTYPE_F8_E4M3},
	             {"fp8_ds_mla", PL_DTYPE_F8_E4M3}};
	static const char others[] = "turboquant_k8v4 turboquant_4bit_nc turboquant_k3v4_nc turboquant_3bit_nc int8_per_token_head "
	                             "fp8_per_token_head nvfp4";
	struct pl_params *p = &r->cmd->params;
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		if (!strcmp(value, types[i].name)) {
			p->type_k = p->type_v = types[i].type;
			return 0;
		}
	if (pl_flag_in(others, value, strlen(value)))
		return pl_refuse(r, "the cache type '%.40s' is not modelled; auto, float16, bfloat16 and fp8 are", value);
	return pl_refuse(r, "there is no cache type '%.40s': the program stops here", value);
}

static const char *kept(struct pl_reader *r, const json_t *text)
{
	return json_is_string(text) ? pl_arena_strdup(r->a, json_string_value(text)) : NULL;
}

/* ---- speculative decoding -------------------------------------------------------------------------------------------- */

static int spec_method(struct pl_reader *r, const char *method)
{
	struct pl_draft *d = &r->cmd->params.draft;
	size_t len = strlen(method);
	if (!strcmp(method, "mtp") || (len > 4 && !strcmp(method + len - 4, "_mtp")))
		d->mtp = true;
	else if (pl_flag_in("medusa mlp_speculator suffix custom_class extract_hidden_states dflash", method, len))
		pl_remark(r, PL_NOTE_WARNING, "the memory that the speculative method '%.40s' takes is not counted", method);
	else if (!pl_flag_in("ngram ngram_gpu draft_model eagle eagle3", method, len))
		return pl_refuse(r, "there is no speculative method '%.40s': the program stops here", method);
	return 0;
}

static int spec_config(struct pl_reader *r, const char *value)
{
	int rc;
	json_t *o = pl_serving_object(r, value, &rc);
	struct pl_draft *d = &r->cmd->params.draft;
	if (!o)
		return rc;
	const char *method = kept(r, json_object_get(o, "method")), *model = kept(r, json_object_get(o, "model"));
	const json_t *n = json_object_get(o, "num_speculative_tokens"), *len = json_object_get(o, "max_model_len");
	if (method)
		rc = spec_method(r, method);
	if (!rc && n && (!json_is_integer(n) || json_integer_value(n) < 1 || json_integer_value(n) > 1024))
		rc = pl_refuse(r, "num_speculative_tokens is not a number of 1 to 1024");
	if (!rc && json_is_integer(n))
		d->n_max = (uint32_t)json_integer_value(n);
	if (!rc && json_is_integer(len) && json_integer_value(len) > 0)
		d->n_ctx_tokens = (uint64_t)json_integer_value(len);
	if (!rc && model && !d->mtp && !(method && !strncmp(method, "ngram", 5)))
		r->cmd->draft_ref = model;
	json_decref(o);
	return rc;
}

/* ---- compilation and graphs ------------------------------------------------------------------------------------------ */

static void capture_sizes(struct pl_reader *r, const json_t *list)
{
	uint64_t most = 0;
	size_t i;
	json_t *v;
	json_array_foreach((json_t *)list, i, v)
		if (json_is_integer(v) && json_integer_value(v) > 0)
			most = pl_max_u64(most, (uint64_t)json_integer_value(v));
	if (most)
		r->cmd->params.max_cudagraph_batch = (uint32_t)pl_min_u64(most, UINT32_MAX);
	else if (json_is_array(list))
		r->cmd->params.enforce_eager = true;
}

static int compilation(struct pl_reader *r, const char *value)
{
	struct pl_params *p = &r->cmd->params;
	int rc;
	if (*value >= '0' && *value <= '9') { /* a bare level */
		p->enforce_eager |= *value == '0';
		return 0;
	}
	json_t *o = pl_serving_object(r, value, &rc);
	if (!o)
		return rc;
	const char *mode = json_string_value(json_object_get(o, "cudagraph_mode"));
	const json_t *most = json_object_get(o, "max_cudagraph_capture_size");
	capture_sizes(r, json_object_get(o, "cudagraph_capture_sizes"));
	if (json_is_integer(most) && json_integer_value(most) > 0)
		p->max_cudagraph_batch = (uint32_t)pl_min_u64((uint64_t)json_integer_value(most), UINT32_MAX);
	if (mode && !strcmp(mode, "NONE"))
		p->enforce_eager = true;
	json_decref(o);
	return 0;
}

/* {"image": 2} or {"image": {"count": 2, …}}: the most items of one kind. */
static int limit_mm(struct pl_reader *r, const char *value)
{
	int rc;
	const char *key;
	json_t *o = pl_serving_object(r, value, &rc), *v;
	json_int_t most = 0;
	if (!o)
		return rc;
	json_object_foreach(o, key, v)
	{
		const json_t *n = json_is_object(v) ? json_object_get(v, "count") : v;
		if (json_is_integer(n) && json_integer_value(n) > most)
			most = json_integer_value(n);
	}
	r->cmd->params.mm_items_per_prompt = most > 65536 ? 65536 : (uint32_t)most;
	if (!most) /* nothing may be sent: the towers are not even loaded */
		r->cmd->params.language_model_only = true;
	json_decref(o);
	return 0;
}

/* ---- what flags do, by topic ----------------------------------------------------------------------------------------- */

static bool set_parallel(struct pl_reader *r, enum action action, const char *value, bool no, int *rc)
{
	struct pl_params *p = &r->cmd->params;
	switch ((int)action) {
	case TP: *rc = pl_read_u32(r, value, 1, 1024, &p->tensor_parallel); break;
	case PP: *rc = pl_read_u32(r, value, 1, 1024, &p->pipeline_parallel); break;
	case DP: *rc = pl_read_u32(r, value, 1, 1024, &p->data_parallel); break;
	case DCP: *rc = pl_read_u32(r, value, 1, 1024, &p->decode_context_parallel); break;
	case PCP: *rc = pl_read_u32(r, value, 1, 1024, &p->prefill_context_parallel); break;
	case DP_LOCAL: *rc = pl_read_int(r, value, 1, 1024, &r->own.serve.dp_local); break;
	case NNODES: *rc = pl_read_int(r, value, 1, 1024, &r->own.serve.nodes); break;
	case EP: p->expert_parallel = !no; break;
	case DEVICES: pl_pick_devices(r, r->flag, value, &r->cmd->devices); break;
	default: return false;
	}
	return true;
}

static bool set_cache(struct pl_reader *r, enum action action, const char *value, bool no, int *rc)
{
	struct pl_params *p = &r->cmd->params;
	uint64_t n;
	switch ((int)action) {
	case UTIL: *rc = pl_serving_share(r, value, &p->gpu_memory_utilization_frac); break;
	case KV_BYTES: *rc = read_human(r, value, &p->kv_cache_memory_bytes); break;
	case KV_DTYPE: *rc = read_cache_type(r, value); break;
	case BLOCK: *rc = pl_read_u32(r, value, 1, 1 << 20, &p->block_size); break;
	case BLOCKS: *rc = pl_read_u32(r, value, 1, UINT32_MAX, &p->num_gpu_blocks_override); break;
	case PREFIX: p->prefix_caching_off = no; break;
	case KV_OFFLOAD: *rc = pl_serving_gib(r, value, &p->kv_offload_bytes); break;
	case CPU_OFFLOAD: *rc = pl_serving_gib(r, value, &p->cpu_offload_bytes); break;
	case SWAP:
		*rc = pl_serving_gib(r, value, &n);
		break;
	case MM_CACHE: *rc = pl_serving_gib(r, value, &p->mm_cache_bytes); break;
	case MAX_MODEL_LEN:
		if (!strcmp(value, "auto") || !strcmp(value, "-1")) {
			pl_remark(r, PL_NOTE_INFO, "--max-model-len %s: the longest that fits; the plan's limits say how long that is", value);
			break;
		}
		*rc = read_human(r, value, &p->n_ctx_tokens);
		if (!*rc && !p->n_ctx_tokens)
			*rc = pl_refuse(r, "a length of 0 tokens: the program stops here");
		r->cmd->ctx_stated = true;
		break;
	case BATCHED: *rc = read_human_u32(r, value, &p->max_num_batched_tokens); break;
	case SEQS: *rc = pl_read_u32(r, value, 1, 65536, &p->max_num_seqs); break;
	case CHUNKED: r->own.serve.chunked_off = no; break;
	default: return false;
	}
	return true;
}

static bool set_graphs(struct pl_reader *r, enum action action, const char *value, bool no, int *rc)
{
	struct pl_params *p = &r->cmd->params;
	switch ((int)action) {
	case EAGER: p->enforce_eager = !no; break;
	case COMPILATION: *rc = compilation(r, value); break;
	case OPT_LEVEL: p->enforce_eager |= *value == '0'; break;
	case OPT_ZERO: p->enforce_eager = true; break;
	case FULL_CUDA_GRAPH: break;
	case CAPTURE: *rc = pl_serving_most(r, value, &p->max_cudagraph_batch); break;
	case MAX_CAPTURE: *rc = pl_read_u32(r, value, 0, 65536, &p->max_cudagraph_batch); break;
	case SPEC: *rc = spec_config(r, value); break;
	case SPEC_METHOD: *rc = spec_method(r, value); break;
	case SPEC_MODEL: r->cmd->draft_ref = value; break;
	case SPEC_TOKENS: *rc = pl_read_u32(r, value, 1, 1024, &p->draft.n_max); break;
	default: return false;
	}
	return true;
}

static bool set_model(struct pl_reader *r, enum action action, const char *value, bool no, int *rc)
{
	struct pl_params *p = &r->cmd->params;
	switch ((int)action) {
	case MODEL: r->own.serve.model_flag = value; break;
	case QUANT: r->cmd->quant = pl_serving_quant(r, value); break;
	case DTYPE: *rc = pl_serving_dtype(r, value, &p->dtype); break;
	case HF_OVERRIDES: r->cmd->hf_overrides = value; break;
	case LM_ONLY: p->language_model_only = !no; break;
	case LIMIT_MM: *rc = limit_mm(r, value); break;
	case LORA: r->own.serve.lora = !no; break;
	case MAX_LORAS: *rc = pl_read_u32(r, value, 1, 65536, &p->max_loras); break;
	case LORA_RANK: *rc = pl_read_u32(r, value, 1, 65536, &p->max_lora_rank); break;
	case KV_TRANSFER:
		pl_remark(r, PL_NOTE_WARNING, "%s: buffers of the connector are not counted", r->flag);
		break;
	case CONFIG: break; /* read before the words */
	default: return false;
	}
	return true;
}

static int apply(struct pl_reader *r, const struct pl_flag *f, const char *value, const char *value2, bool negated)
{
	enum action action = (enum action)f->action;
	int rc = 0;
	(void)value2;
	if (!value)
		value = "";
	if (!set_parallel(r, action, value, negated, &rc) && !set_cache(r, action, value, negated, &rc) &&
	    !set_graphs(r, action, value, negated, &rc) && !set_model(r, action, value, negated, &rc))
		pl_serving_left_out(r, value);
	return rc;
}

/* Variables that change what is allocated (vllm/envs.py); every other VLLM_… is passed over. */
static bool variable(struct pl_reader *r, const char *name, const char *value, int *rc)
{
	static const char heavy[] = "VLLM_CPU_KVCACHE_SPACE VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS VLLM_FUSED_MOE_CHUNK_SIZE "
	                            "VLLM_FLASHINFER_WORKSPACE_BUFFER_SIZE VLLM_MLA_DISABLE VLLM_MM_INPUT_CACHE_GIB VLLM_USE_V1";
	(void)rc;
	if (pl_flag_in(heavy, name, strlen(name)))
		pl_serving_left_out(r, value);
	return !strncmp(name, "VLLM_", 5);
}

static int begin(struct pl_reader *r)
{
	struct pl_params *p = &r->cmd->params;
	p->tensor_parallel = p->pipeline_parallel = p->data_parallel = 1; /* what is not asked for is not done */
	r->own.serve.nodes = 1;
	return pl_read_config_file(r, "--config");
}

static int finish(struct pl_reader *r)
{
	struct pl_command *c = r->cmd;
	struct pl_params *p = &c->params;
	c->model_ref = r->own.serve.model_word ? r->own.serve.model_word : r->own.serve.model_flag;
	if (!c->model_ref)
		c->model_ref = r->stray;
	if (r->own.serve.lora) {
		p->max_loras = p->max_loras ? p->max_loras : 1; /* vllm/config/lora.py */
		p->max_lora_rank = p->max_lora_rank ? p->max_lora_rank : 16;
	} else {
		p->max_loras = p->max_lora_rank = 0;
	}
	if (r->own.serve.chunked_off)
		pl_remark(r, PL_NOTE_WARNING, "without chunked prefill a step takes a whole prompt: --max-num-batched-tokens must say how long one is");
	return 0;
}

#define STYLE (PL_STYLE_EQUALS | PL_STYLE_UNDERSCORES | PL_STYLE_PREFIXES | PL_STYLE_DOTS)
#define ROW(names, sub, modules) \
	{names, sub, modules, "vllm", "0.24.0", flags, sizeof flags / sizeof *flags, 1, STYLE, begin, apply, pl_serving_word, variable, finish}

const struct pl_program pl_programs_vllm[] = {
    ROW("vllm", "serve", "vllm.entrypoints.openai.api_server vllm.entrypoints.api_server"),
    {0},
};
