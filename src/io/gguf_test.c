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
#include "base/str.h"
#include "io/gguf.h"

static char dir[] = "/tmp/danlu-gguf-XXXXXX";
static char path[256];

static int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(dir)) return -1;
    snprintf(path, sizeof path, "%s/a.gguf", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    return dan_remove_tree(dir, NULL);
}

/* ---- a file made by hand, byte by byte: not by the writer under test ---- */

static void le(struct dan_str *s, uint64_t v, int n)
{
    for (int i = 0; i < n; i++) dan_str_putc(s, (char)(v >> (8 * i)));
}

static void text(struct dan_str *s, const char *t)
{
    le(s, strlen(t), 8);
    dan_str_puts(s, t);
}

static void head(struct dan_str *s, unsigned version, uint64_t tensors, uint64_t keys)
{
    dan_str_puts(s, "GGUF");
    le(s, version, 4);
    le(s, tensors, 8);
    le(s, keys, 8);
}

static void key_u32(struct dan_str *s, const char *key, uint32_t v)
{
    text(s, key);
    le(s, DAN_GGUF_U32, 4);
    le(s, v, 4);
}

static void info(struct dan_str *s, const char *name, int n, uint64_t d0, uint64_t d1, uint32_t type, uint64_t offset)
{
    text(s, name);
    le(s, (uint64_t)n, 4);
    if (n > 0) le(s, d0, 8);
    if (n > 1) le(s, d1, 8);
    le(s, type, 4);
    le(s, offset, 8);
}

static void pad(struct dan_str *s, size_t to)
{
    while (s->n % to) dan_str_putc(s, '\0');
}

static struct dan_gguf *open_bytes(const struct dan_str *s, struct dan_err *e)
{
    struct dan_gguf *g = NULL;
    assert_false(s->failed);
    assert_int_equal(dan_write_file(path, s->p, s->n, NULL), DAN_OK);
    dan_gguf_open(path, &g, e);
    return g;
}

static void refused(struct dan_str *s, const char *why)
{
    struct dan_err e = {0};
    assert_null(open_bytes(s, &e));
    if (!strstr(e.msg, why)) print_error("expected '%s' in: %s\n", why, e.msg);
    assert_non_null(strstr(e.msg, why));
    assert_non_null(strstr(e.msg, "a.gguf"));
    dan_str_release(s);
}

static void by_hand(struct dan_str *s, unsigned version)
{
    head(s, version, 2, 3);
    key_u32(s, "a.u32", 7);
    text(s, "a.list");
    le(s, DAN_GGUF_ARRAY, 4);
    le(s, DAN_GGUF_STRING, 4);
    le(s, 2, 8);
    text(s, "one");
    text(s, "");
    text(s, "a.i8");
    le(s, DAN_GGUF_I8, 4);
    le(s, 0xfe, 1);
    info(s, "b", 1, 3, 0, 0, 32);
    info(s, "m", 2, 3, 2, 0, 0);               /* innermost 3, outermost 2 */
    pad(s, 32);
    for (int i = 0; i < 6; i++) le(s, 0x3f800000u + ((uint64_t)i << 23), 4);
    pad(s, 32);
    for (int i = 0; i < 3; i++) le(s, 0x40000000u, 4);
}

static void test_reads_both_versions(void **state)
{
    (void)state;
    for (unsigned version = 2; version <= 3; version++) {
        struct dan_str s = {0};
        struct dan_err e = {0};
        by_hand(&s, version);
        struct dan_gguf *g = open_bytes(&s, &e);
        assert_non_null(g);
        assert_int_equal(dan_gguf_version(g), version);
        assert_int_equal(dan_gguf_n_keys(g), 3);
        int64_t i;
        assert_true(dan_gguf_int(g, "a.u32", &i) && i == 7);
        assert_true(dan_gguf_int(g, "a.i8", &i) && i == -2);
        assert_false(dan_gguf_int(g, "a.list", &i));
        struct dan_gguf_value v;
        struct dan_gguf_text t;
        size_t at = 0;
        assert_true(dan_gguf_find(g, "a.list", &v) && v.n == 2);
        assert_true(dan_gguf_next_string(&v, &at, &t) && t.n == 3 && !memcmp(t.p, "one", 3));
        assert_true(dan_gguf_next_string(&v, &at, &t) && t.n == 0);
        assert_false(dan_gguf_next_string(&v, &at, &t));
        struct dan_store *w;
        assert_int_equal(dan_gguf_store(g, &w, &e), DAN_OK);
        dan_gguf_close(g);                     /* the store keeps the file */
        const struct dan_tensor *m = dan_store_find(w, "m"), *b = dan_store_find(w, "b");
        assert_true(m->shape.n == 2 && m->shape.d[0] == 2 && m->shape.d[1] == 3);
        assert_true(((float *)dan_row(m, 1))[0] == 8 && ((float *)b->data)[2] == 2);
        dan_store_free(w);
        dan_str_release(&s);
    }
}

