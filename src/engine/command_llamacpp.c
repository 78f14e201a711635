/* Commands of llama.cpp's programs (build 11669): common/arg.cpp, common/common.h, tools/server/server.cpp,
 * tools/perplexity/perplexity.cpp; llama-bench has a reader of its own (command_llamabench.c). */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/checked.h"
#include "engine/command.h"
#include "engine/command_llamacpp.h"

#define VERSION "b11669"

enum {
	P_SERVER = 1, P_CLI = 2, P_COMPLETION = 4, P_PERPLEXITY = 8, P_FIT = 16, P_BATCHED = 32, P_EMBEDDING = 64, P_IMATRIX = 128,
	P_MTMD = 256, P_SPECULATIVE = 512, P_OTHER = 1024, P_ALL = 2047
};

enum action {
	NOTHING, CTX, CTX_PER_SLOT, BATCH, UBATCH, SWA_FULL, CACHE_RAM, KV_UNIFIED, FLASH_ATTN, KV_OFFLOAD, REPACK, NO_HOST, TYPE_K, TYPE_V,
	PARALLEL, MMPROJ, MMPROJ_AUTO, MMPROJ_OFFLOAD, MMPROJ_DEVICE, RPC, LOAD_MODE, MMAP, MLOCK, DIRECT_IO, DEVICE, OVERRIDE, CPU_MOE,
	N_CPU_MOE, N_CPU_FFN, GPU_LAYERS, SPLIT_MODE, TENSOR_SPLIT, MAIN_GPU, FIT, FIT_TARGET, FIT_CTX, OP_OFFLOAD, LORA, MODEL, MODEL_URL,
	DOCKER, HF_REPO, HF_FILE, EMBEDDING, PPL_STRIDE, KL, PPL_OTHER, DRAFT_HF, DRAFT_TYPE_K, DRAFT_TYPE_V, DRAFT_CPU_MOE, DRAFT_N_CPU_MOE,
	DRAFT_MAX, DRAFT_GPU_LAYERS, DRAFT_MODEL, SPEC_TYPE, DRAFT_DEVICE, DRAFT_OVERRIDE, DRAFT_CTX, ROUTER, OVERRIDE_KV, BB_SEQS, PRESET,
	MOE_CACHE, DRAFT_UBATCH, NUMA, THREADS
};

static const struct pl_flag flags[] = {
#define X(action, kind, names, negatives, env, programs) {action, PL_FLAG_##kind, names, negatives, env, programs},
#include "engine/llamacpp_flags.def"
#undef X
};

/* ---- values -------------------------------------------------------------------------------------------------------- */

static bool truthy(const char *v)
{
	return !strcmp(v, "on") || !strcmp(v, "enabled") || !strcmp(v, "true") || !strcmp(v, "1");
}

static bool falsey(const char *v)
{
	return !strcmp(v, "off") || !strcmp(v, "disabled") || !strcmp(v, "false") || !strcmp(v, "0");
}

int pl_llama_switch(struct pl_reader *r, const char *value, bool *ret)
{
	if (!truthy(value) && !falsey(value))
		return pl_refuse(r, "'%.40s' is neither on nor off: the program stops here", value);
	*ret = truthy(value);
	return 0;
}

int pl_llama_flash(struct pl_reader *r, const char *value, int32_t *ret)
{
	if (truthy(value))
		*ret = 1;
	else if (falsey(value))
		*ret = 0;
	else if (!strcmp(value, "auto") || !strcmp(value, "-1"))
		*ret = PL_AUTO;
	else
		return pl_refuse(r, "'%.40s' is none of on, off and auto: the program stops here", value);
	return 0;
}

/* The nine types --cache-type-k lists. */
int pl_llama_cache_type(struct pl_reader *r, const char *value, enum pl_dtype *ret)
{
	static const char known[] = "f32 f16 bf16 q8_0 q4_0 q4_1 iq4_nl q5_0 q5_1";
	if (!pl_flag_in(known, value, strlen(value)))
		return pl_refuse(r, "there is no cache type '%.40s': the program stops here; it knows %s", value, known);
	*ret = pl_dtype_from_name(value);
	return 0;
}

