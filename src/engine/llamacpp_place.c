/* Layers on devices (llama.cpp src/llama-model.cpp load_tensors), and the choice of a placement. */
#include <string.h>

#include "base/checked.h"
#include "engine/llamacpp.h"

void ll_default_split(const struct ll_job *j, double *ret_split)
{
	for (uint32_t d = 0; d < j->n_dev; d++) /* by free memory as the driver reports it, its own context taken already */
		ret_split[d] = (double)pl_sat_sub(j->dev[d].room_bytes, j->dev[d].overhead_bytes);
}

/* Split points in single precision, summed and divided in the engine's order, so that ties fall as they do there. */
static void split_points(const struct ll_job *j, const struct ll_place *pl, float *points)
{
	float sum = 0;
	for (uint32_t d = 0; d < j->n_dev; d++) {
		sum += (float)pl->split[d];
		points[d] = sum;
	}
	for (uint32_t d = 0; d < j->n_dev; d++)
		points[d] = sum > 0 ? points[d] / sum : 1.0f;
}

static void assign_layers(const struct ll_job *j, const struct ll_place *pl, int16_t *layer_dev)
{
	float points[PL_MAX_DEVICES];
	uint32_t n = j->n_all + 1;
	uint32_t on_gpu = j->n_dev ? (uint32_t)pl_min_u64(pl->n_gpu_layers, n) : 0;
	uint32_t start = n - on_gpu;
	split_points(j, pl, points);
	for (uint32_t i = 0; i < n; i++) {
		layer_dev[i] = -1;
		if (i < start)
			continue;
		float at = (float)(i - start) / (float)on_gpu;
		uint32_t d = 0;
		while (d + 1 < j->n_dev && points[d] <= at)
			d++;
		layer_dev[i] = (int16_t)d;
	}
}

static void add(uint64_t *to, uint64_t bytes)
{
	*to = pl_sat_add(*to, bytes);
}

static void sum_layers(const struct ll_job *j, struct ll_sum *s)
{
	for (uint32_t i = 0; i < j->n_all; i++) {
		const struct ll_layer *l = &j->layers[i];
		int dev = s->layer_dev[i], cache = j->p->no_kv_offload ? -1 : dev;
		struct pl_use *u = cache < 0 ? &s->host : &s->dev[cache];
		enum ll_kind kind = cache < 0 ? LL_HOST : j->dev[cache].kind;
		add(&u->kv_bytes, l->kv.v[kind]);
		add(&u->state_bytes, l->state.v[kind]);
		if (i < j->m->n_layers)
			(dev < 0 ? &s->host : &s->dev[dev])->n_layers++;
	}
}

/* --split-mode row: matrices are cut by rows over all devices; what is left stays with its layer. */
static void spread_rows(const struct ll_job *j, const struct ll_place *pl, struct ll_sum *s)
{
	double total = 0;
	uint64_t sum = 0, given = 0;
	for (uint32_t d = 0; d < j->n_dev; d++) {
		total += pl->split[d];
		add(&sum, s->dev[d].model_bytes);
	}
	for (uint32_t d = 0; d < j->n_dev && total > 0; d++) {
		bool last = d + 1 == j->n_dev;
		uint64_t part = last ? sum - given : (uint64_t)((double)sum * (pl->split[d] / total));
		s->dev[d].model_bytes = part = pl_min_u64(part, sum - given);
		given += part;
	}
}

static bool has_parts(const struct ll_job *j, const struct ll_place *pl)
{
	for (uint32_t i = 0; pl->fraction && i < j->n_all; i++)
		if (pl->fraction[i] != LL_WHOLE)
			return true;
	return false;
}

void ll_place_sum(const struct ll_job *j, const struct ll_place *pl, struct ll_sum *s)
{
	int16_t *layer_dev = s->layer_dev, *home = s->home;
	memset(s, 0, sizeof *s);
	s->layer_dev = layer_dev;
	s->home = home;
	assign_layers(j, pl, layer_dev);
	for (uint32_t d = 0; d < j->n_dev; d++) {
		s->dev[d].overhead_bytes = j->dev[d].overhead_bytes;
		s->dev[d].total_bytes = j->dev[d].room_bytes;
	}
	ll_weights_place(j, pl, s);
	sum_layers(j, s);
	s->full_offload = pl->n_gpu_layers > j->n_all;
	s->pipeline = j->n_dev > 1 && pl->n_gpu_layers > j->n_all && j->p->split_mode == PL_SPLIT_LAYER &&
	              !j->p->no_kv_offload && !pl->n_cpu_moe && !j->overridden && !has_parts(j, pl);
	for (uint32_t d = 0; d < j->n_dev; d++)
		s->pipeline &= j->dev[d].async;
	if (j->p->split_mode == PL_SPLIT_ROW)
		spread_rows(j, pl, s);
	ll_compute(j, s);
}

