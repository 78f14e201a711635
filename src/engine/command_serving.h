/* What the readers of the serving engines share. */
#ifndef PLIMSOLL_ENGINE_COMMAND_SERVING_H
#define PLIMSOLL_ENGINE_COMMAND_SERVING_H

#include <jansson.h>

#include "engine/command.h"

/* The share of a GPU's memory: above 0 and up to 1, else the program stops. */
int pl_serving_share(struct pl_reader *r, const char *value, double *ret);
/* GiB, whole or with a fraction, as bytes. */
int pl_serving_gib(struct pl_reader *r, const char *value, uint64_t *ret);
/* auto, half, float16, bfloat16, float, float32 */
int pl_serving_dtype(struct pl_reader *r, const char *value, enum pl_dtype *ret);
/* A JSON object; NULL with the refusal in *rc. Free with json_decref. */
json_t *pl_serving_object(struct pl_reader *r, const char *value, int *rc);
/* The largest of "1,2,8", as flags that take lists are joined. */
int pl_serving_most(struct pl_reader *r, const char *value, uint32_t *ret);
/* A precision by plimsoll's name for what --quantization says; NULL: it only repeats what the files hold. */
const char *pl_serving_quant(struct pl_reader *r, const char *value);
/* The word that is no flag: the model; a second one is refused. */
int pl_serving_word(struct pl_reader *r, const char *word);
void pl_serving_left_out(struct pl_reader *r, const char *value);

#endif
