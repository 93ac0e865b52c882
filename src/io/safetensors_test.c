#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/sys.h"
#include "io/safetensors.h"

static char dir[] = "/tmp/danlu-safetensors-XXXXXX";
static char path[256];

static int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(dir)) return -1;
    snprintf(path, sizeof path, "%s/a.safetensors", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    return dan_remove_tree(dir, NULL);
}

static void put_float(struct dan_store *s, const char *name, const struct dan_dtype *t, struct dan_shape shape)
{
    assert_int_equal(dan_store_add(s, name, t, shape, NULL), DAN_OK);
    struct dan_tensor *x = dan_store_find(s, name);
    float v[64];
    struct dan_rng r = {.seed = 7, .stream = dan_rows(x)};
    for (int64_t i = 0; i < dan_rows(x); i++) {
        for (int64_t k = 0; k < dan_cols(x); k++) v[k] = (float)dan_rng_normal(&r);
        t->from_f32(v, dan_row(x, i), dan_cols(x));
    }
}

static struct dan_store *some_store(void)
{
    struct dan_store *s;
    assert_int_equal(dan_store_new(&s, NULL), DAN_OK);
    put_float(s, "zeta", &dan_dtype_f32, DAN_SHAPE(3, 5));
    put_float(s, "half", &dan_dtype_f16, DAN_SHAPE(7));
    put_float(s, "quant", &dan_dtype_q8_0, DAN_SHAPE(3, 64));
    put_float(s, "brain \"q\" \xe4\xb8\xb9", &dan_dtype_bf16, DAN_SHAPE(2, 2, 3));
    put_float(s, "double", &dan_dtype_f64, DAN_SHAPE(2));
    assert_int_equal(dan_store_add(s, "int", &dan_dtype_i32, DAN_SHAPE(4), NULL), DAN_OK);
    assert_int_equal(dan_store_add(s, "empty", &dan_dtype_f32, DAN_SHAPE(0, 4), NULL), DAN_OK);
    assert_int_equal(dan_store_add(s, "scalar", &dan_dtype_f32, (struct dan_shape){0}, NULL), DAN_OK);
    return s;
}

static void assert_same(const struct dan_store *a, const struct dan_store *b)
{
    assert_int_equal(dan_store_count(a), dan_store_count(b));
    for (size_t i = 0; i < dan_store_count(a); i++) {
        const struct dan_tensor *x = dan_store_at(a, i), *y = dan_store_at(b, i);
        assert_string_equal(dan_store_name(a, i), dan_store_name(b, i));
        assert_ptr_equal(x->dtype, y->dtype);
        assert_true(dan_shape_equal(&x->shape, &y->shape));
        assert_int_equal((uintptr_t)y->data % (y->dtype->block == 1 ? y->dtype->bytes : 2), 0);
        assert_memory_equal(x->data, y->data, dan_tensor_bytes(x));
    }
}

static void test_round_trip(void **state)
{
    (void)state;
    struct dan_store *s = some_store(), *t;
    const struct dan_pair meta[] = {{"who", "danlu"}};
    struct dan_err e = {0};
    assert_int_equal(dan_safetensors_save(path, s, meta, 1, &e), DAN_OK);
    assert_int_equal(dan_file_size(path), dan_safetensors_size(s, meta, 1));
    assert_int_equal(dan_safetensors_open(path, &t, &e), DAN_OK);
    assert_same(s, t);
    assert_int_equal((uintptr_t)dan_store_find(t, "zeta")->data % 64, 0);
    char *v;
    assert_int_equal(dan_safetensors_meta(path, "who", &v, &e), DAN_OK);
    assert_string_equal(v, "danlu");
    dan_free(v);
    assert_int_equal(dan_safetensors_meta(path, "whom", &v, &e), DAN_OK);
    assert_null(v);
    dan_store_free(t);
    dan_store_free(s);
}

/* Columns 1..3 of a [3,5] tensor: written as the tensor it is seen as. */
static void test_view(void **state)
{
    (void)state;
    struct dan_store *s = some_store(), *t;
    struct dan_tensor view = *dan_store_find(s, "zeta");
    float *x = view.data;
    view.data = x + 1;
    view.shape.d[1] = 2;
    assert_int_equal(dan_safetensors_save_list(path, &(struct dan_named){"v", &view}, 1, NULL, 0, NULL), DAN_OK);
    assert_int_equal(dan_safetensors_open(path, &t, NULL), DAN_OK);
    const float *y = dan_store_find(t, "v")->data;
    for (int r = 0; r < 3; r++)
        for (int c = 0; c < 2; c++) assert_true(y[2 * r + c] == x[5 * r + 1 + c]);
    dan_store_free(t);
    dan_store_free(s);
}

