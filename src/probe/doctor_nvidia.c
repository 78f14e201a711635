#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/fmt.h"
#include "probe/doctor.h"

static const double MIB = 1024 * 1024;

struct card {
	struct pl_doctor_job *j;
	unsigned i;
	const char *subject, *capability;
	double total_bytes;
	const struct pl_gpu *gpu; /* NULL: not catalogued */
};

static double get(const struct card *c, const char *key)
{
	return pl_facts_number(c->j->f, "nvml:%u/%s", c->i, key);
}

static double cc(const struct card *c)
{
	return c->capability ? strtod(c->capability, NULL) : NAN;
}

/* ---- driver against generation and engine ------------------------------------------------------------------------ */

/* First driver branch an engine's published builds run with: CUDA 13 needs 580 (data/precisions.csv). */
static double branch_for(const char *engine)
{
	const char *v = pl_doctor_toolchain(engine, "min_driver");
	return v ? strtod(v, NULL) : NAN;
}

static void check_driver(struct pl_doctor_job *j, const char *lowest, const char *last_branch)
{
	const char *driver = pl_facts_get(j->f, "nvml:driver"), *cuda = pl_facts_get(j->f, "nvml:cuda"), *engine = pl_doctor_engine(j);
	double major = driver ? strtod(driver, NULL) : NAN, need = branch_for(engine);
	if (!driver)
		return;
	if (major < need)
		pl_find(j, "nvidia.driver", NULL, PL_FINDING_FAULT, pl_say(j, "driver %s, %s needs %.0f or newer", driver, engine, need),
		        pl_say(j, "its builds are made for CUDA 13; this driver runs programs up to CUDA %s", cuda ? cuda : "?"),
		        pl_say(j, "sudo apt-get install nvidia-driver (branch %.0f or newer), then restart", need));
	else
		pl_find(j, "nvidia.driver", NULL, PL_FINDING_OK, pl_say(j, "driver %s, for programs up to CUDA %s", driver, cuda ? cuda : "?"), NULL, NULL);
	if (last_branch && last_branch[0] == 'R')
		pl_find(j, "nvidia.last_branch", NULL, PL_FINDING_INFO,
		        pl_say(j, "%s is the last driver branch for compute capability %s", last_branch, lowest),
		        pl_say(j, "a newer driver no longer sees these cards; CUDA %s is the last toolkit for them",
		               pl_doctor_toolchain(lowest, "last_cuda_toolkit") ? pl_doctor_toolchain(lowest, "last_cuda_toolkit") : "12.9"),
		        pl_say(j, "keep the driver: sudo apt-mark hold nvidia-driver"));
}

static void check_capability(struct card *c)
{
	struct pl_doctor_job *j = c->j;
	double v = cc(c);
	const char *has;
	if (!(v > 0))
		return;
	has = v >= 10   ? pl_say(j, "FP4, FP8, BF16, FlashAttention and Marlin all run natively")
	      : v >= 8.9 ? pl_say(j, "FP8, BF16, FlashAttention and Marlin run natively; FP4 weights are computed in 16 bit")
	      : v >= 8   ? pl_say(j, "BF16, FlashAttention and Marlin run natively; FP8 and FP4 weights are computed in 16 bit")
	      : v >= 7.5 ? pl_say(j, "FP16 and Marlin; no BF16, no FlashAttention 2: FP8 and FP4 weights are computed in 16 bit")
	      : v >= 7   ? pl_say(j, "FP16 tensor cores only: no BF16, no Marlin, no FlashAttention 2")
	      : v == 6.1 ? pl_say(j, "no tensor cores: computing is bound by FP32, or INT8 through dp4a")
	                 : pl_say(j, "no tensor cores: computing is bound by FP32");
	pl_find(j, "nvidia.capability", c->subject, PL_FINDING_INFO, pl_say(j, "compute capability %s", c->capability), has, NULL);
	if (j->req->plan && j->req->plan->argv.n_words == 0)
		return;
	if (v < 7.5 && !strcmp(pl_doctor_engine(j), "vllm"))
		pl_find(j, "vllm.capability", c->subject, PL_FINDING_FAULT, pl_say(j, "current vLLM starts from compute capability 7.5 on"),
		        pl_say(j, "its V1 engine holds no attention kernels for %s; 0.9.2 is the last release with the engine before", c->capability),
		        pl_say(j, "uv pip install vllm==0.9.2 (its V0 engine: VLLM_USE_V1=0), or use llama.cpp"));
}

