#include "infer/eval.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "exec/exec.h"
#include "infer/session.h"

enum { MAX_CONTEXT = 2048, ROWS = 2048, N_ARRAYS = 8 };

struct eval {
    struct dan_lm *lm;
    const struct dan_shards *text;
    struct dan_eval_opts o;
    struct dan_graph *graph;
    struct dan_program *program;
    struct dan_store *states;                  /* the cache */
    struct dan_batch b;
    int32_t *memory;
    double  nats;
    int64_t targets, total;
};

static int settle(const struct dan_lm *lm, struct dan_eval_opts *o, struct dan_err *e)
{
    bool recurrent = lm->model->time_major;
    if (o->context < 1) o->context = lm->cfg.context < MAX_CONTEXT ? lm->cfg.context : MAX_CONTEXT;
    if (!recurrent && o->context > dan_lm_longest(&lm->cfg))
        return dan_fail(e, DAN_EINVAL, "the model was made for %lld positions, windows of %lld were asked for; use --context %lld or less",
                        (long long)dan_lm_longest(&lm->cfg), (long long)o->context, (long long)dan_lm_longest(&lm->cfg));
    if (o->stride > 0 && recurrent)
        return dan_fail(e, DAN_EINVAL, "sliding windows need attention; leave out --stride for '%s'", lm->model->name);
    if (o->stride > o->context)
        return dan_fail(e, DAN_EINVAL, "a stride of %lld leaves gaps between windows of %lld; use a smaller one", (long long)o->stride,
                        (long long)o->context);
    if (o->batch < 1) o->batch = ROWS / o->context > 1 ? ROWS / o->context : 1;
    return DAN_OK;
}

static int bind_cache(struct eval *v, struct dan_err *e)
{
    int rc = dan_store_new(&v->states, e);
    for (int32_t i = 1; i < v->graph->n && !rc; i++) {
        const struct dan_node *n = &v->graph->node[i];
        if (!dan_op_is(n, "state")) continue;
        rc = dan_store_add(v->states, n->name, n->dtype, n->shape, e);
        if (!rc) rc = dan_bind(v->program, n->name, dan_store_find(v->states, n->name), e);
    }
    return rc;
}

static int open_program(struct eval *v, struct dan_err *e)
{
    int64_t rows = v->o.context * v->o.batch;
    const struct dan_dtype *cache = NULL;
    int rc = dan_kv_type_of(v->o.kv_type, &cache, e);
    if (rc) return rc;
    if (v->lm->model->time_major) cache = NULL;
    struct dan_io io = {.max_rows = rows, .cache_rows = cache ? rows : 0, .cache_type = cache, .lanes = v->lm->model->time_major ? v->o.batch : 0, .loss = true};
    struct dan_pass_opts p = {.prec = v->o.prec, .fusion = v->o.fusion};
    struct dan_exec_opts x = {.pool = v->o.pool, .ref = v->o.ref, .cpu_mask = v->o.cpu_mask, .pack = true, .trace = v->o.trace, .trace_ctx = v->o.trace_ctx};
    rc = dan_lm_graph(v->lm, &io, DAN_PIPELINE_EVAL, &p, &v->graph, e);
    if (!rc) rc = dan_compile(v->graph, &x, &v->program, e);
    if (!rc) rc = bind_cache(v, e);
    if (!rc) rc = dan_bind_store(v->program, v->lm->store, e);
    if (rc) return rc;
    size_t n = ((size_t)rows + 15) & ~(size_t)15;
    v->memory = dan_calloc(n * N_ARRAYS, sizeof *v->memory);
    if (!v->memory)
        return dan_fail(e, DAN_ENOMEM, "not enough memory for runs of %lld rows; use a smaller --batch or --context", (long long)rows);
    int32_t **where[] = {&v->b.tokens, &v->b.targets, &v->b.pos, &v->b.start, &v->b.stop, &v->b.self, &v->b.reset};
    for (int i = 0; i < 7; i++) *where[i] = v->memory + n * (size_t)i;
    v->b.weights = (float *)(v->memory + n * 7);
    return DAN_OK;
}

static int bind(struct eval *v, const char *name, void *data, const struct dan_dtype *type, struct dan_err *e)
{
    struct dan_tensor t = dan_tensor_of(type, DAN_SHAPE(v->b.rows), data);
    return dan_bind(v->program, name, &t, e);
}

static int bind_batch(struct eval *v, struct dan_err *e)
{
    const struct {
        const char *name;
        void *data;
    } packed[] = {{"pos", v->b.pos}, {"start", v->b.start}, {"stop", v->b.stop}, {"self", v->b.self}};
    int rc = bind(v, "tokens", v->b.tokens, &dan_dtype_i32, e);
    if (!rc) rc = bind(v, "targets", v->b.targets, &dan_dtype_i32, e);
    if (!rc) rc = bind(v, "weights", v->b.weights, &dan_dtype_f32, e);
    if (!rc && v->lm->model->time_major) return bind(v, "reset", v->b.reset, &dan_dtype_i32, e);
    for (int i = 0; i < 4 && !rc; i++) rc = bind(v, packed[i].name, packed[i].data, &dan_dtype_i32, e);
    return rc;
}

