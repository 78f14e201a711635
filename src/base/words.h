/* Lists of words in one string, space-separated: aliases, instruction sets. */
#ifndef PLIMSOLL_BASE_WORDS_H
#define PLIMSOLL_BASE_WORDS_H

#include <stdbool.h>

/* Is `word` one of the words of `list` (may be NULL)? Case does not matter. */
bool pl_word_in(const char *list, const char *word);

#endif
