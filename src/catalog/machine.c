/* The hardware line (docs/hardware-line.md): devices joined by "+", then attributes after commas. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <plimsoll/hardware.h>

#include "base/checked.h"
#include "base/fmt.h"
#include "catalog/machine.h"
#include "catalog/normal.h"

enum { MAX_LINE = 1024, MAX_NODES = 1024, MAX_SOCKETS = 16, WORD = 128 };

struct line {
	struct pl_arena *a;
	struct pl_machine *m;
	struct pl_device devices[PL_MAX_DEVICES];
	uint32_t n_devices;
	double pcie_gen, pcie_lanes;
	uint32_t rpc_hosts; /* named so far */
	double ram_channels, ram_mt_per_s; /* of one socket; 0 not said */
	struct pl_err *err;
};

/* ---- small parts ------------------------------------------------------------------------------------------------ */

/* The part trimmed; full-width punctuation was made plain before. */
static char *trim(char *s)
{
	while (isspace((unsigned char)*s))
		s++;
	char *end = s + strlen(s);
	while (end > s && isspace((unsigned char)end[-1]))
		*--end = '\0';
	return s;
}

/* "，＋、× " as people type them with a Chinese keyboard */
static void make_plain(char *s)
{
	static const struct {
		const char *from;
		char to;
	} wide[] = {{"，", ','}, {"、", ','}, {"＋", '+'}, {"×", 'x'}, {"　", ' '}, {"＊", 'x'}, {"：", ':'}, {"；", ','}};
	for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
		for (char *at; (at = strstr(s, wide[i].from));) {
			size_t n = strlen(wide[i].from);
			*at = wide[i].to;
			memmove(at + 1, at + n, strlen(at + n) + 1);
		}
	}
}

int pl_size_parse(const char *text, const char *where, uint64_t *ret_bytes, struct pl_err *err)
{
	static const struct {
		const char *unit;
		double bytes;
	} units[] = {{"gib", 0x1p30}, {"mib", 0x1p20}, {"tib", 0x1p40}, {"gb", 0x1p30}, {"mb", 0x1p20}, {"tb", 0x1p40},
	             {"g", 0x1p30},   {"m", 0x1p20},   {"t", 0x1p40}};
	char *end;
	double n = strtod(text, &end);
	if (end == text || !isfinite(n) || n < 0 || !isdigit((unsigned char)*text))
		return pl_fail(err, PL_ERR_FORMAT, where, "'%.60s' is not a size like 64GiB", text);
	while (isspace((unsigned char)*end))
		end++;
	for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
		if (strcasecmp(end, units[i].unit))
			continue;
		double bytes = n * units[i].bytes;
		if (bytes < 0x1p20 || bytes > 0x1p46)
			return pl_fail(err, PL_ERR_RANGE, where, "%.60s is outside 1 MiB to 64 TiB", text);
		*ret_bytes = (uint64_t)bytes;
		return 0;
	}
	return pl_fail(err, PL_ERR_FORMAT, where, "'%.60s' needs a unit: GiB, MiB or TiB", text);
}

/* "2x v100", "2 x v100", "8× …": the count and what follows it. */
static int take_count(struct line *l, char **part, uint32_t *ret)
{
	char *end;
	*ret = 1;
	if (**part == '-')
		return pl_fail(l->err, PL_ERR_RANGE, "--on", "'%.60s' has a negative count", *part);
	if (!isdigit((unsigned char)**part))
		return 0;
	unsigned long n = strtoul(*part, &end, 10);
	char *x = end;
	while (*x == ' ')
		x++;
	/* "4090" is a name, "2x4090" and "2 x 4090" are counts */
	if ((*x != 'x' && *x != 'X' && *x != '*') || (!isspace((unsigned char)x[1]) && !isalnum((unsigned char)x[1])))
		return 0;
	if (n < 1 || n > MAX_NODES)
		return pl_fail(l->err, PL_ERR_RANGE, "--on", "'%.60s' counts %lu, 1 to %d are possible", *part, n, MAX_NODES);
	*part = trim(x + 1);
	*ret = (uint32_t)n;
	return 0;
}

