/* A config.json → layers and tensors: what all families share, and the table of families. */
#include <string.h>

#include "base/checked.h"
#include "model/hf.h"

uint32_t pl_hf_n_all(const struct pl_hf *c)
{
	return c->m->n_layers + c->m->n_layers_mtp;
}

void pl_hf_set_parts(struct pl_hf *c, uint64_t bits, bool on)
{
	for (uint32_t il = 0; il < pl_hf_n_all(c); il++)
		c->parts[il] = on ? c->parts[il] | bits : c->parts[il] & ~bits;
}

/* Configs with a part of their own for the language model may say so on top only. */
static void read_tied(struct pl_hf *c)
{
	const json_t *old = c->cfg;
	if (c->family->parts & PL_P_NEVER_HEAD) {
		c->m->tied_output = true;
		return;
	}
	if (!pl_hf_has(c, "tie_word_embeddings|tie_embedding"))
		pl_hf_enter(c, c->root);
	c->m->tied_output = pl_hf_bool(c, "tie_word_embeddings|tie_embedding", (c->family->parts & PL_P_TIED) != 0);
	pl_hf_enter(c, old);
}

void pl_hf_base(struct pl_hf *c, uint32_t n_mtp)
{
	struct pl_model *m = c->m;
	m->n_embd = pl_hf_need(c, "hidden_size|n_embd|d_model|n_embed", PL_HF_MAX_DIM);
	uint32_t n_layers = c->n_listed;
	if (!n_layers || pl_hf_has(c, "num_hidden_layers"))
		n_layers = pl_hf_need(c, "num_hidden_layers|n_layer|num_layers|n_layers", PL_HF_MAX_LAYERS);
	m->n_vocab = pl_hf_need(c, "vocab_size|padded_vocab_size", PL_HF_MAX_VOCAB);
	m->n_ctx_train =
	    pl_hf_u32(c, "max_position_embeddings|n_positions|seq_length|model_max_length|max_sequence_length|n_ctx", 1, PL_HF_MAX_CTX, 0);
	read_tied(c);
	c->model_parts = c->family->parts;
	if (c->rc)
		return;
	c->layers = PL_NEW_N(c->a, struct pl_layer, (uint64_t)n_layers + n_mtp);
	c->parts = PL_NEW_N(c->a, uint64_t, (uint64_t)n_layers + n_mtp);
	if (!c->layers || !c->parts) {
		c->rc = pl_fail(c->err, PL_ERR_NOMEM, c->where, "out of memory while reading the layers");
		return;
	}
	m->n_layers = n_layers;
	m->n_layers_mtp = n_mtp;
	m->layers = c->layers;
	for (uint32_t il = 0; il < n_layers + n_mtp; il++) {
		c->parts[il] = c->family->parts;
		c->layers[il].kv_from_layer = -1;
		c->layers[il].is_mtp = il >= n_layers;
	}
}

static void attention_biases(struct pl_hf *c)
{
	const uint64_t f = c->family->parts;
	if ((f & PL_P_ATTN_BIAS_KEY) && pl_hf_has(c, "attention_bias|bias"))
		pl_hf_set_parts(c, PL_P_BIAS_QKV | PL_P_BIAS_O, pl_hf_bool(c, "attention_bias|bias", false));
	if ((f & PL_P_QKV_BIAS_KEY) && pl_hf_has(c, "attention_bias|use_bias"))
		pl_hf_set_parts(c, PL_P_BIAS_QKV, pl_hf_bool(c, "attention_bias|use_bias", false));
	if (f & PL_P_ATTN_BIAS_KEY && pl_hf_has(c, "mlp_bias"))
		pl_hf_set_parts(c, PL_P_BIAS_FFN, pl_hf_bool(c, "mlp_bias", false));
}

