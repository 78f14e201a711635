#include "memory/step.h"

#include "base/checked.h"

uint64_t pl_step_ffn_width(const struct pl_layer *l, uint64_t n_embd, uint32_t dense_parts, uint32_t expert_parts)
{
	uint64_t dense = pl_ceil_div(pl_max_u64(l->n_ff, l->n_ff_shared), dense_parts);
	uint64_t inner = l->ffn == PL_FFN_PLAIN ? 2 * dense : 3 * dense;
	if (l->ffn == PL_FFN_MOE) { /* outputs of the first matrix and of the second share a buffer; the activated half its own */
		uint64_t wide = pl_ceil_div(l->n_ff_expert, expert_parts);
		inner = pl_max_u64(inner, pl_sat_mul(l->n_expert_used, pl_max_u64(2 * wide, n_embd) + wide));
	}
	return inner;
}

uint64_t pl_step_mixer_width(const struct pl_layer *l, uint32_t parts)
{
	uint64_t heads = pl_ceil_div(l->n_head, parts), kv = l->n_head_kv > parts ? pl_ceil_div(l->n_head_kv, parts) : 1, inner = 0;
	if (l->attn == PL_ATTN_GQA) /* fused projection, rotated queries and keys, output */
		inner = 2 * (heads + kv) * l->d_k + (heads + kv) * l->d_v + (l->q_gated ? heads * l->d_k : 0);
	if (l->attn == PL_ATTN_MLA) /* prompts expand the latent rows into keys and values of every head */
		inner = heads * (2ull * l->d_k + l->d_nope + 2ull * l->d_v) + l->q_lora + l->kv_lora + l->d_rope;
	if (l->rec != PL_REC_NONE)
		inner = pl_max_u64(inner, 4 * pl_ceil_div(pl_max_u64(l->d_inner, (uint64_t)l->rec_heads * l->rec_d_v), parts));
	return inner;
}
