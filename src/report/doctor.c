#include <string.h>

#include "base/fmt.h"
#include "report/json.h"
#include "report/report.h"

static const char *mark(const struct pl_style *style, enum pl_finding_level l)
{
	static const char *const plain[] = {"✔", "·", "!", "✖"};
	static const char *const colored[] = {"\033[32m✔\033[0m", "\033[2m·\033[0m", "\033[33m!\033[0m", "\033[31m✖\033[0m"};
	return (style->color ? colored : plain)[l];
}

/* A paragraph indented by `indent` columns. */
static void paragraph(FILE *out, const char *text, int indent, int columns)
{
	int room = columns - indent < 20 ? 20 : columns - indent;
	while (*text) {
		size_t len = pl_text_line(text, room);
		(void)fprintf(out, "%*s%.*s\n", indent, "", (int)len, text);
		text += len;
		text += strspn(text, " ");
	}
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

static bool alike(const struct pl_finding *a, const struct pl_finding *b)
{
	return a->level == b->level && a->subject && b->subject && same_text(a->what, b->what) && same_text(a->why, b->why) && same_text(a->mend, b->mend);
}

/* The same finding of several cards is said once, under the names of all. */
static bool was_said(const struct pl_finding *first, const struct pl_finding *f)
{
	for (const struct pl_finding *g = first; g != f; g = g->next)
		if (alike(g, f))
			return true;
	return false;
}

static void subjects(FILE *out, const struct pl_finding *f)
{
	if (!f->subject)
		return;
	(void)fputs(f->subject, out);
	for (const struct pl_finding *g = f->next; g; g = g->next)
		if (alike(f, g))
			(void)fprintf(out, pl_tr(", %s"), g->subject);
	(void)fputs(pl_tr(": "), out);
}

void pl_report_doctor_text(FILE *out, const struct pl_machine *hw, const struct pl_finding *first, const struct pl_style *style)
{
	unsigned n[4] = {0};
	(void)fprintf(out, "%s\n\n", hw->description);
	for (const struct pl_finding *f = first; f; f = f->next) {
		n[f->level]++;
		if (was_said(first, f))
			continue;
		(void)fprintf(out, "%s ", mark(style, f->level));
		subjects(out, f);
		(void)fprintf(out, "%s\n", f->what);
		if (f->why)
			paragraph(out, f->why, 4, style->columns);
		if (f->mend)
			(void)fprintf(out, "    → %s\n", f->mend);
	}
	(void)fprintf(out, pl_tr("\n%u fault(s), %u warning(s), %u remark(s)\n"), n[PL_FINDING_FAULT], n[PL_FINDING_WARNING], n[PL_FINDING_INFO]);
}

json_t *pl_report_doctor_json(const struct pl_machine *hw, const struct pl_finding *first)
{
	json_t *list = json_array();
	bool ready = true;
	for (const struct pl_finding *f = first; f; f = f->next) {
		ready = ready && f->level != PL_FINDING_FAULT;
		(void)json_array_append_new(list, json_pack("{s:s, s:o, s:s, s:o, s:o, s:o}", "id", f->id, "subject", rj_text(f->subject), "level",
		                                            pl_finding_level_name(f->level), "what", rj_text(f->what), "why", rj_text(f->why), "mend",
		                                            rj_text(f->mend)));
	}
	return json_pack("{s:o, s:b, s:o}", "machine", rj_text(hw->description), "ready", (int)ready, "findings", list);
}
