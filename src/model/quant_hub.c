/* Bytes of the schemes that Hugging Face checkpoints use. Layouts: AutoGPTQ / GPTQModel (qweight int32 [in·bits/32, out], qzeros,
 * scales fp16, g_idx int32), AutoAWQ, bitsandbytes (SCB, absmax, quant_state), compressed-tensors, ModelOpt, MLX. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "model/quant.h"

static const struct {
	const char *name;
	struct pl_scheme scheme;
} schemes[] = {
    {"gptq-int4", {PL_PACK_GPTQ, 4, 128, false, false}}, {"gptq-int8", {PL_PACK_GPTQ, 8, 128, false, false}},
    {"gptq-int3", {PL_PACK_GPTQ, 3, 128, false, false}}, {"gptq-int2", {PL_PACK_GPTQ, 2, 128, false, false}},
    {"awq-int4", {PL_PACK_AWQ, 4, 128, false, false}},   {"w4a16", {PL_PACK_INT4_GROUP, 4, 128, false, false}},
    {"int8", {PL_PACK_BNB_INT8, 8, 0, false, false}},    {"bnb-int8", {PL_PACK_BNB_INT8, 8, 0, false, false}},
    {"nf4", {PL_PACK_BNB_4BIT, 4, 64, true, false}},     {"bnb-nf4", {PL_PACK_BNB_4BIT, 4, 64, true, false}},
    {"fp8", {PL_PACK_FP8_TENSOR, 8, 0, false, true}},    {"fp8-dynamic", {PL_PACK_FP8_CHANNEL, 8, 0, false, false}},
    {"fp8-block", {PL_PACK_FP8_BLOCK, 8, 128, false, false}}, {"w8a8-int8", {PL_PACK_INT8_CHANNEL, 8, 0, false, false}},
    {"nvfp4", {PL_PACK_NVFP4, 4, 16, false, false}},     {"mxfp4", {PL_PACK_MXFP4, 4, 32, false, false}},
    {"mxfp8", {PL_PACK_MXFP8, 8, 32, false, false}},     {"mlx-4bit", {PL_PACK_MLX, 4, 64, false, false}},
    {"mlx-8bit", {PL_PACK_MLX, 8, 64, false, false}},    {"mlx-6bit", {PL_PACK_MLX, 6, 64, false, false}},
    {"mlx-5bit", {PL_PACK_MLX, 5, 64, false, false}},    {"mlx-3bit", {PL_PACK_MLX, 3, 64, false, false}},
};

bool pl_quant_scheme_find(const char *name, struct pl_scheme *ret)
{
	for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
		size_t n = strlen(schemes[i].name);
		if (strncasecmp(name, schemes[i].name, n))
			continue;
		const char *rest = name + n;
		*ret = schemes[i].scheme;
		if (!*rest)
			return true;
		/* "-g64": another group size */
		char *end;
		unsigned long group = (rest[0] == '-' && (rest[1] == 'g' || rest[1] == 'G')) ? strtoul(rest + 2, &end, 10) : 0;
		bool has_groups = ret->pack == PL_PACK_GPTQ || ret->pack == PL_PACK_AWQ || ret->pack == PL_PACK_INT4_GROUP ||
		                  ret->pack == PL_PACK_MLX;
		if (group >= 8 && group <= 4096 && !*end && has_groups) {
			ret->group = (uint32_t)group;
			return true;
		}
	}
	return false;
}

bool pl_quant_is_linear(const struct pl_tensor *t)
{
	switch (t->role) {
	case PL_ROLE_ATTN_Q:
	case PL_ROLE_ATTN_K:
	case PL_ROLE_ATTN_V:
	case PL_ROLE_ATTN_QKV:
	case PL_ROLE_ATTN_OUT:
	case PL_ROLE_ATTN_GATE:
	case PL_ROLE_ATTN_Q_A:
	case PL_ROLE_ATTN_Q_B:
	case PL_ROLE_ATTN_KV_A_MQA:
	case PL_ROLE_ATTN_KV_B:
	case PL_ROLE_ATTN_K_B:
	case PL_ROLE_ATTN_V_B:
	case PL_ROLE_INDEXER_Q_B:
	case PL_ROLE_INDEXER_K:
	case PL_ROLE_FFN_GATE:
	case PL_ROLE_FFN_UP:
	case PL_ROLE_FFN_GATE_UP:
	case PL_ROLE_FFN_DOWN:
	case PL_ROLE_EXPERT_GATE:
	case PL_ROLE_EXPERT_UP:
	case PL_ROLE_EXPERT_GATE_UP:
	case PL_ROLE_EXPERT_DOWN:
	case PL_ROLE_EXPERT_LATENT_DOWN:
	case PL_ROLE_EXPERT_LATENT_UP:
	case PL_ROLE_SHARED_GATE:
	case PL_ROLE_SHARED_UP:
	case PL_ROLE_SHARED_DOWN:
	case PL_ROLE_SSM_IN:
	case PL_ROLE_SSM_OUT:
	case PL_ROLE_SSM_X:
	case PL_ROLE_SHORTCONV_IN:
	case PL_ROLE_SHORTCONV_OUT:
	case PL_ROLE_PER_LAYER_INP_GATE:
	case PL_ROLE_PER_LAYER_INP_PROJ:
		return !t->is_bias && t->n_dims >= 2;
	default:
		return false;
	}
}

