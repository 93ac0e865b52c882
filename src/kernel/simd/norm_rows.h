/* Row sums that the norm kernels share.  Four partial sums hide the latency of additions; their order depends
 * on the row length only.  Include math_ISA.h before. */
#ifndef DAN_KERNEL_NORM_ROWS_H
#define DAN_KERNEL_NORM_ROWS_H
#include <math.h>
#include <string.h>
#include "base/sys.h"
#include "core/args.h"
#include "op/attrs.h"

/* sum x */
static inline float row_sum(const float *x, int64_t n)
{
    vf s[4] = {vf_set(0), vf_set(0), vf_set(0), vf_set(0)};
    int64_t i = 0;
    for (; i + 4 * VF <= n; i += 4 * VF)
        for (int j = 0; j < 4; j++) s[j] = vf_add(s[j], vf_load(x + i + j * VF));
    for (; i < n; i += VF) s[0] = vf_add(s[0], vf_load_n(x + i, n - i));
    return vf_sum(vf_add(vf_add(s[0], s[1]), vf_add(s[2], s[3])));
}

/* sum (x - mean)^2 */
static inline float row_square_sum(const float *x, float mean, int64_t n)
{
    vf s[4] = {vf_set(0), vf_set(0), vf_set(0), vf_set(0)}, m = vf_set(mean);
    int64_t i = 0;
    for (; i + 4 * VF <= n; i += 4 * VF)
        for (int j = 0; j < 4; j++) {
            vf d = vf_sub(vf_load(x + i + j * VF), m);
            s[j] = vf_fma(d, d, s[j]);
        }
    float tail = 0;
    for (; i + VF <= n; i += VF) {
        vf d = vf_sub(vf_load(x + i), m);
        s[0] = vf_fma(d, d, s[0]);
    }
    for (; i < n; i++) tail += (x[i] - mean) * (x[i] - mean);
    return vf_sum(vf_add(vf_add(s[0], s[1]), vf_add(s[2], s[3]))) + tail;
}

struct stats { float mean, rstd; };                    /* of rms_norm: mean = 0 */

static inline struct stats layer_stats(const float *x, int64_t c, float eps)
{
    float mean = row_sum(x, c) / (float)c;
    return (struct stats){.mean = mean, .rstd = 1 / sqrtf(row_square_sum(x, mean, c) / (float)c + eps)};
}

static inline struct stats rms_stats(const float *x, int64_t c, float eps)
{
    return (struct stats){.mean = 0, .rstd = 1 / sqrtf(row_square_sum(x, 0, c) / (float)c + eps)};
}

/* y = (x - mean) rstd gamma (+ beta) */
static inline void norm_row(const float *x, struct stats s, const float *gamma, const float *beta, float *y, int64_t c)
{
    vf mean = vf_set(s.mean), rstd = vf_set(s.rstd);
    for (int64_t i = 0; i < c; i += VF) {
        int64_t n = c - i;
        vf v = vf_mul(vf_mul(vf_sub(vf_load_n(x + i, n), mean), rstd), vf_load_n(gamma + i, n));
        vf_store_n(y + i, beta ? vf_add(v, vf_load_n(beta + i, n)) : v, n);
    }
}

/* sum = x + y */
static inline void add_row(const float *x, const float *y, float *sum, int64_t c)
{
    for (int64_t i = 0; i < c; i += VF) vf_store_n(sum + i, vf_add(vf_load_n(x + i, c - i), vf_load_n(y + i, c - i)), c - i);
}

static inline bool norm_accepts(const struct dan_args *a)
{
    for (int i = 0; i < a->n_in; i++)
        if (a->in[i].dtype && a->in[i].dtype != &dan_dtype_f32) return false;
    return true;
}

#endif
