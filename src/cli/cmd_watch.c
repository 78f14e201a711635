#include <math.h>
#include <string.h>
#include <time.h>

#include <jansson.h>

#include <plimsoll/run.h>
#include <plimsoll/sample.h>

#include "cli/cli.h"
#include "report/json.h"
#include "tui/watch.h"

static json_t *device_json(const struct pl_device_sample *d, double planned)
{
	return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "name", d->name, "total_bytes", rj_real(d->total_bytes), "used_bytes",
	                 rj_real(d->used_bytes), "planned_bytes", rj_real(planned), "power_w", rj_real(d->power_w), "limit_w", rj_real(d->limit_w), "temperature_c",
	                 rj_real(d->temperature_c), "busy_frac", rj_real(d->busy_frac), "sm_mhz", rj_real(d->sm_mhz), "mem_mhz", rj_real(d->mem_mhz));
}

static json_t *sample_json(const struct pl_watch_view *v)
{
	const struct pl_sample *s = &v->now;
	json_t *devices = json_array();
	for (uint32_t i = 0; i < s->n_devices; i++)
		(void)json_array_append_new(devices, device_json(&s->devices[i], i < v->plan.n_devices ? v->plan.device_bytes[i] : NAN));
	json_t *host = json_pack("{s:o, s:o, s:o, s:o}", "total_bytes", rj_real(s->ram_total_bytes), "used_bytes", rj_real(s->ram_used_bytes), "engine_rss_bytes",
	                         rj_real(s->engine_rss_bytes), "planned_bytes", rj_real(v->plan.host_bytes));
	json_t *engine = json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "phase", pl_phase_name(s->phase), "requests_running",
	                           rj_real(s->requests_running), "requests_waiting", rj_real(s->requests_waiting), "kv_frac", rj_real(s->kv_frac),
	                           "generated_tokens", rj_real(s->generated_tokens), "prompt_tokens", rj_real(s->prompt_tokens), "generated_tok_s",
	                           rj_real(s->generated_tok_s), "planned_decode_tok_s", rj_real(v->plan.decode_tok_s));
	return json_pack("{s:o, s:o, s:o}", "devices", devices, "host", host, "engine", engine);
}

static double number(const json_t *o, const char *key)
{
	const json_t *n = json_object_get(o, key);
	return json_is_number(n) ? json_number_value(n) : NAN;
}

static void read_plan(struct pl_watch_plan *p, const char *text)
{
	json_t *plan = text ? json_loads(text, 0, NULL) : NULL;
	const json_t *memory = json_object_get(plan, "memory");
	size_t i;
	json_t *d;
	p->host_bytes = number(json_object_get(memory, "host"), "rest_bytes");
	p->decode_tok_s = number(json_object_get(json_object_get(plan, "speed"), "decode_tok_s"), "median");
	json_array_foreach(json_object_get(memory, "devices"), i, d)
		if (i < PL_MAX_DEVICES)
			p->device_bytes[p->n_devices++] = number(d, "used_bytes");
	json_decref(plan);
}

/* An engine by its name; without one, the machine alone. */
static int find_target(const struct pl_cli *cli, struct pl_arena *a, struct pl_sampler_target *t, struct pl_watch_view *v, struct pl_err *err)
{
	struct pl_running r;
	v->title = pl_tr("this machine");
	if (!cli->n_words)
		return 0;
	int rc = pl_running_find(a, cli->words[0], &r, err);
	if (rc)
		return rc;
	t->pid = r.pid;
	t->api_key = r.api_key;
	t->health_url = r.health_path ? pl_arena_printf(a, "%s%s", r.url, r.health_path) : NULL;
	t->metrics_url = r.metrics_path ? pl_arena_printf(a, "%s%s", r.url, r.metrics_path) : NULL;
	v->title = pl_arena_printf(a, "%s · %s · %s · %s", r.name, r.engine, r.model_ref ? r.model_ref : "?", r.url);
	read_plan(&v->plan, r.plan_json);
	return 0;
}

/* Two samples, a moment apart: rates need a before. */
static int once(const struct pl_cli *cli, struct pl_sampler *s, struct pl_watch_view *v, struct pl_err *err)
{
	const char *lines[256];
	struct pl_sample now;
	struct pl_arena *a = pl_arena_new(0);
	pl_sampler_take(s, &now);
	(void)nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
	pl_sampler_take(s, &now);
	pl_watch_add(v, &now);
	int rc = a ? 0 : pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory");
	if (!rc && cli->json)
		rc = pl_cli_json(cli->out, sample_json(v), err);
	uint32_t n = rc || cli->json ? 0 : pl_watch_lines(a, v, 256, cli->columns, lines);
	for (uint32_t i = 0; i < n; i++)
		(void)fprintf(cli->out, "%s\n", lines[i]);
	pl_arena_free(a);
	return rc;
}

int cmd_watch(const struct pl_cli *cli)
{
	static struct pl_watch_view view;
	struct pl_sampler_target target = {0};
	struct pl_arena *a = pl_arena_new(0);
	struct pl_err err = {0};
	view.plan.host_bytes = view.plan.decode_tok_s = NAN;
	int rc = a ? find_target(cli, a, &target, &view, &err) : pl_fail(&err, PL_ERR_NOMEM, NULL, "out of memory");
	struct pl_sampler *s = rc ? NULL : pl_sampler_new(&target);
	if (!rc && !s)
		rc = pl_fail(&err, PL_ERR_NOMEM, NULL, "out of memory");
	if (!rc)
		rc = cli->json || pl_cli_flag(cli, "once") ? once(cli, s, &view, &err) : pl_watch_run(s, &view, pl_cli_number(cli, "interval", 1), &err);
	pl_sampler_free(s);
	pl_arena_free(a);
	return rc ? pl_cli_fail(&err) : 0;
}
