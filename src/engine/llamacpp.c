/* llama.cpp: the engine's row, the devices it sees, and its answer. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "engine/engines.h"
#include "engine/log.h"
#include "engine/llamacpp.h"
#include "model/arch_traits.h"

static const uint64_t MIB = 1024 * 1024;

static const enum pl_dtype kv_types[] = {PL_DTYPE_F16, PL_DTYPE_BF16,   PL_DTYPE_Q8_0, PL_DTYPE_Q5_1, PL_DTYPE_Q5_0,
                                         PL_DTYPE_Q4_1, PL_DTYPE_IQ4_NL, PL_DTYPE_Q4_0, PL_DTYPE_F32,  PL_DTYPE_UNKNOWN};
/* In order of loss, what people turn to. */
static const enum pl_dtype kv_types_offered[] = {PL_DTYPE_F16, PL_DTYPE_Q8_0, PL_DTYPE_Q5_1, PL_DTYPE_Q4_0,
                                                 PL_DTYPE_UNKNOWN};

const enum pl_dtype *ll_kv_types(void)
{
	return kv_types;
}

/* ---- devices ----------------------------------------------------------------------------------------------------- */

/* What a driver takes of a device before the first buffer, by what was measured:
 * NVIDIA 297 to 298 MiB a card on A40, 153 MiB on a smaller build of kernels, 703 to 704 MiB on RTX PRO 6000 (Blackwell),
 * 320 MiB assumed by unslothai/unsloth studio/backend/core/inference/llama_cpp.py; HIP 0.4 GB (Quartermaster PR 24);
 * Vulkan about 51 MiB (bricelancasterwcp-sudo/bloomery, 27B offload derivation). */
static uint64_t overhead_of(const struct pl_device *d)
{
	double capability = d->gpu && d->gpu->capability ? atof(d->gpu->capability) : 0;
	switch (d->vendor) {
	case PL_VENDOR_NVIDIA:
		return (capability >= 10 ? 704 : 320) * MIB;
	case PL_VENDOR_AMD:
		return 400 * 1000 * 1000;
	case PL_VENDOR_INTEL:
		return 51 * MIB;
	case PL_VENDOR_APPLE:
		return 0;
	default:
		return 320 * MIB;
	}
}

/* Metal offers about three quarters of the unified memory (recommendedMaxWorkingSetSize), two thirds up to 36 GiB. */
static uint64_t room_of(const struct pl_machine *hw, const struct pl_device *d)
{
	uint64_t room = hw->detected && d->free_known ? d->free_bytes : d->total_bytes;
	if (d->vendor == PL_VENDOR_APPLE && !d->free_known)
		room = room > 36 * 1024 * MIB ? room / 4 * 3 : room / 3 * 2;
	return room;
}

const char *ll_buffer_prefix(const struct ll_device *d)
{
	switch (d->vendor) {
	case PL_VENDOR_NVIDIA:
		return "CUDA";
	case PL_VENDOR_AMD:
		return "ROCm";
	case PL_VENDOR_INTEL:
		return "SYCL";
	case PL_VENDOR_APPLE:
		return "Metal";
	default:
		return "RPC";
	}
}

static void add_device(struct ll_job *j, uint32_t index)
{
	const struct pl_device *d = &j->hw->devices[index];
	enum pl_vendor vendor = d->rpc ? PL_VENDOR_UNKNOWN : d->vendor;
	bool cuda = vendor == PL_VENDOR_NVIDIA || vendor == PL_VENDOR_AMD;
	j->dev[j->n_dev++] = (struct ll_device){
	    .index = index,
	    .kind = cuda || vendor == PL_VENDOR_INTEL ? LL_PADDED : LL_PLAIN,
	    .async = vendor != PL_VENDOR_APPLE && vendor != PL_VENDOR_INTEL,
	    .cuda = cuda,
	    .offloads = cuda || vendor == PL_VENDOR_INTEL,
	    .room_bytes = room_of(j->hw, d),
	    .overhead_bytes = overhead_of(d),
	    .dev = d,
	    .vendor = vendor,
	};
}

