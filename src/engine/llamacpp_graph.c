/* The model's step, spelled as llama.cpp spells it (src/llama-graph.cpp, src/models/). */
#include <string.h>

#include "base/checked.h"
#include "engine/llamacpp_graph.h"
#include "memory/cache.h"

enum { F32 = 4, F16 = 2, NONE = -1, LATER = -2 };

struct build {
	struct ll_graph *g;
	const struct ll_job *j;
	const struct pl_model *m;
	const struct ll_place *pl;
	const struct ll_sum *s;
	int32_t *of;          /* value → node */
	uint32_t *made_by;    /* value → op */
	uint64_t ub, n_seq;
	/* inputs of the step */
	int32_t pos, out_ids, s_copy, rot_k, rot_v;
	int32_t k_idxs[2], v_idxs[2], mask[2]; /* of the full caches and of the windows */
	/* parts of a layer that one value of the step stands for */
	int32_t q_full, key, value, ids;
	uint32_t head_value;  /* what the layer before ended with, for layers that are left out */
};

static uint64_t rows(const struct build *b, uint64_t width)
{
	return pl_sat_mul(pl_sat_mul(width, b->ub), F32);
}

static int16_t layer_dev(const struct build *b, int32_t il)
{
	return il < 0 ? (int16_t)LL_CPU : b->s->layer_dev[il];
}

/* A weight on the host is sent to the first GPU for a batch of 32 tokens or more, where the backend offers it. */
static int16_t runs_on(const struct build *b, int16_t weight_dev, bool matrix)
{
	bool offload = weight_dev == LL_CPU && matrix && b->j->n_dev && b->j->dev[0].cuda && b->ub >= 32;
	return offload ? 0 : weight_dev;
}

static int32_t op(struct build *b, uint64_t size, int32_t s0, int32_t s1)
{
	return ll_node_add(b->g, size, s0, s1, NONE, NONE);
}

static int32_t in_place(struct build *b, uint64_t size, int32_t s0, int32_t s1)
{
	int32_t n = op(b, size, s0, s1);
	if (n >= 0)
		b->g->nodes[n].in_place = true;
	return n;
}

static int32_t weigh(struct build *b, int32_t n, int16_t dev, uint64_t bytes, bool matrix)
{
	if (n >= 0) {
		b->g->nodes[n].weight_dev = dev;
		b->g->nodes[n].weight_bytes = bytes;
		b->g->nodes[n].dev = runs_on(b, dev, matrix);
	}
	return n;
}

static int32_t input(struct build *b, uint64_t size)
{
	int32_t n = op(b, size, NONE, NONE);
	if (n >= 0)
		b->g->nodes[n].input = true;
	return n;
}

/* Writes into a cache: nothing of its own, but it must run where the cache is. */
static int32_t store(struct build *b, int32_t il, int32_t s0, int32_t s1)
{
	int32_t n = op(b, 0, s0, s1);
	if (n >= 0) {
		b->g->nodes[n].external = true;
		b->g->nodes[n].dev = b->j->p->no_kv_offload ? (int16_t)LL_CPU : layer_dev(b, il);
	}
	return n;
}

/* ---- one op of the step ------------------------------------------------------------------------------------------ */

struct at {
	const struct pl_op *o;
	const struct pl_layer *l; /* NULL outside the layers */
	const char *name;
	uint64_t size;            /* of the result, f32 */
	int16_t dev;              /* of the layer's weights */
};

static void emit_op(struct build *b, uint32_t index);

static int32_t node_of(struct build *b, uint32_t value)
{
	if (b->of[value] == LATER) {
		b->of[value] = NONE;
		emit_op(b, b->made_by[value]);
	}
	return b->of[value];
}

static int32_t in(struct build *b, const struct at *x, uint32_t k)
{
	return k < x->o->n_in ? node_of(b, x->o->in[k]) : NONE;
}

static uint64_t weight_bytes(const struct build *b, const struct at *x, uint32_t k)
{
	return k < x->o->n_weights ? b->m->tensors[x->o->weights[k]].bytes : 0;
}

static bool is(const struct at *x, const char *name)
{
	return !strcmp(x->name, name);
}

