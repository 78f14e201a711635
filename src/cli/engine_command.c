#include <stdlib.h>
#include <string.h>

#include "cli/engine_command.h"

enum { MAX_FILE_BYTES = 1 << 20 };

/* Configuration files that a command names, as the shell that runs it would see them. */
static int read_file(void *ctx, struct pl_arena *a, const char *path, const char **ret_text, size_t *ret_len, struct pl_err *err)
{
	FILE *f = fopen(path, "rb");
	(void)ctx;
	if (!f)
		return pl_fail(err, PL_ERR_IO, path, "the file cannot be opened");
	char *text = pl_arena_alloc(a, MAX_FILE_BYTES);
	size_t n = text ? fread(text, 1, MAX_FILE_BYTES, f) : 0;
	bool more = n == MAX_FILE_BYTES, bad = ferror(f) != 0;
	(void)fclose(f);
	if (!text)
		return pl_fail(err, PL_ERR_NOMEM, path, "out of memory");
	if (bad)
		return pl_fail(err, PL_ERR_IO, path, "the file cannot be read");
	if (more)
		return pl_fail(err, PL_ERR_LIMIT, path, "the file is larger than 1 MiB");
	*ret_text = text;
	*ret_len = n;
	return 0;
}

/* Knobs of the engines: a command says them itself. */
static const char *const restated[] = {"kv-type", "kv-type-k", "kv-type-v", "batch", "ubatch", "gpu-layers", "cpu-moe", "flash-attn",
                                       "tensor-split", "split-mode", "main-gpu", "kv-unified", "swa-full", "no-kv-offload", "no-mmap",
                                       "mlock", "tensor-parallel", "pipeline-parallel", "data-parallel", "expert-parallel",
                                       "gpu-memory-utilization", "max-num-batched-tokens", "max-num-seqs", "block-size", "enforce-eager"};

int pl_tail_read(struct pl_plan_job *j)
{
	static const struct pl_command_files files = {.read = read_file};
	char where[64];
	int rc = pl_command_read(j->a, j->cli->tail, j->cli->n_tail, &files, &j->command, &j->err);
	for (size_t i = 0; !rc && i < sizeof restated / sizeof *restated; i++) {
		if (!pl_cli_flag(j->cli, restated[i]))
			continue;
		(void)snprintf(where, sizeof where, "--%s", restated[i]);
		rc = pl_fail(&j->err, PL_ERR_USAGE, where, "the command after '--' says this itself: write it there, as a flag of %s",
		             j->command->program);
	}
	return rc;
}

/* --context and --concurrency hold where the command leaves them open; where it does not, they may only agree. */
static int lay_options_under(struct pl_plan_job *j)
{
	struct pl_params *p = &j->command->params;
	uint64_t ctx = (uint64_t)pl_cli_number(j->cli, "context", 0);
	uint32_t n = (uint32_t)pl_cli_number(j->cli, "concurrency", 0);
	if (ctx && j->command->ctx_stated && ctx != p->n_ctx_tokens)
		return pl_fail(&j->err, PL_ERR_USAGE, "--context", "%llu contradicts the command, which gives a sequence %llu tokens",
		               (unsigned long long)ctx, (unsigned long long)p->n_ctx_tokens);
	if (n && j->command->n_seq_stated && n != p->n_seq)
		return pl_fail(&j->err, PL_ERR_USAGE, "--concurrency", "%u contradicts the command, which opens %u sequences", n, p->n_seq);
	if (ctx)
		p->n_ctx_tokens = ctx;
	if (n)
		p->n_seq = n;
	return 0;
}

/* A precision that the command asks for counts where the files do not fix one. */
static int load_model(struct pl_plan_job *j, const char *ref)
{
	const char *quant = pl_cli_text(j->cli, "quant"), *of_command = j->command->quant, *over = j->command->hf_overrides;
	struct pl_err first = {0};
	if (quant || !of_command)
		return pl_load_changed(j->a, ref, quant, over, &j->loaded, &j->req.model, &j->err);
	if (!pl_load_changed(j->a, ref, of_command, over, &j->loaded, &j->req.model, &first))
		return 0;
	if (!pl_load_changed(j->a, ref, NULL, over, &j->loaded, &j->req.model, &j->err))
		return 0;
	j->err = first;
	return -(int)first.code;
}

static int load_others(struct pl_plan_job *j)
{
	struct pl_params *p = &j->command->params;
	int rc = 0;
	if (j->command->draft_ref) {
		p->draft.ref = j->command->draft_ref;
		rc = pl_load(j->a, p->draft.ref, NULL, &j->draft, &p->draft.model, &j->err);
	}
	if (!rc && j->command->mmproj_ref) {
		p->mmproj_ref = j->command->mmproj_ref;
		rc = pl_load(j->a, p->mmproj_ref, NULL, &j->mmproj, &p->mmproj, &j->err);
	}
	return rc;
}

int pl_tail_apply(struct pl_plan_job *j, const char *model_ref)
{
	struct pl_command *c = j->command;
	const char *ref = model_ref ? model_ref : c->model_ref;
	if (!ref)
		return pl_fail(&j->err, PL_ERR_USAGE, c->program, "the command names no model: name one before '--'");
	int rc = pl_command_machine(j->a, c, j->req.machine, &j->req.machine, &j->err);
	rc = rc ? rc : load_model(j, ref);
	if (rc && !model_ref && j->err.code == PL_ERR_IO)
		rc = pl_fail(&j->err, PL_ERR_IO, ref, "there is no such file here; name the model before '--' to plan without it");
	rc = rc ? rc : load_others(j);
	rc = rc ? rc : pl_command_settle(j->a, c, j->req.model, j->req.machine, &j->err);
	rc = rc ? rc : lay_options_under(j);
	if (!rc && c->hf_overrides && j->req.model->format == PL_FORMAT_GGUF)
		pl_note_add(j->a, &c->notes, PL_NOTE_WARNING, "a GGUF file has no config that could be overridden");
	j->req.params = c->params;
	j->req.command = c;
	j->req.model_ref = c->model_ref ? c->model_ref : ref;
	return rc;
}
