/* Models whose layers keep a state, alone or beside attention (llama.cpp src/models/mamba.cpp, jamba.cpp,
 * nemotron-h.cpp, granite-hybrid.cpp, falcon-h1.cpp, lfm2.cpp, qwen3next.cpp, qwen35.cpp, qwen35moe.cpp). */
#include <string.h>

#include "base/checked.h"
#include "engine/llamacpp_build.h"

enum { F32 = 4 };

static bool is(const struct lb *b, const char *arch)
{
	return b->m->arch && !strcmp(b->m->arch, arch);
}

static lg_t mixer(struct lb *b, lg_t x, int32_t il)
{
	switch (lb_layer(b, il)->rec) {
	case PL_REC_MAMBA1:
		return lb_mamba1(b, x, il);
	case PL_REC_MAMBA2:
		return lb_mamba2(b, x, il);
	case PL_REC_DELTANET:
		return lb_delta_net(b, x, il);
	case PL_REC_SHORTCONV:
		return lb_short_conv(b, x, il);
	default:
		return x;
	}
}

static lg_t plain_attention(struct lb *b, lg_t x, int32_t il, bool rope, bool normed)
{
	struct lb_qkv y = lb_qkv(b, x, il, true);
	if (normed) {
		y.q = lb_norm(b, y.q, "attn_q_norm", LB_RMS, il);
		y.k = lb_norm(b, y.k, "attn_k_norm", LB_RMS, il);
	}
	if (rope) {
		y.q = lb_rope(b, y.q, il, !normed);
		y.k = lb_rope(b, y.k, il, !normed);
	}
	return lb_attn(b, y, LG_NONE, LG_NONE, "attn_output", il);
}

/* ---- Mamba, Jamba, Granite, Falcon-H1, LFM2 ---------------------------------------------------------------------- */

static bool build_mamba(struct lb *b)
{
	lg_t x = lb_inp_embd(b, false, false);
	lb_inp_rs(b);
	lb_inp_out_ids(b);
	for (int32_t il = lb_first(b); il >= 0; il = lb_next(b, il)) {
		lg_t cur = mixer(b, lb_norm(b, x, "attn_norm", LB_RMS, il), il);
		lb_keep_outputs(b, il, &cur, &x);
		x = lb_add(b, cur, x);
	}
	lb_head(b, x, LB_RMS, false, false);
	return true;
}

static bool build_jamba(struct lb *b)
{
	struct lb_moe o = {.gating = LB_SOFTMAX, .probs_in = LG_NONE};
	lg_t x = lb_inp_embd(b, false, false);
	lb_inp_hybrid(b);
	lb_inp_out_ids(b);
	for (int32_t il = lb_first(b); il >= 0; il = lb_next(b, il)) {
		lg_t cur = lb_norm(b, x, "attn_norm", LB_RMS, il);
		cur = lb_layer(b, il)->rec ? mixer(b, cur, il) : plain_attention(b, cur, il, false, false);
		lb_keep_outputs(b, il, &cur, &x);
		lg_t mid = lb_add(b, x, cur);
		x = lb_add(b, mid, lb_ffn_or_moe(b, lb_norm(b, mid, "ffn_norm", LB_RMS, il), &o, LB_GATED, il));
	}
	lb_head(b, x, LB_RMS, false, false);
	return true;
}

static bool build_granite(struct lb *b)
{
	struct lb_moe o = {.gating = LB_SOFTMAX, .norm_w = true, .probs_in = LG_NONE};
	lg_t x = lb_inp_embd(b, true, false);
	bool rope = !lb_layer(b, 0)->no_rope;
	lb_inp_hybrid(b);
	lb_inp_out_ids(b);
	if (rope)
		lb_inp_pos(b, 1);
	for (int32_t il = lb_first(b); il >= 0; il = lb_next(b, il)) {
		lg_t cur = lb_norm(b, x, "attn_norm", LB_RMS, il);
		cur = lb_layer(b, il)->rec ? mixer(b, cur, il) : plain_attention(b, cur, il, rope, false);
		lb_keep_outputs(b, il, &cur, &x);
		lg_t mid = lb_add(b, lb_scale(b, cur), x);
		cur = lb_ffn_or_moe(b, lb_norm(b, mid, "ffn_norm", LB_RMS, il), &o, LB_GATED, il);
		x = lb_add(b, lb_scale(b, cur), mid);
	}
	lb_head(b, x, LB_RMS, false, true);
	return true;
}

