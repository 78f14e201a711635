/* From GGUF metadata to layers, by the rules of llama.cpp (src/llama-model.cpp load_hparams and src/models/). What a
 * layer holds (gated or plain, experts, widths) is read off the tensors, which cannot lie about it. */
#include <string.h>

#include "base/checked.h"
#include "model/arch_traits.h"
#include "model/build.h"

enum {
	MAX_LAYERS = 1024,       /* llama.cpp stops at 512 */
	MAX_WIDTH = 1 << 24,     /* embedding, feed forward, projections */
	MAX_HEADS = 1 << 16,
	MAX_EXPERTS = 1 << 16,
	MAX_RANK = 1 << 20,
	MAX_TOKENS = 1 << 30
};

struct meta {
	struct pl_arena *a;
	const struct pl_gguf *g;
	struct pl_model *m;
	struct pl_err *err;
	const struct pl_arch_traits *tr;
	bool guess;                      /* unknown architecture: nothing is required */
	const char *arch;
	char key[160];
	uint32_t n_all;                  /* trunk and MTP layers */
	const struct pl_tensor **by_role; /* n_all × PL_ROLE_COUNT, weights only */
	struct pl_layer *layers;
	uint32_t *heads, *kv_heads, *ff, *ff_exp, *used, *swa, *recurrent;
};

static const char *key_of(struct meta *x, const char *suffix)
{
	size_t n = strlen(x->arch), k = strlen(suffix);
	if (n + k + 2 > sizeof x->key)
		return "";
	memcpy(x->key, x->arch, n);
	x->key[n] = '.';
	memcpy(x->key + n + 1, suffix, k + 1);
	return x->key;
}

/* A scalar up to max: 1 when there, 0 when absent, negative on a fault. An array counts as absent. */
static int get_u32(struct meta *x, const char *suffix, uint64_t max, uint32_t *ret)
{
	const char *key = key_of(x, suffix);
	const struct pl_gguf_kv *kv = pl_gguf_find(x->g, key);
	uint64_t v;
	if (!kv || kv->type == PL_GGUF_ARRAY)
		return 0;
	if (!pl_gguf_u64(x->g, key, &v))
		return pl_fail(x->err, PL_ERR_FORMAT, key, "key '%s' must be a whole number", key);
	if (v > max)
		return pl_fail(x->err, PL_ERR_RANGE, key, "key '%s' is %llu, the limit is %llu", key, (unsigned long long)v,
		               (unsigned long long)max);
	*ret = (uint32_t)v;
	return 1;
}

static int need_u32(struct meta *x, const char *suffix, uint64_t max, uint32_t *ret)
{
	int r = get_u32(x, suffix, max, ret);
	if (r < 0)
		return r;
	if (!r)
		return pl_fail(x->err, PL_ERR_FORMAT, x->key, "key '%s' is missing", x->key);
	if (!*ret)
		return pl_fail(x->err, PL_ERR_RANGE, x->key, "key '%s' is 0", x->key);
	return 0;
}

/* One number a layer, from a scalar or an array of n_all: 1 when there, 0 when absent, negative on a fault. */
static int get_per_layer(struct meta *x, const char *suffix, uint64_t max, uint32_t *out)
{
	const char *key = key_of(x, suffix);
	const struct pl_gguf_kv *kv = pl_gguf_find(x->g, key);
	if (!kv)
		return 0;
	if (kv->type == PL_GGUF_ARRAY && kv->n < x->n_all)
		return pl_fail(x->err, PL_ERR_FORMAT, key, "array '%s' has %llu elements, the model has %u layers", key,
		               (unsigned long long)kv->n, x->n_all);
	for (uint32_t i = 0; i < x->n_all; i++) {
		uint64_t v;
		if (!pl_gguf_u64_at(x->g, key, i, &v))
			return pl_fail(x->err, PL_ERR_FORMAT, key, "element %u of '%s' must be a whole number", i, key);
		if (v > max)
			return pl_fail(x->err, PL_ERR_RANGE, key, "element %u of '%s' is %llu, the limit is %llu", i, key,
			               (unsigned long long)v, (unsigned long long)max);
		out[i] = (uint32_t)v;
	}
	return 1;
}

