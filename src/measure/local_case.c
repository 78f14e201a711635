/* Rows of local_perf.csv: who computes, with what, and what was timed. */
#include <ctype.h>
#include <math.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/checked.h"
#include "base/nameset.h"
#include "measure/local_case.h"
#include "measure/repeats.h"
#include "measure/validator.h"

struct pl_local_reader {
	struct pl_arena *a;
	const struct pl_model_index *models;
	struct pl_nameset names; /* setups compiled so far: index into speeds */
	struct pl_speed **speeds;
	uint32_t n_speeds, cap_speeds;
	struct pl_nameset texts;
	const struct pl_extremes *repeats; /* by row: speeds of the rows that say the same */
};

static bool is_measured(const char *column)
{
	return !strcmp(column, "id") || !strcmp(column, "tok_s") || !strcmp(column, "tok_s_sd");
}

/* All that a row says of a run, cell after cell. */
static const char *said(struct pl_arena *a, const struct pl_table *t, uint32_t row)
{
	size_t n = 1;
	for (uint32_t c = 0; c < t->n_columns; c++)
		n += strlen(t->rows[row].cells[c]) + 1;
	char *key = pl_arena_alloc(a, n), *at = key;
	for (uint32_t c = 0; key && c < t->n_columns; c++) {
		if (is_measured(t->columns[c]))
			continue;
		at = stpcpy(at, t->rows[row].cells[c]);
		*at++ = '\x1f';
	}
	if (key)
		*at = '\0';
	return key;
}

struct pl_local_reader *pl_local_reader_make(struct pl_arena *a, const struct pl_table *t, struct pl_err *err)
{
	struct pl_local_reader *x = PL_NEW(a, struct pl_local_reader);
	if (x)
		x->repeats = pl_repeats(a, t, "tok_s", said);
	if (!x || !x->repeats) {
		(void)pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory while reading the table");
		return NULL;
	}
	x->a = a;
	x->models = pl_model_index_make(a, err);
	return x->models ? x : NULL;
}

/* A text that lives as long as the reader, equal ones once. */
static const char *lasting(struct pl_local_reader *x, const char *text)
{
	bool fresh;
	struct pl_named *e = pl_nameset_entry(x->a, &x->texts, text ? text : "", 0, &fresh);
	if (e && fresh)
		e->name = pl_arena_strdup(x->a, text ? text : "");
	return e ? e->name : "";
}

static bool find(const char *pattern, const char *text, regmatch_t *m, size_t n)
{
	regex_t re;
	if (regcomp(&re, pattern, REG_EXTENDED | REG_ICASE))
		return false;
	bool found = !regexec(&re, text, n, m, 0);
	regfree(&re);
	return found;
}

static double number_in(const char *pattern, const char *text, double otherwise)
{
	regmatch_t m[2];
	return find(pattern, text, m, 2) ? strtod(text + m[1].rm_so, NULL) : otherwise;
}

/* ---- engine and kernels ------------------------------------------------------------------------------------------- */

struct program {
	const char *word, *engine; /* the engine whose kernels it runs */
};

/* First match wins. */
static const struct program programs[] = {
    {"ktransformers", NULL}, {"t-mac", NULL}, {"vllm-mlx", "mlx"}, {"mlx-vlm", "mlx-vlm"}, {"mlx", "mlx"}, {"mlc", "mlc"}, {"ik_llama", "ik_llama.cpp"},
    {"exllamav3", "exllamav3"}, {"exllama", "exllama"}, {"llama", "llama.cpp"}, {"lm-studio", "llama.cpp"}, {"unsloth-studio", "llama.cpp"}, {"ollama", "llama.cpp"},
    {"vllm", "vllm"}, {"sglang", "sglang"}, {"gpt-fast", "transformers"}, {"omlx", "mlx"},
};

