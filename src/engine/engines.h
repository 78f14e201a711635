/* The rows of the registry, one engine a file. */
#ifndef PLIMSOLL_ENGINE_ENGINES_H
#define PLIMSOLL_ENGINE_ENGINES_H

#include <plimsoll/engine.h>

extern const struct pl_engine pl_engine_llamacpp;
extern const struct pl_engine pl_engine_vllm;
extern const struct pl_engine pl_engine_sglang;
extern const struct pl_engine pl_engine_tensorrt_llm;
extern const struct pl_engine pl_engine_transformers;

#endif
