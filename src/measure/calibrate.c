/* `plimsoll calibrate`: tables in, constants out, with errors from groups left out. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <plimsoll/calibrate.h>

#include "base/nameset.h"
#include "measure/fit_served.h"
#include "measure/observe.h"
#include "measure/stats.h"

/* ln ratios of a class nobody measured: a factor of 1.6 either way. */
static const double unknown_ln = 0.47;

/* Served runs of all tables. */
struct served {
	struct pl_served_case *cases;
	uint32_t n;
	struct pl_served_fit fit;
};

static int add_served(struct pl_arena *a, struct pl_validator *v, struct served *s, struct pl_err *err)
{
	struct pl_served_case *more = NULL;
	uint32_t n = 0;
	int rc = pl_served_cases(v, &more, &n, err);
	if (rc || !n)
		return rc;
	struct pl_served_case *both = PL_NEW_N(a, struct pl_served_case, (uint64_t)s->n + n);
	if (!both)
		return pl_fail(err, PL_ERR_NOMEM, v->table->name, "out of memory while reading the table");
	if (s->n)
		memcpy(both, s->cases, s->n * sizeof *both);
	memcpy(both + s->n, more, n * sizeof *both);
	s->cases = both;
	s->n += n;
	return 0;
}

static int observe_all(struct pl_arena *a, const char *const *paths, uint32_t n_paths, struct pl_observations *obs, struct served *served,
                       uint32_t *ret_rows, struct pl_err *err)
{
	for (uint32_t i = 0; i < n_paths; i++) {
		struct pl_validator *v;
		int rc = pl_validator_open(a, paths[i], &v, err);
		if (!rc)
			rc = pl_observe_table(v, i, obs, err);
		if (!rc)
			rc = add_served(a, v, served, err);
		if (rc)
			return rc;
		*ret_rows += v->table->n_rows;
	}
	return 0;
}

static double *errors_of(struct pl_arena *a, const struct pl_fit *f, int class, uint32_t *ret_n)
{
	double *e = PL_NEW_N(a, double, (uint64_t)f->n + 1);
	*ret_n = 0;
	for (uint32_t i = 0; e && i < f->n; i++)
		if (f->obs[i].class == (enum pl_answer_class)class && f->obs[i].weight > 0)
			e[(*ret_n)++] = fabs(f->obs[i].predicted / f->obs[i].measured - 1);
	return e;
}

static uint32_t devices_in(struct pl_arena *a, const struct pl_fit *f, int class)
{
	struct pl_nameset seen = {0};
	uint32_t n = 0;
	for (uint32_t i = 0; i < f->n; i++)
		if (f->obs[i].class == (enum pl_answer_class)class && f->obs[i].weight > 0)
			n += pl_nameset_add(a, &seen, f->obs[i].device);
	return n;
}

static void errors_into(struct pl_arena *a, const struct pl_fit *f, struct pl_calibration_class *classes, int which)
{
	for (int c = 0; c < PL_CLASS_COUNT; c++) {
		struct pl_calibration_class *x = &classes[c];
		uint32_t n;
		double *e = errors_of(a, f, c, &n), median = e ? pl_quantile(e, n, 0.5) : NAN, p90 = e ? pl_quantile(e, n, 0.9) : NAN;
		x->class_name = pl_class_name((enum pl_answer_class)c);
		x->n = n;
		if (!which)
			x->n_devices = devices_in(a, f, c);
		*(which == 0 ? &x->fitted_median_frac : which == 1 ? &x->device_median_frac : &x->model_median_frac) = median;
		*(which == 0 ? &x->fitted_p90_frac : which == 1 ? &x->device_p90_frac : &x->model_p90_frac) = p90;
	}
}

static void start_spreads(struct pl_constants *c)
{
	for (int i = 0; i < PL_CLASS_COUNT; i++)
		for (int k = 0; k <= PL_KIN_NONE; k++)
			c->spread[i][k] = (struct pl_spread){-unknown_ln, unknown_ln};
}

