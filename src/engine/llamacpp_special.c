/* Architectures whose layers are put together in a way of their own: Gemma 4 (src/models/gemma4.cpp) and MiniMax M3, whose
 * sparse layers choose blocks of the context (src/models/minimax-m3.cpp). */
#include <string.h>

#include "base/checked.h"
#include "engine/llamacpp_build.h"

enum { F32 = 4 };

/* ---- Gemma 4 ----------------------------------------------------------------------------------------------------- */

/* Rows of the embedding per layer, beside a projection of the input. */
static lg_t per_layer_inputs(struct lb *b, lg_t x)
{
	struct lg *g = b->g;
	uint64_t n_layer = b->m->n_layers, n = b->n_tokens, d = b->m->d_per_layer_embed;
	lg_t tokens = lg_input(g, PL_DTYPE_I32, n, 1, 1, 1);
	lg_t rows = lg_get_rows(g, lb_weight(b, -1, "per_layer_token_embd.weight"), tokens);
	rows = lb_scale(b, lg_reshape(g, rows, d, n_layer, n, 1));
	lg_expand(g, rows);
	lg_t p = lb_scale(b, lb_mm(b, lb_weight(b, -1, "per_layer_model_proj.weight"), x));
	p = lb_norm(b, lg_reshape(g, p, d, n_layer, n, 1), "per_layer_proj_norm", LB_RMS, -1);
	p = lb_scale(b, lb_add(b, p, rows));
	return lg_cont(g, lg_permute(g, p, 0, 2, 1, 3));
}

static lg_t gemma_attention(struct lb *b, lg_t x, int32_t il)
{
	struct lg *g = b->g;
	const struct pl_layer *l = lb_layer(b, il);
	bool factors = !l->window_tokens;
	struct lb_qkv y = {.k = LG_NONE, .v = LG_NONE};
	y.q = lg_reshape(g, lb_mm(b, lb_weight(b, il, "attn_q.weight"), x), l->d_k, l->n_head, b->n_tokens, 1);
	y.q = lb_rope(b, lb_norm(b, y.q, "attn_q_norm", LB_RMS, il), il, factors);
	if (l->kv_from_layer < 0) {
		y.k = lb_mm(b, lb_weight(b, il, "attn_k.weight"), x);
		y.v = lb_has(b, il, "attn_v.weight") ? lb_mm(b, lb_weight(b, il, "attn_v.weight"), x) : y.k;
		y.k = lg_reshape(g, y.k, l->d_k, l->n_head_kv, b->n_tokens, 1);
		y.v = lg_reshape(g, y.v, l->d_k, l->n_head_kv, b->n_tokens, 1);
		y.k = lb_norm(b, y.k, "attn_k_norm", LB_RMS, il);
		y.v = lb_norm(b, y.v, NULL, LB_RMS, il);
		y.k = lb_rope(b, y.k, il, factors);
	}
	return lb_attn(b, y, LG_NONE, LG_NONE, "attn_output", il);
}

static lg_t gemma_experts(struct lb *b, lg_t x, int32_t il)
{
	lg_t dense = lb_ffn(b, lb_norm(b, x, "ffn_norm", LB_RMS, il), "", LB_GATED, il);
	dense = lb_norm(b, dense, "post_ffw_norm_1", LB_RMS, il);
	lg_t in = lb_norm(b, x, "pre_ffw_norm_2", LB_RMS, il);
	lg_t router = lb_scale(b, lb_norm(b, x, NULL, LB_RMS, il));
	router = lb_mul(b, router, lb_weight(b, il, "ffn_gate_inp.scale"));
	struct lb_moe o = {.gating = LB_SOFTMAX, .norm_w = true, .probs_in = lb_mm(b, lb_weight(b, il, "ffn_gate_inp.weight"), router)};
	lg_t moe = lb_norm(b, lb_moe(b, in, &o, il), "post_ffw_norm_2", LB_RMS, il);
	return lb_add(b, dense, moe);
}

