/* Every kernel of the table that this CPU can run, on every sample of its op: against the op's
 * reference (within the kernel's own promise), with red zones around outputs and workspace, inputs
 * left alone, the same bits from 1, 2, 3 and 7 threads, when
 * writing in place and from operands packed before.  Weights and caches
 * are also tried in every storage format that op and kernel take.  Names no kernel and no op. */
#include "sample.h"
#include "base/sys.h"
#include "base/threads.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)      /* ten times slower: one share and an odd number of shares */
enum { RED = 256, N_POOLS = 2 };
static const int pool_size[N_POOLS] = {1, 3};
#else
enum { RED = 256, N_POOLS = 4 };
static const int pool_size[N_POOLS] = {1, 2, 3, 7};
#endif
static struct dan_pool *pools[N_POOLS];
static int n_failed, n_runs;
static char *exercised;                        /* by kernel */
static uint64_t cpu;                           /* asked once: cpuid costs tens of microseconds on a virtual machine */

static void mark(const struct dan_kernel *kernel)
{
    for (int k = 0; dan_kernels[k]; k++)
        if (dan_kernels[k] == kernel) exercised[k] = 1;
}

/* ---- buffers with red zones ------------------------------------------------------------------ */

struct fenced { void *memory; char *base; size_t n; };

static struct fenced fenced_new(size_t n, int fill)
{
    struct fenced f = {dan_malloc(n + 2 * RED + 64), NULL, n};
    assert_non_null(f.memory);
    f.base = (char *)(((uintptr_t)f.memory + 63) / 64 * 64);
    memset(f.base, 0xA5, n + 2 * RED);
    memset(f.base + RED, fill, n);
    return f;
}

static void *fenced_data(const struct fenced *f) { return f->base + RED; }
static void fenced_free(struct fenced *f) { dan_free(f->memory); }

static bool fence_holds(const struct fenced *f)
{
    for (int i = 0; i < RED; i++)
        if ((unsigned char)f->base[i] != 0xA5 || (unsigned char)f->base[RED + f->n + (size_t)i] != 0xA5) return false;
    return true;
}

/* ---- the values of a sample's graph, by reference -------------------------------------------- */

/* One node: its outputs, and the memory behind them (n_own = 0 for views). */
struct value { struct dan_tensor out[DAN_MAX_OUT]; void *own[DAN_MAX_OUT]; };

struct job { void (*run)(const struct dan_args *a); struct dan_args a; };
static void job_thread(void *ctx, int ith, int nth)
{
    const struct job *j = ctx;
    struct dan_args a = j->a;
    a.ith = ith;
    a.nth = nth;
    j->run(&a);
}

static void run_ref(const struct dan_node *n, struct dan_args *a)
{
    struct job j = {n->op->ref, *a};
    size_t ws = n->op->ref_ws ? n->op->ref_ws(a, 1) : 0;
    void *p = room(ws);
    j.a.ws = p;
    job_thread(&j, 0, 1);
    dan_free(p);
}

static void inputs_of(const struct dan_graph *g, const struct dan_node *n, const struct value *v, struct dan_tensor *in)
{
    memset(in, 0, sizeof *in * (size_t)n->n_in);
    for (int k = 0; k < n->n_in; k++) {
        if (!n->in[k]) continue;
        const struct dan_node *m = dan_at(g, n->in[k]);
        in[k] = dan_op_is(m, "pick") ? v[m->in[0]].out[m->attr[DAN_PICK_INDEX].i] : v[n->in[k]].out[0];
    }
}

static void declare_outputs(const struct dan_node *n, struct value *v)
{
    for (int k = 0; k < n->n_out; k++)
        v->out[k] = n->n_out > 1 ? dan_tensor_of(n->part[k].dtype, n->part[k].shape, NULL) : dan_tensor_of(n->dtype, n->shape, NULL);
}

