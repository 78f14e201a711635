/* The profile run: what vLLM subtracts from its share of the card before the cache. */
#include <string.h>

#include "base/checked.h"
#include "engine/vllm.h"

static const uint64_t MIB = 1024 * 1024;

/* Bytes PyTorch sees of a card. The driver keeps a part of what it reports as total; closed form over T4 (14.74 GiB seen),
 * L4 (22.161), RTX 3090 (23.58), A100 40 GB (39.56), H100 (79.18 to 79.20), B200 (178.353): within 0.5 % of each. */
uint64_t vl_visible(const struct pl_device *d)
{
	if (d->vendor != PL_VENDOR_NVIDIA && d->vendor != PL_VENDOR_UNKNOWN)
		return d->total_bytes;
	return pl_sat_sub(d->total_bytes, 330 * MIB + d->total_bytes / 400);
}

/* The driver's context: there before vLLM takes its first look, so outside its share. */
uint64_t vl_context(const struct pl_device *d)
{
	return d->vendor == PL_VENDOR_AMD ? 400 * MIB : 320 * MIB;
}

/* ---- activations ---------------------------------------------------------------------------------------------------- */

/* Bytes of a token while one layer runs, 16-bit values: residual, its normed copy and the result beside the widest inner
 * tensors, gate and up with their product. 6 × (hidden + intermediate) on one rank: 2.06 of 2.07 GiB and 2.99 of 2.99 GiB
 * measured for Llama 3.1 8B at 20,000 and 29,000 tokens (data/measurements/serving_memory.csv M037, M038). */
static uint64_t ffn_token_bytes(const struct vl_job *j, const struct pl_layer *l, uint32_t tp)
{
	uint64_t h = j->m->n_embd, dense = pl_ceil_div(pl_max_u64(l->n_ff, l->n_ff_shared), tp);
	uint64_t inner = l->ffn == PL_FFN_PLAIN ? 2 * dense : 3 * dense;
	if (l->ffn == PL_FFN_MOE) { /* outputs of the first matrix and of the second share a buffer; the activated half its own */
		uint64_t wide = pl_ceil_div(l->n_ff_expert, j->p->expert_parallel ? 1 : tp);
		uint64_t routed = pl_sat_mul(l->n_expert_used, pl_max_u64(2 * wide, h) + wide);
		inner = pl_max_u64(inner, routed);
	}
	return pl_sat_mul(2, pl_sat_add(3 * h, inner));
}

static uint64_t mixer_token_bytes(const struct vl_job *j, const struct pl_layer *l, uint32_t tp)
{
	uint64_t h = j->m->n_embd, heads = pl_ceil_div(l->n_head, tp), kv = l->n_head_kv > tp ? pl_ceil_div(l->n_head_kv, tp) : 1;
	uint64_t inner = 0;
	if (l->attn == PL_ATTN_GQA) /* fused projection, rotated queries and keys, output */
		inner = 2 * (heads * l->d_k + kv * l->d_k) + heads * l->d_v + kv * l->d_v + (l->q_gated ? heads * l->d_k : 0);
	if (l->attn == PL_ATTN_MLA) /* prompts expand the latent rows into keys and values of every head */
		inner = heads * (2ull * l->d_k + l->d_nope + 2ull * l->d_v) + l->q_lora + l->kv_lora + l->d_rope;
	if (l->rec != PL_REC_NONE)
		inner = pl_max_u64(inner, 4 * pl_ceil_div(pl_max_u64(l->d_inner, (uint64_t)l->rec_heads * l->rec_d_v), tp));
	return pl_sat_mul(2, pl_sat_add(3 * h, inner));
}

static uint64_t forward_bytes(const struct vl_job *j, const struct vl_answer *x, const struct pl_shard_stage *s)
{
	uint64_t most = 0;
	for (uint32_t i = s->first_layer; i < s->end_layer; i++) {
		const struct pl_layer *l = &j->m->layers[i];
		most = pl_max_u64(most, pl_max_u64(ffn_token_bytes(j, l, x->place.tp), mixer_token_bytes(j, l, x->place.tp)));
	}
	return pl_sat_mul(most, x->max_num_batched_tokens);
}

/* Sampling a row of logits for every sequence. Bytes of one logit while top-k and top-p run:
 * with the full sort: 16-bit and 32-bit logits, sorted values, 64-bit indices, the sort's scratch, softmax, cumulative sum,
 * masks; measured 38.3 to 38.6 beside the hidden states in seven runs of 0.11.0 on H100 (M064, M066 to M070).
 * with the kernel that selects in place: 16-bit and 32-bit logits, probabilities and noise of 32 bit, a scratch row. */
static uint64_t sampler_bytes(const struct vl_job *j, const struct vl_answer *x)
{
	uint64_t logits = pl_sat_mul(x->max_num_seqs, j->m->n_vocab);
	uint64_t hidden = pl_sat_mul(pl_sat_mul(2, j->m->n_embd), x->max_num_batched_tokens);
	uint64_t twentieths = j->rules.sort_sampler ? 766 : 320; /* 38.3 and 16 */
	return pl_sat_add(pl_sat_mul(logits, twentieths) / 20, hidden);
}

uint64_t vl_activation(const struct vl_job *j, const struct vl_answer *x, const struct pl_shard_stage *s)
{
	uint64_t forward = forward_bytes(j, x, s);
	uint64_t sample = s->has_output && !j->m->is_embedding ? sampler_bytes(j, x) : 0;
	return pl_max_u64(forward, sample);
}

/* ---- beside PyTorch ------------------------------------------------------------------------------------------------- */

/* Kernels loaded and libraries' handles, growing with the number of multiprocessors and the generation: T4 0.03 GiB, 4090
 * 0.08, A100 0.09, H100 0.13 to 0.16 (M037 on, TP 1). Between ranks NCCL's buffers and the all-reduce regions: 0.41 GiB more
 * over NVLink (M066, M070), 0.17 over PCIe (M017); 4 and 8 ranks take about 50 MiB more than 2 (ai-dynamo/aiconfigurator
 * system files: 342 and 392 MiB). */
uint64_t vl_non_torch(const struct vl_job *j, const struct vl_place *pl, const struct pl_device *d)
{
	const char *link = j->hw->link;
	double c = j->capability;
	uint64_t base = d->vendor == PL_VENDOR_AMD ? 600u : c <= 0 ? 100u : c < 8 ? 31u : c < 8.5 ? 92u : c < 9 ? 82u : 138u;
	bool fast = link && strstr(link, "nvlink");
	uint64_t between = 0;
	if (pl->tp > 1)
		between = (fast ? 420u : 174u) + (pl->tp > 2 ? 50u : 0u);
	if (pl->pp > 1)
		between += 100;
	return (base + between) * MIB;
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

/* What the graphs of one rank keep. A graph holds its kernels' arguments and the driver's bookkeeping, a part for each
 * layer. */
uint64_t vl_graphs(const struct vl_job *j, struct vl_answer *x, const struct pl_shard_stage *s)
{
	if (j->hw->n_devices && j->hw->devices[x->place.device[0]].vendor != PL_VENDOR_NVIDIA && !j->rules.v1)
		return 0;
	x->n_graphs = count_graphs(j, x);
	uint64_t layers = s->end_layer - s->first_layer;
	uint64_t each = MIB + layers * MIB / 4;
	return pl_sat_mul(x->n_graphs, each);
}
