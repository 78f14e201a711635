/* SGLang: the engine's row and its answer. */
#include <string.h>

#include "base/checked.h"
#include "engine/engines.h"
#include "engine/log.h"
#include "engine/sglang.h"

static const uint64_t MIB = 1024 * 1024;

/* What its attention kernels read, in order of loss. */
static const enum pl_dtype kv_types[] = {PL_DTYPE_F8_E4M3, PL_DTYPE_UNKNOWN};

/* ---- beside the pools --------------------------------------------------------------------------------------------- */

/* What is gone of a card before the weights ("Load weight begin. avail mem"): the driver's context and PyTorch's libraries,
 * 0.70 GiB below what PyTorch sees on H100 (78.43 and 78.48), B200 (177.57) and RTX 4090 (22.93) with 0.5, 0.32 with 0.4
 * (78.81 on H100); between ranks NCCL: 1.05 GiB more on eight H100 (77.33, 77.43) and H200 (138.09), 2.2 on four B200 (175.34),
 * nothing to speak of over PCIe (22.93 on two). MI355X: 287.18 of 287.98 GiB alone, 283.56 with seven others. */
static uint64_t before_weights(const struct sv_job *j, const struct sv_place *pl, const struct pl_device *d)
{
	const struct sg_rules *r = j->rules;
	uint64_t mib = r->reserve == SG_BY_PARTS ? 717 : 328;
	if (d->vendor == PL_VENDOR_AMD)
		mib = pl->tp * pl->pp > 1 ? 4526 : 820;
	else if (pl->tp * pl->pp > 1 && sv_fast_link(j->hw))
		mib += j->capability >= 10 ? 2253 : j->capability >= 9 ? 1075 : 512;
	return mib * MIB;
}

/* Buffers of the attention kernels, taken after the pools: 1.1 GiB for TensorRT-LLM's (25.26 to 24.14), 0.44 to 0.55 for
 * FlashInfer's, 0.06 for FlashAttention 3 (11.22 to 11.16). */
static uint64_t attention_buffers(const struct sv_job *j)
{
	if (j->capability >= 10 && j->capability < 11)
		return 1126 * MIB;
	return (j->capability >= 9 && j->capability < 10 ? 61u : 480u) * MIB;
}

/* 0.07 GiB for 3 batches of 24 layers, 0.09 for 4 of 40, 0.60 for 52 of 36, 1.44 for 52 of 28: the middle of what logs say for a
 * batch and layer; pieces of prompts take 8 MiB each beside what they reuse. */
static uint64_t graphs(const struct sv_answer *x, const struct pl_shard_stage *s)
{
	uint64_t layers = s->end_layer - s->first_layer;
	return pl_sat_mul(x->n_graphs, layers * MIB * 3 / 5);
}

static uint64_t step_bytes(const struct sv_job *j, const struct sv_answer *x, const struct pl_shard_stage *s)
{
	uint64_t forward = sv_forward_bytes(j, &x->place, s, x->max_tokens);
	/* logits of the largest captured batch: 16-bit, gathered, and in 32 bit */
	uint64_t logits = s->has_output ? pl_sat_mul(pl_sat_mul(x->graph_batch, j->m->n_vocab), 8) : 0;
	return pl_max_u64(forward, logits);
}

/* Tables of rotary positions, 32 bit, once for all layers. */
static uint64_t rope_bytes(const struct pl_model *m)
{
	for (uint32_t i = 0; i < m->n_layers; i++)
		if (m->layers[i].attn != PL_ATTN_NONE && !m->layers[i].no_rope)
			return pl_sat_mul(pl_sat_mul(m->n_ctx_train, m->layers[i].d_rope ? m->layers[i].d_rope : m->layers[i].d_k), 4);
	return 0;
}

static void fill_rank(const struct sv_job *j, struct sv_answer *x, uint32_t r)
{
	struct sv_rank *k = &x->rank[r];
	const struct pl_device *d = &j->hw->devices[x->place.device[r]];
	struct pl_shard_stage s = sv_stage(j->m, j->p, &x->place, r / x->place.tp % x->place.pp);
	uint64_t hidden = d->total_bytes - sv_visible(d), before = before_weights(j, &x->place, d);
	uint64_t free = j->hw->detected && d->free_known ? d->free_bytes : d->total_bytes;
	uint64_t start = pl_sat_sub(free, pl_sat_add(hidden, before));
	uint64_t draft = s.has_output ? sv_draft_weights(j, &x->place) : 0;
	k->weights_bytes = pl_sat_add(sv_weights(j, &x->place, &s), sv_absorbed_bytes(j, &x->place, &s));
	k->weights_bytes = pl_sat_add(k->weights_bytes, sg_adapters(j, &x->place));
	k->offload_bytes = pl_min_u64(j->p->cpu_offload_bytes, k->weights_bytes);
	k->weights_bytes -= k->offload_bytes;
	k->host_kv_bytes = j->p->kv_offload_bytes;
	k->compute_bytes = step_bytes(j, x, &s);
	k->overhead_bytes = pl_sat_add(pl_sat_add(hidden, before), pl_sat_add(attention_buffers(j), graphs(x, &s)));
	k->overhead_bytes = pl_sat_add(k->overhead_bytes, rope_bytes(j->m));
	/* the pools get what is free after the weights, less the part of the start that is not static */
	uint64_t slack = (uint64_t)((double)start * (1 - x->frac));
	uint64_t taken = pl_sat_add(pl_sat_add(k->weights_bytes, rope_bytes(j->m)), slack);
	if (((const struct sg_rules *)j->rules)->draft_counted) /* before, it came out of the slack */
		taken = pl_sat_add(taken, draft);
	k->weights_bytes = pl_sat_add(k->weights_bytes, draft);
	k->over_bytes = pl_sat_sub(taken, start);
	sg_pools(j, x, &s, pl_sat_sub(start, taken), k);
}

