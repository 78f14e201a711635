/* Mamba and its hybrids with attention; short convolutions; RWKV. */
#include <string.h>

#include "model/hf.h"

static void no_attention(struct pl_layer *l)
{
	l->attn = PL_ATTN_NONE;
	l->n_head = l->n_head_kv = l->d_k = l->d_v = 0;
}

/* Width of the inner state: a key, or expand × n_embd. */
static uint32_t inner_width(struct pl_hf *c, const char *key, const char *expand)
{
	const uint64_t wide = (uint64_t)c->m->n_embd * pl_hf_u32(c, expand, 1, 64, 2);
	return pl_hf_u32(c, key, 1, PL_HF_MAX_DIM, wide <= PL_HF_MAX_DIM ? (uint32_t)wide : PL_HF_MAX_DIM);
}

/* Mamba-1; dt_rank "auto" is n_embd / 16, rounded up. */
static struct pl_layer mamba1(struct pl_hf *c)
{
	struct pl_layer l = {.rec = PL_REC_MAMBA1};
	const uint32_t automatic = (c->m->n_embd + 15) / 16;
	l.d_inner = inner_width(c, "d_inner", "mamba_expand|expand");
	l.d_state = pl_hf_u32(c, "mamba_d_state|state_size|d_state", 1, 65536, 16);
	l.d_conv = pl_hf_u32(c, "mamba_d_conv|conv_kernel|d_conv", 1, 64, 4);
	l.dt_rank = pl_hf_str(c, "mamba_dt_rank|time_step_rank") ? automatic
	                                                         : pl_hf_u32(c, "mamba_dt_rank|time_step_rank", 1, PL_HF_MAX_DIM, automatic);
	return l;
}

/* Mamba-2: heads × head width. */
static struct pl_layer mamba2(struct pl_hf *c)
{
	struct pl_layer l = {.rec = PL_REC_MAMBA2};
	const uint32_t d_head = pl_hf_u32(c, "mamba_head_dim|mamba_d_head|head_dim", 1, 65536, 64);
	const uint64_t wide = (uint64_t)c->m->n_embd * pl_hf_u32(c, "mamba_expand|expand", 1, 64, 2);
	l.rec_heads = pl_hf_u32(c, "mamba_num_heads|mamba_n_heads|num_heads", 1, PL_HF_MAX_HEADS, (uint32_t)(wide / d_head));
	const uint64_t inner = (uint64_t)l.rec_heads * d_head;
	l.d_state = pl_hf_u32(c, "ssm_state_size|mamba_d_state|state_size", 1, 65536, 128);
	l.d_conv = pl_hf_u32(c, "conv_kernel|mamba_d_conv", 1, 64, 4);
	l.n_group = pl_hf_u32(c, "n_groups|mamba_n_groups", 1, 65536, 1);
	if (!l.rec_heads || inner > PL_HF_MAX_DIM || inner % l.n_group)
		pl_hf_fail(c, "%u Mamba heads of width %u in %u groups are impossible", l.rec_heads, d_head, l.n_group);
	l.d_inner = (uint32_t)inner;
	return l;
}

static void take_rec(struct pl_layer *to, const struct pl_layer *from)
{
	to->rec = from->rec;
	to->d_inner = from->d_inner;
	to->d_state = from->d_state;
	to->d_conv = from->d_conv;
	to->n_group = from->n_group;
	to->rec_heads = from->rec_heads;
	to->dt_rank = from->dt_rank;
}

static void mamba_biases(struct pl_hf *c)
{
	pl_hf_set_parts(c, PL_P_SSM_CONV_BIAS, pl_hf_bool(c, "mamba_conv_bias|use_conv_bias", true));
	pl_hf_set_parts(c, PL_P_SSM_BIAS, pl_hf_bool(c, "mamba_proj_bias|use_bias", false));
}

void pl_hf_read_mamba(struct pl_hf *c)
{
	pl_hf_base(c, 0);
	if (c->rc)
		return;
	const struct pl_layer l = strcmp(c->family->arch, "mamba") ? mamba2(c) : mamba1(c);
	for (uint32_t il = 0; il < c->m->n_layers; il++)
		take_rec(&c->layers[il], &l);
	mamba_biases(c);
}

