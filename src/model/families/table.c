/* Which family a model_type belongs to. */
#include <string.h>

#include "model/hf.h"

#define NORMS       PL_P_NORMS
#define FOUR_NORMS  (PL_P_NORMS | PL_P_NORM_ATTN_POST | PL_P_NORM_FFN_POST)
#define POST_NORMS  (PL_P_NORM_ATTN_POST | PL_P_NORM_FFN_POST)
#define LAYER_NORMS (PL_P_NORMS | PL_P_NORM_BIAS)
#define ALL_BIASES  (PL_P_BIAS_QKV | PL_P_BIAS_O | PL_P_BIAS_FFN)
/* GGUF's name of the second norm where the converter maps post_attention_layernorm to it */
#define ATTN_NORMS  (PL_P_NORM_ATTN | PL_P_NORM_ATTN_POST)

/* HF model_type, llama.cpp's architecture, parts every layer has, reader. Sources: transformers models/<type>/ for what
 * is there, llama.cpp conversion/ and src/models/ for names and dimensions. */
static const struct pl_hf_family families[] = {
    /* Llama and its kin */
    {"llama", "llama", NORMS | PL_P_ATTN_BIAS_KEY, pl_hf_read_dense},
    {"mistral", "llama", NORMS | PL_P_SLIDES, pl_hf_read_dense},
    {"ministral3", "mistral3", NORMS, pl_hf_read_dense},
    {"internlm", "llama", NORMS | PL_P_ATTN_BIAS_KEY, pl_hf_read_dense},
    {"internlm2", "internlm2", NORMS | PL_P_ATTN_BIAS_KEY, pl_hf_read_dense},
    {"baichuan", "baichuan", NORMS, pl_hf_read_dense},
    {"minicpm", "minicpm", NORMS | PL_P_TIED, pl_hf_read_minicpm},
    {"smollm3", "smollm3", NORMS | PL_P_TIED | PL_P_ATTN_BIAS_KEY, pl_hf_read_smollm3},
    {"seed_oss", "seed_oss", ATTN_NORMS | PL_P_BIAS_QKV | PL_P_QKV_BIAS_KEY, pl_hf_read_seed_oss},
    {"exaone4", "exaone4", POST_NORMS | PL_P_QK_NORM, pl_hf_read_exaone4},
    {"granite", "granite", NORMS | PL_P_ATTN_BIAS_KEY, pl_hf_read_dense},
    {"ernie4_5", "ernie4_5", NORMS | PL_P_TIED, pl_hf_read_dense},
    {"hunyuan_v1_dense", "hunyuan-dense", NORMS | PL_P_QK_NORM | PL_P_ATTN_BIAS_KEY, pl_hf_read_dense},
    {"nemotron-nas", "deci", NORMS, pl_hf_read_deci},
    {"orion", "orion", LAYER_NORMS, pl_hf_read_dense},
    {"stablelm", "stablelm", LAYER_NORMS, pl_hf_read_stablelm},
    {"olmo", "olmo", PL_P_NO_FINAL_NORM, pl_hf_read_dense},
    {"olmo2", "olmo2", POST_NORMS | PL_P_QK_NORM_WIDE | PL_P_ATTN_BIAS_KEY, pl_hf_read_dense},
    {"olmo3", "olmo2", POST_NORMS | PL_P_QK_NORM_WIDE | PL_P_ATTN_BIAS_KEY, pl_hf_read_dense},
    {"yuan", NULL, NORMS | PL_P_TIED, pl_hf_read_yuan},
    {"muse_glimmer_text", "muse-glimmer", FOUR_NORMS | PL_P_QK_NORM | PL_P_GATE_ELEM, pl_hf_read_dense},
    {"mllama_text_model", "mllama", NORMS, pl_hf_read_mllama},
    /* Qwen */
    {"qwen", "qwen", NORMS | PL_P_QKV_FUSED | PL_P_BIAS_QKV, pl_hf_read_qwen1},
    {"qwen2", "qwen2", NORMS | PL_P_BIAS_QKV, pl_hf_read_qwen2},
    {"qwen2_vl", "qwen2vl", NORMS | PL_P_BIAS_QKV, pl_hf_read_qwen2},
    {"qwen2_5_vl", "qwen2vl", NORMS | PL_P_BIAS_QKV, pl_hf_read_qwen2},
    {"qwen3", "qwen3", NORMS | PL_P_QK_NORM | PL_P_ATTN_BIAS_KEY, pl_hf_read_qwen2},
    {"qwen3_vl_text", "qwen3vl", NORMS | PL_P_QK_NORM | PL_P_ATTN_BIAS_KEY, pl_hf_read_qwen2},
    {"mimo", "qwen2", NORMS | PL_P_BIAS_QKV, pl_hf_read_qwen2},
    /* Phi */
    {"phi", "phi2", PL_P_NORM_ATTN | PL_P_NORM_BIAS | ALL_BIASES | PL_P_BIAS_HEAD, pl_hf_read_phi},
    {"phi-msft", "phi2", PL_P_NORM_ATTN | PL_P_NORM_BIAS | ALL_BIASES | PL_P_BIAS_HEAD, pl_hf_read_phi},
    {"phi3", "phi3", NORMS | PL_P_QKV_FUSED | PL_P_FFN_FUSED | PL_P_SLIDES, pl_hf_read_dense},
    {"phi3_v", "phi3", NORMS | PL_P_QKV_FUSED | PL_P_FFN_FUSED | PL_P_SLIDES, pl_hf_read_dense},
    {"phi4", "phi3", NORMS | PL_P_QKV_FUSED | PL_P_FFN_FUSED | PL_P_SLIDES, pl_hf_read_dense},
    {"phimoe", "phimoe", LAYER_NORMS | PL_P_BIAS_QKV | PL_P_BIAS_O | PL_P_SLIDES, pl_hf_read_phimoe},
    /* Gemma */
    {"gemma", "gemma", NORMS | PL_P_NEVER_HEAD, pl_hf_read_dense},
    {"gemma2", "gemma2", FOUR_NORMS | PL_P_NEVER_HEAD, pl_hf_read_gemma2},
    {"gemma3_text", "gemma3", FOUR_NORMS | PL_P_QK_NORM | PL_P_TIED, pl_hf_read_gemma3},
    {"gemma3", "gemma3", FOUR_NORMS | PL_P_QK_NORM | PL_P_TIED, pl_hf_read_gemma3},
    {"gemma4_text", "gemma4", FOUR_NORMS | PL_P_QK_NORM | PL_P_TIED, pl_hf_read_gemma4},
    {"gemma4_unified", "gemma4", FOUR_NORMS | PL_P_QK_NORM | PL_P_TIED, pl_hf_read_gemma4},
    {"gemma4", "gemma4", FOUR_NORMS | PL_P_QK_NORM | PL_P_TIED, pl_hf_read_gemma4},
    /* GLM */
    {"chatglm", "chatglm", NORMS | PL_P_QKV_FUSED | PL_P_FFN_FUSED, pl_hf_read_chatglm},
    {"glm", "chatglm", NORMS | PL_P_FFN_FUSED | PL_P_BIAS_QKV | PL_P_QKV_BIAS_KEY, pl_hf_read_dense},
    {"glm4", "glm4", FOUR_NORMS | PL_P_FFN_FUSED | PL_P_QKV_BIAS_KEY, pl_hf_read_dense},
    {"glm4_moe", "glm4moe", ATTN_NORMS | PL_P_QKV_BIAS_KEY | PL_P_ROUTER_CORR, pl_hf_read_glm4_moe},
    {"glm4_moe_lite", "deepseek2", NORMS | PL_P_ROUTER_CORR | PL_P_NEXTN_COPIES_MTP, pl_hf_read_deepseek},
    {"dots1", "dots1", NORMS | PL_P_QK_NORM | PL_P_ROUTER_CORR, pl_hf_read_dots1},
    {"glm_moe_dsa", "glm-dsa", NORMS | PL_P_ROUTER_CORR | PL_P_INDEXER, pl_hf_read_deepseek},
    /* Cohere, StarCoder, Falcon, GPT and other old ones */
    {"cohere", "command-r", PL_P_NORM_ATTN | PL_P_TIED | PL_P_ATTN_BIAS_KEY, pl_hf_read_cohere},
    {"cohere2", "cohere2", PL_P_NORM_ATTN | PL_P_TIED | PL_P_ATTN_BIAS_KEY, pl_hf_read_cohere},
    {"starcoder2", "starcoder2", LAYER_NORMS | ALL_BIASES | PL_P_PLAIN_FFN | PL_P_TIED | PL_P_SLIDES, pl_hf_read_starcoder2},
    {"gpt_bigcode", "starcoder", LAYER_NORMS | ALL_BIASES | PL_P_QKV_FUSED | PL_P_TIED, pl_hf_read_gpt2},
    {"gpt2", "gpt2", LAYER_NORMS | ALL_BIASES | PL_P_QKV_FUSED | PL_P_TIED, pl_hf_read_gpt2},
    {"gptj", "gptj", PL_P_NORM_ATTN | PL_P_NORM_BIAS | PL_P_BIAS_FFN | PL_P_BIAS_HEAD, pl_hf_read_gpt2},
    {"gpt_neox", "gptneox", LAYER_NORMS | ALL_BIASES | PL_P_QKV_FUSED, pl_hf_read_neox},
    {"bloom", "bloom", LAYER_NORMS | ALL_BIASES | PL_P_QKV_FUSED | PL_P_TIED | PL_P_EMBD_NORM, pl_hf_read_gpt2},
    {"falcon", "falcon", PL_P_NORM_ATTN | PL_P_NORM_BIAS | PL_P_QKV_FUSED | PL_P_TIED, pl_hf_read_falcon},
    /* mixtures of experts */
    {"mixtral", "llama", NORMS | PL_P_SLIDES, pl_hf_read_moe},
    {"qwen2_moe", "qwen2moe", NORMS | PL_P_BIAS_QKV | PL_P_SHARED_GATE, pl_hf_read_moe},
    {"qwen3_moe", "qwen3moe", NORMS | PL_P_QK_NORM | PL_P_ATTN_BIAS_KEY, pl_hf_read_moe},
    {"qwen3_vl_moe_text", "qwen3vlmoe", NORMS | PL_P_QK_NORM | PL_P_ATTN_BIAS_KEY, pl_hf_read_moe},
    {"olmoe", "olmoe", NORMS | PL_P_QK_NORM_WIDE | PL_P_ATTN_BIAS_KEY, pl_hf_read_moe},
    {"granitemoe", "granitemoe", NORMS | PL_P_ATTN_BIAS_KEY, pl_hf_read_moe},
    {"gpt_oss", "gpt-oss", ATTN_NORMS | PL_P_BIAS_QKV | PL_P_BIAS_O | PL_P_SINKS | PL_P_ROUTER_BIAS | PL_P_EXPERT_BIAS,
     pl_hf_read_gpt_oss},
    {"llama4", "llama4", NORMS | PL_P_ATTN_BIAS_KEY, pl_hf_read_llama4},
    {"llama4_text", "llama4", NORMS | PL_P_ATTN_BIAS_KEY, pl_hf_read_llama4},
    {"ernie4_5_moe", "ernie4_5-moe", NORMS | PL_P_ROUTER_CORR | PL_P_TIED, pl_hf_read_ernie},
    {"hunyuan", "hunyuan-moe", NORMS | PL_P_TIED | PL_P_ATTN_BIAS_KEY, pl_hf_read_hunyuan},
    {"hunyuan_v1_moe", "hunyuan-moe", NORMS | PL_P_TIED | PL_P_ATTN_BIAS_KEY, pl_hf_read_hunyuan},
    {"minimax_m2", "minimax-m2", NORMS, pl_hf_read_minimax},
    {"minimax_m3", "minimax-m3", NORMS | PL_P_QK_NORM | PL_P_ROUTER_CORR, pl_hf_read_minimax_m3},
    {"minimax_m3_vl", "minimax-m3", NORMS | PL_P_QK_NORM | PL_P_ROUTER_CORR, pl_hf_read_minimax_m3},
    {"mimo_v2_flash", "mimo2", NORMS | PL_P_ROUTER_CORR, pl_hf_read_mimo2},
    {"step3p7", "step35", NORMS | PL_P_QK_NORM | PL_P_GATE_HEAD, pl_hf_read_step35},
    {"laguna", "laguna", NORMS | PL_P_QK_NORM | PL_P_ROUTER_CORR, pl_hf_read_laguna},
    /* latent attention */
    {"deepseek", "deepseek", NORMS, pl_hf_read_deepseek},
    {"deepseek_v2", "deepseek2", NORMS, pl_hf_read_deepseek},
    {"deepseek_v3", "deepseek2", NORMS | PL_P_ROUTER_CORR | PL_P_NEXTN_COPIES_MTP, pl_hf_read_deepseek},
    {"deepseek_v32", "deepseek32", NORMS | PL_P_ROUTER_CORR | PL_P_INDEXER | PL_P_NEXTN_COPIES_MTP, pl_hf_read_deepseek},
    {"deepseek_v4", "deepseek4", NORMS, pl_hf_read_deepseek4},
    {"deepseek_ref", "deepseek4", NORMS, pl_hf_read_deepseek4},
    {"kimi_k2", "deepseek2", NORMS | PL_P_ROUTER_CORR, pl_hf_read_deepseek},
    {"kimi_linear", "kimi-linear", NORMS | PL_P_ROUTER_CORR, pl_hf_read_kimi_linear},
    /* hybrid and recurrent */
    {"qwen3_next", "qwen3next", ATTN_NORMS | PL_P_QK_NORM | PL_P_SHARED_GATE, pl_hf_read_qwen3_next},
    {"qwen3_5_text", "qwen35", ATTN_NORMS | PL_P_QK_NORM, pl_hf_read_qwen3_next},
    {"qwen3_5", "qwen35", ATTN_NORMS | PL_P_QK_NORM, pl_hf_read_qwen3_next},
    {"qwen3_5_moe_text", "qwen35moe", ATTN_NORMS | PL_P_QK_NORM | PL_P_SHARED_GATE, pl_hf_read_qwen3_next},
    {"qwen3_5_moe", "qwen35moe", ATTN_NORMS | PL_P_QK_NORM | PL_P_SHARED_GATE, pl_hf_read_qwen3_next},
    {"mamba", "mamba", PL_P_NORM_ATTN | PL_P_TIED, pl_hf_read_mamba},
    {"falcon_mamba", "mamba", PL_P_NORM_ATTN | PL_P_TIED, pl_hf_read_mamba},
    {"mamba2", "mamba2", PL_P_NORM_ATTN | PL_P_SSM_NORM, pl_hf_read_mamba},
    {"jamba", "jamba", NORMS | PL_P_SSM_BCDT_NORM, pl_hf_read_jamba},
    {"granitemoehybrid", "granitehybrid", NORMS | PL_P_SSM_NORM | PL_P_TIED | PL_P_ATTN_BIAS_KEY, pl_hf_read_granite_hybrid},
    {"falcon_h1", "falcon-h1", NORMS | PL_P_ATTN_BIAS_KEY, pl_hf_read_falcon_h1},
    {"nemotron_h", "nemotron_h", PL_P_NORM_ATTN | PL_P_SSM_NORM | PL_P_ROUTER_CORR | PL_P_EXPERT_PLAIN | PL_P_ATTN_BIAS_KEY,
     pl_hf_read_nemotron_h},
    {"lfm2", "lfm2", NORMS | PL_P_QK_NORM | PL_P_TIED, pl_hf_read_lfm2},
    {"rwkv5", NULL, LAYER_NORMS | PL_P_EMBD_NORM, pl_hf_read_rwkv5},
    /* encoders */
    {"bert", "bert", PL_P_NORM_ATTN_OUT | PL_P_NORM_LAYER_OUT | PL_P_NORM_BIAS | ALL_BIASES | PL_P_EMBD_NORM | PL_P_NO_FINAL_NORM |
     PL_P_PLAIN_FFN, pl_hf_read_bert},
    {"xlm-roberta", "bert", PL_P_NORM_ATTN_OUT | PL_P_NORM_LAYER_OUT | PL_P_NORM_BIAS | ALL_BIASES | PL_P_EMBD_NORM |
     PL_P_NO_FINAL_NORM | PL_P_PLAIN_FFN, pl_hf_read_bert},
    {"whisper", NULL, LAYER_NORMS | PL_P_BIAS_Q | PL_P_BIAS_V | PL_P_BIAS_O | PL_P_BIAS_FFN | PL_P_TIED, pl_hf_read_whisper},
};

const struct pl_hf_family *pl_hf_find_family(const char *type)
{
	for (size_t i = 0; type && i < sizeof families / sizeof *families; i++)
		if (!strcmp(families[i].type, type))
			return &families[i];
	return NULL;
}
