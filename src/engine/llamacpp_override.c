/* --override-tensor and --cpu-moe: tensors sent elsewhere by name (llama.cpp src/llama-model-loader.cpp). */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

#include "engine/llamacpp.h"
#include "engine/llamacpp_ggml.h"

/* "CPU" or the name of a device: its backend and number ("CUDA1", "Vulkan0", "RPC0[…]"). LG_FREE when there is none. */
static int16_t buffer_named(const struct ll_job *j, const char *name)
{
	if (!strncmp(name, "CPU", 3) || strstr(name, "Host"))
		return LG_CPU;
	size_t n = strcspn(name, "0123456789");
	uint32_t number = 0;
	if (!name[n])
		return j->n_dev ? 0 : LG_FREE;
	for (const char *p = name + n; *p >= '0' && *p <= '9' && number < PL_MAX_DEVICES; p++)
		number = number * 10 + (uint32_t)(*p - '0');
	return number < j->n_dev ? (int16_t)number : LG_FREE;
}

static int apply(struct ll_job *j, const struct pl_tensor_override *o, uint32_t *n_hits, struct pl_err *err)
{
	int code = 0;
	PCRE2_SIZE at = 0;
	int16_t home = buffer_named(j, o->buffer ? o->buffer : "");
	if (home == LG_FREE)
		return pl_fail(err, PL_ERR_UNSUPPORTED, o->buffer, "no buffer of this machine is called '%s'", o->buffer);
	pcre2_code *re = pcre2_compile((PCRE2_SPTR)o->pattern, PCRE2_ZERO_TERMINATED, 0, &code, &at, NULL);
	if (!re)
		return pl_fail(err, PL_ERR_RANGE, o->pattern, "'%s' is not a regular expression (at character %zu)", o->pattern,
		               (size_t)at + 1);
	pcre2_match_data *hit = pcre2_match_data_create(1, NULL);
	for (uint32_t i = 0; hit && i < j->m->n_tensors; i++) {
		struct ll_weight *w = &j->weights[i];
		const char *name = j->m->tensors[i].name;
		if (w->forced != LG_FREE || w->where == LL_UNLOADED || !name)
			continue;
		if (pcre2_match(re, (PCRE2_SPTR)name, PCRE2_ZERO_TERMINATED, 0, 0, hit, NULL) < 0)
			continue;
		w->forced = home;
		++*n_hits;
	}
	pcre2_match_data_free(hit);
	pcre2_code_free(re);
	return 0;
}

int ll_overrides(struct ll_job *j, struct pl_err *err)
{
	for (uint32_t k = 0; k < j->p->n_overrides; k++) {
		uint32_t n = 0;
		int rc = apply(j, &j->p->overrides[k], &n, err);
		if (rc < 0)
			return rc;
		j->overridden = true;
		if (!n && !j->idle_override)
			j->idle_override = j->p->overrides[k].pattern;
	}
	return 0;
}
