#include <math.h>
#include <string.h>

#include "base/fmt.h"
#include "report/report.h"

#define _(s) pl_tr(s)

/* One cause of memory: its column, its colour (ANSI 256) and a glyph that tells it apart without colour. */
struct cause {
	const char *label, *color, *glyph;
};

enum { C_WEIGHTS, C_KV, C_STATE, C_COMPUTE, C_OVERHEAD, C_COUNT };

static const struct cause causes[C_COUNT] = {
    [C_WEIGHTS] = {PL_N_("weights"), "38;5;39", "█"}, [C_KV] = {PL_N_("KV"), "38;5;77", "▓"},
    [C_STATE] = {PL_N_("state"), "38;5;220", "▚"},    [C_COMPUTE] = {PL_N_("compute"), "38;5;208", "▒"},
    [C_OVERHEAD] = {PL_N_("overhead"), "38;5;134", "░"},
};

static uint64_t of_cause(const struct pl_use *u, int cause)
{
	switch (cause) {
	case C_WEIGHTS:
		return u->model_bytes;
	case C_KV:
		return u->kv_bytes;
	case C_STATE:
		return u->state_bytes;
	case C_COMPUTE:
		return u->compute_bytes;
	default:
		return u->overhead_bytes;
	}
}

static void color(FILE *out, const struct pl_style *style, const char *code)
{
	if (style->color)
		(void)fprintf(out, "\033[%sm", code);
}

static void spaces(FILE *out, int n)
{
	for (; n > 0; n--)
		(void)fputc(' ', out);
}

/* text cut or filled to columns */
static void cell(FILE *out, const char *text, int columns)
{
	size_t len = pl_text_fit(text, columns);
	(void)fwrite(text, 1, len, out);
	spaces(out, columns - (pl_text_columns(text) < columns ? pl_text_columns(text) : columns));
}

static void right(FILE *out, const char *text, int columns)
{
	spaces(out, columns - pl_text_columns(text));
	(void)fputs(text, out);
}

static void heading(FILE *out, const struct pl_plan *p, const struct pl_style *style)
{
	const struct pl_model *m = p->model;
	char n[PL_FMT_MAX], active[PL_FMT_MAX], ctx[PL_FMT_MAX];
	color(out, style, "1");
	(void)fprintf(out, "%s", m->name ? m->name : "?");
	color(out, style, "0");
	if (m->quant_name)
		(void)fprintf(out, " · %s", m->quant_name);
	(void)fprintf(out, _(" · %s parameters"), pl_fmt_count(n, m->n_params));
	if (m->n_params_active && m->n_params_active < m->n_params)
		(void)fprintf(out, _(", %s active"), pl_fmt_count(active, m->n_params_active));
	(void)fprintf(out, "\n%s\n", p->machine->description ? p->machine->description : "");
	const char *version = p->params.engine_version ? p->params.engine_version : p->engine->version;
	(void)fprintf(out, _("%s %s · context %s tokens"), p->engine->id, version ? version : "",
	              pl_fmt_grouped(ctx, p->layout.n_ctx_tokens));
	if (p->params.n_seq > 1)
		(void)fprintf(out, _(" · %u sequences at once"), p->params.n_seq);
	(void)fputs("\n\n", out);
}

static void verdict(FILE *out, const struct pl_plan *p, const struct pl_style *style)
{
	static const struct {
		const char *mark, *text, *color;
	} faces[PL_VERDICT_COUNT] = {
	    [PL_VERDICT_FITS_GPU] = {"✔", PL_N_("FITS ON GPU"), "1;32"},
	    [PL_VERDICT_HYBRID] = {"◐", PL_N_("HYBRID: GPU + CPU"), "1;33"},
	    [PL_VERDICT_CPU] = {"○", PL_N_("RUNS ON THE CPU ONLY"), "1;33"},
	    [PL_VERDICT_PAGED] = {"↻", PL_N_("PAGED FROM DISK: runs, but reads weights again and again"), "1;35"},
	    [PL_VERDICT_NO_FIT] = {"✘", PL_N_("DOES NOT FIT"), "1;31"},
	};
	char b[PL_FMT_MAX];
	color(out, style, faces[p->verdict].color);
	(void)fprintf(out, "%s %s", faces[p->verdict].mark, _(faces[p->verdict].text));
	color(out, style, "0");
	if (p->layout.fits)
		(void)fprintf(out, _("   %s to spare on the fullest device"), pl_fmt_bytes(b, p->layout.spare_bytes));
	else
		(void)fprintf(out, _("   %s missing on %s"), pl_fmt_bytes(b, p->layout.missing_bytes),
		              p->layout.where_missing ? p->layout.where_missing : _("the host"));
	if (!p->argv.n_words)
		(void)fputs(_("   (memory only: no engine runs it here)"), out);
	(void)fputs("\n\n", out);
}

