/* What generating takes beside the weights. The activations are the tensors that Python still refers to at the worst moment of
 * a layer (transformers 5.24 models/llama, models/deepseek_v3, integrations/moe.py, cache_utils.py, generation/utils.py); a
 * prompt as long as the context is the worst case. Bytes are counted in widths (elements a token) first. */
#include "base/checked.h"
#include "engine/transformers.h"
#include "memory/cache.h"

static const uint64_t MIB = 1024 * 1024;

/* ---- cache ------------------------------------------------------------------------------------------------------- */

static struct pl_cache_row row_of(const struct tf_job *j, const struct pl_layer *l)
{
	struct pl_cache_row row = pl_layer_cache_row(l);
	if (l->attn == PL_ATTN_MLA && row.k_elems && !j->rules.latent_cache) {
		row.k_elems = pl_sat_mul(l->n_head, (uint64_t)l->d_nope + l->d_rope);
		row.v_elems = pl_sat_mul(l->n_head, l->d_v);
	}
	return row;
}

static uint64_t window_of(const struct tf_job *j, const struct pl_layer *l)
{
	return j->rules.window_cache ? l->window_tokens : 0;
}

/* Bytes of n cached elements; 8 and 4 bits by HQQ and Quanto with a scale and a shift for 64 (QuantizedCacheConfig), and the
 * last 128 tokens always in full. */
static uint64_t cache_bytes(const struct tf_job *j, uint64_t elems_per_token, uint64_t tokens)
{
	enum { RESIDUAL_TOKENS = 128, GROUP = 64 };
	uint64_t full = pl_sat_mul(elems_per_token, pl_sat_mul(tokens, j->n_seq));
	uint64_t bits = j->p->type_k == PL_DTYPE_I8 ? 8 : j->p->type_k == PL_DTYPE_INT4 ? 4 : 0;
	if (!bits)
		return pl_sat_mul(full, j->elem_bytes);
	uint64_t recent = pl_sat_mul(elems_per_token, pl_sat_mul(pl_min_u64(tokens, RESIDUAL_TOKENS), j->n_seq));
	uint64_t old = full - recent;
	return pl_sat_add(pl_sat_mul(recent, j->elem_bytes), pl_sat_add(pl_sat_mul(old, bits) / 8, old / GROUP * 2 * j->elem_bytes));
}

struct layer_cache {
	uint64_t k_bytes, v_bytes;   /* between steps, the context full */
	uint64_t late_bytes;         /* held beyond that at the end of the prompt */
};

/* A layer with a window keeps a view of its last window - 1 tokens: the storage of a long prompt stays alive behind the view
 * until the next token makes a new tensor (DynamicSlidingWindowLayer.update). */
static struct layer_cache cache_of(const struct tf_job *j, const struct pl_layer *l)
{
	struct pl_cache_row row = row_of(j, l);
	uint64_t w = window_of(j, l), kept = w && w <= j->n_ctx ? w - 1 : j->n_ctx;
	uint64_t seen = pl_min_u64(j->n_ctx, pl_sat_add(kept, j->chunk));
	struct layer_cache c = {.k_bytes = cache_bytes(j, pl_sat_add(row.k_elems, row.indexer_elems), kept),
	                        .v_bytes = cache_bytes(j, row.v_elems, kept)};
	uint64_t both = pl_sat_add(row.k_elems, row.v_elems);
	if (seen > kept)
		c.late_bytes = pl_sat_sub(cache_bytes(j, both, seen), cache_bytes(j, both, kept));
	return c;
}

/* Recurrent state in 32 bit, the last d_conv inputs in the model's type (LinearAttentionLayer). */
static uint64_t state_of(const struct tf_job *j, const struct pl_layer *l)
{
	struct pl_state_row row = pl_layer_state_row(l);
	uint64_t conv = l->d_conv > 1 ? row.conv_elems / (l->d_conv - 1) * l->d_conv : row.conv_elems;
	uint64_t one = pl_sat_add(pl_sat_mul(conv, j->elem_bytes), pl_sat_mul(row.state_elems, 4));
	return pl_sat_mul(one, j->n_seq);
}

uint64_t tf_cache_bytes_per_token(const struct tf_job *j)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i < j->m->n_layers; i++) {
		const struct pl_layer *l = &j->m->layers[i];
		uint64_t w = window_of(j, l);
		struct pl_cache_row row = row_of(j, l);
		if (w && w <= j->n_ctx)
			continue;
		uint64_t elems = pl_sat_add(pl_sat_add(row.k_elems, row.v_elems), row.indexer_elems);
		uint64_t bits = j->p->type_k == PL_DTYPE_I8 ? 8 : j->p->type_k == PL_DTYPE_INT4 ? 4 : 0;
		sum = pl_sat_add(sum, bits ? elems * bits / 8 + elems / 64 * 2 * j->elem_bytes : pl_sat_mul(elems, j->elem_bytes));
	}
	return sum;
}

