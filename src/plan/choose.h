/* Which engine, when the user names none. */
#ifndef PLIMSOLL_PLAN_CHOOSE_H
#define PLIMSOLL_PLAN_CHOOSE_H

#include "plan/evaluate.h"

/* The engine with the best verdict among those that run the model here, the field's habit deciding ties; one that
 * cannot run it only when none can. asked->engine is not looked at. ret_reason: a translated sentence. */
const struct pl_engine *pl_choose_engine(struct pl_arena *a, const struct pl_trial *asked, const char **ret_reason);

#endif