static const struct pl_tensor *tensor_at(const struct meta *x, uint32_t il, enum pl_role role)
{
	return x->by_role[(size_t)il * PL_ROLE_COUNT + role];
}

/* ---- the model as a whole --------------------------------------------------------------------------------------- */

static const struct pl_tensor *find_global(const struct pl_gguf *g, enum pl_role role)
{
	for (uint32_t i = 0; i < g->n_tensors; i++)
		if (g->tensors[i].role == role && g->tensors[i].layer < 0 && !g->tensors[i].is_bias)
			return &g->tensors[i];
	return NULL;
}

static int read_vocab(struct meta *x)
{
	const struct pl_tensor *embd = find_global(x->g, PL_ROLE_TOKEN_EMBD);
	if (embd) {
		if (embd->ne[1] > UINT32_MAX || embd->ne[0] > MAX_WIDTH)
			return pl_fail(x->err, PL_ERR_RANGE, embd->name, "tensor '%s' is larger than any vocabulary", embd->name);
		x->m->n_vocab = (uint32_t)embd->ne[1];
		if (!x->m->n_embd)
			x->m->n_embd = (uint32_t)embd->ne[0];
		else if (!x->guess && embd->ne[0] != x->m->n_embd)
			return pl_fail(x->err, PL_ERR_FORMAT, embd->name, "tensor '%s' has rows of %llu elements, the metadata says %u",
			               embd->name, (unsigned long long)embd->ne[0], x->m->n_embd);
		return 0;
	}
	int r = get_u32(x, "vocab_size", UINT32_MAX, &x->m->n_vocab);
	const struct pl_gguf_kv *tokens = pl_gguf_find(x->g, "tokenizer.ggml.tokens");
	if (!r && tokens && tokens->type == PL_GGUF_ARRAY && tokens->n <= UINT32_MAX)
		x->m->n_vocab = (uint32_t)tokens->n;
	return r < 0 ? r : 0;
}

static int read_sizes(struct meta *x)
{
	struct pl_model *m = x->m;
	uint32_t n_mtp = 0;
	int r;
	if ((r = need_u32(x, "block_count", MAX_LAYERS, &x->n_all)) < 0 ||
	    (r = need_u32(x, "embedding_length", MAX_WIDTH, &m->n_embd)) < 0 ||
	    (r = get_u32(x, "context_length", MAX_TOKENS, &m->n_ctx_train)) < 0 ||
	    (r = get_u32(x, "nextn_predict_layers", MAX_LAYERS, &n_mtp)) < 0 || (r = read_vocab(x)) < 0)
		return r;
	if (n_mtp >= x->n_all)
		return pl_fail(x->err, PL_ERR_FORMAT, x->arch, "%u prediction layers leave no layer of %u for the model", n_mtp,
		               x->n_all);
	m->n_layers = x->n_all - n_mtp;
	m->n_layers_mtp = n_mtp;
	return 0;
}

/* LFM2 files carry the final norm under the name of the embedding's norm. */
static void rename_final_norm(struct meta *x)
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
static int index_tensors(struct meta *x)
{
	x->by_role = PL_NEW_N(x->a, const struct pl_tensor *, (uint64_t)x->n_all * PL_ROLE_COUNT);
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
		pl_note_add(x->a, &x->m->notes, PL_NOTE_WARNING,
		            "%u tensors belong to layers beyond the %u the file announces: only their bytes are counted", n_outside,
		            x->n_all);
	return 0;
}

static int read_lists(struct meta *x)
{
	int r;
	if ((r = get_per_layer(x, "attention.head_count", MAX_HEADS, x->heads)) < 0)
		return r;
	memcpy(x->kv_heads, x->heads, x->n_all * sizeof *x->heads);
	if ((r = get_per_layer(x, "attention.head_count_kv", MAX_HEADS, x->kv_heads)) < 0 ||
	    (r = get_per_layer(x, "feed_forward_length", MAX_WIDTH, x->ff)) < 0 ||
	    (r = get_per_layer(x, "expert_feed_forward_length", MAX_WIDTH, x->ff_exp)) < 0 ||
	    (r = get_per_layer(x, "expert_used_count", MAX_EXPERTS, x->used)) < 0)
		return r;
	return 0;
}