void pl_hf_attention(struct pl_hf *c)
{
	const uint32_t n_head = pl_hf_need(c, "num_attention_heads|n_head|n_heads", PL_HF_MAX_HEADS);
	const uint32_t n_kv = pl_hf_u32(c, "num_key_value_heads|num_kv_heads|n_head_kv", 1, PL_HF_MAX_HEADS, n_head);
	const bool has_dim = pl_hf_has(c, "head_dim|attention_head_dim|kv_channels");
	if (!c->rc && !has_dim && c->m->n_embd % n_head) {
		pl_hf_fail(c, "'hidden_size' %u is no multiple of 'num_attention_heads' %u and there is no 'head_dim'",
		           c->m->n_embd, n_head);
		return;
	}
	const uint32_t d = pl_hf_u32(c, "head_dim|attention_head_dim|kv_channels", 1, 65536, c->m->n_embd / n_head);
	for (uint32_t il = 0; il < pl_hf_n_all(c); il++) {
		struct pl_layer *l = &c->layers[il];
		l->attn = PL_ATTN_GQA;
		l->n_head = n_head;
		l->n_head_kv = n_kv;
		l->d_k = l->d_v = d;
	}
	attention_biases(c);
}

void pl_hf_dense_ffn(struct pl_hf *c)
{
	const bool plain = (c->family->parts & PL_P_PLAIN_FFN) != 0;
	const uint32_t n_ff = pl_hf_need(c, "intermediate_size|ffn_hidden_size|n_inner|ffn_dim", PL_HF_MAX_DIM);
	for (uint32_t il = 0; il < pl_hf_n_all(c); il++) {
		c->layers[il].ffn = plain ? PL_FFN_PLAIN : PL_FFN_GATED;
		c->layers[il].n_ff = n_ff;
	}
}

void pl_hf_windows(struct pl_hf *c)
{
	const uint32_t window = pl_hf_u32(c, "sliding_window|sliding_window_size", 0, PL_HF_MAX_CTX, 0);
	const bool typed = pl_hf_array(c, "layer_types", c->m->n_layers) != NULL;
	const bool all = !typed && (c->family->parts & PL_P_SLIDES);
	for (uint32_t il = 0; il < c->m->n_layers && !c->rc; il++)
		if (all || (typed && !strcmp(pl_hf_str_at(c, "layer_types", il), "sliding_attention")))
			c->layers[il].window_tokens = window;
}

void pl_hf_moe(struct pl_hf *c, uint32_t il, uint32_t n_expert, uint32_t used, uint32_t ff, uint32_t n_shared,
               uint32_t ff_shared)
{
	struct pl_layer *l = &c->layers[il];
	if (c->rc)
		return;
	if (used > n_expert) {
		pl_hf_fail(c, "each token uses %u experts but there are only %u", used, n_expert);
		return;
	}
	l->ffn = PL_FFN_MOE;
	l->n_ff = 0;
	l->n_expert = n_expert;
	l->n_expert_used = used;
	l->n_ff_expert = ff;
	l->n_expert_shared = n_shared;
	l->n_ff_shared = ff_shared;
}

void pl_hf_mtp(struct pl_hf *c, uint64_t bits)
{
	for (uint32_t il = c->m->n_layers; il < pl_hf_n_all(c); il++)
		c->parts[il] |= PL_P_NEXTN | bits | (c->family->parts & PL_P_NEXTN_COPIES_MTP ? PL_P_NEXTN_COPIES : 0);
}

void pl_hf_read_dense(struct pl_hf *c)
{
	pl_hf_base(c, 0);
	pl_hf_attention(c);
	pl_hf_dense_ffn(c);
	pl_hf_windows(c);
}

static enum pl_dtype native_type(struct pl_hf *c)
{
	static const struct {
		const char *name;
		enum pl_dtype type;
	} names[] = {{"float32", PL_DTYPE_F32}, {"float", PL_DTYPE_F32}, {"float16", PL_DTYPE_F16},
	             {"half", PL_DTYPE_F16},    {"bfloat16", PL_DTYPE_BF16}};
	const char *s = pl_hf_str(c, "torch_dtype|dtype");
	if (!s) {
		const json_t *old = pl_hf_enter(c, c->root);
		s = pl_hf_str(c, "torch_dtype|dtype");
		pl_hf_enter(c, old);
	}
	if (s && !strncmp(s, "torch.", 6))
		s += 6;
	for (size_t i = 0; s && i < sizeof names / sizeof *names; i++)
		if (!strcmp(names[i].name, s))
			return names[i].type;
	pl_note_add(c->a, &c->m->notes, PL_NOTE_INFO, PL_N_("the config does not say which type the weights have: bf16 assumed"));
	return PL_DTYPE_BF16;
}

