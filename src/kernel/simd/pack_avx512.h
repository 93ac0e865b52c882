/* Packing for the AVX-512 and AMX products: 16 x 16 blocks of 4 bytes are transposed in registers. */
#ifndef DAN_KERNEL_PACK_AVX512_H
#define DAN_KERNEL_PACK_AVX512_H
#include "kernel/simd/gemm.h"
#include "kernel/simd/vec_avx512.h"

/* r[i] lane j <-> r[j] lane i: 64 shuffles, 4 stages. */
static inline __attribute__((always_inline)) void transpose16(__m512 r[16])
{
    __m512 t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(t[i]), _mm512_castps_pd(t[i + 2])));
        r[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(t[i]), _mm512_castps_pd(t[i + 2])));
        r[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(t[i + 1]), _mm512_castps_pd(t[i + 3])));
        r[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(t[i + 1]), _mm512_castps_pd(t[i + 3])));
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
        r[i + 4] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0x88);
        r[i + 12] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

/* r[i] lane n = row n, element i of 16 x 16 elements of 4 bytes.  What crosses 128-bit lanes is done by the
 * load ports: 32 shuffles, where transpose16 takes 64 and bounds M = 1 at 18 instead of 25 GB/s a core. */
static inline __attribute__((always_inline)) void load_transposed(const void *src, int64_t ld, __m512 r[16])
{
    for (int q = 0; q < 4; q++) {
        __m512 z[4], t[4];
        for (int j = 0; j < 4; j++) {
            const float *p = dan_gemm_at(src, ld, j, 4 * q);
            z[j] = _mm512_castps128_ps512(_mm_loadu_ps(p));
            z[j] = _mm512_mask_broadcast_f32x4(z[j], 0x00f0, _mm_loadu_ps(dan_gemm_at(p, ld, 4, 0)));
            z[j] = _mm512_mask_broadcast_f32x4(z[j], 0x0f00, _mm_loadu_ps(dan_gemm_at(p, ld, 8, 0)));
            z[j] = _mm512_mask_broadcast_f32x4(z[j], 0xf000, _mm_loadu_ps(dan_gemm_at(p, ld, 12, 0)));
        }
        t[0] = _mm512_unpacklo_ps(z[0], z[1]);
        t[1] = _mm512_unpackhi_ps(z[0], z[1]);
        t[2] = _mm512_unpacklo_ps(z[2], z[3]);
        t[3] = _mm512_unpackhi_ps(z[2], z[3]);
        r[4 * q] = _mm512_shuffle_ps(t[0], t[2], 0x44);
        r[4 * q + 1] = _mm512_shuffle_ps(t[0], t[2], 0xee);
        r[4 * q + 2] = _mm512_shuffle_ps(t[1], t[3], 0x44);
        r[4 * q + 3] = _mm512_shuffle_ps(t[1], t[3], 0xee);
    }
}

/* The same where the 16 rows come from memory: each line is read once.  load_transposed reads it four times, and rows a
 * multiple of 4 KiB apart, 16 lines in one set of L1, have gone by the second time. */
static inline __attribute__((always_inline)) void stream_transposed(const void *src, int64_t ld, __m512 r[16])
{
    for (int i = 0; i < 16; i++) r[i] = _mm512_loadu_ps(dan_gemm_at(src, ld, i, 0));
    transpose16(r);
}

/* Rows of the next 32 columns, which are read when these are done: 16 rows in short pieces are too many streams for the
 * prefetcher.  Weights in memory then arrive 1.2 to 3.9 times as fast (Zen 4, one core: 26 GB/s).  Step t of 64 bytes asks for
 * GROUP lines of 16 / GROUP rows: neighbours in memory together, 1.1 to 1.4 x again (16: worse). */
enum { GROUP = 8 };
static inline __attribute__((always_inline)) void ask_for_next(const char *b, int64_t ld, int64_t t)
{
    int64_t part = t % GROUP;
    b += (32 + part * (16 / GROUP)) * ld - 64 * part;
    for (int i = 0; i < 16 / GROUP; i++)
        for (int j = 0; j < GROUP; j++) _mm_prefetch(b + i * ld + 64 * j, _MM_HINT_T1);
}

/* Any part of a block, zeros beyond. */
static inline void load_part(const float *src, int64_t ld, int rows, int64_t k, __m512 r[16])
{
    for (int i = 0; i < 16; i++) r[i] = i < rows ? _mm512_maskz_loadu_ps(vf_mask(k), dan_gemm_at(src, ld, i, 0)) : _mm512_setzero_ps();
    transpose16(r);
}

/* To bf16, nearest even, still as f32; NaN stays NaN. */
static inline __m512 round_bf16(__m512 x)
{
    __m512i u = _mm512_castps_si512(x), odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    u = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    u = _mm512_and_si512(u, _mm512_set1_epi32((int)0xffff0000));
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), _mm512_castsi512_ps(u), x);
}

/* dst[k][width] = src[n][k] for n < rows <= 16, zeros for n up to `width` <= 16; rows are `step` floats apart
 * in dst; rounded to bf16 if asked. */
static inline void pack_transposed(float *dst, int64_t step, int width, const float *src, int64_t ld, int rows, int64_t k, bool bf16)
{
    __mmask16 keep = vf_mask(width);
    for (int64_t k0 = 0; k0 < k; k0 += 16) {
        __m512 r[16];
        ask_for_next((const char *)dan_gemm_at(src, ld, 0, k0), ld, k0 / 16);
        if (rows >= 16 && k - k0 >= 16) stream_transposed(dan_gemm_at(src, ld, 0, k0), ld, r);
        else load_part(dan_gemm_at(src, ld, 0, k0), ld, rows, k - k0, r);
        for (int i = 0; bf16 && i < 16; i++) r[i] = round_bf16(r[i]);
        if (k - k0 >= 16) {
            for (int i = 0; i < 16; i++) _mm512_mask_storeu_ps(dst + (k0 + i) * step, keep, r[i]);
        } else {
            for (int i = 0; i < 16; i++)
                if (k0 + i < k) _mm512_mask_storeu_ps(dst + (k0 + i) * step, keep, r[i]);
        }
    }
}

