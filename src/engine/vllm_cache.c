/* The cache manager: kinds of layers, groups, pages, blocks (vllm/v1/core/kv_cache_utils.py). */
#include <string.h>

#include "base/checked.h"
#include "engine/vllm.h"
#include "memory/cache.h"

enum { DEFAULT_BLOCK = 16 };

/* Tokens of a block by attention backend: latent attention needs the sizes of its kernels. */
static uint32_t block_of(const struct vl_job *j, bool mla, bool sparse)
{
	if (j->p->block_size)
		return j->p->block_size;
	if (sparse)
		return 64;
	if (!mla)
		return DEFAULT_BLOCK;
	if (j->capability >= 10 && j->capability < 11)
		return j->rules.version >= 1300 ? 32 : 128; /* FlashInfer MLA; CUTLASS MLA before */
	if (j->capability >= 9 && j->capability < 10)
		return j->rules.version >= 1300 && j->kv_elem_bytes > 1 ? DEFAULT_BLOCK : 64; /* FlashAttention MLA; FlashMLA */
	return DEFAULT_BLOCK;
}

static bool same_type(const struct vl_type *x, const struct vl_type *y)
{
	return x->kind == y->kind && x->token_bytes == y->token_bytes && x->state_bytes == y->state_bytes &&
	       x->window_tokens == y->window_tokens;
}

static void add_type(struct vl_cache *c, const struct vl_type *t, bool on_stage)
{
	for (uint32_t i = 0; i < c->n_types; i++)
		if (same_type(&c->types[i], t)) {
			c->types[i].n_layers++;
			c->types[i].n_stage += on_stage;
			return;
		}
	if (c->n_types == VL_MAX_TYPES) {
		c->too_many_types = true;
		return;
	}
	c->types[c->n_types] = *t;
	c->types[c->n_types].n_layers = 1;
	c->types[c->n_types++].n_stage = on_stage;
}

/* DeepSeek's sparse layers may keep their latent row in 656 bytes (512 in FP8, 4 scales of 4 bytes, 64 rotary values in 16 bit):
 * to 0.11 always, later where the cache is FP8 and the kernel is not FlashInfer's for data-centre Blackwell, on its desktop
 * sisters always (attention/mla_attention.py, _canonicalize_sparse_mla_kv_cache_dtype). */
static bool packs_sparse_rows(const struct vl_job *j)
{
	bool fp8 = j->kv_elem_bytes == 1;
	if (j->rules.version < 1200)
		return !j->kv_type || fp8;
	if (j->capability >= 12)
		return !j->kv_type || fp8;
	return fp8 && !(j->capability >= 10 && j->rules.version >= 1700);
}

/* Bytes one token of a layer takes on one rank. An indexer adds its key in FP8 and a scale of 4 bytes by 128. */
static uint64_t token_bytes(const struct vl_job *j, const struct pl_layer *l, uint32_t tp)
{
	struct pl_cache_row row = pl_shard_cache_row(l, tp);
	uint64_t elems = pl_sat_add(row.k_elems, row.v_elems), bytes;
	if (j->rules.version < 1300 && l->attn == PL_ATTN_GQA && row.v_elems < row.k_elems)
		elems = pl_sat_mul(2, row.k_elems); /* values were padded to the width of keys */
	bytes = pl_sat_mul(elems, j->kv_elem_bytes);
	if (l->attn == PL_ATTN_MLA && row.indexer_elems && packs_sparse_rows(j))
		bytes = 656;
	if (row.indexer_elems)
		bytes = pl_sat_add(bytes, row.indexer_elems + pl_ceil_div(row.indexer_elems, 128) * 4);
	return bytes;
}

/* Recurrent state of one sequence: the short convolution in the model's type, the matrix in that type or in 32 bit where the
 * model's class says so (model_executor/models/config.py, layers/mamba/mamba_utils.py). */
static uint64_t state_bytes(const struct vl_job *j, const struct pl_layer *l, uint32_t tp)
{
	struct pl_state_row row = pl_shard_state_row(l, tp);
	const char *type = j->m->hf_type ? j->m->hf_type : "";
	const char *arch = j->m->arch ? j->m->arch : "";
	bool wide = l->rec == PL_REC_KDA || l->rec == PL_REC_LIGHTNING || !strncmp(type, "qwen3_5", 7) ||
	            !strncmp(arch, "qwen35", 6) || !strncmp(type, "nemotron", 8) || !strncmp(arch, "nemotron_h", 10);
	return pl_sat_add(pl_sat_mul(row.conv_elems, 2), pl_sat_mul(row.state_elems, wide ? 4 : 2));
}

