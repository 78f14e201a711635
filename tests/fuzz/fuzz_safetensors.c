#include <plimsoll/model.h>

#include "fuzz.h"

/* Byte 0 chooses: a shard alone, a shard with a config behind a NUL, or an index. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pl_arena *a = pl_arena_new(UINT64_C(256) << 20);
	const struct pl_model *m = NULL;
	struct pl_err err = {0};
	int rc = 0;
	if (size < 1) {
		pl_arena_free(a);
		return 0;
	}
	const uint8_t *rest = data + 1;
	size_t n = size - 1;
	if (data[0] == 'i') {
		char *paths[16];
		uint32_t n_paths;
		rc = pl_safetensors_index(a, "index.json", "folder", (const char *)rest, n, paths, 16, &n_paths, &err);
	} else {
		const char config[] = "{\"model_type\":\"llama\",\"hidden_size\":64,\"num_hidden_layers\":2,\"num_attention_heads\":4,"
		                      "\"intermediate_size\":128,\"vocab_size\":256}";
		const struct pl_bytes part = {rest, n, n, "fuzz.safetensors"};
		rc = pl_model_from_safetensors(a, "fuzz", &part, 1, data[0] == 'c' ? config : NULL, sizeof config - 1, &m, &err);
	}
	if (rc)
		fuzz_check_error(&err);
	pl_arena_free(a);
	return 0;
}
