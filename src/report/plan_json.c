#include <math.h>

#include <jansson.h>

#include "engine/argv.h"
#include "report/report.h"

/* JSON integers are signed: sizes above 2^63 (the "larger than any machine" value) become the largest integer. */
static json_t *size(uint64_t n)
{
	return json_integer(n > INT64_MAX ? INT64_MAX : (json_int_t)n);
}

static json_t *maybe(struct pl_opt_u64 v)
{
	return v.known ? size(v.value) : json_null();
}

static json_t *text(const char *s)
{
	return s && *s ? json_string(s) : json_null();
}

static void put(json_t *object, const char *key, json_t *value)
{
	(void)json_object_set_new(object, key, value);
}

static json_t *model(const struct pl_model *m)
{
	static const char *const formats[] = {"config", "gguf", "safetensors"};
	json_t *o = json_object();
	put(o, "name", text(m->name));
	put(o, "architecture", text(m->arch));
	put(o, "architecture_known", json_boolean(m->arch_known));
	put(o, "format", json_string(formats[m->format]));
	put(o, "quantization", text(m->quant_name));
	put(o, "parameters", size(m->n_params));
	put(o, "active_parameters", size(m->n_params_active));
	put(o, "mtp_parameters", size(m->n_params_mtp));
	put(o, "vision_parameters", size(m->n_params_vision));
	put(o, "weight_bytes", size(m->weight_bytes));
	put(o, "file_bytes", m->file_bytes ? size(m->file_bytes) : json_null());
	put(o, "n_tensors", size(m->n_tensors));
	put(o, "n_layers", size(m->n_layers));
	put(o, "n_embd", size(m->n_embd));
	put(o, "n_vocab", size(m->n_vocab));
	put(o, "n_ctx_train", m->n_ctx_train ? size(m->n_ctx_train) : json_null());
	return o;
}

static json_t *use(const struct pl_use *u)
{
	uint64_t used = pl_use_total_bytes(u);
	json_t *o = json_object();
	put(o, "name", text(u->name));
	put(o, "total_bytes", size(u->total_bytes));
	put(o, "used_bytes", size(used));
	put(o, "model_bytes", size(u->model_bytes));
	put(o, "context_bytes", size(pl_use_context_bytes(u)));
	put(o, "kv_bytes", size(u->kv_bytes));
	put(o, "state_bytes", size(u->state_bytes));
	put(o, "compute_bytes", size(u->compute_bytes));
	put(o, "overhead_bytes", size(u->overhead_bytes));
	put(o, "free_bytes", size(u->total_bytes > used ? u->total_bytes - used : 0));
	put(o, "n_layers", size(u->n_layers));
	return o;
}

static json_t *memory(const struct pl_plan *p)
{
	const struct pl_host_use *h = &p->layout.host;
	json_t *o = json_object(), *devices = json_array(), *host = json_object();
	for (uint32_t i = 0; i < p->layout.n_devices; i++)
		(void)json_array_append_new(devices, use(&p->layout.devices[i]));
	put(host, "total_bytes", maybe(p->machine->ram_bytes));
	put(host, "free_bytes", maybe(p->machine->ram_free_bytes));
	put(host, "model_bytes", size(h->use.model_bytes));
	put(host, "mapped_bytes", size(h->mapped_bytes));
	put(host, "context_bytes", size(pl_use_context_bytes(&h->use)));
	put(host, "kv_bytes", size(h->use.kv_bytes));
	put(host, "state_bytes", size(h->use.state_bytes));
	put(host, "compute_bytes", size(h->use.compute_bytes));
	put(host, "overhead_bytes", size(h->use.overhead_bytes));
	put(host, "peak_load_bytes", size(h->peak_load_bytes));
	put(host, "rest_bytes", size(h->rest_bytes));
	put(o, "devices", devices);
	put(o, "host", host);
	put(o, "fits", json_boolean(p->layout.fits));
	put(o, "missing_bytes", size(p->layout.missing_bytes));
	put(o, "missing_on", text(p->layout.where_missing));
	put(o, "spare_bytes", size(p->layout.spare_bytes));
	return o;
}

static json_t *limits(const struct pl_plan *p)
{
	json_t *o = json_object();
	put(o, "max_context_tokens", maybe(p->limits.max_context_tokens));
	put(o, "max_sequences", maybe(p->limits.max_sequences));
	put(o, "context_is_model_limit", json_boolean(p->limits.context_is_model_limit));
	return o;
}

