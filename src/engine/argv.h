/* Launch lines: words as they are put together, and as a POSIX shell reads them: safe with spaces, quotes, newlines, `$()` and `;`. */
#ifndef PLIMSOLL_ENGINE_ARGV_H
#define PLIMSOLL_ENGINE_ARGV_H

#include <plimsoll/engine.h>

/* 'word' with every ' as '\'' : the one quoting in which a POSIX shell interprets nothing. Plain words stay bare. */
const char *pl_shell_word(struct pl_arena *a, const char *word);
/* "NAME=value": only the value is quoted. */
const char *pl_shell_env(struct pl_arena *a, const char *env);
/* Variables and words on one line, in the arena; NULL when it is exhausted. */
const char *pl_argv_line(struct pl_arena *a, const struct pl_argv *argv);

/* A line that grows word by word; words live in the arena. */
enum { PL_LINE_WORDS = 128, PL_LINE_ENV = 8 };
struct pl_words {
	struct pl_arena *a;
	const char *word[PL_LINE_WORDS], *env[PL_LINE_ENV];
	uint32_t n, n_env; /* as many as were put, kept or not */
};
void pl_put(struct pl_words *w, const char *s);
void pl_put_u64(struct pl_words *w, const char *flag, uint64_t v);
void pl_put_env(struct pl_words *w, const char *s);
/* The finished line of this model's server. */
int pl_words_argv(const struct pl_words *w, const char *model_ref, struct pl_argv *ret_argv, struct pl_err *err) PL_MUST_CHECK;

#endif
