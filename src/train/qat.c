/* Rounding begins: scales from weights and data.  After each step: scales stay in bounds.  And runs for studies. */
#include "train/qat.h"
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "base/str.h"
#include "op/fake_quant.h"
#include "train/trainer_impl.h"

/* ---- scales of inputs ---------------------------------------------------------------------- */

enum { BINS = 2048 };
struct site { const char *name; int32_t output; double top, *count; };
struct watch { struct dan_graph *graph; struct dan_program *program; struct site *site; int32_t n; };

/* Every x whose scale is wanted becomes an output with the scale's name. */
static int add_site(struct watch *w, struct dan_builder *b, dan_ref x, const struct dan_quant_policy *p, struct dan_err *e)
{
    char text[256];
    if (!dan_quant_input_name(w->graph, x, p, text, sizeof text)) return dan_fail(e, DAN_EINVAL, "the name of a weight is too long");
    const char *name = dan_arena_strdup(w->graph->arena, text);
    if (!name) return dan_fail(e, DAN_ENOMEM, "not enough memory to observe inputs");
    for (int32_t k = 0; k < w->n; k++)
        if (strcmp(w->site[k].name, name) == 0) return DAN_OK;
    w->site[w->n] = (struct site){.name = name, .output = w->graph->n_out, .count = dan_calloc(BINS, sizeof *w->site->count)};
    if (!w->site[w->n].count) return dan_fail(e, DAN_ENOMEM, "not enough memory to observe inputs");
    w->n++;
    dan_output(b, name, x);
    return dan_builder_check(b, e);
}

/* The model in float without any fusion, as for validation. */
static int watch_new(const struct dan_trainer *t, struct watch *w, struct dan_err *e)
{
    const struct dan_train_opts *o = &t->o;
    struct dan_io io = {.max_rows = o->batch * o->context, .lanes = t->lm->model->time_major ? o->batch : 0, .loss = true};
    struct dan_exec_opts x = {.pool = t->pool, .cpu_mask = o->cpu_mask, .ref = o->ref};
    int rc = dan_lm_graph(t->lm, &io, "", NULL, &w->graph, e);
    if (rc) return rc;
    struct dan_builder b;
    dan_builder_init(&b, w->graph);
    w->site = dan_calloc((size_t)w->graph->n, sizeof *w->site);
    if (!w->site) return dan_fail(e, DAN_ENOMEM, "not enough memory to observe inputs");
    for (int32_t i = 1, n = w->graph->n; i < n && !rc; i++)
        if (dan_quant_is_product(w->graph, i, &o->qat.policy)) rc = add_site(w, &b, w->graph->node[i].in[0], &o->qat.policy, e);
    if (!rc) rc = dan_compile(w->graph, &x, &w->program, e);
    return rc ? rc : dan_bind_store(w->program, t->lm->store, e);
}

static void watch_release(struct watch *w)
{
    for (int32_t k = 0; k < w->n; k++) dan_free(w->site[k].count);
    dan_free(w->site);
    dan_program_free(w->program);
    dan_graph_free(w->graph);
}

/* First the largest |x|, then, with it, the histogram. */
static void look(struct site *s, const struct dan_tensor *x, bool counts)
{
    for (int64_t r = 0; r < dan_rows(x); r++) {
        const float *row = dan_row(x, r);
        for (int64_t c = 0; c < dan_cols(x); c++) {
            double m = fabs((double)row[c]);
            if (!counts) s->top = fmax(s->top, m);
            else if (s->top > 0) s->count[(int)fmin(m / s->top * BINS, BINS - 1)]++;
        }
    }
}

static int look_at_batches(struct dan_trainer *t, struct watch *w, bool counts, struct dan_err *e)
{
    int rc = DAN_OK;
    for (int64_t m = 0; m < t->o.qat.observe && !rc; m++) {
        dan_batches_fill(t->batches, t->step + m / t->o.accumulate, m % t->o.accumulate * t->o.batch, t->o.batch, dan_trainer_layout(t), &t->batch);
        rc = dan_trainer_bind(t, w->program, e);
        if (!rc) rc = dan_run(w->program, e);
        for (int32_t k = 0; k < w->n && !rc; k++) look(&w->site[k], dan_result(w->program, w->site[k].output), counts);
    }
    return rc;
}

static int init_inputs(struct dan_trainer *t, struct dan_err *e)
{
    const struct dan_quant_grid q = dan_quant_act_grid(&t->o.qat.policy);
    struct watch w = {0};
    int rc = watch_new(t, &w, e);
    if (!rc) rc = look_at_batches(t, &w, false, e);
    if (!rc) rc = look_at_batches(t, &w, true, e);
    for (int32_t k = 0; k < w.n && !rc; k++) {
        const struct dan_tensor *s = dan_store_find(t->lm->store, w.site[k].name);
        if (!s) rc = dan_fail(e, DAN_EINVAL, "the weights have no tensor '%s'", w.site[k].name);
        else *(float *)s->data = w.site[k].top > 0 ? dan_qat_best_step(w.site[k].count, BINS, w.site[k].top / BINS, dan_quant_hi(q.bits)) : 1;
    }
    watch_release(&w);
    return rc;
}

