/* SGLang against what its own logs print, and against hand calculations of its rules. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "server_rig.h"

static const double GIB = 1024.0 * 1024 * 1024;

static void rig_init(struct rig *r, const char *model, const char *quant, const char *machine)
{
	rig_of(r, "sglang", model, quant, machine);
}

static void near(double got, double wanted, double part)
{
	if (fabs(got - wanted) > part * wanted)
		fail_msg("%.6g instead of %.6g", got, wanted);
}

/* A server of 2026-04 on one B200: 177.57 GiB before the weights, 15.28 of weights, 992,896 tokens in 136.36 GiB. */
static void qwen3_8b_on_b200_is_as_logged(void **state)
{
	(void)state;
	struct rig r;
	rig_init(&r, "Qwen/Qwen3-8B", NULL, "b200");
	lay_out(&r);
	near((double)r.l.devices[0].model_bytes / GIB, 15.28, 0.005);
	near((double)r.l.kv_cache_tokens.value, 992896, 0.002);
	assert_int_equal(r.l.kv_cache_tokens.value % 64, 0);
	assert_int_equal(r.l.block_size, 64);
	/* (183359 − 512 − 16384 × 1.5 − 512 × 2 − 128 − 74 × 8) / 183359 */
	near(r.p.gpu_memory_utilization_frac, 0.854, 0.0001);
	pl_arena_free(r.a);
}

/* 0.4.1 on one H100: 78.81 GiB before the weights, 63.72 after, twice 27.13 of cache, fraction 0.88. */
static void llama_8b_on_h100_is_as_logged_by_0_4(void **state)
{
	(void)state;
	struct rig r;
	rig_init(&r, "meta-llama/Llama-3.1-8B-Instruct", NULL, "h100-sxm");
	r.p.engine_version = "0.4.1";
	lay_out(&r);
	assert_true(fabs(r.p.gpu_memory_utilization_frac - 0.88) < 1e-9);
	near((double)r.l.devices[0].kv_bytes / GIB, 54.26, 0.005);
	pl_arena_free(r.a);
}

/* DeepSeek V3 in FP8 on eight H200: 58.12 GiB left after loading (0.4.2). */
static void deepseek_v3_leaves_what_was_logged(void **state)
{
	(void)state;
	struct rig r;
	rig_init(&r, "deepseek-ai/DeepSeek-V3", NULL, "8x h200-sxm");
	r.p.engine_version = "0.4.2";
	r.p.tensor_parallel = 8;
	r.p.enforce_eager = true;
	lay_out(&r);
	const struct pl_use *u = &r.l.devices[0];
	/* of the overhead, FlashAttention's 61 MiB come after loading */
	near((double)(u->total_bytes - u->model_bytes - u->overhead_bytes) / GIB + 61 / 1024.0, 58.12, 0.03);
	/* a latent cache is whole on every rank: 61 layers × 576 × 2 bytes × 8 */
	assert_int_equal(r.l.kv_bytes_per_token, 61ull * 576 * 2 * 8);
	pl_arena_free(r.a);
}

/* One MI355X: 56.98 GiB of weights, fraction 0.911, 204.63 GiB for the pool (sgl-project/sglang pull request 18263). Eight of
 * them under Kimi K2.5 (2026-02): 2,454,421 tokens; its vision tower lowers the fraction to 0.826. */
static void mi355x_is_as_logged(void **state)
{
	(void)state;
	struct rig r;
	rig_init(&r, "Qwen/Qwen3-30B-A3B", NULL, "mi355x");
	lay_out(&r);
	assert_true(fabs(r.p.gpu_memory_utilization_frac - 0.911) < 0.0006);
	near((double)r.l.devices[0].model_bytes / GIB, 56.98, 0.005);
	near((double)r.l.devices[0].kv_bytes / GIB, 204.63, 0.002);
	pl_arena_free(r.a);
	rig_init(&r, "moonshotai/Kimi-K2.5", NULL, "8x mi355x");
	r.p.tensor_parallel = 8;
	lay_out(&r);
	near(r.p.gpu_memory_utilization_frac, 0.826, 0.015); /* its projector is counted as tower */
	near((double)r.l.kv_cache_tokens.value, 2454421, 0.01);
	pl_arena_free(r.a);
}

