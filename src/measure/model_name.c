/* A name is words, numbers and sizes ("27b", "a3b"). Rows are compared by what they share: family words and versions count
 * for a row, words that make it another variant against it, and the number of parameters must agree. */
#include <ctype.h>
#include <math.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <plimsoll/model.h>

#include "measure/model_name.h"

enum { MAX_WORDS = 24, WORD = 24 };

struct parsed {
	char words[MAX_WORDS][WORD];
	uint32_t n_words;
	char first[64];          /* up to the first space: an architecture in llama-bench's tables */
	double size_b, active_b; /* NAN: none in the name */
};

struct entry {
	const struct pl_model_row *row;
	struct parsed name;
	const char *arch;
	double params_b, params_mtp_b, active_b;
};

struct pl_model_index {
	struct entry *entries;
	uint32_t n;
};

/* Words that say nothing about shapes: tuning, packaging, programs. */
static const char *const silent[] = {
    "instruct", "chat", "it", "base", "gguf", "hf", "preview", "latest", "mlx", "mtp", "the", "meta", "of", "ai", "v", "s",
    "static", "dynamic", "autoround", "qat", "ollama", "lm", "vlm", "vllm", "omlx", "ssd", "paged", "spec", "unsloth", "studio",
    "thinking", "reasoning", "unpacked", "dpo", "sft", "rl", "think", "per", "safetensors", "sym", "asym", "moe", "nvidia", "bnb",
    "awq", "gptq", "quantized", "nvfp", "fp", "int", "bit"};
/* Words that tell variants of one family apart: one more or less is another model. */
static const char *const variant[] = {"coder", "code", "math", "vl", "vision", "omni", "guard", "embedding", "next", "mini", "nano",
                                      "small", "medium", "large", "super", "ultra", "flash", "lite", "air", "xs", "scout", "maverick",
                                      "tiny", "micro", "mobile", "distill", "guardian", "gen", "h", "pro", "max", "plus", "oss"};
/* What names say about precision and programs, cut out before they are read. */
static const char noise[] = "(ud[-_ ])?(iq|tq|q)[0-9](_[0-9a-z]+)*|exl[0-9][^ /]*|(nvfp|mxfp|int|uint|fp|bf|nf|kv[-_]?q?|mtp-|gptq-int)[0-9]+"
                            "|w[0-9]+a[0-9]+|[0-9.]+[-_ ]?bpw|[0-9]+[-_ ]?bits?|llama[._-]?cpp|\\.gguf|i1$|mlx[-_]vlm|e2b-spec|spec-e2b";

static bool one_of(const char *word, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(word, list[i]))
			return true;
	return false;
}

static bool is_silent(const char *word)
{
	return one_of(word, silent, sizeof silent / sizeof *silent);
}

static bool is_variant(const char *word)
{
	return one_of(word, variant, sizeof variant / sizeof *variant);
}

static bool is_number(const char *word)
{
	return isdigit((unsigned char)*word) != 0;
}

static void add_word(struct parsed *p, const char *from, size_t n)
{
	if (!n || n >= WORD || p->n_words == MAX_WORDS)
		return;
	char *w = p->words[p->n_words++];
	for (size_t i = 0; i < n; i++)
		w[i] = (char)tolower((unsigned char)from[i]);
	w[n] = '\0';
}

/* "27b", "0.6B", "135m": the number and its unit; *ret_end after it. */
static bool size_at(const char *s, double *ret_b, const char **ret_end)
{
	char *end;
	if (!isdigit((unsigned char)*s))
		return false;
	double n = strtod(s, &end);
	int unit = tolower((unsigned char)*end);
	if ((unit != 'b' && unit != 'm' && unit != 't') || isalpha((unsigned char)end[1]))
		return false;
	*ret_b = unit == 'b' ? n : unit == 'm' ? n / 1000 : n * 1000;
	*ret_end = end + 1;
	return true;
}

