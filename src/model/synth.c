/* A model as a llama.cpp file: the trunk in ggml's layout, in the precision asked for, and patterns to fill it with. */
#include <string.h>

#include <plimsoll/synth.h>

#include "base/checked.h"
#include "model/arch_traits.h"
#include "model/synth_keys.h"

/* ---- layout ----------------------------------------------------------------------------------------------------- */

static bool belongs(const struct pl_tensor *t, uint32_t n_layers)
{
	if (t->group == PL_GROUP_MTP || t->group == PL_GROUP_VISION || t->group == PL_GROUP_ENCODER)
		return false;
	return t->layer < (int32_t)n_layers;
}

static void set_dims(struct pl_tensor *t, uint32_t n_dims, uint64_t d0, uint64_t d1, uint64_t d2)
{
	t->n_dims = n_dims;
	t->ne[0] = d0;
	t->ne[1] = d1;
	t->ne[2] = d2;
	t->ne[3] = 1;
}

/* Dimensions as llama.cpp's loaders ask for them, where other readers flatten or keep unit dimensions. */
static void shape(struct pl_tensor *t, const struct pl_layer *l, const struct pl_arch_traits *tr)
{
	bool mamba2 = l && l->rec == PL_REC_MAMBA2 && strcmp(tr->name, "plamo2");
	uint64_t n = t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
	if (t->is_bias && t->n_stacked > 1)
		set_dims(t, 2, n / t->n_stacked, t->n_stacked, 1);
	if (t->is_bias)
		return;
	switch (t->role) {
	case PL_ROLE_SSM_CONV:
	case PL_ROLE_SHORTCONV_CONV:
		if (l && l->d_conv)
			set_dims(t, 2, l->d_conv, n / l->d_conv, 1);
		break;
	case PL_ROLE_SSM_CONV_Q:
	case PL_ROLE_SSM_CONV_K:
	case PL_ROLE_SSM_CONV_V:
		if (l && l->d_conv)
			set_dims(t, 3, l->d_conv, 1, n / l->d_conv);
		break;
	case PL_ROLE_SSM_A:
		if (mamba2 || (l && l->rec == PL_REC_KDA))
			set_dims(t, 2, 1, n, 1);
		break;
	case PL_ROLE_SSM_D:
		if (mamba2)
			set_dims(t, 2, 1, n, 1);
		break;
	case PL_ROLE_SSM_NORM:
		if (mamba2 && l->n_group)
			set_dims(t, 2, n / l->n_group, l->n_group, 1);
		break;
	case PL_ROLE_EXPERT_GATE:
	case PL_ROLE_EXPERT_UP:
	case PL_ROLE_EXPERT_GATE_UP:
	case PL_ROLE_EXPERT_DOWN:
		t->n_dims = 3;
		break;
	case PL_ROLE_SHARED_GATE_INP:
		set_dims(t, 1, n, 1, 1);
		break;
	case PL_ROLE_ATTN_Q_NORM:
	case PL_ROLE_ATTN_K_NORM:
		if ((tr->flags & PL_ARCH_QK_NORM_BY_HEAD) && l && l->d_k && n > l->d_k)
			set_dims(t, 2, l->d_k, n / l->d_k, 1);
		break;
	default:
		break;
	}
}

/* Roles that the loader of one architecture asks for without ".weight". */
static bool is_bare(const char *arch, enum pl_role role)
{
	static const struct {
		const char *arch;
		enum pl_role role;
	} bare[] = {
	    {"falcon-h1", PL_ROLE_FFN_NORM},   {"hy_v3", PL_ROLE_ROUTER_BIAS},     {"plamo2", PL_ROLE_SSM_DT_NORM},
	    {"plamo2", PL_ROLE_SSM_B_NORM},    {"plamo2", PL_ROLE_SSM_C_NORM},     {"plamo2", PL_ROLE_ATTN_POST_NORM},
	    {"plamo2", PL_ROLE_FFN_POST_NORM}, {"plamo3", PL_ROLE_ATTN_POST_NORM}, {"plamo3", PL_ROLE_FFN_POST_NORM}};
	for (size_t i = 0; i < sizeof bare / sizeof *bare; i++)
		if (bare[i].role == role && !strcmp(bare[i].arch, arch))
			return true;
	return role == PL_ROLE_SSM_A || role == PL_ROLE_SSM_D || role == PL_ROLE_EXPERT_SCALE ||
	       role == PL_ROLE_ROUTER_SCALE;
}