/* False for what only the executor can do (scan). */
static bool evaluate_node(const struct dan_graph *g, dan_ref r, struct value *v)
{
    const struct dan_node *n = dan_at(g, r);
    struct dan_tensor in[64];
    assert_true(n->n_in <= 64);
    inputs_of(g, n, v, in);
    declare_outputs(n, &v[r]);
    struct dan_args a = {.in = in, .out = v[r].out, .attr = n->attr, .n_in = n->n_in, .n_out = n->n_out, .nth = 1};
    if (dan_op_is(n, "pick")) return true;
    if (n->op->props & DAN_OP_VIEW) {
        n->op->view(&a, v[r].out);
        return true;
    }
    if (!n->op->ref) return false;
    for (int k = 0; k < n->n_out; k++) v[r].out[k].data = v[r].own[k] = room(dan_tensor_bytes(&v[r].out[k]));
    if (n->op->props & DAN_OP_STATE) {
        memcpy(v[r].own[0], in[0].data, dan_tensor_bytes(&in[0]));
        in[0] = v[r].out[0];
    }
    run_ref(n, &a);
    return true;
}

static bool evaluate(const struct fixture *f, struct value *v)
{
    for (int k = 0; k < f->n_leaves; k++) v[f->leaf[k].ref].out[0] = f->leaf[k].t;
    for (dan_ref r = 1; r < f->g->n; r++)
        if (!(dan_at(f->g, r)->op->props & DAN_OP_LEAF) && !evaluate_node(f->g, r, v)) return false;
    return true;
}

static void values_free(struct value *v, int n)
{
    for (int r = 0; r < n; r++)
        for (int k = 0; k < DAN_MAX_OUT; k++) dan_free(v[r].own[k]);
    dan_free(v);
}

/* ---- one kernel on one node ------------------------------------------------------------------ */

struct trial {
    const struct fixture *f;
    const struct dan_kernel *kernel;
    const struct dan_node *n;
    const struct value *want;
    struct dan_tensor in[64];
    const struct dan_tensor *made;             /* outputs as the kernel is to store them: want's, or some as bf16 */
    struct fenced out[DAN_MAX_OUT];
    const char *note;                          /* storage format under test, "" */
    const void *packed;                        /* in[1] as the kernel laid it out, or NULL */
};

static void fault(const struct trial *t, const char *what, int nth)
{
    n_failed++;
    print_error("%s: %s, %s case %d, %d rows%s%s, %d threads\n", t->kernel->name, what, dan_ops[t->f->op]->name, t->f->i,
                (int)t->f->s.rows, t->note[0] ? ", weights " : "", t->note, nth);
}

/* accepts() sees shapes and strides of inputs, but no data. */
static bool accepted(const struct trial *t)
{
    struct dan_tensor in[64], out[DAN_MAX_OUT];
    memcpy(in, t->in, sizeof in);
    memcpy(out, t->made, sizeof out);
    for (int k = 0; k < t->n->n_in; k++) in[k].data = NULL;
    for (int k = 0; k < t->n->n_out; k++) out[k].data = NULL;
    struct dan_args a = {.in = in, .out = out, .attr = t->n->attr, .n_in = t->n->n_in, .n_out = t->n->n_out, .nth = 1};
    return !t->kernel->accepts || t->kernel->accepts(&a);
}

