/* Reads a command over a table of flags: environment first, then words, as every engine here does. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/command.h"

enum { MAX_FLAG = 128, MAX_DEPTH = 4 };

/* ---- what the engines' files call ---------------------------------------------------------------------------------- */

int pl_refuse(struct pl_reader *r, const char *fmt, ...)
{
	va_list ap;
	struct pl_err *err = r->err;
	char where[sizeof err->where];
	va_start(ap, fmt);
	const char *text = pl_arena_vprintf(r->a, pl_tr(fmt), ap);
	va_end(ap);
	(void)snprintf(where, sizeof where, "%s%s%.80s", r->cmd->program, r->flag ? " " : "", r->flag ? r->flag : "");
	return pl_fail(err, PL_ERR_FORMAT, where, "%s", text ? text : "out of memory");
}

void pl_remark(struct pl_reader *r, int level, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	const char *text = pl_arena_vprintf(r->a, pl_tr(fmt), ap);
	va_end(ap);
	if (text)
		pl_note_add(r->a, &r->cmd->notes, level, "%s", text);
}

int pl_read_int(struct pl_reader *r, const char *value, int64_t least, int64_t most, int64_t *ret)
{
	char *end;
	long long n = strtoll(value, &end, 10);
	if (end == value)
		return pl_refuse(r, "'%.60s' is not a whole number: the program stops here", value);
	if (n < least || n > most)
		return pl_refuse(r, "%lld is outside %lld to %lld", n, (long long)least, (long long)most);
	if (*end)
		pl_remark(r, PL_NOTE_WARNING, "%s: '%.60s' is read as %lld", r->flag, value, n);
	*ret = n;
	return 0;
}

int pl_read_u32(struct pl_reader *r, const char *value, uint32_t least, uint32_t most, uint32_t *ret)
{
	int64_t n = 0;
	int rc = pl_read_int(r, value, least, most, &n);
	if (!rc)
		*ret = (uint32_t)n;
	return rc;
}

int pl_read_real(struct pl_reader *r, const char *value, double least, double most, double *ret)
{
	char *end;
	double x = strtod(value, &end);
	if (end == value || *end || !isfinite(x))
		return pl_refuse(r, "'%.60s' is not a number: the program stops here", value);
	if (x < least || x > most)
		return pl_refuse(r, "%g is outside %g to %g", x, least, most);
	*ret = x;
	return 0;
}

/* Drivers stop at the first entry they do not know; -1 and nothing hide every device. */
void pl_pick_devices(struct pl_reader *r, const char *name, const char *value, struct pl_device_pick *ret)
{
	struct pl_device_pick pick = {.by = pl_arena_printf(r->a, "%s=%s", name, value)};
	const char *p = value;
	while (*p) {
		char *end;
		unsigned long i = strtoul(p, &end, 10);
		if (end == p || *p == '-' || i >= PL_MAX_DEVICES || pick.n == PL_MAX_DEVICES)
			break;
		pick.index[pick.n++] = (uint32_t)i;
		p = end + (*end == ',');
		if (*end && *end != ',')
			break;
	}
	if (*p && *p != '-') {
		pl_remark(r, PL_NOTE_WARNING, "%s: '%.60s' is not a number of a GPU: names of devices cannot be followed on described hardware",
		          name, p);
		if (!pick.n)
			return;
	}
	*ret = pick;
}

/* ---- the table ----------------------------------------------------------------------------------------------------- */

static void note_setting(struct pl_reader *r, const char *flag, const char *value, enum pl_setting_effect effect)
{
	if (r->n_settings == r->max_settings) {
		uint32_t more = r->max_settings ? r->max_settings * 2 : 32;
		struct pl_setting *grown = pl_arena_grow(r->a, r->settings, r->n_settings, more, sizeof *grown);
		if (!grown)
			return;
		r->settings = grown;
		r->max_settings = more;
	}
	r->settings[r->n_settings++] = (struct pl_setting){flag, value, effect};
}

