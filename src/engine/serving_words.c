/* Formats and words that the GPU servers share. */
#include <string.h>
#include <strings.h>

#include "base/checked.h"
#include "engine/serving.h"

enum pl_dtype sv_main_type(const struct pl_model *m)
{
	uint64_t bytes[PL_DTYPE_COUNT] = {0};
	unsigned most = PL_DTYPE_UNKNOWN;
	for (uint32_t i = 0; i < m->n_tensors; i++) {
		const struct pl_tensor *t = &m->tensors[i];
		if (t->n_dims < 2 || t->role == PL_ROLE_TOKEN_EMBD || t->role == PL_ROLE_OUTPUT || t->group == PL_GROUP_VISION)
			continue;
		bytes[t->type] = pl_sat_add(bytes[t->type], t->bytes);
		if (bytes[t->type] > bytes[most])
			most = t->type;
	}
	return (enum pl_dtype)most;
}

bool sv_named(const struct pl_model *m, const char *scheme)
{
	return m->quant_name && !strncasecmp(m->quant_name, scheme, strlen(scheme));
}

const char *sv_foreign_format(struct pl_arena *a, const struct pl_model *m, const char *engine)
{
	enum pl_dtype t = sv_main_type(m);
	const struct pl_dtype_info *d = pl_dtype_info(t);
	if (m->format == PL_FORMAT_GGUF)
		return pl_arena_printf(a, pl_tr("%s is planned on the original checkpoint, not on GGUF files"), engine);
	if (sv_named(m, "mlx"))
		return pl_arena_printf(a, pl_tr("MLX precisions run on Apple's MLX only, not in %s"), engine);
	if (d->ggml_id >= 0 && d->block_elems > 1 && t != PL_DTYPE_MXFP4 && t != PL_DTYPE_NVFP4)
		return pl_arena_printf(a, pl_tr("%s has no kernels for weights in %s"), engine, pl_dtype_name(t));
	return NULL;
}

static bool is_plain(const struct pl_model *m)
{
	enum pl_dtype t = sv_main_type(m);
	return t == PL_DTYPE_BF16 || t == PL_DTYPE_F16 || t == PL_DTYPE_F32;
}

const char *sv_made_on_load(const struct pl_model *m)
{
	if (m->format != PL_FORMAT_CONFIG || is_plain(m) || m->quant_stored || !m->quant_name)
		return NULL;
	if (!strcasecmp(m->quant_name, "fp8") || !strcasecmp(m->quant_name, "fp8-dynamic"))
		return "fp8";
	if (!strcasecmp(m->quant_name, "nf4") || !strcasecmp(m->quant_name, "bnb-nf4"))
		return "bitsandbytes";
	return NULL;
}

const char *sv_model_word(struct pl_arena *a, const struct pl_model *m, const char *ref, bool on_load)
{
	if (!strncmp(ref, "hf:", 3))
		ref += 3;
	if (m->format != PL_FORMAT_CONFIG || is_plain(m) || m->quant_stored || on_load)
		return ref;
	const char *slash = strrchr(ref, '/');
	return pl_arena_printf(a, "./%s-%s", slash && slash[1] ? slash + 1 : ref, m->quant_name ? m->quant_name : "quantised");
}
