/* What vLLM, SGLang and TensorRT-LLM print when they start (data/measurements/serving_memory.csv): one plan a row.
 *
 * model_bytes, activation_bytes and kv_cache_bytes of one GPU, kv_cache_tokens, max_concurrency; graph_bytes and
 * non_torch_bytes are kept in the rows. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <plimsoll/engine.h>

#include "base/checked.h"
#include "measure/validate.h"
#include "measure/validator.h"

static const double GIB = 1024.0 * 1024.0 * 1024.0;

static const char *const columns[] = {
    "id", "date", "engine", "version", "model(hf id)", "dtype", "quantization", "gpu", "gpu_mem_gib", "tp", "pp", "dp", "ep",
    "gpu_memory_utilization", "max_model_len", "max_num_batched_tokens", "max_num_seqs", "kv_cache_dtype", "block_size",
    "enforce_eager", "weights_gib_per_gpu", "activation_peak_gib", "non_torch_gib", "cudagraph_gib", "kv_cache_gib_per_gpu",
    "num_gpu_blocks", "kv_tokens", "max_concurrency", "notes", NULL,
};

struct start {
	struct pl_vrow *r;
	const char *notes;
	const struct pl_engine *engine;
	const struct pl_model *model;
	struct pl_machine hw;
	struct pl_params p;
	bool own_weights;    /* more or other than the catalogued checkpoint */
	const char *no_pool; /* why the cache cannot be predicted; NULL: it can */
	struct pl_prediction *weights, *activation, *cache, *tokens, *concurrency;
};

/* ---- measured -------------------------------------------------------------------------------------------------------- */

/* Without the line of tokens, blocks tell them: 16 tokens each where no size is stated (the default on GPUs). */
static void measure_tokens(struct start *x)
{
	const char *blocks = pl_vrow_text(x->r, "num_gpu_blocks");
	x->tokens = pl_vrow_measured(x->r, "kv_cache_tokens", "kv_tokens", 1);
	if (x->tokens || !*blocks)
		return;
	double size = pl_vrow_number(x->r, "block_size", 1, 4096);
	x->tokens = pl_vrow_measured(x->r, "kv_cache_tokens", "num_gpu_blocks", isnan(size) ? 16 : size);
}

static void measure(struct start *x)
{
	x->weights = pl_vrow_measured(x->r, "model_bytes", "weights_gib_per_gpu", GIB);
	x->activation = pl_vrow_measured(x->r, "activation_bytes", "activation_peak_gib", GIB);
	x->cache = pl_vrow_measured(x->r, "kv_cache_bytes", "kv_cache_gib_per_gpu", GIB);
	measure_tokens(x);
	x->concurrency = pl_vrow_measured(x->r, "max_concurrency", "max_concurrency", 1);
	/* negative where capturing freed memory */
	if (*pl_vrow_text(x->r, "cudagraph_gib") && *pl_vrow_text(x->r, "cudagraph_gib") != '-')
		(void)pl_vrow_measured(x->r, "graph_bytes", "cudagraph_gib", GIB);
	(void)pl_vrow_measured(x->r, "non_torch_bytes", "non_torch_gib", GIB);
}

/* ---- flags (docs/validation.md) ----------------------------------------------------------------------------------------- */

/* The parts of the budget, all printed by one start, must add up to the share of the card. */
static void flag_budget(struct start *x)
{
	const double SLACK_GIB = 0.5; /* utilisation is printed with two digits: 0.005 of 80 GiB */
	double util = pl_vrow_number(x->r, "gpu_memory_utilization", 0, 1), total = pl_vrow_number(x->r, "gpu_mem_gib", 0, 1e4);
	double off = util * total - pl_vrow_number(x->r, "weights_gib_per_gpu", 0, 1e4) -
	             pl_vrow_number(x->r, "activation_peak_gib", 0, 1e4) - pl_vrow_number(x->r, "non_torch_gib", 0, 1e4) -
	             pl_vrow_number(x->r, "kv_cache_gib_per_gpu", 0, 1e4);
	if (isnan(off) || fabs(off) <= SLACK_GIB)
		return;
	pl_vrow_flag(x->r, x->cache, "the printed parts miss the share of the card by %.2f GiB", off);
	pl_vrow_flag(x->r, x->tokens, "the printed parts miss the share of the card by %.2f GiB", off);
}

