/* A result → text or JSON for people and programs. Computes nothing. */
#ifndef PLIMSOLL_REPORT_REPORT_H
#define PLIMSOLL_REPORT_REPORT_H

#include <stdbool.h>
#include <stdio.h>

#include <plimsoll/bench.h>
#include <plimsoll/doctor.h>
#include <plimsoll/plan.h>
#include <plimsoll/verify.h>

struct json_t;

struct pl_style {
	bool color;  /* ANSI colours */
	int columns; /* terminal width, ≥ 60 */
};

/* The plan on one screen. Write errors stay in ferror(out). */
void pl_report_plan_text(FILE *out, const struct pl_plan *plan, const struct pl_style *style);
/* Its speed, as text and as the JSON of the schema's "speed"; part of the two above. */
void pl_report_speed_text(FILE *out, const struct pl_plan *plan);
struct json_t *pl_report_speed_json(const struct pl_plan *plan);
/* The plan by docs/plan.schema.json; NULL when out of memory. The caller owns it (json_decref). */
struct json_t *pl_report_plan_json(const struct pl_plan *plan);
/* A load's result as JSON (docs/json.md), owned by the caller; its line of a table, and remarks, from that JSON. */
struct json_t *pl_report_bench_json(const char *point, const struct pl_bench_result *r);
void pl_report_bench_header(FILE *out, bool slo);
void pl_report_bench_line(FILE *out, const struct json_t *o, bool slo);
void pl_report_bench_remarks(FILE *out, const struct json_t *o);
/* Plan beside truth, line by line; and as JSON (docs/json.md), owned by the caller. */
void pl_report_verify_text(FILE *out, const struct pl_check *checks, uint32_t n, const struct pl_style *style);
struct json_t *pl_report_verify_json(const char *name, const struct pl_check *checks, uint32_t n);
/* What the doctor found, worst marked; and as JSON (docs/json.md), owned by the caller. */
void pl_report_doctor_text(FILE *out, const struct pl_machine *hw, const struct pl_finding *first, const struct pl_style *style);
struct json_t *pl_report_doctor_json(const struct pl_machine *hw, const struct pl_finding *first);
/* A line that a POSIX shell reads as exactly these words: safe with spaces, quotes, newlines, `$()` and `;`. */
void pl_report_argv(FILE *out, const struct pl_argv *argv, int columns);

#endif
