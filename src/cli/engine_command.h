/* An engine's own command after "--": read, loaded and laid under the options. */
#ifndef PLIMSOLL_CLI_ENGINE_COMMAND_H
#define PLIMSOLL_CLI_ENGINE_COMMAND_H

#include "cli/plan_job.h"

/* Reads cli->tail into j->command. Options that restate what such a command says are refused. */
int pl_tail_read(struct pl_plan_job *j) PL_MUST_CHECK;
/* Once machine and engine are known: picks devices, loads the models it names, settles the parameters into j->req. model_ref: where
 * the model is read instead of where the command names it; NULL: there. */
int pl_tail_apply(struct pl_plan_job *j, const char *model_ref) PL_MUST_CHECK;

#endif
