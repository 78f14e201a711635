/* Writing a laid-out dummy model: beside its name, then renamed. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <plimsoll/synth.h>

#include "base/checked.h"

enum { CHUNK_BYTES = 1 << 20 }; /* larger writes are several times slower on Linux's page cache */

static int write_all(int fd, const uint8_t *data, uint64_t n, const char *path, struct pl_err *err)
{
	while (n) {
		ssize_t w = write(fd, data, n > CHUNK_BYTES ? CHUNK_BYTES : (size_t)n);
		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return pl_fail(err, PL_ERR_IO, path, "cannot write '%s': %s", path,
			               w ? strerror(errno) : "no progress");
		data += w;
		n -= (uint64_t)w;
	}
	return 0;
}

/* One tensor and the padding up to the next. buf: CHUNK_BYTES. */
static int write_tensor(int fd, const struct pl_tensor *t, uint64_t padding, uint8_t *buf, const char *path,
                        struct pl_err *err)
{
	uint64_t period = pl_synth_pattern(t, buf, CHUNK_BYTES), left = t->bytes;
	if (!period)
		return pl_fail(err, PL_ERR_INTERNAL, path, "tensor '%s' cannot be filled", t->name);
	while (left) {
		uint64_t n = left < period ? left : period;
		int r = write_all(fd, buf, n, path, err);
		if (r < 0)
			return r;
		left -= n;
	}
	memset(buf, 0, padding);
	return write_all(fd, buf, padding, path, err);
}

static int write_body(int fd, const struct pl_synth *s, unsigned flags, const char *path, struct pl_err *err)
{
	int r = write_all(fd, s->header, s->header_bytes, path, err);
	if (r < 0)
		return r;
	if (s->file_bytes > INT64_MAX)
		return pl_fail(err, PL_ERR_LIMIT, path, "the file would be larger than 2^63 bytes");
	if (flags & PL_SYNTH_SPARSE) {
		if (ftruncate(fd, (off_t)s->file_bytes) < 0)
			return pl_fail(err, PL_ERR_IO, path, "cannot extend '%s' to %llu bytes: %s", path,
			               (unsigned long long)s->file_bytes, strerror(errno));
		return 0;
	}
	/* a full disk is known before minutes of writing; file systems that cannot reserve are simply written to */
	if (fallocate(fd, 0, 0, (off_t)s->file_bytes) < 0 && (errno == ENOSPC || errno == EFBIG || errno == EDQUOT))
		return pl_fail(err, PL_ERR_IO, path, "cannot write '%s': %s (%llu bytes needed)", path, strerror(errno),
		               (unsigned long long)s->file_bytes);
	uint8_t *buf = malloc(CHUNK_BYTES);
	if (!buf)
		return pl_fail(err, PL_ERR_NOMEM, path, "out of memory");
	for (uint32_t i = 0; i < s->n_tensors && r == 0; i++) {
		uint64_t end = i + 1 < s->n_tensors ? s->tensors[i + 1].offset_bytes : s->file_bytes - s->header_bytes;
		r = write_tensor(fd, &s->tensors[i], end - s->tensors[i].offset_bytes - s->tensors[i].bytes, buf, path,
		                 err);
	}
	free(buf);
	return r;
}

/* Gives the finished file its name. link refuses to replace, rename replaces. */
static int publish(const char *tmp, const char *path, unsigned flags, struct pl_err *err)
{
	if (flags & PL_SYNTH_FORCE) {
		if (rename(tmp, path) == 0)
			return 0;
	} else if (link(tmp, path) == 0) {
		unlink(tmp);
		return 0;
	} else if (errno == EPERM || errno == EOPNOTSUPP || errno == ENOSYS) { /* no hard links here */
		if (access(path, F_OK) != 0 && rename(tmp, path) == 0)
			return 0;
		errno = EEXIST;
	}
	if (errno == EEXIST)
		return pl_fail(err, PL_ERR_IO, path, "'%s' is already there (--force replaces it)", path);
	return pl_fail(err, PL_ERR_IO, path, "cannot create '%s': %s", path, strerror(errno));
}

int pl_synth_write(const struct pl_synth *s, const char *path, unsigned flags, struct pl_err *err)
{
	char tmp[PATH_MAX];
	struct stat st;
	if (!(flags & PL_SYNTH_FORCE) && lstat(path, &st) == 0)
		return pl_fail(err, PL_ERR_IO, path, "'%s' is already there (--force replaces it)", path);
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
		return pl_fail(err, PL_ERR_IO, path, "'%s' is not an ordinary file", path);
	if (snprintf(tmp, sizeof tmp, "%s.part-%ld", path, (long)getpid()) >= (int)sizeof tmp)
		return pl_fail(err, PL_ERR_IO, path, "the name of the file is too long");
	int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (fd < 0)
		return pl_fail(err, PL_ERR_IO, path, "cannot create '%s': %s", path, strerror(errno));
	int r = write_body(fd, s, flags, path, err);
	if (close(fd) < 0 && r == 0)
		r = pl_fail(err, PL_ERR_IO, path, "cannot write '%s': %s", path, strerror(errno));
	if (r == 0)
		r = publish(tmp, path, flags, err);
	if (r < 0)
		unlink(tmp);
	return r;
}
