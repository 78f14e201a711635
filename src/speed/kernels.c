/* Look-up in the measured curves: interpolation in logarithms, and what a card borrows from its kin. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/words.h"
#include "speed/kernels.h"

static const struct {
	float weight_bytes, activation_bytes;
	enum pl_peak_index peak;
} types[PL_KERNEL_TYPES] = {
    [PL_KERNEL_BF16] = {2, 2, PL_PEAK_16},
    [PL_KERNEL_FP8] = {1, 1, PL_PEAK_FP8},
    [PL_KERNEL_FP8_BLOCK] = {1, 1, PL_PEAK_FP8},
    [PL_KERNEL_NVFP4] = {0.5625F, 0.5625F, PL_PEAK_FP4},
    [PL_KERNEL_INT4] = {0.53F, 2, PL_PEAK_16},
    [PL_KERNEL_INT8_W] = {1, 2, PL_PEAK_16},
    [PL_KERNEL_INT8] = {1, 1, PL_PEAK_INT8},
    [PL_KERNEL_MXFP4] = {0.53125F, 2, PL_PEAK_16},
    [PL_KERNEL_MXFP4_FP8] = {0.53125F, 1, PL_PEAK_FP8},
};

double pl_kernel_weight_bytes(enum pl_kernel_type t)
{
	return (double)types[t].weight_bytes;
}

double pl_kernel_peak(const struct pl_kernels *k, enum pl_kernel_type t)
{
	double peak = k->peaks[types[t].peak];
	return peak > 0 ? peak : k->peaks[PL_PEAK_16];
}

static double larger(double a, double b)
{
	return a > b ? a : b;
}

/* ---- which system */

static void own_peaks(const struct pl_gpu *g, struct pl_kernels *ret)
{
	const double facts[PL_PEAKS] = {isnan(g->bf16_flops_per_s) ? g->fp16_flops_per_s : g->bf16_flops_per_s,
	                                g->fp8_flops_per_s, g->fp4_flops_per_s, g->int8_ops_per_s, g->mem_bytes_per_s};
	for (int i = 0; i < PL_PEAKS; i++)
		ret->peaks[i] = isnan(facts[i]) ? 0 : facts[i];
}

/* Cards of one capability differ in bandwidth and matrix units: the nearest ratio of both has the likest curves. */
static double unlike(const struct pl_kernel_system *s, const struct pl_kernels *k)
{
	return fabs(log(s->peaks[PL_PEAK_MEMORY] / k->peaks[PL_PEAK_MEMORY])) + fabs(log(s->peaks[PL_PEAK_16] / k->peaks[PL_PEAK_16]));
}

/* GA10x shares its memory type and its place between the others with Ada; 12.1 (GB10) is 12.0 with less of everything. */
static const char *family(const char *capability)
{
	static const char *const kin[][2] = {{"8.6", "8.9"}, {"12.1", "12.0"}, {"10.1", "10.0"}, {"11.0", "10.0"}};
	for (size_t i = 0; i < sizeof kin / sizeof *kin; i++)
		if (!strcmp(capability, kin[i][0]))
			return kin[i][1];
	return capability;
}

/* Accelerators with HBM that nobody measured (CDNA, Gaudi) lie nearer to the curves of such cards than to any efficiency that does
 * not know sizes; what they reach of them is a constant of their stack. */
static void other_maker(const struct pl_kernel_system *s, uint32_t i, struct pl_kernels *k, double *near)
{
	if (s->peaks[PL_PEAK_MEMORY] > 1.5e12 && unlike(s, k) < *near) {
		*near = unlike(s, k);
		k->system = i;
		k->foreign = true;
	}
}

