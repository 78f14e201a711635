/* SGLang's and TensorRT-LLM's search and answer; what a rank holds is filled by their own rules. */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "engine/serving.h"
#include "memory/step.h"

double sv_capability(const struct pl_machine *hw)
{
	double least = 0;
	for (uint32_t i = 0; i < hw->n_devices; i++) {
		const struct pl_gpu *g = hw->devices[i].gpu;
		double c = g && g->vendor == PL_VENDOR_NVIDIA && g->capability ? strtod(g->capability, NULL) : 0;
		if (c > 0 && (c < least || least <= 0))
			least = c;
	}
	return least;
}

/* ---- a rank -------------------------------------------------------------------------------------------------------- */

struct pl_shard_cut sv_cut(const struct sv_place *pl)
{
	return (struct pl_shard_cut){.attn = pl->tp / pl->attn_groups,
	                             .ffn = pl->tp,
	                             .vocab = pl->tp,
	                             .vision = pl->tp / pl->attn_groups,
	                             .expert = pl->tp / pl->expert_ranks,
	                             .expert_ranks = pl->expert_ranks,
	                             .vocab_multiple = 64};
}

uint64_t sv_weights(const struct sv_job *j, const struct sv_place *pl, const struct pl_shard_stage *stage)
{
	struct pl_shard_cut cut = sv_cut(pl);
	struct pl_shard_stage trunk = *stage, *s = &trunk;
	uint64_t sum = 0;
	trunk.has_mtp = false;
	for (uint32_t i = 0; i < j->m->n_tensors; i++) {
		const struct pl_tensor *t = &j->m->tensors[i];
		if (!pl_shard_stage_holds(j->m, s, t))
			continue;
		uint64_t bytes = pl_shard_tensor_bytes(j->m, t, &cut);
		/* 32-bit matrices of a checkpoint become 16-bit */
		if (t->type == PL_DTYPE_F32 && t->n_dims > 1 && t->group != PL_GROUP_ROUTER && t->group != PL_GROUP_RECURRENT)
			bytes /= 2;
		sum = pl_sat_add(sum, bytes);
	}
	return sum;
}

/* The driver keeps a part of what it reports as total; closed form over T4 (14.74 GiB seen), L4 (22.161), RTX 3090 (23.58),
 * A100 40 GB (39.56), H100 (79.18 to 79.20), B200 (178.353): within 0.5 % of each. */
uint64_t sv_visible(const struct pl_device *d)
{
	if (d->vendor != PL_VENDOR_NVIDIA && d->vendor != PL_VENDOR_UNKNOWN)
		return d->total_bytes;
	return pl_sat_sub(d->total_bytes, (UINT64_C(330) << 20) + d->total_bytes / 400);
}

uint64_t sv_forward_bytes(const struct sv_job *j, const struct sv_place *pl, const struct pl_shard_stage *s, uint64_t n)
{
	uint64_t most = 0, h = j->m->n_embd;
	for (uint32_t i = s->first_layer; i < s->end_layer; i++) {
		const struct pl_layer *l = &j->m->layers[i];
		most = pl_max_u64(most, pl_max_u64(pl_step_ffn_width(l, h, pl->tp, pl->tp / pl->expert_ranks),
		                                   pl_step_mixer_width(l, pl->tp / pl->attn_groups)));
	}
	return pl_sat_mul(pl_sat_mul(2, pl_sat_add(3 * h, most)), n);
}

uint64_t sv_absorbed_bytes(const struct sv_job *j, const struct sv_place *pl, const struct pl_shard_stage *s)
{
	uint64_t sum = 0;
	for (uint32_t i = s->first_layer; i < s->end_layer; i++) {
		const struct pl_layer *l = &j->m->layers[i];
		uint64_t heads = pl_ceil_div(l->n_head, pl->tp / pl->attn_groups);
		if (l->attn == PL_ATTN_MLA)
			sum = pl_sat_add(sum, pl_sat_mul(pl_sat_mul(heads, (uint64_t)l->d_nope + l->d_v), 2ull * l->kv_lora));
	}
	return sum;
}

bool sv_fast_link(const struct pl_machine *hw)
{
	return hw->link && strstr(hw->link, "nvlink");
}

/* ---- placement ---------------------------------------------------------------------------------------------------- */

/* Every beam is counted with a prompt of its own: the one they share is not known apart from the answer. */
static uint64_t asked_tokens(const struct sv_job *j, const struct sv_place *pl)
{
	return pl_sat_mul(pl_sat_mul(j->n_ctx, sv_sequences(j->p, pl)), j->beams ? j->beams : 1);
}

static uint64_t asked_bytes(const struct sv_job *j, const struct sv_place *pl, const struct sv_rank *k)
{
	uint64_t tokens = pl_sat_mul(k->cell_bytes, asked_tokens(j, pl));
	return pl_sat_add(tokens, pl_sat_mul(pl_sat_add(k->state_bytes, k->window_bytes), sv_sequences(j->p, pl)));
}

