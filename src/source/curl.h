/* libcurl, loaded when it is first needed: linking it would cost more than a whole plan. */
#ifndef PLIMSOLL_SOURCE_CURL_H
#define PLIMSOLL_SOURCE_CURL_H

#include <curl/curl.h>

#include <plimsoll/error.h>

struct pl_curl {
	__typeof__(&curl_easy_init) init;
	__typeof__(&curl_easy_setopt) setopt;
	__typeof__(&curl_easy_perform) perform;
	__typeof__(&curl_easy_getinfo) getinfo;
	__typeof__(&curl_easy_reset) reset;
	__typeof__(&curl_easy_cleanup) cleanup;
	__typeof__(&curl_easy_strerror) text;
	__typeof__(&curl_slist_append) append;
	__typeof__(&curl_slist_free_all) free_list;
	__typeof__(&curl_multi_init) multi_init;
	__typeof__(&curl_multi_setopt) multi_setopt;
	__typeof__(&curl_multi_add_handle) multi_add;
	__typeof__(&curl_multi_remove_handle) multi_remove;
	__typeof__(&curl_multi_socket_action) multi_socket_action;
	__typeof__(&curl_multi_assign) multi_assign;
	__typeof__(&curl_multi_perform) multi_perform;
	__typeof__(&curl_multi_poll) multi_poll;
	__typeof__(&curl_multi_info_read) multi_info_read;
	__typeof__(&curl_multi_cleanup) multi_cleanup;
};

/* The functions, or NULL with the fault (ENVIRONMENT) when the library is missing or too old. Stays loaded: unloading TLS
 * libraries is not safe. where: what it is needed for. */
const struct pl_curl *pl_curl_open(const char *where, struct pl_err *err);

/* One small GET, without following redirects: the status (0: no answer) and at most size - 1 bytes of the body, cut. key
 * (may be NULL) goes as a bearer token. A server that does not answer is no error, a missing library is. */
int pl_http_get(const char *url, const char *key, double limit_s, char *buf, size_t size, long *ret_status, struct pl_err *err)
    PL_MUST_CHECK;

#endif
