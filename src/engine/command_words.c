/* What a pasted line runs: through NAME=value words, env, sudo, docker run, python -m, to the program of an engine. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/command.h"

static const struct pl_program *const *tables(void)
{
	static const struct pl_program *const all[] = {pl_programs_llamacpp, pl_programs_vllm, pl_programs_sglang, pl_programs_trtllm,
	                                               pl_programs_ollama, NULL};
	return all;
}

bool pl_flag_in(const char *list, const char *word, size_t len)
{
	for (const char *p = list; len && p && *p; p += strspn(p, " |")) {
		size_t n = strcspn(p, " |");
		if (n == len && !memcmp(p, word, n))
			return true;
		p += n;
	}
	return false;
}

/* "/usr/bin/llama-server.exe" is llama-server. */
static const char *base_name(const char *word, size_t *ret_len)
{
	const char *slash = strrchr(word, '/'), *back = strrchr(word, '\\');
	const char *base = slash && slash > back ? slash + 1 : back ? back + 1 : slash ? slash + 1 : word;
	*ret_len = strlen(base);
	if (*ret_len > 4 && !strcmp(base + *ret_len - 4, ".exe"))
		*ret_len -= 4;
	return base;
}

/* The program that word (and, where it selects, the next one) names. used: how many words that took. */
static const struct pl_program *program_of(const char *const *w, uint32_t n, uint32_t *used)
{
	size_t len;
	const char *base = base_name(w[0], &len);
	for (const struct pl_program *const *t = tables(); *t; t++)
		for (const struct pl_program *p = *t; p->names; p++) {
			if (!pl_flag_in(p->names, base, len))
				continue;
			if (p->sub && !(n > 1 && pl_flag_in(p->sub, w[1], strlen(w[1]))))
				continue;
			*used = p->sub ? 2 : 1;
			return p;
		}
	return NULL;
}

static const struct pl_program *module_of(const char *name)
{
	for (const struct pl_program *const *t = tables(); *t; t++)
		for (const struct pl_program *p = *t; p->names; p++)
			if (pl_flag_in(p->modules, name, strlen(name)))
				return p;
	return NULL;
}

const char *pl_command_program(uint32_t i)
{
	for (const struct pl_program *const *t = tables(); *t; t++)
		for (const struct pl_program *p = *t; p->names; p++)
			if (!i--)
				return p->names;
	return NULL;
}

uint32_t pl_command_flags(const char *program, enum pl_setting_effect effect)
{
	uint32_t n = 0;
	for (const struct pl_program *const *t = tables(); *t; t++)
		for (const struct pl_program *p = *t; p->names; p++)
			if (!strcmp(p->names, program))
				for (uint32_t i = 0; i < p->n_flags; i++)
					n += (p->flags[i].programs & p->bit) && effect == (p->flags[i].action ? PL_SETTING_READ : PL_SETTING_HARMLESS);
	return n;
}

/* ---- layers around it -------------------------------------------------------------------------------------------- */

struct peel {
	struct pl_arena *a;
	const char *const *w;
	uint32_t n;
	struct pl_unwrapped *out;
};

static void drop(struct peel *p, uint32_t n)
{
	n = n < p->n ? n : p->n;
	p->w += n;
	p->n -= n;
}

