#include <math.h>
#include <string.h>

#include <jansson.h>

#include <plimsoll/catalog.h>
#include <plimsoll/engine.h>
#include <plimsoll/hardware.h>

#include "base/fmt.h"
#include "cli/cli.h"
#include "cli/model_facts.h"

#define _(s) pl_tr(s)

/* An entry is a list of named values: printed as lines or as JSON. */
enum unit { U_TEXT, U_BYTES, U_BANDWIDTH, U_FLOPS, U_OPS, U_WATT, U_USD, U_USD_H, U_PLAIN, U_SECONDS, U_FLAG };

struct field {
	const char *name, *key;
	enum unit unit;
	const char *text;
	double value; /* NAN: nobody states it */
};

static bool stated(const struct field *f)
{
	return f->unit == U_TEXT ? f->text && *f->text : !isnan(f->value);
}

/* A flag is a word for people, nothing when it need not be said, and true or false in JSON. */
static bool said(const struct field *f)
{
	return f->unit == U_FLAG ? f->text && *f->text : stated(f);
}

/* Peaks of arithmetic: tera, from a thousand on peta. */
static void print_peak(FILE *out, double per_s, const char *what)
{
	char b[PL_FMT_MAX];
	bool peta = per_s >= 999.5e12;
	(void)fprintf(out, "%s %c%s", pl_fmt_sig3(b, per_s / (peta ? 1e15 : 1e12)), peta ? 'P' : 'T', what);
}

static void print_value(FILE *out, const struct field *f)
{
	char b[PL_FMT_MAX];
	switch (f->unit) {
	case U_TEXT:
	case U_FLAG:
		(void)fputs(f->text, out);
		break;
	case U_BYTES:
		(void)fputs(pl_fmt_bytes(b, (uint64_t)f->value), out);
		break;
	case U_BANDWIDTH:
		(void)fputs(pl_fmt_bandwidth(b, f->value), out);
		break;
	case U_FLOPS:
		print_peak(out, f->value, "FLOP/s");
		break;
	case U_OPS:
		print_peak(out, f->value, "OP/s");
		break;
	case U_WATT:
		(void)fprintf(out, "%.0f W", f->value);
		break;
	case U_USD:
		(void)fprintf(out, "%.0f USD", f->value);
		break;
	case U_USD_H:
		(void)fprintf(out, "%.2f USD/h", f->value);
		break;
	case U_SECONDS:
		(void)fprintf(out, "%s µs", pl_fmt_sig3(b, f->value * 1e6));
		break;
	default:
		if (f->value == floor(f->value) && fabs(f->value) < 9e15)
			(void)fprintf(out, "%.0f", f->value);
		else
			(void)fputs(pl_fmt_sig3(b, f->value), out);
	}
}

static json_t *json_value(const struct field *f)
{
	if (!stated(f))
		return json_null();
	if (f->unit == U_TEXT)
		return json_string(f->text);
	if (f->unit == U_FLAG)
		return json_boolean(f->value != 0);
	return f->value == floor(f->value) && fabs(f->value) < 9e15 ? json_integer((json_int_t)f->value) : json_real(f->value);
}

static int print_entry(const struct pl_cli *cli, const struct field *fields, size_t n)
{
	if (cli->json) {
		json_t *o = json_object();
		for (size_t i = 0; i < n; i++)
			(void)json_object_set_new(o, fields[i].key, json_value(&fields[i]));
		struct pl_err err = {0};
		return pl_cli_json(cli->out, o, &err) ? pl_cli_fail(&err) : 0;
	}
	for (size_t i = 0; i < n; i++) {
		if (!said(&fields[i]))
			continue;
		const char *name = _(fields[i].name);
		(void)fputs(name, cli->out);
		for (int pad = 22 - pl_text_columns(name); pad > 0; pad--)
			(void)fputc(' ', cli->out);
		print_value(cli->out, &fields[i]);
		(void)fputc('\n', cli->out);
	}
	return 0;
}

#define TEXT(name, key, value) {name, key, U_TEXT, value, 0}
#define FLAG(name, key, text, value) {name, key, U_FLAG, text, value}
#define NUM(name, key, unit, value) {name, key, unit, NULL, value}
#define ENTRY(cli, fields) print_entry(cli, fields, sizeof(fields) / sizeof *(fields))

