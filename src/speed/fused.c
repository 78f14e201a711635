/* Terms of the serving engines on measured cards: projections of one input run as one product, gate, up and down of the
 * experts as one kernel, residuals inside norms; each costed by its measured curve (speed/kernels.h). */
#include <math.h>
#include <string.h>
#include <strings.h>

#include "speed/compile.h"
#include "speed/kernels.h"

enum { MAX_SHAPES = 64 };

/* A curve made once for all equal operations. */
struct shape {
	int kind; /* enum pl_op_kind, or −1 − enum pl_kernel_message_op */
	enum pl_kernel_type type;
	double a, b, c, d, e;
	const struct pl_curve *curve;
};

struct pl_fused {
	struct pl_kernels kernels;
	enum pl_kernel_engine engine;
	uint32_t place;
	bool staged; /* through RAM */
	struct shape shapes[MAX_SHAPES];
	uint32_t n_shapes;
};

static bool engine_of(const char *id, enum pl_kernel_engine *ret)
{
	static const char *const ids[PL_KERNEL_ENGINES] = {"vllm", "sglang", "tensorrt-llm"};
	for (int i = 0; id && i < PL_KERNEL_ENGINES; i++)
		if (!strcmp(id, ids[i])) {
			*ret = (enum pl_kernel_engine)i;
			return true;
		}
	return false;
}

void pl_fused_begin(struct pl_compile *c)
{
	enum pl_kernel_engine e;
	struct pl_kernels k;
	const struct pl_device *d = c->hw->n_devices ? &c->hw->devices[0] : NULL;
	const char *id = c->s->setup.engine ? c->s->setup.engine->id : NULL;
	if (!d || !d->gpu || !engine_of(id, &e) || !pl_kernels_of(d->gpu, &k))
		return;
	c->fused = PL_NEW(c->a, struct pl_fused);
	if (!c->fused)
		return;
	c->fused->kernels = k;
	c->fused->engine = e;
	c->fused->staged = c->hw->link && strcasestr(c->hw->link, "p2p");
	c->s->kernels_kin = k.kin;
	c->s->kernels_foreign = k.foreign;
	c->s->kernels_system = pl_kernel_tables()->systems[k.system].name;
}

/* ---- curves, one for equal shapes */

static struct shape *shape_of(struct pl_fused *f, const struct shape *want)
{
	for (uint32_t i = 0; i < f->n_shapes; i++) {
		struct shape *s = &f->shapes[i];
		if (s->kind == want->kind && s->type == want->type && !memcmp(&s->a, &want->a, 5 * sizeof s->a))
			return s;
	}
	if (f->n_shapes == MAX_SHAPES)
		return NULL;
	f->shapes[f->n_shapes] = *want;
	return &f->shapes[f->n_shapes++];
}

static const struct pl_curve *curve_of(struct pl_compile *c, const struct shape *want)
{
	struct pl_fused *f = c->fused;
	struct shape *s = shape_of(f, want);
	if (s && s->curve)
		return s->curve;
	struct pl_curve *curve = PL_NEW(c->a, struct pl_curve);
	if (!curve)
		return NULL;
	bool ok = true;
	if (want->kind == PL_OP_LINEAR)
		pl_kernel_gemm(&f->kernels, want->type, want->a, want->b, curve);
	else if (want->kind == PL_OP_EXPERTS)
		ok = pl_kernel_routed(&f->kernels, f->engine, want->type,
		                      &(struct pl_expert_shape){want->a, want->b, want->c, want->d, want->e}, curve);
	else
		ok = pl_kernel_message(&f->kernels, (enum pl_kernel_message_op)(-1 - want->kind), (uint32_t)want->a, want->b, f->staged, curve);
	if (!ok)
		return NULL;
	if (s)
		s->curve = curve;
	return curve;
}