bool pl_kernels_of(const struct pl_gpu *g, struct pl_kernels *ret)
{
	const struct pl_kernel_tables *t = pl_kernel_tables();
	struct pl_kernels k = {.kin = true};
	double best = DBL_MAX, near = DBL_MAX;
	own_peaks(g, &k);
	for (uint32_t i = 0; i < t->n_systems; i++)
		if (pl_word_in(t->systems[i].gpus, g->id)) {
			*ret = (struct pl_kernels){.system = i};
			memcpy(ret->peaks, t->systems[i].peaks, sizeof ret->peaks);
			return true;
		}
	if (!(k.peaks[PL_PEAK_MEMORY] > 0) || !(k.peaks[PL_PEAK_16] > 0))
		return false;
	for (uint32_t i = 0; i < t->n_systems; i++)
		if (!strcmp(t->systems[i].capability, family(g->capability)) && unlike(&t->systems[i], &k) < best) {
			best = unlike(&t->systems[i], &k);
			k.system = i;
		}
	bool hbm = g->vendor != PL_VENDOR_NVIDIA && g->mem_type && strstr(g->mem_type, "HBM");
	for (uint32_t i = 0; best == DBL_MAX && hbm && i < t->n_systems; i++)
		other_maker(&t->systems[i], i, &k, &near);
	if (best == DBL_MAX && near == DBL_MAX)
		return false;
	*ret = k;
	return true;
}

/* ---- grids */

const struct pl_kernel_grid *pl_kernel_grid(const struct pl_kernels *k, enum pl_kernel_grid_op op, enum pl_kernel_type type)
{
	const struct pl_kernel_tables *t = pl_kernel_tables();
	for (uint32_t i = 0; i < t->n_grids; i++)
		if (t->grids[i].system == k->system && t->grids[i].op == op && t->grids[i].type == type)
			return &t->grids[i];
	return NULL;
}

static double clamp(double v, double top)
{
	return v < 0 ? 0 : v > top ? top : v;
}

double pl_grid_s(const struct pl_kernel_grid *g, double log2_y, double log2_x, double sol_s)
{
	double y = clamp((log2_y - (double)g->y0) / (double)g->dy, g->n_y - 1.000001);
	double x = clamp((log2_x - (double)g->x0) / (double)g->dx, g->n_x - 1.000001);
	uint32_t i = (uint32_t)y, j = (uint32_t)x;
	double a = y - i, b = x - j;
	const float *low = g->ln_util + (size_t)i * g->n_x + j, *high = low + g->n_x;
	double ln = (1 - a) * ((1 - b) * (double)low[0] + b * (double)low[1]) + a * ((1 - b) * (double)high[0] + b * (double)high[1]);
	return larger(sol_s * exp(-ln), exp((double)g->ln_floor_s));
}

/* ---- curves over rows */

/* Beyond the last point time grows with size; octaves: between two points. */
static double at_points(const float *ln_s, uint32_t n, double octaves, double x)
{
	if (x <= 0)
		return exp((double)ln_s[0]);
	if (x >= n - 1)
		return exp((double)ln_s[n - 1] + (x - (n - 1)) * octaves * M_LN2);
	uint32_t i = (uint32_t)x;
	return exp((double)ln_s[i] + (x - i) * ((double)ln_s[i + 1] - (double)ln_s[i]));
}

double pl_curve_s(const struct pl_curve *c, double rows)
{
	return rows > 0 ? at_points(c->ln_s, PL_CURVE_POINTS, 1, log2(rows)) : 0;
}

/* The grid of a type, or of the nearest: weights of few bits are unpacked and multiplied in 16 bits. */
static const struct pl_kernel_grid *gemm_grid(const struct pl_kernels *k, enum pl_kernel_type type)
{
	static const enum pl_kernel_type near[PL_KERNEL_TYPES][3] = {
	    [PL_KERNEL_FP8] = {PL_KERNEL_FP8, PL_KERNEL_FP8_BLOCK, PL_KERNEL_BF16},
	    [PL_KERNEL_FP8_BLOCK] = {PL_KERNEL_FP8_BLOCK, PL_KERNEL_FP8, PL_KERNEL_BF16},
	    [PL_KERNEL_NVFP4] = {PL_KERNEL_NVFP4, PL_KERNEL_INT4, PL_KERNEL_BF16},
	    [PL_KERNEL_INT4] = {PL_KERNEL_INT4, PL_KERNEL_BF16, PL_KERNEL_BF16},
	    [PL_KERNEL_INT8_W] = {PL_KERNEL_INT8_W, PL_KERNEL_BF16, PL_KERNEL_BF16},
	    [PL_KERNEL_INT8] = {PL_KERNEL_INT8, PL_KERNEL_FP8, PL_KERNEL_BF16},
	};
	for (int i = 0; i < 3; i++) {
		const struct pl_kernel_grid *g = pl_kernel_grid(k, PL_GRID_GEMM, near[type][i]);
		if (g)
			return g;
	}
	return pl_kernel_grid(k, PL_GRID_GEMM, PL_KERNEL_BF16);
}

