/* Hugging Face Transformers with accelerate: the engine's row, where the modules go, and the answer. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/checked.h"
#include "base/fmt.h"
#include "engine/engines.h"
#include "engine/transformers.h"

static const uint64_t MIB = 1024 * 1024;

/* ---- what is asked ----------------------------------------------------------------------------------------------- */

static bool since(const struct tf_rules *r, uint32_t major, uint32_t minor)
{
	return r->major > major || (r->major == major && r->minor >= minor);
}

/* By reading releases 5.0, 5.10, 5.18 and 5.24, and the release notes of 4.45 (logits_to_keep) and 4.56 (layered caches). */
void tf_rules_of(const char *version, struct tf_rules *ret)
{
	struct tf_rules r = {.major = 5, .minor = 24};
	if (version) {
		char *end;
		r.major = (uint32_t)strtoul(version, &end, 10);
		r.minor = *end == '.' ? (uint32_t)strtoul(end + 1, NULL, 10) : 0;
	}
	r.stacked_experts = r.cpu_margin = since(&r, 5, 0);
	r.latent_cache = r.leaves_count = since(&r, 5, 18);
	r.window_cache = since(&r, 4, 56);
	r.last_logits = since(&r, 4, 45);
	*ret = r;
}

static bool starts(const char *s, const char *prefix)
{
	return s && !strncasecmp(s, prefix, strlen(prefix));
}

enum tf_scheme tf_scheme_of(const struct pl_model *m)
{
	const char *q = m->quant_name;
	if (starts(q, "int8") || starts(q, "bnb-int8"))
		return TF_BNB_INT8;
	if (starts(q, "nf4") || starts(q, "bnb-nf4") || starts(q, "bnb-4bit"))
		return TF_BNB_4BIT;
	if (starts(q, "gptq") || starts(q, "awq") || (starts(q, "w") && strstr(q, "a16")))
		return TF_GROUPED;
	if (starts(q, "fp8") || starts(q, "f8"))
		return TF_FP8;
	return starts(q, "mxfp4") ? TF_MXFP4 : TF_PLAIN;
}

static double capability_of(const struct pl_device *d)
{
	return d->vendor == PL_VENDOR_NVIDIA && d->gpu && d->gpu->capability ? strtod(d->gpu->capability, NULL) : 0;
}

/* Driver context with the kernels that were used: about 400 MB with lazy loading (pytorch/pytorch#109888; 300 MB for a small
 * network, #107667), 703 to 704 MiB on Blackwell (measured on RTX PRO 6000). */
static uint64_t context_of(const struct pl_device *d)
{
	if (d->vendor == PL_VENDOR_APPLE)
		return 0;
	return capability_of(d) >= 10 ? 704 * MIB : 400 * 1000 * 1000;
}

/* cuBLAS workspaces that PyTorch takes from its own allocator: 4096 KiB × 2 + 16 KiB × 8, on Hopper and later 4096 KiB × 8
 * (docs of torch.backends.cuda, CUBLAS_WORKSPACE_CONFIG). */
static uint64_t workspace_of(const struct pl_device *d)
{
	if (d->vendor != PL_VENDOR_NVIDIA)
		return 0;
	return capability_of(d) >= 9 ? 32 * MIB : 8 * MIB + 128 * 1024;
}

static uint64_t room_of(const struct tf_job *j, uint32_t gpu)
{
	const struct pl_device *d = &j->hw->devices[j->gpu[gpu]];
	uint64_t room = j->hw->detected && d->free_known ? d->free_bytes : d->total_bytes;
	if (d->vendor == PL_VENDOR_APPLE && !d->free_known) /* recommendedMaxWorkingSetSize */
		room = room / 4 * 3;
	return room;
}

static uint64_t ram_of(const struct tf_job *j)
{
	const struct pl_machine *hw = j->hw;
	if (hw->detected && hw->ram_free_bytes.known)
		return hw->ram_free_bytes.value;
	return hw->ram_bytes.known ? hw->ram_bytes.value : UINT64_MAX / 2;
}

