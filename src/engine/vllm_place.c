/* How many ranks and where: tensor parallel, pipeline parallel, replicas; what each rank holds. */
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "engine/vllm.h"

static struct pl_shard_cut cut_of(const struct sv_place *pl)
{
	struct pl_shard_cut cut = sv_cut(pl);
	cut.expert = pl->tp * pl->dp / pl->expert_ranks; /* replicas share the experts */
	return cut;
}

/* MXFP4 experts are padded to what their kernel multiplies: Marlin (below compute capability 9, and 12) the inner width to 128 and
 * the hidden to 256, Triton on Hopper values (16 of 17 bytes) of one side to 256, TensorRT-LLM's on Blackwell both to 256
 * (fused_moe/oracle/mxfp4.py; gpt-oss 20b and 120b: 13.47, 64.38 GiB on H100, 13.72 on A100, M061, M064, M065). */
static uint64_t mxfp4_bytes(const struct vl_job *j, const struct pl_tensor *t, uint32_t cut, uint64_t bytes)
{
	const struct pl_layer *l = t->layer >= 0 ? &j->m->layers[t->layer] : NULL;
	double c = j->capability, h = j->m->n_embd, inner;
	if (!l || !l->n_ff_expert || c <= 0)
		return bytes;
	inner = (double)pl_ceil_div(l->n_ff_expert, cut);
	double h256 = (double)pl_round_up(j->m->n_embd, 256) / h;
	double grown = c >= 10 && c < 12 ? (double)pl_round_up((uint64_t)inner, 256) / inner * h256
	               : c >= 9 && c < 10 ? 1 + (h256 - 1) * 16 / 17
	                                  : (double)pl_round_up((uint64_t)inner, 128) / inner * h256;
	return (uint64_t)((double)bytes * grown);
}

/* Weights as loaded, what "Model loading took" prints: 32-bit matrices of a checkpoint become 16-bit, the tables of rotary
 * positions are theirs. */
static uint64_t weights_of(const struct vl_job *j, const struct sv_place *pl, const struct pl_shard_stage *s)
{
	struct pl_shard_cut cut = cut_of(pl);
	uint64_t sum = j->rope_bytes;
	bool mxfp4 = j->m->quant_name && !strncmp(j->m->quant_name, "mxfp4", 5);
	for (uint32_t i = 0; i < j->m->n_tensors; i++) {
		const struct pl_tensor *t = &j->m->tensors[i];
		bool shared = t->role == PL_ROLE_NEXTN_EMBED || t->role == PL_ROLE_NEXTN_HEAD; /* the trunk's are used */
		if (!pl_shard_stage_holds(j->m, s, t) || shared)
			continue;
		uint64_t bytes = pl_shard_tensor_bytes(j->m, t, &cut);
		if (t->type == PL_DTYPE_F32 && t->n_dims > 1 && t->group != PL_GROUP_ROUTER && t->group != PL_GROUP_RECURRENT)
			bytes /= 2;
		if (mxfp4 && t->group == PL_GROUP_EXPERT && (t->type == PL_DTYPE_F4 || t->type == PL_DTYPE_MXFP4))
			bytes = mxfp4_bytes(j, t, cut.expert, bytes);
		sum = pl_sat_add(sum, bytes);
	}
	if (j->p->draft.model && s->has_output) { /* cut like the target */
		struct pl_shard_stage all = {.end_layer = j->p->draft.model->n_layers, .has_input = true, .has_output = true};
		sum = pl_sat_add(sum, pl_shard_stage_bytes(j->p->draft.model, &all, &cut));
	}
	return sum;
}

/* Room for adapters beside every linear layer: A of rank × input and B of output × rank, 16 bit, for each that may be in a batch
 * (vllm/lora/layers/). To 0.10 the embedding and the output matrix had theirs too. */
