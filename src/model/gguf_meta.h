/* Inside the reader of GGUF metadata: typed look-ups that fail with the key's name, and the layers while they are
 * filled. */
#ifndef PLIMSOLL_MODEL_GGUF_META_H
#define PLIMSOLL_MODEL_GGUF_META_H

#include "model/arch_traits.h"
#include "model/build.h"

enum {
	PL_META_MAX_LAYERS = 1024,   /* llama.cpp stops at 512 */
	PL_META_MAX_WIDTH = 1 << 24, /* embedding, feed forward, projections */
	PL_META_MAX_HEADS = 1 << 16,
	PL_META_MAX_EXPERTS = 1 << 16,
	PL_META_MAX_RANK = 1 << 20,
	PL_META_MAX_TOKENS = 1 << 30
};

struct pl_meta {
	struct pl_arena *a;
	const struct pl_gguf *g;
	struct pl_model *m;
	struct pl_err *err;
	const struct pl_arch_traits *tr;
	bool guess; /* unknown architecture: nothing is required */
	const char *arch;
	char key[160];
	uint32_t n_all;                   /* trunk and MTP layers */
	const struct pl_tensor **by_role; /* n_all × PL_ROLE_COUNT, weights only */
	struct pl_layer *layers;
	uint32_t *heads, *kv_heads, *ff, *ff_exp, *used, *swa, *recurrent;
};

/* "<arch>.<suffix>", valid until the next call. */
const char *pl_meta_key(struct pl_meta *x, const char *suffix);
/* A scalar up to max: 1 when there, 0 when absent, negative on a fault. An array counts as absent. */
int pl_meta_u32(struct pl_meta *x, const char *suffix, uint64_t max, uint32_t *ret);
/* The same, required and not 0: 0 or negative. */
int pl_meta_need_u32(struct pl_meta *x, const char *suffix, uint64_t max, uint32_t *ret);
/* One number a layer, from a scalar or an array of n_all: 1 when there, 0 when absent, negative on a fault. */
int pl_meta_per_layer(struct pl_meta *x, const char *suffix, uint64_t max, uint32_t *out);
/* Weight of a role in a layer; NULL when there is none. */
const struct pl_tensor *pl_meta_tensor(const struct pl_meta *x, uint32_t il, enum pl_role role);
/* Heads of the first layer that has some. */
uint32_t pl_meta_first_heads(const struct pl_meta *x);

/* Fill their part of all layers, in this order: 0 or negative. */
int pl_meta_windows(struct pl_meta *x);
int pl_meta_recurrent(struct pl_meta *x);
int pl_meta_attention(struct pl_meta *x);

#endif
