/* What ggml's scheduler makes of a graph: backends, splits, copies between them (ggml-backend.cpp
 * ggml_backend_sched_split_graph), then the peaks of the allocator. */
#include "base/checked.h"
#include "engine/llamacpp_build.h"
#include "memory/liveness.h"

enum { N_PIPELINE_COPIES = 4, GPU_ALIGN = 128, HOST_ALIGN = 32, OFFLOAD_MIN_BATCH = 32, COPIES = 1 << 30 };

static bool is_view_op(const struct lg_tensor *t)
{
	return t->op == LG_OP_VIEW;
}

/* ---- backends ---------------------------------------------------------------------------------------------------- */

/* Rows an op works on, as the CUDA backend counts them when it decides whether sending a weight over is worth it. */
static uint64_t batch_of(const struct lg_tensor *t)
{
	switch (t->op) {
	case LG_OP_GET_ROWS:
		return 0;
	case LG_OP_MUL_MAT:
		return t->ne[1];
	case LG_OP_MUL_MAT_ID:
	case LG_OP_ROPE:
		return t->ne[2];
	default:
		return pl_sat_mul(t->ne[1], pl_sat_mul(t->ne[2], t->ne[3]));
	}
}

static int16_t offloaded(const struct ll_job *j, const struct lg_tensor *t, const struct lg_tensor *w)
{
	if (w->home != LG_CPU || w->repacked || j->p->no_op_offload)
		return w->home;
	for (uint32_t d = 0; d < j->n_dev; d++)
		if (j->dev[d].offloads && batch_of(t) >= OFFLOAD_MIN_BATCH)
			return (int16_t)d;
	return w->home;
}

static int16_t from_operands(const struct lg *g, const struct ll_job *j, const struct lg_tensor *t)
{
	if (t->external)
		return t->home;
	if (t->view_src >= 0 && g->t[t->view_src].external)
		return g->t[t->view_src].home;
	if (t->input)
		return LG_CPU;
	if (t->op == LG_OP_ROPE || t->op == LG_OP_FLASH_ATTN)
		return LG_FREE;
	for (int k = 0; k < t->n_src; k++)
		if (t->src[k] >= 0 && g->t[t->src[k]].weight)
			return offloaded(j, t, &g->t[t->src[k]]);
	return LG_FREE;
}

/* Nodes that nothing decides take the backend of their neighbours: GPUs spread first. */
static void spread(struct lg *g, bool gpu_only, bool down)
{
	int16_t cur = LG_FREE;
	for (uint32_t k = 0; k < g->n_nodes; k++) {
		struct lg_tensor *t = &g->t[g->nodes[down ? k : g->n_nodes - 1 - k]];
		if (is_view_op(t))
			continue;
		if (t->backend != LG_FREE)
			cur = gpu_only && t->backend == LG_CPU ? LG_FREE : t->backend;
		else if (cur != LG_FREE)
			t->backend = cur;
	}
}

static void spread_to_operands(struct lg *g)
{
	for (uint32_t i = 0; i < g->n_nodes; i++) {
		struct lg_tensor *t = &g->t[g->nodes[i]];
		if (t->view_src >= 0 && t->backend == LG_FREE)
			t->backend = g->t[t->view_src].backend;
		for (int k = 0; k < t->n_src; k++) {
			struct lg_tensor *s = t->src[k] < 0 ? NULL : &g->t[t->src[k]];
			if (s && s->backend == LG_FREE)
				s->backend = s->view_src >= 0 ? g->t[s->view_src].backend : t->backend;
		}
		if (t->backend == LG_FREE)
			t->backend = 0;
	}
}

static void assign(struct lg *g, const struct ll_job *j)
{
	for (uint32_t i = 0; i < g->n_leafs; i++)
		g->t[g->leafs[i]].backend = from_operands(g, j, &g->t[g->leafs[i]]);
	for (uint32_t i = 0; i < g->n_nodes; i++) {
		struct lg_tensor *t = &g->t[g->nodes[i]];
		if (t->backend == LG_FREE)
			t->backend = from_operands(g, j, t);
	}
	spread(g, true, true);
	spread(g, true, false);
	spread(g, false, true);
	spread(g, false, false);
	spread_to_operands(g);
}