bool ll_devices_hold(const struct ll_job *j, const struct ll_sum *s)
{
	for (uint32_t d = 0; d < j->n_dev; d++)
		if (pl_sat_add(pl_use_total_bytes(&s->dev[d]), j->dev[d].taken_bytes) > j->dev[d].room_bytes)
			return false;
	return true;
}

/* ---- the choice -------------------------------------------------------------------------------------------------- */

struct search {
	struct ll_job *j;
	struct ll_place best; /* the last one that held */
	struct ll_sum *sum;
	bool free_split;      /* the proportions are ours to choose */
	bool holds;           /* some placement did */
	bool fresh;           /* sum is that of best, whole */
};

/* Room a layer may take on device d when everything but layers is there already. */
static double room_for_layers(const struct ll_job *j, const struct ll_sum *s, uint32_t d)
{
	const struct pl_use *u = &s->dev[d];
	return (double)j->dev[d].room_bytes - (double)j->dev[d].taken_bytes - (double)u->overhead_bytes - (double)u->compute_bytes;
}

static double layer_bytes(const struct ll_job *j, const struct ll_place *pl, uint32_t i, uint32_t d)
{
	enum ll_kind k = j->dev[d].kind;
	if (i == j->n_all)
		return (double)j->output.v[k];
	const struct ll_layer *l = &j->layers[i];
	double kv = j->p->no_kv_offload ? 0 : (double)l->kv.v[k] + (double)l->state.v[k];
	return kv + (double)l->rest.v[k] + (i < pl->n_cpu_moe ? 0 : (double)l->experts.v[k]);
}

/* Fills devices in order up to a share of their room; true when every layer found a place. Counts go to split. */
static bool fill(const struct ll_job *j, const struct ll_place *pl, const struct ll_sum *s, double share, double *split)
{
	uint32_t n = j->n_all + 1, on_gpu = (uint32_t)pl_min_u64(pl->n_gpu_layers, n), d = 0;
	double used = 0;
	memset(split, 0, sizeof(double) * PL_MAX_DEVICES);
	for (uint32_t i = n - on_gpu; i < n; i++) {
		double need = layer_bytes(j, pl, i, d);
		while (used + need > share * room_for_layers(j, s, d)) {
			if (++d == j->n_dev)
				return false;
			used = 0;
			need = layer_bytes(j, pl, i, d);
		}
		used += need;
		split[d]++;
	}
	return true;
}

/* Layer counts that load all devices to the same share of their room. Compute buffers move with the layers, so the
 * figures of the last placement are used and the result is tried for real. */
static bool balance(const struct search *s, struct ll_place *pl)
{
	double low = 0, high = 1, split[PL_MAX_DEVICES];
	if (!fill(s->j, pl, s->sum, high, split))
		return false;
	memcpy(pl->split, split, sizeof split);
	for (int i = 0; i < 12; i++) {
		double middle = (low + high) / 2;
		if (fill(s->j, pl, s->sum, middle, split)) {
			high = middle;
			memcpy(pl->split, split, sizeof split);
		} else {
			low = middle;
		}
	}
	pl->split_given = true;
	return true;
}

static bool try_place(struct search *s, uint32_t n_gpu_layers, uint32_t n_cpu_moe)
{
	struct ll_place pl = s->best;
	pl.n_gpu_layers = n_gpu_layers;
	pl.n_cpu_moe = n_cpu_moe;
	if (s->free_split) {
		ll_default_split(s->j, pl.split);
		pl.split_given = false;
	}
	ll_place_sum(s->j, &pl, s->sum);
	bool holds = ll_devices_hold(s->j, s->sum);
	for (int round = 0; !holds && s->free_split && round < 2; round++) {
		if (!balance(s, &pl))
			break;
		ll_place_sum(s->j, &pl, s->sum);
		holds = ll_devices_hold(s->j, s->sum);
	}
	if (holds)
		s->best = pl;
	else
		s->j->whole_graph = false; /* the first try is built whole, a search leaves out what repeats */
	s->fresh = holds && s->j->whole_graph;
	s->holds |= holds;
	return holds;
}

