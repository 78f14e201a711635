/* Ranks on devices, whatever fills them: what may be asked, which cards, and the parts of an answer that follow. */
#include "base/checked.h"
#include "engine/serving.h"

/* RAM of the processes: one a rank (PyTorch, CUDA libraries, pinned buffers) and the server with its scheduler. Assumed. */
static const uint64_t WORKER_BYTES = UINT64_C(2) << 30, SERVER_BYTES = UINT64_C(3) << 29;
/* Shards of a checkpoint are mapped one at a time; 5 GB is how the hub cuts them. */
static const uint64_t SHARD_BYTES = UINT64_C(5000000000);

/* ---- what may be asked -------------------------------------------------------------------------------------------- */

int sv_cache_type(const char *engine, const char *types, const struct pl_params *p, enum pl_dtype *ret_type, uint32_t *ret_elem_bytes,
                  struct pl_err *err)
{
	enum pl_dtype k = p->type_k, v = p->type_v;
	if (k != v && k && v)
		return pl_fail(err, PL_ERR_UNSUPPORTED, "--kv-type", "%s keeps keys and values in one type, not %s and %s", engine,
		               pl_dtype_name(k), pl_dtype_name(v));
	*ret_type = k ? k : v;
	*ret_elem_bytes = 2;
	switch (*ret_type) {
	case PL_DTYPE_UNKNOWN:
	case PL_DTYPE_F16:
	case PL_DTYPE_BF16:
		return 0;
	case PL_DTYPE_F8_E4M3:
	case PL_DTYPE_F8_E5M2:
		*ret_elem_bytes = 1;
		return 0;
	default:
		return pl_fail(err, PL_ERR_UNSUPPORTED, "--kv-type", "%s has no cache of type %s: it takes %s", engine, pl_dtype_name(*ret_type),
		               types);
	}
}

int sv_check_request(const char *engine, const struct pl_machine *hw, const struct pl_params *p, struct pl_err *err)
{
	if (!p->n_seq)
		return pl_fail(err, PL_ERR_RANGE, "n_seq", "0 sequences asked, at least 1 is needed");
	if (!hw->n_devices)
		return pl_fail(err, PL_ERR_UNSUPPORTED, "--engine", "%s is planned on GPUs, and this machine has none", engine);
	if (p->gpu_memory_utilization_frac < 0 || p->gpu_memory_utilization_frac > 1)
		return pl_fail(err, PL_ERR_RANGE, "--gpu-memory-utilization", "%g is not a share between 0 and 1",
		               p->gpu_memory_utilization_frac);
	return 0;
}

int sv_check_heads(const struct pl_model *m, const struct pl_params *p, struct pl_err *err)
{
	if (p->tensor_parallel && !pl_shard_heads_divide(m, p->tensor_parallel))
		return pl_fail(err, PL_ERR_RANGE, "--tensor-parallel", "%u ranks do not divide the %u attention heads of %s",
		               p->tensor_parallel, m->n_layers ? m->layers[0].n_head : 0, m->name);
	return 0;
}

int sv_check_ranks(const struct pl_model *m, const struct pl_machine *hw, const struct pl_params *p, uint32_t dp, struct pl_err *err)
{
	uint64_t tp = p->tensor_parallel ? p->tensor_parallel : 1, pp = p->pipeline_parallel ? p->pipeline_parallel : 1, ranks = tp * pp * dp;
	if (p->pipeline_parallel > m->n_layers)
		return pl_fail(err, PL_ERR_RANGE, "--pipeline-parallel", "%u stages asked of %u layers", p->pipeline_parallel, m->n_layers);
	if (ranks > hw->n_devices)
		return pl_fail(err, PL_ERR_RANGE, "--tensor-parallel", "%llu GPUs are needed for these ranks, the machine has %u",
		               (unsigned long long)ranks, hw->n_devices);
	return 0;
}

