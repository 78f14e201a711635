/* GPUs by the names that drivers, shops and people give them. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <plimsoll/catalog.h>
#include <plimsoll/hardware.h>

#include "catalog/normal.h"

enum { MAX_NAME = 160 };

/* Words that name a maker or a line, not a card. */
static const char *const gpu_words[] = {"nvidia", "geforce", "tesla", "quadro", "amd",  "radeon", "instinct", "intel", "huawei",
                                        "ascend", "apple",   "google", "aws",   "gb",   "g",      "gib",      "rtx",   "gtx",
                                        "rx",     "arc",     "atlas",  "gpu",   "tpu",  "graphics",
                                        "generation", "mthreads", "cambricon", "pro", "data", "center", "edition", NULL};

/* The same name with the words kept that tell variants apart ("RTX PRO 6000" is not "RTX 6000"). */
static const char *const maker_words[] = {"nvidia", "geforce", "tesla", "quadro", "amd", "radeon", "instinct", "intel",
                                          "huawei", "ascend", "apple", "google", "aws", "gb", "g", "gib", "gpu", "graphics",
                                          "generation", "mthreads", "cambricon", "edition", NULL};

/* want: the asked name in two spellings, normalised once for all rows */
static bool gpu_is(const struct pl_gpu *g, char want[2][PL_NORMAL_MAX], const char *const *drop)
{
	char have[PL_NORMAL_MAX];
	pl_normal(g->id, drop, have);
	if (!strcmp(want[0], have) || !strcmp(want[1], have))
		return true;
	pl_normal(g->name, drop, have);
	return !strcmp(want[0], have) || !strcmp(want[1], have) || pl_normal_in(want[0], g->aliases, drop) ||
	       pl_normal_in(want[1], g->aliases, drop);
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

/* Rows whose name begins with what was asked: "a100" for the four A100s. A laptop's part is another chip than the card of its
 * number: only who says so means it. */
static uint32_t variants(const struct pl_gpu *gpus, uint32_t n, const char *want, const struct pl_gpu **ret, uint32_t max)
{
	char have[PL_NORMAL_MAX];
	uint32_t found = 0;
	size_t len = strlen(want);
	for (uint32_t i = 0; i < n; i++) {
		pl_normal(gpus[i].id, gpu_words, have);
		if (!strcmp(gpus[i].form_factor, "laptop") || strncmp(have, want, len) || (isdigit((unsigned char)have[len]) && isdigit((unsigned char)want[len - 1])))
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

bool pl_gpu_borrows_ram(const struct pl_gpu *gpu)
{
	return gpu->unified_memory && !strcmp(gpu->form_factor, "integrated");
}

/* As one name: the whole, or the card and its memory behind. */
static int find_plain(const char *name, const struct pl_gpu **ret_gpu, struct pl_err *err)
{
	struct pl_err miss = {0}, unused = {0};
	const struct pl_gpu *g;
	char cut[MAX_NAME];
	int rc = find_gpu(name, ret_gpu, &miss);
	double gb = rc ? cut_size(name, cut, sizeof cut) : 0;
	if (gb > 0 && !find_gpu(cut, &g, &unused) &&
	    (pl_gpu_borrows_ram(g) || ((double)g->mem_bytes > 0.9e9 * gb && (double)g->mem_bytes < 1.1e9 * gb * 1.0737))) {
		*ret_gpu = g;
		return 0;
	}
	if (rc && err)
		*err = miss;
	return rc;
}

static bool is_alone(const char *name, const char *at, size_t n)
{
	return (at == name || !isalnum((unsigned char)at[-1]) || !isalnum((unsigned char)*at)) &&
	       (!isalnum((unsigned char)at[n]) || !isalnum((unsigned char)at[n - 1]));
}

/* Puts another word in the place of one, wherever it stands alone. */
static void replace_word(char *name, size_t size, const char *word, const char *by)
{
	size_t n = strlen(word), m = strlen(by);
	for (char *at = name; (at = strcasestr(at, word));) {
		if (!is_alone(name, at, n) || strlen(name) + m - n >= size) {
			at++;
			continue;
		}
		memmove(at + m, at + n, strlen(at + n) + 1);
		memcpy(at, by, m);
		at += m;
	}
}

/* "40-core", "(40 core GPU)": how many cores of a chip are on tells bins of it apart, not chips. */
static void cut_cores(char *name)
{
	for (char *at = name; (at = strcasestr(at, "core")); at++) {
		char *begin = at, *end = at + strlen("core");
		while (begin > name && (begin[-1] == ' ' || begin[-1] == '-'))
			begin--;
		char *digits = begin;
		while (digits > name && isdigit((unsigned char)digits[-1]))
			digits--;
		if (digits < begin) {
			memmove(digits, end, strlen(end) + 1);
			at = digits;
			if (!*at)
				return;
		}
	}
}

/* Remarks around a name, and the words for a laptop's part. A card that is itself called "Max-Q" was found before. */
static void cut_remarks(const char *name, char *ret, size_t size)
{
	static const char *const words[][2] = {{"(R)", ""}, {"(TM)", ""}, {"with max-q design", "laptop"}, {"max-q", "laptop"}, {"notebook", "laptop"}, {"mobile", "laptop"},
	                                       {"desktop", ""}, {"integrated", ""}, {"igpu", ""}, {"uma", ""}, {"gpu", ""}, {"oam", ""},
	                                       {"mac mini", ""}, {"mac studio", ""}, {"macbook pro", ""}, {"virtualized", ""}};
	(void)snprintf(ret, size, "%s", name);
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		replace_word(ret, size, words[i][0], words[i][1]);
	cut_cores(ret);
	size_t n = strlen(ret);
	while (n && strchr(" -,", ret[n - 1]))
		ret[--n] = '\0';
}

int pl_gpu_find(const char *name, const struct pl_gpu **ret_gpu, struct pl_err *err)
{
	struct pl_err miss = {0}, unused = {0};
	char plain[MAX_NAME], part[MAX_NAME];
	int rc = find_plain(name, ret_gpu, &miss);
	if (!rc)
		return 0;
	cut_remarks(name, plain, sizeof plain);
	if (!find_plain(plain, ret_gpu, &unused))
		return 0;
	/* "AMD Radeon RX 7900 XTX (RADV NAVI31)", "Alder Lake-P GT2 [Iris Xe Graphics]", "MI60/MI50": what stands before, within, after */
	for (const char *p = plain; *p; p += *p != 0) {
		size_t n = strcspn(p, "()[]/");
		(void)snprintf(part, sizeof part, "%.*s", (int)n, p);
		p += n;
		bool lost = strcasestr(plain, "laptop") && !strcasestr(part, "laptop");
		if (n >= 3 && n < strlen(plain) && !lost && !find_plain(part, ret_gpu, &unused))
			return 0;
	}
	if (err)
		*err = miss;
	return rc;
}
