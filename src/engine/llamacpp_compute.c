/* Compute buffers by closed forms over the shapes of one micro batch. */
#include "base/checked.h"
#include "engine/llamacpp.h"

enum { F32 = 4, F16 = 2, N_PIPELINE_COPIES = 4 };

static uint64_t mul3(uint64_t a, uint64_t b, uint64_t c)
{
	return pl_sat_mul(pl_sat_mul(a, b), c);
}

uint64_t ll_output_buffer(const struct ll_job *j)
{
	return mul3(j->ctx.n_seq, j->m->n_vocab, F32);
}

/* Masks of one micro batch: rows of all cells of a stream. With flash attention they are f16. */
static uint64_t mask_bytes(const struct ll_job *j)
{
	uint64_t element = j->ctx.flash_attn ? F16 : F32, bytes = 0;
	bool full = false, window = false;
	for (uint32_t i = 0; i < j->m->n_layers; i++) {
		const struct pl_layer *l = &j->m->layers[i];
		full |= l->attn != PL_ATTN_NONE && !l->window_tokens;
		window |= l->attn != PL_ATTN_NONE && l->window_tokens;
	}
	if (full)
		bytes = pl_sat_add(bytes, mul3(j->ctx.n_cells, j->ctx.n_ubatch, element));
	if (window)
		bytes = pl_sat_add(bytes, mul3(j->ctx.n_cells_swa, j->ctx.n_ubatch, element));
	return bytes;
}

/* Most bytes alive inside one layer, for the micro batch. */
static uint64_t layer_peak(const struct ll_job *j, const struct pl_layer *l)
{
	const struct ll_context *c = &j->ctx;
	uint64_t ub = c->n_ubatch, embd = j->m->n_embd;
	uint64_t q = pl_sat_mul(l->n_head, pl_max_u64(l->d_k, l->attn == PL_ATTN_MLA ? (uint64_t)l->kv_lora + l->d_rope : 0));
	uint64_t kv = pl_sat_mul(l->n_head_kv, (uint64_t)l->d_k + l->d_v);
	uint64_t attn = pl_sat_add(pl_sat_add(q, q), kv);
	uint64_t ffn = pl_sat_mul(2, l->n_ff);
	if (l->ffn == PL_FFN_MOE)
		ffn = pl_max_u64(ffn, pl_sat_mul(l->n_expert_used, pl_max_u64(pl_sat_mul(2, l->n_ff_expert), pl_sat_mul(2, embd))));
	uint64_t peak = pl_sat_mul(pl_sat_add(pl_max_u64(attn, ffn), 2 * embd), pl_sat_mul(ub, F32));
	if (l->attn != PL_ATTN_NONE && !c->flash_attn) {
		uint64_t cells = l->window_tokens ? c->n_cells_swa : c->n_cells;
		peak = pl_max_u64(peak, pl_sat_add(mul3(pl_sat_mul(l->n_head, cells), ub, F32), mul3(pl_sat_add(q, embd), ub, F32)));
	}
	return peak;
}

void ll_compute(const struct ll_job *j, const struct ll_place *pl, struct ll_sum *s)
{
	uint64_t ub = j->ctx.n_ubatch, embd = pl_sat_mul(j->m->n_embd, pl_sat_mul(ub, F32));
	uint64_t inputs = pl_sat_add(mask_bytes(j), embd);
	uint64_t logits = pl_sat_add(mul3(j->m->n_vocab, ub, F32), embd);
	for (int d = -1; d < (int)j->n_dev; d++) {
		struct pl_use *u = d < 0 ? &s->host : &s->dev[d];
		bool any = false, output = s->layer_dev[j->n_all] == d;
		uint64_t peak = output ? logits : 0;
		for (uint32_t i = 0; i < j->m->n_layers; i++)
			if (s->layer_dev[i] == d || (d < 0 && i < pl->n_cpu_moe)) {
				any = true;
				peak = pl_max_u64(peak, layer_peak(j, &j->m->layers[i]));
			}
		if (d < 0)
			peak = pl_sat_add(peak, inputs);
		else if (any || output)
			peak = pl_sat_add(peak, pl_sat_mul(s->pipeline ? N_PIPELINE_COPIES : 1, inputs));
		u->compute_bytes = peak;
	}
	s->output_buffer_bytes = ll_output_buffer(j);
}
