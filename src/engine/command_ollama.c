/* Commands of ollama (sources of 2026-08, fb307609), which starts llama-server itself: llm/llama_server.go says with which flags.
 * Its sizes come from variables, from a Modelfile, and from options such as num_ctx=8192 written as words. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/checked.h"
#include "engine/command.h"
#include "engine/command_llamacpp.h"

enum action { NOTHING, MODELFILE };

static const struct pl_flag flags[] = {
#define X(action, kind, names, negatives, env, programs) {action, PL_FLAG_##kind, names, negatives, env, programs},
#include "engine/ollama_flags.def"
#undef X
};

static int cache_type(struct pl_reader *r, const char *value)
{
	struct pl_params *p = &r->cmd->params;
	int rc = pl_llama_cache_type(r, value, &p->type_k);
	p->type_v = p->type_k;
	return rc;
}

/* An option of the API or a PARAMETER of a Modelfile. */
static int option(struct pl_reader *r, const char *name, const char *value, bool *known)
{
	struct pl_params *p = &r->cmd->params;
	*known = true;
	r->flag = name;
	if (!strcasecmp(name, "num_ctx")) {
		r->own.ollama.ctx_stated = true;
		return pl_read_int(r, value, 1, 1 << 28, &r->own.ollama.n_ctx);
	}
	if (!strcasecmp(name, "num_gpu"))
		return pl_read_int(r, value, -1, INT32_MAX, &r->own.ollama.n_gpu);
	if (!strcasecmp(name, "num_batch"))
		return pl_read_int(r, value, 1, 1 << 20, &r->own.ollama.n_batch);
	if (!strcasecmp(name, "draft_num_predict"))
		return pl_read_int(r, value, 0, 1024, &r->own.ollama.n_draft);
	if (!strcasecmp(name, "main_gpu")) { /* with it the whole model goes to that GPU */
		p->split_mode = PL_SPLIT_NONE;
		return pl_read_u32(r, value, 0, PL_MAX_DEVICES - 1, &p->main_gpu);
	}
	if (!strcasecmp(name, "use_mmap")) {
		p->no_mmap = !strcmp(value, "false") || !strcmp(value, "0");
		return 0;
	}
	*known = false;
	return 0;
}

static int apply(struct pl_reader *r, const struct pl_flag *f, const char *value, const char *value2, bool negated)
{
	(void)value2;
	(void)negated;
	if (f->action == MODELFILE)
		r->own.ollama.modelfile = value;
	return 0;
}

static int word(struct pl_reader *r, const char *w)
{
	const char *eq = strchr(w, '=');
	if (eq) {
		bool known;
		char *name = pl_arena_strndup(r->a, w, (size_t)(eq - w));
		int rc = name ? option(r, name, eq + 1, &known) : 0;
		if (rc || (name && known))
			return rc;
	}
	if (!r->own.ollama.model)
		r->own.ollama.model = w; /* what follows is the prompt */
	return 0;
}

static bool variable(struct pl_reader *r, const char *name, const char *value, int *rc)
{
	struct pl_params *p = &r->cmd->params;
	int64_t n = 0;
	if (!strcmp(name, "OLLAMA_CONTEXT_LENGTH")) {
		*rc = pl_read_int(r, value, 1, 1 << 28, &r->own.ollama.n_ctx);
		r->own.ollama.ctx_stated = true;
	} else if (!strcmp(name, "OLLAMA_NUM_PARALLEL")) {
		*rc = pl_read_int(r, value, 0, 256, &n);
		r->own.ollama.n_parallel = n ? n : 1;
	} else if (!strcmp(name, "OLLAMA_KV_CACHE_TYPE")) {
		*rc = cache_type(r, value);
	} else if (!strcmp(name, "OLLAMA_FLASH_ATTENTION")) {
		*rc = pl_llama_flash(r, value, &p->flash_attn);
	} else if (!strcmp(name, "OLLAMA_GPU_OVERHEAD")) {
		*rc = pl_read_int(r, value, 0, INT64_MAX, &n);
		p->fit_target_bytes = pl_sat_add(UINT64_C(1) << 30, (uint64_t)n); /* beside what -fit leaves free */
	} else if (!strcmp(name, "OLLAMA_MAX_LOADED_MODELS") || !strcmp(name, "OLLAMA_SCHED_SPREAD")) {
		pl_remark(r, PL_NOTE_INFO, "%s: the plan is for one model over all devices", name);
	} else {
		return !strncmp(name, "OLLAMA_", 7);
	}
	return true;
}