static enum pl_kernel_type kernel_type(const struct pl_compile *c, const struct pl_tensor *t)
{
	bool block = c->m->quant_name && strcasestr(c->m->quant_name, "block");
	bool blackwell = c->fused->kernels.peaks[PL_PEAK_FP4] > 0; /* multiplies MXFP4 by FP8; others unpack to 16 bits */
	switch (t->type) {
	case PL_DTYPE_F8_E4M3:
	case PL_DTYPE_F8_E5M2:
		return block ? PL_KERNEL_FP8_BLOCK : PL_KERNEL_FP8;
	case PL_DTYPE_NVFP4:
	case PL_DTYPE_MXFP4:
	case PL_DTYPE_F4: /* 16 values share a scale of 8 bits in NVFP4, 32 in MXFP4 */
		if (8 * (double)t->bytes / (double)t->n_elems > 4.4)
			return PL_KERNEL_NVFP4;
		return blackwell ? PL_KERNEL_MXFP4_FP8 : PL_KERNEL_MXFP4;
	case PL_DTYPE_INT4:
	case PL_DTYPE_NF4:
	case PL_DTYPE_U8:
	case PL_DTYPE_I32:
		return PL_KERNEL_INT4;
	case PL_DTYPE_I8:
		return PL_KERNEL_INT8;
	default:
		return PL_KERNEL_BF16;
	}
}

/* ---- messages */

/* Measured, over the ranks of one host. */
static bool message(struct pl_compile *c, uint32_t place, enum pl_kernel_message_op op, uint32_t n, double row_bytes, double rows_scale)
{
	struct shape want = {.kind = -1 - (int)op, .a = n, .b = row_bytes};
	const struct pl_device *d = &c->hw->devices[c->s->places[place].first];
	const struct pl_curve *curve = d->gpu && n > 1 && pl_linked(c, &c->fused->kernels, d, n) ? curve_of(c, &want) : NULL;
	if (!curve)
		return false;
	struct pl_term t = {.kind = PL_TERM_MESSAGE, .place = place, .curve = curve, .rows_scale = rows_scale};
	t.cause = op == PL_MESSAGE_ALL_REDUCE_GRAPH ? PL_CAUSE_ALL_REDUCE : PL_CAUSE_ALL_TO_ALL;
	pl_measured_add(c, &t, PL_F_REDUCE_KERNEL, PL_F_REDUCE_KERNEL, PL_DTYPE_UNKNOWN);
	return true;
}

static double data_ranks(const struct pl_compile *c)
{
	return (double)c->moe_ranks / c->tp;
}

/* Between hosts a sum has two levels: over the cards of each, then each card's part over the network. */
static void reduce(struct pl_compile *c, uint32_t place, double row_bytes)
{
	struct pl_span g = pl_span_of(c, c->s->places[place].first, c->tp);
	if (c->tp < 2)
		return;
	if (g.local > 1 && !message(c, place, PL_MESSAGE_ALL_REDUCE_GRAPH, g.local, row_bytes, 1))
		pl_local_reduce_work(c, place, g.local, row_bytes);
	pl_network_reduce_work(c, place, &g, row_bytes);
}

/* Attention on each rank's own sequences, experts over all: in a host, tokens are gathered before the experts and scattered after;
 * between hosts each goes to the cards of its experts and back. */
static void share_experts(struct pl_compile *c, uint32_t place, double row_bytes, double used)
{
	struct pl_span g = pl_span_of(c, c->s->places[place].first, c->moe_ranks);
	double ranks = data_ranks(c);
	if (!(ranks > 1)) {
		reduce(c, place, row_bytes);
		return;
	}
	if (g.hosts > 1) {
		pl_dispatch_work(c, place, &g, row_bytes / 2, used);
		(void)message(c, place, PL_MESSAGE_DISPATCH, g.local, row_bytes / 2 * used, 1.0 / g.hosts);
		(void)message(c, place, PL_MESSAGE_COMBINE, g.local, row_bytes * used, 1.0 / g.hosts);
	} else if (!message(c, place, PL_MESSAGE_ALL_GATHER, c->moe_ranks, row_bytes, ranks) ||
	           !message(c, place, PL_MESSAGE_REDUCE_SCATTER, c->moe_ranks, row_bytes, ranks)) {
		pl_reduce_work(c, place, c->moe_ranks, row_bytes * ranks);
	}
}

