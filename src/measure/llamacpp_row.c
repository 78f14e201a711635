/* Buffers, devices and parameters of a printed log. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <jansson.h>

#include "measure/llamacpp_row.h"
#include "measure/validator.h"

enum { SHALLOW = 1000 }; /* builds from a shallow clone count their commits from 1 */

enum lm_known lm_at_least(const struct lm_row *x, unsigned build, const char *date)
{
	const char *b = pl_vrow_text(x->r, "build"), *d = pl_vrow_text(x->r, "date");
	unsigned long n = strtoul(b, NULL, 10);
	if (x->mainline && n >= SHALLOW)
		return n >= build ? LM_YES : LM_NO;
	if (strstr(x->notes, "older") || strstr(x->notes, "2024"))
		return LM_NO;
	if (strlen(d) >= 10)
		return strcmp(d, date) >= 0 ? LM_YES : LM_NO;
	return LM_UNKNOWN;
}

/* ---- buffers ----------------------------------------------------------------------------------------------------------- */

static double half_digit(const char *text)
{
	const char *dot = strchr(text, '.');
	return *text ? 0.5 * pow(10, dot ? -(double)strlen(dot + 1) : 0) : 0;
}

static double mib(struct lm_row *x, const char *column)
{
	return pl_vrow_number(x->r, column, 0, 1e9);
}

static void first_devices(struct lm_row *x)
{
	static const char *const columns[2][3] = {{"dev0_model_mib", "dev0_kv_mib", "dev0_compute_mib"},
	                                          {"dev1_model_mib", "dev1_kv_mib", "dev1_compute_mib"}};
	for (uint32_t i = 0; i < 2; i++) {
		struct lm_device d = {mib(x, columns[i][0]), mib(x, columns[i][1]), mib(x, columns[i][2]), 0};
		for (uint32_t k = 0; k < 3; k++)
			d.half_digit = fmax(d.half_digit, half_digit(pl_vrow_text(x->r, columns[i][k])));
		if (isnan(d.model) && isnan(d.kv) && isnan(d.compute))
			continue;
		x->dev[x->n_dev++] = d;
	}
}

static double member(json_t *o, const char *key)
{
	json_t *v = json_object_get(o, key);
	double n = json_is_number(v) ? json_number_value(v) : NAN;
	return n >= 0 && n <= 1e9 ? n : NAN;
}

/* {"CUDA2":{"model":21610.08,"kv":408.0,"compute":788.0}, …} */
static void more_devices(struct lm_row *x)
{
	const char *text = pl_vrow_text(x->r, "dev2plus"), *key;
	json_t *o = *text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL, *d;
	if (*text && !json_is_object(o))
		pl_vrow_reason(x->r, "dev2plus: '%.40s' is not an object of devices", text);
	json_object_foreach(o, key, d) {
		if (x->n_dev == sizeof x->dev / sizeof *x->dev) {
			pl_vrow_reason(x->r, "dev2plus: more devices than can be read");
			break;
		}
		if (json_is_object(d))
			x->dev[x->n_dev++] = (struct lm_device){member(d, "model"), member(d, "kv"), member(d, "compute"), 0.005};
	}
	json_decref(o);
}

bool lm_read_buffers(struct lm_row *x)
{
	first_devices(x);
	more_devices(x);
	x->cpu_kv = mib(x, "cpu_kv_mib");
	x->cpu_model = mib(x, "cpu_model_mib");
	x->host_compute = mib(x, "host_compute_mib");
	x->host_output = mib(x, "host_output_mib");
	x->state = mib(x, "recurrent_state_mib");
	return !x->r->reason;
}

/* ---- machine ------------------------------------------------------------------------------------------------------------ */

static bool vendor_of(const char *backend, enum pl_vendor *ret)
{
	static const struct {
		const char *backend;
		enum pl_vendor vendor;
	} table[] = {{"CUDA", PL_VENDOR_NVIDIA}, {"ROCm", PL_VENDOR_AMD}, {"HIP", PL_VENDOR_AMD}, {"Metal", PL_VENDOR_APPLE},
	             {"SYCL", PL_VENDOR_INTEL}, {"CANN", PL_VENDOR_HUAWEI}, {"Vulkan", PL_VENDOR_OTHER}, {"Hexagon", PL_VENDOR_OTHER}, {"RPC", PL_VENDOR_OTHER},
	             {"CPU", PL_VENDOR_OTHER}};
	*ret = PL_VENDOR_OTHER;
	for (size_t i = 0; i < sizeof table / sizeof *table; i++)
		if (!strncasecmp(backend, table[i].backend, strlen(table[i].backend))) {
			*ret = table[i].vendor;
			return true;
		}
	return !*backend;
}