/* Fills `columns` cells in proportion; what does not fit stands behind the mark of the capacity. */
static void bar(FILE *out, const struct pl_use *u, int columns, const struct pl_style *style)
{
	uint64_t used = pl_use_total_bytes(u), scale = used > u->total_bytes ? used : u->total_bytes;
	double sum = 0;
	int at = 0, capacity = used > u->total_bytes ? (int)((double)u->total_bytes / (double)scale * columns) : -1;
	for (int c = 0; c < C_COUNT; c++) {
		sum += (double)of_cause(u, c);
		int end = scale ? (int)lround(sum / (double)scale * columns) : 0;
		if (of_cause(u, c) && end == at && end < columns && sum < (double)scale)
			end++; /* what is there is seen */
		if (end > columns)
			end = columns;
		if (end == at)
			continue;
		color(out, style, causes[c].color);
		for (; at < end; at++)
			(void)fputs(at == capacity ? "┃" : causes[c].glyph, out);
		color(out, style, "0");
	}
	color(out, style, "2");
	for (; at < columns; at++)
		(void)fputs("·", out);
	color(out, style, "0");
}

static void bar_line(FILE *out, const char *label, const struct pl_use *u, int label_columns,
                     const struct pl_style *style)
{
	char used[PL_FMT_MAX], total[PL_FMT_MAX];
	int columns = style->columns - label_columns - 27;
	cell(out, label, label_columns);
	(void)fputc(' ', out);
	bar(out, u, columns < 20 ? 20 : columns > 60 ? 60 : columns, style);
	(void)fprintf(out, "  %s / %s\n", pl_fmt_bytes(used, pl_use_total_bytes(u)), pl_fmt_bytes(total, u->total_bytes));
}

/* Devices that hold the same are one line: "GPU 0-7". */
static bool same_use(const struct pl_use *x, const struct pl_use *y)
{
	for (int c = 0; c < C_COUNT; c++)
		if (of_cause(x, c) != of_cause(y, c))
			return false;
	return x->total_bytes == y->total_bytes && !strcmp(x->name ? x->name : "", y->name ? y->name : "");
}

static uint32_t run_end(const struct pl_layout *l, uint32_t first)
{
	uint32_t last = first;
	while (last + 1 < l->n_devices && same_use(&l->devices[first], &l->devices[last + 1]))
		last++;
	return last;
}

/* The machine's line above has the whole name: here the maker is left out. */
static const char *short_name(const char *name)
{
	static const char *const makers[] = {"NVIDIA GeForce ", "NVIDIA ", "AMD Radeon ", "AMD Instinct ", "AMD ", "Intel ", "Apple "};
	for (size_t i = 0; i < sizeof makers / sizeof *makers; i++)
		if (!strncmp(name, makers[i], strlen(makers[i])))
			return name + strlen(makers[i]);
	return name;
}

static const char *run_label(char *buf, size_t size, const struct pl_layout *l, uint32_t first, uint32_t last, bool named)
{
	const char *name = named && l->devices[first].name ? short_name(l->devices[first].name) : "";
	char number[24];
	(void)snprintf(number, sizeof number, first == last ? "%u" : "%u-%u", first, last);
	(void)snprintf(buf, size, "GPU %s%s%s", number, *name ? "  " : "", name);
	return buf;
}

