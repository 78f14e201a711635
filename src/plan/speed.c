/* The speed of a plan: its layout compiled, the questions answered. */
#include "plan/evaluate.h"

int pl_plan_speed(struct pl_arena *a, const struct pl_plan_request *req, struct pl_plan *plan, struct pl_err *err)
{
	const struct pl_speed *s;
	struct pl_speed_setup setup = {.model = plan->model, .machine = plan->machine, .engine = plan->engine, .params = &plan->params,
	                               .layout = &plan->layout, .constants = req->constants, .power_limit_w = req->power_limit_w,
	                               .disk_bytes_per_s = req->disk_bytes_per_s};
	struct pl_speed_question q = req->question;
	if (!(q.concurrency >= 1))
		q.concurrency = plan->params.n_seq;
	if (!(q.prompt_tokens >= 1))
		q.prompt_tokens = 512;
	int rc = pl_speed_compile(a, &setup, &s, err);
	if (rc)
		return rc;
	struct pl_speed_answer *answer = PL_NEW(a, struct pl_speed_answer);
	if (!answer)
		return pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory while planning");
	rc = pl_speed_answer(a, s, &q, answer, err);
	plan->speed = s;
	plan->question = q;
	plan->answer = answer;
	return rc;
}