/* ---- devices ---------------------------------------------------------------------------------------------------- */

static int add_devices(struct line *l, const struct pl_device *d, uint32_t count)
{
	if (count > PL_MAX_DEVICES - l->n_devices)
		return pl_fail(l->err, PL_ERR_RANGE, "--on", "%u devices asked, %d are possible in one plan", l->n_devices + count,
		               PL_MAX_DEVICES);
	for (uint32_t i = 0; i < count; i++)
		l->devices[l->n_devices++] = *d;
	return 0;
}

static struct pl_device device_of(const struct pl_gpu *g)
{
	return (struct pl_device){.name = g->name, .gpu = g, .vendor = g->vendor, .total_bytes = g->mem_bytes,
	                          .free_bytes = g->mem_bytes, .unified_memory = g->unified_memory, .numa_node = -1};
}

/* "gpu-24GiB": a card of that size which nobody catalogued. */
static int sized_card(struct line *l, const char *word, uint32_t count, bool *ret_is)
{
	uint64_t bytes;
	*ret_is = !strncasecmp(word, "gpu-", 4);
	if (!*ret_is)
		return 0;
	int rc = pl_size_parse(word + 4, "--on", &bytes, l->err);
	if (rc)
		return rc;
	struct pl_device d = {.name = pl_arena_strdup(l->a, word), .total_bytes = bytes, .free_bytes = bytes, .numa_node = -1};
	return add_devices(l, &d, count);
}

static void take_node(struct line *l, const struct pl_node *n, uint32_t hosts)
{
	l->m->node = n;
	l->m->n_nodes = hosts;
	l->m->link = n->intra_link;
	l->m->cpu = *n->cpu ? n->cpu : NULL;
	l->m->net_bytes_per_s = pl_nic_bytes_per_s(n->nic);
	if (!isnan(n->ram_bytes) && n->ram_bytes > 0)
		l->m->ram_bytes = (struct pl_opt_u64){(uint64_t)n->ram_bytes, true};
}

static int whole_machine(struct line *l, const char *word, uint32_t count, bool *ret_is)
{
	const struct pl_node *n;
	const struct pl_cloud *c;
	const struct pl_gpu *g;
	struct pl_err ignored;
	uint32_t gpus;
	const char *gpu_id;
	*ret_is = true;
	if (!pl_node_find(word, &n, &ignored)) {
		take_node(l, n, count);
		gpus = n->gpu_count;
		gpu_id = n->gpu_id;
	} else if (!pl_cloud_find(word, &c, &ignored)) {
		l->m->cloud = c;
		l->m->net_bytes_per_s = c->net_bits_per_s > 0 ? c->net_bits_per_s / 8 * 0.93 : 0; /* as ports, catalog/network.c */
		l->m->n_nodes = count;
		l->m->cpu_threads = c->vcpu;
		if (!isnan(c->ram_bytes))
			l->m->ram_bytes = (struct pl_opt_u64){(uint64_t)c->ram_bytes, true};
		gpus = c->gpu_count;
		gpu_id = c->gpu_id;
	} else {
		*ret_is = false;
		return 0;
	}
	int rc = pl_gpu_find(gpu_id, &g, l->err);
	for (uint32_t host = 0; host < count && !rc; host++) {
		struct pl_device d = device_of(g);
		d.node = host;
		rc = add_devices(l, &d, gpus);
	}
	return rc;
}

