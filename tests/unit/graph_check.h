/* Properties every graph has, whatever the model. */
#ifndef PLIMSOLL_TESTS_GRAPH_CHECK_H
#define PLIMSOLL_TESTS_GRAPH_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <plimsoll/model.h>

static inline bool graph_needs(const struct pl_model *m, const struct pl_tensor *t)
{
	if (t->group == PL_GROUP_MTP || t->group == PL_GROUP_VISION || t->group == PL_GROUP_ENCODER)
		return false;
	if (t->role == PL_ROLE_ROPE_FREQS || t->layer >= (int32_t)m->n_layers)
		return false;
	bool kv = t->role == PL_ROLE_ATTN_K || t->role == PL_ROLE_ATTN_V || t->role == PL_ROLE_ATTN_K_NORM;
	return t->layer < 0 || m->layers[t->layer].kv_from_layer < 0 || !kv;
}

/* NULL when all holds, else a sentence (static). */
static inline const char *graph_fault(const struct pl_model *m)
{
	static char text[256];
	const struct pl_graph *g = &m->graph;
	unsigned char *defined = calloc(g->n_values + 1, 1), *uses = calloc(m->n_tensors + 1, 1);
	text[0] = 0;
	if (!g->n_ops)
		snprintf(text, sizeof text, "no graph");
	for (uint32_t i = 0; i < g->n_ops && !*text; i++) {
		const struct pl_op *op = &g->ops[i];
		for (uint32_t k = 0; k < op->n_in; k++)
			if (op->in[k] >= g->n_values || !defined[op->in[k]])
				snprintf(text, sizeof text, "op %u of layer %d reads a value nobody made", i,
				         op->layer);
		if (!op->n_in && op->kind != PL_OP_EMBED)
			snprintf(text, sizeof text, "op %u of layer %d has no input", i, op->layer);
		if (op->out >= g->n_values || defined[op->out])
			snprintf(text, sizeof text, "op %u of layer %d makes a value twice", i, op->layer);
		else
			defined[op->out] = 1;
		if (!g->values[op->out].width)
			snprintf(text, sizeof text, "op %u of layer %d makes a value of width 0 (%s)", i, op->layer,
			         g->values[op->out].name);
		for (uint32_t k = 0; k < op->n_weights; k++)
			uses[op->weights[k]]++;
		if (op->kind == PL_OP_ADD && g->values[op->in[0]].width != g->values[op->in[op->n_in - 1]].width)
			snprintf(text, sizeof text, "op %u of layer %d adds widths %u and %u", i, op->layer,
			         g->values[op->in[0]].width, g->values[op->in[1]].width);
	}
	for (uint32_t i = 0; i < m->n_tensors && !*text; i++) {
		const struct pl_tensor *t = &m->tensors[i];
		unsigned want = t->role == PL_ROLE_TOKEN_EMBD && m->tied_output && !t->is_bias ? 2 : 1;
		if (graph_needs(m, t) && uses[i] != want)
			snprintf(text, sizeof text, "%s is used by %u ops, not %u", t->name, uses[i], want);
	}
	free(defined);
	free(uses);
	return *text ? text : NULL;
}

#endif