/* ---- windows ---------------------------------------------------------------------------------------------------- */

/* The pattern, by llama.cpp's load_swa_pattern: array in the file, else period in the file, else the period of the code. */
static int read_swa_pattern(struct meta *x)
{
	const struct pl_arch_traits *tr = x->tr;
	const struct pl_gguf_kv *kv = pl_gguf_find(x->g, key_of(x, "attention.sliding_window_pattern"));
	uint32_t period = tr->swa_period;
	if (kv && kv->type == PL_GGUF_ARRAY) {
		uint32_t n_all = x->n_all;
		if (kv->n >= x->m->n_layers && kv->n < n_all)
			x->n_all = (uint32_t)kv->n; /* some converters leave the prediction layers out */
		int r = get_per_layer(x, "attention.sliding_window_pattern", UINT32_MAX, x->swa);
		x->n_all = n_all;
		return r < 0 ? r : 0;
	}
	if (tr->swa_array)
		return pl_fail(x->err, PL_ERR_FORMAT, x->key, "key '%s' is missing", x->key);
	int r = get_u32(x, "attention.sliding_window_pattern", MAX_LAYERS, &period);
	for (uint32_t i = 0; i < x->m->n_layers; i++)
		x->swa[i] = pl_swa_pattern_at(i, period, tr->swa_dense_first);
	return r < 0 ? r : 0;
}

static int set_windows(struct meta *x)
{
	const struct pl_arch_traits *tr = x->tr;
	uint32_t window = tr->swa_window, key = 0;
	if (tr->swa == PL_SWA_NEVER || (tr->swa_at_layers && x->m->n_layers != tr->swa_at_layers))
		return 0;
	int r = get_u32(x, "attention.sliding_window", MAX_TOKENS, &key);
	if (r < 0)
		return r;
	if ((tr->swa == PL_SWA_IF_SET && !key) || (tr->swa == PL_SWA_CHUNKED && r == 1 && !key))
		return 0;
	if (r == 1 && !tr->swa_window_fixed)
		window = key;
	if (!window)
		return pl_fail(x->err, PL_ERR_FORMAT, key_of(x, "attention.sliding_window"), "key '%s' is missing or 0", x->key);
	if ((r = read_swa_pattern(x)) < 0)
		return r;
	for (uint32_t i = 0; i < x->m->n_layers; i++) {
		if (!x->swa[i])
			continue;
		x->layers[i].window_tokens = window;
		x->layers[i].window_chunked = tr->swa == PL_SWA_CHUNKED;
	}
	return 0;
}

/* ---- recurrent layers ------------------------------------------------------------------------------------------- */

static int mark_recurrent(struct meta *x)
{
	const struct pl_arch_traits *tr = x->tr;
	uint32_t interval = tr->rec_interval;
	int r = 0;
	if (tr->rec_rule == PL_REC_INTERVAL) {
		r = get_per_layer(x, "attention.recurrent_layers", 1, x->recurrent);
		if (r)
			return r < 0 ? r : 0;
		if ((r = get_u32(x, "full_attention_interval", MAX_LAYERS, &interval)) < 0)
			return r;
		if (!interval)
			return pl_fail(x->err, PL_ERR_RANGE, x->key, "key '%s' is 0", x->key);
	}
	for (uint32_t i = 0; i < x->m->n_layers; i++)
		switch (tr->rec_rule) {
		case PL_REC_NEVER:
			break;
		case PL_REC_EVERY:
		case PL_REC_BESIDE:
			x->recurrent[i] = 1;
			break;
		case PL_REC_KV0:
			x->recurrent[i] = !x->kv_heads[i];
			break;
		case PL_REC_KV0_FF0:
			x->recurrent[i] = !x->kv_heads[i] && !x->ff[i];
			break;
		case PL_REC_INTERVAL:
			x->recurrent[i] = (i + 1) % interval != 0;
			break;
		}
	return 0;
}

