#include "align/tuner.h"
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "base/str.h"
#include "base/sys.h"
#include "exec/exec.h"
#include "model/lora.h"
#include "model/score.h"
#include "train/optim_step.h"

struct learnt { const char *name; float *sum; int32_t output; };      /* name: of the graph's param, "a+b" when fused */

struct dan_tuner {
    struct dan_lm *lm;
    struct dan_tuner_opts o;
    struct dan_pool *pool;
    struct dan_graph *graph, *score_graph;
    struct dan_program *program, *score_program;
    struct dan_store *state;
    struct learnt *param;
    struct dan_optim_span *span;
    struct dan_optim_plan plan;
    int32_t n_params;
    int64_t steps, added;                      /* added: packs since the last step */
    float  *zero;                              /* [max_rows]: weights of a row while its number is not known */
    struct dan_cut cut;                        /* of `program`, where numbers of rows are known */
    bool    cuts;
    double rest;                               /* the step from which scales rest */
    int32_t seed[2];
};

static bool scores(const struct dan_tuner *t) { return t->o.head == DAN_HEAD_SCORE; }
static const char *number(const struct dan_tuner *t) { return scores(t) ? "value" : "row_loss"; }

static int build(const struct dan_tuner *t, bool train, struct dan_graph **g, struct dan_err *e)
{
    struct dan_io io = {.max_rows = t->o.max_rows, .loss = !scores(t), .score = scores(t), .temperature = t->o.temperature};
    struct dan_pass_opts p = t->o.pass;
    struct dan_quant_policy policy = t->o.qat.policy;
    policy.hard = !train;
    p.quant = dan_qat_on(&t->o.qat) ? &policy : NULL;
    p.prec = t->o.prec;
    if (train) io.lora_dropout = t->o.lora_dropout, io.neftune = t->o.neftune;
    else p.dump = NULL, p.note = NULL;
    return dan_lm_graph(t->lm, &io, !train ? DAN_PIPELINE_EVAL : t->o.remat ? DAN_PIPELINE_TRAIN_REMAT : DAN_PIPELINE_TRAIN, &p, g, e);
}

static int add_program(struct dan_tuner *t, bool train, struct dan_graph **g, struct dan_program **p, struct dan_err *e)
{
    struct dan_exec_opts x = {.pool = t->pool, .ref = t->o.ref, .cpu_mask = t->o.cpu_mask};
    int rc = build(t, train, g, e);
    if (!rc) rc = dan_qat_add_params(*g, t->lm->store, e);
    return rc ? rc : dan_compile(*g, &x, p, e);
}

static int compile(struct dan_tuner *t, struct dan_err *e)
{
    int rc = t->o.frozen ? DAN_OK : add_program(t, true, &t->graph, &t->program, e);
    if (!rc) rc = add_program(t, false, &t->score_graph, &t->score_program, e);
    if (!rc) rc = dan_bind_store(t->score_program, t->lm->store, e);          /* first: it joins more (dropout reads weights twice) */
    if (!rc && t->program) rc = dan_bind_store(t->program, t->lm->store, e);
    if (!rc && dan_qat_on(&t->o.qat)) rc = dan_tuner_init_scales(t->lm, &t->o.qat.policy, e);
    if (!rc && t->program) t->cuts = dan_program_cut(t->program, "weights", number(t), &t->cut) == DAN_OK;
    if (!rc && !(t->zero = dan_calloc((size_t)t->o.max_rows + 1, sizeof *t->zero))) rc = dan_fail(e, DAN_ENOMEM, "not enough memory for fine-tuning");
    return rc;
}

static float *state_of(struct dan_tuner *t, const char *kind, const char *name, int64_t n, struct dan_err *e)
{
    struct dan_str full = {0};
    dan_str_printf(&full, "%s:%s", kind, name);
    int rc = dan_store_add(t->state, dan_str_c(&full), &dan_dtype_f32, DAN_SHAPE(n), e);
    float *p = rc ? NULL : dan_store_find(t->state, dan_str_c(&full))->data;
    dan_str_release(&full);
    return p;
}

