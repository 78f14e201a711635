/* Engines as running processes or containers: started as planned, watched until they answer, ended again. What was started
 * is written down in a folder of the user's, so that it is found again by a later run of this program, also after a crash. */
#ifndef PLIMSOLL_RUN_H
#define PLIMSOLL_RUN_H

#include <plimsoll/emit.h>

enum pl_container_use { PL_CONTAINER_AUTO = 0 /* where the program is missing */, PL_CONTAINER_NEVER, PL_CONTAINER_ALWAYS };

enum pl_run_state {
	PL_RUN_STARTING = 0, /* alive, does not answer yet */
	PL_RUN_READY,        /* answers its health endpoint */
	PL_RUN_EXITED,       /* the process ended by itself */
	PL_RUN_GONE          /* started before this machine's last boot, or the container was removed */
};
const char *pl_run_state_name(enum pl_run_state s); /* "starting", "ready", "exited", "gone" */

/* One engine that was started; texts live in the caller's arena. */
struct pl_running {
	const char *name;      /* also the folder of its state */
	const char *engine, *model_ref;
	const char *url;       /* "http://127.0.0.1:8080" */
	const char *log_path;
	const char *container; /* name of the container, NULL: a process */
	const char *runtime;   /* "docker" or "podman", with container */
	const char *api_key;   /* asked of clients, NULL none */
	const char *health_path, *metrics_path;
	const char *plan_json; /* the plan, as pl_report_plan_json wrote it */
	int64_t pid;           /* 0 with container */
	int64_t started_unix_s;
	double ready_after_s;  /* seconds from start to the first good answer; 0 not yet */
	enum pl_run_state state;
};

/* Why an engine did not come up. */
enum pl_start_fault {
	PL_START_UNKNOWN = 0,
	PL_START_NO_DEVICE_MEMORY,
	PL_START_NO_HOST_MEMORY,
	PL_START_KILLED,        /* by a signal nobody here sent: most often the kernel, out of memory */
	PL_START_PORT_TAKEN,
	PL_START_UNSUPPORTED,   /* architecture, element type or flag the engine does not know */
	PL_START_NO_FILE,
	PL_START_DRIVER,
	PL_START_DISK_FULL,
	PL_START_TIMEOUT        /* alive, but no answer in time */
};
const char *pl_start_fault_text(enum pl_start_fault f); /* a translated sentence */

struct pl_up_request {
	const struct pl_plan *plan;
	const char *plan_json;          /* kept beside, may be NULL */
	struct pl_emit_options where;   /* name, image, program, working_dir, host, port */
	const char *api_key;            /* NULL: none */
	enum pl_container_use container;
	double wait_s;                  /* patience until the first answer; 0: by the model's size */
	volatile const int *interrupted; /* becomes non-zero when the user gives up; may be NULL */
	void (*progress)(void *user, double elapsed_s, const char *last_log_line); /* about once a second; may be NULL */
	void *user;
};

struct pl_up_result {
	struct pl_running running;
	enum pl_start_fault fault;
	const char *log_line; /* the line that told the fault, or the log's last */
	int exit_status;      /* of the process, when it ended */
};

/* The folder of what is kept between runs, made if need be: PLIMSOLL_STATE, else below the user's XDG state folder. NULL with
 * the fault. */
const char *pl_state_place(struct pl_arena *a, struct pl_err *err);

/* Starts the engine without a shell, its output in a log, and waits for its health endpoint. On failure nothing of it is
 * left running; *ret->fault and log_line then say why. Errors: UNSUPPORTED (no server), ENVIRONMENT (program missing, did
 * not come up), RANGE (port taken, name in use). */
int pl_up(struct pl_arena *a, const struct pl_up_request *req, struct pl_up_result *ret, struct pl_err *err) PL_MUST_CHECK;

/* All engines that were started and not ended with pl_down, by name. limit_s: patience with a health endpoint. */
int pl_running_list(struct pl_arena *a, double limit_s, struct pl_running **ret, uint32_t *ret_n, struct pl_err *err) PL_MUST_CHECK;
int pl_running_find(struct pl_arena *a, const char *name, struct pl_running *ret, struct pl_err *err) PL_MUST_CHECK;

/* Ends what pl_up started under this name: politely, after patience_s by force; forgets it. Never touches another process,
 * even when the number of the process was given out again. */
int pl_down(struct pl_arena *a, const char *name, double patience_s, struct pl_err *err) PL_MUST_CHECK;

#endif
