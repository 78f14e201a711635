/* Hardware: catalogue rows (facts) and machines (what a plan is made for). */
#ifndef PLIMSOLL_HARDWARE_H
#define PLIMSOLL_HARDWARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <plimsoll/arena.h>
#include <plimsoll/error.h>
#include <plimsoll/opt.h>

enum pl_vendor {
	PL_VENDOR_UNKNOWN = 0,
	PL_VENDOR_NVIDIA,
	PL_VENDOR_AMD,
	PL_VENDOR_INTEL,
	PL_VENDOR_APPLE,
	PL_VENDOR_HUAWEI,
	PL_VENDOR_GOOGLE,
	PL_VENDOR_AWS,
	PL_VENDOR_OTHER
};

/* A number of the catalogue; NAN when nobody states it. */
typedef double pl_fact;

/* One accelerator: a row of data/gpus.csv. */
struct pl_gpu {
	const char *id, *name, *arch, *capability; /* "nvidia-rtx-4090", "NVIDIA GeForce RTX 4090", "Ada", "8.9" or "gfx942" */
	const char *aliases;                       /* space-separated extra names */
	enum pl_vendor vendor;
	uint32_t launch_year; /* 0 unknown */
	const char *form_factor, *mem_type;
	uint64_t mem_bytes;        /* what the driver reports as total, or the nominal size when mem_is_nominal */
	bool mem_is_nominal;
	bool unified_memory;       /* shares the host's RAM */
	pl_fact mem_bytes_per_s;
	pl_fact fp32_flops_per_s, fp16_flops_per_s, bf16_flops_per_s, fp8_flops_per_s, int8_ops_per_s, int4_ops_per_s,
	    fp4_flops_per_s; /* dense matrix peaks; fp16 with fp32 accumulation where the part distinguishes */
	pl_fact pcie_gen, pcie_lanes, link_bytes_per_s; /* link: total of NVLink / xGMI, both directions */
	pl_fact tdp_w, idle_w, msrp_usd;
	const char *street_usd, *notes, *source_url, *conflict; /* conflict: what other sources say, or "" */
	const char *unsourced_fields;
};

/* A ready-made machine: a row of data/nodes.csv. */
struct pl_node {
	const char *id, *name, *gpu_id, *intra_link, *cpu, *nic, *source_url, *notes, *aliases;
	uint32_t gpu_count;
	pl_fact link_bytes_per_s, ram_bytes, power_w, price_usd;
};

/* A cloud instance: a row of data/cloud.csv. */
struct pl_cloud {
	const char *id, *provider, *instance, *gpu_id, *disk, *region, *date, *source_url, *notes;
	uint32_t gpu_count, vcpu;
	pl_fact ram_bytes, net_bits_per_s, on_demand_usd_per_h, spot_usd_per_h;
};

/* A host platform: a row of data/hosts.csv. A link: a row of data/links.csv. */
struct pl_host_platform {
	const char *id, *vendor, *platform, *example_cpu, *mem_type, *source_url, *notes;
	uint32_t channels, mt_per_s, sockets_max;
	pl_fact mem_bytes_per_s, practical_bytes_per_s, pcie_gen, pcie_lanes, max_ram_bytes;
};
/* What a core can do in a cycle: a row of data/cores.csv. */
struct pl_core {
	const char *id, *name, *isa; /* isa: space-separated flags as /proc/cpuinfo has them */
	uint32_t simd_bits;          /* bits of fused multiply-add a cycle: units x width */
	const char *cpuid;           /* "amd/25/16-31 …": vendor/family/models; arm/implementer/parts */
	const char *source_url, *unsourced_fields, *notes;
};

/* One CPU: a row of data/cpus.csv. */
struct pl_cpu {
	const char *id, *name, *match; /* match: words that a name must hold to mean this one ("7950x", "m2 max") */
	const char *core, *slow_core;  /* rows of data/cores.csv; slow_core "" without efficiency cores */
	const char *mem_type, *source_url, *unsourced_fields, *notes;
	enum pl_vendor vendor;
	uint32_t cores, slow_cores, mt_per_s, sockets_max;
	pl_fact base_hz, boost_hz, all_core_hz, slow_hz, channels;
};

struct pl_link {
	const char *id, *kind, *name, *source_url, *notes;
	pl_fact bytes_per_s, practical_bytes_per_s, latency_s; /* one direction */
};
/* What an architecture does with a number format: a row of data/precisions.csv. */
struct pl_precision {
	const char *record, *arch, *capability, *item, *value, *detail, *source_url;
};

/* Catalogue tables, all const, lent for the life of the program. */
const struct pl_gpu *pl_catalog_gpus(uint32_t *ret_n);
const struct pl_node *pl_catalog_nodes(uint32_t *ret_n);
const struct pl_cloud *pl_catalog_clouds(uint32_t *ret_n);
const struct pl_host_platform *pl_catalog_hosts(uint32_t *ret_n);
const struct pl_link *pl_catalog_links(uint32_t *ret_n);
const struct pl_core *pl_catalog_cores(uint32_t *ret_n);
const struct pl_cpu *pl_catalog_cpus(uint32_t *ret_n);
const struct pl_precision *pl_catalog_precisions(uint32_t *ret_n);

/* Forgiving look-up: case, spaces, dashes, vendor prefixes and "gb" endings do not matter ("4090", "RTX 4090",
 * "a100-80g", "h200-sxm"). A miss says which names are near; an ambiguous name lists the candidates. */
