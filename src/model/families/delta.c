/* Gated DeltaNet and Kimi delta attention: Qwen3-Next, Qwen3.5, Kimi Linear, Kimi K3. */
#include <string.h>

#include "model/hf.h"

static bool is_linear(struct pl_hf *c, uint32_t il, uint32_t interval)
{
	if (il >= c->m->n_layers)
		return false;
	if (pl_hf_has(c, "layer_types"))
		return !strcmp(pl_hf_str_at(c, "layer_types", il), "linear_attention");
	return (il + 1) % interval != 0;
}

static void delta_layers(struct pl_hf *c)
{
	const uint32_t kh = pl_hf_need(c, "linear_num_key_heads", PL_HF_MAX_HEADS), vh = pl_hf_need(c, "linear_num_value_heads", PL_HF_MAX_HEADS);
	const uint32_t dk = pl_hf_need(c, "linear_key_head_dim", 65536), dv = pl_hf_need(c, "linear_value_head_dim", 65536);
	const uint32_t conv = pl_hf_u32(c, "linear_conv_kernel_dim", 1, 64, 4);
	const uint32_t interval = pl_hf_u32(c, "full_attention_interval", 1, PL_HF_MAX_LAYERS, 4);
	for (uint32_t il = 0; il < pl_hf_n_all(c) && !c->rc; il++) {
		struct pl_layer *l = &c->layers[il];
		if (!is_linear(c, il, interval)) {
			l->q_gated = pl_hf_bool(c, "attn_output_gate", true);
			continue;
		}
		l->attn = PL_ATTN_NONE;
		l->n_head = l->n_head_kv = l->d_k = l->d_v = 0;
		l->rec = PL_REC_DELTANET;
		l->rec_k_heads = kh;
		l->rec_heads = vh;
		l->rec_d_k = dk;
		l->rec_d_v = dv;
		l->d_conv = conv;
		if ((uint64_t)vh * dv > PL_HF_MAX_DIM || (uint64_t)kh * dk > PL_HF_MAX_DIM)
			pl_hf_fail(c, "the linear attention is wider than %u", PL_HF_MAX_DIM);
		l->d_inner = vh * dv;
	}
}

static void delta_tensors(struct pl_hf *c, uint32_t il)
{
	const struct pl_layer *l = &c->layers[il];
	const uint64_t h = c->m->n_embd, k = (uint64_t)l->rec_k_heads * l->rec_d_k, v = l->d_inner, n = l->rec_heads;
	if (l->rec != PL_REC_DELTANET)
		return;
	pl_hf_emit(c, il, PL_ROLE_ATTN_QKV, false, 2, h, 2 * k + v, 1);
	pl_hf_emit(c, il, PL_ROLE_ATTN_GATE, false, 2, h, v, 1);
	pl_hf_emit(c, il, PL_ROLE_SSM_CONV, false, 2, l->d_conv, 2 * k + v, 1);
	pl_hf_emit(c, il, PL_ROLE_SSM_DT, true, 1, n, 1, 1);
	pl_hf_emit(c, il, PL_ROLE_SSM_A, false, 1, n, 1, 1);
	if (!strcmp(c->m->arch, "qwen3next")) {
		pl_hf_emit(c, il, PL_ROLE_SSM_BETA_ALPHA, false, 2, h, 2 * n, 1);
	} else {
		pl_hf_emit(c, il, PL_ROLE_SSM_BETA, false, 2, h, n, 1);
		pl_hf_emit(c, il, PL_ROLE_SSM_ALPHA, false, 2, h, n, 1);
	}
	pl_hf_emit(c, il, PL_ROLE_SSM_NORM, false, 1, l->rec_d_v, 1, 1);
	pl_hf_emit(c, il, PL_ROLE_SSM_OUT, false, 2, v, h, 1);
}

static void experts(struct pl_hf *c)
{
	const uint32_t n = pl_hf_need(c, "num_experts", PL_HF_MAX_EXPERTS), used = pl_hf_need(c, "num_experts_per_tok", n);
	const uint32_t ff = pl_hf_need(c, "moe_intermediate_size", PL_HF_MAX_DIM);
	const uint32_t shared = pl_hf_u32(c, "shared_expert_intermediate_size", 0, PL_HF_MAX_DIM, 0);
	for (uint32_t il = 0; il < pl_hf_n_all(c) && !c->rc; il++)
		pl_hf_moe(c, il, n, used, ff, shared ? 1 : 0, shared);
}

