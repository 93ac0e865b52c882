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
#include "io/checkpoint.h"

static char dir[] = "/tmp/danlu-checkpoint-XXXXXX";

static int make_dir(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    (void)state;
    return dan_remove_tree(dir, NULL);
}

static char *in_dir(const char *name)
{
    static char p[400];
    snprintf(p, sizeof p, "%s/%s", dir, name);
    return p;
}

static struct dan_store *store_of(float x)
{
    struct dan_store *s;
    assert_int_equal(dan_store_new(&s, NULL), DAN_OK);
    assert_int_equal(dan_store_add(s, "w", &dan_dtype_f32, DAN_SHAPE(4, 4), NULL), DAN_OK);
    ((float *)dan_store_find(s, "w")->data)[5] = x;
    return s;
}

static void save(int64_t step)
{
    struct dan_store *s = store_of((float)step);
    struct dan_str path = {0};
    struct dan_err e = {0};
    char state[64];
    dan_checkpoint_path(dir, step, &path);
    snprintf(state, sizeof state, "{\"step\": %lld}", (long long)step);
    if (dan_checkpoint_save(path.p, s, state, &e)) fail_msg("%s", e.msg);
    dan_str_release(&path);
    dan_store_free(s);
}

static void assert_loads(const char *path, float x, const char *state)
{
    struct dan_store *s;
    struct dan_err e = {0};
    char *text;
    if (dan_checkpoint_load(path, &s, &text, &e)) fail_msg("%s", e.msg);
    assert_true(((float *)dan_store_find(s, "w")->data)[5] == x);
    assert_string_equal(text, state);
    dan_free(text);
    dan_store_free(s);
}

static void assert_latest(const char *ends, int n_skipped)
{
    struct dan_str path = {0}, skipped = {0};
    struct dan_err e = {0};
    int lines = 0;
    if (dan_checkpoint_latest(dir, &path, &skipped, &e)) fail_msg("%s", e.msg);
    if (!dan_str_ends(dan_str_c(&path), ends)) fail_msg("found %s", dan_str_c(&path));
    for (const char *p = dan_str_c(&skipped); *p; p++) lines += *p == '\n';
    assert_int_equal(lines, n_skipped);
    dan_str_release(&path);
    dan_str_release(&skipped);
}

static void test_save_load(void **state)
{
    (void)state;
    assert_latest("", 0);
    save(9);
    save(1000000);                             /* sorts before step-000009 as text */
    assert_latest("checkpoints/step-1000000", 0);
    assert_loads(in_dir("checkpoints/step-000009"), 9, "{\"step\": 9}");
    save(9);                                   /* replaces */
    assert_loads(in_dir("checkpoints/step-000009/"), 9, "{\"step\": 9}");
    struct dan_err e = {0};
    struct dan_store *s = store_of(1);
    assert_int_equal(dan_checkpoint_save(in_dir("checkpoints/step-000010"), s, "{\"step\":", &e), DAN_EFORMAT);
    assert_false(dan_path_exists(in_dir("checkpoints/step-000010")));
    dan_store_free(s);
}

static void test_prune(void **state)
{
    (void)state;
    for (int i = 1; i <= 5; i++) save(i);
    assert_int_equal(dan_mkdirs(in_dir("checkpoints/.tmp-step-000006-1"), NULL), DAN_OK);
    assert_int_equal(dan_checkpoint_prune(dir, 2, NULL), DAN_OK);
    char **names;
    size_t n;
    assert_int_equal(dan_list_dir(in_dir("checkpoints"), &names, &n, NULL), DAN_OK);
    assert_int_equal(n, 2);
    assert_string_equal(names[0], "step-000009");
    assert_string_equal(names[1], "step-1000000");
    dan_free_list(names, n);
    assert_int_equal(dan_checkpoint_prune("/nonexistent", 2, NULL), DAN_OK);
}

