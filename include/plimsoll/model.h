/* A model: what its header says (tensors with exact bytes), its layers, and the graph of one step. */
#ifndef PLIMSOLL_MODEL_H
#define PLIMSOLL_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <plimsoll/arena.h>
#include <plimsoll/dtype.h>
#include <plimsoll/error.h>
#include <plimsoll/opt.h>

/* ---- tensors ---------------------------------------------------------------------------------------------------- */

/* Part of the model a tensor belongs to: decides its device, its shard and its column in the report. */
enum pl_group {
	PL_GROUP_OTHER = 0,
	PL_GROUP_EMBED,         /* token (and position, type) embeddings */
	PL_GROUP_OUTPUT,        /* lm head and final norm */
	PL_GROUP_NORM,          /* norms inside a layer */
	PL_GROUP_ATTN,          /* attention projections, their biases and norms, sinks, indexer */
	PL_GROUP_RECURRENT,     /* Mamba, DeltaNet, RWKV, short convolution */
	PL_GROUP_FFN,           /* dense feed forward */
	PL_GROUP_ROUTER,        /* expert gate and its correction bias */
	PL_GROUP_EXPERT,        /* routed experts, all experts of one matrix stacked */
	PL_GROUP_SHARED_EXPERT, /* experts every token passes, and their gate */
	PL_GROUP_MTP,           /* next-token-prediction (speculative) layers, all of their tensors */
	PL_GROUP_VISION,        /* image, video and audio towers and projectors */
	PL_GROUP_ENCODER,       /* encoder of encoder-decoder models (Whisper) */
	PL_GROUP_COUNT
};

/* How tensor parallelism splits a tensor over ranks. */
enum pl_shard {
	PL_SHARD_REPLICATE = 0,
	PL_SHARD_COLUMN,   /* split over the output dimension */
	PL_SHARD_ROW,      /* split over the input dimension */
	PL_SHARD_VOCAB,    /* split over the vocabulary, padded */
	PL_SHARD_KV_HEADS, /* split over KV heads, replicated when there are fewer than ranks */
	PL_SHARD_EXPERT    /* each expert split (tensor parallel) or whole experts dealt out (expert parallel) */
};

/* What a tensor does; one row a role in model/roles.def: role, group, shard mode, GGUF name, Hugging Face name. */
enum pl_role {
	PL_ROLE_OTHER = 0,
#define X(id, group, shard, gguf_name, hf_name) PL_ROLE_##id,
#include <plimsoll/roles.def>
#undef X
	PL_ROLE_COUNT
};

struct pl_role_info {
	enum pl_group group;
	enum pl_shard shard;
	const char *gguf_name; /* "attn_q" as in blk.N.attn_q.weight, or "token_embd" outside layers */
	const char *hf_name;   /* "self_attn.q_proj" as in model.layers.N.…, or "model.embed_tokens" */
};
const struct pl_role_info *pl_role_info(enum pl_role r);

enum { PL_MAX_DIMS = 4 };

/* One logical tensor. A quantised weight that a file stores in several pieces (qweight, scales, zeros) is one tensor
 * whose bytes are the sum; the experts of one matrix are one tensor with n_stacked experts. */
struct pl_tensor {
	const char *name;    /* as in the file, or the GGUF-style name when built from a config */
	uint64_t ne[PL_MAX_DIMS]; /* elements by dimension, ne[0] contiguous (input features), unused dimensions 1 */
	uint32_t n_dims;
	uint32_t n_stacked;  /* experts stacked in it, 1 otherwise */
	enum pl_dtype type;  /* storage type of the main piece */
	enum pl_role role;
	enum pl_group group;
	int32_t layer;       /* 0 … n_layers-1 (MTP layers count on after the trunk), -1 outside the layers */
	bool is_bias;        /* a bias vector: ".bias" beside the ".weight" of the same role */
	uint64_t n_elems;    /* logical parameters, scales not counted */
	uint64_t bytes;      /* stored bytes including scales and zero points */
	uint64_t offset_bytes; /* where its data starts in the file, relative to the data section; 0 when built */
	uint32_t file_index; /* which shard holds it */
};

/* ---- layers ----------------------------------------------------------------------------------------------------- */

enum pl_attn_kind { PL_ATTN_NONE = 0, PL_ATTN_GQA /* MHA, MQA and GQA */, PL_ATTN_MLA /* latent cache */ };
enum pl_rec_kind {
	PL_REC_NONE = 0,
	PL_REC_MAMBA1,
	PL_REC_MAMBA2,
	PL_REC_DELTANET,  /* gated DeltaNet (Qwen3-Next, Qwen3.5) */
	PL_REC_KDA,       /* Kimi delta attention */
	PL_REC_SHORTCONV, /* LFM2 */
	PL_REC_RWKV,      /* rec_heads × rec_d_k × rec_d_v state; d_conv - 1 shifted tokens of width d_inner */
	PL_REC_LIGHTNING  /* MiniMax-01 linear attention */
};
enum pl_ffn_kind { PL_FFN_NONE = 0, PL_FFN_PLAIN /* up, act, down */, PL_FFN_GATED /* gate, up, down */, PL_FFN_MOE };

