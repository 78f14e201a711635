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
	*c = (struct pl_check){.metric = metric, .where = where, .source = pl_tr(source), .predicted = predicted, .low = NAN, .high = NAN, .measured = measured};
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
	add_buffer(v, json_object_get(memory, "host"), &host, pl_tr("host"));
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
		(void)add(v, "model_bytes", pl_tr("fullest GPU"), PL_N_("log"), most_model, (double)log->weights_bytes.value);
	if (log->kv_bytes.known)
		(void)add(v, "context_bytes", pl_tr("fullest GPU"), PL_N_("log"), most_kv, (double)log->kv_bytes.value);
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

/* Resident memory of the engine: what it holds itself, and what it has mapped of the file. */
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
	double rss = status_kib(text, "VmRSS");
	if (!(rss > 0))
		return;
	struct pl_check *c = add(v, "resident_bytes", pl_tr("host"), PL_N_("kernel"), number(host, "rest_bytes"), rss);
	if (c && !c->within && c->predicted > c->measured)
		c->cause = pl_tr("pages of the mapped file, of the cache and of buffers count once they are touched");
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

static void add_speed(struct verify *v, const char *metric, double measured)
{
	const json_t *e = json_object_get(json_object_get(v->plan, "speed"), metric);
	struct pl_check *c = add(v, metric, NULL, PL_N_("load"), number(e, "median"), measured);
	if (!c)
		return;
	c->low = number(e, "low");
	c->high = number(e, "high");
	judge(c);
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

/* ---- rows to share ----------------------------------------------------------------------------------------------- */

static const char *cell(struct pl_arena *a, const char *text)
{
	const char *out = "";
	if (!text || !text[strcspn(text, ",\"\r\n")])
		return text ? text : "";
	for (; *text && out; text++)
		out = *text == '"' ? pl_arena_printf(a, "%s\"\"", out) : pl_arena_printf(a, "%s%c", out, *text == '\n' || *text == '\r' ? ' ' : *text);
	return out ? pl_arena_printf(a, "\"%s\"", out) : NULL;
}

static const char *text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));
	return s ? s : "";
}

const char *pl_share_rows(struct pl_arena *a, const struct pl_verify_request *req, const struct pl_check *checks, uint32_t n, const char *date,
                          bool header)
{
	static const char columns[] = "id,source_url,date,engine,build,backend,gpu,n_gpu,cpu,ram,model,params_b,quant,size_gib,active_params_b,ngl,"
	                              "flash_attn,split_mode,n_ubatch,threads,kv_type,test,depth,tok_s,tok_s_sd,notes\n";
	json_t *plan = json_loads(req->plan_json ? req->plan_json : "", 0, NULL);
	const json_t *model = json_object_get(plan, "model"), *devices = json_object_get(json_object_get(plan, "memory"), "devices");
	const json_t *gpu = used_device(devices, 0);
	const char *out = header ? columns : "";
	unsigned n_gpu = 0;
	while (used_device(devices, n_gpu))
		n_gpu++;
	for (uint32_t i = 0; i < n && out; i++) {
		bool decode = !strcmp(checks[i].metric, "decode_tok_s"), prefill = !strcmp(checks[i].metric, "prefill_tok_s");
		if (!decode && !prefill)
			continue;
		const char *test = decode ? "gen" : pl_arena_printf(a, "prefill%.0f", req->load_prompt_tokens);
		/* the name of a model that is a file is the user's own: its architecture says enough */
		bool is_path = strchr(text_of(model, "name"), '/') == text_of(model, "name");
		out = pl_arena_printf(a, "%s,,%s,%s,,,%s,%u,,,%s,%.3f,%s,%.2f,%.3f,,,,,,,%s,,%.4g,,plimsoll verify\n", out, date, req->engine->id,
		                      cell(a, text_of(gpu, "name")), n_gpu, cell(a, is_path ? text_of(model, "architecture") : text_of(model, "name")),
		                      number(model, "parameters") / 1e9, cell(a, text_of(model, "quantization")),
		                      number(model, "weight_bytes") / (1024.0 * 1024 * 1024), number(model, "active_parameters") / 1e9, test, checks[i].measured);
	}
	json_decref(plan);
	return out;
}