/* ---- the slot ---------------------------------------------------------------------------------------------------- */

/* One direction, GB/s a lane: 0.25, 0.5, 0.985 … (PCI Express base specification). */
static double lane_bytes_per_s(double gen)
{
	static const double rates[] = {0.25e9, 0.5e9, 0.985e9, 1.969e9, 3.938e9, 7.563e9};
	int g = (int)gen;
	return g >= 1 && g <= 6 ? rates[g - 1] : NAN;
}

static void check_link(struct card *c)
{
	struct pl_doctor_job *j = c->j;
	double gen = get(c, "link_gen"), gen_max = get(c, "link_gen_max"), width = get(c, "link_width"), width_max = get(c, "link_width_max");
	const char *pci = pl_facts_get(j->f, "nvml:%u/pci", c->i);
	if (!(width > 0) || !(gen_max > 0))
		return;
	double now = width * lane_bytes_per_s(gen_max), could = width_max * lane_bytes_per_s(gen_max);
	if (width < width_max) {
		bool few = width * 2 < width_max;
		pl_find(j, "nvidia.link_width", c->subject, few ? PL_FINDING_WARNING : PL_FINDING_INFO,
		        pl_say(j, "PCIe x%.0f of x%.0f", width, width_max),
		        pl_say(j, "filling its memory takes %.1f s instead of %.1f s at best, and work shared with other GPUs or the CPU is slower in "
		                  "the same proportion",
		               c->total_bytes / now, c->total_bytes / could),
		        pl_say(j, "another slot or riser; see what the slot offers: sudo lspci -vv -s %s | grep -E 'LnkCap|LnkSta'", pci ? pci : ""));
	} else {
		pl_find(j, "nvidia.link_width", c->subject, PL_FINDING_OK, pl_say(j, "PCIe %.0f x%.0f, up to %.1f GB/s", gen_max, width, now / 1e9), NULL, NULL);
	}
	if (gen > 0 && gen < gen_max)
		pl_find(j, "nvidia.link_gen", c->subject, PL_FINDING_INFO, pl_say(j, "the link runs at generation %.0f of %.0f now", gen, gen_max),
		        pl_say(j, "an idle card saves power this way; if it stays so under load, the slot, the riser or the BIOS limits it"), NULL);
}

static void check_bar(struct card *c)
{
	double bar = get(c, "bar1_bytes");
	if (!(bar > 0) || !(c->total_bytes > 0) || bar >= 0.9 * c->total_bytes)
		return;
	pl_find(c->j, "nvidia.resizable_bar", c->subject, PL_FINDING_INFO,
	        pl_say(c->j, "resizable BAR is off: %.0f MiB of %.0f MiB are visible at once", bar / MIB, c->total_bytes / MIB),
	        pl_say(c->j, "direct copies between GPUs (P2P) need it on consumer cards"),
	        pl_say(c->j, "BIOS: Above 4G decoding and Resizable BAR on, CSM off"));
}

/* ---- state ------------------------------------------------------------------------------------------------------- */

static void check_power(struct card *c)
{
	double limit = get(c, "power_limit_w"), normal = get(c, "power_default_w");
	if (!(limit > 0) || !(normal > 0))
		return;
	if (limit < 0.98 * normal)
		pl_find(c->j, "nvidia.power_limit", c->subject, PL_FINDING_INFO, pl_say(c->j, "limited to %.0f W of %.0f W", limit, normal),
		        pl_say(c->j, "reading weights loses little down to about two thirds; prompt processing loses more"),
		        pl_say(c->j, "sudo nvidia-smi -i %u -pl %.0f", c->i, normal));
	else
		pl_find(c->j, "nvidia.power_limit", c->subject, PL_FINDING_OK, pl_say(c->j, "power limit %.0f W, the default", limit), NULL, NULL);
}

