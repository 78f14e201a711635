/* Which keys a loader requires: llama.cpp src/llama-model.cpp load_hparams and src/models/ load_arch_hparams. A key
 * that an architecture does not read does no harm, so most are written for all. Values without influence on shapes
 * (epsilons, rotary base, scales) are the usual ones. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/checked.h"
#include "model/arch_traits.h"
#include "model/synth_keys.h"

struct keys {
	struct pl_gguf_out *o;
	const struct pl_model *m, *full;
	const struct pl_arch_traits *tr;
	char key[128];
};

static const char *key_of(struct keys *k, const char *suffix)
{
	snprintf(k->key, sizeof k->key, "%s.%s", k->m->arch, suffix);
	return k->key;
}

static void put_u32(struct keys *k, const char *suffix, uint32_t v)
{
	pl_gguf_put_u32(k->o, key_of(k, suffix), v);
}

static void put_f32(struct keys *k, const char *suffix, float v)
{
	pl_gguf_put_f32(k->o, key_of(k, suffix), v);
}

/* A scalar when all layers agree, else an array. */
static void put_per_layer(struct keys *k, const char *suffix, const uint32_t *v)
{
	uint32_t n = k->m->n_layers;
	bool same = true;
	for (uint32_t i = 1; i < n; i++)
		same &= v[i] == v[0];
	if (same)
		put_u32(k, suffix, v[0]);
	else
		pl_gguf_put_u32s(k->o, key_of(k, suffix), v, n);
}

/* First layer that satisfies a test, of the cut model or, when the cut lost it, of the whole one. */
static const struct pl_layer *first(const struct keys *k, bool (*test)(const struct pl_layer *))
{
	for (uint32_t i = 0; i < k->m->n_layers; i++)
		if (test(&k->m->layers[i]))
			return &k->m->layers[i];
	for (uint32_t i = 0; i < k->full->n_layers; i++)
		if (test(&k->full->layers[i]))
			return &k->full->layers[i];
	return NULL;
}

static bool attends(const struct pl_layer *l)
{
	return l->attn != PL_ATTN_NONE;
}

static bool attends_fully(const struct pl_layer *l)
{
	return l->attn != PL_ATTN_NONE && !l->window_tokens;
}

static bool slides(const struct pl_layer *l)
{
	return l->window_tokens != 0;
}

static bool recurs(const struct pl_layer *l)
{
	return l->rec != PL_REC_NONE;
}

static bool routes(const struct pl_layer *l)
{
	return l->ffn == PL_FFN_MOE;
}

static bool indexes(const struct pl_layer *l)
{
	return l->indexer_dim != 0;
}

static bool is_dense(const struct pl_layer *l)
{
	return l->ffn == PL_FFN_PLAIN || l->ffn == PL_FFN_GATED || (l->ffn == PL_FFN_MOE && l->moe_beside_dense);
}

static bool has_tensor(const struct pl_model *m, int32_t il, enum pl_role role)
{
	for (uint32_t i = 0; i < m->n_tensors; i++)
		if (m->tensors[i].layer == il && m->tensors[i].role == role)
			return true;
	return false;
}

/* ---- attention -------------------------------------------------------------------------------------------------- */

static void put_heads(struct keys *k)
{
	const struct pl_layer *any = first(k, attends);
	uint32_t n = k->m->n_layers, *heads = PL_NEW_N(k->o->a, uint32_t, n), *kv = PL_NEW_N(k->o->a, uint32_t, n);
	if (!heads || !kv) {
		k->o->failed = true;
		return;
	}
	for (uint32_t i = 0; i < n; i++) {
		const struct pl_layer *l = &k->m->layers[i];
		bool on = l->attn != PL_ATTN_NONE;
		heads[i] = on ? l->n_head : any ? any->n_head : 0;
		kv[i] = on ? l->attn == PL_ATTN_MLA ? 1 : l->n_head_kv : 0;
		if (!on && k->tr->rec_rule == PL_REC_INTERVAL &&
		    any) /* told apart by the interval, not by head_count_kv */
			kv[i] = any->n_head_kv;
	}
	/* Nemotron-NAS: heads without KV heads mean one matrix in place of attention, no heads mean nothing at all */
	for (uint32_t i = 0; i < n && !strcmp(k->m->arch, "deci"); i++)
		if (k->m->layers[i].attn == PL_ATTN_NONE && !has_tensor(k->m, (int32_t)i, PL_ROLE_ATTN_OUT))
			heads[i] = 0;
	put_per_layer(k, "attention.head_count", heads);
	put_per_layer(k, "attention.head_count_kv", kv);
}

