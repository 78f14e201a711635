/* From GGUF metadata to layers, by the rules of llama.cpp (src/llama-model.cpp load_hparams and src/models/). What a
 * layer holds (gated or plain, experts, widths) is read off the tensors, which cannot lie about it. */
#include <string.h>

#include "base/checked.h"
#include "model/gguf_meta.h"

/* ---- the model as a whole --------------------------------------------------------------------------------------- */

static const struct pl_tensor *find_global(const struct pl_gguf *g, enum pl_role role)
{
	for (uint32_t i = 0; i < g->n_tensors; i++)
		if (g->tensors[i].role == role && g->tensors[i].layer < 0 && !g->tensors[i].is_bias)
			return &g->tensors[i];
	return NULL;
}

static int read_vocab(struct pl_meta *x)
{
	const struct pl_tensor *embd = find_global(x->g, PL_ROLE_TOKEN_EMBD);
	if (embd) {
		if (embd->ne[1] > UINT32_MAX || embd->ne[0] > PL_META_MAX_WIDTH)
			return pl_fail(x->err, PL_ERR_RANGE, embd->name, "tensor '%s' is larger than any vocabulary",
			               embd->name);
		x->m->n_vocab = (uint32_t)embd->ne[1];
		if (!x->m->n_embd)
			x->m->n_embd = (uint32_t)embd->ne[0];
		else if (!x->guess && embd->ne[0] != x->m->n_embd)
			return pl_fail(x->err, PL_ERR_FORMAT, embd->name,
			               "tensor '%s' has rows of %llu elements, the metadata says %u", embd->name,
			               (unsigned long long)embd->ne[0], x->m->n_embd);
		return 0;
	}
	int r = pl_meta_u32(x, "vocab_size", UINT32_MAX, &x->m->n_vocab);
	const struct pl_gguf_kv *tokens = pl_gguf_find(x->g, "tokenizer.ggml.tokens");
	if (!r && tokens && tokens->type == PL_GGUF_ARRAY && tokens->n <= UINT32_MAX)
		x->m->n_vocab = (uint32_t)tokens->n;
	return r < 0 ? r : 0;
}

static int read_sizes(struct pl_meta *x)
{
	struct pl_model *m = x->m;
	uint32_t n_mtp = 0;
	int r;
	if ((r = pl_meta_need_u32(x, "block_count", PL_META_MAX_LAYERS, &x->n_all)) < 0 ||
	    (r = pl_meta_need_u32(x, "embedding_length", PL_META_MAX_WIDTH, &m->n_embd)) < 0 ||
	    (r = pl_meta_u32(x, "context_length", PL_META_MAX_TOKENS, &m->n_ctx_train)) < 0 ||
	    (r = pl_meta_u32(x, "nextn_predict_layers", PL_META_MAX_LAYERS, &n_mtp)) < 0 || (r = read_vocab(x)) < 0)
		return r;
	if (n_mtp >= x->n_all)
		return pl_fail(x->err, PL_ERR_FORMAT, x->arch,
		               "%u prediction layers leave no layer of %u for the model", n_mtp, x->n_all);
	m->n_layers = x->n_all - n_mtp;
	m->n_layers_mtp = n_mtp;
	return 0;
}

/* LFM2 files carry the final norm under the name of the embedding's norm. */
static void rename_final_norm(struct pl_meta *x)
{
	for (uint32_t i = 0; i < x->g->n_tensors; i++) {
		struct pl_tensor *t = &x->g->tensors[i];
		if (t->role == PL_ROLE_TOKEN_EMBD_NORM && t->layer < 0) {
			t->role = PL_ROLE_OUTPUT_NORM;
			t->group = PL_GROUP_OUTPUT;
		}
	}
}

