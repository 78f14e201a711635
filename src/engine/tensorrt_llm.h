/* Inside the TensorRT-LLM engine. */
#ifndef PLIMSOLL_ENGINE_TENSORRT_LLM_H
#define PLIMSOLL_ENGINE_TENSORRT_LLM_H

#include "engine/serving.h"

/* Bytes of a token and of a sequence on one rank, and its pools made of what the fraction gives. */
void tr_pools(const struct sv_job *j, struct sv_answer *x, const struct pl_shard_stage *s, uint64_t rest_bytes, struct sv_rank *k);
/* The pool of adapters on the device, which is there before the run that measures; one of the same size is in RAM. */
uint64_t tr_adapters(const struct sv_job *j, const struct sv_place *pl, const struct pl_shard_stage *s);

#endif
