#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "emit/job.h"
#include "run/run.h"
#include "source/curl.h"

struct up {
	struct pl_arena *a;
	const struct pl_up_request *req;
	struct pl_emit_job j;
	struct pl_state s;
	struct pl_up_result *ret;
	double started_s;
	const char *env[4]; /* NULL-terminated */
	uint32_t n_env;
};

/* ---- where ------------------------------------------------------------------------------------------------------- */

/* Can the address be bound now? Engines ask the same a moment later. */
static int try_address(const char *host, uint16_t port, struct pl_err *err)
{
	char service[8];
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *list = NULL;
	int one = 1, fault = 0;
	(void)snprintf(service, sizeof service, "%u", port);
	int rc = getaddrinfo(host, service, &hints, &list);
	if (rc)
		return pl_fail(err, PL_ERR_RANGE, host, "is no address of this machine: %s", gai_strerror(rc));
	int fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0) {
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
		fault = bind(fd, list->ai_addr, list->ai_addrlen) || listen(fd, 1) ? errno : 0;
		(void)close(fd);
	}
	freeaddrinfo(list);
	if (fault == EADDRINUSE)
		return pl_fail(err, PL_ERR_RANGE, host, "port %u is taken by another program; name another with --port", port);
	return fault ? pl_fail(err, PL_ERR_ENVIRONMENT, host, "port %u cannot be used: %s", port, strerror(fault)) : 0;
}

/* The port asked for; without one, the first free of twenty from the engine's own on. */
static int find_port(struct up *u, struct pl_err *err)
{
	uint16_t first = u->j.port;
	for (unsigned k = 0; k < (u->req->where.port ? 1 : 20) && first + k <= 65535; k++) {
		u->j.port = (uint16_t)(first + k);
		err->code = PL_OK;
		if (!try_address(u->j.host, u->j.port, err))
			return 0;
		if (err->code != PL_ERR_RANGE)
			break;
	}
	return -(int)err->code;
}

static const char *url(struct up *u)
{
	/* an engine that answers everywhere is asked here */
	const char *host = !strcmp(u->j.host, "0.0.0.0") || !strcmp(u->j.host, "::") ? "127.0.0.1" : u->j.host;
	return pl_arena_printf(u->a, strchr(host, ':') ? "http://[%s]:%u" : "http://%s:%u", host, u->j.port);
}

static int check_free(struct up *u, struct pl_err *err)
{
	struct pl_state old;
	struct pl_err none = {0};
	if (pl_state_load(u->a, u->j.name, &old, &none))
		return 0;
	bool lives = old.r.container || pl_identity_lives(&old.id);
	return lives ? pl_fail(err, PL_ERR_RANGE, u->j.name, "runs already at %s; 'plimsoll down %s' ends it", old.r.url, u->j.name) : 0;
}

/* ---- starting ---------------------------------------------------------------------------------------------------- */

static void add_word(struct pl_argv *v, const char *w)
{
	v->words[v->n_words++] = w;
}

/* Through the environment where the engine reads it there: command lines are visible to every user. */
static void add_key(struct up *u, struct pl_argv *v)
{
	const char *key = u->req->api_key;
	if (!key)
		return;
	if (u->j.server->api_key_env) {
		u->env[u->n_env++] = pl_arena_printf(u->a, "%s=%s", u->j.server->api_key_env, key);
	} else if (u->j.server->api_key_flag) {
		add_word(v, u->j.server->api_key_flag);
		add_word(v, key);
	}
}

static int start_process(struct up *u, const char *program, struct pl_err *err)
{
	struct pl_argv v;
	int rc = pl_emit_line(&u->j, 0, u->j.host, u->j.port, &v, err);
	if (rc)
		return rc;
	v.words[0] = program;
	if (u->j.server->log_env)
		u->env[u->n_env++] = u->j.server->log_env;
	add_key(u, &v);
	rc = pl_process_start(u->a, &v, u->env, u->s.r.log_path, u->req->where.working_dir, &u->s.r.pid, err);
	if (!rc && !pl_identity_of(u->s.r.pid, &u->s.id)) /* gone already: its log says why */
		u->s.id = (struct pl_identity){.pid = u->s.r.pid};
	return rc;
}

