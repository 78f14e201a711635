/* Transformers whose layers are attention and a feed forward: one row an architecture says where it differs from
 * LLaMA (llama.cpp src/models/ *.cpp). What a file has no tensor for is left out, so that biases, norms and shared
 * experts need no word here. */
#include <string.h>

#include "base/checked.h"
#include "engine/llamacpp_build.h"

enum flags {
	R_LN = 1 << 0,            /* layer norms */
	R_SCALE_EMBD = 1 << 1,    /* embeddings are scaled */
	R_SCALE_ROWS = 1 << 2,    /* … only rows of tokens: by an input */
	R_POS_EMBD = 1 << 3,      /* learned positions are added */
	R_TOK_NORM = 1 << 4,      /* embeddings are normed */
	R_FLAT = 1 << 5,          /* queries and keys are normed before they are cut into heads */
	R_NORM_AFTER_ROPE = 1 << 6,
	R_BARE_NORM = 1 << 7,     /* norms of rotated queries and keys without weights */
	R_NO_ROPE = 1 << 8,
	R_FACTORS = 1 << 9,       /* tables of rotation factors are used where the file has them */
	R_Q_SCALE = 1 << 10,      /* queries are scaled before the attention */
	R_POST = 1 << 11,         /* norms after the attention and after the feed forward */
	R_NO_PRE = 1 << 12,       /* … and none before them */
	R_PARALLEL = 1 << 13,     /* the feed forward reads what the attention reads */
	R_SUM_FFN_FIRST = 1 << 14, /* parallel: (ffn + attention) + input rather than (ffn + input) + attention */
	R_SOFTCAP = 1 << 16,      /* logits are bent */
	R_LOGIT_SCALE = 1 << 17,
	R_RES_SCALE = 1 << 18,    /* residuals are scaled */
	R_SWA_ROPE = 1 << 19,     /* only sliding layers rotate */
	R_ATTN_TEMP = 1 << 20,    /* queries of layers that do not rotate are scaled by position */
	R_GATE = 1 << 21,         /* the attention's result is gated */
	R_FFN_POST_IL = 1 << 22,  /* the norm after the feed forward belongs to its layer */
	R_SUB_NORM = 1 << 23,     /* norms inside, before the last matrices (BitNet) */
	R_OUT_NORM_FFN = 1 << 24, /* the norm before the feed forward is attn_output_norm (DBRX) */
	R_V_SCALE = 1 << 25,      /* the attention's result is scaled (MiMo 2) */
	R_RESIDUAL_FIRST = 1 << 26, /* residual + result rather than result + residual */
	R_BARE_EMBD_NORM = 1 << 27, /* embeddings are normed without a weight */
	R_POST_EARLY = 1 << 28,     /* the norm after the attention comes before rows are chosen, and belongs to no layer */
	R_RMS_OUT = 1 << 27
};

struct recipe {
	const char *arch;
	uint32_t flags;
	enum lb_act act;
	struct lb_moe moe;
};

#define MOE(g, n) {.gating = g, .norm_w = n, .probs_in = LG_NONE}

