/* A CSV table in memory: libcsv splits it, this keeps the cells and the faults. */
#ifndef PLIMSOLL_MEASURE_TABLE_H
#define PLIMSOLL_MEASURE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <plimsoll/arena.h>
#include <plimsoll/error.h>

enum { PL_TABLE_MAX_COLUMNS = 256, PL_TABLE_MAX_ROWS = 1000000, PL_TABLE_MAX_BYTES = 256 << 20 };

struct pl_table_row {
	const char **cells; /* n_columns of them, never NULL; missing cells are "" */
	uint32_t n_cells;   /* as found: differs from n_columns in a malformed row */
	bool has_nul;       /* a cell holds a zero byte: it is cut there */
};

struct pl_table {
	const char *name;
	const char **columns;
	uint32_t n_columns;
	struct pl_table_row *rows;
	uint32_t n_rows;
};

/* Comma-separated, quotes doubled inside quotes, a UTF-8 byte order mark skipped, empty lines skipped. Names of columns are
 * trimmed; two of the same name are an error, and so is a table without a header. Everything lives in a. */
int pl_table_read(struct pl_arena *a, const char *name, const char *text, size_t len, const struct pl_table **ret,
                  struct pl_err *err) PL_MUST_CHECK;
/* The same from a file (validate.c). */
int pl_table_load(struct pl_arena *a, const char *path, const struct pl_table **ret, struct pl_err *err) PL_MUST_CHECK;
/* Index of a column, -1 when there is none. */
int pl_table_column(const struct pl_table *t, const char *column);
/* The cell of a row; "" where there is no such column or the row is malformed. */
const char *pl_table_cell(const struct pl_table *t, uint32_t row, const char *column);

#endif
