/* Mixtures of experts over ordinary attention. */
#include <string.h>

#include "model/families/families.h"

/* Some configs give one number a layer; all layers of the known ones agree. */
static uint32_t first_of(struct pl_family *f, const char *key, uint32_t fallback, uint64_t max)
{
	const json_t *v = pl_cfg_get(f, key);
	const json_t *e = json_is_array(v) ? json_array_get(v, json_array_size(v) - 1) : NULL;
	if (json_is_integer(e) && json_integer_value(e) > 0 && (uint64_t)json_integer_value(e) <= max)
		return (uint32_t)json_integer_value(e);
	return U32(f, fallback, max, key);
}

static bool listed(const json_t *list, uint32_t il)
{
	for (size_t i = 0; i < json_array_size(list); i++)
		if (json_integer_value(json_array_get(list, i)) == (json_int_t)il)
			return true;
	return false;
}

static bool is_sparse(struct pl_family *f, uint32_t il)
{
	uint32_t first = U32(f, 0, PL_MAX_LAYERS, "first_k_dense_replace", "moe_layer_start_index");
	uint32_t step = U32(f, 1, PL_MAX_LAYERS, "decoder_sparse_step", "moe_layer_freq", "moe_layer_interval");
	const json_t *freq = pl_cfg_get(f, "moe_layer_freq");
	if (json_is_array(freq))
		return json_integer_value(json_array_get(freq, il)) != 0;
	if (listed(pl_cfg_get(f, "mlp_only_layers"), il))
		return false;
	if (pl_cfg_get(f, "decoder_sparse_step"))
		return step && (il + 1) % step == 0;
	return il >= first && step && (il - first) % step == 0;
}

static void experts(struct pl_family *f, struct pl_layer *l)
{
	l->ffn = PL_FFN_MOE;
	l->n_expert = first_of(f, "num_experts", U32(f, 0, PL_MAX_EXPERTS, "n_routed_experts", "num_local_experts", "moe_num_experts"),
	                       PL_MAX_EXPERTS);
	l->n_expert_used = first_of(f, "moe_topk", U32(f, 0, PL_MAX_EXPERTS, "num_experts_per_tok", "experts_per_token", "moe_k",
	                                               "num_experts_per_token"), PL_MAX_EXPERTS);
	l->n_ff_expert = first_of(f, "moe_intermediate_size", U32(f, f->n_ff, PL_MAX_DIM, "expert_intermediate_size"), PL_MAX_DIM);
	l->n_expert_shared = first_of(f, "num_shared_expert", U32(f, 0, PL_MAX_EXPERTS, "n_shared_experts", "moe_num_shared_experts",
	                                                           "num_shared_experts"), PL_MAX_EXPERTS);
	l->n_ff_shared = U32(f, 0, PL_MAX_DIM, "shared_expert_intermediate_size", "shared_intermediate_size");
	if (!l->n_ff_shared && l->n_expert_shared) {
		uint64_t wide = (uint64_t)l->n_expert_shared * l->n_ff_expert;
		l->n_ff_shared = wide < PL_MAX_DIM ? (uint32_t)wide : PL_MAX_DIM;
	}
	if (l->n_ff_shared && !l->n_expert_shared)
		l->n_expert_shared = 1;
}

int pl_read_moe(struct pl_family *f)
{
	uint32_t n = f->m->n_layers + f->m->n_layers_mtp;
	if (pl_cfg_bool(f, "attention_bias", false))
		f->traits |= T_QKV_BIAS;
	if (pl_cfg_bool(f, "use_qk_norm", false) && !(f->traits & T_QK_NORM_FULL))
		f->traits |= T_QK_NORM_HEAD;
	(void)pl_read_windows(f);
	f->traits &= ~(uint32_t)(strcmp(f->m->arch, "gpt-oss") && strcmp(f->m->arch, "phimoe") ? T_O_BIAS : 0);
	for (uint32_t i = 0; i < n && !f->rc; i++)
		if (is_sparse(f, i) || f->layers[i].is_mtp)
			experts(f, &f->layers[i]);
	return f->rc;
}

