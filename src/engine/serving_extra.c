/* Beside the model on SGLang and TensorRT-LLM: a draft for speculative decoding, and what an adapter touches. */
#include "base/checked.h"
#include "engine/serving.h"
#include "memory/cache.h"

bool sv_drafts(const struct sv_job *j)
{
	return j->p->draft.model || (j->p->draft.mtp && j->m->n_layers_mtp);
}

uint32_t sv_draft_layers(const struct sv_job *j)
{
	if (j->p->draft.model)
		return j->p->draft.model->n_layers;
	return j->p->draft.mtp ? j->m->n_layers_mtp : 0;
}

/* EAGLE's drafts take embedding and output of the target, EAGLE 3 has an output over a vocabulary of its own; the
 * next-token-prediction layers' copies in the checkpoint are dropped. */
static bool is_targets(const struct pl_draft *d, const struct pl_tensor *t)
{
	if (d->mtp)
		return t->role == PL_ROLE_NEXTN_EMBED || t->role == PL_ROLE_NEXTN_HEAD;
	return (d->shares != PL_DRAFT_OWN && t->role == PL_ROLE_TOKEN_EMBD) ||
	       (d->shares == PL_DRAFT_SHARES_BOTH && t->role == PL_ROLE_OUTPUT);
}

uint64_t sv_draft_weights(const struct sv_job *j, const struct sv_place *pl)
{
	const struct pl_draft *d = &j->p->draft;
	const struct pl_model *m = d->model ? d->model : j->m;
	struct pl_shard_stage s = {.end_layer = m->n_layers, .has_input = true, .has_output = true};
	struct pl_shard_cut cut = sv_cut(pl);
	uint64_t sum = 0;
	if (!sv_drafts(j))
		return 0;
	if (!d->model) /* nothing of the trunk */
		s = (struct pl_shard_stage){.has_mtp = true};
	for (uint32_t i = 0; i < m->n_tensors; i++) {
		const struct pl_tensor *t = &m->tensors[i];
		bool outside = !d->model && t->group != PL_GROUP_MTP && (t->layer < 0 || (uint32_t)t->layer < m->n_layers);
		if (outside || !pl_shard_stage_holds(m, &s, t) || is_targets(d, t))
			continue;
		sum = pl_sat_add(sum, pl_shard_tensor_bytes(m, t, &cut));
	}
	return sum;
}

uint64_t sv_draft_cell(const struct sv_job *j, const struct sv_place *pl, uint32_t elem_bytes)
{
	const struct pl_model *m = j->p->draft.model ? j->p->draft.model : j->m;
	uint32_t first = j->p->draft.model ? 0 : m->n_layers, n = sv_draft_layers(j);
	uint64_t sum = 0;
	for (uint32_t i = first; i < first + n; i++) {
		struct pl_cache_row row = pl_shard_cache_row(&m->layers[i], pl->tp / pl->attn_groups);
		uint64_t bytes = pl_sat_mul(pl_sat_add(row.k_elems, row.v_elems), elem_bytes);
		if (row.indexer_elems) /* 8-bit keys with a scale for 128 */
			bytes = pl_sat_add(bytes, row.indexer_elems + row.indexer_elems / 128 * 4);
		sum = pl_sat_add(sum, bytes);
	}
	return sum;
}

/* The matrices adapters are usually trained for: those of attention and feed forward, not embedding, output and router. */
bool sv_adapted(const struct sv_job *j, const struct sv_place *pl, const struct pl_tensor *t, struct sv_linear *ret)
{
	enum pl_shard how = pl_role_info(t->role)->shard;
	bool attn = t->group == PL_GROUP_ATTN || t->group == PL_GROUP_RECURRENT, expert = t->group == PL_GROUP_EXPERT;
	uint32_t cut = attn ? pl->tp / pl->attn_groups : expert ? pl->tp / pl->expert_ranks : pl->tp;
	const struct pl_layer *l = t->layer >= 0 ? &j->m->layers[t->layer] : NULL;
	if (!l || t->is_bias || t->n_dims < 2 || (uint32_t)t->layer >= j->m->n_layers)
		return false;
	if (!attn && !expert && t->group != PL_GROUP_FFN && t->group != PL_GROUP_SHARED_EXPERT)
		return false;
	if (how != PL_SHARD_COLUMN && how != PL_SHARD_ROW && how != PL_SHARD_KV_HEADS && how != PL_SHARD_EXPERT)
		return false;
	bool row = how == PL_SHARD_ROW || t->role == PL_ROLE_EXPERT_DOWN;
	ret->in = pl_ceil_div(t->ne[0], row ? cut : 1);
	ret->out = pl_ceil_div(t->ne[1], row ? 1 : cut);
	if (how == PL_SHARD_KV_HEADS && l->n_head_kv) /* a head is never cut: fewer heads than ranks are repeated */
		ret->out = t->ne[1] / l->n_head_kv * pl_ceil_div(l->n_head_kv, cut);
	return true;
}