/* "m4-max-128gb", "strix-halo-64gb": parts with unified memory come in sizes; the row lists the largest. */
static bool sized_unified(const char *word, char *name, size_t size, double *ret_gib)
{
	const char *digits = NULL, *end = word + strlen(word);
	while (end > word && isalpha((unsigned char)end[-1]))
		end--;
	digits = end;
	while (digits > word && isdigit((unsigned char)digits[-1]))
		digits--;
	if (digits == end || digits == word || !*end || (strcasecmp(end, "gb") && strcasecmp(end, "gib") && strcasecmp(end, "g")))
		return false;
	*ret_gib = strtod(digits, NULL);
	(void)snprintf(name, size, "%.*s", (int)(digits - word), word);
	for (size_t n = strlen(name); n && (name[n - 1] == '-' || name[n - 1] == ' '); n--)
		name[n - 1] = '\0';
	return *name && *ret_gib >= 1;
}

static int catalogued_card(struct line *l, const char *word, uint32_t count, bool *ret_is)
{
	const struct pl_gpu *g;
	struct pl_err ignored;
	*ret_is = !pl_gpu_find(word, &g, &ignored);
	if (!*ret_is)
		return 0;
	struct pl_device d = device_of(g);
	return add_devices(l, &d, count);
}

/* What is left: a size of a unified-memory part, or a name with a mistake in it. */
static int named_card(struct line *l, const char *word, uint32_t count)
{
	const struct pl_gpu *g;
	struct pl_err ignored;
	char name[WORD];
	double gib;
	if (sized_unified(word, name, sizeof name, &gib) && !pl_gpu_find(name, &g, &ignored) && g->unified_memory &&
	    gib <= (double)g->mem_bytes / 0x1p30) {
		struct pl_device d = device_of(g);
		d.total_bytes = d.free_bytes = (uint64_t)(gib * 0x1p30);
		d.name = pl_arena_printf(l->a, "%s %g GB", g->name, gib);
		return add_devices(l, &d, count);
	}
	return pl_gpu_find(word, &g, l->err); /* says what is near */
}

static bool is_cpu_only(const char *word)
{
	return !strcasecmp(word, "cpu") || !strcasecmp(word, "none") || !strcasecmp(word, "no gpu");
}

/* "epyc 9654", "2x xeon gold 6226r"; a count of sockets is small, "7950x 16-core" is a name. */
static int cpu(struct line *l, char *name)
{
	char *rest = name;
	uint32_t count = 1;
	struct pl_err ignored, *err = l->err;
	l->err = &ignored;
	bool counted = !take_count(l, &rest, &count) && count <= MAX_SOCKETS;
	l->err = err;
	if (counted && count > 1)
		l->m->sockets = count;
	if (l->m->sockets > MAX_SOCKETS)
		return pl_fail(l->err, PL_ERR_RANGE, "--on", "'%.60s' in %u sockets: 1 to %d are possible", name, l->m->sockets, MAX_SOCKETS);
	l->m->cpu = pl_arena_strdup(l->a, counted ? rest : name);
	return 0;
}

static int named_devices(struct line *l, char *part)
{
	uint32_t count;
	bool is;
	if (!*part)
		return pl_fail(l->err, PL_ERR_FORMAT, "--on", "a device is missing before or after '+'");
	int rc = take_count(l, &part, &count);
	if (rc)
		return rc;
	if (is_cpu_only(part))
		return 0;
	if (!strncasecmp(part, "cpu ", 4)) { /* "cpu epyc 9654", "2x cpu epyc 9654": no GPU, and which CPU */
		l->m->sockets = count;
		return cpu(l, trim(part + 4));
	}
	rc = sized_card(l, part, count, &is);
	if (rc || is)
		return rc;
	/* a card before a machine of the same name: clouds call their offers after the card */
	rc = catalogued_card(l, part, count, &is);
	if (rc || is)
		return rc;
	rc = whole_machine(l, part, count, &is);
	if (rc || is)
		return rc;
	return named_card(l, part, count);
}

/* "rpc 2x rtx3090": cards of another host, which llama.cpp reaches over the network. */
static int device_part(struct line *l, char *part)
{
	uint32_t first = l->n_devices;
	part = trim(part);
	bool rpc = !strncasecmp(part, "rpc ", 4);
	int rc = named_devices(l, rpc ? trim(part + 4) : part);
	if (rc || !rpc)
		return rc;
	if (l->n_devices == first)
		return pl_fail(l->err, PL_ERR_FORMAT, "--on", "'%.60s' names no card", part);
	l->m->n_nodes = ++l->rpc_hosts + 1;
	for (uint32_t i = first; i < l->n_devices; i++) {
		l->devices[i].node = l->rpc_hosts;
		l->devices[i].rpc = true;
	}
	return 0;
}

