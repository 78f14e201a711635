/* What the tower of --mmproj computes with (llama.cpp tools/mtmd/clip.cpp, models/siglip.cpp, models/qwen2vl.cpp): the buffers of its
 * own scheduler, reserved when it is loaded for the picture it warms up with. The dimensions are those of its tensors. */
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "engine/llamacpp_build.h"

/* Tokens that a picture of any size is warmed up with (clip.cpp set_warmup_n_tokens): 46 × 46 of 2 × 2 patches for the Qwen
 * and GLM towers, 16 × 16 for Pixtral's kin. */
enum { WARM_SIDE_TWO_FRAMES = 46 * 2, WARM_SIDE_FREE = 16 * 2, SCRATCH_MIB = 256, F32 = 4 };

struct tower {
	const struct pl_model *m;
	struct lg *g;
	int16_t home;
	uint64_t n_embd, n_ff, patch, side; /* side in patches */
	uint32_t n_layers;
	bool two_frames; /* a kernel a frame (Qwen) */
	bool windows;    /* some layers attend within windows, by a mask (Qwen 2.5) */
};

static const struct pl_tensor *named(const struct pl_model *m, const char *name)
{
	for (uint32_t i = 0; i < m->n_tensors; i++)
		if (m->tensors[i].name && !strcmp(m->tensors[i].name, name))
			return &m->tensors[i];
	return NULL;
}

static const struct pl_tensor *in_layer(const struct tower *t, uint32_t il, const char *part)
{
	char name[64];
	snprintf(name, sizeof name, "v.blk.%u.%s", il, part);
	return named(t->m, name);
}

static uint64_t root(uint64_t n)
{
	uint64_t r = 0;
	while ((r + 1) * (r + 1) <= n)
		r++;
	return r;
}

/* False where the tower is of another kind (convolutions, sound). */
static bool measure(struct tower *t)
{
	const struct pl_tensor *kernel = named(t->m, "v.patch_embd.weight"), *pos = named(t->m, "v.position_embd.weight");
	const struct pl_tensor *up = in_layer(t, 0, "ffn_up.weight");
	if (!kernel || kernel->n_dims != 4 || !up || !up->ne[1] || !kernel->ne[0] || kernel->ne[0] > 256)
		return false;
	t->patch = kernel->ne[0];
	t->n_embd = kernel->ne[3];
	t->n_ff = pl_max_u64(up->ne[0], up->ne[1]); /* files exist with up and down exchanged */
	while (t->n_layers < 512 && in_layer(t, t->n_layers, "ffn_up.weight"))
		t->n_layers++;
	t->two_frames = named(t->m, "v.patch_embd.weight.1");
	t->windows = t->two_frames && in_layer(t, 0, "ffn_gate.weight");
	if (t->two_frames)
		t->side = WARM_SIDE_TWO_FRAMES;
	else if (pos && pos->n_dims == 2 && pos->ne[1] <= 1 << 20)
		t->side = root(pos->ne[1] - (named(t->m, "v.class_embd") != NULL));
	else
		t->side = WARM_SIDE_FREE;
	return t->side && t->n_embd && t->n_embd <= 1 << 20 && t->n_ff <= 1 << 24;
}

static lg_t leaf(const struct tower *t, const struct pl_tensor *w, uint64_t n0, uint64_t n1)
{
	lg_t x = w ? lg_new(t->g, w->type, n0, n1, 1, 1) : LG_NONE;
	if (x >= 0) {
		t->g->t[x].weight = t->g->t[x].external = true;
		t->g->t[x].home = t->home;
	}
	return x;
}

/* A matrix by the name of its layer's part, with its bias. */
static lg_t linear(const struct tower *t, lg_t x, uint32_t il, const char *part, uint64_t n_in, uint64_t n_out)
{
	char name[48];
	snprintf(name, sizeof name, "%s.weight", part);
	lg_t w = leaf(t, in_layer(t, il, name), n_in, n_out);
	x = w >= 0 ? lg_mul_mat(t->g, w, x) : x;
	snprintf(name, sizeof name, "%s.bias", part);
	lg_t bias = leaf(t, in_layer(t, il, name), n_out, 1);
	return bias >= 0 ? lg_binary(t->g, LG_OP_ADD, x, bias) : x;
}

static lg_t norm(const struct tower *t, lg_t x, uint32_t il, const char *part)
{
	char name[48];
	snprintf(name, sizeof name, "%s.bias", part);
	const struct pl_tensor *bias = in_layer(t, il, name);
	snprintf(name, sizeof name, "%s.weight", part);
	x = lg_unary(t->g, bias ? LG_OP_NORM : LG_OP_RMS_NORM, x);
	x = lg_binary(t->g, LG_OP_MUL, x, leaf(t, in_layer(t, il, name), t->n_embd, 1));
	return bias ? lg_binary(t->g, LG_OP_ADD, x, leaf(t, bias, t->n_embd, 1)) : x;
}

/* A convolution without overlap: patches side by side, then a product (ggml.c ggml_conv_2d). */
static lg_t patches(const struct tower *t, lg_t picture, const char *name)
{
	struct lg *g = t->g;
	const struct pl_tensor *w = named(t->m, name);
	uint64_t n = t->side * t->side, elems = 3 * t->patch * t->patch;
	lg_t kernel = leaf(t, w, elems, t->n_embd);
	lg_t columns = lg_node(g, LG_OP_OTHER, w->type == PL_DTYPE_F32 ? PL_DTYPE_F32 : PL_DTYPE_F16, elems, n, 1, 1);
	lg_set_src(g, columns, 0, kernel);
	lg_set_src(g, columns, 1, picture);
	lg_t x = lg_mul_mat(g, columns, kernel);
	return lg_cont(g, lg_reshape(g, x, n, t->n_embd, 1, 1));
}

