#include <string.h>

#include "base/checked.h"
#include "base/fmt.h"
#include "plan/evaluate.h"

/* Changes are tried in order of what they cost the user; each is kept only when the same memory model says that it
 * reaches the goal. */

enum { MAX_SUGGESTIONS = 12, MIN_USEFUL_CONTEXT = 1024, MAX_CARDS = 16 /* of one host, at most */ };

struct hunt {
	struct pl_arena *a;
	const struct pl_trial *asked;
	enum pl_verdict wanted;
	struct pl_plan *plan;
};

static void keep(struct hunt *h, enum pl_change change, const struct pl_outcome *o, const char *option, const char *text)
{
	if (h->plan->n_suggestions == MAX_SUGGESTIONS || !text)
		return;
	h->plan->suggestions[h->plan->n_suggestions++] = (struct pl_suggestion){
	    .change = change, .text = text, .option = option, .verdict = o->verdict, .spare_bytes = o->layout.spare_bytes};
}

static bool reaches(const struct hunt *h, const struct pl_trial *t, struct pl_outcome *o)
{
	return pl_trial_peek(t, o) && pl_verdict_reaches(o->verdict, h->wanted);
}

static void free_memory(struct hunt *h)
{
	struct pl_machine machine = *h->asked->machine;
	struct pl_trial t = *h->asked;
	struct pl_outcome o;
	uint64_t used = 0;
	char b[PL_FMT_MAX];
	machine.devices = PL_NEW_N(h->a, struct pl_device, machine.n_devices);
	if (!machine.devices)
		return;
	for (uint32_t i = 0; i < machine.n_devices; i++) {
		machine.devices[i] = h->asked->machine->devices[i];
		used = pl_sat_add(used, pl_sat_sub(machine.devices[i].total_bytes, machine.devices[i].free_bytes));
		machine.devices[i].free_bytes = machine.devices[i].total_bytes;
	}
	if (!used)
		return;
	t.machine = &machine;
	if (reaches(h, &t, &o))
		keep(h, PL_CHANGE_FREE_MEMORY, &o, "--use-total-memory",
		     pl_arena_printf(h->a, pl_tr("free the %s that other programs hold on the GPUs"), pl_fmt_bytes(b, used)));
}

static void cache_type(struct hunt *h)
{
	const enum pl_dtype *type = h->asked->engine->kv_types;
	if (h->asked->params.type_k || h->asked->params.type_v || !type)
		return;
	for (; *type; type++) {
		struct pl_trial t = *h->asked;
		struct pl_outcome o;
		t.params.type_k = t.params.type_v = *type;
		if (!reaches(h, &t, &o))
			continue;
		keep(h, PL_CHANGE_KV_TYPE, &o, pl_arena_printf(h->a, "--kv-type %s", pl_dtype_name(*type)),
		     pl_arena_printf(h->a, pl_tr("store the cache as %s"), pl_dtype_name(*type)));
		return;
	}
}

static void micro_batch(struct hunt *h)
{
	if (strcmp(h->asked->engine->id, "llama.cpp") != 0)
		return;
	for (uint32_t ub = h->asked->params.n_ubatch / 2; ub >= 64; ub /= 2) {
		struct pl_trial t = *h->asked;
		struct pl_outcome o;
		t.params.n_ubatch = ub;
		if (!reaches(h, &t, &o))
			continue;
		keep(h, PL_CHANGE_UBATCH, &o, pl_arena_printf(h->a, "--ubatch %u", ub),
		     pl_arena_printf(h->a, pl_tr("process prompts in micro-batches of %u tokens (slower prefill)"), ub));
		return;
	}
}

static void context(struct hunt *h)
{
	struct pl_trial t = *h->asked;
	struct pl_outcome o;
	uint64_t n = pl_largest_context(&t, h->wanted, t.params.n_ctx_tokens - 1) / 256 * 256;
	t.params.n_ctx_tokens = n;
	if (n < MIN_USEFUL_CONTEXT || !reaches(h, &t, &o))
		return;
	keep(h, PL_CHANGE_CONTEXT, &o, pl_arena_printf(h->a, "--context %llu", (unsigned long long)n),
	     pl_arena_printf(h->a, pl_tr("shorten the context from %llu to %llu tokens"),
	                     (unsigned long long)h->asked->params.n_ctx_tokens, (unsigned long long)n));
}