static const char *engine_of(struct pl_vrow *r)
{
	const char *text = pl_vrow_text(r, "engine");
	if (!*text)
		return "llama.cpp";
	if (strcasestr(text, "ollama") && strcasestr(pl_vrow_text(r, "model"), "-mlx"))
		return "mlx";
	for (size_t i = 0; i < sizeof programs / sizeof *programs; i++)
		if (strcasestr(text, programs[i].word)) {
			if (!programs[i].engine)
				pl_vrow_reason(r, "nothing is modelled of the engine '%.40s'", text);
			return programs[i].engine;
		}
	pl_vrow_reason(r, "nothing is modelled of the engine '%.40s'", text);
	return NULL;
}

static enum pl_backend backend_of(struct pl_vrow *r, const struct pl_machine *hw)
{
	const char *text = pl_vrow_text(r, "backend");
	static const struct {
		const char *word;
		enum pl_backend b;
	} words[] = {{"cuda", PL_BACKEND_CUDA}, {"vulkan", PL_BACKEND_VULKAN}, {"rocm", PL_BACKEND_ROCM}, {"hip", PL_BACKEND_ROCM},
	             {"metal", PL_BACKEND_METAL}, {"sycl", PL_BACKEND_SYCL}, {"opencl", PL_BACKEND_OPENCL}, {"cpu", PL_BACKEND_CPU}};
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (strcasestr(text, words[i].word))
			return words[i].b;
	/* neither GPU nor backend, but a CPU: it computes, though it has a GPU beside it */
	if (!hw->n_devices || (!*text && !*pl_vrow_text(r, "gpu")))
		return PL_BACKEND_CPU;
	switch (hw->devices[0].vendor) {
	case PL_VENDOR_AMD:
		return PL_BACKEND_ROCM;
	case PL_VENDOR_APPLE:
		return PL_BACKEND_METAL;
	case PL_VENDOR_INTEL:
		return PL_BACKEND_VULKAN;
	default:
		return PL_BACKEND_CUDA;
	}
}

/* ---- what was timed ------------------------------------------------------------------------------------------------ */

/* "mtp-2", "WITH MTP spec decoding n-max 4 acceptance 0.32-0.89", "spec None", "baseline (spec decoding off)" */
static void speculation(struct pl_vrow *r, struct pl_local_case *c)
{
	const char *notes = pl_vrow_text(r, "notes"), *model = pl_vrow_text(r, "model"), *kv = pl_vrow_text(r, "kv_type");
	const char *all = pl_arena_printf(r->a, "%s|%s|%s", model, kv, notes);
	regmatch_t m[3];
	c->acceptance_length = 1;
	if (find("spec none|spec decoding off|no spec|without (mtp|spec)", all, m, 1) && !find("with mtp", all, m, 1))
		return;
	if (!find("mtp|[^a-z]spec[^a-z]|speculat|draft|eagle|dflash|medusa", all, m, 1))
		return;
	double k = number_in("n-max ([0-9]+)", all, number_in("mtp-([0-9]+)", all, 3));
	c->draft_tokens = k >= 1 && k <= 16 ? k : 3;
	c->acceptance_length = 0; /* from the tables */
	if (find("acceptance (rate )?([0-9.]+)", notes, m, 3)) {
		char *end;
		double p = strtod(notes + m[2].rm_so, &end), q = *end == '-' ? strtod(end + 1, NULL) : p;
		p = (p + q) / 2;
		if (p > 0 && p < 1)
			c->acceptance_length = (1 - pow(p, c->draft_tokens + 1)) / (1 - p);
	}
}

