#include <math.h>
#include <string.h>

#include "base/fmt.h"
#include "tui/watch.h"

enum { MAX_COLUMNS = 400 };

void pl_watch_add(struct pl_watch_view *v, const struct pl_sample *s)
{
	bool changed = !v->n_marks || v->marks[v->n_marks - 1].phase != s->phase;
	if (v->n_history == PL_WATCH_HISTORY)
		memmove(v->tok_s, v->tok_s + 1, (PL_WATCH_HISTORY - 1) * sizeof *v->tok_s);
	else
		v->n_history++;
	v->tok_s[v->n_history - 1] = s->generated_tok_s;
	v->now = *s;
	if (!changed || s->phase == PL_PHASE_NONE)
		return;
	if (v->n_marks == PL_WATCH_MARKS) {
		memmove(v->marks, v->marks + 1, (PL_WATCH_MARKS - 1) * sizeof *v->marks);
		v->n_marks--;
	}
	double used = isfinite(s->engine_rss_bytes) ? s->engine_rss_bytes : 0;
	for (uint32_t i = 0; i < s->n_devices; i++)
		used += isfinite(s->devices[i].used_bytes) ? s->devices[i].used_bytes : 0;
	v->marks[v->n_marks++] = (struct pl_watch_mark){s->phase, s->t_s, used};
}

struct page {
	struct pl_arena *a;
	const char **lines;
	uint32_t n;
	int rows, columns;
};

/* Cut to the width; never more lines than the screen has. */
static void put(struct page *p, const char *text)
{
	if (!text || (int)p->n >= p->rows)
		return;
	size_t n = pl_text_fit(text, p->columns);
	const char *line = pl_arena_strndup(p->a, text, n);
	if (line)
		p->lines[p->n++] = line;
}

/* used of total, with the plan's mark: "████████░░░░│░░░" */
static const char *bar(struct pl_arena *a, double used, double planned, double total, int width)
{
	char out[MAX_COLUMNS * 4 + 1];
	size_t at = 0;
	int full = total > 0 && used > 0 ? (int)lround(fmin(1, used / total) * width) : 0;
	int mark = total > 0 && planned > 0 ? (int)fmin(width - 1, floor(planned / total * width)) : -1;
	for (int i = 0; i < width && i < MAX_COLUMNS; i++) {
		const char *c = i == mark ? "│" : i < full ? "█" : "·";
		size_t n = strlen(c);
		memcpy(out + at, c, n);
		at += n;
	}
	return pl_arena_strndup(a, out, at);
}

static const char *size(char *buf, double bytes)
{
	return isfinite(bytes) && bytes >= 0 ? pl_fmt_bytes(buf, (uint64_t)bytes) : "-";
}

static const char *number(char *buf, double v)
{
	return isfinite(v) ? pl_fmt_sig3(buf, v) : "-";
}

static void memory_line(struct page *p, const char *name, double used, double total, double planned)
{
	char u[PL_FMT_MAX], t[PL_FMT_MAX], l[PL_FMT_MAX];
	int width = p->columns - 64;
	width = width < 8 ? 8 : width > 60 ? 60 : width;
	int room = 18;
	const char *label = pl_arena_strndup(p->a, name, pl_text_fit(name, room));
	int have = label ? pl_text_columns(label) : 0;
	const char *line = pl_arena_printf(p->a, "%s%*s %s %9s / %-9s", label ? label : "", have < room ? room - have : 0, "",
	                                   bar(p->a, used, planned, total, width), size(u, used), size(t, total));
	if (line && planned > 0)
		line = pl_arena_printf(p->a, pl_tr("%s plan %s"), line, size(l, planned));
	put(p, line);
}

