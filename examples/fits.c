/* Does a model fit on a machine? The whole use of the library: load, plan, read the answer.
 *
 *   cc fits.c $(pkg-config --cflags --libs plimsoll) -o fits
 *   ./fits Qwen/Qwen3-32B q4_k_m "2x rtx3090, ram 64GiB" */
#include <inttypes.h>
#include <stdio.h>

#include <plimsoll/plan.h>
#include <plimsoll/source.h>

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: fits MODEL PRECISION HARDWARE\n");
		return 2;
	}
	struct pl_arena *arena = pl_arena_new(0); /* everything below lives in it */
	struct pl_loaded *loaded = NULL;          /* keeps the file open while the model is used */
	struct pl_plan_request request = {.model_ref = argv[1]};
	const struct pl_plan *plan = NULL;
	struct pl_err err = {0};
	int code = 70;

	pl_params_default(&request.params); /* the engine's own defaults; n_ctx_tokens 0 lets the planner choose */
	if (arena && !pl_load(arena, argv[1], argv[2], &loaded, &request.model, &err) &&
	    !pl_load_machine(arena, argv[3], &request.machine, &err) && !pl_plan_make(arena, &request, &plan, &err)) {
		printf("%s: %s with %s\n", argv[1], pl_verdict_name(plan->verdict), plan->engine->id);
		for (uint32_t i = 0; i < plan->layout.n_devices; i++) {
			const struct pl_use *use = &plan->layout.devices[i];
			printf("  %s: %" PRIu64 " of %" PRIu64 " MiB\n", use->name, pl_use_total_bytes(use) >> 20, use->total_bytes >> 20);
		}
		code = plan->verdict == PL_VERDICT_NO_FIT ? 1 : 0;
	} else {
		fprintf(stderr, "fits: %s: %s\n", err.where, err.msg);
		code = pl_err_exit_code(err.code);
	}
	pl_loaded_free(loaded);
	pl_arena_free(arena);
	return code;
}
