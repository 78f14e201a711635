/* Attention and feed forward as the engine spells them (llama.cpp src/llama-graph.cpp: build_qkv, build_attn,
 * build_attn_mha, build_ffn, build_moe_ffn; src/llama-kv-cache.cpp: cpy_k, cpy_v, get_k, get_v). */
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "engine/llamacpp_build.h"
#include "memory/cache.h"

/* ---- queries, keys, values --------------------------------------------------------------------------------------- */

static lg_t heads(struct lb *b, lg_t x, uint64_t d, uint64_t n)
{
	return lg_reshape(b->g, x, d, n, b->n_tokens, 1);
}

static lg_t projection(struct lb *b, lg_t x, int32_t il, const char *weight, const char *bias)
{
	lg_t w = lb_weight(b, il, weight), c = lb_weight(b, il, bias);
	x = lb_mm(b, w, x);
	return c >= 0 ? lb_add(b, x, c) : x;
}

static struct lb_qkv fused(struct lb *b, lg_t x, int32_t il, const uint64_t *d, const uint64_t *n, bool by_head)
{
	struct lg *g = b->g;
	x = projection(b, x, il, "attn_qkv.weight", "attn_qkv.bias");
	uint64_t row = lg_at(g, x)->nb[1];
	lg_t out[3];
	for (int i = 0; i < 3; i++) {
		if (by_head)
			out[i] = lg_view_3d(g, x, d[i], n[i], b->n_tokens, d[i] * 4, row);
		else
			out[i] = lg_view_2d(g, x, pl_sat_mul(d[i], n[i]), b->n_tokens, row);
	}
	for (int i = 0; i < 3 && !by_head; i++)
		out[i] = lg_cont(g, out[i]);
	return (struct lb_qkv){out[0], out[1], out[2]};
}

struct lb_qkv lb_qkv_sized(struct lb *b, lg_t x, int32_t il, uint64_t d_q, uint64_t n_q, uint64_t d_k, uint64_t n_k, uint64_t d_v,
                           uint64_t n_v, bool by_head)
{
	if (lb_has(b, il, "attn_qkv.weight"))
		return fused(b, x, il, (uint64_t[]){d_q, d_k, d_v}, (uint64_t[]){n_q, n_k, n_v}, by_head);
	struct lb_qkv r = {projection(b, x, il, "attn_q.weight", "attn_q.bias"), LG_NONE, LG_NONE};
	r.k = projection(b, x, il, "attn_k.weight", "attn_k.bias");
	r.v = projection(b, x, il, "attn_v.weight", "attn_v.bias");
	if (by_head) {
		r.q = heads(b, r.q, d_q, n_q);
		r.k = heads(b, r.k, d_k, n_k);
		r.v = heads(b, r.v, d_v, n_v);
	}
	return r;
}

struct lb_qkv lb_qkv(struct lb *b, lg_t x, int32_t il, bool by_head)
{
	const struct pl_layer *l = lb_layer(b, il);
	return lb_qkv_sized(b, x, il, l->d_k, l->n_head, l->d_k, l->n_head_kv, l->d_v, l->n_head_kv, by_head);
}

/* ---- caches ------------------------------------------------------------------------------------------------------ */

static int32_t owner(const struct lb *b, int32_t il)
{
	int32_t from = lb_layer(b, il)->kv_from_layer;
	return from < 0 ? il : from;
}

static lg_t cache_leaf(struct lb *b, lg_t *slot, int32_t il, enum pl_dtype type, uint64_t row, uint64_t cells)
{
	if (*slot >= 0 || !row)
		return *slot;
	*slot = lg_new(b->g, type, row, cells, b->j->ctx.n_stream, 1);
	if (*slot >= 0) {
		b->g->t[*slot].external = true;
		b->g->t[*slot].home = b->j->p->no_kv_offload ? (int16_t)LG_CPU : lb_layer_dev(b, il);
	}
	return *slot;
}

