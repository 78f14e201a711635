/* What devices say to each other: sums over ranks, tokens for experts, activations handed on. */
#include <math.h>
#include <string.h>

#include "speed/compile.h"

/* Between hosts of llama.cpp's RPC nobody named the network of: gigabit Ethernet. */
static const double assumed_net_bytes_per_s = 0.117e9;
/* Half a round trip of TCP in a local network, a message in and out of both kernels. A result is asked for and sent (RPC_CMD_GET_TENSOR,
 * ggml-rpc.cpp: what goes before it, SET_TENSOR and GRAPH_RECOMPUTE, is not answered), so each host costs one round trip. */
static const double tcp_one_way_s = 1e-4;

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

static void add_message(struct pl_compile *c, uint32_t place, enum pl_cause cause, uint32_t ranks, double row_bytes, double bytes_per_s,
                        double rows_min, double rows_max)
{
	struct pl_work w;
	memset(&w, 0, sizeof w);
	w.kind = PL_TERM_MESSAGE;
	w.cause = cause;
	w.place = w.gpu = place;
	w.ranks = ranks;
	w.row_bytes = row_bytes;
	w.link_bytes_per_s = bytes_per_s;
	w.rows_min = rows_min;
	w.rows_max = rows_max;
	pl_work_add(c, &w);
}

/* Each rank of a ring sends 2 (n − 1)/n of the message. */
void pl_local_reduce_work(struct pl_compile *c, uint32_t place, uint32_t ranks, double row_bytes)
{
	add_message(c, place, PL_CAUSE_ALL_REDUCE, ranks, 2 * (1 - 1.0 / ranks) * row_bytes,
	            pl_link_bytes_per_s(c, c->s->places[place].first, ranks), 0, 0);
}

/* Between hosts each card sums the part that the ring of its host left with it. */
void pl_network_reduce_work(struct pl_compile *c, uint32_t place, const struct pl_span *g, double row_bytes)
{
	if (g->hosts > 1)
		add_message(c, place, PL_CAUSE_ALL_REDUCE, g->hosts, 2 * (1 - 1.0 / g->hosts) * row_bytes / g->local, pl_network_bytes_per_s(c), 0, 0);
}

void pl_reduce_work(struct pl_compile *c, uint32_t place, uint32_t ranks, double row_bytes)
{
	if (c->s->places[place].first == PL_SPEED_HOST || ranks < 2)
		return;
	struct pl_span g = pl_span_of(c, c->s->places[place].first, ranks);
	if (g.local > 1)
		pl_local_reduce_work(c, place, g.local, row_bytes);
	pl_network_reduce_work(c, place, &g, row_bytes);
}

/* Tokens on their way to experts of other hosts, one byte a value, and back, two (DeepEP). Few at once go to each of their `used`
 * experts by RDMA; from its largest low-latency batch on they go once to each host and are spread there by NVLink. Its README:
 * 128 tokens of 7168 values and 8 experts take 163 + 318 µs over 8 cards of H800 with 400 Gbit/s ports, 194 + 360 over 256:
 * 46 and 39 GB/s. */
void pl_dispatch_work(struct pl_compile *c, uint32_t place, const struct pl_span *g, double value_bytes, double used)
{
	const double low_latency_rows = 128, forever = 1e18;
	double away = 1 - 1.0 / g->hosts, reached = (g->hosts - 1) * -expm1(used * log1p(-1.0 / g->hosts));
	double net = pl_network_bytes_per_s(c);
	add_message(c, place, PL_CAUSE_ALL_TO_ALL, g->hosts, 3 * value_bytes * used * away, net, 0, low_latency_rows);
	add_message(c, place, PL_CAUSE_ALL_TO_ALL, g->hosts, 3 * value_bytes * reached, net, low_latency_rows, forever);
}

/* Experts shared by more ranks than share the attention: each gathers the tokens of all, and scatters their sums. */
void pl_share_work(struct pl_compile *c, uint32_t place, double row_bytes, double used)
{
	const double ranks = (double)c->moe_ranks / c->tp;
	struct pl_span g = pl_span_of(c, c->s->places[place].first, c->moe_ranks);
	if (ranks > 1 && g.hosts > 1)
		pl_dispatch_work(c, place, &g, row_bytes / 2, used);
	else
		pl_reduce_work(c, place, c->moe_ranks, row_bytes * ranks);
}

/* Between two GPUs and between GPU and CPU, over PCIe or the link. */
void pl_hop_work(struct pl_compile *c, uint32_t from, uint32_t to, double row_bytes)
{
	const struct pl_place *a = &c->s->places[from], *b = &c->s->places[to];
	struct pl_work w;
	if (c->llama && node_of(c, from) != node_of(c, to)) { /* from one host to the first, from there to the other */
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
	w.link_bytes_per_s = w.to_host                                                    ? pl_pcie_bytes_per_s(d)
	                     : d->node != c->hw->devices[c->s->places[to].first].node ? pl_network_bytes_per_s(c)
	                                                                              : pl_link_bytes_per_s(c, c->s->places[w.gpu].first, 1);
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
	if (n < 2 || n > 8 || !d->gpu || !pl_kernels_of(d->gpu, &k) || !pl_linked(c, &k, d, n) ||
	    !pl_kernel_message(&k, PL_MESSAGE_ALL_GATHER, n, bytes, false, &curve))
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
		w.link_bytes_per_s = pl_link_bytes_per_s(c, p->first, c->s->n_replicas);
	w.slot_bytes = c->p->zero_offload != PL_ZERO_GPU ? all / ranks : 0;
	w.slot_bytes_per_s = pl_pcie_bytes_per_s(&c->hw->devices[p->first]);
	w.disk_bytes = c->p->zero_offload == PL_ZERO_NVME ? all : 0;
	w.disk_bytes_per_s = pl_disk_bytes_per_s(c->s->setup.disk_bytes_per_s);
	c->s->gathers = true;
	pl_work_add(c, &w);
}
