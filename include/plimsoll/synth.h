/* Model files with true shapes and dummy weights: try a machine or an engine before downloading the model. */
#ifndef PLIMSOLL_SYNTH_H
#define PLIMSOLL_SYNTH_H

#include <plimsoll/model.h>

struct pl_synth_params {
	const char *quant;  /* a mixture of pl_model_requantise that ggml has; NULL keeps the model's element types */
	uint32_t n_layers;  /* only the first layers of the trunk; 0: all */
	bool no_vocab;      /* no tokenizer: smaller, enough to load and bench, not to serve */
};

/* A GGUF v3 file laid out: its header, and where each tensor lies after it. */
struct pl_synth {
	const uint8_t *header;
	uint64_t header_bytes;           /* offset of the data section */
	const struct pl_tensor *tensors; /* in file order, offsets relative to the data section */
	uint32_t n_tensors;
	uint64_t file_bytes;
	const struct pl_model *model;    /* what the file holds, in the precision asked for */
};

/* The trunk of m as llama.cpp stores it: MTP layers, towers and encoders are left out. Fails with PL_ERR_UNSUPPORTED for
 * architectures llama.cpp does not know and for element types GGUF cannot hold. m is lent and must outlive the result. */
int pl_synth_make(struct pl_arena *a, const struct pl_model *m, const struct pl_synth_params *p, struct pl_synth *ret,
                  struct pl_err *err) PL_MUST_CHECK;

/* A period of valid dummy blocks of one tensor: finite scales, small weights, norms of 1. The same tensor gives the same
 * bytes. Returns the bytes written, whole blocks, at most cap; repeat it to fill the tensor. cap ≥ 4096. */
uint64_t pl_synth_pattern(const struct pl_tensor *t, uint8_t *buf, uint64_t cap);

enum { PL_SYNTH_SPARSE = 1 /* a hole instead of weights */, PL_SYNTH_FORCE = 2 /* replace a file that is there */ };
/* Writes the file: beside its name first, then renamed, so that a failure leaves nothing behind. (Writes files.) */
int pl_synth_write(const struct pl_synth *s, const char *path, unsigned flags, struct pl_err *err) PL_MUST_CHECK;

#endif
