/* Building a trainer. */
#include "train/trainer.h"
#include <string.h>
#include "base/mem.h"
#include "base/str.h"
#include "base/sys.h"
#include "train/trainer_impl.h"

static struct dan_io train_io(const struct dan_model *m, const struct dan_train_opts *o, bool eval)
{
    return (struct dan_io){
        .max_rows = o->batch * o->context, .lanes = m->time_major ? o->batch : 0, .loss = true, .dropout = eval ? 0 : o->dropout};
}

/* quantised: as o->qat says; else in float. */
static int build_graph(const struct dan_lm *lm, const struct dan_train_opts *o, bool eval, bool quantised, struct dan_graph **g,
                       struct dan_err *e)
{
    struct dan_quant_policy policy = o->qat.policy;
    struct dan_io io = train_io(lm->model, o, eval);
    struct dan_pass_opts p = o->pass;
    p.prec = o->prec;
    p.quant = quantised ? &policy : NULL;
    policy.hard = eval;
    const char *train = o->remat ? DAN_PIPELINE_TRAIN_REMAT : DAN_PIPELINE_TRAIN;
    bool shown = !eval && quantised == dan_qat_on(&o->qat);
    if (!shown) p.dump = NULL;
    if (!shown) p.note = NULL;
    return dan_lm_graph(lm, &io, eval ? DAN_PIPELINE_EVAL : train, &p, g, e);    /* fused alike: both bind one store */
}

static int rounds_something(const struct dan_trainer *t, struct dan_err *e)
{
    for (int32_t i = 1; i < t->graph->n; i++)
        if (dan_str_starts(t->graph->node[i].op->name, "fake_quant")) return DAN_OK;
    return dan_fail(e, DAN_EUNSUPPORTED, "no product of a '%s' can be rounded while training: use a transformer family, or train without --qat",
                    t->lm->model->name);
}

static int32_t output_of(const struct dan_graph *g, const char *name)
{
    for (int32_t i = 0; i < g->n_out; i++)
        if (strcmp(g->out_name[i], name) == 0) return i;
    return -1;
}

/* One program: its graph, compiled and bound. */
static int add_program(struct dan_trainer *t, bool eval, bool quantised, const struct dan_exec_opts *x, struct dan_graph **g,
                       struct dan_program **p, int32_t *loss, struct dan_err *e)
{
    int rc = build_graph(t->lm, &t->o, eval, quantised, g, e);
    if (!rc) rc = dan_compile(*g, x, p, e);
    if (!rc && quantised) rc = dan_qat_add_params(*g, t->lm->store, e);
    if (!rc) rc = dan_bind_store(*p, t->lm->store, e);
    if (!rc) *loss = output_of(*g, "loss");
    return rc;
}

static int compile(struct dan_trainer *t, struct dan_err *e)
{
    struct dan_exec_opts x = {.pool = t->pool, .ref = t->o.ref, .cpu_mask = t->o.cpu_mask, .trace = t->o.trace, .trace_ctx = t->o.trace_ctx};
    struct trainer_twin *w = &t->twin;
    const bool qat = dan_qat_on(&t->o.qat);
    int rc = add_program(t, false, qat, &x, &t->graph, &t->program, &t->loss_output, e);
    if (!rc && qat) rc = rounds_something(t, e);
    if (!rc && qat && t->o.qat.start > 0) rc = add_program(t, false, false, &x, &w->graph, &w->program, &w->loss_output, e);
    x.trace = NULL;
    if (!rc && t->val) rc = add_program(t, true, qat, &x, &t->eval_graph, &t->eval_program, &t->eval_loss_output, e);
    if (!rc && t->val && qat) rc = add_program(t, true, false, &x, &w->eval_graph, &w->eval_program, &w->eval_loss_output, e);
    return rc;
}

static float *slot(struct dan_trainer *t, const char *kind, const char *name, int64_t n, struct dan_err *e)
{
    struct dan_str full = {0};
    dan_str_printf(&full, "%s:%s", kind, name);
    int rc = dan_store_add(t->slots, dan_str_c(&full), &dan_dtype_f32, DAN_SHAPE(n), e);
    float *p = rc ? NULL : dan_store_find(t->slots, dan_str_c(&full))->data;
    dan_str_release(&full);
    return p;
}