/* Measured seconds may fall where a faster kernel starts; a plan's must not: more rows never take less. */
static void never_fall(struct pl_curve *c)
{
	for (int i = 1; i < PL_CURVE_POINTS; i++)
		if (c->ln_s[i] < c->ln_s[i - 1])
			c->ln_s[i] = c->ln_s[i - 1];
}

void pl_kernel_gemm(const struct pl_kernels *k, enum pl_kernel_type type, double n, double depth, struct pl_curve *ret)
{
	const struct pl_kernel_grid *g = gemm_grid(k, type);
	double peak = pl_kernel_peak(k, type), bw = k->peaks[PL_PEAK_MEMORY];
	double wb = (double)types[type].weight_bytes, ab = (double)types[type].activation_bytes;
	for (int i = 0; i < PL_CURVE_POINTS; i++) {
		double m = exp2(i), memory_s = (n * depth * wb + m * depth * ab + 2 * m * n) / bw;
		double sol_s = larger(2 * m * n * depth / peak, memory_s);
		ret->ln_s[i] = (float)log(g ? pl_grid_s(g, log2(n * depth), i, sol_s) : sol_s);
	}
	never_fall(ret);
}

/* ---- experts */

/* On the roofline: distinct experts that t tokens reach when each picks k of E, or the arithmetic. */
static double routed_sol_s(const double peaks[PL_PEAKS], enum pl_kernel_type type, const struct pl_expert_shape *s, double tokens)
{
	double peak = peaks[types[type].peak] > 0 ? peaks[types[type].peak] : peaks[PL_PEAK_16];
	double share = s->used / s->experts, size = 3 * s->hidden * s->width;
	double touched = s->experts * -expm1(tokens * log1p(-(share < 1 ? share : 1 - 1e-12)));
	return larger(2 * tokens * s->used * size / s->ranks / peak,
	              touched * size * (double)types[type].weight_bytes / s->ranks / peaks[PL_PEAK_MEMORY]);
}

/* How unlike two shapes are, in octaves; another engine's or type's kernel costs a part of one. */
static double distance(const float key[PL_EXPERT_KEYS], const double want[PL_EXPERT_KEYS])
{
	static const double weight[PL_EXPERT_KEYS] = {1, 1, 0.5, 0.7, 0.7};
	double d = 0;
	for (int i = 0; i < PL_EXPERT_KEYS; i++)
		d += weight[i] * fabs((double)key[i] - want[i]);
	return d;
}

static double type_distance(enum pl_kernel_type a, enum pl_kernel_type b)
{
	if (a == b)
		return 0;
	double bytes = fabs(log2((double)types[a].weight_bytes / (double)types[b].weight_bytes));
	return 0.3 + bytes + (types[a].peak == types[b].peak ? 0 : 0.3);
}

enum { NEAREST = 3 };
struct near {
	const struct pl_kernel_experts *row[NEAREST];
	double d[NEAREST];
};

static void keep_nearest(struct near *n, const struct pl_kernel_experts *row, double d)
{
	for (int i = 0; i < NEAREST; i++)
		if (!n->row[i] || d < n->d[i]) {
			memmove(&n->row[i + 1], &n->row[i], (size_t)(NEAREST - 1 - i) * sizeof *n->row);
			memmove(&n->d[i + 1], &n->d[i], (size_t)(NEAREST - 1 - i) * sizeof *n->d);
			n->row[i] = row;
			n->d[i] = d;
			return;
		}
}

