/* Qwen 1, 2, 2.5, 3 dense, MiMo, and the windows of Qwen. */
#include "model/hf.h"

/* Qwen 2 keeps sliding_window in the file but uses it only with use_sliding_window, and then only from layer
 * max_window_layers on. */
static void qwen_windows(struct pl_hf *c)
{
	const uint32_t window = pl_hf_u32(c, "sliding_window", 0, PL_HF_MAX_CTX, 0);
	const uint32_t first = pl_hf_u32(c, "max_window_layers", 0, PL_HF_MAX_LAYERS, 0);
	if (!pl_hf_bool(c, "use_sliding_window", false) || c->rc)
		return;
	if (pl_hf_has(c, "layer_types")) {
		pl_hf_windows(c);
		return;
	}
	for (uint32_t il = first; il < c->m->n_layers; il++)
		c->layers[il].window_tokens = window;
}

/* MiMo's next-token layers take no part in a config of Qwen itself. */
void pl_hf_read_qwen2(struct pl_hf *c)
{
	pl_hf_base(c, pl_hf_u32(c, "num_nextn_predict_layers", 0, 64, 0));
	pl_hf_attention(c);
	pl_hf_dense_ffn(c);
	qwen_windows(c);
	pl_hf_mtp(c, PL_P_NEXTN_HEADNORM);
}

/* Qwen 1: intermediate_size counts gate and up together; only q, k and v are biased. */
void pl_hf_read_qwen1(struct pl_hf *c)
{
	pl_hf_base(c, 0);
	pl_hf_attention(c);
	pl_hf_dense_ffn(c);
	for (uint32_t il = 0; il < pl_hf_n_all(c); il++) {
		if (c->layers[il].n_ff % 2)
			pl_hf_fail(c, "'intermediate_size' is %u, it must be even", c->layers[il].n_ff);
		c->layers[il].n_ff /= 2;
	}
}