static bool timed(struct pl_vrow *r, struct pl_local_case *c)
{
	const char *test = pl_vrow_text(r, "test"), *notes = pl_vrow_text(r, "notes");
	size_t letters = strcspn(test, "0123456789");
	double n = strtod(test + letters, NULL), depth = pl_vrow_number(r, "depth", 0, 1e8);
	bool prefill = !strncmp(test, "pp", 2) || !strncmp(test, "prefill", 7), decode = !strncmp(test, "tg", 2) || !strncmp(test, "gen", 3);
	if (!prefill && !decode) {
		pl_vrow_reason(r, "the test '%.30s' is neither prefill nor decode", test);
		return false;
	}
	c->kind = prefill ? PL_LOCAL_PREFILL : PL_LOCAL_DECODE;
	c->concurrency = number_in("concurrency ([0-9]+)", notes, 1);
	double prompt = number_in("prompt ([0-9]+)", notes, number_in("[^a-z]in ([0-9]+)", notes, NAN));
	c->depth_tokens = !isnan(depth) ? depth : 0;
	c->prompt_tokens = prefill ? (n > 0 ? n : !isnan(prompt) ? prompt : c->depth_tokens > 0 ? c->depth_tokens : 512) : !isnan(prompt) ? prompt : 0;
	if (prefill && !(n > 0))
		c->depth_tokens = 0;
	c->out_tokens = decode ? (n > 0 ? n : 128) : 0;
	if (decode && isnan(depth))
		c->depth_tokens = c->prompt_tokens;
	c->tool_rate = !strncmp(test, "gen", 3) || !strncmp(test, "prefill", 7);
	if (decode && strcasestr(notes, "end-to-end output tokens over total time")) {
		c->kind = PL_LOCAL_ANSWER;
		c->out_tokens = number_in("avg out tokens ([0-9.]+)", notes, 200);
		c->prompt_tokens = 64; /* the tool asks short questions */
	}
	c->each = c->concurrency > 1 && (strcasestr(notes, "decode rate") || strcasestr(notes, "single_stream"));
	if (decode && c->concurrency > 1 && !c->each && strcasestr(notes, "aggregate"))
		c->kind = PL_LOCAL_ANSWER;
	if (prefill && c->concurrency > 1) {
		pl_vrow_reason(r, "the rate of one prompt among %g depends on how they arrive", c->concurrency);
		return false;
	}
	if (c->out_tokens < 1 && decode)
		c->out_tokens = 1;
	speculation(r, c);
	return true;
}

/* ---- setup -------------------------------------------------------------------------------------------------------------- */

static enum pl_dtype kv_type(const char *text)
{
	regmatch_t m[2];
	char word[32];
	(void)snprintf(word, sizeof word, "%.*s", (int)strcspn(text, "/ "), text);
	enum pl_dtype t = pl_dtype_from_name(word);
	if (t && pl_dtype_bits(t) <= 16)
		return t;
	if (find("^(kv-?)?(q8|8)|int8|q8", word, m, 1))
		return PL_DTYPE_Q8_0;
	if (find("^(kv-?)?(q4|4)|kv4|turboquant_4", word, m, 1))
		return PL_DTYPE_Q4_0;
	if (find("fp8", word, m, 1))
		return PL_DTYPE_F8_E4M3;
	return PL_DTYPE_F16;
}

struct year_at {
	double number, year;
};

/* Between two known points; the last holds beyond. */
static double year_at(const struct year_at *at, size_t n, double number)
{
	for (size_t i = 1; i < n; i++)
		if (number <= at[i].number)
			return at[i - 1].year + (number - at[i - 1].number) / (at[i].number - at[i - 1].number) * (at[i].year - at[i - 1].year);
	return at[n - 1].year;
}

/* When a build of llama.cpp was made: its numbers run with the commits (b1 2023-03, b3000 2024-05, b6000 2025-07, b9200 2026-05). */
static double build_year(double build)
{
	static const struct year_at at[] = {{0, 2023.2}, {1500, 2023.85}, {3000, 2024.4}, {4500, 2025.05}, {6000, 2025.57}, {9200, 2026.38}, {12000, 2026.75}};
	return year_at(at, sizeof at / sizeof *at, build);
}

/* Number of the thread of llama.cpp that an address points to, NAN none. */
static double thread_of(const char *url)
{
	return number_in("llama\\.cpp/pull/([0-9]+)", url,
	                 number_in("llama\\.cpp/issues/([0-9]+)", url, number_in("llama\\.cpp/discussions/([0-9]+)", url, NAN)));
}

/* When an issue or pull request of llama.cpp was opened, by its number. */
static double thread_year(double number)
{
	static const struct year_at at[] = {{0, 2023.19}, {2917, 2023.66}, {4381, 2023.95}, {7314, 2024.38}, {10000, 2024.81}, {14000, 2025.42},
	                                    {16000, 2025.71}, {19378, 2026.1}, {22413, 2026.34}, {25494, 2026.55}, {27721, 2026.65}};
	return year_at(at, sizeof at / sizeof *at, number);
}

