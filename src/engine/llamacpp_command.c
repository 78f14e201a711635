/* What llama.cpp runs, and the llama-server line that gives exactly the planned memory. */
#include <string.h>

#include "base/checked.h"
#include "engine/argv.h"
#include "engine/llamacpp.h"
#include "model/arch_traits.h"

/* ---- support ----------------------------------------------------------------------------------------------------- */

static const struct pl_tensor *foreign_tensor(const struct pl_model *m)
{
	for (uint32_t i = 0; i < m->n_tensors; i++) {
		const struct pl_tensor *t = &m->tensors[i];
		if (t->group != PL_GROUP_VISION && t->type != PL_DTYPE_UNKNOWN && pl_dtype_info(t->type)->ggml_id < 0)
			return t;
	}
	return NULL;
}

static const char *old_gpu(const struct pl_machine *hw)
{
	for (uint32_t i = 0; i < hw->n_devices; i++) {
		const struct pl_gpu *g = hw->devices[i].gpu;
		/* compute capability below 5.0 has no kernels in current builds (ggml-cuda/CMakeLists.txt) */
		if (g && g->vendor == PL_VENDOR_NVIDIA && g->capability && g->capability[0] >= '1' && g->capability[0] <= '4' &&
		    g->capability[1] == '.')
			return hw->devices[i].name;
	}
	return NULL;
}

static const char *no_backend(const struct pl_machine *hw)
{
	for (uint32_t i = 0; i < hw->n_devices; i++) {
		enum pl_vendor v = hw->devices[i].vendor;
		if (v == PL_VENDOR_GOOGLE || v == PL_VENDOR_AWS || v == PL_VENDOR_OTHER)
			return hw->devices[i].name;
	}
	return NULL;
}

/* The scheduler takes 16 backends and stops the program at one more; each GPU is one, the CPU is the last
 * (ggml-backend.cpp, GGML_SCHED_MAX_BACKENDS; src/llama-context.cpp). */
enum { MAX_GPUS = 15 };

enum pl_support ll_supports(struct pl_arena *a, const struct pl_model *m, const struct pl_machine *hw,
                            const char **ret_reason)
{
	const struct pl_arch_traits *tr = pl_arch_traits_find(m->arch);
	const struct pl_tensor *foreign = foreign_tensor(m);
	const char *gpu;
	if (foreign) {
		const char *name = m->quant_name ? m->quant_name : pl_dtype_name(foreign->type);
		*ret_reason = pl_arena_printf(a, pl_tr("llama.cpp has no format for weights in %s; plan a GGUF precision such as %s"), name,
		                              strcmp(name, "mxfp4") ? "q4_k_m" : "mxfp4_moe");
		return PL_SUPPORT_NO;
	}
	if (!tr || (tr->flags & PL_ARCH_NOT_A_MODEL)) {
		*ret_reason = pl_arena_printf(a, pl_tr("llama.cpp (build 11669) does not know the architecture '%s'"),
		                              m->arch ? m->arch : "");
		return PL_SUPPORT_NO;
	}
	if (hw->n_devices > MAX_GPUS) {
		*ret_reason = pl_arena_printf(a, pl_tr("llama.cpp runs on at most %d GPUs: plan on so many of the %u"), (int)MAX_GPUS, hw->n_devices);
		return PL_SUPPORT_NO;
	}
	if ((gpu = no_backend(hw))) {
		*ret_reason = pl_arena_printf(a, pl_tr("llama.cpp has no backend for %s"), gpu);
		return PL_SUPPORT_NO;
	}
	if ((gpu = old_gpu(hw))) {
		*ret_reason = pl_arena_printf(a, pl_tr("%s is older than the CUDA kernels llama.cpp is built with"), gpu);
		return PL_SUPPORT_UNSURE;
	}
	if (!m->arch_known) {
		*ret_reason = pl_arena_printf(a, pl_tr("the caches llama.cpp keeps for '%s' are not modelled"), m->arch);
		return PL_SUPPORT_UNSURE;
	}
	return PL_SUPPORT_YES;
}

/* ---- launch line ------------------------------------------------------------------------------------------------- */