static const struct lb_attn *cache_of(const struct lb *b, int32_t il)
{
	return &b->kv[b->has_window && lb_layer(b, il)->window_tokens];
}

static lg_t k_cache(struct lb *b, int32_t il)
{
	struct pl_cache_row r = pl_layer_cache_row(lb_layer(b, il));
	return cache_leaf(b, &b->cache_k[il], il, b->j->ctx.type_k, r.k_elems, cache_of(b, il)->n_kv);
}

static lg_t v_cache(struct lb *b, int32_t il)
{
	uint64_t row = pl_layer_cache_row(lb_layer(b, il)).v_elems;
	for (uint32_t i = 0; row && !b->flash && i < b->j->n_all; i++)
		row = pl_max_u64(row, pl_sat_mul(b->m->layers[i].n_head_kv, b->m->layers[i].d_v));
	return cache_leaf(b, &b->cache_v[il], il, b->j->ctx.type_v, row, cache_of(b, il)->n_kv);
}

lg_t lb_index_cache(struct lb *b, int32_t il)
{
	return cache_leaf(b, &b->cache_idx[il], il, b->j->ctx.type_k, lb_layer(b, il)->indexer_dim, b->kv[0].n_kv);
}

lg_t lb_get_k(struct lb *b, int32_t il)
{
	il = owner(b, il);
	const struct pl_layer *l = lb_layer(b, il);
	lg_t k = k_cache(b, il);
	struct lg_tensor x = *lg_at(b->g, k);
	bool latent = l->attn == PL_ATTN_MLA;
	uint64_t d = latent ? x.ne[0] : l->d_k;
	uint64_t ne[4] = {d, latent ? 1 : l->n_head_kv, x.ne[1], x.ne[2]};
	uint64_t nb[4] = {x.nb[0], lg_row_bytes(x.type, d), x.nb[1], x.nb[2]};
	return lg_view(b->g, k, ne, nb);
}

lg_t lb_get_v(struct lb *b, int32_t il)
{
	il = owner(b, il);
	const struct pl_layer *l = lb_layer(b, il);
	lg_t v = v_cache(b, il);
	struct lg_tensor x = *lg_at(b->g, v);
	uint64_t cells = x.ne[1], row = lg_row_bytes(x.type, cells);
	if (b->flash) {
		uint64_t ne[4] = {l->d_v, l->n_head_kv, cells, x.ne[2]};
		uint64_t nb[4] = {x.nb[0], lg_row_bytes(x.type, l->d_v), x.nb[1], x.nb[2]};
		return lg_view(b->g, v, ne, nb);
	}
	uint64_t ne[4] = {cells, l->n_head_kv, l->d_v, x.ne[2]};
	uint64_t nb[4] = {x.nb[0], pl_sat_mul(row, l->d_v), row, pl_sat_mul(row, x.ne[0])};
	return lg_view(b->g, v, ne, nb);
}

lg_t lb_cpy_k(struct lb *b, lg_t k, lg_t idxs, lg_t cache)
{
	struct lg_tensor x = *lg_at(b->g, k), c = *lg_at(b->g, cache);
	k = lg_view_2d(b->g, k, pl_sat_mul(x.ne[0], x.ne[1]), x.ne[2], x.nb[2]);
	if (b->j->build < LL_SINCE_SET_ROWS) /* a plain copy into a view of the cache */
		return lg_cpy(b->g, k, lg_view_2d(b->g, cache, c.ne[0], x.ne[2], c.nb[1]));
	if (c.ne[2] > 1)
		cache = lg_reshape(b->g, cache, c.ne[0], pl_sat_mul(c.ne[1], c.ne[2]), 1, 1);
	return lg_set_rows(b->g, cache, k, idxs);
}