static int add_param(struct dan_tuner *t, int32_t output, struct dan_err *e)
{
    struct learnt *p = &t->param[t->n_params];
    struct dan_optim_span *s = &t->span[t->n_params];
    const char *name = t->graph->out_name[output] + strlen("grad:");
    const struct dan_tensor *w = dan_store_find(t->lm->store, name);
    if (!w) return dan_fail(e, DAN_EINVAL, "the weights have no tensor '%s'", name);
    *p = (struct learnt){.name = name, .output = output};
    const bool scale = dan_qat_is_param(name);
    *s = (struct dan_optim_span){.w = w->data, .n = dan_shape_count(&w->shape), .decay = w->shape.n >= 2 && !scale, .rate = scale ? t->o.qat.step_rate : 1};
    if (t->o.lora_plus > 0 && dan_str_ends(name, ".lora_b")) s->rate = t->o.lora_plus;
    for (int k = 0; k < t->o.optim->n_slots; k++)
        if (!(s->slot[k] = state_of(t, t->o.optim->slot[k], name, s->n, e))) return DAN_ENOMEM;
    if (!(p->sum = state_of(t, "sum", name, s->n, e))) return DAN_ENOMEM;
    if (t->o.ema > 0) {
        if (!(s->ema = state_of(t, "ema", name, s->n, e))) return DAN_ENOMEM;
        memcpy(s->ema, s->w, sizeof *s->w * (size_t)s->n);
    }
    t->n_params++;
    return DAN_OK;
}

static int add_params(struct dan_tuner *t, struct dan_err *e)
{
    t->param = dan_calloc((size_t)t->graph->n_out, sizeof *t->param);
    t->span = dan_calloc((size_t)t->graph->n_out, sizeof *t->span);
    int rc = t->param && t->span ? dan_store_new(&t->state, e) : dan_fail(e, DAN_ENOMEM, "not enough memory for %d parameters", t->graph->n_out);
    for (int32_t i = 0; i < t->graph->n_out && !rc; i++)
        if (dan_str_starts(t->graph->out_name[i], "grad:")) rc = add_param(t, i, e);
    if (!rc && !t->n_params) rc = dan_fail(e, DAN_EINVAL, "no parameter of the model can learn: all are frozen or quantised; add an adapter");
    uint64_t cpu = dan_cpu_features() & (t->o.cpu_mask ? t->o.cpu_mask : UINT64_MAX);
    return rc ? rc : dan_optim_plan_new(t->o.optim, t->span, t->n_params, cpu, &t->plan, e);
}

int dan_tuner_new(struct dan_lm *lm, const struct dan_tuner_opts *o, struct dan_pool *pool, struct dan_tuner **out, struct dan_err *e)
{
    struct dan_tuner *t = dan_calloc(1, sizeof *t);
    if (!t) return dan_fail(e, DAN_ENOMEM, "not enough memory for fine-tuning");
    *t = (struct dan_tuner){.lm = lm, .o = *o, .pool = pool, .rest = INFINITY};
    t->o.qat.start = 0;
    int rc = lm->model->time_major ? dan_fail(e, DAN_EUNSUPPORTED, "family '%s' is recurrent and cannot be fine-tuned on packed rows: use 'danlu train'", lm->model->name)
                                   : compile(t, e);
    if (!rc) rc = t->o.frozen ? dan_store_new(&t->state, e) : add_params(t, e);
    if (rc) dan_tuner_free(t);
    else *out = t;
    return rc;
}

void dan_tuner_free(struct dan_tuner *t)
{
    if (!t) return;
    dan_program_free(t->program);
    dan_program_free(t->score_program);
    dan_graph_free(t->graph);
    dan_graph_free(t->score_graph);
    dan_store_free(t->state);
    dan_optim_plan_release(&t->plan);
    dan_free(t->param);
    dan_free(t->span);
    dan_free(t->zero);
    dan_free(t);
}

/* ---- runs ---- */

static int bind_one(struct dan_program *p, const char *name, const struct dan_dtype *type, int64_t n, void *data, struct dan_err *e)
{
    struct dan_tensor t = dan_tensor_of(type, DAN_SHAPE(n), data);
    return dan_bind(p, name, &t, e);
}

bool dan_tuner_draws(const struct dan_tuner *t) { return t->graph && dan_leaf(t->graph, "seed"); }

