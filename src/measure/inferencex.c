/* The flags of InferenceX's start scripts, which no column of its tables states (measure/inferencex.def). */
#include <math.h>
#include <string.h>
#include <strings.h>

#include "base/words.h"
#include "measure/served_case.h"

static const struct pl_recipe {
	const char *engine, *model, *precision, *cards;
	double tp, clients, length; /* length: of prompts and answers; 0 any */
	double step_tokens, step_prompts;
	enum pl_dtype cache;
	double poll_steps, wait_steps, wait_frac;
	bool expert_parallel;
} recipes[] = {
#define ROW(e, m, p, c, tp, n, length, tokens, prompts, cache, poll, wait, frac, ep)                                                  \
	{e, m, p, c, tp, n, length, tokens, prompts, PL_DTYPE_##cache, poll, wait, frac, ep},
#define X(e, m, p, c, tp, n, tokens, prompts, cache, poll, wait, frac) ROW(e, m, p, c, tp, n, 0, tokens, prompts, cache, poll, wait, frac, false)
#define X1024(e, m, p, c, tp, n, tokens, prompts, cache, poll, wait, frac) ROW(e, m, p, c, tp, n, 1024, tokens, prompts, cache, poll, wait, frac, false)
#define XEP(e, m, p, c, tp, n, tokens, prompts, cache, poll, wait, frac) ROW(e, m, p, c, tp, n, 0, tokens, prompts, cache, poll, wait, frac, true)
#include "measure/inferencex.def"
#undef X
#undef X1024
#undef XEP
#undef ROW
};

static bool fits(const struct pl_recipe *r, const char *engine, const struct pl_served_ask *a)
{
	char card[32] = {0};
	memcpy(card, a->gpu, strcspn(a->gpu, "-") < sizeof card ? strcspn(a->gpu, "-") : 0);
	return !strcmp(r->engine, engine) && strcasestr(a->model, r->model) && (!*r->precision || !strcasecmp(r->precision, a->precision)) &&
	       pl_word_in(r->cards, card) && (!(r->tp > 0) || fabs(r->tp - a->tp * fmax(a->dp, 1)) < 0.5) && a->load.concurrency >= r->clients &&
	       (!(r->length > 0) || (fabs(a->load.prompt_tokens - r->length) < 0.5 && fabs(a->load.output_tokens - r->length) < 0.5));
}

const struct pl_recipe *pl_inferencex_recipe(const char *engine, const struct pl_served_ask *a)
{
	const struct pl_recipe *best = NULL;
	for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++)
		if (fits(&recipes[i], engine, a))
			best = &recipes[i];
	return best;
}

void pl_recipe_params(const struct pl_recipe *r, const struct pl_served_ask *a, struct pl_params *p)
{
	double tokens = fmax(r->step_tokens, r->step_prompts * a->load.prompt_tokens);
	/* A step of TensorRT-LLM holds at least a whole prompt: its scripts see to that. */
	if (r->step_tokens > 0 && !strcmp(r->engine, "tensorrt-llm"))
		tokens = fmax(tokens, a->load.prompt_tokens + a->load.concurrency);
	p->max_num_batched_tokens = (uint32_t)tokens;
	p->expert_parallel = p->expert_parallel || r->expert_parallel;
	p->type_k = p->type_v = r->cache ? r->cache : PL_DTYPE_F16;
}

/* AIConfigurator writes the start scripts of its own runs (src/aiconfigurator/generator/rule_plugin/benchmark/<engine>.rule): a
 * step holds the batch, a prompt and 1500 tokens more. SGLang's max_prefill_tokens is that without the batch, and the prompt
 * that reaches it is still taken. */
void pl_generated_params(const char *engine, const struct pl_served_ask *a, struct pl_params *p)
{
	double prompt = a->load.prompt_tokens, own = a->load.concurrency / fmax(1, a->dp);
	double tokens = strcmp(engine, "sglang") != 0 ? own + prompt + 1500 : ceil((prompt + 1500) / prompt) * prompt;
	p->max_num_batched_tokens = (uint32_t)(strcmp(engine, "sglang") != 0 ? tokens : fmin(tokens, 8192));
}

void pl_recipe_policy(const struct pl_recipe *r, struct pl_serve_policy *p)
{
	p->poll_steps = r->poll_steps;
	p->wait_steps = r->wait_steps;
	p->wait_tokens = r->wait_frac * p->step_tokens;
}
