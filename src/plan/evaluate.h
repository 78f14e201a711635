/* One trial: an engine's layout judged against the machine. Limits, suggestions and the plan itself all ask here. */
#ifndef PLIMSOLL_PLAN_EVALUATE_H
#define PLIMSOLL_PLAN_EVALUATE_H

#include <plimsoll/plan.h>

/* What is tried: like a request, every part replaceable. */
struct pl_trial {
	const struct pl_model *model;
	const struct pl_machine *machine;
	const struct pl_engine *engine;
	struct pl_params params; /* as asked before, as resolved after pl_trial_run */
};

struct pl_outcome {
	enum pl_verdict verdict;
	struct pl_layout layout;
};

/* Runs the engine's memory model and judges it. Fails only on impossible requests. */
int pl_trial_run(struct pl_arena *a, struct pl_trial *t, struct pl_outcome *ret, struct pl_err *err) PL_MUST_CHECK;

/* The verdict of a trial in memory of its own, freed before it returns; false when the request is impossible.
 * ret_outcome keeps numbers only (its pointers are gone). t is not changed. */
bool pl_trial_peek(const struct pl_trial *t, struct pl_outcome *ret_outcome);

/* Better verdicts come first in the enum. */
static inline bool pl_verdict_reaches(enum pl_verdict v, enum pl_verdict wanted)
{
	return v <= wanted;
}

/* Largest per-sequence context in [1, high] (0: none) and most sequences that keep the verdict at `wanted` or better. */
uint64_t pl_largest_context(const struct pl_trial *t, enum pl_verdict wanted, uint64_t high);
uint64_t pl_most_sequences(const struct pl_trial *t, enum pl_verdict wanted, uint64_t high);

/* Changes that reach a better verdict (plan/suggest.c). */
int pl_suggest(struct pl_arena *a, const struct pl_trial *asked, struct pl_plan *plan,
               struct pl_err *err) PL_MUST_CHECK;

/* A sentence on what lives where (plan/placement.c). */
const char *pl_placement_text(struct pl_arena *a, const struct pl_trial *t, const struct pl_outcome *o);

/* Speed of a plan whose layout stands (plan/speed.c). */
int pl_plan_speed(struct pl_arena *a, const struct pl_plan_request *req, struct pl_plan *plan, struct pl_err *err) PL_MUST_CHECK;

#endif
