/* Arena: the memory of one request. Everything of variable size lives in it and dies with it. */
#ifndef PLIMSOLL_ARENA_H
#define PLIMSOLL_ARENA_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <plimsoll/error.h>

struct pl_arena;

/* A new arena that hands out at most ceiling_bytes (0: 1 GiB). NULL when out of memory. Free with pl_arena_free. */
struct pl_arena *pl_arena_new(uint64_t ceiling_bytes);
void pl_arena_free(struct pl_arena *a); /* NULL is fine */

/* Zeroed memory, aligned to 16 bytes; NULL above the ceiling or out of memory (then every later call gives NULL too,
 * so that a builder may check once at its end with pl_arena_failed). */
void *pl_arena_alloc(struct pl_arena *a, uint64_t size_bytes);
/* n × size bytes, the product checked. */
void *pl_arena_calloc(struct pl_arena *a, uint64_t n, uint64_t size_bytes);
/* Grows an array: returns a block of new_n × size bytes that starts with the old_n elements of old. */
void *pl_arena_grow(struct pl_arena *a, const void *old, uint64_t old_n, uint64_t new_n, uint64_t size_bytes);
char *pl_arena_strndup(struct pl_arena *a, const char *s, size_t len);
char *pl_arena_strdup(struct pl_arena *a, const char *s);
char *pl_arena_printf(struct pl_arena *a, const char *fmt, ...) PL_PRINTF(2, 3);
char *pl_arena_vprintf(struct pl_arena *a, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
/* True once any allocation was refused. */
int pl_arena_failed(const struct pl_arena *a);
uint64_t pl_arena_used_bytes(const struct pl_arena *a);

#define PL_NEW(a, type) ((type *)pl_arena_alloc((a), sizeof(type)))
#define PL_NEW_N(a, type, n) ((type *)pl_arena_calloc((a), (n), sizeof(type)))

#endif
