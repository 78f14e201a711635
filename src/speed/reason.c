/* Why a step takes as long as it does, in one sentence. */
#include <math.h>
#include <string.h>

#include "speed/speed.h"

/* Causes below this share are not worth a word. */
static const double worth_frac = 0.1;

static uint32_t busiest(const struct pl_speed *s, const struct pl_step_cost *c)
{
	uint32_t best = 0;
	for (uint32_t i = 1; i < s->n_places; i++)
		if (c->device_s[s->places[i].first] > c->device_s[s->places[best].first])
			best = i;
	return best;
}

static const char *place_name(struct pl_arena *a, const struct pl_speed *s, uint32_t place)
{
	const struct pl_place *p = &s->places[place];
	if (p->first == PL_SPEED_HOST)
		return pl_tr("the CPU");
	return p->n > 1 ? pl_arena_printf(a, pl_tr("each of %u GPUs"), p->n) : pl_arena_printf(a, "GPU %u", p->first);
}

/* "all-reduce takes 18 %", largest first, at most two, the one that already stands in the sentence left out. */
static const char *others(struct pl_arena *a, const struct pl_step_cost *c, bool launch_said)
{
	const char *text = "";
	bool said[PL_CAUSE_COUNT] = {false};
	said[PL_CAUSE_GEMM] = true;
	said[PL_CAUSE_LAUNCH] = launch_said;
	for (int n = 0; n < 2; n++) {
		int best = -1;
		for (int i = 0; i < PL_CAUSE_COUNT; i++)
			if (!said[i] && c->cause_s[i] > worth_frac * c->total_s && (best < 0 || c->cause_s[i] > c->cause_s[best]))
				best = i;
		if (best < 0)
			break;
		said[best] = true;
		text = pl_arena_printf(a, pl_tr("%s; %s: %.0f %%"), text, pl_cause_text((enum pl_cause)best), 100 * c->cause_s[best] / c->total_s);
	}
	return text;
}

const char *pl_speed_reason(struct pl_arena *a, const struct pl_speed *s, const struct pl_step_cost *c, bool prefill)
{
	const char *what = prefill ? pl_tr("prefill") : pl_tr("decode");
	double launch = c->cause_s[PL_CAUSE_LAUNCH], rest = c->total_s - c->memory_s - c->compute_s - launch;
	const char *where = place_name(a, s, busiest(s, c));
	if (launch > c->memory_s && launch > c->compute_s)
		return pl_arena_printf(a, pl_tr("%s is bound by launches and the engine's own work, not by bandwidth%s"), what, others(a, c, true));
	double coming = c->cause_s[PL_CAUSE_GATHER] + c->cause_s[PL_CAUSE_HOST_LINK] + c->cause_s[PL_CAUSE_DISK];
	if (s->gathers && coming > c->memory_s && coming > c->compute_s)
		return pl_arena_printf(a, pl_tr("%s is bound by weights on their way to the GPUs%s"), what, others(a, c, false));
	if (rest > c->memory_s && rest > c->compute_s)
		return pl_arena_printf(a, pl_tr("%s is bound by what the devices send each other%s"), what, others(a, c, false));
	if (c->memory_s >= c->compute_s)
		return pl_arena_printf(a, pl_tr("%s is bound by memory bandwidth of %s%s"), what, where, others(a, c, false));
	return pl_arena_printf(a, pl_tr("%s is bound by arithmetic of %s%s"), what, where, others(a, c, false));
}