/* ---- attributes ------------------------------------------------------------------------------------------------- */

/* "ddr5-5600", "8ch": how fast the RAM of a socket is. */
static int ram_words(struct line *l, char *words)
{
	double channels = 0, mt_per_s = 0;
	for (char *w = strtok_r(words, " ", &words); w; w = strtok_r(NULL, " ", &words)) {
		char *dash = strchr(w, '-'), *end;
		size_t n = strlen(w);
		if ((!strncasecmp(w, "ddr", 3) || !strncasecmp(w, "lpddr", 5)) && dash && (mt_per_s = strtod(dash + 1, &end)) > 0 &&
		    !*end && mt_per_s <= 20000) {
			l->m->ram_type = pl_arena_strdup(l->a, w);
		} else if (!strncasecmp(w, "ddr", 3) && !dash && isdigit((unsigned char)w[3]) && !w[4]) {
			l->m->ram_type = pl_arena_strdup(l->a, w);
		} else if (n > 2 && !strcasecmp(w + n - 2, "ch") && (channels = strtod(w, &end)) >= 1 && channels <= 64) {
			continue;
		} else {
			return pl_fail(l->err, PL_ERR_FORMAT, "--on", "'%.40s' is not understood after the RAM size; write ddr5-5600 or 8ch", w);
		}
	}
	l->ram_channels = channels;
	l->ram_mt_per_s = mt_per_s;
	return 0;
}

static int ram(struct line *l, char *value)
{
	char *rest = value + strcspn(value, " ");
	/* "64 GiB" with a space */
	if (*rest && isalpha((unsigned char)rest[1]) && isdigit((unsigned char)rest[-1]) && strncasecmp(rest + 1, "ddr", 3) &&
	    strncasecmp(rest + 1, "lpddr", 5))
		rest += 1 + strcspn(rest + 1, " ");
	char after = *rest;
	*rest = '\0';
	uint64_t bytes;
	int rc = pl_size_parse(value, "--on", &bytes, l->err);
	if (rc)
		return rc;
	l->m->ram_bytes = (struct pl_opt_u64){bytes, true};
	return after ? ram_words(l, rest + 1) : 0;
}

/* "pcie4 x8", "pcie 5.0 x16", "pcie3" */
static int pcie(struct line *l, const char *value)
{
	char *end;
	double gen = strtod(value, &end);
	if (end == value || gen < 1 || gen > 7)
		return pl_fail(l->err, PL_ERR_FORMAT, "--on", "'pcie%.40s': the generation is 1 to 7, as in 'pcie4 x8'", value);
	l->pcie_gen = gen;
	while (*end == ' ')
		end++;
	if (!*end)
		return 0;
	double lanes = *end == 'x' || *end == 'X' ? strtod(end + 1, &end) : 0;
	if (*end || (lanes != 1 && lanes != 2 && lanes != 4 && lanes != 8 && lanes != 16))
		return pl_fail(l->err, PL_ERR_FORMAT, "--on", "'pcie%.40s': the width is x1, x2, x4, x8 or x16", value);
	l->pcie_lanes = lanes;
	return 0;
}

static int cores(struct line *l, const char *value)
{
	char *end;
	unsigned long n = strtoul(value, &end, 10);
	if (end == value || *end || n < 1 || n > 4096)
		return pl_fail(l->err, PL_ERR_RANGE, "--on", "'cores %.40s': 1 to 4096 are possible", value);
	l->m->cpu_cores = (uint32_t)n;
	return 0;
}