/* Runs into fresh fenced outputs; in_place: output 0 starts as a copy of input 0 and is it. */
static void run_kernel(struct trial *t, int pool, bool in_place)
{
    struct dan_tensor in[64], out[DAN_MAX_OUT];
    memcpy(in, t->in, sizeof in);
    for (int k = 0; k < t->n->n_out; k++) {
        out[k] = dan_tensor_of(t->made[k].dtype, t->made[k].shape, NULL);
        t->out[k] = fenced_new(dan_tensor_bytes(&out[k]), 0xFF);      /* 0xFF..: not a number */
        out[k].data = fenced_data(&t->out[k]);
    }
    if (in_place) {
        memcpy(out[0].data, in[0].data, dan_tensor_bytes(&in[0]));
        in[0] = out[0];
    }
    struct job j = {t->kernel->run, {.in = in, .out = out, .attr = t->n->attr, .pool = pools[pool],
                                     .n_in = t->n->n_in, .n_out = t->n->n_out}};
    struct fenced ws = fenced_new(t->kernel->workspace ? t->kernel->workspace(&j.a, pool_size[pool]) : 0, 0xFF);
    j.a.ws = fenced_data(&ws);
    j.a.packed = t->packed;
    dan_pool_run(pools[pool], job_thread, &j);
    n_runs++;
    if (!fence_holds(&ws)) fault(t, "wrote outside of its workspace", pool_size[pool]);
    for (int k = 0; k < t->n->n_out; k++)
        if (!fence_holds(&t->out[k])) fault(t, "wrote outside of an output", pool_size[pool]);
    fenced_free(&ws);
}

static void outputs_free(struct trial *t)
{
    for (int k = 0; k < t->n->n_out; k++) fenced_free(&t->out[k]);
}

static double largest_of(const struct dan_tensor *t)
{
    double m = 0;
    for (int64_t r = 0; r < dan_rows(t); r++)
        for (int64_t c = 0; c < dan_cols(t); c++)
            if (isfinite(get_real(t, r, c))) m = fmax(m, fabs(get_real(t, r, c)));
    return m;
}

/* Largest difference; infinity when a number should be there and is not. */
static double error_of(const struct dan_tensor *want, const struct dan_tensor *got)
{
    double error = 0;
    for (int64_t r = 0; r < dan_rows(want); r++)
        for (int64_t c = 0; c < dan_cols(want); c++) {
            double w = get_real(want, r, c), g = get_real(got, r, c);
            if (w == g || (isnan(w) && isnan(g))) continue;       /* -inf is the log-sum-exp of nothing */
            error = isfinite(w) && isfinite(g) ? fmax(error, fabs(g - w)) : INFINITY;
        }
    return error;
}

/* Floats within rtol of the largest |ref| of all parts: one part may cancel to almost nothing (attention
 * to a single key has dq = 0), but its rounding errors do not.  Everything else to the bit. */
static void check_values(const struct trial *t, int nth)
{
    double largest = 0;
    char what[128];
    for (int k = 0; k < t->n->n_out; k++)
        if (t->want->out[k].dtype == &dan_dtype_f32 || t->want->out[k].dtype == &dan_dtype_bf16) largest = fmax(largest, largest_of(&t->want->out[k]));
    for (int k = 0; k < t->n->n_out; k++) {
        const struct dan_tensor *want = &t->want->out[k];
        struct dan_tensor got = dan_tensor_of(t->made[k].dtype, want->shape, fenced_data(&t->out[k]));
        bool rounded = want->dtype == &dan_dtype_bf16 && t->kernel->rtol > 0;      /* a last bit of f32 may turn one of bf16 */
        if (want->dtype != &dan_dtype_f32 && !rounded) {
            if (memcmp(got.data, want->data, dan_tensor_bytes(want))) fault(t, "other bytes than the reference", nth);
            continue;
        }
        double error = error_of(want, &got), allowed = ((double)t->kernel->rtol + (got.dtype == &dan_dtype_f32 ? 0 : 1.0 / 256)) * largest;
        if (error <= allowed) continue;
        snprintf(what, sizeof what, "part %d is off by %.3g of %.3g allowed", k, error, allowed);
        fault(t, what, nth);
    }
}

static bool same_outputs(const struct trial *a, const struct trial *b)
{
    for (int k = 0; k < a->n->n_out; k++)
        if (memcmp(fenced_data(&a->out[k]), fenced_data(&b->out[k]), a->out[k].n)) return false;
    return true;
}

