/* Bytes from somewhere: only the beginning is read, and more of it when a reader asks. */
#ifndef PLIMSOLL_SOURCE_INNER_H
#define PLIMSOLL_SOURCE_INNER_H

#include <plimsoll/source.h>

/* One file, local or remote. */
struct pl_file {
	char *name;
	int fd;                /* -1: remote */
	uint8_t *data;         /* the first have_bytes of it */
	uint64_t have_bytes, total_bytes;
	size_t mapped_bytes;   /* data is a mapping of this size; 0: from malloc */
	struct pl_file *next;  /* all files of one pl_loaded */
};

struct pl_loaded {
	struct pl_file *files;
};

enum { PL_FIRST_READ = 1 << 20, PL_MAX_HEADER = 256 << 20 };

/* A regular file opened for reading; nothing is read yet. */
int pl_file_open(struct pl_loaded *l, const char *path, struct pl_file **ret, struct pl_err *err) PL_MUST_CHECK;
/* An http(s) URL; the size is asked for and the first bytes come with it. */
int pl_remote_open(struct pl_loaded *l, const char *url, struct pl_file **ret, struct pl_err *err) PL_MUST_CHECK;
/* Makes at least want_bytes (or the whole file) readable at data. */
int pl_file_want(struct pl_file *f, uint64_t want_bytes, struct pl_err *err) PL_MUST_CHECK;
/* All of a small file as text in the arena. */
int pl_file_text(struct pl_arena *a, struct pl_file *f, uint64_t max_bytes, char **ret, size_t *ret_len, struct pl_err *err)
    PL_MUST_CHECK;

/* The body of a small resource (config.json of a repository). */
int pl_remote_more(struct pl_file *f, uint64_t want_bytes, struct pl_err *err) PL_MUST_CHECK;

#endif
