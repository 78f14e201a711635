/* Loose names of models in tables of measurements. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "measure/model_name.h"

static void names_mean_models(void **state)
{
	static const struct {
		const char *name;
		double params_b;
		bool exact;
		const char *part; /* of the id that is meant; NULL: none */
	} cases[] = {
	    {"llama 7B", 6.74, true, "Llama-2-7b"},       {"llama 7B", 7.24, true, "Mistral-7B"},
	    {"llama 8B", 8.03, true, "Llama-3"},          {"qwen3moe 30B.A3B", 30.53, true, "Qwen3-30B-A3B"},
	    {"deepseek2 671B", 671.03, true, "DeepSeek-"}, {"glm4moe 106B.A12B", 110.47, true, "GLM-4.5-Air"},
	    {"qwen3:8b", NAN, false, "Qwen3-8B"},         {"gemma4:26b-mlx", NAN, false, "gemma-4-26B-A4B"},
	    {"gemma-2-2b-it", NAN, false, "gemma-2-2b"},  {"shisa-v2-llama3.1-8b.i1", NAN, false, "Llama-3.1-8B"},
	    {"DeepSeek R1 14b", NAN, false, "R1-Distill-Qwen-14B"}, {"gpt-oss:20b", NAN, false, "gpt-oss-20b"},
	    {"Qwen3.5 llama.cpp Q4_K_M", NAN, false, NULL}, /* a family in several sizes */
	    {"Coder mlx-lm 4bit", NAN, false, NULL},      {"(not stated)", NAN, false, NULL},
	    {"llama 7B", 45.0, true, NULL},
	    {"Yi-1.5-9B-Chat", NAN, false, "Yi-1.5-9B"},  {"nemotron_h 9B", 8.89, true, "Nemotron-Nano-9B"},
	    {"Nobody-Tuned-9B", NAN, false, NULL},
	};
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	struct pl_err err = {0};
	const struct pl_model_index *x = pl_model_index_make(a, &err);
	assert_non_null(x);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		bool by_size;
		const struct pl_model_row *row = pl_model_by_name(x, cases[i].name, cases[i].params_b, cases[i].exact, &by_size);
		row = by_size ? NULL : row;
		if ((row != NULL) != (cases[i].part != NULL) || (row && !strcasestr(row->id, cases[i].part)))
			fail_msg("'%s' is taken for %s", cases[i].name, row ? row->id : "nothing");
	}
	pl_arena_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(names_mean_models)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
