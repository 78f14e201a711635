/* Runs, points and requests in SQLite. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <sqlite3.h>

#include <plimsoll/bench.h>

struct pl_store {
	sqlite3 *db;
	char path[1024];
};

static const char schema[] =
    "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;"
    "CREATE TABLE IF NOT EXISTS run (id INTEGER PRIMARY KEY, config TEXT NOT NULL, label TEXT, started_unix_s INTEGER NOT NULL);"
    "CREATE TABLE IF NOT EXISTS point (id INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES run(id), name TEXT NOT NULL,"
    " summary TEXT NOT NULL, ended_unix_s INTEGER NOT NULL, UNIQUE (run, name));"
    "CREATE TABLE IF NOT EXISTS request (point INTEGER NOT NULL REFERENCES point(id), number INTEGER NOT NULL, planned_s REAL, sent_s REAL,"
    " first_s REAL, last_s REAL, prompt_tokens INTEGER, output_tokens INTEGER, fault TEXT NOT NULL, status INTEGER,"
    " PRIMARY KEY (point, number)) WITHOUT ROWID;";

static int fail(struct pl_store *s, struct pl_err *err)
{
	return pl_fail(err, PL_ERR_IO, s->path, "the store of measurements: %s", s->db ? sqlite3_errmsg(s->db) : "out of memory");
}

void pl_store_close(struct pl_store *s)
{
	if (s)
		(void)sqlite3_close(s->db);
	free(s);
}

int pl_store_open(const char *path, struct pl_store **ret, struct pl_err *err)
{
	struct pl_store *s = calloc(1, sizeof *s);
	if (!s)
		return pl_fail(err, PL_ERR_NOMEM, path, "out of memory");
	(void)snprintf(s->path, sizeof s->path, "%s", path);
	int rc = sqlite3_open_v2(path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);
	if (!rc)
		rc = sqlite3_busy_timeout(s->db, 5000);
	if (!rc)
		rc = sqlite3_exec(s->db, schema, NULL, NULL, NULL);
	if (rc) {
		int code = fail(s, err);
		pl_store_close(s);
		return code;
	}
	*ret = s;
	return 0;
}

/* The first column of the first row that a statement gives for a config and a label. */
static bool one_number(struct pl_store *s, const char *sql, const char *config_json, const char *label, int64_t *ret)
{
	sqlite3_stmt *q = NULL;
	int rc = sqlite3_prepare_v2(s->db, sql, -1, &q, NULL);
	if (!rc) {
		(void)sqlite3_bind_text(q, 1, config_json, -1, SQLITE_STATIC);
		(void)sqlite3_bind_text(q, 2, label, -1, SQLITE_STATIC);
		(void)sqlite3_bind_int64(q, 3, (sqlite3_int64)time(NULL));
		rc = sqlite3_step(q);
		if (rc == SQLITE_ROW)
			*ret = sqlite3_column_int64(q, 0);
	}
	(void)sqlite3_finalize(q);
	return rc == SQLITE_ROW;
}

int pl_store_run(struct pl_store *s, const char *config_json, const char *label, bool resume, int64_t *ret_run, struct pl_err *err)
{
	if (resume && one_number(s, "SELECT id FROM run WHERE config = ?1 AND label = ?2 AND ?3 > 0 ORDER BY id DESC", config_json, label, ret_run))
		return 0;
	bool good = one_number(s, "INSERT INTO run (config, label, started_unix_s) VALUES (?1, ?2, ?3) RETURNING id", config_json, label, ret_run);
	return good ? 0 : fail(s, err);
}

bool pl_store_point_done(struct pl_store *s, struct pl_arena *a, int64_t run, const char *point, const char **ret_summary_json)
{
	sqlite3_stmt *q = NULL;
	bool found = false;
	if (sqlite3_prepare_v2(s->db, "SELECT summary FROM point WHERE run = ?1 AND name = ?2", -1, &q, NULL) == SQLITE_OK) {
		(void)sqlite3_bind_int64(q, 1, run);
		(void)sqlite3_bind_text(q, 2, point, -1, SQLITE_STATIC);
		if (sqlite3_step(q) == SQLITE_ROW) {
			*ret_summary_json = pl_arena_strdup(a, (const char *)sqlite3_column_text(q, 0));
			found = *ret_summary_json != NULL;
		}
	}
	(void)sqlite3_finalize(q);
	return found;
}

static void bind_time(sqlite3_stmt *q, int i, double v)
{
	if (isnan(v))
		(void)sqlite3_bind_null(q, i);
	else
		(void)sqlite3_bind_double(q, i, v);
}

static bool put_requests(struct pl_store *s, sqlite3_int64 point, const struct pl_bench_result *r)
{
	sqlite3_stmt *q = NULL;
	bool good = sqlite3_prepare_v2(s->db, "INSERT INTO request VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)", -1, &q, NULL) == SQLITE_OK;
	for (uint64_t i = 0; i < r->n_requests && good; i++) {
		const struct pl_request_times *t = &r->requests[i];
		(void)sqlite3_bind_int64(q, 1, point);
		(void)sqlite3_bind_int64(q, 2, (sqlite3_int64)i);
		bind_time(q, 3, t->planned_s);
		bind_time(q, 4, t->sent_s);
		bind_time(q, 5, t->first_s);
		bind_time(q, 6, t->last_s);
		(void)sqlite3_bind_int64(q, 7, t->prompt_tokens);
		(void)sqlite3_bind_int64(q, 8, t->output_tokens);
		(void)sqlite3_bind_text(q, 9, pl_request_fault_name(t->fault), -1, SQLITE_STATIC);
		(void)sqlite3_bind_int(q, 10, t->status);
		good = sqlite3_step(q) == SQLITE_DONE && sqlite3_reset(q) == SQLITE_OK;
	}
	(void)sqlite3_finalize(q);
	return good;
}

int pl_store_point(struct pl_store *s, int64_t run, const char *point, const char *summary_json, const struct pl_bench_result *r,
                   struct pl_err *err)
{
	sqlite3_stmt *q = NULL;
	if (sqlite3_exec(s->db, "BEGIN IMMEDIATE", NULL, NULL, NULL))
		return fail(s, err);
	bool good = sqlite3_prepare_v2(s->db, "INSERT INTO point (run, name, summary, ended_unix_s) VALUES (?1, ?2, ?3, ?4)", -1, &q, NULL) == SQLITE_OK;
	if (good) {
		(void)sqlite3_bind_int64(q, 1, run);
		(void)sqlite3_bind_text(q, 2, point, -1, SQLITE_STATIC);
		(void)sqlite3_bind_text(q, 3, summary_json, -1, SQLITE_STATIC);
		(void)sqlite3_bind_int64(q, 4, (sqlite3_int64)time(NULL));
		good = sqlite3_step(q) == SQLITE_DONE;
	}
	(void)sqlite3_finalize(q);
	good = good && put_requests(s, sqlite3_last_insert_rowid(s->db), r);
	int rc = good ? 0 : fail(s, err);
	if (sqlite3_exec(s->db, good ? "COMMIT" : "ROLLBACK", NULL, NULL, NULL) && good)
		rc = fail(s, err);
	return rc;
}