int pl_llama_split_mode(struct pl_reader *r, const char *value)
{
	struct pl_params *p = &r->cmd->params;
	if (!strcmp(value, "layer"))
		p->split_mode = PL_SPLIT_LAYER;
	else if (!strcmp(value, "row"))
		p->split_mode = PL_SPLIT_ROW;
	else if (!strcmp(value, "none"))
		p->split_mode = PL_SPLIT_NONE;
	else if (!strcmp(value, "tensor"))
		return pl_refuse(r, "split mode 'tensor' is experimental and not modelled; layer, row and none are");
	else
		return pl_refuse(r, "'%.40s' is no split mode: the program stops here; it knows none, layer, row and tensor", value);
	return 0;
}

int pl_llama_numa(struct pl_reader *r, const char *value)
{
	static const char *const names[] = {[PL_NUMA_DISTRIBUTE] = "distribute", [PL_NUMA_ISOLATE] = "isolate", [PL_NUMA_NUMACTL] = "numactl"};
	for (size_t i = PL_NUMA_DISTRIBUTE; i < sizeof names / sizeof *names; i++)
		if (!strcmp(value, names[i])) {
			r->cmd->params.numa = (enum pl_numa)i;
			return 0;
		}
	return pl_refuse(r, "'%.40s' is no way to use NUMA nodes: the program stops here; it knows distribute, isolate and numactl", value);
}

/* Shares, separated by runs of "," and "/" (llama-bench: only "/"). */
int pl_llama_tensor_split(struct pl_reader *r, const char *value, const char *separators)
{
	struct pl_params *p = &r->cmd->params;
	uint32_t n = 0;
	memset(p->tensor_split, 0, sizeof p->tensor_split);
	for (const char *at = value; *at; at += strspn(at, separators)) {
		size_t len = strcspn(at, separators);
		char *one = pl_arena_strndup(r->a, at, len);
		int rc = n < PL_MAX_DEVICES ? pl_read_real(r, one ? one : "", 0, 1e12, &p->tensor_split[n])
		                            : pl_refuse(r, "more shares than a machine can have devices");
		if (rc)
			return rc;
		n++;
		at += len;
	}
	r->cmd->split_text = value;
	return 0;
}

/* auto, none, mmap, mlock, mmap+mlock, dio */
int pl_llama_load_mode(struct pl_reader *r, const char *value)
{
	struct pl_params *p = &r->cmd->params;
	if (!pl_flag_in("auto none mmap mlock mmap+mlock dio", value, strlen(value)))
		return pl_refuse(r, "'%.40s' is no load mode: the program stops here; it knows auto, none, mmap, mlock, mmap+mlock and dio", value);
	p->no_mmap = !strcmp(value, "none") || !strcmp(value, "mlock") || !strcmp(value, "dio");
	p->mlock = strstr(value, "mlock") != NULL;
	return 0;
}

/* CUDA0,CUDA1: the numbers at the ends of the names, in the order of this backend's devices. */
int pl_llama_devices(struct pl_reader *r, const char *value, const char *separators, struct pl_device_pick *ret)
{
	struct pl_device_pick pick = {.by = pl_arena_printf(r->a, "%s %s", r->flag, value)};
	if (!strcmp(value, "none") || !strcmp(value, "None")) {
		*ret = pick;
		return 0;
	}
	for (const char *at = value; *at; at += strspn(at, separators)) {
		size_t len = strcspn(at, separators), digits = len;
		while (digits && at[digits - 1] >= '0' && at[digits - 1] <= '9')
			digits--;
		unsigned long i = digits < len ? strtoul(at + digits, NULL, 10) : 0;
		bool metal = digits == len && !strncasecmp(at, "Metal", len);
		if ((digits == len && !metal) || i >= PL_MAX_DEVICES || pick.n == PL_MAX_DEVICES)
			return pl_refuse(r, "'%.*s' names no device: the program stops here; names are such as CUDA0, ROCm1, Vulkan0", (int)len, at);
		pick.index[pick.n++] = (uint32_t)i;
		at += len;
	}
	*ret = pick;
	return 0;
}

