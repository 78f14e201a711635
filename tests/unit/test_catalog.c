#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <plimsoll/catalog.h>
#include <plimsoll/hardware.h>

static void cards_are_found_however_they_are_written(void **state)
{
	static const struct {
		const char *asked, *id;
	} names[] = {
	    {"4090", "nvidia-rtx-4090"}, {"RTX 4090", "nvidia-rtx-4090"}, {"rtx4090", "nvidia-rtx-4090"},
	    {"NVIDIA GeForce RTX 4090", "nvidia-rtx-4090"}, {"rtx_4090", "nvidia-rtx-4090"}, {"4090d", "nvidia-rtx-4090d"},
	    {"3090", "nvidia-rtx-3090"}, {"rtx3090ti", "nvidia-rtx-3090ti"}, {"NVIDIA GeForce RTX 3090 Ti", "nvidia-rtx-3090ti"},
	    {"5090", "nvidia-rtx-5090"}, {"rtx4060ti-16gb", "nvidia-rtx-4060ti-16"}, {"5060ti-16gb", "nvidia-rtx-5060ti-16"},
	    {"4060 ti 8gb", "nvidia-rtx-4060ti-8"}, {"3060", "nvidia-rtx-3060-12"}, {"3060-12g", "nvidia-rtx-3060-12"},
	    {"3080", "nvidia-rtx-3080-10"}, {"2080ti", "nvidia-rtx-2080ti"}, {"2080ti 22 mod", "nvidia-rtx-2080ti-22-mod"},
	    {"4080 super", "nvidia-rtx-4080s"}, {"NVIDIA GeForce RTX 4080 SUPER", "nvidia-rtx-4080s"},
	    {"a100-80g", "nvidia-a100-sxm-80"}, {"A100 SXM4 80GB", "nvidia-a100-sxm-80"}, {"NVIDIA A100-SXM4-80GB", "nvidia-a100-sxm-80"},
	    {"NVIDIA A100-SXM4-40GB", "nvidia-a100-sxm-40"}, {"a100-pcie-80", "nvidia-a100-pcie-80"}, {"a100-pcie-40gb", "nvidia-a100-pcie-40"},
	    {"h100", "nvidia-h100-sxm-80"}, {"NVIDIA H100 80GB HBM3", "nvidia-h100-sxm-80"}, {"h100-pcie", "nvidia-h100-pcie-80"},
	    {"h100 nvl", "nvidia-h100-nvl-94"}, {"h200-sxm", "nvidia-h200-sxm-141"}, {"h200", "nvidia-h200-sxm-141"},
	    {"NVIDIA H200", "nvidia-h200-sxm-141"}, {"b200", "nvidia-b200-180"}, {"b300", "nvidia-b300-288"}, {"gb200", "nvidia-gb200"},
	    {"gh200", "nvidia-gh200-96"}, {"h20", "nvidia-h20-96"}, {"v100-sxm2-16gb", "nvidia-v100-sxm2-16"},
	    {"Tesla V100-SXM2-16GB", "nvidia-v100-sxm2-16"}, {"v100-sxm2-32gb", "nvidia-v100-sxm2-32"}, {"v100 pcie 32", "nvidia-v100-pcie-32"},
	    {"Tesla T4", "nvidia-t4"}, {"t4", "nvidia-t4"}, {"p40", "nvidia-p40"}, {"Tesla P40", "nvidia-p40"}, {"l4", "nvidia-l4"},
	    {"l40", "nvidia-l40"}, {"l40s", "nvidia-l40s"}, {"a10", "nvidia-a10"}, {"a10g", "nvidia-a10g"}, {"a2", "nvidia-a2"},
	    {"a6000", "nvidia-rtx-a6000"}, {"rtx a6000", "nvidia-rtx-a6000"}, {"rtx 6000 ada", "nvidia-rtx-6000-ada"},
	    {"rtx pro 6000", "nvidia-rtx-pro-6000-bw"}, {"mi300x", "amd-mi300x"}, {"AMD Instinct MI210", "amd-mi210"}, {"mi50-32gb", "amd-mi50-32"},
	    {"7900xtx", "amd-rx-7900xtx"}, {"rx 7900 xtx", "amd-rx-7900xtx"}, {"Radeon RX 7900 XT", "amd-rx-7900xt"}, {"9070xt", "amd-rx-9070xt"},
	    {"b580", "intel-arc-b580"}, {"arc a770", "intel-arc-a770-16"}, {"gaudi3", "intel-gaudi3"}, {"910b3", "huawei-910b3-64"},
	    {"910b", "huawei-910b3-64"}, {"m3 ultra", "apple-m3-ultra"}, {"Apple M4 Max", "apple-m4-max"}, {"gb10", "nvidia-gb10"},
	    {"dgx spark", "nvidia-gb10"}, {"strix halo", "amd-strix-halo-8060s"}, {"tpu v5e", "google-tpu-v5e"}, {"mi355x", "amd-mi355x"},
	    {"NVIDIA GeForce GTX 1080 8GB", "nvidia-gtx-1080"}, {"1080 ti", "nvidia-gtx-1080ti"}, {"RTX 5070 Ti 16GB", "nvidia-rtx-5070ti"},
	    {"NVIDIA B300 SXM 288GB", "nvidia-b300-288"}, {"AMD Instinct MI300X OAM", "amd-mi300x"}, {"rx 7600", "amd-rx-7600"},
	    {"Intel(R) Arc(TM) A770 Graphics", "intel-arc-a770-16"}, {"h200 pcie", "nvidia-h200-nvl-141"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		const struct pl_gpu *g = NULL;
		struct pl_err err = {0};
		if (pl_gpu_find(names[i].asked, &g, &err))
			fail_msg("'%s': %s", names[i].asked, err.msg);
		if (strcmp(g->id, names[i].id))
			fail_msg("'%s' gave %s, not %s", names[i].asked, g->id, names[i].id);
	}
}

static void a_miss_says_what_is_near(void **state)
{
	(void)state;
	const struct pl_gpu *g = NULL;
	const struct pl_model_row *row = NULL;
	struct pl_err err = {0};
	assert_int_equal(pl_gpu_find("rtx 4091", &g, &err), -PL_ERR_UNKNOWN_NAME);
	assert_non_null(strstr(err.msg, "nvidia-rtx-4090"));
	assert_int_equal(pl_gpu_find("a100", &g, &err), -PL_ERR_UNKNOWN_NAME); /* 40 or 80 GB: nobody can guess */
	assert_non_null(strstr(err.msg, "nvidia-a100-sxm-80"));
	assert_int_equal(pl_gpu_find("RTX 3090 48GB", &g, &err), -PL_ERR_UNKNOWN_NAME); /* no card of that size bears the name */
	assert_int_equal(pl_gpu_find("NVIDIA GeForce RTX 3090 Laptop GPU", &g, &err), -PL_ERR_UNKNOWN_NAME); /* another chip */
	assert_int_equal(pl_gpu_find("", &g, &err), -PL_ERR_UNKNOWN_NAME);
	assert_int_equal(pl_gpu_find("zzzzzzzzzzzzzzzz", &g, &err), -PL_ERR_UNKNOWN_NAME);
	assert_null(g);
	assert_int_equal(pl_model_row_find("Qwen/Qwen3-33B", &row, &err), -PL_ERR_UNKNOWN_NAME);
	assert_non_null(strstr(err.msg, "Qwen/Qwen3-32B"));
}

static void models_are_found_however_they_are_written(void **state)
{
	static const struct {
		const char *asked, *id;
	} names[] = {{"Qwen/Qwen3-32B", "Qwen/Qwen3-32B"}, {"qwen3-32b", "Qwen/Qwen3-32B"}, {"qwen3:32b", "Qwen/Qwen3-32B"},
	             {"deepseek-ai/DeepSeek-R1", "deepseek-ai/DeepSeek-R1"}, {"deepseek r1", "deepseek-ai/DeepSeek-R1"},
	             {"llama3.1-8b", "meta-llama/Meta-Llama-3.1-8B"}, {"llama-3.1-8b-instruct", "meta-llama/Llama-3.1-8B-Instruct"},
	             {"QWEN/qwen3-32b", "Qwen/Qwen3-32B"}};
	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		const struct pl_model_row *row = NULL;
		struct pl_err err = {0};
		if (pl_model_row_find(names[i].asked, &row, &err))
			fail_msg("'%s': %s", names[i].asked, err.msg);
		if (strcmp(row->id, names[i].id))
			fail_msg("'%s' gave %s, not %s", names[i].asked, row->id, names[i].id);
	}
}

