/* Weights, norms, inputs and the head of a graph (llama.cpp src/llama-graph.cpp). */
#include "engine/llamacpp_build.h"

#include <string.h>

#include "base/checked.h"
#include "memory/cache.h"

/* ---- weights ----------------------------------------------------------------------------------------------------- */

static int32_t find(const struct lb *b, int32_t il, const char *name)
{
	return ll_weight_find(b->j, il, name);
}

bool lb_has(const struct lb *b, int32_t il, const char *name)
{
	return find(b, il, name) >= 0;
}

static lg_t leaf_of(struct lb *b, uint32_t index, int16_t home, bool repacked)
{
	const struct pl_tensor *t = &b->m->tensors[index];
	lg_t x = lg_new(b->g, t->type, t->ne[0], t->ne[1], t->ne[2], t->ne[3]);
	if (x >= 0) {
		struct lg_tensor *w = &b->g->t[x];
		w->weight = w->external = true;
		w->home = home;
		w->repacked = repacked;
	}
	return x;
}

lg_t lb_weight(struct lb *b, int32_t il, const char *name)
{
	int32_t i = find(b, il, name);
	if (i < 0)
		return LG_NONE;
	if (b->weight[i] < 0) {
		int16_t home = b->s->home[i];
		b->weight[i] = leaf_of(b, (uint32_t)i, home, home == LG_CPU && b->j->weights[i].repacked);
	}
	return b->weight[i];
}

const struct pl_layer *lb_layer(const struct lb *b, int32_t il)
{
	return &b->m->layers[il];
}

int16_t lb_layer_dev(const struct lb *b, int32_t il)
{
	return b->s->layer_dev[il];
}

/* ---- small pieces ------------------------------------------------------------------------------------------------ */

lg_t lb_mm(struct lb *b, lg_t w, lg_t x)
{
	return w < 0 ? x : lg_mul_mat(b->g, w, x);
}

lg_t lb_add(struct lb *b, lg_t a, lg_t c)
{
	return lg_binary(b->g, LG_OP_ADD, a, c);
}

lg_t lb_mul(struct lb *b, lg_t a, lg_t c)
{
	return lg_binary(b->g, LG_OP_MUL, a, c);
}

lg_t lb_scale(struct lb *b, lg_t a)
{
	return lg_unary(b->g, LG_OP_SCALE, a);
}

lg_t lb_act(struct lb *b, lg_t a)
{
	return lg_unary(b->g, LG_OP_UNARY, a);
}

lg_t lb_norm_w(struct lb *b, lg_t x, lg_t weight, lg_t bias, enum lb_norm_kind kind, int32_t il)
{
	x = lg_unary(b->g, kind == LB_RMS ? LG_OP_RMS_NORM : LG_OP_NORM, x);
	/* the engine names this node and, with everything offloaded, pins it to its layer's device */
	if ((weight >= 0 || bias >= 0) && il >= 0 && x >= 0 && b->pins && (b->full_offload || b->n_tokens < 32))
		b->g->t[x].backend = lb_layer_dev(b, il);
	if (weight >= 0)
		x = lb_mul(b, x, weight);
	return bias >= 0 ? lb_add(b, x, bias) : x;
}

lg_t lb_l2_norm(struct lb *b, lg_t x)
{
	return lb_scale(b, lb_norm(b, x, NULL, LB_RMS, -1));
}

static const char *with_suffix(struct lb *b, const char *name, const char *suffix)
{
	return pl_arena_printf(b->g->a, "%s%s", name, suffix);
}

static lg_t part(struct lb *b, int32_t il, const char *name, const char *suffix)
{
	char text[64];
	size_t n = strlen(name), k = strlen(suffix);
	if (n + k >= sizeof text)
		return lb_weight(b, il, with_suffix(b, name, suffix));
	memcpy(text, name, n);
	memcpy(text + n, suffix, k + 1);
	return lb_weight(b, il, text);
}

lg_t lb_norm(struct lb *b, lg_t x, const char *norm_name, enum lb_norm_kind kind, int32_t il)
{
	lg_t w = norm_name ? part(b, il, norm_name, ".weight") : LG_NONE;
	lg_t bias = norm_name ? part(b, il, norm_name, ".bias") : LG_NONE;
	return lb_norm_w(b, x, w, bias, kind, il);
}