static uint64_t adapters_of(const struct vl_job *j, const struct sv_place *pl, const struct pl_shard_stage *s)
{
	uint64_t rank = j->p->max_lora_rank ? j->p->max_lora_rank : 16, sum = 0;
	for (uint32_t i = 0; j->p->max_loras && i < j->m->n_tensors; i++) {
		const struct pl_tensor *t = &j->m->tensors[i];
		enum pl_shard how = pl_role_info(t->role)->shard;
		bool vocab = t->role == PL_ROLE_TOKEN_EMBD || t->role == PL_ROLE_OUTPUT;
		if (t->n_dims != 2 || t->is_bias || !pl_shard_stage_holds(j->m, s, t) || (vocab && j->rules.version >= 1100))
			continue;
		if (!vocab && how != PL_SHARD_COLUMN && how != PL_SHARD_ROW && how != PL_SHARD_KV_HEADS)
			continue;
		uint64_t in = pl_ceil_div(t->ne[0], how == PL_SHARD_ROW ? pl->tp : 1);
		uint64_t out = pl_ceil_div(t->ne[1], how == PL_SHARD_ROW ? 1 : pl->tp);
		sum = pl_sat_add(sum, pl_sat_mul(2 * rank, pl_sat_add(in, out)));
	}
	return pl_sat_mul(sum, j->p->max_loras);
}

static double utilization_of(const struct vl_job *j, const struct sv_place *pl)
{
	double u = j->p->gpu_memory_utilization_frac > 0 ? j->p->gpu_memory_utilization_frac : j->rules.utilization_frac;
	if (j->p->gpu_memory_utilization_frac > 0 || !j->hw->detected)
		return u;
	for (uint32_t r = 0; r < pl->n_ranks; r++) { /* vLLM refuses to start when less is free than it is told to take */
		const struct pl_device *d = &j->hw->devices[pl->device[r]];
		if (d->free_known && d->total_bytes) {
			double free = floor(100.0 * (double)pl_sat_sub(d->free_bytes, vl_context(d)) / (double)d->total_bytes) / 100;
			u = free < u ? free : u;
		}
	}
	return u > 0.01 ? u : 0.01;
}

static void fill_rank(const struct vl_job *j, struct vl_answer *x, uint32_t r)
{
	const struct sv_place *pl = &x->place;
	const struct pl_device *d = &j->hw->devices[pl->device[r]];
	struct pl_shard_stage s = sv_stage(j->m, j->p, pl, r / pl->tp % pl->pp);
	struct vl_rank *k = &x->rank[r];
	k->total_bytes = d->total_bytes;
	k->visible_bytes = sv_visible(d);
	k->requested_bytes = (uint64_t)ceil((double)k->visible_bytes * x->utilization_frac);
	k->weights_bytes = pl_sat_add(weights_of(j, pl, &s), adapters_of(j, pl, &s));
	k->offload_bytes = pl_min_u64(j->p->cpu_offload_bytes, k->weights_bytes);
	k->weights_bytes -= k->offload_bytes;
	k->activation_bytes = vl_activation(j, x, &s, r % pl->tp == 0);
	k->non_torch_bytes = vl_non_torch(j, pl, d);
	k->graph_bytes = vl_graphs(j, x, &s);
	k->context_bytes = vl_context(d);
	uint64_t taken = pl_sat_add(k->weights_bytes, pl_sat_add(k->activation_bytes, k->non_torch_bytes));
	if (j->rules.graphs_counted)
		taken = pl_sat_add(taken, k->graph_bytes);
	taken = pl_min_u64(taken, INT64_MAX / 2);
	k->available_bytes = j->p->kv_cache_memory_bytes ? (int64_t)pl_min_u64(j->p->kv_cache_memory_bytes, INT64_MAX / 2)
	                                                 : (int64_t)k->requested_bytes - (int64_t)taken;
	vl_cache_build(j, pl, &s, x->max_num_batched_tokens, &k->cache);
}

