/* From disk to the first answer: what is read, what crosses PCIe, what the engine does before it listens. */
#include <math.h>
#include <string.h>

#include "speed/speed.h"

/* A retail PCIe 4.0 drive reads 7 GB/s; readers of model files sustain 3 to 6 of it (data/links.csv, nvme-g4x4). */
static const double assumed_disk_bytes_per_s = 5e9;
/* Page faults of a mapped file cost a third against large reads (1.1 against 1.6 GB/s on one drive: llama.cpp issue 91). */
static const double mapped_frac = 0.67;
/* Copying out of the page cache. */
static const double cached_bytes_per_s = 8e9;

double pl_disk_bytes_per_s(double disk_bytes_per_s)
{
	return disk_bytes_per_s > 0 ? disk_bytes_per_s : assumed_disk_bytes_per_s;
}

double pl_mapped_bytes_per_s(double disk_bytes_per_s)
{
	return pl_disk_bytes_per_s(disk_bytes_per_s) * mapped_frac;
}

/* Seconds before an engine listens, weights apart: context and graph (llama.cpp, about 1 s of driver start and warm-up);
 * imports, profile run, compilation and capture of graphs (serving engines: 30 to 60 s in their own logs). */
static double init_s(const struct pl_speed_setup *setup)
{
	const char *id = setup->engine ? setup->engine->id : "llama.cpp";
	if (!strcmp(id, "llama.cpp"))
		return 1.5;
	if (!strcmp(id, "transformers"))
		return 8;
	return setup->params && setup->params->enforce_eager ? 25 : 45;
}

void pl_speed_load(const struct pl_speed *s, const struct pl_speed_setup *setup, struct pl_load_answer *ret)
{
	double disk = setup->disk_bytes_per_s > 0 ? setup->disk_bytes_per_s : assumed_disk_bytes_per_s;
	const struct pl_params *p = setup->params;
	const struct pl_layout *l = setup->layout;
	double to_device = 0, slowest = 0, all = s->weight_bytes;
	bool llama = !setup->engine || !strcmp(setup->engine->id, "llama.cpp"), mapped = llama && p && !p->no_mmap;
	*ret = (struct pl_load_answer){.read_bytes = all, .disk_bytes_per_s = disk, .disk_assumed = !(setup->disk_bytes_per_s > 0)};
	for (uint32_t i = 0; l && i < l->n_devices && i < setup->machine->n_devices; i++) {
		const struct pl_device *d = &setup->machine->devices[i];
		double bytes = (double)l->devices[i].model_bytes;
		double seconds = d->unified_memory ? bytes / cached_bytes_per_s : bytes / (0.8 * pl_pcie_bytes_per_s(d));
		to_device += seconds;
		slowest = fmax(slowest, seconds);
	}
	/* llama.cpp copies device after device, serving engines all ranks at once; reading runs beside the copy */
	ret->to_device_s = llama ? to_device : slowest;
	ret->read_s = all / (disk * (mapped ? mapped_frac : 1));
	ret->init_s = init_s(setup);
	ret->warm_start_s = fmax(all / cached_bytes_per_s, ret->to_device_s) + ret->init_s;
	ret->cold_start_s = fmax(ret->read_s, ret->to_device_s) + ret->init_s;
	ret->peak_host_bytes = l ? (double)l->host.peak_load_bytes : NAN;
}
