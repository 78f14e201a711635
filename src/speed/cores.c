/* What CPU cores compute in a cycle, by instruction set, element type and the engine's kernels. */
#include <math.h>
#include <string.h>

#include "base/words.h"
#include "speed/compile.h"

/* A core nobody knows: AVX2 and two units, as in nearly every x86 since 2013, at a usual all-core clock. */
static const double assumed_simd_bits = 512, assumed_hz = 3.5e9;
/* RAM when nobody says how fast: two channels of DDR4-3200, the commonest board; servers and desktops alike have a core for
 * every 7 GB/s or so. */
static const double assumed_ram_bytes_per_s = 51.2e9, bytes_per_s_of_core = 7e9;

/* Tiles of AMX: 16 x 16 sums of 64 products in 16 cycles (Intel's manual of intrinsics, TDPBSSD); half as many of bf16. */
static const double amx_int8_ops = 2048, amx_bf16_flops = 1024;
/* Tiles are filled with unpacked weights and emptied into floats: of eight tile cycles one multiplies (ggml-cpu/amx/mmq.cpp). */
static const double amx_busy = 0.125;

static void core_facts(struct pl_place *p, const struct pl_machine *hw)
{
	const char *isa = hw->core ? hw->core->isa : hw->cpu_flags;
	const struct pl_core *slow = hw->cpu_row ? pl_core_of(hw->cpu_row->slow_core) : NULL;
	double hz = hw->cpu_hz > 0 ? hw->cpu_hz : assumed_hz;
	p->simd_bits = hw->core ? hw->core->simd_bits : assumed_simd_bits;
	p->isa = (struct pl_isa){
	    .x86 = !isa || pl_word_in(isa, "avx") || pl_word_in(isa, "ssse3"),
	    .avx2 = !isa || pl_word_in(isa, "avx2"),
	    .avx512 = pl_word_in(isa, "avx512f"),
	    .dot = pl_word_in(isa, "avx512_vnni") || pl_word_in(isa, "avx_vnni") || pl_word_in(isa, "asimddp"),
	    .i8mm = pl_word_in(isa, "i8mm"),
	    .half = pl_word_in(isa, "asimdhp"),
	    .bf16 = pl_word_in(isa, "avx512_bf16") || pl_word_in(isa, "bf16"),
	    .amx = pl_word_in(isa, "amx_int8"),
	};
	/* threads go to the fast cores of all sockets first; hyperthreads add nothing to matrix kernels */
	double slow_cores = slow ? fmin(hw->cpu_row->slow_cores * (hw->sockets ? hw->sockets : 1.0), p->cores) : 0;
	double fast_cores = hw->cpu_cores > slow_cores ? hw->cpu_cores - slow_cores : p->cores;
	double fast = fmin(fast_cores, p->cores), rest = fmin(slow_cores, p->cores - fast);
	double slow_hz = slow && !isnan(hw->cpu_row->slow_hz) ? hw->cpu_row->slow_hz : hz;
	p->core_cycles_per_s = fast * hz + (slow ? rest * slow_hz * slow->simd_bits / p->simd_bits : 0);
}

/* Of several sockets the RAM of about one is used: the page cache holds the file where it was read, and half the threads fetch
 * over the link between sockets (llama.cpp issue 11744: 70B in 16 bits at 2.4 tokens a second on two EPYC 9175F, 0.83 of one
 * socket's 410 GB/s). Pages that lie with the threads that read them brought 4.31 there, 1.8 times; interleaved ones 1.07
 * (two Xeon 4510, JustVugg/colibri issue 82): with --numa the middle of both is expected. */
static const double numa_gain = 1.39;

static double sockets_used(const struct pl_compile *c)
{
	bool spread = c->p->numa == PL_NUMA_DISTRIBUTE || c->p->numa == PL_NUMA_NUMACTL;
	return c->hw->sockets > 1 && spread ? numa_gain : 1;
}

/* Bytes a second of the RAM the threads read. Unified memory counts once, whoever reads it. */
static void ram_facts(struct pl_compile *c, struct pl_place *p)
{
	const struct pl_machine *hw = c->hw;
	p->bytes_per_s = hw->ram_bytes_per_s * sockets_used(c);
	for (uint32_t i = 0; i < hw->n_devices && !(p->bytes_per_s > 0 && !hw->ram_rated); i++)
		if (hw->devices[i].unified_memory && hw->devices[i].gpu && hw->devices[i].gpu->mem_bytes_per_s > 0)
			p->bytes_per_s = hw->devices[i].gpu->mem_bytes_per_s;
	if (!(p->bytes_per_s > 0)) {
		p->bytes_per_s = assumed_ram_bytes_per_s;
		c->s->ram_assumed = true;
	}
}

