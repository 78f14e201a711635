/* Inside the room: processes, containers, state on disk, logs. */
#ifndef PLIMSOLL_RUN_INNER_H
#define PLIMSOLL_RUN_INNER_H

#include <stddef.h>

#include <plimsoll/run.h>

/* ---- processes (run/process.c) */

/* Who a process is, beyond its number: numbers are given out again. */
struct pl_identity {
	int64_t pid;
	uint64_t start_ticks; /* since boot, /proc/PID/stat field 22 */
	char boot_id[40];
};
bool pl_identity_of(int64_t pid, struct pl_identity *ret);
bool pl_identity_lives(const struct pl_identity *id); /* the same process, and no zombie */
bool pl_identity_same_boot(const struct pl_identity *id);

/* Starts argv in a session of its own, stdin empty, output appended to log. ENVIRONMENT with the reason. */
int pl_process_start(struct pl_arena *a, const struct pl_argv *argv, const char *const *extra_env, const char *log, const char *folder,
                     int64_t *ret_pid, struct pl_err *err);
/* Ends its whole session: SIGTERM, then SIGKILL after patience_s. */
void pl_process_end(const struct pl_identity *id, double patience_s);
/* Runs a program to its end, output to the log (NULL: dropped); its exit status, -1 when it could not be started. */
int pl_process_run(const char *const *argv, const char *log, double limit_s);
/* The full path of a program on PATH, or of a path given; NULL when there is none to execute. */
const char *pl_program_find(struct pl_arena *a, const char *name);
double pl_clock_s(void); /* monotonic */
void pl_wait_s(double s);

/* ---- state (run/state.c) */

struct pl_state {
	struct pl_running r;
	struct pl_identity id;
	int lock_fd; /* held while this program works on it; -1 not */
};
/* The folder of a name: made when `make`. NULL with the fault. */
const char *pl_state_folder(struct pl_arena *a, const char *name, bool make, struct pl_err *err);
/* Waits for nobody: RANGE when another run of this program works under the name. */
int pl_state_lock(struct pl_arena *a, const char *name, int *ret_fd, struct pl_err *err);
void pl_state_unlock(int fd);
int pl_state_save(struct pl_arena *a, const struct pl_state *s, struct pl_err *err);
/* UNKNOWN_NAME when nothing was started under the name. */
int pl_state_load(struct pl_arena *a, const char *name, struct pl_state *ret, struct pl_err *err);
void pl_state_forget(struct pl_arena *a, const char *name); /* the log stays */
size_t pl_state_names(struct pl_arena *a, char **ret_names, size_t max, struct pl_err *err);

/* ---- logs (run/explain.c) */

/* The fault a log tells of, and the line that tells it; UNKNOWN with the last line. */
enum pl_start_fault pl_log_explain(struct pl_arena *a, const char *path, const char **ret_line);
const char *pl_log_last_line(struct pl_arena *a, const char *path);

#endif
