#include <string.h>
#include <strings.h>

#include <plimsoll/engine.h>

#include "base/checked.h"
#include "base/words.h"
#include "engine/engines.h"

/* llama.cpp first, Transformers last, the servers in order of preference between them (plan/choose.c). */
static const struct pl_engine *const engines[] = {
    &pl_engine_llamacpp,
    &pl_engine_vllm,
    &pl_engine_sglang,
    &pl_engine_tensorrt_llm,
    &pl_engine_transformers,
    NULL,
};

const struct pl_engine *const *pl_engines(void)
{
	return engines;
}

int pl_engine_find(const char *name, const struct pl_engine **ret_engine, struct pl_err *err)
{
	char known[256] = "";
	size_t used = 0;
	for (uint32_t i = 0; engines[i]; i++) {
		if (!strcasecmp(engines[i]->id, name) || pl_word_in(engines[i]->aliases, name)) {
			*ret_engine = engines[i];
			return 0;
		}
		size_t len = strlen(engines[i]->id);
		if (used + len + 3 < sizeof known) {
			memcpy(known + used, used ? ", " : "", used ? 2 : 0);
			used += used ? 2 : 0;
			memcpy(known + used, engines[i]->id, len + 1);
			used += len;
		}
	}
	return pl_fail(err, PL_ERR_UNKNOWN_NAME, name, "no engine is called '%s'; there are: %s", name, known);
}

void pl_params_default(struct pl_params *p)
{
	*p = (struct pl_params){
	    .n_seq = 1,
	    .n_batch = 2048,
	    .n_ubatch = 512,
	    .n_gpu_layers = PL_AUTO,
	    .n_cpu_moe = PL_AUTO,
	    .flash_attn = PL_AUTO,
	    .mm_cache_bytes = UINT64_MAX,
	};
}

uint64_t pl_use_context_bytes(const struct pl_use *u)
{
	return pl_sat_add(u->kv_bytes, u->state_bytes);
}

uint64_t pl_use_total_bytes(const struct pl_use *u)
{
	uint64_t sum = pl_sat_add(u->model_bytes, pl_use_context_bytes(u));
	return pl_sat_add(pl_sat_add(sum, u->compute_bytes), u->overhead_bytes);
}
