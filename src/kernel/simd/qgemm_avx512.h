/* The vectors of qgemm_body.h by AVX-512 VNNI; after qformat_NAME.h.  vpdpbusd takes levels (unsigned) times activations (signed); what
 * is subtracted from a level comes back through the sum of the activations, with which each sum starts. */
#ifndef DAN_KERNEL_QGEMM_AVX512_H
#define DAN_KERNEL_QGEMM_AVX512_H
#include "kernel/simd/math_avx512.h"
#include "kernel/simd/round_avx512.h"
#include "kernel/simd/qgemm.h"
#include "kernel/simd/store_half.h"

/* 32 registers: 12 sums, 8 of levels, scale, minimum; the rest for products on their way. */
enum { MR = 12 };

/* ---- weights: laying out ----------------------------------------------------------------------- */

/* Dwords 0-3 (t[j], lanes 0 and 2) and 4-7 (lanes 1 and 3) of rows 0..3 and 4..7 of 32 bytes. */
static inline void dwords_of_8(const uint8_t *p, __m512i t[4])
{
    __m512i r[4], u[4];
    for (int i = 0; i < 4; i++) {
        __m256i x = _mm256_loadu_si256((const __m256i *)(p + i * GROUP)), y = _mm256_loadu_si256((const __m256i *)(p + (i + 4) * GROUP));
        r[i] = _mm512_inserti64x4(_mm512_castsi256_si512(x), y, 1);
    }
    u[0] = _mm512_unpacklo_epi32(r[0], r[1]);
    u[1] = _mm512_unpackhi_epi32(r[0], r[1]);
    u[2] = _mm512_unpacklo_epi32(r[2], r[3]);
    u[3] = _mm512_unpackhi_epi32(r[2], r[3]);
    t[0] = _mm512_unpacklo_epi64(u[0], u[2]);
    t[1] = _mm512_unpackhi_epi64(u[0], u[2]);
    t[2] = _mm512_unpacklo_epi64(u[1], u[3]);
    t[3] = _mm512_unpackhi_epi64(u[1], u[3]);
}

static inline __m512i bits_of(__m512i x, int mask) { return _mm512_and_si512(x, _mm512_set1_epi8((char)mask)); }

/* Levels [16][32] of 16 columns to the layout of qformat.h. */
static inline void store_levels(const uint8_t *levels, char *to)
{
    __m512i lo[4], hi[4], w[8];
    dwords_of_8(levels, lo);
    dwords_of_8(levels + 8 * GROUP, hi);
    for (int j = 0; j < 4; j++) {
        w[j] = _mm512_shuffle_i32x4(lo[j], hi[j], 0x88);
        w[j + 4] = _mm512_shuffle_i32x4(lo[j], hi[j], 0xdd);
    }
    for (int j = 0; j < 8 && BITS == 8; j++) _mm512_storeu_si512(to + 64 * j, w[j]);
    if (BITS == 8) return;
    for (int j = 0; j < 4 && HAS_NIBBLES; j++, to += 64)
        _mm512_storeu_si512(to, _mm512_or_si512(bits_of(w[j], 15), _mm512_slli_epi16(bits_of(w[j + 4], 15), 4)));
    if (HAS_ODD) {
        __m512i odd = _mm512_setzero_si512();
        for (int j = 0; j < 8; j++) odd = _mm512_or_si512(odd, _mm512_slli_epi16(bits_of(_mm512_srli_epi16(w[j], ODD_AT), 1), (unsigned)j));
        _mm512_storeu_si512(to, odd);
        to += 64;
    }
    for (int h = 0; h < 2 && HAS_TWO; h++, to += 64) {
        __m512i two = _mm512_setzero_si512();
        for (int j = 0; j < 4; j++)
            two = _mm512_or_si512(two, _mm512_slli_epi16(bits_of(_mm512_srli_epi16(w[4 * h + j], TWO_AT), 3), 2 * (unsigned)j));
        _mm512_storeu_si512(to, two);
    }
}

/* ---- weights: reading -------------------------------------------------------------------------- */

/* w | (x shifted so that bit `from` comes to bit `at`) & mask << at; constants. */
static inline __attribute__((always_inline)) __m512i or_bits(__m512i w, __m512i x, int from, int at, int mask)
{
    __m512i y = from > at ? _mm512_srli_epi16(x, (unsigned)(from - at)) : _mm512_slli_epi16(x, (unsigned)(at - from));
    return _mm512_ternarylogic_epi64(w, y, _mm512_set1_epi8((char)(mask << at)), 0xf8);
}