static void put_latent(struct keys *k, const struct pl_layer *l)
{
	if (l->q_lora)
		put_u32(k, "attention.q_lora_rank", l->q_lora);
	put_u32(k, "attention.kv_lora_rank", l->kv_lora);
	put_u32(k, "rope.dimension_count", l->d_rope);
	if (l->attn != PL_ATTN_MLA) {
		put_u32(k, "attention.key_length", l->d_k);
		put_u32(k, "attention.value_length", l->d_v);
		return;
	}
	put_u32(k, "attention.key_length", l->kv_lora + l->d_rope);
	put_u32(k, "attention.value_length", l->kv_lora);
	put_u32(k, "attention.key_length_mla", l->d_k);
	put_u32(k, "attention.value_length_mla", l->d_v);
}

static void put_windows(struct keys *k)
{
	const struct pl_layer *w = first(k, slides);
	uint32_t n = k->m->n_layers;
	bool as_default = true, *at = PL_NEW_N(k->o->a, bool, n);
	if (!w || !at)
		return;
	for (uint32_t i = 0; i < n; i++) {
		at[i] = k->m->layers[i].window_tokens != 0;
		as_default &= at[i] == pl_swa_pattern_at(i, k->tr->swa_period, k->tr->swa_dense_first);
	}
	put_u32(k, "attention.sliding_window", w->window_tokens);
	if (!as_default || k->tr->swa_array)
		pl_gguf_put_bools(k->o, key_of(k, "attention.sliding_window_pattern"), at, n);
	put_u32(k, "attention.key_length_swa", w->d_k);
	put_u32(k, "attention.value_length_swa", w->d_v);
	put_u32(k, "rope.dimension_count_swa", w->d_k);
}

static void put_attention(struct keys *k)
{
	const struct pl_layer *l = first(k, attends_fully), *ix = first(k, indexes);
	if (!l)
		l = first(k, attends);
	put_heads(k);
	put_f32(k, "attention.layer_norm_rms_epsilon", 1e-6f);
	put_f32(k, "attention.layer_norm_epsilon", 1e-5f);
	put_f32(k, "rope.freq_base", 10000.0f);
	if (!l)
		return;
	if (l->kv_lora)
		put_latent(k, l);
	else {
		put_u32(k, "attention.key_length", l->d_k);
		put_u32(k, "attention.value_length", l->d_v);
		put_u32(k, "rope.dimension_count", l->d_k);
	}
	put_windows(k);
	if (k->m->no_kv_cache || k->m->is_embedding)
		pl_gguf_put_bool(k->o, key_of(k, "attention.causal"), false);
	if (ix) {
		put_u32(k, "attention.indexer.head_count", ix->indexer_heads);
		put_u32(k, "attention.indexer.key_length", ix->indexer_dim);
		put_u32(k, "attention.indexer.top_k", ix->indexer_topk);
	}
	if (k->tr->flags & PL_ARCH_SHARED_KV) {
		uint32_t shared = 0;
		for (uint32_t i = 0; i < k->m->n_layers; i++)
			shared += k->m->layers[i].kv_from_layer >= 0;
		put_u32(k, "attention.shared_kv_layers", shared);
	}
}

/* ---- recurrent layers ------------------------------------------------------------------------------------------- */

static void put_interval(struct keys *k)
{
	uint32_t n = k->m->n_layers, interval = k->tr->rec_interval;
	bool regular = true, *rec = PL_NEW_N(k->o->a, bool, n);
	for (uint32_t i = 0; i < k->full->n_layers; i++)
		if (k->full->layers[i].rec == PL_REC_NONE) {
			interval = i + 1;
			break;
		}
	for (uint32_t i = 0; rec && i < n; i++) {
		rec[i] = k->m->layers[i].rec != PL_REC_NONE;
		regular &= rec[i] == ((i + 1) % interval != 0);
	}
	put_u32(k, "full_attention_interval", interval);
	if (!regular)
		pl_gguf_put_bools(k->o, key_of(k, "attention.recurrent_layers"), rec, n);
}

