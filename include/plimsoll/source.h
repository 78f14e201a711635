/* Where models and machines come from: files, folders, remote repositories, the catalogue. (Reads files and the network.) */
#ifndef PLIMSOLL_SOURCE_H
#define PLIMSOLL_SOURCE_H

#include <plimsoll/hardware.h>
#include <plimsoll/model.h>

/* Keeps what was read alive for as long as the model is used. */
struct pl_loaded;

/* Opens a model by reference:
 *   a .gguf file (any part of a split one), a .safetensors file, a config.json, a folder with config.json and weights,
 *   "https://…/model.gguf", "hf:owner/repo[:file|:precision]" (headers by HTTP range), or a catalogue name.
 * quant: NULL, or a precision to plan for when the reference does not fix it; asking for one with a quantised file is an
 * error that says so. */
int pl_load(struct pl_arena *a, const char *ref, const char *quant, struct pl_loaded **ret_loaded,
            const struct pl_model **ret_model, struct pl_err *err) PL_MUST_CHECK;
/* The same with a JSON object laid over config.json first (vLLM's --hf-overrides); a GGUF file has none, and keeps what it says. */
int pl_load_changed(struct pl_arena *a, const char *ref, const char *quant, const char *changes, struct pl_loaded **ret_loaded,
                    const struct pl_model **ret_model, struct pl_err *err) PL_MUST_CHECK;
void pl_loaded_free(struct pl_loaded *l); /* NULL is fine */

/* All of a local text file of at most max_bytes, NUL-terminated, in the arena. */
int pl_load_text(struct pl_arena *a, const char *path, uint64_t max_bytes, char **ret, size_t *ret_len, struct pl_err *err) PL_MUST_CHECK;

/* A hardware line, or the path of a YAML file (docs/hardware-line.md). */
int pl_load_machine(struct pl_arena *a, const char *line_or_path, const struct pl_machine **ret_machine, struct pl_err *err)
    PL_MUST_CHECK;

#endif
