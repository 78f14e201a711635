/* Inside the SGLang engine. */
#ifndef PLIMSOLL_ENGINE_SGLANG_H
#define PLIMSOLL_ENGINE_SGLANG_H

#include "engine/serving.h"

enum {
	SG_NEWEST = 514,
	SG_SPEC_REQUESTS = 48, /* max_running_requests of a server that drafts (arg_groups/speculative_hook.py) */
};

/* What changed between releases, read in 0.4.6, 0.4.9, 0.5.3, 0.5.6, 0.5.8, 0.5.10 and 0.5.14: a rule is dated to the first of
 * them that has it. */
struct sg_rules {
	uint32_t version;         /* 0.5.14 is 514 */
	const char *version_text;
	enum sg_reserve { SG_BY_RANKS = 0, SG_BY_CLASS, SG_BY_PARTS } reserve; /* how mem_fraction_static is found */
	bool prefill_graphs;      /* prompts run in captured pieces */
	bool draft_counted;       /* a draft's weights are in the pool's budget, not in the reserve */
	uint32_t draft_reserve_mib;
	bool state_pools;         /* recurrent models share the budget by mamba_full_memory_ratio */
	bool extra_buffer;        /* their states are doubled for the overlapped scheduler */
};

int sg_rules_of(const char *version, struct sg_rules *ret_rules, struct pl_err *err) PL_MUST_CHECK;
/* chunked_prefill_size, the largest captured batch and mem_fraction_static of a placement (server_args.py). */
void sg_defaults(const struct sv_job *j, struct sv_answer *x);
/* Bytes of a token and of a sequence, and what the pools of a rank become (pool_configurator.py). */
void sg_pools(const struct sv_job *j, const struct sv_answer *x, const struct pl_shard_stage *s, uint64_t rest_bytes,
              struct sv_rank *k);
uint32_t sg_page(const struct sv_job *j);
/* Buffers of adapters on one rank (srt/lora/mem_pool.py). */
uint64_t sg_adapters(const struct sv_job *j, const struct sv_place *pl);
uint32_t sg_lora_rank(const struct pl_params *p);
/* Tokens verified at once: drafted ones and the one before. */
uint32_t sg_draft_tokens(const struct sv_job *j);

enum pl_support sg_supports(struct pl_arena *a, const struct pl_model *m, const struct pl_machine *hw, const char **ret_reason);
int sg_command(struct pl_arena *a, const struct pl_model *m, const char *model_ref, const struct pl_machine *hw,
               const struct pl_params *p, const struct pl_layout *l, struct pl_argv *ret_argv, struct pl_err *err);

#endif
