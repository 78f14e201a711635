#include <stdlib.h>
#include <string.h>

#include <plimsoll/calibrate.h>
#include <plimsoll/plan.h>
#include <plimsoll/probe.h>
#include <plimsoll/source.h>

#include "cli/engine_command.h"
#include "cli/plan_job.h"

static int cache_type(struct pl_plan_job *j, const char *option, enum pl_dtype *ret)
{
	const char *name = pl_cli_text(j->cli, option);
	char where[32];
	if (!name)
		return 0;
	(void)snprintf(where, sizeof where, "--%s", option);
	if (!strncasecmp(name, "fp8", 3))
		name = strstr(name, "e5m2") ? "f8_e5m2" : "f8_e4m3";
	if (!strcasecmp(name, "fp16") || !strcasecmp(name, "float16"))
		name = "f16";
	if (!strcasecmp(name, "bfloat16"))
		name = "bf16";
	*ret = pl_dtype_from_name(name);
	if (*ret == PL_DTYPE_UNKNOWN)
		return pl_fail(&j->err, PL_ERR_UNKNOWN_NAME, where, "no element type is called '%.40s'; f16, bf16, q8_0, q4_0 and fp8 are common", name);
	return 0;
}

static int cpu_moe(struct pl_plan_job *j, int32_t *ret)
{
	const char *text = pl_cli_text(j->cli, "cpu-moe");
	char *end;
	if (!text)
		return 0;
	if (!strcmp(text, "all")) {
		*ret = (int32_t)j->req.model->n_layers;
		return 0;
	}
	long n = strtol(text, &end, 10);
	if (end == text || *end || n < 0 || n > 100000)
		return pl_fail(&j->err, PL_ERR_USAGE, "--cpu-moe", "'%.40s' is neither 'all' nor a number of layers", text);
	*ret = (int32_t)n;
	return 0;
}

static int tensor_split(struct pl_plan_job *j, double *split)
{
	const char *text = pl_cli_text(j->cli, "tensor-split");
	double sum = 0;
	int n = 0;
	while (text && *text) {
		char *end;
		double v = strtod(text, &end);
		if (end == text || !(v >= 0) || v > 1e12)
			return pl_fail(&j->err, PL_ERR_USAGE, "--tensor-split", "'%.40s' is not a share of 0 or more", text);
		if (n == PL_MAX_DEVICES || (uint32_t)n >= j->req.machine->n_devices)
			return pl_fail(&j->err, PL_ERR_USAGE, "--tensor-split", "more shares than the %u devices", j->req.machine->n_devices);
		split[n++] = v;
		sum += v;
		text = *end == ',' || *end == '/' ? end + 1 : end;
		if (*end && *end != ',' && *end != '/')
			return pl_fail(&j->err, PL_ERR_USAGE, "--tensor-split", "'%.40s' is not understood; write 3,2", end);
	}
	if (n && !(sum > 0))
		return pl_fail(&j->err, PL_ERR_USAGE, "--tensor-split", "all shares are 0");
	return 0;
}

