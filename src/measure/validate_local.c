/* Local speeds (data/measurements/local_perf.csv): llama-bench tables and rates that tools report. */
#include <math.h>

#include "measure/local_case.h"
#include "measure/observe.h"

static const char *const columns[] = {"id", "source_url", "engine", "backend", "gpu", "n_gpu", "cpu", "ram", "model", "params_b", "quant",
                                      "size_gib", "ngl", "flash_attn", "split_mode", "n_ubatch", "threads", "kv_type", "test", "depth",
                                      "tok_s", "notes", NULL};

/* Half a percent for rounding, two for clocks above what the maker states. */
static const double above_roofline = 1.025;

static struct pl_local_reader *reader(struct pl_vrow *r)
{
	struct pl_err err = {0};
	if (!r->v->kind_data)
		r->v->kind_data = pl_local_reader_make(r->v->a, r->v->table, &err);
	if (!r->v->kind_data)
		pl_vrow_fault(r, &err);
	return r->v->kind_data;
}

/* Faster than physics as labelled: something stands in the row that is not said (speculation, another precision). */
static bool impossible(const struct pl_local_case *c)
{
	return c->measured_tok_s > c->ceiling_tok_s * above_roofline && !(c->draft_tokens > 0) && c->concurrency <= 1;
}

/* Rows of one source that say the same and differ by more: a setting or a device is not told. */
static const double repeats_apart = 1.25;

static double predict(const void *about)
{
	return pl_local_predict(about);
}

/* Rows that say less count less; speculation and guesses do not fit constants. */
static bool observe(struct pl_vrow *r, struct pl_observation *ret)
{
	struct pl_local_reader *x = reader(r);
	struct pl_local_case *c = x ? PL_NEW(r->v->a, struct pl_local_case) : NULL;
	if (!c || !pl_local_read(x, r, c) || !(c->measured_tok_s > 0) || impossible(c) || c->apart > repeats_apart)
		return false;
	ret->speed = c->speed;
	ret->predict = predict;
	ret->about = c;
	ret->measured = c->measured_tok_s;
	ret->class = c->class;
	ret->device = c->device;
	ret->model = c->model;
	ret->source = c->source;
	ret->weight = c->draft_tokens > 0 || c->assumed_memory ? 0 : c->tool_rate || c->assumed_quant || c->stand_in ? 0.4 : 1;
	return true;
}

/* Watts of all GPUs while the row's work runs. */
static double predict_watts(const struct pl_local_case *c)
{
	struct pl_power_parts parts;
	struct pl_batch b = {.decode_seqs = c->concurrency, .decode_depth_tokens = c->depth_tokens + c->out_tokens / 2};
	double room = c->speed->n_ubatch ? c->speed->n_ubatch : c->prompt_tokens;
	if (c->draft_tokens >= 1)
		b.tokens_per_seq = c->draft_tokens + 1;
	if (c->kind == PL_LOCAL_PREFILL)
		b = (struct pl_batch){.prefill_tokens = fmin(c->prompt_tokens, room), .prefill_past_tokens = c->depth_tokens, .prefill_seqs = 1};
	return pl_speed_watts(c->speed, &b, &parts);
}

/* What a cap leaves of the speed without it (power_perf.csv). */
static void map_power(struct pl_vrow *r, const struct pl_local_case *c, bool prefill)
{
	double uncapped = pl_vrow_number(r, "uncapped_tok_s", 0, 1e9), cap = c->speed->power_limit_w;
	struct pl_prediction *w = pl_vrow_measured(r, prefill ? "prefill_w" : "decode_w", "power_w", 1);
	double watts = w ? predict_watts(c) : NAN;
	pl_vrow_predict(w, watts, watts * exp(-pl_power_spread_ln), watts * exp(pl_power_spread_ln));
	if (!(uncapped > 0))
		return;
	double capped_s = pl_local_predict(c);
	c->speed->power_limit_w = 0;
	pl_speed_bind(c->speed, c->speed->constants);
	double frac = capped_s / pl_local_predict(c);
	c->speed->power_limit_w = cap;
	pl_speed_bind(c->speed, c->speed->constants);
	struct pl_prediction *p = pl_vrow_measured_value(r, prefill ? "prefill_capped_frac" : "decode_capped_frac", c->measured_tok_s / uncapped, 0);
	pl_vrow_predict(p, frac, NAN, NAN);
}

static void map(struct pl_vrow *r)
{
	struct pl_local_case c;
	const char *test = pl_vrow_text(r, "test");
	bool prefill = test[0] == 'p';
	struct pl_prediction *p = pl_vrow_measured(r, prefill ? "prefill_tok_s" : "decode_tok_s", "tok_s", 1);
	struct pl_local_reader *x = p ? reader(r) : NULL;
	if (!x || !pl_local_read(x, r, &c))
		return;
	pl_vrow_class(r, "class", pl_class_name(c.class));
	pl_vrow_class(r, "target", c.size_stated && !(c.draft_tokens > 0) ? pl_class_name(c.class) : NULL);
	pl_vrow_class(r, "backend", c.backend);
	pl_vrow_class(r, "device", c.device);
	pl_vrow_class(r, "kind", c.family);
	pl_vrow_class(r, "speculation", c.draft_tokens > 0 ? "yes" : "no");
	pl_vrow_class(r, "depth", c.depth_tokens < 4096 ? "short" : "long");
	const struct pl_held_out *h = r->v->held_out ? &r->v->held_out[r->index] : NULL;
	pl_speed_bind(c.speed, r->v->constants ? r->v->constants : pl_constants_shipped());
	double tok_s = h && h->known ? h->predicted : pl_local_predict(&c);
	const struct pl_spread *w = &c.speed->constants->spread[c.class][h && h->known ? h->kinship : c.speed->kinship];
	pl_vrow_predict(p, tok_s, tok_s * exp(w->low_ln), tok_s * exp(w->high_ln));
	map_power(r, &c, prefill);
	if (impossible(&c))
		pl_vrow_flag(r, p, prefill ? "faster than the card's matrix units could be as labelled"
		                           : "faster than memory could deliver the weights as labelled");
	else if (c.apart > repeats_apart)
		pl_vrow_flag(r, p, "rows that say the same were measured %.3g times apart: a setting is not told", c.apart);
}

const struct pl_table_kind pl_kind_local_perf = {"local_perf", columns, map, observe};
