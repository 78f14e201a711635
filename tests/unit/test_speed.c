/* What must hold for every speed, whatever the constants. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>
#include <time.h>

#include <cmocka.h>

#include <plimsoll/plan.h>
#include <plimsoll/speed.h>

#include "../named.h"

#include "speed/constants.h"
#include "speed/speed.h"

static const char *const models[] = {"Qwen/Qwen3-32B",       "llama3.1-8b",        "deepseek-ai/DeepSeek-R1",
                                     "openai/gpt-oss-20b",   "google/gemma-2-9b-it", "Qwen/Qwen3-30B-A3B",
                                     "Qwen/Qwen3-Next-80B-A3B-Instruct"};
static const char *const machines[] = {"2x rtx3090, ram 64GiB", "rtx4090, ram 64GiB", "8x h200-sxm, ram 512GiB",
                                       "cpu, ram 512GiB", "strix-halo"};

static const struct pl_plan *plan_of(struct pl_arena *a, const char *model, const char *quant, const char *line)
{
	struct pl_plan_request req = {.no_suggestions = true, .engine = engine_named("llama.cpp"), .model = model_named(a, model, quant),
	                              .machine = machine_named(a, line)};
	const struct pl_plan *p = NULL;
	struct pl_err err = {0};
	pl_params_default(&req.params);
	req.params.n_ctx_tokens = 4096;
	if (pl_plan_make(a, &req, &p, &err))
		fail_msg("%s on %s: %s", model, line, err.msg);
	return p;
}

static const struct pl_plan *plan(struct pl_arena *a, const char *model, const char *line)
{
	return plan_of(a, model, "q4_k_m", line);
}

static const struct pl_speed *compile(struct pl_arena *a, const struct pl_plan *p, const struct pl_machine *hw)
{
	struct pl_speed_setup setup = {.model = p->model, .machine = hw ? hw : p->machine, .engine = p->engine,
	                               .params = &p->params, .layout = &p->layout};
	const struct pl_speed *s = NULL;
	struct pl_err err = {0};
	if (pl_speed_compile(a, &setup, &s, &err))
		fail_msg("%s: %s", p->model->name, err.msg);
	return s;
}

static void each(void (*check)(struct pl_arena *, const struct pl_plan *))
{
	for (size_t i = 0; i < sizeof models / sizeof *models; i++)
		for (size_t j = 0; j < sizeof machines / sizeof *machines; j++) {
			struct pl_arena *a = pl_arena_new(0);
			check(a, plan(a, models[i], machines[j]));
			pl_arena_free(a);
		}
}

static void check_causes(struct pl_arena *a, const struct pl_plan *p)
{
	struct pl_batch b = {.prefill_tokens = 300, .prefill_past_tokens = 100, .decode_seqs = 4, .decode_depth_tokens = 1000};
	struct pl_step_cost c;
	double sum = 0;
	pl_step(compile(a, p, NULL), &b, &c);
	for (int i = 0; i < PL_CAUSE_COUNT; i++) {
		assert_true(c.cause_s[i] >= 0);
		sum += c.cause_s[i];
	}
	assert_true(c.total_s > 0);
	assert_true(fabs(sum / c.total_s - 1) < 1e-9);
	assert_true(c.stage_s <= c.total_s * (1 + 1e-9));
}

static void causes_sum_to_the_total(void **state)
{
	(void)state;
	each(check_causes);
}

/* Every step takes longer with more of anything. */
static void check_growth(struct pl_arena *a, const struct pl_plan *p)
{
	const struct pl_speed *s = compile(a, p, NULL);
	double last = 0;
	for (double depth = 0; depth <= 65536; depth = depth * 2 + 512) {
		double t = pl_step_s(s, &(struct pl_batch){.decode_seqs = 1, .decode_depth_tokens = depth});
		assert_true(t >= last);
		last = t;
	}
	last = 0;
	for (double n = 1; n <= 16; n++) {
		double t = pl_step_s(s, &(struct pl_batch){.decode_seqs = n, .decode_depth_tokens = 500});
		assert_true(t > last);
		last = t;
	}
	last = 0;
	for (double n = 64; n <= 8192; n *= 2) {
		double t = pl_step_s(s, &(struct pl_batch){.prefill_tokens = n});
		assert_true(t > last);
		last = t;
	}
}

