/* TensorRT-LLM against measured capacities, and against hand calculations of its rules. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "server_rig.h"

static void rig_init(struct rig *r, const char *model, const char *quant, const char *machine)
{
	rig_of(r, "trtllm", model, quant, machine);
}

/* The largest number of sequences that real servers held, with max_seq_len = prompt + answer + 1000, max_num_tokens = twice the
 * prompt and a cache of 16 bit: ai-dynamo/aiconfigurator tests/integration/test_trtllm_kv_cache_capacity.py (Apache-2.0), read
 * 2026-08-21. card: 0 H100 SXM, 1 GB300; model: 0 Qwen3-32B-FP8, 1 Llama-3.1-8B. */
static const struct measured {
	int card, model;
	uint32_t tp, prompt, answer;
	double frac;
	uint32_t sequences;
} rows[] = {
    {0, 0, 1, 2048, 2048, 0.8, 27}, {0, 0, 2, 2048, 2048, 0.8, 75}, {0, 0, 4, 2048, 2048, 0.8, 169}, {0, 0, 1, 2048, 4096, 0.8, 19},
    {0, 0, 2, 2048, 4096, 0.8, 53}, {0, 0, 4, 2048, 4096, 0.8, 121}, {0, 0, 1, 4096, 2048, 0.8, 19}, {0, 0, 2, 4096, 2048, 0.8, 53},
    {0, 0, 4, 4096, 2048, 0.8, 120}, {0, 0, 1, 4096, 4096, 0.8, 14}, {0, 0, 2, 4096, 4096, 0.8, 41}, {0, 0, 4, 4096, 4096, 0.8, 93},
    {1, 0, 1, 2048, 2048, 0.8, 153}, {1, 0, 1, 2048, 4096, 0.8, 109}, {1, 0, 1, 4096, 2048, 0.8, 108}, {1, 0, 1, 4096, 4096, 0.8, 84},
    {1, 0, 2, 2048, 2048, 0.8, 326}, {1, 0, 2, 2048, 4096, 0.8, 233}, {1, 0, 2, 4096, 2048, 0.8, 232}, {1, 0, 2, 4096, 4096, 0.8, 181},
    {1, 0, 4, 2048, 2048, 0.8, 673}, {1, 0, 4, 2048, 4096, 0.8, 480}, {1, 0, 4, 4096, 2048, 0.8, 479}, {1, 0, 4, 4096, 4096, 0.8, 373},
    {1, 0, 1, 2048, 2048, 0.9, 172}, {1, 0, 1, 2048, 4096, 0.9, 123}, {1, 0, 1, 4096, 2048, 0.9, 122}, {1, 0, 1, 4096, 4096, 0.9, 95},
    {1, 0, 2, 2048, 2048, 0.9, 367}, {1, 0, 2, 2048, 4096, 0.9, 262}, {1, 0, 2, 4096, 2048, 0.9, 261}, {1, 0, 2, 4096, 4096, 0.9, 203},
    {1, 0, 4, 2048, 2048, 0.9, 757}, {1, 0, 4, 2048, 4096, 0.9, 541}, {1, 0, 4, 4096, 2048, 0.9, 539}, {1, 0, 4, 4096, 4096, 0.9, 419},
    {0, 1, 1, 2048, 2048, 0.8, 78}, {0, 1, 2, 2048, 2048, 0.8, 173}, {0, 1, 4, 2048, 2048, 0.8, 363}, {0, 1, 1, 2048, 4096, 0.8, 56},
    {0, 1, 2, 2048, 4096, 0.8, 124}, {0, 1, 4, 2048, 4096, 0.8, 259}, {0, 1, 1, 4096, 2048, 0.8, 55}, {0, 1, 2, 4096, 2048, 0.8, 123},
    {0, 1, 4, 4096, 2048, 0.8, 258}, {0, 1, 1, 4096, 4096, 0.8, 43}, {0, 1, 2, 4096, 4096, 0.8, 96}, {0, 1, 4, 4096, 4096, 0.8, 201},
    {1, 1, 1, 2048, 2048, 0.8, 330}, {1, 1, 1, 2048, 4096, 0.8, 236}, {1, 1, 1, 4096, 2048, 0.8, 235}, {1, 1, 1, 4096, 4096, 0.8, 183},
    {1, 1, 2, 2048, 2048, 0.8, 677}, {1, 1, 2, 2048, 4096, 0.8, 484}, {1, 1, 2, 4096, 2048, 0.8, 483}, {1, 1, 2, 4096, 4096, 0.8, 376},
    {1, 1, 4, 2048, 2048, 0.8, 1371}, {1, 1, 4, 2048, 4096, 0.8, 979}, {1, 1, 4, 4096, 2048, 0.8, 978}, {1, 1, 4, 4096, 4096, 0.8, 761},
    {1, 1, 1, 2048, 2048, 0.9, 372}, {1, 1, 1, 2048, 4096, 0.9, 265}, {1, 1, 1, 4096, 2048, 0.9, 265}, {1, 1, 1, 4096, 4096, 0.9, 206},
    {1, 1, 2, 2048, 2048, 0.9, 762}, {1, 1, 2, 2048, 4096, 0.9, 544}, {1, 1, 2, 4096, 2048, 0.9, 544}, {1, 1, 2, 4096, 4096, 0.9, 423},
    {1, 1, 4, 2048, 2048, 0.9, 1542}, {1, 1, 4, 2048, 4096, 0.9, 1101}, {1, 1, 4, 4096, 2048, 0.9, 1100}, {1, 1, 4, 4096, 4096, 0.9, 856},
};
enum { N_ROWS = sizeof rows / sizeof *rows };