static const struct recipe recipes[] = {
    {"llama", R_FACTORS, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"mistral3", R_FACTORS, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"minicpm", R_FACTORS | R_SCALE_EMBD | R_RES_SCALE | R_LOGIT_SCALE, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"granite", R_FACTORS | R_SCALE_EMBD | R_RES_SCALE | R_LOGIT_SCALE, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"granitemoe", R_FACTORS | R_SCALE_EMBD | R_RES_SCALE | R_LOGIT_SCALE, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"deci", R_FACTORS, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"deepseek", R_FACTORS, LB_GATED, MOE(LB_SOFTMAX, false)},
    {"qwen", 0, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"qwen2", 0, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"qwen2vl", 0, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"qwen2moe", 0, LB_GATED, MOE(LB_SOFTMAX, false)},
    {"qwen3", 0, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"qwen3vl", 0, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"qwen3moe", 0, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"qwen3vlmoe", 0, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"internlm2", 0, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"baichuan", 0, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"xverse", 0, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"smollm3", 0, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"seed_oss", 0, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"ernie4_5", 0, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"ernie4_5-moe", 0, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"hunyuan-dense", R_FACTORS | R_NORM_AFTER_ROPE, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"hunyuan-moe", R_FACTORS | R_NORM_AFTER_ROPE, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"bailingmoe", R_FACTORS, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"bailingmoe2", 0, LB_GATED, MOE(LB_SIGMOID, true)},
    {"dots1", 0, LB_GATED, MOE(LB_SIGMOID, true)},
    {"glm4moe", 0, LB_GATED, MOE(LB_SIGMOID, true)},
    {"minimax-m2", R_FLAT, LB_GATED, MOE(LB_SIGMOID, true)},
    {"olmo", R_LN, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"olmo2", R_FLAT | R_POST | R_NO_PRE, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"olmoe", R_FLAT, LB_GATED, MOE(LB_SOFTMAX, false)},
    {"exaone", R_FACTORS, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"exaone4", R_FACTORS | R_POST | R_NO_PRE | R_SWA_ROPE, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"orion", R_LN, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"chatglm", 0, LB_HALVES, MOE(LB_SOFTMAX, true)},
    {"glm4", R_POST | R_FFN_POST_IL, LB_HALVES, MOE(LB_SOFTMAX, true)},
    {"phi3", R_FACTORS | R_Q_SCALE | R_RESIDUAL_FIRST, LB_HALVES, MOE(LB_SOFTMAX, true)},
    {"phimoe", R_FACTORS | R_Q_SCALE | R_RESIDUAL_FIRST, LB_HALVES, MOE(LB_SOFTMAX, true)},
    {"phi2", R_LN | R_PARALLEL | R_SUM_FFN_FIRST | R_Q_SCALE, LB_PLAIN, MOE(LB_SOFTMAX, true)},
    {"falcon", R_LN | R_PARALLEL | R_SUM_FFN_FIRST, LB_PLAIN, MOE(LB_SOFTMAX, true)},
    {"plamo", R_PARALLEL | R_SUM_FFN_FIRST, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"command-r", R_LN | R_PARALLEL | R_LOGIT_SCALE, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"cohere2", R_LN | R_PARALLEL | R_LOGIT_SCALE | R_SWA_ROPE | R_FACTORS, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"gptneox", R_LN | R_PARALLEL, LB_PLAIN, MOE(LB_SOFTMAX, true)},
    {"stablelm", R_LN | R_PARALLEL, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"gpt2", R_LN | R_POS_EMBD | R_NO_ROPE, LB_PLAIN, MOE(LB_SOFTMAX, true)},
    {"starcoder", R_LN | R_POS_EMBD | R_NO_ROPE, LB_PLAIN, MOE(LB_SOFTMAX, true)},
    {"starcoder2", R_LN, LB_PLAIN, MOE(LB_SOFTMAX, true)},
    {"codeshell", R_LN, LB_PLAIN, MOE(LB_SOFTMAX, true)},
    {"nemotron", R_LN, LB_RELU_SQR, MOE(LB_SOFTMAX, true)},
    {"arcee", R_FACTORS, LB_RELU_SQR, MOE(LB_SOFTMAX, true)},
    {"apertus", R_FACTORS, LB_PLAIN, MOE(LB_SOFTMAX, true)},
    {"bloom", R_LN | R_NO_ROPE | R_TOK_NORM, LB_PLAIN, MOE(LB_SOFTMAX, true)},
    {"mpt", R_LN | R_NO_ROPE | R_POS_EMBD, LB_PLAIN, MOE(LB_SOFTMAX, true)},
    {"jais", R_LN | R_NO_ROPE, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"refact", R_NO_ROPE, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"dbrx", R_LN | R_OUT_NORM_FFN, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"gemma", R_SCALE_EMBD | R_Q_SCALE, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"gemma2", R_SCALE_EMBD | R_Q_SCALE | R_POST | R_SOFTCAP, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"gemma3", R_SCALE_ROWS | R_Q_SCALE | R_POST, LB_GATED, MOE(LB_SOFTMAX, true)},
    {"gpt-oss", 0, LB_GATED, MOE(LB_SOFTMAX_WEIGHT, false)},
    {"llama4", R_FACTORS | R_BARE_NORM | R_ATTN_TEMP, LB_GATED, {.gating = LB_SIGMOID, .before = true, .probs_in = LG_NONE}},
    {"step35", R_FLAT | R_GATE | R_FACTORS, LB_GATED, MOE(LB_SIGMOID, true)},
    {"laguna", R_GATE, LB_GATED, MOE(LB_SIGMOID, true)},
    {"afmoe", R_GATE | R_SCALE_EMBD | R_POST | R_FFN_POST_IL, LB_GATED, MOE(LB_SIGMOID, true)},
    {"muse-glimmer", R_GATE | R_SWA_ROPE | R_POST | R_POST_EARLY | R_BARE_EMBD_NORM | R_LOGIT_SCALE | R_SOFTCAP, LB_GATED,
     MOE(LB_SIGMOID, true)},
    {"mimo2", R_V_SCALE, LB_GATED, MOE(LB_SIGMOID, true)},
};