/* Systems measured without experts borrow those of the same capability. */
static uint32_t experts_system(uint32_t system)
{
	const struct pl_kernel_tables *t = pl_kernel_tables();
	for (uint32_t i = 0; i < t->n_experts; i++)
		if (t->experts[i].system == system)
			return system;
	for (uint32_t i = 0; i < t->n_experts; i++)
		if (!strcmp(t->systems[t->experts[i].system].capability, t->systems[system].capability))
			return t->experts[i].system;
	return system;
}

bool pl_kernel_routed(const struct pl_kernels *k, enum pl_kernel_engine e, enum pl_kernel_type type,
                      const struct pl_expert_shape *s, struct pl_curve *ret)
{
	const struct pl_kernel_tables *t = pl_kernel_tables();
	const double want[PL_EXPERT_KEYS] = {log2(s->hidden), log2(s->width), log2(s->used), log2(s->experts), log2(s->ranks)};
	uint32_t system = experts_system(k->system);
	struct near n = {{0}, {0}};
	for (uint32_t i = 0; i < t->n_experts; i++) {
		const struct pl_kernel_experts *row = &t->experts[i];
		if (row->system == system)
			keep_nearest(&n, row, distance(row->key, want) + (row->engine == e ? 0 : 0.15) + type_distance(type, (enum pl_kernel_type)row->type));
	}
	if (!n.row[0])
		return false;
	double ln[PL_EXPERT_POINTS] = {0}, sum = 0;
	for (int i = 0; i < NEAREST && n.row[i]; i++) {
		const struct pl_kernel_experts *row = n.row[i];
		struct pl_expert_shape own = {exp2((double)row->key[0]), exp2((double)row->key[1]), exp2((double)row->key[2]),
		                              exp2((double)row->key[3]), exp2((double)row->key[4])};
		double w = 1 / ((n.d[i] + 1e-3) * (n.d[i] + 1e-3));
		sum += w;
		for (int j = 0; j < PL_EXPERT_POINTS; j++) {
			double tokens = exp2(2 * j);
			ln[j] += w * ((double)row->ln_s[j] + log(routed_sol_s(k->peaks, type, s, tokens) /
			                                         routed_sol_s(t->systems[system].peaks, (enum pl_kernel_type)row->type, &own, tokens)));
		}
	}
	for (int i = 0; i < PL_CURVE_POINTS; i++) {
		int j = i / 2 < PL_EXPERT_POINTS - 1 ? i / 2 : PL_EXPERT_POINTS - 2;
		double part = (i - 2 * j) / 2.0;
		ret->ln_s[i] = (float)((ln[j] + part * (ln[j + 1] - ln[j])) / sum);
	}
	never_fall(ret);
	return true;
}

/* ---- messages */

static const struct pl_kernel_message *message_row(uint32_t system, enum pl_kernel_message_op op, uint32_t n)
{
	const struct pl_kernel_tables *t = pl_kernel_tables();
	const struct pl_kernel_message *best = NULL;
	for (uint32_t i = 0; i < t->n_messages; i++) {
		const struct pl_kernel_message *m = &t->messages[i];
		if (m->system != system || m->op != op)
			continue;
		if (!best || fabs(log2((double)m->n_gpus / n)) < fabs(log2((double)best->n_gpus / n)))
			best = m;
	}
	return best;
}

static double message_s(const struct pl_kernel_message *m, double bytes)
{
	return at_points(m->ln_s, PL_MESSAGE_POINTS, 2, (log2(bytes) - 9) / 2);
}

/* Four cards and more on PCIe take 2 (n − 1)/n of two cards' time and somewhat more where they reach each other; the measured
 * group of L40S takes 6 to 17 times as long: its traffic crossed sockets through RAM (NCCL's P2P level, which TensorRT-LLM's page
 * of measurements raises by NCCL_P2P_LEVEL=SYS). */