/* Devices of the first host and those it calls over RPC; with split mode none only the main one. */
static int see_devices(struct ll_job *j, struct pl_err *err)
{
	const struct pl_params *p = j->p;
	uint32_t n = 0;
	for (uint32_t i = 0; i < j->hw->n_devices && i < PL_MAX_DEVICES; i++) {
		if (j->hw->devices[i].node && !j->hw->devices[i].rpc)
			continue;
		if (p->split_mode != PL_SPLIT_NONE || n == p->main_gpu)
			add_device(j, i);
		n++;
	}
	if (n && !j->n_dev)
		return pl_fail(err, PL_ERR_RANGE, "main_gpu", "GPU %u asked, the machine has %u", p->main_gpu, n);
	for (uint32_t i = 0; i < PL_MAX_DEVICES; i++)
		if (p->tensor_split[i] < 0 || !isfinite(p->tensor_split[i]))
			return pl_fail(err, PL_ERR_RANGE, "tensor_split", "the share of GPU %u is negative or not a number", i);
	return 0;
}

/* Head sizes the CUDA flash attention kernels are built for (ggml-cuda/fattn.cu). */
static bool cuda_has_kernel(uint64_t dk, uint64_t dv)
{
	static const uint32_t equal[] = {40, 64, 72, 80, 96, 112, 128, 256, 512};
	for (size_t i = 0; dk == dv && i < sizeof equal / sizeof *equal; i++)
		if (equal[i] == dk)
			return true;
	return (dk == 576 && dv == 512) || (dk == 192 && dv == 128) || (dk == 320 && dv == 256);
}

static bool flash_attention(const struct ll_job *j)
{
	if (j->p->flash_attn != PL_AUTO)
		return j->p->flash_attn != 0;
	if (j->p->type_v && pl_dtype_info(j->p->type_v)->block_elems > 1)
		return true; /* quantised values turn it on (src/llama-context.cpp llama_init_from_model) */
	bool cuda = false;
	for (uint32_t d = 0; d < j->n_dev; d++)
		cuda |= j->dev[d].cuda;
	for (uint32_t i = 0; cuda && i < j->m->n_layers; i++) {
		const struct pl_layer *l = &j->m->layers[i];
		if (l->attn == PL_ATTN_NONE || l->is_mtp)
			continue;
		bool mla = l->attn == PL_ATTN_MLA;
		if (!cuda_has_kernel(mla ? l->kv_lora + l->d_rope : l->d_k, mla ? l->kv_lora : l->d_v))
			return false;
	}
	return true;
}

/* Does a state remember what it was a few tokens ago (src/llama-arch.cpp llm_arch_supports_rs_rollback)? */
static bool rolls_back(const struct pl_model *m)
{
	static const char *const archs[] = {"kimi-k3",    "qwen35",     "qwen35moe", "qwen4exp", "deepseek4",  "glm5-next",
	                                    "nemotron_h", "nemotron_h_moe", "lfm2",  "lfm2moe",  "bailingmoe3"};
	for (size_t i = 0; m->arch && i < sizeof archs / sizeof *archs; i++)
		if (!strcmp(m->arch, archs[i]))
			return true;
	return false;
}

enum { DRAFTED = 3 /* common/common.h common_params_speculative_draft */ };

static int drafts_itself(struct ll_job *j, struct pl_err *err)
{
	const struct pl_draft *d = &j->p->draft;
	if (!d->mtp || d->model || d->ref || j->p->program == PL_LLAMA_BENCH)
		return 0;
	if (!j->m->n_layers_mtp)
		return pl_fail(err, PL_ERR_UNSUPPORTED, j->m->name,
		               "the model has no next-token-prediction layers to draft with (--spec-type draft-mtp)");
	j->n_mtp = j->m->n_layers_mtp;
	j->n_drafted = d->n_max ? d->n_max : DRAFTED;
	j->n_rollback = rolls_back(j->m) ? j->n_drafted : 0;
	return 0;
}