static struct pl_use host_use(const struct pl_plan *p)
{
	struct pl_use u = p->layout.host.use;
	if (p->machine->ram_bytes.known)
		u.total_bytes = p->machine->ram_bytes.value;
	else if (!u.total_bytes)
		u.total_bytes = pl_use_total_bytes(&u);
	return u;
}

static void bars(FILE *out, const struct pl_plan *p, const struct pl_style *style)
{
	const struct pl_layout *l = &p->layout;
	char label[160];
	int columns = 4;
	bool seen[C_COUNT] = {false};
	for (uint32_t i = 0; i < l->n_devices; i = run_end(l, i) + 1) {
		int n = pl_text_columns(run_label(label, sizeof label, l, i, run_end(l, i), true));
		columns = n > columns ? n : columns;
	}
	if (columns > 34)
		columns = 34;
	for (uint32_t i = 0; i < l->n_devices; i = run_end(l, i) + 1)
		bar_line(out, run_label(label, sizeof label, l, i, run_end(l, i), true), &l->devices[i], columns, style);
	if (p->machine->ram_bytes.known) {
		struct pl_use host = host_use(p);
		bar_line(out, _("RAM"), &host, columns, style);
	}
	for (int c = 0; c < C_COUNT; c++) {
		seen[c] = of_cause(&l->host.use, c) > 0;
		for (uint32_t i = 0; i < l->n_devices; i++)
			seen[c] = seen[c] || of_cause(&l->devices[i], c) > 0;
	}
	spaces(out, columns + 1);
	for (int c = 0; c < C_COUNT; c++) {
		if (!seen[c])
			continue;
		color(out, style, causes[c].color);
		(void)fputs(causes[c].glyph, out);
		color(out, style, "0");
		(void)fprintf(out, " %s  ", _(causes[c].label));
	}
	(void)fprintf(out, "· %s\n\n", _("free"));
}

static void row(FILE *out, const char *label, const struct pl_use *u, bool total_known)
{
	char b[PL_FMT_MAX];
	uint64_t used = pl_use_total_bytes(u);
	(void)fputs("  ", out);
	cell(out, label, 12);
	for (int c = 0; c < C_COUNT; c++)
		right(out, of_cause(u, c) ? pl_fmt_bytes(b, of_cause(u, c)) : "-", 11);
	right(out, pl_fmt_bytes(b, used), 11);
	if (total_known && used <= u->total_bytes)
		right(out, pl_fmt_bytes(b, u->total_bytes - used), 11);
	else
		right(out, total_known ? "-" : "?", 11);
	(void)fputc('\n', out);
}

static void table(FILE *out, const struct pl_plan *p, const struct pl_style *style)
{
	const struct pl_layout *l = &p->layout;
	char label[160];
	color(out, style, "2");
	(void)fputs("  ", out);
	cell(out, "", 12);
	for (int c = 0; c < C_COUNT; c++)
		right(out, _(causes[c].label), 11);
	right(out, _("used"), 11);
	right(out, _("free"), 11);
	color(out, style, "0");
	(void)fputc('\n', out);
	for (uint32_t i = 0; i < l->n_devices; i = run_end(l, i) + 1)
		row(out, run_label(label, sizeof label, l, i, run_end(l, i), false), &l->devices[i], true);
	struct pl_use host = host_use(p);
	row(out, _("host"), &host, p->machine->ram_bytes.known);
	(void)fputc('\n', out);
}

static void field(FILE *out, const char *name)
{
	(void)fputs("  ", out);
	cell(out, name, 16);
}

