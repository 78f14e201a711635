#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <plimsoll/sample.h>

#include "probe/nvml.h"
#include "source/curl.h"

enum { MAX_METRICS = 1 << 20 };

struct pl_sampler {
	struct pl_sampler_target t;
	struct nvml nvml;
	bool has_nvml, lived;
	double start_s;
	struct pl_sample last;
	bool has_last;
	char names[PL_MAX_DEVICES][96], cards[PL_MAX_DEVICES][32];
	nvml_device handles[PL_MAX_DEVICES];
	uint32_t n_nvidia, n_cards;
	struct pl_facts *facts;
	struct pl_arena *a;
	char *text;
};

static double clock_s(void)
{
	struct timespec t;
	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

const char *pl_phase_name(enum pl_phase p)
{
	static const char *const names[] = {"none", "loading", "loaded", "generating", "freed"};
	return (unsigned)p < sizeof names / sizeof *names ? names[p] : "none";
}

/* ---- devices ----------------------------------------------------------------------------------------------------- */

static void find_nvidia(struct pl_sampler *s)
{
	unsigned count = 0;
	s->has_nvml = pl_nvml_open(&s->nvml, s->t.nvml_library);
	if (!s->has_nvml || s->nvml.count(&count))
		return;
	for (unsigned i = 0; i < count && s->n_nvidia < PL_MAX_DEVICES; i++) {
		if (s->nvml.by_index(i, &s->handles[s->n_nvidia]))
			continue;
		if (s->nvml.name(s->handles[s->n_nvidia], s->names[s->n_nvidia], sizeof s->names[0]))
			(void)snprintf(s->names[s->n_nvidia], sizeof s->names[0], "NVIDIA GPU");
		s->n_nvidia++;
	}
}

static bool read_number(struct pl_sampler *s, const char *path, double *ret)
{
	uint64_t v;
	bool known = pl_facts_file_u64(s->facts, path, &v);
	if (known)
		*ret = (double)v;
	return known;
}

static void find_amd(struct pl_sampler *s)
{
	char *names[256], path[128], name[96];
	size_t n = pl_facts_folder(s->facts, s->a, "/sys/class/drm", names, 256);
	double vram;
	for (size_t i = 0; i < n && s->n_nvidia + s->n_cards < PL_MAX_DEVICES; i++) {
		(void)snprintf(path, sizeof path, "/sys/class/drm/%.40s/device/mem_info_vram_total", names[i]);
		if (strncmp(names[i], "card", 4) != 0 || strchr(names[i], '-') || !read_number(s, path, &vram))
			continue;
		(void)snprintf(s->cards[s->n_cards], sizeof s->cards[0], "%.31s", names[i]);
		(void)snprintf(path, sizeof path, "/sys/class/drm/%.40s/device/product_name", names[i]);
		(void)snprintf(s->names[s->n_nvidia + s->n_cards], sizeof s->names[0], "%.90s", pl_facts_file(s->facts, path, name, sizeof name) ? name : "AMD GPU");
		s->n_cards++;
	}
}

static double asked(int (*get)(nvml_device, unsigned *), nvml_device d, double per)
{
	unsigned v;
	return get && get(d, &v) == 0 ? v / per : NAN;
}

static void sample_nvidia(struct pl_sampler *s, nvml_device d, struct pl_device_sample *ret)
{
	struct nvml_memory m = {0};
	struct nvml_utilization u;
	unsigned v;
	if (s->nvml.memory(d, &m) == 0 && m.total) {
		ret->total_bytes = (double)m.total;
		ret->used_bytes = (double)m.used;
	}
	ret->power_w = asked(s->nvml.power, d, 1000);
	ret->limit_w = asked(s->nvml.power_limit, d, 1000);
	if (s->nvml.temperature && s->nvml.temperature(d, 0, &v) == 0)
		ret->temperature_c = v;
	if (s->nvml.clock && s->nvml.clock(d, NVML_CLOCK_SM, &v) == 0)
		ret->sm_mhz = v;
	if (s->nvml.clock && s->nvml.clock(d, NVML_CLOCK_MEM, &v) == 0)
		ret->mem_mhz = v;
	if (s->nvml.utilization && s->nvml.utilization(d, &u) == 0)
		ret->busy_frac = u.gpu / 100.0;
}

static void sample_amd(struct pl_sampler *s, const char *card, struct pl_device_sample *ret)
{
	char path[160];
	char *hwmon[8];
	double v;
	(void)snprintf(path, sizeof path, "/sys/class/drm/%s/device/mem_info_vram_total", card);
	(void)read_number(s, path, &ret->total_bytes);
	(void)snprintf(path, sizeof path, "/sys/class/drm/%s/device/mem_info_vram_used", card);
	(void)read_number(s, path, &ret->used_bytes);
	(void)snprintf(path, sizeof path, "/sys/class/drm/%s/device/gpu_busy_percent", card);
	if (read_number(s, path, &v))
		ret->busy_frac = v / 100;
	(void)snprintf(path, sizeof path, "/sys/class/drm/%s/device/hwmon", card);
	if (!pl_facts_folder(s->facts, s->a, path, hwmon, 8))
		return;
	(void)snprintf(path, sizeof path, "/sys/class/drm/%s/device/hwmon/%.30s/power1_average", card, hwmon[0]);
	if (read_number(s, path, &v)) /* µW */
		ret->power_w = v / 1e6;
	(void)snprintf(path, sizeof path, "/sys/class/drm/%s/device/hwmon/%.30s/temp1_input", card, hwmon[0]);
	if (read_number(s, path, &v)) /* m°C */
		ret->temperature_c = v / 1000;
}

/* ---- host and engine --------------------------------------------------------------------------------------------- */

static double kib_of(const char *text, const char *key)
{
	const char *at = strstr(text, key);
	unsigned long long kib;
	return at && sscanf(at + strlen(key), ": %llu kB", &kib) == 1 ? (double)kib * 1024 : NAN;
}

static void sample_host(struct pl_sampler *s, struct pl_sample *ret)
{
	char text[4096], path[64];
	if (pl_facts_file(s->facts, "/proc/meminfo", text, sizeof text)) {
		ret->ram_total_bytes = kib_of(text, "MemTotal");
		ret->ram_used_bytes = ret->ram_total_bytes - kib_of(text, "MemAvailable");
	}
	(void)snprintf(path, sizeof path, "/proc/%lld/status", (long long)s->t.pid);
	if (s->t.pid && pl_facts_file(s->facts, path, text, sizeof text))
		ret->engine_rss_bytes = kib_of(text, "VmRSS");
}

/* The value of a metric, its labels skipped: "NAME{…} 12.5"; several series are summed up. */
static bool metric(const char *text, const char *name, double *ret)
{
	size_t n = strlen(name);
	double sum = 0;
	bool any = false;
	for (const char *at = text; (at = strstr(at, name)); at += n) {
		const char *value = at + n;
		if ((at != text && at[-1] != '\n') || (*value != '{' && *value != ' '))
			continue;
		if (*value == '{' && !(value = strchr(value, '}')))
			break;
		char *end;
		double v = strtod(value + 1, &end);
		if (end != value + 1 && isfinite(v)) {
			sum += v;
			any = true;
		}
	}
	if (any)
		*ret = sum;
	return any;
}

void pl_metrics_read(const char *text, struct pl_sample *s)
{
	const struct {
		const char *names[4];
		double *to;
	} list[] = {
	    {{"llamacpp:requests_processing", "vllm:num_requests_running", "sglang:num_running_reqs"}, &s->requests_running},
	    {{"llamacpp:requests_deferred", "vllm:num_requests_waiting", "sglang:num_queue_reqs"}, &s->requests_waiting},
	    {{"llamacpp:kv_cache_usage_ratio", "vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "sglang:token_usage"}, &s->kv_frac},
	    {{"llamacpp:tokens_predicted_total", "vllm:generation_tokens_total", "sglang:generation_tokens_total"}, &s->generated_tokens},
	    {{"llamacpp:prompt_tokens_total", "vllm:prompt_tokens_total", "sglang:prompt_tokens_total"}, &s->prompt_tokens},
	};
	for (size_t i = 0; i < sizeof list / sizeof *list; i++)
		for (size_t k = 0; k < 4 && list[i].names[k]; k++)
			if (metric(text, list[i].names[k], list[i].to))
				break;
}

static void rates(const struct pl_sample *last, struct pl_sample *now)
{
	double dt = now->t_s - last->t_s;
	if (dt > 0 && now->generated_tokens >= last->generated_tokens)
		now->generated_tok_s = (now->generated_tokens - last->generated_tokens) / dt;
	if (dt > 0 && now->prompt_tokens >= last->prompt_tokens)
		now->prompt_tok_s = (now->prompt_tokens - last->prompt_tokens) / dt;
}

static void sample_engine(struct pl_sampler *s, struct pl_sample *ret)
{
	struct pl_err err = {0};
	long status = 0;
	bool asked_for = s->t.pid || s->t.health_url, there = !s->t.pid || kill((pid_t)s->t.pid, 0) == 0;
	if (!asked_for)
		return;
	if (there && s->t.health_url && pl_http_get(s->t.health_url, s->t.api_key, 1, s->text, MAX_METRICS, &status, &err))
		status = 0;
	s->lived = s->lived || status == 200;
	if (!there || (!s->t.pid && s->lived && !status))
		ret->phase = PL_PHASE_FREED;
	else
		ret->phase = status == 200 ? PL_PHASE_LOADED : PL_PHASE_LOADING;
	if (ret->phase != PL_PHASE_LOADED || !s->t.metrics_url)
		return;
	if (!pl_http_get(s->t.metrics_url, s->t.api_key, 1, s->text, MAX_METRICS, &status, &err) && status == 200)
		pl_metrics_read(s->text, ret);
	if (s->has_last)
		rates(&s->last, ret);
	if (ret->requests_running > 0 || ret->generated_tok_s > 0)
		ret->phase = PL_PHASE_GENERATING;
}

/* ---- the sampler ------------------------------------------------------------------------------------------------- */

struct pl_sampler *pl_sampler_new(const struct pl_sampler_target *t)
{
	struct pl_sampler *s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	s->t = *t;
	s->start_s = clock_s();
	s->facts = pl_facts_new(&(struct pl_probe_options){.root = t->root});
	s->a = pl_arena_new(0);
	s->text = malloc(MAX_METRICS);
	if (!s->facts || !s->a || !s->text) {
		pl_sampler_free(s);
		return NULL;
	}
	find_nvidia(s);
	find_amd(s);
	return s;
}

void pl_sampler_free(struct pl_sampler *s)
{
	if (!s)
		return;
	if (s->has_nvml)
		pl_nvml_close(&s->nvml);
	pl_facts_free(s->facts);
	pl_arena_free(s->a);
	free(s->text);
	free(s);
}

void pl_sampler_take(struct pl_sampler *s, struct pl_sample *ret)
{
	*ret = (struct pl_sample){.t_s = clock_s() - s->start_s, .n_devices = s->n_nvidia + s->n_cards};
	ret->ram_total_bytes = ret->ram_used_bytes = ret->engine_rss_bytes = NAN;
	ret->requests_running = ret->requests_waiting = ret->kv_frac = NAN;
	ret->generated_tok_s = ret->prompt_tok_s = ret->generated_tokens = ret->prompt_tokens = NAN;
	for (uint32_t i = 0; i < ret->n_devices; i++) {
		struct pl_device_sample *d = &ret->devices[i];
		*d = (struct pl_device_sample){s->names[i], NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN};
		if (i < s->n_nvidia)
			sample_nvidia(s, s->handles[i], d);
		else
			sample_amd(s, s->cards[i - s->n_nvidia], d);
	}
	sample_host(s, ret);
	sample_engine(s, ret);
	s->last = *ret;
	s->has_last = true;
}
