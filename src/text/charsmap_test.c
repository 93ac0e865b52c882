/* Tries and normalisation maps by hand: what is found, how far, and that nothing outside a blob is read. */
#include "text/charsmap.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "base/rng.h"
#include "text/trie.h"

static void ok(int r, const struct dan_err *e)
{
    if (r) fail_msg("%d: %s", r, e->msg);
}

/* --- tries */

static void test_trie(void **state)
{
    (void)state;
    struct dan_trie t;
    struct dan_err e = {0};
    int32_t value = -1;
    struct dan_trie_key key[] = {{"b", 1, 4}, {"abc", 3, 1}, {"a", 1, 0}, {"", 0, 9}, {"ab\0x", 4, 3}, {"abc", 3, 2}};
    ok(dan_trie_build(&t, key, sizeof key / sizeof *key, &e), &e);
    assert_int_equal(dan_trie_find(&t, "a", 1), 0);
    assert_int_equal(dan_trie_find(&t, "ab", 2), -1);
    assert_int_equal(dan_trie_find(&t, "abc", 3), 2);
    assert_int_equal(dan_trie_find(&t, "ab\0x", 4), 3);
    assert_int_equal(dan_trie_find(&t, "", 0), -1);
    assert_int_equal(dan_trie_longest(&t, "abcd", 4, &value), 3);
    assert_int_equal(value, 2);
    assert_int_equal(dan_trie_longest(&t, "abd", 3, &value), 1);
    assert_int_equal(dan_trie_longest(&t, "xb", 2, &value), 0);
    dan_trie_release(&t);
    ok(dan_trie_build(&t, NULL, 0, &e), &e);
    for (int c = 0; c < 256; c++) {
        char byte = (char)c;
        assert_int_equal(dan_trie_find(&t, &byte, 1), -1);
    }
    dan_trie_release(&t);
    key[0].value = DAN_TRIE_MOST + 1;
    assert_int_equal(dan_trie_build(&t, key, 1, &e), DAN_EUNSUPPORTED);
}

/* Random strings over few bytes: each is found, and what was not put in is not. */
static void test_many(void **state)
{
    (void)state;
    enum { N = 20000, LONG = 8 };
    static char text[N][LONG];
    static struct dan_trie_key key[N];
    struct dan_rng r = {3, 0, 0};
    struct dan_trie t;
    struct dan_err e = {0};
    for (int i = 0; i < N; i++) {
        size_t n = 1 + dan_rng_below(&r, LONG);
        for (size_t k = 0; k < n; k++) text[i][k] = (char)(dan_rng_below(&r, 7) * 41);
        key[i] = (struct dan_trie_key){text[i], n, i};
    }
    ok(dan_trie_build(&t, key, N, &e), &e);    /* sorts: equal ones stand together, the highest value last */
    for (int i = 0; i < N; i++) {
        bool same_next = i + 1 < N && key[i].n == key[i + 1].n && memcmp(key[i].p, key[i + 1].p, key[i].n) == 0;
        int32_t found = dan_trie_find(&t, key[i].p, key[i].n);
        if (same_next) assert_true(found > key[i].value);
        else assert_int_equal(found, key[i].value);
        char other[LONG + 1];
        memcpy(other, key[i].p, key[i].n);
        other[key[i].n] = 1;
        assert_int_equal(dan_trie_find(&t, other, key[i].n + 1), -1);
    }
    assert_true(t.n % 256 == 0);
    dan_trie_release(&t);
}

/* --- maps.  "a" -> "X", "ab" -> "YZ", "b" -> "", as Darts-clone would lay them out: one block of 256 units. */

enum { BLOCK = 256, OFFSET = 0x60, A = OFFSET ^ 'a', B = OFFSET ^ 'b', A_KIDS = 0x80, B_KIDS = 0xC0 };

static uint32_t unit(uint32_t offset, unsigned char label, bool value) { return offset << 10 | (uint32_t)value << 8 | label; }

static size_t blob(unsigned char *out)
{
    static const char text[] = "X\0YZ\0";      /* X at 0, YZ at 2, "" at 4 */
    uint32_t u[BLOCK] = {0};
    u[0] = unit(OFFSET, 0, false);
    u[A] = unit(A ^ A_KIDS, 'a', true);
    u[A_KIDS] = UINT32_C(1) << 31 | 0;
    u[A_KIDS ^ 'b'] = unit(A_KIDS ^ 'b' ^ 0xF0, 'b', true);
    u[0xF0] = UINT32_C(1) << 31 | 2;
    u[B] = unit(B ^ B_KIDS, 'b', true);
    u[B_KIDS] = UINT32_C(1) << 31 | 4;
    for (int i = 0; i < BLOCK; i++)
        for (int k = 0; k < 4; k++) out[4 + 4 * i + k] = (unsigned char)(u[i] >> 8 * k);
    for (int k = 0; k < 4; k++) out[k] = (unsigned char)(4 * BLOCK >> 8 * k);
    memcpy(out + 4 + 4 * BLOCK, text, sizeof text - 1);
    return 4 + 4 * BLOCK + sizeof text - 1;
}

