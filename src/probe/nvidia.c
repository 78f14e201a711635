#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "probe/probe.h"

/* CUDA_VISIBLE_DEVICES by index ("0,2"); UUIDs are left alone, so every card counts. */
static bool visible(struct pl_probe *p, unsigned index)
{
	const char *list = pl_facts_variable(p->facts, "CUDA_VISIBLE_DEVICES");
	if (!list)
		return true;
	for (const char *at = list; isdigit((unsigned char)*at);) {
		char *end;
		if (strtoul(at, &end, 10) == index)
			return true;
		at = *end == ',' ? end + 1 : end;
		if (!*at)
			return false;
	}
	return *list != '\0' && *list != '-';
}

static void numa_of(struct pl_probe *p, struct pl_device *d)
{
	char path[160], text[32], address[40];
	/* NVML writes an eight-digit domain, sysfs four digits, lower case */
	const char *from = strlen(d->pci_address) > 12 ? d->pci_address + 4 : d->pci_address;
	size_t i = 0;
	for (; i < sizeof address - 1 && from[i]; i++)
		address[i] = (char)tolower((unsigned char)from[i]);
	address[i] = '\0';
	d->pci_address = pl_arena_strdup(p->a, address);
	(void)snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/numa_node", address);
	if (pl_facts_file(p->facts, path, text, sizeof text))
		d->numa_node = (int32_t)strtol(text, NULL, 10);
}

static void memory_of(struct pl_probe *p, struct pl_device *d, unsigned i)
{
	double total = pl_facts_number(p->facts, "nvml:%u/total_bytes", i), free = pl_facts_number(p->facts, "nvml:%u/free_bytes", i);
	if (total > 0) {
		d->total_bytes = (uint64_t)total;
		d->free_bytes = free >= 0 ? (uint64_t)free : d->total_bytes;
		d->free_known = free >= 0;
	} else if (p->machine->ram_bytes.known) {
		/* GB10 and Jetson: the driver reports no memory of its own, the GPU uses the host's */
		d->unified_memory = true;
		d->total_bytes = p->machine->ram_bytes.value;
		d->free_bytes = p->machine->ram_free_bytes.value;
		d->free_known = p->machine->ram_free_bytes.known;
	}
}

static void one_device(struct pl_probe *p, unsigned i)
{
	const char *name = pl_facts_get(p->facts, "nvml:%u/name", i), *pci = pl_facts_get(p->facts, "nvml:%u/pci", i);
	double gen = pl_facts_number(p->facts, "nvml:%u/link_gen_max", i), width = pl_facts_number(p->facts, "nvml:%u/link_width", i);
	struct pl_device *d = name ? pl_probe_add(p) : NULL;
	if (!d)
		return;
	pl_probe_identify(p, d, name, PL_VENDOR_NVIDIA);
	memory_of(p, d, i);
	if (pci) {
		d->pci_address = pci;
		numa_of(p, d);
	}
	/* An idle card links at a lower generation to save power: what it can do counts, with the lanes it has. */
	if (!(gen > 0))
		gen = pl_facts_number(p->facts, "nvml:%u/link_gen", i);
	d->pcie_gen = gen > 0 ? gen : 0;
	d->pcie_lanes = width > 0 ? width : 0;
	double limit = pl_facts_number(p->facts, "nvml:%u/power_limit_w", i);
	if (limit > 0 && limit < pl_facts_number(p->facts, "nvml:%u/power_default_w", i))
		d->power_limit_w = limit;
}

void pl_probe_nvidia(struct pl_probe *p)
{
	unsigned hidden = 0;
	pl_facts_nvml(p->facts);
	double said = pl_facts_number(p->facts, "nvml:count");
	unsigned count = said > 0 && said <= PL_MAX_DEVICES ? (unsigned)said : 0;
	for (unsigned i = 0; i < count; i++) {
		if (visible(p, i))
			one_device(p, i);
		else
			hidden++;
	}
	if (hidden)
		pl_note_add(p->a, p->notes, PL_NOTE_INFO, "CUDA_VISIBLE_DEVICES hides %u of %u GPUs", hidden, count);
}