static int by_size(const void *x, const void *y)
{
	double a = *(const double *)x, b = *(const double *)y;
	return (a > b) - (a < b);
}

static void capacities_are_as_measured(void **state)
{
	(void)state;
	static const char *const cards[] = {"4x h100-sxm", "4x gb300, nvlink"}, *const models[] = {"Qwen/Qwen3-32B-FP8", "NousResearch/Meta-Llama-3.1-8B"};
	double error[N_ROWS];
	for (int i = 0; i < N_ROWS; i++) {
		const struct measured *w = &rows[i];
		struct rig r;
		rig_init(&r, models[w->model], NULL, cards[w->card]);
		r.p.n_ctx_tokens = w->prompt + w->answer + 1000;
		r.p.max_num_batched_tokens = 2 * w->prompt;
		r.p.gpu_memory_utilization_frac = w->frac;
		r.p.tensor_parallel = w->tp;
		lay_out(&r);
		double held = (double)(r.l.kv_cache_tokens.value / r.p.n_ctx_tokens);
		error[i] = fabs(held - w->sequences) / w->sequences;
		if (fabs(held - w->sequences) > 1 && error[i] > 0.02)
			fail_msg("row %d: %.0f sequences instead of %u", i, held, w->sequences);
		pl_arena_free(r.a);
	}
	qsort(error, N_ROWS, sizeof *error, by_size);
	assert_true(error[N_ROWS / 2] <= 0.002);
	assert_true(error[N_ROWS * 9 / 10] <= 0.01);
}

static void defaults_are_those_of_the_server(void **state)
{
	(void)state;
	struct rig r;
	rig_init(&r, "Qwen/Qwen3-8B", NULL, "h100-sxm");
	lay_out(&r);
	assert_int_equal(r.p.max_num_seqs, 2048);
	assert_int_equal(r.p.max_num_batched_tokens, 8192);
	assert_true(fabs(r.p.gpu_memory_utilization_frac - 0.9) < 1e-9);
	assert_int_equal(r.l.block_size, 32);
	assert_int_equal(r.l.kv_cache_tokens.value % 32, 0);
	/* 36 layers × 2 × 8 heads × 128 × 2 bytes */
	assert_int_equal(r.l.kv_bytes_per_token, 147456);
	pl_arena_free(r.a);
}

static void fp8_doubles_the_tokens(void **state)
{
	(void)state;
	struct rig r;
	rig_init(&r, "Qwen/Qwen3-8B", NULL, "h100-sxm");
	lay_out(&r);
	uint64_t tokens = r.l.kv_cache_tokens.value;
	r.p.type_k = r.p.type_v = PL_DTYPE_F8_E4M3;
	lay_out(&r);
	assert_true(r.l.kv_cache_tokens.value >= 2 * tokens && r.l.kv_cache_tokens.value <= 2 * tokens + 32);
	pl_arena_free(r.a);
}

