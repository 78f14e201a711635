#include <plimsoll/opt.h>

void pl_note_add(struct pl_arena *a, struct pl_note **list, int level, const char *fmt, ...)
{
	va_list ap;
	struct pl_note *note = PL_NEW(a, struct pl_note);
	if (!note)
		return;
	va_start(ap, fmt);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	note->text = pl_arena_vprintf(a, pl_tr(fmt), ap);
#pragma GCC diagnostic pop
	va_end(ap);
	if (level)
		note->level = PL_NOTE_WARNING;
	while (*list)
		list = &(*list)->next;
	*list = note;
}
