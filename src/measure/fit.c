/* Gauss-Newton on ln(measured / predicted) with a normal prior on every effect. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/nameset.h"
#include "measure/fit.h"
#include "measure/fit_work.h"

/* Scatter between runs that no constant explains: hosts, builds, clocks (15 % between equal rows of local tables). */
static const double noise_ln = 0.15;
/* From so many noises on, rows pull less and less. */
static const double tail = 1.5;
static const double bump_ln = 0.02;
enum { MAX_STEPS = 12, MAX_CG = 300, MAX_CONTEXTS = 3, MAX_TYPES = 6, MAX_DERIVATIVES = 512 };

/* ---- which effects there are ---------------------------------------------------------------------------------------- */

/* Families in which devices and architectures may differ, and those in which element types may. */
static bool by_arch(enum pl_family f)
{
	return f == PL_F_READ_EFF || f == PL_F_GEMM_EFF || f == PL_F_ATTN_EFF || f == PL_F_KV_READ_EFF || f == PL_F_OP_S ||
	       f == PL_F_KERNEL || f == PL_F_GEMM_HALF || f == PL_F_KIN_KERNEL;
}

static bool by_device(enum pl_family f)
{
	return f == PL_F_READ_EFF || f == PL_F_GEMM_EFF || f == PL_F_ATTN_EFF || f == PL_F_OP_S || f == PL_F_KIN_KERNEL;
}

static bool by_type(enum pl_family f)
{
	return f == PL_F_READ_EFF || f == PL_F_GEMM_EFF || f == PL_F_KV_READ_EFF;
}

/* Prior standard deviation of an effect: wide where many rows speak, narrow where one card does. */
static double prior_sd(uint32_t key)
{
	static const double share[PL_SCOPE_COUNT] = {[PL_SCOPE_BASE] = 2,         [PL_SCOPE_STACK] = 1,        [PL_SCOPE_ARCH] = 0.6,
	                                             [PL_SCOPE_STACK_ARCH] = 0.5, [PL_SCOPE_STACK_TYPE] = 0.8, [PL_SCOPE_DEVICE] = 0.5,
	                                             [PL_SCOPE_STACK_LINE] = 0.8};
	return pl_family_spread((enum pl_family)(key >> 26)) * share[key >> 22 & 15];
}

static uint32_t effect_index(struct pl_fit *f, uint32_t key)
{
	struct pl_fit_work *w = f->work;
	uint32_t at = 0;
	while (at < w->n_effects && w->effects[at].key < key)
		at++;
	return at;
}

/* Keys are collected first, sorted once. */
static void want_key(struct pl_fit *f, uint32_t key)
{
	struct pl_fit_work *w = f->work;
	if (w->n_keys == w->cap_keys) {
		uint32_t cap = w->cap_keys ? w->cap_keys * 2 : 4096;
		uint32_t *keys = pl_arena_grow(f->a, w->keys, w->n_keys, cap, sizeof *keys);
		if (!keys)
			return;
		w->keys = keys;
		w->cap_keys = cap;
	}
	w->keys[w->n_keys++] = key;
}

static int by_key(const void *x, const void *y)
{
	uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;
	return a < b ? -1 : a > b;
}

static void keys_of(struct pl_fit *f, enum pl_family family, const struct pl_context *x)
{
	want_key(f, pl_effect_key(family, PL_SCOPE_BASE, 0, 0));
	if (x->arch && by_arch(family))
		want_key(f, pl_effect_key(family, PL_SCOPE_ARCH, 0, x->arch));
	for (enum pl_stack s = x->stack; s; s = pl_stack_parent(s)) {
		want_key(f, pl_effect_key(family, PL_SCOPE_STACK, s, 0));
		if (x->arch && by_arch(family)) {
			want_key(f, pl_effect_key(family, PL_SCOPE_STACK_ARCH, s, x->arch));
			want_key(f, pl_effect_key(family, PL_SCOPE_STACK_LINE, s, x->line));
		}
	}
	if (x->device && by_device(family))
		want_key(f, pl_effect_key(family, PL_SCOPE_DEVICE, 0, x->device));
}

