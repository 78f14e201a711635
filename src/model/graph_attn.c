/* Attention of one layer: ordinary, fused or latent projections, indexer, output gate. */
#include "model/arch_traits.h"
#include "model/graph_build.h"

/* Scores of the indexer choose the tokens sparse attention reads (DeepSeek V3.2: the query comes from the q latent). */
static uint32_t build_indexer(struct pl_gb *b, int32_t il, uint32_t h, uint32_t q_latent)
{
	const struct pl_layer *l = &b->m->layers[il];
	bool straight = pl_gb_has(b, il, PL_ROLE_INDEXER_K_PROJ); /* MiniMax M3 */
	if (!l->indexer_heads || (!straight && !pl_gb_has(b, il, PL_ROLE_INDEXER_K)))
		return PL_NO_VALUE;
	enum pl_role q_role = straight ? PL_ROLE_INDEXER_Q : PL_ROLE_INDEXER_Q_B;
	uint32_t q = pl_gb_linear(b, il, q_role, straight || q_latent == PL_NO_VALUE ? h : q_latent, "indexer_q");
	uint32_t k = pl_gb_linear(b, il, straight ? PL_ROLE_INDEXER_K_PROJ : PL_ROLE_INDEXER_K, h, "indexer_k");
	q = pl_gb_norm(b, il, PL_ROLE_INDEXER_Q_NORM, q, "indexer_q_norm");
	k = pl_gb_norm(b, il, PL_ROLE_INDEXER_K_NORM, k, "indexer_k_norm");
	uint32_t w = pl_gb_linear(b, il, PL_ROLE_INDEXER_PROJ, h, "indexer_weights");
	uint32_t kv = pl_gb_op(b, PL_OP_KV_STORE, il, k, PL_NO_VALUE, PL_NO_VALUE, pl_gb_width(b, k), PL_ROWS_NEW,
	                       "indexer_cache");
	return pl_gb_op(b, PL_OP_INDEXER, il, q, kv, w, l->indexer_topk, PL_ROWS_NEW, "indexer_top_k");
}

static uint32_t rope(struct pl_gb *b, int32_t il, uint32_t v, const char *name)
{
	if (v == PL_NO_VALUE || b->m->layers[il].no_rope || (b->tr && (b->tr->flags & PL_ARCH_NO_ROPE)))
		return v;
	return pl_gb_op(b, PL_OP_ROPE, il, v, PL_NO_VALUE, PL_NO_VALUE, pl_gb_width(b, v), PL_ROWS_NEW, name);
}

/* softmax(q kᵀ) v; kv: what KV_STORE made. */
static uint32_t attend(struct pl_gb *b, int32_t il, uint32_t q, uint32_t kv, uint32_t extra, uint64_t width)
{
	uint32_t out = pl_gb_op(b, PL_OP_ATTENTION, il, q, kv, extra, width, PL_ROWS_NEW, "kqv_out");
	pl_gb_weigh(b, il, PL_ROLE_ATTN_SINKS);
	return out;
}

/* Output gate, sub-norm and the output projection. */
static uint32_t finish(struct pl_gb *b, int32_t il, uint32_t h, uint32_t q, uint32_t out)
{
	uint32_t width = pl_gb_width(b, out);
	uint32_t gate = pl_gb_linear(b, il, PL_ROLE_ATTN_GATE, h, "attn_gate");
	if (gate == PL_NO_VALUE && b->m->layers[il].q_gated)
		gate = q;
	if (gate != PL_NO_VALUE)
		out = pl_gb_op(b, PL_OP_GLU, il, out, gate, PL_NO_VALUE, width, PL_ROWS_NEW, "attn_gated");
	out = pl_gb_norm(b, il, PL_ROLE_ATTN_SUB_NORM, out, "attn_sub_norm");
	uint32_t o = pl_gb_linear(b, il, PL_ROLE_ATTN_OUT, out, "attn_out");
	return o == PL_NO_VALUE ? out : o;
}

/* Query of a latent layer, through its own latent or straight; *latent is what the indexer reads. */
static uint32_t latent_query(struct pl_gb *b, int32_t il, uint32_t h, uint32_t *latent)
{
	uint32_t qa = pl_gb_linear(b, il, PL_ROLE_ATTN_Q_A, h, "q_a");
	if (qa == PL_NO_VALUE)
		return pl_gb_linear(b, il, PL_ROLE_ATTN_Q, h, "q");
	*latent = pl_gb_norm(b, il, PL_ROLE_ATTN_Q_A_NORM, qa, "q_a_norm");
	return pl_gb_linear(b, il, PL_ROLE_ATTN_Q_B, *latent, "q");
}

