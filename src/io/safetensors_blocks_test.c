/* Every block format in a safetensors file: what is written is read back to the byte; what does not fit is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/file.h"
#include "base/rng.h"
#include "base/str.h"
#include "io/safetensors.h"

enum { ROWS = 3, COLS = 512 };

static char dir[] = "/tmp/danlu-blocks-XXXXXX", path[64];

static int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(dir)) return -1;
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    return dan_remove_tree(dir, NULL);
}

/* A tensor of each block format, between plain ones of odd size so that blocks lie at odd addresses too. */
static struct dan_store *one_of_each(void)
{
    struct dan_store *s;
    struct dan_rng r = {9, 0, 0};
    float x[COLS];
    char name[64];
    assert_int_equal(dan_store_new(&s, NULL), DAN_OK);
    for (int k = 0; dan_dtypes[k]; k++) {
        const struct dan_dtype *t = dan_dtypes[k];
        if (t->block == 1) continue;
        assert_int_equal(dan_store_add(s, t->name, t, DAN_SHAPE(ROWS, COLS), NULL), DAN_OK);
        for (int i = 0; i < ROWS; i++) {
            for (int j = 0; j < COLS; j++) x[j] = (float)dan_rng_normal(&r);
            t->from_f32(x, dan_row(dan_store_find(s, t->name), i), COLS);
        }
        snprintf(name, sizeof name, "%s.odd", t->name);
        assert_int_equal(dan_store_add(s, name, &dan_dtype_i8, DAN_SHAPE(1 + k % 3), NULL), DAN_OK);
    }
    return s;
}

static void assert_same(const struct dan_store *a, const struct dan_store *b)
{
    assert_int_equal(dan_store_count(a), dan_store_count(b));
    for (size_t i = 0; i < dan_store_count(a); i++) {
        const struct dan_tensor *x = dan_store_at(a, i), *y = dan_store_find(b, dan_store_name(a, i));
        assert_non_null(y);
        assert_ptr_equal(x->dtype, y->dtype);
        assert_true(dan_shape_equal(&x->shape, &y->shape));
        assert_memory_equal(x->data, y->data, dan_tensor_bytes(x));
        assert_int_equal((uintptr_t)y->data % 2 && y->dtype->block > 1, 0);
    }
}

static void round_trip(void **state)
{
    (void)state;
    struct dan_store *s = one_of_each(), *back = NULL;
    struct dan_err e = {0};
    if (dan_safetensors_save(path, s, NULL, 0, &e) || dan_safetensors_open(path, &back, &e)) fail_msg("%s", e.msg);
    assert_same(s, back);
    assert_true(dan_safetensors_size(s, NULL, 0) == dan_file_size(path));
    dan_store_free(back);
    dan_store_free(s);
}

static void round_trip_in_shards(void **state)
{
    (void)state;
    struct dan_store *s = one_of_each(), *back = NULL;
    struct dan_named list[128];
    struct dan_err e = {0};
    size_t n = dan_store_count(s);
    assert_true(n < 128);
    for (size_t i = 0; i < n; i++) list[i] = (struct dan_named){dan_store_name(s, i), dan_store_at(s, i)};
    if (dan_safetensors_save_dir(dir, list, n, 2000, &e) || dan_safetensors_open(dir, &back, &e)) fail_msg("%s", e.msg);
    assert_same(s, back);
    dan_store_free(back);
    dan_store_free(s);
}

static void write_file(const char *head, size_t bytes)
{
    struct dan_str s = {0};
    uint64_t n = strlen(head);
    for (int i = 0; i < 8; i++) dan_str_putc(&s, (char)(n >> (8 * i)));
    dan_str_append(&s, head, n);
    for (size_t i = 0; i < bytes; i++) dan_str_putc(&s, 0);
    assert_int_equal(dan_write_file(path, s.p, s.n, NULL), DAN_OK);
    dan_str_release(&s);
}

static void what_does_not_fit_is_refused(void **state)
{
    static const struct { const char *head; size_t bytes; const char *says; } bad[] = {
        {"{\"__metadata__\":{\"danlu.q4_k\":\"x\"}}", 0, "q4_k"},
        {"{\"__metadata__\":{\"danlu.q4_k\":\"x\"},\"x\":{\"dtype\":\"U8\",\"shape\":[143],\"data_offsets\":[0,143]}}", 143, "144"},
        {"{\"__metadata__\":{\"danlu.nf4\":\"x\"},\"x\":{\"dtype\":\"I8\",\"shape\":[36],\"data_offsets\":[0,36]}}", 36, "U8"},
        {"{\"__metadata__\":{\"danlu.nf4\":\"x\"},\"x\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", 1, "nf4"},
        {"{\"x\":{\"dtype\":\"U8\",\"shape\":[144],\"data_offsets\":[0,144]}}", 144, "U8"},
        {"{\"__metadata__\":{\"danlu.q9_9\":\"x\"},\"x\":{\"dtype\":\"U8\",\"shape\":[144],\"data_offsets\":[0,144]}}", 144, "U8"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct dan_store *s = NULL;
        struct dan_err e = {0};
        write_file(bad[i].head, bad[i].bytes);
        assert_int_not_equal(dan_safetensors_open(path, &s, &e), DAN_OK);
        if (!strstr(e.msg, bad[i].says)) fail_msg("%s", e.msg);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(round_trip), cmocka_unit_test(round_trip_in_shards), cmocka_unit_test(what_does_not_fit_is_refused)};
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