static lg_t gemma_layer(struct lb *b, lg_t x, lg_t per_layer, int32_t il)
{
	struct lg *g = b->g;
	lg_t cur = gemma_attention(b, lb_norm(b, x, "attn_norm", LB_RMS, il), il);
	lb_keep_outputs(b, il, &cur, &x);
	lg_t mid = lb_add(b, lb_norm(b, cur, "post_attention_norm", LB_RMS, il), x);
	if (lb_has(b, il, "ffn_gate_inp.weight"))
		cur = gemma_experts(b, mid, il);
	else
		cur = lb_ffn(b, lb_norm(b, mid, "ffn_norm", LB_RMS, il), "", LB_GATED, il);
	cur = lb_norm_w(b, cur, lb_weight(b, il, "post_ffw_norm.weight"), LG_NONE, LB_RMS, -1);
	cur = lb_add(b, cur, mid);
	if (per_layer >= 0) {
		lg_t in = cur;
		struct lg_tensor p = *lg_at(g, per_layer);
		cur = lb_act(b, lb_mm(b, lb_weight(b, il, "inp_gate.weight"), cur));
		lg_t own = lg_view_2d(g, per_layer, p.ne[0], p.ne[1], p.ne[0] * F32);
		cur = lb_mul(b, cur, lb_is_last(b, il) ? lb_outputs(b, own) : own);
		cur = lb_norm(b, lb_mm(b, lb_weight(b, il, "proj.weight"), cur), "post_norm", LB_RMS, il);
		cur = lb_add(b, in, cur);
	}
	lg_t scale = lb_weight(b, il, "layer_output_scale.weight");
	return scale >= 0 ? lb_mul(b, cur, scale) : cur;
}

static bool build_gemma4(struct lb *b)
{
	lg_t x = lb_inp_embd(b, false, true), per_layer = LG_NONE;
	lb_inp_pos(b, 1);
	lb_inp_attn(b);
	lb_inp_out_ids(b);
	if (lb_has(b, -1, "per_layer_token_embd.weight"))
		per_layer = per_layer_inputs(b, x);
	for (int32_t il = lb_first(b); il >= 0; il = lb_next(b, il))
		x = gemma_layer(b, x, per_layer, il);
	lb_head(b, x, LB_RMS, true, false);
	return true;
}

/* ---- MiniMax M3 -------------------------------------------------------------------------------------------------- */

enum { BLOCK = 128, N_POS = 256 /* positions a reservation sees */, N_BLOCKS = N_POS / BLOCK };

struct blocks {
	lg_t bias, pos_mask, pos_slot, cell_blk, mask_f32, k_idxs;
	uint64_t streams, n_each, heads;
};

static lg_t on_top(struct lb *b, lg_t a, lg_t c)
{
	lg_t t = lb_add(b, a, c); /* in place: a view */
	if (t >= 0)
		b->g->t[t].view_src = lg_at(b->g, a)->view_src >= 0 ? lg_at(b->g, a)->view_src : a;
	return t;
}

static struct blocks block_inputs(struct lb *b)
{
	struct lg *g = b->g;
	struct blocks s = {.streams = b->j->ctx.n_stream};
	s.n_each = b->n_tokens / s.streams;
	s.k_idxs = lg_input(g, PL_DTYPE_I64, b->n_tokens, 1, 1, 1);
	s.bias = lg_input(g, PL_DTYPE_F32, N_BLOCKS, b->n_tokens, 1, 1);
	s.pos_mask = lg_input(g, PL_DTYPE_F32, N_POS, b->n_tokens, 1, 1);
	s.pos_slot = lg_input(g, PL_DTYPE_I32, N_POS, s.streams, 1, 1);
	s.cell_blk = lg_input(g, PL_DTYPE_I32, b->kv[0].n_kv, s.streams, 1, 1);
	s.mask_f32 = lg_cast(g, b->kv[0].mask, PL_DTYPE_F32);
	return s;
}

/* The mask of one stream: which blocks each head of each token reads, spread over the cells. */
static lg_t block_mask(struct lb *b, const struct blocks *s, lg_t q, lg_t keys, uint64_t top)
{
	struct lg *g = b->g;
	uint64_t n = s->n_each, h = s->heads, d = lg_at(g, q)->ne[0], n_kv = b->kv[0].n_kv;
	struct lg_tensor k = *lg_at(g, keys), m = *lg_at(g, s->mask_f32), x = *lg_at(g, q);
	lg_t slots = lg_view_2d(g, s->pos_slot, N_POS, 1, N_POS * F32);
	lg_t pm = lg_view_3d(g, s->pos_mask, N_POS, 1, n, N_POS * F32, N_POS * F32);
	lg_t bias = lg_view_3d(g, s->bias, N_BLOCKS, 1, n, N_BLOCKS * F32, N_BLOCKS * F32);
	lg_t score = lg_mul_mat(g, lg_get_rows(g, lg_view_2d(g, keys, d, n_kv, k.nb[2]), slots),
	                        lg_reshape(g, lg_view_3d(g, q, d, h, n, x.nb[1], x.nb[2]), d, h * n, 1, 1));
	score = on_top(b, lg_reshape(g, score, N_POS, h, n, 1), pm);
	lg_t pooled = lg_node(g, LG_OP_OTHER, PL_DTYPE_F32, N_BLOCKS, h, n, 1);
	lg_set_src(g, pooled, 0, score);
	lg_t best = lg_node(g, LG_OP_TOP_K, PL_DTYPE_I32, top, h, n, 1);
	lg_set_src(g, best, 0, lb_add(b, pooled, bias));
	lg_t none = lg_repeat(g, lg_cast(g, lb_scale(b, bias), PL_DTYPE_F16), N_BLOCKS, h, n, 1);
	lg_t zero = lb_scale(b, lg_cast(g, best, PL_DTYPE_F32));
	lg_t set = lg_set_rows(g, lg_reshape(g, none, 1, N_BLOCKS, h * n, 1), lg_reshape(g, zero, 1, top, h * n, 1),
	                       lg_reshape(g, best, top, h * n, 1, 1));
	set = lg_cont(g, lg_permute(g, lg_reshape(g, set, N_BLOCKS, h, n, 1), 0, 2, 1, 3));
	set = lg_cont(g, lg_transpose(g, lg_reshape(g, set, N_BLOCKS, n * h, 1, 1)));
	lg_t cells = lg_get_rows(g, set, lg_view_2d(g, s->cell_blk, n_kv, 1, n_kv * F32));
	cells = lg_reshape(g, lg_cont(g, lg_transpose(g, cells)), n_kv, n, h, 1);
	cells = on_top(b, cells, lg_view_3d(g, s->mask_f32, n_kv, n, 1, m.nb[1], m.nb[3]));
	return lg_cast(g, lg_reshape(g, cells, n_kv, n, 1, h), PL_DTYPE_F16);
}