static const struct recipe *recipe_of(const struct pl_model *m)
{
	for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++)
		if (m->arch && !strcmp(recipes[i].arch, m->arch))
			return &recipes[i];
	return NULL;
}

/* ---- attention --------------------------------------------------------------------------------------------------- */

static void norm_heads(struct lb *b, struct lb_qkv *x, enum lb_norm_kind norm, int32_t il)
{
	if (lb_has(b, il, "attn_q_norm.weight"))
		x->q = lb_norm(b, x->q, "attn_q_norm", norm, il);
	if (lb_has(b, il, "attn_k_norm.weight"))
		x->k = lb_norm(b, x->k, "attn_k_norm", norm, il);
}

static bool rotates(const struct lb *b, const struct recipe *r, int32_t il)
{
	const struct pl_layer *l = lb_layer(b, il);
	if ((r->flags & R_NO_ROPE) || l->no_rope)
		return false;
	return !(r->flags & R_SWA_ROPE) || !b->has_window || l->window_tokens;
}

static struct lb_qkv heads_of(struct lb *b, const struct recipe *r, lg_t x, int32_t il, enum lb_norm_kind norm)
{
	const struct pl_layer *l = lb_layer(b, il);
	struct lb_qkv y = lb_qkv(b, x, il, !(r->flags & R_FLAT));
	bool late = r->flags & R_NORM_AFTER_ROPE, step35 = (r->flags & R_FLAT) && (r->flags & R_GATE);
	if (!late && !step35)
		norm_heads(b, &y, norm, il);
	if (r->flags & R_FLAT) {
		y.q = lg_reshape(b->g, y.q, l->d_k, l->n_head, b->n_tokens, 1);
		y.k = lg_reshape(b->g, y.k, l->d_k, l->n_head_kv, b->n_tokens, 1);
		y.v = lg_reshape(b->g, y.v, l->d_v, l->n_head_kv, b->n_tokens, 1);
	}
	if (step35)
		norm_heads(b, &y, norm, il);
	if (rotates(b, r, il)) {
		bool factors = (r->flags & R_FACTORS) && !(step35 && l->window_tokens);
		y.q = lb_rope(b, y.q, il, factors);
		y.k = lb_rope(b, y.k, il, factors);
		if (r->flags & R_BARE_NORM) {
			y.q = lb_norm(b, y.q, NULL, LB_RMS, il);
			y.k = lb_norm(b, y.k, NULL, LB_RMS, il);
		}
	} else if (r->flags & R_ATTN_TEMP) {
		y.q = lb_mul(b, y.q, b->alone[0]);
	}
	if (late)
		norm_heads(b, &y, norm, il);
	if (r->flags & R_Q_SCALE)
		y.q = lb_scale(b, y.q);
	return y;
}

