/* Which bytes of a tensor a rank of a parallel group holds. The arithmetic is shared by the serving engines; how they cut
 * layers into stages and what they replicate by choice stands in their own files. */
#ifndef PLIMSOLL_MEMORY_SHARD_H
#define PLIMSOLL_MEMORY_SHARD_H

#include <plimsoll/model.h>

/* Into how many parts each kind of weight is cut; 1: every rank has all of it. All at least 1. */
struct pl_shard_cut {
	uint32_t attn;         /* attention and recurrent mixers: tensor parallel ranks (1 under data-parallel attention) */
	uint32_t ffn;          /* dense feed forward and shared experts */
	uint32_t vocab;        /* embedding and output */
	uint32_t expert;       /* parts of one expert (tensor parallel) */
	uint32_t expert_ranks; /* ranks whole experts are dealt out to (expert parallel) */
	uint32_t vision;       /* towers */
	uint32_t vocab_multiple; /* the vocabulary is padded to a multiple of this first (vLLM and SGLang 64); 0 none */
};

/* One stage of a pipeline: layers [first, end) and what stands before and behind them. */
struct pl_shard_stage {
	uint32_t first_layer, end_layer; /* numbers of the trunk */
	bool has_input;  /* embeddings and towers */
	bool has_output; /* final norm and output matrix */
	bool has_mtp;    /* next-token-prediction layers */
	bool no_towers;  /* vision and audio towers are not loaded */
};

/* Can `ranks` ranks share attention with these heads: query heads divide, and KV heads divide or are repeated evenly. */
bool pl_shard_heads_divide(const struct pl_model *m, uint32_t ranks);

/* Bytes of one tensor on the fullest rank. A weight whose dimension does not divide is rounded up to whole bytes, experts to
 * whole experts. */
uint64_t pl_shard_tensor_bytes(const struct pl_model *m, const struct pl_tensor *t, const struct pl_shard_cut *cut);

/* Does the stage hold the tensor? A tied output matrix is the embedding: it counts a second time on a last stage that is
 * not the first. */
bool pl_shard_stage_holds(const struct pl_model *m, const struct pl_shard_stage *s, const struct pl_tensor *t);

/* Bytes of all weights of a stage on the fullest rank; sticks at UINT64_MAX. */
uint64_t pl_shard_stage_bytes(const struct pl_model *m, const struct pl_shard_stage *s, const struct pl_shard_cut *cut);

/* Elements cached for one token of a layer on one rank: KV heads divide, or one is repeated; a latent cache is whole on
 * every rank. */
struct pl_cache_row pl_shard_cache_row(const struct pl_layer *l, uint32_t ranks);
/* The same of recurrent state for one sequence. Groups that do not divide are repeated (Mamba-2). */
struct pl_state_row pl_shard_state_row(const struct pl_layer *l, uint32_t ranks);

#endif
