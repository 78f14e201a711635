/* Compute buffers: the emulated peak of one micro batch; closed forms where the step of a model is not known. */
#include <string.h>

#include "base/checked.h"
#include "engine/llamacpp_build.h"

enum { F32 = 4, F16 = 2 };

static uint64_t mul3(uint64_t a, uint64_t b, uint64_t c)
{
	return pl_sat_mul(pl_sat_mul(a, b), c);
}

uint64_t ll_output_buffer(const struct ll_job *j)
{
	if (!j->n_mtp)
		return mul3(j->ctx.n_seq, j->m->n_vocab, F32);
	/* With layers that draft: every checked row's logits and every token's hidden row; of the draft one row a sequence, which
	 * is sampled where it is made: logits, probabilities, candidates (src/llama-context.cpp output_reserve). */
	uint64_t n_seq = j->ctx.n_seq, rows = pl_sat_add(pl_sat_mul(n_seq, 1ull + j->n_drafted), pl_sat_mul(4, n_seq));
	uint64_t hidden = mul3(pl_sat_add(j->ctx.n_batch, n_seq), j->m->n_embd, F32);
	return pl_sat_add(pl_sat_add(mul3(rows, j->m->n_vocab, F32), hidden), pl_sat_mul(n_seq, F32));
}

/* Without a graph: the logits or the widest feed forward on the device with the output, with masks and embeddings. */
static void by_closed_form(const struct ll_job *j, struct ll_sum *s)
{
	uint64_t ub = j->ctx.n_ubatch, embd = mul3(j->m->n_embd, ub, F32), wide = 0;
	uint64_t mask = mul3(j->ctx.n_cells, ub, j->ctx.flash_attn ? F16 : F32);
	for (uint32_t i = 0; i < j->m->n_layers; i++)
		wide = pl_max_u64(wide, pl_max_u64(pl_sat_mul(2, j->m->layers[i].n_ff),
		                                   pl_sat_mul(j->m->layers[i].n_expert_used, 2ull * j->m->layers[i].n_ff_expert)));
	uint64_t layer = pl_sat_add(mul3(wide, ub, F32), pl_sat_mul(6, embd));
	uint64_t logits = pl_sat_add(mul3(j->m->n_vocab, ub, F32), pl_sat_mul(4, embd));
	for (int d = -1; d < (int)j->n_dev; d++) {
		bool output = s->layer_dev[j->n_all] == d;
		struct pl_use *u = d < 0 ? &s->host : &s->dev[d];
		u->compute_bytes = pl_sat_mul(output || u->n_layers || d < 0, mask);
		u->compute_bytes = pl_sat_add(u->compute_bytes, output ? pl_max_u64(logits, layer) : u->n_layers ? layer : 0);
		if (d < 0)
			u->compute_bytes = pl_sat_add(u->compute_bytes, pl_sat_mul(4, embd));
	}
}

static const uint64_t SCRATCH_BYTES = 1024ull * 1024 * 1024;

/* What llama.cpp makes room for in a graph (src/llama-context.cpp graph_max_nodes), by architecture. */
static uint64_t max_nodes(const struct ll_job *j, uint64_t n_tensors, uint64_t n_tokens)
{
	static const char *const many[] = {"qwen3next", "kimi-linear", "bailingmoe3", "qwen35", "qwen35moe", "qwen4exp",
	                                   "deepseek4", "nanbeige", "minimax-01", "minimax-m3", "hy-v4"};
	const char *arch = j->m->arch ? j->m->arch : "";
	if (!strcmp(arch, "kimi-k3") || !strcmp(arch, "glm5-next"))
		return pl_max_u64(pl_sat_mul(n_tokens, 160), pl_sat_mul(64, n_tensors));
	for (size_t i = 0; i < sizeof many / sizeof *many; i++)
		if (!strcmp(arch, many[i]))
			return pl_max_u64(pl_sat_mul(n_tokens, 40), pl_sat_mul(32, n_tensors));
	return pl_max_u64(1024, pl_sat_mul(8, n_tensors));
}

/* Nodes have a list of that length; nodes and leaves together a table of the next prime after a power of two, which aborts when
 * it is full (ggml.c ggml_hash_size, ggml-impl.h ggml_hash_find_or_insert, ggml-backend.cpp ggml_backend_sched_new). */
static void compare_room(const struct lg *g, const struct ll_job *j, struct ll_sum *s, uint64_t n_tokens)
{
	static const uint32_t primes[] = {1031, 2053, 4099, 8209, 16411, 32771, 65537, 131101, 262147, 524309, 1048583};
	uint64_t room = max_nodes(j, s->n_tensors, n_tokens), table = room | 1;
	for (size_t i = sizeof primes / sizeof *primes; i-- > 0;)
		if (primes[i] >= room)
			table = primes[i];
	bool list = g->n_nodes > room;
	s->n_nodes = list ? g->n_nodes : (uint64_t)g->n_nodes + g->n_leafs;
	s->n_nodes_max = list ? room : table;
}

static bool emulate(const struct ll_job *j, struct ll_sum *s, struct pl_arena *scratch, uint64_t *peaks)
{
	struct lg g = {.a = scratch};
	uint64_t n_tokens = pl_min_u64(j->ctx.n_ctx, j->ctx.n_ubatch), n_outputs = pl_min_u64(n_tokens, j->ctx.n_outputs);
	n_tokens = pl_round_up(n_tokens, j->ctx.n_seq);
	if (!ll_graph_build(&g, j, s, n_tokens, n_outputs))
		return false;
	if (j->whole_graph && !j->drafting)
		compare_room(&g, j, s, n_tokens);
	return ll_schedule(&g, j, s, peaks);
}

static void compute(const struct ll_job *j, struct ll_sum *s)
{
	uint64_t peaks[PL_MAX_DEVICES + 1] = {0};
	struct pl_arena *scratch = pl_arena_new(SCRATCH_BYTES);
	bool done = scratch && emulate(j, s, scratch, peaks);
	s->failed |= !scratch || pl_arena_failed(scratch);
	if (scratch)
		pl_arena_free(scratch);
	if (!done) {
		by_closed_form(j, s);
		return;
	}
	for (uint32_t d = 0; d < j->n_dev; d++)
		s->dev[d].compute_bytes = peaks[d];
	s->host.compute_bytes = peaks[j->n_dev];
}

/* Layers that draft compute in a second context, with a scheduler and buffers of its own. */
static void add_draft(const struct ll_job *j, struct ll_sum *s)
{
	struct ll_job draft = *j;
	struct ll_sum sum = *s;
	draft.drafting = true;
	draft.ctx.n_outputs = j->ctx.n_seq;
	draft.ctx.type_k = ll_draft_type(j->p->draft.type_k);
	draft.ctx.type_v = ll_draft_type(j->p->draft.type_v);
	compute(&draft, &sum);
	s->failed |= sum.failed;
	s->host.compute_bytes = pl_sat_add(s->host.compute_bytes, sum.host.compute_bytes);
	for (uint32_t d = 0; d < j->n_dev; d++)
		s->dev[d].compute_bytes = pl_sat_add(s->dev[d].compute_bytes, sum.dev[d].compute_bytes);
}

void ll_compute(const struct ll_job *j, struct ll_sum *s)
{
	s->output_buffer_bytes = ll_output_buffer(j);
	compute(j, s);
	if (j->n_mtp)
		add_draft(j, s);
}