/* Years before the middle of 2026, by build, date or thread. Rows without any are mostly of 2025. */
static double age_of(struct pl_vrow *r, const char *engine)
{
	const double now = 2026.5, usual = 2025.7;
	const char *date = pl_vrow_text(r, "date"), *build = pl_vrow_text(r, "build");
	double thread = thread_of(pl_vrow_text(r, "source_url"));
	double year = strlen(date) >= 7 ? strtod(date, NULL) + (strtod(date + 5, NULL) - 0.5) / 12 : !isnan(thread) ? thread_year(thread) : usual;
	double b = number_in("\\(([0-9]{3,5})\\)", build, number_in("^b([0-9]{3,5})", build, NAN));
	if (strstr(engine, "llama.cpp") && !isnan(b))
		year = fmin(year < 2027 && *date ? year : 2027, build_year(b));
	return year > now ? 0 : year < 2022 ? now - 2022 : now - year;
}

/* The address of a run names its split mode where the sweep is over it, and then outranks the column. */
static bool split_of(struct pl_vrow *r, const char *mode)
{
	const char *at = strstr(pl_vrow_text(r, "source_url"), "/sm-");
	return at ? !strncmp(at + strlen("/sm-"), mode, strlen(mode)) : pl_vrow_is(r, "split_mode", mode);
}

/* Long contexts of kyuz0's toolboxes run on ROCm with -ub 2048 (benchmark/run_benchmarks.sh), which the rows of its results.json
 * do not repeat; everything else that is silent runs with the default. */
static uint32_t usual_ubatch(struct pl_vrow *r)
{
	bool script = strstr(pl_vrow_text(r, "source_url"), "kyuz0/") && strstr(pl_vrow_text(r, "notes"), "longctx");
	return script && strcasestr(pl_vrow_text(r, "backend"), "rocm") ? 2048 : 512;
}

/* "Q4_K_R4", "BF16_R16", "-rtr", "rtr=1": weights in ik_llama.cpp's own order. */
static bool interleaved(struct pl_vrow *r)
{
	regmatch_t m[1];
	return find("_r[0-9]+$|_r[0-9]+ ", pl_vrow_text(r, "quant"), m, 1) || find("-rtr|rtr=1", pl_vrow_text(r, "notes"), m, 1);
}

static void fill_params(struct pl_vrow *r, const struct pl_local_case *c, const struct pl_machine *hw, const char *engine,
                        struct pl_params *p)
{
	bool llama = strstr(engine, "llama.cpp") != NULL, tensor = split_of(r, "tensor");
	const char *notes = pl_vrow_text(r, "notes");
	pl_params_default(p);
	p->n_ctx_tokens = (uint64_t)(c->depth_tokens + c->prompt_tokens + c->out_tokens + 16);
	p->n_seq = (uint32_t)c->concurrency;
	p->type_k = p->type_v = kv_type(pl_vrow_text(r, "kv_type"));
	p->n_ubatch = (uint32_t)pl_vrow_whole(r, "n_ubatch", 1, 1 << 20, llama ? usual_ubatch(r) : 2048);
	p->n_batch = p->n_ubatch > 2048 ? p->n_ubatch : 2048;
	p->max_num_batched_tokens = p->n_ubatch;
	uint64_t ngl = pl_vrow_whole(r, "ngl", 0, 1000000, UINT64_MAX);
	if (llama && ngl != UINT64_MAX)
		p->n_gpu_layers = (int32_t)pl_min_u64(ngl, 9999);
	regmatch_t m[2];
	if (llama && find("offloaded ([0-9]+)/[0-9]+ layers", notes, m, 2))
		p->n_gpu_layers = (int32_t)strtol(notes + m[1].rm_so, NULL, 10);
	p->no_op_offload = interleaved(r); /* what the CPU has in its own order no GPU can multiply */
	/* until the autumn of 2025 flash attention was asked for, since then it is on where there is a kernel */
	if (pl_vrow_is(r, "flash_attn", "0") || (llama && !*pl_vrow_text(r, "flash_attn") && age_of(r, engine) > 0.8))
		p->flash_attn = 0;
	if (split_of(r, "row"))
		p->split_mode = PL_SPLIT_ROW;
	if (!llama && hw->n_devices > 1 && (tensor || !strcmp(engine, "vllm") || !strcmp(engine, "mlc") || !strcmp(engine, "sglang")))
		p->tensor_parallel = hw->n_devices;
	if (llama && tensor && hw->n_devices > 1)
		p->tensor_parallel = hw->n_devices; /* --split-mode tensor */
	/* --n-gpu-layers 99 and nothing about the CPU: everything is on the GPUs */
	if (!strcmp(engine, "llama.cpp") && p->n_gpu_layers >= 99)
		p->n_cpu_moe = 0;
	if (strcasestr(notes, "exps=CPU") || strcasestr(notes, "experts on CPU") || strcasestr(notes, "cpu-moe"))
		p->n_cpu_moe = 9999;
}

