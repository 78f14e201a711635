/* Feed forward of one layer: dense, routed experts, shared experts. */
#include "model/graph_build.h"

/* gate, up, down with the roles of one branch. fused: gate and up in one matrix. */
struct branch {
	enum pl_role gate, up, fused, sub_norm, down;
};

static uint32_t dense(struct pl_gb *b, int32_t il, uint32_t h, const struct branch *r)
{
	uint32_t up = pl_gb_linear(b, il, r->up, h, "ffn_up");
	uint32_t gate = pl_gb_linear(b, il, r->gate, h, "ffn_gate");
	if (up == PL_NO_VALUE)
		up = pl_gb_linear(b, il, r->fused, h, "ffn_gate_up");
	const struct pl_tensor *down = pl_gb_tensor(b, il, r->down);
	if (up == PL_NO_VALUE || !down)
		return PL_NO_VALUE;
	uint64_t width = pl_gb_width(b, up);
	if (gate == PL_NO_VALUE && width == 2 * down->ne[0]) /* Phi-3, ChatGLM, GLM-4 write it as a wide ffn_up */
		width /= 2;
	uint32_t act = pl_gb_op(b, PL_OP_GLU, il, up, gate, PL_NO_VALUE, width, PL_ROWS_NEW, "ffn_act");
	act = pl_gb_norm(b, il, r->sub_norm, act, "ffn_sub_norm");
	return pl_gb_linear(b, il, r->down, act, "ffn_down");
}

static uint32_t experts(struct pl_gb *b, int32_t il, enum pl_role role, uint32_t in, uint32_t routes, const char *name)
{
	const struct pl_tensor *t = pl_gb_tensor(b, il, role);
	if (!t || in == PL_NO_VALUE)
		return PL_NO_VALUE;
	pl_gb_expect(b, t, t->ne[0], pl_gb_width(b, in));
	uint32_t out = pl_gb_op(b, PL_OP_EXPERTS, il, in, routes, PL_NO_VALUE, t->ne[1], PL_ROWS_ROUTED, name);
	pl_gb_weigh(b, il, role);
	return out;
}

static uint32_t routed(struct pl_gb *b, int32_t il, uint32_t h, uint32_t router_in)
{
	const struct pl_layer *l = &b->m->layers[il];
	const struct pl_tensor *router = pl_gb_tensor(b, il, PL_ROLE_ROUTER),
	                       *down = pl_gb_tensor(b, il, PL_ROLE_EXPERT_DOWN);
	if (!router || !down)
		return PL_NO_VALUE;
	pl_gb_expect(b, router, router->ne[0], pl_gb_width(b, router_in));
	pl_gb_expect(b, router, router->ne[1], l->n_expert);
	uint32_t routes = pl_gb_op(b, PL_OP_ROUTER, il, router_in, PL_NO_VALUE, PL_NO_VALUE, l->n_expert, PL_ROWS_NEW,
	                           "ffn_moe_probs");
	pl_gb_weigh(b, il, PL_ROLE_ROUTER);
	pl_gb_weigh(b, il, PL_ROLE_ROUTER_BIAS);
	pl_gb_weigh(b, il, PL_ROLE_ROUTER_SCALE);
	uint32_t in = h, small = pl_gb_linear(b, il, PL_ROLE_EXPERT_LATENT_DOWN, h, "ffn_latent");
	if (small != PL_NO_VALUE)
		in = small;
	uint32_t up = experts(b, il, PL_ROLE_EXPERT_UP, in, routes, "ffn_moe_up");
	uint32_t gate = experts(b, il, PL_ROLE_EXPERT_GATE, in, routes, "ffn_moe_gate");
	if (up == PL_NO_VALUE)
		up = experts(b, il, PL_ROLE_EXPERT_GATE_UP, in, routes, "ffn_moe_gate_up");
	uint32_t act = pl_gb_op(b, PL_OP_GLU, il, up, gate, PL_NO_VALUE, down->ne[0], PL_ROWS_ROUTED, "ffn_moe_act");
	uint32_t out = experts(b, il, PL_ROLE_EXPERT_DOWN, act, routes, "ffn_moe_down");
	out = pl_gb_op(b, PL_OP_COMBINE, il, out, routes, PL_NO_VALUE, pl_gb_width(b, out), PL_ROWS_NEW, "ffn_moe_out");
	pl_gb_weigh(b, il, PL_ROLE_EXPERT_SCALE);
	out = pl_gb_norm(b, il, PL_ROLE_EXPERT_LATENT_NORM, out, "ffn_moe_norm");
	uint32_t wide = pl_gb_linear(b, il, PL_ROLE_EXPERT_LATENT_UP, out, "ffn_moe_up_out");
	return wide == PL_NO_VALUE ? out : wide;
}

static uint32_t shared(struct pl_gb *b, int32_t il, uint32_t h)
{
	static const struct branch roles = {PL_ROLE_SHARED_GATE, PL_ROLE_SHARED_UP, PL_ROLE_OTHER, PL_ROLE_OTHER,
	                                    PL_ROLE_SHARED_DOWN};
	uint32_t out = dense(b, il, h, &roles);
	uint32_t gate = pl_gb_linear(b, il, PL_ROLE_SHARED_GATE_INP, h, "shared_expert_gate");
	if (out == PL_NO_VALUE || gate == PL_NO_VALUE)
		return out;
	return pl_gb_op(b, PL_OP_GLU, il, out, gate, PL_NO_VALUE, pl_gb_width(b, out), PL_ROWS_NEW, "ffn_shexp_gated");
}

uint32_t pl_gb_ffn(struct pl_gb *b, int32_t il, uint32_t x, uint32_t h)
{
	static const struct branch roles = {PL_ROLE_FFN_GATE, PL_ROLE_FFN_UP, PL_ROLE_FFN_GATE_UP, PL_ROLE_FFN_SUB_NORM,
	                                    PL_ROLE_FFN_DOWN};
	const struct pl_layer *l = &b->m->layers[il];
	if (l->ffn == PL_FFN_NONE)
		return PL_NO_VALUE;
	uint32_t out = dense(b, il, h, &roles);
	if (l->ffn != PL_FFN_MOE)
		return out;
	if (out != PL_NO_VALUE)
		out = pl_gb_norm(b, il, PL_ROLE_FFN_POST_NORM_1, out, "ffn_post_norm_1");
	bool own_norm = pl_gb_has(b, il, PL_ROLE_FFN_PRE_NORM_2); /* Gemma 4: experts beside the dense path */
	uint32_t moe_in = own_norm ? pl_gb_norm(b, il, PL_ROLE_FFN_PRE_NORM_2, x, "ffn_norm_2") : h;
	if (pl_gb_has(b, il, PL_ROLE_FFN_NORM_EXPS)) /* Arctic */
		moe_in = pl_gb_norm(b, il, PL_ROLE_FFN_NORM_EXPS, x, "ffn_norm_exps");
	uint32_t moe = routed(b, il, moe_in, own_norm ? x : moe_in);
	if (moe != PL_NO_VALUE)
		moe = pl_gb_norm(b, il, PL_ROLE_FFN_POST_NORM_2, moe, "ffn_post_norm_2");
	moe = pl_gb_add(b, il, moe, shared(b, il, h), "ffn_moe_shared");
	return pl_gb_add(b, il, out, moe, "ffn_out");
}