static int cache_type(const struct tf_job *j, struct pl_err *err)
{
	enum pl_dtype k = j->p->type_k, v = j->p->type_v;
	bool plain = k == PL_DTYPE_UNKNOWN || k == PL_DTYPE_F16 || k == PL_DTYPE_BF16 || k == PL_DTYPE_I8 || k == PL_DTYPE_INT4;
	if (plain && (v == k || v == PL_DTYPE_UNKNOWN))
		return 0;
	return pl_fail(err, PL_ERR_UNSUPPORTED, "--kv-type",
	               "Transformers stores keys and values alike, in the model's 16 bits or as i8 or int4; %s and %s were asked",
	               pl_dtype_name(k), pl_dtype_name(v));
}

static int init(struct tf_job *j, struct pl_err *err)
{
	const struct pl_model *m = j->m;
	struct pl_params *p = j->p;
	if (!p->n_seq)
		return pl_fail(err, PL_ERR_RANGE, "n_seq", "0 sequences asked, at least 1 is needed");
	if (!p->n_ctx_tokens)
		p->n_ctx_tokens = m->n_ctx_train ? m->n_ctx_train : 4096;
	j->n_ctx = p->n_ctx_tokens;
	j->n_seq = p->n_seq;
	j->chunk = p->max_num_batched_tokens ? pl_min_u64(p->max_num_batched_tokens, j->n_ctx) : j->n_ctx;
	tf_rules_of(p->engine_version, &j->rules);
	j->scheme = tf_scheme_of(m);
	j->elem_bytes = m->quant_name && (starts(m->quant_name, "f32") || starts(m->quant_name, "fp32")) ? 4 : 2;
	j->bf16 = j->elem_bytes == 2 && !starts(m->quant_name, "f16");
	for (uint32_t i = 0; i < j->hw->n_devices && i < PL_MAX_DEVICES; i++) {
		const struct pl_device *d = &j->hw->devices[i];
		if (d->node)
			continue;
		j->context_bytes[j->n_gpus] = context_of(d);
		j->gpu[j->n_gpus++] = i;
		j->mps |= d->vendor == PL_VENDOR_APPLE;
		j->shared_ram |= d->unified_memory || d->vendor == PL_VENDOR_APPLE;
	}
	if (p->zero_stage == 3) { /* the ranks share the sequences */
		p->data_parallel = j->n_gpus;
		j->n_seq = pl_ceil_div(p->n_seq, j->n_gpus ? j->n_gpus : 1);
		int rc = tf_zero_check(j, err);
		if (rc)
			return rc;
	}
	return cache_type(j, err);
}

/* ---- where the modules go ---------------------------------------------------------------------------------------- */

struct tf_sum {
	struct pl_use gpu[PL_MAX_DEVICES]; /* by number in job->gpu */
	uint64_t cpu_bytes, disk_bytes;    /* weights kept there */
	struct tf_peak cpu;                /* computed there: no GPU */
	uint64_t pinned_bytes;             /* of cpu_bytes: ZeRO's buffers, no weights */
	bool fits, all_on_gpu;
	uint64_t over_bytes[PL_MAX_DEVICES];
};

static void add_weights(const struct tf_job *j, struct tf_sum *s)
{
	uint64_t rounding[PL_MAX_DEVICES] = {0};
	for (uint32_t i = 0; i < j->tree.n_nodes; i++) {
		int32_t w = j->where[i];
		uint64_t bytes = j->modules[i].weight_bytes;
		if (w >= 0) {
			s->gpu[w].model_bytes = pl_sat_add(s->gpu[w].model_bytes, bytes);
			rounding[w] = pl_sat_add(rounding[w], j->modules[i].rounding_bytes);
		} else if (w == DM_DISK) {
			s->disk_bytes = pl_sat_add(s->disk_bytes, bytes);
		} else {
			s->cpu_bytes = pl_sat_add(s->cpu_bytes, bytes);
		}
	}
	for (uint32_t d = 0; d < j->n_gpus; d++) {
		/* the weights of a device come from one block reserved at the start (caching_allocator_warmup) */
		uint64_t block = pl_sat_add(s->gpu[d].model_bytes, rounding[d]);
		s->gpu[d].overhead_bytes = pl_sat_add(j->context_bytes[d], pl_round_up(block, 2 * MIB) - s->gpu[d].model_bytes);
	}
}

