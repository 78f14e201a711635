#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include <plimsoll/catalog.h>

#include <jansson.h>

#include "base/checked.h"
#include "source/hub.h"
#include "source/source.h"

enum { MAX_PARTS = 1024, MAX_PATH = 4096, MAX_CONFIG = 16 << 20, MAX_INDEX = 128 << 20 };

struct loader {
	struct pl_arena *a;
	struct pl_loaded *l;
	const char *ref, *quant, *changes; /* changes: JSON laid over config.json, NULL none */
	const struct pl_model **ret;
	struct pl_err *err;
};

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), k = strlen(end);
	return n >= k && !strcmp(s + n - k, end);
}

static bool is_remote(const char *ref)
{
	return !strncmp(ref, "https://", 8) || !strncmp(ref, "http://", 7);
}

static int open_any(struct loader *x, const char *name, struct pl_file **ret)
{
	return is_remote(name) ? pl_remote_open(x->l, name, ret, x->err) : pl_file_open(x->l, name, ret, x->err);
}

static struct pl_bytes bytes_of(const struct pl_file *f)
{
	return (struct pl_bytes){f->data, f->have_bytes, f->total_bytes, f->name};
}

/* ---- GGUF ------------------------------------------------------------------------------------------------------- */

/* "name-00001-of-00005.gguf": where the numbers stand. */
static bool split_name(const char *path, size_t *ret_at, unsigned *ret_count)
{
	size_t n = strlen(path);
	unsigned no, count;
	if (n < 20 || sscanf(path + n - 20, "-%5u-of-%5u.gguf", &no, &count) != 2 || !count || count > MAX_PARTS)
		return false;
	*ret_at = n - 20;
	*ret_count = count;
	return true;
}

static int open_parts(struct loader *x, const char *path, struct pl_file **files, unsigned *ret_n)
{
	size_t at;
	unsigned count;
	if (!split_name(path, &at, &count)) {
		*ret_n = 1;
		return open_any(x, path, &files[0]);
	}
	for (unsigned i = 0; i < count; i++) {
		char part[MAX_PATH];
		(void)snprintf(part, sizeof part, "%.*s-%05u-of-%05u.gguf", (int)at, path, i + 1, count);
		int rc = open_any(x, part, &files[i]);
		if (rc)
			return rc;
	}
	*ret_n = count;
	return 0;
}

/* Reads more of the parts until the header is whole. */
static int parse_gguf(struct loader *x, struct pl_file **files, unsigned n, const struct pl_model **ret)
{
	struct pl_bytes *parts = PL_NEW_N(x->a, struct pl_bytes, n);
	uint64_t want = PL_FIRST_READ;
	if (!parts)
		return pl_fail(x->err, PL_ERR_NOMEM, x->ref, "out of memory");
	/* A header with a vocabulary of 128k tokens takes nearly 8 MiB, one without fits the first read; each attempt reads from the start. */
	for (;; want *= want == PL_FIRST_READ ? 8 : 2) {
		struct pl_err fault = {0};
		bool more = false;
		for (unsigned i = 0; i < n; i++) {
			int rc = pl_file_want(files[i], want, x->err);
			if (rc)
				return rc;
			parts[i] = bytes_of(files[i]);
			more = more || files[i]->have_bytes < files[i]->total_bytes;
		}
		int rc = pl_model_from_gguf(x->a, parts, n, ret, &fault);
		if (rc == -PL_ERR_MORE && more)
			continue;
		if (rc && x->err)
			*x->err = fault;
		return rc;
	}
}

static int load_gguf(struct loader *x, const char *path)
{
	struct pl_file **files = PL_NEW_N(x->a, struct pl_file *, MAX_PARTS);
	const struct pl_model *m;
	unsigned n;
	if (!files)
		return pl_fail(x->err, PL_ERR_NOMEM, path, "out of memory");
	int rc = open_parts(x, path, files, &n);
	if (!rc)
		rc = parse_gguf(x, files, n, &m);
	if (!rc && x->quant)
		rc = pl_model_requantise(x->a, m, x->quant, &m, x->err);
	if (!rc)
		*x->ret = m;
	return rc;
}

/* ---- safetensors ------------------------------------------------------------------------------------------------ */

