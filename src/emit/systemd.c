/* A systemd unit in a sandbox: one instance a replica. */
#include <stdio.h>
#include <string.h>

#include "emit/emitters.h"
#include "emit/job.h"

/* One word of Exec…= or Environment=: in quotes, C escapes, % and $ written twice (systemd.service(5)). */
static const char *quoted(struct pl_arena *a, const char *word, bool exec)
{
	size_t len = strlen(word);
	char *out = pl_arena_alloc(a, len * 4 + 3), *to = out;
	if (!out)
		return NULL;
	*to++ = '"';
	for (const unsigned char *p = (const unsigned char *)word; *p; p++) {
		if (*p == '"' || *p == '\\') {
			*to++ = '\\';
			*to++ = (char)*p;
		} else if (*p == '%' || (*p == '$' && exec)) {
			*to++ = (char)*p;
			*to++ = (char)*p;
		} else if (*p < 32 || *p == 127) {
			to += sprintf(to, "\\x%02x", *p);
		} else {
			*to++ = (char)*p;
		}
	}
	*to++ = '"';
	*to = '\0';
	return out;
}

static bool is_bare(const char *word)
{
	return *word && !word[strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.,:/=+-")];
}

static const char *exec_line(struct pl_emit_job *j, const struct pl_argv *v)
{
	/* the program is found through PATH unless its place is given */
	const char *line = v->words[0][0] == '/' ? "" : "/usr/bin/env ";
	for (uint32_t i = 0; i < v->n_words && line; i++) {
		const char *w = is_bare(v->words[i]) ? v->words[i] : quoted(j->a, v->words[i], true);
		line = w ? pl_arena_printf(j->a, "%s%s%s", line, i ? " " : "", w) : NULL;
	}
	return line;
}

static const char *environment(struct pl_emit_job *j, const struct pl_argv *v, uint32_t r)
{
	const char *text = "";
	for (uint32_t i = 0; i < v->n_env && text; i++) {
		const char *w = quoted(j->a, v->env[i], false);
		text = w ? pl_arena_printf(j->a, "%sEnvironment=%s\n", text, w) : NULL;
	}
	if (text && j->n_gpus)
		text = pl_arena_printf(j->a, "%sEnvironment=%s=%s\n", text, pl_emit_gpu_variable(j), pl_emit_gpu_list(j, r));
	return text;
}

static const char *devices(const struct pl_emit_job *j)
{
	if (!j->n_gpus)
		return "PrivateDevices=yes\n";
	if (!strcmp(j->backend, "cuda"))
		return "DevicePolicy=closed\nDeviceAllow=char-nvidia-frontend rw\nDeviceAllow=char-nvidia rw\n"
		       "DeviceAllow=char-nvidia-uvm rw\nDeviceAllow=char-nvidia-caps rw\n";
	return "DevicePolicy=closed\nDeviceAllow=/dev/kfd rw\nDeviceAllow=char-drm rw\nSupplementaryGroups=video render\n";
}

/* Folders of model files stay visible when everything else of /home is hidden. */
static const char *model_folders(struct pl_emit_job *j, const struct pl_argv *v)
{
	const char *text = "";
	for (uint32_t i = 0; i < v->n_words && text; i++) {
		const char *slash = strrchr(v->words[i], '/');
		if (i && v->words[i][0] == '/' && slash > v->words[i]) {
			const char *dir = pl_arena_strndup(j->a, v->words[i], (size_t)(slash - v->words[i]));
			text = dir ? pl_arena_printf(j->a, "%sBindReadOnlyPaths=%s\n", text, is_bare(dir) ? dir : quoted(j->a, dir, false)) : NULL;
		}
	}
	return text;
}

static const char *unit(struct pl_emit_job *j, uint32_t r, struct pl_err *err)
{
	struct pl_argv v;
	const char *host = j->replicas > 1 ? "127.0.0.1" : j->host;
	if (pl_emit_line(j, r, host, j->port, &v, err))
		return NULL;
	const char *cap = j->o->power_cap_w > 0 && !strcmp(j->backend, "cuda")
	                      ? pl_arena_printf(j->a, "ExecStartPre=+/usr/bin/env nvidia-smi -i %s -pl %.0f\n", pl_emit_gpu_list(j, r),
	                                        j->o->power_cap_w)
	                      : "";
	return pl_arena_printf(
	    j->a,
	    "[Unit]\nDescription=%s, planned by plimsoll\nAfter=network-online.target\nWants=network-online.target\n\n"
	    "[Service]\nType=exec\n%s%sExecStart=%s\n"
	    "Restart=on-failure\nRestartSec=10\nTimeoutStartSec=%llu\nTimeoutStopSec=60\nOOMScoreAdjust=200\n"
	    "MemoryMax=%lluM\nLimitMEMLOCK=%s\nLimitNOFILE=65536\n\n"
	    "DynamicUser=yes\nCacheDirectory=%s\nEnvironment=HOME=%%C/%s XDG_CACHE_HOME=%%C/%s\n%s"
	    "ProtectSystem=strict\nProtectHome=tmpfs\nPrivateTmp=yes\n%s"
	    "NoNewPrivileges=yes\nProtectClock=yes\nProtectHostname=yes\nProtectKernelLogs=yes\nProtectKernelModules=yes\n"
	    "ProtectControlGroups=yes\nRestrictSUIDSGID=yes\nRestrictRealtime=yes\nRestrictNamespaces=yes\nLockPersonality=yes\n"
	    "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK\nSystemCallArchitectures=native\nCapabilityBoundingSet=\n\n"
	    "[Install]\nWantedBy=multi-user.target\n",
	    j->name, environment(j, &v, r), cap, exec_line(j, &v), (unsigned long long)j->start_s,
	    (unsigned long long)(j->memory_bytes >> 20), j->plan->params.mlock ? "infinity" : "64M", j->name, j->name, j->name,
	    model_folders(j, &v), devices(j));
}

static int emit(struct pl_arena *a, const struct pl_plan *plan, const struct pl_emit_options *o, struct pl_emit_result *ret,
                struct pl_err *err)
{
	struct pl_emit_job j;
	int rc = pl_emit_begin(&j, a, plan, o, true, err);
	if (!rc && j.n_nodes > 1)
		rc = pl_fail(err, PL_ERR_UNSUPPORTED, "systemd", "the plan spans %u hosts, a unit starts on one: take lws, slurm or ray", j.n_nodes);
	if (rc)
		return rc;
	const char **upstreams = PL_NEW_N(a, const char *, j.replicas);
	for (uint32_t r = 0; r < j.replicas && upstreams; r++) {
		const char *name = j.replicas > 1 ? pl_arena_printf(a, "%s-%u.service", j.name, r) : pl_arena_printf(a, "%s.service", j.name);
		pl_emit_file(&j, name, unit(&j, r, err), false);
		upstreams[r] = pl_arena_printf(a, "127.0.0.1:%u", j.port + r);
	}
	if (j.replicas > 1 && upstreams)
		pl_emit_file(&j, "nginx.conf", pl_emit_balancer(&j, upstreams, pl_arena_printf(a, "%s:%u", j.host, j.port + j.replicas)), false);
	return pl_emit_end(&j, ret, err);
}

const struct pl_emitter pl_emitter_systemd = {
    .id = "systemd",
    .aliases = "unit service",
    .summary = PL_N_("systemd unit in a sandbox"),
    .one_host = true,
    .emit = emit,
};
