/* Closed loops against hand calculations, Little's law and what more cards and room must do. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <plimsoll/serve.h>

#include "measure/served_case.h"
#include "../named.h"

static const struct pl_engine engines[] = {{.id = "vllm"}, {.id = "sglang"}, {.id = "tensorrt-llm"}};
enum { N_ENGINES = sizeof engines / sizeof *engines };

/* p with ranks set; n cards. */
static const struct pl_speed *speed_of(struct pl_arena *a, const struct pl_engine *e, const char *model, const char *quant, const char *gpu,
                                       uint32_t n, struct pl_params *p)
{
	const struct pl_model *m = model_named(a, model, quant);
	const struct pl_machine *hw = machine_named(a, pl_arena_printf(a, "%ux %s", n, gpu));
	const struct pl_speed *s = NULL;
	struct pl_layout *l = PL_NEW(a, struct pl_layout);
	struct pl_err err = {0};
	struct pl_speed_setup setup = {.model = m, .machine = hw, .engine = e, .params = p, .layout = l};
	if (pl_speed_compile(a, &setup, &s, &err) || pl_speed_unknown(s))
		fail_msg("%s on %s: %s", model, gpu, err.msg);
	return s;
}

static struct pl_params *ranks(struct pl_arena *a, uint32_t tp, uint32_t pp, uint32_t dp)
{
	struct pl_params *p = PL_NEW(a, struct pl_params);
	pl_params_default(p);
	p->tensor_parallel = tp;
	p->pipeline_parallel = pp;
	p->data_parallel = dp;
	p->expert_parallel = dp > 1;
	return p;
}

static const struct pl_speed *speed(struct pl_arena *a, const struct pl_engine *e, const char *model, const char *quant, const char *gpu,
                                    uint32_t tp, uint32_t dp)
{
	return speed_of(a, e, model, quant, gpu, tp * dp, ranks(a, tp, 1, dp));
}

static struct pl_served serve(struct pl_arena *a, const struct pl_speed *s, const struct pl_serve_policy *p, double n, double isl, double osl)
{
	struct pl_serve_load load = {.prompt_tokens = isl, .output_tokens = osl, .shortest_frac = 0.8, .concurrency = n, .rounds = 5};
	struct pl_served out;
	struct pl_err err = {0};
	if (pl_serve_closed_loop(a, s, p, &load, &out, &err))
		fail_msg("%s", err.msg);
	return out;
}

