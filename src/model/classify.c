/* What a tensor is, from its name: GGUF's names by the table of roles, Hugging Face's many spellings by the one here. */
#include <ctype.h>
#include <string.h>

#include <plimsoll/model.h>

#include "model/build.h"

struct spelling {
	const char *suffix; /* of the module, without ".weight" */
	enum pl_role role;
};

#define S(suffix, role) {suffix, PL_ROLE_##role}

/* Modules inside a layer, after "layers.N."; the Llama family's spelling stands in roles.def and is tried first. */
static const struct spelling in_layer[] = {
    /* attention */
    S("attn.c_attn", ATTN_QKV), S("attn.qkv_proj", ATTN_QKV), S("self_attention.query_key_value", ATTN_QKV),
    S("attention.query_key_value", ATTN_QKV), S("attn.Wqkv", ATTN_QKV), S("self_attn.W_pack", ATTN_QKV),
    S("attention.wqkv", ATTN_QKV), S("mixer.Wqkv", ATTN_QKV), S("attn.q_proj", ATTN_Q), S("attn.k_proj", ATTN_K),
    S("attn.v_proj", ATTN_V), S("attn.out_proj", ATTN_OUT), S("attn.c_proj", ATTN_OUT), S("attention.wq", ATTN_Q),
    S("attention.wk", ATTN_K), S("attention.wv", ATTN_V), S("attention.wo", ATTN_OUT), S("attention.dense", ATTN_OUT),
    S("self_attention.dense", ATTN_OUT), S("self_attn.dense", ATTN_OUT), S("self_attn.out_proj", ATTN_OUT),
    S("mixer.out_proj", SSM_OUT), S("attention.self.query", ATTN_Q), S("attention.self.key", ATTN_K),
    S("attention.self.value", ATTN_V), S("attention.output.dense", ATTN_OUT), S("mixer.q_proj", ATTN_Q),
    S("mixer.k_proj", ATTN_K), S("mixer.v_proj", ATTN_V), S("mixer.o_proj", ATTN_OUT), S("self_attn.q_layernorm", ATTN_Q_NORM),
    S("self_attn.k_layernorm", ATTN_K_NORM), S("self_attn.query_layernorm", ATTN_Q_NORM),
    S("self_attn.key_layernorm", ATTN_K_NORM), S("attn.q_norm", ATTN_Q_NORM), S("attn.k_norm", ATTN_K_NORM),
    S("attn.sinks", ATTN_SINKS), S("attn.qkv", ATTN_QKV), S("attn.out", ATTN_OUT), S("self_attn.gate", ATTN_GATE),
    S("self_attn.g_proj", ATTN_GATE), S("attn.attention.q_proj", ATTN_Q), S("attn.attention.k_proj", ATTN_K),
    S("attn.attention.v_proj", ATTN_V), S("attn.attention.out_proj", ATTN_OUT), S("encoder_attn.q_proj", ATTN_Q),
    S("encoder_attn.k_proj", ATTN_K), S("encoder_attn.v_proj", ATTN_V), S("encoder_attn.out_proj", ATTN_OUT),
    S("cross_attn.q_proj", ATTN_Q), S("cross_attn.k_proj", ATTN_K), S("cross_attn.v_proj", ATTN_V),
    S("cross_attn.o_proj", ATTN_OUT),
    /* norms */
    S("ln_1", ATTN_NORM), S("ln_2", FFN_NORM), S("attention_norm", ATTN_NORM), S("ln_attn", ATTN_NORM),
    S("self_attn_layer_norm", ATTN_NORM), S("encoder_attn_layer_norm", ATTN_NORM_2), S("final_layer_norm", FFN_NORM),
    S("norm1", ATTN_NORM), S("norm2", FFN_NORM), S("pre_feedforward_layernorm", FFN_NORM), S("pre_ff_layernorm", FFN_NORM),
    S("post_self_attn_layernorm", ATTN_POST_NORM), S("post_mlp_layernorm", FFN_POST_NORM), S("norm", ATTN_NORM),
    S("operator_norm", ATTN_NORM), S("input_norm", ATTN_NORM), S("post_attention_norm", FFN_NORM),
    S("attention.output.LayerNorm", ATTN_OUT_NORM), S("output.LayerNorm", LAYER_OUT_NORM),
    S("pre_feedforward_layernorm_2", FFN_PRE_NORM_2),
    /* dense feed forward */
    S("feed_forward.w1", FFN_GATE), S("feed_forward.w2", FFN_DOWN), S("feed_forward.w3", FFN_UP),
    S("mlp.c_fc", FFN_UP), S("mlp.c_proj", FFN_DOWN), S("mlp.w1", FFN_GATE), S("mlp.w2", FFN_UP), S("mlp.fc1", FFN_UP),
    S("mlp.fc2", FFN_DOWN), S("fc1", FFN_UP), S("fc2", FFN_DOWN), S("mlp.dense_h_to_4h", FFN_UP),
    S("mlp.dense_4h_to_h", FFN_DOWN), S("mlp.fc_in", FFN_UP), S("mlp.fc_out", FFN_DOWN), S("intermediate.dense", FFN_UP),
    S("output.dense", FFN_DOWN), S("mixer.up_proj", FFN_UP), S("mixer.down_proj", FFN_DOWN),
    S("feed_forward.gate_proj", FFN_GATE), S("feed_forward.up_proj", FFN_UP), S("feed_forward.down_proj", FFN_DOWN),
    S("shared_mlp.input_linear", SHARED_GATE), S("shared_mlp.output_linear", SHARED_DOWN),
    /* mixtures of experts */
    S("block_sparse_moe.gate", ROUTER), S("mlp.router", ROUTER), S("mlp.gate.wg", ROUTER), S("feed_forward.router", ROUTER),
    S("router.proj", ROUTER), S("mixer.gate", ROUTER), S("block_sparse_moe.router.layer", ROUTER),
    S("mlp.gate.e_score_correction", ROUTER_BIAS), S("mixer.gate.e_score_correction_bias", ROUTER_BIAS),
    S("mlp.moe_statics.e_score_correction_bias", ROUTER_BIAS), S("block_sparse_moe.e_score_correction_bias", ROUTER_BIAS),
    S("block_sparse_moe.input_linear", EXPERT_GATE_UP), S("block_sparse_moe.output_linear", EXPERT_DOWN),
    S("mlp.shared_expert.gate_proj", SHARED_GATE), S("mlp.shared_expert.up_proj", SHARED_UP),
    S("mlp.shared_expert.down_proj", SHARED_DOWN), S("mlp.shared_mlp.gate_proj", SHARED_GATE),
    S("mlp.shared_mlp.up_proj", SHARED_UP), S("mlp.shared_mlp.down_proj", SHARED_DOWN),
    S("mixer.shared_experts.up_proj", SHARED_UP), S("mixer.shared_experts.down_proj", SHARED_DOWN),
    S("feed_forward.shared_expert.gate_proj", SHARED_GATE), S("feed_forward.shared_expert.up_proj", SHARED_UP),
    S("feed_forward.shared_expert.down_proj", SHARED_DOWN),
    /* recurrent */
    S("mixer.in_proj", SSM_IN), S("mixer.conv1d", SSM_CONV), S("mixer.x_proj", SSM_X), S("mixer.dt_proj", SSM_DT),
    S("mixer.A_log", SSM_A), S("mixer.D", SSM_D), S("mixer.dt_bias", SSM_DT), S("mixer.norm", SSM_NORM),
    S("mamba.dt_bias", SSM_DT), S("linear_attn.in_proj_qkvz", SSM_IN), S("linear_attn.in_proj_qkv", SSM_IN),
    S("linear_attn.in_proj_z", SSM_IN), S("linear_attn.conv1d", SSM_CONV), S("linear_attn.dt_bias", SSM_DT),
    S("linear_attn.A_log", SSM_A), S("linear_attn.norm", SSM_NORM), S("linear_attn.out_proj", SSM_OUT),
    /* next-token prediction */
    S("mtp_block", NEXTN_EH_PROJ), S("fc", NEXTN_EH_PROJ),
};

