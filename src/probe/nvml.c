#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "probe/nvml.h"

enum { MAX_PROCESSES = 64, MAX_NVLINKS = 18 };

/* POSIX lets a data pointer from dlsym hold a function; ISO C has no cast for it. */
static bool symbol(void *library, const char *name, void *to_function)
{
	void *s = dlsym(library, name);
	memcpy(to_function, &s, sizeof s);
	return s != NULL;
}

static void optional(struct nvml *n)
{
	const struct {
		const char *name;
		void *to;
	} list[] = {
	    {"nvmlSystemGetDriverVersion", &n->driver},
	    {"nvmlSystemGetCudaDriverVersion_v2", &n->cuda},
	    {"nvmlSystemGetProcessName", &n->process_name},
	    {"nvmlDeviceGetBAR1MemoryInfo", &n->bar1},
	    {"nvmlDeviceGetPciInfo_v3", &n->pci},
	    {"nvmlDeviceGetCudaComputeCapability", &n->capability},
	    {"nvmlDeviceGetCurrPcieLinkGeneration", &n->link_generation},
	    {"nvmlDeviceGetCurrPcieLinkWidth", &n->link_width},
	    {"nvmlDeviceGetMaxPcieLinkGeneration", &n->link_generation_max},
	    {"nvmlDeviceGetMaxPcieLinkWidth", &n->link_width_max},
	    {"nvmlDeviceGetEccMode", &n->ecc},
	    {"nvmlDeviceGetPersistenceMode", &n->persistence},
	    {"nvmlDeviceGetDisplayActive", &n->display_active},
	    {"nvmlDeviceGetPowerManagementLimit", &n->power_limit},
	    {"nvmlDeviceGetPowerManagementDefaultLimit", &n->power_default},
	    {"nvmlDeviceGetPowerManagementLimitConstraints", &n->power_range},
	    {"nvmlDeviceGetPowerUsage", &n->power},
	    {"nvmlDeviceGetTemperature", &n->temperature},
	    {"nvmlDeviceGetClockInfo", &n->clock},
	    {"nvmlDeviceGetUtilizationRates", &n->utilization},
	    {"nvmlDeviceGetMigMode", &n->mig},
	    {"nvmlDeviceGetComputeRunningProcesses_v3", &n->compute_processes},
	    {"nvmlDeviceGetGraphicsRunningProcesses_v3", &n->graphics_processes},
	    {"nvmlDeviceGetNvLinkState", &n->nvlink_state},
	    {"nvmlDeviceGetP2PStatus", &n->p2p},
	};
	for (size_t i = 0; i < sizeof list / sizeof *list; i++)
		(void)symbol(n->library, list[i].name, list[i].to);
}

bool pl_nvml_open(struct nvml *n, const char *library)
{
	*n = (struct nvml){.library = dlopen(library ? library : "libnvidia-ml.so.1", RTLD_LAZY | RTLD_LOCAL)};
	if (!n->library)
		return false;
	bool all = symbol(n->library, "nvmlInit_v2", &n->init) && symbol(n->library, "nvmlShutdown", &n->shutdown) &&
	           symbol(n->library, "nvmlDeviceGetCount_v2", &n->count) &&
	           symbol(n->library, "nvmlDeviceGetHandleByIndex_v2", &n->by_index) &&
	           symbol(n->library, "nvmlDeviceGetName", &n->name) && symbol(n->library, "nvmlDeviceGetMemoryInfo", &n->memory);
	optional(n);
	if (all && n->init() == 0)
		return true;
	(void)dlclose(n->library);
	return false;
}

void pl_nvml_close(struct nvml *n)
{
	(void)n->shutdown();
	(void)dlclose(n->library);
}

/* ---- facts: nvml:N/KEY with N the number of the card ------------------------------------------------------------- */

static void put_whole(struct pl_facts *f, unsigned i, const char *key, unsigned long long v)
{
	char text[32];
	(void)snprintf(text, sizeof text, "%llu", v);
	pl_facts_put(f, text, "nvml:%u/%s", i, key);
}

/* One unsigned, when the library has the function and the card an answer. */
static void put_if(struct pl_facts *f, nvml_device d, unsigned i, const char *key, int (*get)(nvml_device, unsigned *), unsigned per)
{
	unsigned v;
	if (get && get(d, &v) == 0)
		put_whole(f, i, key, v / per);
}

static void put_pairs(struct pl_facts *f, const struct nvml *n, nvml_device d, unsigned i)
{
	unsigned a = 0, b = 0;
	int major = 0, minor = 0;
	char text[32];
	struct nvml_memory bar1 = {0};
	if (n->capability && n->capability(d, &major, &minor) == 0) {
		(void)snprintf(text, sizeof text, "%d.%d", major, minor);
		pl_facts_put(f, text, "nvml:%u/capability", i);
	}
	if (n->ecc && n->ecc(d, &a, &b) == 0)
		put_whole(f, i, "ecc", a);
	if (n->mig && n->mig(d, &a, &b) == 0)
		put_whole(f, i, "mig", a);
	if (n->power_range && n->power_range(d, &a, &b) == 0) {
		put_whole(f, i, "power_min_w", a / 1000);
		put_whole(f, i, "power_max_w", b / 1000);
	}
	if (n->bar1 && n->bar1(d, &bar1) == 0)
		put_whole(f, i, "bar1_bytes", bar1.total);
}