/* The header of one shard: 8 bytes of length, then JSON. */
static int want_header(struct loader *x, struct pl_file *f)
{
	uint64_t len = 0;
	int rc = pl_file_want(f, 8, x->err);
	if (rc)
		return rc;
	for (int i = 7; i >= 0 && f->have_bytes >= 8; i--)
		len = len << 8 | f->data[i];
	return pl_file_want(f, pl_min_u64(pl_sat_add(8, len), 100 << 20), x->err);
}

static int load_safetensors(struct loader *x, char **paths, uint32_t n, const char *config, size_t config_len)
{
	struct pl_bytes *parts = PL_NEW_N(x->a, struct pl_bytes, n ? n : 1);
	const struct pl_model *m;
	if (!parts)
		return pl_fail(x->err, PL_ERR_NOMEM, x->ref, "out of memory");
	for (uint32_t i = 0; i < n; i++) {
		struct pl_file *f;
		int rc = open_any(x, paths[i], &f);
		if (!rc)
			rc = want_header(x, f);
		if (rc)
			return rc;
		parts[i] = bytes_of(f);
	}
	int rc = pl_model_from_safetensors(x->a, x->ref, parts, n, config, config_len, &m, x->err);
	if (!rc && x->quant)
		rc = pl_model_requantise(x->a, m, x->quant, &m, x->err);
	if (!rc)
		*x->ret = m;
	return rc;
}

static int read_text(struct loader *x, const char *path, uint64_t max, char **ret, size_t *ret_len)
{
	struct pl_file *f;
	int rc = open_any(x, path, &f);
	return rc ? rc : pl_file_text(x->a, f, max, ret, ret_len, x->err);
}

/* One object over another, objects in them likewise. */
static int change_config(struct loader *x, char **json, size_t *len)
{
	json_t *config = json_loadb(*json, *len, 0, NULL), *over = x->changes ? json_loads(x->changes, 0, NULL) : NULL;
	char *text = NULL;
	int rc = 0;
	if (x->changes && !json_is_object(over))
		rc = pl_fail(x->err, PL_ERR_FORMAT, x->ref, "what is to change in its config is not a JSON object");
	else if (x->changes && json_is_object(config) && !json_object_update_recursive(config, over))
		text = json_dumps(config, JSON_COMPACT);
	if (text) {
		*json = pl_arena_strdup(x->a, text);
		*len = strlen(text);
		free(text);
		if (!*json)
			rc = pl_fail(x->err, PL_ERR_NOMEM, x->ref, "out of memory");
	}
	json_decref(config);
	json_decref(over);
	return rc;
}

static int read_config(struct loader *x, const char *path, char **json, size_t *len)
{
	int rc = read_text(x, path, MAX_CONFIG, json, len);
	return rc || !x->changes ? rc : change_config(x, json, len);
}

static int load_config(struct loader *x, const char *path)
{
	char *json;
	size_t len;
	int rc = read_config(x, path, &json, &len);
	return rc ? rc : pl_model_from_config(x->a, x->ref, json, len, x->quant, x->ret, x->err);
}

/* ---- folders ---------------------------------------------------------------------------------------------------- */

static int by_name(const void *x, const void *y)
{
	return strcmp(*(char *const *)x, *(char *const *)y);
}

struct folder {
	char *safetensors[MAX_PARTS], *gguf[MAX_PARTS];
	uint32_t n_safetensors, n_gguf;
	char *config, *index;
};

static int list_folder(struct loader *x, const char *path, struct folder *f)
{
	DIR *dir = opendir(path);
	if (!dir)
		return pl_fail(x->err, PL_ERR_IO, path, "the folder cannot be read: %s", strerror(errno));
	for (struct dirent *e; (e = readdir(dir));) {
		char *full = pl_arena_printf(x->a, "%s/%s", path, e->d_name);
		if (!full)
			break;
		if (ends_with(e->d_name, ".safetensors") && f->n_safetensors < MAX_PARTS)
			f->safetensors[f->n_safetensors++] = full;
		else if (ends_with(e->d_name, ".gguf") && f->n_gguf < MAX_PARTS && strncmp(e->d_name, "mmproj", 6) != 0)
			f->gguf[f->n_gguf++] = full;
		else if (!strcmp(e->d_name, "config.json"))
			f->config = full;
		else if (!strcmp(e->d_name, "model.safetensors.index.json"))
			f->index = full;
	}
	(void)closedir(dir);
	qsort(f->safetensors, f->n_safetensors, sizeof *f->safetensors, by_name);
	qsort(f->gguf, f->n_gguf, sizeof *f->gguf, by_name);
	return 0;
}

