/* What devices say to each other: sums over ranks, activations handed on. */
#include <math.h>
#include <string.h>

#include "speed/compile.h"

/* Between hosts: one 400 Gbit/s port a GPU, the usual build of a cluster (NVIDIA HGX reference design). */
static const double fabric_bytes_per_s = 50e9;
/* Without peer access a transfer goes through RAM: two crossings of the slot. */
static const double no_peer_factor = 0.5;

/* Between hosts of llama.cpp's RPC nobody named the network of: gigabit Ethernet. */
static const double assumed_net_bytes_per_s = 0.117e9;
/* Half a round trip of TCP in a local network, a message in and out of both kernels. A result is asked for and sent (RPC_CMD_GET_TENSOR,
 * ggml-rpc.cpp: what goes before it, SET_TENSOR and GRAPH_RECOMPUTE, is not answered), so each host costs one round trip. */
static const double tcp_one_way_s = 1e-4;

static bool says(const struct pl_compile *c, const char *word)
{
	return c->hw->link && strcasestr(c->hw->link, word);
}

/* GeForce from Ada on has neither NVLink nor peer access over PCIe in the vendor's driver. */
static bool no_peer(const struct pl_device *d)
{
	return d->gpu && d->vendor == PL_VENDOR_NVIDIA && strstr(d->gpu->name, "GeForce");
}

static double net_bytes_per_s(const struct pl_compile *c)
{
	const struct pl_link *l = c->hw->net;
	if (!l)
		return assumed_net_bytes_per_s;
	return isnan(l->practical_bytes_per_s) ? l->bytes_per_s : l->practical_bytes_per_s;
}

static uint32_t node_of(const struct pl_compile *c, uint32_t place)
{
	const struct pl_place *p = &c->s->places[place];
	return p->first == PL_SPEED_HOST ? 0 : c->hw->devices[p->first].node;
}

void pl_net_work(struct pl_compile *c, uint32_t place, double row_bytes, enum pl_term_rows rows)
{
	struct pl_work w;
	if (!node_of(c, place))
		return;
	c->s->net_assumed = !c->hw->net;
	memset(&w, 0, sizeof w);
	w.kind = PL_TERM_MESSAGE;
	w.cause = PL_CAUSE_HOP;
	w.rows = rows;
	w.place = w.gpu = place;
	w.ranks = 1;
	w.network = true;
	w.row_bytes = row_bytes;
	w.link_bytes_per_s = net_bytes_per_s(c);
	w.message_s = c->hw->net && !isnan(c->hw->net->latency_s) ? c->hw->net->latency_s : tcp_one_way_s;
	pl_work_add(c, &w);
}

/* Bytes per second, one direction, that each of n devices from `first` on can send its neighbours. */
static double link_bytes_per_s(const struct pl_compile *c, uint32_t first, uint32_t n)
{
	const struct pl_device *d = &c->hw->devices[first];
	bool hosts = n > 1 && first + n <= c->hw->n_devices && c->hw->devices[first + n - 1].node != d->node;
	double link = d->gpu && !isnan(d->gpu->link_bytes_per_s) ? d->gpu->link_bytes_per_s / 2 : 0;
	bool linked = says(c, "nvlink") || says(c, "nvswitch") || says(c, "xgmi") || says(c, "infinity") || says(c, "hccs");
	if (hosts)
		return c->hw->net ? net_bytes_per_s(c) : fabric_bytes_per_s;
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
	if (node_of(c, from) != node_of(c, to)) { /* from one host to the first, from there to the other */
		pl_net_work(c, from, row_bytes, PL_TERM_NEW);
		pl_net_work(c, to, row_bytes, PL_TERM_NEW);
		return;
	}
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

/* Parameters of 1e5 elements and fewer stay whole on every rank (deepspeed, stage3_param_persistence_threshold). */
static double sharded_bytes(const struct pl_compile *c)
{
	double sum = 0;
	for (uint32_t i = 0; i < c->m->n_tensors; i++)
		sum += c->m->tensors[i].n_elems > 100000 ? (double)c->m->tensors[i].bytes : 0;
	return sum * c->scale_bytes;
}

/* NCCL's all-gather of half a gigabyte on the card, or on its kin linked alike; 0: not measured. */
static double measured_gather_bytes_per_s(const struct pl_compile *c, uint32_t first, uint32_t n)
{
	const double bytes = 0x1p29;
	const struct pl_device *d = &c->hw->devices[first];
	struct pl_kernels k;
	struct pl_curve curve;
	if (n < 2 || n > 8 || !d->gpu || !pl_kernels_of(d->gpu, &k) || !pl_linked(c, &k, d) ||
	    !pl_kernel_message(&k, PL_MESSAGE_ALL_GATHER, n, bytes, &curve))
		return 0;
	return bytes * (n - 1) / n / pl_curve_s(&curve, 1);
}

/* A rank reads its part from RAM over its own slot, gets the others' from the ranks, and copies the parts together, which reads
 * and writes every byte on the stream that gathers (AllGatherCoalescedHandle.wait: torch.cat); all ranks share the drive. */
void pl_gather_work(struct pl_compile *c, uint32_t place)
{
	const struct pl_place *p = &c->s->places[place];
	double ranks = c->s->n_replicas, all = sharded_bytes(c);
	struct pl_work w;
	if (p->first == PL_SPEED_HOST)
		return;
	memset(&w, 0, sizeof w);
	w.kind = PL_TERM_GATHER;
	w.cause = c->p->zero_offload == PL_ZERO_NVME ? PL_CAUSE_DISK : c->p->zero_offload == PL_ZERO_CPU ? PL_CAUSE_HOST_LINK : PL_CAUSE_GATHER;
	w.place = w.gpu = place;
	w.launches = c->m->n_layers ? c->m->n_layers : 1;
	w.ranks = ranks;
	w.gather_bytes = all * (ranks - 1) / ranks;
	w.copy_bytes = ranks > 1 ? 2 * all : 0;
	w.link_bytes_per_s = measured_gather_bytes_per_s(c, p->first, c->s->n_replicas);
	w.reached = w.link_bytes_per_s > 0;
	if (!w.reached)
		w.link_bytes_per_s = link_bytes_per_s(c, p->first, c->s->n_replicas);
	w.slot_bytes = c->p->zero_offload != PL_ZERO_GPU ? all / ranks : 0;
	w.slot_bytes_per_s = pl_pcie_bytes_per_s(&c->hw->devices[p->first]);
	w.disk_bytes = c->p->zero_offload == PL_ZERO_NVME ? all : 0;
	w.disk_bytes_per_s = pl_disk_bytes_per_s(c->s->setup.disk_bytes_per_s);
	c->s->gathers = true;
	pl_work_add(c, &w);
}
