/* Precisions: ggml's mixtures and the schemes of Hugging Face checkpoints, in exact bytes. */
#ifndef PLIMSOLL_MODEL_QUANT_H
#define PLIMSOLL_MODEL_QUANT_H

#include "model/build.h"

/* How a scheme stores one linear layer. */
enum pl_pack {
	PL_PACK_NONE = 0,
	PL_PACK_GPTQ,       /* qweight, qzeros, scales, g_idx */
	PL_PACK_AWQ,        /* the same without g_idx */
	PL_PACK_BNB_INT8,   /* one byte a weight, SCB a row */
	PL_PACK_BNB_4BIT,   /* NF4 or FP4: absmax a block of 64 */
	PL_PACK_FP8_TENSOR, /* one scale a matrix */
	PL_PACK_FP8_CHANNEL, /* one 16-bit scale a row */
	PL_PACK_FP8_BLOCK,  /* one 32-bit scale a block of 128 × 128 */
	PL_PACK_INT8_CHANNEL, /* W8A8 of compressed-tensors */
	PL_PACK_INT4_GROUP, /* pack-quantized of compressed-tensors: no zero points */
	PL_PACK_NVFP4,      /* FP4, an FP8 scale a group of 16, two scales a matrix */
	PL_PACK_MXFP4,      /* FP4, an exponent a group of 32 */
	PL_PACK_MXFP8,      /* FP8, an exponent a group of 32 */
	PL_PACK_MLX         /* affine: scale and bias a group, embeddings too */
};

struct pl_scheme {
	enum pl_pack pack;
	uint32_t bits, group; /* weight-only integer schemes */
	bool double_quant, static_input;
};

/* Can a scheme of Hugging Face touch this tensor at all (a linear layer inside the trunk)? */
bool pl_quant_is_linear(const struct pl_tensor *t);
/* Sets type and bytes of one tensor; leaves it alone when the scheme cannot take its shape. False on overflow. */
bool pl_quant_pack(const struct pl_scheme *s, struct pl_tensor *t);
/* Named scheme ("gptq-int4", "awq-int4-g64", "fp8-block" …); false when it is not one. */
bool pl_quant_scheme_find(const char *name, struct pl_scheme *ret);

/* ggml: sets type and bytes of all tensors by the mixture; false when the name is not one. Tensors must stand in the
 * order of their layers. */
bool pl_quant_ggml_known(const char *name);
int pl_quant_ggml_apply(const char *name, const struct pl_model *m, struct pl_tensor *tensors, uint32_t n,
                        struct pl_err *err) PL_MUST_CHECK;

extern const char *const pl_quant_ggml_names[]; /* NULL-terminated */

#endif
