#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "measure/stats.h"
#include "measure/table.h"
#include "measure/validator.h"

static const struct pl_table *read_ok(struct pl_arena *a, const char *text)
{
	const struct pl_table *t = NULL;
	struct pl_err err = {0};
	if (pl_table_read(a, "t.csv", text, strlen(text), &t, &err))
		fail_msg("%s", err.msg);
	return t;
}

static int read_rc(struct pl_arena *a, const char *text, size_t len)
{
	const struct pl_table *t = NULL;
	struct pl_err err = {0};
	return pl_table_read(a, "t.csv", text, len, &t, &err);
}

static void tables_are_split_and_faults_kept(void **state)
{
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_table *t = read_ok(a, "\xef\xbb\xbfid, n ,note\r\n1,2,\"a, \"\"b\"\"\nline\"\n\n3,4\n5,6,7,8\n9,,");
	(void)state;
	assert_int_equal(t->n_columns, 3);
	assert_string_equal(t->columns[0], "id"); /* the byte order mark is no part of it */
	assert_string_equal(t->columns[1], "n");
	assert_int_equal(pl_table_column(t, "note"), 2);
	assert_int_equal(pl_table_column(t, "Note"), -1);
	assert_int_equal(t->n_rows, 4); /* the empty line is none, the last has no line end */
	assert_string_equal(t->rows[0].cells[2], "a, \"b\"\nline");
	assert_int_equal(t->rows[1].n_cells, 2);
	assert_string_equal(t->rows[1].cells[2], "");
	assert_int_equal(t->rows[2].n_cells, 4);
	assert_string_equal(t->rows[3].cells[0], "9");
	assert_int_equal(t->rows[3].n_cells, 3);
	pl_arena_free(a);
}

static void what_is_no_table_is_refused(void **state)
{
	struct pl_arena *a = pl_arena_new(0);
	char wide[2 * (PL_TABLE_MAX_COLUMNS + 1) + 1];
	(void)state;
	assert_int_equal(read_rc(a, "", 0), -PL_ERR_FORMAT);
	assert_int_equal(read_rc(a, "\n\n\r\n", 4), -PL_ERR_FORMAT);
	assert_int_equal(read_rc(a, "a,b,a\n1,2,3\n", 12), -PL_ERR_FORMAT);
	for (size_t i = 0; i + 1 < sizeof wide; i++)
		wide[i] = i % 2 ? ',' : 'x';
	wide[sizeof wide - 1] = '\n';
	assert_int_equal(read_rc(a, wide, sizeof wide), -PL_ERR_LIMIT);
	const struct pl_table *t = NULL;
	struct pl_err err = {0};
	assert_int_equal(pl_table_read(a, "t.csv", "a,b\n1\0x,2\n", 11, &t, &err), 0);
	assert_true(t->rows[0].has_nul);
	pl_arena_free(a);
}

static void quantiles_lie_between_neighbours(void **state)
{
	double five[] = {5, 1, 4, 2, 3}, two[] = {10, 20}, one[] = {7};
	(void)state;
	assert_float_equal(pl_quantile(five, 5, 0.5), 3, 0);
	assert_float_equal(pl_quantile(five, 5, 0.9), 4.6, 1e-12); /* position 3.6: 4 + 0.6 × (5 - 4) */
	assert_float_equal(pl_quantile(five, 5, 0), 1, 0);
	assert_float_equal(pl_quantile(five, 5, 1), 5, 0);
	assert_float_equal(pl_quantile(two, 2, 0.5), 15, 0);
	assert_float_equal(pl_quantile(one, 1, 0.9), 7, 0);
	assert_true(isnan(pl_quantile(one, 0, 0.5)));
}

/* Errors +10 %, -20 %, 0 % and +30 %; one flagged, one unmapped. */
static void classes_are_summed_up(void **state)
{
	static struct pl_prediction p[] = {
	    {.metric = "m", .classes = "e=x;b=1", .measured = 100, .predicted = 110, .low = 90, .high = 120},
	    {.metric = "m", .classes = "e=x;b=2", .measured = 10, .predicted = 8, .low = 7.9, .high = 8.1},
	    {.metric = "m", .classes = "e=y;b=1", .measured = 50, .predicted = 50.004, .low = NAN, .high = NAN, .resolution = 0.005},
	    {.metric = "m", .classes = "e=y;b=2", .measured = 10, .predicted = 13, .low = 10.004, .high = 20, .resolution = 0.005},
	    {.metric = "m", .classes = "e=y;b=2", .measured = 1, .predicted = NAN, .status = PL_FLAGGED, .reason = "physics"},
	    {.metric = "m", .classes = "e=y;b=2", .measured = 1, .predicted = NAN, .status = PL_UNMAPPED, .reason = "no name"},
	};
	struct pl_validator v = {.a = pl_arena_new(0), .kept = p, .n_kept = 6};
	(void)state;
	assert_true(pl_validation_summarise(&v));
	assert_int_equal(v.out.n_accuracy, 5);
	const struct pl_accuracy *all = &v.out.accuracy[0];
	assert_string_equal(all->class_name, "all");
	assert_int_equal(all->n, 6);
	assert_int_equal(all->n_ok, 4);
	assert_int_equal(all->n_flagged, 1);
	assert_int_equal(all->n_unmapped, 1);
	assert_float_equal(all->coverage_frac, 0.8, 1e-12);           /* 4 of the 5 that are not flagged */
	assert_float_equal(all->median_error_frac, 0.15, 1e-4);       /* of 0, 0.1, 0.2, 0.3 */
	assert_float_equal(all->p90_error_frac, 0.27, 1e-4);          /* position 2.7: 0.2 + 0.7 × 0.1 */
	assert_float_equal(all->bias_frac, 0.05, 1e-4);               /* of -0.2, 0, 0.1, 0.3 */
	assert_int_equal(all->n_exact, 1);                            /* 50.004 prints as 50.00 */
	assert_int_equal(all->n_interval, 3);
	assert_float_equal(all->interval_coverage_frac, 2.0 / 3, 1e-12); /* 10 may stand for 10.004 */
	assert_string_equal(v.out.accuracy[1].class_name, "b=1");
	assert_string_equal(v.out.accuracy[3].class_name, "e=x");
	assert_int_equal(v.out.accuracy[3].n_ok, 2);
	assert_float_equal(v.out.accuracy[3].median_error_frac, 0.15, 1e-12);
	assert_int_equal(v.out.n_reasons, 2);
	assert_string_equal(v.out.reasons[0].reason, "no name"); /* equally frequent: by name */
	pl_arena_free(v.a);
}

