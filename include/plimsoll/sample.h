/* What a machine and an engine do right now: memory, power, temperature, clocks, requests, tokens. */
#ifndef PLIMSOLL_SAMPLE_H
#define PLIMSOLL_SAMPLE_H

#include <plimsoll/hardware.h>

/* Marks along the life of an engine. */
enum pl_phase {
	PL_PHASE_NONE = 0, /* no engine is watched */
	PL_PHASE_LOADING,  /* alive, does not answer yet */
	PL_PHASE_LOADED,   /* answers, nothing to do */
	PL_PHASE_GENERATING,
	PL_PHASE_FREED     /* ended: its memory is free again */
};
const char *pl_phase_name(enum pl_phase p); /* "none", "loading", "loaded", "generating", "freed" */

/* Numbers that are not known are NAN. */
struct pl_device_sample {
	const char *name;
	double total_bytes, used_bytes, power_w, limit_w, temperature_c, busy_frac, sm_mhz, mem_mhz;
};

struct pl_sample {
	double t_s; /* since the sampler was made */
	struct pl_device_sample devices[PL_MAX_DEVICES];
	uint32_t n_devices;
	double ram_total_bytes, ram_used_bytes;
	double engine_rss_bytes;
	enum pl_phase phase;
	double requests_running, requests_waiting, kv_frac;
	double generated_tok_s, prompt_tok_s; /* since the sample before */
	double generated_tokens, prompt_tokens; /* since the engine started */
};

struct pl_sampler;
struct pl_sampler_target {
	int64_t pid;             /* of the engine; 0: none, or in a container */
	const char *health_url, *metrics_url; /* NULL: none */
	const char *api_key;
	const char *nvml_library; /* NULL: libnvidia-ml.so.1 */
	const char *root;         /* prefix of /proc and /sys; NULL none */
};
/* The target's texts are lent. NULL when out of memory; free with pl_sampler_free. */
struct pl_sampler *pl_sampler_new(const struct pl_sampler_target *t);
void pl_sampler_free(struct pl_sampler *s); /* NULL is fine */
/* Takes a sample; names live as long as the sampler. */
void pl_sampler_take(struct pl_sampler *s, struct pl_sample *ret);

/* The counters and gauges of llama.cpp's, vLLM's and SGLang's Prometheus pages; fields the text is silent on stay. */
void pl_metrics_read(const char *text, struct pl_sample *s);

#endif
