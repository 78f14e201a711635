/* Seconds of one step: a walk over the terms. No allocation; about a microsecond. */
#include <math.h>
#include <string.h>

#include "speed/kernels.h"
#include "speed/speed.h"

/* Rows of a batch, once a step. */
struct rows {
	double all, output, prefill_per_seq, prefill_seqs, decode_queries, past, depth, seqs, queries_per_seq;
};

static struct rows rows_of(const struct pl_batch *b)
{
	struct rows r = {0};
	r.queries_per_seq = b->tokens_per_seq > 1 ? b->tokens_per_seq : 1;
	r.decode_queries = b->decode_seqs * r.queries_per_seq;
	r.prefill_seqs = b->prefill_tokens > 0 ? (b->prefill_seqs > 0 ? b->prefill_seqs : 1) : 0;
	r.prefill_per_seq = r.prefill_seqs > 0 ? b->prefill_tokens / r.prefill_seqs : 0;
	r.all = b->prefill_tokens + r.decode_queries;
	r.output = r.prefill_seqs + r.decode_queries;
	r.past = b->prefill_past_tokens;
	r.depth = b->decode_depth_tokens;
	r.seqs = r.prefill_seqs + b->decode_seqs;
	return r;
}

/* Memory and arithmetic overlap, but not wholly near the ridge: the 4-norm is 19 % above the larger where both are equal. */
static double both(double memory_s, double compute_s)
{
	double m2 = memory_s * memory_s, c2 = compute_s * compute_s;
	return sqrt(sqrt(m2 * m2 + c2 * c2));
}

/* Arithmetic in units of one row: tiles are filled by and by, and a few rows run through vector kernels. */
static double row_units(const struct pl_term *t, double rows)
{
	return rows < t->few_rows ? rows * t->few_units : rows + t->half_rows;
}

struct part {
	double memory_s, compute_s, fixed_s;
};

static struct part gemm(const struct pl_term *t, double rows)
{
	struct part p = {t->weights_s + rows * t->row_memory_s, t->row_compute_s * row_units(t, rows), t->fixed_s};
	return p;
}

/* llama.cpp has a kernel for all experts at once up to so many tokens, whatever the type (mmf.cu). */
enum { FEW_TOKENS = 16 };

/* Distinct experts that `tokens` rows reach when each picks k of E: E (1 − (1 − k/E)^tokens). */
static struct part experts(const struct pl_term *t, double tokens)
{
	double share = t->n_expert_used / t->n_expert;
	double touched = t->n_expert * -expm1(tokens * log1p(-(share < 1 ? share : 1 - 1e-12)));
	double routed = tokens * t->n_expert_used, each = touched > 0 ? routed / touched : 0;
	struct part p = {t->weights_s * touched / t->n_expert + routed * t->row_memory_s,
	                 t->row_compute_s * touched * row_units(t, each), t->fixed_s};
	if (t->expert_s > 0 && tokens > FEW_TOKENS)
		p.fixed_s += touched * t->expert_s + t->n_expert * routed * t->pair_s;
	return p;
}

static double seen(const struct pl_term *t, double tokens)
{
	return t->window_tokens > 0 && tokens > t->window_tokens ? t->window_tokens : tokens;
}

/* Query-key pairs of a chunk of n tokens after `past`, each token seeing at most the window. */
static double pairs(const struct pl_term *t, double n, double past)
{
	double w = t->window_tokens;
	if (!(w > 0) || past + n <= w)
		return n * past + n * (n + 1) / 2;
	if (past >= w)
		return n * w;
	double grow = w - past; /* tokens until the window is full */
	return grow * past + grow * (grow + 1) / 2 + (n - grow) * w;
}

/* Seconds as measured, on the side that rules: memory where reading weights or cache takes longer, else arithmetic. */
static struct part measured(const struct pl_term *t, double s, double memory_s, double compute_s)
{
	return memory_s >= compute_s ? (struct part){s * t->slow_memory, 0, 0} : (struct part){0, s * t->slow_compute, 0};
}

static struct part by_curve(const struct pl_term *t, double rows)
{
	rows *= t->rows_scale > 0 ? t->rows_scale : 1;
	double s = pl_curve_s(t->curve, rows) * t->curve_scale;
	return t->kind == PL_TERM_MESSAGE ? (struct part){0, 0, s} : measured(t, s, t->weights_s, rows * t->row_compute_s);
}

