/* A compiled speed: terms by place. Inside the room only. */
#ifndef PLIMSOLL_SPEED_SPEED_H
#define PLIMSOLL_SPEED_SPEED_H

#include "speed/constants.h"
#include "speed/kernels.h"

enum { PL_MAX_PLACES = PL_SPEED_SLOTS };

/* Fewer rows of activations run through vector kernels: of a GPU; of a CPU, whose tiles have four (ggml-cpu/repack.cpp: gemm). */
enum { PL_FEW_ROWS = 16, PL_FEW_HOST_ROWS = 4 };

enum pl_term_kind {
	PL_TERM_GEMM = 0,
	PL_TERM_EXPERTS,
	PL_TERM_ATTENTION,
	PL_TERM_SCAN,
	PL_TERM_ROWS,   /* passes over values: seconds a row */
	PL_TERM_FIXED,  /* seconds a step, a sequence */
	PL_TERM_MESSAGE, /* latency plus bytes a row */
	PL_TERM_PROMPT, /* seconds a step that computes prompt tokens */
	PL_TERM_GATHER  /* weights on their way to the device beside what computes: weights_s all of them, fixed_s before the first layer */
};

/* Rows a term works on. */
enum pl_term_rows { PL_TERM_NEW = 0, PL_TERM_OUTPUT, PL_TERM_ROUTED };

/* n equal operations. Seconds throughout: bandwidths and peaks are already divided out. */
struct pl_term {
	enum pl_term_kind kind;
	enum pl_cause cause;
	enum pl_term_rows rows;
	uint32_t place;
	double n;
	double weights_s;      /* reading all weights once (experts: all experts) */
	double row_memory_s;   /* activations of one row */
	double row_compute_s;  /* arithmetic of one row at many rows */
	double half_rows;      /* rows at which half of that is reached */
	double few_units;      /* of fewer than 16 rows each costs so many times row_compute_s */
	double few_rows;        /* … and how many they are */
	double n_expert, n_expert_used;
	double fixed_s;        /* beside the work, each time; FIXED: each step */
	double sequence_s;     /* FIXED: each sequence; SCAN: state of one sequence */
	double cached_s;       /* ATTENTION: reading one cached token of one sequence */
	double pair_decode_s, pair_prefill_s; /* ATTENTION: arithmetic of one query against one key */
	double tile_tokens;    /* ATTENTION: prompt tokens that share one reading of the keys */
	double expert_s, pair_s; /* EXPERTS, one after the other: each expert touched; sorting, for each expert and routed row */
	double window_tokens;  /* 0: all */
	double rows_min, rows_max; /* counts only for rows_min ≤ rows < rows_max; 0, 0: always */
	/* Measured instead of the form above, which then only says whether memory or arithmetic rules; NULL none. */
	const struct pl_curve *curve;
	const struct pl_kernel_grid *decode_grid, *prefill_grid; /* ATTENTION */
	double curve_scale, prefill_scale; /* measured in the engine over measured alone */
	double slow_memory, slow_compute;  /* what a power cap makes of either */
	double rows_scale;                 /* rows of all ranks over rows of this one; 0: 1 */
	double cached_bytes, heads;        /* ATTENTION: of one cached token; query heads of a rank */
	bool latent;                       /* ATTENTION: the grid's second axis is heads */
};

/* n equal operations as they are, before anyone says how fast: what a term is made of. */
struct pl_work {
	enum pl_term_kind kind;
	enum pl_cause cause;
	enum pl_term_rows rows;
	enum pl_dtype type;     /* of the weights; of the cached keys */
	uint32_t place;
	uint32_t gpu;           /* place whose link a MESSAGE goes over, or that a streamed weight comes to */
	bool streamed;          /* the weights come over PCIe */
	bool one_by_one;        /* EXPERTS: a product of its own for each expert touched, rows sorted by the host */
	bool to_host;           /* MESSAGE: over the slot, not the link between GPUs */
	double n;
	double weight_bytes, row_bytes, row_flops, peak_flops_per_s;
	double row_peak_flops_per_s; /* CPU: of kernels that take one row of activations at a time */
	bool tiled;             /* CPU: many rows are multiplied in tiles, at the peak */
	double n_expert, n_expert_used, launches;
	double rows_scale;      /* EXPERTS: rows of all ranks that share them over rows of this one; 0: 1 */
	double few_flops_per_s; /* of vector kernels for a few rows where they are no part of the peak; 0: by half_rows */
	double sequence_bytes, cached_bytes, pair_decode_flops, pair_prefill_flops, window_tokens;
	double ranks;           /* MESSAGE: 2 or more in an all-reduce, 1 a hop */
	double link_bytes_per_s;
	bool network;           /* MESSAGE: to another host, message_s each time */
	double message_s;
	double rows_min, rows_max;
	/* GATHER: bytes of a step that come from other ranks, are copied together, cross the slot, come from the disk */
	bool reached;           /* link_bytes_per_s is what NCCL was measured at */
	double gather_bytes, copy_bytes, slot_bytes, disk_bytes, slot_bytes_per_s, disk_bytes_per_s;
	bool measured;          /* a curve costs it: `as` is the term, scaled by two families */
	enum pl_family scale, prefill_scale;
	struct pl_term as;
};

/* Instructions that decide which kernels a CPU runs. dot: sums of byte products (VNNI, dotprod); half: 16-bit floats. */
struct pl_isa {
	bool x86, avx2, avx512, dot, i8mm, half, bf16, amx;
};

