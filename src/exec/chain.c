/* Running a chain: every thread takes a few rows at a time through all ops of the body, each with the kernel that would
 * run it alone, and keeps what lies between in its part of the workspace.  Nothing is planned or allocated at run time:
 * every thread has its own arguments, of which only row pointers and counts move. */
#include <string.h>
#include "exec/program.h"
#include "op/chain.h"

/* Elements of a piece: with 4 KiB a value, some six values that are alive at once stay in a 32 KiB L1. */
enum { PIECE = 1024, MAX_IN = 4, NO_SLOT = -1 };
enum place { ROWS_IN, WHOLE_IN, OUT, SCRATCH };

/* A body value, or a copy of one in another storage format. */
struct value { struct dan_tensor t; enum place place; int index, slot, last; };        /* index: input or output; last: its last reader */

/* One kernel call; tensors show rows of a piece. */
struct micro {
    void (*run)(const struct dan_args *a);
    struct dan_args args;
    struct dan_tensor in[MAX_IN], out;
    int32_t in_value[MAX_IN], out_value;
    bool once;                                 /* reads nothing: computed before the first piece */
};

struct chain {
    struct value *value;
    struct micro *micro;                       /* [threads][n_micro] */
    int32_t n_values, n_micro, n_slots;
    int64_t piece;                             /* rows at a time */
    size_t  slot_bytes;
};

/* ---- compile ------------------------------------------------------------------------------- */

struct making {
    struct dan_program *p;
    struct step *s;
    const struct dan_graph *body;
    struct chain *c;
    int32_t *of;                               /* body node -> value; 0: none yet */
    bool    *live;
    bool     dbl;
};

static struct dan_tensor tile(const struct dan_dtype *t, int64_t rows, int64_t cols)
{
    return dan_tensor_of(t, DAN_SHAPE(rows, cols), NULL);
}

static int32_t new_value(struct making *m, struct dan_tensor t, enum place place, int index)
{
    m->c->value[m->c->n_values] = (struct value){.t = t, .place = place, .index = index, .slot = NO_SLOT};
    return m->c->n_values++;
}

/* Tensors of more than two dimensions with one row are seen as [1,C]. */
static struct dan_tensor whole(const struct dan_tensor *t)
{
    return t->shape.n <= 2 ? *t : tile(t->dtype, 1, t->shape.d[t->shape.n - 1]);
}

/* [.., C] as [rows, C]; *flat: all rows are equally far apart. */
static struct dan_tensor rows_of(const struct dan_tensor *t, bool *flat)
{
    int n = t->shape.n;
    struct dan_tensor r = *t;
    r.shape = DAN_SHAPE(dan_rows(t), t->shape.d[n - 1]);
    r.stride[0] = t->stride[n - 2];
    r.stride[1] = t->stride[n - 1];
    for (int i = n - 2; i > 0; i--) *flat = *flat && t->stride[i - 1] == t->stride[i] * t->shape.d[i];
    return r;
}

static struct micro *add_micro(struct making *m, int n_in, const int32_t *in, int32_t out, const union dan_attr *attr)
{
    struct micro *u = &m->c->micro[m->c->n_micro++];
    u->args = (struct dan_args){.attr = attr, .n_in = n_in, .n_out = 1, .nth = 1};
    for (int k = 0; k < n_in; k++) {
        u->in_value[k] = in[k];
        u->in[k] = m->c->value[in[k]].t;
        m->c->value[in[k]].last = m->c->n_micro - 1;
    }
    u->out_value = out;
    u->out = m->c->value[out].t;
    u->args.in = u->in;
    u->args.out = &u->out;
    return u;
}

static void add_copy(struct making *m, int32_t from, int32_t to)
{
    add_micro(m, 1, &from, to, NULL)->run = dan_copy_run(m->p);
}

static void add_inputs(struct making *m)
{
    for (int k = 0; k < m->s->args.n_in; k++) {
        const struct dan_tensor *t = &m->s->in[k];
        const struct dan_dtype *type = m->body->node[k + 1].dtype;
        bool per_row = dan_chain_per_row(&t->shape, &m->s->in[0].shape), flat = true;
        struct dan_tensor x = per_row ? rows_of(t, &flat) : whole(t);
        if (per_row) x.shape.d[0] = m->c->piece;
        int32_t v = new_value(m, x, per_row ? ROWS_IN : WHOLE_IN, k);
        m->of[k + 1] = v;
        if (t->dtype == type || !m->live[k + 1]) continue;
        m->of[k + 1] = new_value(m, dan_tensor_of(type, x.shape, NULL), SCRATCH, 0);
        add_copy(m, v, m->of[k + 1]);
    }
}

