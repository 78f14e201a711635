#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "catalog/normal.h"
#include "cli/cli.h"

const struct pl_option pl_options[] = {
#define X(commands, name, letter, kind, metavar, least, most, text) \
	{commands, name, letter, PL_OPT_##kind, metavar, least, most, text},
#include "cli/options.def"
#undef X
};
const unsigned pl_n_options = sizeof pl_options / sizeof *pl_options;

static bool applies(const struct pl_option *o, const struct pl_cli *cli)
{
	return o->commands & (unsigned)cli->command->id;
}

static const struct pl_option *find_long(const struct pl_cli *cli, const char *name, size_t len)
{
	for (unsigned i = 0; i < pl_n_options; i++)
		if (applies(&pl_options[i], cli) && strlen(pl_options[i].name) == len && !memcmp(pl_options[i].name, name, len))
			return &pl_options[i];
	return NULL;
}

static const struct pl_option *find_letter(const struct pl_cli *cli, char letter)
{
	for (unsigned i = 0; i < pl_n_options; i++)
		if (applies(&pl_options[i], cli) && pl_options[i].letter == letter)
			return &pl_options[i];
	return NULL;
}

static int unknown_option(const struct pl_cli *cli, const char *word, struct pl_err *err)
{
	const char *near = NULL;
	int best = 4;
	for (unsigned i = 0; i < pl_n_options; i++) {
		if (!applies(&pl_options[i], cli))
			continue;
		int d = pl_edit_distance(word + strspn(word, "-"), pl_options[i].name);
		if (d < best) {
			best = d;
			near = pl_options[i].name;
		}
	}
	if (near)
		return pl_fail(err, PL_ERR_USAGE, cli->command->name, "there is no option '%.60s'; did you mean '--%s'?", word, near);
	return pl_fail(err, PL_ERR_USAGE, cli->command->name, "there is no option '%.60s'; 'plimsoll %s --help' lists them", word,
	               cli->command->name);
}

/* "32768", "32k", "1M": thousands of tokens are 1024, as in model names. */
static bool read_number(const struct pl_option *o, const char *text, double *ret)
{
	char *end;
	double n = strtod(text, &end);
	if (end == text || !isfinite(n) || (*text != '-' && (*text < '0' || *text > '9') && *text != '.'))
		return false;
	if (o->kind == PL_OPT_TOKENS && (*end == 'k' || *end == 'K')) {
		n *= 1024;
		end++;
	} else if (o->kind == PL_OPT_TOKENS && (*end == 'm' || *end == 'M')) {
		n *= 1048576;
		end++;
	}
	*ret = n;
	return !*end && (o->kind == PL_OPT_FRACTION || n == floor(n));
}

static bool is_choice(const char *choices, const char *value)
{
	size_t len = strlen(value);
	for (const char *p = choices; len && *p;) {
		size_t n = strcspn(p, "|");
		if (n == len && !memcmp(p, value, n))
			return true;
		p += n + (p[n] == '|');
	}
	return false;
}

static int check_value(const struct pl_option *o, const char *value, struct pl_err *err)
{
	char where[64];
	double n;
	(void)snprintf(where, sizeof where, "--%s", o->name);
	if (o->kind == PL_OPT_TEXT && !*value)
		return pl_fail(err, PL_ERR_USAGE, where, "the value is empty");
	if (o->kind == PL_OPT_CHOICE && !is_choice(o->metavar, value))
		return pl_fail(err, PL_ERR_USAGE, where, "'%.60s' is not one of %s", value, o->metavar);
	if (o->kind < PL_OPT_WHOLE)
		return 0;
	if (!read_number(o, value, &n))
		return pl_fail(err, PL_ERR_USAGE, where, "'%.60s' is not a %s", value,
		               o->kind == PL_OPT_FRACTION ? pl_tr("fraction") : pl_tr("whole number"));
	if (n < o->least || n > o->most)
		return pl_fail(err, PL_ERR_USAGE, where, "%.60s is outside %g to %.9g", value, o->least, o->most);
	return 0;
}

static int set(struct pl_cli *cli, const struct pl_option *o, const char *value, struct pl_err *err)
{
	int rc = check_value(o, value, err);
	if (!rc)
		cli->values[o - pl_options] = value;
	return rc;
}

static int long_option(struct pl_cli *cli, char **argv, int *i, int argc, struct pl_err *err)
{
	const char *word = argv[*i] + 2, *eq = strchr(word, '=');
	const struct pl_option *o = find_long(cli, word, eq ? (size_t)(eq - word) : strlen(word));
	if (!o)
		return unknown_option(cli, argv[*i], err);
	if (o->kind == PL_OPT_FLAG) {
		if (eq)
			return pl_fail(err, PL_ERR_USAGE, argv[*i], "the option takes no value");
		return set(cli, o, "", err);
	}
	if (!eq && *i + 1 >= argc)
		return pl_fail(err, PL_ERR_USAGE, argv[*i], "the option needs a value: %s", o->metavar);
	return set(cli, o, eq ? eq + 1 : argv[++*i], err);
}

static int short_option(struct pl_cli *cli, char **argv, int *i, int argc, struct pl_err *err)
{
	for (const char *p = argv[*i] + 1; *p; p++) {
		const struct pl_option *o = find_letter(cli, *p);
		if (!o)
			return unknown_option(cli, argv[*i], err);
		if (o->kind == PL_OPT_FLAG) {
			int rc = set(cli, o, "", err);
			if (rc)
				return rc;
			continue;
		}
		if (p[1])
			return set(cli, o, p + 1, err);
		if (*i + 1 >= argc)
			return pl_fail(err, PL_ERR_USAGE, argv[*i], "the option needs a value: %s", o->metavar);
		return set(cli, o, argv[++*i], err);
	}
	return 0;
}

int pl_cli_parse(struct pl_cli *cli, int argc, char **argv, struct pl_err *err)
{
	bool words_only = false;
	int rc = 0;
	for (int i = 0; i < argc && !rc; i++) {
		if (!words_only && !strcmp(argv[i], "--")) {
			words_only = true;
			if ((unsigned)cli->command->id & C_PLANS) {
				cli->tail = (const char *const *)argv + i + 1;
				cli->n_tail = (unsigned)(argc - i - 1);
				break;
			}
		} else if (!words_only && !strncmp(argv[i], "--", 2)) {
			rc = long_option(cli, argv, &i, argc, err);
		} else if (!words_only && argv[i][0] == '-' && argv[i][1]) {
			rc = short_option(cli, argv, &i, argc, err);
		} else if (cli->n_words == PL_MAX_WORDS) {
			rc = pl_fail(err, PL_ERR_USAGE, cli->command->name, "more than %d words", PL_MAX_WORDS);
		} else {
			cli->words[cli->n_words++] = argv[i];
		}
	}
	if (rc || pl_cli_flag(cli, "help"))
		return rc;
	if (cli->n_words + (cli->tail ? 1 : 0) < cli->command->min_words)
		return pl_fail(err, PL_ERR_USAGE, cli->command->name, "something is missing: plimsoll %s %s", cli->command->name,
		               cli->command->arguments);
	if (cli->n_words > cli->command->max_words)
		return pl_fail(err, PL_ERR_USAGE, cli->command->name, "'%.60s' is one word too many: plimsoll %s %s",
		               cli->words[cli->command->max_words], cli->command->name, cli->command->arguments);
	return 0;
}

const char *pl_cli_text(const struct pl_cli *cli, const char *name)
{
	const struct pl_option *o = find_long(cli, name, strlen(name));
	return o ? cli->values[o - pl_options] : NULL;
}

bool pl_cli_flag(const struct pl_cli *cli, const char *name)
{
	return pl_cli_text(cli, name) != NULL;
}

double pl_cli_number(const struct pl_cli *cli, const char *name, double fallback)
{
	const struct pl_option *o = find_long(cli, name, strlen(name));
	const char *text = o ? cli->values[o - pl_options] : NULL;
	double n = fallback;
	return text && read_number(o, text, &n) ? n : fallback;
}

const struct pl_cmd *pl_command_find(const char *name, struct pl_err *err)
{
	const char *near = NULL;
	int best = 3;
	for (const struct pl_cmd *c = pl_commands; c->name; c++) {
		int d = pl_edit_distance(name, c->name);
		if (!d)
			return c;
		if (d < best) {
			best = d;
			near = c->name;
		}
	}
	if (near)
		(void)pl_fail(err, PL_ERR_USAGE, NULL, "there is no command '%.60s'; did you mean '%s'?", name, near);
	else
		(void)pl_fail(err, PL_ERR_USAGE, NULL, "there is no command '%.60s'; 'plimsoll --help' lists them", name);
	return NULL;
}
