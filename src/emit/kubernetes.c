/* Kubernetes: a Deployment with its Service, or a LeaderWorkerSet where one replica spans several hosts. */
#include <string.h>

#include "emit/emitters.h"
#include "emit/job.h"
#include "engine/argv.h"

enum { RAY_PORT = 6379, SGLANG_PORT = 20000 };

/* $(NAME) is replaced in commands and values; a dollar written twice is one. */
static json_t *text(struct pl_emit_job *j, const char *s)
{
	return json_string(pl_emit_replace(j->a, s, "$(", "$$("));
}

static json_t *words(struct pl_emit_job *j, const struct pl_argv *v)
{
	json_t *list = json_array();
	for (uint32_t i = 0; i < v->n_words; i++)
		(void)json_array_append_new(list, text(j, v->words[i]));
	return list;
}

static json_t *environment(struct pl_emit_job *j, const struct pl_container *c)
{
	json_t *env = json_array();
	for (uint32_t i = 0; i < c->argv.n_env; i++) {
		const char *eq = strchr(c->argv.env[i], '=');
		if (eq)
			(void)json_array_append_new(env, json_pack("{s:o, s:o}", "name", json_stringn(c->argv.env[i], (size_t)(eq - c->argv.env[i])),
			                                           "value", text(j, eq + 1)));
	}
	if (j->server->api_key_env) /* kubectl create secret generic NAME-api-key --from-literal=key=… asks clients for it */
		(void)json_array_append_new(env, json_pack("{s:s, s:{s:{s:o, s:s, s:b}}}", "name", j->server->api_key_env, "valueFrom",
		                                           "secretKeyRef", "name", json_sprintf("%s-api-key", j->name), "key", "key",
		                                           "optional", 1));
	return env;
}

static json_t *memory(uint64_t bytes)
{
	return json_sprintf("%lluMi", (unsigned long long)(bytes >> 20) + 1);
}

static json_t *resources(struct pl_emit_job *j)
{
	json_t *limits = json_pack("{s:o}", "memory", memory(j->memory_bytes));
	json_t *requests = json_pack("{s:s, s:o}", "cpu", j->n_gpus ? "4" : "8", "memory", memory(j->plan->layout.host.rest_bytes));
	if (j->n_gpus) {
		const char *key = !strcmp(j->backend, "rocm") ? "amd.com/gpu" : !strcmp(j->backend, "intel") ? "gpu.intel.com/xe" : "nvidia.com/gpu";
		(void)json_object_set_new(limits, key, json_sprintf("%u", j->n_gpus));
		(void)json_object_set_new(requests, key, json_sprintf("%u", j->n_gpus));
	}
	return json_pack("{s:o, s:o}", "requests", requests, "limits", limits);
}

static json_t *mounts(struct pl_emit_job *j, const struct pl_container *c)
{
	json_t *list = json_pack("[{s:s, s:s}]", "name", "shm", "mountPath", "/dev/shm");
	(void)j;
	for (uint32_t i = 0; i < c->n_mounts; i++)
		(void)json_array_append_new(list, json_pack("{s:o, s:s, s:b}", "name", json_sprintf("models-%u", i), "mountPath",
		                                            c->mounts[i].inner_dir, "readOnly", 1));
	if (c->needs_cache)
		(void)json_array_append_new(list, json_pack("{s:s, s:s}", "name", "cache", "mountPath", c->cache_dir));
	return list;
}

static json_t *volumes(struct pl_emit_job *j, const struct pl_container *c)
{
	json_t *list = json_pack("[{s:s, s:{s:s, s:s}}]", "name", "shm", "emptyDir", "medium", "Memory", "sizeLimit", j->n_gpus > 1 ? "16Gi" : "1Gi");
	for (uint32_t i = 0; i < c->n_mounts; i++)
		(void)json_array_append_new(list, json_pack("{s:o, s:{s:s, s:s}}", "name", json_sprintf("models-%u", i), "hostPath", "path",
		                                            c->mounts[i].host_dir, "type", "Directory"));
	if (c->needs_cache)
		(void)json_array_append_new(list, json_pack("{s:s, s:{s:o}}", "name", "cache", "persistentVolumeClaim", "claimName",
		                                            json_sprintf("%s-cache", j->name)));
	return list;
}

static json_t *probe(struct pl_emit_job *j, int period, uint64_t failures)
{
	return json_pack("{s:{s:s, s:s}, s:i, s:i, s:I}", "httpGet", "path", j->server->health_path, "port", "http", "periodSeconds", period,
	                 "timeoutSeconds", 5, "failureThreshold", (json_int_t)failures);
}