/* Runs the batch and adds its losses in double, row by row: the sum does not depend on the batch size. */
static int run(struct eval *v, struct dan_err *e)
{
    if (!v->b.rows) return DAN_OK;
    int rc = bind_batch(v, e);
    if (!rc) rc = dan_run(v->program, e);
    if (rc) return rc;
    const float *loss = dan_result_named(v->program, "row_loss")->data;
    for (int64_t i = 0; i < v->b.rows; i++) {
        if (v->b.targets[i] < 0) continue;
        v->nats += (double)loss[i];
        v->targets++;
    }
    if (v->o.progress && !v->o.progress(v->o.progress_ctx, v->targets, v->total)) return dan_fail(e, DAN_ECANCELLED, "interrupted");
    return DAN_OK;
}

static int eval_windows(struct eval *v, struct dan_err *e)
{
    enum dan_layout layout = v->lm->model->time_major ? DAN_TIME_MAJOR : DAN_PACKED;
    int64_t n = dan_eval_batches(v->text, v->o.context, v->o.batch);
    int rc = DAN_OK;
    for (int64_t i = 0; i < n && !rc; i++) {
        dan_eval_fill(v->text, v->o.context, v->o.batch, i, layout, &v->b);
        rc = run(v, e);
    }
    return rc;
}

/* Rows [from, to) of a document that begins at token doc; targets count from `fresh` on. */
static void put_window(struct eval *v, const struct dan_shard *s, int64_t doc, int64_t from, int64_t to, int64_t fresh)
{
    int64_t start = v->b.rows;
    for (int64_t i = from; i < to; i++) {
        int64_t r = v->b.rows++;
        v->b.tokens[r] = dan_shard_token(s, doc + i);
        v->b.targets[r] = i >= fresh ? dan_shard_token(s, doc + i + 1) : -1;
        v->b.pos[r] = (int32_t)(i - from);
        v->b.start[r] = (int32_t)start;
        v->b.stop[r] = (int32_t)(start + to - from);
        v->b.self[r] = (int32_t)r;
    }
}

static int eval_document(struct eval *v, const struct dan_shard *s, int64_t doc, int64_t n, struct dan_err *e)
{
    for (int64_t fresh = 0; fresh < n - 1;) {
        int64_t to = fresh ? fresh + v->o.stride : v->o.context;
        if (to > n - 1) to = n - 1;
        int64_t from = to > v->o.context ? to - v->o.context : 0;
        if (v->b.rows + to - from > v->o.context * v->o.batch) {
            int rc = run(v, e);
            if (rc) return rc;
            v->b.rows = 0;
        }
        put_window(v, s, doc, from, to, fresh);
        fresh = to;
    }
    return DAN_OK;
}

static int eval_sliding(struct eval *v, struct dan_err *e)
{
    int rc = DAN_OK;
    for (size_t i = 0; i < dan_shards_count(v->text) && !rc; i++) {
        const struct dan_shard *s = dan_shards_at(v->text, i);
        for (int64_t d = 0; d < s->n_docs && !rc; d++) {
            int64_t end = d + 1 < s->n_docs ? (int64_t)s->doc[d + 1] : s->n;
            rc = eval_document(v, s, (int64_t)s->doc[d], end - (int64_t)s->doc[d], e);
        }
    }
    return rc ? rc : run(v, e);
}

static int conclude(const struct eval *v, struct dan_eval_result *out, struct dan_err *e)
{
    if (v->targets == 0) return dan_fail(e, DAN_EINVAL, "the text has no token to predict; give more text");
    double loss = v->nats / (double)v->targets;
    *out = (struct dan_eval_result){.nats = v->nats, .loss = loss, .perplexity = exp(loss), .tokens = v->targets, .context = v->o.context};
    if (v->o.stride > 0)
        snprintf(out->protocol, sizeof out->protocol, "sliding windows of %lld tokens, stride %lld, within documents",
                 (long long)v->o.context, (long long)v->o.stride);
    else
        snprintf(out->protocol, sizeof out->protocol, "non-overlapping windows of %lld tokens; documents do not see each other",
                 (long long)v->o.context);
    return DAN_OK;
}

int dan_eval(struct dan_lm *lm, const struct dan_shards *text, const struct dan_eval_opts *o, struct dan_eval_result *out,
             struct dan_err *e)
{
    struct eval v = {.lm = lm, .text = text, .total = dan_shards_tokens(text) - dan_shards_docs(text)};
    if (o) v.o = *o;
    int rc = settle(lm, &v.o, e);
    if (!rc) rc = open_program(&v, e);
    if (!rc) rc = v.o.stride > 0 ? eval_sliding(&v, e) : eval_windows(&v, e);
    if (!rc) rc = conclude(&v, out, e);
    dan_program_free(v.program);
    dan_graph_free(v.graph);
    dan_store_free(v.states);
    dan_free(v.memory);
    return rc;
}
