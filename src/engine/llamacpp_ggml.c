/* Shapes and order of a ggml graph (ggml/src/ggml.c). */
#include "engine/llamacpp_ggml.h"

#include <string.h>

#include "base/checked.h"

const struct lg_tensor *lg_at(const struct lg *g, lg_t t)
{
	/* what a graph that ran out of memory reads */
	static const struct lg_tensor nothing = {.ne = {1, 1, 1, 1}, .nb = {4, 4, 4, 4}, .view_src = LG_NONE, .type = PL_DTYPE_F32};
	return t < 0 || (uint32_t)t >= g->n ? &nothing : &g->t[t];
}

uint64_t lg_row_bytes(enum pl_dtype type, uint64_t elems)
{
	const struct pl_dtype_info *d = pl_dtype_info(type);
	return pl_sat_mul(elems / (d->block_elems ? d->block_elems : 1), d->block_bytes);
}

uint64_t lg_nelements(const struct lg *g, lg_t t)
{
	const struct lg_tensor *x = lg_at(g, t);
	return pl_sat_mul(pl_sat_mul(x->ne[0], x->ne[1]), pl_sat_mul(x->ne[2], x->ne[3]));
}

uint64_t lg_nbytes(const struct lg *g, lg_t t)
{
	const struct lg_tensor *x = lg_at(g, t);
	const struct pl_dtype_info *d = pl_dtype_info(x->type);
	for (int i = 0; i < 4; i++)
		if (!x->ne[i])
			return 0;
	uint64_t sum = d->block_elems <= 1 ? pl_sat_add(d->block_bytes, pl_sat_mul(x->ne[0] - 1, x->nb[0]))
	                                   : pl_sat_mul(x->ne[0], x->nb[0]) / d->block_elems;
	for (int i = 1; i < 4; i++)
		sum = pl_sat_add(sum, pl_sat_mul(x->ne[i] - 1, x->nb[i]));
	return sum;
}

static void pack(struct lg_tensor *x)
{
	x->nb[0] = pl_dtype_info(x->type)->block_bytes;
	x->nb[1] = lg_row_bytes(x->type, x->ne[0]);
	x->nb[2] = pl_sat_mul(x->nb[1], x->ne[1]);
	x->nb[3] = pl_sat_mul(x->nb[2], x->ne[2]);
}

bool lg_contiguous(const struct lg *g, lg_t t)
{
	struct lg_tensor x = *lg_at(g, t);
	pack(&x);
	for (int i = 0; i < 4; i++)
		if (x.ne[i] > 1 && x.nb[i] != lg_at(g, t)->nb[i])
			return false;
	return true;
}

/* ---- leaves ------------------------------------------------------------------------------------------------------ */

lg_t lg_new(struct lg *g, enum pl_dtype type, uint64_t n0, uint64_t n1, uint64_t n2, uint64_t n3)
{
	if (g->n == g->cap) {
		uint32_t cap = g->cap ? g->cap * 2 : 1024;
		struct lg_tensor *p = pl_arena_grow(g->a, g->t, g->n, cap, sizeof *p);
		if (!p) {
			g->failed = true;
			return LG_NONE;
		}
		g->t = p;
		g->cap = cap;
	}
	struct lg_tensor *x = &g->t[g->n];
	memset(x, 0, sizeof *x);
	x->ne[0] = n0;
	x->ne[1] = n1;
	x->ne[2] = n2;
	x->ne[3] = n3;
	x->type = type;
	x->view_src = LG_NONE;
	x->backend = x->home = LG_FREE;
	for (int k = 0; k < LG_MAX_SRC; k++)
		x->src[k] = LG_NONE;
	pack(x);
	return (lg_t)g->n++;
}

lg_t lg_input(struct lg *g, enum pl_dtype type, uint64_t n0, uint64_t n1, uint64_t n2, uint64_t n3)
{
	lg_t t = lg_new(g, type, n0, n1, n2, n3);
	if (t >= 0)
		g->t[t].input = true;
	return t;
}

