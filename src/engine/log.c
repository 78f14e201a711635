#include <stdlib.h>
#include <string.h>

#include "engine/log.h"

static const double MIB = 1024.0 * 1024, GIB = 1024.0 * 1024 * 1024;

struct pl_log_buffer *pl_log_buffer(struct pl_engine_log *log, const char *name)
{
	for (uint32_t i = 0; i < log->n_buffers; i++)
		if (!strcmp(log->buffers[i].name, name))
			return &log->buffers[i];
	if (log->n_buffers == sizeof log->buffers / sizeof *log->buffers)
		return NULL;
	struct pl_log_buffer *b = &log->buffers[log->n_buffers++];
	size_t n = strlen(name);
	*b = (struct pl_log_buffer){0};
	memcpy(b->name, name, n < sizeof b->name ? n : sizeof b->name - 1);
	return b;
}

/* Calls for every line, as a text of its own. */
static void each_line(const char *text, size_t len, void (*take)(const char *line, struct pl_engine_log *log), struct pl_engine_log *log)
{
	for (size_t at = 0; at < len;) {
		const char *end = memchr(text + at, '\n', len - at);
		size_t n = end ? (size_t)(end - text) - at : len - at;
		char line[512];
		size_t keep = n < sizeof line - 1 ? n : sizeof line - 1;
		memcpy(line, text + at, keep);
		line[keep] = '\0';
		take(line, log);
		at += n + 1;
	}
}

static bool size_after(const char *line, const char *words, double unit, uint64_t *ret)
{
	const char *at = strstr(line, words);
	char *end;
	if (!at)
		return false;
	at += strlen(words);
	while (*at == ' ' || *at == '=' || *at == ':')
		at++;
	double v = strtod(at, &end);
	if (end == at || !(v >= 0) || v * unit > 1e16)
		return false;
	*ret = (uint64_t)(v * unit + 0.5);
	return true;
}

/* The word before `at`: "…load_tensors:   CUDA0 model buffer size". */
static const char *word_before(const char *line, const char *at, char *buf, size_t size)
{
	const char *end = at;
	while (end > line && end[-1] == ' ')
		end--;
	const char *start = end;
	while (start > line && start[-1] != ' ')
		start--;
	size_t n = (size_t)(end - start);
	n = n < size ? n : size - 1;
	memcpy(buf, start, n);
	buf[n] = '\0';
	return buf;
}

/* ---- llama.cpp: "NAME KIND buffer size = X MiB" -------------------------------------------------------------------- */

/* "build: 6000 (a457551) with …", "build 11669 (Debian) with …": numbers run with the commits. */
static void llamacpp_build(const char *line, struct pl_engine_log *log)
{
	const char *at = strstr(line, "build");
	size_t n = at && !log->build[0] ? strspn(at + 5, ": ") : 0, digits = n ? strspn(at + 5 + n, "0123456789") : 0;
	if (digits >= 3 && digits <= 6 && !strncmp(at + 5 + n + digits, " (", 2)) {
		log->build[0] = 'b';
		memcpy(log->build + 1, at + 5 + n, digits);
		log->build[1 + digits] = '\0';
	}
}

static void llamacpp_line(const char *line, struct pl_engine_log *log)
{
	static const struct {
		const char *words;
		int kind; /* 0 model, 1 context, 2 compute, 3 output */
	} kinds[] = {{"model buffer size", 0}, {"KV buffer size", 1}, {"RS buffer size", 1}, {"compute buffer size", 2}, {"output buffer size", 3}};
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
		const char *at = strstr(line, kinds[i].words);
		char name[32];
		uint64_t bytes;
		if (!at || !size_after(at, kinds[i].words, MIB, &bytes))
			continue;
		struct pl_log_buffer *b = pl_log_buffer(log, word_before(line, at, name, sizeof name));
		if (!b)
			return;
		uint64_t *to = kinds[i].kind == 0 ? &b->model_bytes : kinds[i].kind == 1 ? &b->context_bytes : kinds[i].kind == 2 ? &b->compute_bytes : &b->output_bytes;
		*to = kinds[i].kind < 2 ? *to + bytes : bytes; /* graphs are reserved again and again: the last counts */
		return;
	}
	llamacpp_build(line, log);
}

void pl_log_read_llamacpp(const char *text, size_t len, struct pl_engine_log *ret)
{
	each_line(text, len, llamacpp_line, ret);
}

/* ---- vLLM: vllm/v1/worker/gpu_model_runner.py, gpu_worker.py, core/kv_cache_utils.py -------------------------------- */

static void keep(struct pl_opt_u64 *v, uint64_t n)
{
	if (!v->known || n > v->value) /* ranks differ little; the fullest counts */
		*v = (struct pl_opt_u64){n, true};
}

/* "158,656" */
static bool grouped(const char *at, uint64_t *ret)
{
	uint64_t v = 0;
	bool any = false;
	while (*at == ' ' || *at == ':' || *at == '=')
		at++;
	for (; (*at >= '0' && *at <= '9') || (*at == ',' && any); at++)
		if (*at != ',') {
			v = v * 10 + (uint64_t)(*at - '0');
			any = true;
		}
	*ret = v;
	return any;
}

/* "Initializing a V1 LLM engine (v0.24.0) with config" */
static void vllm_build(const char *line, struct pl_engine_log *log)
{
	const char *at = strstr(line, "LLM engine (v");
	size_t n = at && !log->build[0] ? strcspn(at + 13, ")") : 0;
	if (n && n < sizeof log->build)
		memcpy(log->build, at + 13, n);
}

static void vllm_line(const char *line, struct pl_engine_log *log)
{
	uint64_t v;
	const char *at;
	vllm_build(line, log);
	if (size_after(line, "Model loading took", GIB, &v) || size_after(line, "Loading model weights took", GIB, &v)) /* the latter until 2024 */
		keep(&log->weights_bytes, v);
	if (size_after(line, "Available KV cache memory", GIB, &v))
		keep(&log->kv_bytes, v);
	if ((at = strstr(line, "GPU KV cache size")) && grouped(at + 17, &v))
		keep(&log->kv_cache_tokens, v);
	if ((at = strstr(line, "# GPU blocks")) && grouped(at + 12, &v))
		keep(&log->num_gpu_blocks, v);
}

void pl_log_read_vllm(const char *text, size_t len, struct pl_engine_log *ret)
{
	each_line(text, len, vllm_line, ret);
}

/* ---- SGLang: srt/model_executor/model_runner.py, mem_cache/memory_pool.py ------------------------------------------- */

static void sglang_line(const char *line, struct pl_engine_log *log)
{
	uint64_t v;
	const char *at = strstr(line, "Load weight end");
	if (at && size_after(at, "mem usage", GIB, &v))
		keep(&log->weights_bytes, v);
	if ((at = strstr(line, "max_total_num_tokens")) && grouped(at + 20, &v))
		keep(&log->kv_cache_tokens, v);
}

void pl_log_read_sglang(const char *text, size_t len, struct pl_engine_log *ret)
{
	each_line(text, len, sglang_line, ret);
}
