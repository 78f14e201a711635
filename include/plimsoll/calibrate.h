/* Fitting the speed model's constants to tables of measurements. (Reads files.) */
#ifndef PLIMSOLL_CALIBRATE_H
#define PLIMSOLL_CALIBRATE_H

#include <plimsoll/speed.h>

/* How far off predictions are in one class. Fractions; ln ratios of measured to predicted bound the interval. */
struct pl_calibration_class {
	const char *class_name;  /* "decode", "multi_prefill" … */
	uint32_t n, n_devices;
	double fitted_median_frac, fitted_p90_frac;   /* of the rows the fit saw */
	double device_median_frac, device_p90_frac;   /* each device predicted by a fit without it */
	double model_median_frac, model_p90_frac;     /* each model predicted by a fit without it */
};

struct pl_calibration {
	const struct pl_constants *constants;
	uint32_t n_rows, n_used, n_effects;
	const struct pl_calibration_class *classes;
	uint32_t n_classes;
	struct pl_note *notes;
};

/* Reads tables of speeds and fits. from_shipped: the shipped constants are the prior (a user's dozen points), and the
 * intervals stay; else the fit starts from nothing but the model's own priors and leaves devices, then models, out in turn to
 * find its intervals. Errors as pl_validate. */
int pl_calibrate(struct pl_arena *a, const char *const *paths, uint32_t n_paths, bool from_shipped,
                 const struct pl_calibration **ret, struct pl_err *err) PL_MUST_CHECK;

/* Reads constants that pl_constants_write wrote, on top of the shipped ones (its rows replace theirs). */
int pl_constants_load(struct pl_arena *a, const char *path, const struct pl_constants **ret, struct pl_err *err) PL_MUST_CHECK;
/* Writes the constants as data/calibration.csv has them: beside path first, then renamed. */
int pl_constants_write(const struct pl_constants *c, const char *path, struct pl_err *err) PL_MUST_CHECK;

#endif
