/* Measured kernels of a card: matrix products, attention, experts and messages between GPUs, from the curves of
 * data/kernels (its README names their source). Utilisation is the time on the roofline of the spec peaks over the
 * measured time; a card without curves borrows the utilisation of its kin and keeps its own roofline. */
#ifndef PLIMSOLL_SPEED_KERNELS_H
#define PLIMSOLL_SPEED_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

#include <plimsoll/hardware.h>

/* Order as in tools/gen_kernels.py. */
enum pl_kernel_grid_op {
	PL_GRID_GEMM = 0,             /* y log2(n k), x log2(m) */
	PL_GRID_DECODE_ATTENTION,     /* y log2(bytes of cache read), x log2(past tokens) */
	PL_GRID_PREFILL_ATTENTION,    /* y log2(sequences × heads), x log2(tokens); heads of 128 and more */
	PL_GRID_PREFILL_ATTENTION_64, /* the same for heads of 64 */
	PL_GRID_DECODE_MLA,           /* y log2(bytes of latent cache read), x log2(heads) */
	PL_GRID_PREFILL_MLA           /* y log2(sequences × heads), x log2(tokens) */
};
enum pl_kernel_type {
	PL_KERNEL_BF16 = 0,
	PL_KERNEL_FP8,       /* one scale a tensor or row */
	PL_KERNEL_FP8_BLOCK, /* one scale a block of 128 × 128 */
	PL_KERNEL_NVFP4,
	PL_KERNEL_INT4,      /* weights only: multiplied in 16 bits */
	PL_KERNEL_INT8_W,    /* weights only */
	PL_KERNEL_INT8,
	PL_KERNEL_MXFP4,     /* weights only */
	PL_KERNEL_MXFP4_FP8,
	PL_KERNEL_TYPES
};
enum pl_kernel_engine { PL_KERNEL_VLLM = 0, PL_KERNEL_SGLANG, PL_KERNEL_TRTLLM, PL_KERNEL_ENGINES };
enum pl_kernel_message_op {
	PL_MESSAGE_ALL_REDUCE_GRAPH = 0, /* the engines' own kernels, in a CUDA graph */
	PL_MESSAGE_ALL_REDUCE,           /* NCCL */
	PL_MESSAGE_ALL_GATHER,
	PL_MESSAGE_REDUCE_SCATTER,
	PL_MESSAGE_ALL_TO_ALL,
	PL_MESSAGE_DISPATCH, /* DeepEP's low-latency kernels: bytes that one GPU sends to experts, or gets back */
	PL_MESSAGE_COMBINE
};

/* ---- the generated tables */

enum pl_peak_index { PL_PEAK_16 = 0, PL_PEAK_FP8, PL_PEAK_FP4, PL_PEAK_INT8, PL_PEAK_MEMORY, PL_PEAKS };
struct pl_kernel_system {
	const char *name, *gpus, *capability; /* gpus: ids of the catalogue, space-separated */
	double peaks[PL_PEAKS];               /* FLOP/s, the last bytes/s; 0: the card has no such units */
};
struct pl_kernel_grid {
	uint8_t op, system, type, n_y, n_x;
	float y0, dy, x0, dx, ln_floor_s;
	const float *ln_util; /* n_y rows of n_x */
};
enum { PL_EXPERT_POINTS = 8, PL_EXPERT_KEYS = 5, PL_MESSAGE_POINTS = 12 };
struct pl_kernel_experts {
	uint8_t system, engine, type;
	float key[PL_EXPERT_KEYS]; /* log2 of: hidden, width of an expert on one rank, experts a token, experts, ranks they are dealt to */
	float ln_s[PL_EXPERT_POINTS]; /* at 1, 4, 16 … 16384 tokens of all ranks */
};
struct pl_kernel_message {
	uint8_t system, op, n_gpus;
	float ln_s[PL_MESSAGE_POINTS]; /* at 2^9, 2^11 … 2^31 bytes */
};
/* Share of the board power a kernel draws, by what holds it up. */
enum pl_power_cause {
	PL_POWER_MEMORY = 0, /* reading weights, caches, activations */
	PL_POWER_PREFILL_ATTENTION,
	PL_POWER_MATRIX_16,  /* products, by the width of the units */
	PL_POWER_MATRIX_8,
	PL_POWER_MATRIX_4,
	PL_POWER_EXPERTS,
	PL_POWER_CAUSES
};
enum { PL_POWER_POINTS = 10, PL_POWER_ANY = 255, PL_POWER_GDDR = 254 };
struct pl_kernel_power {
	uint8_t system, cause; /* system PL_POWER_ANY: the median of all systems; PL_POWER_GDDR: whole runs on cards with GDDR */
	float share[PL_POWER_POINTS]; /* at power_at[] of the peak */
};
struct pl_kernel_tables {
	const struct pl_kernel_system *systems;
	const struct pl_kernel_grid *grids;
	const struct pl_kernel_experts *experts;
	const struct pl_kernel_message *messages;
	const struct pl_kernel_power *power;
	const float *power_at;
	uint32_t n_systems, n_grids, n_experts, n_messages, n_power;
};
const struct pl_kernel_tables *pl_kernel_tables(void);