static json_t *container(struct pl_emit_job *j, const struct pl_container *c, json_t *command, bool serves)
{
	json_t *o = json_pack("{s:s, s:o, s:o, s:o, s:o, s:o}", "name", "engine", "image", text(j, c->image), "command", command, "env",
	                      environment(j, c), "resources", resources(j), "volumeMounts", mounts(j, c));
	if (serves) {
		(void)json_object_set_new(o, "ports", json_pack("[{s:s, s:i}]", "name", "http", "containerPort", j->server->port));
		(void)json_object_set_new(o, "startupProbe", probe(j, 10, j->start_s / 10 + 1));
		(void)json_object_set_new(o, "readinessProbe", probe(j, 5, 3));
		(void)json_object_set_new(o, "livenessProbe", probe(j, 20, 6));
	}
	return o;
}

/* The driver's limit belongs to the host: set by a privileged container before the engine starts. */
static json_t *power_cap(struct pl_emit_job *j, const struct pl_container *c)
{
	return json_pack("[{s:s, s:o, s:[s,s,o], s:{s:b}, s:{s:{s:o}}}]", "name", "power-cap", "image", text(j, c->image), "command", "nvidia-smi",
	                 "-pl", json_sprintf("%.0f", j->o->power_cap_w), "securityContext", "privileged", 1, "resources", "limits",
	                 "nvidia.com/gpu", json_sprintf("%u", j->n_gpus));
}

static json_t *labels(const struct pl_emit_job *j)
{
	return json_pack("{s:s}", "app.kubernetes.io/name", j->name);
}

static json_t *pod(struct pl_emit_job *j, const struct pl_container *c, json_t *command, bool serves)
{
	json_t *spec = json_pack("{s:[o], s:o, s:b, s:i}", "containers", container(j, c, command, serves), "volumes", volumes(j, c),
	                         "automountServiceAccountToken", 0, "terminationGracePeriodSeconds", 60);
	if (j->o->power_cap_w > 0 && !strcmp(j->backend, "cuda") && j->n_gpus)
		(void)json_object_set_new(spec, "initContainers", power_cap(j, c));
	return json_pack("{s:{s:o}, s:o}", "metadata", "labels", labels(j), "spec", spec);
}

static json_t *service(struct pl_emit_job *j, bool leaders)
{
	json_t *selector = labels(j);
	if (leaders)
		(void)json_object_set_new(selector, "leaderworkerset.sigs.k8s.io/worker-index", json_string("0"));
	return json_pack("{s:s, s:s, s:{s:s, s:o}, s:{s:s, s:o, s:[{s:s, s:i, s:s}]}}", "apiVersion", "v1", "kind", "Service", "metadata", "name",
	                 j->name, "labels", labels(j), "spec", "type", "ClusterIP", "selector", selector, "ports", "name", "http", "port",
	                 j->port, "targetPort", "http");
}

/* Room for the model and a fifth: downloads are written beside before they are renamed. */
static json_t *claim(struct pl_emit_job *j)
{
	uint64_t gib = (j->plan->model->weight_bytes + j->plan->model->weight_bytes / 5) / (1u << 30) + 10;
	bool many = j->replicas > 1 || j->n_nodes > 1;
	return json_pack("{s:s, s:s, s:{s:o, s:o}, s:{s:[s], s:{s:{s:o}}}}", "apiVersion", "v1", "kind", "PersistentVolumeClaim", "metadata",
	                 "name", json_sprintf("%s-cache", j->name), "labels", labels(j), "spec", "accessModes",
	                 many ? "ReadWriteMany" : "ReadWriteOnce", "resources", "requests", "storage",
	                 json_sprintf("%lluGi", (unsigned long long)gib));
}

static json_t *deployment(struct pl_emit_job *j, const struct pl_container *c)
{
	/* Recreate: a second copy beside the first would wait for its GPUs for ever. */
	return json_pack("{s:s, s:s, s:{s:s, s:o}, s:{s:i, s:{s:s}, s:{s:o}, s:o}}", "apiVersion", "apps/v1", "kind", "Deployment", "metadata",
	                 "name", j->name, "labels", labels(j), "spec", "replicas", j->replicas, "strategy", "type", "Recreate", "selector",
	                 "matchLabels", labels(j), "template", pod(j, c, words(j, &c->argv), true));
}

static int finish(struct pl_emit_job *j, json_t **documents, uint32_t n, const char *file, struct pl_emit_result *ret,
                  struct pl_err *err)
{
	pl_emit_file(j, file, pl_emit_yaml(j->a, documents, n), false);
	if (j->server->api_key_env)
		pl_note_add(j->a, &j->notes, PL_NOTE_INFO, "to ask clients for a key: kubectl create secret generic %s-api-key --from-literal=key=…",
		            j->name);
	return pl_emit_end(j, ret, err);
}