/* Who holds memory: "NAME BYTES" a line; paths are cut to the program's name, users are not named. */
static void put_processes(struct pl_facts *f, const struct nvml *n, nvml_device d, unsigned i)
{
	int (*const lists[])(nvml_device, unsigned *, struct nvml_process *) = {n->compute_processes, n->graphics_processes};
	char all[4096] = "";
	size_t used = 0;
	for (int k = 0; k < 2; k++) {
		struct nvml_process list[MAX_PROCESSES];
		unsigned count = MAX_PROCESSES;
		if (!lists[k] || lists[k](d, &count, list) != 0)
			continue;
		for (unsigned p = 0; p < count && p < MAX_PROCESSES && used < sizeof all - 128; p++) {
			char path[256] = "";
			if (!n->process_name || n->process_name(list[p].pid, path, sizeof path) != 0)
				(void)snprintf(path, sizeof path, "pid-%u", list[p].pid);
			path[strcspn(path, " ")] = '\0';
			const char *slash = strrchr(path, '/');
			unsigned long long bytes = list[p].used_bytes == ~0ull ? 0 : list[p].used_bytes;
			used += (size_t)snprintf(all + used, sizeof all - used, "%s%.60s %llu %u", used ? "\n" : "", slash ? slash + 1 : path, bytes, list[p].pid);
		}
	}
	pl_facts_put(f, all, "nvml:%u/processes", i);
}

static void put_links(struct pl_facts *f, const struct nvml *n, nvml_device d, unsigned i, unsigned count)
{
	unsigned up = 0, known = 0;
	for (unsigned l = 0; n->nvlink_state && l < MAX_NVLINKS; l++) {
		unsigned state;
		if (n->nvlink_state(d, l, &state) == 0) {
			known++;
			up += state == 1;
		}
	}
	put_whole(f, i, "nvlinks", known);
	put_whole(f, i, "nvlinks_up", up);
	for (unsigned other = 0; n->p2p && other < count; other++) {
		nvml_device o;
		int status;
		char key[32];
		if (other == i || n->by_index(other, &o) != 0 || n->p2p(d, o, 0, &status) != 0)
			continue;
		(void)snprintf(key, sizeof key, "p2p_%u", other);
		put_whole(f, i, key, status == 0);
	}
}

static void read_card(struct pl_facts *f, const struct nvml *n, unsigned i, unsigned count)
{
	char name[96] = "NVIDIA GPU";
	struct nvml_memory memory = {0};
	struct nvml_pci pci = {0};
	nvml_device d;
	if (n->by_index(i, &d))
		return;
	(void)n->name(d, name, sizeof name);
	name[sizeof name - 1] = '\0';
	pl_facts_put(f, name, "nvml:%u/name", i);
	if (n->memory(d, &memory) == 0 && memory.total) {
		put_whole(f, i, "total_bytes", memory.total);
		put_whole(f, i, "free_bytes", memory.free);
	}
	if (n->pci && n->pci(d, &pci) == 0) {
		pci.bus_id[sizeof pci.bus_id - 1] = '\0';
		pl_facts_put(f, pci.bus_id, "nvml:%u/pci", i);
	}
	put_if(f, d, i, "link_gen", n->link_generation, 1);
	put_if(f, d, i, "link_width", n->link_width, 1);
	put_if(f, d, i, "link_gen_max", n->link_generation_max, 1);
	put_if(f, d, i, "link_width_max", n->link_width_max, 1);
	put_if(f, d, i, "persistence", n->persistence, 1);
	put_if(f, d, i, "display_active", n->display_active, 1);
	put_if(f, d, i, "power_limit_w", n->power_limit, 1000);
	put_if(f, d, i, "power_default_w", n->power_default, 1000);
	put_pairs(f, n, d, i);
	put_processes(f, n, d, i);
	put_links(f, n, d, i, count);
}

void pl_nvml_read(struct pl_facts *f)
{
	struct nvml n;
	unsigned count = 0;
	char text[96];
	int cuda;
	if (!pl_nvml_open(&n, pl_facts_nvml_library(f)))
		return;
	if (n.driver && n.driver(text, sizeof text) == 0)
		pl_facts_put(f, text, "nvml:driver");
	if (n.cuda && n.cuda(&cuda) == 0) {
		(void)snprintf(text, sizeof text, "%d.%d", cuda / 1000, cuda % 1000 / 10);
		pl_facts_put(f, text, "nvml:cuda");
	}
	if (n.count(&count) == 0) {
		(void)snprintf(text, sizeof text, "%u", count);
		pl_facts_put(f, text, "nvml:count");
		for (unsigned i = 0; i < count && i < PL_MAX_DEVICES; i++)
			read_card(f, &n, i, count);
	}
	pl_nvml_close(&n);
}