static lg_t cpy_v(struct lb *b, lg_t v, lg_t idxs, lg_t cache)
{
	struct lg *g = b->g;
	if (b->flash)
		return lb_cpy_k(b, v, idxs, cache);
	struct lg_tensor x = *lg_at(g, v), c = *lg_at(g, cache);
	uint64_t row = pl_sat_mul(x.ne[0], x.ne[1]);
	if (lg_row_bytes(x.type, row) == x.nb[2])
		v = lg_reshape(g, v, row, x.ne[2], 1, 1);
	else
		v = lg_cont_4d(g, v, row, x.ne[2], 1, 1);
	if (row < c.ne[0])
		v = lg_pad(g, v, c.ne[0] - row, 0);
	cache = lg_reshape(g, cache, 1, lg_nelements(g, cache), 1, 1);
	v = lg_reshape(g, v, 1, lg_nelements(g, v), 1, 1);
	return lg_set_rows(g, cache, v, idxs);
}

/* ---- attention --------------------------------------------------------------------------------------------------- */

/* Scores of all heads, where they are stored. */
static lg_t scores(struct lb *b, lg_t q, lg_t k, lg_t v, lg_t kq_b, lg_t mask, lg_t sinks, lg_t v_mla, bool v_trans)
{
	struct lg *g = b->g;
	lg_t kq = lg_mul_mat(g, k, q);
	if (b->j->grok)
		kq = lb_scale(b, lb_act(b, lb_scale(b, kq)));
	if (b->j->attn_softcap)
		kq = lb_scale(b, lb_act(b, lb_scale(b, kq)));
	if (kq_b >= 0)
		kq = lb_add(b, kq, kq_b);
	kq = lg_soft_max(g, kq, mask, sinks);
	if (!v_trans)
		v = lg_cont(g, lg_transpose(g, v));
	lg_t kqv = lg_mul_mat(g, v, kq);
	if (v_mla >= 0)
		kqv = lg_mul_mat(g, v_mla, kqv);
	struct lg_tensor x = *lg_at(g, lg_permute(g, kqv, 0, 2, 1, 3));
	kqv = lg_permute(g, kqv, 0, 2, 1, 3);
	lg_t out = lg_cont_4d(g, kqv, pl_sat_mul(x.ne[0], x.ne[1]), pl_sat_mul(x.ne[2], x.ne[3]), 1, 1);
	if (b->j->p->no_kv_offload && b->pins && out >= 0)
		g->t[out].backend = LG_CPU;
	return out;
}

static lg_t fused_attention(struct lb *b, lg_t q, lg_t k, lg_t v, lg_t mask, lg_t sinks, lg_t v_mla, bool v_trans)
{
	struct lg *g = b->g;
	if (v_trans)
		v = lg_transpose(g, v);
	if (lg_at(g, k)->type == PL_DTYPE_F32)
		k = lg_cast(g, k, PL_DTYPE_F16);
	if (lg_at(g, v)->type == PL_DTYPE_F32)
		v = lg_cast(g, v, PL_DTYPE_F16);
	lg_t x = lg_flash_attn(g, q, k, v, mask, sinks);
	if (v_mla >= 0) {
		x = lg_mul_mat(g, v_mla, lg_permute(g, x, 0, 2, 1, 3));
		x = lg_cont(g, lg_permute(g, x, 0, 2, 1, 3));
	}
	struct lg_tensor s = *lg_at(g, x);
	return lg_reshape(g, x, pl_sat_mul(s.ne[0], s.ne[1]), pl_sat_mul(s.ne[2], s.ne[3]), 1, 1);
}

