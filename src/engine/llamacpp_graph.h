/* The graph of one micro batch as ggml would hold it, for sizes only: which tensors exist, who reads them, and which
 * backend runs what. Built from the model's step (llama.cpp src/llama-graph.cpp says how each op is spelled), given to
 * an emulation of the scheduler and the allocator (ggml-backend.cpp, ggml-alloc.c). */
#ifndef PLIMSOLL_ENGINE_LLAMACPP_GRAPH_H
#define PLIMSOLL_ENGINE_LLAMACPP_GRAPH_H

#include "engine/llamacpp.h"
#include "memory/liveness.h"

enum { LL_FREE = -2, LL_CPU = -1 }; /* backends beside positions in job->dev */

struct ll_node {
	uint64_t size_bytes;
	int32_t src[PL_LIVE_MAX_SRC];
	int32_t view_of;    /* node whose memory this one is, -1 its own */
	uint64_t weight_bytes; /* of the weight it reads; 0 none */
	int16_t dev;        /* where it must run: that of its weight or cache; LL_FREE: the scheduler decides */
	int16_t weight_dev; /* where its weight lies; LL_FREE none */
	bool in_place;      /* may write over an operand */
	bool external;      /* result is the cache's memory */
	bool cache;         /* a cache left on the host: copied when another device reads it, but nothing of its own */
	bool input;         /* filled by the caller before the run */
	bool output;        /* read by the caller afterwards */
};

struct ll_graph {
	struct pl_arena *a;
	struct ll_node *nodes;
	uint32_t n, cap;
};

/* Appends a node that reads up to four others (-1: none); its number, or -1 when the arena is exhausted. */
int32_t ll_node_add(struct ll_graph *g, uint64_t size_bytes, int32_t s0, int32_t s1, int32_t s2, int32_t s3);
void ll_graph_build(struct ll_graph *g, const struct ll_job *j, const struct ll_place *pl, const struct ll_sum *s);
/* Peak bytes of every device, the host last (n_dev + 1 of them). False when the arena is exhausted. */
bool ll_schedule(struct ll_graph *g, const struct ll_job *j, const struct ll_sum *s, uint64_t *ret_peaks);

#endif