/* Bytes a token takes on one rank: heads are dealt out, a latent cache is on every rank. */
static uint64_t rank_token_bytes(const struct start *x, const struct pl_layout *l)
{
	const struct pl_layer *first = &x->model->layers[0];
	uint32_t shares = first->attn == PL_ATTN_GQA && first->n_head_kv ? x->p.tensor_parallel : 1;
	if (shares > first->n_head_kv && first->n_head_kv)
		shares = first->n_head_kv;
	return x->p.pipeline_parallel > 1 ? 0 : l->kv_bytes_per_token / shares;
}

/* Tokens and bytes of one cache tell the bytes of a token, which the model's shape fixes for plain attention. */
static void flag_token_bytes(struct start *x, const struct pl_layout *l)
{
	const double SLACK = 0.05;
	uint64_t token = rank_token_bytes(x, l);
	if (!x->cache || !x->tokens || !token || x->cache->status == PL_FLAGGED)
		return;
	for (uint32_t i = 0; i < x->model->n_layers; i++)
		if (x->model->layers[i].window_tokens || x->model->layers[i].rec != PL_REC_NONE)
			return;
	double off = x->cache->measured / x->tokens->measured / (double)token - 1;
	if (fabs(off) > SLACK)
		pl_vrow_flag(x->r, x->tokens, "tokens and bytes of the cache disagree by %.0f %%: they are of different ranks", 100 * off);
}

/* ---- the engine, its release ---------------------------------------------------------------------------------------------- */

/* The day of each release (github.com/vllm-project/vllm/releases): a run was made with the newest of its day. */
static const struct {
	const char *date, *version;
} releases[] = {
    {"2024-03-30", "0.4.0"},  {"2024-05-05", "0.4.2"},  {"2024-06-12", "0.5.0"},  {"2024-08-05", "0.5.4"},  {"2024-09-04", "0.6.0"},
    {"2024-10-14", "0.6.3"},  {"2024-11-15", "0.6.4"},  {"2024-12-17", "0.6.5"},  {"2025-01-27", "0.7.0"},  {"2025-02-20", "0.7.3"},
    {"2025-03-18", "0.8.0"},  {"2025-04-28", "0.8.5"},  {"2025-05-15", "0.9.0"},  {"2025-07-07", "0.9.2"},  {"2025-07-24", "0.10.0"},
    {"2025-09-13", "0.10.2"}, {"2025-10-02", "0.11.0"}, {"2025-11-20", "0.11.2"}, {"2025-12-03", "0.12.0"}, {"2025-12-18", "0.13.0"},
    {"2026-01-20", "0.14.0"}, {"2026-01-29", "0.15.0"},
};

/* Stated in its column, named in the remarks ("v0.11.0"), or by the day. NULL: the newest that is modelled. */
static const char *version_of(struct start *x)
{
	const char *stated = pl_vrow_text(x->r, "version"), *date = pl_vrow_text(x->r, "date"), *found = NULL;
	if (strpbrk(stated, ".") && strpbrk(stated, "0123456789"))
		return stated;
	for (const char *p = strstr(x->notes, "v0."); p; p = NULL)
		return pl_arena_strndup(x->r->a, p + 1, strspn(p + 1, "0123456789."));
	if (strcasecmp(x->engine->id, "vllm") != 0 || strlen(date) < 10)
		return NULL;
	for (size_t i = 0; i < sizeof releases / sizeof *releases; i++)
		if (strcmp(date, releases[i].date) >= 0)
			found = releases[i].version;
	return strcmp(date, "2026-03-01") >= 0 ? NULL : found;
}

static bool find_engine(struct start *x)
{
	struct pl_err err = {0};
	if (!pl_engine_find(pl_vrow_text(x->r, "engine"), &x->engine, &err))
		return true;
	pl_vrow_fault(x->r, &err);
	return false;
}

/* ---- the model -------------------------------------------------------------------------------------------------------------- */

