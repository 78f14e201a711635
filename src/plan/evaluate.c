#include <plimsoll/plan.h>

#include "base/checked.h"
#include "plan/evaluate.h"

const char *pl_verdict_name(enum pl_verdict v)
{
	static const char *const names[PL_VERDICT_COUNT] = {
	    [PL_VERDICT_FITS_GPU] = "fits_gpu", [PL_VERDICT_HYBRID] = "hybrid",      [PL_VERDICT_CPU] = "cpu_only",
	    [PL_VERDICT_PAGED] = "paged",       [PL_VERDICT_NO_FIT] = "does_not_fit",
	};
	return (unsigned)v < PL_VERDICT_COUNT ? names[v] : "unknown";
}

static bool devices_hold(const struct pl_layout *l)
{
	for (uint32_t i = 0; i < l->n_devices; i++)
		if (pl_use_total_bytes(&l->devices[i]) > l->devices[i].total_bytes)
			return false;
	return true;
}

static bool any_weights_on_gpu(const struct pl_layout *l)
{
	for (uint32_t i = 0; i < l->n_devices; i++)
		if (l->devices[i].model_bytes)
			return true;
	return false;
}

static bool cpu_computes_layers(const struct pl_trial *t, const struct pl_layout *l)
{
	for (uint32_t i = 0; l->layer_device && i < t->model->n_layers; i++) {
		bool experts = t->model->layers && t->model->layers[i].n_expert;
		if (l->layer_device[i] < 0 || (experts && (int64_t)i < t->params.n_cpu_moe))
			return true;
	}
	return false;
}

/* Weights that are a file mapping may exceed RAM: the kernel drops and rereads their pages, so the engine runs, from
 * disk. Everything else must stay resident. */
static bool runs_from_disk(const struct pl_trial *t, const struct pl_layout *l)
{
	const struct pl_opt_u64 *ram = &t->machine->ram_bytes;
	return l->host.mapped_bytes && ram->known && devices_hold(l) &&
	       pl_sat_sub(l->host.rest_bytes, l->host.mapped_bytes) < ram->value && l->host.rest_bytes > ram->value;
}

static enum pl_verdict judge(const struct pl_trial *t, const struct pl_layout *l)
{
	if (!l->fits)
		return runs_from_disk(t, l) ? PL_VERDICT_PAGED : PL_VERDICT_NO_FIT;
	if (!any_weights_on_gpu(l))
		return PL_VERDICT_CPU;
	return cpu_computes_layers(t, l) ? PL_VERDICT_HYBRID : PL_VERDICT_FITS_GPU;
}

int pl_trial_run(struct pl_arena *a, struct pl_trial *t, struct pl_outcome *ret, struct pl_err *err)
{
	struct pl_layout layout = {0};
	int rc = t->engine->layout(a, t->model, t->machine, &t->params, &layout, err);
	if (rc)
		return rc;
	if (pl_arena_failed(a))
		return pl_fail(err, PL_ERR_NOMEM, t->model->name, "out of memory while planning");
	ret->layout = layout;
	ret->verdict = judge(t, &layout);
	return 0;
}

bool pl_trial_peek(const struct pl_trial *t, struct pl_outcome *ret_outcome)
{
	struct pl_arena *a = pl_arena_new(0);
	struct pl_trial copy = *t;
	struct pl_err err = {0};
	bool possible = a && !pl_trial_run(a, &copy, ret_outcome, &err);
	pl_arena_free(a);
	return possible;
}

struct search {
	struct pl_trial trial;
	enum pl_verdict wanted;
	uint64_t spare_bytes; /* of the fullest device, in the last trial that held */
};

typedef bool holds_fn(uint64_t n, struct search *s);

static bool reaches(struct search *s)
{
	struct pl_outcome o;
	if (!pl_trial_peek(&s->trial, &o) || !pl_verdict_reaches(o.verdict, s->wanted))
		return false;
	s->spare_bytes = o.layout.spare_bytes;
	return true;
}

static bool holds_context(uint64_t n, struct search *s)
{
	s->trial.params.n_ctx_tokens = n;
	return reaches(s);
}

static bool holds_sequences(uint64_t n, struct search *s)
{
	s->trial.params.n_seq = (uint32_t)n;
	return reaches(s);
}

/* Largest n in [1, high] that holds, by bisection; memory grows with both context and sequences. 0: not even 1. */
static uint64_t largest(uint64_t high, holds_fn *holds, struct search *s)
{
	uint64_t low = 1;
	if (!high || !holds(1, s))
		return 0;
	if (holds(high, s))
		return high;
	while (high - low > 1) {
		uint64_t middle = low + (high - low) / 2;
		if (holds(middle, s))
			low = middle;
		else
			high = middle;
	}
	return low;
}

uint64_t pl_largest_context(const struct pl_trial *t, enum pl_verdict wanted, uint64_t high)
{
	struct search s = {*t, wanted, 0};
	return largest(high, holds_context, &s);
}

/* Between low, which holds, and high, which does not, looking first where a straight line through what is spare says that
 * nothing is left: memory grows by nearly the same with every sequence. */
static uint64_t most_near(uint64_t guess, uint64_t low, uint64_t high, struct search *s)
{
	for (uint64_t step = 1; high - low > 1; step *= 2) {
		uint64_t n = guess > low && guess < high ? guess : low + (high - low) / 2;
		if (holds_sequences(n, s)) {
			low = n;
			guess = pl_sat_add(n, step);
		} else {
			high = n;
			guess = pl_sat_sub(n, step);
		}
	}
	return low;
}

uint64_t pl_most_sequences(const struct pl_trial *t, enum pl_verdict wanted, uint64_t high)
{
	struct search s = {*t, wanted, 0};
	if (!high || !holds_sequences(1, &s))
		return 0;
	uint64_t first = s.spare_bytes;
	if (high < 2 || !holds_sequences(2, &s))
		return 1;
	uint64_t each = pl_sat_sub(first, s.spare_bytes);
	uint64_t guess = each ? 2 + s.spare_bytes / each : high;
	return most_near(guess, 2, pl_sat_add(high, 1), &s);
}
