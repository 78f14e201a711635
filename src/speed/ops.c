/* Terms of one operation: bytes and FLOP of its exact tensors, divided by what its place reaches. */
#include <string.h>

#include "speed/compile.h"

static struct pl_work work_at(uint32_t place, enum pl_term_kind kind, enum pl_cause cause, double launches)
{
	struct pl_work w;
	memset(&w, 0, sizeof w); /* padding too: equal work is found by its bytes */
	w.kind = kind;
	w.cause = cause;
	w.place = w.gpu = place;
	w.launches = launches;
	return w;
}

static uint32_t width(const struct pl_compile *c, uint32_t value)
{
	return c->m->graph.values[value].width;
}

static double values_bytes(const struct pl_compile *c, const struct pl_op *op)
{
	double n = width(c, op->out);
	for (uint32_t i = 0; i < op->n_in; i++)
		n += width(c, op->in[i]);
	return n * c->activation_bytes;
}

static int layer_device(const struct pl_compile *c, int32_t layer)
{
	if (layer < 0 || !c->l->layer_device)
		return c->hw->n_devices ? 0 : -1;
	return c->l->layer_device[layer];
}

/* The output layer: llama.cpp counts it as one more layer on the GPU; serving engines keep it on the last stage. */
static int output_device(const struct pl_compile *c)
{
	uint32_t n = c->m->n_layers;
	if (!c->hw->n_devices || !n)
		return -1;
	if (c->llama && c->p->n_gpu_layers >= 0 && (uint32_t)c->p->n_gpu_layers <= n + c->m->n_layers_mtp)
		return -1;
	return layer_device(c, (int32_t)n - 1);
}

static int op_device(const struct pl_compile *c, const struct pl_op *op)
{
	if (op->layer < 0)
		return op->kind == PL_OP_EMBED ? -1 : output_device(c);
	bool expert = op->kind == PL_OP_EXPERTS;
	if (expert && c->llama && op->layer < c->p->n_cpu_moe)
		return -1;
	return layer_device(c, op->layer);
}

/* Share of a tensor one of n ranks holds. */
static double share(const struct pl_compile *c, const struct pl_tensor *t)
{
	double n = c->tp;
	if (c->row_split)
		return t->n_dims > 1 ? 1 / n : 1;
	switch (pl_role_info(t->role)->shard) {
	case PL_SHARD_REPLICATE:
		return 1;
	case PL_SHARD_KV_HEADS: {
		uint32_t kv = t->layer >= 0 ? c->m->layers[t->layer].n_head_kv : 0;
		return kv && n > kv ? 1.0 / kv : 1 / n;
	}
	case PL_SHARD_EXPERT:
		return 1.0 / c->moe_ranks;
	case PL_SHARD_COLUMN:
	case PL_SHARD_ROW:
	case PL_SHARD_VOCAB:
		return 1 / n;
	}
	return 1;
}

static const struct pl_tensor *matrix(const struct pl_compile *c, const struct pl_op *op)
{
	for (uint32_t i = 0; i < op->n_weights; i++)
		if (!c->m->tensors[op->weights[i]].is_bias)
			return &c->m->tensors[op->weights[i]];
	return NULL;
}

static enum pl_cause cause_of(const struct pl_tensor *t, enum pl_op_kind kind)
{
	if (kind == PL_OP_LM_HEAD)
		return PL_CAUSE_LM_HEAD;
	return t->group == PL_GROUP_EXPERT || t->group == PL_GROUP_ROUTER ? PL_CAUSE_EXPERTS : PL_CAUSE_GEMM;
}

/* llama.cpp multiplies batches of at least 32 rows on the GPU even when the weights live in RAM: they are copied over PCIe
 * for it (GGML_OP_OFFLOAD_MIN_BATCH, ggml-cuda.cu). Fewer rows are computed by the CPU. */
enum { OFFLOAD_MIN_ROWS = 32 };
static const double forever = 1e18;