static double maybe(uint32_t n)
{
	return n ? (double)n : (double)NAN;
}

static int show_gpu(const struct pl_cli *cli, const char *name, struct pl_err *err)
{
	const struct pl_gpu *g;
	int rc = pl_gpu_find(name, &g, err);
	if (rc)
		return rc;
	const struct field fields[] = {
	    TEXT(PL_N_("name"), "name", g->name), TEXT(PL_N_("id"), "id", g->id), TEXT(PL_N_("architecture"), "architecture", g->arch),
	    TEXT(PL_N_("capability"), "capability", g->capability), NUM(PL_N_("year"), "launch_year", U_PLAIN, maybe(g->launch_year)),
	    TEXT(PL_N_("form"), "form_factor", g->form_factor), NUM(PL_N_("memory"), "memory_bytes", U_BYTES, (double)g->mem_bytes),
	    FLAG(PL_N_("memory is"), "memory_is_nominal", g->mem_is_nominal ? _("nominal size") : _("total as the driver reports it"), g->mem_is_nominal),
	    TEXT(PL_N_("memory type"), "memory_type", g->mem_type), FLAG(PL_N_("shared with host"), "unified_memory", g->unified_memory ? _("yes") : "", g->unified_memory),
	    NUM(PL_N_("bandwidth"), "memory_bytes_per_s", U_BANDWIDTH, g->mem_bytes_per_s),
	    NUM(PL_N_("FP32"), "fp32_flops_per_s", U_FLOPS, g->fp32_flops_per_s), NUM(PL_N_("FP16 dense"), "fp16_flops_per_s", U_FLOPS, g->fp16_flops_per_s),
	    NUM(PL_N_("BF16 dense"), "bf16_flops_per_s", U_FLOPS, g->bf16_flops_per_s), NUM(PL_N_("FP8 dense"), "fp8_flops_per_s", U_FLOPS, g->fp8_flops_per_s),
	    NUM(PL_N_("INT8 dense"), "int8_ops_per_s", U_OPS, g->int8_ops_per_s), NUM(PL_N_("INT4 dense"), "int4_ops_per_s", U_OPS, g->int4_ops_per_s),
	    NUM(PL_N_("FP4 dense"), "fp4_flops_per_s", U_FLOPS, g->fp4_flops_per_s), NUM(PL_N_("PCIe generation"), "pcie_gen", U_PLAIN, g->pcie_gen),
	    NUM(PL_N_("PCIe lanes"), "pcie_lanes", U_PLAIN, g->pcie_lanes), NUM(PL_N_("GPU link, both ways"), "link_bytes_per_s", U_BANDWIDTH, g->link_bytes_per_s),
	    NUM(PL_N_("power"), "tdp_w", U_WATT, g->tdp_w), NUM(PL_N_("idle power"), "idle_w", U_WATT, g->idle_w),
	    NUM(PL_N_("launch price"), "msrp_usd", U_USD, g->msrp_usd), TEXT(PL_N_("street price"), "street_usd", g->street_usd),
	    TEXT(PL_N_("sources differ"), "conflict", g->conflict), TEXT(PL_N_("unsourced"), "unsourced_fields", g->unsourced_fields),
	    TEXT(PL_N_("notes"), "notes", g->notes), TEXT(PL_N_("source"), "source_url", g->source_url)};
	return ENTRY(cli, fields);
}

static int show_node(const struct pl_cli *cli, const char *name, struct pl_err *err)
{
	const struct pl_node *n;
	int rc = pl_node_find(name, &n, err);
	if (rc)
		return rc;
	const struct field fields[] = {TEXT(PL_N_("name"), "name", n->name), TEXT(PL_N_("id"), "id", n->id), TEXT(PL_N_("GPU"), "gpu_id", n->gpu_id),
	                               NUM(PL_N_("GPUs"), "gpu_count", U_PLAIN, n->gpu_count), TEXT(PL_N_("link"), "intra_link", n->intra_link),
	                               NUM(PL_N_("GPU link, both ways"), "link_bytes_per_s", U_BANDWIDTH, n->link_bytes_per_s), TEXT(PL_N_("CPU"), "cpu", n->cpu),
	                               NUM(PL_N_("RAM"), "ram_bytes", U_BYTES, n->ram_bytes), TEXT(PL_N_("network"), "nic", n->nic),
	                               NUM(PL_N_("power"), "power_w", U_WATT, n->power_w), NUM(PL_N_("price"), "price_usd", U_USD, n->price_usd),
	                               TEXT(PL_N_("notes"), "notes", n->notes), TEXT(PL_N_("source"), "source_url", n->source_url)};
	return ENTRY(cli, fields);
}