/* The fields of a Mamba or DeltaNet layer come from the ssm keys, with the meaning each family gives them. */
static int read_ssm(struct meta *x, struct pl_layer *l)
{
	enum pl_rec_kind kind = x->tr->rec;
	bool need = kind == PL_REC_MAMBA1 || kind == PL_REC_MAMBA2 || kind == PL_REC_DELTANET;
	int r;
	if (!need)
		return 0;
	if ((r = need_u32(x, "ssm.conv_kernel", 1024, &l->d_conv)) < 0 ||
	    (r = need_u32(x, "ssm.inner_size", MAX_WIDTH, &l->d_inner)) < 0 ||
	    (r = need_u32(x, "ssm.state_size", MAX_RANK, &l->d_state)) < 0 ||
	    (r = need_u32(x, "ssm.time_step_rank", MAX_WIDTH, &l->dt_rank)) < 0 ||
	    (r = get_u32(x, "ssm.group_count", MAX_HEADS, &l->n_group)) < 0)
		return r;
	if (kind == PL_REC_MAMBA1)
		return 0;
	l->rec_heads = l->dt_rank;
	if (l->d_inner % l->rec_heads)
		return pl_fail(x->err, PL_ERR_FORMAT, x->arch, "an inner size of %u does not divide into %u recurrent heads",
		               l->d_inner, l->rec_heads);
	if (kind == PL_REC_DELTANET) {
		l->rec_k_heads = l->n_group;
		l->rec_d_k = l->d_state;
		l->rec_d_v = l->d_inner / l->rec_heads;
	}
	return 0;
}

static int read_other_recurrent(struct meta *x, struct pl_layer *l)
{
	uint32_t d = 0, shifts = 2;
	int r = 0;
	switch (x->tr->rec) {
	case PL_REC_SHORTCONV:
		r = need_u32(x, "shortconv.l_cache", 1024, &l->d_conv);
		l->d_inner = x->m->n_embd;
		return r;
	case PL_REC_KDA:
		if ((r = need_u32(x, "kda.head_dim", MAX_RANK, &d)) < 0 || (r = need_u32(x, "ssm.conv_kernel", 1024, &l->d_conv)) < 0)
			return r;
		l->rec_heads = l->rec_k_heads = x->heads[0];
		l->rec_d_k = l->rec_d_v = l->d_state = d;
		l->d_inner = l->rec_heads * d;
		return 0;
	case PL_REC_RWKV:
		if ((r = need_u32(x, "wkv.head_size", MAX_RANK, &d)) < 0 ||
		    (r = get_u32(x, "token_shift_count", 16, &shifts)) < 0)
			return r;
		if (x->m->n_embd % d)
			return pl_fail(x->err, PL_ERR_FORMAT, x->arch, "an embedding of %u does not divide into heads of %u", x->m->n_embd,
			               d);
		l->rec_d_k = l->rec_d_v = d;
		l->rec_heads = l->rec_k_heads = x->m->n_embd / d;
		l->d_inner = x->m->n_embd;
		l->d_conv = shifts + 1;
		return 0;
	case PL_REC_LIGHTNING:
		l->rec_heads = l->rec_k_heads = x->heads[0];
		if ((r = get_u32(x, "attention.key_length", MAX_RANK, &d)) < 0)
			return r;
		if (!d && l->rec_heads)
			d = x->m->n_embd / l->rec_heads;
		l->rec_d_k = l->rec_d_v = d;
		l->d_inner = l->rec_heads * d;
		return 0;
	default:
		return 0;
	}
}

static int set_recurrent(struct meta *x)
{
	struct pl_layer f = {0};
	int r;
	if (x->tr->rec_rule == PL_REC_NEVER)
		return 0;
	if ((r = mark_recurrent(x)) < 0 || (r = read_ssm(x, &f)) < 0 || (r = read_other_recurrent(x, &f)) < 0)
		return r;
	for (uint32_t i = 0; i < x->m->n_layers; i++) {
		struct pl_layer *l = &x->layers[i];
		if (!x->recurrent[i])
			continue;
		l->rec = x->tr->rec;
		l->d_inner = f.d_inner;
		l->d_state = f.d_state;
		l->d_conv = f.d_conv;
		l->n_group = f.n_group;
		l->dt_rank = f.dt_rank;
		l->rec_heads = f.rec_heads;
		l->rec_k_heads = f.rec_k_heads;
		l->rec_d_k = f.rec_d_k;
		l->rec_d_v = f.rec_d_v;
	}
	return 0;
}

