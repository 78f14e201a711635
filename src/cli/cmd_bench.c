#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include <plimsoll/bench.h>
#include <plimsoll/run.h>
#include <plimsoll/source.h>

#include "base/fmt.h"
#include "cli/cli.h"
#include "measure/table.h"
#include "report/report.h"

enum { MAX_POINTS = 64 };

static volatile int interrupted;

struct sweep {
	const struct pl_cli *cli;
	struct pl_arena *a;
	struct pl_load load;
	double points[MAX_POINTS];
	uint32_t n_points;
	bool automatic, by_rate, slo;
	struct pl_store *store;
	int64_t run;
	json_t *done;
	struct pl_err err;
};

static void on_interrupt(int number)
{
	(void)number;
	interrupted = 1;
}

static void progress(void *user, double elapsed_s, uint64_t n_done, uint64_t n_failed, uint32_t n_in_flight, double tokens_per_s)
{
	const struct sweep *s = user;
	if (!s->cli->json && isatty(STDERR_FILENO))
		(void)fprintf(stderr, pl_tr("\r\033[K%6.0f s   %llu done, %llu failed, %u in flight, %.0f tok/s"), elapsed_s, (unsigned long long)n_done,
		              (unsigned long long)n_failed, n_in_flight, tokens_per_s);
}

/* ---- what is asked ----------------------------------------------------------------------------------------------- */

/* A URL, or the name of an engine that was started here. */
static int find_target(struct sweep *s)
{
	const char *word = s->cli->words[0];
	struct pl_running r;
	s->load.api_key = getenv("PLIMSOLL_API_KEY");
	if (!strstr(word, "://")) {
		int rc = pl_running_find(s->a, word, &r, &s->err);
		if (rc)
			return rc;
		s->load.url = r.url;
		s->load.api_key = r.api_key ? r.api_key : s->load.api_key;
		return 0;
	}
	size_t len = strlen(word);
	while (len && word[len - 1] == '/')
		len--;
	if (len > 3 && !strncmp(word + len - 3, "/v1", 3))
		len -= 3;
	s->load.url = pl_arena_strndup(s->a, word, len);
	return s->load.url ? 0 : pl_fail(&s->err, PL_ERR_NOMEM, NULL, "out of memory");
}

static int read_number(const char *option, const char *text, double *ret, struct pl_err *err)
{
	char *end;
	*ret = strtod(text, &end);
	if (end == text || *end || !(*ret > 0) || *ret > 1e5)
		return pl_fail(err, PL_ERR_USAGE, option, "'%.40s' is no number above 0", text);
	return 0;
}

static int read_points(struct sweep *s)
{
	const char *list = pl_cli_text(s->cli, "sweep"), *rate = pl_cli_text(s->cli, "rate");
	s->by_rate = rate != NULL;
	if (!list) {
		s->n_points = 1;
		s->points[0] = pl_cli_number(s->cli, "clients", 1);
		return rate ? read_number("--rate", rate, &s->points[0], &s->err) : 0;
	}
	if (!strcmp(list, "auto")) {
		s->automatic = true;
		s->n_points = 1;
		s->points[0] = rate ? 0 : 1;
		return rate ? read_number("--rate", rate, &s->points[0], &s->err) : 0;
	}
	for (const char *at = list; *at && s->n_points < MAX_POINTS;) {
		size_t n = strcspn(at, ",");
		const char *one = pl_arena_strndup(s->a, at, n);
		int rc = one ? read_number("--sweep", one, &s->points[s->n_points++], &s->err) : pl_fail(&s->err, PL_ERR_NOMEM, NULL, "out of memory");
		if (rc)
			return rc;
		at += n + (at[n] == ',');
	}
	return s->n_points ? 0 : pl_fail(&s->err, PL_ERR_USAGE, "--sweep", "names no load");
}