/* The output that node r may be computed into: f32 values stored as bf16 are copied there at the end. */
static int output_of(const struct making *m, dan_ref r)
{
    for (int k = 0; k < m->s->args.n_out; k++)
        if (m->body->out[k] == r && m->s->out[k].dtype == m->body->node[r].dtype) return k;
    return -1;
}

static void add_node(struct making *m, dan_ref r)
{
    const struct dan_node *n = &m->body->node[r];
    int32_t in[MAX_IN];
    int k = output_of(m, r), n_read = n->n_in - !!(n->op->props & DAN_OP_LIKE);
    struct dan_tensor t = tile(n->dtype, m->c->piece, n->shape.d[0]);
    bool flat = true;
    if (k >= 0) {
        t = rows_of(&m->s->out[k], &flat);
        t.shape.d[0] = m->c->piece;
    }
    m->of[r] = new_value(m, t, k >= 0 ? OUT : SCRATCH, k);
    for (int i = 0; i < n->n_in; i++) in[i] = m->of[n->in[i]];
    struct micro *u = add_micro(m, n->n_in, in, m->of[r], n->attr);
    const struct dan_kernel *kernel = m->dbl ? NULL : dan_best_kernel(m->p, n->op->name, &u->args, false);
    if (kernel && kernel->workspace) kernel = NULL;
    u->run = kernel ? kernel->run : m->dbl ? dan_op_f64(n->op)->ref : n->op->ref;
    u->once = n_read == 0 && k < 0;
}

static void add_outputs(struct making *m)
{
    for (int k = 0; k < m->s->args.n_out; k++) {
        int32_t v = m->of[m->body->out[k]];
        if (m->c->value[v].place == OUT && m->c->value[v].index == k) continue;
        bool flat = true;
        struct dan_tensor t = rows_of(&m->s->out[k], &flat);
        t.shape.d[0] = m->c->piece;
        add_copy(m, v, new_value(m, t, OUT, k));
    }
}

static void mark_live(struct making *m)
{
    for (int k = 0; k < m->body->n_out; k++) m->live[m->body->out[k]] = true;
    for (int32_t i = m->body->n - 1; i > 0; i--)
        for (int k = 0; m->live[i] && k < m->body->node[i].n_in - !!(m->body->node[i].op->props & DAN_OP_LIKE); k++)
            m->live[m->body->node[i].in[k]] = true;
}

/* A place for every scratch value: those whose last reader has run give theirs to later ones. */
static void give_slots(struct chain *c)
{
    for (int32_t i = 0; i < c->n_micro; i++) {
        struct value *v = &c->value[c->micro[i].out_value];
        if (v->place != SCRATCH) continue;
        bool taken[256] = {false};
        for (int32_t j = 0; j < i; j++) {
            const struct value *w = &c->value[c->micro[j].out_value];
            if (w->place == SCRATCH && (w->last >= i || c->micro[j].once || c->micro[i].once)) taken[w->slot & 255] = true;
        }
        for (v->slot = 0; v->slot < 255 && taken[v->slot]; v->slot++) continue;
        if (c->n_slots <= v->slot) c->n_slots = v->slot + 1;
    }
}

static int64_t widest(const struct dan_graph *body)
{
    int64_t d = 1;
    for (int32_t i = 1; i < body->n; i++) d = body->node[i].shape.d[0] > d ? body->node[i].shape.d[0] : d;
    return d;
}

static int check_body(const struct dan_graph *body, struct dan_err *e)
{
    for (int32_t i = 1; i < body->n; i++) {
        const struct dan_node *n = &body->node[i];
        bool ok = n->op->props & (DAN_OP_LEAF | DAN_OP_ELEMENTWISE | DAN_OP_RANDOM) || dan_op_is(n, "fill_like");
        if (!ok || n->n_in > MAX_IN || n->n_out != 1 || n->op->ref_ws || n->body)
            return dan_fail(e, DAN_EUNSUPPORTED, "op '%s' cannot run inside a chain: only pointwise ops can", n->op->name);
    }
    return body->n > 250 ? dan_fail(e, DAN_EUNSUPPORTED, "a chain of %d ops: use two of at most 250", body->n) : DAN_OK;
}