/* Tensors by layer and role; those of prediction layers move to their group. */
static int index_tensors(struct pl_meta *x)
{
	x->by_role = PL_NEW_N(x->a, const struct pl_tensor *, (uint64_t)x->n_all *PL_ROLE_COUNT);
	uint32_t *p = PL_NEW_N(x->a, uint32_t, (uint64_t)x->n_all * 7);
	x->layers = PL_NEW_N(x->a, struct pl_layer, x->n_all);
	if (!x->by_role || !p || !x->layers)
		return pl_fail(x->err, PL_ERR_NOMEM, x->arch, "out of memory while reading %u layers", x->n_all);
	uint32_t **lists[] = {&x->heads, &x->kv_heads, &x->ff, &x->ff_exp, &x->used, &x->swa, &x->recurrent};
	for (size_t i = 0; i < 7; i++)
		*lists[i] = p + i * x->n_all;
	uint32_t n_outside = 0;
	if (x->tr->flags & PL_ARCH_FINAL_NORM_AS_EMBD)
		rename_final_norm(x);
	for (uint32_t i = 0; i < x->g->n_tensors; i++) {
		struct pl_tensor *t = &x->g->tensors[i];
		if (t->layer < 0)
			continue;
		if ((uint32_t)t->layer >= x->n_all) {
			n_outside++;
			continue;
		}
		if ((uint32_t)t->layer >= x->m->n_layers)
			t->group = PL_GROUP_MTP;
		const struct pl_tensor **slot = &x->by_role[(size_t)t->layer * PL_ROLE_COUNT + t->role];
		if (!t->is_bias && !*slot)
			*slot = t;
	}
	if (n_outside)
		pl_note_add(
		    x->a, &x->m->notes, PL_NOTE_WARNING,
		    "%u tensors belong to layers beyond the %u the file announces: only their bytes are counted",
		    n_outside, x->n_all);
	return 0;
}

static int read_lists(struct pl_meta *x)
{
	int r;
	if ((r = pl_meta_per_layer(x, "attention.head_count", PL_META_MAX_HEADS, x->heads)) < 0)
		return r;
	memcpy(x->kv_heads, x->heads, x->n_all * sizeof *x->heads);
	if ((r = pl_meta_per_layer(x, "attention.head_count_kv", PL_META_MAX_HEADS, x->kv_heads)) < 0 ||
	    (r = pl_meta_per_layer(x, "feed_forward_length", PL_META_MAX_WIDTH, x->ff)) < 0 ||
	    (r = pl_meta_per_layer(x, "expert_feed_forward_length", PL_META_MAX_WIDTH, x->ff_exp)) < 0 ||
	    (r = pl_meta_per_layer(x, "expert_used_count", PL_META_MAX_EXPERTS, x->used)) < 0)
		return r;
	return 0;
}

/* ---- feed forward ----------------------------------------------------------------------------------------------- */

static uint32_t dim_at(const struct pl_meta *x, uint32_t i, enum pl_role role, int dim)
{
	const struct pl_tensor *t = pl_meta_tensor(x, i, role);
	return t ? (uint32_t)pl_min_u64(t->ne[dim], UINT32_MAX) : 0;
}

static void set_dense_ffn(struct pl_meta *x, uint32_t i)
{
	struct pl_layer *l = &x->layers[i];
	uint32_t down = dim_at(x, i, PL_ROLE_FFN_DOWN, 0), up = dim_at(x, i, PL_ROLE_FFN_UP, 1);
	l->n_ff = down ? down : up;
	bool gate = pl_meta_tensor(x, i, PL_ROLE_FFN_GATE) || pl_meta_tensor(x, i, PL_ROLE_FFN_GATE_UP);
	bool fused = down && up == 2 * (uint64_t)down; /* gate and up in one matrix: Phi-3, ChatGLM, GLM-4 */
	l->ffn = gate || fused ? PL_FFN_GATED : PL_FFN_PLAIN;
}

static void set_moe_ffn(struct pl_meta *x, uint32_t i, uint32_t n_expert, uint32_t n_shared)
{
	struct pl_layer *l = &x->layers[i];
	bool dense = pl_meta_tensor(x, i, PL_ROLE_FFN_DOWN) != NULL;
	uint32_t from_router = dim_at(x, i, PL_ROLE_ROUTER, 1), down = dim_at(x, i, PL_ROLE_EXPERT_DOWN, 0);
	l->moe_beside_dense = dense;
	l->ffn = PL_FFN_MOE;
	l->n_expert = from_router ? from_router : n_expert;
	l->n_expert_used = (uint32_t)pl_min_u64(x->used[i], l->n_expert);
	l->n_ff_expert = down ? down : x->ff_exp[i] ? x->ff_exp[i] : x->ff[i];
	l->n_ff_shared = dim_at(x, i, PL_ROLE_SHARED_DOWN, 0);
	if (l->n_ff_shared)
		l->n_expert_shared = n_shared ? n_shared : 1;
}

