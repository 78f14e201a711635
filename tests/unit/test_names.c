/* Every catalogued card by the names that drivers, programs and people give it. */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <plimsoll/catalog.h>
#include <plimsoll/hardware.h>

static void card_is(const char *asked, const struct pl_gpu *want)
{
	const struct pl_gpu *g = NULL;
	struct pl_err err = {0};
	if (pl_gpu_find(asked, &g, &err) || g != want)
		fail_msg("'%s' of %s is taken for %s", asked, want->id, g ? g->id : err.msg);
}

static void upper(char *s)
{
	for (; *s; s++)
		*s = (char)toupper((unsigned char)*s);
}

static void every_card_is_found_by_its_names(void **state)
{
	uint32_t n;
	const struct pl_gpu *gpus = pl_catalog_gpus(&n);
	(void)state;
	for (uint32_t i = 0; i < n; i++) {
		char text[256];
		const char *maker = strchr(gpus[i].id, '-');
		card_is(gpus[i].id, &gpus[i]);
		card_is(gpus[i].name, &gpus[i]);
		card_is(maker + 1, &gpus[i]);
		(void)snprintf(text, sizeof text, "%s", gpus[i].name);
		upper(text);
		card_is(text, &gpus[i]);
		(void)snprintf(text, sizeof text, "%s (a remark)", gpus[i].id);
		card_is(text, &gpus[i]);
		if (gpus[i].mem_is_nominal) { /* as shops write it */
			(void)snprintf(text, sizeof text, "%s %.0fGB", maker + 1, (double)gpus[i].mem_bytes / 0x1p30);
			card_is(text, &gpus[i]);
		}
	}
}

/* A laptop's part is another chip than the card of its number. */
static void a_laptop_part_is_no_card(void **state)
{
	static const char *const ways[] = {"%s Laptop GPU", "%s Laptop", "%s Mobile", "%s mobile 8GB", "%s Max-Q", "%s with Max-Q Design"};
	uint32_t n, laptops = 0;
	const struct pl_gpu *gpus = pl_catalog_gpus(&n);
	(void)state;
	for (uint32_t i = 0; i < n; i++) {
		laptops += !strcmp(gpus[i].form_factor, "laptop");
		if (strncmp(gpus[i].name, "NVIDIA GeForce", 14) || !strcmp(gpus[i].form_factor, "laptop"))
			continue;
		for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
			char text[256];
			const struct pl_gpu *g;
			struct pl_err err = {0};
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
			(void)snprintf(text, sizeof text, ways[w], gpus[i].name);
#pragma GCC diagnostic pop
			if (!pl_gpu_find(text, &g, &err) && strcmp(g->form_factor, "laptop"))
				fail_msg("'%s' is taken for %s", text, g->id);
		}
	}
	assert_true(laptops > 30);
}

static void drivers_and_people_are_understood(void **state)
{
	static const char *const cases[][2] = {
	    {"NVIDIA GeForce RTX 3090", "nvidia-rtx-3090"}, {"RTX 3090 24GB", "nvidia-rtx-3090"}, {"Tesla V100 32GB", "nvidia-v100-sxm2-32"},
	    {"Tesla V100-SXM2-16GB", "nvidia-v100-sxm2-16"}, {"A100 80GB", "nvidia-a100-sxm-80"}, {"H100 SXM", "nvidia-h100-sxm-80"},
	    {"AMD Radeon RX 7900 XTX (RADV NAVI31)", "amd-rx-7900xtx"}, {"Apple M4 Max (40 core GPU)", "apple-m4-max"},
	    {"Apple M1 7-Core GPU", "apple-m1"}, {"M3 Ultra", "apple-m3-ultra"}, {"RTX PRO 6000 Blackwell", "nvidia-rtx-pro-6000-bw"},
	    {"RTX PRO 6000 Blackwell Max-Q 96GB", "nvidia-rtx-pro-6000-bw-maxq"}, {"RTX 5090 mobile 24GB", "nvidia-rtx-5090-laptop"},
	    {"Intel(R) UHD Graphics 770", "intel-uhd-770"}, {"Intel(R) Iris(R) Xe Graphics", "intel-iris-xe"},
	    {"Intel Alder Lake-P GT2 [Iris Xe Graphics] (integrated)", "intel-iris-xe"}, {"Intel(R) Arc(TM) A770 Graphics", "intel-arc-a770-16"},
	    {"Intel Arc Graphics 130V/140V (integrated)", "intel-arc-140v"}, {"AMD Radeon 780M Graphics (RADV PHOENIX)", "amd-radeon-780m"},
	    {"AMD Radeon Graphics (RADV GFX1103_R1)", "amd-radeon-780m"}, {"AMD Radeon 890M iGPU 48GB UMA", "amd-radeon-890m"},
	    {"AMD Instinct MI60/MI50", "amd-mi60"}, {"GTX 1060", "nvidia-gtx-1060-6"}, {"RX 9060 XT", "amd-rx-9060xt-16"},
	    {"3050", "nvidia-rtx-3050-8"}, {"Ryzen AI Max+ 395 / Radeon 8060S", "amd-strix-halo-8060s"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const struct pl_gpu *g = NULL;
		struct pl_err err = {0};
		if (pl_gpu_find(cases[i][0], &g, &err) || strcmp(g->id, cases[i][1]))
			fail_msg("'%s' is taken for %s, not %s", cases[i][0], g ? g->id : err.msg, cases[i][1]);
	}
}

/* An integrated GPU has what RAM the machine has; a part beside soldered memory has its own. */
static void integrated_parts_borrow_ram(void **state)
{
	const struct pl_gpu *g;
	struct pl_err err = {0};
	const struct pl_machine *hw;
	struct pl_arena *a = pl_arena_new(0);
	(void)state;
	assert_int_equal(pl_gpu_find("780m", &g, &err), 0);
	assert_true(pl_gpu_borrows_ram(g));
	assert_int_equal(pl_gpu_find("strix-halo", &g, &err), 0);
	assert_false(pl_gpu_borrows_ram(g));
	assert_int_equal(pl_machine_parse(a, "radeon 780m, ram 32GiB ddr5-5600", &hw, &err), 0);
	assert_int_equal(hw->devices[0].total_bytes, UINT64_C(16) << 30);
	assert_true(hw->ram_bytes_per_s > 89e9 && hw->ram_bytes_per_s < 90e9);
	pl_arena_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(every_card_is_found_by_its_names), cmocka_unit_test(a_laptop_part_is_no_card),
	                                   cmocka_unit_test(drivers_and_people_are_understood), cmocka_unit_test(integrated_parts_borrow_ram)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
