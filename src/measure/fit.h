/* Fits the constants of the speed model to observations: robust, drawn towards the prior, group by group where asked.
 *
 * ln(predicted) is differentiated by every constant of every place; an effect (speed/constants.h) moves all constants of its
 * contexts alike. Gauss-Newton steps with robust weights; the linear systems are solved by conjugate gradients. */
#ifndef PLIMSOLL_MEASURE_FIT_H
#define PLIMSOLL_MEASURE_FIT_H

#include "speed/speed.h"

/* One measured number. Everything is lent. */
struct pl_observation {
	struct pl_speed *speed;  /* compiled; the fit binds it again */
	double (*predict)(const void *about);
	const void *about;
	double measured;
	enum pl_answer_class class;
	const char *device, *model, *source; /* groups, never NULL */
	uint32_t row, table;
	double weight;           /* 0: predicted but not fitted on (flagged, assumed) */
	/* results */
	double predicted;        /* by the whole fit, or by the fit without its group */
	enum pl_kinship kinship; /* what the constants behind `predicted` knew of its devices */
};

enum pl_leave_out { PL_LEAVE_NONE = 0, PL_LEAVE_DEVICE, PL_LEAVE_MODEL, PL_LEAVE_SOURCE };

struct pl_fit {
	struct pl_arena *a;
	const struct pl_constants *prior; /* effects start here and are drawn towards it; may have none */
	double prior_weight;              /* 1; above: trust the prior more (a user's dozen points) */
	struct pl_observation *obs;
	uint32_t n;
	struct pl_constants *fitted;      /* the result; its effects belong to the fit */
	struct pl_fit_work *work;
};

/* Weights by device (a device with many rows counts as the square root of them), then the fit to all observations. */
int pl_fit_all(struct pl_fit *f, struct pl_err *err) PL_MUST_CHECK;
/* After pl_fit_all: refits without each group and fills predicted and kinship of its members; f->fitted is as before. */
int pl_fit_leave_out(struct pl_fit *f, enum pl_leave_out by, struct pl_err *err) PL_MUST_CHECK;
/* How far predictions of groups that a fit did not see were off. */
struct pl_fit_misses {
	struct pl_fit_miss {
		enum pl_answer_class class;
		enum pl_kinship kinship;
		double ln; /* of measured over predicted */
	} *list;
	uint32_t n;
};
/* Adds the observations' misses as they stand after a pl_fit_leave_out. */
int pl_fit_gather(const struct pl_fit *f, struct pl_fit_misses *to, struct pl_err *err) PL_MUST_CHECK;
/* Intervals by class and kinship from them; small sets borrow from larger ones. */
void pl_fit_intervals(struct pl_fit *f, const struct pl_fit_misses *of);

#endif
