/* TensorRT-LLM with its PyTorch backend (1.x): the engine's row, its pool and its answer. Rules:
 * tensorrt_llm/_torch/pyexecutor/_util.py (KvCacheCreator: a run of max_num_tokens is measured, and a fraction of what it leaves
 * becomes the pool), resource_manager.py (blocks), llmapi/llm_args.py and commands/serve.py (defaults). */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/checked.h"
#include "engine/argv.h"
#include "engine/engines.h"
#include "engine/tensorrt_llm.h"

static const uint64_t MIB = 1024 * 1024;

enum { DEFAULT_BATCH = 2048, DEFAULT_TOKENS = 8192, DEFAULT_BLOCK = 32, GRAPH_BATCH = 128 };
static const double DEFAULT_FRAC = 0.9;

static const enum pl_dtype kv_types[] = {PL_DTYPE_F8_E4M3, PL_DTYPE_UNKNOWN};

/* ---- what the measured run leaves ---------------------------------------------------------------------------------- */

/* Beside weights and activations, in MiB and as a share of the weights: fitted to 72 largest batches measured on H100 and GB300
 * with 1, 2 and 4 ranks (Llama 3.1 8B in 16 bit, Qwen3 32B in FP8, prompts of 2048 and 4096; ai-dynamo/aiconfigurator
 * tests/integration/test_trtllm_kv_cache_capacity.py). Median error 0.0 %, 90 % below 0.3 %; with either model or either
 * card and model left out of the fit, 90 % below 1.4 %. The share stands for what the allocator keeps after loading; the part between ranks
 * for NCCL and the regions of the fused all-reduce, which grow by as much with each doubling. */
static const struct {
	uint64_t card, blackwell, two_ranks, doubling;
	double weights_frac;
} fitted = {825, 2259, 2037, 1325, 0.102};

static uint64_t between_ranks(uint32_t ranks)
{
	uint64_t mib = ranks > 1 ? fitted.two_ranks : 0;
	for (uint32_t n = 2; n < ranks; n *= 2)
		mib += fitted.doubling;
	return mib;
}

static uint64_t beside(const struct sv_job *j, const struct sv_place *pl, uint64_t weights)
{
	uint64_t mib = (j->capability >= 10 ? fitted.blackwell : fitted.card) + between_ranks(pl->tp);
	if (pl->pp > 1) /* NCCL between stages: 342 MiB (nccl_mem of aiconfigurator's systems) */
		mib += 342;
	return pl_sat_add(mib * MIB, (uint64_t)((double)weights * fitted.weights_frac));
}

/* Batches 1, 2, 4 and by 8 up to 128 are captured, after the pool is made, in what the fraction leaves. */
static uint64_t graphs(const struct sv_answer *x, const struct pl_shard_stage *s)
{
	uint64_t n = x->graph_batch >= 8 ? 3 + x->graph_batch / 8 : x->graph_batch, layers = s->end_layer - s->first_layer;
	return pl_sat_mul(n, layers * MIB * 3 / 5);
}

static void fill_rank(const struct sv_job *j, struct sv_answer *x, uint32_t r)
{
	struct sv_rank *k = &x->rank[r];
	const struct pl_device *d = &j->hw->devices[x->place.device[r]];
	struct pl_shard_stage s = sv_stage(j->m, j->p, &x->place, r / x->place.tp % x->place.pp);
	uint64_t hidden = d->total_bytes - sv_visible(d);
	uint64_t free = pl_sat_sub(j->hw->detected && d->free_known ? d->free_bytes : d->total_bytes, hidden);
	k->weights_bytes = pl_sat_add(sv_weights(j, &x->place, &s), sv_absorbed_bytes(j, &x->place, &s));
	if (s.has_output)
		k->weights_bytes = pl_sat_add(k->weights_bytes, sv_draft_weights(j, &x->place));
	k->compute_bytes = sv_forward_bytes(j, &x->place, &s, x->max_tokens);
	uint64_t around = beside(j, &x->place, k->weights_bytes);
	k->host_kv_bytes = j->p->kv_offload_bytes;
	k->host_bytes = tr_adapters(j, &x->place, &s);
	around = pl_sat_add(around, k->host_bytes);
	k->overhead_bytes = pl_sat_add(pl_sat_add(hidden, around), graphs(x, &s));
	uint64_t peak = pl_sat_add(pl_sat_add(k->weights_bytes, around), k->compute_bytes);
	k->over_bytes = pl_sat_sub(peak, free);
	tr_pools(j, x, &s, (uint64_t)((double)pl_sat_sub(free, peak) * x->frac), k);
}

