#include <string.h>

#include "base/nameset.h"

/* FNV-1a, 64 bit */
static uint64_t hash_of(const char *s)
{
	uint64_t h = UINT64_C(14695981039346656037);
	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * UINT64_C(1099511628211);
	return h;
}

static const char **slot_of(const struct pl_nameset *set, const char *name)
{
	uint64_t i = hash_of(name);
	for (;; i++) {
		const char **slot = &set->slots[i & (set->cap - 1)];
		if (!*slot || !strcmp(*slot, name))
			return slot;
	}
}

static bool grow(struct pl_arena *a, struct pl_nameset *set)
{
	struct pl_nameset bigger = {.n = set->n, .cap = set->cap ? set->cap * 2 : 256};
	bigger.slots = PL_NEW_N(a, const char *, bigger.cap);
	if (!bigger.slots)
		return false;
	for (uint32_t i = 0; i < set->cap; i++)
		if (set->slots[i])
			*slot_of(&bigger, set->slots[i]) = set->slots[i];
	*set = bigger;
	return true;
}

bool pl_nameset_add(struct pl_arena *a, struct pl_nameset *set, const char *name)
{
	if (set->n * 2 >= set->cap && !grow(a, set))
		return false;
	const char **slot = slot_of(set, name);
	if (*slot)
		return false;
	*slot = name;
	set->n++;
	return true;
}
