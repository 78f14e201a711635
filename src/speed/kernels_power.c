/* Watts of measured kernels: whose shares of the board power a card takes, and the share at a utilisation. */
#include <string.h>

#include "base/words.h"
#include "speed/kernels.h"

static const float *shares_of(uint32_t system, enum pl_power_cause cause)
{
	const struct pl_kernel_tables *t = pl_kernel_tables();
	for (uint32_t i = 0; i < t->n_power; i++)
		if (t->power[i].system == system && t->power[i].cause == cause)
			return t->power[i].share;
	return NULL;
}

/* The system that is this card, else the first of its capability, whose watts were measured. */
static uint32_t system_of(const struct pl_gpu *g)
{
	const struct pl_kernel_tables *t = pl_kernel_tables();
	uint32_t kin = g->mem_type && strstr(g->mem_type, "GDDR") ? PL_POWER_GDDR : PL_POWER_ANY;
	for (uint32_t i = t->n_systems; i-- > 0;) {
		if (!shares_of(i, PL_POWER_MEMORY))
			continue;
		if (pl_word_in(t->systems[i].gpus, g->id))
			return i;
		if (!strcmp(t->systems[i].capability, g->capability))
			kin = i;
	}
	return kin;
}

const char *pl_kernel_power_of(const struct pl_gpu *g, const float *ret_shares[PL_POWER_CAUSES])
{
	uint32_t system = g ? system_of(g) : PL_POWER_ANY;
	for (unsigned c = 0; c < PL_POWER_CAUSES; c++) {
		const float *own = shares_of(system, (enum pl_power_cause)c);
		ret_shares[c] = own ? own : shares_of(PL_POWER_ANY, (enum pl_power_cause)c);
	}
	return system == PL_POWER_ANY    ? "H200, B200, GB200"
	       : system == PL_POWER_GDDR ? "RTX 3090, 4090, 5090"
	                                 : pl_kernel_tables()->systems[system].name;
}

double pl_power_share(const float *shares, double utilisation)
{
	const float *at = pl_kernel_tables()->power_at;
	if (!(utilisation > 0))
		return (double)shares[0];
	for (int i = 1; i < PL_POWER_POINTS; i++)
		if (utilisation <= (double)at[i]) {
			double f = (utilisation - (double)at[i - 1]) / ((double)at[i] - (double)at[i - 1]);
			return (1 - f) * (double)shares[i - 1] + f * (double)shares[i];
		}
	return (double)shares[PL_POWER_POINTS - 1];
}
