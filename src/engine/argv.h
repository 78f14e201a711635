/* Words as a POSIX shell reads them: safe with spaces, quotes, newlines, `$()` and `;`. */
#ifndef PLIMSOLL_ENGINE_ARGV_H
#define PLIMSOLL_ENGINE_ARGV_H

#include <plimsoll/engine.h>

/* 'word' with every ' as '\'' : the one quoting in which a POSIX shell interprets nothing. Plain words stay bare. */
const char *pl_shell_word(struct pl_arena *a, const char *word);
/* "NAME=value": only the value is quoted. */
const char *pl_shell_env(struct pl_arena *a, const char *env);
/* Variables and words on one line, in the arena; NULL when it is exhausted. */
const char *pl_argv_line(struct pl_arena *a, const struct pl_argv *argv);

#endif
