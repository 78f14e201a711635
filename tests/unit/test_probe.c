#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <unistd.h>

#include <cmocka.h>

#include <plimsoll/probe.h>

#define MACHINES PL_SOURCE_ROOT "/tests/fixtures/machines/"

static const struct pl_machine *probe(struct pl_arena *a, const char *root, const char *nvml, struct pl_note **notes)
{
	const struct pl_probe_options options = {.root = root, .nvml_library = nvml, .no_topology = true};
	const struct pl_machine *m = NULL;
	struct pl_err err;
	assert_int_equal(pl_probe_machine(a, &options, &m, notes, &err), 0);
	return m;
}

static void amd_cards_answer_through_sysfs(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	struct pl_note *notes = NULL;
	const struct pl_machine *m = probe(a, MACHINES "two_mi210", "/nonexistent", &notes);
	assert_int_equal(m->n_devices, 2); /* the integrated GPU is left out */
	assert_non_null(notes);
	assert_string_equal(m->devices[1].name, "AMD Instinct MI210");
	assert_non_null(m->devices[1].gpu);
	assert_int_equal(m->devices[1].total_bytes, 68702699520);
	assert_int_equal(m->devices[1].free_bytes, 68702699520 - 1073741824);
	assert_true(m->devices[1].free_known);
	assert_true(m->devices[1].pcie_gen == 4 && m->devices[1].pcie_lanes == 16);
	assert_int_equal(m->devices[1].numa_node, 1);
	assert_int_equal(m->ram_bytes.value, UINT64_C(131072000) * 1024);
	assert_string_equal(m->cpu, "AMD EPYC 7543 32-Core Processor");
	assert_string_equal(m->cpu_flags, "avx avx2 f16c fma"); /* whole words: not avx512foo */
	assert_int_equal(m->cpu_threads, 8);
	pl_arena_free(a);
}

static void a_container_sees_its_limit(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_machine *m = probe(a, MACHINES "container", "/nonexistent", NULL);
	assert_int_equal(m->ram_bytes.value, UINT64_C(8) << 30);
	assert_int_equal(m->ram_free_bytes.value, UINT64_C(7) << 30);
	assert_int_equal(m->n_devices, 0); /* no GPU is a normal answer */
	pl_arena_free(a);
}

static void nvidia_cards_answer_through_nvml(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	unsetenv("CUDA_VISIBLE_DEVICES");
	const struct pl_machine *m = probe(a, MACHINES "container", FAKE_NVML, NULL);
	assert_int_equal(m->n_devices, 1); /* GB10 shares the host's memory and is left out beside the 4090 */
	assert_string_equal(m->devices[0].name, "NVIDIA GeForce RTX 4090");
	assert_non_null(m->devices[0].gpu);
	assert_int_equal(m->devices[0].free_bytes, m->devices[0].total_bytes - 1073741824);
	assert_string_equal(m->devices[0].pci_address, "0000:0a:00.0");
	setenv("CUDA_VISIBLE_DEVICES", "1", 1);
	m = probe(a, MACHINES "container", FAKE_NVML, NULL);
	assert_int_equal(m->n_devices, 1);
	assert_string_equal(m->devices[0].name, "NVIDIA GB10");
	assert_true(m->devices[0].unified_memory);
	assert_int_equal(m->devices[0].total_bytes, UINT64_C(8) << 30); /* the host's */
	setenv("CUDA_VISIBLE_DEVICES", "", 1);
	m = probe(a, MACHINES "container", FAKE_NVML, NULL);
	assert_int_equal(m->n_devices, 0);
	pl_arena_free(a);
}

static void nothing_readable_is_unknown_not_zero(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_machine *m = probe(a, "/nonexistent", "/nonexistent", NULL);
	assert_false(m->ram_bytes.known);
	assert_null(m->cpu);
	assert_non_null(m->description);
	pl_arena_free(a);
}

static void this_machine_has_memory_and_cores(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_machine *m = NULL;
	struct pl_err err;
	assert_int_equal(pl_probe_machine(a, NULL, &m, NULL, &err), 0);
	assert_true(m->detected && m->ram_bytes.known && m->ram_bytes.value > (UINT64_C(1) << 28));
	assert_true(m->cpu_threads >= m->cpu_cores);
	if (!access("/sys/devices/system/cpu/online", R_OK)) /* a container may hide it: then they are unknown */
		assert_true(m->cpu_cores >= 1);
	pl_arena_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(amd_cards_answer_through_sysfs),
	    cmocka_unit_test(a_container_sees_its_limit),
	    cmocka_unit_test(nvidia_cards_answer_through_nvml),
	    cmocka_unit_test(nothing_readable_is_unknown_not_zero),
	    cmocka_unit_test(this_machine_has_memory_and_cores),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
