/* The reader of engines' commands: one table of flags an engine, one row a program. Inside the engine room. */
#ifndef PLIMSOLL_ENGINE_COMMAND_H
#define PLIMSOLL_ENGINE_COMMAND_H

#include <plimsoll/command.h>

enum pl_flag_kind {
	PL_FLAG_NONE,  /* takes no value */
	PL_FLAG_BOOL,  /* takes none, and has names that say no */
	PL_FLAG_VALUE, /* one word */
	PL_FLAG_INT,   /* one word, a whole number */
	PL_FLAG_TWO,   /* two words */
	PL_FLAG_LIST,  /* words up to the next flag */
	PL_FLAG_MAYBE  /* one word unless the next is a flag */
};

struct pl_flag {
	uint16_t action;  /* the engine's own number; 0: changes no memory */
	uint8_t kind;
	const char *names, *negatives; /* separated by spaces, dashes included; "" none */
	const char *env;               /* variable that says the same, "" none */
	uint32_t programs;             /* bits of the programs that know it; 0: gone from this version, read as it was */
};

enum pl_command_style {
	PL_STYLE_EQUALS = 1,      /* --flag=value */
	PL_STYLE_UNDERSCORES = 2, /* --some_flag is --some-flag */
	PL_STYLE_PREFIXES = 4,    /* --tensor for --tensor-parallel-size when nothing else begins so */
	PL_STYLE_DOTS = 8         /* --config.key value is --config '{"key": value}' */
};

struct pl_reader;
struct pl_program {
	const char *names;   /* of the file that is run, separated by spaces: the first is shown */
	const char *sub;     /* second word that selects it ("serve"), NULL none; "a|b" either */
	const char *modules; /* of python -m, separated by spaces; "" none */
	const char *engine, *version;
	const struct pl_flag *flags;
	uint32_t n_flags, bit;
	unsigned style;
	int (*begin)(struct pl_reader *r); /* defaults, and what is read before the words */
	/* value2 only for PL_FLAG_TWO; value NULL for flags without */
	int (*apply)(struct pl_reader *r, const struct pl_flag *f, const char *value, const char *value2, bool negated);
	int (*word)(struct pl_reader *r, const char *word);                             /* neither flag nor value */
	bool (*env)(struct pl_reader *r, const char *name, const char *value, int *rc); /* false: not one of its own */
	int (*finish)(struct pl_reader *r);
};

struct pl_reader {
	struct pl_arena *a;
	struct pl_command *cmd;
	const struct pl_program *program;
	const struct pl_command_files *files;
	struct pl_err *err;
	const char *const *words; /* after the program's name */
	uint32_t n_words;
	const char *flag;         /* the one being applied, as written: for messages */
	struct pl_setting *settings;
	uint32_t n_settings, max_settings;
	const char *stray;        /* word after an unknown flag: its value, or the model */
	union { /* the engine's own state between begin and finish */
		struct {
			const char *model, *url, *hf_repo, *hf_file, *docker;
			int64_t n_ctx, n_parallel, per_slot, n_prompt, n_gen, n_depth, n_pg;
			bool ctx_stated, fit, kvu_stated, mmproj_auto, ppl_other, kl;
			bool ngl_stated, embedding;
			const char *draft_hf;
			int64_t ppl_stride, n_parallel_bench;
		} llama;
		struct {
			const char *model_flag, *model_word;
			int64_t nodes, dp_local;
			bool lora, chunked_off, in_file;
			uint32_t spec_steps;
		} serve;
		struct {
			const char *model, *modelfile, *quant;
			int64_t n_ctx, n_parallel, n_gpu, n_batch, n_draft;
			bool ctx_stated;
		} ollama;
	} own;
};

/* All programs, NULL-terminated; each engine's file holds its own. */
extern const struct pl_program pl_programs_llamacpp[], pl_programs_vllm[], pl_programs_sglang[], pl_programs_trtllm[],
    pl_programs_ollama[]; /* each ends with NULL names */

/* ---- for the engines' files */
/* The program would stop here: fills the error with the flag and gives the code. */
int pl_refuse(struct pl_reader *r, const char *fmt, ...) PL_PRINTF(2, 3);
void pl_remark(struct pl_reader *r, int level, const char *fmt, ...) PL_PRINTF(3, 4);
/* Reads like std::stoi: leading blanks, sign, digits; what follows them is ignored with a remark. */
int pl_read_int(struct pl_reader *r, const char *value, int64_t least, int64_t most, int64_t *ret);
int pl_read_u32(struct pl_reader *r, const char *value, uint32_t least, uint32_t most, uint32_t *ret);
int pl_read_real(struct pl_reader *r, const char *value, double least, double most, double *ret);
/* 1,2,3 into pick; by is "FLAG=value". */
void pl_pick_devices(struct pl_reader *r, const char *name, const char *value, struct pl_device_pick *ret);
/* Reads words of a table as if they had been typed before the others (configuration files). */
int pl_read_words(struct pl_reader *r, const char *const *words, uint32_t n);
/* The YAML file that one of flags ("--config") names, read as the words it stands for. */
int pl_read_config_file(struct pl_reader *r, const char *flags);
bool pl_flag_in(const char *list, const char *word, size_t len);

/* Looks through env, docker run, python -m … : what is run, with which variables and words. */
struct pl_unwrapped {
	const struct pl_program *program;
	const char *shown;   /* the name it was called by */
	const char **words;
	uint32_t n_words;
	const char **env;
	uint32_t n_env;
	struct pl_device_pick gpus; /* docker run --gpus */
};
int pl_unwrap(struct pl_arena *a, const char *const *words, uint32_t n, struct pl_unwrapped *ret, struct pl_err *err);

#endif