static int emit_deployment(struct pl_arena *a, const struct pl_plan *plan, const struct pl_emit_options *o, struct pl_emit_result *ret,
                           struct pl_err *err)
{
	struct pl_emit_job j;
	struct pl_container c;
	json_t *documents[3];
	uint32_t n = 0;
	int rc = pl_emit_begin(&j, a, plan, o, false, err);
	if (!rc && j.n_nodes > 1)
		rc = pl_fail(err, PL_ERR_UNSUPPORTED, "kubernetes", "the plan spans %u hosts, a pod runs on one: take lws", j.n_nodes);
	if (!rc)
		rc = pl_emit_container(&j, j.server->port, &c, err);
	if (rc)
		return rc;
	documents[n++] = deployment(&j, &c);
	documents[n++] = service(&j, false);
	if (c.needs_cache)
		documents[n++] = claim(&j);
	return finish(&j, documents, n, "kubernetes.yaml", ret, err);
}

/* ---- several hosts ----------------------------------------------------------------------------------------------- */

/* One shell word after another, quoted, so that what the user named never becomes a command. */
static json_t *shell(struct pl_emit_job *j, const char *before, const struct pl_argv *v, const char *after)
{
	const char *line = v ? pl_argv_line(j->a, &(struct pl_argv){.words = v->words, .n_words = v->n_words}) : "";
	return json_pack("[s,s,o]", "/bin/sh", "-c", text(j, pl_arena_printf(j->a, "%s%s%s", before, line ? line : "", after)));
}

static int group_commands(struct pl_emit_job *j, const struct pl_container *c, json_t **ret_leader, json_t **ret_worker, struct pl_err *err)
{
	const char *engine = j->plan->engine->id;
	if (!strcmp(engine, "vllm")) {
		*ret_leader = shell(j, pl_arena_printf(j->a, "ray start --head --port=%d && exec ", RAY_PORT), &c->argv,
		                    " --distributed-executor-backend ray");
		*ret_worker = shell(j, pl_arena_printf(j->a, "until ray start --address=\"$LWS_LEADER_ADDRESS:%d\" --block; do sleep 5; done", RAY_PORT),
		                    NULL, "");
		return 0;
	}
	if (!strcmp(engine, "sglang")) {
		const char *group = pl_arena_printf(j->a, " --nnodes \"$LWS_GROUP_SIZE\" --node-rank \"$LWS_WORKER_INDEX\" --dist-init-addr \"$LWS_LEADER_ADDRESS:%d\"",
		                                    SGLANG_PORT);
		*ret_leader = shell(j, "exec ", &c->argv, group ? group : "");
		*ret_worker = shell(j, "exec ", &c->argv, group ? group : "");
		return 0;
	}
	return pl_fail(err, PL_ERR_UNSUPPORTED, engine, "no group of pods is known for this engine: vllm and sglang span several hosts");
}

static int emit_lws(struct pl_arena *a, const struct pl_plan *plan, const struct pl_emit_options *o, struct pl_emit_result *ret,
                    struct pl_err *err)
{
	struct pl_emit_job j;
	struct pl_container c;
	json_t *documents[3], *leader = NULL, *worker = NULL;
	uint32_t n = 0;
	int rc = pl_emit_begin(&j, a, plan, o, false, err);
	rc = rc ? rc : pl_emit_container(&j, j.server->port, &c, err);
	rc = rc ? rc : group_commands(&j, &c, &leader, &worker, err);
	if (rc)
		return rc;
	documents[n++] = json_pack("{s:s, s:s, s:{s:s, s:o}, s:{s:i, s:{s:i, s:s, s:o, s:o}}}", "apiVersion", "leaderworkerset.x-k8s.io/v1",
	                           "kind", "LeaderWorkerSet", "metadata", "name", j.name, "labels", labels(&j), "spec", "replicas", j.replicas,
	                           "leaderWorkerTemplate", "size", j.n_nodes, "restartPolicy", "RecreateGroupOnPodRestart", "leaderTemplate",
	                           pod(&j, &c, leader, true), "workerTemplate", pod(&j, &c, worker, false));
	documents[n++] = service(&j, true);
	if (c.needs_cache)
		documents[n++] = claim(&j);
	return finish(&j, documents, n, "leaderworkerset.yaml", ret, err);
}

const struct pl_emitter pl_emitter_kubernetes = {
    .id = "kubernetes",
    .aliases = "k8s deployment",
    .summary = PL_N_("Kubernetes Deployment and Service"),
    .emit = emit_deployment,
};

const struct pl_emitter pl_emitter_lws = {
    .id = "lws",
    .aliases = "leaderworkerset",
    .summary = PL_N_("Kubernetes LeaderWorkerSet, for plans over several hosts"),
    .emit = emit_lws,
};