static const struct pl_flag *find_exact(const struct pl_program *p, const char *name, size_t len, bool *negated)
{
	const struct pl_flag *other = NULL;
	bool other_negated = false;
	for (uint32_t i = 0; i < p->n_flags; i++) {
		bool yes = pl_flag_in(p->flags[i].names, name, len), no = !yes && pl_flag_in(p->flags[i].negatives, name, len);
		if (!yes && !no)
			continue;
		if (p->flags[i].programs & p->bit) {
			*negated = no;
			return &p->flags[i];
		}
		if (!other) {
			other = &p->flags[i];
			other_negated = no;
		}
	}
	*negated = other_negated;
	return other; /* known, but not to this program */
}

/* The only flag that begins so, argparse's way; NULL when there is none or more than one. */
static const struct pl_flag *find_prefix(const struct pl_program *p, const char *name, size_t len, bool *negated)
{
	const struct pl_flag *found = NULL;
	for (uint32_t i = 0; i < p->n_flags; i++)
		for (int side = 0; side < 2; side++)
			for (const char *w = side ? p->flags[i].negatives : p->flags[i].names; *w; w += strspn(w, " ")) {
				size_t n = strcspn(w, " ");
				if (n > len && !memcmp(w, name, len) && (p->flags[i].programs & p->bit)) {
					if (found && found != &p->flags[i])
						return NULL;
					found = &p->flags[i];
					*negated = side;
				}
				w += n;
			}
	return found;
}

struct hit {
	const struct pl_flag *flag;
	bool negated;
	const char *inlined; /* value after "=" */
};

static struct hit find_flag(struct pl_reader *r, const char *word)
{
	const struct pl_program *p = r->program;
	char name[MAX_FLAG];
	struct hit h = {0};
	const char *eq = p->style & PL_STYLE_EQUALS ? strchr(word, '=') : NULL;
	size_t len = eq ? (size_t)(eq - word) : strlen(word);
	if (len >= sizeof name)
		return h;
	memcpy(name, word, len);
	name[len] = '\0';
	for (char *c = name + 2; (p->style & PL_STYLE_UNDERSCORES) && len > 2 && !strncmp(name, "--", 2) && *c; c++)
		if (*c == '_')
			*c = '-';
	h.flag = find_exact(p, name, len, &h.negated);
	if (!h.flag && (p->style & PL_STYLE_PREFIXES) && len > 2 && !strncmp(name, "--", 2))
		h.flag = find_prefix(p, name, len, &h.negated);
	h.inlined = eq ? eq + 1 : NULL;
	return h;
}

/* A negative number is a value, everything else with a dash in front is a flag. */
static bool looks_like_flag(const char *word)
{
	char *end;
	if (word[0] != '-' || !word[1])
		return false;
	(void)strtod(word, &end);
	return end == word;
}

static const char *joined(struct pl_arena *a, const char *one, const char *two)
{
	return one ? pl_arena_printf(a, "%s,%s", one, two) : two;
}

/* Words of one flag, from r->words[*at] on. */
static int take_values(struct pl_reader *r, const struct hit *h, uint32_t *at, const char **value, const char **value2)
{
	enum pl_flag_kind kind = h->flag->kind;
	*value = h->inlined;
	*value2 = NULL;
	if (kind == PL_FLAG_NONE || kind == PL_FLAG_BOOL)
		return 0;
	bool next = *at < r->n_words && !h->inlined;
	if (kind == PL_FLAG_LIST) {
		while (*at < r->n_words && !h->inlined && !looks_like_flag(r->words[*at]))
			*value = joined(r->a, *value, r->words[(*at)++]);
		return 0;
	}
	if (kind == PL_FLAG_MAYBE) {
		if (next && !looks_like_flag(r->words[*at]))
			*value = r->words[(*at)++];
		return 0;
	}
	/* llama.cpp takes the next word whatever it is; argparse stops at a flag */
	bool greedy = !(r->program->style & PL_STYLE_EQUALS);
	if (next && (greedy || !looks_like_flag(r->words[*at])))
		*value = r->words[(*at)++];
	if (!*value)
		return pl_refuse(r, "a value is missing: the program stops here");
	if (kind == PL_FLAG_TWO && *at < r->n_words)
		*value2 = r->words[(*at)++];
	return kind == PL_FLAG_TWO && !*value2 ? pl_refuse(r, "a second value is missing: the program stops here") : 0;
}