/* Every prefix of a good file is refused, and listed as far as it goes. */
static void test_every_truncation(void **state)
{
    (void)state;
    struct dan_str s = {0};
    by_hand(&s, 3);
    for (size_t n = 0; n < s.n; n++) {
        struct dan_gguf *g = NULL;
        struct dan_err e = {0}, f = {0};
        assert_int_equal(dan_write_file(path, s.p, n, NULL), DAN_OK);
        assert_true(dan_gguf_open(path, &g, &e) != DAN_OK);
        assert_true(e.msg[0]);
        dan_gguf_open_damaged(path, &g, &f);
        assert_true(n < 8 ? !g : g != NULL);
        assert_string_equal(e.msg, f.msg);
        if (n == s.n - 1) {
            struct dan_store *w;
            assert_int_equal(dan_gguf_n_tensors(g), 2);
            assert_false(dan_gguf_tensor(g, 0)->whole);
            assert_true(dan_gguf_tensor(g, 1)->whole);
            assert_true(dan_gguf_store(g, &w, NULL) != DAN_OK);
        }
        dan_gguf_close(g);
    }
    dan_str_release(&s);
}

static void test_refuses_heads(void **state)
{
    (void)state;
    struct dan_str s = {0};
    dan_str_puts(&s, "GGUX\3\0\0\0");
    refused(&s, "is no GGUF file");
    head(&s, 1, 0, 0);
    refused(&s, "version 1");
    head(&s, 0x03000000, 0, 0);
    refused(&s, "big-endian");
    head(&s, 4, 0, 0);
    refused(&s, "version 4");
    head(&s, 0, 0, 0);
    refused(&s, "version 0");
    head(&s, 3, 0, UINT64_MAX);
    refused(&s, "18446744073709551615 keys");
    head(&s, 3, UINT64_MAX / 2, 0);
    refused(&s, "tensors (at most");
    head(&s, 3, 0, 1);
    le(&s, UINT64_MAX, 8);                     /* length + position would wrap */
    pad(&s, 64);
    refused(&s, "a key would have 18446744073709551615 bytes");
}

static void test_refuses_keys(void **state)
{
    (void)state;
    struct dan_str s = {0};
    head(&s, 3, 0, 2);
    key_u32(&s, "same", 1);
    key_u32(&s, "same", 2);
    refused(&s, "key 'same' occurs twice");
    head(&s, 3, 0, 1);
    text(&s, "k");
    le(&s, 13, 4);
    pad(&s, 64);
    refused(&s, "type 13");
    head(&s, 3, 0, 1);
    text(&s, "k");
    le(&s, DAN_GGUF_BOOL, 4);
    le(&s, 2, 1);
    refused(&s, "neither 0 nor 1");
    head(&s, 3, 0, 1);
    text(&s, "k");
    le(&s, DAN_GGUF_ARRAY, 4);
    le(&s, DAN_GGUF_ARRAY, 4);
    le(&s, 1, 8);
    pad(&s, 128);
    refused(&s, "array of arrays");
    head(&s, 3, 0, 1);
    text(&s, "k");
    le(&s, DAN_GGUF_ARRAY, 4);
    le(&s, DAN_GGUF_U64, 4);
    le(&s, 0x2000000000000001u, 8);            /* times 8 wraps to 8 */
    pad(&s, 128);
    refused(&s, "do not fit");
    head(&s, 3, 0, 1);
    text(&s, "k");
    le(&s, DAN_GGUF_ARRAY, 4);
    le(&s, DAN_GGUF_STRING, 4);
    le(&s, UINT64_MAX, 8);
    pad(&s, 128);
    refused(&s, "do not fit");
    head(&s, 3, 0, 1);
    text(&s, "a\nb");
    le(&s, DAN_GGUF_U32, 4);
    le(&s, 0, 4);
    refused(&s, "control character");
    static const uint32_t wrong[] = {0, 4, 12, 0x80000000u, 1 << 21};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        head(&s, 3, 0, 1);
        key_u32(&s, "general.alignment", wrong[i]);
        refused(&s, "general.alignment");
    }
}