static int32_t norm(struct build *b, const struct at *x, uint64_t size, int32_t s, bool own)
{
	bool rms = x->o->n_weights < 2; /* a bias marks a layer norm, which ggml does not run in place */
	int32_t n = rms && own ? in_place(b, size, s, NONE) : op(b, size, s, NONE);
	if (x->o->n_weights)
		n = weigh(b, in_place(b, size, n, NONE), x->dev, weight_bytes(b, x, 0), false);
	if (x->o->n_weights > 1)
		n = weigh(b, in_place(b, size, n, NONE), x->dev, weight_bytes(b, x, 1), false);
	return n;
}

static int32_t emit_norm(struct build *b, const struct at *x)
{
	int32_t s = in(b, x, 0);
	if (is(x, "q_norm") && x->l && x->l->q_gated)
		return norm(b, x, x->size / 2, s, false);
	if (is(x, "kv_a_norm") && x->l) /* of a view of the latent */
		return norm(b, x, rows(b, x->l->kv_lora), s, false);
	/* heads are a view of the projection, and the allocator does not write over views */
	bool view = is(x, "q_norm") || is(x, "k_norm") || is(x, "ssm_norm");
	return norm(b, x, x->size, s, !view);
}

/* A quantised cache holds rotated heads: one more product for queries, keys and values, and one for the result. */
static int32_t rotate(struct build *b, int32_t n, int32_t matrix)
{
	return n >= 0 && matrix >= 0 ? op(b, b->g->nodes[n].size_bytes, matrix, n) : n;
}

static int32_t emit_linear(struct build *b, const struct at *x)
{
	int32_t s = in(b, x, 0);
	if (is(x, "q_latent")) /* made with the rotation, before the keys */
		return s;
	int32_t n = weigh(b, op(b, x->size, s, NONE), x->dev, weight_bytes(b, x, 0), true);
	if (x->o->n_weights > 1)
		n = weigh(b, in_place(b, x->size, n, NONE), x->dev, weight_bytes(b, x, 1), false);
	if (is(x, "kqv_values") && b->j->ctx.flash_attn)
		n = op(b, x->size, n, NONE); /* made contiguous again */
	if (is(x, "q"))
		b->q_full = n;
	return is(x, "v") ? rotate(b, n, b->rot_v) : n;
}

/* The query of a latent layer: taken through attn_k_b, its rotated part put beside it. */
static int32_t latent_query(struct build *b, const struct at *x, int32_t q)
{
	uint64_t heads = x->l->n_head;
	int32_t wide = weigh(b, op(b, rows(b, heads * x->l->kv_lora), q, NONE), x->dev, 0, true);
	int32_t rot = op(b, rows(b, heads * x->l->d_rope), q, b->pos);
	return op(b, rows(b, heads * ((uint64_t)x->l->kv_lora + x->l->d_rope)), wide, rot);
}

static int32_t emit_rope(struct build *b, const struct at *x)
{
	int32_t s = in(b, x, 0);
	const struct pl_layer *l = x->l;
	if (is(x, "q_rope") && l && l->attn == PL_ATTN_MLA)
		return latent_query(b, x, s);
	if (is(x, "kv_rope") && l) {
		int32_t rot = op(b, rows(b, l->d_rope), s, b->pos);
		return op(b, rows(b, (uint64_t)l->kv_lora + l->d_rope), s, rot);
	}
	if (is(x, "qkv_rope") && l) { /* views of one tensor are rotated into new ones */
		int32_t q = op(b, rows(b, (uint64_t)l->n_head * l->d_k), s, b->pos);
		b->key = op(b, rows(b, (uint64_t)l->n_head_kv * l->d_k), s, b->pos);
		b->value = s;
		return rotate(b, q, b->rot_k);
	}
	uint64_t size = is(x, "q_rope") && l && l->q_gated ? x->size / 2 : x->size;
	bool view = b->m->graph.ops[b->made_by[x->o->in[0]]].kind == PL_OP_LINEAR;
	int32_t n = view ? op(b, size, s, b->pos) : in_place(b, size, s, b->pos);
	return is(x, "q_rope") ? rotate(b, n, b->rot_k) : n;
}

static int32_t emit_store(struct build *b, const struct at *x)
{
	int32_t k = in(b, x, 0), v = x->o->n_in > 1 ? in(b, x, 1) : NONE;
	if (x->o->n_in == 1 && b->key >= 0) {
		k = b->key;
		v = b->value;
	}
	b->key = b->value = NONE;
	k = rotate(b, k, b->rot_k);
	bool w = x->l && x->l->window_tokens;
	int32_t n = store(b, x->o->layer, k, b->k_idxs[w]);
	if (v >= 0)
		n = store(b, x->o->layer, v, b->v_idxs[w]);
	return n;
}