/* ---- attention -------------------------------------------------------------------------------------------------- */

struct dims {
	uint32_t k, v, k_swa, v_swa;         /* heads of the cache */
	uint32_t k_mla, v_mla, rot;          /* heads of the attention proper when the cache is latent */
	uint32_t q_lora, kv_lora;
};

static uint32_t first_heads(const struct meta *x)
{
	for (uint32_t i = 0; i < x->n_all; i++)
		if (x->heads[i])
			return x->heads[i];
	return 0;
}

static int read_dims(struct meta *x, struct dims *d)
{
	uint32_t n_head = first_heads(x);
	int rk, rv, r;
	if ((rk = get_u32(x, "attention.key_length", MAX_RANK, &d->k)) < 0)
		return rk;
	if ((rv = get_u32(x, "attention.value_length", MAX_RANK, &d->v)) < 0)
		return rv;
	if ((!rk || !rv) && n_head) {
		if (x->m->n_embd % n_head)
			return pl_fail(x->err, PL_ERR_FORMAT, x->arch, "an embedding of %u does not divide into %u heads", x->m->n_embd,
			               n_head);
		d->k = rk ? d->k : x->m->n_embd / n_head;
		d->v = rv ? d->v : x->m->n_embd / n_head;
	}
	d->k_swa = d->k;
	d->v_swa = d->v;
	d->rot = d->k;
	if ((r = get_u32(x, "attention.key_length_swa", MAX_RANK, &d->k_swa)) < 0 ||
	    (r = get_u32(x, "attention.value_length_swa", MAX_RANK, &d->v_swa)) < 0 ||
	    (r = get_u32(x, "attention.key_length_mla", MAX_RANK, &d->k_mla)) < 0 ||
	    (r = get_u32(x, "attention.value_length_mla", MAX_RANK, &d->v_mla)) < 0 ||
	    (r = get_u32(x, "attention.q_lora_rank", MAX_RANK, &d->q_lora)) < 0 ||
	    (r = get_u32(x, "attention.kv_lora_rank", MAX_RANK, &d->kv_lora)) < 0 ||
	    (r = get_u32(x, "rope.dimension_count", MAX_RANK, &d->rot)) < 0)
		return r;
	if (n_head && (!d->k || !d->v))
		return pl_fail(x->err, PL_ERR_RANGE, x->arch, "attention heads have %u key and %u value dimensions", d->k, d->v);
	if (!d->k_mla != !d->v_mla || (d->k_mla && (!d->kv_lora || d->rot > d->k_mla)))
		return pl_fail(x->err, PL_ERR_FORMAT, x->arch,
		               "latent attention needs key_length_mla, value_length_mla and kv_lora_rank together, with at most "
		               "key_length_mla rotated dimensions");
	return 0;
}

static bool layer_attends(const struct meta *x, uint32_t i)
{
	bool mtp = i >= x->m->n_layers;
	switch (x->tr->rec_rule) {
	case PL_REC_EVERY:
		return false;
	case PL_REC_KV0_FF0:
		return x->kv_heads[i] && (mtp || !x->ff[i]);
	case PL_REC_BESIDE:
	case PL_REC_NEVER:
		return x->kv_heads[i] != 0;
	default:
		return x->kv_heads[i] && !x->recurrent[i];
	}
}

