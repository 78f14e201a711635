/* Recurrent mixers of one layer: Mamba 1 and 2, gated DeltaNet, Kimi delta attention, short convolution. */
#include "model/graph_build.h"

static uint32_t conv(struct pl_gb *b, int32_t il, enum pl_role role, uint32_t in, uint64_t width)
{
	const struct pl_tensor *t = pl_gb_tensor(b, il, role);
	if (!t || in == PL_NO_VALUE)
		return in;
	uint64_t channels = t->ne[1] * t->ne[2] * t->ne[3]; /* kernel first, channels last */
	pl_gb_expect(b, t, channels, width);
	uint32_t out = pl_gb_op(b, PL_OP_CONV, il, in, PL_NO_VALUE, PL_NO_VALUE, width, PL_ROWS_NEW, "conv_out");
	pl_gb_weigh(b, il, role);
	return out;
}

/* State update: A, D, the step bias. */
static uint32_t scan(struct pl_gb *b, int32_t il, uint32_t x, uint32_t extra, uint32_t extra2, uint64_t width)
{
	uint32_t out = pl_gb_op(b, PL_OP_SCAN, il, x, extra, extra2, width, PL_ROWS_NEW, "scan_out");
	pl_gb_weigh(b, il, PL_ROLE_SSM_A);
	pl_gb_weigh(b, il, PL_ROLE_SSM_D);
	return out;
}

static uint32_t mamba1(struct pl_gb *b, int32_t il, uint32_t h)
{
	const struct pl_layer *l = &b->m->layers[il];
	uint32_t xz = pl_gb_linear(b, il, PL_ROLE_SSM_IN, h, "ssm_in");
	uint32_t x = conv(b, il, PL_ROLE_SSM_CONV, xz, l->d_inner);
	uint32_t bcdt = pl_gb_linear(b, il, PL_ROLE_SSM_X, x, "ssm_x");
	const enum pl_role norms[] = {PL_ROLE_SSM_DT_NORM, PL_ROLE_SSM_B_NORM, PL_ROLE_SSM_C_NORM};
	for (int i = 0; i < 3; i++) { /* each over its part of the value */
		if (!pl_gb_has(b, il, norms[i]))
			continue;
		bcdt = pl_gb_op(b, PL_OP_NORM, il, bcdt, PL_NO_VALUE, PL_NO_VALUE, pl_gb_width(b, bcdt), PL_ROWS_NEW,
		                "ssm_x_norm");
		pl_gb_weigh(b, il, norms[i]);
	}
	uint32_t dt = PL_NO_VALUE;
	const struct pl_tensor *t = pl_gb_tensor(b, il, PL_ROLE_SSM_DT);
	if (t && bcdt != PL_NO_VALUE) {
		if (l->rec == PL_REC_MAMBA1)
			pl_gb_expect(b, t, t->ne[0], l->dt_rank);
		dt = pl_gb_op(b, PL_OP_LINEAR, il, bcdt, PL_NO_VALUE, PL_NO_VALUE, t->ne[1], PL_ROWS_NEW, "ssm_dt");
		pl_gb_weigh(b, il, PL_ROLE_SSM_DT);
	}
	uint32_t y = scan(b, il, x, bcdt, dt, l->d_inner);
	y = pl_gb_op(b, PL_OP_GLU, il, y, xz, PL_NO_VALUE, l->d_inner, PL_ROWS_NEW, "ssm_gated");
	return pl_gb_linear(b, il, PL_ROLE_SSM_OUT, y, "ssm_out");
}

static uint32_t mamba2(struct pl_gb *b, int32_t il, uint32_t h)
{
	const struct pl_layer *l = &b->m->layers[il];
	uint32_t in = pl_gb_linear(b, il, PL_ROLE_SSM_IN, h, "ssm_in");
	uint32_t x = conv(b, il, PL_ROLE_SSM_CONV, in, (uint64_t)l->d_inner + 2ull * l->n_group * l->d_state);
	uint32_t y = scan(b, il, x, in, PL_NO_VALUE, l->d_inner);
	pl_gb_weigh(b, il, PL_ROLE_SSM_DT);
	y = pl_gb_op(b, PL_OP_GLU, il, y, in, PL_NO_VALUE, l->d_inner, PL_ROWS_NEW, "ssm_gated");
	y = pl_gb_norm(b, il, PL_ROLE_SSM_NORM, y, "ssm_norm");
	return pl_gb_linear(b, il, PL_ROLE_SSM_OUT, y, "ssm_out");
}

