/* Every op of the table, through the samples it brings: gradients against central differences in
 * double, zero rows, a smaller size bound to a bigger plan, strided inputs, 1 to 7 threads.
 * Names no op: a new one is covered the day its file appears. */
#include "sample.h"
#include "exec/exec.h"
#include "pass/pass.h"

static int n_failed;                           /* of the running test */

#define FAULT(f, ...) do { \
    n_failed++; \
    print_error("%s, case %d: ", dan_ops[(f)->op]->name, (f)->i); \
    print_error(__VA_ARGS__); \
    print_error("\n"); \
} while (0)

/* ---- running --------------------------------------------------------------------------------- */

static void add_outputs(struct fixture *f)
{
    char name[16];
    for (int k = 0, n = dan_at(f->g, f->s.y)->n_out; k < n; k++) {
        snprintf(name, sizeof name, "y%d", k);
        dan_output(&f->b, name, dan_pick(&f->b, f->s.y, k));
    }
}

/* loss = sum of outputs times random constants; false when no output is a float. */
static bool add_loss(struct fixture *f)
{
    dan_ref loss = 0;
    const int n = dan_at(f->g, f->s.y)->n_out;
    f->params = false;
    for (int k = 0; k < n; k++) {
        dan_ref part = dan_pick(&f->b, f->s.y, k);
        if (!part || dan_at(f->g, part)->dtype != f->s.dtype) continue;
        dan_ref term = dan_sum_all(&f->b, dan_mul(&f->b, part, hook_real(&f->s, *dan_shape_at(&f->b, part), 1, false)));
        loss = loss ? dan_add(&f->b, loss, term) : term;
    }
    if (loss) dan_output(&f->b, "loss", loss);
    return loss != 0;
}

static struct dan_program *compile(struct fixture *f, struct dan_pool *pool)
{
    struct dan_program *p = NULL;
    struct dan_err e = {0};
    struct dan_exec_opts o = {.pool = pool, .ref = true};
    if (dan_builder_check(&f->b, &e) || dan_compile(f->g, &o, &p, &e)) FAULT(f, "%s", e.msg);
    return p;
}

static bool run_with(struct fixture *f, struct dan_program *p, const struct fixture *data)
{
    struct dan_err e = {0};
    for (int k = 0; k < data->n_leaves && !e.code; k++) dan_bind(p, data->leaf[k].name, &data->leaf[k].t, &e);
    if (!e.code) dan_run(p, &e);
    if (e.code) FAULT(f, "%s", e.msg);
    return !e.code;
}

/* Output k as contiguous bytes. */
static char *take(const struct dan_program *p, int k, size_t *n_bytes)
{
    const struct dan_tensor *t = dan_result(p, k);
    size_t row = dan_dtype_bytes(t->dtype, dan_cols(t));
    *n_bytes = row * (size_t)dan_rows(t);
    char *out = room(*n_bytes);
    for (int64_t r = 0; r < dan_rows(t); r++) memcpy(out + (size_t)r * row, dan_row(t, r), row);
    return out;
}

static void compare(struct fixture *f, const struct dan_program *p, const struct dan_program *q, const char *what)
{
    for (int k = 0; k < f->g->n_out; k++) {
        size_t n, m;
        char *a = take(p, k, &n), *b = take(q, k, &m);
        if (n != m || memcmp(a, b, n)) FAULT(f, "output %d differs %s", k, what);
        dan_free(a);
        dan_free(b);
    }
}

/* A case that runs its forward part only. */
static struct dan_program *forward(struct fixture *f, int op, int i, int64_t rows, struct dan_pool *pool)
{
    if (!fixture_build(f, op, i, rows, &dan_dtype_f32, false)) return NULL;
    add_outputs(f);
    return compile(f, pool);
}

/* Calls check for every case of every op until it says there are no more. */
static void for_all(bool (*check)(int op, int i))
{
    n_failed = 0;
    for (int op = 0; dan_ops[op]; op++)
        for (int i = 0; check(op, i); i++) continue;
    assert_int_equal(n_failed, 0);
}

/* ---- gradients ------------------------------------------------------------------------------- */

static double loss_of(struct dan_program *p)
{
    struct dan_err e = {0};
    if (dan_run(p, &e)) fail_msg("%s", e.msg);
    return *(const double *)dan_result_named(p, "loss")->data;
}

/* Central difference of the loss along element j of a leaf. */
static double slope_of(struct dan_program *p, const struct leaf *l, int64_t j)
{
    const double h = 1e-5;
    double *x = (double *)l->t.data + j, keep = *x;
    *x = keep + h;
    double up = loss_of(p), at_up = *x;
    *x = keep - h;
    double down = loss_of(p), at_down = *x;
    *x = keep;
    return (up - down) / (at_up - at_down);
}

