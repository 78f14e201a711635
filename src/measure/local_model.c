/* Precisions as tables and file names write them. */
#include <math.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "measure/local_case.h"

struct rule {
	const char *pattern, *quant;
	double bits; /* 0: as the precision says */
};

/* First match wins. Formats of engines without a model here stand as the nearest of the same width. */
static const struct rule rules[] = {
    {"exl[23]?[-_ ]*([0-9.]+)[-_ ]*bpw", "q4_k_m", -1}, {"([0-9.]+)[-_ ]*bpw.*bitnet|bitnet|i2_s", "tq2_0", 2.06},
    {"mxfp4", "mxfp4_moe", 0}, {"nvfp4", "nvfp4", 0}, {"mxfp8", "mxfp8", 0},
    {"iq1_s", "iq1_s", 0}, {"iq1_m", "iq1_m", 0}, {"iq2_xxs", "iq2_xxs", 0}, {"iq2_xs", "iq2_xs", 0}, {"iq2_s", "iq2_s", 0},
    {"iq2_(m|kt|k)", "iq2_m", 0}, {"iq3_?xxs", "iq3_xxs", 0}, {"iq3_xs", "iq3_xs", 0}, {"iq3_s", "iq3_s", 0}, {"iq3_", "iq3_m", 0},
    {"iq4_nl", "iq4_nl", 0}, {"iq4_", "iq4_xs", 0}, {"iq5_", "q5_k_m", 0}, {"iq6_", "q6_k", 0}, {"tq1_0", "tq1_0", 0}, {"tq2_0|ternary", "tq2_0", 0},
    {"q2_k(_s| - small)", "q2_k_s", 0}, {"q2_|w2$|q2$", "q2_k", 0}, {"q3_k_s", "q3_k_s", 0}, {"q3_k_l", "q3_k_l", 0}, {"q3_", "q3_k_m", 0},
    {"q4_k(_s| - small)", "q4_k_s", 0}, {"q4_0", "q4_0", 0}, {"q4_1", "q4_1", 0}, {"q4", "q4_k_m", 0},
    {"q5_0", "q5_0", 0}, {"q5_1", "q5_1", 0}, {"q5_k(_s| - small)", "q5_k_s", 0}, {"q5", "q5_k_m", 0}, {"q6", "q6_k", 0},
    {"q8_k_xl", "q8_0", 0}, {"q8", "q8_0", 0},
    {"awq", "awq-int4", 0}, {"gptq|autoround|w4a16|compressed-tensors-int4", "gptq-int4", 0}, {"w8a8|int8", "w8a8-int8", 0},
    {"fp8", "fp8", 0}, {"bf16", "bf16", 0}, {"fp?16", "f16", 0}, {"f32", "f32", 0}, {"8[- ]?bit", "mlx-8bit", 0}, {"[34][- ]?bit|int4|w4$", "mlx-4bit", 0},
};

static const struct rule *match(const char *text, double *ret_bits)
{
	for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
		regex_t re;
		regmatch_t m[2];
		if (regcomp(&re, rules[i].pattern, REG_EXTENDED | REG_ICASE))
			continue;
		bool found = !regexec(&re, text, 2, m, 0);
		regfree(&re);
		if (!found)
			continue;
		*ret_bits = rules[i].bits < 0 ? strtod(text + m[1].rm_so, NULL) : rules[i].bits;
		return &rules[i];
	}
	return NULL;
}

/* "mlx-4bit" is what 4 bits mean to MLX; to CUDA engines of 2023 and to gpt-fast they were GPTQ or the like. */
static const char *in_engine(const char *quant, const char *engine)
{
	bool llama = strcasestr(engine, "llama") || strcasestr(engine, "unsloth") || strcasestr(engine, "lm-studio");
	if (!strncmp(quant, "mlx-", 4) && !strcasestr(engine, "mlx"))
		return llama ? (strstr(quant, "8bit") ? "q8_0" : "q4_0") : strstr(quant, "8bit") ? "w8a8-int8" : "gptq-int4";
	if (llama && !strcmp(quant, "w8a8-int8"))
		return "q8_0";
	if (llama && (!strcmp(quant, "awq-int4") || !strcmp(quant, "gptq-int4")))
		return "q4_0";
	if (!llama && !strcmp(quant, "mxfp4_moe"))
		return "mxfp4";
	return quant;
}

/* What an engine runs when nobody says: its library's default tag. */
static const char *usual(const char *engine, const char *model)
{
	if (strcasestr(model, "-mlx") || strcasestr(engine, "mlx"))
		return "mlx-4bit";
	if (strcasestr(model, "gpt-oss"))
		return strcasestr(engine, "llm") && !strcasestr(engine, "llama") ? "mxfp4" : "mxfp4_moe";
	if (strcasestr(engine, "llama") || strcasestr(engine, "lm-studio") || strcasestr(engine, "unsloth"))
		return "q4_k_m";
	if (strcasestr(engine, "vllm") || strcasestr(engine, "sglang") || strcasestr(engine, "gpt-fast"))
		return "bf16";
	return NULL;
}

const char *pl_local_quant(struct pl_vrow *r, const char *engine, bool *ret_assumed, double *ret_bits)
{
	const char *text = pl_vrow_text(r, "quant"), *model = pl_vrow_text(r, "model");
	const struct rule *found = match(text, ret_bits);
	*ret_assumed = false;
	if (!found && !*text)
		found = match(model, ret_bits);
	if (found)
		return in_engine(found->quant, engine);
	*ret_bits = 0;
	*ret_assumed = true;
	return usual(engine, model);
}