static void each(void (*check)(struct pl_arena *, const struct pl_speed *, const struct pl_serve_policy *))
{
	static const struct {
		const char *model, *quant, *gpu;
		uint32_t tp, dp;
	} cases[] = {{"meta-llama/Meta-Llama-3.1-70B", "fp8", "h200-sxm", 4, 1}, {"Qwen/Qwen3-32B", "bf16", "h100-sxm", 2, 1},
	             {"openai/gpt-oss-120b", NULL, "b200", 1, 1},                {"deepseek-ai/DeepSeek-V3", NULL, "h200-sxm", 8, 1},
	             {"deepseek-ai/DeepSeek-V3", NULL, "b200", 1, 8},            {"Qwen/Qwen3.5-397B-A17B", "bf16", "b300", 8, 1},
	             {"Qwen/Qwen3-32B", "bf16", "rtx4090", 4, 1},                {"Qwen/Qwen3-8B", "bf16", "v100-sxm2-32gb", 1, 1}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		for (int e = 0; e < N_ENGINES; e++) {
			struct pl_arena *a = pl_arena_new(0);
			struct pl_serve_policy p;
			const struct pl_speed *s = speed(a, &engines[e], cases[i].model, cases[i].quant, cases[i].gpu, cases[i].tp, cases[i].dp);
			pl_serve_policy_of(s, &p);
			check(a, s, &p);
			pl_arena_free(a);
		}
}

/* X ≤ N / (mean time of a request), and never more running than clients. */
static void check_little(struct pl_arena *a, const struct pl_speed *s, const struct pl_serve_policy *p)
{
	for (double n = 8; n <= 64; n *= 2) {
		struct pl_served r = serve(a, s, p, n, 1024, 256);
		double in_system = r.output_tok_s.median * (r.ttft_s.median + r.tpot_s.median * (0.9 * 256 - 1)) / (0.9 * 256);
		assert_true(r.running <= n * (1 + 1e-9));
		assert_true(in_system <= n * 1.06); /* the burst and the tail leave clients idle; the product of means is near the mean */
		assert_true(r.ttft_s.low <= r.ttft_s.median && r.ttft_s.median <= r.ttft_s.high);
		assert_true(r.tpot_s.low <= r.tpot_s.median && r.tpot_s.median <= r.tpot_s.high);
		assert_true(r.output_tok_s.low <= r.output_tok_s.median && r.output_tok_s.median <= r.output_tok_s.high);
		assert_true(r.ttft_p50_s <= r.ttft_p99_s);
	}
}

static void littles_law_holds(void **state)
{
	(void)state;
	each(check_little);
}

/* One client: a prompt, then steps of one sequence. */
static void check_alone(struct pl_arena *a, const struct pl_speed *s, const struct pl_serve_policy *p)
{
	struct pl_serve_load load = {.prompt_tokens = 512, .output_tokens = 101, .shortest_frac = 1, .concurrency = 1, .rounds = 3};
	struct pl_served r;
	struct pl_err err = {0};
	double step = pl_step_s(s, &(struct pl_batch){.decode_seqs = 1, .decode_depth_tokens = 512 + 1 + 50});
	assert_int_equal(pl_serve_closed_loop(a, s, p, &load, &r, &err), 0);
	assert_true(fabs(r.tpot_s.median / step - 1) < 0.01);
	double prompt = pl_step_s(s, &(struct pl_batch){.prefill_tokens = 512, .prefill_seqs = 1});
	assert_true(r.ttft_s.median >= prompt);
	assert_true(fabs(r.e2e_s - r.ttft_s.median - 100 * r.tpot_s.median) < 0.1 * r.e2e_s);
}

static void one_client_waits_for_nobody(void **state)
{
	(void)state;
	each(check_alone);
}

/* More clients: each is slower, all together are faster. */
static void check_growth(struct pl_arena *a, const struct pl_speed *s, const struct pl_serve_policy *p)
{
	struct pl_served last = serve(a, s, p, 8, 1024, 512);
	for (double n = 16; n <= 128; n *= 2) {
		struct pl_served r = serve(a, s, p, n, 1024, 512);
		assert_true(r.tpot_s.median >= last.tpot_s.median * 0.995);
		/* where prompts fill all the time the rate is flat, and the start and end of five rounds move it by a few percent */
		if (!(r.output_tok_s.median >= last.output_tok_s.median * 0.95))
			fail_msg("%g clients: %g tok/s after %g (tpot %g, ttft %g, running %g)", n, r.output_tok_s.median, last.output_tok_s.median, r.tpot_s.median, r.ttft_s.median, r.running);
		last = r;
	}
}

static void more_clients_share(void **state)
{
	(void)state;
	each(check_growth);
}

/* The closed form and the loop speak of the same machine. */
static void check_steady(struct pl_arena *a, const struct pl_speed *s, const struct pl_serve_policy *p)
{
	struct pl_serve_load load = {.prompt_tokens = 1024, .output_tokens = 512, .shortest_frac = 0.8, .concurrency = 32, .rounds = 10};
	struct pl_served steady, loop;
	struct pl_err err = {0};
	pl_serve_steady(s, p, &load, &steady);
	assert_int_equal(pl_serve_closed_loop(a, s, p, &load, &loop, &err), 0);
	assert_true(fabs(log(steady.tpot_s.median / loop.tpot_s.median)) < 0.2);
	assert_true(fabs(log(steady.output_tok_s.median / loop.output_tok_s.median)) < 0.25);
}

static void closed_form_is_near_the_loop(void **state)
{
	(void)state;
	each(check_steady);
}

static void more_cards_are_not_slower(void **state)
{
	(void)state;
	for (int e = 0; e < N_ENGINES; e++) {
		double last = INFINITY;
		for (uint32_t tp = 1; tp <= 8; tp *= 2) {
			struct pl_arena *a = pl_arena_new(0);
			struct pl_serve_policy p;
			const struct pl_speed *s = speed(a, &engines[e], "meta-llama/Meta-Llama-3.1-70B", "fp8", "h200-sxm", tp, 1);
			pl_serve_policy_of(s, &p);
			double tpot = serve(a, s, &p, 32, 1024, 1024).tpot_s.median;
			assert_true(tpot < last);
			last = tpot;
			pl_arena_free(a);
		}
	}
}

/* A cache for 8 sequences: the others wait, and those that run are no slower than 8 alone. */
static void a_full_cache_makes_clients_wait(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_speed *s = speed(a, &engines[0], "meta-llama/Meta-Llama-3.1-70B", "fp8", "h200-sxm", 2, 1);
	struct pl_serve_policy p;
	pl_serve_policy_of(s, &p);
	struct pl_served free_room = serve(a, s, &p, 32, 1024, 1024);
	p.cache_tokens = 8 * 2048;
	p.reserves = true;
	struct pl_served tight = serve(a, s, &p, 32, 1024, 1024);
	assert_false(free_room.queues);
	assert_true(tight.queues);
	assert_true(tight.running <= 9.5); /* lengths are 0.8 to 1 of nominal: at most 16384 / 1638 run */
	assert_true(tight.tpot_s.median < free_room.tpot_s.median);
	assert_true(tight.ttft_s.median > 10 * free_room.ttft_s.median);
	struct pl_served again = serve(a, s, &p, 32, 1024, 1024);
	assert_memory_equal(&again, &tight, offsetof(struct pl_served, queues)); /* what follows it is padding */
	assert_int_equal(again.queues, tight.queues);
	pl_arena_free(a);
}

/* Room for the prompts of 16 is not room for their answers: who came last is thrown out and computed again, nobody is lost. */
static void a_cache_that_runs_over_throws_the_youngest_out(void **state)
{
	(void)state;
	for (int e = 0; e < 2; e++) {
		struct pl_arena *a = pl_arena_new(0);
		const struct pl_speed *s = speed(a, &engines[e], "meta-llama/Meta-Llama-3.1-70B", "fp8", "h200-sxm", 2, 1);
		struct pl_serve_policy p;
		pl_serve_policy_of(s, &p);
		assert_false(p.reserves);
		p.cache_tokens = 8 * 2048;
		struct pl_served grows = serve(a, s, &p, 32, 1024, 1024);
		p.reserves = true;
		struct pl_served waits = serve(a, s, &p, 32, 1024, 1024);
		assert_true(grows.queues);
		assert_true(grows.running > waits.running);
		assert_true(grows.running <= 8 * 2048 / (0.8 * 1024)); /* each holds a prompt at least */
		assert_true(grows.ttft_s.median < waits.ttft_s.median);
		assert_true(grows.output_tok_s.median > 0.5 * waits.output_tok_s.median);
		pl_arena_free(a);
	}
}

/* What a scheduler does before it takes a prompt up is waited for: steps composed ahead, looks that are skipped, company. */
static void first_tokens_wait_for_the_scheduler(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_speed *s = speed(a, &engines[1], "meta-llama/Meta-Llama-3.1-70B", "fp8", "h200-sxm", 8, 1);
	struct pl_serve_policy plain, p;
	pl_serve_policy_of(s, &plain);
	plain.ahead = false;
	plain.cache_tokens = 0;
	struct pl_serve_load load = {.prompt_tokens = 256, .output_tokens = 1024, .shortest_frac = 0.8, .concurrency = 8, .rounds = 50};
	struct pl_served base, r;
	struct pl_err err = {0};
	assert_int_equal(pl_serve_closed_loop(a, s, &plain, &load, &base, &err), 0);
	double step = base.tpot_s.median, later = 1 - 1 / load.rounds; /* the burst finds the server idle */
	p = plain;
	p.ahead = true;
	assert_int_equal(pl_serve_closed_loop(a, s, &p, &load, &r, &err), 0);
	assert_true(fabs((r.ttft_s.median - base.ttft_s.median) / (step * later) - 1) < 0.35);
	p = plain;
	p.poll_steps = 41; /* 20 more on average */
	assert_int_equal(pl_serve_closed_loop(a, s, &p, &load, &r, &err), 0);
	assert_true(fabs((r.ttft_s.median - base.ttft_s.median) / (20 * step * later) - 1) < 0.35);
	p = plain;
	p.wait_steps = 30;
	p.wait_tokens = 4096;
	assert_int_equal(pl_serve_closed_loop(a, s, &p, &load, &r, &err), 0);
	assert_true(r.ttft_s.median - base.ttft_s.median > 15 * step * later);
	assert_true(r.ttft_s.median - base.ttft_s.median < 31 * step);
	p.wait_tokens = 1; /* enough at once */
	assert_int_equal(pl_serve_closed_loop(a, s, &p, &load, &r, &err), 0);
	assert_true(fabs(r.ttft_s.median - base.ttft_s.median) <= 0);
	pl_arena_free(a);
}

static double launches_s(const struct pl_speed *s, const struct pl_batch *b)
{
	struct pl_step_cost c;
	pl_step(s, b, &c);
	return c.cause_s[PL_CAUSE_LAUNCH];
}

/* Without a CUDA graph the host launches what the GPU computes: a short prompt waits for the host, a long one hides it. */
static void hosts_hold_up_short_prompts(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_speed *s = speed(a, &engines[0], "meta-llama/Meta-Llama-3.1-70B", "fp8", "h200-sxm", 8, 1);
	struct pl_batch decode = {.decode_seqs = 1, .decode_depth_tokens = 512}, prompt = {.prefill_tokens = 1, .prefill_seqs = 1};
	double graphs = launches_s(s, &decode), alone = launches_s(s, &prompt), last = 0;
	assert_true(alone > 2 * graphs);
	for (double n = 1; n <= 32768; n *= 4) {
		prompt.prefill_tokens = n;
		double now = pl_step_s(s, &prompt);
		assert_true(now > last && launches_s(s, &prompt) <= alone * 1.001);
		last = now;
	}
	assert_true(launches_s(s, &prompt) < 1.1 * graphs);
	pl_arena_free(a);
}

/* Where the sum over ranks ends with the norm, two ranks launch less than one. */
static void sums_take_the_norm_along(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	struct pl_batch b = {.decode_seqs = 4, .decode_depth_tokens = 512};
	const char *model = "meta-llama/Meta-Llama-3.1-70B";
	double trt[2], vllm[2];
	for (uint32_t i = 0; i < 2; i++) {
		trt[i] = launches_s(speed(a, &engines[2], model, "fp8", "h200-sxm", i + 1, 1), &b);
		vllm[i] = launches_s(speed(a, &engines[0], model, "fp8", "h200-sxm", i + 1, 1), &b);
	}
	assert_true(trt[1] < 0.8 * trt[0]);
	assert_true(fabs(vllm[1] / vllm[0] - 1) < 1e-9);
	assert_true(launches_s(speed(a, &engines[0], model, "fp8", "b200", 2, 1), &b) < launches_s(speed(a, &engines[0], model, "fp8", "b200", 1, 1), &b));
	pl_arena_free(a);
}

/* Flags by engine, model, card, ranks and load; nothing where no script is known. */
static void start_scripts_are_found(void **state)
{
	(void)state;
	struct pl_served_ask ask = {.model = "meta-llama/Llama-3.1-70B", .precision = "fp8", .gpu = "h200-sxm", .tp = 4,
	                            .load = {.prompt_tokens = 1024, .output_tokens = 1024, .concurrency = 64}};
	struct pl_serve_policy p = {.step_tokens = 16384};
	pl_recipe_policy(pl_inferencex_recipe("tensorrt-llm", &ask), &p);
	assert_true(p.wait_steps > 0 && p.wait_tokens > 0.5 * p.step_tokens && p.wait_tokens < p.step_tokens);
	ask.tp = 8;
	pl_recipe_policy(pl_inferencex_recipe("tensorrt-llm", &ask), &p);
	assert_true(fabs(p.wait_steps) <= 0);
	assert_null(pl_inferencex_recipe("sglang", &ask));
	ask.model = "deepseek-ai/DeepSeek-V3";
	ask.gpu = "b300";
	ask.load.concurrency = 8;
	pl_recipe_policy(pl_inferencex_recipe("sglang", &ask), &p);
	double few = p.poll_steps;
	ask.load.concurrency = 16;
	pl_recipe_policy(pl_inferencex_recipe("sglang", &ask), &p);
	assert_true(few > 1 && p.poll_steps > few);
}

/* Servers for prompts take their steps away from those that answer; too few of them hold everything up. */
static void split_servers_balance(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_speed *s = speed(a, &engines[2], "deepseek-ai/DeepSeek-V3", NULL, "h200-sxm", 8, 1);
	struct pl_serve_load load = {.prompt_tokens = 8192, .output_tokens = 512, .shortest_frac = 0.8, .concurrency = 64, .rounds = 10};
	struct pl_serve_split few = {s, s, 1, 1, 1}, more = {s, s, 4, 1, 1};
	struct pl_served one, four;
	pl_serve_disaggregated(&few, &load, &one);
	pl_serve_disaggregated(&more, &load, &four);
	assert_true(four.ttft_s.median < one.ttft_s.median);
	assert_true(four.output_tok_s.median > one.output_tok_s.median);
	assert_true(one.output_tok_s.median * (one.ttft_s.median + one.tpot_s.median * (0.9 * 512 - 1)) / (0.9 * 512) <= 64 * 1.1);
	double alone = pl_step_s(s, &(struct pl_batch){.decode_seqs = 64, .decode_depth_tokens = 0.9 * (8192 + 256)});
	assert_true(four.tpot_s.median <= alone * 1.001);
	pl_arena_free(a);
}

static void absurd_loads_are_refused(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_speed *s = speed(a, &engines[0], "Qwen/Qwen3-8B", "bf16", "l40s", 1, 1);
	struct pl_serve_policy p;
	struct pl_served out;
	pl_serve_policy_of(s, &p);
	const struct pl_serve_load bad[] = {{.prompt_tokens = 0, .output_tokens = 10, .concurrency = 1},
	                                    {.prompt_tokens = 10, .output_tokens = NAN, .concurrency = 1},
	                                    {.prompt_tokens = 10, .output_tokens = 10, .concurrency = 1e12}};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct pl_err err = {0};
		assert_int_equal(pl_serve_closed_loop(a, s, &p, &bad[i], &out, &err), -PL_ERR_RANGE);
	}
	pl_arena_free(a);
}