static int add_override(struct pl_reader *r, const char *pattern, const char *buffer)
{
	struct pl_params *p = &r->cmd->params;
	struct pl_tensor_override *list = pl_arena_grow(r->a, p->overrides, p->n_overrides, p->n_overrides + 1, sizeof *list);
	if (!list)
		return 0;
	list[p->n_overrides++] = (struct pl_tensor_override){pattern, buffer};
	p->overrides = list;
	return 0;
}

/* pattern=buffer[,pattern=buffer…]: as the program splits it, a pattern that holds "," is cut there. */
int pl_llama_overrides(struct pl_reader *r, const char *value, char separator)
{
	for (const char *at = value; *at;) {
		const char *stop = strchr(at, separator);
		size_t len = stop ? (size_t)(stop - at) : strlen(at);
		const char *eq = memchr(at, '=', len);
		if (!eq)
			return pl_refuse(r, "'%.*s' is not PATTERN=BUFFER: the program stops here", len < 80 ? (int)len : 80, at);
		char *pattern = pl_arena_strndup(r->a, at, (size_t)(eq - at));
		char *buffer = pl_arena_strndup(r->a, eq + 1, len - (size_t)(eq + 1 - at));
		if (!pattern || !buffer)
			return 0;
		int rc = add_override(r, pattern, buffer);
		if (rc)
			return rc;
		at += len + (stop != NULL);
	}
	return 0;
}

static int gpu_layers(struct pl_reader *r, const char *value, int32_t *ret)
{
	int64_t n;
	if (!strcmp(value, "auto") || !strcmp(value, "all")) {
		*ret = *value == 'a' && value[1] == 'u' ? PL_AUTO : PL_LLAMA_ALL;
		return 0;
	}
	int rc = pl_read_int(r, value, INT32_MIN, INT32_MAX, &n);
	if (!rc)
		*ret = n == -1 ? PL_AUTO : n < -1 ? PL_LLAMA_ALL : (int32_t)n;
	return rc;
}

/* ---- what flags do, by topic; false: not of this topic -------------------------------------------------------------- */

static bool set_model(struct pl_reader *r, enum action action, const char *value, int *rc)
{
	switch ((int)action) {
	case MODEL: r->own.llama.model = value; break;
	case MODEL_URL: r->own.llama.url = value; break;
	case HF_REPO: r->own.llama.hf_repo = value; break;
	case HF_FILE: r->own.llama.hf_file = value; break;
	case DOCKER: r->own.llama.docker = value; break;
	case ROUTER:
		pl_remark(r, PL_NOTE_INFO, "%s: models are loaded on request; the plan is for the one model named", r->flag);
		break;
	case MMPROJ: r->cmd->mmproj_ref = value; break;
	case LORA:
		pl_remark(r, PL_NOTE_WARNING, "%s: adapters take memory beside the model, which is not counted", r->flag);
		break;
	case OVERRIDE_KV:
		pl_remark(r, PL_NOTE_WARNING, "%s: the model is planned as its file describes it", r->flag);
		break;
	case PRESET: *rc = pl_llama_preset(r); break;
	default: return false;
	}
	return true;
}

static bool set_context(struct pl_reader *r, enum action action, const char *value, bool no, int *rc)
{
	struct pl_params *p = &r->cmd->params;
	int64_t n;
	switch ((int)action) {
	case CTX:
		*rc = pl_read_int(r, value, 0, 1 << 28, &r->own.llama.n_ctx);
		r->own.llama.ctx_stated = true;
		break;
	case CTX_PER_SLOT: *rc = pl_read_int(r, value, 0, 1 << 28, &r->own.llama.per_slot); break;
	case BATCH: *rc = pl_read_u32(r, value, 1, 1 << 24, &p->n_batch); break;
	case UBATCH: *rc = pl_read_u32(r, value, 0, 1 << 24, &p->n_ubatch); break;
	case PARALLEL:
		*rc = pl_read_int(r, value, -1, 65536, &n);
		if (!*rc && !n)
			*rc = pl_refuse(r, "0 sequences: the program stops here");
		if (!*rc)
			r->own.llama.n_parallel = n;
		break;
	case SWA_FULL: p->swa_full = true; break;
	case KV_UNIFIED:
		p->kv_unified = !no;
		r->own.llama.kvu_stated = true;
		break;
	case TYPE_K: *rc = pl_llama_cache_type(r, value, &p->type_k); break;
	case TYPE_V: *rc = pl_llama_cache_type(r, value, &p->type_v); break;
	case FLASH_ATTN:
		if (value[0] == '-' && value[1] && strcmp(value, "-1") != 0) /* older builds took no value */
			*rc = pl_refuse(r, "the next word '%.40s' is taken for its value and is none of on, off and auto; write '-fa on'", value);
		else
			*rc = pl_llama_flash(r, value, &p->flash_attn);
		break;
	case CACHE_RAM:
		*rc = pl_read_int(r, value, -1, INT32_MAX, &n);
		p->cache_ram_bytes = *rc ? 0 : n < 0 ? UINT64_MAX : pl_sat_mul((uint64_t)n, 1 << 20);
		break;
	case EMBEDDING: r->own.llama.embedding = true; break;
	case PPL_STRIDE: *rc = pl_read_int(r, value, 0, 1 << 28, &r->own.llama.ppl_stride); break;
	case KL: r->own.llama.kl = r->own.llama.ppl_other = true; break;
	case PPL_OTHER: r->own.llama.ppl_other = true; break;
	case BB_SEQS: *rc = pl_llama_list_most(r, value, &r->own.llama.n_parallel); break;
	default: return false;
	}
	return true;
}

