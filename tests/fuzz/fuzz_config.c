#include <plimsoll/model.h>

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pl_arena *a = pl_arena_new(UINT64_C(256) << 20);
	const struct pl_model *m = NULL;
	struct pl_err err = {0};
	if (pl_model_from_config(a, "fuzz", (const char *)data, size, NULL, &m, &err))
		fuzz_check_error(&err);
	pl_arena_free(a);
	return 0;
}