/* Stages work on a batch each: n of them serve n times as many clients at the speed of one. Alone, a client gains nothing. */
static void pipelines(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	for (int e = 0; e < N_ENGINES; e++) {
		const struct pl_speed *one = speed_of(a, &engines[e], "meta-llama/Meta-Llama-3.1-70B", "fp8", "h200-sxm", 1, ranks(a, 1, 1, 1));
		const struct pl_speed *four = speed_of(a, &engines[e], "meta-llama/Meta-Llama-3.1-70B", "fp8", "h200-sxm", 4, ranks(a, 1, 4, 1));
		struct pl_serve_policy p, q;
		pl_serve_policy_of(one, &p);
		pl_serve_policy_of(four, &q);
		p.cache_tokens = q.cache_tokens = 0;
		p.max_seqs = q.max_seqs = 1024;
		struct pl_served x = serve(a, one, &p, 32, 1024, 256), y = serve(a, four, &q, 128, 1024, 256), z = serve(a, four, &q, 1, 1024, 256);
		struct pl_served w = serve(a, one, &p, 1, 1024, 256);
		assert_true(fabs(y.output_tok_s.median / (4 * x.output_tok_s.median) - 1) < 0.02);
		assert_true(fabs(y.tpot_s.median / x.tpot_s.median - 1) < 0.02);
		assert_true(fabs(z.output_tok_s.median / w.output_tok_s.median - 1) < 0.02);
	}
	pl_arena_free(a);
}

