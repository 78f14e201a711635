/* plimsoll synth: a model file with true shapes and dummy weights. */
#ifndef PLIMSOLL_CLI_CMD_SYNTH_H
#define PLIMSOLL_CLI_CMD_SYNTH_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <plimsoll/error.h>

struct pl_cmd_synth {
	const char *model; /* catalogue name, folder or config.json */
	const char *quant; /* NULL: the model's own precision */
	const char *path;  /* the file to write */
	uint32_t n_layers; /* 0: all */
	bool sparse, force, no_vocab, json;
};

/* Makes and writes the file, then says what it holds on out. 0 or a negative error code with err filled. */
int pl_cmd_synth_run(const struct pl_cmd_synth *c, FILE *out, struct pl_err *err) PL_MUST_CHECK;

#endif