/* A gate from the layer's input, one number a head or one an element. */
static lg_t gated(struct lb *b, lg_t x, lg_t from, int32_t il)
{
	const struct pl_layer *l = lb_layer(b, il);
	lg_t gate = lb_act(b, lb_mm(b, lb_weight(b, il, "attn_gate.weight"), from));
	uint64_t width = lg_at(b->g, gate)->ne[0], all = lg_at(b->g, x)->ne[0];
	if (width != l->n_head)
		return lb_mul(b, x, gate);
	x = lg_reshape(b->g, x, l->d_v, l->n_head, b->n_tokens, 1);
	gate = lg_reshape(b->g, gate, 1, l->n_head, b->n_tokens, 1);
	return lg_reshape(b->g, lb_mul(b, x, gate), all, b->n_tokens, 1, 1);
}

static lg_t attention(struct lb *b, const struct recipe *r, lg_t x, int32_t il, enum lb_norm_kind norm)
{
	struct lb_qkv y = heads_of(b, r, x, il, norm);
	bool apart = (r->flags & R_SUB_NORM) || ((r->flags & R_GATE) && lb_has(b, il, "attn_gate.weight"));
	lg_t out = lb_attn(b, y, lb_weight(b, il, "attn_sinks.weight"), LG_NONE, apart ? NULL : "attn_output", il);
	if ((r->flags & R_GATE) && apart)
		out = gated(b, out, x, il);
	if (apart)
		out = lb_mm(b, lb_weight(b, il, "attn_output.weight"), out);
	return r->flags & R_V_SCALE ? lb_scale(b, out) : out;
}

/* ---- feed forward ------------------------------------------------------------------------------------------------ */

static lg_t feed_forward(struct lb *b, const struct recipe *r, lg_t x, int32_t il)
{
	struct lb_moe o = r->moe;
	o.probs_in = LG_NONE;
	return lb_ffn_or_moe(b, x, &o, r->act, il);
}

/* ---- layers ------------------------------------------------------------------------------------------------------ */

static const char *ffn_norm_name(const struct lb *b, const struct recipe *r, int32_t il)
{
	if (r->flags & R_OUT_NORM_FFN)
		return "attn_output_norm";
	return lb_has(b, il, "ffn_norm.weight") || (r->flags & R_POST) ? "ffn_norm" : "post_attention_norm";
}

static lg_t sequential(struct lb *b, const struct recipe *r, lg_t x, int32_t il, enum lb_norm_kind norm)
{
	lg_t in = x, cur = x;
	const struct pl_layer *l = lb_layer(b, il);
	if (l->attn != PL_ATTN_NONE) {
		if (!(r->flags & R_NO_PRE))
			cur = lb_norm(b, x, "attn_norm", norm, il);
		cur = attention(b, r, cur, il, norm);
	} else if (lb_has(b, il, "attn_output.weight")) {
		cur = lb_mm(b, lb_weight(b, il, "attn_output.weight"), lb_norm(b, x, "attn_norm", norm, il));
	}
	if (r->flags & R_POST_EARLY)
		cur = lb_norm_w(b, cur, lb_weight(b, il, "post_attention_norm.weight"), LG_NONE, norm, -1);
	lb_keep_outputs(b, il, &cur, &in);
	if (l->ffn == PL_FFN_NONE)
		return cur;
	if ((r->flags & R_POST) && !(r->flags & R_POST_EARLY))
		cur = lb_norm(b, cur, "post_attention_norm", norm, il);
	if (r->flags & R_RES_SCALE)
		cur = lb_scale(b, cur);
	lg_t mid = cur != in && lb_has(b, il, "attn_output.weight") ? lb_add(b, cur, in) : cur;
	cur = r->flags & R_NO_PRE ? mid : lb_norm(b, mid, ffn_norm_name(b, r, il), norm, il);
	cur = feed_forward(b, r, cur, il);
	if (r->flags & R_POST)
		cur = lb_norm_w(b, cur, lb_weight(b, il, "post_ffw_norm.weight"), LG_NONE, norm, r->flags & R_FFN_POST_IL ? il : -1);
	if (r->flags & R_RES_SCALE)
		cur = lb_scale(b, cur);
	return r->flags & R_RESIDUAL_FIRST ? lb_add(b, mid, cur) : lb_add(b, cur, mid);
}

