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

struct ll_bytes {
	uint64_t v[LL_KIND_COUNT];
};

/* One device as llama.cpp sees it. */
struct ll_device {
	uint32_t index; /* in the machine */
	enum ll_kind kind;
	bool async;     /* asynchronous copies and events: pipelines over several devices */
	bool cuda;      /* CUDA or HIP kernels */
	bool offloads;  /* computes large batches with weights that stay on the host */
	uint64_t taken_bytes; /* what is loaded beside the model takes of it */
	uint64_t room_bytes, overhead_bytes; /* what it has (free, when detected), what the driver takes of it */
	const struct pl_device *dev;
	enum pl_vendor vendor; /* as the engine sees it: what stands behind an RPC device makes no difference */
};

struct ll_layer {
	struct ll_bytes rest, experts; /* weights */
	struct ll_bytes kv, state;
	uint32_t first, n; /* its tensors in job->by_layer */
	uint64_t shape;    /* equal for layers of the same dimensions and tensors */
};

/* Which list of buffers a tensor is offered to (llama-arch.cpp LLM_TENSOR_INFOS). */
enum ll_where {
	LL_UNLOADED = 0, /* towers, layers for drafts that nobody asked for */
	LL_INPUT,        /* always the host */
	LL_LAYER,
	LL_EACH,         /* a copy in every buffer with a layer */
	LL_OUTPUT
};

struct ll_weight {
	uint64_t hash;      /* of the name without its layer */
	const char *rest;   /* that name */
	int32_t layer;      /* -1: outside the layers */
	enum ll_where where;
	uint64_t bytes[LL_KIND_COUNT];
	bool repacked;      /* on the host the CPU backend stores it in a layout of its own */
	bool expert;        /* what --n-cpu-moe means */
	int16_t forced;     /* by --override-tensor: LG_FREE none, LG_CPU, a device */
};

/* Sizes of a context after llama.cpp's own rounding. */
struct ll_context {
	uint64_t n_ctx, n_ctx_seq; /* all streams together, one stream */
	uint32_t n_stream, n_batch, n_ubatch, n_seq;
	uint32_t n_outputs; /* rows of logits the program makes room for */
	uint64_t n_cells, n_cells_swa; /* of one stream */
	bool flash_attn;
	enum pl_dtype type_k, type_v;
};

enum ll_fit_end { LL_FIT_AS_ASKED = 0, LL_FIT_CONTEXT /* shortened */, LL_FIT_PLACED, LL_FIT_GAVE_UP };

/* Drafts and towers. */
struct ll_extra {
	struct pl_use dev[PL_MAX_DEVICES], host;
	bool tower, tower_measured;
	uint64_t tower_patches; /* of the picture it warms up with */
};

/* Builds from which a rule holds. Between a log that shows the old rule and one that shows the new one, the later is taken:
 * masks were f32 and cast on each device still in 6699 (ggml-org/llama.cpp discussion 15396's logs), rows of embeddings
 * beside tokens came with pull request 18550. */
enum ll_since {
	LL_SINCE_GLU = 5778,      /* gate and up go through one op (pull request 14274) */
	LL_SINCE_SET_ROWS = 6100, /* caches are written by index (pull request 14285, default since 2025-08) */
	LL_SINCE_EMBD_ROWS = 7700,
	LL_SINCE_F16_MASK = 9000,
	LL_SINCE_OUTPUTS = 9000,  /* a server makes room for its slots' logits only */
	LL_SINCE_MIXED = 11000,   /* tokens and vectors in one batch */
	LL_NEWEST = 11669
};

/* Everything about a request that does not depend on where layers go. */
struct ll_job {
	struct pl_arena *a;
	const struct pl_model *m;
	const struct pl_machine *hw;
	const struct pl_params *p;
	struct ll_device dev[PL_MAX_DEVICES];
	uint32_t n_dev;
	struct ll_layer *layers; /* n_all */
	uint32_t n_all;          /* trunk and MTP layers: the output counts as layer n_all */
	struct ll_weight *weights; /* one a tensor of the model */
	uint32_t *by_layer;      /* tensors in order of layer, those outside the layers last */
	struct ll_layer outside; /* these */
	struct ll_bytes output;  /* the output layer, a copy of the embedding included when tied */
	int32_t tied;            /* the embedding, when it is the head too; -1 */
	uint64_t unloaded_bytes; /* MTP layers and towers */
	bool tied_repacked;      /* as a head on the host it is stored in the CPU's layout */
	bool attn_softcap, grok; /* how scores are bent */
	bool dry;                /* measured without allocating */
	bool whole_graph;        /* build every layer, also those that repeat */
	bool has_state;          /* some layer is recurrent */
	bool overridden;         /* some tensor goes elsewhere: no pipelines */
	const char *idle_override; /* the first pattern that no tensor matches; NULL none */
	bool has_experts, has_vision, has_mtp;
	uint32_t n_mtp;          /* layers loaded to draft with (--spec-type draft-mtp), last of n_all; 0: they stay in the file */
	uint32_t n_drafted;      /* tokens they draft at once, 0 without them */
	bool drafting;           /* this copy is of the context that drafts with them */
	uint32_t n_rollback;     /* copies of a state beside it, one a drafted token that may be taken back */
	bool repacks;            /* no GPU backend lends host memory: CPU weights may be stored in another layout */
	struct ll_context ctx;
	uint32_t build;          /* number of the build whose rules hold */
	struct ll_extra extra;
	enum ll_fit_end fit_end;
};