void pl_hf_read_qwen3_next(struct pl_hf *c)
{
	pl_hf_base(c, pl_hf_u32(c, "mtp_num_hidden_layers|num_nextn_predict_layers", 0, 64, 0));
	pl_hf_attention(c);
	if (pl_hf_has(c, "num_experts"))
		experts(c);
	else
		pl_hf_dense_ffn(c);
	delta_layers(c);
	pl_hf_mtp(c, PL_P_NEXTN_HEADNORM);
	c->more_layer = delta_tensors;
}

/* ---- Kimi Linear and K3 ---- */

static bool listed(const json_t *list, uint32_t number)
{
	const json_t *v;
	size_t i;
	json_array_foreach (list, i, v)
		if (json_is_integer(v) && json_integer_value(v) == (json_int_t)number)
			return true;
	return false;
}

static void kimi_mla(struct pl_hf *c, struct pl_layer *l)
{
	l->attn = PL_ATTN_MLA;
	l->n_head = pl_hf_need(c, "num_attention_heads", PL_HF_MAX_HEADS);
	l->n_head_kv = 1;
	l->q_lora = pl_hf_u32(c, "q_lora_rank", 0, PL_HF_MAX_DIM, 0);
	l->kv_lora = pl_hf_need(c, "kv_lora_rank", PL_HF_MAX_DIM);
	l->d_nope = pl_hf_need(c, "qk_nope_head_dim", 65536);
	l->d_rope = pl_hf_need(c, "qk_rope_head_dim", 65536);
	l->d_v = pl_hf_need(c, "v_head_dim", 65536);
	l->d_k = l->d_nope + l->d_rope;
	l->no_rope = pl_hf_bool(c, "mla_use_nope", false);
}

static void kimi_layers(struct pl_hf *c)
{
	const json_t *linear = pl_hf_get(c, "linear_attn_config"), *old = c->cfg;
	if (!json_is_object(linear)) {
		pl_hf_fail(c, "'linear_attn_config' is missing, it must say which layers attend");
		return;
	}
	pl_hf_enter(c, linear);
	const json_t *full = pl_hf_get(c, "full_attn_layers");
	const uint32_t heads = pl_hf_need(c, "num_heads", PL_HF_MAX_HEADS), d = pl_hf_need(c, "head_dim", 65536);
	const uint32_t conv = pl_hf_u32(c, "short_conv_kernel_size", 1, 64, 4);
	pl_hf_enter(c, old);
	if ((uint64_t)heads * d > PL_HF_MAX_DIM)
		pl_hf_fail(c, "the linear attention is wider than %u", PL_HF_MAX_DIM);
	for (uint32_t il = 0; il < pl_hf_n_all(c) && !c->rc; il++) {
		struct pl_layer *l = &c->layers[il];
		if (listed(full, il + 1)) { /* the list counts from 1 */
			kimi_mla(c, l);
			continue;
		}
		l->rec = PL_REC_KDA;
		l->rec_heads = l->rec_k_heads = heads;
		l->rec_d_k = l->rec_d_v = d;
		l->d_conv = conv;
		l->d_inner = heads * d;
	}
}

