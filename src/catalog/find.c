#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <plimsoll/catalog.h>
#include <plimsoll/hardware.h>

#include "catalog/normal.h"

int pl_node_find(const char *name, const struct pl_node **ret_node, struct pl_err *err)
{
	char want[PL_NORMAL_MAX], have[PL_NORMAL_MAX];
	uint32_t n;
	const struct pl_node *nodes = pl_catalog_nodes(&n);
	struct pl_near near = {0};
	pl_normal(name, NULL, want);
	for (uint32_t i = 0; i < n && *want; i++) {
		pl_normal(nodes[i].id, NULL, have);
		if (!strcmp(want, have) || pl_normal_in(want, nodes[i].aliases, NULL)) {
			*ret_node = &nodes[i];
			return 0;
		}
		int distance = pl_edit_distance(want, have);
		if (distance <= 3)
			pl_near_add(&near, nodes[i].id, distance);
	}
	return pl_near_fail(&near, pl_tr("node"), name, err);
}

int pl_cloud_find(const char *name, const struct pl_cloud **ret_cloud, struct pl_err *err)
{
	char want[PL_NORMAL_MAX], have[PL_NORMAL_MAX];
	uint32_t n;
	const struct pl_cloud *clouds = pl_catalog_clouds(&n);
	struct pl_near near = {0};
	pl_normal(name, NULL, want);
	for (uint32_t i = 0; i < n && *want; i++) {
		char both[2 * PL_NORMAL_MAX];
		pl_normal(clouds[i].instance, NULL, have);
		if (!strcmp(want, have))
			goto found;
		(void)snprintf(both, sizeof both, "%s %s", clouds[i].provider, clouds[i].instance);
		pl_normal(both, NULL, have);
		if (!strcmp(want, have))
			goto found;
		pl_normal(clouds[i].id, NULL, have);
		if (!strcmp(want, have))
			goto found;
		int distance = pl_edit_distance(want, have);
		if (distance <= 3)
			pl_near_add(&near, clouds[i].id, distance);
		continue;
	found:
		*ret_cloud = &clouds[i];
		return 0;
	}
	return pl_near_fail(&near, pl_tr("cloud instance"), name, err);
}

/* ---- models ----------------------------------------------------------------------------------------------------- */

static const char *base_name(const char *id)
{
	const char *slash = strrchr(id, '/');
	return slash ? slash + 1 : id;
}

/* How well a row answers: 0 not at all; the higher the better. */
static int model_score(const struct pl_model_row *row, const char *asked)
{
	static const char *const meta[] = {"meta", NULL};
	static const char *const tuned[] = {"meta", "instruct", "chat", "it", "hf", "base", NULL};
	char want[PL_NORMAL_MAX], have[PL_NORMAL_MAX];
	int score = 0;
	if (!strcasecmp(row->id, asked))
		return 100;
	pl_normal(asked, NULL, want);
	if (!*want)
		return 0;
	if (pl_normal_in(want, row->aliases, NULL))
		return 90;
	pl_normal(row->id, NULL, have);
	if (!strcmp(want, have))
		return 80;
	pl_normal(base_name(row->id), NULL, have);
	if (!strcmp(want, have))
		score = 60;
	/* of the same owner, or of one that is not named */
	size_t owner = (size_t)(base_name(asked) - asked);
	bool kin = !owner || !strncasecmp(asked, row->id, owner);
	if (!score && kin) {
		pl_normal(base_name(row->id), meta, have);
		pl_normal(base_name(asked), meta, want);
		score = strcmp(want, have) ? 0 : 50;
	}
	if (!score && kin) {
		pl_normal(base_name(row->id), tuned, have);
		pl_normal(base_name(asked), tuned, want);
		score = strcmp(want, have) ? 0 : 40;
	}
	/* a config taken from the maker's own repository before one that was rebuilt, an official name before a copy's */
	if (score && !strncmp(row->config_kind, "hf_config_copy", 14))
		score += 4;
	if (score && (!strncmp(row->id, "unsloth/", 8) || !strncmp(row->id, "NousResearch/", 13)))
		score -= 15;
	return score;
}

static const struct pl_model_row *best_row(const char *name)
{
	uint32_t n;
	const struct pl_model_row *rows = pl_catalog_models(&n), *best = NULL;
	int best_score = 0;
	for (uint32_t i = 0; i < n; i++) {
		int score = model_score(&rows[i], name);
		if (score > best_score) {
			best_score = score;
			best = &rows[i];
		}
	}
	return best;
}

