#include <locale.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/language.h"

const struct pl_cmd pl_commands[] = {
    {C_PLAN, "plan", "[MODEL] [OPTIONS] [-- COMMAND]", PL_N_("does it fit, where does every byte go, what starts it"),
     PL_N_("Plans MODEL on HARDWARE. MODEL is a .gguf file, a folder with config.json or safetensors, a catalogue name such as "
           "Qwen/Qwen3-32B, hf:owner/repo or an https URL of which only the header is read. Prints the verdict, memory by device "
           "and cause, limits, the launch line and, where it does not fit, the smallest changes that make it fit."),
     1, 1, cmd_plan},
    {C_INSPECT, "inspect", "FILE", PL_N_("what is in a model file"),
     PL_N_("Reads the header of a GGUF or safetensors model and lists its precision, its tensors and its cache per token."), 1, 1,
     cmd_inspect},
    {C_SHOW, "show", "KIND [NAME]", PL_N_("the catalogue: gpu, node, cloud, cpu, host, link, precision, model, engine, quant"),
     PL_N_("Shows one entry of the catalogue with the source of its facts, or lists all of them."), 1, 2, cmd_show},
    {C_SYNTH, "synth", "MODEL -o FILE", PL_N_("write a model file with true shapes and dummy weights"),
     PL_N_("Writes a GGUF file that llama.cpp loads, serves and benches: try a machine before downloading the model. With --sparse only "
           "the header takes space on disk."),
     1, 1, cmd_synth},
    {C_VALIDATE, "validate", "FILE.csv", PL_N_("how far predictions are from a table of measurements"),
     PL_N_("Reads a table of measurements (its kind is told from its columns), predicts every row and prints coverage, median and P90 "
           "error by metric and class. Rows that cannot be predicted are counted with the reason; rows that break physics are flagged by "
           "the rules of docs/validation.md."),
     1, 1, cmd_validate},
    {C_CALIBRATE, "calibrate", "TABLE.csv…", PL_N_("fit the speed model's constants to measurements"),
     PL_N_("Reads tables of speeds and fits the constants of the speed model to them. By default they are fitted on top of the shipped "
           "ones, which takes less than a second for a dozen rows of your own; write them with -o and give the file to --calibration. "
           "With --from-nothing all constants are fitted anew and every device, then every model, is left out in turn to find errors and "
           "intervals: that is how data/calibration.csv is made."),
     1, PL_MAX_WORDS, cmd_calibrate},
    {C_EMIT, "emit", "FORMAT MODEL [OPTIONS]", PL_N_("the plan as compose, kubernetes, lws, systemd, slurm, ray or shell files"),
     PL_N_("Plans MODEL as 'plimsoll plan' does and writes what starts it: GPUs pinned, memory limits from the plan, health checks, a load "
           "balancer in front of replicas. FORMAT is compose, kubernetes, lws, systemd, slurm, ray or shell. Files are printed, or written "
           "to the folder of -o."),
     2, 2, cmd_emit},
    {C_DOCTOR, "doctor", "[MODEL] [OPTIONS]", PL_N_("is this machine ready: drivers, links, memory, disks, limits, engines"),
     PL_N_("Looks at this machine through its drivers and the kernel and says what stands in the way of a model or an engine, why it "
           "matters in numbers, and the command that mends it. With MODEL the plan for this machine is held against what is free now. "
           "Changes nothing. Exit code 1: something will not work."),
     0, 1, cmd_doctor},
    {C_GATHER, "gather", "[MODEL] [-o FILE]", PL_N_("write down this machine's facts, to plan for it elsewhere"),
     PL_N_("Records what planning and the doctor read of this machine, as JSON: 'plimsoll plan MODEL --on FILE.json' and 'plimsoll doctor "
           "--facts FILE.json' then answer for it anywhere. With MODEL, its disk is measured. Names of users, hosts and networks are not "
           "recorded."),
     0, 1, cmd_gather},
    {C_UP, "up", "[MODEL] [OPTIONS] [-- COMMAND]", PL_N_("start an engine as planned and wait until it answers"),
     PL_N_("Plans MODEL for this machine and starts the engine: its program where it is installed, else its container image. Waits until "
           "the health endpoint answers; a start that fails is explained, with the plan that would work. Answers on this machine only "
           "unless --host says otherwise; then clients are asked for a key (PLIMSOLL_API_KEY, or one that is made)."),
     1, 1, cmd_up},
    {C_DOWN, "down", "NAME", PL_N_("end an engine that 'plimsoll up' started"),
     PL_N_("Ends what was started under NAME and nothing else, also after this program or the machine was restarted."), 1, 1, cmd_down},
    {C_STATUS, "status", "[NAME]", PL_N_("the engines that 'plimsoll up' started"),
     PL_N_("Lists engines by name: starting, ready, exited by itself, or gone with the machine's last start."), 0, 1, cmd_status},
    {C_BENCH, "bench", "URL|NAME [OPTIONS]", PL_N_("load an OpenAI-compatible endpoint and measure its latencies"),
     PL_N_("Sends streamed completions to URL, or to the engine that 'plimsoll up' started under NAME, and prints percentiles of TTFT, "
           "TPOT, ITL and end-to-end time, throughput and goodput. --clients N sends the next request when an answer is complete; --rate R "
           "sends by the clock, and every latency counts from the planned time. --sweep goes through several loads, or on to saturation. "
           "Every request is kept in a database; --resume goes on with a sweep that was interrupted."),
     1, 1, cmd_bench},
    {C_VERIFY, "verify", "NAME | --log FILE [MODEL] [-- COMMAND]", PL_N_("plan against truth: memory and speed, predicted and measured"),
     PL_N_("Holds the plan of an engine that 'plimsoll up' started under NAME against its log, the kernel's and the driver's view of its "
           "memory, and a short load. With --log, the log of any run is held against the plan of MODEL, or of the engine's own command after "
           "--. --share appends what was measured to a table without names, for 'plimsoll calibrate'."),
     1, 1, cmd_verify},
    {C_WATCH, "watch", "[NAME] [OPTIONS]", PL_N_("live memory, power and tokens of a running engine, beside its plan"),
     PL_N_("Shows device and host memory with the plan's marks, power, temperature, clocks, the engine's requests, cache and tokens a second, "
           "and when it was loading, loaded, generating and freed. Without NAME, the machine alone. --once prints one sample."),
     0, 1, cmd_watch},
    {0, NULL, NULL, NULL, NULL, 0, 0, NULL},
};

