/* vllm serve --config, sglang --config: a YAML mapping as the words it stands for (vllm/utils/argparse_utils.py, load_config_file). */
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <yaml.h>

#include "engine/command.h"

enum { MAX_DEPTH = 16, MAX_WORDS = 1024 };

struct file {
	struct pl_reader *r;
	yaml_document_t *d;
	const char **words;
	uint32_t n;
};

static void put(struct file *f, const char *word)
{
	if (word && f->n < MAX_WORDS)
		f->words[f->n++] = word;
}

static const char *text(struct file *f, const yaml_node_t *n)
{
	return pl_arena_strndup(f->r->a, (const char *)n->data.scalar.value, n->data.scalar.length);
}

/* 1 true, 0 false, -1 neither: YAML's own words, unquoted. */
static int truth(const yaml_node_t *n)
{
	const char *v = (const char *)n->data.scalar.value;
	if (n->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
		return -1;
	if (pl_flag_in("true True TRUE yes Yes on On", v, strlen(v)))
		return 1;
	return pl_flag_in("false False FALSE no No off Off", v, strlen(v)) ? 0 : -1;
}

static json_t *scalar_json(const yaml_node_t *n)
{
	const char *v = (const char *)n->data.scalar.value;
	char *end;
	int t = truth(n);
	if (t >= 0)
		return json_boolean(t);
	if (n->data.scalar.style == YAML_PLAIN_SCALAR_STYLE) {
		long long whole = strtoll(v, &end, 10);
		if (*v && !*end)
			return json_integer(whole);
		double x = strtod(v, &end);
		if (*v && !*end)
			return json_real(x);
		if (pl_flag_in("null Null ~", v, strlen(v)) || !*v)
			return json_null();
	}
	return json_string(v);
}

static json_t *node_json(struct file *f, const yaml_node_t *n, int depth)
{
	if (!n || depth > MAX_DEPTH)
		return json_null();
	if (n->type == YAML_SCALAR_NODE)
		return scalar_json(n);
	json_t *o = n->type == YAML_MAPPING_NODE ? json_object() : json_array();
	if (n->type == YAML_MAPPING_NODE)
		for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top; p++) {
			yaml_node_t *key = yaml_document_get_node(f->d, p->key);
			if (key && key->type == YAML_SCALAR_NODE)
				(void)json_object_set_new(o, (const char *)key->data.scalar.value,
				                          node_json(f, yaml_document_get_node(f->d, p->value), depth + 1));
		}
	else
		for (yaml_node_item_t *i = n->data.sequence.items.start; i < n->data.sequence.items.top; i++)
			(void)json_array_append_new(o, node_json(f, yaml_document_get_node(f->d, *i), depth + 1));
	return o;
}

static void put_pair(struct file *f, const yaml_node_t *key, const yaml_node_t *value)
{
	const char *flag = pl_arena_printf(f->r->a, "--%s", text(f, key));
	if (value->type == YAML_SCALAR_NODE) {
		int t = truth(value);
		if (t != 0)
			put(f, flag);
		if (t < 0)
			put(f, text(f, value));
	} else if (value->type == YAML_SEQUENCE_NODE) {
		put(f, flag);
		for (yaml_node_item_t *i = value->data.sequence.items.start; i < value->data.sequence.items.top; i++) {
			yaml_node_t *item = yaml_document_get_node(f->d, *i);
			if (item && item->type == YAML_SCALAR_NODE)
				put(f, text(f, item));
		}
	} else {
		json_t *o = node_json(f, value, 0);
		char *dumped = json_dumps(o, JSON_COMPACT);
		put(f, flag);
		put(f, dumped ? pl_arena_strdup(f->r->a, dumped) : NULL);
		free(dumped);
		json_decref(o);
	}
}

static int walk(struct file *f, const char *path)
{
	yaml_node_t *root = yaml_document_get_root_node(f->d);
	if (!root)
		return 0;
	if (root->type != YAML_MAPPING_NODE)
		return pl_fail(f->r->err, PL_ERR_FORMAT, path, "the file must be a mapping of options");
	for (yaml_node_pair_t *p = root->data.mapping.pairs.start; p < root->data.mapping.pairs.top; p++) {
		yaml_node_t *key = yaml_document_get_node(f->d, p->key), *value = yaml_document_get_node(f->d, p->value);
		if (!key || key->type != YAML_SCALAR_NODE || !value)
			return pl_fail(f->r->err, PL_ERR_FORMAT, path, "an option's name is not a plain word");
		put_pair(f, key, value);
	}
	return 0;
}

static int read_text(struct pl_reader *r, const char *path, const char *yaml, size_t len)
{
	yaml_parser_t parser;
	yaml_document_t doc;
	struct file f = {.r = r, .d = &doc, .words = PL_NEW_N(r->a, const char *, MAX_WORDS)};
	if (!f.words || !yaml_parser_initialize(&parser))
		return pl_fail(r->err, PL_ERR_NOMEM, path, "out of memory");
	yaml_parser_set_input_string(&parser, (const unsigned char *)yaml, len);
	int rc;
	if (!yaml_parser_load(&parser, &doc)) {
		rc = pl_fail(r->err, PL_ERR_FORMAT, path, "line %zu: %s", parser.problem_mark.line + 1,
		             parser.problem ? parser.problem : "not YAML");
	} else {
		rc = walk(&f, path);
		yaml_document_delete(&doc);
	}
	yaml_parser_delete(&parser);
	return rc ? rc : pl_read_words(r, f.words, f.n);
}

int pl_read_config_file(struct pl_reader *r, const char *flags)
{
	const char *path = NULL, *yaml = NULL;
	size_t len = 0;
	for (uint32_t i = 0; i < r->n_words; i++) {
		const char *w = r->words[i];
		size_t n = strcspn(w, "=");
		if (!pl_flag_in(flags, w, n))
			continue;
		path = w[n] ? w + n + 1 : i + 1 < r->n_words ? r->words[i + 1] : NULL;
		r->flag = w;
	}
	if (!path)
		return 0;
	if (!r->files)
		return pl_refuse(r, "the file '%.100s' cannot be read here", path);
	int rc = r->files->read(r->files->ctx, r->a, path, &yaml, &len, r->err);
	return rc ? rc : read_text(r, path, yaml, len);
}
