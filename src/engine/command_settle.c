/* What a command means on one machine for one model: devices picked, defaults taken from the model, sizes cut to what there is. */
#include <string.h>

#include "base/checked.h"
#include "engine/command.h"

enum { CTX_PAD = 256 }; /* llama.cpp rounds contexts up to it (src/llama-context.cpp) */

/* ---- devices --------------------------------------------------------------------------------------------------------- */

struct kept {
	struct pl_device *devices;
	uint32_t *from; /* its number on the whole machine */
	uint32_t n;
};

static int keep_devices(struct pl_arena *a, struct kept *k, const struct pl_device_pick *pick, bool strict, struct pl_note **notes,
                        struct pl_err *err)
{
	struct pl_device *devices = PL_NEW_N(a, struct pl_device, (uint64_t)k->n + pick->n + 1);
	uint32_t *from = PL_NEW_N(a, uint32_t, (uint64_t)k->n + pick->n + 1), n = 0;
	if (!devices || !from)
		return pl_fail(err, PL_ERR_NOMEM, pick->by, "out of memory");
	for (uint32_t i = 0; i < pick->n && (pick->first_n || i < PL_MAX_DEVICES); i++) {
		uint32_t index = pick->first_n ? i : pick->index[i];
		if (index >= k->n && strict)
			return pl_fail(err, PL_ERR_RANGE, pick->by, "device %u is asked for, the machine has %u: the program stops here", index, k->n);
		if (index >= k->n) {
			pl_note_add(a, notes, PL_NOTE_WARNING, "%s: device %u is not there; it and what follows it are not seen", pick->by, index);
			break;
		}
		devices[n] = k->devices[index];
		from[n++] = k->from[index];
	}
	pl_note_add(a, notes, PL_NOTE_INFO, "%s: %u of %u devices are used", pick->by, n, k->n);
	*k = (struct kept){devices, from, n};
	return 0;
}

/* The variable of the maker's driver that shows a program these devices alone. */
static const char *visible_env(struct pl_arena *a, const struct pl_machine *hw, const struct kept *k)
{
	enum pl_vendor v = hw->n_devices ? hw->devices[0].vendor : PL_VENDOR_UNKNOWN;
	const char *text = pl_arena_printf(a, "%s=", v == PL_VENDOR_AMD ? "HIP_VISIBLE_DEVICES" : v == PL_VENDOR_INTEL ? "ZE_AFFINITY_MASK"
	                                             : v == PL_VENDOR_HUAWEI                          ? "ASCEND_RT_VISIBLE_DEVICES"
	                                                                                              : "CUDA_VISIBLE_DEVICES");
	for (uint32_t i = 0; i < k->n && text; i++)
		text = pl_arena_printf(a, "%s%s%u", text, i ? "," : "", k->from[i]);
	return k->n || !text ? text : pl_arena_printf(a, "%s-1", text);
}

int pl_command_machine(struct pl_arena *a, struct pl_command *cmd, const struct pl_machine *hw,
                       const struct pl_machine **ret_machine, struct pl_err *err)
{
	struct pl_machine *m = PL_NEW(a, struct pl_machine);
	struct kept k = {hw->devices, PL_NEW_N(a, uint32_t, (uint64_t)hw->n_devices + 1), hw->n_devices};
	int rc = 0;
	if (!m || !k.from)
		return pl_fail(err, PL_ERR_NOMEM, cmd->program, "out of memory");
	for (uint32_t i = 0; i < k.n; i++)
		k.from[i] = i;
	if (cmd->visible.by)
		rc = keep_devices(a, &k, &cmd->visible, false, &cmd->notes, err);
	if (!rc && cmd->devices.by)
		rc = keep_devices(a, &k, &cmd->devices, true, &cmd->notes, err);
	if (rc)
		return rc;
	*m = *hw;
	m->devices = k.devices;
	m->n_devices = k.n;
	if (cmd->visible.by || cmd->devices.by)
		cmd->visible_env = visible_env(a, hw, &k);
	*ret_machine = m;
	return 0;
}

/* ---- llama.cpp ------------------------------------------------------------------------------------------------------- */

