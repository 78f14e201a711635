#include <plimsoll/model.h>

#include "fuzz.h"

/* One GGUF header: read whole, and once more as if it were the beginning of a larger file. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	for (int longer = 0; longer < 2; longer++) {
		struct pl_arena *a = pl_arena_new(UINT64_C(256) << 20);
		const struct pl_bytes part = {data, size, size + (longer ? UINT64_C(1) << 32 : 0), "fuzz.gguf"};
		const struct pl_model *m = NULL;
		struct pl_err err = {0};
		if (pl_model_from_gguf(a, &part, 1, &m, &err))
			fuzz_check_error(&err);
		pl_arena_free(a);
	}
	return 0;
}