/* Layers dealt out evenly: engines without a layout here. */
static void even_layout(struct pl_arena *a, const struct pl_model *m, const struct pl_machine *hw, const struct pl_params *p,
                        struct pl_layout *ret)
{
	uint32_t n = m->n_layers + m->n_layers_mtp, devices = p->tensor_parallel > 1 ? 1 : hw->n_devices;
	*ret = (struct pl_layout){.fits = true};
	ret->layer_device = PL_NEW_N(a, int16_t, (uint64_t)n + 1);
	for (uint32_t i = 0; ret->layer_device && i < n; i++)
		ret->layer_device[i] = (int16_t)(devices ? (int)((uint64_t)i * devices / n) : -1);
}

static int lay_out(struct pl_arena *a, const struct pl_model *m, const struct pl_machine *hw, const char *engine, struct pl_params *p,
                   struct pl_layout *ret, struct pl_err *err)
{
	const struct pl_engine *e;
	if (!strstr(engine, "llama.cpp") || p->tensor_parallel > 1 || pl_engine_find("llama.cpp", &e, err)) {
		even_layout(a, m, hw, p, ret);
		return 0;
	}
	if (p->n_cpu_moe > (int32_t)m->n_layers)
		p->n_cpu_moe = (int32_t)m->n_layers;
	bool all = p->n_gpu_layers >= 99; /* the layout puts the number of layers there */
	int rc = e->layout(a, m, hw, p, ret, err);
	/* weights of a stated size may be smaller than the precision's; unified memory and drivers that spill are others' business */
	if (!rc && !ret->fits && all && !p->n_cpu_moe && hw->n_devices && !hw->devices[0].unified_memory &&
	    ret->missing_bytes > hw->devices[0].total_bytes / 4)
		return pl_fail(err, PL_ERR_RANGE, m->name, "it does not fit in the GPUs as stated: the driver pages over PCIe");
	return rc;
}

/* Kernels that a library or a driver brings, not the engine. */
static const char *kernels_of(struct pl_vrow *r, const char *engine, enum pl_backend backend)
{
	if (backend == PL_BACKEND_ROCM && strstr(pl_vrow_text(r, "notes"), "hipblaslt=;"))
		return "llama.cpp/rocblas";
	if (backend == PL_BACKEND_VULKAN && (strcasestr(pl_vrow_text(r, "notes"), "amdvlk") || strcasestr(pl_vrow_text(r, "backend"), "amdvlk")))
		return "llama.cpp/amdvlk";
	return engine;
}

/* "power cap 220 W" of the notes, "NVIDIA A100-80GB (330W cap)" of the card. */
static double power_cap_w(struct pl_vrow *r)
{
	return number_in("power cap ([0-9]+)", pl_vrow_text(r, "notes"), number_in("\\(([0-9]+) ?W cap\\)", pl_vrow_text(r, "gpu"), 0));
}