/* Sizes that nobody states do not matter: where layers go is stated, or seen from the caches. */
void lm_make_machine(struct lm_row *x)
{
	const uint64_t PLENTY = (uint64_t)1 << 42;
	const char *backend = pl_vrow_text(x->r, "backend");
	uint32_t stated = (uint32_t)pl_vrow_whole(x->r, "n_devices", 0, 64, x->n_dev), n = stated > x->n_dev ? stated : x->n_dev;
	enum pl_vendor vendor;
	if (!vendor_of(backend, &vendor))
		pl_vrow_reason(x->r, "backend: '%.40s' is not known", backend);
	x->hw = (struct pl_machine){.description = backend, .devices = x->devices, .n_nodes = 1};
	if (strstr(x->notes, "AMX model="))
		x->hw.cpu_flags = "avx2 avx512f avx512_vnni amx_int8";
	for (uint32_t i = 0; i < n && i < sizeof x->devices / sizeof *x->devices; i++)
		x->devices[x->hw.n_devices++] = (struct pl_device){.name = "GPU", .vendor = vendor, .total_bytes = PLENTY,
		                                                   .free_bytes = PLENTY, .numa_node = -1};
}

/* ---- parameters --------------------------------------------------------------------------------------------------------- */

static bool cache_types(struct lm_row *x)
{
	static const char *const columns[] = {"type_k", "type_v"};
	enum pl_dtype *out[] = {&x->p.type_k, &x->p.type_v};
	for (int i = 0; i < 2; i++) {
		const char *name = pl_vrow_text(x->r, columns[i]);
		*out[i] = *name ? pl_dtype_from_name(name) : PL_DTYPE_F16;
		if (*out[i] == PL_DTYPE_UNKNOWN) {
			pl_vrow_reason(x->r, "%s: no cache of type '%.40s' is modelled", columns[i], name);
			return false;
		}
	}
	return true;
}

/* Cells that the log lists for the whole context: "8192 cells". */
static bool lists_cells(const struct lm_row *x, uint64_t n)
{
	char want[40];
	(void)snprintf(want, sizeof want, " %llu cells", (unsigned long long)n);
	return strstr(x->notes, want) != NULL;
}

static void context(struct lm_row *x)
{
	enum { PADDING = 256 };
	struct pl_params *p = &x->p;
	uint64_t n_ctx = pl_vrow_whole(x->r, "n_ctx", 1, (uint64_t)1 << 32, 0);
	p->n_seq = (uint32_t)pl_vrow_whole(x->r, "n_seq_max", 1, 256, 1);
	p->n_batch = (uint32_t)pl_vrow_whole(x->r, "n_batch", 1, 1 << 24, 2048);
	p->n_ubatch = (uint32_t)pl_vrow_whole(x->r, "n_ubatch", 1, 1 << 24, 512);
	if (p->n_batch < p->n_ubatch)
		p->n_batch = p->n_ubatch;
	if (!n_ctx)
		x->no_context = pl_tr("n_ctx is not stated");
	else if (n_ctx % PADDING)
		x->no_context = pl_tr("n_ctx is no multiple of 256: a build that pads in another way than the modelled one");
	n_ctx = n_ctx ? n_ctx : (uint64_t)PADDING * p->n_seq;
	/* one cache for all sequences was the only way before build 5913 (2025-07-16) */
	p->kv_unified = p->n_seq > 1 && (!x->mainline || strstr(x->notes, "kv_unified=true") || lists_cells(x, n_ctx) ||
	                                 lm_at_least(x, 5913, "2025-07-16") == LM_NO);
	p->n_ctx_tokens = n_ctx / p->n_seq;
	/* windows are cached by themselves since build 5432 (2025-05-20), by ik_llama never; programs on the library's own
	 * defaults ask for the full size */
	p->swa_full = !x->mainline || strstr(x->notes, "full-size") || lm_at_least(x, 5432, "2025-05-20") == LM_NO;
}

static void engine_version(struct lm_row *x)
{
	unsigned long n = strtoul(pl_vrow_text(x->r, "build"), NULL, 10);
	if (x->mainline && n >= SHALLOW)
		x->p.engine_version = pl_arena_printf(x->r->a, "b%lu", n);
}

static void attention(struct lm_row *x)
{
	const char *fa = pl_vrow_text(x->r, "flash_attn");
	if (!strcmp(fa, "1") || !strncasecmp(fa, "enabled", 7) || !strcasecmp(fa, "on"))
		x->p.flash_attn = 1;
	else if (!strcmp(fa, "0") || !strcasecmp(fa, "disabled") || !strcasecmp(fa, "off"))
		x->p.flash_attn = 0;
	else if (lm_at_least(x, 6325, "2025-08-30") == LM_YES || strstr(x->notes, "kv_unified"))
		x->p.flash_attn = PL_AUTO; /* the default since build 6325 */
	else {
		x->p.flash_attn = x->p.type_v != PL_DTYPE_F16;
		x->no_compute = pl_tr("whether flash attention was on is not stated");
	}
}