static void judge_rank(const struct sv_job *j, struct sv_answer *x, uint32_t r)
{
	const struct sv_rank *k = &x->rank[r];
	uint64_t n = sv_sequences(j->p, &x->place), wanted = asked_tokens(j, &x->place), lacks = k->over_bytes;
	if (k->cell_bytes) {
		x->tokens = pl_min_u64(x->tokens, k->tokens);
		lacks = pl_sat_add(lacks, pl_sat_mul(k->cell_bytes, pl_sat_sub(wanted, k->tokens)));
		x->verdict.starts &= k->tokens > 0;
	}
	lacks = pl_sat_add(lacks, pl_sat_mul(pl_sat_add(k->state_bytes, k->window_bytes), pl_sat_sub(n, k->sequences)));
	uint64_t sum = pl_sat_add(pl_sat_add(k->weights_bytes, k->compute_bytes), pl_sat_add(k->overhead_bytes, k->pool_bytes));
	uint64_t room = j->hw->devices[x->place.device[r]].total_bytes;
	sum = pl_sat_add(sum, pl_sat_add(k->state_pool_bytes, k->window_pool_bytes));
	lacks = pl_max_u64(lacks, pl_sat_sub(sum, room));
	x->verdict.starts &= !k->over_bytes;
	if (lacks > x->verdict.missing_bytes) {
		x->verdict.missing_bytes = lacks;
		x->verdict.worst = r;
	}
}

static void evaluate(const struct sv_job *j, struct sv_answer *x)
{
	j->fill(j, x);
	x->verdict.starts = true;
	x->tokens = UINT64_MAX;
	for (uint32_t r = 0; r < x->place.n_ranks; r++)
		judge_rank(j, x, r);
	if (x->tokens == UINT64_MAX)
		x->tokens = 0;
	x->verdict.holds = x->verdict.starts && !x->verdict.missing_bytes && x->max_seqs >= sv_sequences(j->p, &x->place);
	if (x->verdict.starts && !x->verdict.missing_bytes && !x->verdict.holds)
		x->verdict.missing_bytes = 1; /* the batch is too small, not the memory */
}

/* Groups of data-parallel attention: as many as were asked, else one a rank. */
static uint32_t attention_groups(const struct sv_job *j, uint32_t tp)
{
	if (!j->p->dp_attention || tp == 1)
		return 1;
	return j->p->data_parallel ? j->p->data_parallel : tp;
}

static int check_asked(const struct sv_job *j, uint32_t dp, struct pl_err *err)
{
	int rc = j->p->dp_attention ? 0 : sv_check_heads(j->m, j->p, err);
	return rc ? rc : sv_check_ranks(j->m, j->hw, j->p, dp, err);
}

static bool possible(const struct sv_job *j, struct sv_place *pl)
{
	return pl->tp % pl->attn_groups == 0 && pl_shard_heads_divide(j->m, pl->tp / pl->attn_groups) &&
	       sv_place_devices(j->m, j->hw, j->p, pl);
}

static bool better(const struct sv_answer *x, const struct sv_answer *y)
{
	int c = sv_compare(&x->verdict, &x->place, &y->verdict, &y->place);
	return c ? c > 0 : x->tokens > y->tokens;
}

static int choose(const struct sv_job *j, struct sv_answer *ret, struct pl_err *err)
{
	struct sv_answer *best = PL_NEW(j->a, struct sv_answer), *x = PL_NEW(j->a, struct sv_answer);
	uint32_t n = j->hw->n_devices < PL_MAX_DEVICES ? j->hw->n_devices : PL_MAX_DEVICES;
	uint32_t dp = j->p->data_parallel && !j->p->dp_attention ? j->p->data_parallel : 1;
	bool any = false;
	int rc = check_asked(j, dp, err);
	if (rc)
		return rc;
	if (!best || !x)
		return pl_fail(err, PL_ERR_NOMEM, j->m->name, "out of memory while planning");
	for (uint32_t pp = 1; pp <= n; pp++)
		for (uint32_t tp = 1; tp * pp * dp <= n; tp++) {
			*x = (struct sv_answer){.place = {.tp = tp, .pp = pp, .dp = dp, .attn_groups = attention_groups(j, tp),
			                                  .expert_ranks = j->p->expert_parallel ? tp : 1, .rest_to_first = j->rest_to_first}};
			if (!possible(j, &x->place))
				continue;
			evaluate(j, x);
			if (any && !better(x, best))
				continue;
			struct sv_answer *swap = best;
			best = x;
			x = swap;
			any = true;
		}
	if (!any)
		return pl_fail(err, PL_ERR_RANGE, "--tensor-parallel", "no number of ranks suits %s on this machine", j->m->name);
	*ret = *best;
	return 0;
}

/* ---- the answer --------------------------------------------------------------------------------------------------- */

