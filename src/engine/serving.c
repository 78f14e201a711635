/* Ranks on devices and the answer; what a rank holds is filled by SGLang's and TensorRT-LLM's own rules. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/checked.h"
#include "engine/serving.h"
#include "memory/step.h"

/* RAM of the processes: one a rank (PyTorch, CUDA libraries, pinned buffers) and the server with its scheduler. Assumed, as
 * for vLLM. */
static const uint64_t WORKER_BYTES = UINT64_C(2) << 30, SERVER_BYTES = UINT64_C(3) << 29;
/* Shards of a checkpoint are mapped one at a time; 5 GB is how the hub cuts them. */
static const uint64_t SHARD_BYTES = UINT64_C(5000000000);

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

static int cache_type(struct sv_job *j, struct pl_err *err)
{
	enum pl_dtype k = j->p->type_k, v = j->p->type_v;
	if (k != v && k && v)
		return pl_fail(err, PL_ERR_UNSUPPORTED, "--kv-type", "%s keeps keys and values in one type, not %s and %s", j->engine,
		               pl_dtype_name(k), pl_dtype_name(v));
	j->kv_type = k ? k : v;
	j->kv_elem_bytes = 2;
	switch (j->kv_type) {
	case PL_DTYPE_UNKNOWN:
	case PL_DTYPE_F16:
	case PL_DTYPE_BF16:
		return 0;
	case PL_DTYPE_F8_E4M3:
	case PL_DTYPE_F8_E5M2:
		j->kv_elem_bytes = 1;
		return 0;
	default:
		return pl_fail(err, PL_ERR_UNSUPPORTED, "--kv-type", "%s has no cache of type %s: it takes f16, bf16, f8_e4m3", j->engine,
		               pl_dtype_name(j->kv_type));
	}
}

int sv_job_init(struct sv_job *j, struct pl_err *err)
{
	struct pl_params *p = j->p;
	int rc = cache_type(j, err);
	if (rc)
		return rc;
	if (!p->n_seq)
		return pl_fail(err, PL_ERR_RANGE, "n_seq", "0 sequences asked, at least 1 is needed");
	if (!j->hw->n_devices)
		return pl_fail(err, PL_ERR_UNSUPPORTED, "--engine", "%s is planned on GPUs, and this machine has none", j->engine);
	if (p->gpu_memory_utilization_frac < 0 || p->gpu_memory_utilization_frac > 1)
		return pl_fail(err, PL_ERR_RANGE, "--gpu-memory-utilization", "%g is not a share between 0 and 1",
		               p->gpu_memory_utilization_frac);
	j->n_ctx = p->n_ctx_tokens ? p->n_ctx_tokens : j->m->n_ctx_train ? j->m->n_ctx_train : 2048;
	j->capability = sv_capability(j->hw);
	return 0;
}

/* ---- ranks -------------------------------------------------------------------------------------------------------- */

/* Layers of a stage: an even share; what is left over goes one each to the stages before the last (SGLang, like vLLM's
 * get_pp_indices) or to the first (TensorRT-LLM, mapping.py pp_layers). */
static uint32_t layers_of_stage(const struct sv_job *j, uint32_t pp, uint32_t stage)
{
	uint32_t base = j->m->n_layers / pp, rest = j->m->n_layers % pp;
	if (j->rest_to_first)
		return base + (stage < rest);
	return base + (stage + 1 < pp && stage + 1 + rest >= pp);
}

struct pl_shard_stage sv_stage(const struct sv_job *j, const struct sv_place *pl, uint32_t stage)
{
	struct pl_shard_stage s = {0};
	for (uint32_t i = 0; i < stage; i++)
		s.first_layer += layers_of_stage(j, pl->pp, i);
	s.end_layer = s.first_layer + layers_of_stage(j, pl->pp, stage);
	s.has_input = stage == 0;
	s.has_output = stage + 1 == pl->pp;
	s.has_mtp = s.has_output && j->p->draft.mtp;
	s.no_towers = j->p->language_model_only;
	return s;
}

uint64_t sv_sequences(const struct sv_job *j, const struct sv_place *pl)
{
	return pl_ceil_div(j->p->n_seq, (uint64_t)pl->dp * pl->attn_groups);
}

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

bool sv_has_mla(const struct pl_model *m)
{
	for (uint32_t i = 0; i < m->n_layers; i++)
		if (m->layers[i].attn == PL_ATTN_MLA)
			return true;
	return false;
}

bool sv_has_state(const struct pl_model *m)
{
	for (uint32_t i = 0; i < m->n_layers; i++)
		if (m->layers[i].rec != PL_REC_NONE)
			return true;
	return false;
}

