/* TensorRT-LLM's pools: tokens, windows, states (tensorrt_llm/_torch/pyexecutor/resource_manager.py, _util.py,
 * _torch/speculative/utils.py) and adapters (cpp/tensorrt_llm/batch_manager/peftCacheManager.cpp). */
#include "base/checked.h"
#include "engine/tensorrt_llm.h"
#include "memory/cache.h"

enum { MAX_WINDOWS = 8 };

/* Layers that see equally far share a pool. */
struct windows {
	uint32_t n;
	uint64_t tokens[MAX_WINDOWS], cell_bytes[MAX_WINDOWS];
};

/* The pattern repeats over the layers of the rank; windows beyond the longest sequence are that long. */
static uint64_t window_of(const struct sv_job *j, uint32_t local)
{
	const struct pl_params *p = j->p;
	if (!p->n_max_attention_window)
		return j->n_ctx;
	return pl_min_u64(p->max_attention_window[local % p->n_max_attention_window], j->n_ctx);
}

static void add_layer(struct windows *w, uint64_t tokens, uint64_t bytes)
{
	uint32_t i = 0;
	while (i < w->n && w->tokens[i] != tokens)
		i++;
	if (i == MAX_WINDOWS) /* more kinds than any model has: the last stands for the rest */
		i--;
	if (i == w->n)
		w->tokens[w->n++] = tokens;
	w->cell_bytes[i] = pl_sat_add(w->cell_bytes[i], bytes);
}

static uint64_t layer_bytes(const struct sv_job *j, const struct pl_layer *l, uint32_t tp)
{
	struct pl_cache_row row = pl_shard_cache_row(l, tp);
	uint64_t bytes = pl_sat_mul(pl_sat_add(row.k_elems, row.v_elems), j->kv_elem_bytes);
	return row.indexer_elems ? pl_sat_add(bytes, row.indexer_elems + row.indexer_elems / 128 * 4) : bytes;
}

/* Prediction layers: one for each token drafted, though one is loaded and runs again. EAGLE 3's one layer is inside the target's cache,
 * another model has a cache of its own, of as many tokens. */
static void add_draft(const struct sv_job *j, const struct sv_place *pl, struct windows *w)
{
	uint32_t tp = pl->tp / pl->attn_groups;
	if (!sv_drafts(j))
		return;
	if (j->p->draft.model) {
		add_layer(w, j->n_ctx, sv_draft_cell(j, pl, j->kv_elem_bytes));
		return;
	}
	uint64_t n = j->p->draft.n_max ? j->p->draft.n_max : 1;
	add_layer(w, j->n_ctx, pl_sat_mul(n, layer_bytes(j, &j->m->layers[j->m->n_layers], tp)));
}

static void cells(const struct sv_job *j, const struct sv_place *pl, const struct pl_shard_stage *s, struct windows *w, struct sv_rank *k)
{
	uint32_t tp = pl->tp / pl->attn_groups;
	for (uint32_t i = s->first_layer; i < s->end_layer; i++) {
		uint64_t bytes = layer_bytes(j, &j->m->layers[i], tp);
		struct pl_state_row st = pl_shard_state_row(&j->m->layers[i], tp);
		if (bytes)
			add_layer(w, window_of(j, i - s->first_layer), bytes);
		k->state_bytes = pl_sat_add(k->state_bytes, pl_sat_add(pl_sat_mul(st.conv_elems, 2), pl_sat_mul(st.state_elems, 4)));
	}
	if (s->has_output)
		add_draft(j, pl, w);
}

/* A state for every sequence of the batch is there from the start. */
static uint64_t state_pool(const struct sv_job *j, struct sv_answer *x, uint64_t rest, bool cached, struct sv_rank *k)
{
	uint64_t most = cached ? rest / 2 / k->state_bytes : rest / k->state_bytes;
	uint64_t n = j->p->max_num_seqs ? j->p->max_num_seqs : pl_min_u64(x->max_seqs, most);
	k->state_pool_bytes = pl_sat_mul(n, k->state_bytes);
	k->sequences = n;
	k->over_bytes = pl_max_u64(k->over_bytes, pl_sat_sub(k->state_pool_bytes, rest));
	x->max_seqs = (uint32_t)pl_min_u64(x->max_seqs, pl_max_u64(n, 1));
	return pl_sat_sub(rest, k->state_pool_bytes);
}

