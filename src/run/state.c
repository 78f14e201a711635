/* What was started, on disk: STATE/engines/NAME/state.json beside its log. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "run/run.h"

static int make_folders(const char *path, struct pl_err *err)
{
	char copy[4096];
	if (snprintf(copy, sizeof copy, "%s", path) >= (int)sizeof copy)
		return pl_fail(err, PL_ERR_IO, path, "the path is too long");
	for (char *at = copy + 1;; at++)
		if (*at == '/' || !*at) {
			char was = *at;
			*at = '\0';
			if (mkdir(copy, 0700) && errno != EEXIST)
				return pl_fail(err, PL_ERR_IO, copy, "cannot be made: %s", strerror(errno));
			*at = was;
			if (!was)
				return 0;
		}
}

/* $PLIMSOLL_STATE, else the place the XDG base directory specification gives to state. */
static const char *place(struct pl_arena *a, struct pl_err *err)
{
	const char *own = getenv("PLIMSOLL_STATE"), *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	if (own && *own)
		return pl_arena_strdup(a, own);
	if (xdg && *xdg == '/')
		return pl_arena_printf(a, "%s/plimsoll", xdg);
	if (home && *home)
		return pl_arena_printf(a, "%s/.local/state/plimsoll", home);
	(void)pl_fail(err, PL_ERR_ENVIRONMENT, "HOME", "is not set, so there is no place to remember things: set PLIMSOLL_STATE");
	return NULL;
}

const char *pl_state_place(struct pl_arena *a, struct pl_err *err)
{
	const char *path = place(a, err);
	return path && !make_folders(path, err) ? path : NULL;
}

static const char *state_root(struct pl_arena *a, struct pl_err *err)
{
	const char *path = place(a, err);
	return path ? pl_arena_printf(a, "%s/engines", path) : NULL;
}

static bool is_name(const char *name)
{
	return *name && *name != '-' && !name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-")];
}

const char *pl_state_folder(struct pl_arena *a, const char *name, bool make, struct pl_err *err)
{
	const char *root = state_root(a, err);
	if (!root)
		return NULL;
	if (!is_name(name)) {
		(void)pl_fail(err, PL_ERR_UNKNOWN_NAME, name, "a name holds lower-case letters, digits and '-' only");
		return NULL;
	}
	const char *folder = pl_arena_printf(a, "%s/%s", root, name);
	return folder && (!make || !make_folders(folder, err)) ? folder : NULL;
}

int pl_state_lock(struct pl_arena *a, const char *name, int *ret_fd, struct pl_err *err)
{
	const char *folder = pl_state_folder(a, name, true, err);
	const char *path = folder ? pl_arena_printf(a, "%s/lock", folder) : NULL;
	if (!path)
		return err->code ? -(int)err->code : pl_fail(err, PL_ERR_NOMEM, name, "out of memory");
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return pl_fail(err, PL_ERR_IO, path, "cannot be opened: %s", strerror(errno));
	if (flock(fd, LOCK_EX | LOCK_NB)) {
		(void)close(fd);
		return pl_fail(err, PL_ERR_RANGE, name, "another 'plimsoll up' or 'down' works on it right now");
	}
	*ret_fd = fd;
	return 0;
}

void pl_state_unlock(int fd)
{
	if (fd >= 0)
		(void)close(fd);
}

static json_t *text(const char *s)
{
	return s ? json_string(s) : json_null();
}

int pl_state_save(struct pl_arena *a, const struct pl_state *s, struct pl_err *err)
{
	const struct pl_running *r = &s->r;
	const char *folder = pl_state_folder(a, r->name, true, err);
	if (!folder)
		return err->code ? -(int)err->code : pl_fail(err, PL_ERR_NOMEM, r->name, "out of memory");
	const char *path = pl_arena_printf(a, "%s/state.json", folder), *tmp = pl_arena_printf(a, "%s/state.tmp", folder);
	json_t *o = json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:s, s:I, s:f}", "name", r->name, "engine",
	                      text(r->engine), "model", text(r->model_ref), "url", text(r->url), "log", text(r->log_path), "container",
	                      text(r->container), "runtime", text(r->runtime), "api_key", text(r->api_key), "health_path", text(r->health_path),
	                      "metrics_path", text(r->metrics_path), "plan", text(r->plan_json), "pid", (json_int_t)s->id.pid, "start_ticks",
	                      (json_int_t)s->id.start_ticks, "boot_id", s->id.boot_id, "started", (json_int_t)r->started_unix_s, "ready_after_s",
	                      r->ready_after_s);
	int fd = o && path && tmp ? open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1; /* it may hold a key */
	FILE *out = fd < 0 ? NULL : fdopen(fd, "we");
	bool good = out && !json_dumpf(o, out, JSON_INDENT(1)) && !fflush(out) && !fsync(fd);
	if (out)
		good = !fclose(out) && good;
	json_decref(o);
	if (good && !rename(tmp, path))
		return 0;
	return pl_fail(err, PL_ERR_IO, path, "cannot be written: %s", strerror(errno));
}

