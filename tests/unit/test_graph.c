#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <jansson.h>

#include <plimsoll/catalog.h>

#include "model/build.h"
#include "graph_check.h"

/* A model put together by hand: tensors of a role with their dimensions. */
struct hand {
	struct pl_arena *a;
	struct pl_tensor_list list;
	struct pl_model m;
	struct pl_layer layers[4];
};

static void hand_init(struct hand *h, uint32_t n_layers)
{
	memset(h, 0, sizeof *h);
	h->a = pl_arena_new(0);
	h->list.a = h->a;
	h->m.layers = h->layers;
	h->m.n_layers = n_layers;
	h->m.n_embd = 64;
	h->m.n_vocab = 1000;
	h->m.arch = "llama";
	h->m.arch_known = true;
	for (int i = 0; i < 4; i++)
		h->layers[i].kv_from_layer = -1;
}

static struct pl_tensor *add(struct hand *h, int32_t il, enum pl_role role, uint64_t ne0, uint64_t ne1)
{
	struct pl_tensor *t = pl_tensor_add(&h->list);
	t->name = pl_arena_printf(h->a, "blk.%d.%s.weight", il, pl_role_info(role)->gguf_name);
	t->role = role;
	t->group = pl_role_info(role)->group;
	t->layer = il;
	t->ne[0] = ne0;
	t->ne[1] = ne1;
	t->n_dims = ne1 > 1 ? 2 : 1;
	return t;
}

static const char *build(struct hand *h)
{
	struct pl_err err = {0};
	h->m.tensors = h->list.items;
	h->m.n_tensors = h->list.n;
	assert_int_equal(pl_graph_build(h->a, &h->m, &err), 0);
	return graph_fault(&h->m);
}

static void add_ends(struct hand *h, bool tied)
{
	add(h, -1, PL_ROLE_TOKEN_EMBD, 64, 1000);
	add(h, -1, PL_ROLE_OUTPUT_NORM, 64, 1);
	if (!tied)
		add(h, -1, PL_ROLE_OUTPUT, 64, 1000);
	h->m.tied_output = tied;
}

static void add_gqa(struct hand *h, int32_t il)
{
	struct pl_layer *l = &h->layers[il];
	l->attn = PL_ATTN_GQA;
	l->n_head = 4;
	l->n_head_kv = 2;
	l->d_k = l->d_v = 16;
	add(h, il, PL_ROLE_ATTN_NORM, 64, 1);
	add(h, il, PL_ROLE_ATTN_Q, 64, 64);
	add(h, il, PL_ROLE_ATTN_K, 64, 32);
	add(h, il, PL_ROLE_ATTN_V, 64, 32);
	add(h, il, PL_ROLE_ATTN_OUT, 64, 64);
}

static void add_dense(struct hand *h, int32_t il)
{
	h->layers[il].ffn = PL_FFN_GATED;
	h->layers[il].n_ff = 128;
	add(h, il, PL_ROLE_FFN_NORM, 64, 1);
	add(h, il, PL_ROLE_FFN_GATE, 64, 128);
	add(h, il, PL_ROLE_FFN_UP, 64, 128);
	add(h, il, PL_ROLE_FFN_DOWN, 128, 64);
}

static uint32_t count(const struct pl_model *m, enum pl_op_kind kind)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < m->graph.n_ops; i++)
		n += m->graph.ops[i].kind == kind;
	return n;
}

static void test_dense(void **state)
{
	(void)state;
	struct hand h;
	hand_init(&h, 2);
	add_ends(&h, true);
	for (int il = 0; il < 2; il++) {
		add_gqa(&h, il);
		add_dense(&h, il);
	}
	assert_null(build(&h));
	assert_null(h.m.notes);
	/* embed, head, final norm and, a layer: 2 norms, 7 linear, 2 rope, store, attention, act, 2 adds */
	assert_int_equal(h.m.graph.n_ops, 3 + 2 * 16);
	assert_int_equal(count(&h.m, PL_OP_LINEAR), 14);
	assert_int_equal(h.m.graph.ops[h.m.graph.n_ops - 1].kind, PL_OP_LM_HEAD);
	assert_int_equal(h.m.graph.values[h.m.graph.ops[h.m.graph.n_ops - 1].out].width, 1000);
	pl_arena_free(h.a);
}

