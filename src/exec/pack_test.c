/* Params laid out once for their kernels: the same bits as without, shared by the programs over one store, gone with the last of them in
 * any order, not used for other memory, no heap in warm runs, and no more than slower when there is no memory for it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "base/count_allocs.h"
#include "base/sys.h"
#include "exec/exec.h"
#include "exec/program.h"
#include "op/ops.h"

enum { ROWS = 5, K = 64, N = 33 };

struct world { struct dan_graph *g; struct dan_store *s; float x[ROWS * K]; };

/* y = x w^T, z = x v^T, and w once more. */
static void world_of(struct world *w, const char *type)
{
    struct dan_builder b;
    struct dan_err e = {0};
    const struct dan_dtype *t = dan_dtype_find(type);
    float row[K];
    w->g = dan_graph_new();
    dan_builder_init(&b, w->g);
    dan_ref x = dan_input(&b, "x", &dan_dtype_f32, DAN_SHAPE(ROWS, K), 1);
    dan_ref p = dan_param(&b, "w", t, DAN_SHAPE(N, K), ""), v = dan_param(&b, "v", t, DAN_SHAPE(N, K), "");
    dan_output(&b, "y", dan_matmul(&b, x, p, 0, 1));
    dan_output(&b, "z", dan_matmul(&b, x, v, 0, 1));
    dan_output(&b, "again", dan_scale(&b, dan_matmul(&b, x, p, 0, 1), 2));
    assert_int_equal(dan_builder_check(&b, &e), DAN_OK);
    assert_int_equal(dan_store_new(&w->s, &e), DAN_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(dan_store_add(w->s, i ? "v" : "w", t, DAN_SHAPE(N, K), &e), DAN_OK);
        for (int n = 0; n < N; n++) {
            for (int k = 0; k < K; k++) row[k] = (float)((n * 31 + k * 17 + i * 5) % 29 - 14);
            t->from_f32(row, dan_row(dan_store_find(w->s, i ? "v" : "w"), n), K);
        }
    }
    for (int i = 0; i < ROWS * K; i++) w->x[i] = (float)(i % 37 - 18) * 0.1f;
}

static void world_new(struct world *w) { world_of(w, "q4_0"); }

static struct dan_program *program_with(struct world *w, const struct dan_exec_opts *o, struct dan_err *e)
{
    struct dan_program *p = NULL;
    struct dan_tensor x = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(ROWS, K), w->x);
    if (dan_compile(w->g, o, &p, e)) return NULL;
    if (dan_bind_store(p, w->s, e) || dan_bind(p, "x", &x, e)) {
        dan_program_free(p);
        return NULL;
    }
    return p;
}

static struct dan_program *program_new(struct world *w, bool pack, struct dan_err *e) { return program_with(w, &(struct dan_exec_opts){.pack = pack}, e); }

static const float *run(struct dan_program *p, const char *name)
{
    struct dan_err e = {0};
    if (dan_run(p, &e)) fail_msg("%s", e.msg);
    return dan_result_named(p, name)->data;
}

static const void *packed_at(const struct dan_program *p, int i) { return p->step[i].args.packed; }

static void same_bits_and_no_heap(void **state)
{
    struct world w;
    struct dan_err e = {0};
    (void)state;
    world_new(&w);
    struct dan_program *plain = program_new(&w, false, &e), *p = program_new(&w, true, &e);
    assert_true(plain && p);
    const char *outputs[] = {"y", "z", "again"};
    for (int i = 0; i < 3; i++) assert_memory_equal(run(p, outputs[i]), run(plain, outputs[i]), sizeof(float) * ROWS * N);
    assert_int_equal(dan_program_packed(plain), 0);
    int64_t before = heap_calls;
    run(p, "y");
    assert_int_equal(heap_calls, before);
    dan_program_free(plain);
    dan_program_free(p);
    dan_store_free(w.s);
    dan_graph_free(w.g);
}

static void shared_and_freed(void **state)
{
    struct world w;
    struct dan_err e = {0};
    float want[ROWS * N];
    (void)state;
    world_new(&w);
    struct dan_program *a = program_new(&w, true, &e), *b = program_new(&w, true, &e);
    assert_true(a && b);
    if (!dan_program_packed(a)) skip();        /* this CPU has no kernel that packs */
    memcpy(want, run(a, "z"), sizeof want);
    run(b, "z");
    assert_non_null(packed_at(a, 0));
    assert_ptr_equal(packed_at(a, 0), packed_at(b, 0));
    assert_ptr_not_equal(packed_at(a, 0), packed_at(a, 1));
    dan_program_free(a);
    assert_memory_equal(run(b, "z"), want, sizeof want);
    dan_store_free(w.s);                       /* before the last program: nothing is read any more, but what is counted is there */
    dan_program_free(b);
    dan_graph_free(w.g);
}

