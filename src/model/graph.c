/* The ops of one step: the model as a whole, one layer, and the tools all builders share. The order of operations is
 * llama.cpp's (src/models/); what a layer does follows from its fields and the tensors it has, never from its name. */
#include <string.h>

#include "base/checked.h"
#include "model/arch_traits.h"
#include "model/graph_build.h"

/* ---- tools ------------------------------------------------------------------------------------------------------ */

int64_t pl_gb_find(const struct pl_gb *b, int32_t il, enum pl_role role, bool is_bias)
{
	if (il >= (int32_t)b->n_all)
		return -1;
	return (int64_t)b->index[((size_t)(il + 1) * PL_ROLE_COUNT + role) * 2 + is_bias] - 1;
}

bool pl_gb_has(const struct pl_gb *b, int32_t il, enum pl_role role)
{
	return pl_gb_find(b, il, role, false) >= 0;
}

const struct pl_tensor *pl_gb_tensor(const struct pl_gb *b, int32_t il, enum pl_role role)
{
	int64_t i = pl_gb_find(b, il, role, false);
	return i < 0 ? NULL : &b->m->tensors[i];
}

uint32_t pl_gb_value(struct pl_gb *b, uint64_t width, enum pl_rows rows, const char *name)
{
	if (b->n_values == b->cap_values) {
		uint32_t cap = b->cap_values * 2;
		struct pl_value *v = pl_arena_grow(b->a, b->values, b->n_values, cap, sizeof *v);
		if (!v)
			return 0;
		b->values = v;
		b->cap_values = cap;
	}
	b->values[b->n_values] =
	    (struct pl_value){.width = (uint32_t)pl_min_u64(width, UINT32_MAX), .rows = rows, .name = name};
	return b->n_values++;
}

uint32_t pl_gb_width(const struct pl_gb *b, uint32_t value)
{
	return value < b->n_values ? b->values[value].width : 0;
}

uint32_t pl_gb_op(struct pl_gb *b, enum pl_op_kind kind, int32_t il, uint32_t in0, uint32_t in1, uint32_t in2,
                  uint64_t width, enum pl_rows rows, const char *name)
{
	if (b->n_ops == b->cap_ops) {
		uint32_t cap = b->cap_ops * 2;
		struct pl_op *ops = pl_arena_grow(b->a, b->ops, b->n_ops, cap, sizeof *ops);
		if (!ops)
			return 0;
		b->ops = ops;
		b->cap_ops = cap;
	}
	uint32_t out = pl_gb_value(b, width, rows, name), in[] = {in0, in1, in2};
	struct pl_op *op = &b->ops[b->n_ops++];
	*op = (struct pl_op){.kind = kind, .layer = il, .out = out};
	for (int i = 0; i < 3; i++)
		if (in[i] != PL_NO_VALUE)
			op->in[op->n_in++] = in[i];
	return out;
}

void pl_gb_weigh(struct pl_gb *b, int32_t il, enum pl_role role)
{
	if (!b->n_ops)
		return;
	struct pl_op *op = &b->ops[b->n_ops - 1];
	for (int bias = 0; bias < 2; bias++) {
		int64_t t = pl_gb_find(b, il, role, bias);
		if (t < 0 || op->n_weights == PL_OP_MAX_WEIGHTS)
			continue;
		op->weights[op->n_weights++] = (uint32_t)t;
		b->used[t] = true;
	}
}

void pl_gb_expect(struct pl_gb *b, const struct pl_tensor *t, uint64_t have, uint64_t want)
{
	if (have == want || b->fault)
		return;
	b->fault = pl_arena_printf(b->a, "%s: %llu where the layer needs %llu", t->name, (unsigned long long)have,
	                           (unsigned long long)want);
}

uint32_t pl_gb_linear(struct pl_gb *b, int32_t il, enum pl_role role, uint32_t in, const char *name)
{
	const struct pl_tensor *t = pl_gb_tensor(b, il, role);
	if (!t || in == PL_NO_VALUE)
		return PL_NO_VALUE;
	pl_gb_expect(b, t, t->ne[0], pl_gb_width(b, in));
	uint32_t out = pl_gb_op(b, PL_OP_LINEAR, il, in, PL_NO_VALUE, PL_NO_VALUE, t->ne[1], b->values[in].rows, name);
	pl_gb_weigh(b, il, role);
	return out;
}

