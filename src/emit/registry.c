#include <strings.h>

#include "base/words.h"
#include "emit/emitters.h"

static const struct pl_emitter *const emitters[] = {
    &pl_emitter_compose, &pl_emitter_kubernetes, &pl_emitter_lws,   &pl_emitter_systemd,
    &pl_emitter_slurm,   &pl_emitter_ray,        &pl_emitter_shell, NULL,
};

const struct pl_emitter *const *pl_emitters(void)
{
	return emitters;
}

int pl_emitter_find(const char *name, const struct pl_emitter **ret, struct pl_err *err)
{
	for (uint32_t i = 0; emitters[i]; i++)
		if (!strcasecmp(emitters[i]->id, name) || pl_word_in(emitters[i]->aliases, name)) {
			*ret = emitters[i];
			return 0;
		}
	return pl_fail(err, PL_ERR_UNKNOWN_NAME, name,
	               "no manifest is called '%.40s'; there are: compose, kubernetes, lws, systemd, slurm, ray, shell", name);
}
