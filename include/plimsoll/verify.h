/* Plan against truth, on one running engine: what the plan said, what the engine's log, the driver, the kernel and a short
 * load say, and how far they are apart. */
#ifndef PLIMSOLL_VERIFY_H
#define PLIMSOLL_VERIFY_H

#include <plimsoll/bench.h>
#include <plimsoll/engine.h>
#include <plimsoll/probe.h>

/* One number on both sides; NAN where a side is silent. */
struct pl_check {
	const char *metric;   /* "model_bytes", "decode_tok_s" … : its unit is its last word */
	const char *where;    /* "GPU 0 (CUDA0)", "host", "fullest GPU", NULL: the engine as a whole; not translated */
	const char *source;   /* "log", "driver", "kernel", "load"; not translated */
	double predicted, low, high; /* low and high: the 80 % interval, NAN none */
	double measured;
	double error_frac;    /* (predicted − measured) / measured, NAN unknown */
	bool within;          /* in the interval, or within 3 % or 16 MiB where none is stated; resident memory: no more than planned */
	const char *cause;    /* translated: what is known to part them; NULL nothing */
};

struct pl_verify_request {
	const struct pl_engine *engine;
	const char *plan_json;                 /* as `plan --json` prints it */
	const char *log;                       /* text of the engine's log, may be NULL */
	size_t log_len;
	int64_t pid;                           /* 0: not asked */
	struct pl_facts *facts;                /* for the driver's view of the process; NULL: not asked */
	const struct pl_bench_result *load;    /* one client; NULL: not asked */
	double load_prompt_tokens, load_answer_tokens; /* mean lengths */
	double others_busy_frac;               /* share of the processors that other programs had meanwhile; NAN or 0 not known */
	const struct pl_machine *machine;      /* for rows to share; NULL: not known */
};

/* Tokens of a prompt that the plan's speed is stated for; 512 where it states none. */
double pl_verify_prompt_tokens(const char *plan_json);

int pl_verify(struct pl_arena *a, const struct pl_verify_request *req, struct pl_check **ret, uint32_t *ret_n,
              struct pl_err *err) PL_MUST_CHECK;

/* Processor time of a moment, for others_busy_frac. */
struct pl_busy {
	double total_ticks, idle_ticks, known_ticks; /* of all processors; of the engine and of this program; NAN unknown */
};
void pl_busy_read(int64_t engine_pid, struct pl_busy *ret);
double pl_busy_others_frac(const struct pl_busy *before, const struct pl_busy *after);

/* One row of data/measurements/local_perf.csv a measured speed: the plan's model, devices, precision and options, the engine,
 * its build and the speed; no names of people, hosts, files or networks. header: with the line of columns. */
const char *pl_share_rows(struct pl_arena *a, const struct pl_verify_request *req, const struct pl_check *checks, uint32_t n,
                          const char *date, bool header);

#endif
