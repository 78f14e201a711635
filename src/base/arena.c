#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <plimsoll/arena.h>

#include "base/checked.h"

enum { ALIGN = 16, FIRST_BLOCK = 64 * 1024, MAX_BLOCK = 4 * 1024 * 1024 };

struct block {
	struct block *next;
	uint64_t size_bytes, used_bytes;
	_Alignas(ALIGN) unsigned char data[];
};

struct pl_arena {
	struct block *head; /* newest first; allocations come from it */
	uint64_t ceiling_bytes, used_bytes, next_block_bytes;
	bool failed;
};

struct pl_arena *pl_arena_new(uint64_t ceiling_bytes)
{
	struct pl_arena *a = calloc(1, sizeof *a);
	if (!a)
		return NULL;
	a->ceiling_bytes = ceiling_bytes ? ceiling_bytes : UINT64_C(1) << 30;
	a->next_block_bytes = FIRST_BLOCK;
	return a;
}

void pl_arena_free(struct pl_arena *a)
{
	if (!a)
		return;
	for (struct block *b = a->head, *next; b; b = next) {
		next = b->next;
		free(b);
	}
	free(a);
}

static bool add_block(struct pl_arena *a, uint64_t need_bytes)
{
	uint64_t size = need_bytes > a->next_block_bytes ? need_bytes : a->next_block_bytes;
	struct block *b = malloc(sizeof *b + size);
	if (!b)
		return false;
	b->size_bytes = size;
	b->used_bytes = 0;
	b->next = a->head;
	a->head = b;
	if (a->next_block_bytes < MAX_BLOCK)
		a->next_block_bytes *= 2;
	return true;
}

static void *raw(struct pl_arena *a, uint64_t size_bytes)
{
	uint64_t need;
	if (a->failed)
		return NULL;
	if (!pl_add_u64(size_bytes, ALIGN - 1, &need) || (need &= ~(uint64_t)(ALIGN - 1), need > a->ceiling_bytes) ||
	    a->used_bytes > a->ceiling_bytes - need) {
		a->failed = true;
		return NULL;
	}
	if (!a->head || a->head->size_bytes - a->head->used_bytes < need) {
		if (!add_block(a, need)) {
			a->failed = true;
			return NULL;
		}
	}
	void *p = a->head->data + a->head->used_bytes;
	a->head->used_bytes += need;
	a->used_bytes += need;
	return p;
}

void *pl_arena_alloc(struct pl_arena *a, uint64_t size_bytes)
{
	void *p = raw(a, size_bytes);
	return p ? memset(p, 0, (size_t)size_bytes) : NULL;
}

void *pl_arena_calloc(struct pl_arena *a, uint64_t n, uint64_t size_bytes)
{
	uint64_t total;
	if (!pl_mul_u64(n, size_bytes, &total)) {
		a->failed = true;
		return NULL;
	}
	return pl_arena_alloc(a, total);
}

void *pl_arena_grow(struct pl_arena *a, const void *old, uint64_t old_n, uint64_t new_n, uint64_t size_bytes)
{
	uint64_t total, kept;
	if (!pl_mul_u64(new_n, size_bytes, &total) || !pl_mul_u64(old_n, size_bytes, &kept) || kept > total) {
		a->failed = true;
		return NULL;
	}
	unsigned char *p = raw(a, total);
	if (p && kept)
		memcpy(p, old, (size_t)kept);
	if (p)
		memset(p + kept, 0, (size_t)(total - kept));
	return p;
}

char *pl_arena_strndup(struct pl_arena *a, const char *s, size_t len)
{
	char *p = pl_arena_alloc(a, (uint64_t)len + 1);
	if (p)
		memcpy(p, s, len);
	return p;
}

char *pl_arena_strdup(struct pl_arena *a, const char *s)
{
	return pl_arena_strndup(a, s, strlen(s));
}

char *pl_arena_vprintf(struct pl_arena *a, const char *fmt, va_list ap)
{
	va_list again;
	va_copy(again, ap);
	int len = vsnprintf(NULL, 0, fmt, ap);
	char *p = len < 0 ? NULL : pl_arena_alloc(a, (uint64_t)len + 1);
	if (p)
		(void)vsnprintf(p, (size_t)len + 1, fmt, again);
	va_end(again);
	return p;
}

char *pl_arena_printf(struct pl_arena *a, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	char *p = pl_arena_vprintf(a, fmt, ap);
	va_end(ap);
	return p;
}

int pl_arena_failed(const struct pl_arena *a)
{
	return a->failed;
}

uint64_t pl_arena_used_bytes(const struct pl_arena *a)
{
	return a->used_bytes;
}