static struct pl_speed *compile(struct pl_local_reader *x, struct pl_vrow *r, const char *key, const struct pl_model *m,
                                const struct pl_machine *hw, const char *engine, enum pl_backend backend, struct pl_params *p,
                                double weight_bytes)
{
	static const struct pl_engine other = {.id = "other"};
	const struct pl_engine *own;
	struct pl_err err = {0};
	bool fresh;
	struct pl_named *e = pl_nameset_entry(x->a, &x->names, key, x->n_speeds, &fresh);
	if (!e)
		return NULL;
	if (!fresh && x->speeds[e->value])
		return x->speeds[e->value];
	e->name = pl_arena_strdup(x->a, key);
	if (x->n_speeds == x->cap_speeds) {
		uint32_t cap = x->cap_speeds ? x->cap_speeds * 2 : 256;
		x->speeds = pl_arena_grow(x->a, x->speeds, x->cap_speeds, cap, sizeof *x->speeds);
		x->cap_speeds = cap;
	}
	if (!x->speeds)
		return NULL;
	if (fresh)
		x->speeds[x->n_speeds++] = NULL;
	struct pl_layout layout;
	if (lay_out(r->a, m, hw, engine, p, &layout, &err)) {
		pl_vrow_fault(r, &err);
		return NULL; /* asked again, it says why again */
	}
	enum pl_stack stack = pl_stack_find(kernels_of(r, engine, backend), backend);
	struct pl_speed_setup s = {.model = m, .machine = hw, .params = p, .layout = &layout, .backend = backend,
	                           .stack = pl_stack_name(stack), .weight_bytes = weight_bytes,
	                           .engine = strstr(engine, "llama.cpp") ? NULL : !pl_engine_find(engine, &own, &err) ? own : &other,
	                           .age_years = age_of(r, engine),
	                           .rocwmma = strcasestr(pl_vrow_text(r, "backend"), "rocwmma") != NULL,
	                           .power_limit_w = power_cap_w(r),
	                           .interleaved = interleaved(r),
	                           .no_sgemm = strstr(pl_vrow_text(r, "notes"), "GGML_LLAMAFILE=OFF") != NULL,
	                           .cpu_threads = (uint32_t)pl_vrow_whole(r, "threads", 1, 4096, 0)};
	const struct pl_speed *made;
	if (pl_speed_compile(x->a, &s, &made, &err)) {
		pl_vrow_fault(r, &err);
		return NULL; /* asked again, it says why again */
	}
	struct pl_speed *speed = (struct pl_speed *)(uintptr_t)made;
	speed->setup = (struct pl_speed_setup){.model = m, .machine = hw}; /* the rest dies with the row */
	return x->speeds[e->value] = speed;
}

/* Owner and repository of the source: rows of one author are not independent. */
static const char *source_of(struct pl_vrow *r)
{
	const char *url = pl_vrow_text(r, "source_url"), *at = strstr(url, "github.com/");
	at = at ? at + strlen("github.com/") : strstr(url, "//") ? strstr(url, "//") + 2 : url;
	size_t n = strcspn(at, "/");
	if (strstr(url, "github.com/") && at[n] == '/')
		n += 1 + strcspn(at + n + 1, "/");
	return pl_arena_printf(r->a, "%.*s", (int)n, at);
}

/* Nothing reads weights faster than memory delivers them, or multiplies faster than the fastest unit of the card. */
static double ceiling(const struct pl_speed *s, bool prefill)
{
	double seconds = 0;
	for (uint32_t i = 0; i < s->n_terms; i++) {
		const struct pl_work *w = &s->work[i];
		const struct pl_place *p = &s->places[w->place];
		double share = w->kind == PL_TERM_EXPERTS ? w->n_expert_used / w->n_expert : 1;
		double peak = fmax(fmax(p->peak4_flops_per_s, p->peak8_flops_per_s), p->peak_fp8_flops_per_s);
		if ((w->kind != PL_TERM_GEMM && w->kind != PL_TERM_EXPERTS) || w->streamed || p->first == PL_SPEED_HOST)
			continue;
		if (!prefill)
			seconds += w->n * w->weight_bytes * share / p->bytes_per_s;
		else if (w->rows == PL_TERM_NEW)
			seconds += w->n * w->row_flops * (w->kind == PL_TERM_EXPERTS ? w->n_expert_used : 1) / (peak * (p->n ? p->n : 1));
	}
	return seconds > 0 ? 1 / seconds : INFINITY;
}