static void the_catalogue_is_as_large_as_promised_and_sourced(void **state)
{
	uint32_t n, unsourced = 0;
	(void)state;
	const struct pl_gpu *g = pl_catalog_gpus(&n);
	assert_true(n >= 150);
	for (uint32_t i = 0; i < n; i++) {
		const struct pl_gpu *found = NULL;
		struct pl_err err;
		unsourced += !*g[i].source_url;
		assert_int_equal(pl_gpu_find(g[i].id, &found, &err), 0);
		assert_ptr_equal(found, &g[i]);
		assert_int_equal(pl_gpu_find(g[i].name, &found, &err), 0); /* its own name finds it, or a card of the same memory */
		assert_true(found->mem_bytes == g[i].mem_bytes);
	}
	assert_true(unsourced <= 2);
	const struct pl_model_row *m = pl_catalog_models(&n);
	assert_true(n >= 300);
	for (uint32_t i = 0; i < n; i++) {
		const struct pl_model_row *found = NULL;
		struct pl_err err;
		assert_int_equal(pl_model_row_find(m[i].id, &found, &err), 0);
		assert_ptr_equal(found, &m[i]);
	}
}

static void the_hardware_line_reads_what_people_write(void **state)
{
	static const struct {
		const char *line;
		uint32_t n, nodes;
		uint64_t first_bytes, ram_gib;
	} lines[] = {
	    {"2x v100-sxm2-16gb, nvlink, ram 64GiB", 2, 1, UINT64_C(16) << 30, 64},
	    {"2x rtx3090 + 1x rtx4060ti-16gb, pcie4 x8, cpu i9-13900k, ram 64GiB ddr5-5600", 3, 1, UINT64_C(24) << 30, 64},
	    {"1x rtx4090 + 2x rtx3090", 3, 1, 0, 0}, {"gpu-24GiB", 1, 1, UINT64_C(24) << 30, 0},
	    {"4 x gpu-24105MiB, ram 128 GB", 4, 1, UINT64_C(24105) << 20, 128}, {"dgx-h200", 8, 1, 0, 2048},
	    {"2x hgx-h100", 16, 2, 0, 2048}, {"aws:p5.48xlarge", 8, 1, 0, 2048}, {"p5.48xlarge", 8, 1, 0, 2048},
	    {"cpu, ram 64GiB", 0, 1, 0, 64}, {"2× rtx3090，内存 64GiB", 2, 1, UINT64_C(24) << 30, 64}, {"m4-max-64gb", 1, 1, UINT64_C(64) << 30, 64},
	    {"8x h200-sxm", 8, 1, 0, 0}, {"RTX 4090, RAM: 96GB DDR5-6000 2ch", 1, 1, 0, 96}, {"strix-halo-64gb", 1, 1, UINT64_C(64) << 30, 64},
	};
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
		const struct pl_machine *m = NULL;
		struct pl_err err = {0};
		if (pl_machine_parse(a, lines[i].line, &m, &err))
			fail_msg("'%s': %s", lines[i].line, err.msg);
		if (m->n_devices != lines[i].n || m->n_nodes != lines[i].nodes)
			fail_msg("'%s': %u devices, %u nodes", lines[i].line, m->n_devices, m->n_nodes);
		assert_true(!lines[i].first_bytes || m->devices[0].total_bytes == lines[i].first_bytes);
		assert_int_equal(m->ram_bytes.known, lines[i].ram_gib != 0);
		assert_true(!lines[i].ram_gib || m->ram_bytes.value == lines[i].ram_gib << 30);
	}
	const struct pl_machine *m = NULL;
	struct pl_err err = {0};
	assert_int_equal(pl_machine_parse(a, lines[1].line, &m, &err), 0);
	assert_true(m->devices[0].pcie_gen == 4 && m->devices[0].pcie_lanes == 8);
	assert_true(fabs(m->ram_bytes_per_s - 89.6e9) < 1e6); /* 5600 MT/s × 8 bytes × 2 channels */
	assert_int_equal(pl_machine_parse(a, "rtx4090, disk sata, ram 64GiB", &m, &err), 0);
	assert_true(fabs(m->disk_bytes_per_s - 0.55e9) < 1); /* data/links.csv, sata3-ssd */
	assert_int_equal(pl_machine_parse(a, "cpu, disk 3.2 GB/s", &m, &err), 0);
	assert_true(fabs(m->disk_bytes_per_s - 3.2e9) < 1);
	static const char *const no_disks[] = {"cpu, disk", "cpu, disk floppy", "cpu, disk -2GB/s", "cpu, disk nanGB/s", "cpu, disk 1e300GB/s", "cpu, disk 3"};
	for (size_t i = 0; i < sizeof no_disks / sizeof *no_disks; i++)
		assert_int_equal(pl_machine_parse(a, no_disks[i], &m, &(struct pl_err){0}), -PL_ERR_FORMAT);
	pl_arena_free(a);
}