/* The next word, number or size of a name. Numbers keep their point ("3.1"); underscores and dashes part words. */
static const char *take(struct parsed *p, const char *s)
{
	const char *end;
	double b;
	if (size_at(s, &b, &end)) {
		if (isnan(p->size_b))
			p->size_b = b;
		return end;
	}
	if (isdigit((unsigned char)*s)) {
		size_t n = strspn(s, "0123456789");
		if (s[n] == '.' && isdigit((unsigned char)s[n + 1]))
			n += 1 + strspn(s + n + 1, "0123456789");
		if (tolower((unsigned char)s[n]) == 'x' && isdigit((unsigned char)s[n + 1])) { /* 8x7b: a word of its own */
			size_t more = n + 1 + strspn(s + n + 1, "0123456789.");
			add_word(p, s, more);
			return s + more + (tolower((unsigned char)s[more]) == 'b');
		}
		add_word(p, s, n);
		return s + n;
	}
	if (tolower((unsigned char)*s) == 'a' && size_at(s + 1, &b, &end)) {
		p->active_b = b;
		return end;
	}
	if (tolower((unsigned char)*s) == 'e' && size_at(s + 1, &b, &end)) { /* Gemma's effective sizes */
		add_word(p, s, (size_t)(end - s));
		return end;
	}
	size_t n = 0;
	while (isalpha((unsigned char)s[n]))
		n++;
	add_word(p, s, n);
	return s + n;
}

static void parse(const regex_t *cut, const char *name, struct parsed *ret)
{
	char text[256];
	const char *slash = strrchr(name, '/');
	regmatch_t m;
	(void)snprintf(text, sizeof text, "%s", slash && slash[1] ? slash + 1 : name);
	while (cut && !regexec(cut, text, 1, &m, 0) && m.rm_eo > m.rm_so)
		memset(text + m.rm_so, ' ', (size_t)(m.rm_eo - m.rm_so));
	*ret = (struct parsed){.size_b = NAN, .active_b = NAN};
	(void)snprintf(ret->first, sizeof ret->first, "%.*s", (int)strcspn(text, " "), text);
	for (const char *s = text; *s;)
		s = isalnum((unsigned char)*s) ? take(ret, s) : s + 1;
}

static int index_of(const struct parsed *p, const char *word)
{
	for (uint32_t i = 0; i < p->n_words; i++)
		if (!strcmp(p->words[i], word))
			return (int)i;
	return -1;
}

/* The version that follows a family word; 0 none. Years and dates are none. */
static double version_after(const struct parsed *p, int i)
{
	double v = i + 1 < (int)p->n_words && is_number(p->words[i + 1]) ? strtod(p->words[i + 1], NULL) : 0;
	return v < 100 ? v : 0;
}

/* Words are compared whole: "gemma" in "medgemma" is another model. Another major version is another model too. */
static double shared_words(const struct entry *e, const struct parsed *asked, bool *ret_family)
{
	double score = 0;
	bool arch = !strcasecmp(asked->first, e->arch);
	for (uint32_t i = 0; i < asked->n_words; i++) {
		const char *w = asked->words[i];
		int at = index_of(&e->name, w);
		if (is_silent(w))
			continue;
		if (is_number(w)) {
			score += at >= 0 ? 3 : -0.25;
		} else if (is_variant(w)) {
			score += at >= 0 ? 1 : -3;
		} else if (at >= 0 && (strlen(w) > 2 || (!i && !at))) { /* "Yi" is a family at the head of a name only */
			double va = version_after(asked, (int)i), ve = version_after(&e->name, at);
			if (va > 0 && ve > 0 && floor(va) != floor(ve) && !arch)
				return -1e9;
			score += 4 - (va > 0 && !(ve > 0) ? 3 : 0);
			*ret_family = true;
		} else {
			score += at >= 0 ? 1 : -0.5;
		}
	}
	return score;
}

static double compare(const struct entry *e, const struct parsed *asked)
{
	bool family = false, arch = !strcasecmp(asked->first, e->arch);
	double score = shared_words(e, asked, &family);
	for (uint32_t i = 0; i < e->name.n_words; i++) {
		const char *w = e->name.words[i];
		if (index_of(asked, w) >= 0 || is_silent(w))
			continue;
		if (is_number(w))
			score -= strlen(w) >= 4 && !strchr(w, '.') ? 0.25 : 1.5;
		else
			score -= is_variant(w) ? 3 : 2;
	}
	if (arch)
		score += 8;
	return family || arch ? score - 0.01 * (double)strlen(e->row->id) : -1e9;
}

/* Engines count the prediction layers or leave them out. */
static double gap_frac(const struct entry *e, double params_b)
{
	return fmin(fabs(e->params_b / params_b - 1), fabs(e->params_mtp_b / params_b - 1));
}