lg_t lb_attn_mha(struct lb *b, lg_t q, lg_t k, lg_t v, lg_t kq_b, lg_t mask, lg_t sinks, lg_t v_mla, int32_t il)
{
	struct lg *g = b->g;
	struct lg_tensor x = *lg_at(g, q), y = *lg_at(g, v);
	uint64_t n_stream = lg_at(g, k)->ne[3] ? lg_at(g, k)->ne[3] : 1;
	bool v_trans = y.nb[1] > y.nb[2];
	uint64_t ne[4] = {x.ne[0], x.ne[1], x.ne[2] / n_stream, n_stream};
	uint64_t nb[4] = {x.nb[0], x.nb[1], x.nb[2], pl_sat_mul(x.nb[2], ne[2])};
	(void)il;
	q = lg_permute(g, lg_view(g, q, ne, nb), 0, 2, 1, 3);
	k = lg_permute(g, k, 0, 2, 1, 3);
	v = lg_permute(g, v, 0, 2, 1, 3);
	lg_t out = b->flash && kq_b < 0 ? fused_attention(b, q, k, v, mask, sinks, v_mla, v_trans)
	                                : scores(b, q, k, v, kq_b, mask, sinks, v_mla, v_trans);
	lg_expand(g, out);
	return out;
}

lg_t lb_hadamard(struct lb *b, lg_t x, lg_t rot)
{
	struct lg *g = b->g;
	if (rot < 0 || x < 0)
		return x;
	struct lg_tensor s = *lg_at(g, x);
	uint64_t n = lg_at(g, rot)->ne[0], rows = lg_nelements(g, x) / n;
	lg_t y = lg_contiguous(g, x) ? lg_reshape(g, x, n, rows, 1, 1) : lg_cont_4d(g, x, n, rows, 1, 1);
	y = lg_mul_mat(g, rot, y);
	return lg_reshape(g, y, s.ne[0], s.ne[1], s.ne[2], s.ne[3]);
}

static lg_t output_projection(struct lb *b, lg_t x, const char *wo, int32_t il)
{
	char name[48];
	if (!wo)
		return x;
	snprintf(name, sizeof name, "%s.weight", wo);
	x = lb_mm(b, lb_weight(b, il, name), x);
	snprintf(name, sizeof name, "%s.bias", wo);
	lg_t bias = lb_weight(b, il, name);
	return bias >= 0 ? lb_add(b, x, bias) : x;
}

void lb_store(struct lb *b, struct lb_qkv *x, int32_t il)
{
	struct lg *g = b->g;
	const struct lb_attn kv = *cache_of(b, il);
	x->q = lb_hadamard(b, x->q, kv.k_rot);
	x->k = lb_hadamard(b, x->k, kv.k_rot);
	x->v = lb_hadamard(b, x->v, kv.v_rot);
	bool keys_first = b->has_window || lb_layer(b, il)->indexer_heads;
	lg_expand(g, x->q);
	lg_expand(g, keys_first ? x->k : x->v);
	lg_expand(g, keys_first ? x->v : x->k);
	if (x->k >= 0)
		lg_expand(g, lb_cpy_k(b, x->k, kv.k_idxs, k_cache(b, il)));
	if (x->v >= 0)
		lg_expand(g, cpy_v(b, x->v, kv.v_idxs, v_cache(b, il)));
}

lg_t lb_attn(struct lb *b, struct lb_qkv x, lg_t sinks, lg_t kq_b, const char *wo, int32_t il)
{
	const struct lb_attn kv = *cache_of(b, il);
	if (b->m->no_kv_cache)
		return lb_attn_no_cache(b, x, kq_b, wo, il);
	lb_store(b, &x, il);
	lg_t k = lb_get_k(b, il), v = lb_get_v(b, il);
	lg_t out = lb_attn_mha(b, x.q, k, v, kq_b, kv.mask, sinks, LG_NONE, il);
	out = lb_hadamard(b, out, kv.v_rot);
	return output_projection(b, out, wo, il);
}

/* Without a cache keys and values are padded to whole blocks of tokens. */
static lg_t padded(struct lb *b, lg_t x)
{
	struct lg_tensor t = *lg_at(b->g, x);
	lg_t y = lg_node(b->g, LG_OP_PAD, t.type, t.ne[0], t.ne[1], pl_round_up(t.ne[2], LB_NO_CACHE_PAD), t.ne[3]);
	lg_set_src(b->g, y, 0, x);
	return y;
}

