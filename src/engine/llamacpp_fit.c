/* Where llama.cpp itself puts a model when it is told nothing (-fit on; common/fit.cpp): the context is made shorter, then
 * devices are filled from the last to the first with layers whose experts stay on the host, then from the first to the last
 * with whole layers, each search by false position over dry runs. */
#include <string.h>

#include "base/checked.h"
#include "engine/llamacpp.h"
#include "engine/llamacpp_ggml.h"

static const uint64_t DEFAULT_MARGIN_BYTES = 1024ull * 1024 * 1024;
enum { DEFAULT_CTX_MIN = 4096, CTX_ALIGN = 256 };

/* Layers of one device, from its first: whole ones, then those that are partly elsewhere. */
struct share {
	uint32_t n_layer, n_part;
	enum ll_fraction overflow; /* what the first partial layer keeps; the others keep all but experts */
	int16_t to;                /* where that layer's rest goes */
};

struct fit {
	struct ll_job *j;
	struct ll_sum *sum;
	struct ll_place pl;
	int64_t targets[PL_MAX_DEVICES], margin;
	uint32_t n_layers; /* without the output */
	bool moe;
};

static int64_t total(const struct pl_use *u)
{
	return (int64_t)pl_min_u64(pl_use_total_bytes(u) - u->overhead_bytes, INT64_MAX / 4);
}

static int64_t free_of(const struct ll_job *j, uint32_t d)
{
	uint64_t taken = pl_sat_add(j->dev[d].overhead_bytes, j->dev[d].taken_bytes);
	return (int64_t)pl_min_u64(pl_sat_sub(j->dev[d].room_bytes, taken), INT64_MAX / 4);
}

static void to_place(const struct fit *f, const struct share *s, struct ll_place *pl)
{
	uint32_t n = 0;
	for (uint32_t d = 0; d < f->j->n_dev; d++) {
		n += s[d].n_layer;
		pl->split[d] = s[d].n_layer;
	}
	pl->split_given = f->j->n_dev > 1;
	pl->n_gpu_layers = n;
	memset(pl->fraction, LL_WHOLE, f->n_layers);
	uint32_t il = f->n_layers + 1 - n;
	for (uint32_t d = 0; d < f->j->n_dev; d++) {
		il += s[d].n_layer - s[d].n_part;
		for (uint32_t k = 0; k < s[d].n_part && il < f->n_layers; k++, il++) {
			pl->fraction[il] = (uint8_t)(k ? LL_NO_EXPERTS : s[d].overflow);
			pl->overflow_to[il] = k ? (int16_t)LG_CPU : s[d].to;
		}
	}
}

static void measure(struct fit *f, const struct share *s, int64_t *ret_mem)
{
	to_place(f, s, &f->pl);
	ll_place_sum(f->j, &f->pl, f->sum);
	for (uint32_t d = 0; d < f->j->n_dev; d++)
		ret_mem[d] = total(&f->sum->dev[d]);
}

/* ---- context ----------------------------------------------------------------------------------------------------- */

static int64_t used(const struct fit *f)
{
	int64_t sum = 0;
	for (uint32_t d = 0; d < f->j->n_dev; d++)
		sum += total(&f->sum->dev[d]);
	return f->j->n_dev ? sum : total(&f->sum->host);
}

static int64_t room(const struct fit *f)
{
	int64_t sum = 0;
	for (uint32_t d = 0; d < f->j->n_dev; d++)
		sum += free_of(f->j, d);
	if (!f->j->n_dev)
		sum = f->j->hw->ram_bytes.known ? (int64_t)pl_min_u64(f->j->hw->ram_bytes.value, INT64_MAX / 4) : INT64_MAX / 4;
	return sum;
}

static bool all_meet(const struct fit *f)
{
	if (!f->j->n_dev)
		return room(f) - used(f) >= f->margin;
	for (uint32_t d = 0; d < f->j->n_dev; d++)
		if (total(&f->sum->dev[d]) > f->targets[d])
			return false;
	return true;
}

