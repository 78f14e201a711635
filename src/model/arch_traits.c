#include <string.h>

#include "model/arch_traits.h"

/* Source: llama.cpp src/llama-arch.cpp (names), src/models/ *.cpp (load_arch_hparams), src/llama-model.cpp
 * (create_memory), read 2026-11. */
#define PLAIN(n) {.name = n}

static const struct pl_arch_traits rows[] = {
    /* full attention in every layer */
    PLAIN("llama"), PLAIN("deci"), PLAIN("falcon"), PLAIN("grok"), PLAIN("qwen"), PLAIN("qwen2"),
    PLAIN("qwen2moe"), PLAIN("qwen2vl"), PLAIN("qwen3"), PLAIN("qwen3moe"), PLAIN("qwen3vl"), PLAIN("qwen3vlmoe"),
    PLAIN("phi2"), PLAIN("phimoe"), PLAIN("plamo"), PLAIN("codeshell"), PLAIN("orion"), PLAIN("internlm2"),
    PLAIN("minicpm"), PLAIN("minicpm3"), PLAIN("gemma"), PLAIN("starcoder2"), PLAIN("xverse"),
    PLAIN("dbrx"), PLAIN("olmo"), PLAIN("olmoe"), PLAIN("openelm"), PLAIN("arctic"), PLAIN("deepseek"),
    PLAIN("deepseek2"), PLAIN("deepseek2-ocr"), PLAIN("deepseek32"), PLAIN("chatglm"), PLAIN("glm4"),
    PLAIN("bitnet"), PLAIN("jais2"), PLAIN("nemotron"), PLAIN("exaone"), PLAIN("granite"), PLAIN("granitemoe"),
    PLAIN("plm"), PLAIN("bailingmoe"), PLAIN("bailingmoe2"), PLAIN("dots1"), PLAIN("arcee"),
    PLAIN("ernie4_5"), PLAIN("ernie4_5-moe"), PLAIN("hunyuan-moe"), PLAIN("hunyuan-dense"), PLAIN("hunyuan_vl"),
    PLAIN("hy_v3"), PLAIN("grovemoe"), PLAIN("apertus"), PLAIN("minimax-m2"), PLAIN("minimax-m3"),
    PLAIN("cogvlm"), PLAIN("pangu-embedded"), PLAIN("mistral3"), PLAIN("mistral4"), PLAIN("paddleocr"),
    PLAIN("llama-embed"), PLAIN("maincoder"), PLAIN("talkie"), PLAIN("qwen3tts"),
    PLAIN("phi3"), /* llama.cpp switches the window off whatever the key says (PR 13676) */
    {.name = "baichuan"},
    {.name = "smollm3", .no_rope_step = 4},
    {.name = "gptj", .flags = PL_ARCH_PARALLEL | PL_ARCH_NO_LOADER},
    {.name = "gptneox", .flags = PL_ARCH_PARALLEL},
    {.name = "gpt2", .flags = PL_ARCH_NO_ROPE},
    {.name = "mpt", .flags = PL_ARCH_NO_ROPE},
    {.name = "starcoder", .flags = PL_ARCH_NO_ROPE},
    {.name = "refact", .flags = PL_ARCH_NO_ROPE},
    {.name = "bloom", .flags = PL_ARCH_NO_ROPE},
    {.name = "jais", .flags = PL_ARCH_NO_ROPE},
    {.name = "glm-dsa", .flags = PL_ARCH_SHARED_INDEXER},
    {.name = "hy_v4", .flags = PL_ARCH_SHARED_INDEXER},
    {.name = "seed_oss", .flags = PL_ARCH_FFN_NORM_AS_POST},
    {.name = "glm4moe", .flags = PL_ARCH_FFN_NORM_AS_POST},
    {.name = "command-r", .flags = PL_ARCH_QK_NORM_BY_HEAD},
    {.name = "stablelm", .flags = PL_ARCH_QK_NORM_BY_HEAD},
    {.name = "chameleon", .flags = PL_ARCH_QK_NORM_BY_HEAD},
    /* sliding windows */
    {.name = "afmoe", .swa = PL_SWA_IF_SET, .swa_period = 4, .flags = PL_ARCH_ROPE_ON_SWA},
    {.name = "cohere2", .swa = PL_SWA_ALWAYS, .swa_period = 4, .flags = PL_ARCH_ROPE_ON_SWA},
    {.name = "cohere2moe", .swa = PL_SWA_ALWAYS, .swa_period = 4, .swa_dense_first = true,
     .flags = PL_ARCH_ROPE_ON_SWA},
    {.name = "exaone-moe", .swa = PL_SWA_ALWAYS, .swa_period = 4, .swa_window = 128, .flags = PL_ARCH_ROPE_ON_SWA},
    {.name = "exaone4", .swa = PL_SWA_ALWAYS, .swa_period = 4, .swa_window = 4096, .swa_at_layers = 64,
     .flags = PL_ARCH_ROPE_ON_SWA},
    {.name = "gemma2", .swa = PL_SWA_ALWAYS, .swa_period = 2, .swa_window = 4096},
    {.name = "gemma3", .swa = PL_SWA_IF_SET, .swa_period = 6},
    {.name = "gemma3n", .swa = PL_SWA_ALWAYS, .swa_period = 5, .kv_from_start = 20, .flags = PL_ARCH_SHARED_KV},
    {.name = "gemma4", .swa = PL_SWA_ALWAYS, .swa_period = 6, .swa_array = true,
     .flags = PL_ARCH_SHARED_KV | PL_ARCH_NEEDS_ROPE_FREQS},
    {.name = "gpt-oss", .swa = PL_SWA_ALWAYS, .swa_period = 2, .flags = PL_ARCH_FFN_NORM_AS_POST},
    {.name = "granite_swa", .swa = PL_SWA_ALWAYS, .swa_period = 4, .swa_array = true},
    {.name = "laguna", .swa = PL_SWA_IF_SET, .swa_period = 4, .swa_dense_first = true},
    {.name = "llama4", .swa = PL_SWA_CHUNKED, .swa_period = 4, .swa_window = 8192, .swa_window_fixed = true,
     .no_rope_step = 4},
    {.name = "maple", .swa = PL_SWA_ALWAYS, .swa_period = 0, .swa_array = true},
    {.name = "mellum", .swa = PL_SWA_IF_SET, .swa_period = 4},
    {.name = "mimo2", .swa = PL_SWA_ALWAYS, .swa_period = 0, .swa_array = true},
    {.name = "muse-glimmer", .swa = PL_SWA_ALWAYS, .swa_period = 4},
    {.name = "olmo2", .swa = PL_SWA_IF_SET, .swa_period = 4},
    {.name = "plamo3", .swa = PL_SWA_IF_SET, .swa_period = 8},
    {.name = "smallthinker", .swa = PL_SWA_IF_SET, .swa_period = 4, .swa_dense_first = true,
     .swa_window = 4096, .swa_window_fixed = true, .no_rope_step = 4},
    {.name = "spark2_5", .swa = PL_SWA_ALWAYS, .swa_period = 0, .swa_array = true},
    {.name = "step35", .swa = PL_SWA_ALWAYS, .swa_period = 0, .swa_array = true},
    /* recurrent and hybrid */
    {.name = "mamba", .rec_rule = PL_REC_EVERY, .rec = PL_REC_MAMBA1, .flags = PL_ARCH_NO_ROPE},
    {.name = "mamba2", .rec_rule = PL_REC_EVERY, .rec = PL_REC_MAMBA2, .flags = PL_ARCH_NO_ROPE},
    {.name = "rwkv6", .rec_rule = PL_REC_EVERY, .rec = PL_REC_RWKV, .flags = PL_ARCH_NO_ROPE},
    {.name = "rwkv6qwen2", .rec_rule = PL_REC_EVERY, .rec = PL_REC_RWKV, .flags = PL_ARCH_NO_ROPE},
    {.name = "rwkv7", .rec_rule = PL_REC_EVERY, .rec = PL_REC_RWKV, .flags = PL_ARCH_NO_ROPE},
    {.name = "arwkv7", .rec_rule = PL_REC_EVERY, .rec = PL_REC_RWKV, .flags = PL_ARCH_NO_ROPE},
    {.name = "falcon-h1", .rec_rule = PL_REC_BESIDE, .rec = PL_REC_MAMBA2},
    {.name = "jamba", .rec_rule = PL_REC_KV0, .rec = PL_REC_MAMBA1, .flags = PL_ARCH_NO_ROPE},
    {.name = "plamo2", .rec_rule = PL_REC_KV0, .rec = PL_REC_MAMBA2},
    {.name = "granitehybrid", .rec_rule = PL_REC_KV0, .rec = PL_REC_MAMBA2},
    {.name = "nemotron_h", .rec_rule = PL_REC_KV0_FF0, .rec = PL_REC_MAMBA2, .flags = PL_ARCH_NO_ROPE},
    {.name = "nemotron_h_moe", .rec_rule = PL_REC_KV0_FF0, .rec = PL_REC_MAMBA2, .flags = PL_ARCH_NO_ROPE},
    {.name = "lfm2", .rec_rule = PL_REC_KV0, .rec = PL_REC_SHORTCONV, .swa = PL_SWA_IF_SET,
     .flags = PL_ARCH_FINAL_NORM_AS_EMBD},
    {.name = "lfm2moe", .rec_rule = PL_REC_KV0, .rec = PL_REC_SHORTCONV, .flags = PL_ARCH_FINAL_NORM_AS_EMBD},
    {.name = "qwen3next", .rec_rule = PL_REC_INTERVAL, .rec = PL_REC_DELTANET, .rec_interval = 4,
     .flags = PL_ARCH_Q_GATED | PL_ARCH_FFN_NORM_AS_POST},
    {.name = "qwen35", .rec_rule = PL_REC_INTERVAL, .rec = PL_REC_DELTANET, .rec_interval = 4,
     .flags = PL_ARCH_Q_GATED | PL_ARCH_FFN_NORM_AS_POST},
    {.name = "qwen35moe", .rec_rule = PL_REC_INTERVAL, .rec = PL_REC_DELTANET, .rec_interval = 4,
     .flags = PL_ARCH_Q_GATED | PL_ARCH_FFN_NORM_AS_POST},
    {.name = "minimax-01", .rec_rule = PL_REC_INTERVAL, .rec = PL_REC_LIGHTNING, .rec_interval = 8},
    {.name = "kimi-linear", .rec_rule = PL_REC_KV0, .rec = PL_REC_KDA, .flags = PL_ARCH_NO_ROPE},
    {.name = "bailingmoe3", .rec_rule = PL_REC_KV0, .rec = PL_REC_KDA},
    {.name = "kimi-k3", .rec_rule = PL_REC_KV0, .rec = PL_REC_KDA, .flags = PL_ARCH_NO_ROPE},
    /* no cache */
    {.name = "bert", .flags = PL_ARCH_EMBEDDING | PL_ARCH_NO_ROPE},
    {.name = "nomic-bert", .flags = PL_ARCH_EMBEDDING},
    {.name = "nomic-bert-moe", .flags = PL_ARCH_EMBEDDING},
    {.name = "neo-bert", .flags = PL_ARCH_EMBEDDING},
    {.name = "jina-bert-v2", .flags = PL_ARCH_EMBEDDING | PL_ARCH_NO_ROPE},
    {.name = "jina-bert-v3", .flags = PL_ARCH_EMBEDDING},
    {.name = "eurobert", .flags = PL_ARCH_EMBEDDING},
    {.name = "modern-bert", .swa = PL_SWA_IF_SET, .swa_period = 3, .swa_dense_first = true,
     .flags = PL_ARCH_EMBEDDING},
    {.name = "gemma-embedding", .swa = PL_SWA_ALWAYS, .swa_period = 6, .flags = PL_ARCH_EMBEDDING},
    {.name = "t5encoder", .flags = PL_ARCH_EMBEDDING | PL_ARCH_NO_ROPE},
    {.name = "dream", .flags = PL_ARCH_NO_CACHE},
    {.name = "llada", .flags = PL_ARCH_NO_CACHE},
    {.name = "llada-moe", .flags = PL_ARCH_NO_CACHE},
    {.name = "rnd1", .flags = PL_ARCH_NO_CACHE},
    /* caches that the layers below cannot describe */
    {.name = "deepseek4", .swa = PL_SWA_ALWAYS, .flags = PL_ARCH_OTHER_CACHE},
    {.name = "qwen4exp", .rec_rule = PL_REC_INTERVAL, .rec = PL_REC_DELTANET, .rec_interval = 4,
     .flags = PL_ARCH_OTHER_CACHE | PL_ARCH_Q_GATED},
    {.name = "glm5-next", .rec_rule = PL_REC_KV0, .rec = PL_REC_KDA,
     .flags = PL_ARCH_OTHER_CACHE | PL_ARCH_SHARED_INDEXER},
    {.name = "dots3note", .swa = PL_SWA_ALWAYS, .swa_array = true,
     .flags = PL_ARCH_OTHER_CACHE | PL_ARCH_SHARED_INDEXER},
    {.name = "graniteswitch", .flags = PL_ARCH_OTHER_CACHE},
    {.name = "nanbeige", .flags = PL_ARCH_OTHER_CACHE},
    {.name = "hrm_text", .flags = PL_ARCH_OTHER_CACHE},
    {.name = "t5", .flags = PL_ARCH_OTHER_CACHE | PL_ARCH_NO_ROPE},
    {.name = "gemma4-assistant", .swa = PL_SWA_ALWAYS, .swa_array = true, .flags = PL_ARCH_OTHER_CACHE},
    {.name = "eagle3", .flags = PL_ARCH_OTHER_CACHE},
    {.name = "dflash", .swa = PL_SWA_IF_SET, .flags = PL_ARCH_OTHER_CACHE},
    {.name = "clip", .flags = PL_ARCH_NOT_A_MODEL},
    {.name = "wavtokenizer-dec", .flags = PL_ARCH_NOT_A_MODEL},
    {.name = "pockettts", .flags = PL_ARCH_NOT_A_MODEL},
};