int pl_cli_fail(const struct pl_err *err)
{
	(void)fflush(stdout);
	if (*err->where)
		(void)fprintf(stderr, "plimsoll: %s: %s\n", err->where, err->msg);
	else
		(void)fprintf(stderr, "plimsoll: %s\n", err->msg);
	return pl_err_exit_code(err->code);
}

static int terminal_columns(void)
{
	struct winsize w;
	const char *env = getenv("COLUMNS");
	int n = env ? atoi(env) : 0;
	if (n <= 0 && !ioctl(STDOUT_FILENO, TIOCGWINSZ, &w))
		n = w.ws_col;
	return n <= 0 ? 100 : n < 60 ? 60 : n > 160 ? 160 : n;
}

static bool wants_color(const struct pl_cli *cli)
{
	const char *how = pl_cli_text(cli, "color"), *term = getenv("TERM");
	if (how && !strcmp(how, "always"))
		return true;
	if (how && !strcmp(how, "never"))
		return false;
	return isatty(STDOUT_FILENO) && !getenv("NO_COLOR") && (!term || strcmp(term, "dumb") != 0);
}

/* --lang must count before the first message, also for one about a wrong option. */
static void choose_language(int argc, char **argv)
{
	const char *lang = NULL;
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
		if (!strncmp(argv[i], "--lang=", 7))
			lang = argv[i] + 7;
		else if (!strcmp(argv[i], "--lang") && i + 1 < argc)
			lang = argv[i + 1];
	}
	pl_language_set(lang);
}

/* What was printed must have arrived: a full disk or a closed pipe is a failure. */
static int finish(int code)
{
	if (fflush(stdout) || ferror(stdout)) {
		(void)fprintf(stderr, "plimsoll: %s\n", pl_tr("the output could not be written"));
		return 4;
	}
	return code;
}

/* For the build: man pages and completions made from the tables. */
static int generate(int argc, char **argv)
{
	struct pl_err err = {0};
	if (!strcmp(argv[1], "__man")) {
		const struct pl_cmd *cmd = argc > 2 ? pl_command_find(argv[2], &err) : NULL;
		if (argc > 2 && !cmd)
			return pl_cli_fail(&err);
		pl_man_page(stdout, cmd);
		return 0;
	}
	if (!strcmp(argv[1], "__commands")) {
		for (const struct pl_cmd *c = pl_commands; c->name; c++)
			(void)printf("%s\n", c->name);
		return 0;
	}
	return !strcmp(argv[1], "__complete") && argc > 2 && pl_completion(stdout, argv[2]) ? 0 : 2;
}

int main(int argc, char **argv)
{
	struct pl_cli cli = {.out = stdout};
	struct pl_err err = {0};
	/* A plan tries dozens of layouts in memory of their own: pages given back to the system between them cost more than the trials. */
	(void)mallopt(M_MMAP_MAX, 0); /* a threshold above 32 MiB is refused, and large graphs have larger arrays */
	(void)mallopt(M_TRIM_THRESHOLD, 1 << 30);
	pl_cli_json_init();
	(void)setlocale(LC_CTYPE, ""); /* numbers stay in the C locale */
	choose_language(argc, argv);
	if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		pl_help_program(argc < 2 ? stderr : stdout, terminal_columns());
		return finish(argc < 2 ? 2 : 0);
	}
	if (!strcmp(argv[1], "--version")) {
		(void)printf("plimsoll %s\n", PL_VERSION);
		return finish(0);
	}
	if (!strncmp(argv[1], "__", 2))
		return finish(generate(argc, argv));
	if (!strncmp(argv[1], "--lang", 6) && argc > 2) { /* before the command */
		int skip = strchr(argv[1], '=') ? 1 : 2;
		argv += skip;
		argc -= skip;
		if (argc < 2)
			return 2;
	}
	cli.command = pl_command_find(argv[1], &err);
	if (!cli.command)
		return pl_cli_fail(&err);
	if (pl_cli_parse(&cli, argc - 2, argv + 2, &err))
		return pl_cli_fail(&err);
	if (pl_cli_flag(&cli, "help")) {
		pl_help_command(stdout, cli.command, terminal_columns());
		return finish(0);
	}
	cli.json = pl_cli_flag(&cli, "json");
	cli.color = wants_color(&cli);
	cli.columns = terminal_columns();
	return finish(cli.command->run(&cli));
}
