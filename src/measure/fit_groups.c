/* Predictions of groups that a fit did not see, and the intervals they give. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/nameset.h"
#include "measure/fit_work.h"
#include "measure/stats.h"

/* Steps after the group is gone: the start is near, the problem almost linear. */
enum { STEPS_WITHOUT = 4 };

static const char *group_of(const struct pl_observation *o, enum pl_leave_out by)
{
	return by == PL_LEAVE_DEVICE ? o->device : by == PL_LEAVE_MODEL ? o->model : o->source;
}

/* An effect that only the missing group spoke for is no knowledge: it goes back to the prior exactly, and kinship says so. */
static bool knows(const struct pl_fit *f, const struct pl_context *x, enum pl_leave_out by, const char *gone, int level)
{
	for (uint32_t i = 0; i < f->n; i++) {
		const struct pl_observation *o = &f->obs[i];
		if (!f->work->rows[i].use || !strcmp(group_of(o, by), gone))
			continue;
		for (uint32_t k = 0; k < o->speed->n_places; k++) {
			const struct pl_context *y = &o->speed->places[k].context;
			if (y->stack == x->stack && (level >= 2 || (y->arch == x->arch && (level >= 1 || y->device == x->device))))
				return true;
			if (level == 1 && ((y->arch == x->arch && x->arch) || (y->line == x->line && x->line && y->stack == x->stack)))
				return true;
		}
	}
	return false;
}

static enum pl_kinship kin_without(const struct pl_fit *f, const struct pl_observation *o, enum pl_leave_out by, const char *gone)
{
	enum pl_kinship worst = PL_KIN_MEASURED;
	for (uint32_t i = 0; i < o->speed->n_places; i++) {
		const struct pl_place *p = &o->speed->places[i];
		enum pl_kinship k = PL_KIN_NONE;
		if (knows(f, &p->context, by, gone, 0) && p->context.device)
			k = PL_KIN_MEASURED;
		else if (knows(f, &p->context, by, gone, 1) && (p->context.arch || p->first == PL_SPEED_HOST))
			k = PL_KIN_ARCH;
		else if (knows(f, &p->context, by, gone, 2))
			k = p->first == PL_SPEED_HOST ? PL_KIN_ARCH : PL_KIN_BACKEND;
		worst = k > worst ? k : worst;
	}
	return worst;
}

static void predict_group(struct pl_fit *f, enum pl_leave_out by, const char *gone)
{
	for (uint32_t i = 0; i < f->n; i++) {
		struct pl_observation *o = &f->obs[i];
		if (strcmp(group_of(o, by), gone) != 0)
			continue;
		pl_speed_bind_bumped(o->speed, f->fitted, NULL, NULL);
		o->predicted = o->predict(o->about);
		o->kinship = kin_without(f, o, by, gone);
	}
}

/* The fit to all rows, to which each refit returns. */
struct whole {
	struct pl_effect *effects;
	double *at;
	bool *use;
};

static void without(struct pl_fit *f, enum pl_leave_out by, const char *gone, const struct whole *whole)
{
	struct pl_fit_work *w = f->work;
	for (uint32_t i = 0; i < f->n; i++) {
		w->rows[i].at = whole->at[i];
		w->rows[i].use = whole->use[i] && strcmp(group_of(&f->obs[i], by), gone) != 0;
	}
	pl_fit_iterate(f, STEPS_WITHOUT, true);
	predict_group(f, by, gone);
	memcpy(w->effects, whole->effects, w->n_effects * sizeof *w->effects);
}

int pl_fit_leave_out(struct pl_fit *f, enum pl_leave_out by, struct pl_err *err)
{
	struct pl_fit_work *w = f->work;
	struct pl_nameset groups = {0};
	struct whole whole = {PL_NEW_N(f->a, struct pl_effect, (uint64_t)w->n_effects + 1), PL_NEW_N(f->a, double, (uint64_t)f->n + 1),
	                      PL_NEW_N(f->a, bool, (uint64_t)f->n + 1)};
	if (!whole.effects || !whole.at || !whole.use)
		return pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory while fitting");
	memcpy(whole.effects, w->effects, w->n_effects * sizeof *w->effects);
	for (uint32_t i = 0; i < f->n; i++) {
		whole.at[i] = w->rows[i].at;
		whole.use[i] = w->rows[i].use;
	}
	for (uint32_t i = 0; i < f->n && !pl_arena_failed(f->a); i++)
		if (pl_nameset_add(f->a, &groups, group_of(&f->obs[i], by)))
			without(f, by, group_of(&f->obs[i], by), &whole);
	for (uint32_t i = 0; i < f->n; i++) {
		w->rows[i].at = whole.at[i];
		w->rows[i].use = whole.use[i];
	}
	return pl_arena_failed(f->a) ? pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory while fitting") : 0;
}

/* ---- intervals -------------------------------------------------------------------------------------------------------------- */

int pl_fit_gather(const struct pl_fit *f, struct pl_fit_misses *to, struct pl_err *err)
{
	struct pl_fit_miss *more = PL_NEW_N(f->a, struct pl_fit_miss, (uint64_t)to->n + f->n + 1);
	if (!more)
		return pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory while fitting");
	if (to->n)
		memcpy(more, to->list, to->n * sizeof *more);
	to->list = more;
	for (uint32_t i = 0; i < f->n; i++) {
		const struct pl_observation *o = &f->obs[i];
		double ln = log(o->measured / o->predicted);
		if (o->weight > 0 && isfinite(ln))
			to->list[to->n++] = (struct pl_fit_miss){o->class, o->kinship, ln};
	}
	return 0;
}

static uint32_t collect(const struct pl_fit_misses *of, enum pl_answer_class c, int kin, double *ret)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < of->n; i++)
		if (of->list[i].class == c && (kin < 0 || of->list[i].kinship == (enum pl_kinship)kin))
			ret[n++] = of->list[i].ln;
	return n;
}

enum { ENOUGH = 20 };

static void interval(struct pl_fit *f, const struct pl_fit_misses *of, enum pl_answer_class c, int kin, double *ln)
{
	uint32_t n = collect(of, c, kin, ln);
	if (n < ENOUGH)
		n = collect(of, c, -1, ln);
	if (n < ENOUGH)
		return; /* the prior's */
	f->fitted->spread[c][kin] = (struct pl_spread){pl_quantile(ln, n, 0.1), pl_quantile(ln, n, 0.9)};
}

void pl_fit_intervals(struct pl_fit *f, const struct pl_fit_misses *of)
{
	double *ln = PL_NEW_N(f->a, double, (uint64_t)of->n + 1);
	for (int c = 0; ln && c < PL_CLASS_COUNT; c++)
		for (int k = 0; k <= PL_KIN_NONE; k++)
			interval(f, of, (enum pl_answer_class)c, k, ln);
}