static const double peers_at_most = 4, large_bytes = 0x1p29;

static double growth(uint32_t system, enum pl_kernel_message_op op, uint32_t n, double bytes)
{
	const struct pl_kernel_message *m = message_row(system, op, n), *two = message_row(system, op, 2);
	return m && two && m->n_gpus > 2 && two->n_gpus == 2 ? message_s(m, bytes) / message_s(two, bytes) : 1;
}

bool pl_kernel_staged(const struct pl_kernels *k, uint32_t n_gpus)
{
	return growth(k->system, PL_MESSAGE_ALL_REDUCE, n_gpus, large_bytes) > peers_at_most;
}

/* The system whose two cards are nearest in speed and whose larger groups reach each other. */
static uint32_t peers_system(uint32_t system, enum pl_kernel_message_op op, uint32_t n)
{
	const struct pl_kernel_tables *t = pl_kernel_tables();
	const struct pl_kernel_message *own = message_row(system, op, 2);
	uint32_t best = system;
	double best_d = DBL_MAX;
	for (uint32_t i = 0; own && i < t->n_systems; i++) {
		const struct pl_kernel_message *two = message_row(i, op, 2);
		double d = two && growth(i, op, n, large_bytes) <= peers_at_most
		               ? fabs(log(message_s(two, large_bytes) / message_s(own, large_bytes))) : DBL_MAX;
		if (i != system && d < best_d) {
			best = i;
			best_d = d;
		}
	}
	return best;
}

/* A message in a group of n; staged: through RAM where it was measured so. */
struct group {
	const struct pl_kernel_message *own; /* NULL: not measured */
	uint32_t peers, n;                   /* peers: whose growth from two cards is taken; the own system: none's */
	enum pl_kernel_message_op op;
};

static struct group group_of(uint32_t system, enum pl_kernel_message_op op, uint32_t n, bool staged)
{
	struct group g = {message_row(system, op, n), system, n, op};
	if (g.own && !staged && growth(system, op, n, large_bytes) > peers_at_most) {
		g.peers = peers_system(system, op, n);
		g.own = g.peers != system ? message_row(system, op, 2) : g.own;
	}
	return g;
}

static double group_s(const struct group *g, uint32_t system, double bytes)
{
	return message_s(g->own, bytes) * (g->peers != system ? growth(g->peers, g->op, g->n, bytes) : 1);
}

bool pl_kernel_message(const struct pl_kernels *k, enum pl_kernel_message_op op, uint32_t n_gpus, double row_bytes, bool staged,
                       struct pl_curve *ret)
{
	struct group own = group_of(k->system, op, n_gpus, staged), other = {0};
	/* Small sums go through the engines' own kernels, large ones through NCCL: the engines switch where it pays. */
	if (op == PL_MESSAGE_ALL_REDUCE_GRAPH)
		other = group_of(k->system, PL_MESSAGE_ALL_REDUCE, n_gpus, staged);
	/* A sum over all ranks does at least what gathering or scattering as many bytes does. */
	if (op == PL_MESSAGE_ALL_GATHER || op == PL_MESSAGE_REDUCE_SCATTER)
		other = group_of(k->system, PL_MESSAGE_ALL_REDUCE_GRAPH, n_gpus, staged);
	own = own.own ? own : other;
	if (!own.own || n_gpus < 2)
		return false;
	/* Larger than any measured group: a ring sends (n − 1)/n. */
	double n0 = own.own->n_gpus, more = n_gpus > n0 && own.peers == k->system ? (1 - 1.0 / n_gpus) / (1 - 1 / n0) : 1;
	for (int i = 0; i < PL_CURVE_POINTS; i++) {
		double bytes = row_bytes * exp2(i), s = group_s(&own, k->system, bytes);
		if (other.own)
			s = fmin(s, group_s(&other, k->system, bytes));
		ret->ln_s[i] = (float)log(s * more);
	}
	never_fall(ret);
	return true;
}
