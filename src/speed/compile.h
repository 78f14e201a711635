/* Parts of the compilation, inside the room. */
#ifndef PLIMSOLL_SPEED_COMPILE_H
#define PLIMSOLL_SPEED_COMPILE_H

#include "speed/speed.h"

struct pl_fused;

struct pl_compile {
	struct pl_arena *a;
	const struct pl_model *m;
	const struct pl_machine *hw;
	const struct pl_params *p;
	const struct pl_layout *l;
	struct pl_speed *s;
	struct pl_work *work;
	uint32_t n_work, cap_work;
	double scale_bytes;     /* stated size over the model's own */
	double paged_frac;      /* of the weights in RAM, what does not fit there and comes from disk each time */
	double disk_bytes_per_s; /* as page faults reach it */
	double activation_bytes; /* of one value between operations: 4 llama.cpp, 2 others */
	int16_t host_place;     /* -1 until something is computed there */
	int16_t device_place[PL_MAX_DEVICES];
	uint32_t tp, pp;        /* ranks that share a layer, stages */
	uint32_t moe_ranks;     /* ranks that share the experts of a layer: whole ones dealt out, or each cut */
	bool row_split;         /* llama.cpp cuts matrices over tp devices, all else stays where its layer is */
	uint32_t attn_ranks;    /* ranks that share the heads */
	int16_t last_place;     /* where the previous operation was computed, -1 at the start */
	bool streams;           /* batches of many rows stream the CPU's weights to the first GPU (llama.cpp's op offload) */
	struct pl_fused *fused; /* a serving engine on a measured card (speed/fused.c); NULL else */
	bool llama;             /* llama.cpp's family: layers on devices, experts on the CPU */
};

/* speed/links.c: how n devices from `first` on lie over hosts; bytes a second and direction that each sends its neighbour in one
 * host, and that each has of the network. */
struct pl_span {
	uint32_t hosts, local; /* cards of the group in one host */
};
struct pl_span pl_span_of(const struct pl_compile *c, uint32_t first, uint32_t n);
double pl_link_bytes_per_s(const struct pl_compile *c, uint32_t first, uint32_t n);
double pl_network_bytes_per_s(const struct pl_compile *c);

/* Adds work, merged with an equal one. */
void pl_work_add(struct pl_compile *c, const struct pl_work *w);
/* The same for a term that a measured curve costs: the constants scale it when it is bound. */
void pl_measured_add(struct pl_compile *c, const struct pl_term *t, enum pl_family scale, enum pl_family prefill_scale, enum pl_dtype type);

/* speed/places.c: the place of a device (-1: the CPU), made on first use. */
uint32_t pl_place_of(struct pl_compile *c, int device);
/* speed/cores.c: the CPU's place, and operations a second of its kernels for a type: in tiles of many rows, and of one row at a
 * time (a few rows always take these, and types without tiles do). */
void pl_host_facts(struct pl_compile *c, struct pl_place *p);
struct pl_core_peaks {
	double tile, row;
	bool tiled;
};
double pl_core_attention_peak(const struct pl_compile *c, const struct pl_place *p);
struct pl_core_peaks pl_core_peaks(const struct pl_compile *c, const struct pl_place *p, enum pl_dtype type);
/* The peak a matrix of this type is multiplied at. */
double pl_peak(const struct pl_compile *c, const struct pl_place *p, enum pl_dtype type);
/* FLOP a second of the kernels for a few rows where they are slower than the rest; 0: no such. */
double pl_few_rows_peak(const struct pl_compile *c, const struct pl_place *p, enum pl_dtype type);

/* speed/ops.c: work of one operation. */
void pl_op_work(struct pl_compile *c, const struct pl_op *op);

/* A pass over values that costs so many launches. */
void pl_pass_work(struct pl_compile *c, const struct pl_op *op, uint32_t place, enum pl_cause cause, double launches);

/* speed/fused.c: measured kernels of the serving engines. */
void pl_fused_begin(struct pl_compile *c);
/* Do the GPUs talk as those of the measured system did? */
bool pl_linked(const struct pl_compile *c, const struct pl_kernels *k, const struct pl_device *d, uint32_t n);
/* True: the operation is costed (or is part of another that is). */
bool pl_fused_op(struct pl_compile *c, const struct pl_op *op, uint32_t place);

/* speed/collective.c: the sum over ranks after an operation, and the hand-over when the place changes. */
void pl_local_reduce_work(struct pl_compile *c, uint32_t place, uint32_t ranks, double row_bytes);
void pl_network_reduce_work(struct pl_compile *c, uint32_t place, const struct pl_span *g, double row_bytes);
void pl_dispatch_work(struct pl_compile *c, uint32_t place, const struct pl_span *g, double value_bytes, double used);
void pl_share_work(struct pl_compile *c, uint32_t place, double row_bytes, double used);
void pl_reduce_work(struct pl_compile *c, uint32_t place, uint32_t ranks, double row_bytes);
void pl_hop_work(struct pl_compile *c, uint32_t from, uint32_t to, double row_bytes);
/* ZeRO stage 3: the weights of a step on their way to a rank. */
void pl_gather_work(struct pl_compile *c, uint32_t place);
/* Between the host the engine runs on and a place of another one (no work where it is the same). rows: which. */
void pl_net_work(struct pl_compile *c, uint32_t place, double row_bytes, enum pl_term_rows rows);

#endif
