/* Tables of measurements against predictions: which kind a table is, its rows one by one, the rows that come out. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <plimsoll/source.h>

#include "base/checked.h"
#include "measure/fit_served.h"
#include "measure/local_case.h"
#include "measure/served_case.h"
#include "measure/validate.h"
#include "measure/observe.h"
#include "source/source.h"

static const struct pl_table_kind *const kinds[] = {
    &pl_kind_llamacpp_memory,
    &pl_kind_serving_memory,
    &pl_kind_params,
    &pl_kind_gguf_sizes,
    &pl_kind_gguf_sums,
    &pl_kind_safetensors_sizes,
    &pl_kind_local_perf,
    &pl_kind_silicon_sample,
    &pl_kind_serving_perf,
    &pl_kind_startup,
    &pl_kind_served_power,
};
enum { N_KINDS = sizeof kinds / sizeof *kinds };

const char *pl_prediction_status_name(enum pl_prediction_status s)
{
	static const char *const names[] = {"ok", "flagged", "unmapped"};
	return (unsigned)s < 3 ? names[s] : "?";
}

/* ---- the kind of a table ------------------------------------------------------------------------------------------ */

static uint32_t columns_present(const struct pl_table_kind *k, const struct pl_table *t, uint32_t *ret_of)
{
	uint32_t n = 0, of = 0;
	for (; k->columns[of]; of++)
		n += pl_table_column(t, k->columns[of]) >= 0;
	*ret_of = of;
	return n;
}

/* The kind with the largest share of its columns in the table, and that at least a half: a table that lost a column is
 * still told, and its rows say what they miss. */
static int find_kind(const struct pl_table *t, const struct pl_table_kind **ret, struct pl_err *err)
{
	const struct pl_table_kind *best = NULL;
	double most = 0;
	char known[256] = "";
	size_t used = 0;
	for (uint32_t i = 0; i < N_KINDS; i++) {
		uint32_t of, n = columns_present(kinds[i], t, &of);
		double share = (double)n / of;
		if (share > most) {
			most = share;
			best = kinds[i];
		}
		int len = snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", kinds[i]->name);
		if (len > 0 && used + (size_t)len < sizeof known)
			used += (size_t)len;
	}
	if (most < 0.5)
		return pl_fail(err, PL_ERR_FORMAT, t->name, "the columns are those of no kind of table that can be checked; there are: %s", known);
	*ret = best;
	return 0;
}

static bool note_missing(struct pl_validator *v)
{
	uint32_t of, n = columns_present(v->kind, v->table, &of);
	if (n == of)
		return true;
	v->out.missing_columns = PL_NEW_N(v->a, const char *, of - n);
	for (uint32_t i = 0; v->out.missing_columns && i < of; i++)
		if (pl_table_column(v->table, v->kind->columns[i]) < 0)
			v->out.missing_columns[v->out.n_missing_columns++] = v->kind->columns[i];
	return v->out.missing_columns != NULL;
}

/* ---- rows --------------------------------------------------------------------------------------------------------- */

static struct pl_prediction *keep(struct pl_validator *v, const struct pl_prediction *p)
{
	if (v->n_kept == v->cap_kept) {
		uint32_t cap = v->cap_kept ? v->cap_kept * 2 : 1024;
		v->kept = pl_arena_grow(v->a, v->kept, v->cap_kept, cap, sizeof *v->kept);
		if (!v->kept)
			return NULL;
		v->cap_kept = cap;
	}
	v->kept[v->n_kept] = *p;
	return &v->kept[v->n_kept++];
}

/* Texts of a row live as long as the validation; equal ones once. */
static const char *lasting(struct pl_validator *v, const char *text)
{
	bool fresh;
	struct pl_named *e;
	if (!text)
		return NULL;
	e = pl_nameset_entry(v->a, &v->texts, text, 0, &fresh);
	if (e && fresh)
		e->name = pl_arena_strdup(v->a, text);
	return e ? e->name : NULL;
}

static void close_row(struct pl_vrow *r)
{
	static const struct pl_prediction nothing = {.metric = "-", .measured = NAN, .predicted = NAN, .low = NAN, .high = NAN,
	                                             .status = PL_UNMAPPED};
	struct pl_validator *v = r->v;
	const char *id = pl_vrow_text(r, "id"), *classes = lasting(v, r->classes);
	const char *lasting_id = *id ? lasting(v, id) : lasting(v, pl_arena_printf(r->a, "row %u", r->index + 1));
	if (!r->n_made && !r->reason)
		pl_vrow_reason(r, "nothing that this kind of table is checked for was measured");
	for (uint32_t i = 0; i < r->n_made || (!i && !r->n_made); i++) {
		struct pl_prediction *p = keep(v, r->n_made ? r->made[i] : &nothing);
		if (!p)
			return;
		if (p->status == PL_UNMAPPED && !p->reason)
			p->reason = r->reason ? r->reason : pl_tr("nothing is modelled for this number");
		p->id = lasting_id;
		p->row = r->index + 1;
		p->metric = lasting(v, p->metric);
		p->classes = classes;
		p->reason = lasting(v, p->reason);
	}
}

static int one_row(struct pl_validator *v, uint32_t index, struct pl_err *err)
{
	struct pl_vrow r = {.a = pl_arena_new(0), .v = v, .index = index, .row = &v->table->rows[index]};
	if (!r.a)
		return pl_fail(err, PL_ERR_NOMEM, v->table->name, "out of memory in row %u", index + 1);
	if (r.row->n_cells != v->table->n_columns)
		pl_vrow_reason(&r, "the row has %u cells where the header has %u", r.row->n_cells, v->table->n_columns);
	else if (r.row->has_nul)
		pl_vrow_reason(&r, "a cell holds a zero byte");
	else
		v->kind->map(&r);
	close_row(&r);
	pl_arena_free(r.a);
	return pl_arena_failed(v->a) ? pl_fail(err, PL_ERR_NOMEM, v->table->name, "out of memory in row %u", index + 1) : 0;
}

