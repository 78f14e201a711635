/* What ggml's scheduler makes of a graph: backends, splits, copies between them (ggml-backend.cpp
 * ggml_backend_sched_split_graph), then the peaks of the allocator. */
#include "base/checked.h"
#include "engine/llamacpp_graph.h"

enum { N_PIPELINE_COPIES = 4, GPU_ALIGN = 128, HOST_ALIGN = 32 };

int32_t ll_node_add(struct ll_graph *g, uint64_t size_bytes, int32_t s0, int32_t s1, int32_t s2, int32_t s3)
{
	if (g->n == g->cap) {
		uint32_t cap = g->cap ? g->cap * 2 : 512;
		struct ll_node *p = pl_arena_grow(g->a, g->nodes, g->n, cap, sizeof *p);
		if (!p)
			return -1;
		g->nodes = p;
		g->cap = cap;
	}
	g->nodes[g->n] = (struct ll_node){.size_bytes = size_bytes, .src = {s0, s1, s2, s3, -1, -1}, .view_of = -1,
	                                  .dev = LL_FREE, .weight_dev = LL_FREE};
	return (int32_t)g->n++;
}

/* Nodes without a weight or a cache take the GPU of their neighbours: downwards first, then upwards; what is left
 * follows the CPU. */
static void assign(struct ll_graph *g, bool gpu_only, bool down)
{
	int16_t cur = LL_FREE;
	for (uint32_t k = 0; k < g->n; k++) {
		struct ll_node *x = &g->nodes[down ? k : g->n - 1 - k];
		if (x->input)
			continue;
		if (x->dev != LL_FREE)
			cur = gpu_only && x->dev == LL_CPU ? LL_FREE : x->dev;
		else if (cur != LL_FREE)
			x->dev = cur;
	}
}

struct splitter {
	const struct ll_job *j;
	struct ll_graph *g;
	struct pl_live_node *out;
	uint32_t n, cap;
	int32_t *at;    /* node → its place in out, n_nodes entries */
	int32_t *copy;  /* (n_dev + 1) × n_nodes: copy of a node on a device, -1 none */
	uint32_t n_nodes;
	bool pipeline, failed;
	struct pl_arena *a;
};

static uint8_t buffer_of(const struct splitter *x, int16_t dev)
{
	return (uint8_t)(dev < 0 ? x->j->n_dev : (uint32_t)dev);
}

static int32_t emit(struct splitter *x, uint64_t size_bytes, uint8_t buffer)
{
	if (x->n == x->cap) {
		uint32_t cap = x->cap ? x->cap * 2 : 1024;
		struct pl_live_node *p = pl_arena_grow(x->a, x->out, x->n, cap, sizeof *p);
		if (!p) {
			x->failed = true;
			return -1;
		}
		x->out = p;
		x->cap = cap;
	}
	x->out[x->n] = (struct pl_live_node){.size_bytes = size_bytes, .layout = size_bytes, .view_of = -1, .buffer = buffer};
	for (int k = 0; k < PL_LIVE_MAX_SRC; k++)
		x->out[x->n].src[k] = -1;
	return (int32_t)x->n++;
}

/* A leaf allocated before the run; with pipelines the caller fills one of four while the others are in use. */
static int32_t emit_input(struct splitter *x, uint64_t size_bytes, uint8_t buffer)
{
	int32_t first = -1;
	for (int c = 0; c < (x->pipeline ? N_PIPELINE_COPIES : 1); c++) {
		int32_t i = emit(x, size_bytes, buffer);
		if (i < 0)
			return -1;
		x->out[i].is_leaf = x->out[i].is_input = true;
		x->out[i].is_output = x->pipeline;
		first = c ? first : i;
	}
	return first;
}

/* The copy of node s on a device, made at the start of the split that needs it first. */
static int32_t copy_to(struct splitter *x, int32_t s, uint8_t buffer)
{
	int32_t *slot = &x->copy[(size_t)buffer * x->n_nodes + (size_t)s];
	if (*slot >= 0)
		return *slot;
	if (x->pipeline) {
		*slot = emit_input(x, x->g->nodes[s].size_bytes, buffer);
	} else { /* a node of its own, and a reader that keeps the source until then */
		int32_t dep = emit(x, 0, x->out[x->at[s]].buffer);
		*slot = emit(x, x->g->nodes[s].size_bytes, buffer);
		if (dep >= 0 && *slot >= 0) {
			x->out[dep].external = true;
			x->out[dep].src[0] = x->at[s];
		}
	}
	return *slot;
}

static bool is_here(const struct splitter *x, int32_t s, uint8_t buffer)
{
	const struct ll_node *n = &x->g->nodes[s];
	return (n->external && !n->cache) || x->out[x->at[s]].buffer == buffer;
}

