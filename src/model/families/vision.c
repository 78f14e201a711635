/* Vision towers, counted as wholes from the vision part of a config. Sources: transformers models/<type>. A tower is at
 * most 2^16 wide and 4096 layers deep, so that no product here overflows. */
#include <string.h>

#include "model/hf.h"

static uint64_t num(struct pl_hf *c, const char *keys, uint32_t dflt)
{
	return pl_hf_u32(c, keys, 1, 65536, dflt);
}

static uint64_t depth(struct pl_hf *c, const char *keys, uint32_t dflt)
{
	return pl_hf_u32(c, keys, 1, PL_HF_MAX_LAYERS, dflt);
}

/* The usual block: four square matrices, up and down, two LayerNorms, all biased. */
static uint64_t plain_block(uint64_t h, uint64_t f)
{
	return 4 * h * h + 4 * h + 2 * h * f + f + h + 4 * h;
}

/* Qwen2.5-VL: patches of two frames, gated feed forward, RMS norms, one merger to the text width. */
static uint64_t qwen25(struct pl_hf *c, uint64_t text)
{
	const uint64_t h = num(c, "hidden_size", 1280), f = num(c, "intermediate_size", 3420), n = depth(c, "depth", 32);
	const uint64_t p = num(c, "patch_size", 14), t = num(c, "temporal_patch_size", 2), in = num(c, "in_channels|in_chans", 3);
	const uint64_t s = num(c, "spatial_merge_size", 2), m = h * s * s, out = num(c, "out_hidden_size", (uint32_t)text);
	const uint64_t block = 4 * h * h + 4 * h + 3 * h * f + 2 * f + h + 2 * h;
	return in * t * p * p * h + n * block + h + m * m + m + m * out + out;
}

/* Qwen3-VL and Qwen3.5: learned positions, LayerNorms, a merger and one more for each deepstack layer. */
static uint64_t qwen3(struct pl_hf *c, uint64_t text)
{
	const uint64_t h = num(c, "hidden_size", 1152), f = num(c, "intermediate_size", 4304), n = depth(c, "depth", 27);
	const uint64_t p = num(c, "patch_size", 16), t = num(c, "temporal_patch_size", 2), in = num(c, "in_channels", 3);
	const uint64_t s = num(c, "spatial_merge_size", 2), m = h * s * s, out = num(c, "out_hidden_size", (uint32_t)text);
	const uint64_t positions = num(c, "num_position_embeddings", 2304);
	const uint64_t deep = json_array_size(pl_hf_get(c, "deepstack_visual_indexes"));
	const uint64_t merge = m * m + m + m * out + out;
	return in * t * p * p * h + h + positions * h + n * plain_block(h, f) + 2 * h + merge + deep * (2 * m + merge);
}

/* SigLIP with Gemma 3's projector: one norm and one matrix. */
static uint64_t siglip(struct pl_hf *c, uint64_t text)
{
	const uint64_t h = num(c, "hidden_size", 1152), f = num(c, "intermediate_size", 4304), n = depth(c, "num_hidden_layers", 27);
	const uint64_t p = num(c, "patch_size", 14), side = num(c, "image_size", 896) / p, in = num(c, "num_channels", 3);
	return in * p * p * h + h + side * side * h + n * plain_block(h, f) + 2 * h + h * text + h;
}

static uint64_t gemma4(struct pl_hf *c, uint64_t text)
{
	const uint64_t h = num(c, "hidden_size", 768), f = num(c, "intermediate_size", 3072), n = depth(c, "num_hidden_layers", 16);
	const uint64_t heads = num(c, "num_attention_heads", 12), kv = num(c, "num_key_value_heads", (uint32_t)heads);
	const uint64_t d = num(c, "head_dim", 64), p = num(c, "patch_size", 16), positions = num(c, "position_embedding_size", 10240);
	const uint64_t clip = pl_hf_bool(c, "use_clipped_linears", false) ? 4 * 7 : 0; /* limits of seven matrices */
	const uint64_t block = 2 * h * d * (heads + kv) + 3 * h * f + 4 * h + 2 * d + clip;
	const uint64_t standard = pl_hf_bool(c, "standardize", false) ? 2 * h : 0;
	return 3 * p * p * h + 2 * positions * h + n * block + standard + h * text;
}

