/* Small shared values: optional numbers, provenance, notes. */
#ifndef PLIMSOLL_OPT_H
#define PLIMSOLL_OPT_H

#include <stdbool.h>
#include <stdint.h>

#include <plimsoll/arena.h>

/* A value that may be unknown: unknown is a state, not zero. */
struct pl_opt_u64 {
	uint64_t value;
	bool known;
};

/* Where a fact came from; the report can print it. */
enum pl_provenance {
	PL_FROM_UNKNOWN = 0,
	PL_FROM_FILE,     /* read from a model file or the machine */
	PL_FROM_VENDOR,   /* stated by the maker */
	PL_FROM_MEASURED, /* measured */
	PL_FROM_DERIVED,  /* computed from other facts */
	PL_FROM_ASSUMED   /* a default nobody confirmed */
};

/* A remark that travels with a result, oldest first. */
struct pl_note {
	enum { PL_NOTE_INFO = 0, PL_NOTE_WARNING } level;
	const char *text; /* translated sentence */
	struct pl_note *next;
};

/* Appends a remark; fmt is translated, then formatted into the arena. */
void pl_note_add(struct pl_arena *a, struct pl_note **list, int level, const char *fmt, ...) PL_PRINTF(4, 5);

#endif