static int sockets(struct line *l, const char *value)
{
	char *end;
	unsigned long n = strtoul(value, &end, 10);
	if (end == value || *end || n < 1 || n > MAX_SOCKETS)
		return pl_fail(l->err, PL_ERR_RANGE, "--on", "'sockets %.40s': 1 to %d are possible", value, MAX_SOCKETS);
	l->m->sockets = (uint32_t)n;
	return 0;
}

/* A platform whose example is the named CPU says how fast its RAM is at the rated speed. */
static double platform_bytes_per_s(const struct pl_machine *m)
{
	char want[PL_NORMAL_MAX], have[PL_NORMAL_MAX];
	uint32_t n;
	const struct pl_host_platform *hosts = pl_catalog_hosts(&n), *found = NULL;
	pl_normal(m->cpu, NULL, want);
	for (uint32_t i = 0; i < n && *want; i++) {
		pl_normal(hosts[i].example_cpu, NULL, have);
		bool same_ram = !m->ram_type || !strncasecmp(m->ram_type, hosts[i].mem_type, 4);
		if (*have && (strstr(have, want) || strstr(want, have)) && same_ram)
			found = &hosts[i]; /* the newer of two boards stands later */
	}
	return found && !isnan(found->mem_bytes_per_s) ? found->mem_bytes_per_s : 0;
}

/* The part whose memory the CPU shares has its CPU in its name ("Apple M2 Max", "NVIDIA GB10"). */
static void known_cpu(struct line *l)
{
	struct pl_machine *m = l->m;
	const char *name = m->cpu ? m->cpu : l->n_devices && l->devices[0].unified_memory ? l->devices[0].name : NULL;
	m->cpu_row = name ? pl_cpu_of(name) : NULL;
	if (!m->cpu_row) { /* "zen5": a virtual machine, or whoever knows the core alone; the rest is as its servers have it */
		m->core = name ? pl_core_in(name) : NULL;
		m->cpu_flags = m->core ? m->core->isa : NULL;
		m->cpu_hz = m->core ? pl_core_server_hz(m->core) : 0;
		return;
	}
	m->core = pl_core_of(m->cpu_row->core);
	m->cpu_flags = m->core ? m->core->isa : NULL;
	m->cpu_hz = pl_cpu_hz(m->cpu_row);
	if (!m->cpu_cores)
		m->cpu_cores = (m->cpu_row->cores + m->cpu_row->slow_cores) * (m->sockets ? m->sockets : 1);
}

/* DDR moves 8 bytes a channel and transfer (JEDEC). What the line leaves open, the CPU's maker rates. */
static void ram_speed(struct line *l)
{
	struct pl_machine *m = l->m;
	const struct pl_cpu *c = m->cpu_row;
	bool other_kind = c && m->ram_type && strncasecmp(m->ram_type, c->mem_type, 4) != 0 && strncasecmp(m->ram_type, "lpddr", 5) != 0;
	double channels = l->ram_channels > 0 ? l->ram_channels : c && c->channels >= 0.5 ? c->channels : 2;
	if (l->ram_mt_per_s > 0) {
		m->ram_bytes_per_s = l->ram_mt_per_s * 1e6 * 8 * channels;
		return;
	}
	if (c && !other_kind && c->mt_per_s && c->channels >= 0.5)
		m->ram_bytes_per_s = c->mt_per_s * 1e6 * 8 * channels;
	else if (m->core && !c)
		m->ram_bytes_per_s = pl_core_server_ram_bytes_per_s(m->core);
	else if (m->cpu)
		m->ram_bytes_per_s = platform_bytes_per_s(m);
	m->ram_rated = m->ram_bytes_per_s > 0;
}

static const char *after_word(const char *part, const char *word)
{
	size_t n = strlen(word);
	if (strncasecmp(part, word, n))
		return NULL;
	const char *rest = part + n;
	while (*rest == ' ' || *rest == ':' || *rest == '=')
		rest++;
	return rest;
}

