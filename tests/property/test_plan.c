/* What must hold for every plan, whatever the numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <plimsoll/plan.h>

#include "../named.h"

static const char *const models[] = {"Qwen/Qwen3-32B",        "llama3.1-8b",          "deepseek-ai/DeepSeek-R1",
                                     "openai/gpt-oss-20b",    "google/gemma-2-9b-it", "Qwen/Qwen3-30B-A3B",
                                     "mistralai/Mixtral-8x7B-v0.1"};
static const char *const machines[] = {"2x v100-sxm2-16gb, nvlink, ram 64GiB", "rtx4090, ram 64GiB", "8x h200-sxm",
                                       "1x rtx4090 + 2x rtx3090, ram 128GiB", "cpu, ram 64GiB", "gpu-24GiB"};
enum { N_MODELS = sizeof models / sizeof *models, N_MACHINES = sizeof machines / sizeof *machines };

/* NULL when the request is impossible for the engine. */
static const struct pl_plan *plan_with(struct pl_arena *a, const struct pl_model *m, const struct pl_machine *hw, const struct pl_engine *e,
                                       uint64_t ctx, uint32_t n_seq, bool search, const struct pl_params *ranks)
{
	struct pl_plan_request req = {.model = m, .machine = hw, .engine = e, .no_suggestions = !search};
	const struct pl_plan *p = NULL;
	struct pl_err err = {0};
	pl_params_default(&req.params);
	req.params.n_ctx_tokens = ctx;
	req.params.n_seq = n_seq;
	if (ranks) {
		req.params.tensor_parallel = ranks->tensor_parallel;
		req.params.pipeline_parallel = ranks->pipeline_parallel;
		req.params.data_parallel = ranks->data_parallel;
		req.params.expert_parallel = ranks->expert_parallel;
		req.params.dp_attention = ranks->dp_attention;
	}
	return pl_plan_make(a, &req, &p, &err) ? NULL : p;
}

static const struct pl_plan *plan(struct pl_arena *a, const struct pl_model *m, const struct pl_machine *hw,
                                  const struct pl_engine *e, uint64_t ctx, uint32_t n_seq, bool search)
{
	return plan_with(a, m, hw, e, ctx, n_seq, search, NULL);
}

static uint64_t total(const struct pl_plan *p, uint64_t (*of)(const struct pl_use *))
{
	uint64_t sum = of(&p->layout.host.use);
	for (uint32_t i = 0; i < p->layout.n_devices; i++)
		sum += of(&p->layout.devices[i]);
	return sum;
}

static void each(void (*check)(struct pl_arena *, const struct pl_model *, const struct pl_machine *,
                               const struct pl_engine *))
{
	for (int i = 0; i < N_MODELS; i++)
		for (int j = 0; j < N_MACHINES; j++)
			for (const struct pl_engine *const *e = pl_engines(); *e; e++) {
				struct pl_arena *a = pl_arena_new(0);
				const struct pl_model *m = model_named(a, models[i], !strcmp((*e)->id, "llama.cpp") ? "q4_k_m" : NULL);
				check(a, m, machine_named(a, machines[j]), *e);
				pl_arena_free(a);
			}
}

static void check_growth(struct pl_arena *a, const struct pl_model *m, const struct pl_machine *hw,
                         const struct pl_engine *e)
{
	uint64_t last = 0;
	for (uint64_t ctx = 1024; ctx <= 32768; ctx *= 2) {
		const struct pl_plan *p = plan(a, m, hw, e, ctx, 1, false);
		if (!p)
			return;
		if (p->exact_bytes < last)
			fail_msg("%s on %s in %s: %llu bytes after %llu", m->name, hw->description, e->id,
			         (unsigned long long)p->exact_bytes, (unsigned long long)last);
		last = p->exact_bytes;
	}
	last = 0;
	for (uint32_t n = 1; n <= 16; n *= 2) {
		const struct pl_plan *p = plan(a, m, hw, e, 2048, n, false);
		assert_non_null(p);
		if (p->exact_bytes < last)
			fail_msg("%s on %s in %s: %llu bytes after %llu", m->name, hw->description, e->id,
			         (unsigned long long)p->exact_bytes, (unsigned long long)last);
		last = p->exact_bytes;
	}
}

static void memory_never_shrinks_with_context_or_sequences(void **state)
{
	(void)state;
	each(check_growth);
}

static uint64_t model_bytes(const struct pl_use *u)
{
	return u->model_bytes;
}

static void check_weights(struct pl_arena *a, const struct pl_model *m, const struct pl_machine *hw,
                          const struct pl_engine *e)
{
	const struct pl_plan *p = plan(a, m, hw, e, 4096, 1, false);
	if (!p)
		return;
	uint64_t sum = total(p, model_bytes), mtp = 0;
	for (uint32_t i = 0; i < m->n_tensors; i++)
		if (m->tensors[i].group == PL_GROUP_MTP || m->tensors[i].group == PL_GROUP_VISION)
			mtp += m->tensors[i].bytes;
	if (sum < m->weight_bytes - mtp)
		fail_msg("%s on %s in %s: %llu bytes placed of %llu", m->name, hw->description, e->id, (unsigned long long)sum,
		         (unsigned long long)(m->weight_bytes - mtp));
}

