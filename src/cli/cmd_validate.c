#include <math.h>
#include <string.h>

#include <jansson.h>

#include <plimsoll/calibrate.h>
#include <plimsoll/measure.h>

#include "base/fmt.h"
#include "cli/cli.h"
#include "report/json.h"

#define _(s) pl_tr(s)

static const char *percent(char *buf, double frac)
{
	return isfinite(frac) ? pl_fmt_percent(buf, frac) : "-";
}

static void print_class(FILE *out, const struct pl_accuracy *c)
{
	char coverage[PL_FMT_MAX], median[PL_FMT_MAX], p90[PL_FMT_MAX], bias[PL_FMT_MAX], inside[PL_FMT_MAX];
	(void)fprintf(out, "  %-34s %5u %5u %5u %5u %9s %9s %9s %9s %5u %9s\n", c->class_name, c->n, c->n_ok, c->n_flagged, c->n_unmapped,
	              percent(coverage, c->coverage_frac), percent(median, c->median_error_frac), percent(p90, c->p90_error_frac),
	              percent(bias, c->bias_frac), c->n_exact, percent(inside, c->interval_coverage_frac));
}

/* A heading in a column: text of another width than its bytes is padded by hand. */
static void heading(FILE *out, const char *text, int width)
{
	for (int n = pl_text_columns(text); n < width; n++)
		(void)fputc(' ', out);
	(void)fputs(text, out);
}

static void print_head(FILE *out, const char *metric)
{
	int n = pl_text_columns(metric);
	(void)fputs(metric, out);
	for (; n < 36; n++)
		(void)fputc(' ', out);
	heading(out, _("n"), 6);
	heading(out, _("ok"), 6);
	heading(out, _("flag"), 6);
	heading(out, _("unmap"), 6);
	heading(out, _("coverage"), 10);
	heading(out, _("median"), 10);
	heading(out, _("P90"), 10);
	heading(out, _("bias"), 10);
	heading(out, _("exact"), 6);
	heading(out, _("in 80 %"), 10);
	(void)fputc('\n', out);
}

static void print_text(FILE *out, const struct pl_validation *v)
{
	enum { MAX_REASONS = 24 };
	const char *metric = "";
	(void)fprintf(out, _("%s: a table of kind %s, %u rows, %u numbers\n"), v->table, v->kind, v->n_rows, v->n_predictions);
	for (uint32_t i = 0; i < v->n_missing_columns; i++)
		(void)fprintf(out, _("the table has no column '%s': what depends on it is unmapped\n"), v->missing_columns[i]);
	for (uint32_t i = 0; i < v->n_accuracy; i++) {
		if (strcmp(metric, v->accuracy[i].metric) != 0) {
			metric = v->accuracy[i].metric;
			(void)fputc('\n', out);
			print_head(out, metric);
		}
		print_class(out, &v->accuracy[i]);
	}
	if (v->n_reasons)
		(void)fprintf(out, "\n%s\n", _("not predicted or flagged, and why"));
	for (uint32_t i = 0; i < v->n_reasons && i < MAX_REASONS; i++)
		(void)fprintf(out, _("  %5u  %s (first: %s)\n"), v->reasons[i].n, v->reasons[i].reason, v->reasons[i].first_id);
	if (v->n_reasons > MAX_REASONS)
		(void)fprintf(out, _("  and %u more reasons (--json lists all, --rows names every row)\n"), v->n_reasons - MAX_REASONS);
}

/* NAN has no place in JSON: null. */
static json_t *class_json(const struct pl_accuracy *c)
{
	return json_pack("{s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:o, s:o, s:o, s:o, s:o}", "metric", c->metric, "class", c->class_name,
	                 "n", (int)c->n, "n_ok", (int)c->n_ok, "n_flagged", (int)c->n_flagged, "n_unmapped", (int)c->n_unmapped, "n_exact",
	                 (int)c->n_exact, "n_interval", (int)c->n_interval, "coverage_frac", rj_real(c->coverage_frac), "median_error_frac",
	                 rj_real(c->median_error_frac), "p90_error_frac", rj_real(c->p90_error_frac), "bias_frac", rj_real(c->bias_frac),
	                 "interval_coverage_frac", rj_real(c->interval_coverage_frac));
}

/* Text of a table may hold anything: what is not UTF-8 is not JSON. */
static json_t *text(const char *s)
{
	json_t *o = json_string(s ? s : "");
	return o ? o : json_string("?");
}

static int print_json(FILE *out, const struct pl_validation *v)
{
	json_t *classes = json_array(), *reasons = json_array(), *missing = json_array();
	for (uint32_t i = 0; i < v->n_accuracy; i++) {
		json_t *c = class_json(&v->accuracy[i]);
		(void)json_array_append_new(classes, c ? c : json_null());
	}
	for (uint32_t i = 0; i < v->n_reasons; i++)
		(void)json_array_append_new(reasons, json_pack("{s:o, s:i, s:o}", "reason", text(v->reasons[i].reason), "n", (int)v->reasons[i].n,
		                                               "first_id", text(v->reasons[i].first_id)));
	for (uint32_t i = 0; i < v->n_missing_columns; i++)
		(void)json_array_append_new(missing, json_string(v->missing_columns[i]));
	json_t *o = json_pack("{s:o, s:s, s:i, s:i, s:o, s:o, s:o}", "table", text(v->table), "kind", v->kind, "n_rows", (int)v->n_rows,
	                      "n_predictions", (int)v->n_predictions, "missing_columns", missing, "accuracy", classes, "reasons", reasons);
	struct pl_err err = {0};
	return pl_cli_json(out, o, &err) ? pl_cli_fail(&err) : 0;
}

int cmd_validate(const struct pl_cli *cli)
{
	const uint64_t CEILING_BYTES = (uint64_t)8 << 30;
	struct pl_arena *a = pl_arena_new(CEILING_BYTES);
	const char *rows = pl_cli_text(cli, "rows");
	const struct pl_validation *v;
	struct pl_err err = {0};
	int code = 0;
	if (!a) {
		(void)pl_fail(&err, PL_ERR_NOMEM, NULL, "out of memory");
		return pl_cli_fail(&err);
	}
	const char *calibration = pl_cli_text(cli, "calibration");
	struct pl_validate_options o = {.leave_out = pl_cli_text(cli, "leave-out")};
	int rc = calibration ? pl_constants_load(a, calibration, &o.constants, &err) : 0;
	rc = rc ? rc : pl_validate_with(a, cli->words[0], &o, &v, &err);
	if (!rc && rows)
		rc = pl_validation_write_rows(v, rows, &err);
	if (rc)
		code = pl_cli_fail(&err);
	else if (cli->json)
		code = print_json(cli->out, v);
	else
		print_text(cli->out, v);
	pl_arena_free(a);
	return code;
}
