#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include <plimsoll/verify.h>

#include "probe/facts.h"

enum { MAX_CHECKS = 512 };
static const double CLOSE_FRAC = 0.03, CLOSE_BYTES = 16.0 * 1024 * 1024;

struct verify {
	struct pl_arena *a;
	const struct pl_verify_request *req;
	json_t *plan;
	struct pl_check *checks;
	uint32_t n;
};

static double number(const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);
	return json_is_number(v) ? json_number_value(v) : NAN;
}

static void judge(struct pl_check *c)
{
	bool bytes = strstr(c->metric, "bytes") != NULL;
	c->error_frac = c->measured > 0 ? (c->predicted - c->measured) / c->measured : NAN;
	if (isfinite(c->low) && isfinite(c->high))
		c->within = c->measured >= c->low && c->measured <= c->high;
	else
		c->within = fabs(c->error_frac) <= CLOSE_FRAC || (bytes && fabs(c->predicted - c->measured) <= CLOSE_BYTES);
}

static struct pl_check *add(struct verify *v, const char *metric, const char *where, const char *source, double predicted, double measured)
{
	if (v->n == MAX_CHECKS || !isfinite(measured))
		return NULL;
	struct pl_check *c = &v->checks[v->n++];
	*c = (struct pl_check){.metric = metric, .where = where, .source = source, .predicted = predicted, .low = NAN, .high = NAN, .measured = measured};
	judge(c);
	return c;
}

/* ---- memory by the log ------------------------------------------------------------------------------------------- */

/* llama.cpp counts every buffer of the CPU, mapped, repacked or pinned, as the host's. */
static bool is_host(const char *name)
{
	static const char *const suffixes[] = {"_Host", "_Mapped", "_REPACK"};
	if (!strncmp(name, "CPU", 3) || !strcmp(name, "Host"))
		return true;
	for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
		size_t n = strlen(suffixes[i]), len = strlen(name);
		if (len > n && !strcmp(name + len - n, suffixes[i]))
			return true;
	}
	return false;
}

static void add_buffer(struct verify *v, const json_t *planned, const struct pl_log_buffer *b, const char *where)
{
	const struct {
		const char *metric;
		uint64_t bytes;
	} list[] = {{"model_bytes", b->model_bytes}, {"context_bytes", b->context_bytes}, {"compute_bytes", b->compute_bytes}};
	for (size_t i = 0; i < 3; i++)
		if (list[i].bytes || number(planned, list[i].metric) > 0)
			(void)add(v, list[i].metric, where, PL_N_("log"), number(planned, list[i].metric), (double)list[i].bytes);
}

/* The n-th device of the plan that holds anything. */
static const json_t *used_device(const json_t *devices, uint32_t n)
{
	size_t i;
	json_t *d;
	json_array_foreach(devices, i, d)
		if (number(d, "model_bytes") > 0 && !n--)
			return d;
	return NULL;
}

static void by_buffers(struct verify *v, const struct pl_engine_log *log)
{
	const json_t *memory = json_object_get(v->plan, "memory"), *devices = json_object_get(memory, "devices");
	struct pl_log_buffer host = {.name = "host"};
	uint32_t gpu = 0;
	for (uint32_t i = 0; i < log->n_buffers; i++) {
		const struct pl_log_buffer *b = &log->buffers[i];
		if (is_host(b->name)) {
			host.model_bytes += b->model_bytes;
			host.context_bytes += b->context_bytes;
			host.compute_bytes += b->compute_bytes;
		} else {
			add_buffer(v, used_device(devices, gpu), b, pl_arena_printf(v->a, "GPU %u (%s)", gpu, b->name));
			gpu++;
		}
	}
	add_buffer(v, json_object_get(memory, "host"), &host, PL_N_("host"));
}

static void by_log(struct verify *v)
{
	struct pl_engine_log *log = PL_NEW(v->a, struct pl_engine_log);
	if (!log || !v->req->log || !v->req->engine->read_log)
		return;
	v->req->engine->read_log(v->req->log, v->req->log_len, log);
	if (log->n_buffers)
		by_buffers(v, log);
	const json_t *devices = json_object_get(json_object_get(v->plan, "memory"), "devices");
	double most_model = NAN, most_kv = NAN;
	size_t i;
	json_t *d;
	json_array_foreach(devices, i, d) {
		most_model = fmax(most_model, number(d, "model_bytes"));
		most_kv = fmax(most_kv, number(d, "context_bytes"));
	}
	if (log->weights_bytes.known)
		(void)add(v, "model_bytes", PL_N_("fullest GPU"), PL_N_("log"), most_model, (double)log->weights_bytes.value);
	if (log->kv_bytes.known)
		(void)add(v, "context_bytes", PL_N_("fullest GPU"), PL_N_("log"), most_kv, (double)log->kv_bytes.value);
	if (log->kv_cache_tokens.known)
		(void)add(v, "kv_cache_tokens", NULL, PL_N_("log"), number(v->plan, "kv_cache_tokens"), (double)log->kv_cache_tokens.value);
	if (log->num_gpu_blocks.known)
		(void)add(v, "num_gpu_blocks", NULL, PL_N_("log"), number(v->plan, "num_gpu_blocks"), (double)log->num_gpu_blocks.value);
}

/* ---- memory by the kernel and the driver ------------------------------------------------------------------------- */

static double status_kib(const char *text, const char *key)
{
	const char *at = strstr(text, key);
	unsigned long long kib;
	return at && sscanf(at + strlen(key), ": %llu kB", &kib) == 1 ? (double)kib * 1024 : NAN;
}