static void one_tensor(struct dan_str *s, int n, uint64_t d0, uint64_t d1, uint32_t type, uint64_t offset)
{
    head(s, 3, 1, 0);
    info(s, "t", n, d0, d1, type, offset);
    pad(s, 32);
    for (int i = 0; i < 64; i++) dan_str_putc(s, '\0');
}

static void test_refuses_tensors(void **state)
{
    (void)state;
    struct dan_str s = {0};
    one_tensor(&s, 5, 1, 1, 0, 0);
    refused(&s, "5 dimensions");
    one_tensor(&s, 2, UINT64_MAX, 1, 0, 0);
    refused(&s, "overflows");
    one_tensor(&s, 2, (uint64_t)1 << 32, (uint64_t)1 << 32, 0, 0);
    refused(&s, "overflows");
    one_tensor(&s, 2, (uint64_t)1 << 62, 4, 0, 0);
    refused(&s, "overflows");
    one_tensor(&s, 1, 31, 0, 8, 0);
    refused(&s, "blocks of 32");
    one_tensor(&s, 1, 16, 0, 0, 4);
    refused(&s, "multiple of the alignment");
    one_tensor(&s, 1, 16, 0, 0, UINT64_MAX - 31);
    refused(&s, "truncated: tensor 't'");
    one_tensor(&s, 1, 17, 0, 0, 0);
    refused(&s, "truncated: tensor 't'");
    head(&s, 3, 2, 0);
    info(&s, "t", 1, 4, 0, 0, 0);
    info(&s, "t", 1, 4, 0, 0, 32);
    pad(&s, 128);
    refused(&s, "tensor 't' occurs twice");
    head(&s, 3, 2, 0);
    info(&s, "t", 1, 9, 0, 0, 0);
    info(&s, "u", 1, 4, 0, 0, 32);
    pad(&s, 128);
    for (int i = 0; i < 64; i++) dan_str_putc(&s, '\0');
    refused(&s, "'u' overlaps 't'");
}

/* A type that danlu cannot compute with is listed with its size; one that nobody knows, without. */
static void test_lists_all_types(void **state)
{
    (void)state;
    struct dan_str s = {0};
    struct dan_err e = {0};
    struct dan_store *w;
    head(&s, 3, 2, 0);
    info(&s, "iq", 1, 256, 0, 19, 0);
    info(&s, "new", 1, 256, 0, 999, 64);
    pad(&s, 32);
    for (int i = 0; i < 64; i++) dan_str_putc(&s, '\0');
    struct dan_gguf *g = open_bytes(&s, &e);
    assert_non_null(g);
    assert_string_equal(dan_gguf_tensor(g, 0)->type_name, "IQ1_S");
    assert_int_equal(dan_gguf_tensor(g, 0)->bytes, 50);
    assert_null(dan_gguf_tensor(g, 1)->type_name);
    assert_int_equal(dan_gguf_store(g, &w, &e), DAN_EUNSUPPORTED);
    assert_non_null(strstr(e.msg, "IQ1_S"));
    dan_gguf_close(g);
    dan_str_release(&s);
}

static void fill_out(struct dan_gguf_out *o)
{
    static const struct dan_gguf_text list[] = {{"x", 1}, {"", 0}, {"a\0b", 3}};
    dan_gguf_out_string(o, "general.architecture", "llama", 5);
    dan_gguf_out_u32(o, "n", 42);
    dan_gguf_out_f32(o, "eps", 1e-5f);
    dan_gguf_out_bool(o, "yes", true);
    dan_gguf_out_array(o, "ids", DAN_GGUF_I32, (const int32_t[]){1, -2, 3}, 3);
    dan_gguf_out_strings(o, "texts", list, 3);
}