static const struct pl_model *model_of(struct pl_local_reader *x, struct pl_vrow *r, const char *engine, struct pl_local_case *c,
                                       double *ret_weight_bytes)
{
	const char *name = pl_vrow_text(r, "model"), *params = pl_vrow_text(r, "params_b"), *dot = strchr(params, '.');
	double params_b = pl_vrow_number(r, "params_b", 0.01, 20000), gib = pl_vrow_number(r, "size_gib", 0.01, 20000), bits;
	bool exact = dot && strlen(dot) > 2, by_size;
	const struct pl_model_row *row = pl_model_by_name(x->models, name, params_b, exact, &by_size);
	if (!row) {
		pl_vrow_reason(r, "no catalogued model is meant by '%.60s'", name);
		return NULL;
	}
	const char *quant = pl_local_quant(r, engine, &c->assumed_quant, &bits);
	if (!quant) {
		pl_vrow_reason(r, "the precision '%.40s' is not known", pl_vrow_text(r, "quant"));
		return NULL;
	}
	const struct pl_model *m = pl_vrow_model(r, row->id, quant);
	if (!m)
		return NULL;
	c->stand_in = by_size;
	c->model = lasting(x, row->id);
	c->quant = lasting(x, quant);
	c->size_stated = !isnan(gib);
	c->family = lasting(x, by_size ? "stand-in" : m->n_params_active < m->n_params * 9 / 10 ? "moe" : "dense");
	*ret_weight_bytes = c->size_stated ? gib * 0x1p30 : bits > 0 ? (double)m->n_params * bits / 8 : 0;
	if (c->size_stated && *ret_weight_bytes < (double)m->weight_bytes / 1.6) { /* "F16" of a model published in 4 bits */
		const struct pl_model *native = pl_vrow_model(r, row->id, NULL);
		if (native && native->weight_bytes < m->weight_bytes)
			m = native;
	}
	if (c->size_stated && (*ret_weight_bytes > 3 * (double)m->weight_bytes || *ret_weight_bytes < (double)m->weight_bytes / 3)) {
		pl_vrow_reason(r, "%g GiB are no size of %s in %s", gib, row->id, quant);
		return NULL;
	}
	return m;
}