/* One matrix of `in` × `out`; latent attention's halves of kv_b count as one matrix of all heads. */
static uint64_t matrix_bytes(const struct pl_scheme *s, uint64_t in, uint64_t out, uint64_t *ret_ok)
{
	uint64_t n = in * out, groups = s->group ? pl_ceil_div(in, s->group) : 0;
	*ret_ok = 1;
	switch (s->pack) {
	case PL_PACK_GPTQ:
		*ret_ok = in % 32 == 0 && out % 8 == 0;
		return in * s->bits / 32 * 4 * out + groups * (out * s->bits / 32 * 4) + groups * out * 2 + in * 4;
	case PL_PACK_AWQ:
		*ret_ok = out % 8 == 0;
		return n / 2 + groups * (out / 2) + groups * out * 2;
	case PL_PACK_BNB_INT8:
		return n + out * 4 + 1;
	case PL_PACK_BNB_4BIT: {
		uint64_t blocks = pl_ceil_div(n, 64);
		uint64_t absmax = s->double_quant ? blocks + pl_ceil_div(blocks, 256) * 4 + 256 * 4 : blocks * 4;
		return pl_ceil_div(n, 2) + absmax + 16 * 4;
	}
	case PL_PACK_FP8_TENSOR:
		return n + 4 + (s->static_input ? 4 : 0);
	case PL_PACK_FP8_CHANNEL:
	case PL_PACK_INT8_CHANNEL:
		return n + out * 2;
	case PL_PACK_FP8_BLOCK:
		return n + pl_ceil_div(in, s->group) * pl_ceil_div(out, s->group) * 4;
	case PL_PACK_INT4_GROUP:
		*ret_ok = in % 8 == 0;
		return n * s->bits / 8 + groups * out * 2 + 16;
	case PL_PACK_NVFP4:
		*ret_ok = in % 16 == 0;
		return n / 2 + n / 16 + 8;
	case PL_PACK_MXFP4:
		*ret_ok = in % 32 == 0;
		return n / 2 + n / 32;
	case PL_PACK_MXFP8:
		*ret_ok = in % 32 == 0;
		return n + n / 32;
	case PL_PACK_MLX:
		*ret_ok = in % s->group == 0 && in * s->bits % 32 == 0;
		return n * s->bits / 8 + n / s->group * 4;
	default:
		*ret_ok = 0;
		return 0;
	}
}

static enum pl_dtype stored_type(const struct pl_scheme *s)
{
	switch (s->pack) {
	case PL_PACK_BNB_INT8:
	case PL_PACK_INT8_CHANNEL:
		return PL_DTYPE_I8;
	case PL_PACK_BNB_4BIT:
		return PL_DTYPE_NF4;
	case PL_PACK_FP8_TENSOR:
	case PL_PACK_FP8_CHANNEL:
	case PL_PACK_FP8_BLOCK:
	case PL_PACK_MXFP8:
		return PL_DTYPE_F8_E4M3;
	case PL_PACK_NVFP4:
	case PL_PACK_MXFP4:
		return PL_DTYPE_F4;
	default:
		return s->bits == 8 ? PL_DTYPE_I8 : PL_DTYPE_INT4;
	}
}

bool pl_quant_pack(const struct pl_scheme *s, struct pl_tensor *t)
{
	uint64_t in = t->ne[0], out = t->ne[1], count = t->n_stacked ? t->n_stacked : 1, ok, bytes;
	if (t->role == PL_ROLE_ATTN_K_B || t->role == PL_ROLE_ATTN_V_B) {
		/* stored as rows of one matrix over the latent vector */
		in = t->role == PL_ROLE_ATTN_K_B ? t->ne[1] : t->ne[0];
		out = in ? t->n_elems / in : 0;
		count = 1;
	}
	if (in > UINT32_MAX || out > UINT32_MAX)
		return false;
	bytes = matrix_bytes(s, in, out, &ok);
	if (!ok)
		return true;
	t->type = stored_type(s);
	return pl_mul_u64(bytes, count, &t->bytes);
}
