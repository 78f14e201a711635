#include <csv.h>
#include <string.h>

#include "measure/table.h"

struct reader {
	struct pl_arena *a;
	struct pl_table *t;
	const char **cells; /* of the row being read */
	uint32_t n_cells, n_extra, cap_rows;
	bool has_nul, any_text, too_wide;
	int rc;
	struct pl_err *err;
};

static void on_cell(void *text, size_t len, void *data)
{
	struct reader *r = data;
	if (r->rc)
		return;
	if (r->n_cells == PL_TABLE_MAX_COLUMNS) {
		r->n_extra++;
		return;
	}
	char *copy = pl_arena_strndup(r->a, len ? text : "", len);
	if (!copy) {
		r->rc = pl_fail(r->err, PL_ERR_NOMEM, r->t->name, "out of memory while reading the table");
		return;
	}
	r->has_nul = r->has_nul || (len && memchr(text, 0, len));
	r->any_text = r->any_text || len;
	r->cells[r->n_cells++] = copy;
}

static void take_header(struct reader *r)
{
	struct pl_table *t = r->t;
	if (r->n_extra) {
		r->rc = pl_fail(r->err, PL_ERR_LIMIT, t->name, "the table has %u columns, at most %d are read", r->n_cells + r->n_extra,
		                PL_TABLE_MAX_COLUMNS);
		return;
	}
	t->columns = PL_NEW_N(r->a, const char *, r->n_cells);
	for (uint32_t i = 0; t->columns && i < r->n_cells; i++) {
		t->columns[i] = r->cells[i];
		for (uint32_t k = 0; k < i; k++)
			if (*t->columns[i] && !strcmp(t->columns[k], t->columns[i]))
				r->rc = pl_fail(r->err, PL_ERR_FORMAT, t->name, "two columns are called '%.60s'", t->columns[i]);
	}
	t->n_columns = r->n_cells;
}

static void take_row(struct reader *r)
{
	struct pl_table *t = r->t;
	if (t->n_rows == PL_TABLE_MAX_ROWS) {
		r->rc = pl_fail(r->err, PL_ERR_LIMIT, t->name, "the table has more than %d rows", PL_TABLE_MAX_ROWS);
		return;
	}
	if (t->n_rows == r->cap_rows) {
		uint32_t cap = r->cap_rows ? r->cap_rows * 2 : 256;
		t->rows = pl_arena_grow(r->a, t->rows, r->cap_rows, cap, sizeof *t->rows);
		r->cap_rows = cap;
	}
	const char **cells = PL_NEW_N(r->a, const char *, t->n_columns);
	if (!t->rows || !cells) {
		r->rc = pl_fail(r->err, PL_ERR_NOMEM, t->name, "out of memory while reading the table");
		return;
	}
	for (uint32_t i = 0; i < t->n_columns; i++)
		cells[i] = i < r->n_cells ? r->cells[i] : "";
	t->rows[t->n_rows++] = (struct pl_table_row){cells, r->n_cells + r->n_extra, r->has_nul};
}

static void on_row(int end, void *data)
{
	struct reader *r = data;
	(void)end;
	if (!r->rc && r->any_text) {
		if (!r->t->columns)
			take_header(r);
		else
			take_row(r);
	}
	r->n_cells = r->n_extra = 0;
	r->has_nul = r->any_text = false;
}

int pl_table_read(struct pl_arena *a, const char *name, const char *text, size_t len, const struct pl_table **ret,
                  struct pl_err *err)
{
	enum { BLOCK = 1 << 16 };
	struct reader r = {.a = a, .t = PL_NEW(a, struct pl_table), .cells = PL_NEW_N(a, const char *, PL_TABLE_MAX_COLUMNS), .err = err};
	struct csv_parser p;
	if (!r.t || !r.cells || csv_init(&p, 0))
		return pl_fail(err, PL_ERR_NOMEM, name, "out of memory while reading the table");
	r.t->name = name;
	if (len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) {
		text += 3;
		len -= 3;
	}
	while (len && !r.rc) { /* in blocks, so that a fault stops the reading early */
		size_t n = len < BLOCK ? len : BLOCK;
		if (csv_parse(&p, text, n, on_cell, on_row, &r) != n && !r.rc)
			r.rc = pl_fail(err, PL_ERR_FORMAT, name, "the table cannot be read: %s", csv_strerror(csv_error(&p)));
		text += n;
		len -= n;
	}
	if (!r.rc)
		(void)csv_fini(&p, on_cell, on_row, &r);
	csv_free(&p);
	if (!r.rc && (!r.t->columns || !r.t->n_columns))
		r.rc = pl_fail(err, PL_ERR_FORMAT, name, "the table is empty: its first line must name its columns");
	if (!r.rc && pl_arena_failed(a))
		r.rc = pl_fail(err, PL_ERR_NOMEM, name, "out of memory while reading the table");
	if (!r.rc)
		*ret = r.t;
	return r.rc;
}

int pl_table_column(const struct pl_table *t, const char *column)
{
	for (uint32_t i = 0; i < t->n_columns; i++)
		if (!strcmp(t->columns[i], column))
			return (int)i;
	return -1;
}

const char *pl_table_cell(const struct pl_table *t, uint32_t row, const char *column)
{
	int c = pl_table_column(t, column);
	return c < 0 || t->rows[row].n_cells != t->n_columns ? "" : t->rows[row].cells[c];
}
