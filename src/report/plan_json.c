#include "engine/argv.h"
#include "report/json.h"
#include "report/report.h"

static json_t *model(const struct pl_model *m)
{
	static const char *const formats[] = {"config", "gguf", "safetensors"};
	json_t *o = json_object();
	rj_put(o, "name", rj_text(m->name));
	rj_put(o, "architecture", rj_text(m->arch));
	rj_put(o, "architecture_known", json_boolean(m->arch_known));
	rj_put(o, "format", json_string(formats[m->format]));
	rj_put(o, "quantization", rj_text(m->quant_name));
	rj_put(o, "parameters", rj_size(m->n_params));
	rj_put(o, "active_parameters", rj_size(m->n_params_active));
	rj_put(o, "mtp_parameters", rj_size(m->n_params_mtp));
	rj_put(o, "vision_parameters", rj_size(m->n_params_vision));
	rj_put(o, "weight_bytes", rj_size(m->weight_bytes));
	rj_put(o, "file_bytes", m->file_bytes ? rj_size(m->file_bytes) : json_null());
	rj_put(o, "n_tensors", rj_size(m->n_tensors));
	rj_put(o, "n_layers", rj_size(m->n_layers));
	rj_put(o, "n_embd", rj_size(m->n_embd));
	rj_put(o, "n_vocab", rj_size(m->n_vocab));
	rj_put(o, "n_ctx_train", m->n_ctx_train ? rj_size(m->n_ctx_train) : json_null());
	return o;
}

static json_t *use(const struct pl_use *u)
{
	uint64_t used = pl_use_total_bytes(u);
	json_t *o = json_object();
	rj_put(o, "name", rj_text(u->name));
	rj_put(o, "total_bytes", rj_size(u->total_bytes));
	rj_put(o, "used_bytes", rj_size(used));
	rj_put(o, "model_bytes", rj_size(u->model_bytes));
	rj_put(o, "context_bytes", rj_size(pl_use_context_bytes(u)));
	rj_put(o, "kv_bytes", rj_size(u->kv_bytes));
	rj_put(o, "state_bytes", rj_size(u->state_bytes));
	rj_put(o, "compute_bytes", rj_size(u->compute_bytes));
	rj_put(o, "overhead_bytes", rj_size(u->overhead_bytes));
	rj_put(o, "free_bytes", rj_size(u->total_bytes > used ? u->total_bytes - used : 0));
	rj_put(o, "n_layers", rj_size(u->n_layers));
	return o;
}

static json_t *memory(const struct pl_plan *p)
{
	const struct pl_host_use *h = &p->layout.host;
	json_t *o = json_object(), *devices = json_array(), *host = json_object();
	for (uint32_t i = 0; i < p->layout.n_devices; i++)
		(void)json_array_append_new(devices, use(&p->layout.devices[i]));
	rj_put(host, "total_bytes", rj_opt(p->machine->ram_bytes));
	rj_put(host, "free_bytes", rj_opt(p->machine->ram_free_bytes));
	rj_put(host, "model_bytes", rj_size(h->use.model_bytes));
	rj_put(host, "mapped_bytes", rj_size(h->mapped_bytes));
	rj_put(host, "context_bytes", rj_size(pl_use_context_bytes(&h->use)));
	rj_put(host, "kv_bytes", rj_size(h->use.kv_bytes));
	rj_put(host, "state_bytes", rj_size(h->use.state_bytes));
	rj_put(host, "compute_bytes", rj_size(h->use.compute_bytes));
	rj_put(host, "overhead_bytes", rj_size(h->use.overhead_bytes));
	rj_put(host, "peak_load_bytes", rj_size(h->peak_load_bytes));
	rj_put(host, "rest_bytes", rj_size(h->rest_bytes));
	rj_put(o, "devices", devices);
	rj_put(o, "host", host);
	rj_put(o, "fits", json_boolean(p->layout.fits));
	rj_put(o, "missing_bytes", rj_size(p->layout.missing_bytes));
	rj_put(o, "missing_on", rj_text(p->layout.where_missing));
	rj_put(o, "spare_bytes", rj_size(p->layout.spare_bytes));
	return o;
}

static json_t *limits(const struct pl_plan *p)
{
	json_t *o = json_object();
	rj_put(o, "max_context_tokens", rj_opt(p->limits.max_context_tokens));
	rj_put(o, "max_sequences", rj_opt(p->limits.max_sequences));
	rj_put(o, "context_is_model_limit", json_boolean(p->limits.context_is_model_limit));
	return o;
}

