/* A small dense fit over played loops. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/nameset.h"
#include "measure/fit_served.h"
#include "measure/stats.h"
#include "measure/validator.h"

/* Scatter that no constant explains: releases, flags that no column tells; first tokens also see the clients' own timing. */
static const double noise_ln[PL_SERVED_METRICS] = {0.12, 0.25, 0.2, 0.5, 0.2};
static const double weight_of[PL_SERVED_METRICS] = {1, 0.35, 0.5, 0.35, 1};
static const double bump_ln = 0.08;
enum { STEPS = 6, SOLVES = 8, FIT_ROUNDS = 4 };

/* Tables of rates come from many hands: they do not move what times have told. Stacks of which rates alone are known (other
 * makers' cards) get constants of their own against the measured kernels they borrow. */
static const struct {
	enum pl_family family;
	bool by_stack, rates_alone;
	double sd;
} wanted[] = {
    {PL_F_KERNEL, false, false, 0.15},           {PL_F_EXPERT_KERNEL, false, false, 0.2},    {PL_F_ATTN_KERNEL, false, false, 0.2},
    {PL_F_PROMPT_ATTN_KERNEL, false, false, 0.3}, {PL_F_REDUCE_KERNEL, false, false, 0.3},   {PL_F_GRAPH_OP_S, false, false, 0.4},
    {PL_F_SERVED_SEQ_S, true, false, 0.7},       {PL_F_SERVED_REQUEST_S, true, false, 0.7},  {PL_F_PROMPT_OP_S, true, false, 0.7},
    {PL_F_SERVED_INGEST_S, true, false, 0.7},
    {PL_F_KERNEL, true, true, 0.3},          {PL_F_EXPERT_KERNEL, true, true, 0.3},  {PL_F_ATTN_KERNEL, true, true, 0.3},
    {PL_F_REDUCE_KERNEL, true, true, 0.3},       {PL_F_HANDOVER_S, true, false, 0.7},
};

struct row {
	struct pl_served_case *c;
	double y[PL_SERVED_METRICS];   /* ln measured, NAN none */
	double at[PL_SERVED_METRICS];  /* ln predicted by the constants `base` */
	double slope[PL_SERVED_METRICS][PL_SERVED_MAX];
	double w;
	uint32_t device, model, pair;  /* groups */
};

struct job {
	struct pl_arena *a;
	struct row *rows;
	uint32_t n, n_p;
	uint32_t keys[PL_SERVED_MAX];
	double sd[PL_SERVED_MAX], base[PL_SERVED_MAX];
	double *ln[PL_SERVED_METRICS]; /* measured over predicted of the group left out, by row */
	double *scratch;
	struct {
		uint32_t times, rates; /* rows that have them */
	} stacks[PL_STACK_COUNT];
};

/* ---- constants ------------------------------------------------------------------------------------------------------ */

static void want(struct job *j, uint32_t key, double sd)
{
	uint32_t at = j->n_p++;
	for (; at && j->keys[at - 1] > key; at--) {
		j->keys[at] = j->keys[at - 1];
		j->sd[at] = j->sd[at - 1];
	}
	j->keys[at] = key;
	j->sd[at] = sd;
}

static void choose_constants(struct job *j)
{
	for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
		if (!wanted[i].by_stack)
			want(j, pl_effect_key(wanted[i].family, PL_SCOPE_BASE, 0, 0), wanted[i].sd);
		for (uint32_t s = 1; s < PL_STACK_COUNT && wanted[i].by_stack && j->n_p < PL_SERVED_MAX; s++)
			if (j->stacks[s].rates + j->stacks[s].times && (!wanted[i].rates_alone || !j->stacks[s].times))
				want(j, pl_effect_key(wanted[i].family, PL_SCOPE_STACK, s, 0), wanted[i].sd);
	}
}