static void test_restore(void **state)
{
    (void)state;
    struct dan_store *a = some_store(), *b = some_store(), *c;
    struct dan_err e = {0};
    memset(dan_store_find(b, "zeta")->data, 0, 60);
    assert_int_equal(dan_store_restore(b, a, &e), DAN_OK);
    assert_same(a, b);
    assert_int_equal(dan_store_new(&c, NULL), DAN_OK);
    put_float(c, "zeta", &dan_dtype_f32, DAN_SHAPE(3, 6));
    assert_int_equal(dan_store_restore(c, a, &e), DAN_ESHAPE);
    assert_non_null(strstr(e.msg, "zeta"));
    assert_non_null(strstr(e.msg, "[3,6]"));
    dan_store_free(a);
    dan_store_free(b);
    dan_store_free(c);
}

/* ---- files that are not what they should be ---- */

static void write_raw(const char *name, const char *header, size_t n_data)
{
    char buf[4096] = {0};
    size_t n = strlen(header);
    for (int i = 0; i < 8; i++) buf[i] = (char)((uint64_t)n >> (8 * i));
    memcpy(buf + 8, header, n);
    assert_int_equal(dan_write_file(name, buf, 8 + n + n_data, NULL), DAN_OK);
}

static const struct bad { const char *header; size_t n_data; const char *says; } bad[] = {
    {"{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 4, "truncated"},
    {"{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 9, "after its last"},
    {"{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,7]}}", 7, "disagree"},
    {"{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, "data_offsets"},
    {"{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}}", 8, "data_offsets"},
    {"{\"x\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8, "shape"},
    {"{\"x\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0, "shape"},
    {"{\"x\":{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}}", 8, "shape"},
    {"{\"x\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,2],\"data_offsets\":[0,8]}}", 8, "shape"},
    {"{\"x\":{\"dtype\":\"F33\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "F33"},
    {"{\"x\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "dtype"},
    {"{\"x\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2, "U8"},
    {"{\"x\":7}", 0, "dtype"},
    {"{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
     "\"y\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "follow"},
    {"{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
     "\"y\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}", 12, "follow"},
    {"{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
     "\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "JSON"},
    {"{\"x\":{\"dtype\":\"F32\",\"shape\":[[[[1]]]],\"data_offsets\":[0,4]}}", 4, "nested"},
    {"{\"__metadata__\":{\"a\":1}}", 0, "a"},
    {"{\"__metadata__\":{\"danlu.q8_0\":\"x\"}}", 0, "q8_0"},
    {"[1]", 0, "begin"},
    {"{", 0, "begin"},
    {"{\"x\":", 0, "JSON"},
};

static void test_bad_files(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct dan_store *s = NULL;
        struct dan_err e = {0};
        write_raw(path, bad[i].header, bad[i].n_data);
        assert_int_not_equal(dan_safetensors_open(path, &s, &e), DAN_OK);
        assert_null(s);
        if (!strstr(e.msg, bad[i].says) || !strstr(e.msg, path)) fail_msg("case %zu says: %s", i, e.msg);
    }
}

static void test_left_out(void **state)
{
    (void)state;
    struct dan_store *s;
    write_raw(path, "{\"h.0.attn.bias\":{\"dtype\":\"BOOL\",\"shape\":[3],\"data_offsets\":[0,3]},"
              "\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[3,7]}}", 7);
    assert_int_equal(dan_safetensors_open(path, &s, NULL), DAN_OK);
    assert_int_equal(dan_store_count(s), 1);
    dan_store_free(s);
}

static void open_bytes(const char *bytes, size_t n, bool must_fail)
{
    struct dan_store *s = NULL;
    struct dan_err e = {0};
    FILE *f = fopen(path, "wb");            /* no fsync: thousands of files */
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
    int rc = dan_safetensors_open(path, &s, &e);
    if (must_fail) assert_int_not_equal(rc, DAN_OK);
    if (rc) assert_true(e.msg[0] != '\0');
    else dan_store_free(s);
}

/* Every cut is refused; no flipped bit crashes. */
static void test_damage(void **state)
{
    (void)state;
    struct dan_store *s = some_store();
    char *bytes;
    size_t n;
    assert_int_equal(dan_safetensors_save(path, s, NULL, 0, NULL), DAN_OK);
    assert_int_equal(dan_read_file(path, &bytes, &n, NULL), DAN_OK);
    for (size_t cut = 0; cut < n; cut += cut < 16 ? 1 : 64) open_bytes(bytes, cut, true);
    struct dan_rng r = {.seed = 1};
    for (int i = 0; i < 3000; i++) {
        size_t at = (size_t)dan_rng_below(&r, n);
        char bit = (char)(1 << dan_rng_below(&r, 8));
        bytes[at] ^= bit;
        open_bytes(bytes, n, false);
        bytes[at] ^= bit;
    }
    dan_free(bytes);
    dan_store_free(s);
}

/* ---- shards ---- */

static void write_text(const char *name, const char *text)
{
    char p[300];
    snprintf(p, sizeof p, "%s/%s", dir, name);
    assert_int_equal(dan_write_file(p, text, strlen(text), NULL), DAN_OK);
}

static void write_shard(const char *name, const char *tensor)
{
    char p[300], head[200];
    snprintf(p, sizeof p, "%s/%s", dir, name);
    snprintf(head, sizeof head, "{\"%s\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", tensor);
    write_raw(p, head, 4);
}

static void assert_index_says(const char *index, const char *says)
{
    struct dan_store *s = NULL;
    struct dan_err e = {0};
    write_text("model.safetensors.index.json", index);
    int rc = dan_safetensors_open(dir, &s, &e);
    if (says && (!rc || !strstr(e.msg, says))) fail_msg("says: %s", e.msg);
    if (!says) assert_int_equal(rc, DAN_OK);
    if (!says) assert_int_equal(dan_store_count(s), 2);
    dan_store_free(s);
}

static void test_shards(void **state)
{
    (void)state;
    struct dan_store *s = NULL;
    struct dan_err e = {0};
    assert_int_not_equal(dan_safetensors_open(dir, &s, &e), DAN_OK);
    assert_non_null(strstr(e.msg, "model.safetensors.index.json"));
    write_shard("m-1.safetensors", "a");
    write_shard("m-2.safetensors", "b");
    assert_index_says("{\"weight_map\":{\"b\":\"m-2.safetensors\",\"a\":\"m-1.safetensors\"}}", NULL);
    assert_index_says("{\"weight_map\":{\"c\":\"m-2.safetensors\"}}", "'c'");
    assert_index_says("{\"weight_map\":{\"b\":\"../m-2.safetensors\"}}", "beside");
    assert_index_says("{\"weight_map\":{\"b\":\"/etc/passwd\"}}", "beside");
    assert_index_says("{\"weight_map\":{\"b\":3}}", "beside");
    assert_index_says("{\"weight_map\":{\"b\":\"m-3.safetensors\"}}", "m-3");
    assert_index_says("{}", "weight_map");
}

static void test_refuses_to_save(void **state)
{
    (void)state;
    struct dan_store *s = some_store();
    const struct dan_tensor *x = dan_store_find(s, "zeta"), *q = dan_store_find(s, "quant");
    struct dan_err e = {0}, e2 = {0};
    const struct dan_named twice[] = {{"a", x}, {"a", x}}, clash[] = {{"a.scale", x}, {"a", q}};
    unlink(path);
    assert_int_equal(dan_safetensors_save_list(path, twice, 2, NULL, 0, &e), DAN_EINVAL);
    assert_non_null(strstr(e.msg, "'a'"));
    assert_int_equal(dan_safetensors_save_list(path, clash, 2, NULL, 0, &e2), DAN_EINVAL);
    assert_non_null(strstr(e2.msg, "'a.scale'"));
    assert_int_not_equal(dan_safetensors_save_list(path, &(struct dan_named){"\xff", x}, 1, NULL, 0, NULL), DAN_OK);
    assert_int_not_equal(dan_safetensors_save("/nonexistent/x", s, NULL, 0, NULL), DAN_OK);
    assert_false(dan_path_exists(path));
    dan_store_free(s);
}

/* A file made by others: 66 Hadamard matrices, I8. */
static void test_real_file(void **state)
{
    (void)state;
    const char *data = dan_env("DANLU_DATA");
    char p[512];
    struct dan_store *s;
    snprintf(p, sizeof p, "%s/ckpt/hadamards.safetensors", data ? data : "../shared/data");
    if (!dan_path_exists(p)) skip();
    struct dan_err e = {0};
    if (dan_safetensors_open(p, &s, &e)) fail_msg("%s", e.msg);
    assert_int_equal(dan_store_count(s), 66);
    const struct dan_tensor *t = dan_store_find(s, "12");
    const signed char *h = t->data;
    for (int i = 0; i < 12; i++)               /* rows are orthogonal */
        for (int k = 0; k < 12; k++) {
            int sum = 0;
            for (int j = 0; j < 12; j++) sum += h[12 * i + j] * h[12 * k + j];
            assert_int_equal(sum, i == k ? 12 : 0);
        }
    dan_store_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shards), cmocka_unit_test(test_round_trip), cmocka_unit_test(test_view), cmocka_unit_test(test_restore),
        cmocka_unit_test(test_bad_files), cmocka_unit_test(test_left_out), cmocka_unit_test(test_damage),
        cmocka_unit_test(test_refuses_to_save), cmocka_unit_test(test_real_file),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