/* Weights beyond RAM are read again each time: the page cache keeps as much of them as it can. */
static void add_paged(struct pl_compile *c, const struct pl_work *of)
{
	struct pl_work w = *of;
	w.cause = PL_CAUSE_DISK;
	w.streamed = true;
	w.weight_bytes *= c->paged_frac;
	w.row_bytes = w.row_flops = w.launches = 0;
	w.link_bytes_per_s = c->disk_bytes_per_s;
	pl_work_add(c, &w);
}

static void add_maybe_streamed(struct pl_compile *c, struct pl_work *w)
{
	if (c->paged_frac > 0 && c->s->places[w->place].first == PL_SPEED_HOST)
		add_paged(c, w);
	if (!c->streams || c->s->places[w->place].first != PL_SPEED_HOST) {
		pl_work_add(c, w);
		return;
	}
	w->rows_max = OFFLOAD_MIN_ROWS;
	pl_work_add(c, w);
	w->place = w->gpu = pl_place_of(c, 0);
	w->rows_min = OFFLOAD_MIN_ROWS;
	w->rows_max = forever;
	w->cause = PL_CAUSE_HOST_LINK;
	w->streamed = true;
	w->peak_flops_per_s = pl_peak(c, &c->s->places[w->place], w->type);
	w->link_bytes_per_s = pl_pcie_bytes_per_s(&c->hw->devices[0]);
	pl_work_add(c, w);
}

static void set_peaks(const struct pl_compile *c, struct pl_work *w)
{
	const struct pl_place *p = &c->s->places[w->place];
	w->peak_flops_per_s = pl_peak(c, p, w->type);
	w->few_flops_per_s = pl_few_rows_peak(c, p, w->type);
	if (p->first != PL_SPEED_HOST)
		return;
	struct pl_core_peaks k = pl_core_peaks(c, p, w->type);
	w->peak_flops_per_s = k.tile;
	w->row_peak_flops_per_s = k.row;
	w->tiled = k.tiled;
}

static void linear(struct pl_compile *c, const struct pl_op *op, uint32_t place)
{
	const struct pl_tensor *t = matrix(c, op);
	if (!t)
		return;
	struct pl_work w = work_at(place, PL_TERM_GEMM, cause_of(t, op->kind), 1);
	double part = share(c, t);
	w.rows = op->kind == PL_OP_LM_HEAD ? PL_TERM_OUTPUT : PL_TERM_NEW;
	w.type = t->type;
	w.weight_bytes = (double)t->bytes * c->scale_bytes * part;
	w.row_bytes = values_bytes(c, op);
	w.row_flops = 2 * (double)t->n_elems * part;
	set_peaks(c, &w);
	add_maybe_streamed(c, &w);
	if (c->tp > 1 && (c->row_split || pl_role_info(t->role)->shard == PL_SHARD_ROW))
		pl_reduce_work(c, place, c->tp, (double)width(c, op->out) * 2);
}

/* llama.cpp on CUDA and HIP multiplies the experts of a prompt in one kernel only where its own quantised one runs (MMQ): not for
 * 16-bit floats, and on RDNA not before its matrix instructions were used for it (end of 2025); else a loop over the experts. */
static bool experts_one_by_one(const struct pl_compile *c, const struct pl_place *p, enum pl_dtype type)
{
	const double rdna_mmq_years = 0.6; /* before the middle of 2026 */
	enum pl_backend b = pl_stack_backend(p->context.stack);
	if (!c->llama || p->first == PL_SPEED_HOST || (b != PL_BACKEND_CUDA && b != PL_BACKEND_ROCM))
		return false;
	if (pl_dtype_info(type)->block_elems <= 1)
		return true;
	return b == PL_BACKEND_ROCM && !strncmp(pl_arch_name(p->context.line), "RDNA", 4) && c->s->age_years > rdna_mmq_years;
}

