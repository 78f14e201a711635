/* vLLM's memory against hand calculations and against what its own logs print (data/measurements/serving_memory.csv). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "memory/shard.h"

#include "../named.h"

static const double GIB = 1073741824.0;

static struct pl_params params(uint64_t ctx)
{
	struct pl_params p;
	pl_params_default(&p);
	p.n_ctx_tokens = ctx;
	return p;
}

static struct pl_layout lay(struct pl_arena *a, const struct pl_model *m, const char *hw, struct pl_params *p)
{
	struct pl_layout l = {0};
	struct pl_err err = {0};
	if (engine_named("vllm")->layout(a, m, machine_named(a, hw), p, &l, &err))
		fail_msg("%s on %s: %s", m->name, hw, err.msg);
	return l;
}

/* ---- shards --------------------------------------------------------------------------------------------------------- */

static struct pl_shard_cut tensor_cut(uint32_t tp)
{
	return (struct pl_shard_cut){.attn = tp, .ffn = tp, .vocab = tp, .expert = tp, .expert_ranks = 1, .vision = tp, .vocab_multiple = 64};
}

static struct pl_shard_stage whole(const struct pl_model *m)
{
	return (struct pl_shard_stage){.end_layer = m->n_layers, .has_input = true, .has_output = true};
}

static void one_rank_holds_the_model(void **state)
{
	(void)state;
	static const char *const names[] = {"llama3.1-8b", "deepseek-ai/DeepSeek-R1", "Qwen/Qwen3-30B-A3B", "openai/gpt-oss-20b"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		struct pl_arena *a = pl_arena_new(0);
		const struct pl_model *m = model_named(a, names[i], NULL);
		struct pl_shard_cut cut = tensor_cut(1);
		struct pl_shard_stage s = whole(m);
		uint64_t padding = (pl_shard_stage_bytes(m, &s, &cut)), mtp = 0;
		for (uint32_t k = 0; k < m->n_tensors; k++)
			mtp += m->tensors[k].group == PL_GROUP_MTP || m->tensors[k].layer >= (int32_t)m->n_layers ? m->tensors[k].bytes : 0;
		/* all of it, and at most 63 rows of padding for two vocabularies */
		assert_true(padding >= m->weight_bytes - mtp);
		assert_true(padding - (m->weight_bytes - mtp) <= 2ull * 63 * m->n_embd * 4);
		pl_arena_free(a);
	}
}

/* Llama 3.1 8B: 32 layers, hidden 4096, 8 KV heads of 128, feed forward 14336, vocabulary 128256, heads untied, 16 bit. */
static void shards_of_llama_by_hand(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_model *m = model_named(a, "meta-llama/Llama-3.1-8B-Instruct", NULL);
	struct pl_shard_stage s = whole(m);
	const uint64_t h = 4096, q = h * h, kv = 2 * h * 1024, ffn = 3 * h * 14336, vocab = 2 * h * 128256, norms = 65 * h;
	for (uint32_t tp = 1; tp <= 16; tp *= 2) {
		struct pl_shard_cut cut = tensor_cut(tp);
		uint64_t kv_part = tp <= 8 ? kv / tp : kv / 8; /* 16 ranks share 8 heads: each is held twice */
		uint64_t expect = 2 * (32 * (2 * q / tp + kv_part + ffn / tp) + vocab / tp + norms);
		assert_int_equal(pl_shard_stage_bytes(m, &s, &cut), expect);
	}
	pl_arena_free(a);
}

