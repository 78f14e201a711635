/* SGLang's pools: tokens, states, adapters (srt/model_executor/pool_configurator.py, model_runner_kv_cache_mixin.py,
 * srt/lora/mem_pool.py). */
#include <string.h>

#include "base/checked.h"
#include "engine/sglang.h"
#include "memory/cache.h"

/* Defaults of swa_full_tokens_ratio and mamba_full_memory_ratio (server_args.py). */
static const double SWA_RATIO = 0.8, MAMBA_RATIO = 0.9;
/* Tokens between two evictions from a window (SGLANG_SWA_EVICTION_INTERVAL). */
enum { EVICTION_INTERVAL = 128 };

/* Families whose sliding layers get a pool of their own, as long as 0.8 of the full one (is_hybrid_swa_model). */
static bool splits_windows(const struct sv_job *j)
{
	const struct pl_model *m = j->m;
	static const char *const types[] = {"llama4", "gpt_oss", "mimo_v2", "step3p", "gemma4", "laguna", NULL};
	if (j->p->hybrid_swa_off)
		return false;
	for (size_t i = 0; m->hf_type && types[i]; i++)
		if (!strncmp(m->hf_type, types[i], strlen(types[i])))
			return true;
	return !m->hf_type && m->arch && (!strcmp(m->arch, "gpt-oss") || !strcmp(m->arch, "llama4"));
}

static bool sparse(const struct pl_model *m)
{
	return m->n_layers && m->layers[m->n_layers - 1].indexer_heads;
}

/* Tokens of a page: 1, but 64 for TensorRT-LLM's kernels (the default on data-centre Blackwell) and for sparse attention. */
uint32_t sg_page(const struct sv_job *j)
{
	if (j->p->block_size)
		return j->p->block_size;
	return sparse(j->m) || (j->capability >= 10 && j->capability < 11) ? 64 : 1;
}

static uint32_t kv_bytes(const struct sv_job *j)
{
	/* sparse attention on Blackwell defaults to FP8 */
	return j->kv_type == PL_DTYPE_UNKNOWN && sparse(j->m) && j->capability >= 10 ? 1 : j->kv_elem_bytes;
}

/* What a token takes on a rank. */
struct token {
	uint64_t full, window; /* layers of full length, and those with a pool of their own */
	uint64_t draft;        /* the draft's layers */
	uint64_t budget;       /* what the engine divides by: it takes the draft's layers for the target's, and forgets them beside windows */
	uint32_t longest;      /* window in tokens */
};

static double window_ratio(const struct sv_job *j)
{
	return j->p->swa_full_tokens_ratio > 0 ? j->p->swa_full_tokens_ratio : SWA_RATIO;
}

static struct token token_of(const struct sv_job *j, const struct sv_place *pl, const struct pl_shard_stage *s, struct sv_rank *k)
{
	uint32_t tp = pl->tp / pl->attn_groups, wide = kv_bytes(j), n_attn = 0;
	struct token t = {0};
	bool split = splits_windows(j);
	for (uint32_t i = s->first_layer; i < s->end_layer; i++) {
		const struct pl_layer *l = &j->m->layers[i];
		struct pl_cache_row row = pl_shard_cache_row(l, tp);
		struct pl_state_row st = pl_shard_state_row(l, tp);
		uint64_t bytes = pl_sat_mul(pl_sat_add(row.k_elems, row.v_elems), wide);
		if (row.indexer_elems) /* 8-bit keys with a scale for 128 */
			bytes = pl_sat_add(bytes, row.indexer_elems + row.indexer_elems / 128 * 4);
		n_attn += bytes > 0;
		if (split && l->window_tokens) {
			t.window = pl_sat_add(t.window, bytes);
			t.longest = l->window_tokens > t.longest ? l->window_tokens : t.longest;
		} else {
			t.full = pl_sat_add(t.full, bytes);
		}
		/* convolution in 16 bit, state in 32 unless the config says otherwise (mamba_utils.py) */
		k->state_bytes = pl_sat_add(k->state_bytes, pl_sat_add(pl_sat_mul(st.conv_elems, 2), pl_sat_mul(st.state_elems, 4)));
	}
	t.draft = s->has_output ? sv_draft_cell(j, pl, wide) : 0;
	t.budget = t.full ? pl_sat_add(t.full, (uint64_t)((double)t.window * window_ratio(j))) : t.window;
	k->cell_bytes = pl_sat_add(t.budget, t.draft);
	if (!t.window && n_attn)
		t.budget = pl_sat_add(t.budget, pl_sat_mul(t.budget, sv_draft_layers(j)) / n_attn);
	return t;
}

/* States kept for one running sequence: three for the prefix cache, two more for the overlapped scheduler where the family
 * supports it. */
static uint32_t state_copies(const struct sv_job *j)
{
	static const char *const types[] = {"qwen3_next", "qwen3_5", "falcon_h1", "granitemoehybrid", "nemotron_h", "bailing", NULL};
	const struct sg_rules *r = j->rules;
	if (j->p->prefix_caching_off)
		return 1;
	for (size_t i = 0; r->extra_buffer && j->m->hf_type && types[i]; i++)
		if (!strncmp(j->m->hf_type, types[i], strlen(types[i])))
			return 5;
	return 3;
}