static void fill(const struct sv_job *j, struct sv_answer *x)
{
	sg_defaults(j, x);
	for (uint32_t r = 0; r < x->place.n_ranks; r++)
		fill_rank(j, x, r);
}

/* ---- the answer --------------------------------------------------------------------------------------------------- */

static void add_notes(const struct sv_job *j, const struct sv_answer *x, struct pl_layout *out)
{
	struct pl_arena *a = j->a;
	if (x->place.n_ranks < j->hw->n_devices && !j->p->tensor_parallel)
		pl_note_add(a, &out->notes, PL_NOTE_INFO,
		            "%u of %u GPUs are used: chosen is what holds the request, with the fewest pipeline stages, then the largest cache",
		            x->place.n_ranks, j->hw->n_devices);
	if (!x->verdict.starts)
		pl_note_add(a, &out->notes, PL_NOTE_INFO,
		            "SGLang refuses to start: the weights leave nothing of mem_fraction_static %.3f for the cache", x->frac);
	if (pl_model_kinds(j->m).state && x->rank[0].sequences != UINT64_MAX)
		pl_note_add(a, &out->notes, PL_NOTE_INFO, "the pool of recurrent states holds %llu running sequences",
		            (unsigned long long)x->rank[0].sequences);
	if (j->p->max_loras)
		pl_note_add(a, &out->notes, PL_NOTE_INFO,
		            "adapters are planned for every matrix of attention and feed forward (--lora-target-modules), rank %u", sg_lora_rank(j->p));
	if (sv_drafts(j) && j->p->n_seq > SG_SPEC_REQUESTS && !j->p->max_num_seqs)
		pl_note_add(a, &out->notes, PL_NOTE_INFO, "with a draft SGLang runs %u requests at once unless --max-running-requests says more",
		            (unsigned)SG_SPEC_REQUESTS);
	if (j->capability <= 0 && j->hw->devices[0].vendor == PL_VENDOR_UNKNOWN)
		pl_note_add(a, &out->notes, PL_NOTE_INFO, "the card is not catalogued: an NVIDIA card of compute capability 8.0 or newer is assumed");
	sv_note_assumed(a, j->engine, j->m, j->hw, out);
}

static void resolve(const struct sv_job *j, const struct sv_answer *x, struct pl_params *p)
{
	const struct sg_rules *r = j->rules;
	p->engine_version = r->version_text;
	p->n_ctx_tokens = j->n_ctx;
	p->tensor_parallel = x->place.tp;
	p->pipeline_parallel = x->place.pp;
	p->data_parallel = x->place.attn_groups > 1 ? x->place.attn_groups : x->place.dp;
	p->gpu_memory_utilization_frac = x->frac;
	p->max_num_batched_tokens = x->max_tokens * (x->place.attn_groups > 1 ? x->place.attn_groups : 1);
	p->max_cudagraph_batch = x->graph_batch;
	if (sv_drafts(j) && p->n_seq > SG_SPEC_REQUESTS && !p->max_num_seqs)
		p->max_num_seqs = p->n_seq;
}

static int check(const struct sv_job *j, struct pl_err *err)
{
	const struct pl_params *p = j->p;
	if (p->swa_full_tokens_ratio < 0 || p->swa_full_tokens_ratio > 1)
		return pl_fail(err, PL_ERR_RANGE, "--swa-full-tokens-ratio", "%g is not a share above 0 and up to 1", p->swa_full_tokens_ratio);
	if (p->max_loras && sv_drafts(j))
		return pl_fail(err, PL_ERR_UNSUPPORTED, "--max-loras", "SGLang runs adapters beside a draft by n-grams only");
	if (p->draft.mtp && p->pipeline_parallel > 1)
		return pl_fail(err, PL_ERR_UNSUPPORTED, "--pipeline-parallel",
		               "SGLang runs next-token-prediction layers on one pipeline stage only");
	return 0;
}

static int layout(struct pl_arena *a, const struct pl_model *m, const struct pl_machine *hw, struct pl_params *p,
                  struct pl_layout *ret_layout, struct pl_err *err)
{
	struct sg_rules rules;
	struct pl_params asked = *p;
	struct sv_job job = {.a = a, .m = m, .hw = hw, .p = &asked, .engine = "SGLang", .rules = &rules,
	                     .fill = fill, .add_notes = add_notes, .resolve = resolve};
	int rc = sg_rules_of(p->engine_version, &rules, err);
	rc = rc ? rc : check(&job, err);
	if (asked.draft.mtp && !asked.pipeline_parallel)
		asked.pipeline_parallel = 1;
	return rc ? rc : sv_plan(&job, p, ret_layout, err);
}

static const struct pl_server server = {
    .host_flag = "--host",
    .port_flag = "--port",
    .port = 30000,
    .health_path = "/health",
    .metrics_path = "/metrics",
    .metrics_flag = "--enable-metrics",
    .api_key_flag = "--api-key",
};

const struct pl_engine pl_engine_sglang = {
    .id = "sglang",
    .drafting = PL_DRAFTS_COUNTED_WITH_TARGET,
    .aliases = "sgl sgl-project",
    .version = "0.5.14",
    .supports = sg_supports,
    .layout = layout,
    .command = sg_command,
    .kv_types = kv_types,
    .server = &server,
    .read_log = pl_log_read_sglang,
};
