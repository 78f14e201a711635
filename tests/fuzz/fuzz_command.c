#include <string.h>

#include <plimsoll/command.h>

#include "fuzz.h"

enum { MAX_WORDS = 256 };

struct input {
	const char *text;
	size_t len;
};

/* Whatever file a command names holds the input itself. */
static int read_input(void *ctx, struct pl_arena *a, const char *path, const char **ret_text, size_t *ret_len, struct pl_err *err)
{
	const struct input *in = ctx;
	(void)a;
	(void)path;
	(void)err;
	*ret_text = in->text;
	*ret_len = in->len;
	return 0;
}

/* An engine's command, a word a line, laid on a small machine for a small model. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pl_arena *a = pl_arena_new(UINT64_C(64) << 20);
	char *text = pl_arena_strndup(a, (const char *)data, size), *at = text;
	struct input in = {text, text ? strlen(text) : 0};
	struct pl_command_files files = {&in, read_input};
	const char *words[MAX_WORDS];
	struct pl_layer layers[3] = {{.n_expert = 8}};
	struct pl_model model = {.name = "fuzz", .n_layers = 2, .n_layers_mtp = 1, .n_ctx_train = 8192, .layers = layers};
	const struct pl_machine *hw = NULL, *seen = NULL;
	struct pl_command *c = NULL;
	struct pl_err err = {0};
	uint32_t n = 0;
	char *copy = pl_arena_strdup(a, text ? text : "");
	for (at = copy; at && *at && n < MAX_WORDS;) {
		words[n++] = at;
		at += strcspn(at, "\n");
		if (*at)
			*at++ = '\0';
	}
	if (text && pl_command_read(a, words, n, &files, &c, &err))
		fuzz_check_error(&err);
	else if (c && !pl_machine_parse(a, "2x rtx4090, ram 64GiB", &hw, &err) &&
	         (pl_command_machine(a, c, hw, &seen, &err) || pl_command_settle(a, c, &model, seen, &err)))
		fuzz_check_error(&err);
	pl_arena_free(a);
	return 0;
}