/* ---- derivatives of one observation ---------------------------------------------------------------------------------- */

static double ln_predicted(struct pl_observation *o, const struct pl_constants *c, const struct pl_bump *b, struct pl_bound_cache *cache)
{
	pl_speed_bind_bumped(o->speed, c, b, cache);
	double p = o->predict(o->about);
	return p > 0 && isfinite(p) ? log(p) : NAN;
}

/* Contexts of the places, each once; element types of the weights, each once. */
static uint32_t contexts_of(const struct pl_speed *s, struct pl_context *ret)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < s->n_places; i++) {
		uint32_t j = 0;
		while (j < n && memcmp(&ret[j], &s->places[i].context, sizeof *ret) != 0)
			j++;
		if (j == n && n < MAX_CONTEXTS)
			ret[n++] = s->places[i].context;
	}
	return n;
}

static uint32_t types_of(const struct pl_speed *s, const struct pl_context *x, enum pl_dtype *ret)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < s->n_terms; i++) {
		const struct pl_work *w = &s->work[i];
		uint32_t j = 0;
		if (!w->type || s->places[w->place].context.stack != x->stack)
			continue;
		while (j < n && ret[j] != w->type)
			j++;
		if (j == n && n < MAX_TYPES)
			ret[n++] = w->type;
	}
	return n;
}

static double slope(struct pl_observation *o, const struct pl_constants *c, double at, const struct pl_slope *s, struct pl_bound_cache *cache)
{
	struct pl_bump b = {s->family, s->context, s->type, exp(bump_ln)};
	double d = (ln_predicted(o, c, &b, cache) - at) / bump_ln;
	return isfinite(d) ? d : 0;
}

/* Slopes that were nil the first time stay nil: a prompt never reads what only decode reads. */
static void slopes_of(struct pl_fit *f, struct pl_fit_row *r, struct pl_observation *o, const struct pl_constants *c, bool first)
{
	struct pl_context x[MAX_CONTEXTS];
	enum pl_dtype types[MAX_TYPES];
	uint32_t n = contexts_of(o->speed, x);
	struct pl_bound_cache *cache = &f->work->cache;
	r->at = ln_predicted(o, c, NULL, cache);
	if (first) {
		struct pl_slope found[MAX_DERIVATIVES];
		uint32_t k = 0;
		for (uint32_t i = 0; i < n; i++) {
			for (unsigned g = 0; g < PL_FAMILY_COUNT && k < MAX_DERIVATIVES; g++)
				/* served runs have a fit of their own, and speeds say nothing about watts */
				if (!pl_family_is_served((enum pl_family)g))
					found[k++] = (struct pl_slope){(enum pl_family)g, x[i], PL_DTYPE_UNKNOWN, 0};
			uint32_t n_types = types_of(o->speed, &x[i], types);
			for (unsigned g = 0; g < PL_FAMILY_COUNT; g++)
				for (uint32_t t = 0; t < n_types && by_type((enum pl_family)g) && k < MAX_DERIVATIVES; t++)
					found[k++] = (struct pl_slope){(enum pl_family)g, x[i], types[t], 0};
		}
		uint32_t kept = 0;
		for (uint32_t i = 0; i < k; i++) {
			found[i].slope = slope(o, c, r->at, &found[i], cache);
			if (fabs(found[i].slope) > 1e-4)
				found[kept++] = found[i];
		}
		r->slopes = PL_NEW_N(f->a, struct pl_slope, kept ? kept : 1);
		r->n_slopes = r->slopes ? kept : 0;
		memcpy(r->slopes, found, r->n_slopes * sizeof *found);
		return;
	}
	for (uint32_t i = 0; i < r->n_slopes; i++)
		r->slopes[i].slope = slope(o, c, r->at, &r->slopes[i], cache);
}

static void add_entry(struct pl_fit *f, struct pl_fit_row *r, uint32_t key, double d)
{
	uint32_t at = pl_fit_index(f, key);
	for (uint32_t i = 0; i < r->n_entries; i++)
		if (r->entries[i].effect == at) {
			r->entries[i].d += d;
			return;
		}
	r->entries[r->n_entries++] = (struct pl_fit_entry){at, d};
}

