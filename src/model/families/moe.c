/* Mixtures of experts with ordinary attention. */
#include <string.h>

#include "model/hf.h"

/* The expert keys of a family, under the many names they have. */
struct experts {
	uint32_t n, used, ff, shared, ff_shared, ff_dense;
};

static struct experts read_experts(struct pl_hf *c)
{
	struct experts e = {.n = pl_hf_need(c, "num_experts|num_local_experts|n_routed_experts|moe_num_experts", PL_HF_MAX_EXPERTS)};
	e.ff_dense = pl_hf_u32(c, "intermediate_size", 1, PL_HF_MAX_DIM, 0);
	if (json_is_array(pl_hf_get(c, "moe_topk"))) /* Hunyuan gives one entry a layer */
		e.used = pl_hf_u32_at(c, "moe_topk", 0, e.n, 1);
	else
		e.used = pl_hf_need(c, "num_experts_per_tok|experts_per_token|moe_topk|moe_k|num_experts_per_token|moe_top_k|top_k_experts", e.n);
	if (json_is_array(pl_hf_get(c, "moe_intermediate_size")))
		e.ff = pl_hf_u32_at(c, "moe_intermediate_size", 0, PL_HF_MAX_DIM, 0);
	else
		e.ff = pl_hf_u32(c, "moe_intermediate_size|expert_intermediate_size", 1, PL_HF_MAX_DIM, e.ff_dense);
	if (json_is_array(pl_hf_get(c, "num_shared_expert")))
		e.shared = pl_hf_u32_at(c, "num_shared_expert", 0, 1024, 0);
	else
		e.shared = pl_hf_u32(c, "n_shared_experts|num_shared_experts|moe_num_shared_experts|num_shared_expert", 0, 1024, 0);
	e.ff_shared = pl_hf_u32(c, "shared_expert_intermediate_size|shared_intermediate_size|share_expert_dim", 0, PL_HF_MAX_DIM, 0);
	if (!c->rc && !e.ff)
		pl_hf_fail(c, "'moe_intermediate_size' is missing, it must be a whole number from 1 to %u", PL_HF_MAX_DIM);
	if (e.ff_shared && !e.shared)
		e.shared = 1;
	if (!e.ff_shared && (uint64_t)e.shared * e.ff <= PL_HF_MAX_DIM)
		e.ff_shared = e.shared * e.ff;
	return e;
}

static void set_experts(struct pl_hf *c, uint32_t il, const struct experts *e)
{
	pl_hf_moe(c, il, e->n, e->used, e->ff, e->shared, e->ff_shared);
}

static void set_dense(struct pl_hf *c, uint32_t il, uint32_t n_ff)
{
	if (!n_ff)
		pl_hf_fail(c, "layer %u is dense but 'intermediate_size' is missing", il);
	c->layers[il].ffn = PL_FFN_GATED;
	c->layers[il].n_ff = n_ff;
}

/* A layer is dense when listed in mlp_only_layers or off decoder_sparse_step (qwen2_moe, qwen3_moe). */
static bool is_dense(struct pl_hf *c, uint32_t il, uint32_t step)
{
	const json_t *list = pl_hf_get(c, "mlp_only_layers"), *v;
	size_t i;
	if (json_is_array(list))
		json_array_foreach (list, i, v)
			if (json_is_integer(v) && json_integer_value(v) == (json_int_t)il)
				return true;
	return (il + 1) % step != 0;
}

void pl_hf_read_moe(struct pl_hf *c)
{
	pl_hf_base(c, 0);
	pl_hf_attention(c);
	const struct experts e = read_experts(c);
	const uint32_t step = pl_hf_u32(c, "decoder_sparse_step", 1, PL_HF_MAX_LAYERS, 1);
	for (uint32_t il = 0; il < pl_hf_n_all(c) && !c->rc; il++) {
		if (is_dense(c, il, step))
			set_dense(c, il, e.ff_dense);
		else
			set_experts(c, il, &e);
	}
	if (pl_hf_bool(c, "use_sliding_window", (c->family->parts & PL_P_SLIDES) != 0))
		pl_hf_windows(c);
}

/* MiniCPM with and without experts. */
void pl_hf_read_minicpm(struct pl_hf *c)
{
	if (pl_hf_u32(c, "num_experts", 0, PL_HF_MAX_EXPERTS, 0))
		pl_hf_read_moe(c);
	else
		pl_hf_read_dense(c);
}

void pl_hf_read_phimoe(struct pl_hf *c)
{
	pl_hf_read_moe(c);
	if (pl_hf_bool(c, "lm_head_bias", false))
		c->model_parts |= PL_P_BIAS_HEAD;
}