static int set_attention_layer(struct meta *x, const struct dims *d, uint32_t i)
{
	struct pl_layer *l = &x->layers[i];
	l->n_head = x->heads[i];
	l->n_head_kv = x->kv_heads[i];
	if (!l->n_head)
		return pl_fail(x->err, PL_ERR_FORMAT, key_of(x, "attention.head_count"), "layer %u has %u KV heads but no attention heads",
		               i, l->n_head_kv);
	if (l->n_head % l->n_head_kv)
		return pl_fail(x->err, PL_ERR_FORMAT, key_of(x, "attention.head_count_kv"),
		               "layer %u has %u heads, not a multiple of its %u KV heads", i, l->n_head, l->n_head_kv);
	l->q_lora = d->q_lora;
	l->kv_lora = d->kv_lora;
	if (d->k_mla) { /* the latent is cached once; d_k and d_v are those of the attention heads */
		l->attn = PL_ATTN_MLA;
		l->d_k = d->k_mla;
		l->d_v = d->v_mla;
		l->d_rope = d->rot;
		l->d_nope = d->k_mla - d->rot;
		return 0;
	}
	l->attn = PL_ATTN_GQA;
	l->d_k = l->window_tokens ? d->k_swa : d->k;
	l->d_v = l->window_tokens ? d->v_swa : d->v;
	if (d->kv_lora) { /* latent projections with an ordinary cache: files made before llama.cpp cached the latent */
		l->d_rope = (uint32_t)pl_min_u64(d->rot, d->k);
		l->d_nope = l->d_k - l->d_rope;
	}
	l->q_gated = x->tr->flags & PL_ARCH_Q_GATED;
	l->k_is_v = tensor_at(x, i, PL_ROLE_ATTN_K) && !tensor_at(x, i, PL_ROLE_ATTN_V) && l->d_k == l->d_v;
	return 0;
}

static bool layer_rotates(const struct meta *x, uint32_t i)
{
	const struct pl_arch_traits *tr = x->tr;
	bool any_swa = false;
	for (uint32_t j = 0; j < x->m->n_layers; j++)
		any_swa |= x->layers[j].window_tokens != 0;
	if (tr->flags & PL_ARCH_NO_ROPE)
		return false;
	if ((tr->flags & PL_ARCH_ROPE_ON_SWA) && any_swa)
		return x->layers[i].window_tokens != 0;
	if (tr->no_rope_step && (any_swa || tr->swa == PL_SWA_NEVER))
		return tr->swa_dense_first ? i % tr->no_rope_step != 0 : (i + 1) % tr->no_rope_step != 0;
	return true;
}

static int share_caches(struct meta *x)
{
	uint32_t shared = 0, own = x->tr->kv_from_start;
	int r = 0;
	if (!(x->tr->flags & PL_ARCH_SHARED_KV))
		return 0;
	if (!own) {
		if ((r = get_u32(x, "attention.shared_kv_layers", MAX_LAYERS, &shared)) < 0)
			return r;
		if (shared && shared + 2 > x->n_all)
			return pl_fail(x->err, PL_ERR_RANGE, x->key, "key '%s' is %u, at least 2 of the %u layers must keep a cache", x->key,
			               shared, x->n_all);
		own = x->n_all - shared;
	}
	for (uint32_t i = own; i < x->m->n_layers; i++) /* the last sliding or the last full layer with a cache */
		x->layers[i].kv_from_layer = (int32_t)(own - (x->layers[i].window_tokens ? 2 : 1));
	return 0;
}

static int set_indexer(struct meta *x)
{
	uint32_t n_head = 0, dim = 0, top_k = 0;
	int r;
	if ((r = get_u32(x, "attention.indexer.head_count", MAX_HEADS, &n_head)) < 0 ||
	    (r = get_u32(x, "attention.indexer.key_length", MAX_RANK, &dim)) < 0 ||
	    (r = get_u32(x, "attention.indexer.top_k", MAX_TOKENS, &top_k)) < 0)
		return r;
	if (!n_head || !dim || !top_k)
		return 0;
	const struct pl_gguf_kv *types = pl_gguf_find(x->g, key_of(x, "attention.indexer.types"));
	for (uint32_t i = 0; i < x->m->n_layers; i++) {
		struct pl_layer *l = &x->layers[i];
		uint64_t full = 1;
		if (l->attn == PL_ATTN_NONE)
			continue;
		if ((x->tr->flags & PL_ARCH_SHARED_INDEXER) && types && i < types->n)
			pl_gguf_u64_at(x->g, x->key, i, &full);
		else if (tensor_at(x, 0, PL_ROLE_ATTN_OUT)) /* the file shows its tensors: no key projection, no indexer */
			full = tensor_at(x, i, PL_ROLE_INDEXER_K) || tensor_at(x, i, PL_ROLE_INDEXER_K_PROJ);
		l->indexer_heads = full ? n_head : 0;
		l->indexer_dim = full ? dim : 0;
		l->indexer_topk = top_k;
	}
	return 0;
}