static lg_t parallel(struct lb *b, const struct recipe *r, lg_t x, int32_t il, enum lb_norm_kind norm)
{
	lg_t normed = lb_norm(b, x, "attn_norm", norm, il), from = normed, in = x;
	if (lb_has(b, il, "attn_norm_2.weight"))
		from = lb_norm(b, x, "attn_norm_2", norm, il);
	lg_t cur = attention(b, r, from, il, norm);
	bool own_norm = lb_has(b, il, "ffn_norm.weight");
	lb_keep_outputs(b, il, &cur, &in);
	if (!own_norm && lb_is_last(b, il))
		normed = lb_outputs(b, normed);
	lg_t attn = cur;
	if (own_norm)
		normed = lb_norm(b, in, "ffn_norm", norm, il);
	cur = feed_forward(b, r, normed, il);
	if (r->flags & R_SUM_FFN_FIRST)
		return lb_add(b, !strcmp(r->arch, "phi2") ? lb_add(b, attn, cur) : lb_add(b, cur, attn), in);
	return lb_add(b, lb_add(b, cur, in), attn);
}

/* StableLM without the parallel residual has a norm of its own before the feed forward. */
static bool is_parallel(const struct lb *b, const struct recipe *r)
{
	if (!(r->flags & R_PARALLEL))
		return false;
	return strcmp(r->arch, "stablelm") || !lb_has(b, 0, "ffn_norm.weight");
}

static lg_t embeddings(struct lb *b, const struct recipe *r)
{
	lg_t x = lb_inp_embd(b, r->flags & R_SCALE_EMBD, r->flags & R_SCALE_ROWS);
	if (r->flags & R_BARE_EMBD_NORM)
		x = lb_norm(b, x, NULL, LB_RMS, -1);
	bool vl = !strcmp(r->arch, "qwen2vl") || !strcmp(r->arch, "qwen3vl") || !strcmp(r->arch, "qwen3vlmoe");
	lb_inp_pos(b, vl ? 4 : 1);
	if (r->flags & R_ATTN_TEMP)
		b->alone[0] = lg_input(b->g, PL_DTYPE_F32, 1, 1, b->n_tokens, 1);
	lb_inp_attn(b);
	if ((r->flags & R_POS_EMBD) && lb_has(b, -1, "position_embd.weight"))
		x = lb_add(b, x, lg_get_rows(b->g, lb_weight(b, -1, "position_embd.weight"), b->pos));
	if (r->flags & R_TOK_NORM)
		x = lb_norm_w(b, x, lb_weight(b, -1, "token_embd_norm.weight"), lb_weight(b, -1, "token_embd_norm.bias"), LB_LAYER_NORM, 0);
	return x;
}

bool lb_build_plain(struct lb *b)
{
	const struct recipe *r = recipe_of(b->m);
	if (!r)
		return false;
	enum lb_norm_kind norm = r->flags & R_LN ? LB_LAYER_NORM : LB_RMS;
	lg_t x = embeddings(b, r);
	bool side_by_side = is_parallel(b, r);
	lb_inp_out_ids(b);
	for (int32_t il = lb_first(b); il >= 0; il = lb_next(b, il))
		x = side_by_side ? parallel(b, r, x, il, norm) : sequential(b, r, x, il, norm);
	lb_head(b, x, norm, r->flags & R_SOFTCAP, r->flags & R_LOGIT_SCALE);
	return true;
}