static void test_write_and_read(void **state)
{
    (void)state;
    struct dan_gguf_out *o;
    struct dan_gguf *g;
    struct dan_store *w;
    struct dan_err e = {0};
    float x[6] = {1, 2, 3, 4, 5, 6};
    char q[34] = {1};
    struct dan_tensor a = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(2, 3), x), b = dan_tensor_of(&dan_dtype_q8_0, DAN_SHAPE(1, 32), q);
    const struct dan_gguf_named list[] = {{"a", &a}, {"b", &b}};
    assert_int_equal(dan_gguf_out_new(&o, NULL), DAN_OK);
    fill_out(o);
    assert_int_equal(dan_gguf_out_write(o, path, list, 2, &e), DAN_OK);
    assert_int_equal(dan_file_size(path) % 32, 0);
    assert_int_equal(dan_gguf_open(path, &g, &e), DAN_OK);
    double d;
    struct dan_gguf_value v;
    struct dan_gguf_text t;
    int64_t i;
    assert_true(dan_gguf_number(g, "eps", &d) && (float)d == 1e-5f);
    assert_true(dan_gguf_number(g, "n", &d) && d == 42);
    assert_true(dan_gguf_string(g, "general.architecture", &t) && t.n == 5 && !memcmp(t.p, "llama", 5));
    assert_true(dan_gguf_find(g, "ids", &v) && v.n == 3 && dan_gguf_int_at(&v, 1, &i) && i == -2 && !dan_gguf_int_at(&v, 3, &i));
    assert_true(dan_gguf_int(g, "yes", &i) && i == 1);
    assert_int_equal(dan_gguf_store(g, &w, &e), DAN_OK);
    assert_memory_equal(dan_store_find(w, "a")->data, x, sizeof x);
    assert_memory_equal(dan_store_find(w, "b")->data, q, sizeof q);
    dan_store_free(w);
    dan_gguf_close(g);
    dan_gguf_out_u32(o, "n", 43);
    assert_int_equal(dan_gguf_out_write(o, path, list, 2, &e), DAN_EINVAL);
    assert_non_null(strstr(e.msg, "'n' is written twice"));
    dan_gguf_out_free(o);
}

static void write_shard(int nth, int count, const char *name)
{
    struct dan_gguf_out *o;
    char file[300];
    float x[2] = {(float)nth, 0};
    struct dan_tensor t = dan_tensor_of(&dan_dtype_f32, DAN_SHAPE(2), x);
    snprintf(file, sizeof file, "%s/s-%05d-of-%05d.gguf", dir, nth, count);
    assert_int_equal(dan_gguf_out_new(&o, NULL), DAN_OK);
    dan_gguf_out_array(o, "split.tensors.count", DAN_GGUF_I32, NULL, 0);
    dan_gguf_out_u32(o, "split.count", (uint32_t)count);
    assert_int_equal(dan_gguf_out_write(o, file, &(struct dan_gguf_named){name, &t}, 1, NULL), DAN_OK);
    dan_gguf_out_free(o);
}

static void test_shards(void **state)
{
    (void)state;
    struct dan_gguf *g;
    struct dan_err e = {0};
    char file[300];
    write_shard(1, 2, "a");
    write_shard(2, 2, "b");
    snprintf(file, sizeof file, "%s/s-00002-of-00002.gguf", dir);
    assert_int_equal(dan_gguf_open(file, &g, &e), DAN_OK);
    assert_int_equal(dan_gguf_n_tensors(g), 2);
    assert_non_null(strstr(dan_gguf_tensor_path(g, 1), "s-00002-of"));
    dan_gguf_close(g);
    write_shard(2, 2, "a");
    assert_int_equal(dan_gguf_open(file, &g, &e), DAN_EFORMAT);
    assert_non_null(strstr(e.msg, "occurs twice"));
    e.code = 0;
    char other[300];
    snprintf(other, sizeof other, "%s/renamed.gguf", dir);
    assert_int_equal(rename(file, other), 0);
    assert_int_equal(dan_gguf_open(other, &g, &e), DAN_EFORMAT);
    assert_non_null(strstr(e.msg, "one of 2 files"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_both_versions), cmocka_unit_test(test_every_truncation), cmocka_unit_test(test_refuses_heads),
        cmocka_unit_test(test_refuses_keys), cmocka_unit_test(test_refuses_tensors), cmocka_unit_test(test_lists_all_types),
        cmocka_unit_test(test_write_and_read), cmocka_unit_test(test_shards),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
