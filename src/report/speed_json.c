/* The speed of a plan by docs/plan.schema.json. */
#include <math.h>

#include <jansson.h>

#include "report/report.h"

/* NAN has no place in JSON: null. */
static json_t *real(double n)
{
	return isfinite(n) ? json_real(n) : json_null();
}

static void put(json_t *o, const char *key, json_t *value)
{
	(void)json_object_set_new(o, key, value ? value : json_null());
}

static json_t *text(const char *s)
{
	json_t *o = s ? json_string(s) : json_null();
	return o ? o : json_string("?");
}

static json_t *estimate(const struct pl_estimate *e)
{
	json_t *o = json_object();
	if (!isfinite(e->median)) {
		json_decref(o);
		return json_null();
	}
	put(o, "median", real(e->median));
	put(o, "low", real(e->low));
	put(o, "high", real(e->high));
	return o;
}

static json_t *step(const struct pl_step_cost *c)
{
	json_t *o = json_object(), *causes = json_object();
	for (int i = 0; i < PL_CAUSE_COUNT; i++)
		if (c->cause_s[i] > 0)
			put(causes, pl_cause_name((enum pl_cause)i), real(c->cause_s[i]));
	put(o, "total_s", real(c->total_s));
	put(o, "memory_s", real(c->memory_s));
	put(o, "compute_s", real(c->compute_s));
	put(o, "by_cause_s", causes);
	return o;
}

static json_t *load(const struct pl_load_answer *l)
{
	json_t *o = json_object();
	put(o, "disk_bytes_per_s", real(l->disk_bytes_per_s));
	put(o, "disk_assumed", json_boolean(l->disk_assumed));
	put(o, "read_s", real(l->read_s));
	put(o, "to_device_s", real(l->to_device_s));
	put(o, "init_s", real(l->init_s));
	put(o, "cold_start_s", real(l->cold_start_s));
	put(o, "warm_start_s", real(l->warm_start_s));
	return o;
}

static json_t *power_parts(const struct pl_power_parts *p)
{
	json_t *o = json_object();
	put(o, "waiting_w", real(p->waiting_w));
	put(o, "memory_w", real(p->memory_w));
	put(o, "arithmetic_w", real(p->arithmetic_w));
	return o;
}

static json_t *served(const struct pl_plan *plan)
{
	const struct pl_served *v = plan->served;
	json_t *o = json_object();
	if (!v || !isfinite(v->tpot_s.median)) {
		json_decref(o);
		return json_null();
	}
	put(o, "clients", real(plan->question.concurrency));
	put(o, "output_tokens", real(plan->question.output_tokens));
	put(o, "ttft_s", estimate(&v->ttft_s));
	put(o, "ttft_p50_s", real(v->ttft_p50_s));
	put(o, "ttft_p99_s", real(v->ttft_p99_s));
	put(o, "tpot_s", estimate(&v->tpot_s));
	put(o, "output_tok_s", estimate(&v->output_tok_s));
	put(o, "e2e_s", real(v->e2e_s));
	put(o, "running", real(v->running));
	put(o, "prompt_share_frac", real(v->prompt_share_frac));
	put(o, "queues", json_boolean(v->queues));
	return o;
}

json_t *pl_report_speed_json(const struct pl_plan *plan)
{
	static const char *const kin[] = {"device", "architecture", "backend", "none"};
	const struct pl_speed_answer *s = plan->answer;
	json_t *o = json_object();
	if (!s) {
		json_decref(o);
		return json_null();
	}
	put(o, "unknown", text(s->unknown));
	put(o, "prompt_tokens", real(plan->question.prompt_tokens));
	put(o, "depth_tokens", real(plan->question.depth_tokens));
	put(o, "concurrency", real(plan->question.concurrency));
	put(o, "ttft_s", estimate(&s->ttft_s));
	put(o, "prefill_tok_s", estimate(&s->prefill_tok_s));
	put(o, "decode_tok_s", estimate(&s->decode_tok_s));
	put(o, "decode_at_depth_tok_s", estimate(&s->decode_at_depth_tok_s));
	put(o, "aggregate_tok_s", estimate(&s->aggregate_tok_s));
	put(o, "served", served(plan));
	put(o, "idle_w", estimate(&s->idle_w));
	put(o, "decode_w", estimate(&s->decode_w));
	put(o, "prefill_w", estimate(&s->prefill_w));
	put(o, "tokens_per_joule", estimate(&s->tokens_per_joule));
	put(o, "prefill_tokens_per_joule", estimate(&s->prefill_tokens_per_joule));
	put(o, "decode_power", isfinite(s->decode_w.median) ? power_parts(&s->decode_power) : json_null());
	put(o, "prefill_power", isfinite(s->prefill_w.median) ? power_parts(&s->prefill_power) : json_null());
	put(o, "power_text", text(s->power_text));
	put(o, "acceptance_length", real(s->acceptance_length));
	put(o, "decode_step", s->unknown ? json_null() : step(&s->decode));
	put(o, "prefill_step", s->unknown ? json_null() : step(&s->prefill));
	put(o, "load", s->unknown ? json_null() : load(&s->load));
	put(o, "reason", text(s->reason));
	put(o, "constants_of", json_string(kin[s->kinship]));
	put(o, "constants_text", text(s->kin_text));
	return o;
}
