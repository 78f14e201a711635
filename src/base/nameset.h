/* A set of names with a number for each: who stands twice, and where? Near-linear whatever the input. */
#ifndef PLIMSOLL_BASE_NAMESET_H
#define PLIMSOLL_BASE_NAMESET_H

#include <stdbool.h>
#include <stdint.h>

#include <plimsoll/arena.h>

/* Zero-initialised is empty; lives in the arena that fills it. Names are lent. */
struct pl_nameset {
	struct pl_named {
		const char *name;
		uint32_t value;
	} *slots;
	uint32_t n, cap;
};

/* False when the name was there already (or the arena is exhausted: see pl_arena_failed). */
bool pl_nameset_add(struct pl_arena *a, struct pl_nameset *set, const char *name);
/* The entry of a name, added with value `fresh` when it is new (*ret_new says so); NULL when the arena is exhausted. */
struct pl_named *pl_nameset_entry(struct pl_arena *a, struct pl_nameset *set, const char *name, uint32_t fresh, bool *ret_new);

#endif