/* Not in the table: the next word may be its value. */
static void pass_unknown(struct pl_reader *r, const char *word, uint32_t *at)
{
	const char *value = strchr(word, '=') ? strchr(word, '=') + 1 : NULL;
	if (!value && *at < r->n_words && !looks_like_flag(r->words[*at])) {
		value = r->words[(*at)++];
		r->stray = value;
	}
	note_setting(r, word, value, PL_SETTING_UNKNOWN);
	pl_remark(r, PL_NOTE_WARNING, "'%.80s' is no flag of %s %s, which would refuse it: it is ignored here", word, r->cmd->program, r->program->version);
}

/* --compilation-config.mode 3: the key after the dot and its value, as JSON of the flag before it. */
static int dotted(struct pl_reader *r, const char *word, uint32_t *at, bool *ret_done)
{
	const char *dot = strchr(word, '.'), *eq = strchr(word, '=');
	*ret_done = false;
	if (!(r->program->style & PL_STYLE_DOTS) || !dot || (eq && eq < dot))
		return 0;
	char *head = pl_arena_strndup(r->a, word, (size_t)(dot - word));
	struct hit h = head ? find_flag(r, head) : (struct hit){0};
	if (!h.flag)
		return 0;
	const char *value = eq ? eq + 1 : *at < r->n_words ? r->words[(*at)++] : NULL;
	if (!value)
		return pl_refuse(r, "a value is missing: the program stops here");
	char *key = pl_arena_strndup(r->a, dot + 1, eq ? (size_t)(eq - dot - 1) : strlen(dot + 1));
	char *end;
	(void)strtod(value, &end);
	bool plain = (*value && !*end) || !strcmp(value, "true") || !strcmp(value, "false") || !strcmp(value, "null") || *value == '[' || *value == '{';
	const char *json = pl_arena_printf(r->a, plain ? "{\"%s\": %s}" : "{\"%s\": \"%s\"}", key ? key : "", value);
	note_setting(r, word, value, h.flag->action ? PL_SETTING_READ : PL_SETTING_HARMLESS);
	*ret_done = true;
	return json && h.flag->action ? r->program->apply(r, h.flag, json, NULL, false) : 0;
}

static int read_flag(struct pl_reader *r, const char *word, uint32_t *at)
{
	const char *value, *value2;
	struct hit h = find_flag(r, word);
	bool done = false;
	int rc = 0;
	r->flag = word;
	if (!h.flag && (rc = dotted(r, word, at, &done)) < 0)
		return rc;
	if (done)
		return 0;
	if (!h.flag && !(r->program->style & PL_STYLE_EQUALS) && strchr(word, '=')) { /* what people write, and what it would say */
		char *head = pl_arena_strndup(r->a, word, strcspn(word, "="));
		h = head ? find_flag(r, head) : h;
		h.inlined = strchr(word, '=') + 1;
		if (h.flag)
			pl_remark(r, PL_NOTE_WARNING, "%s refuses '%.80s': it wants the value as a word of its own", r->cmd->program, word);
	}
	if (!h.flag) {
		pass_unknown(r, word, at);
		return 0;
	}
	if (!h.flag->programs)
		pl_remark(r, PL_NOTE_WARNING, "'%.80s' is gone from %s %s, which would refuse it; it is read as older versions did", word,
		          r->cmd->program, r->program->version);
	else if (!(h.flag->programs & r->program->bit))
		pl_remark(r, PL_NOTE_WARNING, "%s %s does not take '%.80s'", r->cmd->program, r->program->version, word);
	rc = take_values(r, &h, at, &value, &value2);
	if (rc)
		return rc;
	note_setting(r, h.inlined ? pl_arena_strndup(r->a, word, strcspn(word, "=")) : word, value,
	             h.flag->action ? PL_SETTING_READ : PL_SETTING_HARMLESS);
	return h.flag->action ? r->program->apply(r, h.flag, value, value2, h.negated) : 0;
}

