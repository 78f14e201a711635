/* From the words of a table to a compiled speed and a policy. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <plimsoll/catalog.h>

#include "measure/served_case.h"
#include "measure/validator.h"

/* Engines of tables that are not planned yet are known by name: their steps are modelled, their memory is taken from vLLM's
 * rules, which share the idea (a fraction of the card, less weights and activations, is the cache). */
static const struct pl_engine named[] = {{.id = "vllm", .aliases = ""},
                                         {.id = "sglang", .aliases = ""},
                                         {.id = "tensorrt-llm", .aliases = "trtllm trt-llm tensorrtllm tensorrt_llm"}};

static const struct pl_engine *engine_of(const char *name)
{
	const struct pl_engine *e;
	struct pl_err err = {0};
	const char *id = strcasestr(name, "tensorrt") || strcasestr(name, "trt") ? "tensorrt-llm"
	                 : strcasestr(name, "sglang")                            ? "sglang"
	                 : strcasestr(name, "vllm")                              ? "vllm"
	                                                                         : name;
	if (!pl_engine_find(id, &e, &err))
		return e;
	for (size_t i = 0; i < sizeof named / sizeof *named; i++)
		if (!strcmp(named[i].id, id))
			return &named[i];
	return NULL;
}

/* ---- models: the checkpoint of a precision */

static const struct pl_model_row *row_of(const char *name)
{
	const struct pl_model_row *row = NULL;
	struct pl_err err = {0};
	struct pl_model_name n;
	if (!pl_model_row_find(name, &row, &err))
		return row;
	pl_model_name_read(name, &n);
	return pl_model_name_find(&n);
}

static const struct pl_model_row *exact_row(const char *id)
{
	const struct pl_model_row *row = NULL;
	struct pl_err err = {0};
	return !pl_model_row_find(id, &row, &err) && !strcasecmp(row->id, id) ? row : NULL;
}

static bool says(const struct pl_model_row *row, const char *method)
{
	const char *q = strstr(row->config_json, "\"quantization_config\"");
	return q && strcasestr(q, method);
}

static const char *base_name(const char *id)
{
	const char *slash = strrchr(id, '/');
	return slash ? slash + 1 : id;
}

/* Servers run the published checkpoint of a precision where there is one: NVIDIA's for NVFP4, the maker's for FP8. */
static const struct pl_model *model_of(struct pl_vrow *r, const char *name, const char *precision)
{
	const struct pl_model_row *row = row_of(name), *other = NULL;
	if (!row) {
		pl_vrow_reason(r, "the catalogue has no model called '%.80s'", name);
		return NULL;
	}
	bool fp4 = !strcasecmp(precision, "fp4") || !strcasecmp(precision, "nvfp4"), fp8 = !strcasecmp(precision, "fp8");
	if (!*precision || (fp4 && (says(row, "mxfp4") || says(row, "nvfp4"))) || (fp8 && says(row, "fp8")))
		return pl_vrow_model(r, row->id, NULL);
	if (!strcasecmp(precision, "int4") && says(row, "\"num_bits\":4"))
		return pl_vrow_model(r, row->id, NULL);
	if (fp4)
		other = exact_row(pl_arena_printf(r->a, "nvidia/%s-NVFP4", base_name(row->id)));
	if (fp8)
		other = exact_row(pl_arena_printf(r->a, "%s-FP8", row->id));
	if (other)
		return pl_vrow_model(r, other->id, NULL);
	/* Newer makers' FP8 is scaled by blocks; dense Llama is served from NVIDIA's, scaled by tensor. */
	bool experts = strstr(row->config_json, "expert") != NULL;
	const char *quant = fp4 ? "nvfp4" : fp8 ? (experts ? "fp8-block" : "fp8") : !strcasecmp(precision, "int4") ? "awq-int4" : precision;
	return pl_vrow_model(r, row->id, quant);
}

static bool has_experts(const struct pl_model *m)
{
	for (uint32_t i = 0; i < m->n_layers; i++)
		if (m->layers[i].n_expert)
			return true;
	return false;
}

/* ---- the run */