static int add_param(struct dan_trainer *t, int32_t output, struct dan_err *e)
{
    struct slot_param *p = &t->param[t->n_params];
    struct dan_optim_span *s = &t->span[t->n_params];
    const char *name = t->graph->out_name[output] + strlen("grad:");
    const struct dan_tensor *w = dan_store_find(t->lm->store, name);
    if (!w) return dan_fail(e, DAN_EINVAL, "the weights have no tensor '%s'", name);
    const bool scale = dan_qat_is_param(name), input = scale && w->shape.n == 1;
    *p = (struct slot_param){.name = name, .output = output, .twin_output = t->twin.graph ? output_of(t->twin.graph, t->graph->out_name[output]) : -1};
    *s = (struct dan_optim_span){.w = w->data, .n = dan_shape_count(&w->shape), .decay = w->shape.n >= 2 && !scale,
                                 .rate = input ? t->o.qat.input_rate : scale ? t->o.qat.step_rate : 1};
    for (int k = 0; k < t->o.optim->n_slots; k++)
        if (!(s->slot[k] = slot(t, t->o.optim->slot[k], name, s->n, e))) return DAN_ENOMEM;
    if (t->o.accumulate > 1 && !(p->acc = slot(t, "sum", name, s->n, e))) return DAN_ENOMEM;
    if (t->o.ema > 0) {
        if (!(s->ema = slot(t, "ema", name, s->n, e))) return DAN_ENOMEM;
        memcpy(s->ema, s->w, sizeof *s->w * (size_t)s->n);
    }
    t->n_params++;
    return DAN_OK;
}

static int add_params(struct dan_trainer *t, struct dan_err *e)
{
    t->param = dan_calloc((size_t)t->graph->n_out, sizeof *t->param);
    t->span = dan_calloc((size_t)t->graph->n_out, sizeof *t->span);
    bool made = t->param && t->span;
    int rc = made ? dan_store_new(&t->slots, e) : dan_fail(e, DAN_ENOMEM, "not enough memory for %d parameters", t->graph->n_out);
    for (int32_t i = 0; i < t->graph->n_out && !rc; i++) {
        if (dan_str_starts(t->graph->out_name[i], "grad:")) rc = add_param(t, i, e);
    }
    uint64_t cpu = dan_cpu_features() & (t->o.cpu_mask ? t->o.cpu_mask : UINT64_MAX);
    return rc ? rc : dan_optim_plan_new(t->o.optim, t->span, t->n_params, cpu, &t->plan, e);
}

static int make_arrays(struct dan_trainer *t, struct dan_err *e)
{
    enum { ARRAYS = 8 };
    t->rows = t->o.batch * t->o.context;
    size_t n = ((size_t)t->rows + 15) & ~(size_t)15;
    t->ints = dan_calloc(n * ARRAYS, sizeof *t->ints);
    if (!t->ints) return dan_fail(e, DAN_ENOMEM, "not enough memory for batches of %lld rows", (long long)t->rows);
    struct dan_batch *b = &t->batch;
    int32_t **where[] = {&b->tokens, &b->targets, &b->pos, &b->start, &b->stop, &b->self, &b->reset};
    for (int i = 0; i < 7; i++) *where[i] = t->ints + n * (size_t)i;
    b->weights = (float *)(t->ints + n * 7);
    return DAN_OK;
}

int dan_trainer_new(struct dan_lm *lm, const struct dan_shards *train, const struct dan_shards *val, const struct dan_train_opts *o,
                    struct dan_pool *pool, struct dan_trainer **out, struct dan_err *e)
{
    struct dan_trainer *t = dan_calloc(1, sizeof *t);
    if (!t) return dan_fail(e, DAN_ENOMEM, "not enough memory for a trainer");
    *t = (struct dan_trainer){.lm = lm, .o = *o, .pool = pool, .train = train, .val = val};
    if (t->o.accumulate < 1) t->o.accumulate = 1;
    int rc = dan_batches_new(train, o->context, o->batch * t->o.accumulate, o->seed, &t->batches, e);
    if (!rc) rc = compile(t, e);
    if (!rc) rc = add_params(t, e);
    if (!rc) rc = make_arrays(t, e);
    if (rc) {
        dan_trainer_free(t);
        return rc;
    }
    *out = t;
    return DAN_OK;
}

