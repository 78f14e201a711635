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

/* Each rank of a ring sends 2 (n − 1)/n of the message. */
void pl_reduce_work(struct pl_compile *c, uint32_t place, uint32_t ranks, double row_bytes)
{
	const struct pl_place *p = &c->s->places[place];
	struct pl_work w;
	if (p->first == PL_SPEED_HOST || ranks < 2)
		return;
	memset(&w, 0, sizeof w);
	w.kind = PL_TERM_MESSAGE;
	w.cause = PL_CAUSE_ALL_REDUCE;
	w.place = w.gpu = place;
	w.ranks = ranks;
	w.row_bytes = 2 * ((double)ranks - 1) / ranks * row_bytes;
	w.link_bytes_per_s = link_bytes_per_s(c, p->first, ranks);
	pl_work_add(c, &w);
}

/* Between two GPUs and between GPU and CPU, over PCIe or the link. */
void pl_hop_work(struct pl_compile *c, uint32_t from, uint32_t to, double row_bytes)
{
	const struct pl_place *a = &c->s->places[from], *b = &c->s->places[to];
	struct pl_work w;
	memset(&w, 0, sizeof w);
	w.gpu = a->first == PL_SPEED_HOST ? to : from;
	if (c->s->places[w.gpu].first == PL_SPEED_HOST)
		return;
	const struct pl_device *d = &c->hw->devices[c->s->places[w.gpu].first];
	w.kind = PL_TERM_MESSAGE;
	w.cause = PL_CAUSE_HOP;
	w.place = to;
	w.to_host = a->first == PL_SPEED_HOST || b->first == PL_SPEED_HOST;
	w.ranks = 1;
	w.row_bytes = row_bytes;
	w.link_bytes_per_s = w.to_host ? pl_pcie_bytes_per_s(d) : link_bytes_per_s(c, c->s->places[w.gpu].first, 1);
	pl_work_add(c, &w);
}