static int set_ffn(struct pl_meta *x)
{
	uint32_t n_expert = 0, n_shared = 0, lead = 0, step = 0;
	int r;
	if ((r = pl_meta_u32(x, "expert_count", PL_META_MAX_EXPERTS, &n_expert)) < 0 ||
	    (r = pl_meta_u32(x, "expert_shared_count", PL_META_MAX_EXPERTS, &n_shared)) < 0 ||
	    (r = pl_meta_u32(x, "leading_dense_block_count", PL_META_MAX_LAYERS, &lead)) < 0 ||
	    (r = pl_meta_u32(x, "interleave_moe_layer_step", PL_META_MAX_LAYERS, &step)) < 0)
		return r;
	for (uint32_t i = 0; i < x->g->n_tensors; i++) { /* a bias of each expert, in one matrix */
		struct pl_tensor *t = &x->g->tensors[i];
		if (t->group == PL_GROUP_EXPERT && t->is_bias && t->ne[1] == n_expert)
			t->n_stacked = n_expert;
	}
	for (uint32_t i = 0; i < x->n_all; i++) {
		struct pl_layer *l = &x->layers[i];
		bool has_moe = pl_meta_tensor(x, i, PL_ROLE_EXPERT_DOWN) || pl_meta_tensor(x, i, PL_ROLE_ROUTER);
		bool has_dense = pl_meta_tensor(x, i, PL_ROLE_FFN_DOWN) || pl_meta_tensor(x, i, PL_ROLE_FFN_UP);
		bool blind = !x->g->n_tensors;
		if (has_moe || (blind && n_expert && i >= lead && (!step || (i + 1) % step == 0)))
			set_moe_ffn(x, i, n_expert, n_shared);
		if (has_dense)
			set_dense_ffn(x, i);
		else if (blind && l->ffn == PL_FFN_NONE && x->ff[i]) {
			l->ffn = PL_FFN_GATED;
			l->n_ff = x->ff[i];
		}
		if (has_moe && has_dense)
			l->ffn = PL_FFN_MOE;
		if (l->ffn == PL_FFN_MOE && !l->n_expert_used)
			return pl_fail(x->err, PL_ERR_FORMAT, pl_meta_key(x, "expert_used_count"),
			               "layer %u has %u experts but key '%s' gives none to use", i, l->n_expert,
			               x->key);
	}
	return 0;
}

/* ---- unknown architectures -------------------------------------------------------------------------------------- */

/* Whatever the usual keys say, with nothing required: layers by block_count, ordinary attention where heads are given.
 */
static int guess_layers(struct pl_meta *x)
{
	static const struct pl_arch_traits none = {.name = ""};
	struct pl_model *m = x->m;
	int r;
	x->tr = &none;
	x->guess = true;
	if ((r = pl_meta_u32(x, "block_count", PL_META_MAX_LAYERS, &x->n_all)) < 0 ||
	    (r = pl_meta_u32(x, "embedding_length", PL_META_MAX_WIDTH, &m->n_embd)) < 0 ||
	    (r = pl_meta_u32(x, "context_length", PL_META_MAX_TOKENS, &m->n_ctx_train)) < 0 || (r = read_vocab(x)) < 0)
		return r;
	for (uint32_t i = 0; i < x->g->n_tensors && !pl_gguf_find(x->g, pl_meta_key(x, "block_count")); i++)
		if (x->g->tensors[i].layer >= (int32_t)x->n_all && x->g->tensors[i].layer < PL_META_MAX_LAYERS)
			x->n_all = (uint32_t)x->g->tensors[i].layer + 1;
	m->n_layers = x->n_all;
	if ((r = index_tensors(x)) < 0 || (r = read_lists(x)) < 0)
		return r;
	for (uint32_t i = 0; i < x->n_all; i++) {
		x->layers[i].kv_from_layer = -1;
		bool attends = x->heads[i] && x->kv_heads[i] && x->heads[i] % x->kv_heads[i] == 0;
		if (!attends)
			x->heads[i] = x->kv_heads[i] = 0;
	}
	if (pl_meta_first_heads(x) && m->n_embd && (m->n_embd % pl_meta_first_heads(x) == 0) &&
	    (r = pl_meta_attention(x)) < 0)
		return r;
	m->layers = x->layers;
	return 0;
}

