/* Serving: what one engine does for many requests at once, from the seconds of its steps (plimsoll/speed.h). */
#ifndef PLIMSOLL_SERVE_H
#define PLIMSOLL_SERVE_H

#include <plimsoll/speed.h>

/* How an engine forms its steps. */
struct pl_serve_policy {
	double step_tokens;  /* most tokens of one step (max_num_batched_tokens, chunked_prefill_size, max_num_tokens) */
	double max_seqs;     /* most sequences that run at once in one batch in flight: on one replica, or a stage's share of it */
	double cache_tokens; /* tokens the cache holds for them; 0: no limit known */
	bool mixed;          /* decoding goes on in the steps that compute prompts (vLLM, TensorRT-LLM); else it waits (SGLang) */
	bool whole_prompts;  /* a prompt that does not fit what is left of a step waits for the next one (TensorRT-LLM) */
	bool reserves;       /* a request is admitted when its whole answer has room in the cache (TensorRT-LLM); else when its
	                      * prompt has, and the youngest is computed again when the cache runs over (vLLM, SGLang) */
	bool ahead;          /* the next step is composed while one runs: requests that come meanwhile are seen one step later */
	double poll_steps;   /* decode steps from one look for requests to the next (SGLang's scheduler-recv-interval); 0, 1: each */
	double wait_steps, wait_tokens; /* prompts are held back for so many steps, or until so many tokens of a step are there
	                      * (TensorRT-LLM's batch_wait_timeout_iters, batch_wait_max_tokens_ratio); 0: not */
};
/* The policy of the engine, parameters and layout that s was compiled with. */
void pl_serve_policy_of(const struct pl_speed *s, struct pl_serve_policy *ret);

/* A closed loop: `concurrency` clients, each sends its next request when the last one is answered. */
struct pl_serve_load {
	double prompt_tokens, output_tokens; /* nominal, ≥ 1 */
	double shortest_frac;   /* lengths are even between this share of nominal and nominal; 1: all equal. ]0, 1] */
	double concurrency;     /* ≥ 1, of all replicas together */
	double rounds;          /* requests of each client, ≥ 1: the first ones arrive all at once. Default 10 when 0 */
	double requests;        /* of all clients together, instead of rounds; 0: rounds say it */
	double acceptance_length; /* tokens a step yields with speculation; 0 or 1: none */
	double draft_tokens;    /* K drafted at once; 0 none */
};

/* Times in seconds; all NAN when the speed is not known. */
struct pl_served {
	struct pl_estimate ttft_s;  /* mean over the requests, the waiting included */
	struct pl_estimate tpot_s;  /* mean over the requests of (last token − first token) / (tokens − 1) */
	struct pl_estimate output_tok_s; /* all replicas together, over the whole run */
	double ttft_p50_s, ttft_p99_s;
	double e2e_s;               /* mean from arrival to last token */
	double running;             /* sequences that run at once, mean over time, all replicas */
	double prompt_share_frac;   /* of the time, steps that compute prompts */
	bool queues;                /* some clients wait for room in the cache or among the sequences */
};

/* Plays the loop step by step: steps that compute prompts one by one, stretches of pure decoding at once. Deterministic:
 * lengths come from a low-discrepancy sequence. About 20 × concurrency × rounds / replicas steps. A pipeline of n stages has
 * n batches on their way, each through all stages: they are played as n replicas with a share of the cache. */
int pl_serve_closed_loop(struct pl_arena *a, const struct pl_speed *s, const struct pl_serve_policy *policy,
                         const struct pl_serve_load *load, struct pl_served *ret, struct pl_err *err) PL_MUST_CHECK;

/* The steady state of the same loop in a few steps' time, for searches: no burst, no waiting in line at the start.
 * tpot = T(b) + (b − 1) / output × seconds a prompt adds; ttft = seconds of a prompt / (1 − share of time in prompts). */
void pl_serve_steady(const struct pl_speed *s, const struct pl_serve_policy *policy, const struct pl_serve_load *load,
                     struct pl_served *ret);

/* Prompts and answers on servers of their own. */
struct pl_serve_split {
	const struct pl_speed *prompts, *answers; /* one server of each kind */
	double n_prompts, n_answers;              /* servers, ≥ 1 */
	double prompts_at_once;                   /* prompts one rank computes together, ≥ 1 */
};
/* The same closed loop over both kinds, in closed form: prompts queue for n servers (M/D/n by the busy share), answers run
 * beside each other; Little's law closes it. The hand-over of the cache is not counted. */
void pl_serve_disaggregated(const struct pl_serve_split *split, const struct pl_serve_load *load, struct pl_served *ret);

#endif
