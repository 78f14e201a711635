/* llama.cpp's memory, inside the engine room. The rules are those of its sources (build 11669 of 2026-09):
 * src/llama-model.cpp (layer placement), src/llama-model-loader.cpp (buffer of a tensor), src/llama-kv-cache*.cpp,
 * src/llama-memory-*.cpp (caches), src/llama-context.cpp (context sizes), ggml/src (alignment and row padding). */
#ifndef PLIMSOLL_ENGINE_LLAMACPP_H
#define PLIMSOLL_ENGINE_LLAMACPP_H

#include <plimsoll/engine.h>

/* Where a tensor's bytes are counted: each backend aligns and pads in its own way. */
enum ll_kind {
	LL_HOST = 0,  /* 32-byte alignment */
	LL_PLAIN,     /* a GPU backend without row padding (Vulkan, Metal, RPC) */
	LL_PADDED,    /* CUDA, HIP, SYCL: the last row of quantised tensors is padded to whole 512 elements */
	LL_KIND_COUNT
};
enum { LL_REPACKED = LL_KIND_COUNT }; /* of the host's bytes, those the CPU backend stores in a layout of its own */

struct ll_bytes {
	uint64_t v[LL_KIND_COUNT + 1];
};

/* One device as llama.cpp sees it. */
struct ll_device {
	uint32_t index; /* in the machine */
	enum ll_kind kind;
	bool async;     /* asynchronous copies and events: pipelines over several devices */
	bool cuda;      /* CUDA or HIP kernels */
	uint64_t room_bytes, overhead_bytes; /* what it has (free, when detected), what the driver takes of it */
	const struct pl_device *dev;
};

struct ll_layer {
	struct ll_bytes rest, experts; /* weights */
	struct ll_bytes kv, state;
	uint64_t roles;                /* fingerprint of the tensors it has */
	uint32_t kind;                 /* equal numbers: layers of the same shape */
};

/* Sizes of a context after llama.cpp's own rounding. */
struct ll_context {
	uint64_t n_ctx, n_ctx_seq; /* all streams together, one stream */
	uint32_t n_stream, n_batch, n_ubatch, n_seq;
	uint64_t n_cells, n_cells_swa; /* of one stream */
	bool flash_attn;
	enum pl_dtype type_k, type_v;
};

/* Everything about a request that does not depend on where layers go. */
struct ll_job {
	struct pl_arena *a;
	struct pl_arena *scratch; /* gone when the answer is given */
	const struct pl_model *m;
	const struct pl_machine *hw;
	const struct pl_params *p;
	struct ll_device dev[PL_MAX_DEVICES];
	uint32_t n_dev;
	struct ll_layer *layers; /* n_all */
	uint32_t n_all;          /* trunk and MTP layers: the output counts as layer n_all */
	struct ll_bytes first;   /* tensors outside the layers that go with layer 0 */
	struct ll_bytes each;    /* tensors every device with a layer gets a copy of */
	struct ll_bytes output;  /* output layer, a copy of the embedding included when tied */
	uint64_t tied_copy_bytes; /* part of output that the host already holds when the output stays there */
	uint64_t input_bytes;    /* embeddings: always on the host */
	uint64_t unloaded_bytes; /* MTP layers and towers */
	
	bool has_experts, has_vision, has_mtp;
	bool repacks;            /* no GPU backend lends host memory: CPU weights may be stored in another layout */
	struct ll_context ctx;
};

/* A placement: what llama.cpp is told. */
struct ll_place {
	uint32_t n_gpu_layers, n_cpu_moe;
	double split[PL_MAX_DEVICES]; /* proportions by position in job->dev */
	bool split_given;             /* split stands on the command line */
};

struct ll_sum {
	struct pl_use dev[PL_MAX_DEVICES];
	struct pl_use host;
	int16_t *layer_dev; /* n_all + 1 positions in job->dev, -1 host; the last is the output */
	bool pipeline;
	uint64_t output_buffer_bytes;
	uint64_t repacked_bytes; /* of host.model_bytes: allocated, not mapped */
};

int ll_job_init(struct ll_job *j, struct pl_arena *a, const struct pl_model *m, const struct pl_machine *hw,
                struct pl_params *p, struct pl_err *err);
int ll_weights(struct ll_job *j, struct pl_err *err);
int ll_cache(struct ll_job *j, struct pl_err *err);
void ll_default_split(const struct ll_job *j, double *ret_split);
/* Bytes of every device and the host for one placement. sum->layer_dev must hold n_all + 1 entries. */
void ll_place_sum(const struct ll_job *j, const struct ll_place *pl, struct ll_sum *sum);
bool ll_devices_hold(const struct ll_job *j, const struct ll_sum *sum);
/* The best placement that fits; the fullest offload when none does. */
void ll_choose(const struct ll_job *j, struct ll_place *ret_place, struct ll_sum *sum);
/* Compute buffers, once layers and experts have their places. */
void ll_compute(const struct ll_job *j, const struct ll_place *pl, struct ll_sum *sum);
uint64_t ll_output_buffer(const struct ll_job *j);

const enum pl_dtype *ll_kv_types(void);
enum pl_support ll_supports(struct pl_arena *a, const struct pl_model *m, const struct pl_machine *hw,
                            const char **ret_reason);
int ll_command(struct pl_arena *a, const struct pl_model *m, const char *model_ref, const struct pl_machine *hw,
               const struct pl_params *p, const struct pl_layout *l, struct pl_argv *ret_argv, struct pl_err *err);

#endif
