/* DeepSeek 1, V2, V3, R1, V3.2, Kimi K2, GLM-4.7-Flash, GLM-5: latent attention, shared experts, first layers dense. */
#include <string.h>

#include "model/hf.h"

/* GLM-5.2: a layer may reuse the tokens chosen by an earlier one. */
static bool has_indexer(struct pl_hf *c, uint32_t il)
{
	if (!(c->parts[il] & PL_P_INDEXER))
		return false;
	if (!pl_hf_has(c, "indexer_types") || il >= c->m->n_layers)
		return true;
	return strcmp(pl_hf_str_at(c, "indexer_types", il), "shared") != 0;
}

static void mla(struct pl_hf *c)
{
	const uint32_t heads = pl_hf_need(c, "num_attention_heads", PL_HF_MAX_HEADS);
	const uint32_t q_lora = pl_hf_u32(c, "q_lora_rank", 0, PL_HF_MAX_DIM, 0);
	const uint32_t kv_lora = pl_hf_need(c, "kv_lora_rank", PL_HF_MAX_DIM);
	const uint32_t nope = pl_hf_need(c, "qk_nope_head_dim", 65536), rope = pl_hf_need(c, "qk_rope_head_dim", 65536);
	const uint32_t v = pl_hf_need(c, "v_head_dim", 65536);
	const uint32_t ni = pl_hf_u32(c, "index_n_heads", 0, PL_HF_MAX_HEADS, 0);
	const uint32_t di = pl_hf_u32(c, "index_head_dim", 0, 65536, 0), top = pl_hf_u32(c, "index_topk", 0, PL_HF_MAX_CTX, 0);
	for (uint32_t il = 0; il < pl_hf_n_all(c); il++) {
		struct pl_layer *l = &c->layers[il];
		l->attn = PL_ATTN_MLA;
		l->n_head = heads;
		l->n_head_kv = 1;
		l->d_k = nope + rope;
		l->d_v = v;
		l->q_lora = q_lora;
		l->kv_lora = kv_lora;
		l->d_rope = rope;
		l->d_nope = nope;
		if (ni && di && q_lora && has_indexer(c, il)) {
			l->indexer_heads = ni;
			l->indexer_dim = di;
			l->indexer_topk = top;
		} else {
			c->parts[il] &= ~PL_P_INDEXER;
		}
	}
}

static bool is_dense(struct pl_hf *c, uint32_t il, uint32_t first, uint32_t freq)
{
	if (il < c->m->n_layers && pl_hf_has(c, "mlp_layer_types"))
		return !strcmp(pl_hf_str_at(c, "mlp_layer_types", il), "dense");
	return il < first || il % freq != 0;
}

void pl_hf_read_deepseek(struct pl_hf *c)
{
	pl_hf_base(c, pl_hf_u32(c, "num_nextn_predict_layers", 0, 64, 0));
	if (pl_hf_has(c, "kv_lora_rank"))
		mla(c);
	else
		pl_hf_attention(c);
	const uint32_t n = pl_hf_need(c, "n_routed_experts", PL_HF_MAX_EXPERTS);
	const uint32_t used = pl_hf_need(c, "num_experts_per_tok", n), ff = pl_hf_need(c, "moe_intermediate_size", PL_HF_MAX_DIM);
	const uint32_t shared = pl_hf_u32(c, "n_shared_experts", 0, 1024, 0);
	const uint32_t first = pl_hf_u32(c, "first_k_dense_replace", 0, PL_HF_MAX_LAYERS, 0);
	const uint32_t freq = pl_hf_u32(c, "moe_layer_freq", 1, PL_HF_MAX_LAYERS, 1);
	const uint32_t ff_dense = pl_hf_need(c, "intermediate_size", PL_HF_MAX_DIM);
	if ((uint64_t)ff * shared > PL_HF_MAX_DIM)
		pl_hf_fail(c, "%u shared experts of width %u are wider than %u", shared, ff, PL_HF_MAX_DIM);
	for (uint32_t il = 0; il < pl_hf_n_all(c) && !c->rc; il++) {
		if (!is_dense(c, il, first, freq)) {
			pl_hf_moe(c, il, n, used, ff, shared, ff * shared);
			continue;
		}
		c->layers[il].ffn = PL_FFN_GATED;
		c->layers[il].n_ff = ff_dense;
	}
	pl_hf_mtp(c, PL_P_NEXTN_HEADNORM);
}