static bool set_devices(struct pl_reader *r, enum action action, const char *value, int *rc)
{
	struct pl_params *p = &r->cmd->params;
	int64_t n;
	switch ((int)action) {
	case GPU_LAYERS: *rc = gpu_layers(r, value, &p->n_gpu_layers); break;
	case SPLIT_MODE: *rc = pl_llama_split_mode(r, value); break;
	case TENSOR_SPLIT: *rc = pl_llama_tensor_split(r, value, ",/"); break;
	case MAIN_GPU: *rc = pl_read_u32(r, value, 0, PL_MAX_DEVICES - 1, &p->main_gpu); break;
	case DEVICE: *rc = pl_llama_devices(r, value, ",", &r->cmd->devices); break;
	case OVERRIDE: *rc = pl_llama_overrides(r, value, ','); break;
	case CPU_MOE: p->n_cpu_moe = PL_LLAMA_ALL; break;
	case N_CPU_MOE:
		*rc = pl_read_int(r, value, 0, INT32_MAX, &n);
		p->n_cpu_moe = *rc ? 0 : (int32_t)n;
		break;
	case MOE_CACHE:
		*rc = pl_read_int(r, value, 0, INT32_MAX, &n);
		if (!*rc && n)
			pl_remark(r, PL_NOTE_WARNING, "--moe-cache-mib %lld: these MiB on the GPUs are not counted", (long long)n);
		break;
	case N_CPU_FFN: /* gate, up and down of dense layers (common/common.h) */
		*rc = pl_read_int(r, value, 0, 4096, &n);
		for (int64_t i = 0; !*rc && i < n; i++)
			*rc = add_override(r, pl_arena_printf(r->a, "blk\\.%lld\\.ffn_(up|down|gate)\\.", (long long)i), "CPU");
		break;
	case FIT: *rc = pl_llama_switch(r, value, &r->own.llama.fit); break;
	case FIT_TARGET:
		*rc = pl_read_int(r, value, 0, INT32_MAX, &n);
		p->fit_target_bytes = *rc ? 0 : pl_sat_mul((uint64_t)n, 1 << 20);
		break;
	case FIT_CTX:
		*rc = pl_read_int(r, value, 0, INT32_MAX, &n);
		p->fit_ctx_min_tokens = *rc ? 0 : (uint64_t)n;
		break;
	case RPC:
		pl_remark(r, PL_NOTE_INFO, "--rpc: the devices of those servers belong in the hardware line, first: 'rpc rtx3090 + rtx4090, net 10gbe'");
		break;
	default: return false;
	}
	return true;
}

