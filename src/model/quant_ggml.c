/* ggml's mixtures: which type llama-quantize gives each tensor. The rules are those of llama.cpp's src/llama-quant.cpp,
 * without an importance matrix unless the name ends in "-imatrix", written as decisions by kind of tensor. */
#include <string.h>

#include "base/checked.h"
#include "model/quant.h"

enum mix {
	M_F32, M_F16, M_BF16, M_Q4_0, M_Q4_1, M_Q5_0, M_Q5_1, M_Q8_0, M_Q2_K, M_Q2_K_S, M_Q3_K_S, M_Q3_K_M, M_Q3_K_L, M_Q4_K_S,
	M_Q4_K_M, M_Q5_K_S, M_Q5_K_M, M_Q6_K, M_IQ1_S, M_IQ1_M, M_IQ2_XXS, M_IQ2_XS, M_IQ2_S, M_IQ2_M, M_IQ3_XXS, M_IQ3_XS,
	M_IQ3_S, M_IQ3_M, M_IQ4_NL, M_IQ4_XS, M_TQ1_0, M_TQ2_0, M_MXFP4_MOE, M_COUNT
};

static const struct {
	const char *name;
	enum pl_dtype type; /* what most tensors get */
} mixes[M_COUNT] = {
    [M_F32] = {"f32", PL_DTYPE_F32},          [M_F16] = {"f16", PL_DTYPE_F16},          [M_BF16] = {"bf16", PL_DTYPE_BF16},
    [M_Q4_0] = {"q4_0", PL_DTYPE_Q4_0},       [M_Q4_1] = {"q4_1", PL_DTYPE_Q4_1},       [M_Q5_0] = {"q5_0", PL_DTYPE_Q5_0},
    [M_Q5_1] = {"q5_1", PL_DTYPE_Q5_1},       [M_Q8_0] = {"q8_0", PL_DTYPE_Q8_0},       [M_Q2_K] = {"q2_k", PL_DTYPE_Q2_K},
    [M_Q2_K_S] = {"q2_k_s", PL_DTYPE_Q2_K},   [M_Q3_K_S] = {"q3_k_s", PL_DTYPE_Q3_K},   [M_Q3_K_M] = {"q3_k_m", PL_DTYPE_Q3_K},
    [M_Q3_K_L] = {"q3_k_l", PL_DTYPE_Q3_K},   [M_Q4_K_S] = {"q4_k_s", PL_DTYPE_Q4_K},   [M_Q4_K_M] = {"q4_k_m", PL_DTYPE_Q4_K},
    [M_Q5_K_S] = {"q5_k_s", PL_DTYPE_Q5_K},   [M_Q5_K_M] = {"q5_k_m", PL_DTYPE_Q5_K},   [M_Q6_K] = {"q6_k", PL_DTYPE_Q6_K},
    [M_IQ1_S] = {"iq1_s", PL_DTYPE_IQ1_S},    [M_IQ1_M] = {"iq1_m", PL_DTYPE_IQ1_M},    [M_IQ2_XXS] = {"iq2_xxs", PL_DTYPE_IQ2_XXS},
    [M_IQ2_XS] = {"iq2_xs", PL_DTYPE_IQ2_XS}, [M_IQ2_S] = {"iq2_s", PL_DTYPE_IQ2_XS},   [M_IQ2_M] = {"iq2_m", PL_DTYPE_IQ2_S},
    [M_IQ3_XXS] = {"iq3_xxs", PL_DTYPE_IQ3_XXS}, [M_IQ3_XS] = {"iq3_xs", PL_DTYPE_IQ3_S}, [M_IQ3_S] = {"iq3_s", PL_DTYPE_IQ3_S},
    [M_IQ3_M] = {"iq3_m", PL_DTYPE_IQ3_S},    [M_IQ4_NL] = {"iq4_nl", PL_DTYPE_IQ4_NL}, [M_IQ4_XS] = {"iq4_xs", PL_DTYPE_IQ4_XS},
    [M_TQ1_0] = {"tq1_0", PL_DTYPE_TQ1_0},    [M_TQ2_0] = {"tq2_0", PL_DTYPE_TQ2_0},
    [M_MXFP4_MOE] = {"mxfp4_moe", PL_DTYPE_MXFP4},
};