/* Every module that lies inside a placed one gets its place, so that look-ups need no walk. */
static void spread(const struct tf_job *j)
{
	for (uint32_t i = 1; i < j->tree.n_nodes; i++) {
		uint32_t up = j->tree.nodes[i].parent;
		if (j->where[i] == DM_UNPLACED && up && j->where[up] != DM_UNPLACED)
			j->where[i] = j->where[up];
	}
}

static void measure(const struct tf_job *j, struct tf_sum *s)
{
	memset(s, 0, sizeof *s);
	add_weights(j, s);
	s->fits = true;
	s->all_on_gpu = j->n_gpus && !s->cpu_bytes && !s->disk_bytes;
	for (uint32_t d = 0; d < j->n_gpus; d++) {
		struct pl_use *u = &s->gpu[d];
		struct tf_peak peak;
		tf_peak(j, (int32_t)d, &peak);
		u->kv_bytes = peak.kv_bytes;
		u->state_bytes = peak.state_bytes;
		u->compute_bytes = peak.compute_bytes;
		u->overhead_bytes = pl_sat_add(u->overhead_bytes, peak.rounding_bytes);
		if (peak.compute_bytes)
			u->overhead_bytes = pl_sat_add(u->overhead_bytes, workspace_of(&j->hw->devices[j->gpu[d]]));
		s->over_bytes[d] = pl_sat_sub(pl_use_total_bytes(u), room_of(j, d));
		s->fits &= !s->over_bytes[d];
	}
	if (!j->n_gpus)
		tf_peak(j, DM_CPU, &s->cpu);
	/* bitsandbytes and MXFP4 refuse a map that leaves something off the GPU */
	bool gpu_only = j->scheme == TF_BNB_INT8 || j->scheme == TF_BNB_4BIT || j->scheme == TF_MXFP4;
	if (gpu_only && j->n_gpus && !s->all_on_gpu)
		s->fits = false;
}

static struct dm_room whole_room(const struct tf_job *j)
{
	struct dm_room r = {.n_gpus = j->n_gpus, .has_cpu = !j->shared_ram};
	for (uint32_t d = 0; d < j->n_gpus; d++)
		r.gpu_bytes[d] = (double)pl_sat_sub(room_of(j, d), j->context_bytes[d]);
	r.cpu_bytes = (double)ram_of(j) * (j->rules.cpu_margin ? 0.9 : 1.0);
	return r;
}

static void infer(struct tf_job *j, const struct dm_room *room, struct tf_sum *s)
{
	uint32_t *scratch = PL_NEW_N(j->a, uint32_t, 2 * (uint64_t)j->tree.n_nodes);
	if (!scratch)
		return;
	dm_infer(&j->tree, room, scratch, j->where);
	spread(j);
	measure(j, s);
}

/* device_map="auto" as it is when nothing else is said. */
static void place_auto(struct tf_job *j, struct tf_sum *s)
{
	struct dm_room room = whole_room(j);
	bool bnb = j->scheme == TF_BNB_INT8 || j->scheme == TF_BNB_4BIT;
	if (j->n_gpus == 1 && !j->mps)
		room.gpu_bytes[0] *= 0.9; /* accelerate keeps 10 % of a single GPU */
	dm_balance(&j->tree, &room, j->rules.leaves_count);
	for (uint32_t d = 0; bnb && d < room.n_gpus; d++) /* room for what quantising makes */
		room.gpu_bytes[d] *= 0.9;
	room.cpu_bytes *= bnb ? 0.9 : 1;
	infer(j, &room, s);
}

/* device_map={"": 0} */
static void place_one(struct tf_job *j, struct tf_sum *s)
{
	for (uint32_t i = 0; i < j->tree.n_nodes; i++)
		j->where[i] = i ? 0 : DM_UNPLACED;
	measure(j, s);
}