/* A GGUF by its path; a model planned from a config needs a file that the user has or makes. */
static const char *model_file(struct pl_arena *a, const struct pl_model *m, const char *ref)
{
	if (m->format == PL_FORMAT_GGUF)
		return ref;
	const char *slash = strrchr(ref, '/');
	char *name = pl_arena_printf(a, "%s-%s.gguf", slash && slash[1] ? slash + 1 : ref, m->quant_name ? m->quant_name : "f16");
	for (char *p = name; p && *p; p++)
		if (*p == ' ' || *p == '/')
			*p = '-';
	return name;
}

static void put_model(struct pl_words *w, const struct pl_model *m, const char *ref)
{
	if (m->format == PL_FORMAT_GGUF && !strncmp(ref, "hf:", 3)) { /* hf:owner/repo[:precision] or hf:owner/repo:file */
		const char *colon = strchr(ref + 3, ':');
		colon = colon && strstr(colon, ".gguf") ? colon : NULL;
		pl_put(w, "-hf");
		pl_put(w, pl_arena_strndup(w->a, ref + 3, colon ? (size_t)(colon - ref - 3) : strlen(ref + 3)));
		if (colon) {
			pl_put(w, "-hff");
			pl_put(w, colon + 1);
		}
	} else if (m->format == PL_FORMAT_GGUF && (!strncmp(ref, "https://", 8) || !strncmp(ref, "http://", 7))) {
		pl_put(w, "-mu");
		pl_put(w, ref);
	} else {
		pl_put(w, "-m");
		pl_put(w, model_file(w->a, m, ref));
	}
}

static void put_split(struct pl_words *w, const struct pl_machine *hw, const struct pl_params *p)
{
	static const char *const modes[] = {"layer", "row", "none"};
	const char *text = "";
	bool any = false;
	if (p->split_mode != PL_SPLIT_LAYER) {
		pl_put(w, "-sm");
		pl_put(w, modes[p->split_mode]);
	}
	if (p->main_gpu)
		pl_put_u64(w, "-mg", p->main_gpu);
	for (uint32_t i = 0; i < hw->n_devices && i < PL_MAX_DEVICES && text; i++) {
		if (hw->devices[i].node && !hw->devices[i].rpc)
			continue;
		any |= p->tensor_split[i] > 0;
		text = pl_arena_printf(w->a, "%s%s%.9g", text, *text ? "," : "", p->tensor_split[i]);
	}
	if (any && p->split_mode != PL_SPLIT_NONE) {
		pl_put(w, "-ts");
		pl_put(w, text);
	}
}

/* Addresses are the user's: a host stands as rpc-1, rpc-2 with the program's own port. */
static void put_rpc(struct pl_words *w, const struct pl_machine *hw)
{
	const char *text = "";
	uint32_t last = 0;
	for (uint32_t i = 0; i < hw->n_devices && text; i++)
		if (hw->devices[i].rpc && hw->devices[i].node != last) {
			last = hw->devices[i].node;
			text = pl_arena_printf(w->a, "%s%srpc-%u:50052", text, *text ? "," : "", last);
		}
	if (last) {
		pl_put(w, "--rpc");
		pl_put(w, text);
	}
}

static void put_cache(struct pl_words *w, const struct pl_params *p)
{
	if (p->type_k && p->type_k != PL_DTYPE_F16) {
		pl_put(w, "-ctk");
		pl_put(w, pl_dtype_name(p->type_k));
	}
	if (p->type_v && p->type_v != PL_DTYPE_F16) {
		pl_put(w, "-ctv");
		pl_put(w, pl_dtype_name(p->type_v));
	}
	if (p->kv_unified)
		pl_put(w, "--kv-unified");
	if (p->swa_full)
		pl_put(w, "--swa-full");
	if (p->no_kv_offload)
		pl_put(w, "--no-kv-offload");
}

