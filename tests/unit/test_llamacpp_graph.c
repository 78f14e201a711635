/* llama.cpp's buffers against what llama.cpp itself printed (build 11669, llama-fit-params over RPC servers), against a
 * public log of an older build, and what -fit and --override-tensor do to them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <plimsoll/engine.h>

#include "engine/llamacpp_ggml.h"

static const uint64_t MIB = 1024 * 1024;

struct rig {
	struct pl_arena *a;
	const struct pl_engine *e;
	const struct pl_model *m;
	struct pl_machine hw;
	struct pl_device dev[4];
	struct pl_params p;
	struct pl_layout l;
	struct pl_err err;
};

static void rig_init(struct rig *r, const char *file, const char *quant, uint32_t n_gpus, uint64_t gpu_mib)
{
	char path[512], *json = malloc(1 << 20);
	memset(r, 0, sizeof *r);
	r->a = pl_arena_new(0);
	assert_int_equal(pl_engine_find("llama.cpp", &r->e, &r->err), 0);
	snprintf(path, sizeof path, "%s/data/models/configs/%s.json", PL_SOURCE_ROOT, file);
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	size_t n = fread(json, 1, 1 << 20, f);
	fclose(f);
	assert_int_equal(pl_model_from_config(r->a, file, json, n, quant, &r->m, &r->err), 0);
	free(json);
	for (uint32_t i = 0; i < n_gpus; i++)
		r->dev[i] = (struct pl_device){.name = "GPU", .vendor = PL_VENDOR_OTHER, .total_bytes = gpu_mib * MIB,
		                               .free_bytes = gpu_mib * MIB, .numa_node = -1};
	r->hw = (struct pl_machine){.devices = r->dev, .n_devices = n_gpus, .n_nodes = 1};
	pl_params_default(&r->p);
	r->p.program = PL_LLAMA_FIT_PARAMS;
	r->p.n_gpu_layers = 999;
	r->p.n_cpu_moe = 0;
	r->p.flash_attn = 1;
}

static void lay(struct rig *r)
{
	int rc = r->e->layout(r->a, r->m, &r->hw, &r->p, &r->l, &r->err);
	if (rc)
		fail_msg("%s", r->err.msg);
}

static void done(struct rig *r)
{
	assert_false(pl_arena_failed(r->a));
	pl_arena_free(r->a);
}

static void assert_mib(const struct pl_use *u, uint64_t model, uint64_t context, uint64_t compute)
{
	assert_int_equal(u->model_bytes / MIB, model);
	assert_int_equal(pl_use_context_bytes(u) / MIB, context);
	assert_int_equal(u->compute_bytes / MIB, compute);
}

static void one_device_as_the_engine_prints_it(void **state)
{
	struct rig r;
	(void)state;
	rig_init(&r, "Qwen--Qwen3-0.6B", "q8_0", 1, 100000);
	r.p.n_ctx_tokens = 4096;
	lay(&r);
	assert_mib(&r.l.devices[0], 604, 448, 308);
	assert_mib(&r.l.host.use, 157, 0, 12);
	done(&r);
}

static void two_devices_keep_four_copies_of_what_they_are_sent(void **state)
{
	struct rig r;
	(void)state;
	rig_init(&r, "google--gemma-3-1b-it", "q8_0", 2, 100000);
	r.p.n_ctx_tokens = 32768;
	r.p.n_ubatch = 1024;
	r.p.tensor_split[0] = r.p.tensor_split[1] = 1;
	lay(&r);
	assert_mib(&r.l.devices[0], 380, 124, 448);
	assert_mib(&r.l.devices[1], 632, 114, 1360);
	assert_mib(&r.l.host.use, 306, 0, 341);
	done(&r);
}

static void stored_scores_and_layers_on_the_host(void **state)
{
	struct rig r;
	(void)state;
	rig_init(&r, "Qwen--Qwen3-0.6B", "q8_0", 2, 100000);
	r.p.n_ctx_tokens = 4096;
	r.p.n_seq = 2;
	r.p.flash_attn = 0;
	r.p.n_gpu_layers = 20;
	r.p.tensor_split[0] = 2;
	r.p.tensor_split[1] = 1;
	lay(&r);
	assert_mib(&r.l.devices[0], 223, 448, 152);
	assert_mib(&r.l.devices[1], 237, 160, 300);
	assert_mib(&r.l.host.use, 301, 288, 158);
	done(&r);
}

/* ggml-org/llama.cpp, build 6699 on CUDA: "CUDA0 compute buffer size = 456.98 MiB, CUDA_Host 263.15 MiB". */
static void an_older_build_by_its_own_rules(void **state)
{
	struct rig r;
	(void)state;
	rig_init(&r, "openai--gpt-oss-20b", "mxfp4_moe", 1, 100000);
	r.dev[0].vendor = PL_VENDOR_NVIDIA;
	r.p.engine_version = "b6699";
	r.p.n_ctx_tokens = 131072;
	r.p.n_cpu_moe = 99;
	lay(&r);
	assert_int_equal(r.l.devices[0].compute_bytes * 100 / MIB, 45698);
	assert_int_equal((r.l.host.use.compute_bytes * 100 + MIB - 1) / MIB, 26315);
	done(&r);
}

