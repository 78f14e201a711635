/* The plan: one model on one machine, every question of the first screen answered. */
#ifndef PLIMSOLL_PLAN_H
#define PLIMSOLL_PLAN_H

#include <plimsoll/command.h>
#include <plimsoll/engine.h>
#include <plimsoll/serve.h>

enum pl_verdict {
	PL_VERDICT_FITS_GPU = 0,
	PL_VERDICT_HYBRID,   /* part of the weights is computed on the CPU */
	PL_VERDICT_CPU,      /* everything in RAM */
	PL_VERDICT_PAGED,    /* weights larger than RAM: read from disk again and again */
	PL_VERDICT_NO_FIT,
	PL_VERDICT_COUNT
};
/* "fits_gpu", "hybrid", "cpu_only", "paged", "does_not_fit" */
const char *pl_verdict_name(enum pl_verdict v);

struct pl_plan_request {
	const struct pl_model *model;
	const char *model_ref;           /* what the launch line names: path or id */
	const struct pl_machine *machine;
	const struct pl_engine *engine;  /* NULL: chosen, with the reason */
	struct pl_params params;
	bool no_suggestions;             /* skip limits and suggestions (search inner loops) */
	struct pl_speed_question question; /* what speed is asked for; zeros: a prompt of 512 tokens, empty cache, n_seq sequences */
	const struct pl_constants *constants; /* NULL: shipped */
	double power_limit_w;            /* of each GPU; 0: the maker's */
	double disk_bytes_per_s;         /* 0: assumed */
	const struct pl_command *command; /* the engine's command the request was read from, NULL none; lent to the plan */
};

enum pl_change {
	PL_CHANGE_KV_TYPE = 0,
	PL_CHANGE_CONTEXT,
	PL_CHANGE_SEQUENCES,
	PL_CHANGE_QUANT,
	PL_CHANGE_OFFLOAD,     /* experts or layers to the CPU */
	PL_CHANGE_ENGINE,
	PL_CHANGE_MORE_CARDS,
	PL_CHANGE_MORE_RAM,
	PL_CHANGE_FREE_MEMORY, /* end what already uses the card */
	PL_CHANGE_UBATCH
};

/* One change that makes the request fit, checked by the same model. */
struct pl_suggestion {
	enum pl_change change;
	const char *text;      /* translated: "--kv-type q8_0: …" */
	const char *option;    /* what to add to the command line, or NULL */
	enum pl_verdict verdict; /* after the change */
	uint64_t spare_bytes;
};

struct pl_limits {
	struct pl_opt_u64 max_context_tokens; /* for the asked sequences */
	struct pl_opt_u64 max_sequences;      /* at the asked context */
	bool context_is_model_limit;          /* memory would allow more than the model was trained for */
};

struct pl_plan {
	const struct pl_model *model;
	const struct pl_machine *machine;
	const struct pl_engine *engine;
	const struct pl_command *command; /* as read, NULL: the request was not an engine's command */
	const char *engine_reason; /* why this engine, translated; NULL when it was asked for */
	enum pl_verdict verdict;
	struct pl_params params;   /* as resolved */
	struct pl_layout layout;
	struct pl_limits limits;
	uint64_t rule_of_thumb_bytes; /* parameters × bytes × 1.3 */
	uint64_t exact_bytes;         /* all devices and the host */
	double rule_of_thumb_error_frac; /* (rule − exact) / exact */
	const char *placement;     /* translated sentence: what lives where */
	struct pl_suggestion *suggestions;
	uint32_t n_suggestions;
	struct pl_speed_question question; /* as answered */
	const struct pl_speed *speed; /* compiled for exactly this layout; NULL: not asked for (no_suggestions) */
	const struct pl_speed_answer *answer; /* NULL with it */
	const struct pl_served *served; /* concurrency clients in a closed loop; NULL: one client, or nothing can be said */
	struct pl_argv argv;       /* launch line; n_words 0 when the engine cannot run it */
	struct pl_note *notes;
};

int pl_plan_make(struct pl_arena *a, const struct pl_plan_request *req, const struct pl_plan **ret_plan,
                 struct pl_err *err) PL_MUST_CHECK;

#endif