static int show_cloud(const struct pl_cli *cli, const char *name, struct pl_err *err)
{
	const struct pl_cloud *c;
	int rc = pl_cloud_find(name, &c, err);
	if (rc)
		return rc;
	const struct field fields[] = {TEXT(PL_N_("provider"), "provider", c->provider), TEXT(PL_N_("instance"), "instance", c->instance),
	                               TEXT(PL_N_("id"), "id", c->id), TEXT(PL_N_("GPU"), "gpu_id", c->gpu_id), NUM(PL_N_("GPUs"), "gpu_count", U_PLAIN, c->gpu_count),
	                               NUM(PL_N_("vCPUs"), "vcpu", U_PLAIN, maybe(c->vcpu)), NUM(PL_N_("RAM"), "ram_bytes", U_BYTES, c->ram_bytes),
	                               NUM(PL_N_("on demand"), "on_demand_usd_per_h", U_USD_H, c->on_demand_usd_per_h),
	                               NUM(PL_N_("spot"), "spot_usd_per_h", U_USD_H, c->spot_usd_per_h), TEXT(PL_N_("region"), "region", c->region),
	                               TEXT(PL_N_("date"), "date", c->date), TEXT(PL_N_("notes"), "notes", c->notes), TEXT(PL_N_("source"), "source_url", c->source_url)};
	return ENTRY(cli, fields);
}

static int show_model(const struct pl_cli *cli, const char *name, struct pl_err *err)
{
	const struct pl_model_row *row;
	const struct pl_model *m;
	int rc = pl_model_row_find(name, &row, err);
	struct pl_arena *a = pl_arena_new(0);
	if (!rc)
		rc = a ? pl_model_from_config(a, row->id, row->config_json, row->config_len, NULL, &m, err) : -PL_ERR_NOMEM;
	if (!rc && cli->json) {
		json_t *o = pl_model_facts_json(m);
		(void)json_object_set_new(o, "published_parameters", row->published_params ? json_integer((json_int_t)row->published_params) : json_null());
		(void)json_object_set_new(o, "source_url", json_string(row->source_url));
		(void)json_object_set_new(o, "config_kind", json_string(row->config_kind));
		rc = pl_cli_json(cli->out, o, err);
	} else if (!rc) {
		pl_model_facts_text(cli->out, m);
		if (row->published_params)
			(void)fprintf(cli->out, _("  published       %llu parameters (%s)\n"), (unsigned long long)row->published_params, row->published_source);
		(void)fprintf(cli->out, _("  source          %s (%s)\n"), row->source_url, row->config_kind);
	}
	pl_arena_free(a);
	return rc;
}

/* ---- lists ------------------------------------------------------------------------------------------------------ */

struct rows {
	const struct pl_cli *cli;
	json_t *list; /* NULL: print lines */
};

/* key: what the second column is, in JSON. */
static void row(struct rows *r, const char *id, const char *key, const char *what)
{
	if (r->list)
		(void)json_array_append_new(r->list, *what ? json_pack("{s:s,s:s}", "id", id, key, what) : json_pack("{s:s}", "id", id));
	else
		(void)fprintf(r->cli->out, *what ? "%-40s %s\n" : "%s\n", id, what);
}

static void list_gpus(struct rows *r)
{
	uint32_t n;
	const struct pl_gpu *g = pl_catalog_gpus(&n);
	for (uint32_t i = 0; i < n; i++) {
		char text[160], size[PL_FMT_MAX], speed[PL_FMT_MAX];
		(void)snprintf(text, sizeof text, "%-44.80s %9s  %s", g[i].name, pl_fmt_bytes(size, g[i].mem_bytes),
		               pl_fmt_bandwidth(speed, g[i].mem_bytes_per_s));
		row(r, g[i].id, "name", r->list ? g[i].name : text);
	}
}