int ll_job_init(struct ll_job *j, struct pl_arena *a, const struct pl_model *m, const struct pl_machine *hw,
                struct pl_params *p, struct pl_err *err)
{
	int rc;
	memset(j, 0, sizeof *j);
	j->a = a;
	j->m = m;
	j->hw = hw;
	j->p = p;
	j->build = p->engine_version && p->engine_version[0] == 'b' ? (uint32_t)strtoul(p->engine_version + 1, NULL, 10) : LL_NEWEST;
	if (!p->n_seq)
		return pl_fail(err, PL_ERR_RANGE, "n_seq", "0 sequences asked, at least 1 is needed");
	if (!p->n_ctx_tokens)
		p->n_ctx_tokens = m->n_ctx_train ? m->n_ctx_train : 4096;
	j->n_all = m->n_layers + m->n_layers_mtp;
	if ((rc = drafts_itself(j, err)) < 0)
		return rc;
	j->layers = PL_NEW_N(a, struct ll_layer, (uint64_t)j->n_all + 1);
	if (!j->layers)
		return pl_fail(err, PL_ERR_NOMEM, m->name, "out of memory while laying out %u layers", j->n_all);
	if ((rc = see_devices(j, err)) < 0)
		return rc;
	j->ctx.flash_attn = flash_attention(j);
	j->repacks = true;
	for (uint32_t d = 0; d < j->n_dev; d++)
		j->repacks &= j->dev[d].vendor == PL_VENDOR_OTHER || j->dev[d].vendor == PL_VENDOR_APPLE || j->dev[d].vendor == PL_VENDOR_UNKNOWN;
	if ((rc = ll_weights(j, err)) < 0)
		return rc;
	return ll_cache(j, err);
}

/* ---- the answer -------------------------------------------------------------------------------------------------- */

/* Footprint of the process in RAM beside its buffers: 150 MiB (gguf-parser's default). */
static const uint64_t HOST_FOOTPRINT_BYTES = 150 * 1024 * 1024;

/* Without a mapping a tensor is read into RAM on its way to a device: through four pinned pieces of 1 MiB to CUDA and HIP, which
 * copy on their own, else whole (src/llama-model-loader.cpp load_all_data). */
enum { PINNED_PIECES_BYTES = 4 * 1024 * 1024 };

static uint64_t bytes_on_the_way(const struct ll_job *j, const struct ll_sum *s)
{
	uint64_t most = 0;
	for (uint32_t i = 0; i < j->m->n_tensors; i++)
		if (s->home[i] >= 0)
			most = pl_max_u64(most, j->dev[s->home[i]].cuda ? PINNED_PIECES_BYTES : j->m->tensors[i].bytes);
	return most;
}

static void answer_host(const struct ll_job *j, const struct ll_sum *s, struct pl_layout *out)
{
	struct pl_host_use *h = &out->host;
	h->use = s->host;
	h->use.name = pl_tr("host");
	h->use.total_bytes = j->hw->ram_bytes.known ? j->hw->ram_bytes.value : 0;
	h->use.overhead_bytes = pl_sat_add(s->output_buffer_bytes, HOST_FOOTPRINT_BYTES);
	h->mapped_bytes = j->p->no_mmap || j->p->mlock ? 0 : pl_sat_sub(h->use.model_bytes, s->repacked_bytes);
	h->rest_bytes = h->peak_load_bytes = pl_use_total_bytes(&h->use);
	if (j->p->no_mmap)
		h->peak_load_bytes = pl_sat_add(h->rest_bytes, bytes_on_the_way(j, s));
}