static void fill(const struct sv_job *j, struct sv_answer *x)
{
	const struct pl_params *p = j->p;
	x->frac = p->gpu_memory_utilization_frac > 0 ? p->gpu_memory_utilization_frac : DEFAULT_FRAC;
	x->max_seqs = p->max_num_seqs ? p->max_num_seqs : DEFAULT_BATCH;
	x->max_tokens = p->max_num_batched_tokens ? p->max_num_batched_tokens : DEFAULT_TOKENS;
	x->block_tokens = p->block_size ? p->block_size : DEFAULT_BLOCK;
	x->graph_batch = p->enforce_eager ? 0 : p->max_cudagraph_batch ? p->max_cudagraph_batch : (uint32_t)pl_min_u64(x->max_seqs, GRAPH_BATCH);
	for (uint32_t r = 0; r < x->place.n_ranks; r++)
		fill_rank(j, x, r);
}

/* ---- the answer --------------------------------------------------------------------------------------------------- */

static void note_extras(const struct sv_job *j, struct pl_layout *out)
{
	struct pl_arena *a = j->a;
	if (j->p->n_max_attention_window && sv_drafts(j))
		pl_note_add(a, &out->notes, PL_NOTE_WARNING,
		            "how TensorRT-LLM shares memory between windows and a draft is not known: the draft is counted with the layers of full length");
	if (!j->p->n_max_attention_window && pl_model_kinds(j->m).window)
		pl_note_add(a, &out->notes, PL_NOTE_INFO,
		            "every layer is cached at full length: with max_attention_window in kv_cache_config sliding layers get a pool of their own");
	if (j->p->max_loras)
		pl_note_add(a, &out->notes, PL_NOTE_INFO,
		            "adapters are planned for every matrix of attention and feed forward (lora_target_modules), not of routed experts");
	if (j->beams > 1)
		pl_note_add(a, &out->notes, PL_NOTE_INFO,
		            "%u beams of a sequence are counted as so many sequences: they share the blocks of their prompt, so less may do", j->beams);
}

static void add_notes(const struct sv_job *j, const struct sv_answer *x, struct pl_layout *out)
{
	struct pl_arena *a = j->a;
	if (x->place.n_ranks < j->hw->n_devices && !j->p->tensor_parallel)
		pl_note_add(a, &out->notes, PL_NOTE_INFO,
		            "%u of %u GPUs are used: chosen is what holds the request, with the fewest pipeline stages, then the largest cache",
		            x->place.n_ranks, j->hw->n_devices);
	if (pl_model_kinds(j->m).state && !j->p->max_num_seqs)
		pl_note_add(a, &out->notes, PL_NOTE_INFO,
		            "states are kept for the whole batch: max_batch_size is lowered to %u so that half of the pool is left for tokens",
		            x->max_seqs);
	note_extras(j, out);
	if (j->capability > 0 && j->capability < 9)
		pl_note_add(a, &out->notes, PL_NOTE_INFO, "what TensorRT-LLM takes beside weights was measured on Hopper and Blackwell only");
	sv_note_assumed(a, j->engine, j->m, j->hw, out);
}

static void resolve(const struct sv_job *j, const struct sv_answer *x, struct pl_params *p)
{
	p->n_ctx_tokens = j->n_ctx;
	p->tensor_parallel = x->place.tp;
	p->pipeline_parallel = x->place.pp;
	p->data_parallel = x->place.attn_groups > 1 ? x->place.attn_groups : x->place.dp;
	p->gpu_memory_utilization_frac = x->frac;
	p->max_num_seqs = x->max_seqs;
	p->max_num_batched_tokens = x->max_tokens;
	p->max_cudagraph_batch = x->graph_batch;
}