static uint32_t split_end(const struct splitter *x, uint32_t start)
{
	uint32_t end = start;
	bool weights_came = false;
	for (; end < x->n_nodes; end++) {
		const struct ll_node *n = &x->g->nodes[end];
		if (n->input)
			continue;
		if (n->dev != x->g->nodes[start].dev)
			break;
		bool comes = n->weight_dev != LL_FREE && n->weight_dev != n->dev;
		if (comes && weights_came) /* so that the room of the previous weight can be used again */
			break;
		weights_came |= comes;
	}
	return end;
}

static void copy_inputs(struct splitter *x, uint32_t start, uint32_t end)
{
	for (uint32_t i = start; i < end && !x->failed; i++) {
		const struct ll_node *n = &x->g->nodes[i];
		if (n->input)
			continue;
		uint8_t b = buffer_of(x, n->dev);
		for (int k = 0; k < PL_LIVE_MAX_SRC; k++) {
			int32_t s = n->src[k];
			if (s >= 0 && (uint32_t)s < start && !is_here(x, s, b))
				copy_to(x, s, b);
			else if (s >= 0 && (uint32_t)s >= start && x->g->nodes[s].input && b != x->j->n_dev)
				copy_to(x, s, b);
		}
	}
}

static void emit_node(struct splitter *x, uint32_t i)
{
	const struct ll_node *n = &x->g->nodes[i];
	uint8_t b = buffer_of(x, n->dev);
	int32_t weight = -1;
	if (n->weight_dev != LL_FREE && n->weight_dev != n->dev)
		weight = emit(x, n->weight_bytes, b);
	int32_t o = emit(x, n->size_bytes, b);
	if (o < 0)
		return;
	struct pl_live_node *out = &x->out[o];
	int used = 0;
	for (int k = 0; k < PL_LIVE_MAX_SRC; k++) {
		int32_t s = n->src[k];
		if (s < 0)
			continue;
		out->src[used++] = is_here(x, s, b) ? x->at[s] : x->copy[(size_t)b * x->n_nodes + (size_t)s];
	}
	if (weight >= 0 && used < PL_LIVE_MAX_SRC)
		out->src[used] = weight;
	out->may_reuse = n->in_place;
	out->external = n->external;
	out->is_output = n->output;
	if (n->view_of >= 0) {
		int32_t root = x->at[n->view_of];
		out->view_of = x->out[root].view_of >= 0 ? x->out[root].view_of : root;
		out->view_at_start = true;
	}
	x->at[i] = o;
}

static bool split(struct splitter *x)
{
	uint32_t n_buffers = x->j->n_dev + 1;
	x->at = PL_NEW_N(x->a, int32_t, x->n_nodes);
	x->copy = PL_NEW_N(x->a, int32_t, (uint64_t)x->n_nodes * n_buffers);
	if (!x->at || !x->copy)
		return false;
	for (uint64_t i = 0; i < (uint64_t)x->n_nodes * n_buffers; i++)
		x->copy[i] = -1;
	for (uint32_t i = 0; i < x->n_nodes; i++)
		if (x->g->nodes[i].cache) {
			x->at[i] = emit(x, 0, (uint8_t)x->j->n_dev);
			if (x->at[i] >= 0)
				x->out[x->at[i]].external = x->out[x->at[i]].is_leaf = true;
		} else if (x->g->nodes[i].input) {
			x->at[i] = emit_input(x, x->g->nodes[i].size_bytes, (uint8_t)x->j->n_dev);
		}
	for (uint32_t start = 0; start < x->n_nodes && !x->failed;) {
		if (x->g->nodes[start].input) {
			start++;
			continue;
		}
		uint32_t end = split_end(x, start);
		copy_inputs(x, start, end);
		for (uint32_t i = start; i < end && !x->failed; i++)
			if (!x->g->nodes[i].input)
				emit_node(x, i);
		start = end;
	}
	return !x->failed;
}

bool ll_schedule(struct ll_graph *g, const struct ll_job *j, const struct ll_sum *s, uint64_t *ret_peaks)
{
	uint32_t alignment[PL_MAX_DEVICES + 1];
	struct splitter x = {.j = j, .g = g, .n_nodes = g->n, .pipeline = s->pipeline, .a = g->a};
	assign(g, true, true);
	assign(g, true, false);
	assign(g, false, true);
	assign(g, false, false);
	if (!split(&x))
		return false;
	for (uint32_t d = 0; d < j->n_dev; d++)
		alignment[d] = GPU_ALIGN;
	alignment[j->n_dev] = HOST_ALIGN;
	return pl_live_peaks(g->a, x.out, x.n, j->n_dev + 1, alignment, ret_peaks);
}
