/* Served speeds of many sources (data/measurements/serving_perf.csv): throughput, TTFT and TPOT at a concurrency, at a rate, or
 * with everything at once. Rules and traps: docs/validation.md. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "measure/repeats.h"
#include "measure/served_case.h"
#include "measure/validator.h"

static const char *const columns[] = {
    "id", "engine", "version", "model", "dtype_or_quant", "gpu", "n_gpu", "tp", "pp", "dp", "ep", "isl", "osl", "concurrency_or_rate",
    "batch", "req_per_s", "output_tok_s", "total_tok_s", "ttft_ms_mean", "tpot_ms_mean", "notes", NULL,
};

enum how { AT_CONCURRENCY, AT_RATE, ALL_AT_ONCE, WITHIN_LIMIT /* the most that keeps a time between tokens */ };

struct run {
	struct pl_vrow *r;
	struct pl_served_ask ask;
	enum how how;
	double clients, rate; /* 0: as many as there is room for */
	double limit_s;       /* WITHIN_LIMIT: of the mean time between tokens */
	struct pl_prediction *output, *total, *ttft, *tpot;
};

/* Kept over the table. */
struct kept {
	const struct pl_extremes *rates; /* by row: of its configuration */
	struct pl_arena *a;
	struct pl_served_case *cases; /* collected for a fit; NULL else */
	uint32_t n;
};

/* ---- what the row says --------------------------------------------------------------------------------------------- */

/* "H100 80GB HBM3", "NVIDIA B200-SXM-180GB", "GB200 192GB (GB200 NVL72)": words are left off at the end until a card is known. */
static const char *gpu_of(struct pl_vrow *r)
{
	const struct pl_gpu *g;
	struct pl_err err = {0};
	char *name = pl_arena_strdup(r->a, pl_vrow_text(r, "gpu"));
	const char *as_is = pl_vrow_text(r, "gpu");
	if (strstr(as_is, "(x")) {
		pl_vrow_reason(r, "a mixture of cards: '%.60s'", as_is);
		return NULL;
	}
	if (strchr(name, '('))
		*strchr(name, '(') = 0;
	if (strchr(name, ','))
		*strchr(name, ',') = 0;
	for (;;) {
		size_t n = strlen(name);
		while (n && (name[n - 1] == ' ' || name[n - 1] == '-'))
			name[--n] = 0;
		if (n && !pl_gpu_find(name, &g, &err))
			return g->id;
		char *cut = n ? strpbrk(name, " -") : NULL, *last = NULL;
		for (; cut; cut = strpbrk(cut + 1, " -"))
			last = cut;
		if (!last)
			break;
		*last = 0;
	}
	pl_vrow_reason(r, "the catalogue has no card called '%.60s'", as_is);
	return NULL;
}

static const char *precision_of(struct pl_vrow *r)
{
	static const struct {
		const char *cell, *precision;
	} known[] = {{"FP8", "fp8"},         {"FP8-dynamic", "fp8"},  {"FP8-static", "fp8"}, {"FP4", "fp4"},        {"NVFP4", "fp4"},
	             {"BF16", "bf16"},       {"FP16", "bf16"},        {"AWQ", "awq-int4"},   {"AWQ-INT4", "awq-int4"}, {"AWQ-Marlin", "awq-int4"},
	             {"GPTQ-Int4", "gptq-int4"}, {"GPTQ-Marlin", "gptq-int4"}, {"GPTQ-Int8", "gptq-int8"}, {"mxfp4", "fp4"},
	             {"W8A8-INT8", "w8a8-int8"}, {"Int4-W4A16", "w4a16"}, {"UNSET", ""}, {"", ""}};
	const char *cell = pl_vrow_text(r, "dtype_or_quant");
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (!strcasecmp(cell, known[i].cell))
			return known[i].precision;
	pl_vrow_reason(r, "precision '%.40s' is not known", cell);
	return NULL;
}

