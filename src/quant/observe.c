#include "quant/observe.h"
#include <string.h>
#include "base/mem.h"
#include "exec/exec.h"

enum { DEFAULT_ROWS = 1024, N_ARRAYS = 6 };
enum { DEFAULT_BYTES = 512 << 20 };
/* The head and its loss in one, so that logits take no memory; no other rule, so that products keep their names. */
#define PIPELINE "fuse_head_ce,dce"
#define FUSION "head_ce"

static bool is_product(const struct dan_graph *g, const struct dan_node *n)
{
    bool matmul = dan_op_is(n, "matmul") && n->attr[DAN_MATMUL_TB].i && !n->attr[DAN_MATMUL_TA].i;
    return (matmul || dan_op_is(n, "head_ce")) && dan_op_is(&g->node[n->in[1]], "param");
}

/* The node, and its part, that makes the elements of r: through what only reshapes.  0: r is a leaf, or a view that picks elements. */
static dan_ref maker(const struct dan_graph *g, dan_ref r, int *part)
{
    const struct dan_node *n = &g->node[r];
    *part = 0;
    while (dan_op_is(n, "merge_dims") || dan_op_is(n, "split_dim")) n = &g->node[r = n->in[0]];
    if (dan_op_is(n, "pick")) {
        *part = (int)n->attr[DAN_PICK_INDEX].i;
        n = &g->node[r = n->in[0]];
    }
    return n->op->props & (DAN_OP_VIEW | DAN_OP_LEAF) ? 0 : r;
}

struct input { dan_ref node; int32_t part, pass; int64_t k; float *x; int64_t rows; };   /* rows that products read */

struct observe {
    const struct dan_lm *lm;
    const struct dan_sequences *text;
    struct dan_observe_opts o;
    struct dan_graph *graph;
    struct dan_program *program;
    struct dan_product *product;
    size_t n_products;
    struct input *input;
    int32_t n_inputs, n_passes, pass;
    dan_ref last;                              /* node of the trace, and the part that comes */
    int32_t part;
    int32_t *array[N_ARRAYS];
    float *weights;
    int64_t max_rows, rows, done, total;
    struct dan_observed seen;
};

static int build(struct observe *v, int64_t rows, struct dan_err *e)
{
    if (v->lm->model->time_major)
        return dan_fail(e, DAN_EUNSUPPORTED, "the products of a '%s' lie inside a loop and cannot be observed; use a method without calibration",
                        v->lm->model->name);
    struct dan_io io = {.max_rows = rows, .loss = true};
    struct dan_pass_opts p = {.fusion = FUSION};
    return dan_lm_graph(v->lm, &io, PIPELINE, &p, &v->graph, e);
}

static int32_t input_of(struct observe *v, dan_ref node, int part, int64_t k)
{
    int32_t i = 0;
    while (i < v->n_inputs && (v->input[i].node != node || v->input[i].part != part)) i++;
    if (i == v->n_inputs) v->input[v->n_inputs++] = (struct input){.node = node, .part = part, .k = k};
    return i;
}

static int add_product(struct observe *v, const struct dan_node *n, struct dan_err *e)
{
    const struct dan_node *w = &v->graph->node[n->in[1]];
    int part;
    dan_ref from = maker(v->graph, n->in[0], &part);
    if (!from) return dan_fail(e, DAN_EUNSUPPORTED, "the rows that '%s' multiplies are part of others and cannot be observed", w->name);
    int32_t before = v->n_inputs, input = input_of(v, from, part, w->shape.d[1]);
    v->product[v->n_products++] = (struct dan_product){.name = w->name, .n = w->shape.d[0], .k = w->shape.d[1], .layer = n->layer,
                                                       .input = input, .first = input == before, .head = n->layer < 0};
    return DAN_OK;
}

static int find_products(struct observe *v, struct dan_err *e)
{
    const struct dan_graph *g = v->graph;
    v->product = dan_calloc((size_t)g->n, sizeof *v->product);
    v->input = dan_calloc((size_t)g->n, sizeof *v->input);
    if (!v->product || !v->input) return dan_fail(e, DAN_ENOMEM, "not enough memory for the list of products");
    int rc = DAN_OK;
    for (int32_t i = 1; i < g->n && !rc; i++)
        if (is_product(g, &g->node[i])) rc = add_product(v, &g->node[i], e);
    return rc;
}