/* Philox's key of dropout and noise: another one for every pack of every step. */
static int bind_seed(struct dan_tuner *t, struct dan_program *p, struct dan_err *e)
{
    if (p != t->program || !dan_tuner_draws(t)) return DAN_OK;
    t->seed[0] = (int32_t)(uint32_t)(t->o.seed ^ t->o.seed >> 32);
    t->seed[1] = (int32_t)(uint32_t)(t->steps * 4096 + t->added);
    return bind_one(p, "seed", &dan_dtype_i32, 2, t->seed, e);
}

/* weights: instead of the pack's. */
static int bind(struct dan_tuner *t, struct dan_program *p, const struct dan_packed *pack, float *weights, struct dan_err *e)
{
    const struct dan_batch *b = &pack->batch;
    const struct { const char *name; void *data; const struct dan_dtype *type; } in[] = {
        {"tokens", b->tokens, &dan_dtype_i32}, {"weights", weights ? weights : b->weights, &dan_dtype_f32},
        {"pos", b->pos, &dan_dtype_i32}, {"start", b->start, &dan_dtype_i32}, {"stop", b->stop, &dan_dtype_i32}, {"self", b->self, &dan_dtype_i32},
    };
    int rc = scores(t) ? DAN_OK : bind_one(p, "targets", &dan_dtype_i32, b->rows, b->targets, e);
    for (size_t i = 0; i < sizeof in / sizeof *in && !rc; i++) rc = bind_one(p, in[i].name, in[i].type, b->rows, in[i].data, e);
    return rc ? rc : bind_seed(t, p, e);
}

static int run(struct dan_tuner *t, struct dan_program *p, const struct dan_packed *pack, struct dan_err *e)
{
    int rc = bind(t, p, pack, NULL, e);
    return rc ? rc : dan_run(p, e);
}

/* As far as the rows' numbers, by the program that trains. */
static int run_first(struct dan_tuner *t, const struct dan_packed *pack, struct dan_err *e)
{
    int rc = bind(t, t->program, pack, t->zero, e);
    return rc ? rc : t->cuts ? dan_run_first(t->program, &t->cut, e) : dan_run(t->program, e);
}

/* On from there, with the pack's weights. */
static int run_rest(struct dan_tuner *t, const struct dan_packed *pack, struct dan_err *e)
{
    int rc = bind(t, t->program, pack, NULL, e);
    return rc ? rc : t->cuts ? dan_run_rest(t->program, &t->cut, e) : dan_run(t->program, e);
}

static const float *numbers(const struct dan_tuner *t, const struct dan_program *p) { return dan_result_named(p, number(t))->data; }

static void copy_numbers(const struct dan_tuner *t, const struct dan_program *p, const struct dan_packed *pack, float *out)
{
    if (out) memcpy(out, numbers(t, p), (size_t)pack->batch.rows * sizeof *out);
}

int dan_tuner_score(struct dan_tuner *t, const struct dan_packed *pack, bool exact, float *out, struct dan_err *e)
{
    struct dan_program *p = exact && t->program ? t->program : t->score_program;
    int rc = p == t->program ? run_first(t, pack, e) : run(t, p, pack, e);
    if (!rc) copy_numbers(t, p, pack, out);
    return rc;
}

/* Thread ith's part of n elements, whole cache lines. */
static void share(int64_t n, int ith, int nth, int64_t *lo, int64_t *hi)
{
    int64_t lines = (n + 15) / 16;
    *lo = lines * ith / nth * 16;
    *hi = lines * (ith + 1) / nth * 16;
    if (*hi > n) *hi = n;
}

static void add_gradients(void *ctx, int ith, int nth)
{
    struct dan_tuner *t = ctx;
    for (int32_t i = 0; i < t->n_params; i++) {
        float *restrict sum = t->param[i].sum;
        const float *restrict g = dan_result(t->program, t->param[i].output)->data;
        int64_t lo, hi;
        share(t->span[i].n, ith, nth, &lo, &hi);
        if (t->added == 0) memcpy(sum + lo, g + lo, (size_t)(hi > lo ? hi - lo : 0) * sizeof *g);
        else for (int64_t k = lo; k < hi; k++) sum[k] += g[k];
    }
}