static void more_work_takes_longer(void **state)
{
	(void)state;
	each(check_growth);
}

static void check_bandwidth(struct pl_arena *a, const struct pl_plan *p)
{
	if (!p->machine->n_devices)
		return;
	struct pl_machine hw = *p->machine;
	struct pl_gpu slow = *hw.devices[0].gpu, fast;
	fast = slow;
	fast.mem_bytes_per_s *= 2;
	struct pl_device *with_slow = PL_NEW_N(a, struct pl_device, hw.n_devices), *with_fast = PL_NEW_N(a, struct pl_device, hw.n_devices);
	for (uint32_t i = 0; i < hw.n_devices; i++) {
		with_slow[i] = with_fast[i] = hw.devices[i];
		with_slow[i].gpu = &slow;
		with_fast[i].gpu = &fast;
	}
	struct pl_batch b = {.decode_seqs = 1, .decode_depth_tokens = 2000};
	hw.devices = with_slow;
	double t_slow = pl_step_s(compile(a, p, &hw), &b);
	hw.devices = with_fast;
	assert_true(pl_step_s(compile(a, p, &hw), &b) < t_slow);
}

static void more_bandwidth_is_never_slower(void **state)
{
	(void)state;
	each(check_bandwidth);
}

static void one_rank_is_none(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	struct pl_plan p = *plan(a, "llama3.1-8b", "rtx4090, ram 64GiB");
	struct pl_batch b = {.prefill_tokens = 512, .decode_seqs = 2, .decode_depth_tokens = 100};
	double none = pl_step_s(compile(a, &p, NULL), &b);
	p.params.tensor_parallel = p.params.pipeline_parallel = p.params.data_parallel = 1;
	assert_true(pl_step_s(compile(a, &p, NULL), &b) == none);
	pl_arena_free(a);
}

static void an_unknown_card_says_what_it_needs(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_speed *s = compile(a, plan(a, "llama3.1-8b", "gpu-24GiB, ram 64GiB"), NULL);
	assert_non_null(pl_speed_unknown(s));
	assert_non_null(strstr(pl_speed_unknown(s), "bandwidth"));
	assert_true(isnan(pl_step_s(s, &(struct pl_batch){.decode_seqs = 1})));
	pl_arena_free(a);
}

/* A step must stay cheap: simulators call it millions of times. 20 µs leave room for sanitizers and busy machines. */
static void a_step_is_cheap(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_speed *s = compile(a, plan(a, "Qwen/Qwen3-30B-A3B", "rtx4090, ram 64GiB"), NULL);
	enum { ROUNDS = 20000 };
	double sum = 0;
	clock_t start = clock();
	for (int i = 0; i < ROUNDS; i++)
		sum += pl_step_s(s, &(struct pl_batch){.decode_seqs = 1 + i % 8, .decode_depth_tokens = i});
	double us = (double)(clock() - start) / CLOCKS_PER_SEC / ROUNDS * 1e6;
	print_message("pl_step: %.2f µs\n", us);
	assert_true(sum > 0 && us < 20);
	pl_arena_free(a);
}

/* The rows of data/calibration.csv, as the generator of the table and as the reader of a user's file take them. */
static void every_constant_has_a_name(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_constants *c = pl_constants_shipped();
	assert_true(c->n_effects > 100);
	for (uint32_t i = 0; i < c->n_effects; i++) {
		uint32_t key = c->effects[i].key, back = 0;
		const char *family = pl_family_name((enum pl_family)(key >> 26)), *scope = pl_scope_name((enum pl_scope)(key >> 22 & 15));
		assert_true(!i || c->effects[i - 1].key < key);
		assert_true(pl_effect_parse(family, scope, pl_effect_text(a, key), &back));
		assert_int_equal(back, key);
	}
	pl_arena_free(a);
}

