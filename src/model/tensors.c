/* Layers → the tensors of the plain model: GGUF names and dimensions, as llama.cpp's converter writes them. */
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "model/families/families.h"

static const char *tensor_name(struct pl_family *f, int32_t layer, enum pl_role role, bool is_bias)
{
	const char *base = pl_role_info(role)->gguf_name;
	const char *end = is_bias ? ".bias" : ".weight";
	if (role == PL_ROLE_SSM_A || role == PL_ROLE_SSM_D)
		end = ""; /* parameters of their own, not a module's weight */
	if (role == PL_ROLE_ROUTER_BIAS)
		end = ".bias";
	if (role == PL_ROLE_ROUTER_SCALE || role == PL_ROLE_EXPERT_SCALE)
		end = "";
	if (layer < 0)
		return pl_arena_printf(f->a, "%s%s", base, end);
	return pl_arena_printf(f->a, "blk.%d.%s%s", layer, base, end);
}

void pl_emit(struct pl_family *f, int32_t layer, enum pl_role role, bool is_bias, uint64_t ne0, uint64_t ne1,
             uint32_t stacked)
{
	uint64_t n;
	if (!ne0 || !stacked || f->rc || !f->list)
		return;
	struct pl_tensor *t = pl_tensor_add(f->list);
	if (!t) {
		f->rc = pl_fail(f->err, PL_ERR_NOMEM, f->m->name, "out of memory while building the model");
		return;
	}
	t->name = tensor_name(f, layer, role, is_bias);
	t->ne[0] = ne0;
	t->ne[1] = ne1 ? ne1 : 1;
	t->ne[2] = stacked;
	t->n_dims = stacked > 1 ? 3 : ne1 ? 2 : 1;
	if (stacked > 1 && !ne1) { /* a bias of each expert */
		t->ne[1] = stacked;
		t->ne[2] = 1;
		t->n_dims = 2;
	}
	t->n_stacked = stacked;
	t->role = role;
	t->group = pl_role_info(role)->group;
	t->layer = layer;
	t->is_bias = is_bias;
	t->type = PL_DTYPE_BF16;
	if (!pl_mul_u64(ne0, ne1 ? ne1 : 1, &n) || !pl_mul_u64(n, stacked, &t->n_elems) || t->n_elems > UINT64_MAX / 8) {
		f->rc = pl_fail(f->err, PL_ERR_RANGE, f->m->name, "tensor '%s' is larger than any machine", t->name);
		return;
	}
	if (layer >= (int32_t)f->m->n_layers)
		t->group = PL_GROUP_MTP;
}

void pl_emit_tower(struct pl_family *f, enum pl_group group, uint64_t n_elems)
{
	enum pl_role role = group == PL_GROUP_VISION ? PL_ROLE_VISION : PL_ROLE_ENCODER;
	pl_emit(f, -1, role, false, n_elems, 0, 1);
	if (!f->rc && f->list && n_elems)
		f->list->items[f->list->n - 1].group = group;
}

static void norm(struct pl_family *f, int32_t il, enum pl_role role)
{
	if (f->traits & T_NO_NORMS)
		return;
	pl_emit(f, il, role, false, f->m->n_embd, 0, 1);
	if (f->traits & T_NORM_BIAS)
		pl_emit(f, il, role, true, f->m->n_embd, 0, 1);
}

static void linear(struct pl_family *f, int32_t il, enum pl_role role, uint64_t in, uint64_t out, bool bias)
{
	pl_emit(f, il, role, false, in, out, 1);
	if (bias)
		pl_emit(f, il, role, true, out, 0, 1);
}

static void qk_norms(struct pl_family *f, int32_t il, const struct pl_layer *l)
{
	uint64_t q = (uint64_t)l->n_head * l->d_k, k = (uint64_t)l->n_head_kv * l->d_k;
	if (!(f->traits & (T_QK_NORM_HEAD | T_QK_NORM_FULL)))
		return;
	pl_emit(f, il, PL_ROLE_ATTN_Q_NORM, false, f->traits & T_QK_NORM_FULL ? q : l->d_k, 0, 1);
	pl_emit(f, il, PL_ROLE_ATTN_K_NORM, false, f->traits & T_QK_NORM_FULL ? k : l->d_k, 0, 1);
}