/* bf16 is laid out when that is asked for, also between runs. */
static void floats_when_asked(void **state)
{
    struct world w;
    struct dan_err e = {0};
    float want[ROWS * N];
    (void)state;
    world_of(&w, "bf16");
    for (int32_t i = 1; i < w.g->n; i++)
        if (dan_op_is(&w.g->node[i], "matmul")) w.g->node[i].attr[DAN_MATMUL_PREC].i = DAN_PREC_BF16;
    struct dan_program *p = program_new(&w, true, &e), *plain = program_new(&w, false, &e);
    assert_true(p && plain);
    assert_int_equal(dan_program_packed(p), 0);
    memcpy(want, run(p, "z"), sizeof want);
    for (int i = 0; i < 2; i++) {
        dan_program_pack_floats(p);
        dan_program_pack_floats(plain);        /* packs nothing at all */
        assert_memory_equal(run(p, "z"), want, sizeof want);
        assert_memory_equal(run(plain, "z"), want, sizeof want);
        assert_int_equal(dan_program_packed(plain), 0);
    }
    dan_program_free(p);
    dan_program_free(plain);
    dan_store_free(w.s);
    dan_graph_free(w.g);
}

static void check_changing(enum dan_prec prec, uint64_t mask)
{
    struct world w;
    struct dan_err e = {0};
    float want[ROWS * N];
    world_of(&w, "f32");
    for (int32_t i = 1; i < w.g->n; i++)
        if (dan_op_is(&w.g->node[i], "matmul")) w.g->node[i].attr[DAN_MATMUL_PREC].i = prec;
    struct dan_program *p = program_with(&w, &(struct dan_exec_opts){.pack = true, .pack_f32 = true, .cpu_mask = mask}, &e);
    struct dan_program *plain = program_with(&w, &(struct dan_exec_opts){.pack = true, .pack_floats = true, .cpu_mask = mask}, &e);
    assert_true(p && plain);
    assert_int_equal(dan_program_packed(plain), 0);
    for (int i = 0; i < 3; i++) {
        memcpy(want, run(plain, "z"), sizeof want);
        assert_memory_equal(run(p, "z"), want, sizeof want);
        assert_memory_equal(run(p, "again"), run(plain, "again"), sizeof want);
        ((float *)dan_store_find(w.s, "v")->data)[7] += 3;
        ((float *)dan_store_find(w.s, "w")->data)[70] -= 2;
        dan_program_repack(p);
        dan_program_repack(plain);             /* has nothing to do */
        assert_memory_not_equal(run(p, "z"), want, sizeof want);
    }
    dan_program_free(p);
    dan_program_free(plain);
    dan_store_free(w.s);
    dan_graph_free(w.g);
}

/* f32 only when asked, and anew when it has changed. */
static void changing_f32(void **state)
{
    (void)state;
    check_changing(DAN_PREC_F32, 0);
    check_changing(DAN_PREC_F32, DAN_CPU_AVX2);
    check_changing(DAN_PREC_BF16, 0);
    check_changing(DAN_PREC_BF16, DAN_CPU_AVX512);
}

/* A param that is bound to other memory later is read there. */
static void other_memory(void **state)
{
    struct world w;
    struct dan_err e = {0};
    float want[ROWS * N];
    (void)state;
    world_new(&w);
    struct dan_program *p = program_new(&w, true, &e);
    assert_non_null(p);
    memcpy(want, run(p, "z"), sizeof want);
    assert_int_equal(dan_bind(p, "w", dan_store_find(w.s, "v"), &e), DAN_OK);
    assert_memory_equal(run(p, "y"), want, sizeof want);
    dan_program_free(p);
    dan_store_free(w.s);
    dan_graph_free(w.g);
}

static void memory_may_fail(void **state)
{
    struct world w;
    struct dan_err e = {0};
    (void)state;
    if (!count_allocs) skip();
    world_new(&w);
    dan_program_free(program_new(&w, true, &e));
    int64_t start = heap_calls, live = heap_live;
    dan_program_free(program_new(&w, true, &e));
    int64_t n = heap_calls - start;
    assert_int_equal(heap_live, live);
    for (int64_t k = 1; k <= n; k++) {
        e = (struct dan_err){0};
        heap_fail_at = heap_calls + k;
        struct dan_program *p = program_new(&w, true, &e);
        heap_fail_at = 0;
        if (!p) assert_int_equal(e.code, DAN_ENOMEM);
        if (p) run(p, "y");
        dan_program_free(p);
        assert_int_equal(heap_live, live);
    }
    dan_store_free(w.s);
    dan_graph_free(w.g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(same_bits_and_no_heap), cmocka_unit_test(shared_and_freed), cmocka_unit_test(floats_when_asked),
                                       cmocka_unit_test(changing_f32), cmocka_unit_test(other_memory), cmocka_unit_test(memory_may_fail)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