void pl_host_facts(struct pl_compile *c, struct pl_place *p)
{
	const struct pl_machine *hw = c->hw;
	ram_facts(c, p);
	uint32_t threads = c->s->setup.cpu_threads ? c->s->setup.cpu_threads : c->p->n_threads;
	p->cores = hw->cpu_cores ? hw->cpu_cores : fmin(fmax(p->bytes_per_s / bytes_per_s_of_core, 4), 192);
	if (hw->sockets > 1 && c->p->numa == PL_NUMA_ISOLATE)
		p->cores = fmax(1, floor(p->cores / hw->sockets));
	if (threads) /* more threads than cores do not help */
		p->cores = fmin(p->cores, threads);
	core_facts(p, hw);
	p->peak16_flops_per_s = p->core_cycles_per_s * p->simd_bits * (p->isa.half ? 1.0 / 8 : 1.0 / 16);
	p->peak8_flops_per_s = p->peak4_flops_per_s = p->peak_fp8_flops_per_s = p->peak16_flops_per_s;
}

/* ---- kernels */

static bool is_float(enum pl_dtype t)
{
	return t == PL_DTYPE_F32 || t == PL_DTYPE_F16 || t == PL_DTYPE_BF16;
}

/* Years before the newest build that a kernel came: b2700 (2024-04) brought tiles to plain types (llama.cpp PR 6414), b4100
 * (2024-11) interleaving at load (PR 10446), b4900 (2025-03) of Q4_K on x86 (PR 12332), 2025-12 of K types on Arm. */
static const double tiles_age = 2.3, repack_age = 1.7, q4_k_age = 1.3, arm_k_age = 0.6;
/* b11000 or so (2026-08) unpacks K and i types into tiles of bytes on x86 (PR 27851, ggml-cpu/tiled/). */
static const double unpack_age = 0.05;
/* ik_llama.cpp interleaves while it multiplies prompts since 2025-06 (its PR 515 to 518). */
static const double ik_repack_age = 1.1;

static bool is_unpacked(const struct pl_isa *isa, enum pl_dtype t, double age_years)
{
	static const enum pl_dtype types[] = {PL_DTYPE_Q2_K, PL_DTYPE_Q3_K, PL_DTYPE_Q5_K, PL_DTYPE_Q6_K, PL_DTYPE_IQ4_XS, PL_DTYPE_IQ1_S, PL_DTYPE_IQ1_M,
	                                      PL_DTYPE_IQ2_XXS, PL_DTYPE_IQ2_XS, PL_DTYPE_IQ2_S, PL_DTYPE_IQ3_XXS, PL_DTYPE_IQ3_S};
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		if (types[i] == t)
			return isa->avx2 && age_years < unpack_age;
	return false;
}

/* Does llama.cpp multiply this type in tiles of several rows of weights and activations (ggml-cpu/llamafile/sgemm.cpp,
 * ggml-cpu/repack.cpp: ggml_repack_get_optimal_repack_type), or take one row at a time? */
static bool is_tiled(const struct pl_isa *isa, enum pl_dtype t, double age_years, bool no_sgemm)
{
	bool arm = !isa->x86 && isa->dot;
	switch (t) {
	case PL_DTYPE_F32:
	case PL_DTYPE_F16:
	case PL_DTYPE_BF16:
	case PL_DTYPE_Q8_0:
	case PL_DTYPE_Q5_0:
		return age_years < tiles_age && !no_sgemm;
	case PL_DTYPE_Q4_0:
		return age_years < (no_sgemm ? repack_age : tiles_age);
	case PL_DTYPE_IQ4_NL:
	case PL_DTYPE_MXFP4:
		return (isa->avx2 || arm) && age_years < repack_age;
	case PL_DTYPE_Q4_K:
		return (isa->avx2 && age_years < q4_k_age) || (arm && age_years < arm_k_age);
	case PL_DTYPE_Q2_K:
		return (isa->avx512 && age_years < arm_k_age) || is_unpacked(isa, t, age_years);
	case PL_DTYPE_Q5_K:
	case PL_DTYPE_Q6_K:
		return (arm && age_years < arm_k_age) || is_unpacked(isa, t, age_years);
	default:
		return is_unpacked(isa, t, age_years);
	}
}

/* Types whose kernels on x86 multiply bytes with VPMADDUBSW whatever the core has (ggml-cpu/arch/x86: K types, i types, FP4). */
static bool without_vnni(enum pl_dtype t)
{
	return t != PL_DTYPE_Q8_0 && t != PL_DTYPE_Q4_0 && t != PL_DTYPE_Q4_1 && t != PL_DTYPE_Q5_0 && t != PL_DTYPE_Q5_1 && t != PL_DTYPE_IQ4_NL;
}