static void make_constants(const struct job *j, const double *p, struct pl_effect *effects, struct pl_constants *ret)
{
	for (uint32_t i = 0; i < j->n_p; i++)
		effects[i] = (struct pl_effect){j->keys[i], (float)p[i], (float)j->sd[i], 0};
	*ret = (struct pl_constants){.effects = effects, .n_effects = j->n_p};
}

static enum pl_stack stack_of(const struct row *r)
{
	return r->c->speed->places[0].context.stack;
}

static bool only_rate(const struct row *r)
{
	return isnan(r->y[0]) && isnan(r->y[1]) && !r->c->split;
}

/* ---- playing ---------------------------------------------------------------------------------------------------------- */

static void play(const struct row *r, const struct pl_constants *c, double rounds, double ret[PL_SERVED_METRICS])
{
	struct pl_arena *a = pl_arena_new(0);
	struct pl_serve_load load = r->c->load;
	struct pl_served out;
	struct pl_err err = {0};
	for (int t = 0; t < PL_SERVED_METRICS; t++)
		ret[t] = NAN;
	pl_speed_bind(r->c->speed, c);
	if (r->c->split) {
		pl_speed_bind((struct pl_speed *)(uintptr_t)r->c->split->prompts, c);
		pl_serve_disaggregated(r->c->split, &load, &out);
		ret[3] = log(out.ttft_s.median);
		ret[4] = log(out.tpot_s.median);
	}
	if (rounds > 0 && rounds < load.rounds)
		load.rounds = rounds;
	if (a && !r->c->split && !pl_serve_closed_loop(a, r->c->speed, &r->c->policy, &load, &out, &err)) {
		ret[0] = log(out.tpot_s.median);
		ret[1] = log(out.ttft_s.median);
		ret[2] = log(out.output_tok_s.median);
	}
	pl_arena_free(a);
}

/* Of a rate by its closed form: what is wanted is a slope, and thousands of requests take long to play. */
static void slope_form(const struct row *r, const struct pl_constants *c, double ret[PL_SERVED_METRICS])
{
	struct pl_served out;
	pl_speed_bind(r->c->speed, c);
	pl_serve_steady(r->c->speed, &r->c->policy, &r->c->load, &out);
	for (int t = 0; t < PL_SERVED_METRICS; t++)
		ret[t] = NAN;
	ret[2] = log(out.output_tok_s.median);
}

static void at_bump(const struct row *r, const struct pl_constants *c, double ret[PL_SERVED_METRICS])
{
	if (only_rate(r))
		slope_form(r, c, ret);
	else
		play(r, c, FIT_ROUNDS, ret);
}

static void derive(struct job *j)
{
	struct pl_effect effects[PL_SERVED_MAX];
	struct pl_constants c;
	double p[PL_SERVED_MAX], low[PL_SERVED_METRICS], high[PL_SERVED_METRICS];
	memcpy(p, j->base, sizeof p);
	for (uint32_t i = 0; i < j->n; i++) {
		struct row *r = &j->rows[i];
		enum pl_stack stack = stack_of(r);
		make_constants(j, p, effects, &c);
		play(r, &c, 0, r->at);
		at_bump(r, &c, low);
		for (uint32_t k = 0; k < j->n_p; k++) {
			uint32_t scope = j->keys[k] >> 22 & 15, of = j->keys[k] >> 14 & 255;
			for (int m = 0; m < PL_SERVED_METRICS; m++)
				r->slope[m][k] = 0;
			/* split servers tell what the hand-over takes, and nothing of the rest */
			bool handover = j->keys[k] >> 26 == PL_F_HANDOVER_S, split = r->c->split != NULL;
			if (handover != split || (scope == PL_SCOPE_STACK ? of != stack : only_rate(r)))
				continue;
			p[k] += bump_ln;
			make_constants(j, p, effects, &c);
			at_bump(r, &c, high);
			p[k] -= bump_ln;
			for (int m = 0; m < PL_SERVED_METRICS; m++)
				r->slope[m][k] = isfinite(high[m]) && isfinite(low[m]) ? (high[m] - low[m]) / bump_ln : 0;
		}
	}
}