static struct pl_speed_answer answer(struct pl_arena *a, const struct pl_plan *p, double cap_w, struct pl_speed_question q)
{
	struct pl_speed_setup setup = {.model = p->model, .machine = p->machine, .engine = p->engine, .params = &p->params,
	                               .layout = &p->layout, .power_limit_w = cap_w};
	const struct pl_speed *s = NULL;
	struct pl_speed_answer ret;
	struct pl_err err = {0};
	assert_int_equal(pl_speed_compile(a, &setup, &s, &err), 0);
	assert_int_equal(pl_speed_answer(a, s, &q, &ret, &err), 0);
	return ret;
}

static void a_power_cap_slows_and_saves(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_plan *p = plan(a, "llama3.1-8b", "rtx3090, ram 64GiB");
	struct pl_speed_answer last = answer(a, p, 0, (struct pl_speed_question){0});
	for (double w = 350; w >= 150; w -= 50) {
		struct pl_speed_answer now = answer(a, p, w, (struct pl_speed_question){0});
		assert_true(now.prefill_tok_s.median <= last.prefill_tok_s.median);
		assert_true(now.decode_tok_s.median <= last.decode_tok_s.median);
		assert_true(now.prefill_w.median <= w + 1e-9 || now.prefill_w.median <= last.prefill_w.median);
		last = now;
	}
	pl_arena_free(a);
}

static double sum_w(const struct pl_power_parts *p)
{
	return p->waiting_w + p->memory_w + p->arithmetic_w;
}

/* Watts go somewhere: the parts make up the whole; a step draws no less than waiting cards and no more than the boards. */
static void watts_follow_what_cards_do(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_plan *p = plan(a, "llama3.1-8b", "rtx3090, ram 64GiB");
	struct pl_speed_answer s = answer(a, p, 0, (struct pl_speed_question){0});
	assert_true(fabs(sum_w(&s.decode_power) / s.decode_w.median - 1) < 1e-9);
	assert_true(fabs(sum_w(&s.prefill_power) / s.prefill_w.median - 1) < 1e-9);
	assert_true(s.idle_w.median < s.decode_w.median && s.decode_w.median < s.prefill_w.median && s.prefill_w.median <= 350);
	assert_true(s.decode_power.memory_w > s.decode_power.arithmetic_w && s.prefill_power.arithmetic_w > s.prefill_power.memory_w);
	assert_true(fabs(s.tokens_per_joule.median * s.decode_w.median / s.aggregate_tok_s.median - 1) < 1e-9);
	assert_true(fabs(s.prefill_tokens_per_joule.median * s.prefill_w.median / s.prefill_tok_s.median - 1) < 1e-9);
	/* a cap that the card has already counts unless another is asked for */
	p->machine->devices[0].power_limit_w = 250;
	assert_true(fabs(answer(a, p, 0, (struct pl_speed_question){0}).prefill_w.median / 250 - 1) < 1e-9);
	assert_true(answer(a, p, 350, (struct pl_speed_question){0}).prefill_w.median > 300);
	p->machine->devices[0].power_limit_w = 0;
	struct pl_speed_answer capped = answer(a, p, 250, (struct pl_speed_question){0});
	assert_true(fabs(sum_w(&capped.prefill_power) / 250 - 1) < 1e-9);
	assert_true(capped.prefill_tokens_per_joule.median > s.prefill_tokens_per_joule.median);
	assert_non_null(strstr(capped.power_text, "a cap of 250 W leaves"));
	pl_arena_free(a);
}

/* A card that waits for its turn in a layer split draws less than one that works: two cards draw less than twice as much. */
static void a_layer_split_waits_in_turn(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	struct pl_speed_answer one = answer(a, plan(a, "llama3.1-8b", "rtx3090, ram 64GiB"), 0, (struct pl_speed_question){0});
	struct pl_speed_answer two = answer(a, plan(a, "llama3.1-8b", "2x rtx3090, ram 64GiB"), 0, (struct pl_speed_question){0});
	assert_true(two.decode_w.median > one.decode_w.median && two.decode_w.median < 2 * one.decode_w.median);
	assert_true(two.decode_power.waiting_w > one.decode_power.waiting_w);
	pl_arena_free(a);
}

