#include <stdlib.h>
#include <string.h>

#include <plimsoll/error.h>

#include "cli/language.h"
#include "cli/messages.h"

/* The translations are compiled in: they work on a machine whose system has no Chinese locale. */
static int by_id(const void *key, const void *row)
{
	return strcmp(key, ((const struct pl_message *)row)->id);
}

static const char *chinese(const char *msgid)
{
	const struct pl_message *m = bsearch(msgid, pl_messages_zh, pl_n_messages_zh, sizeof *pl_messages_zh, by_id);
	return m ? m->text : msgid;
}

/* gettext's order: LANGUAGE first, but not in the C locale; then LC_ALL, LC_MESSAGES, LANG. */
static const char *from_environment(void)
{
	static const char *const names[] = {"LC_ALL", "LC_MESSAGES", "LANG"};
	const char *locale = "", *language = getenv("LANGUAGE");
	for (int i = 0; i < 3 && !*locale; i++) {
		const char *value = getenv(names[i]);
		locale = value ? value : "";
	}
	if (language && *language && *locale && strcmp(locale, "C") != 0 && strcmp(locale, "POSIX") != 0)
		return language;
	return locale;
}

void pl_language_set(const char *lang)
{
	if (!lang || !*lang)
		lang = from_environment();
	pl_set_translator(!strncmp(lang, "zh", 2) ? chinese : NULL);
}
