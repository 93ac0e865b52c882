/* Vectors of 16 floats.  vec_avx512.h, vec_avx2.h and vec_scalar.h give the same names, so that
 * vec_math.h, gemm_body.h and head_ce_body.h are written once. */
#ifndef DAN_KERNEL_VEC_AVX512_H
#define DAN_KERNEL_VEC_AVX512_H
#include <immintrin.h>
#include <stdint.h>

enum { VF = 16 };
typedef __m512 vf;

static inline __mmask16 vf_mask(int64_t n) { return n >= VF ? 0xffff : (__mmask16)((1u << n) - 1); }
static inline vf   vf_set(float x) { return _mm512_set1_ps(x); }
static inline vf   vf_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void vf_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
static inline vf   vf_load_n(const float *p, int64_t n) { return _mm512_maskz_loadu_ps(vf_mask(n), p); }   /* the first n, then 0 */
static inline void vf_store_n(float *p, vf x, int64_t n) { _mm512_mask_storeu_ps(p, vf_mask(n), x); }
static inline vf   vf_load_bf16(const void *p)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
}
static inline void vf_store_bf16(void *p, vf x)        /* to nearest even; NaN stays NaN; without AVX512_BF16 */
{
    __m512i u = _mm512_castps_si512(x), odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    __m512i r = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    r = _mm512_mask_or_epi32(r, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), u, _mm512_set1_epi32(0x400000));
    _mm256_storeu_si256(p, _mm512_cvtepi32_epi16(_mm512_srli_epi32(r, 16)));
}
/* Numbers of a word: the two bf16 of every lane, the four bytes (k = 0 .. 3, signed), and back. */
static inline vf   vf_low_bf16(vf w) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(w), 16)); }
static inline vf   vf_high_bf16(vf w) { return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(w), _mm512_set1_epi32(-65536))); }
static inline vf   vf_byte(vf w, int k)
{
    return _mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(_mm512_castps_si512(w), (unsigned)(24 - 8 * k)), 24));
}
static inline void vf_store_s8(void *p, vf x) { _mm_storeu_si128(p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x))); }    /* VF whole numbers */
static inline vf   vf_load_f16(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256(p)); }
static inline vf   vf_add(vf x, vf y) { return _mm512_add_ps(x, y); }
static inline vf   vf_sub(vf x, vf y) { return _mm512_sub_ps(x, y); }
static inline vf   vf_mul(vf x, vf y) { return _mm512_mul_ps(x, y); }
static inline vf   vf_div(vf x, vf y) { return _mm512_div_ps(x, y); }
static inline vf   vf_fma(vf x, vf y, vf z) { return _mm512_fmadd_ps(x, y, z); }           /* x y + z */
static inline vf   vf_max(vf x, vf y) { return _mm512_max_ps(x, y); }                      /* y when x is NaN */
static inline vf   vf_min(vf x, vf y) { return _mm512_min_ps(x, y); }
static inline vf   vf_abs(vf x) { return _mm512_abs_ps(x); }
static inline vf   vf_round(vf x) { return _mm512_roundscale_ps(x, 0); }                   /* to nearest even */
static inline vf   vf_less(vf x, vf y, vf yes, vf no)                                      /* x < y ? yes : no */
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, y, _CMP_LT_OQ), no, yes);
}
static inline vf   vf_sign_of(vf x, vf s)                                                  /* |x| with the sign of s */
{
    const __m512i sign = _mm512_set1_epi32(INT32_MIN);
    return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(sign, _mm512_castps_si512(s), _mm512_castps_si512(x), 0xca));
}
static inline vf   vf_bits_sub(uint32_t c, vf x)                                           /* c - the bits of x */
{
    return _mm512_castsi512_ps(_mm512_sub_epi32(_mm512_set1_epi32((int)c), _mm512_castps_si512(x)));
}
static inline vf   vf_scale2(vf x, vf n) { return _mm512_scalef_ps(x, n); }                /* x 2^n, n whole */
/* 1 / x for 1 <= x < 2^125 to 1 ulp: a guess from the bits (5 %), one cubic and one quadratic step.  6 cheap
 * instructions, where a division occupies its unit for 16 cycles and rcp14ps differs between makers. */
static inline vf   vf_recip(vf x)
{
    vf one = vf_set(1.f), r = vf_bits_sub(0x7ef311c3u, x), e = _mm512_fnmadd_ps(x, r, one);
    r = vf_fma(r, vf_fma(e, e, e), r);
    return vf_fma(r, _mm512_fnmadd_ps(x, r, one), r);
}
static inline float vf_sum(vf x) { return _mm512_reduce_add_ps(x); }
static inline float vf_top(vf x) { return _mm512_reduce_max_ps(x); }

#endif
