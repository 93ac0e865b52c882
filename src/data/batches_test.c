#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "base/file.h"
#include "base/mem.h"
#include "data/batches.h"

enum { ROWS = 4096 };
static int32_t tokens[ROWS], targets[ROWS], pos[ROWS], start[ROWS], stop[ROWS], self[ROWS], reset[ROWS];
static float weights[ROWS];

static struct dan_batch arrays(void)
{
    return (struct dan_batch){.tokens = tokens, .targets = targets, .pos = pos, .start = start, .stop = stop, .self = self, .reset = reset,
                              .weights = weights};
}

/* Token i is i; documents begin at the given places. */
static struct dan_shards *counting(int64_t n, const int64_t *doc, int64_t n_docs)
{
    int32_t *ids = dan_malloc((size_t)n * sizeof *ids);
    struct dan_shards *s;
    for (int64_t i = 0; i < n; i++) ids[i] = (int32_t)i;
    assert_int_equal(dan_shards_of(ids, n, doc, n_docs, -1, &s, NULL), DAN_OK);
    dan_free(ids);
    return s;
}

static struct dan_batches *batches_of(const struct dan_shards *s, int64_t context, int64_t batch, uint64_t seed)
{
    struct dan_batches *b;
    assert_int_equal(dan_batches_new(s, context, batch, seed, &b, NULL), DAN_OK);
    return b;
}

/* In every epoch each window comes once, windows touch each other, and the order differs. */
static void test_coverage(void **state)
{
    (void)state;
    enum { N = 1003, T = 7 };
    struct dan_shards *s = counting(N, (const int64_t[]){0}, 1);
    struct dan_batches *b = batches_of(s, T, 1, 42);
    int64_t step = 0, at, offset[5], first_at[5];
    size_t shard;
    for (int64_t epoch = 0; epoch < 5; epoch++) {
        char seen[N] = {0};
        int64_t n = dan_batches_windows(b, epoch), low = N, high = 0;
        assert_true(dan_batches_epoch(b, step) == (double)epoch);
        for (int64_t i = 0; i < n; i++, step++) {
            dan_batches_where(b, step, 0, &shard, &at);
            if (i == 0) first_at[epoch] = at;
            assert_int_equal(seen[at]++, 0);
            low = at < low ? at : low;
            high = at > high ? at : high;
        }
        assert_in_range(low, 0, T - 1);
        assert_int_equal(high, low + (n - 1) * T);
        assert_in_range(high + T + 1, N - T + 1, N);              /* another window would not fit */
        offset[epoch] = low;
    }
    assert_false(offset[0] == offset[1] && offset[1] == offset[2] && offset[2] == offset[3]);
    assert_false(first_at[0] == first_at[1] && first_at[1] == first_at[2]);
    dan_batches_free(b);
    dan_shards_free(s);
}

static void test_shuffled(void **state)
{
    (void)state;
    struct dan_shards *s = counting(100000, (const int64_t[]){0}, 1);
    struct dan_batches *b = batches_of(s, 10, 1, 1);
    double sum = 0, n = 9000;                  /* neighbours in order are uncorrelated places: mean |x - y| = 1/3 */
    int64_t x, y = 0, ascending = 0;
    size_t shard;
    for (int64_t i = 0; i <= 9000; i++, y = x) {
        dan_batches_where(b, i, 0, &shard, &x);
        if (i) sum += fabs((double)(x - y)) / 1e5;
        ascending += i && x > y;
    }
    assert_true(fabs(sum / n - 1.0 / 3) < 0.01);                  /* 4 standard deviations */
    assert_true(fabs((double)ascending / n - 0.5) < 0.02);
    dan_batches_free(b);
    dan_shards_free(s);
}

/* A resumed run, any order of asking, and any micro-batch see the same rows. */
static void test_resume(void **state)
{
    (void)state;
    enum { T = 8, B = 6, STEPS = 40 };
    static int32_t all[STEPS][T * B];
    struct dan_shards *s = counting(333, (const int64_t[]){0, 50, 51, 200}, 4);
    struct dan_batches *b = batches_of(s, T, B, 9), *other = batches_of(s, T, B, 10);
    struct dan_batch x = arrays();
    int different = 0;
    for (int64_t i = 0; i < STEPS; i++) {
        dan_batches_fill(b, i, 0, B, DAN_PACKED, &x);
        assert_int_equal(x.rows, T * B);
        memcpy(all[i], tokens, sizeof all[i]);
    }
    struct dan_batches *again = batches_of(s, T, B, 9);
    for (int64_t i = STEPS - 1; i >= 0; i -= 3) {
        int64_t total = 0;
        double sum = 0;
        for (int64_t k = 0; k < B; k += 2) {   /* micro-batches of two */
            dan_batches_fill(again, i, k, 2, DAN_PACKED, &x);
            assert_memory_equal(tokens, all[i] + k * T, 2 * T * sizeof *tokens);
            for (int64_t r = 0; r < x.rows; r++) sum += weights[r];
            total += x.targets_n;
        }
        assert_true(fabs(sum - 1) < 1e-5);
        assert_int_equal(total, dan_batches_targets(again, i));
        dan_batches_fill(other, i, 0, B, DAN_PACKED, &x);
        different += memcmp(tokens, all[i], sizeof all[i]) != 0;
    }
    assert_true(different > 10);
    dan_batches_free(b);
    dan_batches_free(other);
    dan_batches_free(again);
    dan_shards_free(s);
}

