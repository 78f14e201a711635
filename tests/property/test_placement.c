/* llama.cpp's placement against every other one: small models on small machines, all layer counts, expert counts and splits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <plimsoll/engine.h>

#include "../named.h"

static const char dense[] = "{\"architectures\":[\"Qwen3ForCausalLM\"],\"model_type\":\"qwen3\",\"hidden_size\":2048,\"intermediate_size\":6144,"
                            "\"num_hidden_layers\":6,\"num_attention_heads\":16,\"num_key_value_heads\":8,\"head_dim\":128,\"vocab_size\":32000,"
                            "\"max_position_embeddings\":32768,\"tie_word_embeddings\":false,\"torch_dtype\":\"bfloat16\"}";
static const char moe[] = "{\"architectures\":[\"Qwen3MoeForCausalLM\"],\"model_type\":\"qwen3_moe\",\"hidden_size\":1024,\"intermediate_size\":3072,"
                          "\"moe_intermediate_size\":512,\"num_experts\":32,\"num_experts_per_tok\":4,\"num_hidden_layers\":5,"
                          "\"num_attention_heads\":16,\"num_key_value_heads\":4,\"head_dim\":128,\"vocab_size\":32000,"
                          "\"max_position_embeddings\":32768,\"tie_word_embeddings\":false,\"decoder_sparse_step\":1,\"torch_dtype\":\"bfloat16\"}";
/* many active experts of little use of memory: attention may be worth less than experts */
static const char wide[] = "{\"architectures\":[\"Qwen3MoeForCausalLM\"],\"model_type\":\"qwen3_moe\",\"hidden_size\":1024,\"intermediate_size\":3072,"
                           "\"moe_intermediate_size\":256,\"num_experts\":16,\"num_experts_per_tok\":16,\"num_hidden_layers\":5,"
                           "\"num_attention_heads\":32,\"num_key_value_heads\":32,\"head_dim\":128,\"vocab_size\":32000,"
                           "\"max_position_embeddings\":32768,\"tie_word_embeddings\":false,\"decoder_sparse_step\":1,\"torch_dtype\":\"bfloat16\"}";

struct value {
	bool devices, ram;
	uint64_t host_bytes, spare_bytes;
	double cpu_bytes;
};

/* Bytes the CPU reads for one token, from the tensors and where the layout says layers live. */
static double cpu_bytes(const struct pl_model *m, const struct pl_layout *l, const struct pl_params *p)
{
	double sum = (double)l->host.use.kv_bytes + (double)l->host.use.state_bytes;
	for (uint32_t i = 0; i < m->n_tensors; i++) {
		const struct pl_tensor *t = &m->tensors[i];
		bool expert = t->role == PL_ROLE_EXPERT_GATE || t->role == PL_ROLE_EXPERT_UP || t->role == PL_ROLE_EXPERT_DOWN;
		double part = expert ? (double)m->layers[t->layer].n_expert_used / m->layers[t->layer].n_expert : 1;
		if (t->role == PL_ROLE_OUTPUT && p->n_gpu_layers == 0)
			sum += (double)t->bytes;
		if (t->layer >= 0 && (l->layer_device[t->layer] < 0 || (expert && t->layer < p->n_cpu_moe)))
			sum += (double)t->bytes * part;
	}
	return sum;
}

static struct value value_of(struct pl_arena *a, const struct pl_model *m, const struct pl_machine *hw, struct pl_params *p)
{
	const struct pl_engine *e = NULL;
	struct pl_layout l = {0};
	struct pl_err err = {0};
	struct value v = {.devices = true};
	assert_int_equal(pl_engine_find("llama.cpp", &e, &err), 0);
	if (e->layout(a, m, hw, p, &l, &err))
		fail_msg("%s: %s", err.where, err.msg);
	for (uint32_t i = 0; i < l.n_devices; i++)
		v.devices &= pl_use_total_bytes(&l.devices[i]) <= l.devices[i].total_bytes;
	v.ram = l.host.rest_bytes <= hw->ram_bytes.value;
	v.host_bytes = l.host.rest_bytes;
	v.spare_bytes = l.spare_bytes;
	v.cpu_bytes = cpu_bytes(m, &l, p);
	return v;
}

