/* Latent attention: DeepSeek V2 and V3, and with an indexer that chooses what is read, V3.2 and GLM 5
 * (llama.cpp src/models/deepseek2.cpp, deepseek32.cpp, glm-dsa.cpp, src/llama-graph.cpp build_attn for k_dsa). */
#include <string.h>

#include "base/checked.h"
#include "engine/llamacpp_build.h"

enum { F32 = 4 };

struct latent {
	lg_t q, k, v; /* as the cache and the scores take them */
};

static lg_t query(struct lb *b, lg_t x, int32_t il, lg_t *ret_low)
{
	if (!lb_has(b, il, "attn_q_a.weight")) {
		*ret_low = LG_NONE;
		return lb_mm(b, lb_weight(b, il, "attn_q.weight"), x);
	}
	*ret_low = lb_norm(b, lb_mm(b, lb_weight(b, il, "attn_q_a.weight"), x), "attn_q_a_norm", LB_RMS, il);
	return lb_mm(b, lb_weight(b, il, "attn_q_b.weight"), *ret_low);
}

/* Queries taken into the latent space, keys as they are stored. */
static struct latent absorbed(struct lb *b, lg_t q, lg_t x, int32_t il)
{
	struct lg *g = b->g;
	const struct pl_layer *l = lb_layer(b, il);
	uint64_t n = b->n_tokens, d = (uint64_t)l->d_nope + l->d_rope, row = d * F32, low = (uint64_t)l->kv_lora + l->d_rope;
	lg_t nope = lg_view_3d(g, q, l->d_nope, l->n_head, n, row, row * l->n_head);
	lg_t pe = lg_view_3d(g, q, l->d_rope, l->n_head, n, row, row * l->n_head);
	lg_t kv = lb_mm(b, lb_weight(b, il, "attn_kv_a_mqa.weight"), x);
	lg_t c = lg_view_2d(g, kv, l->kv_lora, n, low * F32);
	lg_t k_pe = lb_rope(b, lg_view_3d(g, kv, l->d_rope, 1, n, low * F32, low * F32), il, false);
	pe = lb_rope(b, pe, il, false);
	c = lb_norm(b, c, "attn_kv_a_norm", LB_RMS, il);
	nope = lg_mul_mat(g, lb_weight(b, il, "attn_k_b.weight"), lg_permute(g, nope, 0, 2, 1, 3));
	struct latent r = {.q = lg_concat(g, lg_permute(g, nope, 0, 2, 1, 3), pe, 0)};
	r.v = lg_reshape(g, c, l->kv_lora, 1, n, 1);
	r.k = lg_concat(g, r.v, k_pe, 0);
	return r;
}

/* Files from before the absorption: keys and values of all heads are made and cached. */
static lg_t unabsorbed(struct lb *b, lg_t q, lg_t x, int32_t il)
{
	struct lg *g = b->g;
	const struct pl_layer *l = lb_layer(b, il);
	uint64_t n = b->n_tokens, rope = l->d_rope, nope = l->d_k - rope, low = (uint64_t)l->kv_lora + rope;
	uint64_t row = (nope + l->d_v) * F32;
	lg_t kv = lb_mm(b, lb_weight(b, il, "attn_kv_a_mqa.weight"), x);
	lg_t k_pe = lb_rope(b, lg_view_3d(g, kv, rope, 1, n, low * F32, low * F32), il, false);
	lg_t c = lb_norm(b, lg_view_2d(g, kv, l->kv_lora, n, low * F32), "attn_kv_a_norm", LB_RMS, il);
	kv = lb_mm(b, lb_weight(b, il, "attn_kv_b.weight"), c);
	struct lb_qkv y = {.q = lb_rope(b, lg_reshape(g, q, l->d_k, l->n_head, n, 1), il, false)};
	lg_t k_nope = lg_view_3d(g, kv, nope, l->n_head, n, row, row * l->n_head);
	y.v = lg_cont(g, lg_view_3d(g, kv, l->d_v, l->n_head, n, row, row * l->n_head));
	y.k = lg_concat(g, k_nope, lg_repeat(g, k_pe, rope, l->n_head, n, 1), 0);
	return lb_attn(b, y, LG_NONE, LG_NONE, "attn_output", il);
}

/* ---- the indexer ------------------------------------------------------------------------------------------------- */

struct index_inputs {
	lg_t k_idxs, mask, rot;
};

