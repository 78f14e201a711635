/* DeepSeek V4: one key-value head that is key and value, compressed caches, hyper-connections. Source: llama.cpp
 * src/models/deepseek4.cpp. Its caches are of kinds that struct pl_layer does not describe. */
#include "model/hf.h"

static void named(struct pl_hf *c, int64_t il, enum pl_group g, const char *name, uint32_t n_dims, uint64_t d0, uint64_t d1,
                  uint64_t d2)
{
	pl_hf_emit_named(c, il, PL_ROLE_OTHER, g, name, n_dims, d0, d1, d2);
}

static void hyper(struct pl_hf *c, uint32_t il, uint64_t m)
{
	const uint64_t h = c->m->n_embd, mix = (2 + m) * m;
	named(c, il, PL_GROUP_ATTN, "hc_attn_fn.weight", 2, m * h, mix, 1);
	named(c, il, PL_GROUP_ATTN, "hc_attn_base.weight", 1, mix, 1, 1);
	named(c, il, PL_GROUP_ATTN, "hc_attn_scale.weight", 1, 3, 1, 1);
	named(c, il, PL_GROUP_FFN, "hc_ffn_fn.weight", 2, m * h, mix, 1);
	named(c, il, PL_GROUP_FFN, "hc_ffn_base.weight", 1, mix, 1, 1);
	named(c, il, PL_GROUP_FFN, "hc_ffn_scale.weight", 1, 3, 1, 1);
}

static void compressor(struct pl_hf *c, uint32_t il, uint64_t ratio)
{
	const struct pl_layer *l = &c->layers[il];
	const uint64_t h = c->m->n_embd, d = l->d_k, wide = ratio == 4 ? 2 * d : d;
	const uint64_t ni = pl_hf_need(c, "index_n_heads", PL_HF_MAX_HEADS), di = pl_hf_need(c, "index_head_dim", 65536);
	named(c, il, PL_GROUP_ATTN, "attn_compressor_kv.weight", 2, h, wide, 1);
	named(c, il, PL_GROUP_ATTN, "attn_compressor_gate.weight", 2, h, wide, 1);
	named(c, il, PL_GROUP_ATTN, "attn_compressor_ape.weight", 2, wide, ratio, 1);
	named(c, il, PL_GROUP_ATTN, "attn_compressor_norm.weight", 1, d, 1, 1);
	if (ratio != 4)
		return;
	pl_hf_emit(c, il, PL_ROLE_INDEXER_PROJ, false, 2, h, ni, 1);
	pl_hf_emit(c, il, PL_ROLE_INDEXER_Q_B, false, 2, l->q_lora, ni * di, 1);
	named(c, il, PL_GROUP_ATTN, "indexer_compressor_kv.weight", 2, h, 2 * di, 1);
	named(c, il, PL_GROUP_ATTN, "indexer_compressor_gate.weight", 2, h, 2 * di, 1);
	named(c, il, PL_GROUP_ATTN, "indexer_compressor_ape.weight", 2, 2 * di, ratio, 1);
	named(c, il, PL_GROUP_ATTN, "indexer_compressor_norm.weight", 1, di, 1, 1);
}