/* The next way to deal the same number of layers to n devices; false after the last. */
static bool next_deal(double *split, uint32_t n)
{
	uint32_t d = n - 1;
	double tail = split[n - 1];
	split[n - 1] = 0;
	while (d && !(split[d - 1] > 0))
		d--;
	if (!d)
		return false;
	split[d - 1]--;
	split[d] = tail + 1;
	return true;
}

struct truth {
	bool devices, ram, mapped;
	uint64_t host_bytes;
	double cpu_bytes;
	uint32_t n;
};

static void take(struct truth *t, const struct value *v)
{
	t->n++;
	if (!v->devices)
		return;
	bool fewer = v->ram || t->mapped ? v->cpu_bytes < t->cpu_bytes : v->host_bytes < t->host_bytes;
	if (t->devices && !(v->ram && !t->ram) && !(v->ram == t->ram && fewer))
		return;
	t->devices = true;
	t->ram = v->ram;
	t->host_bytes = v->host_bytes;
	t->cpu_bytes = v->cpu_bytes;
}

static void each_split(const struct pl_model *m, const struct pl_machine *hw, struct pl_params asked, int32_t layers, int32_t experts,
                       void (*see)(void *to, const struct value *v), void *to)
{
	struct pl_params p = asked;
	p.n_gpu_layers = layers;
	p.n_cpu_moe = experts;
	struct pl_arena *a = pl_arena_new(0);
	struct pl_params q = p;
	struct value v = value_of(a, m, hw, &q); /* by free memory */
	see(to, &v);
	pl_arena_free(a);
	if (hw->n_devices < 2 || !layers)
		return;
	p.tensor_split[0] = layers;
	do {
		a = pl_arena_new(0);
		q = p;
		v = value_of(a, m, hw, &q);
		see(to, &v);
		pl_arena_free(a);
	} while (next_deal(p.tensor_split, hw->n_devices));
}

static void see_truth(void *to, const struct value *v)
{
	take(to, v);
}

static void see_spare(void *to, const struct value *v)
{
	uint64_t *most = to;
	if (v->devices && v->ram && v->spare_bytes > *most)
		*most = v->spare_bytes;
}

static void check(const char *config, const char *line, uint64_t ctx, uint32_t *n_partial, uint32_t *n_seen)
{
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_model *m = NULL;
	const struct pl_machine *hw = NULL;
	struct pl_err err = {0};
	struct truth t = {0};
	struct pl_params asked, p;
	if (pl_model_from_config(a, "small", config, strlen(config), "q8_0", &m, &err) || pl_machine_parse(a, line, &hw, &err))
		fail_msg("%s: %s", err.where, err.msg);
	pl_params_default(&asked);
	asked.n_ctx_tokens = ctx;
	asked.no_mmap = ctx > 4096;
	t.mapped = !asked.no_mmap;
	bool experts = m->layers[0].n_expert > 0;
	for (int32_t l = 0; l <= (int32_t)m->n_layers + 1; l++)
		for (int32_t k = 0; k <= (experts ? (int32_t)m->n_layers : 0); k++)
			each_split(m, hw, asked, l, k, see_truth, &t);
	p = asked;
	struct value v = value_of(a, m, hw, &p);
	*n_seen += t.n;
	*n_partial += t.devices && v.cpu_bytes > 0;
	if (v.devices != t.devices || (t.devices && v.ram != t.ram) || (t.devices && (t.ram || t.mapped) && v.cpu_bytes > t.cpu_bytes) ||
	    (t.devices && !t.ram && !t.mapped && v.host_bytes > t.host_bytes))
		fail_msg("%s, %llu tokens: -ngl %d --n-cpu-moe %d holds %d %d and leaves the CPU %.0f bytes (RAM %llu); the best of %u holds %d %d and "
		         "leaves %.0f (%llu)", line, (unsigned long long)ctx, p.n_gpu_layers, p.n_cpu_moe, v.devices, v.ram, v.cpu_bytes,
		         (unsigned long long)v.host_bytes, t.n, t.devices, t.ram, t.cpu_bytes, (unsigned long long)t.host_bytes);
	if (t.devices && t.ram && p.tensor_split[0] + p.tensor_split[1] + p.tensor_split[2] > 0) {
		uint64_t most = 0;
		each_split(m, hw, asked, p.n_gpu_layers, p.n_cpu_moe, see_spare, &most);
		if (v.spare_bytes != most)
			fail_msg("%s: the fullest device keeps %llu bytes, %llu are possible", line, (unsigned long long)v.spare_bytes,
			         (unsigned long long)most);
	}
	pl_arena_free(a);
}