/* A matrix for each head (attn_k_b: nope → latent, attn_v_b: latent → values). */
static uint32_t per_head(struct pl_gb *b, int32_t il, enum pl_role role, uint32_t in, uint64_t in_dim, uint64_t width,
                         const char *name)
{
	const struct pl_tensor *t = pl_gb_tensor(b, il, role);
	pl_gb_expect(b, t, t->ne[0], in_dim);
	uint32_t out = pl_gb_op(b, PL_OP_LINEAR, il, in, PL_NO_VALUE, PL_NO_VALUE, width, PL_ROWS_NEW, name);
	pl_gb_weigh(b, il, role);
	return out;
}

static uint32_t build_latent(struct pl_gb *b, int32_t il, uint32_t h)
{
	const struct pl_layer *l = &b->m->layers[il];
	const struct pl_tensor *a = pl_gb_tensor(b, il, PL_ROLE_ATTN_KV_A_MQA),
	                       *kvb = pl_gb_tensor(b, il, PL_ROLE_ATTN_KV_B);
	uint32_t latent = PL_NO_VALUE, q = rope(b, il, latent_query(b, il, h, &latent), "q_rope");
	uint64_t n = l->n_head, wide = (uint64_t)l->kv_lora + l->d_rope;
	pl_gb_expect(b, a, pl_gb_width(b, q), n * l->d_k);
	uint32_t kv = pl_gb_linear(b, il, PL_ROLE_ATTN_KV_A_MQA, h, "kv_a");
	pl_gb_expect(b, a, pl_gb_width(b, kv), wide);
	const struct pl_tensor *norm = pl_gb_tensor(b, il, PL_ROLE_ATTN_KV_A_NORM);
	if (norm) { /* over the latent, not over the rotated key beside it */
		pl_gb_expect(b, norm, norm->ne[0], l->kv_lora);
		kv = pl_gb_op(b, PL_OP_NORM, il, kv, PL_NO_VALUE, PL_NO_VALUE, wide, PL_ROWS_NEW, "kv_a_norm");
		pl_gb_weigh(b, il, PL_ROLE_ATTN_KV_A_NORM);
	}
	kv = rope(b, il, kv, "kv_rope");
	uint32_t top_k = build_indexer(b, il, h, latent), out;
	if (pl_gb_has(b, il, PL_ROLE_ATTN_K_B) && pl_gb_has(b, il, PL_ROLE_ATTN_V_B)) {
		q = per_head(b, il, PL_ROLE_ATTN_K_B, q, l->d_nope, n * wide, "q_latent");
		b->kv[il] =
		    pl_gb_op(b, PL_OP_KV_STORE, il, kv, PL_NO_VALUE, PL_NO_VALUE, wide, PL_ROWS_NEW, "kv_cache");
		out = attend(b, il, q, b->kv[il], top_k, n * l->kv_lora);
		out = per_head(b, il, PL_ROLE_ATTN_V_B, out, l->kv_lora, n * l->d_v, "kqv_values");
		return finish(b, il, h, q, out);
	}
	uint64_t both = n * ((uint64_t)l->d_nope + l->d_v);
	if (l->attn == PL_ATTN_MLA)
		b->kv[il] =
		    pl_gb_op(b, PL_OP_KV_STORE, il, kv, PL_NO_VALUE, PL_NO_VALUE, wide, PL_ROWS_NEW, "kv_cache");
	if (kvb) {
		pl_gb_expect(b, kvb, kvb->ne[0], l->kv_lora);
		pl_gb_expect(b, kvb, kvb->ne[1], both);
		kv = pl_gb_op(b, PL_OP_LINEAR, il, kv, PL_NO_VALUE, PL_NO_VALUE, both, PL_ROWS_NEW, "kv");
		pl_gb_weigh(b, il, PL_ROLE_ATTN_KV_B);
	}
	if (l->attn != PL_ATTN_MLA)
		b->kv[il] = pl_gb_op(b, PL_OP_KV_STORE, il, kv, PL_NO_VALUE, PL_NO_VALUE,
		                     n * ((uint64_t)l->d_k + l->d_v), PL_ROWS_NEW, "kv_cache");
	out = attend(b, il, q, b->kv[il], top_k, n * l->d_v);
	return finish(b, il, h, q, out);
}