/* Name by role: blk.N.attn_q.weight. Some are stored without a suffix, the router's correction as a bias. */
static const char *name_of(struct pl_arena *a, const struct pl_tensor *t, const struct pl_arch_traits *tr)
{
	const char *base = pl_role_info(t->role)->gguf_name, *suffix = t->is_bias ? ".bias" : ".weight";
	if (t->role == PL_ROLE_OTHER)
		return t->name;
	if (t->role == PL_ROLE_OUTPUT_NORM && (tr->flags & PL_ARCH_FINAL_NORM_AS_EMBD))
		base = pl_role_info(PL_ROLE_TOKEN_EMBD_NORM)->gguf_name;
	if (t->role == PL_ROLE_FFN_NORM && (tr->flags & PL_ARCH_FFN_NORM_AS_POST))
		base = pl_role_info(PL_ROLE_ATTN_POST_NORM)->gguf_name;
	if (t->role == PL_ROLE_FFN_GATE_UP)
		base = "ffn_up";
	if (t->role == PL_ROLE_ROUTER_BIAS)
		suffix = ".bias";
	if (is_bare(tr->name, t->role) && (!t->is_bias || t->role == PL_ROLE_ROUTER_BIAS))
		suffix = "";
	return t->layer < 0 ? pl_arena_printf(a, "%s%s", base, suffix)
	                    : pl_arena_printf(a, "blk.%d.%s%s", t->layer, base, suffix);
}

static int size_up(struct pl_tensor *t, struct pl_err *err)
{
	bool ok = pl_mul_u64(t->ne[0], t->ne[1], &t->n_elems) && pl_mul_u64(t->n_elems, t->ne[2], &t->n_elems) &&
	          pl_mul_u64(t->n_elems, t->ne[3], &t->n_elems);
	if (!ok || !t->n_elems)
		return pl_fail(err, PL_ERR_RANGE, t->name, "tensor '%s' has no sensible size", t->name);
	if (pl_dtype_bytes(t->type, t->ne[0], t->n_elems, &t->bytes) == 0)
		return 0;
	t->type = PL_DTYPE_BF16; /* rows that are no whole blocks in their old type; a mixture is chosen afterwards */
	t->bytes = 0;
	return pl_mul_u64(t->n_elems, 2, &t->bytes)
	           ? 0
	           : pl_fail(err, PL_ERR_RANGE, t->name, "tensor '%s' is too large", t->name);
}

/* Latent attention: llama.cpp keeps the up-projection of keys and of values apart, one matrix a head. */
static bool split_latent(struct pl_tensor_list *list, const struct pl_tensor *t, const struct pl_layer *l)
{
	struct pl_tensor *k = pl_tensor_add(list), *v;
	if (!k)
		return false;
	*k = *t;
	k->role = PL_ROLE_ATTN_K_B;
	set_dims(k, 3, l->d_nope, l->kv_lora, l->n_head);
	v = pl_tensor_add(list);
	if (!v)
		return false;
	*v = *t;
	v->role = PL_ROLE_ATTN_V_B;
	set_dims(v, 3, l->kv_lora, l->d_v, l->n_head);
	return true;
}

/* gate and up in one stack of experts: stored apart. */
static bool split_gate_up(struct pl_tensor_list *list, const struct pl_tensor *t)
{
	const enum pl_role roles[] = {PL_ROLE_EXPERT_GATE, PL_ROLE_EXPERT_UP};
	for (int i = 0; i < 2; i++) {
		struct pl_tensor *half = pl_tensor_add(list);
		if (!half)
			return false;
		*half = *t;
		half->role = roles[i];
		if (t->is_bias)
			half->ne[0] /= 2;
		else
			half->ne[1] /= 2;
	}
	return true;
}

static bool copy_tensor(struct pl_tensor_list *list, const struct pl_model *m, const struct pl_tensor *t)
{
	const struct pl_layer *l = t->layer >= 0 ? &m->layers[t->layer] : NULL;
	if (t->role == PL_ROLE_ATTN_KV_B && l && l->attn == PL_ATTN_MLA && !t->is_bias)
		return split_latent(list, t, l);
	if (t->role == PL_ROLE_EXPERT_GATE_UP)
		return split_gate_up(list, t);
	struct pl_tensor *c = pl_tensor_add(list);
	if (c)
		*c = *t;
	return c != NULL;
}

