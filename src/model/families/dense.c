/* Dense decoders whose keys or blocks differ from Llama's. */
#include <string.h>

#include "model/hf.h"

/* sliding_window_pattern N: one full layer in N, last of its group. A config that leaves the window out means the
 * class's 4096; null means none. */
static void pattern_windows(struct pl_hf *c, uint32_t dflt_period)
{
	const uint32_t dflt = json_object_get(c->cfg, "sliding_window") ? 0 : 4096;
	const uint32_t window = pl_hf_u32(c, "sliding_window", 0, PL_HF_MAX_CTX, dflt);
	uint32_t n = dflt_period;
	if (pl_hf_has(c, "layer_types") && window == pl_hf_u32(c, "sliding_window", 0, PL_HF_MAX_CTX, 0)) {
		pl_hf_windows(c);
		return;
	}
	const char *letters = pl_hf_str(c, "sliding_window_pattern"); /* EXAONE 4: "LLLG" */
	if (letters)
		n = (uint32_t)strnlen(letters, 64);
	else
		n = pl_hf_u32(c, "sliding_window_pattern|_sliding_window_pattern", 1, PL_HF_MAX_LAYERS, dflt_period);
	for (uint32_t il = 0; il < c->m->n_layers && !c->rc && n; il++)
		if ((il + 1) % n != 0)
			c->layers[il].window_tokens = window;
}

void pl_hf_read_gemma2(struct pl_hf *c)
{
	pl_hf_base(c, 0);
	pl_hf_attention(c);
	pl_hf_dense_ffn(c);
	pattern_windows(c, 2);
}

void pl_hf_read_gemma3(struct pl_hf *c)
{
	pl_hf_base(c, 0);
	pl_hf_attention(c);
	pl_hf_dense_ffn(c);
	pattern_windows(c, 6);
}

void pl_hf_read_exaone4(struct pl_hf *c)
{
	pl_hf_base(c, 0);
	pl_hf_attention(c);
	pl_hf_dense_ffn(c);
	pattern_windows(c, 4);
}

/* Command-R: one norm feeds attention and feed forward; Command-R+ and later norm each head of queries and keys. */
void pl_hf_read_cohere(struct pl_hf *c)
{
	pl_hf_base(c, 0);
	pl_hf_attention(c);
	pl_hf_dense_ffn(c);
	pl_hf_set_parts(c, PL_P_QK_NORM_EACH, pl_hf_bool(c, "use_qk_norm", false));
	if (!strcmp(c->family->arch, "cohere2"))
		pattern_windows(c, 4);
}

void pl_hf_read_stablelm(struct pl_hf *c)
{
	pl_hf_base(c, 0);
	pl_hf_attention(c);
	pl_hf_dense_ffn(c);
	pl_hf_set_parts(c, PL_P_BIAS_QKV, pl_hf_bool(c, "use_qkv_bias|attention_bias", false));
	if (pl_hf_bool(c, "qk_layernorm", false))
		pl_hf_set_parts(c, PL_P_QK_NORM_EACH, true);
	if (pl_hf_bool(c, "use_parallel_residual", false))
		pl_hf_set_parts(c, PL_P_NORM_FFN, false);
}

void pl_hf_read_starcoder2(struct pl_hf *c)
{
	pl_hf_base(c, 0);
	pl_hf_attention(c);
	pl_hf_dense_ffn(c);
	pl_hf_windows(c);
	pl_hf_set_parts(c, PL_P_BIAS_QKV | PL_P_BIAS_O | PL_P_BIAS_FFN, pl_hf_bool(c, "use_bias", true));
}

/* Feed forward 4 n_embd wide unless the config says otherwise. */
static void plain_ffn(struct pl_hf *c)
{
	const uint64_t four = 4ull * c->m->n_embd;
	const uint32_t dflt = four <= PL_HF_MAX_DIM ? (uint32_t)four : PL_HF_MAX_DIM;
	const uint32_t n_ff = pl_hf_u32(c, "n_inner|intermediate_size|ffn_hidden_size", 1, PL_HF_MAX_DIM, dflt);
	for (uint32_t il = 0; il < pl_hf_n_all(c); il++) {
		c->layers[il].ffn = PL_FFN_PLAIN;
		c->layers[il].n_ff = n_ff;
	}
}