/* One layer as the cost and memory models see it. Zero where it does not apply. */
struct pl_layer {
	enum pl_attn_kind attn;
	uint32_t n_head, n_head_kv;
	uint32_t d_k, d_v;       /* head dimensions of keys and values */
	uint32_t window_tokens;  /* 0: the whole context */
	bool window_chunked;     /* chunks (Llama 4) rather than a sliding window */
	int32_t kv_from_layer;   /* layer whose cache this one reads, -1: its own */
	bool q_gated;            /* the query projection also makes an output gate */
	bool k_is_v;             /* values are the keys (no v projection) */
	bool cross;              /* attends to an encoder or to image tokens */
	bool no_rope;
	/* MLA */
	uint32_t q_lora, kv_lora, d_rope, d_nope;
	/* sparse attention indexer (DeepSeek V3.2, GLM-5) */
	uint32_t indexer_heads, indexer_dim, indexer_topk;
	/* recurrent part */
	enum pl_rec_kind rec;
	uint32_t d_inner, d_state, d_conv, n_group, rec_heads, dt_rank; /* Mamba; rec_heads: Mamba-2 or value heads */
	uint32_t rec_k_heads, rec_d_k, rec_d_v;                         /* DeltaNet, KDA */
	/* feed forward */
	enum pl_ffn_kind ffn;
	uint32_t n_ff;
	uint32_t n_expert, n_expert_used, n_ff_expert;
	uint32_t n_expert_shared, n_ff_shared; /* n_ff_shared: total width of the shared experts */
	bool moe_beside_dense;                 /* dense and routed feed forward in one layer (Gemma 4, Arctic) */
	bool is_mtp;                           /* a next-token-prediction layer: no cache in llama.cpp */
};

/* ---- the graph of one step -------------------------------------------------------------------------------------- */

enum pl_op_kind {
	PL_OP_EMBED = 0, /* rows of the embedding */
	PL_OP_NORM,
	PL_OP_LINEAR,    /* in × weight (+ bias) */
	PL_OP_ROPE,
	PL_OP_KV_STORE,  /* write keys and values of the new tokens */
	PL_OP_ATTENTION, /* over past and new tokens, by the layer's kind and window */
	PL_OP_INDEXER,   /* choose the tokens sparse attention reads */
	PL_OP_GLU,       /* activation, gated or plain */
	PL_OP_ADD,       /* residual */
	PL_OP_ROUTER,    /* gate logits, top k */
	PL_OP_EXPERTS,   /* routed linear: weight is a stack of experts */
	PL_OP_COMBINE,   /* weighted sum of the experts' outputs */
	PL_OP_CONV,      /* short causal convolution with state */
	PL_OP_SCAN,      /* state update of a recurrent layer */
	PL_OP_LM_HEAD,
	PL_OP_POOL,      /* embeddings models */
	PL_OP_COUNT
};

/* How many rows a value has; its columns are `width`. */
enum pl_rows {
	PL_ROWS_NEW = 0,  /* the new tokens of the step, all sequences */
	PL_ROWS_ROUTED,   /* new tokens × experts used */
	PL_ROWS_OUTPUT,   /* tokens whose logits are wanted */
	PL_ROWS_SEQUENCE, /* sequences */
	PL_ROWS_ATTN_KQ   /* new tokens × (past + new) × heads: scores, width counts heads */
};

struct pl_value {
	uint32_t width;
	enum pl_rows rows;
	const char *name; /* "l_out", for people */
};

enum { PL_OP_MAX_IN = 4, PL_OP_MAX_WEIGHTS = 4 };

struct pl_op {
	enum pl_op_kind kind;
	int32_t layer; /* -1 outside the layers */
	uint32_t n_in, n_weights;
	uint32_t in[PL_OP_MAX_IN];          /* indices of values */
	uint32_t weights[PL_OP_MAX_WEIGHTS]; /* indices of tensors */
	uint32_t out;                       /* index of the value it makes */
};

struct pl_graph {
	const struct pl_op *ops;
	uint32_t n_ops;
	const struct pl_value *values;
	uint32_t n_values;
};

/* ---- the model -------------------------------------------------------------------------------------------------- */

enum pl_source_format { PL_FORMAT_CONFIG = 0 /* built from config.json */, PL_FORMAT_GGUF, PL_FORMAT_SAFETENSORS };

