/* Predictions summed up: by metric, and in each metric by class. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "measure/stats.h"
#include "measure/validator.h"

/* Predictions of one metric and class, by index. */
struct bin {
	const char *metric, *class_name;
	uint32_t *members, n, cap;
	uint32_t order;
};

struct bins {
	struct pl_arena *a;
	struct bin *v;
	uint32_t n, cap;
	struct pl_nameset names; /* "metric\nclass" */
};

static struct bin *bin_of(struct bins *b, const char *metric, const char *class_name, size_t len)
{
	char key[512];
	bool fresh;
	(void)snprintf(key, sizeof key, "%s\n%.*s", metric, (int)len, class_name);
	struct pl_named *e = pl_nameset_entry(b->a, &b->names, key, b->n, &fresh);
	if (!e)
		return NULL;
	if (!fresh)
		return &b->v[e->value];
	e->name = pl_arena_strdup(b->a, key);
	if (b->n == b->cap) {
		uint32_t cap = b->cap ? b->cap * 2 : 64;
		b->v = pl_arena_grow(b->a, b->v, b->cap, cap, sizeof *b->v);
		b->cap = cap;
	}
	if (!b->v)
		return NULL;
	b->v[b->n] = (struct bin){.metric = metric, .class_name = pl_arena_strndup(b->a, class_name, len), .order = b->n};
	return &b->v[b->n++];
}

static bool put(struct bins *b, struct bin *bin, uint32_t member)
{
	if (!bin)
		return false;
	if (bin->n == bin->cap) {
		uint32_t cap = bin->cap ? bin->cap * 2 : 16;
		bin->members = pl_arena_grow(b->a, bin->members, bin->cap, cap, sizeof *bin->members);
		bin->cap = cap;
	}
	if (!bin->members)
		return false;
	bin->members[bin->n++] = member;
	return true;
}

static bool sort_into_bins(const struct pl_validator *v, struct bins *b)
{
	bool ok = true;
	for (uint32_t i = 0; ok && i < v->n_kept; i++) {
		const struct pl_prediction *p = &v->kept[i];
		ok = put(b, bin_of(b, p->metric, "all", 3), i);
		for (const char *c = p->classes; ok && c && *c;) {
			size_t len = strcspn(c, ";");
			ok = put(b, bin_of(b, p->metric, c, len), i);
			c += len + (c[len] == ';');
		}
	}
	return ok;
}

static void tally(const struct pl_validator *v, const struct bin *bin, double *work, struct pl_accuracy *out)
{
	uint32_t n = 0, inside = 0;
	double *signed_frac = work, *abs_frac = work + v->n_kept;
	*out = (struct pl_accuracy){.metric = bin->metric, .class_name = bin->class_name, .n = bin->n};
	for (uint32_t i = 0; i < bin->n; i++) {
		const struct pl_prediction *p = &v->kept[bin->members[i]];
		out->n_flagged += p->status == PL_FLAGGED;
		out->n_unmapped += p->status == PL_UNMAPPED;
		if (p->status != PL_PREDICTED)
			continue;
		double off = p->predicted - p->measured;
		signed_frac[n] = off / fabs(p->measured);
		abs_frac[n] = fabs(signed_frac[n]);
		n++;
		out->n_exact += fabs(off) <= p->resolution + 1e-9 * fabs(p->measured);
		if (!isfinite(p->low) || !isfinite(p->high))
			continue;
		out->n_interval++;
		inside += p->measured >= p->low - p->resolution && p->measured <= p->high + p->resolution;
	}
	out->n_ok = n;
	out->coverage_frac = out->n > out->n_flagged ? (double)n / (out->n - out->n_flagged) : NAN;
	out->median_error_frac = pl_quantile(abs_frac, n, 0.5);
	out->p90_error_frac = pl_quantile(abs_frac, n, 0.9);
	out->bias_frac = pl_quantile(signed_frac, n, 0.5);
	out->interval_coverage_frac = out->n_interval ? (double)inside / out->n_interval : NAN;
}

/* Metrics in order of first appearance, "all" before the classes, classes in order of their key, then of appearance. */
static int by_metric(const void *x, const void *y, void *data)
{
	const struct bin *a = x, *b = y;
	const struct bins *all = data;
	if (a->metric != b->metric) {
		uint32_t first_a = 0, first_b = 0;
		while (all->v[first_a].metric != a->metric)
			first_a++;
		while (all->v[first_b].metric != b->metric)
			first_b++;
		return first_a < first_b ? -1 : 1;
	}
	bool all_a = !strcmp(a->class_name, "all"), all_b = !strcmp(b->class_name, "all");
	if (all_a != all_b)
		return all_a ? -1 : 1;
	size_t ka = strcspn(a->class_name, "="), kb = strcspn(b->class_name, "=");
	int c = strncmp(a->class_name, b->class_name, ka < kb ? ka : kb);
	if (c || ka != kb)
		return c ? c : ka < kb ? -1 : 1;
	return (a->order > b->order) - (a->order < b->order);
}

