/* One row of a table of llama.cpp's printed buffers, read into a model, a machine and parameters. */
#ifndef PLIMSOLL_MEASURE_LLAMACPP_ROW_H
#define PLIMSOLL_MEASURE_LLAMACPP_ROW_H

#include <plimsoll/engine.h>

#include "measure/validate.h"

/* Buffers of one device, MiB as printed; NAN where the row shows none. */
struct lm_device {
	double model, kv, compute;
	double half_digit; /* of the printed numbers */
};

/* What is known of when the program was built. */
enum lm_known { LM_UNKNOWN = -1, LM_NO = 0, LM_YES = 1 };

struct lm_row {
	struct pl_vrow *r;
	const char *notes;
	bool mainline, ik;             /* llama.cpp itself; ik_llama.cpp */
	struct lm_device dev[16];
	uint32_t n_dev;                /* with anything printed */
	double cpu_kv, cpu_model, host_compute, host_output, state;
	struct pl_model_name name;
	const struct pl_model *model;  /* as the engine computes it */
	const struct pl_model *cached; /* the same, with the caches this build keeps */
	const char *quant;             /* precision the weights stand in; NULL: not known to the byte */
	struct pl_machine hw;
	struct pl_device devices[16];
	struct pl_params p;
	const char *no_context;        /* why caches cannot be predicted; NULL: they can */
	const char *no_compute;        /* why compute buffers cannot be predicted; NULL: they can */
	const char *no_split;          /* why what depends on the place of layers cannot be predicted */
};

/* Is the program at least as new as this mainline build number or date ("2025-05-20")? */
enum lm_known lm_at_least(const struct lm_row *x, unsigned build, const char *date);

bool lm_read_buffers(struct lm_row *x);
bool lm_find_model(struct lm_row *x);
void lm_find_caches(struct lm_row *x);
void lm_make_machine(struct lm_row *x);
bool lm_make_params(struct lm_row *x);

#endif
