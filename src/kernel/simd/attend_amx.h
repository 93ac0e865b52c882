/* What attend_bf16_amx and attend_grad_bf16_amx share: packing of bf16 rows into tiles of 16 rows x 64 bytes, the
 * product of 2 x 2 tiles, and exponentials for numbers that are about to be rounded to bf16.
 *
 * tdpbf16ps adds a[m][k] b[k][n] over 32 k; its right factor holds pairs of k in a lane: [16 pairs][16 n][2].  A tile
 * is 1 KiB, contiguous.  AMX reads what plain stores wrote, which the compiler does not see: fence() between. */
#ifndef DAN_KERNEL_ATTEND_AMX_H
#define DAN_KERNEL_ATTEND_AMX_H
#include "kernel/simd/amx.h"
#include "kernel/simd/block_avx512.h"
#include "kernel/simd/attend_keys.h"

enum { TILE_BYTES = 1024 };

static inline void fence(void) { __asm__ volatile("" ::: "memory"); }

/* ---- 2 x 2 tiles: 0 = a0 b0, 1 = a0 b1, 2 = a1 b0, 3 = a1 b1 ---------------------------------------------- */

INLINE void tiles_zero(void)
{
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
}

/* n products along k; `a_step` and `b_step` bytes from one to the next. */
INLINE void tiles_product(const char *a0, const char *a1, int64_t a_step, const char *b0, const char *b1, int64_t b_step, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        _tile_loadd(4, a0 + i * a_step, 64);
        _tile_loadd(6, b0 + i * b_step, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b1 + i * b_step, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, a1 + i * a_step, 64);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
}

/* The four sums at c, c + right, c + down, c + down + right; rows `ld` bytes apart. */
INLINE void tiles_load(const char *c, int64_t right, int64_t down, int64_t ld)
{
    _tile_loadd(0, c, ld);
    _tile_loadd(1, c + right, ld);
    _tile_loadd(2, c + down, ld);
    _tile_loadd(3, c + down + right, ld);
}

INLINE void tiles_store(char *c, int64_t right, int64_t down, int64_t ld)
{
    _tile_stored(0, c, ld);
    _tile_stored(1, c + right, ld);
    _tile_stored(2, c + down, ld);
    _tile_stored(3, c + down + right, ld);
}

/* ---- packing ------------------------------------------------------------------------------------------------ */

/* 16 rows of bf16 to read; NULL: a row of zeros. */
struct lines { const uint16_t *at[16]; };

INLINE __m512i line(const uint16_t *p, int64_t from, int64_t d)
{
    if (!p) return _mm512_setzero_si512();
    if (d - from >= 32) return _mm512_loadu_si512(p + from);
    return _mm512_maskz_loadu_epi16(d - from >= 32 ? 0xffffffffu : (1u << (d - from)) - 1, p + from);
}

/* r[i] lane j <-> r[j] lane i */
INLINE void transpose16(__m512i r[16])
{
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

INLINE void store_tile(char *dst, const __m512i r[16])
{
    for (int i = 0; i < 16; i++) _mm512_store_si512(dst + i * 64, r[i]);
}

/* Tiles of up32(d) / 32 steps, `step` bytes apart: [16 rows][32] as left factor, contraction over d. */
INLINE void pack_left(char *dst, int64_t step, const struct lines *l, int64_t d)
{
    for (int64_t c = 0; c < d; c += 32, dst += step)
        for (int i = 0; i < 16; i++) _mm512_store_si512(dst + i * 64, line(l->at[i], c, d));
}

/* The same as right factor: [16 pairs of d][16 rows][2]. */
INLINE void pack_right(char *dst, int64_t step, const struct lines *l, int64_t d)
{
    for (int64_t c = 0; c < d; c += 32, dst += step) {
        __m512i r[16];
        for (int i = 0; i < 16; i++) r[i] = line(l->at[i], c, d);
        transpose16(r);
        store_tile(dst, r);
    }
}

/* Rows 2i and 2i + 1 as pairs: 16 pairs of 32 rows, columns c .. c + 15 in lo, c + 16 .. c + 31 in hi. */
INLINE void pair_rows(const struct lines l[2], int64_t c, int64_t d, __m512i lo[16], __m512i hi[16])
{
    const __m512i order = _mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0);    /* then unpack leaves columns in order */
    for (int i = 0; i < 16; i++) {
        __m512i x = _mm512_permutexvar_epi64(order, line(l[i / 8].at[2 * i % 16], c, d));
        __m512i y = _mm512_permutexvar_epi64(order, line(l[i / 8].at[2 * i % 16 + 1], c, d));
        lo[i] = _mm512_unpacklo_epi16(x, y);
        hi[i] = _mm512_unpackhi_epi16(x, y);
    }
}