static void put_recurrent(struct keys *k)
{
	const struct pl_layer *l = first(k, recurs);
	if (!l)
		return;
	if (k->tr->rec_rule == PL_REC_INTERVAL)
		put_interval(k);
	switch (l->rec) {
	case PL_REC_SHORTCONV:
		put_u32(k, "shortconv.l_cache", l->d_conv);
		return;
	case PL_REC_KDA:
		put_u32(k, "ssm.conv_kernel", l->d_conv);
		put_u32(k, "kda.head_dim", l->rec_d_k);
		return;
	case PL_REC_RWKV:
		put_u32(k, "wkv.head_size", l->rec_d_k);
		put_u32(k, "token_shift_count", l->d_conv - 1);
		return;
	case PL_REC_MAMBA1:
		put_u32(k, "ssm.time_step_rank", l->dt_rank);
		break;
	case PL_REC_MAMBA2:
		put_u32(k, "ssm.time_step_rank", l->rec_heads);
		put_u32(k, "ssm.group_count", l->n_group);
		break;
	case PL_REC_DELTANET:
		put_u32(k, "ssm.conv_kernel", l->d_conv);
		put_u32(k, "ssm.time_step_rank", l->rec_heads);
		put_u32(k, "ssm.group_count", l->rec_k_heads);
		put_u32(k, "ssm.inner_size", l->rec_heads * l->rec_d_v);
		put_u32(k, "ssm.state_size", l->rec_d_k);
		return;
	default:
		return;
	}
	put_u32(k, "ssm.conv_kernel", l->d_conv);
	put_u32(k, "ssm.inner_size", l->d_inner);
	put_u32(k, "ssm.state_size", l->d_state);
}

/* ---- feed forward ----------------------------------------------------------------------------------------------- */

static void put_ffn_widths(struct keys *k)
{
	uint32_t n = k->m->n_layers, *ff = PL_NEW_N(k->o->a, uint32_t, n);
	const struct pl_layer *d = first(k, is_dense), *moe = first(k, routes);
	if (!ff) {
		k->o->failed = true;
		return;
	}
	uint32_t times = strcmp(k->m->arch, "qwen") ? 1 : 2; /* the first Qwen states twice its width */
	bool by_layer = !strcmp(k->m->arch, "deci") || k->tr->rec_rule == PL_REC_KV0_FF0;
	for (uint32_t i = 0; i < n; i++) {
		const struct pl_layer *l = &k->m->layers[i];
		ff[i] = is_dense(l) ? l->n_ff : by_layer && l->ffn == PL_FFN_MOE ? l->n_ff_expert : 0;
		if (!ff[i] && !by_layer)
			ff[i] = d ? d->n_ff : moe ? moe->n_ff_expert : 0;
		ff[i] *= times;
	}
	put_per_layer(k, "feed_forward_length", ff);
}

static void put_experts(struct keys *k)
{
	const struct pl_layer *l = first(k, routes);
	uint32_t n = k->m->n_layers, lead = 0, step = 1, at = n, latent = 0;
	bool corrected = false;
	if (!l)
		return;
	for (uint32_t i = n; i-- > 0;)
		if (k->m->layers[i].ffn == PL_FFN_MOE)
			at = i;
	for (uint32_t i = 0; i < at; i++)
		lead += is_dense(&k->m->layers[i]);
	for (uint32_t i = at + 1; i < n && k->m->layers[i].ffn != PL_FFN_MOE; i++)
		step++;
	for (uint32_t i = 0; i < k->m->n_tensors; i++)
		corrected |= k->m->tensors[i].role == PL_ROLE_ROUTER_BIAS;
	for (uint32_t i = 0; i < k->m->n_tensors; i++) /* experts narrower than the model (Nemotron 3 Super) */
		if (k->m->tensors[i].role == PL_ROLE_EXPERT_LATENT_DOWN)
			latent = (uint32_t)pl_min_u64(k->m->tensors[i].ne[1], UINT32_MAX);
	if (latent) {
		put_u32(k, "moe_latent_size", latent);
		put_u32(k, "expert_latent_length", latent);
	}
	put_u32(k, "expert_count", l->n_expert);
	put_u32(k, "expert_used_count", l->n_expert_used);
	put_u32(k, "expert_feed_forward_length", l->n_ff_expert);
	put_u32(k, "leading_dense_block_count", step > 1 ? 0 : lead);
	put_u32(k, "interleave_moe_layer_step", step);
	put_u32(k, "moe_every_n_layers", step);
	put_u32(k, "expert_gating_func", corrected ? 2 : 1);
	put_f32(k, "expert_weights_scale", 1.0f);
	pl_gguf_put_bool(k->o, key_of(k, "expert_weights_norm"), true);
	/* some loaders multiply the count with the width of a routed expert, others read the width */
	if (l->n_ff_shared) {
		bool whole = l->n_ff_expert && l->n_ff_shared % l->n_ff_expert == 0;
		put_u32(k, "expert_shared_count", whole ? l->n_ff_shared / l->n_ff_expert : 1);
		put_u32(k, "expert_shared_feed_forward_length", l->n_ff_shared);
	} else {
		put_u32(k, "expert_shared_count", 0);
	}
}

