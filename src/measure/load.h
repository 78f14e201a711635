/* Inside the load client: random numbers, prompts, percentiles. */
#ifndef PLIMSOLL_MEASURE_LOAD_H
#define PLIMSOLL_MEASURE_LOAD_H

#include <plimsoll/bench.h>

struct pl_rng {
	uint64_t s[4];
};
void pl_rng_seed(struct pl_rng *r, uint64_t seed);
uint64_t pl_rng_next(struct pl_rng *r);
double pl_rng_unit(struct pl_rng *r); /* in (0, 1) */
double pl_rng_exponential(struct pl_rng *r, double mean);
uint32_t pl_length_draw(const struct pl_length *l, struct pl_rng *r);

/* Times between events: thousands a second, kept as counts in classes 1 % wide from 1 µs to 1000 s. */
enum { PL_HISTOGRAM_CLASSES = 2100 };
struct pl_histogram {
	uint64_t counts[PL_HISTOGRAM_CLASSES], n;
	double sum_s, max_s;
};
void pl_histogram_add(struct pl_histogram *h, double s);
struct pl_percentiles pl_histogram_percentiles(const struct pl_histogram *h);
/* Exact, by the nearest rank; sorts the values. */
struct pl_percentiles pl_percentiles_of(double *values, uint64_t n);

/* The JSON body of a request: n_words of a prompt drawn from the generator, n_output tokens asked for. malloc'ed. */
char *pl_request_body(const struct pl_load *l, const char *model, struct pl_rng *r, uint32_t n_words, uint32_t n_output);
/* Everything a result says of its requests, ITL apart. Overwrites the result but for requests and client's figures. */
void pl_bench_summarise(struct pl_arena *a, const struct pl_load *l, struct pl_bench_result *r);

#endif
