/* Tables become observations. */
#include <math.h>

#include "measure/observe.h"

static struct pl_observation *append(struct pl_observations *o)
{
	if (o->n == o->cap) {
		uint32_t cap = o->cap ? o->cap * 2 : 1024;
		struct pl_observation *more = pl_arena_grow(o->a, o->list, o->n, cap, sizeof *more);
		if (!more)
			return NULL;
		o->list = more;
		o->cap = cap;
	}
	return &o->list[o->n++];
}

int pl_observe_table(struct pl_validator *v, uint32_t table, struct pl_observations *ret, struct pl_err *err)
{
	for (uint32_t i = 0; i < v->table->n_rows && v->kind->observe; i++) {
		struct pl_vrow r = {.a = pl_arena_new(0), .v = v, .index = i, .row = &v->table->rows[i]};
		struct pl_observation o = {.row = i, .table = table, .weight = 1};
		bool ok = r.a && r.row->n_cells == v->table->n_columns && !r.row->has_nul && v->kind->observe(&r, &o);
		pl_arena_free(r.a);
		if (!ok)
			continue;
		struct pl_observation *slot = append(ret);
		if (!slot)
			return pl_fail(err, PL_ERR_NOMEM, v->table->name, "out of memory in row %u", i + 1);
		*slot = o;
	}
	if (pl_arena_failed(v->a))
		return pl_fail(err, PL_ERR_NOMEM, v->table->name, "out of memory while reading the table");
	return 0;
}

int pl_hold_out(struct pl_validator *v, enum pl_leave_out by, struct pl_err *err)
{
	static const struct pl_constants none;
	struct pl_observations obs = {.a = v->a};
	struct pl_constants *start = PL_NEW(v->a, struct pl_constants);
	int rc = pl_observe_table(v, 0, &obs, err);
	if (rc)
		return rc;
	v->held_out = PL_NEW_N(v->a, struct pl_held_out, (uint64_t)v->table->n_rows + 1);
	if (!v->held_out || !start)
		return pl_fail(err, PL_ERR_NOMEM, v->table->name, "out of memory while fitting");
	*start = none;
	struct pl_fit f = {.a = v->a, .prior = start, .prior_weight = 1, .obs = obs.list, .n = obs.n};
	rc = pl_fit_all(&f, err);
	if (!rc)
		rc = pl_fit_leave_out(&f, by, err);
	for (uint32_t i = 0; i < obs.n && !rc; i++)
		v->held_out[obs.list[i].row] = (struct pl_held_out){obs.list[i].predicted, obs.list[i].kinship, true};
	return rc;
}
