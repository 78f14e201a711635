/* Manifests: a plan as the files that start it somewhere: compose, Kubernetes, systemd, Slurm, Ray, plain shell. */
#ifndef PLIMSOLL_EMIT_H
#define PLIMSOLL_EMIT_H

#include <plimsoll/plan.h>

/* What a manifest needs to know beside the plan. Zero-initialised: all defaults. Texts may hold any character. */
struct pl_emit_options {
	const char *name;        /* of the service; NULL: made from the model's; turned into a DNS label */
	const char *image;       /* container image with its tag; NULL: the pinned one of data/images.csv */
	const char *program;     /* path of the engine's program outside containers; NULL: found through PATH */
	const char *working_dir; /* absolute folder that relative model paths start from; NULL: they stay relative */
	const char *host;        /* address that answers; NULL: 127.0.0.1 */
	uint16_t port;           /* first port; 0: the engine's own */
	uint32_t replicas;       /* copies of the plan behind one load balancer; 0: 1 */
	uint32_t n_host_gpus;    /* GPUs of the host that all replicas share; 0: those of the plan's machine */
	double power_cap_w;      /* of each GPU; 0: none */
};

struct pl_emit_file {
	const char *name; /* "compose.yaml" */
	const char *text;
	bool executable;
};

struct pl_emit_result {
	struct pl_emit_file *files;
	uint32_t n_files;
	struct pl_note *notes; /* what the manifest cannot say by itself */
};

struct pl_emitter {
	const char *id;      /* "compose" */
	const char *aliases; /* space-separated */
	const char *summary; /* for --help, to be translated */
	bool one_host;       /* all replicas run on one machine, each on GPUs of its own */
	int (*emit)(struct pl_arena *a, const struct pl_plan *plan, const struct pl_emit_options *o,
	            struct pl_emit_result *ret, struct pl_err *err);
};

/* All emitters, NULL-terminated. */
const struct pl_emitter *const *pl_emitters(void);
int pl_emitter_find(const char *name, const struct pl_emitter **ret, struct pl_err *err) PL_MUST_CHECK;

/* Container images of the engines: rows of data/images.csv. */
struct pl_image {
	const char *engine, *backend; /* "llama.cpp", "cuda" | "rocm" | "vulkan" | "cpu" */
	const char *image;            /* with a pinned tag */
	const char *program;          /* what runs in it: replaces the first word of the launch line */
	const char *source_url;
};
const struct pl_image *pl_catalog_images(uint32_t *ret_n);

#endif