static void attention_groups_split_a_latent_cache(void **state)
{
	(void)state;
	struct rig r;
	rig_init(&r, "deepseek-ai/DeepSeek-R1", NULL, "8x b200");
	r.p.tensor_parallel = 8;
	r.p.expert_parallel = true;
	lay_out(&r);
	uint64_t rate = r.l.kv_bytes_per_token, tokens = r.l.kv_cache_tokens.value;
	assert_int_equal(rate, 61ull * 576 * 2 * 8);
	pl_params_default(&r.p);
	r.p.n_ctx_tokens = 8192;
	r.p.tensor_parallel = 8;
	r.p.expert_parallel = r.p.dp_attention = true;
	lay_out(&r);
	assert_int_equal(r.l.kv_bytes_per_token, rate / 8);
	assert_true(r.l.kv_cache_tokens.value > 5 * tokens);
	pl_arena_free(r.a);
}

/* 48 layers on 3 stages: 16 each; on 5: 10, 10, 10, 9, 9. */
static void layers_left_over_go_to_the_first_stages(void **state)
{
	(void)state;
	struct rig r;
	rig_init(&r, "Qwen/Qwen3-30B-A3B", NULL, "5x h100-sxm");
	r.p.tensor_parallel = 1;
	r.p.pipeline_parallel = 5;
	lay_out(&r);
	static const uint32_t wanted[] = {10, 10, 10, 9, 9};
	for (int i = 0; i < 5; i++)
		assert_int_equal(r.l.devices[i].n_layers, wanted[i]);
	pl_arena_free(r.a);
}

static void states_are_kept_for_the_whole_batch(void **state)
{
	(void)state;
	struct rig r;
	rig_init(&r, "Qwen/Qwen3-Next-80B-A3B-Instruct", NULL, "4x h100-sxm");
	r.p.tensor_parallel = 4;
	r.p.max_num_seqs = 64;
	lay_out(&r);
	/* 36 layers, a quarter of: 8192 channels × 3 inputs × 2 bytes and 32 heads of 128 × 128 × 4 bytes */
	assert_int_equal(r.l.devices[0].state_bytes, 64ull * 36 * (8192 / 4 * 3 * 2 + 8 * 128 * 128 * 4));
	pl_arena_free(r.a);
}

/* gpt-oss: 12 layers of 128 tokens and 12 of all, 2048 bytes each a token, share the pool by halves. */
static void windows_get_equal_parts_of_the_pool(void **state)
{
	(void)state;
	static const uint32_t pattern[] = {128, 131072};
	struct rig r;
	rig_init(&r, "openai/gpt-oss-20b", NULL, "h100-sxm");
	lay_out(&r);
	uint64_t all = r.l.devices[0].kv_bytes;
	assert_int_equal(r.l.kv_bytes_per_token, 24 * 2048);
	r.p.max_attention_window = pattern;
	r.p.n_max_attention_window = 2;
	lay_out(&r);
	assert_int_equal(r.l.kv_bytes_per_token, 12 * 2048);
	assert_true(r.l.devices[0].kv_bytes <= all + 24 * 2048 * 32 && r.l.devices[0].kv_bytes + 24 * 2048 * 32 > all);
	assert_int_equal(r.l.kv_cache_tokens.value, all / 2 / (12 * 2048) / 32 * 32);
	/* a sequence takes 5 blocks of the windows' pool: 8192 tokens of the other are what runs out */
	r.p.n_seq = (uint32_t)(r.l.kv_cache_tokens.value / 8192);
	lay_out(&r);
	assert_true(r.l.fits);
	r.p.n_seq++;
	lay_out(&r);
	assert_false(r.l.fits);
	/* of 256 tokens, the windows' pool: each takes 5 blocks of it and 8 of the other, with equal blocks in both */
	r.p.n_ctx_tokens = 256;
	r.p.n_seq = 1;
	lay_out(&r);
	assert_true(r.l.fits);
	pl_arena_free(r.a);
}

