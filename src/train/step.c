/* One step: micro-batches, gradient norm, update, evaluation. */
#include <math.h>
#include <string.h>
#include "base/mem.h"
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
    if (!rc && p == t->program && t->o.dropout > 0) rc = bind_ints(p, "seed", t->seed, &dan_dtype_i32, 2, e);
    return rc;
}

struct job { struct dan_trainer *t; struct dan_optim_args a; bool first; double ema; };

/* Thread ith's part of n elements, whole cache lines. */
static void share(int64_t n, int ith, int nth, int64_t *lo, int64_t *hi)
{
    int64_t lines = (n + 15) / 16;
    *lo = lines * ith / nth * 16;
    *hi = lines * (ith + 1) / nth * 16;
    if (*hi > n) *hi = n;
}

static const float *gradient(const struct dan_trainer *t, const struct slot_param *p)
{
    return p->acc ? p->acc : dan_result(t->program, p->output)->data;
}

static void add_gradients(void *ctx, int ith, int nth)
{
    struct job *j = ctx;
    for (int32_t i = 0; i < j->t->n_params; i++) {
        const struct slot_param *p = &j->t->param[i];
        const float *g = dan_result(j->t->program, p->output)->data;
        int64_t lo, hi;
        share(p->n, ith, nth, &lo, &hi);
        for (int64_t k = lo; k < hi; k++) p->acc[k] = j->first ? g[k] : p->acc[k] + g[k];
    }
}

static double square_sum(const float *g, int64_t n)
{
    double s[4] = {0};                         /* four chains: the adds do not wait for each other */
    int64_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (int k = 0; k < 4; k++) s[k] += (double)g[i + k] * g[i + k];
    for (; i < n; i++) s[0] += (double)g[i] * g[i];
    return (s[0] + s[1]) + (s[2] + s[3]);
}

/* Partial sums by fixed chunks, added in order by one thread: the same bits for any number of threads. */
static void norm_chunks(void *ctx, int ith, int nth)
{
    struct dan_trainer *t = ((struct job *)ctx)->t;
    int64_t chunk = 0;
    for (int32_t i = 0; i < t->n_params; i++) {
        const float *g = gradient(t, &t->param[i]);
        for (int64_t at = 0; at < t->param[i].n; at += CHUNK, chunk++)
            if (chunk % nth == ith) t->partial[chunk] = square_sum(g + at, t->param[i].n - at < CHUNK ? t->param[i].n - at : CHUNK);
    }
}

static double gradient_norm(struct dan_trainer *t)
{
    struct job j = {.t = t};
    dan_pool_run(t->pool, norm_chunks, &j);
    double sum = 0;
    for (int64_t i = 0; i < t->n_chunks; i++) sum += t->partial[i];
    return sqrt(sum);
}

static void update(void *ctx, int ith, int nth)
{
    const struct job *j = ctx;
    for (int32_t i = 0; i < j->t->n_params; i++) {
        const struct slot_param *p = &j->t->param[i];
        int64_t lo, hi;
        share(p->n, ith, nth, &lo, &hi);
        if (lo >= hi) continue;
        float *slot[DAN_MAX_SLOTS] = {0};
        for (int k = 0; k < j->t->o.optim->n_slots; k++) slot[k] = p->slot[k] + lo;
        struct dan_optim_args a = j->a;
        if (!p->decay) a.weight_decay = 0;
        j->t->o.optim->update(p->w + lo, gradient(j->t, p) + lo, slot, hi - lo, &a);
        const float keep = (float)j->ema, take = (float)(1 - j->ema);
        for (int64_t k = lo; p->ema && k < hi; k++) p->ema[k] = keep * p->ema[k] + take * p->w[k];
    }
}

static enum dan_layout layout(const struct dan_trainer *t) { return t->lm->model->time_major ? DAN_TIME_MAJOR : DAN_PACKED; }