void pl_hf_read_jamba(struct pl_hf *c)
{
	pl_hf_base(c, 0);
	if (c->rc)
		return;
	pl_hf_attention(c);
	pl_hf_dense_ffn(c);
	const struct pl_layer rec = mamba1(c);
	const uint32_t period = pl_hf_u32(c, "attn_layer_period", 1, PL_HF_MAX_LAYERS, 8);
	const uint32_t offset = pl_hf_u32(c, "attn_layer_offset", 0, PL_HF_MAX_LAYERS, 4);
	const uint32_t n = pl_hf_u32(c, "num_experts", 1, PL_HF_MAX_EXPERTS, 16), used = pl_hf_u32(c, "num_experts_per_tok", 1, n, n < 2 ? 1 : 2);
	const uint32_t e_period = pl_hf_u32(c, "expert_layer_period", 1, PL_HF_MAX_LAYERS, 2);
	const uint32_t e_offset = pl_hf_u32(c, "expert_layer_offset", 0, PL_HF_MAX_LAYERS, 1);
	for (uint32_t il = 0; il < c->m->n_layers && !c->rc; il++) {
		struct pl_layer *l = &c->layers[il];
		if (il % period != offset) {
			no_attention(l);
			take_rec(l, &rec);
		}
		if (n > 1 && il % e_period == e_offset)
			pl_hf_moe(c, il, n, used, l->n_ff, 0, 0);
	}
	mamba_biases(c);
}

/* Granite 4: Mamba-2 or attention, then experts and a shared expert, or the shared one alone. */
void pl_hf_read_granite_hybrid(struct pl_hf *c)
{
	pl_hf_base(c, 0);
	if (c->rc)
		return;
	pl_hf_attention(c);
	const struct pl_layer rec = mamba2(c);
	const uint32_t n = pl_hf_u32(c, "num_local_experts", 0, PL_HF_MAX_EXPERTS, 0);
	const uint32_t used = n ? pl_hf_need(c, "num_experts_per_tok", n) : 0, ff = n ? pl_hf_need(c, "intermediate_size", PL_HF_MAX_DIM) : 0;
	const uint32_t shared = pl_hf_u32(c, "shared_intermediate_size", n ? 0 : 1, PL_HF_MAX_DIM, n ? 0 : 1024);
	for (uint32_t il = 0; il < c->m->n_layers && !c->rc; il++) {
		struct pl_layer *l = &c->layers[il];
		const char *kind = pl_hf_str_at(c, "layer_types|layers_block_type", il);
		if (strcmp(kind, "attention") && strcmp(kind, "full_attention")) {
			no_attention(l);
			take_rec(l, &rec);
		}
		if (n) {
			pl_hf_moe(c, il, n, used, ff, shared ? 1 : 0, shared);
		} else {
			l->ffn = PL_FFN_GATED;
			l->n_ff = shared;
		}
	}
	mamba_biases(c);
}

/* Falcon-H1: every layer has both mixers side by side. */
void pl_hf_read_falcon_h1(struct pl_hf *c)
{
	pl_hf_base(c, 0);
	if (c->rc)
		return;
	pl_hf_attention(c);
	pl_hf_dense_ffn(c);
	struct pl_layer rec = mamba2(c);
	rec.d_inner = inner_width(c, "mamba_d_ssm", "mamba_expand");
	if (!c->rc && rec.d_inner % rec.n_group)
		pl_hf_fail(c, "'mamba_d_ssm' is %u, it must be a multiple of 'mamba_n_groups' %u", rec.d_inner, rec.n_group);
	for (uint32_t il = 0; il < c->m->n_layers; il++)
		take_rec(&c->layers[il], &rec);
	mamba_biases(c);
	pl_hf_set_parts(c, PL_P_SSM_NORM, pl_hf_bool(c, "mamba_rms_norm", true));
}

struct nemotron {
	struct pl_layer rec;
	uint32_t n, used, ff, shared, ff_shared, n_ff;
};

static void nemotron_layer(struct pl_hf *c, uint32_t il, char kind, const struct nemotron *k)
{
	struct pl_layer *l = &c->layers[il];
	if (kind != '*')
		no_attention(l);
	if (kind == 'M') {
		take_rec(l, &k->rec);
	} else if (kind == '-') {
		l->ffn = PL_FFN_PLAIN;
		l->n_ff = k->n_ff;
	} else if (kind == 'E') {
		if (!k->n)
			pl_hf_fail(c, "the pattern of mixers has experts in layer %u but 'n_routed_experts' is missing", il);
		pl_hf_moe(c, il, k->n, k->used, k->ff, k->shared, k->ff_shared);
	} else if (kind != '*') {
		pl_hf_fail(c, "the pattern of mixers has none of mamba, attention, mlp and moe for layer %u", il);
	}
}