/* What ranks hold together is the model and what they repeat: norms and the latent projections (DeepSeek's kv_a, q_a). */
static void shards_sum_to_the_whole_and_what_is_repeated(void **state)
{
	(void)state;
	static const char *const names[] = {"deepseek-ai/DeepSeek-R1", "Qwen/Qwen3-30B-A3B", "mistralai/Mixtral-8x7B-v0.1"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		struct pl_arena *a = pl_arena_new(0);
		const struct pl_model *m = model_named(a, names[i], NULL);
		struct pl_shard_cut cut = tensor_cut(4), one = tensor_cut(1);
		for (uint32_t k = 0; k < m->n_tensors; k++) {
			const struct pl_tensor *t = &m->tensors[k];
			uint64_t mine = pl_shard_tensor_bytes(m, t, &cut), all = pl_shard_tensor_bytes(m, t, &one);
			if (pl_role_info(t->role)->shard == PL_SHARD_REPLICATE || t->group == PL_GROUP_OTHER)
				assert_int_equal(mine, all);
			else
				assert_true(4 * mine >= all && 4 * mine <= all + 4 * 64 * (uint64_t)m->n_embd);
		}
		/* whole experts dealt to 4 ranks weigh what a quarter of every expert does */
		struct pl_shard_cut dealt = cut;
		struct pl_shard_stage s = whole(m);
		dealt.expert = 1;
		dealt.expert_ranks = 4;
		uint64_t x = pl_shard_stage_bytes(m, &s, &cut), y = pl_shard_stage_bytes(m, &s, &dealt);
		assert_true(x > y ? x - y < 1024 * 1024 : y - x < 1024 * 1024);
		pl_arena_free(a);
	}
}

static void stages_hold_every_layer_once_and_a_tied_head_twice(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_model *m = model_named(a, "Qwen/Qwen3-0.6B", NULL); /* 28 layers, tied, 151936 × 1024 */
	struct pl_shard_cut cut = tensor_cut(1);
	struct pl_shard_stage all = whole(m), first = {.end_layer = 14, .has_input = true},
	                      last = {.first_layer = 14, .end_layer = 28, .has_output = true};
	uint64_t sum = pl_shard_stage_bytes(m, &first, &cut) + pl_shard_stage_bytes(m, &last, &cut);
	assert_int_equal(sum, pl_shard_stage_bytes(m, &all, &cut) + 2ull * 151936 * 1024);
	pl_arena_free(a);
}

static void a_vocabulary_is_padded_before_it_is_cut(void **state)
{
	(void)state;
	struct pl_model m = {.n_embd = 768};
	struct pl_tensor t = {.role = PL_ROLE_TOKEN_EMBD, .group = PL_GROUP_EMBED, .layer = -1, .ne = {768, 50257, 1, 1}, .n_dims = 2,
	                      .n_stacked = 1, .type = PL_DTYPE_F16, .bytes = 2ull * 768 * 50257};
	struct pl_shard_cut cut = tensor_cut(2);
	assert_int_equal(pl_shard_tensor_bytes(&m, &t, &cut), 2ull * 768 * 50304 / 2);
}

/* ---- what logs print ------------------------------------------------------------------------------------------------ */

/* The pool a log states, and the blocks or tokens it says they are. The pool is rounded to 0.01 GiB: half of that and one
 * block are what an exact rule may miss by. */
struct pool_row {
	const char *id, *model, *quant, *hw, *version;
	uint32_t tp;
	uint64_t ctx;
	bool fp8_cache, prefixes;
	double pool_gib;
	uint64_t blocks, tokens; /* 0: not stated */
	double concurrency;
};

