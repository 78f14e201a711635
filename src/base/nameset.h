/* A set of names: who stands twice? Near-linear whatever the input. */
#ifndef PLIMSOLL_BASE_NAMESET_H
#define PLIMSOLL_BASE_NAMESET_H

#include <stdbool.h>
#include <stdint.h>

#include <plimsoll/arena.h>

/* Zero-initialised is empty; lives in the arena that fills it. Names are lent. */
struct pl_nameset {
	const char **slots;
	uint32_t n, cap;
};

/* False when the name was there already (or the arena is exhausted: see pl_arena_failed). */
bool pl_nameset_add(struct pl_arena *a, struct pl_nameset *set, const char *name);

#endif
