#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/words.h"
#include "probe/probe.h"

static bool meminfo_kib(const char *text, const char *key, uint64_t *ret_bytes)
{
	const char *line = strstr(text, key);
	unsigned long long kib;
	if (!line || sscanf(line + strlen(key), ": %llu kB", &kib) != 1)
		return false;
	*ret_bytes = pl_sat_mul(kib, 1024);
	return true;
}

/* A container sees the host's MemTotal; what it may use is its control group's limit. */
static void apply_cgroup(struct pl_probe *p, struct pl_machine *m)
{
	uint64_t limit, used;
	if (!pl_facts_file_u64(p->facts, "/sys/fs/cgroup/memory.max", &limit) &&
	    !pl_facts_file_u64(p->facts, "/sys/fs/cgroup/memory/memory.limit_in_bytes", &limit))
		return;
	if (!m->ram_bytes.known || limit >= m->ram_bytes.value)
		return;
	m->ram_bytes.value = limit;
	if (pl_facts_file_u64(p->facts, "/sys/fs/cgroup/memory.current", &used) ||
	    pl_facts_file_u64(p->facts, "/sys/fs/cgroup/memory/memory.usage_in_bytes", &used))
		m->ram_free_bytes.value = pl_min_u64(m->ram_free_bytes.value, pl_sat_sub(limit, used));
	m->ram_free_bytes.value = pl_min_u64(m->ram_free_bytes.value, limit);
	pl_note_add(p->a, p->notes, PL_NOTE_INFO, "RAM is limited by the control group of this process");
}

void pl_probe_memory(struct pl_probe *p)
{
	char text[4096];
	struct pl_machine *m = p->machine;
	if (!pl_facts_file(p->facts, "/proc/meminfo", text, sizeof text))
		return;
	m->ram_bytes.known = meminfo_kib(text, "MemTotal", &m->ram_bytes.value);
	m->ram_free_bytes.known = meminfo_kib(text, "MemAvailable", &m->ram_free_bytes.value);
	apply_cgroup(p, m);
}

/* Value of the first "key : value" line of /proc/cpuinfo, cut at its end. */
static const char *cpuinfo(struct pl_arena *a, const char *text, const char *key)
{
	const char *line = strstr(text, key), *colon = line ? strchr(line, ':') : NULL;
	const char *end = colon ? strchr(colon, '\n') : NULL;
	if (!colon || !end)
		return NULL;
	colon++;
	while (*colon == ' ')
		colon++;
	return pl_arena_strndup(a, colon, (size_t)(end - colon));
}

/* Instruction sets that decide how fast ggml and others compute on the CPU, and which weights they repack. */
static const char *useful_flags(struct pl_arena *a, const char *flags)
{
	static const char *const wanted[] = {"avx",         "avx2",     "f16c",     "fma",      "avx_vnni",    "avx512f",
	                                     "avx512_vnni", "amx_int8", "amx_bf16", "asimd",    "asimddp",     "i8mm",        "asimdhp",
	                                     "sve",         "sve2",     "bf16",     "avx512_bf16"};
	const char *text = "";
	for (size_t i = 0; i < sizeof wanted / sizeof *wanted && text; i++) {
		size_t len = strlen(wanted[i]);
		for (const char *at = flags; (at = strstr(at, wanted[i])); at += len) {
			bool starts = at == flags || at[-1] == ' ', ends = at[len] == ' ' || !at[len];
			if (!starts || !ends)
				continue;
			text = pl_arena_printf(a, "%s%s%s", text, *text ? " " : "", wanted[i]);
			break;
		}
	}
	return text;
}

static uint32_t cpuinfo_number(struct pl_arena *a, const char *text, const char *key)
{
	const char *value = cpuinfo(a, text, key);
	return value ? (uint32_t)strtoul(value, NULL, 0) : 0; /* Arm's are hexadecimal: 0x41 */
}

/* Which cores these are: by name, by the numbers the processor gives itself, by its flags. A virtual machine names a line of
 * servers ("AMD EPYC") and hides how much of the socket's RAM is its own: its few cores are then what bounds it. */
static void know_core(struct pl_probe *p, const char *text, const char *flags)
{
	enum { ARM = 65 };
	struct pl_machine *m = p->machine;
	const char *vendor = cpuinfo(p->a, text, "vendor_id");
	uint64_t max_khz;
	m->cpu_row = m->cpu ? pl_cpu_of(m->cpu) : NULL;
	if (vendor)
		m->core = pl_core_of_cpuid(!strcmp(vendor, "AuthenticAMD") ? "amd" : !strcmp(vendor, "GenuineIntel") ? "intel" : vendor,
		                           cpuinfo_number(p->a, text, "cpu family"), cpuinfo_number(p->a, text, "\nmodel\t"));
	else
		m->core = pl_core_of_cpuid("arm", cpuinfo_number(p->a, text, "CPU implementer"), cpuinfo_number(p->a, text, "CPU part"));
	if (m->cpu_row)
		m->core = pl_core_of(m->cpu_row->core);
	if (!m->core)
		m->core = pl_core_of_flags(m->cpu_flags);
	bool is_virtual = flags && pl_word_in(flags, "hypervisor");
	if (m->cpu_row)
		m->cpu_hz = pl_cpu_hz(m->cpu_row);
	else if (pl_facts_file_u64(p->facts, "/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", &max_khz))
		m->cpu_hz = (double)max_khz * 1e3;
	else if (m->core && is_virtual)
		m->cpu_hz = pl_core_server_hz(m->core);
	m->ram_bytes_per_s = m->cpu_row ? pl_cpu_ram_bytes_per_s(m->cpu_row) : m->core && is_virtual ? pl_core_server_ram_bytes_per_s(m->core) : 0;
	m->ram_rated = m->ram_bytes_per_s > 0;
}

void pl_probe_cpu(struct pl_probe *p)
{
	enum { FIRST_CPU = 16384 }; /* the first processor's entry is enough */
	char *text = pl_arena_alloc(p->a, FIRST_CPU);
	struct pl_machine *m = p->machine;
	char online[256];
	if (!text || !pl_facts_file(p->facts, "/proc/cpuinfo", text, FIRST_CPU))
		return;
	m->cpu = cpuinfo(p->a, text, "model name");
	const char *flags = cpuinfo(p->a, text, "\nflags");
	if (!flags)
		flags = cpuinfo(p->a, text, "\nFeatures");
	m->cpu_flags = flags ? useful_flags(p->a, flags) : NULL;
	know_core(p, text, flags);
	/* "0-15" or "0-3,8-11": hwloc replaces this count where it runs */
	if (!pl_facts_file(p->facts, "/sys/devices/system/cpu/online", online, sizeof online))
		return;
	for (char *at = online; *at;) {
		char *end;
		unsigned long first = strtoul(at, &end, 10), last = first;
		if (end == at)
			break;
		if (*end == '-')
			last = strtoul(end + 1, &end, 10);
		if (last >= first && last - first < 65536)
			m->cpu_threads += (uint32_t)(last - first + 1);
		at = *end == ',' ? end + 1 : end;
		if (*end && *end != ',')
			break;
	}
	m->cpu_cores = m->cpu_threads;
}