const struct pl_arch_traits *pl_arch_traits_find(const char *name)
{
	for (size_t i = 0; name && i < sizeof rows / sizeof *rows; i++)
		if (!strcmp(rows[i].name, name))
			return &rows[i];
	return NULL;
}

bool pl_arch_slides(const struct pl_model *m)
{
	const struct pl_arch_traits *tr = pl_arch_traits_find(m->arch);
	return tr && tr->swa != PL_SWA_NEVER && (!tr->swa_at_layers || tr->swa_at_layers == m->n_layers);
}

const struct pl_model *pl_arch_view(struct pl_arena *a, const struct pl_model *m)
{
	uint32_t n = m->layers ? m->n_layers + m->n_layers_mtp : 0;
	bool any = false;
	for (uint32_t i = 0; i < n; i++)
		any |= m->layers[i].window_tokens != 0;
	if (!any || m->format == PL_FORMAT_GGUF || pl_arch_slides(m)) /* a GGUF was read by these rules already */
		return m;
	struct pl_model *view = PL_NEW(a, struct pl_model);
	struct pl_layer *layers = PL_NEW_N(a, struct pl_layer, n);
	if (!view || !layers)
		return NULL;
	memcpy(layers, m->layers, n * sizeof *layers);
	for (uint32_t i = 0; i < n; i++) {
		layers[i].window_tokens = 0;
		layers[i].window_chunked = false;
	}
	*view = *m;
	view->layers = layers;
	return view;
}

bool pl_swa_pattern_at(uint32_t il, uint32_t period, bool dense_first)
{
	if (!period)
		return true;
	return dense_first ? il % period != 0 : il % period < period - 1;
}
