/* TTFT and TPOT at a concurrency on datacentre cards (data/measurements/silicon_sample.csv): closed loops of InferenceX and
 * of one gap analysis. Rules and traps: docs/validation.md. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "measure/repeats.h"
#include "measure/served_case.h"
#include "measure/validator.h"

static const char *const columns[] = {
    "id", "silicon_data_source", "backend", "backend_version", "model_path", "system", "precision", "mode", "isl", "osl",
    "gemm_quant_mode", "moe_quant_mode", "batch_size", "tp_size", "pp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size",
    "silicon_ttft_ms", "silicon_tpot_ms", NULL,
};

/* Columns that make a configuration; rows that agree in all of them measured the same thing. */
static const char *const key_columns[] = {
    "backend", "model_path", "system", "precision", "mode", "isl", "osl", "gemm_quant_mode", "batch_size", "tp_size", "pp_size",
    "attention_dp_size", "moe_tp_size", "moe_ep_size",
};

/* Measured again, the same configuration is this much slower at most. */
static const double agree_factor = 1.25;

/* A row as the rules see it. */
struct seen {
	uint32_t family, peers; /* groups: all but load and lengths; all but the number of cards */
	uint32_t cards;
	double tpot;
};

/* Kept over the table. */
struct silicon {
	const struct pl_extremes *tpot, *ttft; /* by row: of its configuration, in ms */
	bool *speculates;       /* its family is faster than the same on more cards */
	struct pl_served_case *cases; /* collected for a fit; NULL else */
	uint32_t n_cases;
	struct pl_arena *a;
};

static double cell(const struct pl_table *t, uint32_t row, const char *column)
{
	int i = pl_table_column(t, column);
	return i < 0 || t->rows[row].n_cells != t->n_columns ? NAN : atof(t->rows[row].cells[i]);
}

static const char *concurrency_cell(const char *source)
{
	const char *at = strstr(source, "silicon_concurrency=");
	return at ? at + strlen("silicon_concurrency=") : "";
}

static const char *key_of(struct pl_arena *a, const struct pl_table *t, uint32_t row)
{
	char buf[1024];
	size_t used = 0;
	for (size_t i = 0; i < sizeof key_columns / sizeof *key_columns && used < sizeof buf; i++) {
		int n = snprintf(buf + used, sizeof buf - used, "%s|", pl_table_cell(t, row, key_columns[i]));
		used += n > 0 ? (size_t)n : 0;
	}
	if (used < sizeof buf) {
		const char *clients = concurrency_cell(pl_table_cell(t, row, "silicon_data_source"));
		(void)snprintf(buf + used, sizeof buf - used, "%.*s", (int)strspn(clients, "0123456789"), clients);
	}
	return pl_arena_strdup(a, buf);
}

static char *group_key(struct pl_arena *a, const struct pl_table *t, uint32_t row, bool family)
{
	const char *clients = concurrency_cell(pl_table_cell(t, row, "silicon_data_source"));
	char *head = pl_arena_printf(a, "%s|%s|%s|%s|%s|%s", pl_table_cell(t, row, "backend"), pl_table_cell(t, row, "model_path"),
	                             pl_table_cell(t, row, "system"), pl_table_cell(t, row, "precision"), pl_table_cell(t, row, "mode"),
	                             pl_table_cell(t, row, "backend_version"));
	if (family)
		return pl_arena_printf(a, "%s|%s|%s|%s|%s", head, pl_table_cell(t, row, "tp_size"), pl_table_cell(t, row, "attention_dp_size"),
		                       pl_table_cell(t, row, "moe_tp_size"), pl_table_cell(t, row, "moe_ep_size"));
	return pl_arena_printf(a, "%s|%s|%s|%.*s", head, pl_table_cell(t, row, "isl"), pl_table_cell(t, row, "osl"),
	                       (int)strspn(clients, "0123456789"), clients);
}

static uint32_t group_of(struct pl_arena *a, struct pl_nameset *set, const char *key)
{
	bool fresh = false;
	struct pl_named *e = pl_nameset_entry(a, set, key, set->n, &fresh);
	return e ? e->value : 0;
}

/* More cards cannot be slower: where fewer beat them by a fifth at the same load, at three loads or more, the run on fewer
 * cards had something that no column tells (speculative decoding), and so has its whole family of runs. */