static bool is_assignment(const char *word)
{
	size_t n = strspn(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");
	return n && word[n] == '=' && (*word < '0' || *word > '9');
}

static void add_env(struct peel *p, const char *word)
{
	p->out->env = pl_arena_grow(p->a, p->out->env, p->out->n_env, p->out->n_env + 1, sizeof *p->out->env);
	if (p->out->env)
		p->out->env[p->out->n_env++] = word;
	else
		p->out->n_env = 0;
}

static void assignments(struct peel *p)
{
	for (; p->n && is_assignment(p->w[0]); drop(p, 1))
		add_env(p, p->w[0]);
}

/* Options of docker run (podman run) that take a word, from its reference page; every other one stands alone. */
static const char docker_values[] =
    "-a --attach --add-host --annotation --blkio-weight --blkio-weight-device --cap-add --cap-drop --cgroup-parent --cgroupns --cidfile "
    "--cpu-period --cpu-quota --cpu-rt-period --cpu-rt-runtime -c --cpu-shares --cpus --cpuset-cpus --cpuset-mems --detach-keys --device "
    "--device-cgroup-rule --device-read-bps --device-read-iops --device-write-bps --device-write-iops --dns --dns-option --dns-search "
    "--domainname --entrypoint -e --env --env-file --expose --gpus --group-add --health-cmd --health-interval --health-retries "
    "--health-start-interval --health-start-period --health-timeout -h --hostname --ip --ip6 --ipc --isolation --kernel-memory -l --label "
    "--label-file --link --link-local-ip --log-driver --log-opt --mac-address -m --memory --memory-reservation --memory-swap "
    "--memory-swappiness --mount --name --network --net --network-alias --net-alias --oom-score-adj --pid --pids-limit --platform "
    "-p --publish --pull --restart --runtime --security-opt --shm-size --stop-signal --stop-timeout --storage-opt --sysctl --tmpfs "
    "--ulimit -u --user --userns --uts -v --volume --volume-driver --volumes-from -w --workdir --device-option --secret --arch --os";

/* --gpus all, 2, device=0,1 or "device=0,1" with its quotes. */
static void docker_gpus(struct peel *p, const char *value)
{
	struct pl_device_pick *pick = &p->out->gpus;
	const char *list = strstr(value, "device=");
	pick->by = pl_arena_printf(p->a, "--gpus %s", value);
	if (list) {
		for (list += 7; *list >= '0' && *list <= '9' && pick->n < PL_MAX_DEVICES; list += *list == ',') {
			char *end;
			pick->index[pick->n++] = (uint32_t)strtoul(list, &end, 10);
			list = end;
		}
	} else if (*value >= '0' && *value <= '9') {
		pick->n = (uint32_t)strtoul(value, NULL, 10);
		pick->first_n = true;
	} else {
		pick->by = NULL;
	}
}

static const char *docker_options(struct peel *p)
{
	const char *entry = NULL;
	while (p->n && p->w[0][0] == '-') {
		const char *word = p->w[0], *eq = strchr(word, '=');
		size_t len = eq ? (size_t)(eq - word) : strlen(word);
		bool takes = pl_flag_in(docker_values, word, len);
		const char *value = eq ? eq + 1 : takes && p->n > 1 ? p->w[1] : "";
		if ((len == 2 && !memcmp(word, "-e", 2)) || (len == 5 && !memcmp(word, "--env", 5))) {
			if (is_assignment(value))
				add_env(p, value);
		} else if (len == 6 && !memcmp(word, "--gpus", 6)) {
			docker_gpus(p, value);
		} else if (len == 12 && !memcmp(word, "--entrypoint", 12)) {
			entry = value;
		}
		drop(p, takes && !eq ? 2 : 1);
	}
	return entry;
}

static void prefix(struct peel *p, const char *one, const char *two)
{
	const char **words = PL_NEW_N(p->a, const char *, (uint64_t)p->n + 2);
	uint32_t n = 0;
	if (!words)
		return;
	words[n++] = one;
	if (two)
		words[n++] = two;
	memcpy(words + n, p->w, p->n * sizeof *words);
	p->w = words;
	p->n += n;
}

/* What an image runs when the line does not say: its entry point, by the makers' own Dockerfiles. */
static void image_entry(struct peel *p, const char *image)
{
	static const struct {
		const char *image, *tag, *one, *two;
	} entries[] = {
	    {"vllm-openai", "", "vllm", "serve"},     {"rocm/vllm", "", NULL, NULL},
	    {"llama.cpp", "server", "llama-server", NULL}, {"llama.cpp", "light", "llama-cli", NULL},
	    {"ollama/ollama", "", "ollama", "serve"}, {"koboldcpp", "", NULL, NULL},
	};
	static const struct {
		const char *word, *program;
	} full[] = {{"--server", "llama-server"}, {"-s", "llama-server"}, {"--run", "llama-cli"}, {"-r", "llama-cli"},
	            {"--bench", "llama-bench"}, {"-b", "llama-bench"}, {"--perplexity", "llama-perplexity"}, {"-p", "llama-perplexity"}};
	uint32_t used;
	if (p->n && program_of(p->w, p->n, &used))
		return;
	if (strstr(image, "llama.cpp") && strstr(image, ":full"))
		for (size_t i = 0; p->n && i < sizeof full / sizeof *full; i++)
			if (!strcmp(p->w[0], full[i].word)) {
				drop(p, 1);
				prefix(p, full[i].program, NULL);
				return;
			}
	if (p->n && !strcmp(image, "ollama/ollama") && !strcmp(p->w[0], "serve"))
		drop(p, 1);
	for (size_t i = 0; i < sizeof entries / sizeof *entries; i++)
		if (entries[i].one && strstr(image, entries[i].image) && strstr(image, entries[i].tag)) {
			prefix(p, entries[i].one, entries[i].two);
			return;
		}
}

static void docker(struct peel *p)
{
	drop(p, 1);
	while (p->n && p->w[0][0] == '-') /* docker's own options, before run */
		drop(p, strchr(p->w[0], '=') || strcmp(p->w[0], "--context") != 0 ? 1 : 2);
	if (p->n && !strcmp(p->w[0], "container"))
		drop(p, 1);
	if (!p->n || (strcmp(p->w[0], "run") != 0 && strcmp(p->w[0], "exec") != 0))
		return;
	drop(p, 1);
	const char *entry = docker_options(p);
	if (!p->n)
		return;
	const char *image = p->w[0];
	drop(p, 1);
	if (entry && *entry)
		prefix(p, entry, NULL);
	else
		image_entry(p, image);
}

/* Words that start another command: their own options are passed over up to the first word that names a program. */
static const char wrappers[] = "sudo nohup time exec command nice ionice taskset numactl stdbuf timeout setsid chrt mpirun mpiexec srun uv uvx "
                               "pipx poetry conda micromamba pixi env torchrun trtllm-llmapi-launch nsys ncu catchsegv screen tmux bash sh";

static bool is_python(const char *word)
{
	size_t len;
	const char *base = base_name(word, &len);
	return len >= 6 && !memcmp(base, "python", 6) && strspn(base + 6, "0123456789.") == len - 6;
}

/* python [options] -m MODULE … */
static const struct pl_program *python(struct peel *p)
{
	drop(p, 1);
	for (; p->n && p->w[0][0] == '-'; drop(p, 1)) {
		if (!strcmp(p->w[0], "-m") && p->n > 1) {
			const struct pl_program *program = module_of(p->w[1]);
			p->out->shown = p->w[1];
			drop(p, 2);
			return program;
		}
		if (!strcmp(p->w[0], "-X") || !strcmp(p->w[0], "-W"))
			drop(p, 1);
	}
	return NULL;
}

static const struct pl_program *peel(struct peel *p)
{
	const struct pl_program *program;
	uint32_t used;
	size_t len;
	for (int depth = 0; p->n && depth < 16; depth++) {
		assignments(p);
		if (!p->n)
			break;
		if ((program = program_of(p->w, p->n, &used))) {
			p->out->shown = p->w[0];
			drop(p, used);
			return program;
		}
		const char *base = base_name(p->w[0], &len);
		if (is_python(p->w[0]))
			return python(p);
		if (pl_flag_in("docker podman nerdctl", base, len)) {
			docker(p);
		} else if (pl_flag_in(wrappers, base, len)) {
			drop(p, 1);
			while (p->n && !program_of(p->w, p->n, &used) && !is_python(p->w[0]) && !is_assignment(p->w[0]) &&
			       strcmp(p->w[0], "docker") != 0)
				drop(p, 1);
		} else {
			break;
		}
	}
	return NULL;
}

int pl_unwrap(struct pl_arena *a, const char *const *words, uint32_t n, struct pl_unwrapped *ret, struct pl_err *err)
{
	*ret = (struct pl_unwrapped){0};
	struct peel p = {a, words, n, ret};
	char known[300] = "";
	size_t at = 0;
	if (!n)
		return pl_fail(err, PL_ERR_USAGE, "--", "no command stands after '--'");
	ret->program = peel(&p);
	if (ret->program) {
		ret->words = PL_NEW_N(a, const char *, (uint64_t)p.n + 1);
		if (!ret->words)
			return pl_fail(err, PL_ERR_NOMEM, "--", "out of memory");
		memcpy(ret->words, p.w, p.n * sizeof *p.w);
		ret->n_words = p.n;
		return 0;
	}
	for (const struct pl_program *const *t = tables(); *t; t++)
		for (const struct pl_program *q = *t; q->names; q++) {
			int len = (int)strcspn(q->names, " ");
			if (at < sizeof known - 40)
				at += (size_t)snprintf(known + at, sizeof known - at, "%s%.*s%s%.*s", at ? ", " : "", len, q->names, q->sub ? " " : "",
				                       q->sub ? (int)strcspn(q->sub, "|") : 0, q->sub ? q->sub : "");
		}
	return pl_fail(err, PL_ERR_UNKNOWN_NAME, "--", "'%.60s' runs no engine whose commands are read: %s", p.n ? p.w[0] : words[0], known);
}