/* ---- solving ------------------------------------------------------------------------------------------------------------ */

/* Cholesky; m is destroyed, b becomes the answer. */
static void solve(double m[PL_SERVED_MAX][PL_SERVED_MAX], double *b, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		for (uint32_t k = 0; k <= i; k++) {
			double sum = m[i][k];
			for (uint32_t l = 0; l < k; l++)
				sum -= m[i][l] * m[k][l];
			m[i][k] = i == k ? sqrt(fmax(sum, 1e-12)) : sum / m[k][k];
		}
	for (uint32_t i = 0; i < n; i++) {
		for (uint32_t l = 0; l < i; l++)
			b[i] -= m[i][l] * b[l];
		b[i] /= m[i][i];
	}
	for (uint32_t i = n; i-- > 0;) {
		for (uint32_t l = i + 1; l < n; l++)
			b[i] -= m[l][i] * b[l];
		b[i] /= m[i][i];
	}
}

static uint32_t group_of(const struct row *r, enum pl_served_group by)
{
	return by == PL_SERVED_BY_DEVICE ? r->device : by == PL_SERVED_BY_MODEL ? r->model : r->pair;
}

/* Constants by the slopes around `base`, without one group (UINT32_MAX: with all). */
static void fit_without(const struct job *j, enum pl_served_group by, uint32_t gone, double *ret)
{
	static double m[PL_SERVED_MAX][PL_SERVED_MAX];
	double p[PL_SERVED_MAX], b[PL_SERVED_MAX];
	memcpy(p, j->base, sizeof p);
	for (int step = 0; step < SOLVES; step++) {
		memset(m, 0, sizeof m);
		for (uint32_t k = 0; k < j->n_p; k++) {
			m[k][k] = 1 / (j->sd[k] * j->sd[k]);
			b[k] = -j->base[k] * m[k][k]; /* for p − base: the prior's centre is 0 */
		}
		for (uint32_t i = 0; i < j->n; i++)
			for (int t = 0; t < PL_SERVED_METRICS; t++) {
				const struct row *r = &j->rows[i];
				if (isnan(r->y[t]) || !isfinite(r->at[t]) || (gone != UINT32_MAX && group_of(r, by) == gone))
					continue;
				double off = r->y[t] - r->at[t], res = off;
				for (uint32_t k = 0; k < j->n_p; k++)
					res -= r->slope[t][k] * (p[k] - j->base[k]);
				double z = res / (2 * noise_ln[t]), w = r->w * weight_of[t] / (noise_ln[t] * noise_ln[t]) / (1 + z * z);
				for (uint32_t k = 0; k < j->n_p; k++) {
					if (!(fabs(r->slope[t][k]) > 0))
						continue;
					b[k] += w * r->slope[t][k] * off;
					for (uint32_t l = 0; l <= k; l++)
						m[k][l] += w * r->slope[t][k] * r->slope[t][l];
				}
			}
		solve(m, b, j->n_p);
		for (uint32_t k = 0; k < j->n_p; k++)
			p[k] = j->base[k] + b[k];
	}
	memcpy(ret, p, sizeof p);
}

/* ---- groups ---------------------------------------------------------------------------------------------------------------- */

static uint32_t number_of(struct job *j, struct pl_nameset *set, const char *name)
{
	bool fresh = false;
	struct pl_named *e = pl_nameset_entry(j->a, set, name, set->n, &fresh);
	return e ? e->value : 0;
}