/* 32 rows as right factor, contraction over rows: up32(d) / 16 tiles [16 pairs of rows][16 d][2], `step` apart. */
INLINE void pack_right_rows(char *dst, int64_t step, const struct lines l[2], int64_t d)
{
    for (int64_t c = 0; c < d; c += 32, dst += 2 * step) {
        __m512i lo[16], hi[16];
        pair_rows(l, c, d, lo, hi);
        store_tile(dst, lo);
        store_tile(dst + step, hi);
    }
}

/* 32 rows as left factor, contraction over rows: up32(d) / 16 tiles [16 d][32 rows], `step` apart. */
INLINE void pack_left_rows(char *dst, int64_t step, const struct lines l[2], int64_t d)
{
    for (int64_t c = 0; c < d; c += 32, dst += 2 * step) {
        __m512i lo[16], hi[16];
        pair_rows(l, c, d, lo, hi);
        transpose16(lo);
        store_tile(dst, lo);
        transpose16(hi);
        store_tile(dst + step, hi);
    }
}

/* ---- numbers ------------------------------------------------------------------------------------------------ */

/* 2^x, relative error 3e-6 (minimax polynomial of degree 4 on [0, 1)); 0 far below -126. */
INLINE __m512 exp2_of(__m512 x)
{
    __m512 r = _mm512_reduce_ps(x, 0x09);              /* x - floor(x) */
    __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(0.0135341679f), r, _mm512_set1_ps(0.0520114606f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.241442757f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.693003834f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.00000259f));
    return _mm512_scalef_ps(p, x);                     /* takes floor(x) itself */
}

/* ln x, x > 0 and normal: Cephes' logf. */
INLINE __m512 log_of(__m512 x)
{
    __m512 e = _mm512_getexp_ps(x), m = _mm512_getmant_ps(x, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_src);
    __mmask16 big = _mm512_cmp_ps_mask(m, _mm512_set1_ps(1.41421356f), _CMP_GT_OQ);
    m = _mm512_mask_mul_ps(m, big, m, _mm512_set1_ps(0.5f));
    e = _mm512_mask_add_ps(e, big, e, _mm512_set1_ps(1.f));
    __m512 r = _mm512_sub_ps(m, _mm512_set1_ps(1.f)), z = _mm512_mul_ps(r, r);
    static const float c[] = {-1.1514610310e-1f, 1.1676998740e-1f, -1.2420140846e-1f, 1.4249322787e-1f,
                              -1.6668057665e-1f, 2.0000714765e-1f, -2.4999993993e-1f, 3.3333331174e-1f};
    __m512 p = _mm512_set1_ps(7.0376836292e-2f);
    for (int i = 0; i < 8; i++) p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c[i]));
    __m512 y = _mm512_mul_ps(_mm512_mul_ps(p, r), z);
    y = _mm512_fmadd_ps(_mm512_set1_ps(-0.5f), z, y);
    y = _mm512_fmadd_ps(e, _mm512_set1_ps(-2.12194440e-4f), y);
    return _mm512_fmadd_ps(e, _mm512_set1_ps(0.693359375f), _mm512_add_ps(r, y));
}

