/* Docker compose: one service a replica, a load balancer in front of several. */
#include <string.h>

#include "emit/emitters.h"
#include "emit/job.h"

/* Compose replaces $NAME in every text; a dollar of the user's is written twice. */
static json_t *text(struct pl_emit_job *j, const char *s)
{
	return json_string(pl_emit_replace(j->a, s, "$", "$$"));
}

static json_t *command(struct pl_emit_job *j, const struct pl_container *c, uint32_t from)
{
	json_t *list = json_array();
	for (uint32_t i = from; i < c->argv.n_words; i++)
		(void)json_array_append_new(list, text(j, c->argv.words[i]));
	return list;
}

static json_t *environment(struct pl_emit_job *j, const struct pl_container *c)
{
	json_t *env = json_array();
	for (uint32_t i = 0; i < c->argv.n_env; i++)
		(void)json_array_append_new(env, text(j, c->argv.env[i]));
	if (j->server->api_key_env) /* handed on where it is set outside: then clients are asked for it */
		(void)json_array_append_new(env, json_string(j->server->api_key_env));
	return env;
}

static json_t *volumes(struct pl_emit_job *j, const struct pl_container *c)
{
	json_t *list = json_array();
	for (uint32_t i = 0; i < c->n_mounts; i++)
		(void)json_array_append_new(list, json_pack("{s:s, s:o, s:s, s:b}", "type", "bind", "source", text(j, c->mounts[i].host_dir),
		                                            "target", c->mounts[i].inner_dir, "read_only", 1));
	if (c->needs_cache)
		(void)json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "type", "volume", "source", "models", "target", c->cache_dir));
	return list;
}

/* Which GPUs a service gets: by number through NVIDIA's runtime, as device files elsewhere. */
static void put_gpus(struct pl_emit_job *j, json_t *service, json_t *resources, uint32_t r)
{
	if (!j->n_gpus)
		return;
	if (!strcmp(j->backend, "cuda")) {
		json_t *ids = json_array();
		for (uint32_t i = 0; i < j->n_gpus; i++)
			(void)json_array_append_new(ids, json_sprintf("%u", j->gpus[i] + r * j->n_gpus));
		(void)json_object_set_new(resources, "reservations",
		                          json_pack("{s:[{s:s, s:o, s:[s]}]}", "devices", "driver", "nvidia", "device_ids", ids,
		                                    "capabilities", "gpu"));
		return;
	}
	json_t *files = json_array();
	if (!strcmp(j->backend, "rocm"))
		(void)json_array_append_new(files, json_string("/dev/kfd:/dev/kfd"));
	(void)json_array_append_new(files, json_string("/dev/dri:/dev/dri"));
	(void)json_object_set_new(service, "devices", files);
	(void)json_object_set_new(service, "group_add", json_pack("[s,s]", "video", "render"));
	json_t *env = json_object_get(service, "environment");
	(void)json_array_append_new(env, json_sprintf("%s=%s", pl_emit_gpu_variable(j), pl_emit_gpu_list(j, r)));
}

static json_t *service(struct pl_emit_job *j, const struct pl_container *c, uint32_t r)
{
	json_t *resources = json_pack("{s:{s:o}}", "limits", "memory", json_sprintf("%lluM", (unsigned long long)(j->memory_bytes >> 20)));
	json_t *s = json_pack("{s:o, s:[o], s:o, s:o, s:o}", "image", text(j, c->image), "entrypoint", text(j, c->argv.words[0]),
	                      "command", command(j, c, 1), "environment", environment(j, c), "volumes", volumes(j, c));
	put_gpus(j, s, resources, r);
	if (j->replicas == 1)
		(void)json_object_set_new(s, "ports", json_pack("[o]", json_sprintf("%s:%u:%u", j->host, j->port, j->server->port)));
	if (j->n_gpus > 1) /* NCCL's buffers between processes */
		(void)json_object_set_new(s, "shm_size", json_string("16gb"));
	(void)json_object_set_new(s, "ulimits", json_pack("{s:i}", "memlock", -1));
	(void)json_object_set_new(s, "deploy", json_pack("{s:o}", "resources", resources));
	(void)json_object_set_new(
	    s, "healthcheck",
	    json_pack("{s:[s,s,s,o], s:s, s:s, s:i, s:o}", "test", "CMD", "curl", "-fsS",
	              json_sprintf("http://127.0.0.1:%u%s", j->server->port, j->server->health_path), "interval", "10s", "timeout", "5s",
	              "retries", 6, "start_period", json_sprintf("%llus", (unsigned long long)j->start_s)));
	if (j->o->power_cap_w > 0 && !strcmp(j->backend, "cuda"))
		(void)json_object_set_new(
		    s, "depends_on", json_pack("{s:{s:s}}", "power-cap", "condition", "service_completed_successfully"));
	(void)json_object_set_new(s, "restart", json_string("unless-stopped"));
	return s;
}

