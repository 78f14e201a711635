/* vLLM: the engine's row and its answer. */
#include <string.h>

#include "base/checked.h"
#include "engine/engines.h"
#include "engine/log.h"
#include "engine/vllm.h"

/* What its attention kernels read, in order of loss. */
static const enum pl_dtype kv_types[] = {PL_DTYPE_F8_E4M3, PL_DTYPE_UNKNOWN};

/* Cosines and sines of every position the model knows, in 16 bit, once for all layers (layers/rotary_embedding). */
static uint64_t rope_table(const struct pl_model *m)
{
	for (uint32_t i = 0; i < m->n_layers; i++) {
		const struct pl_layer *l = &m->layers[i];
		if (l->attn != PL_ATTN_NONE && !l->no_rope)
			return pl_sat_mul(pl_sat_mul(m->n_ctx_train, l->d_rope ? l->d_rope : l->d_k), 2);
	}
	return 0;
}

static int job_init(struct vl_job *j, struct pl_arena *a, const struct pl_model *m, const struct pl_machine *hw,
                    const struct pl_params *p, struct pl_err *err)
{
	*j = (struct vl_job){.a = a, .m = m, .hw = hw, .p = p, .capability = sv_capability(hw)};
	int rc = vl_rules_of(p->engine_version, j->capability, &j->rules, err);
	rc = rc ? rc : sv_cache_type("vLLM", "f16, bf16, f8_e4m3, f8_e5m2", p, &j->kv_type, &j->kv_elem_bytes, err);
	rc = rc ? rc : sv_check_request("vLLM", hw, p, err);
	if (rc)
		return rc;
	j->max_model_len = sv_context_tokens(m, p);
	j->half = j->capability > 0 && j->capability < 8;
	j->rope_bytes = rope_table(m);
	return 0;
}

/* ---- the answer ----------------------------------------------------------------------------------------------------- */

static void answer_rank(const struct vl_job *j, const struct vl_answer *x, uint32_t r, struct pl_use *u)
{
	const struct vl_rank *k = &x->rank[r];
	struct pl_shard_stage s = sv_stage(j->m, j->p, &x->place, r / x->place.tp % x->place.pp);
	uint64_t pool = pl_sat_mul(x->n_blocks, k->cache.block_bytes);
	uint64_t asked = pl_sat_mul(pl_sat_mul(k->cache.blocks_per_request, sv_sequences(j->p, &x->place)), k->cache.block_bytes);
	u->model_bytes = k->weights_bytes;
	u->compute_bytes = k->activation_bytes;
	u->overhead_bytes = pl_sat_add(pl_sat_add(k->context_bytes, k->non_torch_bytes), k->graph_bytes);
	if (j->rules.context_counted) /* it is in the other already */
		u->overhead_bytes = pl_sat_sub(u->overhead_bytes, k->context_bytes);
	u->kv_bytes = pl_max_u64(pool, asked);
	u->n_layers = s.end_layer - s.first_layer;
	if (x->verdict.holds && pl_use_total_bytes(u) > u->total_bytes) /* graphs captured into what the driver keeps back */
		u->overhead_bytes = pl_sat_sub(u->overhead_bytes, pl_use_total_bytes(u) - u->total_bytes);
}

/* Processed images, once in the API process and once in each engine (config/multimodal.py, mm_processor_cache_gb: 4 GiB). */
static uint64_t image_cache(const struct vl_job *j, const struct vl_answer *x)
{
	uint64_t one = j->p->mm_cache_bytes == UINT64_MAX ? UINT64_C(4) << 30 : j->p->mm_cache_bytes;
	return j->m->n_params_vision && !j->p->language_model_only ? pl_sat_mul(one, 1 + (uint64_t)x->place.dp) : 0;
}

static void answer_host(const struct vl_job *j, const struct vl_answer *x, struct pl_host_use *h)
{
	for (uint32_t r = 0; r < x->place.n_ranks; r++)
		h->use.model_bytes = pl_sat_add(h->use.model_bytes, x->rank[r].offload_bytes);
	h->use.kv_bytes = j->p->kv_offload_bytes; /* of all ranks together (--kv-offloading-size) */
	sv_host(j->m, j->hw, &x->place, 0, image_cache(j, x), h);
}

static uint64_t spare_bytes(const struct vl_job *j, const struct vl_answer *x)
{
	uint64_t least = UINT64_MAX;
	for (uint32_t r = 0; r < x->place.n_ranks; r++) {
		const struct vl_rank *k = &x->rank[r];
		uint64_t asked = pl_sat_mul(pl_sat_mul(k->cache.blocks_per_request, sv_sequences(j->p, &x->place)), k->cache.block_bytes);
		least = pl_min_u64(least, pl_sat_sub((uint64_t)k->available_bytes, asked));
	}
	return least;
}

