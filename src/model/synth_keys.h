/* Keys of a dummy GGUF file: everything llama.cpp's loaders require, from the layers. */
#ifndef PLIMSOLL_MODEL_SYNTH_KEYS_H
#define PLIMSOLL_MODEL_SYNTH_KEYS_H

#include "model/gguf_write.h"

/* m: the (cut) model; full: the whole one, for what the cut hides. */
void pl_synth_keys(struct pl_gguf_out *o, const struct pl_model *m, const struct pl_model *full);
/* A vocabulary of dummy pieces with all bytes in it, so that any text can be tokenised. */
void pl_synth_vocab(struct pl_gguf_out *o, const struct pl_model *m);

#endif