static int read_trace(struct sweep *s)
{
	static const char *const columns[] = {"arrival_s", "prompt_tokens", "output_tokens"};
	const char *path = pl_cli_text(s->cli, "trace");
	const struct pl_table *t;
	char *text;
	size_t len;
	int at[3];
	if (!path)
		return 0;
	int rc = pl_load_text(s->a, path, PL_TABLE_MAX_BYTES, &text, &len, &s->err);
	rc = rc ? rc : pl_table_read(s->a, path, text, len, &t, &s->err);
	for (int i = 0; i < 3 && !rc; i++)
		if ((at[i] = pl_table_column(t, columns[i])) < 0)
			rc = pl_fail(&s->err, PL_ERR_FORMAT, path, "has no column %s", columns[i]);
	struct pl_trace_row *rows = rc ? NULL : PL_NEW_N(s->a, struct pl_trace_row, (uint64_t)t->n_rows + 1);
	for (uint32_t i = 0; i < (rows ? t->n_rows : 0) && !rc; i++) {
		char *end[3];
		double v[3];
		for (int k = 0; k < 3; k++)
			v[k] = strtod(t->rows[i].cells[at[k]], &end[k]);
		if (*end[0] || *end[1] || *end[2] || !(v[0] >= 0) || !(v[1] >= 1) || !(v[2] >= 1) || v[1] > 1e7 || v[2] > 1e7)
			rc = pl_fail(&s->err, PL_ERR_FORMAT, path, "row %u: no arrival and two lengths of 1 token or more", i + 1);
		rows[i] = (struct pl_trace_row){v[0], (uint32_t)v[1], (uint32_t)v[2]};
	}
	if (!rc && (!rows || !t->n_rows))
		rc = pl_fail(&s->err, PL_ERR_FORMAT, path, "holds no rows");
	s->load.trace = rows;
	s->load.n_trace = rc ? 0 : t->n_rows;
	return rc;
}

static int read_load(struct sweep *s)
{
	const struct pl_cli *c = s->cli;
	const char *prompt = pl_cli_text(c, "prompt"), *answer = pl_cli_text(c, "answer");
	struct pl_load *l = &s->load;
	int rc = pl_length_parse(prompt ? prompt : "512", &l->prompt, &s->err);
	rc = rc ? rc : pl_length_parse(answer ? answer : "128", &l->output, &s->err);
	l->model = pl_cli_text(c, "model");
	l->chat = pl_cli_flag(c, "chat");
	l->insecure = pl_cli_flag(c, "insecure");
	l->duration_s = pl_cli_number(c, "duration", 0);
	l->timeout_s = pl_cli_number(c, "timeout", 600);
	l->slo_ttft_s = pl_cli_number(c, "slo-ttft", 0) / 1e3;
	l->slo_tpot_s = pl_cli_number(c, "slo-tpot", 0) / 1e3;
	l->slo_e2e_s = pl_cli_number(c, "slo-e2e", 0) / 1e3;
	l->seed = (uint64_t)pl_cli_number(c, "seed", 1);
	s->slo = l->slo_ttft_s > 0 || l->slo_tpot_s > 0 || l->slo_e2e_s > 0;
	rc = rc ? rc : read_trace(s);
	return rc ? rc : read_points(s);
}

/* ---- the store --------------------------------------------------------------------------------------------------- */

static json_t *length(const struct pl_length *l)
{
	return json_pack("[i, f, f]", (int)l->kind, l->a, l->b);
}

/* Everything that makes two measurements the same, so that a sweep finds what it has. */
static char *config_of(const struct sweep *s)
{
	const struct pl_load *l = &s->load;
	json_t *o = json_pack("{s:s, s:o, s:b, s:o, s:o, s:I, s:f, s:I, s:f, s:f, s:f, s:b, s:I, s:f, s:I}", "url", l->url, "model",
	                      l->model ? json_string(l->model) : json_null(), "chat", (int)l->chat, "prompt", length(&l->prompt), "answer",
	                      length(&l->output), "seed", (json_int_t)l->seed, "duration_s", l->duration_s, "n_trace", (json_int_t)l->n_trace, "slo_ttft_s",
	                      l->slo_ttft_s, "slo_tpot_s", l->slo_tpot_s, "slo_e2e_s", l->slo_e2e_s, "by_rate", (int)s->by_rate, "requests",
	                      (json_int_t)pl_cli_number(s->cli, "requests", 0), "timeout_s", l->timeout_s, "warmup",
	                      (json_int_t)pl_cli_number(s->cli, "warmup", -1));
	char *text = o ? json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
	json_decref(o);
	return text;
}

static int open_store(struct sweep *s)
{
	const char *path = pl_cli_text(s->cli, "store"), *folder = path ? NULL : pl_state_place(s->a, &s->err);
	if (!path && !folder)
		return -(int)s->err.code;
	path = path ? path : pl_arena_printf(s->a, "%s/bench.db", folder);
	int rc = path ? pl_store_open(path, &s->store, &s->err) : pl_fail(&s->err, PL_ERR_NOMEM, NULL, "out of memory");
	char *config = rc ? NULL : config_of(s);
	if (!rc)
		rc = config ? pl_store_run(s->store, config, s->cli->words[0], pl_cli_flag(s->cli, "resume"), &s->run, &s->err) : pl_fail(&s->err, PL_ERR_NOMEM, NULL, "out of memory");
	free(config);
	return rc;
}

/* ---- the sweep --------------------------------------------------------------------------------------------------- */

