/* Rules: transformers 5.24 integrations/accelerate.py (get_balanced_memory, infer_auto_device_map) and accelerate 1.15
 * utils/modeling.py (get_max_layer_size). The room of the first GPU and of the CPU is lessened by the largest layer still
 * to be placed, so that a layer kept elsewhere can be brought back to compute. */
#include <string.h>

#include "base/checked.h"
#include "engine/device_map.h"

/* ---- balancing --------------------------------------------------------------------------------------------------- */

static bool ends(const struct dm_module *m)
{
	return m->whole || !m->n_children;
}

static uint64_t largest_block(const struct dm_tree *t, bool with_leaves)
{
	uint64_t most = 0;
	for (uint32_t i = 1; i < t->n_nodes; i++)
		if (t->nodes[i].whole || (with_leaves && !t->nodes[i].n_children))
			most = pl_max_u64(most, t->nodes[i].bytes);
	return most;
}

void dm_balance(const struct dm_tree *t, struct dm_room *room, bool with_leaves)
{
	if (!room->n_gpus)
		return;
	uint64_t slack = largest_block(t, with_leaves);
	uint64_t each = pl_sat_add(t->nodes[0].bytes / room->n_gpus, slack + slack / 4);
	for (uint32_t d = 0; d + 1 < room->n_gpus; d++)
		if (room->gpu_bytes[d] > (double)each)
			room->gpu_bytes[d] = (double)each;
}

/* ---- placing ----------------------------------------------------------------------------------------------------- */

struct job {
	const struct dm_tree *t;
	uint32_t *todo, n_todo; /* next one last */
	uint32_t *is_largest;   /* by node: one of the largest layers as last counted */
	uint64_t largest;       /* bytes of them */
	uint32_t n_largest;
	int32_t *where;
};

static bool within(const struct dm_tree *t, uint32_t node, uint32_t ancestor)
{
	while (node != ancestor && node)
		node = t->nodes[node].parent;
	return node == ancestor;
}

static void scan_largest(struct job *j, uint32_t node)
{
	const struct dm_module *m = &j->t->nodes[node];
	if (!ends(m)) {
		for (uint32_t c = 0; c < m->n_children; c++)
			scan_largest(j, m->first_child + c);
		return;
	}
	if (m->bytes > j->largest) {
		memset(j->is_largest, 0, j->t->n_nodes * sizeof *j->is_largest);
		j->largest = m->bytes;
		j->n_largest = 0;
	}
	if (m->bytes == j->largest) {
		j->is_largest[node] = 1;
		j->n_largest++;
	}
}

static void find_largest(struct job *j)
{
	memset(j->is_largest, 0, j->t->n_nodes * sizeof *j->is_largest);
	j->largest = j->n_largest = 0;
	for (uint32_t i = j->n_todo; i-- > 0;)
		scan_largest(j, j->todo[i]);
}

static void forget_largest(struct job *j, uint32_t node)
{
	for (uint32_t i = 0; j->n_largest && i < j->t->n_nodes; i++) {
		if (!j->is_largest[i] || !within(j->t, i, node))
			continue;
		j->is_largest[i] = 0;
		j->n_largest--;
	}
	if (!j->n_largest)
		find_largest(j);
}

static void split(struct job *j, uint32_t node)
{
	const struct dm_module *m = &j->t->nodes[node];
	for (uint32_t c = m->n_children; c-- > 0;)
		j->todo[j->n_todo++] = m->first_child + c;
	find_largest(j);
}

/* The module outside `node` that shares a weight with one inside, or DM_NONE. */
static uint32_t tied_outside(const struct job *j, uint32_t node)
{
	const struct dm_tree *t = j->t;
	if (t->tied_source == DM_NONE || t->tied_copy == DM_NONE)
		return DM_NONE;
	bool source = within(t, t->tied_source, node), copy = within(t, t->tied_copy, node);
	if (source == copy)
		return DM_NONE;
	return source ? t->tied_copy : t->tied_source;
}

/* Index in the list of the module that holds `node`; n_todo when it has been placed. */
static uint32_t listed(const struct job *j, uint32_t node)
{
	for (uint32_t i = 0; i < j->n_todo; i++)
		if (within(j->t, node, j->todo[i]))
			return i;
	return j->n_todo;
}

static void place(struct job *j, uint32_t node, uint32_t tied_index, int32_t where)
{
	j->where[node] = where;
	if (tied_index == j->n_todo)
		return;
	j->where[j->todo[tied_index]] = where;
	memmove(&j->todo[tied_index], &j->todo[tied_index + 1], (j->n_todo - tied_index - 1) * sizeof *j->todo);
	j->n_todo--;
}

struct shelf {
	int32_t id;
	double room; /* negative: endless */
	bool reserves;
};

static uint32_t shelves(const struct dm_room *room, struct shelf *s)
{
	uint32_t n = 0;
	for (uint32_t d = 0; d < room->n_gpus; d++)
		s[n++] = (struct shelf){(int32_t)d, room->gpu_bytes[d], d == 0};
	if (room->has_cpu)
		s[n++] = (struct shelf){DM_CPU, room->cpu_bytes, true};
	s[n++] = (struct shelf){DM_DISK, -1, false};
	return n;
}

void dm_infer(const struct dm_tree *t, const struct dm_room *room, uint32_t *scratch, int32_t *ret_where)
{
	struct job j = {.t = t, .todo = scratch, .is_largest = scratch + t->n_nodes, .where = ret_where};
	struct shelf shelf[PL_MAX_DEVICES + 2];
	uint32_t n = shelves(room, shelf), at = 0;
	uint64_t used = 0;
	for (uint32_t i = 0; i < t->n_nodes; i++)
		ret_where[i] = DM_UNPLACED;
	split(&j, 0);
	while (j.n_todo) {
		uint32_t node = j.todo[--j.n_todo];
		forget_largest(&j, node);
		uint32_t tied = tied_outside(&j, node), tied_index = tied == DM_NONE ? j.n_todo : listed(&j, tied);
		uint64_t need = t->nodes[node].bytes;
		if (tied_index < j.n_todo)
			need = pl_sat_add(need, t->nodes[j.todo[tied_index]].bytes);
		double left = shelf[at].room - (shelf[at].reserves ? (double)j.largest : 0) - (double)used;
		if (at + 1 == n || (double)need <= left) {
			place(&j, node, tied_index, shelf[at].id);
			used = pl_sat_add(used, need);
		} else if (!ends(&t->nodes[node])) {
			split(&j, node);
		} else {
			j.todo[j.n_todo++] = node;
			at++;
			used = 0;
		}
	}
}