const char *const pl_quant_ggml_names[] = {"f32",    "f16",    "bf16",   "q8_0",    "q6_k",    "q5_k_m",  "q5_k_s",  "q5_1",
                                           "q5_0",   "q4_k_m", "q4_k_s", "q4_1",    "q4_0",    "iq4_nl",  "iq4_xs",  "q3_k_l",
                                           "q3_k_m", "q3_k_s", "iq3_m",  "iq3_s",   "iq3_xs",  "iq3_xxs", "q2_k",    "q2_k_s",
                                           "iq2_m",  "iq2_s",  "iq2_xs", "iq2_xxs", "iq1_m",   "iq1_s",   "tq2_0",   "tq1_0",
                                           "mxfp4_moe", NULL};

struct state {
	enum mix mix;
	const struct pl_model *m;
	bool falcon, is_70b, tied, imatrix;
	uint32_t n_expert, n_gqa, n_layers;
	int i_v, n_v, i_down, i_gate, i_up;
};

/* "q4_0", or "q4_0-imatrix" for a file made with an importance matrix. */
static bool find(const char *name, enum mix *ret, bool *ret_imatrix)
{
	for (int i = 0; i < M_COUNT; i++) {
		size_t n = strlen(mixes[i].name);
		*ret_imatrix = !strcasecmp(name + strnlen(name, n), "-imatrix");
		if (!strncasecmp(name, mixes[i].name, n) && (!name[n] || *ret_imatrix)) {
			*ret = (enum mix)i;
			return true;
		}
	}
	return false;
}

bool pl_quant_ggml_known(const char *name)
{
	enum mix unused;
	bool imatrix;
	return find(name, &unused, &imatrix);
}

/* Kept in 32 bit by the converter: vectors, norms, routers, small convolutions, positions (conversion/base.py). */
static bool stays_f32(const struct pl_tensor *t)
{
	size_t n = strlen(t->name);
	if (t->n_dims < 2 || t->is_bias || n < 7 || strcmp(t->name + n - 7, ".weight") || strstr(t->name, "_norm.weight"))
		return true;
	switch (t->role) {
	case PL_ROLE_ROUTER:
	case PL_ROLE_SHARED_GATE_INP:
	case PL_ROLE_POS_EMBD:
	case PL_ROLE_TYPE_EMBD:
	case PL_ROLE_SSM_CONV:
	case PL_ROLE_SSM_CONV_Q:
	case PL_ROLE_SSM_CONV_K:
	case PL_ROLE_SSM_CONV_V:
	case PL_ROLE_SHORTCONV_CONV:
		return true;
	default:
		return false;
	}
}

static bool among(enum mix mix, uint64_t set)
{
	return set >> mix & 1;
}

#define S(x) (UINT64_C(1) << (x))

static const uint64_t low_iq = S(M_IQ1_S) | S(M_IQ1_M) | S(M_IQ2_XXS) | S(M_IQ2_XS) | S(M_IQ2_S) | S(M_IQ2_M);

static bool more_bits(int i, int n)
{
	return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
}

static enum pl_dtype output_type(const struct state *s, const struct pl_tensor *t, enum pl_dtype type)
{
	if (s->mix == M_MXFP4_MOE || s->falcon || t->ne[0] % pl_dtype_info(type)->block_elems)
		return PL_DTYPE_Q8_0;
	if (among(s->mix, low_iq | S(M_IQ3_XXS)))
		return PL_DTYPE_Q5_K;
	return type == PL_DTYPE_Q8_0 ? type : PL_DTYPE_Q6_K;
}

static enum pl_dtype embedding_type(const struct state *s, enum pl_dtype type)
{
	if (among(s->mix, S(M_IQ2_XXS) | S(M_IQ2_XS) | S(M_IQ1_S) | S(M_IQ1_M)))
		return PL_DTYPE_Q2_K;
	if (among(s->mix, S(M_IQ2_S) | S(M_IQ2_M) | S(M_IQ3_XXS)))
		return PL_DTYPE_IQ3_S;
	if (among(s->mix, S(M_TQ1_0) | S(M_TQ2_0)))
		return PL_DTYPE_Q4_K;
	return type;
}

static bool is_v(enum pl_role r)
{
	return r == PL_ROLE_ATTN_V || r == PL_ROLE_ATTN_QKV || r == PL_ROLE_ATTN_KV_B;
}