/* A group of a model, card and engine counts as the square root of its rows. */
static uint32_t group_rows(struct job *j)
{
	struct pl_nameset devices = {0}, models = {0}, pairs = {0}, kinds = {0};
	uint32_t *count = PL_NEW_N(j->a, uint32_t, (uint64_t)j->n + 1), *kind = PL_NEW_N(j->a, uint32_t, (uint64_t)j->n + 1);
	for (uint32_t i = 0; i < j->n && count && kind; i++) {
		struct row *r = &j->rows[i];
		r->device = number_of(j, &devices, r->c->device);
		r->model = number_of(j, &models, r->c->family);
		r->pair = number_of(j, &pairs, pl_arena_printf(j->a, "%s|%s", r->c->family, r->c->device));
		kind[i] = number_of(j, &kinds, pl_arena_printf(j->a, "%s|%s|%s|%d", r->c->model, r->c->device, r->c->engine, r->c->split != NULL));
		count[kind[i]]++;
	}
	for (uint32_t i = 0; i < j->n && count && kind; i++)
		j->rows[i].w = only_rate(&j->rows[i]) && j->stacks[stack_of(&j->rows[i])].times ? 0 : 10 / sqrt((double)count[kind[i]]);
	return devices.n;
}

static struct pl_served_errors errors_of(struct job *j, int metric)
{
	struct pl_served_errors e = {0, NAN, NAN};
	for (uint32_t i = 0; i < j->n; i++)
		if (isfinite(j->ln[metric][i]))
			j->scratch[e.n++] = fabs(expm1(-j->ln[metric][i]));
	if (e.n) {
		e.median_frac = pl_quantile(j->scratch, e.n, 0.5);
		e.p90_frac = pl_quantile(j->scratch, e.n, 0.9);
	}
	return e;
}

/* Of rates: by how near the measured kernels are, where there are rows enough. kin −1: all. */
static struct pl_spread spread_of(struct job *j, int metric, int kin)
{
	enum { ENOUGH = 30 };
	uint32_t n = 0;
	for (uint32_t i = 0; i < j->n; i++)
		if (isfinite(j->ln[metric][i]) && (kin < 0 || metric != 2 || (int)pl_speed_kernels(j->rows[i].c->speed) == kin))
			j->scratch[n++] = j->ln[metric][i];
	if (kin >= 0 && n < ENOUGH)
		return spread_of(j, metric, -1);
	return n ? (struct pl_spread){pl_quantile(j->scratch, n, 0.1), pl_quantile(j->scratch, n, 0.9)} : (struct pl_spread){-0.47, 0.47};
}

/* Each group predicted by a fit without it. */
static void hold_out(struct job *j, enum pl_served_group by, struct pl_served_fit *ret)
{
	struct pl_effect effects[PL_SERVED_MAX];
	struct pl_constants c;
	double p[PL_SERVED_MAX], got[PL_SERVED_METRICS];
	for (uint32_t g = 0, found = 1; found; g++) {
		found = 0;
		for (uint32_t i = 0; i < j->n; i++) {
			struct row *r = &j->rows[i];
			if (group_of(r, by) != g)
				continue;
			if (!found++) {
				fit_without(j, by, g, p);
				make_constants(j, p, effects, &c);
			}
			play(r, &c, 0, got);
			for (int t = 0; t < PL_SERVED_METRICS; t++)
				j->ln[t][i] = r->y[t] - got[t];
		}
	}
	for (int t = 0; t < PL_SERVED_METRICS; t++) {
		ret->left_out[by][t] = errors_of(j, t);
		for (int k = 0; k <= PL_KIN_NONE; k++)
			ret->spread[t][k] = spread_of(j, t, k);
	}
}

static void bind_all(struct job *j, struct pl_served_fit *ret)
{
	struct pl_constants c;
	double got[PL_SERVED_METRICS];
	make_constants(j, j->base, ret->effects, &c);
	ret->n_effects = j->n_p;
	for (uint32_t i = 0; i < j->n; i++) {
		play(&j->rows[i], &c, 0, got);
		for (int t = 0; t < PL_SERVED_METRICS; t++)
			j->ln[t][i] = j->rows[i].y[t] - got[t];
	}
	for (int t = 0; t < PL_SERVED_METRICS; t++)
		ret->fitted[t] = errors_of(j, t);
}

