/* Work and constants make seconds. */
#include <math.h>
#include <string.h>

#include "speed/speed.h"

/* The constants of one place, element types left out. */
struct bound {
	double v[PL_FAMILY_COUNT];
};

struct binding {
	const struct pl_speed *s;
	const struct pl_constants *c;
	const struct pl_bump *bump; /* NULL none */
	struct bound places[PL_MAX_PLACES];
};

static double typed(const struct binding *g, const struct pl_work *w, enum pl_family f)
{
	enum pl_stack stack = g->s->places[w->place].context.stack;
	double ln = w->type ? pl_type_ln(g->c, f, stack, w->type) : 0, factor = ln != 0 ? exp(ln) : 1;
	if (g->bump && g->bump->type && g->bump->type == w->type && g->bump->family == f && g->bump->context.stack == stack)
		factor *= g->bump->factor;
	return factor;
}

/* FLOP a byte of a card whose gemm_half_rows is the constant itself: an RTX 3090. */
static const double usual_balance = 300;
/* The host walks over experts × routed rows to sort them (ggml_cuda_mul_mat_id, two nested loops over bytes in cache). */
static const double sort_pair_s = 0.5e-9;

/* A few rows go through kernels of one row, on all cores; types without tiles always do. Rows that would fill a tile's worth are
 * counted as the rows they cost (step.c: row_units). */
static void bind_host_matrix(const struct bound *b, const struct pl_work *w, double typed_eff, struct pl_term *t)
{
	double row_s = w->row_flops / (w->row_peak_flops_per_s * b->v[PL_F_ROW_EFF] * typed_eff);
	double tile_s = w->tiled ? w->row_flops / (w->peak_flops_per_s * b->v[PL_F_CORE_EFF] * typed_eff) : row_s;
	t->row_compute_s = tile_s < row_s ? tile_s : row_s;
	t->few_units = t->row_compute_s > 0 ? row_s / t->row_compute_s : 1;
	t->few_rows = PL_FEW_HOST_ROWS;
	t->half_rows = t->few_rows * (t->few_units - 1);
}

static void bind_matrix(const struct binding *g, const struct pl_work *w, struct pl_term *t)
{
	const struct bound *b = &g->places[w->place];
	const struct pl_place *p = &g->s->places[w->place];
	/* an expert's few rows leave a GPU's tiles half empty; to a CPU they are rows like others */
	bool experts = w->kind == PL_TERM_EXPERTS && p->first != PL_SPEED_HOST;
	double read = b->v[PL_F_READ_EFF] * typed(g, w, PL_F_READ_EFF) * (experts ? b->v[PL_F_EXPERT_READ] : 1);
	double typed_eff = typed(g, w, PL_F_GEMM_EFF) * (experts ? b->v[PL_F_EXPERT_GEMM] : 1), gemm = b->v[PL_F_GEMM_EFF] * typed_eff;
	t->weights_s = w->cause == PL_CAUSE_DISK ? w->weight_bytes / w->link_bytes_per_s
	               : w->streamed             ? w->weight_bytes / (w->link_bytes_per_s * b->v[PL_F_PCIE_EFF])
	                                         : w->weight_bytes / (p->bytes_per_s * read);
	t->row_memory_s = w->row_bytes / (p->bytes_per_s * b->v[PL_F_ELEM_EFF]);
	if (p->first == PL_SPEED_HOST && w->row_flops > 0) {
		bind_host_matrix(b, w, typed_eff, t);
		return;
	}
	t->row_compute_s = w->row_flops > 0 ? w->row_flops / (w->peak_flops_per_s * gemm) : 0;
	/* the faster the arithmetic against memory, the more rows it takes */
	t->half_rows = b->v[PL_F_GEMM_HALF] * sqrt(w->peak_flops_per_s / p->bytes_per_s / usual_balance);
	t->few_rows = PL_FEW_ROWS;
	t->few_units = w->few_flops_per_s > 0 ? w->peak_flops_per_s / w->few_flops_per_s : 1 + t->half_rows / PL_FEW_ROWS;
	if (w->one_by_one) {
		t->expert_s = b->v[PL_F_EXPERT_LOOP_S];
		t->pair_s = sort_pair_s;
	}
}

static void bind_message(const struct bound *b, const struct pl_work *w, struct pl_term *t)
{
	if (w->network) {
		t->fixed_s = b->v[PL_F_HOP_S] + w->message_s;
		t->row_memory_s = w->row_bytes / w->link_bytes_per_s;
	} else if (w->ranks >= 2) {
		t->fixed_s = b->v[PL_F_REDUCE_S] * (1 + log2(w->ranks)) / 2;
		t->row_memory_s = w->row_bytes / (w->link_bytes_per_s * b->v[PL_F_REDUCE_EFF]);
	} else {
		t->fixed_s = b->v[PL_F_HOP_S];
		t->row_memory_s = w->row_bytes / (w->link_bytes_per_s * b->v[w->to_host ? PL_F_PCIE_EFF : PL_F_REDUCE_EFF]);
	}
}

