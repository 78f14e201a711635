/* Help, man pages and completion: all of them read the two tables. */
#include <ctype.h>
#include <string.h>

#include "base/fmt.h"
#include "cli/cli.h"

#define _(s) pl_tr(s)

static bool shown(const struct pl_option *o, const struct pl_cmd *cmd)
{
	return o->commands & (unsigned)cmd->id;
}

static void spaces(FILE *out, int n)
{
	for (; n > 0; n--)
		(void)fputc(' ', out);
}

/* Text from column `indent` on, broken between words, or anywhere between wide characters, before `columns`. */
static void wrapped(FILE *out, const char *text, int indent, int columns)
{
	int room = columns - indent < 20 ? 20 : columns - indent;
	while (pl_text_columns(text) > room) {
		size_t cut = pl_text_line(text, room);
		(void)fwrite(text, 1, cut, out);
		(void)fputc('\n', out);
		spaces(out, indent);
		text += cut;
		text += strspn(text, " ");
	}
	(void)fprintf(out, "%s\n", text);
}

void pl_help_program(FILE *out, int columns)
{
	(void)fprintf(out, "%s\n\n", _("plimsoll: which model, in which precision, fits on which hardware, and where every byte goes"));
	(void)fprintf(out, "%s\n  plimsoll plan Qwen/Qwen3-32B --quant gptq-int4 --on \"2x v100-sxm2-16gb, nvlink, ram 64GiB\"\n", _("Try"));
	(void)fprintf(out, "  plimsoll plan ./model.gguf\n  plimsoll show gpu 4090\n\n%s\n", _("Commands"));
	for (const struct pl_cmd *c = pl_commands; c->name; c++) {
		int n = (int)strlen(c->name) + 1 + pl_text_columns(c->arguments);
		(void)fprintf(out, "  %s %s", c->name, c->arguments);
		if (n > 33) /* too long to stand beside its summary */
			(void)fputc('\n', out);
		spaces(out, n > 33 ? 36 : 34 - n);
		wrapped(out, _(c->summary), 36, columns);
	}
	(void)fputc('\n', out);
	wrapped(out, _("'plimsoll COMMAND --help' shows its options. Exit codes: 0 fits, 1 does not fit, 2 usage, 3 bad input, 4 environment, 70 fault of the program."), 0, columns);
}

void pl_help_command(FILE *out, const struct pl_cmd *cmd, int columns)
{
	(void)fprintf(out, "plimsoll %s %s\n\n", cmd->name, cmd->arguments);
	wrapped(out, _(cmd->description), 0, columns);
	(void)fprintf(out, "\n%s\n", _("Options"));
	for (unsigned i = 0; i < pl_n_options; i++) {
		const struct pl_option *o = &pl_options[i];
		if (!shown(o, cmd))
			continue;
		(void)fprintf(out, o->letter ? "  -%c, " : "      ", o->letter);
		(void)fprintf(out, *o->metavar ? "--%s %s" : "--%s", o->name, o->metavar);
		spaces(out, columns < 80 ? 0 : 34 + !*o->metavar - (int)strlen(o->name) - pl_text_columns(o->metavar));
		int indent = columns < 80 ? 10 : 44; /* a narrow terminal has the text below */
		(void)fputc(columns < 80 ? '\n' : ' ', out);
		spaces(out, columns < 80 ? indent : 0);
		wrapped(out, _(o->text), indent, columns);
	}
}

/* ---- man ---------------------------------------------------------------------------------------------------------- */

/* roff takes a leading dot or quote as a request and a minus as a hyphen. */
static void roff(FILE *out, const char *text)
{
	bool start = true;
	for (; *text; text++) {
		if (start && (*text == '.' || *text == '\''))
			(void)fputs("\\&", out);
		start = *text == '\n';
		if (*text == '\\')
			(void)fputs("\\e", out);
		else if (*text == '-')
			(void)fputs("\\-", out);
		else if (!strncmp(text, "…", 3)) {
			(void)fputs("...", out);
			text += 2;
		} else
			(void)fputc(*text, out);
	}
}

