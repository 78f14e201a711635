#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include <plimsoll/run.h>
#include <plimsoll/source.h>
#include <plimsoll/verify.h>

#include "cli/plan_job.h"
#include "report/report.h"

enum { REQUESTS = 6, MAX_LOG = 64 << 20 };

/* One client, and prompts of the length that the plan's speed is stated for: what the plan calls the speed of one sequence. */
static int load_it(const struct pl_cli *cli, struct pl_arena *a, const struct pl_running *r, struct pl_bench_result *ret, struct pl_err *err)
{
	const char *prompt = pl_cli_text(cli, "prompt"), *answer = pl_cli_text(cli, "answer");
	const char *planned = pl_arena_printf(a, "%.0f", pl_verify_prompt_tokens(r->plan_json));
	struct pl_load load = {
	    .url = r->url,
	    .api_key = r->api_key,
	    .concurrency = 1,
	    .n_requests = (uint64_t)pl_cli_number(cli, "requests", REQUESTS),
	    .n_warmup = 1,
	    .timeout_s = 600,
	    .seed = 1,
	};
	int rc = pl_length_parse(prompt ? prompt : planned ? planned : "512", &load.prompt, err);
	rc = rc ? rc : pl_length_parse(answer ? answer : "64", &load.output, err);
	return rc ? rc : pl_bench_run(a, &load, NULL, NULL, NULL, ret, err);
}

static int share(struct pl_arena *a, const char *path, const struct pl_verify_request *req, const struct pl_check *checks, uint32_t n, struct pl_err *err)
{
	char date[16];
	time_t now = time(NULL);
	struct tm day;
	bool fresh = access(path, F_OK) != 0;
	(void)strftime(date, sizeof date, "%Y-%m-%d", gmtime_r(&now, &day));
	const char *rows = pl_share_rows(a, req, checks, n, date, fresh);
	FILE *f = rows ? fopen(path, "ae") : NULL;
	bool good = f && fputs(rows, f) >= 0;
	good = f && !fclose(f) && good;
	return good ? 0 : pl_fail(err, PL_ERR_IO, path, "the rows could not be written");
}

static int measure_speed(const struct pl_cli *cli, struct pl_arena *a, const struct pl_running *r, struct pl_verify_request *req,
                         struct pl_bench_result *load, struct pl_err *err)
{
	struct pl_busy before, after;
	double prompt = 0, answer = 0, n = 0;
	pl_busy_read(r->pid, &before);
	int rc = load_it(cli, a, r, load, err);
	if (rc)
		return rc;
	pl_busy_read(r->pid, &after);
	for (uint64_t i = 0; i < load->n_requests; i++)
		if (!load->requests[i].fault) {
			prompt += load->requests[i].prompt_tokens;
			answer += load->requests[i].output_tokens;
			n++;
		}
	req->load = load;
	req->load_prompt_tokens = prompt / n;
	req->load_answer_tokens = answer / n;
	req->others_busy_frac = pl_busy_others_frac(&before, &after);
	return n > 0 ? 0 : pl_fail(err, PL_ERR_NETWORK, r->url, "none of %llu requests was answered", (unsigned long long)load->n_requests);
}

static int finish(const struct pl_cli *cli, struct pl_arena *a, const char *name, const struct pl_verify_request *req, struct pl_err *err)
{
	const char *path = pl_cli_text(cli, "share");
	struct pl_style style = {cli->color, cli->columns};
	struct pl_check *checks;
	uint32_t n;
	int rc = pl_verify(a, req, &checks, &n, err);
	if (!rc && !n)
		rc = pl_fail(err, PL_ERR_UNSUPPORTED, name, "its log says nothing of its memory, and nothing else could be measured");
	if (!rc && cli->json)
		rc = pl_cli_json(cli->out, pl_report_verify_json(name, checks, n), err);
	else if (!rc)
		pl_report_verify_text(cli->out, checks, n, &style);
	return rc || !path ? rc : share(a, path, req, checks, n, err);
}

/* An engine that 'plimsoll up' started. */
static int verify_running(const struct pl_cli *cli, struct pl_arena *a, struct pl_err *err)
{
	struct pl_running r;
	struct pl_bench_result load;
	struct pl_verify_request req = {.facts = pl_facts_new(NULL)};
	char *log = NULL;
	int rc = pl_running_find(a, cli->words[0], &r, err);
	if (!rc && r.state != PL_RUN_READY)
		rc = pl_fail(err, PL_ERR_ENVIRONMENT, r.name, "is %s, so there is nothing to measure", pl_run_state_name(r.state));
	rc = rc ? rc : pl_engine_find(r.engine, &req.engine, err);
	rc = rc ? rc : pl_load_text(a, r.log_path, MAX_LOG, &log, &req.log_len, err);
	req.log = log;
	req.plan_json = r.plan_json;
	req.pid = r.pid;
	if (!rc && !pl_cli_flag(cli, "no-load"))
		rc = measure_speed(cli, a, &r, &req, &load, err);
	if (!rc && pl_cli_text(cli, "share"))
		rc = pl_probe_machine(a, &(struct pl_probe_options){.facts = req.facts}, &req.machine, NULL, err);
	rc = rc ? rc : finish(cli, a, r.name, &req, err);
	pl_facts_free(req.facts);
	return rc;
}

/* A log of any run, beside the plan of a model or of the engine's own command. */
static int verify_log(const struct pl_cli *cli, struct pl_arena *a, const char *path, struct pl_err *err)
{
	struct pl_plan_job j;
	const struct pl_plan *plan = NULL;
	struct pl_verify_request req = {0};
	char *log = NULL;
	int rc = pl_plan_job_init(&j, cli, cli->words[0], NULL);
	rc = rc ? rc : pl_plan_job_make(&j, &plan);
	if (rc)
		*err = j.err;
	json_t *o = rc ? NULL : pl_report_plan_json(plan);
	char *text = o ? json_dumps(o, JSON_REAL_PRECISION(17)) : NULL;
	req.plan_json = text;
	req.engine = rc ? NULL : plan->engine;
	rc = rc ? rc : pl_load_text(a, path, MAX_LOG, &log, &req.log_len, err);
	req.log = log;
	rc = rc ? rc : finish(cli, a, path, &req, err);
	json_decref(o);
	free(text);
	pl_plan_job_release(&j);
	return rc;
}

int cmd_verify(const struct pl_cli *cli)
{
	struct pl_arena *a = pl_arena_new(0);
	struct pl_err err = {0};
	const char *log = pl_cli_text(cli, "log");
	int rc = a ? 0 : pl_fail(&err, PL_ERR_NOMEM, NULL, "out of memory");
	rc = rc ? rc : log ? verify_log(cli, a, log, &err) : verify_running(cli, a, &err);
	pl_arena_free(a);
	return rc ? pl_cli_fail(&err) : 0;
}
