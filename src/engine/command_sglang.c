/* Commands of SGLang 0.5.14: python -m sglang.launch_server and sglang serve (python/sglang/srt/server_args.py). */
#include <string.h>
#include <strings.h>

#include "engine/command_serving.h"

enum action {
	NOTHING, MODEL, CTX, QUANT, DTYPE, KV_DTYPE, UTIL, SEQS, TOTAL, CHUNK, PREFILL, PAGE, TP, PP, DP, EP, DP_ATTN, EAGER, GRAPH_MAX,
	GRAPH_BS, GRAPH_BACKEND, RADIX, CPU_OFFLOAD, LORA, LORA_RANK, LORAS, SPEC, SPEC_MODEL, SPEC_TOKENS, SPEC_STEPS, MAMBA_SIZE,
	MAMBA_RATIO, SWA_RATIO, HICACHE, LM_ONLY, BASE_GPU, NNODES, NO_HYBRID_SWA, CONFIG, HF_OVERRIDES, NOT_MODELLED
};

static const struct pl_flag flags[] = {
#define X(action, kind, names, negatives, env, programs) {action, PL_FLAG_##kind, names, negatives, env, programs},
#include "engine/sglang_flags.def"
#undef X
};

static int cache_type(struct pl_reader *r, const char *value)
{
	static const struct {
		const char *name;
		enum pl_dtype type;
	} types[] = {{"auto", PL_DTYPE_UNKNOWN},     {"fp8_e5m2", PL_DTYPE_F8_E5M2}, {"fp8_e4m3", PL_DTYPE_F8_E4M3},
	             {"bf16", PL_DTYPE_BF16},        {"bfloat16", PL_DTYPE_BF16},    {"fp4_e2m1", PL_DTYPE_MXFP4}};
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		if (!strcmp(value, types[i].name)) {
			r->cmd->params.type_k = r->cmd->params.type_v = types[i].type;
			return 0;
		}
	return pl_refuse(r, "there is no cache type '%.40s': the program stops here", value);
}

static int speculative(struct pl_reader *r, const char *value)
{
	struct pl_draft *d = &r->cmd->params.draft;
	if (!strcasecmp(value, "NEXTN"))
		d->mtp = true;
	else if (!strcasecmp(value, "EAGLE"))
		d->shares = PL_DRAFT_SHARES_BOTH;
	else if (!strcasecmp(value, "EAGLE3"))
		d->shares = PL_DRAFT_SHARES_EMBED;
	else if (!strcasecmp(value, "DFLASH"))
		pl_serving_left_out(r, value);
	else if (strcasecmp(value, "STANDALONE") != 0 && strcasecmp(value, "NGRAM") != 0)
		return pl_refuse(r, "there is no speculative algorithm '%.40s': the program stops here", value);
	return 0;
}

static int chunk(struct pl_reader *r, const char *value)
{
	int64_t n;
	int rc = pl_read_int(r, value, -1, 1 << 24, &n);
	if (!rc && n <= 0)
		r->own.serve.chunked_off = true;
	if (!rc && n > 0)
		r->cmd->params.max_num_batched_tokens = (uint32_t)n;
	return rc;
}

static bool set_parallel(struct pl_reader *r, enum action action, const char *value, int *rc)
{
	struct pl_params *p = &r->cmd->params;
	uint32_t n = 0;
	switch ((int)action) {
	case TP: *rc = pl_read_u32(r, value, 1, 1024, &p->tensor_parallel); break;
	case PP: *rc = pl_read_u32(r, value, 1, 1024, &p->pipeline_parallel); break;
	case DP: *rc = pl_read_u32(r, value, 1, 1024, &p->data_parallel); break;
	case EP:
		*rc = pl_read_u32(r, value, 1, 1024, &n);
		p->expert_parallel = n > 1;
		break;
	case DP_ATTN: p->dp_attention = true; break;
	case NNODES: *rc = pl_read_int(r, value, 1, 1024, &r->own.serve.nodes); break;
	case BASE_GPU:
		*rc = pl_read_u32(r, value, 0, PL_MAX_DEVICES - 1, &n);
		for (uint32_t i = n; !*rc && i < PL_MAX_DEVICES; i++)
			r->cmd->visible.index[r->cmd->visible.n++] = i;
		if (!*rc && n)
			r->cmd->visible.by = pl_arena_printf(r->a, "--base-gpu-id %u", n);
		break;
	default: return false;
	}
	return true;
}

