/* One step: micro-batches, gradient norm, update, evaluation. */
#include <math.h>
#include <string.h>
#include "train/trainer_impl.h"

static int bind_ints(struct dan_program *p, const char *name, void *data, const struct dan_dtype *type, int64_t n, struct dan_err *e)
{
    struct dan_tensor t = dan_tensor_of(type, DAN_SHAPE(n), data);
    return dan_bind(p, name, &t, e);
}

int dan_trainer_bind(struct dan_trainer *t, struct dan_program *p, struct dan_err *e)
{
    const struct dan_batch *b = &t->batch;
    struct { const char *name; void *data; const struct dan_dtype *type; } packed[] = {
        {"tokens", b->tokens, &dan_dtype_i32}, {"targets", b->targets, &dan_dtype_i32}, {"weights", b->weights, &dan_dtype_f32},
        {"pos", b->pos, &dan_dtype_i32}, {"start", b->start, &dan_dtype_i32}, {"stop", b->stop, &dan_dtype_i32}, {"self", b->self, &dan_dtype_i32},
    };
    int n = t->lm->model->time_major ? 3 : 7, rc = DAN_OK;
    for (int i = 0; i < n && !rc; i++) rc = bind_ints(p, packed[i].name, packed[i].data, packed[i].type, b->rows, e);
    if (!rc && t->lm->model->time_major) rc = bind_ints(p, "reset", b->reset, &dan_dtype_i32, b->rows, e);
    bool draws = p == t->program ? dan_leaf(t->graph, "seed") != 0 : p == t->twin.program && t->o.dropout > 0;
    if (!rc && draws) rc = bind_ints(p, "seed", t->seed, &dan_dtype_i32, 2, e);
    return rc;
}

struct job { struct dan_trainer *t; bool first; };

/* Thread ith's part of n elements, whole cache lines. */
static void share(int64_t n, int ith, int nth, int64_t *lo, int64_t *hi)
{
    int64_t lines = (n + 15) / 16;
    *lo = lines * ith / nth * 16;
    *hi = lines * (ith + 1) / nth * 16;
    if (*hi > n) *hi = n;
}

struct dan_program *dan_trainer_active(const struct dan_trainer *t) { return t->twin.program && !t->rounds ? t->twin.program : t->program; }

/* NULL: the parameter rests in this step. */
static const float *gradient(const struct dan_trainer *t, const struct slot_param *p)
{
    struct dan_program *now = dan_trainer_active(t);
    if (dan_qat_rests(t, p)) return NULL;
    return dan_result(now, now == t->program ? p->output : p->twin_output)->data;
}

static void add_gradients(void *ctx, int ith, int nth)
{
    struct job *j = ctx;
    for (int32_t i = 0; i < j->t->n_params; i++) {
        float *restrict acc = j->t->param[i].acc;
        const float *g = gradient(j->t, &j->t->param[i]);
        int64_t lo, hi;
        if (!g) continue;
        share(j->t->span[i].n, ith, nth, &lo, &hi);
        for (int64_t k = lo; j->first && k < hi; k++) acc[k] = g[k];
        for (int64_t k = lo; !j->first && k < hi; k++) acc[k] += g[k];
    }
}

enum dan_layout dan_trainer_layout(const struct dan_trainer *t) { return t->lm->model->time_major ? DAN_TIME_MAJOR : DAN_PACKED; }

static int micro_batches(struct dan_trainer *t, struct dan_step_stats *s, struct dan_err *e)
{
    struct dan_program *now = dan_trainer_active(t);
    for (int64_t m = 0; m < t->o.accumulate; m++) {
        dan_batches_fill(t->batches, t->step, m * t->o.batch, t->o.batch, dan_trainer_layout(t), &t->batch);
        uint64_t stream = (uint64_t)(t->step * t->o.accumulate + m);
        t->seed[0] = (int32_t)(t->o.seed ^ (t->o.seed >> 32));
        t->seed[1] = (int32_t)stream;
        int rc = dan_trainer_bind(t, now, e);
        if (!rc) rc = dan_run(now, e);
        if (rc) return rc;
        s->loss += *(const float *)dan_result(now, now == t->program ? t->loss_output : t->twin.loss_output)->data;
        s->tokens += t->batch.rows;
        struct job j = {t, m == 0};
        if (t->o.accumulate > 1) dan_pool_run(t->pool, add_gradients, &j);
    }
    return DAN_OK;
}

