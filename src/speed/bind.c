/* Work and constants make seconds. */
#include <math.h>

#include "speed/speed.h"

/* The constants of one place, element types left out. */
struct bound {
	double v[PL_FAMILY_COUNT];
};

static double typed(const struct pl_speed *s, const struct pl_constants *c, const struct pl_work *w, enum pl_family f)
{
	const struct pl_effect *e =
	    w->type ? pl_effect_find(c, pl_effect_key(f, PL_SCOPE_STACK_TYPE, s->places[w->place].context.stack, w->type)) : NULL;
	return e ? exp((double)e->ln) : 1;
}

static void bind_matrix(const struct pl_speed *s, const struct pl_constants *c, const struct bound *b, const struct pl_work *w,
                        struct pl_term *t)
{
	const struct pl_place *p = &s->places[w->place];
	bool experts = w->kind == PL_TERM_EXPERTS;
	double read = b->v[PL_F_READ_EFF] * typed(s, c, w, PL_F_READ_EFF) * (experts ? b->v[PL_F_EXPERT_READ] : 1);
	double gemm = b->v[PL_F_GEMM_EFF] * typed(s, c, w, PL_F_GEMM_EFF) * (experts ? b->v[PL_F_EXPERT_GEMM] : 1);
	t->weights_s = w->streamed ? w->weight_bytes / (w->link_bytes_per_s * b->v[PL_F_PCIE_EFF])
	                           : w->weight_bytes / (p->bytes_per_s * read);
	t->row_memory_s = w->row_bytes / (p->bytes_per_s * b->v[PL_F_ELEM_EFF]);
	t->row_compute_s = w->row_flops / (w->peak_flops_per_s * gemm);
	t->half_rows = b->v[PL_F_GEMM_HALF];
}

static void bind_message(const struct bound *b, const struct pl_work *w, struct pl_term *t)
{
	if (w->ranks >= 2) {
		t->fixed_s = b->v[PL_F_REDUCE_S] * (1 + log2(w->ranks)) / 2;
		t->row_memory_s = w->row_bytes / (w->link_bytes_per_s * b->v[PL_F_REDUCE_EFF]);
	} else {
		t->fixed_s = b->v[PL_F_HOP_S];
		t->row_memory_s = w->row_bytes / (w->link_bytes_per_s * b->v[w->to_host ? PL_F_PCIE_EFF : PL_F_REDUCE_EFF]);
	}
}

static void bind_one(const struct pl_speed *s, const struct pl_constants *c, const struct bound *places, const struct pl_work *w,
                     struct pl_term *t)
{
	const struct pl_place *p = &s->places[w->place];
	const struct bound *b = &places[w->place];
	if (w->measured) {
		*t = w->as;
		t->n = w->n;
		t->curve_scale = b->v[w->scale] * typed(s, c, w, w->scale);
		t->prefill_scale = b->v[w->prefill_scale];
		return;
	}
	*t = (struct pl_term){.kind = w->kind, .cause = w->cause, .rows = w->rows, .place = w->place, .n = w->n,
	                      .n_expert = w->n_expert, .n_expert_used = w->n_expert_used, .window_tokens = w->window_tokens,
	                      .rows_min = w->rows_min, .rows_max = w->rows_max, .fixed_s = w->launches * b->v[PL_F_OP_S]};
	switch (w->kind) {
	case PL_TERM_GEMM:
	case PL_TERM_EXPERTS:
		bind_matrix(s, c, b, w, t);
		break;
	case PL_TERM_ATTENTION:
		t->cached_s = w->cached_bytes / (p->bytes_per_s * b->v[PL_F_KV_READ_EFF] * typed(s, c, w, PL_F_KV_READ_EFF));
		t->pair_decode_s = w->pair_decode_flops / (p->peak16_flops_per_s * b->v[PL_F_ATTN_EFF]);
		t->pair_prefill_s = w->pair_prefill_flops / (p->peak16_flops_per_s * b->v[PL_F_ATTN_EFF]);
		break;
	case PL_TERM_SCAN:
		t->sequence_s = w->sequence_bytes / (p->bytes_per_s * b->v[PL_F_ELEM_EFF]);
		t->row_compute_s = w->row_flops / (p->peak16_flops_per_s * b->v[PL_F_SCAN_EFF]);
		break;
	case PL_TERM_ROWS:
		t->row_memory_s = w->row_bytes / (p->bytes_per_s * b->v[PL_F_ELEM_EFF]);
		break;
	case PL_TERM_FIXED:
		t->fixed_s = w->launches * b->v[PL_F_LAYER_S] + b->v[PL_F_STEP_S];
		t->sequence_s = b->v[PL_F_SEQ_S];
		break;
	case PL_TERM_PROMPT:
		t->fixed_s = w->launches * b->v[PL_F_PROMPT_LAYER_S];
		break;
	case PL_TERM_MESSAGE:
		bind_message(&places[w->gpu], w, t);
		break;
	}
}

void pl_speed_bind(struct pl_speed *s, const struct pl_constants *constants)
{
	struct bound places[PL_MAX_PLACES];
	s->constants = constants;
	for (uint32_t i = 0; i < s->n_places; i++) {
		for (unsigned f = 0; f < PL_FAMILY_COUNT; f++)
			places[i].v[f] = pl_constant(constants, (enum pl_family)f, &s->places[i].context, PL_DTYPE_UNKNOWN);
		if (s->places[i].first == PL_SPEED_HOST) /* arithmetic of the cores is a constant too */
			s->places[i].peak16_flops_per_s = s->places[i].cores * places[i].v[PL_F_CORE_FLOPS];
	}
	for (uint32_t i = 0; i < s->n_terms; i++) {
		struct pl_work *w = &s->work[i];
		if (s->places[w->place].first == PL_SPEED_HOST)
			w->peak_flops_per_s = s->places[w->place].peak16_flops_per_s;
		bind_one(s, constants, places, w, &s->terms[i]);
	}
	s->request_s = s->n_places ? places[0].v[PL_F_REQUEST_S] : 0;
}
