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

static bool has_window(const struct pl_model *m)
{
	for (uint32_t i = 0; i < m->n_layers; i++)
		if (m->layers[i].attn != PL_ATTN_NONE && m->layers[i].window_tokens)
			return true;
	return false;
}

bool ll_graph_build(struct lg *g, const struct ll_job *j, const struct ll_sum *s, uint64_t n_tokens, uint64_t n_outputs)
{
	struct lb b = {.g = g, .j = j, .m = j->m, .s = s, .n_tokens = n_tokens, .n_outputs = n_outputs, .n_seqs = j->ctx.n_seq,
	               .flash = j->ctx.flash_attn, .pins = j->p->program != PL_LLAMA_FIT_PARAMS, .full_offload = s->full_offload, .pos = LG_NONE, .out_ids = LG_NONE,
	               .s_copy = LG_NONE, .s_copy_main = LG_NONE, .tied = LG_NONE, .has_window = has_window(j->m)};
	b.n_seq_tokens = n_tokens / b.n_seqs;
	for (int i = 0; i < 2; i++)
		b.kv[i] = (struct lb_attn){LG_NONE, LG_NONE, LG_NONE, LG_NONE, LG_NONE, 0};
	for (int i = 0; i < 4; i++)
		b.alone[i] = LG_NONE;
	b.weight = slots(&b, j->m->n_tensors);
	b.cache_k = slots(&b, j->n_all);
	b.cache_v = slots(&b, j->n_all);
	b.cache_idx = slots(&b, j->n_all);
	b.state_r = slots(&b, j->n_all);
	b.state_s = slots(&b, j->n_all);
	if (!b.weight || !b.cache_k || !b.cache_v || !b.cache_idx || !b.state_r || !b.state_s || !j->m->layers)
		return false;
	return (lb_build_plain(&b) || lb_build_mla(&b) || lb_build_hybrid(&b)) && !g->failed;
}