static struct dan_charsmap *map_of(const void *p, size_t n)
{
    struct dan_charsmap *m = NULL;
    struct dan_err e = {0};
    ok(dan_charsmap_new(p, n, &m, &e), &e);
    return m;
}

static void expect(const struct dan_charsmap *m, const char *p, size_t len, const char *want)
{
    const char *to = NULL;
    size_t to_n = 0;
    assert_int_equal(dan_charsmap_longest(m, p, strlen(p), &to, &to_n), len);
    if (!len) return;
    assert_int_equal(to_n, strlen(want));
    assert_memory_equal(to, want, to_n);
}

static void test_longest(void **state)
{
    (void)state;
    unsigned char bytes[4 + 4 * BLOCK + 16];
    struct dan_charsmap *m = map_of(bytes, blob(bytes)), *none = map_of("", 0);
    expect(m, "a", 1, "X");
    expect(m, "abc", 2, "YZ");
    expect(m, "ac", 1, "X");
    expect(m, "b", 1, "");
    expect(m, "c", 0, "");
    expect(m, "", 0, "");
    expect(none, "a", 0, "");
    expect(NULL, "a", 0, "");
    assert_false(dan_charsmap_plain(m)['a']);
    assert_true(dan_charsmap_plain(m)['c'] && dan_charsmap_plain(none)['a']);
    assert_false(dan_charsmap_plain(m)[200]);
    dan_charsmap_free(m);
    dan_charsmap_free(none);
}

/* By clusters, the shortest entry: "ab" is two clusters; "a" with an accent is one, and all of it becomes X. */
static void test_walk(void **state)
{
    (void)state;
    static const struct dan_charsmap_part want[] = {{1, "X", 1, false}, {1, "", 0, false}, {1, "c", 1, true}, {3, "X", 1, false},
                                                    {1, "X", 1, false}, {2, "\xcc\x81", 2, true}, {2, "\xcc\x81", 2, true},
                                                    {2, "\xcc\x81", 2, true}, {1, "\xff", 1, true}};
    static const char text[] = "abca\xcc\x81" "a\xcc\x81\xcc\x81\xcc\x81\xff";
    unsigned char bytes[4 + 4 * BLOCK + 16];
    struct dan_charsmap *m = map_of(bytes, blob(bytes));
    struct dan_charsmap_walk w = {.m = m, .p = text, .n = sizeof text - 1};
    struct dan_charsmap_part part;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        assert_true(dan_charsmap_next(&w, &part));
        assert_int_equal(part.n, want[i].n);
        assert_int_equal(part.to_n, want[i].to_n);
        assert_memory_equal(part.to, want[i].to, part.to_n);
        assert_int_equal(part.same, want[i].same);
    }
    assert_false(dan_charsmap_next(&w, &part));
    dan_charsmap_free(m);
}

/* Any blob either is refused or can be walked. */
static void test_damage(void **state)
{
    (void)state;
    unsigned char bytes[4 + 4 * BLOCK + 16];
    size_t n = blob(bytes);
    struct dan_rng r = {5, 0, 0};
    struct dan_charsmap *m;
    struct dan_err e = {0};
    const char *to;
    size_t to_n;
    for (size_t k = 1; k < 4 + 4 * BLOCK; k += 7) assert_int_equal(dan_charsmap_new(bytes, k, &m, &e), DAN_EFORMAT);
    for (int i = 0; i < 4000; i++) {
        blob(bytes);
        for (int k = 0; k < 8; k++) bytes[4 + dan_rng_below(&r, n - 4)] = (unsigned char)dan_rng_u32(&r);
        if (dan_charsmap_new(bytes, n, &m, &e)) continue;
        for (int c = 0; c < 256; c++) {
            char text[3] = {(char)c, 'b', 'a'};
            if (dan_charsmap_longest(m, text, 3, &to, &to_n)) assert_in_range(to_n, 0, n);
        }
        dan_charsmap_free(m);
    }
    char *big = dan_calloc(1, 4 + 4 * BLOCK + 2000);
    assert_non_null(big);
    memcpy(big, bytes, 4);
    memset(big + 4 + 4 * BLOCK, 'x', 1999);
    e = (struct dan_err){0};
    assert_int_equal(dan_charsmap_new(big, 4 + 4 * BLOCK + 2000, &m, &e), DAN_EFORMAT);
    assert_non_null(strstr(e.msg, "1024"));
    dan_free(big);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_trie), cmocka_unit_test(test_many), cmocka_unit_test(test_longest),
                                       cmocka_unit_test(test_walk), cmocka_unit_test(test_damage)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