/* The tokens a layer reads: scores of all, then the best. */
static lg_t choose(struct lb *b, lg_t x, lg_t low, const struct index_inputs *in, int32_t il)
{
	struct lg *g = b->g;
	const struct pl_layer *l = lb_layer(b, il);
	uint64_t d = l->indexer_dim, h = l->indexer_heads, n = b->n_tokens, streams = b->j->ctx.n_stream;
	lg_t q = lg_reshape(g, lb_mm(b, lb_weight(b, il, "indexer.attn_q_b.weight"), low), d, h, n, 1);
	lg_t k = lb_norm(b, lb_mm(b, lb_weight(b, il, "indexer.attn_k.weight"), x), "indexer.k_norm", LB_LAYER_NORM, il);
	q = lb_mm(b, in->rot, lb_rope(b, q, il, false));
	k = lb_mm(b, in->rot, lb_rope(b, lg_reshape(g, k, d, 1, n, 1), il, false));
	lg_t cache = lb_index_cache(b, il);
	lg_expand(g, lb_cpy_k(b, k, in->k_idxs, cache));
	lg_t w = lb_mm(b, lb_weight(b, il, "indexer.proj.weight"), x);
	struct lg_tensor c = *lg_at(g, cache), s = *lg_at(g, q), t = *lg_at(g, w);
	uint64_t kne[4] = {d, 1, c.ne[1], c.ne[2]}, knb[4] = {c.nb[0], lg_row_bytes(c.type, d), c.nb[1], c.nb[2]};
	uint64_t qne[4] = {d, h, n / streams, streams}, qnb[4] = {s.nb[0], s.nb[1], s.nb[2], s.nb[3] / streams};
	uint64_t wne[4] = {t.ne[0], t.ne[1] / streams, 1, streams}, wnb[4] = {t.nb[0], t.nb[1], t.nb[2] / streams, t.nb[3] / streams};
	const lg_t src[] = {lg_view(g, q, qne, qnb), lg_view(g, cache, kne, knb), lb_scale(b, lg_view(g, w, wne, wnb)), in->mask};
	lg_t score = lg_node(g, LG_OP_INDEXER, PL_DTYPE_F32, c.ne[1], n / streams, 1, streams);
	for (int i = 0; i < 4; i++)
		lg_set_src(g, score, i, src[i]);
	uint64_t top = pl_min_u64(c.ne[1], l->indexer_topk);
	lg_t best = lg_node(g, LG_OP_TOP_K, PL_DTYPE_I32, top, n / streams, 1, streams);
	lg_set_src(g, best, 0, score);
	return lg_cont(g, best);
}

/* A mask that lets only the chosen through. */
static lg_t chosen_mask(struct lb *b, lg_t mask, lg_t best)
{
	struct lg *g = b->g;
	lg_t all = lg_unary(g, LG_OP_FILL, mask);
	struct lg_tensor m = *lg_at(g, all), t = *lg_at(g, best);
	uint64_t ne[4] = {1, m.ne[0], m.ne[1], m.ne[3]}, nb[4] = {m.nb[0], m.nb[0], m.nb[1], m.nb[2]};
	all = lg_view(g, all, ne, nb);
	uint64_t tne[4] = {t.ne[0], t.ne[1], t.ne[3], 1}, tnb[4] = {t.nb[0], t.nb[1], t.nb[2], pl_sat_mul(t.ne[3], t.nb[3])};
	lg_t ids = lg_view(g, best, tne, tnb);
	lg_t zeros = lg_unary(g, LG_OP_FILL, lg_new(g, PL_DTYPE_F32, 1, t.ne[0], t.ne[1], t.ne[3]));
	lg_t set = lg_set_rows(g, all, zeros, ids);
	struct lg_tensor s = *lg_at(g, set);
	uint64_t bne[4] = {m.ne[0], m.ne[1], 1, m.ne[3]}, bnb[4] = {m.nb[0], s.nb[2], s.nb[3], s.nb[3]};
	return lb_add(b, lg_view(g, set, bne, bnb), mask);
}

static lg_t sparse_attention(struct lb *b, struct latent y, lg_t best, int32_t il)
{
	struct lg *g = b->g;
	lg_expand(g, y.q);
	lg_expand(g, y.v);
	lg_expand(g, y.k);
	lg_t cache = lg_at(g, lb_get_k(b, il))->view_src;
	lg_expand(g, lb_cpy_k(b, y.k, b->kv[0].k_idxs, cache));
	lg_t mask = chosen_mask(b, b->kv[0].mask, best), keys = lb_get_k(b, il);
	struct lg_tensor x = *lg_at(g, keys);
	x.ne[0] = lg_at(g, y.v)->ne[0];
	lg_t values = lg_view(g, keys, x.ne, x.nb);
	lg_t out = lb_attn_mha(b, y.q, keys, values, LG_NONE, mask, LG_NONE, lb_weight(b, il, "attn_v_b.weight"), il);
	return lb_mm(b, lb_weight(b, il, "attn_output.weight"), out);
}