static void fractions_follow_the_card_and_the_release(void **state)
{
	(void)state;
	static const struct {
		const char *machine, *version;
		uint32_t tp, chunk, batch;
		double frac;
	} rows[] = {
	    /* 24564 MiB: 512 + 2048 × 1.5 + 24 × 2 + 128 */
	    {"rtx4090", "0.5.3", 1, 2048, 24, 0.847},
	    /* four ranks capture up to 80: 512 + 3072 + 160 + 512 */
	    {"4x rtx4090", "0.5.3", 4, 2048, 80, 0.827},
	    /* 81561 MiB: 512 + 12288 + 512 + 128 */
	    {"h100-sxm", "0.5.3", 1, 8192, 256, 0.835},
	    /* the same and 58 pieces of 8 MiB for prompts of up to 8192 tokens */
	    {"h100-sxm", "0.5.14", 1, 8192, 256, 0.83},
	    {"h100-sxm", "0.4.6", 1, 8192, 160, 0.88},
	    /* (9.5 + 1/2) GiB */
	    {"h100-sxm", "0.4.9", 1, 8192, 160, 0.874},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct rig r;
		rig_init(&r, "Qwen/Qwen3-8B", NULL, rows[i].machine);
		r.p.engine_version = rows[i].version;
		r.p.tensor_parallel = rows[i].tp;
		lay_out(&r);
		if (fabs(r.p.gpu_memory_utilization_frac - rows[i].frac) > 0.0006)
			fail_msg("%s %s: %.4f instead of %.3f", rows[i].machine, rows[i].version, r.p.gpu_memory_utilization_frac, rows[i].frac);
		assert_int_equal(r.p.max_num_batched_tokens, rows[i].chunk);
		assert_int_equal(r.p.max_cudagraph_batch, rows[i].batch);
		pl_arena_free(r.a);
	}
}

static void sliding_layers_get_a_pool_four_fifths_as_long(void **state)
{
	(void)state;
	struct rig r;
	rig_init(&r, "openai/gpt-oss-20b", NULL, "h100-sxm");
	lay_out(&r);
	/* 12 full layers and 12 of window 128, 8 heads of 64: (12 + 0.8 × 12) × 2 × 8 × 64 × 2 bytes */
	assert_int_equal(r.l.kv_bytes_per_token, (uint64_t)(21.6 * 2048));
	pl_arena_free(r.a);
}

static void recurrent_states_take_their_share_first(void **state)
{
	(void)state;
	struct rig r;
	rig_init(&r, "Qwen/Qwen3-Next-80B-A3B-Instruct", NULL, "4x h100-sxm");
	r.p.tensor_parallel = 4;
	lay_out(&r);
	const struct pl_use *u = &r.l.devices[0];
	near((double)u->state_bytes / (double)(u->state_bytes + u->kv_bytes), 0.9 / 1.9, 0.005);
	/* 36 layers: (8192 / 4 channels of keys, queries and values × 3 inputs) × 2 bytes + 8 heads of 128 × 128 × 4 bytes */
	uint64_t one = 36ull * (8192 / 4 * 3 * 2 + 8 * 128 * 128 * 4);
	assert_int_equal(u->state_bytes % one, 0);
	/* at most a fifth of them run at once: three for the prefix cache, two for the overlapped scheduler */
	r.p.n_seq = (uint32_t)(u->state_bytes / one / 5) + 1;
	struct pl_params p = r.p;
	assert_int_equal(r.e->layout(r.a, r.m, r.hw, &p, &r.l, &r.err), 0);
	assert_false(r.l.fits);
	pl_arena_free(r.a);
}