static void gqa(struct pl_family *f, int32_t il, const struct pl_layer *l)
{
	uint64_t h = f->m->n_embd, q = (uint64_t)l->n_head * l->d_k, k = (uint64_t)l->n_head_kv * l->d_k,
	         v = (uint64_t)l->n_head_kv * l->d_v;
	bool bias = f->traits & T_QKV_BIAS;
	if (f->traits & T_FUSED_QKV) {
		linear(f, il, PL_ROLE_ATTN_QKV, h, q + k + v, bias);
	} else {
		linear(f, il, PL_ROLE_ATTN_Q, h, l->q_gated ? 2 * q : q, bias);
		linear(f, il, PL_ROLE_ATTN_K, h, k, bias);
		if (!l->k_is_v)
			linear(f, il, PL_ROLE_ATTN_V, h, v, bias);
	}
	linear(f, il, PL_ROLE_ATTN_OUT, (uint64_t)l->n_head * l->d_v, h, f->traits & T_O_BIAS);
	qk_norms(f, il, l);
	if (f->traits & T_SINKS)
		pl_emit(f, il, PL_ROLE_ATTN_SINKS, false, l->n_head, 0, 1);
}

static void mla(struct pl_family *f, int32_t il, const struct pl_layer *l)
{
	uint64_t h = f->m->n_embd, d_q = (uint64_t)l->n_head * (l->d_nope + l->d_rope);
	uint32_t d_v = l->d_v;
	if (l->q_lora) {
		linear(f, il, PL_ROLE_ATTN_Q_A, h, l->q_lora, false);
		pl_emit(f, il, PL_ROLE_ATTN_Q_A_NORM, false, l->q_lora, 0, 1);
		linear(f, il, PL_ROLE_ATTN_Q_B, l->q_lora, d_q, false);
	} else {
		linear(f, il, PL_ROLE_ATTN_Q, h, d_q, false);
	}
	linear(f, il, PL_ROLE_ATTN_KV_A_MQA, h, (uint64_t)l->kv_lora + l->d_rope, false);
	pl_emit(f, il, PL_ROLE_ATTN_KV_A_NORM, false, l->kv_lora, 0, 1);
	/* kv_b_proj in the two pieces that absorbed attention reads */
	pl_emit(f, il, PL_ROLE_ATTN_K_B, false, l->d_nope, l->kv_lora, l->n_head);
	pl_emit(f, il, PL_ROLE_ATTN_V_B, false, l->kv_lora, d_v, l->n_head);
	linear(f, il, PL_ROLE_ATTN_OUT, (uint64_t)l->n_head * d_v, h, false);
	if (l->indexer_heads) {
		linear(f, il, PL_ROLE_INDEXER_Q_B, l->q_lora, (uint64_t)l->indexer_heads * l->indexer_dim, false);
		linear(f, il, PL_ROLE_INDEXER_K, h, l->indexer_dim, false);
		pl_emit(f, il, PL_ROLE_INDEXER_K_NORM, false, l->indexer_dim, 0, 1);
		pl_emit(f, il, PL_ROLE_INDEXER_K_NORM, true, l->indexer_dim, 0, 1);
		linear(f, il, PL_ROLE_INDEXER_PROJ, h, l->indexer_heads, false);
	}
}

