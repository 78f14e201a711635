#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/fmt.h"

static void people_see_three_digits(void **state)
{
	(void)state;
	char b[PL_FMT_MAX];
	assert_string_equal(pl_fmt_bytes(b, 0), "0 B");
	assert_string_equal(pl_fmt_bytes(b, 1023), "1023 B");
	assert_string_equal(pl_fmt_bytes(b, 1024), "1.00 KiB");
	assert_string_equal(pl_fmt_bytes(b, UINT64_C(1073741824) * 16), "16.0 GiB");
	assert_string_equal(pl_fmt_bytes(b, 1048575), "1.00 MiB"); /* never "1024 KiB" */
	assert_string_equal(pl_fmt_bytes(b, UINT64_MAX), "16.0 EiB");
	assert_string_equal(pl_fmt_count(b, 32762123264), "32.8 B");
	assert_string_equal(pl_fmt_count(b, 999), "999");
	assert_string_equal(pl_fmt_percent(b, -0.1234), "-12.3 %");
	assert_string_equal(pl_fmt_sig3(b, 99.96), "100");
	assert_string_equal(pl_fmt_sig3(b, 0.001234), "0.00123");
	assert_string_equal(pl_fmt_sig3(b, 0), "0");
	assert_string_equal(pl_fmt_sig3(b, 1.0 / 0.0), "?");
	assert_string_equal(pl_fmt_bandwidth(b, 4.8e12), "4.80 TB/s");
	assert_string_equal(pl_fmt_grouped(b, 1234567), "1,234,567");
	assert_string_equal(pl_fmt_grouped(b, UINT64_MAX), "18,446,744,073,709,551,615");
}

static void chinese_takes_two_columns(void **state)
{
	(void)state;
	assert_int_equal(pl_text_columns("abc"), 3);
	assert_int_equal(pl_text_columns("显存 GiB"), 8);
	assert_int_equal(pl_text_columns("×█"), 2);
	assert_int_equal(pl_text_fit("显存", 3), 3);
	assert_int_equal(pl_text_width("显存", 6), 8); /* six bytes, four columns, two blanks */
	assert_int_equal(pl_text_line("one two three", 9), 7);
	assert_int_equal(pl_text_line("显存不足，放不下", 9), 9);   /* the comma stays behind its word */
	assert_int_equal(pl_text_line("显存（内存）", 7), 6);      /* the bracket before its */
	assert_int_equal(pl_text_line("unbreakable", 4), 4);
	assert_int_equal(pl_text_line("fits", 4), 4);
	assert_int_equal(pl_text_columns("\xff\xe6"), 2); /* broken UTF-8 ends */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(people_see_three_digits),
	    cmocka_unit_test(chinese_takes_two_columns),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