static void test_moe_with_shared_expert(void **state)
{
	(void)state;
	struct hand h;
	hand_init(&h, 1);
	add_ends(&h, false);
	add_gqa(&h, 0);
	h.layers[0].ffn = PL_FFN_MOE;
	h.layers[0].n_expert = 8;
	add(&h, 0, PL_ROLE_FFN_NORM, 64, 1);
	add(&h, 0, PL_ROLE_ROUTER, 64, 8);
	const enum pl_role up[] = {PL_ROLE_EXPERT_GATE, PL_ROLE_EXPERT_UP},
	                   sh[] = {PL_ROLE_SHARED_GATE, PL_ROLE_SHARED_UP};
	for (int i = 0; i < 2; i++) {
		add(&h, 0, up[i], 64, 32)->ne[2] = 8;
		add(&h, 0, sh[i], 64, 32);
	}
	add(&h, 0, PL_ROLE_EXPERT_DOWN, 32, 64)->ne[2] = 8;
	add(&h, 0, PL_ROLE_SHARED_DOWN, 32, 64);
	add(&h, 0, PL_ROLE_SHARED_GATE_INP, 64, 1);
	assert_null(build(&h));
	assert_int_equal(count(&h.m, PL_OP_EXPERTS), 3);
	assert_int_equal(count(&h.m, PL_OP_ROUTER), 1);
	assert_int_equal(count(&h.m, PL_OP_COMBINE), 1);
	for (uint32_t i = 0; i < h.m.graph.n_ops; i++)
		if (h.m.graph.ops[i].kind == PL_OP_EXPERTS)
			assert_int_equal(h.m.graph.values[h.m.graph.ops[i].out].rows, PL_ROWS_ROUTED);
	pl_arena_free(h.a);
}

static void test_latent(void **state)
{
	(void)state;
	struct hand h;
	hand_init(&h, 1);
	add_ends(&h, false);
	h.layers[0] = (struct pl_layer){.attn = PL_ATTN_MLA,
	                                .n_head = 4,
	                                .n_head_kv = 1,
	                                .d_k = 24,
	                                .d_v = 16,
	                                .q_lora = 20,
	                                .kv_lora = 32,
	                                .d_rope = 8,
	                                .d_nope = 16,
	                                .kv_from_layer = -1};
	add(&h, 0, PL_ROLE_ATTN_NORM, 64, 1);
	add(&h, 0, PL_ROLE_ATTN_Q_A, 64, 20);
	add(&h, 0, PL_ROLE_ATTN_Q_A_NORM, 20, 1);
	add(&h, 0, PL_ROLE_ATTN_Q_B, 20, 96);
	add(&h, 0, PL_ROLE_ATTN_KV_A_MQA, 64, 40);
	add(&h, 0, PL_ROLE_ATTN_KV_A_NORM, 32, 1);
	add(&h, 0, PL_ROLE_ATTN_K_B, 16, 32)->ne[2] = 4;
	add(&h, 0, PL_ROLE_ATTN_V_B, 32, 16)->ne[2] = 4;
	add(&h, 0, PL_ROLE_ATTN_OUT, 64, 64);
	add_dense(&h, 0);
	assert_null(build(&h));
	for (uint32_t i = 0; i < h.m.graph.n_ops; i++) {
		const struct pl_op *op = &h.m.graph.ops[i];
		if (op->kind == PL_OP_KV_STORE) /* the latent and the rotated key, once for all heads */
			assert_int_equal(h.m.graph.values[op->out].width, 40);
		if (op->kind == PL_OP_ATTENTION)
			assert_int_equal(h.m.graph.values[op->out].width, 4 * 32);
	}
	pl_arena_free(h.a);
}