lg_t lb_attn_no_cache(struct lb *b, struct lb_qkv x, lg_t kq_b, const char *wo, int32_t il)
{
	lg_expand(b->g, x.q);
	lg_expand(b->g, x.k);
	lg_expand(b->g, x.v);
	lg_t mask = cache_of(b, il)->mask;
	lg_t out = lb_attn_mha(b, x.q, padded(b, x.k), padded(b, x.v), kq_b, mask, LG_NONE, LG_NONE, il);
	return output_projection(b, out, wo, il);
}

lg_t lb_attn_k(struct lb *b, lg_t q, lg_t k, lg_t v, lg_t v_mla, const char *wo, int32_t il)
{
	struct lg *g = b->g;
	const struct lb_attn kv = *cache_of(b, il);
	lg_expand(g, q);
	lg_expand(g, v);
	lg_expand(g, k);
	lg_expand(g, lb_cpy_k(b, k, kv.k_idxs, k_cache(b, il)));
	lg_t keys = lb_get_k(b, il);
	struct lg_tensor x = *lg_at(g, keys);
	x.ne[0] = lg_at(g, v)->ne[0];
	lg_t values = lg_view(g, keys, x.ne, x.nb);
	lg_t out = lb_attn_mha(b, q, keys, values, LG_NONE, kv.mask, LG_NONE, v_mla, il);
	return output_projection(b, out, wo, il);
}

/* ---- feed forward ------------------------------------------------------------------------------------------------ */

static lg_t ffn_part(struct lb *b, lg_t x, const char *name, const char *suffix, int32_t il)
{
	char text[64];
	snprintf(text, sizeof text, "%s%s.weight", name, suffix);
	lg_t w = lb_weight(b, il, text);
	if (w < 0)
		return LG_NONE;
	x = lb_mm(b, w, x);
	snprintf(text, sizeof text, "%s%s.bias", name, suffix);
	lg_t bias = lb_weight(b, il, text);
	if (bias >= 0)
		x = lb_add(b, x, bias);
	snprintf(text, sizeof text, "%s%s.scale", name, suffix);
	lg_t scale = lb_weight(b, il, text);
	return scale >= 0 ? lb_mul(b, x, scale) : x;
}

static lg_t gated(struct lb *b, lg_t gate, lg_t up)
{
	if (b->j->build < LL_SINCE_GLU)
		return lb_mul(b, lb_act(b, gate), up);
	return lg_glu_split(b->g, gate, up);
}

lg_t lb_ffn(struct lb *b, lg_t x, const char *suffix, enum lb_act act, int32_t il)
{
	struct lg *g = b->g;
	lg_t up = ffn_part(b, x, "ffn_up", suffix, il), gate = LG_NONE;
	if (up < 0)
		up = x;
	if (act == LB_GATED || act == LB_CLAMPED)
		gate = ffn_part(b, x, "ffn_gate", suffix, il);
	if (act == LB_RELU_SQR)
		x = lg_unary(g, LG_OP_SQR, lb_act(b, up));
	else if (act == LB_HALVES)
		x = lg_glu(g, up);
	else if (gate < 0)
		x = lb_act(b, up);
	else if (act == LB_CLAMPED) {
		up = lg_unary(g, LG_OP_CLAMP, up);
		x = lb_mul(b, lg_unary(g, LG_OP_CLAMP, lb_act(b, gate)), up);
	} else
		x = lg_glu_split(g, gate, up);
	return ffn_part(b, x, "ffn_down", suffix, il);
}

