/* Encoders, encoder-decoders, and decoders with cross attention: BERT, XLM-R, Whisper, Llama 3.2 Vision. */
#include <string.h>

#include "model/hf.h"

static void bert_model(struct pl_hf *c)
{
	const char *arch = json_string_value(json_array_get(pl_hf_get(c, "architectures"), 0));
	if (!pl_hf_bool(c, "add_pooling_layer", !arch || !strstr(arch, "ForMaskedLM")))
		return;
	pl_hf_emit(c, -1, PL_ROLE_CLS, false, 2, c->m->n_embd, c->m->n_embd, 1);
	pl_hf_emit(c, -1, PL_ROLE_CLS, true, 1, c->m->n_embd, 1, 1);
}

void pl_hf_read_bert(struct pl_hf *c)
{
	pl_hf_base(c, 0);
	pl_hf_attention(c);
	pl_hf_dense_ffn(c);
	c->n_positions = pl_hf_need(c, "max_position_embeddings", PL_HF_MAX_CTX);
	c->n_types = pl_hf_u32(c, "type_vocab_size", 0, 65536, 2);
	c->m->is_embedding = c->m->no_kv_cache = true;
	c->m->tied_output = false;
	c->more_model = bert_model;
	if (!strncmp(c->family->type, "xlm", 3) && c->m->n_ctx_train > 2)
		c->m->n_ctx_train -= 2; /* its first two positions are never used */
}

/* Attention of Whisper: keys have no bias. */
static uint64_t whisper_attn(uint64_t h)
{
	return 4 * h * h + 3 * h;
}

static void whisper_cross(struct pl_hf *c, uint32_t il)
{
	const uint64_t h = c->m->n_embd;
	static const char *const names[] = {"cross_attn_q", "cross_attn_k", "cross_attn_v", "cross_attn_output"};
	for (int i = 0; i < 4; i++) {
		pl_hf_emit_named(c, il, PL_ROLE_OTHER, PL_GROUP_ATTN, pl_arena_printf(c->a, "%s.weight", names[i]), 2, h, h, 1);
		if (i != 1)
			pl_hf_emit_named(c, il, PL_ROLE_OTHER, PL_GROUP_ATTN, pl_arena_printf(c->a, "%s.bias", names[i]), 1, h, 1, 1);
	}
	pl_hf_emit_named(c, il, PL_ROLE_OTHER, PL_GROUP_NORM, "cross_attn_norm.weight", 1, h, 1, 1);
	pl_hf_emit_named(c, il, PL_ROLE_OTHER, PL_GROUP_NORM, "cross_attn_norm.bias", 1, h, 1, 1);
}

/* The encoder as one tensor: two convolutions, positions, layers, a last norm. */
static void whisper_encoder(struct pl_hf *c)
{
	const uint64_t h = c->m->n_embd, mel = pl_hf_u32(c, "num_mel_bins", 1, 65536, 80);
	const uint64_t positions = pl_hf_u32(c, "max_source_positions", 1, 1 << 20, 1500), f = pl_hf_need(c, "encoder_ffn_dim", PL_HF_MAX_DIM);
	const uint64_t layer = whisper_attn(h) + 2 * h * f + f + h + 4 * h;
	const uint64_t n = 3 * mel * h + h + 3 * h * h + h + positions * h + c->m->n_encoder_layers * layer + 2 * h;
	pl_hf_emit(c, -1, PL_ROLE_ENCODER, false, 1, n, 1, 1);
}

void pl_hf_read_whisper(struct pl_hf *c)
{
	pl_hf_base(c, 0);
	if (c->rc)
		return;
	struct pl_model *m = c->m;
	const uint32_t n = pl_hf_u32(c, "decoder_layers", 1, m->n_layers, m->n_layers);
	const uint32_t heads = pl_hf_need(c, "decoder_attention_heads", PL_HF_MAX_HEADS), f = pl_hf_need(c, "decoder_ffn_dim", PL_HF_MAX_DIM);
	m->n_layers = n;
	m->n_encoder_layers = pl_hf_need(c, "encoder_layers", PL_HF_MAX_LAYERS);
	m->n_embd_encoder = m->n_embd;
	m->n_ctx_train = c->n_positions = pl_hf_u32(c, "max_target_positions", 1, 1 << 20, 448);
	for (uint32_t il = 0; il < n; il++) {
		struct pl_layer *l = &c->layers[il];
		l->attn = PL_ATTN_GQA;
		l->n_head = l->n_head_kv = heads;
		l->d_k = l->d_v = m->n_embd / heads;
		l->ffn = PL_FFN_PLAIN;
		l->n_ff = f;
	}
	c->more_layer = whisper_cross;
	c->more_model = whisper_encoder;
}

/* Gates of a cross-attention layer of Llama 3.2 Vision. */
static void mllama_cross(struct pl_hf *c, uint32_t il)
{
	if (!c->layers[il].cross)
		return;
	pl_hf_emit_named(c, il, PL_ROLE_OTHER, PL_GROUP_ATTN, "cross_attn_attn_gate", 1, 1, 1, 1);
	pl_hf_emit_named(c, il, PL_ROLE_OTHER, PL_GROUP_FFN, "cross_attn_mlp_gate", 1, 1, 1, 1);
}

void pl_hf_read_mllama(struct pl_hf *c)
{
	const json_t *list, *v;
	size_t i;
	pl_hf_read_dense(c);
	list = pl_hf_get(c, "cross_attention_layers");
	json_array_foreach (list, i, v) {
		if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) >= (json_int_t)c->m->n_layers) {
			pl_hf_fail(c, "'cross_attention_layers[%zu]' names no layer of the model", i);
			return;
		}
		c->layers[json_integer_value(v)].cross = true;
		c->parts[json_integer_value(v)] |= PL_P_QK_NORM;
	}
	c->more_layer = mllama_cross;
	c->n_more_rows = 8; /* the image token and padding */
}
