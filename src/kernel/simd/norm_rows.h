/* Row sums that the norm kernels share.  Four partial sums hide the latency of additions; their order depends
 * on the row length only.  Include math_ISA.h before. */
#ifndef DAN_KERNEL_NORM_ROWS_H
#define DAN_KERNEL_NORM_ROWS_H
#include <math.h>
#include <string.h>
#include "base/sys.h"
#include "core/args.h"
#include "op/attrs.h"
#include "kernel/simd/half.h"

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

/* y = (x - mean) rstd gamma (+ beta); half: y is stored as bf16 */
ALWAYS void norm_row_as(bool half, const float *x, struct stats s, const float *gamma, const float *beta, void *y, int64_t c)
{
    vf mean = vf_set(s.mean), rstd = vf_set(s.rstd);
    for (int64_t i = 0; i < c; i += VF) {
        int64_t n = c - i;
        vf v = vf_mul(vf_mul(vf_sub(vf_load_n(x + i, n), mean), rstd), vf_load_n(gamma + i, n));
        store_row(half, y, i, beta ? vf_add(v, vf_load_n(beta + i, n)) : v, n);
    }
}

/* Row r of y */
static inline void norm_row(const float *x, struct stats s, const float *gamma, const float *beta, const struct dan_tensor *y, int64_t r)
{
    if (dan_is_bf16(y)) norm_row_as(true, x, s, gamma, beta, dan_row(y, r), dan_cols(y));
    else norm_row_as(false, x, s, gamma, beta, dan_row(y, r), dan_cols(y));
}

ALWAYS void add_row_as(bool half, const float *x, const void *y, float *sum, int64_t c)
{
    for (int64_t i = 0; i < c; i += VF) vf_store_n(sum + i, vf_add(vf_load_n(x + i, c - i), load_row(half, y, i, c - i)), c - i);
}

/* sum = x + row r of y */
static inline void add_row(const float *x, const struct dan_tensor *y, int64_t r, float *sum)
{
    if (dan_is_bf16(y)) add_row_as(true, x, dan_row(y, r), sum, dan_cols(y));
    else add_row_as(false, x, dan_row(y, r), sum, dan_cols(y));
}

/* All f32 but those inputs and outputs whose bit is set: f32 or stored as bf16. */
static inline bool norm_accepts(const struct dan_args *a, unsigned half_in, unsigned half_out)
{
    for (int i = 0; i < a->n_in; i++)
        if (a->in[i].dtype && !(half_in >> i & 1 ? dan_f32_or_bf16(&a->in[i]) : a->in[i].dtype == &dan_dtype_f32)) return false;
    for (int i = 0; i < a->n_out; i++)
        if (!(half_out >> i & 1 ? dan_f32_or_bf16(&a->out[i]) : a->out[i].dtype == &dan_dtype_f32)) return false;
    return true;
}

#endif