static bool is_down(enum pl_role r)
{
	return r == PL_ROLE_FFN_DOWN || r == PL_ROLE_EXPERT_DOWN || r == PL_ROLE_SHARED_DOWN;
}

static bool is_gate(enum pl_role r)
{
	return r == PL_ROLE_FFN_GATE || r == PL_ROLE_EXPERT_GATE || r == PL_ROLE_SHARED_GATE || r == PL_ROLE_EXPERT_GATE_UP ||
	       r == PL_ROLE_FFN_GATE_UP;
}

static bool is_up(enum pl_role r)
{
	return r == PL_ROLE_FFN_UP || r == PL_ROLE_EXPERT_UP || r == PL_ROLE_SHARED_UP;
}

static enum pl_dtype low_iq_type(struct state *s, const struct pl_tensor *t, enum pl_dtype type)
{
	bool wide = among(s->mix, S(M_IQ2_S) | S(M_IQ2_M));
	if (is_v(t->role))
		return s->n_gqa >= 4 || s->n_expert >= 4 ? PL_DTYPE_Q4_K : wide ? PL_DTYPE_IQ3_S : PL_DTYPE_Q2_K;
	if (s->n_expert == 8 && t->role == PL_ROLE_ATTN_K)
		return PL_DTYPE_Q4_K;
	if (is_down(t->role)) {
		bool early = s->i_down++ < (int)s->n_layers / 8;
		return early ? wide ? PL_DTYPE_IQ3_S : PL_DTYPE_Q2_K : type;
	}
	if (t->role == PL_ROLE_ATTN_OUT) {
		if (s->n_expert == 8)
			return PL_DTYPE_Q5_K;
		if (among(s->mix, S(M_IQ1_S) | S(M_IQ1_M)))
			return PL_DTYPE_IQ2_XXS;
		return wide ? PL_DTYPE_IQ3_S : type;
	}
	return type;
}

static enum pl_dtype v_type(struct state *s, enum pl_dtype type)
{
	bool shared = s->n_gqa >= 4;
	int i = s->i_v++;
	switch (s->mix) {
	case M_Q2_K:
		type = shared ? PL_DTYPE_Q4_K : PL_DTYPE_Q3_K;
		break;
	case M_Q2_K_S:
	case M_IQ3_XS:
	case M_IQ3_S:
		type = shared ? PL_DTYPE_Q4_K : type;
		break;
	case M_IQ3_XXS:
		type = shared ? PL_DTYPE_Q4_K : s->imatrix ? type : PL_DTYPE_IQ3_S;
		break;
	case M_IQ3_M:
		type = PL_DTYPE_Q4_K;
		break;
	case M_Q3_K_M:
		type = i < 2 ? PL_DTYPE_Q5_K : PL_DTYPE_Q4_K;
		break;
	case M_Q3_K_L:
		type = PL_DTYPE_Q5_K;
		break;
	case M_IQ4_NL:
	case M_IQ4_XS:
		type = shared ? PL_DTYPE_Q5_K : type;
		break;
	case M_Q4_K_M:
	case M_Q5_K_M:
		type = more_bits(i, s->n_v) ? PL_DTYPE_Q6_K : type;
		break;
	case M_Q4_K_S:
		type = i < 4 ? PL_DTYPE_Q5_K : type;
		break;
	default:
		break;
	}
	/* 80 layers share one V between eight heads: worth more bits */
	if (s->is_70b && (type == PL_DTYPE_Q3_K || type == PL_DTYPE_Q4_K))
		type = PL_DTYPE_Q5_K;
	return s->n_expert == 8 ? PL_DTYPE_Q8_0 : type;
}

static enum pl_dtype qk_type(const struct state *s, bool k, enum pl_dtype type)
{
	if (k && s->n_expert == 8)
		return PL_DTYPE_Q8_0;
	if (s->mix == M_IQ3_XS)
		return PL_DTYPE_IQ3_XXS;
	return s->mix == M_IQ3_XXS ? PL_DTYPE_IQ2_S : type;
}

/* Models with experts count by the layer's number, others by how many such tensors came before. */
static int position(const struct state *s, const struct pl_tensor *t, int *counter)
{
	int i = (*counter)++;
	return s->n_expert > 1 && t->layer >= 0 ? t->layer : i;
}

