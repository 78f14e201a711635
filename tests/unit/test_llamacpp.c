#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <plimsoll/engine.h>

#include "memory/cache.h"

static const uint64_t MIB = 1024 * 1024, GIB = 1024 * 1024 * 1024;

struct rig {
	struct pl_arena *a;
	const struct pl_engine *e;
	struct pl_model m;
	struct pl_layer layers[64];
	struct pl_tensor tensors[256];
	struct pl_machine hw;
	struct pl_device dev[4];
	struct pl_params p;
	struct pl_layout l;
	struct pl_err err;
};

static void add_tensor(struct rig *r, int32_t layer, enum pl_role role, enum pl_group group, const char *name,
                       enum pl_dtype type, uint64_t ne0, uint64_t ne1)
{
	struct pl_tensor *t = &r->tensors[r->m.n_tensors++];
	*t = (struct pl_tensor){.name = name, .ne = {ne0, ne1, 1, 1}, .n_dims = 2, .n_stacked = 1, .type = type,
	                        .role = role, .group = group, .layer = layer, .n_elems = ne0 * ne1};
	assert_int_equal(pl_dtype_bytes(type, ne0, t->n_elems, &t->bytes), 0);
}

/* 32 layers of 32 heads over 8 of width 128, one matrix of 64 MiB a layer, a vocabulary of 1024, heads untied. */
static void rig_init(struct rig *r)
{
	memset(r, 0, sizeof *r);
	r->a = pl_arena_new(0);
	assert_int_equal(pl_engine_find("llama.cpp", &r->e, &r->err), 0);
	r->m = (struct pl_model){.name = "test", .arch = "llama", .arch_known = true, .format = PL_FORMAT_GGUF,
	                         .n_layers = 32, .n_embd = 4096, .n_vocab = 1024, .n_ctx_train = 131072,
	                         .layers = r->layers, .tensors = r->tensors};
	add_tensor(r, -1, PL_ROLE_TOKEN_EMBD, PL_GROUP_EMBED, "token_embd.weight", PL_DTYPE_F16, 4096, 1024);
	add_tensor(r, -1, PL_ROLE_OUTPUT_NORM, PL_GROUP_OUTPUT, "output_norm.weight", PL_DTYPE_F32, 4096, 1);
	add_tensor(r, -1, PL_ROLE_OUTPUT, PL_GROUP_OUTPUT, "output.weight", PL_DTYPE_F16, 4096, 1024);
	for (int i = 0; i < 32; i++) {
		r->layers[i] = (struct pl_layer){.attn = PL_ATTN_GQA, .n_head = 32, .n_head_kv = 8, .d_k = 128, .d_v = 128,
		                                 .kv_from_layer = -1, .ffn = PL_FFN_GATED, .n_ff = 14336};
		add_tensor(r, i, PL_ROLE_FFN_UP, PL_GROUP_FFN, "blk.0.ffn_up.weight", PL_DTYPE_F16, 4096, 8192);
	}
	r->hw = (struct pl_machine){.devices = r->dev, .n_nodes = 1, .ram_bytes = {64 * GIB, true}};
	pl_params_default(&r->p);
	r->p.n_ctx_tokens = 8192;
}

static void add_gpu(struct rig *r, uint64_t bytes)
{
	r->dev[r->hw.n_devices++] =
	    (struct pl_device){.name = "GPU", .vendor = PL_VENDOR_NVIDIA, .total_bytes = bytes, .free_bytes = bytes, .numa_node = -1};
}

static void lay(struct rig *r)
{
	int rc = r->e->layout(r->a, &r->m, &r->hw, &r->p, &r->l, &r->err);
	if (rc)
		fail_msg("%s", r->err.msg);
}

static void done(struct rig *r)
{
	assert_false(pl_arena_failed(r->a));
	pl_arena_free(r->a);
}