static int network(struct line *l, char *value)
{
	uint32_t ports;
	int rc = take_count(l, &value, &ports);
	if (rc)
		return rc;
	l->m->net = pl_link_of(value);
	l->m->net_ports = ports;
	return l->m->net ? 0 : pl_fail(l->err, PL_ERR_UNKNOWN_NAME, "--on", "'net %.40s' is no link that is known: 'plimsoll show link' lists them", value);
}

static int attribute(struct line *l, char *part)
{
	static const char *const links[] = {"nvlink", "nvswitch", "xgmi", "infinity fabric", "pcie", "no-p2p", "no p2p", "hccs"};
	const char *value;
	part = trim(part);
	if (!*part)
		return pl_fail(l->err, PL_ERR_FORMAT, "--on", "an attribute is missing between two commas");
	if ((value = after_word(part, "ram")) || (value = after_word(part, "memory")) || (value = after_word(part, "内存")))
		return ram(l, (char *)(uintptr_t)value);
	if ((value = after_word(part, "pcie")) && *value)
		return pcie(l, value);
	if ((value = after_word(part, "cores")) && *value)
		return cores(l, value);
	if ((value = after_word(part, "disk")) && *value)
		return pl_disk_find(value, &l->m->disk_bytes_per_s, l->err);
	if ((value = after_word(part, "cpu")) && *value)
		return cpu(l, (char *)(uintptr_t)value);
	if ((value = after_word(part, "sockets")) && *value)
		return sockets(l, value);
	if ((value = after_word(part, "net")) && *value)
		return network(l, (char *)(uintptr_t)value);
	for (size_t i = 0; i < sizeof links / sizeof *links; i++)
		if (!strcasecmp(part, links[i])) {
			l->m->link = links[i];
			return 0;
		}
	return pl_fail(l->err, PL_ERR_FORMAT, "--on",
	               "'%.60s' is not understood; after the devices come: ram 64GiB, cpu NAME, cores N, sockets N, nvlink, pcie4 x8, net 10gbe, disk nvme4", part);
}

/* ---- the whole -------------------------------------------------------------------------------------------------- */

/* As their makers write them. */
static const char *link_name(const char *link)
{
	static const char *const names[][2] = {{"nvlink", "NVLink"}, {"nvswitch", "NVSwitch"}, {"xgmi", "xGMI"}, {"pcie", "PCIe"}, {"hccs", "HCCS"}};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (!strcasecmp(link, names[i][0]))
			return names[i][1];
	return link;
}

static const char *describe(struct line *l)
{
	char b[PL_FMT_MAX];
	const struct pl_machine *m = l->m;
	const char *text = "";
	if (m->node)
		text = pl_arena_printf(l->a, pl_tr("%u × %s: "), m->n_nodes, m->node->name);
	else if (m->cloud)
		text = pl_arena_printf(l->a, pl_tr("%u × %s %s: "), m->n_nodes, m->cloud->provider, m->cloud->instance);
	for (uint32_t i = 0; i < l->n_devices && text;) {
		uint32_t n = 1;
		while (i + n < l->n_devices && !strcmp(l->devices[i].name, l->devices[i + n].name) && (!l->rpc_hosts || l->devices[i].node == l->devices[i + n].node))
			n++;
		text = pl_arena_printf(l->a, "%s%s%s%u × %s", text, i ? " + " : "", l->rpc_hosts && l->devices[i].node ? "rpc " : "", n, l->devices[i].name);
		i += n;
	}
	if (text && !l->n_devices)
		text = pl_arena_printf(l->a, "%s%s", text, pl_tr("no GPU"));
	if (text && m->link && *m->link)
		text = pl_arena_printf(l->a, pl_tr("%s, %s"), text, link_name(m->link));
	if (text && m->net)
		text = pl_arena_printf(l->a, pl_tr("%s, %s"), text, m->net->name);
	if (text && l->pcie_gen > 0)
		text = l->pcie_lanes > 0 ? pl_arena_printf(l->a, pl_tr("%s, PCIe %g x%g"), text, l->pcie_gen, l->pcie_lanes)
		                         : pl_arena_printf(l->a, pl_tr("%s, PCIe %g"), text, l->pcie_gen);
	if (text && m->cpu)
		text = m->sockets > 1 ? pl_arena_printf(l->a, pl_tr("%s, %u × %s"), text, m->sockets, m->cpu) : pl_arena_printf(l->a, pl_tr("%s, %s"), text, m->cpu);
	if (text && m->ram_bytes.known)
		text = pl_arena_printf(l->a, pl_tr("%s, RAM %s"), text, pl_fmt_bytes(b, m->ram_bytes.value));
	if (text && m->disk_bytes_per_s > 0)
		text = pl_arena_printf(l->a, pl_tr("%s, disk %.3g GB/s"), text, m->disk_bytes_per_s / 1e9);
	return text;
}

