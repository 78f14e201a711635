/* The speed of a plan as people read it. */
#include <math.h>
#include <string.h>

#include "base/fmt.h"
#include "report/report.h"

#define _(s) pl_tr(s)

enum { LABEL = 26, WIDTH = 100 };

static void label(FILE *out, const char *text)
{
	(void)fprintf(out, "  %s", text);
	for (int n = pl_text_columns(text); n < LABEL; n++)
		(void)fputc(' ', out);
}

static void number(FILE *out, double n)
{
	(void)fprintf(out, n >= 1000 ? "%.0f" : n >= 100 ? "%.0f" : n >= 10 ? "%.1f" : "%.2f", n >= 1000 ? round(n / 10) * 10 : n);
}

/* "105 tok/s (82 to 128)" */
static void estimate(FILE *out, const char *name, const struct pl_estimate *e, const char *unit)
{
	if (!isfinite(e->median))
		return;
	label(out, name);
	number(out, e->median);
	(void)fprintf(out, " %s", unit);
	if (isfinite(e->low) && isfinite(e->high) && e->high > e->low) {
		(void)fputs(" (", out);
		number(out, e->low);
		(void)fputs(_(" to "), out);
		number(out, e->high);
		(void)fputc(')', out);
	}
	(void)fputc('\n', out);
}

static void power(FILE *out, const struct pl_speed_answer *s)
{
	if (!isfinite(s->decode_w.median))
		return;
	label(out, _("power of the GPUs"));
	(void)fprintf(out, _("idle %.0f W, decode %.0f W, prefill %.0f W"), s->idle_w.median, s->decode_w.median, s->prefill_w.median);
	if (isfinite(s->tokens_per_joule.median))
		(void)fprintf(out, _("; tokens per joule: %.2g decoded, %.2g of the prompt"), s->tokens_per_joule.median,
		              s->prefill_tokens_per_joule.median);
	(void)fputc('\n', out);
}

/* "weights 12 s (RAM 1.1 GiB, GPU 0.9 GiB)" */
static void stage(char *ret, size_t size, const struct pl_load_stage *s)
{
	char ram[PL_FMT_MAX], gpu[PL_FMT_MAX];
	int n = snprintf(ret, size, _("%s %.*f s"), pl_load_stage_text(s->kind), s->cold_s >= 10 ? 0 : 1, s->cold_s);
	if (n < 0 || (size_t)n >= size || s->kind > PL_LOAD_WEIGHTS || !isfinite(s->host_bytes) || !isfinite(s->device_bytes))
		return;
	pl_fmt_bytes(ram, (uint64_t)s->host_bytes);
	pl_fmt_bytes(gpu, (uint64_t)s->device_bytes);
	if (s->device_bytes > 0)
		(void)snprintf(ret + n, size - (size_t)n, _(" (RAM %s, GPU %s)"), ram, gpu);
	else
		(void)snprintf(ret + n, size - (size_t)n, _(" (RAM %s)"), ram);
}

/* A first start, stage after stage, with what is held at the end of each. */
static void stages(FILE *out, const struct pl_load_answer *l)
{
	int at = 2 + LABEL;
	label(out, _("on the way"));
	for (uint32_t i = 0; i < l->n_stages; i++) {
		char text[160];
		stage(text, sizeof text, &l->stages[i]);
		int width = pl_text_columns(text) + 3;
		if (i && at + width > WIDTH) {
			(void)fprintf(out, "\n  %*s", LABEL, "");
			at = 2 + LABEL;
		}
		(void)fprintf(out, i ? "%s→ %s" : "%s%s", i && at > 2 + LABEL ? " " : "", text);
		at += width;
	}
	(void)fputc('\n', out);
}

static void load(FILE *out, const struct pl_load_answer *l)
{
	char bytes[PL_FMT_MAX];
	label(out, _("start"));
	(void)fprintf(out, _("%.0f s cold (%s from disk at %.2g GB/s%s), %.0f s from the page cache\n"), l->cold_start_s,
	              pl_fmt_bytes(bytes, (uint64_t)l->read_bytes), l->disk_bytes_per_s / 1e9, l->disk_assumed ? _(", assumed") : "", l->warm_start_s);
	stages(out, l);
}

/* Several clients: what each sees, and all together. */
static void served(FILE *out, const struct pl_plan *plan)
{
	const struct pl_served *v = plan->served;
	if (!v || !isfinite(v->tpot_s.median))
		return;
	struct pl_estimate ms = {v->tpot_s.median * 1e3, v->tpot_s.low * 1e3, v->tpot_s.high * 1e3};
	label(out, _("served"));
	(void)fprintf(out, _("%.0f clients, answers of %.0f tokens, each sends on when answered\n"), plan->question.concurrency,
	              plan->question.output_tokens);
	estimate(out, _("  all together"), &v->output_tok_s, _("tok/s"));
	estimate(out, _("  first token"), &v->ttft_s, "s");
	estimate(out, _("  each next token"), &ms, "ms");
	if (v->queues) {
		label(out, _("  running at once"));
		(void)fprintf(out, _("%.1f: the others wait for room\n"), v->running);
	}
}

void pl_report_speed_text(FILE *out, const struct pl_plan *plan)
{
	const struct pl_speed_answer *s = plan->answer;
	const struct pl_speed_question *q = &plan->question;
	char name[128];
	if (!s)
		return;
	bool fits = plan->verdict != PL_VERDICT_NO_FIT;
	/* xgettext:no-c-format */
	(void)fprintf(out, "%s\n", fits ? _("Speed: median, and the interval that holds 80 % of measurements")
	                                /* xgettext:no-c-format */
	                                : _("Speed if the missing memory were there: median, and the interval that holds 80 % of measurements"));
	if (s->unknown) {
		(void)fprintf(out, "  %s\n\n", s->unknown);
		return;
	}
	(void)snprintf(name, sizeof name, _("prompt of %.0f tokens"), q->prompt_tokens);
	estimate(out, name, &s->ttft_s, _("s to the first token"));
	estimate(out, _("prefill"), &s->prefill_tok_s, _("tok/s"));
	estimate(out, _("decode"), &s->decode_tok_s, _("tok/s"));
	if (q->depth_tokens >= 1) {
		(void)snprintf(name, sizeof name, _("decode at depth %.0f"), q->depth_tokens);
		estimate(out, name, &s->decode_at_depth_tok_s, _("tok/s"));
	}
	if (q->concurrency > 1) {
		(void)snprintf(name, sizeof name, _("%.0f sequences together"), q->concurrency);
		estimate(out, name, &s->aggregate_tok_s, _("tok/s"));
	}
	served(out, plan);
	if (s->acceptance_length > 1) {
		label(out, _("speculation"));
		(void)fprintf(out, _("%.0f drafted at once, %.2f tokens a step\n"), q->draft_tokens, s->acceptance_length);
	}
	power(out, s);
	load(out, &s->load);
	(void)fprintf(out, "  %s\n  %s\n  %s\n\n", s->decode_reason, s->prefill_reason, s->kin_text);
}