static void weights_stand_where_the_engine_puts_them(void **state)
{
	struct rig r;
	(void)state;
	rig_init(&r);
	add_gpu(&r, 24 * GIB);
	lay(&r);
	assert_true(r.l.fits);
	assert_int_equal(r.p.n_gpu_layers, 33);
	assert_int_equal(r.l.devices[0].model_bytes, 32 * 64 * MIB + 8 * MIB + 16384);
	assert_int_equal(r.l.host.use.model_bytes, 8 * MIB); /* the embedding never leaves the host */
	assert_int_equal(r.l.host.mapped_bytes, 8 * MIB);
	assert_int_equal(r.l.devices[0].kv_bytes, GIB); /* 32 × 8192 × 1024 × 2 × 2 */
	assert_int_equal(r.l.kv_bytes_per_token, 131072);
	done(&r);
}

static void layers_go_to_the_gpu_from_the_end(void **state)
{
	struct rig r;
	(void)state;
	rig_init(&r);
	add_gpu(&r, 24 * GIB);
	r.p.n_gpu_layers = 11; /* the output and the last ten */
	lay(&r);
	assert_int_equal(r.l.devices[0].n_layers, 10);
	assert_int_equal(r.l.layer_device[21], -1);
	assert_int_equal(r.l.layer_device[22], 0);
	assert_int_equal(r.l.devices[0].model_bytes, 10 * 64 * MIB + 8 * MIB + 16384);
	assert_int_equal(r.l.devices[0].kv_bytes, 10 * 32 * MIB);
	assert_int_equal(r.l.host.use.kv_bytes, 22 * 32 * MIB);
	done(&r);
}

static void a_tied_head_is_copied_to_its_device(void **state)
{
	struct rig r;
	(void)state;
	rig_init(&r);
	r.tensors[2] = r.tensors[--r.m.n_tensors]; /* no output.weight, and one matrix less */
	r.m.tied_output = true;
	add_gpu(&r, 24 * GIB);
	lay(&r);
	assert_int_equal(r.l.devices[0].model_bytes, 32 * 64 * MIB + 8 * MIB + 16384);
	assert_int_equal(r.l.host.use.model_bytes, 8 * MIB);
	r.p.n_gpu_layers = 0;
	lay(&r);
	assert_int_equal(r.l.host.use.model_bytes, 32 * 64 * MIB + 8 * MIB + 16384);
	done(&r);
}

static void quantised_rows_are_padded_on_cuda_only(void **state)
{
	struct rig r;
	(void)state;
	rig_init(&r);
	r.m.n_tensors = 3;
	add_tensor(&r, 0, PL_ROLE_FFN_UP, PL_GROUP_FFN, "blk.0.ffn_up.weight", PL_DTYPE_Q8_0, 896, 16);
	add_gpu(&r, 24 * GIB);
	lay(&r); /* 896 = 512 + 384: 128 more elements, 4 blocks of 34 bytes; then up to 128 */
	assert_int_equal(r.l.devices[0].model_bytes, 8 * MIB + 16384 + (896 / 32 * 34 * 16 + 4 * 34 + 127) / 128 * 128);
	r.dev[0].vendor = PL_VENDOR_UNKNOWN;
	lay(&r);
	assert_int_equal(r.l.devices[0].model_bytes, 8 * MIB + 16384 + 896 / 32 * 34 * 16);
	done(&r);
}

static void a_context_is_rounded_as_the_engine_does(void **state)
{
	struct rig r;
	(void)state;
	rig_init(&r);
	add_gpu(&r, 24 * GIB);
	r.p.n_ctx_tokens = 1000;
	r.p.n_seq = 3;
	lay(&r);
	assert_int_equal(r.l.n_ctx_tokens, 1024); /* 3000 to 3072, a third, to 256 */
	assert_int_equal(r.l.devices[0].kv_bytes, 3 * 1024 * 131072ull);
	r.p.n_ctx_tokens = 1025;
	r.p.kv_unified = true;
	lay(&r);
	assert_int_equal(r.l.devices[0].kv_bytes, 3328 * 131072ull); /* 3075 to 3328 */
	r.p.type_k = r.p.type_v = PL_DTYPE_Q8_0;
	lay(&r);
	assert_int_equal(r.l.devices[0].kv_bytes, 3328 * 131072ull / 64 * 34);
	done(&r);
}

