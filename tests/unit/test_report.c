#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/argv.h"
#include "report/report.h"

/* Words that a shell would interpret if it got the chance. */
static const char *const nasty[] = {"plain-1.2/x",  "with space", "$(touch /nonexistent/x)", "`id`",  "a;b|c&d",
                                    "it's",         "\"quoted\"", "new\nline",               "",      "*?[x]",
                                    "-leading",     "~",          "tab\there",               "!hist", "\\back\\",
                                    "模型 文件.gguf", "''",         "$HOME"};
enum { N = sizeof nasty / sizeof *nasty };

static void check_words(const char *line)
{
	char script[4096], got[4096];
	size_t n = 0;
	(void)snprintf(script, sizeof script, "f() { for w; do printf '%%s\\0' \"$w\"; done; }\nf %s", line);
	FILE *file = fopen("argv_test.sh", "w");
	assert_non_null(file);
	(void)fputs(script, file);
	(void)fclose(file);
	FILE *sh = popen("sh argv_test.sh", "r");
	assert_non_null(sh);
	n = fread(got, 1, sizeof got, sh);
	assert_int_equal(pclose(sh), 0);
	(void)remove("argv_test.sh");
	const char *at = got;
	for (int i = 0; i < N; i++) {
		assert_true(at < got + n);
		assert_string_equal(at, nasty[i]);
		at += strlen(at) + 1;
	}
	assert_ptr_equal(at, got + n);
}

static void a_shell_reads_the_words_that_were_meant(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_argv argv = {.words = (const char **)(uintptr_t)nasty, .n_words = N};
	check_words(pl_argv_line(a, &argv));
	char text[4096];
	FILE *out = fmemopen(text, sizeof text, "w");
	pl_report_argv(out, &argv, 40); /* folded over many lines */
	(void)fclose(out);
	check_words(text);
	pl_arena_free(a);
}

static void only_the_value_of_a_variable_is_quoted(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const char *env[] = {"CUDA_VISIBLE_DEVICES=0 1"}, *words[] = {"run"};
	const struct pl_argv argv = {.words = words, .n_words = 1, .env = env, .n_env = 1};
	assert_string_equal(pl_argv_line(a, &argv), "CUDA_VISIBLE_DEVICES='0 1' run");
	pl_arena_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_shell_reads_the_words_that_were_meant),
	    cmocka_unit_test(only_the_value_of_a_variable_is_quoted),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
