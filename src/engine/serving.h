/* What servers on GPUs share: ranks on devices and the verdict about them (serving_place.c: vLLM, too), the widest step, and the
 * answer made of what each rank holds (SGLang, TensorRT-LLM). The rules that fill a rank stand in the engines' own files. */
#ifndef PLIMSOLL_ENGINE_SERVING_H
#define PLIMSOLL_ENGINE_SERVING_H

#include <plimsoll/engine.h>

#include "memory/shard.h"

/* Ranks: replicas of pipelines of tensor parallel groups. */
struct sv_place {
	uint32_t tp, pp, dp;    /* dp: replicas */
	uint32_t attn_groups;   /* data-parallel attention: groups a tensor parallel group falls into, 1 none */
	uint32_t expert_ranks;  /* ranks whole experts are dealt out to, 1: every expert is split */
	bool rest_to_first;     /* layers left over by an even share go to the first stages, not before the last */
	uint32_t n_ranks;
	uint32_t device[PL_MAX_DEVICES]; /* machine's device of each rank, stage by stage */
};

/* What the ranks of a placement come to. */
struct sv_verdict {
	bool starts;            /* the server does */
	bool holds;             /* all that is asked has room */
	uint64_t missing_bytes; /* of the worst rank */
	uint32_t worst;         /* that rank */
};

struct sv_rank {
	uint64_t weights_bytes, compute_bytes, overhead_bytes;
	uint64_t offload_bytes;          /* weights kept in RAM */
	uint64_t pool_bytes;             /* token caches as allocated */
	uint64_t state_pool_bytes;       /* recurrent states as allocated */
	uint64_t window_pool_bytes;      /* caches of sliding layers in pools of their own, as allocated */
	uint64_t window_bytes;           /* of one sequence in those */
	uint64_t host_kv_bytes;          /* second tier of the cache, in RAM */
	uint64_t host_bytes;             /* what else it keeps in RAM beside its process */
	uint64_t cell_bytes;             /* of one token */
	uint64_t state_bytes;            /* of one sequence */
	uint64_t tokens;                 /* the pool holds */
	uint64_t sequences;              /* it can run at once; UINT64_MAX: no bound of its own */
	uint64_t over_bytes;             /* what weights and the step take beyond the device, before any cache */
};

struct sv_answer {
	struct sv_place place;
	struct sv_rank rank[PL_MAX_DEVICES];
	double frac;                     /* the engine's memory fraction */
	uint32_t max_seqs, max_tokens;   /* sequences and tokens of a step */
	uint32_t block_tokens, graph_batch, n_graphs;
	uint64_t tokens;                 /* the least of all ranks: of one attention group */
	struct sv_verdict verdict;
};

struct sv_job {
	struct pl_arena *a;
	const struct pl_model *m;
	const struct pl_machine *hw;
	const struct pl_params *p;
	const char *engine;              /* its name in messages */
	uint64_t n_ctx;
	double capability;               /* of the oldest NVIDIA card, 0 unknown or other maker */
	enum pl_dtype kv_type;
	uint32_t kv_elem_bytes;
	uint32_t beams;                  /* answers of one sequence kept at once; 0: 1 */
	bool rest_to_first;              /* of its placements */
	const void *rules;               /* the engine's own */
	void (*fill)(const struct sv_job *j, struct sv_answer *x); /* knobs and ranks of a placement */
	void (*add_notes)(const struct sv_job *j, const struct sv_answer *x, struct pl_layout *out);
	void (*resolve)(const struct sv_job *j, const struct sv_answer *x, struct pl_params *p); /* knobs as they came out */
};

/* A job with its model, machine, parameters and rules, laid out: the best placement of those asked or possible (what holds the
 * request, with the fewest stages, then the largest cache), notes, and the parameters resolved into ret_params. */
int sv_plan(struct sv_job *j, struct pl_params *ret_params, struct pl_layout *ret_layout, struct pl_err *err) PL_MUST_CHECK;

/* ---- serving_place.c: whatever fills the ranks ---------------------------------------------------------------------- */

/* One type for keys and values, 16 bit or FP8; types: those it takes, in the refusal. */
int sv_cache_type(const char *engine, const char *types, const struct pl_params *p, enum pl_dtype *ret_type, uint32_t *ret_elem_bytes,
                  struct pl_err *err) PL_MUST_CHECK;
int sv_check_request(const char *engine, const struct pl_machine *hw, const struct pl_params *p, struct pl_err *err) PL_MUST_CHECK;
/* Ranks that were asked for: heads cut into so many, and cards enough for dp replicas. */
int sv_check_heads(const struct pl_model *m, const struct pl_params *p, struct pl_err *err) PL_MUST_CHECK;
int sv_check_ranks(const struct pl_model *m, const struct pl_machine *hw, const struct pl_params *p, uint32_t dp, struct pl_err *err) PL_MUST_CHECK;
/* Tokens of a sequence: asked, else those the model was made for. */
uint64_t sv_context_tokens(const struct pl_model *m, const struct pl_params *p);