/* Sets the limit once, as root on the host's driver, before an engine starts. */
static json_t *power_cap(struct pl_emit_job *j, const struct pl_container *c)
{
	json_t *ids = json_array();
	const char *list = "";
	for (uint32_t r = 0; r < j->replicas; r++)
		list = pl_arena_printf(j->a, "%s%s%s", list, r ? "," : "", pl_emit_gpu_list(j, r));
	(void)json_array_append_new(ids, json_string("gpu"));
	return json_pack("{s:o, s:[s], s:[s,s,s,o], s:b, s:{s:{s:{s:[{s:s, s:s, s:o}]}}}, s:s}", "image", text(j, c->image), "entrypoint",
	                 "nvidia-smi", "command", "-i", list, "-pl", json_sprintf("%.0f", j->o->power_cap_w), "privileged", 1, "deploy",
	                 "resources", "reservations", "devices", "driver", "nvidia", "count", "all", "capabilities", ids, "restart", "no");
}

static json_t *balancer(struct pl_emit_job *j, json_t *names)
{
	json_t *depends = json_object();
	const char **upstreams = PL_NEW_N(j->a, const char *, j->replicas);
	for (uint32_t r = 0; upstreams && r < j->replicas; r++) {
		const char *name = json_string_value(json_array_get(names, r));
		upstreams[r] = pl_arena_printf(j->a, "%s:%u", name, j->server->port);
		(void)json_object_set_new(depends, name, json_pack("{s:s}", "condition", "service_healthy"));
	}
	if (upstreams)
		pl_emit_file(j, "nginx.conf", pl_emit_balancer(j, upstreams, "80"), false);
	return json_pack("{s:s, s:[o], s:[s], s:o, s:s}", "image", PL_EMIT_BALANCER_IMAGE, "ports",
	                 json_sprintf("%s:%u:80", j->host, j->port), "volumes", "./nginx.conf:/etc/nginx/nginx.conf:ro", "depends_on", depends,
	                 "restart", "unless-stopped");
}

static int emit(struct pl_arena *a, const struct pl_plan *plan, const struct pl_emit_options *o, struct pl_emit_result *ret,
                struct pl_err *err)
{
	struct pl_emit_job j;
	struct pl_container c;
	int rc = pl_emit_begin(&j, a, plan, o, true, err);
	if (!rc && j.n_nodes > 1)
		rc = pl_fail(err, PL_ERR_UNSUPPORTED, "compose", "the plan spans %u hosts, compose starts on one: take lws, slurm or ray", j.n_nodes);
	if (!rc)
		rc = pl_emit_container(&j, j.server->port, &c, err);
	if (rc)
		return rc;
	json_t *services = json_object(), *names = json_array(), *root = json_pack("{s:O}", "services", services);
	for (uint32_t r = 0; r < j.replicas; r++) {
		const char *name = j.replicas > 1 ? pl_arena_printf(a, "%s-%u", j.name, r) : j.name;
		(void)json_object_set_new(services, name, service(&j, &c, r));
		(void)json_array_append_new(names, json_string(name));
	}
	pl_emit_file(&j, "compose.yaml", NULL, false);
	if (j.replicas > 1)
		(void)json_object_set_new(services, "balancer", balancer(&j, names));
	if (o->power_cap_w > 0 && !strcmp(j.backend, "cuda"))
		(void)json_object_set_new(services, "power-cap", power_cap(&j, &c));
	if (c.needs_cache)
		(void)json_object_set_new(root, "volumes", json_pack("{s:{}}", "models"));
	j.files[0].text = pl_emit_yaml(a, &root, 1);
	json_decref(services);
	json_decref(names);
	return pl_emit_end(&j, ret, err);
}

const struct pl_emitter pl_emitter_compose = {
    .id = "compose",
    .aliases = "docker docker-compose podman",
    .summary = PL_N_("docker compose"),
    .one_host = true,
    .emit = emit,
};