/* Intervals from all groups left out together: who plans has another device, model and host than those who measured. */
static int leave_out(struct pl_arena *a, struct pl_fit *f, struct pl_calibration_class *classes, struct pl_err *err)
{
	static const enum pl_leave_out groups[] = {PL_LEAVE_DEVICE, PL_LEAVE_MODEL, PL_LEAVE_SOURCE};
	struct pl_fit_misses misses = {0};
	for (int i = 0; i < 3; i++) {
		int rc = pl_fit_leave_out(f, groups[i], err);
		if (!rc)
			rc = pl_fit_gather(f, &misses, err);
		if (rc)
			return rc;
		if (groups[i] != PL_LEAVE_SOURCE)
			errors_into(a, f, classes, i + 1);
	}
	pl_fit_intervals(f, &misses);
	return 0;
}

/* The prior with the served constants of `served`, or of the shipped table where nothing served was read. */
static const struct pl_constants *with_served(struct pl_arena *a, const struct pl_constants *prior, const struct served *served)
{
	const struct pl_constants *shipped = pl_constants_shipped();
	const struct pl_effect *from = served->n ? served->fit.effects : shipped->effects;
	uint32_t n_from = served->n ? served->fit.n_effects : shipped->n_effects, at = 0, n = 0;
	struct pl_constants *c = PL_NEW(a, struct pl_constants);
	struct pl_effect *e = PL_NEW_N(a, struct pl_effect, (uint64_t)prior->n_effects + n_from + 1);
	if (!c || !e)
		return NULL;
	*c = *prior;
	for (uint32_t i = 0; i <= prior->n_effects; i++) {
		bool end = i == prior->n_effects;
		for (; at < n_from && (end || from[at].key < prior->effects[i].key); at++)
			if (pl_family_is_served((enum pl_family)(from[at].key >> 26)))
				e[n++] = from[at];
		if (!end && !pl_family_is_served((enum pl_family)(prior->effects[i].key >> 26)))
			e[n++] = prior->effects[i];
		while (!end && at < n_from && from[at].key == prior->effects[i].key) {
			if (pl_family_is_served((enum pl_family)(from[at].key >> 26)))
				e[n++] = from[at];
			at++;
		}
	}
	c->effects = e;
	c->n_effects = n;
	for (int t = 0; t < PL_SERVED_METRICS; t++)
		for (int k = 0; k <= PL_KIN_NONE; k++)
			c->spread[PL_CLASS_SERVED_TPOT + t][k] = served->n && served->fit.fitted[t].n ? served->fit.spread[t][k]
			                                                                   : shipped->spread[PL_CLASS_SERVED_TPOT + t][k];
	return c;
}

static void served_errors(const struct served *s, struct pl_calibration_class *classes)
{
	for (int t = 0; t < PL_SERVED_METRICS && s->n; t++) {
		const struct pl_served_errors *all = &s->fit.fitted[t], *dev = &s->fit.left_out[PL_SERVED_BY_DEVICE][t],
		                              *model = &s->fit.left_out[PL_SERVED_BY_MODEL][t];
		classes[PL_CLASS_SERVED_TPOT + t] = (struct pl_calibration_class){
		    .class_name = pl_class_name((enum pl_answer_class)(PL_CLASS_SERVED_TPOT + t)), .n = all->n, .n_devices = s->fit.n_devices,
		    .fitted_median_frac = all->median_frac, .fitted_p90_frac = all->p90_frac, .device_median_frac = dev->median_frac,
		    .device_p90_frac = dev->p90_frac, .model_median_frac = model->median_frac, .model_p90_frac = model->p90_frac};
	}
}

