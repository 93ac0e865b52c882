/* Importance matrices in llama.cpp's files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "io/gguf.h"
#include "quant/imatrix.h"

static char path[64];

static void save(const void *bytes, size_t n)
{
    snprintf(path, sizeof path, "/tmp/danlu-imatrix-%d.dat", (int)getpid());
    assert_int_equal(dan_write_file(path, bytes, n, NULL), 0);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct dan_imatrix m = {.chunks = 7}, back;
    struct dan_err e = {0};
    const double a[] = {8, 2, 0}, b[] = {1, 3};
    save("", 0);
    if (dan_imatrix_add(&m, "blk.0.attn_q.weight", a, 4, 3, &e) || dan_imatrix_add(&m, "output.weight", b, 1, 2, &e)) fail_msg("%s", e.msg);
    if (dan_imatrix_save(&m, path, &e) || dan_imatrix_load(path, &back, &e)) fail_msg("%s", e.msg);
    assert_int_equal(back.n, 2);
    assert_int_equal(back.chunks, 7);
    const struct dan_imatrix_entry *x = dan_imatrix_find(&back, "blk.0.attn_q.weight");
    assert_non_null(x);
    assert_int_equal(x->k, 3);
    assert_true(dan_imatrix_mean(x, 0) == 2 && dan_imatrix_mean(x, 1) == 0.5f && dan_imatrix_mean(x, 2) == 0);
    assert_null(dan_imatrix_find(&back, "nosuch"));
    dan_imatrix_release(&m);
    dan_imatrix_release(&back);
    unlink(path);
}

/* As llama.cpp's writer lays it out: sums over 5 calls, and an old file without the end. */
static void test_calls(void **state)
{
    (void)state;
    const unsigned char bytes[] = {1, 0, 0, 0, 1, 0, 0, 0, 'w', 5, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0x20, 0x41, 0, 0, 0xa0, 0x40};      /* 10, 5 */
    struct dan_imatrix m;
    struct dan_err e = {0};
    save(bytes, sizeof bytes);
    if (dan_imatrix_load(path, &m, &e)) fail_msg("%s", e.msg);
    assert_true(dan_imatrix_mean(&m.v[0], 0) == 2 && dan_imatrix_mean(&m.v[0], 1) == 1);
    dan_imatrix_release(&m);
    for (size_t n = 0; n < sizeof bytes; n++) {                /* cut anywhere */
        save(bytes, n);
        e = (struct dan_err){0};
        assert_int_not_equal(dan_imatrix_load(path, &m, &e), 0);
    }
    unsigned char bad[sizeof bytes];
    memcpy(bad, bytes, sizeof bytes);
    bad[20] = 0xc1;                                            /* -10 */
    save(bad, sizeof bad);
    e = (struct dan_err){0};
    assert_int_equal(dan_imatrix_load(path, &m, &e), DAN_EFORMAT);
    assert_non_null(strstr(e.msg, "column 0"));
    memcpy(bad, bytes, sizeof bytes);
    bad[16] = 0x7f;                                            /* two thousand million values */
    save(bad, sizeof bad);
    assert_int_equal(dan_imatrix_load(path, &m, NULL), DAN_EFORMAT);
    unlink(path);
}

/* ---- the newer file ---- */

static void test_gguf_round_trip(void **state)
{
    (void)state;
    struct dan_imatrix m = {.chunks = 2}, back;
    struct dan_gguf *g = NULL;
    struct dan_err e = {0};
    int64_t size;
    const double a[] = {8, 2, 0};
    snprintf(path, sizeof path, "/tmp/danlu-imatrix-%d.gguf", (int)getpid());
    if (dan_imatrix_add(&m, "blk.0.attn_q.weight", a, 4, 3, &e) || dan_imatrix_save(&m, path, &e)) fail_msg("%s", e.msg);
    if (dan_imatrix_load(path, &back, &e) || dan_gguf_open(path, &g, &e)) fail_msg("%s", e.msg);
    assert_int_equal(back.n, 1);
    assert_int_equal(back.chunks, 2);
    assert_true(back.v[0].k == 3 && back.v[0].rows == 4 && dan_imatrix_mean(&back.v[0], 0) == 2 && dan_imatrix_mean(&back.v[0], 1) == 0.5f && dan_imatrix_mean(&back.v[0], 2) == 0);
    assert_true(dan_gguf_int(g, "imatrix.chunk_size", &size) && size == 2);
    dan_gguf_close(g);
    dan_imatrix_release(&m);
    dan_imatrix_release(&back);
    unlink(path);
}

/* One tensor of four sums, and counts of n matrices (0: none), in a file of the type that is said. */
static int load_made(const char *type, const char *counts, int64_t n, const float *rows, struct dan_imatrix *m, struct dan_err *e)
{
    struct dan_gguf_out *o;
    const float sums[] = {4, 8, 12, 16};
    struct dan_tensor s = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(n ? n : 1, 4 / (n ? n : 1)), (void *)(uintptr_t)sums);
    struct dan_tensor c = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(n ? n : 1, 1), (void *)(uintptr_t)rows);
    const struct dan_gguf_named list[] = {{"w.in_sum2", &s}, {counts, &c}};
    snprintf(path, sizeof path, "/tmp/danlu-imatrix-%d.gguf", (int)getpid());
    assert_int_equal(dan_gguf_out_new(&o, e), 0);
    dan_gguf_out_string(o, "general.type", type, strlen(type));
    if (dan_gguf_out_write(o, path, list, n ? 2 : 1, e)) fail_msg("%s", e->msg);
    dan_gguf_out_free(o);
    int rc = dan_imatrix_load(path, m, e);
    unlink(path);
    return rc;
}

static void test_gguf_foreign(void **state)
{
    (void)state;
    struct dan_imatrix m;
    struct dan_err e = {0};
    if (load_made("imatrix", "w.counts", 2, (const float[]){4, 0}, &m, &e)) fail_msg("%s", e.msg);
    assert_true(m.v[0].k == 4 && dan_imatrix_mean(&m.v[0], 0) == 1 && dan_imatrix_mean(&m.v[0], 1) == 2 && dan_imatrix_mean(&m.v[0], 2) == 1 && dan_imatrix_mean(&m.v[0], 3) == 1);   /* the second never ran */
    dan_imatrix_release(&m);
    const struct { const char *type, *counts; int64_t n; float row; const char *says; } bad[] = {
        {"model", "w.counts", 1, 1, "not an importance matrix"}, {"imatrix", "w.counts", 0, 0, "0 counts"}, {"imatrix", "v.counts", 1, 1, "0 counts"},
        {"imatrix", "w.counts", 1, 1e-40f, "finite"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        e = (struct dan_err){0};
        assert_int_equal(load_made(bad[i].type, bad[i].counts, bad[i].n, &bad[i].row, &m, &e), DAN_EFORMAT);
        if (!strstr(e.msg, bad[i].says)) fail_msg("%zu: %s", i, e.msg);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_round_trip), cmocka_unit_test(test_calls), cmocka_unit_test(test_gguf_round_trip),
                                       cmocka_unit_test(test_gguf_foreign)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
