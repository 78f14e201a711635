/* `transformers serve` where it loads exactly what was planned, else a line of Python that does. */
#include <string.h>
#include <stdlib.h>

#include "base/checked.h"
#include "engine/argv.h"
#include "engine/serving.h"
#include "engine/transformers.h"

static bool before_ampere(const struct pl_machine *hw)
{
	for (uint32_t i = 0; i < hw->n_devices; i++) {
		const struct pl_gpu *g = hw->devices[i].gpu;
		if (g && g->vendor == PL_VENDOR_NVIDIA && g->capability && strtod(g->capability, NULL) < 8.0)
			return true;
	}
	return false;
}

/* bitsandbytes quantises while loading; a checkpoint that is stored so says it itself. */
static bool quantises(const struct pl_model *m)
{
	enum tf_scheme s = tf_scheme_of(m);
	return (s == TF_BNB_INT8 || s == TF_BNB_4BIT) && m->format == PL_FORMAT_CONFIG && !m->quant_stored;
}

static void serve(struct pl_words *l, const struct pl_model *m, const char *ref, const struct pl_machine *hw,
                  const struct pl_params *p)
{
	pl_put(l, "transformers");
	pl_put(l, "serve");
	pl_put(l, ref);
	pl_put(l, "--device");
	pl_put(l, hw->n_devices ? "auto" : "cpu");
	pl_put(l, "--dtype");
	pl_put(l, before_ampere(hw) ? "float16" : "auto");
	if (quantises(m)) {
		pl_put(l, "--quantization");
		pl_put(l, tf_scheme_of(m) == TF_BNB_4BIT ? "bnb-4bit" : "bnb-8bit");
	}
	if (p->attention_eager) {
		pl_put(l, "--attn-implementation");
		pl_put(l, "eager");
	}
}

/* Python's string literal of a name. */
static const char *literal(struct pl_arena *a, const char *s)
{
	char *out = pl_arena_alloc(a, 2 * strlen(s) + 3), *to = out;
	if (!out)
		return NULL;
	*to++ = '"';
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			*to++ = '\\';
		*to++ = *s == '\n' ? ' ' : *s;
	}
	*to = '"';
	return out;
}

static const char *device_map(struct pl_arena *a, const struct pl_machine *hw, const struct pl_params *p)
{
	const char *text = "";
	uint32_t gpu = 0;
	if (!hw->n_devices)
		return "device_map=\"cpu\"";
	if (p->device_map_auto)
		return "device_map=\"auto\"";
	for (uint32_t i = 0; i < hw->n_devices && i < PL_MAX_DEVICES && text; i++) {
		if (hw->devices[i].node)
			continue;
		if (p->tensor_split[i] > 0)
			text = pl_arena_printf(a, "%s%s%u: %.0f", text, *text ? ", " : "", gpu, p->tensor_split[i]);
		gpu++;
	}
	if (!text || !*text)
		return "device_map={\"\": 0}";
	if (hw->ram_bytes.known)
		text = pl_arena_printf(a, "%s, \"cpu\": %llu", text, (unsigned long long)hw->ram_bytes.value / 10 * 9);
	return pl_arena_printf(a, "device_map=\"sequential\", max_memory={%s}", text);
}

static const char *load_options(struct pl_arena *a, const struct pl_model *m, const struct pl_machine *hw,
                                const struct pl_params *p)
{
	struct tf_rules rules;
	tf_rules_of(p->engine_version, &rules);
	const char *text = pl_arena_printf(a, "%s=\"%s\", %s", rules.window_cache ? "dtype" : "torch_dtype",
	                                   before_ampere(hw) ? "float16" : "auto", device_map(a, hw, p));
	if (quantises(m))
		text = pl_arena_printf(a, "%s, quantization_config=BitsAndBytesConfig(%s)", text,
		                       tf_scheme_of(m) == TF_BNB_INT8
		                           ? "load_in_8bit=True"
		                           : "load_in_4bit=True, bnb_4bit_quant_type=\"nf4\", bnb_4bit_use_double_quant=True, "
		                             "bnb_4bit_compute_dtype=\"bfloat16\"");
	if (p->attention_eager)
		text = pl_arena_printf(a, "%s, attn_implementation=\"eager\"", text);
	if (p->offload_folder)
		text = pl_arena_printf(a, "%s, offload_folder=%s", text, literal(a, p->offload_folder));
	return text;
}

static const char *generate_options(struct pl_arena *a, const struct pl_params *p)
{
	const char *text = pl_arena_printf(a, "max_length=%llu", (unsigned long long)p->n_ctx_tokens);
	if (p->max_num_batched_tokens)
		text = pl_arena_printf(a, "%s, prefill_chunk_size=%u", text, p->max_num_batched_tokens);
	if (p->type_k == PL_DTYPE_I8 || p->type_k == PL_DTYPE_INT4)
		text = pl_arena_printf(a, "%s, cache_implementation=\"quantized\", cache_config={\"backend\": \"%s\", \"nbits\": %d}", text,
		                       p->type_k == PL_DTYPE_I8 ? "hqq" : "quanto", p->type_k == PL_DTYPE_I8 ? 8 : 4);
	return text;
}

