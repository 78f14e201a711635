/* From disk to the first answer: what is read, what crosses PCIe, what the engine does before it listens. The terms are medians
 * of data/measurements/startup.csv, whose rows `plimsoll validate` predicts. */
#include <math.h>
#include <string.h>
#include <strings.h>

#include "speed/speed.h"

/* A retail PCIe 4.0 drive reads 7 GB/s; readers of model files sustain 3 to 6 of it (data/links.csv, nvme-g4x4; 4.2 GB/s of a
 * 59 GiB file: llama.cpp issue 19191). */
static const double assumed_disk_bytes_per_s = 5e9;
/* What page faults of a mapped file leave of that: 0.42 (llama.cpp 14399), 0.69 (91), 0.11 (9244, macOS); safetensors maps as
 * well: 1.6 to 1.9 GB/s from NVMe (vllm 10647). */
static const double mapped_frac = 0.4;
/* Out of the page cache to the devices: one rank; ranks read side by side, their sum grows as the root of their number. */
static const double cached_bytes_per_s = 5.1e9;

/* Serving engines. */
static const double process_s = 18;                    /* Python, libraries, configuration, driver */
static const double compile_s_of_layer = 0.77, cached_compile_s_of_layer = 0.24; /* torch.compile, from its cache */
static const double profile_s_of_layer = 0.165;        /* profile run, cache, warm-up of kernels that are built already */
static const double graph_s_of_size = 0.32;            /* a captured batch size */
/* llama.cpp: driver and context, then warm-up; Transformers: Python and libraries. Nobody's log states them: assumed. */
static const double llama_process_s = 0.5, llama_warm_up_s = 1, transformers_process_s = 10;

static const char *const names[PL_LOAD_STAGES] = {"process", "weights", "compile", "profile", "graphs"};
static const char *const texts[PL_LOAD_STAGES] = {PL_N_("process"), PL_N_("weights"), PL_N_("compilation"), PL_N_("cache and warm-up"),
                                                  PL_N_("graphs")};

const char *pl_load_stage_name(enum pl_load_stage_kind k)
{
	return names[k];
}

const char *pl_load_stage_text(enum pl_load_stage_kind k)
{
	return pl_tr(texts[k]);
}

double pl_disk_bytes_per_s(double disk_bytes_per_s)
{
	return disk_bytes_per_s > 0 ? disk_bytes_per_s : assumed_disk_bytes_per_s;
}

double pl_mapped_bytes_per_s(double disk_bytes_per_s)
{
	return pl_disk_bytes_per_s(disk_bytes_per_s) * mapped_frac;
}

static bool is(const struct pl_speed_setup *s, const char *id)
{
	return !strcmp(s->engine ? s->engine->id : "llama.cpp", id);
}

/* vLLM: 1, 2, 4, by 8 to 256, by 16 to twice the sequences or 512 (vllm/config/vllm.py, _set_cudagraph_sizes). SGLang and
 * TensorRT-LLM go by 8 as well, to the largest they capture. */
static uint32_t graph_sizes(const struct pl_speed_setup *s)
{
	const struct pl_params *p = s->params;
	if (p->enforce_eager || is(s, "llama.cpp") || is(s, "transformers"))
		return 0;
	double most = p->max_cudagraph_batch ? p->max_cudagraph_batch : is(s, "vllm") ? fmin(p->max_num_seqs ? 2.0 * p->max_num_seqs : 512, 512) : 256;
	return (uint32_t)(3 + floor(fmin(most, 256) / 8) + (most > 256 ? floor((most - 256) / 16) : 0));
}

/* bitsandbytes reads the 16-bit checkpoint and packs it on the way. */
static double file_bytes(const struct pl_speed *s, const struct pl_speed_setup *setup)
{
	const struct pl_model *m = setup->model;
	const char *q = m->quant_name ? m->quant_name : "";
	bool packs = !strncasecmp(q, "bnb", 3) || !strncasecmp(q, "nf4", 3) || !strncasecmp(q, "int8", 4);
	return is(setup, "transformers") && packs && !m->quant_stored ? 2 * (double)m->n_params : s->weight_bytes;
}

static double ranks_of(const struct pl_params *p)
{
	double tp = p->tensor_parallel ? p->tensor_parallel : 1, pp = p->pipeline_parallel ? p->pipeline_parallel : 1;
	return tp * pp * (p->data_parallel ? p->data_parallel : 1);
}

