/* Products of plain matrices through the executor. */
#include "base/mem.h"
#include "exec/exec.h"
#include "op/ops.h"
#include "quant/rounding.h"

struct dan_dense { struct dan_graph *graph; struct dan_program *program; int64_t k; bool square; };

static int build(struct dan_dense *p, int64_t max_rows, struct dan_pool *pool, struct dan_err *e)
{
    struct dan_builder b;
    p->graph = dan_graph_new();
    if (!p->graph) return dan_fail(e, DAN_ENOMEM, "not enough memory for a graph");
    dan_builder_init(&b, p->graph);
    dan_ref d = dan_input(&b, "d", &dan_dtype_f32, DAN_SHAPE(max_rows, p->k), 1);
    dan_ref h = p->square ? d : dan_input(&b, "h", &dan_dtype_f32, DAN_SHAPE(p->k, p->k), 0);
    dan_output(&b, "y", dan_matmul(&b, d, h, p->square, 0));
    int rc = dan_builder_check(&b, e);
    struct dan_exec_opts x = {.pool = pool};
    return rc ? rc : dan_compile(p->graph, &x, &p->program, e);
}

int dan_dense_new(int64_t max_rows, int64_t k, bool square, struct dan_pool *pool, struct dan_dense **out, struct dan_err *e)
{
    struct dan_dense *p = dan_calloc(1, sizeof *p);
    if (!p) return dan_fail(e, DAN_ENOMEM, "not enough memory for a product");
    p->k = k;
    p->square = square;
    int rc = build(p, max_rows, pool, e);
    if (rc) dan_dense_free(p);
    else *out = p;
    return rc;
}

void dan_dense_free(struct dan_dense *p)
{
    if (!p) return;
    dan_program_free(p->program);
    dan_graph_free(p->graph);
    dan_free(p);
}

int dan_dense_run(struct dan_dense *p, const float *d, int64_t rows, const float *h, const float **y, struct dan_err *e)
{
    struct dan_tensor t = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(rows, p->k), (void *)(uintptr_t)d);
    struct dan_tensor u = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(p->k, p->k), (void *)(uintptr_t)h);
    int rc = dan_bind(p->program, "d", &t, e);
    if (!rc && !p->square) rc = dan_bind(p->program, "h", &u, e);
    if (!rc) rc = dan_run(p->program, e);
    if (!rc) *y = dan_result(p->program, 0)->data;
    return rc;
}
