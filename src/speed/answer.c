/* The answers people ask, from steps: median, interval, reason. */
#include <math.h>

#include "speed/speed.h"

static const char *const cause_names[PL_CAUSE_COUNT] = {
    "gemm", "attention", "experts", "recurrent", "elementwise", "lm_head", "sampling", "launch", "all_reduce", "all_to_all",
    "hop", "host_link", "disk", "weight_gather"};
static const char *const cause_texts[PL_CAUSE_COUNT] = {
    PL_N_("matrix multiplications"), PL_N_("attention"), PL_N_("experts"), PL_N_("recurrent layers"), PL_N_("norms and activations"),
    PL_N_("the output layer"), PL_N_("sampling"), PL_N_("launches and the engine's own work"), PL_N_("all-reduce"),
    PL_N_("all-to-all"), PL_N_("hand-over between devices"), PL_N_("weights over PCIe"), PL_N_("reading from disk"), PL_N_("gathering sharded weights")};

const char *pl_cause_name(enum pl_cause c)
{
	return cause_names[c];
}

const char *pl_cause_text(enum pl_cause c)
{
	return pl_tr(cause_texts[c]);
}

static bool uses_host(const struct pl_speed *s)
{
	for (uint32_t i = 0; i < s->n_places; i++)
		if (s->places[i].first == PL_SPEED_HOST)
			return true;
	return false;
}

static bool several_gpus(const struct pl_speed *s)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < s->n_places; i++)
		n += s->places[i].first == PL_SPEED_HOST ? 0 : s->places[i].n;
	return n > 1 || (s->gathers && s->n_replicas > 1);
}

enum pl_answer_class pl_speed_class(const struct pl_speed *s, bool prefill)
{
	enum pl_answer_class c = uses_host(s) ? PL_CLASS_OFFLOAD_DECODE : several_gpus(s) ? PL_CLASS_MULTI_DECODE : PL_CLASS_DECODE;
	return prefill ? (enum pl_answer_class)(c + 1) : c;
}

static struct pl_estimate with_interval(const struct pl_speed *s, double median, bool prefill, bool is_time)
{
	enum pl_answer_class c = pl_speed_class(s, prefill);
	struct pl_spread w = s->constants->spread[c][s->kinship];
	if (is_time)
		return (struct pl_estimate){median, median * exp(-w.high_ln), median * exp(-w.low_ln)};
	return (struct pl_estimate){median, median * exp(w.low_ln), median * exp(w.high_ln)};
}

/* A prompt in passes of the engine's batch; passes overlap over the stages of a layer split. */
double pl_prompt_s(const struct pl_speed *s, double tokens, double past, struct pl_step_cost *ret_last)
{
	double sum = 0, room = s->n_ubatch ? s->n_ubatch : tokens;
	for (double done = 0; done < tokens;) {
		struct pl_batch b = {.prefill_tokens = fmin(room, tokens - done), .prefill_past_tokens = past + done, .prefill_seqs = 1};
		pl_step(s, &b, ret_last);
		if (isnan(ret_last->total_s))
			return NAN;
		sum += done > 0 && s->pipelined_prefill ? ret_last->stage_s : ret_last->total_s;
		done += b.prefill_tokens;
	}
	return sum;
}

/* Tokens of one verify step by K tokens drafted: SemiAnalysisAI/InferenceX golden_al_distribution, Qwen3.5 MTP (2026). */
static const double mtp_acceptance[] = {1, 1.93, 2.73, 3.39, 3.97, 4.41, 4.80};
enum { MTP_ACCEPTANCE_MAX = sizeof mtp_acceptance / sizeof *mtp_acceptance - 1 };

double pl_decode_s(const struct pl_speed *s, double seqs, double depth, double draft_tokens, double acceptance_length, double *ret_yield,
                   struct pl_step_cost *ret)
{
	struct pl_batch b = {.decode_seqs = seqs, .decode_depth_tokens = depth};
	double k = draft_tokens, each;
	*ret_yield = 1;
	if (!(k >= 1)) {
		pl_step(s, &b, ret);
		return ret->total_s;
	}
	int i = k < MTP_ACCEPTANCE_MAX ? (int)k : MTP_ACCEPTANCE_MAX;
	*ret_yield = acceptance_length >= 1 ? acceptance_length : mtp_acceptance[i];
	each = s->setup.model && s->setup.model->n_layers ? 1.5 / s->setup.model->n_layers : 0.05;
	pl_step(s, &b, ret); /* a draft step is one layer and the output layer */
	double draft = k * (each * ret->total_s + ret->cause_s[PL_CAUSE_LM_HEAD]);
	b.tokens_per_seq = k + 1;
	pl_step(s, &b, ret);
	return ret->total_s + draft;
}