static inline __attribute__((always_inline)) void load_levels(const char *p, __m512i w[8])
{
    for (int j = 0; j < 8; j++) w[j] = BITS == 8 ? _mm512_loadu_si512(p + 64 * j) : _mm512_setzero_si512();
    for (int j = 0; j < 4 && HAS_NIBBLES; j++, p += 64) {
        __m512i both = _mm512_loadu_si512(p);
        w[j] = bits_of(both, 15);
        w[j + 4] = bits_of(_mm512_srli_epi16(both, 4), 15);
    }
    if (HAS_ODD) {
        __m512i odd = _mm512_loadu_si512(p);
        for (int j = 0; j < 8; j++) w[j] = or_bits(w[j], odd, j, ODD_AT, 1);
        p += 64;
    }
    if (HAS_TWO) {
        __m512i two[2] = {_mm512_loadu_si512(p), _mm512_loadu_si512(p + 64)};
        for (int j = 0; j < 8; j++) w[j] = or_bits(w[j], two[j / 4], 2 * (j % 4), TWO_AT, 3);
    }
    if (!q_table) return;
    __m512i table = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)q_table));
    for (int j = 0; j < 8; j++) w[j] = _mm512_shuffle_epi8(table, w[j]);
}

/* Scales of one group: [h] of each half, or [0] of all; min is added. */
struct scales { __m512 scale[1 + HALVES], min[1 + HALVES]; };

static inline __m512 f16_at(const char *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }

/* The f16 in the low half (shift 16) or the high half (0) of dwords. */
static inline __m512 f16_of_pair(__m512i x, int high)
{
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(high ? _mm512_srli_epi32(x, 16) : x));
}

static inline __m512 six_bits(__m512i x) { return _mm512_cvtepi32_ps(_mm512_and_si512(x, _mm512_set1_epi32(63))); }

/* Scale and minimum of group g: ggml-quants.c, get_scale_min_k4. */
static inline __attribute__((always_inline)) struct scales scales_six(const char *head, int g)
{
    __m512i dm = _mm512_loadu_si512(head), a = _mm512_loadu_si512(head + 64), b = _mm512_loadu_si512(head + 128);
    __m128i by = _mm_cvtsi32_si128(8 * (g & 3));
    a = _mm512_srl_epi32(a, by);
    b = _mm512_srl_epi32(b, by);
    if (g >= 4) {
        const __m512i top = _mm512_set1_epi32(0x30), low = _mm512_set1_epi32(15);
        __m512i c = _mm512_srl_epi32(_mm512_loadu_si512(head + 192), by);
        a = _mm512_or_si512(_mm512_and_si512(c, low), _mm512_and_si512(_mm512_srli_epi32(a, 2), top));
        b = _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi32(c, 4), low), _mm512_and_si512(_mm512_srli_epi32(b, 2), top));
    }
    struct scales s = {.scale[0] = _mm512_mul_ps(f16_of_pair(dm, 0), six_bits(a))};
    s.min[0] = _mm512_sub_ps(_mm512_setzero_ps(), _mm512_mul_ps(f16_of_pair(dm, 1), six_bits(b)));
    return s;
}

static inline __attribute__((always_inline)) struct scales load_scales(const char *head, int g)
{
    struct scales s = {0};
    if (IS_SIX) return scales_six(head, g);
    for (int h = 0; h <= HALVES; h++) {
        if (IS_PLAIN) {
            s.scale[h] = f16_at(head + 32 * h);
            if (MINS) s.min[h] = f16_at(head + 32 * (1 + HALVES + h));
        } else if (IS_BYTES) {
            __m128i q = _mm_loadu_si128((const __m128i *)(head + 2 * NR + (2 * g + h) * NR));
            s.scale[h] = _mm512_mul_ps(f16_at(head), _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(q)));
        } else {
            __m512i dm = _mm512_loadu_si512(head), q;
            q = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(head + 4 * NR + (2 * g + h) * NR)));
            s.scale[h] = _mm512_mul_ps(f16_of_pair(dm, 0), _mm512_cvtepi32_ps(_mm512_and_si512(q, _mm512_set1_epi32(15))));
            s.min[h] = _mm512_mul_ps(f16_of_pair(dm, 1), _mm512_cvtepi32_ps(_mm512_srli_epi32(q, 4)));
            s.min[h] = _mm512_sub_ps(_mm512_setzero_ps(), s.min[h]);
        }
    }
    return s;
}

/* ---- loose groups: 8 x 64 bytes of levels, then scales and minima in f32 -------------------------- */

static inline void loosen(const char *head, const char *levels, int g, char *to)
{
    __m512i w[8];
    struct scales s = load_scales(head, g);
    load_levels(levels, w);
    for (int j = 0; j < 8; j++) _mm512_store_si512(to + 64 * j, w[j]);
    for (int h = 0; h <= HALVES; h++) _mm512_store_ps(to + LEVELS + 64 * h, s.scale[h]);
    for (int h = 0; h <= HALVES && MINS; h++) _mm512_store_ps(to + LEVELS + 64 * (1 + HALVES + h), s.min[h]);
}

static inline void load_loose(const char *p, __m512i w[8], struct scales *s)
{
    for (int j = 0; j < 8; j++) w[j] = _mm512_load_si512(p + 64 * j);
    for (int h = 0; h <= HALVES; h++) s->scale[h] = _mm512_load_ps(p + LEVELS + 64 * h);
    for (int h = 0; h <= HALVES && MINS; h++) s->min[h] = _mm512_load_ps(p + LEVELS + 64 * (1 + HALVES + h));
}