/* -c counts the tokens of all sequences. A unified cache lends all of it to each, so a sequence is sure of its part only. */
static void share_context(struct pl_arena *a, struct pl_command *cmd, const struct pl_model *m)
{
	struct pl_params *p = &cmd->params;
	uint64_t train = m->n_ctx_train ? m->n_ctx_train : 4096, total = cmd->n_ctx_total_tokens, seqs = p->n_seq ? p->n_seq : 1;
	if (!total && p->engine_fit && !p->kv_unified) /* common/fit.cpp counts the model's length for each stream */
		total = pl_sat_mul(train, seqs);
	else if (!total)
		total = train;
	p->fit_ctx = cmd->n_ctx_auto && p->engine_fit;
	if (total < p->n_batch && total % CTX_PAD) /* a batch is never longer than what was asked for */
		p->n_batch = (uint32_t)total;
	uint64_t all = pl_round_up(total, CTX_PAD);
	p->n_ctx_tokens = p->kv_unified ? pl_max_u64(all / seqs, 1) : pl_round_up(pl_max_u64(all / seqs, 1), CTX_PAD);
	if (seqs > 1 && !p->kv_unified && p->n_ctx_tokens * seqs != all)
		pl_note_add(a, &cmd->notes, PL_NOTE_INFO, "-c %llu is no multiple of %llu sequences: each gets %llu tokens",
		            (unsigned long long)total, (unsigned long long)seqs, (unsigned long long)p->n_ctx_tokens);
	if (seqs > 1 && p->kv_unified)
		pl_note_add(a, &cmd->notes, PL_NOTE_INFO, "%llu sequences share one cache of %llu tokens; one alone may use all of it",
		            (unsigned long long)seqs, (unsigned long long)all);
	if (p->n_ctx_tokens > train)
		pl_note_add(a, &cmd->notes, PL_NOTE_WARNING, "%llu tokens a sequence are more than the %llu the model was trained on; the server caps them",
		            (unsigned long long)p->n_ctx_tokens, (unsigned long long)train);
}

static void cut_layers(struct pl_arena *a, struct pl_command *cmd, const struct pl_model *m)
{
	struct pl_params *p = &cmd->params;
	int32_t all = (int32_t)(m->n_layers + m->n_layers_mtp) + 1, layers = (int32_t)m->n_layers;
	if (p->n_gpu_layers > all) {
		if (!cmd->all_layers)
			pl_note_add(a, &cmd->notes, PL_NOTE_INFO, "-ngl %d: the model has %d layers, the output among them; all go to the devices",
			            p->n_gpu_layers, all);
		p->n_gpu_layers = all;
	}
	if (p->n_cpu_moe > 0 && !pl_model_kinds(m).experts) /* llama_context.cpp: has_tensor_overrides() */
		pl_note_add(a, &cmd->notes, PL_NOTE_WARNING, "the model has no experts that could stay on the CPU: the flag only keeps batches from "
		            "being pipelined over several GPUs");
	if (p->n_cpu_moe > layers)
		p->n_cpu_moe = layers;
	if (p->draft.n_gpu_layers == INT32_MAX && p->draft.model)
		p->draft.n_gpu_layers = (int32_t)p->draft.model->n_layers + 1;
	if (p->draft.model && p->draft.n_cpu_moe > (int32_t)p->draft.model->n_layers)
		p->draft.n_cpu_moe = (int32_t)p->draft.model->n_layers;
}

static void check_split(struct pl_arena *a, struct pl_command *cmd, const struct pl_machine *hw)
{
	struct pl_params *p = &cmd->params;
	uint32_t given = 0;
	double sum = 0;
	if (!cmd->split_text)
		return;
	for (uint32_t i = 0; i < PL_MAX_DEVICES; i++)
		given = p->tensor_split[i] > 0 ? i + 1 : given;
	for (uint32_t i = 0; i < hw->n_devices && i < PL_MAX_DEVICES; i++)
		sum += p->tensor_split[i];
	if (given > hw->n_devices)
		pl_note_add(a, &cmd->notes, PL_NOTE_WARNING, "-ts %s: %u shares for %u devices; those past the last are ignored", cmd->split_text,
		            given, hw->n_devices);
	for (uint32_t i = hw->n_devices; i < PL_MAX_DEVICES; i++)
		p->tensor_split[i] = 0;
	if (!(sum > 0))
		pl_note_add(a, &cmd->notes, PL_NOTE_WARNING, "-ts %s: no device has a share; the program splits by free memory", cmd->split_text);
	else if (given < hw->n_devices)
		pl_note_add(a, &cmd->notes, PL_NOTE_WARNING, "-ts %s: the devices without a share get no layers", cmd->split_text);
	if (p->split_mode == PL_SPLIT_NONE)
		pl_note_add(a, &cmd->notes, PL_NOTE_WARNING, "-ts %s is ignored with -sm none", cmd->split_text);
}

