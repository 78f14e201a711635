/* What vLLM runs where, and the `vllm serve` line that gives exactly the planned memory. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/checked.h"
#include "engine/argv.h"
#include "engine/vllm.h"

/* ---- support -------------------------------------------------------------------------------------------------------- */

/* Formats that no kernel of vLLM reads. */
static const char *foreign_format(struct pl_arena *a, const struct pl_model *m)
{
	enum pl_dtype t = sv_main_type(m);
	const struct pl_dtype_info *d = pl_dtype_info(t);
	if (m->format == PL_FORMAT_GGUF)
		return pl_tr("vLLM no longer reads GGUF files (0.23 was the last release with a loader, of single files); plan the "
		             "original checkpoint");
	if (sv_named(m, "mlx"))
		return pl_tr("MLX precisions run on Apple's MLX only; plan a precision such as awq-int4 or fp8");
	if (d->ggml_id >= 0 && d->block_elems > 1 && t != PL_DTYPE_MXFP4 && t != PL_DTYPE_NVFP4)
		return pl_arena_printf(a, pl_tr("vLLM has no kernels for weights in %s; plan a precision such as awq-int4 or fp8"),
		                       pl_dtype_name(t));
	return NULL;
}

static const char *no_platform(struct pl_arena *a, const struct pl_machine *hw)
{
	static const char *const rocm[] = {"gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1101", "gfx1150", "gfx1151", "gfx1200", "gfx1201"};
	if (!hw->n_devices)
		return pl_tr("vLLM is planned on GPUs, and this machine has none");
	for (uint32_t i = 0; i < hw->n_devices; i++) {
		const struct pl_device *d = &hw->devices[i];
		const char *c = d->gpu && d->gpu->capability ? d->gpu->capability : "";
		bool known = false;
		switch (d->vendor) {
		case PL_VENDOR_AMD:
			for (size_t k = 0; k < sizeof rocm / sizeof *rocm; k++)
				known |= !strcmp(c, rocm[k]);
			if (*c && !known)
				return pl_arena_printf(a, pl_tr("vLLM's ROCm build has no kernels for %s (%s)"), d->name, c);
			break;
		case PL_VENDOR_APPLE:
		case PL_VENDOR_HUAWEI:
		case PL_VENDOR_GOOGLE:
		case PL_VENDOR_AWS:
		case PL_VENDOR_OTHER:
			return pl_arena_printf(a, pl_tr("vLLM runs on %s through a plugin of its maker, whose memory rules are not modelled"),
			                       d->name);
		default:
			break;
		}
	}
	return NULL;
}

/* Least compute capability by storage: native or weight-only (Marlin) kernels; get_min_capability of
 * model_executor/layers/quantization/ in 0.24. Volta is served by 0.9.2, whose GPTQ kernel starts at 6.0 and bitsandbytes at
 * 7.0, while AWQ starts at 7.5 and Marlin at 8.0. */
static double least_capability(const struct pl_model *m, bool volta)
{
	switch (sv_main_type(m)) {
	case PL_DTYPE_F32:
	case PL_DTYPE_F16:
	case PL_DTYPE_BF16:
	case PL_DTYPE_NF4:
		return 7.0;
	case PL_DTYPE_I8:
		return sv_named(m, "w8a8") ? 7.5 : sv_named(m, "gptq") && volta ? 6.0 : 7.0;
	case PL_DTYPE_INT4:
		return sv_named(m, "gptq") && volta ? 6.0 : 7.5;
	case PL_DTYPE_F8_E4M3:
	case PL_DTYPE_F8_E5M2:
		return sv_named(m, "mxfp8") ? 8.0 : 7.5;
	case PL_DTYPE_F4:
	case PL_DTYPE_MXFP4:
		return sv_named(m, "mxfp4") ? 8.0 : 7.5;
	default:
		return 7.5;
	}
}

/* Families whose activations leave the range of 16-bit floats (config/model.py, _FLOAT16_NOT_SUPPORTED_MODELS). */
static bool needs_bfloat16(const struct pl_model *m)
{
	static const char *const types[] = {"gemma2", "gemma3", "gemma3_text", "plamo2", "glm4"};
	for (size_t i = 0; m->hf_type && i < sizeof types / sizeof *types; i++)
		if (!strcmp(m->hf_type, types[i]))
			return true;
	return false;
}

static const char *too_old(struct pl_arena *a, const struct pl_model *m, const struct pl_machine *hw)
{
	double have = sv_capability(hw), need = least_capability(m, have < 7.5);
	const char *name = hw->devices[0].name;
	if (have <= 0)
		return NULL;
	if (have < 7.0)
		return pl_arena_printf(a, pl_tr("vLLM needs compute capability 7.0, %s has %.1f"), name, have);
	if (have < need)
		return pl_arena_printf(a, pl_tr("vLLM has no kernel for %s weights below compute capability %.1f, %s has %.1f"),
		                       m->quant_name ? m->quant_name : pl_dtype_name(sv_main_type(m)), need, name, have);
	if (have < 8.0 && needs_bfloat16(m))
		return pl_arena_printf(a, pl_tr("%s needs bfloat16, which starts at compute capability 8.0; %s has %.1f"), m->name, name, have);
	return NULL;
}