static void list_others(struct rows *r, const char *kind)
{
	uint32_t n;
	if (!strcmp(kind, "node"))
		for (const struct pl_node *p = pl_catalog_nodes(&n), *e = p + n; p < e; p++)
			row(r, p->id, "name", p->name);
	else if (!strcmp(kind, "cloud"))
		for (const struct pl_cloud *p = pl_catalog_clouds(&n), *e = p + n; p < e; p++)
			row(r, p->id, "gpu_id", p->gpu_id);
	else if (!strcmp(kind, "cpu"))
		for (const struct pl_cpu *p = pl_catalog_cpus(&n), *e = p + n; p < e; p++)
			row(r, p->id, "name", p->name);
	else if (!strcmp(kind, "host"))
		for (const struct pl_host_platform *p = pl_catalog_hosts(&n), *e = p + n; p < e; p++)
			row(r, p->id, "name", p->platform);
	else if (!strcmp(kind, "link"))
		for (const struct pl_link *p = pl_catalog_links(&n), *e = p + n; p < e; p++)
			row(r, p->id, "name", p->name);
	else if (!strcmp(kind, "model"))
		for (const struct pl_model_row *p = pl_catalog_models(&n), *e = p + n; p < e; p++)
			row(r, p->id, "license", p->license);
	else if (!strcmp(kind, "engine"))
		for (const struct pl_engine *const *e = pl_engines(); *e; e++)
			row(r, (*e)->id, "version", (*e)->version);
	else if (!strcmp(kind, "quant"))
		for (const char *const *q = pl_quant_names(); *q; q++)
			row(r, *q, "name", "");
}

/* Precisions are facts about (architecture, format) pairs: a name filters them. */
static int show_precisions(const struct pl_cli *cli, const char *name, struct pl_err *err)
{
	uint32_t n, shown = 0;
	const struct pl_precision *p = pl_catalog_precisions(&n);
	struct rows r = {cli, cli->json ? json_array() : NULL};
	for (uint32_t i = 0; i < n; i++) {
		char text[256];
		if (name && !strcasestr(p[i].arch, name) && !strcasestr(p[i].item, name) && !strcasestr(p[i].capability, name))
			continue;
		(void)snprintf(text, sizeof text, "%.60s: %.100s", p[i].item, p[i].value);
		row(&r, *p[i].arch ? p[i].arch : p[i].record, "fact", text);
		shown++;
	}
	if (!shown) {
		json_decref(r.list);
		return pl_fail(err, PL_ERR_UNKNOWN_NAME, "precision", "nothing is known of '%.60s'; name an architecture (Volta), a format (fp8) or a "
		               "capability (8.9)", name);
	}
	return r.list ? pl_cli_json(cli->out, r.list, err) : 0;
}

static int show_list(const struct pl_cli *cli, const char *kind, struct pl_err *err)
{
	struct rows r = {cli, cli->json ? json_array() : NULL};
	if (!strcmp(kind, "gpu"))
		list_gpus(&r);
	else
		list_others(&r, kind);
	return r.list ? pl_cli_json(cli->out, r.list, err) : 0;
}

static int show_cpu(const struct pl_cli *cli, const struct pl_cpu *p)
{
	const struct pl_core *core = pl_core_of(p->core);
	const struct field fields[] = {
	    TEXT(PL_N_("name"), "name", p->name), TEXT(PL_N_("id"), "id", p->id), NUM(PL_N_("cores"), "cores", U_PLAIN, maybe(p->cores)),
	    NUM(PL_N_("efficiency cores"), "efficiency_cores", U_PLAIN, maybe(p->slow_cores)), TEXT(PL_N_("core"), "core", core->name),
	    TEXT(PL_N_("instruction sets"), "isa", core->isa), NUM(PL_N_("all cores, GHz"), "all_core_ghz", U_PLAIN, pl_cpu_hz(p) / 1e9),
	    TEXT(PL_N_("memory type"), "memory_type", p->mem_type), NUM(PL_N_("channels"), "channels", U_PLAIN, p->channels),
	    NUM(PL_N_("MT/s"), "mt_per_s", U_PLAIN, maybe(p->mt_per_s)),
	    NUM(PL_N_("bandwidth"), "bytes_per_s", U_BANDWIDTH, p->mt_per_s ? pl_cpu_ram_bytes_per_s(p) : NAN), TEXT(PL_N_("notes"), "notes", p->notes),
	    TEXT(PL_N_("source"), "source_url", p->source_url)};
	return ENTRY(cli, fields);
}

