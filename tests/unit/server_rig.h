/* A server under test: engine, model and machine by name, parameters to change, the layout they give. After <cmocka.h>. */
#ifndef PLIMSOLL_TESTS_SERVER_RIG_H
#define PLIMSOLL_TESTS_SERVER_RIG_H

#include "../named.h"

struct rig {
	struct pl_arena *a;
	const struct pl_engine *e;
	const struct pl_model *m;
	const struct pl_machine *hw;
	struct pl_params p;
	struct pl_layout l;
	struct pl_err err;
};

static inline void rig_of(struct rig *r, const char *engine, const char *model, const char *quant, const char *machine)
{
	memset(r, 0, sizeof *r);
	r->a = pl_arena_new(0);
	r->e = engine_named(engine);
	r->m = model_named(r->a, model, quant);
	r->hw = machine_named(r->a, machine);
	pl_params_default(&r->p);
	r->p.n_ctx_tokens = 8192;
}

static inline void lay_out(struct rig *r)
{
	if (r->e->layout(r->a, r->m, r->hw, &r->p, &r->l, &r->err))
		fail_msg("%s: %s", r->err.where, r->err.msg);
}

#endif
