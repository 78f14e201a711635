/* The load client: one thread, epoll, libcurl's socket interface; thousands of streams cost what their bytes cost. */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "measure/load.h"
#include "measure/sse.h"
#include "source/curl.h"

enum { MAX_EVENTS = 256, MAX_HOPELESS = 1000, ANSWER_BYTES_A_TOKEN = 4096, PROBE_WORDS = 200 };

struct request {
	CURL *h;
	char *body;
	struct pl_sse sse;
	struct client *c;
	double planned_s, sent_s, first_s, last_s;
	uint32_t n_words, n_output; /* asked for */
	bool endless;
	struct request *next_free;
};

/* What is being sent now: a request that tells words from tokens, warm-up, the load itself. */
enum phase { PHASE_PROBE, PHASE_WARMUP, PHASE_LOAD };

struct client {
	const struct pl_load *l;
	const struct pl_curl *curl;
	CURLM *multi;
	struct curl_slist *headers;
	int epoll;
	double start_s, timer_s; /* timer: when libcurl wants to be called, INFINITY never */
	char url[1024], model[256];
	struct pl_rng lengths, prompts, arrivals;
	struct request *free_requests, *all[8192];
	uint32_t n_all;
	enum phase phase;
	double words_per_token, next_s, phase_start_s;
	uint64_t n_sent, n_done, n_failed, n_tokens;
	uint32_t n_active, probe_prompt, probe_tokens; /* words of the first request, and what the server counted */
	enum pl_request_fault probe_fault;
	char probe_words[160]; /* the server's own, when it refused */
	struct pl_request_times *times;
	uint64_t n_times, cap_times;
	struct pl_histogram *itl;
	volatile const int *interrupted;
	bool no_memory;
};

