/* The fields every config has, and which family reads the rest. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "model/families/families.h"

int pl_cfg_fail(struct pl_family *f, const char *fmt, ...)
{
	char msg[256];
	va_list ap;
	va_start(ap, fmt);
	(void)vsnprintf(msg, sizeof msg, pl_tr(fmt), ap);
	va_end(ap);
	if (!f->rc)
		f->rc = pl_fail(f->err, PL_ERR_RANGE, f->m->name, "%s", msg);
	return f->rc;
}

const json_t *pl_cfg_get(const struct pl_family *f, const char *key)
{
	const json_t *v = json_object_get(f->text, key);
	if ((!v || json_is_null(v)) && f->text != f->root)
		v = json_object_get(f->root, key);
	return v && !json_is_null(v) ? v : NULL;
}

uint32_t pl_cfg_u32(struct pl_family *f, const char *const *keys, uint32_t fallback, uint64_t max)
{
	for (; *keys; keys++) {
		const json_t *v = pl_cfg_get(f, *keys);
		double n;
		if (!v || json_is_array(v) || json_is_object(v) || json_is_boolean(v))
			continue;
		if (!json_is_number(v)) {
			pl_cfg_fail(f, "key '%s' must be a number", *keys);
			return fallback;
		}
		n = json_number_value(v);
		if (n < 0 || n > (double)max || n != (double)(uint64_t)n) {
			pl_cfg_fail(f, "key '%s' is %g, whole numbers from 0 to %llu are possible", *keys, n, (unsigned long long)max);
			return fallback;
		}
		return (uint32_t)n;
	}
	return fallback;
}

bool pl_cfg_bool(struct pl_family *f, const char *key, bool fallback)
{
	const json_t *v = pl_cfg_get(f, key);
	return v && json_is_boolean(v) ? json_is_true(v) : fallback;
}

bool pl_cfg_layer_is(const struct pl_family *f, const char *key, uint32_t il, const char *name)
{
	const json_t *list = pl_cfg_get(f, key), *v = json_is_array(list) ? json_array_get(list, il) : NULL;
	return v && json_is_string(v) && !strcmp(json_string_value(v), name);
}

static const json_t *language_part(const json_t *root)
{
	static const char *const keys[] = {"text_config", "llm_config", "language_config", "thinker_config"};
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
		const json_t *v = json_object_get(root, keys[i]);
		if (json_is_object(v))
			return json_is_object(json_object_get(v, "text_config")) ? json_object_get(v, "text_config") : v;
	}
	return root;
}

static const char *string_of(const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);
	return json_is_string(v) ? json_string_value(v) : NULL;
}

static void common(struct pl_family *f)
{
	struct pl_model *m = f->m;
	m->n_embd = U32(f, 0, PL_MAX_DIM, "hidden_size", "n_embd", "d_model", "dim");
	m->n_layers = U32(f, 0, PL_MAX_LAYERS, "num_hidden_layers", "n_layer", "num_layers", "n_layers", "encoder_layers");
	m->n_vocab = U32(f, 0, 1u << 28, "padded_vocab_size", "vocab_size");
	m->n_ctx_train = U32(f, 0, 1u << 30, "max_position_embeddings", "n_positions", "seq_length", "max_sequence_length",
	                     "model_max_length", "n_ctx");
	f->n_head = U32(f, 0, PL_MAX_HEADS, "num_attention_heads", "n_head", "num_heads", "encoder_attention_heads");
	f->n_head_kv = U32(f, f->n_head, PL_MAX_HEADS, "num_key_value_heads", "num_kv_heads", "multi_query_group_num", "n_head_kv");
	f->d_head = U32(f, f->n_head ? m->n_embd / f->n_head : 0, PL_MAX_DIM, "head_dim", "attention_head_dim", "kv_channels");
	f->n_ff = U32(f, 0, PL_MAX_DIM, "intermediate_size", "ffn_hidden_size", "n_inner", "encoder_ffn_dim", "ffn_dim");
	m->tied_output = pl_cfg_bool(f, "tie_word_embeddings", false);
	m->n_layers_mtp = U32(f, 0, 64, "num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_layers");
}

static int check_common(struct pl_family *f)
{
	struct pl_model *m = f->m;
	if (f->rc)
		return f->rc;
	if (!m->n_layers)
		return pl_cfg_fail(f, "key 'num_hidden_layers' is missing or 0");
	if (!m->n_embd)
		return pl_cfg_fail(f, "key 'hidden_size' is missing or 0");
	if (!m->n_vocab)
		return pl_cfg_fail(f, "key 'vocab_size' is missing or 0");
	return 0;
}

static int fill_layers(struct pl_family *f)
{
	uint32_t n = f->m->n_layers + f->m->n_layers_mtp;
	f->layers = PL_NEW_N(f->a, struct pl_layer, n);
	if (!f->layers)
		return pl_fail(f->err, PL_ERR_NOMEM, f->m->name, "out of memory while building the model");
	for (uint32_t i = 0; i < n; i++)
		f->layers[i] = (struct pl_layer){.attn = f->n_head ? PL_ATTN_GQA : PL_ATTN_NONE,
		                                 .n_head = f->n_head,
		                                 .n_head_kv = f->n_head_kv,
		                                 .d_k = f->d_head,
		                                 .d_v = f->d_head,
		                                 .kv_from_layer = -1,
		                                 .ffn = PL_FFN_GATED,
		                                 .n_ff = f->n_ff,
		                                 .is_mtp = i >= f->m->n_layers};
	return 0;
}

static int check_layers(struct pl_family *f)
{
	for (uint32_t i = 0; i < f->m->n_layers; i++) {
		const struct pl_layer *l = &f->layers[i];
		if (l->attn && (!l->n_head || !l->n_head_kv || !l->d_k))
			return pl_cfg_fail(f, "layer %u has no attention heads: 'num_attention_heads' is missing or 0", i);
		if (l->attn == PL_ATTN_GQA && l->n_head % l->n_head_kv)
			return pl_cfg_fail(f, "%u attention heads cannot share %u key-value heads", l->n_head, l->n_head_kv);
		if (l->ffn == PL_FFN_MOE && (!l->n_expert || !l->n_expert_used || l->n_expert_used > l->n_expert || !l->n_ff_expert))
			return pl_cfg_fail(f, "layer %u chooses %u of %u experts of width %u", i, l->n_expert_used, l->n_expert, l->n_ff_expert);
		if ((l->ffn == PL_FFN_GATED || l->ffn == PL_FFN_PLAIN) && !l->n_ff)
			return pl_cfg_fail(f, "key 'intermediate_size' is missing or 0");
	}
	return 0;
}

/* Architecture names decide where several families share a model_type or the config has none. */
static const struct pl_family_row *find_row(const json_t *root, const json_t *text, const char **ret_type)
{
	const char *outer = string_of(root, "model_type"), *inner = text == root ? NULL : string_of(text, "model_type");
	const struct pl_family_row *row = inner ? pl_family_find(inner) : NULL;
	*ret_type = outer ? outer : inner;
	if (!row && outer)
		row = pl_family_find(outer);
	return row;
}