static bool may_be_in_place(const struct trial *t)
{
    const struct dan_tensor *x = &t->in[0], *y = &t->want->out[0];
    if (!(t->n->op->props & DAN_OP_INPLACE) || !x->data || !dan_tensor_contiguous(x)) return false;
    return x->dtype == y->dtype && t->made[0].dtype == y->dtype && dan_shape_equal(&x->shape, &y->shape);
}

/* A checksum of what the kernel may only read. */
static uint64_t inputs_sum(const struct trial *t)
{
    uint64_t h = 0;
    for (int k = 0; k < t->n->n_in; k++)
        for (int64_t r = 0; t->in[k].data && r < dan_rows(&t->in[k]); r++)
            for (size_t i = 0, n = dan_dtype_bytes(t->in[k].dtype, dan_cols(&t->in[k])); i < n; i++)
                h = (h ^ ((const unsigned char *)dan_row(&t->in[k], r))[i]) * 0x100000001b3u;
    return h;
}

struct packing { const struct dan_kernel *kernel; struct dan_args a; void *dst; };
static void pack_thread(void *ctx, int ith, int nth)
{
    const struct packing *p = ctx;
    struct dan_args a = p->a;
    a.ith = ith;
    a.nth = nth;
    p->kernel->pack(&a, p->dst);
}

/* The bits that came out of t, from in[1] laid out before. */
static void try_packed(const struct trial *t)
{
    struct trial other = *t;
    struct packing p = {t->kernel, {.in = t->in, .out = t->made, .attr = t->n->attr, .n_in = t->n->n_in, .n_out = t->n->n_out}, NULL};
    size_t n = t->kernel->pack ? t->kernel->pack_bytes(&p.a) : 0;
    if (!n) return;
    struct fenced f = fenced_new(n, 0xFF);
    other.packed = p.dst = fenced_data(&f);
    dan_pool_run(pools[N_POOLS / 2], pack_thread, &p);
    if (!fence_holds(&f)) fault(t, "packed outside of its room", pool_size[N_POOLS / 2]);
    run_kernel(&other, 1, false);
    if (!same_outputs(t, &other)) fault(t, "other bits when packed", pool_size[1]);
    outputs_free(&other);
    fenced_free(&f);
}

static void try_kernel(struct trial *t)
{
    bool state = t->n->op->props & DAN_OP_STATE;
    uint64_t before = inputs_sum(t);
    run_kernel(t, 0, state);
    check_values(t, 1);
    for (int pool = 1; pool < N_POOLS; pool++) {
        struct trial other = *t;
        run_kernel(&other, pool, state);
        if (!same_outputs(t, &other)) fault(t, "other bits than with one thread", pool_size[pool]);
        outputs_free(&other);
    }
    if (may_be_in_place(t)) {
        struct trial other = *t;
        run_kernel(&other, 1, true);
        if (!same_outputs(t, &other)) fault(t, "other bits when it writes over its first input", pool_size[1]);
        outputs_free(&other);
    }
    try_packed(t);
    if (inputs_sum(t) != before) fault(t, "changed an input", 1);
    outputs_free(t);
}

/* ---- values stored as bf16 (pass mixed) -------------------------------------------------------- */

static bool may_be_half(const struct dan_tensor *t) { return t->dtype == &dan_dtype_f32 && t->shape.n >= 2; }

/* t rounded to bf16: `half` as stored, `full` as f32 for the reference; rows lie `gap` elements further apart in half. */
static void round_tensor(const struct dan_tensor *t, int64_t gap, struct dan_tensor *half, struct dan_tensor *full)
{
    struct dan_shape wide = t->shape;
    wide.d[wide.n - 1] += gap;
    *half = dan_tensor_of(&dan_dtype_bf16, wide, NULL);
    half->data = room(dan_tensor_bytes(half));
    half->shape = t->shape;
    *full = dan_tensor_of(&dan_dtype_f32, t->shape, NULL);
    full->data = room(dan_tensor_bytes(full));
    for (int64_t r = 0; r < dan_rows(t); r++) {
        dan_dtype_bf16.from_f32(dan_row(t, r), dan_row(half, r), dan_cols(t));
        dan_dtype_bf16.to_f32(dan_row(half, r), dan_row(full, r), dan_cols(t));
    }
}

