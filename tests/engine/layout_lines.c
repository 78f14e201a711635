/* Prints what layout() says for a GGUF header, in llama.cpp's own options, one line a device:
 *   layout_lines FILE.gguf [--gpu MiB]... [-c N] [-np N] [-ngl N] [-ts a,b] [-sm M] [-mg N] [--n-cpu-moe N] [-fa M] [-ctk T]
 *                [-ctv T] [-b N] [-ub N] [-kvu] [--swa-full] [-nkvo] [--cpu-moe] [-ot PATTERN=BUFFER[,…]] [--no-repack]
 *                [--program fit-params|server|completion]
 *   NAME model context compute     (bytes)
 * GPUs are unnamed cards: no row padding, no pipelines, as over RPC. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <plimsoll/engine.h>

static struct pl_device devices[PL_MAX_DEVICES];
static struct pl_machine machine = {.devices = devices, .n_nodes = 1};
static struct pl_params params;
static struct pl_tensor_override overrides[16];

static void add_gpu(uint64_t mib)
{
	struct pl_device *d = &devices[machine.n_devices++];
	*d = (struct pl_device){.name = "GPU", .vendor = PL_VENDOR_OTHER, .total_bytes = mib << 20, .free_bytes = mib << 20, .numa_node = -1};
}

static void read_split(const char *s)
{
	for (uint32_t i = 0; i < PL_MAX_DEVICES && s; i++) {
		params.tensor_split[i] = atof(s);
		s = strchr(s, ',');
		s = s ? s + 1 : NULL;
	}
}

static int numbered(const char *o, const char *v)
{
	if (!strcmp(o, "--gpu"))
		add_gpu(strtoull(v, NULL, 10));
	else if (!strcmp(o, "-c"))
		params.n_ctx_tokens = strtoull(v, NULL, 10);
	else if (!strcmp(o, "-np"))
		params.n_seq = (uint32_t)atoi(v);
	else if (!strcmp(o, "-ngl"))
		params.n_gpu_layers = atoi(v);
	else if (!strcmp(o, "-mg"))
		params.main_gpu = (uint32_t)atoi(v);
	else if (!strcmp(o, "--n-cpu-moe"))
		params.n_cpu_moe = atoi(v);
	else if (!strcmp(o, "-b"))
		params.n_batch = (uint32_t)atoi(v);
	else if (!strcmp(o, "-ub"))
		params.n_ubatch = (uint32_t)atoi(v);
	else
		return 0;
	return 1;
}

/* PATTERN=BUFFER, several joined by commas; the last '=' of each parts the two. */
static void read_overrides(const char *text)
{
	char *all = strdup(text), *save = NULL;
	for (char *w = strtok_r(all, ",", &save); w && params.n_overrides < 16; w = strtok_r(NULL, ",", &save)) {
		char *eq = strrchr(w, '=');
		if (!eq)
			continue;
		*eq = 0;
		overrides[params.n_overrides++] = (struct pl_tensor_override){w, eq + 1};
	}
	params.overrides = overrides;
}

static int worded(const char *o, const char *v)
{
	if (!strcmp(o, "-ot"))
		read_overrides(v);
	else if (!strcmp(o, "--program"))
		params.program = !strcmp(v, "server") ? PL_LLAMA_SERVER : !strcmp(v, "completion") ? PL_LLAMA_COMPLETION : PL_LLAMA_FIT_PARAMS;
	else if (!strcmp(o, "-ts"))
		read_split(v);
	else if (!strcmp(o, "-sm"))
		params.split_mode = !strcmp(v, "none") ? PL_SPLIT_NONE : !strcmp(v, "row") ? PL_SPLIT_ROW : PL_SPLIT_LAYER;
	else if (!strcmp(o, "-fa"))
		params.flash_attn = !strcmp(v, "on") ? 1 : !strcmp(v, "off") ? 0 : PL_AUTO;
	else if (!strcmp(o, "-ctk"))
		params.type_k = pl_dtype_from_name(v);
	else if (!strcmp(o, "-ctv"))
		params.type_v = pl_dtype_from_name(v);
	else
		return 0;
	return 1;
}

static int flagged(const char *o)
{
	if (!strcmp(o, "-kvu"))
		params.kv_unified = true;
	else if (!strcmp(o, "--swa-full"))
		params.swa_full = true;
	else if (!strcmp(o, "--no-kv-offload") || !strcmp(o, "-nkvo"))
		params.no_kv_offload = true;
	else if (!strcmp(o, "--fit")) {
		params.engine_fit = true;
		params.n_gpu_layers = params.n_cpu_moe = PL_AUTO;
	} else if (!strcmp(o, "--no-repack"))
		params.no_repack = true;
	else if (!strcmp(o, "--cpu-moe"))
		params.n_cpu_moe = 1 << 20;
	else
		return 0;
	return 1;
}

static struct pl_bytes open_file(const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY);
	if (fd < 0 || fstat(fd, &st)) {
		perror(path);
		exit(4);
	}
	void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (p == MAP_FAILED) {
		perror(path);
		exit(4);
	}
	return (struct pl_bytes){.data = p, .len_bytes = (uint64_t)st.st_size, .total_len_bytes = (uint64_t)st.st_size, .name = path};
}

static void print_use(const char *name, const struct pl_use *u)
{
	printf("%s %llu %llu %llu\n", name, (unsigned long long)u->model_bytes, (unsigned long long)pl_use_context_bytes(u),
	       (unsigned long long)u->compute_bytes);
}

int main(int argc, char **argv)
{
	const struct pl_engine *engine = pl_engines()[0];
	const struct pl_model *model;
	struct pl_layout layout;
	struct pl_err err = {0};
	struct pl_arena *a = pl_arena_new(0);
	pl_params_default(&params);
	params.n_cpu_moe = 0;
	params.n_gpu_layers = 1 << 20;
	params.program = PL_LLAMA_FIT_PARAMS;
	for (int i = 2; i < argc; i++) {
		if (flagged(argv[i]))
			continue;
		if (i + 1 >= argc || (!numbered(argv[i], argv[i + 1]) && !worded(argv[i], argv[i + 1]))) {
			fprintf(stderr, "layout_lines: what is '%s'?\n", argv[i]);
			return 2;
		}
		i++;
	}
	if (argc < 2)
		return 2;
	/* -c counts the tokens of all sequences, as in llama.cpp */
	params.fit_ctx = params.engine_fit && !params.n_ctx_tokens;
	params.n_ctx_tokens = params.n_ctx_tokens / params.n_seq + (params.n_ctx_tokens % params.n_seq != 0);
	struct pl_bytes file = open_file(argv[1]);
	if (pl_model_from_gguf(a, &file, 1, &model, &err) || engine->layout(a, model, &machine, &params, &layout, &err)) {
		fprintf(stderr, "layout_lines: %s\n", err.msg);
		return 3;
	}
	if (params.engine_fit) {
		fprintf(stderr, "-c %llu -ngl %d -ts", (unsigned long long)(params.n_ctx_tokens * params.n_seq), params.n_gpu_layers);
		for (uint32_t i = 0; i < layout.n_devices; i++)
			fprintf(stderr, "%s%g", i ? "," : " ", params.tensor_split[i]);
		for (uint32_t i = 0; i < params.n_overrides; i++)
			fprintf(stderr, "%s%s=%s", i ? "," : " -ot ", params.overrides[i].pattern, params.overrides[i].buffer);
		fprintf(stderr, "\n");
	}
	for (uint32_t i = 0; i < layout.n_devices; i++)
		print_use("device", &layout.devices[i]);
	print_use("host", &layout.host.use);
	return 0;
}