/* CUDA's matrix kernels want keys and values in f16: a cache of another type is converted beside the result. */
static uint64_t converted_bytes(const struct build *b, const struct pl_layer *l)
{
	const struct ll_context *c = &b->j->ctx;
	struct pl_cache_row r = pl_layer_cache_row(l);
	uint64_t cells = pl_sat_mul(l->window_tokens ? c->n_cells_swa : c->n_cells, c->n_stream), elems = 0;
	if (c->type_k != PL_DTYPE_F16)
		elems = pl_sat_add(elems, r.k_elems);
	if (c->type_v != PL_DTYPE_F16)
		elems = pl_sat_add(elems, r.v_elems);
	return pl_sat_mul(pl_sat_mul(elems, cells), F16);
}

/* --no-kv-offload: the attention still runs with its layer, on copies of the cache. */
static int32_t host_cache(struct build *b, const struct pl_layer *l, enum pl_dtype type, uint64_t elems)
{
	const struct ll_context *c = &b->j->ctx;
	const struct pl_dtype_info *d = pl_dtype_info(type);
	uint64_t cells = pl_sat_mul(l->window_tokens ? c->n_cells_swa : c->n_cells, c->n_stream);
	if (!b->j->p->no_kv_offload || !elems)
		return NONE;
	int32_t n = input(b, pl_sat_mul(pl_sat_mul(elems / d->block_elems, d->block_bytes), cells));
	if (n >= 0) {
		b->g->nodes[n].cache = b->g->nodes[n].external = true;
		b->g->nodes[n].dev = LL_CPU;
	}
	return n;
}

static int32_t emit_attention(struct build *b, const struct at *x)
{
	const struct pl_layer *l = x->l;
	int32_t q = in(b, x, 0), mask = b->mask[l->window_tokens != 0], n;
	struct pl_cache_row row = pl_layer_cache_row(l->kv_from_layer < 0 ? l : &b->m->layers[l->kv_from_layer]);
	int32_t keys = host_cache(b, l, b->j->ctx.type_k, row.k_elems), values = host_cache(b, l, b->j->ctx.type_v, row.v_elems);
	if (b->j->ctx.flash_attn) {
		bool cuda = x->dev >= 0 && b->j->dev[x->dev].cuda;
		n = ll_node_add(b->g, pl_sat_add(x->size, cuda ? converted_bytes(b, l) : 0), q, keys, values, mask);
		if (x->o->n_weights)
			weigh(b, n, x->dev, 0, false);
		return rotate(b, n, b->rot_v);
	}
	uint64_t cells = l->window_tokens ? b->j->ctx.n_cells_swa : b->j->ctx.n_cells;
	uint64_t scores = rows(b, pl_sat_mul(l->n_head, cells));
	int32_t kq = op(b, scores, q, keys);
	kq = in_place(b, scores, kq, mask);
	int32_t kqv = op(b, x->size, kq, values);
	if (l->attn == PL_ATTN_MLA) /* the values leave the latent before the heads are joined */
		return kqv;
	n = op(b, x->size, kqv, NONE);
	if (n >= 0 && b->j->p->no_kv_offload)
		b->g->nodes[n].dev = LL_CPU;
	return n;
}

static int32_t emit_gate(struct build *b, const struct at *x)
{
	int32_t s = in(b, x, 0), t = in(b, x, 1);
	if (is(x, "attn_gated") && x->l && x->l->q_gated)
		t = op(b, x->size, b->q_full, NONE); /* the half that is the gate, made contiguous */
	if (is(x, "attn_gated") || is(x, "ffn_shexp_gated") || is(x, "ssm_gated") || is(x, "kda_gated") || is(x, "ple") ||
	    is(x, "shortconv_gated")) {
		bool view = is(x, "ssm_gated"); /* reshaped before its activation */
		if (t >= 0)
			t = view ? op(b, x->size, t, NONE) : in_place(b, b->g->nodes[t].size_bytes, t, NONE);
		return is(x, "attn_gated") ? in_place(b, x->size, t, s) : in_place(b, x->size, s, t);
	}
	if (t >= 0)
		return op(b, x->size, t, s);
	bool halves = s >= 0 && b->g->nodes[s].size_bytes > x->size;
	return halves ? op(b, x->size, s, NONE) : in_place(b, x->size, s, NONE);
}

