/* Which model a printed log is about: by the file's name, by the printed shape, by a name in the remarks. */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "measure/llamacpp_row.h"
#include "measure/validator.h"

/* The shape the log printed; 0 where the row is blank. */
struct shape {
	uint64_t n_layer, n_embd, n_head, n_head_kv, d_k, d_v, n_vocab, n_expert, n_ff;
};

static struct shape shape_of(struct pl_vrow *r)
{
	const uint64_t most = 1 << 20;
	return (struct shape){
	    .n_layer = pl_vrow_whole(r, "n_layer", 1, most, 0),
	    .n_embd = pl_vrow_whole(r, "n_embd", 1, most, 0),
	    .n_head = pl_vrow_whole(r, "n_head", 1, most, 0),
	    .n_head_kv = pl_vrow_whole(r, "n_head_kv", 1, most, 0),
	    .d_k = pl_vrow_whole(r, "head_dim_k", 1, most, 0),
	    .d_v = pl_vrow_whole(r, "head_dim_v", 1, most, 0),
	    .n_vocab = pl_vrow_whole(r, "n_vocab", 1, (uint64_t)1 << 32, 0),
	    .n_expert = pl_vrow_whole(r, "n_expert", 0, most, 0),
	    .n_ff = pl_vrow_whole(r, "n_ff", 0, most, 0),
	};
}

static uint32_t first_heads(const struct pl_model *m)
{
	for (uint32_t i = 0; i < m->n_layers; i++)
		if (m->layers[i].n_head)
			return m->layers[i].n_head;
	return 0;
}

static uint32_t experts(const struct pl_model *m)
{
	for (uint32_t i = 0; i < m->n_layers; i++)
		if (m->layers[i].n_expert)
			return m->layers[i].n_expert;
	return 0;
}

/* llama.cpp prints the embedding of Qwen3-VL with its deepstack inputs: a multiple of the width. Converters pad vocabularies. */
static bool fits_shape(const struct pl_model *m, const struct shape *s)
{
	uint32_t heads = first_heads(m);
	if (s->n_layer && s->n_layer != m->n_layers && s->n_layer != m->n_layers + m->n_layers_mtp)
		return false;
	if (s->n_embd && m->n_embd && s->n_embd % m->n_embd)
		return false;
	if (s->n_head && heads && s->n_head != heads)
		return false;
	if (s->n_vocab && (s->n_vocab > m->n_vocab + 512 || s->n_vocab + 512 < m->n_vocab))
		return false;
	return !s->n_expert || s->n_expert == experts(m);
}

static bool states_much(const struct shape *s)
{
	return s->n_layer && s->n_embd && s->n_head && s->n_vocab;
}

static const struct pl_model *build(struct lm_row *x, const struct pl_model_row *row)
{
	struct pl_vrow probe = *x->r; /* a candidate that cannot be built is no reason against the row */
	return pl_vrow_model(&probe, row->id, NULL);
}

/* ---- by shape ------------------------------------------------------------------------------------------------------- */

static const struct pl_model *by_shape(struct lm_row *x, const struct shape *s, const char *arch)
{
	uint32_t n;
	const struct pl_model_row *rows = pl_catalog_models(&n);
	if (!states_much(s))
		return NULL;
	for (uint32_t i = 0; i < n; i++) {
		const struct pl_model *m = build(x, &rows[i]);
		if (m && m->arch && !strcmp(m->arch, arch) && fits_shape(m, s))
			return m;
	}
	return NULL;
}

/* A dense model that nobody catalogued, from its printed shape alone. */
static const struct pl_model *from_shape(struct lm_row *x, const struct shape *s, const char *arch)
{
	static const char *const dense[] = {"llama", "qwen2", "qwen3", "bitnet-25"};
	struct pl_err err = {0};
	const struct pl_model *m;
	const char *type = NULL;
	for (size_t i = 0; i < sizeof dense / sizeof *dense; i++)
		if (!strcmp(arch, dense[i]))
			type = i == 3 ? "llama" : dense[i];
	if (!type || !states_much(s) || !s->n_ff || !s->n_head_kv || !s->d_k || s->n_expert)
		return NULL;
	char *json = pl_arena_printf(x->r->v->a,
	                             "{\"model_type\":\"%s\",\"num_hidden_layers\":%llu,\"hidden_size\":%llu,\"num_attention_heads\":%llu,"
	                             "\"num_key_value_heads\":%llu,\"head_dim\":%llu,\"vocab_size\":%llu,\"intermediate_size\":%llu,"
	                             "\"torch_dtype\":\"float16\"}",
	                             type, (unsigned long long)s->n_layer, (unsigned long long)s->n_embd, (unsigned long long)s->n_head,
	                             (unsigned long long)s->n_head_kv, (unsigned long long)s->d_k, (unsigned long long)s->n_vocab,
	                             (unsigned long long)s->n_ff);
	if (!json || pl_model_from_config(x->r->v->a, "printed shape", json, strlen(json), NULL, &m, &err))
		return NULL;
	return m;
}