static double optimise(struct dan_trainer *t, double lr, bool apply)
{
    for (int32_t i = 0; i < t->n_params; i++) {
        const float *g = gradient(t, &t->param[i]);
        t->span[i].g = g && t->param[i].acc ? t->param[i].acc : g;
    }
    struct dan_optim_args a = {lr, t->o.beta1, t->o.beta2, t->o.eps, t->o.weight_decay, t->o.momentum, 1, t->step + 1, t->o.nesterov};
    return dan_optim_step(&t->plan, t->pool, &a, t->o.clip, t->o.ema, apply);
}

int dan_trainer_step(struct dan_trainer *t, struct dan_step_stats *out, struct dan_err *e)
{
    struct dan_step_stats s = {.epoch = dan_batches_epoch(t->batches, t->step)};
    struct dan_schedule_args at = {t->o.lr, t->o.min_lr, t->o.warmup, t->o.steps, t->o.decay_fraction};
    int rc = dan_qat_on(&t->o.qat) && !t->rounds && t->step >= t->o.qat.start ? dan_trainer_begin_rounding(t, e) : DAN_OK;
    if (!rc) rc = micro_batches(t, &s, e);
    if (rc) return rc;
    s.lr = dan_schedule_at(t->o.schedule, &at, t->step);
    s.grad_norm = optimise(t, s.lr, isfinite(s.loss));
    s.step = t->step + 1;
    *out = s;
    if (!isfinite(s.loss) || !isfinite(s.grad_norm))
        return dan_fail(e, DAN_EINVAL, "the %s became %s at step %lld; lower --lr (now %g), raise --warmup or use --clip 1, then --resume from the last checkpoint",
                        isfinite(s.loss) ? "gradient" : "loss", isnan(s.loss + s.grad_norm) ? "nan" : "infinite", (long long)s.step, s.lr);
    dan_qat_after_step(t, s.lr);
    t->step++;
    return DAN_OK;
}

void dan_trainer_swap_ema(struct dan_trainer *t)
{
    for (int32_t i = 0; i < t->n_params; i++)
        for (int64_t k = 0; t->span[i].ema && k < t->span[i].n; k++) {
            float w = t->span[i].w[k];
            t->span[i].w[k] = t->span[i].ema[k];
            t->span[i].ema[k] = w;
        }
}

static int evaluate(struct dan_trainer *t, struct dan_program *p, int32_t output, int64_t max_batches, double *loss, int64_t *tokens,
                    struct dan_err *e)
{
    if (!t->val) return dan_fail(e, DAN_EINVAL, "there is no validation data; use --val-fraction");
    int64_t n = dan_eval_batches(t->val, t->o.context, t->o.batch), targets = 0;
    if (max_batches > 0 && n > max_batches) n = max_batches;
    double sum = 0;
    int rc = DAN_OK;
    dan_trainer_swap_ema(t);
    for (int64_t i = 0; i < n && !rc; i++) {
        dan_eval_fill(t->val, t->o.context, t->o.batch, i, dan_trainer_layout(t), &t->batch);
        rc = dan_trainer_bind(t, p, e);
        if (!rc) rc = dan_run(p, e);
        if (rc) break;
        sum += *(const float *)dan_result(p, output)->data * (double)t->batch.targets_n;
        targets += t->batch.targets_n;
    }
    dan_trainer_swap_ema(t);
    if (rc) return rc;
    if (targets == 0) return dan_fail(e, DAN_EINVAL, "the validation data has no token to predict; raise --val-fraction or give more text");
    *loss = sum / (double)targets;
    if (tokens) *tokens = targets;
    return DAN_OK;
}

int dan_trainer_eval_float(struct dan_trainer *t, int64_t max_batches, double *loss, int64_t *tokens, struct dan_err *e)
{
    if (!t->twin.eval_program) return evaluate(t, t->eval_program, t->eval_loss_output, max_batches, loss, tokens, e);
    return evaluate(t, t->twin.eval_program, t->twin.eval_loss_output, max_batches, loss, tokens, e);
}

int dan_trainer_eval(struct dan_trainer *t, int64_t max_batches, double *loss, int64_t *tokens, struct dan_err *e)
{
    if (dan_qat_on(&t->o.qat) && !t->rounds) return dan_trainer_eval_float(t, max_batches, loss, tokens, e);
    return evaluate(t, t->eval_program, t->eval_loss_output, max_batches, loss, tokens, e);
}