static void routed(struct pl_compile *c, const struct pl_op *op, uint32_t place)
{
	const struct pl_tensor *t = matrix(c, op);
	const struct pl_layer *l = op->layer >= 0 ? &c->m->layers[op->layer] : NULL;
	if (!t || !l || !l->n_expert)
		return;
	struct pl_work w = work_at(place, PL_TERM_EXPERTS, PL_CAUSE_EXPERTS, 1);
	double part = share(c, t);
	w.type = t->type;
	w.rows_scale = (double)c->moe_ranks / c->tp;
	w.n_expert = l->n_expert;
	w.n_expert_used = l->n_expert_used;
	w.weight_bytes = (double)t->bytes * c->scale_bytes * part;
	w.row_bytes = ((double)t->ne[0] + (double)t->ne[1]) * c->activation_bytes;
	w.row_flops = 2 * (double)t->n_elems / l->n_expert * part;
	w.one_by_one = experts_one_by_one(c, &c->s->places[place], t->type);
	set_peaks(c, &w);
	add_maybe_streamed(c, &w);
	if (t->role == PL_ROLE_EXPERT_DOWN && c->moe_ranks > 1)
		pl_share_work(c, place, (double)t->ne[1] * 2, l->n_expert_used);
}

static double cache_bytes(enum pl_dtype t)
{
	return t == PL_DTYPE_UNKNOWN ? 2 : pl_dtype_bits(t) / 8;
}

/* Bytes of one cached token of a layer on one rank, and FLOP of one query against one key. Latent attention reads one
 * latent for all heads; a prompt may be computed from expanded keys (serving engines) or on the latent (llama.cpp). */
static void attention(struct pl_compile *c, const struct pl_op *op, uint32_t place)
{
	const struct pl_layer *l = &c->m->layers[op->layer];
	struct pl_work w = work_at(place, PL_TERM_ATTENTION, PL_CAUSE_ATTENTION, 1);
	double ranks = c->attn_ranks, heads = l->n_head / ranks, kv_heads = l->n_head_kv > ranks ? l->n_head_kv / ranks : 1;
	double k = cache_bytes(c->p->type_k), v = cache_bytes(c->p->type_v);
	if (l->attn == PL_ATTN_MLA) {
		w.cached_bytes = ((double)l->kv_lora + l->d_rope) * k;
		w.pair_decode_flops = 2 * heads * (2.0 * l->kv_lora + l->d_rope);
		w.pair_prefill_flops = c->llama ? w.pair_decode_flops : 2 * heads * ((double)l->d_nope + l->d_rope + l->d_v);
	} else {
		w.cached_bytes = kv_heads * (l->d_k * k + l->d_v * v);
		w.pair_decode_flops = w.pair_prefill_flops = 2 * heads * ((double)l->d_k + l->d_v);
	}
	w.type = c->p->type_k == PL_DTYPE_F16 ? PL_DTYPE_UNKNOWN : c->p->type_k;
	w.window_tokens = l->window_tokens ? l->window_tokens : l->indexer_topk;
	if (c->s->places[place].first == PL_SPEED_HOST)
		w.peak_flops_per_s = pl_core_attention_peak(c, &c->s->places[place]);
	pl_work_add(c, &w);
}

/* The indexer of sparse attention scores every cached token. */
static void indexer(struct pl_compile *c, const struct pl_op *op, uint32_t place)
{
	const struct pl_layer *l = &c->m->layers[op->layer];
	struct pl_work w = work_at(place, PL_TERM_ATTENTION, PL_CAUSE_ATTENTION, 2);
	w.cached_bytes = (double)l->indexer_dim * (c->llama ? 2 : 1);
	w.pair_decode_flops = w.pair_prefill_flops = 2.0 * l->indexer_heads * l->indexer_dim;
	pl_work_add(c, &w);
}