static int set_attention(struct meta *x)
{
	struct dims d = {0};
	int r;
	if ((r = read_dims(x, &d)) < 0)
		return r;
	for (uint32_t i = 0; i < x->n_all; i++) {
		if (!layer_attends(x, i))
			x->layers[i].window_tokens = 0;
		else if ((r = set_attention_layer(x, &d, i)) < 0)
			return r;
		x->layers[i].no_rope = !layer_rotates(x, i);
	}
	return (r = share_caches(x)) < 0 ? r : set_indexer(x);
}

/* ---- feed forward ----------------------------------------------------------------------------------------------- */

static uint32_t dim_at(const struct meta *x, uint32_t i, enum pl_role role, int dim)
{
	const struct pl_tensor *t = tensor_at(x, i, role);
	return t ? (uint32_t)pl_min_u64(t->ne[dim], UINT32_MAX) : 0;
}

static void set_dense_ffn(struct meta *x, uint32_t i)
{
	struct pl_layer *l = &x->layers[i];
	uint32_t down = dim_at(x, i, PL_ROLE_FFN_DOWN, 0), up = dim_at(x, i, PL_ROLE_FFN_UP, 1);
	l->n_ff = down ? down : up;
	bool gate = tensor_at(x, i, PL_ROLE_FFN_GATE) || tensor_at(x, i, PL_ROLE_FFN_GATE_UP);
	bool fused = down && up == 2 * (uint64_t)down; /* gate and up in one matrix: Phi-3, ChatGLM, GLM-4 */
	l->ffn = gate || fused ? PL_FFN_GATED : PL_FFN_PLAIN;
}

static void set_moe_ffn(struct meta *x, uint32_t i, uint32_t n_expert, uint32_t n_shared)
{
	struct pl_layer *l = &x->layers[i];
	bool dense = tensor_at(x, i, PL_ROLE_FFN_DOWN) != NULL;
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

static int set_ffn(struct meta *x)
{
	uint32_t n_expert = 0, n_shared = 0, lead = 0, step = 0;
	int r;
	if ((r = get_u32(x, "expert_count", MAX_EXPERTS, &n_expert)) < 0 ||
	    (r = get_u32(x, "expert_shared_count", MAX_EXPERTS, &n_shared)) < 0 ||
	    (r = get_u32(x, "leading_dense_block_count", MAX_LAYERS, &lead)) < 0 ||
	    (r = get_u32(x, "interleave_moe_layer_step", MAX_LAYERS, &step)) < 0)
		return r;
	for (uint32_t i = 0; i < x->g->n_tensors; i++) { /* a bias of each expert, in one matrix */
		struct pl_tensor *t = &x->g->tensors[i];
		if (t->group == PL_GROUP_EXPERT && t->is_bias && t->ne[1] == n_expert)
			t->n_stacked = n_expert;
	}
	for (uint32_t i = 0; i < x->n_all; i++) {
		struct pl_layer *l = &x->layers[i];
		bool has_moe = tensor_at(x, i, PL_ROLE_EXPERT_DOWN) || tensor_at(x, i, PL_ROLE_ROUTER);
		bool has_dense = tensor_at(x, i, PL_ROLE_FFN_DOWN) || tensor_at(x, i, PL_ROLE_FFN_UP);
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
			return pl_fail(x->err, PL_ERR_FORMAT, key_of(x, "expert_used_count"),
			               "layer %u has %u experts but key '%s' gives none to use", i, l->n_expert, x->key);
	}
	return 0;
}

/* ---- unknown architectures -------------------------------------------------------------------------------------- */

/* Whatever the usual keys say, with nothing required: layers by block_count, ordinary attention where heads are given. */
static int guess_layers(struct meta *x)
{
	static const struct pl_arch_traits none = {.name = ""};
	struct pl_model *m = x->m;
	int r;
	x->tr = &none;
	x->guess = true;
	if ((r = get_u32(x, "block_count", MAX_LAYERS, &x->n_all)) < 0 ||
	    (r = get_u32(x, "embedding_length", MAX_WIDTH, &m->n_embd)) < 0 ||
	    (r = get_u32(x, "context_length", MAX_TOKENS, &m->n_ctx_train)) < 0 || (r = read_vocab(x)) < 0)
		return r;
	for (uint32_t i = 0; i < x->g->n_tensors && !pl_gguf_find(x->g, key_of(x, "block_count")); i++)
		if (x->g->tensors[i].layer >= (int32_t)x->n_all && x->g->tensors[i].layer < MAX_LAYERS)
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
	if (first_heads(x) && m->n_embd && (m->n_embd % first_heads(x) == 0) && (r = set_attention(x)) < 0)
		return r;
	m->layers = x->layers;
	return 0;
}

static int read_unknown(struct meta *x)
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
	pl_note_add(x->a, &x->m->notes, PL_NOTE_WARNING,
	            "the architecture '%s' is not known: its weights are exact; ordinary attention over the whole context is "
	            "assumed in %u layers, and windows, recurrent state and shared caches are not known",
	            x->arch, x->n_all);
	return 0;
}