/* Every interleave_moe_layer_step-th layer routes; the others have a dense feed forward of their own width. */
int pl_read_llama4(struct pl_family *f)
{
	uint32_t step = U32(f, 1, PL_MAX_LAYERS, "interleave_moe_layer_step"), dense = U32(f, f->n_ff, PL_MAX_DIM, "intermediate_size_mlp");
	uint32_t chunk = U32(f, 8192, 1u << 30, "attention_chunk_size"), no_rope = U32(f, 4, 64, "no_rope_layer_interval");
	f->m->tied_output = pl_cfg_bool(f, "tie_word_embeddings", false);
	for (uint32_t i = 0; i < f->m->n_layers && !f->rc; i++) {
		struct pl_layer *l = &f->layers[i];
		if (step && (i + 1) % step == 0) {
			experts(f, l);
			l->n_ff_expert = f->n_ff;
			l->n_expert_shared = 1;
			l->n_ff_shared = f->n_ff;
		} else {
			l->n_ff = dense;
		}
		l->no_rope = no_rope && (i + 1) % no_rope == 0;
		l->window_tokens = l->no_rope ? 0 : chunk;
		l->window_chunked = !l->no_rope;
	}
	return f->rc;
}

/* Latent attention (DeepSeek V2 and later, Kimi, GLM-5). */
static void latent(struct pl_family *f, struct pl_layer *l)
{
	l->attn = PL_ATTN_MLA;
	l->q_lora = U32(f, 0, PL_MAX_DIM, "q_lora_rank");
	l->kv_lora = U32(f, 512, PL_MAX_DIM, "kv_lora_rank");
	l->d_rope = U32(f, 64, PL_MAX_DIM, "qk_rope_head_dim");
	l->d_nope = U32(f, 128, PL_MAX_DIM, "qk_nope_head_dim");
	l->d_v = U32(f, 128, PL_MAX_DIM, "v_head_dim");
	l->d_k = l->d_nope + l->d_rope;
	l->n_head_kv = l->n_head;
	l->indexer_heads = U32(f, 0, PL_MAX_HEADS, "index_n_heads");
	l->indexer_dim = l->indexer_heads ? U32(f, 128, PL_MAX_DIM, "index_head_dim") : 0;
	l->indexer_topk = l->indexer_heads ? U32(f, 2048, 1u << 30, "index_topk") : 0;
}

int pl_read_mla(struct pl_family *f)
{
	uint32_t n = f->m->n_layers + f->m->n_layers_mtp;
	for (uint32_t i = 0; i < n && !f->rc; i++) {
		latent(f, &f->layers[i]);
		if (is_sparse(f, i) || f->layers[i].is_mtp)
			experts(f, &f->layers[i]);
	}
	return f->rc;
}

/* Lists of layer numbers, counted from 1, say which layers attend. */
int pl_read_kimi_linear(struct pl_family *f)
{
	const json_t *linear = pl_cfg_get(f, "linear_attn_config"), *full = json_object_get(linear, "full_attn_layers");
	for (uint32_t i = 0; i < f->m->n_layers && !f->rc; i++) {
		struct pl_layer *l = &f->layers[i];
		if (listed(full, i + 1)) {
			latent(f, l);
		} else {
			const json_t *heads = json_object_get(linear, "num_heads"), *dim = json_object_get(linear, "head_dim"),
			             *conv = json_object_get(linear, "short_conv_kernel_size");
			l->attn = PL_ATTN_NONE;
			l->rec = PL_REC_KDA;
			l->rec_heads = l->rec_k_heads = (uint32_t)json_integer_value(heads) & 0xffff;
			l->rec_d_k = l->rec_d_v = (uint32_t)json_integer_value(dim) & 0xffff;
			l->d_conv = (uint32_t)json_integer_value(conv) & 0xff;
		}
		if (is_sparse(f, i))
			experts(f, l);
	}
	return f->rc;
}

/* MiMo-V2-Flash: windows and full layers with head counts of their own. */
int pl_read_mimo_flash(struct pl_family *f)
{
	const json_t *pattern = pl_cfg_get(f, "hybrid_layer_pattern");
	uint32_t window = U32(f, 128, 1u << 30, "sliding_window", "sliding_window_size");
	for (uint32_t i = 0; i < f->m->n_layers && !f->rc; i++) {
		struct pl_layer *l = &f->layers[i];
		bool slides = json_integer_value(json_array_get(pattern, i)) != 0;
		l->window_tokens = slides ? window : 0;
		l->n_head_kv = slides ? U32(f, l->n_head_kv, PL_MAX_HEADS, "swa_num_key_value_heads") : l->n_head_kv;
		l->n_head = slides ? U32(f, l->n_head, PL_MAX_HEADS, "swa_num_attention_heads") : l->n_head;
		l->d_k = slides ? U32(f, l->d_k, PL_MAX_DIM, "swa_head_dim") : l->d_k;
		l->d_v = U32(f, 128, PL_MAX_DIM, "v_head_dim");
		if (is_sparse(f, i))
			experts(f, l);
	}
	return f->rc;
}