/* MLPerf's names; its queries come from data sets whose mean prompt the benchmark's papers state (OpenOrca 294 tokens; the
 * mixture for Llama 3.1 405B 9400). */
static const char *model_name(const char *cell)
{
	static const char *const known[][2] = {{"Mixtral 8x7B", "mistralai/Mixtral-8x7B-Instruct-v0.1"}, {"Mixtral 8x22B", "mistralai/Mixtral-8x22B-Instruct-v0.1"},
	                                       {"Mistral 7B", "mistralai/Mistral-7B-Instruct-v0.3"}, {"Llama 4 Scout", "meta-llama/Llama-4-Scout-17B-16E-Instruct"},
	                                       {"Llama 4 Maverick", "meta-llama/Llama-4-Maverick-17B-128E-Instruct"},
	                                       {"LLaMA v4 Maverick", "meta-llama/Llama-4-Maverick-17B-128E-Instruct"},
	                                       {"llama2-70b", "meta-llama/Llama-2-70b-chat-hf"}, {"llama3.1-405b", "meta-llama/Llama-3.1-405B-Instruct"},
	                                       {"llama3.1-8b", "meta-llama/Llama-3.1-8B-Instruct"}, {"mixtral-8x7b", "mistralai/Mixtral-8x7B-Instruct-v0.1"},
	                                       {"deepseek-r1", "deepseek-ai/DeepSeek-R1"}, {"llama3_1-70b", "meta-llama/Llama-3.1-70B-Instruct"},
	                                       {"llama3_1-405b", "meta-llama/Llama-3.1-405B-Instruct"}};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (!strncasecmp(cell, known[i][0], strlen(known[i][0])))
			return known[i][1];
	if (!strncasecmp(cell, "LLaMA v", 7)) /* TensorRT-LLM writes "LLaMA v3.1 70B" */
		return NULL;
	return cell;
}

static const char *plain_name(struct pl_vrow *r, const char *cell)
{
	const char *known = model_name(cell);
	if (known)
		return strncasecmp(known, "amd/", 4) ? known : pl_arena_printf(r->a, "meta-llama/%.*s", (int)strcspn(known + 4, "\0"), known + 4);
	return pl_arena_printf(r->a, "llama-%s", cell + 7);
}

static double mlperf_prompt_tokens(const char *model)
{
	return !strncasecmp(model, "llama2-70b", 10) ? 294 : !strncasecmp(model, "llama3.1-405b", 13) ? 9400 : NAN;
}

/* MLPerf Inference 5.1's limits of the 99th percentile of TPOT, ms (mlcommons.org, rules of the language models); 0 unknown. */
static double mlperf_limit_ms(const char *model, bool interactive)
{
	if (!strncasecmp(model, "llama2-70b", 10))
		return interactive ? 40 : 200;
	if (!strncasecmp(model, "llama3.1-405b", 13))
		return interactive ? 80 : 175;
	return 0;
}

/* The number before the first of these words in `text`, or 0. */
static double number_before(const char *text, const char *word)
{
	const char *at = strstr(text, word);
	while (at && at > text && at[-1] >= '0' && at[-1] <= '9')
		at--;
	return at ? atof(at) : 0;
}

/* Requests of a run of trtllm-bench by its lengths, in the pages of NVIDIA/TensorRT-LLM docs/source/performance/perf-overview.md
 * (0.17 to 1.2): "For each input and output sequence length combination, the table below details the $num_requests". */
static double trtllm_bench_requests(double isl, double osl)
{
	static const struct {
		double isl, osl, n;
	} known[] = {{128, 128, 30000}, {128, 2048, 3000},  {128, 4096, 1500},  {500, 2000, 3000},  {1000, 1000, 3000},
	             {1000, 2000, 1500}, {2048, 128, 3000}, {2048, 2048, 1500}, {5000, 500, 1500},  {20000, 2000, 1000},
	             {1024, 1024, 3000}, {8192, 1024, 1500}, {1024, 8192, 1500}, {32768, 1024, 1000}, {1024, 32768, 1000}};
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (fabs(known[i].isl - isl) < 0.5 && fabs(known[i].osl - osl) < 0.5)
			return known[i].n;
	return 0;
}

