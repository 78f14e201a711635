#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "model/arch_traits.h"
#include "model/gguf_write.h"

/* A header written key by key, read back by the reader proper. */
struct file {
	struct pl_arena *a;
	struct pl_gguf_out o;
	struct pl_tensor_list tensors;
	struct pl_model m;
	struct pl_err err;
	char key[96];
	const char *arch;
};

static void open_file(struct file *f, const char *arch)
{
	memset(f, 0, sizeof *f);
	f->a = pl_arena_new(0);
	f->o.a = f->tensors.a = f->a;
	f->arch = arch;
	pl_gguf_put_str(&f->o, "general.architecture", arch);
}

static const char *key(struct file *f, const char *suffix)
{
	snprintf(f->key, sizeof f->key, "%s.%s", f->arch, suffix);
	return f->key;
}

static void u32(struct file *f, const char *suffix, uint32_t v)
{
	pl_gguf_put_u32(&f->o, key(f, suffix), v);
}

static void u32s(struct file *f, const char *suffix, const uint32_t *v, uint32_t n)
{
	pl_gguf_put_u32s(&f->o, key(f, suffix), v, n);
}

static void basics(struct file *f, const char *arch, uint32_t n_layers, uint32_t n_embd, uint32_t n_head, uint32_t n_kv)
{
	open_file(f, arch);
	u32(f, "block_count", n_layers);
	u32(f, "embedding_length", n_embd);
	u32(f, "context_length", 8192);
	u32(f, "feed_forward_length", 4 * n_embd);
	if (n_head) {
		u32(f, "attention.head_count", n_head);
		u32(f, "attention.head_count_kv", n_kv);
	}
}

static void tensor(struct file *f, const char *name, uint64_t ne0, uint64_t ne1, uint64_t ne2)
{
	struct pl_tensor *t = pl_tensor_add(&f->tensors);
	t->name = pl_arena_strdup(f->a, name);
	t->type = PL_DTYPE_F16;
	t->ne[0] = ne0;
	t->ne[1] = ne1;
	t->ne[2] = ne2;
	t->n_dims = ne2 > 1 ? 3 : ne1 > 1 ? 2 : 1;
	t->n_elems = ne0 * ne1 * ne2;
	t->bytes = 2 * t->n_elems;
}

static int read_file(struct file *f)
{
	const uint8_t *header;
	uint64_t header_bytes, data_bytes;
	struct pl_gguf g;
	assert_int_equal(
	    pl_gguf_finish(&f->o, f->tensors.items, f->tensors.n, &header, &header_bytes, &data_bytes, &f->err), 0);
	struct pl_bytes part = {header, header_bytes, header_bytes + data_bytes, "test.gguf"};
	int r = pl_gguf_parse(f->a, &part, 1, &g, &f->err);
	if (r)
		print_error("%s\n", f->err.msg);
	assert_int_equal(r, 0);
	return pl_layers_from_gguf(f->a, &g, &f->m, &f->err);
}

static void close_file(struct file *f)
{
	pl_arena_free(f->a);
}

/* One character a layer: A full attention, w window, c chunk, m recurrent, B both, - neither; capitals S: shared cache.
 */
static const char *kinds(const struct pl_model *m)
{
	static char s[600];
	for (uint32_t i = 0; i < m->n_layers; i++) {
		const struct pl_layer *l = &m->layers[i];
		bool attn = l->attn != PL_ATTN_NONE, rec = l->rec != PL_REC_NONE;
		s[i] = attn && rec         ? 'B'
		       : rec               ? 'm'
		       : !attn             ? '-'
		       : l->window_chunked ? 'c'
		       : l->window_tokens  ? 'w'
		                           : 'A';
	}
	s[m->n_layers] = 0;
	return s;
}

