/* Names, look-up and reading of the fitted constants. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <plimsoll/catalog.h>

#include "speed/constants.h"

static const struct {
	const char *name;
	double start, spread;
} families[PL_FAMILY_COUNT] = {
#define X(id, name, start, spread, text) {name, start, spread},
#include "speed/constants.def"
#undef X
};

static const struct {
	const char *name, *engine;
	enum pl_backend backend;
	enum pl_stack parent;
} stacks[PL_STACK_COUNT] = {
    {"", "", PL_BACKEND_AUTO, PL_STACK_UNKNOWN},
#define X(id, name, engine, backend, parent) {name, engine, PL_BACKEND_##backend, PL_STACK_##parent},
#include "speed/stacks.def"
#undef X
};

static const char *const scopes[PL_SCOPE_COUNT] = {"base", "stack", "arch", "stack_arch", "stack_type", "device", "stack_line"};
static const char *const classes[PL_CLASS_COUNT] = {"decode",       "prefill",       "offload_decode", "offload_prefill",
                                                    "multi_decode", "multi_prefill", "served_tpot",    "served_ttft", "served_rate", "split_ttft", "split_tpot"};
static const char *const backends[PL_BACKEND_COUNT] = {"auto", "cuda", "rocm", "vulkan", "metal", "sycl", "cpu", "opencl"};

const char *pl_backend_name(enum pl_backend b)
{
	return backends[(unsigned)b < PL_BACKEND_COUNT ? b : PL_BACKEND_AUTO];
}

bool pl_family_is_served(enum pl_family f)
{
	switch (f) {
	case PL_F_HANDOVER_S:
	case PL_F_SERVED_INGEST_S:
	case PL_F_KERNEL:
	case PL_F_EXPERT_KERNEL:
	case PL_F_ATTN_KERNEL:
	case PL_F_PROMPT_ATTN_KERNEL:
	case PL_F_REDUCE_KERNEL:
	case PL_F_GRAPH_OP_S:
	case PL_F_SERVED_STEP_S:
	case PL_F_SERVED_SEQ_S:
	case PL_F_SERVED_REQUEST_S:
	case PL_F_PROMPT_OP_S:
		return true;
	default:
		return false;
	}
}

const char *pl_family_name(enum pl_family f)
{
	return families[f].name;
}

double pl_family_start(enum pl_family f)
{
	return families[f].start;
}

double pl_family_spread(enum pl_family f)
{
	return families[f].spread;
}

const char *pl_scope_name(enum pl_scope s)
{
	return scopes[s];
}

const char *pl_class_name(enum pl_answer_class c)
{
	return classes[c];
}

const char *pl_stack_name(enum pl_stack s)
{
	return stacks[s].name;
}

enum pl_backend pl_stack_backend(enum pl_stack s)
{
	return stacks[s].backend;
}

enum pl_stack pl_stack_parent(enum pl_stack s)
{
	return stacks[s].parent;
}

enum pl_stack pl_stack_by_name(const char *name)
{
	for (unsigned i = 1; i < PL_STACK_COUNT; i++)
		if (!strcasecmp(stacks[i].name, name))
			return (enum pl_stack)i;
	return PL_STACK_UNKNOWN;
}

enum pl_stack pl_stack_find(const char *engine, enum pl_backend backend)
{
	for (unsigned i = 1; i < PL_STACK_COUNT; i++)
		if (!strcasecmp(stacks[i].engine, engine) && stacks[i].backend == backend)
			return (enum pl_stack)i;
	/* the same kernels under another engine are nearer than nothing */
	for (unsigned i = 1; i < PL_STACK_COUNT; i++)
		if (stacks[i].backend == backend)
			return (enum pl_stack)i;
	return PL_STACK_UNKNOWN;
}

uint32_t pl_arch_index(const char *arch)
{
	uint32_t n, count = 0;
	const struct pl_gpu *gpus = pl_catalog_gpus(&n);
	if (!arch || !*arch)
		return 0;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t j = 0;
		while (j < i && strcmp(gpus[j].arch, gpus[i].arch))
			j++;
		if (j < i)
			continue;
		count++;
		if (!strcmp(gpus[i].arch, arch))
			return count;
	}
	return 0;
}

const char *pl_arch_name(uint32_t index)
{
	uint32_t n, count = 0;
	const struct pl_gpu *gpus = pl_catalog_gpus(&n);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t j = 0;
		while (j < i && strcmp(gpus[j].arch, gpus[i].arch))
			j++;
		if (j == i && ++count == index)
			return gpus[i].arch;
	}
	return "";
}

static size_t line_len(const char *arch)
{
	return strcspn(arch, "0123456789 -");
}

uint32_t pl_line_index(const char *arch)
{
	size_t n = arch ? line_len(arch) : 0;
	for (uint32_t i = 1; n; i++) {
		const char *other = pl_arch_name(i);
		if (!*other)
			break;
		if (line_len(other) == n && !strncmp(other, arch, n))
			return i;
	}
	return 0;
}

const struct pl_effect *pl_effect_find(const struct pl_constants *c, uint32_t key)
{
	uint32_t low = 0, high = c->n_effects;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (c->effects[middle].key < key)
			low = middle + 1;
		else
			high = middle;
	}
	return low < c->n_effects && c->effects[low].key == key ? &c->effects[low] : NULL;
}

