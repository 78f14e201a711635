/* JSON values as YAML, written by libyaml. */
#include <string.h>
#include <strings.h>

#include <yaml.h>

#include "emit/job.h"

struct sink {
	struct pl_arena *a;
	char *text;
	size_t len, cap;
};

static int take(void *data, unsigned char *bytes, size_t n)
{
	struct sink *s = data;
	if (s->len + n + 1 > s->cap) {
		size_t cap = (s->len + n + 1) * 2;
		char *grown = pl_arena_grow(s->a, s->text, s->len, cap, 1);
		if (!grown)
			return 0;
		s->text = grown;
		s->cap = cap;
	}
	memcpy(s->text + s->len, bytes, n);
	s->len += n;
	s->text[s->len] = '\0';
	return 1;
}

/* Plain only what no YAML 1.1 reader takes for a number, a boolean, a date or a mark. */
static bool is_plain(const char *s)
{
	static const char *const words[] = {"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"};
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (!strcasecmp(s, words[i]))
			return false;
	bool letter = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || *s == '/';
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-");
	return letter && !s[n] && n < 200;
}

static bool emit(yaml_emitter_t *y, yaml_event_t *e, int made)
{
	return made && yaml_emitter_emit(y, e);
}

static bool put_scalar(yaml_emitter_t *y, const char *s, bool is_text)
{
	yaml_event_t e;
	yaml_scalar_style_t style = YAML_PLAIN_SCALAR_STYLE;
	if (is_text && strchr(s, '\n') && s[strlen(s) - 1] == '\n')
		style = YAML_LITERAL_SCALAR_STYLE;
	else if (is_text && !is_plain(s))
		style = YAML_DOUBLE_QUOTED_SCALAR_STYLE;
	return emit(y, &e, yaml_scalar_event_initialize(&e, NULL, NULL, (const yaml_char_t *)s, (int)strlen(s), 1, 1, style));
}

static bool put_number(yaml_emitter_t *y, const json_t *v)
{
	char *s = json_dumps(v, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
	bool ok = s && put_scalar(y, s, false);
	free(s);
	return ok;
}

/* Depth is that of our own manifests: a dozen levels. */
static bool put(yaml_emitter_t *y, json_t *v)
{
	yaml_event_t e;
	const char *key;
	json_t *inner;
	size_t i;
	switch (json_typeof(v)) {
	case JSON_OBJECT:
		if (!emit(y, &e, yaml_mapping_start_event_initialize(&e, NULL, NULL, 1, YAML_BLOCK_MAPPING_STYLE)))
			return false;
		json_object_foreach(v, key, inner)
			if (!put_scalar(y, key, true) || !put(y, inner))
				return false;
		return emit(y, &e, yaml_mapping_end_event_initialize(&e));
	case JSON_ARRAY:
		if (!emit(y, &e, yaml_sequence_start_event_initialize(&e, NULL, NULL, 1, YAML_BLOCK_SEQUENCE_STYLE)))
			return false;
		json_array_foreach(v, i, inner)
			if (!put(y, inner))
				return false;
		return emit(y, &e, yaml_sequence_end_event_initialize(&e));
	case JSON_STRING:
		return put_scalar(y, json_string_value(v), true);
	default:
		return put_number(y, v);
	}
}

const char *pl_emit_yaml(struct pl_arena *a, json_t **documents, uint32_t n)
{
	struct sink s = {.a = a};
	yaml_emitter_t y;
	yaml_event_t e;
	if (!yaml_emitter_initialize(&y))
		return NULL;
	yaml_emitter_set_output(&y, take, &s);
	yaml_emitter_set_unicode(&y, 1);
	yaml_emitter_set_width(&y, -1);
	bool ok = emit(&y, &e, yaml_stream_start_event_initialize(&e, YAML_UTF8_ENCODING));
	for (uint32_t i = 0; i < n; i++) {
		ok = ok && documents[i] && emit(&y, &e, yaml_document_start_event_initialize(&e, NULL, NULL, NULL, n == 1)) &&
		     put(&y, documents[i]) && emit(&y, &e, yaml_document_end_event_initialize(&e, 1));
		json_decref(documents[i]);
	}
	ok = ok && emit(&y, &e, yaml_stream_end_event_initialize(&e));
	yaml_emitter_delete(&y);
	return ok ? s.text : NULL;
}