static const char *name_of(struct sweep *s, double v)
{
	return pl_arena_printf(s->a, s->by_rate ? "%g req/s" : "%g", v);
}

static void set_point(struct sweep *s, double v)
{
	struct pl_load *l = &s->load;
	double asked = pl_cli_number(s->cli, "requests", 0);
	l->rate_per_s = s->by_rate ? v : 0;
	l->concurrency = s->by_rate ? 0 : (uint32_t)v;
	l->n_requests = l->duration_s > 0 ? 0 : asked > 0 ? (uint64_t)asked : s->by_rate ? (uint64_t)fmax(64, 30 * v) : (uint64_t)fmax(64, 8 * v);
	l->n_warmup = (uint32_t)pl_cli_number(s->cli, "warmup", s->by_rate ? 8 : fmin(v, 32));
}

/* Measures one load, or reads it back; NULL with the fault, or when the user gave up before anything was complete. */
static json_t *point(struct sweep *s, double v)
{
	const char *name = name_of(s, v), *kept;
	struct pl_bench_result r;
	if (name && pl_store_point_done(s->store, s->a, s->run, name, &kept))
		return json_loads(kept, 0, NULL);
	set_point(s, v);
	if (!name || pl_bench_run(s->a, &s->load, &interrupted, progress, s, &r, &s->err))
		return NULL;
	json_t *o = pl_report_bench_json(name, &r);
	char *text = o ? json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
	/* What was interrupted is kept under a name of its own: nothing measured is lost, and the load is measured again. */
	const char *keep_as = r.interrupted ? pl_arena_printf(s->a, "%s, interrupted at %lld", name, (long long)time(NULL)) : name;
	if (!text || !keep_as || pl_store_point(s->store, s->run, keep_as, text, &r, &s->err)) {
		json_decref(o);
		o = NULL;
	}
	free(text);
	return o;
}

static double throughput(const json_t *o)
{
	double v = json_number_value(json_object_get(o, "output_tokens_per_s"));
	return v > 0 ? v : 0;
}

/* Saturated: twice the load gave less than a twentieth more, or most answers fail or come too late. */
static bool saturated(const json_t *o, const json_t *before)
{
	const json_t *good = json_object_get(o, "good_frac");
	return (before && throughput(o) < 1.05 * throughput(before)) || json_integer_value(json_object_get(o, "n_ok")) == 0 ||
	       (json_is_real(good) && json_real_value(good) < 0.5);
}

static void show(struct sweep *s, const json_t *o)
{
	if (s->cli->json)
		return;
	if (isatty(STDERR_FILENO))
		(void)fputs("\r\033[K", stderr);
	if (json_array_size(s->done) == 1)
		pl_report_bench_header(s->cli->out, s->slo);
	pl_report_bench_line(s->cli->out, o, s->slo);
	(void)fflush(s->cli->out);
}

static int go(struct sweep *s)
{
	const json_t *before = NULL;
	for (uint32_t i = 0; i < s->n_points && !interrupted; i++) {
		json_t *o = point(s, s->points[i]);
		if (!o)
			return s->err.code ? -(int)s->err.code : pl_fail(&s->err, PL_ERR_NOMEM, NULL, "out of memory");
		(void)json_array_append_new(s->done, o);
		show(s, o);
		double next = s->points[i] * 2;
		if (s->automatic && !saturated(o, before) && s->n_points < MAX_POINTS && next <= (s->by_rate ? 1e5 : 8000))
			s->points[s->n_points++] = next;
		before = o;
	}
	return 0;
}

int cmd_bench(const struct pl_cli *cli)
{
	struct sweep s = {.cli = cli, .a = pl_arena_new(0), .done = json_array()};
	struct sigaction act = {.sa_handler = on_interrupt};
	int rc = s.a && s.done ? 0 : pl_fail(&s.err, PL_ERR_NOMEM, NULL, "out of memory");
	(void)sigaction(SIGINT, &act, NULL);
	(void)sigaction(SIGTERM, &act, NULL);
	rc = rc ? rc : find_target(&s);
	rc = rc ? rc : read_load(&s);
	rc = rc ? rc : open_store(&s);
	rc = rc ? rc : go(&s);
	size_t n = json_array_size(s.done);
	if (cli->json && (n || !rc)) {
		if (pl_cli_json(cli->out, json_pack("{s:s, s:O}", "url", s.load.url, "loads", s.done), &s.err))
			rc = -(int)s.err.code;
	} else if (n) {
		pl_report_bench_remarks(cli->out, json_array_get(s.done, n - 1));
	}
	int code = rc ? pl_cli_fail(&s.err) : interrupted ? 4 : 0;
	json_decref(s.done);
	pl_store_close(s.store);
	pl_arena_free(s.a);
	return code;
}
