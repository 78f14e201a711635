/* Containers, Python packages, engines, and the variables that hide GPUs. */
#include <stdlib.h>
#include <string.h>

#include "probe/doctor.h"

enum { LIMIT_S = 10 };

static void check_variables(struct pl_doctor_job *j)
{
	const char *visible = pl_facts_variable(j->f, "CUDA_VISIBLE_DEVICES"), *order = pl_facts_variable(j->f, "CUDA_DEVICE_ORDER");
	const struct pl_machine *m = j->req->machine;
	bool unlike = false;
	for (uint32_t i = 1; i < m->n_devices; i++)
		unlike |= strcmp(m->devices[i].name, m->devices[0].name) != 0;
	if (visible)
		pl_find(j, "env.visible", NULL, PL_FINDING_WARNING, pl_say(j, "CUDA_VISIBLE_DEVICES is '%s'", visible),
		        pl_say(j, "engines see only these GPUs, numbered from 0"), pl_say(j, "unset CUDA_VISIBLE_DEVICES"));
	if (unlike && m->devices[0].vendor == PL_VENDOR_NVIDIA && (!order || strcmp(order, "PCI_BUS_ID") != 0))
		pl_find(j, "env.order", NULL, PL_FINDING_INFO, pl_say(j, "unlike GPUs, and CUDA numbers the fastest first"),
		        pl_say(j, "the plan and nvidia-smi number them by their place on the bus: shares would go to the wrong cards"),
		        pl_say(j, "export CUDA_DEVICE_ORDER=PCI_BUS_ID"));
}

static void check_containers(struct pl_doctor_job *j)
{
	static const char *const docker_argv[] = {"docker", "--version", NULL}, *const podman_argv[] = {"podman", "--version", NULL};
	static const char *const toolkit_argv[] = {"nvidia-ctk", "--version", NULL};
	const char *docker = pl_facts_run(j->f, j->a, "docker", docker_argv, LIMIT_S);
	const char *podman = docker ? NULL : pl_facts_run(j->f, j->a, "podman", podman_argv, LIMIT_S);
	bool nvidia = false;
	for (uint32_t i = 0; i < j->req->machine->n_devices; i++)
		nvidia |= j->req->machine->devices[i].vendor == PL_VENDOR_NVIDIA;
	if (!docker && !podman)
		return;
	pl_find(j, "container.runtime", NULL, PL_FINDING_OK, docker ? docker : podman, NULL, NULL);
	const char *toolkit = nvidia ? pl_facts_run(j->f, j->a, "nvidia-ctk", toolkit_argv, LIMIT_S) : NULL;
	if (nvidia && !toolkit)
		pl_find(j, "container.toolkit", NULL, PL_FINDING_WARNING, pl_say(j, "the NVIDIA container toolkit is not installed"),
		        pl_say(j, "containers cannot use the GPUs"),
		        pl_say(j, "sudo apt-get install nvidia-container-toolkit && sudo nvidia-ctk runtime configure --runtime=%s && sudo systemctl restart %s",
		               docker ? "docker" : "podman", docker ? "docker" : "podman"));
}

/* Versions by their metadata: importing torch would take seconds. */
static void check_python(struct pl_doctor_job *j)
{
	static const char script[] =
	    "import importlib.metadata as m\n"
	    "for p in 'torch vllm sglang tensorrt-llm transformers accelerate flash-attn'.split():\n"
	    "    try: print(p, m.version(p))\n"
	    "    except m.PackageNotFoundError: pass\n";
	static const char *const argv[] = {"python3", "-c", script, NULL};
	const char *list = pl_facts_run(j->f, j->a, "python-packages", argv, LIMIT_S), *engine = pl_doctor_engine(j);
	if (list && *list) {
		const char *line = "";
		for (const char *at = list; *at && line; at += strcspn(at, "\n"), at += *at == '\n') {
			const char *one = pl_arena_strndup(j->a, at, strcspn(at, "\n"));
			line = !one || !*line ? one : pl_arena_printf(j->a, pl_tr("%s, %s"), line, one);
		}
		pl_find(j, "python.packages", NULL, PL_FINDING_INFO, pl_say(j, "Python has %s", line ? line : ""), NULL, NULL);
	}
	bool wants = !strcmp(engine, "vllm") || !strcmp(engine, "sglang");
	if (wants && (!list || !strstr(list, engine)))
		pl_find(j, "engine.missing", NULL, PL_FINDING_WARNING, pl_say(j, "%s is not installed for this python3", engine),
		        pl_say(j, "'plimsoll up' then starts it in a container, where a runtime is there"), pl_say(j, "uv pip install %s", engine));
}

static void check_llama(struct pl_doctor_job *j)
{
	static const char *const argv[] = {"sh", "-c", "llama-server --version 2>&1", NULL};
	if (strcmp(pl_doctor_engine(j), "llama.cpp") != 0)
		return;
	const char *version = pl_facts_run(j->f, j->a, "llama-server", argv, LIMIT_S);
	if (!version) {
		pl_find(j, "engine.missing", NULL, PL_FINDING_WARNING, pl_say(j, "llama-server is not on the PATH"), NULL,
		        pl_say(j, "install llama.cpp (Debian: llama.cpp-tools; Homebrew: llama.cpp), or use its container"));
		return;
	}
	const char *build = strstr(version, "version");
	char *one = pl_arena_strndup(j->a, build ? build : version, strcspn(build ? build : version, "\n"));
	pl_find(j, "engine.version", NULL, PL_FINDING_OK, pl_say(j, "llama-server: %s (planned by the rules of %s)", one ? one : "", pl_engines()[0]->version), NULL, NULL);
}

void pl_doctor_software(struct pl_doctor_job *j)
{
	check_variables(j);
	check_containers(j);
	check_python(j);
	check_llama(j);
}