static void check_modes(struct card *c)
{
	struct pl_doctor_job *j = c->j;
	if (get(c, "persistence") == 0)
		pl_find(j, "nvidia.persistence", c->subject, PL_FINDING_INFO, pl_say(j, "persistence mode is off"),
		        pl_say(j, "the driver starts anew with the first program: a second or more a card"), pl_say(j, "sudo nvidia-smi -pm 1"));
	/* GDDR keeps the check bits in the memory itself: a sixteenth of it; HBM has room of its own. */
	if (get(c, "ecc") == 1 && c->gpu && c->gpu->mem_type && !strncmp(c->gpu->mem_type, "GDDR", 4))
		pl_find(j, "nvidia.ecc", c->subject, PL_FINDING_INFO, pl_say(j, "ECC is on"),
		        pl_say(j, "on %s it costs a sixteenth of the memory (%.1f GiB) and some bandwidth", c->gpu->mem_type,
		               c->total_bytes / 15 / (1024 * MIB)),
		        pl_say(j, "sudo nvidia-smi -i %u -e 0, then restart; keep it where wrong bits matter", c->i));
	if (get(c, "mig") == 1)
		pl_find(j, "nvidia.mig", c->subject, PL_FINDING_WARNING, pl_say(j, "MIG is on: the card is split into instances"),
		        pl_say(j, "an engine sees one instance and its share of the memory only"), pl_say(j, "sudo nvidia-smi -i %u -mig 0", c->i));
}

