#include <math.h>
#include <string.h>

#include "base/fmt.h"
#include "report/json.h"
#include "report/report.h"

static json_t *percentiles(const struct pl_percentiles *p)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "mean", rj_real(p->mean), "p50", rj_real(p->p50), "p90", rj_real(p->p90), "p95", rj_real(p->p95), "p99",
	                 rj_real(p->p99), "max", rj_real(p->max));
}

json_t *pl_report_bench_json(const char *point, const struct pl_bench_result *r)
{
	json_t *faults = json_object();
	for (int f = 1; f < PL_REQUEST_FAULT_COUNT; f++)
		if (r->n_faults[f])
			(void)json_object_set_new(faults, pl_request_fault_name((enum pl_request_fault)f), json_integer((json_int_t)r->n_faults[f]));
	json_t *o = json_pack("{s:s, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "load", point, "n_ok", (json_int_t)r->n_ok, "n_failed",
	                      (json_int_t)r->n_failed, "faults", faults, "wall_s", rj_real(r->wall_s), "ttft_s", percentiles(&r->ttft_s), "tpot_s",
	                      percentiles(&r->tpot_s), "itl_s", percentiles(&r->itl_s), "e2e_s", percentiles(&r->e2e_s), "requests_per_s",
	                      rj_real(r->requests_per_s), "output_tokens_per_s", rj_real(r->output_tokens_per_s));
	json_t *more = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:b}", "prompt_tokens_per_s", rj_real(r->prompt_tokens_per_s), "goodput_per_s",
	                         rj_real(r->goodput_per_s), "good_frac", rj_real(r->good_frac), "mean_concurrency", rj_real(r->mean_concurrency),
	                         "client_cpu_frac", rj_real(r->client_cpu_frac), "lag_s", percentiles(&r->lag_s), "client_bound",
	                         (int)r->client_bound, "interrupted", (int)r->interrupted);
	(void)json_object_update(o, more);
	json_decref(more);
	return o;
}

static double number(const json_t *o, const char *a, const char *b)
{
	const json_t *v = json_object_get(o, a);
	if (b)
		v = json_object_get(v, b);
	return json_is_number(v) ? json_number_value(v) : NAN;
}

static void cell(FILE *out, double v, int width)
{
	char text[PL_FMT_MAX];
	(void)fprintf(out, " %*s", width, isfinite(v) ? pl_fmt_sig3(text, v) : "-");
}

void pl_report_bench_header(FILE *out, bool slo)
{
	const char *done = pl_tr("done"), *failed = pl_tr("failed");
	(void)fprintf(out, "%-12s %*s %*s %9s %9s %23s %23s %19s%s\n", "", pl_text_width(done, 7), done, pl_text_width(failed, 6), failed, pl_tr("req/s"), pl_tr("tok/s"),
	              "TTFT ms p50/p90/p99", "TPOT ms p50/p90/p99", "E2E s p50/p99", slo ? pl_tr("   good") : "");
}

static void triple(FILE *out, const json_t *o, const char *key, double scale)
{
	static const char *const at[] = {"p50", "p90", "p99"};
	for (int i = 0; i < 3; i++)
		cell(out, number(o, key, at[i]) * scale, 7);
}

/* From the JSON, so that a point read back from the store prints the same. */
void pl_report_bench_line(FILE *out, const json_t *o, bool slo)
{
	(void)fprintf(out, "%-12s %7.0f %6.0f", json_string_value(json_object_get(o, "load")), number(o, "n_ok", NULL), number(o, "n_failed", NULL));
	cell(out, number(o, "requests_per_s", NULL), 9);
	cell(out, number(o, "output_tokens_per_s", NULL), 9);
	triple(out, o, "ttft_s", 1e3);
	triple(out, o, "tpot_s", 1e3);
	cell(out, number(o, "e2e_s", "p50"), 9);
	cell(out, number(o, "e2e_s", "p99"), 9);
	if (slo)
		(void)fprintf(out, " %5.1f %%", 100 * number(o, "good_frac", NULL));
	(void)fputc('\n', out);
}

void pl_report_bench_remarks(FILE *out, const json_t *o)
{
	const char *key;
	json_t *n;
	json_object_foreach(json_object_get(o, "faults"), key, n)
		(void)fprintf(out, pl_tr("  %-12s %lld request(s)\n"), key, (long long)json_integer_value(n));
	double cpu = number(o, "client_cpu_frac", NULL), lag = number(o, "lag_s", "p99");
	(void)fprintf(out, pl_tr("  client       %.0f %% of a core"), 100 * cpu);
	if (isfinite(lag))
		(void)fprintf(out, pl_tr(", sends %.2f ms behind plan at p99"), 1e3 * lag);
	(void)fprintf(out, "%s\n", json_is_true(json_object_get(o, "client_bound")) ? pl_tr(": it may have been the bottleneck") : "");
}
