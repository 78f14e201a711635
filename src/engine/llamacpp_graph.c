/* The graph of one micro batch: which family builds it, and what every family finds ready. */
#include <string.h>

#include "base/checked.h"
#include "engine/llamacpp_build.h"

static lg_t *slots(struct lb *b, uint64_t n)
{
	lg_t *p = PL_NEW_N(b->g->a, lg_t, n + 1);
	for (uint64_t i = 0; p && i < n; i++)
		p[i] = LG_NONE;
	return p;
}

/* Layers of one shape on one device reach their peak within the first few, and from then on the allocator's free list
 * comes back to what it was: a search need not build the rest. It falls short where each layer adds tensors that live
 * from the start, which the whole graph of the answer finds out. */
enum { KEEP = 3, MAX_KINDS = 16 };

static uint64_t kind_of(const struct ll_job *j, const struct ll_sum *s, uint32_t il)
{
	uint64_t h = j->layers[il].shape;
	for (uint32_t k = j->layers[il].first; k < j->layers[il].first + j->layers[il].n; k++)
		h = (h ^ (uint16_t)s->home[j->by_layer[k]]) * 1099511628211ull;
	return h;
}

static const bool *leave_out(struct lg *g, const struct ll_job *j, const struct ll_sum *s)
{
	uint32_t n = j->m->n_layers;
	bool *out = PL_NEW_N(g->a, bool, (uint64_t)n + 1);
	struct {
		uint64_t kind;
		uint32_t seen;
	} kinds[MAX_KINDS];
	uint32_t n_kinds = 0;
	for (uint32_t il = 0; out && il < n; il++) {
		if (il && s->layer_dev[il] != s->layer_dev[il - 1])
			n_kinds = 0;
		uint64_t kind = kind_of(j, s, il);
		uint32_t k = 0;
		while (k < n_kinds && kinds[k].kind != kind)
			k++;
		if (k == n_kinds && n_kinds < MAX_KINDS) {
			kinds[n_kinds].kind = kind;
			kinds[n_kinds++].seen = 0;
		}
		bool border = il + 1 == n || s->layer_dev[il + 1] != s->layer_dev[il];
		out[il] = k < n_kinds && kinds[k].seen++ >= KEEP && !border;
	}
	return out;
}

int32_t lb_first(const struct lb *b)
{
	if (b->mtp) /* one layer drafts at a time */
		return (int32_t)b->m->n_layers;
	return b->m->n_layers ? 0 : -1;
}

int32_t lb_next(const struct lb *b, int32_t il)
{
	for (uint32_t i = (uint32_t)il + 1; i < b->m->n_layers; i++)
		if (!b->left_out || !b->left_out[i])
			return (int32_t)i;
	return -1;
}

bool ll_graph_build(struct lg *g, const struct ll_job *j, const struct ll_sum *s, uint64_t n_tokens, uint64_t n_outputs)
{
	struct lb b = {.g = g, .j = j, .m = j->m, .s = s, .n_tokens = n_tokens, .n_outputs = n_outputs, .n_seqs = j->ctx.n_seq,
	               .flash = j->ctx.flash_attn, .pins = !j->dry && j->p->program != PL_LLAMA_FIT_PARAMS, .full_offload = s->full_offload, .pos = LG_NONE, .out_ids = LG_NONE,
	               .s_copy = LG_NONE, .s_copy_main = LG_NONE, .s_copy_tail = LG_NONE, .tied = LG_NONE, .has_window = pl_model_kinds(j->m).window, .mtp = j->drafting};
	b.n_seq_tokens = n_tokens / b.n_seqs;
	for (int i = 0; i < 2; i++)
		b.kv[i] = (struct lb_attn){LG_NONE, LG_NONE, LG_NONE, LG_NONE, LG_NONE, 0};
	for (int i = 0; i < 4; i++)
		b.alone[i] = LG_NONE;
	if (!j->whole_graph && !j->drafting)
		b.left_out = leave_out(g, j, s);
	b.weight = slots(&b, j->m->n_tensors);
	b.cache_k = slots(&b, j->n_all);
	b.cache_v = slots(&b, j->n_all);
	b.cache_idx = slots(&b, j->n_all);
	b.state_r = slots(&b, j->n_all);
	b.state_s = slots(&b, j->n_all);
	if (!b.weight || !b.cache_k || !b.cache_v || !b.cache_idx || !b.state_r || !b.state_s || !j->m->layers)
		return false;
	return (lb_build_plain(&b) || lb_build_mla(&b) || lb_build_hybrid(&b) || lb_build_special(&b)) && !g->failed;
}
