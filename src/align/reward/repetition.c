/* Minus the share of runs of N words that were there before in the answer: 0 where nothing repeats, towards -1 where it loops. */
#include <stdlib.h>
#include <string.h>
#include "align/reward.h"
#include "base/mem.h"

struct word { const char *p; size_t n; };

static int open_n(const char *arg, void **state, struct dan_err *e)
{
    char *end;
    long n = strtol(arg, &end, 10);
    size_t *kept;
    if (*end || n < 1 || n > 64) return dan_fail(e, DAN_EINVAL, "repetition '%.40s' is no number of words from 1 to 64", arg);
    if (!(kept = dan_malloc(sizeof *kept))) return dan_fail(e, DAN_ENOMEM, "out of memory opening reward 'repetition'");
    *kept = (size_t)n;
    *state = kept;
    return DAN_OK;
}

static size_t words_of(const char *p, struct word *w)
{
    size_t n = 0;
    while (*(p += strspn(p, " \t\n\v\f\r"))) {
        w[n] = (struct word){p, strcspn(p, " \t\n\v\f\r")};
        p += w[n++].n;
    }
    return n;
}

static bool same(const struct word *a, const struct word *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (a[i].n != b[i].n || memcmp(a[i].p, b[i].p, a[i].n)) return false;
    return true;
}

static double share(const struct word *w, size_t words, size_t n)
{
    size_t runs = words >= n ? words - n + 1 : 0, again = 0;
    for (size_t i = 1; i < runs; i++) {
        bool found = false;
        for (size_t k = 0; k < i && !found; k++) found = same(w + i, w + k, n);
        again += found;
    }
    return runs ? (double)again / (double)runs : 0;
}

static int score(void *state, const struct dan_answer *a, size_t n, double *out, struct dan_err *e)
{
    for (size_t i = 0; i < n; i++) {
        struct word *w = dan_malloc((a[i].n / 2 + 1) * sizeof *w);
        if (!w) return dan_fail(e, DAN_ENOMEM, "out of memory scoring an answer");
        out[i] = -share(w, words_of(a[i].text, w), *(size_t *)state);
        dan_free(w);
    }
    return DAN_OK;
}

static void close_n(void *state) { dan_free(state); }

const struct dan_reward_kind dan_reward_kind_repetition = {
    .name = "repetition", .arg = "N", .doc = "minus the share of repeated runs of N words", .open = open_n, .score = score, .close = close_n};
