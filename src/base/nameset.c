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

static struct pl_named *slot_of(const struct pl_nameset *set, const char *name)
{
	uint64_t i = hash_of(name);
	for (;; i++) {
		struct pl_named *slot = &set->slots[i & (set->cap - 1)];
		if (!slot->name || !strcmp(slot->name, name))
			return slot;
	}
}

static bool grow(struct pl_arena *a, struct pl_nameset *set)
{
	struct pl_nameset bigger = {.n = set->n, .cap = set->cap ? set->cap * 2 : 256};
	bigger.slots = PL_NEW_N(a, struct pl_named, bigger.cap);
	if (!bigger.slots)
		return false;
	for (uint32_t i = 0; i < set->cap; i++)
		if (set->slots[i].name)
			*slot_of(&bigger, set->slots[i].name) = set->slots[i];
	*set = bigger;
	return true;
}

struct pl_named *pl_nameset_entry(struct pl_arena *a, struct pl_nameset *set, const char *name, uint32_t fresh, bool *ret_new)
{
	if (set->n * 2 >= set->cap && !grow(a, set))
		return NULL;
	struct pl_named *slot = slot_of(set, name);
	*ret_new = !slot->name;
	if (*ret_new) {
		*slot = (struct pl_named){name, fresh};
		set->n++;
	}
	return slot;
}

bool pl_nameset_add(struct pl_arena *a, struct pl_nameset *set, const char *name)
{
	bool is_new = false;
	return pl_nameset_entry(a, set, name, 0, &is_new) && is_new;
}
