#include "quant/study.h"
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "quant/apply.h"
#include "train/trainer.h"

enum { GROUP = 32, TEXT = 64, OUTLIER_CHANNEL = 3 };
static const double outlier = 64;

enum way { POST, ROUND, AWQ, AWARE };
static const struct { const char *name; enum way way; const char *by; } methods[] = {
    {"PTQ nearest", POST, "ste"},   {"PTQ mse", POST, "clipped-ste"}, {"PTQ awq", AWQ, "nearest"}, {"PTQ gptq", ROUND, "gptq"}, {"QAT ste", AWARE, "ste"},
    {"QAT lsq", AWARE, "lsq"},      {"QAT dsq", AWARE, "dsq"},        {"QAT pact", AWARE, "pact"}, {"QAT quantnoise", AWARE, "quantnoise"},
};
/* is_static: one scale for the inputs of a product, of least squared error on data, and learned where the method learns scales.  With a scale for every
 * token four bits lose so little here that nothing is left to win back; with one for all they lose as they do in larger models.
 * rate: of the base's learning rate.  Weights that have learnt already want half of it, the float control too; only W4A4 has further to go. */
static const struct { const char *name; double bits; bool weights_only, is_static; double rate; const char *form; } schemes[] = {
    {"w8a8", 8, false, false, 0.5, NULL},       {"w4", 4.5, true, false, 0.5, "w4_g32"}, {"w3", 3.5, true, false, 0.5, "w3_g32"},
    {"w2", 2.5, true, false, 0.5, "w2_g32"}, {"w4a4", 4.5, false, true, 1, NULL},
};
/* Scales of inputs, one number each, follow the weights: they may go four times as fast as where a run has thousands of steps. */
static const double input_rate = 2;
enum { METHODS = sizeof methods / sizeof *methods, SCHEMES = sizeof schemes / sizeof *schemes };

struct run { const struct dan_study_opts *o; struct dan_study *s; int seed; int64_t done, total; };

static int no_memory(struct dan_err *e) { return dan_fail(e, DAN_ENOMEM, "not enough memory for the comparison"); }

static int advance(struct run *r, int64_t steps, const char *what, struct dan_err *e)
{
    r->done += steps;
    if (!r->o->progress || r->o->progress(r->o->ctx, r->done, r->total, what)) return DAN_OK;
    return dan_fail(e, DAN_ECANCELLED, "interrupted");
}

static int put(struct run *r, const char *part, const char *method, const char *scheme, double bits, double loss, struct dan_err *e)
{
    struct dan_study *s = r->s;
    struct dan_study_row *row = (struct dan_study_row *)(uintptr_t)dan_study_find(s, part, method, scheme);
    if (!row) {
        if (dan_vec_grow(&s->v, &s->cap, s->n + 1, sizeof *s->v)) return no_memory(e);
        row = &s->v[s->n++];
        *row = (struct dan_study_row){.part = part, .method = method, .scheme = scheme, .bits = bits};
        for (int k = 0; k < DAN_STUDY_SEEDS; k++) row->loss[k] = NAN;
    }
    row->loss[r->seed] = loss;
    return DAN_OK;
}

static struct dan_train_opts train_opts(const struct run *r, int64_t steps, uint64_t stream)
{
    const struct dan_study_opts *o = r->o;
    return (struct dan_train_opts){.steps = steps, .batch = o->batch, .accumulate = 1, .context = o->cfg.context, .lr = o->lr, .min_lr = o->lr / 10,
                                   .warmup = steps / 10, .schedule = dan_schedule_find("cosine"), .optim = dan_optim_find("adamw"), .weight_decay = 0.01,
                                   .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .clip = 1, .seed = o->seed + (uint64_t)r->seed + stream};
}

static double rate_of(const char *scheme)
{
    for (int i = 0; i < SCHEMES; i++)
        if (!strcmp(schemes[i].name, scheme)) return schemes[i].rate;
    return 0.5;
}

/* From `lm`: so many steps under a scheme and method (method NULL: float; scheme NULL: fresh weights), then the validation loss.  A run that is not finite counts as NAN. */
static int train(struct run *r, const struct dan_lm *lm, int64_t steps, uint64_t stream, const char *scheme, const char *method, bool is_static, double *loss,
                 struct dan_lm *out, struct dan_err *e)
{
    struct dan_train_opts t = train_opts(r, steps, stream);
    struct dan_qat_result got = {.loss = NAN};
    struct dan_err why = {0};
    int rc = method ? dan_qat_policy(scheme, method, -1, is_static, &t.qat, e) : DAN_OK;
    if (rc) return rc;
    t.qat.input_rate = input_rate;
    t.lr *= scheme ? rate_of(scheme) : 1;
    t.min_lr = t.lr / 10;
    rc = dan_qat_run(lm, r->o->train, r->o->val, &t, r->o->eval_batches, r->o->pool, &got, out, &why);
    if (rc && (out || rc != DAN_EINVAL)) return dan_fail(e, rc, "%s", why.msg);
    *loss = rc ? NAN : got.loss;
    if (!rc) r->s->tokens = got.tokens;
    return DAN_OK;
}

