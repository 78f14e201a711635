#include <string.h>

#include "model/gguf_meta.h"

const char *pl_meta_key(struct pl_meta *x, const char *suffix)
{
	size_t n = strlen(x->arch), k = strlen(suffix);
	if (n + k + 2 > sizeof x->key)
		return "";
	memcpy(x->key, x->arch, n);
	x->key[n] = '.';
	memcpy(x->key + n + 1, suffix, k + 1);
	return x->key;
}

int pl_meta_u32(struct pl_meta *x, const char *suffix, uint64_t max, uint32_t *ret)
{
	const char *key = pl_meta_key(x, suffix);
	const struct pl_gguf_kv *kv = pl_gguf_find(x->g, key);
	uint64_t v;
	if (!kv || kv->type == PL_GGUF_ARRAY)
		return 0;
	if (!pl_gguf_u64(x->g, key, &v))
		return pl_fail(x->err, PL_ERR_FORMAT, key, "key '%s' must be a whole number", key);
	if (v > max)
		return pl_fail(x->err, PL_ERR_RANGE, key, "key '%s' is %llu, the limit is %llu", key,
		               (unsigned long long)v, (unsigned long long)max);
	*ret = (uint32_t)v;
	return 1;
}

int pl_meta_need_u32(struct pl_meta *x, const char *suffix, uint64_t max, uint32_t *ret)
{
	int r = pl_meta_u32(x, suffix, max, ret);
	if (r < 0)
		return r;
	if (!r)
		return pl_fail(x->err, PL_ERR_FORMAT, x->key, "key '%s' is missing", x->key);
	if (!*ret)
		return pl_fail(x->err, PL_ERR_RANGE, x->key, "key '%s' is 0", x->key);
	return 0;
}

int pl_meta_per_layer(struct pl_meta *x, const char *suffix, uint64_t max, uint32_t *out)
{
	const char *key = pl_meta_key(x, suffix);
	const struct pl_gguf_kv *kv = pl_gguf_find(x->g, key);
	if (!kv)
		return 0;
	if (kv->type == PL_GGUF_ARRAY && kv->n < x->n_all)
		return pl_fail(x->err, PL_ERR_FORMAT, key, "array '%s' has %llu elements, the model has %u layers", key,
		               (unsigned long long)kv->n, x->n_all);
	for (uint32_t i = 0; i < x->n_all; i++) {
		uint64_t v;
		if (!pl_gguf_u64_at(x->g, key, i, &v))
			return pl_fail(x->err, PL_ERR_FORMAT, key, "element %u of '%s' must be a whole number", i, key);
		if (v > max)
			return pl_fail(x->err, PL_ERR_RANGE, key, "element %u of '%s' is %llu, the limit is %llu", i,
			               key, (unsigned long long)v, (unsigned long long)max);
		out[i] = (uint32_t)v;
	}
	return 1;
}

const struct pl_tensor *pl_meta_tensor(const struct pl_meta *x, uint32_t il, enum pl_role role)
{
	return x->by_role[(size_t)il * PL_ROLE_COUNT + role];
}
