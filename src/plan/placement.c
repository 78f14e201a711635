#include <string.h>

#include "plan/evaluate.h"

static const char *join(struct pl_arena *a, const char *text, const char *more)
{
	if (!text || !more)
		return NULL;
	return *text ? pl_arena_printf(a, pl_tr("%s, %s"), text, more) : more;
}

/* "layers 0-31 on GPU 0, 32-62 on GPU 1, 63 on the CPU", runs of layers in order. */
static const char *runs_of_layers(struct pl_arena *a, const struct pl_trial *t, const struct pl_layout *l)
{
	const char *text = "";
	uint32_t n = t->model->n_layers;
	for (uint32_t i = 0; i < n && text;) {
		uint32_t last = i;
		while (last + 1 < n && l->layer_device[last + 1] == l->layer_device[i])
			last++;
		const char *place = l->layer_device[i] < 0 ? pl_tr("the CPU") : pl_arena_printf(a, "GPU %d", l->layer_device[i]);
		text = join(a, text, i == last ? pl_arena_printf(a, pl_tr("%u on %s"), i, place)
		                               : pl_arena_printf(a, pl_tr("%u-%u on %s"), i, last, place));
		i = last + 1;
	}
	return text ? pl_arena_printf(a, pl_tr("layers %s"), text) : NULL;
}

static const char *parallel(struct pl_arena *a, const struct pl_params *p)
{
	const char *text = "";
	if (p->tensor_parallel > 1)
		text = join(a, text, pl_arena_printf(a, pl_tr("tensor parallel over %u GPUs"), p->tensor_parallel));
	if (p->pipeline_parallel > 1)
		text = join(a, text, pl_arena_printf(a, pl_tr("pipeline of %u stages"), p->pipeline_parallel));
	if (p->zero_stage == 3) {
		static const char *const where[] = {PL_N_("weights sharded over %u GPUs (ZeRO stage 3)"),
		                                    PL_N_("weights in RAM, streamed to %u GPUs (ZeRO stage 3)"),
		                                    PL_N_("weights on the NVMe drive, streamed to %u GPUs (ZeRO stage 3)")};
		text = join(a, text, pl_arena_printf(a, pl_tr(where[p->zero_offload]), p->data_parallel));
	} else if (p->data_parallel > 1) {
		text = join(a, text, pl_arena_printf(a, pl_tr("%u replicas"), p->data_parallel));
	}
	if (p->expert_parallel)
		text = join(a, text, pl_tr("experts dealt out over the ranks"));
	return text;
}

static bool one_place(const struct pl_trial *t, const struct pl_layout *l)
{
	for (uint32_t i = 1; i < t->model->n_layers; i++)
		if (l->layer_device[i] != l->layer_device[0])
			return false;
	return true;
}

const char *pl_placement_text(struct pl_arena *a, const struct pl_trial *t, const struct pl_outcome *o)
{
	const struct pl_layout *l = &o->layout;
	const char *text = parallel(a, &t->params);
	if (text && *text)
		return text;
	if (!t->model->n_layers || !l->layer_device)
		return "";
	if (!one_place(t, l))
		text = runs_of_layers(a, t, l);
	else if (l->layer_device[0] < 0)
		text = pl_tr("everything on the CPU");
	else
		text = pl_arena_printf(a, pl_tr("all %u layers on GPU %d"), t->model->n_layers, l->layer_device[0]);
	if (text && t->params.n_cpu_moe > 0)
		text = pl_arena_printf(a, pl_tr("%s; experts of the first %d layers on the CPU"), text, t->params.n_cpu_moe);
	return text;
}
