/* Mixers with a state (llama.cpp src/models/mamba-base.cpp, delta-net-base.cpp, qwen3next.cpp, qwen35.cpp, lfm2.cpp). */
#include "base/checked.h"
#include "engine/llamacpp_build.h"
#include "memory/cache.h"

enum { F32 = 4 };

static lg_t view_4d(struct lb *b, lg_t x, uint64_t n0, uint64_t n1, uint64_t n2, uint64_t n3, uint64_t nb1, uint64_t nb2,
                    uint64_t nb3)
{
	uint64_t ne[4] = {n0, n1, n2, n3}, nb[4] = {F32, nb1, nb2, nb3};
	return lg_view(b->g, x, ne, nb);
}

/* A result that is written back over a state. */
static void write_back(struct lb *b, lg_t from, lg_t state, uint64_t row)
{
	lg_expand(b->g, lg_cpy(b->g, from, lg_view_2d(b->g, state, row, b->n_seqs, row * F32)));
}

/* The last inputs of the convolution before the new ones. */
static lg_t with_history(struct lb *b, lg_t x, int32_t il, uint64_t channels)
{
	struct lg *g = b->g;
	uint64_t keep = lb_layer(b, il)->d_conv - 1, row = pl_layer_state_row(lb_layer(b, il)).conv_elems;
	lg_t state = lb_state_r(b, il), old = lg_reshape(g, lb_rs(b, state, row, NULL, NULL), keep, channels, b->n_seqs, 1);
	lg_t all = lg_concat(g, old, lg_transpose(g, x), 0);
	struct lg_tensor s = *lg_at(g, all);
	for (uint32_t k = 0; k <= b->j->n_rollback; k++) /* a copy for each token that may be taken back */
		write_back(b, lg_view_3d(g, all, keep, channels, b->n_seqs, s.nb[1], s.nb[2]), state, row);
	return all;
}

static lg_t convolve(struct lb *b, lg_t x, lg_t kernel)
{
	struct lg_tensor s = *lg_at(b->g, x), k = *lg_at(b->g, kernel);
	lg_t t = lg_node(b->g, LG_OP_SSM_CONV, PL_DTYPE_F32, k.ne[1], s.ne[0] - k.ne[0] + 1, s.ne[2], 1);
	lg_set_src(b->g, t, 0, x);
	lg_set_src(b->g, t, 1, kernel);
	return t;
}

/* ---- Mamba ------------------------------------------------------------------------------------------------------- */

struct scan {
	lg_t x, dt, a, b, c;
	uint64_t d_state, head_dim, n_head;
};

static lg_t scan_rows(struct lb *b, lg_t states, lg_t ids, const void *with)
{
	const struct scan *s = with;
	struct lg *g = b->g;
	uint64_t n = pl_sat_mul(pl_sat_mul(s->d_state, s->head_dim), pl_sat_mul(s->n_head, lg_at(g, ids)->ne[0]));
	lg_t ssm = lg_reshape(g, states, s->d_state, s->head_dim, s->n_head, b->n_seqs);
	lg_t t = lg_node(g, LG_OP_SSM_SCAN, PL_DTYPE_F32, pl_sat_add(lg_nelements(g, s->x), n), 1, 1, 1);
	const lg_t src[] = {ssm, s->x, s->dt, s->a, s->b, s->c, ids};
	for (int i = 0; i < 7; i++)
		lg_set_src(g, t, i, src[i]);
	return t;
}

