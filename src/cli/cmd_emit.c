#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include <plimsoll/emit.h>

#include "cli/plan_job.h"

static int write_file(const char *path, const struct pl_emit_file *f, struct pl_err *err)
{
	char tmp[PATH_MAX];
	size_t len = strlen(f->text);
	if (snprintf(tmp, sizeof tmp, "%s.%ld.tmp", path, (long)getpid()) >= (int)sizeof tmp)
		return pl_fail(err, PL_ERR_IO, path, "the path is too long");
	int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, f->executable ? 0755 : 0644);
	bool ok = fd >= 0 && write(fd, f->text, len) == (ssize_t)len;
	ok = fd >= 0 && !close(fd) && ok && !rename(tmp, path);
	if (ok)
		return 0;
	int fault = errno;
	if (fd >= 0)
		(void)unlink(tmp);
	return pl_fail(err, PL_ERR_IO, path, "cannot be written: %s", strerror(fault));
}

static int write_files(const struct pl_cli *cli, struct pl_arena *a, const char *folder, const struct pl_emit_result *r, struct pl_err *err)
{
	if (mkdir(folder, 0755) && errno != EEXIST)
		return pl_fail(err, PL_ERR_IO, folder, "cannot be made: %s", strerror(errno));
	for (uint32_t i = 0; i < r->n_files; i++) {
		const char *path = pl_arena_printf(a, "%s/%s", folder, r->files[i].name);
		int rc = path ? write_file(path, &r->files[i], err) : pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory");
		if (rc)
			return rc;
		if (!cli->json)
			(void)fprintf(cli->out, "%s\n", path);
	}
	return 0;
}

static int print_json(const struct pl_cli *cli, const char *format, const struct pl_emit_result *r, struct pl_err *err)
{
	json_t *files = json_array(), *notes = json_array();
	for (uint32_t i = 0; i < r->n_files; i++)
		(void)json_array_append_new(files, json_pack("{s:s, s:s, s:b}", "name", r->files[i].name, "text", r->files[i].text, "executable",
		                                             (int)r->files[i].executable));
	for (const struct pl_note *n = r->notes; n; n = n->next)
		(void)json_array_append_new(notes, json_string(n->text));
	json_t *o = json_pack("{s:s, s:o, s:o}", "format", format, "files", files, "notes", notes);
	return pl_cli_json(cli->out, o, err);
}

static void print_text(const struct pl_cli *cli, const struct pl_emit_result *r)
{
	for (uint32_t i = 0; i < r->n_files; i++) {
		if (r->n_files > 1)
			(void)fprintf(cli->out, "%s# ---- %s\n", i ? "\n" : "", r->files[i].name);
		(void)fputs(r->files[i].text, cli->out);
	}
}

static int print(const struct pl_cli *cli, struct pl_plan_job *j, const char *format, const struct pl_emit_result *r)
{
	const char *folder = pl_cli_text(cli, "output");
	int rc = folder ? write_files(cli, j->a, folder, r, &j->err) : 0;
	if (!rc && cli->json)
		rc = print_json(cli, format, r, &j->err);
	else if (!rc && !folder)
		print_text(cli, r);
	for (const struct pl_note *n = r->notes; n && !rc && !cli->json; n = n->next)
		(void)fprintf(stderr, "plimsoll: %s\n", n->text);
	return rc;
}

/* Replicas on one host: each is planned for its share of the GPUs and the RAM. */
static int share_machine(struct pl_plan_job *j, struct pl_emit_options *o)
{
	const struct pl_machine *whole = j->req.machine;
	struct pl_machine *part = PL_NEW(j->a, struct pl_machine);
	if (!part)
		return pl_fail(&j->err, PL_ERR_NOMEM, NULL, "out of memory");
	if (whole->n_nodes > 1)
		return pl_fail(&j->err, PL_ERR_UNSUPPORTED, "--replicas", "the machine has %u hosts: take kubernetes or lws", whole->n_nodes);
	if (whole->n_devices && whole->n_devices < o->replicas)
		return pl_fail(&j->err, PL_ERR_RANGE, "--replicas", "%u replicas need a GPU each, the machine has %u", o->replicas, whole->n_devices);
	*part = *whole;
	part->n_devices = whole->n_devices / o->replicas;
	part->ram_bytes.value /= o->replicas;
	part->ram_free_bytes.value /= o->replicas;
	o->n_host_gpus = whole->n_devices;
	j->req.machine = part;
	return 0;
}

int cmd_emit(const struct pl_cli *cli)
{
	char folder[PATH_MAX];
	const struct pl_emitter *e = NULL;
	const struct pl_plan *plan = NULL;
	struct pl_emit_result result = {0};
	struct pl_err err = {0};
	struct pl_emit_options o = {
	    .name = pl_cli_text(cli, "name"),
	    .image = pl_cli_text(cli, "image"),
	    .program = pl_cli_text(cli, "program"),
	    .working_dir = getcwd(folder, sizeof folder),
	    .host = pl_cli_text(cli, "host"),
	    .port = (uint16_t)pl_cli_number(cli, "port", 0),
	    .replicas = (uint32_t)pl_cli_number(cli, "replicas", 1),
	    .power_cap_w = pl_cli_number(cli, "power-cap", 0),
	};
	if (pl_emitter_find(cli->words[0], &e, &err))
		return pl_cli_fail(&err);
	struct pl_plan_job j;
	int rc = pl_plan_job_init(&j, cli, cli->words[1], NULL);
	j.req.no_suggestions = true;
	if (!rc && e->one_host && o.replicas > 1)
		rc = share_machine(&j, &o);
	rc = rc ? rc : pl_plan_job_make(&j, &plan);
	bool fits = rc || plan->verdict != PL_VERDICT_NO_FIT;
	if (!fits)
		(void)fprintf(stderr, "plimsoll: %s\n", pl_tr("the plan does not fit, so there is nothing to start; 'plimsoll plan' says what would"));
	rc = rc || !fits ? rc : e->emit(j.a, plan, &o, &result, &j.err);
	rc = rc || !fits ? rc : print(cli, &j, e->id, &result);
	int code = rc ? pl_cli_fail(&j.err) : fits ? 0 : 1;
	pl_plan_job_release(&j);
	return code;
}