/* The slope of an effect is the sum of the slopes of the constants it moves. */
static void entries_of(struct pl_fit *f, struct pl_fit_row *r)
{
	r->n_entries = 0;
	for (uint32_t i = 0; i < r->n_slopes; i++) {
		const struct pl_slope *s = &r->slopes[i];
		const struct pl_context *x = &s->context;
		if (s->type) {
			for (enum pl_stack k = x->stack; k; k = pl_stack_parent(k))
				add_entry(f, r, pl_effect_key(s->family, PL_SCOPE_STACK_TYPE, k, s->type), s->slope);
			continue;
		}
		add_entry(f, r, pl_effect_key(s->family, PL_SCOPE_BASE, 0, 0), s->slope);
		if (x->arch && by_arch(s->family))
			add_entry(f, r, pl_effect_key(s->family, PL_SCOPE_ARCH, 0, x->arch), s->slope);
		for (enum pl_stack k = x->stack; k; k = pl_stack_parent(k)) {
			add_entry(f, r, pl_effect_key(s->family, PL_SCOPE_STACK, k, 0), s->slope);
			if (x->arch && by_arch(s->family)) {
				add_entry(f, r, pl_effect_key(s->family, PL_SCOPE_STACK_ARCH, k, x->arch), s->slope);
				add_entry(f, r, pl_effect_key(s->family, PL_SCOPE_STACK_LINE, k, x->line), s->slope);
			}
		}
		if (x->device && by_device(s->family))
			add_entry(f, r, pl_effect_key(s->family, PL_SCOPE_DEVICE, 0, x->device), s->slope);
	}
}

uint32_t pl_fit_index(struct pl_fit *f, uint32_t key)
{
	const struct pl_effect *e = pl_effect_find(f->fitted, key);
	return e ? (uint32_t)(e - f->fitted->effects) : effect_index(f, key);
}

/* ---- steps -------------------------------------------------------------------------------------------------------------- */

/* Hosts, builds and labels are off by more than a normal law allows: between the weights of an absolute error and Cauchy's, a
 * row that is far off still pulls, but less than one that is near. (Chosen by the errors of devices and models left out.) */
static double robust_weight(double residual)
{
	double z = residual / (noise_ln * tail);
	return pow(1 + z * z, -0.75);
}

/* y = (JᵀWJ + P) x */
static void apply(const struct pl_fit *f, const double *x, double *y)
{
	const struct pl_fit_work *w = f->work;
	for (uint32_t e = 0; e < w->n_effects; e++)
		y[e] = w->precision[e] * x[e];
	for (uint32_t i = 0; i < f->n; i++) {
		const struct pl_fit_row *r = &w->rows[i];
		double sum = 0;
		if (!(r->w > 0))
			continue;
		for (uint32_t k = 0; k < r->n_entries; k++)
			sum += r->entries[k].d * x[r->entries[k].effect];
		for (uint32_t k = 0; k < r->n_entries; k++)
			y[r->entries[k].effect] += r->w * sum * r->entries[k].d;
	}
}

static double dot(const double *x, const double *y, uint32_t n)
{
	double sum = 0;
	for (uint32_t i = 0; i < n; i++)
		sum += x[i] * y[i];
	return sum;
}

/* Solves for the step by conjugate gradients, preconditioned by the diagonal. */
static void solve(struct pl_fit *f)
{
	struct pl_fit_work *w = f->work;
	uint32_t n = w->n_effects;
	memset(w->step, 0, n * sizeof *w->step);
	memcpy(w->r, w->gradient, n * sizeof *w->r);
	for (uint32_t e = 0; e < n; e++)
		w->p[e] = w->z[e] = w->r[e] / w->diagonal[e];
	double rz = dot(w->r, w->z, n), stop = rz * 1e-12;
	for (int i = 0; i < MAX_CG && rz > stop && rz > 0; i++) {
		apply(f, w->p, w->q);
		double alpha = rz / dot(w->p, w->q, n);
		for (uint32_t e = 0; e < n; e++) {
			w->step[e] += alpha * w->p[e];
			w->r[e] -= alpha * w->q[e];
			w->z[e] = w->r[e] / w->diagonal[e];
		}
		double next = dot(w->r, w->z, n), beta = next / rz;
		for (uint32_t e = 0; e < n; e++)
			w->p[e] = w->z[e] + beta * w->p[e];
		rz = next;
	}
}