/* True when the whole model is expected to fit with the context it ends up with. */
static bool shorten_context(struct fit *f)
{
	struct ll_job *j = f->j;
	uint64_t streams = j->ctx.n_stream, longest = j->ctx.n_ctx, least = pl_sat_mul(j->p->fit_ctx_min_tokens ? j->p->fit_ctx_min_tokens : DEFAULT_CTX_MIN, streams);
	int64_t full = used(f), weights = 0, target = room(f) - f->margin * (j->n_dev ? (int64_t)j->n_dev : 1);
	if (target - full >= 0 || !j->p->fit_ctx || longest <= least)
		return false;
	for (uint32_t d = 0; d < j->n_dev; d++)
		weights += (int64_t)f->sum->dev[d].model_bytes;
	if (j->n_dev > 1) /* half a layer, or a third of one for experts, is lost on each device */
		target -= (int64_t)(j->n_dev + 1) * (weights / (int64_t)pl_max_u64(1, f->n_layers)) / (f->moe ? 6 : 2);
	ll_set_context(j, least);
	ll_place_sum(j, &f->pl, f->sum);
	int64_t low = used(f);
	if (target <= low || full <= low)
		return false;
	int64_t more = (int64_t)(longest - least), product;
	bool wide = __builtin_mul_overflow(more, target - low, &product);
	uint64_t n = least + (uint64_t)(wide ? more / ((full - low) / (target - low) + 1) : product / (full - low));
	uint64_t align = CTX_ALIGN * streams;
	ll_set_context(j, pl_max_u64(n - n % align, least));
	ll_place_sum(j, &f->pl, f->sum);
	return j->n_dev <= 1;
}

/* ---- layers ------------------------------------------------------------------------------------------------------ */

static uint32_t step_of(const struct fit *f, uint32_t d, uint32_t delta, const int64_t *mem, const int64_t *high)
{
	int64_t span = high[d] - mem[d];
	uint32_t step = span > 0 && f->targets[d] > mem[d] ? (uint32_t)((int64_t)delta * (f->targets[d] - mem[d]) / span) : 1;
	step = step < 1 ? 1 : step;
	return step > delta - 1 ? delta - 1 : step;
}

/* Back to front: as many layers as fit, without their experts. */
static void fill_dense(struct fit *f, struct share *s, int64_t *mem)
{
	uint32_t nd = f->j->n_dev;
	for (uint32_t d = nd; d-- > 0;) {
		uint32_t left = f->n_layers + 1;
		for (uint32_t k = d + 1; k < nd; k++)
			left -= s[k].n_layer;
		struct share high[PL_MAX_DEVICES], test[PL_MAX_DEVICES];
		int64_t mem_high[PL_MAX_DEVICES], mem_test[PL_MAX_DEVICES];
		memcpy(high, s, sizeof high);
		high[d].n_layer = left;
		if (f->moe)
			high[d].n_part = d < nd - 1 ? left : left - 1;
		if (!left)
			continue;
		measure(f, high, mem_high);
		if (mem_high[d] <= f->targets[d]) {
			memcpy(s, high, sizeof high);
			memcpy(mem, mem_high, sizeof mem_high);
			continue;
		}
		for (uint32_t delta = high[d].n_layer - s[d].n_layer; delta > 1; delta = high[d].n_layer - s[d].n_layer) {
			uint32_t step = step_of(f, d, delta, mem, mem_high);
			memcpy(test, s, sizeof test);
			test[d].n_layer += step;
			if (f->moe) /* the first is the output layer, which is always whole */
				test[d].n_part += d == nd - 1 && !test[d].n_part ? step - 1 : step;
			measure(f, test, mem_test);
			bool fits = mem_test[d] <= f->targets[d];
			memcpy(fits ? s : high, test, sizeof test);
			memcpy(fits ? mem : mem_high, mem_test, sizeof mem_test);
		}
	}
}

