/* This machine, as its own interfaces describe it. Reads /proc, /sys, hwloc and the vendors' libraries; changes nothing. */
#ifndef PLIMSOLL_PROBE_H
#define PLIMSOLL_PROBE_H

#include <stdio.h>

#include <plimsoll/hardware.h>

/* What is read of a machine: the running one, recorded as it is read, or a record of another. */
struct pl_facts;

/* Where the facts are read; zero-initialised means the running system. Other values are for replays and tests. */
struct pl_probe_options {
	const char *root;         /* prefix of /proc and /sys, NULL: none */
	const char *nvml_library; /* NULL: libnvidia-ml.so.1 */
	bool no_topology;         /* leave hwloc out: cores from /proc alone */
	struct pl_facts *facts;   /* NULL: facts of its own; root and nvml_library are then read from here */
};

/* The running system (options may be NULL); NULL when out of memory. Free with pl_facts_free. */
struct pl_facts *pl_facts_new(const struct pl_probe_options *options);
/* A record written by pl_facts_save. */
int pl_facts_load(const char *path, struct pl_facts **ret, struct pl_err *err) PL_MUST_CHECK;
/* Writes what was read so far as JSON: beside the name, then renamed. path NULL: to out. Holds no user names, addresses of
 * the network or contents of the user's files. */
int pl_facts_save(const struct pl_facts *f, const char *path, FILE *out, struct pl_err *err) PL_MUST_CHECK;
void pl_facts_free(struct pl_facts *f); /* NULL is fine */

/* Detects CPU, RAM (within the limits of the control group), NUMA nodes and GPUs with their free memory. A machine
 * without a GPU is a normal answer with n_devices 0. What could not be read is unknown, with a note in *ret_notes.
 * ret_notes may be NULL. */
int pl_probe_machine(struct pl_arena *a, const struct pl_probe_options *options, const struct pl_machine **ret_machine,
                     struct pl_note **ret_notes, struct pl_err *err) PL_MUST_CHECK;

#endif
