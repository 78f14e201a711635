/* Fitted constants: a sparse table of effects by family and context (data/calibration.csv). */
#ifndef PLIMSOLL_SPEED_CONSTANTS_H
#define PLIMSOLL_SPEED_CONSTANTS_H

#include <plimsoll/speed.h>

enum pl_family {
#define X(id, name, start, spread, text) PL_F_##id,
#include "speed/constants.def"
#undef X
	PL_FAMILY_COUNT
};

enum pl_stack {
	PL_STACK_UNKNOWN = 0,
#define X(id, name, engine, backend, parent) PL_STACK_##id,
#include "speed/stacks.def"
#undef X
	PL_STACK_COUNT
};

/* What an effect belongs to. index: the stack, architecture (pl_arch_index), element type or GPU row it names. */
enum pl_scope {
	PL_SCOPE_BASE = 0,   /* all */
	PL_SCOPE_STACK,      /* "llama.cpp/cuda" */
	PL_SCOPE_ARCH,       /* "Ada Lovelace" under any stack */
	PL_SCOPE_STACK_ARCH, /* "llama.cpp/cuda Ada Lovelace" */
	PL_SCOPE_STACK_TYPE, /* "llama.cpp/cuda q4_k" */
	PL_SCOPE_DEVICE,     /* "nvidia-rtx-4090" */
	PL_SCOPE_STACK_LINE, /* "llama.cpp/vulkan RDNA": architectures of one line (RDNA2, RDNA3.5) are each other's next of kin */
	PL_SCOPE_COUNT
};

struct pl_effect {
	uint32_t key;        /* pl_effect_key */
	float ln;            /* ln of the factor */
	float spread;        /* standard deviation left after the fit */
	uint32_t n_devices;  /* how many devices stand behind it */
};

/* How wide the interval is: ln of measured/predicted below and above which 10 % of rows lie, in groups left out. */
struct pl_spread {
	double low_ln, high_ln;
};
enum pl_answer_class {
	PL_CLASS_DECODE = 0,   /* one GPU */
	PL_CLASS_PREFILL,
	PL_CLASS_OFFLOAD_DECODE, /* CPU only, or part of the work on the CPU */
	PL_CLASS_OFFLOAD_PREFILL,
	PL_CLASS_MULTI_DECODE,  /* several GPUs */
	PL_CLASS_MULTI_PREFILL,
	PL_CLASS_SERVED_TPOT,
	PL_CLASS_SERVED_TTFT,
	PL_CLASS_SERVED_RATE, /* output tokens a second of many clients; […][kin]: kernels of this card were measured, of its kin, none */
	PL_CLASS_SPLIT_TTFT, /* prompts and answers on servers of their own */
	PL_CLASS_SPLIT_TPOT,
	PL_CLASS_COUNT
};

struct pl_constants {
	const struct pl_effect *effects; /* sorted by key */
	uint32_t n_effects;
	struct pl_spread spread[PL_CLASS_COUNT][PL_KIN_NONE + 1];
};

static inline uint32_t pl_effect_key(enum pl_family f, enum pl_scope s, uint32_t stack, uint32_t index)
{
	return (uint32_t)f << 26 | (uint32_t)s << 22 | stack << 14 | index;
}

/* Where a term runs: what selects its effects. */
struct pl_context {
	enum pl_stack stack;
	uint32_t arch;   /* pl_arch_index, 0 unknown */
	uint32_t line;   /* pl_line_index, 0 unknown */
	uint32_t device; /* 1 + row in the GPU catalogue, 0 unknown */
};

/* Value of a family for a context; type UNKNOWN: without the element type's effect. */
double pl_constant(const struct pl_constants *c, enum pl_family f, const struct pl_context *x, enum pl_dtype type);
/* ln of the factor of an element type on a stack, its parents' included. */
double pl_type_ln(const struct pl_constants *c, enum pl_family f, enum pl_stack stack, enum pl_dtype type);
const struct pl_effect *pl_effect_find(const struct pl_constants *c, uint32_t key);

/* Moved by served runs alone (measure/fit_served.c); a fit of local speeds leaves it. */
bool pl_family_is_served(enum pl_family f);
const char *pl_family_name(enum pl_family f);
double pl_family_start(enum pl_family f);
double pl_family_spread(enum pl_family f);
const char *pl_stack_name(enum pl_stack s);
enum pl_stack pl_stack_find(const char *engine, enum pl_backend backend);
enum pl_stack pl_stack_by_name(const char *name);
enum pl_backend pl_stack_backend(enum pl_stack s);
/* The stack whose kernels s mostly runs; UNKNOWN: none. */
enum pl_stack pl_stack_parent(enum pl_stack s);
/* Architectures of the catalogue, counted from 1 in order of first row. */
uint32_t pl_arch_index(const char *arch);
const char *pl_arch_name(uint32_t index);
/* Lines: an architecture's name up to its first digit, blank or dash ("RDNA", "Apple", "Blackwell"); the index of the first
 * architecture of the line. */
uint32_t pl_line_index(const char *arch);
/* "llama.cpp/cuda Ada Lovelace" for an effect; its inverse. */
char *pl_effect_text(struct pl_arena *a, uint32_t key);
bool pl_effect_parse(const char *family, const char *scope, const char *context, uint32_t *ret_key);
const char *pl_scope_name(enum pl_scope s);
const char *pl_class_name(enum pl_answer_class c);

#endif