lg_t lb_rope(struct lb *b, lg_t x, int32_t il, bool factors)
{
	lg_t t = lg_binary(b->g, LG_OP_ROPE, x, b->pos);
	if (factors) {
		lg_t f = lb_weight(b, -1, "rope_freqs.weight");
		if (f < 0)
			f = lb_weight(b, -1, "rope_factors_long.weight");
		if (f >= 0) { /* every device with a layer has its own copy */
			const struct lg_tensor x0 = b->g->t[f];
			f = lg_new(b->g, x0.type, x0.ne[0], 1, 1, 1);
			if (f >= 0) {
				b->g->t[f].weight = b->g->t[f].external = true;
				b->g->t[f].home = lb_layer_dev(b, il);
			}
			lg_set_src(b->g, t, 2, f);
		}
	}
	return t;
}

/* ---- inputs ------------------------------------------------------------------------------------------------------ */

/* A layer that drafts reads the token's row beside what the trunk made of the token before (graph_mtp of src/models/). */
static lg_t inp_draft(struct lb *b)
{
	struct lg *g = b->g;
	int32_t il = lb_first(b);
	lg_t own = lb_weight(b, il, "nextn.embed_tokens.weight"), table = own >= 0 ? own : lb_weight(b, -1, "token_embd.weight");
	lg_t token = lg_get_rows(g, table, lg_input(g, PL_DTYPE_I32, b->n_tokens, 1, 1, 1));
	lg_t hidden = lg_input(g, PL_DTYPE_F32, b->m->n_embd, b->n_tokens, 1, 1);
	hidden = lb_norm(b, hidden, "nextn.hnorm", LB_RMS, il);
	token = lb_norm(b, token, "nextn.enorm", LB_RMS, il);
	return lb_mm(b, lb_weight(b, il, "nextn.eh_proj.weight"), lg_concat(g, token, hidden, 0));
}

/* The tokens' rows; newer builds reserve two more ways in, for rows that come as vectors, alone or among tokens. */
lg_t lb_inp_embd(struct lb *b, bool scale, bool scale_rows)
{
	struct lg *g = b->g;
	if (b->mtp)
		return inp_draft(b);
	lg_t table = lb_weight(b, -1, "token_embd.weight");
	uint64_t width = b->m->n_embd;
	lg_t tokens = lg_input(g, PL_DTYPE_I32, b->n_tokens, 1, 1, 1);
	lg_t x = lg_get_rows(g, table, tokens);
	lg_expand(g, x);
	if (b->j->build >= LL_SINCE_EMBD_ROWS)
		lg_expand(g, lg_input(g, PL_DTYPE_F32, width, b->n_tokens, 1, 1));
	if (b->j->build >= LL_SINCE_MIXED) {
		lg_t mixed = lg_input(g, PL_DTYPE_I32, b->n_tokens, 1, 1, 1);
		lg_t slots = lg_input(g, PL_DTYPE_I64, b->n_tokens, 1, 1, 1);
		lg_t vectors = lg_input(g, PL_DTYPE_F32, width, b->n_tokens, 1, 1);
		lg_expand(g, lg_set_rows(g, lg_unary(g, LG_OP_DUP, vectors), lg_get_rows(g, table, mixed), slots));
	}
	if (scale)
		x = lb_scale(b, x);
	if (scale_rows)
		x = b->j->build >= LL_SINCE_EMBD_ROWS ? lb_mul(b, x, lg_input(g, PL_DTYPE_F32, 1, b->n_tokens, 1, 1)) : lb_scale(b, x);
	lg_expand(g, x);
	return x;
}

void lb_inp_pos(struct lb *b, uint64_t per_token)
{
	b->pos = lg_input(b->g, PL_DTYPE_I32, pl_sat_mul(b->n_tokens, per_token), 1, 1, 1);
}

void lb_inp_out_ids(struct lb *b)
{
	b->out_ids = lg_input(b->g, PL_DTYPE_I32, b->n_outputs, 1, 1, 1);
}

static uint64_t widest_v(const struct lb *b)
{
	uint64_t widest = 0;
	for (uint32_t i = 0; i < b->j->n_all; i++)
		widest = pl_max_u64(widest, pl_sat_mul(b->m->layers[i].n_head_kv, b->m->layers[i].d_v));
	return widest;
}

static bool in_cache(const struct lb *b, uint32_t i, bool window)
{
	const struct pl_layer *l = &b->m->layers[i];
	return l->attn != PL_ATTN_NONE && l->kv_from_layer < 0 && l->is_mtp == b->mtp && (!b->has_window || (l->window_tokens != 0) == window);
}

