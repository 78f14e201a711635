/* Dense families: biases, windows and the old layouts. */
#include <string.h>

#include "model/families/families.h"

/* Llama's optional biases and those of its cousins. */
int pl_read_biases(struct pl_family *f)
{
	if (pl_cfg_bool(f, "attention_bias", false) || pl_cfg_bool(f, "bias", false))
		f->traits |= T_QKV_BIAS | T_O_BIAS;
	if (pl_cfg_bool(f, "use_qkv_bias", false) || pl_cfg_bool(f, "qkv_bias", false))
		f->traits |= T_QKV_BIAS;
	if (f->m->hf_type && !strcmp(f->m->hf_type, "stablelm")) /* its output projection never has one */
		f->traits &= ~(uint32_t)T_O_BIAS;
	if (pl_cfg_get(f, "attention_out_bias") && !pl_cfg_bool(f, "attention_out_bias", true))
		f->traits &= ~(uint32_t)T_O_BIAS;
	if (!strcmp(f->m->arch, "smollm3"))
		f->m->tied_output = pl_cfg_bool(f, "tie_word_embeddings", true);
	if (pl_cfg_bool(f, "mlp_bias", false))
		f->traits |= T_MLP_BIAS;
	if (pl_cfg_bool(f, "use_parallel_residual", false) && f->m->hf_type && !strcmp(f->m->hf_type, "stablelm"))
		f->traits |= T_ONE_NORM;
	return f->rc;
}

/* One full layer in `period`, the last of its group, where the config has no list. */
static uint32_t default_period(const struct pl_family *f)
{
	static const struct {
		const char *arch;
		uint32_t period;
	} periods[] = {{"gemma2", 2}, {"gemma3", 6}, {"cohere2", 4}, {"gpt-oss", 2}, {"olmo2", 4}, {"exaone4", 4}, {"gemma4", 6}};
	for (size_t i = 0; i < sizeof periods / sizeof *periods; i++)
		if (!strcmp(f->m->arch, periods[i].arch))
			return periods[i].period;
	return 1;
}

/* Windows that the configuration classes of Transformers have when config.json does not name one. */
static uint32_t default_window(const struct pl_family *f)
{
	bool exaone = !strcmp(f->m->arch, "exaone4") && f->m->n_layers == 64; /* the 32B */
	return exaone || !strcmp(f->m->arch, "gemma2") ? 4096 : 0;
}

/* "LLLG" (EXAONE 4): local layers and a global one; a number elsewhere. */
static uint32_t read_period(struct pl_family *f)
{
	const json_t *pattern = pl_cfg_get(f, "sliding_window_pattern");
	if (json_is_string(pattern) && json_string_length(pattern) <= 64)
		return (uint32_t)json_string_length(pattern);
	return U32(f, 0, 64, "sliding_window_pattern", "_sliding_window_pattern");
}

static bool slides(struct pl_family *f, uint32_t il, uint32_t period, uint32_t from_layer)
{
	if (json_is_array(pl_cfg_get(f, "layer_types")))
		return pl_cfg_layer_is(f, "layer_types", il, "sliding_attention") ||
		       pl_cfg_layer_is(f, "layer_types", il, "chunked_attention");
	if (period > 1)
		return (il + 1) % period != 0;
	return il >= from_layer;
}

int pl_read_windows(struct pl_family *f)
{
	uint32_t window = U32(f, default_window(f), 1u << 30, "sliding_window", "sliding_window_size");
	uint32_t period = read_period(f), from_layer = 0;
	bool is_qwen = !strncmp(f->m->arch, "qwen", 4);
	const json_t *bias = pl_cfg_get(f, "attention_bias");
	bool o_bias = is_qwen && strcmp(f->m->arch, "qwen2") != 0; /* Qwen 2 and MiMo: never on the output projection */
	if (bias && json_is_true(bias))
		f->traits |= T_QKV_BIAS | (o_bias || !strcmp(f->m->arch, "llama") ? T_O_BIAS : 0);
	if (pl_cfg_bool(f, "use_qk_norm", false) && f->traits & T_ONE_NORM)
		f->traits |= T_QK_NORM_FULL;
	if (is_qwen) { /* Transformers: windows only when switched on, from a layer upwards */
		if (!pl_cfg_bool(f, "use_sliding_window", false))
			window = 0;
		from_layer = U32(f, 0, PL_MAX_LAYERS, "max_window_layers");
	}
	/* Gemma, Command-R and Phi-3.5/4 have tied heads or windows by habit of their code */
	if (!strncmp(f->m->arch, "gemma", 5) || !strcmp(f->m->arch, "command-r") || !strcmp(f->m->arch, "cohere2"))
		f->m->tied_output = true;
	if (!strncmp(f->m->arch, "starcoder2", 10)) {
		for (uint32_t i = 0; i < f->m->n_layers; i++)
			f->layers[i].ffn = PL_FFN_PLAIN;
		f->m->tied_output = pl_cfg_bool(f, "tie_word_embeddings", true);
	}
	if (!period)
		period = default_period(f);
	f->m->n_swa_period = window ? period : 0;
	for (uint32_t i = 0; i < f->m->n_layers; i++)
		f->layers[i].window_tokens = window && slides(f, i, period, from_layer) ? window : 0;
	return f->rc;
}