/* Up to 40 elements, within 1e-6 of the leaf's largest gradient. */
static void check_leaf(struct fixture *f, struct dan_program *p, const struct leaf *l)
{
    char name[32];
    size_t n_bytes;
    const int64_t n = dan_shape_count(&l->t.shape), n_checks = n < 40 ? n : 40;
    double largest = 1e-3;
    snprintf(name, sizeof name, "grad:%s", l->name);
    int at = 0;
    while (at < f->g->n_out && strcmp(f->g->out_name[at], name)) at++;
    if (at == f->g->n_out) {
        FAULT(f, "there is no output '%s'", name);
        return;
    }
    loss_of(p);                                /* the results are those of the last, shifted run */
    double *grad = (double *)take(p, at, &n_bytes);
    if (n_bytes != (size_t)n * sizeof *grad) FAULT(f, "'%s' has %d bytes, not %d", name, (int)n_bytes, (int)n * 8);
    for (int64_t j = 0; j < n; j++) largest = fmax(largest, fabs(grad[j]));
    for (int64_t c = 0; c < n_checks; c++) {
        int64_t j = n <= 40 ? c : (int64_t)dan_rng_below(&f->rng, (uint64_t)n);
        double slope = slope_of(p, l, j);
        if (fabs(slope - grad[j]) <= 1e-6 * largest) continue;
        FAULT(f, "%s[%d]: gradient %.9g, difference quotient %.9g", name, (int)j, grad[j], slope);
        break;
    }
    dan_free(grad);
}

/* Returns whether the case exists. */
static bool check_gradients(int op, int i, int64_t rows)
{
    struct fixture f;
    struct dan_program *p = NULL;
    struct dan_err e = {0};
    if (!fixture_build(&f, op, i, rows, &dan_dtype_f64, true)) return false;
    int n_wanted = f.n_leaves;
    if (!f.s.no_grad && add_loss(&f)) {
        const struct dan_pass_opts o = {.loss = "loss"};
        if (dan_run_passes(f.g, "autodiff", &o, &e)) FAULT(&f, "%s", e.msg);
        if (!e.code) p = compile(&f, NULL);
        if (p && run_with(&f, p, &f))
            for (int k = 0; k < n_wanted; k++)
                if (dan_op_is(dan_at(f.g, f.leaf[k].ref), "param")) check_leaf(&f, p, &f.leaf[k]);
    }
    dan_program_free(p);
    fixture_free(&f);
    return true;
}

static bool gradients_5(int op, int i) { return check_gradients(op, i, 5); }
static bool gradients_2(int op, int i) { return check_gradients(op, i, 2); }
static bool gradients_0(int op, int i) { return check_gradients(op, i, 0); }
static void gradients_match_differences(void **state) { (void)state; for_all(gradients_5); }
static void gradients_match_at_another_size(void **state) { (void)state; for_all(gradients_2); }
static void gradients_of_zero_rows(void **state) { (void)state; for_all(gradients_0); }

/* An op that neither says that it has no gradient nor brings a case that checks it is a hole. */
static void every_op_is_covered(void **state)
{
    (void)state;
    n_failed = 0;
    for (int op = 0; dan_ops[op]; op++) {
        struct fixture f = {.op = op};
        bool differentiable = false, has_case = false;
        if (dan_ops[op]->props & DAN_OP_LEAF || dan_op_is(&(struct dan_node){.op = dan_ops[op]}, "pick")) continue;
        for (int i = 0; fixture_build(&f, op, i, 3, &dan_dtype_f64, true); i++) {
            has_case = true;
            differentiable = differentiable || !f.s.no_grad;
            fixture_free(&f);
            f.op = op;
        }
        f.op = op;
        if (!has_case) FAULT(&f, "brings no sample");
        bool may_lack = dan_ops[op]->props & (DAN_OP_NO_GRAD | DAN_OP_BODY);
        if (!may_lack && !dan_ops[op]->vjp) FAULT(&f, "has no vjp and does not say NO_GRAD");
        if (has_case && !differentiable && dan_ops[op]->vjp)
            print_message("note: no sample checks the vjp of '%s'\n", dan_ops[op]->name);
    }
    assert_int_equal(n_failed, 0);
}

/* ---- sizes, strides, threads ----------------------------------------------------------------- */

/* Planned for 7 rows and bound with `rows` is the same as planned for `rows`. */
static bool check_rebind(int op, int i, int64_t rows)
{
    struct fixture big, small;
    struct dan_program *p = forward(&big, op, i, 7, NULL);
    if (!p && !big.g) return false;
    struct dan_program *q = forward(&small, op, i, rows, NULL);
    if (p && q && run_with(&big, p, &small) && run_with(&small, q, &small))
        compare(&big, p, q, "between a plan for 7 rows and one for fewer");
    dan_program_free(p);
    dan_program_free(q);
    fixture_free(&big);
    fixture_free(&small);
    return true;
}

static bool rebind_3(int op, int i) { return check_rebind(op, i, 3); }
static bool rebind_1(int op, int i) { return check_rebind(op, i, 1); }
static bool rebind_0(int op, int i) { return check_rebind(op, i, 0); }
static void fewer_rows_than_declared(void **state) { (void)state; for_all(rebind_3); for_all(rebind_1); }
static void zero_rows(void **state) { (void)state; for_all(rebind_0); }