static bool build_falcon_h1(struct lb *b)
{
	lg_t x = lb_inp_embd(b, false, false);
	lb_inp_pos(b, 1);
	lb_inp_hybrid(b);
	lb_inp_out_ids(b);
	for (int32_t il = lb_first(b); il >= 0; il = lb_next(b, il)) {
		lg_t attn = plain_attention(b, lb_norm(b, x, "attn_norm", LB_RMS, il), il, true, false);
		lg_t ssm = mixer(b, lb_norm(b, x, "attn_norm", LB_RMS, il), il);
		lg_t mid = lb_add(b, lb_add(b, attn, ssm), x);
		if (lb_is_last(b, il))
			mid = lb_outputs(b, mid);
		x = lb_add(b, lb_ffn(b, lb_norm(b, mid, "ffn_norm", LB_RMS, il), "", LB_GATED, il), mid);
	}
	lb_head(b, x, LB_RMS, false, false);
	return true;
}

static bool build_lfm2(struct lb *b)
{
	struct lb_moe o = {.gating = LB_SIGMOID, .norm_w = true, .probs_in = LG_NONE};
	lg_t x = lb_inp_embd(b, false, false);
	lb_inp_hybrid(b);
	lb_inp_pos(b, 1);
	lb_inp_out_ids(b);
	for (int32_t il = lb_first(b); il >= 0; il = lb_next(b, il)) {
		lg_t cur = lb_norm(b, x, "attn_norm", LB_RMS, il);
		cur = lb_layer(b, il)->rec ? mixer(b, cur, il) : plain_attention(b, cur, il, true, true);
		lb_keep_outputs(b, il, &cur, &x);
		cur = lb_add(b, x, cur);
		x = lb_add(b, cur, lb_ffn_or_moe(b, lb_norm(b, cur, "ffn_norm", LB_RMS, il), &o, LB_GATED, il));
	}
	lb_head(b, x, LB_RMS, false, false);
	return true;
}

/* ---- Nemotron-H: one part a layer -------------------------------------------------------------------------------- */

static lg_t nemotron_experts(struct lb *b, lg_t x, int32_t il)
{
	lg_t low = x, up = lb_weight(b, il, "ffn_latent_up.weight");
	if (lb_has(b, il, "ffn_latent_down.weight"))
		low = lb_mm(b, lb_weight(b, il, "ffn_latent_down.weight"), x);
	struct lb_moe o = {.act = LB_RELU_SQR, .gating = LB_SIGMOID, .norm_w = true, .scale_w = true,
	                   .probs_in = lb_mm(b, lb_weight(b, il, "ffn_gate_inp.weight"), x)};
	lg_t moe = lb_moe(b, low, &o, il);
	if (up >= 0)
		moe = lb_mm(b, up, moe);
	return lb_add(b, moe, lb_ffn(b, x, "_shexp", LB_RELU_SQR, il));
}

static bool build_nemotron_h(struct lb *b)
{
	lg_t x = lb_inp_embd(b, false, false);
	lb_inp_hybrid(b);
	lb_inp_out_ids(b);
	for (int32_t il = lb_first(b); il >= 0; il = lb_next(b, il)) {
		const struct pl_layer *l = lb_layer(b, il);
		lg_t cur = lb_norm(b, x, "attn_norm", LB_RMS, il);
		if (l->rec)
			cur = mixer(b, cur, il);
		else if (l->attn)
			cur = plain_attention(b, cur, il, false, false);
		else if (lb_has(b, il, "ffn_gate_inp.weight"))
			cur = nemotron_experts(b, cur, il);
		else
			cur = lb_ffn(b, cur, "", LB_RELU_SQR, il);
		lb_keep_outputs(b, il, &cur, &x);
		x = lb_add(b, cur, x);
	}
	lb_head(b, x, LB_RMS, false, false);
	return true;
}

/* ---- Qwen3-Next, Qwen3.5 ------------------------------------------------------------------------------------------ */

