/* Catalogued things by name: a name nobody knows fails the test. After <cmocka.h>. */
#ifndef PLIMSOLL_TESTS_NAMED_H
#define PLIMSOLL_TESTS_NAMED_H

#include <plimsoll/catalog.h>
#include <plimsoll/engine.h>

static inline const struct pl_model *model_named(struct pl_arena *a, const char *name, const char *quant)
{
	const struct pl_model_row *row;
	const struct pl_model *m = NULL;
	struct pl_err err = {0};
	if (pl_model_row_find(name, &row, &err) || pl_model_from_config(a, row->id, row->config_json, row->config_len, quant, &m, &err))
		fail_msg("%s: %s", name, err.msg);
	return m;
}

static inline const struct pl_machine *machine_named(struct pl_arena *a, const char *line)
{
	const struct pl_machine *hw = NULL;
	struct pl_err err = {0};
	if (pl_machine_parse(a, line, &hw, &err))
		fail_msg("%s: %s", line, err.msg);
	return hw;
}

static inline const struct pl_engine *engine_named(const char *name)
{
	const struct pl_engine *e = NULL;
	struct pl_err err = {0};
	if (pl_engine_find(name, &e, &err))
		fail_msg("%s: %s", name, err.msg);
	return e;
}

#endif
