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

void pl_put(struct pl_words *w, const char *s)
{
	if (!s) /* out of memory: the end tells */
		return;
	if (w->n < PL_LINE_WORDS)
		w->word[w->n] = s;
	w->n++;
}

void pl_put_u64(struct pl_words *w, const char *flag, uint64_t v)
{
	pl_put(w, flag);
	pl_put(w, pl_arena_printf(w->a, "%llu", (unsigned long long)v));
}

void pl_put_env(struct pl_words *w, const char *s)
{
	if (w->n_env < PL_LINE_ENV)
		w->env[w->n_env] = s;
	w->n_env++;
}

int pl_words_argv(const struct pl_words *w, const char *model_ref, struct pl_argv *ret, struct pl_err *err)
{
	if (w->n > PL_LINE_WORDS || w->n_env > PL_LINE_ENV)
		return pl_fail(err, PL_ERR_LIMIT, model_ref, "the command has %u words, at most %u are written", w->n + w->n_env,
		               PL_LINE_WORDS + PL_LINE_ENV);
	const char **words = PL_NEW_N(w->a, const char *, w->n + 1), **env = PL_NEW_N(w->a, const char *, w->n_env + 1);
	if (!words || !env || pl_arena_failed(w->a))
		return pl_fail(err, PL_ERR_NOMEM, model_ref, "out of memory while writing the command");
	memcpy(words, w->word, w->n * sizeof *words);
	memcpy(env, w->env, w->n_env * sizeof *env);
	*ret = (struct pl_argv){.words = words, .n_words = w->n, .env = env, .n_env = w->n_env};
	return 0;
}