bool sv_fast_link(const struct pl_machine *hw)
{
	return hw->link && strstr(hw->link, "nvlink");
}

/* ---- placement ---------------------------------------------------------------------------------------------------- */

/* The largest cards, in the machine's order. */
static bool pick_devices(const struct sv_job *j, struct sv_place *pl)
{
	bool used[PL_MAX_DEVICES] = {false};
	uint64_t n = (uint64_t)pl->tp * pl->pp * pl->dp;
	if (n > j->hw->n_devices || n > PL_MAX_DEVICES)
		return false;
	pl->n_ranks = (uint32_t)n;
	for (uint32_t r = 0; r < pl->n_ranks; r++) {
		uint32_t best = PL_MAX_DEVICES;
		for (uint32_t i = 0; i < j->hw->n_devices && i < PL_MAX_DEVICES; i++)
			if (!used[i] && (best == PL_MAX_DEVICES || j->hw->devices[i].total_bytes > j->hw->devices[best].total_bytes))
				best = i;
		used[best] = true;
	}
	for (uint32_t r = 0, i = 0; i < j->hw->n_devices && i < PL_MAX_DEVICES; i++)
		if (used[i])
			pl->device[r++] = i;
	return true;
}

static bool one_host_a_group(const struct sv_job *j, const struct sv_place *pl)
{
	for (uint32_t r = 0; r < pl->n_ranks; r++)
		if (j->hw->devices[pl->device[r]].node != j->hw->devices[pl->device[r - r % pl->tp]].node)
			return false;
	return true;
}

/* Every beam is counted with a prompt of its own: the one they share is not known apart from the answer. */
static uint64_t asked_tokens(const struct sv_job *j, const struct sv_place *pl)
{
	return pl_sat_mul(pl_sat_mul(j->n_ctx, sv_sequences(j, pl)), j->beams ? j->beams : 1);
}

static uint64_t asked_bytes(const struct sv_job *j, const struct sv_place *pl, const struct sv_rank *k)
{
	uint64_t tokens = pl_sat_mul(k->cell_bytes, asked_tokens(j, pl));
	return pl_sat_add(tokens, pl_sat_mul(pl_sat_add(k->state_bytes, k->window_bytes), sv_sequences(j, pl)));
}

static void judge_rank(const struct sv_job *j, struct sv_answer *x, uint32_t r)
{
	const struct sv_rank *k = &x->rank[r];
	uint64_t n = sv_sequences(j, &x->place), wanted = asked_tokens(j, &x->place), lacks = k->over_bytes;
	if (k->cell_bytes) {
		x->tokens = pl_min_u64(x->tokens, k->tokens);
		lacks = pl_sat_add(lacks, pl_sat_mul(k->cell_bytes, pl_sat_sub(wanted, k->tokens)));
		x->starts &= k->tokens > 0;
	}
	lacks = pl_sat_add(lacks, pl_sat_mul(pl_sat_add(k->state_bytes, k->window_bytes), pl_sat_sub(n, k->sequences)));
	uint64_t sum = pl_sat_add(pl_sat_add(k->weights_bytes, k->compute_bytes), pl_sat_add(k->overhead_bytes, k->pool_bytes));
	uint64_t room = j->hw->devices[x->place.device[r]].total_bytes;
	sum = pl_sat_add(sum, pl_sat_add(k->state_pool_bytes, k->window_pool_bytes));
	lacks = pl_max_u64(lacks, pl_sat_sub(sum, room));
	x->starts &= !k->over_bytes;
	if (lacks > x->missing_bytes) {
		x->missing_bytes = lacks;
		x->worst = r;
	}
}

static void evaluate(const struct sv_job *j, struct sv_answer *x)
{
	j->fill(j, x);
	x->starts = true;
	x->tokens = UINT64_MAX;
	for (uint32_t r = 0; r < x->place.n_ranks; r++)
		judge_rank(j, x, r);
	if (x->tokens == UINT64_MAX)
		x->tokens = 0;
	x->holds = x->starts && !x->missing_bytes && x->max_seqs >= sv_sequences(j, &x->place);
	if (x->starts && !x->missing_bytes && !x->holds)
		x->missing_bytes = 1; /* the batch is too small, not the memory */
}

static bool better(const struct sv_answer *x, const struct sv_answer *y)
{
	if (x->holds != y->holds)
		return x->holds;
	if (x->starts != y->starts)
		return x->starts;
	if (!x->holds && x->missing_bytes != y->missing_bytes)
		return x->missing_bytes < y->missing_bytes;
	if (x->place.pp != y->place.pp)
		return x->place.pp < y->place.pp;
	return x->tokens > y->tokens;
}

