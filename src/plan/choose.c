#include <stdbool.h>

#include "plan/choose.h"
#include "plan/evaluate.h"

/* Weights in ggml's own block formats: only llama.cpp's family computes on them as they are. MXFP4 and NVFP4 exist on
 * both sides and decide nothing. */
static bool is_ggml_quantised(const struct pl_model *m)
{
	if (m->format == PL_FORMAT_GGUF)
		return true;
	for (uint32_t i = 0; i < m->n_tensors; i++) {
		enum pl_dtype t = m->tensors[i].type;
		const struct pl_dtype_info *d = pl_dtype_info(t);
		if (d->ggml_id >= 0 && d->block_elems > 1 && t != PL_DTYPE_MXFP4 && t != PL_DTYPE_NVFP4)
			return true;
	}
	return false;
}

struct candidate {
	const struct pl_engine *engine;
	enum pl_support support;
	enum pl_verdict verdict;
	const char *reason; /* why not, or why unsure */
};

/* Strictly better: an engine that runs it, then the verdict, then certainty. Ties keep the earlier one. */
static bool better(const struct candidate *x, const struct candidate *y)
{
	if ((x->support == PL_SUPPORT_NO) != (y->support == PL_SUPPORT_NO))
		return y->support == PL_SUPPORT_NO;
	if (x->verdict != y->verdict)
		return x->verdict < y->verdict;
	return x->support == PL_SUPPORT_YES && y->support != PL_SUPPORT_YES;
}

static void judge(const struct pl_trial *asked, struct candidate *c)
{
	struct pl_trial t = *asked;
	struct pl_outcome o;
	t.engine = c->engine;
	if (c->support != PL_SUPPORT_NO && pl_trial_peek(&t, &o))
		c->verdict = o.verdict;
}

static const char *why(struct pl_arena *a, const struct candidate *best, const struct candidate *other, bool ggml)
{
	if (best->support == PL_SUPPORT_NO)
		return pl_arena_printf(a, pl_tr("no engine runs it here; %s is closest: %s"), best->engine->id, best->reason);
	if (ggml)
		return pl_arena_printf(a, pl_tr("%s runs GGUF precisions as they are"), best->engine->id);
	if (other->engine && other->support == PL_SUPPORT_NO && other->reason)
		return pl_arena_printf(a, pl_tr("%s does not run it here: %s"), other->engine->id, other->reason);
	if (best->verdict != PL_VERDICT_FITS_GPU && best->verdict != PL_VERDICT_NO_FIT)
		return pl_arena_printf(a, pl_tr("%s can use GPU and RAM together"), best->engine->id);
	return pl_arena_printf(a, pl_tr("%s runs this precision on this hardware"), best->engine->id);
}

/* The registry begins with llama.cpp, which GGUF precisions and CPUs are for, and ends with Transformers, which runs most and
 * slowest. For everything else on a GPU the servers between them come first. */
static uint32_t turn(uint32_t k, uint32_t n, bool servers)
{
	if (!servers || k + 1 == n)
		return k;
	return k + 2 == n ? 0 : k + 1;
}

const struct pl_engine *pl_choose_engine(struct pl_arena *a, const struct pl_trial *asked, const char **ret_reason)
{
	const struct pl_engine *const *all = pl_engines();
	bool ggml = is_ggml_quantised(asked->model);
	uint32_t n = 0;
	while (all[n])
		n++;
	if (!n)
		return NULL;
	bool servers = !ggml && asked->machine->n_devices > 0;
	struct candidate best = {0}, habit = {0}, *list = PL_NEW_N(a, struct candidate, n);
	uint32_t n_able = 0;
	for (uint32_t k = 0; list && k < n; k++) {
		list[k] = (struct candidate){.engine = all[turn(k, n, servers)], .verdict = PL_VERDICT_NO_FIT};
		list[k].support = list[k].engine->supports(a, asked->model, asked->machine, &list[k].reason);
		n_able += list[k].support != PL_SUPPORT_NO;
	}
	for (uint32_t k = 0; list && k < n; k++) {
		if (n_able > 1 || !ggml) /* else there is nothing to weigh */
			judge(asked, &list[k]);
		if (!k)
			habit = list[k];
		if (!best.engine || better(&list[k], &best))
			best = list[k];
	}
	if (habit.engine == best.engine)
		habit.engine = NULL;
	*ret_reason = why(a, &best, &habit, ggml);
	return best.engine;
}
