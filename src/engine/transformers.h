/* Inside the Transformers engine: what one layout knows, and the steps that make it. */
#ifndef PLIMSOLL_ENGINE_TRANSFORMERS_H
#define PLIMSOLL_ENGINE_TRANSFORMERS_H

#include <plimsoll/engine.h>

#include "engine/device_map.h"

/* How the linear layers of the loaded model compute. */
enum tf_scheme { TF_PLAIN = 0, TF_BNB_INT8, TF_BNB_4BIT, TF_GROUPED /* GPTQ, AWQ, compressed 4 bit */, TF_FP8, TF_MXFP4 };

/* Rules that changed between releases. */
struct tf_rules {
	uint32_t major, minor;
	bool stacked_experts; /* 5.0: the experts of a layer are one parameter, which bitsandbytes does not touch */
	bool latent_cache;    /* 5.18: MLA caches the latent vector; before, expanded keys and values */
	bool leaves_count;    /* 5.18: the slack of the balance covers the largest leaf (the embedding) */
	bool window_cache;    /* 4.56: the default cache knows windows */
	bool last_logits;     /* 4.45: generate asks for the logits of the last token alone */
	bool cpu_margin;      /* 5.0: 10 % of the RAM are left free */
};

/* Bytes of one module of the tree, by cause, as they lie on its device. */
struct tf_module {
	uint64_t weight_bytes;
	uint64_t rounding_bytes; /* the allocator gives out multiples of 512 bytes */
	uint64_t largest_leaf;   /* largest submodule that is moved as one when it is offloaded */
};

struct tf_job {
	struct pl_arena *a;
	const struct pl_model *m;
	const struct pl_machine *hw;
	struct pl_params *p;
	struct tf_rules rules;
	enum tf_scheme scheme;
	uint32_t elem_bytes;        /* of activations and cache: 2, or 4 for a model in 32 bit */
	bool bf16;
	bool mps, shared_ram;       /* Apple, or a GPU in the host's RAM: accelerate gives the CPU no room of its own */
	uint64_t n_ctx, n_seq, chunk; /* tokens of a sequence, sequences, prompt tokens computed at once */

	struct dm_tree tree;
	struct tf_module *modules;  /* by node */
	uint32_t n_gpus, gpu[PL_MAX_DEVICES]; /* devices of the first host */
	uint64_t context_bytes[PL_MAX_DEVICES]; /* driver context by GPU */
	uint32_t *layer_node;       /* by layer of the trunk */
	uint32_t embed_node, head_node;
	int32_t *where;             /* by node, of the placement in hand */
	uint64_t largest_matrix;    /* elements of the largest linear layer */
	uint64_t largest_stack_bytes; /* 16-bit bytes of one layer's experts, merged while loading */
	struct dm_room custom;      /* max_memory when it was tightened; n_gpus 0 when not */
	bool one_device;            /* device_map={"": 0} instead of "auto" */
};

/* transformers_tree.c: modules with their bytes. */
int tf_tree(struct tf_job *j, struct pl_err *err) PL_MUST_CHECK;

/* transformers_peak.c: what one GPU holds beside the weights while generating. gpu: number in j->gpu, DM_CPU for the host. */
struct tf_peak {
	uint64_t kv_bytes, state_bytes;
	uint64_t compute_bytes;  /* most that is alive at once beside weights, cache and state */
	uint64_t rounding_bytes; /* blocks of the allocator larger than what was asked */
};
void tf_peak(const struct tf_job *j, int32_t gpu, struct tf_peak *ret);
uint64_t tf_cache_bytes_per_token(const struct tf_job *j);

/* transformers_zero.c: one rank's share under ZeRO stage 3, and what all ranks of the host take of RAM and disk. */
struct tf_zero {
	uint64_t shard_bytes;      /* 1/N of every large parameter */
	uint64_t persistent_bytes; /* small parameters, whole */
	uint64_t gpu_bytes;        /* of both, what stays on the GPU */
	uint64_t live_bytes;       /* parameters gathered at once, with the buffers they come in */
	uint64_t pinned_bytes, disk_bytes; /* of all ranks: in RAM, on the NVMe drive */
	uint64_t buffer_elems;     /* offload_param.buffer_size: the largest part has to fit */
};
int tf_zero_check(const struct tf_job *j, struct pl_err *err) PL_MUST_CHECK;
void tf_zero(const struct tf_job *j, struct tf_zero *ret);

/* transformers_command.c */
int tf_command(struct pl_arena *a, const struct pl_model *m, const char *model_ref, const struct pl_machine *hw,
               const struct pl_params *p, const struct pl_layout *l, struct pl_argv *ret_argv, struct pl_err *err);
/* Scheme and release, from the model and the parameters alone. */
enum tf_scheme tf_scheme_of(const struct pl_model *m);
void tf_rules_of(const char *version, struct tf_rules *ret);

/* Where the computation of a module runs: its own GPU, or the first for one that is offloaded. */
static inline int32_t tf_runs_on(const struct tf_job *j, uint32_t node)
{
	int32_t w = j->where[node];
	return w >= 0 ? w : j->n_gpus ? 0 : DM_CPU;
}

#endif