static void find_speculation(struct silicon *x, const struct pl_table *t, struct pl_arena *a)
{
	enum { LOADS = 3, SIZES = 16 };
	struct pl_nameset families = {0}, peers = {0};
	struct seen *s = PL_NEW_N(a, struct seen, t->n_rows);
	uint32_t *beats = PL_NEW_N(a, uint32_t, (uint64_t)t->n_rows + 1);
	struct by_size {
		double tpot[SIZES];
	} *least = PL_NEW_N(a, struct by_size, (uint64_t)t->n_rows + 1); /* the fastest of each group of peers, by log2 of its cards */
	if (!s || !beats || !least)
		return;
	for (uint32_t i = 0; i < t->n_rows; i++) {
		double tp = cell(t, i, "tp_size"), dp = cell(t, i, "attention_dp_size"), mtp = cell(t, i, "moe_tp_size"), mep = cell(t, i, "moe_ep_size");
		s[i].family = group_of(a, &families, group_key(a, t, i, true));
		s[i].peers = group_of(a, &peers, group_key(a, t, i, false));
		tp = fmin(tp, 4096);
		s[i].cards = dp > 1 || !(tp >= 1) ? 0 : mtp > 1 && fabs(mtp - mep) < 0.5 && fabs(mtp * mep - tp) < 0.5 ? (uint32_t)mtp : (uint32_t)tp;
		s[i].tpot = cell(t, i, "silicon_tpot_ms");
		double *at = s[i].cards ? &least[s[i].peers].tpot[(uint32_t)log2(s[i].cards)] : NULL;
		if (at && s[i].tpot > 0 && (!(*at > 0) || s[i].tpot < *at))
			*at = s[i].tpot;
	}
	for (uint32_t i = 0; i < t->n_rows; i++) {
		bool beaten = false;
		for (uint32_t k = s[i].cards ? (uint32_t)log2(s[i].cards) + 1 : SIZES; k < SIZES; k++)
			beaten = beaten || least[s[i].peers].tpot[k] > 1.2 * s[i].tpot;
		beats[s[i].family] += beaten;
	}
	for (uint32_t i = 0; i < t->n_rows; i++)
		x->speculates[i] = beats[s[i].family] >= LOADS;
}

static struct silicon *kept(struct pl_vrow *r)
{
	struct pl_validator *v = r->v;
	if (v->kind_data)
		return v->kind_data;
	struct silicon *x = PL_NEW(v->a, struct silicon);
	if (!x || !(x->tpot = pl_repeats(v->a, v->table, "silicon_tpot_ms", key_of)) ||
	    !(x->ttft = pl_repeats(v->a, v->table, "silicon_ttft_ms", key_of)) || !(x->speculates = PL_NEW_N(v->a, bool, v->table->n_rows)))
		return NULL;
	find_speculation(x, v->table, v->a);
	v->kind_data = x;
	return x;
}

/* ---- what a row says */

struct ranks {
	uint32_t tp, dp;
	bool ep;
};

static const char *gpu_of(struct pl_vrow *r)
{
	static const struct {
		const char *system, *gpu;
	} known[] = {{"a100_sxm", "a100-sxm-80"}, {"h100_sxm", "h100-sxm"}, {"h200_sxm", "h200-sxm"}, {"b200_sxm", "b200"},
	             {"b300_sxm", "b300"},        {"gb200", "gb200"},       {"gb300", "gb300"},       {"l40s", "l40s"},
	             {"rtx_pro_6000_server", "rtx-pro-6000-bw-server"}};
	const char *system = pl_vrow_text(r, "system");
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (!strcasecmp(system, known[i].system))
			return known[i].gpu;
	pl_vrow_reason(r, "system '%.40s' is not known", system);
	return NULL;
}

/* The dumps of InferenceX multiply: where a run had TP n and EP n, tp_size holds n² beside moe_tp_size = moe_ep_size = n, and
 * with data-parallel attention over n cards tp_size and attention_dp_size are both n and moe_ep_size n². (A node has 8 cards;
 * TensorRT-LLM's DeepSeek on "tp 64" agrees with its own tp 8 to 1 %.) The gap analysis counts plainly. */