static bool set_memory(struct pl_reader *r, enum action action, const char *value, bool no, int *rc)
{
	struct pl_params *p = &r->cmd->params;
	int64_t n = 0;
	switch ((int)action) {
	case KV_OFFLOAD: p->no_kv_offload = no; break;
	case REPACK: p->no_repack = no; break;
	case NO_HOST: p->no_host = true; break;
	case OP_OFFLOAD: p->no_op_offload = no; break;
	case NUMA: *rc = pl_llama_numa(r, value); break;
	case THREADS: /* below 1: as many as the hardware has */
		*rc = pl_read_int(r, value, INT32_MIN, INT32_MAX, &n);
		p->n_threads = n > 0 ? (uint32_t)n : 0;
		break;
	case LOAD_MODE: *rc = pl_llama_load_mode(r, value); break;
	case MMAP: p->no_mmap = no; break;
	case MLOCK: p->mlock = true; break;
	case DIRECT_IO: p->no_mmap = !no; break;
	case MMPROJ_AUTO: r->own.llama.mmproj_auto = !no; break;
	case MMPROJ_OFFLOAD: p->mmproj_on_cpu = no; break;
	case MMPROJ_DEVICE: p->mmproj_on_cpu = !strcmp(value, "none"); break;
	default: return false;
	}
	return true;
}

static bool set_draft(struct pl_reader *r, enum action action, const char *value, int *rc)
{
	struct pl_draft *d = &r->cmd->params.draft;
	int64_t n;
	switch ((int)action) {
	case DRAFT_MODEL: r->cmd->draft_ref = value; break;
	case DRAFT_HF: r->own.llama.draft_hf = value; break;
	case DRAFT_TYPE_K: *rc = pl_llama_cache_type(r, value, &d->type_k); break;
	case DRAFT_TYPE_V: *rc = pl_llama_cache_type(r, value, &d->type_v); break;
	case DRAFT_CPU_MOE: d->n_cpu_moe = PL_LLAMA_ALL; break;
	case DRAFT_N_CPU_MOE:
		*rc = pl_read_int(r, value, 0, INT32_MAX, &n);
		d->n_cpu_moe = *rc ? 0 : (int32_t)n;
		break;
	case DRAFT_MAX: *rc = pl_read_u32(r, value, 0, 65536, &d->n_max); break;
	case DRAFT_UBATCH: *rc = pl_read_u32(r, value, 0, 1 << 24, &d->n_ubatch); break;
	case DRAFT_GPU_LAYERS: *rc = gpu_layers(r, value, &d->n_gpu_layers); break;
	case DRAFT_CTX:
		*rc = pl_read_int(r, value, 0, 1 << 28, &n);
		d->n_ctx_tokens = *rc ? 0 : (uint64_t)n;
		break;
	case SPEC_TYPE:
		if (pl_flag_in("draft-mtp mtp", value, strlen(value)))
			d->mtp = true;
		else if (strncmp(value, "draft-", 6) != 0 && strncmp(value, "ngram-", 6) != 0 && strcmp(value, "none") != 0)
			*rc = pl_refuse(r, "there is no way of speculating called '%.40s': the program stops here", value);
		break;
	case DRAFT_DEVICE:
	case DRAFT_OVERRIDE:
		pl_remark(r, PL_NOTE_WARNING, "%s: the draft model is laid out over the devices of the target", r->flag);
		break;
	default: return false;
	}
	return true;
}

static int apply(struct pl_reader *r, const struct pl_flag *f, const char *value, const char *value2, bool negated)
{
	enum action action = (enum action)f->action;
	int rc = 0;
	(void)value2;
	if (!value)
		value = "";
	if (!set_model(r, action, value, &rc) && !set_context(r, action, value, negated, &rc) && !set_devices(r, action, value, &rc) &&
	    !set_memory(r, action, value, negated, &rc))
		(void)set_draft(r, action, value, &rc);
	return rc;
}

/* LLAMA_ARG_NO_X says no where LLAMA_ARG_X has names that say no (common/arg.cpp, get_env). */
static bool variable(struct pl_reader *r, const char *name, const char *value, int *rc)
{
	static const char yes[] = "LLAMA_ARG_", no[] = "LLAMA_ARG_NO_";
	if (strncmp(name, yes, sizeof yes - 1) != 0)
		return false;
	if (!strncmp(name, no, sizeof no - 1)) {
		const char *plain = pl_arena_printf(r->a, "%s%s", yes, name + sizeof no - 1);
		for (size_t i = 0; plain && i < sizeof flags / sizeof *flags; i++)
			if (flags[i].kind == PL_FLAG_BOOL && !strcmp(flags[i].env, plain)) {
				*rc = apply(r, &flags[i], NULL, NULL, true);
				return true;
			}
	}
	pl_remark(r, PL_NOTE_WARNING, "'%.80s' is no variable of %s %s: it is ignored", name, r->cmd->program, r->program->version);
	(void)value;
	return false;
}