static void kv_heads(struct pl_hf *c, uint32_t n)
{
	for (uint32_t il = 0; il < pl_hf_n_all(c); il++)
		c->layers[il].n_head_kv = n;
}

/* GPT-2, BigCode, GPT-J, Bloom: old keys, plain feed forward. */
void pl_hf_read_gpt2(struct pl_hf *c)
{
	pl_hf_base(c, 0);
	pl_hf_attention(c);
	plain_ffn(c);
	if (!c->rc && (!strcmp(c->family->type, "gpt2") || !strcmp(c->family->type, "gpt_bigcode")))
		c->n_positions = pl_hf_need(c, "n_positions|n_ctx|max_position_embeddings", PL_HF_MAX_CTX);
	if (!strcmp(c->family->type, "gpt_bigcode") && pl_hf_bool(c, "multi_query", true))
		kv_heads(c, 1);
}

void pl_hf_read_neox(struct pl_hf *c)
{
	pl_hf_base(c, 0);
	pl_hf_attention(c);
	plain_ffn(c);
	pl_hf_set_parts(c, PL_P_BIAS_QKV | PL_P_BIAS_O, pl_hf_bool(c, "attention_bias", true));
}

void pl_hf_read_phi(struct pl_hf *c)
{
	pl_hf_base(c, 0);
	pl_hf_attention(c);
	plain_ffn(c);
}

/* Falcon 7B: one norm, one key-value head. 40B and 180B: two norms and grouped heads. */
void pl_hf_read_falcon(struct pl_hf *c)
{
	pl_hf_base(c, 0);
	pl_hf_attention(c);
	plain_ffn(c);
	const bool fresh = pl_hf_bool(c, "new_decoder_architecture", false);
	const uint32_t heads = c->rc ? 1 : c->layers[0].n_head;
	if (fresh)
		kv_heads(c, pl_hf_u32(c, "num_kv_heads|n_head_kv|num_key_value_heads", 1, PL_HF_MAX_HEADS, heads));
	else
		kv_heads(c, pl_hf_bool(c, "multi_query", true) ? 1 : heads);
	if (fresh && pl_hf_u32(c, "num_ln_in_parallel_attn", 1, 2, 2) == 2)
		pl_hf_set_parts(c, PL_P_NORM_ATTN_2, true);
	if (!fresh && !pl_hf_bool(c, "parallel_attn", true))
		pl_hf_set_parts(c, PL_P_NORM_FFN, true);
	if (pl_hf_bool(c, "bias", false))
		pl_hf_set_parts(c, PL_P_BIAS_QKV | PL_P_BIAS_O | PL_P_BIAS_FFN, true);
}

/* ChatGLM 2 and 3: multi_query_group_num key-value heads; qkv fused, gate and up fused. */
void pl_hf_read_chatglm(struct pl_hf *c)
{
	pl_hf_base(c, 0);
	pl_hf_attention(c);
	pl_hf_dense_ffn(c);
	if (pl_hf_bool(c, "multi_query_attention", false))
		kv_heads(c, pl_hf_need(c, "multi_query_group_num", PL_HF_MAX_HEADS));
	pl_hf_set_parts(c, PL_P_BIAS_QKV, pl_hf_bool(c, "add_qkv_bias|attention_bias", false));
	if (pl_hf_bool(c, "add_bias_linear", false))
		pl_hf_set_parts(c, PL_P_BIAS_QKV | PL_P_BIAS_O | PL_P_BIAS_FFN, true);
}

static uint32_t block_u32(struct pl_hf *c, const json_t *block, const char *keys, uint32_t max)
{
	const json_t *old = pl_hf_enter(c, block);
	const uint32_t v = pl_hf_u32(c, keys, 1, max, 0);
	pl_hf_enter(c, old);
	return v;
}

static bool no_op(struct pl_hf *c, const json_t *block)
{
	const json_t *old = pl_hf_enter(c, block);
	const bool v = pl_hf_bool(c, "no_op|replace_with_linear", false);
	pl_hf_enter(c, old);
	return v;
}

/* Nemotron-NAS: every block chooses its heads and its width, or leaves a half out. Width: transformers' DeciLM,
 * int(2 × ffn_mult × n_embd / 3) rounded up to 256. */