/* Bytes that live in the host's RAM though a device counts them. */
static uint64_t shared_bytes(const struct ll_job *j, const struct ll_sum *s)
{
	uint64_t sum = 0;
	for (uint32_t d = 0; d < j->n_dev; d++)
		if (j->dev[d].dev->unified_memory)
			sum = pl_sat_add(sum, pl_use_total_bytes(&s->dev[d]));
	return sum;
}

static const struct pl_opt_u64 *ram_of(const struct pl_machine *hw)
{
	return hw->detected && hw->ram_free_bytes.known ? &hw->ram_free_bytes : &hw->ram_bytes;
}

uint64_t ll_host_bytes(const struct ll_job *j, const struct ll_sum *s)
{
	uint64_t own = pl_sat_add(pl_use_total_bytes(&s->host), pl_sat_add(s->output_buffer_bytes, HOST_FOOTPRINT_BYTES));
	own = pl_sat_add(own, pl_use_total_bytes(&j->extra.host));
	return pl_sat_add(own, shared_bytes(j, s));
}

bool ll_host_holds(const struct ll_job *j, const struct ll_sum *s)
{
	const struct pl_opt_u64 *ram = ram_of(j->hw);
	return !ram->known || ll_host_bytes(j, s) <= ram->value;
}

static void note_worst(struct pl_layout *out, uint64_t need, uint64_t room, const char *name)
{
	if (need > room) {
		if (need - room > out->missing_bytes) {
			out->missing_bytes = need - room;
			out->where_missing = name;
		}
		out->fits = false;
	} else if (room - need < out->spare_bytes) {
		out->spare_bytes = room - need;
	}
}

static void judge(const struct ll_job *j, const struct ll_sum *s, struct pl_layout *out)
{
	bool on_device = false;
	out->fits = true;
	out->spare_bytes = UINT64_MAX;
	for (uint32_t d = 0; d < j->n_dev; d++) {
		const struct pl_use *u = &s->dev[d];
		if (!u->model_bytes && !u->compute_bytes && !pl_use_context_bytes(u))
			continue;
		on_device = true;
		note_worst(out, pl_use_total_bytes(u), j->dev[d].room_bytes, j->dev[d].dev->name);
	}
	const struct pl_opt_u64 *ram = ram_of(j->hw);
	if (ram->known) {
		uint64_t spare = out->spare_bytes;
		note_worst(out, pl_sat_add(out->host.rest_bytes, shared_bytes(j, s)), ram->value, pl_tr("RAM"));
		if (on_device) /* the fullest device is meant, RAM counts only when nothing is on a device */
			out->spare_bytes = spare;
	}
	if (!out->fits || out->spare_bytes == UINT64_MAX)
		out->spare_bytes = 0;
}

static void answer_devices(const struct ll_job *j, const struct ll_sum *s, struct pl_layout *out)
{
	for (uint32_t i = 0; i < out->n_devices; i++) {
		out->devices[i].name = j->hw->devices[i].name;
		out->devices[i].total_bytes = j->hw->devices[i].total_bytes;
	}
	for (uint32_t d = 0; d < j->n_dev; d++) {
		struct pl_use *u = &out->devices[j->dev[d].index];
		const char *name = u->name;
		*u = s->dev[d];
		u->name = name;
		if (!u->model_bytes && !u->compute_bytes && !pl_use_context_bytes(u)) {
			*u = (struct pl_use){.name = name, .total_bytes = u->total_bytes};
		}
	}
	for (uint32_t i = 0; i < j->n_all; i++)
		out->layer_device[i] = s->layer_dev[i] < 0 ? -1 : (int16_t)j->dev[s->layer_dev[i]].index;
}