static uint64_t llama4(struct pl_hf *c, uint64_t text)
{
	const uint64_t h = num(c, "hidden_size", 1408), f = num(c, "intermediate_size", 5632), n = depth(c, "num_hidden_layers", 34);
	const uint64_t p = num(c, "patch_size", 14), side = num(c, "image_size", 336) / p, out = num(c, "vision_output_dim", 4096);
	const uint64_t in = num(c, "projector_input_dim", 4096), wide = num(c, "projector_output_dim", 4096);
	const double ratio = pl_hf_f64(c, "pixel_shuffle_ratio", 0.5);
	const uint64_t shuffled = ratio > 0.01 && ratio <= 1 ? (uint64_t)((double)h / (ratio * ratio)) : h;
	return 3 * p * p * h + h + (side * side + 1) * h + 4 * h + n * plain_block(h, f) + shuffled * in + wide * wide + out * text;
}

/* Pixtral's tower with Mistral 3's projector. */
static uint64_t pixtral(struct pl_hf *c, uint64_t text)
{
	const uint64_t h = num(c, "hidden_size", 1024), f = num(c, "intermediate_size", 4096), n = depth(c, "num_hidden_layers", 24);
	const uint64_t p = num(c, "patch_size", 16);
	const json_t *old = pl_hf_enter(c, c->root);
	const uint64_t s = num(c, "spatial_merge_size", 2), bias = pl_hf_bool(c, "multimodal_projector_bias", false) ? 2 * text : 0;
	pl_hf_enter(c, old);
	return 3 * p * p * h + h + n * (4 * h * h + 3 * h * f + 2 * h) + h + h * h * s * s + h * text + text * text + bias;
}

/* CLIP with LLaVA's two-layer projector. */
static uint64_t clip(struct pl_hf *c, uint64_t text)
{
	const uint64_t h = num(c, "hidden_size", 1024), f = num(c, "intermediate_size", 4096), n = depth(c, "num_hidden_layers", 24);
	const uint64_t p = num(c, "patch_size", 14), side = num(c, "image_size", 336) / p;
	return 3 * p * p * h + h + (side * side + 1) * h + 4 * h + n * plain_block(h, f) + h * text + text + text * text + text;
}

/* Kimi K2.5: MoonViT, positions on a grid, a merger of 2 × 2 patches. */
static uint64_t moonvit(struct pl_hf *c, uint64_t text)
{
	const uint64_t h = num(c, "vt_hidden_size", 1152), f = num(c, "vt_intermediate_size", 4304), n = depth(c, "vt_num_hidden_layers", 27);
	const uint64_t p = num(c, "patch_size", 14), grid = num(c, "init_pos_emb_height", 64) * num(c, "init_pos_emb_width", 64), m = 4 * h;
	return 3 * p * p * h + h + grid * h + n * plain_block(h, f) + 2 * h + 2 * h + m * m + m + m * text + text;
}

/* Image tilings of at most n tiles: pairs whose product is no larger. */
static uint64_t tilings(uint64_t n)
{
	uint64_t sum = 0;
	for (uint64_t w = 1; w <= n; w++)
		sum += n / w;
	return sum;
}

/* Llama 3.2 Vision: tile and position embeddings with gates, local and gated global layers. */
static uint64_t mllama(struct pl_hf *c, uint64_t text)
{
	const uint64_t h = num(c, "hidden_size", 1280), f = num(c, "intermediate_size", 5120), n = depth(c, "num_hidden_layers", 32);
	const uint64_t global = depth(c, "num_global_layers", 8), p = num(c, "patch_size", 14), side = num(c, "image_size", 560) / p;
	const uint64_t tiles = pl_hf_u32(c, "max_num_tiles", 1, 64, 4), out = num(c, "vision_output_dim", 7680), patches = side * side + 1;
	const uint64_t ids = tilings(tiles) + 1, block = 4 * h * h + 2 * h * f + f + h + 4 * h;
	const uint64_t positions = 1 + patches * h + ids * tiles * patches * h, tile = 2 * (ids * tiles * h + 1);
	return 3 * p * p * h + h + positions + tile + 4 * h + n * block + global * (block + 2) + out * text + text;
}