static void add_container_gpus(struct up *u, struct pl_argv *v)
{
	if (!u->j.n_gpus)
		return;
	if (!strcmp(u->j.backend, "cuda")) {
		add_word(v, "--gpus");
		add_word(v, pl_arena_printf(u->a, "\"device=%s\"", pl_emit_gpu_list(&u->j, 0)));
		return;
	}
	static const char *const words[] = {"--device", "/dev/dri", "--group-add", "video", "--group-add", "render"};
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		add_word(v, words[i]);
	if (!strcmp(u->j.backend, "rocm")) {
		add_word(v, "--device");
		add_word(v, "/dev/kfd");
	}
	add_word(v, "-e");
	add_word(v, pl_arena_printf(u->a, "%s=%s", pl_emit_gpu_variable(&u->j), pl_emit_gpu_list(&u->j, 0)));
}

static int container_words(struct up *u, const char *runtime, struct pl_argv *v, struct pl_err *err)
{
	struct pl_container c;
	int rc = pl_emit_container(&u->j, u->j.server->port, &c, err);
	if (rc)
		return rc;
	*v = (struct pl_argv){.words = PL_NEW_N(u->a, const char *, (uint64_t)c.argv.n_words + c.argv.n_env * 2 + 64)};
	if (!v->words)
		return pl_fail(err, PL_ERR_NOMEM, runtime, "out of memory");
	const char *const head[] = {runtime, "run", "-d", "--name", u->s.r.container, "-p", NULL, "--shm-size", "16g", "--ulimit", "memlock=-1"};
	for (size_t i = 0; i < sizeof head / sizeof *head; i++)
		add_word(v, head[i] ? head[i] : pl_arena_printf(u->a, "%s:%u:%u", u->j.host, u->j.port, u->j.server->port));
	add_container_gpus(u, v);
	for (uint32_t i = 0; i < c.n_mounts; i++) {
		add_word(v, "--mount");
		add_word(v, pl_arena_printf(u->a, "type=bind,\"source=%s\",target=%s,readonly", c.mounts[i].host_dir, c.mounts[i].inner_dir));
	}
	if (c.needs_cache) {
		add_word(v, "-v");
		add_word(v, pl_arena_printf(u->a, "plimsoll-models:%s", c.cache_dir));
	}
	for (uint32_t i = 0; i < c.argv.n_env; i++) {
		add_word(v, "-e");
		add_word(v, c.argv.env[i]);
	}
	if (u->j.server->log_env) {
		add_word(v, "-e");
		add_word(v, u->j.server->log_env);
	}
	if (u->req->api_key && u->j.server->api_key_env) {
		add_word(v, "-e");
		add_word(v, pl_arena_printf(u->a, "%s=%s", u->j.server->api_key_env, u->req->api_key));
	}
	add_word(v, "--entrypoint");
	add_word(v, c.argv.words[0]);
	add_word(v, c.image);
	for (uint32_t i = 1; i < c.argv.n_words; i++)
		add_word(v, c.argv.words[i]);
	if (u->req->api_key && !u->j.server->api_key_env && u->j.server->api_key_flag) {
		add_word(v, u->j.server->api_key_flag);
		add_word(v, u->req->api_key);
	}
	return 0;
}

/* An image may have to be fetched first: as much patience as with loading. */
static int start_container(struct up *u, const char *runtime, struct pl_err *err)
{
	struct pl_argv v;
	u->s.r.container = pl_arena_printf(u->a, "plimsoll-%s", u->j.name);
	u->s.r.runtime = pl_arena_strdup(u->a, runtime);
	int rc = container_words(u, runtime, &v, err);
	if (rc)
		return rc;
	const char *const remove[] = {runtime, "rm", "-f", u->s.r.container, NULL};
	(void)pl_process_run(remove, NULL, 60); /* one left over from before a reboot */
	int status = pl_process_run(v.words, u->s.r.log_path, 3600);
	if (!status)
		return 0;
	u->ret->fault = pl_log_explain(u->a, u->s.r.log_path, &u->ret->log_line);
	u->ret->exit_status = status;
	return pl_fail(err, PL_ERR_ENVIRONMENT, runtime, "the container did not start: %s", u->ret->log_line);
}

static int start(struct up *u, struct pl_err *err)
{
	const char *wanted = u->req->where.program ? u->req->where.program : u->req->plan->argv.words[0];
	const char *program = u->req->container == PL_CONTAINER_ALWAYS ? NULL : pl_program_find(u->a, wanted);
	if (program)
		return start_process(u, program, err);
	const char *runtime = u->req->container == PL_CONTAINER_NEVER ? NULL : pl_program_find(u->a, "docker");
	if (!runtime && u->req->container != PL_CONTAINER_NEVER)
		runtime = pl_program_find(u->a, "podman");
	if (runtime)
		return start_container(u, runtime, err);
	return pl_fail(err, PL_ERR_ENVIRONMENT, wanted, "is not on this machine (PATH), and there is no docker or podman to run its image");
}

