/* What the readers of llama.cpp's programs share. */
#ifndef PLIMSOLL_ENGINE_COMMAND_LLAMACPP_H
#define PLIMSOLL_ENGINE_COMMAND_LLAMACPP_H

#include "engine/command.h"

enum { PL_LLAMA_ALL = -2 }; /* "all" while reading; INT32_MAX once read */

int pl_llama_switch(struct pl_reader *r, const char *value, bool *ret);
int pl_llama_flash(struct pl_reader *r, const char *value, int32_t *ret);
int pl_llama_cache_type(struct pl_reader *r, const char *value, enum pl_dtype *ret);
int pl_llama_split_mode(struct pl_reader *r, const char *value);
int pl_llama_tensor_split(struct pl_reader *r, const char *value, const char *separators);
int pl_llama_numa(struct pl_reader *r, const char *value);
int pl_llama_load_mode(struct pl_reader *r, const char *value);
int pl_llama_devices(struct pl_reader *r, const char *value, const char *separators, struct pl_device_pick *ret);
int pl_llama_overrides(struct pl_reader *r, const char *value, char separator);
const char *pl_llama_hub_ref(struct pl_reader *r, const char *repo, const char *file);

/* ---- command_llamabench.c */
/* The largest of "512,1024" or "512-4096*2". */
int pl_llama_list_most(struct pl_reader *r, const char *value, int64_t *ret);
/* --gpt-oss-20b-default and the like: a model and sizes in one flag, r->flag. */
int pl_llama_preset(struct pl_reader *r);
enum {
	N_BENCH_FLAGS = 0
#define X(action, kind, names, negatives, env, programs) +1
#include "engine/llamabench_flags.def"
#undef X
};
extern const struct pl_flag pl_llama_bench_flags[N_BENCH_FLAGS];
int pl_llama_bench_begin(struct pl_reader *r);
int pl_llama_bench_apply(struct pl_reader *r, const struct pl_flag *f, const char *value, const char *value2, bool negated);
int pl_llama_bench_finish(struct pl_reader *r);

#endif
