/* What the machine offers: bandwidth, peaks and links of the places that compute. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <plimsoll/catalog.h>

#include "speed/compile.h"

static double known_or(double x, double otherwise)
{
	return isnan(x) ? otherwise : x;
}

static double larger(double x, double y)
{
	return x > y ? x : y;
}

static uint32_t gpu_index(const struct pl_gpu *g)
{
	uint32_t n;
	const struct pl_gpu *rows = pl_catalog_gpus(&n);
	return g >= rows && g < rows + n ? (uint32_t)(g - rows) + 1 : 0; /* a row of the caller's own is no catalogued card */
}

/* Parts that run 16-bit floats slower than 32-bit ones (Pascal) are used at 32 bits. */
static void gpu_peaks(const struct pl_gpu *g, struct pl_place *p)
{
	double p16 = known_or(g->fp16_flops_per_s, known_or(g->bf16_flops_per_s, 0));
	p->peak16_flops_per_s = larger(p16, known_or(g->fp32_flops_per_s, 0));
	p->peak8_flops_per_s = larger(p->peak16_flops_per_s, known_or(g->int8_ops_per_s, 0));
	/* GeForce sums 16-bit products in 32 bits at half the rate, in 16 bits at half that of 8-bit integers like all others
	 * (NVIDIA's GA102 and AD102 papers). */
	p->peak_half_sum_flops_per_s = g->vendor == PL_VENDOR_NVIDIA ? larger(p->peak16_flops_per_s, known_or(g->int8_ops_per_s, 0) / 2) : p->peak16_flops_per_s;
	p->peak_fp8_flops_per_s = larger(p->peak16_flops_per_s, known_or(g->fp8_flops_per_s, 0));
	p->peak4_flops_per_s = larger(p->peak_fp8_flops_per_s, known_or(g->fp4_flops_per_s, 0));
	p->bytes_per_s = known_or(g->mem_bytes_per_s, 0);
	p->power_w = known_or(g->tdp_w, 0);
	p->idle_w = known_or(g->idle_w, 0);
}

static uint32_t new_place(struct pl_compile *c)
{
	return c->s->n_places++;
}

static enum pl_backend usual_backend(const struct pl_device *d)
{
	switch (d->vendor) {
	case PL_VENDOR_AMD:
		return PL_BACKEND_ROCM;
	case PL_VENDOR_APPLE:
		return PL_BACKEND_METAL;
	case PL_VENDOR_INTEL:
		return PL_BACKEND_SYCL;
	default:
		return PL_BACKEND_CUDA;
	}
}

static void make_gpu(struct pl_compile *c, uint32_t place, int device)
{
	struct pl_place *p = &c->s->places[place];
	const struct pl_device *d = &c->hw->devices[device];
	const struct pl_speed_setup *s = &c->s->setup;
	enum pl_backend b = s->backend ? s->backend : usual_backend(d);
	p->first = (uint32_t)device;
	p->n = 1;
	p->context.stack = s->stack ? pl_stack_by_name(s->stack) : PL_STACK_UNKNOWN;
	if (!p->context.stack)
		p->context.stack = pl_stack_find(s->engine ? s->engine->id : "llama.cpp", b);
	if (!d->gpu) {
		c->s->unknown = pl_arena_printf(c->a, pl_tr("%s: its memory bandwidth and matrix FLOP/s are not known; name the card, "
		                                            "or one that is like it"), d->name);
		return;
	}
	gpu_peaks(d->gpu, p);
	if (pl_gpu_borrows_ram(d->gpu) && c->hw->ram_bytes_per_s > 0)
		p->bytes_per_s = c->hw->ram_bytes_per_s;
	p->context.arch = pl_arch_index(d->gpu->arch);
	p->context.line = pl_line_index(d->gpu->arch);
	p->context.device = gpu_index(d->gpu);
	p->limit_w = d->power_limit_w;
	p->shares_of = pl_kernel_power_of(d->gpu, p->shares);
	if (!(p->bytes_per_s > 0) || !(p->peak16_flops_per_s > 0))
		c->s->unknown = pl_arena_printf(c->a, pl_tr("%s: nobody states its %s"), d->name,
		                                p->bytes_per_s > 0 ? pl_tr("matrix FLOP/s") : pl_tr("memory bandwidth"));
}

static void make_host(struct pl_compile *c, uint32_t place)
{
	struct pl_place *p = &c->s->places[place];
	const char *engine = c->s->setup.engine ? c->s->setup.engine->id : "llama.cpp";
	p->first = PL_SPEED_HOST;
	p->n = 1;
	p->context.stack = PL_STACK_UNKNOWN;
	if (c->s->setup.stack && pl_stack_backend(pl_stack_by_name(c->s->setup.stack)) == PL_BACKEND_CPU)
		p->context.stack = pl_stack_by_name(c->s->setup.stack);
	if (!p->context.stack)
		p->context.stack = pl_stack_find(engine, PL_BACKEND_CPU);
	pl_host_facts(c, p);
}

