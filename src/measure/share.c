/* What was measured here as rows of data/measurements/local_perf.csv. */
#include <ctype.h>
#include <math.h>
#include <string.h>

#include <jansson.h>

#include <plimsoll/hardware.h>
#include <plimsoll/verify.h>

static const char columns[] = "id,source_url,date,engine,build,backend,gpu,n_gpu,cpu,ram,model,params_b,quant,size_gib,active_params_b,ngl,"
                              "flash_attn,split_mode,n_ubatch,threads,kv_type,test,depth,tok_s,tok_s_sd,notes\n";

static double number(const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);
	return json_is_number(v) ? json_number_value(v) : NAN;
}

static const char *text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));
	return s ? s : "";
}

static const char *cell(struct pl_arena *a, const char *text)
{
	const char *out = "";
	if (!text || !text[strcspn(text, ",\"\r\n")])
		return text ? text : "";
	for (; *text && out; text++)
		out = *text == '"' ? pl_arena_printf(a, "%s\"\"", out) : pl_arena_printf(a, "%s%c", out, *text == '\n' || *text == '\r' ? ' ' : *text);
	return out ? pl_arena_printf(a, "\"%s\"", out) : NULL;
}

/* The first device that holds weights, and how many do. */
static const char *gpus(const json_t *plan, unsigned *ret_n)
{
	const json_t *devices = json_object_get(json_object_get(plan, "memory"), "devices");
	const char *name = "";
	size_t i;
	json_t *d;
	*ret_n = 0;
	json_array_foreach(devices, i, d)
		if (number(d, "model_bytes") > 0 && !(*ret_n)++)
			name = text_of(d, "name");
	return name;
}

/* Whose kernels ran, by the name of the first buffer outside RAM: "CUDA0", "Vulkan0", "ROCm0". */
static const char *backend(struct pl_arena *a, const struct pl_engine_log *log, unsigned n_gpu)
{
	for (uint32_t i = 0; i < log->n_buffers && n_gpu; i++) {
		const char *name = log->buffers[i].name;
		size_t n = 0;
		while (isalpha((unsigned char)name[n]))
			n++;
		if (isdigit((unsigned char)name[n]) && !name[n + strspn(name + n, "0123456789")])
			return pl_arena_strndup(a, name, n);
	}
	return n_gpu ? "" : "CPU";
}

/* As the table's other rows have it: "2x16GB ddr5-5600", so that channels and transfers are read again. */
static const char *ram(struct pl_arena *a, const struct pl_machine *m)
{
	double gib = m && m->ram_bytes.known ? (double)m->ram_bytes.value / 0x1p30 : 0;
	const char *dash = m && m->ram_type ? strchr(m->ram_type, '-') : NULL;
	double mt_per_s = 0;
	for (const char *at = dash ? dash + 1 : ""; isdigit((unsigned char)*at); at++)
		mt_per_s = 10 * mt_per_s + (*at - '0');
	if (!(gib > 0))
		return "";
	if (mt_per_s > 0 && m->ram_bytes_per_s > 0) {
		double channels = fmax(1, round(m->ram_bytes_per_s / (8e6 * mt_per_s))); /* of 64 bits */
		return pl_arena_printf(a, "%.0fx%.0fGB %s", channels, fmax(1, round(gib / channels)), m->ram_type);
	}
	return pl_arena_printf(a, "%.4g GB", gib);
}

static const char *cpu(struct pl_arena *a, const struct pl_machine *m)
{
	if (!m || !m->cpu)
		return "";
	return m->cpu_cores ? pl_arena_printf(a, "%s %u-core", m->cpu, m->cpu_cores) : m->cpu;
}

/* ngl to kv_type. */
static const char *options(struct pl_arena *a, const struct pl_engine *e, const json_t *request)
{
	bool llama = !strcmp(e->id, "llama.cpp"), split = number(request, "tensor_parallel") > 1;
	if (!llama)
		return pl_arena_printf(a, ",,%s,,,%s", split ? "tensor" : "", text_of(request, "type_k"));
	return pl_arena_printf(a, "%.0f,%d,%s,%.0f,,%s", fmax(0, number(request, "n_gpu_layers")), json_is_true(json_object_get(request, "flash_attn")),
	                       text_of(request, "split_mode"), number(request, "n_ubatch"), text_of(request, "type_k"));
}

const char *pl_share_rows(struct pl_arena *a, const struct pl_verify_request *req, const struct pl_check *checks, uint32_t n, const char *date,
                          bool header)
{
	json_t *plan = json_loads(req->plan_json ? req->plan_json : "", 0, NULL);
	const json_t *model = json_object_get(plan, "model");
	struct pl_engine_log *log = PL_NEW(a, struct pl_engine_log);
	unsigned n_gpu;
	const char *gpu = gpus(plan, &n_gpu), *name = text_of(model, "name"), *out = header ? columns : "";
	if (log && req->log && req->engine->read_log)
		req->engine->read_log(req->log, req->log_len, log);
	if (*name == '/') /* the name of a model that is a file is the user's own: its architecture says enough */
		name = text_of(model, "architecture");
	const char *head = log ? pl_arena_printf(a, ",,%s,%s,%s,%s,%s,%u,%s,%s,%s,%.3f,%s,%.3f,%.3f,%s", date, req->engine->id, cell(a, log->build),
	                                         backend(a, log, n_gpu), cell(a, gpu), n_gpu, cell(a, cpu(a, req->machine)), ram(a, req->machine),
	                                         cell(a, name), number(model, "parameters") / 1e9, cell(a, text_of(model, "quantization")),
	                                         number(model, "weight_bytes") / 0x1p30, number(model, "active_parameters") / 1e9,
	                                         options(a, req->engine, json_object_get(plan, "request")))
	                       : NULL;
	for (uint32_t i = 0; i < n && out && head; i++) {
		bool decode = !strcmp(checks[i].metric, "decode_tok_s");
		if (decode) /* after the prompt */
			out = pl_arena_printf(a, "%s%s,gen%.0f,%.0f,%.4g,,plimsoll verify\n", out, head, fmax(1, req->load_answer_tokens), req->load_prompt_tokens,
			                      checks[i].measured);
		else if (!strcmp(checks[i].metric, "prefill_tok_s"))
			out = pl_arena_printf(a, "%s%s,prefill%.0f,0,%.4g,,plimsoll verify\n", out, head, req->load_prompt_tokens, checks[i].measured);
	}
	json_decref(plan);
	return head ? out : NULL;
}
