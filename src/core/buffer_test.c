#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "core/buffer.h"

static void note_release(struct dan_buffer *b) { ++*(int *)b->ctx; }

static void last_drop_releases(void **state)
{
    (void)state;
    int n_released = 0;
    char data[8];
    struct dan_buffer *b;
    assert_int_equal(dan_buffer_wrap(data, 8, note_release, &n_released, &b, NULL), DAN_OK);
    assert_ptr_equal(dan_buffer_keep(b), b);
    dan_buffer_drop(b);
    assert_int_equal(n_released, 0);
    dan_buffer_drop(b);
    assert_int_equal(n_released, 1);
    dan_buffer_drop(NULL);
}

static void new_is_zeroed_and_aligned(void **state)
{
    (void)state;
    const size_t sizes[] = {0, 1, 100, 65535, 65536, (4 << 20) + 1};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct dan_buffer *b;
        assert_int_equal(dan_buffer_new(sizes[i], &b, NULL), DAN_OK);
        const char *p = b->data;
        assert_int_equal((uintptr_t)p % 64, 0);
        for (size_t k = 0; k < sizes[i]; k++)
            if (p[k]) fail();
        memset(b->data, 1, sizes[i]);
        dan_buffer_drop(b);
    }
    struct dan_err e = {0};
    struct dan_buffer *b;
    assert_int_equal(dan_buffer_new(SIZE_MAX, &b, &e), DAN_ENOMEM);
    assert_non_null(strstr(e.msg, "out of memory"));
}

static void store_keeps_order_and_addresses(void **state)
{
    (void)state;
    struct dan_store *s;
    char name[32];
    assert_int_equal(dan_store_new(&s, NULL), DAN_OK);
    assert_int_equal(dan_store_add(s, "w0", &dan_dtype_f32, DAN_SHAPE(4, 8), NULL), DAN_OK);
    struct dan_tensor *first = dan_store_find(s, "w0");
    for (int i = 1; i < 200; i++) {
        snprintf(name, sizeof name, "w%d", i);
        assert_int_equal(dan_store_add(s, name, &dan_dtype_q8_0, DAN_SHAPE(2, 64), NULL), DAN_OK);
    }
    assert_ptr_equal(dan_store_find(s, "w0"), first);
    assert_int_equal(dan_store_count(s), 200);
    assert_string_equal(dan_store_name(s, 199), "w199");
    assert_ptr_equal(dan_store_at(s, 199), dan_store_find(s, "w199"));
    assert_int_equal(dan_store_bytes(s), 128 + 199 * 136);
    assert_null(dan_store_find(s, "w"));
    dan_store_free(s);
    dan_store_free(NULL);
}

static void put_shares_and_replaces(void **state)
{
    (void)state;
    int n_released = 0;
    float data[4];
    struct dan_buffer *b;
    struct dan_store *s;
    assert_int_equal(dan_store_new(&s, NULL), DAN_OK);
    assert_int_equal(dan_buffer_wrap(data, sizeof data, note_release, &n_released, &b, NULL), DAN_OK);
    struct dan_tensor t = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(4), data);
    assert_int_equal(dan_store_put(s, "a", t, b, NULL), DAN_OK);
    assert_int_equal(dan_store_put(s, "a", t, b, NULL), DAN_OK);       /* the same buffer again */
    assert_int_equal(dan_store_put(s, "tied", t, b, NULL), DAN_OK);
    dan_buffer_drop(b);
    assert_int_equal(dan_store_add(s, "a", &dan_dtype_i64, DAN_SHAPE(3), NULL), DAN_OK);
    assert_int_equal(n_released, 0);
    assert_int_equal(dan_store_count(s), 2);
    assert_ptr_equal(dan_store_at(s, 0)->dtype, &dan_dtype_i64);
    dan_store_free(s);
    assert_int_equal(n_released, 1);
}

/* A joined tensor, its parts, and a second name of one: the memory is there once. */
static void bytes_count_memory_once(void **state)
{
    (void)state;
    float data[12] = {0};
    struct dan_buffer *b;
    struct dan_store *s;
    assert_int_equal(dan_store_new(&s, NULL), DAN_OK);
    assert_int_equal(dan_buffer_wrap(data, sizeof data, NULL, NULL, &b, NULL), DAN_OK);
    assert_int_equal(dan_store_put(s, "a", dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(4), data), b, NULL), DAN_OK);
    assert_int_equal(dan_store_put(s, "b", dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(4), data + 4), b, NULL), DAN_OK);
    assert_int_equal(dan_store_bytes(s), 32);                          /* side by side */
    assert_int_equal(dan_store_put(s, "a+b", dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(2, 4), data), b, NULL), DAN_OK);
    assert_int_equal(dan_store_bytes(s), 32);
    assert_int_equal(dan_store_put(s, "tied", dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(4), data + 8), b, NULL), DAN_OK);
    assert_int_equal(dan_store_put(s, "head", dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(2, 2), data + 8), b, NULL), DAN_OK);
    assert_int_equal(dan_store_bytes(s), 48);
    assert_int_equal(dan_store_add(s, "none", &dan_dtype_f32, DAN_SHAPE(0), NULL), DAN_OK);
    assert_int_equal(dan_store_bytes(s), 48);
    dan_buffer_drop(b);
    dan_store_free(s);
}

static void bad_shapes(void **state)
{
    (void)state;
    struct dan_store *s;
    struct dan_err e = {0};
    assert_int_equal(dan_store_new(&s, NULL), DAN_OK);
    assert_int_equal(dan_store_add(s, "q", &dan_dtype_q8_0, DAN_SHAPE(2, 33), &e), DAN_ESHAPE);
    assert_non_null(strstr(e.msg, "bad shape [2,33] for tensor 'q' of type q8_0"));
    assert_int_equal(dan_store_add(s, "n", &dan_dtype_f32, DAN_SHAPE(-1), NULL), DAN_ESHAPE);
    assert_int_equal(dan_store_add(s, "o", &dan_dtype_f32, DAN_SHAPE(INT64_MAX, 2), NULL), DAN_ESHAPE);
    assert_int_equal(dan_store_add(s, "m", &dan_dtype_i8, DAN_SHAPE((int64_t)1 << 61), NULL), DAN_ENOMEM);
    assert_int_equal(dan_store_count(s), 0);
    dan_store_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(last_drop_releases),
        cmocka_unit_test(new_is_zeroed_and_aligned),
        cmocka_unit_test(store_keeps_order_and_addresses),
        cmocka_unit_test(put_shares_and_replaces),
        cmocka_unit_test(bytes_count_memory_once),
        cmocka_unit_test(bad_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