static bool try_part(struct fit *f, uint32_t d, const struct share *test, struct share *s, int64_t *mem)
{
	int64_t mem_test[PL_MAX_DEVICES];
	measure(f, test, mem_test);
	if (mem_test[d] >= f->targets[d] || (d + 1 < f->j->n_dev && mem_test[d + 1] >= f->targets[d + 1]))
		return false;
	memcpy(s, test, sizeof(struct share) * PL_MAX_DEVICES);
	memcpy(mem, mem_test, sizeof mem_test);
	return true;
}

/* A part of one more layer, as much of it as fits. */
static uint32_t one_more(struct fit *f, uint32_t d, uint32_t dense, struct share *s, int64_t *mem)
{
	uint32_t nd = f->j->n_dev, after = dense;
	struct share test[PL_MAX_DEVICES];
	if (s[dense].n_layer <= (d < nd - 1 ? 0u : 1u) || !s[dense].n_part)
		return dense;
	memcpy(test, s, sizeof test);
	test[dense].n_layer--;
	test[dense].n_part--;
	test[d].n_layer++;
	test[d].n_part++;
	if (!test[dense].n_part)
		after++;
	test[d].overflow = LL_UP;
	test[d].to = d < nd - 1 ? (int16_t)(d + 1) : (int16_t)LG_CPU;
	if (try_part(f, d, test, s, mem)) {
		test[d].overflow = LL_GATE;
		try_part(f, d, test, s, mem);
		return after;
	}
	test[d].overflow = LL_ATTN;
	return try_part(f, d, test, s, mem) ? after : dense;
}

static uint32_t convert(struct share *test, uint32_t d, uint32_t dense, uint32_t nd, uint32_t step)
{
	for (uint32_t done = 0; dense < nd; dense++) {
		uint32_t n = (uint32_t)pl_min_u64(step - done, test[dense].n_part);
		test[dense].n_layer -= n;
		test[dense].n_part -= n;
		test[d].n_layer += n;
		done += n;
		if (test[dense].n_part)
			break;
	}
	return dense;
}

/* Front to back: layers without experts become whole ones. */
static void fill_whole(struct fit *f, struct share *s, int64_t *mem)
{
	uint32_t nd = f->j->n_dev, dense = nd;
	for (uint32_t d = nd; d-- > 0 && s[d].n_layer;)
		dense = d;
	for (uint32_t d = 0; dense < nd && d <= dense; d++) {
		struct share high[PL_MAX_DEVICES], test[PL_MAX_DEVICES];
		int64_t mem_high[PL_MAX_DEVICES], mem_test[PL_MAX_DEVICES];
		memcpy(high, s, sizeof high);
		for (uint32_t k = dense; k < nd; k++) {
			uint32_t move = k < nd - 1 ? high[k].n_layer : high[k].n_layer - 1;
			high[d].n_layer += move;
			high[k].n_layer -= move;
			high[k].n_part = 0;
		}
		measure(f, high, mem_high);
		if (mem_high[d] <= f->targets[d]) {
			memcpy(s, high, sizeof high);
			memcpy(mem, mem_high, sizeof mem_high);
			dense = nd - 1;
		}
		for (;;) {
			uint32_t delta = high[d].n_layer - high[d].n_part - (s[d].n_layer - s[d].n_part);
			if (delta <= 1)
				break;
			memcpy(test, s, sizeof test);
			uint32_t dense_test = convert(test, d, dense, nd, step_of(f, d, delta, mem, mem_high));
			measure(f, test, mem_test);
			bool fits = mem_test[d] <= f->targets[d];
			memcpy(fits ? s : high, test, sizeof test);
			memcpy(fits ? mem : mem_high, mem_test, sizeof mem_test);
			if (fits)
				dense = dense_test;
		}
		if (dense < nd)
			dense = one_more(f, d, dense, s, mem);
	}
}

