/* Commands of llama-bench (build 11669), whose every flag is a list of runs, and the presets of the other programs. */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "engine/command_llamacpp.h"

enum action {
	NOTHING, FIT_TARGET, FIT_CTX, RPC, MODEL, HF_REPO, HF_FILE, PROMPT, GEN, PG, DEPTH, BATCH, UBATCH, TYPE_K, TYPE_V, GPU_LAYERS,
	N_CPU_MOE, SPLIT_MODE, MAIN_GPU, NO_KV_OFFLOAD, FLASH_ATTN, DEVICE, LOAD_MODE, EMBEDDINGS, TENSOR_SPLIT, OVERRIDE, NO_OP_OFFLOAD,
	NO_HOST, REPACK, MMAP, DIRECT_IO, NUMA, THREADS
};

const struct pl_flag pl_llama_bench_flags[N_BENCH_FLAGS] = {
#define X(action, kind, names, negatives, env, programs) {action, PL_FLAG_##kind, names, negatives, env, programs},
#include "engine/llamabench_flags.def"
#undef X
};

/* One entry: 512, 512-4096, 512-4096+512 or 512-4096*2: its largest value. */
static int entry_most(struct pl_reader *r, const char *text, int64_t *most)
{
	char *end;
	long long n = strtoll(text, &end, 10), last = n;
	if (end == text)
		return pl_refuse(r, "'%.40s' is not a whole number: the program stops here", text);
	if (*end == '-') {
		const char *from = end + 1;
		last = strtoll(from, &end, 10);
		if (end == from)
			return pl_refuse(r, "'%.40s' is no range: the program stops here", text);
	}
	if (n < 0 || last < 0 || last > 1 << 28 || n > 1 << 28)
		return pl_refuse(r, "'%.40s' is outside 0 to %d", text, 1 << 28);
	if (last > *most)
		*most = last;
	if (n > *most)
		*most = n;
	return 0;
}

int pl_llama_list_most(struct pl_reader *r, const char *value, int64_t *ret)
{
	int64_t most = 0;
	int rc = 0;
	for (const char *at = value; *at && !rc; at += strspn(at, ",")) {
		size_t len = strcspn(at, ",");
		char *one = pl_arena_strndup(r->a, at, len);
		rc = entry_most(r, one ? one : "", &most);
		at += len;
	}
	if (!rc && most > *ret)
		*ret = most;
	return rc;
}

/* The first run of a list; what else there is becomes a note. */
static const char *first_of(struct pl_reader *r, const char *value)
{
	size_t len = strcspn(value, ",");
	char *one = pl_arena_strndup(r->a, value, len);
	if (value[len] && one)
		pl_remark(r, PL_NOTE_INFO, "%s %s is a list of runs: the plan is for the first, '%s'", r->flag, value, one);
	return one ? one : "";
}

static int flag_of(struct pl_reader *r, const char *value, bool *ret)
{
	return pl_llama_switch(r, first_of(r, value), ret);
}

/* "pp,tg": both are one run; "512,128;1024,256" does not exist, the flag is repeated. */
static int pair(struct pl_reader *r, const char *value)
{
	const char *comma = strchr(value, ',');
	int64_t pp = 0, tg = 0;
	if (!comma)
		return pl_refuse(r, "'%.40s' is not two numbers such as 512,128: the program stops here", value);
	char *one = pl_arena_strndup(r->a, value, (size_t)(comma - value));
	int rc = entry_most(r, one ? one : "", &pp);
	rc = rc ? rc : entry_most(r, comma + 1, &tg);
	if (!rc && pp + tg > r->own.llama.n_pg)
		r->own.llama.n_pg = pp + tg;
	return rc;
}

static int apply_run(struct pl_reader *r, enum action action, const char *value)
{
	switch ((int)action) {
	case MODEL: r->own.llama.model = first_of(r, value); break;
	case HF_REPO: r->own.llama.hf_repo = first_of(r, value); break;
	case HF_FILE: r->own.llama.hf_file = first_of(r, value); break;
	case PROMPT: r->own.llama.n_prompt = 0; return pl_llama_list_most(r, value, &r->own.llama.n_prompt);
	case GEN: r->own.llama.n_gen = 0; return pl_llama_list_most(r, value, &r->own.llama.n_gen);
	case PG: return pair(r, value);
	case DEPTH: return pl_llama_list_most(r, value, &r->own.llama.n_depth);
	case RPC:
		pl_remark(r, PL_NOTE_INFO, "--rpc: the devices of those servers belong in the hardware line, first: 'rpc rtx3090 + rtx4090, net 10gbe'");
		break;
	default: break;
	}
	return 0;
}