static void params_of(const struct pl_served_ask *ask, const struct pl_engine *e, const struct pl_model *m, struct pl_params *p)
{
	double most = ask->load.prompt_tokens + ask->load.output_tokens, own = ask->load.concurrency / (ask->dp ? ask->dp : 1);
	bool quantised = m->weight_bytes < m->n_params + m->n_params / 2;
	pl_params_default(p);
	p->tensor_parallel = ask->tp ? ask->tp : 1;
	p->pipeline_parallel = ask->pp ? ask->pp : 1;
	p->data_parallel = ask->dp ? ask->dp : 1;
	p->expert_parallel = ask->expert_parallel;
	p->dp_attention = p->data_parallel > 1 && (ask->expert_parallel || (ask->attention_dp && has_experts(m))) && strcmp(e->id, "vllm") != 0;
	if (p->dp_attention) /* SGLang and TensorRT-LLM count the groups within the tensor parallel ranks */
		p->tensor_parallel *= p->data_parallel;
	p->gpu_memory_utilization_frac = ask->memory_frac;
	p->n_ctx_tokens = (uint64_t)most + 64;
	p->n_seq = 1;
	p->max_num_seqs = ask->max_seqs ? ask->max_seqs : own > 256 ? (uint32_t)own : 256;
	/* Recipes for quantised checkpoints set an FP8 cache in vLLM, TensorRT-LLM takes one by itself, SGLang keeps 16 bits. */
	if (quantised && strcmp(e->id, "sglang") != 0)
		p->type_k = p->type_v = PL_DTYPE_F8_E4M3;
}

/* Tokens of one replica's cache, by the engine's rules, or by vLLM's where it has none. */
static double cache_tokens(struct pl_vrow *r, const struct pl_engine *e, const struct pl_model *m, const struct pl_machine *hw,
                           const struct pl_params *p)
{
	struct pl_layout l;
	struct pl_params copy = *p;
	struct pl_err err = {0};
	const struct pl_engine *rules = e;
	if (!rules->layout && pl_engine_find("vllm", &rules, &err))
		return 0;
	if (rules != e)
		copy.dp_attention = false;
	if (rules->layout(r->a, m, hw, &copy, &l, &err))
		return 0;
	return l.kv_cache_tokens.known ? (double)l.kv_cache_tokens.value : 0;
}

/* `trtllm-bench` sets the largest batch and the tokens of a step by how many sequences the cache holds (tensorrt_llm/bench/build/
 * tuning.py, finetune_setting): "slightly optimistic". */
static void tune(const struct pl_served_ask *ask, double tokens, struct pl_params *p)
{
	double isl = ask->load.prompt_tokens, osl = ask->load.output_tokens, pp = p->pipeline_parallel;
	double batch = fmin(tokens / (isl + osl), 4096) / pp, step = fmin(batch * (1 + isl / osl), 32768);
	double by = batch < 256 ? 32 : batch < 1024 ? 128 : 256, of = step < 4096 ? 256 : step < 8192 ? 512 : 1024;
	p->max_num_seqs = (uint32_t)fmax(64, by * ceil(batch / by));
	p->max_num_batched_tokens = (uint32_t)fmax(2048, of * ceil(step / of));
}

/* More cards than the largest catalogued machine of theirs has stand in several. */
static const struct pl_machine *over_hosts(struct pl_vrow *r, const struct pl_machine *hw)
{
	uint32_t n, most = 0;
	const struct pl_node *nodes = pl_catalog_nodes(&n);
	for (uint32_t i = 0; i < n && hw->n_devices && hw->devices[0].gpu; i++)
		if (!strcmp(nodes[i].gpu_id, hw->devices[0].gpu->id) && nodes[i].gpu_count > most)
			most = nodes[i].gpu_count;
	if (!most || hw->n_devices <= most)
		return hw;
	struct pl_machine *copy = PL_NEW(r->a, struct pl_machine);
	struct pl_device *d = PL_NEW_N(r->a, struct pl_device, hw->n_devices);
	if (!copy || !d)
		return NULL;
	*copy = *hw;
	memcpy(d, hw->devices, hw->n_devices * sizeof *d);
	for (uint32_t i = 0; i < hw->n_devices; i++)
		d[i].node = i / most;
	copy->devices = d;
	copy->n_nodes = (hw->n_devices + most - 1) / most;
	return copy;
}

static const struct pl_machine *machine_of(struct pl_vrow *r, const struct pl_served_ask *ask, uint32_t n)
{
	if (n > PL_MAX_DEVICES) {
		pl_vrow_reason(r, "%u cards are more than are planned (%d)", n, PL_MAX_DEVICES);
		return NULL;
	}
	const struct pl_machine *hw = pl_vrow_machine(r, pl_arena_printf(r->a, "%ux %s", n, ask->gpu));
	return hw ? over_hosts(r, hw) : NULL;
}

/* As few cards a replica as hold its weights in half their memory; at most 8. */
static void choose_ranks(struct pl_served_ask *ask, const struct pl_model *m)
{
	const struct pl_gpu *g;
	struct pl_err err = {0};
	if (ask->tp || !ask->cards || pl_gpu_find(ask->gpu, &g, &err)) {
		ask->tp = ask->tp ? ask->tp : 1;
		ask->dp = ask->dp ? ask->dp : ask->cards > ask->tp * (ask->pp ? ask->pp : 1) ? ask->cards / (ask->tp * (ask->pp ? ask->pp : 1)) : 1;
		return;
	}
	uint32_t tp = 1;
	while (tp < 8 && tp * 2 <= ask->cards && (double)m->weight_bytes / tp > 0.5 * (double)g->mem_bytes)
		tp *= 2;
	ask->tp = tp;
	ask->dp = ask->cards / tp;
}

