/* Devices as people write them in tables, as a hardware line. */
#include <ctype.h>
#include <math.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <plimsoll/catalog.h>
#include <plimsoll/hardware.h>

#include "measure/local_case.h"

enum { NAME = 160 };

/* The first match of an extended, case-insensitive pattern. */
static bool find(const char *pattern, const char *text, regmatch_t *m, size_t n)
{
	regex_t re;
	if (regcomp(&re, pattern, REG_EXTENDED | REG_ICASE))
		return false;
	bool found = !regexec(&re, text, n, m, 0);
	regfree(&re);
	return found;
}

static void cut(const char *pattern, char *text)
{
	regmatch_t m;
	while (find(pattern, text, &m, 1) && m.rm_eo > m.rm_so)
		memmove(text + m.rm_so, text + m.rm_eo, strlen(text + m.rm_eo) + 1);
}

static void trim(char *s)
{
	size_t n = strlen(s), skip = strspn(s, " -,");
	while (n > skip && strchr(" -,", s[n - 1]))
		s[--n] = '\0';
	memmove(s, s + skip, n - skip + 1);
}

static bool try_name(const char *name, const struct pl_gpu **ret)
{
	struct pl_err ignored;
	return *name && !pl_gpu_find(name, ret, &ignored);
}

/* "NVIDIA A100 80GB PCIe": form and memory in the catalogue's order; without a form the module, which most servers hold. */
static bool one_gpu(const char *text, const struct pl_gpu **ret)
{
	char name[NAME], size[NAME];
	if (try_name(text, ret))
		return true;
	(void)snprintf(size, sizeof size, "%s", text);
	size[strcspn(size, "(")] = '\0';
	bool pcie = strcasestr(text, "pcie") != NULL, nvl = pcie && strcasestr(text, "h200");
	regmatch_t m[2];
	long gib = find("([0-9]+) ?gb", text, m, 2) ? strtol(text + m[1].rm_so, NULL, 10) : 80;
	cut("[0-9]+-?core( gpu)?|[0-9]+ ?(gb|g|gib)( |$)", size);
	trim(size);
	if (try_name(size, ret) && (*ret)->unified_memory) /* "Apple M4 24GB": the chip comes in sizes */
		return true;
	cut("sxm[0-9]*|pcie", size);
	trim(size);
	(void)snprintf(name, sizeof name, "%.120s-%s-%ld", size, nvl ? "nvl" : pcie ? "pcie" : "sxm", gib);
	if (try_name(name, ret))
		return true;
	(void)snprintf(name, sizeof name, "%.120s-%s", size, nvl ? "nvl" : pcie ? "pcie" : "sxm");
	return try_name(name, ret);
}

/* "RTX 3060 Ti 8GB + RTX 3080 Ti 12GB", "2× RTX 3090 + 3090 Ti 24GB": parts with their counts. */
static const char *gpu_part(struct pl_vrow *r, const char *text, uint32_t n, uint32_t *ret_n, const char **ret_device)
{
	char copy[NAME];
	const char *line = "";
	uint32_t total = 0;
	(void)snprintf(copy, sizeof copy, "%s", text);
	bool several = strchr(copy, '+') != NULL;
	for (char *rest = copy, *part; (part = strsep(&rest, "+"));) {
		const struct pl_gpu *g;
		regmatch_t m;
		uint32_t count = several ? 1 : n;
		trim(part);
		if (find("^[0-9]+ ?(x|×) ", part, &m, 1)) {
			count = (uint32_t)strtoul(part, NULL, 10);
			part += m.rm_eo;
		}
		if (!one_gpu(part, &g)) {
			pl_vrow_reason(r, "no GPU of the catalogue is called '%.60s'", part);
			return NULL;
		}
		line = pl_arena_printf(r->a, "%s%s%ux %s", line, *line ? " + " : "", count, g->id);
		if (!*ret_device)
			*ret_device = g->id;
		total += count;
	}
	*ret_n = total;
	return line;
}

/* RAM that an LLM run needs at least when the row does not say. */
static const double assumed_ram_gib = 1024;

static double ram_gib(const char *text)
{
	regmatch_t m[3];
	if (find("([0-9]+) ?x ?([0-9]+) ?gb?", text, m, 3))
		return strtod(text + m[1].rm_so, NULL) * strtod(text + m[2].rm_so, NULL);
	if (find("([0-9.]+) ?(gb|gib|tb)", text, m, 3)) {
		double n = strtod(text + m[1].rm_so, NULL);
		return tolower((unsigned char)text[m[2].rm_so]) == 't' ? n * 1024 : n;
	}
	return 0;
}