uint32_t pl_gb_norm(struct pl_gb *b, int32_t il, enum pl_role role, uint32_t in, const char *name)
{
	const struct pl_tensor *t = pl_gb_tensor(b, il, role);
	if (!t || in == PL_NO_VALUE)
		return in;
	uint32_t width = pl_gb_width(b, in);
	if (!t->ne[0] || width % t->ne[0]) /* a norm over each head repeats its weight */
		pl_gb_expect(b, t, t->ne[0], width);
	uint32_t out = pl_gb_op(b, PL_OP_NORM, il, in, PL_NO_VALUE, PL_NO_VALUE, width, b->values[in].rows, name);
	pl_gb_weigh(b, il, role);
	return out;
}

uint32_t pl_gb_add(struct pl_gb *b, int32_t il, uint32_t x, uint32_t y, const char *name)
{
	if (x == PL_NO_VALUE || y == PL_NO_VALUE)
		return x == PL_NO_VALUE ? y : x;
	return pl_gb_op(b, PL_OP_ADD, il, x, y, PL_NO_VALUE, pl_gb_width(b, x), b->values[x].rows, name);
}

/* ---- one layer -------------------------------------------------------------------------------------------------- */

static uint32_t layer_mixers(struct pl_gb *b, int32_t il, uint32_t h)
{
	uint32_t y = PL_NO_VALUE;
	if (b->m->layers[il].rec != PL_REC_NONE)
		y = pl_gb_recurrent(b, il, h);
	if (b->m->layers[il].attn != PL_ATTN_NONE)
		y = pl_gb_add(b, il, y, pl_gb_attention(b, il, h), "mixed");
	else if (b->m->layers[il].rec == PL_REC_NONE) /* Nemotron-NAS: attention replaced by one matrix */
		y = pl_gb_linear(b, il, PL_ROLE_ATTN_OUT, h, "attn_linear");
	return y;
}

/* The norm before the feed forward. post_attention_norm is that norm where nothing else is (gpt-oss, GLM-4.5, Qwen3.5),
 * else it follows the attention. */
static enum pl_role ffn_norm_role(const struct pl_gb *b, int32_t il)
{
	if (pl_gb_has(b, il, PL_ROLE_FFN_NORM))
		return PL_ROLE_FFN_NORM;
	if (pl_gb_has(b, il, PL_ROLE_ATTN_NORM) && pl_gb_has(b, il, PL_ROLE_ATTN_POST_NORM) &&
	    !pl_gb_has(b, il, PL_ROLE_FFN_POST_NORM))
		return PL_ROLE_ATTN_POST_NORM;
	if (pl_gb_has(b, il, PL_ROLE_ATTN_NORM) && pl_gb_has(b, il, PL_ROLE_ATTN_OUT_NORM) &&
	    !pl_gb_has(b, il, PL_ROLE_LAYER_OUT_NORM)) /* DBRX */
		return PL_ROLE_ATTN_OUT_NORM;
	return PL_ROLE_OTHER;
}

/* Gemma 3n and 4: a gated look at the layer's own embedding of the token. */
static uint32_t per_layer_input(struct pl_gb *b, int32_t il, uint32_t x)
{
	if (b->ple == PL_NO_VALUE || !pl_gb_has(b, il, PL_ROLE_PER_LAYER_INP_GATE))
		return x;
	uint32_t g = pl_gb_linear(b, il, PL_ROLE_PER_LAYER_INP_GATE, x, "ple_gate");
	g = pl_gb_op(b, PL_OP_GLU, il, g, b->ple, PL_NO_VALUE, b->m->d_per_layer_embed, PL_ROWS_NEW, "ple");
	g = pl_gb_linear(b, il, PL_ROLE_PER_LAYER_INP_PROJ, g, "ple_proj");
	g = pl_gb_norm(b, il, PL_ROLE_PER_LAYER_POST_NORM, g, "ple_norm");
	return pl_gb_add(b, il, x, g, "ple_out");
}

