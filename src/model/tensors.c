/* Layers and parts → the tensors of the plain model, with the names and dimensions llama.cpp's converter gives them. */
#include <string.h>

#include "base/checked.h"
#include "model/hf.h"

static bool has(const struct pl_hf *c, uint32_t il, uint64_t bit)
{
	return (c->parts[il] & bit) != 0;
}

static bool model_has(const struct pl_hf *c, uint64_t bit)
{
	return (c->model_parts & bit) != 0;
}

static struct pl_tensor *add(struct pl_hf *c, int64_t il, const char *name, uint32_t n_dims, const uint64_t *d)
{
	uint64_t n = 1;
	bool ok = true;
	if (c->rc || !c->out)
		return NULL;
	for (uint32_t i = 0; i < n_dims; i++)
		ok = ok && d[i] && pl_mul_u64(n, d[i], &n);
	uint64_t bytes = 0;
	if (!ok || pl_dtype_bytes(c->type, d[0], n, &bytes)) {
		pl_hf_fail(c, "tensor '%s' of %llu × %llu × %llu elements is impossible", name, (unsigned long long)d[0],
		           (unsigned long long)d[1], (unsigned long long)d[2]);
		return NULL;
	}
	struct pl_tensor *t = pl_tensor_add(c->out);
	if (!t) {
		if (!c->rc)
			c->rc = pl_fail(c->err, PL_ERR_NOMEM, c->where, "out of memory while laying out the tensors");
		return NULL;
	}
	for (uint32_t i = 0; i < n_dims; i++)
		t->ne[i] = d[i];
	t->name = name;
	t->n_dims = n_dims;
	t->type = c->type;
	t->layer = (int32_t)il;
	t->n_elems = n;
	t->bytes = bytes;
	return t;
}

static void label(struct pl_hf *c, struct pl_tensor *t, enum pl_role role, enum pl_group group, uint64_t last_dim)
{
	t->role = role;
	t->group = group;
	if (t->layer >= 0 && c->layers[t->layer].is_mtp)
		t->group = PL_GROUP_MTP;
	if (group == PL_GROUP_EXPERT && (role == PL_ROLE_EXPERT_GATE || role == PL_ROLE_EXPERT_UP ||
	                                 role == PL_ROLE_EXPERT_GATE_UP || role == PL_ROLE_EXPERT_DOWN))
		t->n_stacked = (uint32_t)last_dim;
}

/* Roles whose name in the file is whole: no ".weight" behind it. */
static bool bare_name(enum pl_role r)
{
	return r == PL_ROLE_SSM_A || r == PL_ROLE_SSM_D || r == PL_ROLE_ROUTER_SCALE || r == PL_ROLE_EXPERT_SCALE;
}

struct pl_tensor *pl_hf_emit(struct pl_hf *c, int64_t il, enum pl_role role, bool is_bias, uint32_t n_dims, uint64_t d0,
                             uint64_t d1, uint64_t d2)
{
	const struct pl_role_info *info = pl_role_info(role);
	const uint64_t d[3] = {d0, n_dims > 1 ? d1 : 1, n_dims > 2 ? d2 : 1};
	if (c->rc || !c->out)
		return NULL;
	is_bias = is_bias || role == PL_ROLE_ROUTER_BIAS;
	const char *end = is_bias ? ".bias" : bare_name(role) ? "" : ".weight";
	const char *name = il < 0 ? pl_arena_printf(c->a, "%s%s", info->gguf_name, end)
	                          : pl_arena_printf(c->a, "blk.%lld.%s%s", (long long)il, info->gguf_name, end);
	struct pl_tensor *t = add(c, il, name, n_dims, d);
	if (t) {
		t->is_bias = is_bias;
		label(c, t, role, info->group, d[n_dims - 1]);
	}
	return t;
}

struct pl_tensor *pl_hf_emit_named(struct pl_hf *c, int64_t il, enum pl_role role, enum pl_group group, const char *name,
                                   uint32_t n_dims, uint64_t d0, uint64_t d1, uint64_t d2)
{
	const uint64_t d[3] = {d0, n_dims > 1 ? d1 : 1, n_dims > 2 ? d2 : 1};
	if (c->rc || !c->out)
		return NULL;
	if (il >= 0)
		name = pl_arena_printf(c->a, "blk.%lld.%s", (long long)il, name);
	struct pl_tensor *t = add(c, il, name, n_dims, d);
	if (t)
		label(c, t, role, group, d[n_dims - 1]);
	return t;
}

