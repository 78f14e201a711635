/* Inside the reading of a config.json: a family reads its keys into layers and parts, the emitter turns them into
 * tensors. */
#ifndef PLIMSOLL_MODEL_HF_H
#define PLIMSOLL_MODEL_HF_H

#include <jansson.h>

#include "model/build.h"

/* Limits of what a config may claim: far above every model that exists, far below what overflows. */
enum {
	PL_HF_MAX_LAYERS = 4096,
	PL_HF_MAX_EXPERTS = 65536,
	PL_HF_MAX_HEADS = 65536,
	PL_HF_MAX_DIM = 1 << 24,
	PL_HF_MAX_VOCAB = 1 << 28,
	PL_HF_MAX_CTX = INT32_MAX
};

/* Which tensors a layer has beyond what struct pl_layer says. */
#define PL_P_NORM_ATTN      (1ull << 0)  /* attn_norm, before attention */
#define PL_P_NORM_ATTN_POST (1ull << 1)  /* post_attention_norm */
#define PL_P_NORM_FFN       (1ull << 2)  /* ffn_norm */
#define PL_P_NORM_FFN_POST  (1ull << 3)  /* post_ffw_norm */
#define PL_P_NORM_ATTN_OUT  (1ull << 4)  /* attn_output_norm, after the sum (BERT) */
#define PL_P_NORM_LAYER_OUT (1ull << 5)  /* layer_output_norm */
#define PL_P_NORM_BIAS      (1ull << 6)  /* norms are LayerNorm: each has a bias too */
#define PL_P_BIAS_Q         (1ull << 7)
#define PL_P_BIAS_K         (1ull << 8)
#define PL_P_BIAS_V         (1ull << 9)
#define PL_P_BIAS_O         (1ull << 10)
#define PL_P_BIAS_FFN       (1ull << 11)
#define PL_P_QK_NORM        (1ull << 12) /* one head wide */
#define PL_P_QK_NORM_WIDE   (1ull << 13) /* as wide as all heads together, one vector */
#define PL_P_QK_NORM_EACH   (1ull << 14) /* a norm of its own for each head: a matrix */
#define PL_P_QKV_FUSED      (1ull << 15) /* attn_qkv */
#define PL_P_FFN_FUSED      (1ull << 16) /* ffn_up holds gate and up */
#define PL_P_SINKS          (1ull << 17)
#define PL_P_GATE_HEAD      (1ull << 18) /* attn_gate: one output a head */
#define PL_P_GATE_ELEM      (1ull << 19) /* attn_gate: one output an element of the attention's output */
#define PL_P_ROUTER_BIAS    (1ull << 20) /* the router is a linear layer with a bias (gpt-oss) */
#define PL_P_ROUTER_CORR    (1ull << 21) /* exp_probs_b: correction of the expert scores */
#define PL_P_EXPERT_BIAS    (1ull << 22)
#define PL_P_EXPERT_PLAIN   (1ull << 23) /* experts without a gate matrix (Nemotron-H) */
#define PL_P_EXPERT_FUSED   (1ull << 24) /* gate and up of the experts in one tensor (Gemma 4) */
#define PL_P_SHARED_GATE    (1ull << 25) /* ffn_gate_inp_shexp */
#define PL_P_SSM_NORM       (1ull << 26) /* norm over the inner width of Mamba-2 */
#define PL_P_SSM_BCDT_NORM  (1ull << 27) /* Jamba: norms of dt, B and C */
#define PL_P_SSM_BIAS       (1ull << 28) /* Mamba: in and out projections biased */
#define PL_P_SSM_CONV_BIAS  (1ull << 29)
#define PL_P_NEXTN          (1ull << 30) /* eh_proj and norms of a next-token-prediction layer */
#define PL_P_NEXTN_COPIES   (1ull << 31) /* it repeats the embedding and the head */
#define PL_P_NEXTN_COPIES_MTP (1ull << 48) /* of a family: its next-token layers do */
#define PL_P_NEXTN_HEADNORM (1ull << 32)
#define PL_P_NORM_ATTN_2    (1ull << 33) /* attn_norm_2 (Falcon 40B) */
#define PL_P_LATENT_NORM    (1ull << 34) /* Kimi K3: norm of the experts' latent */
#define PL_P_INDEXER        (1ull << 35) /* the layer has an indexer of its own */
#define PL_P_KV_B_SPLIT     (1ull << 36) /* kv_b stored as k_b and v_b, as GGUF does */
/* whole model */
#define PL_P_NO_FINAL_NORM  (1ull << 40)
#define PL_P_BIAS_HEAD      (1ull << 41)
#define PL_P_EMBD_NORM      (1ull << 42)
#define PL_P_TIED           (1ull << 43) /* tie_word_embeddings is true unless the config says otherwise */
#define PL_P_ATTN_BIAS_KEY  (1ull << 44) /* the key attention_bias adds q, k, v and o biases */
#define PL_P_QKV_BIAS_KEY   (1ull << 45) /* the key attention_bias adds q, k and v biases only */
#define PL_P_SLIDES         (1ull << 46) /* the key sliding_window alone means: every layer slides */
#define PL_P_PLAIN_FFN      (1ull << 47) /* up and down only */

