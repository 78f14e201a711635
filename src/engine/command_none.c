/* Programs whose commands are not read yet. */
#include "engine/command.h"

const struct pl_program pl_programs_sglang[] = {{0}};
const struct pl_program pl_programs_trtllm[] = {{0}};
const struct pl_program pl_programs_ollama[] = {{0}};
