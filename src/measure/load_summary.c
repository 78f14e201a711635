#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "measure/load.h"

static int by_size(const void *x, const void *y)
{
	double a = *(const double *)x, b = *(const double *)y;
	return (a > b) - (a < b);
}

static double rank(const double *sorted, uint64_t n, double p)
{
	uint64_t i = (uint64_t)ceil(p * (double)n);
	return sorted[i ? i - 1 : 0];
}

struct pl_percentiles pl_percentiles_of(double *v, uint64_t n)
{
	double sum = 0;
	if (!n)
		return (struct pl_percentiles){NAN, NAN, NAN, NAN, NAN, NAN};
	qsort(v, n, sizeof *v, by_size);
	for (uint64_t i = 0; i < n; i++)
		sum += v[i];
	return (struct pl_percentiles){sum / (double)n, rank(v, n, 0.5), rank(v, n, 0.9), rank(v, n, 0.95), rank(v, n, 0.99), v[n - 1]};
}

static const double LEAST_S = 1e-6, WIDTH = 1.01;

void pl_histogram_add(struct pl_histogram *h, double s)
{
	double k = s > LEAST_S ? log(s / LEAST_S) / log(WIDTH) : 0;
	h->counts[k < PL_HISTOGRAM_CLASSES - 1 ? (int)k : PL_HISTOGRAM_CLASSES - 1]++;
	h->n++;
	h->sum_s += s;
	h->max_s = s > h->max_s ? s : h->max_s;
}

static double class_at(const struct pl_histogram *h, double p)
{
	uint64_t want = (uint64_t)ceil(p * (double)h->n), seen = 0;
	for (int k = 0; k < PL_HISTOGRAM_CLASSES; k++)
		if ((seen += h->counts[k]) >= want && seen)
			return LEAST_S * pow(WIDTH, k + 0.5);
	return h->max_s;
}

struct pl_percentiles pl_histogram_percentiles(const struct pl_histogram *h)
{
	if (!h->n)
		return (struct pl_percentiles){NAN, NAN, NAN, NAN, NAN, NAN};
	return (struct pl_percentiles){h->sum_s / (double)h->n, class_at(h, 0.5), class_at(h, 0.9), class_at(h, 0.95), class_at(h, 0.99), h->max_s};
}

const char *pl_request_fault_name(enum pl_request_fault f)
{
	static const char *const names[] = {"ok", "connect", "tls", "http", "timeout", "broken", "garbage", "endless", "empty", "interrupted"};
	return (unsigned)f < PL_REQUEST_FAULT_COUNT ? names[f] : "?";
}

/* Common short words: about a token each in every vocabulary, and no two prompts share a beginning. */
static const char *const words[] = {
    "time",  "year", "people", "way",   "day",  "man",   "thing", "woman", "life",  "child", "world", "school", "state", "family", "student", "group",
    "country", "problem", "hand", "part", "place", "case", "week", "company", "system", "program", "question", "work", "government", "number", "night", "point",
    "home",  "water", "room",  "mother", "area", "money", "story", "fact",  "month", "lot",   "right", "study",  "book",  "eye",    "job",     "word",
    "business", "issue", "side", "kind", "head", "house", "service", "friend", "father", "power", "hour", "game", "line", "end",    "member",  "law"};

char *pl_request_body(const struct pl_load *l, const char *model, struct pl_rng *r, uint32_t n_words, uint32_t n_output)
{
	size_t cap = (size_t)n_words * 12 + 1, at = 0;
	char *prompt = malloc(cap);
	if (!prompt)
		return NULL;
	for (uint32_t i = 0; i < n_words; i++) {
		const char *w = words[pl_rng_next(r) % (sizeof words / sizeof *words)];
		size_t len = strlen(w);
		if (i)
			prompt[at++] = ' ';
		memcpy(prompt + at, w, len);
		at += len;
	}
	json_t *o = json_pack("{s:s, s:b, s:{s:b}, s:I, s:b, s:f}", "model", model, "stream", 1, "stream_options", "include_usage", 1, "max_tokens",
	                      (json_int_t)n_output, "ignore_eos", 1, "temperature", 0.7);
	if (l->chat)
		(void)json_object_set_new(o, "messages", json_pack("[{s:s, s:s#}]", "role", "user", "content", prompt, (int)at));
	else
		(void)json_object_set_new(o, "prompt", json_stringn(prompt, at));
	char *body = o ? json_dumps(o, JSON_COMPACT) : NULL;
	json_decref(o);
	free(prompt);
	return body;
}

