#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <hwloc.h>

#include "probe/probe.h"

enum { PCI_NVIDIA = 0x10de, PCI_CLASS_DISPLAY = 0x03, PCI_CLASS_ACCELERATOR = 0x12 };

static unsigned count_nvidia(hwloc_topology_t topology)
{
	unsigned n = 0;
	for (hwloc_obj_t o = NULL; (o = hwloc_get_next_pcidev(topology, o));) {
		unsigned class = o->attr->pcidev.class_id >> 8;
		if (o->attr->pcidev.vendor_id == PCI_NVIDIA && (class == PCI_CLASS_DISPLAY || class == PCI_CLASS_ACCELERATOR))
			n++;
	}
	return n;
}

static void put(struct pl_facts *f, const char *key, int n)
{
	char text[16];
	(void)snprintf(text, sizeof text, "%d", n);
	pl_facts_put(f, text, "hwloc:%s", key);
}

static void look(struct pl_facts *f)
{
	hwloc_topology_t topology;
	/* Plugins (OpenCL, X11, libxml2) cost tens of milliseconds and tell nothing that is asked here. */
	(void)setenv("HWLOC_PLUGINS_PATH", "/nonexistent", 0);
	if (access("/sys/devices/system/cpu", R_OK)) /* a container may hide it: hwloc would print that, and find nothing */
		return;
	if (hwloc_topology_init(&topology))
		return;
	(void)hwloc_topology_set_components(topology, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, "x86");
	(void)hwloc_topology_set_cache_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_NONE);
	(void)hwloc_topology_set_io_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
	if (!hwloc_topology_load(topology)) {
		put(f, "cores", hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE));
		put(f, "threads", hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_PU));
		put(f, "numa", hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_NUMANODE));
		put(f, "sockets", hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_PACKAGE));
		put(f, "nvidia", (int)count_nvidia(topology));
	}
	hwloc_topology_destroy(topology);
}

/* GPUs on the bus that no driver spoke for: said, since the plan would be wrong without a word. */
static void silent_gpus(struct pl_probe *p)
{
	double on_bus = pl_facts_number(p->facts, "hwloc:nvidia");
	for (uint32_t i = 0; i < p->n_devices; i++)
		if (p->devices[i].vendor == PL_VENDOR_NVIDIA)
			return;
	if (on_bus > 0 && !pl_facts_get(p->facts, "nvml:count"))
		pl_note_add(p->a, p->notes, PL_NOTE_WARNING,
		            "%u NVIDIA device(s) on the PCI bus, but the driver's library libnvidia-ml.so.1 does not answer", (unsigned)on_bus);
}

static uint32_t whole(struct pl_facts *f, const char *key, uint32_t fallback)
{
	double v = pl_facts_number(f, "hwloc:%s", key);
	return v > 0 && v < 1e6 ? (uint32_t)v : fallback;
}

void pl_probe_topology(struct pl_probe *p)
{
	struct pl_machine *m = p->machine;
	if (pl_facts_live_now(p->facts))
		look(p->facts);
	m->cpu_cores = whole(p->facts, "cores", m->cpu_cores);
	m->cpu_threads = whole(p->facts, "threads", m->cpu_threads);
	m->numa_nodes = whole(p->facts, "numa", 0);
	m->sockets = whole(p->facts, "sockets", 0);
	silent_gpus(p);
}