static void sequences(struct hunt *h)
{
	struct pl_trial t = *h->asked;
	struct pl_outcome o;
	uint32_t n = (uint32_t)pl_most_sequences(&t, h->wanted, t.params.n_seq - 1);
	t.params.n_seq = n;
	if (!n || !reaches(h, &t, &o))
		return;
	keep(h, PL_CHANGE_SEQUENCES, &o, pl_arena_printf(h->a, "--concurrency %u", n),
	     pl_arena_printf(h->a, pl_tr("serve %u sequences at once instead of %u"), n, h->asked->params.n_seq));
}

/* The same model in 16 bit, from which every precision can be made: a file already quantised stands for the one that its
 * maker quantised. */
static const struct pl_model *in_16_bit(struct pl_arena *a, const struct pl_model *m)
{
	struct pl_model *plain = PL_NEW(a, struct pl_model);
	struct pl_tensor *tensors = PL_NEW_N(a, struct pl_tensor, m->n_tensors);
	if (!plain || !tensors)
		return NULL;
	for (uint32_t i = 0; i < m->n_tensors; i++) {
		struct pl_tensor *t = &tensors[i];
		*t = m->tensors[i];
		if (t->type == PL_DTYPE_F32 || t->type == PL_DTYPE_F16 || t->type == PL_DTYPE_BF16)
			continue;
		t->type = PL_DTYPE_BF16;
		t->bytes = pl_sat_mul(t->n_elems, 2);
	}
	*plain = *m;
	plain->tensors = tensors;
	plain->quant_name = "bf16";
	plain->format = PL_FORMAT_CONFIG;
	return plain;
}

static void precision(struct hunt *h)
{
	static const char *const ggml[] = {"q8_0", "q6_k", "q5_k_m", "q4_k_m", "iq4_xs", "q3_k_m", "iq3_xxs", "q2_k", NULL};
	static const char *const hub[] = {"fp8", "int8", "awq-int4", "gptq-int4", "nf4", NULL};
	const struct pl_model *plain = in_16_bit(h->a, h->asked->model);
	const char *const *name = strcmp(h->asked->engine->id, "llama.cpp") ? hub : ggml;
	for (; plain && *name; name++) {
		const struct pl_model *smaller;
		const char *reason;
		struct pl_trial t = *h->asked;
		struct pl_outcome o;
		struct pl_err ignored;
		char b[PL_FMT_MAX];
		if (pl_model_requantise(h->a, plain, *name, &smaller, &ignored) ||
		    smaller->weight_bytes >= h->asked->model->weight_bytes)
			continue;
		t.model = smaller;
		if (t.engine->supports(h->a, smaller, t.machine, &reason) == PL_SUPPORT_NO || !reaches(h, &t, &o))
			continue;
		keep(h, PL_CHANGE_QUANT, &o, pl_arena_printf(h->a, "--quant %s", *name),
		     pl_arena_printf(h->a, pl_tr("take the weights as %s: %s"), *name, pl_fmt_bytes(b, smaller->weight_bytes)));
		return;
	}
}

/* A checkpoint of the hub as the largest GGUF precision of at most an eighth more bytes; what gpt-oss comes in is converted as it
 * is. NULL: none. */
static const struct pl_model *as_gguf(struct hunt *h, const char **ret_name)
{
	static const char *const names[] = {"mxfp4_moe", "bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", NULL};
	const struct pl_model *m = h->asked->model, *plain = in_16_bit(h->a, m), *gguf;
	struct pl_err ignored;
	for (const char *const *name = names; plain && *name; name++) {
		if (name == names && (!m->quant_name || strcmp(m->quant_name, "mxfp4") != 0))
			continue;
		*ret_name = *name;
		if (!pl_model_requantise(h->a, plain, *name, &gguf, &ignored) && gguf->weight_bytes <= m->weight_bytes + m->weight_bytes / 8)
			return gguf;
	}
	return NULL;
}

static void keep_engine(struct hunt *h, const struct pl_engine *e, const struct pl_outcome *o, const char *quant)
{
	bool fits = o->verdict == PL_VERDICT_FITS_GPU;
	const char *text = quant ? pl_arena_printf(h->a, fits ? pl_tr("run it in %s as %s") : pl_tr("run it in %s as %s, with part of the weights in RAM"),
	                                           e->id, quant)
	                         : pl_arena_printf(h->a, fits ? pl_tr("run it in %s") : pl_tr("run it in %s with part of the weights in RAM"), e->id);
	keep(h, fits ? PL_CHANGE_ENGINE : PL_CHANGE_OFFLOAD, o,
	     pl_arena_printf(h->a, quant ? "--engine %s --quant %s" : "--engine %s", e->id, quant), text);
}

