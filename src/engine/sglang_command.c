/* What SGLang runs where, and its launch line. */
#include <string.h>
#include <strings.h>

#include "base/checked.h"
#include "engine/argv.h"
#include "engine/sglang.h"

/* ---- support ------------------------------------------------------------------------------------------------------ */

static const char *no_platform(struct pl_arena *a, const struct pl_machine *hw)
{
	if (!hw->n_devices)
		return pl_tr("SGLang is planned on GPUs, and this machine has none");
	for (uint32_t i = 0; i < hw->n_devices; i++) {
		const struct pl_device *d = &hw->devices[i];
		switch (d->vendor) {
		case PL_VENDOR_APPLE:
		case PL_VENDOR_HUAWEI:
		case PL_VENDOR_GOOGLE:
		case PL_VENDOR_AWS:
		case PL_VENDOR_OTHER:
			return pl_arena_printf(a, pl_tr("SGLang's memory rules on %s are not modelled"), d->name);
		default:
			break;
		}
	}
	return NULL;
}

/* Least compute capability by storage: the kernels start at 7.5 (model_runner.py: "SGLang only supports sm75 and above"), Marlin's
 * for 4-bit and 8-bit weights at 8.0, get_min_capability of srt/layers/quantization. */
static double least_capability(const struct pl_model *m)
{
	switch (sv_main_type(m)) {
	case PL_DTYPE_INT4:
	case PL_DTYPE_I8:
	case PL_DTYPE_I32:
		return sv_named(m, "int8") || sv_named(m, "bnb") || sv_named(m, "awq") || sv_named(m, "w8a8") ? 7.5 : 8.0;
	case PL_DTYPE_F8_E4M3:
	case PL_DTYPE_F8_E5M2:
	case PL_DTYPE_MXFP4:
		return 8.0;
	case PL_DTYPE_NVFP4:
		return 10.0;
	case PL_DTYPE_F4:
		return sv_named(m, "nvfp4") ? 10.0 : 8.0;
	default:
		return 7.5;
	}
}

static const char *too_old(struct pl_arena *a, const struct pl_model *m, const struct pl_machine *hw)
{
	double have = sv_capability(hw), need = least_capability(m);
	if (have <= 0 || have >= need)
		return NULL;
	if (have < 7.5)
		return pl_arena_printf(a, pl_tr("SGLang needs compute capability 7.5, %s has %.1f"), hw->devices[0].name, have);
	return pl_arena_printf(a, pl_tr("SGLang has no kernel for %s weights below compute capability %.1f, %s has %.1f"),
	                       m->quant_name ? m->quant_name : pl_dtype_name(sv_main_type(m)), need, hw->devices[0].name, have);
}

enum pl_support sg_supports(struct pl_arena *a, const struct pl_model *m, const struct pl_machine *hw, const char **ret_reason)
{
	const char *why = sv_foreign_format(a, m, "SGLang");
	if (!why)
		why = no_platform(a, hw);
	if (!why)
		why = too_old(a, m, hw);
	if (why) {
		*ret_reason = why;
		return PL_SUPPORT_NO;
	}
	if (!m->arch_known || (m->hf_type && !strcmp(m->hf_type, "deepseek_v4"))) {
		*ret_reason = pl_arena_printf(a, pl_tr("the caches SGLang keeps for '%s' are not modelled"), m->arch ? m->arch : "");
		return PL_SUPPORT_UNSURE;
	}
	if (hw->devices[0].vendor == PL_VENDOR_INTEL || hw->devices[0].vendor == PL_VENDOR_AMD) {
		*ret_reason = pl_arena_printf(a, pl_tr("SGLang's build for %s runs fewer models and precisions than the one for NVIDIA"),
		                              hw->devices[0].name);
		return PL_SUPPORT_UNSURE;
	}
	return PL_SUPPORT_YES;
}

/* ---- launch line -------------------------------------------------------------------------------------------------- */

static void put_parallel(struct pl_words *w, const struct pl_params *p)
{
	if (p->tensor_parallel > 1)
		pl_put_u64(w, "--tp-size", p->tensor_parallel);
	if (p->pipeline_parallel > 1)
		pl_put_u64(w, "--pp-size", p->pipeline_parallel);
	if (p->data_parallel > 1)
		pl_put_u64(w, "--dp-size", p->data_parallel);
	if (p->dp_attention && p->data_parallel > 1)
		pl_put(w, "--enable-dp-attention");
	if (p->expert_parallel && p->tensor_parallel > 1)
		pl_put_u64(w, "--ep-size", p->tensor_parallel);
}

