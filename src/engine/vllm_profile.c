/* The profile run: what vLLM subtracts from its share of the card before the cache. */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "engine/vllm.h"
#include "memory/step.h"

static const uint64_t MIB = 1024 * 1024;

/* The driver's context: there before vLLM takes its first look, so outside its share. 0.27 GiB on RTX 3090 (M037: 0.35 GiB when it
 * was counted), more with more kernels; on MI300X about 1 GiB with its libraries (M081: 3.7 GiB between share, weights and pool). */
uint64_t vl_context(const struct pl_device *d)
{
	double c = d->gpu && d->vendor == PL_VENDOR_NVIDIA && d->gpu->capability ? atof(d->gpu->capability) : 0;
	return d->vendor == PL_VENDOR_AMD ? 1024 * MIB : c > 0 && c < 9 ? 276 * MIB : 320 * MIB;
}

/* ---- activations ---------------------------------------------------------------------------------------------------- */

static uint64_t forward_bytes(const struct vl_job *j, const struct vl_answer *x, const struct pl_shard_stage *s)
{
	uint64_t most = 0, h = j->m->n_embd;
	for (uint32_t i = s->first_layer; i < s->end_layer; i++) {
		const struct pl_layer *l = &j->m->layers[i];
		most = pl_max_u64(most, pl_max_u64(pl_step_ffn_width(l, h, x->place.tp, x->place.expert_ranks > 1 ? 1 : x->place.tp),
		                                   pl_step_mixer_width(l, x->place.tp)));
	}
	return pl_sat_mul(pl_sat_mul(2, pl_sat_add(3 * h, most)), x->max_num_batched_tokens);
}

/* Bytes of one logit while every sequence's row is sampled with top-k and top-p.
 * With PyTorch's sort (to 0.16): logits of 16 and of 32 bit, sorted values, their indices (64 bit), the indices that go in, and the
 * radix sort's second buffers for both: 2 + 4 + 4 + 8 + 8 + 12 = 38; below 128 rows PyTorch sorts all rows as one, with
 * pairs of (segment, index) beside them: 50 (ATen/native/cuda/Sort.cu). 38 is what 15 public logs of T4 to H100 show to 1 %
 * (data/measurements/serving_memory.csv, M064 to M070 and M101 to M116).
 * In place (from 0.17): logits of 16 and 32 bit, probabilities and noise. */
static uint64_t logit_bytes(const struct vl_job *j, uint32_t rows)
{
	if (j->rules.sort_sampler || rows < 8)
		return rows >= 128 || rows == 1 ? 38 : 50;
	return 14;
}

/* Rows of scratch the in-place kernel keeps, one a multiprocessor: 128 stand for all cards. */
enum { SCRATCH_ROWS = 128 };

static uint64_t sampler_bytes(const struct vl_job *j, const struct vl_answer *x)
{
	uint64_t rows = pl_min_u64(x->max_num_seqs, x->max_num_batched_tokens);
	uint64_t logits = pl_sat_mul(rows, j->m->n_vocab), h = pl_sat_mul(2, j->m->n_embd);
	uint64_t hidden = pl_sat_mul(h, pl_sat_add(x->max_num_batched_tokens, 2 * rows)); /* all, and twice the rows sampled */
	uint64_t scratch = j->rules.sort_sampler ? 0 : pl_sat_mul(4 * pl_min_u64(rows, SCRATCH_ROWS), j->m->n_vocab);
	return pl_sat_add(pl_sat_add(pl_sat_mul(logits, logit_bytes(j, (uint32_t)rows)), hidden), scratch);
}

/* Images of the largest size, as many as the step's tokens (or one image) allow, through the tower. Width by its number of
 * parameters, P = 27 layers × 11.5 × width² (SigLIP and Qwen's towers, feed forward 3.74 × width). */
static uint64_t tower_bytes(const struct vl_job *j, const struct vl_answer *x)
{
	const char *type = j->m->hf_type ? j->m->hf_type : "";
	bool qwen = !strncmp(type, "qwen", 4), gemma = !strncmp(type, "gemma", 5);
	uint64_t budget = x->max_num_batched_tokens, width = 1;
	if (!j->m->n_params_vision || j->p->language_model_only)
		return 0;
	while (width * width * 310 < j->m->n_params_vision)
		width++;
	if (qwen) /* one image may take 16384 tokens of 2 × 2 patches */
		budget = pl_max_u64(budget, 16384);
	uint64_t patches = pl_sat_mul(budget, gemma ? 16 : 4); /* Gemma pools 4 × 4, the others merge 2 × 2 */
	uint64_t inner = pl_sat_mul(2, pl_sat_add(3 * width, 748 * width / 100 / x->place.tp));
	return pl_sat_add(pl_sat_mul(patches, inner), pl_sat_mul(pl_sat_mul(2, j->m->n_embd), budget));
}

/* cuBLAS keeps 32 MiB from Hopper on and 8 MiB before (aten/src/ATen/cuda/CUDABlas.cpp), input buffers take about 5 MB. */
static uint64_t standing_bytes(const struct vl_job *j)
{
	return (j->capability >= 9 ? 32 * MIB : 8 * MIB) + 5000000;
}

/* From 0.17 routed layers keep their two buffers for good: both stand beside whatever else peaks
 * (v1/worker/workspace.py, fused_moe/modular_kernel.py). */
static uint64_t expert_workspace(const struct vl_job *j, const struct vl_answer *x, const struct pl_shard_stage *s)
{
	uint64_t most = 0, h = j->m->n_embd;
	for (uint32_t i = s->first_layer; i < s->end_layer && j->rules.version >= 1700; i++) {
		const struct pl_layer *l = &j->m->layers[i];
		uint64_t wide = pl_ceil_div(l->n_ff_expert, x->place.expert_ranks > 1 ? 1 : x->place.tp);
		uint64_t row = pl_sat_mul(l->n_expert_used, pl_max_u64(wide, h) + pl_max_u64(2 * wide, h));
		if (l->ffn == PL_FFN_MOE)
			most = pl_max_u64(most, pl_sat_mul(2 * row, x->max_num_batched_tokens));
	}
	return most;
}