bool pl_local_read(struct pl_local_reader *x, struct pl_vrow *r, struct pl_local_case *ret)
{
	struct pl_local_case c = {.row = r->index, .weight = 1};
	const char *engine = engine_of(r), *device;
	double weight_bytes = 0, tok_s = pl_vrow_number(r, "tok_s", 0, 1e9);
	uint32_t n_gpu;
	if (!engine || r->reason || isnan(tok_s) || !timed(r, &c))
		return false;
	const struct pl_model *m = model_of(x, r, engine, &c, &weight_bytes);
	const char *line = m ? pl_local_machine_line(r, &n_gpu, &device) : NULL;
	const struct pl_machine *hw = line ? pl_vrow_machine(r, line) : NULL;
	if (!hw)
		return false;
	enum pl_backend backend = backend_of(r, hw);
	/* a row of one's own may: the plan it was held against assumed the same */
	bool own = !strcmp(pl_vrow_text(r, "notes"), "plimsoll verify");
	if (!hw->n_devices && !(hw->ram_bytes_per_s > 0) && !own) {
		pl_vrow_reason(r, "the memory bandwidth of '%.60s' is not known", pl_vrow_text(r, "cpu"));
		return false;
	}
	regmatch_t hit[1];
	/* trellis types are computed, not looked up; ternary ones need no products, and I2_S is another program's */
	if (backend == PL_BACKEND_CPU && find("_kt|ternary|bitnet|_bn", pl_vrow_text(r, "quant"), hit, 1)) {
		pl_vrow_reason(r, "nothing is modelled of the kernels of '%.40s' on CPUs", pl_vrow_text(r, "quant"));
		return false;
	}
	if (backend == PL_BACKEND_CPU && !strstr(engine, "llama.cpp")) {
		pl_vrow_reason(r, "nothing is modelled of '%.40s' on CPUs", pl_vrow_text(r, "engine"));
		return false;
	}
	struct pl_params p;
	fill_params(r, &c, hw, engine, &p);
	if (backend == PL_BACKEND_CPU)
		p.n_gpu_layers = 0;
	if (backend == PL_BACKEND_METAL && p.n_gpu_layers == 1)
		p.n_gpu_layers = 9999; /* until 2024 any number meant all layers on Metal */
	const char *key = pl_arena_printf(r->a, "%s|%s|%s|%s|%d|%d|%d|%u|%d|%d|%llu|%.0f|%s|%u|%.0f|%d|%s|%d|%.0f|%d", c.model, c.quant, line, engine, backend, p.n_gpu_layers,
	                                  p.n_cpu_moe, p.n_ubatch, p.type_k, p.split_mode, (unsigned long long)(p.n_ctx_tokens >> 13), weight_bytes,
	                                  pl_vrow_text(r, "threads"), p.n_seq, floor(4 * age_of(r, engine)),
	                                  p.flash_attn, kernels_of(r, engine, backend), strcasestr(pl_vrow_text(r, "backend"), "rocwmma") != NULL, power_cap_w(r), interleaved(r));
	c.speed = key ? compile(x, r, key, m, hw, engine, backend, &p, weight_bytes) : NULL;
	if (!c.speed)
		return false;
	if (pl_speed_unknown(c.speed)) {
		pl_vrow_reason(r, "%s", pl_speed_unknown(c.speed));
		return false;
	}
	if (c.speed->ram_assumed && !own) {
		pl_vrow_reason(r, "part of the work is the CPU's, and the row does not say how fast its memory is");
		return false;
	}
	bool prefill = c.kind == PL_LOCAL_PREFILL;
	c.id = lasting(x, pl_vrow_text(r, "id"));
	c.measured_tok_s = tok_s;
	c.class = pl_speed_class(c.speed, prefill);
	c.device = lasting(x, device);
	c.source = lasting(x, source_of(r));
	c.backend = lasting(x, pl_backend_name(backend));
	c.ceiling_tok_s = ceiling(c.speed, prefill);
	if (c.stand_in && !prefill && tok_s > c.ceiling_tok_s) {
		pl_vrow_reason(r, "no catalogued model is meant by '%.60s', and it reads less than a dense one of its size", pl_vrow_text(r, "model"));
		return false;
	}
	c.apart = pl_extremes_ratio(&x->repeats[r->index]);
	c.assumed_memory = hw->n_devices && hw->devices[0].gpu && pl_gpu_borrows_ram(hw->devices[0].gpu) && !strstr(line, " ddr");
	*ret = c;
	return true;
}

/* Prompts that come together, as many in a pass as its batch holds. */
static double prompts_s(const struct pl_speed *s, double n, double tokens, struct pl_step_cost *cost)
{
	double room = s->n_ubatch ? s->n_ubatch : n * tokens, each = fmax(1, floor(room / tokens)), sum = 0;
	if (n <= 1 || tokens >= room)
		return n * pl_prompt_s(s, tokens, 0, cost);
	for (double done = 0; done < n; done += each) {
		double seqs = fmin(each, n - done);
		struct pl_batch b = {.prefill_tokens = seqs * tokens, .prefill_seqs = seqs};
		pl_step(s, &b, cost);
		sum += cost->total_s;
	}
	return sum;
}

double pl_local_predict(const struct pl_local_case *c)
{
	struct pl_step_cost cost;
	const struct pl_speed *s = c->speed;
	double n = c->concurrency;
	if (c->kind == PL_LOCAL_PREFILL)
		return c->prompt_tokens / pl_prompt_s(s, c->prompt_tokens, c->depth_tokens, &cost) ;
	double depth = c->depth_tokens + c->out_tokens / 2, yield;
	double step = pl_decode_s(s, n, depth, c->draft_tokens, c->acceptance_length, &yield, &cost);
	if (c->kind == PL_LOCAL_DECODE)
		return (c->each ? 1 : n) * yield / step;
	double prompts = c->prompt_tokens > 0 ? prompts_s(s, n, c->prompt_tokens, &cost) + s->request_s : 0;
	return n * c->out_tokens / (prompts + c->out_tokens * step / yield);
}
