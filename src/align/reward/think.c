/* 1 where the answer is <think>...</think><answer>...</answer>, each once and in this order, with white space around only. */
#include <string.h>
#include "align/reward.h"

static const char *const marks[] = {"<think>", "</think>", "<answer>", "</answer>"};

static const char *skip_space(const char *p)
{
    while (*p == ' ' || (*p >= '\t' && *p <= '\r')) p++;
    return p;
}

static bool well_formed(const char *p)
{
    for (int i = 0; i < 4; i++) {
        const char *found = strstr(p, marks[i]);
        if (!found || (i % 2 == 0 && found != skip_space(p))) return false;
        p = found + strlen(marks[i]);
        if (strstr(p, marks[i])) return false;
    }
    return !*skip_space(p);
}

static int score(void *state, const struct dan_answer *a, size_t n, double *out, struct dan_err *e)
{
    (void)state, (void)e;
    for (size_t i = 0; i < n; i++) out[i] = well_formed(a[i].text);
    return DAN_OK;
}

const struct dan_reward_kind dan_reward_kind_think = {
    .name = "think", .doc = "1 if the answer is <think>...</think><answer>...</answer>, else 0", .score = score};
