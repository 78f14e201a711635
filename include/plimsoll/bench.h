/* Load on an OpenAI-compatible streaming endpoint, measured from the outside: open loop from the planned send time on (a slow
 * server cannot hide behind a client that waits for it), closed loop, sweeps. */
#ifndef PLIMSOLL_BENCH_H
#define PLIMSOLL_BENCH_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <plimsoll/arena.h>
#include <plimsoll/error.h>

/* Lengths in tokens. */
struct pl_length {
	enum { PL_LENGTH_FIXED = 0, PL_LENGTH_UNIFORM, PL_LENGTH_LOGNORMAL, PL_LENGTH_TRACE } kind;
	double a, b; /* fixed: a; uniform: a to b; lognormal: median a, sigma b of the logarithm; trace: from the trace */
};
/* "512", "128-1024", "lognormal:512,0.6". */
int pl_length_parse(const char *text, struct pl_length *ret, struct pl_err *err) PL_MUST_CHECK;

/* One request of a trace: CSV with the columns arrival_s, prompt_tokens, output_tokens. */
struct pl_trace_row {
	double arrival_s;
	uint32_t prompt_tokens, output_tokens;
};

struct pl_load {
	const char *url;          /* "http://127.0.0.1:8080": /v1/completions or /v1/chat/completions is added */
	const char *model;        /* name the server knows it by; NULL: asked for at /v1/models */
	const char *api_key;      /* NULL none */
	bool chat;                /* messages instead of a prompt */
	bool insecure;            /* do not check the server's certificate */
	double rate_per_s;        /* > 0: open loop, Poisson arrivals at this rate; 0: closed loop */
	uint32_t concurrency;     /* closed loop: clients, each sends when its answer is complete; open loop: most at once, 0 no limit */
	uint64_t n_requests;      /* measured ones; 0: by the duration */
	double duration_s;        /* of sending; 0: by the number */
	uint32_t n_warmup;        /* requests before the measured ones, not counted */
	struct pl_length prompt, output;
	const struct pl_trace_row *trace; /* lengths, and in open loop arrivals, of a trace */
	uint64_t n_trace;
	double timeout_s;         /* of one request; default 600 */
	double slo_ttft_s, slo_tpot_s, slo_e2e_s; /* what counts as good; 0: not asked */
	uint64_t seed;
	double words_per_token;   /* of the generated prompts; 0: found by a first request */
};

enum pl_request_fault {
	PL_REQUEST_OK = 0,
	PL_REQUEST_CONNECT,  /* refused, no route, no name */
	PL_REQUEST_TLS,
	PL_REQUEST_HTTP,     /* another status than 200 */
	PL_REQUEST_TIMEOUT,
	PL_REQUEST_BROKEN,   /* the connection ended in the middle of an answer */
	PL_REQUEST_GARBAGE,  /* no server-sent events, or no JSON in them */
	PL_REQUEST_ENDLESS,  /* more than any answer to this request can be */
	PL_REQUEST_EMPTY,    /* complete, without a token */
	PL_REQUEST_INTERRUPTED, /* the user gave up before it was complete */
	PL_REQUEST_FAULT_COUNT
};
const char *pl_request_fault_name(enum pl_request_fault f); /* "connect", "tls", … */

/* One request; times in seconds from the start of the load, NAN where it did not come to it. */
struct pl_request_times {
	double planned_s, sent_s, first_s, last_s;
	uint32_t prompt_tokens, output_tokens; /* as the server counted, else as events came */
	enum pl_request_fault fault;
	uint16_t status; /* of HTTP, 0 none */
};

struct pl_percentiles {
	double mean, p50, p90, p95, p99, max; /* NAN without data */
};

struct pl_bench_result {
	uint64_t n_ok, n_failed, n_faults[PL_REQUEST_FAULT_COUNT];
	double wall_s;              /* from the first planned send to the last event */
	struct pl_percentiles ttft_s; /* first token, from the planned send (open) or the send (closed) */
	struct pl_percentiles tpot_s; /* (last − first token) / (tokens − 1), a request */
	struct pl_percentiles itl_s;  /* between events, all of them */
	struct pl_percentiles e2e_s;
	double requests_per_s, output_tokens_per_s, prompt_tokens_per_s;
	double goodput_per_s;       /* requests a second that met every SLO; NAN without SLO */
	double good_frac;
	double mean_concurrency;    /* of requests in flight, by Little's law from the times */
	/* The client's own share of it. */
	double client_cpu_frac;     /* of one core */
	struct pl_percentiles lag_s; /* sent − planned, open loop */
	bool client_bound;          /* the client may have been the bottleneck: lag or CPU say so */
	const struct pl_request_times *requests;
	uint64_t n_requests;
	bool interrupted;
};

/* Runs one load. progress (may be NULL) is called about once a second. interrupted: becomes non-zero when the user gives up;
 * what was measured until then is the result. Requests that fail are results; errors are: RANGE (the load makes no sense),
 * ENVIRONMENT (no libcurl, too few file descriptors), NETWORK (nothing answers at all). */
int pl_bench_run(struct pl_arena *a, const struct pl_load *load, volatile const int *interrupted,
                 void (*progress)(void *user, double elapsed_s, uint64_t n_done, uint64_t n_failed, uint32_t n_in_flight, double tokens_per_s),
                 void *user, struct pl_bench_result *ret, struct pl_err *err) PL_MUST_CHECK;

/* ---- the store: every request of every point of every run, in SQLite */

struct pl_store;
/* Opens or makes the file. */
int pl_store_open(const char *path, struct pl_store **ret, struct pl_err *err) PL_MUST_CHECK;
void pl_store_close(struct pl_store *s); /* NULL is fine */
/* A new run; with resume the last one of this configuration (its JSON, byte for byte) and label, where there is one. */
int pl_store_run(struct pl_store *s, const char *config_json, const char *label, bool resume, int64_t *ret_run,
                 struct pl_err *err) PL_MUST_CHECK;
/* Is this point of the run complete already? Then its summary, in the arena. */
bool pl_store_point_done(struct pl_store *s, struct pl_arena *a, int64_t run, const char *point, const char **ret_summary_json);
/* Keeps a point and its requests, in one transaction. */
int pl_store_point(struct pl_store *s, int64_t run, const char *point, const char *summary_json, const struct pl_bench_result *r,
                   struct pl_err *err) PL_MUST_CHECK;

#endif