/* 12 tokens in documents 0..3, 4, 5..11; one window of 11 rows. */
static void test_segments(void **state)
{
    (void)state;
    struct dan_shards *s = counting(12, (const int64_t[]){0, 4, 5}, 3);
    struct dan_batches *b = batches_of(s, 11, 1, 3);
    struct dan_batch x = arrays();
    const int32_t want_targets[] = {1, 2, 3, -1, -1, 6, 7, 8, 9, 10, 11}, want_pos[] = {0, 1, 2, 3, 0, 0, 1, 2, 3, 4, 5},
        want_start[] = {0, 0, 0, 0, 4, 5, 5, 5, 5, 5, 5}, want_stop[] = {4, 4, 4, 4, 5, 11, 11, 11, 11, 11, 11},
        want_reset[] = {1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0};
    dan_batches_fill(b, 0, 0, 1, DAN_PACKED, &x);
    assert_int_equal(x.rows, 11);
    assert_int_equal(x.targets_n, 9);
    assert_memory_equal(targets, want_targets, sizeof want_targets);
    assert_memory_equal(pos, want_pos, sizeof want_pos);
    assert_memory_equal(start, want_start, sizeof want_start);
    assert_memory_equal(stop, want_stop, sizeof want_stop);
    assert_memory_equal(reset, want_reset, sizeof want_reset);
    for (int i = 0; i < 11; i++) {
        assert_int_equal(tokens[i], i);
        assert_int_equal(self[i], i);
        assert_true(weights[i] == (want_targets[i] < 0 ? 0 : 1.0f / 9));
    }
    dan_batches_free(b);
    dan_shards_free(s);
}

/* The same windows, transposed. */
static void test_time_major(void **state)
{
    (void)state;
    enum { T = 5, B = 4 };
    int32_t p[4][T * B];
    struct dan_shards *s = counting(100, (const int64_t[]){0, 13, 14, 60}, 4);
    struct dan_batches *b = batches_of(s, T, B, 3);
    struct dan_batch x = arrays();
    dan_batches_fill(b, 2, 0, B, DAN_PACKED, &x);
    memcpy(p[0], tokens, sizeof p[0]);
    memcpy(p[1], targets, sizeof p[1]);
    memcpy(p[2], reset, sizeof p[2]);
    memcpy(p[3], weights, sizeof p[3]);
    dan_batches_fill(b, 2, 0, B, DAN_TIME_MAJOR, &x);
    for (int k = 0; k < B; k++)
        for (int t = 0; t < T; t++) {
            int to = t * B + k, from = k * T + t;
            assert_int_equal(tokens[to], p[0][from]);
            assert_int_equal(targets[to], p[1][from]);
            assert_int_equal(reset[to], p[2][from]);
            assert_memory_equal(&weights[to], &p[3][from], sizeof(float));
        }
    dan_batches_free(b);
    dan_shards_free(s);
}

/* Every token is a target once, but for the first of each document. */
static void test_eval(void **state)
{
    (void)state;
    const int64_t doc[] = {0, 30, 31, 77};
    for (int64_t n = 78; n < 90; n++)
        for (int layout = DAN_PACKED; layout <= DAN_TIME_MAJOR; layout++) {
            enum { T = 8, B = 3 };
            int seen[90] = {0};
            struct dan_shards *s = counting(n, doc, 4);
            struct dan_batch x = arrays();
            int64_t m = dan_eval_batches(s, T, B), rows = 0;
            for (int64_t i = 0; i < m; i++) {
                double sum = 0;
                dan_eval_fill(s, T, B, i, (enum dan_layout)layout, &x);
                rows += x.rows;
                for (int64_t r = 0; r < x.rows; r++) {
                    sum += weights[r];
                    if (targets[r] < 0) continue;
                    assert_int_equal(targets[r], tokens[r] + 1);
                    seen[targets[r]]++;
                }
                assert_true(x.targets_n == 0 ? sum == 0 : fabs(sum - 1) < 1e-5);
            }
            for (int64_t i = 0; i < n; i++) assert_int_equal(seen[i], i != 0 && i != 30 && i != 31 && i != 77);
            assert_int_equal(rows, layout == DAN_PACKED ? n - 1 : m * T * B);
            dan_shards_free(s);
        }
}