static double effect(const struct pl_constants *c, uint32_t key)
{
	const struct pl_effect *e = pl_effect_find(c, key);
	return e ? (double)e->ln : 0;
}

double pl_type_ln(const struct pl_constants *c, enum pl_family f, enum pl_stack stack, enum pl_dtype type)
{
	double ln = 0;
	for (enum pl_stack s = stack; s; s = stacks[s].parent)
		ln += effect(c, pl_effect_key(f, PL_SCOPE_STACK_TYPE, s, type));
	return ln;
}

double pl_constant(const struct pl_constants *c, enum pl_family f, const struct pl_context *x, enum pl_dtype type)
{
	double ln = effect(c, pl_effect_key(f, PL_SCOPE_BASE, 0, 0));
	if (x->arch)
		ln += effect(c, pl_effect_key(f, PL_SCOPE_ARCH, 0, x->arch));
	for (enum pl_stack s = x->stack; s; s = stacks[s].parent) {
		ln += effect(c, pl_effect_key(f, PL_SCOPE_STACK, s, 0));
		if (x->arch) {
			ln += effect(c, pl_effect_key(f, PL_SCOPE_STACK_ARCH, s, x->arch));
			ln += effect(c, pl_effect_key(f, PL_SCOPE_STACK_LINE, s, x->line));
		}
	}
	if (type != PL_DTYPE_UNKNOWN)
		ln += pl_type_ln(c, f, x->stack, type);
	if (x->device)
		ln += effect(c, pl_effect_key(f, PL_SCOPE_DEVICE, 0, x->device));
	return families[f].start * exp(ln);
}

char *pl_effect_text(struct pl_arena *a, uint32_t key)
{
	enum pl_scope s = (enum pl_scope)(key >> 22 & 15);
	uint32_t stack = key >> 14 & 255, index = key & 0x3fff, n;
	const struct pl_gpu *gpus = pl_catalog_gpus(&n);
	switch (s) {
	case PL_SCOPE_STACK:
		return pl_arena_strdup(a, pl_stack_name((enum pl_stack)stack));
	case PL_SCOPE_ARCH:
		return pl_arena_strdup(a, pl_arch_name(index));
	case PL_SCOPE_STACK_ARCH:
		return pl_arena_printf(a, "%s %s", pl_stack_name((enum pl_stack)stack), pl_arch_name(index));
	case PL_SCOPE_STACK_TYPE:
		return pl_arena_printf(a, "%s %s", pl_stack_name((enum pl_stack)stack), pl_dtype_name((enum pl_dtype)index));
	case PL_SCOPE_STACK_LINE:
		return pl_arena_printf(a, "%s %.*s", pl_stack_name((enum pl_stack)stack), (int)line_len(pl_arch_name(index)), pl_arch_name(index));
	case PL_SCOPE_DEVICE:
		return pl_arena_strdup(a, index && index <= n ? gpus[index - 1].id : "");
	case PL_SCOPE_BASE:
	case PL_SCOPE_COUNT:
		break;
	}
	return pl_arena_strdup(a, "");
}

static bool name_index(const char *const *names, unsigned n, const char *name, unsigned *ret)
{
	for (unsigned i = 0; i < n; i++)
		if (!strcasecmp(names[i], name)) {
			*ret = i;
			return true;
		}
	return false;
}

/* The part of a context after the stack: an architecture or an element type. */
static bool tail_index(enum pl_scope s, const char *text, uint32_t *ret)
{
	*ret = s == PL_SCOPE_STACK_TYPE ? (uint32_t)pl_dtype_from_name(text) : s == PL_SCOPE_STACK_LINE ? pl_line_index(text) : pl_arch_index(text);
	return *ret != 0;
}

static bool device_index(const char *id, uint32_t *ret)
{
	uint32_t n;
	const struct pl_gpu *gpus = pl_catalog_gpus(&n);
	for (uint32_t i = 0; i < n; i++)
		if (!strcmp(gpus[i].id, id)) {
			*ret = i + 1;
			return true;
		}
	return false;
}

bool pl_effect_parse(const char *family, const char *scope, const char *context, uint32_t *ret_key)
{
	unsigned f = 0, s;
	uint32_t stack = 0, index = 0;
	char head[64];
	while (f < PL_FAMILY_COUNT && strcmp(families[f].name, family))
		f++;
	if (f == PL_FAMILY_COUNT || !name_index(scopes, PL_SCOPE_COUNT, scope, &s))
		return false;
	size_t n = strcspn(context, " ");
	if (s == PL_SCOPE_STACK || s == PL_SCOPE_STACK_ARCH || s == PL_SCOPE_STACK_TYPE || s == PL_SCOPE_STACK_LINE) {
		if (n >= sizeof head)
			return false;
		memcpy(head, context, n);
		head[n] = '\0';
		stack = pl_stack_by_name(head);
		if (!stack)
			return false;
	}
	if ((s == PL_SCOPE_STACK_ARCH || s == PL_SCOPE_STACK_TYPE || s == PL_SCOPE_STACK_LINE) &&
	    (!context[n] || !tail_index((enum pl_scope)s, context + n + 1, &index)))
		return false;
	if (s == PL_SCOPE_ARCH && !tail_index(PL_SCOPE_ARCH, context, &index))
		return false;
	if (s == PL_SCOPE_DEVICE && !device_index(context, &index))
		return false;
	*ret_key = pl_effect_key((enum pl_family)f, (enum pl_scope)s, stack, index);
	return true;
}
