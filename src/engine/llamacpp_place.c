/* Layers on devices (llama.cpp src/llama-model.cpp load_tensors). */
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