static lg_t embedded(const struct tower *t)
{
	struct lg *g = t->g;
	uint64_t n = t->side * t->side;
	lg_t picture = lg_input(g, PL_DTYPE_F32, t->side * t->patch, t->side * t->patch, 3, 1);
	lg_t x = patches(t, picture, "v.patch_embd.weight");
	if (t->two_frames) {
		x = lg_binary(g, LG_OP_ADD, x, patches(t, picture, "v.patch_embd.weight.1"));
		x = lg_cont_4d(g, x, 2 * t->n_embd, n / 2, 1, 1);
		return lg_cont_4d(g, x, t->n_embd, n, 1, 1);
	}
	x = lg_cont(g, lg_transpose(g, x));
	lg_t bias = leaf(t, named(t->m, "v.patch_embd.bias"), t->n_embd, 1), pos = leaf(t, named(t->m, "v.position_embd.weight"), t->n_embd, n);
	x = bias >= 0 ? lg_binary(g, LG_OP_ADD, x, bias) : x;
	return pos >= 0 ? lg_binary(g, LG_OP_ADD, x, pos) : x;
}

static lg_t attention(const struct tower *t, lg_t x, uint32_t il, lg_t mask, lg_t positions)
{
	struct lg *g = t->g;
	uint64_t n = t->side * t->side, e = t->n_embd;
	lg_t q, k, v;
	if (in_layer(t, il, "attn_qkv.weight")) {
		lg_t all = linear(t, x, il, "attn_qkv", e, 3 * e);
		q = lg_view_2d(g, all, e, n, 3 * e * F32);
		k = lg_view_2d(g, all, e, n, 3 * e * F32);
		v = lg_view_2d(g, all, e, n, 3 * e * F32);
	} else {
		q = linear(t, x, il, "attn_q", e, e);
		k = linear(t, x, il, "attn_k", e, e);
		v = linear(t, x, il, "attn_v", e, e);
	}
	if (t->two_frames) {
		q = lg_binary(g, LG_OP_ROPE, q, positions);
		k = lg_binary(g, LG_OP_ROPE, k, positions);
	}
	lg_expand(g, q);
	lg_expand(g, k);
	lg_expand(g, v);
	/* heads matter to the scores alone, which flash attention does not keep */
	k = lg_cast(g, k, PL_DTYPE_F16);
	v = lg_cast(g, v, PL_DTYPE_F16);
	lg_t out = lg_node(g, LG_OP_FLASH_ATTN, PL_DTYPE_F32, e, n, 1, 1);
	const lg_t src[] = {q, k, v, mask};
	for (int i = 0; i < 4 && src[i] >= 0; i++)
		lg_set_src(g, out, i, src[i]);
	return linear(t, out, il, "attn_out", e, e);
}

static lg_t feed_forward(const struct tower *t, lg_t x, uint32_t il)
{
	bool gated = in_layer(t, il, "ffn_gate.weight");
	lg_t up = linear(t, x, il, "ffn_up", t->n_embd, t->n_ff);
	lg_t cur = gated ? lg_glu_split(t->g, linear(t, x, il, "ffn_gate", t->n_embd, t->n_ff), up) : lg_unary(t->g, LG_OP_UNARY, up);
	return linear(t, cur, il, "ffn_down", t->n_ff, t->n_embd);
}

static lg_t by_windows(const struct tower *t, lg_t x)
{
	uint64_t n = t->side * t->side / 4, e = t->n_embd;
	x = lg_get_rows(t->g, lg_reshape(t->g, x, 4 * e, n, 1, 1), lg_input(t->g, PL_DTYPE_I32, n, 1, 1, 1));
	return lg_reshape(t->g, x, e, 4 * n, 1, 1);
}

static void build(const struct tower *t)
{
	uint64_t n = t->side * t->side;
	lg_t x = embedded(t), mask = LG_NONE, positions = LG_NONE;
	if (t->two_frames)
		positions = lg_input(t->g, PL_DTYPE_I32, 4 * n, 1, 1, 1);
	if (t->windows) { /* patches of a window come together, one mask serves all layers */
		mask = lg_input(t->g, PL_DTYPE_F16, n, n, 1, 1);
		x = by_windows(t, x);
	}
	for (uint32_t il = 0; il < t->n_layers; il++) {
		x = lg_binary(t->g, LG_OP_ADD, attention(t, norm(t, x, il, "ln1"), il, mask, positions), x);
		x = lg_binary(t->g, LG_OP_ADD, x, feed_forward(t, norm(t, x, il, "ln2"), il));
	}
	if (t->windows)
		x = by_windows(t, x);
	if (x >= 0)
		t->g->t[x].output = true;
	lg_expand(t->g, x);
}

bool ll_tower(const struct ll_job *j, const struct pl_model *m, int16_t home, uint64_t *ret_peaks, uint64_t *ret_patches)
{
	struct pl_arena *scratch = pl_arena_new((uint64_t)SCRATCH_MIB << 20);
	struct lg g = {.a = scratch};
	struct tower t = {.m = m, .g = &g, .home = home};
	struct ll_sum alone = {0}; /* no pipeline */
	struct ll_job own = *j;    /* its scheduler knows the tower's device and the CPU, or the CPU alone */
	own.n_dev = home == LG_CPU ? 0 : j->n_dev;
	bool ok = scratch && measure(&t);
	if (ok) {
		build(&t);
		ok = !g.failed && ll_schedule(&g, &own, &alone, ret_peaks);
		if (own.n_dev < j->n_dev) {
			ret_peaks[j->n_dev] = ret_peaks[0];
			ret_peaks[0] = 0;
		}
		*ret_patches = t.side * t.side;
	}
	if (scratch)
		pl_arena_free(scratch);
	return ok;
}