/* ---- results ----------------------------------------------------------------------------------------------------- */

lg_t lg_node(struct lg *g, enum lg_op op, enum pl_dtype type, uint64_t n0, uint64_t n1, uint64_t n2, uint64_t n3)
{
	lg_t t = lg_new(g, type, n0, n1, n2, n3);
	if (t >= 0)
		g->t[t].op = op;
	return t;
}

void lg_set_src(struct lg *g, lg_t t, int k, lg_t s)
{
	if (t < 0)
		return;
	g->t[t].src[k] = s;
	if (s >= 0 && k >= g->t[t].n_src)
		g->t[t].n_src = (uint8_t)(k + 1);
}

static lg_t like(struct lg *g, enum lg_op op, enum pl_dtype type, lg_t a)
{
	struct lg_tensor x = *lg_at(g, a);
	return lg_node(g, op, type, x.ne[0], x.ne[1], x.ne[2], x.ne[3]);
}

lg_t lg_unary(struct lg *g, enum lg_op op, lg_t a)
{
	lg_t t = like(g, op, lg_at(g, a)->type, a);
	lg_set_src(g, t, 0, a);
	return t;
}

lg_t lg_binary(struct lg *g, enum lg_op op, lg_t a, lg_t b)
{
	lg_t t = lg_unary(g, op, a);
	lg_set_src(g, t, 1, b);
	return t;
}

lg_t lg_mul_mat(struct lg *g, lg_t a, lg_t b)
{
	struct lg_tensor x = *lg_at(g, a), y = *lg_at(g, b);
	lg_t t = lg_node(g, LG_OP_MUL_MAT, PL_DTYPE_F32, x.ne[1], y.ne[1], y.ne[2], y.ne[3]);
	lg_set_src(g, t, 0, a);
	lg_set_src(g, t, 1, b);
	return t;
}

lg_t lg_mul_mat_id(struct lg *g, lg_t as, lg_t b, lg_t ids)
{
	struct lg_tensor x = *lg_at(g, as), y = *lg_at(g, b), z = *lg_at(g, ids);
	lg_t t = lg_node(g, LG_OP_MUL_MAT_ID, PL_DTYPE_F32, x.ne[1], z.ne[0], y.ne[2], 1);
	lg_set_src(g, t, 0, as);
	lg_set_src(g, t, 1, b);
	lg_set_src(g, t, 2, ids);
	return t;
}

lg_t lg_get_rows(struct lg *g, lg_t a, lg_t ids)
{
	struct lg_tensor x = *lg_at(g, a), z = *lg_at(g, ids);
	enum pl_dtype type = x.type == PL_DTYPE_I32 ? PL_DTYPE_I32 : PL_DTYPE_F32;
	lg_t t = lg_node(g, LG_OP_GET_ROWS, type, x.ne[0], z.ne[0], z.ne[1], z.ne[2]);
	lg_set_src(g, t, 0, a);
	lg_set_src(g, t, 1, ids);
	return t;
}

static lg_t whole_view(struct lg *g, enum lg_op op, lg_t a)
{
	struct lg_tensor x = *lg_at(g, a);
	lg_t t = lg_node(g, op, x.type, x.ne[0], x.ne[1], x.ne[2], x.ne[3]);
	if (t >= 0) {
		memcpy(g->t[t].nb, x.nb, sizeof x.nb);
		g->t[t].view_src = x.view_src >= 0 ? x.view_src : a;
	}
	return t;
}

lg_t lg_set_rows(struct lg *g, lg_t a, lg_t b, lg_t ids)
{
	lg_t t = whole_view(g, LG_OP_SET_ROWS, a);
	lg_set_src(g, t, 0, b);
	lg_set_src(g, t, 1, ids);
	lg_set_src(g, t, 2, a);
	return t;
}

lg_t lg_cpy(struct lg *g, lg_t a, lg_t b)
{
	lg_t t = whole_view(g, LG_OP_CPY, b);
	lg_set_src(g, t, 0, a);
	lg_set_src(g, t, 1, b);
	return t;
}

