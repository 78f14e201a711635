/* A closed loop played step by step: what a benchmark with N clients sees, its start burst included. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <plimsoll/serve.h>

#include "serve/serve.h"

struct request {
	double prompt, output; /* tokens */
	double made;           /* of the answer; more than 0 in the queue: it lost its place and computes them again */
	double left;           /* of prompt and answer so far, still to compute */
	double arrival_s, visible_s, first_s;
	double ends;           /* when the count of decode steps reaches this, the answer is done */
};

struct loop {
	const struct pl_speed *s;
	const struct pl_serve_policy *policy;
	double yield, per_seq; /* tokens a step gives each sequence, tokens it computes for it */
	struct request *r;
	uint32_t n, next;      /* requests, the next to arrive */
	uint32_t *heap, n_running; /* running requests, the first to end on top */
	uint32_t *queue, head, n_queue; /* waiting, in order of arrival */
	double now_s, steps;   /* steps: decode tokens since the start, per sequence */
	double ingested_s;     /* when the front end was done with the last request */
	double step_s, seen_s; /* when the last step began; up to when the scheduler has looked for requests */
	double unlooked, held; /* decode steps since that look; steps that prompts were held back for company */
	double context;        /* tokens in the cache of all running sequences, at the count `steps` */
	double filling;        /* tokens that prompts being computed will take */
	double reserved;       /* tokens set aside for all admitted requests at most */
	double busy_prompt_s, area; /* time of steps that compute prompts; running × time */
	double sum_ttft, sum_tpot, sum_e2e, sum_tokens;
	double *ttft;
	uint32_t n_done, n_first;
	bool queued;
};

/* ---- running sequences: a heap by the step at which they end */

static bool before(const struct loop *l, uint32_t a, uint32_t b)
{
	return l->r[a].ends < l->r[b].ends || (!(l->r[b].ends < l->r[a].ends) && a < b);
}