uint32_t pl_place_of(struct pl_compile *c, int device)
{
	int16_t *at = device < 0 ? &c->host_place : &c->device_place[device];
	if (*at >= 0)
		return (uint32_t)*at;
	*at = (int16_t)new_place(c);
	if (device < 0)
		make_host(c, (uint32_t)*at);
	else
		make_gpu(c, (uint32_t)*at, device);
	return (uint32_t)*at;
}

/* llama.cpp on CUDA multiplies quantised weights in 8-bit integers (MMQ) where there is DP4A; on cards with tensor cores only
 * since those compute it (pull request 7676, June 2024: Turing and later), before and on Volta they are unpacked for cuBLAS. That sums in 16 bits
 * (CUBLAS_COMPUTE_16F in ggml_cuda_op_mul_mat_cublas), BF16 in 32. */
static double llama_cuda_peak(const struct pl_compile *c, const struct pl_place *p, enum pl_dtype type)
{
	const double mmq_years = 2.05; /* before the middle of 2026 */
	double capability = c->hw->devices[p->first].gpu ? strtod(c->hw->devices[p->first].gpu->capability, NULL) : 0;
	bool quantised = pl_dtype_info(type)->block_elems > 1, unpacks = capability < 6.1 || (capability >= 7 && (capability < 7.5 || c->s->age_years > mmq_years));
	if (quantised && !unpacks)
		return p->peak8_flops_per_s;
	return quantised || type == PL_DTYPE_F16 ? p->peak_half_sum_flops_per_s : p->peak16_flops_per_s;
}

/* Byte products of cards before the DP4A instruction (Maxwell, GP100): some twenty instructions for eight operations. */
double pl_few_rows_peak(const struct pl_compile *c, const struct pl_place *p, enum pl_dtype type)
{
	const struct pl_gpu *g = p->first == PL_SPEED_HOST ? NULL : c->hw->devices[p->first].gpu;
	bool cuda = c->llama && pl_stack_backend(p->context.stack) == PL_BACKEND_CUDA;
	if (!g || !cuda || pl_dtype_info(type)->block_elems <= 1 || !(strtod(g->capability, NULL) < 6.1) || isnan(g->fp32_flops_per_s))
		return 0;
	return g->fp32_flops_per_s / 6;
}

/* Vulkan multiplies BF16 in matrix units where the driver has VK_KHR_shader_bfloat16: of AMD's cards from RDNA4 on (Mesa's list of
 * features: radv/gfx12+); else in 32-bit floats. */
static bool vulkan_without_bf16(const struct pl_compile *c, const struct pl_place *p)
{
	const struct pl_device *d = p->first == PL_SPEED_HOST ? NULL : &c->hw->devices[p->first];
	return d && d->gpu && d->vendor == PL_VENDOR_AMD && pl_stack_backend(p->context.stack) == PL_BACKEND_VULKAN && strcmp(d->gpu->arch, "RDNA4") != 0;
}

/* llama.cpp elsewhere multiplies in 16-bit floats; serving engines multiply FP8 and FP4 in their own units where the card has
 * them, and unpack weight-only 4 bits to 16. */
double pl_peak(const struct pl_compile *c, const struct pl_place *p, enum pl_dtype type)
{
	if (c->llama && type == PL_DTYPE_BF16 && vulkan_without_bf16(c, p))
		return known_or(c->hw->devices[p->first].gpu->fp32_flops_per_s, p->peak16_flops_per_s);
	if (c->llama)
		return p->first != PL_SPEED_HOST && pl_stack_backend(p->context.stack) == PL_BACKEND_CUDA ? llama_cuda_peak(c, p, type)
		                                                                                          : p->peak16_flops_per_s;
	switch (type) {
	case PL_DTYPE_F8_E4M3:
	case PL_DTYPE_F8_E5M2:
		return p->peak_fp8_flops_per_s;
	case PL_DTYPE_I8:
		return p->peak8_flops_per_s;
	case PL_DTYPE_NVFP4:
	case PL_DTYPE_F4:
		return p->peak4_flops_per_s;
	default:
		return p->peak16_flops_per_s;
	}
}

/* One direction of a PCIe slot: 128b/130b coding, gen 3 is 8 GT/s a lane, each generation doubles. */
double pl_pcie_bytes_per_s(const struct pl_device *d)
{
	double gen = d->pcie_gen, lanes = d->pcie_lanes;
	if (!(gen > 0))
		gen = d->gpu ? known_or(d->gpu->pcie_gen, 4) : 4;
	if (!(lanes > 0))
		lanes = d->gpu ? known_or(d->gpu->pcie_lanes, 16) : 16;
	return 1e9 * exp2(gen - 3) * (128.0 / 130.0) * lanes;
}
