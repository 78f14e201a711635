/* A plan's launch line, pasted back, gives the same plan. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <plimsoll/plan.h>

#include "../named.h"

static const char *const models[] = {"Qwen/Qwen3-32B", "llama3.1-8b", "deepseek-ai/DeepSeek-R1", "openai/gpt-oss-20b", "google/gemma-2-9b-it",
                                     "Qwen/Qwen3-30B-A3B", "Qwen/Qwen3-Next-80B-A3B-Instruct"};
static const char *const machines[] = {"2x v100-sxm2-16gb, nvlink, ram 64GiB",   "rtx4090, ram 64GiB",
                                       "8x h200-sxm, ram 2TiB",                  "1x rtx4090 + 2x rtx3090, ram 128GiB",
                                       "cpu, ram 512GiB",                        "4x h100-sxm, ram 1TiB"};
enum { N_MODELS = sizeof models / sizeof *models, N_MACHINES = sizeof machines / sizeof *machines, ROUNDS = 6 };

/* A fixed generator: the same requests on every machine. */
static uint64_t state = UINT64_C(0x9e3779b97f4a7c15);

static uint32_t draw(uint32_t n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state % n);
}

static void vary(struct pl_params *p, bool llama, uint32_t n_devices)
{
	static const enum pl_dtype cache[] = {PL_DTYPE_UNKNOWN, PL_DTYPE_Q8_0, PL_DTYPE_Q4_0, PL_DTYPE_F16};
	p->n_ctx_tokens = UINT64_C(1024) << draw(6);
	p->n_seq = 1 + draw(5);
	if (!llama) {
		p->enforce_eager = draw(4) == 0;
		p->gpu_memory_utilization_frac = draw(2) ? 0.85 : 0;
		p->max_num_seqs = draw(2) ? 64 : 0;
		p->type_k = p->type_v = draw(3) ? PL_DTYPE_UNKNOWN : PL_DTYPE_F8_E4M3;
		return;
	}
	p->type_k = p->type_v = cache[draw(4)];
	p->n_ubatch = 128u << draw(4);
	p->kv_unified = draw(2);
	p->swa_full = draw(4) == 0;
	p->no_kv_offload = draw(6) == 0;
	p->no_mmap = draw(3) == 0;
	p->no_repack = draw(3) == 0;
	p->n_gpu_layers = draw(2) ? PL_AUTO : (int32_t)draw(40);
	p->n_cpu_moe = draw(2) ? PL_AUTO : (int32_t)draw(20);
	if (n_devices > 1 && draw(3) == 0)
		for (uint32_t i = 0; i < n_devices; i++)
			p->tensor_split[i] = 1 + draw(4);
}

static void same_use(const char *what, const char *line, const struct pl_use *x, const struct pl_use *y)
{
	if (x->model_bytes != y->model_bytes || x->kv_bytes != y->kv_bytes || x->state_bytes != y->state_bytes ||
	    x->compute_bytes != y->compute_bytes || x->overhead_bytes != y->overhead_bytes)
		fail_msg("%s\n  %s: weights %llu %llu, cache %llu %llu, state %llu %llu, compute %llu %llu, overhead %llu %llu", line, what,
		         (unsigned long long)x->model_bytes, (unsigned long long)y->model_bytes, (unsigned long long)x->kv_bytes,
		         (unsigned long long)y->kv_bytes, (unsigned long long)x->state_bytes, (unsigned long long)y->state_bytes,
		         (unsigned long long)x->compute_bytes, (unsigned long long)y->compute_bytes, (unsigned long long)x->overhead_bytes,
		         (unsigned long long)y->overhead_bytes);
}

static const char *line_of(struct pl_arena *a, const struct pl_argv *argv)
{
	const char *line = "";
	for (uint32_t i = 0; i < argv->n_words; i++)
		line = pl_arena_printf(a, "%s %s", line, argv->words[i]);
	return line;
}

static void round_trip(struct pl_arena *a, const struct pl_plan *first, const struct pl_plan_request *asked)
{
	struct pl_command *c = NULL;
	const struct pl_machine *hw = NULL;
	const struct pl_plan *again = NULL;
	struct pl_plan_request req = *asked;
	struct pl_err err = {0};
	const char *line = line_of(a, &first->argv);
	if (pl_command_read(a, first->argv.words, first->argv.n_words, NULL, &c, &err) ||
	    pl_command_machine(a, c, asked->machine, &hw, &err) || pl_command_settle(a, c, asked->model, hw, &err))
		fail_msg("%s\n  %s: %s", line, err.where, err.msg);
	for (uint32_t i = 0; i < c->n_settings; i++)
		if (c->settings[i].effect == PL_SETTING_UNKNOWN)
			fail_msg("%s\n  '%s' is not known to the reader", line, c->settings[i].flag);
	req.params = c->params;
	req.params.n_seq = strcmp(c->engine, "llama.cpp") ? asked->params.n_seq : c->params.n_seq; /* servers do not state it */
	req.machine = hw;
	req.command = c;
	if (pl_plan_make(a, &req, &again, &err))
		fail_msg("%s\n  %s: %s", line, err.where, err.msg);
	assert_int_equal(first->layout.n_devices, again->layout.n_devices);
	for (uint32_t i = 0; i < first->layout.n_devices; i++)
		same_use(first->layout.devices[i].name, line, &first->layout.devices[i], &again->layout.devices[i]);
	same_use("host", line, &first->layout.host.use, &again->layout.host.use);
	assert_int_equal(first->layout.host.mapped_bytes, again->layout.host.mapped_bytes);
	assert_int_equal(first->layout.n_ctx_tokens, again->layout.n_ctx_tokens);
	if (first->verdict != again->verdict || strcmp(line, line_of(a, &again->argv)) != 0)
		fail_msg("%s\n  %s becomes %s, and\n%s", line, pl_verdict_name(first->verdict), pl_verdict_name(again->verdict),
		         line_of(a, &again->argv));
}

static void check(const char *model, const char *machine, const struct pl_engine *e, uint32_t *n)
{
	struct pl_arena *a = pl_arena_new(0);
	struct pl_plan_request req = {.engine = e, .no_suggestions = true, .model_ref = "model"};
	const struct pl_plan *p = NULL;
	struct pl_err err = {0};
	bool llama = !strcmp(e->id, "llama.cpp");
	req.model = model_named(a, model, llama ? "q4_k_m" : NULL);
	req.machine = machine_named(a, machine);
	pl_params_default(&req.params);
	vary(&req.params, llama, req.machine->n_devices);
	/* a line that first makes a file of settings in the shell is not read back */
	if (!pl_plan_make(a, &req, &p, &err) && p->argv.n_words && strcmp(p->argv.words[0], "bash") != 0) {
		++*n;
		round_trip(a, p, &req);
	}
	pl_arena_free(a);
}

static void a_launch_line_pasted_back_gives_the_same_plan(void **unused)
{
	static const char *const engines[] = {"llama.cpp", "vllm", "sglang", "tensorrt-llm"};
	(void)unused;
	for (size_t k = 0; k < sizeof engines / sizeof *engines; k++) {
		const struct pl_engine *e = NULL;
		struct pl_err err = {0};
		uint32_t n = 0;
		if (pl_engine_find(engines[k], &e, &err))
			continue;
		for (int i = 0; i < N_MODELS; i++)
			for (int j = 0; j < N_MACHINES; j++)
				for (int r = 0; r < (k ? 2 : ROUNDS); r++)
					check(models[i], machines[j], e, &n);
		assert_true(n >= (k ? 10 : 150));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(a_launch_line_pasted_back_gives_the_same_plan)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
