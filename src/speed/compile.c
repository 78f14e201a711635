/* From the step graph and a layout to a short list of terms. */
#include <string.h>

#include "base/fmt.h"
#include "speed/compile.h"

void pl_work_add(struct pl_compile *c, const struct pl_work *w)
{
	struct pl_work want = *w;
	for (uint32_t i = c->n_work; i-- > 0;) { /* layers repeat: an equal one stands near the end */
		want.n = c->work[i].n;
		if (!memcmp(&want, &c->work[i], sizeof want)) {
			c->work[i].n += 1;
			return;
		}
	}
	if (c->n_work == c->cap_work) {
		uint32_t cap = c->cap_work ? c->cap_work * 2 : 64;
		struct pl_work *more = pl_arena_grow(c->a, c->work, c->n_work, cap, sizeof *more);
		if (!more)
			return;
		c->work = more;
		c->cap_work = cap;
	}
	want.n = 1;
	c->work[c->n_work++] = want;
}

void pl_measured_add(struct pl_compile *c, const struct pl_term *t, enum pl_family scale, enum pl_family prefill_scale, enum pl_dtype type)
{
	struct pl_work w;
	memset(&w, 0, sizeof w);
	w.kind = t->kind;
	w.cause = t->cause;
	w.rows = t->rows;
	w.place = w.gpu = t->place;
	w.type = type;
	w.measured = true;
	w.as = *t;
	w.scale = scale;
	w.prefill_scale = prefill_scale;
	pl_work_add(c, &w);
}

/* What the engine itself does each layer, step and sequence. */
static void engine_work(struct pl_compile *c)
{
	struct pl_work w;
	memset(&w, 0, sizeof w);
	w.kind = PL_TERM_FIXED;
	w.cause = PL_CAUSE_LAUNCH;
	w.place = c->last_place >= 0 ? (uint32_t)c->last_place : 0;
	w.launches = c->m->n_layers;
	pl_work_add(c, &w);
	if (c->p->zero_stage == 3)
		pl_gather_work(c, w.place);
	if (!c->fused)
		return;
	w.kind = PL_TERM_PROMPT;
	w.launches = c->m->graph.n_ops;
	pl_work_add(c, &w);
}

static bool has_gpu_layers(const struct pl_compile *c)
{
	for (uint32_t i = 0; c->l->layer_device && i < c->m->n_layers; i++)
		if (c->l->layer_device[i] >= 0)
			return true;
	return c->hw->n_devices && !c->l->layer_device;
}

static void ranks(struct pl_compile *c)
{
	const struct pl_params *p = c->p;
	uint32_t dp = p->data_parallel ? p->data_parallel : 1;
	bool vllm = c->s->setup.engine && !strcmp(c->s->setup.engine->id, "vllm");
	c->tp = p->tensor_parallel ? p->tensor_parallel : 1;
	c->pp = p->pipeline_parallel ? p->pipeline_parallel : 1;
	/* Groups of data-parallel attention lie inside the tensor parallel ranks (SGLang, TensorRT-LLM); vLLM's replicas stand beside
	 * each other and share the experts over all of them (its FusedMoE takes tp × dp ranks, dealt out or cut). */
	c->moe_ranks = vllm || (p->expert_parallel && !p->dp_attention) ? c->tp * dp : c->tp;
	if (p->dp_attention && dp > 1 && c->tp % dp == 0)
		c->tp /= dp;
	c->attn_ranks = c->tp;
	if (c->llama && p->split_mode == PL_SPLIT_ROW && c->hw->n_devices > 1 && has_gpu_layers(c)) {
		c->row_split = true;
		c->tp = c->moe_ranks = c->hw->n_devices;
		c->attn_ranks = 1;
	}
}

/* A mapped file larger than RAM: what cannot stay is read again. */
static void paging(struct pl_compile *c)
{
	const struct pl_host_use *h = &c->l->host;
	double ram = c->hw->ram_bytes.known ? (double)c->hw->ram_bytes.value : 0, all = (double)h->use.model_bytes;
	double over = (double)h->rest_bytes - ram;
	c->disk_bytes_per_s = pl_mapped_bytes_per_s(c->s->setup.disk_bytes_per_s);
	if (ram > 0 && all > 0 && over > 0 && h->mapped_bytes)
		c->paged_frac = over < all ? over / all : 1;
}

