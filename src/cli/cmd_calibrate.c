#include <math.h>

#include <jansson.h>

#include <plimsoll/calibrate.h>

#include "base/fmt.h"
#include "cli/cli.h"

#define _(s) pl_tr(s)

static const char *percent(char *buf, double frac)
{
	return isfinite(frac) ? pl_fmt_percent(buf, frac) : "-";
}

static void print_text(FILE *out, const struct pl_calibration *c)
{
	char b[6][PL_FMT_MAX];
	(void)fprintf(out, _("%u rows, %u of them speeds that can be fitted; %u constants\n"), c->n_rows, c->n_used, c->n_effects);
	(void)fprintf(out, _("error (median, P90)       rows devices         fitted    device left out     model left out\n"));
	for (uint32_t i = 0; i < c->n_classes; i++) {
		const struct pl_calibration_class *x = &c->classes[i];
		if (!x->n)
			continue;
		(void)fprintf(out, "  %-22s %5u %7u %7s %7s   %7s %7s   %7s %7s\n", x->class_name, x->n, x->n_devices,
		              percent(b[0], x->fitted_median_frac), percent(b[1], x->fitted_p90_frac), percent(b[2], x->device_median_frac),
		              percent(b[3], x->device_p90_frac), percent(b[4], x->model_median_frac), percent(b[5], x->model_p90_frac));
	}
}

/* NAN has no place in JSON: null. */
static json_t *real(double n)
{
	return isfinite(n) && n > 0 ? json_real(n) : json_null();
}

static int print_json(FILE *out, const struct pl_calibration *c)
{
	json_t *classes = json_array();
	for (uint32_t i = 0; i < c->n_classes; i++) {
		const struct pl_calibration_class *x = &c->classes[i];
		(void)json_array_append_new(
		    classes, json_pack("{s:s, s:i, s:i, s:o, s:o, s:o, s:o, s:o, s:o}", "class", x->class_name, "n", (int)x->n, "n_devices",
		                       (int)x->n_devices, "fitted_median_frac", real(x->fitted_median_frac), "fitted_p90_frac",
		                       real(x->fitted_p90_frac), "device_median_frac", real(x->device_median_frac), "device_p90_frac",
		                       real(x->device_p90_frac), "model_median_frac", real(x->model_median_frac), "model_p90_frac",
		                       real(x->model_p90_frac)));
	}
	json_t *o = json_pack("{s:i, s:i, s:i, s:o}", "n_rows", (int)c->n_rows, "n_used", (int)c->n_used, "n_effects", (int)c->n_effects,
	                      "classes", classes);
	int rc = o ? json_dumpf(o, out, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) : -1;
	json_decref(o);
	(void)fputc('\n', out);
	return rc ? 70 : 0;
}

int cmd_calibrate(const struct pl_cli *cli)
{
	const uint64_t CEILING_BYTES = (uint64_t)8 << 30;
	struct pl_arena *a = pl_arena_new(CEILING_BYTES);
	const char *output = pl_cli_text(cli, "output");
	const struct pl_calibration *c;
	struct pl_err err = {0};
	int code = 0;
	if (!a)
		return 70;
	int rc = pl_calibrate(a, cli->words, cli->n_words, !pl_cli_flag(cli, "from-nothing"), &c, &err);
	if (!rc && output)
		rc = pl_constants_write(c->constants, output, &err);
	if (rc)
		code = pl_cli_fail(&err);
	else if (cli->json)
		code = print_json(cli->out, c);
	else
		print_text(cli->out, c);
	pl_arena_free(a);
	return code;
}