static int read_params(struct pl_plan_job *j)
{
	const struct pl_cli *c = j->cli;
	struct pl_params *p = &j->req.params;
	const char *mode = pl_cli_text(c, "split-mode"), *fa = pl_cli_text(c, "flash-attn");
	const char *prefixes = pl_cli_text(c, "prefix-caching"), *attention = pl_cli_text(c, "attention");
	pl_params_default(p);
	p->n_ctx_tokens = (uint64_t)pl_cli_number(c, "context", 0);
	p->n_seq = (uint32_t)pl_cli_number(c, "concurrency", 1);
	p->n_batch = (uint32_t)pl_cli_number(c, "batch", p->n_batch);
	p->n_ubatch = (uint32_t)pl_cli_number(c, "ubatch", p->n_ubatch);
	p->n_gpu_layers = (int32_t)pl_cli_number(c, "gpu-layers", p->n_gpu_layers);
	p->main_gpu = (uint32_t)pl_cli_number(c, "main-gpu", 0);
	p->flash_attn = !fa || !strcmp(fa, "auto") ? PL_AUTO : !strcmp(fa, "on");
	p->split_mode = !mode || !strcmp(mode, "layer") ? PL_SPLIT_LAYER : !strcmp(mode, "row") ? PL_SPLIT_ROW : PL_SPLIT_NONE;
	p->kv_unified = pl_cli_flag(c, "kv-unified");
	p->swa_full = pl_cli_flag(c, "swa-full");
	p->no_kv_offload = pl_cli_flag(c, "no-kv-offload");
	p->no_mmap = pl_cli_flag(c, "no-mmap");
	p->mlock = pl_cli_flag(c, "mlock");
	p->tensor_parallel = (uint32_t)pl_cli_number(c, "tensor-parallel", 0);
	p->pipeline_parallel = (uint32_t)pl_cli_number(c, "pipeline-parallel", 0);
	p->data_parallel = (uint32_t)pl_cli_number(c, "data-parallel", 0);
	p->expert_parallel = pl_cli_flag(c, "expert-parallel");
	p->gpu_memory_utilization_frac = pl_cli_number(c, "gpu-memory-utilization", 0);
	p->max_num_batched_tokens = (uint32_t)pl_cli_number(c, "max-num-batched-tokens", 0);
	p->max_num_seqs = (uint32_t)pl_cli_number(c, "max-num-seqs", 0);
	p->block_size = (uint32_t)pl_cli_number(c, "block-size", 0);
	p->enforce_eager = pl_cli_flag(c, "enforce-eager");
	p->kv_cache_memory_bytes = (uint64_t)pl_cli_number(c, "kv-cache-memory-bytes", 0);
	p->prefix_caching_on = prefixes && !strcmp(prefixes, "on");
	p->prefix_caching_off = prefixes && !p->prefix_caching_on;
	p->language_model_only = pl_cli_flag(c, "language-model-only");
	p->max_loras = (uint32_t)pl_cli_number(c, "max-loras", 0);
	p->max_lora_rank = (uint32_t)pl_cli_number(c, "max-lora-rank", 0);
	p->engine_version = pl_cli_text(c, "engine-version");
	p->dp_attention = pl_cli_flag(c, "dp-attention");
	p->max_total_tokens = (uint64_t)pl_cli_number(c, "max-total-tokens", 0);
	p->attention_eager = attention && !strcmp(attention, "eager");
	p->device_map_auto = pl_cli_flag(c, "device-map-auto");
	p->offload_folder = pl_cli_text(c, "offload-folder");
	const char *zero = pl_cli_text(c, "zero-stage"), *shards = pl_cli_text(c, "offload-param-device");
	p->zero_stage = zero && !strcmp(zero, "3") ? 3 : 0;
	p->zero_offload = !shards || !strcmp(shards, "none") ? PL_ZERO_GPU : !strcmp(shards, "cpu") ? PL_ZERO_CPU : PL_ZERO_NVME;
	int rc = cache_type(j, "kv-type", &p->type_k);
	p->type_v = p->type_k;
	rc = rc ? rc : cache_type(j, "kv-type-k", &p->type_k);
	rc = rc ? rc : cache_type(j, "kv-type-v", &p->type_v);
	rc = rc ? rc : cpu_moe(j, &p->n_cpu_moe);
	return rc ? rc : tensor_split(j, p->tensor_split);
}

static int disk(struct pl_plan_job *j)
{
	const char *text = pl_cli_text(j->cli, "disk");
	return text ? pl_disk_find(text, &j->req.disk_bytes_per_s, &j->err) : 0;
}

static int constants(struct pl_plan_job *j)
{
	const char *path = pl_cli_text(j->cli, "calibration");
	return path ? pl_constants_load(j->a, path, &j->req.constants, &j->err) : 0;
}

/* What speed is asked for. */
static int read_question(struct pl_plan_job *j)
{
	const struct pl_cli *c = j->cli;
	struct pl_speed_question *q = &j->req.question;
	q->prompt_tokens = pl_cli_number(c, "prompt-tokens", 512);
	q->depth_tokens = pl_cli_number(c, "depth", 0);
	q->output_tokens = pl_cli_number(c, "output-tokens", 256);
	q->draft_tokens = pl_cli_number(c, "speculate", 0);
	const char *acceptance = pl_cli_text(c, "acceptance");
	char *end;
	q->acceptance_length = acceptance ? strtod(acceptance, &end) : 0;
	if (acceptance && (end == acceptance || *end || !(q->acceptance_length >= 1) || q->acceptance_length > q->draft_tokens + 1))
		return pl_fail(&j->err, PL_ERR_USAGE, "--acceptance", "'%.40s' is not 1 to K + 1 tokens of --speculate K", acceptance);
	j->req.power_limit_w = pl_cli_number(c, "power-limit", 0);
	int rc = disk(j);
	return rc ? rc : constants(j);
}

