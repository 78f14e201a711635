/* The modules of a causal language model in Transformers: [tower blocks, embedding, layers, norm, rotary], head. */
#include <stdlib.h>

#include "base/checked.h"
#include "engine/transformers.h"

enum { ALLOC_UNIT = 512 };

static bool is_expert_matrix(const struct pl_tensor *t)
{
	return t->role == PL_ROLE_EXPERT_GATE || t->role == PL_ROLE_EXPERT_UP || t->role == PL_ROLE_EXPERT_GATE_UP ||
	       t->role == PL_ROLE_EXPERT_DOWN;
}

/* bitsandbytes replaces nn.Linear only, and stacked experts are bare parameters (integrations/bitsandbytes.py). A
 * checkpoint that was saved quantised keeps what it holds. */
static bool stays_plain(const struct tf_job *j, const struct pl_tensor *t)
{
	bool bnb = j->scheme == TF_BNB_INT8 || j->scheme == TF_BNB_4BIT;
	return bnb && j->rules.stacked_experts && j->m->format == PL_FORMAT_CONFIG && !j->m->quant_stored && is_expert_matrix(t);
}

/* Floats of 8 and 4 bits compute from a compute capability on; below it, and on a CPU, the weights are unpacked to 16 bit while
 * loading (quantizer_finegrained_fp8: 8.9, quantizer_mxfp4: 7.5). */
static bool lacks(const struct tf_job *j, double capability)
{
	for (uint32_t d = 0; d < j->n_gpus; d++) {
		const struct pl_gpu *g = j->hw->devices[j->gpu[d]].gpu;
		if (g && g->vendor == PL_VENDOR_NVIDIA && g->capability && strtod(g->capability, NULL) < capability)
			return true;
	}
	return !j->n_gpus || j->mps;
}

static bool unpacks(const struct tf_job *j)
{
	return (j->scheme == TF_FP8 && lacks(j, 8.9)) || (j->scheme == TF_MXFP4 && lacks(j, 7.5));
}

static bool is_packed_float(const struct pl_tensor *t)
{
	return t->type == PL_DTYPE_F8_E4M3 || t->type == PL_DTYPE_F8_E5M2 || t->type == PL_DTYPE_F4 || t->type == PL_DTYPE_MXFP4;
}

struct sizes {
	uint64_t bytes, map_bytes;
};

static struct sizes tensor_sizes(const struct tf_job *j, const struct pl_tensor *t, bool unpack)
{
	struct sizes s = {t->bytes, t->bytes};
	if (stays_plain(j, t) || (unpack && is_packed_float(t)))
		s.bytes = s.map_bytes = pl_sat_mul(t->n_elems, 2);
	else if (t->type == PL_DTYPE_NF4) /* the map knows half a byte a weight, not the scales */
		s.map_bytes = t->n_elems / 2;
	else if (j->scheme == TF_BNB_INT8 && t->type == PL_DTYPE_I8)
		s.map_bytes = t->n_elems;
	return s;
}

static void add(struct tf_job *j, uint32_t node, const struct pl_tensor *t, const struct sizes *s)
{
	struct tf_module *m = &j->modules[node];
	m->weight_bytes = pl_sat_add(m->weight_bytes, s->bytes);
	m->rounding_bytes = pl_sat_add(m->rounding_bytes, pl_round_up(s->bytes, ALLOC_UNIT) - s->bytes);
	m->largest_leaf = pl_max_u64(m->largest_leaf, s->bytes);
	j->tree.nodes[node].bytes = pl_sat_add(j->tree.nodes[node].bytes, s->map_bytes);
	if (t->n_dims >= 2 && t->layer >= 0 && t->n_stacked <= 1)
		j->largest_matrix = pl_max_u64(j->largest_matrix, t->n_elems);
}

/* Nodes in order: root, inner, head, then inner's children: tower blocks, embedding, the list of layers, norm, rotary;
 * then the layers. */
enum { ROOT = 0, INNER, HEAD, FIRST };

static uint64_t tower_bytes(const struct pl_model *m)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i < m->n_tensors; i++)
		if (m->tensors[i].group == PL_GROUP_VISION || m->tensors[i].group == PL_GROUP_ENCODER)
			sum = pl_sat_add(sum, m->tensors[i].bytes);
	return sum;
}

static uint64_t layer_bytes(const struct pl_model *m)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i < m->n_tensors; i++)
		if (m->tensors[i].layer == 0)
			sum = pl_sat_add(sum, m->tensors[i].bytes);
	return sum;
}

/* A tower is described as a whole; its blocks, never split either, are taken as no larger than a decoder layer. */
static uint32_t tower_blocks(const struct pl_model *m)
{
	uint64_t tower = tower_bytes(m), layer = layer_bytes(m);
	if (!tower)
		return 0;
	return layer ? (uint32_t)pl_min_u64(pl_ceil_div(tower, layer), 64) : 1;
}