/* Rotary factors of the full-attention layers, which no Hugging Face checkpoint holds. */
static bool add_rope_freqs(struct pl_tensor_list *list, const struct pl_model *m)
{
	uint32_t d_k = 0;
	for (uint32_t i = 0; i < list->n; i++)
		if (list->items[i].role == PL_ROLE_ROPE_FREQS)
			return true;
	for (uint32_t i = 0; i < m->n_layers; i++)
		if (m->layers[i].attn != PL_ATTN_NONE && !m->layers[i].window_tokens)
			d_k = m->layers[i].d_k;
	struct pl_tensor *t = d_k ? pl_tensor_add(list) : NULL;
	if (!t)
		return !d_k;
	t->role = PL_ROLE_ROPE_FREQS;
	t->group = PL_GROUP_OTHER;
	t->type = PL_DTYPE_F32;
	set_dims(t, 1, d_k / 2, 1, 1);
	return true;
}

static int lay_out(struct pl_arena *a, const struct pl_model *m, uint32_t n_layers, struct pl_model *ret,
                   struct pl_err *err)
{
	const struct pl_arch_traits *tr = pl_arch_traits_find(m->arch);
	struct pl_tensor_list list = {.a = a};
	*ret = *m;
	ret->n_layers = n_layers;
	ret->n_layers_mtp = ret->n_encoder_layers = 0;
	ret->graph = (struct pl_graph){0};
	ret->notes = NULL;
	for (uint32_t i = 0; i < m->n_tensors; i++)
		if (belongs(&m->tensors[i], n_layers) && !copy_tensor(&list, m, &m->tensors[i]))
			return pl_fail(err, PL_ERR_NOMEM, m->name, "out of memory while laying out %u tensors",
			               m->n_tensors);
	if ((tr->flags & PL_ARCH_NEEDS_ROPE_FREQS) && !add_rope_freqs(&list, m))
		return pl_fail(err, PL_ERR_NOMEM, m->name, "out of memory while laying out %u tensors", m->n_tensors);
	for (uint32_t i = 0; i < list.n; i++) {
		struct pl_tensor *t = &list.items[i];
		shape(t, t->layer >= 0 ? &m->layers[t->layer] : NULL, tr);
		t->name = name_of(a, t, tr);
		int r = size_up(t, err);
		if (r < 0)
			return r;
	}
	return pl_model_finish(a, ret, list.items, list.n, err);
}

/* ---- entry ------------------------------------------------------------------------------------------------------ */

static int check(const struct pl_model *m, const struct pl_synth_params *p, struct pl_err *err)
{
	const struct pl_arch_traits *tr = pl_arch_traits_find(m->arch);
	if (!tr || !m->arch_known || !m->layers || !m->n_tensors ||
	    (tr->flags & (PL_ARCH_NOT_A_MODEL | PL_ARCH_NO_LOADER)))
		return pl_fail(err, PL_ERR_UNSUPPORTED, m->name, "llama.cpp has no architecture for this model ('%s')",
		               m->arch      ? m->arch
		               : m->hf_type ? m->hf_type
		                            : "unknown");
	if (p->n_layers > m->n_layers)
		return pl_fail(err, PL_ERR_RANGE, m->name, "%u layers asked for, the model has %u", p->n_layers,
		               m->n_layers);
	return 0;
}

/* Keys, vocabulary and list of tensors of out; whole: the model before it was cut. */
static int write_header(struct pl_arena *a, const struct pl_model *whole, const struct pl_model *out, bool no_vocab,
                        struct pl_synth *ret, struct pl_err *err)
{
	struct pl_tensor *tensors = PL_NEW_N(a, struct pl_tensor, out->n_tensors);
	if (!tensors)
		return pl_fail(err, PL_ERR_NOMEM, whole->name, "out of memory");
	memcpy(tensors, out->tensors, out->n_tensors * sizeof *tensors);
	struct pl_gguf_out o = {.a = a};
	pl_synth_keys(&o, out, whole);
	if (no_vocab || out->n_vocab < 260)
		pl_gguf_put_str(&o, "tokenizer.ggml.model", "no_vocab");
	else
		pl_synth_vocab(&o, out);
	struct pl_synth s = {.tensors = tensors, .n_tensors = out->n_tensors, .model = out};
	uint64_t data_bytes;
	int r = pl_gguf_finish(&o, tensors, s.n_tensors, &s.header, &s.header_bytes, &data_bytes, err);
	if (r < 0)
		return r;
	if (!pl_add_u64(s.header_bytes, data_bytes, &s.file_bytes))
		return pl_fail(err, PL_ERR_RANGE, whole->name, "the file would be larger than 2^64 bytes");
	*ret = s;
	return 0;
}

