/* Measured kernels against rows of their source, against the roofline, and what kin borrow. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "speed/kernels.h"

static struct pl_kernels kernels(const char *gpu)
{
	const struct pl_gpu *g = NULL;
	struct pl_kernels k;
	struct pl_err err = {0};
	if (pl_gpu_find(gpu, &g, &err) || !pl_kernels_of(g, &k))
		fail_msg("%s: %s", gpu, err.msg);
	return k;
}

static void near(double got, double want, double part)
{
	if (fabs(got / want - 1) > part)
		fail_msg("%g, measured %g", got, want);
}

/* Rows of the source (aiconfigurator, H200 and B200, TensorRT-LLM, vLLM and SGLang, microseconds). */
static void rows_of_the_source_come_back(void **state)
{
	(void)state;
	struct pl_kernels h200 = kernels("h200-sxm"), b200 = kernels("b200");
	struct pl_curve c;
	/* experts of MiniMax M2 on 4 ranks, nvfp4, 64 tokens: 80.5 us; DeepSeek V3 on 8 ranks, fp8 blocks, 4 tokens: 146.8 us */
	assert_true(pl_kernel_routed(&b200, PL_KERNEL_VLLM, PL_KERNEL_NVFP4, &(struct pl_expert_shape){3072, 1536 / 4, 8, 256, 1}, &c));
	near(pl_curve_s(&c, 64), 80.5e-6, 0.05);
	assert_true(pl_kernel_routed(&h200, PL_KERNEL_TRTLLM, PL_KERNEL_FP8_BLOCK, &(struct pl_expert_shape){7168, 2048 / 8, 8, 256, 1}, &c));
	near(pl_curve_s(&c, 4), 146.8e-6, 0.05);
	/* (16 × 16384) · (16384 × 32768) in bf16: 0.82 of 4.8 TB/s */
	pl_kernel_gemm(&h200, PL_KERNEL_BF16, 32768, 16384, &c);
	near(pl_curve_s(&c, 16), 32768.0 * 16384 * 2 / 4.8e12 / 0.82, 0.1);
	/* the engine's own all-reduce of 8192 values between 8 GPUs takes 3 to 8 us, NCCL's floor is twice that */
	assert_true(pl_kernel_message(&h200, PL_MESSAGE_ALL_REDUCE_GRAPH, 8, 8192 * 2, false, &c));
	assert_in_range((long)(pl_curve_s(&c, 1) * 1e9), 3000, 8000);
}

/* Nothing is faster than the spec peaks allow (2 % for the reading of clocks), and more rows never take less. */
static void curves_stay_below_the_roofline(void **state)
{
	(void)state;
	const char *const cards[] = {"a100-sxm-80", "h100-sxm", "h200-sxm", "b200", "b300", "l40s", "rtx-pro-6000-bw-server"};
	const double shapes[][2] = {{1024, 1024}, {4096, 4096}, {28672, 8192}, {8192, 28672}, {151936, 5120}};
	for (size_t i = 0; i < sizeof cards / sizeof *cards; i++)
		for (size_t j = 0; j < sizeof shapes / sizeof *shapes; j++) {
			struct pl_kernels k = kernels(cards[i]);
			struct pl_curve c;
			double n = shapes[j][0], depth = shapes[j][1], last = 0;
			pl_kernel_gemm(&k, PL_KERNEL_BF16, n, depth, &c);
			for (double m = 1; m <= 65536; m *= 2) {
				double flop_s = 2 * m * n * depth / k.peaks[PL_PEAK_16], read_s = n * depth * 2 / k.peaks[PL_PEAK_MEMORY];
				double s = pl_curve_s(&c, m);
				assert_true(s >= fmax(flop_s, read_s) / 1.03);
				assert_true(s >= last);
				last = s;
			}
		}
}

static void deeper_caches_take_longer(void **state)
{
	(void)state;
	struct pl_kernels k = kernels("h200-sxm");
	const struct pl_kernel_grid *g = pl_kernel_grid(&k, PL_GRID_DECODE_ATTENTION, PL_KERNEL_BF16);
	double last = 0;
	assert_non_null(g);
	for (double past = 16; past <= 131072; past *= 1.5) {
		double bytes = 8 * past * 8 * 256 * 2.0, s = pl_grid_s(g, log2(bytes), log2(past), bytes / 4.8e12);
		assert_true(s >= last * 0.999);
		assert_true(s >= bytes / 4.8e12);
		last = s;
	}
}