static lg_t attend_blocks(struct lb *b, const struct blocks *s, struct lb_qkv y, lg_t iq, lg_t keys, int32_t il)
{
	struct lg *g = b->g;
	const struct pl_layer *l = lb_layer(b, il);
	lg_t k = lb_get_k(b, il), v = lb_get_v(b, il), out = LG_NONE;
	struct lg_tensor kt = *lg_at(g, k), vt = *lg_at(g, v), q = *lg_at(g, y.q);
	uint64_t d = kt.ne[0], hkv = kt.ne[1], group = l->n_head / hkv, n = s->n_each;
	for (uint64_t st = 0; st < s->streams; st++) {
		uint64_t kne[4] = {d, hkv, kt.ne[2], 1}, vne[4] = {vt.ne[0], hkv, vt.ne[2], 1};
		lg_t qs = lg_view_3d(g, y.q, d, l->n_head, n, q.nb[1], q.nb[2]);
		lg_t ks = lg_view(g, k, kne, kt.nb), vs = lg_view(g, v, vne, vt.nb);
		lg_t mask = block_mask(b, s, iq, keys, pl_min_u64(N_BLOCKS, l->indexer_topk ? l->indexer_topk : N_BLOCKS));
		qs = lg_permute(g, lg_reshape(g, qs, d, group, hkv, n), 0, 2, 3, 1);
		lg_t o = lg_flash_attn(g, qs, lg_permute(g, ks, 0, 3, 1, 2), lg_permute(g, vs, 0, 3, 1, 2), mask, LG_NONE);
		o = lg_cont(g, lg_permute(g, o, 0, 1, 3, 2));
		o = lg_reshape(g, o, d * l->n_head, n, 1, 1);
		out = st ? lg_concat(g, out, o, 1) : o;
	}
	return out;
}

static lg_t sparse_layer(struct lb *b, const struct blocks *s, lg_t x, struct lb_qkv y, int32_t il)
{
	struct lg *g = b->g;
	const struct pl_layer *l = lb_layer(b, il);
	uint64_t d = l->indexer_dim;
	lg_t iq = lg_reshape(g, lb_mm(b, lb_weight(b, il, "indexer.q_proj.weight"), x), d, s->heads, b->n_tokens, 1);
	lg_t ik = lg_reshape(g, lb_mm(b, lb_weight(b, il, "indexer.k_proj.weight"), x), d, 1, b->n_tokens, 1);
	iq = lb_rope(b, lb_norm(b, iq, "indexer.q_norm", LB_RMS, il), il, false);
	ik = lb_rope(b, lb_norm(b, ik, "indexer.k_norm", LB_RMS, il), il, false);
	lg_t cache = lb_index_cache(b, il);
	lg_expand(g, lb_cpy_k(b, ik, s->k_idxs, cache));
	struct lg_tensor c = *lg_at(g, cache);
	uint64_t ne[4] = {d, 1, c.ne[1], c.ne[2]}, nb[4] = {c.nb[0], lg_row_bytes(c.type, d), c.nb[1], c.nb[2]};
	lg_t keys = lg_view(g, cache, ne, nb);
	lb_store(b, &y, il);
	lg_t out = attend_blocks(b, s, y, iq, keys, il);
	if (b->kv[0].v_rot >= 0)
		out = lb_hadamard(b, out, b->kv[0].v_rot);
	return lb_mm(b, lb_weight(b, il, "attn_output.weight"), out);
}

