/* gguf/types.gguf against the Python package gguf: every type of key, every storage format read and written to the bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "base/mem.h"
#include "base/str.h"
#include "io/gguf.h"

struct file { struct dan_gguf *g; struct dan_store *w; };
static struct file f;

static int open_file(void **state)
{
    (void)state;
    struct dan_err e = {0};
    char path[512];
    snprintf(path, sizeof path, "%.*s/gguf/types.gguf", (int)(strrchr(__FILE__, '/') - __FILE__), __FILE__);
    if (dan_gguf_open(path, &f.g, &e)) fail_msg("%s", e.msg);
    return 0;
}

static int close_file(void **state)
{
    (void)state;
    dan_store_free(f.w);
    dan_gguf_close(f.g);
    return 0;
}

static int64_t int_of(const char *key)
{
    int64_t v = 0;
    if (!dan_gguf_int(f.g, key, &v)) fail_msg("no integer '%s'", key);
    return v;
}

static double number_of(const char *key)
{
    double v = 0;
    if (!dan_gguf_number(f.g, key, &v)) fail_msg("no number '%s'", key);
    return v;
}

static void every_type_of_key(void **state)
{
    (void)state;
    assert_int_equal(int_of("k.u8"), 200);
    assert_int_equal(int_of("k.i8"), -100);
    assert_int_equal(int_of("k.u16"), 60000);
    assert_int_equal(int_of("k.i16"), -30000);
    assert_true(int_of("k.u32") == 4000000000);
    assert_true(int_of("k.i32") == -2000000000);
    assert_true(int_of("k.i64") == INT64_MIN / 2);
    assert_int_equal(int_of("k.bool"), 1);
    assert_true(number_of("k.f32") == (double)0.1f && number_of("k.f64") == 0.1);
    assert_true(number_of("k.u64") == 9223372036854775813.0);
    int64_t i;
    struct dan_gguf_text t;
    struct dan_gguf_value v;
    assert_false(dan_gguf_int(f.g, "k.u64", &i));              /* does not fit */
    assert_false(dan_gguf_int(f.g, "k.f32", &i));
    assert_true(dan_gguf_string(f.g, "k.string", &t) && t.n == 12 && !memcmp(t.p, "danlu \xe4\xb8\xb9\xe7\x82\x89", 12));
    assert_true(dan_gguf_find(f.g, "k.ints", &v) && v.n == 3 && dan_gguf_int_at(&v, 1, &i) && i == -2);
    double d;
    assert_true(dan_gguf_find(f.g, "k.floats", &v) && v.n == 2 && dan_gguf_number_at(&v, 1, &d) && d == -1.5);
    assert_true(dan_gguf_find(f.g, "k.bools", &v) && v.of == DAN_GGUF_BOOL && dan_gguf_int_at(&v, 1, &i) && i == 0);
    size_t at = 0;
    assert_true(dan_gguf_find(f.g, "k.strings", &v) && v.n == 3 && dan_gguf_next_string(&v, &at, &t) && dan_gguf_next_string(&v, &at, &t) &&
                dan_gguf_next_string(&v, &at, &t) && t.n == 3);
}

static const struct dan_tensor *tensor(const char *name)
{
    struct dan_err e = {0};
    if (!f.w && dan_gguf_store(f.g, &f.w, &e)) fail_msg("%s", e.msg);
    return dan_store_find(f.w, name);
}

/* NAME.f32 is what gguf.quants makes of NAME. */
static void formats_read_to_the_bit(void **state)
{
    (void)state;
    int seen = 0;
    for (int i = 0; dan_dtypes[i]; i++) {
        const struct dan_dtype *t = dan_dtypes[i];
        struct dan_str name = {0};
        dan_str_printf(&name, "%s.f32", t->name);
        const struct dan_tensor *w = tensor(t->name), *want = tensor(dan_str_c(&name));
        dan_str_release(&name);
        if (t->block > 1 && t->gguf_id >= 0) assert_non_null(w);           /* a new format belongs into the file */
        if (!w) continue;
        assert_ptr_equal(w->dtype, t);
        float got[512];
        assert_int_equal(dan_cols(w), 512);
        t->to_f32(w->data, got, 512);
        for (int k = 0; k < 512; k++)
            if (memcmp(&got[k], (const float *)want->data + k, 4))
                fail_msg("%s: element %d is %.9g, expected %.9g", t->name, k, (double)got[k], (double)((const float *)want->data)[k]);
        seen++;
    }
    assert_int_equal(seen, 13);
}

static void formats_write_to_the_bit(void **state)
{
    (void)state;
    static const char *const names[] = {"q4_0", "q4_1", "q5_0", "q5_1", "q8_0"};
    const struct dan_tensor *x = tensor("x");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct dan_str name = {0};
        dan_str_printf(&name, "x.%s", names[i]);
        const struct dan_tensor *want = tensor(dan_str_c(&name));
        dan_str_release(&name);
        assert_non_null(want);
        char *got = dan_malloc(dan_tensor_bytes(want));
        assert_non_null(got);
        want->dtype->from_f32(x->data, got, dan_shape_count(&x->shape));
        for (size_t k = 0; k < dan_tensor_bytes(want); k++)
            if (got[k] != ((const char *)want->data)[k]) fail_msg("%s: byte %zu (block %zu) differs", names[i], k, k / want->dtype->bytes);
        dan_free(got);
    }
}

static void plain_types(void **state)
{
    (void)state;
    const struct dan_tensor *t = tensor("plain.int64");
    assert_true(t->shape.n == 2 && t->shape.d[0] == 2 && t->shape.d[1] == 3 && ((const int64_t *)t->data)[5] == 2);
    assert_true(((const double *)tensor("plain.float64")->data)[0] == -3);
    assert_true(((const int8_t *)tensor("plain.int8")->data)[0] == -3);
    assert_true(((const int32_t *)tensor("plain.int32")->data)[0] == -3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_type_of_key), cmocka_unit_test(formats_read_to_the_bit),
                                       cmocka_unit_test(formats_write_to_the_bit), cmocka_unit_test(plain_types)};
    return cmocka_run_group_tests(tests, open_file, close_file);
}