static const struct pool_row pools[] = {
    {"M013", "Qwen/Qwen3.5-27B", "fp8-block", "2x rtx3090", NULL, 2, 131072, true, true, 4.99, 0, 302921, 2.31},
    {"M037", "meta-llama/Llama-3.1-8B-Instruct", NULL, "rtx3090", "0.7.3", 1, 20000, false, false, 3.81, 1952, 0, 1.56},
    {"M038", "meta-llama/Llama-3.1-8B-Instruct", NULL, "rtx3090", "0.7.3", 1, 29000, false, false, 2.89, 1478, 23648, 0.82},
    {"M100", "Qwen/Qwen2-0.5B-Instruct", NULL, "a100-40g", "0.11.0", 1, 1024, false, false, 22.13, 0, 1933472, 1888.16},
    {"M101", "meta-llama/Llama-3.2-3B-Instruct", NULL, "a100-40g", "0.8.1 (V0)", 1, 2048, false, false, 23.46, 13724, 0, 107.22},
    {"M105", "meta-llama/Llama-3.2-1B-Instruct", "fp8-block", "l4", "0.11.2", 1, 2048, false, false, 17.20, 0, 563744, 275.27},
    {"M111", "Qwen/Qwen3-4B-Base", NULL, "t4", "0.8.5.post1 (V0)", 1, 2048, false, false, 1.68, 764, 0, 5.97},
    {"M112", "Qwen/Qwen3-8B", "fp8-block", "l4", "0.10.2", 1, 2048, false, false, 8.98, 0, 65376, 31.92},
    {"M113", "Qwen/Qwen3-4B", NULL, "b200", "0.16.1rc1.dev206", 1, 4096, false, false, 80.21, 0, 584096, 142.60},
    {"M115", "Qwen/Qwen2.5-0.5B-Instruct", "nf4", "h100-sxm", "0.8.5.post1 (V0)", 1, 32768, false, false, 59.36, 324184, 0, 158.29},
    {"M117", "Qwen/Qwen2.5-3B-Instruct", "nf4", "h100-sxm", "0.7.3 (V0)", 1, 32768, false, false, 57.00, 103764, 0, 50.67},
    /* hybrids: a page of attention holds one state; 8 and 24 layers make four groups of eight */
    {"0.19.0 Qwen3.5-9B on L40S", "Qwen/Qwen3.5-9B", NULL, "l40s", "0.19.0", 1, 262144, false, false, 20.27, 0, 165792, 2.52},
    {"0.22.0 Qwen2.5-7B", "Qwen/Qwen2.5-7B-Instruct", NULL, "l40s", "0.22.0", 1, 4096, false, false, 26.32, 0, 492912, 120.34},
};

static void near(const char *id, const char *what, double got, double said, double slack)
{
	if (said > 0 && fabs(got - said) > slack)
		fail_msg("%s: %s %.2f, the log says %.2f", id, what, got, said);
}

static void a_stated_pool_becomes_the_blocks_of_the_log(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof pools / sizeof *pools; i++) {
		const struct pool_row *w = &pools[i];
		struct pl_arena *a = pl_arena_new(0);
		struct pl_params p = params(w->ctx);
		p.tensor_parallel = w->tp;
		p.engine_version = w->version;
		p.kv_cache_memory_bytes = (uint64_t)(w->pool_gib * GIB);
		p.prefix_caching_on = w->prefixes;
		if (w->fp8_cache)
			p.type_k = p.type_v = PL_DTYPE_F8_E4M3;
		struct pl_layout l = lay(a, model_named(a, w->model, w->quant), w->hw, &p);
		double share = 0.005 / w->pool_gib;
		near(w->id, "blocks", (double)l.num_gpu_blocks.value, (double)w->blocks, 1 + share * (double)w->blocks);
		near(w->id, "tokens", (double)l.kv_cache_tokens.value, (double)w->tokens, 32 + share * (double)w->tokens);
		near(w->id, "concurrency", l.max_concurrency, w->concurrency, 0.01 + share * w->concurrency);
		pl_arena_free(a);
	}
}

/* Everything from the model and the card: the pool of vLLM 0.11.0 on H100 at 16,000 tokens (M066 to M070), and the
 * activation peak the log prints. */