uint64_t vl_activation(const struct vl_job *j, const struct vl_answer *x, const struct pl_shard_stage *s, bool driver)
{
	uint64_t most = forward_bytes(j, x, s);
	/* V0 samples on the driver alone */
	if (s->has_output && !j->m->is_embedding && (j->rules.v1 || driver))
		most = pl_max_u64(most, sampler_bytes(j, x));
	if (s->has_input)
		most = pl_max_u64(most, tower_bytes(j, x));
	return pl_sat_add(most, pl_sat_add(standing_bytes(j), expert_workspace(j, x, s)));
}

/* ---- beside PyTorch ------------------------------------------------------------------------------------------------- */

/* Kernels loaded and libraries' handles, growing with the number of multiprocessors and the generation: T4 0.03 GiB, 4090
 * 0.08, A100 0.09, H100 0.13 to 0.16 (M037 on, TP 1). Between ranks NCCL's buffers and the all-reduce regions: 0.41 GiB more
 * over NVLink (M066, M070), 0.17 over PCIe (M017); 4 and 8 ranks take about 50 MiB more than 2 (ai-dynamo/aiconfigurator
 * system files: 342 and 392 MiB). */
uint64_t vl_non_torch(const struct vl_job *j, const struct sv_place *pl, const struct pl_device *d)
{
	const char *link = j->hw->link;
	double c = j->capability;
	uint64_t base = d->vendor == PL_VENDOR_AMD ? 1024u : c <= 0 ? 100u : c < 8 ? 31u : c < 8.5 ? 92u : c < 9 ? 82u : 138u;
	/* PyTorch 2.10: 0.25 GiB on H100 with 0.19 (Llama 3.1 8B), 0.16 with 0.27 (a model of 1 B) */
	if (j->rules.version >= 1700 && d->vendor != PL_VENDOR_AMD)
		base += 80;
	bool fast = link ? strstr(link, "nvlink") != NULL
	                 : d->gpu && d->gpu->form_factor && !strcmp(d->gpu->form_factor, "SXM") && d->gpu->link_bytes_per_s > 0;
	uint64_t between = 0;
	if (pl->tp > 1)
		between = (fast ? 420u : 174u) + (pl->tp > 2 ? 50u : 0u);
	if (pl->tp == 1 && pl->dp > 1 && pl->expert_ranks > 1) /* experts' tokens travel between replicas */
		between = fast ? 420u : 174u;
	if (pl->pp > 1)
		between += 100;
	if (d->unified_memory) /* free memory is the host's too: the processes count (55.7 of 61 GiB left, Qwen3.5-35B-A3B on GB10) */
		base += 5 * 1024;
	return (base + between) * MIB + (j->rules.context_counted ? vl_context(d) : 0);
}

/* ---- CUDA graphs ---------------------------------------------------------------------------------------------------- */

static uint32_t count_steps(const struct vl_job *j, uint32_t most)
{
	uint32_t n = most >= 4 ? 3 : most >= 2 ? 2 : most;
	for (uint32_t b = 8; b <= most; b += j->rules.wide_graph_steps && b >= 256 ? 16 : 8)
		n++;
	return n;
}

/* Batches captured: in pieces up to twice the sequences and 512; whole decode steps up to the sequences. */
static uint32_t count_graphs(const struct vl_job *j, const struct vl_answer *x)
{
	uint64_t most = j->rules.v1 ? pl_min_u64(2ull * x->max_num_seqs, 512) : pl_min_u64(x->max_num_seqs, 256);
	if (j->p->enforce_eager)
		return 0;
	if (j->p->max_cudagraph_batch)
		most = j->p->max_cudagraph_batch;
	most = pl_min_u64(most, x->max_num_batched_tokens);
	uint32_t n = count_steps(j, (uint32_t)most);
	if (j->rules.full_graphs)
		n += count_steps(j, (uint32_t)pl_min_u64(most, x->max_num_seqs));
	return n;
}

/* What the graphs of one rank keep; from 0.20 the engine estimates it from the first two captures of each kind and takes it off
 * the pool. Closed form over public logs of 0.19 to 0.27: 0.14 MiB a graph and layer (0.37 GiB for 54 graphs of 28 layers, 0.52
 * for 86 of 36) and what the first capture brings: 140 MiB, 250 more with recurrent layers (0.43 to 0.78 GiB), 500 more with
 * routed ones (1.65 GiB for 86 graphs of 40 layers). Before 0.13 a graph and layer took 0.4 MiB (1.12 GiB for 90 of 36, M112). */
uint64_t vl_graphs(const struct vl_job *j, struct vl_answer *x, const struct pl_shard_stage *s)
{
	uint64_t layers = s->end_layer - s->first_layer, first = 140;
	bool state = false, routed = false;
	x->n_graphs = count_graphs(j, x);
	for (uint32_t i = s->first_layer; i < s->end_layer; i++) {
		state |= j->m->layers[i].rec != PL_REC_NONE;
		routed |= j->m->layers[i].ffn == PL_FFN_MOE;
	}
	first += (state ? 250u : 0u) + (routed ? 500u : 0u);
	if (!x->n_graphs)
		return 0;
	uint64_t each = layers * MIB / 100 * (j->rules.version >= 1300 ? 14 : 40);
	return pl_sat_add(pl_sat_mul(x->n_graphs, each), j->rules.version >= 1300 ? first * MIB : 0);
}