/* Tensors sent elsewhere by name: one flag, as the program keeps only the last. */
static void put_overrides(struct pl_words *w, const struct pl_params *p)
{
	const char *text = "";
	for (uint32_t i = 0; i < p->n_overrides && text; i++)
		text = pl_arena_printf(w->a, "%s%s%s=%s", text, i ? "," : "", p->overrides[i].pattern, p->overrides[i].buffer);
	if (p->n_overrides) {
		pl_put(w, "-ot");
		pl_put(w, text);
	}
	if (p->no_repack)
		pl_put(w, "--no-repack");
	if (p->no_host)
		pl_put(w, "--no-host");
	if (p->no_op_offload)
		pl_put(w, "--no-op-offload");
}

static void put_second_models(struct pl_words *w, const struct pl_params *p, bool gpu)
{
	const struct pl_draft *d = &p->draft;
	if (d->mtp) {
		pl_put(w, "--spec-type");
		pl_put(w, "draft-mtp");
	}
	if (d->ref) {
		bool hub = !strncmp(d->ref, "hf:", 3);
		pl_put(w, hub ? "-hfd" : "-md");
		pl_put(w, hub ? d->ref + 3 : d->ref);
	}
	if (d->ref && gpu && d->n_gpu_layers >= 0)
		pl_put_u64(w, "-ngld", (uint64_t)d->n_gpu_layers);
	if (d->ref && d->n_cpu_moe > 0)
		pl_put_u64(w, "--spec-draft-n-cpu-moe", (uint64_t)d->n_cpu_moe);
	if ((d->ref || d->mtp) && d->type_k && d->type_k != PL_DTYPE_F16) {
		pl_put(w, "-ctkd");
		pl_put(w, pl_dtype_name(d->type_k));
	}
	if ((d->ref || d->mtp) && d->type_v && d->type_v != PL_DTYPE_F16) {
		pl_put(w, "-ctvd");
		pl_put(w, pl_dtype_name(d->type_v));
	}
	if ((d->ref || d->mtp) && d->n_max)
		pl_put_u64(w, "--spec-draft-n-max", d->n_max);
	if (p->mmproj_ref) {
		bool remote = !strncmp(p->mmproj_ref, "https://", 8) || !strncmp(p->mmproj_ref, "http://", 7);
		pl_put(w, remote ? "-mmu" : "-mm");
		pl_put(w, p->mmproj_ref);
	}
	if (p->mmproj_ref && p->mmproj_on_cpu)
		pl_put(w, "--no-mmproj-offload");
}

int ll_command(struct pl_arena *a, const struct pl_model *m, const char *model_ref, const struct pl_machine *hw,
               const struct pl_params *p, const struct pl_layout *l, struct pl_argv *ret_argv, struct pl_err *err)
{
	struct pl_words w = {.a = a};
	bool gpu = hw->n_devices > 0;
	(void)l;
	pl_put(&w, "llama-server");
	put_model(&w, m, model_ref);
	put_rpc(&w, hw);
	pl_put_u64(&w, "-c", pl_sat_mul(p->n_ctx_tokens, p->n_seq));
	pl_put_u64(&w, "-np", p->n_seq); /* always: without it the server takes four slots and a unified cache */
	if (gpu && p->n_gpu_layers >= 0)
		pl_put_u64(&w, "-ngl", (uint64_t)p->n_gpu_layers);
	if (gpu && p->n_cpu_moe > 0)
		pl_put_u64(&w, "--n-cpu-moe", (uint64_t)p->n_cpu_moe);
	if (gpu)
		put_split(&w, hw, p);
	if (p->flash_attn >= 0) {
		pl_put(&w, "-fa");
		pl_put(&w, p->flash_attn ? "on" : "off");
	}
	put_cache(&w, p);
	put_overrides(&w, p);
	put_second_models(&w, p, gpu);
	if (p->n_batch != 2048)
		pl_put_u64(&w, "-b", p->n_batch);
	if (p->n_ubatch != 512)
		pl_put_u64(&w, "-ub", p->n_ubatch);
	if (p->mlock || p->no_mmap) {
		pl_put(&w, "-lm");
		pl_put(&w, p->mlock ? (p->no_mmap ? "mlock" : "mmap+mlock") : "none");
	}
	if (gpu) { /* the placement above is final */
		pl_put(&w, "-fit");
		pl_put(&w, "off");
	}
	return pl_words_argv(&w, model_ref, ret_argv, err);
}
