/* Headers of remote files by HTTP range. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "source/curl.h"
#include "source/source.h"

enum { CONNECT_TIMEOUT_S = 15, TOTAL_TIMEOUT_S = 120, LOW_SPEED_BYTES_PER_S = 256, LOW_SPEED_S = 20, MAX_REDIRECTS = 5 };

/* What arrives of one request. */
struct body {
	struct pl_file *f;
	uint64_t want_bytes; /* stop when this much is there: a server may ignore the range and send everything */
	uint64_t total_bytes; /* from Content-Range, else Content-Length */
	bool ranged;
};

static size_t on_data(char *data, size_t one, size_t n, void *user)
{
	struct body *b = user;
	uint64_t room = b->want_bytes - b->f->have_bytes, take = pl_min_u64(n, room);
	(void)one;
	memcpy(b->f->data + b->f->have_bytes, data, (size_t)take);
	b->f->have_bytes += take;
	return take == n ? n : 0; /* enough: curl ends the transfer */
}

static size_t on_header(char *line, size_t one, size_t n, void *user)
{
	struct body *b = user;
	unsigned long long total;
	char copy[256];
	(void)one;
	(void)snprintf(copy, sizeof copy, "%.*s", (int)(n < sizeof copy ? n : sizeof copy - 1), line);
	if (!strncasecmp(copy, "content-range:", 14)) {
		const char *slash = strchr(copy, '/');
		if (slash && sscanf(slash + 1, "%llu", &total) == 1) {
			b->total_bytes = total;
			b->ranged = true;
		}
	} else if (!strncasecmp(copy, "content-length:", 15) && !b->ranged && sscanf(copy + 15, "%llu", &total) == 1) {
		b->total_bytes = total;
	} else if (!strncmp(copy, "HTTP/", 5)) { /* the answer after a redirect counts */
		b->total_bytes = 0;
		b->ranged = false;
	}
	return n;
}

static struct curl_slist *token_header(const struct pl_curl *c, const char *url)
{
	const char *token = getenv("HF_TOKEN"), *endpoint = getenv("HF_ENDPOINT");
	char line[512];
	if (!endpoint || !*endpoint)
		endpoint = "https://huggingface.co";
	/* the token goes to its own host only */
	if (!token || !*token || strncmp(url, endpoint, strlen(endpoint)) != 0 || strpbrk(token, "\r\n"))
		return NULL;
	(void)snprintf(line, sizeof line, "Authorization: Bearer %.400s", token);
	return c->append(NULL, line);
}

static int judge(const struct pl_curl *c, CURL *h, CURLcode code, struct body *b, uint64_t from, struct pl_err *err)
{
	long status = 0;
	struct pl_file *f = b->f;
	(void)c->getinfo(h, CURLINFO_RESPONSE_CODE, &status);
	bool stopped = code == CURLE_WRITE_ERROR && f->have_bytes >= b->want_bytes;
	if (code && !stopped)
		return pl_fail(err, PL_ERR_NETWORK, f->name, "the server could not be read: %s", c->text(code));
	if (status == 401 || status == 403)
		return pl_fail(err, PL_ERR_NETWORK, f->name, "the server answers %ld: the repository needs a token (HF_TOKEN) or consent",
		               status);
	if (status != 200 && status != 206)
		return pl_fail(err, PL_ERR_NETWORK, f->name, "the server answers %ld", status);
	if (status == 200 && from)
		return pl_fail(err, PL_ERR_NETWORK, f->name, "the server ignores ranges, so that only the first part can be read");
	if (b->total_bytes)
		f->total_bytes = b->total_bytes;
	if (!f->total_bytes)
		f->total_bytes = f->have_bytes;
	if (f->have_bytes < pl_min_u64(b->want_bytes, f->total_bytes))
		return pl_fail(err, PL_ERR_NETWORK, f->name, "the server closed after %llu of %llu bytes", (unsigned long long)f->have_bytes,
		               (unsigned long long)f->total_bytes);
	return 0;
}

static int get(struct pl_file *f, uint64_t want, struct pl_err *err)
{
	char range[64];
	uint64_t from = f->have_bytes;
	struct body b = {.f = f, .want_bytes = want};
	uint8_t *data = realloc(f->data, (size_t)want);
	if (!data)
		return pl_fail(err, PL_ERR_NOMEM, f->name, "out of memory for a header of %llu bytes", (unsigned long long)want);
	f->data = data;
	const struct pl_curl *c = pl_curl_open(f->name, err);
	if (!c)
		return -PL_ERR_ENVIRONMENT;
	CURL *h = c->init();
	if (!h)
		return pl_fail(err, PL_ERR_NOMEM, f->name, "out of memory");
	struct curl_slist *headers = token_header(c, f->name);
	(void)snprintf(range, sizeof range, "%llu-%llu", (unsigned long long)from, (unsigned long long)(want - 1));
	bool https = !strncmp(f->name, "https://", 8);
	(void)c->setopt(h, CURLOPT_URL, f->name);
	(void)c->setopt(h, CURLOPT_RANGE, range);
	(void)c->setopt(h, CURLOPT_WRITEFUNCTION, on_data);
	(void)c->setopt(h, CURLOPT_WRITEDATA, &b);
	(void)c->setopt(h, CURLOPT_HEADERFUNCTION, on_header);
	(void)c->setopt(h, CURLOPT_HEADERDATA, &b);
	(void)c->setopt(h, CURLOPT_HTTPHEADER, headers);
	(void)c->setopt(h, CURLOPT_FOLLOWLOCATION, 1L);
	(void)c->setopt(h, CURLOPT_MAXREDIRS, (long)MAX_REDIRECTS);
	(void)c->setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
	(void)c->setopt(h, CURLOPT_REDIR_PROTOCOLS_STR, https ? "https" : "http,https"); /* never back to plain text */
	(void)c->setopt(h, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_TIMEOUT_S);
	(void)c->setopt(h, CURLOPT_TIMEOUT, (long)TOTAL_TIMEOUT_S);
	(void)c->setopt(h, CURLOPT_LOW_SPEED_LIMIT, (long)LOW_SPEED_BYTES_PER_S);
	(void)c->setopt(h, CURLOPT_LOW_SPEED_TIME, (long)LOW_SPEED_S);
	(void)c->setopt(h, CURLOPT_NOSIGNAL, 1L);
	(void)c->setopt(h, CURLOPT_USERAGENT, "plimsoll");
	CURLcode code = c->perform(h);
	int rc = judge(c, h, code, &b, from, err);
	c->free_list(headers);
	c->cleanup(h);
	return rc;
}

int pl_remote_open(struct pl_loaded *l, const char *url, struct pl_file **ret, struct pl_err *err)
{
	enum { FIRST = 256 << 10 };
	struct pl_file *f = calloc(1, sizeof *f);
	if (!f || !(f->name = strdup(url))) {
		free(f);
		return pl_fail(err, PL_ERR_NOMEM, url, "out of memory");
	}
	f->fd = -1;
	f->next = l->files;
	l->files = f;
	*ret = f;
	return get(f, FIRST, err);
}

int pl_remote_more(struct pl_file *f, uint64_t want, struct pl_err *err)
{
	return get(f, want, err);
}
