#include <string.h>

#include "model/quant.h"


const char *const *pl_quant_names(void)
{
	static const char *const all[] = {
	    "f32",      "f16",     "bf16",    "q8_0",    "q6_k",        "q5_k_m",    "q5_k_s",    "q5_1",    "q5_0",     "q4_k_m",
	    "q4_k_s",   "q4_1",    "q4_0",    "iq4_nl",  "iq4_xs",      "q3_k_l",    "q3_k_m",    "q3_k_s",  "iq3_m",    "iq3_s",
	    "iq3_xs",   "iq3_xxs", "q2_k",    "q2_k_s",  "iq2_m",       "iq2_s",     "iq2_xs",    "iq2_xxs", "iq1_m",    "iq1_s",
	    "tq2_0",    "tq1_0",   "mxfp4_moe", "fp8",   "fp8-dynamic", "fp8-block", "w8a8-int8", "int8",    "gptq-int8", "gptq-int4",
	    "gptq-int3", "gptq-int2", "awq-int4", "w4a16", "nf4",        "nvfp4",     "mxfp4",     "mxfp8",   "mlx-8bit", "mlx-6bit",
	    "mlx-5bit", "mlx-4bit", "mlx-3bit", NULL};
	return all;
}

static bool is_plain(enum pl_dtype t)
{
	return t == PL_DTYPE_F32 || t == PL_DTYPE_F16 || t == PL_DTYPE_BF16;
}

/* What a GGUF file holds of a checkpoint: no towers (they go into an mmproj file), and the layers that predict further tokens
 * only where llama.cpp's converter keeps them. */
static bool in_gguf(const struct pl_model *m, const struct pl_tensor *t)
{
	if (t->group == PL_GROUP_VISION)
		return false;
	return t->group != PL_GROUP_MTP || !strcmp(m->arch, "glm4moe") || !strcmp(m->arch, "glm-dsa") || m->format == PL_FORMAT_GGUF;
}

/* MLX checkpoints keep the towers and drop what predicts further tokens. */
static uint32_t copy_tensors(const struct pl_model *m, bool gguf, bool mlx, struct pl_tensor *to)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < m->n_tensors; i++)
		if (gguf ? in_gguf(m, &m->tensors[i]) : !mlx || m->tensors[i].group != PL_GROUP_MTP)
			to[n++] = m->tensors[i];
	return n;
}

static int apply_hub(const struct pl_scheme *s, struct pl_tensor *tensors, uint32_t n, const char *name, struct pl_err *err)
{
	for (uint32_t i = 0; i < n; i++) {
		struct pl_tensor *t = &tensors[i];
		bool embedding = t->role == PL_ROLE_TOKEN_EMBD || t->role == PL_ROLE_OUTPUT || t->role == PL_ROLE_PER_LAYER_EMBD;
		bool mlx = s->pack == PL_PACK_MLX && t->n_dims >= 2 && !t->is_bias && (embedding || t->role == PL_ROLE_ROUTER);
		if ((mlx || pl_quant_is_linear(t)) && !pl_quant_pack(s, t))
			return pl_fail(err, PL_ERR_RANGE, name, "tensor '%s' is larger than any machine", t->name);
	}
	return 0;
}

static int unknown(const char *quant, struct pl_err *err)
{
	const char *near = NULL;
	size_t best = 2;
	for (const char *const *q = pl_quant_names(); *q; q++) {
		size_t same = 0;
		while ((*q)[same] && ((*q)[same] | 32) == (quant[same] | 32))
			same++;
		if (same > best) {
			best = same;
			near = *q;
		}
	}
	if (near)
		return pl_fail(err, PL_ERR_UNKNOWN_NAME, "--quant", "no precision is called '%.60s'; did you mean %s?", quant, near);
	return pl_fail(err, PL_ERR_UNKNOWN_NAME, "--quant", "no precision is called '%.60s'; `plimsoll show quant` lists them", quant);
}

static int check_source(const struct pl_model *m, const char *quant, struct pl_err *err)
{
	for (uint32_t i = 0; i < m->n_tensors && m->format != PL_FORMAT_CONFIG; i++)
		if (!is_plain(m->tensors[i].type) && m->tensors[i].n_dims > 1)
			return pl_fail(err, PL_ERR_UNSUPPORTED, "--quant",
			               "the file is already %s: '%.40s' can only be planned from a 16- or 32-bit model",
			               m->quant_name ? m->quant_name : "quantised", quant);
	return 0;
}

int pl_model_requantise(struct pl_arena *a, const struct pl_model *m, const char *quant, const struct pl_model **ret_model,
                        struct pl_err *err)
{
	struct pl_scheme scheme;
	/* "gguf-bf16": the 16-bit GGUF file rather than the checkpoint; vectors in 32 bit, no towers */
	bool file = !strncasecmp(quant, "gguf-", 5);
	quant += file ? 5 : 0;
	bool ggml = pl_quant_ggml_known(quant), plain16 = !strcasecmp(quant, "bf16") || !strcasecmp(quant, "f16") || !strcasecmp(quant, "f32");
	plain16 = plain16 && !file && m->format == PL_FORMAT_CONFIG;
	bool hub = pl_quant_scheme_find(quant, &scheme);
	if (!ggml && !hub)
		return unknown(quant, err);
	int rc = check_source(m, quant, err);
	struct pl_model *out = PL_NEW(a, struct pl_model);
	struct pl_tensor *tensors = PL_NEW_N(a, struct pl_tensor, m->n_tensors ? m->n_tensors : 1);
	if (rc)
		return rc;
	if (!out || !tensors)
		return pl_fail(err, PL_ERR_NOMEM, "--quant", "out of memory while choosing the precision");
	*out = *m;
	/* "bf16" and "f16" mean the checkpoint itself: towers stay, vectors keep their 16 bits */
	uint32_t n = copy_tensors(m, ggml && !plain16, hub && scheme.pack == PL_PACK_MLX, tensors);
	out->quant_name = pl_arena_strdup(a, quant);
	out->quant_stored = false;
	if (plain16) {
		enum pl_dtype type = pl_dtype_from_name(quant);
		for (uint32_t i = 0; i < n; i++) {
			tensors[i].type = type;
			tensors[i].bytes = tensors[i].n_elems * pl_dtype_info(type)->block_bytes;
		}
	} else {
		rc = ggml ? pl_quant_ggml_apply(quant, m, tensors, n, err) : apply_hub(&scheme, tensors, n, quant, err);
	}
	bool has_mtp = false;
	for (uint32_t i = 0; i < n; i++)
		has_mtp = has_mtp || tensors[i].group == PL_GROUP_MTP;
	if (!has_mtp)
		out->n_layers_mtp = 0;
	if (!rc)
		rc = pl_model_finish(a, out, tensors, n, err);
	if (!rc)
		rc = pl_graph_build(a, out, err); /* tensors may have new places */
	if (!rc)
		*ret_model = out;
	return rc;
}