/* The query projection makes an output gate too; where the gate is cut out differs. */
static lg_t gated_attention(struct lb *b, lg_t x, int32_t il, bool next)
{
	struct lg *g = b->g;
	const struct pl_layer *l = lb_layer(b, il);
	uint64_t d = l->d_k, h = l->n_head, n = b->n_tokens;
	struct lb_qkv y = lb_qkv_sized(b, x, il, 2 * d, h, d, l->n_head_kv, d, l->n_head_kv, false);
	lg_t both = next ? lg_reshape(g, y.q, 2 * d, h, n, 1) : y.q;
	lg_t gate = lg_view_3d(g, both, d, h, n, 2 * d * F32, 2 * d * h * F32);
	y.q = lg_view_3d(g, both, d, h, n, 2 * d * F32, 2 * d * h * F32);
	y.k = lg_reshape(g, y.k, d, l->n_head_kv, n, 1);
	y.v = lg_reshape(g, y.v, d, l->n_head_kv, n, 1);
	y.q = lb_rope(b, lb_norm(b, y.q, "attn_q_norm", LB_RMS, il), il, false);
	y.k = lb_rope(b, lb_norm(b, y.k, "attn_k_norm", LB_RMS, il), il, false);
	lg_t out = lb_attn(b, y, LG_NONE, LG_NONE, NULL, il);
	out = lb_mul(b, out, lb_act(b, lg_cont_4d(g, gate, d * h, n, 1, 1)));
	return lb_mm(b, lb_weight(b, il, "attn_output.weight"), out);
}

/* Unlike elsewhere the shared experts come first to be named, and their gate is a plain sigmoid. */
static lg_t qwen_ffn(struct lb *b, lg_t x, int32_t il)
{
	struct lb_moe o = {.gating = LB_SOFTMAX, .norm_w = true, .probs_in = LG_NONE};
	if (!lb_has(b, il, "ffn_gate_inp.weight"))
		return lb_ffn(b, x, "", LB_GATED, il);
	lg_t moe = lb_moe(b, x, &o, il);
	if (!lb_has(b, il, "ffn_up_shexp.weight"))
		return moe;
	lg_t shared = lb_ffn(b, x, "_shexp", LB_GATED, il);
	lg_t gate = lb_act(b, lb_mm(b, lb_weight(b, il, "ffn_gate_inp_shexp.weight"), x));
	return lb_add(b, moe, lb_mul(b, shared, gate));
}

static bool build_qwen(struct lb *b)
{
	bool next = is(b, "qwen3next");
	lg_t x = lb_inp_embd(b, false, false);
	lb_inp_hybrid(b);
	lb_inp_pos(b, next ? 1 : 4);
	lb_inp_out_ids(b);
	for (int32_t il = lb_first(b); il >= 0; il = lb_next(b, il)) {
		lg_t cur = lb_norm(b, x, "attn_norm", LB_RMS, il);
		lg_expand(b->g, cur);
		cur = lb_layer(b, il)->rec ? mixer(b, cur, il) : gated_attention(b, cur, il, next);
		lb_keep_outputs(b, il, &cur, &x);
		lg_t mid = lb_add(b, cur, x);
		x = lb_add(b, qwen_ffn(b, lb_norm(b, mid, "post_attention_norm", LB_RMS, il), il), mid);
	}
	lb_head(b, x, LB_RMS, false, false);
	return true;
}

bool lb_build_hybrid(struct lb *b)
{
	static const struct {
		const char *arch;
		bool (*build)(struct lb *b);
	} families[] = {
	    {"mamba", build_mamba},          {"mamba2", build_mamba},         {"jamba", build_jamba},
	    {"granitehybrid", build_granite}, {"falcon-h1", build_falcon_h1},  {"lfm2", build_lfm2},
	    {"lfm2moe", build_lfm2},         {"nemotron_h", build_nemotron_h}, {"nemotron_h_moe", build_nemotron_h},
	    {"qwen3next", build_qwen},       {"qwen35", build_qwen},          {"qwen35moe", build_qwen},
	};
	for (size_t i = 0; i < sizeof families / sizeof *families; i++)
		if (is(b, families[i].arch))
			return families[i].build(b);
	return false;
}
