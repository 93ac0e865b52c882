#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "core/tensor.h"

static void shapes(void **state)
{
    (void)state;
    struct dan_shape s = DAN_SHAPE(2, 3, 64), t = DAN_SHAPE(2, 3), none = {0};
    char text[160], tiny[4];
    assert_int_equal(dan_shape_count(&s), 384);
    assert_int_equal(dan_shape_count(&none), 1);
    struct dan_shape large = DAN_SHAPE((int64_t)1 << 24, (int64_t)1 << 24), hollow = DAN_SHAPE(0, (int64_t)1 << 40, (int64_t)1 << 40);
    assert_true(dan_shape_fits(&s) && dan_shape_fits(&none));
    assert_false(dan_shape_fits(&large) || dan_shape_fits(&hollow));
    hollow = DAN_SHAPE(0, 7), large = DAN_SHAPE(-1, 7);
    assert_true(dan_shape_fits(&hollow));
    assert_false(dan_shape_fits(&large));
    assert_true(dan_shape_equal(&s, &s));
    assert_false(dan_shape_equal(&s, &t));
    t = DAN_SHAPE(2, 3, 65);
    assert_false(dan_shape_equal(&s, &t));
    assert_int_equal(dan_shape_text(&s, text, sizeof text), 8);
    assert_string_equal(text, "[2,3,64]");
    dan_shape_text(&none, text, sizeof text);
    assert_string_equal(text, "[]");
    assert_int_equal(dan_shape_text(&s, tiny, sizeof tiny), 8);
    assert_string_equal(tiny, "[2,");
    s = DAN_SHAPE(INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN);
    assert_int_equal(dan_shape_text(&s, text, sizeof text), 6 * 20 + 5 + 2);
}

static void strides_and_rows(void **state)
{
    (void)state;
    char data[1 << 14];
    struct dan_tensor t = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(2, 3, 64), data);
    assert_true(t.stride[0] == 768 && t.stride[1] == 256 && t.stride[2] == 4);
    assert_true(dan_tensor_contiguous(&t));
    assert_int_equal(dan_tensor_bytes(&t), 1536);
    assert_int_equal(dan_rows(&t), 6);
    assert_int_equal(dan_cols(&t), 64);
    for (int r = 0; r < 6; r++) assert_ptr_equal(dan_row(&t, r), data + 256 * r);
    t.shape.d[2] = 32;                                 /* a slice of columns */
    assert_false(dan_tensor_contiguous(&t));
    t.shape.d[0] = t.shape.d[1] = 1;                   /* one row is contiguous whatever its strides */
    assert_true(dan_tensor_contiguous(&t));
    t.shape.d[0] = 0;
    assert_true(dan_tensor_contiguous(&t));
    assert_int_equal(dan_tensor_bytes(&t), 0);
}

static void blocks_and_scalars(void **state)
{
    (void)state;
    struct dan_tensor q = dan_tensor_of(&dan_dtype_q8_0, DAN_SHAPE(5, 64), NULL);
    assert_true(q.stride[0] == 68 && q.stride[1] == 34);
    assert_true(dan_tensor_contiguous(&q));
    assert_int_equal(dan_tensor_bytes(&q), 340);
    float x = 1;
    struct dan_tensor s = dan_tensor_of(&dan_dtype_f32, (struct dan_shape){0}, &x);
    assert_true(dan_tensor_contiguous(&s));
    assert_int_equal(dan_tensor_bytes(&s), 4);
    assert_ptr_equal(dan_row(&s, 0), &x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes),
        cmocka_unit_test(strides_and_rows),
        cmocka_unit_test(blocks_and_scalars),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
