/* Is this machine ready? Findings about drivers, links, memory, disks and software, each with its reason in numbers and the
 * command that mends it. Looks only; changes nothing. */
#ifndef PLIMSOLL_DOCTOR_H
#define PLIMSOLL_DOCTOR_H

#include <plimsoll/plan.h>
#include <plimsoll/probe.h>

enum pl_finding_level {
	PL_FINDING_OK = 0,  /* as it should be */
	PL_FINDING_INFO,    /* worth knowing */
	PL_FINDING_WARNING, /* slower or smaller than it could be */
	PL_FINDING_FAULT    /* the plan or the engine will not start */
};
const char *pl_finding_level_name(enum pl_finding_level l); /* "ok", "info", "warning", "fault" */

struct pl_finding {
	const char *id;      /* "nvidia.link_width": stable, for programs */
	const char *subject; /* "GPU 0", "RAM", translated; NULL: the machine */
	enum pl_finding_level level;
	const char *what;    /* translated sentences; why and mend may be NULL */
	const char *why;
	const char *mend;    /* a command or an act */
	struct pl_finding *next;
};

struct pl_doctor_request {
	struct pl_facts *facts;           /* read from, and recorded into */
	const struct pl_machine *machine; /* as pl_probe_machine found it */
	const struct pl_engine *engine;   /* NULL: no engine in particular */
	const struct pl_plan *plan;       /* NULL: no plan in particular */
	const char *model_path;           /* file or folder whose disk is measured; NULL: the current folder's disk is not read */
	bool no_disk_test;
};

int pl_doctor(struct pl_arena *a, const struct pl_doctor_request *req, const struct pl_finding **ret_first,
              struct pl_err *err) PL_MUST_CHECK;

#endif