/* A window needs pad256(window × sequences in one stream + micro batch) cells, never more than the context. */
static void windows_keep_few_cells(void **state)
{
	struct rig r;
	(void)state;
	rig_init(&r);
	add_gpu(&r, 24 * GIB);
	for (int i = 0; i < 32; i += 2)
		r.layers[i].window_tokens = 1024;
	lay(&r);
	assert_int_equal(r.l.devices[0].kv_bytes, 16 * 4096 * (8192 + 1536ull));
	assert_int_equal(r.l.kv_bytes_per_token, 65536);
	r.p.n_seq = 4;
	lay(&r);
	assert_int_equal(r.l.devices[0].kv_bytes, 16 * 4096 * 4 * (8192 + 1536ull));
	r.p.kv_unified = true;
	lay(&r);
	assert_int_equal(r.l.devices[0].kv_bytes, 16 * 4096 * (32768 + 4608ull));
	r.p.swa_full = true;
	lay(&r);
	assert_int_equal(r.l.devices[0].kv_bytes, 32 * 4096 * 32768ull);
	done(&r);
}

static void a_latent_cache_has_keys_only(void **state)
{
	struct rig r;
	(void)state;
	rig_init(&r);
	for (int i = 0; i < 32; i++)
		r.layers[i] = (struct pl_layer){.attn = PL_ATTN_MLA, .n_head = 128, .n_head_kv = 1, .d_k = 192, .d_v = 128,
		                                .kv_lora = 512, .d_rope = 64, .kv_from_layer = -1};
	add_gpu(&r, 24 * GIB);
	lay(&r);
	assert_int_equal(r.l.kv_bytes_per_token, 32 * 576 * 2);
	assert_int_equal(r.l.devices[0].kv_bytes, 8192 * 32 * 576 * 2ull);
	done(&r);
}

static void state_is_kept_for_each_sequence(void **state)
{
	struct rig r;
	struct pl_state_row row;
	(void)state;
	rig_init(&r);
	add_gpu(&r, 24 * GIB);
	for (int i = 0; i < 32; i++)
		if (i % 4 != 3)
			r.layers[i] = (struct pl_layer){.rec = PL_REC_DELTANET, .d_conv = 4, .rec_heads = 48, .rec_k_heads = 16,
			                                .rec_d_k = 128, .rec_d_v = 128, .kv_from_layer = -1};
	row = pl_layer_state_row(&r.layers[0]);
	assert_int_equal(row.conv_elems, 3 * (48 * 128 + 2 * 16 * 128));
	assert_int_equal(row.state_elems, 48 * 128 * 128);
	r.p.n_seq = 4;
	lay(&r);
	assert_int_equal(r.l.devices[0].state_bytes, 4 * 4 * 24 * (row.conv_elems + row.state_elems));
	assert_int_equal(r.l.devices[0].kv_bytes, 4 * 8 * 4096 * 8192ull);
	done(&r);
}

static void layers_split_by_free_memory_in_single_precision(void **state)
{
	struct rig r;
	(void)state;
	rig_init(&r);
	add_gpu(&r, 24 * GIB);
	add_gpu(&r, 24 * GIB);
	lay(&r); /* 33 layers with the output: those with i / 33 < 0.5 come first */
	assert_int_equal(r.l.devices[0].n_layers, 17);
	assert_int_equal(r.l.devices[1].n_layers, 15);
	assert_int_equal(r.l.devices[1].model_bytes, 15 * 64 * MIB + 8 * MIB + 16384);
	r.p.tensor_split[0] = 3;
	r.p.tensor_split[1] = 1;
	lay(&r);
	assert_int_equal(r.l.devices[0].n_layers, 25);
	r.p.split_mode = PL_SPLIT_NONE;
	r.p.main_gpu = 1;
	lay(&r);
	assert_int_equal(r.l.devices[0].model_bytes, 0);
	assert_int_equal(r.l.devices[1].n_layers, 32);
	done(&r);
}

