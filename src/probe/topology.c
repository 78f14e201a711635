#include <stdlib.h>

#include <hwloc.h>

#include "probe/probe.h"

enum { PCI_NVIDIA = 0x10de, PCI_CLASS_DISPLAY = 0x03, PCI_CLASS_ACCELERATOR = 0x12 };

/* GPUs on the bus that no driver spoke for: said, since the plan would be wrong without a word. */
static void silent_gpus(struct pl_probe *p, hwloc_topology_t topology)
{
	unsigned n_nvidia = 0, seen = 0;
	for (hwloc_obj_t o = NULL; (o = hwloc_get_next_pcidev(topology, o));) {
		unsigned class = o->attr->pcidev.class_id >> 8;
		if (o->attr->pcidev.vendor_id == PCI_NVIDIA && (class == PCI_CLASS_DISPLAY || class == PCI_CLASS_ACCELERATOR))
			n_nvidia++;
	}
	for (uint32_t i = 0; i < p->n_devices; i++)
		seen += p->devices[i].vendor == PL_VENDOR_NVIDIA;
	if (n_nvidia && !seen)
		pl_note_add(p->a, p->notes, PL_NOTE_WARNING,
		            "%u NVIDIA device(s) on the PCI bus, but the driver's library libnvidia-ml.so.1 does not answer", n_nvidia);
}

void pl_probe_topology(struct pl_probe *p)
{
	hwloc_topology_t topology;
	struct pl_machine *m = p->machine;
	/* Plugins (OpenCL, X11, libxml2) cost tens of milliseconds and tell nothing that is asked here. */
	(void)setenv("HWLOC_PLUGINS_PATH", "/nonexistent", 0);
	/* Without /sys it would print that: here it is an unknown number of cores. */
	(void)setenv("HWLOC_HIDE_ERRORS", "2", 0);
	if (hwloc_topology_init(&topology))
		return;
	(void)hwloc_topology_set_components(topology, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, "x86");
	(void)hwloc_topology_set_cache_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_NONE);
	(void)hwloc_topology_set_io_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
	if (!hwloc_topology_load(topology)) {
		int cores = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE);
		int threads = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_PU);
		int numa = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_NUMANODE);
		int sockets = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_PACKAGE);
		m->cpu_cores = cores > 0 ? (uint32_t)cores : m->cpu_cores;
		m->cpu_threads = threads > 0 ? (uint32_t)threads : m->cpu_threads;
		m->numa_nodes = numa > 0 ? (uint32_t)numa : 0;
		m->sockets = sockets > 0 ? (uint32_t)sockets : 0;
		silent_gpus(p, topology);
	}
	hwloc_topology_destroy(topology);
}
