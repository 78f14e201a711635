#include <string.h>

#include "engine/command_serving.h"

int pl_serving_share(struct pl_reader *r, const char *value, double *ret)
{
	double x;
	int rc = pl_read_real(r, value, -1e9, 1e9, &x);
	if (!rc && !(x > 0 && x <= 1))
		return pl_refuse(r, "%s is not a share above 0 and up to 1: the program stops here", value);
	if (!rc)
		*ret = x;
	return rc;
}

int pl_serving_gib(struct pl_reader *r, const char *value, uint64_t *ret)
{
	double x;
	int rc = pl_read_real(r, value, 0, 1e6, &x);
	if (!rc)
		*ret = (uint64_t)(x * 1073741824.0);
	return rc;
}

int pl_serving_dtype(struct pl_reader *r, const char *value, enum pl_dtype *ret)
{
	static const struct {
		const char *name;
		enum pl_dtype type;
	} types[] = {{"auto", PL_DTYPE_UNKNOWN}, {"half", PL_DTYPE_F16},  {"float16", PL_DTYPE_F16},
	             {"bfloat16", PL_DTYPE_BF16}, {"float", PL_DTYPE_F32}, {"float32", PL_DTYPE_F32}};
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		if (!strcmp(value, types[i].name)) {
			*ret = types[i].type;
			return 0;
		}
	return pl_refuse(r, "there is no data type '%.40s': the program stops here", value);
}

json_t *pl_serving_object(struct pl_reader *r, const char *value, int *rc)
{
	json_error_t e;
	json_t *o = json_loads(value, 0, &e);
	*rc = 0;
	if (json_is_object(o))
		return o;
	json_decref(o);
	*rc = pl_refuse(r, "'%.60s' is not a JSON object: the program stops here", value);
	return NULL;
}

int pl_serving_most(struct pl_reader *r, const char *value, uint32_t *ret)
{
	uint32_t most = 0;
	int rc = 0;
	for (const char *c = value; *c && !rc; c += strspn(c, ",")) {
		uint32_t one = 0;
		size_t len = strcspn(c, ",");
		char *word = pl_arena_strndup(r->a, c, len);
		rc = pl_read_u32(r, word ? word : "", 1, 65536, &one);
		most = one > most ? one : most;
		c += len;
	}
	if (!rc)
		*ret = most;
	return rc;
}

const char *pl_serving_quant(struct pl_reader *r, const char *value)
{
	static const struct {
		const char *said, *quant;
	} names[] = {{"fp8", "fp8"}, {"w8a8_fp8", "fp8"}, {"w8a8_int8", "int8"}, {"awq", "awq-int4"}, {"awq_marlin", "awq-int4"},
	             {"gptq", "gptq-int4"}, {"gptq_marlin", "gptq-int4"}, {"bitsandbytes", "nf4"}, {"mxfp4", "mxfp4"},
	             {"modelopt", "fp8"}, {"modelopt_fp8", "fp8"}, {"modelopt_fp4", "nvfp4"}, {"experts_int8", "int8"}};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (!strcmp(value, names[i].said))
			return names[i].quant;
	pl_remark(r, PL_NOTE_INFO, "%s %s: the model is taken in the precision of its files", r->flag, value);
	return NULL;
}

int pl_serving_word(struct pl_reader *r, const char *word)
{
	if (r->own.serve.model_word) {
		r->flag = NULL;
		return pl_refuse(r, "'%.80s' is one word too many: the program stops here", word);
	}
	r->own.serve.model_word = word;
	return 0;
}

void pl_serving_left_out(struct pl_reader *r, const char *value)
{
	pl_remark(r, PL_NOTE_WARNING, "%s %s changes memory in a way that is not modelled: it is left out", r->flag, value ? value : "");
}