static void data_parallel_attention_repeats_it_and_splits_the_cache(void **state)
{
	(void)state;
	struct rig r;
	rig_init(&r, "deepseek-ai/DeepSeek-R1", NULL, "8x h200-sxm");
	r.p.tensor_parallel = 8;
	lay_out(&r);
	uint64_t weights = r.l.devices[0].model_bytes, tokens = r.l.kv_cache_tokens.value, rate = r.l.kv_bytes_per_token;
	pl_params_default(&r.p);
	r.p.n_ctx_tokens = 8192;
	r.p.tensor_parallel = 8;
	r.p.dp_attention = r.p.expert_parallel = true;
	lay_out(&r);
	assert_true(r.l.devices[0].model_bytes > weights);
	assert_true(r.l.kv_cache_tokens.value > 3 * tokens);
	assert_int_equal(r.l.kv_bytes_per_token, rate / 8);
	pl_arena_free(r.a);
}

static void one_rank_is_none_and_more_memory_is_never_fewer_tokens(void **state)
{
	(void)state;
	struct rig r;
	uint64_t last = 0;
	rig_init(&r, "Qwen/Qwen3-8B", NULL, "h100-sxm");
	struct pl_params p = r.p;
	lay_out(&r);
	uint64_t tokens = r.l.kv_cache_tokens.value;
	p.tensor_parallel = p.pipeline_parallel = p.data_parallel = 1;
	assert_int_equal(r.e->layout(r.a, r.m, r.hw, &p, &r.l, &r.err), 0);
	assert_int_equal(r.l.kv_cache_tokens.value, tokens);
	pl_arena_free(r.a);
	static const char *const cards[] = {"gpu-20GiB", "gpu-24GiB", "gpu-32GiB", "gpu-40GiB", "gpu-48GiB", "gpu-80GiB", "gpu-141GiB",
	                                    "gpu-180GiB", "gpu-288GiB"};
	for (size_t i = 0; i < sizeof cards / sizeof *cards; i++) {
		rig_init(&r, "Qwen/Qwen3-8B", NULL, cards[i]);
		lay_out(&r);
		assert_true(r.l.kv_cache_tokens.value >= last);
		last = r.l.kv_cache_tokens.value;
		pl_arena_free(r.a);
	}
}

/* DeepSeek V3's prediction layer: what the whole model divides by grows by 1/61, and its weights leave the pool. */
static void a_prediction_layer_drafts_from_the_same_budget(void **state)
{
	(void)state;
	struct rig r;
	rig_init(&r, "deepseek-ai/DeepSeek-V3", NULL, "8x h200-sxm");
	r.p.tensor_parallel = 8;
	r.p.gpu_memory_utilization_frac = 0.9;
	lay_out(&r);
	struct pl_use none = r.l.devices[0];
	assert_int_equal(none.kv_bytes % (61ull * 576 * 2), 0);
	r.p.draft.mtp = true;
	lay_out(&r);
	const struct pl_use *u = &r.l.devices[0];
	uint64_t gone = u->model_bytes - none.model_bytes;
	/* 11.3 GiB of parameters in FP8 and 16 bit over 8 ranks, the embedding and output of its copy dropped */
	near((double)gone / GIB, 11.3 / 8, 0.15);
	assert_int_equal(r.l.kv_bytes_per_token, 62ull * 576 * 2 * 8);
	/* the budget, within a token: fewer bytes by the weights */
	assert_true(u->kv_bytes <= none.kv_bytes - gone + 61ull * 576 * 2 && u->kv_bytes + 62ull * 576 * 2 > none.kv_bytes - gone);
	/* to 0.5.10 the weights came out of the slack */
	r.p.engine_version = "0.5.10";
	lay_out(&r);
	u = &r.l.devices[0];
	assert_int_equal(u->kv_bytes / (62ull * 576 * 2), none.kv_bytes / (62ull * 576 * 2));
	pl_arena_free(r.a);
}