/* A device, a group of devices that work as one, or the CPU. */
struct pl_place {
	uint32_t first, n; /* devices; first = PL_SPEED_HOST for the CPU */
	struct pl_context context;
	double bytes_per_s, peak16_flops_per_s, peak8_flops_per_s, peak4_flops_per_s, peak_fp8_flops_per_s;
	double peak_half_sum_flops_per_s; /* 16-bit products summed in 16 bits */
	double power_w, idle_w; /* of one device */
	double limit_w;         /* its own cap, as detected; 0 none */
	/* The CPU: threads at work, cycles a second of all their cores (slow ones by their width), bits of multiply-add a cycle. */
	double cores, core_cycles_per_s, simd_bits;
	struct pl_isa isa;
	double cap_memory, cap_compute; /* what a power cap leaves of bandwidth and arithmetic; 0: 1 */
	const float *shares[PL_POWER_CAUSES]; /* of the board power, by cause and utilisation; of a GPU */
	const char *shares_of;  /* the cards whose they are */
};

struct pl_speed {
	struct pl_work *work;
	struct pl_term *terms; /* one each */
	uint32_t n_terms;
	struct pl_place places[PL_MAX_PLACES];
	uint32_t n_places;
	const char *unknown;
	struct pl_speed_setup setup; /* as compiled: pointers lent */
	const struct pl_constants *constants;
	enum pl_stack stack;
	uint32_t n_ubatch;       /* prompt tokens of one pass */
	bool plain_attention;    /* flash kernels are off */
	bool vector_attention;   /* flash attention of two queries at a time */
	bool pipelined_prefill;  /* passes overlap over the stages */
	bool gathers;            /* ZeRO: every step gathers the weights */
	uint32_t n_replicas;     /* data parallel */
	uint32_t n_in_flight;    /* batches at once on a replica: one a stage of a serving engine's pipeline */
	double request_s, handover_s, ingest_s, age_years, power_limit_w;
	double weight_bytes;
	bool ram_assumed;        /* nobody says how fast the RAM is */
	bool net_assumed;        /* nobody says what joins the hosts */
	enum pl_kinship kinship;
	const char *kin_text;
	const char *kernels_system; /* whose measured kernels are used; NULL none */
	bool kernels_kin;           /* they are a relative's */
	bool kernels_foreign;       /* they are another maker's */
};

/* How near the measured kernels are: MEASURED this card's, ARCH its kin's, NONE none or of another maker. */
enum pl_kinship pl_speed_kernels(const struct pl_speed *s);

/* Binds the work to constants: terms[] in place (speed/bind.c). */
void pl_speed_bind(struct pl_speed *s, const struct pl_constants *constants);
/* One constant of one context times a factor: how a fit sees what depends on it. type UNKNOWN: the constant itself, else its
 * share of that element type. */
struct pl_bump {
	enum pl_family family;
	struct pl_context context;
	enum pl_dtype type;
	double factor;
};
/* cache: NULL, or what a call without a bump fills and those with one read. */
struct pl_bound_cache {
	double v[PL_MAX_PLACES][PL_FAMILY_COUNT];
};
void pl_speed_bind_bumped(struct pl_speed *s, const struct pl_constants *constants, const struct pl_bump *bump, struct pl_bound_cache *cache);
/* What the constants know of the devices of s: the least known decides. */
enum pl_kinship pl_speed_kinship(const struct pl_speed *s, const struct pl_constants *constants);

/* speed/answer.c: seconds of a prompt after `past` tokens in the engine's passes; of one decode step of seqs sequences, which
 * yields *ret_yield tokens each (1 without speculation; acceptance_length 0: from the published tables). */
double pl_prompt_s(const struct pl_speed *s, double tokens, double past, struct pl_step_cost *ret_last);
double pl_decode_s(const struct pl_speed *s, double seqs, double depth, double draft_tokens, double acceptance_length, double *ret_yield,
                   struct pl_step_cost *ret);
enum pl_answer_class pl_speed_class(const struct pl_speed *s, bool prefill);
/* Seconds of all n operations of a term in a batch. */
struct pl_term_time {
	double work_s, fixed_s;
	double peak_s; /* of work_s, what the roofline of the spec peaks would take; = work_s for terms no curve costs: unpacking keeps
	                * a card as busy as reading does */
	bool reads;    /* memory rules, not arithmetic */
};
void pl_term_time(const struct pl_speed *s, uint32_t term, const struct pl_batch *b, struct pl_term_time *ret);
/* speed/power.c: cap_* of a place under a cap; watts of all GPUs in a step and what they go to (NULL: idle), NAN unknown; where
 * the shares come from and what a cap costs, NULL without GPUs. */
void pl_power_cap(struct pl_place *p, double cap_w);
double pl_power_cap_w(const struct pl_speed *s, const struct pl_place *p);
double pl_speed_watts(const struct pl_speed *s, const struct pl_batch *b, struct pl_power_parts *ret);
/* ln of the 80 % interval of watts: it holds 85 % of the servers of data/measurements/served_power.csv. */
static const double pl_power_spread_ln = 0.3;
const char *pl_power_text(struct pl_arena *a, const struct pl_speed *s);
/* speed/load.c: bytes a second of a drive read in large pieces, of a mapped file (disk 0: assumed). */
double pl_disk_bytes_per_s(double disk_bytes_per_s);
double pl_mapped_bytes_per_s(double disk_bytes_per_s);
void pl_speed_load(const struct pl_speed *s, const struct pl_speed_setup *setup, struct pl_load_answer *ret);
double pl_pcie_bytes_per_s(const struct pl_device *d);
/* speed/reason.c */
const char *pl_speed_reason(struct pl_arena *a, const struct pl_speed *s, const struct pl_step_cost *c, bool prefill);

#endif
