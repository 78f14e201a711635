/* What devices say to each other: sums over ranks, activations handed on. */
#include <math.h>
#include <string.h>

#include "speed/compile.h"

/* Between hosts: one 400 Gbit/s port a GPU, the usual build of a cluster (NVIDIA HGX reference design). */
static const double fabric_bytes_per_s = 50e9;
/* Without peer access a transfer goes through RAM: two crossings of the slot. */
static const double no_peer_factor = 0.5;

static bool says(const struct pl_compile *c, const char *word)
{
	return c->hw->link && strcasestr(c->hw->link, word);
}

/* GeForce from Ada on has neither NVLink nor peer access over PCIe in the vendor's driver. */
static bool no_peer(const struct pl_device *d)
{
	return d->gpu && d->vendor == PL_VENDOR_NVIDIA && strstr(d->gpu->name, "GeForce");
}

/* Bytes per second, one direction, that each of n devices from `first` on can send its neighbours. */
static double link_bytes_per_s(const struct pl_compile *c, uint32_t first, uint32_t n)
{
	const struct pl_device *d = &c->hw->devices[first];
	bool hosts = n > 1 && first + n <= c->hw->n_devices && c->hw->devices[first + n - 1].node != d->node;
	double link = d->gpu && !isnan(d->gpu->link_bytes_per_s) ? d->gpu->link_bytes_per_s / 2 : 0;
	bool linked = says(c, "nvlink") || says(c, "nvswitch") || says(c, "xgmi") || says(c, "infinity") || says(c, "hccs");
	if (hosts)
		return fabric_bytes_per_s;
	if (linked && link > 0)
		return link;
	double pcie = pl_pcie_bytes_per_s(d);
	return says(c, "no-p2p") || says(c, "no p2p") || no_peer(d) ? pcie * no_peer_factor : pcie;
}

/* Ring: each rank sends 2 (n − 1)/n of the message; below some size the fixed part rules. */
void pl_reduce_term(struct pl_compile *c, uint32_t place, double row_bytes)
{
	struct pl_place *p = &c->s->places[place];
	double n = c->ep > c->tp ? (double)c->ep : (double)c->tp;
	if (p->first == PL_SPEED_HOST || n < 2)
		return;
	double bw = link_bytes_per_s(c, p->first, p->n) * pl_at(c, place, PL_F_REDUCE_EFF, PL_DTYPE_UNKNOWN);
	struct pl_term t = {.kind = PL_TERM_MESSAGE, .cause = PL_CAUSE_ALL_REDUCE, .place = place};
	t.fixed_s = pl_at(c, place, PL_F_REDUCE_S, PL_DTYPE_UNKNOWN) * (1 + log2(n)) / 2;
	t.row_memory_s = 2 * (n - 1) / n * row_bytes / bw;
	pl_term_add(c, &t, 1);
}

/* Between two GPUs and between GPU and CPU, over PCIe or the link. */
void pl_hop_term(struct pl_compile *c, uint32_t from, uint32_t to, double row_bytes)
{
	const struct pl_place *a = &c->s->places[from], *b = &c->s->places[to];
	uint32_t gpu = a->first == PL_SPEED_HOST ? to : from;
	if (c->s->places[gpu].first == PL_SPEED_HOST)
		return;
	const struct pl_device *d = &c->hw->devices[c->s->places[gpu].first];
	bool host = a->first == PL_SPEED_HOST || b->first == PL_SPEED_HOST;
	double bw = host ? pl_pcie_bytes_per_s(d) * pl_at(c, gpu, PL_F_PCIE_EFF, PL_DTYPE_UNKNOWN)
	                 : link_bytes_per_s(c, c->s->places[gpu].first, 1) * pl_at(c, gpu, PL_F_REDUCE_EFF, PL_DTYPE_UNKNOWN);
	struct pl_term t = {.kind = PL_TERM_MESSAGE, .cause = PL_CAUSE_HOP, .place = to};
	t.fixed_s = pl_at(c, gpu, PL_F_HOP_S, PL_DTYPE_UNKNOWN);
	t.row_memory_s = row_bytes / bw;
	pl_term_add(c, &t, 1);
}
