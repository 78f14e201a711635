#include <ctype.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "probe/probe.h"

/* NVML by dlopen with prototypes of our own: no CUDA is needed to build or to start. Signatures: NVML API reference,
 * nvml.h (all functions return 0 on success). */

typedef struct nvml_device *nvml_device;
struct nvml_memory {
	unsigned long long total, free, used; /* bytes */
};
struct nvml_pci {
	char legacy[16];
	unsigned domain, bus, device, pci_device_id, pci_subsystem_id;
	char bus_id[32];
};

struct nvml {
	void *library;
	int (*init)(void);
	int (*shutdown)(void);
	int (*count)(unsigned *);
	int (*by_index)(unsigned, nvml_device *);
	int (*name)(nvml_device, char *, unsigned);
	int (*memory)(nvml_device, struct nvml_memory *);
	int (*pci)(nvml_device, struct nvml_pci *);
	int (*link_generation)(nvml_device, unsigned *);
	int (*link_width)(nvml_device, unsigned *);
};

/* POSIX lets a data pointer from dlsym hold a function; ISO C has no cast for it. */
static bool symbol(void *library, const char *name, void *to_function)
{
	void *s = dlsym(library, name);
	memcpy(to_function, &s, sizeof s);
	return s != NULL;
}

static bool nvml_open(struct nvml *n, const char *path)
{
	n->library = dlopen(path ? path : "libnvidia-ml.so.1", RTLD_LAZY | RTLD_LOCAL);
	if (!n->library)
		return false;
	bool all = symbol(n->library, "nvmlInit_v2", &n->init) && symbol(n->library, "nvmlShutdown", &n->shutdown) &&
	           symbol(n->library, "nvmlDeviceGetCount_v2", &n->count) &&
	           symbol(n->library, "nvmlDeviceGetHandleByIndex_v2", &n->by_index) &&
	           symbol(n->library, "nvmlDeviceGetName", &n->name) &&
	           symbol(n->library, "nvmlDeviceGetMemoryInfo", &n->memory);
	(void)symbol(n->library, "nvmlDeviceGetPciInfo_v3", &n->pci);
	(void)symbol(n->library, "nvmlDeviceGetCurrPcieLinkGeneration", &n->link_generation);
	(void)symbol(n->library, "nvmlDeviceGetCurrPcieLinkWidth", &n->link_width);
	if (all && n->init() == 0)
		return true;
	(void)dlclose(n->library);
	return false;
}

/* CUDA_VISIBLE_DEVICES by index ("0,2"); UUIDs are left alone, so every card counts. */
static bool visible(unsigned index)
{
	const char *list = getenv("CUDA_VISIBLE_DEVICES");
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
	for (; from[i] && i < sizeof address - 1; i++)
		address[i] = (char)tolower((unsigned char)from[i]);
	address[i] = '\0';
	d->pci_address = pl_arena_strdup(p->a, address);
	(void)snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/numa_node", address);
	if (pl_probe_read(p, path, text, sizeof text))
		d->numa_node = (int32_t)strtol(text, NULL, 10);
}

static void one_device(struct pl_probe *p, const struct nvml *n, unsigned index)
{
	char name[96] = "NVIDIA GPU";
	struct nvml_memory memory = {0};
	struct nvml_pci pci = {0};
	nvml_device handle;
	unsigned value;
	if (n->by_index(index, &handle))
		return;
	struct pl_device *d = pl_probe_add(p);
	if (!d)
		return;
	(void)n->name(handle, name, sizeof name);
	name[sizeof name - 1] = '\0';
	pl_probe_identify(p, d, name, PL_VENDOR_NVIDIA);
	if (n->memory(handle, &memory) == 0 && memory.total) {
		d->total_bytes = memory.total;
		d->free_bytes = memory.free;
		d->free_known = true;
	} else if (p->machine->ram_bytes.known) {
		/* GB10 and Jetson: the driver reports no memory of its own, the GPU uses the host's */
		d->unified_memory = true;
		d->total_bytes = p->machine->ram_bytes.value;
		d->free_bytes = p->machine->ram_free_bytes.value;
		d->free_known = p->machine->ram_free_bytes.known;
	}
	if (n->pci && n->pci(handle, &pci) == 0) {
		pci.bus_id[sizeof pci.bus_id - 1] = '\0';
		d->pci_address = pci.bus_id;
		numa_of(p, d);
	}
	if (n->link_generation && n->link_generation(handle, &value) == 0)
		d->pcie_gen = value;
	if (n->link_width && n->link_width(handle, &value) == 0)
		d->pcie_lanes = value;
}

void pl_probe_nvidia(struct pl_probe *p)
{
	struct nvml n = {0};
	unsigned count = 0, hidden = 0;
	if (!nvml_open(&n, p->options->nvml_library))
		return;
	if (n.count(&count) == 0) {
		for (unsigned i = 0; i < count && i < PL_MAX_DEVICES; i++) {
			if (visible(i))
				one_device(p, &n, i);
			else
				hidden++;
		}
	}
	if (hidden)
		pl_note_add(p->a, p->notes, PL_NOTE_INFO, "CUDA_VISIBLE_DEVICES hides %u of %u GPUs", hidden, count);
	(void)n.shutdown();
	(void)dlclose(n.library);
}
