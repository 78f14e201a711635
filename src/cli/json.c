/* JSON of every command goes out here: a member that could not be allocated is a fault, not a member less. */
#include <stdlib.h>

#include <jansson.h>

#include "cli/cli.h"

static bool out_of_memory;

static void *watched_malloc(size_t size)
{
	void *p = malloc(size);
	out_of_memory = out_of_memory || !p;
	return p;
}

void pl_cli_json_init(void)
{
	json_set_alloc_funcs(watched_malloc, free);
}

int pl_cli_json(FILE *out, json_t *o, struct pl_err *err)
{
	int rc = 0;
	if (!o || out_of_memory)
		rc = pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory while writing the result");
	else if (json_dumpf(o, out, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) || fputc('\n', out) == EOF)
		rc = out_of_memory ? pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory while writing the result")
		                   : pl_fail(err, PL_ERR_IO, NULL, "the output could not be written");
	json_decref(o);
	return rc;
}