/* Writes the bytes of a file anew with one change, checks what load says, and puts them back. */
static void damage(const char *name, const char *says, void (*change)(char *bytes, size_t *n, size_t at), size_t at)
{
    char p[400];
    snprintf(p, sizeof p, "%s", in_dir(name));
    char *bytes, *text;
    size_t n, m;
    struct dan_store *s;
    struct dan_err e = {0};
    assert_int_equal(dan_read_file(p, &bytes, &n, NULL), DAN_OK);
    char *copy = dan_malloc(n);
    memcpy(copy, bytes, m = n);
    change(copy, &m, at % n);
    assert_int_equal(dan_write_file(p, copy, m, NULL), DAN_OK);
    if (!dan_checkpoint_load(in_dir("checkpoints/step-1000000"), &s, &text, &e))
        fail_msg("'%s' loaded though changed at %zu", name, at % n);
    if (!strstr(e.msg, says)) fail_msg("says: %s", e.msg);
    assert_int_equal(dan_write_file(p, bytes, n, NULL), DAN_OK);
    dan_free(bytes);
    dan_free(copy);
}

static void cut(char *bytes, size_t *n, size_t at) { (void)bytes; *n = at; }
static void flip(char *bytes, size_t *n, size_t at) { (void)n; bytes[at] ^= 0x10; }

static void test_damage(void **state)
{
    (void)state;
    const char *tensors = "checkpoints/step-1000000/tensors.safetensors";
    struct dan_rng r = {.seed = 3};
    for (size_t at = 0; at < 320; at += 64) damage(tensors, "expected", cut, at);
    for (int i = 0; i < 50; i++) damage(tensors, "checksum", flip, dan_rng_below(&r, 1000));
    for (int i = 0; i < 20; i++) damage("checkpoints/step-1000000/state.json", "checksum", flip, dan_rng_below(&r, 1000));
    for (size_t at = 0; at < 200; at += 7) damage("checkpoints/step-1000000/manifest.json", "", cut, at);
    assert_loads(in_dir("checkpoints/step-1000000"), 1000000, "{\"step\": 1000000}");
}

static void test_latest_skips(void **state)
{
    (void)state;
    unlink(in_dir("checkpoints/step-1000000/state.json"));
    assert_latest("step-000009", 1);
    assert_int_equal(dan_write_file(in_dir("checkpoints/step-000009/tensors.safetensors"), "x", 1, NULL), DAN_OK);
    struct dan_str path = {0};
    struct dan_err e = {0};
    assert_int_equal(dan_checkpoint_latest(dir, &path, NULL, &e), DAN_EFORMAT);
    assert_non_null(strstr(e.msg, "all 2 checkpoints"));
    assert_int_equal(path.n, 0);
    dan_str_release(&path);
}

/* The temporary directory goes, what was there stays. */
static void test_failed_save(void **state)
{
    (void)state;
    struct dan_store *s = store_of(1);
    struct dan_err e = {0};
    assert_int_equal(dan_store_add(s, "w.bad", &dan_dtype_f32, DAN_SHAPE(1), NULL), DAN_OK);
    dan_store_find(s, "w.bad")->dtype = &(const struct dan_dtype){.name = "odd", .block = 1, .bytes = 4};
    assert_int_not_equal(dan_checkpoint_save(in_dir("checkpoints/step-000011"), s, "{}", &e), DAN_OK);
    assert_non_null(strstr(e.msg, "older checkpoints are intact"));
    assert_non_null(strstr(e.msg, "w.bad"));
    char **names;
    size_t n;
    assert_int_equal(dan_list_dir(in_dir("checkpoints"), &names, &n, NULL), DAN_OK);
    assert_int_equal(n, 2);
    dan_free_list(names, n);
    dan_store_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_save_load), cmocka_unit_test(test_prune), cmocka_unit_test(test_damage),
        cmocka_unit_test(test_latest_skips), cmocka_unit_test(test_failed_save),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