/* Modules outside the layers. */
static const struct spelling outside[] = {
    S("wte", TOKEN_EMBD), S("word_embeddings", TOKEN_EMBD), S("embedding.word_embeddings", TOKEN_EMBD),
    S("embed_in", TOKEN_EMBD), S("tok_embeddings", TOKEN_EMBD), S("embeddings.word_embeddings", TOKEN_EMBD),
    S("embed_tokens", TOKEN_EMBD), S("backbone.embeddings", TOKEN_EMBD), S("backbone.embedding", TOKEN_EMBD),
    S("wpe", POS_EMBD), S("embed_positions", POS_EMBD), S("position_embeddings", POS_EMBD),
    S("token_type_embeddings", TYPE_EMBD), S("embeddings.LayerNorm", TOKEN_EMBD_NORM),
    S("word_embeddings_layernorm", TOKEN_EMBD_NORM), S("ln_f", OUTPUT_NORM), S("norm_f", OUTPUT_NORM),
    S("final_layernorm", OUTPUT_NORM), S("final_layer_norm", OUTPUT_NORM), S("embedding_norm", OUTPUT_NORM),
    S("norm", OUTPUT_NORM), S("layer_norm", OUTPUT_NORM), S("output_layer", OUTPUT), S("embed_out", OUTPUT),
    S("proj_out", OUTPUT), S("head", OUTPUT), S("pooler.dense", CLS), S("classifier", CLS_OUT), S("score", CLS_OUT),
};
#undef S