/* What one more token of one sequence takes: windows that are full take nothing more. */
static uint64_t bytes_per_token(const struct ll_job *j)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i < j->n_all && j->ctx.n_ctx; i++) {
		const struct pl_layer *l = &j->m->layers[i];
		bool grows = !l->window_tokens || j->ctx.n_cells_swa == j->ctx.n_cells;
		if (grows)
			sum = pl_sat_add(sum, j->layers[i].kv.v[LL_HOST]);
	}
	return j->ctx.n_ctx ? sum / j->ctx.n_ctx : 0;
}

/* It grows as prompts come, so it is no part of what has to fit. */
static void note_prompt_cache(const struct ll_job *j, struct pl_layout *out)
{
	uint64_t most = j->p->cache_ram_bytes, rest = pl_sat_sub(j->hw->ram_bytes.value, out->host.rest_bytes);
	if (!most || j->p->program != PL_LLAMA_SERVER || !j->hw->ram_bytes.known || most <= rest)
		return;
	if (most == UINT64_MAX)
		pl_note_add(j->a, &out->notes, PL_NOTE_WARNING,
		            "llama-server's cache of prompts grows without a limit (--cache-ram), beside the plan the RAM has %llu MiB",
		            (unsigned long long)(rest / MIB));
	else
		pl_note_add(j->a, &out->notes, PL_NOTE_WARNING,
		            "llama-server's cache of prompts may grow to %llu MiB (--cache-ram), beside the plan the RAM has %llu MiB",
		            (unsigned long long)(most / MIB), (unsigned long long)(rest / MIB));
}

static void add_notes(const struct ll_job *j, const struct ll_sum *s, struct pl_layout *out)
{
	struct pl_arena *a = j->a;
	bool unknown = false;
	for (uint32_t d = 0; d < j->n_dev; d++)
		unknown |= j->dev[d].dev->vendor == PL_VENDOR_UNKNOWN;
	if (unknown)
		pl_note_add(a, &out->notes, PL_NOTE_INFO,
		            "the maker of the card is not known: 320 MiB are assumed for its driver context");
	if (s->n_nodes > s->n_nodes_max)
		pl_note_add(a, &out->notes, PL_NOTE_WARNING, "llama.cpp stops while it starts: its graph has %llu parts and room is made for %llu; a cache of f16 has fewer",
		            (unsigned long long)s->n_nodes, (unsigned long long)s->n_nodes_max);
	if (j->fit_end == LL_FIT_CONTEXT)
		pl_note_add(a, &out->notes, PL_NOTE_INFO, "-fit makes the context %llu tokens long, so that %llu MiB stay free",
		            (unsigned long long)j->ctx.n_ctx, (unsigned long long)((j->p->fit_target_bytes ? j->p->fit_target_bytes : 1024 * MIB) / MIB));
	if (j->fit_end == LL_FIT_GAVE_UP)
		pl_note_add(a, &out->notes, PL_NOTE_WARNING, "-fit gives up where layers, shares or patterns are set: the engine loads as asked, too large or not");
	if (j->idle_override)
		pl_note_add(a, &out->notes, PL_NOTE_WARNING, "no tensor's name matches '%s': llama.cpp says nothing and goes on", j->idle_override);
	if (j->extra.tower_measured)
		pl_note_add(a, &out->notes, PL_NOTE_INFO, "the tower of --mmproj is counted as it starts, for a picture of %llu patches: larger ones take more in proportion",
		            (unsigned long long)j->extra.tower_patches);
	else if (j->extra.tower)
		pl_note_add(a, &out->notes, PL_NOTE_INFO, "the tower of --mmproj is counted by its weights; what it computes with depends on the pictures it is shown");
	if (j->has_vision && !j->p->mmproj)
		pl_note_add(a, &out->notes, PL_NOTE_INFO,
		            "llama.cpp keeps the vision tower in a file of its own (--mmproj), which is not counted");
	if (j->has_mtp && !j->n_mtp)
		pl_note_add(a, &out->notes, PL_NOTE_INFO,
		            "llama.cpp loads the next-token-prediction layers only for speculative decoding: they are not counted");
	note_prompt_cache(j, out);
	if (j->hw->n_nodes > 1)
		pl_note_add(a, &out->notes, PL_NOTE_WARNING, "llama.cpp runs on one host: only the devices of the first are used");
	if (!j->hw->ram_bytes.known)
		pl_note_add(a, &out->notes, PL_NOTE_INFO, "the RAM of the machine is not stated: it is taken as large enough");
}