static int stray_word(struct pl_reader *r, const char *word)
{
	r->flag = NULL;
	return pl_refuse(r, "'%.80s' is neither a flag nor a value: the program stops here", word);
}

/* ---- before and after ----------------------------------------------------------------------------------------------- */

static int begin(struct pl_reader *r)
{
	struct pl_params *p = &r->cmd->params;
	r->own.llama.fit = true;
	r->own.llama.mmproj_auto = true;
	r->own.llama.n_parallel = r->program->bit == P_SERVER ? -1 : 1;
	p->draft.n_gpu_layers = PL_AUTO;
	p->program = r->program->bit == P_SERVER || r->program->bit == P_CLI ? PL_LLAMA_SERVER
	             : r->program->bit == P_FIT                              ? PL_LLAMA_FIT_PARAMS
	                                                                     : PL_LLAMA_COMPLETION;
	if (r->program->bit == P_SERVER || r->program->bit == P_CLI)
		p->cache_ram_bytes = UINT64_C(8192) << 20; /* -cram */
	if (r->program->bit == P_PERPLEXITY || r->program->bit == P_IMATRIX)
		r->own.llama.n_ctx = 512;
	return 0;
}

/* "owner/repo:Q4_K_M" and its file. */
const char *pl_llama_hub_ref(struct pl_reader *r, const char *repo, const char *file)
{
	size_t len = strcspn(repo, ":");
	if (file)
		return pl_arena_printf(r->a, "hf:%.*s:%s", (int)len, repo, file);
	return pl_arena_printf(r->a, "hf:%s", repo);
}

static int name_models(struct pl_reader *r)
{
	const struct pl_reader *s = r;
	struct pl_command *c = r->cmd;
	if (s->own.llama.docker)
		return pl_refuse(r, "models of Docker's registry are not read: name the file with -m");
	c->model_ref = s->own.llama.hf_repo ? pl_llama_hub_ref(r, s->own.llama.hf_repo, s->own.llama.hf_file)
	               : s->own.llama.url   ? s->own.llama.url
	                                    : s->own.llama.model;
	if (s->own.llama.draft_hf)
		c->draft_ref = pl_llama_hub_ref(r, s->own.llama.draft_hf, NULL);
	if (s->own.llama.hf_repo && s->own.llama.mmproj_auto && !c->mmproj_ref && (r->program->bit & (P_SERVER | P_CLI)))
		pl_remark(r, PL_NOTE_INFO, "-hf: a multimodal projector in the repository would be loaded too; name it with --mmproj to have it "
		                           "counted, or write --no-mmproj");
	return 0;
}

/* perplexity.cpp: as many sequences of -c tokens as fit a batch; imatrix.cpp likewise. */
static void chunked_context(struct pl_reader *r)
{
	struct pl_params *p = &r->cmd->params;
	int64_t ctx = r->own.llama.n_ctx, seqs = 1;
	if (ctx <= 0)
		return;
	if (!r->own.llama.ppl_other)
		seqs = p->n_batch / ctx > 1 ? p->n_batch / ctx : 1;
	else if (!r->own.llama.kl)
		seqs = r->own.llama.n_parallel > 4 ? r->own.llama.n_parallel : 4;
	if (r->own.llama.ppl_other)
		p->n_batch = (uint32_t)pl_min_u64(p->n_batch, (uint64_t)ctx);
	else
		ctx *= seqs;
	p->n_batch = (uint32_t)pl_min_u64(p->n_batch, (uint64_t)ctx);
	r->own.llama.n_parallel = seqs;
	r->own.llama.n_ctx = ctx + r->own.llama.ppl_stride / 2;
	r->own.llama.ctx_stated = true;
}