/* ---- look-up */

/* A card and the measured system it is or is nearest to. */
struct pl_kernels {
	uint32_t system;
	bool kin;               /* another card of the family was measured, not this one */
	bool foreign;           /* one of another maker */
	double peaks[PL_PEAKS]; /* the measured system's own, or the kin's from the catalogue */
};
/* False: nothing near it was measured. */
bool pl_kernels_of(const struct pl_gpu *g, struct pl_kernels *ret);

/* Seconds at 2^i rows. */
enum { PL_CURVE_POINTS = 17 };
struct pl_curve {
	float ln_s[PL_CURVE_POINTS];
};
double pl_curve_s(const struct pl_curve *c, double rows);

/* An (rows × k) · (k × n) product of one rank. */
void pl_kernel_gemm(const struct pl_kernels *k, enum pl_kernel_type type, double n, double depth, struct pl_curve *ret);

struct pl_expert_shape {
	double hidden, width, used, experts, ranks; /* width: of one expert on one rank; ranks: experts are dealt out to */
};
/* Gate, up and down of the routed experts of one rank, by tokens of all ranks. False: no curve of a like shape. */
bool pl_kernel_routed(const struct pl_kernels *k, enum pl_kernel_engine e, enum pl_kernel_type type,
                      const struct pl_expert_shape *s, struct pl_curve *ret);

/* A message of `row_bytes` a row between n GPUs of one host; staged: through RAM, where the system was measured so. */
bool pl_kernel_message(const struct pl_kernels *k, enum pl_kernel_message_op op, uint32_t n_gpus, double row_bytes, bool staged,
                       struct pl_curve *ret);
/* Was a group of n measured without peer access? */
bool pl_kernel_staged(const struct pl_kernels *k, uint32_t n_gpus);

/* NULL when the system has none. */
const struct pl_kernel_grid *pl_kernel_grid(const struct pl_kernels *k, enum pl_kernel_grid_op op, enum pl_kernel_type type);
/* Seconds of a kernel whose time on the roofline is sol_s, at a point of the grid. */
double pl_grid_s(const struct pl_kernel_grid *g, double log2_y, double log2_x, double sol_s);

/* Watts as measured on a card, on another of its capability, on cards with its kind of memory, or on all: ret_shares[cause].
 * Returns whose they are. */
const char *pl_kernel_power_of(const struct pl_gpu *g, const float *ret_shares[PL_POWER_CAUSES]);
/* The share at a utilisation of 0 … 1. */
double pl_power_share(const float *shares, double utilisation);

/* Bytes of a weight with its scales, of an activation, and the peak a product of this type runs at. */
double pl_kernel_weight_bytes(enum pl_kernel_type t);
double pl_kernel_peak(const struct pl_kernels *k, enum pl_kernel_type t);

#endif