/* ---- the model --------------------------------------------------------------------------------------------------- */

static bool is_latent(const struct lb *b)
{
	return b->m->n_layers && lb_layer(b, 0)->attn == PL_ATTN_MLA;
}

static lg_t attention(struct lb *b, lg_t x, int32_t il, const struct index_inputs *in, lg_t *best)
{
	lg_t low, q = query(b, x, il, &low);
	if (!is_latent(b))
		return unabsorbed(b, q, x, il);
	if (in->k_idxs < 0) {
		struct latent y = absorbed(b, q, x, il);
		return lb_attn_k(b, y.q, y.k, y.v, lb_weight(b, il, "attn_v_b.weight"), "attn_output", il);
	}
	if (lb_layer(b, il)->indexer_heads)
		*best = choose(b, x, low, in, il);
	return sparse_attention(b, absorbed(b, q, x, il), *best, il);
}

static struct lb_moe experts(const struct lb *b)
{
	struct lb_moe o = {.gating = LB_SOFTMAX, .probs_in = LG_NONE};
	for (uint32_t i = 0; i < b->m->n_layers; i++) {
		const struct pl_layer *l = lb_layer(b, (int32_t)i);
		if (l->ffn != PL_FFN_MOE)
			continue;
		/* from V3 on, chosen with a correction: sigmoid, weights that sum to one */
		bool v3 = lb_has(b, (int32_t)i, "exp_probs_b.bias");
		o.gating = v3 ? LB_SIGMOID : LB_SOFTMAX;
		o.norm_w = v3;
		o.scale_w = v3;
		o.n_groups = (l->n_expert == 256 && v3) || l->n_expert == 160 ? 8 : 1;
		o.n_group_used = l->n_expert == 160 ? 3 : 4;
		break;
	}
	return o;
}

static struct index_inputs index_inputs(struct lb *b)
{
	struct index_inputs in = {LG_NONE, LG_NONE, LG_NONE};
	const struct ll_context *c = &b->j->ctx;
	uint64_t n = 64, d = lb_layer(b, 0)->indexer_dim;
	/* a layer that drafts reads all of its cache */
	if (b->mtp || (strcmp(b->m->arch, "deepseek32") && strcmp(b->m->arch, "glm-dsa")))
		return in;
	for (uint32_t i = 0; !d && i < b->m->n_layers; i++)
		d = lb_layer(b, (int32_t)i)->indexer_dim;
	while (d && d % (2 * n) == 0)
		n *= 2;
	in.k_idxs = lg_input(b->g, PL_DTYPE_I64, b->n_tokens, 1, 1, 1);
	in.mask = lg_input(b->g, PL_DTYPE_F16, b->kv[0].n_kv, b->n_tokens / c->n_stream, 1, c->n_stream);
	in.rot = lg_input(b->g, PL_DTYPE_F32, n, n, 1, 1);
	return in;
}

bool lb_build_mla(struct lb *b)
{
	static const char *const archs[] = {"deepseek2", "deepseek32", "glm-dsa"};
	bool ours = false;
	for (size_t i = 0; i < sizeof archs / sizeof *archs; i++)
		ours |= b->m->arch && !strcmp(b->m->arch, archs[i]);
	if (!ours)
		return false;
	struct lb_moe o = experts(b);
	lg_t x = lb_inp_embd(b, false, false), best = LG_NONE;
	lb_inp_pos(b, 1);
	if (is_latent(b))
		lb_inp_attn_k(b);
	else
		lb_inp_attn(b);
	struct index_inputs in = index_inputs(b);
	lb_inp_out_ids(b);
	for (int32_t il = lb_first(b); il >= 0; il = lb_next(b, il)) {
		lg_t cur = attention(b, lb_norm(b, x, "attn_norm", LB_RMS, il), il, &in, &best);
		lb_keep_outputs(b, il, &cur, &x);
		lg_t mid = lb_add(b, cur, x);
		cur = lb_norm(b, mid, "ffn_norm", LB_RMS, il);
		x = lb_add(b, lb_ffn_or_moe(b, cur, &o, LB_GATED, il), mid);
	}
	lb_head(b, x, LB_RMS, false, false);
	return true;
}
