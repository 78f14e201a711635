#include <string.h>

#include "base/fmt.h"
#include "engine/argv.h"
#include "report/report.h"

void pl_report_argv(FILE *out, const struct pl_argv *argv, int columns)
{
	struct pl_arena *a = pl_arena_new(0);
	int at = 2;
	(void)fputs("  ", out);
	for (uint32_t i = 0; a && i < argv->n_env + argv->n_words; i++) {
		const char *word = i < argv->n_env ? pl_shell_env(a, argv->env[i]) : pl_shell_word(a, argv->words[i - argv->n_env]);
		const char *next = i >= argv->n_env && i - argv->n_env + 1 < argv->n_words ? argv->words[i - argv->n_env + 1] : "";
		int need = word ? pl_text_columns(word) : 0;
		/* an option stays on a line with its value */
		int pair = word && word[0] == '-' && next[0] != '-' ? need + 1 + pl_text_columns(next) : need;
		if (i && at + 1 + pair + 2 > columns) {
			(void)fputs(" \\\n    ", out);
			at = 4;
		} else if (i) {
			(void)fputc(' ', out);
			at++;
		}
		(void)fputs(word ? word : "", out);
		at += need;
	}
	(void)fputc('\n', out);
	pl_arena_free(a);
}
