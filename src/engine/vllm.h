/* vLLM's memory, inside the engine room. The rules are those of its sources, release by release:
 * vllm/v1/worker/gpu_worker.py (what is left for the cache), v1/core/kv_cache_utils.py and v1/kv_cache_interface.py (groups,
 * pages, blocks), v1/worker/gpu_model_runner.py (the profile run), engine/arg_utils.py and config/ (defaults). */
#ifndef PLIMSOLL_ENGINE_VLLM_H
#define PLIMSOLL_ENGINE_VLLM_H

#include <plimsoll/engine.h>

#include "engine/serving.h"
#include "memory/shard.h"

/* A release as one number: 0.11.2 is 1102, so that rules compare it. */
enum { VL_NEWEST = 2400, VL_LAST_VOLTA = 902, VL_MAX_TYPES = 16 };

/* What changed between releases. */
struct vl_rules {
	uint32_t version;         /* as above */
	const char *version_text; /* "0.24.0" */
	bool v1;                  /* the V1 engine: chunked prefill always, one step of max_num_batched_tokens */
	double utilization_frac;  /* default of gpu_memory_utilization */
	bool graphs_counted;      /* CUDA graphs are taken out of the pool before the cache */
	bool hybrid_groups;       /* sliding layers free what they no longer see */
	bool group_by_max;        /* groups as long as the longest kind when kinds are nearly equal in number */
	bool tokens_by_concurrency; /* the log's "cache size" is concurrency × max_model_len */
	bool sort_sampler;        /* top-p sorts the whole vocabulary */
	bool wide_graph_steps;    /* captured batches above 256 are 16 apart, not 8 */
	bool full_graphs;         /* decode batches are captured whole as well */
	bool context_counted;     /* the driver's context is taken out of the share (V0 to 0.6.6, V1 to 0.9.1) */
	bool a100_small;          /* A100 takes the small defaults though it is large */
};

/* One kind of cache that layers share: equal kinds can share a block table. */
struct vl_type {
	enum vl_kind { VL_FULL = 0, VL_WINDOW, VL_STATE } kind;
	uint64_t token_bytes; /* of one layer; 0 for state */
	uint64_t state_bytes; /* of one sequence and layer */
	uint32_t window_tokens;
	uint32_t n_layers;    /* of the whole model */
	uint32_t n_stage;     /* of the stage at hand */
};

/* The cache of one stage, before any byte is handed out. */
struct vl_cache {
	struct vl_type types[VL_MAX_TYPES];
	uint32_t n_types, n_groups;
	uint32_t block_tokens;        /* of full attention */
	uint64_t page_bytes;          /* of one layer of a group */
	uint64_t block_bytes;         /* of one block: all layers that share it */
	uint64_t blocks_per_request;  /* one sequence of max_model_len */
	bool uniform;                 /* one kind of attention, layers may differ in width */
	bool too_many_types;
};

/* Everything about a request but the placement. */
struct vl_job {
	struct pl_arena *a;
	const struct pl_model *m;
	const struct pl_machine *hw;
	const struct pl_params *p;
	struct vl_rules rules;
	uint64_t max_model_len;
	double capability;   /* of the oldest NVIDIA card, 0 unknown or other maker */
	bool half;           /* float16: the cards have no bfloat16 */
	enum pl_dtype kv_type;
	uint32_t kv_elem_bytes;
	uint64_t rope_bytes; /* tables of rotary positions */
};

struct vl_rank {
	uint64_t total_bytes, visible_bytes, requested_bytes;
	uint64_t weights_bytes, activation_bytes, non_torch_bytes, graph_bytes, context_bytes;
	uint64_t offload_bytes;     /* weights kept in RAM */
	int64_t available_bytes;    /* for the cache; negative: what lacks */
	struct vl_cache cache;
};

/* A placement and what follows from it. */
struct vl_answer {
	struct sv_place place;
	struct vl_rank rank[PL_MAX_DEVICES];
	uint32_t max_num_seqs, max_num_batched_tokens, n_graphs;
	double utilization_frac;
	uint64_t n_blocks;          /* the least of all ranks */
	uint64_t blocks_per_request;
	struct sv_verdict verdict;  /* starts: one sequence of max_model_len has room */
};

/* vllm_rules.c */
int vl_rules_of(const char *version, double capability, struct vl_rules *ret_rules, struct pl_err *err);
/* Defaults of the server (not of the offline LLM class). device: the first rank's. */
void vl_defaults(const struct vl_job *j, const struct pl_device *d, struct vl_answer *x);

/* vllm_cache.c */
void vl_cache_build(const struct vl_job *j, const struct sv_place *pl, const struct pl_shard_stage *s, uint32_t mnbt,
                    struct vl_cache *ret_cache);
/* vllm_compressed.c: DeepSeek V4 */
bool vl_is_compressed(const struct pl_model *m);
void vl_cache_compressed(const struct vl_job *j, const struct pl_shard_stage *s, uint32_t mnbt, struct vl_cache *ret_cache);
uint64_t vl_compressed_token_bytes(const struct vl_job *j, const struct pl_shard_stage *s);
uint64_t vl_cache_tokens(const struct vl_job *j, const struct vl_cache *c, uint64_t n_blocks);
double vl_cache_concurrency(const struct vl_cache *c, uint64_t n_blocks);
uint64_t vl_token_bytes(const struct vl_job *j, uint32_t tp);

/* vllm_profile.c */
uint64_t vl_activation(const struct vl_job *j, const struct vl_answer *x, const struct pl_shard_stage *s, bool driver);
uint64_t vl_non_torch(const struct vl_job *j, const struct sv_place *pl, const struct pl_device *d);
uint64_t vl_graphs(const struct vl_job *j, struct vl_answer *x, const struct pl_shard_stage *s);
uint64_t vl_context(const struct pl_device *d);

/* vllm_place.c */
int vl_choose(struct vl_job *j, struct vl_answer *ret_answer, struct pl_err *err);

/* vllm_command.c */
enum pl_support vl_supports(struct pl_arena *a, const struct pl_model *m, const struct pl_machine *hw,
                            const char **ret_reason);
int vl_command(struct pl_arena *a, const struct pl_model *m, const char *model_ref, const struct pl_machine *hw,
               const struct pl_params *p, const struct pl_layout *l, struct pl_argv *ret_argv, struct pl_err *err);
const char *vl_kv_name(enum pl_dtype t);

#endif