/* Kimi K3: a scored mix of earlier residuals stands before a norm. */
static uint32_t residual_mix(struct pl_gb *b, int32_t il, enum pl_role score, uint32_t x)
{
	if (!pl_gb_has(b, il, score))
		return x;
	uint32_t y = pl_gb_op(b, PL_OP_GLU, il, x, PL_NO_VALUE, PL_NO_VALUE, pl_gb_width(b, x), PL_ROWS_NEW, "res_mix");
	pl_gb_weigh(b, il, score);
	return y;
}

static uint32_t build_layer(struct pl_gb *b, int32_t il, uint32_t x)
{
	enum pl_role pre_ffn = ffn_norm_role(b, il);
	bool pre = pl_gb_has(b, il, PL_ROLE_ATTN_NORM), bare = !pre && pre_ffn == PL_ROLE_OTHER &&
	                                                       !pl_gb_has(b, il, PL_ROLE_ATTN_POST_NORM) &&
	                                                       !pl_gb_has(b, il, PL_ROLE_ATTN_OUT_NORM);
	bool parallel = (pre && pre_ffn == PL_ROLE_OTHER) || (b->tr && (b->tr->flags & PL_ARCH_PARALLEL));
	uint32_t mixed = residual_mix(b, il, PL_ROLE_ATTN_RES_SCORE, x);
	uint32_t h = pl_gb_norm(b, il, PL_ROLE_ATTN_NORM, mixed, "attn_norm"), h2 = h, n_embd = pl_gb_width(b, x);
	if (pl_gb_has(b, il, PL_ROLE_ATTN_NORM_2)) /* Falcon 40B: the attention has a norm of its own */
		h2 = pl_gb_norm(b, il, PL_ROLE_ATTN_NORM_2, x, "attn_norm_2");
	else if (bare) /* OLMo: norms without weights */
		h2 = h = pl_gb_op(b, PL_OP_NORM, il, x, PL_NO_VALUE, PL_NO_VALUE, n_embd, PL_ROWS_NEW, "attn_norm");
	uint32_t y = layer_mixers(b, il, h2);
	if (pre_ffn != PL_ROLE_ATTN_POST_NORM && y != PL_NO_VALUE)
		y = pl_gb_norm(b, il, PL_ROLE_ATTN_POST_NORM, y, "attn_post_norm");
	if (pre && pre_ffn != PL_ROLE_ATTN_OUT_NORM && y != PL_NO_VALUE) /* Grok */
		y = pl_gb_norm(b, il, PL_ROLE_ATTN_OUT_NORM, y, "attn_out_norm");
	uint32_t x1 = pl_gb_add(b, il, x, y, "attn_residual");
	if (!pre)
		x1 = pl_gb_norm(b, il, PL_ROLE_ATTN_OUT_NORM, x1, "attn_out_norm"); /* BERT: after the sum */
	uint32_t hf = parallel ? h : x1;
	if (pre_ffn != PL_ROLE_OTHER)
		hf = pl_gb_norm(b, il, pre_ffn, parallel ? x : residual_mix(b, il, PL_ROLE_FFN_RES_SCORE, x1), "ffn_norm");
	else if (bare && b->m->layers[il].ffn != PL_FFN_NONE)
		hf = pl_gb_op(b, PL_OP_NORM, il, x1, PL_NO_VALUE, PL_NO_VALUE, n_embd, PL_ROWS_NEW, "ffn_norm");
	uint32_t f = pl_gb_ffn(b, il, x1, hf);
	if (f != PL_NO_VALUE)
		f = pl_gb_norm(b, il, PL_ROLE_FFN_POST_NORM, f, "ffn_post_norm");
	if (f != PL_NO_VALUE && pre)
		f = pl_gb_norm(b, il, PL_ROLE_LAYER_OUT_NORM, f, "layer_out_norm");
	uint32_t out = pl_gb_add(b, il, x1, f, "l_out");
	if (!pre)
		out = pl_gb_norm(b, il, PL_ROLE_LAYER_OUT_NORM, out, "layer_out_norm");
	out = per_layer_input(b, il, out);
	if (pl_gb_has(b, il, PL_ROLE_LAYER_OUT_SCALE)) {
		out = pl_gb_op(b, PL_OP_GLU, il, out, PL_NO_VALUE, PL_NO_VALUE, n_embd, PL_ROWS_NEW, "l_out_scaled");
		pl_gb_weigh(b, il, PL_ROLE_LAYER_OUT_SCALE);
	}
	return out;
}