/* "12x 16GB DDR5 5600": channels and transfers a second. */
static const char *ram_speed(struct pl_vrow *r, const char *text)
{
	regmatch_t m[3];
	const char *channels = "";
	if (!find("(lpddr|ddr)[0-9]x?[- ]?([0-9]{4,5})", text, m, 3) && !find("()()([0-9]{4})mt", text, m, 3))
		return "";
	long mt = strtol(text + m[2].rm_so, NULL, 10);
	if (find("([0-9]+) ?x ?[0-9]+ ?gb?", text, m, 2))
		channels = pl_arena_printf(r->a, " %ldch", strtol(text + m[1].rm_so, NULL, 10));
	return mt >= 800 && mt <= 20000 ? pl_arena_printf(r->a, " ddr5-%ld%s", mt, channels) : "";
}

/* "Intel(R) Core(TM) i5-6400 CPU @ 2.70GHz" as the catalogue of hosts names it. */
static const char *cpu_name(struct pl_vrow *r, const char *text)
{
	char name[NAME];
	(void)snprintf(name, sizeof name, "%s", text);
	cut("\\(r\\)|\\(tm\\)|@.*$|[0-9]+(th|nd|rd) gen|[0-9]+-core( processor)?|processor|custom pc|\\(.*\\)|x1$|cpu|w/ .*$|, ", name);
	cut("^[0-9]x ", name);
	for (char *p = name; *p; p++)
		if (*p == ',' || *p == '+')
			*p = ' ';
	trim(name);
	return pl_arena_strdup(r->a, name);
}

/* Cores that a name or a remark tells: "96-Core", "(64 core, single socket)". */
static long cores_in(const char *text)
{
	regmatch_t m[2];
	return find("([0-9]+)[- ]cores?", text, m, 2) ? strtol(text + m[1].rm_so, NULL, 10) : 0;
}

/* "2x Intel Xeon Platinum 8488C", "Ryzen-7950X", "AMD EPYC 9654 96-core x1" */
static const char *cpu_part(struct pl_vrow *r, const char *line, const char *cpu, const char **ret_device)
{
	const struct pl_cpu *row = pl_cpu_of(cpu);
	const char *name = row ? row->id : cpu_name(r, cpu);
	long cores = row ? 0 : cores_in(cpu);
	regmatch_t m[2];
	long count = find("^([0-9])x ", cpu, m, 2) ? strtol(cpu, NULL, 10) : 1;
	line = *name && count > 1 ? pl_arena_printf(r->a, "%s, cpu %ldx %s", line, count, name) : *name ? pl_arena_printf(r->a, "%s, cpu %s", line, name) : line;
	if (cores >= 2 && cores <= 512)
		line = pl_arena_printf(r->a, "%s, cores %ld", line, cores);
	if (!*ret_device)
		*ret_device = name;
	return line;
}

static bool is_blank(const char *s)
{
	return !*s || !strcasecmp(s, "unknown");
}

const char *pl_local_machine_line(struct pl_vrow *r, uint32_t *ret_n_gpu, const char **ret_device)
{
	const char *gpu = pl_vrow_text(r, "gpu"), *cpu = pl_vrow_text(r, "cpu"), *ram = pl_vrow_text(r, "ram"), *notes = pl_vrow_text(r, "notes");
	uint32_t n = (uint32_t)pl_vrow_whole(r, "n_gpu", 0, 64, 1);
	bool cpu_only = is_blank(gpu) || strcasestr(pl_vrow_text(r, "backend"), "cpu") == pl_vrow_text(r, "backend");
	const char *line = "cpu";
	*ret_n_gpu = 0;
	*ret_device = NULL;
	if (!cpu_only && !(line = gpu_part(r, gpu, n ? n : 1, ret_n_gpu, ret_device)))
		return NULL;
	if (cpu_only && is_blank(cpu)) {
		pl_vrow_reason(r, "the row names neither GPU nor CPU");
		return NULL;
	}
	const struct pl_gpu *unified;
	if (cpu_only && one_gpu(cpu, &unified) && unified->unified_memory && !pl_gpu_borrows_ram(unified)) { /* the CPU of a part whose memory the catalogue knows */
		line = unified->id;
		*ret_device = unified->id;
	}
	double gib = ram_gib(ram);
	line = pl_arena_printf(r->a, "%s, ram %gGiB%s", line, gib >= 1 ? gib : assumed_ram_gib, ram_speed(r, ram));
	if (!is_blank(cpu))
		line = cpu_part(r, line, cpu, ret_device);
	if (strcasestr(notes, "nvlink") && !strcasestr(notes, "no nvlink"))
		line = pl_arena_printf(r->a, "%s, nvlink", line);
	regmatch_t m[3];
	if (find("pcie ?([1-5])(\\.0)? ?x([0-9]+)", notes, m, 2))
		line = pl_arena_printf(r->a, "%s, pcie%ld", line, strtol(notes + m[1].rm_so, NULL, 10));
	return line;
}