static const char *field(struct pl_arena *a, const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));
	return s ? pl_arena_strdup(a, s) : NULL;
}

int pl_state_load(struct pl_arena *a, const char *name, struct pl_state *ret, struct pl_err *err)
{
	const char *folder = pl_state_folder(a, name, false, err);
	const char *path = folder ? pl_arena_printf(a, "%s/state.json", folder) : NULL;
	json_error_t fault;
	if (!path)
		return err->code ? -(int)err->code : pl_fail(err, PL_ERR_NOMEM, name, "out of memory");
	if (access(path, F_OK))
		return pl_fail(err, PL_ERR_UNKNOWN_NAME, name, "no engine was started under this name; 'plimsoll status' lists those that were");
	json_t *o = json_load_file(path, JSON_REJECT_DUPLICATES, &fault);
	if (!o)
		return pl_fail(err, PL_ERR_FORMAT, path, "line %d: %s", fault.line, fault.text);
	*ret = (struct pl_state){.lock_fd = -1};
	ret->r = (struct pl_running){
	    .name = pl_arena_strdup(a, name), .engine = field(a, o, "engine"), .model_ref = field(a, o, "model"), .url = field(a, o, "url"),
	    .log_path = field(a, o, "log"), .container = field(a, o, "container"), .runtime = field(a, o, "runtime"),
	    .api_key = field(a, o, "api_key"), .health_path = field(a, o, "health_path"), .metrics_path = field(a, o, "metrics_path"),
	    .plan_json = field(a, o, "plan"), .pid = json_integer_value(json_object_get(o, "pid")),
	    .started_unix_s = json_integer_value(json_object_get(o, "started")),
	    .ready_after_s = json_real_value(json_object_get(o, "ready_after_s"))};
	ret->id.pid = ret->r.pid;
	ret->id.start_ticks = (uint64_t)json_integer_value(json_object_get(o, "start_ticks"));
	const char *boot = json_string_value(json_object_get(o, "boot_id"));
	(void)snprintf(ret->id.boot_id, sizeof ret->id.boot_id, "%s", boot ? boot : "");
	json_decref(o);
	if (!ret->r.url || !ret->r.engine)
		return pl_fail(err, PL_ERR_FORMAT, path, "holds no engine and no address");
	return 0;
}

void pl_state_forget(struct pl_arena *a, const char *name)
{
	struct pl_err err = {0};
	const char *folder = pl_state_folder(a, name, false, &err);
	const char *path = folder ? pl_arena_printf(a, "%s/state.json", folder) : NULL;
	if (path)
		(void)unlink(path);
}

static int by_name(const void *x, const void *y)
{
	return strcmp(*(char *const *)x, *(char *const *)y);
}

size_t pl_state_names(struct pl_arena *a, char **ret_names, size_t max, struct pl_err *err)
{
	const char *root = state_root(a, err);
	DIR *dir = root ? opendir(root) : NULL;
	size_t n = 0;
	for (struct dirent *e; dir && n < max && (e = readdir(dir));) {
		const char *path = is_name(e->d_name) ? pl_arena_printf(a, "%s/%s/state.json", root, e->d_name) : NULL;
		if (path && !access(path, F_OK) && (ret_names[n] = pl_arena_strdup(a, e->d_name)))
			n++;
	}
	if (dir)
		(void)closedir(dir);
	qsort(ret_names, n, sizeof *ret_names, by_name);
	return n;
}
