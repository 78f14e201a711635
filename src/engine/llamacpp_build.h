/* Building one micro batch's graph in llama.cpp's own order (src/llama-graph.cpp): the parts that architectures share.
 * A builder of a family calls these as the engine's model files do; what the graph holds decides every compute buffer. */
#ifndef PLIMSOLL_ENGINE_LLAMACPP_BUILD_H
#define PLIMSOLL_ENGINE_LLAMACPP_BUILD_H

#include "engine/llamacpp.h"
#include "engine/llamacpp_ggml.h"

enum lb_norm_kind { LB_RMS = 0, LB_LAYER_NORM };
/* Activation of a feed forward: gated by a second matrix, by the other half of the first, or plain. */
enum lb_act { LB_GATED = 0, LB_HALVES, LB_PLAIN, LB_RELU_SQR, LB_CLAMPED /* clamped gate and up before the product */ };
enum lb_gating { LB_SOFTMAX = 0, LB_SIGMOID, LB_SOFTMAX_WEIGHT };

enum { LB_NO_CACHE_PAD = 256 };

/* Inputs of one attention cache. */
struct lb_attn {
	lg_t k_idxs, v_idxs, mask, k_rot, v_rot;
	uint64_t n_kv;
};

struct lb {
	struct lg *g;
	const struct ll_job *j;
	const struct pl_model *m;
	const struct ll_sum *s;
	uint64_t n_tokens, n_seqs, n_seq_tokens, n_outputs;
	bool flash, full_offload;
	bool pins; /* some nodes are pinned to a backend: lost in a dry run, where the scheduler is reset before it measures */
	lg_t pos, out_ids;
	struct lb_attn kv[2]; /* of the whole context, of the window */
	bool has_window;      /* the engine keeps a second cache for windows */
	lg_t s_copy, s_copy_main, s_copy_tail;
	lg_t *weight;         /* by tensor of the model: its leaf, LG_NONE while unused */
	lg_t tied;            /* the copy of the embedding that serves as head */
	lg_t *cache_k, *cache_v, *state_r, *state_s, *cache_idx; /* by layer */
	lg_t alone[4];        /* inputs a family adds */
	const bool *left_out; /* by layer; NULL: every layer is built */
	bool mtp;             /* the graph of the layers that draft, not of the trunk */
};

struct lb_qkv {
	lg_t q, k, v;
};

/* A weight by its GGUF name without "blk.N."; LG_NONE when the model has none. il < 0: outside the layers. */
lg_t lb_weight(struct lb *b, int32_t il, const char *name);
bool lb_has(const struct lb *b, int32_t il, const char *name);
const struct pl_layer *lb_layer(const struct lb *b, int32_t il);
int16_t lb_layer_dev(const struct lb *b, int32_t il);

/* The layers that are built: those that repeat what was just built on the same device are left out. -1: no more. */
int32_t lb_first(const struct lb *b);
int32_t lb_next(const struct lb *b, int32_t il);

lg_t lb_mm(struct lb *b, lg_t w, lg_t x);
lg_t lb_add(struct lb *b, lg_t a, lg_t c);
lg_t lb_mul(struct lb *b, lg_t a, lg_t c);
lg_t lb_scale(struct lb *b, lg_t a);
lg_t lb_act(struct lb *b, lg_t a); /* any element-wise function */
/* norm_name NULL: without a weight. The bias is added when the model has it. */
lg_t lb_norm(struct lb *b, lg_t x, const char *norm_name, enum lb_norm_kind kind, int32_t il);
lg_t lb_norm_w(struct lb *b, lg_t x, lg_t weight, lg_t bias, enum lb_norm_kind kind, int32_t il);
lg_t lb_rope(struct lb *b, lg_t x, int32_t il, bool factors);

/* inputs */
lg_t lb_inp_embd(struct lb *b, bool scale, bool scale_rows);
void lb_inp_pos(struct lb *b, uint64_t per_token);
void lb_inp_attn(struct lb *b);          /* cache or caches, as the layers say; masks alone without a cache */
void lb_inp_attn_k(struct lb *b);        /* latent caches: no values, no rotation */
void lb_inp_rs(struct lb *b);
void lb_inp_hybrid(struct lb *b);        /* state first, then attention */
void lb_inp_out_ids(struct lb *b);

