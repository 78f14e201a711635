#include <math.h>
#include <string.h>

#include "base/fmt.h"
#include "report/json.h"
#include "report/report.h"

json_t *pl_report_verify_json(const char *name, const struct pl_check *checks, uint32_t n)
{
	json_t *list = json_array();
	for (uint32_t i = 0; i < n; i++) {
		const struct pl_check *c = &checks[i];
		(void)json_array_append_new(list, json_pack("{s:s, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:b, s:o}", "metric", c->metric, "where", rj_text(c->where),
		                                            "source", c->source, "predicted", rj_real(c->predicted), "low", rj_real(c->low), "high",
		                                            rj_real(c->high), "measured", rj_real(c->measured), "error_frac", rj_real(c->error_frac), "within",
		                                            (int)c->within, "cause", rj_text(c->cause)));
	}
	return json_pack("{s:s, s:o}", "name", name, "checks", list);
}

static const char *value(char *buf, const char *metric, double v)
{
	if (!isfinite(v))
		return "-";
	if (strstr(metric, "bytes"))
		return pl_fmt_bytes(buf, (uint64_t)v);
	return pl_fmt_sig3(buf, v);
}

/* Text padded by columns, not bytes. */
static void padded(FILE *out, const char *s, int width)
{
	int have = pl_text_columns(s);
	(void)fprintf(out, "%s%*s", s, have < width ? width - have : 0, "");
}

void pl_report_verify_text(FILE *out, const struct pl_check *checks, uint32_t n, const struct pl_style *style)
{
	char a[PL_FMT_MAX], b[PL_FMT_MAX], e[PL_FMT_MAX];
	(void)fprintf(out, "  %-16s ", "");
	padded(out, "", 18);
	padded(out, pl_tr("by"), 8);
	const char *plan = pl_tr("plan"), *truth = pl_tr("truth"), *error = pl_tr("error");
	(void)fprintf(out, "%*s %*s %*s\n", pl_text_width(plan, 12), plan, pl_text_width(truth, 12), truth, pl_text_width(error, 9), error);
	for (uint32_t i = 0; i < n; i++) {
		const struct pl_check *c = &checks[i];
		const char *mark = !isfinite(c->predicted) ? "·" : c->within ? "✔" : "!";
		const char *on = style->color ? (c->within ? "\033[32m" : "\033[33m") : "", *off = style->color ? "\033[0m" : "";
		(void)fprintf(out, "%s%s%s %-16s ", on, mark, off, c->metric);
		padded(out, c->where ? pl_tr(c->where) : "", 18);
		padded(out, pl_tr(c->source), 8);
		(void)fprintf(out, "%12s %12s %9s", value(a, c->metric, c->predicted), value(b, c->metric, c->measured),
		              isfinite(c->error_frac) ? pl_fmt_percent(e, c->error_frac) : "-");
		if (isfinite(c->low))
			(void)fprintf(out, pl_tr("   80 %%: %s to %s"), value(a, c->metric, c->low), value(b, c->metric, c->high));
		(void)fputc('\n', out);
		if (c->cause)
			(void)fprintf(out, "    %s\n", c->cause);
	}
}