#define PL_P_NEVER_HEAD     (1ull << 49) /* the head is always the embedding, whatever the config says */

#define PL_P_BIAS_QKV (PL_P_BIAS_Q | PL_P_BIAS_K | PL_P_BIAS_V)
#define PL_P_NORMS    (PL_P_NORM_ATTN | PL_P_NORM_FFN)

struct pl_hf;

struct pl_hf_family {
	const char *type; /* HF model_type */
	const char *arch; /* llama.cpp's name; NULL when it knows none (then the HF type stands) */
	uint64_t parts;
	void (*read)(struct pl_hf *c);
};

struct pl_hf {
	struct pl_arena *a;
	const json_t *root; /* the whole file */
	const json_t *cfg;  /* the language model's part of it */
	const char *where;  /* for messages */
	const struct pl_hf_family *family;
	struct pl_model *m;
	struct pl_layer *layers;
	uint64_t *parts;      /* by layer */
	uint64_t model_parts; /* whole-model bits */
	uint32_t n_listed;    /* layers by a list, where the family may leave num_hidden_layers out; 0 */
	uint32_t d_latent;    /* width the routed experts work in; 0: n_embd */
	uint32_t n_positions; /* learned position embeddings */
	uint32_t n_types;     /* token types (BERT) */
	uint32_t n_more_rows; /* rows of the token embedding beyond the vocabulary */
	void (*more_layer)(struct pl_hf *c, uint32_t il); /* tensors only this family has; may be NULL */
	void (*more_model)(struct pl_hf *c);
	struct pl_tensor_list *out; /* NULL: layers only */
	enum pl_dtype type;
	int rc; /* first error; every helper does nothing once it is set */
	struct pl_err *err;
};

/* ---- keys (hf_keys.c). keys: "hidden_size|n_embd|d_model", the first that is there and not null counts. */

/* Value in [min, max]; dflt when absent. After an error: min, so that a caller may divide by it. */
uint32_t pl_hf_u32(struct pl_hf *c, const char *keys, uint32_t min, uint32_t max, uint32_t dflt);
/* A required value in [1, max]. */
uint32_t pl_hf_need(struct pl_hf *c, const char *keys, uint32_t max);
bool pl_hf_bool(struct pl_hf *c, const char *keys, bool dflt);
double pl_hf_f64(struct pl_hf *c, const char *keys, double dflt);
/* NULL when absent or not a string. */
const char *pl_hf_str(const struct pl_hf *c, const char *keys);
bool pl_hf_has(const struct pl_hf *c, const char *keys);
const json_t *pl_hf_get(const struct pl_hf *c, const char *keys);
/* An array of at least n entries, or NULL when absent; an error when it is shorter or no array. */
const json_t *pl_hf_array(struct pl_hf *c, const char *keys, uint32_t n);
/* Entry il of a per-layer array of numbers, or the number itself when it is a scalar; dflt when absent. */
uint32_t pl_hf_u32_at(struct pl_hf *c, const char *keys, uint32_t il, uint32_t max, uint32_t dflt);
/* Entry il of an array of strings ("" when there is none). */
const char *pl_hf_str_at(struct pl_hf *c, const char *keys, uint32_t il);
/* Looks into another object for a while: returns the old one, to be put back. */
const json_t *pl_hf_enter(struct pl_hf *c, const json_t *obj);
void pl_hf_fail(struct pl_hf *c, const char *fmt, ...) PL_PRINTF(2, 3);

/* ---- reading shared by families (hf_layers.c) ---- */

/* n_embd, vocabulary, context, tied head; layers with n_mtp more after the trunk; parts from the family. */
void pl_hf_base(struct pl_hf *c, uint32_t n_mtp);
/* Heads of every layer by the usual keys. */
void pl_hf_attention(struct pl_hf *c);
/* Dense feed forward of every layer. */
void pl_hf_dense_ffn(struct pl_hf *c);
/* Windows by layer_types and sliding_window. */
void pl_hf_windows(struct pl_hf *c);
void pl_hf_set_parts(struct pl_hf *c, uint64_t bits, bool on);
/* Makes layer il a mixture of experts. ff_shared: total width of the shared experts. */
void pl_hf_moe(struct pl_hf *c, uint32_t il, uint32_t n_expert, uint32_t used, uint32_t ff, uint32_t n_shared,
               uint32_t ff_shared);