struct lb_qkv lb_qkv(struct lb *b, lg_t x, int32_t il, bool by_head);
struct lb_qkv lb_qkv_sized(struct lb *b, lg_t x, int32_t il, uint64_t d_q, uint64_t n_q, uint64_t d_k, uint64_t n_k, uint64_t d_v,
                           uint64_t n_v, bool by_head);
lg_t lb_attn_mha(struct lb *b, lg_t q, lg_t k, lg_t v, lg_t kq_b, lg_t mask, lg_t sinks, lg_t v_mla, int32_t il);
/* From heads to the output projection ("attn_output", or NULL); k and v LG_NONE where a layer reads another's cache. */
lg_t lb_attn(struct lb *b, struct lb_qkv x, lg_t sinks, lg_t kq_b, const char *wo, int32_t il);
lg_t lb_attn_k(struct lb *b, lg_t q, lg_t k, lg_t v, lg_t v_mla, const char *wo, int32_t il);
lg_t lb_attn_no_cache(struct lb *b, struct lb_qkv x, lg_t kq_b, const char *wo, int32_t il);
lg_t lb_get_k(struct lb *b, int32_t il);
lg_t lb_get_v(struct lb *b, int32_t il);
/* The keys of an indexer, one head. */
lg_t lb_index_cache(struct lb *b, int32_t il);
lg_t lb_hadamard(struct lb *b, lg_t x, lg_t rot);
/* Rotates where the cache asks for it and writes keys and values into it. */
void lb_store(struct lb *b, struct lb_qkv *x, int32_t il);
lg_t lb_cpy_k(struct lb *b, lg_t k, lg_t idxs, lg_t cache);

/* up, gate, down by name; "" suffix of shared experts is "_shexp" */
lg_t lb_ffn(struct lb *b, lg_t x, const char *suffix, enum lb_act act, int32_t il);
struct lb_moe {
	enum lb_act act;
	enum lb_gating gating;
	bool norm_w, scale_w, before; /* before: weights are applied to the input (Llama 4) */
	bool oai;
	lg_t probs_in;                /* LG_NONE: from the router */
	uint32_t n_groups, n_group_used;
};
lg_t lb_moe(struct lb *b, lg_t x, const struct lb_moe *o, int32_t il);
/* Rows that are wanted, at the last layer. */
lg_t lb_outputs(struct lb *b, lg_t x);
bool lb_is_last(const struct lb *b, int32_t il);
/* Of both in the last layer, as they are elsewhere: what a mixer made and what it is added to. */
void lb_keep_outputs(struct lb *b, int32_t il, lg_t *cur, lg_t *in);
lg_t lb_l2_norm(struct lb *b, lg_t x);
void lb_head(struct lb *b, lg_t x, enum lb_norm_kind norm, bool softcap, bool scale);

/* states: rows of the batch's sequences, by rows() where an op reads them in place; the rest is copied on */
typedef lg_t lb_rows(struct lb *b, lg_t states, lg_t ids, const void *with);
lg_t lb_rs(struct lb *b, lg_t state, uint64_t row, lb_rows *rows, const void *with);
lg_t lb_state_r(struct lb *b, int32_t il);
lg_t lb_state_s(struct lb *b, int32_t il);
/* One recurrent layer's mixer. */
lg_t lb_mamba1(struct lb *b, lg_t x, int32_t il);
lg_t lb_mamba2(struct lb *b, lg_t x, int32_t il);
lg_t lb_delta_net(struct lb *b, lg_t x, int32_t il);
lg_t lb_short_conv(struct lb *b, lg_t x, int32_t il);
/* Feed forward or experts with whatever shared experts the layer has. */
lg_t lb_ffn_or_moe(struct lb *b, lg_t x, const struct lb_moe *o, enum lb_act act, int32_t il);

/* Families: false when the architecture is none of theirs. */
bool lb_build_plain(struct lb *b);
bool lb_build_mla(struct lb *b);
bool lb_build_hybrid(struct lb *b);
bool lb_build_special(struct lb *b);

/* The whole graph: false when the family is not known or memory ran out. */
bool ll_graph_build(struct lg *g, const struct ll_job *j, const struct ll_sum *s, uint64_t n_tokens, uint64_t n_outputs);
/* Peak bytes of every device, the host last (n_dev + 1 of them). False when the arena is exhausted. */
bool ll_schedule(struct lg *g, const struct ll_job *j, const struct ll_sum *s, uint64_t *ret_peaks);

#endif