static double clock_s(void)
{
	struct timespec t;
	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double now(const struct client *c)
{
	return clock_s() - c->start_s;
}

/* ---- one request ------------------------------------------------------------------------------------------------- */

static void on_event(void *user, enum pl_sse_event e)
{
	struct request *q = user;
	double t = now(q->c);
	if (e == PL_SSE_DONE && isnan(q->first_s) && q->sse.usage_output) /* counted by the server, never shown */
		q->first_s = q->last_s = t;
	if (e != PL_SSE_TOKEN)
		return;
	if (isnan(q->first_s))
		q->first_s = t;
	else if (q->c->phase == PHASE_LOAD)
		pl_histogram_add(q->c->itl, t - q->last_s);
	q->last_s = t;
	q->c->n_tokens++;
}

static size_t on_data(char *data, size_t one, size_t n, void *user)
{
	struct request *q = user;
	(void)one;
	if (!pl_sse_take(&q->sse, data, n, on_event, q))
		return 0;
	q->endless = q->sse.n_bytes > 65536 + (uint64_t)q->n_output * ANSWER_BYTES_A_TOKEN || q->sse.n_tokens > 2 * (uint64_t)q->n_output + 64;
	return q->endless ? 0 : n;
}

static struct request *take_request(struct client *c)
{
	struct request *q = c->free_requests;
	if (q) {
		c->free_requests = q->next_free;
		return q;
	}
	if (c->n_all == sizeof c->all / sizeof *c->all || !(q = calloc(1, sizeof *q)))
		return NULL;
	q->h = c->curl->init();
	if (!q->h) {
		free(q);
		return NULL;
	}
	c->all[c->n_all++] = q;
	return q;
}

static void set_up(struct client *c, struct request *q)
{
	const struct pl_curl *u = c->curl;
	CURL *h = q->h;
	u->reset(h);
	(void)u->setopt(h, CURLOPT_URL, c->url);
	(void)u->setopt(h, CURLOPT_POSTFIELDS, q->body);
	(void)u->setopt(h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(q->body));
	(void)u->setopt(h, CURLOPT_HTTPHEADER, c->headers);
	(void)u->setopt(h, CURLOPT_WRITEFUNCTION, on_data);
	(void)u->setopt(h, CURLOPT_WRITEDATA, q);
	(void)u->setopt(h, CURLOPT_PRIVATE, q);
	(void)u->setopt(h, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	(void)u->setopt(h, CURLOPT_TIMEOUT_MS, (long)(c->l->timeout_s * 1000));
	(void)u->setopt(h, CURLOPT_CONNECTTIMEOUT_MS, 15000L);
	(void)u->setopt(h, CURLOPT_NOSIGNAL, 1L);
	(void)u->setopt(h, CURLOPT_NOPROXY, "localhost,127.0.0.1,::1");
	(void)u->setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
	(void)u->setopt(h, CURLOPT_SSL_VERIFYPEER, c->l->insecure ? 0L : 1L);
	(void)u->setopt(h, CURLOPT_SSL_VERIFYHOST, c->l->insecure ? 0L : 2L);
}

static void lengths_of(struct client *c, struct request *q)
{
	const struct pl_load *l = c->l;
	const struct pl_trace_row *t = l->n_trace ? &l->trace[c->n_sent % l->n_trace] : NULL;
	uint32_t prompt = t ? t->prompt_tokens : pl_length_draw(&l->prompt, &c->lengths);
	q->n_output = t ? t->output_tokens : pl_length_draw(&l->output, &c->lengths);
	if (c->phase == PHASE_PROBE) {
		prompt = c->probe_prompt;
		q->n_output = 1;
	}
	double words = round(prompt * c->words_per_token);
	q->n_words = words < 1 ? 1 : (uint32_t)words;
}

static void send_one(struct client *c, double planned_s)
{
	struct request *q = take_request(c);
	if (!q) {
		c->no_memory = true;
		return;
	}
	lengths_of(c, q);
	q->c = c;
	q->planned_s = planned_s;
	q->first_s = q->last_s = NAN;
	q->endless = false;
	q->sse = (struct pl_sse){.line = q->sse.line, .cap = q->sse.cap};
	q->body = pl_request_body(c->l, c->model, &c->prompts, q->n_words, q->n_output);
	if (!q->body) {
		c->no_memory = true;
		return;
	}
	set_up(c, q);
	q->sent_s = now(c);
	c->n_sent++;
	c->n_active++;
	(void)c->curl->multi_add(c->multi, q->h);
}

static enum pl_request_fault fault_of(const struct request *q, CURLcode code, long status)
{
	switch (code) {
	case CURLE_OK:
		break;
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_CONNECT:
		return PL_REQUEST_CONNECT;
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CACERT_BADFILE:
		return PL_REQUEST_TLS;
	case CURLE_OPERATION_TIMEDOUT:
		return PL_REQUEST_TIMEOUT;
	case CURLE_WRITE_ERROR:
		if (status && status != 200)
			return PL_REQUEST_HTTP;
		return q->endless ? PL_REQUEST_ENDLESS : PL_REQUEST_GARBAGE;
	case CURLE_WEIRD_SERVER_REPLY:
	case CURLE_UNSUPPORTED_PROTOCOL:
		return PL_REQUEST_GARBAGE;
	default:
		return PL_REQUEST_BROKEN;
	}
	if (status != 200)
		return PL_REQUEST_HTTP;
	if (q->sse.garbage)
		return PL_REQUEST_GARBAGE;
	if (!q->sse.done)
		return PL_REQUEST_BROKEN;
	return q->sse.n_tokens || q->sse.usage_output ? PL_REQUEST_OK : PL_REQUEST_EMPTY;
}

static void keep_times(struct client *c, const struct request *q, enum pl_request_fault fault, long status)
{
	if (c->n_times == c->cap_times) {
		uint64_t cap = c->cap_times ? c->cap_times * 2 : 1024;
		struct pl_request_times *p = realloc(c->times, cap * sizeof *p);
		if (!p) {
			c->no_memory = true;
			return;
		}
		c->times = p;
		c->cap_times = cap;
	}
	c->times[c->n_times++] = (struct pl_request_times){
	    .planned_s = q->planned_s - c->phase_start_s,
	    .sent_s = q->sent_s - c->phase_start_s,
	    .first_s = q->first_s - c->phase_start_s,
	    .last_s = q->last_s - c->phase_start_s,
	    .prompt_tokens = q->sse.usage_prompt ? q->sse.usage_prompt : (uint32_t)(q->n_words / c->words_per_token),
	    .output_tokens = q->sse.usage_output ? q->sse.usage_output : q->sse.n_tokens,
	    .fault = fault,
	    .status = (uint16_t)status,
	};
}

static void finish(struct client *c, struct request *q, enum pl_request_fault fault, long status)
{
	(void)c->curl->multi_remove(c->multi, q->h);
	if (c->phase == PHASE_LOAD)
		keep_times(c, q, fault, status);
	if (c->phase == PHASE_PROBE) {
		if (status != 200)
			pl_sse_end(&q->sse);
		c->probe_tokens = q->sse.usage_prompt;
		c->probe_fault = fault;
		memcpy(c->probe_words, q->sse.error, sizeof c->probe_words);
	}
	free(q->body);
	q->body = NULL;
	q->next_free = c->free_requests;
	c->free_requests = q;
	c->n_active--;
	c->n_done++;
	c->n_failed += fault != PL_REQUEST_OK;
}

static void collect(struct client *c)
{
	int left;
	for (CURLMsg *m; (m = c->curl->multi_info_read(c->multi, &left));) {
		char *user = NULL;
		long status = 0;
		if (m->msg != CURLMSG_DONE)
			continue;
		CURLcode code = m->data.result;
		(void)c->curl->getinfo(m->easy_handle, CURLINFO_PRIVATE, &user);
		(void)c->curl->getinfo(m->easy_handle, CURLINFO_RESPONSE_CODE, &status);
		struct request *q = (struct request *)(void *)user;
		finish(c, q, fault_of(q, code, status), status);
	}
}

/* ---- the loop ---------------------------------------------------------------------------------------------------- */

static int on_socket(CURL *h, curl_socket_t fd, int what, void *user, void *socket_user)
{
	struct client *c = user;
	struct epoll_event e = {.events = (what & CURL_POLL_IN ? EPOLLIN : 0u) | (what & CURL_POLL_OUT ? EPOLLOUT : 0u), .data.fd = fd};
	(void)h;
	(void)socket_user;
	if (what == CURL_POLL_REMOVE)
		(void)epoll_ctl(c->epoll, EPOLL_CTL_DEL, fd, NULL);
	else if (epoll_ctl(c->epoll, EPOLL_CTL_MOD, fd, &e) && errno == ENOENT)
		(void)epoll_ctl(c->epoll, EPOLL_CTL_ADD, fd, &e);
	return 0;
}

static int on_timer(CURLM *m, long ms, void *user)
{
	struct client *c = user;
	(void)m;
	c->timer_s = ms < 0 ? INFINITY : now(c) + (double)ms / 1000;
	return 0;
}

static void wait_and_act(struct client *c, double until_s)
{
	struct epoll_event events[MAX_EVENTS];
	int running;
	double wait = fmin(until_s, c->timer_s) - now(c);
	wait = wait < 0 ? 0 : wait > 1 ? 1 : wait;
	const struct timespec t = {.tv_sec = (time_t)wait, .tv_nsec = (long)((wait - floor(wait)) * 1e9)};
	int n = epoll_pwait2(c->epoll, events, MAX_EVENTS, &t, NULL);
	for (int i = 0; i < n; i++) {
		int bits = (events[i].events & (EPOLLIN | EPOLLHUP) ? CURL_CSELECT_IN : 0) | (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
		           (events[i].events & EPOLLERR ? CURL_CSELECT_ERR : 0);
		(void)c->curl->multi_socket_action(c->multi, events[i].data.fd, bits, &running);
	}
	if (now(c) >= c->timer_s) {
		c->timer_s = INFINITY;
		(void)c->curl->multi_socket_action(c->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	}
	collect(c);
}

static bool wants_more(const struct client *c)
{
	const struct pl_load *l = c->l;
	if (c->phase == PHASE_PROBE)
		return c->n_sent < 1;
	if (c->phase == PHASE_WARMUP)
		return c->n_sent < l->n_warmup;
	if (l->n_requests)
		return c->n_sent < l->n_requests;
	return now(c) - c->phase_start_s < l->duration_s;
}

/* When the next request of an open loop is due; arrivals of a trace start with its first. */
static double arrival_after(struct client *c, double last_s)
{
	const struct pl_load *l = c->l;
	if (!l->n_trace)
		return last_s + pl_rng_exponential(&c->arrivals, 1 / l->rate_per_s);
	if (c->n_sent >= l->n_trace)
		return INFINITY;
	return c->phase_start_s + l->trace[c->n_sent].arrival_s - l->trace[0].arrival_s;
}

static void send_due(struct client *c)
{
	const struct pl_load *l = c->l;
	bool open = c->phase == PHASE_LOAD && l->rate_per_s > 0;
	uint32_t most = c->phase == PHASE_PROBE ? 1 : l->concurrency ? l->concurrency : UINT32_MAX;
	while (wants_more(c) && c->n_active < most && !c->no_memory && (!open || c->next_s <= now(c))) {
		send_one(c, open ? c->next_s : now(c));
		if (open)
			c->next_s = arrival_after(c, c->next_s);
	}
}

static void drop_active(struct client *c)
{
	for (uint32_t i = 0; i < c->n_all; i++)
		if (c->all[i]->body)
			finish(c, c->all[i], PL_REQUEST_INTERRUPTED, 0);
}

typedef void progress_fn(void *user, double elapsed_s, uint64_t n_done, uint64_t n_failed, uint32_t n_in_flight, double tokens_per_s);

/* False when the user gave up, or nothing works. */
static bool run_phase(struct client *c, enum phase phase, progress_fn *progress, void *user)
{
	double said = now(c);
	uint64_t said_tokens = c->n_tokens;
	c->phase = phase;
	c->n_sent = c->n_done = c->n_failed = 0;
	c->phase_start_s = c->next_s = now(c);
	while (wants_more(c) || c->n_active) {
		send_due(c);
		double due = phase == PHASE_LOAD && c->l->rate_per_s > 0 && wants_more(c) ? c->next_s : INFINITY;
		wait_and_act(c, due);
		double t = now(c);
		if (progress && phase == PHASE_LOAD && t - said >= 1) {
			progress(user, t - c->phase_start_s, c->n_done, c->n_failed, c->n_active, (double)(c->n_tokens - said_tokens) / (t - said));
			said = t;
			said_tokens = c->n_tokens;
		}
		bool hopeless = c->n_failed >= MAX_HOPELESS && c->n_failed == c->n_done;
		if ((c->interrupted && *c->interrupted) || c->no_memory || hopeless || (isinf(due) && due > 0 && phase == PHASE_LOAD && c->l->n_trace && c->n_sent >= c->l->n_trace && !c->n_active)) {
			drop_active(c);
			return !(c->interrupted && *c->interrupted) && !c->no_memory;
		}
	}
	return true;
}

/* ---- before and after -------------------------------------------------------------------------------------------- */

static int check(const struct pl_load *l, struct pl_err *err)
{
	struct rlimit r;
	if (!(l->rate_per_s >= 0) || l->rate_per_s > 1e5 || (!(l->rate_per_s > 0) && !l->concurrency))
		return pl_fail(err, PL_ERR_RANGE, "load", "neither a rate (open loop) nor a number of clients (closed loop) is given");
	if (!l->n_requests && !(l->duration_s > 0))
		return pl_fail(err, PL_ERR_RANGE, "load", "neither a number of requests nor a duration is given");
	if (l->concurrency > 8000)
		return pl_fail(err, PL_ERR_RANGE, "--concurrency", "%u streams asked, at most 8000 are kept", l->concurrency);
	if (!getrlimit(RLIMIT_NOFILE, &r) && r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &r);
	}
	if (!getrlimit(RLIMIT_NOFILE, &r) && r.rlim_cur < (rlim_t)l->concurrency + 64)
		return pl_fail(err, PL_ERR_ENVIRONMENT, "ulimit -n", "%u streams need more than the %llu open files allowed", l->concurrency,
		               (unsigned long long)r.rlim_cur);
	return 0;
}

static int find_model(struct client *c, struct pl_err *err)
{
	char url[1024], *body = malloc(1 << 20);
	long status = 0;
	if (!body)
		return pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory");
	(void)snprintf(url, sizeof url, "%s/v1/models", c->l->url);
	int rc = pl_http_get(url, c->l->api_key, 10, body, 1 << 20, &status, err);
	json_t *o = rc ? NULL : json_loads(body, 0, NULL);
	const char *id = json_string_value(json_object_get(json_array_get(json_object_get(o, "data"), 0), "id"));
	(void)snprintf(c->model, sizeof c->model, "%s", c->l->model ? c->l->model : id ? id : "");
	if (!rc && !status && !c->l->model)
		rc = pl_fail(err, PL_ERR_NETWORK, c->l->url, "nothing answers there");
	else if (!rc && !c->l->model && !id)
		rc = pl_fail(err, PL_ERR_NETWORK, url, "the server answers %ld and names no model; name it with --model", status);
	json_decref(o);
	free(body);
	return rc;
}

static int open_client(struct client *c, struct pl_err *err)
{
	const struct pl_load *l = c->l;
	char key[600];
	c->start_s = clock_s();
	c->timer_s = INFINITY;
	c->words_per_token = l->words_per_token > 0 ? l->words_per_token : 1;
	pl_rng_seed(&c->lengths, l->seed * 4);
	pl_rng_seed(&c->prompts, l->seed * 4 + 1);
	pl_rng_seed(&c->arrivals, l->seed * 4 + 2);
	(void)snprintf(c->url, sizeof c->url, "%s%s", l->url, l->chat ? "/v1/chat/completions" : "/v1/completions");
	if (!(c->curl = pl_curl_open(l->url, err)))
		return -PL_ERR_ENVIRONMENT;
	int rc = find_model(c, err);
	if (rc)
		return rc;
	c->epoll = epoll_create1(EPOLL_CLOEXEC);
	c->multi = c->curl->multi_init();
	c->itl = calloc(1, sizeof *c->itl);
	if (c->epoll < 0 || !c->multi || !c->itl)
		return pl_fail(err, PL_ERR_NOMEM, l->url, "out of memory");
	c->headers = c->curl->append(NULL, "Content-Type: application/json");
	c->headers = c->curl->append(c->headers, "Accept: text/event-stream");
	c->headers = c->curl->append(c->headers, "Expect:");
	if (l->api_key && !strpbrk(l->api_key, "\r\n")) {
		(void)snprintf(key, sizeof key, "Authorization: Bearer %.560s", l->api_key);
		c->headers = c->curl->append(c->headers, key);
	}
	(void)c->curl->multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	(void)c->curl->multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c);
	(void)c->curl->multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, on_timer);
	(void)c->curl->multi_setopt(c->multi, CURLMOPT_TIMERDATA, c);
	(void)c->curl->multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, (long)(l->concurrency ? l->concurrency : 1024));
	return 0;
}

