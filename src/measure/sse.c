#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "measure/sse.h"

enum { MAX_LINE = 1 << 20 };

void pl_sse_release(struct pl_sse *s)
{
	free(s->line);
	s->line = NULL;
	s->len = s->cap = 0;
}

/* A token may have no text of its own: a piece of a character, or one that is not shown. Completions send it all the same,
 * chats do not; their first event says the role. */
static bool has_text(const json_t *choice)
{
	static const char *const keys[] = {"content", "reasoning_content", "reasoning", "text"};
	const json_t *delta = json_object_get(choice, "delta");
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
		if (json_string_length(json_object_get(delta ? delta : choice, keys[i])))
			return true;
	}
	if (!delta && json_is_string(json_object_get(choice, "text")))
		return json_is_null(json_object_get(choice, "finish_reason"));
	return json_array_size(json_object_get(delta, "tool_calls")) > 0;
}

static uint32_t whole(const json_t *o, const char *key)
{
	json_int_t v = json_integer_value(json_object_get(o, key));
	return v > 0 && v < UINT32_MAX ? (uint32_t)v : 0;
}

static enum pl_sse_event read_event(struct pl_sse *s, const char *data, size_t n)
{
	json_t *o = json_loadb(data, n, JSON_ALLOW_NUL, NULL); /* a model may say anything, the character 0 too */
	const json_t *usage = json_object_get(o, "usage"), *fault = json_object_get(o, "error");
	enum pl_sse_event e = PL_SSE_NOTHING;
	if (!json_is_object(o)) {
		s->garbage = true;
	} else if (fault) {
		const char *text = json_string_value(json_object_get(fault, "message"));
		size_t len = text ? strlen(text) : 0;
		len = len < sizeof s->error - 1 ? len : sizeof s->error - 1;
		memcpy(s->error, text ? text : "", len);
		s->error[len] = '\0';
		s->garbage = true;
	} else if (has_text(json_array_get(json_object_get(o, "choices"), 0))) {
		s->n_tokens++;
		e = PL_SSE_TOKEN;
	}
	if (json_is_object(usage)) {
		s->usage_prompt = whole(usage, "prompt_tokens");
		s->usage_output = whole(usage, "completion_tokens");
	}
	json_decref(o);
	return e;
}

/* One line without its end (HTML standard, server-sent events): only the field `data` matters here. */
static enum pl_sse_event read_line(struct pl_sse *s, const char *line, size_t n)
{
	if (n && line[n - 1] == '\r')
		n--;
	if (!n || *line == ':')
		return PL_SSE_NOTHING;
	if (*line == '{') { /* no event: a whole answer, most often what a server says when it refuses */
		(void)read_event(s, line, n);
		s->garbage = true;
		return PL_SSE_NOTHING;
	}
	if (n < 5 || memcmp(line, "data:", 5) != 0) {
		bool known = (n >= 6 && !memcmp(line, "event:", 6)) || (n >= 3 && !memcmp(line, "id:", 3)) || (n >= 6 && !memcmp(line, "retry:", 6));
		s->garbage = s->garbage || !known;
		return PL_SSE_NOTHING;
	}
	line += 5;
	n -= 5;
	while (n && *line == ' ') {
		line++;
		n--;
	}
	if (n == 6 && !memcmp(line, "[DONE]", 6)) {
		s->done = true;
		return PL_SSE_DONE;
	}
	return read_event(s, line, n);
}

void pl_sse_end(struct pl_sse *s)
{
	if (s->len && *s->line == '{')
		(void)read_line(s, s->line, s->len);
	s->len = 0;
}

static bool keep(struct pl_sse *s, const char *data, size_t n)
{
	if (s->len + n > MAX_LINE)
		return false;
	if (s->len + n > s->cap) {
		size_t cap = (s->len + n) * 2;
		char *p = realloc(s->line, cap);
		if (!p)
			return false;
		s->line = p;
		s->cap = cap;
	}
	memcpy(s->line + s->len, data, n);
	s->len += n;
	return true;
}

bool pl_sse_take(struct pl_sse *s, const char *data, size_t n, void (*on_event)(void *user, enum pl_sse_event e), void *user)
{
	s->n_bytes += n;
	while (n && !s->garbage) {
		const char *end = memchr(data, '\n', n);
		size_t len = end ? (size_t)(end - data) : n;
		if (!end || s->len) { /* a line in pieces */
			if (!keep(s, data, len)) {
				s->garbage = true;
				break;
			}
		}
		if (end) {
			enum pl_sse_event e = s->len ? read_line(s, s->line, s->len) : read_line(s, data, len);
			s->len = 0;
			if (e != PL_SSE_NOTHING)
				on_event(user, e);
		}
		len += end != NULL;
		data += len;
		n -= len;
	}
	return !s->garbage;
}