int pl_gpu_find(const char *name, const struct pl_gpu **ret_gpu, struct pl_err *err) PL_MUST_CHECK;
/* Integrated: its memory is what RAM the machine has, with that RAM's speed. */
bool pl_gpu_borrows_ram(const struct pl_gpu *gpu);
int pl_node_find(const char *name, const struct pl_node **ret_node, struct pl_err *err) PL_MUST_CHECK;
int pl_cloud_find(const char *name, const struct pl_cloud **ret_cloud, struct pl_err *err) PL_MUST_CHECK;
/* A link by id, or a network as people call it: "10gbe", "100 GbE", "ib-hdr"; NULL none. */
const struct pl_link *pl_link_of(const char *name);
/* The CPU a text means ("AMD Ryzen 9 7950X 16-Core Processor", "i9-13900K", "epyc-9554"): the row most of whose words it holds;
 * NULL none. */
const struct pl_cpu *pl_cpu_of(const char *text);
/* A row of data/cores.csv by its id, by what the processor says of itself, by its flags alone; NULL unknown. */
const struct pl_core *pl_core_of(const char *id);
const struct pl_core *pl_core_in(const char *text); /* whose id a text holds: "AMD EPYC, zen5" */
const struct pl_core *pl_core_of_cpuid(const char *vendor, uint32_t family, uint32_t model);
const struct pl_core *pl_core_of_flags(const char *flags);
/* All-core clock and bytes a second of one socket's RAM at the rated speed; 0 unknown. */
double pl_cpu_hz(const struct pl_cpu *c);
double pl_cpu_ram_bytes_per_s(const struct pl_cpu *c);
/* What servers with this core have in the middle: all-core clock, RAM of a socket; 0 none catalogued. */
double pl_core_server_hz(const struct pl_core *c);
double pl_core_server_ram_bytes_per_s(const struct pl_core *c);

/* ---- machines --------------------------------------------------------------------------------------------------- */

enum { PL_MAX_DEVICES = 128 };

struct pl_device {
	const char *name;          /* "NVIDIA GeForce RTX 4090", "gpu-24GiB" */
	const struct pl_gpu *gpu;  /* NULL: not catalogued */
	enum pl_vendor vendor;
	uint64_t total_bytes;
	uint64_t free_bytes;       /* what is free now (detected), else total_bytes */
	bool free_known;           /* free_bytes was detected */
	bool unified_memory;
	double pcie_gen, pcie_lanes; /* as linked; 0 unknown */
	double power_limit_w;      /* detected and below the maker's; 0: none known */
	const char *pci_address;   /* "0000:01:00.0" or NULL */
	uint32_t node;             /* which host it sits in */
	bool rpc;                  /* on another host than the engine, which calls it over the network (llama.cpp's RPC) */
	int32_t numa_node;         /* -1 unknown */
};

struct pl_machine {
	const char *description;   /* normalised line: "2 × NVIDIA V100 SXM2 16 GB, NVLink, RAM 64 GiB" */
	bool detected;             /* this machine, not a description */
	struct pl_device *devices;
	uint32_t n_devices;
	uint32_t n_nodes;          /* hosts; the engine runs on host 0 */
	const struct pl_node *node;   /* when named by node */
	const struct pl_cloud *cloud; /* when named by cloud instance */
	double net_bytes_per_s;    /* of one host of a catalogued machine or cloud, all ports, one direction; 0 unknown */
	const char *link;          /* "nvlink", "pcie", … between the devices of a host; NULL unknown */
	const struct pl_link *net; /* between the hosts; NULL unknown */
	uint32_t net_ports;        /* of that kind a host has; 0: 1 */
	const char *cpu;           /* name or NULL */
	const struct pl_cpu *cpu_row; /* that CPU in the catalogue; NULL unknown */
	const struct pl_core *core;   /* what its (fast) cores are; NULL unknown */
	double cpu_hz;             /* clock of all cores at work; 0 unknown */
	uint32_t cpu_cores, cpu_threads, numa_nodes, sockets; /* 0 unknown */
	const char *cpu_flags;     /* space-separated ISA names that matter ("avx2 avx512f amx_int8"), NULL unknown */
	struct pl_opt_u64 ram_bytes, ram_free_bytes; /* of one host */
	double ram_bytes_per_s;    /* of one socket; 0 unknown */
	bool ram_rated;            /* … as the CPU's maker rates it: nobody said how fast it is */
	const char *ram_type;      /* "ddr5-5600" or NULL */
	double disk_bytes_per_s;   /* what weights are read from; 0 unknown */
};

/* "nvme4", "sata", "hdd" … (docs/hardware-line.md) or a rate, "3.2GB/s". */
int pl_disk_find(const char *word, double *ret_bytes_per_s, struct pl_err *err) PL_MUST_CHECK;

/* Reads a hardware line (docs/hardware-line.md): devices joined by "+", then comma-separated attributes.
 *   "2x rtx3090 + 1x rtx4060ti-16gb, pcie4 x8, cpu i9-13900k, ram 64GiB ddr5-5600"
 *   "gpu-24GiB", "4x gpu-24105MiB", "dgx-h200", "2x hgx-h100", "aws:p5.48xlarge", "cpu, ram 64GiB"
 * "local" is not read here: probe/ detects. Unknown attributes are an error that names them. */
int pl_machine_parse(struct pl_arena *a, const char *line, const struct pl_machine **ret_machine,
                     struct pl_err *err) PL_MUST_CHECK;

/* The same from YAML (docs/hardware-line.md): devices with count and name or memory, ram, cpu, link. name: for messages. */
int pl_machine_parse_yaml(struct pl_arena *a, const char *name, const char *text, size_t len,
                          const struct pl_machine **ret_machine, struct pl_err *err) PL_MUST_CHECK;

#endif