static void normal_equations(struct pl_fit *f)
{
	struct pl_fit_work *w = f->work;
	for (uint32_t e = 0; e < w->n_effects; e++) {
		w->diagonal[e] = w->precision[e];
		w->gradient[e] = -w->precision[e] * ((double)w->effects[e].ln - w->centre[e]);
	}
	for (uint32_t i = 0; i < f->n; i++) {
		struct pl_fit_row *r = &w->rows[i];
		double residual = log(f->obs[i].measured) - r->at;
		r->w = r->use ? f->obs[i].weight * robust_weight(residual) / (noise_ln * noise_ln) : 0;
		if (!isfinite(r->at))
			r->w = 0;
		for (uint32_t k = 0; k < r->n_entries && r->w > 0; k++) {
			const struct pl_fit_entry *e = &r->entries[k];
			w->gradient[e->effect] += r->w * residual * e->d;
			w->diagonal[e->effect] += r->w * e->d * e->d;
		}
	}
}

/* One step, no longer than a factor of 2 in any effect. Returns the largest move. */
static double take_step(struct pl_fit *f)
{
	struct pl_fit_work *w = f->work;
	double longest = 0;
	normal_equations(f);
	solve(f);
	for (uint32_t e = 0; e < w->n_effects; e++)
		longest = fmax(longest, fabs(w->step[e]));
	double scale = longest > 0.7 ? 0.7 / longest : 1;
	for (uint32_t e = 0; e < w->n_effects; e++)
		w->effects[e].ln = (float)((double)w->effects[e].ln + scale * w->step[e]);
	return scale * longest;
}

void pl_fit_derive(struct pl_fit *f)
{
	struct pl_fit_work *w = f->work;
	for (uint32_t i = 0; i < f->n; i++) {
		slopes_of(f, &w->rows[i], &f->obs[i], f->fitted, false);
		entries_of(f, &w->rows[i]);
	}
}

/* New predictions, old slopes. */
static void predict_again(struct pl_fit *f)
{
	for (uint32_t i = 0; i < f->n; i++)
		if (f->work->rows[i].use)
			f->work->rows[i].at = ln_predicted(&f->obs[i], f->fitted, NULL, NULL);
}

void pl_fit_iterate(struct pl_fit *f, int steps, bool keep_slopes)
{
	for (int i = 0; i < steps; i++) {
		if (take_step(f) < 2e-3)
			break;
		if (keep_slopes)
			predict_again(f);
		else
			pl_fit_derive(f);
	}
}

/* ---- the whole --------------------------------------------------------------------------------------------------------- */

static void make_effects(struct pl_fit *f)
{
	struct pl_fit_work *w = f->work;
	for (uint32_t i = 0; i < f->n && !pl_arena_failed(f->a); i++) {
		slopes_of(f, &w->rows[i], &f->obs[i], f->prior, true);
		for (uint32_t k = 0; k < w->rows[i].n_slopes; k++) {
			const struct pl_slope *s = &w->rows[i].slopes[k];
			for (enum pl_stack g = s->context.stack; g && s->type; g = pl_stack_parent(g))
				want_key(f, pl_effect_key(s->family, PL_SCOPE_STACK_TYPE, g, s->type));
			if (!s->type)
				keys_of(f, s->family, &s->context);
		}
		w->rows[i].entries = PL_NEW_N(f->a, struct pl_fit_entry, 9 * (uint64_t)w->rows[i].n_slopes + 1);
		w->rows[i].use = f->obs[i].weight > 0;
	}
	for (uint32_t i = 0; i < f->prior->n_effects; i++)
		want_key(f, f->prior->effects[i].key);
	qsort(w->keys, w->n_keys, sizeof *w->keys, by_key);
	w->effects = PL_NEW_N(f->a, struct pl_effect, (uint64_t)w->n_keys + 1);
	for (uint32_t i = 0; w->effects && i < w->n_keys; i++)
		if (!i || w->keys[i] != w->keys[i - 1]) {
			const struct pl_effect *e = pl_effect_find(f->prior, w->keys[i]);
			w->effects[w->n_effects++] = (struct pl_effect){w->keys[i], e ? e->ln : 0, 0, e ? e->n_devices : 0};
		}
}

