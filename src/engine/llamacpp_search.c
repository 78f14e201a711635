/* The choice of a placement: how many layers on devices, whose experts on the CPU, split where. The order of preference stands
 * with ll_choose in llamacpp.h. */
#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "engine/llamacpp.h"

enum { EXACT_LAYERS = 16, EXACT_SPLITS = 200, CLIMBS = 12 };

struct score {
	bool ram;            /* the host holds its part */
	uint64_t host_bytes;
	double cpu_bytes;    /* read by the CPU for one token */
};

struct search {
	struct ll_job *j;
	struct ll_sum *sum;
	struct ll_place best; /* what is reported when nothing holds: everything asked for on the devices */
	struct score score;
	uint32_t all;         /* layers, the output among them */
	bool free_split;      /* the proportions are ours to choose */
	bool exact;           /* few enough to try them all */
	bool holds;           /* some placement did */
	bool whole;           /* build every layer in every trial */
	bool fresh;           /* sum is that of best, and whole */
};

/* ---- splits ---------------------------------------------------------------------------------------------------------- */

/* Room a layer may take on device d when everything but layers is there already. */
static double room_for_layers(const struct ll_job *j, const struct ll_sum *s, uint32_t d)
{
	const struct pl_use *u = &s->dev[d];
	return (double)j->dev[d].room_bytes - (double)j->dev[d].taken_bytes - (double)u->overhead_bytes - (double)u->compute_bytes;
}

