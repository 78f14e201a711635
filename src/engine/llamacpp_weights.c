/* Which buffer every weight goes to (llama.cpp src/llama-model-loader.cpp create_tensor, src/llama-arch.cpp
 * LLM_TENSOR_INFOS) and what it takes there (ggml-alloc.c, ggml-cuda.cu get_alloc_size). */
#include <string.h>

#include "base/checked.h"
#include "engine/llamacpp.h"

enum { HOST_ALIGN = 32, GPU_ALIGN = 128, ROW_PADDING = 512 };

static void add_tensor(struct ll_bytes *to, const struct pl_tensor *t)
{
	uint64_t padded = t->bytes;
	const struct pl_dtype_info *d = pl_dtype_info(t->type);
	uint64_t over = t->ne[0] % ROW_PADDING;
	if (d->block_elems > 1 && over)
		padded = pl_sat_add(padded, (ROW_PADDING - over) / d->block_elems * d->block_bytes);
	to->v[LL_HOST] = pl_sat_add(to->v[LL_HOST], pl_round_up(t->bytes, HOST_ALIGN));
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
		add_tensor(&j->first, t);
	else if (is_rope_table(t))
		add_tensor(&j->each, t);
	else
		add_tensor(&j->output, t);
	if (t->role == PL_ROLE_TOKEN_EMBD && j->m->tied_output && !t->is_bias) {
		add_tensor(&j->output, t);
		j->tied_copy_bytes = pl_round_up(t->bytes, HOST_ALIGN);
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
		j->has_experts |= expert;
		add_tensor(expert ? &j->layers[t->layer].experts : &j->layers[t->layer].rest, t);
	}
	if (j->input_bytes == UINT64_MAX)
		return pl_fail(err, PL_ERR_RANGE, m->name, "the weights are larger than 2^64 bytes");
	return 0;
}