/* Words that put a whole subtree into a tower. */
static const char *const tower_words[] = {"visual",        "vision_tower", "vision_model", "vision_encoder",
                                          "vision_embed_tokens", "img_processor", "audio_tower",  "audio_model",
                                          "multi_modal_projector", "mm_projector", "embed_vision", "embed_audio",
                                          "patch_embed",   "image_newline", "vit",      "sound_encoder", "mm", "v", "a"};

static bool ends_with(const char *s, size_t len, const char *end)
{
	size_t n = strlen(end);
	return len >= n && !memcmp(s + len - n, end, n);
}

/* s[0..len) is `end` or ends with ".end" */
static bool is_module(const char *s, size_t len, const char *end)
{
	size_t n = strlen(end);
	return ends_with(s, len, end) && (len == n || s[len - n - 1] == '.');
}

/* Length of the module's path without what a storage scheme appends (".weight", ".bias", ".qweight", …). */
static size_t strip_piece(const char *s, size_t len, bool *ret_bias)
{
	static const char *const pieces[] = {"weight", "qweight", "qzeros", "scales", "g_idx", "weight_scale", "weight_scale_inv",
	                                     "weight_scale_2", "input_scale", "weight_packed", "weight_shape",
	                                     "weight_zero_point", "weight_g_idx", "weight_global_scale", "input_global_scale",
	                                     "SCB", "absmax", "quant_map", "nested_absmax", "nested_quant_map", "biases"};
	for (bool again = true; again;) {
		again = false;
		for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
			size_t n = strlen(pieces[i]);
			if (len > n + 1 && is_module(s, len, pieces[i])) {
				len -= n + 1;
				again = true;
			}
		}
	}
	if (len > 5 && is_module(s, len, "bias")) {
		*ret_bias = true;
		len -= 5;
	} else if (len > 5 && ends_with(s, len, "_bias") && !ends_with(s, len, "dt_bias") &&
	           !ends_with(s, len, "correction_bias")) {
		*ret_bias = true; /* gpt-oss: experts.gate_up_proj_bias */
		len -= 5;
	}
	return len;
}

