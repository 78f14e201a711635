#include <math.h>
#include <string.h>

#include "base/checked.h"
#include "emit/job.h"

static const uint64_t MIB = 1024 * 1024;

/* A DNS label: what Kubernetes, compose, systemd and Slurm all take for a name. */
static const char *label(struct pl_arena *a, const char *from)
{
	const char *slash = strrchr(from, '/');
	const char *s = slash && slash[1] ? slash + 1 : from;
	char out[51];
	size_t n = 0;
	for (; *s && n < sizeof out - 1; s++) {
		char c = *s >= 'A' && *s <= 'Z' ? (char)(*s + 32) : *s;
		bool good = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
		if (good)
			out[n++] = c;
		else if (n && out[n - 1] != '-')
			out[n++] = '-';
	}
	while (n && out[n - 1] == '-')
		n--;
	out[n] = '\0';
	if (!n || (out[0] >= '0' && out[0] <= '9'))
		return pl_arena_printf(a, "model%s%.40s", n ? "-" : "", out);
	return pl_arena_strdup(a, out);
}

static const char *backend_of(const struct pl_plan *plan)
{
	static const char *const by_vendor[] = {
	    [PL_VENDOR_NVIDIA] = "cuda", [PL_VENDOR_AMD] = "rocm", [PL_VENDOR_INTEL] = "intel",
	                                          [PL_VENDOR_APPLE] = "metal", [PL_VENDOR_HUAWEI] = "cann", [PL_VENDOR_UNKNOWN] = "cuda"};
	for (uint32_t i = 0; i < plan->layout.n_devices; i++) {
		enum pl_vendor v = plan->machine->devices[i].vendor;
		if (plan->layout.devices[i].model_bytes)
			return (size_t)v < sizeof by_vendor / sizeof *by_vendor && by_vendor[v] ? by_vendor[v] : "vulkan";
	}
	return "cpu";
}

/* Numbers of the used devices by their place in the first host; other hosts hold the same. */
static void find_gpus(struct pl_emit_job *j)
{
	j->n_nodes = 1;
	for (uint32_t i = 0; i < j->plan->layout.n_devices && i < PL_MAX_DEVICES; i++) {
		const struct pl_device *d = &j->plan->machine->devices[i];
		if (!j->plan->layout.devices[i].model_bytes)
			continue;
		j->n_nodes = d->node + 1 > j->n_nodes ? d->node + 1 : j->n_nodes;
		if (!d->node)
			j->gpus[j->n_gpus++] = i;
	}
}

static uint32_t devices_of_host(const struct pl_machine *hw)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < hw->n_devices; i++)
		n += hw->devices[i].node == 0;
	return n;
}

static int check_replicas(const struct pl_emit_job *j, struct pl_err *err)
{
	uint32_t have = j->o->n_host_gpus ? j->o->n_host_gpus : devices_of_host(j->plan->machine);
	uint64_t need = (uint64_t)j->replicas * j->n_gpus;
	if (need > have)
		return pl_fail(err, PL_ERR_RANGE, "--replicas", "%u replicas of %u GPUs need %llu, the machine has %u", j->replicas,
		               j->n_gpus, (unsigned long long)need, have);
	if (j->replicas > 1 && j->n_gpus && j->gpus[j->n_gpus - 1] != j->n_gpus - 1)
		return pl_fail(err, PL_ERR_UNSUPPORTED, "--replicas",
		               "the plan does not use the first %u GPUs in a row, so that its copies have no place of their own", j->n_gpus);
	return 0;
}

int pl_emit_begin(struct pl_emit_job *j, struct pl_arena *a, const struct pl_plan *plan, const struct pl_emit_options *o,
                  bool on_machine, struct pl_err *err)
{
	const char *name = o->name ? o->name : plan->model->name ? plan->model->name : "model";
	*j = (struct pl_emit_job){.a = a, .plan = plan, .o = o, .server = plan->engine->server};
	if (!plan->argv.n_words)
		return pl_fail(err, PL_ERR_UNSUPPORTED, plan->engine->id, "the engine cannot run this plan, so there is nothing to start");
	if (!j->server)
		return pl_fail(err, PL_ERR_UNSUPPORTED, plan->engine->id, "the engine has no server to start");
	if (!(o->power_cap_w >= 0) || o->power_cap_w > 5000)
		return pl_fail(err, PL_ERR_RANGE, "--power-cap", "%g W is no power limit of a GPU", o->power_cap_w);
	j->name = label(a, name);
	j->host = o->host ? o->host : "127.0.0.1";
	j->port = o->port ? o->port : j->server->port;
	j->replicas = o->replicas ? o->replicas : 1;
	if (j->replicas > 1024)
		return pl_fail(err, PL_ERR_RANGE, "--replicas", "%u replicas asked, at most 1024 are written", j->replicas);
	j->backend = backend_of(plan);
	find_gpus(j);
	/* An eighth and a GiB above the peak: the process itself, page cache in use, what the plan does not know. */
	uint64_t peak = plan->layout.host.peak_load_bytes;
	j->memory_bytes = pl_sat_add(pl_sat_add(peak, peak / 8), 1024 * MIB);
	/* Weights at 100 MB/s, a slow network disk, and two minutes for the engine itself. */
	j->start_s = 120 + plan->model->weight_bytes / 100000000;
	j->files = PL_NEW_N(a, struct pl_emit_file, (uint64_t)j->replicas + 2); /* a replica a file at most, and two beside */
	if (!j->files || !j->name)
		return pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory while writing the manifest");
	return on_machine ? check_replicas(j, err) : 0;
}

