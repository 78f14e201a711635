/* Facts of a machine as text under a key: "/proc/meminfo", "nvml:0/name", "run:nvidia-ctk". Read from the running system,
 * where each is also recorded, or from a record of another machine. */
#ifndef PLIMSOLL_PROBE_FACTS_H
#define PLIMSOLL_PROBE_FACTS_H

#include <stddef.h>

#include <plimsoll/probe.h>

/* Small text files below the root; whole, cut at size − 1, NUL-terminated, without the last newline. */
bool pl_facts_file(struct pl_facts *f, const char *path, char *buf, size_t size);
bool pl_facts_file_u64(struct pl_facts *f, const char *path, uint64_t *ret);
/* Names in a folder, sorted by their trailing number, then by name; in the arena. Their count, at most max. */
size_t pl_facts_folder(struct pl_facts *f, struct pl_arena *a, const char *path, char **ret_names, size_t max);
/* What a program prints on stdout within limit_s, started without a shell; NULL when it is not there or fails. */
const char *pl_facts_run(struct pl_facts *f, struct pl_arena *a, const char *key, const char *const *argv, int limit_s);
const char *pl_facts_variable(struct pl_facts *f, const char *name); /* of the environment; NULL unset */

/* A fact of another source. `put` records what was read live; `get` answers in replays (and what was put). */
bool pl_facts_live_now(const struct pl_facts *f);
void pl_facts_put(struct pl_facts *f, const char *text, const char *key, ...) PL_PRINTF(3, 4);
const char *pl_facts_get(const struct pl_facts *f, const char *key, ...) PL_PRINTF(2, 3);
double pl_facts_number(const struct pl_facts *f, const char *key, ...) PL_PRINTF(2, 3); /* NAN unknown */

/* Records every card that NVIDIA's library knows under nvml:… (probe/nvml.c). Once; nothing in replays. */
void pl_facts_nvml(struct pl_facts *f);

const char *pl_facts_root(const struct pl_facts *f);
const char *pl_facts_nvml_library(const struct pl_facts *f);

#endif
