/* Which buffer every weight goes to (llama.cpp src/llama-model-loader.cpp create_tensor, src/llama-arch.cpp
 * LLM_TENSOR_INFOS) and what it takes there (ggml-alloc.c, ggml-cuda.cu get_alloc_size). */
#include <string.h>

#include "base/checked.h"
#include "engine/llamacpp.h"
#include "engine/llamacpp_ggml.h"

enum { HOST_ALIGN = 32, GPU_ALIGN = 128, ROW_PADDING = 512 };

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

static bool cpu_has(const struct pl_machine *hw, const char *flag)
{
	return hw->cpu_flags && strstr(hw->cpu_flags, flag);
}

/* Matrices the CPU backend stores interleaved (ggml-cpu/repack.cpp), on x86 with AVX2 when nothing else is known. */
static bool is_repacked(const struct ll_job *j, const struct pl_tensor *t)
{
	const struct pl_machine *hw = j->hw;
	bool arm = cpu_has(hw, "neon") || cpu_has(hw, "asimd") || cpu_has(hw, "dotprod");
	bool avx2 = !arm && (!hw->cpu_flags || cpu_has(hw, "avx2"));
	/* matrices, and stacks of them that experts are chosen from; nothing that is looked up by row */
	bool stack = t->n_dims == 3 && t->ne[2] > 1;
	if (!j->repacks || j->p->no_repack || t->n_dims < 2 || t->n_dims > 3 || t->ne[1] % 8 || (stack && !is_expert(t)))
		return false;
	switch (t->type) {
	case PL_DTYPE_Q4_0:
	case PL_DTYPE_Q4_K:
	case PL_DTYPE_IQ4_NL:
	case PL_DTYPE_MXFP4:
		return avx2 || arm;
	case PL_DTYPE_Q2_K:
		return cpu_has(hw, "avx512f");
	case PL_DTYPE_Q5_K:
	case PL_DTYPE_Q6_K:
	case PL_DTYPE_Q8_0:
		return arm;
	default:
		return false;
	}
}

