/* 1 where the answer is the row's reference answer, white space at its ends aside. */
#include <math.h>
#include <string.h>
#include "align/reward.h"

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static void trim(const char **p, size_t *n)
{
    while (*n && is_space((*p)[*n - 1])) --*n;
    while (*n && is_space(**p)) ++*p, --*n;
}

static int score(void *state, const struct dan_answer *a, size_t n, double *out, struct dan_err *e)
{
    (void)state, (void)e;
    for (size_t i = 0; i < n; i++) {
        const char *want = dan_reference_answer(a[i].row), *got = a[i].text;
        size_t k = want ? strlen(want) : 0, m = a[i].n;
        if (want) trim(&want, &k);
        trim(&got, &m);
        out[i] = !want ? NAN : m == k && !memcmp(got, want, k);
    }
    return DAN_OK;
}

const struct dan_reward_kind dan_reward_kind_exact = {
    .name = "exact", .doc = "1 if the answer is the row's reference answer, else 0", .score = score};
