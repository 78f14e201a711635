/* The live view: what it shows is laid out without a terminal, so that it can be tested at every size. */
#ifndef PLIMSOLL_TUI_WATCH_H
#define PLIMSOLL_TUI_WATCH_H

#include <plimsoll/sample.h>

enum { PL_WATCH_HISTORY = 240, PL_WATCH_MARKS = 16 };

/* What the plan said; NAN where it is silent. */
struct pl_watch_plan {
	double device_bytes[PL_MAX_DEVICES];
	double host_bytes, decode_tok_s;
	uint32_t n_devices;
};

struct pl_watch_view {
	const char *title; /* name, engine, model, address */
	struct pl_watch_plan plan;
	struct pl_sample now;
	double tok_s[PL_WATCH_HISTORY]; /* newest last, n_history of them */
	uint32_t n_history;
	struct pl_watch_mark {
		enum pl_phase phase;
		double t_s, used_bytes; /* of all devices and the engine in RAM */
	} marks[PL_WATCH_MARKS];
	uint32_t n_marks;
};

/* Takes a sample in: history, and a mark where the phase changed. */
void pl_watch_add(struct pl_watch_view *v, const struct pl_sample *s);

/* Lines of at most `columns` columns, at most `rows` of them, most important first; in the arena. The count. */
uint32_t pl_watch_lines(struct pl_arena *a, const struct pl_watch_view *v, int rows, int columns, const char **ret_lines);

/* Runs until q, Ctrl-C or, with `rounds` > 0, that many samples. ENVIRONMENT without a terminal. */
int pl_watch_run(struct pl_sampler *s, struct pl_watch_view *v, double interval_s, struct pl_err *err);

#endif
