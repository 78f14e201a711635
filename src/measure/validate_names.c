/* Names of models as files and threads have them. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <plimsoll/dtype.h>

#include "measure/validate.h"

static bool is_separator(char c)
{
	return !c || strchr("-_. :/@()[],", c);
}

/* Precisions that stand in names beside those the planner takes. */
static const char *const more_quants[] = {"q2_k_l",  "q3_k_l",  "q3_k_xl", "q4_k_l",  "q5_k_l",  "q6_k_l",  "q2_k_xl", "q4_k_xl",
                                          "q5_k_xl", "q6_k_xl", "q8_k_xl", "q4_0_4_4", "q4_0_4_8", "q4_0_8_8", "fp16",  "f32",
                                          "q4_k_s",  "q4_k",    "q5_k",    "q3_k",    "q2_k",    NULL};

/* Length of the precision that text begins with, 0 for none. */
static size_t quant_at(const char *text)
{
	size_t best = 0;
	const char *const *lists[] = {pl_quant_names(), more_quants};
	for (size_t k = 0; k < 2; k++)
		for (const char *const *q = lists[k]; *q; q++) {
			size_t n = strlen(*q);
			if (n > best && !strncasecmp(text, *q, n) && is_separator(text[n]))
				best = n;
		}
	return best;
}

/* Cuts "-00001-of-00005" and endings off. */
static void cut_ending(char *base)
{
	size_t n = strlen(base);
	if (n > 5 && !strcasecmp(base + n - 5, ".gguf"))
		base[n -= 5] = 0;
	if (n > 15 && base[n - 15] == '-' && !strncmp(base + n - 9, "-of-", 4))
		base[n - 15] = 0;
}

static bool has_mark(const char *text, const char *mark)
{
	size_t n = strlen(mark);
	for (const char *p = text; *p; p++)
		if ((p == text || is_separator(p[-1])) && !strncasecmp(p, mark, n) && is_separator(p[n]))
			return true;
	return false;
}

static void cut_quant(struct pl_model_name *n)
{
	for (char *p = n->base + 1; *n->base && *p; p++) {
		size_t len = is_separator(p[-1]) ? quant_at(p) : 0;
		if (!len)
			continue;
		if (!*n->quant && len < sizeof n->quant) {
			for (size_t i = 0; i < len; i++)
				n->quant[i] = (char)tolower((unsigned char)p[i]);
			n->quant[len] = 0;
			if (!strcmp(n->quant, "fp16"))
				memcpy(n->quant, "f16", 4);
		}
		p[-1] = 0;
		return;
	}
}

/* Marks of converters and formats that say nothing about the model. */
static bool is_mark(const char *word)
{
	static const char *const marks[] = {"gguf", "ud", "i1", "imat", "imatrix", "thireus", "qat", "mix", "merged", "special_tensor", "128k",
	                                    "v2", "mtp", "hf", "bf16", "f16", "fp16", "mlx", "4bit", "8bit", "latest", "dynamic", "optimized", "fp8", "bnb", "unsloth",
	                                    "awq", "gptq", "int4", "int8", "nvfp4", "quantized", "w8a8", "block"};
	for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
		if (!strcasecmp(word, marks[i]))
			return true;
	return false;
}

static void cut_marks(char *base)
{
	for (;;) {
		size_t n = strlen(base);
		while (n && is_separator(base[n - 1]))
			base[--n] = 0;
		char *last = base + n;
		while (last > base && !is_separator(last[-1]))
			last--;
		if (last == base || !is_mark(last))
			return;
		last[-1] = 0;
	}
}

void pl_model_name_read(const char *text, struct pl_model_name *ret)
{
	static const char *const own[] = {"ud", "i1", "mix", "imat", "imatrix", "thireus", "special_tensor", "optimized", "dynamic"};
	*ret = (struct pl_model_name){0};
	if (strlen(text) >= sizeof ret->base)
		return;
	(void)snprintf(ret->base, sizeof ret->base, "%s", text);
	for (size_t i = 0; i < sizeof own / sizeof *own; i++)
		ret->own_mixture = ret->own_mixture || has_mark(text, own[i]);
	cut_ending(ret->base);
	cut_quant(ret);
	cut_marks(ret->base);
}

/* Words whose loss would make it another model: sizes ("7b", "a3b", "0.6b") and versions. */
static bool tells_size(const char *word)
{
	for (const char *p = word; *p && *p != '-'; p++)
		if (isdigit((unsigned char)*p) && (p[1] == 'b' || p[1] == 'B' || p[1] == 'm' || p[1] == 'M') && is_separator(p[2]))
			return true;
	return false;
}

static const struct pl_model_row *find(const char *name)
{
	const struct pl_model_row *row;
	struct pl_err err;
	return pl_model_row_find(name, &row, &err) ? NULL : row;
}

/* A name with the owner before an underscore, as some converters write it. */
static const struct pl_model_row *find_owned(char *name)
{
	const struct pl_model_row *row = find(name);
	char *at = strchr(name, '_');
	if (!row && at && at > name && at[1]) {
		*at = '/';
		row = find(name);
		if (!row)
			row = find(at + 1);
		*at = '_';
	}
	char *slash = strrchr(name, '/');
	return row || !slash ? row : find(slash + 1);
}

const struct pl_model_row *pl_model_name_find(const struct pl_model_name *n)
{
	enum { MAX_CUTS = 6 };
	char name[sizeof n->base];
	const char *first = strchr(n->base, '-');
	memcpy(name, n->base, sizeof name);
	for (char *p = name; *p; p++)
		if (*p == ':' || *p == ' ')
			*p = '-';
	for (int i = 0; i <= MAX_CUTS && *name; i++) {
		const struct pl_model_row *row = find_owned(name);
		if (!row && first && !tells_size(n->base) && strlen(name) > (size_t)(first - n->base) + 1)
			row = find(name + (first - n->base) + 1); /* whoever tuned it stands before the name */
		char *cut = strrchr(name, '-');
		if (row || !cut || cut == name || tells_size(cut + 1))
			return row;
		*cut = 0;
	}
	return NULL;
}