/* Bytes of a decoder layer, the largest: what a GPU gives up at once. */
static double layer_bytes(const struct tf_job *j)
{
	uint64_t most = 0;
	for (uint32_t i = 0; i < j->m->n_layers; i++)
		most = pl_max_u64(most, j->tree.nodes[j->layer_node[i]].bytes);
	return (double)most;
}

/* device_map="sequential" with max_memory lowered until what is computed fits beside the weights: by what is too much, by a
 * whole layer where that moved none. */
static void place_tight(struct tf_job *j, struct tf_sum *s)
{
	struct dm_room room = whole_room(j);
	uint64_t held[PL_MAX_DEVICES] = {0};
	double layer = layer_bytes(j);
	for (int round = 0; round < 24; round++) {
		infer(j, &room, s);
		bool over = false;
		for (uint32_t d = 0; d < j->n_gpus; d++) {
			double cut = (double)s->over_bytes[d];
			if (s->gpu[d].model_bytes == held[d] && cut < layer)
				cut = layer;
			held[d] = s->gpu[d].model_bytes;
			if (!s->over_bytes[d])
				continue;
			over = true;
			room.gpu_bytes[d] = room.gpu_bytes[d] > cut ? room.gpu_bytes[d] - cut : 0;
		}
		if (!over)
			break;
	}
	j->custom = room;
}

static void choose(struct tf_job *j, struct tf_sum *s)
{
	struct tf_sum other;
	place_auto(j, s);
	if (j->p->device_map_auto || !j->n_gpus || (s->fits && s->all_on_gpu))
		return;
	place_one(j, &other);
	if (other.fits) {
		*s = other;
		j->one_device = true;
		return;
	}
	place_tight(j, &other);
	if (other.fits && (!s->fits || other.all_on_gpu)) {
		*s = other;
		return;
	}
	j->custom.n_gpus = 0;
	place_auto(j, s);
}

/* Every rank computes the whole model: what it holds beside its share of the weights is what one GPU alone would. */
static void place_sharded(struct tf_job *j, struct tf_sum *s)
{
	struct tf_zero z;
	struct tf_peak peak;
	tf_zero(j, &z);
	for (uint32_t i = 0; i < j->tree.n_nodes; i++)
		j->where[i] = i ? 0 : DM_UNPLACED;
	tf_peak(j, 0, &peak);
	*s = (struct tf_sum){.fits = true, .all_on_gpu = j->p->zero_offload == PL_ZERO_GPU};
	s->cpu_bytes = j->p->zero_offload == PL_ZERO_CPU ? z.pinned_bytes : 0;
	s->pinned_bytes = j->p->zero_offload == PL_ZERO_NVME ? z.pinned_bytes : 0;
	for (uint32_t d = 0; d < j->n_gpus; d++) {
		s->gpu[d] = (struct pl_use){.model_bytes = z.gpu_bytes, .kv_bytes = peak.kv_bytes, .state_bytes = peak.state_bytes};
		s->gpu[d].compute_bytes = pl_sat_add(peak.compute_bytes, z.live_bytes);
		s->gpu[d].overhead_bytes = pl_sat_add(pl_sat_add(j->context_bytes[d], peak.rounding_bytes), workspace_of(&j->hw->devices[j->gpu[d]]));
		s->over_bytes[d] = pl_sat_sub(pl_use_total_bytes(&s->gpu[d]), room_of(j, d));
		s->fits &= !s->over_bytes[d];
	}
	j->one_device = true;
}

/* ---- the answer -------------------------------------------------------------------------------------------------- */

/* Python with PyTorch, CUDA started: 0.44 to 2.06 GB resident (pytorch/pytorch#113326); the middle is taken. */
static const uint64_t HOST_FOOTPRINT_BYTES = 1200 * 1000 * 1000ull;

static uint64_t largest_tensor(const struct pl_model *m)
{
	uint64_t most = 0;
	for (uint32_t i = 0; i < m->n_tensors; i++)
		if (m->tensors[i].n_stacked <= 1)
			most = pl_max_u64(most, m->tensors[i].bytes);
	return most;
}

