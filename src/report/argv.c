#include <string.h>

#include "base/fmt.h"
#include "report/report.h"

static bool is_plain(const char *word)
{
	return *word && !word[strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-")];
}

/* 'word' with every ' as '\'' : the one quoting in which a POSIX shell interprets nothing. */
static const char *quoted(struct pl_arena *a, const char *word)
{
	size_t quotes = 0, len = strlen(word);
	if (is_plain(word))
		return word;
	for (const char *p = word; *p; p++)
		quotes += *p == '\'';
	char *out = pl_arena_alloc(a, len + 3 * quotes + 3), *to = out;
	if (!out)
		return NULL;
	*to++ = '\'';
	for (const char *p = word; *p; p++) {
		if (*p == '\'') {
			memcpy(to, "'\\''", 4);
			to += 4;
		} else {
			*to++ = *p;
		}
	}
	*to++ = '\'';
	*to = '\0';
	return out;
}

/* "NAME=value": only the value is quoted. */
static const char *quoted_env(struct pl_arena *a, const char *env)
{
	const char *eq = strchr(env, '=');
	const char *value = eq ? quoted(a, eq + 1) : NULL;
	return value ? pl_arena_printf(a, "%.*s%s", (int)(eq + 1 - env), env, value) : NULL;
}

const char *pl_argv_line(struct pl_arena *a, const struct pl_argv *argv)
{
	const char *line = "";
	for (uint32_t i = 0; i < argv->n_env + argv->n_words; i++) {
		const char *word = i < argv->n_env ? quoted_env(a, argv->env[i]) : quoted(a, argv->words[i - argv->n_env]);
		line = word ? pl_arena_printf(a, "%s%s%s", line, i ? " " : "", word) : NULL;
		if (!line)
			return NULL;
	}
	return line;
}

void pl_report_argv(FILE *out, const struct pl_argv *argv, int columns)
{
	struct pl_arena *a = pl_arena_new(0);
	int at = 2;
	(void)fputs("  ", out);
	for (uint32_t i = 0; a && i < argv->n_env + argv->n_words; i++) {
		const char *word = i < argv->n_env ? quoted_env(a, argv->env[i]) : quoted(a, argv->words[i - argv->n_env]);
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