/* One matrix for queries, keys and values: the three are parts of one value. */
static uint32_t build_fused(struct pl_gb *b, int32_t il, uint32_t h)
{
	const struct pl_layer *l = &b->m->layers[il];
	const struct pl_tensor *t = pl_gb_tensor(b, il, PL_ROLE_ATTN_QKV);
	uint64_t kv = (uint64_t)l->n_head_kv * ((uint64_t)l->d_k + l->d_v);
	pl_gb_expect(b, t, t->ne[1], (uint64_t)l->n_head * l->d_k + kv);
	uint32_t qkv = pl_gb_linear(b, il, PL_ROLE_ATTN_QKV, h, "qkv");
	qkv = pl_gb_norm(b, il, PL_ROLE_ATTN_Q_NORM, qkv, "q_norm");
	qkv = pl_gb_norm(b, il, PL_ROLE_ATTN_K_NORM, qkv, "k_norm");
	qkv = rope(b, il, qkv, "qkv_rope");
	b->kv[il] = pl_gb_op(b, PL_OP_KV_STORE, il, qkv, PL_NO_VALUE, PL_NO_VALUE, kv, PL_ROWS_NEW, "kv_cache");
	return finish(b, il, h, qkv, attend(b, il, qkv, b->kv[il], PL_NO_VALUE, (uint64_t)l->n_head * l->d_v));
}

static uint32_t keys_and_values(struct pl_gb *b, int32_t il, uint32_t h)
{
	const struct pl_layer *l = &b->m->layers[il];
	uint32_t from = l->cross && b->encoder != PL_NO_VALUE ? b->encoder : h;
	uint32_t k = pl_gb_linear(b, il, PL_ROLE_ATTN_K, from, "k"), v = pl_gb_linear(b, il, PL_ROLE_ATTN_V, from, "v");
	if (k == PL_NO_VALUE)
		return PL_NO_VALUE;
	pl_gb_expect(b, pl_gb_tensor(b, il, PL_ROLE_ATTN_K), pl_gb_width(b, k), (uint64_t)l->n_head_kv * l->d_k);
	if (v != PL_NO_VALUE)
		pl_gb_expect(b, pl_gb_tensor(b, il, PL_ROLE_ATTN_V), pl_gb_width(b, v),
		             (uint64_t)l->n_head_kv * l->d_v);
	k = pl_gb_norm(b, il, PL_ROLE_ATTN_K_NORM, k, "k_norm");
	k = rope(b, il, k, "k_rope");
	return pl_gb_op(b, PL_OP_KV_STORE, il, k, v, PL_NO_VALUE, (uint64_t)l->n_head_kv * ((uint64_t)l->d_k + l->d_v),
	                PL_ROWS_NEW, "kv_cache");
}

uint32_t pl_gb_attention(struct pl_gb *b, int32_t il, uint32_t h)
{
	const struct pl_layer *l = &b->m->layers[il];
	if (pl_gb_has(b, il, PL_ROLE_ATTN_KV_A_MQA) && l->kv_lora)
		return build_latent(b, il, h);
	if (pl_gb_has(b, il, PL_ROLE_ATTN_QKV))
		return build_fused(b, il, h);
	uint32_t q = pl_gb_linear(b, il, PL_ROLE_ATTN_Q, h, "q");
	if (q == PL_NO_VALUE)
		return PL_NO_VALUE;
	pl_gb_expect(b, pl_gb_tensor(b, il, PL_ROLE_ATTN_Q), pl_gb_width(b, q),
	             (uint64_t)l->n_head * l->d_k * (l->q_gated ? 2 : 1));
	q = rope(b, il, pl_gb_norm(b, il, PL_ROLE_ATTN_Q_NORM, q, "q_norm"), "q_rope");
	int32_t from = l->kv_from_layer >= 0 && l->kv_from_layer < il ? l->kv_from_layer : il;
	if (from == il)
		b->kv[il] = keys_and_values(b, il, h);
	uint32_t top_k = build_indexer(b, il, h, PL_NO_VALUE);
	return finish(b, il, h, q, attend(b, il, q, b->kv[from], top_k, (uint64_t)l->n_head * l->d_v));
}
