#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <plimsoll/catalog.h>
#include <plimsoll/hardware.h>

#include "catalog/normal.h"

/* Words that name a maker or a line, not a card. */
static const char *const gpu_words[] = {"nvidia", "geforce", "tesla", "quadro", "amd",  "radeon", "instinct", "intel", "huawei",
                                        "ascend", "apple",   "google", "aws",   "gb",   "g",      "gib",      "rtx",   "gtx",
                                        "rx",     "arc",     "atlas",  "gpu",   "tpu",  "graphics",
                                        "generation", "mthreads", "cambricon", "pro", "data", "center", "edition", NULL};

/* The same name with the words kept that tell variants apart ("RTX PRO 6000" is not "RTX 6000"). */
static const char *const maker_words[] = {"nvidia", "geforce", "tesla", "quadro", "amd", "radeon", "instinct", "intel",
                                          "huawei", "ascend", "apple", "google", "aws", "gb", "g", "gib", "gpu", "graphics",
                                          "generation", "mthreads", "cambricon", "edition", NULL};

static bool one_of(const char *normal, const char *list, const char *const *drop)
{
	char word[PL_NORMAL_MAX], n[PL_NORMAL_MAX];
	while (*list) {
		size_t len = strcspn(list, " ");
		if (len && len < sizeof word) {
			memcpy(word, list, len);
			word[len] = '\0';
			pl_normal(word, drop, n);
			if (!strcmp(n, normal))
				return true;
		}
		list += len + (list[len] == ' ');
	}
	return false;
}

/* want: the asked name in two spellings, normalised once for all rows */
static bool gpu_is(const struct pl_gpu *g, char want[2][PL_NORMAL_MAX], const char *const *drop)
{
	char have[PL_NORMAL_MAX];
	pl_normal(g->id, drop, have);
	if (!strcmp(want[0], have) || !strcmp(want[1], have))
		return true;
	pl_normal(g->name, drop, have);
	return !strcmp(want[0], have) || !strcmp(want[1], have) || one_of(want[0], g->aliases, drop) ||
	       one_of(want[1], g->aliases, drop);
}

/* The driver's names carry form factor, generation and size in its own words: "Tesla V100-SXM2-16GB", "NVIDIA A100-SXM4-80GB",
 * "NVIDIA H100 80GB HBM3", "NVIDIA RTX PRO 6000 Blackwell Server Edition". */
static void as_driver_says(const char *asked, char *ret, size_t size)
{
	static const struct {
		const char *from, *to;
	} words[] = {{"SXM4", "SXM"}, {"SXM3", "SXM"}, {"SXM5", "SXM"}, {"sxm4", "sxm"}, {"sxm5", "sxm"}, {" HBM3e", ""},
	             {" HBM3", ""},   {" HBM2e", ""},  {"Blackwell", "bw"}, {"blackwell", "bw"}, {"Workstation Edition", ""},
	             {" SUPER", "s"}, {" Super", "s"}, {" super", "s"}, {"-super", "s"}, {" Ti", "ti"}, {" XTX", "xtx"},
	             {" XT", "xt"}, {"(R)", ""},  {"(TM)", ""}, {" OAM", ""}};
	(void)snprintf(ret, size, "%s", asked);
	for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
		char *at = strstr(ret, words[i].from);
		size_t from = strlen(words[i].from), to = strlen(words[i].to);
		if (!at)
			continue;
		memcpy(at, words[i].to, to);
		memmove(at + to, at + from, strlen(at + from) + 1);
	}
}

/* Rows whose name begins with what was asked: "a100" for the four A100s. */
static uint32_t variants(const struct pl_gpu *gpus, uint32_t n, const char *want, const struct pl_gpu **ret, uint32_t max)
{
	char have[PL_NORMAL_MAX];
	uint32_t found = 0;
	size_t len = strlen(want);
	for (uint32_t i = 0; i < n; i++) {
		pl_normal(gpus[i].id, gpu_words, have);
		if (strncmp(have, want, len) || (isdigit((unsigned char)have[len]) && isdigit((unsigned char)want[len - 1])))
			continue;
		if (found < max)
			ret[found] = &gpus[i];
		found++;
	}
	return found;
}

static int many(const struct pl_gpu *const *v, uint32_t n, const char *asked, struct pl_err *err)
{
	char list[256] = "";
	for (uint32_t i = 0; i < n && i < 6; i++) {
		size_t at = strlen(list);
		(void)snprintf(list + at, sizeof list - at, "%s%s", i ? ", " : "", v[i]->id);
	}
	return pl_fail(err, PL_ERR_UNKNOWN_NAME, asked, "'%.60s' is the name of several cards: %s", asked, list);
}