static void settle_slots(struct pl_reader *r)
{
	struct pl_params *p = &r->cmd->params;
	if (r->own.llama.n_parallel < 0) { /* tools/server/server.cpp */
		r->own.llama.n_parallel = 4;
		p->kv_unified = true;
		pl_remark(r, PL_NOTE_INFO, "-np is not given: %s opens 4 slots over one unified cache", r->cmd->program);
	}
	if (r->own.llama.per_slot && !r->own.llama.ctx_stated) {
		r->own.llama.n_ctx = r->own.llama.per_slot * r->own.llama.n_parallel;
		r->own.llama.ctx_stated = true;
	}
	r->cmd->n_seq_stated = true;
	p->n_seq = (uint32_t)r->own.llama.n_parallel;
}

static int finish(struct pl_reader *r)
{
	struct pl_command *c = r->cmd;
	struct pl_params *p = &c->params;
	int rc = name_models(r);
	if (rc)
		return rc;
	if (r->program->bit == P_PERPLEXITY || r->program->bit == P_IMATRIX)
		chunked_context(r);
	settle_slots(r);
	c->ctx_stated = true;
	c->n_ctx_total_tokens = (uint64_t)r->own.llama.n_ctx;
	c->n_ctx_auto = !r->own.llama.ctx_stated;
	if (p->n_ubatch > p->n_batch) {
		pl_remark(r, PL_NOTE_WARNING, "-ub %u is more than -b %u: the smaller one holds", p->n_ubatch, p->n_batch);
		p->n_ubatch = p->n_batch;
	}
	if (r->own.llama.embedding && p->n_batch > p->n_ubatch) {
		pl_remark(r, PL_NOTE_INFO, "embeddings need a batch in one piece: -b becomes %u", p->n_ubatch);
		p->n_batch = p->n_ubatch;
	}
	p->engine_fit = r->own.llama.fit && r->program->bit != P_OTHER;
	/* what stands on the command line is kept; without -fit everything that is automatic goes to the devices */
	c->all_layers = p->n_gpu_layers == PL_LLAMA_ALL || (p->n_gpu_layers == PL_AUTO && !p->engine_fit);
	if (c->all_layers)
		p->n_gpu_layers = INT32_MAX;
	if (p->n_cpu_moe == PL_AUTO && (!p->engine_fit || p->n_gpu_layers != PL_AUTO || p->n_overrides))
		p->n_cpu_moe = 0;
	if (p->n_cpu_moe == PL_LLAMA_ALL)
		p->n_cpu_moe = INT32_MAX;
	if (p->draft.n_cpu_moe == PL_LLAMA_ALL)
		p->draft.n_cpu_moe = INT32_MAX;
	if (p->draft.n_gpu_layers == PL_LLAMA_ALL)
		p->draft.n_gpu_layers = INT32_MAX;
	return 0;
}

#define ROW(names, sub, bit) \
	{names, sub, "", "llama.cpp", VERSION, flags, sizeof flags / sizeof *flags, bit, PL_STYLE_UNDERSCORES, begin, apply, stray_word, variable, finish}

#define BENCH_ROW(names, sub)                                                                                                         \
	{names, sub, "", "llama.cpp", VERSION, pl_llama_bench_flags, N_BENCH_FLAGS, 1, PL_STYLE_UNDERSCORES, pl_llama_bench_begin,         \
	 pl_llama_bench_apply, stray_word, NULL, pl_llama_bench_finish}

const struct pl_program pl_programs_llamacpp[] = {
    ROW("llama-server server", NULL, P_SERVER),
    ROW("llama-cli", NULL, P_CLI),
    ROW("llama-completion main", NULL, P_COMPLETION),
    ROW("llama-fit-params", NULL, P_FIT),
    ROW("llama-perplexity perplexity", NULL, P_PERPLEXITY),
    ROW("llama-batched-bench", NULL, P_BATCHED),
    ROW("llama-embedding", NULL, P_EMBEDDING),
    ROW("llama-imatrix", NULL, P_IMATRIX),
    ROW("llama-mtmd-cli", NULL, P_MTMD),
    ROW("llama-speculative llama-speculative-simple", NULL, P_SPECULATIVE),
    ROW("llama", "serve|server", P_SERVER),
    ROW("llama", "cli|chat", P_CLI),
    ROW("llama", "completion", P_COMPLETION),
    BENCH_ROW("llama-bench", NULL),
    BENCH_ROW("llama", "bench"),
    {0},
};