static bool ranks_of(struct pl_vrow *r, bool plain, struct ranks *ret)
{
	uint64_t tp = pl_vrow_whole(r, "tp_size", 1, 4096, 1), dp = pl_vrow_whole(r, "attention_dp_size", 0, 4096, 1);
	uint64_t mtp = pl_vrow_whole(r, "moe_tp_size", 0, 4096, 1), mep = pl_vrow_whole(r, "moe_ep_size", 0, 65536, 1);
	if (r->reason)
		return false;
	dp = dp ? dp : 1;
	bool ep = mep > 1;
	if (!plain && mtp == mep && mtp > 1 && mtp * mep == tp * dp) {
		*ret = dp > 1 ? (struct ranks){1, (uint32_t)mtp, true} : (struct ranks){(uint32_t)mtp, 1, true};
		return true;
	}
	if (!plain && dp > 1 && dp == tp && mep == tp * dp)
		tp = 1;
	*ret = (struct ranks){(uint32_t)tp, (uint32_t)dp, ep};
	return true;
}

static bool is_plain(struct pl_vrow *r)
{
	return strstr(pl_vrow_text(r, "silicon_data_source"), "gap-analysis/") != NULL;
}

/* precision is blank where nothing is quantised. */
static const char *precision_of(struct pl_vrow *r)
{
	const char *p = pl_vrow_text(r, "precision");
	return *p ? p : "bf16";
}

static bool ask_of(struct pl_vrow *r, struct pl_served_ask *ask)
{
	bool plain = is_plain(r);
	struct ranks n;
	const char *clients = concurrency_cell(pl_vrow_text(r, "silicon_data_source"));
	if (!ranks_of(r, plain, &n))
		return false;
	double batch = pl_vrow_number(r, "batch_size", 1, 1e6), isl = pl_vrow_number(r, "isl", 1, 1e8), osl = pl_vrow_number(r, "osl", 1, 1e8);
	if (isnan(batch) || isnan(isl) || isnan(osl)) {
		pl_vrow_reason(r, "lengths or concurrency are not stated");
		return false;
	}
	*ask = (struct pl_served_ask){.engine = pl_vrow_text(r, "backend"), .model = pl_vrow_text(r, "model_path"),
	                              .precision = precision_of(r), .gpu = gpu_of(r), .tp = n.tp, .dp = n.dp,
	                              .pp = (uint32_t)pl_vrow_whole(r, "pp_size", 1, 64, 1), .expert_parallel = n.ep,
	                              .version = pl_vrow_text(r, "backend_version"), .inferencex = !plain, .generated = plain};
	if (!strcasecmp(ask->model, "zhipuai/GLM-5"))
		ask->model = "zai-org/GLM-5";
	ask->load = (struct pl_serve_load){.prompt_tokens = isl, .output_tokens = osl, .shortest_frac = plain ? 1 : 0.8, .rounds = 10};
	ask->load.concurrency = *clients >= '1' && *clients <= '9' ? atof(clients) : batch * n.dp;
	return ask->gpu != NULL;
}

static bool agrees(const struct pl_extremes *x)
{
	return !(x->most > agree_factor * x->least);
}

/* Rows that can be held against a plan: prompts and answers on the same servers, finished work, and agreed upon wherever the same
 * configuration was measured again. */
static bool is_clean(const struct silicon *x, struct pl_vrow *r, bool wip)
{
	return pl_vrow_is(r, "mode", "agg") && !wip && !x->speculates[r->index] && agrees(&x->tpot[r->index]) && agrees(&x->ttft[r->index]);
}

static void class_of(struct pl_vrow *r, const struct silicon *x, const struct pl_served_ask *ask)
{
	bool wip = strstr(pl_vrow_text(r, "silicon_data_source"), "wip=True") != NULL;
	pl_vrow_class(r, "clean", is_clean(x, r, wip) ? "yes" : "no");
	pl_vrow_class(r, "engine", pl_vrow_text(r, "backend"));
	pl_vrow_class(r, "device", pl_vrow_text(r, "system"));
	pl_vrow_class(r, "model", pl_vrow_text(r, "model_path"));
	pl_vrow_class(r, "precision", precision_of(r));
	pl_vrow_class(r, "mode", pl_vrow_text(r, "mode"));
	pl_vrow_class(r, "source", is_plain(r) ? "gap-analysis" : wip ? "wip" : "inferencex");
	pl_vrow_class(r, "attention", ask && ask->dp > 1 ? "dp" : "tp");
}

