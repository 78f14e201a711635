#include <string.h>

#include <plimsoll/hardware.h>

#include "fuzz.h"

/* The hardware line, and the same bytes as YAML. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pl_arena *a = pl_arena_new(UINT64_C(64) << 20);
	char *line = pl_arena_strndup(a, (const char *)data, size);
	const struct pl_machine *m = NULL;
	struct pl_err err = {0};
	if (line && pl_machine_parse(a, line, &m, &err))
		fuzz_check_error(&err);
	if (pl_machine_parse_yaml(a, "fuzz.yaml", (const char *)data, size, &m, &err))
		fuzz_check_error(&err);
	pl_arena_free(a);
	return 0;
}
