/* Local speeds (data/measurements/local_perf.csv): llama-bench tables and rates that tools report. */
#include <math.h>

#include "measure/local_case.h"
#include "measure/validator.h"

static const char *const columns[] = {"id", "source_url", "engine", "backend", "gpu", "n_gpu", "cpu", "ram", "model", "params_b", "quant",
                                      "size_gib", "ngl", "flash_attn", "split_mode", "n_ubatch", "threads", "kv_type", "test", "depth",
                                      "tok_s", "notes", NULL};

/* Half a percent for rounding, two for clocks above what the maker states. */
static const double above_roofline = 1.025;

static void map(struct pl_vrow *r)
{
	struct pl_local_case c;
	struct pl_err err = {0};
	const char *test = pl_vrow_text(r, "test");
	bool prefill = test[0] == 'p';
	struct pl_prediction *p = pl_vrow_measured(r, prefill ? "prefill_tok_s" : "decode_tok_s", "tok_s", 1);
	if (!p)
		return;
	if (!r->v->kind_data)
		r->v->kind_data = pl_local_reader_make(r->v->a, &err);
	if (!r->v->kind_data) {
		pl_vrow_fault(r, &err);
		return;
	}
	if (!pl_local_read(r->v->kind_data, r, &c))
		return;
	pl_vrow_class(r, "class", pl_class_name(c.class));
	pl_vrow_class(r, "target", c.size_stated && !(c.draft_tokens > 0) ? pl_class_name(c.class) : NULL);
	pl_vrow_class(r, "backend", c.backend);
	pl_vrow_class(r, "device", c.device);
	pl_vrow_class(r, "kind", c.family);
	pl_vrow_class(r, "speculation", c.draft_tokens > 0 ? "yes" : "no");
	pl_vrow_class(r, "depth", c.depth_tokens < 4096 ? "short" : "long");
	double tok_s = pl_local_predict(&c);
	const struct pl_spread *w = &c.speed->constants->spread[c.class][c.speed->kinship];
	pl_vrow_predict(p, tok_s, tok_s * exp(w->low_ln), tok_s * exp(w->high_ln));
	if (c.measured_tok_s > c.ceiling_tok_s * above_roofline && !(c.draft_tokens > 0) && c.concurrency <= 1)
		pl_vrow_flag(r, p, prefill ? "faster than the card's matrix units could be as labelled"
		                           : "faster than memory could deliver the weights as labelled");
}

const struct pl_table_kind pl_kind_local_perf = {"local_perf", columns, map};