/* ---- the rest --------------------------------------------------------------------------------------------------- */

/* Keys that single architectures require and that no shape depends on. */
static void put_required(struct keys *k)
{
	static const struct {
		const char *arch, *suffix;
		float value;
	} floats[] = {
	    {"command-r", "logit_scale", 0.0625f},    {"cohere2", "logit_scale", 0.0625f},
	    {"granite", "logit_scale", 1.0f},         {"granitemoe", "logit_scale", 1.0f},
	    {"granitehybrid", "logit_scale", 1.0f},   {"granite_swa", "logit_scale", 1.0f},
	    {"cohere2moe", "logit_scale", 1.0f},      {"muse-glimmer", "logit_scale", 1.0f},
	    {"dbrx", "attention.clamp_kqv", 8.0f},    {"minimax-01", "residual_scale", 1.0f},
	    {"grovemoe", "expert_group_scale", 1.0f},
	};
	/* rotary sections of models that place tokens in time, height and width: their sum is half a rotated head */
	static const char *const sections[] = {"qwen2vl", "qwen3vl", "qwen3vlmoe", "qwen35", "qwen35moe"};
	const struct pl_layer *l = first(k, attends);
	if (!strcmp(k->m->arch, "minimax-m3")) { /* the cache of the indexer is read in blocks */
		put_u32(k, "attention.indexer.block_size", 128);
		put_u32(k, "attention.indexer.local_blocks", 1);
	}
	for (size_t i = 0; i < sizeof floats / sizeof *floats; i++)
		if (!strcmp(floats[i].arch, k->m->arch))
			put_f32(k, floats[i].suffix, floats[i].value);
	for (size_t i = 0; l && i < sizeof sections / sizeof *sections; i++)
		if (!strcmp(sections[i], k->m->arch)) {
			int32_t half = (int32_t)(l->d_k / 2), s[4] = {half - half / 4 * 2, half / 4, half / 4, 0};
			pl_gguf_put_i32s(k->o, key_of(k, "rope.dimension_sections"), s, 4);
		}
	static const char *const xielu[] = {"xielu.alpha_n", "xielu.alpha_p", "xielu.beta", "xielu.eps"};
	for (size_t i = 0; i < 4 && !strcmp(k->m->arch, "apertus"); i++) /* keys without the architecture's name */
		pl_gguf_put_f32(k->o, xielu[i], 1.0f);
	if (!strcmp(k->m->arch, "grovemoe"))
		put_u32(k, "experts_per_group", 2);
	if (!strcmp(k->m->arch, "gptneox"))
		pl_gguf_put_bool(k->o, key_of(k, "use_parallel_residual"), true);
	if (!strcmp(k->m->arch, "gemma4") || k->m->d_per_layer_embed)
		put_u32(k, "embedding_length_per_layer_input", k->m->d_per_layer_embed);
}

/* Tokens the model was trained for; learned positions have a row for each. */
static uint32_t positions(const struct pl_model *m)
{
	for (uint32_t i = 0; i < m->n_tensors; i++)
		if (m->tensors[i].role == PL_ROLE_POS_EMBD && m->tensors[i].ne[1] <= UINT32_MAX)
			return (uint32_t)m->tensors[i].ne[1];
	return m->n_ctx_train ? m->n_ctx_train : 4096;
}