static struct part attention_by_grid(const struct pl_term *t, const struct rows *r, double decode_seqs)
{
	struct part p = {0, 0, 0};
	if (decode_seqs > 0) {
		double keys = seen(t, r->depth + 1), memory_s = decode_seqs * keys * t->cached_s;
		double compute_s = r->decode_queries * keys * t->pair_decode_s;
		double s = pl_grid_s(t->decode_grid, log2(decode_seqs * keys * t->cached_bytes), log2(t->latent ? t->heads : keys),
		                     fmax(memory_s, compute_s));
		p = measured(t, s * t->curve_scale, memory_s, compute_s);
	}
	if (r->prefill_seqs > 0) {
		double n = r->prefill_per_seq, compute_s = r->prefill_seqs * pairs(t, n, r->past) * t->pair_prefill_s;
		double memory_s = r->prefill_seqs * seen(t, r->past + n) * t->cached_s;
		double s = pl_grid_s(t->prefill_grid, log2(r->prefill_seqs * t->heads), log2(r->past + n), fmax(memory_s, compute_s));
		p.compute_s += s * t->prefill_scale * t->slow_compute;
	}
	return p;
}

static struct part attention(const struct pl_term *t, const struct rows *r, double decode_seqs)
{
	struct part p = {0, 0, t->fixed_s};
	if (decode_seqs > 0) {
		double keys = seen(t, r->depth + 1);
		p.memory_s += decode_seqs * keys * t->cached_s;
		p.compute_s += r->decode_queries * keys * t->pair_decode_s;
	}
	if (r->prefill_seqs > 0) {
		double n = pairs(t, r->prefill_per_seq, r->past), once = seen(t, r->past + r->prefill_per_seq);
		p.memory_s += r->prefill_seqs * fmax(once, t->tile_tokens > 0 ? n / t->tile_tokens : 0) * t->cached_s;
		p.compute_s += r->prefill_seqs * n * t->pair_prefill_s;
	}
	return p;
}

static struct part evaluate(const struct pl_term *t, const struct rows *r, double decode_seqs)
{
	struct part p = {0, 0, 0};
	double rows = t->rows == PL_TERM_OUTPUT ? r->output : r->all;
	if (t->curve)
		return by_curve(t, rows);
	switch (t->kind) {
	case PL_TERM_GEMM:
		return gemm(t, rows);
	case PL_TERM_EXPERTS:
		return experts(t, rows * (t->rows_scale > 0 ? t->rows_scale : 1));
	case PL_TERM_ATTENTION:
		return t->decode_grid && t->prefill_grid ? attention_by_grid(t, r, decode_seqs) : attention(t, r, decode_seqs);
	case PL_TERM_SCAN:
		p.memory_s = r->seqs * t->sequence_s;
		p.compute_s = rows * t->row_compute_s;
		p.fixed_s = t->fixed_s;
		return p;
	case PL_TERM_ROWS:
		p.memory_s = rows * t->row_memory_s;
		p.fixed_s = t->fixed_s;
		return p;
	case PL_TERM_FIXED:
		p.fixed_s = t->fixed_s + r->seqs * t->sequence_s;
		return p;
	case PL_TERM_PROMPT: /* not here: beside_host() */
		return p;
	case PL_TERM_MESSAGE:
		p.fixed_s = t->fixed_s + rows * t->row_memory_s;
		return p;
	case PL_TERM_GATHER: /* beside the others: what they do not hide is added at the end */
		return p;
	}
	return p;
}

/* What the spec peaks would take for what a measured curve costs; experts by the rows each of them gets (data/kernels). */
static double roofline_s(const struct pl_term *t, const struct rows *r, double decode_seqs, double work_s)
{
	double rows = (t->rows == PL_TERM_OUTPUT ? r->output : r->all) * (t->rows_scale > 0 ? t->rows_scale : 1);
	if (t->curve && t->kind == PL_TERM_EXPERTS)
		return work_s * fmin(rows * t->row_compute_s / t->weights_s, 1);
	if (t->curve)
		return fmax(t->weights_s, rows * t->row_compute_s) * t->n;
	if (!t->decode_grid || !t->prefill_grid)
		return work_s;
	double keys = seen(t, r->depth + 1), decode = fmax(decode_seqs * keys * t->cached_s, r->decode_queries * keys * t->pair_decode_s);
	return (decode + r->prefill_seqs * pairs(t, r->prefill_per_seq, r->past) * t->pair_prefill_s) * t->n;
}

