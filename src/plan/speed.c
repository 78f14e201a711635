/* The speed of a plan: its layout compiled, the questions answered. */
#include "plan/evaluate.h"

/* Clients that each send their next prompt when the last is answered; lengths are as asked in the mean, a ninth around it:
 * clients whose answers are all equally long would stay in step for ever. */
static int serve(struct pl_arena *a, struct pl_plan *plan, struct pl_err *err)
{
	const struct pl_speed_question *q = &plan->question;
	struct pl_serve_policy policy;
	struct pl_serve_load load = {.prompt_tokens = q->prompt_tokens / 0.9, .output_tokens = q->output_tokens / 0.9, .shortest_frac = 0.8,
	                             .concurrency = q->concurrency, .rounds = q->concurrency > 64 ? 3 : 10};
	struct pl_served *served = PL_NEW(a, struct pl_served);
	if (!served)
		return pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory while planning");
	if (plan->answer->acceptance_length > 1) {
		load.draft_tokens = q->draft_tokens;
		load.acceptance_length = plan->answer->acceptance_length;
	}
	pl_serve_policy_of(plan->speed, &policy);
	int rc = pl_serve_closed_loop(a, plan->speed, &policy, &load, served, err);
	plan->served = rc ? NULL : served;
	return rc;
}

/* Tokens that the launch line drafts at once with the model's own layers, where it says how many. */
static double drafted(const struct pl_plan *plan)
{
	const struct pl_draft *d = &plan->params.draft;
	bool with_target = plan->engine->drafting == PL_DRAFTS_COUNTED_WITH_TARGET;
	return d->mtp && d->n_max > with_target ? d->n_max - with_target : 0;
}

int pl_plan_speed(struct pl_arena *a, const struct pl_plan_request *req, struct pl_plan *plan, struct pl_err *err)
{
	const struct pl_speed *s;
	struct pl_speed_setup setup = {.model = plan->model, .machine = plan->machine, .engine = plan->engine, .params = &plan->params,
	                               .layout = &plan->layout, .constants = req->constants, .power_limit_w = req->power_limit_w,
	                               .disk_bytes_per_s = req->disk_bytes_per_s > 0 ? req->disk_bytes_per_s : plan->machine->disk_bytes_per_s};
	struct pl_speed_question q = req->question;
	if (!(q.concurrency >= 1))
		q.concurrency = plan->params.n_seq;
	if (!(q.draft_tokens >= 1))
		q.draft_tokens = drafted(plan);
	if (!(q.prompt_tokens >= 1))
		q.prompt_tokens = 512;
	int rc = pl_speed_compile(a, &setup, &s, err);
	if (rc)
		return rc;
	if (!(q.output_tokens >= 1))
		q.output_tokens = 256;
	struct pl_speed_answer *answer = PL_NEW(a, struct pl_speed_answer);
	if (!answer)
		return pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory while planning");
	rc = pl_speed_answer(a, s, &q, answer, err);
	plan->speed = s;
	plan->question = q;
	plan->answer = answer;
	if (!rc && q.concurrency > 1 && q.concurrency <= 1e4 && !answer->unknown)
		rc = serve(a, plan, err);
	return rc;
}
