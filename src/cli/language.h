/* The reader's language. */
#ifndef PLIMSOLL_CLI_LANGUAGE_H
#define PLIMSOLL_CLI_LANGUAGE_H

/* Installs the translator: "zh" or "en"; NULL asks LANGUAGE, LC_ALL, LC_MESSAGES and LANG, as gettext does. */
void pl_language_set(const char *lang);

#endif
