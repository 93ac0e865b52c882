/* The merging of long runs against the definition, written down: the leftmost pair of lowest rank becomes one token, again and again.
 * Random merges over small alphabets, so that ranks collide, runs overlap and merges make pairs of lower rank than their own. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>
#include "base/mem.h"
#include "base/rng.h"
#include "text/impl.h"

enum { MOST_TOKENS = 700, TOKEN_BYTES = 24, MOST_TEXT = 4000 };

struct made {
    char text[MOST_TOKENS][TOKEN_BYTES];
    struct dan_tok_entry entry[MOST_TOKENS];
    size_t n, n_merges;
};

static int32_t find(const struct made *m, const char *p, size_t n)
{
    for (size_t i = 0; i < m->n; i++)
        if (m->entry[i].n == n && memcmp(m->text[i], p, n) == 0) return (int32_t)i;
    return -1;
}

static void put(struct made *m, const char *p, size_t n)
{
    memcpy(m->text[m->n], p, n);
    m->entry[m->n] = (struct dan_tok_entry){m->text[m->n], n, 0};
    m->n++;
}

/* Letters, and random joins of what is there; the merges in random order, so that a part may have a higher rank than the whole. */
static struct dan_tokenizer *random_tokenizer(struct dan_rng *g, uint32_t letters, size_t merges, bool ranks)
{
    struct dan_err e = {0};
    struct made *m = dan_calloc(1, sizeof *m);
    int32_t *pair = dan_malloc((merges + 1) * 2 * sizeof *pair);
    struct dan_tokenizer *t = dan_tok_new(&dan_tok_bpe);
    assert_true(m && pair && t);
    for (uint32_t i = 0; i < letters; i++) put(m, &"abcdefgh"[i], 1);
    for (size_t k = 0; k < merges && m->n < MOST_TOKENS; k++) {
        char buf[2 * TOKEN_BYTES];
        size_t a = dan_rng_below(g, m->n), b = dan_rng_below(g, 2) ? a : dan_rng_below(g, m->n);
        size_t n = m->entry[a].n + m->entry[b].n;
        if (n > TOKEN_BYTES) continue;
        memcpy(buf, m->text[a], m->entry[a].n);
        memcpy(buf + m->entry[a].n, m->text[b], m->entry[b].n);
        if (find(m, buf, n) < 0) put(m, buf, n);
        pair[2 * m->n_merges] = (int32_t)a;
        pair[2 * m->n_merges++ + 1] = (int32_t)b;
    }
    for (size_t k = m->n_merges; k > 1; k--) {
        size_t j = dan_rng_below(g, k);
        int32_t keep[2] = {pair[2 * j], pair[2 * j + 1]};
        memcpy(pair + 2 * j, pair + 2 * k - 2, sizeof keep);
        memcpy(pair + 2 * k - 2, keep, sizeof keep);
    }
    assert_int_equal(dan_tok_set_vocab(t, m->entry, m->n, &e), DAN_OK);
    assert_int_equal(ranks ? dan_tok_set_ranks(t, &e) : dan_tok_set_merges(t, pair, m->n_merges, "test", &e), DAN_OK);
    if (ranks) dan_free(pair);
    t->ignore_merges = false;
    dan_free(m);
    return t;
}

static size_t by_definition(const struct dan_tokenizer *t, const char *p, size_t n, int32_t *id)
{
    for (size_t i = 0; i < n; i++) id[i] = t->byte_id[(unsigned char)p[i]];
    for (;;) {
        const struct dan_merge *best = NULL;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            const struct dan_merge *m = dan_merge_find(t, id[i], id[i + 1]);
            if (m && (!best || m->rank < best->rank)) best = m, at = i;
        }
        if (!best) return n;
        id[at] = best->id;
        memmove(id + at + 1, id + at + 2, (n - at - 2) * sizeof *id);
        n--;
    }
}

/* Runs of a repeated word, of random length, else random letters. */
static void random_text(struct dan_rng *g, uint32_t letters, char *p, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t period = 1 + dan_rng_below(g, 3), run = 1 + dan_rng_below(g, dan_rng_below(g, 2) ? 60 : 4), from = i;
        for (; i < n && i < from + run * period; i++)
            p[i] = i < from + period ? "abcdefgh"[dan_rng_below(g, letters)] : p[i - period];
    }
}

static void check(const struct dan_tokenizer *t, const char *p, size_t n)
{
    struct dan_err e = {0};
    struct dan_ids out = {0};
    int32_t *id = dan_malloc(n * sizeof *id);
    assert_non_null(id);
    size_t m = by_definition(t, p, n, id), i = 0;
    assert_int_equal(dan_bpe_merge(t, p, n, 0, &out, &e), DAN_OK);
    while (i < m && i < out.n && id[i] == out.v[i]) i++;
    if (i < m || m != out.n) fail_msg("%zu bytes, token %zu: %.*s", n, i, (int)(n < 300 ? n : 300), p);
    dan_free(out.v);
    dan_free(id);
}

static void random_cases(int tokenizers, int texts, size_t least, uint32_t spread, bool ranks)
{
    char *p = dan_malloc(MOST_TEXT);
    assert_non_null(p);
    for (int k = 0; k < tokenizers; k++) {
        struct dan_rng g = {.seed = 41, .stream = (uint64_t)k};
        uint32_t letters = 1 + (uint32_t) dan_rng_below(&g, 4);
        struct dan_tokenizer *t = random_tokenizer(&g, letters, 1 + dan_rng_below(&g, k % 8 ? 40 : 600), ranks);
        for (int i = 0; i < texts; i++) {
            size_t n = least + dan_rng_below(&g, spread);
            random_text(&g, letters, p, n);
            check(t, p, n);
        }
        dan_tokenizer_free(t);
    }
    dan_free(p);
}

static void test_listed(void **state) { (void)state, random_cases(200, 10, 65, 100, false); }
static void test_ranks(void **state) { (void)state, random_cases(200, 10, 65, 100, true); }
static void test_short(void **state) { (void)state, random_cases(200, 20, 1, 64, false); }
static void test_longer(void **state) { (void)state, random_cases(24, 1, 1000, 3000, false); }

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_listed), cmocka_unit_test(test_ranks), cmocka_unit_test(test_short),
                                       cmocka_unit_test(test_longer)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