/* ---- splits ------------------------------------------------------------------------------------------------------ */

struct split {
	uint32_t start, end;
	int16_t backend;
	uint32_t first_input, n_inputs;
};

struct splitter {
	const struct ll_job *j;
	struct lg *g;
	struct split *splits;
	uint32_t n_splits, cap_splits;
	lg_t *inputs;                  /* of all splits, one after the other */
	uint32_t n_inputs, cap_inputs;
	bool *copied;                  /* tensor × backend */
	struct pl_live_node *out;
	uint32_t n, cap;
	int32_t *at;                   /* tensor → its place in out */
	int32_t *copy;                 /* tensor × backend → place of its copy */
	bool pipeline, failed;
};

static uint32_t n_backends(const struct splitter *x)
{
	return x->j->n_dev + 1;
}

static uint8_t buffer_of(const struct splitter *x, int16_t backend)
{
	return (uint8_t)(backend < 0 ? x->j->n_dev : (uint32_t)backend);
}

static size_t slot(const struct splitter *x, lg_t t, int16_t backend)
{
	return (size_t)t * n_backends(x) + buffer_of(x, backend);
}

/* Where the memory of a tensor is, by its buffer when it has one, by its backend otherwise. */
static int16_t place_of(const struct lg *g, lg_t t)
{
	const struct lg_tensor *x = &g->t[t], *root = x->view_src >= 0 ? &g->t[x->view_src] : x;
	if (root->external)
		return root->home;
	return x->backend != LG_FREE ? x->backend : root->backend;
}

static bool needs_copy(const struct lg *g, lg_t s, int16_t backend)
{
	return s >= 0 && g->t[s].backend != backend && place_of(g, s) != backend;
}

static struct split *open_split(struct splitter *x, uint32_t start, int16_t backend)
{
	if (x->n_splits == x->cap_splits) {
		uint32_t cap = x->cap_splits ? x->cap_splits * 2 : 64;
		struct split *p = pl_arena_grow(x->g->a, x->splits, x->n_splits, cap, sizeof *p);
		if (!p) {
			x->failed = true;
			return NULL;
		}
		x->splits = p;
		x->cap_splits = cap;
	}
	x->splits[x->n_splits] = (struct split){.start = start, .end = x->g->n_nodes, .backend = backend, .first_input = x->n_inputs};
	return &x->splits[x->n_splits++];
}

static void add_input(struct splitter *x, struct split *s, lg_t t)
{
	if (x->copied[slot(x, t, s->backend)])
		return;
	if (x->n_inputs == x->cap_inputs) {
		uint32_t cap = x->cap_inputs ? x->cap_inputs * 2 : 256;
		lg_t *p = pl_arena_grow(x->g->a, x->inputs, x->n_inputs, cap, sizeof *p);
		if (!p) {
			x->failed = true;
			return;
		}
		x->inputs = p;
		x->cap_inputs = cap;
	}
	x->copied[slot(x, t, s->backend)] = true;
	x->inputs[x->n_inputs++] = t;
	s->n_inputs++;
}

/* A weight that has to come over opens a split, so that the room of the one before can be used again. */
static bool weight_comes(const struct lg *g, const struct lg_tensor *t)
{
	for (int k = 0; k < t->n_src; k++)
		if (t->src[k] >= 0 && g->t[t->src[k]].weight && needs_copy(g, t->src[k], t->backend))
			return true;
	return false;
}

static void find_splits(struct splitter *x)
{
	struct lg *g = x->g;
	struct split *s = NULL;
	for (uint32_t i = 0; i < g->n_nodes && !x->failed; i++) {
		const struct lg_tensor *t = &g->t[g->nodes[i]];
		if (is_view_op(t))
			continue;
		if (!s || t->backend != s->backend || (s->n_inputs && weight_comes(g, t))) {
			if (s)
				s->end = i;
			s = open_split(x, s ? i : 0, t->backend);
			if (!s)
				return;
		}
		for (int k = 0; k < t->n_src && !x->failed; k++)
			if (needs_copy(g, t->src[k], s->backend))
				add_input(x, s, t->src[k]);
	}
}

