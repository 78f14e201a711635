/* A graph of tensors as ggml holds it (ggml/src/ggml.c), for sizes only: shapes, strides, views, who reads whom, and in
 * which order the nodes are visited. No data. */
#ifndef PLIMSOLL_ENGINE_LLAMACPP_GGML_H
#define PLIMSOLL_ENGINE_LLAMACPP_GGML_H

#include <stdbool.h>
#include <stdint.h>

#include <plimsoll/arena.h>
#include <plimsoll/dtype.h>

typedef int32_t lg_t; /* number of a tensor in its graph */
enum { LG_NONE = -1, LG_MAX_SRC = 10 };
enum { LG_FREE = -2, LG_CPU = -1 }; /* backends beside positions in the list of devices */

enum lg_op {
	LG_OP_NONE = 0,
	LG_OP_VIEW, /* view, reshape, permute, transpose: no work, no memory */
	/* from here: may write over an operand of the same layout (ggml_op_can_inplace) */
	LG_OP_FILL,
	LG_OP_SCALE,
	LG_OP_ADD,
	LG_OP_ADD_ID,
	LG_OP_SUB,
	LG_OP_MUL,
	LG_OP_DIV,
	LG_OP_SQR,
	LG_OP_SQRT,
	LG_OP_UNARY,
	LG_OP_ROPE,
	LG_OP_RMS_NORM,
	LG_OP_CLAMP,
	LG_OP_SOFT_MAX,
	/* from here: never */
	LG_OP_MUL_MAT,
	LG_OP_MUL_MAT_ID,
	LG_OP_GET_ROWS,
	LG_OP_SET_ROWS,
	LG_OP_CPY,
	LG_OP_CONT,
	LG_OP_DUP,
	LG_OP_CONCAT,
	LG_OP_REPEAT,
	LG_OP_NORM,
	LG_OP_L2_NORM,
	LG_OP_GROUP_NORM,
	LG_OP_GLU,
	LG_OP_SUM_ROWS,
	LG_OP_ARGSORT,
	LG_OP_TOP_K,
	LG_OP_PAD,
	LG_OP_CUMSUM,
	LG_OP_FLASH_ATTN,
	LG_OP_SSM_CONV,
	LG_OP_SSM_SCAN,
	LG_OP_RECURRENCE, /* WKV, gated linear attention, gated delta net */
	LG_OP_INDEXER,
	LG_OP_OTHER
};

struct lg_tensor {
	uint64_t ne[4], nb[4];
	lg_t src[LG_MAX_SRC];
	uint8_t n_src;     /* none from here on */
	lg_t view_src;     /* the tensor that owns the memory, never itself a view */
	enum pl_dtype type;
	enum lg_op op;
	int16_t backend;   /* LG_FREE until the scheduler decides */
	int16_t home;      /* weights and caches: where their buffer lies; LG_FREE otherwise */
	bool weight, external; /* external: memory of somebody else, weights included */
	bool repacked;     /* a weight in the CPU's own layout: no other backend reads it */
	bool input, output, visited;
};

struct lg {
	struct pl_arena *a;
	struct lg_tensor *t;
	uint32_t n, cap;
	lg_t *nodes, *leafs; /* in the order of execution */
	uint32_t n_nodes, cap_nodes, n_leafs, cap_leafs;
	bool failed; /* the arena is exhausted */
};

const struct lg_tensor *lg_at(const struct lg *g, lg_t t);
uint64_t lg_nbytes(const struct lg *g, lg_t t);
uint64_t lg_nelements(const struct lg *g, lg_t t);
uint64_t lg_row_bytes(enum pl_dtype type, uint64_t elems);
bool lg_contiguous(const struct lg *g, lg_t t);

/* leaves */
lg_t lg_new(struct lg *g, enum pl_dtype type, uint64_t n0, uint64_t n1, uint64_t n2, uint64_t n3);
lg_t lg_input(struct lg *g, enum pl_dtype type, uint64_t n0, uint64_t n1, uint64_t n2, uint64_t n3);

/* a result of its own: f32 of a's shape, laid out without gaps */
lg_t lg_unary(struct lg *g, enum lg_op op, lg_t a);
lg_t lg_binary(struct lg *g, enum lg_op op, lg_t a, lg_t b);
lg_t lg_node(struct lg *g, enum lg_op op, enum pl_dtype type, uint64_t n0, uint64_t n1, uint64_t n2, uint64_t n3);
void lg_set_src(struct lg *g, lg_t t, int k, lg_t s);

lg_t lg_mul_mat(struct lg *g, lg_t a, lg_t b);
lg_t lg_mul_mat_id(struct lg *g, lg_t as, lg_t b, lg_t ids);
lg_t lg_get_rows(struct lg *g, lg_t a, lg_t ids);
lg_t lg_set_rows(struct lg *g, lg_t a, lg_t b, lg_t ids);
lg_t lg_cpy(struct lg *g, lg_t a, lg_t b);
lg_t lg_cast(struct lg *g, lg_t a, enum pl_dtype type);
lg_t lg_cont(struct lg *g, lg_t a);
lg_t lg_cont_4d(struct lg *g, lg_t a, uint64_t n0, uint64_t n1, uint64_t n2, uint64_t n3);
lg_t lg_glu(struct lg *g, lg_t a);           /* halves of one tensor */
lg_t lg_glu_split(struct lg *g, lg_t a, lg_t b);
lg_t lg_concat(struct lg *g, lg_t a, lg_t b, int dim);
lg_t lg_repeat(struct lg *g, lg_t a, uint64_t n0, uint64_t n1, uint64_t n2, uint64_t n3);
lg_t lg_sum_rows(struct lg *g, lg_t a);
lg_t lg_argsort_top_k(struct lg *g, lg_t a, uint64_t k);
lg_t lg_pad(struct lg *g, lg_t a, uint64_t p0, uint64_t p1);
lg_t lg_soft_max(struct lg *g, lg_t a, lg_t mask, lg_t sinks);
lg_t lg_flash_attn(struct lg *g, lg_t q, lg_t k, lg_t v, lg_t mask, lg_t sinks);

/* views */
lg_t lg_view(struct lg *g, lg_t a, const uint64_t ne[4], const uint64_t nb[4]);
lg_t lg_reshape(struct lg *g, lg_t a, uint64_t n0, uint64_t n1, uint64_t n2, uint64_t n3);
lg_t lg_view_2d(struct lg *g, lg_t a, uint64_t n0, uint64_t n1, uint64_t nb1);
lg_t lg_view_3d(struct lg *g, lg_t a, uint64_t n0, uint64_t n1, uint64_t n2, uint64_t nb1, uint64_t nb2);
lg_t lg_permute(struct lg *g, lg_t a, int p0, int p1, int p2, int p3);
lg_t lg_transpose(struct lg *g, lg_t a);

/* Adds a tensor and everything it needs that is not there yet, depth first (ggml_build_forward_expand). */
void lg_expand(struct lg *g, lg_t t);

#endif