/* ---- by a name in the remarks ---------------------------------------------------------------------------------------- */

/* Letters and digits of text, lower case, with where each stood. */
static size_t squeeze(const char *text, char *ret, size_t *at, size_t max)
{
	size_t n = 0;
	for (size_t i = 0; text[i] && n + 1 < max; i++)
		if (isalnum((unsigned char)text[i])) {
			at[n] = i;
			ret[n++] = (char)tolower((unsigned char)text[i]);
		}
	ret[n] = 0;
	return n;
}

/* The longest catalogued name, tuned-model endings aside, that stands in the remarks as whole words. */
static const struct pl_model_row *by_remark(const char *notes)
{
	enum { MAX = 512, LEAST = 7 };
	static const char *const endings[] = {"instruct", "it", "chat", "base", "hf"};
	char hay[MAX], needle[MAX];
	size_t at[MAX], at2[MAX], best = 0;
	uint32_t n;
	const struct pl_model_row *rows = pl_catalog_models(&n), *found = NULL;
	(void)squeeze(notes, hay, at, MAX);
	for (uint32_t i = 0; i < n; i++) {
		const char *slash = strrchr(rows[i].id, '/');
		size_t len = squeeze(slash ? slash + 1 : rows[i].id, needle, at2, MAX);
		for (size_t e = 0; e < sizeof endings / sizeof *endings; e++) {
			size_t el = strlen(endings[e]);
			if (len > el + LEAST && !strcmp(needle + len - el, endings[e]))
				needle[len -= el] = 0;
		}
		const char *hit = len > best && len >= LEAST && strpbrk(needle, "0123456789") ? strstr(hay, needle) : NULL;
		if (!hit)
			continue;
		size_t begin = (size_t)(hit - hay), from = at[begin], to = at[begin + len - 1] + 1;
		if ((from && isalnum((unsigned char)notes[from - 1])) || isalnum((unsigned char)notes[to]))
			continue;
		best = len;
		found = &rows[i];
	}
	return found;
}

/* An architecture named in the remarks ("gpt-oss chat template") together with the number of layers that "25/25" layers
 * offloaded tell (the output counts as one), when the catalogue has one shape of both. */
static const struct pl_model *by_remark_and_depth(struct lm_row *x)
{
	const char *slash = strchr(pl_vrow_text(x->r, "ngl"), '/');
	unsigned long layers = slash ? strtoul(slash + 1, NULL, 10) : 0;
	const struct pl_model *found = NULL;
	uint32_t n;
	const struct pl_model_row *rows = pl_catalog_models(&n);
	if (layers < 2 || !strstr(x->notes, "gpt-oss"))
		return NULL;
	for (uint32_t i = 0; i < n; i++) {
		const struct pl_model *m = strstr(rows[i].id, "gpt-oss") ? build(x, &rows[i]) : NULL;
		if (!m || m->n_layers != layers - 1)
			continue;
		if (found && (found->n_embd != m->n_embd || experts(found) != experts(m)))
			return NULL;
		found = found ? found : m;
	}
	return found;
}

/* ---- the precision --------------------------------------------------------------------------------------------------- */

/* "Q5_K - Medium" → "q5_k_m", "IQ4_XS - 4.25 bpw" → "iq4_xs", "MXFP4 MoE" → "mxfp4_moe". NULL when it is no plain mixture. */
static const char *quant_of(struct lm_row *x)
{
	char q[32];
	const char *text = pl_vrow_text(x->r, "file_type"), *dash = strstr(text, " - ");
	if (x->name.own_mixture)
		return NULL;
	(void)snprintf(q, sizeof q, "%.*s", dash ? (int)(dash - text) : (int)sizeof q, text);
	if (!*q)
		(void)snprintf(q, sizeof q, "%s", x->name.quant);
	for (char *p = q; *p; p++)
		*p = *p == ' ' ? '_' : (char)tolower((unsigned char)*p);
	size_t n = strlen(q);
	if (dash && n + 3 < sizeof q && n > 2 && !strcmp(q + n - 2, "_k"))
		(void)snprintf(q + n, sizeof q - n, "%s", strstr(dash, "Medium") ? "_m" : strstr(dash, "Large") ? "_l" : "_s");
	if (!strcmp(q, "q2_k_m"))
		q[4] = 0;
	if (!strcmp(q, "mxfp4"))
		(void)snprintf(q, sizeof q, "mxfp4_moe");
	for (const char *const *known = pl_quant_names(); *known; known++)
		if (!strcmp(*known, q)) /* 16 bits mean the file here, not the checkpoint */
			return strstr(q, "f16") || !strcmp(q, "f32") ? pl_arena_printf(x->r->a, "gguf-%s", q) : *known;
	return NULL;
}

/* ---- together -------------------------------------------------------------------------------------------------------- */