static bool same_memory(const struct pl_gpu *const *v, uint32_t n)
{
	for (uint32_t i = 1; i < n; i++)
		if (v[i]->mem_bytes != v[0]->mem_bytes)
			return false;
	return true;
}

static int find_gpu(const char *name, const struct pl_gpu **ret_gpu, struct pl_err *err)
{
	enum { MAX_VARIANTS = 8 };
	const char *const *const drops[] = {maker_words, gpu_words};
	const struct pl_gpu *v[MAX_VARIANTS];
	char want[PL_NORMAL_MAX], have[PL_NORMAL_MAX], driver[128], both[2][PL_NORMAL_MAX];
	uint32_t n, found;
	const struct pl_gpu *gpus = pl_catalog_gpus(&n);
	struct pl_near near = {0};
	as_driver_says(name, driver, sizeof driver);
	for (size_t d = 0; d < 2; d++) {
		pl_normal(name, drops[d], both[0]);
		pl_normal(driver, drops[d], both[1]);
		for (uint32_t i = 0; i < n && *both[0]; i++)
			if (gpu_is(&gpus[i], both, drops[d])) {
				*ret_gpu = &gpus[i];
				return 0;
			}
	}
	pl_normal(driver, gpu_words, want);
	found = strlen(want) >= 2 ? variants(gpus, n, want, v, MAX_VARIANTS) : 0;
	if (found && (found == 1 || (found <= MAX_VARIANTS && same_memory(v, found)))) {
		*ret_gpu = v[0]; /* the first row is the common one */
		return 0;
	}
	if (found)
		return many(v, found < MAX_VARIANTS ? found : MAX_VARIANTS, name, err);
	for (uint32_t i = 0; i < n; i++) {
		pl_normal(gpus[i].id, gpu_words, have);
		int distance = pl_edit_distance(want, have);
		if (distance <= 1 + (int)strlen(want) / 3)
			pl_near_add(&near, gpus[i].id, distance);
	}
	return pl_near_fail(&near, pl_tr("GPU"), name, err);
}

/* "NVIDIA GeForce GTX 1080 8GB", "RTX 5070 Ti 16GB": the name and, after it, the memory of a card of one size. */
static double cut_size(const char *name, char *ret, size_t size)
{
	(void)snprintf(ret, size, "%s", name);
	size_t n = strlen(ret);
	while (n && strchr("gGiIbB ", ret[n - 1]))
		n--;
	size_t end = n;
	while (n && isdigit((unsigned char)ret[n - 1]))
		n--;
	if (n == end || !n || (ret[end] | 32) != 'g' || !strchr(" -_", ret[n - 1]))
		return 0;
	ret[n - 1] = 0;
	return atof(ret + n);
}

int pl_gpu_find(const char *name, const struct pl_gpu **ret_gpu, struct pl_err *err)
{
	struct pl_err miss = {0}, unused = {0};
	const struct pl_gpu *g;
	char cut[128];
	int rc = find_gpu(name, ret_gpu, &miss);
	double gb = rc ? cut_size(name, cut, sizeof cut) : 0;
	if (gb > 0 && !find_gpu(cut, &g, &unused) && (double)g->mem_bytes > 0.9e9 * gb && (double)g->mem_bytes < 1.1e9 * gb * 1.0737) {
		*ret_gpu = g;
		return 0;
	}
	if (rc && err)
		*err = miss;
	return rc;
}

int pl_node_find(const char *name, const struct pl_node **ret_node, struct pl_err *err)
{
	char want[PL_NORMAL_MAX], have[PL_NORMAL_MAX];
	uint32_t n;
	const struct pl_node *nodes = pl_catalog_nodes(&n);
	struct pl_near near = {0};
	pl_normal(name, NULL, want);
	for (uint32_t i = 0; i < n && *want; i++) {
		pl_normal(nodes[i].id, NULL, have);
		if (!strcmp(want, have) || one_of(want, nodes[i].aliases, NULL)) {
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
	if (one_of(want, row->aliases, NULL))
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

int pl_model_row_find(const char *name, const struct pl_model_row **ret_row, struct pl_err *err)
{
	char want[PL_NORMAL_MAX], have[PL_NORMAL_MAX];
	uint32_t n;
	const struct pl_model_row *rows = pl_catalog_models(&n), *best = NULL;
	struct pl_near near = {0};
	int best_score = 0;
	for (uint32_t i = 0; i < n; i++) {
		int score = model_score(&rows[i], name);
		if (score > best_score) {
			best_score = score;
			best = &rows[i];
		}
	}
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
