#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "probe/probe.h"

/* AMD through amdgpu's sysfs files (kernel documentation, gpu/amdgpu/driver-misc): mem_info_vram_total and _used in
 * bytes, product_name where the board has one, current_link_speed ("16.0 GT/s PCIe") and current_link_width. */

enum { VENDOR_AMD = 0x1002, VENDOR_INTEL = 0x8086 };

static bool read_in(const struct pl_probe *p, const char *dir, const char *file, char *buf, size_t size)
{
	char path[256];
	(void)snprintf(path, sizeof path, "%s/%s", dir, file);
	return pl_facts_file(p->facts, path, buf, size);
}

static bool read_u64_in(const struct pl_probe *p, const char *dir, const char *file, uint64_t *ret)
{
	char path[256];
	(void)snprintf(path, sizeof path, "%s/%s", dir, file);
	return pl_facts_file_u64(p->facts, path, ret);
}

static double generation_of(double gt_per_s)
{
	static const double speeds[] = {2.5, 5, 8, 16, 32, 64};
	for (int i = 0; i < 6; i++)
		if (gt_per_s <= speeds[i] * 1.01)
			return i + 1;
	return 0;
}

static void link_of(const struct pl_probe *p, const char *dir, struct pl_device *d)
{
	char text[64];
	if (read_in(p, dir, "current_link_speed", text, sizeof text))
		d->pcie_gen = generation_of(strtod(text, NULL));
	if (read_in(p, dir, "current_link_width", text, sizeof text))
		d->pcie_lanes = strtod(text, NULL);
	if (read_in(p, dir, "numa_node", text, sizeof text))
		d->numa_node = (int32_t)strtol(text, NULL, 10);
}

static void amd_card(struct pl_probe *p, const char *dir, const char *device_id)
{
	char name[128];
	uint64_t vram = 0, used = 0, gtt = 0;
	if (!read_u64_in(p, dir, "mem_info_vram_total", &vram))
		return;
	struct pl_device *d = pl_probe_add(p);
	if (!d)
		return;
	if (!read_in(p, dir, "product_name", name, sizeof name))
		(void)snprintf(name, sizeof name, "AMD GPU %s", device_id);
	pl_probe_identify(p, d, name, PL_VENDOR_AMD);
	(void)read_u64_in(p, dir, "mem_info_vram_used", &used);
	d->total_bytes = vram;
	d->free_bytes = pl_sat_sub(vram, used);
	d->free_known = true;
	/* An APU carves little VRAM out of RAM and borrows the rest (GTT): both are usable, both are the host's. */
	if (read_u64_in(p, dir, "mem_info_gtt_total", &gtt) && gtt > 2 * vram) {
		d->unified_memory = true;
		d->total_bytes = pl_sat_add(vram, gtt);
		d->free_bytes = pl_sat_add(d->free_bytes, gtt);
	}
	link_of(p, dir, d);
}

static void one_card(struct pl_probe *p, const char *card)
{
	char dir[160], text[32], device[32] = "";
	(void)snprintf(dir, sizeof dir, "/sys/class/drm/%.64s/device", card);
	if (!read_in(p, dir, "vendor", text, sizeof text))
		return;
	(void)read_in(p, dir, "device", device, sizeof device);
	switch (strtoul(text, NULL, 16)) {
	case VENDOR_AMD:
		amd_card(p, dir, device);
		break;
	case VENDOR_INTEL:
		pl_note_add(p->a, p->notes, PL_NOTE_INFO,
		            "an Intel GPU (%s) is present; its driver publishes no memory size: name it with --on to plan for it",
		            device);
		break;
	default:
		break; /* NVIDIA answers through NVML; virtual displays are not accelerators */
	}
}

void pl_probe_drm(struct pl_probe *p)
{
	char *names[PL_MAX_DEVICES * 8];
	size_t n = pl_facts_folder(p->facts, p->a, "/sys/class/drm", names, sizeof names / sizeof *names);
	for (size_t i = 0; i < n; i++) /* card0, card1 …, not their connectors card0-DP-1 */
		if (!strncmp(names[i], "card", 4) && names[i][4] && !names[i][4 + strspn(names[i] + 4, "0123456789")])
			one_card(p, names[i]);
}
