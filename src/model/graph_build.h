/* Inside the graph builder: values, operations and the look-up of tensors. Every helper takes and returns indices of
 * values; PL_NO_VALUE means "there is none" and passes through. */
#ifndef PLIMSOLL_MODEL_GRAPH_BUILD_H
#define PLIMSOLL_MODEL_GRAPH_BUILD_H

#include "model/build.h"

struct pl_arch_traits;

#define PL_NO_VALUE UINT32_MAX

struct pl_gb {
	struct pl_arena *a;
	struct pl_model *m;
	const struct pl_arch_traits *tr; /* NULL: llama.cpp does not know the architecture */
	uint32_t n_all;                  /* layers the index covers */
	uint32_t *index; /* (n_all + 1) × PL_ROLE_COUNT × 2 → tensor + 1; row 0: outside the layers */
	bool *used;      /* by tensor */
	uint32_t *kv;    /* by layer: the value its cache is */
	struct pl_op *ops;
	uint32_t n_ops, cap_ops;
	struct pl_value *values;
	uint32_t n_values, cap_values;
	uint32_t ple;      /* per-layer input embeddings, PL_NO_VALUE without */
	uint32_t encoder;  /* what cross attention reads */
	const char *fault; /* first thing that did not fit together; NULL while all is well */
};

/* Tensor index of a role in a layer (-1: outside the layers), -1 when there is none. */
int64_t pl_gb_find(const struct pl_gb *b, int32_t il, enum pl_role role, bool is_bias);
bool pl_gb_has(const struct pl_gb *b, int32_t il, enum pl_role role);
const struct pl_tensor *pl_gb_tensor(const struct pl_gb *b, int32_t il, enum pl_role role);

uint32_t pl_gb_value(struct pl_gb *b, uint64_t width, enum pl_rows rows, const char *name);
uint32_t pl_gb_width(const struct pl_gb *b, uint32_t value);
/* An operation with up to three inputs; returns its output. */
uint32_t pl_gb_op(struct pl_gb *b, enum pl_op_kind kind, int32_t il, uint32_t in0, uint32_t in1, uint32_t in2,
                  uint64_t width, enum pl_rows rows, const char *name);
/* Gives the newest operation the weight (and the bias, when it has one) of a role; does nothing when there is none. */
void pl_gb_weigh(struct pl_gb *b, int32_t il, enum pl_role role);
/* in × weight (+ bias); PL_NO_VALUE without such a tensor. Checks the widths. */
uint32_t pl_gb_linear(struct pl_gb *b, int32_t il, enum pl_role role, uint32_t in, const char *name);
/* Norm with the weight of role; returns in unchanged when the layer has no such tensor. */
uint32_t pl_gb_norm(struct pl_gb *b, int32_t il, enum pl_role role, uint32_t in, const char *name);
/* Sum of two values of one width; either may be PL_NO_VALUE. */
uint32_t pl_gb_add(struct pl_gb *b, int32_t il, uint32_t x, uint32_t y, const char *name);
/* Records that widths do not agree, once. */
void pl_gb_expect(struct pl_gb *b, const struct pl_tensor *t, uint64_t have, uint64_t want);

uint32_t pl_gb_attention(struct pl_gb *b, int32_t il, uint32_t h);
uint32_t pl_gb_recurrent(struct pl_gb *b, int32_t il, uint32_t h);
/* Dense, routed and shared feed forward of one layer. x: the residual, h: the normed input. */
uint32_t pl_gb_ffn(struct pl_gb *b, int32_t il, uint32_t x, uint32_t h);

#endif