/* Most layers that hold, by bisection; 0 when not even one does. */
static uint32_t most_layers(struct search *s, uint32_t n_cpu_moe)
{
	uint32_t low = 0, high = s->j->n_all + 1;
	if (try_place(s, high, n_cpu_moe))
		return high;
	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;
		if (try_place(s, middle, n_cpu_moe))
			low = middle;
		else
			high = middle;
	}
	if (!low)
		try_place(s, 0, n_cpu_moe);
	return low;
}

/* Fewest layers with experts on the CPU that hold; more than the model has when none does. */
static uint32_t fewest_cpu_experts(struct search *s, uint32_t n_gpu_layers)
{
	uint32_t low = 0, high = s->j->m->n_layers;
	if (try_place(s, n_gpu_layers, 0))
		return 0;
	if (!try_place(s, n_gpu_layers, high))
		return high + 1;
	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;
		if (try_place(s, n_gpu_layers, middle))
			high = middle;
		else
			low = middle;
	}
	return high;
}

static void search(struct search *s)
{
	const struct ll_job *j = s->j;
	uint32_t all = j->n_all + 1;
	bool moe_free = j->p->n_cpu_moe == PL_AUTO && j->has_experts;
	/* a model without experts keeps the number: the rule alone stops llama.cpp from pipelining batches */
	uint32_t moe = j->p->n_cpu_moe > 0 ? (uint32_t)pl_min_u64((uint32_t)j->p->n_cpu_moe, j->m->n_layers) : 0;
	bool layers_free = j->p->n_gpu_layers == PL_AUTO;
	uint32_t layers = layers_free ? all : (uint32_t)pl_min_u64((uint32_t)j->p->n_gpu_layers, all);
	/* what is reported when nothing holds: everything asked for on the devices */
	s->best.n_gpu_layers = layers;
	s->best.n_cpu_moe = moe;
	if (moe_free && fewest_cpu_experts(s, layers) <= j->m->n_layers)
		return;
	if (!layers_free) {
		if (!moe_free)
			try_place(s, layers, moe);
		return;
	}
	most_layers(s, moe_free ? j->m->n_layers : moe);
}

void ll_choose(struct ll_job *j, struct ll_place *ret_place, struct ll_sum *sum)
{
	struct search s = {.j = j, .sum = sum, .free_split = true};
	for (uint32_t d = 0; d < j->n_dev; d++)
		if (j->p->tensor_split[j->dev[d].index] > 0)
			s.free_split = false;
	if (j->p->split_mode == PL_SPLIT_ROW)
		s.free_split = false;
	s.best.split_given = false;
	ll_default_split(j, s.best.split);
	if (!s.free_split && j->p->split_mode != PL_SPLIT_ROW) {
		s.best.split_given = true;
		for (uint32_t d = 0; d < j->n_dev; d++)
			s.best.split[d] = j->p->tensor_split[j->dev[d].index];
	}
	if (j->p->engine_fit) {
		s.best.n_gpu_layers = j->p->n_gpu_layers == PL_AUTO ? j->n_all + 1 : (uint32_t)j->p->n_gpu_layers;
		s.best.n_cpu_moe = j->p->n_cpu_moe > 0 ? (uint32_t)j->p->n_cpu_moe : 0;
		j->fit_end = ll_fit(j, &s.best, sum);
	} else if (j->n_dev) {
		j->whole_graph = true;
		search(&s);
	}
	/* what is answered is built whole, and so is the search when that decides */
	j->whole_graph = true;
	if (!s.fresh)
		ll_place_sum(j, &s.best, sum);
	if (j->n_dev && !j->p->engine_fit && !s.fresh && s.holds && !ll_devices_hold(j, sum)) {
		search(&s);
		ll_place_sum(j, &s.best, sum);
	}
	*ret_place = s.best;
}
