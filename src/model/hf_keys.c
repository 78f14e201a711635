/* Keys of a config.json, each checked: the first fault becomes one sentence, later reads give harmless values. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/hf.h"

void pl_hf_fail(struct pl_hf *c, const char *fmt, ...)
{
	char text[300];
	va_list ap;
	if (c->rc)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, pl_tr(fmt), ap);
	va_end(ap);
	c->rc = pl_fail(c->err, PL_ERR_FORMAT, c->where, "%s", text);
}

const json_t *pl_hf_get(const struct pl_hf *c, const char *keys)
{
	for (const char *k = keys;;) {
		size_t n = strcspn(k, "|");
		const json_t *v = json_object_getn(c->cfg, k, n);
		if (v && !json_is_null(v))
			return v;
		if (!k[n])
			return NULL;
		k += n + 1;
	}
}

bool pl_hf_has(const struct pl_hf *c, const char *keys)
{
	return pl_hf_get(c, keys) != NULL;
}

static int key_len(const char *keys)
{
	return (int)strcspn(keys, "|");
}

/* A JSON number that is an integer in [min, max]. il < 0: the key is a scalar. */
static uint32_t number(struct pl_hf *c, const char *keys, int64_t il, const json_t *v, uint32_t min, uint32_t max)
{
	char at[32] = "";
	if (il >= 0)
		snprintf(at, sizeof at, "[%lld]", (long long)il);
	if (!json_is_number(v)) {
		pl_hf_fail(c, "'%.*s%s' is not a number, it must be one from %u to %u", key_len(keys), keys, at, min, max);
		return min;
	}
	double x = json_number_value(v);
	if (!(x >= min && x <= max) || x != floor(x)) {
		pl_hf_fail(c, "'%.*s%s' is %.15g, it must be a whole number from %u to %u", key_len(keys), keys, at, x, min, max);
		return min;
	}
	return (uint32_t)x;
}

uint32_t pl_hf_u32(struct pl_hf *c, const char *keys, uint32_t min, uint32_t max, uint32_t dflt)
{
	if (c->rc)
		return min;
	const json_t *v = pl_hf_get(c, keys);
	return v ? number(c, keys, -1, v, min, max) : dflt;
}

uint32_t pl_hf_need(struct pl_hf *c, const char *keys, uint32_t max)
{
	if (c->rc)
		return 1;
	const json_t *v = pl_hf_get(c, keys);
	if (v)
		return number(c, keys, -1, v, 1, max);
	pl_hf_fail(c, "'%.*s' is missing, it must be a whole number from 1 to %u", key_len(keys), keys, max);
	return 1;
}

bool pl_hf_bool(struct pl_hf *c, const char *keys, bool dflt)
{
	const json_t *v = pl_hf_get(c, keys);
	if (!v || c->rc)
		return dflt;
	if (json_is_boolean(v))
		return json_is_true(v);
	if (json_is_integer(v) && (json_integer_value(v) == 0 || json_integer_value(v) == 1))
		return json_integer_value(v) == 1;
	pl_hf_fail(c, "'%.*s' must be true or false", key_len(keys), keys);
	return dflt;
}

double pl_hf_f64(struct pl_hf *c, const char *keys, double dflt)
{
	const json_t *v = pl_hf_get(c, keys);
	if (!v || c->rc)
		return dflt;
	if (!json_is_number(v)) {
		pl_hf_fail(c, "'%.*s' is not a number", key_len(keys), keys);
		return dflt;
	}
	return json_number_value(v);
}

const char *pl_hf_str(const struct pl_hf *c, const char *keys)
{
	return json_string_value(pl_hf_get(c, keys));
}

const json_t *pl_hf_array(struct pl_hf *c, const char *keys, uint32_t n)
{
	const json_t *v = pl_hf_get(c, keys);
	if (!v || c->rc)
		return NULL;
	if (!json_is_array(v)) {
		pl_hf_fail(c, "'%.*s' must be an array with one entry a layer", key_len(keys), keys);
		return NULL;
	}
	if (json_array_size(v) < n) {
		pl_hf_fail(c, "'%.*s' has %zu entries, the model has %u layers", key_len(keys), keys, json_array_size(v), n);
		return NULL;
	}
	return v;
}

uint32_t pl_hf_u32_at(struct pl_hf *c, const char *keys, uint32_t il, uint32_t max, uint32_t dflt)
{
	const json_t *v = pl_hf_get(c, keys);
	if (!v || c->rc)
		return dflt;
	if (!json_is_array(v))
		return number(c, keys, -1, v, 0, max);
	if (il >= json_array_size(v)) {
		pl_hf_fail(c, "'%.*s' has %zu entries, layer %u needs one of its own", key_len(keys), keys, json_array_size(v), il);
		return dflt;
	}
	v = json_array_get(v, il);
	return json_is_null(v) ? dflt : number(c, keys, il, v, 0, max);
}

const char *pl_hf_str_at(struct pl_hf *c, const char *keys, uint32_t il)
{
	const json_t *v = pl_hf_get(c, keys);
	if (!v || c->rc)
		return "";
	const char *s = json_is_array(v) ? json_string_value(json_array_get(v, il)) : NULL;
	if (s)
		return s;
	pl_hf_fail(c, "'%.*s' has no text for layer %u, the model has %u layers", key_len(keys), keys, il, c->m->n_layers);
	return "";
}

const json_t *pl_hf_enter(struct pl_hf *c, const json_t *obj)
{
	const json_t *old = c->cfg;
	c->cfg = obj;
	return old;
}