static void facts(FILE *out, const struct pl_plan *p)
{
	char x[PL_FMT_MAX], y[PL_FMT_MAX], z[PL_FMT_MAX];
	const struct pl_layout *l = &p->layout;
	if (p->placement && *p->placement) {
		field(out, _("placement"));
		(void)fprintf(out, "%s\n", p->placement);
	}
	field(out, _("host RAM"));
	(void)fprintf(out, _("%s while loading, %s at rest\n"), pl_fmt_bytes(x, l->host.peak_load_bytes),
	              pl_fmt_bytes(y, l->host.rest_bytes));
	field(out, _("KV per token"));
	(void)fprintf(out, "%s", pl_fmt_bytes(x, l->kv_bytes_per_token));
	if (l->kv_cache_tokens.known)
		(void)fprintf(out, _("; the pool holds %s tokens in %s blocks of %u"), pl_fmt_grouped(y, l->kv_cache_tokens.value),
		              pl_fmt_grouped(z, l->num_gpu_blocks.value), l->block_size);
	(void)fputc('\n', out);
	if (p->limits.max_context_tokens.known) {
		field(out, _("limits"));
		(void)fprintf(out, _("%s tokens of context%s"), pl_fmt_grouped(x, p->limits.max_context_tokens.value),
		              p->limits.context_is_model_limit ? _(" (all the model was trained for)") : "");
		(void)fprintf(out, p->limits.max_sequences.value ? _(", or %s sequences of %s tokens\n") : _("; %s sequences of %s tokens fit\n"),
		              pl_fmt_grouped(y, p->limits.max_sequences.value), pl_fmt_grouped(z, l->n_ctx_tokens));
	}
	field(out, _("rule of thumb"));
	(void)fprintf(out, _("parameters × bytes × 1.3 = %s; exact %s"), pl_fmt_bytes(x, p->rule_of_thumb_bytes),
	              pl_fmt_bytes(y, p->exact_bytes));
	(void)fprintf(out, p->rule_of_thumb_error_frac > 0 ? _(" (the rule says %s too much)\n") : _(" (the rule says %s too little)\n"),
	              pl_fmt_percent(z, fabs(p->rule_of_thumb_error_frac)));
	if (p->engine_reason) {
		field(out, _("engine"));
		(void)fprintf(out, "%s\n", p->engine_reason);
	}
	(void)fputc('\n', out);
}

static void advice(FILE *out, const struct pl_plan *p, const struct pl_style *style)
{
	char b[PL_FMT_MAX];
	int columns = 0;
	if (!p->n_suggestions)
		return;
	color(out, style, "1");
	(void)fprintf(out, "%s\n", p->verdict >= PL_VERDICT_PAGED ? _("Any one of these makes it fit") : _("Any one of these makes it fit on the GPUs or run better"));
	color(out, style, "0");
	for (uint32_t i = 0; i < p->n_suggestions; i++) {
		int n = pl_text_columns(p->suggestions[i].text);
		columns = n > columns ? n : columns;
	}
	if (columns > style->columns - 34)
		columns = style->columns - 34;
	for (uint32_t i = 0; i < p->n_suggestions; i++) {
		const struct pl_suggestion *s = &p->suggestions[i];
		(void)fputs("  • ", out);
		if (pl_text_columns(s->text) > columns)
			(void)fputs(s->text, out);
		else
			cell(out, s->text, columns);
		color(out, style, "36");
		(void)fprintf(out, "  %s", s->option ? s->option : "");
		color(out, style, "0");
		spaces(out, 20 - (int)strlen(s->option ? s->option : ""));
		(void)fprintf(out, _(" %s spare\n"), pl_fmt_bytes(b, s->spare_bytes));
	}
	(void)fputc('\n', out);
}

static void notes(FILE *out, const struct pl_plan *p, const struct pl_style *style)
{
	for (const struct pl_note *n = p->notes; n; n = n->next) {
		color(out, style, n->level == PL_NOTE_WARNING ? "33" : "2");
		(void)fprintf(out, "%s %s\n", n->level == PL_NOTE_WARNING ? "!" : "-", n->text);
		color(out, style, "0");
	}
	if (p->notes)
		(void)fputc('\n', out);
}

void pl_report_plan_text(FILE *out, const struct pl_plan *p, const struct pl_style *style)
{
	heading(out, p, style);
	verdict(out, p, style);
	bars(out, p, style);
	table(out, p, style);
	facts(out, p);
	pl_report_speed_text(out, p);
	advice(out, p, style);
	notes(out, p, style);
	if (!p->argv.n_words)
		return;
	color(out, style, "1");
	(void)fprintf(out, "%s\n", _("Start it"));
	color(out, style, "0");
	pl_report_argv(out, &p->argv, style->columns);
}