INLINE __m512 join2(bool add, __m512 x, __m512 y) { return add ? _mm512_add_ps(x, y) : _mm512_max_ps(x, y); }

/* Lane i: the sum or the largest of r[i]. */
INLINE __m512 fold(bool add, __m512 r[16])
{
    for (int i = 0; i < 8; i++) r[i] = join2(add, _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]), _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]));
    for (int i = 0; i < 4; i++) {
        __m512d x = _mm512_castps_pd(r[2 * i]), y = _mm512_castps_pd(r[2 * i + 1]);
        r[i] = join2(add, _mm512_castpd_ps(_mm512_unpacklo_pd(x, y)), _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));
    }
    for (int n = 2; n >= 1; n--)
        for (int i = 0; i < n; i++)
            r[i] = join2(add, _mm512_shuffle_f32x4(r[2 * i], r[2 * i + 1], 0x88), _mm512_shuffle_f32x4(r[2 * i], r[2 * i + 1], 0xdd));
    return r[0];
}

/* [y, x] as 32 bf16, nearest even: x in the lower half. */
INLINE __m512i to_bf16(__m512 x, __m512 y) { return (__m512i)_mm512_cvtne2ps_pbh(y, x); }

/* n <= 32 floats x, y to a row of a tensor that is stored as bf16 or f32. */
INLINE void store_as(bool bf16, char *row, int64_t at, __m512 x, __m512 y, int64_t n)
{
    __mmask32 keep = n >= 32 ? 0xffffffffu : (1u << n) - 1;
    if (bf16 && n >= 32) {
        _mm512_storeu_si512(row + at * 2, to_bf16(x, y));
    } else if (bf16) {
        _mm512_mask_storeu_epi16(row + at * 2, keep, to_bf16(x, y));
    } else {
        _mm512_mask_storeu_ps(row + at * 4, (__mmask16)keep, x);
        _mm512_mask_storeu_ps(row + at * 4 + 64, (__mmask16)(keep >> 16), y);
    }
}

/* Keys that any of n = 32 k items sees (any: the span of them), or that all see. */
static inline struct keys all_of(const struct keys *x, int64_t n, bool any)
{
    const __m512i zero = _mm512_setzero_si512(), far = _mm512_set1_epi64(INT32_MAX);
    __m512i lo = any ? far : zero, hi = any ? zero : _mm512_slli_epi64(far, 32);
    for (int64_t i = 0; i < n; i += 8) {               /* a lane of 64 bits: lo, hi */
        __m512i k = _mm512_loadu_si512(x + i);
        __mmask8 empty = _mm512_cmple_epi64_mask(_mm512_srai_epi64(k, 32), _mm512_srai_epi64(_mm512_slli_epi64(k, 32), 32));
        lo = any ? _mm512_min_epi32(lo, _mm512_mask_mov_epi64(k, empty, far)) : _mm512_max_epi32(lo, k);
        hi = any ? _mm512_max_epi32(hi, k) : _mm512_min_epi32(hi, k);
    }
    _Alignas(64) struct keys l[8], h[8];
    _mm512_store_si512(l, lo);
    _mm512_store_si512(h, hi);
    struct keys r = {l[0].lo, h[0].hi};
    for (int i = 1; i < 8; i++) {
        r.lo = (int32_t)(any ? least(r.lo, l[i].lo) : most(r.lo, l[i].lo));
        r.hi = (int32_t)(any ? most(r.hi, h[i].hi) : least(r.hi, h[i].hi));
    }
    return r.lo < r.hi ? r : (struct keys){0, 0};
}

/* Bit i: key c + i is one of k. */
INLINE uint32_t columns_of(struct keys k, int64_t c)
{
    int64_t lo = k.lo - c, hi = k.hi - c;
    uint32_t from = lo < 0 ? 0 : lo > 31 ? ~0u : (1u << lo) - 1, to = hi < 0 ? 0 : hi > 31 ? ~0u : (1u << hi) - 1;
    return to & ~from;
}

#endif
