#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <plimsoll/catalog.h>
#include <plimsoll/synth.h>

#include "model/arch_traits.h"
#include "model/build.h"
#include "graph_check.h"

static void add(struct pl_tensor_list *list, int32_t il, enum pl_role role, uint64_t ne0, uint64_t ne1,
                enum pl_dtype type)
{
	struct pl_tensor *t = pl_tensor_add(list);
	t->name = pl_role_info(role)->hf_name;
	t->role = role;
	t->group = pl_role_info(role)->group;
	t->layer = il;
	t->ne[0] = ne0;
	t->ne[1] = ne1;
	t->n_dims = ne1 > 1 ? 2 : 1;
	t->type = ne1 > 1 ? type : PL_DTYPE_F32;
}

enum { N_LAYERS = 3, N_EMBD = 256, N_FF = 512, N_VOCAB = 1000 };

/* A small llama with an MTP layer and a tower, which the file must not hold. */
static const struct pl_model *small_model(struct pl_arena *a, enum pl_dtype type)
{
	struct pl_model *m = PL_NEW(a, struct pl_model);
	struct pl_layer *layers = PL_NEW_N(a, struct pl_layer, N_LAYERS + 1);
	struct pl_tensor_list list = {.a = a};
	add(&list, -1, PL_ROLE_TOKEN_EMBD, N_EMBD, N_VOCAB, type);
	add(&list, -1, PL_ROLE_OUTPUT_NORM, N_EMBD, 1, type);
	add(&list, -1, PL_ROLE_OUTPUT, N_EMBD, N_VOCAB, type);
	add(&list, -1, PL_ROLE_VISION, N_EMBD, 7, PL_DTYPE_BF16);
	for (int i = 0; i <= N_LAYERS; i++) {
		layers[i] = (struct pl_layer){.attn = PL_ATTN_GQA,
		                              .n_head = 4,
		                              .n_head_kv = 2,
		                              .d_k = 64,
		                              .d_v = 64,
		                              .kv_from_layer = -1,
		                              .ffn = PL_FFN_GATED,
		                              .n_ff = N_FF,
		                              .is_mtp = i == N_LAYERS};
		add(&list, i, PL_ROLE_ATTN_NORM, N_EMBD, 1, type);
		add(&list, i, PL_ROLE_ATTN_Q, N_EMBD, 256, type);
		add(&list, i, PL_ROLE_ATTN_K, N_EMBD, 128, type);
		add(&list, i, PL_ROLE_ATTN_V, N_EMBD, 128, type);
		add(&list, i, PL_ROLE_ATTN_OUT, 256, N_EMBD, type);
		add(&list, i, PL_ROLE_FFN_NORM, N_EMBD, 1, type);
		add(&list, i, PL_ROLE_FFN_GATE, N_EMBD, N_FF, type);
		add(&list, i, PL_ROLE_FFN_UP, N_EMBD, N_FF, type);
		add(&list, i, PL_ROLE_FFN_DOWN, N_FF, N_EMBD, type);
	}
	for (uint32_t i = 0; i < list.n; i++)
		if (list.items[i].layer == N_LAYERS)
			list.items[i].group = PL_GROUP_MTP;
	*m = (struct pl_model){.name = "small",
	                       .arch = "llama",
	                       .arch_known = true,
	                       .layers = layers,
	                       .n_layers = N_LAYERS,
	                       .n_layers_mtp = 1,
	                       .n_embd = N_EMBD,
	                       .n_vocab = N_VOCAB,
	                       .n_ctx_train = 2048,
	                       .tensors = list.items,
	                       .n_tensors = list.n};
	return m;
}

static char dir[64];

static int make_dir(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/plimsoll-synth-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	(void)state;
	return rmdir(dir); /* fails when a test left something behind */
}

static const char *path(const char *name)
{
	static char p[128];
	snprintf(p, sizeof p, "%s/%s", dir, name);
	return p;
}

static uint8_t *slurp(const char *p, size_t *len)
{
	struct stat st;
	int fd = open(p, O_RDONLY);
	assert_true(fd >= 0 && fstat(fd, &st) == 0);
	uint8_t *data = malloc((size_t)st.st_size);
	assert_int_equal(read(fd, data, (size_t)st.st_size), st.st_size);
	close(fd);
	*len = (size_t)st.st_size;
	return data;
}