void dan_trainer_free(struct dan_trainer *t)
{
    if (!t) return;
    dan_program_free(t->program);
    dan_program_free(t->eval_program);
    dan_graph_free(t->graph);
    dan_graph_free(t->eval_graph);
    dan_program_free(t->twin.program);
    dan_program_free(t->twin.eval_program);
    dan_graph_free(t->twin.graph);
    dan_graph_free(t->twin.eval_graph);
    dan_batches_free(t->batches);
    dan_store_free(t->slots);
    dan_free(t->param);
    dan_free(t->ints);
    dan_free(t->span);
    dan_optim_plan_release(&t->plan);
    dan_free(t);
}

const struct dan_graph *dan_trainer_graph(const struct dan_trainer *t) { return t->graph; }
const struct dan_program *dan_trainer_program(const struct dan_trainer *t) { return t->program; }
int64_t dan_trainer_done(const struct dan_trainer *t) { return t->step; }

static void add_up(struct dan_memory *m) { m->total = m->weights + m->gradients + m->optimiser + m->activations + m->data; }

/* Gradients are outputs of the program: they live in its planned memory, and are counted there once. */
static struct dan_memory account(const struct dan_graph *g, const struct dan_program *p, const struct dan_train_opts *o)
{
    struct dan_memory m = {0};
    for (int32_t i = 1; i < g->n; i++) {
        if (!dan_op_is(&g->node[i], "param")) continue;
        size_t bytes = dan_dtype_bytes(g->node[i].dtype, dan_shape_count(&g->node[i].shape));
        m.weights += bytes;
        m.gradients += bytes;
        m.optimiser += bytes * (size_t)(o->optim->n_slots + (o->accumulate > 1) + (o->ema > 0));
    }
    m.activations = dan_program_bytes(p);
    m.activations -= m.activations > m.gradients ? m.gradients : m.activations;
    m.data = (size_t)(o->batch * o->context) * 8 * sizeof(int32_t);
    add_up(&m);
    return m;
}

void dan_trainer_memory(const struct dan_trainer *t, struct dan_memory *out)
{
    *out = account(t->graph, t->program, &t->o);
    const struct dan_program *others[] = {t->eval_program, t->twin.program, t->twin.eval_program};
    for (int i = 0; i < 3; i++) out->activations += others[i] ? dan_program_bytes(others[i]) : 0;
    add_up(out);
}

static int add_activations(const struct dan_lm *lm, const struct dan_train_opts *o, const struct dan_exec_opts *x, bool eval, bool quantised,
                           struct dan_memory *out, struct dan_err *e)
{
    struct dan_graph *g = NULL;
    struct dan_program *p = NULL;
    int rc = build_graph(lm, o, eval, quantised, &g, e);
    if (!rc) rc = dan_compile(g, x, &p, e);
    if (!rc) out->activations += dan_program_bytes(p);
    if (!rc) add_up(out);
    dan_program_free(p);
    dan_graph_free(g);
    return rc;
}

int dan_train_memory(const struct dan_model *m, const struct dan_lm_config *cfg, const struct dan_train_opts *o, struct dan_memory *out,
                     struct dan_err *e)
{
    struct dan_lm lm = {.model = m, .cfg = *cfg};
    struct dan_graph *g = NULL;
    struct dan_program *p = NULL;
    const bool qat = dan_qat_on(&o->qat);
    struct dan_exec_opts plan_only = {.plan_only = true, .plan_threads = o->threads, .ref = o->ref, .cpu_mask = o->cpu_mask};
    struct dan_train_opts quiet = *o;
    quiet.pass.dump = NULL;                    /* the trainer that follows dumps and tells */
    quiet.pass.note = NULL;
    int rc = build_graph(&lm, &quiet, false, qat, &g, e);
    if (!rc) rc = dan_compile(g, &plan_only, &p, e);
    if (!rc) *out = account(g, p, o);
    dan_program_free(p);
    dan_graph_free(g);
    if (!rc) rc = add_activations(&lm, &quiet, &plan_only, true, qat, out, e);
    if (!rc && qat) rc = add_activations(&lm, &quiet, &plan_only, true, false, out, e);
    if (!rc && qat && o->qat.start > 0) rc = add_activations(&lm, &quiet, &plan_only, false, false, out, e);
    return rc;
}
