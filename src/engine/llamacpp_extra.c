/* What llama.cpp loads beside the model: a draft model with its own context (common/speculative.cpp), the model's own
 * next-token-prediction layers as a draft, a tower in a file of its own (tools/mtmd). */
#include <string.h>

#include "base/checked.h"
#include "engine/llamacpp.h"
#include "engine/llamacpp_ggml.h"
#include "model/arch_traits.h"

static void add(uint64_t *to, uint64_t bytes)
{
	*to = pl_sat_add(*to, bytes);
}

static void add_use(struct pl_use *to, const struct pl_use *u)
{
	add(&to->model_bytes, u->model_bytes);
	add(&to->kv_bytes, u->kv_bytes);
	add(&to->state_bytes, u->state_bytes);
	add(&to->compute_bytes, u->compute_bytes);
}

static uint64_t bytes_of(const struct pl_use *u)
{
	return pl_sat_add(pl_sat_add(u->model_bytes, pl_use_context_bytes(u)), u->compute_bytes);
}

/* The draft: the same context unless it says otherwise, all its layers on the devices unless it says otherwise, one row of
 * logits a sequence. */
static int draft_model(const struct ll_job *j, struct ll_extra *x, struct pl_err *err)
{
	struct ll_job dj;
	struct ll_sum sum;
	struct pl_params p = *j->p;
	const struct pl_draft *d = &j->p->draft;
	const struct pl_model *view = pl_arch_view(j->a, d->model);
	if (!view)
		return pl_fail(err, PL_ERR_NOMEM, d->model->name, "out of memory while laying out the draft model");
	memset(&p.draft, 0, sizeof p.draft);
	p.n_ctx_tokens = d->n_ctx_tokens ? d->n_ctx_tokens : p.n_ctx_tokens;
	p.type_k = d->type_k;
	p.type_v = d->type_v;
	p.program = PL_LLAMA_SERVER;
	p.mmproj = NULL;
	p.overrides = NULL;
	p.n_overrides = 0;
	p.engine_fit = false;
	int rc = ll_job_init(&dj, j->a, view, j->hw, &p, err);
	if (rc < 0)
		return rc;
	if (!ll_sum_init(&dj, j->a, &sum))
		return pl_fail(err, PL_ERR_NOMEM, d->model->name, "out of memory while laying out the draft model");
	struct ll_place pl = {.n_gpu_layers = d->n_gpu_layers < 0 ? dj.n_all + 1 : (uint32_t)d->n_gpu_layers,
	                      .n_cpu_moe = d->n_cpu_moe > 0 ? (uint32_t)d->n_cpu_moe : 0};
	bool given = false;
	for (uint32_t i = 0; i < dj.n_dev; i++)
		given |= (pl.split[i] = j->p->tensor_split[dj.dev[i].index]) > 0;
	if (!given)
		ll_default_split(&dj, pl.split);
	dj.whole_graph = true;
	ll_place_sum(&dj, &pl, &sum);
	for (uint32_t i = 0; i < dj.n_dev; i++)
		add_use(&x->dev[i], &sum.dev[i]);
	add_use(&x->host, &sum.host);
	add(&x->host.compute_bytes, sum.output_buffer_bytes);
	return 0;
}

/* A tower lies whole on the main device, and its activations with it. */
static void tower(const struct ll_job *j, struct ll_extra *x)
{
	const struct pl_model *m = j->p->mmproj;
	uint64_t sum = 0;
	for (uint32_t i = 0; i < m->n_tensors; i++)
		add(&sum, pl_round_up(m->tensors[i].bytes, 128));
	bool gpu = j->n_dev && !j->p->mmproj_on_cpu;
	uint32_t main_gpu = j->p->main_gpu < j->n_dev ? j->p->main_gpu : 0;
	add(gpu ? &x->dev[main_gpu].model_bytes : &x->host.model_bytes, sum);
	x->tower = true;
	uint64_t peaks[PL_MAX_DEVICES + 1] = {0};
	x->tower_measured = ll_tower(j, m, gpu ? (int16_t)main_gpu : (int16_t)LG_CPU, peaks, &x->tower_patches);
	for (uint32_t d = 0; d < j->n_dev && x->tower_measured; d++)
		add(&x->dev[d].compute_bytes, peaks[d]);
	if (x->tower_measured)
		add(&x->host.compute_bytes, peaks[j->n_dev]);
}

int ll_extra(struct ll_job *j, struct pl_err *err)
{
	int rc;
	memset(&j->extra, 0, sizeof j->extra);
	if (j->p->draft.model && (rc = draft_model(j, &j->extra, err)) < 0)
		return rc;
	if (j->p->mmproj)
		tower(j, &j->extra);
	for (uint32_t d = 0; d < j->n_dev; d++)
		j->dev[d].taken_bytes = bytes_of(&j->extra.dev[d]);
	return 0;
}

void ll_extra_add(const struct ll_job *j, struct ll_sum *s)
{
	for (uint32_t d = 0; d < j->n_dev; d++)
		add_use(&s->dev[d], &j->extra.dev[d]);
	add_use(&s->host, &j->extra.host);
}