static int fit_all(struct job *j, struct pl_served_case *cases, struct pl_served_fit *ret, struct pl_err *err)
{
	struct pl_arena *a = j->a;
	uint32_t n = j->n;
	*ret = (struct pl_served_fit){0};
	j->rows = PL_NEW_N(a, struct row, (uint64_t)n + 1);
	j->scratch = PL_NEW_N(a, double, (uint64_t)n + 1);
	for (int t = 0; t < PL_SERVED_METRICS; t++)
		j->ln[t] = PL_NEW_N(a, double, (uint64_t)n + 1);
	if (pl_arena_failed(a))
		return pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory while fitting");
	for (uint32_t i = 0; i < n; i++)
		j->rows[i] = (struct row){.c = &cases[i], .y = {NAN, NAN, log(cases[i].output_tok_s), NAN, NAN}};
	for (uint32_t i = 0; i < n; i++) {
		j->rows[i].y[cases[i].split ? 4 : 0] = log(cases[i].tpot_s);
		j->rows[i].y[cases[i].split ? 3 : 1] = log(cases[i].ttft_s);
	}
	for (uint32_t i = 0; i < n; i++)
		if (!cases[i].split)
			*(only_rate(&j->rows[i]) ? &j->stacks[stack_of(&j->rows[i])].rates : &j->stacks[stack_of(&j->rows[i])].times) += 1;
	ret->n_devices = group_rows(j);
	choose_constants(j);
	for (int step = 0; step < STEPS; step++) {
		double p[PL_SERVED_MAX], part = step ? 0.5 : 1; /* loops are not smooth in their constants: later steps go half the way */
		derive(j);
		fit_without(j, PL_SERVED_BY_DEVICE, UINT32_MAX, p);
		for (uint32_t k = 0; k < j->n_p; k++)
			j->base[k] += part * (p[k] - j->base[k]);
	}
	derive(j);
	bind_all(j, ret);
	return 0;
}

int pl_fit_served(struct pl_arena *a, struct pl_served_case *cases, uint32_t n, struct pl_served_fit *ret, struct pl_err *err)
{
	struct job j = {.a = a, .n = n};
	int rc = fit_all(&j, cases, ret, err);
	if (rc)
		return rc;
	hold_out(&j, PL_SERVED_BY_DEVICE, ret);
	hold_out(&j, PL_SERVED_BY_MODEL, ret);
	hold_out(&j, PL_SERVED_BY_PAIR, ret); /* the interval: a card or a model not seen together */
	return pl_arena_failed(a) ? pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory while fitting") : 0;
}

int pl_served_hold_out(struct pl_validator *v, enum pl_served_group by, struct pl_err *err)
{
	struct job j = {.a = v->a};
	struct pl_served_case *cases = NULL;
	struct pl_served_fit fit;
	int rc = pl_served_cases(v, &cases, &j.n, err);
	if (!rc && !(v->held_served = PL_NEW_N(v->a, struct pl_held_served, (uint64_t)v->table->n_rows + 1)))
		rc = pl_fail(err, PL_ERR_NOMEM, v->table->name, "out of memory while fitting");
	if (!rc)
		rc = fit_all(&j, cases, &fit, err);
	if (rc)
		return rc;
	hold_out(&j, by, &fit);
	for (uint32_t i = 0; i < j.n; i++) {
		struct pl_held_served *h = &v->held_served[cases[i].row];
		enum pl_kinship k = pl_speed_kernels(cases[i].speed);
		*h = (struct pl_held_served){exp(j.rows[i].y[0] - j.ln[0][i]), exp(j.rows[i].y[1] - j.ln[1][i]),
		                             fit.spread[0][k].low_ln, fit.spread[0][k].high_ln, fit.spread[1][k].low_ln, fit.spread[1][k].high_ln, true,
		                             exp(j.rows[i].y[2] - j.ln[2][i]), fit.spread[2][k].low_ln, fit.spread[2][k].high_ln};
	}
	return 0;
}