int pl_read_words(struct pl_reader *r, const char *const *words, uint32_t n)
{
	const char *const *kept = r->words;
	uint32_t kept_n = r->n_words, at = 0;
	int rc = 0;
	r->words = words;
	r->n_words = n;
	while (!rc && at < n) {
		const char *word = words[at++];
		r->flag = NULL;
		if (!strcmp(word, "--"))
			continue;
		if (looks_like_flag(word))
			rc = read_flag(r, word, &at);
		else
			rc = r->program->word(r, word);
	}
	r->words = kept;
	r->n_words = kept_n;
	return rc;
}

/* ---- the environment ----------------------------------------------------------------------------------------------- */

/* Variables of the drivers: which devices exist for the program. */
static const char visible[] = "CUDA_VISIBLE_DEVICES HIP_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES GGML_VK_VISIBLE_DEVICES "
                              "ASCEND_RT_VISIBLE_DEVICES ZE_AFFINITY_MASK NVIDIA_VISIBLE_DEVICES";

static int read_variable(struct pl_reader *r, const char *text)
{
	const struct pl_program *p = r->program;
	size_t len = strcspn(text, "=");
	const char *value = text[len] ? text + len + 1 : "", *name = pl_arena_strndup(r->a, text, len);
	int rc = 0;
	if (!name)
		return 0;
	r->flag = name;
	if (pl_flag_in(visible, name, len)) {
		if (strcmp(value, "all") != 0)
			pl_pick_devices(r, name, value, &r->cmd->visible);
		note_setting(r, name, value, PL_SETTING_READ);
		return 0;
	}
	for (uint32_t i = 0; i < p->n_flags; i++) {
		const struct pl_flag *f = &p->flags[i];
		if (!(f->programs & p->bit) || !pl_flag_in(f->env, name, len))
			continue;
		note_setting(r, name, value, f->action ? PL_SETTING_READ : PL_SETTING_HARMLESS);
		bool no = !strcmp(value, "0") || !strcmp(value, "off") || !strcmp(value, "false") || !strcmp(value, "disabled");
		if (!f->action || (f->kind == PL_FLAG_NONE && no))
			return 0;
		return p->apply(r, f, f->kind == PL_FLAG_NONE || f->kind == PL_FLAG_BOOL ? NULL : value, NULL, f->kind == PL_FLAG_BOOL && no);
	}
	if (p->env && p->env(r, name, value, &rc))
		note_setting(r, name, value, PL_SETTING_READ);
	return rc;
}

int pl_command_read(struct pl_arena *a, const char *const *words, uint32_t n_words, const struct pl_command_files *files,
                    struct pl_command **ret_command, struct pl_err *err)
{
	struct pl_unwrapped u;
	struct pl_command *cmd = PL_NEW(a, struct pl_command);
	int rc = pl_unwrap(a, words, n_words, &u, err);
	if (rc || !cmd)
		return rc ? rc : pl_fail(err, PL_ERR_NOMEM, "--", "out of memory");
	const struct pl_program *p = u.program;
	size_t len = strcspn(p->names, " ");
	cmd->engine = p->engine;
	cmd->version = p->version;
	cmd->program = p->sub ? pl_arena_printf(a, "%.*s %.*s", (int)len, p->names, (int)strcspn(p->sub, "|"), p->sub)
	                      : pl_arena_strndup(a, p->names, len);
	cmd->visible = u.gpus;
	pl_params_default(&cmd->params);
	struct pl_reader r = {.a = a, .cmd = cmd, .program = p, .files = files, .err = err, .words = u.words,
	                      .n_words = u.n_words};
	rc = p->begin(&r);
	for (uint32_t i = 0; i < u.n_env && !rc; i++)
		rc = read_variable(&r, u.env[i]);
	if (!rc)
		rc = pl_read_words(&r, u.words, u.n_words);
	r.flag = NULL;
	if (!rc)
		rc = p->finish(&r);
	if (rc)
		return rc;
	cmd->settings = r.settings;
	cmd->n_settings = r.n_settings;
	if (pl_arena_failed(a))
		return pl_fail(err, PL_ERR_NOMEM, "--", "out of memory while reading the command");
	*ret_command = cmd;
	return 0;
}