/* gpt-oss: every other layer slides, the first one does. */
void pl_hf_read_gpt_oss(struct pl_hf *c)
{
	pl_hf_read_moe(c);
	const uint32_t window = pl_hf_u32(c, "sliding_window", 0, PL_HF_MAX_CTX, 128);
	const bool typed = pl_hf_has(c, "layer_types");
	if (typed)
		pl_hf_windows(c);
	for (uint32_t il = 0; il < c->m->n_layers && !typed && !c->rc; il++)
		c->layers[il].window_tokens = il % 2 ? 0 : window;
}

/* The first layers have a plain feed forward, the others experts. */
static void dense_first(struct pl_hf *c)
{
	pl_hf_base(c, pl_hf_u32(c, "num_nextn_predict_layers", 0, 64, 0));
	pl_hf_attention(c);
	const struct experts e = read_experts(c);
	const uint32_t dense = pl_hf_u32(c, "first_k_dense_replace", 0, PL_HF_MAX_LAYERS, 1);
	for (uint32_t il = 0; il < pl_hf_n_all(c) && !c->rc; il++) {
		if (il < dense)
			set_dense(c, il, e.ff_dense);
		else
			set_experts(c, il, &e);
	}
}

/* dots.llm1: norms over each head, always. */
void pl_hf_read_dots1(struct pl_hf *c)
{
	dense_first(c);
}

/* GLM-4.5 and later: leading dense layers, shared experts, a next-token layer with copies of embedding and head. */
void pl_hf_read_glm4_moe(struct pl_hf *c)
{
	dense_first(c);
	pl_hf_set_parts(c, PL_P_QK_NORM, pl_hf_bool(c, "use_qk_norm", false));
	/* GLM-4.6's next-token layer has no tables of its own: a key of our catalogue says so */
	pl_hf_mtp(c, PL_P_NEXTN_HEADNORM | (pl_hf_bool(c, "_mtp_shares_tables", false) ? 0 : PL_P_NEXTN_COPIES));
}

/* Llama 4: every interleave_moe_layer_step-th layer has experts and one shared expert as wide; three layers in four
 * attend in chunks and rotate, the fourth sees all and does not. */
void pl_hf_read_llama4(struct pl_hf *c)
{
	pl_hf_base(c, 0);
	pl_hf_attention(c);
	const struct experts e = read_experts(c);
	const uint32_t step = pl_hf_u32(c, "interleave_moe_layer_step", 1, PL_HF_MAX_LAYERS, 1);
	const uint32_t ff_dense = pl_hf_u32(c, "intermediate_size_mlp", 1, PL_HF_MAX_DIM, e.ff_dense);
	const uint32_t chunk = pl_hf_u32(c, "attention_chunk_size", 0, PL_HF_MAX_CTX, 8192);
	const json_t *rope = pl_hf_get(c, "no_rope_layers");
	for (uint32_t il = 0; il < c->m->n_layers && !c->rc; il++) {
		struct pl_layer *l = &c->layers[il];
		if ((il + 1) % step == 0)
			pl_hf_moe(c, il, e.n, e.used, e.ff_dense, 1, e.ff_dense);
		else
			set_dense(c, il, ff_dense);
		/* 1 in the list means: this layer does rotate */
		l->no_rope = json_is_array(rope) && json_array_size(rope) ? !pl_hf_u32_at(c, "no_rope_layers", il, 1, 1) : (il + 1) % 4 == 0;
		l->window_tokens = l->no_rope ? 0 : chunk;
		l->window_chunked = l->window_tokens != 0;
	}
}

void pl_hf_read_ernie(struct pl_hf *c)
{
	pl_hf_base(c, 0);
	pl_hf_attention(c);
	const struct experts e = read_experts(c);
	const uint32_t first = pl_hf_u32_at(c, "moe_layer_start_index", 0, PL_HF_MAX_LAYERS, 0);
	const uint32_t step = pl_hf_u32(c, "moe_layer_interval", 1, PL_HF_MAX_LAYERS, 1);
	uint32_t last = c->m->n_layers - 1;
	if (json_is_integer(pl_hf_get(c, "moe_layer_end_index")) && json_integer_value(pl_hf_get(c, "moe_layer_end_index")) >= 0)
		last = pl_hf_u32(c, "moe_layer_end_index", 0, PL_HF_MAX_LAYERS, last);
	for (uint32_t il = 0; il < c->m->n_layers && !c->rc; il++) {
		if (il >= first && il <= last && (il + 1) % step == 0)
			set_experts(c, il, &e);
		else
			set_dense(c, il, e.ff_dense);
	}
}

