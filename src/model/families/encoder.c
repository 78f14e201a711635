/* Encoders: BERT and its kin, Whisper. */
#include <string.h>

#include "model/families/families.h"

/* Norms after attention and after the feed forward, a pooler, no cache and no head. */
int pl_read_bert(struct pl_family *f)
{
	uint64_t h = f->m->n_embd;
	f->m->is_embedding = true;
	f->n_positions = f->m->n_ctx_train;
	f->n_types = U32(f, 2, 1024, "type_vocab_size");
	f->traits |= T_NO_OUT_NORM | T_MIXER_ONLY;
	for (uint32_t i = 0; i < f->m->n_layers && !f->rc; i++) {
		f->layers[i].ffn = PL_FFN_PLAIN;
		pl_emit(f, (int32_t)i, PL_ROLE_LAYER_OUT_NORM, false, h, 0, 1);
		pl_emit(f, (int32_t)i, PL_ROLE_LAYER_OUT_NORM, true, h, 0, 1);
		pl_emit(f, (int32_t)i, PL_ROLE_ATTN_OUT_NORM, false, h, 0, 1);
		pl_emit(f, (int32_t)i, PL_ROLE_ATTN_OUT_NORM, true, h, 0, 1);
	}
	pl_emit(f, -1, PL_ROLE_CLS, false, h, h, 1);
	pl_emit(f, -1, PL_ROLE_CLS, true, h, 0, 1);
	f->traits |= T_NO_NORMS;
	/* the norm behind the embeddings is still there */
	pl_emit(f, -1, PL_ROLE_TOKEN_EMBD_NORM, false, h, 0, 1);
	pl_emit(f, -1, PL_ROLE_TOKEN_EMBD_NORM, true, h, 0, 1);
	f->traits &= ~(uint32_t)T_EMBED_NORM;
	return f->rc;
}

/* The decoder is the trunk, with cross attention beside each layer; the encoder is one tower. Keys carry no bias. */
int pl_read_whisper(struct pl_family *f)
{
	struct pl_model *m = f->m;
	uint64_t h = m->n_embd, mel = U32(f, 80, 1024, "num_mel_bins"), audio = U32(f, 1500, 1u << 20, "max_source_positions");
	uint64_t enc_ff = U32(f, f->n_ff, PL_MAX_DIM, "encoder_ffn_dim");
	m->n_encoder_layers = U32(f, 0, PL_MAX_LAYERS, "encoder_layers");
	m->n_layers = U32(f, m->n_layers, m->n_layers ? m->n_layers : 1, "decoder_layers");
	m->n_embd_encoder = m->n_embd;
	m->tied_output = true;
	m->n_ctx_train = f->n_positions = U32(f, 448, 1u << 20, "max_target_positions");
	uint64_t attn = 4 * h * h + 3 * h, block = attn + 2 * h * enc_ff + enc_ff + h + 4 * h;
	pl_emit_tower(f, PL_GROUP_ENCODER, 3 * mel * h + h + 3 * h * h + h + audio * h + m->n_encoder_layers * block + 2 * h);
	for (uint32_t i = 0; i < m->n_layers && !f->rc; i++) {
		f->layers[i].ffn = PL_FFN_PLAIN;
		f->layers[i].n_ff = U32(f, f->n_ff, PL_MAX_DIM, "decoder_ffn_dim");
		f->layers[i].n_head = f->layers[i].n_head_kv = U32(f, f->n_head, PL_MAX_HEADS, "decoder_attention_heads");
		f->layers[i].d_k = f->layers[i].d_v = f->layers[i].n_head ? m->n_embd / f->layers[i].n_head : 0;
		/* cross attention, its norm, and one key bias counted too often below */
		pl_emit(f, (int32_t)i, PL_ROLE_ENCODER, false, attn + 2 * h - h, 0, 1);
	}
	return f->rc;
}
