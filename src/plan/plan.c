#include <math.h>

#include <plimsoll/plan.h>

#include "base/checked.h"
#include "plan/choose.h"
#include "plan/evaluate.h"

enum { MAX_SEQUENCES = 65536, MAX_CONTEXT = 1 << 28, DEFAULT_CONTEXT = 8192 };

/* The folk rule this program replaces: parameters × nominal bytes × 1.3. Nominal: the whole bits of the precision most
 * parameters are in, as people say it ("a 4-bit model"). */
static uint64_t rule_of_thumb(const struct pl_model *m)
{
	uint64_t elems[PL_DTYPE_COUNT] = {0}, bytes[PL_DTYPE_COUNT] = {0}, all = 0;
	unsigned most = 0;
	for (uint32_t i = 0; i < m->n_tensors; i++) {
		const struct pl_tensor *t = &m->tensors[i];
		elems[t->type] = pl_sat_add(elems[t->type], t->n_elems);
		bytes[t->type] = pl_sat_add(bytes[t->type], t->bytes);
		all = pl_sat_add(all, t->n_elems);
		if (elems[t->type] > elems[most])
			most = t->type;
	}
	if (!elems[most])
		return 0;
	double bits = floor(8.0 * (double)bytes[most] / (double)elems[most]);
	return (uint64_t)((double)all * bits / 8.0 * 1.3);
}

/* What the request needs: a paged engine's pool counts only as far as the request fills it. */
static uint64_t exact_need(const struct pl_trial *t, const struct pl_layout *l)
{
	uint64_t sum = pl_use_total_bytes(&l->host.use), kv = 0;
	for (uint32_t i = 0; i < l->n_devices; i++) {
		sum = pl_sat_add(sum, pl_use_total_bytes(&l->devices[i]));
		kv = pl_sat_add(kv, l->devices[i].kv_bytes);
	}
	if (!l->kv_cache_tokens.known)
		return sum;
	uint64_t need = pl_sat_mul(l->kv_bytes_per_token, pl_sat_mul(l->n_ctx_tokens, t->params.n_seq));
	return need < kv ? sum - (kv - need) : sum;
}

/* What the launch line says of ranks stays: the limits are those of the servers that it starts. */
static struct pl_trial with_ranks_of(const struct pl_trial *asked, const struct pl_params *p)
{
	struct pl_trial t = *asked;
	t.params.tensor_parallel = p->tensor_parallel;
	t.params.pipeline_parallel = p->pipeline_parallel;
	t.params.data_parallel = p->data_parallel;
	t.params.expert_parallel = p->expert_parallel;
	t.params.dp_attention = p->dp_attention;
	return t;
}

static void find_limits(const struct pl_trial *asked, enum pl_verdict now, struct pl_plan *plan)
{
	uint64_t train = asked->model->n_ctx_train, high = train ? train : MAX_CONTEXT;
	if (now == PL_VERDICT_NO_FIT)
		now = PL_VERDICT_PAGED; /* what would still run in some way */
	uint64_t ctx = pl_largest_context(asked, now, pl_max_u64(high, asked->params.n_ctx_tokens));
	plan->limits.max_context_tokens = (struct pl_opt_u64){ctx, true};
	plan->limits.context_is_model_limit = train && ctx >= train;
	uint64_t seqs = pl_most_sequences(asked, now, MAX_SEQUENCES);
	plan->limits.max_sequences = (struct pl_opt_u64){seqs, true};
}

static int check_request(const struct pl_plan_request *req, struct pl_err *err)
{
	if (req->params.n_seq < 1 || req->params.n_seq > MAX_SEQUENCES)
		return pl_fail(err, PL_ERR_RANGE, "--concurrency", "%u sequences asked, 1 to %u are possible", req->params.n_seq,
		               MAX_SEQUENCES);
	if (req->params.n_ctx_tokens > MAX_CONTEXT)
		return pl_fail(err, PL_ERR_RANGE, "--context", "%llu tokens asked, 1 to %d are possible",
		               (unsigned long long)req->params.n_ctx_tokens, MAX_CONTEXT);
	return 0;
}

/* Devices that the command picked are picked again. */
static int show_devices(struct pl_arena *a, const struct pl_command *c, struct pl_argv *argv, struct pl_err *err)
{
	const char **env;
	if (!c || !c->visible_env)
		return 0;
	env = pl_arena_grow(a, argv->env, argv->n_env, (uint64_t)argv->n_env + 1, sizeof *env);
	if (!env)
		return pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory while planning");
	env[argv->n_env++] = c->visible_env;
	argv->env = env;
	return 0;
}

