#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "probe/facts.h"
#include "probe/nvml.h"

extern char **environ;

enum { MAX_KEY = 512, MAX_FACT = 1 << 20, MAX_RECORD = 16 << 20 };

struct pl_facts {
	json_t *record; /* key → text; null: looked for and not there */
	bool replayed, nvml_read;
	char root[256], nvml_library[256];
};

struct pl_facts *pl_facts_new(const struct pl_probe_options *o)
{
	struct pl_facts *f = calloc(1, sizeof *f);
	if (!f || !(f->record = json_object())) {
		free(f);
		return NULL;
	}
	(void)snprintf(f->root, sizeof f->root, "%s", o && o->root ? o->root : "");
	(void)snprintf(f->nvml_library, sizeof f->nvml_library, "%s", o && o->nvml_library ? o->nvml_library : "libnvidia-ml.so.1");
	return f;
}

void pl_facts_free(struct pl_facts *f)
{
	if (f)
		json_decref(f->record);
	free(f);
}

bool pl_facts_live_now(const struct pl_facts *f)
{
	return !f->replayed;
}

const char *pl_facts_root(const struct pl_facts *f)
{
	return f->root;
}

const char *pl_facts_nvml_library(const struct pl_facts *f)
{
	return f->nvml_library;
}

static void set(struct pl_facts *f, const char *key, const char *text)
{
	json_t *v = text ? json_string(text) : json_null();
	/* Firmware texts are not always UTF-8: what is not is left out of the record. */
	(void)json_object_set_new(f->record, key, v ? v : json_null());
}

static void key_of(char *key, const char *fmt, va_list ap)
{
	(void)vsnprintf(key, MAX_KEY, fmt, ap);
}

void pl_facts_put(struct pl_facts *f, const char *text, const char *fmt, ...)
{
	char key[MAX_KEY];
	va_list ap;
	va_start(ap, fmt);
	key_of(key, fmt, ap);
	va_end(ap);
	set(f, key, text);
}

const char *pl_facts_get(const struct pl_facts *f, const char *fmt, ...)
{
	char key[MAX_KEY];
	va_list ap;
	va_start(ap, fmt);
	key_of(key, fmt, ap);
	va_end(ap);
	return json_string_value(json_object_get(f->record, key));
}

