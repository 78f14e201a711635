/* Plan against truth: tables of measurements, a prediction for each row, and how far they are apart. (Reads files.) */
#ifndef PLIMSOLL_MEASURE_H
#define PLIMSOLL_MEASURE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <plimsoll/arena.h>
#include <plimsoll/error.h>
#include <plimsoll/opt.h>
#include <plimsoll/speed.h>

enum pl_prediction_status {
	PL_PREDICTED = 0,   /* "ok": measured and predicted stand side by side */
	PL_FLAGGED,         /* "flagged": a stated rule says that the measurement cannot be what its row says */
	PL_UNMAPPED         /* "unmapped": the row does not state enough, or nothing is modelled for it */
};
const char *pl_prediction_status_name(enum pl_prediction_status s);

/* One measured number and its prediction. */
struct pl_prediction {
	const char *id;       /* of the row, or "row N" where it has none */
	uint32_t row;         /* 1-based, the header not counted */
	const char *metric;   /* "kv_cache_tokens", "compute_bytes", "decode_tok_s": its unit is its last word */
	const char *classes;  /* "engine=vllm;backend=cuda;kind=moe" */
	double measured;
	double resolution;    /* half of its last printed digit, in the same unit; 0 unknown */
	double predicted, low, high; /* NAN when unmapped; low and high bound the 80 % interval, NAN when none is stated */
	enum pl_prediction_status status;
	const char *reason;   /* why it is flagged or unmapped, else a remark or NULL */
};

/* Errors of the predictions of one metric in one class. Fractions of the measured value; NAN where nothing was predicted. */
struct pl_accuracy {
	const char *metric;
	const char *class_name;  /* "all", "engine=vllm" */
	uint32_t n, n_ok, n_flagged, n_unmapped;
	double coverage_frac;    /* n_ok / (n - n_flagged) */
	double median_error_frac, p90_error_frac; /* of |predicted - measured| / |measured|, quantiles interpolated linearly */
	double bias_frac;        /* median of (predicted - measured) / measured */
	uint32_t n_exact;        /* within half of the last printed digit (row's own resolution) or 1e-9 of the value */
	uint32_t n_interval;     /* predictions that state an interval */
	double interval_coverage_frac; /* share of those whose interval holds the measurement */
};

/* A reason and how often it was given. */
struct pl_reason_count {
	const char *reason;
	uint32_t n;
	const char *first_id;
};

struct pl_validation {
	const char *table, *kind;      /* the file, and what it holds: "llamacpp_memory" */
	uint32_t n_rows;
	const struct pl_prediction *predictions;
	uint32_t n_predictions;
	const struct pl_accuracy *accuracy; /* by metric, "all" first, then by class in order of first appearance */
	uint32_t n_accuracy;
	const struct pl_reason_count *reasons; /* of unmapped and flagged predictions, most frequent first */
	uint32_t n_reasons;
	const char **missing_columns;  /* columns of its kind that the table lacks */
	uint32_t n_missing_columns;
	struct pl_note *notes;
};

/* Reads a table, tells its kind from its columns, and predicts every row. A row that cannot be read or mapped is a result
 * (PL_UNMAPPED with its reason), never an error. Errors: PL_ERR_IO, PL_ERR_FORMAT (not a table, no kind has these columns),
 * PL_ERR_LIMIT (more than 256 MiB, 1,000,000 rows or 256 columns). */
int pl_validate(struct pl_arena *a, const char *path, const struct pl_validation **ret, struct pl_err *err) PL_MUST_CHECK;

/* leave_out: "device", "model" or "source": the constants are fitted again without each such group of the table in turn, and
 * its rows are predicted by that fit; NULL: by constants (NULL: the shipped ones). */
struct pl_validate_options {
	const char *leave_out;
	const struct pl_constants *constants;
};
int pl_validate_with(struct pl_arena *a, const char *path, const struct pl_validate_options *o, const struct pl_validation **ret,
                     struct pl_err *err) PL_MUST_CHECK;

/* Writes id,metric,class,measured,predicted,low,high,status,reason: beside path first, then renamed. */
int pl_validation_write_rows(const struct pl_validation *v, const char *path, struct pl_err *err) PL_MUST_CHECK;

#endif
