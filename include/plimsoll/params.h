/* The knobs of one run, in the engines' own names. */
#ifndef PLIMSOLL_PARAMS_H
#define PLIMSOLL_PARAMS_H

#include <stdbool.h>
#include <stdint.h>

#include <plimsoll/hardware.h>
#include <plimsoll/model.h>

enum { PL_AUTO = -1 };

/* llama.cpp's programs differ in how many rows of logits they make room for. */
enum pl_llama_program { PL_LLAMA_SERVER = 0, PL_LLAMA_COMPLETION, PL_LLAMA_FIT_PARAMS, PL_LLAMA_BENCH };

/* One rule of --override-tensor: tensors whose name matches go to a buffer type ("CPU", "CUDA0", "Vulkan1"). */
struct pl_tensor_override {
	const char *pattern; /* regular expression, searched in the tensor's name */
	const char *buffer;
};

/* A second model beside the first: a draft for speculative decoding. */
struct pl_draft {
	const struct pl_model *model; /* NULL: none */
	const char *ref;              /* path or id, for the launch line */
	uint64_t n_ctx_tokens;        /* 0: the target's */
	int32_t n_gpu_layers;         /* PL_AUTO: all that fit */
	int32_t n_cpu_moe;
	enum pl_dtype type_k, type_v; /* UNKNOWN: f16 */
	uint32_t n_ubatch;            /* llama.cpp: of the draft's context; 0: the target's */
	uint32_t n_max;               /* tokens drafted at once; 0: the engine's default */
	bool mtp;                     /* the target's own next-token-prediction layers draft; model is NULL then */
	/* matrices that are the target's, not loaded twice: EAGLE 3 the embedding, EAGLE the output too */
	enum pl_draft_shares { PL_DRAFT_OWN = 0, PL_DRAFT_SHARES_EMBED, PL_DRAFT_SHARES_BOTH } shares;
};

/* pl_params_default fills it; a field keeps its default until the user or the search sets it. */
struct pl_params {
	const char *engine_version; /* NULL: the newest that is modelled */
	uint64_t n_ctx_tokens; /* tokens one sequence may hold, prompt and answer; ≥ 1; 0: the model's own, capped by the engine */
	uint32_t n_seq;        /* sequences at once, ≥ 1, default 1 */
	enum pl_dtype type_k, type_v; /* cache element types; UNKNOWN: the engine's default */
	struct pl_draft draft;

	/* ---- llama.cpp (names as in its command line) */
	enum pl_llama_program program;
	uint32_t n_batch, n_ubatch;      /* default 2048 and 512 */
	int32_t n_gpu_layers;            /* layers on GPU, the output layer counted as one more; PL_AUTO: as many as fit */
	int32_t n_cpu_moe;               /* experts of the first N layers stay on the CPU; PL_AUTO: as few as needed; default PL_AUTO */
	int32_t flash_attn;              /* 1 on, 0 off, PL_AUTO (on where it works) */
	double tensor_split[PL_MAX_DEVICES]; /* proportions; all zero: by free memory */
	enum pl_split_mode { PL_SPLIT_LAYER = 0, PL_SPLIT_ROW, PL_SPLIT_NONE } split_mode;
	uint32_t main_gpu;
	bool kv_unified, swa_full, no_kv_offload, no_mmap, mlock;
	bool no_repack;                  /* weights on the CPU keep the file's layout */
	bool no_op_offload;              /* batches never go to the GPU for weights that stay on the CPU */
	bool no_host;                    /* no pinned host buffers */
	enum pl_numa { PL_NUMA_NONE = 0, PL_NUMA_DISTRIBUTE, PL_NUMA_ISOLATE, PL_NUMA_NUMACTL } numa;
	uint32_t n_threads;              /* of the CPU; 0: one a core */
	const struct pl_tensor_override *overrides;
	uint32_t n_overrides;
	bool engine_fit;                 /* the engine's own -fit decides what is PL_AUTO, not our placement */
	uint64_t fit_target_bytes;       /* margin a device that -fit leaves free; 0: 1 GiB */
	uint64_t fit_ctx_min_tokens;     /* 0: 4096 */
	bool fit_ctx;                    /* -fit may make the context shorter: -c was not given */
	const struct pl_model *mmproj;   /* vision or audio tower in a file of its own; NULL none */
	const char *mmproj_ref;
	bool mmproj_on_cpu;
	uint64_t cache_ram_bytes;        /* llama-server's cache of prompts in RAM, the most it grows to; UINT64_MAX: no limit */