static void a_draft_is_cached_beside_the_target(void **state)
{
	(void)state;
	struct rig r;
	rig_init(&r, "deepseek-ai/DeepSeek-R1", NULL, "8x b200");
	r.p.tensor_parallel = 8;
	r.p.expert_parallel = true;
	lay_out(&r);
	uint64_t weights = r.l.devices[0].model_bytes;
	r.p.draft.mtp = true;
	r.p.draft.n_max = 3; /* one layer is loaded and runs three times, each with a cache of its own */
	lay_out(&r);
	assert_int_equal(r.l.kv_bytes_per_token, 64ull * 576 * 2 * 8);
	assert_true(r.l.devices[0].model_bytes > weights);
	pl_arena_free(r.a);
}

/* Qwen3-8B: in + out of q, o 8192, of k, v 5120, of gate, up, down 16384. Slots of 5120: 2 + 1 + 1 + 2 + 3 × 4 = 18 a layer.
 * Wanted 16 × 2 × 36 × 7 modules × 4 slots; pages of 8 × 18 × 36. */
static void adapters_are_paged(void **state)
{
	(void)state;
	struct rig r;
	rig_init(&r, "Qwen/Qwen3-8B", NULL, "h100-sxm");
	lay_out(&r);
	uint64_t none = r.l.devices[0].overhead_bytes, host = r.l.host.use.overhead_bytes;
	r.p.max_loras = 2;
	r.p.max_lora_rank = 16;
	lay_out(&r);
	uint64_t wanted = 16ull * 2 * 36 * 7 * 4, page = 8ull * 18 * 36, pool = (wanted + page - 1) / page * page * 5120 * 2;
	assert_int_equal(r.l.devices[0].overhead_bytes - none, pool);
	assert_int_equal(r.l.host.use.overhead_bytes - host, pool);
	pl_arena_free(r.a);
}

static void a_draft_is_written_where_a_shell_cannot_read_it(void **state)
{
	(void)state;
	struct rig r;
	struct pl_argv v;
	rig_init(&r, "Qwen/Qwen3-8B", NULL, "h100-sxm");
	r.p.draft.model = r.m;
	r.p.draft.ref = "org/draft-1";
	r.p.draft.n_max = 4;
	lay_out(&r);
	/* the same model twice: twice the cache */
	assert_int_equal(r.l.kv_bytes_per_token, 2 * 147456);
	assert_int_equal(r.e->command(r.a, r.m, "Qwen/Qwen3-8B", r.hw, &r.p, &r.l, &v, &r.err), 0);
	assert_non_null(strstr(v.words[2], "decoding_type: DraftTarget, max_draft_len: 4, speculative_model_dir: 'org/draft-1'"));
	r.p.draft.ref = "org/$(touch pwn)";
	assert_true(r.e->command(r.a, r.m, "Qwen/Qwen3-8B", r.hw, &r.p, &r.l, &v, &r.err) < 0);
	pl_arena_free(r.a);
}

static void beams_are_sequences(void **state)
{
	(void)state;
	struct rig r;
	rig_init(&r, "Qwen/Qwen3-8B", NULL, "h100-sxm");
	lay_out(&r);
	r.p.n_seq = (uint32_t)(r.l.kv_cache_tokens.value / 8192 / 4);
	r.p.max_beam_width = 4;
	lay_out(&r);
	assert_true(r.l.fits);
	r.p.n_seq++;
	lay_out(&r);
	assert_false(r.l.fits);
	pl_arena_free(r.a);
}

