/* CPUs: who is meant by a name, what their cores compute, and what sockets and networks change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <math.h>

#include <cmocka.h>

#include <plimsoll/catalog.h>
#include <plimsoll/plan.h>
#include <plimsoll/speed.h>

#include "speed/compile.h"

static void assert_near(double x, double y, double within)
{
	assert_true(fabs(x - y) <= within);
}

static void names_mean_one_cpu(void **state)
{
	static const char *const means[][2] = {
	    {"ryzen 9 7950x", "ryzen-9-7950x"},       {"AMD Ryzen 9 7950X 16-Core Processor", "ryzen-9-7950x"},
	    {"epyc-9554", "epyc-9554"},               {"13th Gen Intel(R) Core(TM) i9-13900K", "core-i9-13900k"},
	    {"Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz", "xeon-e5-2680-v4"}, {"M2-Max", "apple-m2-max"},
	    {"Apple M2", "apple-m2"},                 {"Pi 5 - 16GB", "raspberry-pi-5"},
	    {"AMD EPYC 9654 96-core x1", "epyc-9654"}, {"Intel Core i7-7700", "core-i7-7700"}, {"Ryzen 7 7700", "ryzen-7-7700"},
	};
	(void)state;
	for (size_t i = 0; i < sizeof means / sizeof *means; i++) {
		const struct pl_cpu *c = pl_cpu_of(means[i][0]);
		assert_non_null(c);
		assert_string_equal(c->id, means[i][1]);
	}
	assert_null(pl_cpu_of("AMD EPYC"));
	assert_null(pl_cpu_of("Surface Book 3"));
	assert_null(pl_cpu_of(""));
}

/* Every row's own name and id find it again, but where two makers' names are one. */
static void rows_find_themselves(void **state)
{
	uint32_t n, other = 0;
	const struct pl_cpu *rows = pl_catalog_cpus(&n);
	(void)state;
	for (uint32_t i = 0; i < n; i++) {
		assert_ptr_equal(pl_cpu_of(rows[i].id), &rows[i]);
		other += pl_cpu_of(rows[i].name) != &rows[i];
		assert_non_null(pl_core_of(rows[i].core));
		assert_true(!*rows[i].slow_core || pl_core_of(rows[i].slow_core));
		assert_true(pl_cpu_hz(&rows[i]) > 5e8 && pl_cpu_hz(&rows[i]) < 7e9);
	}
	assert_true(other <= 4); /* the PRO twins of Ryzen AI Max */
}

static void cores_by_what_they_say(void **state)
{
	(void)state;
	assert_string_equal(pl_core_of_cpuid("amd", 26, 2)->id, "zen5");
	assert_string_equal(pl_core_of_cpuid("amd", 25, 97)->id, "zen4");
	assert_string_equal(pl_core_of_cpuid("intel", 6, 143)->id, "sapphire-rapids");
	assert_string_equal(pl_core_of_cpuid("arm", 65, 0xd0c)->id, "neoverse-n1");
	assert_null(pl_core_of_cpuid("amd", 99, 1));
	assert_string_equal(pl_core_of_flags("avx avx2 fma")->id, "avx2");
	assert_string_equal(pl_core_in("AMD EPYC zen5 (virtual machine)")->id, "zen5");
	assert_null(pl_core_in("AMD EPYC"));
	assert_true(pl_core_server_hz(pl_core_of("zen5")) > 2e9);
}

static const struct pl_machine *machine(struct pl_arena *a, const char *line)
{
	const struct pl_machine *m = NULL;
	struct pl_err err = {0};
	if (pl_machine_parse(a, line, &m, &err))
		fail_msg("%s: %s", line, err.msg);
	return m;
}

