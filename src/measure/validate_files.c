/* Published sizes and counts against the models we build: GGUF files, safetensors repositories, tensor maps, totals of
 * parameters (data/models/gguf_sizes.csv, safetensors_sizes.csv, gguf_tensor_sums.csv, models.csv). */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <jansson.h>

#include <plimsoll/synth.h>

#include "base/checked.h"
#include "measure/validate.h"
#include "measure/validator.h"

static bool starts(const char *text, const char *with)
{
	return !strncasecmp(text, with, strlen(with));
}

static void model_classes(struct pl_vrow *r, const struct pl_model *m)
{
	pl_vrow_class(r, "arch", m->arch);
	pl_vrow_class(r, "ffn", pl_model_kinds(m).experts ? "moe" : "dense");
}

/* The host of a source: "github.com/ggml-org/llama.cpp", for the classes. */
static void source_class(struct pl_vrow *r)
{
	const char *url = pl_vrow_text(r, "source_url"), *from = strstr(url, "://"), *to;
	char buf[96];
	from = from ? from + 3 : url;
	to = from;
	for (int slashes = 0; *to && slashes < 3; to++)
		if (*to == '/' && ++slashes == 3)
			break;
	(void)snprintf(buf, sizeof buf, "%.*s", (int)(to - from), from);
	pl_vrow_class(r, "source", buf);
}

/* ---- published totals of parameters ---------------------------------------------------------------------------------- */

/* Do the next-token layers carry the embedding and the head once more (then they are counted with them)? */
static bool mtp_has_copies(const struct pl_model *m)
{
	for (uint32_t i = 0; i < m->n_tensors; i++)
		if (m->tensors[i].group == PL_GROUP_MTP && m->tensors[i].n_elems == pl_sat_mul(m->n_vocab, m->n_embd))
			return true;
	return false;
}

/* published_contains names what the total counts beside the trunk; "VH" is an embedding of the vocabulary. */
static uint64_t parts_named(const struct pl_model *m, const char *contains)
{
	uint64_t table = pl_sat_mul(m->n_vocab, m->n_embd), sum = m->n_params;
	if (strstr(contains, "+vision"))
		sum = pl_sat_add(sum, m->n_params_vision);
	if (strstr(contains, "+mtp"))
		sum = pl_sat_add(sum, m->n_params_mtp);
	if (strstr(contains, "+2VH") && !mtp_has_copies(m))
		sum = pl_sat_add(sum, pl_sat_mul(2, table));
	else if (strstr(contains, "+VH"))
		sum = pl_sat_add(sum, table);
	if (strstr(contains, "-VH"))
		sum = pl_sat_sub(sum, table);
	return sum;
}

static void map_params(struct pl_vrow *r)
{
	struct pl_prediction *p = pl_vrow_measured(r, "parameters", "published_params", 1);
	const char *kind = pl_vrow_text(r, "published_kind");
	pl_vrow_class(r, "published", kind);
	if (!p) {
		pl_vrow_reason(r, "nobody publishes a total for this model");
		return;
	}
	if (!strcmp(kind, "llmfit-estimate") || !strcmp(kind, "rounded")) {
		pl_vrow_flag(r, p, "the published figure is an estimate or rounded, not a count");
		return;
	}
	if (starts(pl_vrow_text(r, "published_contains"), "other: ")) {
		pl_vrow_flag(r, p, "%s", pl_vrow_text(r, "published_contains") + 7);
		return;
	}
	const struct pl_model *m = pl_vrow_model(r, pl_vrow_text(r, "id"), NULL);
	if (!m)
		return;
	model_classes(r, m);
	pl_vrow_predict(p, (double)parts_named(m, pl_vrow_text(r, "published_contains")), NAN, NAN);
}

static const char *const params_columns[] = {"id", "aliases", "file", "published_params", "published_kind", "published_contains", "published_source",
                                             "config_kind", NULL};
const struct pl_table_kind pl_kind_params = {"published_params", params_columns, map_params, NULL};

/* ---- precisions as tables write them ------------------------------------------------------------------------------------ */