static int layout(struct pl_arena *a, const struct pl_model *m, const struct pl_machine *hw, struct pl_params *p,
                  struct pl_layout *ret_layout, struct pl_err *err)
{
	struct ll_job job;
	struct ll_sum sum = {0};
	struct ll_place place;
	struct pl_layout out = {.n_devices = hw->n_devices};
	struct pl_params resolved = *p;
	/* a config may state windows that this engine ignores (Mistral 7B v0.1, Phi-3, StarCoder 2) */
	const struct pl_model *view = pl_arch_view(a, m);
	if (!view)
		return pl_fail(err, PL_ERR_NOMEM, m->name, "out of memory while laying out %u layers", m->n_layers);
	int rc = ll_job_init(&job, a, view, hw, &resolved, err);
	if (rc)
		return rc;
	bool ok = ll_sum_init(&job, a, &sum);
	out.layer_device = PL_NEW_N(a, int16_t, (uint64_t)job.n_all + 1);
	out.devices = PL_NEW_N(a, struct pl_use, (uint64_t)hw->n_devices + 1);
	if (!ok || !out.layer_device || !out.devices)
		return pl_fail(err, PL_ERR_NOMEM, m->name, "out of memory while laying out %u layers", job.n_all);
	if ((rc = ll_extra(&job, err)) < 0)
		return rc;
	ll_choose(&job, &place, &sum);
	ll_extra_add(&job, &sum);
	if (sum.failed)
		return pl_fail(err, PL_ERR_LIMIT, m->name, "the placement of %u layers takes more working memory than allowed",
		               job.n_all);
	answer_devices(&job, &sum, &out);
	answer_host(&job, &sum, &out);
	judge(&job, &sum, &out);
	out.kv_bytes_per_token = bytes_per_token(&job);
	out.n_ctx_tokens = job.ctx.n_ctx / (resolved.kv_unified ? job.ctx.n_seq : job.ctx.n_stream);
	add_notes(&job, &sum, &out);
	if (resolved.engine_fit) {
		ll_fit_overrides(a, &job, &place, &resolved);
		resolved.n_ctx_tokens = resolved.kv_unified ? job.ctx.n_ctx / job.ctx.n_seq : job.ctx.n_ctx_seq;
	}
	resolved.n_gpu_layers = (int32_t)place.n_gpu_layers;
	resolved.n_cpu_moe = (int32_t)place.n_cpu_moe;
	resolved.flash_attn = job.ctx.flash_attn;
	for (uint32_t d = 0; place.split_given && d < job.n_dev; d++)
		resolved.tensor_split[job.dev[d].index] = place.split[d];
	*p = resolved;
	*ret_layout = out;
	return 0;
}

static const struct pl_server server = {
    .host_flag = "--host",
    .port_flag = "--port",
    .port = 8080,
    .health_path = "/health",
    .metrics_path = "/metrics",
    .metrics_flag = "--metrics",
    .api_key_flag = "--api-key",
    .api_key_env = "LLAMA_API_KEY",
    .log_env = "LLAMA_ARG_LOG_VERBOSITY=4",
};

const struct pl_engine pl_engine_llamacpp = {
    .id = "llama.cpp",
    .drafting = PL_DRAFTS_COUNTED,
    .aliases = "llamacpp llama-cpp llama-server llama",
    .version = "b11669",
    .supports = ll_supports,
    .layout = layout,
    .command = ll_command,
    .kv_types = kv_types_offered,
    .server = &server,
    .read_log = pl_log_read_llamacpp,
};
