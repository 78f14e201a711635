/* Catalogued models: configs and published facts, built in. (GPUs, nodes, clouds: hardware.h.) */
#ifndef PLIMSOLL_CATALOG_H
#define PLIMSOLL_CATALOG_H

#include <stddef.h>
#include <stdint.h>

#include <plimsoll/error.h>
#include <plimsoll/opt.h>

/* One model: a row of data/models/models.csv and its config in data/models/configs/. */
struct pl_model_row {
	const char *id;          /* Hugging Face id */
	const char *aliases;     /* space-separated */
	const char *config_json; /* the config.json, lent */
	size_t config_len;
	uint64_t published_params; /* total the maker or the hub states; 0 none */
	const char *published_source, *published_note; /* what that total contains, when it is not the plain sum */
	const char *config_kind, *source_url, *license;
};

const struct pl_model_row *pl_catalog_models(uint32_t *ret_n);
/* Forgiving look-up: "Qwen/Qwen3-32B", "qwen3-32b", "llama3.1-8b", "deepseek r1"; suggests on a miss. */
int pl_model_row_find(const char *name, const struct pl_model_row **ret_row, struct pl_err *err) PL_MUST_CHECK;

#endif
