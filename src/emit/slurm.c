/* A Slurm batch script: one job a replica, Ray between the hosts of one. */
#include <string.h>

#include "emit/emitters.h"
#include "emit/job.h"
#include "engine/argv.h"

static const char *header(struct pl_emit_job *j)
{
	const char *gpus = j->n_gpus ? pl_arena_printf(j->a, "#SBATCH --gpus-per-node=%u\n", j->n_gpus) : "";
	const char *array = j->replicas > 1 ? pl_arena_printf(j->a, "#SBATCH --array=0-%u\n", j->replicas - 1) : "";
	return pl_arena_printf(j->a,
	                       "#!/bin/bash\n#SBATCH --job-name=%s\n#SBATCH --nodes=%u\n#SBATCH --ntasks-per-node=1\n%s"
	                       "#SBATCH --cpus-per-task=%u\n#SBATCH --mem=%lluM\n#SBATCH --output=%%x-%%j.log\n#SBATCH --signal=TERM@60\n%s"
	                       "set -euo pipefail\n",
	                       j->name, j->n_nodes, gpus ? gpus : "", j->n_gpus ? 8 : 16, (unsigned long long)(j->memory_bytes >> 20),
	                       array ? array : "");
}

static const char *several_hosts(struct pl_emit_job *j, const char *line)
{
	return pl_arena_printf(
	    j->a,
	    "mapfile -t hosts < <(scontrol show hostnames \"$SLURM_JOB_NODELIST\")\nhead=${hosts[0]}\n"
	    "srun --nodes=1 --ntasks=1 -w \"$head\" ray start --head --port=6379 --block &\nsleep 10\n"
	    "srun --nodes=%u --ntasks=%u --exclude=\"$head\" ray start --address=\"$head:6379\" --block &\nsleep 10\n"
	    "srun --overlap --nodes=1 --ntasks=1 -w \"$head\" env %s --distributed-executor-backend ray\n",
	    j->n_nodes - 1, j->n_nodes - 1, line);
}

static int emit(struct pl_arena *a, const struct pl_plan *plan, const struct pl_emit_options *o, struct pl_emit_result *ret,
                struct pl_err *err)
{
	struct pl_emit_job j;
	struct pl_argv v;
	int rc = pl_emit_begin(&j, a, plan, o, false, err);
	if (!rc && j.n_nodes > 1 && strcmp(plan->engine->id, "vllm") != 0)
		rc = pl_fail(err, PL_ERR_UNSUPPORTED, "slurm", "the plan spans %u hosts, which is written for vllm only", j.n_nodes);
	rc = rc ? rc : pl_emit_line(&j, 0, o->host ? o->host : "0.0.0.0", j.port, &v, err);
	if (rc)
		return rc;
	/* Slurm chooses the GPUs and shows only those; clients come from other hosts. */
	const char *line = pl_argv_line(a, &v), *top = header(&j);
	pl_note_add(a, &j.notes, PL_NOTE_WARNING, "the engine answers on every address of its host: set %s, or --host",
	            j.server->api_key_env ? j.server->api_key_env : pl_tr("an API key"));
	if (o->power_cap_w > 0)
		pl_note_add(a, &j.notes, PL_NOTE_INFO, "a power limit needs root: ask for it in the job's prolog (nvidia-smi -pl %.0f)", o->power_cap_w);
	const char *body = !line ? NULL : j.n_nodes > 1 ? several_hosts(&j, line) : pl_arena_printf(a, "srun env %s\n", line);
	pl_emit_file(&j, "job.sbatch", top && body ? pl_arena_printf(a, "%s%s", top, body) : NULL, true);
	return pl_emit_end(&j, ret, err);
}

const struct pl_emitter pl_emitter_slurm = {
    .id = "slurm",
    .aliases = "sbatch",
    .summary = PL_N_("Slurm batch script"),
    .emit = emit,
};