static void put_memory(struct pl_words *w, const struct pl_params *p)
{
	enum pl_dtype kv = p->type_k ? p->type_k : p->type_v;
	pl_put(w, "--mem-fraction-static");
	pl_put(w, pl_arena_printf(w->a, "%.4g", p->gpu_memory_utilization_frac));
	pl_put_u64(w, "--chunked-prefill-size", p->max_num_batched_tokens);
	if (p->enforce_eager)
		pl_put(w, "--disable-cuda-graph");
	else if (p->max_cudagraph_batch)
		pl_put_u64(w, "--cuda-graph-max-bs", p->max_cudagraph_batch);
	if (p->max_num_seqs)
		pl_put_u64(w, "--max-running-requests", p->max_num_seqs);
	if (kv == PL_DTYPE_F8_E4M3 || kv == PL_DTYPE_F8_E5M2) {
		pl_put(w, "--kv-cache-dtype");
		pl_put(w, kv == PL_DTYPE_F8_E4M3 ? "fp8_e4m3" : "fp8_e5m2");
	}
	if (p->block_size)
		pl_put_u64(w, "--page-size", p->block_size);
	if (p->max_total_tokens)
		pl_put_u64(w, "--max-total-tokens", p->max_total_tokens);
	if (p->prefix_caching_off)
		pl_put(w, "--disable-radix-cache");
	if (p->cpu_offload_bytes)
		pl_put_u64(w, "--cpu-offload-gb", pl_ceil_div(p->cpu_offload_bytes, UINT64_C(1) << 30));
	if (p->swa_full_tokens_ratio > 0) {
		pl_put(w, "--swa-full-tokens-ratio");
		pl_put(w, pl_arena_printf(w->a, "%g", p->swa_full_tokens_ratio));
	}
	if (p->hybrid_swa_off)
		pl_put(w, "--disable-hybrid-swa-memory");
	if (p->mamba_full_memory_ratio > 0) {
		pl_put(w, "--mamba-full-memory-ratio");
		pl_put(w, pl_arena_printf(w->a, "%g", p->mamba_full_memory_ratio));
	}
	if (p->max_mamba_cache_size)
		pl_put_u64(w, "--max-mamba-cache-size", p->max_mamba_cache_size);
	if (p->kv_offload_bytes) { /* in 1e9 bytes */
		pl_put(w, "--enable-hierarchical-cache");
		pl_put_u64(w, "--hicache-size", pl_ceil_div(p->kv_offload_bytes, UINT64_C(1000000000)));
	}
}

static void put_adapters(struct pl_words *w, const struct pl_params *p)
{
	static const char *const modules[] = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};
	if (!p->max_loras)
		return;
	pl_put(w, "--enable-lora");
	pl_put_u64(w, "--max-loras-per-batch", p->max_loras);
	pl_put_u64(w, "--max-lora-rank", sg_lora_rank(p));
	pl_put(w, "--lora-target-modules");
	for (size_t i = 0; i < sizeof modules / sizeof *modules; i++)
		pl_put(w, modules[i]);
}

static void put_draft(struct pl_words *w, const struct pl_draft *d)
{
	static const char *const algorithm[] = {"STANDALONE", "EAGLE3", "EAGLE"};
	if (!d->mtp && !d->model)
		return;
	pl_put(w, "--speculative-algorithm");
	pl_put(w, d->mtp ? "NEXTN" : algorithm[d->shares]);
	if (d->model) {
		pl_put(w, "--speculative-draft-model-path");
		pl_put(w, d->ref ? d->ref : d->model->name);
	}
	if (d->n_max > 1) { /* a chain: one token a step, and the one before them */
		pl_put_u64(w, "--speculative-num-steps", d->n_max - 1);
		pl_put_u64(w, "--speculative-eagle-topk", 1);
		pl_put_u64(w, "--speculative-num-draft-tokens", d->n_max);
	}
}

int sg_command(struct pl_arena *a, const struct pl_model *m, const char *model_ref, const struct pl_machine *hw,
               const struct pl_params *p, const struct pl_layout *l, struct pl_argv *ret_argv, struct pl_err *err)
{
	struct pl_words w = {.a = a};
	double capability = sv_capability(hw);
	(void)l;
	pl_put(&w, "python3");
	pl_put(&w, "-m");
	pl_put(&w, "sglang.launch_server");
	pl_put(&w, "--model-path");
	pl_put(&w, sv_model_word(a, m, model_ref, sv_made_on_load(m) != NULL));
	if (capability > 0 && capability < 8) {
		pl_put(&w, "--dtype");
		pl_put(&w, "float16");
	}
	if (sv_made_on_load(m)) {
		pl_put(&w, "--quantization");
		pl_put(&w, sv_made_on_load(m));
	}
	if (m->is_embedding)
		pl_put(&w, "--is-embedding");
	pl_put_u64(&w, "--context-length", p->n_ctx_tokens);
	put_parallel(&w, p);
	put_memory(&w, p);
	put_adapters(&w, p);
	put_draft(&w, &p->draft);
	return pl_words_argv(&w, model_ref, ret_argv, err);
}