/* "Q4_K - Medium", "q4_K_M", "IQ4_XS - 4.25 bpw", "MXFP4 MoE" → the planner's name; NULL when it has none. */
static const char *ggml_quant(struct pl_vrow *r, const char *text)
{
	static const char *const sizes[][2] = {{"Medium", "_m"}, {"Large", "_l"}, {"Small", "_s"}};
	const char *dash = strstr(text, " - "), *tail = "";
	for (size_t i = 0; dash && i < 3; i++)
		if (strstr(dash, sizes[i][0]))
			tail = sizes[i][1];
	char *q = pl_arena_printf(r->a, "%.*s%s", dash ? (int)(dash - text) : 64, text, tail);
	if (!q)
		return NULL;
	for (char *p = q; *p; p++)
		*p = *p == ' ' ? '_' : (char)tolower((unsigned char)*p);
	if (!strcmp(q, "q2_k_m"))
		q = pl_arena_strdup(r->a, "q2_k");
	if (!strcmp(q, "mxfp4"))
		q = pl_arena_strdup(r->a, "mxfp4_moe");
	for (const char *const *known = pl_quant_names(); q && *known; known++)
		if (!strcmp(*known, q)) /* 16 bits mean the file here, not the checkpoint */
			return strstr(q, "f16") || !strcmp(q, "f32") ? pl_arena_printf(r->a, "gguf-%s", q) : *known;
	return NULL;
}

/* ---- GGUF files ------------------------------------------------------------------------------------------------------------ */

static double unit_bytes(const char *unit)
{
	static const struct {
		const char *name;
		double bytes;
	} units[] = {{"bytes", 1}, {"MB", 1e6}, {"GB", 1e9}, {"MiB", 1048576.0}, {"GiB", 1073741824.0}};
	for (size_t i = 0; i < sizeof units / sizeof *units; i++)
		if (!strcmp(unit, units[i].name))
			return units[i].bytes;
	return NAN;
}

/* "8.03 B", "751.63 M", "8030000000": parameters and half of the last digit. */
static double printed_params(const char *text, double *ret_half)
{
	char *end;
	double n = strtod(text, &end);
	const char *dot = strchr(text, '.');
	double unit = strstr(end, "B") ? 1e9 : strstr(end, "M") ? 1e6 : 1;
	*ret_half = unit > 1 ? 0.5 * unit * pow(10, dot ? -(double)strspn(dot + 1, "0123456789") : 0) : 0;
	return end == text ? NAN : n * unit;
}

/* llama-bench names a class, "qwen3moe 30B.A3B": the catalogue's model of that architecture whose parameters print the same. */
static const struct pl_model_row *by_class(struct pl_vrow *r, const char *name)
{
	double half, want = printed_params(pl_vrow_text(r, "params"), &half);
	size_t len = strcspn(name, " ");
	uint32_t n;
	const struct pl_model_row *rows = pl_catalog_models(&n);
	if (isnan(want) || !name[len] || !(half > 0))
		return NULL;
	for (uint32_t i = 0; i < n; i++) {
		struct pl_vrow probe = *r;
		const struct pl_model *m = pl_vrow_model(&probe, rows[i].id, NULL);
		if (m && strlen(m->arch) == len && !strncmp(m->arch, name, len) && fabs((double)m->n_params - want) <= half)
			return &rows[i];
	}
	return NULL;
}

static const struct pl_model_row *gguf_row(struct pl_vrow *r)
{
	const char *name = pl_vrow_text(r, "model");
	struct pl_model_name n;
	pl_model_name_read(name, &n);
	const struct pl_model_row *row = strchr(name, ' ') ? by_class(r, name) : NULL;
	return row ? row : pl_model_name_find(&n);
}

/* Published files of these are made with an importance matrix, which some mixtures heed. */
static bool with_imatrix(const char *name, const char *url)
{
	static const char *const marks[] = {"bartowski", "unsloth", "imatrix", "imat-", "-i1-"};
	for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
		if (strcasestr(name, marks[i]) || strcasestr(url, marks[i]))
			return true;
	return false;
}

/* Header of such a file: mostly the tokenizer, whose size a dummy of the same vocabulary tells nearly. */
static uint64_t header_bytes(struct pl_vrow *r, const struct pl_model_row *row, const char *quant)
{
	struct pl_synth_params params = {.quant = quant};
	struct pl_vrow probe = *r;
	const struct pl_model *plain = pl_vrow_model(&probe, row->id, NULL);
	struct pl_synth file;
	struct pl_err err;
	return plain && !pl_synth_make(r->a, plain, &params, &file, &err) ? file.header_bytes : 0;
}

