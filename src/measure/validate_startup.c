/* Seconds of a start (data/measurements/startup.csv): weights, compilation, graphs and the whole, as engines' logs print them. */
#include <math.h>
#include <string.h>
#include <strings.h>

#include "measure/validate.h"
#include "speed/speed.h"

static const char *const columns[] = {"id", "engine", "version", "gpu", "n_gpu", "tp", "model", "layers", "weights_gib", "disk", "compile",
                                      "load_s", "compile_s", "graph_s", "n_graphs", "init_s", "ready_s", NULL};

struct start {
	struct pl_vrow *r;
	struct pl_prediction *load, *compile, *graph, *init, *ready;
	struct pl_load_answer answer;
};

static void measured(struct start *x)
{
	struct pl_vrow *r = x->r;
	bool compiles = !pl_vrow_is(r, "compile", "none");
	x->load = pl_vrow_measured(r, pl_vrow_is(r, "disk", "cache") ? "load_cached_s" : "load_s", "load_s", 1);
	x->compile = compiles ? pl_vrow_measured(r, pl_vrow_is(r, "compile", "cached") ? "compile_cached_s" : "compile_s", "compile_s", 1) : NULL;
	x->graph = pl_vrow_measured(r, "graph_s", "graph_s", 1);
	x->init = pl_vrow_measured(r, "init_s", "init_s", 1);
	x->ready = pl_vrow_measured(r, "ready_s", "ready_s", 1);
}

static const struct pl_model *model_of(struct pl_vrow *r)
{
	struct pl_model_name name;
	pl_model_name_read(pl_vrow_text(r, "model"), &name);
	const struct pl_model_row *row = pl_model_name_find(&name);
	if (!row) {
		pl_vrow_reason(r, "no catalogued model is meant by '%.60s'", pl_vrow_text(r, "model"));
		return NULL;
	}
	return pl_vrow_model(r, row->id, NULL);
}

/* Only what the row says: no layout, so that copies over the slots stay out. */
static bool plan(struct start *x)
{
	struct pl_vrow *r = x->r;
	struct pl_err err = {0};
	struct pl_params p;
	bool zero = strcasestr(pl_vrow_text(r, "engine"), "zero") != NULL;
	struct pl_speed_setup setup = {.params = &p, .model = model_of(r)};
	double gib = pl_vrow_number(r, "weights_gib", 0.01, 20000);
	if (!setup.model)
		return false;
	if (pl_engine_find(zero ? "transformers" : pl_vrow_text(r, "engine"), &setup.engine, &err)) {
		pl_vrow_fault(r, &err);
		return false;
	}
	pl_params_default(&p);
	p.tensor_parallel = (uint32_t)pl_vrow_whole(r, "tp", 1, 1024, pl_vrow_whole(r, "n_gpu", 1, 1024, 1));
	p.zero_stage = zero ? 3 : 0;
	if (pl_vrow_is(r, "disk", "sata"))
		setup.disk_bytes_per_s = 0.55e9; /* data/links.csv, sata3-ssd */
	struct pl_speed s = {.weight_bytes = gib > 0 ? gib * 0x1p30 : (double)setup.model->weight_bytes};
	pl_speed_load(&s, &setup, &x->answer);
	return true;
}

static double stage_s(const struct start *x, enum pl_load_stage_kind kind)
{
	bool cached = pl_vrow_is(x->r, "compile", "cached"), none = pl_vrow_is(x->r, "compile", "none");
	const struct pl_load_answer *l = &x->answer;
	double graphs = pl_vrow_number(x->r, "n_graphs", 1, 10000);
	for (uint32_t i = 0; i < l->n_stages; i++) {
		const struct pl_load_stage *st = &l->stages[i];
		if (st->kind != kind || (kind == PL_LOAD_COMPILE && none))
			continue;
		if (kind == PL_LOAD_GRAPHS && graphs > 0)
			return st->cold_s / l->n_graphs * graphs;
		return cached ? st->warm_s : st->cold_s;
	}
	return 0;
}

static void map(struct pl_vrow *r)
{
	struct start x = {.r = r};
	measured(&x);
	pl_vrow_class(r, "engine", pl_vrow_text(r, "engine"));
	pl_vrow_class(r, "compile", pl_vrow_text(r, "compile"));
	if (!*pl_vrow_text(r, "model")) {
		pl_vrow_reason(r, "the row names no model");
		return;
	}
	const char *disk = pl_vrow_text(r, "disk");
	if (!plan(&x))
		return;
	double compile = stage_s(&x, PL_LOAD_COMPILE), graphs = stage_s(&x, PL_LOAD_GRAPHS), weights = stage_s(&x, PL_LOAD_WEIGHTS);
	if (!strcmp(disk, "cache"))
		pl_vrow_predict(x.load, x.answer.cached_s, NAN, NAN);
	else if (!strcmp(disk, "nvme"))
		pl_vrow_predict(x.load, x.answer.read_s, NAN, NAN);
	else if (x.load)
		pl_vrow_reason(r, "the row does not say what its weights were read from, or nothing is modelled of it");
	pl_vrow_predict(x.compile, compile, NAN, NAN);
	pl_vrow_predict(x.graph, graphs, NAN, NAN);
	double init = compile + graphs + stage_s(&x, PL_LOAD_PROFILE);
	pl_vrow_predict(x.init, init, NAN, NAN);
	pl_vrow_predict(x.ready, stage_s(&x, PL_LOAD_PROCESS) + weights + init, NAN, NAN);
}

const struct pl_table_kind pl_kind_startup = {"startup", columns, map, NULL};