/* ---- the trainer's part -------------------------------------------------------------------- */

bool dan_trainer_rounds(const struct dan_trainer *t) { return t->rounds; }

int dan_trainer_begin_rounding(struct dan_trainer *t, struct dan_err *e)
{
    const struct dan_quant_policy *p = &t->o.qat.policy;
    int rc = dan_quant_has_steps(p) ? dan_qat_init_weights(t->lm->store, p, e) : DAN_OK;
    if (!rc && p->act_static) rc = init_inputs(t, e);
    if (rc) return rc;
    for (int32_t i = 0; i < t->n_params; i++)
        if (dan_qat_is_param(t->param[i].name) && t->span[i].ema) memcpy(t->span[i].ema, t->span[i].w, sizeof *t->span[i].w * (size_t)t->span[i].n);
    t->rounds = true;
    return DAN_OK;
}

bool dan_qat_rests(const struct dan_trainer *t, const struct slot_param *p)
{
    if (!dan_qat_on(&t->o.qat) || !dan_qat_is_param(p->name)) return false;
    return !t->rounds || (double)t->step >= (double)t->o.steps * (1 - t->o.qat.freeze);
}

float dan_qat_slope_bound(const struct dan_qat_opts *q, int64_t done, double rest)
{
    const double from = (double)q->start;
    const double left = rest > from ? 1 - ((double)done - from + 1) / (rest - from) : 0;
    return (float)fmax(1e-3, fmin(0.5, 2 * q->policy.slope * left));
}

void dan_qat_keep(const struct dan_qat_opts *q, const char *name, float *s, int64_t n, double lr, float bound)
{
    const float keep = q->policy.method == DAN_QAT_PACT ? (float)(1 - lr * q->clip_decay) : 1;
    const bool slope = dan_str_ends(name, ".slope");
    for (int64_t k = 0; k < n; k++) s[k] = slope ? fminf(fmaxf(s[k], 1e-3f), bound) : fmaxf(fabsf(s[k]) * keep, 1e-8f);
}

void dan_qat_after_step(struct dan_trainer *t, double lr)
{
    const struct dan_qat_opts *q = &t->o.qat;
    const float bound = dan_qat_slope_bound(q, t->step, (double)t->o.steps * (1 - q->freeze));
    if (!dan_qat_on(q) || !t->rounds) return;
    for (int32_t i = 0; i < t->n_params; i++)
        if (dan_qat_is_param(t->param[i].name) && !dan_qat_rests(t, &t->param[i])) dan_qat_keep(q, t->param[i].name, t->span[i].w, t->span[i].n, lr, bound);
}

/* ---- studies ------------------------------------------------------------------------------- */

static int train(struct dan_trainer *t, const struct dan_train_opts *o, double *loss, struct dan_err *e)
{
    int64_t tail = o->steps - (o->steps + 9) / 10;
    double sum = 0;
    int rc = DAN_OK;
    for (int64_t i = 0; i < o->steps && !rc; i++) {
        struct dan_step_stats s;
        rc = dan_trainer_step(t, &s, e);
        if (!rc && i >= tail) sum += s.loss;
    }
    *loss = o->steps > 0 ? sum / (double)(o->steps - tail) : NAN;
    return rc;
}

int dan_qat_run(const struct dan_lm *lm, const struct dan_shards *train_data, const struct dan_shards *val, const struct dan_train_opts *o,
                int64_t max_batches, struct dan_pool *pool, struct dan_qat_result *out, struct dan_lm *out_lm, struct dan_err *e)
{
    struct dan_lm mine = {0};
    struct dan_trainer *t = NULL;
    struct dan_qat_result r = {0};
    int rc = dan_qat_copy(lm, &mine, e);
    if (!rc) rc = dan_trainer_new(&mine, train_data, val, o, pool, &t, e);
    if (!rc) rc = train(t, o, &r.train_loss, e);
    if (!rc && dan_qat_on(&o->qat) && !t->rounds) rc = dan_trainer_begin_rounding(t, e);
    if (!rc) rc = dan_trainer_eval(t, max_batches, &r.loss, &r.tokens, e);
    if (!rc) rc = dan_trainer_eval_float(t, max_batches, &r.float_loss, NULL, e);
    dan_trainer_free(t);
    if (!rc) *out = r;
    if (!rc && out_lm) *out_lm = mine;
    else dan_lm_release(&mine);
    return rc;
}
