#include <string.h>

#include <jansson.h>

#include <plimsoll/doctor.h>

#include "cli/plan_job.h"
#include "report/report.h"

/* Facts of this machine, or of the record that --facts names. */
static int find_facts(const struct pl_cli *cli, struct pl_facts **ret, struct pl_err *err)
{
	const char *path = pl_cli_text(cli, "facts");
	if (path)
		return pl_facts_load(path, ret, err);
	*ret = pl_facts_new(NULL);
	return *ret ? 0 : pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory");
}

static const char *path_of_model(const struct pl_cli *cli, const struct pl_model *m)
{
	return m->format == PL_FORMAT_CONFIG || !strncmp(cli->words[0], "hf:", 3) || strstr(cli->words[0], "://") ? NULL : cli->words[0];
}

static int print(const struct pl_cli *cli, const struct pl_machine *hw, const struct pl_finding *first)
{
	int worst = 0;
	struct pl_style style = {cli->color, cli->columns};
	for (const struct pl_finding *f = first; f; f = f->next)
		worst = (int)f->level > worst ? (int)f->level : worst;
	if (cli->json) {
		struct pl_err err = {0};
		if (pl_cli_json(cli->out, pl_report_doctor_json(hw, first), &err))
			return pl_cli_fail(&err);
	} else {
		pl_report_doctor_text(cli->out, hw, first, &style);
	}
	return worst == PL_FINDING_FAULT ? 1 : 0;
}

/* With a model, the plan for this machine says what is needed of it. */
static int look(const struct pl_cli *cli, struct pl_facts *facts, struct pl_plan_job *j, int *ret_code)
{
	struct pl_doctor_request req = {.facts = facts, .no_disk_test = pl_cli_flag(cli, "no-disk-test")};
	const struct pl_finding *first = NULL;
	const struct pl_plan *plan = NULL;
	const char *engine = pl_cli_text(cli, "engine");
	int rc = 0;
	if (cli->n_words) {
		rc = pl_plan_job_init(j, cli, cli->words[0], facts);
		rc = rc ? rc : pl_plan_job_make(j, &plan);
		req.plan = plan;
		req.machine = j->req.machine;
		req.model_path = rc ? NULL : path_of_model(cli, plan->model);
	} else {
		*j = (struct pl_plan_job){.cli = cli, .a = pl_arena_new(0)};
		rc = j->a ? 0 : pl_fail(&j->err, PL_ERR_NOMEM, NULL, "out of memory");
		rc = rc ? rc : pl_probe_machine(j->a, &(struct pl_probe_options){.facts = facts}, &req.machine, NULL, &j->err);
	}
	if (!rc && engine)
		rc = pl_engine_find(engine, &req.engine, &j->err);
	rc = rc ? rc : pl_doctor(j->a, &req, &first, &j->err);
	if (!rc)
		*ret_code = print(cli, req.machine, first);
	return rc;
}

int cmd_doctor(const struct pl_cli *cli)
{
	struct pl_facts *facts = NULL;
	struct pl_plan_job j = {0};
	struct pl_err err = {0};
	int code = 0;
	if (find_facts(cli, &facts, &err))
		return pl_cli_fail(&err);
	if (look(cli, facts, &j, &code))
		code = pl_cli_fail(&j.err);
	pl_plan_job_release(&j);
	pl_facts_free(facts);
	return code;
}

/* Everything that planning and the doctor would read, in one record. */
int cmd_gather(const struct pl_cli *cli)
{
	const char *path = pl_cli_text(cli, "output");
	struct pl_facts *facts = pl_facts_new(NULL);
	struct pl_arena *a = pl_arena_new(0);
	struct pl_doctor_request req = {.facts = facts, .model_path = cli->n_words ? cli->words[0] : NULL, .no_disk_test = pl_cli_flag(cli, "no-disk-test")};
	const struct pl_finding *first;
	struct pl_err err = {0};
	int rc = facts && a ? 0 : pl_fail(&err, PL_ERR_NOMEM, NULL, "out of memory");
	rc = rc ? rc : pl_probe_machine(a, &(struct pl_probe_options){.facts = facts}, &req.machine, NULL, &err);
	for (uint32_t i = 0; !rc && pl_engines()[i]; i++) { /* what each engine's checks ask for */
		req.engine = pl_engines()[i];
		req.no_disk_test = req.no_disk_test || i;
		rc = pl_doctor(a, &req, &first, &err);
	}
	rc = rc ? rc : pl_facts_save(facts, path, cli->out, &err);
	if (!rc && path && !cli->json)
		(void)fprintf(cli->out, "%s: %s\n", path, req.machine->description);
	pl_arena_free(a);
	pl_facts_free(facts);
	return rc ? pl_cli_fail(&err) : 0;
}