static void every_weight_has_a_place(void **state)
{
	(void)state;
	each(check_weights);
}

static void check_verdict(struct pl_arena *a, const struct pl_model *m, const struct pl_machine *hw,
                          const struct pl_engine *e)
{
	const struct pl_plan *p = plan(a, m, hw, e, 8192, 2, true);
	if (!p)
		return;
	for (uint32_t i = 0; p->layout.fits && i < p->layout.n_devices; i++)
		assert_true(pl_use_total_bytes(&p->layout.devices[i]) <= p->layout.devices[i].total_bytes);
	assert_true(p->layout.fits || p->layout.missing_bytes > 0);
	assert_true(p->layout.fits || p->layout.where_missing);
	if (p->verdict == PL_VERDICT_FITS_GPU) {
		assert_true(p->limits.max_context_tokens.value >= 8192);
		assert_true(p->limits.max_sequences.value >= 2);
		assert_int_equal(p->n_suggestions, 0);
	}
	/* on the ranks of the plan the largest that holds holds, and one step more does not (unless the model's training ends
	 * there) */
	enum pl_verdict wanted = p->verdict == PL_VERDICT_NO_FIT ? PL_VERDICT_PAGED : p->verdict;
	uint64_t ctx = p->limits.max_context_tokens.value;
	uint32_t seqs = (uint32_t)p->limits.max_sequences.value;
	if (ctx) {
		const struct pl_plan *at = plan_with(a, m, hw, e, ctx, 2, false, &p->params);
		assert_non_null(at);
		assert_true(at->verdict <= wanted);
	}
	if (seqs) {
		const struct pl_plan *at = plan_with(a, m, hw, e, 8192, seqs, false, &p->params);
		const struct pl_plan *above = plan_with(a, m, hw, e, 8192, seqs + 1, false, &p->params);
		assert_non_null(at);
		assert_true(at->verdict <= wanted);
		assert_true(!above || seqs == 65536 || above->verdict > wanted);
	}
	for (uint32_t i = 0; i < p->n_suggestions; i++)
		assert_true(p->suggestions[i].verdict < p->verdict);
}

static void limits_and_suggestions_hold_when_tried(void **state)
{
	(void)state;
	each(check_verdict);
}

static void tensor_parallel_of_one_is_none(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_engine *vllm = NULL;
	struct pl_err err = {0};
	assert_int_equal(pl_engine_find("vllm", &vllm, &err), 0);
	const struct pl_model *m = model_named(a, "Qwen/Qwen3-32B", NULL);
	const struct pl_machine *one = machine_named(a, "h200-sxm");
	struct pl_params p, q;
	struct pl_layout with, without;
	pl_params_default(&p);
	pl_params_default(&q);
	p.n_ctx_tokens = q.n_ctx_tokens = 4096;
	p.tensor_parallel = 1;
	assert_int_equal(vllm->layout(a, m, one, &p, &with, &err), 0);
	assert_int_equal(vllm->layout(a, m, one, &q, &without, &err), 0);
	assert_int_equal(with.devices[0].model_bytes, without.devices[0].model_bytes);
	assert_int_equal(with.num_gpu_blocks.value, without.num_gpu_blocks.value);
	/* and the tables of 40960 rotary positions of width 128, which vLLM counts as the model's */
	assert_int_equal(with.devices[0].model_bytes, m->weight_bytes + 40960 * 128 * 2);
	pl_arena_free(a);
}

static void impossible_requests_are_refused_with_a_sentence(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	struct pl_plan_request req = {.model = model_named(a, "llama3.1-8b", NULL), .machine = machine_named(a, "8x h200-sxm")};
	const struct pl_plan *p = NULL;
	struct pl_err err = {0};
	pl_params_default(&req.params);
	req.params.n_seq = 0;
	assert_int_equal(pl_plan_make(a, &req, &p, &err), -PL_ERR_RANGE);
	assert_true(strlen(err.msg) > 10);
	req.params.n_seq = 1;
	req.params.tensor_parallel = 7;
	assert_int_equal(pl_engine_find("vllm", &req.engine, &err), 0);
	assert_true(pl_plan_make(a, &req, &p, &err) < 0);
	assert_null(p);
	pl_arena_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(memory_never_shrinks_with_context_or_sequences),
	    cmocka_unit_test(every_weight_has_a_place),
	    cmocka_unit_test(limits_and_suggestions_hold_when_tried),
	    cmocka_unit_test(tensor_parallel_of_one_is_none),
	    cmocka_unit_test(impossible_requests_are_refused_with_a_sentence),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