static int32_t emit_add(struct build *b, const struct at *x)
{
	int32_t s = in(b, x, 0), t = in(b, x, 1);
	if (is(x, "attn_residual") && x->o->layer + 1 == (int32_t)b->m->n_layers) {
		t = op(b, x->size, t, b->out_ids);
		s = op(b, x->size, s, b->out_ids);
	}
	/* the result of a recurrent mixer is a view, so the sum takes the residual's place */
	bool view = is(x, "attn_residual") && x->l && x->l->rec != PL_REC_NONE;
	return view ? in_place(b, x->size, s, t) : in_place(b, x->size, t, s);
}

/* Logits of the router, probabilities, the choice (ids) and the weights of the chosen. */
static int32_t emit_router(struct build *b, const struct at *x)
{
	uint64_t few = rows(b, x->l->n_expert_used);
	int32_t p = weigh(b, op(b, x->size, in(b, x, 0), NONE), x->dev, weight_bytes(b, x, 0), true), chosen;
	p = in_place(b, x->size, p, NONE);
	chosen = p;
	if (x->o->n_weights > 1)
		chosen = weigh(b, op(b, x->size, p, NONE), x->dev, 0, false);
	b->ids = op(b, x->size, chosen, NONE);
	int32_t w = op(b, few, p, b->ids);
	int32_t sum = op(b, rows(b, 1), w, NONE);
	return op(b, few, w, sum); /* of a view: small, but where it lies decides what merges around it */
}

static int32_t emit_experts(struct build *b, const struct at *x)
{
	int16_t dev = (uint32_t)x->o->layer < b->pl->n_cpu_moe ? (int16_t)LL_CPU : x->dev;
	uint64_t size = x->size;
	int32_t n = weigh(b, op(b, size, in(b, x, 0), b->ids), dev, weight_bytes(b, x, 0), true);
	if (x->o->n_weights > 1)
		n = weigh(b, in_place(b, size, n, b->ids), dev, weight_bytes(b, x, 1), false);
	return n;
}

static int32_t emit_combine(struct build *b, const struct at *x)
{
	uint64_t all = pl_sat_mul(x->size, x->l->n_expert_used);
	int32_t n = in_place(b, all, in(b, x, 0), in(b, x, 1));
	if (x->l->n_expert_used < 2)
		return op(b, x->size, n, NONE);
	int32_t sum = op(b, x->size, n, NONE); /* the first two, each a view; then the rest on top */
	return x->l->n_expert_used > 2 ? in_place(b, x->size, sum, n) : sum;
}

static int32_t emit_conv(struct build *b, const struct at *x)
{
	uint64_t state = pl_sat_mul(pl_sat_mul(pl_layer_state_row(x->l).conv_elems, b->n_seq), F32);
	int32_t old = op(b, state, b->s_copy, NONE);
	int32_t s = in(b, x, 0);
	int32_t both = op(b, pl_sat_add(x->size, state), old, s);
	store(b, x->o->layer, both, NONE);
	int32_t n = weigh(b, op(b, x->size, both, NONE), x->dev, weight_bytes(b, x, 0), false);
	return in_place(b, x->size, n, NONE);
}

static int32_t emit_scan(struct build *b, const struct at *x)
{
	uint64_t state = pl_sat_mul(pl_sat_mul(pl_layer_state_row(x->l).state_elems, b->n_seq), F32);
	uint64_t keys = rows(b, pl_sat_mul(x->l->rec_k_heads, x->l->rec_d_k));
	int32_t s = in(b, x, 0), t = in(b, x, 1), u = in(b, x, 2), q = NONE, k = NONE;
	int32_t old = op(b, state, b->s_copy, NONE);
	if (x->l->rec == PL_REC_DELTANET) { /* queries and keys are normed apart */
		q = op(b, keys, s, NONE);
		k = op(b, keys, s, NONE);
	}
	int32_t n = ll_node_add(b->g, pl_sat_add(x->size, state), s, old, q, k);
	if (n >= 0) {
		b->g->nodes[n].src[4] = t;
		b->g->nodes[n].src[5] = u;
	}
	store(b, x->o->layer, n, NONE);
	return n;
}