/* 32 bf16 from p, the first n of them, zeros after. */
static inline __m512 bf16_stored(const char *p, int64_t n)
{
    return _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(n >= 32 ? 0xffffffffu : (1u << n) - 1, p));
}

/* r[i] lane n: elements 2i and 2i + 1 of row n of a bf16 matrix, zeros beyond rows and k. */
static inline __attribute__((always_inline)) void load_pairs(const char *src, int64_t ld, int rows, int64_t k, __m512 r[16])
{
    if (rows >= 16 && k >= 32) {
        load_transposed(src, ld, r);
        return;
    }
    for (int i = 0; i < 16; i++) r[i] = i < rows ? bf16_stored(src + i * ld, k) : _mm512_setzero_ps();
    transpose16(r);
}

/* dst[k][16] = src[n][k] as f32 for n < rows, zeros after; src is bf16, rows of dst are `step` floats apart. */
static inline void unpack_transposed(float *dst, int64_t step, const char *src, int64_t ld, int rows, int64_t k)
{
    for (int64_t k0 = 0; k0 < k; k0 += 32) {
        __m512 r[16];
        load_pairs(src + 2 * k0, ld, rows, k - k0, r);
        for (int i = 0; i < 16; i++) {                 /* lane n: the pair (k, k + 1) of row n */
            __m512i even = _mm512_slli_epi32(_mm512_castps_si512(r[i]), 16);
            __m512i odd = _mm512_and_si512(_mm512_castps_si512(r[i]), _mm512_set1_epi32((int)0xffff0000));
            if (k0 + 2 * i < k) _mm512_store_si512(dst + (k0 + 2 * i) * step, even);
            if (k0 + 2 * i + 1 < k) _mm512_store_si512(dst + (k0 + 2 * i + 1) * step, odd);
        }
    }
}

#ifdef __AVX512BF16__
/* The first n floats as bf16. */
static inline void store_half(void *p, __m512 x, int64_t n)
{
    __m256i h = (__m256i)_mm512_cvtneps_pbh(x);
    if (n >= 16) _mm256_storeu_si256(p, h);
    else _mm256_mask_storeu_epi16(p, vf_mask(n), h);
}

/* 32 floats from p, the first n of them, as bf16 (nearest even), zeros after. */
static inline __m512 bf16_from(const float *p, int64_t n)
{
    __m512 lo = _mm512_maskz_loadu_ps(vf_mask(n), p), hi = _mm512_maskz_loadu_ps(vf_mask(n > 16 ? n - 16 : 0), p + 16);
    return (__m512)_mm512_cvtne2ps_pbh(hi, lo);
}

/* dst[k/2][n] = the pair (src[n][k], src[n][k+1]) as bf16, n < 16 (zeros from `rows` on); k is padded with
 * zeros to an even number.  Rows of dst are `step` pairs apart, `width` of each are written.  src is f32 or,
 * stored, bf16. */
static inline void pack_pairs_transposed(float *dst, int64_t step, int width, const void *src, int64_t ld, int rows, int64_t k, bool stored)
{
    __mmask16 keep = vf_mask(width);
    for (int64_t k0 = 0; k0 < k; k0 += 32) {
        __m512 r[16];
        int64_t n = (k - k0 + 1) / 2;
        const char *line = (const char *)src + k0 * (stored ? 2 : 4);
        ask_for_next(line, ld, k0 / (stored ? 32 : 16));
        if (stored && rows >= 16 && k - k0 >= 32) {
            stream_transposed(line, ld, r);
        } else if (stored) {
            load_pairs(line, ld, rows, k - k0, r);
        } else {
            for (int i = 0; i < 16; i++) r[i] = i < rows ? bf16_from(dan_gemm_at(src, ld, i, k0), k - k0) : _mm512_setzero_ps();
            transpose16(r);
        }
        for (int i = 0; i < 16; i++)
            if (i < n) _mm512_mask_storeu_ps(dst + (k0 / 2 + i) * step, keep, r[i]);
    }
}

/* Lane n: the pair (x[n], y[n]) as bf16. */
static inline __m512 bf16_pairs(__m512 x, __m512 y)
{
    const __m512i zip = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,
                                         23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_castsi512_ps(_mm512_permutexvar_epi16(zip, (__m512i)_mm512_cvtne2ps_pbh(y, x)));
}

/* 16 elements from p under a mask, as f32; p is f32 or, stored, bf16. */
static inline __m512 load_either(const char *p, __mmask16 part, bool stored)
{
    if (!stored) return _mm512_maskz_loadu_ps(part, p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(part, p)), 16));
}

/* The same from src[k][n]. */
static inline void pack_pairs(float *dst, int64_t step, int width, const char *src, int64_t ld, int rows, int64_t k, bool stored)
{
    __mmask16 keep = vf_mask(width), part = vf_mask(rows > 0 ? rows : 0);
    for (int64_t i = 0; i < k; i += 2, src += 2 * ld) {
        __m512 x = load_either(src, part, stored);
        __m512 y = i + 1 < k ? load_either(src + ld, part, stored) : _mm512_setzero_ps();
        _mm512_mask_storeu_ps(dst + i / 2 * step, keep, bf16_pairs(x, y));
    }
}
#endif

#endif