/* "q4_k_m", "iq2", "4bit", "3.5bpw", "w4a16", "g128": how weights are stored. */
static bool is_precision(const char *word)
{
	const char *digits = word + strcspn(word, "0123456789");
	size_t letters = (size_t)(digits - word), n = strspn(digits, "0123456789.");
	static const char *const before[] = {"q", "iq", "tq", "fp", "bf", "f", "int", "nvfp", "mxfp", "w", "g", "gs", "exl", "nf", "bnb", "kv", "i"};
	static const char *const after[] = {"bit", "bits", "bpw"};
	if (!n)
		return false;
	for (size_t i = 0; i < sizeof after / sizeof *after; i++)
		if (!letters && !strcasecmp(digits + n, after[i]))
			return true;
	for (size_t i = 0; i < sizeof before / sizeof *before; i++)
		if (letters == strlen(before[i]) && !strncasecmp(word, before[i], letters) && (!digits[n] || digits[n] == '_' || !strncasecmp(digits + n, "a", 1)))
			return true;
	return false;
}

static bool is_packaging(const char *word)
{
	static const char *const words[] = {"gguf", "ud", "awq", "gptq", "mlx", "dwq", "bnb", "hf", "imat", "imatrix", "qat", "unsloth", "dynamic", "quantized",
	                                    "autoround", "marlin", "latest", "mtp", "exl2", "exl3", "quant", "safetensors", "of", "ct", "static", "mixed", "optimized"};
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (!strcasecmp(word, words[i]))
			return true;
	/* the number of a part: "00001" of "00001-of-00003" */
	return is_precision(word) || (strlen(word) == 5 && strspn(word, "0123456789") == 5);
}

/* The same without what converters put around a name: whose copy it is, the precision, the format, the part. */
static const struct pl_model_row *unpacked_row(const char *name)
{
	char text[160];
	const struct pl_model_row *row = NULL;
	if (strlen(base_name(name)) >= sizeof text)
		return NULL;
	(void)snprintf(text, sizeof text, "%s", base_name(name));
	for (char *p = text; *p; p++)
		if (*p == ':' || *p == ' ')
			*p = '-';
	for (bool cut = true; cut && !row;) {
		char *last = text + strlen(text);
		while (last > text && last[-1] != '-' && (last[-1] != '.' || isdigit((unsigned char)*last))) /* "4.0bpw" is one word */
			last--;
		cut = last > text && is_packaging(last);
		if (cut)
			last[-1] = '\0';
		row = cut || strcmp(text, name) != 0 ? best_row(text) : NULL;
		char *owner = strchr(text, '_'); /* "bartowski/google_gemma-3-4b-it-GGUF" */
		if (!row && owner && owner[1])
			row = best_row(owner + 1);
	}
	return row;
}

int pl_model_row_find(const char *name, const struct pl_model_row **ret_row, struct pl_err *err)
{
	char want[PL_NORMAL_MAX], have[PL_NORMAL_MAX];
	uint32_t n;
	const struct pl_model_row *rows = pl_catalog_models(&n), *best = best_row(name);
	struct pl_near near = {0};
	if (!best)
		best = unpacked_row(name);
	if (best) {
		*ret_row = best;
		return 0;
	}
	pl_normal(base_name(name), NULL, want);
	for (uint32_t i = 0; i < n && *want; i++) {
		pl_normal(base_name(rows[i].id), NULL, have);
		int distance = pl_edit_distance(want, have);
		if (!strncmp(want, have, strlen(want)))
			distance = 1; /* a beginning is a good guess */
		if (distance <= 1 + (int)strlen(want) / 3)
			pl_near_add(&near, rows[i].id, distance);
	}
	return pl_near_fail(&near, pl_tr("model"), name, err);
}

/* "10gbe", "2.5 GbE", "100g": an Ethernet of so many Gbit/s. */
static const struct pl_link *ethernet(const char *name)
{
	char *end, id[32];
	double gbit = strtod(name, &end);
	while (*end == ' ')
		end++;
	if (end == name || !(gbit > 0) || (strcasecmp(end, "gbe") && strcasecmp(end, "g") && strcasecmp(end, "gbit")))
		return NULL;
	(void)snprintf(id, sizeof id, "eth-%gg", gbit);
	return pl_link_of(id);
}

const struct pl_link *pl_link_of(const char *name)
{
	uint32_t n;
	const struct pl_link *rows = pl_catalog_links(&n);
	for (uint32_t i = 0; i < n; i++)
		if (!strcasecmp(rows[i].id, name) || !strcasecmp(rows[i].name, name))
			return &rows[i];
	return ethernet(name);
}