/* A norm of the layer: its weight and, for LayerNorm, its bias. */
static void norm(struct pl_hf *c, uint32_t il, enum pl_role role, uint64_t width)
{
	pl_hf_emit(c, il, role, false, 1, width, 1, 1);
	if (has(c, il, PL_P_NORM_BIAS))
		pl_hf_emit(c, il, role, true, 1, width, 1, 1);
}

static void linear(struct pl_hf *c, uint32_t il, enum pl_role role, uint64_t in, uint64_t out, bool bias)
{
	pl_hf_emit(c, il, role, false, 2, in, out, 1);
	if (bias)
		pl_hf_emit(c, il, role, true, 1, out, 1, 1);
}

static void qk_norms(struct pl_hf *c, uint32_t il)
{
	const struct pl_layer *l = &c->layers[il];
	const uint64_t q = l->n_head, k = l->n_head_kv, d = l->d_k;
	if (has(c, il, PL_P_QK_NORM)) {
		pl_hf_emit(c, il, PL_ROLE_ATTN_Q_NORM, false, 1, d, 1, 1);
		pl_hf_emit(c, il, PL_ROLE_ATTN_K_NORM, false, 1, d, 1, 1);
	} else if (has(c, il, PL_P_QK_NORM_WIDE)) {
		pl_hf_emit(c, il, PL_ROLE_ATTN_Q_NORM, false, 1, q * d, 1, 1);
		pl_hf_emit(c, il, PL_ROLE_ATTN_K_NORM, false, 1, k * d, 1, 1);
	} else if (has(c, il, PL_P_QK_NORM_EACH)) {
		pl_hf_emit(c, il, PL_ROLE_ATTN_Q_NORM, false, 2, d, q, 1);
		pl_hf_emit(c, il, PL_ROLE_ATTN_K_NORM, false, 2, d, k, 1);
	}
}

static void gqa(struct pl_hf *c, uint32_t il)
{
	const struct pl_layer *l = &c->layers[il];
	const uint64_t h = c->m->n_embd, q = (uint64_t)l->n_head * l->d_k * (l->q_gated ? 2 : 1);
	const uint64_t k = (uint64_t)l->n_head_kv * l->d_k, v = (uint64_t)l->n_head_kv * l->d_v;
	const uint64_t out = (uint64_t)l->n_head * l->d_v;
	if (has(c, il, PL_P_QKV_FUSED)) {
		linear(c, il, PL_ROLE_ATTN_QKV, h, q + k + v, has(c, il, PL_P_BIAS_Q));
	} else {
		linear(c, il, PL_ROLE_ATTN_Q, h, q, has(c, il, PL_P_BIAS_Q));
		linear(c, il, PL_ROLE_ATTN_K, h, k, has(c, il, PL_P_BIAS_K));
		if (!l->k_is_v)
			linear(c, il, PL_ROLE_ATTN_V, h, v, has(c, il, PL_P_BIAS_V));
	}
	linear(c, il, PL_ROLE_ATTN_OUT, out, h, has(c, il, PL_P_BIAS_O));
	qk_norms(c, il);
	if (has(c, il, PL_P_SINKS))
		pl_hf_emit(c, il, PL_ROLE_ATTN_SINKS, false, 1, l->n_head, 1, 1);
	if (has(c, il, PL_P_GATE_HEAD | PL_P_GATE_ELEM))
		linear(c, il, PL_ROLE_ATTN_GATE, h, has(c, il, PL_P_GATE_HEAD) ? l->n_head : out, false);
}

static void indexer(struct pl_hf *c, uint32_t il)
{
	const struct pl_layer *l = &c->layers[il];
	const uint64_t h = c->m->n_embd, n = l->indexer_heads, d = l->indexer_dim;
	linear(c, il, PL_ROLE_INDEXER_Q_B, l->q_lora, n * d, false);
	linear(c, il, PL_ROLE_INDEXER_K, h, d, false);
	pl_hf_emit(c, il, PL_ROLE_INDEXER_K_NORM, false, 1, d, 1, 1);
	pl_hf_emit(c, il, PL_ROLE_INDEXER_K_NORM, true, 1, d, 1, 1);
	linear(c, il, PL_ROLE_INDEXER_PROJ, h, n, false);
}