static void add_notes(const struct vl_job *j, const struct vl_answer *x, struct pl_layout *out)
{
	struct pl_arena *a = j->a;
	if (x->place.n_ranks < j->hw->n_devices && !j->p->tensor_parallel)
		pl_note_add(a, &out->notes, PL_NOTE_INFO,
		            "%u of %u GPUs are used: chosen is what holds the request, with the fewest pipeline stages, then the largest cache that a step can use",
		            x->place.n_ranks, j->hw->n_devices);
	if (!j->rules.v1 && !j->p->engine_version)
		pl_note_add(a, &out->notes, PL_NOTE_INFO,
		            "planned for vLLM %s and its V0 engine with xFormers: for compute capability %.1f, 0.10.2 to 0.19 have Triton's kernels only, later releases none",
		            j->rules.version_text, j->capability);
	if (j->p->num_gpu_blocks_override)
		pl_note_add(a, &out->notes, PL_NOTE_INFO, "the cache has the %u blocks of --num-gpu-blocks-override, whatever is free",
		            j->p->num_gpu_blocks_override);
	if (!x->verdict.starts && x->blocks_per_request && x->n_blocks)
		pl_note_add(a, &out->notes, PL_NOTE_INFO,
		            "vLLM refuses to start: one sequence of %llu tokens takes %llu blocks, the cache has %llu",
		            (unsigned long long)j->max_model_len, (unsigned long long)x->blocks_per_request,
		            (unsigned long long)x->n_blocks);
	if (x->place.expert_ranks > 1 && !j->p->expert_parallel)
		pl_note_add(a, &out->notes, PL_NOTE_INFO,
		            "whole experts are dealt out to the ranks: their width, stored in blocks of 128, cannot be cut into %u parts", x->place.tp);
	if (j->m->n_ctx_train && j->max_model_len > j->m->n_ctx_train)
		pl_note_add(a, &out->notes, PL_NOTE_WARNING,
		            "the model was made for %u tokens: vLLM takes more only with VLLM_ALLOW_LONG_MAX_MODEL_LEN=1", j->m->n_ctx_train);
	if (vl_is_compressed(j->m))
		pl_note_add(a, &out->notes, PL_NOTE_INFO,
		            "vLLM's cache of DeepSeek V4 is planned by the rules of 0.24 with FP8 rows; no log of it has been compared");
	if (j->capability <= 0 && j->hw->devices[0].vendor == PL_VENDOR_UNKNOWN)
		pl_note_add(a, &out->notes, PL_NOTE_INFO, "the card is not catalogued: an NVIDIA card of compute capability 8.0 or newer is assumed");
	sv_note_assumed(a, "vLLM", j->m, j->hw, out);
	if (j->m->n_layers_mtp && !j->p->draft.mtp)
		pl_note_add(a, &out->notes, PL_NOTE_INFO,
		            "vLLM loads the next-token-prediction layers only for speculative decoding: they are not counted");
}

static void resolve(const struct vl_job *j, const struct vl_answer *x, struct pl_params *p)
{
	p->engine_version = j->rules.version_text;
	p->n_ctx_tokens = j->max_model_len;
	p->tensor_parallel = x->place.tp;
	p->pipeline_parallel = x->place.pp;
	p->data_parallel = x->place.dp;
	p->expert_parallel |= x->place.expert_ranks > 1;
	p->gpu_memory_utilization_frac = x->utilization_frac;
	p->max_num_seqs = x->max_num_seqs;
	p->max_num_batched_tokens = x->max_num_batched_tokens;
}

static int layout(struct pl_arena *a, const struct pl_model *m, const struct pl_machine *hw, struct pl_params *p,
                  struct pl_layout *ret_layout, struct pl_err *err)
{
	struct vl_job job;
	struct vl_answer *x = PL_NEW(a, struct vl_answer);
	struct pl_layout out;
	if (!x)
		return pl_fail(err, PL_ERR_NOMEM, m->name, "out of memory while laying out %u layers", m->n_layers);
	int rc = job_init(&job, a, m, hw, p, err);
	rc = rc ? rc : vl_choose(&job, x, err);
	rc = rc ? rc : sv_frame(a, m, hw, p, &x->place, &out, err);
	if (rc)
		return rc;
	for (uint32_t r = 0; r < x->place.n_ranks; r++)
		answer_rank(&job, x, r, &out.devices[x->place.device[r]]);
	answer_host(&job, x, &out.host);
	sv_judge(hw, &x->place, &x->verdict, &out);
	out.spare_bytes = out.fits ? spare_bytes(&job, x) : 0;
	out.n_ctx_tokens = job.max_model_len;
	out.kv_bytes_per_token = vl_token_bytes(&job, x->place.tp);
	bool cached = x->rank[0].cache.n_groups > 0; /* else the model keeps none, or it is not modelled */
	out.num_gpu_blocks = (struct pl_opt_u64){x->n_blocks, cached};
	out.kv_cache_tokens = (struct pl_opt_u64){vl_cache_tokens(&job, &x->rank[0].cache, x->n_blocks), cached};
	out.block_size = cached ? x->rank[0].cache.block_tokens : 0;
	out.max_concurrency = vl_cache_concurrency(&x->rank[0].cache, x->n_blocks);
	add_notes(&job, x, &out);
	resolve(&job, x, p);
	*ret_layout = out;
	return 0;
}

static const struct pl_server server = {
    .host_flag = "--host",
    .port_flag = "--port",
    .port = 8000,
    .health_path = "/health",
    .metrics_path = "/metrics",
    .api_key_flag = "--api-key",
    .api_key_env = "VLLM_API_KEY",
};

const struct pl_engine pl_engine_vllm = {
    .id = "vllm",
    .drafting = PL_DRAFTS_COUNTED,
    .aliases = "vllm-openai",
    .version = "0.24.0",
    .supports = vl_supports,
    .layout = layout,
    .command = vl_command,
    .kv_types = kv_types,
    .server = &server,
    .read_log = pl_log_read_vllm,
};