/* The planner's name of a precision; NULL: as the catalogued config says; "" : none that is planned. */
static const char *quant_of(const struct start *x, const char *name)
{
	static const struct {
		const char *column, *in_name, *quant;
	} table[] = {
	    {"fp8-dynamic", "", "fp8-dynamic"}, {"compressed-tensors", "FP8-Block", "fp8-block"}, {"compressed-tensors", "FP8-dynamic", "fp8-dynamic"},
	    {"bitsandbytes-4bit", "", "nf4"},   {"bitsandbytes", "", "nf4"},                      {"awq", "", "awq-int4"},
	    {"awq-4bit", "", "awq-int4"},       {"gptq", "", "gptq-int4"},                        {"w8a8-int8", "", "w8a8-int8"},
	    {"w8a8", "", "w8a8-int8"},          {"nvfp4", "", "nvfp4"},                           {"mxfp4", "", "mxfp4"},
	    {"fp8", "", "fp8"},
	};
	const char *column = pl_vrow_text(x->r, "quantization");
	if (pl_vrow_is(x->r, "dtype", "float32"))
		return "";
	if (!*column)
		return NULL;
	for (size_t i = 0; i < sizeof table / sizeof *table; i++)
		if (!strcasecmp(column, table[i].column) && strcasestr(name, table[i].in_name))
			return table[i].quant;
	return "";
}

static bool find_model(struct start *x)
{
	const char *name = pl_vrow_text(x->r, "model(hf id)"), *quant = quant_of(x, name);
	struct pl_model_name n;
	struct pl_err err;
	const struct pl_model_row *row = NULL;
	if (!*name) {
		pl_vrow_reason(x->r, "the row names no model");
		return false;
	}
	if (quant && !*quant) {
		pl_vrow_reason(x->r, "weights in '%.40s' are not modelled for this engine",
		               *pl_vrow_text(x->r, "quantization") ? pl_vrow_text(x->r, "quantization") : pl_vrow_text(x->r, "dtype"));
		return false;
	}
	if (pl_model_row_find(name, &row, &err)) {
		pl_model_name_read(name, &n);
		row = pl_model_name_find(&n);
	}
	if (!row) {
		pl_vrow_reason(x->r, "the catalogue has no model called '%.80s'", name);
		return false;
	}
	if (quant && strstr(row->config_json, "\"quantization_config\"") && strcmp(quant, "nf4") != 0)
		quant = NULL; /* the catalogued checkpoint is the quantised one */
	x->model = pl_vrow_model(x->r, row->id, quant);
	/* "unsloth-bnb-4bit" checkpoints leave modules of their choice in 16 bits; adapters add buffers of a rank nobody states */
	x->own_weights = strcasestr(name, "unsloth-bnb") || strstr(x->notes, "LoRA buffers");
	return x->model != NULL;
}

/* Where the weights are known from the log alone, they are planned as printed: the cache takes what they leave. planned: the
 * weights of the catalogued checkpoint by the same plan. True: there is more to plan. */
static bool print_weights(struct start *x, uint64_t planned)
{
	uint64_t printed = x->weights ? (uint64_t)x->weights->measured : 0;
	const struct pl_model *m = x->model;
	if (!x->own_weights || !x->weights)
		return false;
	x->weights->reason = pl_tr("adapters or modules left in 16 bits are part of it, in a number nobody states");
	if (printed <= planned || x->p.tensor_parallel * x->p.pipeline_parallel != 1)
		return false;
	struct pl_tensor *t = PL_NEW_N(x->r->a, struct pl_tensor, (uint64_t)m->n_tensors + 1);
	struct pl_model *copy = PL_NEW(x->r->a, struct pl_model);
	if (!t || !copy)
		return false;
	uint64_t more = printed - planned;
	memcpy(t, m->tensors, m->n_tensors * sizeof *t);
	t[m->n_tensors] = (struct pl_tensor){.name = "beside the checkpoint", .ne = {more, 1, 1, 1}, .n_dims = 1, .n_stacked = 1,
	                                     .type = PL_DTYPE_I8, .layer = -1, .n_elems = more, .bytes = more};
	*copy = *m;
	copy->tensors = t;
	copy->n_tensors++;
	copy->weight_bytes = pl_sat_add(m->weight_bytes, more);
	x->model = copy;
	return true;
}

/* ---- the machine ------------------------------------------------------------------------------------------------------------- */

/* "RTX 3090", a name with remarks behind it, or nothing: then a card of the stated memory. gpu_mem_gib is what the runtime
 * reports; the driver's total is a little more (engine/vllm_profile.c has the measured relation: 330 MiB and a 400th). */