static void more_layer(struct pl_hf *c, uint32_t il)
{
	const struct pl_layer *l = &c->layers[il];
	const uint64_t h = c->m->n_embd, q = (uint64_t)l->n_head * l->d_k;
	const uint64_t groups = pl_hf_need(c, "o_groups", PL_HF_MAX_HEADS), rank = pl_hf_need(c, "o_lora_rank", PL_HF_MAX_DIM);
	const uint32_t hash = pl_hf_u32(c, "num_hash_layers", 0, PL_HF_MAX_LAYERS, 0);
	pl_hf_emit(c, il, PL_ROLE_ATTN_SINKS, false, 1, l->n_head, 1, 1);
	pl_hf_emit(c, il, PL_ROLE_ATTN_Q_A, false, 2, h, l->q_lora, 1);
	pl_hf_emit(c, il, PL_ROLE_ATTN_Q_A_NORM, false, 1, l->q_lora, 1, 1);
	pl_hf_emit(c, il, PL_ROLE_ATTN_Q_B, false, 2, l->q_lora, q, 1);
	named(c, il, PL_GROUP_ATTN, "attn_kv.weight", 2, h, l->d_k, 1);
	named(c, il, PL_GROUP_ATTN, "attn_kv_a_norm.weight", 1, l->d_k, 1, 1);
	named(c, il, PL_GROUP_ATTN, "attn_output_a.weight", 3, q / groups, rank, groups);
	named(c, il, PL_GROUP_ATTN, "attn_output_b.weight", 2, groups * rank, h, 1);
	hyper(c, il, pl_hf_need(c, "hc_mult", 64));
	/* the list may or may not go on for the next-token layers, which do not compress */
	const uint32_t ratio = il < c->m->n_layers ? pl_hf_u32_at(c, "compress_ratios", il, 1 << 20, 0) : 0;
	if (ratio)
		compressor(c, il, ratio);
	if (il < hash)
		named(c, il, PL_GROUP_ROUTER, "ffn_gate_tid2eid.weight", 2, l->n_expert_used, c->m->n_vocab, 1);
	else
		pl_hf_emit(c, il, PL_ROLE_ROUTER_BIAS, true, 1, l->n_expert, 1, 1);
}

static void more_model(struct pl_hf *c)
{
	const uint64_t m = pl_hf_need(c, "hc_mult", 64);
	named(c, -1, PL_GROUP_OUTPUT, "output_hc_fn.weight", 2, m * c->m->n_embd, m, 1);
	named(c, -1, PL_GROUP_OUTPUT, "output_hc_base.weight", 1, m, 1, 1);
	named(c, -1, PL_GROUP_OUTPUT, "output_hc_scale.weight", 1, 1, 1, 1);
}

void pl_hf_read_deepseek4(struct pl_hf *c)
{
	pl_hf_base(c, pl_hf_u32(c, "num_nextn_predict_layers", 0, 64, 0));
	if (c->rc)
		return;
	const uint32_t n = pl_hf_need(c, "n_routed_experts", PL_HF_MAX_EXPERTS), used = pl_hf_need(c, "num_experts_per_tok", n);
	const uint32_t ff = pl_hf_need(c, "moe_intermediate_size", PL_HF_MAX_DIM), shared = pl_hf_u32(c, "n_shared_experts", 0, 16, 0);
	const uint32_t heads = pl_hf_need(c, "num_attention_heads", PL_HF_MAX_HEADS), d = pl_hf_need(c, "head_dim", 65536);
	const uint32_t q_lora = pl_hf_need(c, "q_lora_rank", PL_HF_MAX_DIM), window = pl_hf_u32(c, "sliding_window", 0, PL_HF_MAX_CTX, 128);
	for (uint32_t il = 0; il < pl_hf_n_all(c) && !c->rc; il++) {
		struct pl_layer *l = &c->layers[il];
		pl_hf_moe(c, il, n, used, ff, shared, ff <= PL_HF_MAX_DIM / 16 ? ff * shared : PL_HF_MAX_DIM);
		l->n_head = heads;
		l->n_head_kv = 1;
		l->d_k = l->d_v = d;
		l->k_is_v = true;
		l->q_lora = q_lora;
		l->window_tokens = window;
	}
	pl_hf_mtp(c, PL_P_NEXTN_HEADNORM);
	c->more_layer = more_layer;
	c->more_model = more_model;
	c->m->arch_known = false;
	pl_note_add(c->a, &c->m->notes, PL_NOTE_WARNING,
	            PL_N_("the compressed caches of DeepSeek V4 are not modelled: its weights are exact, its cache is not"));
}