static void test_read_back(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	struct pl_synth s;
	struct pl_err err = {0};
	const struct pl_model *m;
	const struct pl_synth_params p = {0};
	assert_int_equal(pl_synth_make(a, small_model(a, PL_DTYPE_Q8_0), &p, &s, &err), 0);
	assert_int_equal(s.n_tensors, 3 + 9 * N_LAYERS);
	assert_int_equal(s.header_bytes % 32, 0);
	for (uint32_t i = 0; i < s.n_tensors; i++)
		assert_int_equal(s.tensors[i].offset_bytes % 32, 0);
	assert_int_equal(pl_synth_write(&s, path("a.gguf"), 0, &err), 0);
	size_t len;
	uint8_t *data = slurp(path("a.gguf"), &len);
	assert_int_equal(len, s.file_bytes);
	struct pl_bytes part = {data, len, len, "a.gguf"};
	assert_int_equal(pl_model_from_gguf(a, &part, 1, &m, &err), 0);
	assert_true(m->arch_known);
	assert_null(m->notes);
	assert_null(graph_fault(m));
	assert_int_equal(m->n_layers, N_LAYERS);
	assert_int_equal(m->n_layers_mtp, 0);
	assert_int_equal(m->layers[1].n_head_kv, 2);
	assert_int_equal(m->layers[1].d_k, 64);
	assert_int_equal(m->n_vocab, N_VOCAB);
	assert_int_equal(m->n_params,
	                 2 * N_EMBD * N_VOCAB + N_EMBD +
	                     N_LAYERS * (2 * N_EMBD + 2 * N_EMBD * 256 + 2 * N_EMBD * 128 + 3 * N_EMBD * N_FF));
	free(data);
	unlink(path("a.gguf"));
	pl_arena_free(a);
}

static void test_cut_and_sparse(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	struct pl_synth s;
	struct pl_err err = {0};
	struct stat st;
	struct pl_synth_params p = {.n_layers = 1, .no_vocab = true};
	assert_int_equal(pl_synth_make(a, small_model(a, PL_DTYPE_F16), &p, &s, &err), 0);
	assert_int_equal(s.n_tensors, 3 + 9);
	assert_int_equal(pl_synth_write(&s, path("s.gguf"), PL_SYNTH_SPARSE, &err), 0);
	assert_int_equal(stat(path("s.gguf"), &st), 0);
	assert_int_equal(st.st_size, s.file_bytes);
	assert_true((uint64_t)st.st_blocks * 512 < s.header_bytes + 65536);
	/* a file that is there stays as it is, unless told otherwise */
	assert_int_equal(pl_synth_write(&s, path("s.gguf"), 0, &err), -PL_ERR_IO);
	assert_non_null(strstr(err.msg, "already there"));
	assert_int_equal(pl_synth_write(&s, path("s.gguf"), PL_SYNTH_FORCE, &err), 0);
	size_t len;
	uint8_t *data = slurp(path("s.gguf"), &len);
	assert_int_equal(len, s.file_bytes);
	assert_true(data[s.header_bytes] || data[s.header_bytes + 1]); /* now it has weights */
	free(data);
	unlink(path("s.gguf"));
	p.n_layers = N_LAYERS + 1;
	assert_int_equal(pl_synth_make(a, small_model(a, PL_DTYPE_F16), &p, &s, &err), -PL_ERR_RANGE);
	assert_non_null(strstr(err.msg, "4 layers asked for, the model has 3"));
	pl_arena_free(a);
}

