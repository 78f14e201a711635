#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <plimsoll/verify.h>

/* user nice system idle iowait irq softirq steal, in ticks (proc(5)); what a hypervisor took away is busy for us. */
static void read_all(struct pl_busy *b)
{
	double t[8];
	FILE *f = fopen("/proc/stat", "re");
	if (f && fscanf(f, "cpu %lf %lf %lf %lf %lf %lf %lf %lf", &t[0], &t[1], &t[2], &t[3], &t[4], &t[5], &t[6], &t[7]) == 8) {
		b->idle_ticks = t[3] + t[4];
		b->total_ticks = b->idle_ticks + t[0] + t[1] + t[2] + t[5] + t[6] + t[7];
	}
	if (f)
		(void)fclose(f);
}

/* utime and stime are the 14th and 15th field; the second, the program's name, may hold anything. */
static double ticks_of(long long pid)
{
	char path[64], text[1024];
	double user, system;
	(void)snprintf(path, sizeof path, "/proc/%lld/stat", pid);
	FILE *f = fopen(path, "re");
	size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
	if (f)
		(void)fclose(f);
	text[n] = '\0';
	const char *at = strrchr(text, ')');
	return at && sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lf %lf", &user, &system) == 2 ? user + system : NAN;
}

void pl_busy_read(int64_t engine_pid, struct pl_busy *ret)
{
	*ret = (struct pl_busy){NAN, NAN, NAN};
	read_all(ret);
	if (engine_pid)
		ret->known_ticks = ticks_of((long long)engine_pid) + ticks_of((long long)getpid());
}

double pl_busy_others_frac(const struct pl_busy *before, const struct pl_busy *after)
{
	double total = after->total_ticks - before->total_ticks, idle = after->idle_ticks - before->idle_ticks;
	double others = total - idle - (after->known_ticks - before->known_ticks);
	return total > 0 && !isnan(others) ? fmax(0, others / total) : NAN;
}