/* By hand: half of the dynamic power left is the knee, where clock is the cube root of a half; the memory follows it less. */
static void a_cap_takes_the_clock(void **state)
{
	(void)state;
	float shares[PL_POWER_POINTS];
	for (int i = 0; i < PL_POWER_POINTS; i++)
		shares[i] = 1;
	struct pl_place p = {.power_w = 300};
	for (int i = 0; i < PL_POWER_CAUSES; i++)
		p.shares[i] = shares;
	pl_power_cap(&p, 0);
	assert_true(fabs(p.cap_compute - 1) < 1e-9);
	pl_power_cap(&p, 300);
	assert_true(fabs(p.cap_compute - 1) < 1e-9);
	pl_power_cap(&p, 0.725 * 300); /* 45 % never goes away: half of the other 55 % is left */
	assert_true(fabs(p.cap_compute - pow(0.5, 0.5 / 3)) < 1e-9);
	assert_true(fabs(p.cap_memory - pow(0.5, 0.2 / 3)) < 1e-9);
	pl_power_cap(&p, 0.5875 * 300); /* a quarter: below the knee the clock halves with the power */
	assert_true(fabs(p.cap_compute - pow(0.5 * cbrt(0.5), 0.5)) < 1e-9);
}

static const struct pl_speed *sharded(struct pl_arena *a, const char *model, const char *line, enum pl_zero_offload offload, uint32_t n_seq)
{
	const struct pl_model_row *row;
	struct pl_plan_request req = {.no_suggestions = true};
	const struct pl_plan *p = NULL;
	struct pl_err err = {0};
	pl_params_default(&req.params);
	req.params.n_ctx_tokens = 128;
	req.params.n_seq = n_seq;
	req.params.zero_stage = 3;
	req.params.zero_offload = offload;
	if (pl_engine_find("transformers", &req.engine, &err) || pl_model_row_find(model, &row, &err) ||
	    pl_model_from_config(a, row->id, row->config_json, row->config_len, "bf16", &req.model, &err) ||
	    pl_machine_parse(a, line, &req.machine, &err) || pl_plan_make(a, &req, &p, &err))
		fail_msg("%s on %s: %s", model, line, err.msg);
	return compile(a, p, NULL);
}

/* BLOOM on 8 A100 of 80 GB, a step of all ranks: 283 ms × 8 at one sequence a rank, 34.88 ms × 64 at eight
 * (huggingface/transformers-bloom-inference, bloom-inference-scripts, ds-zero bf16). */
static void sharded_weights_take_the_time_of_the_link(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_speed *s = sharded(a, "bigscience/bloom", "8x a100-sxm-80, nvlink, ram 1TiB", PL_ZERO_GPU, 8);
	struct pl_step_cost c;
	pl_step(s, &(struct pl_batch){.decode_seqs = 1, .decode_depth_tokens = 50}, &c);
	assert_true(c.total_s > 2.264 * 0.8 && c.total_s < 2.264 * 1.25);
	assert_true(c.cause_s[PL_CAUSE_GATHER] > 0.5 * c.total_s);
	pl_step(s, &(struct pl_batch){.decode_seqs = 8, .decode_depth_tokens = 50}, &c);
	assert_true(c.total_s > 2.232 * 0.8 && c.total_s < 2.232 * 1.25);
	pl_arena_free(a);
}

/* One GPU, weights in RAM: all of them cross the slot each step; a large batch hides all but the first layer. By hand: total =
 * the longer of both + 1/32 of the transfer. */
