/* A served measurement as a question: which engine, model, cards and ranks, under which load. */
#ifndef PLIMSOLL_MEASURE_SERVED_CASE_H
#define PLIMSOLL_MEASURE_SERVED_CASE_H

#include <plimsoll/serve.h>

#include "measure/validate.h"
#include "speed/speed.h"

/* What a row says. Zero and "" where it does not. */
struct pl_served_ask {
	const char *engine;      /* as the table names it */
	const char *model, *precision; /* precision: "fp8", "fp4", "bf16", "int4", "" as the checkpoint is */
	const char *gpu;         /* the catalogue's name for one card */
	uint32_t tp, pp, dp;     /* ranks of attention: that share the heads, stages, that have their own sequences */
	bool expert_parallel;    /* whole experts are dealt out over tp × dp ranks */
	uint32_t cards;          /* of the run; with tp 0: ranks are chosen, replicas fill the rest */
	double memory_frac;      /* the engine's; 0: its default */
	uint32_t max_seqs;       /* of a replica; 0: as many as the load has, 256 at least */
	bool tuned;              /* trtllm-bench: batch and tokens of a step follow the lengths and the memory */
	bool attention_dp;       /* experts' models run with data-parallel attention over the tp ranks */
	struct pl_serve_load load;
	const char *version;     /* of the engine; NULL or "": not stated */
	bool inferencex, generated; /* started by the scripts of InferenceX, of AIConfigurator */
};

/* measure/inferencex.c: what a start script of InferenceX sets; NULL nothing that is known. */
struct pl_recipe;
const struct pl_recipe *pl_inferencex_recipe(const char *engine, const struct pl_served_ask *a);
void pl_recipe_params(const struct pl_recipe *r, const struct pl_served_ask *a, struct pl_params *p);
void pl_generated_params(const char *engine, const struct pl_served_ask *a, struct pl_params *p);
void pl_recipe_policy(const struct pl_recipe *r, struct pl_serve_policy *p);

struct pl_served_case {
	const char *id;
	uint32_t row;
	struct pl_speed *speed;  /* compiled; bound again by a fit */
	struct pl_serve_policy policy;
	struct pl_serve_load load;
	const struct pl_serve_split *split; /* prompts on servers of their own; speed is that of the answers. NULL: none */
	double ttft_s, tpot_s, output_tok_s; /* measured, NAN where not */
	const char *model, *family, *device, *engine; /* groups that can be left out; family: the model in any precision */
	double weight;
};

/* Everything in the arena a. False: the row's reason says why. */
bool pl_served_compile(struct pl_arena *a, struct pl_vrow *r, const struct pl_served_ask *ask, struct pl_served_case *ret);

/* The cases of an open table that are neither flagged nor unmapped, for a fit; none where its kind is not served runs. */
int pl_served_cases(struct pl_validator *v, struct pl_served_case **ret_cases, uint32_t *ret_n, struct pl_err *err) PL_MUST_CHECK;

/* The same of the kind pl_kind_serving_perf. */
int pl_served_rate_cases(struct pl_validator *v, struct pl_served_case **ret_cases, uint32_t *ret_n, struct pl_err *err) PL_MUST_CHECK;

extern const struct pl_table_kind pl_kind_silicon_sample, pl_kind_serving_perf, pl_kind_served_power;

#endif
