/* Speed: seconds of one step of a placed model by cause and device, and the answers people ask, each with an interval.
 * A model on a machine is compiled once into a short list of terms (pl_speed_compile); after that a step of any batch
 * costs about a microsecond (pl_step): search, closed forms and simulation all call it. */
#ifndef PLIMSOLL_SPEED_H
#define PLIMSOLL_SPEED_H

#include <stdbool.h>
#include <stdint.h>

#include <plimsoll/engine.h>

/* ---- constants -------------------------------------------------------------------------------------------------- */

/* Fitted constants (data/calibration.csv, the output of `plimsoll calibrate`). Opaque; shared between compilations. */
struct pl_constants;
/* The shipped table; const, lent for the life of the program. */
const struct pl_constants *pl_constants_shipped(void);
/* The family of kernels that computes. AUTO: by vendor (NVIDIA CUDA, AMD ROCm, Apple Metal, Intel SYCL, none CPU). */
enum pl_backend {
	PL_BACKEND_AUTO = 0,
	PL_BACKEND_CUDA,
	PL_BACKEND_ROCM,
	PL_BACKEND_VULKAN,
	PL_BACKEND_METAL,
	PL_BACKEND_SYCL,
	PL_BACKEND_CPU,
	PL_BACKEND_OPENCL,
	PL_BACKEND_COUNT
};
const char *pl_backend_name(enum pl_backend b); /* "cuda" … */

/* ---- compile ---------------------------------------------------------------------------------------------------- */

struct pl_speed_setup {
	const struct pl_model *model;
	const struct pl_machine *machine;
	const struct pl_engine *engine;
	const struct pl_params *params;      /* as resolved by the engine's layout */
	const struct pl_layout *layout;      /* where the layers are */
	const struct pl_constants *constants; /* NULL: shipped */
	enum pl_backend backend;             /* of the GPUs */
	const char *stack;                   /* "exllama/cuda": whose kernels, where no engine of ours is meant; NULL: the engine's */
	double power_limit_w;                /* cap of each GPU; 0: the device's own, else the maker's */
	double weight_bytes;                 /* size of the weights as stated for a file; 0: the model's own */
	uint32_t cpu_threads;                /* 0: the machine's cores */
	bool no_sgemm;                       /* llama.cpp built with GGML_LLAMAFILE off: plain types have no tiles on the CPU */
	bool interleaved;                    /* ik_llama.cpp: weights stand in its own order (-rtr, types of _R4) */
	double disk_bytes_per_s;             /* the disk the weights lie on; 0: a PCIe 4.0 drive is assumed */
	bool rocwmma;                        /* HIP built with rocWMMA's flash attention (matters before the autumn of 2025) */
	double age_years;                    /* of the engine's build against the newest the constants know; 0: the newest */
};

/* Lives in the arena of pl_speed_compile, immutable, any number of threads may step it. */
struct pl_speed;

/* Reduces the step graph to terms by device and stage. Fails only out of memory. A model whose step or a device whose
 * bandwidth is not known gives a speed that says so (pl_speed_unknown) and whose steps are NAN. */
int pl_speed_compile(struct pl_arena *a, const struct pl_speed_setup *setup, const struct pl_speed **ret_speed,
                     struct pl_err *err) PL_MUST_CHECK;
/* NULL, or a translated sentence on what is missing ("gpu-24GiB: memory bandwidth and matrix FLOP/s are not known"). */
const char *pl_speed_unknown(const struct pl_speed *s);

/* ---- one step --------------------------------------------------------------------------------------------------- */

/* What one forward pass computes. Prefill and decode tokens share the matrix multiplications, their attention is apart. */
struct pl_batch {
	double prefill_tokens;      /* prompt tokens of this step, all sequences together */
	double prefill_past_tokens; /* tokens already cached before each chunk, mean over the chunks */
	double prefill_seqs;        /* chunks (sequences) they belong to; 0 counts as 1 when prefill_tokens > 0 */
	double decode_seqs;         /* sequences that decode */
	double decode_depth_tokens; /* tokens in the cache of a decoding sequence, mean */
	double tokens_per_seq;      /* new tokens of each decoding sequence: 0 or 1 plain, K + 1 when a draft is verified */
};

enum pl_cause {
	PL_CAUSE_GEMM = 0,    /* dense projections and feed forward */
	PL_CAUSE_ATTENTION,
	PL_CAUSE_EXPERTS,     /* routed experts and their router */
	PL_CAUSE_RECURRENT,   /* scans and short convolutions */
	PL_CAUSE_ELEMENTWISE, /* norms, rope, activations, residuals, cache writes */
	PL_CAUSE_LM_HEAD,
	PL_CAUSE_SAMPLING,
	PL_CAUSE_LAUNCH,      /* kernel launches, per layer, per step and per sequence work of the engine */
	PL_CAUSE_ALL_REDUCE,
	PL_CAUSE_ALL_TO_ALL,
	PL_CAUSE_HOP,         /* activations handed to the next stage or between GPU and CPU */
	PL_CAUSE_HOST_LINK,   /* weights or cache streamed over PCIe */
	PL_CAUSE_DISK,        /* weights paged in again */
	PL_CAUSE_GATHER,      /* sharded weights gathered (ZeRO), what computing does not hide */
	PL_CAUSE_COUNT
};
const char *pl_cause_name(enum pl_cause c); /* "gemm", "attention" … as in JSON */
const char *pl_cause_text(enum pl_cause c); /* translated, for sentences */