/* Qwen 1: intermediate_size counts gate and up together. */
int pl_read_qwen1(struct pl_family *f)
{
	for (uint32_t i = 0; i < f->m->n_layers; i++)
		f->layers[i].n_ff = f->n_ff / 2;
	return f->rc;
}

int pl_read_chatglm(struct pl_family *f)
{
	if (!pl_cfg_bool(f, "multi_query_attention", true))
		for (uint32_t i = 0; i < f->m->n_layers; i++)
			f->layers[i].n_head_kv = f->n_head;
	return f->rc;
}

static void plain_ffn(struct pl_family *f, uint32_t n_ff)
{
	for (uint32_t i = 0; i < f->m->n_layers; i++) {
		f->layers[i].ffn = PL_FFN_PLAIN;
		f->layers[i].n_ff = n_ff;
	}
}

int pl_read_phi(struct pl_family *f)
{
	plain_ffn(f, f->n_ff ? f->n_ff : 4 * f->m->n_embd);
	return f->rc;
}

/* GPT-2 and its children: learned positions, feed forward four times as wide, tied heads. */
int pl_read_gpt2(struct pl_family *f)
{
	const char *arch = f->m->arch;
	plain_ffn(f, f->n_ff ? f->n_ff : 4 * f->m->n_embd);
	f->m->tied_output = strcmp(arch, "gptj") != 0;
	if (!strcmp(arch, "gpt2") || !strcmp(arch, "starcoder"))
		f->n_positions = f->m->n_ctx_train;
	if (!strcmp(arch, "starcoder") && pl_cfg_bool(f, "multi_query", true))
		for (uint32_t i = 0; i < f->m->n_layers; i++)
			f->layers[i].n_head_kv = 1;
	if (!strcmp(arch, "bloom"))
		f->m->n_ctx_train = f->m->n_ctx_train ? f->m->n_ctx_train : 2048;
	return f->rc;
}

int pl_read_neox(struct pl_family *f)
{
	plain_ffn(f, f->n_ff);
	return f->rc;
}

/* 7B: one norm, one KV head. 40B and 180B ("new decoder architecture"): two norms, groups of heads. */
int pl_read_falcon(struct pl_family *f)
{
	bool grouped = pl_cfg_bool(f, "new_decoder_architecture", U32(f, 1, PL_MAX_HEADS, "num_kv_heads", "num_key_value_heads", "n_head_kv") > 1);
	uint32_t kv = grouped ? U32(f, 8, PL_MAX_HEADS, "num_kv_heads", "num_key_value_heads", "n_head_kv") : 1;
	if (!grouped && !pl_cfg_bool(f, "multi_query", true))
		kv = f->n_head;
	plain_ffn(f, f->n_ff ? f->n_ff : 4 * f->m->n_embd);
	f->traits |= grouped ? T_TWO_ATTN_NORMS : T_ONE_NORM;
	if (pl_cfg_bool(f, "bias", false))
		f->traits |= T_QKV_BIAS | T_O_BIAS | T_MLP_BIAS;
	for (uint32_t i = 0; i < f->m->n_layers; i++)
		f->layers[i].n_head_kv = kv;
	f->m->tied_output = pl_cfg_bool(f, "tie_word_embeddings", true);
	f->m->n_ctx_train = f->m->n_ctx_train ? f->m->n_ctx_train : 2048;
	return f->rc;
}

/* Nemotron-NAS: every block has its own attention and width; width = mult × 2/3 × hidden, rounded up to 256. */
int pl_read_nas(struct pl_family *f)
{
	const json_t *blocks = pl_cfg_get(f, "block_configs");
	if (!json_is_array(blocks) || json_array_size(blocks) < f->m->n_layers)
		return pl_cfg_fail(f, "key 'block_configs' must describe all %u layers", f->m->n_layers);
	for (uint32_t i = 0; i < f->m->n_layers; i++) {
		const json_t *block = json_array_get(blocks, i), *at = json_object_get(block, "attention"),
		             *ff = json_object_get(block, "ffn");
		const json_t *group = json_object_get(at, "n_heads_in_group"), *mult = json_object_get(ff, "ffn_mult");
		struct pl_layer *l = &f->layers[i];
		double m = json_is_number(mult) ? json_number_value(mult) : 0;
		if (json_is_integer(group) && json_integer_value(group) > 0 && json_integer_value(group) <= f->n_head)
			l->n_head_kv = f->n_head / (uint32_t)json_integer_value(group);
		else
			l->attn = PL_ATTN_NONE;
		if (m > 0 && m < 64)
			l->n_ff = ((uint32_t)(2 * m * f->m->n_embd / 3) + 255) / 256 * 256;
		else
			l->ffn = PL_FFN_NONE;
	}
	return f->rc;
}