static int load_folder(struct loader *x, const char *path)
{
	struct folder *f = PL_NEW(x->a, struct folder);
	char *config = NULL;
	size_t len = 0;
	if (!f)
		return pl_fail(x->err, PL_ERR_NOMEM, path, "out of memory");
	int rc = list_folder(x, path, f);
	if (!rc && f->config)
		rc = read_config(x, f->config, &config, &len);
	if (!rc && f->index) {
		char *index;
		size_t index_len;
		rc = read_text(x, f->index, MAX_INDEX, &index, &index_len);
		if (!rc)
			rc = pl_safetensors_index(x->a, f->index, path, index, index_len, f->safetensors, MAX_PARTS, &f->n_safetensors, x->err);
	}
	if (rc)
		return rc;
	if (f->n_safetensors)
		return load_safetensors(x, f->safetensors, f->n_safetensors, config, len);
	if (config)
		return pl_model_from_config(x->a, path, config, len, x->quant, x->ret, x->err);
	if (f->n_gguf) {
		size_t at;
		unsigned count;
		if (f->n_gguf > 1 && (!split_name(f->gguf[0], &at, &count) || count != f->n_gguf))
			return pl_fail(x->err, PL_ERR_FORMAT, path, "the folder holds %u GGUF files: name one of them", f->n_gguf);
		return load_gguf(x, f->gguf[0]);
	}
	return pl_fail(x->err, PL_ERR_FORMAT, path, "the folder holds neither a GGUF file nor config.json nor safetensors");
}

/* ---- remote repositories ---------------------------------------------------------------------------------------- */

/* The file a precision means in a repository of GGUF files, by its listing. */
static int pick_file(struct loader *x, const char *endpoint, const char *repo, const char *tag, const char **ret_file)
{
	char *json, *url = pl_arena_printf(x->a, "%s/api/models/%s/tree/main?recursive=true", endpoint, repo);
	size_t len;
	if (!url)
		return pl_fail(x->err, PL_ERR_NOMEM, x->ref, "out of memory");
	int rc = read_text(x, url, MAX_CONFIG, &json, &len);
	return rc ? rc : pl_hub_pick(x->a, x->ref, tag, json, len, ret_file, x->err);
}

/* "hf:owner/repo[:file|:precision]": a GGUF file, by name or by precision; else config.json and, where there is one, the header of
 * the single safetensors file. */
static int load_hub(struct loader *x, const char *rest)
{
	const char *endpoint = getenv("HF_ENDPOINT"), *colon = strchr(rest, ':'), *file = colon ? colon + 1 : NULL;
	char *url, *repo = pl_arena_strndup(x->a, rest, strcspn(rest, ":"));
	size_t n = repo ? strlen(repo) : 0;
	if (!endpoint || !*endpoint)
		endpoint = "https://huggingface.co";
	if (!repo || !strchr(repo, '/') || strstr(rest, "..") || strpbrk(rest, " \t\r\n?#%\\"))
		return pl_fail(x->err, PL_ERR_USAGE, x->ref, "write hf:owner/repository, hf:owner/repository:file.gguf or hf:owner/repository:Q4_K_M");
	bool named = file && (ends_with(file, ".gguf") || ends_with(file, ".safetensors") || ends_with(file, ".json"));
	if (!named && (file || (n > 4 && !strcasecmp(repo + n - 4, "gguf")))) {
		int rc = pick_file(x, endpoint, repo, file, &file);
		if (rc)
			return rc;
	}
	url = pl_arena_printf(x->a, "%s/%s/resolve/main/%s", endpoint, repo, file ? file : "config.json");
	if (!url)
		return pl_fail(x->err, PL_ERR_NOMEM, x->ref, "out of memory");
	if (ends_with(url, ".gguf"))
		return load_gguf(x, url);
	if (ends_with(url, ".safetensors"))
		return load_safetensors(x, &url, 1, NULL, 0);
	return load_config(x, url);
}

/* The precision that a name carries beside the model's own: "qwen3.6:27b-q4_K_M". Unsloth's dynamic files ("UD-Q4_K_XL") are
 * within some percent of the plain mixture of their width. */
