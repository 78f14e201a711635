/* The framework of `plimsoll validate`, for those who teach it a kind of table.
 *
 * A kind is one const struct in one file (validate_<kind>.c) and one line in the list of validate.c. Its map function reads
 * the cells of one row, says which numbers were measured, plans what the row describes and sets the predictions:
 *
 *     static void map(struct pl_vrow *r)
 *     {
 *             struct pl_prediction *tok = pl_vrow_measured(r, "decode_tok_s", "tok_s", 1);
 *             pl_vrow_class(r, "engine", pl_vrow_text(r, "engine"));
 *             const struct pl_model *m = pl_vrow_model(r, pl_vrow_text(r, "model"), NULL);
 *             const struct pl_machine *hw = m ? pl_vrow_machine(r, pl_vrow_text(r, "gpu")) : NULL;
 *             if (!hw)
 *                     return;              // the reason is recorded: every measured number becomes "unmapped"
 *             ... pl_vrow_predict(tok, value, low, high);
 *     }
 *
 * Nothing is dropped: numbers that got no prediction are unmapped with the row's reason, and a row without any number has
 * one line of its own. Arenas: r->a lives as long as the row, r->v->a as long as the validation. */
#ifndef PLIMSOLL_MEASURE_VALIDATE_H
#define PLIMSOLL_MEASURE_VALIDATE_H

#include <plimsoll/catalog.h>
#include <plimsoll/hardware.h>
#include <plimsoll/measure.h>
#include <plimsoll/model.h>

#include "measure/table.h"

struct pl_validator;
struct pl_vrow;
struct pl_observation;

struct pl_table_kind {
	const char *name;            /* "llamacpp_memory" */
	const char *const *columns;  /* all columns it reads, NULL-terminated: the kind with most of them wins */
	void (*map)(struct pl_vrow *r);
	/* A speed to fit constants on (measure/fit.h); NULL: none of this kind. false: this row is none. */
	bool (*observe)(struct pl_vrow *r, struct pl_observation *ret);
};

struct pl_vrow {
	struct pl_arena *a;          /* gone after the row */
	struct pl_validator *v;
	uint32_t index;              /* in the table */
	const struct pl_table_row *row;
	const char *reason;          /* the first reason why numbers of this row cannot be predicted; NULL none */
	char classes[256];
	struct pl_prediction *made[32];
	uint32_t n_made;
};

/* ---- cells. A fault (a number that is none, or is out of range) becomes the row's reason. */

/* Text of a cell, "" when it is blank or the table has no such column. */
const char *pl_vrow_text(const struct pl_vrow *r, const char *column);
bool pl_vrow_is(const struct pl_vrow *r, const char *column, const char *text); /* ignoring case */
/* A number in [least, most]; NAN when blank or faulty. */
double pl_vrow_number(struct pl_vrow *r, const char *column, double least, double most);
/* The same as a whole number: fallback when blank; faulty values give fallback and the row's reason. */
uint64_t pl_vrow_whole(struct pl_vrow *r, const char *column, uint64_t least, uint64_t most, uint64_t fallback);

/* ---- what was measured and predicted */

/* The number in `column` × scale under `metric`; NULL when the cell is blank. A faulty cell is recorded as unmapped, and
 * NULL is returned. Zero or negative measurements are flagged (no error can be a fraction of them) and NULL is returned. */
struct pl_prediction *pl_vrow_measured(struct pl_vrow *r, const char *metric, const char *column, double scale);
/* A measured number made of several cells. resolution: half the last printed digit, in the metric's unit, 0 unknown. */
struct pl_prediction *pl_vrow_measured_value(struct pl_vrow *r, const char *metric, double measured, double resolution);
/* NULL is fine. low and high: the 80 % interval; NAN: made from the errors of the other rows
 * of the same metric and first class. */
void pl_vrow_predict(struct pl_prediction *p, double predicted, double low, double high);
/* By a stated rule (docs/validation.md) the measurement is not what the row says; it stays in the rows, out of the errors. */
void pl_vrow_flag(struct pl_vrow *r, struct pl_prediction *p, const char *fmt, ...) PL_PRINTF(3, 4);
/* Why the numbers of this row that have no prediction have none; the first reason stays. */
void pl_vrow_reason(struct pl_vrow *r, const char *fmt, ...) PL_PRINTF(2, 3);
void pl_vrow_fault(struct pl_vrow *r, const struct pl_err *err); /* the same, from an error */
/* Adds "key=value" to the classes of the row, lower case; blank values are left out. */
void pl_vrow_class(struct pl_vrow *r, const char *key, const char *value);
/* "ffn=" moe or dense, "attention=" hybrid, mla, swa or gqa. */
void pl_vrow_model_classes(struct pl_vrow *r, const struct pl_model *m);

/* ---- models and machines, kept for the rows that follow. NULL with the row's reason when there is none. */

const struct pl_model *pl_vrow_model(struct pl_vrow *r, const char *ref, const char *quant);
const struct pl_machine *pl_vrow_machine(struct pl_vrow *r, const char *line);

/* What people call a model or its file: "Qwen3.6-35B-A3B-UD-IQ4_NL-00001-of-00002.gguf", "qwen2.5-coder:7b-instruct-q8_0",
 * "unsloth/Qwen3-4B-GGUF Q4_K_M". */
struct pl_model_name {
	char base[160];  /* without folder, shard, ending, precision and the marks of those who converted it */
	char quant[24];  /* lower case: "q4_k_m"; "" when none is named */
	bool own_mixture; /* a mixture of the converter's own (UD-, i1-, -mix, …): its bytes are not those of the plain one */
};
void pl_model_name_read(const char *text, struct pl_model_name *ret);
/* The catalogue's row for such a name, marks at its end left off one by one; NULL when there is none. */
const struct pl_model_row *pl_model_name_find(const struct pl_model_name *n);

/* ---- kinds: each in its own file */
extern const struct pl_table_kind pl_kind_llamacpp_memory;
extern const struct pl_table_kind pl_kind_serving_memory, pl_kind_startup;
extern const struct pl_table_kind pl_kind_params, pl_kind_gguf_sizes, pl_kind_gguf_sums, pl_kind_safetensors_sizes;

#endif