/* What of a layer stays on its device. */
enum ll_fraction { LL_WHOLE = 0, LL_NO_EXPERTS, LL_ATTN, LL_UP /* and the attention */, LL_GATE /* … and up */ };

/* A placement: what llama.cpp is told. */
struct ll_place {
	uint32_t n_gpu_layers, n_cpu_moe;
	uint8_t *fraction;    /* by layer, enum ll_fraction; NULL: all whole */
	int16_t *overflow_to; /* where the rest of such a layer goes */
	double split[PL_MAX_DEVICES]; /* proportions by position in job->dev */
	bool split_given;             /* split stands on the command line */
};

struct ll_sum {
	struct pl_use dev[PL_MAX_DEVICES];
	struct pl_use host;
	int16_t *layer_dev; /* n_all + 1 positions in job->dev, -1 host; the last is the output */
	int16_t *home;      /* of each tensor: a position in job->dev, -1 host, -2 not loaded */
	int16_t tied_home;  /* of the head that is a copy of the embedding */
	bool pipeline, full_offload;
	uint64_t output_buffer_bytes;
	bool failed;             /* working memory ran out: a closed form stands in */
	uint64_t n_tensors;      /* the engine's own count of weights: a copy of one in another buffer is one more */
	uint64_t n_nodes, n_nodes_max; /* of the whole graph, and what the engine makes room for; 0: not built whole */
	uint64_t repacked_bytes; /* of host.model_bytes: allocated, not mapped */
};

int ll_job_init(struct ll_job *j, struct pl_arena *a, const struct pl_model *m, const struct pl_machine *hw,
                struct pl_params *p, struct pl_err *err);
int ll_weights(struct ll_job *j, struct pl_err *err);
/* Tensor "blk.il.name" or, with il -1, "name"; -1 when the model has none. */
int32_t ll_weight_find(const struct ll_job *j, int32_t il, const char *name);
/* Every tensor's buffer and its bytes: sum->home, model_bytes, repacked_bytes. */
void ll_weights_place(const struct ll_job *j, const struct ll_place *pl, struct ll_sum *sum);
bool ll_sum_init(const struct ll_job *j, struct pl_arena *a, struct ll_sum *sum);
int ll_overrides(struct ll_job *j, struct pl_err *err);
int ll_cache(struct ll_job *j, struct pl_err *err);
void ll_default_split(const struct ll_job *j, double *ret_split);
/* Bytes of every device and the host for one placement. sum->layer_dev must hold n_all + 1 entries. */
void ll_place_sum(const struct ll_job *j, const struct ll_place *pl, struct ll_sum *sum);
bool ll_devices_hold(const struct ll_job *j, const struct ll_sum *sum);
/* The engine's own placement; pl as asked for, the output layer included. */
enum ll_fit_end ll_fit(struct ll_job *j, struct ll_place *pl, struct ll_sum *sum);
/* The patterns that say such a placement on a command line. */
void ll_fit_overrides(struct pl_arena *a, const struct ll_job *j, const struct ll_place *pl, struct pl_params *p);
/* "CUDA", "Vulkan", … as the engine calls a device's buffers. */
const char *ll_buffer_prefix(const struct ll_device *d);
/* Another context, counted over all sequences. */
/* Lays out what is loaded beside the model, before the model is placed; adds it to an answer. */
int ll_extra(struct ll_job *j, struct pl_err *err);
/* The compute buffers of a tower on home (a position in job->dev, -1 the host), by device and the host last; false: not known. */
bool ll_tower(const struct ll_job *j, const struct pl_model *m, int16_t home, uint64_t *ret_peaks, uint64_t *ret_patches);
void ll_extra_add(const struct ll_job *j, struct ll_sum *sum);
void ll_set_context(struct ll_job *j, uint64_t n_ctx_total);
/* RAM the process needs once loaded, devices that share it counted; and whether the machine has it (unknown: yes). */
uint64_t ll_host_bytes(const struct ll_job *j, const struct ll_sum *sum);
bool ll_host_holds(const struct ll_job *j, const struct ll_sum *sum);
/* Placements for what the parameters leave open (llamacpp_search.c), best first by this order:
 *   1. every device holds its part, and RAM holds the rest; else every device, and, unless the file is mapped, RAM is asked for least;
 *   2. the CPU reads fewest bytes for one token: weights it computes with (of experts the part a token uses) and its cache;
 *   3. layers are split by free memory, as llama.cpp does unasked, where that holds; else so that the fullest device keeps most.
 * Up to 16 layers and 200 splits all of them are tried; beyond, layers and experts are bisected, which is exact where fewer of them
 * never need more memory, and splits are balanced and then improved layer by layer. The fullest offload when nothing holds. */
void ll_choose(struct ll_job *j, struct ll_place *ret_place, struct ll_sum *sum);
/* Compute buffers, once layers and experts have their places. */
void ll_compute(const struct ll_job *j, struct ll_sum *sum);
uint64_t ll_output_buffer(const struct ll_job *j);

const enum pl_dtype *ll_kv_types(void);
/* Cache type of a draft: its own flags or f16, whatever the target's is. */
enum pl_dtype ll_draft_type(enum pl_dtype asked);
enum pl_support ll_supports(struct pl_arena *a, const struct pl_model *m, const struct pl_machine *hw,
                            const char **ret_reason);
int ll_command(struct pl_arena *a, const struct pl_model *m, const char *model_ref, const struct pl_machine *hw,
               const struct pl_params *p, const struct pl_layout *l, struct pl_argv *ret_argv, struct pl_err *err);

#endif
