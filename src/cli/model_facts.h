/* What is said of a model by both `inspect` and `show model`. */
#ifndef PLIMSOLL_CLI_MODEL_FACTS_H
#define PLIMSOLL_CLI_MODEL_FACTS_H

#include <stdio.h>

#include <plimsoll/model.h>

struct json_t;

void pl_model_facts_text(FILE *out, const struct pl_model *m);
struct json_t *pl_model_facts_json(const struct pl_model *m);

#endif
