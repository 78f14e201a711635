/* Recurrent and hybrid families. */
#include <string.h>

#include "model/families/families.h"

static void mamba1(struct pl_family *f, struct pl_layer *l)
{
	uint32_t expand = U32(f, 2, 64, "expand", "mamba_expand");
	uint64_t inner = (uint64_t)expand * f->m->n_embd;
	l->rec = PL_REC_MAMBA1;
	l->d_inner = U32(f, inner < PL_MAX_DIM ? (uint32_t)inner : PL_MAX_DIM, PL_MAX_DIM, "d_inner");
	if (!strcmp(f->m->arch, "mamba"))
		l->d_inner = inner < PL_MAX_DIM ? (uint32_t)inner : PL_MAX_DIM;
	l->d_state = U32(f, 16, PL_MAX_DIM, "state_size", "mamba_d_state", "d_state");
	l->d_conv = U32(f, 4, 64, "conv_kernel", "mamba_d_conv", "d_conv");
	l->dt_rank = U32(f, (f->m->n_embd + 15) / 16, PL_MAX_DIM, "time_step_rank", "mamba_dt_rank", "dt_rank");
}

static void mamba2(struct pl_family *f, struct pl_layer *l)
{
	uint32_t d_head = U32(f, 64, PL_MAX_DIM, "mamba_head_dim", "mamba_d_head");
	uint64_t inner;
	l->rec = PL_REC_MAMBA2;
	l->rec_heads = U32(f, 0, PL_MAX_HEADS, "mamba_num_heads", "mamba_n_heads");
	inner = (uint64_t)l->rec_heads * d_head;
	l->d_inner = inner < PL_MAX_DIM ? (uint32_t)inner : PL_MAX_DIM;
	l->d_state = U32(f, 128, PL_MAX_DIM, "ssm_state_size", "mamba_d_state");
	l->d_conv = U32(f, 4, 64, "conv_kernel", "mamba_d_conv");
	l->n_group = U32(f, 1, PL_MAX_HEADS, "n_groups", "mamba_n_groups");
	if (!l->rec_heads)
		pl_cfg_fail(f, "key 'mamba_num_heads' is missing or 0");
}

int pl_read_mamba(struct pl_family *f)
{
	f->m->tied_output = pl_cfg_bool(f, "tie_word_embeddings", true);
	f->n_head = 0;
	for (uint32_t i = 0; i < f->m->n_layers && !f->rc; i++) {
		f->layers[i].attn = PL_ATTN_NONE;
		f->layers[i].ffn = PL_FFN_NONE;
		mamba1(f, &f->layers[i]);
	}
	return f->rc;
}

int pl_read_jamba(struct pl_family *f)
{
	uint32_t attn_period = U32(f, 8, 1024, "attn_layer_period"), attn_offset = U32(f, 4, 1024, "attn_layer_offset");
	uint32_t moe_period = U32(f, 2, 1024, "expert_layer_period"), moe_offset = U32(f, 1, 1024, "expert_layer_offset");
	uint32_t n_expert = U32(f, 1, PL_MAX_EXPERTS, "num_experts");
	for (uint32_t i = 0; i < f->m->n_layers && !f->rc; i++) {
		struct pl_layer *l = &f->layers[i];
		if (!attn_period || i % attn_period != attn_offset) {
			l->attn = PL_ATTN_NONE;
			mamba1(f, l);
		}
		if (n_expert > 1 && moe_period && i % moe_period == moe_offset) {
			l->ffn = PL_FFN_MOE;
			l->n_expert = n_expert;
			l->n_expert_used = U32(f, 2, PL_MAX_EXPERTS, "num_experts_per_tok");
			l->n_ff_expert = f->n_ff;
		}
	}
	return f->rc;
}

/* "M-M*E…": one mixer a layer. */
int pl_read_nemotron_h(struct pl_family *f)
{
	const json_t *v = pl_cfg_get(f, "hybrid_override_pattern");
	const char *pattern = json_is_string(v) ? json_string_value(v) : "";
	if (strlen(pattern) < f->m->n_layers)
		return pl_cfg_fail(f, "key 'hybrid_override_pattern' names %zu layers, the model has %u", strlen(pattern), f->m->n_layers);
	f->moe_latent = U32(f, 0, PL_MAX_DIM, "moe_latent_size");
	if (strchr(pattern, 'E'))
		f->m->arch = "nemotron_h_moe";
	f->m->n_layers_mtp = 0; /* its MTP block is a small pattern of its own: see the config's mtp_hybrid_override_pattern */
	for (uint32_t i = 0; i < f->m->n_layers && !f->rc; i++) {
		struct pl_layer *l = &f->layers[i];
		char kind = pattern[i];
		l->attn = kind == '*' ? PL_ATTN_GQA : PL_ATTN_NONE;
		l->ffn = kind == '-' ? PL_FFN_PLAIN : kind == 'E' ? PL_FFN_MOE : PL_FFN_NONE;
		if (kind == 'M')
			mamba2(f, l);
		if (kind != 'E')
			continue;
		l->n_expert = U32(f, 0, PL_MAX_EXPERTS, "n_routed_experts");
		l->n_expert_used = U32(f, 0, PL_MAX_EXPERTS, "num_experts_per_tok");
		l->n_ff_expert = U32(f, 0, PL_MAX_DIM, "moe_intermediate_size");
		l->n_expert_shared = U32(f, 0, PL_MAX_EXPERTS, "n_shared_experts");
		l->n_ff_shared = l->n_expert_shared * U32(f, l->n_ff_expert, PL_MAX_DIM, "moe_shared_expert_intermediate_size");
	}
	return f->rc;
}