/* ---- products */

static const struct pl_tensor *matrix(const struct pl_compile *c, const struct pl_op *op)
{
	for (uint32_t i = 0; i < op->n_weights; i++)
		if (!c->m->tensors[op->weights[i]].is_bias)
			return &c->m->tensors[op->weights[i]];
	return NULL;
}

static bool is_linear(const struct pl_op *op)
{
	return op->kind == PL_OP_LINEAR;
}

/* Do these two run as one product? Same input, same type, both cut by columns or both whole. */
static bool together(const struct pl_compile *c, const struct pl_op *a, const struct pl_op *b)
{
	const struct pl_tensor *x = matrix(c, a), *y = matrix(c, b);
	if (!x || !y || a->layer != b->layer || a->in[0] != b->in[0] || x->type != y->type || x->ne[0] != y->ne[0])
		return false;
	bool whole = pl_role_info(x->role)->shard == PL_SHARD_REPLICATE;
	return pl_role_info(x->role)->shard != PL_SHARD_ROW && pl_role_info(y->role)->shard != PL_SHARD_ROW &&
	       whole == (pl_role_info(y->role)->shard == PL_SHARD_REPLICATE);
}

/* Share of a tensor's columns and rows one rank holds. */
static double columns(const struct pl_compile *c, const struct pl_tensor *t)
{
	double n = (double)t->n_elems / (double)t->ne[0];
	uint32_t kv = t->layer >= 0 ? c->m->layers[t->layer].n_head_kv : 0;
	switch (pl_role_info(t->role)->shard) {
	case PL_SHARD_COLUMN:
	case PL_SHARD_VOCAB:
		return n / c->tp;
	case PL_SHARD_KV_HEADS:
		return n / (kv && c->tp > kv ? kv : c->tp);
	default:
		return n;
	}
}

static void product(struct pl_compile *c, uint32_t place, const struct pl_tensor *t, double n, double depth, enum pl_cause cause)
{
	struct shape want = {.kind = PL_OP_LINEAR, .type = kernel_type(c, t), .a = n, .b = depth};
	const struct pl_kernels *k = &c->fused->kernels;
	struct pl_term term = {.kind = PL_TERM_GEMM, .cause = cause, .place = place};
	term.rows = cause == PL_CAUSE_LM_HEAD ? PL_TERM_OUTPUT : PL_TERM_NEW;
	term.curve = curve_of(c, &want);
	term.weights_s = n * depth * pl_kernel_weight_bytes(want.type) / k->peaks[PL_PEAK_MEMORY];
	term.row_compute_s = 2 * n * depth / pl_kernel_peak(k, want.type);
	pl_measured_add(c, &term, PL_F_KERNEL, PL_F_KERNEL, t->type);
}

static void linear(struct pl_compile *c, const struct pl_op *op, uint32_t place)
{
	const struct pl_op *ops = c->m->graph.ops;
	const struct pl_tensor *t = matrix(c, op);
	if (!t)
		return;
	bool row = pl_role_info(t->role)->shard == PL_SHARD_ROW;
	double n = columns(c, t), depth = (double)t->ne[0] / (row ? c->tp : 1);
	uint32_t at = (uint32_t)(op - ops);
	if (is_linear(op)) {
		for (uint32_t i = at; i-- > 0 && ops[i].layer == op->layer;)
			if (is_linear(&ops[i]) && together(c, &ops[i], op))
				return; /* part of an earlier product */
		for (uint32_t i = at + 1; i < c->m->graph.n_ops && ops[i].layer == op->layer; i++)
			if (is_linear(&ops[i]) && together(c, op, &ops[i]))
				n += columns(c, matrix(c, &ops[i]));
	}
	product(c, place, t, n, depth, op->kind == PL_OP_LM_HEAD ? PL_CAUSE_LM_HEAD : op->kind == PL_OP_ROUTER ? PL_CAUSE_EXPERTS : PL_CAUSE_GEMM);
	bool beside_experts = t->group == PL_GROUP_SHARED_EXPERT; /* its sum is added to the experts' before the message */
	if (row && !beside_experts)
		reduce(c, place, (double)c->m->graph.values[op->out].width * 2);
}

