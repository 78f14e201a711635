/* SGLang's defaults by release and card (srt/server_args.py). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "engine/sglang.h"

static const uint64_t MIB = 1024 * 1024;

int sg_rules_of(const char *version, struct sg_rules *r, struct pl_err *err)
{
	unsigned major = 0, minor = 5, patch = 14;
	const char *text = version && *version ? version : "0.5.14";
	if (sscanf(*text == 'v' ? text + 1 : text, "%2u.%2u.%2u", &major, &minor, &patch) < 2)
		return pl_fail(err, PL_ERR_RANGE, "--engine-version", "'%.40s' is not a release of SGLang such as 0.5.14", text);
	uint32_t v = major * 10000 + minor * 100 + patch;
	if (v < 400 || v >= 10000)
		return pl_fail(err, PL_ERR_RANGE, "--engine-version", "SGLang %.40s is not modelled: 0.4 and 0.5 are", text);
	*r = (struct sg_rules){
	    .version = v,
	    .version_text = text,
	    .reserve = v >= 500 ? SG_BY_PARTS : v >= 407 ? SG_BY_CLASS : SG_BY_RANKS,
	    .prefill_graphs = v >= 510,
	    .draft_counted = v >= 514,
	    .draft_reserve_mib = v >= 510 ? 4096 : 2048,
	    .state_pools = v >= 506,
	    .extra_buffer = v >= 514,
	};
	return 0;
}

/* ---- defaults ----------------------------------------------------------------------------------------------------- */

/* Classes of cards by memory in MiB: chunk of a prompt, captured batch on fewer than four ranks and on more. */
static const struct {
	uint32_t below_mib, chunk, batch, batch_tp4;
} classes[] = {
    {20 * 1024, 2048, 8, 8},      {35 * 1024, 2048, 24, 80},    {60 * 1024, 4096, 32, 160},
    {90 * 1024, 8192, 256, 512},  {160 * 1024, 8192, 256, 512}, {UINT32_MAX, 16384, 512, 512},
};

static void knobs(const struct sv_job *j, const struct sg_rules *r, double mib, struct sv_answer *x)
{
	uint32_t c = 0, chunk, batch;
	while (mib >= classes[c].below_mib)
		c++;
	if (r->reserve == SG_BY_PARTS) {
		chunk = classes[c].chunk;
		batch = x->place.tp < 4 ? classes[c].batch : classes[c].batch_tp4;
	} else {
		bool small = r->reserve == SG_BY_CLASS ? mib < 35 * 1024 : mib < 25000;
		chunk = small ? 2048 : r->reserve == SG_BY_CLASS && mib >= 160 * 1024 ? 16384 : 8192;
		batch = small ? (x->place.tp < 4 ? 8 : 80) : 160;
	}
	x->max_tokens = j->p->max_num_batched_tokens ? j->p->max_num_batched_tokens : chunk;
	if (x->place.attn_groups > 1)
		x->max_tokens = (uint32_t)pl_max_u64(x->max_tokens / x->place.attn_groups, 1);
	x->graph_batch = j->p->enforce_eager ? 0 : j->p->max_cudagraph_batch ? j->p->max_cudagraph_batch : batch;
}

/* Captured decode batches: 1, 2, 4, 8, 12, by 8 to 256, by 16 to 512, by 32. */
static uint32_t decode_graphs(uint32_t most)
{
	uint32_t n = 0;
	for (uint32_t b = 1; b <= most; n++)
		b += b == 1 ? 1 : b == 2 ? 2 : b < 16 ? 4 : b < 256 ? 8 : b < 512 ? 16 : 32;
	return n;
}

/* With a draft: by 1 to 8, 2 to 32, 4 from 40 to 64, 8 from 72 to 256, 16, and the last. */
static uint32_t verify_graphs(uint32_t most)
{
	uint32_t n = 0, last = 0;
	for (uint32_t b = 1; b <= most; n++) {
		last = b;
		b += b < 8 ? 1 : b < 32 ? 2 : b == 32 || b == 64 ? 8 : b < 64 ? 4 : b < 256 ? 8 : 16;
	}
	return n + (most > last);
}

/* Captured pieces of prompts: by 4 to 32, 16 to 256, 32 to 512, 64 to 1024, 256 to 4096, 512. */
static uint32_t prefill_graphs(uint32_t most)
{
	uint32_t n = 0;
	for (uint32_t b = 4; b <= most; n++)
		b += b < 32 ? 4 : b < 256 ? 16 : b < 512 ? 32 : b < 1024 ? 64 : b < 4096 ? 256 : 512;
	return n;
}