/* 2 channels x 8 bytes x 5200 MT/s; what is said beats what is rated. */
static void a_named_cpu_says_the_rest(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_machine *m = machine(a, "cpu ryzen 9 7950x, ram 64GiB");
	assert_int_equal(m->cpu_cores, 16);
	assert_true(m->ram_rated && fabs(m->ram_bytes_per_s - 83.2e9) < 1e6);
	m = machine(a, "cpu ryzen 9 7950x, ram 64GiB ddr5-6000, cores 8");
	assert_int_equal(m->cpu_cores, 8);
	assert_true(!m->ram_rated && fabs(m->ram_bytes_per_s - 96e9) < 1e6);
	m = machine(a, "2x cpu epyc 9554, ram 768GiB ddr5-4800");
	assert_int_equal(m->sockets, 2);
	assert_int_equal(m->cpu_cores, 128);
	assert_true(fabs(m->ram_bytes_per_s - 460.8e9) < 1e6); /* of one socket: 12 channels */
	m = machine(a, "cpu, cpu 7950x 16-core, ram 64GiB");
	assert_string_equal(m->cpu_row->id, "ryzen-9-7950x");
	assert_string_equal(machine(a, "apple-m2-max")->cpu_row->id, "apple-m2-max");
	assert_null(machine(a, "cpu, ram 64GiB")->core);
	pl_arena_free(a);
}

static void what_cannot_be_is_refused(void **state)
{
	static const char *const bad[] = {"cpu, sockets 0", "cpu, sockets 17", "rtx4090, net pigeon", "rpc cpu, ram 64GiB", "cpu, sockets x"};
	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct pl_arena *a = pl_arena_new(0);
		const struct pl_machine *m;
		struct pl_err err = {0};
		assert_true(pl_machine_parse(a, bad[i], &m, &err) < 0 && *err.msg);
		pl_arena_free(a);
	}
}

static const struct pl_speed *speed_of(struct pl_arena *a, const char *line, const char *quant, enum pl_numa numa, uint32_t threads)
{
	const struct pl_model_row *row;
	struct pl_plan_request req = {.no_suggestions = true, .machine = machine(a, line)};
	const struct pl_plan *p = NULL;
	const struct pl_speed *s = NULL;
	struct pl_err err = {0};
	pl_params_default(&req.params);
	req.params.n_ctx_tokens = 4096;
	req.params.numa = numa;
	req.params.n_threads = threads;
	if (pl_engine_find("llama.cpp", &req.engine, &err) || pl_model_row_find("llama3.1-8b", &row, &err) ||
	    pl_model_from_config(a, row->id, row->config_json, row->config_len, quant, &req.model, &err) || pl_plan_make(a, &req, &p, &err))
		fail_msg("%s: %s", line, err.msg);
	struct pl_speed_setup setup = {.model = p->model, .machine = p->machine, .engine = p->engine, .params = &p->params, .layout = &p->layout};
	assert_int_equal(pl_speed_compile(a, &setup, &s, &err), 0);
	return s;
}

static double prompt_s(struct pl_arena *a, const char *line, const char *quant)
{
	struct pl_batch b = {.prefill_tokens = 512};
	return pl_step_s(speed_of(a, line, quant, PL_NUMA_NONE, 0), &b);
}

static double token_s(struct pl_arena *a, const char *line, enum pl_numa numa, uint32_t threads)
{
	struct pl_batch b = {.decode_seqs = 1};
	return pl_step_s(speed_of(a, line, "q4_k_m", numa, threads), &b);
}

/* Wider units, dot products and matrix units compute prompts faster, at the same cores; the clock is each one's own. */
static void instruction_sets_decide_prompts(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	assert_true(prompt_s(a, "cpu xeon gold 6226r, ram 96GiB", "q8_0") < prompt_s(a, "cpu epyc 7302, ram 96GiB", "q8_0"));
	assert_true(prompt_s(a, "cpu xeon platinum 8462y, ram 96GiB", "q4_0") < prompt_s(a, "cpu xeon platinum 8358, ram 96GiB", "q4_0"));
	assert_true(prompt_s(a, "cpu apple m2, ram 16GiB", "q8_0") < prompt_s(a, "cpu apple m1, ram 16GiB", "q8_0"));
	/* what comes in tiles is faster than what goes row by row */
	assert_true(prompt_s(a, "cpu epyc 9554, ram 96GiB", "q4_0") < prompt_s(a, "cpu epyc 9554, ram 96GiB", "q4_1"));
	pl_arena_free(a);
}

