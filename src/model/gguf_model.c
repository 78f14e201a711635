#include <string.h>

#include "model/build.h"

/* general.file_type, enum llama_ftype of llama.h */
static const char *file_type_name(uint64_t t)
{
	static const char *const names[] = {
	    [0] = "F32",      [1] = "F16",      [2] = "Q4_0",     [3] = "Q4_1",     [7] = "Q8_0",     [8] = "Q5_0",
	    [9] = "Q5_1",     [10] = "Q2_K",    [11] = "Q3_K_S",  [12] = "Q3_K_M",  [13] = "Q3_K_L",  [14] = "Q4_K_S",
	    [15] = "Q4_K_M",  [16] = "Q5_K_S",  [17] = "Q5_K_M",  [18] = "Q6_K",    [19] = "IQ2_XXS", [20] = "IQ2_XS",
	    [21] = "Q2_K_S",  [22] = "IQ3_XS",  [23] = "IQ3_XXS", [24] = "IQ1_S",   [25] = "IQ4_NL",  [26] = "IQ3_S",
	    [27] = "IQ3_M",   [28] = "IQ2_S",   [29] = "IQ2_M",   [30] = "IQ4_XS",  [31] = "IQ1_M",   [32] = "BF16",
	    [36] = "TQ1_0",   [37] = "TQ2_0",   [38] = "MXFP4",   [39] = "NVFP4",
	};
	return t < sizeof names / sizeof *names ? names[t] : NULL;
}

/* The type most bytes are in: what the file is when it does not say. */
static const char *main_type(const struct pl_gguf *g)
{
	uint64_t bytes[PL_DTYPE_COUNT] = {0};
	unsigned most = 0;
	for (uint32_t i = 0; i < g->n_tensors; i++) {
		bytes[g->tensors[i].type] += g->tensors[i].bytes;
		if (bytes[g->tensors[i].type] > bytes[most])
			most = g->tensors[i].type;
	}
	return pl_dtype_name((enum pl_dtype)most);
}

static const char *name_of(struct pl_arena *a, const struct pl_gguf *g, const struct pl_bytes *part)
{
	const char *name = pl_gguf_str(a, g, "general.name");
	const char *slash = part->name ? strrchr(part->name, '/') : NULL;
	if (name && *name)
		return name;
	return slash ? slash + 1 : part->name;
}

int pl_model_from_gguf(struct pl_arena *a, const struct pl_bytes *parts, uint32_t n_parts,
                       const struct pl_model **ret_model, struct pl_err *err)
{
	struct pl_gguf g;
	uint64_t file_type;
	struct pl_model *m = PL_NEW(a, struct pl_model);
	if (!m)
		return pl_fail(err, PL_ERR_NOMEM, parts[0].name, "out of memory while reading the header");
	int rc = pl_gguf_parse(a, parts, n_parts, &g, err);
	if (rc)
		return rc;
	m->format = PL_FORMAT_GGUF;
	m->name = name_of(a, &g, &parts[0]);
	m->file_bytes = g.file_bytes;
	m->n_files = g.n_files;
	if (pl_gguf_u64(&g, "general.file_type", &file_type))
		m->quant_name = file_type_name(file_type);
	if (!m->quant_name)
		m->quant_name = main_type(&g);
	rc = pl_layers_from_gguf(a, &g, m, err);
	if (!rc)
		rc = pl_model_finish(a, m, g.tensors, g.n_tensors, err);
	if (!rc)
		rc = pl_graph_build(a, m, err);
	if (!rc)
		*ret_model = m;
	return rc;
}