/* Architectures without a class in model_executor/models/registry.py of 0.24. */
static bool unknown_family(const struct pl_model *m)
{
	static const char *const types[] = {"rwkv", "yuan", "step3p7", "kimi_k3", "muse_glimmer", NULL};
	for (size_t i = 0; m->hf_type && types[i]; i++)
		if (!strncmp(m->hf_type, types[i], strlen(types[i])))
			return true;
	return false;
}

/* Model families that came after the release Volta is held at. */
static bool newer_than_volta(const struct pl_model *m)
{
	static const char *const types[] = {"qwen3_next", "qwen3_5", "gpt_oss", "deepseek_v32", "deepseek_v4", "glm4_moe", "kimi_linear",
	                                    "gemma3n", "gemma4", "minimax_m2", "ernie4_5_moe", "seed_oss", "apertus", "lfm2", NULL};
	for (size_t i = 0; m->hf_type && types[i]; i++)
		if (!strncmp(m->hf_type, types[i], strlen(types[i])))
			return true;
	return false;
}

enum pl_support vl_supports(struct pl_arena *a, const struct pl_model *m, const struct pl_machine *hw, const char **ret_reason)
{
	const char *why = foreign_format(a, m);
	if (!why)
		why = no_platform(a, hw);
	if (!why)
		why = too_old(a, m, hw);
	double c = sv_capability(hw);
	if (!why && c > 0 && c < 7.5 && newer_than_volta(m))
		why = pl_arena_printf(a, pl_tr("vLLM 0.9.2, the release planned for compute capability %.1f, does not know %s"), c, m->name);
	if (!why && unknown_family(m))
		why = pl_arena_printf(a, pl_tr("vLLM 0.24 has no class for models of type '%s'"), m->hf_type);
	if (why) {
		*ret_reason = why;
		return PL_SUPPORT_NO;
	}
	if (!m->arch_known) {
		*ret_reason = pl_arena_printf(a, pl_tr("the caches vLLM keeps for '%s' are not modelled"), m->arch ? m->arch : "");
		return PL_SUPPORT_UNSURE;
	}
	if (hw->devices[0].vendor == PL_VENDOR_INTEL) {
		*ret_reason = pl_tr("vLLM's build for Intel GPUs runs fewer models and precisions than the one for NVIDIA");
		return PL_SUPPORT_UNSURE;
	}
	return PL_SUPPORT_YES;
}

/* ---- launch line ---------------------------------------------------------------------------------------------------- */

const char *vl_kv_name(enum pl_dtype t)
{
	switch (t) {
	case PL_DTYPE_F8_E4M3:
		return "fp8";
	case PL_DTYPE_F8_E5M2:
		return "fp8_e5m2";
	default:
		return NULL; /* the model's own */
	}
}

static void put_devices(struct pl_words *w, const struct pl_machine *hw, const struct pl_params *p, const struct pl_layout *l)
{
	const char *list = "";
	uint32_t n = 0, host = 0, first = 0;
	for (uint32_t i = 0; i < hw->n_devices && list; i++) {
		if (hw->devices[i].node)
			continue;
		host++;
		if (!l->devices[i].n_layers)
			continue;
		if (n++ == 0)
			first = i;
		list = pl_arena_printf(w->a, "%s%s%u", list, *list ? "," : "", i);
	}
	if (n && n < host && first)
		pl_put_env(w, pl_arena_printf(w->a, "%s=%s", hw->devices[0].vendor == PL_VENDOR_AMD ? "HIP_VISIBLE_DEVICES" : "CUDA_VISIBLE_DEVICES",
		                           list));
	(void)p;
}

static void put_parallel(struct pl_words *w, const struct pl_machine *hw, const struct pl_params *p)
{
	if (p->tensor_parallel > 1)
		pl_put_u64(w, "--tensor-parallel-size", p->tensor_parallel);
	if (p->pipeline_parallel > 1)
		pl_put_u64(w, "--pipeline-parallel-size", p->pipeline_parallel);
	if (p->data_parallel > 1)
		pl_put_u64(w, "--data-parallel-size", p->data_parallel);
	if (p->expert_parallel)
		pl_put(w, "--enable-expert-parallel");
	if (hw->n_nodes > 1 && p->tensor_parallel * p->pipeline_parallel > hw->n_devices / hw->n_nodes) {
		pl_put(w, "--distributed-executor-backend");
		pl_put(w, "ray");
	}
}