/* Is a release, "0.5.6.post2", before another? One that is not stated is new. */
static bool before(const char *version, unsigned major, unsigned minor, unsigned patch)
{
	unsigned have[3] = {0}, want[3] = {major, minor, patch};
	if (!version || sscanf(version, "%u.%u.%u", &have[0], &have[1], &have[2]) < 2)
		return false;
	for (int i = 0; i < 3; i++)
		if (have[i] != want[i])
			return have[i] < want[i];
	return false;
}

/* AIConfigurator's generator writes scripts for SGLang since December 2025 (its pull request 144; mixed chunks since 257, January
 * 2026): runs of older releases were started by hand. */
static bool is_generated(const struct pl_served_ask *ask, const struct pl_engine *e)
{
	return ask->generated && (strcmp(e->id, "sglang") != 0 || !before(ask->version, 0, 5, 6));
}

static void policy_of(const struct pl_served_ask *ask, const struct pl_engine *e, const struct pl_recipe *recipe, struct pl_served_case *ret)
{
	pl_serve_policy_of(ret->speed, &ret->policy);
	if (recipe)
		pl_recipe_policy(recipe, &ret->policy);
	/* By itself from 0.14 on (its release notes); scripts of InferenceX asked for it before. */
	if (!strcmp(e->id, "vllm") && before(ask->version, 0, 14, 0))
		ret->policy.ahead = false;
	if (!strcmp(e->id, "sglang") && is_generated(ask, e))
		ret->policy.mixed = true; /* enable_mixed_chunk */
}

bool pl_served_compile(struct pl_arena *a, struct pl_vrow *r, const struct pl_served_ask *asked, struct pl_served_case *ret)
{
	struct pl_served_ask own = *asked, *ask = &own;
	const struct pl_engine *e = engine_of(ask->engine);
	struct pl_err err = {0};
	*ret = (struct pl_served_case){.ttft_s = NAN, .tpot_s = NAN, .output_tok_s = NAN, .load = ask->load, .row = r->index, .weight = 1};
	if (!e) {
		pl_vrow_reason(r, "the steps of engine '%.40s' are not modelled", ask->engine);
		return false;
	}
	const struct pl_model *m = model_of(r, ask->model, ask->precision);
	if (m && ask->attention_dp && has_experts(m) && ask->tp > 1 && ask->dp <= 1) {
		ask->dp = ask->tp;
		ask->tp = 1;
		ask->expert_parallel = true;
	}
	if (m && ask->cards)
		choose_ranks(ask, m);
	uint32_t n = (ask->tp ? ask->tp : 1) * (ask->pp ? ask->pp : 1) * (ask->dp ? ask->dp : 1);
	const struct pl_machine *hw = m ? machine_of(r, ask, n) : NULL;
	if (!hw)
		return false;
	struct pl_params *p = PL_NEW(a, struct pl_params);
	struct pl_layout *l = PL_NEW(a, struct pl_layout);
	if (!p || !l)
		return false;
	params_of(ask, e, m, p);
	const struct pl_recipe *recipe = ask->inferencex ? pl_inferencex_recipe(e->id, ask) : NULL;
	if (recipe)
		pl_recipe_params(recipe, ask, p);
	if (is_generated(ask, e))
		pl_generated_params(e->id, ask, p);
	double tokens = cache_tokens(r, e, m, hw, p);
	if (ask->tuned && tokens >= 1) {
		tune(ask, tokens, p);
		tokens = cache_tokens(r, e, m, hw, p);
	}
	l->kv_cache_tokens = (struct pl_opt_u64){(uint64_t)tokens, tokens >= 1};
	struct pl_speed_setup setup = {.model = m, .machine = hw, .engine = e, .params = p, .layout = l, .constants = r->v->constants,
	                                .backend = PL_BACKEND_AUTO};
	const struct pl_speed *s = NULL;
	if (pl_speed_compile(a, &setup, &s, &err)) {
		pl_vrow_fault(r, &err);
		return false;
	}
	if (pl_speed_unknown(s)) {
		pl_vrow_reason(r, "%s", pl_speed_unknown(s));
		return false;
	}
	ret->speed = (struct pl_speed *)(uintptr_t)s;
	policy_of(ask, e, recipe, ret);
	ret->model = m->name;
	ret->device = ask->gpu;
	ret->family = pl_arena_strdup(a, ask->model);
	ret->engine = e->id;
	return true;
}