static void map_gguf(struct pl_vrow *r)
{
	double unit = unit_bytes(pl_vrow_text(r, "unit"));
	const char *name = pl_vrow_text(r, "model"), *quant = ggml_quant(r, pl_vrow_text(r, "quant")), *note = pl_vrow_text(r, "note");
	struct pl_model_name n;
	struct pl_prediction *p = NULL;
	bool bench = strstr(note, "llama-bench") || strstr(note, "gguf-parser") || strstr(note, "as printed");
	bool listed = !bench && !strstr(note, "tensor bytes");
	/* llama-bench names a file's main type: files of mixed precision bear it as well */
	pl_vrow_class(r, "told_by", bench ? "program" : listed ? "listing" : "header");
	pl_vrow_class(r, "quant", pl_vrow_text(r, "quant"));
	source_class(r);
	pl_model_name_read(name, &n);
	if (isnan(unit))
		pl_vrow_reason(r, "unit: '%.40s' is not known", pl_vrow_text(r, "unit"));
	else
		p = pl_vrow_measured(r, "file_bytes", "size", unit);
	if (!p)
		return;
	if (strstr(note, "pre-GGUF"))
		pl_vrow_flag(r, p, "a file from before GGUF");
	if (strstr(note, "experts all one type") || strstr(name, "openbuddy-mixtral"))
		pl_vrow_flag(r, p, "a mixture of December 2023, when experts had one type");
	if (!quant)
		pl_vrow_reason(r, "no plain mixture of llama.cpp is called '%.40s'", pl_vrow_text(r, "quant"));
	if (n.own_mixture || (starts(name, "unsloth/") && quant && strncmp(quant, "gguf-", 5) != 0 && strcmp(quant, "q8_0") != 0) || *n.quant)
		pl_vrow_reason(r, "a mixture of the converter's own");
	if (quant && with_imatrix(name, pl_vrow_text(r, "source_url")) && strncmp(quant, "gguf-", 5) != 0)
		quant = pl_arena_printf(r->a, "%s-imatrix", quant);
	const struct pl_model_row *row = quant ? gguf_row(r) : NULL;
	if (!row)
		pl_vrow_reason(r, "the catalogue has no model called '%.80s'", name);
	const struct pl_model *m = row && !r->reason ? pl_vrow_model(r, row->id, quant) : NULL;
	if (!m)
		return;
	model_classes(r, m);
	pl_vrow_predict(p, (double)pl_sat_add(m->weight_bytes, listed ? header_bytes(r, row, quant) : 0), NAN, NAN);
}

static const char *const gguf_columns[] = {"model", "quant", "size", "unit", "params", "source_url", "note", NULL};
const struct pl_table_kind pl_kind_gguf_sizes = {"gguf_sizes", gguf_columns, map_gguf, NULL};

/* ---- tensor maps: every matrix in one type ------------------------------------------------------------------------------------ */

/* {"bf16": 1341837934592, "f32": 429807616}: are all matrices of the one type? */
static bool only_type(struct pl_vrow *r, const char *type)
{
	json_t *o = json_loads(pl_vrow_text(r, "bytes_by_dtype"), JSON_REJECT_DUPLICATES, NULL), *bytes;
	const char *key;
	bool only = json_is_object(o);
	json_object_foreach(o, key, bytes)
		only = only && (!strcasecmp(key, type) || !strcmp(key, "f32"));
	json_decref(o);
	return only;
}

static void map_sums(struct pl_vrow *r)
{
	struct pl_prediction *elems = pl_vrow_measured(r, "parameters", "elements", 1);
	struct pl_prediction *bytes = pl_vrow_measured(r, "file_bytes", "tensor_bytes", 1);
	const char *type = pl_vrow_text(r, "ggml_type(target)");
	/* the mixtures that are one type throughout */
	static const char *const plain[][2] = {{"bf16", "gguf-bf16"}, {"f16", "gguf-f16"}, {"q8_0", "q8_0"}, {"q6_k", "q6_k"}};
	const char *quant = NULL;
	pl_vrow_class(r, "type", type);
	for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
		if (!strcasecmp(type, plain[i][0]))
			quant = plain[i][1];
	struct pl_model_name n;
	pl_model_name_read(pl_vrow_text(r, "model"), &n);
	const struct pl_model_row *row = pl_model_name_find(&n);
	if (!row)
		pl_vrow_reason(r, "the catalogue has no model called '%.80s'", pl_vrow_text(r, "model"));
	const struct pl_model *m = row ? pl_vrow_model(r, row->id, quant ? quant : "gguf-bf16") : NULL;
	if (!m)
		return;
	uint64_t sum = 0;
	model_classes(r, m);
	for (uint32_t i = 0; i < m->n_tensors; i++)
		sum = pl_sat_add(sum, m->tensors[i].n_elems);
	pl_vrow_predict(elems, (double)sum, NAN, NAN);
	if (quant && !only_type(r, type))
		pl_vrow_reason(r, "the map holds matrices of other types as well");
	else if (quant)
		pl_vrow_predict(bytes, (double)m->weight_bytes, NAN, NAN);
	else
		pl_vrow_reason(r, "no mixture of llama.cpp has every matrix in '%.20s'", type);
}

static const char *const sums_columns[] = {"model", "ggml_type(target)", "elements", "tensor_bytes", "bits_per_weight", "n_tensors",
                                           "bytes_by_dtype", "source_url", NULL};
const struct pl_table_kind pl_kind_gguf_sums = {"gguf_tensor_sums", sums_columns, map_sums, NULL};