static json_t *request(const struct pl_plan *p)
{
	json_t *o = json_object();
	rj_put(o, "context_tokens", rj_size(p->layout.n_ctx_tokens));
	rj_put(o, "concurrency", rj_size(p->params.n_seq));
	rj_put(o, "n_batch", rj_size(p->params.n_batch));
	rj_put(o, "n_ubatch", rj_size(p->params.n_ubatch));
	rj_put(o, "n_gpu_layers", json_integer(p->params.n_gpu_layers));
	rj_put(o, "n_cpu_moe", json_integer(p->params.n_cpu_moe));
	rj_put(o, "tensor_parallel", rj_size(p->params.tensor_parallel));
	rj_put(o, "pipeline_parallel", rj_size(p->params.pipeline_parallel));
	rj_put(o, "data_parallel", rj_size(p->params.data_parallel));
	rj_put(o, "expert_parallel", json_boolean(p->params.expert_parallel));
	rj_put(o, "gpu_memory_utilization", json_real(p->params.gpu_memory_utilization_frac));
	return o;
}

static json_t *knobs(json_t *o, const struct pl_params *p, uint32_t n_devices)
{
	static const char *const modes[] = {"layer", "row", "none"}, *const shards[] = {"none", "cpu", "nvme"};
	json_t *split = json_array(), *overrides = json_array();
	bool any = false;
	for (uint32_t i = 0; i < n_devices && i < PL_MAX_DEVICES; i++)
		any |= p->tensor_split[i] > 0;
	for (uint32_t i = 0; any && i < n_devices && i < PL_MAX_DEVICES; i++)
		(void)json_array_append_new(split, json_real(p->tensor_split[i]));
	for (uint32_t i = 0; i < p->n_overrides; i++)
		(void)json_array_append_new(overrides, json_pack("{s:s,s:s}", "pattern", p->overrides[i].pattern, "buffer", p->overrides[i].buffer));
	rj_put(o, "type_k", rj_text(p->type_k ? pl_dtype_name(p->type_k) : NULL));
	rj_put(o, "type_v", rj_text(p->type_v ? pl_dtype_name(p->type_v) : NULL));
	rj_put(o, "flash_attn", p->flash_attn < 0 ? json_null() : json_boolean(p->flash_attn));
	rj_put(o, "split_mode", json_string(modes[p->split_mode]));
	rj_put(o, "main_gpu", rj_size(p->main_gpu));
	rj_put(o, "tensor_split", split);
	rj_put(o, "override_tensor", overrides);
	rj_put(o, "kv_unified", json_boolean(p->kv_unified));
	rj_put(o, "swa_full", json_boolean(p->swa_full));
	rj_put(o, "no_kv_offload", json_boolean(p->no_kv_offload));
	rj_put(o, "no_mmap", json_boolean(p->no_mmap));
	rj_put(o, "mlock", json_boolean(p->mlock));
	rj_put(o, "no_repack", json_boolean(p->no_repack));
	rj_put(o, "max_num_batched_tokens", rj_size(p->max_num_batched_tokens));
	rj_put(o, "max_num_seqs", rj_size(p->max_num_seqs));
	rj_put(o, "enforce_eager", json_boolean(p->enforce_eager));
	rj_put(o, "zero_stage", rj_size(p->zero_stage));
	rj_put(o, "offload_param_device", json_string(shards[p->zero_offload]));
	return o;
}

/* The engine's command that was asked about, flag by flag. */
static json_t *asked_command(const struct pl_command *c)
{
	static const char *const effects[] = {"read", "harmless", "unknown"};
	json_t *o = json_object(), *list = json_array();
	for (uint32_t i = 0; i < c->n_settings; i++) {
		json_t *s = json_object();
		rj_put(s, "flag", rj_text(c->settings[i].flag));
		rj_put(s, "value", c->settings[i].value ? json_string(c->settings[i].value) : json_null());
		rj_put(s, "effect", json_string(effects[c->settings[i].effect]));
		(void)json_array_append_new(list, s);
	}
	rj_put(o, "program", rj_text(c->program));
	rj_put(o, "version", rj_text(c->version));
	rj_put(o, "model", rj_text(c->model_ref));
	rj_put(o, "draft_model", rj_text(c->draft_ref));
	rj_put(o, "mmproj", rj_text(c->mmproj_ref));
	rj_put(o, "settings", list);
	return o;
}