static json_t *request(const struct pl_plan *p)
{
	json_t *o = json_object();
	put(o, "context_tokens", size(p->layout.n_ctx_tokens));
	put(o, "concurrency", size(p->params.n_seq));
	put(o, "n_batch", size(p->params.n_batch));
	put(o, "n_ubatch", size(p->params.n_ubatch));
	put(o, "n_gpu_layers", json_integer(p->params.n_gpu_layers));
	put(o, "n_cpu_moe", json_integer(p->params.n_cpu_moe));
	put(o, "tensor_parallel", size(p->params.tensor_parallel));
	put(o, "pipeline_parallel", size(p->params.pipeline_parallel));
	put(o, "data_parallel", size(p->params.data_parallel));
	put(o, "expert_parallel", json_boolean(p->params.expert_parallel));
	put(o, "gpu_memory_utilization", json_real(p->params.gpu_memory_utilization_frac));
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
	put(o, "type_k", text(p->type_k ? pl_dtype_name(p->type_k) : NULL));
	put(o, "type_v", text(p->type_v ? pl_dtype_name(p->type_v) : NULL));
	put(o, "flash_attn", p->flash_attn < 0 ? json_null() : json_boolean(p->flash_attn));
	put(o, "split_mode", json_string(modes[p->split_mode]));
	put(o, "main_gpu", size(p->main_gpu));
	put(o, "tensor_split", split);
	put(o, "override_tensor", overrides);
	put(o, "kv_unified", json_boolean(p->kv_unified));
	put(o, "swa_full", json_boolean(p->swa_full));
	put(o, "no_kv_offload", json_boolean(p->no_kv_offload));
	put(o, "no_mmap", json_boolean(p->no_mmap));
	put(o, "mlock", json_boolean(p->mlock));
	put(o, "no_repack", json_boolean(p->no_repack));
	put(o, "max_num_batched_tokens", size(p->max_num_batched_tokens));
	put(o, "max_num_seqs", size(p->max_num_seqs));
	put(o, "enforce_eager", json_boolean(p->enforce_eager));
	put(o, "zero_stage", size(p->zero_stage));
	put(o, "offload_param_device", json_string(shards[p->zero_offload]));
	return o;
}

/* The engine's command that was asked about, flag by flag. */
static json_t *asked_command(const struct pl_command *c)
{
	static const char *const effects[] = {"read", "harmless", "unknown"};
	json_t *o = json_object(), *list = json_array();
	for (uint32_t i = 0; i < c->n_settings; i++) {
		json_t *s = json_object();
		put(s, "flag", text(c->settings[i].flag));
		put(s, "value", c->settings[i].value ? json_string(c->settings[i].value) : json_null());
		put(s, "effect", json_string(effects[c->settings[i].effect]));
		(void)json_array_append_new(list, s);
	}
	put(o, "program", text(c->program));
	put(o, "version", text(c->version));
	put(o, "model", text(c->model_ref));
	put(o, "draft_model", text(c->draft_ref));
	put(o, "mmproj", text(c->mmproj_ref));
	put(o, "settings", list);
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
		put(o, "change", json_string(changes[s->change]));
		put(o, "text", text(s->text));
		put(o, "option", text(s->option));
		put(o, "verdict", json_string(pl_verdict_name(s->verdict)));
		put(o, "spare_bytes", size(s->spare_bytes));
		(void)json_array_append_new(list, o);
	}
	return list;
}

static json_t *notes(const struct pl_plan *p)
{
	json_t *list = json_array();
	for (const struct pl_note *n = p->notes; n; n = n->next) {
		json_t *o = json_object();
		put(o, "level", json_string(n->level == PL_NOTE_WARNING ? "warning" : "info"));
		put(o, "text", text(n->text));
		(void)json_array_append_new(list, o);
	}
	return list;
}

static json_t *engine(const struct pl_plan *p)
{
	json_t *o = json_object();
	put(o, "id", json_string(p->engine->id));
	put(o, "version", text(p->params.engine_version ? p->params.engine_version : p->engine->version));
	put(o, "reason", text(p->engine_reason));
	return o;
}

static json_t *rule(const struct pl_plan *p)
{
	json_t *o = json_object();
	put(o, "bytes", size(p->rule_of_thumb_bytes));
	put(o, "exact_bytes", size(p->exact_bytes));
	put(o, "error_frac", json_real(p->rule_of_thumb_error_frac));
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
	put(o, "schema", json_string("plimsoll.plan/1"));
	put(o, "verdict", json_string(pl_verdict_name(p->verdict)));
	put(o, "model", model(p->model));
	put(o, "hardware", text(p->machine->description));
	put(o, "engine", json_string(p->engine->id));
	put(o, "engine_info", engine(p));
	put(o, "command", p->argv.n_words ? json_string(pl_argv_line(a, &p->argv)) : json_null());
	put(o, "argv", argv_words(&p->argv));
	put(o, "request", knobs(request(p), &p->params, p->layout.n_devices));
	put(o, "asked_command", p->command ? asked_command(p->command) : json_null());
	put(o, "placement", text(p->placement));
	put(o, "memory", memory(p));
	put(o, "limits", limits(p));
	put(o, "speed", pl_report_speed_json(p));
	put(o, "kv_bytes_per_token", size(p->layout.kv_bytes_per_token));
	put(o, "kv_cache_tokens", maybe(p->layout.kv_cache_tokens));
	put(o, "num_gpu_blocks", maybe(p->layout.num_gpu_blocks));
	put(o, "block_size", p->layout.block_size ? size(p->layout.block_size) : json_null());
	put(o, "max_concurrency", p->layout.max_concurrency > 0 ? json_real(p->layout.max_concurrency) : json_null());
	put(o, "rule_of_thumb", rule(p));
	put(o, "suggestions", suggestions(p));
	put(o, "notes", notes(p));
	pl_arena_free(a);
	return o;
}