static double requests_of(struct pl_vrow *r, double isl, double osl)
{
	const char *notes = pl_vrow_text(r, "notes"), *prompts = strstr(pl_vrow_text(r, "concurrency_or_rate"), "num_prompts=");
	double said = prompts ? atof(prompts + strlen("num_prompts=")) : number_before(notes, " requests");
	return said >= 1 ? said : strstr(notes, "trtllm-bench") ? trtllm_bench_requests(isl, osl) : 0;
}

static bool read_load(struct run *x)
{
	struct pl_vrow *r = x->r;
	const char *how = pl_vrow_text(r, "concurrency_or_rate"), *seqs = strstr(how, "max_num_seqs=");
	double isl = pl_vrow_number(r, "isl", 1, 1e7), osl = pl_vrow_number(r, "osl", 1, 1e7), batch = pl_vrow_number(r, "batch", 1, 1e6);
	if (isnan(isl) && strstr(how, "MLPerf"))
		isl = mlperf_prompt_tokens(pl_vrow_text(r, "model"));
	if (isnan(isl) || isnan(osl)) {
		pl_vrow_reason(r, "the lengths of prompts and answers are not stated");
		return false;
	}
	x->ask.load = (struct pl_serve_load){.prompt_tokens = isl, .output_tokens = osl, .shortest_frac = 1, .rounds = 4, .concurrency = 1};
	x->ask.load.requests = requests_of(r, isl, osl);
	if (!strncmp(how, "conc=", 5)) {
		x->how = AT_CONCURRENCY;
		x->clients = atof(how + 5);
	} else if (!strcmp(how, "static batch") && batch >= 1) {
		x->clients = batch;
		x->ask.load.rounds = 1;
		x->ask.load.requests = 0;
	} else if (!strncmp(how, "rate=", 5) && strncmp(how + 5, "inf", 3) != 0) {
		x->how = AT_RATE;
		x->rate = atof(how + 5);
	} else if (!strncmp(how, "inf", 3) || !strcmp(how, "rate=inf") || !strcmp(how, "MLPerf Offline")) {
		x->how = ALL_AT_ONCE;
		x->ask.max_seqs = seqs ? (uint32_t)atof(seqs + strlen("max_num_seqs=")) : 0;
		x->clients = x->ask.load.requests;
	} else if (strstr(how, "MLPerf") && mlperf_limit_ms(pl_vrow_text(r, "model"), strstr(how, "Interactive") != NULL) > 0) {
		x->how = WITHIN_LIMIT; /* the mean lies under the percentile */
		x->limit_s = 0.85e-3 * mlperf_limit_ms(pl_vrow_text(r, "model"), strstr(how, "Interactive") != NULL);
	} else {
		pl_vrow_reason(r, strstr(how, "MLPerf") ? "the rate is the one that just keeps MLPerf's limits" : "the load is not stated");
		return false;
	}
	if (x->how == AT_CONCURRENCY && !(x->clients >= 1)) {
		pl_vrow_reason(r, "concurrency '%.40s' is no number", how);
		return false;
	}
	return true;
}

