/* Ops that read a weight in a storage format of src/dtype/ give what they give for the same numbers in f32. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "base/rng.h"
#include "exec/exec.h"
#include "op/ops.h"

enum { V = 64, C = 512, N = 5 };                 /* rows of whole blocks in every format */

static float *randoms(int64_t n, uint64_t seed)
{
    struct dan_rng rng = {.seed = seed};
    float *x = dan_calloc((size_t)n, sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++) x[i] = (float)dan_rng_normal(&rng);
    return x;
}

/* Outputs x w^T [N,V], z w [N,C] and rows of w by id [N,C] for w [V,C] of the given type. */
static struct dan_program *run(struct dan_graph *g, const struct dan_dtype *t, void *w, float *x, float *z, int32_t *ids)
{
    struct dan_builder b;
    struct dan_err e = {0};
    struct dan_program *p = NULL;
    dan_builder_init(&b, g);
    dan_ref rw = dan_param(&b, "w", t, DAN_SHAPE(V, C), "zeros"), rx = dan_input(&b, "x", &dan_dtype_f32, DAN_SHAPE(N, C), true);
    dan_ref rz = dan_input(&b, "z", &dan_dtype_f32, DAN_SHAPE(N, V), true), ri = dan_input(&b, "ids", &dan_dtype_i32, DAN_SHAPE(N), true);
    dan_output(&b, "xw", dan_linear(&b, rx, rw, 0));
    dan_output(&b, "zw", dan_matmul(&b, rz, rw, 0, 0));
    dan_output(&b, "rows", dan_embed(&b, rw, ri));
    const struct dan_tensor tw = dan_tensor_of(t, DAN_SHAPE(V, C), w), tx = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(N, C), x);
    const struct dan_tensor tz = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(N, V), z), ti = dan_tensor_of(&dan_dtype_i32, DAN_SHAPE(N), ids);
    const struct dan_exec_opts o = {.ref = true};
    if (dan_builder_check(&b, &e) || dan_compile(g, &o, &p, &e) || dan_bind(p, "w", &tw, &e) || dan_bind(p, "x", &tx, &e) ||
        dan_bind(p, "z", &tz, &e) || dan_bind(p, "ids", &ti, &e) || dan_run(p, &e))
        fail_msg("%s: %s", t->name, e.msg);
    return p;
}

static void check(const struct dan_dtype *t)
{
    float *w = randoms(V * C, 1), *x = randoms(N * C, 2), *z = randoms(N * V, 3), *wide = dan_calloc(V * C, sizeof *wide);
    int32_t ids[N] = {3, 63, -1, 0, 64};
    char *packed = dan_calloc(1, dan_dtype_bytes(t, V * C));
    for (int r = 0; r < V; r++) {
        char *row = packed + (size_t)r * dan_dtype_bytes(t, C);
        t->from_f32(w + r * C, row, C);
        t->to_f32(row, wide + r * C, C);
    }
    struct dan_graph *g = dan_graph_new(), *h = dan_graph_new();
    struct dan_program *p = run(g, t, packed, x, z, ids), *q = run(h, &dan_dtype_f32, wide, x, z, ids);
    for (int k = 0; k < 3; k++) {
        const struct dan_tensor *a = dan_result(p, k), *b = dan_result(q, k);
        assert_memory_equal(a->data, b->data, dan_tensor_bytes(b));
    }
    dan_program_free(p);
    dan_program_free(q);
    dan_graph_free(g);
    dan_graph_free(h);
    dan_free(w);
    dan_free(x);
    dan_free(z);
    dan_free(wide);
    dan_free(packed);
}

static void every_format_is_read(void **state)
{
    (void)state;
    for (int i = 0; dan_dtypes[i]; i++)
        if (dan_dtypes[i] != &dan_dtype_f64 && dan_dtypes[i]->to_f32 && dan_dtypes[i]->from_f32) check(dan_dtypes[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_format_is_read)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
