#include <string.h>

#include "engine/argv.h"

static bool is_plain(const char *word)
{
	return *word && !word[strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-")];
}

const char *pl_shell_word(struct pl_arena *a, const char *word)
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

const char *pl_shell_env(struct pl_arena *a, const char *env)
{
	const char *eq = strchr(env, '=');
	const char *value = eq ? pl_shell_word(a, eq + 1) : NULL;
	return value ? pl_arena_printf(a, "%.*s%s", (int)(eq + 1 - env), env, value) : NULL;
}

const char *pl_argv_line(struct pl_arena *a, const struct pl_argv *argv)
{
	const char *line = "";
	for (uint32_t i = 0; i < argv->n_env + argv->n_words; i++) {
		const char *word = i < argv->n_env ? pl_shell_env(a, argv->env[i]) : pl_shell_word(a, argv->words[i - argv->n_env]);
		line = word ? pl_arena_printf(a, "%s%s%s", line, i ? " " : "", word) : NULL;
		if (!line)
			return NULL;
	}
	return line;
}