/* Elements of the recurrent state of one sequence. */
static double state_elems(const struct pl_layer *l)
{
	switch (l->rec) {
	case PL_REC_MAMBA1:
	case PL_REC_MAMBA2:
		return (double)l->d_inner * l->d_state;
	case PL_REC_DELTANET:
	case PL_REC_KDA:
	case PL_REC_RWKV:
	case PL_REC_LIGHTNING:
		return (double)l->rec_heads * l->rec_d_k * l->rec_d_v;
	case PL_REC_SHORTCONV:
	case PL_REC_NONE:
		break;
	}
	return 0;
}

/* A scan reads and writes its state once a step and does about 8 FLOP an element and token (decay, outer product,
 * query, delta rule); convolutions are passes over values. */
static void scan(struct pl_compile *c, const struct pl_op *op, uint32_t place)
{
	struct pl_work w = work_at(place, PL_TERM_SCAN, PL_CAUSE_RECURRENT, 3);
	double elems = state_elems(&c->m->layers[op->layer]) / c->attn_ranks;
	w.sequence_bytes = 2 * 4 * elems;
	w.row_flops = 8 * elems;
	pl_work_add(c, &w);
}

void pl_pass_work(struct pl_compile *c, const struct pl_op *op, uint32_t place, enum pl_cause cause, double launches)
{
	struct pl_work w = work_at(place, PL_TERM_ROWS, cause, launches);
	bool routed_rows = c->m->graph.values[op->out].rows == PL_ROWS_ROUTED && op->layer >= 0;
	w.row_bytes = values_bytes(c, op) * (routed_rows ? c->m->layers[op->layer].n_expert_used : 1);
	pl_work_add(c, &w);
}

void pl_op_work(struct pl_compile *c, const struct pl_op *op)
{
	if (op->kind == PL_OP_EMBED)
		return; /* a few rows, on the host or the first device: within the step's own overhead */
	uint32_t place = pl_place_of(c, op_device(c, op));
	if (c->s->n_places > PL_MAX_PLACES)
		return;
	if (c->last_place < 0) /* the engine's host looks the tokens up */
		pl_net_work(c, place, (double)c->m->n_embd * c->activation_bytes, PL_TERM_NEW);
	else if ((uint32_t)c->last_place != place)
		pl_hop_work(c, (uint32_t)c->last_place, place, (double)c->m->n_embd * c->activation_bytes);
	c->last_place = (int16_t)place;
	if (pl_fused_op(c, op, place))
		return;
	switch (op->kind) {
	case PL_OP_LINEAR:
	case PL_OP_LM_HEAD:
		linear(c, op, place);
		if (op->kind == PL_OP_LM_HEAD) /* and samples */
			pl_net_work(c, place, (double)width(c, op->out) * 4, PL_TERM_OUTPUT);
		break;
	case PL_OP_EXPERTS:
		routed(c, op, place);
		break;
	case PL_OP_ROUTER: /* logits, softmax, top k, weights */
		linear(c, op, place);
		pl_pass_work(c, op, place, PL_CAUSE_EXPERTS, 3);
		break;
	case PL_OP_ATTENTION:
		if (op->layer >= 0)
			attention(c, op, place);
		break;
	case PL_OP_INDEXER:
		if (op->layer >= 0)
			indexer(c, op, place);
		break;
	case PL_OP_SCAN:
		if (op->layer >= 0)
			scan(c, op, place);
		break;
	case PL_OP_CONV:
		pl_pass_work(c, op, place, PL_CAUSE_RECURRENT, 2);
		break;
	case PL_OP_NORM:
	case PL_OP_ROPE:
	case PL_OP_KV_STORE:
	case PL_OP_GLU:
	case PL_OP_ADD:
	case PL_OP_COMBINE:
	case PL_OP_POOL:
		pl_pass_work(c, op, place, PL_CAUSE_ELEMENTWISE, 1);
		break;
	case PL_OP_EMBED:
	case PL_OP_COUNT:
		break;
	}
}
