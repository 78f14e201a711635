/* RAM, its slots, disks, limits, and what the kernel does with them. */
#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/fmt.h"
#include "probe/doctor.h"

static const double GIB = 1024.0 * 1024 * 1024;

static bool live(const struct pl_doctor_job *j)
{
	return pl_facts_live_now(j->f) && !*pl_facts_root(j->f);
}

static void put_number(struct pl_doctor_job *j, const char *key, double v)
{
	char text[40];
	(void)snprintf(text, sizeof text, "%.0f", v);
	pl_facts_put(j->f, text, "%s", key);
}

/* ---- memory slots: SMBIOS type 17 (DMTF DSP0134 §7.18), readable by root -------------------------------------------- */

enum { MEMORY_DEVICE = 17, MAX_DMI = 1 << 18 };

static unsigned word(const uint8_t *s, unsigned at)
{
	return s[at] | (unsigned)s[at + 1] << 8;
}

struct slots {
	unsigned all, filled, mt_per_s_least, mt_per_s_most;
};

static void count_slot(struct slots *n, const uint8_t *s, unsigned len)
{
	n->all++;
	if (len < 0x17 || !word(s, 0x0c)) /* size 0: nothing in it */
		return;
	n->filled++;
	unsigned speed = len >= 0x22 && word(s, 0x20) ? word(s, 0x20) : word(s, 0x15); /* configured, else rated */
	if (!speed)
		return;
	n->mt_per_s_least = n->mt_per_s_least && n->mt_per_s_least < speed ? n->mt_per_s_least : speed;
	n->mt_per_s_most = n->mt_per_s_most > speed ? n->mt_per_s_most : speed;
}

/* A structure is its formatted part, then strings up to two NULs. */
static void count_slots(struct slots *n, const uint8_t *table, size_t size)
{
	for (size_t at = 0; at + 4 <= size;) {
		unsigned len = table[at + 1];
		if (len < 4 || at + len > size)
			return;
		if (table[at] == MEMORY_DEVICE)
			count_slot(n, table + at, len);
		at += len;
		while (at + 1 < size && (table[at] || table[at + 1]))
			at++;
		at += 2;
	}
}

static void read_slots(struct pl_doctor_job *j)
{
	uint8_t *table = pl_arena_alloc(j->a, MAX_DMI);
	char text[64];
	struct slots n = {0};
	ssize_t size = -1;
	int fd = open("/sys/firmware/dmi/tables/DMI", O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		size = table ? read(fd, table, MAX_DMI) : -1;
		(void)close(fd);
	}
	if (size > 0)
		count_slots(&n, table, (size_t)size);
	(void)snprintf(text, sizeof text, "%u %u %u %u", n.all, n.filled, n.mt_per_s_least, n.mt_per_s_most);
	pl_facts_put(j->f, n.filled ? text : NULL, "dmi:memory");
}

static void check_slots(struct pl_doctor_job *j)
{
	struct slots n;
	if (live(j))
		read_slots(j);
	const char *text = pl_facts_get(j->f, "dmi:memory");
	if (!text || sscanf(text, "%u %u %u %u", &n.all, &n.filled, &n.mt_per_s_least, &n.mt_per_s_most) != 4)
		return;
	/* 8 bytes a transfer and channel; a module a channel at best */
	double rate = 8e6 * n.mt_per_s_least;
	pl_find(j, "ram.slots", pl_say(j, "RAM"), n.filled == 1 && n.all > 1 ? PL_FINDING_WARNING : PL_FINDING_INFO,
	        pl_say(j, "%u of %u slots filled, at %u MT/s", n.filled, n.all, n.mt_per_s_least),
	        pl_say(j, "%.0f GB/s at most if every module has a channel of its own: weights on the CPU are read at this rate for every token",
	               rate * n.filled / 1e9),
	        n.filled == 1 ? pl_say(j, "a second module of the same kind, in the slot the mainboard's manual pairs with the first, doubles it") : NULL);
}

/* ---- the kernel's choices ---------------------------------------------------------------------------------------- */