static void streamed_weights_hide_behind_a_batch(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_speed *s = sharded(a, "llama3.1-8b", "rtx3090, ram 64GiB", PL_ZERO_CPU, 1);
	struct pl_step_cost small, large;
	double least = 16e9 / 31.5e9; /* PCIe 4.0 × 16 at its line rate */
	pl_step(s, &(struct pl_batch){.decode_seqs = 1}, &small);
	assert_true(small.total_s > least && small.total_s < 2 * least);
	pl_step(s, &(struct pl_batch){.prefill_tokens = 65536, .prefill_seqs = 64}, &large);
	double computing = large.total_s - large.cause_s[PL_CAUSE_HOST_LINK];
	assert_true(computing > small.total_s);
	double transfer = 32 * large.cause_s[PL_CAUSE_HOST_LINK];
	double alone = small.total_s - small.cause_s[PL_CAUSE_HOST_LINK];
	assert_true(fabs(small.total_s - (fmax(transfer, alone) + transfer / 32)) < 1e-9 * transfer);
	pl_step(sharded(a, "llama3.1-8b", "rtx3090, ram 64GiB", PL_ZERO_NVME, 1), &(struct pl_batch){.decode_seqs = 1}, &large);
	assert_true(large.total_s > small.total_s && large.cause_s[PL_CAUSE_DISK] > 0);
	pl_arena_free(a);
}

/* vLLM by hand (medians of data/measurements/startup.csv): 18 s of process, 0.77 s a layer compiled (0.24 from the cache), 0.165 a
 * layer profiled, 0.32 for each of 51 batch sizes; the rest is weights. Nothing compiled or captured when eager. */
static void a_start_is_the_sum_of_its_stages(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_plan *p = plan(a, "llama3.1-8b", "rtx4090, ram 64GiB, disk sata");
	struct pl_err err = {0};
	struct pl_params params = p->params;
	struct pl_speed s = {.weight_bytes = 11e9};
	struct pl_speed_setup setup = {.model = p->model, .machine = p->machine, .params = &params};
	struct pl_load_answer l;
	assert_int_equal(pl_engine_find("vllm", &setup.engine, &err), 0);
	setup.disk_bytes_per_s = p->machine->disk_bytes_per_s;
	pl_speed_load(&s, &setup, &l);
	double read = 11e9 / (0.55e9 * 0.4), init = 18 + 32 * (0.77 + 0.165) + 51 * 0.32;
	assert_true(fabs(l.read_s - read) < 1e-6 && fabs(l.init_s - init) < 1e-6 && fabs(l.cold_start_s - read - init) < 1e-6);
	assert_true(fabs(l.warm_start_s - (11e9 / 5.1e9 + init - 32 * (0.77 - 0.24))) < 1e-6);
	params.enforce_eager = true;
	pl_speed_load(&s, &setup, &l);
	assert_int_equal(l.n_graphs, 0);
	assert_true(fabs(l.init_s - 18 - 32 * 0.165) < 1e-6);
	double sum = 0;
	struct pl_speed_answer whole = answer(a, p, 0, (struct pl_speed_question){0});
	for (uint32_t i = 0; i < whole.load.n_stages; i++)
		sum += whole.load.stages[i].cold_s;
	const struct pl_load_stage *weights = &whole.load.stages[1], *last = &whole.load.stages[whole.load.n_stages - 1];
	assert_true(fabs(sum - whole.load.cold_start_s) < 1e-9 && weights->kind == PL_LOAD_WEIGHTS);
	assert_true(weights->device_bytes > (double)p->model->weight_bytes * 0.9 && weights->device_bytes < last->device_bytes);
	pl_arena_free(a);
}

/* A draft whose every token is refused costs time; one that is always accepted gains less than K + 1 times. */
static void speculation_pays_by_acceptance(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_plan *p = plan(a, "Qwen/Qwen3-32B", "rtx4090, ram 64GiB");
	double plain = answer(a, p, 0, (struct pl_speed_question){0}).decode_tok_s.median;
	double refused = answer(a, p, 0, (struct pl_speed_question){.draft_tokens = 3, .acceptance_length = 1}).decode_tok_s.median;
	double accepted = answer(a, p, 0, (struct pl_speed_question){.draft_tokens = 3, .acceptance_length = 4}).decode_tok_s.median;
	assert_true(refused < plain && accepted > plain && accepted < 4 * plain);
	pl_arena_free(a);
}

