/* Errors: one struct, passed in as the last argument, untouched on success. */
#ifndef PLIMSOLL_ERROR_H
#define PLIMSOLL_ERROR_H

#include <stdint.h>

/* X(name, exit code, what kind of fault it is). The exit codes are those of the command line (docs/exit-codes.md). */
#define PL_ERR_MAP(X)                                        \
	X(USAGE, 2, "the request is not understood")             \
	X(UNKNOWN_NAME, 3, "no such model, GPU, node or engine") \
	X(FORMAT, 3, "the input is malformed")                   \
	X(RANGE, 3, "a value is out of range")                   \
	X(LIMIT, 3, "the input is larger than allowed")          \
	X(MORE, 3, "the header continues past the bytes given")  \
	X(UNSUPPORTED, 3, "this combination is not supported")   \
	X(IO, 4, "a file could not be read or written")          \
	X(NETWORK, 4, "a remote file could not be read")         \
	X(ENVIRONMENT, 4, "this machine lacks something")        \
	X(NOMEM, 70, "out of memory")                            \
	X(INTERNAL, 70, "a fault of the program")

enum pl_err_code {
	PL_OK = 0,
#define X(name, exit_code, text) PL_ERR_##name,
	PL_ERR_MAP(X)
#undef X
		PL_ERR_COUNT
};

/* What went wrong. Filled only on failure. */
struct pl_err {
	enum pl_err_code code;
	char where[192]; /* file, option or name the fault is about; "" when there is none */
	char msg[384];   /* one sentence, lower case, the fault first, numbers with unit and limit */
};

#define PL_MUST_CHECK __attribute__((warn_unused_result))
#define PL_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))

/* Fills err (may be NULL; a fault already recorded is overwritten) and returns -code. `where` may be NULL.
 * `fmt` is translated by the hook of pl_set_translator before it is formatted. */
int pl_fail(struct pl_err *err, enum pl_err_code code, const char *where, const char *fmt, ...) PL_PRINTF(4, 5);
#ifdef __clang_analyzer__ /* it reads one file at a time and would follow every failure as a success */
#define pl_fail(...) ((void)(pl_fail)(__VA_ARGS__), -1)
#endif

/* Name ("FORMAT"), sentence and process exit code of an error code. */
const char *pl_err_name(enum pl_err_code code);
const char *pl_err_text(enum pl_err_code code);
int pl_err_exit_code(enum pl_err_code code);

/* The one process-wide hook: turns an English message into the reader's language. Set once at start by a face; the
 * default returns its argument. Not thread-safe against running calls. */
void pl_set_translator(const char *(*translate)(const char *msgid));
const char *pl_tr(const char *msgid) __attribute__((format_arg(1)));
/* Marks a string for extraction without translating it here. */
#define PL_N_(s) s

#endif