static void test_parallel_block(void **state)
{
	(void)state;
	struct hand h;
	hand_init(&h, 1);
	add_ends(&h, true);
	add_gqa(&h, 0);
	h.layers[0].ffn = PL_FFN_PLAIN;
	add(&h, 0, PL_ROLE_FFN_UP, 64, 128);
	add(&h, 0, PL_ROLE_FFN_DOWN, 128, 64);
	assert_null(build(&h));
	/* attention and feed forward read the one norm of the layer */
	uint32_t norm = UINT32_MAX, readers = 0;
	for (uint32_t i = 0; i < h.m.graph.n_ops; i++) {
		const struct pl_op *op = &h.m.graph.ops[i];
		if (op->kind == PL_OP_NORM && op->layer == 0)
			norm = op->out;
		readers += op->n_in && op->in[0] == norm;
	}
	assert_int_equal(readers, 4); /* q, k, v, up */
	pl_arena_free(h.a);
}

static void test_shapes_that_do_not_fit(void **state)
{
	(void)state;
	struct hand h;
	hand_init(&h, 1);
	add_ends(&h, true);
	add_gqa(&h, 0);
	add_dense(&h, 0);
	h.list.items[5].ne[0] = 65; /* attn_v */
	assert_non_null(build(&h));
	assert_int_equal(h.m.graph.n_ops, 0);
	assert_non_null(h.m.notes);
	assert_non_null(strstr(h.m.notes->text, "65 where the layer needs 64"));
	pl_arena_free(h.a);
}

static void test_leftovers_are_named(void **state)
{
	(void)state;
	struct hand h;
	hand_init(&h, 1);
	add_ends(&h, true);
	add_gqa(&h, 0);
	add_dense(&h, 0);
	add(&h, 0, PL_ROLE_OTHER, 64, 64)->name = "blk.0.mystery.weight";
	assert_non_null(build(&h));
	assert_non_null(strstr(h.m.notes->text, "blk.0.mystery.weight"));
	pl_arena_free(h.a);
}

/* Filters, cross attention and time mixing that no operation describes: bytes and caches are exact, the step is not. */
static bool step_is_partial(const char *arch)
{
	static const char *const archs[] = {"yuan", "rwkv5", "mllama", "whisper"};
	for (size_t i = 0; i < sizeof archs / sizeof *archs; i++)
		if (!strcmp(arch, archs[i]))
			return true;
	return false;
}

/* Every catalogued model whose architecture is known: each weight of the trunk has one place, widths agree. */
static void test_whole_catalogue(void **state)
{
	(void)state;
	uint32_t n, n_built = 0, n_faults = 0;
	const struct pl_model_row *rows = pl_catalog_models(&n);
	for (uint32_t i = 0; i < n; i++) {
		struct pl_arena *a = pl_arena_new(0);
		struct pl_tensor_list list = {.a = a};
		struct pl_model m = {.name = rows[i].id};
		struct pl_err err = {0};
		json_t *config =
		    rows[i].config_json ? json_loadb(rows[i].config_json, rows[i].config_len, 0, NULL) : NULL;
		if (config && pl_layers_from_config(a, config, &m, &list, &err) == 0 && m.arch_known) {
			assert_int_equal(pl_model_finish(a, &m, list.items, list.n, &err), 0);
			assert_int_equal(pl_graph_build(a, &m, &err), 0);
			const char *fault = step_is_partial(m.arch) ? NULL : graph_fault(&m);
			if (fault)
				print_error("%s (%s): %s; %s\n", rows[i].id, m.arch, fault,
				            m.notes ? m.notes->text : "");
			n_faults += fault != NULL;
			n_built++;
		}
		json_decref(config);
		pl_arena_free(a);
	}
	assert_int_equal(n_faults, 0);
	assert_true(n_built >= 490);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_dense),
	    cmocka_unit_test(test_moe_with_shared_expert),
	    cmocka_unit_test(test_latent),
	    cmocka_unit_test(test_parallel_block),
	    cmocka_unit_test(test_leftovers_are_named),
	    cmocka_unit_test(test_shapes_that_do_not_fit),
	    cmocka_unit_test(test_whole_catalogue),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