static int launch_line(struct pl_arena *a, const struct pl_plan_request *req, const struct pl_trial *t,
                       struct pl_plan *plan, struct pl_err *err)
{
	const char *reason = NULL;
	enum pl_support support = t->engine->supports(a, req->model, req->machine, &reason);
	if (support == PL_SUPPORT_NO) {
		if (!plan->engine_reason) /* else it has been said there */
			pl_note_add(a, &plan->notes, PL_NOTE_WARNING, "%s cannot run this: %s", t->engine->id, reason ? reason : "");
		return 0;
	}
	if (support == PL_SUPPORT_UNSURE && reason)
		pl_note_add(a, &plan->notes, PL_NOTE_WARNING, "%s may not run this: %s", t->engine->id, reason);
	int rc = t->engine->command(a, req->model, req->model_ref ? req->model_ref : req->model->name, req->machine, &t->params,
	                            &plan->layout, &plan->argv, err);
	return rc ? rc : show_devices(a, req->command, &plan->argv, err);
}

static void copy_notes(struct pl_arena *a, struct pl_note **to, const struct pl_note *from)
{
	for (; from; from = from->next)
		pl_note_add(a, to, from->level, "%s", from->text);
}

/* Speculation that is asked for: by the model's own layers where it has some and the engine drafts with them. */
static void speculate(struct pl_arena *a, const struct pl_plan_request *req, struct pl_trial *t, struct pl_plan *plan)
{
	struct pl_draft *d = &t->params.draft;
	if (!(req->question.draft_tokens >= 1) || d->mtp || d->model || d->ref)
		return;
	if (!req->model->n_layers_mtp) {
		pl_note_add(a, &plan->notes, PL_NOTE_WARNING,
		            "the model has no layers that predict ahead: the speed of speculation supposes such, memory and the launch line are without");
		return;
	}
	if (t->engine->drafting == PL_DRAFTS_NOT) {
		pl_note_add(a, &plan->notes, PL_NOTE_WARNING, "%s does not draft with a model's own layers: the launch line is without", t->engine->id);
		return;
	}
	d->mtp = true;
	d->n_max = (uint32_t)req->question.draft_tokens + (t->engine->drafting == PL_DRAFTS_COUNTED_WITH_TARGET);
}

int pl_plan_make(struct pl_arena *a, const struct pl_plan_request *req, const struct pl_plan **ret_plan,
                 struct pl_err *err)
{
	struct pl_plan *plan = PL_NEW(a, struct pl_plan);
	int rc = check_request(req, err);
	if (rc || !plan)
		return rc ? rc : pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory while planning");
	struct pl_trial asked = {req->model, req->machine, req->engine, req->params};
	if (!asked.params.n_ctx_tokens) /* nobody said: a common chat length, never more than the model knows */
		asked.params.n_ctx_tokens = req->model->n_ctx_train ? pl_min_u64(req->model->n_ctx_train, DEFAULT_CONTEXT)
		                                                    : DEFAULT_CONTEXT;
	if (!asked.engine)
		asked.engine = pl_choose_engine(a, &asked, &plan->engine_reason);
	speculate(a, req, &asked, plan);
	struct pl_trial t = asked;
	struct pl_outcome now;
	rc = pl_trial_run(a, &t, &now, err);
	if (rc)
		return rc;
	plan->model = req->model;
	plan->machine = req->machine;
	plan->engine = t.engine;
	plan->verdict = now.verdict;
	plan->params = t.params;
	plan->layout = now.layout;
	plan->rule_of_thumb_bytes = rule_of_thumb(req->model);
	plan->exact_bytes = exact_need(&t, &now.layout);
	plan->rule_of_thumb_error_frac =
	    plan->exact_bytes ? (double)plan->rule_of_thumb_bytes / (double)plan->exact_bytes - 1 : 0;
	plan->placement = pl_placement_text(a, &t, &now);
	plan->command = req->command;
	if (req->command)
		copy_notes(a, &plan->notes, req->command->notes);
	copy_notes(a, &plan->notes, req->model->notes);
	copy_notes(a, &plan->notes, now.layout.notes);
	if (!req->no_suggestions) {
		struct pl_trial fixed = with_ranks_of(&asked, &t.params);
		find_limits(&fixed, now.verdict, plan);
		rc = pl_suggest(a, &asked, plan, err);
		if (!rc)
			rc = pl_plan_speed(a, req, plan, err);
	}
	if (!rc)
		rc = launch_line(a, req, &t, plan, err);
	if (rc)
		return rc;
	if (pl_arena_failed(a))
		return pl_fail(err, PL_ERR_NOMEM, NULL, "out of memory while planning");
	*ret_plan = plan;
	return 0;
}
