#include "report/json.h"

#include <math.h>

json_t *rj_size(uint64_t n)
{
	return json_integer(n > INT64_MAX ? INT64_MAX : (json_int_t)n);
}

json_t *rj_opt(struct pl_opt_u64 v)
{
	return v.known ? rj_size(v.value) : json_null();
}

json_t *rj_real(double n)
{
	return isfinite(n) ? json_real(n) : json_null();
}

json_t *rj_text(const char *s)
{
	json_t *o = s && *s ? json_string(s) : json_null();
	return o ? o : json_string("?");
}

void rj_put(json_t *object, const char *key, json_t *value)
{
	(void)json_object_set_new(object, key, value);
}