static int check_version(const char *version, struct pl_err *err)
{
	if (version && *version && strncmp(*version == 'v' ? version + 1 : version, "1.", 2) != 0)
		return pl_fail(err, PL_ERR_RANGE, "--engine-version", "TensorRT-LLM %.40s is not modelled: 1.x and its PyTorch backend are", version);
	return 0;
}

static int check(const struct pl_params *p, struct pl_err *err)
{
	int rc = check_version(p->engine_version, err);
	if (rc)
		return rc;
	if (p->type_k == PL_DTYPE_F8_E5M2 || p->type_v == PL_DTYPE_F8_E5M2)
		return pl_fail(err, PL_ERR_UNSUPPORTED, "--kv-type", "TensorRT-LLM's FP8 cache is f8_e4m3");
	if (p->data_parallel > 1 && !p->dp_attention)
		return pl_fail(err, PL_ERR_UNSUPPORTED, "--data-parallel", "trtllm-serve starts one replica; run it %u times behind a balancer",
		               p->data_parallel);
	if (p->prefill_context_parallel > 1 || p->decode_context_parallel > 1)
		return pl_fail(err, PL_ERR_UNSUPPORTED, "--cp_size", "TensorRT-LLM's memory under context parallelism is not modelled");
	return 0;
}

static int layout(struct pl_arena *a, const struct pl_model *m, const struct pl_machine *hw, struct pl_params *p,
                  struct pl_layout *ret_layout, struct pl_err *err)
{
	struct sv_job job = {.a = a, .m = m, .hw = hw, .p = p, .engine = "TensorRT-LLM", .beams = p->max_beam_width, .rest_to_first = true,
	                     .fill = fill, .add_notes = add_notes, .resolve = resolve};
	int rc = check(p, err);
	return rc ? rc : sv_plan(&job, p, ret_layout, err);
}

/* ---- support ------------------------------------------------------------------------------------------------------ */

/* Families of the PyTorch backend (docs, models/supported-models), by model_type. */
static bool knows(const struct pl_model *m)
{
	static const char *const types[] = {"llama", "llama4", "qwen2", "qwen3", "mistral", "mixtral", "deepseek_v3", "deepseek_v32", "kimi_k2",
	                                    "gpt_oss", "gemma3", "phi4", "nemotron", "exaone4", "glm4_moe", "minimax_m2", "hunyuan", "seed_oss",
	                                    "starcoder2", "bert", NULL};
	const char *type = m->hf_type ? m->hf_type : m->arch;
	for (size_t i = 0; type && types[i]; i++)
		if (!strncmp(type, types[i], strlen(types[i])))
			return true;
	return false;
}

/* Formats without a loader in the PyTorch backend (quantization support matrix of the docs). */
static const char *no_loader(struct pl_arena *a, const struct pl_model *m)
{
	static const char *const none[] = {"gptq", "nf4", "int8", "bnb", "w8a8", "mxfp8", NULL};
	for (size_t i = 0; none[i]; i++)
		if (sv_named(m, none[i]))
			return pl_arena_printf(a, pl_tr("TensorRT-LLM's PyTorch backend has no loader for weights in %s"), m->quant_name);
	return sv_foreign_format(a, m, "TensorRT-LLM");
}

static double least_capability(const struct pl_model *m)
{
	switch (sv_main_type(m)) {
	case PL_DTYPE_F8_E4M3:
	case PL_DTYPE_F8_E5M2:
		return sv_named(m, "fp8-block") ? 9.0 : 8.9;
	case PL_DTYPE_NVFP4:
		return 10.0;
	case PL_DTYPE_F4:
		return sv_named(m, "nvfp4") ? 10.0 : 9.0;
	case PL_DTYPE_MXFP4:
		return 9.0;
	default:
		return 8.0;
	}
}