/* Weights beyond RAM come from the disk at each step. */
static void paging_takes_the_disks_time(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	struct pl_step_cost c;
	struct pl_batch b = {.decode_seqs = 1};
	pl_step(compile(a, plan(a, "Qwen/Qwen3-32B", "cpu, ram 12GiB"), NULL), &b, &c);
	assert_true(c.cause_s[PL_CAUSE_DISK] > 0.5);
	pl_step(compile(a, plan(a, "Qwen/Qwen3-32B", "cpu, ram 64GiB"), NULL), &b, &c);
	assert_true(c.cause_s[PL_CAUSE_DISK] == 0);
	pl_arena_free(a);
}

/* ---- what llama.cpp's kernels do --------------------------------------------------------------------------------------- */

static const struct pl_speed *compile_as(struct pl_arena *a, const struct pl_plan *p, enum pl_backend backend, double age_years)
{
	struct pl_speed_setup setup = {.model = p->model, .machine = p->machine, .engine = p->engine, .params = &p->params,
	                               .layout = &p->layout, .backend = backend, .age_years = age_years};
	const struct pl_speed *s = NULL;
	struct pl_err err = {0};
	assert_int_equal(pl_speed_compile(a, &setup, &s, &err), 0);
	return s;
}

/* TFLOP/s that its products of dense weights are costed by: the largest. */
static double peak_tflops(struct pl_arena *a, const char *quant, const char *line, enum pl_backend backend, double age_years)
{
	const struct pl_speed *s = compile_as(a, plan_of(a, "llama3.1-8b", quant, line), backend, age_years);
	double peak = 0;
	for (uint32_t i = 0; i < s->n_terms; i++)
		if (s->work[i].kind == PL_TERM_GEMM && s->work[i].peak_flops_per_s > peak)
			peak = s->work[i].peak_flops_per_s;
	return peak / 1e12;
}

/* By hand from data/gpus.csv: 8-bit integers where MMQ runs, half of them where 16-bit products are summed in 16 bits. */
static void units_are_those_of_the_engines_kernels(void **state)
{
	static const struct {
		const char *quant, *line;
		enum pl_backend backend;
		double age_years, tflops;
	} cases[] = {
	    {"q4_k_m", "rtx3090", PL_BACKEND_CUDA, 0, 284.7},     {"q4_k_m", "rtx3090", PL_BACKEND_CUDA, 2.5, 142.35},
	    {"f16", "rtx3090", PL_BACKEND_CUDA, 0, 142.35},       {"bf16", "rtx3090", PL_BACKEND_CUDA, 0, 71.2},
	    {"f16", "rtx-a6000", PL_BACKEND_CUDA, 0, 154.85},     {"bf16", "rtx-a6000", PL_BACKEND_CUDA, 0, 154.8},
	    {"q4_k_m", "v100-pcie-32gb", PL_BACKEND_CUDA, 0, 112}, {"q4_k_m", "p40", PL_BACKEND_CUDA, 2.5, 47},
	    {"bf16", "strix-halo", PL_BACKEND_VULKAN, 0, 14.85},  {"bf16", "r9700", PL_BACKEND_VULKAN, 0, 191.4},
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct pl_arena *a = pl_arena_new(0);
		double peak = peak_tflops(a, cases[i].quant, cases[i].line, cases[i].backend, cases[i].age_years);
		if (!(fabs(peak / cases[i].tflops - 1) < 1e-3))
			fail_msg("%s on %s, %g years old: %g TFLOP/s instead of %g", cases[i].quant, cases[i].line, cases[i].age_years, peak, cases[i].tflops);
		pl_arena_free(a);
	}
}

static bool loops_over_experts(struct pl_arena *a, const char *quant, const char *line, enum pl_backend backend, double age_years)
{
	const struct pl_speed *s = compile_as(a, plan_of(a, "Qwen/Qwen3-30B-A3B", quant, line), backend, age_years);
	bool found = false;
	for (uint32_t i = 0; i < s->n_terms; i++)
		found |= s->terms[i].kind == PL_TERM_EXPERTS && s->terms[i].expert_s > 0;
	return found;
}

