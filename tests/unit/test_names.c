/* Every catalogued card and model by the names that drivers, programs and people give it. */
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
#include <plimsoll/model.h>

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

/* ---- models ----------------------------------------------------------------------------------------------------------- */

static bool same_shape(struct pl_arena *a, const struct pl_model_row *x, const struct pl_model_row *y)
{
	const struct pl_model *m, *n;
	struct pl_err err = {0};
	if (pl_model_from_config(a, x->id, x->config_json, x->config_len, NULL, &m, &err) ||
	    pl_model_from_config(a, y->id, y->config_json, y->config_len, NULL, &n, &err))
		return false;
	return m->n_layers == n->n_layers && m->n_embd == n->n_embd && m->n_vocab == n->n_vocab;
}

static void model_is(struct pl_arena *a, const char *asked, const struct pl_model_row *want)
{
	const struct pl_model_row *row = NULL;
	struct pl_err err = {0};
	if (pl_model_row_find(asked, &row, &err))
		fail_msg("'%s' of %s: %s", asked, want->id, err.msg);
	if (row != want && !same_shape(a, row, want))
		fail_msg("'%s' of %s is taken for %s", asked, want->id, row->id);
}

static void every_model_is_found_by_its_names(void **state)
{
	uint32_t n;
	const struct pl_model_row *rows = pl_catalog_models(&n);
	(void)state;
	for (uint32_t i = 0; i < n; i++) {
		struct pl_arena *a = pl_arena_new(0);
		char text[256], owner[96];
		const char *name = strchr(rows[i].id, '/') ? strchr(rows[i].id, '/') + 1 : rows[i].id;
		(void)snprintf(owner, sizeof owner, "%.*s", (int)strcspn(rows[i].id, "/"), rows[i].id);
		model_is(a, rows[i].id, &rows[i]);
		model_is(a, name, &rows[i]);
		(void)snprintf(text, sizeof text, "unsloth/%s-GGUF", name);
		model_is(a, text, &rows[i]);
		(void)snprintf(text, sizeof text, "bartowski/%s_%s-GGUF", owner, name);
		model_is(a, text, &rows[i]);
		(void)snprintf(text, sizeof text, "%s-UD-Q4_K_XL-00001-of-00003.gguf", name);
		model_is(a, text, &rows[i]);
		(void)snprintf(text, sizeof text, "mlx-community/%s-4bit", name);
		model_is(a, text, &rows[i]);
		(void)snprintf(text, sizeof text, "%s-AWQ", name);
		upper(text);
		model_is(a, text, &rows[i]);
		pl_arena_free(a);
	}
}

static void files_and_tags_are_understood(void **state)
{
	static const char *const cases[][2] = {
	    {"qwen3:8b", "Qwen/Qwen3-8B"}, {"qwen3.6:27b-q4_K_M", "Qwen/Qwen3.6-27B"}, {"gemma4:12b-mlx", "google/gemma-4-12B-it"},
	    {"hf.co/unsloth/Qwen3.6-27B-GGUF:Q4_K_XL", "Qwen/Qwen3.6-27B"}, {"GLM-4.7-Flash", "zai-org/GLM-4.7-Flash"},
	    {"Qwen3-30B-A3B-Instruct-2507-UD-Q4_K_XL-00001-of-00003.gguf", "Qwen/Qwen3-30B-A3B-Instruct-2507"},
	    {"deepseek-r1:14b", "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B"}, {"gpt-oss:20b", "openai/gpt-oss-20b"}, {"qwen3-coder:30b", "Qwen/Qwen3-Coder-30B-A3B-Instruct"},
	    {"qwen3.5:35b", "Qwen/Qwen3.5-35B-A3B"}, {"nemotron-3-nano:30b", "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16"},
	    {"bartowski/google_gemma-3-4b-it-GGUF", "google/gemma-3-4b-it"}, {"LLaMA 3 70B", "meta-llama/Meta-Llama-3-70B"},
	    {"Llama-3.1-8B-Instruct-exl3-4.0bpw", "meta-llama/Llama-3.1-8B-Instruct"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const struct pl_model_row *row = NULL;
		struct pl_err err = {0};
		if (pl_model_row_find(cases[i][0], &row, &err) || strcmp(row->id, cases[i][1]))
			fail_msg("'%s' is taken for %s, not %s", cases[i][0], row ? row->id : err.msg, cases[i][1]);
	}
	const struct pl_model_row *row;
	struct pl_err err = {0};
	assert_int_equal(pl_model_row_find("nobodys-model-7b-q4_k_m.gguf", &row, &err), -PL_ERR_UNKNOWN_NAME);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(every_card_is_found_by_its_names), cmocka_unit_test(a_laptop_part_is_no_card),
	                                   cmocka_unit_test(drivers_and_people_are_understood), cmocka_unit_test(integrated_parts_borrow_ram),
	                                   cmocka_unit_test(every_model_is_found_by_its_names), cmocka_unit_test(files_and_tags_are_understood)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