uint64_t sv_context_tokens(const struct pl_model *m, const struct pl_params *p)
{
	return p->n_ctx_tokens ? p->n_ctx_tokens : m->n_ctx_train ? m->n_ctx_train : 2048;
}

/* ---- ranks -------------------------------------------------------------------------------------------------------- */

/* An even share; what is left over goes one each to the stages before the last (vLLM's get_pp_indices, SGLang's alike) or to the
 * first (TensorRT-LLM, mapping.py pp_layers). */
static uint32_t layers_of_stage(const struct pl_model *m, const struct sv_place *pl, uint32_t stage)
{
	uint32_t base = m->n_layers / pl->pp, rest = m->n_layers % pl->pp;
	if (pl->rest_to_first)
		return base + (stage < rest);
	return base + (stage + 1 < pl->pp && stage + 1 + rest >= pl->pp);
}

struct pl_shard_stage sv_stage(const struct pl_model *m, const struct pl_params *p, const struct sv_place *pl, uint32_t stage)
{
	struct pl_shard_stage s = {0};
	for (uint32_t i = 0; i < stage; i++)
		s.first_layer += layers_of_stage(m, pl, i);
	s.end_layer = s.first_layer + layers_of_stage(m, pl, stage);
	s.has_input = stage == 0;
	s.has_output = stage + 1 == pl->pp;
	s.has_mtp = s.has_output && p->draft.mtp;
	s.no_towers = p->language_model_only;
	return s;
}

uint64_t sv_sequences(const struct pl_params *p, const struct sv_place *pl)
{
	return pl_ceil_div(p->n_seq, (uint64_t)pl->dp * pl->attn_groups);
}

/* The largest cards, in the machine's order. */
static bool pick_devices(const struct pl_machine *hw, struct sv_place *pl)
{
	bool used[PL_MAX_DEVICES] = {false};
	uint64_t n = (uint64_t)pl->tp * pl->pp * pl->dp;
	if (n > hw->n_devices || n > PL_MAX_DEVICES)
		return false;
	pl->n_ranks = (uint32_t)n;
	for (uint32_t r = 0; r < pl->n_ranks; r++) {
		uint32_t best = PL_MAX_DEVICES;
		for (uint32_t i = 0; i < hw->n_devices && i < PL_MAX_DEVICES; i++)
			if (!used[i] && (best == PL_MAX_DEVICES || hw->devices[i].total_bytes > hw->devices[best].total_bytes))
				best = i;
		if (best == PL_MAX_DEVICES)
			return false;
		used[best] = true;
	}
	for (uint32_t r = 0, i = 0; i < hw->n_devices && i < PL_MAX_DEVICES; i++)
		if (used[i])
			pl->device[r++] = i;
	return true;
}

static bool one_host_a_group(const struct pl_machine *hw, const struct sv_place *pl)
{
	for (uint32_t r = 0; r < pl->n_ranks; r++)
		if (hw->devices[pl->device[r]].node != hw->devices[pl->device[r - r % pl->tp]].node)
			return false;
	return true;
}

bool sv_place_devices(const struct pl_model *m, const struct pl_machine *hw, const struct pl_params *p, struct sv_place *pl)
{
	if ((p->tensor_parallel && p->tensor_parallel != pl->tp) || (p->pipeline_parallel && p->pipeline_parallel != pl->pp) ||
	    pl->pp > m->n_layers || !pick_devices(hw, pl))
		return false;
	return p->tensor_parallel || one_host_a_group(hw, pl);
}

int sv_compare(const struct sv_verdict *x, const struct sv_place *px, const struct sv_verdict *y, const struct sv_place *py)
{
	if (x->holds != y->holds)
		return x->holds ? 1 : -1;
	if (x->starts != y->starts)
		return x->starts ? 1 : -1;
	if (!x->holds && x->missing_bytes != y->missing_bytes)
		return x->missing_bytes < y->missing_bytes ? 1 : -1;
	if (px->pp != py->pp)
		return px->pp < py->pp ? 1 : -1;
	return 0;
}