static void size_of(const struct ll_job *j, struct ll_weight *w, const struct pl_tensor *t)
{
	uint64_t padded = t->bytes;
	const struct pl_dtype_info *d = pl_dtype_info(t->type);
	uint64_t over = t->ne[0] % ROW_PADDING;
	if (d->block_elems > 1 && over)
		padded = pl_sat_add(padded, (ROW_PADDING - over) / d->block_elems * d->block_bytes);
	w->bytes[LL_HOST] = pl_round_up(t->bytes, HOST_ALIGN);
	w->bytes[LL_PLAIN] = pl_round_up(t->bytes, GPU_ALIGN);
	w->bytes[LL_PADDED] = pl_round_up(padded, GPU_ALIGN);
	w->repacked = is_repacked(j, t);
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

static uint64_t hash_of(const char *s)
{
	uint64_t h = 1469598103934665603ull; /* FNV-1a */
	for (; *s; s++)
		h = (h ^ (uint8_t)*s) * 1099511628211ull;
	return h;
}

static const char *without_layer(const char *name)
{
	if (strncmp(name, "blk.", 4))
		return name;
	const char *dot = strchr(name + 4, '.');
	return dot ? dot + 1 : name;
}

static void classify(struct ll_job *j, uint32_t i)
{
	const struct pl_model *m = j->m;
	const struct pl_tensor *t = &m->tensors[i];
	struct ll_weight *w = &j->weights[i];
	bool tower = t->group == PL_GROUP_VISION;
	bool mtp = t->group == PL_GROUP_MTP || (t->layer >= 0 && (uint32_t)t->layer >= m->n_layers);
	w->rest = without_layer(t->name ? t->name : "");
	w->hash = hash_of(w->rest);
	w->layer = t->layer;
	w->forced = LG_FREE;
	size_of(j, w, t);
	j->has_vision |= tower;
	j->has_mtp |= mtp;
	if (tower || (mtp && !j->n_mtp)) { /* a tower is a file of its own (--mmproj); MTP layers wait for --spec-type draft-mtp */
		j->unloaded_bytes = pl_sat_add(j->unloaded_bytes, t->bytes);
		return;
	}
	w->expert = is_expert(t);
	j->has_experts |= w->expert;
	if (t->layer >= 0) {
		w->where = LL_LAYER;
	} else if (is_input(t)) {
		w->where = LL_INPUT;
		if (t->role == PL_ROLE_TOKEN_EMBD && m->tied_output && !t->is_bias) {
			j->tied = (int32_t)i;
			j->tied_repacked = w->repacked;
		}
		w->repacked = false;
	} else if (goes_with_first_layer(t)) {
		w->where = LL_LAYER;
		w->layer = 0;
	} else {
		w->where = is_rope_table(t) ? LL_EACH : LL_OUTPUT;
	}
}

/* Tensors by layer, so that a name is looked up among a few. */
static void index_layers(struct ll_job *j)
{
	const struct pl_model *m = j->m;
	for (uint32_t i = 0; i < m->n_tensors; i++) {
		int32_t l = m->tensors[i].layer;
		(l >= 0 && (uint32_t)l < j->n_all ? &j->layers[l] : &j->outside)->n++;
	}
	uint32_t at = 0;
	for (uint32_t i = 0; i <= j->n_all; i++) {
		struct ll_layer *l = i < j->n_all ? &j->layers[i] : &j->outside;
		l->first = at;
		at += l->n;
		l->n = 0;
	}
	for (uint32_t i = 0; i < m->n_tensors; i++) {
		int32_t k = m->tensors[i].layer;
		struct ll_layer *l = k >= 0 && (uint32_t)k < j->n_all ? &j->layers[k] : &j->outside;
		j->by_layer[l->first + l->n++] = i;
	}
}

int32_t ll_weight_find(const struct ll_job *j, int32_t il, const char *name)
{
	const struct ll_layer *l = il < 0 ? &j->outside : &j->layers[il];
	uint64_t hash = hash_of(name);
	for (uint32_t k = l->first; k < l->first + l->n; k++) {
		uint32_t i = j->by_layer[k];
		if (j->weights[i].hash == hash && !strcmp(j->weights[i].rest, name))
			return (int32_t)i;
	}
	return -1;
}

static void add(struct ll_bytes *to, const struct ll_weight *w)
{
	for (int k = 0; k < LL_KIND_COUNT; k++)
		to->v[k] = pl_sat_add(to->v[k], w->bytes[k]);
}

/* Layer by layer, for the search of a placement. */
static void sum_up(struct ll_job *j, uint32_t i)
{
	const struct ll_weight *w = &j->weights[i];
	if (w->where == LL_LAYER)
		add(w->expert ? &j->layers[w->layer].experts : &j->layers[w->layer].rest, w);
	else if (w->where == LL_OUTPUT || (int32_t)i == j->tied)
		add(&j->output, w);
}

static uint64_t fold(uint64_t h, uint64_t v)
{
	h = (h ^ v) * 1099511628211ull;
	return h ^ (h >> 29);
}

static uint64_t shape_of(const struct ll_job *j, uint32_t il)
{
	const unsigned char *raw = (const unsigned char *)&j->m->layers[il];
	uint64_t h = 1469598103934665603ull;
	for (size_t i = 0; i < sizeof j->m->layers[il]; i++)
		h = (h ^ raw[i]) * 1099511628211ull;
	for (uint32_t k = j->layers[il].first; k < j->layers[il].first + j->layers[il].n; k++) {
		const struct pl_tensor *t = &j->m->tensors[j->by_layer[k]];
		h = fold(fold(fold(h, j->weights[j->by_layer[k]].hash), t->ne[0]), t->ne[1] + t->ne[2] * 7919);
	}
	return h;
}

int ll_weights(struct ll_job *j, struct pl_err *err)
{
	const struct pl_model *m = j->m;
	j->weights = PL_NEW_N(j->a, struct ll_weight, (uint64_t)m->n_tensors + 1);
	j->by_layer = PL_NEW_N(j->a, uint32_t, (uint64_t)m->n_tensors + 1);
	if (!j->weights || !j->by_layer)
		return pl_fail(err, PL_ERR_NOMEM, m->name, "out of memory while laying out %u layers", j->n_all);
	j->tied = -1;
	for (uint32_t i = 0; i < m->n_tensors; i++)
		classify(j, i);
	index_layers(j);
	for (uint32_t i = 0; i < m->n_tensors; i++)
		sum_up(j, i);
	for (uint32_t i = 0; i < j->n_all && m->layers; i++)
		j->layers[i].shape = shape_of(j, i);
	uint64_t sum = 0;
	for (uint32_t i = 0; i < m->n_tensors; i++)
		sum = pl_sat_add(sum, j->weights[i].bytes[LL_HOST]);
	if (sum == UINT64_MAX)
		return pl_fail(err, PL_ERR_RANGE, m->name, "the weights are larger than 2^64 bytes");
	return ll_overrides(j, err);
}

/* ---- where they go ----------------------------------------------------------------------------------------------- */

static void count(const struct ll_job *j, struct ll_sum *s, int16_t home, const struct ll_weight *w, bool repacked)
{
	s->n_tensors++;
	if (home >= 0) {
		uint64_t *to = &s->dev[home].model_bytes;
		*to = pl_sat_add(*to, w->bytes[j->dev[home].kind]);
		return;
	}
	s->host.model_bytes = pl_sat_add(s->host.model_bytes, w->bytes[LL_HOST]);
	if (repacked)
		s->repacked_bytes = pl_sat_add(s->repacked_bytes, w->bytes[LL_HOST]);
}

static void place_each(const struct ll_job *j, const struct ll_weight *w, struct ll_sum *s)
{
	bool seen[PL_MAX_DEVICES + 1] = {false};
	for (uint32_t il = 0; il < j->m->n_layers; il++) {
		int16_t d = s->layer_dev[il];
		if (!seen[d + 1])
			count(j, s, d, w, false);
		seen[d + 1] = true;
	}
}

static bool starts(const char *s, const char *with)
{
	return !strncmp(s, with, strlen(with));
}

/* Does a layer that is partly elsewhere send this tensor away? */
static bool leaves(const struct ll_weight *w, enum ll_fraction f)
{
	bool gate = starts(w->rest, "ffn_gate"), up = starts(w->rest, "ffn_up"), down = starts(w->rest, "ffn_down");
	switch (f) {
	case LL_WHOLE:
		return false;
	case LL_NO_EXPERTS:
		return w->expert;
	case LL_ATTN:
		return gate || up || down;
	case LL_UP:
		return gate || down;
	case LL_GATE:
		return down;
	}
	return false;
}

void ll_weights_place(const struct ll_job *j, const struct ll_place *pl, struct ll_sum *s)
{
	int16_t output = s->layer_dev[j->n_all];
	for (uint32_t i = 0; i < j->m->n_tensors; i++) {
		const struct ll_weight *w = &j->weights[i];
		int16_t home = LG_FREE;
		if (w->where == LL_INPUT)
			home = LG_CPU;
		else if (w->where == LL_LAYER)
			home = s->layer_dev[w->layer];
		else if (w->where == LL_OUTPUT)
			home = output;
		else if (w->where == LL_EACH)
			place_each(j, w, s);
		if (home != LG_FREE && w->forced != LG_FREE)
			home = w->forced;
		else if (w->expert && home != LG_FREE && (uint32_t)w->layer < pl->n_cpu_moe)
			home = LG_CPU;
		else if (pl->fraction && w->layer >= 0 && w->where == LL_LAYER && leaves(w, (enum ll_fraction)pl->fraction[w->layer]))
			home = pl->overflow_to[w->layer];
		s->home[i] = home;
		if (home != LG_FREE)
			count(j, s, home, w, home == LG_CPU && w->repacked);
	}
	if (j->tied < 0)
		return;
	const struct ll_weight *w = &j->weights[j->tied];
	s->tied_home = w->forced != LG_FREE ? w->forced : output;
	/* the same tensor in the same buffer: no copy is made, unless the head is stored in another layout, or asked for first */
	bool head_first = j->m->arch && (!strcmp(j->m->arch, "gemma4") || !strcmp(j->m->arch, "gemma3n"));
	if (head_first || s->tied_home != s->home[j->tied] || (s->tied_home == LG_CPU && j->tied_repacked))
		count(j, s, s->tied_home, w, s->tied_home == LG_CPU && j->tied_repacked);
}

bool ll_sum_init(const struct ll_job *j, struct pl_arena *a, struct ll_sum *s)
{
	memset(s, 0, sizeof *s);
	s->layer_dev = PL_NEW_N(a, int16_t, (uint64_t)j->n_all + 1);
	s->home = PL_NEW_N(a, int16_t, (uint64_t)j->m->n_tensors + 1);
	return s->layer_dev && s->home;
}
