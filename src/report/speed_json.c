/* The speed of a plan by docs/plan.schema.json. */
#include <math.h>

#include "report/json.h"
#include "report/report.h"

static json_t *estimate(const struct pl_estimate *e)
{
	json_t *o = json_object();
	if (!isfinite(e->median)) {
		json_decref(o);
		return json_null();
	}
	rj_put(o, "median", rj_real(e->median));
	rj_put(o, "low", rj_real(e->low));
	rj_put(o, "high", rj_real(e->high));
	return o;
}

static json_t *step(const struct pl_step_cost *c)
{
	json_t *o = json_object(), *causes = json_object();
	for (int i = 0; i < PL_CAUSE_COUNT; i++)
		if (c->cause_s[i] > 0)
			rj_put(causes, pl_cause_name((enum pl_cause)i), rj_real(c->cause_s[i]));
	rj_put(o, "total_s", rj_real(c->total_s));
	rj_put(o, "memory_s", rj_real(c->memory_s));
	rj_put(o, "compute_s", rj_real(c->compute_s));
	rj_put(o, "by_cause_s", causes);
	return o;
}

static json_t *load(const struct pl_load_answer *l)
{
	json_t *o = json_object(), *stages = json_array();
	for (uint32_t i = 0; i < l->n_stages; i++) {
		const struct pl_load_stage *s = &l->stages[i];
		json_t *e = json_object();
		rj_put(e, "name", json_string(pl_load_stage_name(s->kind)));
		rj_put(e, "cold_s", rj_real(s->cold_s));
		rj_put(e, "warm_s", rj_real(s->warm_s));
		rj_put(e, "host_bytes", rj_real(s->host_bytes));
		rj_put(e, "device_bytes", rj_real(s->device_bytes));
		(void)json_array_append_new(stages, e);
	}
	rj_put(o, "disk_bytes_per_s", rj_real(l->disk_bytes_per_s));
	rj_put(o, "disk_assumed", json_boolean(l->disk_assumed));
	rj_put(o, "read_s", rj_real(l->read_s));
	rj_put(o, "to_device_s", rj_real(l->to_device_s));
	rj_put(o, "init_s", rj_real(l->init_s));
	rj_put(o, "cold_start_s", rj_real(l->cold_start_s));
	rj_put(o, "warm_start_s", rj_real(l->warm_start_s));
	rj_put(o, "read_bytes", rj_real(l->read_bytes));
	rj_put(o, "cached_s", rj_real(l->cached_s));
	rj_put(o, "n_graphs", json_integer(l->n_graphs));
	rj_put(o, "stages", stages);
	return o;
}

static json_t *power_parts(const struct pl_power_parts *p)
{
	json_t *o = json_object();
	rj_put(o, "waiting_w", rj_real(p->waiting_w));
	rj_put(o, "memory_w", rj_real(p->memory_w));
	rj_put(o, "arithmetic_w", rj_real(p->arithmetic_w));
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
	rj_put(o, "clients", rj_real(plan->question.concurrency));
	rj_put(o, "output_tokens", rj_real(plan->question.output_tokens));
	rj_put(o, "ttft_s", estimate(&v->ttft_s));
	rj_put(o, "ttft_p50_s", rj_real(v->ttft_p50_s));
	rj_put(o, "ttft_p99_s", rj_real(v->ttft_p99_s));
	rj_put(o, "tpot_s", estimate(&v->tpot_s));
	rj_put(o, "output_tok_s", estimate(&v->output_tok_s));
	rj_put(o, "e2e_s", rj_real(v->e2e_s));
	rj_put(o, "running", rj_real(v->running));
	rj_put(o, "prompt_share_frac", rj_real(v->prompt_share_frac));
	rj_put(o, "queues", json_boolean(v->queues));
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
	rj_put(o, "unknown", rj_text(s->unknown));
	rj_put(o, "prompt_tokens", rj_real(plan->question.prompt_tokens));
	rj_put(o, "depth_tokens", rj_real(plan->question.depth_tokens));
	rj_put(o, "concurrency", rj_real(plan->question.concurrency));
	rj_put(o, "ttft_s", estimate(&s->ttft_s));
	rj_put(o, "prefill_tok_s", estimate(&s->prefill_tok_s));
	rj_put(o, "decode_tok_s", estimate(&s->decode_tok_s));
	rj_put(o, "decode_at_depth_tok_s", estimate(&s->decode_at_depth_tok_s));
	rj_put(o, "aggregate_tok_s", estimate(&s->aggregate_tok_s));
	rj_put(o, "served", served(plan));
	rj_put(o, "idle_w", estimate(&s->idle_w));
	rj_put(o, "decode_w", estimate(&s->decode_w));
	rj_put(o, "prefill_w", estimate(&s->prefill_w));
	rj_put(o, "tokens_per_joule", estimate(&s->tokens_per_joule));
	rj_put(o, "prefill_tokens_per_joule", estimate(&s->prefill_tokens_per_joule));
	rj_put(o, "decode_power", isfinite(s->decode_w.median) ? power_parts(&s->decode_power) : json_null());
	rj_put(o, "prefill_power", isfinite(s->prefill_w.median) ? power_parts(&s->prefill_power) : json_null());
	rj_put(o, "power_text", rj_text(s->power_text));
	rj_put(o, "acceptance_length", rj_real(s->acceptance_length));
	rj_put(o, "decode_step", s->unknown ? json_null() : step(&s->decode));
	rj_put(o, "prefill_step", s->unknown ? json_null() : step(&s->prefill));
	rj_put(o, "load", s->unknown ? json_null() : load(&s->load));
	rj_put(o, "reason", rj_text(s->reason));
	rj_put(o, "constants_of", json_string(kin[s->kinship]));
	rj_put(o, "constants_text", rj_text(s->kin_text));
	return o;
}
