#include "memory/shard.h"

#include "base/checked.h"
#include "memory/cache.h"

static uint64_t part(uint64_t bytes, uint64_t n)
{
	return pl_ceil_div(bytes, n ? n : 1);
}

/* a × b / c of sizes, without overflow on the way: c divides into small numbers here. */
static uint64_t share(uint64_t bytes, uint64_t b, uint64_t c)
{
	if (!c)
		return bytes;
	uint64_t whole = pl_sat_mul(bytes / c, b), rest = pl_ceil_div(pl_sat_mul(bytes % c, b), c);
	return pl_sat_add(whole, rest);
}

/* KV heads of one rank: an even share, or one head that several ranks repeat. */
static uint32_t kv_heads(uint32_t n_head_kv, uint32_t ranks)
{
	return n_head_kv > ranks ? (uint32_t)pl_ceil_div(n_head_kv, ranks) : 1;
}

bool pl_shard_heads_divide(const struct pl_model *m, uint32_t ranks)
{
	for (uint32_t i = 0; i < m->n_layers; i++) {
		const struct pl_layer *l = &m->layers[i];
		if (l->attn != PL_ATTN_NONE && l->n_head && l->n_head % ranks)
			return false;
		if (l->attn == PL_ATTN_GQA && l->n_head_kv && l->n_head_kv % ranks && ranks % l->n_head_kv)
			return false;
		if ((l->rec == PL_REC_DELTANET || l->rec == PL_REC_KDA || l->rec == PL_REC_MAMBA2) && l->rec_heads % ranks)
			return false;
	}
	return true;
}

static uint64_t fused_qkv(const struct pl_layer *l, uint64_t bytes, uint32_t ranks)
{
	uint64_t kv = (uint64_t)l->n_head_kv * ((uint64_t)l->d_k + l->d_v), q = (uint64_t)l->n_head * l->d_k;
	uint64_t kv_local = (uint64_t)kv_heads(l->n_head_kv, ranks) * ((uint64_t)l->d_k + l->d_v);
	if (!l->n_head_kv || !(q + kv))
		return part(bytes, ranks);
	return share(bytes, pl_ceil_div(q, ranks) + kv_local, q + kv);
}

static const struct pl_layer *layer_of(const struct pl_model *m, const struct pl_tensor *t)
{
	static const struct pl_layer none;
	return t->layer >= 0 && (uint32_t)t->layer < m->n_layers + m->n_layers_mtp ? &m->layers[t->layer] : &none;
}

static uint64_t vocab(const struct pl_tensor *t, const struct pl_shard_cut *cut)
{
	uint64_t rows = t->ne[1], padded = cut->vocab_multiple ? pl_round_up(rows, cut->vocab_multiple) : rows;
	if (t->n_dims != 2 || !rows)
		return part(t->bytes, cut->vocab);
	return share(t->bytes, pl_ceil_div(padded, cut->vocab), rows);
}

static uint64_t expert(const struct pl_tensor *t, const struct pl_shard_cut *cut)
{
	uint64_t n = t->n_stacked ? t->n_stacked : 1;
	uint64_t mine = n > 1 ? share(t->bytes, pl_ceil_div(n, cut->expert_ranks), n) : t->bytes;
	return part(mine, cut->expert);
}

static uint32_t cut_of_group(const struct pl_tensor *t, const struct pl_shard_cut *cut)
{
	switch (t->group) {
	case PL_GROUP_ATTN:
	case PL_GROUP_RECURRENT:
		return cut->attn;
	case PL_GROUP_EMBED:
	case PL_GROUP_OUTPUT:
		return cut->vocab;
	default:
		return cut->ffn;
	}
}

/* A next-token-prediction layer is a layer: its attention, feed forward and experts are cut like the trunk's. */
static uint32_t cut_of(const struct pl_tensor *t, const struct pl_shard_cut *cut)
{
	struct pl_tensor as_role = *t;
	as_role.group = pl_role_info(t->role)->group;
	return cut_of_group(&as_role, cut);
}

uint64_t pl_shard_tensor_bytes(const struct pl_model *m, const struct pl_tensor *t, const struct pl_shard_cut *cut)
{
	const struct pl_layer *l = layer_of(m, t);
	uint32_t n = cut_of(t, cut);
	if (t->group == PL_GROUP_VISION || t->group == PL_GROUP_ENCODER)
		return part(t->bytes, cut->vision);
	switch (pl_role_info(t->role)->shard) {
	case PL_SHARD_COLUMN:
		return t->role == PL_ROLE_ATTN_QKV ? fused_qkv(l, t->bytes, n) : part(t->bytes, n);
	case PL_SHARD_ROW: /* a bias is added once, after the sum: every rank has it whole */
		return t->is_bias ? t->bytes : part(t->bytes, n);
	case PL_SHARD_KV_HEADS:
		return l->n_head_kv ? share(t->bytes, kv_heads(l->n_head_kv, n), l->n_head_kv) : t->bytes;
	case PL_SHARD_VOCAB:
		return vocab(t, cut);
	case PL_SHARD_EXPERT:
		return expert(t, cut);
	case PL_SHARD_REPLICATE:
		break;
	}
	return t->bytes;
}

bool pl_shard_stage_holds(const struct pl_model *m, const struct pl_shard_stage *s, const struct pl_tensor *t)
{
	if (t->group == PL_GROUP_MTP || (t->layer >= 0 && (uint32_t)t->layer >= m->n_layers))
		return s->has_mtp;
	if (t->layer >= 0)
		return (uint32_t)t->layer >= s->first_layer && (uint32_t)t->layer < s->end_layer;
	if (t->group == PL_GROUP_VISION)
		return s->has_input && !s->no_towers;
	if (t->group == PL_GROUP_OUTPUT)
		return s->has_output;
	if (t->role == PL_ROLE_TOKEN_EMBD && m->tied_output && s->has_output)
		return true;
	return s->has_input;
}

uint64_t pl_shard_stage_bytes(const struct pl_model *m, const struct pl_shard_stage *s, const struct pl_shard_cut *cut)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i < m->n_tensors; i++)
		if (pl_shard_stage_holds(m, s, &m->tensors[i]))
			sum = pl_sat_add(sum, pl_shard_tensor_bytes(m, &m->tensors[i], cut));
	return sum;
}

struct pl_cache_row pl_shard_cache_row(const struct pl_layer *l, uint32_t ranks)
{
	struct pl_layer mine = *l;
	if (l->attn == PL_ATTN_GQA && l->n_head_kv)
		mine.n_head_kv = kv_heads(l->n_head_kv, ranks);
	return pl_layer_cache_row(&mine);
}

struct pl_state_row pl_shard_state_row(const struct pl_layer *l, uint32_t ranks)
{
	struct pl_layer mine = *l;
	if (l->rec == PL_REC_NONE || ranks <= 1)
		return pl_layer_state_row(l);
	mine.d_inner = (uint32_t)pl_ceil_div(l->d_inner, ranks);
	mine.rec_heads = (uint32_t)pl_ceil_div(l->rec_heads, ranks);
	mine.rec_k_heads = (uint32_t)pl_ceil_div(l->rec_k_heads, ranks);
	mine.n_group = l->n_group % ranks ? l->n_group : l->n_group / ranks;
	return pl_layer_state_row(&mine);
}
