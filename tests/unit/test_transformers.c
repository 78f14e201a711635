/* Transformers: the device map against accelerate's own answers, memory against hand calculations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "engine/device_map.h"

#include "../named.h"

static const uint64_t GIB = 1024 * 1024 * 1024;

/* ---- device_map="auto" ------------------------------------------------------------------------------------------- */

/* A model of one embedding, six layers, a norm of 3 bytes, a rotary buffer of 2 and a head as large as the embedding, placed by
 * get_balanced_memory and infer_auto_device_map of transformers 5.24 with accelerate 1.15; 3000 random models gave no
 * difference. cpu -1: no room named; factor: what a quantiser multiplies the rooms by. where: embedding, layers, norm, rotary,
 * head; -1 CPU, -2 disk. */
static const struct {
	int embed, layers[6];
	bool tied;
	int n_gpus, gpu[3], cpu;
	double factor;
	int where[10];
} maps[] = {
    {100, {50, 50, 50, 50, 50, 50}, false, 1, {1000}, 1000, 1, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
    {100, {50, 50, 50, 50, 50, 50}, false, 1, {400}, 1000, 1, {0, 0, 0, 0, -1, -1, -1, -1, -1, -1}},
    {100, {50, 50, 50, 50, 50, 50}, true, 1, {300}, 1000, 1, {0, 0, 0, -1, -1, -1, -1, -1, -1, 0}},
    {100, {50, 50, 50, 50, 50, 50}, false, 2, {300, 300}, 1000, 1, {0, 0, 0, 1, 1, 1, 1, 1, 1, -1}},
    {100, {50, 50, 50, 50, 50, 50}, true, 2, {300, 300}, 1000, 1, {0, 0, 0, 0, 1, 1, 1, 1, 1, 0}},
    {100, {50, 50, 50, 90, 90, 90}, false, 3, {250, 250, 250}, 1000, 1, {0, 0, 1, 1, 1, 2, 2, 2, 2, -1}},
    {100, {50, 50, 50, 50, 50, 50}, false, 1, {200}, 200, 1, {-1, -2, -2, -2, -2, -2, -2, -2, -2, -2}},
    {100, {50, 50, 50, 50, 50, 50}, false, 2, {200, 150}, -1, 1, {0, 1, 1, 1, -2, -2, -2, -2, -2, -2}},
    {300, {50, 50, 50, 50, 50, 50}, false, 2, {450, 600}, 1000, 0.9, {1, 1, 1, 1, 1, -1, -1, -1, -1, -1}},
    {100, {50, 50, 50, 50, 50, 50}, false, 0, {0}, 350, 1, {-1, -1, -1, -1, -2, -2, -2, -2, -2, -2}},
    {100, {60, 60, 60, 60, 60, 60}, true, 2, {1000, 500}, 1000, 1, {0, 0, 0, 0, 1, 1, 1, 1, 1, 0}},
};

/* 0 root, 1 inner, 2 head, 3 embedding, 4 list of layers, 5 norm, 6 rotary, 7 … layers */
static struct dm_tree tree_of(struct dm_module *n, int embed, const int *layers, bool tied)
{
	memset(n, 0, 13 * sizeof *n);
	n[0] = (struct dm_module){.first_child = 1, .n_children = 2};
	n[1] = (struct dm_module){.first_child = 3, .n_children = 4};
	n[2].bytes = tied ? 0 : (uint64_t)embed;
	n[3].bytes = (uint64_t)embed;
	n[4] = (struct dm_module){.first_child = 7, .n_children = 6, .parent = 1};
	n[5].bytes = 3;
	n[6].bytes = 2;
	n[3].parent = n[5].parent = n[6].parent = 1;
	for (int i = 0; i < 6; i++) {
		n[7 + i] = (struct dm_module){.bytes = (uint64_t)layers[i], .parent = 4, .whole = true};
		n[4].bytes += n[7 + i].bytes;
	}
	n[1].bytes = n[3].bytes + n[4].bytes + n[5].bytes + n[6].bytes;
	n[0].bytes = n[1].bytes + n[2].bytes;
	return (struct dm_tree){n, 13, tied ? 3 : DM_NONE, tied ? 2 : DM_NONE};
}

static int32_t place_of(const struct dm_module *n, const int32_t *where, uint32_t node)
{
	while (where[node] == DM_UNPLACED && node)
		node = n[node].parent;
	return where[node];
}

static void the_device_map_is_accelerates(void **state)
{
	(void)state;
	static const uint32_t order[10] = {3, 7, 8, 9, 10, 11, 12, 5, 6, 2};
	for (size_t i = 0; i < sizeof maps / sizeof *maps; i++) {
		struct dm_module n[13];
		uint32_t scratch[26];
		int32_t where[13];
		struct dm_tree t = tree_of(n, maps[i].embed, maps[i].layers, maps[i].tied);
		struct dm_room r = {.n_gpus = (uint32_t)maps[i].n_gpus, .has_cpu = maps[i].cpu >= 0, .cpu_bytes = maps[i].cpu};
		for (int d = 0; d < maps[i].n_gpus; d++)
			r.gpu_bytes[d] = maps[i].gpu[d] * (maps[i].n_gpus == 1 ? 0.9 : 1);
		dm_balance(&t, &r, true);
		for (int d = 0; d < maps[i].n_gpus; d++)
			r.gpu_bytes[d] *= maps[i].factor;
		r.cpu_bytes *= maps[i].factor;
		dm_infer(&t, &r, scratch, where);
		for (int k = 0; k < 10; k++)
			if (place_of(n, where, order[k]) != maps[i].where[k])
				fail_msg("map %zu, module %d: %d, accelerate says %d", i, k, place_of(n, where, order[k]), maps[i].where[k]);
	}
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

struct rig {
	struct pl_arena *a;
	const struct pl_engine *e;
	struct pl_model m;
	struct pl_layer layers[32];
	struct pl_tensor tensors[128];
	struct pl_machine hw;
	struct pl_device dev[4];
	struct pl_params p;
	struct pl_layout l;
	struct pl_err err;
};

static struct pl_tensor *add_tensor(struct rig *r, int32_t layer, enum pl_role role, enum pl_dtype type, uint64_t in, uint64_t out,
                                    uint32_t stacked)
{
	struct pl_tensor *t = &r->tensors[r->m.n_tensors++];
	const struct pl_role_info *info = pl_role_info(role);
	*t = (struct pl_tensor){.name = info->gguf_name, .ne = {in, out, stacked, 1}, .n_dims = stacked > 1 ? 3 : 2, .n_stacked = stacked,
	                        .type = type, .role = role, .group = info->group, .layer = layer, .n_elems = in * out * stacked};
	assert_int_equal(pl_dtype_bytes(type, in, t->n_elems, &t->bytes), 0);
	return t;
}

/* 32 layers, hidden 4096, 32 heads over 8 of width 128, feed forward 14336 (one matrix of 112 MiB a layer), vocabulary 1024. */
static void rig_init(struct rig *r)
{
	memset(r, 0, sizeof *r);
	r->a = pl_arena_new(0);
	assert_int_equal(pl_engine_find("transformers", &r->e, &r->err), 0);
	r->m = (struct pl_model){.name = "test", .arch = "llama", .arch_known = true, .quant_name = "bf16", .n_layers = 32,
	                         .n_embd = 4096, .n_vocab = 1024, .n_ctx_train = 131072, .layers = r->layers, .tensors = r->tensors};
	add_tensor(r, -1, PL_ROLE_TOKEN_EMBD, PL_DTYPE_BF16, 4096, 1024, 1);
	add_tensor(r, -1, PL_ROLE_OUTPUT, PL_DTYPE_BF16, 4096, 1024, 1);
	for (int i = 0; i < 32; i++) {
		r->layers[i] = (struct pl_layer){.attn = PL_ATTN_GQA, .n_head = 32, .n_head_kv = 8, .d_k = 128, .d_v = 128,
		                                 .kv_from_layer = -1, .ffn = PL_FFN_GATED, .n_ff = 14336};
		add_tensor(r, i, PL_ROLE_FFN_UP, PL_DTYPE_BF16, 4096, 14336, 1);
	}
	r->hw = (struct pl_machine){.devices = r->dev, .n_nodes = 1, .ram_bytes = {64 * GIB, true}};
	pl_params_default(&r->p);
	r->p.n_ctx_tokens = 8192;
}

static void add_gpu(struct rig *r, uint64_t bytes)
{
	r->dev[r->hw.n_devices++] = (struct pl_device){.name = "card", .vendor = PL_VENDOR_NVIDIA, .total_bytes = bytes, .free_bytes = bytes};
}

static void lay_out(struct rig *r)
{
	struct pl_params p = r->p;
	if (r->e->layout(r->a, &r->m, &r->hw, &p, &r->l, &r->err))
		fail_msg("%s: %s", r->err.where, r->err.msg);
}

static void the_peak_of_a_prompt_is_its_widest_moment(void **state)
{
	(void)state;
	struct rig r;
	rig_init(&r);
	add_gpu(&r, 24 * GIB);
	lay_out(&r);
	const struct pl_use *u = &r.l.devices[0];
	assert_true(r.l.fits);
	/* 2 × 1024 × 4096 + 32 × 4096 × 14336 weights of 2 bytes, and 512 bytes of rotary frequencies */
	assert_int_equal(u->model_bytes, 2 * (2ull * 1024 * 4096 + 32ull * 4096 * 14336) + 512);
	/* keys and values: 32 layers × 2 × 8 heads × 128 × 2 bytes */
	assert_int_equal(r.l.kv_bytes_per_token, 131072);
	assert_int_equal(u->kv_bytes, 8192ull * 131072);
	/* activation, up and product of the feed forward; the caller's input, the residual, the normed input, the embedded prompt */
	assert_int_equal(u->compute_bytes, 8192ull * 2 * (3 * 14336 + 4 * 4096));
	pl_arena_free(r.a);
}

static void a_prompt_in_chunks_copies_the_cache_instead(void **state)
{
	(void)state;
	struct rig r;
	rig_init(&r);
	add_gpu(&r, 24 * GIB);
	r.p.max_num_batched_tokens = 512;
	lay_out(&r);
	/* in attention: queries, output, mask of one byte and as numbers, keys and values for all heads, the keys copied */
	uint64_t attention = 512ull * 2 * (4096 + 4096) + 512ull * 8192 * 3 + 8192ull * 32 * 256 * 2 + 8192ull * 1024 * 2;
	uint64_t held = 512ull * 2 * 3 * 4096; /* input, normed input, embedded prompt */
	assert_int_equal(r.l.devices[0].compute_bytes, attention + held);
	pl_arena_free(r.a);
}

static void eager_attention_stores_its_scores(void **state)
{
	(void)state;
	struct rig r;
	rig_init(&r);
	add_gpu(&r, 80 * GIB);
	r.p.attention_eager = true;
	lay_out(&r);
	/* 32 heads × 8192² scores: bfloat16, in 32 bit, and their softmax; mask; keys and values of all heads; queries */
	uint64_t pairs = 8192ull * 8192, attention = 32 * pairs * 10 + pairs * 3 + 8192ull * 32 * 256 * 2 + 8192ull * 4096 * 2;
	assert_int_equal(r.l.devices[0].compute_bytes, attention + 8192ull * 4096 * 2 * 3);
	pl_arena_free(r.a);
}

static void a_window_keeps_its_tokens_and_the_prompt_behind_them(void **state)
{
	(void)state;
	struct rig r;
	rig_init(&r);
	add_gpu(&r, 24 * GIB);
	for (int i = 0; i < 16; i++)
		r.layers[i].window_tokens = 1024;
	lay_out(&r);
	uint64_t row = 2 * 8 * 128 * 2, full = r.l.devices[0].kv_bytes;
	assert_int_equal(full, row * (16 * 8192 + 16 * 1023));
	assert_int_equal(r.l.kv_bytes_per_token, 16 * row);
	/* at the end of the prompt the windowed layers still hold all of it */
	assert_true(r.l.devices[0].compute_bytes >= row * 16 * (8192 - 1023));
	r.p.engine_version = "4.50"; /* whose default cache knows no windows */
	lay_out(&r);
	assert_int_equal(r.l.devices[0].kv_bytes, row * 32 * 8192);
	pl_arena_free(r.a);
}

static void latent_attention_is_cached_expanded_before_5_18(void **state)
{
	(void)state;
	struct rig r;
	rig_init(&r);
	add_gpu(&r, 80 * GIB);
	for (int i = 0; i < 32; i++) {
		r.layers[i].attn = PL_ATTN_MLA;
		r.layers[i].kv_lora = 512;
		r.layers[i].d_rope = 64;
		r.layers[i].d_nope = 128;
	}
	lay_out(&r);
	assert_int_equal(r.l.kv_bytes_per_token, 32 * 576 * 2);
	r.p.engine_version = "5.10";
	lay_out(&r);
	assert_int_equal(r.l.kv_bytes_per_token, 32 * 32 * (192 + 128) * 2);
	pl_arena_free(r.a);
}

static void logits_of_the_whole_prompt_before_4_45(void **state)
{
	(void)state;
	struct rig r;
	rig_init(&r);
	add_gpu(&r, 80 * GIB);
	r.m.n_vocab = 128256;
	r.p.engine_version = "4.44";
	lay_out(&r);
	uint64_t logits = 8192ull * 128256 * (2 + 8) + 8192ull * 4096 * 2;
	assert_true(r.l.devices[0].compute_bytes >= 8192ull * 128256 * 10);
	assert_true(r.l.devices[0].compute_bytes <= logits);
	pl_arena_free(r.a);
}

/* ---- placement and quantisation ---------------------------------------------------------------------------------- */

static struct pl_layout of(struct rig *r, const char *model, const char *quant, const char *machine, struct pl_params *p)
{
	const struct pl_machine *hw;
	struct pl_layout l;
	if (pl_machine_parse(r->a, machine, &hw, &r->err) || r->e->layout(r->a, model_named(r->a, model, quant), hw, p, &l, &r->err))
		fail_msg("%s", r->err.msg);
	return l;
}

static void what_the_gpu_cannot_hold_waits_in_ram(void **state)
{
	(void)state;
	struct rig r;
	rig_init(&r);
	struct pl_params p = r.p;
	const struct pl_model *m = model_named(r.a, "Qwen/Qwen3-14B", NULL);
	struct pl_layout l = of(&r, "Qwen/Qwen3-14B", NULL, "rtx4090, ram 64GiB", &p);
	assert_true(l.fits);
	assert_true(l.host.use.model_bytes > 4 * GIB);
	assert_int_equal(l.host.use.model_bytes + l.devices[0].model_bytes, m->weight_bytes + 512);
	assert_int_equal(l.layer_device[0], 0);
	assert_int_equal(l.layer_device[39], -1);
	/* offloaded layers still compute on the GPU: the whole cache is there */
	assert_int_equal(l.devices[0].kv_bytes, 8192 * l.kv_bytes_per_token);
	pl_arena_free(r.a);
}

static void bitsandbytes_stays_on_the_gpu_and_leaves_stacked_experts(void **state)
{
	(void)state;
	struct rig r;
	rig_init(&r);
	struct pl_params p = r.p;
	struct pl_layout l = of(&r, "Qwen/Qwen3-32B", "nf4", "1x rtx4070, ram 128GiB", &p);
	assert_false(l.fits); /* 18 GiB of weights on 12 GiB, and the CPU is refused */
	assert_true(l.missing_bytes > 0);
	p = r.p;
	l = of(&r, "Qwen/Qwen3-14B", "nf4", "rtx4090, ram 64GiB", &p);
	const struct pl_model *m = model_named(r.a, "Qwen/Qwen3-14B", "nf4");
	assert_true(l.fits);
	assert_int_equal(l.devices[0].model_bytes, m->weight_bytes + 512);
	/* 128 experts × 48 layers × 3 × 2048 × 768 weights in 16 bit, where 4 bits were hoped for */
	p = r.p;
	l = of(&r, "Qwen/Qwen3-30B-A3B", "nf4", "h100-sxm", &p);
	assert_true(l.devices[0].model_bytes > 2ull * 128 * 48 * 3 * 2048 * 768);
	p = r.p;
	p.engine_version = "4.57"; /* one nn.Linear an expert */
	l = of(&r, "Qwen/Qwen3-30B-A3B", "nf4", "h100-sxm", &p);
	assert_true(l.devices[0].model_bytes < 20 * GIB);
	pl_arena_free(r.a);
}

static void eight_bit_floats_are_unpacked_where_the_card_lacks_them(void **state)
{
	(void)state;
	struct rig r;
	rig_init(&r);
	struct pl_params p = r.p, q = r.p;
	struct pl_layout with = of(&r, "Qwen/Qwen3-8B", "fp8", "rtx4090", &p), without = of(&r, "Qwen/Qwen3-8B", "fp8", "rtx3090", &q);
	assert_true(with.devices[0].model_bytes < 10 * GIB);
	assert_true(without.devices[0].model_bytes > 15 * GIB);
	pl_arena_free(r.a);
}

static void the_launch_line_says_what_auto_would_not_do(void **state)
{
	(void)state;
	struct rig r;
	rig_init(&r);
	struct pl_params p = r.p;
	const struct pl_machine *hw;
	const struct pl_model *m = model_named(r.a, "Qwen/Qwen3-8B", "nf4");
	struct pl_argv v;
	assert_int_equal(pl_machine_parse(r.a, "rtx4090, ram 64GiB", &hw, &r.err), 0);
	assert_int_equal(r.e->layout(r.a, m, hw, &p, &r.l, &r.err), 0);
	assert_int_equal(r.e->command(r.a, m, "Qwen/Qwen3-8B", hw, &p, &r.l, &v, &r.err), 0);
	assert_string_equal(v.words[0], "transformers");
	assert_string_equal(v.words[v.n_words - 1], "bnb-4bit");
	p = r.p;
	p.n_seq = 2;
	m = model_named(r.a, "Qwen/Qwen3-14B", NULL);
	assert_int_equal(r.e->layout(r.a, m, hw, &p, &r.l, &r.err), 0);
	assert_int_equal(r.e->command(r.a, m, "a\"b", hw, &p, &r.l, &v, &r.err), 0);
	assert_string_equal(v.words[0], "python3");
	assert_non_null(strstr(v.words[2], "from_pretrained(\"a\\\"b\", dtype=\"auto\", device_map="));
	assert_non_null(strstr(v.words[2], "max_length=8192"));
	pl_arena_free(r.a);
}

static void impossible_requests_are_named(void **state)
{
	(void)state;
	struct rig r;
	rig_init(&r);
	add_gpu(&r, 24 * GIB);
	struct pl_params p = r.p;
	p.type_k = p.type_v = PL_DTYPE_F8_E4M3;
	assert_int_equal(r.e->layout(r.a, &r.m, &r.hw, &p, &r.l, &r.err), -PL_ERR_UNSUPPORTED);
	p = r.p;
	p.n_seq = 0;
	assert_int_equal(r.e->layout(r.a, &r.m, &r.hw, &p, &r.l, &r.err), -PL_ERR_RANGE);
	pl_arena_free(r.a);
}

/* deepspeed 0.19: 1/4 of two matrices of 2^22 and 32 of 56 · 2^20 elements; 1e9 live ones and the one that passes the limit, a
 * bucket of 5e7 and the one that passes it; each rank computes a quarter of the sequences. */
static void zero_keeps_a_share_and_gathers_the_rest(void **state)
{
	(void)state;
	struct rig r;
	rig_init(&r);
	for (int i = 0; i < 4; i++)
		add_gpu(&r, 24 * GIB);
	r.p.zero_stage = 3;
	r.p.n_seq = 4;
	lay_out(&r);
	uint64_t one = 56ull << 20, prompt = 8192ull * 2 * (3 * 14336 + 4 * 4096), shard = (2 * (1ull << 22) + 32 * one) / 4 * 2;
	assert_true(r.l.fits);
	for (int i = 0; i < 4; i++) {
		assert_int_equal(r.l.devices[i].model_bytes, shard);
		assert_int_equal(r.l.devices[i].kv_bytes, 8192ull * 131072); /* of one sequence */
		assert_int_equal(r.l.devices[i].compute_bytes, prompt + 2 * (1000000000 + one + 50000000 + one));
		assert_int_equal(r.l.devices[i].n_layers, 32);
	}
	assert_int_equal(r.l.host.use.model_bytes, 0);
	r.p.zero_offload = PL_ZERO_CPU;
	lay_out(&r);
	assert_int_equal(r.l.devices[0].model_bytes, 0);
	assert_int_equal(r.l.host.use.model_bytes, 4 * shard);
	r.p.zero_offload = PL_ZERO_NVME;
	lay_out(&r);
	assert_int_equal(r.l.host.use.model_bytes, 0);
	assert_int_equal(r.l.host.use.compute_bytes, 4ull * 5 * 100000000 * 2); /* five pinned buffers of 1e8 elements a rank */
	pl_arena_free(r.a);
}

static void zero_is_started_by_deepspeed(void **state)
{
	(void)state;
	struct rig r;
	struct pl_argv v;
	const struct pl_machine *hw;
	rig_init(&r);
	struct pl_params p = r.p;
	p.zero_stage = 3;
	p.zero_offload = PL_ZERO_CPU;
	p.n_seq = 6;
	const struct pl_model *m = model_named(r.a, "Qwen/Qwen3-8B", NULL);
	assert_int_equal(pl_machine_parse(r.a, "2x rtx3090, ram 64GiB", &hw, &r.err), 0);
	assert_int_equal(r.e->layout(r.a, m, hw, &p, &r.l, &r.err), 0);
	assert_int_equal(r.e->command(r.a, m, "Qwen/Qwen3-8B", hw, &p, &r.l, &v, &r.err), 0);
	assert_string_equal(v.words[0], "deepspeed");
	assert_string_equal(v.words[2], "2");
	assert_non_null(strstr(v.words[v.n_words - 1], "\"stage\": 3, \"offload_param\": {\"device\": \"cpu\", \"pin_memory\": True}"));
	assert_non_null(strstr(v.words[v.n_words - 1], "[\"Hello\"] * 3,"));
	p = r.p;
	p.zero_stage = 3;
	assert_int_equal(r.e->layout(r.a, model_named(r.a, "Qwen/Qwen3-8B", "nf4"), hw, &p, &r.l, &r.err), -PL_ERR_UNSUPPORTED);
	pl_arena_free(r.a);
}

static void a_larger_card_is_never_worse(void **state)
{
	(void)state;
	struct rig r;
	uint64_t host = UINT64_MAX;
	for (uint64_t gib = 3; gib <= 24; gib++) {
		rig_init(&r);
		add_gpu(&r, gib * GIB);
		lay_out(&r);
		assert_true(r.l.host.use.model_bytes <= host);
		assert_true(!r.l.fits || pl_use_total_bytes(&r.l.devices[0]) <= gib * GIB);
		host = r.l.fits ? r.l.host.use.model_bytes : host;
		pl_arena_free(r.a);
	}
	assert_int_equal(host, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_device_map_is_accelerates),
	    cmocka_unit_test(the_peak_of_a_prompt_is_its_widest_moment),
	    cmocka_unit_test(a_prompt_in_chunks_copies_the_cache_instead),
	    cmocka_unit_test(eager_attention_stores_its_scores),
	    cmocka_unit_test(a_window_keeps_its_tokens_and_the_prompt_behind_them),
	    cmocka_unit_test(latent_attention_is_cached_expanded_before_5_18),
	    cmocka_unit_test(logits_of_the_whole_prompt_before_4_45),
	    cmocka_unit_test(what_the_gpu_cannot_hold_waits_in_ram),
	    cmocka_unit_test(bitsandbytes_stays_on_the_gpu_and_leaves_stacked_experts),
	    cmocka_unit_test(eight_bit_floats_are_unpacked_where_the_card_lacks_them),
	    cmocka_unit_test(the_launch_line_says_what_auto_would_not_do),
	    cmocka_unit_test(impossible_requests_are_named),
	    cmocka_unit_test(zero_keeps_a_share_and_gathers_the_rest), cmocka_unit_test(zero_is_started_by_deepspeed),
	    cmocka_unit_test(a_larger_card_is_never_worse),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
