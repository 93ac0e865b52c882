/* 1 where the answer has LO to HI tokens and has ended; falls to 0 at half of LO and at twice HI, -1 where it did not end. */
#include <stdio.h>
#include "align/reward.h"
#include "base/mem.h"

struct band { long lo, hi; };

static int open_band(const char *arg, void **state, struct dan_err *e)
{
    struct band b;
    char rest;
    if (sscanf(arg, "%ld-%ld%c", &b.lo, &b.hi, &rest) != 2 || b.lo < 0 || b.hi < b.lo || b.hi < 1)
        return dan_fail(e, DAN_EINVAL, "length '%.40s' is no range of tokens: write length:4-16", arg);
    struct band *kept = dan_malloc(sizeof *kept);
    if (!kept) return dan_fail(e, DAN_ENOMEM, "out of memory opening reward 'length'");
    *kept = b;
    *state = kept;
    return DAN_OK;
}

static double inside(const struct band *b, double tokens)
{
    double lo = (double)b->lo, hi = (double)b->hi;
    if (tokens < lo) return 2 * tokens > lo ? 2 * tokens / lo - 1 : 0;
    return tokens <= hi ? 1 : tokens < 2 * hi ? 2 - tokens / hi : 0;
}

static int score(void *state, const struct dan_answer *a, size_t n, double *out, struct dan_err *e)
{
    (void)e;
    for (size_t i = 0; i < n; i++) out[i] = a[i].ended ? inside(state, (double)a[i].tokens) : -1;
    return DAN_OK;
}

static void close_band(void *state) { dan_free(state); }

const struct dan_reward_kind dan_reward_kind_length = {
    .name = "length", .arg = "LO-HI", .doc = "1 for answers of LO to HI tokens, less outside, -1 for one that does not end",
    .open = open_band, .score = score, .close = close_band};