/* A file of 16 bits has vectors of 32, unlike the checkpoint: llama.cpp neither adds nor scales by shorter ones. */
static const char *in_a_file(struct pl_arena *a, const char *quant)
{
	bool plain = quant && (!strcasecmp(quant, "f16") || !strcasecmp(quant, "bf16"));
	return plain ? pl_arena_printf(a, "gguf-%s", quant) : quant;
}

int pl_synth_make(struct pl_arena *a, const struct pl_model *m, const struct pl_synth_params *p, struct pl_synth *ret,
                  struct pl_err *err)
{
	struct pl_model *plain = PL_NEW(a, struct pl_model);
	const struct pl_model *out = plain;
	int r = check(m, p, err);
	if (r < 0)
		return r;
	if (!plain)
		return pl_fail(err, PL_ERR_NOMEM, m->name, "out of memory");
	if ((r = lay_out(a, m, p->n_layers ? p->n_layers : m->n_layers, plain, err)) < 0)
		return r;
	if (p->quant && (r = pl_model_requantise(a, plain, in_a_file(a, p->quant), &out, err)) < 0)
		return r;
	return write_header(a, m, out, p->no_vocab, ret, err);
}

/* ---- contents --------------------------------------------------------------------------------------------------- */

/* Where the half-precision scales of a block stand, and the type's usual size of one quantum. Everything else in a
 * block may take any value. Source: ggml/src/ggml-common.h. */
struct scales {
	enum pl_dtype type;
	uint8_t n;         /* scales a block */
	uint8_t at[2];     /* byte offset of each */
	uint16_t value[2]; /* as IEEE half precision bits */
};

enum { HALF_1E3 = 0x1419 /* 0.001 */, HALF_1E4 = 0x068e /* 0.0001 */, HALF_1E5 = 0x00a8 /* 0.00001 */ };

static const struct scales table[] = {
    {PL_DTYPE_Q4_0, 1, {0}, {HALF_1E3}},
    {PL_DTYPE_Q4_1, 2, {0, 2}, {HALF_1E3, 0x8000 | 0x1fae /* -0.0075 */}},
    {PL_DTYPE_Q5_0, 1, {0}, {HALF_1E3}},
    {PL_DTYPE_Q5_1, 2, {0, 2}, {HALF_1E3, 0x8000 | 0x23f0 /* -0.0155 */}},
    {PL_DTYPE_Q8_0, 1, {0}, {HALF_1E4}},
    {PL_DTYPE_Q8_1, 2, {0, 2}, {HALF_1E4, 0}},
    {PL_DTYPE_Q2_K, 2, {80, 82}, {HALF_1E3, HALF_1E3}},
    {PL_DTYPE_Q3_K, 1, {108}, {HALF_1E4}},
    {PL_DTYPE_Q4_K, 2, {0, 2}, {HALF_1E5, HALF_1E4}},
    {PL_DTYPE_Q5_K, 2, {0, 2}, {HALF_1E5, HALF_1E4}},
    {PL_DTYPE_Q6_K, 1, {208}, {HALF_1E5}},
    {PL_DTYPE_IQ2_XXS, 1, {0}, {HALF_1E4}},
    {PL_DTYPE_IQ2_XS, 1, {0}, {HALF_1E4}},
    {PL_DTYPE_IQ2_S, 1, {0}, {HALF_1E4}},
    {PL_DTYPE_IQ3_XXS, 1, {0}, {HALF_1E4}},
    {PL_DTYPE_IQ3_S, 1, {0}, {HALF_1E4}},
    {PL_DTYPE_IQ1_S, 1, {0}, {HALF_1E3}},
    {PL_DTYPE_IQ4_NL, 1, {0}, {HALF_1E4}},
    {PL_DTYPE_IQ4_XS, 1, {0}, {HALF_1E5}},
    {PL_DTYPE_TQ1_0, 1, {52}, {HALF_1E3}},
    {PL_DTYPE_TQ2_0, 1, {64}, {HALF_1E3}},
    {PL_DTYPE_Q1_0, 1, {0}, {HALF_1E3}},
    {PL_DTYPE_Q2_0, 1, {0}, {HALF_1E3}},
};

