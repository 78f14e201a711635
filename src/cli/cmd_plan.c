#include "cli/plan_job.h"
#include "report/report.h"

static int print(const struct pl_cli *cli, const struct pl_plan *plan)
{
	struct pl_style style = {cli->color, cli->columns};
	if (cli->json) {
		struct pl_err err = {0};
		if (pl_cli_json(cli->out, pl_report_plan_json(plan), &err))
			return pl_cli_fail(&err);
	} else {
		pl_report_plan_text(cli->out, plan, &style);
	}
	return plan->verdict == PL_VERDICT_NO_FIT ? 1 : 0;
}

int cmd_plan(const struct pl_cli *cli)
{
	struct pl_plan_job j;
	const struct pl_plan *plan = NULL;
	int rc = pl_plan_job_init(&j, cli, cli->words[0], NULL);
	if (!rc)
		rc = pl_plan_job_make(&j, &plan);
	int code = rc ? pl_cli_fail(&j.err) : print(cli, plan);
	pl_plan_job_release(&j);
	return code;
}