static void answer_host(const struct tf_job *j, const struct tf_sum *s, struct pl_layout *out)
{
	struct pl_host_use *h = &out->host;
	uint64_t processes = j->p->zero_stage == 3 ? j->n_gpus : 1;
	h->use = (struct pl_use){.name = pl_tr("host"),
	                         .total_bytes = j->hw->ram_bytes.known ? j->hw->ram_bytes.value : 0,
	                         .model_bytes = pl_sat_add(s->cpu_bytes, s->disk_bytes),
	                         .kv_bytes = s->cpu.kv_bytes,
	                         .state_bytes = s->cpu.state_bytes,
	                         .compute_bytes = pl_sat_add(s->cpu.compute_bytes, s->pinned_bytes),
	                         .overhead_bytes = pl_sat_mul(HOST_FOOTPRINT_BYTES, processes)};
	h->mapped_bytes = s->disk_bytes;
	h->rest_bytes = pl_use_total_bytes(&h->use);
	/* files are mapped and each tensor goes to its device by itself (core_model_loading): one is in flight */
	h->peak_load_bytes = pl_sat_add(h->rest_bytes, j->n_gpus ? pl_sat_mul(largest_tensor(j->m), processes) : 0);
}

static void worst(struct pl_layout *out, uint64_t need, uint64_t room, const char *name)
{
	if (need > room) {
		out->fits = false;
		if (need - room > out->missing_bytes) {
			out->missing_bytes = need - room;
			out->where_missing = name;
		}
	} else if (room - need < out->spare_bytes) {
		out->spare_bytes = room - need;
	}
}

static void judge(const struct tf_job *j, const struct tf_sum *s, struct pl_layout *out)
{
	out->fits = s->fits;
	out->spare_bytes = UINT64_MAX;
	for (uint32_t d = 0; d < j->n_gpus; d++)
		if (s->gpu[d].model_bytes || s->gpu[d].compute_bytes)
			worst(out, pl_use_total_bytes(&s->gpu[d]), room_of(j, d), j->hw->devices[j->gpu[d]].name);
	uint64_t spare = out->spare_bytes, need = pl_sat_sub(out->host.rest_bytes, s->disk_bytes);
	for (uint32_t d = 0; d < j->n_gpus && j->shared_ram; d++)
		need = pl_sat_add(need, pl_use_total_bytes(&s->gpu[d]));
	if (j->hw->ram_bytes.known)
		worst(out, need, ram_of(j), pl_tr("RAM"));
	if (s->all_on_gpu)
		out->spare_bytes = spare;
	if (!out->fits && !out->missing_bytes) { /* weights that may not leave the GPUs */
		out->missing_bytes = pl_max_u64(pl_sat_add(s->cpu_bytes, s->disk_bytes), 1);
		out->where_missing = j->hw->devices[j->gpu[0]].name;
	}
	if (!out->fits || out->spare_bytes == UINT64_MAX)
		out->spare_bytes = 0;
}

static void answer_devices(const struct tf_job *j, const struct tf_sum *s, struct pl_layout *out)
{
	for (uint32_t i = 0; i < out->n_devices; i++) {
		out->devices[i].name = j->hw->devices[i].name;
		out->devices[i].total_bytes = j->hw->devices[i].total_bytes;
	}
	for (uint32_t d = 0; d < j->n_gpus; d++) {
		struct pl_use *u = &out->devices[j->gpu[d]], head = *u;
		*u = s->gpu[d];
		u->name = head.name;
		u->total_bytes = head.total_bytes;
	}
	for (uint32_t i = 0; i < j->m->n_layers; i++) {
		int32_t w = j->where[j->layer_node[i]], on = tf_runs_on(j, j->layer_node[i]);
		out->layer_device[i] = w >= 0 ? (int16_t)j->gpu[w] : -1;
		for (uint32_t d = 0; d < j->n_gpus && j->p->zero_stage == 3; d++)
			out->devices[j->gpu[d]].n_layers++;
		if (on >= 0 && j->p->zero_stage != 3)
			out->devices[j->gpu[on]].n_layers++;
	}
	for (uint32_t i = 0; i < j->m->n_layers_mtp; i++)
		out->layer_device[j->m->n_layers + i] = -1;
}