static void a_pool_is_foretold(void **state)
{
	(void)state;
	static const struct {
		const char *model, *quant, *hw;
		uint32_t tp;
		double pool_gib, peak_gib;
	} rows[] = {
	    {"meta-llama/Llama-3.3-70B-Instruct", "fp8-dynamic", "2x h100-sxm, nvlink", 2, 32.00, 4.84},
	    {"meta-llama/Llama-3.1-8B-Instruct", NULL, "h100-sxm", 1, 51.38, 4.76},
	    {"Qwen/Qwen3-0.6B", NULL, "h100-sxm", 1, 64.45, 5.56},
	    {"Qwen/Qwen3-32B", NULL, "h100-sxm", 1, 4.45, 5.64},
	    {"Qwen/Qwen3-32B", NULL, "2x h100-sxm, nvlink", 2, 34.49, 5.64},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct pl_arena *a = pl_arena_new(0);
		const struct pl_model *m = model_named(a, rows[i].model, rows[i].quant);
		struct pl_params p = params(16000);
		p.engine_version = "0.11.0";
		p.tensor_parallel = rows[i].tp;
		struct pl_layout l = lay(a, m, rows[i].hw, &p);
		assert_int_equal(p.max_num_seqs, 1024);
		assert_int_equal(p.max_num_batched_tokens, 8192);
		near(m->name, "peak", (double)l.devices[0].compute_bytes / GIB, rows[i].peak_gib, 0.02);
		/* 80 MiB: what the driver keeps of an 80 GB card is known to that */
		near(m->name, "pool", (double)l.devices[0].kv_bytes / GIB, rows[i].pool_gib, 0.12);
		pl_arena_free(a);
	}
}

/* ---- rules ---------------------------------------------------------------------------------------------------------- */

/* DeepSeek's latent row is 576 values of 16 bit in each of 61 layers, whole on every rank. */
static void a_latent_cache_is_repeated_on_every_rank(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_model *m = model_named(a, "deepseek-ai/DeepSeek-R1", NULL);
	struct pl_params p = params(8192);
	p.tensor_parallel = 8;
	struct pl_layout l = lay(a, m, "8x h200-sxm, nvlink", &p);
	assert_int_equal(l.kv_bytes_per_token, 8ull * 61 * 576 * 2);
	assert_int_equal(l.devices[0].kv_bytes, l.num_gpu_blocks.value * l.block_size * 61 * 576 * 2);
	pl_arena_free(a);
}

/* DeepSeek V3.2 keeps an indexer's key of 128 bytes and a scale beside every latent row: 576 values of 16 bit, or 656 bytes. */
static void a_sparse_row_carries_its_index(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_model *m = model_named(a, "deepseek-ai/DeepSeek-V3.2", NULL);
	struct pl_params p = params(8192);
	p.tensor_parallel = 8;
	assert_int_equal(lay(a, m, "8x h200-sxm", &p).kv_bytes_per_token, 8ull * 61 * (1152 + 132));
	p = params(8192);
	p.tensor_parallel = 8;
	p.type_k = p.type_v = PL_DTYPE_F8_E4M3;
	struct pl_layout l = lay(a, m, "8x h200-sxm", &p);
	assert_int_equal(l.kv_bytes_per_token, 8ull * 61 * (656 + 132));
	assert_int_equal(l.block_size, 64);
	p = params(8192);
	p.tensor_parallel = 8;
	p.engine_version = "0.11.0";
	assert_int_equal(lay(a, m, "8x h200-sxm", &p).kv_bytes_per_token, 8ull * 61 * (656 + 132));
	pl_arena_free(a);
}

/* DeepSeek V4 Flash: 43 layers with a window, 21 of ratio 4, 20 of ratio 128. Groups of 22 pad least (21, 43, 21, 20): a block is
 * 22 pages of 65 × 576 bytes, 21 index pages of 15 × 576 and 20 of 3 × 576; the window's 43 layers make two groups. */
static void compressed_rows_by_hand(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_model *m = model_named(a, "deepseek-ai/DeepSeek-V4-Flash", NULL);
	struct pl_params p = params(121344);
	p.tensor_parallel = 8;
	p.max_num_batched_tokens = 8192;
	p.kv_cache_memory_bytes = UINT64_C(8) << 30;
	struct pl_layout l = lay(a, m, "8x h200-sxm", &p);
	assert_int_equal(l.num_gpu_blocks.value, (UINT64_C(8) << 30) / (22 * 65 * 576 + 21 * 15 * 576 + 20 * 3 * 576));
	double request = 474 + 2 * (130 + 1) + (2050 + 1) + (1040 + 1);
	assert_true(fabs(l.max_concurrency - (double)l.num_gpu_blocks.value / request) < 1e-9);
	pl_arena_free(a);
}