static bool set_pool(struct pl_reader *r, enum action action, const char *value, int *rc)
{
	struct pl_params *p = &r->cmd->params;
	int64_t n = 0;
	switch ((int)action) {
	case CTX:
		*rc = pl_read_int(r, value, 1, 1 << 28, &n);
		p->n_ctx_tokens = (uint64_t)n;
		r->cmd->ctx_stated = true;
		break;
	case UTIL: *rc = pl_serving_share(r, value, &p->gpu_memory_utilization_frac); break;
	case KV_DTYPE: *rc = cache_type(r, value); break;
	case SEQS: *rc = pl_read_u32(r, value, 1, 1 << 20, &p->max_num_seqs); break;
	case TOTAL:
		*rc = pl_read_int(r, value, 1, INT64_C(1) << 40, &n);
		p->max_total_tokens = (uint64_t)n;
		break;
	case CHUNK: *rc = chunk(r, value); break;
	case PREFILL: *rc = pl_read_u32(r, value, 1, 1 << 24, &p->max_prefill_tokens); break;
	case PAGE: *rc = pl_read_u32(r, value, 1, 1 << 16, &p->block_size); break;
	case RADIX: p->prefix_caching_off = true; break;
	case CPU_OFFLOAD: *rc = pl_serving_gib(r, value, &p->cpu_offload_bytes); break;
	case HICACHE: /* gigabytes of 1e9: --hicache-size */
		*rc = pl_read_int(r, value, 0, 1 << 20, &n);
		p->kv_offload_bytes = (uint64_t)n * 1000000000u;
		break;
	case MAMBA_SIZE: *rc = pl_read_u32(r, value, 1, 1 << 20, &p->max_mamba_cache_size); break;
	case MAMBA_RATIO: *rc = pl_read_real(r, value, 0, 1e6, &p->mamba_full_memory_ratio); break;
	case SWA_RATIO: *rc = pl_read_real(r, value, 0, 1e6, &p->swa_full_tokens_ratio); break;
	case NO_HYBRID_SWA: p->hybrid_swa_off = true; break;
	default: return false;
	}
	return true;
}

static bool set_rest(struct pl_reader *r, enum action action, const char *value, int *rc)
{
	struct pl_params *p = &r->cmd->params;
	switch ((int)action) {
	case MODEL: r->own.serve.model_flag = value; break;
	case QUANT: r->cmd->quant = pl_serving_quant(r, value); break;
	case DTYPE: *rc = pl_serving_dtype(r, value, &p->dtype); break;
	case HF_OVERRIDES: r->cmd->hf_overrides = value; break;
	case EAGER: p->enforce_eager = true; break;
	case GRAPH_MAX: *rc = pl_read_u32(r, value, 1, 65536, &p->max_cudagraph_batch); break;
	case GRAPH_BS: *rc = pl_serving_most(r, value, &p->max_cudagraph_batch); break;
	case GRAPH_BACKEND: p->enforce_eager |= !strcmp(value, "disabled"); break;
	case LORA: r->own.serve.lora = true; break;
	case LORA_RANK: *rc = pl_read_u32(r, value, 1, 65536, &p->max_lora_rank); break;
	case LORAS: *rc = pl_read_u32(r, value, 1, 65536, &p->max_loras); break;
	case SPEC: *rc = speculative(r, value); break;
	case SPEC_MODEL: r->cmd->draft_ref = value; break;
	case SPEC_TOKENS: *rc = pl_read_u32(r, value, 1, 1024, &p->draft.n_max); break;
	case SPEC_STEPS: *rc = pl_read_u32(r, value, 1, 1024, &r->own.serve.spec_steps); break;
	case LM_ONLY: p->language_model_only = true; break;
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
	(void)negated;
	value = value ? value : "";
	if (!set_parallel(r, action, value, &rc) && !set_pool(r, action, value, &rc) && !set_rest(r, action, value, &rc))
		pl_serving_left_out(r, value);
	return rc;
}

static bool variable(struct pl_reader *r, const char *name, const char *value, int *rc)
{
	(void)r;
	(void)value;
	(void)rc;
	return !strncmp(name, "SGLANG_", 7) || !strncmp(name, "SGL_", 4);
}

static int begin(struct pl_reader *r)
{
	struct pl_params *p = &r->cmd->params;
	p->tensor_parallel = p->pipeline_parallel = p->data_parallel = 1;
	r->own.serve.nodes = 1;
	return pl_read_config_file(r, "--config");
}

static int finish(struct pl_reader *r)
{
	struct pl_command *c = r->cmd;
	struct pl_params *p = &c->params;
	c->model_ref = r->own.serve.model_flag ? r->own.serve.model_flag : r->own.serve.model_word;
	if (r->own.serve.lora)
		p->max_loras = p->max_loras ? p->max_loras : 8; /* server_args.py, max_loras_per_batch */
	else
		p->max_loras = p->max_lora_rank = 0;
	if (!p->draft.n_max && r->own.serve.spec_steps)
		p->draft.n_max = r->own.serve.spec_steps + 1;
	if (p->dp_attention && p->tensor_parallel % p->data_parallel) {
		r->flag = "--dp-size";
		return pl_refuse(r, "%u ranks do not divide into %u attention groups: the program stops here", p->tensor_parallel,
		                 p->data_parallel);
	}
	if (r->own.serve.chunked_off && !p->max_num_batched_tokens) /* server_args.py, max_prefill_tokens */
		p->max_num_batched_tokens = p->max_prefill_tokens ? p->max_prefill_tokens : 16384;
	if (r->own.serve.chunked_off)
		pl_remark(r, PL_NOTE_WARNING, "without chunked prefill a step takes a whole prompt: --max-prefill-tokens says how long one is");
	return 0;
}

#define STYLE (PL_STYLE_EQUALS | PL_STYLE_UNDERSCORES | PL_STYLE_PREFIXES)

const struct pl_program pl_programs_sglang[] = {
    {"sglang", "serve", "sglang.launch_server sglang.srt.entrypoints.http_server", "sglang", "0.5.14", flags,
     sizeof flags / sizeof *flags, 1, STYLE, begin, apply, pl_serving_word, variable, finish},
    {0},
};
