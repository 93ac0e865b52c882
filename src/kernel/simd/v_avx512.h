/* The vector words that the *_body.h kernels are written in: 16 floats.  v_avx2.h is its twin. */
#ifndef DAN_KERNEL_SIMD_V_AVX512_H
#define DAN_KERNEL_SIMD_V_AVX512_H
#include <stdint.h>
#include "base/sys.h"
#include "kernel/simd/exp_avx512.h"

#define V_NEEDS DAN_CPU_AVX512
enum { VL = 16, V_RANK = 20 };
enum { V_TILE_ROWS = 6, V_TILE_COLS = 4 };             /* of 32 registers: 24 sums, 4 columns, 1 broadcast */
typedef __m512 vf;

static inline vf v_zero(void) { return _mm512_setzero_ps(); }
static inline vf v_set(float x) { return _mm512_set1_ps(x); }
static inline vf v_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void v_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
static inline vf v_add(vf a, vf b) { return _mm512_add_ps(a, b); }
static inline vf v_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
static inline vf v_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
static inline vf v_max(vf a, vf b) { return _mm512_max_ps(a, b); }
static inline vf v_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }       /* a b + c */
static inline vf v_fnma(vf a, vf b, vf c) { return _mm512_fnmadd_ps(a, b, c); }     /* c - a b */
static inline vf v_exp(vf x) { return dan_exp_avx512(x); }
static inline float v_sum(vf x) { return _mm512_reduce_add_ps(x); }
static inline float v_top(vf x) { return _mm512_reduce_max_ps(x); }

/* The first n lanes, 0 <= n <= VL; the others load as 0 and are not stored. */
static inline __mmask16 v_first(int64_t n) { return (__mmask16)((1u << n) - 1); }
static inline vf v_load_n(const float *p, int64_t n) { return _mm512_maskz_loadu_ps(v_first(n), p); }
static inline void v_store_n(float *p, vf x, int64_t n) { _mm512_mask_storeu_ps(p, v_first(n), x); }
/* x in lanes lo <= i < hi, fill elsewhere; any lo, hi. */
static inline vf v_keep(vf x, int64_t lo, int64_t hi, vf fill)
{
    lo = lo < 0 ? 0 : lo > VL ? VL : lo;
    hi = hi < 0 ? 0 : hi > VL ? VL : hi;
    return _mm512_mask_blend_ps((__mmask16)(v_first(hi) & ~v_first(lo)), fill, x);
}

/* dst[c][r] = src[r][c] for VL x VL floats; ld in floats. */
static inline void v_transpose(const float *src, int64_t ld, float *dst, int64_t ld_dst)
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