/* Inputs whose rows fit in o.bytes together are kept in one pass. */
static int plan(struct observe *v, struct dan_err *e)
{
    size_t used = 0;
    bool any = false;
    for (int32_t i = 0; i < v->n_inputs; i++) v->input[i].pass = -1;
    for (size_t i = 0; i < v->n_products && v->o.see; i++) {
        struct input *in = &v->input[v->product[i].input];
        size_t bytes = (size_t)v->max_rows * (size_t)in->k * sizeof(float);
        if (in->pass >= 0 || (v->o.wants && !v->o.wants(v->o.ctx, &v->product[i]))) continue;
        if (any && used + bytes > v->o.bytes) {
            v->n_passes++;
            used = 0;
        }
        in->pass = v->n_passes;
        in->x = dan_malloc(bytes);
        if (!in->x) return dan_fail(e, DAN_ENOMEM, "not enough memory to keep %lld rows of what '%s' reads; calibrate with shorter sequences",
                                    (long long)v->max_rows, v->product[i].name);
        used += bytes;
        any = true;
    }
    v->n_passes++;
    return DAN_OK;
}

static void keep(struct input *in, const struct dan_tensor *t)
{
    int64_t cols = dan_cols(t), rows = dan_rows(t);
    for (int64_t r = 0; r < rows; r++) t->dtype->to_f32(dan_row(t, r), in->x + r * cols, cols);
    in->rows = rows * cols / in->k;
}

/* Called part after part of every node. */
static void on_node(void *ctx, const struct dan_graph *g, dan_ref r, const char *kernel, const struct dan_tensor *out)
{
    struct observe *v = ctx;
    (void)g, (void)kernel;
    v->part = r == v->last ? v->part + 1 : 0;
    v->last = r;
    for (int32_t i = 0; i < v->n_inputs; i++)
        if (v->input[i].node == r && v->input[i].part == v->part && v->input[i].pass == v->pass) keep(&v->input[i], out);
}

static int bind_weights(struct observe *v, struct dan_err *e)
{
    int rc = DAN_OK;
    for (int32_t i = 1; i < v->graph->n && !rc; i++) {
        const struct dan_node *n = &v->graph->node[i];
        if (!dan_op_is(n, "param")) continue;
        const struct dan_tensor *t = dan_store_find(v->lm->store, n->name);
        rc = t ? dan_bind(v->program, n->name, t, e) : dan_fail(e, DAN_EFORMAT, "the weights have no tensor '%s'", n->name);
    }
    return rc;
}

static int open_program(struct observe *v, struct dan_err *e)
{
    struct dan_exec_opts x = {.pool = v->o.pool, .trace = on_node, .trace_ctx = v};
    int rc = dan_compile(v->graph, &x, &v->program, e);
    if (!rc) rc = bind_weights(v, e);
    if (rc) return rc;
    size_t n = ((size_t)v->max_rows + 15) & ~(size_t)15;
    int32_t *memory = dan_calloc(n * (N_ARRAYS + 1), sizeof *memory);
    if (!memory) return dan_fail(e, DAN_ENOMEM, "not enough memory for runs of %lld rows", (long long)v->max_rows);
    for (int i = 0; i < N_ARRAYS; i++) v->array[i] = memory + n * (size_t)i;
    v->weights = (float *)(memory + n * N_ARRAYS);
    return DAN_OK;
}

enum { TOKENS, TARGETS, POS, START, STOP, SELF };
static const char *const array_name[N_ARRAYS] = {"tokens", "targets", "pos", "start", "stop", "self"};

static void put_sequence(struct observe *v, const int32_t *ids, int64_t n)
{
    int64_t start = v->rows;
    for (int64_t i = 0; i < n; i++) {
        int64_t r = v->rows++;
        v->array[TOKENS][r] = ids[i];
        v->array[TARGETS][r] = i + 1 < n ? ids[i + 1] : -1;
        v->array[POS][r] = (int32_t)i;
        v->array[START][r] = (int32_t)start;
        v->array[STOP][r] = (int32_t)(start + n);
        v->array[SELF][r] = (int32_t)r;
    }
}

static int bind_rows(struct observe *v, struct dan_err *e)
{
    struct dan_tensor w = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(v->rows), v->weights);
    int rc = dan_bind(v->program, "weights", &w, e);
    for (int i = 0; i < N_ARRAYS && !rc; i++) {
        struct dan_tensor t = dan_tensor_of(&dan_dtype_i32, DAN_SHAPE(v->rows), v->array[i]);
        if (dan_leaf(v->graph, array_name[i])) rc = dan_bind(v->program, array_name[i], &t, e);
    }
    return rc;
}

static int show(struct observe *v, struct dan_err *e)
{
    int rc = DAN_OK;
    for (size_t i = 0; i < v->n_products && v->o.see && !rc; i++) {
        const struct dan_product *p = &v->product[i];
        const struct input *in = &v->input[p->input];
        if (in->pass == v->pass && (!v->o.wants || v->o.wants(v->o.ctx, p))) rc = v->o.see(v->o.ctx, p, in->x, in->rows, e);
    }
    return rc;
}