static enum pl_dtype down_type(struct state *s, const struct pl_tensor *t, enum pl_dtype type)
{
	int i = position(s, t, &s->i_down), n = (int)s->n_layers;
	switch (s->mix) {
	case M_Q2_K:
		return PL_DTYPE_Q3_K;
	case M_Q2_K_S:
		return i < n / 8 ? PL_DTYPE_Q4_K : type;
	case M_IQ3_XXS:
		return s->imatrix ? type : i < n / 8 ? PL_DTYPE_Q4_K : PL_DTYPE_Q3_K;
	case M_Q4_0:
		return s->imatrix && i < n / 8 ? PL_DTYPE_Q4_1 : type;
	case M_Q5_0:
		return s->imatrix && i < n / 8 ? PL_DTYPE_Q5_1 : type;
	case M_Q3_K_M:
		return i < n / 16 ? PL_DTYPE_Q5_K : !s->falcon || more_bits(i, n) ? PL_DTYPE_Q4_K : PL_DTYPE_Q3_K;
	case M_IQ3_M:
		return i < n / 8 || (s->n_expert == 8 && more_bits(i, n)) ? PL_DTYPE_Q4_K : type;
	case M_Q3_K_L:
		return s->falcon ? PL_DTYPE_Q4_K : PL_DTYPE_Q5_K;
	case M_Q4_K_M:
		if (s->falcon)
			return i < n / 16 ? PL_DTYPE_Q6_K : more_bits(i, n) ? PL_DTYPE_Q5_K : PL_DTYPE_Q4_K;
		return more_bits(i, n) ? PL_DTYPE_Q6_K : type;
	case M_IQ4_NL:
	case M_IQ4_XS:
		return i < n / 8 && !s->imatrix ? PL_DTYPE_Q5_K : type;
	case M_Q5_K_M:
		return more_bits(i, n) ? PL_DTYPE_Q6_K : type;
	case M_Q4_K_S:
		return !s->falcon && i < n / 8 ? PL_DTYPE_Q5_K : type;
	default:
		return type;
	}
}

static enum pl_dtype out_type(const struct state *s, enum pl_dtype type)
{
	if (s->falcon)
		return s->mix == M_Q3_K_L ? PL_DTYPE_Q4_K : type;
	if (s->n_expert == 8)
		return among(s->mix, S(M_Q2_K) | S(M_IQ3_XS) | S(M_IQ3_XXS) | S(M_Q3_K_S) | S(M_Q3_K_M) | S(M_IQ4_NL) | S(M_Q4_K_S) |
		                         S(M_Q4_K_M) | S(M_IQ3_S) | S(M_IQ3_M) | S(M_IQ4_XS))
		           ? PL_DTYPE_Q5_K
		           : type;
	switch (s->mix) {
	case M_Q2_K:
		return PL_DTYPE_Q3_K;
	case M_IQ3_XXS:
		return PL_DTYPE_IQ3_S;
	case M_Q3_K_M:
	case M_IQ3_M:
		return PL_DTYPE_Q4_K;
	case M_Q3_K_L:
		return PL_DTYPE_Q5_K;
	default:
		return type;
	}
}

static enum pl_dtype gate_up_type(struct state *s, const struct pl_tensor *t, enum pl_dtype type)
{
	int i = position(s, t, is_gate(t->role) ? &s->i_gate : &s->i_up), n = (int)s->n_layers;
	return s->mix == M_IQ3_XS && i >= n / 8 && i < 7 * n / 8 ? PL_DTYPE_IQ3_XXS : type;
}

static enum pl_dtype wanted(struct state *s, const struct pl_tensor *t)
{
	enum pl_dtype type = mixes[s->mix].type;
	bool embedding = t->role == PL_ROLE_TOKEN_EMBD || t->role == PL_ROLE_PER_LAYER_EMBD;
	if (t->role == PL_ROLE_OUTPUT || (s->tied && embedding))
		return output_type(s, t, type);
	if (s->mix == M_MXFP4_MOE)
		return t->ne[2] > 1 ? PL_DTYPE_MXFP4 : PL_DTYPE_Q8_0;
	if (embedding)
		return embedding_type(s, type);
	if (among(s->mix, low_iq))
		return low_iq_type(s, t, type);
	if (is_v(t->role))
		return v_type(s, type);
	if (t->role == PL_ROLE_ATTN_K || t->role == PL_ROLE_ATTN_Q)
		return qk_type(s, t->role == PL_ROLE_ATTN_K, type);
	if (is_down(t->role))
		return down_type(s, t, type);
	if (t->role == PL_ROLE_ATTN_OUT)
		return out_type(s, type);
	if (is_gate(t->role) || is_up(t->role))
		return gate_up_type(s, t, type);
	return type;
}