/* A rank's group is one place: its devices work at the same time. */
static void widen_places(struct pl_compile *c)
{
	for (uint32_t i = 0; i < c->s->n_places; i++) {
		struct pl_place *p = &c->s->places[i];
		if (p->first != PL_SPEED_HOST && c->tp > 1)
			p->n = p->first + c->tp <= c->hw->n_devices ? c->tp : c->hw->n_devices - p->first;
	}
}

static double own_bytes(const struct pl_model *m)
{
	return m->weight_bytes ? (double)m->weight_bytes : 1;
}

static enum pl_kinship kinship_of(const struct pl_constants *k, const struct pl_context *x)
{
	bool device = false, arch = false, stack = false;
	for (uint32_t f = 0; f < PL_FAMILY_COUNT; f++) {
		enum pl_family family = (enum pl_family)f;
		device |= x->device && pl_effect_find(k, pl_effect_key(family, PL_SCOPE_DEVICE, 0, x->device));
		arch |= x->arch && pl_effect_find(k, pl_effect_key(family, PL_SCOPE_ARCH, 0, x->arch));
		for (enum pl_stack s = x->stack; s; s = pl_stack_parent(s)) {
			arch |= x->arch && pl_effect_find(k, pl_effect_key(family, PL_SCOPE_STACK_ARCH, s, x->arch));
			arch |= x->line && pl_effect_find(k, pl_effect_key(family, PL_SCOPE_STACK_LINE, s, x->line));
			stack |= pl_effect_find(k, pl_effect_key(family, PL_SCOPE_STACK, s, 0)) != NULL;
		}
	}
	return device ? PL_KIN_MEASURED : arch ? PL_KIN_ARCH : stack ? PL_KIN_BACKEND : PL_KIN_NONE;
}

enum pl_kinship pl_speed_kinship(const struct pl_speed *s, const struct pl_constants *constants)
{
	enum pl_kinship worst = PL_KIN_MEASURED;
	for (uint32_t i = 0; i < s->n_places; i++) {
		enum pl_kinship k = kinship_of(constants, &s->places[i].context);
		if (s->places[i].first == PL_SPEED_HOST && k == PL_KIN_BACKEND)
			k = PL_KIN_ARCH; /* CPUs have no rows of their own: their stack is their kind */
		worst = k > worst ? k : worst;
	}
	return worst;
}

enum pl_kinship pl_speed_kernels(const struct pl_speed *s)
{
	return !s->kernels_system || s->kernels_foreign ? PL_KIN_NONE : s->kernels_kin ? PL_KIN_ARCH : PL_KIN_MEASURED;
}

/* What the CPU was taken for: nobody states most of it. */
static void name_host(struct pl_arena *a, struct pl_speed *s, const struct pl_place *p)
{
	const struct pl_machine *hw = s->setup.machine;
	char speed[PL_FMT_MAX];
	double hz = hw->cpu_hz > 0 ? hw->cpu_hz : p->core_cycles_per_s / p->cores;
	s->kin_text = hw->core ? pl_arena_printf(a, pl_tr("%s; the CPU counts as %.0f cores (%s) at %.1f GHz"), s->kin_text, p->cores, hw->core->name, hz / 1e9)
	                       : pl_arena_printf(a, pl_tr("%s; the CPU is assumed to have %.0f cores with AVX2 at %.1f GHz"), s->kin_text, p->cores, hz / 1e9);
	if (s->ram_assumed)
		s->kin_text = pl_arena_printf(a, pl_tr("%s; the RAM is assumed to be two channels of DDR4-3200: say ram 64GiB ddr5-5600 8ch"), s->kin_text);
	else if (hw->ram_rated)
		s->kin_text = pl_arena_printf(a, pl_tr("%s, its RAM at %s as rated"), s->kin_text, pl_fmt_bandwidth(speed, p->bytes_per_s));
	if (hw->sockets > 1)
		s->kin_text = pl_arena_printf(a, pl_tr("%s, of %u sockets the RAM of about one"), s->kin_text, hw->sockets);
}

static void name_kin(struct pl_arena *a, struct pl_speed *s)
{
	static const char *const texts[] = {PL_N_("constants fitted on measurements of this device"),
	                                    PL_N_("no measurement of this device: constants of its architecture"),
	                                    PL_N_("no measurement of this architecture: constants of its backend"),
	                                    PL_N_("no measurement of this backend: assumed constants")};
	s->kin_text = pl_tr(texts[s->kinship]);
	for (uint32_t i = 0; i < s->n_places; i++)
		if (s->places[i].first == PL_SPEED_HOST)
			name_host(a, s, &s->places[i]);
	if (s->net_assumed)
		s->kin_text = pl_arena_printf(a, pl_tr("%s; the hosts are assumed to be joined by 1 GbE: say net 10gbe"), s->kin_text);
}