static void add_losses(struct observe *v)
{
    const float *loss = dan_result_named(v->program, "row_loss")->data;
    for (int64_t r = 0; r < v->rows; r++) {
        if (v->array[TARGETS][r] < 0) continue;
        v->seen.nats += (double)loss[r];
        v->seen.targets++;
    }
    v->seen.rows += v->rows;
}

static int run_batch(struct observe *v, struct dan_err *e)
{
    int rc = bind_rows(v, e);
    for (v->pass = 0; v->pass < v->n_passes && !rc; v->pass++) {
        v->last = 0;
        rc = dan_run(v->program, e);
        if (!rc && v->pass == 0) add_losses(v);
        if (!rc) rc = show(v, e);
    }
    v->done += v->rows;
    v->rows = 0;
    if (!rc && v->o.progress && !v->o.progress(v->o.ctx, v->done, v->total)) rc = dan_fail(e, DAN_ECANCELLED, "interrupted");
    return rc;
}

static int run_all(struct observe *v, struct dan_err *e)
{
    int rc = DAN_OK;
    for (int64_t i = 0; i < v->text->n && !rc; i++) {
        int64_t at = v->text->start[i], n = v->text->start[i + 1] - at;
        if (v->rows + n > v->max_rows) rc = run_batch(v, e);
        if (!rc) put_sequence(v, v->text->ids + at, n);
    }
    return rc ? rc : run_batch(v, e);
}

static int check_ids(const struct observe *v, int64_t from, int64_t to, struct dan_err *e)
{
    for (int64_t k = from; k < to; k++)
        if (v->text->ids[k] < 0 || v->text->ids[k] >= v->lm->cfg.vocab)
            return dan_fail(e, DAN_EINVAL, "token %d is not in the model's vocabulary of %lld; do tokenizer and model belong together?",
                            v->text->ids[k], (long long)v->lm->cfg.vocab);
    return DAN_OK;
}

static int check_text(struct observe *v, struct dan_err *e)
{
    int64_t longest = 0, most = dan_lm_longest(&v->lm->cfg);
    if (v->text->n < 1) return dan_fail(e, DAN_EINVAL, "the calibration text has no sequences; give more text");
    for (int64_t i = 0; i < v->text->n; i++) {
        int64_t from = v->text->start[i], to = v->text->start[i + 1];
        if (to - from < 1 || to - from > most)
            return dan_fail(e, DAN_EINVAL, "calibration sequence %lld has %lld tokens; this model takes 1 to %lld", (long long)i,
                            (long long)(to - from), (long long)most);
        int rc = check_ids(v, from, to, e);
        if (rc) return rc;
        if (to - from > longest) longest = to - from;
        v->total += to - from;
    }
    if (v->o.rows < 1) v->o.rows = DEFAULT_ROWS;
    if (v->o.bytes < 1) v->o.bytes = DEFAULT_BYTES;
    v->max_rows = v->o.rows < v->total ? v->o.rows : v->total;
    if (v->max_rows < longest) v->max_rows = longest;
    return DAN_OK;
}

static void release(struct observe *v)
{
    for (int32_t i = 0; i < v->n_inputs; i++) dan_free(v->input[i].x);
    dan_program_free(v->program);
    dan_graph_free(v->graph);
    dan_free(v->product);
    dan_free(v->input);
    dan_free(v->array[0]);
}

int dan_observe(const struct dan_lm *lm, const struct dan_sequences *text, const struct dan_observe_opts *o, struct dan_observed *out,
                struct dan_err *e)
{
    struct observe v = {.lm = lm, .text = text};
    if (o) v.o = *o;
    int rc = check_text(&v, e);
    if (!rc) rc = build(&v, v.max_rows, e);
    if (!rc) rc = find_products(&v, e);
    if (!rc) rc = plan(&v, e);
    if (!rc) rc = open_program(&v, e);
    if (!rc) rc = run_all(&v, e);
    if (!rc && out) *out = v.seen;
    release(&v);
    return rc;
}

int dan_products_new(const struct dan_lm *lm, struct dan_products *out, struct dan_err *e)
{
    struct observe v = {.lm = lm};
    int rc = build(&v, 1, e);
    if (!rc) rc = find_products(&v, e);
    *out = (struct dan_products){0};
    if (!rc) {
        *out = (struct dan_products){v.product, v.n_products, v.n_inputs, v.graph};
        v.product = NULL;
        v.graph = NULL;
        v.n_inputs = 0;
    }
    release(&v);
    return rc;
}

void dan_products_release(struct dan_products *p)
{
    dan_free(p->v);
    dan_graph_free(p->graph);
    *p = (struct dan_products){0};
}