static void layer_types(const struct vl_job *j, const struct pl_layer *l, uint32_t tp, bool on_stage, struct vl_cache *c)
{
	if (l->attn != PL_ATTN_NONE && l->kv_from_layer < 0 && !l->cross) {
		struct vl_type t = {.kind = VL_FULL, .token_bytes = token_bytes(j, l, tp)};
		/* chunks turn the grouping off (VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE) */
		if (l->window_tokens && !l->window_chunked && j->rules.hybrid_groups) {
			t.kind = VL_WINDOW;
			t.window_tokens = l->window_tokens;
		}
		add_type(c, &t, on_stage);
	}
	if (l->rec != PL_REC_NONE) {
		struct vl_type t = {.kind = VL_STATE, .state_bytes = state_bytes(j, l, tp)};
		add_type(c, &t, on_stage);
	}
}

static void collect(const struct vl_job *j, const struct sv_place *pl, const struct pl_shard_stage *s, struct vl_cache *c)
{
	uint32_t n = j->m->n_layers + (j->p->draft.mtp ? j->m->n_layers_mtp : 0);
	if (j->m->is_embedding) /* an encoder reads its input once */
		return;
	for (uint32_t i = 0; i < n; i++) {
		bool here = i < j->m->n_layers ? i >= s->first_layer && i < s->end_layer : s->has_mtp;
		layer_types(j, &j->m->layers[i], pl->tp, here, c);
	}
	const struct pl_model *draft = j->p->draft.model; /* its layers join the groups of the last stage */
	for (uint32_t i = 0; draft && i < draft->n_layers; i++)
		layer_types(j, &draft->layers[i], pl->tp, s->has_output, c);
}

static bool of_kind(const struct vl_cache *c, enum vl_kind k)
{
	for (uint32_t i = 0; i < c->n_types; i++)
		if (c->types[i].kind == k)
			return true;
	return false;
}

/* Hybrids: the attention page grows until the state of one sequence fits in it, and the state is padded to it
 * (platforms/interface.py, _align_hybrid_block_size). */
static void align_with_state(struct vl_cache *c)
{
	uint64_t state = 0, token = 0;
	for (uint32_t i = 0; i < c->n_types; i++) {
		if (c->types[i].kind == VL_STATE)
			state = pl_max_u64(state, c->types[i].state_bytes);
		else
			token = pl_max_u64(token, c->types[i].token_bytes);
	}
	if (!state || !token)
		return;
	uint64_t unit = pl_sat_mul(c->block_tokens, token);
	c->block_tokens = (uint32_t)pl_min_u64(pl_sat_mul(c->block_tokens, pl_ceil_div(state, unit)), UINT32_MAX / 2);
}

/* Ranks that a sequence's tokens are dealt out to. */
static uint64_t parts_of(const struct vl_job *j)
{
	return j->p->decode_context_parallel > 1 ? j->p->decode_context_parallel : 1;
}

/* Pages of one request of max_model_len, by kind. */
static uint64_t pages_of(const struct vl_job *j, const struct vl_type *t, uint64_t block, uint32_t mnbt)
{
	uint64_t len = j->max_model_len, drafted = j->p->draft.mtp || j->p->draft.model ? (j->p->draft.n_max ? j->p->draft.n_max : 1) : 0;
	bool align = j->p->prefix_caching_on; /* a snapshot beside the running state; hybrids cache no prefixes unasked */
	switch (t->kind) {
	case VL_WINDOW:
		return pl_ceil_div(pl_min_u64(pl_sat_add(t->window_tokens - 1, mnbt), len), block) + 1;
	case VL_STATE:
		return (align ? 2 : 1) + drafted;
	case VL_FULL:
		break;
	}
	return pl_ceil_div(pl_ceil_div(len, parts_of(j)), block);
}

static uint64_t page_of(const struct vl_cache *c, const struct vl_type *t)
{
	return t->kind == VL_STATE ? t->state_bytes : pl_sat_mul(t->token_bytes, c->block_tokens);
}

/* Only attention of one kind: one group; layers may differ in width and then share a block of the sum of their pages. */
static void one_group(const struct vl_job *j, struct vl_cache *c, uint32_t mnbt)
{
	c->n_groups = 1;
	c->uniform = true;
	for (uint32_t i = 0; i < c->n_types; i++) {
		uint64_t page = page_of(c, &c->types[i]);
		c->page_bytes = pl_max_u64(c->page_bytes, page);
		c->block_bytes = pl_sat_add(c->block_bytes, pl_sat_mul(page, c->types[i].n_stage));
		c->blocks_per_request = pl_max_u64(c->blocks_per_request, pages_of(j, &c->types[i], c->block_tokens, mnbt));
	}
}