/* The kernel with inputs `ins` and outputs `outs` (bits) stored as bf16, if it accepts that: against the reference
 * on the rounded inputs. */
static void try_half(const struct trial *t, unsigned ins, unsigned outs)
{
    struct trial h = *t;
    struct dan_tensor made[DAN_MAX_OUT], full[64];
    struct value want = {0};
    memcpy(made, t->want->out, sizeof made);
    memcpy(full, t->in, sizeof full);
    for (int k = 0; k < t->n->n_in; k++)
        if (ins >> k & 1) round_tensor(&t->in[k], dan_tensor_contiguous(&t->in[k]) ? 0 : 6, &h.in[k], &full[k]);
    for (int k = 0; k < t->n->n_out; k++)
        if (outs >> k & 1) made[k] = dan_tensor_of(&dan_dtype_bf16, made[k].shape, NULL);
    h.made = made;
    h.want = &want;
    h.note = "bf16 storage";
    memcpy(want.out, t->want->out, sizeof want.out);
    if (t->kernel->half && accepted(&h)) {
        struct dan_args a = {.in = full, .out = want.out, .attr = t->n->attr, .n_in = t->n->n_in, .n_out = t->n->n_out, .nth = 1};
        for (int k = 0; k < t->n->n_out; k++) want.out[k].data = want.own[k] = room(dan_tensor_bytes(&want.out[k]));
        run_ref(t->n, &a);
        mark(t->kernel);
        try_kernel(&h);
    }
    for (int k = 0; k < t->n->n_out; k++) dan_free(want.own[k]);
    for (int k = 0; k < t->n->n_in; k++)
        if (ins >> k & 1) {
            dan_free(h.in[k].data);
            dan_free(full[k].data);
        }
}

/* All that may be, inputs alone, outputs alone, and each by itself. */
static void try_halves(const struct trial *t)
{
    unsigned ins = 0, outs = 0;
    if (t->n->op->props & DAN_OP_STATE) return;
    for (int k = 0; k < t->n->n_in; k++) ins |= t->in[k].data && may_be_half(&t->in[k]) ? 1u << k : 0;
    for (int k = 0; k < t->n->n_out; k++) outs |= may_be_half(&t->want->out[k]) ? 1u << k : 0;
    unsigned pass_ins = ins & t->n->op->half_in, pass_outs = outs & t->n->op->half_out;       /* what the pass stores so */
    if (pass_ins != ins || pass_outs != outs) try_half(t, pass_ins, pass_outs);
    if (ins && outs) try_half(t, ins, outs);
    if (ins) try_half(t, ins, 0);
    if (outs) try_half(t, 0, outs);
    for (int k = 0; k < t->n->n_in; k++)
        if (ins >> k & 1 && ins != 1u << k) try_half(t, 1u << k, 0), try_half(t, 1u << k, outs);
    for (int k = 0; k < t->n->n_out; k++)
        if (outs >> k & 1 && outs != 1u << k) try_half(t, 0, 1u << k), try_half(t, ins, 1u << k);
}

/* ---- all kernels on all nodes of a sample ---------------------------------------------------- */

static bool runs_here(const struct dan_kernel *k) { return (k->needs & cpu) == k->needs; }