static bool sizes_agree(const struct entry *e, const struct parsed *asked, double params_b, bool exact)
{
	double moe = asked->active_b;
	if (!isnan(moe) && (isnan(e->name.active_b) ? e->active_b > 0.9 * e->params_b : fabs(moe - e->name.active_b) > 0.5))
		return false;
	if (exact)
		return gap_frac(e, params_b) < 0.02;
	double b = isnan(asked->size_b) ? params_b : asked->size_b;
	if (isnan(b)) /* a family in several sizes: which one is not said */
		return isnan(e->name.size_b);
	return fabs(e->params_b / b - 1) < 0.13 || (!isnan(e->name.size_b) && fabs(e->name.size_b / b - 1) < 0.04);
}

/* A model nobody catalogued is as fast as one of its size: the same architecture first, then any that is as dense. The weights
 * of a step decide, and they are scaled to the file's size where that is stated. */
static const struct entry *of_size(const struct pl_model_index *x, const struct parsed *asked, double params_b)
{
	const struct entry *best = NULL;
	double b = isnan(params_b) ? asked->size_b : params_b, best_score = 0.1;
	bool said_moe = index_of(asked, "moe") >= 0;
	if (isnan(b) || (said_moe && isnan(asked->active_b)))
		return NULL;
	for (uint32_t i = 0; i < x->n; i++) {
		const struct entry *e = &x->entries[i];
		bool moe = e->active_b < 0.9 * e->params_b;
		if (moe != !isnan(asked->active_b) || (moe && fabs(e->active_b / asked->active_b - 1) > 0.2))
			continue;
		double score = gap_frac(e, b) - (!strcasecmp(asked->first, e->arch) ? 0.05 : 0);
		if (gap_frac(e, b) < 0.1 && score < best_score) {
			best = e;
			best_score = score;
		}
	}
	return best;
}

const struct pl_model_row *pl_model_by_name(const struct pl_model_index *x, const char *name, double params_b, bool exact, bool *ret_by_size)
{
	struct parsed asked;
	const struct entry *best = NULL;
	double best_score = 1.5;
	regex_t cut; /* compiled for each name: an index lives in an arena, which ends without a word */
	if (regcomp(&cut, noise, REG_EXTENDED | REG_ICASE))
		return NULL;
	parse(&cut, name, &asked);
	regfree(&cut);
	for (uint32_t i = 0; i < x->n; i++) {
		const struct entry *e = &x->entries[i];
		if (!sizes_agree(e, &asked, params_b, exact))
			continue;
		double score = compare(e, &asked);
		if (exact)
			score -= 400 * gap_frac(e, params_b);
		if (score > best_score) {
			best = e;
			best_score = score;
		}
	}
	*ret_by_size = !best;
	if (!best)
		best = of_size(x, &asked, params_b);
	return best ? best->row : NULL;
}

const struct pl_model_index *pl_model_index_make(struct pl_arena *a, struct pl_err *err)
{
	uint32_t n;
	const struct pl_model_row *rows = pl_catalog_models(&n);
	struct pl_model_index *x = PL_NEW(a, struct pl_model_index);
	struct entry *entries = PL_NEW_N(a, struct entry, n);
	regex_t cut;
	bool compiled = !regcomp(&cut, noise, REG_EXTENDED | REG_ICASE), ok = x && entries && compiled;
	for (uint32_t i = 0; i < n && ok; i++) {
		struct pl_arena *scratch = pl_arena_new(0);
		const struct pl_model *m = NULL;
		struct pl_err ignored = {0};
		struct entry *e = &entries[x->n];
		if (scratch && !pl_model_from_config(scratch, rows[i].id, rows[i].config_json, rows[i].config_len, NULL, &m, &ignored)) {
			*e = (struct entry){.row = &rows[i], .params_b = (double)m->n_params / 1e9, .arch = pl_arena_strdup(a, m->arch),
			                    .params_mtp_b = (double)(m->n_params + m->n_params_mtp) / 1e9,
			                    .active_b = (double)m->n_params_active / 1e9};
			parse(&cut, rows[i].id, &e->name);
			x->n++;
		}
		pl_arena_free(scratch);
	}
	if (compiled)
		regfree(&cut);
	if (!ok || pl_arena_failed(a)) {
		(void)pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory while reading the catalogue");
		return NULL;
	}
	x->entries = entries;
	return x;
}