/* ---- waiting ----------------------------------------------------------------------------------------------------- */

/* False once it ended; then *ret_status is what it ended with. */
static bool still_there(struct up *u, int *ret_status)
{
	int status;
	if (u->s.r.container) {
		const char *const look[] = {u->s.r.runtime, "exec", u->s.r.container, "true", NULL};
		*ret_status = pl_process_run(look, NULL, 20);
		return *ret_status == 0;
	}
	if (waitpid((pid_t)u->s.r.pid, &status, WNOHANG) != (pid_t)u->s.r.pid)
		return true;
	*ret_status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	return false;
}

static int ended(struct up *u, int status, struct pl_err *err)
{
	if (u->s.r.container) {
		const char *const logs[] = {u->s.r.runtime, "logs", u->s.r.container, NULL};
		(void)pl_process_run(logs, u->s.r.log_path, 20);
	}
	u->ret->exit_status = status;
	u->ret->fault = pl_log_explain(u->a, u->s.r.log_path, &u->ret->log_line);
	if (u->ret->fault == PL_START_UNKNOWN && status == 128 + SIGKILL)
		u->ret->fault = PL_START_KILLED;
	return pl_fail(err, PL_ERR_ENVIRONMENT, u->req->plan->engine->id, "did not start: %s", pl_start_fault_text(u->ret->fault));
}

static int wait_ready(struct up *u, struct pl_err *err)
{
	char body[256];
	const char *health = pl_arena_printf(u->a, "%s%s", u->s.r.url, u->j.server->health_path);
	double limit = u->req->wait_s > 0 ? u->req->wait_s : (double)u->j.start_s, said = 0;
	for (int round = 0;; round++) {
		long status = 0;
		int code = 0;
		if (u->req->interrupted && *u->req->interrupted)
			return pl_fail(err, PL_ERR_ENVIRONMENT, u->j.name, "given up before it answered; it was ended again");
		if ((!u->s.r.container || round % 16 == 15) && !still_there(u, &code))
			return ended(u, code, err);
		int rc = health ? pl_http_get(health, u->req->api_key, 2, body, sizeof body, &status, err) : 0;
		if (rc || !health)
			return rc ? rc : pl_fail(err, PL_ERR_NOMEM, u->j.name, "out of memory");
		double elapsed = pl_clock_s() - u->started_s;
		if (status == 200) {
			u->s.r.ready_after_s = elapsed;
			u->s.r.state = PL_RUN_READY;
			return 0;
		}
		if (elapsed > limit)
			break;
		if (u->req->progress && elapsed - said >= 1) {
			said = elapsed;
			u->req->progress(u->req->user, elapsed, pl_log_last_line(u->a, u->s.r.log_path));
		}
		pl_wait_s(round < 20 ? 0.1 : 0.25);
	}
	u->ret->fault = PL_START_TIMEOUT;
	u->ret->log_line = pl_log_last_line(u->a, u->s.r.log_path);
	return pl_fail(err, PL_ERR_ENVIRONMENT, u->req->plan->engine->id, "did not answer at %s within %.0f s", u->s.r.url, limit);
}

static void end(const struct pl_running *r, const struct pl_identity *id, double patience_s)
{
	char seconds[16];
	(void)snprintf(seconds, sizeof seconds, "%.0f", patience_s);
	if (r->container && r->runtime) {
		const char *const stop[] = {r->runtime, "stop", "-t", seconds, r->container, NULL};
		const char *const remove[] = {r->runtime, "rm", "-f", r->container, NULL};
		(void)pl_process_run(stop, NULL, patience_s + 30);
		(void)pl_process_run(remove, NULL, 60);
	} else {
		pl_process_end(id, patience_s);
	}
}

