/* A row of local_perf.csv as a question to the speed model: model, machine, engine and what was timed. */
#ifndef PLIMSOLL_MEASURE_LOCAL_CASE_H
#define PLIMSOLL_MEASURE_LOCAL_CASE_H

#include "measure/model_name.h"
#include "measure/validate.h"
#include "speed/speed.h"

enum pl_local_kind { PL_LOCAL_DECODE = 0, PL_LOCAL_PREFILL, PL_LOCAL_ANSWER /* tokens over the whole time of a request */ };

struct pl_local_case {
	const char *id;
	uint32_t row;
	struct pl_speed *speed; /* compiled; bound again by a fit */
	enum pl_answer_class class;
	enum pl_local_kind kind;
	double measured_tok_s;
	double prompt_tokens, depth_tokens, out_tokens, concurrency;
	double draft_tokens, acceptance_length; /* 0 and 1 without speculation */
	bool size_stated, tool_rate, assumed_quant;
	bool assumed_memory; /* an integrated GPU, and the row does not say how fast its RAM is */
	bool stand_in; /* the model is another of the same size */
	bool each; /* the rate is one sequence's, not that of all */
	const char *device, *model, *source; /* groups that can be left out */
	const char *backend, *quant, *family; /* for classes */
	double ceiling_tok_s;   /* nothing can be faster as labelled */
	double apart;           /* rows that say the same measured so many times each other */
	double weight;          /* in a fit */
};

struct pl_local_reader; /* index of models, compiled speeds: one a table */
struct pl_local_reader *pl_local_reader_make(struct pl_arena *a, const struct pl_table *t, struct pl_err *err) PL_MUST_CHECK;

/* Reads one row; everything that outlives the row lives in the reader's arena. false: r->reason says why. */
bool pl_local_read(struct pl_local_reader *x, struct pl_vrow *r, struct pl_local_case *ret);

/* Tokens a second that the bound speed gives. */
double pl_local_predict(const struct pl_local_case *c);

/* measure/local_hardware.c: "NVIDIA GB10 (DGX Spark)", "RTX 3060 Ti 8GB + RTX 3080 Ti 12GB", "Intel i9-13900K" and "64GB
 * DDR5-6000" as a hardware line; NULL with the row's reason. */
const char *pl_local_machine_line(struct pl_vrow *r, uint32_t *ret_n_gpu, const char **ret_device);
/* measure/local_model.c: precision of a row in this program's names; NULL unknown. bits: of an element, 0 by the name. */
const char *pl_local_quant(struct pl_vrow *r, const char *engine, bool *ret_assumed, double *ret_bits);

extern const struct pl_table_kind pl_kind_local_perf;

#endif
