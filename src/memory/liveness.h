/* The peak an arena of activations reaches when a graph runs: an emulation of ggml's graph allocator (ggml-alloc.c). */
#ifndef PLIMSOLL_MEMORY_LIVENESS_H
#define PLIMSOLL_MEMORY_LIVENESS_H

#include <stdbool.h>
#include <stdint.h>

#include <plimsoll/arena.h>

enum { PL_LIVE_MAX_SRC = 10 };

/* One tensor of the graph, in the order of execution; leaves (inputs without operands) may stand anywhere before their
 * first use. */
struct pl_live_node {
	uint64_t size_bytes; /* what the backend allocates for it */
	uint64_t layout;     /* equal numbers: same type, shape and strides (in-place reuse needs that) */
	int32_t src[PL_LIVE_MAX_SRC]; /* operands, -1 none */
	uint8_t n_src;       /* none from here on */
	int32_t view_of;     /* the tensor whose memory this one looks into (never itself a view), -1 none */
	bool may_reuse;      /* the operation can write over an operand (ggml_op_can_inplace) */
	bool external;       /* weights, caches: memory of somebody else */
	bool is_input;       /* filled before the run: allocated first and kept apart */
	bool is_output;      /* read after the run: never freed, never written over */
	bool is_leaf;        /* not computed */
	uint8_t buffer;      /* which device's arena */
};

/* Peak of each of the n_buffers arenas in ret_peaks[]. alignment: of every allocation, a power of two (CUDA 128,
 * CPU 32). False when the arena a is exhausted. */
bool pl_live_peaks(struct pl_arena *a, const struct pl_live_node *nodes, uint32_t n_nodes, uint32_t n_buffers,
                   const uint32_t *alignment_bytes, uint64_t *ret_peaks);

#endif
