#include <string.h>

#include <jansson.h>

#include "base/fmt.h"
#include "cli/model_facts.h"

#define _(s) pl_tr(s)

struct kinds {
	uint32_t full, sliding, latent, recurrent, moe, dense;
	uint32_t window, n_expert, n_used;
	uint64_t kv_elems; /* a token of one sequence, windows not counted */
};

/* Elements a token adds to the cache: keys and values, or the latent vector alone. Layers that read another's cache or have none
 * add nothing. */
static struct kinds count(const struct pl_model *m)
{
	struct kinds k = {0};
	for (uint32_t i = 0; i < m->n_layers && m->layers; i++) {
		const struct pl_layer *l = &m->layers[i];
		k.latent += l->attn == PL_ATTN_MLA;
		k.sliding += l->attn == PL_ATTN_GQA && l->window_tokens;
		k.full += l->attn == PL_ATTN_GQA && !l->window_tokens;
		k.recurrent += l->rec != PL_REC_NONE;
		k.moe += l->ffn == PL_FFN_MOE;
		k.dense += l->ffn == PL_FFN_GATED || l->ffn == PL_FFN_PLAIN;
		k.window = l->window_tokens ? l->window_tokens : k.window;
		k.n_expert = l->n_expert ? l->n_expert : k.n_expert;
		k.n_used = l->n_expert_used ? l->n_expert_used : k.n_used;
		if (m->is_embedding || l->kv_from_layer >= 0 || l->window_tokens)
			continue;
		if (l->attn == PL_ATTN_MLA)
			k.kv_elems += l->kv_lora + l->d_rope;
		else if (l->attn == PL_ATTN_GQA)
			k.kv_elems += (uint64_t)l->n_head_kv * (l->d_k + l->d_v);
	}
	return k;
}

static void line(FILE *out, const char *name, const char *value)
{
	int pad = 16 - pl_text_columns(name);
	(void)fprintf(out, "  %s", name);
	for (; pad > 0; pad--)
		(void)fputc(' ', out);
	(void)fprintf(out, "%s\n", value);
}

static void layers_line(FILE *out, const struct pl_model *m, const struct kinds *k)
{
	char text[256];
	size_t at = (size_t)snprintf(text, sizeof text, "%u", m->n_layers);
	const struct {
		uint32_t n;
		const char *what;
	} parts[] = {{k->full, _("full attention")}, {k->sliding, _("sliding window")}, {k->latent, _("latent attention")},
	             {k->recurrent, _("recurrent")}, {k->moe, _("with experts")},       {m->n_layers_mtp, _("for further tokens (MTP)")}};
	for (size_t i = 0; i < sizeof parts / sizeof *parts && at < sizeof text; i++)
		if (parts[i].n)
			at += (size_t)snprintf(text + at, sizeof text - at, _(", %u %s"), parts[i].n, parts[i].what);
	line(out, _("layers"), text);
}

void pl_model_facts_text(FILE *out, const struct pl_model *m)
{
	char text[256], x[PL_FMT_MAX], y[PL_FMT_MAX];
	struct kinds k = count(m);
	(void)fprintf(out, "%s\n", m->name ? m->name : "?");
	line(out, _("architecture"), m->arch);
	if (m->n_params_active && m->n_params_active < m->n_params)
		(void)snprintf(text, sizeof text, _("%s, %s active"), pl_fmt_count(x, m->n_params), pl_fmt_count(y, m->n_params_active));
	else
		(void)pl_fmt_count(text, m->n_params);
	line(out, _("parameters"), text);
	if (m->n_params_mtp) {
		(void)snprintf(text, sizeof text, _("%s for further tokens (MTP)"), pl_fmt_count(x, m->n_params_mtp));
		line(out, _("besides"), text);
	}
	if (m->n_params_vision) {
		(void)snprintf(text, sizeof text, _("%s for vision"), pl_fmt_count(x, m->n_params_vision));
		line(out, _("besides"), text);
	}
	line(out, _("precision"), m->quant_name ? m->quant_name : "?");
	if (m->file_bytes)
		(void)snprintf(text, sizeof text, _("%s in %u tensors; %u file(s) of %s"), pl_fmt_bytes(x, m->weight_bytes), m->n_tensors, m->n_files,
		               pl_fmt_bytes(y, m->file_bytes));
	else
		(void)snprintf(text, sizeof text, _("%s in %u tensors"), pl_fmt_bytes(x, m->weight_bytes), m->n_tensors);
	line(out, _("weights"), text);
	if (m->n_layers)
		layers_line(out, m, &k);
	if (k.n_expert) {
		(void)snprintf(text, sizeof text, _("%u, %u used by a token"), k.n_expert, k.n_used);
		line(out, _("experts"), text);
	}
	if (m->n_ctx_train)
		line(out, _("context"), pl_fmt_grouped(x, m->n_ctx_train));
	if (k.kv_elems && !m->is_embedding) {
		(void)snprintf(text, sizeof text, _("%s in 16 bit (%llu elements)"), pl_fmt_bytes(x, k.kv_elems * 2), (unsigned long long)k.kv_elems);
		line(out, _("KV per token"), text);
	}
	if (k.sliding) {
		(void)snprintf(text, sizeof text, _("%u tokens in %u layers"), k.window, k.sliding);
		line(out, _("window"), text);
	}
	for (const struct pl_note *n = m->notes; n; n = n->next)
		(void)fprintf(out, "  %s %s\n", n->level == PL_NOTE_WARNING ? "!" : "-", n->text);
}

json_t *pl_model_facts_json(const struct pl_model *m)
{
	struct kinds k = count(m);
	json_t *notes = json_array();
	for (const struct pl_note *n = m->notes; n; n = n->next)
		(void)json_array_append_new(notes, json_string(n->text));
	return json_pack("{s:s?,s:s?,s:b,s:s?,s:I,s:I,s:I,s:I,s:I,s:I,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:I,s:o}", "name", m->name,
	                 "architecture", m->arch, "architecture_known", m->arch_known, "quantization", m->quant_name, "parameters",
	                 (json_int_t)m->n_params, "active_parameters", (json_int_t)m->n_params_active, "mtp_parameters",
	                 (json_int_t)m->n_params_mtp, "vision_parameters", (json_int_t)m->n_params_vision, "weight_bytes",
	                 (json_int_t)m->weight_bytes, "file_bytes", (json_int_t)m->file_bytes, "n_files", (int)m->n_files, "n_layers",
	                 (int)m->n_layers, "n_layers_full_attention", (int)k.full, "n_layers_sliding_window", (int)k.sliding,
	                 "n_layers_latent_attention", (int)k.latent, "n_layers_recurrent", (int)k.recurrent, "n_layers_experts", (int)k.moe,
	                 "n_embd", (int)m->n_embd, "n_vocab", (int)m->n_vocab, "n_ctx_train", (int)m->n_ctx_train, "kv_elements_per_token",
	                 (json_int_t)k.kv_elems, "notes", notes);
}