static void a_server_makes_room_for_its_slots_only(void **state)
{
	struct rig r;
	(void)state;
	rig_init(&r, "Qwen--Qwen3-0.6B", "q8_0", 1, 100000);
	r.p.n_ctx_tokens = 4096;
	lay(&r);
	uint64_t whole = r.l.devices[0].compute_bytes;
	r.p.program = PL_LLAMA_SERVER;
	lay(&r);
	/* 511 rows of 151,936 logits less, at most: the feed forward may be the peak then */
	assert_true(r.l.devices[0].compute_bytes < whole);
	assert_true(whole - r.l.devices[0].compute_bytes <= 511ull * 151936 * 4);
	done(&r);
}

static void a_pattern_sends_tensors_away(void **state)
{
	struct rig r;
	(void)state;
	rig_init(&r, "Qwen--Qwen3-0.6B", "q8_0", 1, 100000);
	r.p.n_ctx_tokens = 4096;
	lay(&r);
	uint64_t before = r.l.devices[0].model_bytes, moved = 0;
	static const struct pl_tensor_override o[] = {{"blk\\.[0-3]\\.ffn_(up|down).*", "CPU"}, {"nothing\\.of\\.this", "CPU"}};
	r.p.overrides = o;
	r.p.n_overrides = 2;
	lay(&r);
	for (uint32_t i = 0; i < r.m->n_tensors; i++)
		if (r.m->tensors[i].layer >= 0 && r.m->tensors[i].layer < 4 &&
		    (r.m->tensors[i].role == PL_ROLE_FFN_UP || r.m->tensors[i].role == PL_ROLE_FFN_DOWN))
			moved += r.m->tensors[i].bytes;
	assert_int_equal(before - r.l.devices[0].model_bytes, moved);
	bool told = false;
	for (const struct pl_note *n = r.l.notes; n; n = n->next)
		told |= strstr(n->text, "nothing\\.of\\.this") != NULL;
	assert_true(told);
	done(&r);
}

static void what_is_no_pattern_is_refused(void **state)
{
	struct rig r;
	static const struct pl_tensor_override bad = {"blk\\.(1|2", "CPU"}, nowhere = {"blk", "CUDA7"};
	(void)state;
	rig_init(&r, "Qwen--Qwen3-0.6B", "q8_0", 1, 100000);
	r.p.n_ctx_tokens = 4096;
	r.p.n_overrides = 1;
	r.p.overrides = &bad;
	assert_true(r.e->layout(r.a, r.m, &r.hw, &r.p, &r.l, &r.err) < 0);
	r.p.overrides = &nowhere;
	assert_true(r.e->layout(r.a, r.m, &r.hw, &r.p, &r.l, &r.err) < 0);
	done(&r);
}

/* llama-fit-params -fit on, 24105 MiB free on each device: "-c 4096 -ngl 44", "-c 14336 -ngl 81 -ts 40,41". */
static void fit_ends_where_the_engines_own_does(void **state)
{
	struct rig r;
	(void)state;
	rig_init(&r, "meta-llama--Llama-3.3-70B-Instruct", "q4_k_m", 1, 24105 + 320);
	r.p.engine_fit = r.p.fit_ctx = true;
	r.p.n_gpu_layers = r.p.n_cpu_moe = PL_AUTO;
	lay(&r);
	assert_int_equal(r.p.n_ctx_tokens, 4096);
	assert_int_equal(r.p.n_gpu_layers, 44);
	done(&r);
	rig_init(&r, "meta-llama--Llama-3.3-70B-Instruct", "q4_k_m", 2, 24105 + 320);
	r.p.engine_fit = r.p.fit_ctx = true;
	r.p.n_gpu_layers = r.p.n_cpu_moe = PL_AUTO;
	lay(&r);
	assert_int_equal(r.p.n_ctx_tokens, 14336);
	assert_int_equal(r.p.n_gpu_layers, 81);
	assert_true(r.p.tensor_split[0] == 40 && r.p.tensor_split[1] == 41);
	done(&r);
}

static void our_placement_puts_no_less_on_the_card_than_fit(void **state)
{
	struct rig r;
	(void)state;
	rig_init(&r, "meta-llama--Llama-3.3-70B-Instruct", "q4_k_m", 1, 24105 + 320);
	r.p.n_ctx_tokens = 4096;
	r.p.n_gpu_layers = r.p.n_cpu_moe = PL_AUTO;
	lay(&r);
	assert_true(r.l.devices[0].n_layers >= 43);
	done(&r);
}