/* Ranks as stated; without them a replica takes as few cards as hold it twice over, which is how throughput is tuned. */
static bool read_ranks(struct run *x)
{
	struct pl_vrow *r = x->r;
	uint64_t n = pl_vrow_whole(r, "n_gpu", 1, 4096, 0), tp = pl_vrow_whole(r, "tp", 1, 4096, 0), dp = pl_vrow_whole(r, "dp", 1, 4096, 0);
	uint64_t pp = pl_vrow_whole(r, "pp", 1, 64, 1), ep = pl_vrow_whole(r, "ep", 1, 4096, 1);
	if (r->reason)
		return false;
	if (!tp && dp)
		tp = n > dp ? n / dp : 1;
	x->ask.tp = (uint32_t)tp;
	x->ask.pp = (uint32_t)pp;
	x->ask.dp = (uint32_t)dp;
	x->ask.cards = (uint32_t)n;
	x->ask.expert_parallel = ep > 1;
	/* Its pages: --kv_cache_free_gpu_mem_fraction 0.95 "in many cases"; enable_attention_dp for all models with experts where the
	 * PyTorch backend runs. */
	x->ask.tuned = strstr(pl_vrow_text(r, "notes"), "trtllm-bench") != NULL;
	x->ask.memory_frac = x->ask.tuned ? 0.95 : 0;
	x->ask.attention_dp = x->ask.tuned && strstr(pl_vrow_text(r, "notes"), "PyTorch backend");
	return true;
}

/* ---- predicted ---------------------------------------------------------------------------------------------------------- */

static double room(const struct run *x, const struct pl_served_case *c)
{
	double each = x->ask.load.prompt_tokens + x->ask.load.output_tokens, replicas = c->speed->n_replicas > 1 ? c->speed->n_replicas : 1;
	double most = fmin(c->policy.max_seqs, 2048);
	if (c->policy.cache_tokens > 0)
		most = fmin(most, fmax(1, c->policy.cache_tokens / each));
	return most * replicas;
}

/* As many clients as keep the rate or the limit, by the closed form; no more than there is room for. */
static double clients_that_keep(const struct run *x, const struct pl_served_case *c)
{
	double low = 1, high = fmax(1, room(x, c));
	struct pl_serve_load load = x->ask.load;
	struct pl_served s;
	for (int i = 0; i < 30 && high / low > 1.01; i++) {
		load.concurrency = sqrt(low * high);
		pl_serve_steady(c->speed, &c->policy, &load, &s);
		bool more = x->how == WITHIN_LIMIT ? s.tpot_s.median < x->limit_s : s.output_tok_s.median < x->rate * load.output_tokens;
		if (more)
			low = load.concurrency;
		else
			high = load.concurrency;
	}
	return low;
}

static void set(struct pl_prediction *p, const struct pl_estimate *e, double scale)
{
	pl_vrow_predict(p, e->median * scale, e->low * scale, e->high * scale);
}

/* No step reads its weights faster than memory gives them: dense ones, and the experts that `running` tokens reach. */
static double least_step_s(const struct pl_served_case *c, double running)
{
	const struct pl_model *m = c->speed->setup.model;
	const struct pl_params *p = c->speed->setup.params;
	const struct pl_gpu *g = c->speed->setup.machine->devices[0].gpu;
	double bytes = 0;
	for (uint32_t i = 0; i < m->n_tensors; i++) {
		const struct pl_tensor *t = &m->tensors[i];
		const struct pl_layer *l = t->layer >= 0 ? &m->layers[t->layer] : NULL;
		if (t->group == PL_GROUP_EMBED || t->group == PL_GROUP_MTP || t->group == PL_GROUP_VISION || t->group == PL_GROUP_ENCODER)
			continue;
		double share = t->group == PL_GROUP_EXPERT && l && l->n_expert ? -expm1(running * log1p(-(double)l->n_expert_used / (l->n_expert + 1e-9))) : 1;
		bytes += share * (double)t->bytes;
	}
	return bytes / (g->mem_bytes_per_s * p->tensor_parallel * p->pipeline_parallel);
}