enum { PL_SPEED_HOST = PL_MAX_DEVICES, PL_SPEED_SLOTS = PL_MAX_DEVICES + 1 };

struct pl_step_cost {
	double total_s;      /* one pass from first stage to last */
	double stage_s;      /* of the slowest stage: the period of a full pipeline; = total_s without pipeline */
	double cause_s[PL_CAUSE_COUNT]; /* sums to total_s */
	double memory_s;     /* part of total_s in which memory bandwidth was the limit */
	double compute_s;    /* … arithmetic was */
	double device_s[PL_SPEED_SLOTS]; /* busy seconds of each device; PL_SPEED_HOST: the CPU */
};

/* Seconds of one step. Deterministic, no allocation, about 1 µs. All NAN when pl_speed_unknown. */
void pl_step(const struct pl_speed *s, const struct pl_batch *b, struct pl_step_cost *ret);
/* total_s alone. */
double pl_step_s(const struct pl_speed *s, const struct pl_batch *b);

/* ---- answers ---------------------------------------------------------------------------------------------------- */

/* A number with the interval that holds 80 % of measurements (10 % below, 10 % above). */
struct pl_estimate {
	double median, low, high; /* NAN unknown */
};

struct pl_speed_question {
	double prompt_tokens;    /* default 512 */
	double depth_tokens;     /* tokens already in the cache for the "at depth" answers; default 0 */
	double concurrency;      /* sequences at once; default 1 */
	double output_tokens;    /* of an answer, for a load of `concurrency` clients; default 256 */
	double draft_tokens;     /* K drafted at once; 0 no speculation */
	double acceptance_length; /* tokens a verify step yields, 1 … K + 1; 0: from the published tables */
};

enum pl_kinship {
	PL_KIN_MEASURED = 0, /* this device was in the calibration */
	PL_KIN_ARCH,         /* borrowed from cards of its architecture */
	PL_KIN_BACKEND,      /* borrowed from all cards of this backend */
	PL_KIN_NONE          /* the prior alone */
};

/* One stretch of a start, and what is held at its end. */
enum pl_load_stage_kind {
	PL_LOAD_PROCESS = 0, /* program, libraries, driver context, configuration */
	PL_LOAD_WEIGHTS,     /* disk → RAM → device, side by side: the slowest way rules */
	PL_LOAD_COMPILE,     /* torch.compile */
	PL_LOAD_PROFILE,     /* profile run and cache; llama.cpp: context and warm-up */
	PL_LOAD_GRAPHS,      /* capture of CUDA graphs */
	PL_LOAD_STAGES
};
const char *pl_load_stage_name(enum pl_load_stage_kind k); /* "process", "weights" … as in JSON */
const char *pl_load_stage_text(enum pl_load_stage_kind k); /* translated */
struct pl_load_stage {
	enum pl_load_stage_kind kind;
	double cold_s, warm_s;           /* a first start; a restart: file and compiled code are cached */
	double host_bytes, device_bytes; /* RAM; the fullest device. NAN unknown */
};

/* The time line of a start. The engine listens at cold_start_s (or warm_start_s, when the file is in the page cache and the
 * compiled code on the disk). */
struct pl_load_answer {
	double read_bytes, disk_bytes_per_s;
	bool disk_assumed;
	double read_s, cached_s, to_device_s; /* from the disk; out of the page cache; over the slots */
	double init_s;                   /* a first start, weights apart */
	double cold_start_s, warm_start_s;
	double peak_host_bytes;          /* most RAM on the way; NAN unknown */
	uint32_t n_graphs;               /* captured batch sizes */
	struct pl_load_stage stages[PL_LOAD_STAGES];
	uint32_t n_stages;
};

/* Where the watts of a step go, mean over its time and over all GPUs: clocks up but nothing to do (launches, messages, turns
 * of other devices), reading memory, arithmetic. */
struct pl_power_parts {
	double waiting_w, memory_w, arithmetic_w;
};

struct pl_speed_answer {
	struct pl_estimate ttft_s;               /* first token of a prompt of prompt_tokens at depth_tokens, one sequence */
	struct pl_estimate prefill_tok_s;
	struct pl_estimate decode_tok_s;         /* one sequence, empty cache */
	struct pl_estimate decode_at_depth_tok_s; /* one sequence at depth_tokens */
	struct pl_estimate aggregate_tok_s;      /* all of concurrency together at depth_tokens */
	struct pl_estimate decode_w, prefill_w, idle_w; /* power of all GPUs; hosts are not counted */
	struct pl_estimate tokens_per_joule;     /* decode at concurrency */
	struct pl_estimate prefill_tokens_per_joule;
	struct pl_power_parts decode_power, prefill_power;
	const char *power_text;                  /* translated: whose watts, and what a cap costs; NULL without GPUs */
	struct pl_load_answer load;
	double acceptance_length;                /* as used; 1 without speculation */
	struct pl_step_cost decode, prefill;     /* the steps behind the medians */
	enum pl_kinship kinship;
	const char *reason;    /* translated: "decode is bound by memory bandwidth of GPU 1; all-reduce takes 18 %" */
	const char *decode_reason, *prefill_reason; /* its two sentences */
	const char *kin_text;  /* translated: where the constants come from */
	const char *unknown;   /* as pl_speed_unknown */
};

int pl_speed_answer(struct pl_arena *a, const struct pl_speed *s, const struct pl_speed_question *q,
                    struct pl_speed_answer *ret, struct pl_err *err) PL_MUST_CHECK;

#endif