lg_t lb_mamba1(struct lb *b, lg_t x, int32_t il)
{
	struct lg *g = b->g;
	const struct pl_layer *l = lb_layer(b, il);
	uint64_t inner = l->d_inner, n = b->n_seq_tokens, state = l->d_state;
	x = lg_reshape(g, x, lg_at(g, x)->ne[0], n, b->n_seqs, 1);
	lg_t xz = lb_mm(b, lb_weight(b, il, "ssm_in.weight"), x);
	struct lg_tensor s = *lg_at(g, xz);
	lg_t z = lg_view_3d(g, xz, inner, n, b->n_seqs, s.nb[1], s.nb[2]);
	x = with_history(b, lg_view_3d(g, xz, inner, n, b->n_seqs, s.nb[1], s.nb[2]), il, inner);
	x = convolve(b, x, lb_weight(b, il, "ssm_conv1d.weight"));
	x = lb_act(b, lb_add(b, x, lb_weight(b, il, "ssm_conv1d.bias")));
	lg_t db = lb_mm(b, lb_weight(b, il, "ssm_x.weight"), x);
	s = *lg_at(g, db);
	lg_t dt = lg_view_3d(g, db, l->dt_rank, n, b->n_seqs, s.nb[1], s.nb[2]);
	struct scan w = {.d_state = state, .head_dim = 1, .n_head = inner, .a = lb_weight(b, il, "ssm_a")};
	w.b = view_4d(b, db, state, 1, n, b->n_seqs, state * F32, s.nb[1], s.nb[2]);
	w.c = view_4d(b, db, state, 1, n, b->n_seqs, state * F32, s.nb[1], s.nb[2]);
	if (lb_has(b, il, "ssm_dt_norm.weight")) {
		dt = lb_norm(b, dt, "ssm_dt_norm", LB_RMS, il);
		w.b = lb_norm(b, w.b, "ssm_b_norm", LB_RMS, il);
		w.c = lb_norm(b, w.c, "ssm_c_norm", LB_RMS, il);
	} else {
		dt = lg_cont(g, dt);
	}
	w.dt = lb_add(b, lb_mm(b, lb_weight(b, il, "ssm_dt.weight"), dt), lb_weight(b, il, "ssm_dt.bias"));
	w.x = lg_reshape(g, x, 1, inner, n, b->n_seqs);
	uint64_t row = pl_sat_mul(state, inner);
	lg_t y = lb_rs(b, lb_state_s(b, il), row, scan_rows, &w);
	write_back(b, lg_view_2d(g, y, pl_sat_mul(row, b->n_seqs), 1, F32), lb_state_s(b, il), row);
	y = lg_view_3d(g, y, inner, n, b->n_seqs, inner * F32, pl_sat_mul(inner * F32, n));
	y = lb_add(b, y, lb_mul(b, x, lb_weight(b, il, "ssm_d")));
	y = lb_mm(b, lb_weight(b, il, "ssm_out.weight"), lg_glu_split(g, lg_cont(g, z), y));
	return lg_reshape(g, y, lg_at(g, y)->ne[0], b->n_tokens, 1, 1);
}

lg_t lb_mamba2(struct lb *b, lg_t x, int32_t il)
{
	struct lg *g = b->g;
	const struct pl_layer *l = lb_layer(b, il);
	uint64_t inner = l->d_inner, n = b->n_seq_tokens, state = l->d_state, heads = l->rec_heads ? l->rec_heads : 1;
	uint64_t head = inner / heads, group = l->n_group ? l->n_group : 1, channels = inner + 2 * group * state;
	/* the states of the convolution are gathered first */
	lg_t mixed = lb_mm(b, lb_weight(b, il, "ssm_in.weight"), x);
	mixed = lg_reshape(g, mixed, lg_at(g, mixed)->ne[0], n, b->n_seqs, 1);
	struct lg_tensor s = *lg_at(g, mixed);
	lg_t z = view_4d(b, mixed, head, heads, n, b->n_seqs, head * F32, s.nb[1], s.nb[2]);
	lg_t dt = lg_view_3d(g, mixed, heads, n, b->n_seqs, s.nb[1], s.nb[2]);
	lg_t xbc = with_history(b, lg_view_3d(g, mixed, channels, n, b->n_seqs, s.nb[1], s.nb[2]), il, channels);
	xbc = convolve(b, xbc, lb_weight(b, il, "ssm_conv1d.weight"));
	lg_t bias = lb_weight(b, il, "ssm_conv1d.bias");
	if (bias >= 0)
		xbc = lb_add(b, xbc, bias);
	xbc = lb_act(b, xbc);
	s = *lg_at(g, xbc);
	struct scan w = {.d_state = state, .head_dim = head, .n_head = heads, .a = lb_weight(b, il, "ssm_a")};
	w.x = view_4d(b, xbc, head, heads, n, b->n_seqs, head * F32, s.nb[1], s.nb[2]);
	w.b = view_4d(b, xbc, state, group, n, b->n_seqs, state * F32, s.nb[1], s.nb[2]);
	w.c = view_4d(b, xbc, state, group, n, b->n_seqs, state * F32, s.nb[1], s.nb[2]);
	w.dt = lb_add(b, lg_cont(g, dt), lb_weight(b, il, "ssm_dt.bias"));
	uint64_t row = pl_sat_mul(state, inner), wide = pl_sat_mul(heads, head * F32);
	lg_t y = lb_rs(b, lb_state_s(b, il), row, scan_rows, &w);
	write_back(b, lg_view_2d(g, y, row, b->n_seqs, row * F32), lb_state_s(b, il), row);
	y = view_4d(b, y, head, heads, n, b->n_seqs, head * F32, wide, pl_sat_mul(wide, n));
	y = lb_add(b, y, lb_mul(b, w.x, lb_weight(b, il, "ssm_d")));
	y = lg_glu_split(g, lg_cont(g, z), y);
	if (lb_has(b, il, "ssm_norm.weight"))
		y = lb_norm(b, lg_reshape(g, y, inner / group, group, n, b->n_seqs), "ssm_norm", LB_RMS, il);
	y = lg_reshape(g, y, inner, b->n_tokens, 1, 1);
	return lb_mm(b, lb_weight(b, il, "ssm_out.weight"), y);
}