static uint32_t deltanet(struct pl_gb *b, int32_t il, uint32_t h)
{
	const struct pl_layer *l = &b->m->layers[il];
	uint64_t keys = (uint64_t)l->rec_k_heads * l->rec_d_k, values = (uint64_t)l->rec_heads * l->rec_d_v;
	uint32_t qkv = pl_gb_linear(b, il, PL_ROLE_ATTN_QKV, h, "qkv"),
	         z = pl_gb_linear(b, il, PL_ROLE_ATTN_GATE, h, "z");
	if (qkv == PL_NO_VALUE)
		z = qkv = pl_gb_linear(b, il, PL_ROLE_SSM_IN, h, "qkvz");
	uint32_t ba = pl_gb_linear(b, il, PL_ROLE_SSM_BETA_ALPHA, h, "beta_alpha");
	uint32_t beta = pl_gb_linear(b, il, PL_ROLE_SSM_BETA, h, "beta"),
	         alpha = pl_gb_linear(b, il, PL_ROLE_SSM_ALPHA, h, "alpha");
	uint32_t x = conv(b, il, PL_ROLE_SSM_CONV, qkv, 2 * keys + values);
	uint32_t y = scan(b, il, x, ba == PL_NO_VALUE ? beta : ba, alpha, values);
	pl_gb_weigh(b, il, PL_ROLE_SSM_DT);
	y = pl_gb_norm(b, il, PL_ROLE_SSM_NORM, y, "ssm_norm");
	y = pl_gb_op(b, PL_OP_GLU, il, y, z, PL_NO_VALUE, values, PL_ROWS_NEW, "ssm_gated");
	return pl_gb_linear(b, il, PL_ROLE_SSM_OUT, y, "ssm_out");
}

/* Kimi delta attention: three convolutions, a decay and an output gate through narrow matrices. */
static uint32_t kda(struct pl_gb *b, int32_t il, uint32_t h)
{
	const enum pl_role proj[] = {PL_ROLE_ATTN_Q, PL_ROLE_ATTN_K, PL_ROLE_ATTN_V};
	const enum pl_role convs[] = {PL_ROLE_SSM_CONV_Q, PL_ROLE_SSM_CONV_K, PL_ROLE_SSM_CONV_V};
	const struct pl_layer *l = &b->m->layers[il];
	uint64_t width = (uint64_t)l->rec_heads * l->rec_d_v;
	uint32_t x[3];
	for (int i = 0; i < 3; i++)
		x[i] = conv(b, il, convs[i], pl_gb_linear(b, il, proj[i], h, "kda_in"), width);
	uint32_t decay =
	    pl_gb_linear(b, il, PL_ROLE_SSM_F_B, pl_gb_linear(b, il, PL_ROLE_SSM_F_A, h, "decay_a"), "decay");
	uint32_t beta = pl_gb_linear(b, il, PL_ROLE_SSM_BETA, h, "beta");
	uint32_t gate = pl_gb_linear(b, il, PL_ROLE_SSM_G, h, "gate"); /* Kimi K3: of full rank */
	if (gate == PL_NO_VALUE)
		gate = pl_gb_linear(b, il, PL_ROLE_SSM_G_B, pl_gb_linear(b, il, PL_ROLE_SSM_G_A, h, "gate_a"), "gate");
	uint32_t kv = pl_gb_op(b, PL_OP_SCAN, il, x[1], x[2], beta, width, PL_ROWS_NEW, "kda_state");
	uint32_t y = scan(b, il, x[0], kv, decay, width);
	pl_gb_weigh(b, il, PL_ROLE_SSM_DT);
	y = pl_gb_norm(b, il, PL_ROLE_SSM_NORM, y, "ssm_norm");
	y = pl_gb_op(b, PL_OP_GLU, il, y, gate, PL_NO_VALUE, width, PL_ROWS_NEW, "kda_gated");
	uint32_t o = pl_gb_linear(b, il, PL_ROLE_ATTN_OUT, y, "kda_out");
	return o == PL_NO_VALUE ? pl_gb_linear(b, il, PL_ROLE_SSM_OUT, y, "kda_out") : o;
}

static uint32_t shortconv(struct pl_gb *b, int32_t il, uint32_t h)
{
	uint32_t in = pl_gb_linear(b, il, PL_ROLE_SHORTCONV_IN, h, "shortconv_in");
	uint32_t width = b->m->n_embd;
	uint32_t y = conv(b, il, PL_ROLE_SHORTCONV_CONV, in, width);
	y = pl_gb_op(b, PL_OP_GLU, il, y, in, PL_NO_VALUE, width, PL_ROWS_NEW, "shortconv_gated");
	return pl_gb_linear(b, il, PL_ROLE_SHORTCONV_OUT, y, "shortconv_out");
}

uint32_t pl_gb_recurrent(struct pl_gb *b, int32_t il, uint32_t h)
{
	switch (b->m->layers[il].rec) {
	case PL_REC_MAMBA1:
		return mamba1(b, il, h);
	case PL_REC_MAMBA2: /* PLaMo 2 projects as Mamba 1 does and scans as Mamba 2 */
		return pl_gb_has(b, il, PL_ROLE_SSM_X) ? mamba1(b, il, h) : mamba2(b, il, h);
	case PL_REC_DELTANET:
		return deltanet(b, il, h);
	case PL_REC_SHORTCONV:
		return shortconv(b, il, h);
	case PL_REC_KDA:
		return kda(b, il, h);
	case PL_REC_RWKV:
	case PL_REC_LIGHTNING:
		if (!b->fault)
			b->fault = pl_arena_printf(
			    b->a, "layer %d has a recurrent mixer whose operations are not described", il);
		return PL_NO_VALUE;
	case PL_REC_NONE:
		break;
	}
	return PL_NO_VALUE;
}