/* Number of rows: trunk and MTP. */
uint32_t pl_hf_n_all(const struct pl_hf *c);
/* Marks layers after the trunk as MTP and gives them bits. */
void pl_hf_mtp(struct pl_hf *c, uint64_t bits);
/* The plain decoder: base, attention, dense feed forward, windows. */
void pl_hf_read_dense(struct pl_hf *c);

/* ---- tensors (tensors.c) ---- */

/* Adds a tensor of n_dims dimensions; il < 0: outside the layers. n_stacked > 1 when the last dimension counts experts. */
struct pl_tensor *pl_hf_emit(struct pl_hf *c, int64_t il, enum pl_role role, bool is_bias, uint32_t n_dims, uint64_t d0,
                             uint64_t d1, uint64_t d2);
/* The same under another name ("blk.3.time_mix_w1.weight" is made from "time_mix_w1.weight"). */
struct pl_tensor *pl_hf_emit_named(struct pl_hf *c, int64_t il, enum pl_role role, enum pl_group group, const char *name,
                                   uint32_t n_dims, uint64_t d0, uint64_t d1, uint64_t d2);
/* All tensors of the model from layers and parts. */
void pl_hf_emit_model(struct pl_hf *c);

/* ---- towers (families/vision.c) ---- */

/* Adds the vision and audio towers as whole tensors, or a note when it cannot count one. */
void pl_hf_towers(struct pl_hf *c);

/* ---- families ---- */

const struct pl_hf_family *pl_hf_find_family(const char *type);

void pl_hf_read_minicpm(struct pl_hf *c);
void pl_hf_read_smollm3(struct pl_hf *c);
void pl_hf_read_seed_oss(struct pl_hf *c);
void pl_hf_read_exaone4(struct pl_hf *c);
void pl_hf_read_qwen1(struct pl_hf *c);
void pl_hf_read_qwen2(struct pl_hf *c);
void pl_hf_read_moe(struct pl_hf *c);
void pl_hf_read_deepseek(struct pl_hf *c);
void pl_hf_read_deepseek4(struct pl_hf *c);
void pl_hf_read_gemma2(struct pl_hf *c);
void pl_hf_read_gemma3(struct pl_hf *c);
void pl_hf_read_gemma4(struct pl_hf *c);
void pl_hf_read_dots1(struct pl_hf *c);
void pl_hf_read_glm4_moe(struct pl_hf *c);
void pl_hf_read_chatglm(struct pl_hf *c);
void pl_hf_read_cohere(struct pl_hf *c);
void pl_hf_read_falcon(struct pl_hf *c);
void pl_hf_read_gpt2(struct pl_hf *c);
void pl_hf_read_neox(struct pl_hf *c);
void pl_hf_read_stablelm(struct pl_hf *c);
void pl_hf_read_starcoder2(struct pl_hf *c);
void pl_hf_read_phi(struct pl_hf *c);
void pl_hf_read_phimoe(struct pl_hf *c);
void pl_hf_read_gpt_oss(struct pl_hf *c);
void pl_hf_read_llama4(struct pl_hf *c);
void pl_hf_read_ernie(struct pl_hf *c);
void pl_hf_read_hunyuan(struct pl_hf *c);
void pl_hf_read_minimax(struct pl_hf *c);
void pl_hf_read_minimax_m3(struct pl_hf *c);
void pl_hf_read_mimo2(struct pl_hf *c);
void pl_hf_read_step35(struct pl_hf *c);
void pl_hf_read_laguna(struct pl_hf *c);
void pl_hf_read_qwen3_next(struct pl_hf *c);
void pl_hf_read_jamba(struct pl_hf *c);
void pl_hf_read_mamba(struct pl_hf *c);
void pl_hf_read_granite_hybrid(struct pl_hf *c);
void pl_hf_read_falcon_h1(struct pl_hf *c);
void pl_hf_read_nemotron_h(struct pl_hf *c);
void pl_hf_read_lfm2(struct pl_hf *c);
void pl_hf_read_rwkv5(struct pl_hf *c);
void pl_hf_read_kimi_linear(struct pl_hf *c);
void pl_hf_read_deci(struct pl_hf *c);
void pl_hf_read_bert(struct pl_hf *c);
void pl_hf_read_whisper(struct pl_hf *c);
void pl_hf_read_mllama(struct pl_hf *c);
void pl_hf_read_yuan(struct pl_hf *c);

#endif