static int encode(void *ctx, const char *p, size_t n, struct dan_token_list *out, struct dan_err *e)
{
    (void)ctx;
    if (dan_vec_grow(&out->p, &out->cap, out->n + n, sizeof *out->p)) return dan_fail(e, DAN_ENOMEM, "out of memory");
    for (size_t i = 0; i < n; i++) out->p[out->n++] = (unsigned char)p[i];
    return DAN_OK;
}

/* 250 tokens in shards of 60, 60, 60, 60, 10: windows never straddle, the last shard is too short for any. */
static void test_many_shards(void **state)
{
    (void)state;
    char dir[] = "/tmp/danlu-batches-XXXXXX", text[300], data[300], all[250];
    const char *path = text;
    struct dan_text *t;
    struct dan_shard_stats stats;
    struct dan_shards *s;
    const struct dan_encoder enc = {encode, NULL, 256, -1, 1, 0};
    assert_non_null(mkdtemp(dir));
    snprintf(text, sizeof text, "%s/a.txt", dir);
    snprintf(data, sizeof data, "%s/data", dir);
    for (int i = 0; i < 250; i++) all[i] = (char)('!' + i % 90);
    assert_int_equal(dan_write_file(text, all, sizeof all, NULL), DAN_OK);
    assert_int_equal(dan_text_open(&path, 1, NULL, &t, NULL), DAN_OK);
    assert_int_equal(dan_shards_write(t, &enc, data, &(struct dan_shard_opts){.max_tokens = 60}, &stats, NULL), DAN_OK);
    assert_int_equal(dan_shards_open(data, "train", &s, NULL), DAN_OK);
    assert_int_equal(dan_shards_count(s), 5);
    struct dan_batches *b = batches_of(s, 12, 1, 5);
    struct dan_batch x = arrays();
    int per_shard[5] = {0};
    int64_t at, n = dan_batches_windows(b, 0);
    size_t shard;
    for (int64_t i = 0; i < n; i++) {
        dan_batches_where(b, i, 0, &shard, &at);
        per_shard[shard]++;
        assert_in_range(at, 0, 60 - 13);
        dan_batches_fill(b, i, 0, 1, DAN_PACKED, &x);
        assert_int_equal(x.targets_n, 12);
        for (int r = 0; r < 12; r++) assert_int_equal(tokens[r], all[60 * (int64_t)shard + at + r]);
        assert_int_equal(targets[11], all[60 * (int64_t)shard + at + 12]);
    }
    for (int i = 0; i < 4; i++) assert_in_range(per_shard[i], 3, 4);
    assert_int_equal(per_shard[4], 0);
    assert_int_equal(dan_eval_batches(s, 12, 1), 4 * 5 + 1);
    dan_batches_free(b);
    dan_shards_free(s);
    dan_text_free(t);
    assert_int_equal(dan_remove_tree(dir, NULL), DAN_OK);
}

static void test_tiny(void **state)
{
    (void)state;
    struct dan_batches *b = NULL;
    struct dan_err e = {0};
    struct dan_batch x = arrays();
    struct dan_shards *s = counting(5, (const int64_t[]){0}, 1);
    assert_int_equal(dan_batches_new(s, 5, 1, 0, &b, &e), DAN_EINVAL);
    assert_non_null(strstr(e.msg, "needs 6 tokens"));
    assert_non_null(strstr(e.msg, "has 5"));
    b = batches_of(s, 4, 3, 0);                /* one window an epoch */
    for (int64_t i = 0; i < 5; i++) {
        dan_batches_fill(b, i, 0, 3, DAN_PACKED, &x);
        for (int r = 0; r < 12; r++) assert_int_equal(tokens[r], r % 4);
        assert_true(dan_batches_epoch(b, i) == 3.0 * (double)i);
    }
    dan_batches_free(b);
    dan_shards_free(s);
    s = counting(1, (const int64_t[]){0}, 1);
    assert_int_equal(dan_eval_batches(s, 4, 2), 0);
    dan_shards_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_coverage), cmocka_unit_test(test_shuffled), cmocka_unit_test(test_resume), cmocka_unit_test(test_segments),
        cmocka_unit_test(test_time_major), cmocka_unit_test(test_eval), cmocka_unit_test(test_many_shards), cmocka_unit_test(test_tiny),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