static void one_rank_is_none_and_more_memory_is_never_fewer_tokens(void **state)
{
	(void)state;
	struct rig r;
	rig_init(&r, "Qwen/Qwen3-8B", NULL, "h100-sxm");
	struct pl_params p = r.p;
	lay_out(&r);
	uint64_t tokens = r.l.kv_cache_tokens.value, last = 0;
	p.tensor_parallel = p.pipeline_parallel = 1;
	assert_int_equal(r.e->layout(r.a, r.m, r.hw, &p, &r.l, &r.err), 0);
	assert_int_equal(r.l.kv_cache_tokens.value, tokens);
	pl_arena_free(r.a);
	static const char *const cards[] = {"gpu-20GiB", "gpu-24GiB", "gpu-40GiB", "gpu-80GiB", "gpu-141GiB", "gpu-180GiB", "gpu-288GiB"};
	for (size_t i = 0; i < sizeof cards / sizeof *cards; i++) {
		rig_init(&r, "Qwen/Qwen3-8B", NULL, cards[i]);
		lay_out(&r);
		assert_true(r.l.kv_cache_tokens.value >= last);
		last = r.l.kv_cache_tokens.value;
		pl_arena_free(r.a);
	}
	assert_true(last > 0);
}

static void the_launch_line_repeats_what_was_planned(void **state)
{
	(void)state;
	struct rig r;
	struct pl_argv v;
	rig_init(&r, "Qwen/Qwen3-8B", NULL, "h100-sxm");
	lay_out(&r);
	assert_int_equal(r.e->command(r.a, r.m, "Qwen/Qwen3-8B", r.hw, &r.p, &r.l, &v, &r.err), 0);
	assert_string_equal(v.words[0], "trtllm-serve");
	assert_string_equal(v.words[1], "Qwen/Qwen3-8B");
	r.p.type_k = r.p.type_v = PL_DTYPE_F8_E4M3;
	assert_int_equal(r.e->command(r.a, r.m, "Qwen/Qwen3-8B", r.hw, &r.p, &r.l, &v, &r.err), 0);
	assert_string_equal(v.words[v.n_words - 2], "--kv_cache_dtype");
	assert_string_equal(v.words[v.n_words - 1], "fp8");
	r.p.enforce_eager = true; /* has no flag: a file is made on the way */
	assert_int_equal(r.e->command(r.a, r.m, "Qwen/Qwen3-8B", r.hw, &r.p, &r.l, &v, &r.err), 0);
	assert_string_equal(v.words[0], "bash");
	assert_non_null(strstr(v.words[2], "cuda_graph_config: null"));
	assert_string_equal(v.words[3], "trtllm-serve");
	pl_arena_free(r.a);
}

static void what_it_does_not_run_is_said(void **state)
{
	(void)state;
	static const struct {
		const char *model, *quant, *machine, *word;
	} cases[] = {{"Qwen/Qwen3-8B", NULL, "v100-sxm2-16gb", "8.0"},    {"Qwen/Qwen3-8B", "fp8", "a100-sxm-80gb", "8.9"},
	             {"Qwen/Qwen3-8B", "gptq-int4", "h100-sxm", "loader"}, {"Qwen/Qwen3-8B", NULL, "mi300x", "NVIDIA"},
	             {"Qwen/Qwen3-8B", "q4_k_m", "h100-sxm", "q4_k"}};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct rig r;
		const char *reason = NULL;
		rig_init(&r, cases[i].model, cases[i].quant, cases[i].machine);
		assert_int_equal(r.e->supports(r.a, r.m, r.hw, &reason), PL_SUPPORT_NO);
		if (!strstr(reason, cases[i].word))
			fail_msg("%s", reason);
		pl_arena_free(r.a);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(capacities_are_as_measured),
	    cmocka_unit_test(defaults_are_those_of_the_server),
	    cmocka_unit_test(fp8_doubles_the_tokens),
	    cmocka_unit_test(attention_groups_split_a_latent_cache),
	    cmocka_unit_test(layers_left_over_go_to_the_first_stages),
	    cmocka_unit_test(states_are_kept_for_the_whole_batch),
	    cmocka_unit_test(windows_get_equal_parts_of_the_pool),
	    cmocka_unit_test(a_draft_is_cached_beside_the_target),
	    cmocka_unit_test(adapters_are_paged),
	    cmocka_unit_test(a_draft_is_written_where_a_shell_cannot_read_it),
	    cmocka_unit_test(beams_are_sequences),
	    cmocka_unit_test(one_rank_is_none_and_more_memory_is_never_fewer_tokens),
	    cmocka_unit_test(the_launch_line_repeats_what_was_planned),
	    cmocka_unit_test(what_it_does_not_run_is_said),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