static bool is_record(const char *on)
{
	size_t len = strlen(on);
	return len > 5 && !strcmp(on + len - 5, ".json");
}

/* A machine by its facts: this one, or one that 'plimsoll gather' wrote down. What other programs hold on the cards is left
 * out of the plan unless --use-total-memory says otherwise. */
static int probe(struct pl_plan_job *j, struct pl_facts *facts)
{
	const struct pl_probe_options options = {.facts = facts};
	int rc = pl_probe_machine(j->a, &options, &j->req.machine, &j->probe_notes, &j->err);
	if (rc || !pl_cli_flag(j->cli, "use-total-memory"))
		return rc;
	for (uint32_t i = 0; i < j->req.machine->n_devices; i++)
		j->req.machine->devices[i].free_bytes = j->req.machine->devices[i].total_bytes;
	return 0;
}

static int find_engine(struct pl_plan_job *j)
{
	const char *zero = pl_cli_text(j->cli, "zero-stage"), *asked = pl_cli_text(j->cli, "engine"), *of_command = j->command ? j->command->engine : NULL;
	int rc = asked ? pl_engine_find(asked, &j->req.engine, &j->err) : 0;
	if (!rc && of_command && asked && strcmp(j->req.engine->id, of_command) != 0)
		return pl_fail(&j->err, PL_ERR_USAGE, "--engine", "'%s' contradicts the command, which runs %s", asked, of_command);
	rc = rc || !of_command ? rc : pl_engine_find(of_command, &j->req.engine, &j->err);
	bool shards = zero && !strcmp(zero, "3");
	if (!rc && !shards && pl_cli_text(j->cli, "offload-param-device"))
		return pl_fail(&j->err, PL_ERR_USAGE, "--offload-param-device", "it says where shards lie: --zero-stage 3 makes them");
	if (rc || !shards)
		return rc;
	if (!j->req.engine) /* only one is run by DeepSpeed */
		return pl_engine_find("transformers", &j->req.engine, &j->err);
	if (strcmp(j->req.engine->id, "transformers") != 0)
		return pl_fail(&j->err, PL_ERR_USAGE, "--zero-stage", "weights are sharded so by Transformers, not by %s", j->req.engine->id);
	return 0;
}

static int find_machine(struct pl_plan_job *j, struct pl_facts *facts)
{
	const char *on = pl_cli_text(j->cli, "on");
	struct pl_facts *record = NULL;
	if (!on || !strcmp(on, "local"))
		return probe(j, facts);
	if (!is_record(on))
		return pl_load_machine(j->a, on, &j->req.machine, &j->err);
	int rc = pl_facts_load(on, &record, &j->err);
	rc = rc ? rc : probe(j, record);
	pl_facts_free(record);
	return rc;
}

int pl_plan_job_init(struct pl_plan_job *j, const struct pl_cli *cli, const char *model_ref, struct pl_facts *facts)
{
	*j = (struct pl_plan_job){.cli = cli, .a = pl_arena_new(0)};
	if (!j->a)
		return pl_fail(&j->err, PL_ERR_NOMEM, NULL, "out of memory");
	int rc = cli->tail ? pl_tail_read(j) : 0;
	rc = rc ? rc : find_machine(j, facts);
	rc = rc ? rc : find_engine(j);
	if (!rc && j->command)
		return pl_tail_apply(j, model_ref);
	if (!rc)
		rc = pl_load(j->a, model_ref, pl_cli_text(cli, "quant"), &j->loaded, &j->req.model, &j->err);
	j->req.model_ref = model_ref;
	return rc ? rc : read_params(j);
}

int pl_plan_job_make(struct pl_plan_job *j, const struct pl_plan **ret_plan)
{
	int rc = read_question(j);
	rc = rc ? rc : pl_plan_make(j->a, &j->req, ret_plan, &j->err);
	if (!rc && !j->cli->json)
		for (const struct pl_note *n = j->probe_notes; n; n = n->next)
			(void)fprintf(stderr, "plimsoll: %s\n", n->text);
	return rc;
}

void pl_plan_job_release(struct pl_plan_job *j)
{
	pl_loaded_free(j->loaded);
	pl_loaded_free(j->draft);
	pl_loaded_free(j->mmproj);
	pl_arena_free(j->a);
	*j = (struct pl_plan_job){0};
}