/* ---- before and after the layers -------------------------------------------------------------------------------- */

static uint32_t embed(struct pl_gb *b, enum pl_role role, const char *name)
{
	const struct pl_tensor *t = pl_gb_tensor(b, -1, role);
	if (!t)
		return PL_NO_VALUE;
	uint32_t out = pl_gb_op(b, PL_OP_EMBED, -1, PL_NO_VALUE, PL_NO_VALUE, PL_NO_VALUE, t->ne[0], PL_ROWS_NEW, name);
	pl_gb_weigh(b, -1, role);
	return out;
}

static uint32_t build_input(struct pl_gb *b)
{
	uint32_t x = embed(b, PL_ROLE_TOKEN_EMBD, "inp_embd");
	if (x == PL_NO_VALUE)
		return PL_NO_VALUE;
	pl_gb_expect(b, pl_gb_tensor(b, -1, PL_ROLE_TOKEN_EMBD), pl_gb_width(b, x), b->m->n_embd);
	x = pl_gb_add(b, -1, x, embed(b, PL_ROLE_TYPE_EMBD, "inp_type"), "inp_typed");
	x = pl_gb_add(b, -1, x, embed(b, PL_ROLE_POS_EMBD, "inp_pos"), "inp_placed");
	x = pl_gb_norm(b, -1, PL_ROLE_TOKEN_EMBD_NORM, x, "inp_norm");
	uint32_t p = pl_gb_linear(b, -1, PL_ROLE_PER_LAYER_PROJ, x, "ple_model_proj");
	if (p != PL_NO_VALUE)
		p = pl_gb_norm(b, -1, PL_ROLE_PER_LAYER_PROJ_NORM, p, "ple_model_norm");
	b->ple = pl_gb_add(b, -1, embed(b, PL_ROLE_PER_LAYER_EMBD, "ple_embd"), p, "inp_per_layer");
	return x;
}

static void build_output(struct pl_gb *b, uint32_t x)
{
	x = residual_mix(b, -1, PL_ROLE_OUTPUT_RES_SCORE, x);
	x = pl_gb_norm(b, -1, PL_ROLE_OUTPUT_NORM, x, "result_norm");
	if (b->m->is_embedding) {
		x = pl_gb_op(b, PL_OP_POOL, -1, x, PL_NO_VALUE, PL_NO_VALUE, pl_gb_width(b, x), PL_ROWS_SEQUENCE,
		             "pooled");
		uint32_t c = pl_gb_linear(b, -1, PL_ROLE_CLS, x, "cls");
		pl_gb_linear(b, -1, PL_ROLE_CLS_OUT, c == PL_NO_VALUE ? x : c, "cls_out");
		return;
	}
	enum pl_role head = pl_gb_has(b, -1, PL_ROLE_OUTPUT) ? PL_ROLE_OUTPUT : PL_ROLE_TOKEN_EMBD;
	const struct pl_tensor *t = pl_gb_tensor(b, -1, head);
	if (!t)
		return;
	pl_gb_expect(b, t, t->ne[0], pl_gb_width(b, x));
	pl_gb_op(b, PL_OP_LM_HEAD, -1, x, PL_NO_VALUE, PL_NO_VALUE, t->ne[1], PL_ROWS_OUTPUT, "result_output");
	pl_gb_weigh(b, -1, head);
}

/* ---- entry ------------------------------------------------------------------------------------------------------ */