static const char *cannot(struct pl_arena *a, const struct pl_model *m, const struct pl_machine *hw)
{
	const char *why = no_loader(a, m);
	double have = sv_capability(hw), need = least_capability(m);
	if (why)
		return why;
	if (!hw->n_devices)
		return pl_tr("TensorRT-LLM runs on NVIDIA GPUs, and this machine has none");
	for (uint32_t i = 0; i < hw->n_devices; i++)
		if (hw->devices[i].vendor != PL_VENDOR_NVIDIA && hw->devices[i].vendor != PL_VENDOR_UNKNOWN)
			return pl_arena_printf(a, pl_tr("TensorRT-LLM runs on NVIDIA GPUs only, not on %s"), hw->devices[i].name);
	if (have > 0 && have < need)
		return pl_arena_printf(a, pl_tr("TensorRT-LLM needs compute capability %.1f for %s weights, %s has %.1f"), need,
		                       m->quant_name ? m->quant_name : pl_dtype_name(sv_main_type(m)), hw->devices[0].name, have);
	return NULL;
}

static enum pl_support supports(struct pl_arena *a, const struct pl_model *m, const struct pl_machine *hw, const char **ret_reason)
{
	const char *why = cannot(a, m, hw);
	if (why) {
		*ret_reason = why;
		return PL_SUPPORT_NO;
	}
	if (!m->arch_known || !knows(m)) {
		*ret_reason = pl_arena_printf(a, pl_tr("'%s' is not in TensorRT-LLM's list of models"), m->hf_type ? m->hf_type : m->arch ? m->arch : "");
		return PL_SUPPORT_UNSURE;
	}
	if (sv_named(m, "awq") || sv_named(m, "w4a16")) {
		*ret_reason = pl_tr("TensorRT-LLM reads 4-bit weights from checkpoints of ModelOpt, not from those of AutoAWQ");
		return PL_SUPPORT_UNSURE;
	}
	return PL_SUPPORT_YES;
}

/* ---- launch line -------------------------------------------------------------------------------------------------- */

/* What has no flag goes into a YAML file; the options of the file win over the flags. */
static const char *yaml(struct pl_arena *a, const struct pl_params *p)
{
	const char *text = pl_arena_printf(a, "kv_cache_config: {free_gpu_memory_fraction: %g", p->gpu_memory_utilization_frac);
	if (p->block_size)
		text = pl_arena_printf(a, "%s, tokens_per_block: %u", text, p->block_size);
	if (p->max_total_tokens)
		text = pl_arena_printf(a, "%s, max_tokens: %llu", text, (unsigned long long)p->max_total_tokens);
	if (p->prefix_caching_off)
		text = pl_arena_printf(a, "%s, enable_block_reuse: false", text);
	for (uint32_t i = 0; i < p->n_max_attention_window; i++)
		text = pl_arena_printf(a, "%s%s%u", text, i ? ", " : ", max_attention_window: [", p->max_attention_window[i]);
	if (p->kv_offload_bytes)
		text = pl_arena_printf(a, "%s%s, host_cache_size: %llu", text, p->n_max_attention_window ? "]" : "",
		                       (unsigned long long)p->kv_offload_bytes);
	else if (p->n_max_attention_window)
		text = pl_arena_printf(a, "%s]", text);
	text = pl_arena_printf(a, "%s}\\n", text);
	if (p->enforce_eager)
		text = pl_arena_printf(a, "%scuda_graph_config: null\\n", text);
	if (p->draft.mtp)
		text = pl_arena_printf(a, "%sspeculative_config: {decoding_type: MTP, num_nextn_predict_layers: %u}\\n", text,
		                       p->draft.n_max ? p->draft.n_max : 1);
	else if (p->draft.model)
		text = pl_arena_printf(a, "%sspeculative_config: {decoding_type: %s, max_draft_len: %u, speculative_model_dir: '%s'}\\n", text,
		                       p->draft.shares == PL_DRAFT_OWN ? "DraftTarget" : "Eagle", p->draft.n_max ? p->draft.n_max : 1,
		                       p->draft.ref ? p->draft.ref : p->draft.model->name);
	if (p->max_loras)
		text = pl_arena_printf(a, "%slora_config: {max_loras: %u, max_lora_rank: %u}\\n", text, p->max_loras,
		                       p->max_lora_rank ? p->max_lora_rank : 64);
	return text;
}

