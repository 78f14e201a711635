#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/fmt.h"
#include "probe/doctor.h"

const char *pl_finding_level_name(enum pl_finding_level l)
{
	static const char *const names[] = {"ok", "info", "warning", "fault"};
	return (unsigned)l < sizeof names / sizeof *names ? names[l] : "info";
}

const char *pl_say(struct pl_doctor_job *j, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	const char *text = pl_arena_vprintf(j->a, pl_tr(fmt), ap);
	va_end(ap);
	return text;
}

void pl_find(struct pl_doctor_job *j, const char *id, const char *subject, enum pl_finding_level level, const char *what, const char *why,
             const char *mend)
{
	struct pl_finding *f = PL_NEW(j->a, struct pl_finding);
	if (!f)
		return;
	*f = (struct pl_finding){id, subject, level, what, why, mend, NULL};
	*j->last = f;
	j->last = &f->next;
}

const char *pl_doctor_engine(const struct pl_doctor_job *j)
{
	const struct pl_engine *e = j->req->engine ? j->req->engine : j->req->plan ? j->req->plan->engine : NULL;
	return e ? e->id : "";
}

/* "6.0/6.1" lists several capabilities. */
static bool names_capability(const char *list, const char *capability)
{
	size_t len = strlen(capability);
	for (const char *at = list; len && *at; at += strcspn(at, "/")) {
		at += *at == '/';
		if (strcspn(at, "/") == len && !strncmp(at, capability, len))
			return true;
	}
	return false;
}

const char *pl_doctor_toolchain(const char *capability, const char *item)
{
	uint32_t n;
	const struct pl_precision *rows = pl_catalog_precisions(&n);
	for (uint32_t i = 0; i < n; i++)
		if (!strcmp(rows[i].record, "toolchain") && !strcmp(rows[i].item, item) &&
		    (names_capability(rows[i].capability, capability) || !strcmp(rows[i].arch, capability)))
			return rows[i].value;
	return NULL;
}

size_t pl_doctor_cards(struct pl_doctor_job *j, unsigned long vendor, char **ret_names, size_t max)
{
	char path[128], text[16];
	size_t n = pl_facts_folder(j->f, j->a, "/sys/class/drm", ret_names, max), kept = 0;
	for (size_t i = 0; i < n; i++) {
		if (strncmp(ret_names[i], "card", 4) != 0 || strchr(ret_names[i], '-'))
			continue;
		(void)snprintf(path, sizeof path, "/sys/class/drm/%.60s/device/vendor", ret_names[i]);
		if (pl_facts_file(j->f, path, text, sizeof text) && strtoul(text, NULL, 16) == vendor)
			ret_names[kept++] = ret_names[i];
	}
	return kept;
}

/* What the plan takes of each device against what is free there now. */
static void plan_fits_now(struct pl_doctor_job *j)
{
	const struct pl_plan *p = j->req->plan;
	char need[PL_FMT_MAX], have[PL_FMT_MAX];
	for (uint32_t i = 0; p && i < p->layout.n_devices && i < j->req->machine->n_devices; i++) {
		const struct pl_device *d = &j->req->machine->devices[i];
		uint64_t uses = pl_use_total_bytes(&p->layout.devices[i]);
		if (!uses || !d->free_known)
			continue;
		(void)pl_fmt_bytes(need, uses);
		(void)pl_fmt_bytes(have, d->free_bytes);
		bool fits = uses <= d->free_bytes;
		pl_find(j, "plan.device_memory", pl_say(j, "GPU %u", i), fits ? PL_FINDING_OK : PL_FINDING_FAULT,
		        pl_say(j, "the plan takes %s, %s is free", need, have), NULL,
		        fits ? NULL : pl_say(j, "end what holds the memory (above), or plan with what is free: plimsoll plan … (without --use-total-memory)"));
	}
	const struct pl_opt_u64 *ram = &j->req->machine->ram_free_bytes;
	if (!p || !ram->known)
		return;
	(void)pl_fmt_bytes(need, p->layout.host.peak_load_bytes);
	(void)pl_fmt_bytes(have, ram->value);
	bool fits = p->layout.host.peak_load_bytes <= ram->value;
	pl_find(j, "plan.host_memory", pl_say(j, "RAM"), fits ? PL_FINDING_OK : PL_FINDING_FAULT,
	        pl_say(j, "loading takes %s, %s is available", need, have), NULL,
	        fits ? NULL : pl_say(j, "end programs that hold RAM: ps aux --sort=-rss | head"));
}

int pl_doctor(struct pl_arena *a, const struct pl_doctor_request *req, const struct pl_finding **ret_first, struct pl_err *err)
{
	struct pl_doctor_job j = {.a = a, .req = req, .f = req->facts};
	j.last = &j.first;
	pl_doctor_nvidia(&j);
	pl_doctor_others(&j);
	if (!req->machine->n_devices)
		pl_find(&j, "gpu.none", NULL, PL_FINDING_INFO, pl_say(&j, "no GPU was found: models run on the CPU"), NULL, NULL);
	plan_fits_now(&j);
	pl_doctor_host(&j);
	pl_doctor_software(&j);
	*ret_first = j.first;
	return pl_arena_failed(a) ? pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory while looking at this machine") : 0;
}