uint32_t sg_draft_tokens(const struct sv_job *j)
{
	/* steps, top-k and tokens nobody stated: 5, 4, 8 for Llama, 3, 1, 4 for others and for a whole model as draft */
	bool llama = j->m->hf_type && !strcmp(j->m->hf_type, "llama") && j->p->draft.shares != PL_DRAFT_OWN;
	if (!sv_drafts(j))
		return 0;
	return j->p->draft.n_max ? j->p->draft.n_max : llama ? 8 : 4;
}

/* Recurrent states: of the rest, mamba_full_memory_ratio parts in 1 + ratio. A draft keeps one more set for every token it verifies. */
static uint64_t state_pool(const struct sv_job *j, const struct sv_answer *x, uint64_t rest, struct sv_rank *k)
{
	const struct sg_rules *r = j->rules;
	double ratio = j->p->mamba_full_memory_ratio > 0 ? j->p->mamba_full_memory_ratio : MAMBA_RATIO;
	uint32_t copies = state_copies(j), drafted = sg_draft_tokens(j);
	uint64_t budget = k->cell_bytes ? (uint64_t)((double)rest * ratio / (1 + ratio)) : rest;
	uint64_t n = (uint64_t)((double)budget / ((double)k->state_bytes * (1 + (double)drafted / copies)));
	if (!r->state_pools || (j->p->prefix_caching_off && j->p->max_num_seqs))
		n = pl_min_u64(rest / k->state_bytes, j->p->max_num_seqs ? j->p->max_num_seqs : n);
	if (j->p->max_mamba_cache_size)
		n = j->p->max_mamba_cache_size / x->place.attn_groups;
	k->sequences = n / copies;
	uint64_t running = pl_min_u64(x->max_seqs / x->place.attn_groups, k->sequences);
	k->state_pool_bytes = pl_sat_mul(pl_sat_add(n, pl_sat_mul(running, drafted)), k->state_bytes);
	k->over_bytes = pl_sat_add(k->over_bytes, pl_sat_sub(k->state_pool_bytes, rest));
	k->state_bytes = pl_sat_mul(k->state_bytes, (uint64_t)copies + drafted);
	return pl_sat_sub(rest, k->state_pool_bytes);
}

/* Where the batch is stated and no prefixes are kept, the windows' pool is what that batch can need (SWAChunkCapPoolConfigurator):
 * window, eviction, a page before and one to come for each request, two chunks and a page. */
static uint64_t capped_windows(const struct sv_job *j, const struct sv_answer *x, const struct token *t, uint64_t rest, struct sv_rank *k)
{
	const struct sg_rules *r = j->rules;
	uint64_t page = x->block_tokens, n = j->p->max_num_seqs / x->place.attn_groups;
	if (!t->full || !t->window || !j->p->max_num_seqs || !j->p->prefix_caching_off || sv_drafts(j) || r->version < 514)
		return rest;
	uint64_t each = t->longest + EVICTION_INTERVAL + 2 * page;
	uint64_t tokens = pl_sat_add(pl_sat_mul(each, n), 2ull * x->max_tokens * x->place.attn_groups + page);
	k->window_pool_bytes = pl_sat_mul(pl_round_up(tokens, page), t->window);
	k->cell_bytes = t->full;
	k->over_bytes = pl_sat_add(k->over_bytes, pl_sat_sub(k->window_pool_bytes, rest));
	return pl_sat_sub(rest, k->window_pool_bytes);
}

void sg_pools(const struct sv_job *j, const struct sv_answer *x, const struct pl_shard_stage *s, uint64_t rest, struct sv_rank *k)
{
	struct token t = token_of(j, &x->place, s, k);
	k->sequences = UINT64_MAX;
	if (k->state_bytes)
		rest = state_pool(j, x, rest, k);
	if (!k->cell_bytes)
		return;
	rest = capped_windows(j, x, &t, rest, k);
	uint64_t page = x->block_tokens, cell = k->window_pool_bytes ? t.full : t.budget;
	k->tokens = cell ? rest / cell / page * page : 0;
	if (j->p->max_total_tokens)
		k->tokens = pl_min_u64(k->tokens, j->p->max_total_tokens / page * page);
	k->pool_bytes = pl_sat_mul(k->tokens, k->cell_bytes);
}

/* ---- adapters ----------------------------------------------------------------------------------------------------- */

uint32_t sg_lora_rank(const struct pl_params *p)
{
	return p->max_lora_rank ? p->max_lora_rank : 16;
}

/* A of rank × input and B of output × rank, 16 bit, for every layer of the model whatever the stage, for each adapter of a batch; of
 * each expert one. A fused matrix has one A for each of its parts. */
uint64_t sg_adapters(const struct sv_job *j, const struct sv_place *pl)
{
	uint64_t rank = sg_lora_rank(j->p), sum = 0;
	for (uint32_t i = 0; j->p->max_loras && i < j->m->n_tensors; i++) {
		const struct pl_tensor *t = &j->m->tensors[i];
		struct sv_linear w;
		if (!sv_adapted(j, pl, t, &w))
			continue;
		uint64_t parts = t->role == PL_ROLE_ATTN_QKV ? 3 : t->role == PL_ROLE_FFN_GATE_UP || t->role == PL_ROLE_EXPERT_GATE_UP ? 2 : 1;
		uint64_t experts = t->group == PL_GROUP_EXPERT ? pl_ceil_div(t->n_stacked, pl->expert_ranks) : 1;
		uint64_t one = pl_sat_mul(2 * rank, pl_sat_add(pl_sat_mul(w.in, parts), w.out));
		sum = pl_sat_add(sum, pl_sat_mul(one, experts));
	}
	return pl_sat_mul(sum, j->p->max_loras);
}