/* A pool of a window holds its blocks for each sequence, and the one it is about to leave. */
static void window_pool(const struct sv_answer *x, uint64_t window, uint64_t cell, uint64_t tokens, struct sv_rank *k)
{
	uint64_t each = pl_sat_mul(pl_ceil_div(window, x->block_tokens) + 1, x->block_tokens);
	k->window_bytes = pl_sat_add(k->window_bytes, pl_sat_mul(each, cell));
	k->window_pool_bytes = pl_sat_add(k->window_pool_bytes, pl_sat_mul(tokens, cell));
	k->sequences = pl_min_u64(k->sequences, tokens / each);
}

void tr_pools(const struct sv_job *j, struct sv_answer *x, const struct pl_shard_stage *s, uint64_t rest, struct sv_rank *k)
{
	struct windows w = {0};
	cells(j, &x->place, s, &w, k);
	k->sequences = UINT64_MAX;
	if (k->state_bytes)
		rest = state_pool(j, x, rest, w.n > 0, k);
	for (uint32_t i = 0; i < w.n; i++) { /* each pool gets an equal part, whatever its layers take; max_tokens counts for one alone */
		uint64_t tokens = rest / w.n / w.cell_bytes[i] / x->block_tokens * x->block_tokens;
		if (j->p->max_total_tokens && w.n == 1)
			tokens = pl_min_u64(tokens, j->p->max_total_tokens / x->block_tokens * x->block_tokens);
		if (w.tokens[i] < j->n_ctx) {
			window_pool(x, w.tokens[i], w.cell_bytes[i], tokens, k);
			continue;
		}
		k->cell_bytes = w.cell_bytes[i];
		k->tokens = tokens;
		k->pool_bytes = pl_sat_mul(tokens, w.cell_bytes[i]);
	}
}

/* ---- adapters ----------------------------------------------------------------------------------------------------- */

enum { OPTIMAL_RANK = 8, MAX_RANK = 64 }; /* PeftCacheConfig: optimal_adapter_size, max_adapter_size */

/* Slots as wide as the smallest module of one rank; pages of an adapter of the usual rank; as many as max_loras of max_lora_rank need
 * if every module were the largest. Modules are those of the first layer. */
uint64_t tr_adapters(const struct sv_job *j, const struct sv_place *pl, const struct pl_shard_stage *s)
{
	uint64_t rank = j->p->max_lora_rank ? j->p->max_lora_rank : MAX_RANK, least = UINT64_MAX, most = 0, n = 0, slots = 0;
	for (int pass = 0; pass < 2; pass++)
		for (uint32_t i = 0; j->p->max_loras && i < j->m->n_tensors; i++) {
			const struct pl_tensor *t = &j->m->tensors[i];
			struct sv_linear w;
			if (t->layer != 0 || t->group == PL_GROUP_EXPERT || !sv_adapted(j, pl, t, &w))
				continue;
			if (pass) {
				slots = pl_sat_add(slots, pl_ceil_div(w.in + w.out, least));
				continue;
			}
			least = pl_min_u64(least, w.in + w.out);
			most = pl_max_u64(most, w.in + w.out);
			n++;
		}
	if (!n)
		return 0;
	uint64_t layers = s->end_layer - s->first_layer, modules = pl_sat_mul(n, j->m->n_layers);
	uint64_t wanted = pl_sat_mul(pl_sat_mul(rank * j->p->max_loras, modules), pl_ceil_div(most, least));
	uint64_t page = pl_sat_mul(pl_min_u64(rank, OPTIMAL_RANK), pl_sat_mul(slots, layers));
	page = pl_max_u64(page, pl_ceil_div(pl_sat_mul(pl_min_u64(rank, MAX_RANK), most), least));
	return pl_sat_mul(pl_sat_mul(pl_ceil_div(wanted, page), page), pl_sat_mul(least, 2));
}
