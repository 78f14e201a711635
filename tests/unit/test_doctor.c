#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <plimsoll/doctor.h>

#define FACTS PL_SOURCE_ROOT "/tests/fixtures/facts/"

struct look {
	struct pl_arena *a;
	struct pl_facts *facts;
	const struct pl_machine *machine;
	const struct pl_finding *first;
};

static struct look look(const char *record, const char *engine)
{
	struct look l = {.a = pl_arena_new(0)};
	struct pl_doctor_request req = {0};
	struct pl_err err = {0};
	assert_int_equal(pl_facts_load(record, &l.facts, &err), 0);
	assert_int_equal(pl_probe_machine(l.a, &(struct pl_probe_options){.facts = l.facts}, &l.machine, NULL, &err), 0);
	req.facts = l.facts;
	req.machine = l.machine;
	if (engine)
		assert_int_equal(pl_engine_find(engine, &req.engine, &err), 0);
	assert_int_equal(pl_doctor(l.a, &req, &l.first, &err), 0);
	return l;
}

static void done(struct look *l)
{
	pl_facts_free(l->facts);
	pl_arena_free(l->a);
}

static const struct pl_finding *find(const struct look *l, const char *id, const char *subject)
{
	for (const struct pl_finding *f = l->first; f; f = f->next)
		if (!strcmp(f->id, id) && (!subject || (f->subject && !strcmp(f->subject, subject))))
			return f;
	return NULL;
}

static void old_cards_on_narrow_slots(void **state)
{
	(void)state;
	struct look l = look(FACTS "two_v100.json", "llama.cpp");
	assert_int_equal(l.machine->n_devices, 2);
	assert_true(l.machine->devices[1].pcie_gen == 3 && l.machine->devices[1].pcie_lanes == 4);
	assert_int_equal(find(&l, "nvidia.link_width", "GPU 0")->level, PL_FINDING_OK);
	const struct pl_finding *narrow = find(&l, "nvidia.link_width", "GPU 1");
	assert_int_equal(narrow->level, PL_FINDING_WARNING);
	/* 16151 MiB at 4 × 0.985 GB/s and at 16 × 0.985 GB/s */
	assert_non_null(strstr(narrow->why, "4.3 s instead of 1.1 s"));
	assert_int_equal(find(&l, "nvidia.nvlink", NULL)->level, PL_FINDING_WARNING);
	assert_non_null(strstr(find(&l, "nvidia.last_branch", NULL)->what, "R580"));
	assert_null(find(&l, "nvidia.ecc", NULL)); /* HBM keeps its check bits apart */
	assert_non_null(strstr(find(&l, "ram.slots", NULL)->why, "51 GB/s")); /* 2 × 8 B × 3200 MT/s */
	assert_int_equal(find(&l, "limit.shm", NULL)->level, PL_FINDING_WARNING);
	assert_int_equal(find(&l, "container.toolkit", NULL)->level, PL_FINDING_WARNING);
	done(&l);
}

static void a_desktop_in_the_way(void **state)
{
	(void)state;
	struct look l = look(FACTS "desktop_4090.json", NULL);
	const struct pl_finding *used = find(&l, "nvidia.memory_used", "GPU 0");
	assert_int_equal(used->level, PL_FINDING_WARNING);
	assert_non_null(strstr(used->what, "python3 3000 MiB"));
	assert_non_null(strstr(used->mend, "2210 4321")); /* not 1201, the display server */
	assert_null(strstr(used->mend, "1201"));
	assert_non_null(strstr(find(&l, "nvidia.display", "GPU 0")->mend, "mainboard"));
	assert_non_null(find(&l, "nvidia.resizable_bar", "GPU 0"));
	assert_non_null(strstr(find(&l, "nvidia.power_limit", "GPU 0")->mend, "-pl 450"));
	assert_int_equal(find(&l, "disk.read_rate", NULL)->level, PL_FINDING_WARNING);
	done(&l);
}

static void what_was_read_can_be_replayed(void **state)
{
	(void)state;
	char path[] = "/tmp/plimsoll-facts-XXXXXX";
	struct pl_err err = {0};
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_probe_options live = {.root = PL_SOURCE_ROOT "/tests/fixtures/machines/two_mi210", .nvml_library = FAKE_NVML};
	struct pl_facts *facts = pl_facts_new(&live), *again = NULL;
	const struct pl_machine *m, *n;
	unsetenv("CUDA_VISIBLE_DEVICES");
	assert_int_equal(pl_probe_machine(a, &(struct pl_probe_options){.facts = facts, .no_topology = true}, &m, NULL, &err), 0);
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(close(fd), 0);
	assert_int_equal(pl_facts_save(facts, path, NULL, &err), 0);
	assert_int_equal(pl_facts_load(path, &again, &err), 0);
	assert_int_equal(pl_probe_machine(a, &(struct pl_probe_options){.facts = again, .no_topology = true}, &n, NULL, &err), 0);
	assert_non_null(strstr(m->description, "this machine: "));
	assert_non_null(strstr(n->description, "recorded machine: "));
	assert_string_equal(strstr(m->description, ": "), strstr(n->description, ": "));
	assert_int_equal(m->n_devices, n->n_devices);
	for (uint32_t i = 0; i < m->n_devices; i++) {
		assert_string_equal(m->devices[i].name, n->devices[i].name);
		assert_int_equal(m->devices[i].free_bytes, n->devices[i].free_bytes);
	}
	assert_int_equal(unlink(path), 0);
	pl_facts_free(facts);
	pl_facts_free(again);
	pl_arena_free(a);
}

static void no_record_is_refused_with_its_place(void **state)
{
	(void)state;
	struct pl_facts *facts = NULL;
	struct pl_err err = {0};
	assert_int_equal(pl_facts_load("/nonexistent.json", &facts, &err), -PL_ERR_IO);
	assert_int_equal(pl_facts_load(PL_SOURCE_ROOT "/docs/plan.schema.json", &facts, &err), -PL_ERR_FORMAT);
	assert_non_null(strstr(err.where, "plan.schema.json"));
	assert_null(facts);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(old_cards_on_narrow_slots),
	    cmocka_unit_test(a_desktop_in_the_way),
	    cmocka_unit_test(what_was_read_can_be_replayed),
	    cmocka_unit_test(no_record_is_refused_with_its_place),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
