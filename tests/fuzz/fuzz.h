/* What every fuzz target promises. */
#ifndef PLIMSOLL_TESTS_FUZZ_H
#define PLIMSOLL_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <plimsoll/error.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A refusal says why, and is never a fault of the program's own. */
static inline void fuzz_check_error(const struct pl_err *err)
{
	if (err->code == PL_OK || err->code == PL_ERR_INTERNAL || strlen(err->msg) < 5)
		abort();
}

#endif