static void push(struct loop *l, uint32_t q)
{
	uint32_t i = l->n_running++;
	while (i && before(l, q, l->heap[(i - 1) / 2])) {
		l->heap[i] = l->heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	l->heap[i] = q;
}

static uint32_t pop(struct loop *l)
{
	uint32_t top = l->heap[0], last = l->heap[--l->n_running], i = 0;
	for (;;) {
		uint32_t c = 2 * i + 1;
		if (c >= l->n_running)
			break;
		if (c + 1 < l->n_running && before(l, l->heap[c + 1], l->heap[c]))
			c++;
		if (!before(l, l->heap[c], last))
			break;
		l->heap[i] = l->heap[c];
		i = c;
	}
	if (l->n_running)
		l->heap[i] = last;
	return top;
}

/* The youngest loses its place first. Returns where it stands in the heap. */
static uint32_t youngest(const struct loop *l)
{
	uint32_t at = 0;
	for (uint32_t i = 1; i < l->n_running; i++)
		if (l->heap[i] > l->heap[at])
			at = i;
	return at;
}

static void drop(struct loop *l, uint32_t at)
{
	uint32_t n = --l->n_running, q = l->heap[n];
	if (at == n)
		return;
	for (; at && before(l, q, l->heap[(at - 1) / 2]); at = (at - 1) / 2)
		l->heap[at] = l->heap[(at - 1) / 2];
	for (uint32_t c; (c = 2 * at + 1) < n; at = c) {
		c += c + 1 < n && before(l, l->heap[c + 1], l->heap[c]);
		if (!before(l, l->heap[c], q))
			break;
		l->heap[at] = l->heap[c];
	}
	l->heap[at] = q;
}

/* ---- requests */

/* One front end reads requests, one after the other, and makes tokens of them. */
static void arrive(struct loop *l)
{
	if (l->next == l->n)
		return;
	struct request *r = &l->r[l->next];
	r->arrival_s = l->now_s;
	l->ingested_s = fmax(l->ingested_s, l->now_s) + l->s->request_s + l->s->ingest_s * r->prompt;
	r->visible_s = l->ingested_s;
	l->queue[l->head + l->n_queue++] = l->next++;
}

/* Fractions of the golden ratio's relatives fill the square evenly (R2 sequence, Roberts 2018). */
static double even(uint32_t i, double step)
{
	double x = 0.5 + i * step;
	return x - floor(x);
}

static void draw_lengths(struct loop *l, const struct pl_serve_load *load)
{
	double low = load->shortest_frac > 0 && load->shortest_frac < 1 ? load->shortest_frac : 1;
	for (uint32_t i = 0; i < l->n; i++) {
		struct request *r = &l->r[i];
		r->prompt = fmax(1, load->prompt_tokens * (low + (1 - low) * even(i, 0.7548776662466927)));
		r->output = fmax(1, load->output_tokens * (low + (1 - low) * even(i, 0.5698402909980532)));
		r->left = r->prompt;
	}
}

static void finish(struct loop *l, uint32_t q)
{
	struct request *r = &l->r[q];
	l->context -= r->prompt + r->output;
	l->reserved -= r->prompt + r->output;
	r->made = r->output;
	if (r->output > 1)
		l->sum_tpot += (l->now_s - r->first_s) / (r->output - 1);
	l->sum_e2e += l->now_s - r->arrival_s;
	l->sum_tokens += r->output;
	l->n_done++;
	arrive(l);
}

static void finish_ended(struct loop *l)
{
	while (l->n_running && l->r[l->heap[0]].ends <= l->steps + 1e-9)
		finish(l, pop(l));
}

/* The prompt is computed: its next token is out. */
static void start(struct loop *l, uint32_t q)
{
	struct request *r = &l->r[q];
	l->filling -= r->prompt + r->made;
	if (!(r->made > 0)) {
		r->first_s = l->now_s;
		l->ttft[l->n_first++] = r->first_s - r->arrival_s;
		l->sum_ttft += r->first_s - r->arrival_s;
	}
	r->made += 1;
	r->ends = l->steps + r->output - r->made;
	l->context += r->prompt + r->made;
	push(l, q);
}

/* Out of the cache and back to the head of the queue, which has a free place before it: it left from there. */
static void preempt(struct loop *l, uint32_t at)
{
	uint32_t q = l->heap[at];
	struct request *r = &l->r[q];
	drop(l, at);
	r->made = fmax(1, r->output - fmax(1, r->ends - l->steps));
	r->left = r->prompt + r->made;
	l->context = fmax(0, l->context - r->left);
	l->reserved -= r->prompt + r->output;
	l->queue[--l->head] = q;
	l->n_queue++;
	l->queued = true;
}

/* ---- steps */

static double cache_left(const struct loop *l)
{
	double most = l->policy->cache_tokens;
	return most <= 0 ? INFINITY : most - (l->policy->reserves ? l->reserved : l->context + l->filling);
}

static bool has_room(const struct loop *l, const struct request *r, uint32_t taken)
{
	if (l->n_running + taken + 1 > l->policy->max_seqs)
		return false;
	/* One alone always runs: the engine refused to start if it could not. */
	return !(l->n_running + taken) || r->prompt + (l->policy->reserves ? r->output : r->made + 1) <= cache_left(l);
}

struct chunk {
	double tokens, past; /* prompt tokens of the step, past: weighted by tokens, before them */
	uint32_t parts, done; /* prompts it touches, prompts it completes: the first of the queue */
};

/* The scheduler looks for requests between steps; one that composes a step while the last one runs sees what had come when
 * that began. */
static void look(struct loop *l)
{
	if (l->unlooked < l->policy->poll_steps)
		return;
	l->seen_s = l->policy->ahead ? l->step_s : l->now_s;
	l->unlooked = 0;
}

static bool seen(const struct loop *l, uint32_t i)
{
	return i < l->n_queue && l->r[l->queue[l->head + i]].visible_s <= l->seen_s;
}

/* Held back until many are there, or for so many steps: prompts disturb those who decode less often. */
static bool holds(const struct loop *l)
{
	double tokens = l->n_running;
	if (!(l->held < l->policy->wait_steps) || !l->n_running || !seen(l, 0))
		return false;
	for (uint32_t i = 0; seen(l, i) && tokens < l->policy->wait_tokens; i++)
		tokens += l->r[l->queue[l->head + i]].left;
	return tokens < l->policy->wait_tokens;
}

/* Prompts for the next step, first come first served. */
static struct chunk gather(struct loop *l)
{
	struct chunk c = {0};
	double room = l->policy->step_tokens - (l->policy->mixed ? l->n_running * l->per_seq : 0);
	for (uint32_t i = 0; seen(l, i) && room >= 1; i++) {
		struct request *r = &l->r[l->queue[l->head + i]];
		bool fresh = r->left >= r->prompt + r->made;
		if (fresh && !has_room(l, r, i)) {
			l->queued = true;
			break;
		}
		double part = fmin(r->left, room);
		if (l->policy->whole_prompts && part < r->left && c.parts)
			break;
		if (fresh) {
			l->reserved += r->prompt + r->output;
			l->filling += r->prompt + r->made;
		}
		c.past += part * (r->prompt + r->made - r->left);
		c.tokens += part;
		c.parts++;
		r->left -= part;
		room -= part;
		if (r->left > 0)
			break;
		c.done++;
	}
	c.past = c.tokens > 0 ? c.past / c.tokens : 0;
	return c;
}

static double depth(const struct loop *l, double ahead)
{
	return l->n_running ? l->context / l->n_running + ahead : 0;
}

static void advance(struct loop *l, double seconds, double tokens)
{
	l->now_s += seconds;
	l->area += seconds * l->n_running;
	l->steps += tokens;
	l->context += tokens * l->n_running;
}

static void prompt_step(struct loop *l, const struct chunk *c)
{
	bool decodes = l->policy->mixed && l->n_running;
	struct pl_batch b = {.prefill_tokens = c->tokens, .prefill_past_tokens = c->past, .prefill_seqs = c->parts};
	if (decodes) {
		b.decode_seqs = l->n_running;
		b.decode_depth_tokens = depth(l, 0);
		b.tokens_per_seq = l->per_seq;
	}
	double seconds = pl_step_s(l->s, &b);
	l->step_s = l->now_s;
	l->unlooked = l->policy->poll_steps; /* SGLang's skipping of looks counts decode steps only */
	l->held = 0;
	advance(l, seconds, decodes ? l->yield : 0);
	l->busy_prompt_s += seconds;
	finish_ended(l);
	for (uint32_t i = 0; i < c->done; i++)
		start(l, l->queue[l->head + i]);
	l->head += c->done;
	l->n_queue -= c->done;
	finish_ended(l);
}

/* Steps until the scheduler looks and sees the first request that it has not seen; INFINITY none waits. */
static double steps_to_sight(const struct loop *l, double step_s)
{
	uint32_t i = 0;
	while (seen(l, i) && i < 2) /* those that wait for room wait on */
		i++;
	if (i >= l->n_queue || seen(l, i))
		return INFINITY;
	double away = ceil((l->r[l->queue[l->head + i]].visible_s - l->now_s) / step_s - 1e-9), poll = fmax(1, l->policy->poll_steps);
	double steps = fmax(1, away + (l->policy->ahead ? 1 : 0));
	return ceil((l->unlooked + steps) / poll - 1e-9) * poll - l->unlooked;
}

/* Decode steps before something else happens, at most those to the end of the next answer. */
static double stretch(struct loop *l, bool held, double step_s)
{
	double steps = ceil((l->r[l->heap[0]].ends - l->steps) / l->yield - 1e-9), growth = l->yield * l->n_running;
	steps = fmin(fmax(1, steps), steps_to_sight(l, step_s));
	if (held)
		steps = fmin(steps, l->policy->wait_steps - l->held);
	if (!l->policy->reserves && l->policy->cache_tokens > 0)
		steps = fmin(steps, floor(cache_left(l) / growth));
	return fmax(1, steps);
}

/* Nothing to compute but answers until the next one ends or a prompt comes: the cost is that of the middle. */
static void decode_stretch(struct loop *l, bool held)
{
	while (!l->policy->reserves && l->n_running > 1 && cache_left(l) < l->yield * l->n_running)
		preempt(l, youngest(l));
	struct pl_batch b = {.decode_seqs = l->n_running, .decode_depth_tokens = depth(l, 0), .tokens_per_seq = l->per_seq};
	double first_s = pl_step_s(l->s, &b), steps = stretch(l, held, first_s), seconds = first_s;
	double tokens = fmin(steps * l->yield, fmax(l->r[l->heap[0]].ends - l->steps, l->yield));
	if (steps > 1) {
		b.decode_depth_tokens = depth(l, tokens / 2);
		seconds = pl_step_s(l->s, &b);
	}
	l->step_s = l->now_s + (steps - 1) * seconds;
	l->unlooked = fmod(l->unlooked + steps - 1, fmax(1, l->policy->poll_steps)) + 1;
	l->held = held ? l->held + steps : 0;
	advance(l, steps * seconds, tokens);
	finish_ended(l);
}

static void play(struct loop *l)
{
	while (l->n_queue || l->n_running) {
		look(l);
		bool held = holds(l);
		struct chunk c = held ? (struct chunk){0} : gather(l);
		if (c.parts) {
			prompt_step(l, &c);
		} else if (l->n_running) {
			decode_stretch(l, held);
		} else { /* idle until the front end hands one over */
			l->now_s = l->step_s = fmax(l->now_s, l->r[l->queue[l->head]].visible_s);
			l->unlooked = l->policy->poll_steps;
		}
	}
}

/* ---- answers */

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static struct pl_spread as_times(struct pl_spread rates)
{
	return (struct pl_spread){-rates.high_ln, -rates.low_ln};
}

/* Times of served runs were measured on cards with curves of their kernels; elsewhere the interval is that of plain speeds,
 * under another maker's curves that of rates. */
static struct pl_spread plain_rates(const struct pl_speed *s, bool prompts)
{
	bool several = s->n_places > 1 || s->places[0].n > 1, host = false;
	for (uint32_t i = 0; i < s->n_places; i++)
		host = host || s->places[i].first == PL_SPEED_HOST;
	enum pl_answer_class plain = host ? PL_CLASS_OFFLOAD_DECODE : several ? PL_CLASS_MULTI_DECODE : PL_CLASS_DECODE;
	return s->constants->spread[plain + (prompts ? 1 : 0)][s->kinship];
}

struct pl_estimate pl_serve_within(const struct pl_speed *s, enum pl_answer_class c, double median)
{
	bool rate = c == PL_CLASS_SERVED_RATE; /* spread: ln of measured over predicted */
	struct pl_spread w = rate && s->kernels_system ? s->constants->spread[c][pl_speed_kernels(s)]
	                     : rate              ? plain_rates(s, false)
	                     : s->kernels_foreign ? as_times(s->constants->spread[PL_CLASS_SERVED_RATE][PL_KIN_NONE])
	                     : s->kernels_system ? s->constants->spread[c][s->kinship]
	                                         : as_times(plain_rates(s, c == PL_CLASS_SERVED_TTFT || c == PL_CLASS_SPLIT_TTFT));
	return (struct pl_estimate){median, median * exp(w.low_ln), median * exp(w.high_ln)};
}

static void unknown(struct pl_served *ret)
{
	struct pl_estimate none = {NAN, NAN, NAN};
	*ret = (struct pl_served){none, none, none, NAN, NAN, NAN, NAN, NAN, false};
}

static void report(struct loop *l, double replicas, struct pl_served *ret)
{
	double n = l->n_done;
	qsort(l->ttft, l->n_first, sizeof *l->ttft, by_value);
	double e2e_s = l->sum_e2e / n;
	ret->ttft_s = pl_serve_within(l->s, PL_CLASS_SERVED_TTFT, l->sum_ttft / n);
	ret->ttft_p50_s = l->ttft[l->n_first / 2];
	ret->ttft_p99_s = l->ttft[(uint32_t)(0.99 * (l->n_first - 1))];
	ret->tpot_s = pl_serve_within(l->s, PL_CLASS_SERVED_TPOT, l->sum_tpot / n);
	ret->output_tok_s = pl_serve_within(l->s, PL_CLASS_SERVED_RATE, replicas * l->sum_tokens / l->now_s);
	ret->e2e_s = e2e_s;
	ret->running = replicas * l->area / l->now_s;
	ret->prompt_share_frac = l->busy_prompt_s / l->now_s;
	ret->queues = l->queued;
}

int pl_serve_closed_loop(struct pl_arena *a, const struct pl_speed *s, const struct pl_serve_policy *policy,
                         const struct pl_serve_load *load, struct pl_served *ret, struct pl_err *err)
{
	double lanes = pl_serve_lanes(s, load->concurrency), rounds = load->rounds >= 1 ? load->rounds : 10;
	double clients = floor(fmax(1, load->concurrency / lanes) + 0.5);
	double n = load->requests >= 1 ? fmax(clients, floor(load->requests / lanes + 0.5)) : clients * rounds;
	unknown(ret);
	if (pl_speed_unknown(s))
		return 0;
	if (!(n <= 1e7) || !(load->prompt_tokens >= 1) || !(load->output_tokens >= 1))
		return pl_fail(err, PL_ERR_RANGE, "load", "a load of %g clients, prompts of %g and answers of %g tokens cannot be played",
		               load->concurrency, load->prompt_tokens, load->output_tokens);
	struct loop l = {.s = s, .policy = policy, .n = (uint32_t)n, .yield = fmax(1, load->acceptance_length)};
	l.per_seq = load->acceptance_length > 1 ? load->draft_tokens + 1 : 1;
	l.r = PL_NEW_N(a, struct request, l.n);
	l.heap = PL_NEW_N(a, uint32_t, l.n);
	l.queue = PL_NEW_N(a, uint32_t, l.n);
	l.ttft = PL_NEW_N(a, double, l.n);
	if (!l.r || !l.heap || !l.queue || !l.ttft)
		return pl_fail(err, PL_ERR_NOMEM, "load", "out of memory while playing %g requests", n);
	draw_lengths(&l, load);
	for (double i = 0; i < clients; i++)
		arrive(&l);
	play(&l);
	report(&l, lanes, ret);
	return 0;
}