static double layer_bytes(const struct ll_job *j, const struct ll_place *pl, uint32_t i, enum ll_kind k)
{
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
		double need = layer_bytes(j, pl, i, j->dev[d].kind);
		while (used + need > share * room_for_layers(j, s, d)) {
			if (++d == j->n_dev)
				return false;
			used = 0;
			need = layer_bytes(j, pl, i, j->dev[d].kind);
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

/* Ways to deal n layers in order to m devices, capped. */
static uint64_t count_splits(uint32_t n, uint32_t m)
{
	uint64_t ways = 1;
	for (uint32_t i = 1; i < m && ways <= EXACT_SPLITS; i++)
		ways = ways * (n + i) / i;
	return ways;
}

static void first_split(const struct search *s, struct ll_place *pl)
{
	memset(pl->split, 0, sizeof pl->split);
	pl->split[0] = (double)pl_min_u64(pl->n_gpu_layers, s->all);
	pl->split_given = true;
}

/* The next way to deal the same layers, in lexicographic order; false after the last. */
static bool next_split(const struct search *s, struct ll_place *pl)
{
	uint32_t last = s->j->n_dev - 1, d = last;
	double tail = pl->split[last];
	pl->split[last] = 0;
	while (d && !(pl->split[d - 1] > 0))
		d--;
	if (!d)
		return false;
	pl->split[d - 1]--;
	pl->split[d] = tail + 1;
	return true;
}

static bool holds(struct search *s, const struct ll_place *pl)
{
	s->fresh = false;
	ll_place_sum(s->j, pl, s->sum);
	bool held = ll_devices_hold(s->j, s->sum);
	if (!held) /* the first trial is built whole, a search leaves out what repeats */
		s->j->whole_graph = s->whole;
	return held;
}

/* What the fullest device in use keeps; -1 when one does not hold its part, or RAM no longer does. */
static double spare(struct search *s, const struct ll_place *pl)
{
	double least = INFINITY;
	if (!holds(s, pl) || (s->score.ram && !ll_host_holds(s->j, s->sum)))
		return -1;
	for (uint32_t d = 0; d < s->j->n_dev; d++) {
		const struct pl_use *u = &s->sum->dev[d];
		if (u->model_bytes || u->compute_bytes || pl_use_context_bytes(u))
			least = fmin(least, (double)s->j->dev[d].room_bytes - (double)s->j->dev[d].taken_bytes -
			                        (double)pl_use_total_bytes(u));
	}
	return least;
}

/* A split that holds, or none. */
static bool try_place(struct search *s, uint32_t n_gpu_layers, uint32_t n_cpu_moe, struct ll_place *pl)
{
	*pl = s->best;
	pl->n_gpu_layers = n_gpu_layers;
	pl->n_cpu_moe = n_cpu_moe;
	if (!s->free_split)
		return holds(s, pl);
	ll_default_split(s->j, pl->split);
	pl->split_given = false;
	if (holds(s, pl))
		return true;
	if (s->j->n_dev < 2)
		return false;
	for (int round = 0; round < 2; round++)
		if (!balance(s, pl))
			break;
		else if (holds(s, pl))
			return true;
	if (s->exact) {
		first_split(s, pl);
		do {
			if (holds(s, pl))
				return true;
		} while (next_split(s, pl));
	}
	return false;
}

/* Moves one layer between neighbours while that leaves the fullest device more. */
static void climb(struct search *s, struct ll_place *pl)
{
	double now = spare(s, pl);
	bool better = true;
	for (int round = 0; better && round < CLIMBS; round++) {
		struct ll_place next = *pl, best = *pl;
		better = false;
		for (uint32_t d = 0; d + 1 < s->j->n_dev; d++)
			for (int to_right = 0; to_right < 2; to_right++) {
				uint32_t from = d + (to_right ? 0 : 1), to = d + (to_right ? 1 : 0);
				next = *pl;
				if (!(next.split[from] > 0))
					continue;
				next.split[from]--;
				next.split[to]++;
				double then = spare(s, &next);
				if (then > now) {
					now = then;
					best = next;
					better = true;
				}
			}
		*pl = best;
	}
}

/* The third wish: most spare on the fullest device, where llama.cpp's own split does not hold. */
static void refine(struct search *s)
{
	struct ll_place pl = s->best, best = s->best;
	double most;
	if (!s->free_split || s->j->n_dev < 2 || !s->best.split_given)
		return;
	if (!s->exact) {
		climb(s, &s->best);
		return;
	}
	most = spare(s, &best);
	first_split(s, &pl);
	do {
		double now = spare(s, &pl);
		if (now > most) {
			most = now;
			best = pl;
		}
	} while (next_split(s, &pl));
	s->best = best;
}

/* ---- layers and experts ------------------------------------------------------------------------------------------------ */

/* Bytes the CPU reads for one token, at full context. */
static double cpu_bytes(const struct search *s, uint32_t n_gpu_layers, uint32_t n_cpu_moe)
{
	const struct ll_job *j = s->j;
	uint32_t start = s->all - (uint32_t)pl_min_u64(n_gpu_layers, s->all);
	double sum = start > j->n_all ? (double)j->output.v[LL_HOST] : 0;
	for (uint32_t i = 0; i < j->n_all; i++) {
		const struct ll_layer *l = &j->layers[i];
		const struct pl_layer *m = &j->m->layers[i];
		double used = m->n_expert ? (double)m->n_expert_used / m->n_expert : 1;
		if (i < start)
			sum += (double)l->rest.v[LL_HOST] + (double)l->kv.v[LL_HOST] + (double)l->state.v[LL_HOST];
		else if (j->p->no_kv_offload)
			sum += (double)l->kv.v[LL_HOST] + (double)l->state.v[LL_HOST];
		if (i < start || i < n_cpu_moe)
			sum += (double)l->experts.v[LL_HOST] * used;
	}
	return sum;
}

/* Fewest layers with experts on the CPU that could hold if compute buffers were nothing; more than there are: none. */
static uint32_t least_cpu_experts(const struct search *s, uint32_t n_gpu_layers)
{
	const struct ll_job *j = s->j;
	struct ll_place pl = {.n_gpu_layers = n_gpu_layers};
	double room = 0, need = 0;
	uint32_t start = s->all - (uint32_t)pl_min_u64(n_gpu_layers, s->all), k;
	for (uint32_t d = 0; d < j->n_dev; d++)
		room += fmax(0, (double)j->dev[d].room_bytes - (double)j->dev[d].taken_bytes - (double)j->dev[d].overhead_bytes);
	for (uint32_t i = start; i < s->all; i++)
		need += layer_bytes(j, &pl, i, LL_PLAIN);
	for (k = 0; need > room && k < j->n_all; k++)
		need -= k >= start ? (double)j->layers[k].experts.v[LL_PLAIN] : 0;
	return need > room ? j->n_all + 1 : k;
}

static void consider(struct search *s, const struct ll_place *pl)
{
	struct score now = {ll_host_holds(s->j, s->sum), ll_host_bytes(s->j, s->sum), cpu_bytes(s, pl->n_gpu_layers, pl->n_cpu_moe)};
	bool mapped = !s->j->p->no_mmap && !s->j->p->mlock; /* what RAM cannot hold is read from the file again */
	bool fewer = now.ram || mapped ? now.cpu_bytes < s->score.cpu_bytes : now.host_bytes < s->score.host_bytes;
	if (s->holds && !(now.ram && !s->score.ram) && !(now.ram == s->score.ram && fewer))
		return;
	s->best = *pl;
	s->score = now;
	s->holds = true;
	s->fresh = s->j->whole_graph;
}

/* Fewest layers with experts on the CPU that hold with n_gpu_layers on devices, from low to high; false: none that counts. */
static bool fewest_cpu_experts(struct search *s, uint32_t n_gpu_layers, uint32_t low, uint32_t high, struct ll_place *pl)
{
	struct ll_place middle_place;
	if (s->exact) {
		for (uint32_t k = low; k <= high; k++)
			if (try_place(s, n_gpu_layers, k, pl))
				return true;
		return false;
	}
	if (try_place(s, n_gpu_layers, low, pl))
		return true;
	if (low >= high || !try_place(s, n_gpu_layers, high, pl))
		return false;
	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;
		if (try_place(s, n_gpu_layers, middle, &middle_place)) {
			high = middle;
			*pl = middle_place;
		} else {
			low = middle;
		}
	}
	return holds(s, pl); /* the sums of the one that is meant */
}

/* Layers from most to least: with fewer on the devices, more experts may find room there. What cannot win is not tried. */
static void search_experts(struct search *s, uint32_t most, uint32_t least)
{
	const struct ll_job *j = s->j;
	struct ll_place pl;
	for (uint32_t layers = most + 1; layers-- > least;) {
		uint32_t low = least_cpu_experts(s, layers), high = j->m->n_layers;
		bool beaten = s->holds && s->score.ram;
		if (beaten && cpu_bytes(s, layers, 0) >= s->score.cpu_bytes)
			return;
		while (beaten && high > low && cpu_bytes(s, layers, high) >= s->score.cpu_bytes)
			high--;
		if (low > j->m->n_layers || (beaten && cpu_bytes(s, layers, low) >= s->score.cpu_bytes))
			continue;
		if (fewest_cpu_experts(s, layers, low, high, &pl))
			consider(s, &pl);
	}
}

/* Most layers that hold; more of them on devices is better in every wish. */
static void search_layers(struct search *s, uint32_t moe)
{
	uint32_t low = 0, high = s->all;
	struct ll_place pl, found;
	if (s->exact) {
		for (uint32_t layers = high + 1; layers-- > 0;)
			if (try_place(s, layers, moe, &pl)) {
				consider(s, &pl);
				return;
			}
		return;
	}
	bool any = try_place(s, high, moe, &found);
	while (!any && high - low > 1) {
		uint32_t middle = low + (high - low) / 2;
		if (try_place(s, middle, moe, &pl)) {
			low = middle;
			found = pl;
		} else {
			high = middle;
		}
	}
	if (!any && !low && !try_place(s, 0, moe, &found))
		return;
	if (holds(s, &found))
		consider(s, &found);
}

static void search(struct search *s)
{
	const struct ll_job *j = s->j;
	struct ll_place pl;
	bool moe_free = j->p->n_cpu_moe == PL_AUTO && j->has_experts, layers_free = j->p->n_gpu_layers == PL_AUTO;
	/* a model without experts keeps the number: the rule alone stops llama.cpp from pipelining batches */
	uint32_t moe = j->p->n_cpu_moe > 0 ? (uint32_t)pl_min_u64((uint32_t)j->p->n_cpu_moe, j->m->n_layers) : 0;
	uint32_t layers = layers_free ? s->all : (uint32_t)pl_min_u64((uint32_t)j->p->n_gpu_layers, s->all);
	s->holds = false;
	s->best.n_gpu_layers = layers;
	s->best.n_cpu_moe = moe;
	if (moe_free)
		search_experts(s, layers, layers_free ? 0 : layers);
	else if (layers_free)
		search_layers(s, moe);
	else if (try_place(s, layers, moe, &pl))
		consider(s, &pl);
	if (s->holds)
		refine(s);
}

void ll_choose(struct ll_job *j, struct ll_place *ret_place, struct ll_sum *sum)
{
	struct search s = {.j = j, .sum = sum, .free_split = j->p->split_mode != PL_SPLIT_ROW, .all = j->n_all + 1};
	for (uint32_t d = 0; d < j->n_dev; d++)
		if (j->p->tensor_split[j->dev[d].index] > 0)
			s.free_split = false;
	s.exact = s.all <= EXACT_LAYERS && count_splits(s.all, j->n_dev) <= EXACT_SPLITS;
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
		s.whole = true;
		search(&s);
		ll_place_sum(j, &s.best, sum);
	}
	*ret_place = s.best;
}