static void mamba(struct pl_family *f, int32_t il, const struct pl_layer *l)
{
	uint64_t h = f->m->n_embd, di = l->d_inner, conv = di + 2ull * l->n_group * l->d_state;
	bool one = l->rec == PL_REC_MAMBA1;
	if (one)
		conv = di;
	linear(f, il, PL_ROLE_SSM_IN, h, one ? 2 * di : di + conv + l->rec_heads, false);
	pl_emit(f, il, PL_ROLE_SSM_CONV, false, l->d_conv, conv, 1);
	if (f->traits & T_CONV_BIAS)
		pl_emit(f, il, PL_ROLE_SSM_CONV, true, conv, 0, 1);
	if (one) {
		linear(f, il, PL_ROLE_SSM_X, di, l->dt_rank + 2ull * l->d_state, false);
		linear(f, il, PL_ROLE_SSM_DT, l->dt_rank, di, true);
		pl_emit(f, il, PL_ROLE_SSM_A, false, l->d_state, di, 1);
		pl_emit(f, il, PL_ROLE_SSM_D, false, di, 0, 1);
		if (f->traits & T_SSM_NORMS) {
			pl_emit(f, il, PL_ROLE_SSM_DT_NORM, false, l->dt_rank, 0, 1);
			pl_emit(f, il, PL_ROLE_SSM_B_NORM, false, l->d_state, 0, 1);
			pl_emit(f, il, PL_ROLE_SSM_C_NORM, false, l->d_state, 0, 1);
		}
	} else {
		pl_emit(f, il, PL_ROLE_SSM_DT, true, l->rec_heads, 0, 1);
		pl_emit(f, il, PL_ROLE_SSM_A, false, 1, l->rec_heads, 1);
		pl_emit(f, il, PL_ROLE_SSM_D, false, 1, l->rec_heads, 1);
		if (!(f->traits & T_SSM_NO_NORM))
			pl_emit(f, il, PL_ROLE_SSM_NORM, false, di / (l->n_group ? l->n_group : 1), l->n_group ? l->n_group : 1, 1);
	}
	linear(f, il, PL_ROLE_SSM_OUT, di, h, false);
}

static void delta_net(struct pl_family *f, int32_t il, const struct pl_layer *l)
{
	uint64_t h = f->m->n_embd, k = (uint64_t)l->rec_k_heads * l->rec_d_k, v = (uint64_t)l->rec_heads * l->rec_d_v;
	linear(f, il, PL_ROLE_ATTN_QKV, h, 2 * k + v, false);
	linear(f, il, PL_ROLE_ATTN_GATE, h, v, false);
	pl_emit(f, il, PL_ROLE_SSM_CONV, false, l->d_conv, 2 * k + v, 1);
	pl_emit(f, il, PL_ROLE_SSM_DT, true, l->rec_heads, 0, 1);
	pl_emit(f, il, PL_ROLE_SSM_A, false, l->rec_heads, 0, 1);
	if (f->traits & T_SPLIT_BA) {
		linear(f, il, PL_ROLE_SSM_BETA, h, l->rec_heads, false);
		linear(f, il, PL_ROLE_SSM_ALPHA, h, l->rec_heads, false);
	} else {
		linear(f, il, PL_ROLE_SSM_BETA_ALPHA, h, 2ull * l->rec_heads, false);
	}
	pl_emit(f, il, PL_ROLE_SSM_NORM, false, l->rec_d_v, 0, 1);
	linear(f, il, PL_ROLE_SSM_OUT, v, h, false);
}

/* Kimi delta attention (llama.cpp src/models/kimi-linear.cpp) */
static void kda(struct pl_family *f, int32_t il, const struct pl_layer *l)
{
	uint64_t h = f->m->n_embd, w = (uint64_t)l->rec_heads * l->rec_d_v;
	linear(f, il, PL_ROLE_ATTN_Q, h, w, false);
	linear(f, il, PL_ROLE_ATTN_K, h, w, false);
	linear(f, il, PL_ROLE_ATTN_V, h, w, false);
	pl_emit(f, il, PL_ROLE_SSM_CONV_Q, false, l->d_conv, w, 1);
	pl_emit(f, il, PL_ROLE_SSM_CONV_K, false, l->d_conv, w, 1);
	pl_emit(f, il, PL_ROLE_SSM_CONV_V, false, l->d_conv, w, 1);
	linear(f, il, PL_ROLE_SSM_F_A, h, l->rec_d_v, false);
	linear(f, il, PL_ROLE_SSM_F_B, l->rec_d_v, w, false);
	linear(f, il, PL_ROLE_SSM_BETA, h, l->rec_heads, false);
	pl_emit(f, il, PL_ROLE_SSM_A, false, 1, l->rec_heads, 1);
	pl_emit(f, il, PL_ROLE_SSM_DT, true, w, 0, 1);
	linear(f, il, PL_ROLE_SSM_G_A, h, l->rec_d_v, false);
	linear(f, il, PL_ROLE_SSM_G_B, l->rec_d_v, w, false);
	pl_emit(f, il, PL_ROLE_SSM_NORM, false, l->rec_d_v, 0, 1);
	linear(f, il, PL_ROLE_ATTN_OUT, w, h, false);
}