static void close_client(struct client *c)
{
	for (uint32_t i = 0; i < c->n_all; i++) {
		if (c->all[i]->body)
			(void)c->curl->multi_remove(c->multi, c->all[i]->h);
		c->curl->cleanup(c->all[i]->h);
		pl_sse_release(&c->all[i]->sse);
		free(c->all[i]->body);
		free(c->all[i]);
	}
	if (c->multi)
		(void)c->curl->multi_cleanup(c->multi);
	if (c->headers)
		c->curl->free_list(c->headers);
	if (c->epoll >= 0)
		(void)close(c->epoll);
	free(c->times);
	free(c->itl);
	free(c);
}

static double cpu_s(void)
{
	struct rusage u;
	if (getrusage(RUSAGE_SELF, &u))
		return NAN;
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + 1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static int measure(struct client *c, progress_fn *progress, void *user, struct pl_arena *a, struct pl_bench_result *ret, struct pl_err *err)
{
	bool on = true;
	if (!(c->l->words_per_token > 0)) {
		c->probe_prompt = PROBE_WORDS;
		on = run_phase(c, PHASE_PROBE, NULL, NULL);
		if (on && c->probe_fault == PL_REQUEST_HTTP) { /* perhaps more than a short context holds, where every letter is a token */
			c->probe_prompt = PROBE_WORDS / 8;
			on = run_phase(c, PHASE_PROBE, NULL, NULL);
		}
		if (on && c->n_failed)
			return pl_fail(err, PL_ERR_NETWORK, c->url, "the first request failed: %s%s%s", pl_request_fault_name(c->probe_fault),
			               *c->probe_words ? ": " : "", c->probe_words);
		if (c->probe_tokens > 20)
			c->words_per_token = (double)c->probe_prompt / c->probe_tokens;
	}
	on = on && run_phase(c, PHASE_WARMUP, NULL, NULL);
	double cpu = cpu_s(), wall = clock_s();
	on = on && run_phase(c, PHASE_LOAD, progress, user);
	cpu = cpu_s() - cpu;
	wall = clock_s() - wall;
	if (c->no_memory)
		return pl_fail(err, PL_ERR_NOMEM, c->l->url, "out of memory");
	struct pl_request_times *times = PL_NEW_N(a, struct pl_request_times, c->n_times + 1);
	if (!times)
		return pl_fail(err, PL_ERR_NOMEM, c->l->url, "out of memory");
	if (c->n_times)
		memcpy(times, c->times, c->n_times * sizeof *times);
	*ret = (struct pl_bench_result){.requests = times, .n_requests = c->n_times, .interrupted = !on,
	                                .client_cpu_frac = wall > 0 ? cpu / wall : 0, .itl_s = pl_histogram_percentiles(c->itl)};
	pl_bench_summarise(a, c->l, ret);
	return pl_arena_failed(a) ? pl_fail(err, PL_ERR_NOMEM, c->l->url, "out of memory") : 0;
}

int pl_bench_run(struct pl_arena *a, const struct pl_load *load, volatile const int *interrupted, progress_fn *progress, void *user,
                 struct pl_bench_result *ret, struct pl_err *err)
{
	struct pl_load l = *load;
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	l.timeout_s = l.timeout_s > 0 ? l.timeout_s : 600;
	int rc = check(&l, err);
	struct client *c = rc ? NULL : calloc(1, sizeof *c);
	if (!c)
		return rc ? rc : pl_fail(err, PL_ERR_NOMEM, l.url, "out of memory");
	(void)sigaction(SIGPIPE, &ignore, NULL); /* a server that closes early is a result */
	c->l = &l;
	c->epoll = -1;
	c->interrupted = interrupted;
	rc = open_client(c, err);
	rc = rc ? rc : measure(c, progress, user, a, ret, err);
	close_client(c);
	return rc;
}
