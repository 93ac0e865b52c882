/* 1 where the last number of the answer is the last number of the row's reference answer. */
#include <math.h>
#include <string.h>
#include "align/reward.h"

static int score(void *state, const struct dan_answer *a, size_t n, double *out, struct dan_err *e)
{
    (void)state, (void)e;
    for (size_t i = 0; i < n; i++) {
        const char *want = dan_reference_answer(a[i].row);
        double x, y;
        if (!want || !dan_last_number(want, strlen(want), &y)) out[i] = NAN;
        else out[i] = dan_last_number(a[i].text, a[i].n, &x) && fabs(x - y) <= 1e-9 * fmax(1, fabs(y));
    }
    return DAN_OK;
}

const struct dan_reward_kind dan_reward_kind_number = {
    .name = "number", .doc = "1 if the answer's last number is that of the row's reference answer, else 0", .score = score};