static struct pl_estimate watts(const struct pl_speed *s, const struct pl_batch *b, struct pl_power_parts *ret)
{
	double w = pl_speed_watts(s, b, ret);
	return (struct pl_estimate){w, w * exp(-pl_power_spread_ln), w * exp(pl_power_spread_ln)};
}

static struct pl_estimate per_joule(const struct pl_estimate *rate, const struct pl_estimate *w)
{
	return (struct pl_estimate){rate->median / w->median, rate->low / w->high, rate->high / w->low};
}

static void answer_power(struct pl_arena *a, const struct pl_speed *s, const struct pl_speed_question *q, double prompt, double n,
                         struct pl_speed_answer *ret)
{
	double room = s->n_ubatch ? s->n_ubatch : prompt;
	struct pl_batch decode = {.decode_seqs = n / s->n_replicas, .decode_depth_tokens = q->depth_tokens};
	struct pl_batch prefill = {.prefill_tokens = fmin(room, prompt), .prefill_past_tokens = q->depth_tokens, .prefill_seqs = 1};
	struct pl_power_parts none;
	decode.tokens_per_seq = q->draft_tokens >= 1 ? q->draft_tokens + 1 : 1;
	ret->idle_w = watts(s, NULL, &none);
	ret->decode_w = watts(s, &decode, &ret->decode_power);
	ret->prefill_w = watts(s, &prefill, &ret->prefill_power);
	ret->tokens_per_joule = per_joule(&ret->aggregate_tok_s, &ret->decode_w);
	ret->prefill_tokens_per_joule = per_joule(&ret->prefill_tok_s, &ret->prefill_w);
	ret->power_text = pl_power_text(a, s);
}

static void nothing_known(struct pl_speed_answer *ret)
{
	struct pl_estimate nan = {NAN, NAN, NAN}, *all[] = {&ret->ttft_s, &ret->prefill_tok_s, &ret->decode_tok_s, &ret->decode_at_depth_tok_s,
	                                                    &ret->aggregate_tok_s, &ret->decode_w, &ret->prefill_w, &ret->idle_w,
	                                                    &ret->tokens_per_joule, &ret->prefill_tokens_per_joule};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		*all[i] = nan;
}

static struct pl_estimate decode_rate(const struct pl_speed *s, const struct pl_speed_question *q, double n, double depth, double *ret_yield,
                                      struct pl_step_cost *ret)
{
	double own = n / s->n_replicas, batch = s->n_in_flight > 1 ? fmax(own / s->n_in_flight, 1) : own;
	double step = pl_decode_s(s, batch, depth, q->draft_tokens, q->acceptance_length, ret_yield, ret);
	return with_interval(s, n * *ret_yield / step, false, false);
}

int pl_speed_answer(struct pl_arena *a, const struct pl_speed *s, const struct pl_speed_question *q,
                    struct pl_speed_answer *ret, struct pl_err *err)
{
	double prompt = q->prompt_tokens > 0 ? q->prompt_tokens : 512, n = q->concurrency > 1 ? q->concurrency : 1;
	*ret = (struct pl_speed_answer){.unknown = s->unknown, .kinship = s->kinship, .kin_text = s->kin_text, .acceptance_length = 1};
	if (s->unknown) {
		nothing_known(ret);
		return 0;
	}
	double prefill = pl_prompt_s(s, prompt, q->depth_tokens, &ret->prefill);
	ret->ttft_s = with_interval(s, prefill + s->request_s, true, true);
	ret->prefill_tok_s = with_interval(s, prompt / prefill, true, false);
	ret->decode_tok_s = decode_rate(s, q, 1, 0, &ret->acceptance_length, &ret->decode);
	ret->decode_at_depth_tok_s = decode_rate(s, q, 1, q->depth_tokens, &ret->acceptance_length, &ret->decode);
	ret->aggregate_tok_s = decode_rate(s, q, n, q->depth_tokens, &ret->acceptance_length, &ret->decode);
	answer_power(a, s, q, prompt, n, ret);
	pl_speed_load(s, &s->setup, &ret->load);
	ret->decode_reason = pl_speed_reason(a, s, &ret->decode, false);
	ret->prefill_reason = pl_speed_reason(a, s, &ret->prefill, true);
	ret->reason = pl_arena_printf(a, pl_tr("%s; %s"), ret->decode_reason, ret->prefill_reason);
	if (pl_arena_failed(a))
		return pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory while planning");
	return 0;
}