int pl_calibrate(struct pl_arena *a, const char *const *paths, uint32_t n_paths, bool from_shipped, const struct pl_calibration **ret,
                 struct pl_err *err)
{
	struct pl_observations obs = {.a = a};
	struct served *served = PL_NEW(a, struct served);
	struct pl_calibration *c = PL_NEW(a, struct pl_calibration);
	struct pl_calibration_class *classes = PL_NEW_N(a, struct pl_calibration_class, PL_CLASS_COUNT);
	struct pl_constants *start = PL_NEW(a, struct pl_constants);
	if (!c || !classes || !start || !served)
		return pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory while fitting");
	int rc = observe_all(a, paths, n_paths, &obs, served, &c->n_rows, err);
	if (!rc && served->n)
		rc = pl_fit_served(a, served->cases, served->n, &served->fit, err);
	if (rc)
		return rc;
	if (!obs.n && !served->n)
		return pl_fail(err, PL_ERR_FORMAT, paths[0], "no row of these tables is a speed that can be fitted");
	start_spreads(start);
	for (int i = 0; i < PL_CLASS_COUNT; i++)
		classes[i].device_median_frac = classes[i].device_p90_frac = classes[i].model_median_frac = classes[i].model_p90_frac = NAN;
	/* Tables of served runs alone leave the local constants as they are. */
	const struct pl_constants *prior = with_served(a, from_shipped || !obs.n ? pl_constants_shipped() : start, served);
	if (!prior)
		return pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory while fitting");
	struct pl_fit f = {.a = a, .prior = prior, .prior_weight = from_shipped ? 4 : 1,
	                   .obs = obs.list, .n = obs.n};
	rc = obs.n ? pl_fit_all(&f, err) : 0;
	if (rc)
		return rc;
	if (obs.n)
		errors_into(a, &f, classes, 0);
	if (!from_shipped && obs.n)
		rc = leave_out(a, &f, classes, err);
	if (rc)
		return rc;
	served_errors(served, classes);
	c->constants = obs.n ? f.fitted : prior;
	c->n_used = obs.n + served->n;
	c->n_effects = c->constants->n_effects;
	c->classes = classes;
	c->n_classes = PL_CLASS_COUNT;
	*ret = c;
	return 0;
}

/* ---- out -------------------------------------------------------------------------------------------------------------------- */

/* An effect within half a percent of nothing changes nothing. */
static const double nothing_ln = 0.005;

static void write_effect(FILE *f, struct pl_arena *a, const struct pl_effect *e)
{
	enum pl_scope scope = (enum pl_scope)(e->key >> 22 & 15);
	if (fabs((double)e->ln) < nothing_ln && scope != PL_SCOPE_DEVICE)
		return;
	(void)fprintf(f, "effect,%s,%s,%s,%.4f,%.3f,%u\n", pl_family_name((enum pl_family)(e->key >> 26)), pl_scope_name(scope),
	              pl_effect_text(a, e->key), (double)e->ln, (double)e->spread, e->n_devices);
}

int pl_constants_write(const struct pl_constants *c, const char *path, struct pl_err *err)
{
	char beside[4096];
	struct pl_arena *a = pl_arena_new(0);
	(void)snprintf(beside, sizeof beside, "%s.part", path);
	FILE *f = a ? fopen(beside, "wb") : NULL;
	if (!f) {
		pl_arena_free(a);
		return pl_fail(err, PL_ERR_IO, beside, "the file cannot be written: %s", strerror(errno));
	}
	(void)fputs("kind,name,scope,context,value,spread,n_devices\n", f);
	for (uint32_t i = 0; i < c->n_effects; i++)
		write_effect(f, a, &c->effects[i]);
	for (int i = 0; i < PL_CLASS_COUNT; i++)
		for (int k = 0; k <= PL_KIN_NONE; k++)
			(void)fprintf(f, "interval,%s,,%d,%.4f,%.4f,0\n", pl_class_name((enum pl_answer_class)i), k, c->spread[i][k].low_ln,
			              c->spread[i][k].high_ln);
	bool bad = ferror(f) != 0;
	bad = fclose(f) || bad;
	bad = bad || rename(beside, path);
	if (bad)
		(void)remove(beside);
	pl_arena_free(a);
	return bad ? pl_fail(err, PL_ERR_IO, path, "the file cannot be written: %s", strerror(errno)) : 0;
}