static void routed(struct pl_compile *c, const struct pl_op *op, uint32_t place)
{
	const struct pl_tensor *t = matrix(c, op);
	const struct pl_layer *l = op->layer >= 0 ? &c->m->layers[op->layer] : NULL;
	if (!t || !l || !l->n_expert)
		return;
	if (t->role == PL_ROLE_EXPERT_DOWN) {
		bool dealt = c->p->expert_parallel;
		double ranks = dealt ? c->moe_ranks : 1, width = (double)t->ne[0] / (dealt ? 1 : c->moe_ranks);
		struct shape want = {.kind = PL_OP_EXPERTS, .type = kernel_type(c, t), .a = (double)t->ne[1], .b = width,
		                     .c = l->n_expert_used, .d = l->n_expert, .e = ranks};
		struct pl_term term = {.kind = PL_TERM_EXPERTS, .cause = PL_CAUSE_EXPERTS, .place = place};
		term.curve = curve_of(c, &want);
		term.rows_scale = data_ranks(c);
		term.weights_s = 1; /* few tokens an expert: weights rule until the products fill the units */
		term.row_compute_s = 1.0 / 256 * l->n_expert_used / l->n_expert;
		if (term.curve)
			pl_measured_add(c, &term, PL_F_EXPERT_KERNEL, PL_F_EXPERT_KERNEL, t->type);
		share_experts(c, place, (double)t->ne[1] * 2, l->n_expert_used);
	}
}

/* ---- attention */

static void attention(struct pl_compile *c, const struct pl_op *op, uint32_t place)
{
	const struct pl_layer *l = &c->m->layers[op->layer];
	const struct pl_kernels *k = &c->fused->kernels;
	double ranks = c->attn_ranks, heads = l->n_head > ranks ? l->n_head / ranks : 1;
	double kv_heads = l->n_head_kv > ranks ? l->n_head_kv / ranks : 1, decode, prefill;
	bool mla = l->attn == PL_ATTN_MLA, fp8 = c->p->type_k == PL_DTYPE_F8_E4M3 || c->p->type_k == PL_DTYPE_F8_E5M2;
	enum pl_kernel_type type = fp8 ? PL_KERNEL_FP8 : PL_KERNEL_BF16;
	struct pl_term t = {.kind = PL_TERM_ATTENTION, .cause = PL_CAUSE_ATTENTION, .place = place};
	if (mla) {
		t.cached_bytes = ((double)l->kv_lora + l->d_rope) * (fp8 ? 1 : 2);
		decode = 2 * heads * (2.0 * l->kv_lora + l->d_rope);
		prefill = 2 * heads * ((double)l->d_nope + l->d_rope + l->d_v);
	} else {
		t.cached_bytes = kv_heads * ((double)l->d_k + l->d_v) * (fp8 ? 1 : 2);
		decode = prefill = 2 * heads * ((double)l->d_k + l->d_v);
	}
	t.cached_s = t.cached_bytes / k->peaks[PL_PEAK_MEMORY];
	t.pair_decode_s = decode / k->peaks[PL_PEAK_16];
	t.pair_prefill_s = prefill / k->peaks[PL_PEAK_16];
	t.window_tokens = l->window_tokens ? l->window_tokens : l->indexer_topk;
	t.heads = heads;
	t.latent = mla;
	t.decode_grid = pl_kernel_grid(k, mla ? PL_GRID_DECODE_MLA : PL_GRID_DECODE_ATTENTION, type);
	if (!t.decode_grid)
		t.decode_grid = pl_kernel_grid(k, mla ? PL_GRID_DECODE_MLA : PL_GRID_DECODE_ATTENTION, PL_KERNEL_BF16);
	if (!mla && l->d_k <= 64)
		t.prefill_grid = pl_kernel_grid(k, PL_GRID_PREFILL_ATTENTION_64, PL_KERNEL_BF16);
	if (!t.prefill_grid)
		t.prefill_grid = pl_kernel_grid(k, mla ? PL_GRID_PREFILL_MLA : PL_GRID_PREFILL_ATTENTION, PL_KERNEL_BF16);
	pl_measured_add(c, &t, PL_F_ATTN_KERNEL, PL_F_PROMPT_ATTN_KERNEL, PL_DTYPE_UNKNOWN);
}