static void test_refusals(void **state)
{
	(void)state;
	struct pl_arena *a = pl_arena_new(0);
	struct pl_synth s;
	struct pl_err err = {0};
	const struct pl_synth_params p = {.no_vocab = true};
	assert_int_equal(pl_synth_make(a, small_model(a, PL_DTYPE_F8_E4M3), &p, &s, &err), -PL_ERR_UNSUPPORTED);
	assert_non_null(strstr(err.msg, "no element type 'f8_e4m3'"));
	struct pl_model other = *small_model(a, PL_DTYPE_F16);
	other.arch = "brandnew";
	assert_int_equal(pl_synth_make(a, &other, &p, &s, &err), -PL_ERR_UNSUPPORTED);
	assert_int_equal(pl_synth_make(a, small_model(a, PL_DTYPE_F16), &p, &s, &err), 0);
	assert_int_equal(pl_synth_write(&s, path("no/such/place.gguf"), 0, &err), -PL_ERR_IO);
	assert_int_equal(pl_synth_write(&s, dir, PL_SYNTH_FORCE, &err), -PL_ERR_IO);
	assert_non_null(strstr(err.msg, "not an ordinary file"));
	/* no room: a limit on file sizes stands for a full disk; nothing stays behind (remove_dir checks) */
	struct rlimit old, low;
	getrlimit(RLIMIT_FSIZE, &old);
	low = old;
	low.rlim_cur = 100000;
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &low);
	int dense = pl_synth_write(&s, path("full.gguf"), 0, &err);
	int sparse = pl_synth_write(&s, path("full.gguf"), PL_SYNTH_SPARSE, &err);
	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(dense, -PL_ERR_IO);
	assert_int_equal(sparse, -PL_ERR_IO);
	assert_int_equal(access(path("full.gguf"), F_OK), -1);
	pl_arena_free(a);
}

static float half(uint16_t h)
{
	int e = (h >> 10) & 31;
	float f = (float)(h & 1023) / 1024.0f;
	f = e ? ldexpf(1.0f + f, e - 15) : ldexpf(f, -14);
	return e == 31 ? INFINITY : h & 0x8000 ? -f : f;
}

/* Norms are ones, weights are small and vary, scales of quantised blocks are finite and small, all of it repeatable. */
static void test_contents(void **state)
{
	(void)state;
	static const struct {
		enum pl_dtype type;
		uint32_t scale_at;
	} rows[] = {{PL_DTYPE_Q4_0, 0},   {PL_DTYPE_Q8_0, 0},   {PL_DTYPE_Q4_K, 0},   {PL_DTYPE_Q4_K, 2},
	            {PL_DTYPE_Q5_K, 2},   {PL_DTYPE_Q6_K, 208}, {PL_DTYPE_Q3_K, 108}, {PL_DTYPE_Q2_K, 80},
	            {PL_DTYPE_IQ4_XS, 0}, {PL_DTYPE_TQ2_0, 64}};
	uint8_t buf[65536], again[65536];
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		uint32_t block = pl_dtype_info(rows[i].type)->block_bytes;
		struct pl_tensor t = {.name = "blk.0.attn_q.weight",
		                      .role = PL_ROLE_ATTN_Q,
		                      .type = rows[i].type,
		                      .bytes = block * 100ull};
		assert_int_equal(pl_synth_pattern(&t, buf, sizeof buf), block * 100ull);
		assert_int_equal(pl_synth_pattern(&t, again, sizeof again), block * 100ull);
		assert_memory_equal(buf, again, block * 100ull);
		for (uint32_t k = 0; k < 100; k++) {
			uint16_t h;
			memcpy(&h, buf + k * block + rows[i].scale_at, 2);
			assert_true(fabsf(half(h)) > 0 && fabsf(half(h)) < 0.1f);
		}
	}
	struct pl_tensor norm = {
	    .name = "n", .role = PL_ROLE_ATTN_NORM, .group = PL_GROUP_NORM, .type = PL_DTYPE_F32, .bytes = 64};
	float f[1024];
	assert_int_equal(pl_synth_pattern(&norm, (uint8_t *)f, sizeof f), 64);
	for (int i = 0; i < 16; i++)
		assert_true(f[i] == 1.0f);
	struct pl_tensor w = {.name = "w", .role = PL_ROLE_ATTN_Q, .type = PL_DTYPE_F32, .bytes = sizeof f};
	assert_int_equal(pl_synth_pattern(&w, (uint8_t *)f, sizeof f), sizeof f);
	float sum = 0, largest = 0;
	for (int i = 0; i < 1024; i++) {
		sum += f[i];
		largest = fmaxf(largest, fabsf(f[i]));
	}
	assert_true(fabsf(sum / 1024) < 0.002f && largest > 0.015f && largest <= 0.02f);
}