/* R7: nothing of a graph but its dynamic dims depends on the number of rows. */
static bool same_structure(int op, int i)
{
    struct fixture a, b;
    if (!fixture_build(&a, op, i, 5, &dan_dtype_f32, false)) return false;
    assert_true(fixture_build(&b, op, i, 6, &dan_dtype_f32, false));
    add_outputs(&a);
    add_outputs(&b);
    if (dan_graph_hash(a.g) != dan_graph_hash(b.g)) FAULT(&a, "the graphs of 5 and of 6 rows have different structure");
    fixture_free(&a);
    fixture_free(&b);
    return true;
}

static void structure_does_not_depend_on_rows(void **state) { (void)state; for_all(same_structure); }

/* The same contents with a gap after each row of the first dimension. */
static struct dan_tensor spread(const struct dan_tensor *t)
{
    struct dan_tensor s = *t;
    if (t->shape.n < 2) return s;
    int64_t pitch = t->stride[0] + 3 * (int64_t)t->dtype->bytes;
    s.stride[0] = pitch;
    s.data = room((size_t)(pitch * t->shape.d[0]));
    memset(s.data, 0x7f, (size_t)(pitch * t->shape.d[0]));            /* not a number the op should meet */
    for (int64_t r = 0; r < t->shape.d[0]; r++)
        memcpy((char *)s.data + r * pitch, (char *)t->data + r * t->stride[0], (size_t)t->stride[0]);
    return s;
}

static bool reads_leaves_only(const struct fixture *f)
{
    for (dan_ref r = 1; r < f->g->n; r++)
        if (dan_at(f->g, r)->op->props & DAN_OP_VIEW) return false;   /* merge_dims needs packed inputs, by contract */
    return true;
}

static bool check_strides(int op, int i)
{
    struct fixture f;
    struct dan_program *p = forward(&f, op, i, 5, NULL), *q;
    if (!p && !f.g) return false;
    if (p && reads_leaves_only(&f) && (q = compile(&f, NULL))) {
        struct fixture wide = f;
        for (int k = 0; k < f.n_leaves; k++)
            if (!dan_op_is(dan_at(f.g, f.leaf[k].ref), "state")) wide.leaf[k].t = spread(&f.leaf[k].t);
        if (run_with(&f, p, &f) && run_with(&f, q, &wide)) compare(&f, p, q, "when the inputs have strides");
        for (int k = 0; k < f.n_leaves; k++)
            if (wide.leaf[k].t.data != f.leaf[k].t.data) dan_free(wide.leaf[k].t.data);
        dan_program_free(q);
    }
    dan_program_free(p);
    fixture_free(&f);
    return true;
}

static void strided_inputs(void **state) { (void)state; for_all(check_strides); }

static struct dan_pool *pool;                  /* of the running test */

static bool check_threads(int op, int i)
{
    struct fixture f, g;
    struct dan_program *p = forward(&f, op, i, 5, NULL);
    if (!p && !f.g) return false;
    struct dan_program *q = forward(&g, op, i, 5, pool);              /* its own data: a state is written */
    if (p && q && run_with(&f, p, &f) && run_with(&g, q, &g)) compare(&f, p, q, "when more threads run it");
    dan_program_free(p);
    dan_program_free(q);
    fixture_free(&f);
    fixture_free(&g);
    return true;
}

static void results_do_not_depend_on_threads(void **state)
{
    (void)state;
    const int sizes[] = {2, 3, 7};
    for (int k = 0; k < 3; k++) {
        assert_int_equal(dan_pool_new(sizes[k], &pool, NULL), DAN_OK);
        for_all(check_threads);
        dan_pool_free(pool);
    }
}

/* Costs are reports, but a negative or missing one is a mistake. */
static bool check_cost(int op, int i)
{
    struct fixture f;
    double flops = -1, bytes = -1;
    if (!fixture_build(&f, op, i, 5, &dan_dtype_f32, false)) return false;
    if (dan_ops[op]->cost) dan_ops[op]->cost(f.g, dan_at(f.g, f.s.y), &flops, &bytes);
    if (!dan_op_is(dan_at(f.g, f.s.y), "pick") && (!(flops >= 0) || !(bytes >= 0)))
        FAULT(&f, "costs %g flops and %g bytes", flops, bytes);
    fixture_free(&f);
    return true;
}

static void costs_are_known(void **state) { (void)state; for_all(check_cost); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_op_is_covered),
        cmocka_unit_test(gradients_match_differences),
        cmocka_unit_test(gradients_match_at_another_size),
        cmocka_unit_test(gradients_of_zero_rows),
        cmocka_unit_test(fewer_rows_than_declared),
        cmocka_unit_test(zero_rows),
        cmocka_unit_test(structure_does_not_depend_on_rows),
        cmocka_unit_test(strided_inputs),
        cmocka_unit_test(results_do_not_depend_on_threads),
        cmocka_unit_test(costs_are_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