static void add_up(struct dan_tuner *t)
{
    dan_pool_run(t->pool, add_gradients, t);
    t->added++;
}

static int check_learns(const struct dan_tuner *t, struct dan_err *e)
{
    return t->program ? DAN_OK : dan_fail(e, DAN_EINVAL, "a frozen model has no gradient: make its tuner without .frozen");
}

int dan_tuner_add(struct dan_tuner *t, const struct dan_packed *pack, float *out, struct dan_err *e)
{
    int rc = check_learns(t, e);
    if (!rc) rc = run(t, t->program, pack, e);
    if (rc) return rc;
    copy_numbers(t, t->program, pack, out);
    add_up(t);
    return DAN_OK;
}

int dan_tuner_run(struct dan_tuner *t, struct dan_packed *pack, dan_seed_rows *seed, void *ctx, struct dan_err *e)
{
    int rc = check_learns(t, e);
    if (!rc) rc = run_first(t, pack, e);
    if (!rc) rc = seed(ctx, numbers(t, t->program), pack, e);
    if (!rc) rc = run_rest(t, pack, e);
    if (!rc) add_up(t);
    return rc;
}

static bool rests(const struct dan_tuner *t, int32_t i) { return (double)t->steps >= t->rest && dan_qat_is_param(t->param[i].name); }

static void keep_scales(struct dan_tuner *t, double lr)
{
    const float bound = dan_qat_slope_bound(&t->o.qat, t->steps, t->rest);
    for (int32_t i = 0; i < t->n_params; i++)
        if (dan_qat_is_param(t->param[i].name) && !rests(t, i)) dan_qat_keep(&t->o.qat, t->param[i].name, t->span[i].w, t->span[i].n, lr, bound);
}

int dan_tuner_step(struct dan_tuner *t, double lr, double *norm, struct dan_err *e)
{
    struct dan_optim_args a = {lr, t->o.beta1, t->o.beta2, t->o.eps, t->o.weight_decay, t->o.momentum, 1, t->steps + 1, t->o.nesterov};
    int rc = check_learns(t, e);
    if (rc) return rc;
    DAN_ASSERT(t->added > 0);
    for (int32_t i = 0; i < t->n_params; i++) t->span[i].g = rests(t, i) ? NULL : t->param[i].sum;
    *norm = dan_optim_step(&t->plan, t->pool, &a, t->o.clip, t->o.ema, true);
    t->added = 0;
    if (!isfinite(*norm))
        return dan_fail(e, DAN_EINVAL, "the gradient became %s at step %lld; lower --lr (now %g) or raise --warmup", isnan(*norm) ? "nan" : "infinite",
                        (long long)t->steps + 1, lr);
    keep_scales(t, lr);
    t->steps++;
    return dan_lora_refresh(t->lm, NULL, t->pool, e);
}

int dan_tuner_swap_ema(struct dan_tuner *t, struct dan_err *e)
{
    for (int32_t i = 0; i < t->n_params; i++)
        for (int64_t k = 0; t->span[i].ema && k < t->span[i].n; k++) {
            float w = t->span[i].w[k];
            t->span[i].w[k] = t->span[i].ema[k];
            t->span[i].ema[k] = w;
        }
    return dan_lora_refresh(t->lm, NULL, t->pool, e);
}

int64_t dan_tuner_steps(const struct dan_tuner *t) { return t->steps; }
void dan_tuner_set_steps(struct dan_tuner *t, int64_t steps) { t->steps = steps; }
void dan_tuner_rest_scales(struct dan_tuner *t, double from) { t->rest = from; }
struct dan_store *dan_tuner_state(struct dan_tuner *t) { return t->state; }

int64_t dan_tuner_params(const struct dan_tuner *t)
{
    int64_t n = 0;
    for (int32_t i = 0; i < t->n_params; i++) n += t->span[i].n;
    return n;
}

size_t dan_tuner_bytes(const struct dan_tuner *t)
{
    size_t score = dan_program_bytes(t->score_program), train = t->program ? dan_program_bytes(t->program) : 0;
    return dan_store_bytes(t->state) + train + score;
}