/* ---- the allocator's view ---------------------------------------------------------------------------------------- */

static int32_t emit(struct splitter *x, uint64_t size_bytes, uint8_t buffer)
{
	if (x->n == x->cap) {
		uint32_t cap = x->cap ? x->cap * 2 : 2048;
		struct pl_live_node *p = pl_arena_grow(x->g->a, x->out, x->n, cap, sizeof *p);
		if (!p) {
			x->failed = true;
			return -1;
		}
		x->out = p;
		x->cap = cap;
	}
	x->out[x->n] = (struct pl_live_node){.size_bytes = size_bytes, .view_of = -1, .buffer = buffer};
	for (int k = 0; k < PL_LIVE_MAX_SRC; k++)
		x->out[x->n].src[k] = -1;
	return (int32_t)x->n++;
}

static uint64_t layout_of(const struct lg_tensor *t)
{
	uint64_t h = 1469598103934665603ull ^ (uint64_t)t->type;
	for (int i = 0; i < 4; i++) {
		h = (h ^ t->ne[i]) * 1099511628211ull;
		h = (h ^ t->nb[i]) * 1099511628211ull;
		h ^= h >> 29;
	}
	return h;
}

/* CUDA's matrix kernels want keys and values in f16: a cache of another type is converted beside the result
 * (ggml-cuda/fattn.cu). */
static uint64_t converted_bytes(const struct lg *g, const struct lg_tensor *t)
{
	uint64_t bytes = 0;
	for (int k = 1; k < 3; k++)
		if (t->src[k] >= 0 && g->t[t->src[k]].type != PL_DTYPE_F16)
			bytes = pl_sat_add(bytes, pl_sat_mul(2, lg_nelements(g, t->src[k])));
	return bytes;
}

static uint64_t size_on(const struct splitter *x, lg_t t, int16_t backend)
{
	const struct lg_tensor *n = &x->g->t[t];
	uint64_t size = lg_nbytes(x->g, t);
	if (backend >= 0 && x->j->dev[backend].cuda && n->op == LG_OP_FLASH_ATTN)
		size = pl_sat_add(size, converted_bytes(x->g, n));
	return size;
}

static int32_t place_leaf(struct splitter *x, lg_t t)
{
	const struct lg_tensor *n = &x->g->t[t];
	int copies = x->pipeline && n->input ? N_PIPELINE_COPIES : 1;
	int32_t first = -1;
	for (int c = 0; c < copies; c++) {
		int32_t i = emit(x, lg_nbytes(x->g, t), buffer_of(x, n->backend));
		if (i < 0)
			return -1;
		x->out[i].is_leaf = true;
		x->out[i].is_input = n->input;
		x->out[i].is_output = n->output || copies > 1;
		x->out[i].external = n->external;
		x->out[i].layout = layout_of(n);
		first = c ? first : i;
	}
	return first;
}

static int32_t root_of(const struct splitter *x, lg_t t)
{
	lg_t root = x->g->t[t].view_src;
	return root < 0 ? -1 : x->at[root];
}

/* A copy at the start of a split: what it copies stays until then; with pipelines, four leaves that stay for good. */
static void place_copy(struct splitter *x, lg_t t, int16_t backend)
{
	uint64_t size = lg_nbytes(x->g, t);
	uint8_t buffer = buffer_of(x, backend);
	int32_t first = -1;
	for (int c = 0; c < (x->pipeline ? N_PIPELINE_COPIES : 1); c++) {
		int32_t dep = x->pipeline ? -1 : emit(x, 0, buffer);
		int32_t i = emit(x, size, buffer);
		if (i < 0)
			return;
		if (dep >= 0) {
			x->out[dep].external = true;
			x->out[dep].src[0] = t;
			x->out[dep].n_src = 1;
		}
		x->out[i].layout = layout_of(&x->g->t[t]);
		x->out[i].is_leaf = x->out[i].is_input = x->out[i].is_output = x->pipeline;
		first = c ? first : i;
	}
	x->copy[slot(x, t, backend)] = first;
	if (x->pipeline) { /* the source is still kept until the copy is made */
		int32_t dep = emit(x, 0, buffer);
		if (dep >= 0) {
			x->out[dep].external = true;
			x->out[dep].src[0] = t;
			x->out[dep].n_src = 1;
		}
	}
}