static int apply_size(struct pl_reader *r, enum action action, const char *value)
{
	struct pl_params *p = &r->cmd->params;
	int64_t n = 0;
	int rc = 0;
	switch ((int)action) {
	case BATCH:
		rc = pl_llama_list_most(r, value, &n);
		p->n_batch = n > 0 ? (uint32_t)n : p->n_batch;
		break;
	case UBATCH:
		rc = pl_llama_list_most(r, value, &n);
		p->n_ubatch = n > 0 ? (uint32_t)n : p->n_ubatch;
		break;
	case GPU_LAYERS:
		rc = pl_read_int(r, first_of(r, value), INT32_MIN, INT32_MAX, &n);
		p->n_gpu_layers = n < 0 ? PL_LLAMA_ALL : (int32_t)n;
		break;
	case N_CPU_MOE:
		rc = pl_read_int(r, first_of(r, value), 0, INT32_MAX, &n);
		p->n_cpu_moe = (int32_t)n;
		break;
	case THREADS: rc = pl_read_u32(r, first_of(r, value), 0, 65536, &p->n_threads); break;
	case MAIN_GPU: rc = pl_read_u32(r, first_of(r, value), 0, PL_MAX_DEVICES - 1, &p->main_gpu); break;
	case FIT_TARGET:
		rc = pl_read_int(r, first_of(r, value), 0, INT32_MAX, &n);
		p->fit_target_bytes = (uint64_t)n << 20;
		r->own.llama.fit = true;
		break;
	case FIT_CTX:
		rc = pl_read_int(r, first_of(r, value), 0, INT32_MAX, &n);
		p->fit_ctx_min_tokens = (uint64_t)n;
		break;
	default: break;
	}
	return rc;
}

int pl_llama_bench_apply(struct pl_reader *r, const struct pl_flag *f, const char *value, const char *value2, bool negated)
{
	struct pl_params *p = &r->cmd->params;
	bool on = false;
	int rc;
	(void)value2;
	(void)negated;
	switch ((int)f->action) {
	case NUMA: return pl_llama_numa(r, first_of(r, value));
	case TYPE_K: return pl_llama_cache_type(r, first_of(r, value), &p->type_k);
	case TYPE_V: return pl_llama_cache_type(r, first_of(r, value), &p->type_v);
	case SPLIT_MODE: return pl_llama_split_mode(r, first_of(r, value));
	case FLASH_ATTN: return pl_llama_flash(r, first_of(r, value), &p->flash_attn);
	case DEVICE:
		value = first_of(r, value);
		return strcmp(value, "auto") ? pl_llama_devices(r, value, "/", &r->cmd->devices) : 0;
	case LOAD_MODE: return pl_llama_load_mode(r, first_of(r, value));
	case TENSOR_SPLIT: return pl_llama_tensor_split(r, first_of(r, value), "/");
	case OVERRIDE: return pl_llama_overrides(r, first_of(r, value), ';');
	case NO_KV_OFFLOAD: return flag_of(r, value, &p->no_kv_offload);
	case NO_OP_OFFLOAD: return flag_of(r, value, &p->no_op_offload);
	case NO_HOST: return flag_of(r, value, &p->no_host);
	case DIRECT_IO: return flag_of(r, value, &p->no_mmap);
	case EMBEDDINGS: return flag_of(r, value, &r->own.llama.embedding);
	case REPACK:
	case MMAP:
		rc = flag_of(r, value, &on);
		*(f->action == REPACK ? &p->no_repack : &p->no_mmap) = !on;
		return rc;
	default:
		rc = apply_run(r, (enum action)f->action, value);
		return rc ? rc : apply_size(r, (enum action)f->action, value);
	}
}

int pl_llama_bench_begin(struct pl_reader *r)
{
	r->cmd->params.program = PL_LLAMA_BENCH;
	r->cmd->params.draft.n_gpu_layers = PL_AUTO;
	r->own.llama.n_prompt = 512;
	r->own.llama.n_gen = 128;
	return 0;
}

/* A run's context holds its depth and what it reads or writes; the largest run decides. */
int pl_llama_bench_finish(struct pl_reader *r)
{
	struct pl_command *c = r->cmd;
	struct pl_params *p = &c->params;
	uint64_t most = pl_max_u64((uint64_t)r->own.llama.n_prompt, (uint64_t)r->own.llama.n_gen);
	most = pl_max_u64(most, (uint64_t)r->own.llama.n_pg) + (uint64_t)r->own.llama.n_depth;
	if (!most)
		return pl_refuse(r, "no run is asked for: -p, -n and -pg are all 0");
	c->model_ref = r->own.llama.hf_repo ? pl_llama_hub_ref(r, r->own.llama.hf_repo, r->own.llama.hf_file) : r->own.llama.model;
	if (!c->model_ref)
		c->model_ref = "models/7B/ggml-model-q4_0.gguf";
	c->n_ctx_total_tokens = most;
	c->ctx_stated = c->n_seq_stated = true;
	p->n_seq = 1;
	p->engine_fit = r->own.llama.fit;
	c->all_layers = p->n_gpu_layers == PL_LLAMA_ALL || p->n_gpu_layers == PL_AUTO;
	if (c->all_layers && !p->engine_fit)
		p->n_gpu_layers = INT32_MAX;
	if (c->all_layers && p->engine_fit)
		p->n_gpu_layers = PL_AUTO;
	if (p->n_cpu_moe == PL_AUTO && !p->engine_fit)
		p->n_cpu_moe = 0;
	p->n_ubatch = p->n_ubatch > p->n_batch ? p->n_batch : p->n_ubatch;
	return 0;
}