static uint64_t next(uint64_t *s) /* xorshift64*: https://doi.org/10.1145/2845077 */
{
	*s ^= *s >> 12;
	*s ^= *s << 25;
	*s ^= *s >> 27;
	return *s * 0x2545f4914f6cdd1dull;
}

static bool is_norm(const struct pl_tensor *t)
{
	const char *name = pl_role_info(t->role)->gguf_name;
	return !t->is_bias && (t->group == PL_GROUP_NORM || strstr(name, "norm") != NULL);
}

static float plain_value(const struct pl_tensor *t, uint64_t *seed)
{
	if (t->is_bias)
		return 0.0f;
	if (is_norm(t) || t->role == PL_ROLE_ROPE_FREQS)
		return 1.0f;
	if (t->role == PL_ROLE_SSM_A)
		return -1.0f;
	return ((float)(next(seed) >> 40) / 16777216.0f - 0.5f) * 0.04f;
}

static void fill_plain(const struct pl_tensor *t, uint8_t *buf, uint64_t n_bytes, uint64_t *seed)
{
	uint32_t size = pl_dtype_info(t->type)->block_bytes;
	for (uint64_t i = 0; i + size <= n_bytes; i += size) {
		float f = plain_value(t, seed);
		uint32_t bits;
		memcpy(&bits, &f, sizeof bits);
		if (t->type == PL_DTYPE_F32) {
			memcpy(buf + i, &bits, 4);
			continue;
		}
		uint16_t half = (uint16_t)(bits >> 16); /* bf16 */
		if (t->type == PL_DTYPE_F16) {
			uint32_t e = (bits >> 23) & 0xff;
			half = (uint16_t)((bits >> 16) & 0x8000u);
			if (e > 112) /* smaller ones round to zero */
				half = (uint16_t)(half | ((e - 112) << 10) | ((bits >> 13) & 0x3ff));
		}
		memcpy(buf + i, &half, 2);
	}
}

static void put_scales(const struct pl_tensor *t, uint8_t *block)
{
	switch (t->type) {
	case PL_DTYPE_MXFP4: /* one exponent: 2^(119-127) */
		block[0] = 119;
		return;
	case PL_DTYPE_NVFP4: /* four e4m3 scales of 2^-6 */
		memset(block, 0x08, 4);
		return;
	case PL_DTYPE_IQ1_M: /* the scale is spread over the top nibbles of four 16-bit words: 0x1400 */
		for (int i = 0; i < 4; i++)
			block[48 + 2 * i + 1] = (uint8_t)((block[48 + 2 * i + 1] & 0x0f) | (i == 3   ? 0x10
			                                                                    : i == 2 ? 0x40
			                                                                             : 0));
		return;
	default:
		break;
	}
	for (size_t i = 0; i < sizeof table / sizeof *table; i++)
		if (table[i].type == t->type)
			for (int k = 0; k < table[i].n; k++)
				memcpy(block + table[i].at[k], &table[i].value[k], 2);
}

uint64_t pl_synth_pattern(const struct pl_tensor *t, uint8_t *buf, uint64_t cap)
{
	const struct pl_dtype_info *d = pl_dtype_info(t->type);
	uint64_t block = d->block_bytes ? d->block_bytes : 1, n = pl_min_u64(cap, t->bytes) / block * block,
	         seed = 88172645463325252ull;
	for (const char *s = t->name; s && *s; s++)
		seed = (seed ^ (uint8_t)*s) * 0x100000001b3ull | 1;
	if (t->type == PL_DTYPE_F32 || t->type == PL_DTYPE_F16 || t->type == PL_DTYPE_BF16) {
		fill_plain(t, buf, n, &seed);
		return n;
	}
	for (uint64_t i = 0; i + 8 <= n; i += 8) {
		uint64_t v = next(&seed);
		memcpy(buf + i, &v, 8);
	}
	for (uint64_t i = n & ~7ull; i < n; i++)
		buf[i] = (uint8_t)next(&seed);
	for (uint64_t i = 0; i < n; i += block)
		put_scales(t, buf + i);
	return n;
}
