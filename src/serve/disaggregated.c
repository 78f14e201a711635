/* Prompts on some servers, answers on others: a closed queueing network of two stations, in closed form. */
#include <math.h>

#include "serve/serve.h"

struct network {
	const struct pl_serve_split *split;
	double prompt, output, clients;
	double prompt_ranks, answer_ranks;
};

static double prompts_step_s(const struct network *n, double together)
{
	struct pl_batch b = {.prefill_tokens = n->prompt * together, .prefill_seqs = together};
	return pl_step_s(n->split->prompts, &b);
}

/* Prompts that a rank computes together when x requests a second arrive: what came while the last step ran. */
static double together_at(const struct network *n, double x)
{
	double most = fmax(1, n->split->prompts_at_once), b = 1;
	for (int i = 0; i < 12; i++)
		b = fmin(fmax(1, x / n->prompt_ranks * prompts_step_s(n, b)), most);
	return b;
}

/* Seconds from arrival to the first token when x requests a second arrive: the step under way, then its own. */
static double ttft_at(const struct network *n, double x)
{
	double b = together_at(n, x), step = prompts_step_s(n, b), busy = fmin(x * step / b / n->prompt_ranks, 0.999);
	return step + (b > 1 ? step / 2 : step * busy / (2 * (1 - busy)));
}

/* Seconds a token when `running` sequences share the answering ranks. */
static double tpot_at(const struct network *n, double running)
{
	struct pl_batch b = {.decode_seqs = fmax(running / n->answer_ranks, 1), .decode_depth_tokens = n->prompt + n->output / 2};
	return pl_step_s(n->split->answers, &b);
}

/* Requests that x a second keep in the system. */
static double held(const struct network *n, double x, double *ret_ttft, double *ret_tpot)
{
	*ret_ttft = ttft_at(n, x);
	double running = fmax(n->clients - x * *ret_ttft, 1);
	*ret_tpot = tpot_at(n, fmin(running, n->clients));
	return x * (*ret_ttft + *ret_tpot * (n->output - 1));
}

void pl_serve_disaggregated(const struct pl_serve_split *split, const struct pl_serve_load *load, struct pl_served *ret)
{
	struct pl_estimate none = {NAN, NAN, NAN};
	double mean = load->shortest_frac > 0 && load->shortest_frac < 1 ? (1 + load->shortest_frac) / 2 : 1, ttft = NAN, tpot = NAN;
	*ret = (struct pl_served){none, none, none, NAN, NAN, NAN, NAN, NAN, false};
	if (pl_speed_unknown(split->prompts) || pl_speed_unknown(split->answers))
		return;
	struct network n = {.split = split, .prompt = fmax(1, load->prompt_tokens * mean), .output = fmax(2, load->output_tokens * mean),
	                    .clients = fmax(1, load->concurrency)};
	n.prompt_ranks = fmax(1, split->n_prompts) * pl_serve_lanes(split->prompts, INFINITY);
	n.answer_ranks = fmax(1, split->n_answers) * pl_serve_lanes(split->answers, INFINITY);
	double most = fmax(1, split->prompts_at_once), full_s = prompts_step_s(&n, most) / most;
	double low = 0, high = 0.999 * n.prompt_ranks / full_s;
	for (int i = 0; i < 50; i++) { /* the rate at which all clients are in the system: it grows with the rate */
		double x = (low + high) / 2;
		if (held(&n, x, &ttft, &tpot) < n.clients)
			low = x;
		else
			high = x;
	}
	double x = (low + high) / 2;
	(void)held(&n, x, &ttft, &tpot);
	if (n.clients > x * (ttft + tpot * (n.output - 1)) * 1.01) /* prompts are the bottleneck: the rest waits there */
		ttft = n.clients / x - tpot * (n.output - 1);
	/* each prompt server reads requests one after the other, and all clients come at once at the start */
	double front_s = split->prompts->request_s + split->prompts->ingest_s * n.prompt, servers = fmax(1, split->n_prompts);
	double busy = fmin(x * front_s / servers, 0.95), rounds = load->rounds >= 1 ? load->rounds : 10;
	double burst = n.clients * fmax(full_s / n.prompt_ranks, front_s / servers) / 2;
	ttft += front_s + front_s * busy / (2 * (1 - busy)) + split->answers->handover_s;
	ttft += fmax(0, burst - ttft) / rounds;
	ret->ttft_s = pl_serve_within(split->prompts, PL_CLASS_SPLIT_TTFT, ttft);
	ret->tpot_s = pl_serve_within(split->answers, PL_CLASS_SPLIT_TPOT, tpot);
	ret->output_tok_s = pl_serve_within(split->answers, PL_CLASS_SERVED_RATE, x * n.output);
	ret->e2e_s = ttft + tpot * (n.output - 1);
	ret->running = x * tpot * (n.output - 1);
	ret->prompt_share_frac = x * full_s / n.prompt_ranks;
	ret->queues = ret->prompt_share_frac > 0.95;
}
