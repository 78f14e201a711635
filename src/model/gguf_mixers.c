/* Windows, recurrent layers and attention from GGUF metadata, by the rules of llama.cpp. */
#include <string.h>

#include "base/checked.h"
#include "model/gguf_meta.h"

/* ---- windows ---------------------------------------------------------------------------------------------------- */

/* The pattern, by llama.cpp's load_swa_pattern: array in the file, else period in the file, else the period of the
 * code. */
static int read_swa_pattern(struct pl_meta *x)
{
	const struct pl_arch_traits *tr = x->tr;
	const struct pl_gguf_kv *kv = pl_gguf_find(x->g, pl_meta_key(x, "attention.sliding_window_pattern"));
	uint32_t period = tr->swa_period;
	if (kv && kv->type == PL_GGUF_ARRAY) {
		uint32_t n_all = x->n_all;
		if (kv->n >= x->m->n_layers && kv->n < n_all)
			x->n_all = (uint32_t)kv->n; /* some converters leave the prediction layers out */
		int r = pl_meta_per_layer(x, "attention.sliding_window_pattern", UINT32_MAX, x->swa);
		x->n_all = n_all;
		return r < 0 ? r : 0;
	}
	if (tr->swa_array)
		return pl_fail(x->err, PL_ERR_FORMAT, x->key, "key '%s' is missing", x->key);
	int r = pl_meta_u32(x, "attention.sliding_window_pattern", PL_META_MAX_LAYERS, &period);
	for (uint32_t i = 0; i < x->m->n_layers; i++)
		x->swa[i] = pl_swa_pattern_at(i, period, tr->swa_dense_first);
	return r < 0 ? r : 0;
}