static void other_engine(struct hunt *h)
{
	const struct pl_engine *const *e = pl_engines();
	for (; *e; e++) {
		struct pl_trial t = *h->asked;
		struct pl_outcome o;
		const char *reason, *quant = NULL;
		if (*e == t.engine)
			continue;
		if ((*e)->supports(h->a, t.model, t.machine, &reason) == PL_SUPPORT_NO) {
			const struct pl_model *gguf = strcmp((*e)->id, "llama.cpp") ? NULL : as_gguf(h, &quant);
			if (!gguf || (*e)->supports(h->a, gguf, t.machine, &reason) == PL_SUPPORT_NO)
				continue;
			t.model = gguf;
		}
		t.engine = *e;
		if (!pl_trial_peek(&t, &o) || o.verdict >= h->plan->verdict)
			continue;
		keep_engine(h, *e, &o, quant);
		return;
	}
}

static void more_cards(struct hunt *h)
{
	static const uint32_t added[] = {1, 2, 3, 4, 6, 7, 8, 12, 14, 15};
	const struct pl_machine *now = h->asked->machine;
	uint64_t room = 0;
	if (!now->n_devices)
		return;
	for (uint32_t i = 0; i < now->n_devices; i++)
		room = pl_sat_add(room, now->devices[i].total_bytes);
	for (size_t k = 0; k < sizeof added / sizeof *added && now->n_devices + added[k] <= MAX_CARDS; k++) {
		/* fewer cards than the weights alone fill need no trial */
		if (pl_sat_add(room, pl_sat_mul(added[k], now->devices[now->n_devices - 1].total_bytes)) < h->asked->model->weight_bytes)
			continue;
		struct pl_machine machine = *now;
		struct pl_trial t = *h->asked;
		struct pl_outcome o;
		machine.n_devices += added[k];
		machine.devices = pl_arena_grow(h->a, now->devices, now->n_devices, machine.n_devices, sizeof *now->devices);
		if (!machine.devices)
			return;
		for (uint32_t i = now->n_devices; i < machine.n_devices; i++) {
			machine.devices[i] = now->devices[now->n_devices - 1];
			machine.devices[i].free_bytes = machine.devices[i].total_bytes;
		}
		t.machine = &machine;
		if (!reaches(h, &t, &o))
			continue;
		keep(h, PL_CHANGE_MORE_CARDS, &o, NULL,
		     pl_arena_printf(h->a, pl_tr("add %u more %s"), added[k], now->devices[now->n_devices - 1].name));
		return;
	}
}

/* RAM is bought in powers of two and their halves. */
static void more_ram(struct hunt *h)
{
	const struct pl_machine *now = h->asked->machine;
	const uint64_t gib = UINT64_C(1) << 30;
	if (!now->ram_bytes.known)
		return;
	for (uint64_t size = 8; size <= 8192; size *= 2) {
		for (int half = 0; half < 2; half++) {
			struct pl_machine machine = *now;
			struct pl_trial t = *h->asked;
			struct pl_outcome o;
			uint64_t ram = (half ? size + size / 2 : size) * gib;
			if (ram <= now->ram_bytes.value)
				continue;
			machine.ram_bytes.value = ram;
			machine.ram_free_bytes = machine.ram_bytes;
			t.machine = &machine;
			if (!pl_trial_peek(&t, &o) || o.verdict >= h->plan->verdict || o.verdict > PL_VERDICT_CPU)
				continue;
			keep(h, PL_CHANGE_MORE_RAM, &o, NULL,
			     pl_arena_printf(h->a, pl_tr("have %llu GiB of RAM"), (unsigned long long)(ram / gib)));
			return;
		}
	}
}

int pl_suggest(struct pl_arena *a, const struct pl_trial *asked, struct pl_plan *plan,
               struct pl_err *err)
{
	struct hunt h = {a, asked, PL_VERDICT_FITS_GPU, plan};
	if (plan->verdict == PL_VERDICT_FITS_GPU)
		return 0;
	if (!asked->machine->n_devices) {
		if (plan->verdict <= PL_VERDICT_CPU)
			return 0;
		h.wanted = PL_VERDICT_CPU;
	}
	plan->suggestions = PL_NEW_N(a, struct pl_suggestion, MAX_SUGGESTIONS);
	if (!plan->suggestions)
		return pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory while planning");
	free_memory(&h);
	cache_type(&h);
	micro_batch(&h);
	context(&h);
	if (asked->params.n_seq > 1)
		sequences(&h);
	precision(&h);
	other_engine(&h);
	more_cards(&h);
	if (plan->verdict >= PL_VERDICT_PAGED)
		more_ram(&h);
	return 0;
}