static bool make_machine(struct start *x, uint32_t n)
{
	enum { SOME_MIB = 524288 };
	const char *gpu = pl_vrow_text(x->r, "gpu");
	double visible = pl_vrow_number(x->r, "gpu_mem_gib", 0.5, 1024);
	uint64_t total = isnan(visible) ? 0 : (uint64_t)((visible * GIB + 330 * 1048576.0) * 400 / 399);
	char *line = pl_arena_printf(x->r->a, "%ux %s", n, gpu);
	if (!*gpu && !total)
		x->no_pool = pl_tr("neither the card nor its memory is stated");
	if (!*gpu)
		line = pl_arena_printf(x->r->a, "%ux gpu-%lluMiB", n, (unsigned long long)(total ? total >> 20 : SOME_MIB));
	if (strchr(line, '('))
		*strchr(line, '(') = 0;
	struct pl_vrow asked = *x->r;
	const struct pl_machine *hw = pl_vrow_machine(&asked, line);
	if (!hw) { /* the weights of a rank are the same on any card */
		x->no_pool = asked.reason;
		hw = pl_vrow_machine(x->r, pl_arena_printf(x->r->a, "%ux gpu-%uMiB", n, SOME_MIB));
	}
	if (!hw)
		return false;
	struct pl_device *d = PL_NEW_N(x->r->a, struct pl_device, hw->n_devices);
	if (!d)
		return false;
	memcpy(d, hw->devices, hw->n_devices * sizeof *d);
	x->hw = *hw;
	x->hw.devices = d;
	bool printed = strchr(pl_vrow_text(x->r, "gpu_mem_gib"), '.') != NULL; /* 80 is a label, 79.18 a reading */
	for (uint32_t i = 0; i < hw->n_devices; i++)
		if (total && printed)
			d[i].total_bytes = d[i].free_bytes = total;
	return true;
}

/* ---- parameters ---------------------------------------------------------------------------------------------------------------- */

static bool cache_type(struct start *x)
{
	const char *name = pl_vrow_text(x->r, "kv_cache_dtype");
	enum pl_dtype t = PL_DTYPE_UNKNOWN;
	if (!strncasecmp(name, "fp8", 3))
		t = strstr(name, "e5m2") ? PL_DTYPE_F8_E5M2 : PL_DTYPE_F8_E4M3;
	else if (!strcasecmp(name, "bfloat16"))
		t = PL_DTYPE_BF16;
	else if (!strcasecmp(name, "float16"))
		t = PL_DTYPE_F16;
	else if (*name && strcasecmp(name, "auto") != 0) {
		pl_vrow_reason(x->r, "kv_cache_dtype: '%.40s' is not known", name);
		return false;
	}
	x->p.type_k = x->p.type_v = t;
	return true;
}

static bool make_params(struct start *x)
{
	struct pl_params *p = &x->p;
	double util = pl_vrow_number(x->r, "gpu_memory_utilization", 0.01, 1);
	pl_params_default(p);
	p->tensor_parallel = (uint32_t)pl_vrow_whole(x->r, "tp", 1, 1024, 1);
	p->pipeline_parallel = (uint32_t)pl_vrow_whole(x->r, "pp", 1, 1024, 1);
	p->data_parallel = (uint32_t)pl_vrow_whole(x->r, "dp", 1, 1024, 1);
	p->expert_parallel = pl_vrow_whole(x->r, "ep", 0, 1024, 0) > 1;
	p->gpu_memory_utilization_frac = isnan(util) ? 0 : util;
	p->n_ctx_tokens = pl_vrow_whole(x->r, "max_model_len", 1, (uint64_t)1 << 32, 0);
	p->max_num_batched_tokens = (uint32_t)pl_vrow_whole(x->r, "max_num_batched_tokens", 1, 1 << 24, 0);
	p->max_num_seqs = (uint32_t)pl_vrow_whole(x->r, "max_num_seqs", 1, 1 << 20, 0);
	p->block_size = (uint32_t)pl_vrow_whole(x->r, "block_size", 1, 4096, 0);
	p->enforce_eager = pl_vrow_is(x->r, "enforce_eager", "true");
	p->engine_version = version_of(x);
	return cache_type(x) && !x->r->reason;
}

