#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "base/map.h"

static void grows_and_keeps_the_order(void **state)
{
    (void)state;
    enum { N = 20000 };
    struct dan_map *m = dan_map_new();
    char key[32];
    const char *first = NULL;
    for (int i = 0; i < N; i++) {
        int n = snprintf(key, sizeof key, "token-%d", i * 7919);
        assert_int_equal(dan_map_put(m, key, (size_t)n, i), 0);
        if (i == 0) dan_map_at(m, 0, &first, NULL, NULL);
    }
    assert_int_equal(dan_map_count(m), N);
    assert_string_equal(first, "token-0");              /* keys do not move and are terminated */
    for (int i = 0; i < N; i++) {
        int n = snprintf(key, sizeof key, "token-%d", i * 7919);
        int64_t v = -1;
        assert_true(dan_map_get(m, key, (size_t)n, &v));
        assert_int_equal(v, i);
        const char *k;
        size_t kn;
        dan_map_at(m, (size_t)i, &k, &kn, &v);
        assert_int_equal(kn, n);
        assert_memory_equal(k, key, kn);
        assert_int_equal(v, i);
    }
    assert_false(dan_map_get(m, "token-1", 7, NULL));
    dan_map_free(m);
}

static void keys_are_bytes(void **state)
{
    (void)state;
    struct dan_map *m = dan_map_new();
    assert_int_equal(dan_map_put(m, "", 0, 1), 0);
    assert_int_equal(dan_map_put(m, "\0", 1, 2), 0);
    assert_int_equal(dan_map_put(m, "\0\0", 2, 3), 0);
    assert_int_equal(dan_map_put(m, "\0", 1, 4), 0);            /* replaces */
    int64_t v;
    assert_true(dan_map_get(m, "", 0, &v) && v == 1);
    assert_true(dan_map_get(m, "\0", 1, &v) && v == 4);
    assert_true(dan_map_get(m, "\0\0", 2, &v) && v == 3);
    assert_int_equal(dan_map_count(m), 3);
    char big[9000];
    memset(big, 'x', sizeof big);
    ++*dan_map_slot(m, big, sizeof big);
    ++*dan_map_slot(m, big, sizeof big);
    assert_true(dan_map_get(m, big, sizeof big, &v) && v == 2);
    dan_map_free(m);
    dan_map_free(NULL);
}

/* The values are part of file formats that store hashes: they must never change. */
static void hash_is_stable_and_mixes(void **state)
{
    (void)state;
    assert_int_equal(dan_hash("", 0, 0), 0x2cc9d3b461da234b);
    static const uint64_t of[] = {0xa08f62b7ac6d79fb, 0xe504cd99efd962ec, 0x59433115635bf114, 0x7bd7d6dc72c50cf3,
                                  0xb4741a61fae0dd5e, 0xaca6c2680a48bcfb, 0x1d3ad2c43fc71c6e, 0x862cecc6841a19d9};
    for (size_t n = 1; n <= 8; n++) assert_int_equal(dan_hash("the quick brown fox jumps", n, 0), of[n - 1]);
    assert_int_equal(dan_hash("the quick brown fox jumps", 25, 1), 0x7f08ea4b2a7bb495);
    int flips = 0;
    for (int bit = 0; bit < 200; bit++) {
        char a[] = "the quick brown fox jumps", b[25];
        memcpy(b, a, 25);
        b[bit / 8] = (char)(b[bit / 8] ^ 1 << bit % 8);
        flips += __builtin_popcountll(dan_hash(a, 25, 0) ^ dan_hash(b, 25, 0));
    }
    assert_in_range(flips, 200 * 30, 200 * 34);                /* 32 of 64 bits on average */
}

static void many_at_once(void **state)
{
    (void)state;
    struct dan_map *m = dan_map_new();
    struct dan_map_ask ask[101];
    char key[101][8];
    assert_non_null(m);
    dan_map_get_many(m, ask, 0);
    assert_int_equal(dan_map_reserve(m, 100), 0);
    for (int i = 0; i < 101; i++) {
        size_t n = (size_t)snprintf(key[i], sizeof key[i], "%d", i * i);
        if (i % 2 == 0) assert_int_equal(dan_map_put(m, key[i], n, i), 0);
        ask[i] = (struct dan_map_ask){.key = key[i], .n = n, .value = 7};
    }
    assert_int_equal(dan_map_reserve(m, 3), 0);
    dan_map_get_many(m, ask, 101);
    for (int i = 0; i < 101; i++) {
        assert_int_equal(ask[i].found, i % 2 == 0);
        assert_int_equal(ask[i].value, i % 2 == 0 ? i : 0);
    }
    dan_map_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grows_and_keeps_the_order),
        cmocka_unit_test(keys_are_bytes),
        cmocka_unit_test(many_at_once),
        cmocka_unit_test(hash_is_stable_and_mixes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