/* The disk fills RAM ahead of the rest; slot, link and copy follow each other on one stream. Nothing hides the first layer. */
static void bind_gather(const struct bound *b, const struct pl_place *p, const struct pl_work *w, struct pl_term *t)
{
	double slot_s = w->slot_bytes / (w->slot_bytes_per_s * b->v[PL_F_PCIE_EFF]);
	double link_s = w->gather_bytes / (w->link_bytes_per_s * (w->reached ? 1 : b->v[PL_F_REDUCE_EFF]));
	double copy_s = w->copy_bytes / (p->bytes_per_s * b->v[PL_F_ELEM_EFF]);
	t->weights_s = fmax(w->disk_bytes / w->disk_bytes_per_s, slot_s + link_s + copy_s);
	t->fixed_s = t->weights_s / w->launches;
}

static void bind_measured(const struct binding *g, const struct pl_work *w, struct pl_term *t)
{
	const struct bound *b = &g->places[w->place];
	*t = w->as;
	t->n = w->n;
	double kin = !g->s->kernels_kin || g->s->kernels_foreign ? 1 : b->v[w->kind == PL_TERM_MESSAGE ? PL_F_KIN_REDUCE : PL_F_KIN_KERNEL];
	t->curve_scale = kin * b->v[w->scale] * typed(g, w, w->scale);
	t->prefill_scale = kin * b->v[w->prefill_scale];
	t->slow_memory = 1 / g->s->places[w->place].cap_memory;
	t->slow_compute = 1 / g->s->places[w->place].cap_compute;
}

static void bind_one(const struct binding *g, const struct pl_work *w, struct pl_term *t)
{
	const struct pl_place *p = &g->s->places[w->place];
	const struct bound *b = &g->places[w->place];
	double attn_peak = w->peak_flops_per_s > 0 ? w->peak_flops_per_s : p->peak16_flops_per_s; /* a CPU's own */
	if (w->measured) {
		bind_measured(g, w, t);
		return;
	}
	*t = (struct pl_term){.kind = w->kind, .cause = w->cause, .rows = w->rows, .place = w->place, .n = w->n,
	                      .rows_scale = w->rows_scale, .n_expert = w->n_expert, .n_expert_used = w->n_expert_used, .window_tokens = w->window_tokens,
	                      .rows_min = w->rows_min, .rows_max = w->rows_max, .fixed_s = w->launches * b->v[PL_F_OP_S]};
	if (p->first == PL_SPEED_HOST) /* all threads meet after each operation (ggml-cpu.c: ggml_barrier) */
		t->fixed_s += w->launches * b->v[PL_F_BARRIER_S] * (p->cores - 1);
	switch (w->kind) {
	case PL_TERM_GEMM:
	case PL_TERM_EXPERTS:
		bind_matrix(g, w, t);
		break;
	case PL_TERM_ATTENTION:
		t->cached_s = w->cached_bytes / (p->bytes_per_s * b->v[PL_F_KV_READ_EFF] * typed(g, w, PL_F_KV_READ_EFF));
		t->tile_tokens = b->v[PL_F_ATTN_TILE];
		t->pair_decode_s = w->pair_decode_flops / (attn_peak * b->v[PL_F_ATTN_EFF]);
		t->pair_prefill_s = w->pair_prefill_flops / (attn_peak * b->v[PL_F_ATTN_EFF]);
		break;
	case PL_TERM_SCAN:
		t->sequence_s = w->sequence_bytes / (p->bytes_per_s * b->v[PL_F_ELEM_EFF]);
		t->row_compute_s = w->row_flops / (p->peak16_flops_per_s * b->v[PL_F_SCAN_EFF]);
		break;
	case PL_TERM_ROWS:
		t->row_memory_s = w->row_bytes / (p->bytes_per_s * b->v[PL_F_ELEM_EFF]);
		break;
	case PL_TERM_FIXED:
		t->fixed_s = w->launches * b->v[PL_F_LAYER_S] + b->v[PL_F_STEP_S];
		t->sequence_s = b->v[PL_F_SEQ_S];
		break;
	case PL_TERM_PROMPT:
		t->fixed_s = w->launches * b->v[PL_F_PROMPT_OP_S];
		break;
	case PL_TERM_MESSAGE:
		bind_message(&g->places[w->gpu], w, t);
		break;
	case PL_TERM_GATHER:
		bind_gather(b, p, w, t);
		break;
	}
}

static bool same_context(const struct pl_context *x, const struct pl_context *y)
{
	return x->stack == y->stack && x->arch == y->arch && x->device == y->device;
}