/* ---- activations of one layer, a prompt of `chunk` tokens with n_ctx cached at its end ------------------------------ */

static uint64_t rows_new(const struct tf_job *j)
{
	return pl_sat_mul(j->chunk, j->n_seq);
}

static uint64_t rows_all(const struct tf_job *j)
{
	return pl_sat_mul(j->n_ctx, j->n_seq);
}

static uint64_t elems(uint64_t rows, uint64_t width)
{
	return pl_sat_mul(rows, width);
}

/* Prompts of several sequences are padded: the kernel gets a mask, keys and values are repeated for every query head, and the
 * mask is made as booleans (one byte) and turned into numbers. Alone and without a window it gets none. */
static bool is_masked(const struct tf_job *j, const struct pl_layer *l)
{
	uint64_t w = window_of(j, l);
	return j->n_seq > 1 || j->chunk < j->n_ctx || (w && w < j->n_ctx);
}

static uint64_t score_bytes(const struct tf_job *j)
{
	/* scores, their 32-bit copy and the softmax in 32 bit; 16-bit half goes to 32 bit inside the kernel */
	return j->elem_bytes == 4 ? 12 : j->bf16 ? 10 : 8;
}

/* Attention over keys of width dk and values of width dv, both for every head when repeated. q_elems are alive. */
static uint64_t attend_bytes(const struct tf_job *j, const struct pl_layer *l, uint64_t dk, uint64_t dv, bool expanded)
{
	uint64_t heads = l->n_head, scores = pl_sat_mul(pl_sat_mul(heads, rows_new(j)), j->n_ctx);
	uint64_t repeated = elems(rows_all(j), pl_sat_mul(heads, dk + dv)), out = elems(rows_new(j), pl_sat_mul(heads, dv));
	uint64_t pairs = pl_sat_mul(rows_new(j), j->n_ctx), bytes = 0;
	bool grouped = l->n_head_kv && l->n_head_kv < l->n_head && !expanded;
	if (j->p->attention_eager) {
		bytes = pl_sat_mul(scores, score_bytes(j));
		bytes = pl_sat_add(bytes, pl_sat_mul(pairs, 1 + j->elem_bytes));
		return pl_sat_add(bytes, pl_sat_mul(grouped ? repeated : 0, j->elem_bytes));
	}
	bytes = pl_sat_mul(out, j->elem_bytes);
	if (is_masked(j, l)) {
		bytes = pl_sat_add(bytes, pl_sat_mul(pairs, 1 + j->elem_bytes));
		bytes = pl_sat_add(bytes, pl_sat_mul(grouped ? repeated : 0, j->elem_bytes));
	}
	return bytes;
}

static uint64_t gqa_bytes(const struct tf_job *j, const struct pl_layer *l)
{
	uint64_t n = rows_new(j), hq = pl_sat_mul(l->n_head, l->d_k), hk = pl_sat_mul(l->n_head_kv, l->d_k);
	uint64_t hv = pl_sat_mul(l->n_head_kv, l->d_v), gate = l->q_gated ? hq : 0;
	/* rotating the queries: q, k, v, q cos, the halves swapped, and those times sin */
	uint64_t rotate = pl_sat_mul(elems(n, 4 * hq + hk + hv + gate), j->elem_bytes);
	uint64_t attend = pl_sat_mul(elems(n, hq + gate), j->elem_bytes);
	attend = pl_sat_add(attend, attend_bytes(j, l, l->d_k, l->d_v, false));
	if (j->chunk < j->n_ctx) { /* with a past, the cache is copied into a longer tensor while the old one lives */
		struct layer_cache c = cache_of(j, l);
		attend = pl_sat_add(attend, pl_max_u64(c.k_bytes, c.v_bytes));
	}
	return pl_max_u64(rotate, attend);
}

static uint64_t mla_bytes(const struct tf_job *j, const struct pl_layer *l)
{
	uint64_t dk = (uint64_t)l->d_nope + l->d_rope, n = rows_new(j);
	uint64_t queries = elems(n, pl_sat_mul(l->n_head, 2 * dk)); /* before and after the rotated part is joined on */
	uint64_t keys = elems(rows_all(j), pl_sat_mul(l->n_head, (uint64_t)l->d_nope + l->d_v + dk));
	return pl_sat_add(pl_sat_mul(pl_sat_add(queries, keys), j->elem_bytes), attend_bytes(j, l, dk, l->d_v, true));
}