lg_t lg_cast(struct lg *g, lg_t a, enum pl_dtype type)
{
	lg_t t = like(g, LG_OP_CPY, type, a);
	lg_set_src(g, t, 0, a);
	return t;
}

lg_t lg_cont(struct lg *g, lg_t a)
{
	return lg_unary(g, LG_OP_CONT, a);
}

lg_t lg_cont_4d(struct lg *g, lg_t a, uint64_t n0, uint64_t n1, uint64_t n2, uint64_t n3)
{
	lg_t t = lg_node(g, LG_OP_CONT, lg_at(g, a)->type, n0, n1, n2, n3);
	lg_set_src(g, t, 0, a);
	return t;
}

lg_t lg_glu(struct lg *g, lg_t a)
{
	struct lg_tensor x = *lg_at(g, a);
	lg_t t = lg_node(g, LG_OP_GLU, x.type, x.ne[0] / 2, x.ne[1], x.ne[2], x.ne[3]);
	lg_set_src(g, t, 0, a);
	return t;
}

lg_t lg_glu_split(struct lg *g, lg_t a, lg_t b)
{
	return lg_binary(g, LG_OP_GLU, a, b);
}

lg_t lg_concat(struct lg *g, lg_t a, lg_t b, int dim)
{
	struct lg_tensor x = *lg_at(g, a);
	x.ne[dim] = pl_sat_add(x.ne[dim], lg_at(g, b)->ne[dim]);
	lg_t t = lg_node(g, LG_OP_CONCAT, x.type, x.ne[0], x.ne[1], x.ne[2], x.ne[3]);
	lg_set_src(g, t, 0, a);
	lg_set_src(g, t, 1, b);
	return t;
}

lg_t lg_repeat(struct lg *g, lg_t a, uint64_t n0, uint64_t n1, uint64_t n2, uint64_t n3)
{
	lg_t t = lg_node(g, LG_OP_REPEAT, lg_at(g, a)->type, n0, n1, n2, n3);
	lg_set_src(g, t, 0, a);
	return t;
}

lg_t lg_sum_rows(struct lg *g, lg_t a)
{
	struct lg_tensor x = *lg_at(g, a);
	lg_t t = lg_node(g, LG_OP_SUM_ROWS, x.type, 1, x.ne[1], x.ne[2], x.ne[3]);
	lg_set_src(g, t, 0, a);
	return t;
}

lg_t lg_argsort_top_k(struct lg *g, lg_t a, uint64_t k)
{
	lg_t t = like(g, LG_OP_ARGSORT, PL_DTYPE_I32, a);
	lg_set_src(g, t, 0, a);
	struct lg_tensor x = *lg_at(g, t);
	uint64_t ne[4] = {k, x.ne[1], x.ne[2], x.ne[3]};
	return lg_view(g, t, ne, x.nb);
}

lg_t lg_pad(struct lg *g, lg_t a, uint64_t p0, uint64_t p1)
{
	struct lg_tensor x = *lg_at(g, a);
	lg_t t = lg_node(g, LG_OP_PAD, x.type, x.ne[0] + p0, x.ne[1] + p1, x.ne[2], x.ne[3]);
	lg_set_src(g, t, 0, a);
	return t;
}

lg_t lg_soft_max(struct lg *g, lg_t a, lg_t mask, lg_t sinks)
{
	lg_t t = lg_binary(g, LG_OP_SOFT_MAX, a, mask);
	lg_set_src(g, t, 2, sinks);
	return t;
}

lg_t lg_flash_attn(struct lg *g, lg_t q, lg_t k, lg_t v, lg_t mask, lg_t sinks)
{
	struct lg_tensor x = *lg_at(g, q);
	lg_t t = lg_node(g, LG_OP_FLASH_ATTN, PL_DTYPE_F32, lg_at(g, v)->ne[0], x.ne[2], x.ne[1], x.ne[3]);
	const lg_t src[] = {q, k, v, mask, sinks};
	for (int i = 0; i < 5; i++)
		lg_set_src(g, t, i, src[i]);
	return t;
}