/* Resident memory of the engine. The plan counts every page that it may come to touch, and of the mapped file only what the
 * engine works from: until then there is less, and pages of the file that were read once (to repack or to copy them) stay until
 * the kernel wants them elsewhere. */
static void by_kernel(struct verify *v)
{
	char path[64], text[4096];
	const json_t *host = json_object_get(json_object_get(v->plan, "memory"), "host");
	if (!v->req->pid)
		return;
	(void)snprintf(path, sizeof path, "/proc/%lld/status", (long long)v->req->pid);
	FILE *f = fopen(path, "re");
	size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
	if (f)
		(void)fclose(f);
	text[n] = '\0';
	double rss = status_kib(text, "VmRSS"), spare = status_kib(text, "RssFile") - number(host, "mapped_bytes");
	struct pl_check *c = rss > 0 ? add(v, "resident_bytes", PL_N_("host"), PL_N_("kernel"), number(host, "rest_bytes"), rss) : NULL;
	if (!c || c->within)
		return;
	if (c->predicted > rss) {
		c->within = true;
		c->cause = pl_tr("pages of the mapped file, of the cache and of buffers count once they are touched");
	} else if (spare > 0 && rss - spare <= c->predicted) {
		c->within = true;
		c->cause = pl_tr("pages of the file that were read once stay until memory is wanted elsewhere");
	}
}

static void by_driver(struct verify *v)
{
	const json_t *devices = json_object_get(json_object_get(v->plan, "memory"), "devices");
	if (!v->req->facts || !v->req->pid)
		return;
	pl_facts_nvml(v->req->facts);
	for (unsigned i = 0; i < PL_MAX_DEVICES; i++) {
		const char *list = pl_facts_get(v->req->facts, "nvml:%u/processes", i);
		for (const char *at = list ? list : ""; *at; at += strcspn(at, "\n"), at += *at == '\n') {
			char name[64];
			unsigned long long bytes;
			unsigned pid;
			if (sscanf(at, "%63s %llu %u", name, &bytes, &pid) == 3 && pid == (unsigned)v->req->pid && bytes)
				(void)add(v, "device_bytes", pl_arena_printf(v->a, "GPU %u", i), PL_N_("driver"),
				          number(json_array_get(devices, i), "used_bytes"), (double)bytes);
		}
	}
}

/* ---- speed by a load --------------------------------------------------------------------------------------------- */

enum { BUSY_PERCENT = 10, PROMPT_PERCENT = 10 };

double pl_verify_prompt_tokens(const char *plan_json)
{
	json_t *plan = plan_json ? json_loads(plan_json, 0, NULL) : NULL;
	double n = number(json_object_get(plan, "speed"), "prompt_tokens");
	json_decref(plan);
	return n >= 1 ? n : 512;
}

/* What may part a timed number from the plan's, where it does. */
static const char *cause_of(struct verify *v, const struct pl_check *c)
{
	double planned = number(json_object_get(v->plan, "speed"), "prompt_tokens"), asked = v->req->load_prompt_tokens;
	if (!isfinite(c->low) || c->within)
		return NULL;
	if (v->req->others_busy_frac * 100 > BUSY_PERCENT)
		return pl_arena_printf(v->a, pl_tr("other programs had %.0f %% of the processors meanwhile"), 100 * v->req->others_busy_frac);
	if (strcmp(c->metric, "decode_tok_s") != 0 && fabs(asked - planned) * 100 > PROMPT_PERCENT * planned)
		return pl_arena_printf(v->a, pl_tr("the load's prompts have %.0f tokens, the plan's %.0f"), asked, planned);
	return NULL;
}

static void add_speed(struct verify *v, const char *metric, double measured)
{
	const json_t *e = json_object_get(json_object_get(v->plan, "speed"), metric);
	struct pl_check *c = add(v, metric, NULL, PL_N_("load"), number(e, "median"), measured);
	if (!c)
		return;
	c->low = number(e, "low");
	c->high = number(e, "high");
	judge(c);
	c->cause = cause_of(v, c);
}

static void by_load(struct verify *v)
{
	const struct pl_bench_result *r = v->req->load;
	if (!r || !r->n_ok)
		return;
	add_speed(v, "decode_tok_s", r->tpot_s.p50 > 0 ? 1 / r->tpot_s.p50 : NAN);
	add_speed(v, "prefill_tok_s", r->ttft_s.p50 > 0 ? v->req->load_prompt_tokens / r->ttft_s.p50 : NAN);
	add_speed(v, "ttft_s", r->ttft_s.p50);
}

int pl_verify(struct pl_arena *a, const struct pl_verify_request *req, struct pl_check **ret, uint32_t *ret_n, struct pl_err *err)
{
	json_error_t fault;
	struct verify v = {.a = a, .req = req, .checks = PL_NEW_N(a, struct pl_check, MAX_CHECKS)};
	v.plan = req->plan_json ? json_loads(req->plan_json, JSON_REJECT_DUPLICATES, &fault) : NULL;
	if (!v.checks)
		return pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory");
	if (!v.plan)
		return pl_fail(err, PL_ERR_FORMAT, "plan", "the plan beside the engine cannot be read: %s", req->plan_json ? fault.text : "there is none");
	by_log(&v);
	by_kernel(&v);
	by_driver(&v);
	by_load(&v);
	json_decref(v.plan);
	*ret = v.checks;
	*ret_n = v.n;
	return pl_arena_failed(a) ? pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory") : 0;
}
