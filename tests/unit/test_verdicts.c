/* Machines people ask about, each with a verdict that follows from published sizes: parameters × bytes against the memory there is.
 * The names are Llama 2's where a document says only "7B", "13B" or "70B". */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <plimsoll/plan.h>

#include "../named.h"

#define L7 "meta-llama/Llama-2-7b-hf"
#define L13 "meta-llama/Llama-2-13b-hf"
#define L70 "meta-llama/Llama-2-70b-hf"
#define D70 "deepseek-ai/DeepSeek-R1-Distill-Llama-70B"
#define Q32 "Qwen/Qwen3-32B"
#define R1 "deepseek-ai/DeepSeek-R1"

enum wish { GPU, PART, CPU, NOT }; /* fits on GPUs; with the help of RAM; on the CPU; not on the GPUs alone */
static const struct {
	const char *model, *quant, *machine, *engine;
	uint32_t tp, pp;
	enum wish wish;
} rows[] = {
    /* 32.8 B: 19.4 GB at 4 bit, 33 at 8, 65.6 at 16 */
    {Q32, "gptq-int4", "2x v100-sxm2-16gb, nvlink", NULL, 0, 0, GPU}, {Q32, "int8", "2x v100-sxm2-16gb, nvlink", NULL, 0, 0, NOT},
    {Q32, "f16", "2x v100-sxm2-16gb, nvlink", NULL, 0, 0, NOT}, {Q32, "gptq-int4", "2x mi50", NULL, 0, 0, GPU},
    {Q32, "q4_k_m", "rtx2080ti, ram 64GiB", NULL, 0, 0, PART}, {Q32, "q4_k_m", "gpu-22GiB, ram 64GiB", NULL, 0, 0, GPU},
    {Q32, "q4_k_m", "rtx5090, ram 64GiB", NULL, 0, 0, GPU}, {Q32, "q4_k_m", "rtx4090, ram 64GiB", NULL, 0, 0, GPU},
    {Q32, "q4_k_m", "rtx5080, ram 64GiB", NULL, 0, 0, PART}, {Q32, "q4_k_m", "l4", NULL, 0, 0, GPU},
    /* 6.7 B: 27, 13.5, 7.2, 4.1 GB at 32, 16, 8, 4 bit */
    {L7, "f32", "a100-40, ram 64GiB", "llama.cpp", 0, 0, GPU}, {L7, "f32", "rtx4090, ram 64GiB", "llama.cpp", 0, 0, PART},
    {L7, "f16", "rtx3090", NULL, 0, 0, GPU}, {L7, "q8_0", "rtx3060", NULL, 0, 0, GPU}, {L7, "q8_0", "rtx4070", NULL, 0, 0, GPU},
    {L7, "q4_k_m", "rtx3070", NULL, 0, 0, GPU}, {L7, "f16", "rtx4070, ram 64GiB", NULL, 0, 0, PART}, {L7, "f16", "t4", NULL, 0, 0, GPU},
    {L7, "f16", "l4", NULL, 0, 0, GPU},
    /* 13 B: 26, 13.8, 7.9 GB */
    {L13, "q4_k_m", "rtx4070", NULL, 0, 0, GPU}, {L13, "q8_0", "rtx4070, ram 64GiB", NULL, 0, 0, PART}, {L13, "f16", "rtx4090, ram 64GiB", NULL, 0, 0, PART},
    {L13, "q8_0", "rtx4090", NULL, 0, 0, GPU}, {L13, "f16", "rtx5090", NULL, 0, 0, GPU}, {L13, "f16", "a10", NULL, 0, 0, NOT},
    {L13, "q8_0", "a10", NULL, 0, 0, GPU}, {L13, "f16", "a100-40", NULL, 0, 0, GPU}, {L13, "f16", "2x a10", "vllm", 2, 0, GPU},
    {L13, "f16", "2x a100-sxm4-40gb, nvlink", "tensorrt-llm", 0, 0, GPU},
    /* 69 and 70.6 B: 138 to 141, 73 to 75, 41 GB */
    {L70, "f16", "8x a10", NULL, 0, 0, GPU}, {L70, "q8_0", "4x a10", NULL, 0, 0, GPU}, {L70, "q4_k_m", "2x rtx3090, ram 64GiB", NULL, 0, 0, GPU},
    {L70, "q4_k_m", "rtx4070, ram 64GiB", NULL, 0, 0, PART}, {L70, "q4_k_m", "2x rtx4090", NULL, 0, 0, GPU}, {L70, "q8_0", "rtx5090", NULL, 0, 0, NOT},
    {L70, "q8_0", "3x rtx5090", NULL, 0, 0, GPU}, {L70, "q4_k_m", "rtx5090", NULL, 0, 0, NOT}, {L70, "f16", "a100-40", NULL, 0, 0, NOT},
    {L70, "f16", "5x a100-40", NULL, 0, 0, GPU}, {L70, "f16", "4x a100-sxm4-80gb", NULL, 0, 0, GPU}, {L70, "f16", "2x h100-sxm", NULL, 0, 0, GPU},
    {L70, "fp8", "h100-sxm", "vllm", 0, 0, GPU}, {D70, "bf16", "a100-80", NULL, 0, 0, NOT}, {D70, "bf16", "2x a100-sxm4-80gb", "vllm", 2, 0, GPU},
    {D70, "gptq-int4", "rtx4090", "vllm", 0, 0, NOT}, {D70, "gptq-int4", "2x rtx4090", "vllm", 2, 0, GPU},
    {D70, "gptq-int4", "2x rtx4090", "vllm", 0, 2, GPU}, {D70, "bf16", "2x rtx4090", "vllm", 0, 0, NOT},
    /* 72.3 B with a cache of whole heads: 44 GB at 4 bit */
    {"Qwen/Qwen-72B-Chat", "q4_k_m", "gpu-32GiB, ram 64GiB", NULL, 0, 0, PART},
    /* 671 B: 689 GB as published, 1342 in 16 bit, 404 at 4 */
    {R1, NULL, "dgx-h200", "vllm", 0, 0, GPU}, {R1, NULL, "dgx-h100", "vllm", 0, 0, NOT}, {R1, NULL, "2x dgx-h100", "vllm", 0, 0, GPU},
    {R1, NULL, "8x mi300x", "sglang", 0, 0, GPU}, {R1, NULL, "16x h20", "vllm", 0, 0, GPU}, {R1, NULL, "gb200-nvl72", "vllm", 0, 0, GPU},
    {R1, "bf16", "20x a100-pcie-80gb", "vllm", 0, 0, GPU}, {R1, "bf16", "dgx-h200", "vllm", 0, 0, NOT},
    {R1, "q8_0", "cpu, ram 768GiB", NULL, 0, 0, CPU}, {R1, "q4_k_m", "cpu, ram 448GiB", NULL, 0, 0, CPU},
};