static void the_chosen_placement_is_the_best_of_all(void **state)
{
	static const char *const machines[] = {
	    "gpu-700MiB, ram 4GiB",  "gpu-900MiB, ram 4GiB",  "gpu-1200MiB, ram 4GiB",           "gpu-500MiB + gpu-800MiB, ram 4GiB",
	    "gpu-900MiB + gpu-600MiB, ram 4GiB",              "gpu-700MiB + gpu-700MiB, ram 640MiB", "gpu-520MiB + gpu-900MiB + gpu-560MiB, ram 4GiB",
	    "gpu-1000MiB, ram 520MiB",                        "3x gpu-620MiB, ram 4GiB",         "cpu, ram 4GiB",
	    "2x gpu-400MiB, ram 1GiB",                        "gpu-4GiB + gpu-1GiB, ram 4GiB"};
	const char *const configs[] = {dense, moe, wide};
	uint32_t n_partial = 0, n_seen = 0;
	(void)state;
	for (size_t c = 0; c < 3; c++)
		for (size_t i = 0; i < sizeof machines / sizeof *machines; i++)
			for (uint64_t ctx = 2048; ctx <= 8192; ctx *= 4)
				check(configs[c], machines[i], ctx, &n_partial, &n_seen);
	print_message("%u placements compared\n", n_seen);
	assert_true(n_partial > 8);
}

/* ---- serving engines: ranks and stages --------------------------------------------------------------------------------- */

/* The wish: hold the request, with fewest pipeline stages, and then as many requests at once as can be. */
static void check_ranks(const struct pl_engine *e, const char *name, const char *line, uint32_t *n)
{
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_model *m = model_named(a, name, NULL);
	const struct pl_machine *hw = machine_named(a, line);
	struct pl_err err = {0};
	struct pl_params chosen, p;
	struct pl_layout best = {0}, l = {0};
	pl_params_default(&chosen);
	chosen.n_ctx_tokens = 16384;
	chosen.n_seq = 2;
	if (e->layout(a, m, hw, &chosen, &best, &err)) {
		pl_arena_free(a);
		return;
	}
	++*n;
	for (uint32_t pp = 1; pp <= hw->n_devices; pp++)
		for (uint32_t tp = 1; tp * pp <= hw->n_devices; tp++) {
			pl_params_default(&p);
			p.n_ctx_tokens = 16384;
			p.n_seq = 2;
			p.tensor_parallel = tp;
			p.pipeline_parallel = pp;
			if (e->layout(a, m, hw, &p, &l, &err) || !l.fits)
				continue;
			if (!best.fits || pp < chosen.pipeline_parallel ||
			    (pp == chosen.pipeline_parallel && l.max_concurrency > best.max_concurrency * (1 + 1e-9)))
				fail_msg("%s, %s on %s: %u ranks in %u stages hold %.3f requests; chosen are %u in %u with %.3f, fits %d", e->id, name, line, tp,
				         pp, l.max_concurrency, chosen.tensor_parallel, chosen.pipeline_parallel, best.max_concurrency, best.fits);
		}
	pl_arena_free(a);
}

static void the_chosen_ranks_are_the_best_of_all(void **state)
{
	static const char *const engines[] = {"vllm", "sglang", "tensorrt-llm"};
	static const char *const models[] = {"Qwen/Qwen3-32B", "llama3.1-8b", "openai/gpt-oss-120b", "Qwen/Qwen3-30B-A3B", "deepseek-ai/DeepSeek-R1"};
	static const char *const machines[] = {"8x h200-sxm, ram 2TiB", "4x rtx4090, ram 256GiB", "3x a6000, ram 256GiB", "h100-sxm, ram 256GiB",
	                                       "6x l40s, ram 512GiB"};
	uint32_t n = 0;
	(void)state;
	for (size_t e = 0; e < 3; e++) {
		const struct pl_engine *engine = NULL;
		struct pl_err err = {0};
		if (pl_engine_find(engines[e], &engine, &err))
			continue;
		for (size_t i = 0; i < sizeof models / sizeof *models; i++)
			for (size_t j = 0; j < sizeof machines / sizeof *machines; j++)
				check_ranks(engine, models[i], machines[j], &n);
	}
	assert_true(n >= 30);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(the_chosen_placement_is_the_best_of_all),
	                                   cmocka_unit_test(the_chosen_ranks_are_the_best_of_all)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
