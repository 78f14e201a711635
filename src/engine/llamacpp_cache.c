/* Caches (llama.cpp src/llama-context.cpp, src/llama-kv-cache.cpp, src/llama-kv-cache-iswa.cpp, -dsa.cpp,
 * src/llama-memory-recurrent.cpp). */
#include <string.h>

#include "base/checked.h"
#include "engine/llamacpp.h"
#include "memory/cache.h"

enum { CTX_PAD = 256, HOST_ALIGN = 32, GPU_ALIGN = 128, ROW_PADDING = 512, MAX_SEQ = 256 };

static void add_tensor(struct ll_bytes *to, enum pl_dtype type, uint64_t row_elems, uint64_t rows)
{
	const struct pl_dtype_info *d = pl_dtype_info(type);
	uint64_t row = pl_sat_mul(pl_ceil_div(row_elems, d->block_elems), d->block_bytes);
	uint64_t bytes = pl_sat_mul(row, rows), padded = bytes, over = row_elems % ROW_PADDING;
	if (!bytes)
		return;
	if (d->block_elems > 1 && over)
		padded = pl_sat_add(padded, (ROW_PADDING - over) / d->block_elems * d->block_bytes);
	to->v[LL_HOST] = pl_sat_add(to->v[LL_HOST], pl_round_up(bytes, HOST_ALIGN));
	to->v[LL_PLAIN] = pl_sat_add(to->v[LL_PLAIN], pl_round_up(bytes, GPU_ALIGN));
	to->v[LL_PADDED] = pl_sat_add(to->v[LL_PADDED], pl_round_up(padded, GPU_ALIGN));
}

/* Without flash attention values are stored transposed, and then every layer takes the widest layer's row. */
static uint64_t widest_v(const struct pl_model *m)
{
	uint64_t widest = 0;
	for (uint32_t i = 0; i < m->n_layers + m->n_layers_mtp; i++)
		widest = pl_max_u64(widest, pl_sat_mul(m->layers[i].n_head_kv, m->layers[i].d_v));
	return widest;
}

enum pl_dtype ll_draft_type(enum pl_dtype asked)
{
	return asked ? asked : PL_DTYPE_F16;
}

static void size_layer(struct ll_job *j, uint32_t il, uint64_t v_elems_wide)
{
	const struct pl_layer *l = &j->m->layers[il];
	struct ll_layer *out = &j->layers[il];
	struct pl_cache_row kv = pl_layer_cache_row(l);
	struct pl_state_row st = pl_layer_state_row(l);
	uint64_t cells = l->window_tokens ? j->ctx.n_cells_swa : j->ctx.n_cells;
	uint64_t rows = pl_sat_mul(cells, j->ctx.n_stream);
	if (l->is_mtp) { /* a context of its own, as long as the target's, with an ordinary cache of these layers alone */
		enum pl_dtype k = ll_draft_type(j->p->draft.type_k), v = ll_draft_type(j->p->draft.type_v);
		if (j->n_mtp && !j->m->no_kv_cache) {
			add_tensor(&out->kv, k, kv.k_elems, rows);
			add_tensor(&out->kv, v, !j->ctx.flash_attn && kv.v_elems ? v_elems_wide : kv.v_elems, rows);
		}
		return;
	}
	if (!j->m->no_kv_cache) {
		add_tensor(&out->kv, j->ctx.type_k, kv.k_elems, rows);
		/* without a state beside it, even a layer that does not attend is given room for values then */
		bool wide = !j->ctx.flash_attn && (kv.v_elems || (l->attn == PL_ATTN_NONE && !j->has_state));
		add_tensor(&out->kv, j->ctx.type_v, wide ? v_elems_wide : kv.v_elems, rows);
		add_tensor(&out->kv, j->ctx.type_k, kv.indexer_elems, rows);
		if (kv.indexer_elems && l->attn == PL_ATTN_GQA) /* MiniMax M3: an ordinary cache of one head, values and all */
			add_tensor(&out->kv, j->ctx.type_v, l->d_v, rows);
	}
	/* always f32, one row for each sequence and for each state it may go back to */
	uint64_t states = pl_sat_mul(j->ctx.n_seq, 1ull + j->n_rollback);
	add_tensor(&out->state, PL_DTYPE_F32, st.conv_elems, states);
	add_tensor(&out->state, PL_DTYPE_F32, st.state_elems, states);
}