int pl_layers_from_config(struct pl_arena *a, const json_t *config, struct pl_model *m, struct pl_tensor_list *tensors,
                          struct pl_err *err)
{
	struct pl_family f = {.a = a, .root = config, .text = language_part(config), .m = m, .list = tensors, .err = err};
	const struct pl_family_row *row = find_row(config, f.text, &m->hf_type);
	m->hf_type = m->hf_type ? pl_arena_strdup(a, m->hf_type) : NULL;
	if (!row) {
		m->arch = m->hf_type ? m->hf_type : "unknown";
		m->arch_known = false;
		if (tensors)
			return pl_fail(err, PL_ERR_UNSUPPORTED, m->name,
			               "architecture '%s' is not known here: give the weights' header (a file or folder) for an exact size",
			               m->arch);
		pl_note_add(a, &m->notes, PL_NOTE_WARNING,
		            "architecture '%s' is not known: weights are exact, cache and compute buffers are not counted", m->arch);
		return 0;
	}
	m->arch = row->arch;
	m->arch_known = true;
	f.traits = row->traits;
	common(&f);
	if (check_common(&f) || fill_layers(&f))
		return f.rc ? f.rc : -PL_ERR_NOMEM;
	if (row->read && row->read(&f))
		return f.rc;
	if (f.rc || check_layers(&f))
		return f.rc;
	m->layers = f.layers;
	if (!tensors)
		return 0;
	int rc = pl_emit_tensors(&f);
	return rc ? rc : pl_emit_vision(&f);
}