static const char *precision_in(struct pl_arena *a, const char *name, const char *id)
{
	const char *best = NULL;
	char *text = pl_arena_strdup(a, name), *xl;
	if (!text)
		return NULL;
	if ((xl = strcasestr(text, "_K_XL")) && xl > text)
		memcpy(xl, xl[-1] == '6' || xl[-1] == '2' ? "_K\0" : xl[-1] == '8' ? "_0\0" : "_K_M", 5);
	for (const char *const *q = pl_quant_names(); *q; q++) {
		const char *at = strcasestr(text, *q);
		bool alone = at && at > text && !isalnum((unsigned char)at[-1]) && !isalnum((unsigned char)at[strlen(*q)]) && at[strlen(*q)] != '_';
		if (alone && !strcasestr(id, *q) && (!best || strlen(*q) > strlen(best)))
			best = *q;
	}
	return best;
}

static int load_catalogued(struct loader *x)
{
	const struct pl_model_row *row;
	int rc = pl_model_row_find(x->ref, &row, x->err);
	if (rc)
		return rc;
	if (!x->quant)
		x->quant = precision_in(x->a, x->ref, row->id);
	size_t len = row->config_len;
	char *json = x->changes ? pl_arena_strndup(x->a, row->config_json, len) : NULL;
	if (!json)
		return pl_model_from_config(x->a, row->id, row->config_json, row->config_len, x->quant, x->ret, x->err);
	rc = change_config(x, &json, &len);
	return rc ? rc : pl_model_from_config(x->a, row->id, json, len, x->quant, x->ret, x->err);
}

static int load(struct loader *x)
{
	struct stat st;
	char *path = pl_arena_strdup(x->a, x->ref);
	bool exists = path && !stat(x->ref, &st);
	if (!path || !*path)
		return pl_fail(x->err, PL_ERR_USAGE, "MODEL", "the model's name is empty");
	if (!strncmp(x->ref, "hf:", 3))
		return load_hub(x, x->ref + 3);
	if (exists && S_ISDIR(st.st_mode))
		return load_folder(x, path);
	if (ends_with(path, ".gguf"))
		return load_gguf(x, path);
	if (ends_with(path, ".safetensors"))
		return load_safetensors(x, &path, 1, NULL, 0);
	if (ends_with(path, ".json"))
		return load_config(x, path);
	if (is_remote(x->ref))
		return pl_fail(x->err, PL_ERR_USAGE, x->ref, "the URL must end in .gguf, .safetensors or .json");
	if (exists)
		return load_gguf(x, path); /* a blob without an ending says what it is by its first bytes */
	if (x->ref[0] == '/' || x->ref[0] == '.' || x->ref[0] == '~')
		return pl_fail(x->err, PL_ERR_IO, x->ref, "there is no such file or folder");
	return load_catalogued(x);
}

int pl_load(struct pl_arena *a, const char *ref, const char *quant, struct pl_loaded **ret_loaded,
            const struct pl_model **ret_model, struct pl_err *err)
{
	return pl_load_changed(a, ref, quant, NULL, ret_loaded, ret_model, err);
}

int pl_load_changed(struct pl_arena *a, const char *ref, const char *quant, const char *changes, struct pl_loaded **ret_loaded,
                    const struct pl_model **ret_model, struct pl_err *err)
{
	struct pl_loaded *l = calloc(1, sizeof *l);
	struct loader x = {a, l, ref, quant, changes, ret_model, err};
	if (!l)
		return pl_fail(err, PL_ERR_NOMEM, ref, "out of memory");
	int rc = load(&x);
	if (rc) {
		pl_loaded_free(l);
		return rc;
	}
	*ret_loaded = l;
	return 0;
}

int pl_load_text(struct pl_arena *a, const char *path, uint64_t max_bytes, char **ret, size_t *ret_len, struct pl_err *err)
{
	struct pl_loaded *l = calloc(1, sizeof *l);
	struct pl_file *f;
	if (!l)
		return pl_fail(err, PL_ERR_NOMEM, path, "out of memory");
	int rc = pl_file_open(l, path, &f, err);
	if (!rc)
		rc = pl_file_text(a, f, max_bytes, ret, ret_len, err);
	pl_loaded_free(l);
	return rc;
}

int pl_load_machine(struct pl_arena *a, const char *line, const struct pl_machine **ret_machine, struct pl_err *err)
{
	enum { MAX_YAML = 1 << 20 };
	char *text;
	size_t len;
	if (*line == '@')
		line++;
	else if (!ends_with(line, ".yaml") && !ends_with(line, ".yml"))
		return pl_machine_parse(a, line, ret_machine, err);
	int rc = pl_load_text(a, line, MAX_YAML, &text, &len, err);
	return rc ? rc : pl_machine_parse_yaml(a, line, text, len, ret_machine, err);
}