static void place_node(struct splitter *x, lg_t t, int16_t split_backend)
{
	const struct lg_tensor *n = &x->g->t[t];
	int32_t o = emit(x, size_on(x, t, n->backend), buffer_of(x, n->backend));
	if (o < 0)
		return;
	struct pl_live_node *out = &x->out[o];
	x->at[t] = o;
	out->layout = layout_of(n);
	out->view_of = root_of(x, t);
	out->may_reuse = n->op >= LG_OP_FILL && n->op <= LG_OP_SOFT_MAX;
	out->external = n->external || (n->view_src >= 0 && x->g->t[n->view_src].external);
	out->is_output = n->output;
	out->n_src = n->n_src;
	for (int k = 0; k < n->n_src; k++) {
		lg_t s = n->src[k];
		if (s < 0)
			continue;
		bool copy = !is_view_op(n) && needs_copy(x->g, s, split_backend);
		out->src[k] = copy ? COPIES + x->copy[slot(x, s, split_backend)] : s;
	}
}

/* Operands were noted as tensors: a copy may be asked for before the view it is made of stands in the order. */
static void resolve(struct splitter *x)
{
	for (uint32_t i = 0; i < x->n; i++)
		for (int k = 0; k < x->out[i].n_src; k++) {
			int32_t s = x->out[i].src[k];
			if (s >= 0)
				x->out[i].src[k] = s >= COPIES ? s - COPIES : x->at[s];
		}
}

static void place_all(struct splitter *x)
{
	struct lg *g = x->g;
	for (uint32_t i = 0; i < g->n_leafs; i++)
		x->at[g->leafs[i]] = place_leaf(x, g->leafs[i]);
	for (uint32_t k = 0; k < x->n_splits && !x->failed; k++) {
		const struct split *s = &x->splits[k];
		for (uint32_t i = 0; i < s->n_inputs && !x->failed; i++)
			place_copy(x, x->inputs[s->first_input + i], s->backend);
		for (uint32_t i = s->start; i < s->end && !x->failed; i++)
			place_node(x, g->nodes[i], s->backend);
	}
	resolve(x);
}

bool ll_schedule(struct lg *g, const struct ll_job *j, const struct ll_sum *s, uint64_t *ret_peaks)
{
	uint32_t alignment[PL_MAX_DEVICES + 1];
	struct splitter x = {.j = j, .g = g, .pipeline = s->pipeline};
	uint64_t n_slots = (uint64_t)g->n * (j->n_dev + 1);
	assign(g, j);
	x.copied = PL_NEW_N(g->a, bool, n_slots + 1);
	x.copy = PL_NEW_N(g->a, int32_t, n_slots + 1);
	x.at = PL_NEW_N(g->a, int32_t, (uint64_t)g->n + 1);
	if (g->failed || !x.copied || !x.copy || !x.at)
		return false;
	for (uint64_t i = 0; i < n_slots; i++)
		x.copy[i] = -1;
	for (uint32_t i = 0; i < g->n; i++)
		x.at[i] = -1;
	find_splits(&x);
	place_all(&x);
	if (x.failed)
		return false;
	for (uint32_t d = 0; d < j->n_dev; d++)
		alignment[d] = GPU_ALIGN;
	alignment[j->n_dev] = HOST_ALIGN;
	return pl_live_peaks(g->a, x.out, x.n, j->n_dev + 1, alignment, ret_peaks);
}