/* One client keeps one replica busy, not all. */
static void idle_replicas(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_speed *one = speed(a, &engines[0], "Qwen/Qwen3-32B", "bf16", "h100-sxm", 1, 1);
	const struct pl_speed *four = speed_of(a, &engines[0], "Qwen/Qwen3-32B", "bf16", "h100-sxm", 4, ranks(a, 1, 1, 4));
	struct pl_serve_policy p;
	pl_serve_policy_of(one, &p);
	double alone = serve(a, one, &p, 1, 1024, 256).output_tok_s.median;
	assert_true(fabs(serve(a, four, &p, 1, 1024, 256).output_tok_s.median / alone - 1) < 1e-9);
	assert_true(fabs(serve(a, four, &p, 4, 1024, 256).output_tok_s.median / alone - 4) < 1e-9);
	pl_arena_free(a);
}

/* SGLang and TensorRT-LLM count groups of data-parallel attention within the tensor parallel ranks, vLLM beside them: the same
 * cards do the same work. */
static void attention_groups(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	struct pl_params *p = ranks(a, 8, 1, 8);
	p->dp_attention = true;
	const struct pl_speed *within = speed_of(a, &engines[2], "deepseek-ai/DeepSeek-V3", NULL, "h200-sxm", 8, p);
	const struct pl_speed *beside = speed_of(a, &engines[2], "deepseek-ai/DeepSeek-V3", NULL, "h200-sxm", 8, ranks(a, 1, 1, 8));
	struct pl_batch b = {.decode_seqs = 64, .decode_depth_tokens = 2048};
	assert_true(fabs(pl_step_s(within, &b) / pl_step_s(beside, &b) - 1) < 1e-12);
	pl_arena_free(a);
}

