/* A machine as a YAML file: what the hardware line says, and more of it where a line would grow too long. It is turned into the
 * line, so that both mean the same. */
#include <stdio.h>
#include <string.h>

#include <yaml.h>

#include <plimsoll/hardware.h>

enum { MAX_LINE = 1000, MAX_VALUE = 200 };

struct doc {
	yaml_document_t *d;
	const char *name;
	char devices[MAX_LINE], rest[MAX_LINE];
	struct pl_err *err;
};

static const char *scalar(const yaml_node_t *n)
{
	return n && n->type == YAML_SCALAR_NODE ? (const char *)n->data.scalar.value : NULL;
}

static int add(struct doc *y, char *to, const char *separator, const char *text)
{
	size_t at = strlen(to);
	if (strpbrk(text, ",+") || strlen(text) > MAX_VALUE || at + strlen(text) + 8 > MAX_LINE)
		return pl_fail(y->err, PL_ERR_FORMAT, y->name, "the value '%.60s' is too long or holds a comma or plus", text);
	(void)snprintf(to + at, MAX_LINE - at, "%s%s", at ? separator : "", text);
	return 0;
}

/* {name: rtx4090, count: 2} or {memory: 24GiB} or a plain "2x rtx4090" */
static int device(struct doc *y, const yaml_node_t *n)
{
	const char *plain = scalar(n), *name = NULL, *count = NULL, *memory = NULL, *rpc = "";
	char text[3 * MAX_VALUE];
	if (plain)
		return add(y, y->devices, " + ", plain);
	if (!n || n->type != YAML_MAPPING_NODE)
		return pl_fail(y->err, PL_ERR_FORMAT, y->name, "each device is a name or a mapping with 'name' and 'count'");
	for (yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top; p++) {
		const char *key = scalar(yaml_document_get_node(y->d, p->key)), *value = scalar(yaml_document_get_node(y->d, p->value));
		if (!key || !value)
			return pl_fail(y->err, PL_ERR_FORMAT, y->name, "a device's entries are plain words");
		if (!strcmp(key, "name"))
			name = value;
		else if (!strcmp(key, "count"))
			count = value;
		else if (!strcmp(key, "memory"))
			memory = value;
		else if (!strcmp(key, "rpc"))
			rpc = !strcmp(value, "true") || !strcmp(value, "yes") ? "rpc " : "";
		else
			return pl_fail(y->err, PL_ERR_FORMAT, y->name, "a device has no entry '%.60s'; name, count, memory and rpc are known", key);
	}
	if (!name && !memory)
		return pl_fail(y->err, PL_ERR_FORMAT, y->name, "a device needs a 'name' or a 'memory'");
	(void)snprintf(text, sizeof text, "%s%s%s%s%.*s", rpc, count ? count : "", count ? "x " : "", name ? "" : "gpu-", MAX_VALUE,
	               name ? name : memory);
	return add(y, y->devices, " + ", text);
}

static int devices(struct doc *y, const yaml_node_t *n)
{
	if (!n || n->type != YAML_SEQUENCE_NODE)
		return device(y, n);
	for (yaml_node_item_t *i = n->data.sequence.items.start; i < n->data.sequence.items.top; i++) {
		int rc = device(y, yaml_document_get_node(y->d, *i));
		if (rc)
			return rc;
	}
	return 0;
}

static int entry(struct doc *y, const char *key, const yaml_node_t *n)
{
	static const char *const words[] = {"ram", "cpu", "cores", "sockets", "pcie", "net", "disk"};
	const char *value = scalar(n);
	char text[2 * MAX_VALUE];
	if (!strcmp(key, "devices") || !strcmp(key, "gpus"))
		return devices(y, n);
	if (!value)
		return pl_fail(y->err, PL_ERR_FORMAT, y->name, "the entry '%.60s' must be a plain word", key);
	if (!strcmp(key, "link"))
		return add(y, y->rest, ", ", value);
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (!strcmp(key, words[i])) {
			(void)snprintf(text, sizeof text, "%s %.*s", key, MAX_VALUE, value);
			return add(y, y->rest, ", ", text);
		}
	return pl_fail(y->err, PL_ERR_FORMAT, y->name, "there is no entry '%.60s'; devices, ram, cpu, cores, sockets, pcie, disk, link and net are known", key);
}

static int read_document(struct doc *y)
{
	yaml_node_t *root = yaml_document_get_root_node(y->d);
	if (!root || root->type != YAML_MAPPING_NODE)
		return pl_fail(y->err, PL_ERR_FORMAT, y->name, "the file is not a mapping with 'devices' in it");
	for (yaml_node_pair_t *p = root->data.mapping.pairs.start; p < root->data.mapping.pairs.top; p++) {
		const char *key = scalar(yaml_document_get_node(y->d, p->key));
		int rc = key ? entry(y, key, yaml_document_get_node(y->d, p->value)) : pl_fail(y->err, PL_ERR_FORMAT, y->name, "a key is not a word");
		if (rc)
			return rc;
	}
	return 0;
}

int pl_machine_parse_yaml(struct pl_arena *a, const char *name, const char *text, size_t len,
                          const struct pl_machine **ret_machine, struct pl_err *err)
{
	yaml_parser_t parser;
	yaml_document_t document;
	struct doc y = {.d = &document, .name = name, .err = err};
	char line[2 * MAX_LINE + 8];
	if (!yaml_parser_initialize(&parser))
		return pl_fail(err, PL_ERR_NOMEM, name, "out of memory");
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);
	if (!yaml_parser_load(&parser, &document)) {
		int rc = pl_fail(err, PL_ERR_FORMAT, name, "line %zu: %s", parser.problem_mark.line + 1,
		                 parser.problem ? parser.problem : "not YAML");
		yaml_parser_delete(&parser);
		return rc;
	}
	int rc = read_document(&y);
	yaml_document_delete(&document);
	yaml_parser_delete(&parser);
	if (rc)
		return rc;
	(void)snprintf(line, sizeof line, "%s%s%s", *y.devices ? y.devices : "cpu", *y.rest ? ", " : "", y.rest);
	return pl_machine_parse(a, line, ret_machine, err);
}
