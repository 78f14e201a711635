/* From the words of a command line to a plan: shared by every command that plans. */
#ifndef PLIMSOLL_CLI_PLAN_JOB_H
#define PLIMSOLL_CLI_PLAN_JOB_H

#include <plimsoll/plan.h>
#include <plimsoll/probe.h>
#include <plimsoll/source.h>

#include "cli/cli.h"

struct pl_plan_job {
	const struct pl_cli *cli;
	struct pl_arena *a;
	struct pl_loaded *loaded, *draft, *mmproj;
	struct pl_plan_request req;
	struct pl_note *probe_notes; /* what could not be read of this machine */
	struct pl_command *command;  /* what stood after "--", NULL none */
	struct pl_err err;
};

/* Finds the machine, the engine and the model, and reads the knobs of the options of C_PLANS. model_ref may be NULL when an
 * engine's command names the model. facts: what `local` and --on RECORD.json mean; NULL: read for this plan. On failure
 * j->err says why.
 * Release in either case. */
int pl_plan_job_init(struct pl_plan_job *j, const struct pl_cli *cli, const char *model_ref, struct pl_facts *facts) PL_MUST_CHECK;
/* Makes the plan; what could not be read of this machine goes to stderr. The plan lives as long as the job. */
int pl_plan_job_make(struct pl_plan_job *j, const struct pl_plan **ret_plan) PL_MUST_CHECK;
void pl_plan_job_release(struct pl_plan_job *j);

#endif