static void device_lines(struct page *p, const struct pl_watch_view *v)
{
	char w[PL_FMT_MAX], c[PL_FMT_MAX], m[PL_FMT_MAX], x[PL_FMT_MAX];
	for (uint32_t i = 0; i < v->now.n_devices; i++) {
		const struct pl_device_sample *d = &v->now.devices[i];
		memory_line(p, pl_arena_printf(p->a, "GPU %u", i), d->used_bytes, d->total_bytes, i < v->plan.n_devices ? v->plan.device_bytes[i] : NAN);
		put(p, pl_arena_printf(p->a, "  %-16.16s %5s %%  %6s W  %4s °C  %6s MHz  %6s MHz", d->name, number(x, 100 * d->busy_frac), number(w, d->power_w),
		                       number(c, d->temperature_c), number(m, d->sm_mhz), isfinite(d->mem_mhz) ? pl_arena_printf(p->a, "%.0f", d->mem_mhz) : "-"));
	}
}

/* Eighths of a line, the newest at the right. */
static const char *curve(struct pl_arena *a, const struct pl_watch_view *v, int width)
{
	static const char *const steps[] = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
	char out[MAX_COLUMNS * 4 + 1];
	size_t at = 0;
	double most = 0;
	uint32_t n = v->n_history < (uint32_t)width ? v->n_history : (uint32_t)width, from = v->n_history - n;
	for (uint32_t i = from; i < v->n_history; i++)
		most = isfinite(v->tok_s[i]) ? fmax(most, v->tok_s[i]) : most;
	for (uint32_t i = from; i < v->n_history && at < sizeof out - 4; i++) {
		double y = isfinite(v->tok_s[i]) && most > 0 ? v->tok_s[i] / most : 0;
		const char *c = steps[(int)lround(y * 8)];
		size_t len = strlen(c);
		memcpy(out + at, c, len);
		at += len;
	}
	return pl_arena_strndup(a, out, at);
}

static void engine_lines(struct page *p, const struct pl_watch_view *v)
{
	char a[PL_FMT_MAX], b[PL_FMT_MAX], c[PL_FMT_MAX], d[PL_FMT_MAX], e[PL_FMT_MAX];
	const struct pl_sample *s = &v->now;
	if (s->phase == PL_PHASE_NONE)
		return;
	put(p, pl_arena_printf(p->a, pl_tr("requests %s running, %s waiting   KV %s %%   generated %s tok/s, prompts %s tok/s"), number(a, s->requests_running),
	                       number(b, s->requests_waiting), number(c, 100 * s->kv_frac), number(d, s->generated_tok_s), number(e, s->prompt_tok_s)));
	if (v->plan.decode_tok_s > 0)
		put(p, pl_arena_printf(p->a, pl_tr("the plan said %s tok/s for one sequence"), number(a, v->plan.decode_tok_s)));
	put(p, curve(p->a, v, p->columns < MAX_COLUMNS ? p->columns : MAX_COLUMNS));
}

static void mark_lines(struct page *p, const struct pl_watch_view *v)
{
	char u[PL_FMT_MAX];
	static const char *const names[] = {PL_N_("none"), PL_N_("loading"), PL_N_("loaded"), PL_N_("generating"), PL_N_("freed")};
	for (uint32_t i = 0; i < v->n_marks; i++) {
		const char *name = pl_tr(names[v->marks[i].phase]);
		put(p, pl_arena_printf(p->a, "%8.1f s  %-*s %s", v->marks[i].t_s, pl_text_width(name, 12), name, size(u, v->marks[i].used_bytes)));
	}
}

uint32_t pl_watch_lines(struct pl_arena *a, const struct pl_watch_view *v, int rows, int columns, const char **ret_lines)
{
	struct page p = {.a = a, .lines = ret_lines, .rows = rows, .columns = columns};
	put(&p, v->title);
	engine_lines(&p, v);
	device_lines(&p, v);
	memory_line(&p, pl_tr("RAM"), v->now.ram_used_bytes, v->now.ram_total_bytes, NAN);
	if (isfinite(v->now.engine_rss_bytes))
		memory_line(&p, pl_tr("  engine"), v->now.engine_rss_bytes, v->now.ram_total_bytes, v->plan.host_bytes);
	mark_lines(&p, v);
	return p.n;
}
