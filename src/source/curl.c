#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "source/curl.h"

static struct pl_curl loaded;

static bool load(void *library)
{
	const struct {
		const char *name;
		void *to;
	} list[] = {
	    {"curl_easy_init", &loaded.init},
	    {"curl_easy_setopt", &loaded.setopt},
	    {"curl_easy_perform", &loaded.perform},
	    {"curl_easy_getinfo", &loaded.getinfo},
	    {"curl_easy_reset", &loaded.reset},
	    {"curl_easy_cleanup", &loaded.cleanup},
	    {"curl_easy_strerror", &loaded.text},
	    {"curl_slist_append", &loaded.append},
	    {"curl_slist_free_all", &loaded.free_list},
	    {"curl_multi_init", &loaded.multi_init},
	    {"curl_multi_setopt", &loaded.multi_setopt},
	    {"curl_multi_add_handle", &loaded.multi_add},
	    {"curl_multi_remove_handle", &loaded.multi_remove},
	    {"curl_multi_socket_action", &loaded.multi_socket_action},
	    {"curl_multi_assign", &loaded.multi_assign},
	    {"curl_multi_perform", &loaded.multi_perform},
	    {"curl_multi_poll", &loaded.multi_poll},
	    {"curl_multi_info_read", &loaded.multi_info_read},
	    {"curl_multi_cleanup", &loaded.multi_cleanup},
	};
	for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
		void *s = dlsym(library, list[i].name);
		/* POSIX lets a data pointer from dlsym hold a function; ISO C has no cast for it. */
		memcpy(list[i].to, &s, sizeof s);
		if (!s)
			return false;
	}
	return true;
}

const struct pl_curl *pl_curl_open(const char *where, struct pl_err *err)
{
	if (loaded.multi_cleanup)
		return &loaded;
	void *library = dlopen("libcurl.so.4", RTLD_LAZY | RTLD_LOCAL);
	if (!library) {
		(void)pl_fail(err, PL_ERR_ENVIRONMENT, where, "libcurl is needed: install the package libcurl4");
		return NULL;
	}
	if (load(library))
		return &loaded;
	memset(&loaded, 0, sizeof loaded);
	(void)pl_fail(err, PL_ERR_ENVIRONMENT, where, "the installed libcurl is too old");
	return NULL;
}

struct text {
	char *buf;
	size_t have, size;
};

static size_t on_data(char *data, size_t one, size_t n, void *user)
{
	struct text *t = user;
	size_t room = t->size - 1 - t->have, take = n < room ? n : room;
	(void)one;
	memcpy(t->buf + t->have, data, take);
	t->have += take;
	t->buf[t->have] = '\0';
	return take == n ? n : 0;
}

int pl_http_get(const char *url, const char *key, double limit_s, char *buf, size_t size, long *ret_status, struct pl_err *err)
{
	const struct pl_curl *c = pl_curl_open(url, err);
	struct text body = {buf, 0, size};
	struct curl_slist *headers = NULL;
	char line[512];
	if (!c)
		return -PL_ERR_ENVIRONMENT;
	CURL *h = c->init();
	if (!h)
		return pl_fail(err, PL_ERR_NOMEM, url, "out of memory");
	buf[0] = '\0';
	*ret_status = 0;
	if (key && !strpbrk(key, "\r\n")) {
		(void)snprintf(line, sizeof line, "Authorization: Bearer %.480s", key);
		headers = c->append(NULL, line);
	}
	(void)c->setopt(h, CURLOPT_URL, url);
	(void)c->setopt(h, CURLOPT_HTTPHEADER, headers);
	(void)c->setopt(h, CURLOPT_WRITEFUNCTION, on_data);
	(void)c->setopt(h, CURLOPT_WRITEDATA, &body);
	(void)c->setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
	(void)c->setopt(h, CURLOPT_TIMEOUT_MS, (long)(limit_s * 1000));
	(void)c->setopt(h, CURLOPT_NOSIGNAL, 1L);
	(void)c->setopt(h, CURLOPT_NOPROXY, "localhost,127.0.0.1,::1");
	(void)c->setopt(h, CURLOPT_USERAGENT, "plimsoll");
	(void)c->perform(h); /* no answer is an answer: status 0 */
	(void)c->getinfo(h, CURLINFO_RESPONSE_CODE, ret_status);
	c->free_list(headers);
	c->cleanup(h);
	return 0;
}
