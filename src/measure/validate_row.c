/* What a kind of table reads from a row and records about it. */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <plimsoll/catalog.h>

#include "measure/validator.h"

/* ---- reasons and classes ------------------------------------------------------------------------------------------ */

void pl_vrow_reason(struct pl_vrow *r, const char *fmt, ...)
{
	va_list ap;
	if (r->reason)
		return;
	va_start(ap, fmt);
	r->reason = pl_arena_vprintf(r->a, pl_tr(fmt), ap);
	va_end(ap);
}

void pl_vrow_fault(struct pl_vrow *r, const struct pl_err *err)
{
	if (*err->where && !strstr(err->msg, err->where))
		pl_vrow_reason(r, "%s: %s", err->where, err->msg);
	else
		pl_vrow_reason(r, "%s", err->msg);
}

void pl_vrow_class(struct pl_vrow *r, const char *key, const char *value)
{
	size_t used = strlen(r->classes), room = sizeof r->classes - used;
	if (!value || !*value)
		return;
	int n = snprintf(r->classes + used, room, "%s%s=%s", used ? ";" : "", key, value);
	if (n < 0 || (size_t)n >= room) {
		r->classes[used] = 0; /* a value of hostile length tells nothing */
		return;
	}
	for (char *p = r->classes + used + (used ? 1 : 0); *p; p++)
		*p = *p == ';' || *p == '\n' || *p == '\r' ? ' ' : (char)tolower((unsigned char)*p);
}

void pl_vrow_model_classes(struct pl_vrow *r, const struct pl_model *m)
{
	struct pl_model_kinds k = pl_model_kinds(m);
	pl_vrow_class(r, "ffn", k.experts ? "moe" : "dense");
	pl_vrow_class(r, "attention", k.state ? "hybrid" : k.latent ? "mla" : k.window ? "swa" : "gqa");
}

/* ---- cells ---------------------------------------------------------------------------------------------------------- */

const char *pl_vrow_text(const struct pl_vrow *r, const char *column)
{
	int i = pl_table_column(r->v->table, column);
	return i < 0 ? "" : r->row->cells[i];
}

bool pl_vrow_is(const struct pl_vrow *r, const char *column, const char *text)
{
	return !strcasecmp(pl_vrow_text(r, column), text);
}

/* false: blank, or no number (then *ret_why says so). */
static bool read_cell(struct pl_vrow *r, const char *column, double least, double most, double *ret, const char **ret_why)
{
	const char *text = pl_vrow_text(r, column);
	char *end;
	*ret_why = NULL;
	if (!*text)
		return false;
	double n = strtod(text, &end);
	if (end == text || *end || !isfinite(n) || !strpbrk(text, "0123456789") || strpbrk(text, "xXpP")) {
		*ret_why = pl_arena_printf(r->a, pl_tr("%s: '%.40s' is not a number"), column, text);
		return false;
	}
	if (n < least || n > most) {
		*ret_why = pl_arena_printf(r->a, pl_tr("%s: %.40s is outside %g to %g"), column, text, least, most);
		return false;
	}
	*ret = n;
	return true;
}

double pl_vrow_number(struct pl_vrow *r, const char *column, double least, double most)
{
	const char *why;
	double n;
	if (read_cell(r, column, least, most, &n, &why))
		return n;
	if (why)
		pl_vrow_reason(r, "%s", why);
	return NAN;
}

uint64_t pl_vrow_whole(struct pl_vrow *r, const char *column, uint64_t least, uint64_t most, uint64_t fallback)
{
	double n = pl_vrow_number(r, column, (double)least, (double)most);
	if (isnan(n))
		return fallback;
	if (n != floor(n)) {
		pl_vrow_reason(r, "%s: %g is not a whole number", column, n);
		return fallback;
	}
	return (uint64_t)n;
}

/* ---- measurements ---------------------------------------------------------------------------------------------------- */

struct pl_prediction *pl_vrow_measured_value(struct pl_vrow *r, const char *metric, double measured, double resolution)
{
	enum { MAX = sizeof r->made / sizeof *r->made };
	struct pl_prediction *p = r->n_made < MAX ? PL_NEW(r->a, struct pl_prediction) : NULL;
	if (!p)
		return NULL;
	*p = (struct pl_prediction){.metric = metric, .measured = measured, .resolution = resolution, .predicted = NAN, .low = NAN,
	                            .high = NAN, .status = PL_UNMAPPED};
	r->made[r->n_made++] = p;
	return p;
}