static bool as_wished(enum pl_verdict v, enum wish w)
{
	switch (w) {
	case GPU: return v == PL_VERDICT_FITS_GPU;
	case PART: return v == PL_VERDICT_HYBRID;
	case CPU: return v == PL_VERDICT_CPU;
	case NOT: return v != PL_VERDICT_FITS_GPU;
	}
	return false;
}

static void verdicts_follow_from_published_sizes(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct pl_arena *a = pl_arena_new(0);
		struct pl_plan_request req = {.model = model_named(a, rows[i].model, rows[i].quant), .machine = machine_named(a, rows[i].machine),
		                              .engine = rows[i].engine ? engine_named(rows[i].engine) : NULL, .no_suggestions = true};
		const struct pl_plan *p = NULL;
		struct pl_err err = {0};
		pl_params_default(&req.params);
		req.params.n_ctx_tokens = 2048;
		req.params.tensor_parallel = rows[i].tp;
		req.params.pipeline_parallel = rows[i].pp;
		if (pl_plan_make(a, &req, &p, &err))
			fail_msg("%s on %s: %s", rows[i].model, rows[i].machine, err.msg);
		if (!as_wished(p->verdict, rows[i].wish))
			fail_msg("%s %s on %s: %s by %s", rows[i].model, rows[i].quant ? rows[i].quant : "", rows[i].machine, pl_verdict_name(p->verdict),
			         p->engine->id);
		pl_arena_free(a);
	}
}

/* Its scheduler has room for 16 backends, the CPU among them. */
static void llama_cpp_takes_fifteen_gpus(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_engine *e = engine_named("llama.cpp");
	const struct pl_model *m = model_named(a, L70, "q4_k_m");
	const char *why = NULL;
	assert_int_equal(e->supports(a, m, machine_named(a, "15x rtx3090"), &why), PL_SUPPORT_YES);
	assert_int_equal(e->supports(a, m, machine_named(a, "16x rtx3090"), &why), PL_SUPPORT_NO);
	assert_non_null(strstr(why, "15"));
	pl_arena_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(verdicts_follow_from_published_sizes),
	    cmocka_unit_test(llama_cpp_takes_fifteen_gpus),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