/* Finds "<word>.N." and returns what follows; NULL when there is none. */
static const char *after_index(const char *s, const char *word, uint32_t *ret_index)
{
	size_t n = strlen(word);
	for (const char *at = s; (at = strstr(at, word)); at++) {
		const char *p = at + n;
		uint32_t v = 0;
		int digits = 0;
		if ((at != s && at[-1] != '.') || *p != '.' || !isdigit((unsigned char)p[1]))
			continue;
		for (p++; isdigit((unsigned char)*p) && digits < 7; p++, digits++)
			v = v * 10 + (uint32_t)(*p - '0');
		if (*p != '.')
			continue;
		*ret_index = v;
		return p + 1;
	}
	return NULL;
}

static const char *find_layer(const char *name, uint32_t *ret_layer)
{
	static const char *const words[] = {"layers", "h", "blk", "layer", "blocks", "block"};
	for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
		const char *rest = after_index(name, words[i], ret_layer);
		if (rest)
			return rest;
	}
	return NULL;
}

static bool has_word(const char *name, const char *word)
{
	size_t n = strlen(word);
	for (const char *at = name; (at = strstr(at, word)); at++)
		if ((at == name || at[-1] == '.') && (at[n] == '.' || !at[n]))
			return true;
	return false;
}

static bool in_tower(const char *name)
{
	for (size_t i = 0; i < sizeof tower_words / sizeof *tower_words; i++) {
		const char *w = tower_words[i];
		/* the short GGUF prefixes count only at the beginning */
		if (strlen(w) <= 2 ? (!strncmp(name, w, strlen(w)) && name[strlen(w)] == '.') : has_word(name, w))
			return true;
	}
	return false;
}

static enum pl_role role_by_table(const struct spelling *table, size_t n, const char *s, size_t len)
{
	for (size_t i = 0; i < n; i++)
		if (is_module(s, len, table[i].suffix))
			return table[i].role;
	return PL_ROLE_OTHER;
}

static enum pl_role role_by_name(const char *s, size_t len, bool gguf)
{
	for (unsigned r = 1; r < PL_ROLE_COUNT; r++) {
		const struct pl_role_info *info = pl_role_info((enum pl_role)r);
		const char *want = gguf ? info->gguf_name : info->hf_name;
		if (gguf ? strlen(want) == len && !memcmp(s, want, len) : is_module(s, len, want))
			return (enum pl_role)r;
	}
	if (gguf && len == 15 && !memcmp(s, "ffn_routed_down", 15)) /* Kimi K3's names of the latent projections */
		return PL_ROLE_EXPERT_LATENT_DOWN;
	if (gguf && len == 13 && !memcmp(s, "ffn_routed_up", 13))
		return PL_ROLE_EXPERT_LATENT_UP;
	return PL_ROLE_OTHER;
}

/* "experts.E.gate_proj", "experts.gate_up_proj": gate, up or down of all experts. */
static enum pl_role expert_role(const char *s, size_t len)
{
	if (ends_with(s, len, "gate_up_proj") || ends_with(s, len, "gate_and_up_proj"))
		return PL_ROLE_EXPERT_GATE_UP;
	if (ends_with(s, len, "gate_proj") || ends_with(s, len, ".w1") || ends_with(s, len, "linear") ||
	    ends_with(s, len, "gate_proj_blocks"))
		return PL_ROLE_EXPERT_GATE;
	if (ends_with(s, len, "up_proj") || ends_with(s, len, ".w3") || ends_with(s, len, "linear_v"))
		return PL_ROLE_EXPERT_UP;
	return PL_ROLE_EXPERT_DOWN;
}

static enum pl_role hub_role(const char *rest, size_t len, bool layered)
{
	if (layered && has_word(rest, "experts") && !strstr(rest, "shared_experts"))
		return expert_role(rest, len);
	if (layered) {
		/* the table first where a name also ends like a Llama one */
		enum pl_role r = role_by_name(rest, len, false);
		return r && pl_role_info(r)->group != PL_GROUP_EMBED ? r : role_by_table(in_layer, sizeof in_layer / sizeof *in_layer, rest, len);
	}
	enum pl_role r = role_by_name(rest, len, false);
	return r ? r : role_by_table(outside, sizeof outside / sizeof *outside, rest, len);
}