static void judge_rank(const struct vl_job *j, struct vl_answer *x, uint32_t r)
{
	const struct vl_rank *k = &x->rank[r];
	uint64_t one = pl_sat_mul(k->cache.blocks_per_request, k->cache.block_bytes);
	uint64_t all = pl_min_u64(pl_sat_mul(one, sv_sequences(j->p, &x->place)), INT64_MAX / 2);
	uint64_t blocks = k->cache.block_bytes && k->available_bytes > 0 ? (uint64_t)k->available_bytes / k->cache.block_bytes : 0;
	if (j->p->num_gpu_blocks_override && blocks > j->p->num_gpu_blocks_override) /* more than is free fails when it is allocated */
		blocks = j->p->num_gpu_blocks_override;
	if (k->cache.block_bytes)
		x->n_blocks = pl_min_u64(x->n_blocks, blocks);
	x->verdict.starts &= k->available_bytes >= 0 && (uint64_t)k->available_bytes >= pl_min_u64(one, INT64_MAX / 2);
	int64_t lacks = (int64_t)all - k->available_bytes;
	if (j->p->num_gpu_blocks_override && k->cache.block_bytes) {
		uint64_t stated = pl_min_u64(pl_sat_mul(j->p->num_gpu_blocks_override, k->cache.block_bytes), INT64_MAX / 2);
		int64_t over = (int64_t)stated - k->available_bytes, under = (int64_t)all - (int64_t)stated;
		x->verdict.starts &= over <= 0 && stated >= pl_min_u64(one, INT64_MAX / 2);
		lacks = lacks > over ? lacks : over;
		lacks = lacks > under ? lacks : under;
	}
	if (lacks > 0 && (uint64_t)lacks > x->verdict.missing_bytes) {
		x->verdict.missing_bytes = (uint64_t)lacks;
		x->verdict.worst = r;
	}
	x->blocks_per_request = pl_max_u64(x->blocks_per_request, k->cache.blocks_per_request);
	if (k->cache.block_bytes && blocks < pl_sat_mul(k->cache.blocks_per_request, sv_sequences(j->p, &x->place)) && !x->verdict.missing_bytes)
		x->verdict.missing_bytes = 1; /* whole blocks only */
}

/* Tensor parallel ranks on equal cards hold the same; in V0 the first one samples and differs. */
static bool like_the_last(const struct vl_job *j, const struct sv_place *pl, uint32_t r)
{
	uint32_t at = r % pl->tp;
	return at && (j->rules.v1 || at > 1) && j->hw->devices[pl->device[r]].gpu == j->hw->devices[pl->device[r - 1]].gpu &&
	       j->hw->devices[pl->device[r]].total_bytes == j->hw->devices[pl->device[r - 1]].total_bytes;
}

static void evaluate(const struct vl_job *j, struct vl_answer *x)
{
	vl_defaults(j, &j->hw->devices[x->place.device[0]], x);
	x->utilization_frac = utilization_of(j, &x->place);
	x->verdict.starts = true;
	x->n_blocks = UINT64_MAX;
	for (uint32_t r = 0; r < x->place.n_ranks; r++) {
		if (like_the_last(j, &x->place, r))
			x->rank[r] = x->rank[r - 1];
		else
			fill_rank(j, x, r);
		judge_rank(j, x, r);
	}
	if (x->n_blocks == UINT64_MAX)
		x->n_blocks = 0;
	x->verdict.holds = x->verdict.starts && !x->verdict.missing_bytes;
}

/* ---- which ranks -------------------------------------------------------------------------------------------------- */

/* Of the sequences a step may hold, the share whose whole context the cache has room for; at most 1. */
static double room(const struct vl_answer *x)
{
	double all = (double)x->blocks_per_request * x->max_num_seqs;
	return all > 0 && (double)x->n_blocks < all ? (double)x->n_blocks / all : 1;
}

/* Then the larger cache as far as a step can use it. Equals keep the one with fewer ranks, which comes first. */
static bool better(const struct vl_answer *x, const struct vl_answer *y)
{
	int c = sv_compare(&x->verdict, &x->place, &y->verdict, &y->place);
	return c ? c > 0 : room(x) > room(y);
}

static bool even(uint64_t width, uint32_t parts, uint32_t unit)
{
	return width % ((uint64_t)parts * unit) == 0;
}

static bool is_quant(const struct vl_job *j, const char *scheme)
{
	return j->m->quant_name && !strncmp(j->m->quant_name, scheme, strlen(scheme));
}

/* Parts that kernels multiply: Marlin takes inputs in 128 (quantization/utils/marlin_utils.py), FP8 in blocks has its scales by
 * 128 both ways (fp8_utils.py, validate_fp8_block_shape). Widths that are cut must be whole ones. */
static uint32_t width_unit(const struct vl_job *j)
{
	return is_quant(j, "gptq") || is_quant(j, "awq") || is_quant(j, "w4a16") || is_quant(j, "fp8-block") ? 128 : 1;
}

