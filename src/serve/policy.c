/* How each engine forms its steps. */
#include <math.h>
#include <string.h>

#include "serve/serve.h"

static double first_known(double a, double b)
{
	return a > 0 ? a : b;
}

/* Without a flag: vLLM 8192 on cards of 70 GiB and more, else 2048 (EngineArgs.get_batch_defaults); SGLang's
 * chunked_prefill_size 16384 from 160 GB, 8192 from 60 GB, 4096 from 35 GB, else 2048 (server_args.py); TensorRT-LLM's
 * max_num_tokens 8192. */
static double default_step_tokens(const struct pl_speed *s, const char *engine)
{
	uint64_t gib = s->setup.machine->n_devices ? s->setup.machine->devices[0].total_bytes >> 30 : 0;
	if (!strcmp(engine, "sglang"))
		return gib >= 160 ? 16384 : gib >= 58 ? 8192 : gib >= 33 ? 4096 : 2048;
	if (!strcmp(engine, "tensorrt-llm"))
		return 8192;
	return gib >= 70 ? 8192 : 2048;
}

double pl_serve_lanes(const struct pl_speed *s, double clients)
{
	double lanes = fmax(1, s->n_replicas) * fmax(1, s->n_in_flight);
	return fmin(lanes, fmax(1, clients));
}

/* SGLang counts the requests and the prompt tokens of all groups of data-parallel attention together, TensorRT-LLM those of one;
 * the layout counts the cache of all. */
static void of_one_group(const struct pl_params *p, const char *engine, struct pl_serve_policy *ret)
{
	double groups = p->dp_attention && p->data_parallel > 1 ? p->data_parallel : 1;
	ret->cache_tokens /= groups;
	if (strcmp(engine, "sglang") != 0)
		return;
	ret->max_seqs /= groups;
	ret->step_tokens = fmax(ret->step_tokens / groups, 1);
}

/* vLLM and SGLang share max_num_seqs out over the batches in flight (SGLang: max_running_requests // pp_size); TensorRT-LLM's
 * max_batch_size is that of one (its executor holds max_batch_size × pp_size requests). The cache is shared by all. */
static void share_out(const struct pl_speed *s, const char *engine, struct pl_serve_policy *ret)
{
	double n = fmax(1, s->n_in_flight);
	ret->cache_tokens /= n;
	if (strcmp(engine, "tensorrt-llm") != 0)
		ret->max_seqs /= n;
}

void pl_serve_policy_of(const struct pl_speed *s, struct pl_serve_policy *ret)
{
	const char *engine = s->setup.engine ? s->setup.engine->id : "llama.cpp";
	const struct pl_params *p = s->setup.params;
	const struct pl_layout *l = s->setup.layout;
	bool llama = !strcmp(engine, "llama.cpp");
	*ret = (struct pl_serve_policy){.mixed = strcmp(engine, "sglang") != 0, .whole_prompts = !strcmp(engine, "tensorrt-llm")};
	ret->reserves = ret->whole_prompts || llama;
	ret->ahead = !llama; /* vLLM's async scheduling (default from 0.14), SGLang's and TensorRT-LLM's overlap schedulers */
	ret->step_tokens = llama ? p->n_batch : first_known(p->max_num_batched_tokens, default_step_tokens(s, engine));
	ret->max_seqs = llama ? p->n_seq : first_known(p->max_num_seqs, 1024);
	ret->cache_tokens = l && l->kv_cache_tokens.known ? (double)l->kv_cache_tokens.value : 0;
	of_one_group(p, engine, ret);
	share_out(s, engine, ret);
	if (ret->step_tokens < 1)
		ret->step_tokens = 512;
	if (ret->max_seqs < 1)
		ret->max_seqs = 1;
}