static void more_of_the_card_means_more_tokens(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_model *m = model_named(a, "llama3.1-8b", NULL);
	uint64_t last = 0;
	for (double u = 0.5; u < 0.96; u += 0.05) {
		struct pl_params p = params(4096);
		p.gpu_memory_utilization_frac = u;
		struct pl_layout l = lay(a, m, "a100-80g", &p);
		assert_true(l.kv_cache_tokens.value > last);
		last = l.kv_cache_tokens.value;
	}
	pl_arena_free(a);
}

static void it_refuses_when_one_sequence_has_no_room(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_model *m = model_named(a, "llama3.1-8b", NULL); /* 131072 tokens × 128 KiB = 16 GiB beside 15 GiB of weights */
	struct pl_params p = params(131072);
	struct pl_layout l = lay(a, m, "rtx4090", &p);
	assert_false(l.fits);
	assert_true(l.missing_bytes > 0);
	assert_string_equal(l.where_missing, machine_named(a, "rtx4090")->devices[0].name);
	p = params(32768);
	l = lay(a, m, "rtx4090", &p);
	assert_true(l.fits);
	assert_true(l.kv_cache_tokens.value >= 32768);
	/* the same from the other side: many short sequences */
	p = params(8192);
	p.n_seq = (uint32_t)(l.kv_cache_tokens.value / 8192) + 1;
	assert_false(lay(a, m, "rtx4090", &p).fits);
	pl_arena_free(a);
}

/* Sliding layers keep their window and what a step adds: Gemma 2 9B has 21 full layers and 21 of 4096 tokens. */
static void windows_stop_growing(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_model *m = model_named(a, "openai/gpt-oss-20b", NULL); /* 12 full, 12 of 128 tokens, 8 KV heads of 64 */
	struct pl_params p = params(131072);
	struct pl_layout l = lay(a, m, "h100-sxm", &p);
	uint64_t full = 131072 / 16, window = (127 + 8192 + 15) / 16 + 1;
	double expect = (double)l.num_gpu_blocks.value / (double)(full + window);
	assert_true(fabs(l.max_concurrency - expect) < 1e-9);
	assert_int_equal(l.devices[0].kv_bytes, l.num_gpu_blocks.value * 16 * 12 * 2 * 8 * 64 * 2);
	pl_arena_free(a);
}

static void ranks_fit_and_divide(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_model *m = model_named(a, "Qwen/Qwen3-32B", "gptq-int4"); /* 64 heads: three cards do not divide them */
	struct pl_params p = params(8192);
	struct pl_layout l = lay(a, m, "3x rtx3090", &p);
	assert_true(l.fits);
	assert_int_equal(p.tensor_parallel, 2);
	assert_int_equal(p.pipeline_parallel, 1);
	/* two hosts: tensor parallel inside, a pipeline between */
	p = params(8192);
	m = model_named(a, "deepseek-ai/DeepSeek-R1", NULL);
	l = lay(a, m, "2x hgx-h100", &p);
	assert_int_equal(p.tensor_parallel, 8);
	assert_int_equal(p.pipeline_parallel, 2);
	assert_true(l.fits);
	assert_int_equal(l.devices[0].n_layers + l.devices[8].n_layers, 61);
	pl_arena_free(a);
}

/* Qwen3 235B in FP8 blocks: an eighth of 1536 is 192, not whole blocks of 128; a quarter is. */
static void experts_that_cannot_be_cut_are_dealt_out(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_model *m = model_named(a, "Qwen/Qwen3-235B-A22B-FP8", NULL);
	struct pl_params p = params(8192);
	struct pl_layout l = lay(a, m, "8x h100-sxm", &p);
	assert_true(l.fits);
	assert_int_equal(p.tensor_parallel, 8);
	assert_true(p.expert_parallel);
	struct pl_err err = {0};
	p = params(8192);
	p.tensor_parallel = 8;
	assert_int_equal(engine_named("vllm")->layout(a, model_named(a, "Qwen/Qwen3-32B", "awq-int4"), machine_named(a, "8x h100-sxm"), &p, &l, &err), 0);
	assert_false(p.expert_parallel);
	pl_arena_free(a);
}