static bool make_vectors(struct pl_fit *f)
{
	struct pl_fit_work *w = f->work;
	double **all[] = {&w->precision, &w->centre, &w->gradient, &w->diagonal, &w->step, &w->r, &w->z, &w->p, &w->q};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		if (!(*all[i] = PL_NEW_N(f->a, double, (uint64_t)w->n_effects + 1)))
			return false;
	for (uint32_t e = 0; e < w->n_effects; e++) {
		double sd = prior_sd(w->effects[e].key);
		w->precision[e] = f->prior_weight / (sd * sd);
		w->centre[e] = (double)w->effects[e].ln;
	}
	return true;
}

/* A device with many rows counts as their square root, whatever the scope of the rows. */
static void weigh(struct pl_fit *f)
{
	struct pl_nameset seen = {0};
	uint32_t *counts = PL_NEW_N(f->a, uint32_t, (uint64_t)f->n + 1), *slot = PL_NEW_N(f->a, uint32_t, (uint64_t)f->n + 1), n = 0;
	for (uint32_t i = 0; i < f->n && counts && slot; i++) {
		bool fresh;
		const char *key = pl_arena_printf(f->a, "%d|%s", f->obs[i].class, f->obs[i].device);
		struct pl_named *e = key ? pl_nameset_entry(f->a, &seen, key, n, &fresh) : NULL;
		if (!e)
			return;
		n += fresh;
		slot[i] = e->value;
		counts[slot[i]]++;
	}
	for (uint32_t i = 0; i < f->n && counts && slot; i++)
		f->obs[i].weight *= 1 / sqrt((double)counts[slot[i]]);
}

/* How many devices speak for each effect. */
static void count_devices(struct pl_fit *f)
{
	struct pl_fit_work *w = f->work;
	struct pl_nameset seen = {0};
	for (uint32_t e = 0; e < w->n_effects; e++)
		w->effects[e].spread = (float)sqrt(1 / w->diagonal[e]);
	for (uint32_t i = 0; i < f->n; i++)
		for (uint32_t k = 0; k < w->rows[i].n_entries && w->rows[i].use; k++) {
			const char *key = pl_arena_printf(f->a, "%u|%s", w->rows[i].entries[k].effect, f->obs[i].device);
			if (key && pl_nameset_add(f->a, &seen, key))
				w->effects[w->rows[i].entries[k].effect].n_devices++;
		}
}

int pl_fit_all(struct pl_fit *f, struct pl_err *err)
{
	f->work = PL_NEW(f->a, struct pl_fit_work);
	f->fitted = PL_NEW(f->a, struct pl_constants);
	if (!f->work || !f->fitted)
		return pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory while fitting");
	f->work->rows = PL_NEW_N(f->a, struct pl_fit_row, (uint64_t)f->n + 1);
	if (!f->work->rows)
		return pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory while fitting");
	weigh(f);
	make_effects(f);
	memcpy(f->fitted->spread, f->prior->spread, sizeof f->fitted->spread);
	f->fitted->effects = f->work->effects;
	f->fitted->n_effects = f->work->n_effects;
	if (!make_vectors(f) || pl_arena_failed(f->a))
		return pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory while fitting");
	pl_fit_derive(f);
	pl_fit_iterate(f, MAX_STEPS, false);
	normal_equations(f);
	count_devices(f);
	for (uint32_t i = 0; i < f->n; i++) {
		f->obs[i].predicted = exp(f->work->rows[i].at);
		f->obs[i].kinship = PL_KIN_MEASURED;
	}
	if (pl_arena_failed(f->a))
		return pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory while fitting");
	return 0;
}