static void check_kernel(struct pl_doctor_job *j)
{
	char text[128];
	const struct pl_machine *m = j->req->machine;
	bool on_cpu = !m->n_devices || (j->req->plan && j->req->plan->verdict != PL_VERDICT_FITS_GPU);
	if (pl_facts_file(j->f, "/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof text) && strstr(text, "[never]") && on_cpu)
		pl_find(j, "kernel.huge_pages", NULL, PL_FINDING_INFO, pl_say(j, "transparent huge pages are off"),
		        pl_say(j, "weights of tens of GiB then need millions of page table entries"),
		        pl_say(j, "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled"));
	if (pl_facts_file(j->f, "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", text, sizeof text) && !strcmp(text, "powersave") && on_cpu)
		pl_find(j, "kernel.governor", NULL, PL_FINDING_INFO, pl_say(j, "the CPU frequency governor is powersave"),
		        pl_say(j, "cores speed up late after each wait"), pl_say(j, "sudo cpupower frequency-set -g performance"));
	if (pl_facts_file(j->f, "/proc/sys/kernel/numa_balancing", text, sizeof text) && !strcmp(text, "1") && m->numa_nodes > 1 && on_cpu)
		pl_find(j, "kernel.numa", NULL, PL_FINDING_WARNING, pl_say(j, "%u NUMA nodes, and the kernel moves pages between them", m->numa_nodes),
		        pl_say(j, "weights on the wrong node are read at a fraction of the rate"),
		        pl_say(j, "echo 0 | sudo tee /proc/sys/kernel/numa_balancing; start with numactl --interleave=all (llama.cpp: --numa distribute)"));
	if (pl_facts_file(j->f, "/proc/sys/vm/nr_hugepages", text, sizeof text) && strtoul(text, NULL, 10) > 512)
		pl_find(j, "kernel.reserved", pl_say(j, "RAM"), PL_FINDING_WARNING, pl_say(j, "%s huge pages are set aside", text),
		        pl_say(j, "%.1f GiB that no engine gets", strtod(text, NULL) * 2 / 1024), pl_say(j, "sudo sysctl vm.nr_hugepages=0"));
}

/* ---- limits ------------------------------------------------------------------------------------------------------ */

static void read_limits(struct pl_doctor_job *j)
{
	struct rlimit r;
	struct statvfs shm;
	if (!getrlimit(RLIMIT_MEMLOCK, &r))
		put_number(j, "limit:memlock_bytes", r.rlim_cur == RLIM_INFINITY ? 1e18 : (double)r.rlim_cur);
	if (!getrlimit(RLIMIT_NOFILE, &r))
		put_number(j, "limit:nofile", r.rlim_cur == RLIM_INFINITY ? 1e9 : (double)r.rlim_cur);
	if (!statvfs("/dev/shm", &shm))
		put_number(j, "limit:shm_bytes", (double)shm.f_blocks * (double)shm.f_frsize);
}

static void check_limits(struct pl_doctor_job *j)
{
	if (live(j))
		read_limits(j);
	double lock = pl_facts_number(j->f, "limit:memlock_bytes"), files = pl_facts_number(j->f, "limit:nofile"),
	       shm = pl_facts_number(j->f, "limit:shm_bytes");
	const struct pl_plan *p = j->req->plan;
	if (p && p->params.mlock && lock < (double)p->layout.host.use.model_bytes)
		pl_find(j, "limit.memlock", NULL, PL_FINDING_FAULT, pl_say(j, "%.0f MiB may be locked in RAM, --mlock needs %.0f MiB", lock / (1 << 20), (double)p->layout.host.use.model_bytes / (1 << 20)),
		        NULL, pl_say(j, "ulimit -l unlimited; for good: 'memlock unlimited' in /etc/security/limits.conf"));
	if (files < 4096)
		pl_find(j, "limit.files", NULL, PL_FINDING_INFO, pl_say(j, "%.0f files may be open at once", files),
		        pl_say(j, "a server with a thousand clients needs more"), pl_say(j, "ulimit -n 65536"));
	if (j->req->machine->n_devices > 1 && shm < 1 * GIB)
		pl_find(j, "limit.shm", NULL, PL_FINDING_WARNING, pl_say(j, "/dev/shm holds %.0f MiB", shm / (1 << 20)),
		        pl_say(j, "NCCL between several GPUs needs a GiB or more there: servers hang or end at start"),
		        pl_say(j, "docker run --shm-size=16g, or sudo mount -o remount,size=16G /dev/shm"));
}

/* ---- the disk of the model --------------------------------------------------------------------------------------- */

enum { BLOCK = 4 << 20 };

static double clock_s(void)
{
	struct timespec t;
	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Largest regular file of a folder, or the path itself. */
static bool file_to_read(const char *path, char *ret, size_t size)
{
	struct stat st;
	off_t most = 0;
	if (stat(path, &st))
		return false;
	if (S_ISREG(st.st_mode))
		return snprintf(ret, size, "%s", path) < (int)size;
	DIR *dir = opendir(path);
	for (struct dirent *e; dir && (e = readdir(dir));) {
		char one[4096];
		if (snprintf(one, sizeof one, "%s/%s", path, e->d_name) < (int)sizeof one && !stat(one, &st) && S_ISREG(st.st_mode) && st.st_size > most) {
			most = st.st_size;
			(void)snprintf(ret, size, "%s", one);
		}
	}
	if (dir)
		(void)closedir(dir);
	return most > 0;
}

/* Past the page cache, for at most two seconds and 1 GiB; NAN when the file is too small to tell or a hole. */
static double measure(const char *file)
{
	struct stat st;
	void *buf = NULL;
	double read_bytes = 0;
	int fd = open(file, O_RDONLY | O_CLOEXEC | O_DIRECT);
	if (fd < 0)
		return NAN;
	if (fstat(fd, &st) || st.st_size < 16 * BLOCK || (double)st.st_blocks * 512 < 0.9 * (double)st.st_size || posix_memalign(&buf, 4096, BLOCK)) {
		(void)close(fd);
		return NAN;
	}
	double start = clock_s(), now = start;
	while (now - start < 2 && read_bytes < 256.0 * BLOCK) {
		ssize_t n = read(fd, buf, BLOCK);
		if (n <= 0)
			break;
		read_bytes += (double)n;
		now = clock_s();
	}
	free(buf);
	(void)close(fd);
	return now > start ? read_bytes / (now - start) : NAN;
}

static void read_disk(struct pl_doctor_job *j, const char *path)
{
	char file[4096], link[160];
	struct stat st;
	struct statvfs fs;
	if (stat(path, &st))
		return;
	(void)snprintf(link, sizeof link, "/sys/dev/block/%u:%u/queue/rotational", major(st.st_dev), minor(st.st_dev));
	char text[16];
	if (!pl_facts_file(j->f, link, text, sizeof text)) { /* a partition: its disk is one folder up */
		(void)snprintf(link, sizeof link, "/sys/dev/block/%u:%u/../queue/rotational", major(st.st_dev), minor(st.st_dev));
		if (!pl_facts_file(j->f, link, text, sizeof text))
			text[0] = '\0';
	}
	if (*text)
		pl_facts_put(j->f, text, "disk:rotational");
	if (!statvfs(path, &fs))
		put_number(j, "disk:free_bytes", (double)fs.f_bavail * (double)fs.f_frsize);
	double rate = j->req->no_disk_test || !file_to_read(path, file, sizeof file) ? NAN : measure(file);
	if (rate > 0)
		put_number(j, "disk:bytes_per_s", rate);
}

static void check_disk(struct pl_doctor_job *j)
{
	char rate_text[PL_FMT_MAX];
	if (live(j))
		read_disk(j, j->req->model_path ? j->req->model_path : ".");
	double rate = pl_facts_number(j->f, "disk:bytes_per_s"), free_bytes = pl_facts_number(j->f, "disk:free_bytes"),
	       turns = pl_facts_number(j->f, "disk:rotational");
	double model = j->req->plan ? (double)j->req->plan->model->weight_bytes : NAN;
	if (rate > 0) {
		bool slow = model > 0 ? model / rate > 120 : rate < 200e6;
		pl_find(j, "disk.read_rate", pl_say(j, "disk"), slow ? PL_FINDING_WARNING : PL_FINDING_OK,
		        pl_say(j, "the model's disk reads %s", pl_fmt_bandwidth(rate_text, rate)),
		        model > 0 ? pl_say(j, "loading %.1f GiB takes %.0f s at least", model / GIB, model / rate) : NULL,
		        slow ? pl_say(j, "move the model to an NVMe disk") : NULL);
	} else if (turns == 1) {
		pl_find(j, "disk.rotational", pl_say(j, "disk"), PL_FINDING_INFO, pl_say(j, "the kernel takes it for a hard disk, as it does many virtual ones"),
		        model > 0 ? pl_say(j, "at the 150 MB/s of a hard disk, loading %.1f GiB takes %.0f s", model / GIB, model / 150e6) : NULL,
		        pl_say(j, "name the model's file to measure it: plimsoll doctor MODEL"));
	}
	if (free_bytes < model)
		pl_find(j, "disk.free", pl_say(j, "disk"), PL_FINDING_INFO, pl_say(j, "%.1f GiB are free here, the model has %.1f GiB", free_bytes / GIB, model / GIB),
		        pl_say(j, "a download to this folder would not fit"), NULL);
}

void pl_doctor_host(struct pl_doctor_job *j)
{
	check_slots(j);
	check_kernel(j);
	check_limits(j);
	check_disk(j);
}