/* ---- one group of rows --------------------------------------------------------------------------- */

static inline __m512i start_of(const char *x, int h)
{
    return OFFSET > 0 && MINS == 0 ? _mm512_set1_epi32(((const int32_t *)(x + GROUP))[1 + h]) : _mm512_setzero_si512();
}

/* Levels w[lo .. hi) times the activations of x; few rows take two chains: the sums are exact. */
static inline __attribute__((always_inline)) __m512i dot(const char *x, const __m512i *w, int lo, int hi, int h, bool chains)
{
    const int32_t *q = (const int32_t *)x;
    __m512i t = start_of(x, h), u = _mm512_setzero_si512();
    for (int j = lo; j < hi; j++) {
        if (chains && j % 2) u = _mm512_dpbusd_epi32(u, w[j], _mm512_set1_epi32(q[j]));
        else t = _mm512_dpbusd_epi32(t, w[j], _mm512_set1_epi32(q[j]));
    }
    return chains ? _mm512_add_epi32(t, u) : t;
}

static inline __attribute__((always_inline)) void add_rows(int rows, const char *x, const __m512i w[8], const struct scales *k, __m512 *s)
{
    for (int i = 0; i < rows; i++, x += X_GROUP) {
        const float *tail = (const float *)(x + GROUP);
        __m512 scale = _mm512_set1_ps(tail[0]);
        for (int h = 0; h <= HALVES; h++) {
            __m512i t = HALVES ? dot(x, w, 4 * h, 4 * h + 4, h, false) : dot(x, w, 0, 8, 0, rows < 3);
            s[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(t), _mm512_mul_ps(k->scale[h], scale), s[i]);
            if (MINS) s[i] = _mm512_fmadd_ps(k->min[h], _mm512_set1_ps(tail[1 + h]), s[i]);
        }
    }
}

/* ---- tiles ----------------------------------------------------------------------------------------- */

static inline __attribute__((always_inline)) void begin_sums(int rows, const float *sum, bool first, __m512 *s)
{
    for (int i = 0; i < rows; i++) s[i] = first ? _mm512_setzero_ps() : _mm512_load_ps(sum + NR * i);
}

static inline __attribute__((always_inline)) void end_sums(int rows, float *sum, const __m512 *s)
{
    for (int i = 0; i < rows; i++) _mm512_store_ps(sum + NR * i, s[i]);
}

static inline __attribute__((always_inline)) void ask(struct ahead *a)
{
    for (int i = 0; i < a->lines; i++, a->p += 64) _mm_prefetch(a->p, _MM_HINT_T1);
}

/* `rows` rows times one packed panel of n blocks. */
static inline __attribute__((always_inline)) void tile_packed_of(int rows, const char *x, const char *p, int64_t n, float *sum, struct ahead a)
{
    __m512 s[MR];
    begin_sums(rows, sum, true, s);
    for (; n > 0; n--, p += BLOCK) {
        const char *levels = p + HEAD_BYTES;
        for (int g = 0; g < GROUPS; g++, levels += GROUP_BYTES, x += rows * X_GROUP) {
            __m512i w[8];
            ask(&a);
            struct scales k = load_scales(p, g);
            load_levels(levels, w);
            add_rows(rows, x, w, &k, s);
        }
    }
    end_sums(rows, sum, s);
}

/* `rows` rows times n loose groups. */
static inline __attribute__((always_inline)) void tile_loose_of(int rows, const char *x, const char *p, int64_t n, float *sum, bool first,
                                                                struct ahead a)
{
    __m512 s[MR];
    begin_sums(rows, sum, first, s);
    for (; n > 0; n--, p += LOOSE, x += rows * X_GROUP) {
        __m512i w[8];
        struct scales k = {0};
        ask(&a);
        load_loose(p, w, &k);
        add_rows(rows, x, w, &k, s);
    }
    end_sums(rows, sum, s);
}

/* More rows than 2 MR make panels of at least 8. */
#define MANY_HEIGHTS(X) X(8) X(9) X(10) X(11) X(12)
#define HEIGHTS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
#define CASE_PACKED(n) case n: tile_packed_of(n, x, p, blocks, sum, a); break;
#define CASE_LOOSE(n) case n: tile_loose_of(n, x, p, groups, sum, first, a); break;

/* Not inlined: see matmul_f32.c. */
static __attribute__((noinline)) void tile_packed(int rows, const char *x, const char *p, int64_t blocks, float *sum, struct ahead a)
{
    switch (rows) { HEIGHTS(CASE_PACKED) }
}

static __attribute__((noinline)) void tile_loose(int rows, const char *x, const char *p, int64_t groups, float *sum, bool first,
                                                 struct ahead a)
{
    switch (rows) { MANY_HEIGHTS(CASE_LOOSE) }
}

#endif