static void mixer(struct pl_family *f, int32_t il, const struct pl_layer *l)
{
	if (l->attn == PL_ATTN_GQA)
		gqa(f, il, l);
	if (l->attn == PL_ATTN_MLA)
		mla(f, il, l);
	if (l->rec == PL_REC_MAMBA1 || l->rec == PL_REC_MAMBA2)
		mamba(f, il, l);
	if (l->rec == PL_REC_DELTANET)
		delta_net(f, il, l);
	if (l->rec == PL_REC_KDA)
		kda(f, il, l);
	if (l->rec == PL_REC_SHORTCONV) {
		pl_emit(f, il, PL_ROLE_SHORTCONV_CONV, false, l->d_conv, f->m->n_embd, 1);
		linear(f, il, PL_ROLE_SHORTCONV_IN, f->m->n_embd, 3ull * f->m->n_embd, false);
		linear(f, il, PL_ROLE_SHORTCONV_OUT, f->m->n_embd, f->m->n_embd, false);
	}
}

static void dense_ffn(struct pl_family *f, int32_t il, bool gated, uint64_t n_ff)
{
	uint64_t h = f->m->n_embd;
	bool bias = f->traits & T_MLP_BIAS;
	if (f->traits & T_FUSED_UP) {
		linear(f, il, PL_ROLE_FFN_UP, h, 2 * n_ff, bias);
	} else {
		if (gated)
			linear(f, il, PL_ROLE_FFN_GATE, h, n_ff, bias);
		linear(f, il, PL_ROLE_FFN_UP, h, n_ff, bias);
	}
	linear(f, il, PL_ROLE_FFN_DOWN, n_ff, h, bias);
}

static void experts(struct pl_family *f, int32_t il, const struct pl_layer *l)
{
	uint64_t h = f->m->n_embd, in = f->moe_latent ? f->moe_latent : h, ff = l->n_ff_expert;
	uint32_t e = l->n_expert;
	bool bias = f->traits & T_EXPERT_BIAS, plain = f->traits & T_SHARED_PLAIN;
	linear(f, il, PL_ROLE_ROUTER, h, e, f->traits & T_ROUTER_BIAS);
	if (f->traits & T_ROUTER_CORR)
		pl_emit(f, il, PL_ROLE_ROUTER_BIAS, true, e, 0, 1);
	if (f->moe_latent) {
		linear(f, il, PL_ROLE_EXPERT_LATENT_DOWN, h, in, false);
		linear(f, il, PL_ROLE_EXPERT_LATENT_UP, in, h, false);
	}
	if (!plain)
		pl_emit(f, il, PL_ROLE_EXPERT_GATE, false, in, ff, e);
	pl_emit(f, il, PL_ROLE_EXPERT_UP, false, in, ff, e);
	pl_emit(f, il, PL_ROLE_EXPERT_DOWN, false, ff, in, e);
	if (bias) {
		pl_emit(f, il, PL_ROLE_EXPERT_GATE, true, ff, 0, e);
		pl_emit(f, il, PL_ROLE_EXPERT_UP, true, ff, 0, e);
		pl_emit(f, il, PL_ROLE_EXPERT_DOWN, true, h, 0, e);
	}
	if (!l->n_ff_shared)
		return;
	if (f->traits & T_SHARED_GATE)
		pl_emit(f, il, PL_ROLE_SHARED_GATE_INP, false, h, 0, 1);
	if (!plain)
		linear(f, il, PL_ROLE_SHARED_GATE, h, l->n_ff_shared, false);
	linear(f, il, PL_ROLE_SHARED_UP, h, l->n_ff_shared, false);
	linear(f, il, PL_ROLE_SHARED_DOWN, l->n_ff_shared, h, false);
}