static void test_plain(void **state)
{
	(void)state;
	struct file f;
	basics(&f, "llama", 32, 4096, 32, 8);
	u32(&f, "attention.sliding_window", 4096); /* Mistral 7B v0.1 says so; llama.cpp does not look */
	tensor(&f, "token_embd.weight", 4096, 128256, 1);
	tensor(&f, "blk.3.ffn_gate.weight", 4096, 14336, 1);
	tensor(&f, "blk.3.ffn_up.weight", 4096, 14336, 1);
	tensor(&f, "blk.3.ffn_down.weight", 14336, 4096, 1);
	tensor(&f, "blk.4.ffn_up.weight", 4096, 28672, 1);
	tensor(&f, "blk.4.ffn_down.weight", 14336, 4096, 1);
	tensor(&f, "blk.5.ffn_up.weight", 4096, 16384, 1);
	tensor(&f, "blk.5.ffn_down.weight", 16384, 4096, 1);
	assert_int_equal(read_file(&f), 0);
	assert_true(f.m.arch_known);
	assert_string_equal(f.m.arch, "llama");
	assert_string_equal(kinds(&f.m), "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
	assert_int_equal(f.m.n_layers, 32);
	assert_int_equal(f.m.n_embd, 4096);
	assert_int_equal(f.m.n_vocab, 128256);
	assert_int_equal(f.m.n_ctx_train, 8192);
	assert_true(f.m.tied_output);
	const struct pl_layer *l = &f.m.layers[3];
	assert_int_equal(l->n_head, 32);
	assert_int_equal(l->n_head_kv, 8);
	assert_int_equal(l->d_k, 128);
	assert_int_equal(l->d_v, 128);
	assert_int_equal(l->kv_from_layer, -1);
	assert_int_equal(l->ffn, PL_FFN_GATED);
	assert_int_equal(l->n_ff, 14336);
	assert_int_equal(f.m.layers[4].ffn, PL_FFN_GATED); /* gate and up in one matrix */
	assert_int_equal(f.m.layers[4].n_ff, 14336);
	assert_int_equal(f.m.layers[5].ffn, PL_FFN_PLAIN);
	close_file(&f);
}

static void test_windows(void **state)
{
	(void)state;
	static const struct {
		const char *arch;
		uint32_t n_layers, window, period; /* 0: key absent */
		const char *kinds;
		uint32_t want_window;
	} rows[] = {
	    {"gemma2", 6, 4096, 0, "wAwAwA", 4096},
	    {"gemma2", 6, 0, 0, "wAwAwA", 4096},
	    {"gemma3", 12, 1024, 0, "wwwwwAwwwwwA", 1024},
	    {"gemma3", 6, 0, 0, "AAAAAA", 0},
	    {"gemma3", 6, 512, 3, "wwAwwA", 512},
	    {"cohere2", 8, 4096, 0, "wwwAwwwA", 4096},
	    {"gpt-oss", 4, 128, 0, "wAwA", 128},
	    {"phi3", 4, 2047, 0, "AAAA", 0},
	    {"olmo2", 8, 4096, 0, "wwwAwwwA", 4096},
	    {"olmo2", 4, 0, 0, "AAAA", 0},
	    {"smallthinker", 8, 1024, 0, "AwwwAwww", 4096},
	    {"laguna", 8, 512, 0, "AwwwAwww", 512},
	    {"llama4", 8, 0, 0, "cccAcccA", 8192},
	    {"llama4", 8, 4096, 0, "cccAcccA", 8192},
	    {"exaone4", 30, 4096, 0, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", 0},
	    {"plamo3", 8, 2048, 0, "wwwwwwwA", 2048},
	    {"qwen2", 4, 32768, 0, "AAAA", 0},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct file f;
		basics(&f, rows[i].arch, rows[i].n_layers, 512, 8, 2);
		if (rows[i].window)
			u32(&f, "attention.sliding_window", rows[i].window);
		if (rows[i].period)
			u32(&f, "attention.sliding_window_pattern", rows[i].period);
		assert_int_equal(read_file(&f), 0);
		assert_string_equal(kinds(&f.m), rows[i].kinds);
		for (uint32_t k = 0; k < f.m.n_layers; k++)
			assert_int_equal(f.m.layers[k].window_tokens,
			                 rows[i].kinds[k] == 'A' ? 0 : rows[i].want_window);
		close_file(&f);
	}
}

static void test_exaone4_32b_slides(void **state)
{
	(void)state;
	struct file f;
	basics(&f, "exaone4", 64, 5120, 40, 8);
	assert_int_equal(read_file(&f), 0);
	assert_int_equal(f.m.layers[0].window_tokens, 4096);
	assert_int_equal(f.m.layers[3].window_tokens, 0);
	assert_false(f.m.layers[0].no_rope);
	assert_true(f.m.layers[3].no_rope);
	close_file(&f);
}

static void test_llama4_switched_off(void **state)
{
	(void)state;
	struct file f;
	basics(&f, "llama4", 8, 512, 8, 2);
	u32(&f, "attention.sliding_window", 0);
	assert_int_equal(read_file(&f), 0);
	assert_string_equal(kinds(&f.m), "AAAAAAAA");
	assert_false(f.m.layers[3].no_rope);
	close_file(&f);
}

static void test_pattern_array_and_shared_caches(void **state)
{
	(void)state;
	struct file f;
	const bool at[] = {true, true, false, true, false, true, false, true};
	const uint32_t kv[] = {4, 4, 2, 4, 2, 4, 2, 4};
	open_file(&f, "gemma4");
	u32(&f, "block_count", 8);
	u32(&f, "embedding_length", 512);
	u32(&f, "attention.head_count", 8);
	u32s(&f, "attention.head_count_kv", kv, 8);
	u32(&f, "attention.sliding_window", 512);
	pl_gguf_put_bools(&f.o, key(&f, "attention.sliding_window_pattern"), at, 8);
	u32(&f, "attention.key_length", 256);
	u32(&f, "attention.value_length", 256);
	u32(&f, "attention.key_length_swa", 128);
	u32(&f, "attention.value_length_swa", 128);
	u32(&f, "attention.shared_kv_layers", 3);
	u32(&f, "embedding_length_per_layer_input", 64);
	assert_int_equal(read_file(&f), 0);
	assert_string_equal(kinds(&f.m), "wwAwAwAw");
	assert_int_equal(f.m.layers[0].d_k, 128);
	assert_int_equal(f.m.layers[2].d_k, 256);
	assert_int_equal(f.m.layers[2].n_head_kv, 2);
	assert_int_equal(f.m.layers[4].kv_from_layer, -1);
	assert_int_equal(f.m.layers[5].kv_from_layer, 3); /* sliding: 5 - 2 */
	assert_int_equal(f.m.layers[6].kv_from_layer, 4); /* full: 5 - 1 */
	assert_int_equal(f.m.d_per_layer_embed, 64);
	close_file(&f);
}

/* Built from a config, Mistral 7B v0.1 and Phi-3 have windows that llama.cpp does not use; Gemma 2 keeps its own. */
static void test_windows_as_llamacpp_sees_them(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	const struct pl_layer layers[2] = {{.attn = PL_ATTN_GQA, .window_tokens = 4096}, {.attn = PL_ATTN_GQA}};
	struct pl_model m = {.arch = "llama", .layers = layers, .n_layers = 2};
	const struct pl_model *v = pl_arch_view(a, &m);
	assert_ptr_not_equal(v, &m);
	assert_int_equal(v->layers[0].window_tokens, 0);
	m.arch = "phi3";
	assert_int_equal(pl_arch_view(a, &m)->layers[0].window_tokens, 0);
	m.arch = "gemma2";
	assert_ptr_equal(pl_arch_view(a, &m), &m);
	m.arch = "exaone4"; /* 2 layers: not the 32B */
	assert_int_equal(pl_arch_view(a, &m)->layers[0].window_tokens, 0);
	pl_arena_free(a);
}

static void test_latent(void **state)
{
	(void)state;
	for (int legacy = 0; legacy < 2; legacy++) { /* DeepSeek-R1's numbers */
		struct file f;
		basics(&f, "deepseek2", 3, 7168, 128, legacy ? 128 : 1);
		u32(&f, "attention.key_length", legacy ? 192 : 576);
		u32(&f, "attention.value_length", legacy ? 128 : 512);
		if (!legacy) {
			u32(&f, "attention.key_length_mla", 192);
			u32(&f, "attention.value_length_mla", 128);
		}
		u32(&f, "attention.q_lora_rank", 1536);
		u32(&f, "attention.kv_lora_rank", 512);
		u32(&f, "rope.dimension_count", 64);
		assert_int_equal(read_file(&f), 0);
		const struct pl_layer *l = &f.m.layers[1];
		assert_int_equal(l->attn, legacy ? PL_ATTN_GQA : PL_ATTN_MLA);
		assert_int_equal(l->n_head_kv, legacy ? 128 : 1);
		assert_int_equal(l->d_k, 192);
		assert_int_equal(l->d_v, 128);
		assert_int_equal(l->kv_lora, 512);
		assert_int_equal(l->q_lora, 1536);
		assert_int_equal(l->d_rope, 64);
		assert_int_equal(l->d_nope, 128);
		close_file(&f);
	}
}

static void ssm(struct file *f, uint32_t conv, uint32_t inner, uint32_t state_size, uint32_t rank, uint32_t groups)
{
	u32(f, "ssm.conv_kernel", conv);
	u32(f, "ssm.inner_size", inner);
	u32(f, "ssm.state_size", state_size);
	u32(f, "ssm.time_step_rank", rank);
	u32(f, "ssm.group_count", groups);
}

static void test_recurrent_and_hybrid(void **state)
{
	(void)state;
	struct file f;
	basics(&f, "mamba", 4, 2560, 0, 0);
	ssm(&f, 4, 5120, 16, 160, 0);
	assert_int_equal(read_file(&f), 0);
	assert_string_equal(kinds(&f.m), "mmmm");
	assert_int_equal(f.m.layers[0].rec, PL_REC_MAMBA1);
	assert_int_equal(f.m.layers[0].dt_rank, 160);
	close_file(&f);

	basics(&f, "falcon-h1", 3, 1024, 8, 2);
	ssm(&f, 4, 1536, 128, 24, 1);
	assert_int_equal(read_file(&f), 0);
	assert_string_equal(kinds(&f.m), "BBB");
	assert_int_equal(f.m.layers[0].rec_heads, 24);
	close_file(&f);

	/* Qwen3-Next 80B-A3B: 16 key heads and 32 value heads of 128 */
	basics(&f, "qwen3next", 8, 2048, 16, 2);
	u32(&f, "attention.key_length", 256);
	u32(&f, "attention.value_length", 256);
	ssm(&f, 4, 4096, 128, 32, 16);
	assert_int_equal(read_file(&f), 0);
	assert_string_equal(kinds(&f.m), "mmmAmmmA");
	assert_int_equal(f.m.layers[0].rec_k_heads, 16);
	assert_int_equal(f.m.layers[0].rec_d_v, 128);
	assert_true(f.m.layers[3].q_gated);
	close_file(&f);

	const uint32_t kv[] = {0, 0, 8, 0}, ff[] = {0, 1000, 0, 0};
	open_file(&f, "nemotron_h");
	u32(&f, "block_count", 4);
	u32(&f, "embedding_length", 1024);
	u32(&f, "attention.head_count", 16);
	u32s(&f, "attention.head_count_kv", kv, 4);
	u32s(&f, "feed_forward_length", ff, 4);
	ssm(&f, 4, 2048, 128, 32, 8);
	assert_int_equal(read_file(&f), 0);
	assert_string_equal(kinds(&f.m), "m-Am");
	close_file(&f);

	const uint32_t lfm[] = {0, 8, 0, 8};
	open_file(&f, "lfm2");
	u32(&f, "block_count", 4);
	u32(&f, "embedding_length", 2048);
	u32(&f, "attention.head_count", 32);
	u32s(&f, "attention.head_count_kv", lfm, 4);
	u32(&f, "shortconv.l_cache", 3);
	assert_int_equal(read_file(&f), 0);
	assert_string_equal(kinds(&f.m), "mAmA");
	assert_int_equal(f.m.layers[0].d_conv, 3);
	assert_int_equal(f.m.layers[0].d_inner, 2048);
	close_file(&f);
}

static void test_prediction_layers_and_experts(void **state)
{
	(void)state;
	struct file f;
	basics(&f, "glm4moe", 4, 1024, 16, 2);
	u32(&f, "nextn_predict_layers", 1);
	u32(&f, "expert_count", 8);
	u32(&f, "expert_used_count", 2);
	u32(&f, "expert_shared_count", 1);
	u32(&f, "expert_feed_forward_length", 256);
	tensor(&f, "token_embd.weight", 1024, 5000, 1);
	tensor(&f, "output.weight", 1024, 5000, 1);
	tensor(&f, "blk.0.ffn_gate.weight", 1024, 4096, 1);
	tensor(&f, "blk.0.ffn_up.weight", 1024, 4096, 1);
	tensor(&f, "blk.0.ffn_down.weight", 4096, 1024, 1);
	tensor(&f, "blk.1.ffn_gate_inp.weight", 1024, 8, 1);
	tensor(&f, "blk.1.ffn_down_exps.weight", 256, 1024, 8);
	tensor(&f, "blk.1.ffn_down_shexp.weight", 256, 1024, 1);
	tensor(&f, "blk.3.attn_q.weight", 1024, 1024, 1);
	assert_int_equal(read_file(&f), 0);
	assert_int_equal(f.m.n_layers, 3);
	assert_int_equal(f.m.n_layers_mtp, 1);
	assert_true(f.m.layers[3].is_mtp);
	assert_false(f.m.tied_output);
	assert_int_equal(f.m.layers[0].ffn, PL_FFN_GATED);
	assert_int_equal(f.m.layers[1].ffn, PL_FFN_MOE);
	assert_int_equal(f.m.layers[1].n_expert, 8);
	assert_int_equal(f.m.layers[1].n_expert_used, 2);
	assert_int_equal(f.m.layers[1].n_ff_expert, 256);
	assert_int_equal(f.m.layers[1].n_ff_shared, 256);
	assert_int_equal(f.m.layers[1].n_expert_shared, 1);
	close_file(&f);
}

static void test_encoder(void **state)
{
	(void)state;
	struct file f;
	basics(&f, "bert", 12, 768, 12, 12);
	tensor(&f, "token_embd.weight", 768, 30522, 1);
	assert_int_equal(read_file(&f), 0);
	assert_true(f.m.is_embedding);
	assert_true(f.m.no_kv_cache);
	assert_false(f.m.tied_output);
	close_file(&f);
}

static void test_unknown(void **state)
{
	(void)state;
	struct file f;
	basics(&f, "brandnew", 4, 512, 8, 2);
	tensor(&f, "blk.0.strange.weight", 512, 512, 1);
	assert_int_equal(read_file(&f), 0);
	assert_false(f.m.arch_known);
	assert_int_equal(f.m.n_layers, 4);
	assert_string_equal(kinds(&f.m), "AAAA");
	assert_non_null(strstr(f.m.notes->text, "'brandnew' is not known"));
	close_file(&f);

	open_file(&f, "clip"); /* a projector: no layers, no error */
	tensor(&f, "v.blk.0.attn_q.weight", 64, 64, 1);
	assert_int_equal(read_file(&f), 0);
	assert_false(f.m.arch_known);
	assert_non_null(strstr(f.m.notes->text, "not a language model"));
	close_file(&f);

	open_file(&f, "llama"); /* a LoRA adapter */
	pl_gguf_put_str(&f.o, "general.type", "adapter");
	tensor(&f, "blk.0.attn_q.weight.lora_a", 64, 8, 1);
	assert_int_equal(read_file(&f), 0);
	assert_non_null(strstr(f.m.notes->text, "'adapter'"));
	close_file(&f);
}

static void expect_fault(struct file *f, enum pl_err_code code, const char *words)
{
	int r = read_file(f);
	if (r != -(int)code || !strstr(f->err.msg, words))
		print_error("%d %s\n", r, f->err.msg);
	assert_int_equal(r, -(int)code);
	assert_non_null(strstr(f->err.msg, words));
	close_file(f);
}

static void test_hostile(void **state)
{
	(void)state;
	struct file f;
	basics(&f, "llama", 1000000000, 4096, 32, 8);
	expect_fault(&f, PL_ERR_RANGE, "'llama.block_count' is 1000000000, the limit is 1024");
	basics(&f, "llama", 0, 4096, 32, 8);
	expect_fault(&f, PL_ERR_RANGE, "'llama.block_count' is 0");
	open_file(&f, "llama");
	expect_fault(&f, PL_ERR_FORMAT, "'llama.block_count' is missing");
	basics(&f, "llama", 2, 4096, 33, 11);
	expect_fault(&f, PL_ERR_FORMAT, "an embedding of 4096 does not divide into 33 heads");
	basics(&f, "llama", 2, 4096, 32, 7);
	expect_fault(&f, PL_ERR_FORMAT, "32 heads, not a multiple of its 7 KV heads");
	basics(&f, "llama", 2, 4096, 0, 0);
	u32(&f, "attention.head_count_kv", 8);
	expect_fault(&f, PL_ERR_FORMAT, "8 KV heads but no attention heads");
	basics(&f, "llama", 2, 4096, 32, 8);
	u32(&f, "nextn_predict_layers", 2);
	expect_fault(&f, PL_ERR_FORMAT, "2 prediction layers leave no layer of 2");
	basics(&f, "llama", 2, 4096, 32, 8);
	tensor(&f, "token_embd.weight", 2048, 100, 1);
	expect_fault(&f, PL_ERR_FORMAT, "rows of 2048 elements, the metadata says 4096");

	const uint32_t three[] = {8, 8, 8};
	open_file(&f, "llama");
	u32(&f, "block_count", 4);
	u32(&f, "embedding_length", 1024);
	u32s(&f, "attention.head_count", three, 3);
	expect_fault(&f, PL_ERR_FORMAT, "has 3 elements, the model has 4 layers");
	basics(&f, "qwen35", 4, 1024, 8, 2);
	ssm(&f, 4, 1024, 128, 8, 4);
	u32(&f, "full_attention_interval", 0);
	expect_fault(&f, PL_ERR_RANGE, "'qwen35.full_attention_interval' is 0");
	basics(&f, "mamba2", 4, 1024, 0, 0);
	ssm(&f, 4, 1000, 128, 24, 1);
	expect_fault(&f, PL_ERR_FORMAT, "an inner size of 1000 does not divide into 24");
	basics(&f, "mamba2", 4, 1024, 0, 0);
	expect_fault(&f, PL_ERR_FORMAT, "'mamba2.ssm.conv_kernel' is missing");
	basics(&f, "mimo2", 4, 1024, 8, 2);
	u32(&f, "attention.sliding_window", 128);
	expect_fault(&f, PL_ERR_FORMAT, "'mimo2.attention.sliding_window_pattern' is missing");
	basics(&f, "deepseek2", 4, 1024, 8, 1);
	u32(&f, "attention.key_length_mla", 192);
	expect_fault(&f, PL_ERR_FORMAT, "latent attention needs");
	basics(&f, "llama", 4, 1024, 8, 2);
	pl_gguf_put_str(&f.o, "llama.context_length.x", "");
	pl_gguf_put_str(&f.o, "llama.attention.key_length", "wide");
	expect_fault(&f, PL_ERR_FORMAT, "'llama.attention.key_length' must be a whole number");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_plain),
	    cmocka_unit_test(test_windows),
	    cmocka_unit_test(test_exaone4_32b_slides),
	    cmocka_unit_test(test_llama4_switched_off),
	    cmocka_unit_test(test_pattern_array_and_shared_caches),
	    cmocka_unit_test(test_windows_as_llamacpp_sees_them),
	    cmocka_unit_test(test_latent),
	    cmocka_unit_test(test_recurrent_and_hybrid),
	    cmocka_unit_test(test_prediction_layers_and_experts),
	    cmocka_unit_test(test_encoder),
	    cmocka_unit_test(test_unknown),
	    cmocka_unit_test(test_hostile),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
