/* Merges against the obvious algorithm, which counts all pairs anew for every merge; counts beyond 32 bits. */
#include "text/learn.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/rng.h"

enum { WORDS = 60, LONGEST = 12, MERGES = 40, MOST = 200 };

struct naive { int32_t sym[WORDS][LONGEST]; size_t n[WORDS]; int64_t weight[WORDS]; char text[MOST][64]; size_t n_sym; };

static int64_t count_pair(const struct naive *v, int32_t a, int32_t b)
{
    int64_t c = 0;
    for (size_t w = 0; w < WORDS; w++)
        for (size_t i = 1; i < v->n[w]; i++) c += v->sym[w][i - 1] == a && v->sym[w][i] == b ? v->weight[w] : 0;
    return c;
}

static size_t strip_of(const char *strip, const char *text) { return strip && strncmp(text, strip, strlen(strip)) == 0 ? strlen(strip) : 0; }

/* The text of a pair; its length in characters as symbols count them. */
static void join(const struct naive *v, const char *strip, int32_t a, int32_t b, char *to, size_t cap)
{
    snprintf(to, cap, "%s%s", v->text[a], v->text[b] + strip_of(strip, v->text[b]));
}

static bool better(const struct naive *v, bool by_text, int64_t c, int32_t a, int32_t b, int64_t best, int32_t x, int32_t y)
{
    char p[128], q[128];
    if (c != best || x < 0) return c > best;
    if (!by_text) return a != x ? a < x : b < y;
    join(v, NULL, a, b, p, sizeof p);
    join(v, NULL, x, y, q, sizeof q);
    if (strlen(p) != strlen(q)) return strlen(p) < strlen(q);
    int k = strcmp(p, q);
    return k ? k < 0 : a != x ? a < x : b < y;
}

static void replace(struct naive *v, int32_t a, int32_t b, int32_t c)
{
    for (size_t w = 0; w < WORDS; w++) {
        size_t m = 0;
        for (size_t i = 0; i < v->n[w]; i++) {
            bool here = i + 1 < v->n[w] && v->sym[w][i] == a && v->sym[w][i + 1] == b;
            v->sym[w][m++] = here ? c : v->sym[w][i];
            i += here;
        }
        v->n[w] = m;
    }
}

static int32_t symbol(struct naive *v, const char *text, bool again)
{
    for (size_t i = 0; i < v->n_sym && !again; i++)
        if (strcmp(v->text[i], text) == 0) return (int32_t)i;
    snprintf(v->text[v->n_sym], sizeof v->text[0], "%s", text);
    return (int32_t)v->n_sym++;
}

static void fill(struct naive *v, struct dan_learner *l, uint64_t seed, const char *strip)
{
    struct dan_err e = {0};
    struct dan_rng g = {.seed = seed};
    for (size_t w = 0; w < WORDS; w++) {
        v->n[w] = 1 + dan_rng_below(&g, LONGEST);
        v->weight[w] = 1 + (int64_t)dan_rng_below(&g, 20);
        for (size_t i = 0; i < v->n[w]; i++) {
            char text[8];
            snprintf(text, sizeof text, "%s%c", strip && i ? strip : "", (char)('a' + dan_rng_below(&g, 4)));
            v->sym[w][i] = symbol(v, text, false);
            assert_int_equal(dan_learner_symbol(l, text, strlen(text)), v->sym[w][i]);
        }
        assert_int_equal(dan_learner_word(l, v->sym[w], v->n[w], v->weight[w], &e), 0);
    }
}

static void run(struct naive *v, struct dan_learner *l, const char *strip)
{
    struct dan_tok_train_opts o = {0};
    struct dan_tok_train_stats s = {0};
    struct dan_err e = {0};
    assert_int_equal(dan_learner_run(l, l->n_text + MERGES, 2, &o, &s, &e), 0);
    assert_true(l->n_merge >= MERGES);
    for (size_t k = 0; k < l->n_merge; k++) {
        int64_t best = 0;
        int32_t x = -1, y = -1;
        for (int32_t a = 0; a < (int32_t)v->n_sym; a++)
            for (int32_t b = 0; b < (int32_t)v->n_sym; b++) {
                int64_t c = count_pair(v, a, b);
                if (c && better(v, l->by_text, c, a, b, best, x, y)) best = c, x = a, y = b;
            }
        assert_int_equal(l->merge[2 * k], x);
        assert_int_equal(l->merge[2 * k + 1], y);
        char text[64];
        join(v, strip, x, y, text, sizeof text);
        int32_t made = symbol(v, text, l->by_text);
        assert_int_equal(l->made[k], made);
        replace(v, x, y, made);
    }
}

static void test_naive(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct naive *v = calloc(1, sizeof *v);
        struct dan_learner l = {.by_text = seed % 3 == 1, .strip = seed % 3 == 2 ? "##" : NULL};
        fill(v, &l, seed, l.strip);
        run(v, &l, l.strip);
        dan_learner_release(&l);
        free(v);
    }
}

/* 3 * 2^40 uses of "ab" against 2^41 of "cd": in 32 bits both would be 0. */
static void test_large_counts(void **state)
{
    (void)state;
    struct dan_learner l = {0};
    struct dan_tok_train_opts o = {0};
    struct dan_tok_train_stats s = {0};
    struct dan_err e = {0};
    int32_t sym[4];
    for (int i = 0; i < 4; i++) sym[i] = dan_learner_symbol(&l, &"cdab"[i], 1);
    assert_int_equal(dan_learner_word(&l, sym, 2, INT64_C(1) << 41, &e), 0);
    assert_int_equal(dan_learner_word(&l, sym + 2, 2, INT64_C(3) << 40, &e), 0);
    assert_int_equal(dan_learner_run(&l, 5, 2, &o, &s, &e), 0);
    assert_int_equal(l.merge[0], sym[2]);
    assert_int_equal(s.last_count, INT64_C(3) << 40);
    dan_learner_release(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_naive), cmocka_unit_test(test_large_counts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
