#include "memory/cache.h"

#include "base/checked.h"

struct pl_cache_row pl_layer_cache_row(const struct pl_layer *l)
{
	struct pl_cache_row row = {0};
	if (l->attn == PL_ATTN_NONE || l->kv_from_layer >= 0)
		return row;
	if (l->attn == PL_ATTN_MLA) {
		row.k_elems = (uint64_t)l->kv_lora + l->d_rope;
	} else {
		row.k_elems = pl_sat_mul(l->n_head_kv, l->d_k);
		row.v_elems = pl_sat_mul(l->n_head_kv, l->d_v);
	}
	row.indexer_elems = l->indexer_heads ? l->indexer_dim : 0;
	return row;
}

static uint64_t conv_tokens(const struct pl_layer *l)
{
	return l->d_conv ? l->d_conv - 1 : 0; /* the oldest input of the kernel is shifted out at once */
}

struct pl_state_row pl_layer_state_row(const struct pl_layer *l)
{
	struct pl_state_row row = {0};
	uint64_t channels = l->d_inner;
	switch (l->rec) {
	case PL_REC_NONE:
		break;
	case PL_REC_MAMBA1:
	case PL_REC_MAMBA2:
		channels = pl_sat_add(channels, pl_sat_mul(2, pl_sat_mul(l->n_group, l->d_state)));
		row.conv_elems = pl_sat_mul(conv_tokens(l), channels);
		row.state_elems = pl_sat_mul(l->d_state, l->d_inner);
		break;
	case PL_REC_DELTANET: /* query and key heads share a width, values have their own */
		channels = pl_sat_add(pl_sat_mul(l->rec_heads, l->rec_d_v), pl_sat_mul(2, pl_sat_mul(l->rec_k_heads, l->rec_d_k)));
		row.conv_elems = pl_sat_mul(conv_tokens(l), channels);
		row.state_elems = pl_sat_mul(l->rec_heads, pl_sat_mul(l->rec_d_k, l->rec_d_v));
		break;
	case PL_REC_KDA: /* one convolution each for queries, keys and values */
		row.conv_elems = pl_sat_mul(3, pl_sat_mul(conv_tokens(l), pl_sat_mul(l->rec_heads, l->rec_d_k)));
		row.state_elems = pl_sat_mul(l->rec_heads, pl_sat_mul(l->rec_d_k, l->rec_d_v));
		break;
	case PL_REC_SHORTCONV:
		row.conv_elems = pl_sat_mul(conv_tokens(l), channels);
		break;
	case PL_REC_RWKV:
		row.conv_elems = pl_sat_mul(conv_tokens(l), channels);
		row.state_elems = pl_sat_mul(l->rec_heads, pl_sat_mul(l->rec_d_k, l->rec_d_v));
		break;
	case PL_REC_LIGHTNING:
		row.state_elems = pl_sat_mul(l->rec_heads, pl_sat_mul(l->rec_d_k, l->rec_d_v));
		break;
	}
	return row;
}
