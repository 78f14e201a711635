/* What every emitter starts from: the plan's launch line taken apart, and the pieces manifests share. */
#ifndef PLIMSOLL_EMIT_JOB_H
#define PLIMSOLL_EMIT_JOB_H

#include <jansson.h>

#include <plimsoll/emit.h>

enum { PL_EMIT_MAX_MOUNTS = 8 };

struct pl_mount {
	const char *host_dir, *inner_dir; /* read-only */
};

struct pl_emit_job {
	struct pl_arena *a;
	const struct pl_plan *plan;
	const struct pl_emit_options *o;
	const struct pl_server *server;
	const char *name;  /* a DNS label of at most 50 characters */
	const char *host;
	uint16_t port;
	uint32_t replicas;
	const char *backend; /* "cuda", "rocm", "intel", "metal", "cann", "vulkan", "cpu" */
	uint32_t gpus[PL_MAX_DEVICES]; /* devices of one host that the plan uses, of the first replica */
	uint32_t n_gpus;
	uint32_t n_nodes;      /* hosts one replica spans */
	uint64_t memory_bytes; /* RAM of one replica on one host, loading included */
	uint64_t start_s;      /* patience with loading */
	struct pl_emit_file *files;
	uint32_t n_files;
	struct pl_note *notes;
};

/* Checks the request and fills the job. UNSUPPORTED without a launch line or a server; RANGE for replicas beyond the
 * machine where `on_machine` says that all run there. */
int pl_emit_begin(struct pl_emit_job *j, struct pl_arena *a, const struct pl_plan *plan, const struct pl_emit_options *o,
                  bool on_machine, struct pl_err *err);
void pl_emit_file(struct pl_emit_job *j, const char *name, const char *text, bool executable);
int pl_emit_end(struct pl_emit_job *j, struct pl_emit_result *ret, struct pl_err *err);

/* The launch line on this host: program, model paths made absolute, --host and --port of replica r. */
int pl_emit_line(struct pl_emit_job *j, uint32_t r, const char *host, uint16_t port, struct pl_argv *ret, struct pl_err *err);
/* The launch line in a container: program of the image, model folders mounted. */
struct pl_container {
	const char *image;
	struct pl_argv argv;
	struct pl_mount mounts[PL_EMIT_MAX_MOUNTS];
	uint32_t n_mounts;
	bool needs_cache; /* the engine downloads the model: a volume keeps it */
	const char *cache_dir;
};
int pl_emit_container(struct pl_emit_job *j, uint16_t port, struct pl_container *ret, struct pl_err *err);

/* "0,1": device numbers of replica r, by position in the host. */
const char *pl_emit_gpu_list(struct pl_emit_job *j, uint32_t r);
/* CUDA_VISIBLE_DEVICES, HIP_VISIBLE_DEVICES …; NULL on the CPU. */
const char *pl_emit_gpu_variable(const struct pl_emit_job *j);
/* An nginx configuration that deals requests out to host:port of every replica, fewest open connections first. */
const char *pl_emit_balancer(struct pl_emit_job *j, const char *const *upstreams, const char *listen);
#define PL_EMIT_BALANCER_IMAGE "nginx:1.27.5-alpine"

/* One document a value, as YAML. json values are taken over. NULL when out of memory. */
const char *pl_emit_yaml(struct pl_arena *a, json_t **documents, uint32_t n);

/* `text` with every `what` replaced. */
const char *pl_emit_replace(struct pl_arena *a, const char *text, const char *what, const char *by);

#endif
