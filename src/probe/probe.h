/* Detectors fill one machine; one file a source of facts. */
#ifndef PLIMSOLL_PROBE_INNER_H
#define PLIMSOLL_PROBE_INNER_H

#include "probe/facts.h"

struct pl_probe {
	struct pl_arena *a;
	struct pl_facts *facts;
	struct pl_machine *machine;
	struct pl_device devices[PL_MAX_DEVICES];
	uint32_t n_devices;
	struct pl_note **notes;
};

/* The next free device, NULL when the table is full. */
struct pl_device *pl_probe_add(struct pl_probe *p);
/* Finds the catalogue row by name and fills name, gpu, vendor. */
void pl_probe_identify(struct pl_probe *p, struct pl_device *d, const char *name, enum pl_vendor vendor);

void pl_probe_memory(struct pl_probe *p);   /* probe/host.c */
void pl_probe_cpu(struct pl_probe *p);      /* probe/host.c */
void pl_probe_topology(struct pl_probe *p); /* probe/topology.c: hwloc */
void pl_probe_nvidia(struct pl_probe *p);   /* probe/nvidia.c: what NVML said */
void pl_probe_drm(struct pl_probe *p);      /* probe/drm.c: AMD and Intel through sysfs */

#endif