/* Token embeddings are read on the CPU. Build 11669 reserves two more ways in, for rows that come as vectors. */
static int32_t emit_embed(struct build *b, const struct at *x)
{
	int32_t tokens = input(b, b->ub * F32);
	if (!is(x, "inp_embd"))
		return weigh(b, op(b, x->size, tokens, NONE), LL_CPU, weight_bytes(b, x, 0), false);
	input(b, x->size);
	int32_t vectors = input(b, x->size), mixed = input(b, b->ub * F32), slots = input(b, b->ub * 8);
	int32_t n = weigh(b, op(b, x->size, tokens, NONE), LL_CPU, weight_bytes(b, x, 0), false);
	int32_t other = weigh(b, op(b, x->size, mixed, NONE), LL_CPU, weight_bytes(b, x, 0), false);
	int32_t dup = op(b, x->size, vectors, NONE);
	int32_t set = ll_node_add(b->g, x->size, other, slots, dup, NONE);
	if (set >= 0)
		b->g->nodes[set].view_of = dup;
	return n;
}

static int32_t emit_head(struct build *b, const struct at *x)
{
	int32_t n = weigh(b, op(b, x->size, in(b, x, 0), NONE), b->s->layer_dev[b->j->n_all], weight_bytes(b, x, 0), true);
	if (n >= 0)
		b->g->nodes[n].output = true;
	return n;
}

static int32_t emit_kind(struct build *b, const struct at *x)
{
	switch (x->o->kind) {
	case PL_OP_EMBED:
		return emit_embed(b, x);
	case PL_OP_NORM:
		return emit_norm(b, x);
	case PL_OP_LINEAR:
		return emit_linear(b, x);
	case PL_OP_ROPE:
		return emit_rope(b, x);
	case PL_OP_KV_STORE:
		return emit_store(b, x);
	case PL_OP_ATTENTION:
		return emit_attention(b, x);
	case PL_OP_GLU:
		return emit_gate(b, x);
	case PL_OP_ADD:
		return emit_add(b, x);
	case PL_OP_ROUTER:
		return emit_router(b, x);
	case PL_OP_EXPERTS:
		return emit_experts(b, x);
	case PL_OP_COMBINE:
		return emit_combine(b, x);
	case PL_OP_CONV:
		return emit_conv(b, x);
	case PL_OP_SCAN:
		return emit_scan(b, x);
	case PL_OP_LM_HEAD:
		return emit_head(b, x);
	case PL_OP_INDEXER:
	case PL_OP_POOL:
	case PL_OP_COUNT:
		break;
	}
	return op(b, x->size, in(b, x, 0), in(b, x, 1));
}

static void emit_op(struct build *b, uint32_t index)
{
	const struct pl_op *o = &b->m->graph.ops[index];
	const struct pl_value *v = &b->m->graph.values[o->out];
	struct at x = {.o = o, .l = o->layer >= 0 ? &b->m->layers[o->layer] : NULL, .name = v->name ? v->name : "",
	               .size = rows(b, v->width), .dev = layer_dev(b, o->layer)};
	if (v->rows == PL_ROWS_ROUTED && x.l)
		x.size = pl_sat_mul(x.size, x.l->n_expert_used);
	if (o->layer < 0) /* norms before the layers go with the first, those after it with the output */
		x.dev = o->kind == PL_OP_EMBED ? (int16_t)LL_CPU
		        : is(&x, "result_norm") ? b->s->layer_dev[b->j->n_all] : b->s->layer_dev[0];
	b->of[o->out] = emit_kind(b, &x);
}

/* ---- which layers ------------------------------------------------------------------------------------------------ */

static bool same_kind(const struct ll_job *j, uint32_t a, uint32_t b)
{
	return j->layers[a].kind == j->layers[b].kind;
}

/* A run of equal layers on one device reaches its peak within the first two of each kind; the last meets the border. */
static bool needed(const struct build *b, uint32_t il)
{
	const struct ll_job *j = b->j;
	uint32_t seen = 0, moe = b->pl->n_cpu_moe;
	if (il + 1 >= b->m->n_layers || b->s->layer_dev[il + 1] != b->s->layer_dev[il] || il + 1 == moe)
		return true;
	for (uint32_t k = il; k-- > 0 && b->s->layer_dev[k] == b->s->layer_dev[il] && (k < moe) == (il < moe);)
		if (same_kind(j, k, il) && ++seen == 2)
			return false;
	return true;
}