/* Qwen3-0.6B (28 layers of 8 heads of 128) beside Qwen3-8B (36 of the same): the budget is right by chance. */
static void a_whole_model_drafts_beside_the_target(void **state)
{
	(void)state;
	struct rig r;
	struct pl_argv v;
	char line[1024] = "";
	rig_init(&r, "Qwen/Qwen3-8B", NULL, "h100-sxm");
	const struct pl_model *draft = model_named(r.a, "Qwen/Qwen3-0.6B", NULL);
	r.p.gpu_memory_utilization_frac = 0.85;
	lay_out(&r);
	struct pl_use none = r.l.devices[0];
	r.p.draft.model = draft;
	r.p.draft.n_max = 4;
	r.p.max_cudagraph_batch = 0;
	lay_out(&r);
	const struct pl_use *u = &r.l.devices[0];
	assert_int_equal(r.l.kv_bytes_per_token, (36 + 28) * 4096ull);
	uint64_t gone = u->model_bytes - none.model_bytes;
	assert_true(u->kv_bytes <= none.kv_bytes - gone + 36 * 4096 && u->kv_bytes + 64 * 4096 > none.kv_bytes - gone);
	/* EAGLE's drafts take both matrices of the target: 151936 × 1024 × 2 bytes, tied, once */
	r.p.draft.shares = PL_DRAFT_SHARES_BOTH;
	lay_out(&r);
	u = &r.l.devices[0];
	assert_int_equal(none.model_bytes + gone - u->model_bytes, 151936ull * 1024 * 2);
	assert_int_equal(r.e->command(r.a, r.m, "Qwen/Qwen3-8B", r.hw, &r.p, &r.l, &v, &r.err), 0);
	for (uint32_t i = 0; i < v.n_words; i++)
		(void)snprintf(line + strlen(line), sizeof line - strlen(line), "%s%s", i ? " " : "", v.words[i]);
	assert_non_null(strstr(line, "--speculative-algorithm EAGLE --speculative-draft-model-path Qwen/Qwen3-0.6B"));
	assert_non_null(strstr(line, "--speculative-num-steps 3 --speculative-eagle-topk 1 --speculative-num-draft-tokens 4"));
	pl_arena_free(r.a);
}

/* Qwen3-8B, 36 layers of width 4096: q 4096, k and v 1024, o 4096, gate and up and down 12288. */
static void adapters_take_their_buffers_first(void **state)
{
	(void)state;
	struct rig r;
	uint64_t layer = (4096 + 4096) + 2 * (4096 + 1024) + (4096 + 4096) + 3 * (4096 + 12288);
	rig_init(&r, "Qwen/Qwen3-8B", NULL, "2x h100-sxm");
	r.p.tensor_parallel = 1;
	lay_out(&r);
	uint64_t none = r.l.devices[0].model_bytes;
	r.p.max_loras = 4;
	r.p.max_lora_rank = 32;
	lay_out(&r);
	assert_int_equal(r.l.devices[0].model_bytes - none, 4ull * 36 * 32 * 2 * layer);
	/* two ranks: outputs are halved but of o and down, whose inputs are */
	layer = (4096 + 2048) + 2 * (4096 + 512) + (2048 + 4096) + 3 * (4096 + 6144);
	r.p.max_loras = 0;
	r.p.tensor_parallel = 2;
	lay_out(&r);
	none = r.l.devices[0].model_bytes;
	r.p.max_loras = 4;
	lay_out(&r);
	assert_int_equal(r.l.devices[0].model_bytes - none, 4ull * 36 * 32 * 2 * layer);
	pl_arena_free(r.a);
}

static void ratios_and_caps_of_pools_are_as_stated(void **state)
{
	(void)state;
	struct rig r;
	rig_init(&r, "openai/gpt-oss-20b", NULL, "h100-sxm");
	r.p.swa_full_tokens_ratio = 0.5;
	lay_out(&r);
	assert_int_equal(r.l.kv_bytes_per_token, 18ull * 2048); /* 12 + 12 / 2 layers */
	r.p.hybrid_swa_off = true;
	lay_out(&r);
	assert_int_equal(r.l.kv_bytes_per_token, 24ull * 2048);
	/* a stated batch without prefixes: 64 × (128 + 128 + 2 pages of 1) + 2 × 8192 + 1 tokens of 12 layers */
	r.p.hybrid_swa_off = false;
	r.p.prefix_caching_off = true;
	r.p.max_num_seqs = 64;
	r.p.n_seq = 64;
	lay_out(&r);
	assert_int_equal(r.l.kv_bytes_per_token, 12ull * 2048);
	uint64_t window = (64ull * 258 + 16385) * 12 * 2048;
	assert_int_equal(r.l.devices[0].kv_bytes, window + r.l.kv_cache_tokens.value * 12 * 2048);
	pl_arena_free(r.a);
	rig_init(&r, "Qwen/Qwen3-Next-80B-A3B-Instruct", NULL, "4x h100-sxm");
	r.p.tensor_parallel = 4;
	r.p.mamba_full_memory_ratio = 0.25;
	r.p.kv_offload_bytes = 1000000000;
	lay_out(&r);
	const struct pl_use *u = &r.l.devices[0];
	near((double)u->state_bytes / (double)(u->state_bytes + u->kv_bytes), 0.2, 0.005);
	assert_int_equal(r.l.host.use.kv_bytes, 4000000000); /* of each rank */
	r.p.max_mamba_cache_size = 100;
	lay_out(&r);
	u = &r.l.devices[0];
	uint64_t one = 36ull * (8192 / 4 * 3 * 2 + 8 * 128 * 128 * 4);
	assert_int_equal(u->state_bytes, 100 * one);
	pl_arena_free(r.a);
}