static int parse_devices(struct line *l, char *text)
{
	char *rest = text;
	while (rest) {
		char *part = rest, *plus = strchr(rest, '+');
		rest = plus ? plus + 1 : NULL;
		if (plus)
			*plus = '\0';
		int rc = device_part(l, part);
		if (rc)
			return rc;
	}
	return 0;
}

static int finish(struct line *l, const struct pl_machine **ret_machine)
{
	struct pl_machine *m = l->m;
	known_cpu(l);
	ram_speed(l);
	for (uint32_t i = 0; i < l->n_devices; i++) {
		l->devices[i].pcie_gen = l->pcie_gen;
		l->devices[i].pcie_lanes = l->pcie_lanes;
		/* drivers lend an integrated GPU half of the RAM unless told otherwise (amdgpu's GTT, Windows' shared memory) */
		if (l->devices[i].gpu && pl_gpu_borrows_ram(l->devices[i].gpu) && m->ram_bytes.known)
			l->devices[i].total_bytes = l->devices[i].free_bytes = m->ram_bytes.value / 2;
		/* one memory for both: the host's RAM is what the part has */
		if (l->devices[i].unified_memory && !m->ram_bytes.known)
			m->ram_bytes = (struct pl_opt_u64){l->devices[i].total_bytes, true};
	}
	m->ram_free_bytes = m->ram_bytes;
	m->n_devices = l->n_devices;
	m->devices = PL_NEW_N(l->a, struct pl_device, l->n_devices ? l->n_devices : 1);
	if (m->devices)
		memcpy(m->devices, l->devices, l->n_devices * sizeof *m->devices);
	m->description = describe(l);
	if (pl_arena_failed(l->a))
		return pl_fail(l->err, PL_ERR_NOMEM, "--on", "out of memory while reading the hardware");
	*ret_machine = m;
	return 0;
}

int pl_machine_parse(struct pl_arena *a, const char *text, const struct pl_machine **ret_machine, struct pl_err *err)
{
	size_t len = strlen(text);
	if (len > MAX_LINE)
		return pl_fail(err, PL_ERR_LIMIT, "--on", "the line has %zu characters, the limit is %d", len, MAX_LINE);
	struct line *l = PL_NEW(a, struct line);
	struct pl_machine *m = PL_NEW(a, struct pl_machine);
	char *copy = pl_arena_strdup(a, text);
	if (!l || !m || !copy)
		return pl_fail(err, PL_ERR_NOMEM, "--on", "out of memory while reading the hardware");
	*l = (struct line){.a = a, .m = m, .err = err};
	m->n_nodes = 1;
	make_plain(copy);
	if (!*trim(copy))
		return pl_fail(err, PL_ERR_FORMAT, "--on", "the hardware line is empty; write for example 'rtx4090, ram 64GiB'");
	char *rest = strchr(copy, ',');
	if (rest)
		*rest++ = '\0';
	int rc = parse_devices(l, copy);
	while (!rc && rest) {
		char *part = rest;
		rest = strchr(rest, ',');
		if (rest)
			*rest++ = '\0';
		rc = attribute(l, part);
	}
	return rc ? rc : finish(l, ret_machine);
}
