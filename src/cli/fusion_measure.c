/* Both programs over the same weights and the same input, by turns; every node's least time over the runs, so that other
 * work on the machine raises neither. */
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "base/sys.h"
#include "cli/fusion_report.h"
#include "exec/exec.h"

enum { RUNS = 25 };
static const double BUDGET = 8;                /* seconds for all runs */

struct side { struct dan_program *p; struct dan_profile_row *row, *last; size_t n; };
struct bench { struct fusion_report *r; struct side side[2]; struct dan_store *states; };

/* Row i of sequences as long as the context; every input the same for both programs. */
static int32_t value_of(const struct fusion_report *r, const char *name, int64_t i)
{
    int64_t c = r->m.context, at = i % c, end = i - at + c < r->o.rows ? i - at + c : r->o.rows;
    if (!strcmp(name, "tokens") || !strcmp(name, "targets")) return (int32_t)((i * 7919 + 13) % r->m.vocab);
    if (!strcmp(name, "pos")) return (int32_t)(r->m.first_pos + at);
    if (!strcmp(name, "start")) return (int32_t)(i - at);
    if (!strcmp(name, "stop")) return (int32_t)(r->m.causal ? i + 1 : end);
    if (!strcmp(name, "self")) return (int32_t)i;
    if (!strcmp(name, "reset")) return r->m.timed && i == 0;
    return 0;                                  /* select, hold, lane, seed, type */
}

static int bind_inputs(struct bench *b, struct dan_program *p, const struct dan_graph *g, struct dan_err *e)
{
    int rc = DAN_OK;
    for (int32_t i = 1; i < g->n && !rc; i++) {
        const struct dan_node *n = &g->node[i];
        if (!dan_op_is(n, "input")) continue;
        int64_t rows = dan_shape_count(&n->shape);
        bool real = n->dtype == &dan_dtype_f32;
        void *data = dan_arena_alloc(b->r->cli->arena, sizeof(int32_t) * (size_t)(rows + 1));
        if (!data) return dan_fail(e, DAN_ENOMEM, "not enough memory for the input '%s'", n->name);
        for (int64_t k = 0; k < rows; k++) {
            if (real) ((float *)data)[k] = 1 / (float)rows;
            else ((int32_t *)data)[k] = value_of(b->r, n->name, k);
        }
        struct dan_tensor t = dan_tensor_of(n->dtype, n->shape, data);
        rc = dan_bind(p, n->name, &t, e);
    }
    return rc;
}

static int bind_states(struct bench *b, struct dan_program *p, const struct dan_graph *g, struct dan_err *e)
{
    int rc = DAN_OK;
    for (int32_t i = 1; i < g->n && !rc; i++) {
        const struct dan_node *n = &g->node[i];
        if (!dan_op_is(n, "state")) continue;
        if (!dan_store_find(b->states, n->name)) rc = dan_store_add(b->states, n->name, n->dtype, n->shape, e);
        if (!rc) rc = dan_bind(p, n->name, dan_store_find(b->states, n->name), e);
    }
    return rc;
}

static int open_side(struct bench *b, int k, struct dan_pool *pool, struct dan_err *e)
{
    struct side *s = &b->side[k];
    const struct dan_graph *g = b->r->g[k];
    size_t n = (size_t)g->n;
    struct dan_exec_opts o = {.pool = pool, .profile = true, .cpu_mask = dan_isa_mask(b->r->cli->isa)};
    int rc = dan_compile(g, &o, &s->p, e);
    if (!rc) rc = bind_states(b, s->p, g, e);
    if (!rc) rc = dan_bind_store(s->p, b->r->m.store, e);
    if (!rc) rc = bind_inputs(b, s->p, g, e);
    s->row = dan_calloc(n, sizeof *s->row);
    s->last = dan_calloc(n, sizeof *s->last);
    if (!rc && (!s->row || !s->last)) rc = dan_fail(e, DAN_ENOMEM, "not enough memory for the times of %d nodes", g->n);
    return rc;
}

/* One run; a node's time is what its row grew by. */
static int run_side(struct bench *b, int k, bool first, struct dan_err *e)
{
    struct side *s = &b->side[k];
    int rc = dan_run(s->p, e);
    if (rc) return rc;
    s->n = dan_program_profile(s->p, s->row, (size_t)b->r->g[k]->n);
    for (size_t i = 0; i < s->n && i < (size_t)b->r->g[k]->n; i++) {
        dan_ref node = s->row[i].node;
        double t = s->row[i].seconds - s->last[i].seconds, *least = &b->r->seconds[k][node];
        if (!first && (*least == 0 || t < *least)) *least = t;
        b->r->kernel[k][node] = s->row[i].kernel;
        s->last[i] = s->row[i];
    }
    return DAN_OK;
}

int fusion_measure(struct fusion_report *r, struct dan_pool *pool, struct dan_err *e)
{
    struct bench b = {.r = r};
    double until = dan_now() + BUDGET;
    int rc = dan_store_new(&b.states, e);
    for (int k = 1; k >= 0 && !rc; k--) rc = open_side(&b, k, pool, e);            /* what joins most is bound first */
    for (int i = 0; i < RUNS + 1 && !rc && (i < 4 || dan_now() < until); i++)
        for (int k = 0; k < 2 && !rc; k++) rc = run_side(&b, (k + i) % 2, i == 0, e);        /* each goes first as often */
    for (int k = 0; k < 2; k++) {
        dan_program_free(b.side[k].p);
        dan_free(b.side[k].row);
        dan_free(b.side[k].last);
    }
    dan_store_free(b.states);
    return rc;
}