/* Gemma 4: global layers with wider heads, keys that serve as values, shared caches, per-layer embeddings, experts beside the
 * dense feed forward. */
static void gemma4_layer(struct pl_family *f, uint32_t i, uint32_t window)
{
	struct pl_layer *l = &f->layers[i];
	bool full = pl_cfg_layer_is(f, "layer_types", i, "full_attention");
	uint32_t shared = U32(f, 0, PL_MAX_LAYERS, "num_kv_shared_layers"), own = f->m->n_layers > shared ? f->m->n_layers - shared : 0;
	if (full) {
		l->d_k = l->d_v = U32(f, l->d_k, PL_MAX_DIM, "global_head_dim");
		if (pl_cfg_bool(f, "attention_k_eq_v", false)) {
			l->n_head_kv = U32(f, l->n_head_kv, PL_MAX_HEADS, "num_global_key_value_heads");
			l->k_is_v = true;
		}
	} else {
		l->window_tokens = window;
	}
	/* the last layers read the cache of the last layer of their kind that has one */
	for (uint32_t k = own; i >= own && k-- > 0;)
		if (pl_cfg_layer_is(f, "layer_types", k, "full_attention") == full) {
			l->kv_from_layer = (int32_t)k;
			break;
		}
	if (i >= own && pl_cfg_bool(f, "use_double_wide_mlp", false))
		l->n_ff *= 2;
	if (!pl_cfg_bool(f, "enable_moe_block", false))
		return;
	experts(f, l);
	l->moe_beside_dense = true;
	l->n_expert_shared = l->n_ff_shared = 0;
}

int pl_read_gemma4(struct pl_family *f)
{
	uint32_t window = U32(f, 512, 1u << 30, "sliding_window"), n = f->m->n_layers, h = f->m->n_embd;
	uint32_t p = U32(f, 0, PL_MAX_DIM, "hidden_size_per_layer_input");
	f->m->tied_output = true;
	f->m->d_per_layer_embed = p;
	for (uint32_t i = 0; i < n && !f->rc; i++) {
		int32_t il = (int32_t)i;
		gemma4_layer(f, i, window);
		pl_emit(f, il, PL_ROLE_LAYER_OUT_SCALE, false, 1, 0, 1);
		if (f->layers[i].moe_beside_dense) {
			pl_emit(f, il, PL_ROLE_ROUTER_SCALE, false, h, 0, 1);
			pl_emit(f, il, PL_ROLE_EXPERT_SCALE, false, f->layers[i].n_expert, 0, 1);
			pl_emit(f, il, PL_ROLE_FFN_PRE_NORM_2, false, h, 0, 1);
			pl_emit(f, il, PL_ROLE_FFN_POST_NORM_1, false, h, 0, 1);
			pl_emit(f, il, PL_ROLE_FFN_POST_NORM_2, false, h, 0, 1);
		}
		if (!p)
			continue;
		pl_emit(f, il, PL_ROLE_PER_LAYER_INP_GATE, false, h, p, 1);
		pl_emit(f, il, PL_ROLE_PER_LAYER_INP_PROJ, false, p, h, 1);
		pl_emit(f, il, PL_ROLE_PER_LAYER_POST_NORM, false, h, 0, 1);
	}
	if (p) {
		pl_emit(f, -1, PL_ROLE_PER_LAYER_EMBD, false, (uint64_t)p * n, U32(f, f->m->n_vocab, 1u << 28, "vocab_size_per_layer_input"), 1);
		pl_emit(f, -1, PL_ROLE_PER_LAYER_PROJ, false, h, (uint64_t)p * n, 1);
		pl_emit(f, -1, PL_ROLE_PER_LAYER_PROJ_NORM, false, p, 0, 1);
	}
	return f->rc;
}