/* ---- inputs ------------------------------------------------------------------------------------------------------ */

static bool rotates(const struct build *b, enum pl_dtype type, bool keys)
{
	uint32_t head = 0;
	if (pl_dtype_info(type)->block_elems < 2)
		return false;
	for (uint32_t i = 0; i < b->m->n_layers; i++) {
		const struct pl_layer *l = &b->m->layers[i];
		if (l->attn == PL_ATTN_NONE)
			continue;
		if (l->attn == PL_ATTN_MLA)
			return false;
		uint32_t h = keys ? l->d_k : l->d_v;
		if (head && head != h)
			return false;
		head = h;
	}
	return head && head % 64 == 0;
}

static void add_inputs(struct build *b)
{
	const struct ll_context *c = &b->j->ctx;
	bool full = false, window = false, state = false;
	uint64_t element = c->flash_attn ? F16 : F32, v_elems = 0;
	for (uint32_t i = 0; i < b->m->n_layers; i++) {
		const struct pl_layer *l = &b->m->layers[i];
		full |= l->attn != PL_ATTN_NONE && !l->window_tokens;
		window |= l->attn != PL_ATTN_NONE && l->window_tokens;
		state |= l->rec != PL_REC_NONE;
		v_elems = pl_max_u64(v_elems, pl_layer_cache_row(l).v_elems);
	}
	b->pos = input(b, b->ub * F32);
	b->out_ids = input(b, b->ub * F32);
	for (int w = 0; w < 2; w++) {
		uint64_t cells = w ? c->n_cells_swa : c->n_cells;
		bool used = w ? window : full;
		b->k_idxs[w] = used ? input(b, b->ub * 8) : NONE;
		/* transposed values are written element by element */
		b->v_idxs[w] = used ? input(b, pl_sat_mul(b->ub * 8, c->flash_attn || !v_elems ? 1 : v_elems)) : NONE;
		b->mask[w] = used ? input(b, pl_sat_mul(pl_sat_mul(cells, b->ub), element)) : NONE;
	}
	b->s_copy = state ? input(b, b->n_seq * F32) : NONE;
	b->rot_k = rotates(b, c->type_k, true) ? input(b, 128 * 128 * F32) : NONE;
	b->rot_v = rotates(b, c->type_v, false) ? input(b, 128 * 128 * F32) : NONE;
}

void ll_graph_build(struct ll_graph *g, const struct ll_job *j, const struct ll_place *pl, const struct ll_sum *s)
{
	const struct pl_graph *step = &j->m->graph;
	struct build b = {.g = g, .j = j, .m = j->m, .pl = pl, .s = s, .n_seq = j->ctx.n_seq,
	                  .q_full = NONE, .key = NONE, .value = NONE, .ids = NONE};
	b.ub = pl_round_up(pl_min_u64(j->ctx.n_ctx, j->ctx.n_ubatch), j->ctx.n_seq);
	b.of = PL_NEW_N(g->a, int32_t, step->n_values);
	b.made_by = PL_NEW_N(g->a, uint32_t, step->n_values);
	if (!b.of || !b.made_by)
		return;
	for (uint32_t i = 0; i < step->n_values; i++)
		b.of[i] = NONE;
	add_inputs(&b);
	uint32_t entry = UINT32_MAX; /* the value that goes from layer to layer */
	for (uint32_t i = 0; i < step->n_ops;) {
		int32_t il = step->ops[i].layer;
		uint32_t end = i;
		while (end < step->n_ops && step->ops[end].layer == il)
			end++;
		bool skip = il >= 0 && entry != UINT32_MAX && !needed(&b, (uint32_t)il);
		for (uint32_t k = i; k < end && !skip; k++) {
			const char *name = step->values[step->ops[k].out].name;
			b.made_by[step->ops[k].out] = k;
			/* made when they are asked for: the output gate after the state, keys after values unless windows mix */
			bool late = name && (!strcmp(name, "z") || (!strcmp(name, "k") && b.mask[1] < 0));
			if (late)
				b.of[step->ops[k].out] = LATER;
			else
				emit_op(&b, k);
		}
		uint32_t out = step->ops[end - 1].out;
		if (skip)
			b.of[out] = b.of[entry];
		entry = out;
		i = end;
	}
}
