#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"
#include "source/source.h"

/* Headers are copied by pread rather than mapped: a file that shrinks under a mapping kills the reader, and a header is small. */

static struct pl_file *add(struct pl_loaded *l, const char *name)
{
	struct pl_file *f = calloc(1, sizeof *f);
	char *copy = strdup(name);
	if (!f || !copy) {
		free(f);
		free(copy);
		return NULL;
	}
	f->name = copy;
	f->fd = -1;
	f->next = l->files;
	l->files = f;
	return f;
}

int pl_file_open(struct pl_loaded *l, const char *path, struct pl_file **ret, struct pl_err *err)
{
	struct stat st;
	struct pl_file *f = add(l, path);
	if (!f)
		return pl_fail(err, PL_ERR_NOMEM, path, "out of memory");
	/* O_NONBLOCK: a named pipe must not hang the program */
	f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (f->fd < 0)
		return pl_fail(err, PL_ERR_IO, path, "the file cannot be opened: %s", strerror(errno));
	if (fstat(f->fd, &st))
		return pl_fail(err, PL_ERR_IO, path, "the file cannot be read: %s", strerror(errno));
	if (!S_ISREG(st.st_mode))
		return pl_fail(err, PL_ERR_IO, path, "this is not a regular file");
	f->total_bytes = (uint64_t)st.st_size;
	*ret = f;
	return 0;
}

/* Addresses for the longest header at once, and memory only where it is read: growing a block would copy it again and again.
 * Large pages where the system gives them: most of the time of a long header would be faults of small ones. */
static int reserve(struct pl_file *f, struct pl_err *err)
{
	size_t room = (size_t)pl_max_u64(pl_min_u64(f->total_bytes, PL_MAX_HEADER), 1);
	if (f->data)
		return 0;
	void *p = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return pl_fail(err, PL_ERR_NOMEM, f->name, "out of memory for a header of %llu bytes", (unsigned long long)room);
	(void)madvise(p, room, MADV_HUGEPAGE);
	f->data = p;
	f->mapped_bytes = room;
	return 0;
}

int pl_file_want(struct pl_file *f, uint64_t want, struct pl_err *err)
{
	want = pl_min_u64(want, f->total_bytes);
	if (want <= f->have_bytes)
		return 0;
	if (want > PL_MAX_HEADER)
		return pl_fail(err, PL_ERR_LIMIT, f->name, "the header is larger than %d MiB", PL_MAX_HEADER >> 20);
	if (f->fd < 0)
		return pl_remote_more(f, want, err);
	int rc = reserve(f, err);
	while (!rc && f->have_bytes < want) {
		ssize_t n = pread(f->fd, f->data + f->have_bytes, (size_t)(want - f->have_bytes), (off_t)f->have_bytes);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return pl_fail(err, PL_ERR_IO, f->name, "the file cannot be read: %s", strerror(errno));
		if (!n) /* it shrank since it was opened */
			return pl_fail(err, PL_ERR_IO, f->name, "the file ended at byte %llu while it was read", (unsigned long long)f->have_bytes);
		f->have_bytes += (uint64_t)n;
	}
	return rc;
}

int pl_file_text(struct pl_arena *a, struct pl_file *f, uint64_t max, char **ret, size_t *ret_len, struct pl_err *err)
{
	if (f->total_bytes > max)
		return pl_fail(err, PL_ERR_LIMIT, f->name, "the file has %llu bytes, the limit is %llu", (unsigned long long)f->total_bytes,
		               (unsigned long long)max);
	int rc = pl_file_want(f, f->total_bytes, err);
	if (rc)
		return rc;
	*ret = pl_arena_strndup(a, f->total_bytes ? (const char *)f->data : "", (size_t)f->total_bytes);
	*ret_len = (size_t)f->total_bytes;
	return *ret ? 0 : pl_fail(err, PL_ERR_NOMEM, f->name, "out of memory");
}

void pl_loaded_free(struct pl_loaded *l)
{
	for (struct pl_file *f = l ? l->files : NULL, *next; f; f = next) {
		next = f->next;
		if (f->fd >= 0)
			(void)close(f->fd);
		if (f->mapped_bytes)
			(void)munmap(f->data, f->mapped_bytes);
		else
			free(f->data);
		free(f->name);
		free(f);
	}
	free(l);
}