/* ---- methods that look at text ---- */

struct text { int32_t *ids; int64_t *start; struct dan_sequences s; };

static int text_of(const struct run *r, struct text *t, struct dan_err *e)
{
    int64_t n = r->o->cfg.context, tokens = dan_shards_tokens(r->o->train), all = tokens / n < TEXT ? tokens / n : TEXT;
    struct dan_batches *b = NULL;
    *t = (struct text){.ids = dan_malloc((size_t)(TEXT * n) * sizeof *t->ids), .start = dan_malloc((TEXT + 1) * sizeof *t->start)};
    int rc = t->ids && t->start ? dan_batches_new(r->o->train, n, all, r->o->seed + 99, &b, e) : no_memory(e);
    struct dan_batch into = {.tokens = t->ids};
    if (!rc) dan_batches_fill(b, 0, 0, all, DAN_PACKED, &into);
    for (int64_t i = 0; !rc && i <= all; i++) t->start[i] = i * n;
    dan_batches_free(b);
    t->s = (struct dan_sequences){t->ids, t->start, all};
    return rc;
}

static void text_release(struct text *t)
{
    dan_free(t->ids);
    dan_free(t->start);
}

/* As in training: the layers' products are rounded, tables and head are not. */
static const char *keep_outside(void *ctx, const char *name)
{
    (void)ctx;
    return strncmp(name, "blk.", 4) ? "not in a layer" : NULL;
}

static int round_lm(struct run *r, struct dan_lm *lm, int scheme, enum way way, const char *by, struct dan_err *e)
{
    struct dan_quant_form form;
    struct text text = {0};
    struct dan_apply_opts o = {.form = &form, .keep = keep_outside, .text = &text.s, .round = {.pool = r->o->pool}};
    int rc = dan_quant_form_find(schemes[scheme].form, &form, e);
    if (!rc) rc = dan_round_method_find(by, &o.method, e);
    if (!rc) rc = text_of(r, &text, e);
    if (!rc && way == AWQ) {
        struct dan_awq_opts a = {.trial = dan_form_trial(&form), .clip = true, .pool = r->o->pool};
        rc = dan_awq(lm, &text.s, &a, e);
    }
    if (!rc) rc = dan_lm_apply(lm, &o, e);
    text_release(&text);
    return rc;
}

static int rounded(struct run *r, const struct dan_lm *control, int scheme, int method, double *loss, struct dan_err *e)
{
    struct dan_lm lm = {0};
    int rc = dan_qat_copy(control, &lm, e);
    if (!rc) rc = round_lm(r, &lm, scheme, methods[method].way, methods[method].by, e);
    if (!rc) rc = train(r, &lm, 0, 0, NULL, NULL, false, loss, NULL, e);
    dan_lm_release(&lm);
    return rc;
}

/* ---- one seed ---- */

static bool applies(int scheme, int method)
{
    if (methods[method].way == ROUND || methods[method].way == AWQ) return schemes[scheme].weights_only;
    return true;
}

static int cell(struct run *r, const struct dan_lm *base, const struct dan_lm *control, int scheme, int method, struct dan_err *e)
{
    bool aware = methods[method].way == AWARE;
    double loss = NAN;
    int64_t steps = aware ? r->o->more_steps : 0;
    int rc = methods[method].way == ROUND || methods[method].way == AWQ
                 ? rounded(r, control, scheme, method, &loss, e)
                 : train(r, aware ? base : control, steps, 1000, schemes[scheme].name, methods[method].by,
                       schemes[scheme].is_static, &loss, NULL, e);
    if (!rc) rc = put(r, "", methods[method].name, schemes[scheme].name, schemes[scheme].bits, loss, e);
    return rc ? rc : advance(r, steps, methods[method].name, e);
}

static int smooth(struct run *r, struct dan_lm *lm, struct dan_err *e)
{
    struct text text = {0};
    struct dan_smooth_opts o = {.alpha = 0.5, .pool = r->o->pool};
    int rc = text_of(r, &text, e);
    if (!rc) rc = dan_smoothquant(lm, &text.s, &o, e);
    text_release(&text);
    return rc;
}

/* A copy with the outlier channel, and equalised if asked for. */
static int spoil(struct run *r, const struct dan_lm *lm, bool smoothed, struct dan_lm *out, struct dan_err *e)
{
    int rc = dan_qat_copy(lm, out, e);
    if (!rc) rc = dan_quant_inject_outlier(out, OUTLIER_CHANNEL, outlier, NULL, e);
    return !rc && smoothed ? smooth(r, out, e) : rc;
}

