/* What the attention kernels need besides vec_avx512.h: masking of lane ranges, transposition, tile size. */
#ifndef DAN_KERNEL_BLOCK_AVX512_H
#define DAN_KERNEL_BLOCK_AVX512_H
#include <stdbool.h>
#include "kernel/simd/math_avx512.h"

enum { TILE_ROWS = 6, TILE_VECS = 4 };                 /* of 32 registers: 24 sums, 4 columns, 1 broadcast */

static inline int lane(int64_t i) { return i < 0 ? 0 : i > VF ? VF : (int)i; }

/* x in lanes lo <= i < hi, fill elsewhere; any lo, hi. */
static inline vf vf_keep(vf x, int64_t lo, int64_t hi, vf fill)
{
    return _mm512_mask_blend_ps((__mmask16)(((1u << lane(hi)) - 1) & ~((1u << lane(lo)) - 1)), fill, x);
}

static inline bool vf_any_above(vf x, vf y) { return _mm512_cmp_ps_mask(x, y, _CMP_GT_OQ) != 0; }

/* 2^x, relative error 8e-8 (minimax polynomial of degree 5 on [0, 1)); 0 far below. */
static inline vf vf_exp2(vf x)
{
    vf r = _mm512_reduce_ps(x, 0x09), p = vf_set(0.00187757667f);       /* r = x - floor(x) */
    p = vf_fma(p, r, vf_set(0.00898934009f));
    p = vf_fma(p, r, vf_set(0.0558263181f));
    p = vf_fma(p, r, vf_set(0.240153617f));
    p = vf_fma(p, r, vf_set(0.693153073f));
    p = vf_fma(p, r, vf_set(0.999999925f));
    return _mm512_scalef_ps(p, x);                     /* takes floor(x) itself */
}

/* dst[c][r] = src[r][c] for VF x VF floats; distances in floats. */
static inline void vf_transpose(const float *src, int64_t ld, float *dst, int64_t ld_dst)
{
    __m512 a[16], b[16];
    for (int i = 0; i < 16; i++) a[i] = _mm512_loadu_ps(src + i * ld);
    for (int i = 0; i < 16; i += 2) {
        b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        a[i] = _mm512_shuffle_ps(b[i], b[i + 2], 0x44);
        a[i + 1] = _mm512_shuffle_ps(b[i], b[i + 2], 0xee);
        a[i + 2] = _mm512_shuffle_ps(b[i + 1], b[i + 3], 0x44);
        a[i + 3] = _mm512_shuffle_ps(b[i + 1], b[i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        b[i] = _mm512_shuffle_f32x4(a[i], a[i + 4], 0x88);
        b[i + 4] = _mm512_shuffle_f32x4(a[i], a[i + 4], 0xdd);
        b[i + 8] = _mm512_shuffle_f32x4(a[i + 8], a[i + 12], 0x88);
        b[i + 12] = _mm512_shuffle_f32x4(a[i + 8], a[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        _mm512_storeu_ps(dst + i * ld_dst, _mm512_shuffle_f32x4(b[i], b[i + 8], 0x88));
        _mm512_storeu_ps(dst + (i + 8) * ld_dst, _mm512_shuffle_f32x4(b[i], b[i + 8], 0xdd));
        _mm512_storeu_ps(dst + (i + 4) * ld_dst, _mm512_shuffle_f32x4(b[i + 4], b[i + 12], 0x88));
        _mm512_storeu_ps(dst + (i + 12) * ld_dst, _mm512_shuffle_f32x4(b[i + 4], b[i + 12], 0xdd));
    }
}

#endif
