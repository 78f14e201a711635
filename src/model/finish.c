#include <plimsoll/model.h>

#include "base/checked.h"
#include "model/build.h"

static const struct pl_role_info roles[PL_ROLE_COUNT] = {
    [PL_ROLE_OTHER] = {PL_GROUP_OTHER, PL_SHARD_REPLICATE, "", ""},
#define X(id, group, shard, gguf_name, hf_name) \
	[PL_ROLE_##id] = {PL_GROUP_##group, PL_SHARD_##shard, gguf_name, hf_name},
#include <plimsoll/roles.def>
#undef X
};

const struct pl_role_info *pl_role_info(enum pl_role r)
{
	return &roles[(unsigned)r < PL_ROLE_COUNT ? r : PL_ROLE_OTHER];
}

struct pl_tensor *pl_tensor_add(struct pl_tensor_list *list)
{
	if (list->n == list->cap) {
		uint32_t cap = list->cap ? list->cap * 2 : 256;
		struct pl_tensor *items = pl_arena_grow(list->a, list->items, list->n, cap, sizeof *items);
		if (!items)
			return NULL;
		list->items = items;
		list->cap = cap;
	}
	struct pl_tensor *t = &list->items[list->n++];
	for (int i = 0; i < PL_MAX_DIMS; i++)
		t->ne[i] = 1;
	t->n_stacked = 1;
	t->layer = -1;
	return t;
}

struct pl_model_kinds pl_model_kinds(const struct pl_model *m)
{
	struct pl_model_kinds k = {0};
	for (uint32_t i = 0; m->layers && i < m->n_layers; i++) {
		const struct pl_layer *l = &m->layers[i];
		k.experts |= l->n_expert > 0;
		k.window |= l->window_tokens > 0;
		k.state |= l->rec != PL_REC_NONE;
		k.latent |= l->attn == PL_ATTN_MLA;
	}
	return k;
}

/* Parameters of t that one token touches. The embedding is a look-up of one row, counted as whole as the field does. */
static uint64_t active_elems(const struct pl_model *m, const struct pl_tensor *t)
{
	if (t->group != PL_GROUP_EXPERT || t->n_stacked < 2)
		return t->n_elems;
	uint64_t used = 1;
	if (t->layer >= 0 && (uint32_t)t->layer < m->n_layers + m->n_layers_mtp && m->layers)
		used = m->layers[t->layer].n_expert_used;
	return t->n_elems / t->n_stacked * used;
}

int pl_model_finish(struct pl_arena *a, struct pl_model *m, const struct pl_tensor *tensors, uint32_t n_tensors,
                    struct pl_err *err)
{
	uint64_t params[PL_GROUP_COUNT] = {0}, active = 0, bytes = 0;
	for (uint32_t i = 0; i < n_tensors; i++) {
		const struct pl_tensor *t = &tensors[i];
		bool ok = pl_add_u64(params[t->group], t->n_elems, &params[t->group]) && pl_add_u64(bytes, t->bytes, &bytes);
		if (t->group != PL_GROUP_MTP && t->group != PL_GROUP_VISION)
			ok = ok && pl_add_u64(active, active_elems(m, t), &active);
		if (!ok)
			return pl_fail(err, PL_ERR_RANGE, m->name, "tensor '%s' makes the model larger than 2^64 bytes", t->name);
	}
	uint64_t trunk = 0;
	for (unsigned g = 0; g < PL_GROUP_COUNT; g++)
		if (g != PL_GROUP_MTP && g != PL_GROUP_VISION)
			trunk = pl_sat_add(trunk, params[g]);
	if (pl_arena_failed(a))
		return pl_fail(err, PL_ERR_NOMEM, m->name, "out of memory while reading the model");
	m->tensors = tensors;
	m->n_tensors = n_tensors;
	m->n_params = trunk;
	m->n_params_active = active;
	m->n_params_mtp = params[PL_GROUP_MTP];
	m->n_params_vision = params[PL_GROUP_VISION];
	m->weight_bytes = bytes;
	return 0;
}