/* Over the slots: llama.cpp copies device after device, other engines all ranks at once. */
static double to_device_s(const struct pl_speed_setup *setup)
{
	const struct pl_layout *l = setup->layout;
	double sum = 0, slowest = 0;
	for (uint32_t i = 0; l && i < l->n_devices && i < setup->machine->n_devices; i++) {
		const struct pl_device *d = &setup->machine->devices[i];
		double bytes = (double)l->devices[i].model_bytes;
		double seconds = d->unified_memory ? bytes / cached_bytes_per_s : bytes / (0.8 * pl_pcie_bytes_per_s(d));
		sum += seconds;
		slowest = fmax(slowest, seconds);
	}
	return is(setup, "llama.cpp") ? sum : slowest;
}

static void weights(const struct pl_speed *s, const struct pl_speed_setup *setup, struct pl_load_answer *ret)
{
	const struct pl_params *p = setup->params;
	bool llama = is(setup, "llama.cpp"), mapped = !llama || !p->no_mmap;
	double ranks = llama ? 1 : ranks_of(p), all = file_bytes(s, setup);
	/* ZeRO: every rank goes through the whole checkpoint and keeps its part */
	double handled = p->zero_stage == 3 ? all * ranks : all;
	ret->read_bytes = all;
	ret->disk_bytes_per_s = pl_disk_bytes_per_s(setup->disk_bytes_per_s);
	ret->disk_assumed = !(setup->disk_bytes_per_s > 0);
	ret->read_s = all / (ret->disk_bytes_per_s * (mapped ? mapped_frac : 1));
	ret->cached_s = handled / (cached_bytes_per_s * sqrt(ranks));
	ret->to_device_s = to_device_s(setup);
}

/* What is held at the end of a stage: weights and context from their stage on, cache and buffers from the profile run on. */
static void held(const struct pl_layout *l, struct pl_load_stage *st)
{
	st->host_bytes = st->device_bytes = l ? 0 : (double)NAN;
	for (uint32_t i = 0; l && i < l->n_devices; i++) {
		const struct pl_use *u = &l->devices[i];
		double bytes = (double)u->overhead_bytes;
		if (st->kind >= PL_LOAD_WEIGHTS)
			bytes += (double)u->model_bytes;
		if (st->kind >= PL_LOAD_PROFILE)
			bytes += (double)u->kv_bytes + (double)u->state_bytes + (double)u->compute_bytes;
		st->device_bytes = fmax(st->device_bytes, bytes);
	}
	if (!l)
		return;
	st->host_bytes = st->kind == PL_LOAD_PROCESS   ? (double)l->host.use.overhead_bytes
	                 : st->kind == PL_LOAD_WEIGHTS ? (double)l->host.peak_load_bytes
	                                               : (double)l->host.rest_bytes;
}

static void stage(const struct pl_speed_setup *setup, enum pl_load_stage_kind kind, double cold_s, double warm_s, struct pl_load_answer *ret)
{
	if (!(cold_s > 0))
		return;
	struct pl_load_stage *st = &ret->stages[ret->n_stages++];
	*st = (struct pl_load_stage){.kind = kind, .cold_s = cold_s, .warm_s = warm_s};
	held(setup->layout, st);
	ret->cold_start_s += cold_s;
	ret->warm_start_s += warm_s;
	if (kind != PL_LOAD_WEIGHTS)
		ret->init_s += cold_s;
}

void pl_speed_load(const struct pl_speed *s, const struct pl_speed_setup *setup, struct pl_load_answer *ret)
{
	double layers = setup->model->n_layers;
	bool llama = is(setup, "llama.cpp"), transformers = is(setup, "transformers"), serves = !llama && !transformers;
	bool compiles = is(setup, "vllm") && !setup->params->enforce_eager;
	double process = llama ? llama_process_s : transformers ? transformers_process_s : process_s;
	*ret = (struct pl_load_answer){.peak_host_bytes = setup->layout ? (double)setup->layout->host.peak_load_bytes : (double)NAN};
	weights(s, setup, ret);
	ret->n_graphs = graph_sizes(setup);
	stage(setup, PL_LOAD_PROCESS, process, process, ret);
	stage(setup, PL_LOAD_WEIGHTS, fmax(fmax(ret->read_s, ret->cached_s), ret->to_device_s), fmax(ret->cached_s, ret->to_device_s), ret);
	if (compiles)
		stage(setup, PL_LOAD_COMPILE, compile_s_of_layer * layers, cached_compile_s_of_layer * layers, ret);
	double profile = llama ? llama_warm_up_s : serves ? profile_s_of_layer * layers : 0;
	stage(setup, PL_LOAD_PROFILE, profile, profile, ret);
	stage(setup, PL_LOAD_GRAPHS, graph_s_of_size * ret->n_graphs, graph_s_of_size * ret->n_graphs, ret);
}
