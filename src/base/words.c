#include <string.h>
#include <strings.h>

#include "base/words.h"

bool pl_word_in(const char *list, const char *word)
{
	size_t len = strlen(word);
	for (const char *p = list; len && p && *p; p += strspn(p, " ")) {
		size_t n = strcspn(p, " ");
		if (n == len && !strncasecmp(p, word, n))
			return true;
		p += n;
	}
	return false;
}