static int show_row(const struct pl_cli *cli, const char *kind, const char *name, struct pl_err *err)
{
	uint32_t n;
	if (!strcmp(kind, "cpu") && pl_cpu_of(name))
		return show_cpu(cli, pl_cpu_of(name));
	if (!strcmp(kind, "host"))
		for (const struct pl_host_platform *p = pl_catalog_hosts(&n), *e = p + n; p < e; p++)
			if (!strcasecmp(p->id, name) || strcasestr(p->platform, name) || strcasestr(p->example_cpu, name)) {
				const struct field fields[] = {TEXT(PL_N_("name"), "platform", p->platform), TEXT(PL_N_("id"), "id", p->id), TEXT(PL_N_("CPU"), "example_cpu", p->example_cpu),
				                               TEXT(PL_N_("memory type"), "memory_type", p->mem_type), NUM(PL_N_("channels"), "channels", U_PLAIN, maybe(p->channels)),
				                               NUM(PL_N_("MT/s"), "mt_per_s", U_PLAIN, maybe(p->mt_per_s)), NUM(PL_N_("bandwidth"), "bytes_per_s", U_BANDWIDTH, p->mem_bytes_per_s),
				                               NUM(PL_N_("measured"), "practical_bytes_per_s", U_BANDWIDTH, p->practical_bytes_per_s),
				                               TEXT(PL_N_("notes"), "notes", p->notes), TEXT(PL_N_("source"), "source_url", p->source_url)};
				return ENTRY(cli, fields);
			}
	if (!strcmp(kind, "link"))
		for (const struct pl_link *p = pl_catalog_links(&n), *e = p + n; p < e; p++)
			if (!strcasecmp(p->id, name)) {
				const struct field fields[] = {TEXT(PL_N_("name"), "name", p->name), TEXT(PL_N_("id"), "id", p->id), TEXT(PL_N_("kind"), "kind", p->kind),
				                               NUM(PL_N_("one direction"), "bytes_per_s", U_BANDWIDTH, p->bytes_per_s),
				                               NUM(PL_N_("measured"), "practical_bytes_per_s", U_BANDWIDTH, p->practical_bytes_per_s),
				                               NUM(PL_N_("latency"), "latency_s", U_SECONDS, p->latency_s), TEXT(PL_N_("notes"), "notes", p->notes),
				                               TEXT(PL_N_("source"), "source_url", p->source_url)};
				return ENTRY(cli, fields);
			}
	if (!strcmp(kind, "engine")) {
		const struct pl_engine *e;
		int rc = pl_engine_find(name, &e, err);
		if (rc)
			return rc;
		const struct field fields[] = {TEXT(PL_N_("id"), "id", e->id), TEXT(PL_N_("version"), "version", e->version), TEXT(PL_N_("also called"), "aliases", e->aliases)};
		return ENTRY(cli, fields);
	}
	return pl_fail(err, PL_ERR_UNKNOWN_NAME, kind, "no %s is called '%.60s'; 'plimsoll show %s' lists them", kind, name, kind);
}

int cmd_show(const struct pl_cli *cli)
{
	static const char *const kinds[] = {"gpu", "node", "cloud", "cpu", "host", "link", "precision", "model", "engine", "quant"};
	const char *kind = cli->words[0], *name = cli->n_words > 1 ? cli->words[1] : NULL;
	struct pl_err err = {0};
	bool known = false;
	int rc;
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		known = known || !strcmp(kind, kinds[i]);
	if (!known) {
		(void)pl_fail(&err, PL_ERR_USAGE, "show", "there is no '%.40s' to show; gpu, node, cloud, cpu, host, link, precision, model, engine and quant are known", kind);
		return pl_cli_fail(&err);
	}
	if (!strcmp(kind, "precision"))
		return show_precisions(cli, name, &err) ? pl_cli_fail(&err) : 0;
	if (!name)
		return show_list(cli, kind, &err) ? pl_cli_fail(&err) : 0;
	rc = !strcmp(kind, "gpu")     ? show_gpu(cli, name, &err)
	     : !strcmp(kind, "node")  ? show_node(cli, name, &err)
	     : !strcmp(kind, "cloud") ? show_cloud(cli, name, &err)
	     : !strcmp(kind, "model") ? show_model(cli, name, &err)
	                              : show_row(cli, kind, name, &err);
	return rc < 0 ? pl_cli_fail(&err) : rc;
}