int dan_chain_compile(struct dan_program *p, struct step *s, int threads, struct dan_err *e)
{
    const struct dan_graph *body = p->g.node[s->node].body;
    int rc = check_body(body, e);
    if (rc) return rc;
    size_t n = (size_t)body->n * 2 + DAN_MAX_OUT;              /* every node, its copy, the outputs' copies */
    struct making m = {.p = p, .s = s, .body = body, .c = dan_arena_alloc(p->arena, sizeof *m.c)};
    m.of = dan_arena_alloc(p->arena, sizeof *m.of * (size_t)body->n);
    m.live = dan_arena_alloc(p->arena, sizeof *m.live * (size_t)body->n);
    if (m.c) {
        m.c->value = dan_arena_alloc(p->arena, sizeof *m.c->value * n);
        m.c->micro = dan_arena_alloc(p->arena, sizeof *m.c->micro * n * (size_t)threads);
    }
    if (!m.c || !m.of || !m.live || !m.c->value || !m.c->micro) return dan_fail(e, DAN_ENOMEM, "not enough memory to compile a chain");
    int64_t wide = widest(body);
    m.c->piece = wide < PIECE ? PIECE / wide : 1;
    m.dbl = s->out[0].dtype == &dan_dtype_f64;
    mark_live(&m);
    add_inputs(&m);
    for (int32_t i = s->args.n_in + 1; i < body->n; i++)
        if (m.live[i]) add_node(&m, i);
    add_outputs(&m);
    give_slots(m.c);
    m.c->slot_bytes = ((size_t)(m.c->piece * wide) * (m.dbl ? 8 : 4) + 127) & ~(size_t)63;
    for (int t = 1; t < threads; t++) memcpy(m.c->micro + t * m.c->n_micro, m.c->micro, sizeof *m.c->micro * (size_t)m.c->n_micro);
    for (int32_t i = 0; i < threads * m.c->n_micro; i++) {
        m.c->micro[i].args.in = m.c->micro[i].in;
        m.c->micro[i].args.out = &m.c->micro[i].out;
    }
    s->chain = m.c;
    return DAN_OK;
}

size_t dan_chain_bytes(const struct chain *c, int nth) { return c->slot_bytes * (size_t)c->n_slots * (size_t)nth; }

/* ---- run ----------------------------------------------------------------------------------- */

/* Points tensor t, which shows value v, at this run's memory. */
static void aim(const struct chain *c, const struct dan_args *a, char *scratch, int32_t v, struct dan_tensor *t, bool *flat)
{
    const struct value *x = &c->value[v];
    if (x->place == ROWS_IN) *t = rows_of(&a->in[x->index], flat);
    if (x->place == OUT) *t = rows_of(&a->out[x->index], flat);
    if (x->place == WHOLE_IN) {
        *t = whole(&a->in[x->index]);
        t->data = a->in[x->index].data;
    }
    if (x->place == SCRATCH) t->data = scratch + (size_t)x->slot * c->slot_bytes;
}

/* Rows [lo, lo + n) of everything that has rows. */
static void show_rows(const struct chain *c, const struct dan_args *a, int32_t v, struct dan_tensor *t, int64_t lo, int64_t n)
{
    const struct value *x = &c->value[v];
    if (x->place == WHOLE_IN || (x->place == SCRATCH && t->shape.n < 2)) return;
    t->shape.d[0] = n;
    if (x->place == ROWS_IN) t->data = dan_row(&a->in[x->index], lo);
    if (x->place == OUT) t->data = dan_row(&a->out[x->index], lo);
}

static void run_piece(const struct chain *c, struct micro *micro, const struct dan_args *a, int64_t lo, int64_t n)
{
    for (int32_t i = 0; i < c->n_micro; i++) {
        struct micro *u = &micro[i];
        for (int k = 0; k < u->args.n_in; k++) show_rows(c, a, u->in_value[k], &u->in[k], lo, n);
        if (u->once) continue;
        show_rows(c, a, u->out_value, &u->out, lo, n);
        u->args.row0 = lo;
        u->run(&u->args);
    }
}

void dan_chain_run(const struct chain *c, const struct dan_args *a)
{
    struct micro *micro = c->micro + a->ith * c->n_micro;
    char *scratch = (char *)a->ws + c->slot_bytes * (size_t)c->n_slots * (size_t)a->ith;
    int64_t lo, hi, piece = c->piece;
    bool flat = true;
    dan_share(a, dan_rows(&a->out[0]), 1, &lo, &hi);
    if (lo == hi) return;
    for (int32_t i = 0; i < c->n_micro; i++) {
        struct micro *u = &micro[i];
        for (int k = 0; k < u->args.n_in; k++) aim(c, a, scratch, u->in_value[k], &u->in[k], &flat);
        aim(c, a, scratch, u->out_value, &u->out, &flat);
        if (u->once) {
            u->out.shape.d[0] = c->piece;
            u->run(&u->args);
        }
    }
    if (!flat) piece = 1;
    for (; lo < hi; lo += piece) run_piece(c, micro, a, lo, hi - lo < piece ? hi - lo : piece);
}
