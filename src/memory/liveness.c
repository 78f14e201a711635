#include <string.h>

#include "base/checked.h"
#include "memory/liveness.h"

/* Free space of one arena, sorted by offset; the last block is endless, taking from it grows the arena. */
enum { MAX_HOLES = 256 };

struct hole {
	uint64_t offset, size;
};

struct space {
	struct hole holes[MAX_HOLES];
	int n_holes;
	uint64_t peak, alignment;
};

/* What the emulation knows of a tensor while the graph runs. */
struct life {
	int32_t readers, views; /* still to come */
	bool allocated;         /* owns memory that must be freed */
	bool placed;            /* was given a place at some time */
	uint8_t buffer;
	uint64_t offset;
};

struct run {
	const struct pl_live_node *nodes;
	struct life *lives;
	struct space *spaces;
};

static void remove_hole(struct space *s, int i)
{
	memmove(&s->holes[i], &s->holes[i + 1], (size_t)(s->n_holes - i - 1) * sizeof *s->holes);
	s->n_holes--;
}

/* The tightest hole that is large enough; of equals the last; the endless block only when nothing else holds it. */
static uint64_t take(struct space *s, uint64_t size)
{
	int best = -1;
	size = pl_round_up(size, s->alignment);
	for (int i = 0; i < s->n_holes - 1; i++)
		if (s->holes[i].size >= size && (best < 0 || s->holes[i].size <= s->holes[best].size))
			best = i;
	if (best < 0)
		best = s->n_holes - 1;
	struct hole *h = &s->holes[best];
	uint64_t offset = h->offset;
	h->offset += size;
	h->size -= size;
	if (!h->size)
		remove_hole(s, best);
	s->peak = pl_max_u64(s->peak, offset + size);
	return offset;
}

/* Joins the first neighbour it meets, then that one's other neighbour: the order matters for what follows. */
static void give_back(struct space *s, uint64_t offset, uint64_t size)
{
	size = pl_round_up(size, s->alignment);
	for (int i = 0; i < s->n_holes; i++) {
		struct hole *h = &s->holes[i];
		if (h->offset + h->size == offset) {
			h->size += size;
			if (i < s->n_holes - 1 && h->offset + h->size == h[1].offset) {
				h->size += h[1].size;
				remove_hole(s, i + 1);
			}
			return;
		}
		if (offset + size == h->offset) {
			h->offset = offset;
			h->size += size;
			if (i > 0 && h[-1].offset + h[-1].size == h->offset) {
				h[-1].size += h->size;
				remove_hole(s, i);
			}
			return;
		}
	}
	if (s->n_holes == MAX_HOLES)
		return; /* lost space only enlarges the peak */
	int at = 0;
	while (at < s->n_holes && s->holes[at].offset < offset)
		at++;
	memmove(&s->holes[at + 1], &s->holes[at], (size_t)(s->n_holes - at) * sizeof *s->holes);
	s->holes[at] = (struct hole){offset, size};
	s->n_holes++;
}

static void take_over(struct run *r, int32_t i, int32_t owner)
{
	struct life *l = &r->lives[i], *p = &r->lives[owner];
	uint64_t alignment = r->spaces[p->buffer].alignment;
	uint64_t had = pl_round_up(r->nodes[owner].size_bytes, alignment), need = pl_round_up(r->nodes[i].size_bytes, alignment);
	l->buffer = p->buffer;
	l->offset = p->offset;
	p->allocated = false;
	if (had > need)
		give_back(&r->spaces[l->buffer], l->offset + need, had - need);
}

/* In place: over an operand that nobody reads afterwards. */
static bool reuse_operand(struct run *r, int32_t i)
{
	const struct pl_live_node *n = &r->nodes[i];
	for (int k = 0; k < n->n_src; k++) {
		int32_t s = n->src[k];
		if (s < 0)
			continue;
		const struct pl_live_node *p = &r->nodes[s];
		const struct life *pl = &r->lives[s];
		/* a view owns nothing, and what owns nothing is never taken over */
		if (p->view_of >= 0 || !pl->allocated || p->is_output || p->layout != n->layout || pl->readers != 1 || pl->views)
			continue;
		take_over(r, i, s);
		return true;
	}
	return false;
}

static void place(struct run *r, int32_t i)
{
	const struct pl_live_node *n = &r->nodes[i];
	struct life *l = &r->lives[i];
	if (n->external || l->placed)
		return;
	l->placed = true;
	if (n->view_of >= 0)
		return;
	l->allocated = true;
	if (n->may_reuse && reuse_operand(r, i))
		return;
	l->buffer = n->buffer;
	l->offset = take(&r->spaces[n->buffer], n->size_bytes);
}

static void release(struct run *r, int32_t i)
{
	struct life *l = &r->lives[i];
	if (r->nodes[i].is_output || !l->allocated)
		return;
	give_back(&r->spaces[l->buffer], l->offset, r->nodes[i].size_bytes);
	l->allocated = false;
}

static void operand_was_read(struct run *r, int32_t s)
{
	struct life *l = &r->lives[s];
	if (--l->readers || l->views)
		return;
	int32_t root = r->nodes[s].view_of;
	if (root < 0) {
		release(r, s);
		return;
	}
	struct life *rl = &r->lives[root];
	if (!--rl->views && !rl->readers)
		release(r, root);
}

static void count_readers(struct run *r, uint32_t n_nodes)
{
	for (uint32_t i = 0; i < n_nodes; i++) {
		const struct pl_live_node *n = &r->nodes[i];
		if (n->is_leaf)
			continue;
		if (n->view_of >= 0)
			r->lives[n->view_of].views++;
		if (n->is_input)
			place(r, (int32_t)i);
		for (int k = 0; k < n->n_src; k++) {
			if (n->src[k] < 0)
				continue;
			r->lives[n->src[k]].readers++;
			if (r->nodes[n->src[k]].is_input)
				place(r, n->src[k]);
		}
	}
}

bool pl_live_peaks(struct pl_arena *a, const struct pl_live_node *nodes, uint32_t n_nodes, uint32_t n_buffers,
                   const uint32_t *alignment_bytes, uint64_t *ret_peaks)
{
	struct run r = {nodes, PL_NEW_N(a, struct life, n_nodes), PL_NEW_N(a, struct space, n_buffers)};
	if (!r.lives || !r.spaces)
		return false;
	for (uint32_t b = 0; b < n_buffers; b++) {
		r.spaces[b].alignment = alignment_bytes[b];
		r.spaces[b].holes[0] = (struct hole){0, UINT64_MAX / 2};
		r.spaces[b].n_holes = 1;
	}
	for (uint32_t i = 0; i < n_nodes; i++)
		if (nodes[i].is_leaf)
			place(&r, (int32_t)i);
	count_readers(&r, n_nodes);
	for (uint32_t i = 0; i < n_nodes; i++) {
		if (nodes[i].is_leaf)
			continue;
		for (int k = 0; k < nodes[i].n_src; k++)
			if (nodes[i].src[k] >= 0)
				place(&r, nodes[i].src[k]);
		place(&r, (int32_t)i);
		for (int k = 0; k < nodes[i].n_src; k++)
			if (nodes[i].src[k] >= 0)
				operand_was_read(&r, nodes[i].src[k]);
	}
	for (uint32_t b = 0; b < n_buffers; b++)
		ret_peaks[b] = r.spaces[b].peak;
	return true;
}