/* A card nobody measured keeps its own roofline and borrows the utilisation of its kin. */
static void kin_keep_their_own_roofline(void **state)
{
	(void)state;
	struct pl_kernels ada = kernels("rtx4090"), l40s = kernels("l40s");
	struct pl_curve a, b;
	const struct pl_gpu *volta = NULL;
	struct pl_err err = {0};
	assert_true(ada.kin);
	assert_false(l40s.kin);
	assert_int_equal(ada.system, l40s.system);
	pl_kernel_gemm(&ada, PL_KERNEL_BF16, 16384, 16384, &a);
	pl_kernel_gemm(&l40s, PL_KERNEL_BF16, 16384, 16384, &b);
	near(pl_curve_s(&b, 1) / pl_curve_s(&a, 1), ada.peaks[PL_PEAK_MEMORY] / l40s.peaks[PL_PEAK_MEMORY], 0.01);
	assert_int_equal(pl_gpu_find("v100-sxm2-32gb", &volta, &err), 0);
	assert_false(pl_kernels_of(volta, &ada));
	struct pl_kernels cdna = kernels("mi300x");
	assert_true(cdna.foreign && cdna.kin); /* another maker's curves under its own roofline */
	near(cdna.peaks[PL_PEAK_MEMORY], 5.3e12, 0.01);
}

/* Groups on PCIe reach each other unless the hardware says they do not; DeepEP's kernels take what they were measured to. */
static void messages_follow_topology(void **state)
{
	(void)state;
	struct pl_kernels l40s = kernels("l40s"), h100 = kernels("h100-sxm");
	struct pl_curve peers, staged, two, dispatch;
	assert_true(pl_kernel_staged(&l40s, 8));
	assert_false(pl_kernel_staged(&h100, 8));
	assert_true(pl_kernel_message(&l40s, PL_MESSAGE_ALL_REDUCE, 8, 16384, false, &peers));
	assert_true(pl_kernel_message(&l40s, PL_MESSAGE_ALL_REDUCE, 8, 16384, true, &staged));
	assert_true(pl_kernel_message(&l40s, PL_MESSAGE_ALL_REDUCE, 2, 16384, false, &two));
	assert_true(pl_curve_s(&peers, 4096) < pl_curve_s(&staged, 4096) / 4);
	assert_true(pl_curve_s(&peers, 4096) > pl_curve_s(&two, 4096));
	/* 128 tokens of 7168 bytes to 8 experts each: data/kernels/deepep.csv says 36.6 µs */
	assert_true(pl_kernel_message(&h100, PL_MESSAGE_DISPATCH, 8, 8 * 7168, false, &dispatch));
	near(pl_curve_s(&dispatch, 128), 36.6e-6, 0.1);
}

/* Watts rise with what a kernel reaches; between grid points they lie on the line; a card nobody measured has them too. */
static void watts_rise_with_utilisation(void **state)
{
	(void)state;
	const char *cards[] = {"h200-sxm", "rtx4090", "mi300x", "a100-sxm-80"};
	for (size_t c = 0; c < sizeof cards / sizeof *cards; c++) {
		const struct pl_gpu *g = NULL;
		const float *shares[PL_POWER_CAUSES];
		struct pl_err err = {0};
		if (pl_gpu_find(cards[c], &g, &err))
			fail_msg("%s", err.msg);
		assert_non_null(pl_kernel_power_of(g, shares));
		for (int i = 0; i < PL_POWER_CAUSES; i++)
			for (double u = 0, last = 0; u <= 1; u += 0.01) {
				double now = pl_power_share(shares[i], u);
				assert_true(now > 0 && now <= 1 && now >= last - 1e-9);
				last = now;
			}
	}
	float shares[PL_POWER_POINTS] = {0.2F, 0.2F, 0.2F, 0.2F, 0.2F, 0.2F, 0.2F, 0.4F, 0.6F, 0.8F};
	near(pl_power_share(shares, 0.7), 0.5, 1e-6); /* halfway from 0.6 to 0.8 */
	near(pl_power_share(shares, 2), 0.8, 1e-6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(rows_of_the_source_come_back),
	    cmocka_unit_test(curves_stay_below_the_roofline),
	    cmocka_unit_test(deeper_caches_take_longer),
	    cmocka_unit_test(messages_follow_topology), cmocka_unit_test(kin_keep_their_own_roofline),
	    cmocka_unit_test(watts_rise_with_utilisation),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
