#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "run/run.h"

extern char **environ;

double pl_clock_s(void)
{
	struct timespec t;
	(void)clock_gettime(CLOCK_MONOTONIC, &t); /* steps of the wall clock do not matter */
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void pl_wait_s(double s)
{
	struct timespec t = {.tv_sec = (time_t)s, .tv_nsec = (long)((s - (double)(time_t)s) * 1e9)};
	(void)nanosleep(&t, NULL); /* a signal ends the wait early: the caller looks again */
}

static bool read_text(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, size - 1);
	if (fd >= 0)
		(void)close(fd);
	buf[n > 0 ? n : 0] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	return n > 0;
}

/* Start time and state of a process; the name in the second field may hold anything, even ')'. */
static bool stat_of(int64_t pid, uint64_t *ret_ticks, char *ret_state)
{
	char path[64], text[1024];
	unsigned long long ticks;
	(void)snprintf(path, sizeof path, "/proc/%lld/stat", (long long)pid);
	if (!read_text(path, text, sizeof text))
		return false;
	const char *at = strrchr(text, ')');
	if (!at || sscanf(at + 1, " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu", ret_state, &ticks) != 2)
		return false;
	*ret_ticks = ticks;
	return true;
}

bool pl_identity_of(int64_t pid, struct pl_identity *ret)
{
	char state;
	*ret = (struct pl_identity){.pid = pid};
	return stat_of(pid, &ret->start_ticks, &state) && read_text("/proc/sys/kernel/random/boot_id", ret->boot_id, sizeof ret->boot_id);
}

bool pl_identity_same_boot(const struct pl_identity *id)
{
	char boot[40];
	return read_text("/proc/sys/kernel/random/boot_id", boot, sizeof boot) && !strcmp(boot, id->boot_id);
}

bool pl_identity_lives(const struct pl_identity *id)
{
	uint64_t ticks;
	char state;
	return id->pid > 1 && pl_identity_same_boot(id) && stat_of(id->pid, &ticks, &state) && ticks == id->start_ticks && state != 'Z' && state != 'X';
}

const char *pl_program_find(struct pl_arena *a, const char *name)
{
	const char *path = getenv("PATH");
	if (strchr(name, '/'))
		return access(name, X_OK) ? NULL : name;
	for (const char *at = path ? path : "/usr/bin:/bin"; *at;) {
		size_t n = strcspn(at, ":");
		const char *full = pl_arena_printf(a, "%.*s%s%s", (int)n, at, n ? "/" : "./", name);
		if (full && !access(full, X_OK))
			return full;
		at += n + (at[n] == ':');
	}
	return NULL;
}

/* The environment with some variables set anew. */
static char **environment(struct pl_arena *a, const struct pl_argv *argv, const char *const *extra)
{
	size_t n = 0, more = argv->n_env;
	while (environ[n])
		n++;
	for (size_t i = 0; extra && extra[i]; i++)
		more++;
	char **out = pl_arena_calloc(a, n + more + 1, sizeof *out);
	size_t used = 0;
	for (size_t i = 0; out && i < n + more; i++) {
		const char *v = i < n ? environ[i] : i < n + argv->n_env ? argv->env[i - n] : extra[i - n - argv->n_env];
		size_t len = strcspn(v, "=") + 1, k = 0;
		while (k < used && strncmp(out[k], v, len) != 0)
			k++;
		out[k] = pl_arena_strdup(a, v);
		used += k == used;
	}
	return out;
}

int pl_process_start(struct pl_arena *a, const struct pl_argv *argv, const char *const *extra_env, const char *log, const char *folder,
                     int64_t *ret_pid, struct pl_err *err)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;
	pid_t pid;
	char **env = environment(a, argv, extra_env);
	char **words = pl_arena_calloc(a, (uint64_t)argv->n_words + 1, sizeof *words);
	if (!env || !words)
		return pl_fail(err, PL_ERR_NOMEM, argv->words[0], "out of memory while starting it");
	for (uint32_t i = 0; i < argv->n_words; i++)
		words[i] = pl_arena_strdup(a, argv->words[i]);
	(void)posix_spawn_file_actions_init(&actions);
	(void)posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	(void)posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	(void)posix_spawn_file_actions_adddup2(&actions, 1, 2);
	if (folder)
		(void)posix_spawn_file_actions_addchdir_np(&actions, folder);
	(void)posix_spawnattr_init(&attr);
	(void)sigemptyset(&none);
	(void)sigfillset(&all);
	(void)posix_spawnattr_setsigmask(&attr, &none);
	(void)posix_spawnattr_setsigdefault(&attr, &all);
	(void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	int fault = posix_spawn(&pid, words[0], &actions, &attr, words, env);
	(void)posix_spawn_file_actions_destroy(&actions);
	(void)posix_spawnattr_destroy(&attr);
	if (fault)
		return pl_fail(err, PL_ERR_ENVIRONMENT, argv->words[0], "cannot be started: %s", strerror(fault));
	*ret_pid = pid;
	return 0;
}

static bool wait_for_end(const struct pl_identity *id, double limit_s)
{
	for (double until = pl_clock_s() + limit_s; pl_clock_s() < until; pl_wait_s(0.05)) {
		(void)waitpid((pid_t)id->pid, NULL, WNOHANG); /* when it is a child of this program */
		if (!pl_identity_lives(id))
			return true;
	}
	return !pl_identity_lives(id);
}

void pl_process_end(const struct pl_identity *id, double patience_s)
{
	if (!pl_identity_lives(id))
		return;
	/* it leads a session and a group of its own: its workers end with it */
	(void)kill((pid_t)-id->pid, SIGTERM);
	bool ended = wait_for_end(id, patience_s);
	(void)kill((pid_t)-id->pid, SIGKILL);
	if (!ended)
		(void)wait_for_end(id, 10);
}

int pl_process_run(const char *const *argv, const char *log, double limit_s)
{
	posix_spawn_file_actions_t actions;
	pid_t pid;
	int status = 0;
	(void)posix_spawn_file_actions_init(&actions);
	(void)posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
	(void)posix_spawn_file_actions_addopen(&actions, 1, log ? log : "/dev/null", O_WRONLY | (log ? O_CREAT | O_APPEND : 0), 0600);
	(void)posix_spawn_file_actions_adddup2(&actions, 1, 2);
	int fault = posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)(uintptr_t)argv, environ);
	(void)posix_spawn_file_actions_destroy(&actions);
	if (fault)
		return -1;
	for (double until = pl_clock_s() + limit_s; pl_clock_s() < until; pl_wait_s(0.02))
		if (waitpid(pid, &status, WNOHANG) == pid)
			return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, &status, 0);
	return -1;
}