/* DeepSeek's own draft layer: its experts and attention load beside the trunk and cache a row of 576 more in every token. */
static void a_draft_layer_costs_weights_and_cache(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_model *m = model_named(a, "deepseek-ai/DeepSeek-R1", NULL);
	struct pl_params p = params(8192), q = params(8192);
	p.tensor_parallel = q.tensor_parallel = 8;
	p.kv_cache_memory_bytes = q.kv_cache_memory_bytes = UINT64_C(20) << 30;
	q.draft.mtp = true;
	struct pl_layout without = lay(a, m, "8x h200-sxm", &p), with = lay(a, m, "8x h200-sxm", &q);
	uint64_t more = with.devices[0].model_bytes - without.devices[0].model_bytes;
	/* 256 experts of 3 × 7168 × 2048 bytes over 8 ranks, attention and projections beside them: 1.32 to 1.6 GiB */
	assert_true(more > 256ull * 3 * 7168 * 2048 / 8 && more < 256ull * 3 * 7168 * 2048 / 8 + (300 << 20));
	assert_int_equal(with.num_gpu_blocks.value, (UINT64_C(20) << 30) / (16 * 62 * 576 * 2));
	assert_int_equal(without.num_gpu_blocks.value, (UINT64_C(20) << 30) / (16 * 61 * 576 * 2));
	pl_arena_free(a);
}

/* ---- support and launch line ---------------------------------------------------------------------------------------- */

static enum pl_support supports(struct pl_arena *a, const char *model, const char *quant, const char *hw)
{
	const char *reason = NULL;
	enum pl_support s = engine_named("vllm")->supports(a, model_named(a, model, quant), machine_named(a, hw), &reason);
	assert_true(s == PL_SUPPORT_YES || (reason && strlen(reason) > 20));
	return s;
}

static void kernels_decide_what_runs_where(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	assert_int_equal(supports(a, "Qwen/Qwen3-32B", "gptq-int4", "2x v100-sxm2-16gb"), PL_SUPPORT_YES);
	assert_int_equal(supports(a, "Qwen/Qwen3-32B", "awq-int4", "2x v100-sxm2-16gb"), PL_SUPPORT_NO);
	assert_int_equal(supports(a, "Qwen/Qwen3-32B", "fp8", "2x v100-sxm2-16gb"), PL_SUPPORT_NO);
	assert_int_equal(supports(a, "Qwen/Qwen3-32B-AWQ", NULL, "2x v100-sxm2-16gb"), PL_SUPPORT_NO); /* so by its name alone */
	assert_int_equal(supports(a, "Qwen/Qwen3-8B", "fp8", "rtx3090"), PL_SUPPORT_YES); /* weight-only */
	assert_int_equal(supports(a, "openai/gpt-oss-20b", NULL, "t4"), PL_SUPPORT_NO);
	assert_int_equal(supports(a, "google/gemma-2-9b-it", NULL, "t4"), PL_SUPPORT_NO);
	assert_int_equal(supports(a, "Qwen/Qwen3-8B", "q4_k_m", "rtx4090"), PL_SUPPORT_NO);
	assert_int_equal(supports(a, "Qwen/Qwen3-8B", NULL, "p40"), PL_SUPPORT_NO);
	assert_int_equal(supports(a, "Qwen/Qwen3-8B", NULL, "mi300x"), PL_SUPPORT_YES);
	assert_int_equal(supports(a, "Qwen/Qwen3-8B", NULL, "mi50"), PL_SUPPORT_NO);
	assert_int_equal(supports(a, "Qwen/Qwen3-8B", NULL, "cpu, ram 64GiB"), PL_SUPPORT_NO);
	pl_arena_free(a);
}

