/* Watts: what the devices draw while they wait, decode and compute prompts; what a cap does to speed. */
#include <math.h>

#include "speed/speed.h"

/* Idle draw where nobody measured it: the median of the catalogue's rows that have one is 6 % of the board power. */
static const double idle_frac = 0.06;
/* Part of the power of a busy card that does not follow its clock (memory, leakage, fans). */
static const double static_frac = 0.3;
/* Dynamic power goes with clock × voltage², and voltage nearly with the clock: clock ∝ power^0.4. Memory keeps its clock, so
 * that reads suffer only from what the cores no longer keep in flight. */
static const double compute_exponent = 0.4, memory_exponent = 0.2;

static double slowed(double cap_w, double needs_w, double tdp_w, double exponent)
{
	double fixed = static_frac * tdp_w;
	if (!(cap_w > 0) || cap_w >= needs_w || !(needs_w > fixed))
		return 1;
	return pow(fmax(cap_w - fixed, 0.05 * tdp_w) / (needs_w - fixed), exponent);
}

void pl_power_cap(struct pl_place *p, double cap_w, const double *families)
{
	double tdp = p->power_w;
	p->cap_compute = p->cap_memory = 1;
	if (!(tdp > 0) || !(cap_w > 0))
		return;
	p->cap_compute = slowed(cap_w, families[PL_F_PREFILL_W] * tdp, tdp, compute_exponent);
	p->cap_memory = slowed(cap_w, families[PL_F_DECODE_W] * tdp, tdp, memory_exponent);
}

/* One device at a time is busy in a layer split; the others idle along. */
double pl_speed_watts(const struct pl_speed *s, const struct pl_step_cost *step, bool prefill)
{
	double sum = 0;
	for (uint32_t i = 0; i < s->n_places; i++) {
		const struct pl_place *p = &s->places[i];
		double tdp = p->power_w, idle = p->idle_w > 0 ? p->idle_w : idle_frac * tdp;
		if (p->first == PL_SPEED_HOST)
			continue;
		if (!(tdp > 0))
			return NAN;
		double frac = pl_constant(s->constants, prefill ? PL_F_PREFILL_W : PL_F_DECODE_W, &p->context, PL_DTYPE_UNKNOWN);
		double active = fmin(frac, 1) * tdp, share = step ? fmin(step->device_s[p->first] / step->total_s, 1) : 0;
		if (s->power_limit_w > 0)
			active = fmin(active, s->power_limit_w);
		sum += p->n * (idle + share * fmax(active - idle, 0));
	}
	return sum > 0 ? sum * s->n_replicas : NAN;
}