static uint32_t prefill_graph_count(const struct sv_job *j, const struct sg_rules *r, const struct sv_answer *x)
{
	bool cuda = j->hw->devices[x->place.device[0]].vendor == PL_VENDOR_NVIDIA ||
	            j->hw->devices[x->place.device[0]].vendor == PL_VENDOR_UNKNOWN;
	if (!r->prefill_graphs || j->p->enforce_eager || !cuda || x->place.attn_groups > 1 || x->place.pp > 1 || j->p->max_loras ||
	    j->p->cpu_offload_bytes)
		return 0;
	uint64_t most = pl_model_kinds(j->m).latent ? 2048 : x->max_tokens;
	return prefill_graphs((uint32_t)pl_min_u64(most, j->n_ctx));
}

static double reserve_by_parts(const struct sv_job *j, const struct sg_rules *r, double mib, const struct sv_answer *x)
{
	const struct sv_place *pl = &x->place;
	uint32_t pieces = prefill_graph_count(j, r, x);
	double chunk = x->max_tokens * (pl->attn_groups > 1 ? pl->attn_groups : 1), sum = 512;
	sum += (chunk > 2048 ? chunk : 2048) * 1.5;
	sum += x->graph_batch * 2.0 + (double)pl->tp * pl->pp / 8 * 1024;
	if (pl->attn_groups > 1)
		sum += x->graph_batch * (double)pl->attn_groups * (x->graph_batch > 300 ? 4.5 : 3);
	if (pieces)
		sum += pl_model_kinds(j->m).latent ? 1536 : pieces * 8.0;
	if (mib > 60 * 1024 && sum < 10240)
		sum = 10240;
	if (j->p->draft.mtp || j->p->draft.model)
		sum += r->draft_counted ? 0 : r->draft_reserve_mib;
	return sum;
}

static double reserve_by_class(const struct sv_job *j, double mib, const struct sv_answer *x)
{
	double ranks = (double)x->place.tp * x->place.pp, gib;
	gib = mib < 35 * 1024 ? 2.8 + ranks / 10 : mib < 90 * 1024 ? 9.5 + ranks / 2 : mib < 160 * 1024 ? 12 + ranks / 2 : 32;
	if (j->p->draft.mtp || j->p->draft.model)
		gib += 2;
	return (gib + (x->place.attn_groups > 1 ? 4 : 0)) * 1024;
}

static double by_ranks(double mib, uint32_t tp)
{
	if (mib > 81920)
		return (mib - 1024 * 13) / mib;
	return tp >= 16 ? 0.79 : tp >= 8 ? 0.81 : tp >= 4 ? 0.85 : tp >= 2 ? 0.87 : 0.88;
}

/* Models with a vision tower keep room for images, the more the larger the tower beside ViT-L/14 (adjust_mem_fraction_for_vlm);
 * its size is taken from its parameters, 12 × layers × width². */
static double tower_factor(const struct sv_job *j, const struct sg_rules *r)
{
	if (!j->m->n_params_vision || j->p->language_model_only)
		return 1;
	if (r->reserve != SG_BY_PARTS)
		return r->reserve == SG_BY_CLASS ? 0.9 : 1;
	double f = 1 - 0.1 * ((double)j->m->n_params_vision / (12.0 * 24 * 1024 * 1024) - 1);
	return 0.95 * (f < 0.8 ? 0.8 : f > 1.05 ? 1.05 : f);
}

void sg_defaults(const struct sv_job *j, struct sv_answer *x)
{
	const struct sg_rules *r = j->rules;
	double mib = INFINITY;
	for (uint32_t i = 0; i < x->place.n_ranks; i++) {
		double m = floor((double)j->hw->devices[x->place.device[i]].total_bytes / (double)MIB);
		mib = m < mib ? m : mib;
	}
	knobs(j, r, mib, x);
	x->n_graphs = (sv_drafts(j) ? verify_graphs(x->graph_batch) : decode_graphs(x->graph_batch)) + prefill_graph_count(j, r, x);
	x->max_seqs = j->p->max_num_seqs ? j->p->max_num_seqs : sv_drafts(j) ? (uint32_t)pl_max_u64(SG_SPEC_REQUESTS, j->p->n_seq) : 4096;
	x->block_tokens = sg_page(j);
	if (j->p->gpu_memory_utilization_frac > 0) {
		x->frac = j->p->gpu_memory_utilization_frac;
		return;
	}
	if (r->reserve == SG_BY_RANKS) {
		x->frac = by_ranks(mib, x->place.tp);
	} else {
		double reserve = r->reserve == SG_BY_PARTS ? reserve_by_parts(j, r, mib, x) : reserve_by_class(j, mib, x);
		x->frac = nearbyint((mib - reserve) / mib * 1000) / 1000;
	}
	x->frac *= tower_factor(j, r);
	if (x->frac < 0)
		x->frac = 0;
}