/* One letter a layer, from the string of letters or the newer list of words. */
static char *nemotron_pattern(struct pl_hf *c)
{
	static const struct {
		const char *word;
		char letter;
	} words[] = {{"mamba", 'M'}, {"attention", '*'}, {"mlp", '-'}, {"moe", 'E'}};
	const char *letters = pl_hf_str(c, "hybrid_override_pattern");
	const json_t *list = pl_hf_get(c, "layers_block_type"), *v;
	size_t i;
	if (letters)
		return pl_arena_strdup(c->a, letters);
	if (!json_is_array(list) || json_array_size(list) > PL_HF_MAX_LAYERS) {
		pl_hf_fail(c, "'hybrid_override_pattern' or 'layers_block_type' must name each layer, at most %u", PL_HF_MAX_LAYERS);
		return NULL;
	}
	char *s = pl_arena_alloc(c->a, json_array_size(list) + 1);
	json_array_foreach (list, i, v)
		for (size_t w = 0; s && w < sizeof words / sizeof *words; w++)
			if (json_is_string(v) && !strcmp(json_string_value(v), words[w].word))
				s[i] = words[w].letter;
	return s;
}

static struct nemotron nemotron_keys(struct pl_hf *c)
{
	struct nemotron k = {.rec = mamba2(c)};
	k.n = pl_hf_u32(c, "n_routed_experts", 1, PL_HF_MAX_EXPERTS, 0);
	k.used = k.n ? pl_hf_need(c, "num_experts_per_tok", k.n) : 0;
	k.ff = k.n ? pl_hf_need(c, "moe_intermediate_size", PL_HF_MAX_DIM) : 0;
	k.shared = pl_hf_u32(c, "n_shared_experts", 0, 64, 0);
	k.ff_shared = k.shared ? pl_hf_u32(c, "moe_shared_expert_intermediate_size", 1, PL_HF_MAX_DIM / 64, k.ff) * k.shared : 0;
	k.n_ff = pl_hf_u32(c, "intermediate_size", 1, PL_HF_MAX_DIM, 0);
	return k;
}

/* Nemotron-H: one mixer a layer. The next-token layer is attention and experts in one. */
void pl_hf_read_nemotron_h(struct pl_hf *c)
{
	const char *pattern = nemotron_pattern(c);
	const uint32_t n_mtp = pl_hf_u32(c, "num_nextn_predict_layers", 0, 64, 0);
	if (!pattern)
		return;
	c->n_listed = (uint32_t)strnlen(pattern, PL_HF_MAX_LAYERS);
	pl_hf_base(c, n_mtp);
	if (c->rc)
		return;
	pl_hf_attention(c);
	if (strlen(pattern) < c->m->n_layers) {
		pl_hf_fail(c, "the pattern of mixers names %zu layers, the model has %u", strlen(pattern), c->m->n_layers);
		return;
	}
	const struct nemotron k = nemotron_keys(c);
	c->d_latent = pl_hf_u32(c, "moe_latent_size", 1, PL_HF_MAX_DIM, 0);
	if (k.n)
		c->m->arch = "nemotron_h_moe";
	for (uint32_t il = 0; il < c->m->n_layers && !c->rc; il++)
		nemotron_layer(c, il, pattern[il], &k);
	for (uint32_t il = c->m->n_layers; il < pl_hf_n_all(c) && !c->rc; il++) {
		pl_hf_moe(c, il, k.n, k.used, k.ff, k.shared, k.ff_shared);
		c->parts[il] |= PL_P_NORM_ATTN_POST;
	}
	pl_hf_mtp(c, PL_P_NEXTN_HEADNORM);
	mamba_biases(c);
	pl_hf_set_parts(c, PL_P_BIAS_FFN, pl_hf_bool(c, "mlp_bias", false));
}

/* LFM2: the width is two thirds of block_ff_dim, rounded up (transformers models/lfm2). */
void pl_hf_read_lfm2(struct pl_hf *c)
{
	pl_hf_base(c, 0);
	if (c->rc)
		return;
	pl_hf_attention(c);
	uint64_t ff = pl_hf_need(c, "block_ff_dim|intermediate_size", PL_HF_MAX_DIM);
	const uint32_t multiple = pl_hf_u32(c, "block_multiple_of", 1, 65536, 256), taps = pl_hf_u32(c, "conv_L_cache", 1, 64, 3);
	const double mult = pl_hf_f64(c, "block_ffn_dim_multiplier", 1.0);
	if (pl_hf_bool(c, "block_auto_adjust_ff_dim", true)) {
		ff = 2 * ff / 3;
		if (mult > 0 && mult < 64)
			ff = (uint64_t)(mult * (double)ff);
		ff = (ff + multiple - 1) / multiple * multiple;
	}
	const json_t *full = pl_hf_get(c, "full_attn_idxs"), *v;
	for (uint32_t il = 0; il < c->m->n_layers && !c->rc; il++) {
		struct pl_layer *l = &c->layers[il];
		bool attends = !full && !strcmp(pl_hf_str_at(c, "layer_types", il), "full_attention");
		size_t i;
		json_array_foreach (full, i, v)
			attends = attends || (json_is_integer(v) && json_integer_value(v) == (json_int_t)il);
		l->ffn = PL_FFN_GATED;
		l->n_ff = ff <= PL_HF_MAX_DIM ? (uint32_t)ff : PL_HF_MAX_DIM;
		if (attends)
			continue;
		no_attention(l);
		c->parts[il] &= ~PL_P_QK_NORM;
		l->rec = PL_REC_SHORTCONV;
		l->d_inner = c->m->n_embd;
		l->d_conv = taps;
	}
	pl_hf_set_parts(c, PL_P_SSM_CONV_BIAS, pl_hf_bool(c, "conv_bias", false));
}