/* Hunyuan A13B: the shared expert is as wide as the dense feed forward would be. */
void pl_hf_read_hunyuan(struct pl_hf *c)
{
	pl_hf_base(c, 0);
	pl_hf_attention(c);
	struct experts e = read_experts(c);
	const uint32_t dense = pl_hf_u32(c, "moe_layer_num_skipped", 0, PL_HF_MAX_LAYERS, 0);
	pl_hf_set_parts(c, PL_P_QK_NORM, pl_hf_bool(c, "use_qk_norm", true));
	if ((uint64_t)e.ff_dense * e.shared <= PL_HF_MAX_DIM)
		e.ff_shared = pl_hf_bool(c, "use_mixed_mlp_moe", true) ? e.ff_dense * e.shared : 0;
	for (uint32_t il = 0; il < c->m->n_layers && !c->rc; il++) {
		if (il < dense)
			set_dense(c, il, e.ff_dense);
		else
			set_experts(c, il, &e);
	}
}

/* MiniMax M2: norms as wide as all heads; its next-token modules are in no published file. */
void pl_hf_read_minimax(struct pl_hf *c)
{
	pl_hf_base(c, 0);
	pl_hf_attention(c);
	const struct experts e = read_experts(c);
	pl_hf_set_parts(c, PL_P_QK_NORM_WIDE, pl_hf_bool(c, "use_qk_norm", true));
	pl_hf_set_parts(c, PL_P_ROUTER_CORR, pl_hf_bool(c, "use_routing_bias", true));
	for (uint32_t il = 0; il < c->m->n_layers && !c->rc; il++)
		set_experts(c, il, &e);
}

static void m3_indexer(struct pl_hf *c, uint32_t il)
{
	const struct pl_layer *l = &c->layers[il];
	const uint64_t h = c->m->n_embd, n = l->indexer_heads, d = l->indexer_dim;
	if (!n)
		return;
	pl_hf_emit(c, il, PL_ROLE_INDEXER_Q, false, 2, h, n * d, 1);
	pl_hf_emit(c, il, PL_ROLE_INDEXER_K_PROJ, false, 2, h, d, 1);
	pl_hf_emit(c, il, PL_ROLE_INDEXER_Q_NORM, false, 1, d, 1, 1);
	pl_hf_emit(c, il, PL_ROLE_INDEXER_K_NORM, false, 1, d, 1, 1);
}

static void m3_sparse(struct pl_hf *c)
{
	const json_t *sparse = pl_hf_get(c, "sparse_attention_config"), *old = c->cfg;
	if (!json_is_object(sparse))
		return;
	pl_hf_enter(c, sparse);
	const uint32_t n = pl_hf_u32(c, "sparse_num_index_heads", 0, PL_HF_MAX_HEADS, 0);
	const uint32_t d = pl_hf_u32(c, "sparse_index_dim", 0, 65536, 0);
	const uint64_t top = (uint64_t)pl_hf_u32(c, "sparse_topk_blocks", 0, 1 << 20, 0) * pl_hf_u32(c, "sparse_block_size", 0, 1 << 10, 0);
	for (uint32_t il = 0; il < c->m->n_layers && !c->rc; il++) {
		if (!pl_hf_u32_at(c, "sparse_attention_freq", il, 1, 1) || !n || !d)
			continue;
		c->layers[il].indexer_heads = n;
		c->layers[il].indexer_dim = d;
		c->layers[il].indexer_topk = (uint32_t)top;
	}
	pl_hf_enter(c, old);
	c->more_layer = m3_indexer;
}

void pl_hf_read_minimax_m3(struct pl_hf *c)
{
	pl_hf_base(c, 0);
	pl_hf_attention(c);
	const struct experts e = read_experts(c);
	const uint32_t dense = pl_hf_u32(c, "dense_intermediate_size", 1, PL_HF_MAX_DIM, e.ff_dense);
	const uint32_t first = pl_hf_u32(c, "first_k_dense_replace", 0, PL_HF_MAX_LAYERS, 0);
	const bool list = json_is_array(pl_hf_get(c, "moe_layer_freq"));
	for (uint32_t il = 0; il < c->m->n_layers && !c->rc; il++) {
		if (list ? !pl_hf_u32_at(c, "moe_layer_freq", il, 1, 1) : il < first)
			set_dense(c, il, dense);
		else
			set_experts(c, il, &e);
	}
	m3_sparse(c);
}