/* Ending these ends the desktop. */
static bool is_desktop(const char *name)
{
	static const char *const names[] = {"Xorg", "Xwayland", "gnome-shell", "kwin_wayland", "kwin_x11", "plasmashell", "sway", "Hyprland"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (!strcmp(name, names[i]))
			return true;
	return false;
}

static void check_users(struct card *c)
{
	struct pl_doctor_job *j = c->j;
	const char *list = pl_facts_get(j->f, "nvml:%u/processes", c->i);
	double used = c->total_bytes - get(c, "free_bytes");
	const char *who = "", *kill = "";
	for (const char *at = list ? list : ""; *at && who; at += strcspn(at, "\n"), at += *at == '\n') {
		char name[64];
		unsigned long long bytes;
		unsigned pid;
		if (sscanf(at, "%63s %llu %u", name, &bytes, &pid) != 3)
			continue;
		who = pl_arena_printf(j->a, *who ? pl_tr("%s, %s %.0f MiB") : "%s%s %.0f MiB", who, name, (double)bytes / MIB);
		if ((double)bytes > 256 * MIB && !is_desktop(name))
			kill = pl_arena_printf(j->a, "%s %u", kill ? kill : "", pid);
	}
	if (!(used > 300 * MIB)) /* the driver alone takes less */
		return;
	pl_find(j, "nvidia.memory_used", c->subject, used > 0.1 * c->total_bytes ? PL_FINDING_WARNING : PL_FINDING_INFO,
	        who && *who ? pl_say(j, "%.0f MiB of %.0f MiB are taken by %s", used / MIB, c->total_bytes / MIB, who)
	                    : pl_say(j, "%.0f MiB of %.0f MiB are taken", used / MIB, c->total_bytes / MIB),
	        NULL, kill && *kill ? pl_say(j, "if they may end: kill%s", kill) : NULL);
}

static bool has_integrated(struct pl_doctor_job *j)
{
	char *names[128];
	return pl_doctor_cards(j, PL_PCI_INTEL, names, 128) || pl_doctor_cards(j, PL_PCI_AMD, names, 128);
}

static void check_display(struct card *c)
{
	struct pl_doctor_job *j = c->j;
	if (get(c, "display_active") != 1)
		return;
	pl_find(j, "nvidia.display", c->subject, PL_FINDING_WARNING, pl_say(j, "a display runs on this card"),
	        pl_say(j, "a desktop takes 0.3 to 1.5 GiB of it, and long prompts make the picture stutter"),
	        has_integrated(j) ? pl_say(j, "plug the monitor into the mainboard, and set the first display to the integrated graphics in the BIOS")
	                          : pl_say(j, "without a desktop: sudo systemctl set-default multi-user.target, then restart"));
}

/* ---- between cards ----------------------------------------------------------------------------------------------- */

static void check_between(struct pl_doctor_job *j, unsigned count)
{
	unsigned pairs = 0, direct = 0;
	double links = 0, up = 0;
	for (unsigned i = 0; i < count; i++) {
		double l = pl_facts_number(j->f, "nvml:%u/nvlinks", i), u = pl_facts_number(j->f, "nvml:%u/nvlinks_up", i);
		links += l > 0 ? l : 0;
		up += u > 0 ? u : 0;
		for (unsigned k = i + 1; k < count; k++) {
			double works = pl_facts_number(j->f, "nvml:%u/p2p_%u", i, k);
			pairs += works >= 0;
			direct += works == 1;
		}
	}
	if (links > 0)
		pl_find(j, "nvidia.nvlink", NULL, up > 0 ? PL_FINDING_OK : PL_FINDING_WARNING, pl_say(j, "%.0f of %.0f NVLinks are up", up, links),
		        up > 0 ? NULL : pl_say(j, "tensor parallelism goes over PCIe instead"),
		        up > 0 ? NULL : pl_say(j, "seat the bridge, then look: nvidia-smi nvlink --status"));
	if (pairs && direct < pairs)
		pl_find(j, "nvidia.p2p", NULL, PL_FINDING_INFO, pl_say(j, "%u of %u pairs of GPUs can copy directly", direct, pairs),
		        pl_say(j, "the others go through RAM: a layer split hardly notices, tensor parallelism does"),
		        pl_say(j, "how they are joined: nvidia-smi topo -m"));
	else if (pairs)
		pl_find(j, "nvidia.p2p", NULL, PL_FINDING_OK, pl_say(j, "all %u pairs of GPUs copy directly", pairs), NULL, NULL);
}

void pl_doctor_nvidia(struct pl_doctor_job *j)
{
	double said = pl_facts_number(j->f, "nvml:count"), on_bus = pl_facts_number(j->f, "hwloc:nvidia");
	unsigned count = said > 0 && said <= PL_MAX_DEVICES ? (unsigned)said : 0;
	const char *lowest = NULL, *branch = NULL;
	if (!count && on_bus > 0)
		pl_find(j, "nvidia.driver", NULL, PL_FINDING_FAULT, pl_say(j, "%.0f NVIDIA device(s) on the bus, and no driver that answers", on_bus),
		        pl_say(j, "without libnvidia-ml.so.1 no engine can use them"),
		        pl_say(j, "sudo apt-get install nvidia-driver, then restart; in a container: --gpus all"));
	for (unsigned i = 0; i < count; i++) {
		const char *capability = pl_facts_get(j->f, "nvml:%u/capability", i);
		if (capability && (!lowest || strtod(capability, NULL) < strtod(lowest, NULL)))
			lowest = capability;
	}
	branch = lowest ? pl_doctor_toolchain(lowest, "last_driver_branch") : NULL;
	if (count)
		check_driver(j, lowest, branch);
	for (unsigned i = 0; i < count; i++) {
		const char *name = pl_facts_get(j->f, "nvml:%u/name", i);
		struct card c = {.j = j, .i = i, .capability = pl_facts_get(j->f, "nvml:%u/capability", i)};
		struct pl_err err;
		if (name && pl_gpu_find(name, &c.gpu, &err))
			c.gpu = NULL;
		c.subject = pl_say(j, "GPU %u", i);
		c.total_bytes = get(&c, "total_bytes");
		check_capability(&c);
		check_link(&c);
		check_bar(&c);
		check_power(&c);
		check_modes(&c);
		check_users(&c);
		check_display(&c);
	}
	if (count > 1)
		check_between(j, count);
}
