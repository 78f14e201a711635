#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <plimsoll/arena.h>
#include <plimsoll/dtype.h>

#include "base/checked.h"

static void arena_refuses_above_its_ceiling(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(1024);
	assert_non_null(pl_arena_alloc(a, 1000));
	assert_null(pl_arena_alloc(a, 1000));
	assert_true(pl_arena_failed(a));
	assert_null(pl_arena_alloc(a, 1)); /* stays failed */
	pl_arena_free(a);
	pl_arena_free(NULL);
}

static void arena_refuses_an_overflowing_product(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	assert_null(pl_arena_calloc(a, UINT64_MAX / 2, 16));
	assert_null(pl_arena_alloc(a, UINT64_MAX));
	pl_arena_free(a);
}

static void quant_rows_are_whole_blocks(void **state)
{
	(void)state;
	uint64_t bytes = 7;
	assert_int_equal(pl_dtype_bytes(PL_DTYPE_Q4_K, 4096, 4096 * 4096, &bytes), 0);
	assert_int_equal(bytes, 4096 * 4096 / 256 * 144);
	bytes = 7;
	assert_int_equal(pl_dtype_bytes(PL_DTYPE_Q4_K, 100, 100 * 100, &bytes), -PL_ERR_RANGE);
	assert_int_equal(bytes, 7); /* untouched on failure */
	assert_int_equal(pl_dtype_bytes(PL_DTYPE_F64, 1, UINT64_MAX / 4, &bytes), -PL_ERR_RANGE);
	assert_int_equal(pl_dtype_from_ggml(39), PL_DTYPE_MXFP4);
	assert_int_equal(pl_dtype_from_ggml(4), PL_DTYPE_UNKNOWN);
	assert_int_equal(pl_dtype_from_name("Q6_K"), PL_DTYPE_Q6_K);
}

static void sizes_stick_instead_of_wrapping(void **state)
{
	(void)state;
	uint64_t r;
	assert_false(pl_mul_u64(UINT64_MAX, 2, &r));
	assert_true(pl_sat_mul(UINT64_MAX, 2) == UINT64_MAX);
	assert_true(pl_sat_add(UINT64_MAX, 2) == UINT64_MAX);
	assert_int_equal(pl_sat_sub(3, 5), 0);
	assert_int_equal(pl_round_up(513, 256), 768);
}

static void errors_keep_place_and_exit_code(void **state)
{
	(void)state;
	struct pl_err err = {0};
	assert_int_equal(pl_fail(&err, PL_ERR_FORMAT, "a.gguf", "bad %d", 3), -PL_ERR_FORMAT);
	assert_string_equal(err.where, "a.gguf");
	assert_string_equal(err.msg, "bad 3");
	assert_int_equal(pl_err_exit_code(err.code), 3);
	assert_int_equal(pl_fail(NULL, PL_ERR_IO, NULL, "x"), -PL_ERR_IO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(arena_refuses_above_its_ceiling),
	    cmocka_unit_test(arena_refuses_an_overflowing_product),
	    cmocka_unit_test(quant_rows_are_whole_blocks),
	    cmocka_unit_test(sizes_stick_instead_of_wrapping),
	    cmocka_unit_test(errors_keep_place_and_exit_code),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