static int begin(struct pl_reader *r)
{
	struct pl_params *p = &r->cmd->params;
	p->program = PL_LLAMA_SERVER;
	p->engine_fit = true;
	p->cache_ram_bytes = UINT64_C(8192) << 20;
	r->own.ollama.n_parallel = 1;
	r->own.ollama.n_gpu = -1;
	r->own.ollama.n_batch = 512; /* api/types.go, DefaultOptions */
	return 0;
}

/* FROM and PARAMETER lines; everything else of a Modelfile changes no memory. */
static int modelfile(struct pl_reader *r)
{
	const char *text = NULL, *path = r->own.ollama.modelfile;
	size_t len = 0;
	if (!path)
		return 0;
	if (!r->files)
		return pl_refuse(r, "the file '%.100s' cannot be read here", path);
	int rc = r->files->read(r->files->ctx, r->a, path, &text, &len, r->err);
	for (size_t at = 0; !rc && at < len;) {
		size_t n = strcspn(text + at, "\r\n"), n1, n2;
		char *line = pl_arena_strndup(r->a, text + at, n < len - at ? n : len - at), *first = line, *second;
		bool known;
		at += n + 1;
		if (!line)
			break;
		n1 = strcspn(first, " \t");
		second = first + n1 + strspn(first + n1, " \t");
		if (n1 == 4 && !strncasecmp(first, "FROM", 4)) {
			r->own.ollama.model = second;
		} else if (n1 == 9 && !strncasecmp(first, "PARAMETER", 9)) {
			n2 = strcspn(second, " \t");
			char *value = second + n2 + strspn(second + n2, " \t");
			second[n2] = '\0';
			rc = option(r, second, value, &known);
		} else if (n1 == 7 && !strncasecmp(first, "ADAPTER", 7)) {
			pl_remark(r, PL_NOTE_WARNING, "%s: adapters take memory beside the model, which is not counted", "ADAPTER");
		}
	}
	return rc;
}

/* "hf.co/owner/repo:Q4_K_M" is a repository; "llama3.1:8b-instruct-q8_0" is the library's name, where a name without a
 * precision means Q4_K_M. */
static void name_model(struct pl_reader *r, const char *name)
{
	static const char *const hubs[] = {"hf.co/", "huggingface.co/"};
	struct pl_command *c = r->cmd;
	for (size_t i = 0; i < 2; i++)
		if (!strncmp(name, hubs[i], strlen(hubs[i]))) {
			c->model_ref = pl_arena_printf(r->a, "hf:%s", name + strlen(hubs[i]));
			return;
		}
	const char *colon = strchr(name, ':');
	if (strchr(name, '/') || !colon || strstr(name, ".gguf") || *name == '.') {
		c->model_ref = name;
		return;
	}
	char *tag = pl_arena_strdup(r->a, colon + 1), *dash = tag ? strstr(tag, "-q") : NULL;
	c->quant = "q4_k_m";
	if (dash) {
		c->quant = pl_arena_strdup(r->a, dash + 1);
		*dash = '\0';
	} else if (tag && strstr(tag, "-fp16")) {
		c->quant = "f16";
		*strstr(tag, "-fp16") = '\0';
	}
	c->model_ref = tag && strcmp(tag, "latest") != 0 ? pl_arena_printf(r->a, "%.*s-%s", (int)(colon - name), name, tag)
	                                                 : pl_arena_strndup(r->a, name, (size_t)(colon - name));
}

static int finish(struct pl_reader *r)
{
	struct pl_command *c = r->cmd;
	struct pl_params *p = &c->params;
	int rc = modelfile(r);
	if (rc)
		return rc;
	if (r->own.ollama.model)
		name_model(r, r->own.ollama.model);
	p->n_seq = (uint32_t)r->own.ollama.n_parallel;
	p->n_batch = p->n_ubatch = (uint32_t)r->own.ollama.n_batch;
	c->ctx_stated = c->n_seq_stated = true;
	c->ollama_ctx = !r->own.ollama.ctx_stated;
	c->n_ctx_total_tokens = pl_sat_mul((uint64_t)r->own.ollama.n_ctx, p->n_seq);
	p->draft.n_max = (uint32_t)r->own.ollama.n_draft;
	p->draft.mtp = r->own.ollama.n_draft > 0;
	p->draft.n_gpu_layers = PL_AUTO;
	if (r->own.ollama.n_gpu >= 0) {
		p->n_gpu_layers = (int32_t)r->own.ollama.n_gpu;
		p->n_cpu_moe = 0;
	}
	return 0;
}

#define ROW(sub) \
	{"ollama", sub, "", "llama.cpp", "fb307609", flags, sizeof flags / sizeof *flags, 1, PL_STYLE_EQUALS, begin, apply, word, variable, finish}

const struct pl_program pl_programs_ollama[] = {
    ROW("run"),
    ROW("serve|start"),
    ROW("create"),
    {0},
};