static int read_unknown(struct pl_meta *x)
{
	char type[32] = "";
	const char *s = pl_gguf_str(x->a, x->g, "general.type");
	if (s && strlen(s) < sizeof type)
		memcpy(type, s, strlen(s) + 1);
	x->m->arch_known = false;
	if (*type && strcmp(type, "model")) {
		pl_note_add(x->a, &x->m->notes, PL_NOTE_WARNING,
		            "the file is of type '%s', not a model of its own: only its weights are known", type);
		return 0;
	}
	if (x->tr) {
		pl_note_add(x->a, &x->m->notes, PL_NOTE_WARNING,
		            "'%s' is not a language model: only its weights are known", x->arch);
		return 0;
	}
	int r = guess_layers(x);
	if (r < 0)
		return r;
	pl_note_add(
	    x->a, &x->m->notes, PL_NOTE_WARNING,
	    "the architecture '%s' is not known: its weights are exact; ordinary attention over the whole context is "
	    "assumed in %u layers, and windows, recurrent state and shared caches are not known",
	    x->arch, x->n_all);
	return 0;
}

/* ---- entry ------------------------------------------------------------------------------------------------------ */

static int read_known(struct pl_meta *x)
{
	struct pl_model *m = x->m;
	int r;
	if ((r = read_sizes(x)) < 0 || (r = index_tensors(x)) < 0 || (r = read_lists(x)) < 0)
		return r;
	for (uint32_t i = 0; i < x->n_all; i++) {
		x->layers[i].kv_from_layer = -1;
		x->layers[i].is_mtp = i >= m->n_layers;
	}
	if ((r = pl_meta_windows(x)) < 0 || (r = pl_meta_recurrent(x)) < 0 || (r = pl_meta_attention(x)) < 0 ||
	    (r = set_ffn(x)) < 0)
		return r;
	if ((r = pl_meta_u32(x, "embedding_length_per_layer_input", PL_META_MAX_WIDTH, &m->d_per_layer_embed)) < 0)
		return r;
	m->layers = x->layers;
	m->is_embedding = x->tr->flags & PL_ARCH_EMBEDDING;
	m->no_kv_cache = x->tr->flags & (PL_ARCH_EMBEDDING | PL_ARCH_NO_CACHE);
	m->tied_output =
	    !m->is_embedding && !find_global(x->g, PL_ROLE_OUTPUT) && find_global(x->g, PL_ROLE_TOKEN_EMBD);
	for (uint32_t i = 0; i < m->n_layers && !m->n_swa_period; i++)
		if (x->layers[i].window_tokens)
			m->n_swa_period = x->tr->swa_period;
	if (x->tr->flags & PL_ARCH_OTHER_CACHE) {
		m->arch_known = false;
		pl_note_add(x->a, &m->notes, PL_NOTE_WARNING,
		            "llama.cpp keeps caches for '%s' that this program does not model: its weights are exact, "
		            "its cache is not",
		            x->arch);
		return 0;
	}
	m->arch_known = true;
	return 0;
}

int pl_layers_from_gguf(struct pl_arena *a, const struct pl_gguf *g, struct pl_model *m, struct pl_err *err)
{
	struct pl_meta x = {.a = a, .g = g, .m = m, .err = err};
	const char *type = pl_gguf_str(a, g, "general.type");
	x.arch = pl_gguf_str(a, g, "general.architecture");
	if (!x.arch)
		x.arch = "unknown";
	if (strlen(x.arch) > 64)
		return pl_fail(err, PL_ERR_FORMAT, "general.architecture",
		               "the name of the architecture has %zu characters, the limit is 64", strlen(x.arch));
	m->arch = x.arch;
	x.tr = pl_arch_traits_find(x.arch);
	if (!x.tr || (x.tr->flags & PL_ARCH_NOT_A_MODEL) || (type && strcmp(type, "model")))
		return read_unknown(&x);
	return read_known(&x);
}