/* ---- predicted ------------------------------------------------------------------------------------------------------------------- */

static void predict_tokens(struct start *x, const struct pl_layout *l)
{
	if (l->kv_cache_tokens.known)
		pl_vrow_predict(x->tokens, (double)l->kv_cache_tokens.value, NAN, NAN);
	if (l->max_concurrency > 0)
		pl_vrow_predict(x->concurrency, l->max_concurrency, NAN, NAN);
}

/* The card or its share is not stated, but the bytes of the pool are: the tokens they hold follow from the model. */
static void predict_from_pool(struct start *x)
{
	double pool = pl_vrow_number(x->r, "kv_cache_gib_per_gpu", 0.001, 1e4);
	struct pl_params p = x->p;
	struct pl_layout l;
	struct pl_err err = {0};
	if (isnan(pool) || strcmp(x->engine->id, "vllm") != 0)
		return;
	p.kv_cache_memory_bytes = (uint64_t)(pool * GIB);
	if (!x->engine->layout(x->r->a, x->model, &x->hw, &p, &l, &err))
		predict_tokens(x, &l);
}

static void predict(struct start *x, const struct pl_layout *l)
{
	const struct pl_use *u = &l->devices[0];
	struct pl_prediction *parts[] = {x->cache, x->tokens, x->concurrency};
	if (!*pl_vrow_text(x->r, "tp")) {
		pl_vrow_reason(x->r, "the number of ranks is not stated");
		return;
	}
	flag_token_bytes(x, l);
	if (!x->own_weights)
		pl_vrow_predict(x->weights, (double)u->model_bytes, NAN, NAN);
	if (!*pl_vrow_text(x->r, "gpu_memory_utilization"))
		x->no_pool = pl_tr("the share of the card is not stated");
	if (!x->no_pool)
		pl_vrow_predict(x->activation, (double)u->compute_bytes, NAN, NAN);
	pl_vrow_class(x->r, "pool", x->no_pool ? "printed" : "planned");
	if (x->no_pool)
		predict_from_pool(x);
	for (size_t i = 0; i < sizeof parts / sizeof *parts && x->no_pool; i++)
		if (parts[i] && parts[i]->status == PL_UNMAPPED)
			parts[i]->reason = x->no_pool;
	if (x->no_pool)
		return;
	/* where one sequence does not fit, the plan counts what it asks for; the log counts what there is */
	double held = l->max_concurrency > 0 && l->max_concurrency < 1 ? l->max_concurrency : 1;
	pl_vrow_predict(x->cache, (double)u->kv_bytes * held, NAN, NAN);
	predict_tokens(x, l);
}

static void classes(struct start *x)
{
	pl_vrow_model_classes(x->r, x->model);
	pl_vrow_class(x->r, "wrapper", strstr(x->notes, "unsloth") ? "unsloth" : strstr(x->notes, "TRL") ? "trl" : "none");
	pl_vrow_class(x->r, "ranks", x->p.tensor_parallel * x->p.pipeline_parallel > 1 ? "several" : "one");
}

static void map(struct pl_vrow *r)
{
	struct start *x = PL_NEW(r->a, struct start);
	struct pl_layout l;
	struct pl_err err = {0};
	if (!x)
		return;
	x->r = r;
	x->notes = pl_vrow_text(r, "notes");
	pl_vrow_class(r, "engine", pl_vrow_text(r, "engine"));
	measure(x);
	flag_budget(x);
	if (r->reason || !find_engine(x) || !find_model(x) || !make_params(x))
		return;
	classes(x);
	if (!make_machine(x, x->p.tensor_parallel * x->p.pipeline_parallel * x->p.data_parallel))
		return;
	struct pl_params p = x->p;
	int rc = x->engine->layout(r->a, x->model, &x->hw, &p, &l, &err);
	p = x->p;
	if (!rc && print_weights(x, l.devices[0].model_bytes))
		rc = x->engine->layout(r->a, x->model, &x->hw, &p, &l, &err);
	if (rc)
		pl_vrow_fault(r, &err);
	else
		predict(x, &l);
}

const struct pl_table_kind pl_kind_serving_memory = {"serving_memory", columns, map, NULL};