static bool make_index(struct pl_gb *b)
{
	const struct pl_model *m = b->m;
	b->n_all = m->n_layers + m->n_layers_mtp;
	b->index = PL_NEW_N(b->a, uint32_t, ((uint64_t)b->n_all + 1) * PL_ROLE_COUNT * 2);
	b->used = PL_NEW_N(b->a, bool, m->n_tensors ? m->n_tensors : 1);
	b->kv = PL_NEW_N(b->a, uint32_t, (uint64_t)b->n_all + 1);
	/* the first of both, so that value 0 may be read whatever fails later */
	b->cap_values = b->cap_ops = 512;
	b->values = PL_NEW_N(b->a, struct pl_value, b->cap_values);
	b->ops = PL_NEW_N(b->a, struct pl_op, b->cap_ops);
	if (!b->index || !b->used || !b->kv || !b->values || !b->ops)
		return false;
	for (uint32_t i = 0; i <= b->n_all; i++)
		b->kv[i] = PL_NO_VALUE;
	for (uint32_t i = 0; i < m->n_tensors; i++) {
		const struct pl_tensor *t = &m->tensors[i];
		if (!t->role || t->layer >= (int32_t)b->n_all || t->layer < -1)
			continue;
		uint32_t *slot = &b->index[((size_t)(t->layer + 1) * PL_ROLE_COUNT + t->role) * 2 + t->is_bias];
		if (!*slot)
			*slot = i + 1;
	}
	return true;
}

/* Tensors a step of the trunk has to touch. Shared-KV layers keep projections that nothing reads. */
static bool needs_a_place(const struct pl_model *m, const struct pl_tensor *t)
{
	if (t->group == PL_GROUP_MTP || t->group == PL_GROUP_VISION || t->group == PL_GROUP_ENCODER ||
	    t->role == PL_ROLE_ROPE_FREQS || t->layer >= (int32_t)m->n_layers)
		return false;
	if (t->layer < 0 || m->layers[t->layer].kv_from_layer < 0)
		return true;
	return t->role != PL_ROLE_ATTN_K && t->role != PL_ROLE_ATTN_V && t->role != PL_ROLE_ATTN_K_NORM;
}

static void note_leftovers(struct pl_gb *b)
{
	uint32_t n = 0;
	const char *first = NULL;
	for (uint32_t i = 0; i < b->m->n_tensors; i++) {
		const struct pl_tensor *t = &b->m->tensors[i];
		if (b->used[i] || !needs_a_place(b->m, t))
			continue;
		n++;
		if (!first)
			first = t->name;
	}
	if (n)
		pl_note_add(b->a, &b->m->notes, PL_NOTE_INFO,
		            "%u tensors have no known place in the step ('%s' is the first): their bytes are counted",
		            n, first);
}

int pl_graph_build(struct pl_arena *a, struct pl_model *m, struct pl_err *err)
{
	struct pl_gb b = {
	    .a = a, .m = m, .ple = PL_NO_VALUE, .encoder = PL_NO_VALUE, .tr = pl_arch_traits_find(m->arch)};
	if (!m->arch_known || !m->layers || !m->n_tensors)
		return 0;
	if (!make_index(&b))
		return pl_fail(err, PL_ERR_NOMEM, m->name, "out of memory while building the graph of %u layers",
		               b.n_all);
	uint32_t x = build_input(&b);
	if (x == PL_NO_VALUE) /* a shard, or a model without an embedding matrix: nothing to start from */
		return 0;
	for (uint32_t il = 0; il < m->n_layers && !pl_arena_failed(a); il++)
		x = build_layer(&b, (int32_t)il, x);
	build_output(&b, x);
	if (pl_arena_failed(a))
		return pl_fail(err, PL_ERR_NOMEM, m->name, "out of memory while building the graph of %u layers",
		               b.n_all);
	if (b.fault) {
		pl_note_add(a, &m->notes, PL_NOTE_WARNING,
		            "shapes do not fit together (%s): weights are exact, the step of this model is not known",
		            b.fault);
		return 0;
	}
	note_leftovers(&b);
	m->graph = (struct pl_graph){.ops = b.ops, .n_ops = b.n_ops, .values = b.values, .n_values = b.n_values};
	return 0;
}