static const struct pl_model *named(struct lm_row *x, const struct shape *s)
{
	const char *file = pl_vrow_text(x->r, "gguf_name");
	const struct pl_model_row *row = NULL;
	pl_model_name_read(file, &x->name);
	if (*x->name.base)
		row = pl_model_name_find(&x->name);
	if (!row && !*file)
		row = by_remark(x->notes);
	const struct pl_model *m = row ? build(x, row) : NULL;
	return m && fits_shape(m, s) ? m : NULL;
}

bool lm_find_model(struct lm_row *x)
{
	struct shape s = shape_of(x->r);
	const char *arch = pl_vrow_text(x->r, "arch");
	const struct pl_model *m = named(x, &s), *quantised;
	struct pl_err err = {0};
	if (x->r->reason)
		return false;
	if (!m)
		m = by_shape(x, &s, arch);
	if (!m)
		m = from_shape(x, &s, arch);
	if (!m && !*pl_vrow_text(x->r, "gguf_name"))
		m = by_remark_and_depth(x);
	if (!m) {
		pl_vrow_reason(x->r, *x->name.base ? "the catalogue has no model of this name and shape"
		                                   : "neither the model nor its whole shape is stated");
		return false;
	}
	x->model = m;
	x->quant = quant_of(x);
	/* the place of weights hardly depends on the precision: one stands in where the file's own is not known */
	if (!pl_model_requantise(x->r->a, m, x->quant ? x->quant : "q4_k_m", &quantised, &err))
		x->model = quantised;
	else
		x->quant = NULL;
	x->cached = x->model;
	return true;
}

/* ---- caches ------------------------------------------------------------------------------------------------------------ */

static struct pl_model *own_layers(struct lm_row *x)
{
	const struct pl_model *m = x->model;
	uint32_t n = m->n_layers + m->n_layers_mtp;
	struct pl_model *copy = PL_NEW(x->r->a, struct pl_model);
	struct pl_layer *layers = PL_NEW_N(x->r->a, struct pl_layer, n);
	if (!copy || !layers)
		return NULL;
	memcpy(layers, m->layers, n * sizeof *layers);
	*copy = *m;
	copy->layers = layers;
	return copy;
}

/* Latent attention was cached in three ways: whole heads (before builds knew latents), latents and their transposed or
 * separate values, latents alone (llama.cpp from build 7820 of 2026-01; ik_llama with mla 2 or 3, "kv^T: not used"). The log
 * shows which: by its list of caches, or by the heads it prints. */
static void latent_caches(struct lm_row *x)
{
	uint64_t heads = pl_vrow_whole(x->r, "n_head_kv", 1, 1 << 20, 0), dk = pl_vrow_whole(x->r, "head_dim_k", 1, 1 << 20, 0),
	         dv = pl_vrow_whole(x->r, "head_dim_v", 1, 1 << 20, 0);
	bool latent = strstr(x->notes, "c^KV") != NULL;
	if (strstr(x->notes, "kv^T: not used") || (x->mainline && lm_at_least(x, 7820, "2026-01-26") == LM_YES))
		return;
	if (!latent && (!heads || !dk || !dv)) {
		pl_vrow_reason(x->r, "how this build caches latent attention is not stated");
		return;
	}
	struct pl_model *m = own_layers(x);
	for (uint32_t i = 0; m && i < m->n_layers + m->n_layers_mtp; i++) {
		struct pl_layer *l = (struct pl_layer *)&m->layers[i];
		if (l->attn != PL_ATTN_MLA)
			continue;
		uint32_t lora = l->kv_lora, rope = l->d_rope;
		l->attn = PL_ATTN_GQA;
		l->n_head_kv = latent ? 1 : (uint32_t)heads;
		l->d_k = latent ? lora + rope : (uint32_t)dk;
		l->d_v = latent ? lora : (uint32_t)dv;
	}
	x->cached = m ? m : x->cached;
	if (!latent && heads > 1)
		x->no_compute = pl_tr("this build attends to whole heads where the model has latents: its graph is not modelled");
}

/* ik_llama cached the next-token-prediction layers of GLM-4.5 until the autumn of 2025 (logs of 2025-08-14 to 19 count 47 and
 * 93 layers, one of 2025-11-07 counts 92). */
static void predicting_caches(struct lm_row *x)
{
	const char *date = pl_vrow_text(x->r, "date");
	if (!x->ik || !x->model->n_layers_mtp || strcmp(x->model->arch, "glm4moe") != 0 || !*date || strcmp(date, "2025-10-01") > 0)
		return;
	struct pl_model *m = own_layers(x);
	for (uint32_t i = 0; m && i < m->n_layers_mtp; i++)
		((struct pl_layer *)m->layers)[m->n_layers + i].is_mtp = false;
	x->cached = m ? m : x->cached;
}

void lm_find_caches(struct lm_row *x)
{
	if (pl_model_kinds(x->model).latent)
		latent_caches(x);
	predicting_caches(x);
}
