/* Ray by hand: one script that is the head on the first host and a worker on the others. */
#include <string.h>

#include "emit/emitters.h"
#include "emit/job.h"
#include "engine/argv.h"

static int emit(struct pl_arena *a, const struct pl_plan *plan, const struct pl_emit_options *o, struct pl_emit_result *ret,
                struct pl_err *err)
{
	struct pl_emit_job j;
	struct pl_argv v;
	int rc = pl_emit_begin(&j, a, plan, o, true, err);
	if (!rc && strcmp(plan->engine->id, "vllm") != 0)
		rc = pl_fail(err, PL_ERR_UNSUPPORTED, plan->engine->id, "only vllm runs on Ray");
	if (!rc && j.replicas > 1)
		rc = pl_fail(err, PL_ERR_UNSUPPORTED, "--replicas", "a Ray script starts one replica: take kubernetes or lws for several");
	rc = rc ? rc : pl_emit_line(&j, 0, j.host, j.port, &v, err);
	if (rc)
		return rc;
	const char *line = pl_argv_line(a, &v), *variable = pl_emit_gpu_variable(&j);
	const char *pin = variable ? pl_arena_printf(a, "export %s=%s\n", variable, pl_emit_gpu_list(&j, 0)) : "";
	pl_emit_file(&j, "ray.sh",
	             !line || !pin ? NULL
	                           : pl_arena_printf(a,
	                                             "#!/bin/sh\n# usage: ray.sh head | ray.sh worker HEAD-ADDRESS\nset -eu\n%s"
	                                             "case ${1:-head} in\nhead)\n\tray start --head --port=6379 --num-gpus=%u\n"
	                                             "\twhile [ \"$(ray list nodes --filter state=ALIVE --format json | grep -c '\"node_id\"')\" -lt %u ]; do sleep 5; done\n"
	                                             "\texec env %s --distributed-executor-backend ray\n\t;;\nworker)\n"
	                                             "\texec ray start --address=\"${2:?the address of the head is missing}:6379\" --num-gpus=%u --block\n\t;;\n"
	                                             "*)\n\techo 'usage: ray.sh head | ray.sh worker HEAD-ADDRESS' >&2\n\texit 2\n\t;;\nesac\n",
	                                             pin, j.n_gpus, j.n_nodes, line, j.n_gpus),
	             true);
	return pl_emit_end(&j, ret, err);
}

const struct pl_emitter pl_emitter_ray = {
    .id = "ray",
    .aliases = "",
    .summary = PL_N_("Ray head and workers, for vLLM"),
    .emit = emit,
};