static lg_t expert_part(struct lb *b, lg_t x, lg_t ids, const char *name, int32_t il)
{
	char text[64];
	snprintf(text, sizeof text, "%s.weight", name);
	x = lg_mul_mat_id(b->g, lb_weight(b, il, text), x, ids);
	snprintf(text, sizeof text, "%s.scale", name);
	lg_t s = lb_weight(b, il, text);
	if (s >= 0) {
		uint64_t n = lg_at(b->g, s)->ne[0];
		s = lg_repeat(b->g, lg_reshape(b->g, s, 1, n, 1, 1), 1, n, lg_at(b->g, x)->ne[2], 1);
		x = lb_mul(b, x, lg_get_rows(b->g, s, ids));
	}
	snprintf(text, sizeof text, "%s.bias", name);
	lg_t bias = lb_weight(b, il, text);
	if (bias < 0)
		return x;
	x = lg_binary(b->g, LG_OP_ADD_ID, x, bias);
	lg_set_src(b->g, x, 2, ids);
	return x;
}

/* Groups of experts: the best groups first, the rest masked out. */
static lg_t by_group(struct lb *b, lg_t probs, uint64_t n_expert, const struct lb_moe *o)
{
	struct lg *g = b->g;
	uint64_t n = lg_at(g, probs)->ne[1], each = n_expert / o->n_groups;
	lg_t groups = lg_reshape(g, probs, each, o->n_groups, n, 1);
	lg_t top = lg_argsort_top_k(g, groups, 2);
	lg_t score = lg_get_rows(g, lg_reshape(g, groups, 1, each, o->n_groups, n), top);
	score = lg_sum_rows(g, lg_reshape(g, score, 2, o->n_groups, n, 1));
	score = lg_reshape(g, score, o->n_groups, n, 1, 1);
	lg_t best = lg_argsort_top_k(g, score, o->n_group_used);
	lg_t chosen = lg_get_rows(g, groups, best);
	lg_t masked = lg_set_rows(g, lg_unary(g, LG_OP_FILL, groups), chosen, best);
	return lg_reshape(g, masked, n_expert, n, 1, 1);
}

static lg_t moe_weights(struct lb *b, lg_t probs, lg_t ids, uint64_t n_expert, uint64_t used, const struct lb_moe *o)
{
	struct lg *g = b->g;
	uint64_t n = lg_at(g, probs)->ne[1];
	lg_t w = lg_get_rows(g, lg_reshape(g, probs, 1, n_expert, n, 1), ids);
	if (o->gating == LB_SOFTMAX_WEIGHT) {
		w = lg_soft_max(g, lg_reshape(g, w, used, n, 1, 1), LG_NONE, LG_NONE);
		w = lg_reshape(g, w, 1, used, n, 1);
	}
	if (o->norm_w) {
		w = lg_reshape(g, w, used, n, 1, 1);
		lg_t sum = lg_unary(g, LG_OP_CLAMP, lg_sum_rows(g, w));
		w = lg_reshape(g, lg_binary(g, LG_OP_DIV, w, sum), 1, used, n, 1);
	}
	if (o->scale_w)
		w = lb_scale(b, w);
	lg_expand(g, w);
	return w;
}

static lg_t moe_act(struct lb *b, lg_t gate, lg_t up, const struct lb_moe *o)
{
	struct lg *g = b->g;
	if (o->act == LB_RELU_SQR)
		return lg_unary(g, LG_OP_SQR, lb_act(b, up));
	if (gate < 0)
		return lb_act(b, up);
	if (o->act == LB_CLAMPED) {
		up = lg_unary(g, LG_OP_CLAMP, up);
		return lb_mul(b, lg_unary(g, LG_OP_CLAMP, lb_act(b, gate)), up);
	}
	return gated(b, gate, up);
}