/* RWKV 5: time mix with five square matrices, channel mix with three. Source: RWKV-LM v5. */
static void rwkv_tensors(struct pl_hf *c, uint32_t il)
{
	const uint64_t h = c->m->n_embd, f = c->layers[il].n_ff_shared;
	static const char *const mixes[] = {"time_mix_lerp_k", "time_mix_lerp_v", "time_mix_lerp_r", "time_mix_lerp_g",
	                                    "time_mix_decay", "time_mix_first"};
	static const char *const squares[] = {"time_mix_receptance", "time_mix_key", "time_mix_value", "time_mix_gate", "time_mix_output"};
	for (size_t i = 0; i < sizeof mixes / sizeof *mixes; i++)
		pl_hf_emit_named(c, il, PL_ROLE_OTHER, PL_GROUP_RECURRENT, pl_arena_printf(c->a, "%s.weight", mixes[i]), 1, h, 1, 1);
	for (size_t i = 0; i < sizeof squares / sizeof *squares; i++)
		pl_hf_emit_named(c, il, PL_ROLE_OTHER, PL_GROUP_RECURRENT, pl_arena_printf(c->a, "%s.weight", squares[i]), 2, h, h, 1);
	pl_hf_emit_named(c, il, PL_ROLE_OTHER, PL_GROUP_RECURRENT, "time_mix_ln.weight", 1, h, 1, 1);
	pl_hf_emit_named(c, il, PL_ROLE_OTHER, PL_GROUP_RECURRENT, "time_mix_ln.bias", 1, h, 1, 1);
	pl_hf_emit_named(c, il, PL_ROLE_OTHER, PL_GROUP_FFN, "channel_mix_lerp_k.weight", 1, h, 1, 1);
	pl_hf_emit_named(c, il, PL_ROLE_OTHER, PL_GROUP_FFN, "channel_mix_lerp_r.weight", 1, h, 1, 1);
	pl_hf_emit_named(c, il, PL_ROLE_OTHER, PL_GROUP_FFN, "channel_mix_key.weight", 2, h, f, 1);
	pl_hf_emit_named(c, il, PL_ROLE_OTHER, PL_GROUP_FFN, "channel_mix_value.weight", 2, f, h, 1);
	pl_hf_emit_named(c, il, PL_ROLE_OTHER, PL_GROUP_FFN, "channel_mix_receptance.weight", 2, h, h, 1);
}

void pl_hf_read_rwkv5(struct pl_hf *c)
{
	pl_hf_base(c, 0);
	if (c->rc)
		return;
	c->m->tied_output = false; /* its files always hold a head of their own */
	c->m->n_ctx_train = pl_hf_u32(c, "context_length", 1, PL_HF_MAX_CTX, 0);
	const uint32_t size = pl_hf_u32(c, "head_size", 1, 65536, 64);
	const uint64_t dflt = 7ull * c->m->n_embd / 2 / 32 * 32;
	const uint32_t ff = pl_hf_u32(c, "intermediate_size", 1, PL_HF_MAX_DIM, dflt <= PL_HF_MAX_DIM ? (uint32_t)dflt : PL_HF_MAX_DIM);
	for (uint32_t il = 0; il < c->m->n_layers; il++) {
		struct pl_layer *l = &c->layers[il];
		l->rec = PL_REC_RWKV;
		l->rec_heads = c->m->n_embd / size;
		l->rec_d_k = l->rec_d_v = size;
		l->d_conv = 2;
		l->d_inner = c->m->n_embd;
		l->n_ff_shared = ff; /* width of the channel mix; its own tensors are named above */
	}
	c->more_layer = rwkv_tensors;
}
