/* What a token takes while one layer of a step computes on one rank, in elements of the activations' type: the arithmetic that
 * the serving engines share. */
#ifndef PLIMSOLL_MEMORY_STEP_H
#define PLIMSOLL_MEMORY_STEP_H

#include <plimsoll/model.h>

/* Inner tensors of the feed forward. dense_parts, expert_parts: into how many parts a dense layer and one expert are cut. Beside
 * them live three rows of the hidden state: 6 × (hidden + intermediate) bytes a token in 16 bit, gated, on one rank; 2.06 of 2.07
 * GiB and 2.99 of 2.99 GiB measured for Llama 3.1 8B at 20,000 and 29,000 tokens (data/measurements/serving_memory.csv M037,
 * M038). */
uint64_t pl_step_ffn_width(const struct pl_layer *l, uint64_t n_embd, uint32_t dense_parts, uint32_t expert_parts);
/* Inner tensors of attention or a recurrent mixer, heads cut into `parts`. */
uint64_t pl_step_mixer_width(const struct pl_layer *l, uint32_t parts);

#endif