/* Errors of the predicted value: 0.1, 0.2, 0.3, 0.4, 0.5 and 2. Each row's interval is the 0.8 quantile of the other five,
 * position 3.2: for the last row 0.4 + 0.2 × 0.1 = 0.42, for the first 0.5 + 0.2 × 1.5 = 0.8. */
static void intervals_come_from_the_other_rows(void **state)
{
	static const double measured[] = {110, 120, 130, 140, 150, 300};
	struct pl_prediction p[7];
	(void)state;
	for (int i = 0; i < 6; i++)
		p[i] = (struct pl_prediction){.id = (const char *[]){"a", "b", "c", "d", "e", "f"}[i], .metric = "m", .classes = "engine=x;q=1",
		                              .measured = measured[i], .predicted = 100, .low = NAN, .high = NAN};
	p[6] = p[0]; /* another engine has no group */
	p[6].classes = "engine=xy;q=1";
	struct pl_validator v = {.a = pl_arena_new(0), .kept = p, .n_kept = 7};
	assert_true(pl_validation_summarise(&v));
	assert_float_equal(p[5].low, 58, 1e-9);
	assert_float_equal(p[5].high, 142, 1e-9);
	assert_float_equal(p[0].low, 20, 1e-9);
	assert_float_equal(p[0].high, 180, 1e-9);
	assert_true(isnan(p[6].low));
	assert_int_equal(v.out.accuracy[0].n_interval, 6);
	assert_float_equal(v.out.accuracy[0].interval_coverage_frac, 5.0 / 6, 1e-12); /* 300 is outside 58 to 142 */
	pl_arena_free(v.a);
}

static void names_are_read(void **state)
{
	static const struct {
		const char *text, *base, *quant;
		bool own;
	} cases[] = {
	    {"Qwen3.6-35B-A3B-UD-IQ4_NL-00001-of-00002.gguf", "Qwen3.6-35B-A3B", "iq4_nl", true},
	    {"DeepSeek-R1.Q8_0-00001-of-00015.gguf", "DeepSeek-R1", "q8_0", false},
	    {"qwen2.5-coder:7b-instruct-q8_0", "qwen2.5-coder:7b-instruct", "q8_0", false},
	    {"Qwen3-235B-A22B-128K-Q6_K-00001-of-00004.gguf", "Qwen3-235B-A22B", "q6_k", false},
	    {"GLM-4.6-THIREUS-BF16-SPECIAL_TENSOR-00001-of-01762.gguf", "GLM-4.6", "bf16", true},
	    {"junk.bin", "junk.bin", "", false},
	    {"", "", "", false},
	    {"Q4_K_M", "Q4_K_M", "", false},
	};
	struct pl_model_name n;
	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		pl_model_name_read(cases[i].text, &n);
		assert_string_equal(n.base, cases[i].base);
		assert_string_equal(n.quant, cases[i].quant);
		assert_int_equal(n.own_mixture, cases[i].own);
	}
	pl_model_name_read("Huihui-Qwen3.5-35B-A3B-Claude-4.6-Opus-abliterated-Q4_K_M.gguf", &n);
	assert_string_equal(pl_model_name_find(&n)->id, "Qwen/Qwen3.5-35B-A3B");
	pl_model_name_read("DeepSeek-R1-DRAFT-0.6B-128k-Q4_0.gguf", &n); /* losing its size would make it another model */
	assert_null(pl_model_name_find(&n));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(tables_are_split_and_faults_kept),
	    cmocka_unit_test(what_is_no_table_is_refused),
	    cmocka_unit_test(quantiles_lie_between_neighbours),
	    cmocka_unit_test(classes_are_summed_up),
	    cmocka_unit_test(intervals_come_from_the_other_rows),
	    cmocka_unit_test(names_are_read),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