/* Recurrent mixers without their optional kernels, in 32 bit: projections, convolved inputs, and what the scan reads. */
static uint64_t recurrent_bytes(const struct tf_job *j, const struct pl_layer *l)
{
	uint64_t n = rows_new(j), width = l->d_inner;
	if (l->rec == PL_REC_DELTANET || l->rec == PL_REC_KDA)
		width = pl_sat_mul(l->rec_heads, pl_max_u64(l->rec_d_k, l->rec_d_v));
	if (!width)
		width = j->m->n_embd;
	/* q, k, v widened to all heads in 32 bit, k and v times beta, output, beside the 16-bit projections */
	uint64_t scan = l->rec == PL_REC_SHORTCONV ? 0 : pl_sat_mul(elems(n, 6 * width), 4);
	return pl_sat_add(pl_sat_mul(elems(n, 4 * width), j->elem_bytes), scan);
}

/* A linear layer of n rows beside its plain output. */
static uint64_t scheme_bytes(const struct tf_job *j, uint64_t n, uint64_t in, uint64_t out)
{
	switch (j->scheme) {
	case TF_BNB_INT8: /* 8-bit inputs, their 16-bit copy when the model is bfloat16, and 32-bit sums */
		return pl_sat_add(elems(n, (j->bf16 ? 3 : 1) * in), elems(n, 4 * out));
	case TF_FP8: /* 8-bit inputs, a 32-bit scale for 128 */
		return elems(n, in + in / 32);
	default:
		return 0;
	}
}

/* Kernels that first unpack the whole matrix: NF4 for more than one row, MXFP4 and 4-bit groups before Ampere. */
static uint64_t unpacked_bytes(const struct tf_job *j)
{
	bool always = j->scheme == TF_BNB_4BIT;
	bool old = false;
	for (uint32_t d = 0; d < j->n_gpus; d++) {
		const struct pl_gpu *g = j->hw->devices[j->gpu[d]].gpu;
		old |= g && g->capability && g->vendor == PL_VENDOR_NVIDIA && g->capability[0] < '8' && g->capability[1] == '.';
	}
	if (always || (old && j->scheme == TF_GROUPED))
		return pl_sat_mul(j->largest_matrix, j->elem_bytes);
	return 0;
}

static uint64_t dense_bytes(const struct tf_job *j, const struct pl_layer *l, uint64_t width)
{
	uint64_t n = rows_new(j), h = j->m->n_embd, live = l->ffn == PL_FFN_PLAIN ? 2 : 3;
	uint64_t product = pl_sat_mul(elems(n, live * width), j->elem_bytes); /* gated: activation, up, their product */
	uint64_t up = pl_sat_add(pl_sat_mul(elems(n, 2 * width), j->elem_bytes), scheme_bytes(j, n, h, width));
	return pl_max_u64(product, up);
}

/* grouped_mm_experts_forward: the rows of all chosen experts at once. Before 5.0, or with experts that bitsandbytes or another
 * scheme keeps apart, a loop over experts that sees its own share of the tokens. */
static uint64_t moe_bytes(const struct tf_job *j, const struct pl_layer *l)
{
	uint64_t n = rows_new(j), h = j->m->n_embd, inner = l->n_ff_expert, bytes;
	uint64_t routed = elems(n, l->n_expert_used);
	if (j->rules.stacked_experts) {
		uint64_t width = pl_max_u64(pl_sat_add(h, 4 * inner), 4 * h);
		bytes = pl_sat_mul(elems(routed, width), j->elem_bytes);
	} else {
		uint64_t share = l->n_expert ? pl_ceil_div(routed, l->n_expert) : n;
		bytes = pl_sat_mul(pl_sat_add(elems(share, 2 * h + 3 * inner), elems(n, h)), j->elem_bytes);
	}
	bytes = pl_sat_add(bytes, pl_sat_mul(elems(n, l->n_expert), 4)); /* scores of the router in 32 bit */
	if (l->n_ff_shared || l->moe_beside_dense) {
		uint64_t beside = dense_bytes(j, l, l->n_ff_shared ? l->n_ff_shared : l->n_ff);
		bytes = pl_max_u64(bytes, pl_sat_add(beside, pl_sat_mul(elems(n, h), j->elem_bytes)));
	}
	return bytes;
}