static int check_asked(const struct sv_job *j, struct pl_err *err)
{
	const struct pl_params *p = j->p;
	uint64_t ranks = (uint64_t)(p->tensor_parallel ? p->tensor_parallel : 1) * (p->pipeline_parallel ? p->pipeline_parallel : 1) *
	                 (p->data_parallel && !p->dp_attention ? p->data_parallel : 1);
	if (p->tensor_parallel && !p->dp_attention && !pl_shard_heads_divide(j->m, p->tensor_parallel))
		return pl_fail(err, PL_ERR_RANGE, "--tensor-parallel", "%u ranks do not divide the %u attention heads of %s",
		               p->tensor_parallel, j->m->n_layers ? j->m->layers[0].n_head : 0, j->m->name);
	if (p->pipeline_parallel > j->m->n_layers)
		return pl_fail(err, PL_ERR_RANGE, "--pipeline-parallel", "%u stages asked of %u layers", p->pipeline_parallel,
		               j->m->n_layers);
	if (ranks > j->hw->n_devices)
		return pl_fail(err, PL_ERR_RANGE, "--tensor-parallel", "%llu GPUs are needed for these ranks, the machine has %u",
		               (unsigned long long)ranks, j->hw->n_devices);
	return 0;
}

/* Groups of data-parallel attention: as many as were asked, else one a rank. */
static uint32_t attention_groups(const struct sv_job *j, uint32_t tp)
{
	if (!j->p->dp_attention || tp == 1)
		return 1;
	return j->p->data_parallel ? j->p->data_parallel : tp;
}

static bool possible(const struct sv_job *j, struct sv_place *pl)
{
	const struct pl_params *p = j->p;
	if ((p->tensor_parallel && p->tensor_parallel != pl->tp) || (p->pipeline_parallel && p->pipeline_parallel != pl->pp) ||
	    pl->pp > j->m->n_layers || pl->tp % pl->attn_groups || !pl_shard_heads_divide(j->m, pl->tp / pl->attn_groups) ||
	    !pick_devices(j, pl))
		return false;
	return p->tensor_parallel || one_host_a_group(j, pl);
}

