#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include <jansson.h>

#include "source/hub.h"

static bool is_model(const char *path)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	size_t len = strlen(name);
	if (len < 5 || strcmp(name + len - 5, ".gguf") != 0)
		return false;
	return !strstr(name, "mmproj") && !strstr(name, "imatrix") && !strstr(name, "mtp-");
}

/* "…-00002-of-00005.gguf" is a later part. */
static bool is_later_part(const char *path)
{
	const char *of = strstr(path, "-of-");
	return of && of - path >= 6 && of[-6] == '-' && strncmp(of - 5, "00001", 5) != 0;
}

static bool holds_tag(const char *path, const char *tag)
{
	size_t len = strlen(tag);
	for (const char *p = path; *p; p++)
		if (!strncasecmp(p, tag, len) && (p[len] == '.' || p[len] == '-'))
			return true;
	return false;
}

static const char *first_with(const json_t *list, const char *tag)
{
	size_t i;
	json_t *entry;
	json_array_foreach((json_t *)list, i, entry)
	{
		const char *path = json_string_value(json_object_get(entry, "path"));
		if (path && is_model(path) && !is_later_part(path) && (!*tag || holds_tag(path, tag)))
			return path;
	}
	return NULL;
}

int pl_hub_pick(struct pl_arena *a, const char *repo, const char *tag, const char *json, size_t len, const char **ret_path,
                struct pl_err *err)
{
	static const char *const usual[] = {"Q4_K_M", "Q8_0", ""};
	json_error_t e;
	json_t *list = json_loadb(json, len, 0, &e);
	const char *path = NULL;
	int rc = 0;
	for (size_t i = 0; list && !tag && !path && i < sizeof usual / sizeof *usual; i++)
		path = first_with(list, usual[i]);
	if (list && tag)
		path = first_with(list, tag);
	if (!json_is_array(list))
		rc = pl_fail(err, PL_ERR_FORMAT, repo, "the listing of the repository is not understood");
	else if (!path)
		rc = tag ? pl_fail(err, PL_ERR_UNKNOWN_NAME, repo, "the repository holds no GGUF file of the precision %s", tag)
		         : pl_fail(err, PL_ERR_UNKNOWN_NAME, repo, "the repository holds no GGUF file");
	else if (!(*ret_path = pl_arena_strdup(a, path)))
		rc = pl_fail(err, PL_ERR_NOMEM, repo, "out of memory");
	json_decref(list);
	return rc;
}