/* MiMo-V2-Flash: full layers and windowed ones with head counts of their own; keys wider than values. */
void pl_hf_read_mimo2(struct pl_hf *c)
{
	pl_hf_base(c, pl_hf_u32(c, "num_nextn_predict_layers", 0, 64, 0));
	pl_hf_attention(c);
	const struct experts e = read_experts(c);
	const uint32_t window = pl_hf_u32(c, "sliding_window|sliding_window_size", 0, PL_HF_MAX_CTX, 0);
	const bool sinks_swa = pl_hf_bool(c, "add_swa_attention_sink_bias", false);
	const bool sinks_full = pl_hf_bool(c, "add_full_attention_sink_bias", false);
	for (uint32_t il = 0; il < c->m->n_layers && !c->rc; il++) {
		struct pl_layer *l = &c->layers[il];
		const bool slides = pl_hf_u32_at(c, "hybrid_layer_pattern", il, 1, 0) == 1;
		l->d_v = pl_hf_u32(c, slides ? "swa_v_head_dim|v_head_dim" : "v_head_dim", 1, 65536, l->d_k);
		if (slides) {
			l->window_tokens = window;
			l->n_head = pl_hf_u32(c, "swa_num_attention_heads", 1, PL_HF_MAX_HEADS, l->n_head);
			l->n_head_kv = pl_hf_u32(c, "swa_num_key_value_heads", 1, PL_HF_MAX_HEADS, l->n_head_kv);
			l->d_k = pl_hf_u32(c, "swa_head_dim", 1, 65536, l->d_k);
		}
		if (slides ? sinks_swa : sinks_full)
			c->parts[il] |= PL_P_SINKS;
		if (pl_hf_u32_at(c, "moe_layer_freq", il, 1, 1))
			set_experts(c, il, &e);
		else
			set_dense(c, il, e.ff_dense);
	}
}

/* Step 3.5 and 3.7: layer_types counts heads too; the gate of the attention has one output a head. */
void pl_hf_read_step35(struct pl_hf *c)
{
	pl_hf_base(c, 0);
	pl_hf_attention(c);
	const struct experts e = read_experts(c);
	const uint32_t first = pl_hf_u32(c, "first_k_dense_replace", 0, PL_HF_MAX_LAYERS, 0);
	const json_t *other = pl_hf_get(c, "attention_other_setting"), *old = c->cfg;
	uint32_t swa_heads = 0, swa_kv = 0;
	if (json_is_object(other)) {
		pl_hf_enter(c, other);
		swa_heads = pl_hf_u32(c, "num_attention_heads", 1, PL_HF_MAX_HEADS, 0);
		swa_kv = pl_hf_u32(c, "num_attention_groups", 1, PL_HF_MAX_HEADS, 0);
		pl_hf_enter(c, old);
	}
	pl_hf_windows(c);
	for (uint32_t il = 0; il < c->m->n_layers && !c->rc; il++) {
		struct pl_layer *l = &c->layers[il];
		if (l->window_tokens && swa_heads)
			l->n_head = swa_heads;
		if (l->window_tokens && swa_kv)
			l->n_head_kv = swa_kv;
		if (il < first)
			set_dense(c, il, e.ff_dense);
		else
			set_experts(c, il, &e);
	}
	pl_hf_set_parts(c, PL_P_ROUTER_CORR, pl_hf_bool(c, "use_moe_router_bias", true));
}

/* Laguna: heads by layer, an output gate, first layers dense. */
void pl_hf_read_laguna(struct pl_hf *c)
{
	pl_hf_base(c, 0);
	pl_hf_attention(c);
	const struct experts e = read_experts(c);
	pl_hf_windows(c);
	const char *gate = pl_hf_str(c, "gating");
	const bool per_elem = gate && !strcmp(gate, "per-element");
	if (gate || pl_hf_bool(c, "gating", true))
		pl_hf_set_parts(c, per_elem ? PL_P_GATE_ELEM : PL_P_GATE_HEAD, true);
	for (uint32_t il = 0; il < c->m->n_layers && !c->rc; il++) {
		struct pl_layer *l = &c->layers[il];
		l->n_head = pl_hf_u32_at(c, "num_attention_heads_per_layer", il, PL_HF_MAX_HEADS, l->n_head);
		const bool dense = pl_hf_has(c, "mlp_layer_types") ? !strcmp(pl_hf_str_at(c, "mlp_layer_types", il), "dense") : il == 0;
		if (dense)
			set_dense(c, il, e.ff_dense);
		else
			set_experts(c, il, &e);
	}
}