/* The ranks of one server of a kind, "prefill" or "decode". */
static bool ask_server(struct pl_vrow *r, const char *kind, struct pl_served_ask *ask)
{
	char *at = pl_arena_printf(r->a, "%s_", kind);
	uint64_t tp = pl_vrow_whole(r, pl_arena_printf(r->a, "%stp_size", at), 1, 4096, 1);
	uint64_t dp = pl_vrow_whole(r, pl_arena_printf(r->a, "%sattention_dp_size", at), 1, 4096, 1);
	uint64_t mep = pl_vrow_whole(r, pl_arena_printf(r->a, "%smoe_ep_size", at), 0, 4096, 1);
	*ask = (struct pl_served_ask){.engine = pl_vrow_text(r, "backend"), .model = pl_vrow_text(r, "model_path"),
	                              .precision = precision_of(r), .gpu = gpu_of(r), .tp = (uint32_t)tp, .dp = (uint32_t)dp, .pp = 1,
	                              .expert_parallel = mep > 1, .attention_dp = dp > 1};
	ask->load = (struct pl_serve_load){.prompt_tokens = pl_vrow_number(r, "isl", 1, 1e8), .output_tokens = pl_vrow_number(r, "osl", 1, 1e8),
	                                   .shortest_frac = is_plain(r) ? 1 : 0.8, .rounds = 10};
	ask->load.concurrency = atof(concurrency_cell(pl_vrow_text(r, "silicon_data_source")));
	if (!(ask->load.concurrency >= 1) || isnan(ask->load.prompt_tokens) || isnan(ask->load.output_tokens))
		pl_vrow_reason(r, "lengths or concurrency are not stated");
	return !r->reason && ask->gpu;
}

/* Prompts and answers on different servers: half of the dumps leave out how many there are. */
static void map_split(struct pl_vrow *r, struct silicon *x, struct pl_prediction *ttft, struct pl_prediction *tpot)
{
	struct pl_arena *a = x->cases ? x->a : r->a;
	double n_prompts = pl_vrow_number(r, "prefill_num_workers", 1, 4096), n_answers = pl_vrow_number(r, "decode_num_workers", 1, 4096);
	double batch = pl_vrow_number(r, "prefill_batch_size", 1, 1e6);
	struct pl_served_ask ask;
	struct pl_served_case prompts, answers;
	struct pl_served out;
	if (isnan(n_prompts) || isnan(n_answers)) {
		pl_vrow_reason(r, "how many servers compute prompts and how many answers is not stated");
		return;
	}
	if (!ask_server(r, "prefill", &ask) || !pl_served_compile(a, r, &ask, &prompts))
		return;
	if (!ask_server(r, "decode", &ask) || !pl_served_compile(a, r, &ask, &answers))
		return;
	struct pl_serve_split split = {prompts.speed, answers.speed, n_prompts, n_answers, fmax(isnan(batch) ? 1 : batch, floor(prompts.policy.step_tokens / ask.load.prompt_tokens))};
	if (x->cases) {
		struct pl_serve_split *kept = PL_NEW(x->a, struct pl_serve_split);
		if (!kept)
			return;
		*kept = split;
		answers.split = kept;
		answers.load = ask.load;
		answers.ttft_s = ttft ? ttft->measured / 1e3 : NAN;
		answers.tpot_s = tpot ? tpot->measured / 1e3 : NAN;
		x->cases[x->n_cases++] = answers;
		return;
	}
	pl_serve_disaggregated(&split, &ask.load, &out);
	pl_vrow_predict(ttft, out.ttft_s.median * 1e3, out.ttft_s.low * 1e3, out.ttft_s.high * 1e3);
	pl_vrow_predict(tpot, out.tpot_s.median * 1e3, out.tpot_s.low * 1e3, out.tpot_s.high * 1e3);
}