static void kda_tensors(struct pl_hf *c, uint32_t il)
{
	const struct pl_layer *l = &c->layers[il];
	const uint64_t h = c->m->n_embd, w = l->d_inner, d = l->rec_d_v, n = l->rec_heads;
	static const enum pl_role proj[] = {PL_ROLE_ATTN_Q, PL_ROLE_ATTN_K, PL_ROLE_ATTN_V};
	static const enum pl_role conv[] = {PL_ROLE_SSM_CONV_Q, PL_ROLE_SSM_CONV_K, PL_ROLE_SSM_CONV_V};
	const json_t *linear = pl_hf_get(c, "linear_attn_config");
	for (int i = 0; i < 3; i++) {
		pl_hf_emit(c, il, proj[i], false, 2, h, w, 1);
		pl_hf_emit(c, il, conv[i], false, 3, l->d_conv, 1, w);
	}
	pl_hf_emit(c, il, PL_ROLE_SSM_F_A, false, 2, h, d, 1);
	pl_hf_emit(c, il, PL_ROLE_SSM_F_B, false, 2, d, w, 1);
	pl_hf_emit(c, il, PL_ROLE_SSM_BETA, false, 2, h, n, 1);
	pl_hf_emit(c, il, PL_ROLE_SSM_A, false, 2, 1, n, 1);
	pl_hf_emit(c, il, PL_ROLE_SSM_DT, true, 1, w, 1, 1);
	if (json_is_true(json_object_get(linear, "use_full_rank_gate"))) {
		pl_hf_emit(c, il, PL_ROLE_SSM_G, false, 2, h, w, 1);
	} else {
		pl_hf_emit(c, il, PL_ROLE_SSM_G_A, false, 2, h, d, 1);
		pl_hf_emit(c, il, PL_ROLE_SSM_G_B, false, 2, d, w, 1);
	}
	pl_hf_emit(c, il, PL_ROLE_SSM_NORM, false, 1, d, 1, 1);
	pl_hf_emit(c, il, PL_ROLE_ATTN_OUT, false, 2, w, h, 1);
}

/* K3 also mixes residuals by score every attn_res_block_size layers: one vector each for attention and feed forward. */
static void kimi_tensors(struct pl_hf *c, uint32_t il)
{
	const uint64_t h = c->m->n_embd;
	if (c->layers[il].rec == PL_REC_KDA)
		kda_tensors(c, il);
	if (pl_hf_u32(c, "attn_res_block_size", 0, PL_HF_MAX_LAYERS, 0)) {
		pl_hf_emit(c, il, PL_ROLE_ATTN_RES_SCORE, false, 1, h, 1, 1);
		pl_hf_emit(c, il, PL_ROLE_FFN_RES_SCORE, false, 1, h, 1, 1);
	}
	if (c->d_latent && c->layers[il].n_expert && pl_hf_bool(c, "latent_moe_use_norm", false))
		pl_hf_emit(c, il, PL_ROLE_EXPERT_LATENT_NORM, false, 1, c->d_latent, 1, 1);
}

static void kimi_model(struct pl_hf *c)
{
	if (pl_hf_u32(c, "attn_res_block_size", 0, PL_HF_MAX_LAYERS, 0))
		pl_hf_emit(c, -1, PL_ROLE_OUTPUT_RES_SCORE, false, 1, c->m->n_embd, 1, 1);
}

void pl_hf_read_kimi_linear(struct pl_hf *c)
{
	pl_hf_base(c, 0);
	if (c->rc)
		return;
	kimi_layers(c);
	const uint32_t n = pl_hf_need(c, "num_experts", PL_HF_MAX_EXPERTS);
	const uint32_t used = pl_hf_need(c, "num_experts_per_token|num_experts_per_tok", n);
	const uint32_t ff = pl_hf_need(c, "moe_intermediate_size", PL_HF_MAX_DIM), shared = pl_hf_u32(c, "num_shared_experts", 0, 64, 0);
	const uint32_t first = pl_hf_u32(c, "first_k_dense_replace", 0, PL_HF_MAX_LAYERS, 0);
	const uint32_t dense = pl_hf_need(c, "intermediate_size", PL_HF_MAX_DIM);
	c->d_latent = pl_hf_u32(c, "routed_expert_hidden_size", 1, PL_HF_MAX_DIM, 0);
	if (c->d_latent || pl_hf_has(c, "attn_res_block_size"))
		c->m->arch = "kimi-k3";
	if (pl_hf_bool(c, "mla_use_output_gate", false))
		pl_hf_set_parts(c, PL_P_GATE_ELEM, true);
	if ((uint64_t)ff * shared > PL_HF_MAX_DIM)
		pl_hf_fail(c, "%u shared experts of width %u are wider than %u", shared, ff, PL_HF_MAX_DIM);
	for (uint32_t il = 0; il < pl_hf_n_all(c) && !c->rc; il++) {
		if (il >= first) {
			pl_hf_moe(c, il, n, used, ff, shared, ff * shared);
			continue;
		}
		c->layers[il].ffn = PL_FFN_GATED;
		c->layers[il].n_ff = dense;
	}
	c->more_layer = kimi_tensors;
	c->more_model = kimi_model;
}