static void zero_notes(const struct tf_job *j, struct pl_layout *out)
{
	struct tf_zero z;
	char shard[PL_FMT_MAX], live[PL_FMT_MAX];
	tf_zero(j, &z);
	pl_note_add(j->a, &out->notes, PL_NOTE_INFO,
	            "each of %u ranks keeps %s of the weights and gathers up to %s of them at once, for a batch of %llu of its own",
	            j->n_gpus, pl_fmt_bytes(shard, z.shard_bytes), pl_fmt_bytes(live, z.live_bytes), (unsigned long long)j->n_seq);
	if (z.disk_bytes)
		pl_note_add(j->a, &out->notes, PL_NOTE_WARNING, "all weights are read from the NVMe drive for every token");
	if (j->p->n_seq % j->n_gpus)
		pl_note_add(j->a, &out->notes, PL_NOTE_INFO, "a concurrency of %u is no multiple of %u ranks: some of them compute for nobody", j->p->n_seq,
		            j->n_gpus);
}

static void add_notes(const struct tf_job *j, const struct tf_sum *s, struct pl_layout *out)
{
	bool bnb = j->scheme == TF_BNB_INT8 || j->scheme == TF_BNB_4BIT;
	if (j->chunk == j->n_ctx)
		pl_note_add(j->a, &out->notes, PL_NOTE_INFO,
		            "the peak is that of a prompt as long as the context; prefill_chunk_size (--max-num-batched-tokens) lowers it");
	if (bnb && j->rules.stacked_experts && j->largest_stack_bytes && j->m->format == PL_FORMAT_CONFIG &&
	    !j->m->quant_stored)
		pl_note_add(j->a, &out->notes, PL_NOTE_WARNING,
		            "bitsandbytes leaves the experts in 16 bit: Transformers 5 stacks them in one parameter");
	if (bnb && j->n_gpus && !s->all_on_gpu)
		pl_note_add(j->a, &out->notes, PL_NOTE_WARNING, "bitsandbytes refuses a model of which a part is kept off the GPUs");
	if (j->p->zero_stage == 3)
		zero_notes(j, out);
	else if (s->disk_bytes)
		pl_note_add(j->a, &out->notes, PL_NOTE_WARNING, "a part of the weights is read from disk for every token");
	if (j->hw->n_nodes > 1)
		pl_note_add(j->a, &out->notes, PL_NOTE_WARNING, "Transformers runs on one host: only the devices of the first are used");
	if (!j->hw->ram_bytes.known)
		pl_note_add(j->a, &out->notes, PL_NOTE_INFO, "the RAM of the machine is not stated: it is taken as large enough");
}

/* What the launch line has to repeat: shares in bytes when "auto" would place otherwise. */
static void write_back(const struct tf_job *j)
{
	for (uint32_t d = 0; d < j->n_gpus; d++)
		j->p->tensor_split[j->gpu[d]] = j->custom.n_gpus ? j->custom.gpu_bytes[d] : 0;
	j->p->device_map_auto = !j->one_device && !j->custom.n_gpus;
}