/* gpt-oss stores "gate_up_proj_blocks" and "gate_up_proj_scales". */
static size_t strip_mxfp4(const char *s, size_t len)
{
	if (ends_with(s, len, "_blocks") || ends_with(s, len, "_scales"))
		return len - 7;
	return len;
}

static bool is_gguf_name(const char *name)
{
	return !strncmp(name, "blk.", 4) || !strncmp(name, "token_embd", 10) || !strncmp(name, "output", 6) ||
	       !strncmp(name, "enc.", 4) || !strncmp(name, "dec.", 4) || !strncmp(name, "rope_", 5) ||
	       !strncmp(name, "cls", 3) || !strncmp(name, "position_embd", 13) || !strncmp(name, "token_types", 11) ||
	       !strncmp(name, "per_layer_", 10) || !strncmp(name, "altup_", 6);
}

/* Names of GGUF layers that carry no ".weight" and those of roles outside the table, by their beginning. */
static enum pl_group group_by_prefix(const char *s)
{
	static const struct {
		const char *prefix;
		enum pl_group group;
	} prefixes[] = {{"attn", PL_GROUP_ATTN},      {"ssm", PL_GROUP_RECURRENT},     {"time_mix", PL_GROUP_RECURRENT},
	                {"channel_mix", PL_GROUP_FFN}, {"shortconv", PL_GROUP_RECURRENT}, {"nextn", PL_GROUP_MTP},
	                {"ffn", PL_GROUP_FFN},        {"indexer", PL_GROUP_ATTN},      {"self_attn", PL_GROUP_ATTN},
	                {"attention", PL_GROUP_ATTN}, {"linear_attn", PL_GROUP_RECURRENT}, {"mamba", PL_GROUP_RECURRENT},
	                {"mixer", PL_GROUP_RECURRENT}, {"mlp", PL_GROUP_FFN},          {"feed_forward", PL_GROUP_FFN},
	                {"laurel", PL_GROUP_FFN},     {"altup", PL_GROUP_FFN},         {"conv", PL_GROUP_RECURRENT}};
	for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
		if (!strncmp(s, prefixes[i].prefix, strlen(prefixes[i].prefix)))
			return prefixes[i].group;
	return PL_GROUP_OTHER;
}

size_t pl_tensor_module(const char *name, bool *ret_bias)
{
	return strip_mxfp4(name, strip_piece(name, strlen(name), ret_bias));
}

void pl_tensor_classify(const char *name, struct pl_tensor *t)
{
	bool gguf = is_gguf_name(name);
	uint32_t layer = 0;
	const char *rest = find_layer(name, &layer);
	t->role = PL_ROLE_OTHER;
	t->group = PL_GROUP_OTHER;
	t->layer = -1;
	t->is_bias = false;
	if (!gguf && in_tower(name)) {
		t->role = PL_ROLE_VISION;
		t->group = PL_GROUP_VISION;
		return;
	}
	if (rest)
		t->layer = (int32_t)layer;
	const char *s = rest ? rest : name;
	size_t len = strip_piece(s, strlen(s), &t->is_bias);
	if (!gguf)
		len = strip_mxfp4(s, len);
	t->role = gguf ? role_by_name(s, len, true) : hub_role(s, len, rest != NULL);
	t->group = t->role ? pl_role_info(t->role)->group : group_by_prefix(s);
	if (!gguf && (has_word(name, "mtp") || !strncmp(name, "mtp.", 4)))
		t->group = PL_GROUP_MTP;
	if (!gguf && (strstr(name, "encoder.layers.") || strstr(name, "model.encoder.")) && strstr(name, "model.encoder"))
		t->group = PL_GROUP_ENCODER;
	if (gguf && !strncmp(name, "enc.", 4))
		t->group = PL_GROUP_ENCODER;
}
