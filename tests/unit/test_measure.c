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

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(tables_are_split_and_faults_kept),
	    cmocka_unit_test(what_is_no_table_is_refused),
	    cmocka_unit_test(quantiles_lie_between_neighbours),
	    cmocka_unit_test(classes_are_summed_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