/* A layer holds its input (in the caller), the residual and the normed input while a part of it computes. */
static uint64_t layer_bytes(const struct tf_job *j, const struct pl_layer *l)
{
	uint64_t h = pl_sat_mul(elems(rows_new(j), j->m->n_embd), j->elem_bytes), mixer = 0, ffn = 0;
	if (l->attn == PL_ATTN_GQA)
		mixer = gqa_bytes(j, l);
	else if (l->attn == PL_ATTN_MLA)
		mixer = mla_bytes(j, l);
	if (l->rec != PL_REC_NONE)
		mixer = pl_max_u64(mixer, recurrent_bytes(j, l));
	if (l->ffn == PL_FFN_MOE)
		ffn = moe_bytes(j, l);
	else if (l->ffn != PL_FFN_NONE)
		ffn = dense_bytes(j, l, l->n_ff);
	uint64_t norm = pl_sat_mul(elems(rows_new(j), j->m->n_embd), 8); /* two 32-bit copies */
	return pl_max_u64(pl_sat_add(mixer, 2 * h), pl_max_u64(pl_sat_add(ffn, 3 * h), pl_sat_add(norm, 2 * h)));
}

/* ---- one GPU ----------------------------------------------------------------------------------------------------- */

static uint64_t head_bytes(const struct tf_job *j)
{
	/* logits in the model's type, then in 32 bit, then the probabilities */
	uint64_t rows = j->rules.last_logits ? j->n_seq : rows_new(j);
	return pl_sat_mul(elems(rows, j->m->n_vocab), j->elem_bytes + 8);
}

/* Weights that are kept elsewhere come in one leaf module at a time; while loading, experts are merged beside their parts and
 * bitsandbytes starts from the 16-bit matrix. */
static uint64_t visiting_bytes(const struct tf_job *j, int32_t gpu)
{
	uint64_t most = 0;
	for (uint32_t i = 0; i < j->tree.n_nodes; i++)
		if (gpu >= 0 && j->where[i] < 0 && j->where[i] != DM_UNPLACED && tf_runs_on(j, i) == gpu)
			most = pl_max_u64(most, j->modules[i].largest_leaf);
	return most;
}

static uint64_t loading_bytes(const struct tf_job *j)
{
	uint64_t most = j->rules.stacked_experts ? j->largest_stack_bytes : 0;
	if (j->scheme == TF_BNB_INT8 || j->scheme == TF_BNB_4BIT)
		most = pl_max_u64(most, pl_sat_mul(j->largest_matrix, j->elem_bytes));
	return most;
}

/* Tensors above 1 MiB get a block of their own that is a multiple of 2 MiB (c10/cuda/CUDACachingAllocator, kRoundLarge). */
static uint64_t rounding_of(uint64_t bytes)
{
	return bytes > MIB ? pl_round_up(bytes, 2 * MIB) - bytes : pl_round_up(bytes, 512) - bytes;
}

void tf_peak(const struct tf_job *j, int32_t gpu, struct tf_peak *ret)
{
	struct tf_peak out = {0};
	uint64_t prompt = 0, late = 0, copy = 0;
	for (uint32_t i = 0; i < j->m->n_layers; i++) {
		const struct pl_layer *l = &j->m->layers[i];
		if (tf_runs_on(j, j->layer_node[i]) != gpu)
			continue;
		struct layer_cache c = cache_of(j, l);
		out.kv_bytes = pl_sat_add(out.kv_bytes, pl_sat_add(c.k_bytes, c.v_bytes));
		out.state_bytes = pl_sat_add(out.state_bytes, state_of(j, l));
		if (gpu >= 0) /* the host's allocator does not round like this */
			out.rounding_bytes = pl_sat_add(out.rounding_bytes, rounding_of(c.k_bytes) + rounding_of(c.v_bytes));
		late = pl_sat_add(late, c.late_bytes);
		copy = pl_max_u64(copy, pl_max_u64(c.k_bytes, c.v_bytes)); /* torch.cat of the next token */
		prompt = pl_max_u64(prompt, layer_bytes(j, l));
	}
	if (tf_runs_on(j, j->embed_node) == gpu) /* the embedded prompt is referred to until the end */
		prompt = pl_sat_add(prompt, pl_sat_mul(elems(rows_new(j), j->m->n_embd), j->elem_bytes));
	if (tf_runs_on(j, j->head_node) == gpu) {
		prompt = pl_max_u64(prompt, head_bytes(j));
		copy = pl_sat_add(copy, j->rules.last_logits ? head_bytes(j) : 0);
	}
	prompt = pl_sat_add(prompt, late);
	if (prompt || copy)
		prompt = pl_sat_add(prompt, unpacked_bytes(j));
	out.compute_bytes = pl_sat_add(pl_max_u64(prompt, copy), visiting_bytes(j, gpu));
	uint64_t cached = pl_sat_add(pl_sat_add(out.kv_bytes, out.state_bytes), out.rounding_bytes), loading = prompt ? loading_bytes(j) : 0;
	if (loading > cached) /* loading happens before there is a cache */
		out.compute_bytes = pl_max_u64(out.compute_bytes, loading - cached);
	*ret = out;
}