static int check_type(const struct ll_job *j, enum pl_dtype type, bool keys, struct pl_err *err)
{
	const struct pl_dtype_info *d = pl_dtype_info(type);
	bool known = false;
	for (const enum pl_dtype *t = ll_kv_types(); *t; t++)
		known |= *t == type;
	if (!known)
		return pl_fail(err, PL_ERR_UNSUPPORTED, d->name, "llama.cpp has no cache of type '%s'", d->name);
	if (!keys && d->block_elems > 1 && !j->ctx.flash_attn)
		return pl_fail(err, PL_ERR_UNSUPPORTED, d->name, "a value cache of type '%s' needs flash attention", d->name);
	for (uint32_t i = 0; i < j->m->n_layers; i++) {
		struct pl_cache_row r = pl_layer_cache_row(&j->m->layers[i]);
		const struct pl_layer *l = &j->m->layers[i];
		if (keys && l->attn == PL_ATTN_MLA && d->block_elems > 1 && !j->ctx.flash_attn)
			return pl_fail(err, PL_ERR_UNSUPPORTED, d->name, "a latent cache of type '%s' needs flash attention", d->name);
		/* heads are looked at unless -fa off is said; then keys need only fill the row of a layer */
		bool row = keys && j->p->flash_attn == 0;
		uint64_t head = keys ? (row || l->attn == PL_ATTN_MLA ? r.k_elems : l->d_k) : l->d_v;
		if ((keys ? r.k_elems : r.v_elems) && head % d->block_elems)
			return pl_fail(err, PL_ERR_UNSUPPORTED, d->name,
			               "heads of %llu elements do not divide into the blocks of %u that a cache of type '%s' has",
			               (unsigned long long)head, d->block_elems, d->name);
	}
	return 0;
}

static uint32_t window_of(const struct pl_model *m)
{
	for (uint32_t i = 0; i < m->n_layers; i++)
		if (m->layers[i].window_tokens)
			return m->layers[i].window_tokens;
	return 0;
}

static void size_context(struct ll_job *j, uint64_t asked /* what -c says */)
{
	struct ll_context *c = &j->ctx;
	const struct pl_params *p = j->p;
	c->n_seq = p->n_seq;
	c->n_stream = p->kv_unified ? 1 : p->n_seq;
	c->n_batch = j->m->no_kv_cache ? p->n_batch : (uint32_t)pl_min_u64(asked, p->n_batch); /* causal: no longer than the context */
	c->n_ubatch = (uint32_t)pl_min_u64(c->n_batch, p->n_ubatch ? p->n_ubatch : p->n_batch);
	/* a server answers one token a slot, the others may want every token of a batch */
	bool few = p->program == PL_LLAMA_SERVER && !j->m->is_embedding && j->build >= LL_SINCE_OUTPUTS;
	/* … and the drafted ones that it checks (common/speculative.cpp common_speculative_get_output_limits) */
	c->n_outputs = few ? (uint32_t)pl_min_u64(c->n_batch, pl_sat_mul(c->n_seq, 1ull + j->n_drafted)) : c->n_batch;
	c->n_ctx = pl_round_up(asked, CTX_PAD);
	c->n_ctx_seq = p->kv_unified ? c->n_ctx : pl_round_up(c->n_ctx / p->n_seq, CTX_PAD);
	c->n_ctx = pl_sat_mul(c->n_ctx_seq, c->n_stream);
	c->n_cells = c->n_cells_swa = c->n_ctx_seq;
	uint64_t window = pl_sat_mul(window_of(j->m), p->kv_unified ? p->n_seq : 1);
	if (window && !p->swa_full)
		c->n_cells_swa = pl_round_up(pl_min_u64(c->n_cells, window + c->n_ubatch), CTX_PAD);
}

void ll_set_context(struct ll_job *j, uint64_t n_ctx_total)
{
	uint64_t wide = widest_v(j->m);
	size_context(j, n_ctx_total);
	for (uint32_t i = 0; i < j->n_all && j->m->layers; i++)
		j->has_state |= j->m->layers[i].rec != PL_REC_NONE;
	for (uint32_t i = 0; i < j->n_all && j->m->layers; i++) {
		memset(&j->layers[i].kv, 0, sizeof j->layers[i].kv);
		memset(&j->layers[i].state, 0, sizeof j->layers[i].state);
		size_layer(j, i, wide);
	}
}

int ll_cache(struct ll_job *j, struct pl_err *err)
{
	struct ll_context *c = &j->ctx;
	int rc;
	if (j->p->n_seq > MAX_SEQ)
		return pl_fail(err, PL_ERR_RANGE, "n_seq", "%u sequences asked, llama.cpp holds at most %d", j->p->n_seq, MAX_SEQ);
	if (!j->p->n_batch)
		return pl_fail(err, PL_ERR_RANGE, "n_batch", "a batch of 0 tokens asked, at least 1 is needed");
	c->type_k = j->p->type_k ? j->p->type_k : PL_DTYPE_F16;
	c->type_v = j->p->type_v ? j->p->type_v : PL_DTYPE_F16;
	if ((rc = check_type(j, c->type_k, true, err)) < 0 || (rc = check_type(j, c->type_v, false, err)) < 0)
		return rc;
	ll_set_context(j, pl_sat_mul(j->p->n_ctx_tokens, j->p->n_seq));
	return 0;
}
