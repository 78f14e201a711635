/* The command line: one table of options, one file a command. */
#ifndef PLIMSOLL_CLI_CLI_H
#define PLIMSOLL_CLI_CLI_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <plimsoll/error.h>

enum pl_command_id {
	C_PLAN = 1,
	C_INSPECT = 2,
	C_SHOW = 4,
	C_SYNTH = 8,
	C_VALIDATE = 16,
	C_EMIT = 32,
	C_DOCTOR = 64,
	C_GATHER = 128,
	C_CALIBRATE = 256,
	C_UP = 512,
	C_DOWN = 1024,
	C_STATUS = 2048,
	C_BENCH = 4096,
	C_VERIFY = 8192,
	C_WATCH = 16384,
	C_PLANS = C_PLAN | C_EMIT | C_DOCTOR | C_UP | C_VERIFY, /* those that make a plan first */
	C_ALL = 0xffff
};
enum pl_option_kind { PL_OPT_FLAG, PL_OPT_TEXT, PL_OPT_CHOICE, PL_OPT_WHOLE, PL_OPT_TOKENS, PL_OPT_FRACTION };

struct pl_option {
	unsigned commands;
	const char *name;
	char letter;
	enum pl_option_kind kind;
	const char *metavar; /* "" for flags; the words of a choice */
	double least, most;
	const char *text;
};
extern const struct pl_option pl_options[];
extern const unsigned pl_n_options;

struct pl_cli;
struct pl_cmd {
	enum pl_command_id id;
	const char *name, *arguments, *summary;
	const char *description; /* paragraphs, for --help and the man page */
	unsigned min_words, max_words;
	int (*run)(const struct pl_cli *cli); /* returns the exit code */
};
extern const struct pl_cmd pl_commands[]; /* ends with a NULL name */

enum { PL_MAX_WORDS = 64, PL_MAX_OPTIONS = 192 };

struct pl_cli {
	const struct pl_cmd *command;
	const char *values[PL_MAX_OPTIONS]; /* by index of pl_options; "" for a flag that is set */
	const char *words[PL_MAX_WORDS];
	unsigned n_words;
	const char *const *tail; /* after "--": an engine's own command, for commands that plan */
	unsigned n_tail;
	bool json, color;
	int columns;
	FILE *out;
};

/* Reads the words after the command's name. */
int pl_cli_parse(struct pl_cli *cli, int argc, char **argv, struct pl_err *err) PL_MUST_CHECK;
/* Value of an option by its long name; NULL when it was not given. */
const char *pl_cli_text(const struct pl_cli *cli, const char *name);
bool pl_cli_flag(const struct pl_cli *cli, const char *name);
/* A number already checked against the option's range; fallback when not given. */
double pl_cli_number(const struct pl_cli *cli, const char *name, double fallback);
/* The command called name; NULL with the nearest in err. */
const struct pl_cmd *pl_command_find(const char *name, struct pl_err *err);

/* Prints the fault on stderr; returns its exit code. */
int pl_cli_fail(const struct pl_err *err);

/* Prints o, of which it takes the reference, and a newline. NULL and members that could not be allocated are out of memory. */
struct json_t;
int pl_cli_json(FILE *out, struct json_t *o, struct pl_err *err) PL_MUST_CHECK;
void pl_cli_json_init(void); /* once, before anything else */

/* Texts made from the tables (cli/help.c). */
void pl_help_program(FILE *out, int columns);
void pl_help_command(FILE *out, const struct pl_cmd *cmd, int columns);
void pl_man_page(FILE *out, const struct pl_cmd *cmd); /* NULL: plimsoll(1) itself */
bool pl_completion(FILE *out, const char *shell);      /* bash, zsh or fish */

int cmd_plan(const struct pl_cli *cli);
int cmd_bench(const struct pl_cli *cli);
int cmd_doctor(const struct pl_cli *cli);
int cmd_down(const struct pl_cli *cli);
int cmd_emit(const struct pl_cli *cli);
int cmd_gather(const struct pl_cli *cli);
int cmd_inspect(const struct pl_cli *cli);
int cmd_show(const struct pl_cli *cli);
int cmd_status(const struct pl_cli *cli);
int cmd_synth(const struct pl_cli *cli);
int cmd_up(const struct pl_cli *cli);
int cmd_validate(const struct pl_cli *cli);
int cmd_calibrate(const struct pl_cli *cli);
int cmd_verify(const struct pl_cli *cli);
int cmd_watch(const struct pl_cli *cli);

#endif