static bool overrides(struct lm_row *x)
{
	enum { MAX = 64 };
	char *text = pl_arena_strdup(x->r->a, pl_vrow_text(x->r, "override_tensor")), *save = NULL;
	struct pl_tensor_override *list = PL_NEW_N(x->r->a, struct pl_tensor_override, MAX);
	if (!text || !list || !*text)
		return true;
	if (*text == '(')
		return false;
	if (!strcmp(text, "--cpu-moe")) {
		x->p.n_cpu_moe = (int32_t)x->model->n_layers;
		return true;
	}
	const char *count = !strncmp(text, "--n-cpu-moe ", 12) ? text + 12 : !strncmp(text, "-ncmoe ", 7) ? text + 7 : NULL;
	if (count) {
		x->p.n_cpu_moe = (int32_t)strtol(count, NULL, 10);
		return x->p.n_cpu_moe >= 0;
	}
	for (char *one = strtok_r(text, ";,", &save); one && x->p.n_overrides < MAX; one = strtok_r(NULL, ";,", &save)) {
		one += strspn(one, " ");
		one[strcspn(one, " ")] = 0;
		char *eq = strrchr(one, '=');
		if (!eq)
			return false;
		*eq = 0;
		list[x->p.n_overrides++] = (struct pl_tensor_override){one, eq + 1};
	}
	x->p.overrides = list;
	return true;
}

static bool same_layers(const struct pl_model *m)
{
	for (uint32_t i = 1; i < m->n_layers; i++)
		if (m->layers[i].attn != m->layers[0].attn || m->layers[i].n_head_kv != m->layers[0].n_head_kv ||
		    m->layers[i].window_tokens != m->layers[0].window_tokens)
			return false;
	return true;
}

/* Where the command is not stated, the caches of the devices tell how many layers each has; the last has the output too. */
static bool split_by_caches(struct lm_row *x)
{
	double sum = 0;
	uint32_t n = x->model->n_layers, left = n;
	for (uint32_t i = 0; i < x->n_dev; i++)
		sum += isnan(x->dev[i].kv) ? 0 : x->dev[i].kv;
	if (!(sum > 0) || !same_layers(x->model))
		return false;
	for (uint32_t i = 0; i < x->hw.n_devices; i++) {
		double share = i < x->n_dev && !isnan(x->dev[i].kv) ? x->dev[i].kv / sum * n : 0;
		uint32_t layers = (uint32_t)lround(share);
		layers = layers < left ? layers : left;
		left -= layers;
		x->p.tensor_split[i] = layers;
	}
	x->p.tensor_split[x->hw.n_devices - 1] += 1;
	return !left;
}

static bool stated_split(struct lm_row *x)
{
	const char *text = pl_vrow_text(x->r, "tensor_split");
	double sum = 0;
	for (uint32_t i = 0; *text && i < x->hw.n_devices; i++) {
		char *end;
		double v = strtod(text, &end);
		if (end == text || !(v >= 0) || v > 1e9)
			return false;
		x->p.tensor_split[i] = v;
		sum += v;
		text = *end ? end + 1 : end;
	}
	return sum > 0;
}

static void placement(struct lm_row *x)
{
	const char *ngl = pl_vrow_text(x->r, "ngl"), *mode = pl_vrow_text(x->r, "split_mode");
	const int32_t ALL = 1 << 20;
	char *end;
	long n = strtol(ngl, &end, 10);
	x->p.n_cpu_moe = 0;
	x->p.n_gpu_layers = end == ngl || n < 0 || n > ALL ? ALL : (int32_t)n;
	if (!*ngl && x->hw.n_devices && (x->cpu_kv > 0 || strstr(x->notes, "no layer offloaded")))
		x->no_split = pl_tr("how many layers were offloaded is not stated");
	if (!overrides(x))
		x->no_split = pl_tr("which tensors were overridden is not stated");
	x->p.split_mode = !strcasecmp(mode, "row") ? PL_SPLIT_ROW : !strcasecmp(mode, "none") ? PL_SPLIT_NONE : PL_SPLIT_LAYER;
	if (*mode && strcasecmp(mode, "layer") != 0 && x->p.split_mode == PL_SPLIT_LAYER)
		x->no_split = pl_tr("its way of splitting over devices is not modelled");
	if (x->hw.n_devices > 1 && !stated_split(x) && !split_by_caches(x))
		x->no_split = pl_tr("how layers were split over the devices is not stated");
}

bool lm_make_params(struct lm_row *x)
{
	pl_params_default(&x->p);
	x->p.program = PL_LLAMA_COMPLETION; /* room for logits of the whole batch, as all programs had until 2026 */
	if (strstr(x->notes, "n_slots") || (strstr(x->notes, "kv_unified=true") && x->p.n_seq > 1))
		x->p.program = PL_LLAMA_SERVER;
	x->p.no_mmap = strstr(x->notes, "--no-mmap") != NULL;
	if (!cache_types(x))
		return false;
	context(x);
	engine_version(x);
	attention(x);
	placement(x);
	if (!x->mainline)
		x->no_compute = pl_tr("the graph and the allocator of this engine are not modelled");
	if (!*pl_vrow_text(x->r, "n_ubatch") && !x->no_compute)
		x->no_compute = pl_tr("n_ubatch is not stated");
	return !x->r->reason;
}
