/* Which family a model_type belongs to. One row a name; traits as the Transformers implementation of that name has them. */
#include <string.h>

#include "model/families/families.h"

#define QKN T_QK_NORM_HEAD
#define LN T_NORM_BIAS

static const struct pl_family_row rows[] = {
    /* dense */
    {"llama", "llama", 0, pl_read_biases},
    {"mistral", "llama", 0, pl_read_windows},
    {"ministral3", "mistral3", 0, pl_read_windows},
    {"internlm", "llama", 0, pl_read_biases},
    {"internlm2", "internlm2", 0, NULL},
    {"baichuan", "baichuan", 0, NULL},
    {"minicpm", "minicpm", 0, NULL},
    {"smollm3", "smollm3", 0, pl_read_biases},
    {"seed_oss", "seed_oss", T_QKV_BIAS, pl_read_biases},
    {"qwen", "qwen", T_QKV_BIAS | T_FUSED_QKV, pl_read_qwen1},
    {"qwen2", "qwen2", T_QKV_BIAS, pl_read_windows},
    {"qwen2_5_vl", "qwen2vl", T_QKV_BIAS, pl_read_windows},
    {"qwen2_vl", "qwen2vl", T_QKV_BIAS, pl_read_windows},
    {"mimo", "qwen2", T_QKV_BIAS, pl_read_windows},
    {"qwen3", "qwen3", QKN, pl_read_windows},
    {"qwen3_vl_text", "qwen3vl", QKN, NULL},
    {"qwen3_vl", "qwen3vl", QKN, NULL},
    {"phi", "phi2", LN | T_ONE_NORM | T_QKV_BIAS | T_O_BIAS | T_MLP_BIAS | T_HEAD_BIAS, pl_read_phi},
    {"phi-msft", "phi2", LN | T_ONE_NORM | T_QKV_BIAS | T_O_BIAS | T_MLP_BIAS | T_HEAD_BIAS, pl_read_phi},
    {"phi3", "phi3", T_FUSED_QKV | T_FUSED_UP, pl_read_windows},
    {"phi3_v", "phi3", T_FUSED_QKV | T_FUSED_UP, pl_read_windows},
    {"phi4", "phi3", T_FUSED_QKV | T_FUSED_UP, pl_read_windows},
    {"gemma", "gemma", 0, pl_read_windows},
    {"gemma2", "gemma2", T_POST_NORMS, pl_read_windows},
    {"gemma3_text", "gemma3", T_POST_NORMS | QKN, pl_read_windows},
    {"gemma3", "gemma3", T_POST_NORMS | QKN, pl_read_windows},
    {"gemma4_text", "gemma4", T_POST_NORMS | QKN, pl_read_gemma4},
    {"gemma4", "gemma4", T_POST_NORMS | QKN, pl_read_gemma4},
    {"glm4", "glm4", T_POST_NORMS | T_FUSED_UP | T_QKV_BIAS, NULL},
    {"chatglm", "chatglm", T_FUSED_QKV | T_FUSED_UP | T_QKV_BIAS, pl_read_chatglm},
    {"cohere", "command-r", T_ONE_NORM, pl_read_windows},
    {"cohere2", "cohere2", T_ONE_NORM, pl_read_windows},
    {"olmo", "olmo", T_NO_NORMS, NULL},
    {"olmo2", "olmo2", T_ONLY_POST | T_QK_NORM_FULL, NULL},
    {"olmo3", "olmo2", T_ONLY_POST | T_QK_NORM_FULL, pl_read_windows},
    {"granite", "granite", 0, pl_read_biases},
    {"exaone4", "exaone4", T_ONLY_POST | QKN, pl_read_windows},
    {"hunyuan_v1_dense", "hunyuan-dense", QKN, NULL},
    {"ernie4_5", "ernie4_5", 0, NULL},
    {"stablelm", "stablelm", LN, pl_read_biases},
    {"orion", "orion", LN, NULL},
    {"starcoder2", "starcoder2", LN | T_QKV_BIAS | T_O_BIAS | T_MLP_BIAS, pl_read_windows},
    {"gpt_bigcode", "starcoder", LN | T_FUSED_QKV | T_QKV_BIAS | T_O_BIAS | T_MLP_BIAS, pl_read_gpt2},
    {"gpt2", "gpt2", LN | T_FUSED_QKV | T_QKV_BIAS | T_O_BIAS | T_MLP_BIAS, pl_read_gpt2},
    {"gptj", "gptj", LN | T_ONE_NORM | T_MLP_BIAS | T_HEAD_BIAS, pl_read_gpt2},
    {"gpt_neox", "gptneox", LN | T_FUSED_QKV | T_QKV_BIAS | T_O_BIAS | T_MLP_BIAS, pl_read_neox},
    {"bloom", "bloom", LN | T_FUSED_QKV | T_QKV_BIAS | T_O_BIAS | T_MLP_BIAS | T_EMBED_NORM, pl_read_gpt2},
    {"falcon", "falcon", LN | T_FUSED_QKV, pl_read_falcon},
    {"nemotron-nas", "deci", 0, pl_read_nas},
    {"mllama_text_model", "mllama", 0, NULL},
    /* mixtures of experts */
    {"mixtral", "llama", 0, pl_read_moe},
    {"qwen2_moe", "qwen2moe", T_QKV_BIAS | T_SHARED_GATE, pl_read_moe},
    {"qwen3_moe", "qwen3moe", QKN, pl_read_moe},
    {"qwen3_vl_moe_text", "qwen3vlmoe", QKN, pl_read_moe},
    {"qwen3_vl_moe", "qwen3vlmoe", QKN, pl_read_moe},
    {"phimoe", "phimoe", LN | T_QKV_BIAS | T_O_BIAS | T_HEAD_BIAS, pl_read_moe},
    {"olmoe", "olmoe", T_QK_NORM_FULL, pl_read_moe},
    {"granitemoe", "granitemoe", 0, pl_read_moe},
    {"gpt_oss", "gpt-oss", T_QKV_BIAS | T_O_BIAS | T_SINKS | T_ROUTER_BIAS | T_EXPERT_BIAS, pl_read_moe},
    {"glm4_moe", "glm4moe", T_ROUTER_CORR | T_MTP_COPIES, pl_read_moe},
    {"minimax_m2", "minimax-m2", T_QK_NORM_FULL | T_ROUTER_CORR, pl_read_moe},
    {"ernie4_5_moe", "ernie4_5-moe", T_ROUTER_CORR, pl_read_moe},
    {"hunyuan", "hunyuan-moe", QKN, pl_read_moe},
    {"llama4_text", "llama4", 0, pl_read_llama4},
    {"llama4", "llama4", 0, pl_read_llama4},
    {"deepseek", "deepseek", 0, pl_read_moe},
    {"mimo_v2_flash", "mimo2", T_ROUTER_CORR, pl_read_mimo_flash},
    /* latent attention */
    {"deepseek_v2", "deepseek2", 0, pl_read_mla},
    {"deepseek_v3", "deepseek2", T_ROUTER_CORR | T_MTP_COPIES, pl_read_mla},
    {"deepseek_v32", "deepseek32", T_ROUTER_CORR | T_MTP_COPIES, pl_read_mla},
    {"kimi_k2", "deepseek2", T_ROUTER_CORR, pl_read_mla},
    {"kimi_k25", "deepseek2", T_ROUTER_CORR, pl_read_mla},
    {"glm_moe_dsa", "glm-dsa", T_ROUTER_CORR, pl_read_mla},
    {"glm4_moe_lite", "deepseek2", T_ROUTER_CORR, pl_read_mla},
    {"kimi_linear", "kimi-linear", T_ROUTER_CORR, pl_read_kimi_linear},
    /* hybrid and recurrent */
    {"qwen3_next", "qwen3next", QKN | T_SHARED_GATE | T_POST_ATTN_NORM, pl_read_qwen_next},
    {"qwen3_5_text", "qwen35", QKN | T_SPLIT_BA | T_POST_ATTN_NORM, pl_read_qwen_next},
    {"qwen3_5", "qwen35", QKN | T_SPLIT_BA | T_POST_ATTN_NORM, pl_read_qwen_next},
    {"qwen3_5_moe_text", "qwen35moe", QKN | T_SPLIT_BA | T_SHARED_GATE | T_POST_ATTN_NORM, pl_read_qwen_next},
    {"qwen3_5_moe", "qwen35moe", QKN | T_SPLIT_BA | T_SHARED_GATE | T_POST_ATTN_NORM, pl_read_qwen_next},
    {"mamba", "mamba", T_CONV_BIAS | T_MIXER_ONLY, pl_read_mamba},
    {"jamba", "jamba", T_CONV_BIAS | T_SSM_NORMS, pl_read_jamba},
    {"nemotron_h", "nemotron_h", T_CONV_BIAS | T_MIXER_ONLY | T_SHARED_PLAIN | T_ROUTER_CORR, pl_read_nemotron_h},
    {"granitemoehybrid", "granitehybrid", T_CONV_BIAS, pl_read_granite_hybrid},
    {"falcon_h1", "falcon-h1", T_CONV_BIAS | T_SSM_NO_NORM, pl_read_falcon_h1},
    {"lfm2", "lfm2", QKN, pl_read_lfm2},
    /* encoders */
    {"bert", "bert", LN | T_QKV_BIAS | T_O_BIAS | T_MLP_BIAS | T_EMBED_NORM, pl_read_bert},
    {"xlm-roberta", "bert", LN | T_QKV_BIAS | T_O_BIAS | T_MLP_BIAS | T_EMBED_NORM, pl_read_bert},
    {"whisper", "whisper", LN | T_QKV_BIAS | T_O_BIAS | T_MLP_BIAS, pl_read_whisper},
};

const struct pl_family_row *pl_family_find(const char *model_type)
{
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (!strcmp(rows[i].model_type, model_type))
			return &rows[i];
	return NULL;
}
