/* Watts and joules a token of served models (data/measurements/served_power.csv): what a batch that decodes draws. */
#include <math.h>
#include <string.h>

#include "measure/served_case.h"
#include "measure/validator.h"

static const char *const columns[] = {"id", "engine", "version", "model", "precision", "gpu", "n_gpu", "tp", "dp", "ep", "task", "batch",
                                      "max_num_seqs", "output_tokens", "output_tok_s", "itl_ms", "joules_per_token", "power_w", NULL};

struct power_row {
	struct pl_vrow *r;
	struct pl_prediction *itl, *energy, *watts;
	double batch, tokens;
};

static bool compile(const struct power_row *x, struct pl_served_case *ret)
{
	struct pl_vrow *r = x->r;
	struct pl_served_ask ask = {.engine = pl_vrow_text(r, "engine"), .model = pl_vrow_text(r, "model"),
	                            .precision = pl_vrow_text(r, "precision"), .gpu = pl_vrow_text(r, "gpu"),
	                            .version = pl_vrow_text(r, "version")};
	ask.dp = (uint32_t)pl_vrow_whole(r, "dp", 1, 1024, 1);
	ask.expert_parallel = pl_vrow_whole(r, "ep", 1, 1024, 1) > 1;
	ask.cards = (uint32_t)pl_vrow_whole(r, "n_gpu", 1, 1024, 1);
	ask.tp = ask.cards / ask.dp ? ask.cards / ask.dp : 1; /* the table's tp is 1 where experts are dealt out */
	ask.max_seqs = (uint32_t)pl_vrow_whole(r, "max_num_seqs", 1, 1 << 20, 256);
	ask.load = (struct pl_serve_load){.prompt_tokens = 1, .output_tokens = x->tokens, .shortest_frac = 1, .concurrency = x->batch, .rounds = 1};
	return !r->reason && pl_served_compile(r->a, r, &ask, ret);
}

/* Prompts are short beside answers, and their lengths are not in the table: steps are those of decoding alone, half an answer deep. */
static void map(struct pl_vrow *r)
{
	struct power_row x = {.r = r, .batch = pl_vrow_number(r, "batch", 0.01, 1e6), .tokens = pl_vrow_number(r, "output_tokens", 1, 1e7)};
	struct pl_served_case c;
	struct pl_power_parts parts;
	struct pl_step_cost step;
	struct pl_served served;
	double each;
	x.itl = pl_vrow_measured(r, "itl_ms", "itl_ms", 1);
	x.energy = pl_vrow_measured(r, "joules_per_token", "joules_per_token", 1);
	x.watts = pl_vrow_measured(r, "power_w", "power_w", 1);
	if (isnan(x.batch) || isnan(x.tokens)) {
		pl_vrow_reason(r, "the row states no batch or no length of answers");
		return;
	}
	if (!compile(&x, &c))
		return;
	pl_vrow_class(r, "device", c.device);
	pl_vrow_class(r, "model", c.family);
	pl_vrow_class(r, "precision", pl_vrow_text(r, "precision"));
	pl_vrow_class(r, "cards", pl_vrow_text(r, "n_gpu"));
	pl_vrow_class(r, "batch", x.batch < 16 ? "below 16" : x.batch < 128 ? "below 128" : "128 and more");
	pl_speed_bind(c.speed, r->v->constants ? r->v->constants : pl_constants_shipped());
	double own = x.batch / c.speed->n_replicas, depth = x.tokens / 2;
	double step_s = pl_decode_s(c.speed, own, depth, 0, 0, &each, &step);
	double watts = pl_speed_watts(c.speed, &(struct pl_batch){.decode_seqs = own, .decode_depth_tokens = depth}, &parts);
	pl_serve_steady(c.speed, &c.policy, &c.load, &served);
	double token_s = fmax(served.tpot_s.median, step_s); /* what passes between steps counts for the time, not for the watts */
	pl_vrow_predict(x.watts, watts, watts * exp(-pl_power_spread_ln), watts * exp(pl_power_spread_ln));
	pl_vrow_predict(x.itl, token_s * 1e3, NAN, NAN);
	pl_vrow_predict(x.energy, watts * token_s / x.batch, NAN, NAN);
}

const struct pl_table_kind pl_kind_served_power = {"served_power", columns, map, NULL};
