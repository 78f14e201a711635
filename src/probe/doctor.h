/* Checks add findings; one file a part of the machine. */
#ifndef PLIMSOLL_PROBE_DOCTOR_INNER_H
#define PLIMSOLL_PROBE_DOCTOR_INNER_H

#include <plimsoll/doctor.h>

#include "probe/facts.h"

struct pl_doctor_job {
	struct pl_arena *a;
	const struct pl_doctor_request *req;
	struct pl_facts *f;
	struct pl_finding *first, **last;
};

/* Appends a finding; texts are translated and formatted already, NULL where there is none. */
void pl_find(struct pl_doctor_job *j, const char *id, const char *subject, enum pl_finding_level level, const char *what, const char *why,
             const char *mend);
/* Formats into the arena after translating. */
const char *pl_say(struct pl_doctor_job *j, const char *fmt, ...) PL_PRINTF(2, 3);
/* The engine asked for, or the plan's; "" when there is none. */
const char *pl_doctor_engine(const struct pl_doctor_job *j);
/* The value of a toolchain row of data/precisions.csv for a capability or name; NULL none. */
const char *pl_doctor_toolchain(const char *capability, const char *item);

enum { PL_PCI_NVIDIA = 0x10de, PL_PCI_AMD = 0x1002, PL_PCI_INTEL = 0x8086 };
/* The graphics cards of one maker below /sys/class/drm: "card0" …; their count. */
size_t pl_doctor_cards(struct pl_doctor_job *j, unsigned long vendor, char **ret_names, size_t max);

void pl_doctor_nvidia(struct pl_doctor_job *j);   /* probe/doctor_nvidia.c */
void pl_doctor_others(struct pl_doctor_job *j);   /* probe/doctor_amd.c: AMD, Intel, Ascend */
void pl_doctor_host(struct pl_doctor_job *j);     /* probe/doctor_host.c: RAM, disks, limits */
void pl_doctor_software(struct pl_doctor_job *j); /* probe/doctor_software.c: containers, Python, engines */

#endif