static void more_threads_than_cores_do_not_help(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const char *line = "cpu ryzen 9 7950x, ram 64GiB";
	assert_true(token_s(a, line, PL_NUMA_NONE, 1) > token_s(a, line, PL_NUMA_NONE, 4));
	assert_near(token_s(a, line, PL_NUMA_NONE, 16), token_s(a, line, PL_NUMA_NONE, 64), 1e-12);
	pl_arena_free(a);
}

/* A second socket brings cores, not bandwidth, until pages are spread. */
static void sockets_share_one_memory_unless_spread(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const char *two = "2x cpu epyc 9554, ram 768GiB", *one = "cpu epyc 9554, ram 768GiB";
	const struct pl_speed *s = speed_of(a, two, "q4_k_m", PL_NUMA_NONE, 0);
	assert_near(s->places[0].bytes_per_s, speed_of(a, one, "q4_k_m", PL_NUMA_NONE, 0)->places[0].bytes_per_s, 1);
	assert_non_null(strstr(s->kin_text, "of 2 sockets"));
	assert_true(token_s(a, two, PL_NUMA_DISTRIBUTE, 64) < token_s(a, two, PL_NUMA_NONE, 64));
	assert_near(token_s(a, two, PL_NUMA_ISOLATE, 0), token_s(a, one, PL_NUMA_NONE, 0), 1e-9);
	pl_arena_free(a);
}

/* Hidden states cross the network once a host: 4096 floats of 4 bytes a token over 0.117 GB/s are 0.14 ms. */
static void remote_cards_cost_the_network(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	struct pl_step_cost near, slow, fast;
	struct pl_batch b = {.prefill_tokens = 512};
	pl_step(speed_of(a, "rtx3090 + rtx3090, ram 64GiB", "q4_k_m", PL_NUMA_NONE, 0), &b, &near);
	pl_step(speed_of(a, "rpc rtx3090 + rtx3090, net 1gbe, ram 64GiB", "q4_k_m", PL_NUMA_NONE, 0), &b, &slow);
	pl_step(speed_of(a, "rpc rtx3090 + rtx3090, net 10gbe, ram 64GiB", "q4_k_m", PL_NUMA_NONE, 0), &b, &fast);
	double tokens_s = 512 * 4096 * 4 / 0.117e9; /* the embedding there, the hidden state back */
	assert_true(slow.cause_s[PL_CAUSE_HOP] > 2 * tokens_s && slow.cause_s[PL_CAUSE_HOP] < 2 * tokens_s + 2e-3);
	assert_true(near.cause_s[PL_CAUSE_HOP] < fast.cause_s[PL_CAUSE_HOP] && fast.cause_s[PL_CAUSE_HOP] < slow.cause_s[PL_CAUSE_HOP] / 5);
	assert_non_null(strstr(speed_of(a, "rpc rtx3090 + rtx3090, ram 64GiB", "q4_k_m", PL_NUMA_NONE, 0)->kin_text, "1 GbE"));
	pl_arena_free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(names_mean_one_cpu),          cmocka_unit_test(rows_find_themselves),
	    cmocka_unit_test(cores_by_what_they_say),      cmocka_unit_test(a_named_cpu_says_the_rest),
	    cmocka_unit_test(what_cannot_be_is_refused),   cmocka_unit_test(instruction_sets_decide_prompts),
	    cmocka_unit_test(more_threads_than_cores_do_not_help), cmocka_unit_test(sockets_share_one_memory_unless_spread),
	    cmocka_unit_test(remote_cards_cost_the_network),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