static void a_small_card_takes_as_many_layers_as_fit(void **state)
{
	struct rig r;
	(void)state;
	rig_init(&r);
	add_gpu(&r, 2 * GIB);
	lay(&r);
	assert_true(r.l.fits);
	assert_in_range(r.p.n_gpu_layers, 2, 32);
	uint64_t most = r.l.spare_bytes;
	assert_true(most < 96 * MIB); /* not even one layer with its cache more */
	int32_t n = r.p.n_gpu_layers;
	r.p.n_gpu_layers = n + 1;
	lay(&r);
	assert_false(r.l.fits);
	assert_true(r.l.missing_bytes > 0);
	done(&r);
}

static void experts_leave_the_card_before_layers_do(void **state)
{
	struct rig r;
	(void)state;
	rig_init(&r);
	add_gpu(&r, 6 * GIB);
	for (int i = 0; i < 32; i++) {
		add_tensor(&r, i, PL_ROLE_EXPERT_UP, PL_GROUP_EXPERT, "blk.0.ffn_up_exps.weight", PL_DTYPE_F16, 4096, 32768);
		r.layers[i].ffn = PL_FFN_MOE;
		r.layers[i].n_expert = 16;
		r.layers[i].n_expert_used = 2;
		r.layers[i].n_ff_expert = 2048;
	}
	lay(&r); /* all layers take 3 GiB with the cache: some of the 8 GiB of experts stay */
	assert_true(r.l.fits);
	assert_int_equal(r.p.n_gpu_layers, 33);
	assert_in_range(r.p.n_cpu_moe, 22, 28);
	assert_int_equal(r.l.host.use.model_bytes, 8 * MIB + (uint64_t)r.p.n_cpu_moe * 256 * MIB);
	done(&r);
}

static void without_a_gpu_everything_is_in_ram(void **state)
{
	struct rig r;
	(void)state;
	rig_init(&r);
	lay(&r);
	assert_true(r.l.fits);
	assert_int_equal(r.p.n_gpu_layers, 0);
	assert_int_equal(r.l.host.use.kv_bytes, GIB);
	assert_true(r.l.host.rest_bytes > 32 * 64 * MIB + GIB);
	done(&r);
}

static void expect_line(struct rig *r, const char *expected)
{
	struct pl_argv argv;
	char line[1024] = "";
	assert_int_equal(r->e->command(r->a, &r->m, "m.gguf", &r->hw, &r->p, &r->l, &argv, &r->err), 0);
	for (uint32_t i = 0; i < argv.n_words; i++) {
		strcat(line, i ? " " : "");
		strcat(line, argv.words[i]);
	}
	assert_null(argv.words[argv.n_words]);
	assert_string_equal(line, expected);
}

static void the_launch_line_says_what_was_planned(void **state)
{
	struct rig r;
	(void)state;
	rig_init(&r);
	lay(&r);
	expect_line(&r, "llama-server -m m.gguf -c 8192 -np 1 -fa on");
	add_gpu(&r, 24 * GIB);
	add_gpu(&r, 24 * GIB);
	pl_params_default(&r.p);
	r.p.n_ctx_tokens = 4096;
	r.p.n_seq = 4;
	r.p.type_k = r.p.type_v = PL_DTYPE_Q8_0;
	r.p.n_ubatch = 1024;
	r.p.tensor_split[0] = 2;
	r.p.tensor_split[1] = 1.5;
	r.p.no_mmap = true;
	lay(&r);
	expect_line(&r, "llama-server -m m.gguf -c 16384 -np 4 -ngl 33 -ts 2,1.5 -fa on -ctk q8_0 -ctv q8_0 -ub 1024 -lm none "
	                "-fit off");
	done(&r);
}

