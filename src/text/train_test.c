/* Unigram, SentencePiece-style BPE and WordPiece: any number of threads, what is refused, what comes out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/rng.h"
#include "base/threads.h"
#include "text/tokenizer.h"

typedef int trainer(const struct dan_text_source *, const struct dan_tok_train_opts *, struct dan_tokenizer **, struct dan_tok_train_stats *,
                    struct dan_err *);
static trainer *const trainers[] = {dan_tokenizer_train_unigram, dan_tokenizer_train_spbpe, dan_tokenizer_train_wordpiece, dan_tokenizer_train_bpe};
enum { N_TRAINERS = 4 };

struct one { const char *p; size_t n; bool given; };
static int one_next(void *ctx, const char **p, size_t *n, struct dan_err *e)
{
    struct one *o = ctx;
    (void)e;
    *p = o->given ? NULL : o->p;
    *n = o->n;
    o->given = true;
    return 0;
}

static int train(trainer *fn, const char *p, size_t n, struct dan_tok_train_opts o, struct dan_tokenizer **out, struct dan_err *e)
{
    struct one one = {p, n, false};
    struct dan_text_source src = {one_next, &one, (int64_t)n};
    *out = NULL;
    *e = (struct dan_err){0};
    return fn(&src, &o, out, NULL, e);
}

/* Words whose use falls as 1 / rank, of syllables, with Chinese and numbers between. */
static void make_text(struct dan_str *s, size_t words)
{
    static const char *const syllable[] = {"ba", "con", "du", "er", "fi", "ing", "ka", "lo", "mi", "na", "tion", "st", "ver", "re", "the", "un"};
    struct dan_rng r = {.seed = 7};
    for (size_t i = 0; i < words; i++) {
        uint64_t rank = 1 + dan_rng_below(&r, 1 + dan_rng_below(&r, 400));
        struct dan_rng w = {.seed = rank};
        for (uint64_t k = 1 + dan_rng_below(&w, 4); k > 0; k--) dan_str_puts(s, syllable[dan_rng_below(&w, 16)]);
        if (i % 29 == 0) dan_str_printf(s, " %d", (int)rank);
        if (i % 31 == 0) dan_str_puts(s, "\xe6\xb1\x89\xe5\xad\x97\xe3\x80\x82");
        dan_str_puts(s, i % 17 == 0 ? ".\n" : " ");
    }
}

static void test_threads(void **state)
{
    (void)state;
    struct dan_str s = {0};
    struct dan_err e;
    make_text(&s, 40000);
    for (int k = 0; k < N_TRAINERS; k++) {
        uint64_t hash = 0;
        for (int threads = 1; threads <= 3; threads++) {
            struct dan_pool *pool;
            struct dan_tokenizer *t;
            assert_int_equal(dan_pool_new(threads, &pool, &e), 0);
            struct dan_tok_train_opts o = {.vocab_size = 600, .pool = pool, .max_bytes = 1 << 20};
            int r = train(trainers[k], s.p, s.n, o, &t, &e);
            if (r) fail_msg("trainer %d: %s", k, e.msg);
            if (threads == 1) hash = dan_tokenizer_hash(t);
            assert_true(hash == dan_tokenizer_hash(t));
            assert_in_range(dan_tokenizer_vocab_size(t), 300, 600);
            dan_tokenizer_free(t);
            dan_pool_free(pool);
        }
    }
    dan_str_release(&s);
}

static size_t count_tokens(const struct dan_tokenizer *t, const char *p, size_t n, struct dan_str *back)
{
    struct dan_ids ids = {0};
    struct dan_err e = {0};
    assert_int_equal(dan_tokenizer_encode(t, p, n, DAN_ENCODE_UNK, &ids, &e), 0);
    dan_str_clear(back);
    dan_tokenizer_decode(t, ids.v, ids.n, back);
    size_t got = ids.n;
    dan_ids_release(&ids);
    return got;
}

/* More pieces, fewer tokens; without normalisation and with bytes every text comes back. */
static void test_quality(void **state)
{
    (void)state;
    struct dan_str s = {0}, back = {0};
    struct dan_err e;
    make_text(&s, 20000);
    for (int k = 0; k < 2; k++) {
        size_t before = SIZE_MAX;
        for (int32_t vocab = 340; vocab <= 640; vocab += 100) {
            struct dan_tokenizer *t;
            struct dan_tok_train_opts o = {.vocab_size = vocab, .normal = "none", .byte_fallback = true};
            int r = train(trainers[k], s.p, s.n, o, &t, &e);
            if (r) fail_msg("trainer %d: %s", k, e.msg);
            size_t n = count_tokens(t, s.p, s.n, &back);
            assert_true(n < before);
            before = n;
            assert_int_equal(back.n, s.n);
            assert_memory_equal(back.p, s.p, s.n);
            static const char odd[] = "  two  spaces \xf0\x9f\x98\x80 and a tab\t";
            count_tokens(t, odd, sizeof odd - 1, &back);
            assert_string_equal(back.p, odd);
            dan_tokenizer_free(t);
        }
        assert_true(before < s.n / 4);
    }
    dan_str_release(&s);
    dan_str_release(&back);
}

static void test_refused(void **state)
{
    (void)state;
    static const char text[] = "some words and some more words\n", invalid[] = "a \xff\xfe b\xc3 c a a\n";
    struct dan_tokenizer *t;
    struct dan_err e;
    struct dan_tok_train_opts o = {.vocab_size = 1000};
    for (int k = 0; k < 3; k++) {
        assert_int_equal(train(trainers[k], "", 0, o, &t, &e), DAN_EINVAL);
        assert_non_null(strstr(e.msg, "no text"));
        o.vocab_size = 8;
        assert_int_equal(train(trainers[k], text, sizeof text - 1, o, &t, &e), DAN_EINVAL);
        assert_non_null(strstr(e.msg, "too small"));
        o.vocab_size = 1000;                   /* far more than there is: what there is */
        assert_int_equal(train(trainers[k], text, sizeof text - 1, o, &t, &e), 0);
        assert_in_range(dan_tokenizer_vocab_size(t), 10, 200);
        dan_tokenizer_free(t);
        assert_int_equal(train(trainers[k], invalid, sizeof invalid - 1, o, &t, &e), 0);
        dan_tokenizer_free(t);
        assert_int_equal(train(trainers[k], "a", 1, o, &t, &e), 0);
        dan_tokenizer_free(t);
        o.normal = "nfd";
        assert_int_equal(train(trainers[k], text, sizeof text - 1, o, &t, &e), DAN_EINVAL);
        o.normal = NULL;
    }
}

static bool stop(void *ctx, const char *stage, int64_t done, int64_t total)
{
    (void)done, (void)total;
    return strcmp(stage, ctx) != 0;
}

static void test_cancelled(void **state)
{
    (void)state;
    static const char *const stages[] = {"read", "seed", "prune"};
    struct dan_str s = {0};
    struct dan_err e;
    struct dan_tokenizer *t;
    make_text(&s, 3000);
    for (int k = 0; k < 3; k++) {
        struct dan_tok_train_opts o = {.vocab_size = 300, .progress = stop, .progress_ctx = (void *)(uintptr_t)stages[k]};
        assert_int_equal(train(dan_tokenizer_train_unigram, s.p, s.n, o, &t, &e), DAN_ECANCELLED);
        assert_null(t);
    }
    dan_str_release(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_threads), cmocka_unit_test(test_quality), cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_cancelled)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