/* general.file_type: enum llama_ftype of llama.h. A name it lacks is left out, llama.cpp then guesses. */
static void put_file_type(struct keys *k)
{
	static const struct {
		const char *name;
		uint32_t id;
	} types[] = {
	    {"f32", 0},     {"f16", 1},     {"q4_0", 2},       {"q4_1", 3},    {"q8_0", 7},     {"q5_0", 8},
	    {"q5_1", 9},    {"q2_k", 10},   {"q3_k_s", 11},    {"q3_k_m", 12}, {"q3_k_l", 13},  {"q4_k_s", 14},
	    {"q4_k_m", 15}, {"q5_k_s", 16}, {"q5_k_m", 17},    {"q6_k", 18},   {"iq2_xxs", 19}, {"iq2_xs", 20},
	    {"q2_k_s", 21}, {"iq3_xs", 22}, {"iq3_xxs", 23},   {"iq1_s", 24},  {"iq4_nl", 25},  {"iq3_s", 26},
	    {"iq3_m", 27},  {"iq2_s", 28},  {"iq2_m", 29},     {"iq4_xs", 30}, {"iq1_m", 31},   {"bf16", 32},
	    {"tq1_0", 36},  {"tq2_0", 37},  {"mxfp4_moe", 38}, {"nvfp4", 39},
	};
	for (size_t i = 0; k->m->quant_name && i < sizeof types / sizeof *types; i++)
		if (!strcasecmp(k->m->quant_name, types[i].name))
			pl_gguf_put_u32(k->o, "general.file_type", types[i].id);
}

void pl_synth_keys(struct pl_gguf_out *o, const struct pl_model *m, const struct pl_model *full)
{
	struct keys k = {.o = o, .m = m, .full = full, .tr = pl_arch_traits_find(m->arch)};
	pl_gguf_put_str(o, "general.architecture", m->arch);
	pl_gguf_put_str(o, "general.type", "model");
	pl_gguf_put_str(o, "general.name", m->name ? m->name : m->arch);
	pl_gguf_put_u32(o, "general.quantization_version", 2);
	put_file_type(&k);
	put_u32(&k, "vocab_size", m->n_vocab);
	put_u32(&k, "context_length", positions(m));
	put_u32(&k, "embedding_length", m->n_embd);
	put_u32(&k, "block_count", m->n_layers);
	put_ffn_widths(&k);
	put_attention(&k);
	put_recurrent(&k);
	put_experts(&k);
	put_required(&k);
}

/* ---- vocabulary ------------------------------------------------------------------------------------------------- */

void pl_synth_vocab(struct pl_gguf_out *o, const struct pl_model *m)
{
	enum { TYPE_NORMAL = 1, TYPE_UNKNOWN = 2, TYPE_CONTROL = 3, TYPE_BYTE = 6, FIRST_BYTE = 3 };
	uint32_t n = m->n_vocab;
	const char **text = PL_NEW_N(o->a, const char *, n);
	float *scores = PL_NEW_N(o->a, float, n);
	int32_t *types = PL_NEW_N(o->a, int32_t, n);
	char *pool = PL_NEW_N(o->a, char, (uint64_t)n * 16);
	if (!text || !scores || !types || !pool) {
		o->failed = true;
		return;
	}
	for (uint32_t i = 0; i < n; i++) {
		char *s = pool + (size_t)i * 16;
		bool byte = i >= FIRST_BYTE && i < FIRST_BYTE + 256;
		if (byte)
			snprintf(s, 16, "<0x%02X>", i - FIRST_BYTE);
		else
			snprintf(s, 16, "%s", i == 0 ? "<unk>" : i == 1 ? "<s>" : i == 2 ? "</s>" : "");
		if (!*s)
			snprintf(s, 16, "\xe2\x96\x81t%u", i);
		text[i] = s;
		types[i] = i == 0 ? TYPE_UNKNOWN : i < FIRST_BYTE ? TYPE_CONTROL : byte ? TYPE_BYTE : TYPE_NORMAL;
		scores[i] = -(float)i;
	}
	pl_gguf_put_str(o, "tokenizer.ggml.model", "llama");
	pl_gguf_put_str(o, "tokenizer.ggml.pre", "default");
	pl_gguf_put_strs(o, "tokenizer.ggml.tokens", text, n);
	pl_gguf_put_f32s(o, "tokenizer.ggml.scores", scores, n);
	pl_gguf_put_i32s(o, "tokenizer.ggml.token_type", types, n);
	pl_gguf_put_u32(o, "tokenizer.ggml.bos_token_id", 1);
	pl_gguf_put_u32(o, "tokenizer.ggml.eos_token_id", 2);
	pl_gguf_put_u32(o, "tokenizer.ggml.unknown_token_id", 0);
	for (uint32_t i = 0; i < m->n_tensors; i++) /* BERT's segment embeddings */
		if (m->tensors[i].role == PL_ROLE_TYPE_EMBD)
			pl_gguf_put_u32(o, "tokenizer.ggml.token_type_count", (uint32_t)m->tensors[i].ne[1]);
}