/* Rows that are not whole blocks get a neighbour of smaller blocks, or 16 bits. */
static enum pl_dtype that_fits(enum pl_dtype type, uint64_t row)
{
	if (row % pl_dtype_info(type)->block_elems == 0)
		return type;
	switch (type) {
	case PL_DTYPE_Q2_K:
	case PL_DTYPE_Q3_K:
	case PL_DTYPE_TQ1_0:
	case PL_DTYPE_TQ2_0:
		type = PL_DTYPE_Q4_0;
		break;
	case PL_DTYPE_Q4_K:
		type = PL_DTYPE_Q5_0;
		break;
	case PL_DTYPE_Q5_K:
		type = PL_DTYPE_Q5_1;
		break;
	case PL_DTYPE_Q6_K:
		type = PL_DTYPE_Q8_0;
		break;
	default:
		type = PL_DTYPE_IQ4_NL;
		break;
	}
	return row % pl_dtype_info(type)->block_elems ? PL_DTYPE_F16 : type;
}

static enum pl_dtype type_of(struct state *s, const struct pl_tensor *t)
{
	enum pl_dtype plain = s->mix == M_F32 ? PL_DTYPE_F32 : s->mix == M_BF16 ? PL_DTYPE_BF16 : PL_DTYPE_F16;
	if (stays_f32(t))
		return PL_DTYPE_F32;
	/* gpt-oss comes in MXFP4 and its experts stay that way in every file */
	if (!strcmp(s->m->arch, "gpt-oss") && t->group == PL_GROUP_EXPERT && s->mix != M_F32)
		return PL_DTYPE_MXFP4;
	if (s->mix <= M_BF16)
		return plain;
	if (t->role == PL_ROLE_PER_LAYER_PROJ || t->group == PL_GROUP_VISION)
		return PL_DTYPE_BF16;
	return that_fits(wanted(s, t), t->ne[0]);
}

int pl_quant_ggml_apply(const char *name, const struct pl_model *m, struct pl_tensor *tensors, uint32_t n,
                        struct pl_err *err)
{
	struct state s = {.m = m, .n_layers = m->n_layers + m->n_layers_mtp, .tied = true};
	if (!find(name, &s.mix, &s.imatrix))
		return pl_fail(err, PL_ERR_UNKNOWN_NAME, name, "no precision is called '%s'", name);
	s.falcon = !strcmp(m->arch, "falcon");
	if (m->layers && m->n_layers) {
		const struct pl_layer *first = &m->layers[0], *last = &m->layers[m->n_layers - 1];
		s.n_gqa = first->n_head_kv ? first->n_head / first->n_head_kv : 1;
		if (first->attn == PL_ATTN_MLA)
			s.n_gqa = first->n_head; /* one latent head for all */
		s.n_expert = last->n_expert > first->n_expert ? last->n_expert : first->n_expert;
		s.is_70b = m->n_layers == 80 && first->n_head != first->n_head_kv && (!strcmp(m->arch, "llama") || !strcmp(m->arch, "qwen2"));
	}
	for (uint32_t i = 0; i < n; i++) {
		s.tied = s.tied && tensors[i].role != PL_ROLE_OUTPUT;
		s.n_v += is_v(tensors[i].role) && !tensors[i].is_bias;
	}
	for (uint32_t i = 0; i < n; i++) {
		struct pl_tensor *t = &tensors[i];
		t->type = type_of(&s, t);
		if (pl_dtype_bytes(t->type, t->ne[0], t->n_elems, &t->bytes))
			return pl_fail(err, PL_ERR_RANGE, name, "tensor '%s' cannot be stored as %s", t->name, pl_dtype_name(t->type));
	}
	return 0;
}