/* The experts' results by token, added one after the other. */
static lg_t moe_sum(struct lb *b, lg_t x, uint64_t used)
{
	struct lg *g = b->g;
	struct lg_tensor s = *lg_at(g, x);
	lg_t *each = PL_NEW_N(g->a, lg_t, used + 1);
	if (!each) {
		g->failed = true;
		return LG_NONE;
	}
	lg_expand(g, x);
	for (uint64_t i = 0; i < used; i++) {
		each[i] = lg_view_2d(g, x, s.ne[0], s.ne[2], s.nb[2]);
		lg_expand(g, each[i]);
	}
	lg_t sum = each[0];
	for (uint64_t i = 1; i < used; i++) {
		sum = lb_add(b, sum, each[i]);
		lg_expand(g, sum);
	}
	return used == 1 ? lg_cont(g, sum) : sum;
}

lg_t lb_moe(struct lb *b, lg_t x, const struct lb_moe *o, int32_t il)
{
	struct lg *g = b->g;
	const struct pl_layer *l = lb_layer(b, il);
	uint64_t n_expert = l->n_expert, used = l->n_expert_used, width = lg_at(g, x)->ne[0], n = lg_at(g, x)->ne[1];
	lg_t logits = o->probs_in >= 0 ? o->probs_in : lb_mm(b, lb_weight(b, il, "ffn_gate_inp.weight"), x);
	lg_t bias = lb_weight(b, il, "ffn_gate_inp.bias");
	if (bias >= 0)
		logits = lb_add(b, logits, bias);
	lg_t probs = logits;
	if (o->gating == LB_SOFTMAX)
		probs = lg_soft_max(g, logits, LG_NONE, LG_NONE);
	else if (o->gating == LB_SIGMOID)
		probs = lb_act(b, logits);
	lg_t select = probs, correction = lb_weight(b, il, "exp_probs_b.bias");
	if (correction >= 0)
		select = lb_add(b, probs, correction);
	if (o->before)
		select = logits;
	if (o->n_groups > 1)
		select = by_group(b, select, n_expert, o);
	lg_t ids = lg_argsort_top_k(g, select, used);
	lg_t w = moe_weights(b, probs, ids, n_expert, used, o);
	x = lg_reshape(g, x, width, 1, n, 1);
	if (o->before)
		x = lb_mul(b, lg_repeat(g, x, width, used, n, 1), w);
	lg_t up, gate = LG_NONE;
	if (lb_has(b, il, "ffn_gate_up_exps.weight")) {
		lg_t both = expert_part(b, x, ids, "ffn_gate_up_exps", il);
		struct lg_tensor s = *lg_at(g, both);
		gate = lg_view_3d(g, both, s.ne[0] / 2, s.ne[1], s.ne[2], s.nb[1], s.nb[2]);
		up = lg_view_3d(g, both, s.ne[0] / 2, s.ne[1], s.ne[2], s.nb[1], s.nb[2]);
	} else {
		up = expert_part(b, x, ids, "ffn_up_exps", il);
		if (lb_has(b, il, "ffn_gate_exps.weight"))
			gate = expert_part(b, x, ids, "ffn_gate_exps", il);
	}
	x = expert_part(b, moe_act(b, gate, up, o), ids, "ffn_down_exps", il);
	if (!o->before)
		x = lb_mul(b, x, w);
	return moe_sum(b, x, used);
}

lg_t lb_ffn_or_moe(struct lb *b, lg_t x, const struct lb_moe *o, enum lb_act act, int32_t il)
{
	if (!lb_has(b, il, "ffn_gate_inp.weight"))
		return lb_ffn(b, x, "", act, il);
	lg_t moe = lb_moe(b, x, o, il);
	if (!lb_has(b, il, "ffn_up_shexp.weight"))
		return moe;
	lg_t gate = lb_weight(b, il, "ffn_gate_inp_shexp.weight");
	if (gate >= 0) { /* silu(x) / x: a sigmoid in two steps */
		gate = lb_mm(b, gate, x);
		gate = lg_binary(b->g, LG_OP_DIV, lb_act(b, gate), gate);
	}
	lg_t shared = lb_ffn(b, x, "_shexp", LB_GATED, il);
	if (gate >= 0)
		shared = lb_mul(b, shared, gate);
	return lb_add(b, moe, shared);
}