/* Engines get faster on GPUs: an old build reaches less. */
static void older(struct bound *b, double years, bool host)
{
	if (!(years > 0) || host)
		return;
	b->v[PL_F_GEMM_EFF] *= pow(b->v[PL_F_GEMM_YEAR], -years);
	b->v[PL_F_ATTN_EFF] *= pow(b->v[PL_F_ATTN_YEAR], -years);
	b->v[PL_F_READ_EFF] *= pow(b->v[PL_F_READ_YEAR], -years);
}

/* Scores go through memory when flash kernels are off. */
static void plain_attention(struct bound *b)
{
	b->v[PL_F_ATTN_EFF] *= b->v[PL_F_ATTN_PLAIN];
	b->v[PL_F_KV_READ_EFF] *= b->v[PL_F_KV_PLAIN];
}

/* Serving engines on measured cards run CUDA graphs of their own kernels: constants of their own, which served runs fit and
 * local ones do not touch. What is left of passes over values and scans there has no measured rows to move it. */
static void measured_kernels(struct bound *b)
{
	b->v[PL_F_OP_S] = b->v[PL_F_GRAPH_OP_S];
	b->v[PL_F_STEP_S] = b->v[PL_F_SERVED_STEP_S];
	b->v[PL_F_SEQ_S] = b->v[PL_F_SERVED_SEQ_S];
	b->v[PL_F_REQUEST_S] = b->v[PL_F_SERVED_REQUEST_S];
	b->v[PL_F_LAYER_S] = 0;
	b->v[PL_F_ELEM_EFF] = pl_family_start(PL_F_ELEM_EFF);
	b->v[PL_F_SCAN_EFF] = pl_family_start(PL_F_SCAN_EFF);
}

/* Constants of all places before any bump: a fit bumps them one by one. */
static void look_up(const struct pl_speed *s, const struct pl_constants *c, struct pl_bound_cache *ret)
{
	for (uint32_t i = 0; i < s->n_places; i++)
		for (unsigned f = 0; f < PL_FAMILY_COUNT; f++)
			ret->v[i][f] = pl_constant(c, (enum pl_family)f, &s->places[i].context, PL_DTYPE_UNKNOWN);
}

/* A CPU has its own kernels of attention, and few cores do not use up the memory's bandwidth. */
static void on_cores(const struct pl_place *p, struct bound *b)
{
	double ask = p->cores * b->v[PL_F_CORE_READ] / p->bytes_per_s;
	b->v[PL_F_READ_EFF] = fmin(b->v[PL_F_READ_EFF], ask);
	b->v[PL_F_KV_READ_EFF] = fmin(b->v[PL_F_KV_READ_EFF], ask);
	b->v[PL_F_ATTN_EFF] = b->v[PL_F_CORE_EFF] * b->v[PL_F_CORE_ATTN];
}

static void bind_places(struct pl_speed *s, struct binding *g, const struct pl_bound_cache *cache)
{
	const struct pl_bump *b = g->bump;
	for (uint32_t i = 0; i < s->n_places; i++) {
		struct pl_place *p = &s->places[i];
		memcpy(g->places[i].v, cache->v[i], sizeof g->places[i].v);
		if (b && !b->type && same_context(&b->context, &p->context))
			g->places[i].v[b->family] *= b->factor;
		pl_power_cap(p, pl_power_cap_w(s, p));
		g->places[i].v[PL_F_READ_EFF] *= p->cap_memory;
		g->places[i].v[PL_F_KV_READ_EFF] *= p->cap_memory;
		g->places[i].v[PL_F_GEMM_EFF] *= p->cap_compute;
		g->places[i].v[PL_F_ATTN_EFF] *= p->cap_compute;
		older(&g->places[i], s->age_years, p->first == PL_SPEED_HOST);
		if (s->kernels_system)
			measured_kernels(&g->places[i]);
		if (p->first == PL_SPEED_HOST)
			on_cores(p, &g->places[i]);
		if (s->plain_attention)
			plain_attention(&g->places[i]);
	}
}

void pl_speed_bind_bumped(struct pl_speed *s, const struct pl_constants *constants, const struct pl_bump *bump, struct pl_bound_cache *cache)
{
	struct pl_bound_cache own;
	struct binding g;
	if (!cache || !bump)
		look_up(s, constants, cache ? cache : &own);
	g.s = s;
	g.c = s->constants = constants;
	g.bump = bump;
	bind_places(s, &g, cache ? cache : &own);
	for (uint32_t i = 0; i < s->n_terms; i++) {
		bind_one(&g, &s->work[i], &s->terms[i]);
	}
	s->ingest_s = s->kernels_system ? g.places[0].v[PL_F_SERVED_INGEST_S] : 0;
	s->handover_s = s->n_places ? g.places[0].v[PL_F_HANDOVER_S] : 0;
	s->request_s = s->n_places ? g.places[0].v[PL_F_REQUEST_S] : 0;
}

void pl_speed_bind(struct pl_speed *s, const struct pl_constants *constants)
{
	pl_speed_bind_bumped(s, constants, NULL, NULL);
	s->kinship = pl_speed_kinship(s, constants);
}