static uint32_t home_of(const struct tf_job *j, const struct pl_tensor *t, uint32_t embed)
{
	if (t->layer >= 0)
		return j->layer_node[t->layer];
	switch (t->role) {
	case PL_ROLE_OUTPUT:
	case PL_ROLE_CLS:
	case PL_ROLE_CLS_OUT:
		return HEAD;
	case PL_ROLE_OUTPUT_NORM:
	case PL_ROLE_OUTPUT_RES_SCORE:
		return embed + 2;
	default:
		return embed;
	}
}

static void add_tower(struct tf_job *j, uint32_t blocks, const struct pl_tensor *t)
{
	struct sizes s = {t->bytes / blocks, t->bytes / blocks};
	for (uint32_t b = 0; b < blocks; b++) {
		if (b + 1 == blocks)
			s.bytes = s.map_bytes = t->bytes - t->bytes / blocks * (blocks - 1);
		add(j, FIRST + b, t, &s);
	}
}

static void sum_up(struct tf_job *j)
{
	struct dm_module *n = j->tree.nodes;
	for (uint32_t i = j->tree.n_nodes; i-- > 1;)
		n[n[i].parent].bytes = pl_sat_add(n[n[i].parent].bytes, n[i].bytes);
}

static void shape(struct tf_job *j, uint32_t blocks, uint32_t n_layers)
{
	struct dm_module *n = j->tree.nodes;
	uint32_t embed = FIRST + blocks, list = embed + 1, rotary = embed + 3, first_layer = embed + 4;
	n[ROOT] = (struct dm_module){.first_child = INNER, .n_children = 2};
	n[INNER] = (struct dm_module){.first_child = FIRST, .n_children = blocks + 4, .parent = ROOT};
	n[HEAD] = (struct dm_module){.parent = ROOT};
	for (uint32_t b = 0; b < blocks; b++)
		n[FIRST + b] = (struct dm_module){.parent = INNER, .whole = true};
	for (uint32_t k = embed; k <= rotary; k++)
		n[k] = (struct dm_module){.parent = INNER};
	n[list].first_child = first_layer;
	n[list].n_children = n_layers;
	for (uint32_t i = 0; i < n_layers; i++) {
		n[first_layer + i] = (struct dm_module){.parent = list, .whole = true};
		j->layer_node[i] = first_layer + i;
	}
	if (n_layers && j->m->layers) /* inv_freq and its unscaled copy, 32 bit, half the head dimension each */
		n[rotary].bytes = j->modules[rotary].weight_bytes = pl_sat_mul(j->m->layers[0].d_k, 4);
	j->embed_node = embed;
	j->head_node = HEAD;
	j->tree.tied_source = j->m->tied_output ? embed : DM_NONE;
	j->tree.tied_copy = j->m->tied_output ? HEAD : DM_NONE;
}

static void count_stack(struct tf_job *j, uint64_t *by_layer, const struct pl_tensor *t)
{
	if (!is_expert_matrix(t) || t->layer < 0)
		return;
	by_layer[t->layer] = pl_sat_add(by_layer[t->layer], stays_plain(j, t) ? pl_sat_mul(t->n_elems, 2) : t->bytes);
	struct tf_module *m = &j->modules[j->layer_node[t->layer]];
	j->largest_stack_bytes = pl_max_u64(j->largest_stack_bytes, by_layer[t->layer]);
	m->largest_leaf = pl_max_u64(m->largest_leaf, by_layer[t->layer]); /* the experts are one module */
}

int tf_tree(struct tf_job *j, struct pl_err *err)
{
	const struct pl_model *m = j->m;
	uint32_t blocks = tower_blocks(m), n = FIRST + blocks + 4 + m->n_layers;
	bool unpack = unpacks(j);
	uint64_t *by_layer = PL_NEW_N(j->a, uint64_t, (uint64_t)m->n_layers + 1);
	j->tree.nodes = PL_NEW_N(j->a, struct dm_module, n);
	j->modules = PL_NEW_N(j->a, struct tf_module, n);
	j->layer_node = PL_NEW_N(j->a, uint32_t, (uint64_t)m->n_layers + 1);
	j->where = PL_NEW_N(j->a, int32_t, n);
	j->tree.n_nodes = n;
	if (!j->tree.nodes || !j->modules || !j->layer_node || !j->where || !by_layer)
		return pl_fail(err, PL_ERR_NOMEM, m->name, "out of memory while laying out %u layers", m->n_layers);
	shape(j, blocks, m->n_layers);
	for (uint32_t i = 0; i < m->n_tensors; i++) {
		const struct pl_tensor *t = &m->tensors[i];
		/* next-token-prediction layers are left in the file (_keys_to_ignore_on_load_unexpected) */
		if (t->group == PL_GROUP_MTP || (t->layer >= 0 && (uint32_t)t->layer >= m->n_layers))
			continue;
		if (blocks && t->layer < 0 && (t->group == PL_GROUP_VISION || t->group == PL_GROUP_ENCODER)) {
			add_tower(j, blocks, t);
			continue;
		}
		struct sizes s = tensor_sizes(j, t, unpack);
		add(j, home_of(j, t, j->embed_node), t, &s);
		count_stack(j, by_layer, t);
	}
	sum_up(j);
	return 0;
}
