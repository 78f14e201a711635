/* What each release of vLLM does by default. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "engine/vllm.h"

static const uint64_t GIB = UINT64_C(1) << 30;

/* "0.11.2", "v0.8.5.post1 (V0)", "0.16.1rc1.dev206+g097eb544e", "V1": major, minor and patch count. "" or NULL: the newest. */
static int number_of(const char *text, uint32_t *ret_version, struct pl_err *err)
{
	unsigned major = 0, minor = 0, patch = 0;
	if (!strcmp(text, "V0") || !strcmp(text, "V1")) { /* the engine alone: a release of the middle of its time */
		*ret_version = text[1] == '0' ? 703 : 1100;
		return 0;
	}
	if (*text == 'v' || *text == 'V')
		text++;
	if (sscanf(text, "%2u.%2u.%2u", &major, &minor, &patch) < 2)
		return pl_fail(err, PL_ERR_RANGE, "--engine-version", "'%.40s' is not a release of vLLM such as 0.11.0", text);
	*ret_version = major * 10000 + minor * 100 + patch;
	if (*ret_version < 400 || *ret_version >= 10000)
		return pl_fail(err, PL_ERR_RANGE, "--engine-version", "vLLM %.40s is not modelled: 0.4 to 0.24 are", text);
	return 0;
}

/* Read in the releases' own sources: 0.6.3, 0.8.5, 0.9.2, 0.10.2, 0.11.0, 0.13.0, 0.15.1, 0.17.0, 0.19.0, 0.20.0, 0.22.0,
 * 0.23.0, 0.24.0. A rule is dated to the first of them that has it. */
int vl_rules_of(const char *version, double capability, struct vl_rules *r, struct pl_err *err)
{
	uint32_t v = VL_NEWEST;
	const char *text = "0.24.0";
	/* Volta: 0.9.2 is read as the last line whose wheels and V0 engine (xFormers) serve it without other kernels: the V1
	 * engine below compute capability 8.0 came with 0.10.2 on Triton, which no longer generates code for 7.0 reliably,
	 * and from 0.20 on PyTorch 2.11 has no kernels for 7.0 at all (pytorch/pytorch issue 172352). */
	if ((!version || !*version) && capability > 0 && capability < 7.5) {
		v = VL_LAST_VOLTA;
		text = "0.9.2";
	}
	if (version && *version) {
		int rc = number_of(version, &v, err);
		if (rc)
			return rc;
		text = version;
	}
	*r = (struct vl_rules){
	    .version = v,
	    .version_text = text,
	    .v1 = v >= 1002 || (v >= 800 && (capability <= 0 || capability >= 8)),
	    .utilization_frac = v >= 2000 ? 0.92 : 0.90,
	    .graphs_counted = v >= 2000,
	    .group_by_max = v >= 1300,
	    .tokens_by_concurrency = v >= 2200,
	    .sort_sampler = v < 1700,
	    .wide_graph_steps = v >= 1300,
	    .a100_small = v >= 901,
	};
	if (version && v < 1100 && strstr(version, "V0"))
		r->v1 = false;
	if (version && v >= 700 && strstr(version, "V1"))
		r->v1 = true;
	r->context_counted = v < 607 || (r->v1 && v < 902);
	r->hybrid_groups = r->v1 && v >= 902;
	r->full_graphs = r->v1 && v >= 1100;
	return 0;
}

static bool is_a100(const struct pl_device *d)
{
	return d->name && (strstr(d->name, "A100") || strstr(d->name, "a100"));
}

/* EngineArgs.get_batch_defaults for the API server; V0: _set_default_args_v0. */
void vl_defaults(const struct vl_job *j, const struct pl_device *d, struct vl_answer *x)
{
	const struct pl_params *p = j->p;
	bool large = d->total_bytes >= 70 * GIB && !(j->rules.a100_small && is_a100(d));
	uint32_t seqs = j->rules.v1 && (large || j->rules.version < 805) ? 1024 : 256;
	uint64_t tokens = j->rules.v1 && large ? 8192 : 2048;
	if (!j->rules.v1 && j->max_model_len <= 32768) /* chunked prefill starts above; below, a prompt is one step */
		tokens = pl_max_u64(j->max_model_len, tokens);
	if (p->n_seq > seqs)
		seqs = p->n_seq;
	if (p->max_num_seqs)
		seqs = p->max_num_seqs;
	if (j->rules.v1)
		tokens = pl_min_u64(tokens, pl_sat_mul(seqs, j->max_model_len));
	if (p->max_num_batched_tokens)
		tokens = p->max_num_batched_tokens;
	else if (tokens < seqs && !p->max_num_seqs && p->n_seq <= tokens)
		seqs = (uint32_t)tokens; /* no more sequences than tokens of a step */
	tokens = pl_max_u64(tokens, seqs);
	x->max_num_seqs = seqs;
	x->max_num_batched_tokens = (uint32_t)pl_min_u64(tokens, UINT32_MAX);
}