void pl_emit_file(struct pl_emit_job *j, const char *name, const char *text, bool executable)
{
	if (j->n_files < j->replicas + 2)
		j->files[j->n_files++] = (struct pl_emit_file){name, text, executable};
}

int pl_emit_end(struct pl_emit_job *j, struct pl_emit_result *ret, struct pl_err *err)
{
	bool all = !pl_arena_failed(j->a);
	for (uint32_t i = 0; i < j->n_files; i++)
		all = all && j->files[i].text;
	if (!all)
		return pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory while writing the manifest");
	*ret = (struct pl_emit_result){j->files, j->n_files, j->notes};
	return 0;
}

/* ---- the launch line --------------------------------------------------------------------------------------------- */

/* Flags whose value is a file of the user's, in llama.cpp's command line. */
static bool names_file(const char *flag)
{
	static const char *const flags[] = {"-m", "--model", "--mmproj", "-md", "--model-draft", "--chat-template-file"};
	for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
		if (!strcmp(flag, flags[i]))
			return true;
	return false;
}

static bool is_file(const struct pl_emit_job *j, uint32_t i)
{
	const char *const *w = j->plan->argv.words;
	bool path = w[i][0] == '/' || !strncmp(w[i], "./", 2) || !strncmp(w[i], "../", 3);
	bool module = i == 2 && !strcmp(w[1], "-m") && !strncmp(w[0], "python", 6); /* python3 -m sglang.launch_server */
	return (i && names_file(w[i - 1]) && !module) || (path && j->plan->model->format != PL_FORMAT_CONFIG);
}

static const char *absolute(struct pl_emit_job *j, const char *path)
{
	if (path[0] == '/' || !j->o->working_dir)
		return path;
	while (!strncmp(path, "./", 2))
		path += 2;
	return pl_arena_printf(j->a, "%s/%s", j->o->working_dir, path);
}

static bool begin_line(struct pl_emit_job *j, struct pl_argv *ret)
{
	const struct pl_argv *from = &j->plan->argv;
	const char **words = PL_NEW_N(j->a, const char *, (uint64_t)from->n_words + 8);
	*ret = (struct pl_argv){.words = words, .env = from->env, .n_env = from->n_env};
	return words != NULL;
}

static void add(struct pl_argv *v, const char *word)
{
	v->words[v->n_words++] = word;
}

static void add_address(struct pl_emit_job *j, struct pl_argv *v, const char *host, uint16_t port)
{
	add(v, j->server->host_flag);
	add(v, host);
	add(v, j->server->port_flag);
	add(v, pl_arena_printf(j->a, "%u", port));
	if (j->server->metrics_flag)
		add(v, j->server->metrics_flag);
}

int pl_emit_line(struct pl_emit_job *j, uint32_t r, const char *host, uint16_t port, struct pl_argv *ret, struct pl_err *err)
{
	const struct pl_argv *from = &j->plan->argv;
	if (!begin_line(j, ret))
		return pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory while writing the manifest");
	for (uint32_t i = 0; i < from->n_words; i++)
		add(ret, !i && j->o->program ? j->o->program : is_file(j, i) ? absolute(j, from->words[i]) : from->words[i]);
	add_address(j, ret, host, (uint16_t)(port + r));
	return 0;
}

static int find_image(struct pl_emit_job *j, const struct pl_image **ret, struct pl_err *err)
{
	uint32_t n;
	const struct pl_image *images = pl_catalog_images(&n);
	for (uint32_t i = 0; i < n; i++)
		if (!strcmp(images[i].engine, j->plan->engine->id) && !strcmp(images[i].backend, j->backend)) {
			*ret = &images[i];
			return 0;
		}
	*ret = NULL;
	return j->o->image ? 0 : pl_fail(err, PL_ERR_UNSUPPORTED, j->plan->engine->id, "no image for %s is known: name one with --image", j->backend);
}