/* ---- in ----------------------------------------------------------------------------------------------------------------------- */

static int find_name(const char *(*name)(int), int n, const char *text)
{
	for (int i = 0; i < n; i++)
		if (!strcmp(name(i), text))
			return i;
	return -1;
}

static const char *class_at(int i)
{
	return pl_class_name((enum pl_answer_class)i);
}

static double cell_number(const char *text)
{
	char *end;
	double n = strtod(text, &end);
	return end == text || *end || !isfinite(n) ? NAN : n;
}

static int read_row(struct pl_constants *c, struct pl_effect *effects, const char *const *cells, const char *path, uint32_t line, struct pl_err *err)
{
	double value = cell_number(cells[4]), spread = cell_number(cells[5]);
	uint32_t key;
	if (isnan(value) || isnan(spread) || fabs(value) > 20)
		return pl_fail(err, PL_ERR_FORMAT, path, "row %u: '%.20s' and '%.20s' are no numbers of a constant", line, cells[4], cells[5]);
	if (!strcmp(cells[0], "effect")) {
		if (!pl_effect_parse(cells[1], cells[2], cells[3], &key))
			return pl_fail(err, PL_ERR_FORMAT, path, "row %u: there is no constant '%.30s' of %.20s '%.60s'", line, cells[1], cells[2], cells[3]);
		effects[c->n_effects++] = (struct pl_effect){key, (float)value, (float)spread, (uint32_t)fmax(0, cell_number(cells[6]))};
		return 0;
	}
	int class = find_name(class_at, PL_CLASS_COUNT, cells[1]), kin = atoi(cells[3]);
	if (strcmp(cells[0], "interval") != 0 || class < 0 || kin < 0 || kin > PL_KIN_NONE)
		return pl_fail(err, PL_ERR_FORMAT, path, "row %u: '%.30s' is neither effect nor interval of a class", line, cells[0]);
	c->spread[class][kin] = (struct pl_spread){value, spread};
	return 0;
}

static int by_effect(const void *x, const void *y)
{
	const struct pl_effect *a = x, *b = y;
	return a->key < b->key ? -1 : a->key > b->key;
}

int pl_constants_load(struct pl_arena *a, const char *path, const struct pl_constants **ret, struct pl_err *err)
{
	static const char *const columns[] = {"kind", "name", "scope", "context", "value", "spread", "n_devices"};
	const struct pl_constants *shipped = pl_constants_shipped();
	const struct pl_table *t;
	int at[7];
	int rc = pl_table_load(a, path, &t, err);
	for (int i = 0; i < 7 && !rc; i++)
		if ((at[i] = pl_table_column(t, columns[i])) < 0)
			rc = pl_fail(err, PL_ERR_FORMAT, path, "the table has no column '%s'", columns[i]);
	if (rc)
		return rc;
	struct pl_constants *c = PL_NEW(a, struct pl_constants);
	struct pl_effect *e = PL_NEW_N(a, struct pl_effect, (uint64_t)t->n_rows + shipped->n_effects + 1);
	if (!c || !e)
		return pl_fail(err, PL_ERR_NOMEM, path, "out of memory");
	memcpy(c->spread, shipped->spread, sizeof c->spread);
	for (uint32_t r = 0; r < t->n_rows && !rc; r++) {
		const char *cells[7];
		for (int i = 0; i < 7; i++)
			cells[i] = t->rows[r].cells[at[i]];
		rc = read_row(c, e, cells, path, r + 1, err);
	}
	if (rc)
		return rc;
	uint32_t own = c->n_effects;
	qsort(e, own, sizeof *e, by_effect);
	c->effects = e;
	for (uint32_t i = 0; i < shipped->n_effects; i++) {
		struct pl_constants mine = {.effects = e, .n_effects = own};
		if (!pl_effect_find(&mine, shipped->effects[i].key))
			e[c->n_effects++] = shipped->effects[i];
	}
	qsort(e, c->n_effects, sizeof *e, by_effect);
	*ret = c;
	return 0;
}