void pl_term_time(const struct pl_speed *s, uint32_t term, const struct pl_batch *b, struct pl_term_time *ret)
{
	const struct pl_term *t = &s->terms[term];
	struct rows r = rows_of(b);
	*ret = (struct pl_term_time){0};
	if (t->rows_max > 0 && (r.all < t->rows_min || r.all >= t->rows_max))
		return;
	struct part p = evaluate(t, &r, b->decode_seqs);
	ret->work_s = both(p.memory_s, p.compute_s) * t->n;
	ret->fixed_s = p.fixed_s * t->n;
	ret->reads = p.memory_s >= p.compute_s;
	ret->peak_s = roofline_s(t, &r, b->decode_seqs, ret->work_s);
}

/* Steps with prompts run without a CUDA graph: the host launches kernel after kernel while the GPU works, and the later of the two
 * ends the step. Returns what the host adds. */
static double beside_host(const struct pl_term *t, const struct rows *r, double gpu_s)
{
	return r->prefill_seqs > 0 ? both(gpu_s, t->fixed_s * t->n) - gpu_s : 0;
}

static void all_nan(struct pl_step_cost *ret)
{
	double *first = &ret->total_s;
	for (size_t i = 0; i < sizeof *ret / sizeof *first; i++)
		first[i] = NAN;
}

/* Weights of the next layers come while this one computes: the longer of both, and the first layer's before all. */
static void add_gather(const struct pl_term *t, double *place_s, struct pl_step_cost *ret)
{
	double extra = fmax(t->weights_s - *place_s, 0) + t->fixed_s;
	ret->cause_s[t->cause] += extra;
	*place_s += extra;
}

void pl_step(const struct pl_speed *s, const struct pl_batch *b, struct pl_step_cost *ret)
{
	struct rows r = rows_of(b);
	const struct pl_term *gather = NULL;
	double place_s[PL_MAX_PLACES];
	if (s->unknown) {
		all_nan(ret);
		return;
	}
	memset(ret, 0, sizeof *ret);
	memset(place_s, 0, s->n_places * sizeof *place_s);
	for (uint32_t i = 0; i < s->n_terms; i++) {
		const struct pl_term *t = &s->terms[i];
		if (t->rows_max > 0 && (r.all < t->rows_min || r.all >= t->rows_max))
			continue;
		if (t->kind == PL_TERM_GATHER)
			gather = t;
		struct part p = evaluate(t, &r, b->decode_seqs);
		double work = both(p.memory_s, p.compute_s) * t->n, fixed = p.fixed_s * t->n;
		enum pl_cause extra = t->kind >= PL_TERM_FIXED ? t->cause : PL_CAUSE_LAUNCH;
		ret->cause_s[t->cause] += work;
		ret->cause_s[extra] += fixed;
		*(p.memory_s >= p.compute_s ? &ret->memory_s : &ret->compute_s) += work;
		place_s[t->place] += work + fixed;
	}
	if (gather)
		add_gather(gather, &place_s[gather->place], ret);
	for (uint32_t i = 0; i < s->n_terms; i++)
		if (s->terms[i].kind == PL_TERM_PROMPT) {
			double extra = beside_host(&s->terms[i], &r, place_s[s->terms[i].place]);
			ret->cause_s[PL_CAUSE_LAUNCH] += extra;
			place_s[s->terms[i].place] += extra;
		}
	for (uint32_t i = 0; i < s->n_places; i++) {
		const struct pl_place *p = &s->places[i];
		ret->total_s += place_s[i];
		ret->stage_s = place_s[i] > ret->stage_s ? place_s[i] : ret->stage_s;
		for (uint32_t d = 0; d < p->n; d++)
			ret->device_s[p->first + d] += place_s[i];
	}
}

double pl_step_s(const struct pl_speed *s, const struct pl_batch *b)
{
	struct pl_step_cost cost;
	pl_step(s, b, &cost);
	return cost.total_s;
}
