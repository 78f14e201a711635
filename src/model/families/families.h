/* From a Hugging Face config to layers, and from layers to the tensors of the plain model. A family reads its keys into
 * struct pl_layer and a set of traits; one emitter makes the tensors of all of them. */
#ifndef PLIMSOLL_MODEL_FAMILIES_H
#define PLIMSOLL_MODEL_FAMILIES_H

#include <jansson.h>

#include "model/build.h"

/* What a family does beyond the fields of its layers. */
enum pl_trait {
	T_NORM_BIAS = 1 << 0,      /* LayerNorm with bias */
	T_QKV_BIAS = 1 << 1,
	T_O_BIAS = 1 << 2,
	T_MLP_BIAS = 1 << 3,
	T_HEAD_BIAS = 1 << 4,
	T_ONE_NORM = 1 << 5,       /* attention and feed forward in parallel behind one norm */
	T_POST_NORMS = 1 << 6,     /* norms before and after both halves (Gemma 2, GLM-4) */
	T_ONLY_POST = 1 << 7,      /* norms only after (OLMo 2, EXAONE 4) */
	T_NO_NORMS = 1 << 8,       /* norms without parameters (OLMo) */
	T_FUSED_QKV = 1 << 9,
	T_FUSED_UP = 1 << 10,      /* gate and up in one matrix, as GGUF keeps it (ffn_up of twice the width) */
	T_QK_NORM_HEAD = 1 << 11,  /* one norm of a head's width for all heads */
	T_QK_NORM_FULL = 1 << 12,  /* a norm as wide as the projection */
	T_ROUTER_BIAS = 1 << 13,
	T_ROUTER_CORR = 1 << 14,   /* a correction bias for the choice of experts */
	T_SHARED_GATE = 1 << 15,   /* a gate before the shared expert */
	T_EXPERT_BIAS = 1 << 16,
	T_SINKS = 1 << 17,
	T_TWO_ATTN_NORMS = 1 << 18, /* Falcon's newer blocks */
	T_EMBED_NORM = 1 << 19,
	T_CONV_BIAS = 1 << 20,     /* of Mamba's convolution */
	T_SSM_NORMS = 1 << 21,     /* norms of dt, B and C (Jamba) */
	T_SPLIT_BA = 1 << 22,      /* DeltaNet projections apart, as Qwen3.5 stores them */
	T_POST_ATTN_NORM = 1 << 23, /* the second norm is called post_attention_norm in GGUF (Qwen3-Next) */
	T_SHARED_PLAIN = 1 << 24,  /* experts without a gate matrix (Nemotron-H) */
	T_SSM_NO_NORM = 1 << 25,   /* Mamba-2 without its gated norm (Falcon-H1) */
	T_MIXER_ONLY = 1 << 26,    /* one mixer a layer behind one norm (Nemotron-H, Mamba) */
	T_NO_OUT_NORM = 1 << 27,
	T_MTP_COPIES = 1 << 28     /* the MTP layer carries copies of embedding and head */
};

struct pl_family {
	struct pl_arena *a;
	const json_t *root, *text; /* text: the language model's part */
	struct pl_model *m;
	struct pl_layer *layers;   /* trunk, then MTP */
	struct pl_tensor_list *list;
	struct pl_err *err;
	int rc;                    /* first fault of a reader; later reads do nothing */
	uint32_t traits;
	uint32_t n_head, n_head_kv, d_head, n_ff;
	uint32_t n_positions, n_types; /* learned position and type embeddings */
	uint32_t moe_latent;
};

/* Whole number under one of the keys (NULL-terminated names), 0 ≤ value ≤ max. Absent or null: fallback. A fault is kept
 * in f->rc with the key's name. */
uint32_t pl_cfg_u32(struct pl_family *f, const char *const *keys, uint32_t fallback, uint64_t max);
bool pl_cfg_bool(struct pl_family *f, const char *key, bool fallback);
const json_t *pl_cfg_get(const struct pl_family *f, const char *key);
/* Array of layer kinds: is layer il called `name`? */
bool pl_cfg_layer_is(const struct pl_family *f, const char *key, uint32_t il, const char *name);
int pl_cfg_fail(struct pl_family *f, const char *fmt, ...) PL_PRINTF(2, 3);

#define U32(f, fallback, max, ...) pl_cfg_u32(f, (const char *const[]){__VA_ARGS__, NULL}, fallback, max)

enum { PL_MAX_LAYERS = 4096, PL_MAX_EXPERTS = 65536, PL_MAX_DIM = 1 << 24, PL_MAX_HEADS = 1 << 16 };

/* Reads a family's layers. Returns 0 or a negative code. */
typedef int pl_family_reader(struct pl_family *f);
struct pl_family_row {
	const char *model_type;
	const char *arch;        /* llama.cpp's name */
	uint32_t traits;
	pl_family_reader *read;  /* after the common fields and attention of every layer are set; NULL: nothing to add */
};
/* NULL when no family has it. */
const struct pl_family_row *pl_family_find(const char *model_type);

/* Special readers (families/NAME.c). */
pl_family_reader pl_read_moe, pl_read_mla, pl_read_windows, pl_read_gemma4, pl_read_llama4, pl_read_qwen_next, pl_read_mamba,
    pl_read_jamba, pl_read_nemotron_h, pl_read_granite_hybrid, pl_read_falcon_h1, pl_read_lfm2, pl_read_kimi_linear,
    pl_read_falcon, pl_read_nas, pl_read_gpt2, pl_read_bert, pl_read_whisper, pl_read_phi, pl_read_chatglm, pl_read_qwen1,
    pl_read_biases, pl_read_neox, pl_read_mimo_flash;

/* Tensors of everything read so far (model/tensors.c). */
int pl_emit_tensors(struct pl_family *f);
/* Adds one tensor: dims ne0 × ne1 × stacked; zero ne1 means a vector. Nothing when ne0 is 0. */
void pl_emit(struct pl_family *f, int32_t layer, enum pl_role role, bool is_bias, uint64_t ne0, uint64_t ne1, uint32_t stacked);
/* A tower as one tensor of n_elems parameters (model/vision.c fills it). */
void pl_emit_tower(struct pl_family *f, enum pl_group group, uint64_t n_elems);
int pl_emit_vision(struct pl_family *f);

#endif