/* The draft's name is written into a shell's double quotes and a format: only plain ones go there. */
static int check_draft_name(const struct pl_params *p, struct pl_err *err)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-/@+:";
	const char *name = p->draft.model ? p->draft.ref ? p->draft.ref : p->draft.model->name : "";
	if (name[strspn(name, plain)])
		return pl_fail(err, PL_ERR_UNSUPPORTED, "speculative_model_dir",
		               "'%.80s' has signs that a shell reads: name the draft by letters, digits and . _ - / only", name);
	return 0;
}

static bool needs_yaml(const struct pl_params *p)
{
	return p->block_size || p->max_total_tokens || p->prefix_caching_off || p->enforce_eager || p->draft.mtp ||
	       p->draft.model || p->n_max_attention_window || p->kv_offload_bytes || p->max_loras;
}

static void put_flags(struct pl_words *w, const struct pl_params *p)
{
	pl_put_u64(w, "--tp_size", p->tensor_parallel);
	if (p->pipeline_parallel > 1)
		pl_put_u64(w, "--pp_size", p->pipeline_parallel);
	if (p->expert_parallel && p->tensor_parallel > 1)
		pl_put_u64(w, "--ep_size", p->tensor_parallel);
	pl_put_u64(w, "--max_seq_len", p->n_ctx_tokens);
	pl_put_u64(w, "--max_batch_size", p->max_num_seqs);
	pl_put_u64(w, "--max_num_tokens", p->max_num_batched_tokens);
	pl_put(w, "--kv_cache_free_gpu_memory_fraction");
	pl_put(w, pl_arena_printf(w->a, "%g", p->gpu_memory_utilization_frac));
	if ((p->type_k ? p->type_k : p->type_v) == PL_DTYPE_F8_E4M3) {
		pl_put(w, "--kv_cache_dtype");
		pl_put(w, "fp8");
	}
	if (p->dp_attention)
		pl_put(w, "--enable_attention_dp");
	if (p->max_beam_width > 1)
		pl_put_u64(w, "--max_beam_width", p->max_beam_width);
}

static int command(struct pl_arena *a, const struct pl_model *m, const char *model_ref, const struct pl_machine *hw,
                   const struct pl_params *p, const struct pl_layout *l, struct pl_argv *ret_argv, struct pl_err *err)
{
	struct pl_words w = {.a = a};
	int rc = check_draft_name(p, err);
	(void)hw;
	(void)l;
	if (rc)
		return rc;
	if (needs_yaml(p)) { /* the file is made on the fly by the shell that runs the rest */
		pl_put(&w, "bash");
		pl_put(&w, "-c");
		pl_put(&w, pl_arena_printf(a, "exec trtllm-serve \"$@\" --extra_llm_api_options <(printf \"%s\")", yaml(a, p)));
	}
	pl_put(&w, "trtllm-serve");
	pl_put(&w, sv_model_word(a, m, model_ref, false));
	pl_put(&w, "--backend");
	pl_put(&w, "pytorch");
	put_flags(&w, p);
	return pl_words_argv(&w, model_ref, ret_argv, err);
}

static const struct pl_server server = {
    .host_flag = "--host",
    .port_flag = "--port",
    .port = 8000,
    .health_path = "/health",
    .metrics_path = "/prometheus/metrics",
};

const struct pl_engine pl_engine_tensorrt_llm = {
    .id = "tensorrt-llm",
    .drafting = PL_DRAFTS_COUNTED,
    .aliases = "trtllm trt-llm tensorrt trt tensorrt_llm trtllm-serve",
    .version = "1.2",
    .supports = supports,
    .layout = layout,
    .command = command,
    .kv_types = kv_types,
    .server = &server,
};