	/* ---- serving engines (vLLM's names; SGLang's and TensorRT-LLM's where theirs differ) */
	uint32_t tensor_parallel, pipeline_parallel, data_parallel; /* 0: chosen; else ≥ 1 */
	uint32_t decode_context_parallel, prefill_context_parallel; /* 0 or 1: none */
	bool expert_parallel;
	enum pl_dtype dtype;                /* of weights that are not quantised, and activations; UNKNOWN: the model's */
	double gpu_memory_utilization_frac; /* SGLang: mem_fraction_static; TensorRT-LLM: free_gpu_memory_fraction; 0: the engine's default */
	uint32_t max_num_batched_tokens;    /* SGLang: chunked_prefill_size; TensorRT-LLM: max_num_tokens; 0: the engine's default */
	uint32_t max_num_seqs;              /* SGLang: max_running_requests; TensorRT-LLM: max_batch_size; 0: the engine's default */
	uint32_t block_size;                /* SGLang: page_size; TensorRT-LLM: tokens_per_block; 0: the engine's default */
	bool enforce_eager;                 /* no CUDA graphs */
	uint32_t max_cudagraph_batch;       /* largest captured batch; 0: the engine's default */
	uint64_t kv_cache_memory_bytes;     /* of one GPU, instead of the fraction; 0: by the fraction */
	uint64_t max_total_tokens;          /* SGLang, TensorRT-LLM: cap of the cache in tokens; 0 none */
	uint32_t num_gpu_blocks_override;   /* 0: as many as fit */
	uint64_t kv_offload_bytes;          /* cache kept in RAM beside that of the GPUs; SGLang, TensorRT-LLM: of each rank */
	uint64_t mm_cache_bytes;            /* vLLM: processed images kept in RAM, of each process that has them; UINT64_MAX: its default */
	uint64_t cpu_offload_bytes;         /* weights of one GPU kept in RAM */
	uint32_t max_prefill_tokens;        /* SGLang: tokens of one prefill step; 0: the engine's default */
	double swa_full_tokens_ratio;       /* SGLang: cache of windows to full cache, in tokens; 0: the engine's default */
	bool hybrid_swa_off;                /* SGLang: windows are cached in full */
	double mamba_full_memory_ratio;     /* SGLang: states to cache, in bytes; 0: the engine's default */
	uint32_t max_mamba_cache_size;      /* SGLang: states held; 0: by the ratio */
	uint32_t max_beam_width;            /* TensorRT-LLM; 0: 1 */
	const uint32_t *max_attention_window; /* TensorRT-LLM: tokens cached by each layer, a pattern that repeats; NULL: all */
	uint32_t n_max_attention_window;
	bool dp_attention;                  /* SGLang: attention data-parallel, experts shared */
	bool language_model_only;           /* the towers are not loaded */
	uint32_t mm_items_per_prompt;       /* images at once a request may hold; 0: the engine's default */
	uint32_t max_loras, max_lora_rank;  /* 0: no adapters */
	bool prefix_caching_off;
	bool prefix_caching_on;             /* also where the engine leaves it off by itself (vLLM: hybrids) */

	/* ---- transformers */
	bool device_map_auto;
	bool attention_eager;               /* scores are stored; else SDPA */
	const char *offload_folder;         /* weights that fit nowhere go to disk; ZeRO: nvme_path */
	uint32_t zero_stage;                /* DeepSpeed; 3: weights are sharded over the GPUs, gathered module by module */
	enum pl_zero_offload { PL_ZERO_GPU = 0, PL_ZERO_CPU, PL_ZERO_NVME } zero_offload; /* offload_param.device: where shards lie */
};
void pl_params_default(struct pl_params *p);

#endif