static void man_options(FILE *out, const struct pl_cmd *cmd)
{
	(void)fputs(".SH OPTIONS\n", out);
	for (unsigned i = 0; i < pl_n_options; i++) {
		const struct pl_option *o = &pl_options[i];
		if (!shown(o, cmd))
			continue;
		(void)fputs(".TP\n", out);
		if (o->letter)
			(void)fprintf(out, "\\fB\\-%c\\fR, ", o->letter);
		(void)fputs("\\fB\\-\\-", out);
		roff(out, o->name);
		(void)fputs("\\fR", out);
		if (*o->metavar) {
			(void)fputs(" \\fI", out);
			roff(out, o->metavar);
			(void)fputs("\\fR", out);
		}
		(void)fputc('\n', out);
		roff(out, o->text);
		(void)fputc('\n', out);
	}
}

void pl_man_page(FILE *out, const struct pl_cmd *cmd)
{
	(void)fprintf(out, ".TH PLIMSOLL%s%s 1 \"\" \"plimsoll " PL_VERSION "\" \"User Commands\"\n", cmd ? "-" : "", cmd ? cmd->name : "");
	(void)fprintf(out, ".SH NAME\nplimsoll%s%s \\- ", cmd ? "\\-" : "", cmd ? cmd->name : "");
	roff(out, cmd ? cmd->summary : "plan running large models on hardware");
	(void)fputs("\n.SH SYNOPSIS\n\\fBplimsoll\\fR ", out);
	roff(out, cmd ? cmd->name : "COMMAND");
	(void)fputc(' ', out);
	roff(out, cmd ? cmd->arguments : "[OPTIONS]");
	(void)fputs("\n.SH DESCRIPTION\n", out);
	if (cmd) {
		roff(out, cmd->description);
		(void)fputc('\n', out);
		man_options(out, cmd);
	} else {
		(void)fputs("Says which model, in which precision, fits on which hardware, and where every byte goes.\n", out);
		for (const struct pl_cmd *c = pl_commands; c->name; c++) {
			(void)fprintf(out, ".TP\n\\fBplimsoll\\-%s\\fR(1)\n", c->name);
			roff(out, c->summary);
			(void)fputc('\n', out);
		}
	}
	static const struct {
		const char *code, *means;
	} codes[] = {{"0", "done; the plan fits"},         {"1", "the plan does not fit"},
	             {"2", "the request is not understood"}, {"3", "bad input: a malformed file, an unknown name"},
	             {"4", "the environment: a file that cannot be read, no network"}, {"70", "a fault of the program"}};
	(void)fputs(".SH EXIT STATUS\n", out);
	for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
		(void)fprintf(out, ".TP\n%s\n%s\n", codes[i].code, codes[i].means);
	(void)fputs(".SH ENVIRONMENT\n.TP\nLANGUAGE, LC_ALL, LC_MESSAGES, LANG\nlanguage of messages: English or Chinese\n"
	            ".TP\nCOLUMNS, NO_COLOR\nwidth and colours of the output\n"
	            ".TP\nHF_TOKEN, HF_ENDPOINT\ntoken and address for hf: references\n.SH SEE ALSO\n", out);
	const char *comma = "";
	for (const struct pl_cmd *c = pl_commands; c->name; c++) {
		if (c == cmd)
			continue;
		(void)fprintf(out, "%s\\fBplimsoll\\-%s\\fR(1)", comma, c->name);
		comma = ",\n";
	}
	(void)fputc('\n', out);
}

/* ---- completion ------------------------------------------------------------------------------------------------- */

