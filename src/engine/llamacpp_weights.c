/* Which buffer every weight goes to (llama.cpp src/llama-model-loader.cpp create_tensor, src/llama-arch.cpp
 * LLM_TENSOR_INFOS) and what it takes there (ggml-alloc.c, ggml-cuda.cu get_alloc_size). */
#include <string.h>

#include "base/checked.h"
#include "engine/llamacpp.h"

enum { HOST_ALIGN = 32, GPU_ALIGN = 128, ROW_PADDING = 512 };

static bool cpu_has(const struct pl_machine *hw, const char *flag)
{
	return hw->cpu_flags && strstr(hw->cpu_flags, flag);
}

/* Matrices the CPU backend stores interleaved (ggml-cpu/repack.cpp), on x86 with AVX2 when nothing else is known. */
static bool is_repacked(const struct ll_job *j, const struct pl_tensor *t)
{
	const struct pl_machine *hw = j->hw;
	bool arm = cpu_has(hw, "neon") || cpu_has(hw, "asimd") || cpu_has(hw, "dotprod");
	bool avx2 = !arm && (!hw->cpu_flags || cpu_has(hw, "avx2"));
	if (!j->repacks || t->n_dims < 2 || t->ne[1] % 8)
		return false;
	switch (t->type) {
	case PL_DTYPE_Q4_0:
	case PL_DTYPE_Q4_K:
	case PL_DTYPE_IQ4_NL:
	case PL_DTYPE_MXFP4:
		return avx2 || arm;
	case PL_DTYPE_Q2_K:
		return cpu_has(hw, "avx512f");
	case PL_DTYPE_Q5_K:
	case PL_DTYPE_Q6_K:
	case PL_DTYPE_Q8_0:
		return arm;
	default:
		return false;
	}
}

static void add_tensor(const struct ll_job *j, struct ll_bytes *to, const struct pl_tensor *t)
{
	uint64_t padded = t->bytes;
	const struct pl_dtype_info *d = pl_dtype_info(t->type);
	uint64_t over = t->ne[0] % ROW_PADDING;
	if (d->block_elems > 1 && over)
		padded = pl_sat_add(padded, (ROW_PADDING - over) / d->block_elems * d->block_bytes);
	to->v[LL_HOST] = pl_sat_add(to->v[LL_HOST], pl_round_up(t->bytes, HOST_ALIGN));
	if (is_repacked(j, t))
		to->v[LL_REPACKED] = pl_sat_add(to->v[LL_REPACKED], pl_round_up(t->bytes, HOST_ALIGN));
	to->v[LL_PLAIN] = pl_sat_add(to->v[LL_PLAIN], pl_round_up(t->bytes, GPU_ALIGN));
	to->v[LL_PADDED] = pl_sat_add(to->v[LL_PADDED], pl_round_up(padded, GPU_ALIGN));
}

/* What --n-cpu-moe keeps on the CPU: blk.N.ffn_(up|down|gate|gate_up)_(ch)exps and whatever follows the name. */
static bool is_expert(const struct pl_tensor *t)
{
	switch (t->role) {
	case PL_ROLE_EXPERT_GATE:
	case PL_ROLE_EXPERT_UP:
	case PL_ROLE_EXPERT_GATE_UP:
	case PL_ROLE_EXPERT_DOWN:
	case PL_ROLE_EXPERT_SCALE:
		return true;
	case PL_ROLE_OTHER:
		return t->name && strstr(t->name, ".ffn_") && (strstr(t->name, "_exps") || strstr(t->name, "_chexps"));
	default:
		return false;
	}
}

static bool is_input(const struct pl_tensor *t)
{
	return t->role == PL_ROLE_TOKEN_EMBD || t->role == PL_ROLE_POS_EMBD || t->role == PL_ROLE_TYPE_EMBD ||
	       t->role == PL_ROLE_PER_LAYER_EMBD;
}

/* Repeating tensors that stand outside the layers are asked for with layer 0. */
static bool goes_with_first_layer(const struct pl_tensor *t)
{
	return t->role == PL_ROLE_TOKEN_EMBD_NORM || t->role == PL_ROLE_PER_LAYER_PROJ || t->role == PL_ROLE_PER_LAYER_PROJ_NORM;
}

static bool is_rope_table(const struct pl_tensor *t)
{
	return t->role == PL_ROLE_ROPE_FREQS || (t->name && !strncmp(t->name, "rope_", 5));
}

static void add_global(struct ll_job *j, const struct pl_tensor *t)
{
	if (is_input(t))
		j->input_bytes = pl_sat_add(j->input_bytes, pl_round_up(t->bytes, HOST_ALIGN));
	else if (goes_with_first_layer(t))
		add_tensor(j, &j->first, t);
	else if (is_rope_table(t))
		add_tensor(j, &j->each, t);
	else
		add_tensor(j, &j->output, t);
	if (t->role == PL_ROLE_TOKEN_EMBD && j->m->tied_output && !t->is_bias) {
		add_tensor(j, &j->output, t);
		/* beside the rows that are looked up, a matrix in another layout is a copy on the host too */
		j->tied_copy_bytes = is_repacked(j, t) ? 0 : pl_round_up(t->bytes, HOST_ALIGN);
	}
}

static bool same_shape(const struct ll_job *j, uint32_t a, uint32_t b)
{
	return j->layers[a].roles == j->layers[b].roles && !memcmp(&j->m->layers[a], &j->m->layers[b], sizeof(struct pl_layer));
}

/* Numbers the layers by shape; most models have one or two kinds. */
static void name_kinds(struct ll_job *j)
{
	uint32_t first[16], n = 0;
	for (uint32_t i = 0; i < j->n_all && j->m->layers; i++) {
		uint32_t k = 0;
		while (k < n && !same_shape(j, first[k], i))
			k++;
		if (k == n && n < 16)
			first[n++] = i;
		j->layers[i].kind = k < n ? k : i + 16;
	}
}

int ll_weights(struct ll_job *j, struct pl_err *err)
{
	const struct pl_model *m = j->m;
	for (uint32_t i = 0; i < m->n_tensors; i++) {
		const struct pl_tensor *t = &m->tensors[i];
		bool tower = t->group == PL_GROUP_VISION;
		bool mtp = t->group == PL_GROUP_MTP || (t->layer >= 0 && (uint32_t)t->layer >= m->n_layers);
		if (tower || mtp) { /* a tower is a file of its own (--mmproj); MTP layers wait for --spec-type draft-mtp */
			j->unloaded_bytes = pl_sat_add(j->unloaded_bytes, t->bytes);
			j->has_vision |= tower;
			j->has_mtp |= mtp;
			continue;
		}
		if (t->layer < 0) {
			add_global(j, t);
			continue;
		}
		bool expert = is_expert(t);
		j->layers[t->layer].roles += (t->role + 1ull) * (t->is_bias ? 7919 : 104729) + t->bytes % 977;
		j->has_experts |= expert;
		add_tensor(j, expert ? &j->layers[t->layer].experts : &j->layers[t->layer].rest, t);
	}
	name_kinds(j);
	if (j->input_bytes == UINT64_MAX)
		return pl_fail(err, PL_ERR_RANGE, m->name, "the weights are larger than 2^64 bytes");
	return 0;
}
