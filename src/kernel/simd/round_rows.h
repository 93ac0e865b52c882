/* Whole rows to int8 in the forms of core/rounded.h; after round_ISA.h. */
#ifndef DAN_KERNEL_ROUND_ROWS_H
#define DAN_KERNEL_ROUND_ROWS_H
#include "core/args.h"

ALWAYS void round_group(const char *x, bool half, char *to)
{
    int32_t sum[2];
    struct dan_rounded_group t = {.scale = round_values(x, half, to, sum)};
    t.sum[0] = (int16_t)sum[0];
    t.sum[1] = (int16_t)sum[1];
    memcpy(to + DAN_ROUNDED_GROUP, &t, sizeof t);
}

/* What the whole of a row says before its levels can be made. */
struct row_top { vf top, bad; };

ALWAYS void see_values(struct row_top *t, vf v)
{
    t->top = vf_max(vf_abs(v), t->top);
    t->bad = vf_fma(v, vf_set(0.f), t->bad);
}

ALWAYS struct row_top no_values(void) { return (struct row_top){vf_set(0.f), vf_set(0.f)}; }

/* 0: nothing was finite that should be. */
static inline float row_inverse(const struct row_top *t, float *scale)
{
    float max = vf_top(t->top), bad = vf_sum(t->bad);
    *scale = bad == 0 ? max / 127.f : NAN;
    return bad == 0 && max > 1e-35f ? 127.f / max : 0.f;
}

/* n <= VF values to levels; their sum. */
ALWAYS int32_t put_row_levels(vf v, float inverse, int64_t n, char *to)
{
    float q[VF];
    int32_t sum = 0;
    vf_store(q, vf_round(vf_mul(v, vf_set(inverse))));
    for (int64_t i = 0; i < n && i < VF; i++) {
        int32_t whole = q[i] >= -127.f && q[i] <= 127.f ? (int32_t)q[i] : 0;
        to[i] = (char)whole;
        sum += whole;
    }
    return sum;
}

static inline void end_row(char *to, int64_t k, float scale, int32_t sum)
{
    struct dan_rounded_row t = {scale, sum};
    memcpy(to + k, &t, sizeof t);
}

#endif
