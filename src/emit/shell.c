/* A POSIX shell script: the replicas in the background, ended together. */
#include <string.h>

#include "emit/emitters.h"
#include "emit/job.h"
#include "engine/argv.h"

static const char *one(struct pl_emit_job *j, uint32_t r, struct pl_err *err)
{
	struct pl_argv v;
	const char *host = j->replicas > 1 ? "127.0.0.1" : j->host, *variable = pl_emit_gpu_variable(j);
	if (pl_emit_line(j, r, host, j->port, &v, err))
		return NULL;
	const char *line = pl_argv_line(j->a, &v);
	return variable && line ? pl_arena_printf(j->a, "%s=%s %s", variable, pl_emit_gpu_list(j, r), line) : line;
}

static const char *power(struct pl_emit_job *j)
{
	const char *text = "";
	for (uint32_t r = 0; r < j->replicas && text && j->o->power_cap_w > 0 && !strcmp(j->backend, "cuda"); r++)
		text = pl_arena_printf(j->a, "%snvidia-smi -i %s -pl %.0f # needs root\n", text, pl_emit_gpu_list(j, r), j->o->power_cap_w);
	return text;
}

static int emit(struct pl_arena *a, const struct pl_plan *plan, const struct pl_emit_options *o, struct pl_emit_result *ret,
                struct pl_err *err)
{
	struct pl_emit_job j;
	int rc = pl_emit_begin(&j, a, plan, o, true, err);
	if (!rc && j.n_nodes > 1)
		rc = pl_fail(err, PL_ERR_UNSUPPORTED, "shell", "the plan spans %u hosts, a script starts on one: take lws, slurm or ray", j.n_nodes);
	const char *text = rc ? NULL : pl_arena_printf(a, "#!/bin/sh\nset -eu\n%s", power(&j));
	const char **upstreams = PL_NEW_N(a, const char *, j.replicas ? j.replicas : 1);
	if (rc)
		return rc;
	if (j.replicas > 1)
		text = pl_arena_printf(a, "%spids=\ntrap 'kill $pids 2>/dev/null || :' EXIT\ntrap 'exit 143' INT TERM\n", text ? text : "");
	for (uint32_t r = 0; r < j.replicas && text; r++) {
		const char *line = one(&j, r, err);
		text = !line ? NULL : pl_arena_printf(a, j.replicas > 1 ? "%s%s &\npids=\"$pids $!\"\n" : "%sexec env %s\n", text, line);
		if (upstreams)
			upstreams[r] = pl_arena_printf(a, "127.0.0.1:%u", j.port + r);
	}
	pl_emit_file(&j, "start.sh", text && j.replicas > 1 ? pl_arena_printf(a, "%swait\n", text) : text, true);
	if (j.replicas > 1 && upstreams)
		pl_emit_file(&j, "nginx.conf", pl_emit_balancer(&j, upstreams, pl_arena_printf(a, "%s:%u", j.host, j.port + j.replicas)), false);
	return pl_emit_end(&j, ret, err);
}

const struct pl_emitter pl_emitter_shell = {
    .id = "shell",
    .aliases = "sh bash script",
    .summary = PL_N_("plain shell script"),
    .one_host = true,
    .emit = emit,
};