static void experts_without_a_kernel_come_one_by_one(void **state)
{
	struct pl_arena *a = pl_arena_new(0);
	(void)state;
	assert_true(loops_over_experts(a, "bf16", "rtx-pro-6000", PL_BACKEND_CUDA, 0));
	assert_false(loops_over_experts(a, "q4_k_m", "rtx-pro-6000", PL_BACKEND_CUDA, 0));
	assert_true(loops_over_experts(a, "q4_k_m", "strix-halo", PL_BACKEND_ROCM, 1));
	assert_false(loops_over_experts(a, "q4_k_m", "strix-halo", PL_BACKEND_ROCM, 0));
	assert_false(loops_over_experts(a, "bf16", "strix-halo", PL_BACKEND_VULKAN, 0));
	pl_arena_free(a);
}

static void a_variant_starts_from_its_parent(void **state)
{
	struct pl_effect vulkan = {pl_effect_key(PL_F_READ_EFF, PL_SCOPE_STACK, PL_STACK_LLAMA_VULKAN, 0), 0.5F, 0, 1};
	struct pl_constants c = {.effects = &vulkan, .n_effects = 1};
	struct pl_context own = {.stack = PL_STACK_LLAMA_VULKAN}, child = {.stack = PL_STACK_LLAMA_AMDVLK}, other = {.stack = PL_STACK_LLAMA_CUDA};
	(void)state;
	double parent = pl_constant(&c, PL_F_READ_EFF, &own, PL_DTYPE_UNKNOWN);
	assert_true(pl_constant(&c, PL_F_READ_EFF, &child, PL_DTYPE_UNKNOWN) == parent);
	assert_true(parent > pl_constant(&c, PL_F_READ_EFF, &other, PL_DTYPE_UNKNOWN) * 1.6);
}

static void intervals_hold_their_medians(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	struct pl_speed_answer s = answer(a, plan(a, "llama3.1-8b", "rtx4090, ram 64GiB"), 0, (struct pl_speed_question){.concurrency = 4});
	const struct pl_estimate *all[] = {&s.ttft_s, &s.prefill_tok_s, &s.decode_tok_s, &s.aggregate_tok_s, &s.decode_w};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		assert_true(all[i]->low < all[i]->median && all[i]->median < all[i]->high);
	assert_true(s.aggregate_tok_s.median > s.decode_tok_s.median);
	assert_true(s.load.cold_start_s >= s.load.warm_start_s);
	assert_non_null(strstr(s.reason, "decode is bound by"));
	pl_arena_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(causes_sum_to_the_total),  cmocka_unit_test(more_work_takes_longer),
	    cmocka_unit_test(more_bandwidth_is_never_slower), cmocka_unit_test(one_rank_is_none),
	    cmocka_unit_test(an_unknown_card_says_what_it_needs), cmocka_unit_test(a_step_is_cheap),
	    cmocka_unit_test(every_constant_has_a_name), cmocka_unit_test(a_power_cap_slows_and_saves), cmocka_unit_test(watts_follow_what_cards_do),
	    cmocka_unit_test(a_layer_split_waits_in_turn), cmocka_unit_test(a_cap_takes_the_clock), cmocka_unit_test(sharded_weights_take_the_time_of_the_link),
	    cmocka_unit_test(streamed_weights_hide_behind_a_batch), cmocka_unit_test(a_start_is_the_sum_of_its_stages),
	    cmocka_unit_test(speculation_pays_by_acceptance), cmocka_unit_test(paging_takes_the_disks_time),
	    cmocka_unit_test(intervals_hold_their_medians),  cmocka_unit_test(units_are_those_of_the_engines_kernels),
	    cmocka_unit_test(experts_without_a_kernel_come_one_by_one), cmocka_unit_test(a_variant_starts_from_its_parent),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
