/* Translations, generated from po/zh_CN.po by tools/po_to_c.py, sorted by message. */
#ifndef PLIMSOLL_CLI_MESSAGES_H
#define PLIMSOLL_CLI_MESSAGES_H

struct pl_message {
	const char *id, *text;
};
extern const struct pl_message pl_messages_zh[];
extern const unsigned pl_n_messages_zh;

#endif
