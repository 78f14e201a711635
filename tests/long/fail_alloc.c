/* Preloaded into a program: the allocation with the number in FAIL_AT returns NULL, and with FAIL_ON=1 every later one too.
 * COUNT_TO=file writes how many there were. Only the program's own calls and its libraries' through malloc, calloc, realloc count. */
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* glibc's own names: dlsym itself allocates */
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);

static long n_calls, fail_at;
static bool from_there_on, ready;

static bool fails(void)
{
	n_calls++;
	return ready && fail_at && (n_calls == fail_at || (from_there_on && n_calls > fail_at));
}

__attribute__((constructor)) static void begin(void)
{
	const char *at = getenv("FAIL_AT"), *on = getenv("FAIL_ON");
	fail_at = at ? atol(at) : 0;
	from_there_on = on && *on == '1';
	n_calls = 0;
	ready = true;
}

__attribute__((destructor)) static void end(void)
{
	const char *path = getenv("COUNT_TO");
	long n = n_calls;
	ready = false;
	FILE *f = path ? fopen(path, "w") : NULL;
	if (f) {
		(void)fprintf(f, "%ld\n", n);
		(void)fclose(f);
	}
}

__attribute__((visibility("default"))) void *malloc(size_t size)
{
	return fails() ? NULL : __libc_malloc(size);
}

__attribute__((visibility("default"))) void *calloc(size_t n, size_t size)
{
	return fails() ? NULL : __libc_calloc(n, size);
}

__attribute__((visibility("default"))) void *realloc(void *old, size_t size)
{
	return fails() ? NULL : __libc_realloc(old, size);
}