/* The last of 32 layers drafts: 64 MiB of weights and a cache of its own, both only when asked for. */
static void layers_that_draft_are_loaded_when_asked_for(void **state)
{
	struct rig r;
	uint64_t without, row = 2 * 8 * 128;
	(void)state;
	rig_init(&r);
	add_gpu(&r, 24 * GIB);
	r.m.n_layers = 31;
	r.m.n_layers_mtp = 1;
	r.layers[31].is_mtp = true;
	lay(&r);
	without = r.l.devices[0].model_bytes;
	assert_int_equal(r.l.devices[0].kv_bytes, 31 * 2 * row * 8192);
	uint64_t compute = r.l.devices[0].compute_bytes;
	r.p.draft.mtp = true;
	lay(&r);
	assert_int_equal(r.l.devices[0].model_bytes, without + 64 * MIB);
	assert_int_equal(r.l.devices[0].kv_bytes, 32 * 2 * row * 8192);
	assert_true(r.l.devices[0].compute_bytes > compute);
	/* the cache of the draft has types of its own: 34 bytes for 32 elements against 64 */
	r.p.draft.type_k = r.p.draft.type_v = PL_DTYPE_Q8_0;
	lay(&r);
	assert_int_equal(r.l.devices[0].kv_bytes, (31 * 2 * 32 + 34) * row / 32 * 8192);
	done(&r);
}

static void a_state_is_kept_for_each_drafted_token(void **state)
{
	struct rig r;
	struct pl_state_row row;
	(void)state;
	rig_init(&r);
	add_gpu(&r, 80 * GIB);
	r.m.n_layers = 31;
	r.m.n_layers_mtp = 1;
	r.layers[31].is_mtp = true;
	r.m.arch = "qwen35";
	for (int i = 0; i < 31; i++)
		if (i % 4 != 3)
			r.layers[i] = (struct pl_layer){.rec = PL_REC_DELTANET, .d_conv = 4, .rec_heads = 48, .rec_k_heads = 16,
			                                .rec_d_k = 128, .rec_d_v = 128, .kv_from_layer = -1};
	row = pl_layer_state_row(&r.layers[0]);
	r.p.n_seq = 2;
	r.p.draft.mtp = true;
	lay(&r);
	assert_int_equal(r.l.devices[0].state_bytes, 4 * 2 * (1 + 3) * 24 * (row.conv_elems + row.state_elems));
	r.p.draft.n_max = 1;
	lay(&r);
	assert_int_equal(r.l.devices[0].state_bytes, 4 * 2 * (1 + 1) * 24 * (row.conv_elems + row.state_elems));
	r.m.arch = "qwen3next"; /* cannot go back */
	lay(&r);
	assert_int_equal(r.l.devices[0].state_bytes, 4 * 2 * 24 * (row.conv_elems + row.state_elems));
	done(&r);
}

/* Without flash attention the rows of a layer, 2560 elements, are cut into blocks of 32; with it each head of 80 would be. */
static void quantised_keys_need_whole_heads_for_flash_attention_only(void **state)
{
	struct rig r;
	(void)state;
	rig_init(&r);
	for (int i = 0; i < 32; i++)
		r.layers[i].n_head = r.layers[i].n_head_kv = 32, r.layers[i].d_k = r.layers[i].d_v = 80;
	r.p.type_k = PL_DTYPE_Q4_0;
	r.p.flash_attn = 0;
	lay(&r);
	assert_int_equal(r.l.host.use.kv_bytes, 32 * 8192ull * (2560 / 32 * 18 + 2560 * 2));
	r.p.flash_attn = 1;
	assert_int_equal(r.e->layout(r.a, &r.m, &r.hw, &r.p, &r.l, &r.err), -PL_ERR_UNSUPPORTED);
	r.p.flash_attn = PL_AUTO; /* on until the graph is looked at */
	assert_int_equal(r.e->layout(r.a, &r.m, &r.hw, &r.p, &r.l, &r.err), -PL_ERR_UNSUPPORTED);
	done(&r);
}

