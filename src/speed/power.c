/* Watts: what the devices draw while they wait, decode and compute prompts; what a cap does to speed. */
#include <math.h>

#include "speed/speed.h"

/* Idle draw where nobody measured it: the median of the catalogue's rows that have one is 6 % of the board power. */
static const double idle_frac = 0.06;

/* Power caps, found on 10 W sweeps of RTX 3090, 4090 and 5090 (llama.cpp and vLLM, decode and prompts; noonghunna/club-3090
 * docs/img at 4a29ab5 of 2026-08, LottoLottoLotto/4x3090-llm-benchmarks at bd22281; data/measurements/power_perf.csv): the
 * memory keeps its clock; above half of the dynamic power voltage follows the clock, so that clock ∝ power^(1/3); below, the
 * voltage is at its least and clock ∝ power. Speed follows the clock less than in proportion. */
static const double static_frac = 0.45, knee_frac = 0.5;
static const double compute_exponent = 0.5, memory_exponent = 0.2;

static double clock_left(double cap_w, double needs_w, double tdp_w)
{
	double fixed = static_frac * tdp_w;
	if (!(cap_w > 0) || cap_w >= needs_w || !(needs_w > fixed))
		return 1;
	double dynamic = fmax(cap_w - fixed, 0.05 * tdp_w) / (needs_w - fixed);
	return dynamic >= knee_frac ? cbrt(fmin(dynamic, 1)) : cbrt(knee_frac) * dynamic / knee_frac;
}

void pl_power_cap(struct pl_place *p, double cap_w)
{
	double tdp = p->power_w;
	p->cap_compute = p->cap_memory = 1;
	if (!(tdp > 0) || !(cap_w > 0) || !p->shares[PL_POWER_MEMORY])
		return;
	p->cap_compute = pow(clock_left(cap_w, pl_power_share(p->shares[PL_POWER_MATRIX_16], 1) * tdp, tdp), compute_exponent);
	p->cap_memory = pow(clock_left(cap_w, pl_power_share(p->shares[PL_POWER_MEMORY], 1) * tdp, tdp), memory_exponent);
}

double pl_power_cap_w(const struct pl_speed *s, const struct pl_place *p)
{
	return s->power_limit_w > 0 ? s->power_limit_w : p->limit_w;
}

/* The width of the units a product runs in. Terms of the forms know their peak, measured ones their element type. */
static enum pl_power_cause matrix_cause(const struct pl_place *p, const struct pl_work *w)
{
	bool four = w->type == PL_DTYPE_NVFP4 || w->type == PL_DTYPE_F4;
	bool eight = w->type == PL_DTYPE_F8_E4M3 || w->type == PL_DTYPE_F8_E5M2 || w->type == PL_DTYPE_I8;
	if (!w->measured) {
		eight = w->peak_flops_per_s > 1.01 * p->peak16_flops_per_s;
		four = four && eight;
	}
	return four ? PL_POWER_MATRIX_4 : eight ? PL_POWER_MATRIX_8 : PL_POWER_MATRIX_16;
}

static enum pl_power_cause power_cause(const struct pl_place *p, const struct pl_work *w, const struct pl_term_time *t)
{
	switch (w->kind) {
	case PL_TERM_ATTENTION:
		return t->reads ? PL_POWER_MEMORY : PL_POWER_PREFILL_ATTENTION;
	case PL_TERM_EXPERTS:
		if (w->measured)
			return PL_POWER_EXPERTS;
		return t->reads ? PL_POWER_MEMORY : matrix_cause(p, w);
	case PL_TERM_GEMM:
		return t->reads ? PL_POWER_MEMORY : matrix_cause(p, w);
	default:
		return PL_POWER_MEMORY;
	}
}

/* A card whose clocks are up but that has nothing to do: between launches, in messages, while another computes. */
static double waiting_frac(const struct pl_place *p)
{
	return pl_power_share(p->shares[PL_POWER_MEMORY], 0);
}

/* Joule of one device of a place in a step, by what it does. */
static void place_energy(const struct pl_speed *s, uint32_t place, const struct pl_batch *b, double total_s, struct pl_power_parts *ret)
{
	const struct pl_place *p = &s->places[place];
	double waits = waiting_frac(p), busy = 0;
	*ret = (struct pl_power_parts){0};
	for (uint32_t i = 0; i < s->n_terms; i++) {
		const struct pl_work *w = &s->work[i];
		struct pl_term_time t;
		if (s->terms[i].place != place || w->cause == PL_CAUSE_DISK || w->cause == PL_CAUSE_HOST_LINK)
			continue;
		pl_term_time(s, i, b, &t);
		double share = t.work_s > 0 ? pl_power_share(p->shares[power_cause(p, w, &t)], t.peak_s / t.work_s) : 0;
		double s_busy = t.work_s + (w->kind < PL_TERM_FIXED ? t.fixed_s : 0); /* a kernel fills and drains in its own time */
		*(t.reads ? &ret->memory_w : &ret->arithmetic_w) += s_busy * share * p->power_w;
		busy += s_busy;
	}
	ret->waiting_w = fmax(total_s - busy, 0) * waits * p->power_w;
}

static double idle_w(const struct pl_place *p)
{
	return p->idle_w > 0 ? p->idle_w : idle_frac * p->power_w;
}

double pl_speed_watts(const struct pl_speed *s, const struct pl_batch *b, struct pl_power_parts *ret)
{
	double sum = 0, total_s = b ? pl_step_s(s, b) : 0;
	*ret = (struct pl_power_parts){0};
	for (uint32_t i = 0; i < s->n_places; i++) {
		const struct pl_place *p = &s->places[i];
		struct pl_power_parts e;
		if (p->first == PL_SPEED_HOST)
			continue;
		if (!(p->power_w > 0))
			return NAN;
		if (!b) {
			sum += p->n * idle_w(p) * s->n_replicas;
			continue;
		}
		place_energy(s, i, b, total_s, &e);
		double w = (e.waiting_w + e.memory_w + e.arithmetic_w) / total_s;
		double cap_w = pl_power_cap_w(s, p), keep = cap_w > 0 && w > cap_w ? cap_w / w : 1;
		double times = keep * p->n * s->n_replicas / total_s;
		ret->waiting_w += e.waiting_w * times;
		ret->memory_w += e.memory_w * times;
		ret->arithmetic_w += e.arithmetic_w * times;
		sum += w * keep * p->n * s->n_replicas;
	}
	return sum > 0 ? sum : NAN;
}

const char *pl_power_text(struct pl_arena *a, const struct pl_speed *s)
{
	for (uint32_t i = 0; i < s->n_places; i++) {
		const struct pl_place *p = &s->places[i];
		if (p->first == PL_SPEED_HOST)
			continue;
		const char *whose = pl_arena_printf(a, pl_tr("shares of the board power as measured on %s"), p->shares_of);
		double cap_w = pl_power_cap_w(s, p);
		if (!(cap_w > 0) || !(p->power_w > 0))
			return whose;
		return pl_arena_printf(a, pl_tr("%s; a cap of %.0f W leaves %.0f %% of the speed of reading and %.0f %% of that of arithmetic"), whose,
		                       cap_w, 100 * p->cap_memory, 100 * p->cap_compute);
	}
	return NULL;
}