static int micro_batches(struct dan_trainer *t, struct dan_step_stats *s, struct dan_err *e)
{
    for (int64_t m = 0; m < t->o.accumulate; m++) {
        dan_batches_fill(t->batches, t->step, m * t->o.batch, t->o.batch, layout(t), &t->batch);
        uint64_t stream = (uint64_t)(t->step * t->o.accumulate + m);
        t->seed[0] = (int32_t)(t->o.seed ^ (t->o.seed >> 32));
        t->seed[1] = (int32_t)stream;
        int rc = dan_trainer_bind(t, t->program, e);
        if (!rc) rc = dan_run(t->program, e);
        if (rc) return rc;
        s->loss += *(const float *)dan_result(t->program, t->loss_output)->data;
        s->tokens += t->batch.rows;
        struct job j = {.t = t, .first = m == 0};
        if (t->o.accumulate > 1) dan_pool_run(t->pool, add_gradients, &j);
    }
    return DAN_OK;
}

int dan_trainer_step(struct dan_trainer *t, struct dan_step_stats *out, struct dan_err *e)
{
    struct dan_step_stats s = {.epoch = dan_batches_epoch(t->batches, t->step)};
    struct dan_schedule_args at = {t->o.lr, t->o.min_lr, t->o.warmup, t->o.steps, t->o.decay_fraction};
    int rc = micro_batches(t, &s, e);
    if (rc) return rc;
    s.lr = dan_schedule_at(t->o.schedule, &at, t->step);
    s.grad_norm = gradient_norm(t);
    s.step = t->step + 1;
    *out = s;
    if (!isfinite(s.loss) || !isfinite(s.grad_norm))
        return dan_fail(e, DAN_EINVAL, "the %s became %s at step %lld; lower --lr (now %g), raise --warmup or use --clip 1, then --resume from the last checkpoint",
                        isfinite(s.loss) ? "gradient" : "loss", isnan(s.loss + s.grad_norm) ? "nan" : "infinite", (long long)s.step, s.lr);
    double scale = t->o.clip > 0 && s.grad_norm > t->o.clip ? t->o.clip / (s.grad_norm + 1e-6) : 1;      /* as torch's clip_grad_norm_ */
    struct job j = {.t = t, .ema = t->o.ema};
    j.a = (struct dan_optim_args){s.lr, t->o.beta1, t->o.beta2, t->o.eps, t->o.weight_decay, t->o.momentum, scale, s.step, t->o.nesterov};
    dan_pool_run(t->pool, update, &j);
    t->step++;
    return DAN_OK;
}

void dan_trainer_swap_ema(struct dan_trainer *t)
{
    for (int32_t i = 0; i < t->n_params; i++)
        for (int64_t k = 0; t->param[i].ema && k < t->param[i].n; k++) {
            float w = t->param[i].w[k];
            t->param[i].w[k] = t->param[i].ema[k];
            t->param[i].ema[k] = w;
        }
}

int dan_trainer_eval(struct dan_trainer *t, int64_t max_batches, double *loss, int64_t *tokens, struct dan_err *e)
{
    if (!t->val) return dan_fail(e, DAN_EINVAL, "there is no validation data; use --val-fraction");
    int64_t n = dan_eval_batches(t->val, t->o.context, t->o.batch), targets = 0;
    if (max_batches > 0 && n > max_batches) n = max_batches;
    double sum = 0;
    int rc = DAN_OK;
    dan_trainer_swap_ema(t);
    for (int64_t i = 0; i < n && !rc; i++) {
        dan_eval_fill(t->val, t->o.context, t->o.batch, i, layout(t), &t->batch);
        rc = dan_trainer_bind(t, t->eval_program, e);
        if (!rc) rc = dan_run(t->eval_program, e);
        if (rc) break;
        sum += *(const float *)dan_result(t->eval_program, t->eval_loss_output)->data * (double)t->batch.targets_n;
        targets += t->batch.targets_n;
    }
    dan_trainer_swap_ema(t);
    if (rc) return rc;
    if (targets == 0) return dan_fail(e, DAN_EINVAL, "the validation data has no token to predict; raise --val-fraction or give more text");
    *loss = sum / (double)targets;
    if (tokens) *tokens = targets;
    return DAN_OK;
}