double pl_facts_number(const struct pl_facts *f, const char *fmt, ...)
{
	char key[MAX_KEY], *end;
	va_list ap;
	va_start(ap, fmt);
	key_of(key, fmt, ap);
	va_end(ap);
	const char *text = json_string_value(json_object_get(f->record, key));
	double v = text ? strtod(text, &end) : NAN;
	return text && end != text ? v : NAN;
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

static bool read_file(const char *path, char *buf, size_t size)
{
	size_t have = 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return false;
	while (have < size - 1) {
		ssize_t n = read(fd, buf + have, size - 1 - have);
		if (n <= 0)
			break;
		have += (size_t)n;
	}
	(void)close(fd);
	while (have && (buf[have - 1] == '\n' || buf[have - 1] == ' '))
		have--;
	buf[have] = '\0';
	return have > 0;
}

bool pl_facts_file(struct pl_facts *f, const char *path, char *buf, size_t size)
{
	char full[MAX_KEY];
	if (f->replayed) {
		const char *text = pl_facts_get(f, "%s", path);
		if (text)
			(void)snprintf(buf, size, "%s", text);
		return text != NULL;
	}
	bool good = (size_t)snprintf(full, sizeof full, "%s%s", f->root, path) < sizeof full && read_file(full, buf, size);
	set(f, path, good ? buf : NULL);
	return good;
}

bool pl_facts_file_u64(struct pl_facts *f, const char *path, uint64_t *ret)
{
	char buf[64], *end;
	if (!pl_facts_file(f, path, buf, sizeof buf) || buf[0] < '0' || buf[0] > '9')
		return false;
	*ret = strtoull(buf, &end, 10);
	return true;
}

static int by_number(const void *x, const void *y)
{
	const char *a = *(char *const *)x, *b = *(char *const *)y;
	const char *da = a + strcspn(a, "0123456789"), *db = b + strcspn(b, "0123456789");
	long na = strtol(da, NULL, 10), nb = strtol(db, NULL, 10);
	return na != nb ? (na > nb) - (na < nb) : strcmp(a, b);
}

static size_t split(struct pl_arena *a, const char *text, char **ret_names, size_t max)
{
	size_t n = 0;
	while (text && *text && n < max) {
		size_t len = strcspn(text, "\n");
		if ((ret_names[n] = pl_arena_strndup(a, text, len)))
			n++;
		text += len + (text[len] == '\n');
	}
	return n;
}

size_t pl_facts_folder(struct pl_facts *f, struct pl_arena *a, const char *path, char **ret_names, size_t max)
{
	char full[MAX_KEY];
	size_t n = 0;
	if (f->replayed)
		return split(a, pl_facts_get(f, "list:%s", path), ret_names, max);
	DIR *dir = (size_t)snprintf(full, sizeof full, "%s%s", f->root, path) < sizeof full ? opendir(full) : NULL;
	for (struct dirent *e; dir && n < max && (e = readdir(dir));)
		if (e->d_name[0] != '.' && (ret_names[n] = pl_arena_strdup(a, e->d_name)))
			n++;
	if (dir)
		(void)closedir(dir);
	qsort(ret_names, n, sizeof *ret_names, by_number); /* the order must not depend on the file system */
	const char *all = dir ? "" : NULL;
	for (size_t i = 0; i < n && all; i++)
		all = pl_arena_printf(a, "%s%s%s", all, i ? "\n" : "", ret_names[i]);
	pl_facts_put(f, all, "list:%s", path);
	return n;
}

/* ---- programs ---------------------------------------------------------------------------------------------------- */

static double now_s(void)
{
	struct timespec t;
	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Reads until the end, the limit or the size; true at the end. */
static bool drain(int fd, char *buf, size_t size, double until)
{
	size_t have = 0;
	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		double left = until - now_s();
		if (left <= 0 || have == size - 1 || poll(&p, 1, (int)(left * 1000) + 1) <= 0)
			break;
		ssize_t n = read(fd, buf + have, size - 1 - have);
		if (n <= 0) {
			buf[have] = '\0';
			return n == 0;
		}
		have += (size_t)n;
	}
	buf[have] = '\0';
	return have == size - 1;
}

static bool run(const char *const *argv, char *buf, size_t size, int limit_s)
{
	int fds[2], status = -1;
	pid_t pid;
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	if (pipe2(fds, O_CLOEXEC))
		return false;
	(void)posix_spawn_file_actions_init(&actions);
	(void)posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	(void)posix_spawn_file_actions_adddup2(&actions, fds[1], 1);
	(void)posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
	(void)posix_spawnattr_init(&attr);
	(void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP); /* a group of its own, so that all of it can be ended */
	int rc = posix_spawnp(&pid, argv[0], &actions, &attr, (char *const *)(uintptr_t)argv, environ);
	(void)posix_spawn_file_actions_destroy(&actions);
	(void)posix_spawnattr_destroy(&attr);
	(void)close(fds[1]);
	bool whole = rc == 0 && drain(fds[0], buf, size, now_s() + limit_s);
	(void)close(fds[0]);
	if (rc == 0) {
		if (!whole)
			(void)kill(-pid, SIGKILL);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	}
	return whole && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

const char *pl_facts_run(struct pl_facts *f, struct pl_arena *a, const char *key, const char *const *argv, int limit_s)
{
	enum { MAX_OUTPUT = 65536 };
	if (f->replayed)
		return pl_facts_get(f, "run:%s", key);
	char *buf = pl_arena_alloc(a, MAX_OUTPUT);
	if (*f->root || !buf || !run(argv, buf, MAX_OUTPUT, limit_s)) { /* programs of this system say nothing about another root */
		pl_facts_put(f, NULL, "run:%s", key);
		return NULL;
	}
	size_t n = strlen(buf);
	while (n && isspace((unsigned char)buf[n - 1]))
		buf[--n] = '\0';
	pl_facts_put(f, buf, "run:%s", key);
	return buf;
}

const char *pl_facts_variable(struct pl_facts *f, const char *name)
{
	if (f->replayed)
		return pl_facts_get(f, "env:%s", name);
	const char *text = getenv(name);
	pl_facts_put(f, text, "env:%s", name);
	return text;
}

/* ---- records ----------------------------------------------------------------------------------------------------- */

int pl_facts_load(const char *path, struct pl_facts **ret, struct pl_err *err)
{
	json_error_t fault;
	FILE *in = fopen(path, "rbe");
	const char *key;
	json_t *value;
	if (!in)
		return pl_fail(err, PL_ERR_IO, path, "cannot be opened: %s", strerror(errno));
	bool large = !fseek(in, 0, SEEK_END) && ftell(in) > MAX_RECORD;
	rewind(in);
	json_t *o = large ? NULL : json_loadf(in, JSON_REJECT_DUPLICATES, &fault);
	(void)fclose(in);
	if (large)
		return pl_fail(err, PL_ERR_LIMIT, path, "is larger than 16 MiB, which no record of a machine is");
	if (!o)
		return pl_fail(err, PL_ERR_FORMAT, path, "line %d: %s", fault.line, fault.text);
	json_t *facts = json_object_get(o, "facts");
	int rc = json_is_object(facts) ? 0 : pl_fail(err, PL_ERR_FORMAT, path, "no \"facts\": this is no record of 'plimsoll gather'");
	json_object_foreach(facts, key, value)
		if (!rc && !json_is_string(value) && !json_is_null(value))
			rc = pl_fail(err, PL_ERR_FORMAT, path, "the fact '%.80s' is no text", key);
	struct pl_facts *f = rc ? NULL : pl_facts_new(NULL);
	if (f) {
		f->replayed = f->nvml_read = true;
		(void)json_object_update(f->record, facts);
		*ret = f;
	}
	json_decref(o);
	return rc || f ? rc : pl_fail(err, PL_ERR_NOMEM, path, "out of memory");
}

int pl_facts_save(const struct pl_facts *f, const char *path, FILE *out, struct pl_err *err)
{
	char tmp[4096] = "";
	json_t *o = json_pack("{s:i, s:O}", "format", 1, "facts", f->record);
	FILE *to = out;
	if (!o)
		return pl_fail(err, PL_ERR_NOMEM, path, "out of memory");
	if (path) {
		int n = snprintf(tmp, sizeof tmp, "%s.%ld.tmp", path, (long)getpid());
		to = n < (int)sizeof tmp ? fopen(tmp, "wxe") : NULL;
	}
	bool good = to && !json_dumpf(o, to, JSON_INDENT(1) | JSON_SORT_KEYS) && fputc('\n', to) != EOF;
	json_decref(o);
	if (path && to)
		good = !fclose(to) && good && !rename(tmp, path);
	if (good)
		return 0;
	int fault = errno;
	if (path && to)
		(void)unlink(tmp);
	return pl_fail(err, PL_ERR_IO, path, "cannot be written: %s", strerror(fault));
}

void pl_facts_nvml(struct pl_facts *f)
{
	if (f->nvml_read)
		return;
	f->nvml_read = true;
	pl_nvml_read(f);
}
