/* Ops that promise to write outputs of any row stride (DAN_OP_STRIDED): on every sample, by reference and by the kernels
 * that the machine picks, each part computed between two others inside a concat has the bits of the part computed alone
 * and copied, and its neighbours are untouched.  Names no op. */
#include "sample.h"
#include "base/threads.h"
#include "exec/exec.h"

enum { LEFT = 5, RIGHT = 3 };                  /* columns of the neighbours; they are computed before */

struct built { struct fixture f; dan_ref join[DAN_MAX_OUT]; int n; };

static bool joinable(const struct dan_dtype *t, const struct dan_shape *s) { return t == &dan_dtype_f32 && s->n >= 2; }

static const struct dan_shape *shape_of(const struct dan_node *y, int k) { return y->n_out > 1 ? &y->part[k].shape : &y->shape; }
static const struct dan_dtype *type_of(const struct dan_node *y, int k) { return y->n_out > 1 ? y->part[k].dtype : y->dtype; }

static dan_ref neighbour(struct built *b, struct dan_shape s, int64_t cols)
{
    s.d[s.n - 1] = cols;
    return dan_copy(&b->f.b, hook_real(&b->f.s, s, 1, true));
}

/* Sample i of the op with every part joined; `like` tells the shapes.  False when there is no such sample. */
static bool build(struct built *b, int op, int i, int64_t rows, const struct dan_node *like, int64_t placed)
{
    memset(b, 0, sizeof *b);
    struct fixture *f = &b->f;
    f->g = dan_graph_new();
    assert_non_null(f->g);
    f->op = op;
    f->i = i;
    dan_builder_init(&f->b, f->g);
    f->s = (struct dan_sample){.b = &f->b, .real = hook_real, .real_away = hook_real_away, .ints = hook_ints, .values = hook_values,
                               .dtype = &dan_dtype_f32, .rows = rows, .ctx = f};
    dan_ref left[DAN_MAX_OUT] = {0}, right[DAN_MAX_OUT] = {0};
    for (int k = 0; k < like->n_out; k++) {
        if (!joinable(type_of(like, k), shape_of(like, k))) continue;
        left[k] = neighbour(b, *shape_of(like, k), LEFT);
        right[k] = neighbour(b, *shape_of(like, k), RIGHT);
    }
    bool more = dan_ops[op]->sample(&f->s, i);
    assert_true(more);
    add_other_leaves(f);
    for (int k = 0; k < like->n_out; k++) {
        if (!left[k]) continue;
        union dan_attr attr[] = {DAN_I(-1), DAN_I(placed)};
        b->join[b->n] = dan_emit(&f->b, &dan_op_concat, (const dan_ref[]){left[k], dan_pick(&f->b, f->s.y, k), right[k]}, 3, attr, 2);
        dan_output(&f->b, "y", b->join[b->n++]);
    }
    struct dan_err e = {0};
    if (dan_builder_check(&f->b, &e)) fail_msg("%s, case %d: %s", dan_ops[op]->name, i, e.msg);
    return b->n > 0;
}

static struct dan_program *run(const struct built *b, bool ref, struct dan_pool *pool)
{
    struct dan_err e = {0};
    struct dan_program *p = NULL;
    int rc = dan_compile(b->f.g, &(struct dan_exec_opts){.ref = ref, .pool = pool}, &p, &e);
    for (int k = 0; k < b->f.n_leaves && !rc; k++) rc = dan_bind(p, b->f.leaf[k].name, &b->f.leaf[k].t, &e);
    if (!rc) rc = dan_run(p, &e);
    if (rc) fail_msg("%s, case %d: %s", dan_ops[b->f.op]->name, b->f.i, e.msg);
    return p;
}

static void check(int op, int i, int64_t rows, const struct dan_node *like, bool ref, struct dan_pool *pool)
{
    struct built apart, placed;
    if (!build(&apart, op, i, rows, like, 0)) {
        fixture_free(&apart.f);
        return;
    }
    build(&placed, op, i, rows, like, 7);
    struct dan_program *a = run(&apart, ref, pool), *b = run(&placed, ref, pool);
    for (int k = 0; k < apart.n; k++) {
        const struct dan_tensor *x = dan_result(a, k), *y = dan_result(b, k);
        if (dan_program_kernel(b, placed.join[k])[0]) fail_msg("%s, case %d: the concat still copies", dan_ops[op]->name, i);
        if (memcmp(x->data, y->data, dan_tensor_bytes(x)))
            fail_msg("%s, case %d, %d rows, %s: other bits when it writes into a wider buffer", dan_ops[op]->name, i, (int)rows,
                     dan_program_kernel(b, placed.f.s.y));
    }
    dan_program_free(a);
    dan_program_free(b);
    fixture_free(&apart.f);
    fixture_free(&placed.f);
}

/* The sample's own result, when an op of the table makes it. */
static const struct dan_node *maker(const struct fixture *f) { return dan_at(f->g, f->s.y); }

static void strided_outputs(void **state)
{
    const int64_t rows[] = {1, 2, 5, 37};
    struct dan_pool *pool[2];
    int seen = 0;
    (void)state;
    for (int t = 0; t < 2; t++) assert_int_equal(dan_pool_new(t ? 3 : 1, &pool[t], NULL), 0);
    for (int op = 0; dan_ops[op]; op++)
        for (size_t r = 0; dan_ops[op]->props & DAN_OP_STRIDED && r < sizeof rows / sizeof *rows; r++) {
            struct fixture f;
            for (int i = 0; fixture_build(&f, op, i, rows[r], &dan_dtype_f32, false); i++, seen++) {
                for (int t = 0; maker(&f)->op == dan_ops[op] && t < 4; t++) check(op, i, rows[r], maker(&f), t & 1, pool[t >> 1]);
                fixture_free(&f);
            }
        }
    print_message("%d samples\n", seen);
    assert_true(seen > 0);
    for (int t = 0; t < 2; t++) dan_pool_free(pool[t]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(strided_outputs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
