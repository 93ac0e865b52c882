/* Rows of activations rounded to int8, as products with quantised weights take them: a tensor [N,E] of i8 for rows of K values.
 *   by groups (weights in block formats), K a multiple of 32, E = K / 32 * 40: for each 32 values their levels, f32 scale, and two int16,
 *     the sums of the first and of the last 16 levels
 *   by rows (int8 weights with a scale per row), E = K + 8: the levels of all, f32 scale, int32 sum of the levels
 * A level is x / scale to nearest even, scale = max|x| / 127; the multiplication is by 127 / max|x|, as in the kernels.  By rows a value that
 * is no finite number makes the scale NaN and the levels 0; by groups it becomes level 0 beside the scale that the group has. */
#ifndef DAN_CORE_ROUNDED_H
#define DAN_CORE_ROUNDED_H
#include <math.h>
#include <stdint.h>
#include <string.h>

enum { DAN_ROUNDED_GROUP = 32, DAN_ROUNDED_GROUP_BYTES = 40, DAN_ROUNDED_ROW_BYTES = 8 };
enum dan_rounded { DAN_ROUNDED_NOT, DAN_ROUNDED_GROUPS, DAN_ROUNDED_ROWS };

/* E; -1 when rows of k values have no such form. */
static inline int64_t dan_rounded_width(enum dan_rounded form, int64_t k)
{
    if (form == DAN_ROUNDED_ROWS) return k + DAN_ROUNDED_ROW_BYTES;
    return k % DAN_ROUNDED_GROUP ? -1 : k / DAN_ROUNDED_GROUP * DAN_ROUNDED_GROUP_BYTES;
}

/* What stands behind a group's levels. */
struct dan_rounded_group { float scale; int16_t sum[2]; };
static inline struct dan_rounded_group dan_rounded_group_of(const void *levels)
{
    struct dan_rounded_group t;
    memcpy(&t, (const char *)levels + DAN_ROUNDED_GROUP, sizeof t);
    return t;
}

/* What stands behind a row's k levels. */
struct dan_rounded_row { float scale; int32_t sum; };
static inline struct dan_rounded_row dan_rounded_row_of(const void *levels, int64_t k)
{
    struct dan_rounded_row t;
    memcpy(&t, (const char *)levels + k, sizeof t);
    return t;
}

/* n levels of x, and the sums of the first 16 and of the others. */
static inline void dan_round_levels(const float *x, int64_t n, float most, int8_t *to, int32_t sum[2])
{
    float inverse = most > 1e-35f ? 127.f / most : 0.f;
    sum[0] = sum[1] = 0;
    for (int64_t i = 0; i < n; i++) {
        float q = rintf(x[i] * inverse);
        to[i] = (int8_t)(q >= -127.f && q <= 127.f ? q : 0);           /* infinities and what is no number */
        sum[i >= 16] += to[i];
    }
}

static inline float dan_round_most(const float *x, int64_t n)
{
    float most = 0;
    for (int64_t i = 0; i < n; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    return most;
}

static inline void dan_round_group(const float *x, char *to)
{
    int32_t sum[2];
    float most = dan_round_most(x, DAN_ROUNDED_GROUP);
    dan_round_levels(x, DAN_ROUNDED_GROUP, most, (int8_t *)to, sum);
    struct dan_rounded_group t = {most / 127.f, {(int16_t)sum[0], (int16_t)sum[1]}};
    memcpy(to + DAN_ROUNDED_GROUP, &t, sizeof t);
}

static inline void dan_round_whole_row(const float *x, int64_t k, char *to)
{
    int32_t sum[2];
    float bad = 0, most = dan_round_most(x, k);
    for (int64_t i = 0; i < k; i++) bad += x[i] * 0.f;
    dan_round_levels(x, k, bad == 0 ? most : 0, (int8_t *)to, sum);
    struct dan_rounded_row t = {bad == 0 ? most / 127.f : NAN, sum[0] + sum[1]};
    memcpy(to + k, &t, sizeof t);
}

#endif