static void bash(FILE *out)
{
	(void)fputs("# bash completion for plimsoll\n_plimsoll() {\n\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
	            "\tif [ \"$COMP_CWORD\" -eq 1 ]; then\n\t\tCOMPREPLY=($(compgen -W \"",
	            out);
	for (const struct pl_cmd *c = pl_commands; c->name; c++)
		(void)fprintf(out, "%s ", c->name);
	(void)fputs("--help --version\" -- \"$cur\"))\n\t\treturn\n\tfi\n\tcase $prev in\n", out);
	for (unsigned i = 0; i < pl_n_options; i++)
		if (pl_options[i].kind == PL_OPT_CHOICE) {
			(void)fprintf(out, "\t--%s) COMPREPLY=($(compgen -W \"", pl_options[i].name);
			for (const char *p = pl_options[i].metavar; *p; p++)
				(void)fputc(*p == '|' ? ' ' : *p, out);
			(void)fputs("\" -- \"$cur\")); return ;;\n", out);
		}
	(void)fputs("\tesac\n\tcase ${COMP_WORDS[1]} in\n", out);
	for (const struct pl_cmd *c = pl_commands; c->name; c++) {
		(void)fprintf(out, "\t%s) words=\"", c->name);
		for (unsigned i = 0; i < pl_n_options; i++)
			if (shown(&pl_options[i], c))
				(void)fprintf(out, "--%s ", pl_options[i].name);
		(void)fputs("\" ;;\n", out);
	}
	(void)fputs("\tesac\n\tCOMPREPLY=($(compgen -W \"$words\" -f -- \"$cur\"))\n}\ncomplete -o filenames -F _plimsoll plimsoll\n", out);
}

/* In single quotes for zsh and fish. */
static void quoted(FILE *out, const char *text, const char *escape)
{
	for (; *text; text++) {
		if (*text == '\'')
			(void)fputs("'\\''", out);
		else if (strchr(escape, *text))
			(void)fprintf(out, "\\%c", *text);
		else
			(void)fputc(*text, out);
	}
}

static void zsh(FILE *out)
{
	(void)fputs("#compdef plimsoll\nif (( CURRENT == 2 )); then\n\tlocal -a commands=(", out);
	for (const struct pl_cmd *c = pl_commands; c->name; c++) {
		(void)fprintf(out, "'%s:", c->name);
		quoted(out, c->summary, ":");
		(void)fputs("' ", out);
	}
	(void)fputs(")\n\t_describe command commands\n\treturn\nfi\ncase $words[2] in\n", out);
	for (const struct pl_cmd *c = pl_commands; c->name; c++) {
		(void)fprintf(out, "%s) _arguments", c->name);
		for (unsigned i = 0; i < pl_n_options; i++) {
			const struct pl_option *o = &pl_options[i];
			if (!shown(o, c))
				continue;
			(void)fprintf(out, " '--%s[", o->name);
			quoted(out, o->text, "[]:");
			(void)fputs("]", out);
			if (o->kind == PL_OPT_CHOICE) {
				(void)fputs(":value:(", out);
				for (const char *p = o->metavar; *p; p++)
					(void)fputc(*p == '|' ? ' ' : *p, out);
				(void)fputs(")", out);
			} else if (o->kind != PL_OPT_FLAG) {
				(void)fputs(":value:", out);
			}
			(void)fputs("'", out);
		}
		(void)fputs(" '*:file:_files' ;;\n", out);
	}
	(void)fputs("esac\n", out);
}

static void fish(FILE *out)
{
	for (const struct pl_cmd *c = pl_commands; c->name; c++) {
		(void)fprintf(out, "complete -c plimsoll -n __fish_use_subcommand -f -a %s -d '", c->name);
		quoted(out, c->summary, "\\");
		(void)fputs("'\n", out);
		for (unsigned i = 0; i < pl_n_options; i++) {
			const struct pl_option *o = &pl_options[i];
			if (!shown(o, c))
				continue;
			(void)fprintf(out, "complete -c plimsoll -n '__fish_seen_subcommand_from %s' -l %s%s -d '", c->name, o->name,
			              o->kind == PL_OPT_FLAG ? "" : " -r");
			quoted(out, o->text, "\\");
			(void)fputs("'", out);
			if (o->kind == PL_OPT_CHOICE) {
				(void)fputs(" -f -a '", out);
				for (const char *p = o->metavar; *p; p++)
					(void)fputc(*p == '|' ? ' ' : *p, out);
				(void)fputs("'", out);
			}
			(void)fputc('\n', out);
		}
	}
}

bool pl_completion(FILE *out, const char *shell)
{
	if (!strcmp(shell, "bash"))
		bash(out);
	else if (!strcmp(shell, "zsh"))
		zsh(out);
	else if (!strcmp(shell, "fish"))
		fish(out);
	else
		return false;
	return true;
}