static int64_t surplus_without_experts(struct fit *f)
{
	struct ll_place pl = f->pl;
	int64_t sum = 0;
	pl.n_cpu_moe = f->n_layers;
	ll_place_sum(f->j, &pl, f->sum);
	for (uint32_t d = 0; d < f->j->n_dev; d++)
		sum += f->targets[d] - total(&f->sum->dev[d]);
	return sum;
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

static bool user_placed(const struct ll_job *j)
{
	for (uint32_t d = 0; d < j->n_dev; d++)
		if (j->n_dev > 1 && j->p->tensor_split[j->dev[d].index] > 0)
			return true;
	return j->p->n_gpu_layers != PL_AUTO || j->p->n_overrides || j->p->n_cpu_moe > 0 || j->p->split_mode == PL_SPLIT_ROW;
}

enum ll_fit_end ll_fit(struct ll_job *j, struct ll_place *pl, struct ll_sum *sum)
{
	struct fit f = {.j = j, .sum = sum, .pl = *pl, .n_layers = j->n_all, .moe = j->has_experts};
	f.margin = (int64_t)(j->p->fit_target_bytes ? j->p->fit_target_bytes : DEFAULT_MARGIN_BYTES);
	for (uint32_t d = 0; d < j->n_dev; d++)
		f.targets[d] = free_of(j, d) - f.margin;
	f.pl.fraction = PL_NEW_N(j->a, uint8_t, (uint64_t)j->n_all + 1);
	f.pl.overflow_to = PL_NEW_N(j->a, int16_t, (uint64_t)j->n_all + 1);
	if (!f.pl.fraction || !f.pl.overflow_to)
		return LL_FIT_GAVE_UP;
	j->dry = true; /* the engine measures without allocating, where pins are lost */
	ll_place_sum(j, &f.pl, sum);
	enum ll_fit_end end = LL_FIT_AS_ASKED;
	if (!all_meet(&f)) {
		if (shorten_context(&f)) {
			end = LL_FIT_CONTEXT;
		} else if (!j->n_dev || user_placed(j)) {
			end = LL_FIT_GAVE_UP;
		} else {
			struct share s[PL_MAX_DEVICES] = {0};
			int64_t mem[PL_MAX_DEVICES];
			int64_t surplus = f.moe ? surplus_without_experts(&f) : 0;
			for (uint32_t d = 0; d < j->n_dev; d++)
				s[d] = (struct share){.overflow = LL_NO_EXPERTS, .to = LG_CPU};
			measure(&f, s, mem);
			fill_dense(&f, s, mem);
			if (f.moe && surplus > 0)
				fill_whole(&f, s, mem);
			to_place(&f, s, &f.pl);
			*pl = f.pl;
			end = LL_FIT_PLACED;
		}
	}
	j->dry = false;
	return end;
}

static const char *pattern(struct pl_arena *a, uint32_t il, enum ll_fraction f)
{
	static const char *const rest[] = {[LL_NO_EXPERTS] = "(up|down|gate_up|gate)_(ch|)exps", [LL_ATTN] = "(gate|up|gate_up|down).*",
	                                   [LL_UP] = "(gate|gate_up|down).*", [LL_GATE] = "down.*"};
	return pl_arena_printf(a, "blk\\.%u\\.ffn_%s", il, rest[f]);
}

void ll_fit_overrides(struct pl_arena *a, const struct ll_job *j, const struct ll_place *pl, struct pl_params *p)
{
	uint32_t n = 0;
	struct pl_tensor_override *o = PL_NEW_N(a, struct pl_tensor_override, (uint64_t)j->n_all + 1);
	for (uint32_t il = 0; o && pl->fraction && il < j->n_all; il++) {
		if (pl->fraction[il] == LL_WHOLE)
			continue;
		int16_t to = pl->overflow_to[il];
		const char *name = to < 0 ? "CPU" : pl_arena_printf(a, "%s%d", ll_buffer_prefix(&j->dev[to]), to);
		o[n++] = (struct pl_tensor_override){pattern(a, il, (enum ll_fraction)pl->fraction[il]), name};
	}
	if (n) {
		p->overrides = o;
		p->n_overrides = n;
	}
}
