/* Towers counted as wholes: their exact number of parameters from the vision part of a config. */
#include <string.h>

#include "base/checked.h"
#include "model/families/families.h"

static uint64_t num(const json_t *o, const char *key, uint64_t fallback)
{
	const json_t *v = json_object_get(o, key);
	return json_is_integer(v) && json_integer_value(v) >= 0 && json_integer_value(v) < (1 << 24) ? (uint64_t)json_integer_value(v)
	                                                                                               : fallback;
}

/* Qwen2.5-VL: patches of two frames, gated feed forward with biases, RMS norms; merger to the text width. */
static uint64_t qwen25(const json_t *v)
{
	uint64_t h = num(v, "hidden_size", 1280), f = num(v, "intermediate_size", 3420), n = num(v, "depth", 32),
	         p = num(v, "patch_size", 14), t = num(v, "temporal_patch_size", 2), out = num(v, "out_hidden_size", 3584),
	         c = num(v, "in_channels", num(v, "in_chans", 3)), s = num(v, "spatial_merge_size", 2), m = h * s * s;
	uint64_t block = 3 * h * h + 3 * h + h * h + h + 3 * h * f + 2 * f + h + 2 * h;
	return c * t * p * p * h + n * block + h + m * m + m + m * out + out;
}

/* Qwen3-VL, Qwen3.5: plain feed forward, LayerNorms, learned positions, a merger and one more for each deepstack layer. */
static uint64_t qwen3(const json_t *v)
{
	uint64_t h = num(v, "hidden_size", 1152), f = num(v, "intermediate_size", 4304), n = num(v, "depth", 27),
	         p = num(v, "patch_size", 16), t = num(v, "temporal_patch_size", 2), out = num(v, "out_hidden_size", 3584),
	         c = num(v, "in_channels", 3), s = num(v, "spatial_merge_size", 2), pos = num(v, "num_position_embeddings", 2304),
	         m = h * s * s;
	uint64_t deep = json_array_size(json_object_get(v, "deepstack_visual_indexes"));
	uint64_t block = 3 * h * h + 3 * h + h * h + h + 2 * h * f + f + h + 4 * h;
	uint64_t merge = m * m + m + m * out + out;
	return c * t * p * p * h + h + pos * h + n * block + (2 * h + merge) + deep * (2 * m + merge);
}

/* SigLIP with Gemma 3's projector: one matrix and one norm. */
static uint64_t siglip(const json_t *v, uint64_t text)
{
	uint64_t h = num(v, "hidden_size", 1152), f = num(v, "intermediate_size", 4304), n = num(v, "num_hidden_layers", 27),
	         p = num(v, "patch_size", 14), image = num(v, "image_size", 896), c = num(v, "num_channels", 3);
	uint64_t patches = p ? (image / p) * (image / p) : 0;
	uint64_t block = 4 * h * h + 4 * h + 2 * h * f + f + h + 4 * h;
	return c * p * p * h + h + patches * h + n * block + 2 * h + h * text + h;
}

int pl_emit_vision(struct pl_family *f)
{
	const json_t *v = json_object_get(f->root, "vision_config");
	const char *type = f->m->hf_type ? f->m->hf_type : "";
	if (!json_is_object(v))
		return f->rc;
	if (!strcmp(type, "qwen2_5_vl"))
		pl_emit_tower(f, PL_GROUP_VISION, qwen25(v));
	else if (!strncmp(type, "qwen3_vl", 8) || !strncmp(type, "qwen3_5", 7))
		pl_emit_tower(f, PL_GROUP_VISION, qwen3(v));
	else if (!strcmp(type, "gemma3"))
		pl_emit_tower(f, PL_GROUP_VISION, siglip(v, f->m->n_embd));
	else if (json_object_size(v))
		pl_note_add(f->a, &f->m->notes, PL_NOTE_WARNING, "the vision tower of '%s' is not counted: its weights' header would say it",
		            type);
	return f->rc;
}