int pl_read_granite_hybrid(struct pl_family *f)
{
	uint32_t n_expert = U32(f, 0, PL_MAX_EXPERTS, "num_local_experts"), shared = U32(f, 0, PL_MAX_DIM, "shared_intermediate_size");
	for (uint32_t i = 0; i < f->m->n_layers && !f->rc; i++) {
		struct pl_layer *l = &f->layers[i];
		if (!pl_cfg_layer_is(f, "layer_types", i, "attention")) {
			l->attn = PL_ATTN_NONE;
			mamba2(f, l);
		}
		if (n_expert) {
			l->ffn = PL_FFN_MOE;
			l->n_expert = n_expert;
			l->n_expert_used = U32(f, 0, PL_MAX_EXPERTS, "num_experts_per_tok");
			l->n_ff_expert = f->n_ff;
			l->n_expert_shared = shared ? 1 : 0;
			l->n_ff_shared = shared;
		} else if (shared) {
			l->n_ff = shared;
		}
	}
	return f->rc;
}

int pl_read_falcon_h1(struct pl_family *f)
{
	if (pl_cfg_bool(f, "mamba_rms_norm", false))
		f->traits &= ~(uint32_t)T_SSM_NO_NORM;
	for (uint32_t i = 0; i < f->m->n_layers && !f->rc; i++) {
		mamba2(f, &f->layers[i]);
		f->layers[i].d_inner = U32(f, f->layers[i].d_inner, PL_MAX_DIM, "mamba_d_ssm");
	}
	return f->rc;
}

/* LFM2: full attention where the list says so, short convolutions elsewhere; the feed forward is two thirds, rounded. */
int pl_read_lfm2(struct pl_family *f)
{
	uint32_t ff = U32(f, f->n_ff, PL_MAX_DIM, "block_ff_dim", "intermediate_size"), unit = U32(f, 256, 65536, "block_multiple_of");
	const json_t *full = pl_cfg_get(f, "full_attn_idxs");
	if (pl_cfg_bool(f, "block_auto_adjust_ff_dim", false)) {
		const json_t *mult = pl_cfg_get(f, "block_ffn_dim_multiplier");
		double m = json_is_number(mult) ? json_number_value(mult) : 1;
		ff = (uint32_t)(m * (uint32_t)(2.0 * ff / 3));
		ff = unit ? (ff + unit - 1) / unit * unit : ff;
	}
	f->m->tied_output = pl_cfg_bool(f, "tie_embedding", pl_cfg_bool(f, "tie_word_embeddings", true));
	for (uint32_t i = 0; i < f->m->n_layers && !f->rc; i++) {
		struct pl_layer *l = &f->layers[i];
		bool attends = pl_cfg_layer_is(f, "layer_types", i, "full_attention");
		for (size_t k = 0; k < json_array_size(full); k++)
			attends = attends || json_integer_value(json_array_get(full, k)) == (json_int_t)i;
		l->n_ff = ff;
		if (attends)
			continue;
		l->attn = PL_ATTN_NONE;
		l->rec = PL_REC_SHORTCONV;
		l->d_inner = f->m->n_embd;
		l->d_conv = U32(f, 3, 64, "conv_L_cache");
	}
	return f->rc;
}

static void delta_layer(struct pl_family *f, struct pl_layer *l)
{
	l->attn = PL_ATTN_NONE;
	l->rec = PL_REC_DELTANET;
	l->rec_k_heads = U32(f, 16, PL_MAX_HEADS, "linear_num_key_heads");
	l->rec_heads = U32(f, 32, PL_MAX_HEADS, "linear_num_value_heads");
	l->rec_d_k = U32(f, 128, PL_MAX_DIM, "linear_key_head_dim");
	l->rec_d_v = U32(f, 128, PL_MAX_DIM, "linear_value_head_dim");
	l->d_conv = U32(f, 4, 64, "linear_conv_kernel_dim");
}

/* Qwen3-Next and Qwen3.5: one gated attention layer in full_attention_interval, gated DeltaNet elsewhere. */
int pl_read_qwen_next(struct pl_family *f)
{
	uint32_t interval = U32(f, 4, 1024, "full_attention_interval"), n = f->m->n_layers + f->m->n_layers_mtp;
	uint32_t n_expert = U32(f, 0, PL_MAX_EXPERTS, "num_experts");
	const json_t *types = pl_cfg_get(f, "layer_types");
	for (uint32_t i = 0; i < n && !f->rc; i++) {
		struct pl_layer *l = &f->layers[i];
		bool attends = json_is_array(types) ? pl_cfg_layer_is(f, "layer_types", i, "full_attention")
		                                    : interval && (i + 1) % interval == 0;
		l->q_gated = true;
		if (!attends && !l->is_mtp)
			delta_layer(f, l);
		if (!n_expert)
			continue;
		l->ffn = PL_FFN_MOE;
		l->n_expert = n_expert;
		l->n_expert_used = U32(f, 0, PL_MAX_EXPERTS, "num_experts_per_tok");
		l->n_ff_expert = U32(f, 0, PL_MAX_DIM, "moe_intermediate_size");
		l->n_ff_shared = U32(f, 0, PL_MAX_DIM, "shared_expert_intermediate_size");
		l->n_expert_shared = l->n_ff_shared ? 1 : 0;
	}
	return f->rc;
}
