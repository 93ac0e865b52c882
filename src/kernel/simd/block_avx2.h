/* What the attention kernels need besides vec_avx2.h: masking of lane ranges, transposition, tile size. */
#ifndef DAN_KERNEL_BLOCK_AVX2_H
#define DAN_KERNEL_BLOCK_AVX2_H
#include <stdbool.h>
#include "kernel/simd/math_avx2.h"

enum { TILE_ROWS = 6, TILE_VECS = 2 };                 /* of 16 registers: 12 sums, 2 columns, 1 broadcast */

/* x in lanes lo <= i < hi, fill elsewhere; any lo, hi. */
static inline vf vf_keep(vf x, int64_t lo, int64_t hi, vf fill)
{
    __m256i from = vf_mask(lo < 0 ? 0 : lo), to = vf_mask(hi < 0 ? 0 : hi);
    return _mm256_blendv_ps(fill, x, _mm256_castsi256_ps(_mm256_andnot_si256(from, to)));
}

static inline bool vf_any_above(vf x, vf y) { return _mm256_movemask_ps(_mm256_cmp_ps(x, y, _CMP_GT_OQ)) != 0; }

/* 2^x, relative error 8e-8 (minimax polynomial of degree 5 on [0, 1)); 0 far below. */
static inline vf vf_exp2(vf x)
{
    x = vf_max(x, vf_set(-151));
    vf n = _mm256_floor_ps(x), r = vf_sub(x, n), p = vf_set(0.00187757667f);
    p = vf_fma(p, r, vf_set(0.00898934009f));
    p = vf_fma(p, r, vf_set(0.0558263181f));
    p = vf_fma(p, r, vf_set(0.240153617f));
    p = vf_fma(p, r, vf_set(0.693153073f));
    p = vf_fma(p, r, vf_set(0.999999925f));
    return vf_scale2(p, n);
}

/* dst[c][r] = src[r][c] for VF x VF floats; distances in floats. */
static inline void vf_transpose(const float *src, int64_t ld, float *dst, int64_t ld_dst)
{
    __m256 a[8], b[8];
    for (int i = 0; i < 8; i++) a[i] = _mm256_loadu_ps(src + i * ld);
    for (int i = 0; i < 8; i += 2) {
        b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        a[i] = _mm256_shuffle_ps(b[i], b[i + 2], 0x44);
        a[i + 1] = _mm256_shuffle_ps(b[i], b[i + 2], 0xee);
        a[i + 2] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0x44);
        a[i + 3] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        _mm256_storeu_ps(dst + i * ld_dst, _mm256_permute2f128_ps(a[i], a[i + 4], 0x20));
        _mm256_storeu_ps(dst + (i + 4) * ld_dst, _mm256_permute2f128_ps(a[i], a[i + 4], 0x31));
    }
}

#endif