/* Under 24 GiB of GPU memory 4k tokens, under 48 GiB 32k, above 256k (docs/context-length.mdx); never more than the model knows. */
static void ollama_context(struct pl_arena *a, struct pl_command *cmd, const struct pl_model *m, const struct pl_machine *hw)
{
	static const uint64_t GIB = UINT64_C(1) << 30;
	uint64_t memory = 0, ctx;
	for (uint32_t i = 0; i < hw->n_devices; i++)
		memory = pl_sat_add(memory, hw->devices[i].total_bytes);
	ctx = memory < 23 * GIB ? 4096 : memory < 47 * GIB ? 32768 : 262144; /* cards sold as 24 GB report a little less */
	if (m->n_ctx_train)
		ctx = pl_min_u64(ctx, m->n_ctx_train);
	cmd->n_ctx_total_tokens = pl_sat_mul(ctx, cmd->params.n_seq);
	pl_note_add(a, &cmd->notes, PL_NOTE_INFO, "OLLAMA_CONTEXT_LENGTH is not given: ollama takes %llu tokens by the memory of the GPUs",
	            (unsigned long long)ctx);
}

static void settle_llama(struct pl_arena *a, struct pl_command *cmd, const struct pl_model *m, const struct pl_machine *hw)
{
	if (cmd->ollama_ctx)
		ollama_context(a, cmd, m, hw);
	share_context(a, cmd, m);
	cut_layers(a, cmd, m);
	check_split(a, cmd, hw);
	if (!hw->n_devices && cmd->params.n_gpu_layers > 0) {
		pl_note_add(a, &cmd->notes, PL_NOTE_WARNING, "there is no GPU: -ngl is ignored");
		cmd->params.n_gpu_layers = 0;
	}
	if (hw->n_devices > 1 && cmd->params.main_gpu && cmd->params.split_mode == PL_SPLIT_LAYER)
		pl_note_add(a, &cmd->notes, PL_NOTE_INFO, "-mg matters only with -sm none and -sm row");
}

/* ---- serving engines --------------------------------------------------------------------------------------------------- */

static void settle_serving(struct pl_arena *a, struct pl_command *cmd, const struct pl_model *m, const struct pl_machine *hw)
{
	struct pl_params *p = &cmd->params;
	uint64_t need = pl_sat_mul(pl_max_u64(p->tensor_parallel, 1), pl_max_u64(p->pipeline_parallel, 1));
	need = pl_sat_mul(need, p->dp_attention ? 1 : pl_max_u64(p->data_parallel, 1));
	if (!cmd->ctx_stated && !p->n_ctx_tokens)
		p->n_ctx_tokens = m->n_ctx_train;
	if (need > hw->n_devices)
		pl_note_add(a, &cmd->notes, PL_NOTE_WARNING, "%llu GPUs are asked for, %u are there: the program stops here",
		            (unsigned long long)need, hw->n_devices);
	if (p->n_ctx_tokens > m->n_ctx_train && m->n_ctx_train)
		pl_note_add(a, &cmd->notes, PL_NOTE_WARNING, "%llu tokens a sequence are more than the %u the model was trained on: the program "
		            "refuses them unless it is told otherwise", (unsigned long long)p->n_ctx_tokens, m->n_ctx_train);
	if (p->max_num_batched_tokens && p->max_num_seqs > p->max_num_batched_tokens)
		pl_note_add(a, &cmd->notes, PL_NOTE_WARNING, "%u sequences do not fit a step of %u tokens: the program stops here", p->max_num_seqs,
		            p->max_num_batched_tokens);
}

int pl_command_settle(struct pl_arena *a, struct pl_command *cmd, const struct pl_model *m, const struct pl_machine *hw,
                      struct pl_err *err)
{
	if (!strcmp(cmd->engine, "llama.cpp"))
		settle_llama(a, cmd, m, hw);
	else
		settle_serving(a, cmd, m, hw);
	return pl_arena_failed(a) ? pl_fail(err, PL_ERR_NOMEM, cmd->program, "out of memory") : 0;
}