static void python(struct pl_words *l, const struct pl_model *m, const char *ref, const struct pl_machine *hw,
                   const struct pl_params *p)
{
	struct pl_arena *a = l->a;
	const char *name = literal(a, ref), *options = load_options(a, m, hw, p), *also = quantises(m) ? ", BitsAndBytesConfig" : "";
	pl_put(l, "python3");
	pl_put(l, "-c");
	if (m->is_embedding) {
		pl_put(l, pl_arena_printf(a,
		                       "from transformers import AutoModel, AutoTokenizer%s; "
		                       "t = AutoTokenizer.from_pretrained(%s); m = AutoModel.from_pretrained(%s, %s); "
		                       "x = t([\"Hello\"] * %u, return_tensors=\"pt\").to(m.device); print(m(**x).last_hidden_state.shape)",
		                       also, name, name, options, p->n_seq));
		return;
	}
	pl_put(l, pl_arena_printf(a,
	                       "from transformers import AutoModelForCausalLM, AutoTokenizer%s; "
	                       "t = AutoTokenizer.from_pretrained(%s); m = AutoModelForCausalLM.from_pretrained(%s, %s); "
	                       "x = t([\"Hello\"] * %u, return_tensors=\"pt\").to(m.device); "
	                       "print(t.batch_decode(m.generate(**x, %s)))",
	                       also, name, name, options, p->n_seq, generate_options(a, p)));
}

/* A dictionary of DeepSpeed's configuration, in Python. */
static const char *zero_config(struct pl_arena *a, const struct pl_machine *hw, const struct pl_params *p, const struct tf_zero *z)
{
	const char *offload = "";
	if (p->zero_offload == PL_ZERO_CPU)
		offload = ", \"offload_param\": {\"device\": \"cpu\", \"pin_memory\": True}";
	else if (p->zero_offload == PL_ZERO_NVME)
		offload = pl_arena_printf(a, ", \"offload_param\": {\"device\": \"nvme\", \"nvme_path\": %s, \"pin_memory\": True, \"buffer_size\": %llu}",
		                          literal(a, p->offload_folder ? p->offload_folder : "/local_nvme"), (unsigned long long)z->buffer_elems);
	return pl_arena_printf(a, "{\"train_micro_batch_size_per_gpu\": 1, \"%s\": {\"enabled\": True}, \"zero_optimization\": {\"stage\": 3%s}}",
	                       before_ampere(hw) ? "fp16" : "bf16", offload);
}

/* What transformers' documentation does without its Trainer: HfDeepSpeedConfig before the model, so that it is sharded as it is
 * made; every rank runs the line, and all take part in each step (synced_gpus). */
static void sharded(struct pl_words *l, const struct pl_model *m, const char *ref, const struct pl_machine *hw, const struct pl_params *p,
                    const struct tf_zero *z)
{
	struct pl_arena *a = l->a;
	const char *name = literal(a, ref);
	pl_put(l, "deepspeed");
	pl_put(l, "--num_gpus");
	pl_put(l, pl_arena_printf(a, "%u", p->data_parallel));
	pl_put(l, "--no_python");
	pl_put(l, "python3");
	pl_put(l, "-c");
	pl_put(l, pl_arena_printf(a,
	                       "import deepspeed; from deepspeed.accelerator import get_accelerator; "
	                       "from transformers import AutoModelForCausalLM, AutoTokenizer; from transformers.integrations import HfDeepSpeedConfig; "
	                       "c = %s; deepspeed.init_distributed(); h = HfDeepSpeedConfig(c); t = AutoTokenizer.from_pretrained(%s); "
	                       "m = deepspeed.initialize(model=AutoModelForCausalLM.from_pretrained(%s, dtype=\"%s\"%s), config=c)[0].module.eval(); "
	                       "x = t([\"Hello\"] * %llu, return_tensors=\"pt\").to(get_accelerator().current_device_name()); "
	                       "print(t.batch_decode(m.generate(**x, synced_gpus=True, %s)))",
	                       zero_config(a, hw, p, z), name, name, before_ampere(hw) ? "float16" : "bfloat16",
	                       p->attention_eager ? ", attn_implementation=\"eager\"" : "",
	                       (unsigned long long)pl_ceil_div(p->n_seq, p->data_parallel ? p->data_parallel : 1), generate_options(a, p)));
	(void)m;
}

int tf_command(struct pl_arena *a, const struct pl_model *m, const char *model_ref, const struct pl_machine *hw,
               const struct pl_params *p, const struct pl_layout *l, struct pl_argv *ret_argv, struct pl_err *err)
{
	struct pl_words line = {.a = a};
	(void)l;
	bool plain = p->n_seq == 1 && (p->device_map_auto || !hw->n_devices) && !p->offload_folder && !p->max_num_batched_tokens &&
	             p->type_k != PL_DTYPE_I8 && p->type_k != PL_DTYPE_INT4 && !m->is_embedding && !p->engine_version;
	model_ref = sv_model_word(a, m, model_ref, quantises(m));
	if (p->zero_stage == 3) {
		struct tf_job j = {.a = a, .m = m, .hw = hw, .p = (struct pl_params *)(uintptr_t)p, .elem_bytes = 2, .n_gpus = p->data_parallel};
		struct tf_zero z;
		tf_zero(&j, &z);
		sharded(&line, m, model_ref, hw, p, &z);
	} else if (plain)
		serve(&line, m, model_ref, hw, p);
	else
		python(&line, m, model_ref, hw, p);
	return pl_words_argv(&line, model_ref, ret_argv, err);
}