static int outliers(struct run *r, const struct dan_lm *base, const struct dan_lm *control, struct dan_err *e)
{
    static const char *const names[2][2] = {{"PTQ nearest", "SmoothQuant + PTQ"}, {"QAT lsq", "SmoothQuant + QAT lsq"}}, *const of[] = {"w8a8", "w4a4"};
    int rc = DAN_OK;
    for (int k = 0; k < 8 && !rc; k++) {
        bool aware = k >> 2, smoothed = k >> 1 & 1;
        struct dan_lm lm = {0};
        double loss = NAN;
        int64_t steps = aware ? r->o->more_steps : 0;
        rc = spoil(r, aware ? base : control, smoothed, &lm, e);
        if (!rc) rc = train(r, &lm, steps, 1000, of[k & 1], aware ? "lsq" : "clipped-ste", true, &loss, NULL, e);
        if (!rc) rc = put(r, "outlier", names[aware][smoothed], of[k & 1], k & 1 ? 4.5 : 8, loss, e);
        if (!rc) rc = advance(r, steps, names[aware][smoothed], e);
        dan_lm_release(&lm);
    }
    return rc;
}

static int one_seed(struct run *r, struct dan_err *e)
{
    struct dan_lm fresh = {0}, base = {0}, control = {0};
    double loss = NAN;
    int rc = dan_lm_init(&fresh, r->o->model, &r->o->cfg, r->o->seed + (uint64_t)r->seed, e);
    if (!rc) rc = train(r, &fresh, r->o->base_steps, 0, NULL, NULL, false, &loss, &base, e);
    if (!rc) rc = put(r, "", "float, base", "", 32, loss, e);
    if (!rc) rc = advance(r, r->o->base_steps, "base", e);
    if (!rc) rc = train(r, &base, r->o->more_steps, 1000, "", NULL, false, &loss, &control, e);
    if (!rc) rc = put(r, "", "float, same steps", "", 32, loss, e);
    if (!rc) rc = advance(r, r->o->more_steps, "control", e);
    for (int s = 0; s < SCHEMES && !rc; s++)
        for (int m = 0; m < METHODS && !rc; m++)
            if (applies(s, m)) rc = cell(r, &base, &control, s, m, e);
    if (!rc) rc = outliers(r, &base, &control, e);
    r->s->params = rc ? 0 : dan_lm_n_params(&fresh);
    dan_lm_release(&fresh);
    dan_lm_release(&base);
    dan_lm_release(&control);
    return rc;
}

int dan_study_run(const struct dan_study_opts *o, struct dan_study *out, struct dan_err *e)
{
    struct run r = {.o = o, .s = out};
    int64_t aware = 0;
    *out = (struct dan_study){.seeds = o->seeds};
    if (o->seeds < 1 || o->seeds > DAN_STUDY_SEEDS) return dan_fail(e, DAN_EINVAL, "%d seeds: use 1 to %d", o->seeds, DAN_STUDY_SEEDS);
    for (int m = 0; m < METHODS; m++) aware += methods[m].way == AWARE;
    r.total = o->seeds * (o->base_steps + o->more_steps * (1 + aware * SCHEMES + 4));
    int rc = DAN_OK;
    for (r.seed = 0; r.seed < o->seeds && !rc; r.seed++) rc = one_seed(&r, e);
    if (rc) dan_study_release(out);
    return rc;
}

void dan_study_release(struct dan_study *s)
{
    dan_free(s->v);
    *s = (struct dan_study){0};
}

const struct dan_study_row *dan_study_find(const struct dan_study *s, const char *part, const char *method, const char *scheme)
{
    for (size_t i = 0; i < s->n; i++)
        if (!strcmp(s->v[i].part, part) && !strcmp(s->v[i].method, method) && !strcmp(s->v[i].scheme, scheme)) return &s->v[i];
    return NULL;
}

struct dan_study_mean dan_study_mean_of(const struct dan_study *s, const struct dan_study_row *r)
{
    double sum = 0, lo = INFINITY, hi = -INFINITY;
    for (int k = 0; k < s->seeds; k++) {
        sum += r->loss[k];
        lo = fmin(lo, r->loss[k]);
        hi = fmax(hi, r->loss[k]);
    }
    return (struct dan_study_mean){sum / s->seeds, (hi - lo) / 2};
}

double dan_study_recovered(const struct dan_study *s, const char *part, const char *method, const char *scheme, double *least)
{
    const struct dan_study_row *control = dan_study_find(s, "", "float, same steps", ""), *lost = dan_study_find(s, part, "PTQ nearest", scheme);
    const struct dan_study_row *row = dan_study_find(s, part, method, scheme);
    double sum = 0;
    *least = INFINITY;
    if (!control || !lost || !row || !(dan_study_mean_of(s, lost).mean - dan_study_mean_of(s, control).mean > DAN_STUDY_LOST)) return NAN;
    for (int k = 0; k < s->seeds; k++) {
        double share = (lost->loss[k] - row->loss[k]) / (lost->loss[k] - control->loss[k]);
        if (!(lost->loss[k] > control->loss[k])) return NAN;
        sum += share;
        *least = fmin(*least, share);
    }
    return sum / s->seeds;
}