/* Layers of a kind are dealt into groups of equal length; a block is one page of every member of a group. */
static void many_groups(const struct vl_job *j, struct vl_cache *c, uint32_t mnbt)
{
	uint32_t least = UINT32_MAX, most = 0, size, stage = 0;
	for (uint32_t i = 0; i < c->n_types; i++) {
		c->page_bytes = pl_max_u64(c->page_bytes, page_of(c, &c->types[i]));
		least = c->types[i].n_layers < least ? c->types[i].n_layers : least;
		most = c->types[i].n_layers > most ? c->types[i].n_layers : most;
	}
	size = j->rules.group_by_max && most < least * 1.5 ? most : least;
	for (uint32_t i = 0; i < c->n_types; i++) {
		const struct vl_type *t = &c->types[i];
		uint64_t page = page_of(c, t), block = c->block_tokens;
		uint32_t groups = (uint32_t)pl_ceil_div(t->n_layers, size), here = (uint32_t)pl_ceil_div(t->n_stage, groups);
		if (t->kind != VL_STATE && page && c->page_bytes % page == 0)
			block = pl_sat_mul(block, c->page_bytes / page);
		c->n_groups += groups;
		c->blocks_per_request = pl_sat_add(c->blocks_per_request, pl_sat_mul(groups, pages_of(j, t, block, mnbt)));
		stage = here > stage ? here : stage;
	}
	c->block_bytes = pl_sat_mul(c->page_bytes, stage);
}

void vl_cache_build(const struct vl_job *j, const struct sv_place *pl, const struct pl_shard_stage *s, uint32_t mnbt,
                    struct vl_cache *c)
{
	bool mla = false, sparse = false, one_kind = true;
	*c = (struct vl_cache){0};
	if (vl_is_compressed(j->m)) {
		vl_cache_compressed(j, s, mnbt, c);
		return;
	}
	for (uint32_t i = 0; i < j->m->n_layers; i++) {
		mla |= j->m->layers[i].attn == PL_ATTN_MLA;
		sparse |= j->m->layers[i].attn == PL_ATTN_MLA && j->m->layers[i].indexer_heads;
	}
	c->block_tokens = block_of(j, mla, sparse);
	collect(j, pl, s, c);
	if (of_kind(c, VL_STATE))
		align_with_state(c);
	for (uint32_t i = 1; i < c->n_types; i++)
		one_kind &= c->types[i].kind == c->types[0].kind && c->types[i].window_tokens == c->types[0].window_tokens;
	if (!c->n_types)
		return;
	if (one_kind)
		one_group(j, c, mnbt);
	else
		many_groups(j, c, mnbt);
}

double vl_cache_concurrency(const struct vl_cache *c, uint64_t n_blocks)
{
	return c->blocks_per_request ? (double)n_blocks / (double)c->blocks_per_request : 0;
}

uint64_t vl_cache_tokens(const struct vl_job *j, const struct vl_cache *c, uint64_t n_blocks)
{
	if (!c->n_groups)
		return 0;
	if (j->rules.tokens_by_concurrency)
		return (uint64_t)(vl_cache_concurrency(c, n_blocks) * (double)j->max_model_len);
	return pl_sat_mul(n_blocks / c->n_groups, pl_sat_mul(c->block_tokens, parts_of(j)));
}

/* What one more token of one sequence takes on all ranks of one replica, once windows are full. */
uint64_t vl_token_bytes(const struct vl_job *j, uint32_t tp)
{
	uint64_t sum = 0;
	if (vl_is_compressed(j->m)) {
		struct pl_shard_stage all = {.end_layer = j->m->n_layers};
		return pl_sat_mul(tp, vl_compressed_token_bytes(j, &all));
	}
	for (uint32_t i = 0; i < j->m->n_layers; i++) {
		const struct pl_layer *l = &j->m->layers[i];
		if (l->attn == PL_ATTN_NONE || l->kv_from_layer >= 0 || l->cross ||
		    (l->window_tokens && !l->window_chunked && j->rules.hybrid_groups))
			continue;
		sum = pl_sat_add(sum, pl_sat_mul(tp, token_bytes(j, l, tp)));
	}
	return sum / parts_of(j);
}