/* Width of the rotation of a quantised cache: 0 when heads differ or do not divide. */
static uint64_t rotation(const struct lb *b, enum pl_dtype type, bool keys, bool window)
{
	uint64_t head = 0, n = 64;
	if (pl_dtype_info(type)->block_elems < 2)
		return 0;
	for (uint32_t i = 0; i < b->j->n_all; i++) {
		const struct pl_layer *l = &b->m->layers[i];
		uint64_t h = keys ? l->d_k : l->d_v;
		if (l->attn == PL_ATTN_MLA) {
			if (!keys)
				return 0;
			h = (uint64_t)l->kv_lora + l->d_rope;
		}
		if (!in_cache(b, i, window))
			continue;
		if (head && head != h)
			return 0;
		head = h;
	}
	if (!head || head % 64)
		return 0;
	while (keys && head % (2 * n) == 0)
		n *= 2;
	return n;
}

enum { OLD_MASK_PAD = 64 }; /* rows, for the kernels of flash attention */

/* Older builds give the mask in f32 and cast it where flash attention wants f16. */
static lg_t mask_input(struct lb *b, uint64_t n_kv, uint64_t rows, uint64_t streams)
{
	bool old = b->j->build < LL_SINCE_F16_MASK;
	if (!old)
		return lg_input(b->g, b->flash ? PL_DTYPE_F16 : PL_DTYPE_F32, n_kv, rows, 1, streams);
	lg_t mask = lg_input(b->g, PL_DTYPE_F32, n_kv, pl_round_up(rows, OLD_MASK_PAD), 1, streams);
	return b->flash ? lg_cast(b->g, mask, PL_DTYPE_F16) : mask;
}

static void inp_cache(struct lb *b, bool window, bool values, bool rotate)
{
	const struct ll_context *c = &b->j->ctx;
	struct lb_attn *kv = &b->kv[window];
	uint64_t wide = values && !b->flash ? widest_v(b) : 1;
	kv->n_kv = window ? c->n_cells_swa : c->n_cells;
	kv->k_idxs = lg_input(b->g, PL_DTYPE_I64, b->n_tokens, 1, 1, 1);
	if (values)
		kv->v_idxs = lg_input(b->g, PL_DTYPE_I64, pl_sat_mul(b->n_tokens, wide), 1, 1, 1);
	kv->mask = mask_input(b, kv->n_kv, b->n_tokens / c->n_stream, c->n_stream);
	uint64_t k = rotate ? rotation(b, c->type_k, true, window) : 0;
	uint64_t v = rotate && values ? rotation(b, c->type_v, false, window) : 0;
	kv->k_rot = k ? lg_input(b->g, PL_DTYPE_F32, k, k, 1, 1) : LG_NONE;
	kv->v_rot = v ? lg_input(b->g, PL_DTYPE_F32, v, v, 1, 1) : LG_NONE;
}

static void inp_masks(struct lb *b)
{
	uint64_t n_kv = pl_round_up(b->n_tokens, LB_NO_CACHE_PAD);
	b->kv[0].mask = mask_input(b, n_kv, b->n_tokens, 1);
	if (b->has_window)
		b->kv[1].mask = mask_input(b, n_kv, b->n_tokens, 1);
}

void lb_inp_attn(struct lb *b)
{
	if (b->m->no_kv_cache) {
		inp_masks(b);
		return;
	}
	inp_cache(b, false, true, true);
	if (b->has_window)
		inp_cache(b, true, true, true);
}

void lb_inp_attn_k(struct lb *b)
{
	inp_cache(b, false, false, b->has_window);
	if (b->has_window)
		inp_cache(b, true, false, true);
}

void lb_inp_rs(struct lb *b)
{
	b->s_copy = lg_input(b->g, PL_DTYPE_I32, b->n_seqs, 1, 1, 1);
	b->s_copy_main = lg_view_2d(b->g, b->s_copy, b->n_seqs, 1, b->n_seqs * 4);
	b->s_copy_tail = lg_view_2d(b->g, b->s_copy, b->n_seqs - 1, 1, (b->n_seqs - 1) * 4);
}

void lb_inp_hybrid(struct lb *b)
{
	if (!b->mtp)
		lb_inp_rs(b);
	lb_inp_attn(b);
}

/* ---- ends -------------------------------------------------------------------------------------------------------- */

lg_t lb_outputs(struct lb *b, lg_t x)
{
	return lg_get_rows(b->g, x, b->out_ids);
}