static void answer_rank(const struct sv_job *j, const struct sv_answer *x, uint32_t r, struct pl_use *u)
{
	const struct sv_rank *k = &x->rank[r];
	struct pl_shard_stage s = sv_stage(j->m, j->p, &x->place, r / x->place.tp % x->place.pp);
	uint64_t n = sv_sequences(j->p, &x->place);
	u->model_bytes = k->weights_bytes;
	u->compute_bytes = k->compute_bytes;
	u->overhead_bytes = k->overhead_bytes;
	u->kv_bytes = pl_max_u64(k->pool_bytes, pl_sat_mul(k->cell_bytes, asked_tokens(j, &x->place)));
	u->kv_bytes = pl_sat_add(u->kv_bytes, pl_max_u64(k->window_pool_bytes, pl_sat_mul(k->window_bytes, n)));
	u->state_bytes = pl_max_u64(k->state_pool_bytes, pl_sat_mul(k->state_bytes, n));
	u->n_layers = s.end_layer - s.first_layer;
}

static uint64_t bytes_per_token(const struct sv_answer *x)
{
	uint64_t sum = 0; /* one replica, and of it one attention group */
	for (uint32_t r = 0; r < x->place.tp * x->place.pp; r++)
		sum = pl_sat_add(sum, x->rank[r].cell_bytes);
	return sum / x->place.attn_groups;
}


static void answer_host(const struct sv_job *j, const struct sv_answer *x, struct pl_host_use *h)
{
	uint64_t ranks = 0;
	for (uint32_t r = 0; r < x->place.n_ranks; r++) {
		h->use.model_bytes = pl_sat_add(h->use.model_bytes, x->rank[r].offload_bytes);
		h->use.kv_bytes = pl_sat_add(h->use.kv_bytes, x->rank[r].host_kv_bytes);
		ranks = pl_sat_add(ranks, x->rank[r].host_bytes);
	}
	sv_host(j->m, j->hw, &x->place, ranks, 0, h);
}

static uint64_t spare_bytes(const struct sv_job *j, const struct sv_answer *x)
{
	uint64_t least = UINT64_MAX;
	for (uint32_t r = 0; r < x->place.n_ranks; r++) {
		const struct sv_rank *k = &x->rank[r];
		uint64_t pools = pl_sat_add(pl_sat_add(k->pool_bytes, k->window_pool_bytes), k->state_pool_bytes);
		least = pl_min_u64(least, pl_sat_sub(pools, asked_bytes(j, &x->place, k)));
	}
	return least;
}

static int answer(const struct sv_job *j, const struct sv_answer *x, struct pl_layout *ret, struct pl_err *err)
{
	struct pl_layout out;
	int rc = sv_frame(j->a, j->m, j->hw, j->p, &x->place, &out, err);
	if (rc)
		return rc;
	for (uint32_t r = 0; r < x->place.n_ranks; r++)
		answer_rank(j, x, r, &out.devices[x->place.device[r]]);
	answer_host(j, x, &out.host);
	sv_judge(j->hw, &x->place, &x->verdict, &out);
	out.spare_bytes = out.fits ? spare_bytes(j, x) : 0;
	out.n_ctx_tokens = j->n_ctx;
	out.kv_bytes_per_token = bytes_per_token(x);
	out.kv_cache_tokens = (struct pl_opt_u64){pl_sat_mul(x->tokens, (uint64_t)x->place.attn_groups), true};
	out.block_size = x->block_tokens;
	out.num_gpu_blocks = (struct pl_opt_u64){x->block_tokens ? x->tokens / x->block_tokens : 0, true};
	out.max_concurrency = (double)out.kv_cache_tokens.value / (double)j->n_ctx;
	*ret = out;
	return 0;
}

static int job_init(struct sv_job *j, struct pl_err *err)
{
	int rc = sv_cache_type(j->engine, "f16, bf16, f8_e4m3", j->p, &j->kv_type, &j->kv_elem_bytes, err);
	rc = rc ? rc : sv_check_request(j->engine, j->hw, j->p, err);
	j->n_ctx = sv_context_tokens(j->m, j->p);
	j->capability = sv_capability(j->hw);
	return rc;
}

int sv_plan(struct sv_job *j, struct pl_params *ret_params, struct pl_layout *ret_layout, struct pl_err *err)
{
	struct sv_answer *x = PL_NEW(j->a, struct sv_answer);
	struct pl_layout out;
	if (!x)
		return pl_fail(err, PL_ERR_NOMEM, j->m->name, "out of memory while laying out %u layers", j->m->n_layers);
	int rc = job_init(j, err);
	rc = rc ? rc : choose(j, x, err);
	rc = rc ? rc : answer(j, x, &out, err);
	if (rc)
		return rc;
	struct pl_params resolved = *j->p;
	j->add_notes(j, x, &out);
	j->resolve(j, x, &resolved);
	*ret_params = resolved;
	*ret_layout = out;
	return 0;
}
