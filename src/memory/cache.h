/* What one layer keeps between steps, in elements: the arithmetic every engine shares. Types, paddings, windows and
 * devices are the engines' own business. */
#ifndef PLIMSOLL_MEMORY_CACHE_H
#define PLIMSOLL_MEMORY_CACHE_H

#include <plimsoll/model.h>

/* Elements cached for one token. A latent (MLA) cache is keys only: the values are read from the same row. */
struct pl_cache_row {
	uint64_t k_elems, v_elems;
	uint64_t indexer_elems; /* key of the sparse attention indexer */
};
/* All zero for a layer that keeps no cache of its own: no attention, or it reads another layer's. */
struct pl_cache_row pl_layer_cache_row(const struct pl_layer *l);

/* Elements of recurrent state for one sequence, whatever its length. */
struct pl_state_row {
	uint64_t conv_elems;  /* last inputs of the short convolution, or shifted tokens */
	uint64_t state_elems; /* matrix or vector state */
};
struct pl_state_row pl_layer_state_row(const struct pl_layer *l);

#endif
