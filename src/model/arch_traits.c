#include <string.h>

#include "model/arch_traits.h"

/* Source: llama.cpp src/llama-arch.cpp (names), src/models/ *.cpp (load_arch_hparams), src/llama-model.cpp
 * (create_memory), read 2026-11. */
#define PLAIN(n) {.name = n}
#define WITH(n, ...) {.name = n, __VA_ARGS__}
#define SWA(n, rule, period, ...) {.name = n, .swa = PL_SWA_##rule, .swa_period = period, __VA_ARGS__}
#define REC(n, rule, kind, ...) {.name = n, .rec_rule = PL_REC_##rule, .rec = PL_REC_##kind, __VA_ARGS__}
#define FLAGS(...) .flags = __VA_ARGS__

static const struct pl_arch_traits rows[] = {
    /* full attention in every layer */
    PLAIN("llama"), PLAIN("deci"), PLAIN("falcon"), PLAIN("grok"), PLAIN("stablelm"), PLAIN("qwen"), PLAIN("qwen2"),
    PLAIN("qwen2moe"), PLAIN("qwen2vl"), PLAIN("qwen3"), PLAIN("qwen3moe"), PLAIN("qwen3vl"), PLAIN("qwen3vlmoe"),
    PLAIN("phi2"), PLAIN("phimoe"), PLAIN("plamo"), PLAIN("codeshell"), PLAIN("orion"), PLAIN("internlm2"),
    PLAIN("minicpm"), PLAIN("minicpm3"), PLAIN("gemma"), PLAIN("starcoder2"), PLAIN("xverse"), PLAIN("command-r"),
    PLAIN("dbrx"), PLAIN("olmo"), PLAIN("olmoe"), PLAIN("openelm"), PLAIN("arctic"), PLAIN("deepseek"),
    PLAIN("deepseek2"), PLAIN("deepseek2-ocr"), PLAIN("deepseek32"), PLAIN("chatglm"), PLAIN("glm4"), PLAIN("glm4moe"),
    PLAIN("bitnet"), PLAIN("jais2"), PLAIN("nemotron"), PLAIN("exaone"), PLAIN("granite"), PLAIN("granitemoe"),
    PLAIN("chameleon"), PLAIN("plm"), PLAIN("bailingmoe"), PLAIN("bailingmoe2"), PLAIN("dots1"), PLAIN("arcee"),
    PLAIN("ernie4_5"), PLAIN("ernie4_5-moe"), PLAIN("hunyuan-moe"), PLAIN("hunyuan-dense"), PLAIN("hunyuan_vl"),
    PLAIN("hy_v3"), PLAIN("seed_oss"), PLAIN("grovemoe"), PLAIN("apertus"), PLAIN("minimax-m2"), PLAIN("minimax-m3"),
    PLAIN("cogvlm"), PLAIN("pangu-embedded"), PLAIN("mistral3"), PLAIN("mistral4"), PLAIN("paddleocr"),
    PLAIN("llama-embed"), PLAIN("maincoder"), PLAIN("talkie"), PLAIN("qwen3tts"),
    PLAIN("phi3"), /* llama.cpp switches the window off whatever the key says (PR 13676) */
    WITH("baichuan"), WITH("smollm3", .no_rope_step = 4), WITH("gptj", FLAGS(PL_ARCH_PARALLEL)),
    WITH("gptneox", FLAGS(PL_ARCH_PARALLEL)), WITH("gpt2", FLAGS(PL_ARCH_NO_ROPE)), WITH("mpt", FLAGS(PL_ARCH_NO_ROPE)),
    WITH("starcoder", FLAGS(PL_ARCH_NO_ROPE)), WITH("refact", FLAGS(PL_ARCH_NO_ROPE)),
    WITH("bloom", FLAGS(PL_ARCH_NO_ROPE)), WITH("jais", FLAGS(PL_ARCH_NO_ROPE)),
    WITH("glm-dsa", FLAGS(PL_ARCH_SHARED_INDEXER)), WITH("hy_v4", FLAGS(PL_ARCH_SHARED_INDEXER)),
    /* sliding windows */
    SWA("afmoe", IF_SET, 4, FLAGS(PL_ARCH_ROPE_ON_SWA)),
    SWA("cohere2", ALWAYS, 4, FLAGS(PL_ARCH_ROPE_ON_SWA)),
    SWA("cohere2moe", ALWAYS, 4, .swa_dense_first = true, FLAGS(PL_ARCH_ROPE_ON_SWA)),
    SWA("exaone-moe", ALWAYS, 4, .swa_window = 128, FLAGS(PL_ARCH_ROPE_ON_SWA)),
    SWA("exaone4", ALWAYS, 4, .swa_window = 4096, .swa_at_layers = 64, FLAGS(PL_ARCH_ROPE_ON_SWA)),
    SWA("gemma2", ALWAYS, 2, .swa_window = 4096),
    SWA("gemma3", IF_SET, 6),
    SWA("gemma3n", ALWAYS, 5, .kv_from_start = 20, FLAGS(PL_ARCH_SHARED_KV)),
    SWA("gemma4", ALWAYS, 6, .swa_array = true, FLAGS(PL_ARCH_SHARED_KV)),
    SWA("gpt-oss", ALWAYS, 2),
    SWA("granite_swa", ALWAYS, 4, .swa_array = true),
    SWA("laguna", IF_SET, 4, .swa_dense_first = true),
    SWA("llama4", CHUNKED, 4, .swa_window = 8192, .swa_window_fixed = true, .no_rope_step = 4),
    SWA("maple", ALWAYS, 0, .swa_array = true),
    SWA("mellum", IF_SET, 4),
    SWA("mimo2", ALWAYS, 0, .swa_array = true),
    SWA("muse-glimmer", ALWAYS, 4),
    SWA("olmo2", IF_SET, 4),
    SWA("plamo3", IF_SET, 8),
    SWA("smallthinker", IF_SET, 4, .swa_dense_first = true, .swa_window = 4096, .swa_window_fixed = true,
        .no_rope_step = 4),
    SWA("spark2_5", ALWAYS, 0, .swa_array = true),
    SWA("step35", ALWAYS, 0, .swa_array = true),
    /* recurrent and hybrid */
    REC("mamba", EVERY, MAMBA1, FLAGS(PL_ARCH_NO_ROPE)), REC("mamba2", EVERY, MAMBA2, FLAGS(PL_ARCH_NO_ROPE)),
    REC("rwkv6", EVERY, RWKV, FLAGS(PL_ARCH_NO_ROPE)), REC("rwkv6qwen2", EVERY, RWKV, FLAGS(PL_ARCH_NO_ROPE)),
    REC("rwkv7", EVERY, RWKV, FLAGS(PL_ARCH_NO_ROPE)), REC("arwkv7", EVERY, RWKV, FLAGS(PL_ARCH_NO_ROPE)),
    REC("falcon-h1", BESIDE, MAMBA2), REC("jamba", KV0, MAMBA1, FLAGS(PL_ARCH_NO_ROPE)), REC("plamo2", KV0, MAMBA2),
    REC("granitehybrid", KV0, MAMBA2), REC("nemotron_h", KV0_FF0, MAMBA2, FLAGS(PL_ARCH_NO_ROPE)),
    REC("nemotron_h_moe", KV0_FF0, MAMBA2, FLAGS(PL_ARCH_NO_ROPE)),
    REC("lfm2", KV0, SHORTCONV, .swa = PL_SWA_IF_SET), REC("lfm2moe", KV0, SHORTCONV),
    REC("qwen3next", INTERVAL, DELTANET, .rec_interval = 4, FLAGS(PL_ARCH_Q_GATED)),
    REC("qwen35", INTERVAL, DELTANET, .rec_interval = 4, FLAGS(PL_ARCH_Q_GATED)),
    REC("qwen35moe", INTERVAL, DELTANET, .rec_interval = 4, FLAGS(PL_ARCH_Q_GATED)),
    REC("minimax-01", INTERVAL, LIGHTNING, .rec_interval = 8),
    REC("kimi-linear", KV0, KDA, FLAGS(PL_ARCH_NO_ROPE)), REC("bailingmoe3", KV0, KDA),
    REC("kimi-k3", KV0, KDA, FLAGS(PL_ARCH_NO_ROPE)),
    /* no cache */
    WITH("bert", FLAGS(PL_ARCH_EMBEDDING | PL_ARCH_NO_ROPE)), WITH("nomic-bert", FLAGS(PL_ARCH_EMBEDDING)),
    WITH("nomic-bert-moe", FLAGS(PL_ARCH_EMBEDDING)), WITH("neo-bert", FLAGS(PL_ARCH_EMBEDDING)),
    WITH("jina-bert-v2", FLAGS(PL_ARCH_EMBEDDING | PL_ARCH_NO_ROPE)), WITH("jina-bert-v3", FLAGS(PL_ARCH_EMBEDDING)),
    WITH("eurobert", FLAGS(PL_ARCH_EMBEDDING)),
    SWA("modern-bert", IF_SET, 3, .swa_dense_first = true, FLAGS(PL_ARCH_EMBEDDING)),
    SWA("gemma-embedding", ALWAYS, 6, FLAGS(PL_ARCH_EMBEDDING)),
    WITH("t5encoder", FLAGS(PL_ARCH_EMBEDDING | PL_ARCH_NO_ROPE)),
    WITH("dream", FLAGS(PL_ARCH_NO_CACHE)), WITH("llada", FLAGS(PL_ARCH_NO_CACHE)),
    WITH("llada-moe", FLAGS(PL_ARCH_NO_CACHE)), WITH("rnd1", FLAGS(PL_ARCH_NO_CACHE)),
    /* caches that the layers below cannot describe */
    WITH("deepseek4", .swa = PL_SWA_ALWAYS, FLAGS(PL_ARCH_OTHER_CACHE)),
    REC("qwen4exp", INTERVAL, DELTANET, .rec_interval = 4, FLAGS(PL_ARCH_OTHER_CACHE | PL_ARCH_Q_GATED)),
    REC("glm5-next", KV0, KDA, FLAGS(PL_ARCH_OTHER_CACHE | PL_ARCH_SHARED_INDEXER)),
    WITH("dots3note", .swa = PL_SWA_ALWAYS, .swa_array = true, FLAGS(PL_ARCH_OTHER_CACHE | PL_ARCH_SHARED_INDEXER)),
    WITH("graniteswitch", FLAGS(PL_ARCH_OTHER_CACHE)), WITH("nanbeige", FLAGS(PL_ARCH_OTHER_CACHE)),
    WITH("hrm_text", FLAGS(PL_ARCH_OTHER_CACHE)), WITH("t5", FLAGS(PL_ARCH_OTHER_CACHE | PL_ARCH_NO_ROPE)),
    WITH("gemma4-assistant", .swa = PL_SWA_ALWAYS, .swa_array = true, FLAGS(PL_ARCH_OTHER_CACHE)),
    WITH("eagle3", FLAGS(PL_ARCH_OTHER_CACHE)), WITH("dflash", .swa = PL_SWA_IF_SET, FLAGS(PL_ARCH_OTHER_CACHE)),
    WITH("clip", FLAGS(PL_ARCH_NOT_A_MODEL)), WITH("wavtokenizer-dec", FLAGS(PL_ARCH_NOT_A_MODEL)),
    WITH("pockettts", FLAGS(PL_ARCH_NOT_A_MODEL)),
};

const struct pl_arch_traits *pl_arch_traits_find(const char *name)
{
	for (size_t i = 0; name && i < sizeof rows / sizeof *rows; i++)
		if (!strcmp(rows[i].name, name))
			return &rows[i];
	return NULL;
}

bool pl_swa_pattern_at(uint32_t il, uint32_t period, bool dense_first)
{
	if (!period)
		return true;
	return dense_first ? il % period != 0 : il % period < period - 1;
}