static const char *line(struct pl_arena *a, const char *model, const char *quant, const char *hw, struct pl_params *p)
{
	const struct pl_model *m = model_named(a, model, quant);
	struct pl_layout l = lay(a, m, hw, p);
	struct pl_argv argv = {0};
	struct pl_err err = {0};
	const char *text = "";
	assert_int_equal(engine_named("vllm")->command(a, m, model, machine_named(a, hw), p, &l, &argv, &err), 0);
	for (uint32_t i = 0; i < argv.n_env; i++)
		text = pl_arena_printf(a, "%s%s ", text, argv.env[i]);
	for (uint32_t i = 0; i < argv.n_words; i++)
		text = pl_arena_printf(a, "%s%s%s", text, i ? " " : "", argv.words[i]);
	return text;
}

static void the_launch_line_says_what_was_planned(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	struct pl_params p = params(8192);
	assert_string_equal(line(a, "Qwen/Qwen3-32B", "gptq-int4", "2x v100-sxm2-16gb, nvlink", &p),
	                    "VLLM_USE_V1=0 VLLM_ATTENTION_BACKEND=XFORMERS vllm serve ./Qwen3-32B-gptq-int4 --dtype float16 --quantization gptq "
	                    "--max-model-len 8192 --tensor-parallel-size 2 --gpu-memory-utilization 0.9 --max-num-seqs 256 "
	                    "--max-num-batched-tokens 8192");
	p = params(16384);
	p.type_k = p.type_v = PL_DTYPE_F8_E4M3;
	p.enforce_eager = true;
	p.gpu_memory_utilization_frac = 0.85;
	assert_string_equal(line(a, "Qwen/Qwen3-8B", "fp8", "rtx4090", &p),
	                    "vllm serve Qwen/Qwen3-8B --quantization fp8 --max-model-len 16384 --gpu-memory-utilization 0.85 --max-num-seqs 256 "
	                    "--max-num-batched-tokens 2048 --kv-cache-dtype fp8 --enforce-eager");
	pl_arena_free(a);
}

static void impossible_requests_are_named(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_model *m = model_named(a, "llama3.1-8b", NULL);
	struct pl_layout l;
	struct pl_err err = {0};
	struct pl_params p = params(4096);
	p.tensor_parallel = 3; /* of 32 heads */
	assert_int_equal(engine_named("vllm")->layout(a, m, machine_named(a, "4x rtx3090"), &p, &l, &err), -PL_ERR_RANGE);
	p = params(4096);
	p.tensor_parallel = 4;
	assert_int_equal(engine_named("vllm")->layout(a, m, machine_named(a, "2x rtx3090"), &p, &l, &err), -PL_ERR_RANGE);
	p = params(4096);
	p.type_k = PL_DTYPE_Q8_0;
	assert_int_equal(engine_named("vllm")->layout(a, m, machine_named(a, "rtx3090"), &p, &l, &err), -PL_ERR_UNSUPPORTED);
	p = params(4096);
	p.engine_version = "yesterday";
	assert_int_equal(engine_named("vllm")->layout(a, m, machine_named(a, "rtx3090"), &p, &l, &err), -PL_ERR_RANGE);
	pl_arena_free(a);
}