/* NULL when a layer read back from the file says what the config said, else the field. */
static const char *layer_differs(const struct pl_model *m, const struct pl_layer *x, const struct pl_layer *y)
{
	bool attends = x->attn != PL_ATTN_NONE, mla = x->attn == PL_ATTN_MLA, moe = x->ffn == PL_FFN_MOE;
	if (x->attn != y->attn || x->rec != y->rec || x->ffn != y->ffn)
		return "kind";
	if (attends && (x->n_head != y->n_head || x->d_k != y->d_k || x->d_v != y->d_v))
		return "heads";
	if (attends && !mla && x->n_head_kv != y->n_head_kv)
		return "n_head_kv";
	if (attends && pl_arch_slides(m) &&
	    (x->window_tokens != y->window_tokens || x->window_chunked != y->window_chunked))
		return "window";
	if (attends && (x->kv_from_layer != y->kv_from_layer || x->q_gated != y->q_gated || x->k_is_v != y->k_is_v))
		return "kv_from_layer, q_gated or k_is_v";
	if (mla &&
	    (x->kv_lora != y->kv_lora || x->q_lora != y->q_lora || x->d_rope != y->d_rope || x->d_nope != y->d_nope))
		return "latent";
	if (x->indexer_dim != y->indexer_dim || x->indexer_heads != y->indexer_heads)
		return "indexer";
	bool by_width = x->rec == PL_REC_MAMBA1 || x->rec == PL_REC_MAMBA2 || x->rec == PL_REC_SHORTCONV;
	if (by_width && (x->d_inner != y->d_inner || x->d_state != y->d_state || x->n_group != y->n_group))
		return "d_inner, d_state or n_group";
	if (x->rec && (x->d_conv != y->d_conv || x->rec_heads != y->rec_heads || x->rec_d_k != y->rec_d_k ||
	               x->rec_d_v != y->rec_d_v))
		return "recurrent heads";
	if (moe && (x->n_expert != y->n_expert || x->n_expert_used != y->n_expert_used ||
	            x->n_ff_expert != y->n_ff_expert || x->n_ff_shared != y->n_ff_shared))
		return "experts";
	return !moe && x->ffn && x->n_ff != y->n_ff ? "n_ff" : NULL;
}

static const char *round_trip(struct pl_arena *a, const struct pl_model_row *row, bool *ret_written)
{
	const struct pl_synth_params p = {.quant = "q4_k_m", .no_vocab = true};
	const struct pl_model *m, *back;
	struct pl_synth s;
	struct pl_err err = {0};
	const char *field = NULL;
	*ret_written = false;
	if (pl_model_from_config(a, row->id, row->config_json, row->config_len, NULL, &m, &err) || !m->arch_known)
		return NULL;
	int r = pl_synth_make(a, m, &p, &s, &err);
	if (r == -PL_ERR_UNSUPPORTED) /* llama.cpp does not know it */
		return NULL;
	*ret_written = true;
	if (r)
		return pl_arena_strdup(a, err.msg);
	struct pl_bytes part = {s.header, s.header_bytes, s.file_bytes, row->id};
	if (pl_model_from_gguf(a, &part, 1, &back, &err))
		return pl_arena_strdup(a, err.msg);
	if (!back->arch_known || back->n_layers != m->n_layers || back->n_vocab != m->n_vocab ||
	    back->tied_output != m->tied_output)
		return "n_layers, n_vocab or tied_output";
	if (back->n_params != s.model->n_params || back->n_params_active != s.model->n_params_active ||
	    back->weight_bytes != s.model->weight_bytes)
		return "n_params, n_params_active or weight_bytes";
	for (uint32_t i = 0; i < m->n_layers && !field; i++)
		field = layer_differs(m, &m->layers[i], &back->layers[i]);
	return field ? field : graph_fault(back);
}

/* Every catalogued model that llama.cpp knows, written as a file and read back: the same layers, sums and step. */
static void test_whole_catalogue(void **state)
{
	(void)state;
	uint32_t n, n_written = 0, n_faults = 0;
	const struct pl_model_row *rows = pl_catalog_models(&n);
	for (uint32_t i = 0; i < n; i++) {
		struct pl_arena *a = pl_arena_new(0);
		bool written = false;
		const char *fault = rows[i].config_json ? round_trip(a, &rows[i], &written) : NULL;
		if (fault)
			print_error("%s: %s\n", rows[i].id, fault);
		n_faults += fault != NULL;
		n_written += written;
		pl_arena_free(a);
	}
	assert_int_equal(n_faults, 0);
	assert_true(n_written >= 480);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_read_back), cmocka_unit_test(test_cut_and_sparse),  cmocka_unit_test(test_refusals),
	    cmocka_unit_test(test_contents),  cmocka_unit_test(test_whole_catalogue),
	};
	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