/* ---- views ------------------------------------------------------------------------------------------------------- */

lg_t lg_view(struct lg *g, lg_t a, const uint64_t ne[4], const uint64_t nb[4])
{
	uint64_t keep[4];
	memcpy(keep, nb, sizeof keep); /* nb may point into the table that grows */
	lg_t t = lg_node(g, LG_OP_VIEW, lg_at(g, a)->type, ne[0], ne[1], ne[2], ne[3]);
	if (t < 0)
		return t;
	lg_t root = lg_at(g, a)->view_src;
	memcpy(g->t[t].nb, keep, sizeof keep);
	g->t[t].view_src = root >= 0 ? root : a;
	g->t[t].src[0] = a;
	g->t[t].n_src = 1;
	return t;
}

lg_t lg_reshape(struct lg *g, lg_t a, uint64_t n0, uint64_t n1, uint64_t n2, uint64_t n3)
{
	struct lg_tensor x = {.ne = {n0, n1, n2, n3}, .type = lg_at(g, a)->type};
	pack(&x);
	return lg_view(g, a, x.ne, x.nb);
}

lg_t lg_view_2d(struct lg *g, lg_t a, uint64_t n0, uint64_t n1, uint64_t nb1)
{
	uint64_t ne[4] = {n0, n1, 1, 1}, nb[4] = {lg_at(g, a)->nb[0], nb1, pl_sat_mul(nb1, n1), pl_sat_mul(nb1, n1)};
	nb[0] = pl_dtype_info(lg_at(g, a)->type)->block_bytes;
	return lg_view(g, a, ne, nb);
}

lg_t lg_view_3d(struct lg *g, lg_t a, uint64_t n0, uint64_t n1, uint64_t n2, uint64_t nb1, uint64_t nb2)
{
	uint64_t ne[4] = {n0, n1, n2, 1};
	uint64_t nb[4] = {pl_dtype_info(lg_at(g, a)->type)->block_bytes, nb1, nb2, pl_sat_mul(nb2, n2)};
	return lg_view(g, a, ne, nb);
}

lg_t lg_permute(struct lg *g, lg_t a, int p0, int p1, int p2, int p3)
{
	struct lg_tensor x = *lg_at(g, a);
	const int to[4] = {p0, p1, p2, p3};
	uint64_t ne[4], nb[4];
	for (int i = 0; i < 4; i++) {
		ne[to[i]] = x.ne[i];
		nb[to[i]] = x.nb[i];
	}
	return lg_view(g, a, ne, nb);
}

lg_t lg_transpose(struct lg *g, lg_t a)
{
	return lg_permute(g, a, 1, 0, 2, 3);
}

/* ---- order ------------------------------------------------------------------------------------------------------- */

static void append(struct lg *g, lg_t **list, uint32_t *n, uint32_t *cap, lg_t t)
{
	if (*n == *cap) {
		uint32_t more = *cap ? *cap * 2 : 1024;
		lg_t *p = pl_arena_grow(g->a, *list, *n, more, sizeof *p);
		if (!p) {
			g->failed = true;
			return;
		}
		*list = p;
		*cap = more;
	}
	(*list)[(*n)++] = t;
}

/* Chains are as deep as what was built since the last call, a layer or so. */
void lg_expand(struct lg *g, lg_t t)
{
	if (t < 0 || g->t[t].visited || g->failed)
		return;
	g->t[t].visited = true;
	for (int k = 0; k < g->t[t].n_src; k++)
		lg_expand(g, g->t[t].src[k]);
	if (g->t[t].op == LG_OP_NONE)
		append(g, &g->leafs, &g->n_leafs, &g->cap_leafs, t);
	else
		append(g, &g->nodes, &g->n_nodes, &g->cap_nodes, t);
}