/* ---- the rest: what is left as a kernel of its own */

/* The sum over ranks ends with residual and norm in TensorRT-LLM (AllReduceFusionOp RESIDUAL_RMS_NORM), and where FlashInfer has
 * that kernel (capability 10.x) in vLLM (fuse_allreduce_rms) and SGLang (--enable-flashinfer-allreduce-fusion). */
static bool sums_with_norm(const struct pl_compile *c)
{
	const char *capability = pl_kernel_tables()->systems[c->fused->kernels.system].capability;
	return c->tp > 1 && pl_linked(c, &c->fused->kernels, &c->hw->devices[0], c->tp) && (c->fused->engine == PL_KERNEL_TRTLLM || !strncmp(capability, "10.", 3));
}

/* A norm over all heads at once, which ranks share: the sums of squares of queries and keys are added up over them, in one message
 * (MiniMaxText01RMSNormTP.forward_qk of vLLM). */
static void norm_over_ranks(struct pl_compile *c, const struct pl_op *op, uint32_t place)
{
	const struct pl_tensor *t = op->n_weights ? &c->m->tensors[op->weights[0]] : NULL;
	if (t && t->role == PL_ROLE_ATTN_Q_NORM && c->tp > 1 && op->layer >= 0 && t->n_elems > c->m->layers[op->layer].d_k)
		reduce(c, place, 2 * sizeof(float));
}

static bool merged(const struct pl_compile *c, const struct pl_op *op)
{
	const struct pl_value *out = &c->m->graph.values[op->out];
	switch (op->kind) {
	case PL_OP_NORM: /* of the residual stream, which every sum ends in */
		return sums_with_norm(c) && out->rows == PL_ROWS_NEW && out->width == c->m->n_embd;
	case PL_OP_ADD:     /* with the norm that follows */
	case PL_OP_COMBINE: /* the experts' kernel ends with it */
		return true;
	case PL_OP_ROPE:    /* queries and keys turn together */
		return !strcmp(out->name, "k_rope") || !strcmp(out->name, "kv_rope");
	case PL_OP_GLU:
		return out->rows == PL_ROWS_ROUTED;
	default:
		return false;
	}
}

bool pl_fused_op(struct pl_compile *c, const struct pl_op *op, uint32_t place)
{
	if (!c->fused || c->s->places[place].first == PL_SPEED_HOST)
		return false;
	switch (op->kind) {
	case PL_OP_LINEAR:
	case PL_OP_LM_HEAD:
		linear(c, op, place);
		return true;
	case PL_OP_ROUTER:
		linear(c, op, place);
		pl_pass_work(c, op, place, PL_CAUSE_EXPERTS, 1);
		return true;
	case PL_OP_EXPERTS:
		routed(c, op, place);
		return true;
	case PL_OP_ATTENTION:
		if (op->layer >= 0)
			attention(c, op, place);
		return true;
	case PL_OP_NORM:
		norm_over_ranks(c, op, place);
		return merged(c, op);
	default:
		return merged(c, op);
	}
}
