/* NVIDIA's management library by dlopen, with prototypes of our own: no CUDA is needed to build or to start. Signatures:
 * NVML API reference (all functions return 0 on success). Pointers of functions an older library lacks are NULL. */
#ifndef PLIMSOLL_PROBE_NVML_H
#define PLIMSOLL_PROBE_NVML_H

#include <stdbool.h>

#include "probe/facts.h"

typedef struct nvml_device *nvml_device;
struct nvml_memory {
	unsigned long long total, free, used; /* bytes */
};
struct nvml_pci {
	char legacy[16];
	unsigned domain, bus, device, pci_device_id, pci_subsystem_id;
	char bus_id[32];
};
struct nvml_process { /* nvmlProcessInfo_t, version 2 and 3 */
	unsigned pid;
	unsigned long long used_bytes;
	unsigned gpu_instance, compute_instance;
};
struct nvml_utilization {
	unsigned gpu, memory; /* % */
};
enum nvml_clock { NVML_CLOCK_SM = 1, NVML_CLOCK_MEM = 2 };

struct nvml {
	void *library;
	int (*init)(void);
	int (*shutdown)(void);
	int (*driver)(char *, unsigned);
	int (*cuda)(int *); /* 12040: 12.4 */
	int (*process_name)(unsigned, char *, unsigned);
	int (*count)(unsigned *);
	int (*by_index)(unsigned, nvml_device *);
	int (*name)(nvml_device, char *, unsigned);
	int (*memory)(nvml_device, struct nvml_memory *);
	int (*bar1)(nvml_device, struct nvml_memory *); /* total, free, used as well, in that order: total, free, used */
	int (*pci)(nvml_device, struct nvml_pci *);
	int (*capability)(nvml_device, int *, int *);
	int (*link_generation)(nvml_device, unsigned *), (*link_width)(nvml_device, unsigned *);
	int (*link_generation_max)(nvml_device, unsigned *), (*link_width_max)(nvml_device, unsigned *);
	int (*ecc)(nvml_device, unsigned *, unsigned *);
	int (*persistence)(nvml_device, unsigned *), (*display_active)(nvml_device, unsigned *);
	int (*power_limit)(nvml_device, unsigned *), (*power_default)(nvml_device, unsigned *); /* mW */
	int (*power_range)(nvml_device, unsigned *, unsigned *);
	int (*power)(nvml_device, unsigned *);
	int (*temperature)(nvml_device, int, unsigned *);
	int (*clock)(nvml_device, int, unsigned *);
	int (*utilization)(nvml_device, struct nvml_utilization *);
	int (*mig)(nvml_device, unsigned *, unsigned *);
	int (*compute_processes)(nvml_device, unsigned *, struct nvml_process *);
	int (*graphics_processes)(nvml_device, unsigned *, struct nvml_process *);
	int (*nvlink_state)(nvml_device, unsigned, unsigned *);
	int (*p2p)(nvml_device, nvml_device, int, int *); /* index 0: read; 0: works */
};

/* False when there is no driver. Close what was opened. */
bool pl_nvml_open(struct nvml *n, const char *library);
void pl_nvml_close(struct nvml *n);
/* Every card as facts nvml:… (see probe/nvml.c for the keys). */
void pl_nvml_read(struct pl_facts *f);

#endif