/* All requests at once, more than may run: they wait in line, none is lost, and the mean wait is about half of the run. */
static void all_at_once(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_speed *s = speed(a, &engines[0], "Qwen/Qwen3-8B", "bf16", "h100-sxm", 1, 1);
	struct pl_serve_policy p;
	struct pl_served r;
	struct pl_err err = {0};
	pl_serve_policy_of(s, &p);
	p.max_seqs = 16;
	struct pl_serve_load load = {.prompt_tokens = 512, .output_tokens = 128, .shortest_frac = 1, .concurrency = 1600, .requests = 1600};
	assert_int_equal(pl_serve_closed_loop(a, s, &p, &load, &r, &err), 0);
	double run_s = 1600 * 128 / r.output_tok_s.median;
	assert_true(r.queues && r.ttft_s.median > 0.4 * run_s && r.ttft_s.median < 0.55 * run_s);
	assert_true(r.running <= 16);
	pl_arena_free(a);
}

/* Tensor parallel ranks on two hosts: slower than on one, faster over a faster network, and each card sends its part of a sum. */
static void ranks_over_hosts(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_model_row *row;
	const struct pl_model *m = NULL;
	struct pl_err err = {0};
	static const char *const lines[] = {"8x h100-sxm", "2x hgx-h100-4", "2x hgx-h100-4, net 4x ib-xdr", "2x hgx-h100-4, net 10gbe"};
	double s[4];
	assert_int_equal(pl_model_row_find("meta-llama/Meta-Llama-3.1-70B", &row, &err), 0);
	assert_int_equal(pl_model_from_config(a, row->id, row->config_json, row->config_len, "fp8", &m, &err), 0);
	for (size_t i = 0; i < 4; i++) {
		const struct pl_machine *hw = NULL;
		const struct pl_speed *speed = NULL;
		struct pl_layout *l = PL_NEW(a, struct pl_layout);
		if (pl_machine_parse(a, lines[i], &hw, &err))
			fail_msg("%s", err.msg);
		struct pl_speed_setup setup = {.model = m, .machine = hw, .engine = &engines[0], .params = ranks(a, 8, 1, 1), .layout = l};
		assert_int_equal(pl_speed_compile(a, &setup, &speed, &err), 0);
		struct pl_batch b = {.prefill_tokens = 4096};
		s[i] = pl_step_s(speed, &b);
	}
	assert_true(s[0] < s[1] && s[2] < s[1] && s[1] < s[3]);
	/* 160 sums of 4096 × 8192 × 2 bytes over two hosts: each card sends a quarter of each, 2 (h − 1)/h = 1 times, and the port of
	 * a 10 GbE host is shared by four: at least 160 × 16.8 MB / 0.29 GB/s */
	assert_true(s[3] - s[0] > 160 * 4096.0 * 8192 * 2 / 4 / (1.175e9 / 4));
	pl_arena_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(littles_law_holds),          cmocka_unit_test(one_client_waits_for_nobody),
	    cmocka_unit_test(more_clients_share),         cmocka_unit_test(closed_form_is_near_the_loop),
	    cmocka_unit_test(more_cards_are_not_slower),  cmocka_unit_test(a_full_cache_makes_clients_wait),
	    cmocka_unit_test(a_cache_that_runs_over_throws_the_youngest_out),
	    cmocka_unit_test(first_tokens_wait_for_the_scheduler),
	    cmocka_unit_test(hosts_hold_up_short_prompts), cmocka_unit_test(sums_take_the_norm_along),
	    cmocka_unit_test(start_scripts_are_found),
	    cmocka_unit_test(split_servers_balance),      cmocka_unit_test(absurd_loads_are_refused),
	    cmocka_unit_test(pipelines),                  cmocka_unit_test(idle_replicas),
	    cmocka_unit_test(attention_groups),           cmocka_unit_test(all_at_once),
	    cmocka_unit_test(ranks_over_hosts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