/* Latent attention. kv_b is stored as its two halves, transposed for keys, the way GGUF files hold it. */
static void mla(struct pl_hf *c, uint32_t il)
{
	const struct pl_layer *l = &c->layers[il];
	const uint64_t h = c->m->n_embd, n = l->n_head, qk = (uint64_t)l->d_nope + l->d_rope;
	if (l->q_lora) {
		linear(c, il, PL_ROLE_ATTN_Q_A, h, l->q_lora, has(c, il, PL_P_BIAS_Q));
		pl_hf_emit(c, il, PL_ROLE_ATTN_Q_A_NORM, false, 1, l->q_lora, 1, 1);
		linear(c, il, PL_ROLE_ATTN_Q_B, l->q_lora, n * qk, false);
	} else {
		linear(c, il, PL_ROLE_ATTN_Q, h, n * qk, false);
	}
	linear(c, il, PL_ROLE_ATTN_KV_A_MQA, h, (uint64_t)l->kv_lora + l->d_rope, has(c, il, PL_P_BIAS_K));
	pl_hf_emit(c, il, PL_ROLE_ATTN_KV_A_NORM, false, 1, l->kv_lora, 1, 1);
	pl_hf_emit(c, il, PL_ROLE_ATTN_K_B, false, 3, l->d_nope, l->kv_lora, n);
	pl_hf_emit(c, il, PL_ROLE_ATTN_V_B, false, 3, l->kv_lora, l->d_v, n);
	linear(c, il, PL_ROLE_ATTN_OUT, n * l->d_v, h, has(c, il, PL_P_BIAS_O));
	if (has(c, il, PL_P_GATE_ELEM))
		linear(c, il, PL_ROLE_ATTN_GATE, h, n * l->d_v, false);
	if (has(c, il, PL_P_INDEXER))
		indexer(c, il);
}

static void mamba1(struct pl_hf *c, uint32_t il)
{
	const struct pl_layer *l = &c->layers[il];
	const uint64_t h = c->m->n_embd, di = l->d_inner, s = l->d_state, r = l->dt_rank;
	linear(c, il, PL_ROLE_SSM_IN, h, 2 * di, has(c, il, PL_P_SSM_BIAS));
	pl_hf_emit(c, il, PL_ROLE_SSM_CONV, false, 2, l->d_conv, di, 1);
	if (has(c, il, PL_P_SSM_CONV_BIAS))
		pl_hf_emit(c, il, PL_ROLE_SSM_CONV, true, 1, di, 1, 1);
	linear(c, il, PL_ROLE_SSM_X, di, r + 2 * s, false);
	linear(c, il, PL_ROLE_SSM_DT, r, di, true);
	pl_hf_emit(c, il, PL_ROLE_SSM_A, false, 2, s, di, 1);
	pl_hf_emit(c, il, PL_ROLE_SSM_D, false, 1, di, 1, 1);
	linear(c, il, PL_ROLE_SSM_OUT, di, h, has(c, il, PL_P_SSM_BIAS));
	if (has(c, il, PL_P_SSM_BCDT_NORM)) {
		pl_hf_emit(c, il, PL_ROLE_SSM_DT_NORM, false, 1, r, 1, 1);
		pl_hf_emit(c, il, PL_ROLE_SSM_B_NORM, false, 1, s, 1, 1);
		pl_hf_emit(c, il, PL_ROLE_SSM_C_NORM, false, 1, s, 1, 1);
	}
}

static void mamba2(struct pl_hf *c, uint32_t il)
{
	const struct pl_layer *l = &c->layers[il];
	const uint64_t h = c->m->n_embd, di = l->d_inner, heads = l->rec_heads, groups = l->n_group;
	const uint64_t conv = di + 2 * groups * l->d_state;
	linear(c, il, PL_ROLE_SSM_IN, h, di + conv + heads, has(c, il, PL_P_SSM_BIAS));
	pl_hf_emit(c, il, PL_ROLE_SSM_CONV, false, 2, l->d_conv, conv, 1);
	if (has(c, il, PL_P_SSM_CONV_BIAS))
		pl_hf_emit(c, il, PL_ROLE_SSM_CONV, true, 1, conv, 1, 1);
	pl_hf_emit(c, il, PL_ROLE_SSM_DT, true, 1, heads, 1, 1);
	pl_hf_emit(c, il, PL_ROLE_SSM_A, false, 2, 1, heads, 1);
	pl_hf_emit(c, il, PL_ROLE_SSM_D, false, 2, 1, heads, 1);
	if (has(c, il, PL_P_SSM_NORM))
		pl_hf_emit(c, il, PL_ROLE_SSM_NORM, false, 2, di / groups, groups, 1);
	linear(c, il, PL_ROLE_SSM_OUT, di, h, has(c, il, PL_P_SSM_BIAS));
}