static bool divides(const struct vl_job *j, uint32_t tp, bool ep)
{
	uint32_t unit = width_unit(j);
	if (tp == 1)
		return true;
	if (!pl_shard_heads_divide(j->m, tp) || pl_round_up(j->m->n_vocab, 64) % tp)
		return false;
	for (uint32_t i = 0; i < j->m->n_layers; i++) {
		const struct pl_layer *l = &j->m->layers[i];
		if ((l->n_ff && !even(l->n_ff, tp, unit)) || (l->n_ff_shared && !even(l->n_ff_shared, tp, unit)))
			return false;
		if (l->n_ff_expert && (ep ? l->n_expert < tp : !even(l->n_ff_expert, tp, unit)))
			return false;
	}
	return true;
}

/* Ranks that hold the same heads may each keep a part of the tokens instead (config/parallel.py, decode_context_parallel_size; one
 * group of caches: v1/core/kv_cache_utils.py). Their number must be stated with the tensor parallel one's. */
static bool splits_context(const struct vl_job *j, uint32_t tp)
{
	uint32_t dcp = j->p->decode_context_parallel;
	if (!tp || tp % dcp || !j->rules.v1)
		return false;
	for (uint32_t i = 0; i < j->m->n_layers; i++) {
		const struct pl_layer *l = &j->m->layers[i];
		uint32_t heads = l->attn == PL_ATTN_MLA ? 1 : l->n_head_kv;
		if (l->rec != PL_REC_NONE || l->window_tokens || (heads && tp / heads < dcp))
			return false;
	}
	return true;
}

static int check_asked(const struct vl_job *j, uint32_t dp, struct pl_err *err)
{
	const struct pl_params *p = j->p;
	int rc = sv_check_heads(j->m, p, err);
	if (rc)
		return rc;
	if (p->tensor_parallel && !divides(j, p->tensor_parallel, p->expert_parallel))
		return pl_fail(err, PL_ERR_RANGE, "--tensor-parallel",
		               pl_model_kinds(j->m).experts && !p->expert_parallel
		                   ? PL_N_("%u ranks cut a matrix of %s where its kernels cannot: widths must be whole multiples of %u (or deal whole experts: --expert-parallel)")
		                   : PL_N_("%u ranks cut a matrix of %s where its kernels cannot: widths must be whole multiples of %u"),
		               p->tensor_parallel, j->m->name, width_unit(j));
	if (p->prefill_context_parallel > 1)
		return pl_fail(err, PL_ERR_UNSUPPORTED, "--prefill-context-parallel-size", "vLLM's memory under it is not modelled");
	if (p->decode_context_parallel > 1 && !splits_context(j, p->tensor_parallel))
		return pl_fail(err, PL_ERR_RANGE, "--decode-context-parallel-size",
		               "%u ranks cannot share a sequence: that many of --tensor-parallel must hold the same heads, and all layers be of one kind",
		               p->decode_context_parallel);
	return sv_check_ranks(j->m, j->hw, p, dp, err);
}

int vl_choose(struct vl_job *j, struct vl_answer *ret, struct pl_err *err)
{
	struct vl_answer *best = PL_NEW(j->a, struct vl_answer), *x = PL_NEW(j->a, struct vl_answer);
	uint32_t n = j->hw->n_devices < PL_MAX_DEVICES ? j->hw->n_devices : PL_MAX_DEVICES;
	uint32_t dp = j->p->data_parallel ? j->p->data_parallel : 1;
	bool any = false;
	int rc = check_asked(j, dp, err);
	if (rc)
		return rc;
	if (!best || !x)
		return pl_fail(err, PL_ERR_NOMEM, j->m->name, "out of memory while planning");
	for (uint32_t pp = 1; pp <= n; pp++)
		for (uint32_t tp = 1; tp * pp * dp <= n; tp++) {
			/* whole experts only where their width cannot be cut */
			bool ep = j->p->expert_parallel || (!divides(j, tp, false) && pl_model_kinds(j->m).experts);
			*x = (struct vl_answer){.place = {.tp = tp, .pp = pp, .dp = dp, .attn_groups = 1, .expert_ranks = ep ? tp * dp : 1}};
			if (!sv_place_devices(j->m, j->hw, j->p, &x->place) || !divides(j, tp, ep))
				continue;
			evaluate(j, x);
			if (!any || better(x, best)) {
				struct vl_answer *swap = best;
				best = x;
				x = swap;
				any = true;
			}
		}
	if (!any)
		return pl_fail(err, PL_ERR_RANGE, "--tensor-parallel", "no number of ranks suits %s on this machine", j->m->name);
	*ret = *best;
	return 0;
}