/* ---- the answer --------------------------------------------------------------------------------------------------- */

int sv_frame(struct pl_arena *a, const struct pl_model *m, const struct pl_machine *hw, const struct pl_params *p, const struct sv_place *pl,
             struct pl_layout *ret, struct pl_err *err)
{
	uint32_t n_all = m->n_layers + m->n_layers_mtp;
	struct pl_layout out = {.n_devices = hw->n_devices};
	out.devices = PL_NEW_N(a, struct pl_use, (uint64_t)hw->n_devices + 1);
	out.layer_device = PL_NEW_N(a, int16_t, (uint64_t)n_all + 1);
	if (!out.devices || !out.layer_device)
		return pl_fail(err, PL_ERR_NOMEM, m->name, "out of memory while laying out %u layers", m->n_layers);
	for (uint32_t i = 0; i < hw->n_devices; i++)
		out.devices[i] = (struct pl_use){.name = hw->devices[i].name, .total_bytes = hw->devices[i].total_bytes};
	for (uint32_t stage = 0; stage < pl->pp; stage++) {
		struct pl_shard_stage s = sv_stage(m, p, pl, stage);
		for (uint32_t i = s.first_layer; i < n_all && (i < s.end_layer || s.has_output); i++)
			out.layer_device[i] = (int16_t)pl->device[stage * pl->tp];
	}
	*ret = out;
	return 0;
}

void sv_host(const struct pl_model *m, const struct pl_machine *hw, const struct sv_place *pl, uint64_t ranks_bytes, uint64_t server_bytes,
             struct pl_host_use *h)
{
	uint64_t workers = pl_sat_add(pl_sat_mul(pl->n_ranks, WORKER_BYTES), ranks_bytes), largest = 0;
	h->use.name = pl_tr("host");
	h->use.total_bytes = hw->ram_bytes.known ? hw->ram_bytes.value : 0;
	h->use.overhead_bytes = pl_sat_add(workers / (hw->n_nodes ? hw->n_nodes : 1), pl_sat_add(SERVER_BYTES, server_bytes));
	h->rest_bytes = pl_use_total_bytes(&h->use);
	for (uint32_t i = 0; i < m->n_tensors; i++)
		largest = pl_max_u64(largest, m->tensors[i].bytes);
	h->peak_load_bytes = pl_sat_add(h->rest_bytes, pl_min_u64(m->weight_bytes, pl_max_u64(SHARD_BYTES, largest)));
}

void sv_note_assumed(struct pl_arena *a, const char *engine, const struct pl_model *m, const struct pl_machine *hw, struct pl_layout *out)
{
	if (sv_main_type(m) == PL_DTYPE_F32) /* --dtype auto of vLLM and SGLang */
		pl_note_add(a, &out->notes, PL_NOTE_INFO, "%s loads 32-bit weights in 16 bit: half of their size is counted", engine);
	if (!hw->ram_bytes.known)
		pl_note_add(a, &out->notes, PL_NOTE_INFO, "the RAM of the machine is not stated: it is taken as large enough");
}

void sv_judge(const struct pl_machine *hw, const struct sv_place *pl, const struct sv_verdict *v, struct pl_layout *out)
{
	const struct pl_opt_u64 *ram = hw->detected && hw->ram_free_bytes.known ? &hw->ram_free_bytes : &hw->ram_bytes;
	out->fits = v->holds;
	out->missing_bytes = v->holds ? 0 : pl_max_u64(v->missing_bytes, 1);
	out->where_missing = v->holds ? NULL : out->devices[pl->device[v->worst]].name;
	if (!ram->known || out->host.rest_bytes <= ram->value)
		return;
	uint64_t lacks = out->host.rest_bytes - ram->value;
	out->fits = false;
	if (lacks > out->missing_bytes) {
		out->missing_bytes = lacks;
		out->where_missing = pl_tr("RAM");
	}
}