/* The ranks are those asked for, where any are, and no more than there are layers and cards; finds the cards. */
bool sv_place_devices(const struct pl_model *m, const struct pl_machine *hw, const struct pl_params *p, struct sv_place *pl);
struct pl_shard_stage sv_stage(const struct pl_model *m, const struct pl_params *p, const struct sv_place *pl, uint32_t stage);
/* Sequences that one attention group serves of those asked. */
uint64_t sv_sequences(const struct pl_params *p, const struct sv_place *pl);
/* Of two placements: above 0 x is better, below 0 y, 0 when what their caches hold has to tell. */
int sv_compare(const struct sv_verdict *x, const struct sv_place *px, const struct sv_verdict *y, const struct sv_place *py);

/* Devices by name and size, and the first card of each layer's stage. */
int sv_frame(struct pl_arena *a, const struct pl_model *m, const struct pl_machine *hw, const struct pl_params *p, const struct sv_place *pl,
             struct pl_layout *ret_layout, struct pl_err *err) PL_MUST_CHECK;
/* RAM beside weights and caches, which are in h: processes, what their ranks keep (ranks_bytes) and the server (server_bytes). */
void sv_host(const struct pl_model *m, const struct pl_machine *hw, const struct sv_place *pl, uint64_t ranks_bytes, uint64_t server_bytes,
             struct pl_host_use *h);
/* What the plan takes for granted about weights and RAM. */
void sv_note_assumed(struct pl_arena *a, const char *engine, const struct pl_model *m, const struct pl_machine *hw, struct pl_layout *out);
/* The verdict of cards and of RAM; missing: what lacks where ranks do not hold. */
void sv_judge(const struct pl_machine *hw, const struct sv_place *pl, const struct sv_verdict *v, struct pl_layout *out);

/* ---- what a rank takes ---------------------------------------------------------------------------------------------- */

/* Weights of a rank as loaded, the towers' included where asked, a draft's not. */
uint64_t sv_weights(const struct sv_job *j, const struct sv_place *pl, const struct pl_shard_stage *s);
/* Bytes PyTorch sees of a card. */
uint64_t sv_visible(const struct pl_device *d);
/* Activations of a step of n tokens, 16 bit, on one rank: the widest layer of the stage. */
uint64_t sv_forward_bytes(const struct sv_job *j, const struct sv_place *pl, const struct pl_shard_stage *s, uint64_t n);
/* Latent attention keeps the halves of kv_b a second time, transposed, to absorb them. */
uint64_t sv_absorbed_bytes(const struct sv_job *j, const struct sv_place *pl, const struct pl_shard_stage *s);

/* serving_extra.c: what stands beside the model */
bool sv_drafts(const struct sv_job *j);
/* Layers that draft, each with a cache as long as the target's: of another model or the target's own. */
uint32_t sv_draft_layers(const struct sv_job *j);
/* Weights of the draft on one rank, without the matrices that are the target's. */
uint64_t sv_draft_weights(const struct sv_job *j, const struct sv_place *pl);
/* Its cache for one token on one rank. */
uint64_t sv_draft_cell(const struct sv_job *j, const struct sv_place *pl, uint32_t elem_bytes);
/* Inputs and outputs of one linear layer on a rank; false: an adapter does not touch the tensor. */
struct sv_linear {
	uint64_t in, out;
};
bool sv_adapted(const struct sv_job *j, const struct sv_place *pl, const struct pl_tensor *t, struct sv_linear *ret);
struct pl_shard_cut sv_cut(const struct sv_place *pl);

bool sv_fast_link(const struct pl_machine *hw);

/* The model as its server finds it: a stored precision by its own name, one that has to be made by a folder's. on_load: the
 * server makes it while loading. */
const char *sv_model_word(struct pl_arena *a, const struct pl_model *m, const char *ref, bool on_load);

/* Precisions vLLM and SGLang make while loading, by the name of their --quantization; NULL: the checkpoint holds what is planned,
 * or has to be made before. */
const char *sv_made_on_load(const struct pl_model *m);

/* Storage of most weight bytes inside the layers. */
enum pl_dtype sv_main_type(const struct pl_model *m);
bool sv_named(const struct pl_model *m, const char *scheme);
/* Why no GPU server reads these weights, or NULL. */
const char *sv_foreign_format(struct pl_arena *a, const struct pl_model *m, const char *engine);
double sv_capability(const struct pl_machine *hw);

#endif
