#include <jansson.h>

#include <plimsoll/source.h>
#include <plimsoll/synth.h>

#include "base/fmt.h"
#include "cli/cli.h"
#include "cli/cmd_synth.h"

#define _(s) pl_tr(s)

static void put(json_t *o, const char *key, json_t *value)
{
	(void)json_object_set_new(o, key, value);
}

static int print_json(const struct pl_cmd_synth *c, const struct pl_synth *s, FILE *out, struct pl_err *err)
{
	const struct pl_model *m = s->model;
	json_t *o = json_object();
	put(o, "path", json_string(c->path));
	put(o, "model", json_string(m->name ? m->name : ""));
	put(o, "architecture", json_string(m->arch));
	put(o, "quantization", m->quant_name ? json_string(m->quant_name) : json_null());
	put(o, "n_layers", json_integer(m->n_layers));
	put(o, "n_tensors", json_integer(s->n_tensors));
	put(o, "parameters", json_integer((json_int_t)m->n_params));
	put(o, "header_bytes", json_integer((json_int_t)s->header_bytes));
	put(o, "file_bytes", json_integer((json_int_t)s->file_bytes));
	put(o, "sparse", json_boolean(c->sparse));
	return pl_cli_json(out, o, err);
}

static int print_text(const struct pl_cmd_synth *c, const struct pl_synth *s, FILE *out, struct pl_err *err)
{
	char size[PL_FMT_MAX], header[PL_FMT_MAX], params[PL_FMT_MAX];
	const struct pl_model *m = s->model;
	(void)fprintf(out, _("%s: %s, %s, %u layers, %u tensors, %s parameters, %s\n"), c->path, m->name ? m->name : m->arch,
	              m->quant_name ? m->quant_name : "?", m->n_layers, s->n_tensors, pl_fmt_count(params, m->n_params),
	              pl_fmt_bytes(size, s->file_bytes));
	if (c->sparse)
		(void)fprintf(out, _("sparse: only the header of %s takes space; the weights read as zeros\n"),
		              pl_fmt_bytes(header, s->header_bytes));
	if (ferror(out))
		return pl_fail(err, PL_ERR_IO, NULL, "cannot write the result");
	return 0;
}

int pl_cmd_synth_run(const struct pl_cmd_synth *c, FILE *out, struct pl_err *err)
{
	const struct pl_synth_params params = {.quant = c->quant, .n_layers = c->n_layers, .no_vocab = c->no_vocab};
	unsigned flags = (c->sparse ? PL_SYNTH_SPARSE : 0) | (c->force ? PL_SYNTH_FORCE : 0);
	struct pl_arena *a = pl_arena_new(0);
	struct pl_loaded *loaded = NULL;
	const struct pl_model *m;
	struct pl_synth s;
	if (!a)
		return pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory");
	int r = pl_load(a, c->model, NULL, &loaded, &m, err);
	if (r == 0)
		r = pl_synth_make(a, m, &params, &s, err);
	if (r == 0)
		r = pl_synth_write(&s, c->path, flags, err);
	if (r == 0)
		r = c->json ? print_json(c, &s, out, err) : print_text(c, &s, out, err);
	pl_loaded_free(loaded);
	pl_arena_free(a);
	return r;
}

int cmd_synth(const struct pl_cli *cli)
{
	struct pl_err err = {0};
	const struct pl_cmd_synth c = {.model = cli->words[0],
	                               .quant = pl_cli_text(cli, "quant"),
	                               .path = pl_cli_text(cli, "output"),
	                               .n_layers = (uint32_t)pl_cli_number(cli, "layers", 0),
	                               .sparse = pl_cli_flag(cli, "sparse"),
	                               .force = pl_cli_flag(cli, "force"),
	                               .no_vocab = pl_cli_flag(cli, "no-vocab"),
	                               .json = cli->json};
	if (!c.path) {
		(void)pl_fail(&err, PL_ERR_USAGE, "synth", "-o FILE is missing: where should the file go?");
		return pl_cli_fail(&err);
	}
	return pl_cmd_synth_run(&c, cli->out, &err) ? pl_cli_fail(&err) : 0;
}