/* The folder of a file, mounted; the path inside. */
static const char *mounted(struct pl_emit_job *j, struct pl_container *c, const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *dir = slash == path ? "/" : slash ? pl_arena_strndup(j->a, path, (size_t)(slash - path)) : ".";
	const char *base = slash ? slash + 1 : path;
	uint32_t k = 0;
	while (dir && k < c->n_mounts && strcmp(c->mounts[k].host_dir, dir) != 0)
		k++;
	if (!dir || k == PL_EMIT_MAX_MOUNTS)
		return path;
	if (k == c->n_mounts) {
		const char *inner = k ? pl_arena_printf(j->a, "/models%u", k + 1) : "/models";
		c->mounts[c->n_mounts++] = (struct pl_mount){dir, inner};
	}
	return pl_arena_printf(j->a, "%s/%s", c->mounts[k].inner_dir, base);
}

int pl_emit_container(struct pl_emit_job *j, uint16_t port, struct pl_container *ret, struct pl_err *err)
{
	const struct pl_argv *from = &j->plan->argv;
	const struct pl_image *image;
	struct pl_container c = {0};
	int rc = find_image(j, &image, err);
	if (rc)
		return rc;
	if (!begin_line(j, &c.argv))
		return pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory while writing the manifest");
	c.image = j->o->image || !image ? j->o->image : image->image;
	for (uint32_t i = 0; i < from->n_words; i++)
		add(&c.argv, !i && image ? image->program : is_file(j, i) ? mounted(j, &c, absolute(j, from->words[i])) : from->words[i]);
	add_address(j, &c.argv, "0.0.0.0", port);
	c.needs_cache = !c.n_mounts;
	c.cache_dir = !strcmp(j->plan->engine->id, "llama.cpp") ? "/root/.cache/llama.cpp" : "/root/.cache/huggingface";
	*ret = c;
	return 0;
}

/* ---- pieces ------------------------------------------------------------------------------------------------------ */

const char *pl_emit_gpu_list(struct pl_emit_job *j, uint32_t r)
{
	const char *text = "";
	for (uint32_t i = 0; i < j->n_gpus && text; i++)
		text = pl_arena_printf(j->a, "%s%s%u", text, i ? "," : "", j->gpus[i] + r * j->n_gpus);
	return text;
}

const char *pl_emit_gpu_variable(const struct pl_emit_job *j)
{
	if (!j->n_gpus)
		return NULL;
	return !strcmp(j->backend, "cuda")    ? "CUDA_VISIBLE_DEVICES"
	       : !strcmp(j->backend, "rocm")  ? "HIP_VISIBLE_DEVICES"
	       : !strcmp(j->backend, "intel") ? "ZE_AFFINITY_MASK"
	                                      : "GGML_VK_VISIBLE_DEVICES";
}

const char *pl_emit_balancer(struct pl_emit_job *j, const char *const *upstreams, const char *listen)
{
	const char *servers = "";
	for (uint32_t i = 0; i < j->replicas && servers; i++)
		servers = pl_arena_printf(j->a, "%s\t\tserver %s max_fails=2 fail_timeout=10s;\n", servers, upstreams[i]);
	/* Streams are passed on unbuffered, and a long answer is no time-out. */
	return !servers ? NULL
	                : pl_arena_printf(j->a,
	                                  "events {}\nhttp {\n\tupstream engine {\n\t\tleast_conn;\n%s\t\tkeepalive 64;\n\t}\n"
	                                  "\tserver {\n\t\tlisten %s;\n\t\tclient_max_body_size 64m;\n\t\tlocation / {\n"
	                                  "\t\t\tproxy_pass http://engine;\n\t\t\tproxy_http_version 1.1;\n"
	                                  "\t\t\tproxy_set_header Connection \"\";\n\t\t\tproxy_set_header Host $host;\n"
	                                  "\t\t\tproxy_buffering off;\n\t\t\tproxy_read_timeout 3600s;\n\t\t}\n\t}\n}\n",
	                                  servers, listen);
}

const char *pl_emit_replace(struct pl_arena *a, const char *text, const char *what, const char *by)
{
	size_t n = strlen(what);
	const char *out = "", *hit;
	for (; out && (hit = strstr(text, what)); text = hit + n)
		out = pl_arena_printf(a, "%s%.*s%s", out, (int)(hit - text), text, by);
	return out ? pl_arena_printf(a, "%s%s", out, text) : NULL;
}