static void a_draft_model_adds_its_own(void **state)
{
	struct rig r, d;
	(void)state;
	rig_init(&d, "Qwen--Qwen3-0.6B", "q8_0", 1, 100000);
	d.p.n_ctx_tokens = 4096;
	d.p.program = PL_LLAMA_SERVER;
	lay(&d);
	rig_init(&r, "Qwen--Qwen3-0.6B", "f16", 1, 100000);
	r.p.n_ctx_tokens = 4096;
	r.p.program = PL_LLAMA_SERVER;
	lay(&r);
	uint64_t alone = pl_use_total_bytes(&r.l.devices[0]);
	r.p.draft.model = d.m;
	r.p.draft.n_gpu_layers = PL_AUTO;
	lay(&r);
	assert_int_equal(pl_use_total_bytes(&r.l.devices[0]) - alone, pl_use_total_bytes(&d.l.devices[0]) - d.l.devices[0].overhead_bytes);
	done(&r);
	done(&d);
}

static bool stops(const struct rig *r)
{
	bool found = false;
	for (const struct pl_note *n = r->l.notes; n; n = n->next)
		found |= n->text && strstr(n->text, "2064") && strstr(n->text, "2053");
	return found;
}

/* llama-fit-params of build 11669 reserves 1649 nodes for one sequence with a cache of q8_0, and aborts in ggml-impl.h for four:
 * 8 nodes for each of 243 tensors make a table of 2053, and the graph has 1729 nodes and 335 leaves. */
static void a_graph_too_large_for_the_engine_is_said(void **state)
{
	struct rig r;
	(void)state;
	rig_init(&r, "microsoft--phi-4", "q4_k_m", 0, 0);
	r.p.n_ctx_tokens = 4096;
	r.p.type_k = r.p.type_v = PL_DTYPE_Q8_0;
	lay(&r);
	assert_false(stops(&r));
	r.p.n_seq = 4;
	lay(&r);
	assert_true(stops(&r));
	r.p.type_k = r.p.type_v = PL_DTYPE_F16;
	lay(&r);
	assert_false(stops(&r));
	done(&r);
}

static void nodes_come_depth_first_and_once(void **state)
{
	struct lg g = {.a = pl_arena_new(0)};
	(void)state;
	lg_t x = lg_input(&g, PL_DTYPE_F32, 8, 4, 1, 1), y = lg_unary(&g, LG_OP_SQR, x), z = lg_unary(&g, LG_OP_SCALE, x);
	lg_t late = lg_unary(&g, LG_OP_UNARY, z), sum = lg_binary(&g, LG_OP_ADD, late, y);
	lg_expand(&g, y);
	lg_expand(&g, sum);
	const lg_t order[] = {y, z, late, sum};
	assert_int_equal(g.n_nodes, 4);
	assert_memory_equal(g.nodes, order, sizeof order);
	assert_int_equal(g.n_leafs, 1);
	pl_arena_free(g.a);
}

static void views_keep_the_strides_of_what_they_show(void **state)
{
	struct lg g = {.a = pl_arena_new(0)};
	(void)state;
	lg_t q = lg_input(&g, PL_DTYPE_F32, 128, 32, 7, 1), p = lg_permute(&g, q, 0, 2, 1, 3);
	assert_int_equal(lg_at(&g, p)->ne[1], 7);
	assert_int_equal(lg_at(&g, p)->nb[1], 128 * 32 * 4);
	assert_false(lg_contiguous(&g, p));
	assert_int_equal(lg_at(&g, lg_reshape(&g, p, 4096, 7, 1, 1))->view_src, q);
	assert_int_equal(lg_nbytes(&g, p), 128ull * 32 * 7 * 4);
	lg_t k = lg_new(&g, PL_DTYPE_Q8_0, 1024, 256, 1, 1);
	assert_int_equal(lg_nbytes(&g, k), 1024 / 32 * 34 * 256);
	pl_arena_free(g.a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(one_device_as_the_engine_prints_it),
	    cmocka_unit_test(two_devices_keep_four_copies_of_what_they_are_sent),
	    cmocka_unit_test(stored_scores_and_layers_on_the_host),
	    cmocka_unit_test(an_older_build_by_its_own_rules),
	    cmocka_unit_test(a_server_makes_room_for_its_slots_only),
	    cmocka_unit_test(a_pattern_sends_tensors_away),
	    cmocka_unit_test(what_is_no_pattern_is_refused),
	    cmocka_unit_test(fit_ends_where_the_engines_own_does),
	    cmocka_unit_test(our_placement_puts_no_less_on_the_card_than_fit),
	    cmocka_unit_test(a_draft_model_adds_its_own),
	    cmocka_unit_test(a_graph_too_large_for_the_engine_is_said),
	    cmocka_unit_test(nodes_come_depth_first_and_once),
	    cmocka_unit_test(views_keep_the_strides_of_what_they_show),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