/* Types with AMX kernels (ggml-cpu/amx/common.h: qtype_has_amx_kernels). */
static bool has_amx(enum pl_dtype t)
{
	return t == PL_DTYPE_Q4_0 || t == PL_DTYPE_Q4_1 || t == PL_DTYPE_Q8_0 || t == PL_DTYPE_Q4_K || t == PL_DTYPE_Q5_K || t == PL_DTYPE_Q6_K ||
	       t == PL_DTYPE_IQ4_XS;
}

/* Operations a cycle and bit of vector unit. A dot instruction does bits/4 operations, and a tile kernel needs others beside it:
 * two (a load, a scale) in llama.cpp, half of one where weights were interleaved so that eight rows share them (ik_llama.cpp,
 * iqk_gemm_*.cpp). Without dot instructions a product takes three. An 8 x 8 product (i8mm) does the work of two. */
static double int8_tile_ops(const struct pl_isa *isa, bool dot, bool interleaved)
{
	double product = dot || isa->i8mm ? 1 : 3, beside = interleaved ? 0.5 : 2;
	return (isa->i8mm ? 0.5 : 0.25) / (product + beside);
}

/* Kernels of one row: on x86 they are written for 256 bits, of which no core starts more than two a cycle. */
static double row_bits(const struct pl_place *p)
{
	return p->isa.x86 ? fmin(p->simd_bits, 512) : p->simd_bits;
}

/* They unpack every block again for every row: eight instructions a vector, whichever multiplies. */
static const double int8_row_ops = 1.0 / 32;
/* Weights that were interleaved at load share the row of activations eight at a time: five instructions (repack.cpp: gemv). */
static const double int8_repacked_row_ops = 1.0 / 20;

static bool is_repacked(const struct pl_isa *isa, enum pl_dtype t, double age_years)
{
	bool plain = t == PL_DTYPE_Q4_0 || t == PL_DTYPE_IQ4_NL || t == PL_DTYPE_MXFP4 || t == PL_DTYPE_Q2_K || t == PL_DTYPE_Q4_K;
	bool arm = !isa->x86 && isa->dot && (t == PL_DTYPE_Q8_0 || t == PL_DTYPE_Q5_K || t == PL_DTYPE_Q6_K);
	return (plain || arm) && age_years < repack_age && is_tiled(isa, t, age_years, true);
}

static double float_ops(const struct pl_isa *isa, enum pl_dtype t)
{
	if (t == PL_DTYPE_BF16 && isa->bf16)
		return 1.0 / 8;
	return t == PL_DTYPE_F16 && isa->half ? 1.0 / 8 : 1.0 / 16;
}

struct pl_core_peaks pl_core_peaks(const struct pl_compile *c, const struct pl_place *p, enum pl_dtype t)
{
	const struct pl_isa *isa = &p->isa;
	double age = c->s->age_years;
	bool repacks = p->context.stack == PL_STACK_IK_CPU;
	bool dot = isa->dot && (!isa->x86 || (repacks || (is_unpacked(isa, t, age) && t != PL_DTYPE_Q2_K) ? isa->avx512 : !without_vnni(t)));
	struct pl_core_peaks k;
	if (is_float(t)) {
		k.tile = float_ops(isa, t) * p->simd_bits;
		k.row = float_ops(isa, t) * row_bits(p) / 2; /* two loads to a product */
		if (t == PL_DTYPE_BF16 && isa->amx && !repacks)
			k.tile = amx_bf16_flops * amx_busy;
	} else {
		k.tile = int8_tile_ops(isa, dot, repacks && (c->s->setup.interleaved || age < ik_repack_age)) * p->simd_bits;
		/* ik_llama.cpp's kernels of one row take the same vectors as its tiles do */
		k.row = (repacks || is_repacked(isa, t, age) ? int8_repacked_row_ops : int8_row_ops) * row_bits(p);
		if (isa->amx && has_amx(t) && !repacks && age < repack_age)
			k.tile = amx_int8_ops * amx_busy;
	}
	k.tiled = repacks || (isa->amx && has_amx(t) && age < repack_age) || is_tiled(isa, t, age, c->s->setup.no_sgemm);
	k.tile *= p->core_cycles_per_s;
	k.row *= p->core_cycles_per_s;
	return k;
}

/* Prompts' attention: llama.cpp's kernels multiply floats of one query at a time; ik_llama.cpp's are its tiles, in bytes over a
 * quantised cache and in bf16 where the core has it (iqk_flash_attn.cpp). */
double pl_core_attention_peak(const struct pl_compile *c, const struct pl_place *p)
{
	enum pl_dtype k = c->p->type_k;
	if (p->context.stack != PL_STACK_IK_CPU)
		return p->peak16_flops_per_s;
	return pl_core_peaks(c, p, k == PL_DTYPE_UNKNOWN || pl_dtype_info(k)->block_elems <= 1 ? PL_DTYPE_BF16 : k).tile;
}
