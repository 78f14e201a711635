/* DeepSeek V4 in vLLM: every layer keeps a window of latent rows; most keep rows of 4 or 128 tokens compressed into one for the
 * whole context, with the compressor's state beside, and layers of ratio 4 an index of the compressed rows.
 * v1/core/kv_cache_utils.py (_get_kv_cache_groups_uniform_groups, _get_kv_cache_config_packed), models/deepseek_v4/, 0.24. */
#include <string.h>

#include "base/checked.h"
#include "engine/vllm.h"

enum {
	BLOCK = 256,       /* tokens of a block of compressed rows */
	WINDOW_BLOCK = 64, /* of a block of the window */
	ALIGN = 576,       /* pages are whole multiples for FlashMLA */
	ROW_BYTES = 584,   /* 448 values in FP8, 64 rotary ones in 16 bit, 8 bytes of scales */
	INDEX_BYTES = 132  /* a key of 128 in FP8 and its scale */
};

struct counts {
	uint64_t all, by_4, by_128; /* layers of the stage */
};

/* A compressor's position table has as many rows as it compresses tokens. */
static struct counts count(const struct pl_model *m, const struct pl_shard_stage *s)
{
	struct counts n = {.all = s->end_layer - s->first_layer};
	for (uint32_t i = 0; i < m->n_tensors; i++) {
		const struct pl_tensor *t = &m->tensors[i];
		if (t->layer < (int32_t)s->first_layer || t->layer >= (int32_t)s->end_layer || !strstr(t->name, "attn_compressor_ape"))
			continue;
		n.by_4 += t->ne[1] == 4;
		n.by_128 += t->ne[1] == 128;
	}
	return n;
}

static uint64_t padding(const uint64_t *x, size_t n, uint64_t to)
{
	uint64_t sum = 0;
	for (size_t i = 0; i < n; i++)
		sum += pl_round_up(x[i], to) - x[i];
	return sum;
}

/* Layers of a group, so that rounding all kinds up to it pads least; ties take the larger. */
static uint64_t group_size(const uint64_t *x, size_t n)
{
	uint64_t most = 0, best = x[0] ? x[0] : 1;
	for (size_t i = 0; i < n; i++)
		most = pl_max_u64(most, x[i]);
	for (uint64_t d = best; d <= most; d++)
		if (padding(x, n, d) <= padding(x, n, best))
			best = d;
	return best;
}

bool vl_is_compressed(const struct pl_model *m)
{
	return m->hf_type && !strcmp(m->hf_type, "deepseek_v4");
}

void vl_cache_compressed(const struct vl_job *j, const struct pl_shard_stage *s, uint32_t mnbt, struct vl_cache *c)
{
	struct counts n = count(j->m, s);
	uint64_t row = pl_round_up(WINDOW_BLOCK * ROW_BYTES, ALIGN), index = pl_round_up(WINDOW_BLOCK * INDEX_BYTES, ALIGN);
	uint64_t coarse = pl_round_up(BLOCK / 128 * ROW_BYTES, ALIGN), len = j->max_model_len;
	uint64_t kinds[] = {pl_max_u64(n.by_4, n.by_128), n.all, n.by_4, n.by_128};
	uint64_t size = group_size(kinds, 4), windows = pl_ceil_div(n.all, size);
	/* pages of one request: the context, the window, and what both compressors look back on */
	uint64_t full = pl_ceil_div(len, BLOCK), window = pl_ceil_div(pl_min_u64(127 + (uint64_t)mnbt, len), WINDOW_BLOCK) + 1;
	uint64_t state_4 = pl_ceil_div(pl_min_u64(7 + (uint64_t)mnbt, len), 4) + 1;
	uint64_t state_128 = pl_ceil_div(pl_min_u64(127 + (uint64_t)mnbt, len), 8) + 1;
	c->n_types = 1;
	c->n_groups = (uint32_t)(1 + windows + (n.by_4 > 0) + (n.by_128 > 0));
	c->block_tokens = BLOCK;
	c->page_bytes = row;
	c->block_bytes = pl_max_u64(pl_min_u64(n.all, size), n.by_4) * row + n.by_4 * index + n.by_128 * coarse;
	c->blocks_per_request = full + windows * window + (n.by_4 ? state_4 : 0) + (n.by_128 ? state_128 : 0);
}

/* Growth of the context's own rows: a block of every group member for 256 tokens. */
uint64_t vl_compressed_token_bytes(const struct vl_job *j, const struct pl_shard_stage *s)
{
	struct vl_cache c = {0};
	vl_cache_compressed(j, s, 1, &c);
	return c.block_bytes / BLOCK;
}
