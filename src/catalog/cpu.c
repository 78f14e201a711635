/* CPUs by the names people and kernels give them, and what their cores can do. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <plimsoll/hardware.h>

#include "base/words.h"

enum { MAX_WORDS = 24, WORD = 32 };

/* Words of letters and digits, lower case; "Max+" is "max". */
static int words_of(const char *text, char ret[MAX_WORDS][WORD])
{
	int n = 0;
	for (const char *p = text; *p && n < MAX_WORDS;) {
		size_t len = 0;
		while (*p && !isalnum((unsigned char)*p))
			p++;
		for (; isalnum((unsigned char)*p); p++)
			if (len < WORD - 1)
				ret[n][len++] = (char)tolower((unsigned char)*p);
		ret[n][len] = '\0';
		n += len > 0;
	}
	return n;
}

static bool holds(char (*words)[WORD], int n, const char *word, size_t len)
{
	for (int i = 0; i < n; i++)
		if (strlen(words[i]) == len && !strncmp(words[i], word, len))
			return true;
	return false;
}

/* How many words of match the text holds; 0: not all. */
static int all_held(char (*words)[WORD], int n, const char *match)
{
	int found = 0;
	for (const char *p = match; *p; found++) {
		size_t len = strcspn(p, " -");
		if (!holds(words, n, p, len))
			return 0;
		p += len + strspn(p + len, " -");
	}
	return found;
}

static bool holds_any(char (*words)[WORD], int n, const char *const *of)
{
	for (; *of; of++)
		if (holds(words, n, *of, strlen(*of)))
			return true;
	return false;
}

/* Model numbers that two makers use mean the one whose line is named. */
static bool other_line(char (*words)[WORD], int n, const struct pl_cpu *c)
{
	static const char *const amd_lines[] = {"amd", "ryzen", "epyc", "threadripper", NULL};
	static const char *const intel_lines[] = {"intel", "xeon", "i3", "i5", "i7", "i9", NULL};
	bool amd = holds_any(words, n, amd_lines), intel = holds_any(words, n, intel_lines);
	return (amd && !intel && c->vendor != PL_VENDOR_AMD) || (intel && !amd && c->vendor != PL_VENDOR_INTEL);
}

const struct pl_cpu *pl_cpu_of(const char *text)
{
	char words[MAX_WORDS][WORD];
	uint32_t n;
	const struct pl_cpu *rows = pl_catalog_cpus(&n), *best = NULL;
	int n_words = words_of(text ? text : "", words), most = 0;
	for (uint32_t i = 0; i < n; i++) {
		int held = all_held(words, n_words, rows[i].match);
		if (!strcasecmp(rows[i].id, text ? text : ""))
			return &rows[i];
		if (held > most && !other_line(words, n_words, &rows[i])) {
			most = held;
			best = &rows[i];
		}
	}
	return best;
}

const struct pl_core *pl_core_of(const char *id)
{
	uint32_t n;
	const struct pl_core *rows = pl_catalog_cores(&n);
	for (uint32_t i = 0; i < n && id && *id; i++)
		if (!strcmp(rows[i].id, id))
			return &rows[i];
	return NULL;
}

const struct pl_core *pl_core_in(const char *text)
{
	char words[MAX_WORDS][WORD];
	uint32_t n;
	const struct pl_core *rows = pl_catalog_cores(&n), *best = NULL;
	int n_words = words_of(text, words), most = 0;
	for (uint32_t i = 0; i < n; i++) {
		int held = all_held(words, n_words, rows[i].id);
		if (held > most) {
			most = held;
			best = &rows[i];
		}
	}
	return best;
}

/* "amd/25/16-31 amd/25/96-175" */
static bool is_among(const char *list, const char *vendor, uint32_t family, uint32_t model)
{
	size_t n = strlen(vendor);
	for (const char *p = list; *p; p += strcspn(p, " "), p += strspn(p, " ")) {
		char *end;
		if (strncmp(p, vendor, n) != 0 || p[n] != '/' || strtoul(p + n + 1, &end, 10) != family || *end != '/')
			continue;
		unsigned long first = strtoul(end + 1, &end, 10), last = *end == '-' ? strtoul(end + 1, NULL, 10) : first;
		if (model >= first && model <= last)
			return true;
	}
	return false;
}

const struct pl_core *pl_core_of_cpuid(const char *vendor, uint32_t family, uint32_t model)
{
	uint32_t n;
	const struct pl_core *rows = pl_catalog_cores(&n);
	for (uint32_t i = 0; i < n; i++)
		if (is_among(rows[i].cpuid, vendor, family, model))
			return &rows[i];
	return NULL;
}

const struct pl_core *pl_core_of_flags(const char *flags)
{
	static const char *const by_flag[][2] = {{"avx512f", "avx512"}, {"avx2", "avx2"}, {"avx", "avx"}, {"asimd", "neon"}};
	for (size_t i = 0; flags && i < sizeof by_flag / sizeof *by_flag; i++)
		if (pl_word_in(flags, by_flag[i][0]))
			return pl_core_of(by_flag[i][1]);
	return NULL;
}

/* Where no maker states it, all cores together run this far from base to boost: the median of the 64 EPYC whose maker states
 * all three is 0.83. Without a base clock that is 0.8 of the boost. */
static const double all_core_frac = 0.83, base_frac = 0.8;

double pl_cpu_hz(const struct pl_cpu *c)
{
	if (!isnan(c->all_core_hz))
		return c->all_core_hz;
	double base = isnan(c->base_hz) ? base_frac * c->boost_hz : c->base_hz;
	if (isnan(c->boost_hz))
		return isnan(c->base_hz) ? 0 : c->base_hz;
	return base + all_core_frac * (c->boost_hz - base);
}

/* DDR moves 8 bytes a channel and transfer (JEDEC). */
double pl_cpu_ram_bytes_per_s(const struct pl_cpu *c)
{
	return isnan(c->channels) || !c->mt_per_s ? 0 : c->channels * 8 * c->mt_per_s * 1e6;
}

static int by_value(const void *x, const void *y)
{
	double a = *(const double *)x, b = *(const double *)y;
	return a < b ? -1 : a > b;
}

/* Of the CPUs with this core that servers are made of, the middle one. */
static double server_median(const struct pl_core *core, double (*value)(const struct pl_cpu *))
{
	double found[256];
	uint32_t n, k = 0;
	const struct pl_cpu *rows = pl_catalog_cpus(&n);
	for (uint32_t i = 0; i < n && k < sizeof found / sizeof *found; i++)
		if (!strcmp(rows[i].core, core->id) && rows[i].channels >= 4)
			found[k++] = value(&rows[i]);
	qsort(found, k, sizeof *found, by_value);
	return k ? found[k / 2] : 0;
}

double pl_core_server_hz(const struct pl_core *c)
{
	return server_median(c, pl_cpu_hz);
}

double pl_core_server_ram_bytes_per_s(const struct pl_core *c)
{
	return server_median(c, pl_cpu_ram_bytes_per_s);
}
