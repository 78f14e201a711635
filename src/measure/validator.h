/* Shared by the files of the framework; kinds of table need only validate.h. */
#ifndef PLIMSOLL_MEASURE_VALIDATOR_H
#define PLIMSOLL_MEASURE_VALIDATOR_H

#include <plimsoll/speed.h>

#include "base/nameset.h"
#include "measure/validate.h"

/* A model or machine asked for before, or why there is none. */
struct pl_kept {
	const void *thing;
	const char *why_not;
};

/* What a fit without the row's group predicts. */
struct pl_held_out {
	double predicted;
	enum pl_kinship kinship;
	bool known;
};

/* TPOT, TTFT and rate that a fit without the row's group predicts, and how wide it thinks its interval is. */
struct pl_held_served {
	double tpot_s, ttft_s;
	double tpot_low_ln, tpot_high_ln, ttft_low_ln, ttft_high_ln;
	bool known;
	double output_tok_s, rate_low_ln, rate_high_ln;
};

struct pl_validator {
	struct pl_arena *a;
	const struct pl_table *table;
	const struct pl_table_kind *kind;
	struct pl_prediction *kept;
	uint32_t n_kept, cap_kept;
	struct pl_nameset texts;          /* of the predictions, each once */
	struct pl_nameset models, machines; /* index into things */
	struct pl_kept *things;
	uint32_t n_things, cap_things;
	void *kind_data;                  /* what the kind of table keeps from row to row; NULL at first */
	struct pl_held_served *held_served; /* by row of served runs; NULL: the shipped constants predict */
	struct pl_held_out *held_out;     /* by row; NULL: the shipped constants predict */
	const struct pl_constants *constants; /* NULL: shipped */
	struct pl_validation out;
};

/* Fills accuracy and reasons from the predictions; false when out of memory. */
bool pl_validation_summarise(struct pl_validator *v);

#endif