static void the_launch_line_repeats_what_was_planned(void **state)
{
	(void)state;
	struct rig r;
	struct pl_argv v;
	char line[1024] = "";
	rig_init(&r, "Qwen/Qwen3-32B", NULL, "8x h200-sxm");
	r.p.tensor_parallel = 4;
	r.p.type_k = r.p.type_v = PL_DTYPE_F8_E4M3;
	r.p.max_num_seqs = 64;
	lay_out(&r);
	assert_int_equal(r.e->command(r.a, r.m, "Qwen/Qwen3-32B", r.hw, &r.p, &r.l, &v, &r.err), 0);
	for (uint32_t i = 0; i < v.n_words; i++)
		(void)snprintf(line + strlen(line), sizeof line - strlen(line), "%s%s", i ? " " : "", v.words[i]);
	assert_non_null(strstr(line, "python3 -m sglang.launch_server --model-path Qwen/Qwen3-32B --context-length 8192 --tp-size 4"));
	assert_non_null(strstr(line, "--kv-cache-dtype fp8_e4m3"));
	assert_non_null(strstr(line, "--max-running-requests 64"));
	pl_arena_free(r.a);
}

static void what_it_does_not_run_is_said(void **state)
{
	(void)state;
	static const struct {
		const char *model, *quant, *machine, *word;
	} rows[] = {{"Qwen/Qwen3-8B", NULL, "v100-sxm2-16gb", "7.5"},
	            {"Qwen/Qwen3-8B", "gptq-int4", "t4", "8.0"},
	            {"Qwen/Qwen3-8B", "q4_k_m", "h100-sxm", "q4_k"},
	            {"Qwen/Qwen3-8B", NULL, "cpu, ram 64GiB", "GPU"}};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct rig r;
		const char *reason = NULL;
		rig_init(&r, rows[i].model, rows[i].quant, rows[i].machine);
		assert_int_equal(r.e->supports(r.a, r.m, r.hw, &reason), PL_SUPPORT_NO);
		assert_non_null(strstr(reason, rows[i].word));
		pl_arena_free(r.a);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(qwen3_8b_on_b200_is_as_logged),
	    cmocka_unit_test(llama_8b_on_h100_is_as_logged_by_0_4),
	    cmocka_unit_test(deepseek_v3_leaves_what_was_logged),
	    cmocka_unit_test(mi355x_is_as_logged),
	    cmocka_unit_test(fractions_follow_the_card_and_the_release),
	    cmocka_unit_test(sliding_layers_get_a_pool_four_fifths_as_long),
	    cmocka_unit_test(recurrent_states_take_their_share_first),
	    cmocka_unit_test(data_parallel_attention_repeats_it_and_splits_the_cache),
	    cmocka_unit_test(one_rank_is_none_and_more_memory_is_never_fewer_tokens),
	    cmocka_unit_test(a_prediction_layer_drafts_from_the_same_budget),
	    cmocka_unit_test(a_whole_model_drafts_beside_the_target),
	    cmocka_unit_test(adapters_take_their_buffers_first),
	    cmocka_unit_test(ratios_and_caps_of_pools_are_as_stated),
	    cmocka_unit_test(the_launch_line_repeats_what_was_planned),
	    cmocka_unit_test(what_it_does_not_run_is_said),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
