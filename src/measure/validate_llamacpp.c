/* Buffers that llama.cpp and its relatives print while loading (data/measurements/llamacpp_memory.csv).
 *
 * One line a number: context_bytes (caches and recurrent state of all devices and the host), compute_bytes of each device (of
 * the host where everything is computed there), host_compute_bytes, model_bytes (of all devices), host_model_bytes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/checked.h"
#include "measure/llamacpp_row.h"

static const double MIB = 1024.0 * 1024.0;

static const char *const columns[] = {
    "id", "date", "engine", "build", "backend", "n_devices", "gguf_name", "arch", "n_layer", "n_embd", "n_head", "n_head_kv",
    "head_dim_k", "head_dim_v", "n_vocab", "n_expert", "n_ff", "file_type", "n_ctx", "n_batch", "n_ubatch", "n_seq_max", "flash_attn",
    "type_k", "type_v", "ngl", "split_mode", "tensor_split", "override_tensor", "dev0_model_mib", "dev0_kv_mib", "dev0_compute_mib",
    "dev1_model_mib", "dev1_kv_mib", "dev1_compute_mib", "dev2plus", "cpu_model_mib", "cpu_kv_mib", "host_compute_mib",
    "host_output_mib", "recurrent_state_mib", "notes", NULL,
};

enum { MAX_DEVICES = 16 };

/* The numbers of a row that have a prediction to come. */
struct numbers {
	struct pl_prediction *context, *compute[MAX_DEVICES], *host_compute, *model, *host_model;
};

static double half_of(const struct lm_row *x)
{
	double half = 0.005;
	for (uint32_t i = 0; i < x->n_dev; i++)
		half = fmax(half, x->dev[i].half_digit);
	return half * MIB;
}

static bool missing_device(const struct lm_row *x)
{
	for (uint32_t i = 0; i < x->n_dev; i++)
		if (isnan(x->dev[i].kv))
			return true;
	return false;
}

static void measure_context(struct lm_row *x, struct numbers *n)
{
	double sum = 0, terms = 0;
	for (uint32_t i = 0; i < x->n_dev; i++)
		if (!isnan(x->dev[i].kv)) {
			sum += x->dev[i].kv;
			terms++;
		}
	if (!isnan(x->cpu_kv)) {
		sum += x->cpu_kv;
		terms++;
	}
	if (!(sum > 0))
		return;
	/* ik_llama and memory breakdowns count the state with the cache */
	if (!isnan(x->state) && !x->ik) {
		sum += x->state;
		terms++;
	}
	n->context = pl_vrow_measured_value(x->r, "context_bytes", sum * MIB, terms * half_of(x));
	if (n->context && x->n_dev > 1 && strstr(x->notes, "cut off") && missing_device(x))
		n->context->reason = pl_tr("the excerpt does not show all devices");
}

static void measure(struct lm_row *x, struct numbers *n)
{
	double models = 0;
	bool on_cpu = !x->n_dev;
	measure_context(x, n);
	for (uint32_t i = 0; i < x->n_dev && i < MAX_DEVICES; i++) {
		if (x->dev[i].compute > 0)
			n->compute[i] = pl_vrow_measured_value(x->r, "compute_bytes", x->dev[i].compute * MIB, x->dev[i].half_digit * MIB);
		models += isnan(x->dev[i].model) ? 0 : x->dev[i].model;
	}
	if (x->host_compute > 0)
		n->host_compute = pl_vrow_measured_value(x->r, on_cpu ? "compute_bytes" : "host_compute_bytes", x->host_compute * MIB, half_of(x));
	if (models > 0)
		n->model = pl_vrow_measured_value(x->r, "model_bytes", models * MIB, x->n_dev * half_of(x));
	if (x->cpu_model > 0)
		n->host_model = pl_vrow_measured_value(x->r, on_cpu ? "model_bytes" : "host_model_bytes", x->cpu_model * MIB, half_of(x));
}

/* ---- predictions --------------------------------------------------------------------------------------------------------- */

static void set(struct pl_prediction *p, uint64_t bytes)
{
	pl_vrow_predict(p, (double)bytes, NAN, NAN);
}

static void why_not(struct pl_prediction *p, const char *reason)
{
	if (p && !p->reason)
		p->reason = reason;
}

static bool lay(struct lm_row *x, const struct pl_model *m, struct pl_layout *l)
{
	const struct pl_engine *e;
	struct pl_params p = x->p;
	struct pl_err err = {0};
	if (pl_engine_find("llama.cpp", &e, &err) || e->layout(x->r->a, m, &x->hw, &p, l, &err)) {
		pl_vrow_fault(x->r, &err);
		return false;
	}
	return true;
}

static uint64_t shown_bytes(const struct pl_use *u, bool with_state)
{
	return with_state ? pl_use_context_bytes(u) : u->kv_bytes;
}