static void map(struct pl_vrow *r)
{
	struct silicon *x = kept(r);
	struct pl_served_ask ask = {0};
	struct pl_served_case c;
	struct pl_served out;
	struct pl_err err = {0};
	if (!x)
		return;
	struct pl_prediction *ttft = pl_vrow_measured(r, "ttft_ms", "silicon_ttft_ms", 1);
	struct pl_prediction *tpot = pl_vrow_measured(r, "tpot_ms", "silicon_tpot_ms", 1);
	struct pl_extremes s = x->tpot[r->index];
	if (!pl_vrow_is(r, "mode", "agg")) {
		class_of(r, x, NULL);
		map_split(r, x, ttft, tpot);
		return;
	}
	bool asked = ask_of(r, &ask);
	class_of(r, x, &ask);
	bool disagrees = !agrees(&s);
	if (disagrees) {
		pl_vrow_flag(r, tpot, "the same configuration was measured at %.3g and %.3g ms: a key is missing", s.least, s.most);
		pl_vrow_flag(r, ttft, "the same configuration was measured at %.3g and %.3g ms: a key is missing", s.least, s.most);
	}
	if (x->speculates[r->index] && !disagrees) {
		pl_vrow_flag(r, tpot, "faster than the same on more cards: a key (speculative decoding) is missing");
		pl_vrow_flag(r, ttft, "faster than the same on more cards: a key (speculative decoding) is missing");
	}
	if (!asked || !pl_served_compile(x->cases ? x->a : r->a, r, &ask, &c))
		return;
	if (x->cases) {
		c.ttft_s = ttft && ttft->status != PL_FLAGGED ? ttft->measured / 1e3 : NAN;
		c.tpot_s = tpot && tpot->status != PL_FLAGGED ? tpot->measured / 1e3 : NAN;
		if (!isnan(c.ttft_s) || !isnan(c.tpot_s))
			x->cases[x->n_cases++] = c;
		return;
	}
	if (r->v->held_served && r->v->held_served[r->index].known) {
		const struct pl_held_served *h = &r->v->held_served[r->index];
		pl_vrow_predict(ttft, h->ttft_s * 1e3, h->ttft_s * 1e3 * exp(h->ttft_low_ln), h->ttft_s * 1e3 * exp(h->ttft_high_ln));
		pl_vrow_predict(tpot, h->tpot_s * 1e3, h->tpot_s * 1e3 * exp(h->tpot_low_ln), h->tpot_s * 1e3 * exp(h->tpot_high_ln));
		return;
	}
	if (pl_serve_closed_loop(r->a, c.speed, &c.policy, &c.load, &out, &err)) {
		pl_vrow_fault(r, &err);
		return;
	}
	pl_vrow_predict(ttft, out.ttft_s.median * 1e3, out.ttft_s.low * 1e3, out.ttft_s.high * 1e3);
	pl_vrow_predict(tpot, out.tpot_s.median * 1e3, out.tpot_s.low * 1e3, out.tpot_s.high * 1e3);
}

int pl_served_cases(struct pl_validator *v, struct pl_served_case **ret_cases, uint32_t *ret_n, struct pl_err *err)
{
	*ret_n = 0;
	if (v->kind == &pl_kind_serving_perf)
		return pl_served_rate_cases(v, ret_cases, ret_n, err);
	if (v->kind != &pl_kind_silicon_sample)
		return 0;
	struct silicon *x = NULL;
	for (uint32_t i = 0; i < v->table->n_rows; i++) {
		struct pl_vrow r = {.a = pl_arena_new(0), .v = v, .index = i, .row = &v->table->rows[i]};
		x = r.a ? kept(&r) : NULL;
		if (x && !x->cases) {
			x->a = v->a;
			x->cases = PL_NEW_N(v->a, struct pl_served_case, v->table->n_rows);
		}
		if (x && x->cases && r.row->n_cells == v->table->n_columns && !r.row->has_nul)
			map(&r);
		pl_arena_free(r.a);
	}
	if (!x || !x->cases || pl_arena_failed(v->a))
		return pl_fail(err, PL_ERR_NOMEM, v->table->name, "out of memory while reading the table");
	*ret_cases = x->cases;
	*ret_n = x->n_cases;
	x->cases = NULL;
	return 0;
}

const struct pl_table_kind pl_kind_silicon_sample = {"silicon_sample", columns, map, NULL};