static void add_tower_layer(struct pl_model *m, struct pl_tensor *t, const char *const *names)
{
	static const struct {
		uint64_t n0, n1;
	} shapes[] = {{128, 128}, {128, 1}, {128, 128}, {128, 1}, {128, 128}, {128, 1}, {128, 128}, {128, 1}, {128, 1}, {128, 1},
	              {128, 1},   {128, 1}, {128, 512}, {512, 1}, {512, 128}, {128, 1}};
	for (int i = 0; i < 16; i++)
		t[m->n_tensors++] = (struct pl_tensor){.name = names[i], .ne = {shapes[i].n0, shapes[i].n1, 1, 1}, .n_dims = 2,
		                                       .type = shapes[i].n1 > 1 ? PL_DTYPE_F16 : PL_DTYPE_F32, .layer = -1,
		                                       .bytes = shapes[i].n0 * shapes[i].n1 * (shapes[i].n1 > 1 ? 2 : 4)};
}

#define LAYER(n)                                                                                                               \
	{"v.blk." #n ".attn_q.weight",   "v.blk." #n ".attn_q.bias",   "v.blk." #n ".attn_k.weight",   "v.blk." #n ".attn_k.bias",   \
	 "v.blk." #n ".attn_v.weight",   "v.blk." #n ".attn_v.bias",   "v.blk." #n ".attn_out.weight", "v.blk." #n ".attn_out.bias", \
	 "v.blk." #n ".ln1.weight",      "v.blk." #n ".ln1.bias",      "v.blk." #n ".ln2.weight",      "v.blk." #n ".ln2.bias",      \
	 "v.blk." #n ".ffn_up.weight",   "v.blk." #n ".ffn_up.bias",   "v.blk." #n ".ffn_down.weight", "v.blk." #n ".ffn_down.bias"}

/* llama-server of build 11669 says of towers of these shapes, four layers of 128 with 512 within: 3.50 MiB for 32 × 32 patches
 * of a fixed picture, 35.65 MiB for the 92 × 92 that two frames are warmed up with ("reserve_compute_meta: CPU compute buffer
 * size"). */
static void a_tower_computes_on_its_device(void **state)
{
	static const char *const names[4][16] = {LAYER(0), LAYER(1), LAYER(2), LAYER(3)};
	struct pl_tensor t[80] = {0};
	struct pl_model tower = {.name = "tower", .arch = "clip", .tensors = t};
	struct rig r;
	(void)state;
	rig_init(&r);
	add_gpu(&r, 24 * GIB);
	lay(&r);
	uint64_t gpu = r.l.devices[0].compute_bytes, host = r.l.host.use.compute_bytes;
	t[tower.n_tensors++] = (struct pl_tensor){.name = "v.patch_embd.weight", .ne = {14, 14, 3, 128}, .n_dims = 4, .type = PL_DTYPE_F16, .layer = -1};
	t[tower.n_tensors++] = (struct pl_tensor){.name = "v.position_embd.weight", .ne = {128, 1024, 1, 1}, .n_dims = 2, .type = PL_DTYPE_F32, .layer = -1};
	for (int i = 0; i < 4; i++)
		add_tower_layer(&tower, t, names[i]);
	r.p.mmproj = &tower;
	r.p.mmproj_on_cpu = true;
	lay(&r);
	assert_int_equal(r.l.devices[0].compute_bytes, gpu);
	assert_int_equal(((r.l.host.use.compute_bytes - host) * 100 + MIB / 2) / MIB, 350);
	r.p.mmproj_on_cpu = false;
	lay(&r);
	assert_true(r.l.devices[0].compute_bytes - gpu >= 349 * MIB / 100);
	t[1] = t[0];
	t[1].name = "v.patch_embd.weight.1";
	r.p.mmproj_on_cpu = true;
	lay(&r);
	assert_int_equal(((r.l.host.use.compute_bytes - host) * 100 + MIB / 2) / MIB, 3565);
	done(&r);
}

/* A matrix of 64 MiB goes to a CUDA card in four pieces of 1 MiB, to others whole; a mapped file needs neither. */
static void reading_takes_ram_on_the_way_to_a_card(void **state)
{
	struct rig r;
	(void)state;
	rig_init(&r);
	add_gpu(&r, 24 * GIB);
	lay(&r);
	assert_int_equal(r.l.host.peak_load_bytes, r.l.host.rest_bytes);
	r.p.no_mmap = true;
	lay(&r);
	assert_int_equal(r.l.host.peak_load_bytes, r.l.host.rest_bytes + 4 * MIB);
	r.dev[0].vendor = PL_VENDOR_OTHER;
	lay(&r);
	assert_int_equal(r.l.host.peak_load_bytes, r.l.host.rest_bytes + 64 * MIB);
	r.p.n_gpu_layers = 0;
	lay(&r);
	assert_int_equal(r.l.host.peak_load_bytes, r.l.host.rest_bytes);
	done(&r);
}

static void impossible_requests_are_refused(void **state)
{
	struct rig r;
	(void)state;
	rig_init(&r);
	r.p.n_seq = 0;
	assert_int_equal(r.e->layout(r.a, &r.m, &r.hw, &r.p, &r.l, &r.err), -PL_ERR_RANGE);
	r.p.n_seq = 1;
	r.p.tensor_split[0] = -1;
	assert_int_equal(r.e->layout(r.a, &r.m, &r.hw, &r.p, &r.l, &r.err), -PL_ERR_RANGE);
	r.p.tensor_split[0] = 0;
	r.p.type_v = PL_DTYPE_Q8_0;
	r.p.flash_attn = 0;
	assert_int_equal(r.e->layout(r.a, &r.m, &r.hw, &r.p, &r.l, &r.err), -PL_ERR_UNSUPPORTED);
	r.p.type_v = PL_DTYPE_Q6_K;
	assert_int_equal(r.e->layout(r.a, &r.m, &r.hw, &r.p, &r.l, &r.err), -PL_ERR_UNSUPPORTED);
	r.p.type_v = PL_DTYPE_F16;
	r.p.draft.mtp = true; /* no layers to draft with */
	assert_int_equal(r.e->layout(r.a, &r.m, &r.hw, &r.p, &r.l, &r.err), -PL_ERR_UNSUPPORTED);
	done(&r);
}

static void what_does_not_run_is_said(void **state)
{
	struct rig r;
	const char *why = NULL;
	(void)state;
	rig_init(&r);
	assert_int_equal(r.e->supports(r.a, &r.m, &r.hw, &why), PL_SUPPORT_YES);
	r.m.arch = "nothing";
	assert_int_equal(r.e->supports(r.a, &r.m, &r.hw, &why), PL_SUPPORT_NO);
	r.m.arch = "llama";
	r.tensors[3].type = PL_DTYPE_INT4;
	r.m.quant_name = "gptq-int4";
	assert_int_equal(r.e->supports(r.a, &r.m, &r.hw, &why), PL_SUPPORT_NO);
	assert_non_null(strstr(why, "gptq-int4"));
	done(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(weights_stand_where_the_engine_puts_them),
	    cmocka_unit_test(layers_go_to_the_gpu_from_the_end),
	    cmocka_unit_test(a_tied_head_is_copied_to_its_device),
	    cmocka_unit_test(quantised_rows_are_padded_on_cuda_only),
	    cmocka_unit_test(a_context_is_rounded_as_the_engine_does),
	    cmocka_unit_test(windows_keep_few_cells),
	    cmocka_unit_test(a_latent_cache_has_keys_only),
	    cmocka_unit_test(state_is_kept_for_each_sequence),
	    cmocka_unit_test(layers_split_by_free_memory_in_single_precision),
	    cmocka_unit_test(a_small_card_takes_as_many_layers_as_fit),
	    cmocka_unit_test(experts_leave_the_card_before_layers_do),
	    cmocka_unit_test(without_a_gpu_everything_is_in_ram),
	    cmocka_unit_test(the_launch_line_says_what_was_planned),
	    cmocka_unit_test(layers_that_draft_are_loaded_when_asked_for),
	    cmocka_unit_test(a_state_is_kept_for_each_drafted_token),
	    cmocka_unit_test(quantised_keys_need_whole_heads_for_flash_attention_only),
	    cmocka_unit_test(a_tower_computes_on_its_device),
	    cmocka_unit_test(reading_takes_ram_on_the_way_to_a_card),
	    cmocka_unit_test(impossible_requests_are_refused),
	    cmocka_unit_test(what_does_not_run_is_said),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