static void predict_context(struct lm_row *x, struct numbers *n)
{
	struct pl_layout l;
	uint64_t sum = 0;
	/* the state has a line of its own in llama.cpp's log: where the row lacks it, the number is that of the cache alone */
	bool with_state = x->ik || !isnan(x->state) || strstr(x->notes, "breakdown");
	for (uint32_t i = 0; i < x->model->n_layers && with_state && !x->ik; i++)
		if (x->model->layers[i].rec != PL_REC_NONE && !*pl_vrow_text(x->r, "n_seq_max"))
			why_not(n->context, pl_tr("each sequence has a recurrent state, and their number is not stated"));
	why_not(n->context, x->no_context);
	if (!n->context || n->context->reason || !lay(x, x->cached, &l))
		return;
	for (uint32_t i = 0; i < l.n_devices; i++)
		sum = pl_sat_add(sum, shown_bytes(&l.devices[i], with_state));
	sum = pl_sat_add(sum, shown_bytes(&l.host.use, with_state));
	pl_vrow_predict(n->context, (double)sum, (double)sum, (double)sum);
}

static void predict_compute(struct lm_row *x, const struct pl_layout *l, struct numbers *n)
{
	const char *why = x->no_context ? x->no_context : x->no_compute ? x->no_compute : x->no_split;
	for (uint32_t i = 0; i < x->n_dev && i < MAX_DEVICES; i++) {
		why_not(n->compute[i], why);
		if (!why && i < l->n_devices)
			set(n->compute[i], l->devices[i].compute_bytes);
	}
	why_not(n->host_compute, why);
	if (!why)
		set(n->host_compute, l->host.use.compute_bytes);
}

/* A mapped file is listed at the span of what the host reads of it: that is known when all layers are on devices (the
 * embedding) or none is. */
static void predict_model(struct lm_row *x, const struct pl_layout *l, struct numbers *n)
{
	uint64_t sum = 0;
	const char *why = !x->quant ? pl_tr("the precision of the file is a mixture of its own or not stated") : x->no_split;
	for (uint32_t i = 0; i < l->n_devices; i++)
		sum = pl_sat_add(sum, l->devices[i].model_bytes);
	why_not(n->model, why);
	why_not(n->host_model, why);
	if (why)
		return;
	bool whole = !x->n_dev || (x->p.n_gpu_layers > (int32_t)x->model->n_layers && !x->p.n_overrides && x->p.n_cpu_moe <= 0);
	/* Metal hands the mapped file to the device as it lies: its buffer spans all of it */
	bool metal = !strcasecmp(pl_vrow_text(x->r, "backend"), "metal") && !x->p.no_mmap;
	if (metal && !whole)
		why_not(n->model, pl_tr("a mapped file is listed at its full span, whatever the host reads of it"));
	else
		set(n->model, metal ? x->model->weight_bytes : sum);
	if (strstr(x->notes, "AMX model="))
		why_not(n->host_model, pl_tr("weights that AMX repacks are listed again beside the mapped file"));
	else if (!whole && !x->p.no_mmap)
		why_not(n->host_model, pl_tr("a mapped file is listed at its full span, whatever the host reads of it"));
	else
		set(n->host_model, l->host.use.model_bytes);
}

static void classes(struct lm_row *x)
{
	struct pl_vrow *r = x->r;
	pl_vrow_class(r, "arch", x->model->arch);
	pl_vrow_model_classes(r, x->model);
	pl_vrow_class(r, "flash_attn", x->p.flash_attn == 1 ? "on" : x->p.flash_attn == 0 ? "off" : "auto");
	pl_vrow_class(r, "devices", x->n_dev > 1 ? "several" : x->n_dev ? "one" : "cpu");
}

static void map(struct pl_vrow *r)
{
	struct lm_row *x = PL_NEW(r->a, struct lm_row);
	struct numbers n = {0};
	struct pl_layout l;
	const char *engine = pl_vrow_text(r, "engine");
	if (!x)
		return;
	x->r = r;
	x->notes = pl_vrow_text(r, "notes");
	x->mainline = !strcasecmp(engine, "llama.cpp");
	x->ik = !strncasecmp(engine, "ik_llama", 8);
	pl_vrow_class(r, "engine", engine);
	pl_vrow_class(r, "backend", pl_vrow_text(r, "backend"));
	bool ok = lm_read_buffers(x);
	measure(x, &n);
	if (!ok || !lm_find_model(x))
		return;
	lm_make_machine(x);
	if (!lm_make_params(x))
		return;
	lm_find_caches(x);
	classes(x);
	if (r->reason)
		return;
	predict_context(x, &n);
	if (!lay(x, x->model, &l))
		return;
	predict_compute(x, &l, &n);
	predict_model(x, &l, &n);
}

const struct pl_table_kind pl_kind_llamacpp_memory = {"llamacpp_memory", columns, map, NULL};