static void shortconv(struct pl_hf *c, uint32_t il)
{
	const uint64_t h = c->m->n_embd;
	const bool bias = has(c, il, PL_P_SSM_CONV_BIAS);
	pl_hf_emit(c, il, PL_ROLE_SHORTCONV_CONV, false, 2, c->layers[il].d_conv, h, 1);
	linear(c, il, PL_ROLE_SHORTCONV_IN, h, 3 * h, bias);
	linear(c, il, PL_ROLE_SHORTCONV_OUT, h, h, bias);
}

static void dense_ffn(struct pl_hf *c, uint32_t il)
{
	const struct pl_layer *l = &c->layers[il];
	const uint64_t h = c->m->n_embd, f = l->n_ff;
	const bool bias = has(c, il, PL_P_BIAS_FFN);
	if (l->ffn == PL_FFN_PLAIN) {
		linear(c, il, PL_ROLE_FFN_UP, h, f, bias);
	} else if (has(c, il, PL_P_FFN_FUSED)) {
		linear(c, il, PL_ROLE_FFN_UP, h, 2 * f, bias);
	} else {
		linear(c, il, PL_ROLE_FFN_GATE, h, f, bias);
		linear(c, il, PL_ROLE_FFN_UP, h, f, bias);
	}
	linear(c, il, PL_ROLE_FFN_DOWN, f, h, bias);
}

static void expert(struct pl_hf *c, uint32_t il, enum pl_role role, uint64_t in, uint64_t out)
{
	const uint64_t n = c->layers[il].n_expert;
	pl_hf_emit(c, il, role, false, 3, in, out, n);
	if (has(c, il, PL_P_EXPERT_BIAS))
		pl_hf_emit(c, il, role, true, 2, out, n, 1);
}

static void shared_experts(struct pl_hf *c, uint32_t il)
{
	const uint64_t h = c->m->n_embd, f = c->layers[il].n_ff_shared;
	if (has(c, il, PL_P_SHARED_GATE))
		pl_hf_emit(c, il, PL_ROLE_SHARED_GATE_INP, false, 1, h, 1, 1);
	if (!has(c, il, PL_P_EXPERT_PLAIN))
		linear(c, il, PL_ROLE_SHARED_GATE, h, f, false);
	linear(c, il, PL_ROLE_SHARED_UP, h, f, false);
	linear(c, il, PL_ROLE_SHARED_DOWN, f, h, false);
}

static void moe_ffn(struct pl_hf *c, uint32_t il)
{
	const struct pl_layer *l = &c->layers[il];
	const uint64_t h = c->m->n_embd, in = c->d_latent ? c->d_latent : h, f = l->n_ff_expert;
	linear(c, il, PL_ROLE_ROUTER, h, l->n_expert, has(c, il, PL_P_ROUTER_BIAS));
	if (has(c, il, PL_P_ROUTER_CORR))
		pl_hf_emit(c, il, PL_ROLE_ROUTER_BIAS, true, 1, l->n_expert, 1, 1);
	if (c->d_latent) {
		const bool kimi = !strcmp(c->m->arch, "kimi-k3"); /* the same matrices under other names */
		pl_hf_emit_named(c, il, PL_ROLE_EXPERT_LATENT_DOWN, PL_GROUP_EXPERT,
		                 kimi ? "ffn_routed_down.weight" : "ffn_latent_down.weight", 2, h, in, 1);
		pl_hf_emit_named(c, il, PL_ROLE_EXPERT_LATENT_UP, PL_GROUP_EXPERT,
		                 kimi ? "ffn_routed_up.weight" : "ffn_latent_up.weight", 2, in, h, 1);
	}
	if (has(c, il, PL_P_EXPERT_FUSED)) {
		expert(c, il, PL_ROLE_EXPERT_GATE_UP, in, 2 * f);
	} else {
		if (!has(c, il, PL_P_EXPERT_PLAIN))
			expert(c, il, PL_ROLE_EXPERT_GATE, in, f);
		expert(c, il, PL_ROLE_EXPERT_UP, in, f);
	}
	expert(c, il, PL_ROLE_EXPERT_DOWN, f, in);
	if (l->n_ff_shared)
		shared_experts(c, il);
}