bool lb_is_last(const struct lb *b, int32_t il)
{
	return (uint32_t)il + 1 == b->m->n_layers;
}

void lb_keep_outputs(struct lb *b, int32_t il, lg_t *cur, lg_t *in)
{
	if (!lb_is_last(b, il))
		return;
	*cur = lb_outputs(b, *cur);
	*in = lb_outputs(b, *in);
}

static lg_t head_weight(struct lb *b)
{
	lg_t w = lb_weight(b, -1, "output.weight");
	if (w >= 0)
		return w;
	int32_t i = find(b, -1, "token_embd.weight");
	if (b->tied < 0 && i >= 0) {
		int16_t home = b->s->tied_home;
		b->tied = leaf_of(b, (uint32_t)i, home, home == LG_CPU && b->j->tied_repacked);
	}
	return b->tied;
}

/* The norm's result goes back to the host for the next draft: rows are chosen after it. */
static lg_t draft_norm(struct lb *b, lg_t x, enum lb_norm_kind norm)
{
	int32_t il = lb_first(b);
	lg_t own = lb_weight(b, il, "nextn.shared_head_norm.weight");
	x = own >= 0 ? lb_norm_w(b, x, own, LG_NONE, norm, -1) : lb_norm(b, x, "output_norm", norm, -1);
	if (x >= 0)
		b->g->t[x].output = true;
	return lb_outputs(b, x);
}

void lb_head(struct lb *b, lg_t x, enum lb_norm_kind norm, bool softcap, bool scale)
{
	lg_t own_head = b->mtp ? lb_weight(b, lb_first(b), "nextn.shared_head_head.weight") : LG_NONE;
	bool own = lb_has(b, -1, "output_norm.weight") || !lb_has(b, -1, "token_embd_norm.weight");
	x = b->mtp ? draft_norm(b, x, norm) : lb_norm(b, x, own ? "output_norm" : "token_embd_norm", norm, -1);
	x = lb_mm(b, own_head >= 0 ? own_head : head_weight(b), x);
	lg_t bias = lb_weight(b, -1, "output.bias");
	if (bias >= 0)
		x = lb_add(b, x, bias);
	if (softcap)
		x = lb_scale(b, lb_act(b, lb_scale(b, x)));
	if (scale)
		x = lb_scale(b, x);
	if (x >= 0)
		b->g->t[x].output = true;
	lg_expand(b->g, x);
}

/* ---- states ------------------------------------------------------------------------------------------------------ */

/* Rows of the batch's sequences. With rows given, the states are read where they lie and only the others are gathered. */
lg_t lb_rs(struct lb *b, lg_t state, uint64_t row, lb_rows *rows, const void *with)
{
	struct lg *g = b->g;
	uint64_t bytes = row * 4;
	lg_t states = lg_reshape(g, state, row, lg_at(g, state)->ne[1], 1, 1);
	lg_t cleared = lg_unary(g, LG_OP_SCALE, lg_view_2d(g, states, row, 1, bytes)); /* in place: a view */
	if (cleared >= 0)
		g->t[cleared].view_src = lg_at(g, states)->view_src;
	lg_expand(g, cleared);
	lg_t all = lg_get_rows(g, states, rows ? b->s_copy_tail : b->s_copy);
	lg_t out = rows ? rows(b, states, b->s_copy_main, with) : lg_view_2d(g, all, row, b->n_seqs, bytes);
	lg_expand(g, out);
	lg_expand(g, lg_cpy(g, lg_view_2d(g, all, row, 0, bytes), lg_view_2d(g, state, row, 0, bytes)));
	return out;
}

static lg_t state_leaf(struct lb *b, lg_t *slot, int32_t il, uint64_t row)
{
	if (*slot >= 0)
		return *slot;
	*slot = lg_new(b->g, PL_DTYPE_F32, row, pl_sat_mul(b->n_seqs, 1ull + b->j->n_rollback), 1, 1);
	if (*slot >= 0) {
		b->g->t[*slot].external = true;
		b->g->t[*slot].home = b->j->p->no_kv_offload ? (int16_t)LG_CPU : lb_layer_dev(b, il);
	}
	return *slot;
}

lg_t lb_state_r(struct lb *b, int32_t il)
{
	return state_leaf(b, &b->state_r[il], il, pl_layer_state_row(lb_layer(b, il)).conv_elems);
}

lg_t lb_state_s(struct lb *b, int32_t il)
{
	return state_leaf(b, &b->state_s[il], il, pl_layer_state_row(lb_layer(b, il)).state_elems);
}