int pl_table_load(struct pl_arena *a, const char *path, const struct pl_table **ret, struct pl_err *err)
{
	char *text;
	size_t len;
	int rc = pl_load_text(a, path, PL_TABLE_MAX_BYTES, &text, &len, err);
	return rc ? rc : pl_table_read(a, pl_arena_strdup(a, path), text, len, ret, err);
}

int pl_validator_open(struct pl_arena *a, const char *path, struct pl_validator **ret, struct pl_err *err)
{
	struct pl_validator *v = PL_NEW(a, struct pl_validator);
	if (!v)
		return pl_fail(err, PL_ERR_NOMEM, path, "out of memory");
	v->a = a;
	int rc = pl_table_load(a, path, &v->table, err);
	if (!rc)
		rc = find_kind(v->table, &v->kind, err);
	if (rc)
		return rc;
	v->out.table = v->table->name;
	v->out.kind = v->kind->name;
	v->out.n_rows = v->table->n_rows;
	if (!note_missing(v))
		return pl_fail(err, PL_ERR_NOMEM, path, "out of memory");
	*ret = v;
	return 0;
}

static int leave_out_by(const char *what, enum pl_leave_out *ret, struct pl_err *err)
{
	static const char *const names[] = {"none", "device", "model", "source"};
	for (int i = 0; i < 4; i++)
		if (!strcmp(what, names[i])) {
			*ret = (enum pl_leave_out)i;
			return 0;
		}
	return pl_fail(err, PL_ERR_USAGE, "--leave-out", "'%.40s' is none of device, model, source", what);
}

int pl_validate_with(struct pl_arena *a, const char *path, const struct pl_validate_options *o, const struct pl_validation **ret,
                     struct pl_err *err)
{
	struct pl_validator *v = NULL;
	enum pl_leave_out by = PL_LEAVE_NONE;
	int rc = pl_validator_open(a, path, &v, err);
	if (!rc && o->leave_out)
		rc = leave_out_by(o->leave_out, &by, err);
	bool served = v && v->kind == &pl_kind_silicon_sample;
	if (!rc && by && !v->kind->observe && !served)
		rc = pl_fail(err, PL_ERR_UNSUPPORTED, path, "nothing is fitted on tables of kind %s", v->kind->name);
	if (rc)
		return rc;
	v->constants = o->constants;
	if (by && served)
		rc = pl_served_hold_out(v, by == PL_LEAVE_DEVICE ? PL_SERVED_BY_DEVICE : by == PL_LEAVE_MODEL ? PL_SERVED_BY_MODEL : PL_SERVED_BY_PAIR, err);
	else if (by)
		rc = pl_hold_out(v, by, err);
	for (uint32_t i = 0; i < v->table->n_rows && !rc; i++)
		rc = one_row(v, i, err);
	if (rc)
		return rc;
	v->out.predictions = v->kept;
	v->out.n_predictions = v->n_kept;
	if (!pl_validation_summarise(v))
		return pl_fail(err, PL_ERR_NOMEM, path, "out of memory while summing up");
	*ret = &v->out;
	return 0;
}

int pl_validate(struct pl_arena *a, const char *path, const struct pl_validation **ret, struct pl_err *err)
{
	return pl_validate_with(a, path, &(struct pl_validate_options){0}, ret, err);
}

/* ---- rows out ------------------------------------------------------------------------------------------------------- */

static void put_text(FILE *f, const char *text, char end)
{
	text = text ? text : "";
	if (strpbrk(text, ",\"\r\n")) {
		(void)fputc('"', f);
		for (; *text; text++) {
			if (*text == '"')
				(void)fputc('"', f);
			(void)fputc(*text, f);
		}
		(void)fputc('"', f);
	} else {
		(void)fputs(text, f);
	}
	(void)fputc(end, f);
}

static void put_number(FILE *f, double n)
{
	if (isfinite(n))
		(void)fprintf(f, "%.15g", n);
	(void)fputc(',', f);
}

int pl_validation_write_rows(const struct pl_validation *v, const char *path, struct pl_err *err)
{
	size_t len = strlen(path) + 8;
	char *beside = malloc(len);
	if (!beside)
		return pl_fail(err, PL_ERR_NOMEM, path, "out of memory");
	(void)snprintf(beside, len, "%s.part", path);
	FILE *f = fopen(beside, "wb");
	if (!f) {
		int rc = pl_fail(err, PL_ERR_IO, beside, "the file cannot be written: %s", strerror(errno));
		free(beside);
		return rc;
	}
	(void)fputs("id,metric,class,measured,predicted,low,high,status,reason\n", f);
	for (uint32_t i = 0; i < v->n_predictions; i++) {
		const struct pl_prediction *p = &v->predictions[i];
		put_text(f, p->id, ',');
		put_text(f, p->metric, ',');
		put_text(f, p->classes, ',');
		put_number(f, p->measured);
		put_number(f, p->predicted);
		put_number(f, p->low);
		put_number(f, p->high);
		put_text(f, pl_prediction_status_name(p->status), ',');
		put_text(f, p->reason, '\n');
	}
	bool bad = ferror(f) != 0;
	bad = fclose(f) || bad;
	bad = bad || rename(beside, path);
	int rc = bad ? pl_fail(err, PL_ERR_IO, path, "the file cannot be written: %s", strerror(errno)) : 0;
	if (bad)
		(void)remove(beside);
	free(beside);
	return rc;
}