/* llama.cpp lets one pass run on each device where every backend has events and all layers are on GPUs (llama-context.cpp);
 * Vulkan has them since the end of 2025. */
static bool pipelined(const struct pl_compile *c)
{
	const double vulkan_years = 0.5; /* before the middle of 2026 */
	bool vulkan = c->s->n_places && pl_stack_backend(c->s->places[0].context.stack) == PL_BACKEND_VULKAN;
	return c->llama && !c->row_split && c->hw->n_devices > 1 && c->host_place < 0 && !(vulkan && c->s->age_years > vulkan_years);
}

/* Until September 2025 llama.cpp used its vector kernel, two queries at a time, for flash attention on AMD without rocWMMA (its
 * fattn.cu: tile kernels performed poorly there); CDNA got its matrix instructions in that summer. */
static bool vector_attention(const struct pl_compile *c)
{
	const double tile_years = 0.8; /* before the middle of 2026 */
	const struct pl_context *x = &c->s->places[0].context;
	return c->llama && c->s->n_places && pl_stack_backend(x->stack) == PL_BACKEND_ROCM && strncmp(pl_arch_name(x->line), "CDNA", 4) &&
	       c->p->flash_attn != 0 && !c->s->setup.rocwmma && c->s->age_years > tile_years;
}

static void compile_graph(struct pl_compile *c)
{
	const struct pl_graph *g = &c->m->graph;
	if (!g->n_ops) {
		c->s->unknown = pl_arena_printf(c->a, pl_tr("the step of '%s' (%s) is not known"), c->m->name, c->m->arch);
		return;
	}
	pl_fused_begin(c);
	for (uint32_t i = 0; i < g->n_ops && !c->s->unknown && !pl_arena_failed(c->a); i++)
		pl_op_work(c, &g->ops[i]);
	if (c->s->unknown || pl_arena_failed(c->a))
		return;
	engine_work(c);
	widen_places(c);
}

int pl_speed_compile(struct pl_arena *a, const struct pl_speed_setup *setup, const struct pl_speed **ret_speed,
                     struct pl_err *err)
{
	struct pl_speed *s = PL_NEW(a, struct pl_speed);
	if (!s)
		return pl_fail(err, PL_ERR_NOMEM, setup->model->name, "out of memory while planning");
	s->setup = *setup;
	s->age_years = setup->age_years;
	s->power_limit_w = setup->power_limit_w;
	s->plain_attention = setup->params->flash_attn == 0;
	s->constants = setup->constants ? setup->constants : pl_constants_shipped();
	struct pl_compile c = {.a = a, .m = setup->model, .hw = setup->machine, .p = setup->params, .l = setup->layout, .s = s,
	                       .host_place = -1, .last_place = -1};
	memset(c.device_place, 0xff, sizeof c.device_place);
	c.llama = !setup->engine || !strcmp(setup->engine->id, "llama.cpp");
	c.activation_bytes = c.llama ? 4 : 2;
	s->weight_bytes = setup->weight_bytes > 0 ? setup->weight_bytes : own_bytes(c.m);
	c.scale_bytes = s->weight_bytes / own_bytes(c.m);
	paging(&c);
	ranks(&c);
	c.streams = c.llama && has_gpu_layers(&c) && !c.p->no_op_offload && !c.hw->devices[0].unified_memory;
	s->n_ubatch = c.llama ? c.p->n_ubatch : c.p->max_num_batched_tokens;
	s->n_replicas = c.p->data_parallel ? c.p->data_parallel : 1;
	s->n_in_flight = c.llama ? 1 : c.pp;
	compile_graph(&c);
	s->pipelined_prefill = pipelined(&c);
	s->vector_attention = vector_attention(&c);
	s->work = c.work;
	s->n_terms = c.n_work;
	s->terms = PL_NEW_N(a, struct pl_term, c.n_work ? c.n_work : 1);
	if (pl_arena_failed(a))
		return pl_fail(err, PL_ERR_NOMEM, setup->model->name, "out of memory while planning");
	if (!s->unknown) {
		pl_speed_bind(s, s->constants);
		name_kin(a, s);
	}
	*ret_speed = s;
	return 0;
}

const char *pl_speed_unknown(const struct pl_speed *s)
{
	return s->unknown;
}
