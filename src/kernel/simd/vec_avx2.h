/* Vectors of 8 floats; see vec_avx512.h. */
#ifndef DAN_KERNEL_VEC_AVX2_H
#define DAN_KERNEL_VEC_AVX2_H
#include <immintrin.h>
#include <stdint.h>

enum { VF = 8 };
typedef __m256 vf;

static inline __m256i vf_mask(int64_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n > VF ? VF : (int32_t)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline vf   vf_set(float x) { return _mm256_set1_ps(x); }
static inline vf   vf_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void vf_store(float *p, vf x) { _mm256_storeu_ps(p, x); }
/* vmaskmovps is microcode on AMD: a masked store costs as much as a dozen whole ones. */
static inline vf   vf_load_n(const float *p, int64_t n) { return n >= VF ? vf_load(p) : _mm256_maskload_ps(p, vf_mask(n)); }
static inline void vf_store_n(float *p, vf x, int64_t n)
{
    if (n >= VF) vf_store(p, x);
    else if (n > 0) _mm256_maskstore_ps(p, vf_mask(n), x);
}
static inline vf   vf_load_bf16(const void *p)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(p)), 16));
}
static inline void vf_store_bf16(void *p, vf x)        /* to nearest even; NaN stays NaN */
{
    __m256i u = _mm256_castps_si256(x), odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    __m256i r = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    __m256i quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
    r = _mm256_blendv_epi8(r, quiet, _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
    r = _mm256_srli_epi32(r, 16);
    _mm_storeu_si128(p, _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1)));
}
/* Numbers of a word: see vec_avx512.h. */
static inline vf   vf_low_bf16(vf w) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(w), 16)); }
static inline vf   vf_high_bf16(vf w) { return _mm256_castsi256_ps(_mm256_and_si256(_mm256_castps_si256(w), _mm256_set1_epi32(-65536))); }
static inline vf   vf_byte(vf w, int k)
{
    return _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(_mm256_castps_si256(w), 24 - 8 * k), 24));
}
static inline void vf_store_s8(void *p, vf x)
{
    __m256i i = _mm256_cvtps_epi32(x);
    __m128i h = _mm_packs_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256(i, 1));
    _mm_storel_epi64(p, _mm_packs_epi16(h, h));
}
static inline vf   vf_load_f16(const void *p) { return _mm256_cvtph_ps(_mm_loadu_si128(p)); }
static inline vf   vf_add(vf x, vf y) { return _mm256_add_ps(x, y); }
static inline vf   vf_sub(vf x, vf y) { return _mm256_sub_ps(x, y); }
static inline vf   vf_mul(vf x, vf y) { return _mm256_mul_ps(x, y); }
static inline vf   vf_div(vf x, vf y) { return _mm256_div_ps(x, y); }
static inline vf   vf_fma(vf x, vf y, vf z) { return _mm256_fmadd_ps(x, y, z); }
static inline vf   vf_max(vf x, vf y) { return _mm256_max_ps(x, y); }
static inline vf   vf_min(vf x, vf y) { return _mm256_min_ps(x, y); }
static inline vf   vf_abs(vf x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.f), x); }
static inline vf   vf_round(vf x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline vf   vf_less(vf x, vf y, vf yes, vf no) { return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(x, y, _CMP_LT_OQ)); }
static inline vf   vf_sign_of(vf x, vf s)
{
    const vf sign = _mm256_set1_ps(-0.f);
    return _mm256_or_ps(_mm256_andnot_ps(sign, x), _mm256_and_ps(sign, s));
}
static inline vf   vf_bits_sub(uint32_t c, vf x)
{
    return _mm256_castsi256_ps(_mm256_sub_epi32(_mm256_set1_epi32((int)c), _mm256_castps_si256(x)));
}
/* 1 / x for 1 <= x < 2^125 to 1 ulp: a guess from the bits (5 %), one cubic and one quadratic step.  6 cheap
 * instructions, where a division occupies its unit for 16 cycles and rcp14ps differs between makers. */
static inline vf   vf_recip(vf x)
{
    vf one = vf_set(1.f), r = vf_bits_sub(0x7ef311c3u, x), e = _mm256_fnmadd_ps(x, r, one);
    r = vf_fma(r, vf_fma(e, e, e), r);
    return vf_fma(r, _mm256_fnmadd_ps(x, r, one), r);
}
/* x 2^n in two steps, so that n from -252 to 254 neither wraps nor loses a denormal result. */
static inline vf   vf_scale2(vf x, vf n)
{
    __m256i e = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(e, 1), bias = _mm256_set1_epi32(127);
    vf p = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
    vf q = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(e, half), bias), 23));
    return _mm256_mul_ps(_mm256_mul_ps(x, p), q);
}
static inline float vf_sum(vf x)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
static inline float vf_top(vf x)
{
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

#endif