static void try_graph(const struct fixture *f, const char *note)
{
    struct value *v = dan_calloc((size_t)f->g->n, sizeof *v);
    assert_non_null(v);
    bool known = evaluate(f, v);
    for (dan_ref r = 1; known && r < f->g->n; r++)
        for (int k = 0; dan_kernels[k]; k++) {
            struct trial t = {.f = f, .kernel = dan_kernels[k], .n = dan_at(f->g, r), .want = &v[r], .made = v[r].out, .note = note};
            if (!runs_here(t.kernel) || strcmp(t.kernel->op, t.n->op->name)) continue;
            inputs_of(f->g, t.n, v, t.in);
            if (!note[0]) try_halves(&t);
            if (!accepted(&t)) continue;
            mark(t.kernel);
            try_kernel(&t);
        }
    values_free(v, f->g->n);
}

static bool any_kernel(const char *op)
{
    for (int k = 0; dan_kernels[k]; k++)
        if (runs_here(dan_kernels[k]) && strcmp(dan_kernels[k]->op, op) == 0) return true;
    return false;
}

/* Leaf k of the sample in another storage format, if the graph can take it. */
static void try_format(const struct fixture *f, int k, const struct dan_dtype *t)
{
    struct fixture g = *f;
    struct dan_node *n = &f->g->node[f->leaf[k].ref];
    struct dan_tensor *x = &g.leaf[k].t;
    int64_t cols = dan_cols(x);
    if (x->dtype != &dan_dtype_f32 || t == x->dtype || !t->from_f32 || !t->to_f32 || cols % t->block) return;
    n->dtype = t;
    if (dan_graph_infer(f->g, NULL) == DAN_OK) {
        *x = dan_tensor_of(t, x->shape, NULL);
        x->data = room(dan_tensor_bytes(x));
        for (int64_t r = 0; r < dan_rows(x); r++) t->from_f32(dan_row(&f->leaf[k].t, r), dan_row(x, r), cols);
        try_graph(&g, t->name);
        dan_free(x->data);
    }
    n->dtype = &dan_dtype_f32;
    assert_int_equal(dan_graph_infer(f->g, NULL), DAN_OK);
}

static void all_kernels_with_rows(int64_t rows)
{
    for (int op = 0; dan_ops[op]; op++) {
        struct fixture f;
        for (int i = 0; any_kernel(dan_ops[op]->name) && fixture_build(&f, op, i, rows, &dan_dtype_f32, false); i++) {
            try_graph(&f, "");
            for (int k = 0; k < f.n_leaves; k++)
                for (int t = 0; dan_dtypes[t]; t++) try_format(&f, k, dan_dtypes[t]);
            fixture_free(&f);
        }
    }
}

static void kernels_match_references(void **state)
{
    (void)state;
#if defined(__SANITIZE_THREAD__)               /* races, not numbers */
    const int64_t rows[] = {5, 37};
#else
    const int64_t rows[] = {0, 1, 2, 5, 16, 37, 130};
#endif
    n_failed = n_runs = 0;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) all_kernels_with_rows(rows[i]);
    print_message("%d runs\n", n_runs);
    assert_int_equal(n_failed, 0);
}

/* A kernel that no sample reaches is untested. */
static void every_kernel_was_exercised(void **state)
{
    (void)state;
    int missing = 0;
    for (int k = 0; dan_kernels[k]; k++) {
        if (!runs_here(dan_kernels[k])) {
            print_message("note: this CPU cannot run %s\n", dan_kernels[k]->name);
        } else if (!exercised[k]) {
            missing++;
            print_error("%s: accepts no sample of '%s'; add one to the op\n", dan_kernels[k]->name, dan_kernels[k]->op);
        }
    }
    assert_int_equal(missing, 0);
}

static int setup(void **state)
{
    (void)state;
    int n = 0;
    cpu = dan_cpu_features();
    while (dan_kernels[n]) n++;
    exercised = room((size_t)n);
    for (int i = 0; i < N_POOLS; i++)
        if (dan_pool_new(pool_size[i], &pools[i], NULL)) return -1;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (int i = 0; i < N_POOLS; i++) dan_pool_free(pools[i]);
    dan_free(exercised);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels_match_references),
        cmocka_unit_test(every_kernel_was_exercised),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
