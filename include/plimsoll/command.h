/* An engine's own command, as pasted: read with that engine's flags, environment variables and defaults. */
#ifndef PLIMSOLL_COMMAND_H
#define PLIMSOLL_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <plimsoll/arena.h>
#include <plimsoll/error.h>
#include <plimsoll/hardware.h>
#include <plimsoll/model.h>
#include <plimsoll/opt.h>
#include <plimsoll/params.h>

/* One flag, variable or line of a configuration file that the command sets. */
struct pl_setting {
	const char *flag;  /* as written: "-ngl", "LLAMA_ARG_N_GPU_LAYERS" */
	const char *value; /* NULL: it takes none */
	enum pl_setting_effect {
		PL_SETTING_READ = 0, /* understood and part of the plan */
		PL_SETTING_HARMLESS, /* known, changes no memory and no placement */
		PL_SETTING_UNKNOWN   /* not known to this version: ignored, named in a note */
	} effect;
};

/* GPUs the command picks among those of the machine, in its order. */
struct pl_device_pick {
	const char *by; /* "CUDA_VISIBLE_DEVICES=1,2"; NULL: nothing is picked */
	uint32_t n, index[PL_MAX_DEVICES];
	bool first_n;   /* a count, not a list: the first n */
};

struct pl_command {
	const char *engine;    /* id of the engine that runs it: "llama.cpp" also for ollama */
	const char *program;   /* "llama-server", "vllm serve" */
	const char *version;   /* of the program whose flags and defaults were taken */
	const char *model_ref; /* for pl_load; NULL: the command names none */
	const char *quant;     /* precision it asks for, NULL: the model's own */
	const char *draft_ref, *mmproj_ref; /* further models, NULL none */
	const char *hf_overrides;           /* JSON laid over config.json, NULL none */
	struct pl_params params;            /* defaults of the program, with everything that was said */
	bool ctx_stated, n_seq_stated;      /* the length of a sequence and their number are fixed by the command */
	uint64_t n_ctx_total_tokens;        /* llama.cpp: -c, all slots together; 0: the model's own length */
	bool n_ctx_auto;                    /* llama.cpp: -c was left to the program */
	bool ollama_ctx;                    /* ollama: the length was left to it, which goes by the memory of the GPUs */
	bool all_layers;                    /* llama.cpp: -ngl all, or auto where nothing fits it to the memory */
	const char *split_text;             /* llama.cpp: -ts as written */
	struct pl_device_pick visible;      /* what the environment leaves visible */
	struct pl_device_pick devices;      /* what a flag picks among those */
	const char *visible_env;            /* both as one variable for the launch line, set by pl_command_machine; NULL nothing */
	const struct pl_setting *settings;
	uint32_t n_settings;
	struct pl_note *notes; /* what was ignored, and what the engine does other than asked */
};

/* How the reader gets at files that a command names (vllm serve --config FILE): the core opens none itself. */
struct pl_command_files {
	void *ctx;
	int (*read)(void *ctx, struct pl_arena *a, const char *path, const char **ret_text, size_t *ret_len, struct pl_err *err);
};

/* Reads a command word by word (as a shell would have split it). Leading NAME=value words, env, docker run, python -m and the like
 * are looked through. files may be NULL: then a file that is named is an error. Fails where the program itself would refuse to
 * start, and says why; what it would change or ignore becomes a note. */
int pl_command_read(struct pl_arena *a, const char *const *words, uint32_t n_words, const struct pl_command_files *files,
                    struct pl_command **ret_command, struct pl_err *err) PL_MUST_CHECK;

/* The machine with only the devices the command picks; the same one when it picks none. Notes go to cmd. */
int pl_command_machine(struct pl_arena *a, struct pl_command *cmd, const struct pl_machine *hw,
                       const struct pl_machine **ret_machine, struct pl_err *err) PL_MUST_CHECK;

/* Settles what needs the model and the machine: defaults taken from the model, splits over the devices there are, patterns that
 * match no tensor. machine: the one pl_command_machine gave. */
int pl_command_settle(struct pl_arena *a, struct pl_command *cmd, const struct pl_model *m, const struct pl_machine *hw,
                      struct pl_err *err) PL_MUST_CHECK;

/* Names of the i-th program whose commands are read ("llama-server server"), NULL after the last; and how many flags of one are
 * known, by effect. */
const char *pl_command_program(uint32_t i);
uint32_t pl_command_flags(const char *program, enum pl_setting_effect effect);

#endif