int sv_choose(const struct sv_job *j, struct sv_answer *ret, struct pl_err *err)
{
	struct sv_answer *best = PL_NEW(j->a, struct sv_answer), *x = PL_NEW(j->a, struct sv_answer);
	uint32_t n = j->hw->n_devices < PL_MAX_DEVICES ? j->hw->n_devices : PL_MAX_DEVICES;
	uint32_t dp = j->p->data_parallel && !j->p->dp_attention ? j->p->data_parallel : 1;
	bool any = false;
	int rc = check_asked(j, err);
	if (rc)
		return rc;
	if (!best || !x)
		return pl_fail(err, PL_ERR_NOMEM, j->m->name, "out of memory while planning");
	for (uint32_t pp = 1; pp <= n; pp++)
		for (uint32_t tp = 1; tp * pp * dp <= n; tp++) {
			*x = (struct sv_answer){.place = {.tp = tp, .pp = pp, .dp = dp, .attn_groups = attention_groups(j, tp),
			                                  .expert_ranks = j->p->expert_parallel ? tp : 1}};
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
	struct pl_shard_stage s = sv_stage(j, &x->place, r / x->place.tp % x->place.pp);
	uint64_t n = sv_sequences(j, &x->place);
	u->model_bytes = k->weights_bytes;
	u->compute_bytes = k->compute_bytes;
	u->overhead_bytes = k->overhead_bytes;
	u->kv_bytes = pl_max_u64(k->pool_bytes, pl_sat_mul(k->cell_bytes, asked_tokens(j, &x->place)));
	u->kv_bytes = pl_sat_add(u->kv_bytes, pl_max_u64(k->window_pool_bytes, pl_sat_mul(k->window_bytes, n)));
	u->state_bytes = pl_max_u64(k->state_pool_bytes, pl_sat_mul(k->state_bytes, n));
	u->n_layers = s.end_layer - s.first_layer;
}

static void answer_host(const struct sv_job *j, const struct sv_answer *x, struct pl_layout *out)
{
	struct pl_host_use *h = &out->host;
	uint64_t workers = pl_sat_mul(x->place.n_ranks, WORKER_BYTES), largest = 0;
	h->use.name = pl_tr("host");
	h->use.total_bytes = j->hw->ram_bytes.known ? j->hw->ram_bytes.value : 0;
	for (uint32_t r = 0; r < x->place.n_ranks; r++) {
		h->use.model_bytes = pl_sat_add(h->use.model_bytes, x->rank[r].offload_bytes);
		h->use.kv_bytes = pl_sat_add(h->use.kv_bytes, x->rank[r].host_kv_bytes);
		workers = pl_sat_add(workers, x->rank[r].host_bytes);
	}
	h->use.overhead_bytes = pl_sat_add(workers / (j->hw->n_nodes ? j->hw->n_nodes : 1), SERVER_BYTES);
	h->rest_bytes = pl_use_total_bytes(&h->use);
	for (uint32_t i = 0; i < j->m->n_tensors; i++)
		largest = pl_max_u64(largest, j->m->tensors[i].bytes);
	h->peak_load_bytes = pl_sat_add(h->rest_bytes, pl_min_u64(j->m->weight_bytes, pl_max_u64(SHARD_BYTES, largest)));
}

static void judge(const struct sv_job *j, const struct sv_answer *x, struct pl_layout *out)
{
	const struct pl_opt_u64 *ram = j->hw->detected && j->hw->ram_free_bytes.known ? &j->hw->ram_free_bytes : &j->hw->ram_bytes;
	out->fits = x->holds;
	out->missing_bytes = x->holds ? 0 : pl_max_u64(x->missing_bytes, 1);
	out->where_missing = x->holds ? NULL : out->devices[x->place.device[x->worst]].name;
	if (ram->known && out->host.rest_bytes > ram->value) {
		uint64_t lacks = out->host.rest_bytes - ram->value;
		out->fits = false;
		if (lacks > out->missing_bytes) {
			out->missing_bytes = lacks;
			out->where_missing = pl_tr("RAM");
		}
	}
	out->spare_bytes = out->fits ? UINT64_MAX : 0;
	for (uint32_t r = 0; r < x->place.n_ranks && out->fits; r++) {
		const struct sv_rank *k = &x->rank[r];
		uint64_t pools = pl_sat_add(pl_sat_add(k->pool_bytes, k->window_pool_bytes), k->state_pool_bytes);
		out->spare_bytes = pl_min_u64(out->spare_bytes, pl_sat_sub(pools, asked_bytes(j, &x->place, k)));
	}
}

static uint64_t bytes_per_token(const struct sv_answer *x)
{
	uint64_t sum = 0; /* one replica, and of it one attention group */
	for (uint32_t r = 0; r < x->place.tp * x->place.pp; r++)
		sum = pl_sat_add(sum, x->rank[r].cell_bytes);
	return sum / x->place.attn_groups;
}

int sv_layout(const struct sv_job *j, const struct sv_answer *x, struct pl_layout *ret, struct pl_err *err)
{
	const struct pl_machine *hw = j->hw;
	uint32_t n_all = j->m->n_layers + j->m->n_layers_mtp;
	struct pl_layout out = {.n_devices = hw->n_devices};
	out.devices = PL_NEW_N(j->a, struct pl_use, (uint64_t)hw->n_devices + 1);
	out.layer_device = PL_NEW_N(j->a, int16_t, (uint64_t)n_all + 1);
	if (!out.devices || !out.layer_device)
		return pl_fail(err, PL_ERR_NOMEM, j->m->name, "out of memory while laying out %u layers", j->m->n_layers);
	for (uint32_t i = 0; i < hw->n_devices; i++)
		out.devices[i] = (struct pl_use){.name = hw->devices[i].name, .total_bytes = hw->devices[i].total_bytes};
	for (uint32_t r = 0; r < x->place.n_ranks; r++)
		answer_rank(j, x, r, &out.devices[x->place.device[r]]);
	for (uint32_t stage = 0; stage < x->place.pp; stage++) {
		struct pl_shard_stage s = sv_stage(j, &x->place, stage);
		for (uint32_t i = s.first_layer; i < n_all && (i < s.end_layer || s.has_output); i++)
			out.layer_device[i] = (int16_t)x->place.device[stage * x->place.tp];
	}
	answer_host(j, x, &out);
	judge(j, x, &out);
	out.n_ctx_tokens = j->n_ctx;
	out.kv_bytes_per_token = bytes_per_token(x);
	out.kv_cache_tokens = (struct pl_opt_u64){pl_sat_mul(x->tokens, (uint64_t)x->place.attn_groups), true};
	out.block_size = x->block_tokens;
	out.num_gpu_blocks = (struct pl_opt_u64){x->block_tokens ? x->tokens / x->block_tokens : 0, true};
	out.max_concurrency = (double)out.kv_cache_tokens.value / (double)j->n_ctx;
	*ret = out;
	return 0;
}

int sv_plan(struct sv_job *j, struct sv_answer *ret_answer, struct pl_layout *ret_layout, struct pl_err *err)
{
	int rc = sv_job_init(j, err);
	rc = rc ? rc : sv_choose(j, ret_answer, err);
	return rc ? rc : sv_layout(j, ret_answer, ret_layout, err);
}