/* ---- short convolution -------------------------------------------------------------------------------------------- */

lg_t lb_short_conv(struct lb *b, lg_t x, int32_t il)
{
	struct lg *g = b->g;
	x = lg_reshape(g, x, lg_at(g, x)->ne[0], b->n_seq_tokens, b->n_seqs, 1);
	lg_t bcx = lb_mm(b, lb_weight(b, il, "shortconv.in_proj.weight"), x), part[3];
	struct lg_tensor s = *lg_at(g, bcx);
	for (int i = 0; i < 3; i++)
		part[i] = lg_view_3d(g, bcx, s.ne[0] / 3, s.ne[1], s.ne[2], s.nb[1], s.nb[2]);
	lg_t both = with_history(b, lb_mul(b, part[0], part[2]), il, s.ne[0] / 3);
	lg_t y = lb_mul(b, part[1], convolve(b, both, lb_weight(b, il, "shortconv.conv.weight")));
	y = lb_mm(b, lb_weight(b, il, "shortconv.out_proj.weight"), y);
	return lg_reshape(g, y, lg_at(g, y)->ne[0], b->n_tokens, 1, 1);
}

/* ---- gated delta net ---------------------------------------------------------------------------------------------- */

struct delta {
	lg_t mixed, z, beta, gate;
};

/* One matrix for queries, keys, values and gate: cut apart and joined in another order. */
static void split_qkvz(struct lb *b, lg_t x, int32_t il, struct delta *d)
{
	struct lg *g = b->g;
	const struct pl_layer *l = lb_layer(b, il);
	uint64_t n = b->n_seq_tokens, kh = l->rec_k_heads, dk = l->rec_d_k, dv = pl_sat_mul(l->rec_d_v, l->rec_heads / kh);
	if (lb_has(b, il, "attn_qkv.weight")) {
		d->mixed = lb_mm(b, lb_weight(b, il, "attn_qkv.weight"), x);
		d->mixed = lg_reshape(g, d->mixed, lg_at(g, d->mixed)->ne[0], n, b->n_seqs, 1);
		d->z = lb_mm(b, lb_weight(b, il, "attn_gate.weight"), x);
		return;
	}
	lg_t all = lg_reshape(g, lb_mm(b, lb_weight(b, il, "ssm_in.weight"), x), 2 * dk + 2 * dv, kh, n, b->n_seqs);
	struct lg_tensor s = *lg_at(g, all);
	lg_t q = view_4d(b, all, dk, kh, n, b->n_seqs, s.nb[1], s.nb[2], s.nb[3]);
	lg_t k = view_4d(b, all, dk, kh, n, b->n_seqs, s.nb[1], s.nb[2], s.nb[3]);
	lg_t v = view_4d(b, all, dv, kh, n, b->n_seqs, s.nb[1], s.nb[2], s.nb[3]);
	d->z = lg_cont(g, view_4d(b, all, dv, kh, n, b->n_seqs, s.nb[1], s.nb[2], s.nb[3]));
	q = lg_cont_4d(g, q, dk * kh, n, b->n_seqs, 1);
	k = lg_cont_4d(g, k, dk * kh, n, b->n_seqs, 1);
	v = lg_cont_4d(g, v, dv * kh, n, b->n_seqs, 1);
	d->mixed = lg_concat(g, lg_concat(g, q, k, 0), v, 0);
}

static void split_beta_alpha(struct lb *b, lg_t x, int32_t il, struct delta *d)
{
	struct lg *g = b->g;
	const struct pl_layer *l = lb_layer(b, il);
	uint64_t n = b->n_seq_tokens, kh = l->rec_k_heads, vh = l->rec_heads, each = vh / kh;
	lg_t alpha;
	if (lb_has(b, il, "ssm_ba.weight")) {
		lg_t ba = lg_reshape(g, lb_mm(b, lb_weight(b, il, "ssm_ba.weight"), x), 2 * each, kh, n, b->n_seqs);
		struct lg_tensor s = *lg_at(g, ba);
		lg_t beta = view_4d(b, ba, each, kh, n, b->n_seqs, s.nb[1], s.nb[2], s.nb[3]);
		lg_t a = view_4d(b, ba, each, kh, n, b->n_seqs, s.nb[1], s.nb[2], s.nb[3]);
		d->beta = lb_act(b, lg_cont(g, beta));
		alpha = lg_cont_4d(g, a, vh, n, b->n_seqs, 1);
		d->beta = lg_reshape(g, d->beta, 1, vh, n, b->n_seqs);
	} else {
		d->beta = lb_mm(b, lb_weight(b, il, "ssm_beta.weight"), x);
		d->beta = lb_act(b, lg_reshape(g, d->beta, 1, vh, n, b->n_seqs));
		alpha = lg_reshape(g, lb_mm(b, lb_weight(b, il, "ssm_alpha.weight"), x), vh, n, b->n_seqs, 1);
	}
	lg_t dt = lb_weight(b, il, lb_has(b, il, "ssm_dt.bias") ? "ssm_dt.bias" : "ssm_dt");
	d->gate = lb_mul(b, lb_act(b, lb_add(b, alpha, dt)), lb_weight(b, il, "ssm_a"));
	d->gate = lg_reshape(g, d->gate, 1, vh, n, b->n_seqs);
}