/* ---- presets: common/arg.cpp, "-default" and "-spec" ------------------------------------------------------------------ */

int pl_llama_preset(struct pl_reader *r)
{
	static const struct {
		const char *flag, *repo, *file, *draft;
		uint32_t n_batch, n_ubatch;
		int n_parallel, ctx_each;
	} presets[] = {
	    {"--embd-gemma-default", "ggml-org/embeddinggemma-300M-qat-q4_0-GGUF", "embeddinggemma-300M-qat-Q4_0.gguf", NULL, 2048, 2048, 32, 2048},
	    {"--fim-qwen-1.5b-default", "ggml-org/Qwen2.5-Coder-1.5B-Q8_0-GGUF", "qwen2.5-coder-1.5b-q8_0.gguf", NULL, 1024, 1024, 0, 0},
	    {"--fim-qwen-3b-default", "ggml-org/Qwen2.5-Coder-3B-Q8_0-GGUF", "qwen2.5-coder-3b-q8_0.gguf", NULL, 1024, 1024, 0, 0},
	    {"--fim-qwen-7b-default", "ggml-org/Qwen2.5-Coder-7B-Q8_0-GGUF", "qwen2.5-coder-7b-q8_0.gguf", NULL, 1024, 1024, 0, 0},
	    {"--fim-qwen-7b-spec", "ggml-org/Qwen2.5-Coder-7B-Q8_0-GGUF", "qwen2.5-coder-7b-q8_0.gguf",
	     "hf:ggml-org/Qwen2.5-Coder-0.5B-Q8_0-GGUF:qwen2.5-coder-0.5b-q8_0.gguf", 1024, 1024, 0, 0},
	    {"--fim-qwen-14b-spec", "ggml-org/Qwen2.5-Coder-14B-Q8_0-GGUF", "qwen2.5-coder-14b-q8_0.gguf",
	     "hf:ggml-org/Qwen2.5-Coder-0.5B-Q8_0-GGUF:qwen2.5-coder-0.5b-q8_0.gguf", 1024, 1024, 0, 0},
	    {"--fim-qwen-30b-default", "ggml-org/Qwen3-Coder-30B-A3B-Instruct-Q8_0-GGUF", "qwen3-coder-30b-a3b-instruct-q8_0.gguf", NULL, 1024,
	     1024, 0, 0},
	    {"--gpt-oss-20b-default", "ggml-org/gpt-oss-20b-GGUF", "gpt-oss-20b-mxfp4.gguf", NULL, 32768, 2048, 2, 131072},
	    {"--gpt-oss-120b-default", "ggml-org/gpt-oss-120b-GGUF", NULL, NULL, 32768, 2048, 2, 131072},
	    {"--vision-gemma-4b-default", "ggml-org/gemma-3-4b-it-qat-GGUF", NULL, NULL, 0, 0, 0, 0},
	    {"--vision-gemma-12b-default", "ggml-org/gemma-3-12b-it-qat-GGUF", NULL, NULL, 0, 0, 0, 0},
	};
	struct pl_params *p = &r->cmd->params;
	for (size_t i = 0; i < sizeof presets / sizeof *presets; i++) {
		if (strcmp(r->flag, presets[i].flag) != 0)
			continue;
		r->own.llama.hf_repo = presets[i].repo;
		r->own.llama.hf_file = presets[i].file;
		r->cmd->draft_ref = presets[i].draft ? presets[i].draft : r->cmd->draft_ref;
		p->n_batch = presets[i].n_batch ? presets[i].n_batch : p->n_batch;
		p->n_ubatch = presets[i].n_ubatch ? presets[i].n_ubatch : p->n_ubatch;
		if (presets[i].n_parallel) {
			r->own.llama.n_parallel = presets[i].n_parallel;
			r->own.llama.n_ctx = (int64_t)presets[i].n_parallel * presets[i].ctx_each;
			r->own.llama.ctx_stated = true;
		}
		if (i == 0)
			r->own.llama.embedding = true;
	}
	return 0;
}