static void stated_blocks_and_what_is_kept_in_ram(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_model *m = model_named(a, "Qwen/Qwen3-8B", NULL);
	struct pl_params p = params(8192);
	struct pl_layout l = lay(a, m, "h100-sxm", &p);
	uint64_t ram = pl_use_total_bytes(&l.host.use);
	assert_true(l.num_gpu_blocks.value > 1024);
	p = params(8192);
	p.num_gpu_blocks_override = 1024; /* of 16 tokens: two sequences of 8192 */
	p.kv_offload_bytes = 7000000000;
	p.n_seq = 2;
	l = lay(a, m, "h100-sxm", &p);
	assert_int_equal(l.num_gpu_blocks.value, 1024);
	assert_int_equal(l.devices[0].kv_bytes, 1024ull * 16 * 147456);
	assert_int_equal(pl_use_total_bytes(&l.host.use), ram + 7000000000);
	assert_true(l.fits);
	p.n_seq = 3;
	l = lay(a, m, "h100-sxm", &p);
	assert_false(l.fits);
	p.n_seq = 1;
	p.num_gpu_blocks_override = 100000; /* 236 GB */
	l = lay(a, m, "h100-sxm", &p);
	assert_false(l.fits);
	/* images: 4 GiB in the API process and in the engine, none if told so */
	m = model_named(a, "Qwen/Qwen2.5-VL-7B-Instruct", NULL);
	p = params(8192);
	l = lay(a, m, "h100-sxm", &p);
	ram = pl_use_total_bytes(&l.host.use);
	p.mm_cache_bytes = 0;
	l = lay(a, m, "h100-sxm", &p);
	assert_int_equal(ram - pl_use_total_bytes(&l.host.use), UINT64_C(8) << 30);
	pl_arena_free(a);
}

static void ranks_with_the_same_heads_share_a_sequence(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	struct pl_err err = {0};
	struct pl_layout l;
	const struct pl_model *m = model_named(a, "deepseek-ai/DeepSeek-V3", NULL);
	struct pl_params p = params(8192);
	p.tensor_parallel = 8;
	p.enforce_eager = true;
	l = lay(a, m, "8x h200-sxm", &p);
	uint64_t tokens = l.kv_cache_tokens.value, rate = l.kv_bytes_per_token;
	p = params(8192);
	p.tensor_parallel = p.decode_context_parallel = 8; /* one latent row a token: eight times the tokens */
	p.enforce_eager = true;
	l = lay(a, m, "8x h200-sxm", &p);
	assert_int_equal(l.kv_cache_tokens.value, 8 * tokens);
	assert_int_equal(l.kv_bytes_per_token, rate / 8);
	/* 8 heads of keys on 8 ranks are not repeated */
	m = model_named(a, "Qwen/Qwen3-8B", NULL);
	p = params(8192);
	p.tensor_parallel = 8;
	p.decode_context_parallel = 2;
	assert_true(engine_named("vllm")->layout(a, m, machine_named(a, "8x h200-sxm"), &p, &l, &err) < 0);
	assert_int_equal(err.code, PL_ERR_RANGE);
	pl_arena_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(stated_blocks_and_what_is_kept_in_ram),
	    cmocka_unit_test(ranks_with_the_same_heads_share_a_sequence),
	    cmocka_unit_test(one_rank_holds_the_model),
	    cmocka_unit_test(shards_of_llama_by_hand),
	    cmocka_unit_test(shards_sum_to_the_whole_and_what_is_repeated),
	    cmocka_unit_test(stages_hold_every_layer_once_and_a_tied_head_twice),
	    cmocka_unit_test(a_vocabulary_is_padded_before_it_is_cut),
	    cmocka_unit_test(a_stated_pool_becomes_the_blocks_of_the_log),
	    cmocka_unit_test(a_pool_is_foretold),
	    cmocka_unit_test(a_latent_cache_is_repeated_on_every_rank),
	    cmocka_unit_test(a_sparse_row_carries_its_index),
	    cmocka_unit_test(compressed_rows_by_hand),
	    cmocka_unit_test(more_of_the_card_means_more_tokens),
	    cmocka_unit_test(it_refuses_when_one_sequence_has_no_room),
	    cmocka_unit_test(windows_stop_growing),
	    cmocka_unit_test(ranks_fit_and_divide),
	    cmocka_unit_test(experts_that_cannot_be_cut_are_dealt_out),
	    cmocka_unit_test(a_draft_layer_costs_weights_and_cache),
	    cmocka_unit_test(kernels_decide_what_runs_where),
	    cmocka_unit_test(the_launch_line_says_what_was_planned),
	    cmocka_unit_test(impossible_requests_are_named),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