static lg_t repeated(struct lb *b, lg_t x, const struct pl_layer *l)
{
	struct lg *g = b->g;
	uint64_t each = l->rec_heads / l->rec_k_heads;
	x = lg_reshape(g, x, l->rec_d_k, 1, l->rec_k_heads, b->n_tokens);
	x = lg_repeat(g, x, l->rec_d_k, each, l->rec_k_heads, b->n_tokens);
	return lg_reshape(g, x, l->rec_d_k, l->rec_heads, b->n_seq_tokens, b->n_seqs);
}

lg_t lb_delta_net(struct lb *b, lg_t x, int32_t il)
{
	struct lg *g = b->g;
	const struct pl_layer *l = lb_layer(b, il);
	uint64_t n = b->n_seq_tokens, dk = l->rec_d_k, dv = l->rec_d_v, kh = l->rec_k_heads, vh = l->rec_heads;
	struct delta d;
	split_qkvz(b, x, il, &d);
	split_beta_alpha(b, x, il, &d);
	uint64_t channels = 2 * dk * kh + dv * vh, row = pl_layer_state_row(l).state_elems, nb1 = channels * F32;
	lg_t both = with_history(b, d.mixed, il, channels);
	lg_t state = lg_reshape(g, lb_rs(b, lb_state_s(b, il), row, NULL, NULL), dv, dv, vh, b->n_seqs);
	lg_t mix = lb_act(b, convolve(b, both, lb_weight(b, il, "ssm_conv1d.weight")));
	lg_t q = view_4d(b, mix, dk, kh, n, b->n_seqs, dk * F32, nb1, nb1 * n);
	lg_t k = view_4d(b, mix, dk, kh, n, b->n_seqs, dk * F32, nb1, nb1 * n);
	lg_t v = view_4d(b, mix, dv, vh, n, b->n_seqs, dv * F32, nb1, nb1 * n);
	q = lb_l2_norm(b, q);
	k = lb_l2_norm(b, k);
	if (kh != vh && lb_has(b, il, "ssm_ba.weight")) {
		q = repeated(b, q, l);
		k = repeated(b, k, l);
	}
	lg_t t = lg_node(g, LG_OP_RECURRENCE, PL_DTYPE_F32, dv * vh, b->n_tokens + dv * b->n_seqs * (1ull + b->j->n_rollback), 1, 1);
	const lg_t src[] = {q, k, v, d.gate, d.beta, state};
	for (int i = 0; i < 6; i++)
		lg_set_src(g, t, i, src[i]);
	lg_t out = view_4d(b, t, dv, vh, n, b->n_seqs, dv * F32, dv * vh * F32, dv * vh * n * F32);
	if (!b->j->n_rollback) {
		write_back(b, view_4d(b, t, dv, dv, vh, b->n_seqs, dv * F32, dv * dv * F32, dv * dv * vh * F32), lb_state_s(b, il), row);
	} else {
		uint64_t kept = pl_min_u64(n, 1ull + b->j->n_rollback), all = row * b->n_seqs * F32;
		lg_t to = lg_view_3d(g, lb_state_s(b, il), row, b->n_seqs, kept, row * F32, all);
		lg_expand(g, lg_cpy(g, lg_view_3d(g, t, row, b->n_seqs, kept, row * F32, all), to));
	}
	lg_t z = lg_reshape(g, d.z, dv, vh, n, b->n_seqs);
	out = lb_mul(b, lb_norm(b, out, "ssm_norm", LB_RMS, il), lb_act(b, z));
	out = lb_mm(b, lb_weight(b, il, "ssm_out.weight"), lg_reshape(g, out, dv * vh, n, b->n_seqs, 1));
	return lg_reshape(g, out, lg_at(g, out)->ne[0], b->n_tokens, 1, 1);
}