static void put_memory(struct pl_words *w, const struct pl_params *p)
{
	pl_put(w, "--gpu-memory-utilization");
	pl_put(w, pl_arena_printf(w->a, "%g", p->gpu_memory_utilization_frac));
	pl_put_u64(w, "--max-num-seqs", p->max_num_seqs);
	pl_put_u64(w, "--max-num-batched-tokens", p->max_num_batched_tokens);
	if (vl_kv_name(p->type_k ? p->type_k : p->type_v)) {
		pl_put(w, "--kv-cache-dtype");
		pl_put(w, vl_kv_name(p->type_k ? p->type_k : p->type_v));
	}
	if (p->block_size)
		pl_put_u64(w, "--block-size", p->block_size);
	if (p->kv_cache_memory_bytes)
		pl_put_u64(w, "--kv-cache-memory-bytes", p->kv_cache_memory_bytes);
	if (p->cpu_offload_bytes) {
		pl_put(w, "--cpu-offload-gb");
		pl_put(w, pl_arena_printf(w->a, "%g", (double)p->cpu_offload_bytes / (double)(UINT64_C(1) << 30)));
	}
	if (p->num_gpu_blocks_override)
		pl_put_u64(w, "--num-gpu-blocks-override", p->num_gpu_blocks_override);
	if (p->kv_offload_bytes) {
		pl_put(w, "--kv-offloading-size");
		pl_put(w, pl_arena_printf(w->a, "%g", (double)p->kv_offload_bytes / (double)(UINT64_C(1) << 30)));
	}
	if (p->mm_cache_bytes != UINT64_MAX) {
		pl_put(w, "--mm-processor-cache-gb");
		pl_put(w, pl_arena_printf(w->a, "%g", (double)p->mm_cache_bytes / (double)(UINT64_C(1) << 30)));
	}
	if (p->decode_context_parallel > 1)
		pl_put_u64(w, "--decode-context-parallel-size", p->decode_context_parallel);
	if (p->enforce_eager)
		pl_put(w, "--enforce-eager");
	if (p->prefix_caching_off)
		pl_put(w, "--no-enable-prefix-caching");
	if (p->prefix_caching_on)
		pl_put(w, "--enable-prefix-caching");
	if (p->max_loras) {
		pl_put(w, "--enable-lora");
		pl_put_u64(w, "--max-loras", p->max_loras);
		pl_put_u64(w, "--max-lora-rank", p->max_lora_rank ? p->max_lora_rank : 16);
	}
}

/* Cards without bfloat16, and the release that still serves Volta: its V0 engine with xFormers (0.9.2, vllm/envs.py and
 * platforms/cuda.py). */
static void put_old_cards(struct pl_words *w, const struct pl_model *m, double capability, const struct vl_rules *r)
{
	if (capability <= 0 || capability >= 8)
		return;
	pl_put(w, "--dtype");
	pl_put(w, "float16");
	if (capability < 7.5 && sv_named(m, "gptq")) {
		pl_put(w, "--quantization");
		pl_put(w, "gptq");
	}
	if (!r->v1) {
		pl_put_env(w, "VLLM_USE_V1=0");
		pl_put_env(w, "VLLM_ATTENTION_BACKEND=XFORMERS");
	}
}

int vl_command(struct pl_arena *a, const struct pl_model *m, const char *model_ref, const struct pl_machine *hw,
               const struct pl_params *p, const struct pl_layout *l, struct pl_argv *ret_argv, struct pl_err *err)
{
	struct pl_words w = {.a = a};
	struct vl_rules rules;
	double capability = sv_capability(hw);
	int rc = vl_rules_of(p->engine_version, capability, &rules, err);
	if (rc)
		return rc;
	put_devices(&w, hw, p, l);
	if (m->n_ctx_train && p->n_ctx_tokens > m->n_ctx_train)
		pl_put_env(&w, "VLLM_ALLOW_LONG_MAX_MODEL_LEN=1");
	pl_put(&w, "vllm");
	pl_put(&w, "serve");
	pl_put(&w, sv_model_word(a, m, model_ref, sv_made_on_load(m) != NULL));
	put_old_cards(&w, m, capability, &rules);
	if (sv_made_on_load(m)) {
		pl_put(&w, "--quantization");
		pl_put(&w, sv_made_on_load(m));
	}
	pl_put_u64(&w, "--max-model-len", p->n_ctx_tokens);
	put_parallel(&w, hw, p);
	put_memory(&w, p);
	if (p->draft.mtp || p->draft.model) {
		uint32_t n = p->draft.n_max ? p->draft.n_max : 1;
		pl_put(&w, "--speculative-config");
		pl_put(&w, p->draft.mtp ? pl_arena_printf(a, "{\"method\": \"mtp\", \"num_speculative_tokens\": %u}", n)
		                     : pl_arena_printf(a, "{\"model\": \"%s\", \"num_speculative_tokens\": %u}",
		                                       p->draft.ref ? p->draft.ref : p->draft.model->name, n));
	}
	if (p->language_model_only)
		pl_put(&w, "--language-model-only");
	return pl_words_argv(&w, model_ref, ret_argv, err);
}