static bool is_good(const struct pl_load *l, double ttft, double tpot, double e2e)
{
	return (!(l->slo_ttft_s > 0) || ttft <= l->slo_ttft_s) && (!(l->slo_tpot_s > 0) || !(tpot > l->slo_tpot_s)) &&
	       (!(l->slo_e2e_s > 0) || e2e <= l->slo_e2e_s);
}

struct columns {
	double *ttft, *tpot, *e2e, *lag;
	uint64_t n, n_tpot, n_lag;
	double first, last, in_flight_s;
	uint64_t prompt, output, good;
};

static void take(const struct pl_load *l, const struct pl_request_times *q, struct columns *c)
{
	double from = l->rate_per_s > 0 ? q->planned_s : q->sent_s;
	if (q->sent_s >= q->planned_s)
		c->lag[c->n_lag++] = q->sent_s - q->planned_s;
	c->first = fmin(c->first, from);
	if (q->fault != PL_REQUEST_OK)
		return;
	double tpot = q->output_tokens > 1 ? (q->last_s - q->first_s) / (q->output_tokens - 1) : NAN;
	c->ttft[c->n] = q->first_s - from;
	c->e2e[c->n] = q->last_s - from;
	if (q->output_tokens > 1)
		c->tpot[c->n_tpot++] = tpot;
	c->good += is_good(l, c->ttft[c->n], tpot, c->e2e[c->n]);
	c->in_flight_s += q->last_s - q->sent_s;
	c->last = fmax(c->last, q->last_s);
	c->prompt += q->prompt_tokens;
	c->output += q->output_tokens;
	c->n++;
}

void pl_bench_summarise(struct pl_arena *a, const struct pl_load *l, struct pl_bench_result *r)
{
	struct columns c = {.ttft = PL_NEW_N(a, double, r->n_requests + 1), .tpot = PL_NEW_N(a, double, r->n_requests + 1),
	                    .e2e = PL_NEW_N(a, double, r->n_requests + 1), .lag = PL_NEW_N(a, double, r->n_requests + 1), .first = INFINITY};
	bool asked = l->slo_ttft_s > 0 || l->slo_tpot_s > 0 || l->slo_e2e_s > 0;
	if (!c.ttft || !c.tpot || !c.e2e || !c.lag)
		return;
	memset(r->n_faults, 0, sizeof r->n_faults);
	for (uint64_t i = 0; i < r->n_requests; i++) {
		r->n_faults[r->requests[i].fault]++;
		take(l, &r->requests[i], &c);
	}
	r->n_ok = r->n_faults[PL_REQUEST_OK];
	r->n_failed = r->n_requests - r->n_ok;
	r->wall_s = c.n ? c.last - c.first : NAN;
	r->ttft_s = pl_percentiles_of(c.ttft, c.n);
	r->tpot_s = pl_percentiles_of(c.tpot, c.n_tpot);
	r->e2e_s = pl_percentiles_of(c.e2e, c.n);
	r->lag_s = l->rate_per_s > 0 ? pl_percentiles_of(c.lag, c.n_lag) : pl_percentiles_of(NULL, 0);
	r->requests_per_s = c.n ? (double)c.n / r->wall_s : NAN;
	r->output_tokens_per_s = c.n ? (double)c.output / r->wall_s : NAN;
	r->prompt_tokens_per_s = c.n ? (double)c.prompt / r->wall_s : NAN;
	r->goodput_per_s = asked && c.n ? (double)c.good / r->wall_s : NAN;
	r->good_frac = asked && r->n_requests ? (double)c.good / (double)r->n_requests : NAN;
	r->mean_concurrency = c.n ? c.in_flight_s / r->wall_s : NAN;
	/* A tenth of a millisecond is a scheduler's habit; ten are a client that comes late. */
	r->client_bound = r->client_cpu_frac > 0.9 || r->lag_s.p99 > 0.010;
}
