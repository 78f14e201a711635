#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include <plimsoll/engine.h>
#include <plimsoll/source.h>

#include "base/fmt.h"
#include "cli/cli.h"
#include "cli/model_facts.h"

#define _(s) pl_tr(s)

struct share {
	const char *name;
	uint64_t bytes, elems;
	uint32_t n;
};

static const char *const group_names[PL_GROUP_COUNT] = {
    [PL_GROUP_OTHER] = "other",         [PL_GROUP_EMBED] = "embeddings",   [PL_GROUP_OUTPUT] = "output",
    [PL_GROUP_NORM] = "norms",          [PL_GROUP_ATTN] = "attention",     [PL_GROUP_RECURRENT] = "recurrent",
    [PL_GROUP_FFN] = "feed_forward",    [PL_GROUP_ROUTER] = "router",      [PL_GROUP_EXPERT] = "experts",
    [PL_GROUP_SHARED_EXPERT] = "shared_experts", [PL_GROUP_MTP] = "mtp",   [PL_GROUP_VISION] = "vision",
    [PL_GROUP_ENCODER] = "encoder",
};

static int larger_first(const void *x, const void *y)
{
	const struct share *a = x, *b = y;
	return (a->bytes < b->bytes) - (a->bytes > b->bytes);
}

static void sum(const struct pl_model *m, struct share *types, struct share *groups)
{
	for (unsigned t = 0; t < PL_DTYPE_COUNT; t++)
		types[t].name = pl_dtype_name((enum pl_dtype)t);
	for (unsigned g = 0; g < PL_GROUP_COUNT; g++)
		groups[g].name = group_names[g];
	for (uint32_t i = 0; i < m->n_tensors; i++) {
		const struct pl_tensor *t = &m->tensors[i];
		struct share *both[] = {&types[t->type], &groups[t->group]};
		for (int k = 0; k < 2; k++) {
			both[k]->bytes += t->bytes;
			both[k]->elems += t->n_elems;
			both[k]->n++;
		}
	}
	qsort(types, PL_DTYPE_COUNT, sizeof *types, larger_first);
	qsort(groups, PL_GROUP_COUNT, sizeof *groups, larger_first);
}

static void print_shares(FILE *out, const char *title, const struct share *s, unsigned n, uint64_t all)
{
	char b[PL_FMT_MAX], e[PL_FMT_MAX], p[PL_FMT_MAX];
	(void)fprintf(out, "\n%s\n", title);
	for (unsigned i = 0; i < n && s[i].n; i++)
		(void)fprintf(out, _("  %-16s %10s  %8s  %10s parameters  %5u tensors\n"), s[i].name, pl_fmt_bytes(b, s[i].bytes),
		              pl_fmt_percent(p, all ? (double)s[i].bytes / (double)all : 0), pl_fmt_count(e, s[i].elems), s[i].n);
}

static void print_tensors(FILE *out, const struct pl_model *m)
{
	char b[PL_FMT_MAX], shape[96];
	(void)fprintf(out, "\n%s\n", _("Tensors"));
	for (uint32_t i = 0; i < m->n_tensors; i++) {
		const struct pl_tensor *t = &m->tensors[i];
		size_t at = 0;
		shape[0] = '\0';
		for (uint32_t d = 0; d < t->n_dims && at < sizeof shape - 24; d++)
			at += (size_t)snprintf(shape + at, sizeof shape - at, "%s%llu", d ? " × " : "", (unsigned long long)t->ne[d]);
		(void)fprintf(out, "  %-44s %-8s %10s  %s\n", t->name, pl_dtype_name(t->type), pl_fmt_bytes(b, t->bytes), shape);
	}
}

static int text(const struct pl_cli *cli, const struct pl_model *m)
{
	struct share types[PL_DTYPE_COUNT] = {{0}}, groups[PL_GROUP_COUNT] = {{0}};
	sum(m, types, groups);
	pl_model_facts_text(cli->out, m);
	print_shares(cli->out, _("Precision"), types, PL_DTYPE_COUNT, m->weight_bytes);
	print_shares(cli->out, _("Parts"), groups, PL_GROUP_COUNT, m->weight_bytes);
	if (pl_cli_flag(cli, "tensors"))
		print_tensors(cli->out, m);
	return 0;
}

static json_t *shares(const struct share *s, unsigned n)
{
	json_t *list = json_array();
	for (unsigned i = 0; i < n && s[i].n; i++)
		(void)json_array_append_new(list, json_pack("{s:s,s:I,s:I,s:i}", "name", s[i].name, "bytes", (json_int_t)s[i].bytes, "parameters",
		                                            (json_int_t)s[i].elems, "n_tensors", (int)s[i].n));
	return list;
}

static json_t *tensors(const struct pl_model *m)
{
	json_t *list = json_array();
	for (uint32_t i = 0; i < m->n_tensors; i++) {
		const struct pl_tensor *t = &m->tensors[i];
		json_t *dims = json_array();
		for (uint32_t d = 0; d < t->n_dims; d++)
			(void)json_array_append_new(dims, json_integer((json_int_t)t->ne[d]));
		(void)json_array_append_new(list, json_pack("{s:s,s:s,s:o,s:I,s:I,s:i,s:s,s:I}", "name", t->name, "type", pl_dtype_name(t->type),
		                                            "shape", dims, "parameters", (json_int_t)t->n_elems, "bytes", (json_int_t)t->bytes,
		                                            "layer", (int)t->layer, "part", group_names[t->group], "offset",
		                                            (json_int_t)t->offset_bytes));
	}
	return list;
}

static int json(const struct pl_cli *cli, const struct pl_model *m)
{
	struct share types[PL_DTYPE_COUNT] = {{0}}, groups[PL_GROUP_COUNT] = {{0}};
	json_t *o = pl_model_facts_json(m);
	sum(m, types, groups);
	(void)json_object_set_new(o, "precision", shares(types, PL_DTYPE_COUNT));
	(void)json_object_set_new(o, "parts", shares(groups, PL_GROUP_COUNT));
	if (pl_cli_flag(cli, "tensors"))
		(void)json_object_set_new(o, "tensors", tensors(m));
	struct pl_err err = {0};
	return pl_cli_json(cli->out, o, &err) ? pl_cli_fail(&err) : 0;
}

int cmd_inspect(const struct pl_cli *cli)
{
	struct pl_arena *a = pl_arena_new(0);
	struct pl_loaded *loaded = NULL;
	const struct pl_model *m;
	struct pl_err err = {0};
	int code;
	if (!a) {
		(void)pl_fail(&err, PL_ERR_NOMEM, NULL, "out of memory");
		return pl_cli_fail(&err);
	}
	if (pl_load(a, cli->words[0], pl_cli_text(cli, "quant"), &loaded, &m, &err))
		code = pl_cli_fail(&err);
	else
		code = cli->json ? json(cli, m) : text(cli, m);
	pl_loaded_free(loaded);
	pl_arena_free(a);
	return code;
}
