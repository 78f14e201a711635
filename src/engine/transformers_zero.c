/* ZeRO stage 3 under DeepSpeed: every rank keeps 1/N of each parameter, gathers what a module needs and lets it go again; its
 * batch is its own. By deepspeed 0.19: runtime/zero/partition_parameters.py, partitioned_param_coordinator.py, config.py,
 * runtime/swap_tensor/partitioned_param_swapper.py. */
#include "base/checked.h"
#include "engine/transformers.h"

/* stage3_param_persistence_threshold, stage3_max_live_parameters, stage3_prefetch_bucket_size; offload_param's buffers. */
static const uint64_t PERSISTENT_ELEMS = 100 * 1000, MAX_LIVE_ELEMS = 1000 * 1000 * 1000, PREFETCH_ELEMS = 50 * 1000 * 1000;
static const uint64_t BUFFER_COUNT = 5, BUFFER_ELEMS = 100 * 1000 * 1000;

int tf_zero_check(const struct tf_job *j, struct pl_err *err)
{
	static const char *const name = "--zero-stage 3";
	if (!j->n_gpus || j->mps)
		return pl_fail(err, PL_ERR_UNSUPPORTED, name, "DeepSpeed shards weights over GPUs of its own launcher: the machine has none that it drives");
	if (j->scheme != TF_PLAIN)
		return pl_fail(err, PL_ERR_UNSUPPORTED, name, "ZeRO shards plain weights of 16 or 32 bits; '%s' is planned without it",
		               j->m->quant_name ? j->m->quant_name : "");
	return 0;
}

void tf_zero(const struct tf_job *j, struct tf_zero *ret)
{
	const struct pl_model *m = j->m;
	uint64_t n = j->n_gpus, sharded = 0, largest = 0, largest_part = 0;
	*ret = (struct tf_zero){0};
	for (uint32_t i = 0; i < m->n_tensors; i++) {
		const struct pl_tensor *t = &m->tensors[i];
		uint64_t part = pl_ceil_div(t->n_elems, n);
		if (t->n_elems <= PERSISTENT_ELEMS) { /* whole on every rank, beside its part of it */
			ret->persistent_bytes = pl_sat_add(ret->persistent_bytes, pl_sat_mul(t->n_elems + part, j->elem_bytes));
			continue;
		}
		ret->shard_bytes = pl_sat_add(ret->shard_bytes, pl_sat_mul(part, j->elem_bytes));
		sharded = pl_sat_add(sharded, t->n_elems);
		largest = pl_max_u64(largest, t->n_elems);
		largest_part = pl_max_u64(largest_part, part);
	}
	/* prefetching runs ahead until the limit is passed by one parameter; a bucket is copied out of its flat buffer */
	uint64_t live = pl_min_u64(sharded, pl_sat_add(MAX_LIVE_ELEMS, largest));
	uint64_t flat = n > 1 ? pl_min_u64(sharded, pl_sat_add(PREFETCH_ELEMS, largest)) : 0;
	ret->live_bytes = pl_sat_mul(pl_sat_add(live, flat), j->elem_bytes);
	ret->buffer_elems = pl_max_u64(BUFFER_ELEMS, largest_part);
	switch (j->p->zero_offload) {
	case PL_ZERO_GPU:
		ret->gpu_bytes = pl_sat_add(ret->shard_bytes, ret->persistent_bytes);
		break;
	case PL_ZERO_CPU:
		ret->gpu_bytes = ret->persistent_bytes;
		ret->pinned_bytes = pl_sat_mul(ret->shard_bytes, n);
		break;
	case PL_ZERO_NVME:
		ret->gpu_bytes = ret->persistent_bytes;
		ret->disk_bytes = pl_sat_mul(ret->shard_bytes, n);
		ret->pinned_bytes = pl_sat_mul(pl_sat_mul(BUFFER_COUNT, pl_sat_mul(ret->buffer_elems, j->elem_bytes)), n);
		break;
	}
}