static json_t *suggestions(const struct pl_plan *p)
{
	static const char *const changes[] = {
	    [PL_CHANGE_KV_TYPE] = "kv_type",       [PL_CHANGE_CONTEXT] = "context",
	    [PL_CHANGE_SEQUENCES] = "concurrency", [PL_CHANGE_QUANT] = "quantization",
	    [PL_CHANGE_OFFLOAD] = "offload",       [PL_CHANGE_ENGINE] = "engine",
	    [PL_CHANGE_MORE_CARDS] = "more_cards", [PL_CHANGE_MORE_RAM] = "more_ram",
	    [PL_CHANGE_FREE_MEMORY] = "free_memory", [PL_CHANGE_UBATCH] = "ubatch",
	};
	json_t *list = json_array();
	for (uint32_t i = 0; i < p->n_suggestions; i++) {
		const struct pl_suggestion *s = &p->suggestions[i];
		json_t *o = json_object();
		rj_put(o, "change", json_string(changes[s->change]));
		rj_put(o, "text", rj_text(s->text));
		rj_put(o, "option", rj_text(s->option));
		rj_put(o, "verdict", json_string(pl_verdict_name(s->verdict)));
		rj_put(o, "spare_bytes", rj_size(s->spare_bytes));
		(void)json_array_append_new(list, o);
	}
	return list;
}

static json_t *notes(const struct pl_plan *p)
{
	json_t *list = json_array();
	for (const struct pl_note *n = p->notes; n; n = n->next) {
		json_t *o = json_object();
		rj_put(o, "level", json_string(n->level == PL_NOTE_WARNING ? "warning" : "info"));
		rj_put(o, "text", rj_text(n->text));
		(void)json_array_append_new(list, o);
	}
	return list;
}

static json_t *engine(const struct pl_plan *p)
{
	json_t *o = json_object();
	rj_put(o, "id", json_string(p->engine->id));
	rj_put(o, "version", rj_text(p->params.engine_version ? p->params.engine_version : p->engine->version));
	rj_put(o, "reason", rj_text(p->engine_reason));
	return o;
}

static json_t *rule(const struct pl_plan *p)
{
	json_t *o = json_object();
	rj_put(o, "bytes", rj_size(p->rule_of_thumb_bytes));
	rj_put(o, "exact_bytes", rj_size(p->exact_bytes));
	rj_put(o, "error_frac", json_real(p->rule_of_thumb_error_frac));
	return o;
}

static json_t *argv_words(const struct pl_argv *argv)
{
	json_t *list = json_array();
	for (uint32_t i = 0; i < argv->n_words; i++)
		(void)json_array_append_new(list, json_string(argv->words[i]));
	return list;
}

struct json_t *pl_report_plan_json(const struct pl_plan *p)
{
	struct pl_arena *a = pl_arena_new(0);
	json_t *o = json_object();
	if (!a || !o) {
		pl_arena_free(a);
		json_decref(o);
		return NULL;
	}
	rj_put(o, "schema", json_string("plimsoll.plan/1"));
	rj_put(o, "verdict", json_string(pl_verdict_name(p->verdict)));
	rj_put(o, "model", model(p->model));
	rj_put(o, "hardware", rj_text(p->machine->description));
	rj_put(o, "engine", json_string(p->engine->id));
	rj_put(o, "engine_info", engine(p));
	rj_put(o, "command", p->argv.n_words ? json_string(pl_argv_line(a, &p->argv)) : json_null());
	rj_put(o, "argv", argv_words(&p->argv));
	rj_put(o, "request", knobs(request(p), &p->params, p->layout.n_devices));
	rj_put(o, "asked_command", p->command ? asked_command(p->command) : json_null());
	rj_put(o, "placement", rj_text(p->placement));
	rj_put(o, "memory", memory(p));
	rj_put(o, "limits", limits(p));
	rj_put(o, "speed", pl_report_speed_json(p));
	rj_put(o, "kv_bytes_per_token", rj_size(p->layout.kv_bytes_per_token));
	rj_put(o, "kv_cache_tokens", rj_opt(p->layout.kv_cache_tokens));
	rj_put(o, "num_gpu_blocks", rj_opt(p->layout.num_gpu_blocks));
	rj_put(o, "block_size", p->layout.block_size ? rj_size(p->layout.block_size) : json_null());
	rj_put(o, "max_concurrency", p->layout.max_concurrency > 0 ? json_real(p->layout.max_concurrency) : json_null());
	rj_put(o, "rule_of_thumb", rule(p));
	rj_put(o, "suggestions", suggestions(p));
	rj_put(o, "notes", notes(p));
	pl_arena_free(a);
	return o;
}