static void the_hardware_line_refuses_nonsense_with_a_sentence(void **state)
{
	static const char *const lines[] = {
	    "", " ", ",", "+", "rtx4090 +", "+ rtx4090", "0x rtx4090", "-2x rtx4090", "99999x rtx4090", "129x rtx4090", "3x",
	    "nosuchcard", "gpu-", "gpu-24", "gpu--24GiB", "gpu-0GiB", "gpu-99999TiB", "gpu-nanGiB", "gpu-infGiB", "gpu-1e300GiB",
	    "rtx4090,", "rtx4090, ,", "rtx4090, ram", "rtx4090, ram x", "rtx4090, ram -5GiB", "rtx4090, ram 64", "rtx4090, ram 64GiB ddr",
	    "rtx4090, ram 64GiB ddr5-", "rtx4090, ram 64GiB ddr5-99999999", "rtx4090, ram 64GiB 0ch", "rtx4090, pcie9", "rtx4090, pcie4 x3",
	    "rtx4090, pcie4 x8 y", "rtx4090, cores 0", "rtx4090, cores many", "rtx4090, colour red", "a100", "rtx4090; ram 64GiB x",
	    "rtx4090 rtx3090", "2x 2x rtx4090", "rtx4090 + + rtx3090", "m4-max-9999gb", "%s%s%n", "gpu-24GiB + dgx-nosuch"};
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
		const struct pl_machine *m = NULL;
		struct pl_err err = {0};
		if (!pl_machine_parse(a, lines[i], &m, &err))
			fail_msg("'%s' was read as %s", lines[i], m->description);
		assert_true(strlen(err.msg) > 10);
		assert_null(m);
	}
	char long_line[5000];
	const struct pl_machine *m = NULL;
	struct pl_err err = {0};
	memset(long_line, '+', sizeof long_line - 1);
	long_line[sizeof long_line - 1] = '\0';
	assert_int_equal(pl_machine_parse(a, long_line, &m, &err), -PL_ERR_LIMIT);
	pl_arena_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(cards_are_found_however_they_are_written),
	    cmocka_unit_test(a_miss_says_what_is_near),
	    cmocka_unit_test(models_are_found_however_they_are_written),
	    cmocka_unit_test(the_catalogue_is_as_large_as_promised_and_sourced),
	    cmocka_unit_test(the_hardware_line_reads_what_people_write),
	    cmocka_unit_test(the_hardware_line_refuses_nonsense_with_a_sentence),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
