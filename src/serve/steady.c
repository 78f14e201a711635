/* The steady state of a closed loop in closed form. */
#include <math.h>

#include "serve/serve.h"

/* Seconds one more prompt costs: steps full of prompts, less the decode steps they would have been anyway. */
static double prompt_s(const struct pl_speed *s, const struct pl_serve_policy *policy, double prompt, double running, double depth,
                       double step_s)
{
	double decode = policy->mixed ? running : 0, room = fmax(1, policy->step_tokens - decode);
	double chunk = fmin(room, prompt), n = prompt / chunk;
	struct pl_batch b = {.prefill_tokens = chunk, .prefill_past_tokens = (prompt - chunk) / 2, .prefill_seqs = 1,
	                     .decode_seqs = decode, .decode_depth_tokens = depth};
	double seconds = pl_step_s(s, &b);
	return n * (policy->mixed && running >= 1 ? fmax(seconds - step_s, 0) : seconds);
}

void pl_serve_steady(const struct pl_speed *s, const struct pl_serve_policy *policy, const struct pl_serve_load *load,
                     struct pl_served *ret)
{
	double lanes = pl_serve_lanes(s, load->concurrency), clients = fmax(1, load->concurrency / lanes);
	double mean = load->shortest_frac > 0 && load->shortest_frac < 1 ? (1 + load->shortest_frac) / 2 : 1;
	double prompt = fmax(1, load->prompt_tokens * mean), output = fmax(1, load->output_tokens * mean);
	double yield = fmax(1, load->acceptance_length), depth = prompt + output / 2, running = fmin(clients, policy->max_seqs);
	struct pl_estimate none = {NAN, NAN, NAN};
	*ret = (struct pl_served){none, none, none, NAN, NAN, NAN, NAN, NAN, false};
	if (pl_speed_unknown(s))
		return;
	if (policy->cache_tokens > 0)
		running = fmin(running, fmax(1, policy->cache_tokens / (prompt + output)));
	struct pl_batch b = {.decode_seqs = running, .decode_depth_tokens = depth, .tokens_per_seq = yield > 1 ? load->draft_tokens + 1 : 1};
	double step = pl_step_s(s, &b), extra = prompt_s(s, policy, prompt, running - 1, depth, step);
	double alone = prompt_s(s, policy, prompt, 0, depth, 0);
	double tpot = (step / yield) + (running - 1) / output * extra;
	/* Prompts arrive once an answer; those that meet wait for each other (M/D/1 with few customers). */
	double busy = fmin(running * extra / (output * tpot + extra), 0.95);
	/* A request comes when another has ended, a step has just begun then; one composed before that goes by as well. */
	double look = (policy->ahead ? 2 : 1) + fmax(0, policy->poll_steps - 1) / 2 + policy->wait_steps;
	double ttft = (running > 1 ? look * step : 0) + s->ingest_s * prompt + alone + (running > 1 ? busy / 2 / (1 - busy) * extra : 0);
	if (running < clients) /* the others wait for a place: Little's law over the whole loop */
		ttft += (clients - running) / running * (ttft + tpot * (output - 1));
	double cycle = ttft + tpot * (output - 1), rate = fmin(clients / cycle, running / (alone + tpot * (output - 1)));
	ret->ttft_s = (struct pl_estimate){ttft + s->request_s, NAN, NAN};
	ret->tpot_s = (struct pl_estimate){tpot, NAN, NAN};
	ret->output_tok_s = (struct pl_estimate){lanes * rate * output, NAN, NAN};
	ret->e2e_s = cycle + s->request_s;
	ret->running = lanes * fmin(running, rate * (alone + tpot * (output - 1)));
	ret->prompt_share_frac = busy;
	ret->queues = running < clients;
}