int pl_meta_windows(struct pl_meta *x)
{
	const struct pl_arch_traits *tr = x->tr;
	uint32_t window = tr->swa_window, key = 0;
	if (tr->swa == PL_SWA_NEVER || (tr->swa_at_layers && x->m->n_layers != tr->swa_at_layers))
		return 0;
	int r = pl_meta_u32(x, "attention.sliding_window", PL_META_MAX_TOKENS, &key);
	if (r < 0)
		return r;
	if ((tr->swa == PL_SWA_IF_SET && !key) || (tr->swa == PL_SWA_CHUNKED && r == 1 && !key))
		return 0;
	if (r == 1 && !tr->swa_window_fixed)
		window = key;
	if (!window)
		return pl_fail(x->err, PL_ERR_FORMAT, pl_meta_key(x, "attention.sliding_window"),
		               "key '%s' is missing or 0", x->key);
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

static int mark_recurrent(struct pl_meta *x)
{
	const struct pl_arch_traits *tr = x->tr;
	uint32_t interval = tr->rec_interval;
	int r = 0;
	if (tr->rec_rule == PL_REC_INTERVAL) {
		r = pl_meta_per_layer(x, "attention.recurrent_layers", 1, x->recurrent);
		if (r)
			return r < 0 ? r : 0;
		if ((r = pl_meta_u32(x, "full_attention_interval", PL_META_MAX_LAYERS, &interval)) < 0)
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
static int read_ssm(struct pl_meta *x, struct pl_layer *l)
{
	enum pl_rec_kind kind = x->tr->rec;
	bool need = kind == PL_REC_MAMBA1 || kind == PL_REC_MAMBA2 || kind == PL_REC_DELTANET;
	int r;
	if (!need)
		return 0;
	if ((r = pl_meta_need_u32(x, "ssm.conv_kernel", 1024, &l->d_conv)) < 0 ||
	    (r = pl_meta_need_u32(x, "ssm.inner_size", PL_META_MAX_WIDTH, &l->d_inner)) < 0 ||
	    (r = pl_meta_need_u32(x, "ssm.state_size", PL_META_MAX_RANK, &l->d_state)) < 0 ||
	    (r = pl_meta_need_u32(x, "ssm.time_step_rank", PL_META_MAX_WIDTH, &l->dt_rank)) < 0 ||
	    (r = pl_meta_u32(x, "ssm.group_count", PL_META_MAX_HEADS, &l->n_group)) < 0)
		return r;
	if (kind == PL_REC_MAMBA1)
		return 0;
	l->rec_heads = l->dt_rank;
	if (l->d_inner % l->rec_heads)
		return pl_fail(x->err, PL_ERR_FORMAT, x->arch,
		               "an inner size of %u does not divide into %u recurrent heads", l->d_inner, l->rec_heads);
	if (kind == PL_REC_DELTANET) {
		l->rec_k_heads = l->n_group;
		l->rec_d_k = l->d_state;
		l->rec_d_v = l->d_inner / l->rec_heads;
	}
	return 0;
}

static int read_other_recurrent(struct pl_meta *x, struct pl_layer *l)
{
	uint32_t d = 0, shifts = 2;
	int r = 0;
	switch (x->tr->rec) {
	case PL_REC_SHORTCONV:
		r = pl_meta_need_u32(x, "shortconv.l_cache", 1024, &l->d_conv);
		l->d_inner = x->m->n_embd;
		return r;
	case PL_REC_KDA:
		if ((r = pl_meta_need_u32(x, "kda.head_dim", PL_META_MAX_RANK, &d)) < 0 ||
		    (r = pl_meta_need_u32(x, "ssm.conv_kernel", 1024, &l->d_conv)) < 0)
			return r;
		l->rec_heads = l->rec_k_heads = x->heads[0];
		l->rec_d_k = l->rec_d_v = l->d_state = d;
		l->d_inner = l->rec_heads * d;
		return 0;
	case PL_REC_RWKV:
		if ((r = pl_meta_need_u32(x, "wkv.head_size", PL_META_MAX_RANK, &d)) < 0 ||
		    (r = pl_meta_u32(x, "token_shift_count", 16, &shifts)) < 0)
			return r;
		if (x->m->n_embd % d)
			return pl_fail(x->err, PL_ERR_FORMAT, x->arch,
			               "an embedding of %u does not divide into heads of %u", x->m->n_embd, d);
		l->rec_d_k = l->rec_d_v = d;
		l->rec_heads = l->rec_k_heads = x->m->n_embd / d;
		l->d_inner = x->m->n_embd;
		l->d_conv = shifts + 1;
		return 0;
	case PL_REC_LIGHTNING:
		l->rec_heads = l->rec_k_heads = x->heads[0];
		if ((r = pl_meta_u32(x, "attention.key_length", PL_META_MAX_RANK, &d)) < 0)
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

int pl_meta_recurrent(struct pl_meta *x)
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
	uint32_t k, v, k_swa, v_swa; /* heads of the cache */
	uint32_t k_mla, v_mla, rot;  /* heads of the attention proper when the cache is latent */
	uint32_t q_lora, kv_lora;
};

uint32_t pl_meta_first_heads(const struct pl_meta *x)
{
	for (uint32_t i = 0; i < x->n_all; i++)
		if (x->heads[i])
			return x->heads[i];
	return 0;
}

static int read_dims(struct pl_meta *x, struct dims *d)
{
	uint32_t n_head = pl_meta_first_heads(x);
	int rk, rv, r;
	if ((rk = pl_meta_u32(x, "attention.key_length", PL_META_MAX_RANK, &d->k)) < 0)
		return rk;
	if ((rv = pl_meta_u32(x, "attention.value_length", PL_META_MAX_RANK, &d->v)) < 0)
		return rv;
	if ((!rk || !rv) && n_head) {
		if (x->m->n_embd % n_head)
			return pl_fail(x->err, PL_ERR_FORMAT, x->arch,
			               "an embedding of %u does not divide into %u heads", x->m->n_embd, n_head);
		d->k = rk ? d->k : x->m->n_embd / n_head;
		d->v = rv ? d->v : x->m->n_embd / n_head;
	}
	d->k_swa = d->k;
	d->v_swa = d->v;
	d->rot = d->k;
	if ((r = pl_meta_u32(x, "attention.key_length_swa", PL_META_MAX_RANK, &d->k_swa)) < 0 ||
	    (r = pl_meta_u32(x, "attention.value_length_swa", PL_META_MAX_RANK, &d->v_swa)) < 0 ||
	    (r = pl_meta_u32(x, "attention.key_length_mla", PL_META_MAX_RANK, &d->k_mla)) < 0 ||
	    (r = pl_meta_u32(x, "attention.value_length_mla", PL_META_MAX_RANK, &d->v_mla)) < 0 ||
	    (r = pl_meta_u32(x, "attention.q_lora_rank", PL_META_MAX_RANK, &d->q_lora)) < 0 ||
	    (r = pl_meta_u32(x, "attention.kv_lora_rank", PL_META_MAX_RANK, &d->kv_lora)) < 0 ||
	    (r = pl_meta_u32(x, "rope.dimension_count", PL_META_MAX_RANK, &d->rot)) < 0)
		return r;
	if (n_head && (!d->k || !d->v))
		return pl_fail(x->err, PL_ERR_RANGE, x->arch, "attention heads have %u key and %u value dimensions",
		               d->k, d->v);
	if (!d->k_mla != !d->v_mla || (d->k_mla && (!d->kv_lora || d->rot > d->k_mla)))
		return pl_fail(
		    x->err, PL_ERR_FORMAT, x->arch,
		    "latent attention needs key_length_mla, value_length_mla and kv_lora_rank together, with at most "
		    "key_length_mla rotated dimensions");
	return 0;
}

static bool layer_attends(const struct pl_meta *x, uint32_t i)
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

static int set_attention_layer(struct pl_meta *x, const struct dims *d, uint32_t i)
{
	struct pl_layer *l = &x->layers[i];
	l->n_head = x->heads[i];
	l->n_head_kv = x->kv_heads[i];
	if (!l->n_head)
		return pl_fail(x->err, PL_ERR_FORMAT, pl_meta_key(x, "attention.head_count"),
		               "layer %u has %u KV heads but no attention heads", i, l->n_head_kv);
	if (l->n_head % l->n_head_kv)
		return pl_fail(x->err, PL_ERR_FORMAT, pl_meta_key(x, "attention.head_count_kv"),
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
	l->k_is_v = pl_meta_tensor(x, i, PL_ROLE_ATTN_K) && !pl_meta_tensor(x, i, PL_ROLE_ATTN_V) && l->d_k == l->d_v;
	return 0;
}

static bool layer_rotates(const struct pl_meta *x, uint32_t i)
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

static int share_caches(struct pl_meta *x)
{
	uint32_t shared = 0, own = x->tr->kv_from_start;
	int r = 0;
	if (!(x->tr->flags & PL_ARCH_SHARED_KV))
		return 0;
	if (!own) {
		if ((r = pl_meta_u32(x, "attention.shared_kv_layers", PL_META_MAX_LAYERS, &shared)) < 0)
			return r;
		if (shared && shared + 2 > x->n_all)
			return pl_fail(x->err, PL_ERR_RANGE, x->key,
			               "key '%s' is %u, at least 2 of the %u layers must keep a cache", x->key, shared,
			               x->n_all);
		own = x->n_all - shared;
	}
	for (uint32_t i = own; i < x->m->n_layers; i++) /* the last sliding or the last full layer with a cache */
		x->layers[i].kv_from_layer = (int32_t)(own - (x->layers[i].window_tokens ? 2 : 1));
	return 0;
}

static int set_indexer(struct pl_meta *x)
{
	uint32_t n_head = 0, dim = 0, top_k = 0;
	int r;
	if ((r = pl_meta_u32(x, "attention.indexer.head_count", PL_META_MAX_HEADS, &n_head)) < 0 ||
	    (r = pl_meta_u32(x, "attention.indexer.key_length", PL_META_MAX_RANK, &dim)) < 0 ||
	    (r = pl_meta_u32(x, "attention.indexer.top_k", PL_META_MAX_TOKENS, &top_k)) < 0)
		return r;
	if (!n_head || !dim || !top_k)
		return 0;
	const struct pl_gguf_kv *types = pl_gguf_find(x->g, pl_meta_key(x, "attention.indexer.types"));
	for (uint32_t i = 0; i < x->m->n_layers; i++) {
		struct pl_layer *l = &x->layers[i];
		uint64_t full = 1;
		if (l->attn == PL_ATTN_NONE)
			continue;
		if ((x->tr->flags & PL_ARCH_SHARED_INDEXER) && types && i < types->n)
			pl_gguf_u64_at(x->g, x->key, i, &full);
		else if (pl_meta_tensor(
		             x, 0, PL_ROLE_ATTN_OUT)) /* the file shows its tensors: no key projection, no indexer */
			full = pl_meta_tensor(x, i, PL_ROLE_INDEXER_K) || pl_meta_tensor(x, i, PL_ROLE_INDEXER_K_PROJ);
		l->indexer_heads = full ? n_head : 0;
		l->indexer_dim = full ? dim : 0;
		l->indexer_topk = top_k;
	}
	return 0;
}

int pl_meta_attention(struct pl_meta *x)
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