/* ---- entry ------------------------------------------------------------------------------------------------------ */

static int read_known(struct meta *x)
{
	struct pl_model *m = x->m;
	int r;
	if ((r = read_sizes(x)) < 0 || (r = index_tensors(x)) < 0 || (r = read_lists(x)) < 0)
		return r;
	for (uint32_t i = 0; i < x->n_all; i++) {
		x->layers[i].kv_from_layer = -1;
		x->layers[i].is_mtp = i >= m->n_layers;
	}
	if ((r = set_windows(x)) < 0 || (r = set_recurrent(x)) < 0 || (r = set_attention(x)) < 0 || (r = set_ffn(x)) < 0)
		return r;
	if ((r = get_u32(x, "embedding_length_per_layer_input", MAX_WIDTH, &m->d_per_layer_embed)) < 0)
		return r;
	m->layers = x->layers;
	m->is_embedding = x->tr->flags & PL_ARCH_EMBEDDING;
	m->no_kv_cache = x->tr->flags & (PL_ARCH_EMBEDDING | PL_ARCH_NO_CACHE);
	m->tied_output = !m->is_embedding && !find_global(x->g, PL_ROLE_OUTPUT) && find_global(x->g, PL_ROLE_TOKEN_EMBD);
	for (uint32_t i = 0; i < m->n_layers && !m->n_swa_period; i++)
		if (x->layers[i].window_tokens)
			m->n_swa_period = x->tr->swa_period;
	if (x->tr->flags & PL_ARCH_OTHER_CACHE) {
		m->arch_known = false;
		pl_note_add(x->a, &m->notes, PL_NOTE_WARNING,
		            "llama.cpp keeps caches for '%s' that this program does not model: its weights are exact, its cache is not",
		            x->arch);
		return 0;
	}
	m->arch_known = true;
	return 0;
}

int pl_layers_from_gguf(struct pl_arena *a, const struct pl_gguf *g, struct pl_model *m, struct pl_err *err)
{
	struct meta x = {.a = a, .g = g, .m = m, .err = err};
	const char *type = pl_gguf_str(a, g, "general.type");
	x.arch = pl_gguf_str(a, g, "general.architecture");
	if (!x.arch)
		x.arch = "unknown";
	if (strlen(x.arch) > 64)
		return pl_fail(err, PL_ERR_FORMAT, "general.architecture", "the name of the architecture has %zu characters, the limit is 64",
		               strlen(x.arch));
	m->arch = x.arch;
	x.tr = pl_arch_traits_find(x.arch);
	if (!x.tr || (x.tr->flags & PL_ARCH_NOT_A_MODEL) || (type && strcmp(type, "model")))
		return read_unknown(&x);
	return read_known(&x);
}