static int run(struct up *u, struct pl_err *err)
{
	int rc = check_free(u, err);
	rc = rc ? rc : find_port(u, err);
	if (rc)
		return rc;
	const char *folder = pl_state_folder(u->a, u->j.name, true, err);
	if (!folder)
		return err->code ? -(int)err->code : pl_fail(err, PL_ERR_NOMEM, u->j.name, "out of memory");
	u->s.r = (struct pl_running){.name = u->j.name, .engine = u->req->plan->engine->id, .model_ref = u->req->plan->model->name,
	                             .url = url(u), .log_path = pl_arena_printf(u->a, "%s/log", folder), .api_key = u->req->api_key,
	                             .health_path = u->j.server->health_path, .metrics_path = u->j.server->metrics_path,
	                             .plan_json = u->req->plan_json, .started_unix_s = (int64_t)time(NULL)};
	(void)unlink(u->s.r.log_path);
	u->started_s = pl_clock_s();
	rc = start(u, err);
	rc = rc ? rc : pl_state_save(u->a, &u->s, err); /* at once: 'down' must find it even if this program dies here */
	rc = rc ? rc : wait_ready(u, err);
	rc = rc ? rc : pl_state_save(u->a, &u->s, err);
	if (rc && (u->s.r.pid || u->s.r.container)) {
		end(&u->s.r, &u->s.id, 5);
		pl_state_forget(u->a, u->j.name);
	}
	return rc;
}

int pl_up(struct pl_arena *a, const struct pl_up_request *req, struct pl_up_result *ret, struct pl_err *err)
{
	struct up u = {.a = a, .req = req, .ret = ret};
	int lock = -1;
	*ret = (struct pl_up_result){.log_line = ""};
	int rc = pl_emit_begin(&u.j, a, req->plan, &req->where, true, err);
	rc = rc ? rc : pl_state_lock(a, u.j.name, &lock, err);
	rc = rc ? rc : run(&u, err);
	ret->running = u.s.r;
	pl_state_unlock(lock);
	return rc;
}

/* ---- afterwards -------------------------------------------------------------------------------------------------- */

static enum pl_run_state state_of(struct pl_arena *a, const struct pl_state *s, double limit_s)
{
	char body[64];
	long status = 0;
	struct pl_err err = {0};
	const struct pl_running *r = &s->r;
	if (!r->container && !pl_identity_same_boot(&s->id))
		return PL_RUN_GONE;
	if (!r->container && !pl_identity_lives(&s->id))
		return PL_RUN_EXITED;
	if (r->container) {
		const char *const look[] = {r->runtime, "exec", r->container, "true", NULL};
		if (pl_process_run(look, NULL, limit_s + 5))
			return PL_RUN_GONE;
	}
	const char *health = r->health_path ? pl_arena_printf(a, "%s%s", r->url, r->health_path) : NULL;
	if (health && !pl_http_get(health, r->api_key, limit_s, body, sizeof body, &status, &err) && status == 200)
		return PL_RUN_READY;
	return PL_RUN_STARTING;
}

int pl_running_find(struct pl_arena *a, const char *name, struct pl_running *ret, struct pl_err *err)
{
	struct pl_state s;
	int rc = pl_state_load(a, name, &s, err);
	if (rc)
		return rc;
	s.r.state = state_of(a, &s, 2);
	*ret = s.r;
	return 0;
}

int pl_running_list(struct pl_arena *a, double limit_s, struct pl_running **ret, uint32_t *ret_n, struct pl_err *err)
{
	enum { MAX_ENGINES = 256 };
	char *names[MAX_ENGINES];
	size_t n = pl_state_names(a, names, MAX_ENGINES, err);
	*ret = PL_NEW_N(a, struct pl_running, n + 1);
	*ret_n = 0;
	if (!*ret)
		return pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory");
	for (size_t i = 0; i < n; i++) {
		struct pl_state s;
		struct pl_err one = {0};
		if (pl_state_load(a, names[i], &s, &one)) /* damaged: named, and left for its owner to look at */
			s = (struct pl_state){.r = {.name = names[i], .engine = "?", .url = "?", .state = PL_RUN_GONE}};
		else
			s.r.state = state_of(a, &s, limit_s);
		(*ret)[(*ret_n)++] = s.r;
	}
	return 0;
}

int pl_down(struct pl_arena *a, const char *name, double patience_s, struct pl_err *err)
{
	struct pl_state s;
	int lock = -1;
	int rc = pl_state_load(a, name, &s, err);
	rc = rc ? rc : pl_state_lock(a, name, &lock, err);
	if (!rc) {
		end(&s.r, &s.id, patience_s);
		pl_state_forget(a, name);
	}
	pl_state_unlock(lock);
	return rc;
}

const char *pl_run_state_name(enum pl_run_state s)
{
	static const char *const names[] = {"starting", "ready", "exited", "gone"};
	return (unsigned)s < sizeof names / sizeof *names ? names[s] : "gone";
}
