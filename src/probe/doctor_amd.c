/* AMD through amdgpu's sysfs, Intel through its drivers' sysfs, Ascend through its device files. */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "probe/doctor.h"

/* May this user open the device? A fact of its own, since a replay runs as somebody else. */
static const char *access_to(struct pl_doctor_job *j, const char *path)
{
	if (pl_facts_live_now(j->f) && !*pl_facts_root(j->f))
		pl_facts_put(j->f, access(path, F_OK) ? "missing" : access(path, R_OK | W_OK) ? "refused" : "open", "access:%s", path);
	return pl_facts_get(j->f, "access:%s", path);
}

static void check_amd(struct pl_doctor_job *j, unsigned n)
{
	char rocm[64];
	const char *kfd = access_to(j, "/dev/kfd");
	bool has_rocm = pl_facts_file(j->f, "/opt/rocm/.info/version", rocm, sizeof rocm);
	if (kfd && !strcmp(kfd, "missing"))
		pl_find(j, "amd.kfd", NULL, PL_FINDING_FAULT, pl_say(j, "%u AMD GPU(s), and no /dev/kfd", n),
		        pl_say(j, "ROCm computes through it; Vulkan works without"),
		        pl_say(j, "load the driver: sudo modprobe amdgpu; in a container: --device /dev/kfd --device /dev/dri"));
	else if (kfd && !strcmp(kfd, "refused"))
		pl_find(j, "amd.kfd", NULL, PL_FINDING_FAULT, pl_say(j, "/dev/kfd may not be opened by this user"), NULL,
		        pl_say(j, "sudo usermod -aG render,video \"$USER\", then log in again"));
	if (has_rocm)
		pl_find(j, "amd.rocm", NULL, PL_FINDING_OK, pl_say(j, "ROCm %s", rocm), NULL, NULL);
	else
		pl_find(j, "amd.rocm", NULL, PL_FINDING_INFO, pl_say(j, "ROCm is not installed here"),
		        pl_say(j, "llama.cpp runs on Vulkan without it; vLLM and SGLang bring it in their images"), NULL);
}

/* What a generation needs of ROCm, and the last that still has kernels for it (data/precisions.csv). */
static void check_generation(struct pl_doctor_job *j, uint32_t i)
{
	const struct pl_gpu *g = j->req->machine->devices[i].gpu;
	char rocm[64];
	uint32_t n;
	const struct pl_precision *rows = pl_catalog_precisions(&n);
	if (!g || !g->capability || !pl_facts_file(j->f, "/opt/rocm/.info/version", rocm, sizeof rocm))
		return;
	for (uint32_t k = 0; k < n; k++) {
		bool least = !strcmp(rows[k].item, "min_rocm"), last = !strcmp(rows[k].item, "last_rocm");
		if (strcmp(rows[k].record, "toolchain") != 0 || strcmp(rows[k].capability, g->capability) != 0 || (!least && !last))
			continue;
		double limit = strtod(rows[k].value, NULL), have = strtod(rocm, NULL);
		if (least && have < limit)
			pl_find(j, "amd.rocm_version", pl_say(j, "GPU %u", i), PL_FINDING_FAULT, pl_say(j, "%s needs ROCm %s, here is %s", g->capability, rows[k].value, rocm),
			        NULL, pl_say(j, "install ROCm %s or newer", rows[k].value));
		if (last && have > limit)
			pl_find(j, "amd.rocm_version", pl_say(j, "GPU %u", i), PL_FINDING_WARNING, pl_say(j, "%s: %s", g->capability, rows[k].value), NULL,
			        pl_say(j, "use Vulkan, or an older ROCm"));
	}
}

static void check_links(struct pl_doctor_job *j)
{
	char *names[128], path[160], now[32], most[32];
	size_t n = pl_doctor_cards(j, PL_PCI_AMD, names, sizeof names / sizeof *names);
	for (size_t i = 0; i < n; i++) {
		(void)snprintf(path, sizeof path, "/sys/class/drm/%.60s/device/current_link_width", names[i]);
		bool known = pl_facts_file(j->f, path, now, sizeof now);
		(void)snprintf(path, sizeof path, "/sys/class/drm/%.60s/device/max_link_width", names[i]);
		known = known && pl_facts_file(j->f, path, most, sizeof most);
		if (known && atoi(now) < atoi(most))
			pl_find(j, "amd.link_width", pl_say(j, "AMD %s", names[i]), PL_FINDING_WARNING, pl_say(j, "PCIe x%s of x%s", now, most),
			        pl_say(j, "loading and work shared with other GPUs are slower in the same proportion"),
			        pl_say(j, "another slot or riser; sudo lspci -vv | grep -E 'VGA|LnkSta'"));
	}
}

static void check_intel(struct pl_doctor_job *j)
{
	if (pl_facts_live_now(j->f) && !*pl_facts_root(j->f)) {
		void *lib = dlopen("libze_loader.so.1", RTLD_LAZY | RTLD_LOCAL);
		pl_facts_put(j->f, lib ? "yes" : "no", "intel:level_zero");
		if (lib)
			(void)dlclose(lib);
	}
	const char *found = pl_facts_get(j->f, "intel:level_zero"), *render = access_to(j, "/dev/dri/renderD128");
	if (found && !strcmp(found, "no"))
		pl_find(j, "intel.level_zero", NULL, PL_FINDING_INFO, pl_say(j, "an Intel GPU, and Level Zero is not installed"),
		        pl_say(j, "SYCL builds of llama.cpp and vLLM's XPU build need it; Vulkan works without"),
		        pl_say(j, "sudo apt-get install libze1 intel-opencl-icd"));
	if (render && !strcmp(render, "refused"))
		pl_find(j, "intel.render", NULL, PL_FINDING_FAULT, pl_say(j, "/dev/dri/renderD128 may not be opened by this user"), NULL,
		        pl_say(j, "sudo usermod -aG render,video \"$USER\", then log in again"));
}

static void check_ascend(struct pl_doctor_job *j)
{
	static const char *const argv[] = {"npu-smi", "info", NULL};
	const char *node = access_to(j, "/dev/davinci0");
	if (!node || !strcmp(node, "missing"))
		return;
	const char *info = pl_facts_run(j->f, j->a, "npu-smi", argv, 10);
	if (!info)
		pl_find(j, "ascend.driver", NULL, PL_FINDING_FAULT, pl_say(j, "an Ascend device, and npu-smi does not answer"),
		        pl_say(j, "CANN computes through its driver"), pl_say(j, "install the Ascend driver and firmware (CANN), then: npu-smi info"));
	else
		pl_find(j, "ascend.driver", NULL, PL_FINDING_OK, pl_say(j, strstr(info, "910") ? "Ascend 910: npu-smi answers" : "Ascend: npu-smi answers"), NULL, NULL);
}

void pl_doctor_others(struct pl_doctor_job *j)
{
	char *names[64];
	unsigned amd = 0;
	for (uint32_t i = 0; i < j->req->machine->n_devices; i++)
		amd += j->req->machine->devices[i].vendor == PL_VENDOR_AMD;
	if (amd) {
		check_amd(j, amd);
		for (uint32_t i = 0; i < j->req->machine->n_devices; i++)
			if (j->req->machine->devices[i].vendor == PL_VENDOR_AMD)
				check_generation(j, i);
		check_links(j);
	}
	if (pl_doctor_cards(j, PL_PCI_INTEL, names, 64))
		check_intel(j);
	check_ascend(j);
}
