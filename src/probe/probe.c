#include <string.h>

#include "base/fmt.h"
#include "probe/probe.h"

struct pl_device *pl_probe_add(struct pl_probe *p)
{
	if (p->n_devices == PL_MAX_DEVICES)
		return NULL;
	struct pl_device *d = &p->devices[p->n_devices++];
	memset(d, 0, sizeof *d);
	d->numa_node = -1;
	return d;
}

void pl_probe_identify(struct pl_probe *p, struct pl_device *d, const char *name, enum pl_vendor vendor)
{
	const struct pl_gpu *gpu = NULL;
	struct pl_err err;
	d->name = pl_arena_strdup(p->a, name);
	d->vendor = vendor;
	if (!pl_gpu_find(name, &gpu, &err)) {
		d->gpu = gpu;
		d->unified_memory = gpu->unified_memory;
	}
}

/* Beside a discrete card an integrated GPU drives the display; engines leave it out, and so does the plan. */
static void drop_integrated(struct pl_probe *p)
{
	uint32_t discrete = 0, kept = 0;
	for (uint32_t i = 0; i < p->n_devices; i++)
		discrete += !p->devices[i].unified_memory;
	if (!discrete || discrete == p->n_devices)
		return;
	for (uint32_t i = 0; i < p->n_devices; i++)
		if (!p->devices[i].unified_memory)
			p->devices[kept++] = p->devices[i];
		else
			pl_note_add(p->a, p->notes, PL_NOTE_INFO, "%s is integrated and left out beside the other GPUs",
			            p->devices[i].name);
	p->n_devices = kept;
}

static const char *join(struct pl_probe *p, const char *text, const char *more)
{
	return *text && more ? pl_arena_printf(p->a, pl_tr("%s, %s"), text, more) : more;
}

static const char *describe(struct pl_probe *p)
{
	const struct pl_machine *m = p->machine;
	char b[PL_FMT_MAX], f[PL_FMT_MAX];
	const char *text = p->n_devices ? "" : pl_tr("no GPU");
	for (uint32_t i = 0; i < p->n_devices && text;) {
		uint32_t n = 1;
		while (i + n < p->n_devices && !strcmp(p->devices[i].name, p->devices[i + n].name))
			n++;
		text = join(p, text, pl_arena_printf(p->a, "%u × %s", n, p->devices[i].name));
		i += n;
	}
	if (text && m->cpu)
		text = join(p, text, m->cpu_cores ? pl_arena_printf(p->a, pl_tr("%s (%u cores)"), m->cpu, m->cpu_cores) : m->cpu);
	if (text && m->ram_bytes.known)
		text = join(p, text, pl_arena_printf(p->a, pl_tr("RAM %s, %s free"), pl_fmt_bytes(b, m->ram_bytes.value),
		                                     pl_fmt_bytes(f, m->ram_free_bytes.value)));
	if (!text)
		return NULL;
	return pl_arena_printf(p->a, pl_facts_live_now(p->facts) ? pl_tr("this machine: %s") : pl_tr("recorded machine: %s"), text);
}

int pl_probe_machine(struct pl_arena *a, const struct pl_probe_options *options, const struct pl_machine **ret_machine,
                     struct pl_note **ret_notes, struct pl_err *err)
{
	struct pl_facts *facts = options && options->facts ? options->facts : pl_facts_new(options);
	struct pl_note *dropped = NULL;
	struct pl_probe *p = PL_NEW(a, struct pl_probe);
	struct pl_machine *m = PL_NEW(a, struct pl_machine);
	if (!p || !m || !facts)
		return pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory while looking at this machine");
	*p = (struct pl_probe){.a = a, .facts = facts, .machine = m, .notes = ret_notes ? ret_notes : &dropped};
	m->detected = true;
	m->n_nodes = 1;
	pl_probe_memory(p);
	pl_probe_cpu(p);
	pl_probe_nvidia(p);
	pl_probe_drm(p);
	if (!options || !options->no_topology)
		pl_probe_topology(p);
	drop_integrated(p);
	m->devices = PL_NEW_N(a, struct pl_device, p->n_devices ? p->n_devices : 1);
	if (m->devices)
		memcpy(m->devices, p->devices, p->n_devices * sizeof *m->devices);
	m->n_devices = p->n_devices;
	m->description = describe(p);
	if (!options || !options->facts)
		pl_facts_free(facts);
	if (pl_arena_failed(a))
		return pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory while looking at this machine");
	*ret_machine = m;
	return 0;
}