/* Half of the last digit that stands in the cell. */
static double resolution_of(const char *text)
{
	const char *dot = strchr(text, '.');
	if (strpbrk(text, "eE"))
		return 0;
	return 0.5 * pow(10, dot ? -(double)strspn(dot + 1, "0123456789") : 0);
}

struct pl_prediction *pl_vrow_measured(struct pl_vrow *r, const char *metric, const char *column, double scale)
{
	const char *why;
	double n;
	bool ok = read_cell(r, column, -1e300, 1e300, &n, &why);
	if (!ok && !why)
		return NULL;
	struct pl_prediction *p =
	    pl_vrow_measured_value(r, metric, ok ? n * scale : NAN, ok ? resolution_of(pl_vrow_text(r, column)) * scale : 0);
	if (p && !ok) {
		p->reason = why;
		return NULL;
	}
	if (p && !(n > 0)) {
		pl_vrow_flag(r, p, "%s: %g is not above zero", column, n);
		return NULL;
	}
	return p;
}

void pl_vrow_predict(struct pl_prediction *p, double predicted, double low, double high)
{
	if (!p || p->status == PL_FLAGGED)
		return;
	p->predicted = predicted;
	p->low = low;
	p->high = high;
	p->status = isfinite(predicted) ? PL_PREDICTED : PL_UNMAPPED;
}

void pl_vrow_flag(struct pl_vrow *r, struct pl_prediction *p, const char *fmt, ...)
{
	va_list ap;
	if (!p)
		return;
	va_start(ap, fmt);
	p->reason = pl_arena_vprintf(r->a, pl_tr(fmt), ap);
	va_end(ap);
	p->status = PL_FLAGGED;
}

/* ---- models and machines ------------------------------------------------------------------------------------------------ */

/* The entry kept under key; *ret_fresh: it is new and still to be filled. */
static struct pl_kept *kept(struct pl_validator *v, struct pl_nameset *set, const char *key, bool *ret_fresh)
{
	struct pl_named *e = pl_nameset_entry(v->a, set, key, v->n_things, ret_fresh);
	if (!e)
		return NULL;
	if (!*ret_fresh)
		return &v->things[e->value];
	e->name = pl_arena_strdup(v->a, key);
	if (v->n_things == v->cap_things) {
		uint32_t cap = v->cap_things ? v->cap_things * 2 : 64;
		v->things = pl_arena_grow(v->a, v->things, v->cap_things, cap, sizeof *v->things);
		v->cap_things = cap;
	}
	return v->things ? &v->things[v->n_things++] : NULL;
}

static const void *answer(struct pl_vrow *r, const struct pl_kept *k)
{
	if (k && !k->thing)
		pl_vrow_reason(r, "%s", k->why_not ? k->why_not : "?");
	return k ? k->thing : NULL;
}

const struct pl_model *pl_vrow_model(struct pl_vrow *r, const char *ref, const char *quant)
{
	struct pl_validator *v = r->v;
	const struct pl_model_row *row;
	const struct pl_model *m = NULL;
	struct pl_err err = {0};
	bool fresh;
	if (!*ref) {
		pl_vrow_reason(r, "the row names no model");
		return NULL;
	}
	struct pl_kept *k = kept(v, &v->models, pl_arena_printf(r->a, "%s\n%s", ref, quant ? quant : ""), &fresh);
	if (k && fresh) {
		if (!pl_model_row_find(ref, &row, &err) &&
		    !pl_model_from_config(v->a, row->id, row->config_json, row->config_len, quant, &m, &err))
			k->thing = m;
		else
			k->why_not = pl_arena_strdup(v->a, err.msg);
	}
	return answer(r, k);
}

const struct pl_machine *pl_vrow_machine(struct pl_vrow *r, const char *line)
{
	struct pl_validator *v = r->v;
	const struct pl_machine *hw = NULL;
	struct pl_err err = {0};
	bool fresh;
	if (!*line) {
		pl_vrow_reason(r, "the row names no hardware");
		return NULL;
	}
	struct pl_kept *k = kept(v, &v->machines, line, &fresh);
	if (k && fresh) {
		if (!pl_machine_parse(v->a, line, &hw, &err))
			k->thing = hw;
		else
			k->why_not = pl_arena_strdup(v->a, err.msg);
	}
	return answer(r, k);
}