static int layout(struct pl_arena *a, const struct pl_model *m, const struct pl_machine *hw, struct pl_params *p,
                  struct pl_layout *ret_layout, struct pl_err *err)
{
	struct pl_params resolved = *p;
	struct tf_job *j = PL_NEW(a, struct tf_job);
	struct tf_sum *sum = PL_NEW(a, struct tf_sum);
	struct pl_layout out = {.n_devices = hw->n_devices};
	out.devices = PL_NEW_N(a, struct pl_use, (uint64_t)hw->n_devices + 1);
	out.layer_device = PL_NEW_N(a, int16_t, (uint64_t)m->n_layers + m->n_layers_mtp + 1);
	if (!j || !sum || !out.devices || !out.layer_device)
		return pl_fail(err, PL_ERR_NOMEM, m->name, "out of memory while laying out %u layers", m->n_layers);
	*j = (struct tf_job){.a = a, .m = m, .hw = hw, .p = &resolved};
	int rc = init(j, err);
	rc = rc ? rc : tf_tree(j, err);
	if (rc)
		return rc;
	if (resolved.zero_stage == 3)
		place_sharded(j, sum);
	else
		choose(j, sum);
	if (pl_arena_failed(a))
		return pl_fail(err, PL_ERR_NOMEM, m->name, "out of memory while laying out %u layers", m->n_layers);
	answer_devices(j, sum, &out);
	answer_host(j, sum, &out);
	judge(j, sum, &out);
	out.kv_bytes_per_token = tf_cache_bytes_per_token(j);
	out.n_ctx_tokens = j->n_ctx;
	add_notes(j, sum, &out);
	write_back(j);
	*p = resolved;
	*ret_layout = out;
	return 0;
}

/* ---- support ----------------------------------------------------------------------------------------------------- */

static enum pl_support no(struct pl_arena *a, const char **ret, const char *text, const char *what)
{
	*ret = pl_arena_printf(a, "%s: %s", what, text);
	return PL_SUPPORT_NO;
}

static bool has_ggml_blocks(const struct pl_model *m)
{
	for (uint32_t i = 0; i < m->n_tensors; i++) {
		const struct pl_dtype_info *d = pl_dtype_info(m->tensors[i].type);
		if (d->ggml_id >= 0 && d->block_elems > 1 && m->tensors[i].type != PL_DTYPE_MXFP4)
			return true;
	}
	return false;
}

static enum pl_support supports(struct pl_arena *a, const struct pl_model *m, const struct pl_machine *hw,
                                const char **ret_reason)
{
	const char *q = m->quant_name ? m->quant_name : "";
	if (m->format == PL_FORMAT_GGUF || has_ggml_blocks(m))
		return no(a, ret_reason, pl_tr("Transformers would unpack it to 16 bit; plan the safetensors model"), q);
	if (starts(q, "mlx"))
		return no(a, ret_reason, pl_tr("Transformers does not read the weights of MLX"), q);
	if (starts(q, "nvfp4"))
		return no(a, ret_reason, pl_tr("Transformers does not load checkpoints in this format yet"), q);
	for (uint32_t i = 0; i < hw->n_devices; i++) {
		const struct pl_device *d = &hw->devices[i];
		double cc = capability_of(d);
		if (d->vendor == PL_VENDOR_GOOGLE || d->vendor == PL_VENDOR_AWS || d->vendor == PL_VENDOR_OTHER)
			return no(a, ret_reason, pl_tr("PyTorch has no backend of its own for it"), d->name);
		if (cc > 0 && cc < 5.0)
			return no(a, ret_reason, pl_tr("PyTorch has no kernels for cards of this age"), d->name);
		if (cc > 0 && cc < 7.0) {
			*ret_reason = pl_arena_printf(a, pl_tr("current builds of PyTorch leave out the kernels for %s"), d->name);
			return PL_SUPPORT_UNSURE;
		}
	}
	if (!m->arch_known) {
		*ret_reason = pl_arena_printf(a, pl_tr("the modules of '%s' are not modelled"), m->arch ? m->arch : "");
		return PL_SUPPORT_UNSURE;
	}
	return PL_SUPPORT_YES;
}

static const enum pl_dtype kv_types[] = {PL_DTYPE_BF16, PL_DTYPE_I8, PL_DTYPE_INT4, PL_DTYPE_UNKNOWN};

static const struct pl_server server = {
    .host_flag = "--host",
    .port_flag = "--port",
    .port = 8000,
    .health_path = "/health",
};

const struct pl_engine pl_engine_transformers = {
    .id = "transformers",
    .aliases = "hf huggingface accelerate",
    .version = "5.24",
    .supports = supports,
    .layout = layout,
    .command = tf_command,
    .kv_types = kv_types,
    .server = &server,
};