/* Where the language model's keys are: on top, or in an object of their own. */
static const json_t *language_part(const json_t *root)
{
	static const char *const names[] = {"text_config", "llm_config", "language_config", "text_model_config"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		const json_t *v = json_object_get(root, names[i]);
		if (json_is_object(v) && json_object_size(v))
			return v;
	}
	return root;
}

/* A part of its own is saved as what differs from its class (transformers): the rest are the class's values. */
static json_t *with_class_values(const json_t *part, const char *type)
{
	static const struct {
		const char *type, *key;
		int value;
	} rows[] = {
	    {"llama", "hidden_size", 4096},       {"llama", "intermediate_size", 11008}, {"llama", "num_hidden_layers", 32},
	    {"llama", "num_attention_heads", 32}, {"llama", "vocab_size", 32000},        {"llama", "max_position_embeddings", 2048},
	    {"mistral", "hidden_size", 4096},     {"mistral", "intermediate_size", 14336}, {"mistral", "num_hidden_layers", 32},
	    {"mistral", "num_attention_heads", 32}, {"mistral", "num_key_value_heads", 8}, {"mistral", "vocab_size", 32000},
	    {"gemma3_text", "hidden_size", 2304}, {"gemma3_text", "intermediate_size", 9216}, {"gemma3_text", "num_hidden_layers", 26},
	    {"gemma3_text", "num_attention_heads", 8}, {"gemma3_text", "num_key_value_heads", 4}, {"gemma3_text", "head_dim", 256},
	    {"gemma3_text", "vocab_size", 262208}, {"gemma3_text", "sliding_window", 4096},
	    {"gemma3_text", "max_position_embeddings", 131072},
	};
	json_t *full = json_copy((json_t *)(uintptr_t)part);
	for (size_t i = 0; full && type && i < sizeof rows / sizeof *rows; i++)
		if (!strcmp(rows[i].type, type) && !json_object_get(full, rows[i].key))
			json_object_set_new(full, rows[i].key, json_integer(rows[i].value));
	return full;
}

static int unknown(struct pl_hf *c, const char *type)
{
	if (type)
		return pl_fail(c->err, PL_ERR_UNSUPPORTED, c->where,
		               "model type '%s' is not known: a config alone does not tell its weights, the header of a "
		               "weights file (GGUF or safetensors) does", type);
	return pl_fail(c->err, PL_ERR_FORMAT, c->where, "'model_type' is missing, it must name the kind of model");
}

int pl_layers_from_config(struct pl_arena *a, const json_t *config, struct pl_model *m, struct pl_tensor_list *tensors,
                          struct pl_err *err)
{
	struct pl_hf c = {.a = a, .root = config, .m = m, .out = tensors, .err = err, .where = m->name};
	if (!json_is_object(config))
		return pl_fail(err, PL_ERR_FORMAT, m->name, "the config must be a JSON object");
	const char *root_type = json_string_value(json_object_get(config, "model_type"));
	c.cfg = language_part(config);
	const char *type = json_string_value(json_object_get(c.cfg, "model_type"));
	c.family = pl_hf_find_family(root_type);
	if (!c.family)
		c.family = pl_hf_find_family(type);
	if (!c.family)
		return unknown(&c, root_type ? root_type : type);
	m->hf_type = pl_arena_strdup(a, root_type ? root_type : type);
	m->arch = c.family->arch ? c.family->arch : c.family->type;
	m->arch_known = true;
	c.type = native_type(&c);
	m->quant_name = pl_dtype_name(c.type);
	json_t *full = c.cfg == config ? NULL : with_class_values(c.cfg, type);
	if (full)
		c.cfg = full;
	c.family->read(&c);
	pl_hf_emit_model(&c);
	pl_hf_towers(&c);
	if (!c.rc && pl_arena_failed(a))
		c.rc = pl_fail(err, PL_ERR_NOMEM, m->name, "out of memory while reading the config");
	json_decref(full);
	return c.rc;
}