static bool build_minimax_m3(struct lb *b)
{
	struct lb_moe o = {.gating = LB_SIGMOID, .norm_w = true, .scale_w = true, .probs_in = LG_NONE};
	bool sparse = b->flash && (b->n_seqs == 1 || b->j->ctx.n_stream > 1);
	struct blocks s = {.streams = 1};
	lg_t x = lb_inp_embd(b, false, false);
	lb_inp_pos(b, 1);
	lb_inp_attn(b);
	if (sparse)
		s = block_inputs(b);
	for (uint32_t i = 0; i < b->m->n_layers && !s.heads; i++)
		s.heads = b->m->layers[i].indexer_heads;
	lb_inp_out_ids(b);
	for (int32_t il = lb_first(b); il >= 0; il = lb_next(b, il)) {
		lg_t cur = lb_norm(b, x, "attn_norm", LB_RMS, il);
		struct lb_qkv y = lb_qkv(b, cur, il, true);
		y.q = lb_rope(b, lb_norm(b, y.q, "attn_q_norm", LB_RMS, il), il, false);
		y.k = lb_rope(b, lb_norm(b, y.k, "attn_k_norm", LB_RMS, il), il, false);
		if (sparse && lb_layer(b, il)->indexer_heads)
			cur = sparse_layer(b, &s, cur, y, il);
		else
			cur = lb_attn(b, y, LG_NONE, LG_NONE, "attn_output", il);
		lb_keep_outputs(b, il, &cur, &x);
		lg_t mid = lb_add(b, cur, x);
		x = lb_add(b, lb_ffn_or_moe(b, lb_norm(b, mid, "ffn_norm", LB_RMS, il), &o, LB_GATED, il), mid);
	}
	lb_head(b, x, LB_RMS, false, false);
	return true;
}

/* ---- encoders ---------------------------------------------------------------------------------------------------- */

static bool is_any(const struct lb *b, const char *const *archs, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(b->m->arch, archs[i]))
			return true;
	return false;
}

static lg_t bert_embeddings(struct lb *b)
{
	struct lg *g = b->g;
	lb_inp_pos(b, 1);
	lg_t types = lb_weight(b, -1, "token_types.weight"), positions = lb_weight(b, -1, "position_embd.weight");
	if (positions >= 0) {
		positions = lg_get_rows(g, positions, b->pos);
		lg_expand(g, positions);
	}
	lg_t x = lb_inp_embd(b, false, false);
	if (types >= 0)
		x = lb_add(b, x, lg_view_2d(g, types, b->m->n_embd, 1, lg_at(g, types)->nb[1]));
	if (positions >= 0)
		x = lb_add(b, positions, x);
	return lb_norm_w(b, x, lb_weight(b, -1, "token_embd_norm.weight"), lb_weight(b, -1, "token_embd_norm.bias"), LB_LAYER_NORM, 0);
}

/* BERT and its kin: norms after the sums (src/models/bert.cpp). */
static bool build_bert(struct lb *b)
{
	static const char *const rotating[] = {"nomic-bert", "nomic-bert-moe", "jina-bert-v3"};
	bool rope = is_any(b, rotating, sizeof rotating / sizeof *rotating), gated = !strcmp(b->m->arch, "nomic-bert");
	struct lb_moe o = {.act = LB_PLAIN, .gating = LB_SOFTMAX, .probs_in = LG_NONE};
	lg_t x = bert_embeddings(b);
	lb_inp_attn(b);
	lb_inp_out_ids(b);
	for (int32_t il = lb_first(b); il >= 0; il = lb_next(b, il)) {
		struct lb_qkv y = lb_qkv(b, x, il, true);
		if (rope) {
			y.q = lb_rope(b, y.q, il, false);
			y.k = lb_rope(b, y.k, il, false);
		}
		lg_t cur = lb_attn_no_cache(b, y, LG_NONE, "attn_output", il);
		lb_keep_outputs(b, il, &cur, &x);
		cur = lb_norm(b, lb_add(b, cur, x), "attn_output_norm", LB_LAYER_NORM, il);
		lg_t ffn = lb_ffn_or_moe(b, cur, &o, gated ? LB_GATED : LB_PLAIN, il);
		x = lb_norm(b, lb_add(b, ffn, cur), "layer_output_norm", LB_LAYER_NORM, il);
	}
	if (x >= 0)
		b->g->t[x].output = true;
	lg_expand(b->g, x);
	return true;
}

bool lb_build_special(struct lb *b)
{
	static const char *const encoders[] = {"bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v3"};
	if (b->m->arch && is_any(b, encoders, sizeof encoders / sizeof *encoders))
		return build_bert(b);
	if (b->m->arch && !strcmp(b->m->arch, "gemma4"))
		return build_gemma4(b);
	if (b->m->arch && !strcmp(b->m->arch, "minimax-m3"))
		return build_minimax_m3(b);
	return false;
}
