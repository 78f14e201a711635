/* The rows of the registry, one manifest a file. */
#ifndef PLIMSOLL_EMIT_EMITTERS_H
#define PLIMSOLL_EMIT_EMITTERS_H

#include <plimsoll/emit.h>

extern const struct pl_emitter pl_emitter_compose, pl_emitter_kubernetes, pl_emitter_lws, pl_emitter_systemd, pl_emitter_slurm,
    pl_emitter_ray, pl_emitter_shell;

#endif