/* Half of that is beyond any doubt about routing. */
static void flag_too_fast(struct run *x, const struct pl_served_case *c, double clients)
{
	double replicas = c->speed->n_replicas > 1 ? c->speed->n_replicas : 1, least_ms = 1e3 * least_step_s(c, fmax(1, clients / replicas));
	if (!x->tpot || !(x->tpot->measured < 0.5 * least_ms))
		return;
	pl_vrow_flag(x->r, x->tpot, "%.3g ms a token is less than half of what reading the weights takes (%.3g ms)", x->tpot->measured, least_ms);
	pl_vrow_flag(x->r, x->output, "%.3g ms a token is less than half of what reading the weights takes (%.3g ms)", x->tpot->measured, least_ms);
	pl_vrow_flag(x->r, x->ttft, "%.3g ms a token is less than half of what reading the weights takes (%.3g ms)", x->tpot->measured, least_ms);
}

/* Clients, requests and rounds as the row's load means them for these constants. */
static struct pl_serve_load load_of(const struct run *x, const struct pl_served_case *c)
{
	struct pl_serve_load load = x->ask.load;
	bool kept = x->how == AT_RATE || x->how == WITHIN_LIMIT;
	load.concurrency = kept ? clients_that_keep(x, c) : x->clients > 0 ? x->clients : room(x, c);
	if (x->how == AT_RATE)
		load.requests = 0;
	return load;
}

/* For a fit: rates of loads that do not depend on what is fitted. */
static void collect(struct run *x, struct pl_served_case *c)
{
	struct kept *into = x->r->v->kind_data;
	if (x->how == AT_RATE || x->how == WITHIN_LIMIT || !x->output || x->output->status == PL_FLAGGED || !into->cases)
		return;
	c->load = load_of(x, c);
	if (x->tpot && x->how == AT_CONCURRENCY)
		flag_too_fast(x, c, c->load.concurrency);
	c->output_tok_s = x->output->measured;
	if (x->output->status != PL_FLAGGED && !isnan(c->output_tok_s))
		into->cases[into->n++] = *c;
}

static bool held(struct run *x)
{
	const struct pl_held_served *h = x->r->v->held_served ? &x->r->v->held_served[x->r->index] : NULL;
	if (!h || !h->known)
		return false;
	pl_vrow_predict(x->output, h->output_tok_s, h->output_tok_s * exp(h->rate_low_ln), h->output_tok_s * exp(h->rate_high_ln));
	pl_vrow_reason(x->r, "only the rate is fitted");
	return true;
}

static void predict(struct run *x, struct pl_served_case *c)
{
	struct pl_served out;
	struct pl_err err = {0};
	struct pl_serve_load load = load_of(x, c);
	if (held(x))
		return;
	if (x->how != ALL_AT_ONCE && (!x->tpot || x->tpot->status == PL_UNMAPPED))
		flag_too_fast(x, c, load.concurrency);
	if (pl_serve_closed_loop(x->r->a, c->speed, &c->policy, &load, &out, &err)) {
		pl_vrow_fault(x->r, &err);
		return;
	}
	set(x->output, &out.output_tok_s, 1);
	set(x->total, &out.output_tok_s, (load.prompt_tokens + load.output_tokens) / load.output_tokens);
	if (x->how == ALL_AT_ONCE && !(x->clients >= 1)) {
		pl_vrow_reason(x->r, "how many requests came at once is not stated");
		return;
	}
	set(x->tpot, &out.tpot_s, 1e3);
	if (x->how == AT_RATE)
		pl_vrow_reason(x->r, "waiting at a rate is the simulator's business, not the closed loop's");
	else
		set(x->ttft, &out.ttft_s, 1e3);
}

static void class_of(struct run *x)
{
	static const char *const how[] = {"concurrency", "rate", "all", "limit"};
	const char *engine = pl_vrow_text(x->r, "engine");
	pl_vrow_class(x->r, "engine", strcasestr(engine, "tensorrt") ? "tensorrt-llm" : strcasestr(engine, "sglang") ? "sglang" : "vllm");
	pl_vrow_class(x->r, "device", x->ask.gpu);
	pl_vrow_class(x->r, "load", how[x->how]);
}

