/* Gemma 4: global layers with heads of their own, per-layer embeddings, shared caches, experts beside the dense path. */
#include <string.h>

#include "model/hf.h"

static bool is_global(struct pl_hf *c, uint32_t il)
{
	if (pl_hf_has(c, "layer_types"))
		return !strcmp(pl_hf_str_at(c, "layer_types", il), "full_attention");
	return (il + 1) % 6 == 0;
}

static void attention(struct pl_hf *c)
{
	const uint32_t window = pl_hf_u32(c, "sliding_window", 0, PL_HF_MAX_CTX, 512);
	const bool k_eq_v = pl_hf_bool(c, "attention_k_eq_v", false);
	for (uint32_t il = 0; il < c->m->n_layers && !c->rc; il++) {
		struct pl_layer *l = &c->layers[il];
		if (!is_global(c, il)) {
			l->window_tokens = window;
			continue;
		}
		l->d_k = l->d_v = pl_hf_u32(c, "global_head_dim", 1, 65536, l->d_k);
		if (k_eq_v)
			l->n_head_kv = pl_hf_u32(c, "num_global_key_value_heads", 1, PL_HF_MAX_HEADS, l->n_head_kv);
		l->k_is_v = k_eq_v;
	}
}

/* The last num_kv_shared_layers read the cache of the last earlier layer of their kind. Their k and v weights stay in
 * the file. */
static void shared_kv(struct pl_hf *c)
{
	const uint32_t n = c->m->n_layers, shared = pl_hf_u32(c, "num_kv_shared_layers", 0, n, 0);
	int32_t last[2] = {-1, -1};
	for (uint32_t il = 0; il < n && !c->rc; il++) {
		const bool global = c->layers[il].window_tokens == 0;
		if (il < n - shared)
			last[global] = (int32_t)il;
		else
			c->layers[il].kv_from_layer = last[global];
	}
	if (!pl_hf_bool(c, "use_double_wide_mlp", false))
		return;
	for (uint32_t il = n - shared; il < n && !c->rc; il++)
		c->layers[il].n_ff = c->layers[il].n_ff <= PL_HF_MAX_DIM / 2 ? c->layers[il].n_ff * 2 : PL_HF_MAX_DIM;
}

static void experts(struct pl_hf *c)
{
	if (!pl_hf_bool(c, "enable_moe_block", false))
		return;
	const uint32_t n = pl_hf_need(c, "num_experts", PL_HF_MAX_EXPERTS), used = pl_hf_need(c, "top_k_experts|num_experts_per_tok", n);
	const uint32_t ff = pl_hf_need(c, "moe_intermediate_size|expert_intermediate_size", PL_HF_MAX_DIM);
	for (uint32_t il = 0; il < c->m->n_layers && !c->rc; il++) {
		const uint32_t dense = c->layers[il].n_ff;
		pl_hf_moe(c, il, n, used, ff, 0, 0);
		c->layers[il].n_ff = dense;
		c->layers[il].moe_beside_dense = true;
		c->parts[il] |= PL_P_EXPERT_FUSED;
	}
}

static void more_layer(struct pl_hf *c, uint32_t il)
{
	const uint64_t h = c->m->n_embd, p = c->m->d_per_layer_embed;
	pl_hf_emit(c, il, PL_ROLE_LAYER_OUT_SCALE, false, 1, 1, 1, 1);
	if (c->layers[il].n_expert) {
		pl_hf_emit(c, il, PL_ROLE_ROUTER_SCALE, false, 1, h, 1, 1);
		pl_hf_emit(c, il, PL_ROLE_EXPERT_SCALE, false, 1, c->layers[il].n_expert, 1, 1);
		pl_hf_emit(c, il, PL_ROLE_FFN_PRE_NORM_2, false, 1, h, 1, 1);
		pl_hf_emit(c, il, PL_ROLE_FFN_POST_NORM_1, false, 1, h, 1, 1);
		pl_hf_emit(c, il, PL_ROLE_FFN_POST_NORM_2, false, 1, h, 1, 1);
	}
	if (p) {
		pl_hf_emit(c, il, PL_ROLE_PER_LAYER_INP_GATE, false, 2, h, p, 1);
		pl_hf_emit(c, il, PL_ROLE_PER_LAYER_INP_PROJ, false, 2, p, h, 1);
		pl_hf_emit(c, il, PL_ROLE_PER_LAYER_POST_NORM, false, 1, h, 1, 1);
	}
}

static void more_model(struct pl_hf *c)
{
	const uint64_t h = c->m->n_embd, p = c->m->d_per_layer_embed, wide = p * c->m->n_layers;
	if (!p)
		return;
	const uint32_t v = pl_hf_u32(c, "vocab_size_per_layer_input", 1, PL_HF_MAX_VOCAB, c->m->n_vocab);
	pl_hf_emit(c, -1, PL_ROLE_PER_LAYER_EMBD, false, 2, wide, v, 1);
	pl_hf_emit(c, -1, PL_ROLE_PER_LAYER_PROJ, false, 2, h, wide, 1);
	pl_hf_emit(c, -1, PL_ROLE_PER_LAYER_PROJ_NORM, false, 1, p, 1, 1);
}

void pl_hf_read_gemma4(struct pl_hf *c)
{
	pl_hf_base(c, 0);
	if (c->rc)
		return;
	pl_hf_attention(c);
	pl_hf_dense_ffn(c);
	c->m->d_per_layer_embed = pl_hf_u32(c, "hidden_size_per_layer_input", 0, 65536, 0);
	attention(c);
	shared_kv(c);
	experts(c);
	c->more_layer = more_layer;
	c->more_model = more_model;
}