static void norms(struct pl_hf *c, uint32_t il)
{
	static const struct {
		uint64_t bit;
		enum pl_role role;
	} rows[] = {
	    {PL_P_NORM_ATTN, PL_ROLE_ATTN_NORM},         {PL_P_NORM_ATTN_2, PL_ROLE_ATTN_NORM_2},
	    {PL_P_NORM_ATTN_POST, PL_ROLE_ATTN_POST_NORM}, {PL_P_NORM_FFN, PL_ROLE_FFN_NORM},
	    {PL_P_NORM_FFN_POST, PL_ROLE_FFN_POST_NORM}, {PL_P_NORM_ATTN_OUT, PL_ROLE_ATTN_OUT_NORM},
	    {PL_P_NORM_LAYER_OUT, PL_ROLE_LAYER_OUT_NORM},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (has(c, il, rows[i].bit))
			norm(c, il, rows[i].role, c->m->n_embd);
}

static void nextn(struct pl_hf *c, uint32_t il)
{
	const uint64_t h = c->m->n_embd, v = c->m->n_vocab;
	linear(c, il, PL_ROLE_NEXTN_EH_PROJ, 2 * h, h, false);
	pl_hf_emit(c, il, PL_ROLE_NEXTN_ENORM, false, 1, h, 1, 1);
	pl_hf_emit(c, il, PL_ROLE_NEXTN_HNORM, false, 1, h, 1, 1);
	if (has(c, il, PL_P_NEXTN_HEADNORM))
		pl_hf_emit(c, il, PL_ROLE_NEXTN_HEAD_NORM, false, 1, h, 1, 1);
	if (has(c, il, PL_P_NEXTN_COPIES)) {
		linear(c, il, PL_ROLE_NEXTN_EMBED, h, v, false);
		linear(c, il, PL_ROLE_NEXTN_HEAD, h, v, false);
	}
}

static void emit_layer(struct pl_hf *c, uint32_t il)
{
	const struct pl_layer *l = &c->layers[il];
	norms(c, il);
	if (l->attn == PL_ATTN_GQA)
		gqa(c, il);
	else if (l->attn == PL_ATTN_MLA)
		mla(c, il);
	if (l->rec == PL_REC_MAMBA1)
		mamba1(c, il);
	else if (l->rec == PL_REC_MAMBA2)
		mamba2(c, il);
	else if (l->rec == PL_REC_SHORTCONV)
		shortconv(c, il);
	if (l->n_expert)
		moe_ffn(c, il);
	if (l->n_ff)
		dense_ffn(c, il);
	if (has(c, il, PL_P_NEXTN))
		nextn(c, il);
	if (c->more_layer)
		c->more_layer(c, il);
}

static void emit_outside(struct pl_hf *c)
{
	const uint64_t h = c->m->n_embd, v = c->m->n_vocab;
	const bool layer_norm = model_has(c, PL_P_NORM_BIAS);
	pl_hf_emit(c, -1, PL_ROLE_TOKEN_EMBD, false, 2, h, v + c->n_more_rows, 1);
	if (c->n_positions)
		pl_hf_emit(c, -1, PL_ROLE_POS_EMBD, false, 2, h, c->n_positions, 1);
	if (c->n_types)
		pl_hf_emit(c, -1, PL_ROLE_TYPE_EMBD, false, 2, h, c->n_types, 1);
	if (model_has(c, PL_P_EMBD_NORM)) {
		pl_hf_emit(c, -1, PL_ROLE_TOKEN_EMBD_NORM, false, 1, h, 1, 1);
		if (layer_norm)
			pl_hf_emit(c, -1, PL_ROLE_TOKEN_EMBD_NORM, true, 1, h, 1, 1);
	}
	if (!model_has(c, PL_P_NO_FINAL_NORM)) {
		pl_hf_emit(c, -1, PL_ROLE_OUTPUT_NORM, false, 1, h, 1, 1);
		if (layer_norm)
			pl_hf_emit(c, -1, PL_ROLE_OUTPUT_NORM, true, 1, h, 1, 1);
	}
	if (!c->m->tied_output && !c->m->is_embedding)
		pl_hf_emit(c, -1, PL_ROLE_OUTPUT, false, 2, h, v, 1);
	if (model_has(c, PL_P_BIAS_HEAD))
		pl_hf_emit(c, -1, PL_ROLE_OUTPUT, true, 1, v, 1, 1);
	if (c->more_model)
		c->more_model(c);
}

void pl_hf_emit_model(struct pl_hf *c)
{
	if (c->rc || !c->out)
		return;
	emit_outside(c);
	for (uint32_t il = 0; il < pl_hf_n_all(c) && !c->rc; il++)
		emit_layer(c, il);
}
