/* up, down, status: engines that plimsoll started. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include <plimsoll/run.h>

#include "base/fmt.h"
#include "cli/plan_job.h"
#include "engine/argv.h"
#include "report/report.h"

static volatile int interrupted;

static void on_interrupt(int signal_number)
{
	(void)signal_number;
	interrupted = 1;
}

static void progress(void *user, double elapsed_s, const char *line)
{
	const struct pl_cli *cli = user;
	if (!isatty(STDERR_FILENO) || cli->json)
		return;
	int room = cli->columns - 12;
	(void)fprintf(stderr, "\r\033[K%5.0f s  %.*s", elapsed_s, (int)pl_text_fit(line, room > 10 ? room : 10), line);
}

static json_t *text(const char *s)
{
	return s ? json_string(s) : json_null();
}

static json_t *running_json(const struct pl_running *r)
{
	return json_pack("{s:s, s:s, s:o, s:o, s:s, s:o, s:o, s:o, s:I, s:o}", "name", r->name, "state", pl_run_state_name(r->state), "engine",
	                 text(r->engine), "model", text(r->model_ref), "url", r->url, "log", text(r->log_path), "container", text(r->container),
	                 "pid", r->container ? json_null() : json_integer(r->pid), "started", (json_int_t)r->started_unix_s, "ready_after_s",
	                 r->ready_after_s > 0 ? json_real(r->ready_after_s) : json_null());
}

static int dump(const struct pl_cli *cli, json_t *o)
{
	struct pl_err err = {0};
	return pl_cli_json(cli->out, o, &err) ? pl_cli_fail(&err) : 0;
}

/* Beyond this machine nobody answers without a key: one given, or made. */
static int find_key(const struct pl_cli *cli, struct pl_arena *a, const char **ret, struct pl_err *err)
{
	const char *key = getenv("PLIMSOLL_API_KEY"), *host = pl_cli_text(cli, "host");
	bool local = !host || !strncmp(host, "127.", 4) || !strcmp(host, "localhost") || !strcmp(host, "::1");
	uint8_t bytes[16];
	if (key && *key && key[strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")])
		return pl_fail(err, PL_ERR_RANGE, "PLIMSOLL_API_KEY", "a key holds letters, digits, '.', '_' and '-' only");
	*ret = key && *key ? key : NULL;
	if (*ret || local)
		return 0;
	if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
		return pl_fail(err, PL_ERR_ENVIRONMENT, "getrandom", "no random bytes for an API key");
	char *made = pl_arena_alloc(a, 2 * sizeof bytes + 4);
	for (size_t i = 0; made && i < sizeof bytes; i++)
		(void)snprintf(made + 2 * i, 3, "%02x", bytes[i]);
	*ret = made;
	return made ? 0 : pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory");
}

/* After running out of memory: the plan with a tenth less on every device than is said to be free. */
static void say_what_would_work(struct pl_plan_job *j)
{
	struct pl_machine less = *j->req.machine;
	const struct pl_plan *plan = NULL;
	struct pl_err err = {0};
	less.devices = PL_NEW_N(j->a, struct pl_device, (uint64_t)less.n_devices + 1);
	for (uint32_t i = 0; less.devices && i < less.n_devices; i++) {
		less.devices[i] = j->req.machine->devices[i];
		less.devices[i].total_bytes -= less.devices[i].total_bytes / 10;
		less.devices[i].free_bytes -= less.devices[i].free_bytes / 10;
	}
	less.ram_free_bytes.value -= less.ram_free_bytes.value / 10;
	j->req.machine = &less;
	j->req.params.n_gpu_layers = PL_AUTO;
	j->req.params.n_cpu_moe = PL_AUTO;
	if (!less.devices || pl_plan_make(j->a, &j->req, &plan, &err))
		return;
	if (plan->verdict != PL_VERDICT_NO_FIT && plan->argv.n_words)
		(void)fprintf(stderr, pl_tr("plimsoll: with a tenth more room this would work:\n  %s\n"), pl_argv_line(j->a, &plan->argv));
	for (uint32_t i = 0; i < plan->n_suggestions && plan->verdict == PL_VERDICT_NO_FIT; i++)
		(void)fprintf(stderr, "  %s\n", plan->suggestions[i].text);
}

static void explain(struct pl_plan_job *j, const struct pl_up_result *r)
{
	if (r->log_line && *r->log_line)
		(void)fprintf(stderr, pl_tr("  its log says: %s\n"), r->log_line);
	if (r->running.log_path && r->fault)
		(void)fprintf(stderr, pl_tr("  the whole log: %s\n"), r->running.log_path);
	if (r->fault == PL_START_NO_DEVICE_MEMORY || r->fault == PL_START_NO_HOST_MEMORY || r->fault == PL_START_KILLED)
		say_what_would_work(j);
}

static void print_up(const struct pl_cli *cli, const struct pl_running *r)
{
	(void)fprintf(cli->out, pl_tr("%s answers at %s after %.1f s\n"), r->name, r->url, r->ready_after_s);
	(void)fprintf(cli->out, pl_tr("  log   %s\n"), r->log_path);
	if (r->api_key)
		(void)fprintf(cli->out, pl_tr("  key   %s\n"), r->api_key);
	(void)fprintf(cli->out, pl_tr("  try   curl %s/v1/chat/completions -H 'Content-Type: application/json'%s%s%s -d "
	                              "'{\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}'\n"),
	              r->url, r->api_key ? " -H 'Authorization: Bearer " : "", r->api_key ? r->api_key : "", r->api_key ? "'" : "");
	(void)fprintf(cli->out, pl_tr("  end   plimsoll down %s\n"), r->name);
}

static int start(const struct pl_cli *cli, struct pl_plan_job *j, const struct pl_plan *plan, int *ret_code)
{
	char folder[4096];
	const char *use = pl_cli_text(cli, "container"), *key = NULL;
	struct pl_up_result result = {0};
	struct sigaction act = {.sa_handler = on_interrupt};
	json_t *o = pl_report_plan_json(plan);
	char *plan_text = o ? json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
	json_decref(o);
	int rc = find_key(cli, j->a, &key, &j->err);
	(void)sigaction(SIGINT, &act, NULL);
	(void)sigaction(SIGTERM, &act, NULL);
	const struct pl_up_request req = {
	    .plan = plan,
	    .plan_json = plan_text,
	    .where = {.name = pl_cli_text(cli, "name"), .image = pl_cli_text(cli, "image"), .program = pl_cli_text(cli, "program"),
	              .working_dir = getcwd(folder, sizeof folder), .host = pl_cli_text(cli, "host"), .port = (uint16_t)pl_cli_number(cli, "port", 0)},
	    .api_key = key,
	    .container = !use || !strcmp(use, "auto") ? PL_CONTAINER_AUTO : !strcmp(use, "never") ? PL_CONTAINER_NEVER : PL_CONTAINER_ALWAYS,
	    .wait_s = pl_cli_number(cli, "wait", 0),
	    .interrupted = &interrupted,
	    .progress = progress,
	    .user = (void *)(uintptr_t)cli,
	};
	rc = rc ? rc : pl_up(j->a, &req, &result, &j->err);
	free(plan_text);
	if (isatty(STDERR_FILENO) && !cli->json)
		(void)fputs("\r\033[K", stderr);
	if (rc) {
		*ret_code = pl_cli_fail(&j->err);
		explain(j, &result);
		return 0;
	}
	*ret_code = cli->json ? dump(cli, running_json(&result.running)) : (print_up(cli, &result.running), 0);
	return 0;
}

int cmd_up(const struct pl_cli *cli)
{
	struct pl_plan_job j;
	const struct pl_plan *plan = NULL;
	int code = 0;
	int rc = pl_plan_job_init(&j, cli, cli->words[0], NULL);
	rc = rc ? rc : pl_plan_job_make(&j, &plan);
	if (!rc && plan->verdict == PL_VERDICT_NO_FIT) {
		(void)fprintf(stderr, "plimsoll: %s\n", pl_tr("the plan does not fit, so there is nothing to start; 'plimsoll plan' says what would"));
		code = 1;
	} else if (!rc) {
		rc = start(cli, &j, plan, &code);
	}
	if (rc)
		code = pl_cli_fail(&j.err);
	pl_plan_job_release(&j);
	return code;
}

int cmd_down(const struct pl_cli *cli)
{
	struct pl_arena *a = pl_arena_new(0);
	struct pl_err err = {0};
	int rc = a ? pl_down(a, cli->words[0], pl_cli_number(cli, "patience", 30), &err) : pl_fail(&err, PL_ERR_NOMEM, NULL, "out of memory");
	int code = rc ? pl_cli_fail(&err) : 0;
	if (!rc && cli->json)
		code = dump(cli, json_pack("{s:s, s:b}", "name", cli->words[0], "ended", 1));
	else if (!rc)
		(void)fprintf(cli->out, pl_tr("%s was ended\n"), cli->words[0]);
	pl_arena_free(a);
	return code;
}

static void print_line(const struct pl_cli *cli, const struct pl_running *r)
{
	static const char *const states[] = {PL_N_("starting"), PL_N_("ready"), PL_N_("exited"), PL_N_("gone")};
	char age[64];
	long long s = (long long)time(NULL) - r->started_unix_s;
	if (s < 0) /* the clock was set back */
		s = 0;
	(void)snprintf(age, sizeof age, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
	const char *state = pl_tr(states[r->state]);
	(void)fprintf(cli->out, "%-24s %-*s %-12s %-28s %9s  %s\n", r->name, pl_text_width(state, 9), state, r->engine, r->url, age, r->log_path ? r->log_path : "");
}

int cmd_status(const struct pl_cli *cli)
{
	struct pl_arena *a = pl_arena_new(0);
	struct pl_err err = {0};
	struct pl_running *list = NULL;
	uint32_t n = 0;
	int code = 0;
	int rc = a ? 0 : pl_fail(&err, PL_ERR_NOMEM, NULL, "out of memory");
	if (!rc && cli->n_words) {
		list = PL_NEW(a, struct pl_running);
		rc = list ? pl_running_find(a, cli->words[0], list, &err) : pl_fail(&err, PL_ERR_NOMEM, NULL, "out of memory");
		n = 1;
	} else if (!rc) {
		rc = pl_running_list(a, 2, &list, &n, &err);
	}
	if (rc) {
		code = pl_cli_fail(&err);
	} else if (cli->json) {
		json_t *o = json_array();
		for (uint32_t i = 0; i < n; i++)
			(void)json_array_append_new(o, running_json(&list[i]));
		code = dump(cli, o);
	} else {
		for (uint32_t i = 0; i < n; i++)
			print_line(cli, &list[i]);
		if (!n)
			(void)fprintf(cli->out, "%s\n", pl_tr("nothing was started with 'plimsoll up'"));
	}
	pl_arena_free(a);
	return code;
}
