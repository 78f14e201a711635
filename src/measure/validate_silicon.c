/* TTFT and TPOT at a concurrency on datacentre cards (data/measurements/silicon_sample.csv): closed loops of InferenceX and
 * of one gap analysis. Rules and traps: docs/validation.md. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

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

/* What one configuration was measured at. */
struct spread {
	double least, most;
};

/* Kept over the table: for each row, the extremes of its configuration. */
struct silicon {
	struct spread *of_row;
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

static char *key_of(struct pl_arena *a, const struct pl_table *t, uint32_t row)
{
	char buf[1024];
	size_t used = 0;
	for (size_t i = 0; i < sizeof key_columns / sizeof *key_columns && used < sizeof buf; i++) {
		int c = pl_table_column(t, key_columns[i]);
		int n = snprintf(buf + used, sizeof buf - used, "%s|", c < 0 || t->rows[row].n_cells != t->n_columns ? "" : t->rows[row].cells[c]);
		used += n > 0 ? (size_t)n : 0;
	}
	if (used < sizeof buf) {
		int c = pl_table_column(t, "silicon_data_source");
		const char *clients = c < 0 || t->rows[row].n_cells != t->n_columns ? "" : concurrency_cell(t->rows[row].cells[c]);
		(void)snprintf(buf + used, sizeof buf - used, "%.*s", (int)strspn(clients, "0123456789"), clients);
	}
	return pl_arena_strdup(a, buf);
}

static struct silicon *kept(struct pl_vrow *r)
{
	struct pl_validator *v = r->v;
	if (v->kind_data)
		return v->kind_data;
	struct silicon *x = PL_NEW(v->a, struct silicon);
	struct pl_nameset seen = {0};
	struct spread *groups = PL_NEW_N(v->a, struct spread, v->table->n_rows);
	uint32_t *group = PL_NEW_N(v->a, uint32_t, v->table->n_rows), n = 0;
	if (!x || !groups || !group || !(x->of_row = PL_NEW_N(v->a, struct spread, v->table->n_rows)))
		return NULL;
	for (uint32_t i = 0; i < v->table->n_rows; i++) {
		bool fresh = false;
		struct pl_named *e = pl_nameset_entry(v->a, &seen, key_of(v->a, v->table, i), n, &fresh);
		double tpot = cell(v->table, i, "silicon_tpot_ms");
		if (!e)
			return NULL;
		group[i] = e->value;
		if (fresh)
			groups[n++] = (struct spread){INFINITY, 0};
		if (tpot > 0) {
			groups[group[i]].least = fmin(groups[group[i]].least, tpot);
			groups[group[i]].most = fmax(groups[group[i]].most, tpot);
		}
	}
	for (uint32_t i = 0; i < v->table->n_rows; i++)
		x->of_row[i] = groups[group[i]];
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
	                              .pp = (uint32_t)pl_vrow_whole(r, "pp_size", 1, 64, 1), .expert_parallel = n.ep};
	if (!strcasecmp(ask->model, "zhipuai/GLM-5"))
		ask->model = "zai-org/GLM-5";
	ask->load = (struct pl_serve_load){.prompt_tokens = isl, .output_tokens = osl, .shortest_frac = plain ? 1 : 0.8, .rounds = 10};
	ask->load.concurrency = *clients >= '1' && *clients <= '9' ? atof(clients) : batch * n.dp;
	return ask->gpu != NULL;
}

static void class_of(struct pl_vrow *r, const struct pl_served_ask *ask)
{
	bool wip = strstr(pl_vrow_text(r, "silicon_data_source"), "wip=True") != NULL;
	pl_vrow_class(r, "engine", pl_vrow_text(r, "backend"));
	pl_vrow_class(r, "device", pl_vrow_text(r, "system"));
	pl_vrow_class(r, "model", pl_vrow_text(r, "model_path"));
	pl_vrow_class(r, "precision", precision_of(r));
	pl_vrow_class(r, "mode", pl_vrow_text(r, "mode"));
	pl_vrow_class(r, "source", is_plain(r) ? "gap-analysis" : wip ? "wip" : "inferencex");
	pl_vrow_class(r, "attention", ask && ask->dp > 1 ? "dp" : "tp");
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
	struct spread s = x->of_row[r->index];
	if (!pl_vrow_is(r, "mode", "agg")) {
		class_of(r, NULL);
		pl_vrow_reason(r, "prompts and answers on different servers are not modelled");
		return;
	}
	bool asked = ask_of(r, &ask);
	class_of(r, &ask);
	if (s.most > 1.25 * s.least) {
		pl_vrow_flag(r, tpot, "the same configuration was measured at %.3g and %.3g ms: a key is missing", s.least, s.most);
		pl_vrow_flag(r, ttft, "the same configuration was measured at %.3g and %.3g ms: a key is missing", s.least, s.most);
	}
	if (!asked || !pl_served_compile(x->cases ? x->a : r->a, r, &ask, &c))
		return;
	if (x->cases) {
		c.ttft_s = ttft && ttft->status != PL_FLAGGED ? ttft->measured / 1e3 : NAN;
		c.tpot_s = tpot && tpot->status != PL_FLAGGED ? tpot->measured / 1e3 : NAN;
		x->cases[x->n_cases++] = c;
		return;
	}
	if (pl_serve_closed_loop(r->a, c.speed, &c.policy, &c.load, &out, &err)) {
		pl_vrow_fault(r, &err);
		return;
	}
	pl_vrow_predict(ttft, out.ttft_s.median * 1e3, out.ttft_s.low * 1e3, out.ttft_s.high * 1e3);
	pl_vrow_predict(tpot, out.tpot_s.median * 1e3, out.tpot_s.low * 1e3, out.tpot_s.high * 1e3);
}

const struct pl_table_kind pl_kind_silicon_sample = {"silicon_sample", columns, map, NULL};