struct pl_model {
	const char *name;        /* as shown: "Qwen/Qwen3-32B" or general.name */
	const char *arch;        /* llama.cpp's architecture name where there is one ("qwen3moe"), else the HF model_type */
	const char *hf_type;     /* HF model_type or NULL */
	enum pl_source_format format;
	const char *quant_name;  /* "Q4_K_M", "gptq-int4 g128", "bf16", … */
	bool quant_stored;       /* the checkpoint comes in quant_name; else it is planned from another precision */
	bool arch_known;         /* a family builder knows it: layers and graph are complete */
	bool is_embedding;       /* encoder-only: no cache, no lm head */
	bool no_kv_cache;        /* llama.cpp keeps no cache: encoders and diffusion language models */

	const struct pl_tensor *tensors;
	uint32_t n_tensors;
	uint64_t n_params;        /* logical parameters of the trunk: MTP and vision not counted */
	uint64_t n_params_active; /* touched by one token */
	uint64_t n_params_mtp, n_params_vision;
	uint64_t weight_bytes;    /* sum of all tensors */
	uint64_t file_bytes;      /* size of all files, 0 when not read from files */
	uint32_t n_files;

	const struct pl_layer *layers; /* trunk, then n_layers_mtp MTP layers */
	uint32_t n_layers, n_layers_mtp;
	uint32_t n_encoder_layers;
	uint32_t n_embd, n_vocab, n_ctx_train;
	uint32_t n_embd_encoder;
	bool tied_output;         /* the lm head is the embedding matrix */
	uint32_t d_per_layer_embed; /* Gemma 3n/4 per-layer input embedding width, 0 none */
	uint32_t n_swa_period;    /* for people: 1 full layer in this many; 0 unknown */

	struct pl_graph graph;    /* empty when the architecture is unknown */
	struct pl_note *notes;
};

/* What its layers have, any of them (the trunk's). */
struct pl_model_kinds {
	bool experts;
	bool window; /* attention that sees the last tokens only, alone or beside what it compresses */
	bool state;  /* recurrent */
	bool latent; /* attention over compressed keys and values (MLA) */
};
struct pl_model_kinds pl_model_kinds(const struct pl_model *m);

/* Reads a GGUF header from bytes in memory. More shards: n_parts > 1, in order. data is lent and must outlive
 * the model; everything else lives in a. Never reads past len; never prints. */
struct pl_bytes {
	const uint8_t *data;
	uint64_t len_bytes;        /* bytes readable at data: at least the header */
	uint64_t total_len_bytes;  /* size of the whole file: data may hold only its beginning */
	const char *name;          /* for messages */
};
int pl_model_from_gguf(struct pl_arena *a, const struct pl_bytes *parts, uint32_t n_parts,
                       const struct pl_model **ret_model, struct pl_err *err) PL_MUST_CHECK;

/* Builds a model from a Hugging Face config.json alone. quant: NULL keeps what the config says (quantization_config or
 * torch_dtype); else a precision by name (docs/quantisation.md) applied to the plain model. */
int pl_model_from_config(struct pl_arena *a, const char *id, const char *json, size_t len, const char *quant,
                         const struct pl_model **ret_model, struct pl_err *err) PL_MUST_CHECK;

/* A model from safetensors headers (each part: the first 8 + header bytes of a shard) and its config.json (json may be
 * NULL: then layers are found by name and the architecture is unknown). */
int pl_model_from_safetensors(struct pl_arena *a, const char *id, const struct pl_bytes *parts, uint32_t n_parts,
                              const char *json, size_t len, const struct pl_model **ret_model,
                              struct pl_err *err) PL_MUST_CHECK;

/* Reads model.safetensors.index.json: the files its weight_map names, in order of name, as paths below folder. Names that
 * leave the folder are refused. ret_paths has room for max. */
int pl_safetensors_index(struct pl_arena *a, const char *name, const char *folder, const char *json, size_t len,
                         char **ret_paths, uint32_t max, uint32_t *ret_n, struct pl_err *err) PL_MUST_CHECK;

/* Finds layer, role, group and bias of a tensor by its name, GGUF or Hugging Face style. Unknown names give OTHER. */
void pl_tensor_classify(const char *name, struct pl_tensor *t);

/* The same model in another precision, tensor by tensor: ggml mixtures (q4_k_m, q8_0, iq4_xs, bf16 …) by llama.cpp's
 * rules, Hugging Face schemes (gptq-int4, awq-int4, int8, fp8, nf4, nvfp4, mxfp4 …) by their packing. */
int pl_model_requantise(struct pl_arena *a, const struct pl_model *m, const char *quant, const struct pl_model **ret_model,
                        struct pl_err *err) PL_MUST_CHECK;
/* Names pl_model_requantise takes, NULL-terminated. */
const char *const *pl_quant_names(void);

#endif