static void deci_block(struct pl_hf *c, uint32_t il, const json_t *block)
{
	struct pl_layer *l = &c->layers[il];
	const json_t *attn = json_object_get(block, "attention"), *ffn = json_object_get(block, "ffn");
	const uint32_t group = block_u32(c, attn, "n_heads_in_group", PL_HF_MAX_HEADS);
	const double mult = json_number_value(json_object_get(ffn, "ffn_mult"));
	if (!group || no_op(c, attn)) {
		l->attn = PL_ATTN_NONE;
		c->parts[il] &= ~PL_P_NORM_ATTN;
	} else if (l->n_head % group) {
		pl_hf_fail(c, "'block_configs[%u].attention.n_heads_in_group' is %u, it must divide %u heads", il, group, l->n_head);
	} else {
		l->n_head_kv = l->n_head / group;
	}
	if (no_op(c, ffn) || !(mult > 0)) {
		l->ffn = PL_FFN_NONE;
		l->n_ff = 0;
		c->parts[il] &= ~PL_P_NORM_FFN;
	} else if (2 * mult * c->m->n_embd / 3 > PL_HF_MAX_DIM) {
		pl_hf_fail(c, "'block_configs[%u].ffn.ffn_mult' is %g: wider than %u", il, mult, PL_HF_MAX_DIM);
	} else {
		l->ffn = PL_FFN_GATED;
		l->n_ff = ((uint32_t)(2 * mult * c->m->n_embd / 3) + 255) / 256 * 256;
	}
}

void pl_hf_read_deci(struct pl_hf *c)
{
	pl_hf_base(c, 0);
	if (c->rc)
		return;
	pl_hf_attention(c);
	const json_t *blocks = pl_hf_array(c, "block_configs", c->m->n_layers);
	if (!blocks)
		pl_hf_fail(c, "'block_configs' is missing, it must describe each of the %u layers", c->m->n_layers);
	for (uint32_t il = 0; il < c->m->n_layers && !c->rc; il++)
		deci_block(c, il, json_array_get(blocks, il));
}

/* Seed-OSS: attention_bias is about q, k and v, attention_out_bias about the output. */
void pl_hf_read_seed_oss(struct pl_hf *c)
{
	pl_hf_read_dense(c);
	if (pl_hf_bool(c, "attention_out_bias", false))
		pl_hf_set_parts(c, PL_P_BIAS_O, true);
}

/* Yuan 2: a localised filter (two short convolutions and a norm) before queries and keys. Source: YuanForCausalLM,
 * modeling_yuan.py. */
static void yuan_filter(struct pl_hf *c, uint32_t il)
{
	const uint64_t h = c->m->n_embd;
	pl_hf_emit_named(c, il, PL_ROLE_OTHER, PL_GROUP_ATTN, "lf_gate.conv1.weight", 3, 2, h, h / 2);
	pl_hf_emit_named(c, il, PL_ROLE_OTHER, PL_GROUP_ATTN, "lf_gate.conv1.bias", 1, h / 2, 1, 1);
	pl_hf_emit_named(c, il, PL_ROLE_OTHER, PL_GROUP_ATTN, "lf_gate.conv2.weight", 3, 2, h / 2, h);
	pl_hf_emit_named(c, il, PL_ROLE_OTHER, PL_GROUP_ATTN, "lf_gate.conv2.bias", 1, h, 1, 1);
	pl_hf_emit_named(c, il, PL_ROLE_OTHER, PL_GROUP_NORM, "lf_gate.norm.weight", 1, h, 1, 1);
}

void pl_hf_read_yuan(struct pl_hf *c)
{
	pl_hf_read_dense(c);
	c->more_layer = yuan_filter;
}

/* SmolLM3: every fourth layer does not rotate. 1 in the list means: this layer does. */
void pl_hf_read_smollm3(struct pl_hf *c)
{
	pl_hf_read_dense(c);
	const bool list = pl_hf_has(c, "no_rope_layers");
	for (uint32_t il = 0; il < c->m->n_layers && !c->rc; il++)
		c->layers[il].no_rope = list ? !pl_hf_u32_at(c, "no_rope_layers", il, 1, 1) : (il + 1) % 4 == 0;
}