/* MiniMax M3: a CLIP-like tower over frames, a projector and a merger of 2 × 2 tokens. */
static uint64_t minimax(struct pl_hf *c, uint64_t text)
{
	const uint64_t h = num(c, "hidden_size", 1280), f = num(c, "intermediate_size", 5120), n = depth(c, "num_hidden_layers", 32);
	const uint64_t p = num(c, "patch_size", 14), out = num(c, "projection_dim", (uint32_t)text);
	const json_t *old = pl_hf_enter(c, c->root);
	const uint64_t wide = num(c, "projector_hidden_size", (uint32_t)out);
	pl_hf_enter(c, old);
	return 2 * 3 * p * p * h + 2 * h + n * plain_block(h, f) + h * wide + wide + wide * text + text + 4 * text * wide + wide +
	       wide * text + text;
}

static uint64_t muse(struct pl_hf *c, uint64_t text)
{
	const uint64_t h = num(c, "hidden_size", 1536), f = num(c, "intermediate_size", 8960), n = depth(c, "num_hidden_layers", 50);
	const uint64_t p = num(c, "patch_size", 14), t = num(c, "patch_temporal", 2);
	const uint64_t grid = num(c, "pos_emb_height", 32) * num(c, "pos_emb_width", 32);
	const json_t *old = pl_hf_enter(c, c->root);
	const uint64_t out = num(c, "out_hidden_size", 6144), wide = num(c, "projector_hidden_size", 4096);
	pl_hf_enter(c, old);
	return t * 3 * p * p * h + grid * h + 4 * h + n * plain_block(h, f) + out * wide + wide * wide + wide * text;
}

/* Phi-3 Vision: CLIP ViT-L/14 at 336 pixels (its dimensions stand in the name, not in the config), a two-layer projector
 * from four merged patches, two separators. */
static uint64_t phi3v(struct pl_hf *c, uint64_t text)
{
	const uint64_t h = num(c, "image_dim_out", 1024), f = 4096, n = 24, p = 14, side = 24, m = 4 * h;
	return 3 * p * p * h + h + (side * side + 1) * h + 4 * h + n * plain_block(h, f) + m * text + text + text * text + text + 2 * m;
}

static const struct {
	const char *type, *key;
	uint64_t (*count)(struct pl_hf *c, uint64_t text);
} towers[] = {
    {"qwen2_5_vl", "vision_config", qwen25},   {"qwen3_vl", "vision_config", qwen3},
    {"qwen3_vl_moe", "vision_config", qwen3},  {"qwen3_5", "vision_config", qwen3},
    {"qwen3_5_moe", "vision_config", qwen3},   {"gemma3", "vision_config", siglip},
    {"gemma4", "vision_config", gemma4},       {"llama4", "vision_config", llama4},
    {"mistral3", "vision_config", pixtral},    {"ministral3", "vision_config", pixtral},
    {"llava", "vision_config", clip},          {"kimi_k25", "vision_config", moonvit},
    {"mllama", "vision_config", mllama},       {"minimax_m3_vl", "vision_config", minimax},
    {"muse_glimmer", "vision_config", muse},   {"phi3_v", "img_processor", phi3v},
};

static void uncounted(struct pl_hf *c, const char *what)
{
	pl_note_add(c->a, &c->m->notes, PL_NOTE_WARNING,
	            PL_N_("the %s of '%s' is not counted: the header of the weights would tell its size"), what, c->m->hf_type);
}

void pl_hf_towers(struct pl_hf *c)
{
	const char *type = c->m->hf_type;
	const json_t *audio = json_object_get(c->root, "audio_config");
	if (c->rc || !type)
		return;
	if (json_is_object(audio) && json_object_size(audio))
		uncounted(c, "audio tower");
	for (size_t i = 0; i < sizeof towers / sizeof *towers; i++) {
		const json_t *v = json_object_get(c->root, towers[i].key), *old = c->cfg;
		if (strcmp(towers[i].type, type) || !json_is_object(v) || !json_object_size(v))
			continue;
		pl_hf_enter(c, v);
		const uint64_t n = towers[i].count(c, c->m->n_embd);
		pl_hf_enter(c, old);
		pl_hf_emit(c, -1, PL_ROLE_VISION, false, 1, n, 1, 1);
		return;
	}
	if (json_is_object(json_object_get(c->root, "vision_config")) && json_object_size(json_object_get(c->root, "vision_config")))
		uncounted(c, "vision tower");
}
