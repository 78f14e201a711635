/* This machine, as its own interfaces describe it. Reads /proc, /sys, hwloc and the vendors' libraries; changes nothing. */
#ifndef PLIMSOLL_PROBE_H
#define PLIMSOLL_PROBE_H

#include <plimsoll/hardware.h>

/* Where the facts are read; zero-initialised means the running system. Other values are for replays and tests. */
struct pl_probe_options {
	const char *root;         /* prefix of /proc and /sys, NULL: none */
	const char *nvml_library; /* NULL: libnvidia-ml.so.1 */
	bool no_topology;         /* leave hwloc out: cores from /proc alone */
};

/* Detects CPU, RAM (within the limits of the control group), NUMA nodes and GPUs with their free memory. A machine
 * without a GPU is a normal answer with n_devices 0. What could not be read is unknown, with a note in *ret_notes.
 * ret_notes may be NULL. */
int pl_probe_machine(struct pl_arena *a, const struct pl_probe_options *options, const struct pl_machine **ret_machine,
                     struct pl_note **ret_notes, struct pl_err *err) PL_MUST_CHECK;

#endif