/* All that a source says of a run, but its own words in the notes. */
static const char *configuration(struct pl_arena *a, const struct pl_table *t, uint32_t row)
{
	static const char *const key[] = {"date", "engine", "version", "model", "dtype_or_quant", "gpu", "n_gpu", "tp", "pp", "dp", "ep",
	                                  "isl", "osl", "concurrency_or_rate", "batch"};
	const char *url = pl_table_cell(t, row, "source_url"), *text = pl_arena_printf(a, "%.*s", (int)strcspn(url, "#"), url);
	for (size_t i = 0; i < sizeof key / sizeof *key && text; i++)
		text = pl_arena_printf(a, "%s|%s", text, pl_table_cell(t, row, key[i]));
	return text;
}

static struct kept *kept_of(struct pl_validator *v)
{
	if (v->kind_data)
		return v->kind_data;
	struct kept *k = PL_NEW(v->a, struct kept);
	if (!k || !(k->rates = pl_repeats(v->a, v->table, "output_tok_s", configuration)))
		return NULL;
	k->a = v->a;
	return v->kind_data = k;
}

/* One source measured the same configuration far apart: something that no column tells was changed. */
static void flag_contradiction(struct run *x, double apart)
{
	struct pl_prediction *all[] = {x->output, x->total, x->ttft, x->tpot};
	for (size_t i = 0; i < sizeof all / sizeof *all && apart > 1.25; i++)
		if (all[i])
			pl_vrow_flag(x->r, all[i], "the same configuration was measured %.3g times apart: a key is missing", apart);
}

static void map(struct pl_vrow *r)
{
	struct run x = {.r = r};
	struct kept *kept = kept_of(r->v);
	struct pl_served_case c;
	x.output = pl_vrow_measured(r, "output_tok_s", "output_tok_s", 1);
	if (!*pl_vrow_text(r, "output_tok_s"))
		x.total = pl_vrow_measured(r, "total_tok_s", "total_tok_s", 1);
	x.ttft = pl_vrow_measured(r, "ttft_ms", "ttft_ms_mean", 1);
	x.tpot = pl_vrow_measured(r, "tpot_ms", "tpot_ms_mean", 1);
	if (!kept)
		return;
	flag_contradiction(&x, pl_extremes_ratio(&kept->rates[r->index]));
	x.ask.engine = pl_vrow_text(r, "engine");
	x.ask.model = plain_name(r, pl_vrow_text(r, "model"));
	x.ask.gpu = gpu_of(r);
	x.ask.precision = precision_of(r);
	if (r->reason || !read_load(&x) || !read_ranks(&x))
		return;
	x.ask.load.concurrency = x.how == ALL_AT_ONCE || !(x.clients > 0) ? 1024 : x.clients;
	class_of(&x);
	if (!pl_served_compile(kept->cases ? kept->a : r->a, r, &x.ask, &c))
		return;
	if (kept->cases)
		collect(&x, &c);
	else
		predict(&x, &c);
}

int pl_served_rate_cases(struct pl_validator *v, struct pl_served_case **ret_cases, uint32_t *ret_n, struct pl_err *err)
{
	struct kept *into = kept_of(v);
	if (into)
		into->cases = PL_NEW_N(v->a, struct pl_served_case, (uint64_t)v->table->n_rows + 1);
	for (uint32_t i = 0; i < v->table->n_rows && into && into->cases; i++) {
		struct pl_vrow r = {.a = pl_arena_new(0), .v = v, .index = i, .row = &v->table->rows[i]};
		if (r.a && r.row->n_cells == v->table->n_columns && !r.row->has_nul)
			map(&r);
		pl_arena_free(r.a);
	}
	if (!into || pl_arena_failed(v->a))
		return pl_fail(err, PL_ERR_NOMEM, v->table->name, "out of memory while reading the table");
	*ret_cases = into->cases;
	*ret_n = into->n;
	into->cases = NULL;
	return 0;
}

const struct pl_table_kind pl_kind_serving_perf = {.name = "serving_perf", .columns = columns, .map = map};