/* ---- intervals ------------------------------------------------------------------------------------------------------ */

/* The first class of a prediction: the engine, where a kind states it first. */
static bool same_first_class(const struct pl_prediction *a, const struct pl_prediction *b)
{
	size_t n = strcspn(a->classes, ";");
	return a->metric == b->metric && n == strcspn(b->classes, ";") && !strncmp(a->classes, b->classes, n);
}

/* Predictions that state no interval get one from the others of their metric and engine: the error that 80 % of those stay
 * below, never their own (a jackknife: rows of a group too small for it get none). */
static void add_intervals(struct pl_validator *v, double *work)
{
	enum { LEAST = 5, MOST = 20000 /* each row looks at all others */ };
	for (uint32_t i = 0; i < v->n_kept && v->n_kept <= MOST; i++) {
		struct pl_prediction *p = &v->kept[i];
		uint32_t n = 0;
		if (p->status != PL_PREDICTED || isfinite(p->low) || isfinite(p->high))
			continue;
		for (uint32_t k = 0; k < v->n_kept; k++) {
			const struct pl_prediction *q = &v->kept[k];
			if (k != i && q->status == PL_PREDICTED && q->id != p->id && same_first_class(p, q))
				work[n++] = fabs(q->predicted - q->measured) / fabs(q->predicted > 0 ? q->predicted : q->measured);
		}
		if (n < LEAST)
			continue;
		double off = fabs(p->predicted) * pl_quantile(work, n, 0.8);
		work[v->n_kept + i] = off;
	}
	for (uint32_t i = 0; i < v->n_kept; i++) { /* only now: an interval given above must not tell the next row from it */
		struct pl_prediction *p = &v->kept[i];
		if (p->status != PL_PREDICTED || isfinite(p->low) || isfinite(p->high) || !(work[v->n_kept + i] >= 0))
			continue;
		p->low = p->predicted - work[v->n_kept + i];
		p->high = p->predicted + work[v->n_kept + i];
	}
}

static bool summarise_accuracy(struct pl_validator *v, struct pl_arena *scratch)
{
	struct bins b = {.a = scratch};
	double *work = PL_NEW_N(scratch, double, 2 * (uint64_t)v->n_kept + 1);
	if (!work || !sort_into_bins(v, &b))
		return false;
	for (uint32_t i = 0; i < 2 * v->n_kept; i++)
		work[i] = -1;
	add_intervals(v, work);
	struct bin *sorted = PL_NEW_N(scratch, struct bin, (uint64_t)b.n + 1);
	struct pl_accuracy *out = PL_NEW_N(v->a, struct pl_accuracy, (uint64_t)b.n + 1);
	if (!sorted || !out)
		return false;
	if (b.n)
		memcpy(sorted, b.v, b.n * sizeof *sorted);
	qsort_r(sorted, b.n, sizeof *sorted, by_metric, &b);
	for (uint32_t i = 0; i < b.n; i++) {
		tally(v, &sorted[i], work, &out[i]);
		out[i].class_name = pl_arena_strdup(v->a, out[i].class_name);
	}
	v->out.accuracy = out;
	v->out.n_accuracy = b.n;
	return true;
}

static int by_count(const void *x, const void *y)
{
	const struct pl_reason_count *a = x, *b = y;
	if (a->n != b->n)
		return a->n > b->n ? -1 : 1;
	return strcmp(a->reason, b->reason);
}

static bool summarise_reasons(struct pl_validator *v, struct pl_arena *scratch)
{
	struct pl_nameset seen = {0};
	struct pl_reason_count *out = PL_NEW_N(v->a, struct pl_reason_count, (uint64_t)v->n_kept + 1);
	uint32_t n = 0;
	if (!out)
		return false;
	for (uint32_t i = 0; i < v->n_kept; i++) {
		const struct pl_prediction *p = &v->kept[i];
		bool fresh;
		if (p->status == PL_PREDICTED || !p->reason)
			continue;
		struct pl_named *e = pl_nameset_entry(scratch, &seen, p->reason, n, &fresh);
		if (!e)
			return false;
		if (fresh)
			out[n++] = (struct pl_reason_count){.reason = p->reason, .first_id = p->id};
		out[e->value].n++;
	}
	qsort(out, n, sizeof *out, by_count);
	v->out.reasons = out;
	v->out.n_reasons = n;
	return true;
}

bool pl_validation_summarise(struct pl_validator *v)
{
	struct pl_arena *scratch = pl_arena_new(0);
	bool ok = scratch && summarise_accuracy(v, scratch) && summarise_reasons(v, scratch);
	pl_arena_free(scratch);
	return ok;
}