static void ffn(struct pl_family *f, int32_t il, const struct pl_layer *l)
{
	if (l->ffn == PL_FFN_GATED || l->ffn == PL_FFN_PLAIN)
		dense_ffn(f, il, l->ffn == PL_FFN_GATED, l->n_ff);
	if (l->ffn == PL_FFN_MOE) {
		if (l->moe_beside_dense && l->n_ff)
			dense_ffn(f, il, true, l->n_ff);
		experts(f, il, l);
	}
}

static void layer_norms(struct pl_family *f, int32_t il, const struct pl_layer *l)
{
	if (f->traits & T_ONLY_POST) {
		norm(f, il, PL_ROLE_ATTN_POST_NORM);
		norm(f, il, PL_ROLE_FFN_POST_NORM);
		return;
	}
	if (l->attn != PL_ATTN_NONE || l->rec != PL_REC_NONE || (f->traits & T_MIXER_ONLY))
		norm(f, il, PL_ROLE_ATTN_NORM); /* Nemotron-NAS leaves it out with the attention */
	if (f->traits & T_TWO_ATTN_NORMS)
		norm(f, il, PL_ROLE_ATTN_NORM_2);
	if (f->traits & (T_ONE_NORM | T_TWO_ATTN_NORMS | T_MIXER_ONLY))
		return;
	if (f->traits & T_POST_NORMS)
		norm(f, il, PL_ROLE_ATTN_POST_NORM);
	if (l->ffn != PL_FFN_NONE)
		norm(f, il, f->traits & T_POST_ATTN_NORM ? PL_ROLE_ATTN_POST_NORM : PL_ROLE_FFN_NORM);
	if (f->traits & T_POST_NORMS)
		norm(f, il, PL_ROLE_FFN_POST_NORM);
}

static void mtp_extras(struct pl_family *f, int32_t il)
{
	uint64_t h = f->m->n_embd;
	linear(f, il, PL_ROLE_NEXTN_EH_PROJ, 2 * h, h, false);
	pl_emit(f, il, PL_ROLE_NEXTN_ENORM, false, h, 0, 1);
	pl_emit(f, il, PL_ROLE_NEXTN_HNORM, false, h, 0, 1);
	pl_emit(f, il, PL_ROLE_NEXTN_HEAD_NORM, false, h, 0, 1);
	if (f->traits & T_MTP_COPIES) {
		pl_emit(f, il, PL_ROLE_NEXTN_EMBED, false, h, f->m->n_vocab, 1);
		pl_emit(f, il, PL_ROLE_NEXTN_HEAD, false, h, f->m->n_vocab, 1);
	}
}

static void outside(struct pl_family *f)
{
	struct pl_model *m = f->m;
	pl_emit(f, -1, PL_ROLE_TOKEN_EMBD, false, m->n_embd, m->n_vocab, 1);
	if (f->n_types)
		pl_emit(f, -1, PL_ROLE_TYPE_EMBD, false, m->n_embd, f->n_types, 1);
	if (f->n_positions)
		pl_emit(f, -1, PL_ROLE_POS_EMBD, false, m->n_embd, f->n_positions, 1);
	if (f->traits & T_EMBED_NORM)
		norm(f, -1, PL_ROLE_TOKEN_EMBD_NORM);
	if (!m->is_embedding && !(f->traits & T_NO_OUT_NORM))
		norm(f, -1, PL_ROLE_OUTPUT_NORM);
	if (!m->tied_output && !m->is_embedding)
		linear(f, -1, PL_ROLE_OUTPUT, m->n_embd, m->n_vocab, f->traits & T_HEAD_BIAS);
}

int pl_emit_tensors(struct pl_family *f)
{
	outside(f);
	for (uint32_t i = 0; i < f->m->n_layers + f->m->n_layers_mtp && !f->rc; i++) {
		const struct pl_layer *l = &f->layers[i];
		layer_norms(f, (int32_t)i, l);
		mixer(f, (int32_t)i, l);
		ffn(f, (int32_t)i, l);
		if (l->is_mtp)
			mtp_extras(f, (int32_t)i);
	}
	return f->rc;
}
