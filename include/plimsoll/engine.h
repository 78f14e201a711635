/* Engines: what each one supports, how it lays out memory, and what starts it. */
#ifndef PLIMSOLL_ENGINE_H
#define PLIMSOLL_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include <plimsoll/hardware.h>
#include <plimsoll/model.h>
#include <plimsoll/params.h>

/* Bytes of one device or of the host, by cause. */
struct pl_use {
	const char *name;
	uint64_t total_bytes;    /* what the device has (or what is free, for a detected machine: see pl_layout) */
	uint64_t model_bytes;    /* weights */
	uint64_t kv_bytes;       /* attention cache */
	uint64_t state_bytes;    /* recurrent and convolution state */
	uint64_t compute_bytes;  /* activations, logits, graph */
	uint64_t overhead_bytes; /* driver context, CUDA graphs, communication buffers, allocator slack */
	uint32_t n_layers;       /* layers whose attention or mixer lives here */
};
/* kv + state: llama.cpp's "context". */
uint64_t pl_use_context_bytes(const struct pl_use *u);
uint64_t pl_use_total_bytes(const struct pl_use *u);

struct pl_host_use {
	struct pl_use use;          /* weights, cache and buffers that live in RAM */
	uint64_t mapped_bytes;      /* part of use.model_bytes that is a file mapping: reclaimable page cache */
	uint64_t peak_load_bytes;   /* most RAM needed while loading */
	uint64_t rest_bytes;        /* RAM needed once loaded */
};

/* The answer of an engine's memory model for fixed parameters. "Does not fit" is a result. */
struct pl_layout {
	struct pl_use *devices; /* one for each device of the machine, unused ones all zero */
	uint32_t n_devices;
	struct pl_host_use host;
	bool fits;              /* every device and the host hold what they are asked to */
	uint64_t missing_bytes; /* how much the worst device lacks, 0 when it fits */
	uint64_t spare_bytes;   /* what the fullest device has left, 0 when it does not fit */
	const char *where_missing; /* name of that device */
	uint64_t kv_bytes_per_token; /* growth of all caches for one more token of one sequence, all devices together */
	uint64_t n_ctx_tokens;  /* per sequence, after the engine's own rounding */
	/* paged engines */
	struct pl_opt_u64 kv_cache_tokens, num_gpu_blocks; /* tokens and blocks the cache holds */
	uint32_t block_size;
	double max_concurrency; /* kv_cache_tokens over n_ctx_tokens, engine's definition; 0 unknown */
	int16_t *layer_device;  /* device of each layer, -1 host; n_layers + n_layers_mtp entries */
	struct pl_note *notes;
};

enum pl_support { PL_SUPPORT_NO = 0, PL_SUPPORT_YES, PL_SUPPORT_UNSURE };

/* Words of a command line, NULL-terminated; quoting is the report's business. */
struct pl_argv {
	const char **words;
	uint32_t n_words;
	const char **env; /* "NAME=value", n_env of them */
	uint32_t n_env;
};

/* What a log tells of one device, by the engine's name for it. */
struct pl_log_buffer {
	char name[32]; /* "CUDA0", "CPU_Mapped" */
	uint64_t model_bytes, context_bytes, compute_bytes, output_bytes;
};
/* What an engine's own log says it allocated; unknown, or no buffer, where it is silent. */
struct pl_engine_log {
	struct pl_log_buffer buffers[PL_MAX_DEVICES];
	uint32_t n_buffers;
	struct pl_opt_u64 weights_bytes, kv_bytes;          /* of one GPU, the fullest */
	struct pl_opt_u64 kv_cache_tokens, num_gpu_blocks;
	char build[32]; /* "b11669", "0.24.0"; empty: it does not say */
};

/* How a running server of this engine is reached and guarded. */
struct pl_server {
	const char *host_flag, *port_flag; /* "--host", "--port" */
	uint16_t port;                     /* its own default */
	const char *health_path;           /* answers 200 once requests are served */
	const char *metrics_path;          /* Prometheus text; NULL none */
	const char *metrics_flag;          /* what turns them on; NULL: always on */
	const char *api_key_flag, *api_key_env; /* a key asked of clients; either may be NULL */
	const char *log_env;                   /* "NAME=value" that makes the log tell sizes; NULL: it does */
};

struct pl_engine {
	const char *id;       /* "llama.cpp", "vllm", "transformers" */
	const char *aliases;  /* space-separated */
	const char *version;  /* whose rules are modelled */
	/* Does this engine run this model on this machine? reason: a translated sentence, set unless YES. */
	enum pl_support (*supports)(struct pl_arena *a, const struct pl_model *m, const struct pl_machine *hw,
	                            const char **ret_reason);
	/* Memory for parameters as given; PL_AUTO placements are resolved to the best that fits (written back to *p).
	 * Fails only on impossible requests (0 context, tensor_parallel that does not divide the heads). */
	int (*layout)(struct pl_arena *a, const struct pl_model *m, const struct pl_machine *hw, struct pl_params *p,
	              struct pl_layout *ret_layout, struct pl_err *err);
	/* The command that starts it with exactly these parameters. model_ref: path or repository id. */
	int (*command)(struct pl_arena *a, const struct pl_model *m, const char *model_ref, const struct pl_machine *hw,
	               const struct pl_params *p, const struct pl_layout *l, struct pl_argv *ret_argv, struct pl_err *err);
	/* What the user can turn to make it smaller: cache types it takes, in order of loss. PL_DTYPE_UNKNOWN ends it. */
	const enum pl_dtype *kv_types;
	/* Does it draft with a model's own prediction layers, and what does params.draft.n_max count then? */
	enum pl_drafting { PL_DRAFTS_NOT = 0, PL_DRAFTS_COUNTED, PL_DRAFTS_COUNTED_WITH_TARGET } drafting;
	const struct pl_server *server; /* NULL: it has none */
	/* Reads a log of this engine; *ret is zeroed before. NULL: its logs tell nothing. */
	void (*read_log)(const char *text, size_t len, struct pl_engine_log *ret);
};

/* All engines, NULL-terminated, in order of preference. */
const struct pl_engine *const *pl_engines(void);
int pl_engine_find(const char *name, const struct pl_engine **ret_engine, struct pl_err *err) PL_MUST_CHECK;

#endif