/* ---- safetensors repositories ----------------------------------------------------------------------------------------------------- */

/* The precision a repository's name or remark tells; NULL: as its config says; "": one that is not planned. */
static const char *hub_quant(const char *id, const char *note)
{
	static const struct {
		const char *mark, *quant;
	} marks[] = {
	    {"mxfp4", ""},  {"-DQ", ""}, {"gs32", ""},       {"exl2", ""},  {"mxfp8", "mxfp8"}, {"nvfp4", "nvfp4"},
	    {"head fp32", ""}, {"bnb-8bit", "int8"}, {"NF4", "nf4"}, {"fp32", "f32"},
	};
	bool mlx = starts(id, "mlx-community/");
	static const char *const bits[][2] = {{"3bit", "mlx-3bit"}, {"4bit", "mlx-4bit"}, {"5bit", "mlx-5bit"}, {"6bit", "mlx-6bit"},
	                                      {"8bit", "mlx-8bit"}, {"bf16", "bf16"}};
	for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
		if (strcasestr(id, marks[i].mark) || strcasestr(note, marks[i].mark))
			return mlx ? "" : marks[i].quant; /* which matrices MLX's own FP modes leave out is its converter's choice */
	for (size_t i = 0; i < sizeof bits / sizeof *bits && mlx; i++)
		if (strcasestr(id, bits[i][0]) || strcasestr(note, bits[i][0]))
			return bits[i][1];
	return mlx ? "" : NULL;
}

static const struct pl_model_row *hub_row(struct pl_vrow *r, const char *id)
{
	const struct pl_model_row *row;
	struct pl_model_name n;
	struct pl_err err;
	(void)r;
	if (!pl_model_row_find(id, &row, &err))
		return row;
	pl_model_name_read(id, &n);
	return pl_model_name_find(&n);
}

/* MLX's converter leaves the next-token layers out. */
static uint64_t mtp_bytes(const struct pl_model *m)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i < m->n_tensors; i++)
		if (m->tensors[i].group == PL_GROUP_MTP)
			sum = pl_sat_add(sum, m->tensors[i].bytes);
	return sum;
}

static void map_safetensors(struct pl_vrow *r)
{
	const char *id = pl_vrow_text(r, "hf_id"), *kind = pl_vrow_text(r, "kind"), *note = pl_vrow_text(r, "note");
	const char *quant = hub_quant(id, note);
	bool mlx = starts(id, "mlx-community/");
	struct pl_prediction *p = pl_vrow_measured(r, "file_bytes", "total_size_bytes", 1);
	pl_vrow_class(r, "kind", strstr(kind, "EXACT") ? "exact" : strstr(kind, "LFS") ? "lfs" : strstr(kind, "index") ? "index" : "rounded");
	pl_vrow_class(r, "quant", quant ? quant : "config");
	source_class(r);
	if (!p)
		return;
	if (strstr(kind, "ROUNDED") || strstr(kind, "rounded") || fmod(p->measured, 1e7) == 0)
		pl_vrow_flag(r, p, "the size is rounded, not counted");
	if (strstr(kind, "component") || strstr(note, "component") || strchr(id, ':') || strstr(kind, ".bin") || strstr(kind, ".gguf"))
		pl_vrow_reason(r, "a component of a pipeline or another format, not a language model's safetensors");
	if (quant && !*quant)
		pl_vrow_reason(r, "the precision is a mixture of its own or is not told");
	const struct pl_model_row *row = r->reason ? NULL : hub_row(r, id);
	if (!row)
		pl_vrow_reason(r, "the catalogue has no model called '%.80s'", id);
	else if (strstr(row->config_json, "\"audio_config\""))
		pl_vrow_reason(r, "the audio tower is not counted from a config");
	else if (mlx && strstr(row->config_json, "\"expert_dtype\""))
		pl_vrow_reason(r, "experts of the checkpoint's own four bits are kept");
	const struct pl_model *m = row && !r->reason ? pl_vrow_model(r, row->id, quant) : NULL;
	if (!m)
		return;
	model_classes(r, m);
	uint64_t again = strstr(note, "stores tied") ? pl_sat_mul(pl_sat_mul(m->n_vocab, m->n_embd), 2) : 0;
	pl_vrow_predict(p, (double)pl_sat_add(pl_sat_sub(m->weight_bytes, mlx ? mtp_bytes(m) : 0), again), NAN, NAN);
}

static const char *const safetensors_columns[] = {"hf_id", "total_size_bytes", "kind", "note", "total_parameters_in_index", "source_url", NULL};
const struct pl_table_kind pl_kind_safetensors_sizes = {"safetensors_sizes", safetensors_columns, map_safetensors, NULL};
