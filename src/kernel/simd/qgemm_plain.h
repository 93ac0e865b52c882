/* The vectors of qgemm_body.h for ISAs narrower than a panel; after qformat_NAME.h and math_ISA.h.  Groups are loosened in plain C, which
 * compilers make vectors of; the products are the ISA's:
 *   void add_rows(int rows, const char *x, const char *loose, float *sum)   sum[rows][NR] += one group of each row times a loose group
 * Integers and scales are those of qgemm_avx512.h, and so are the f32 sums where add_rows fuses multiplication and addition. */
#ifndef DAN_KERNEL_QGEMM_PLAIN_H
#define DAN_KERNEL_QGEMM_PLAIN_H
#include "core/half.h"
#include "kernel/simd/round_plain.h"
#include "kernel/simd/qgemm.h"

/* ---- weights: laying out ------------------------------------------------------------------------- */

/* Row j of a group is bytes 4j .. 4j+3 of the levels of all columns. */
static inline void level_row(const uint8_t *levels, int j, uint8_t row[64])
{
    for (int n = 0; n < NR; n++) memcpy(row + 4 * n, levels + n * GROUP + 4 * j, 4);
}

static inline void store_levels(const uint8_t *levels, char *dst)
{
    uint8_t row[8][64], *to = (uint8_t *)dst;
    for (int j = 0; j < 8; j++) level_row(levels, j, row[j]);
    if (BITS == 8) {
        memcpy(to, row, sizeof row);
        return;
    }
    memset(to, 0, GROUP_BYTES);
    for (int j = 0; j < 4 && HAS_NIBBLES; j++, to += 64)
        for (int i = 0; i < 64; i++) to[i] = (uint8_t)((row[j][i] & 15) | (row[j + 4][i] & 15) << 4);
    for (int j = 0; j < 8 && HAS_ODD; j++)
        for (int i = 0; i < 64; i++) to[i] = (uint8_t)(to[i] | (row[j][i] >> ODD_AT & 1) << j);
    if (HAS_ODD) to += 64;
    for (int j = 0; j < 8 && HAS_TWO; j++)
        for (int i = 0; i < 64; i++) to[64 * (j / 4) + i] = (uint8_t)(to[64 * (j / 4) + i] | (row[j][i] >> TWO_AT & 3) << 2 * (j % 4));
}

/* ---- weights: reading ------------------------------------------------------------------------------ */

static inline void load_levels(const uint8_t *p, uint8_t w[8 * 64])
{
    if (BITS == 8) memcpy(w, p, 8 * 64);
    else if (!HAS_NIBBLES) memset(w, 0, 8 * 64);
    for (int i = 0; i < 256 && HAS_NIBBLES; i++) {
        w[i] = p[i] & 15;
        w[256 + i] = p[i] >> 4;
    }
    if (HAS_NIBBLES) p += 256;
    for (int j = 0; j < 8 && HAS_ODD; j++)
        for (int i = 0; i < 64; i++) w[64 * j + i] = (uint8_t)(w[64 * j + i] | (p[i] >> j & 1) << ODD_AT);
    if (HAS_ODD) p += 64;
    for (int j = 0; j < 8 && HAS_TWO; j++)
        for (int i = 0; i < 64; i++) w[64 * j + i] = (uint8_t)(w[64 * j + i] | (p[64 * (j / 4) + i] >> 2 * (j % 4) & 3) << TWO_AT);
    for (int i = 0; i < 512 && q_table; i++) w[i] = (uint8_t)q_table[w[i]];
}

static inline void f16_row(const uint16_t *h, float *to)
{
    for (int n = 0; n < NR; n += VF) vf_store(to + n, vf_load_f16(h + n));
}

/* (f16, f16)[16] apart. */
static inline void f16_pairs(const char *head, float *d, float *min)
{
    uint16_t h[2][NR];
    for (int n = 0; n < NR; n++) {
        uint32_t both;
        memcpy(&both, head + 4 * n, 4);
        h[0][n] = (uint16_t)both;
        h[1][n] = (uint16_t)(both >> 16);
    }
    f16_row(h[0], d);
    f16_row(h[1], min);
}

/* Scales of group g of a packed head, [half][16], then minima: load_scales of qgemm_avx512.h. */
static inline void scales_six(const char *head, int g, float *scale, float *min)
{
    float d[NR], m[NR];
    uint32_t w[3][NR];
    f16_pairs(head, d, m);
    memcpy(w, head + 64, sizeof w);
    for (int n = 0; n < NR; n++) {
        uint32_t a = w[0][n] >> 8 * (g & 3), b = w[1][n] >> 8 * (g & 3), c = w[2][n] >> 8 * (g & 3);
        if (g >= 4) a = (c & 15) | (a >> 2 & 0x30), b = (c >> 4 & 15) | (b >> 2 & 0x30);
        scale[n] = d[n] * (float)(int32_t)(a & 63);
        min[n] = 0.f - m[n] * (float)(int32_t)(b & 63);
    }
}

static inline void load_scales(const char *head, int g, float *scale, float *min)
{
    if (IS_SIX) {
        scales_six(head, g, scale, min);
        return;
    }
    for (int h = 0; h <= HALVES; h++, scale += NR, min += NR) {
        float d[NR], m[NR];
        if (IS_PLAIN) {
            f16_row((const uint16_t *)(head + 32 * h), scale);
            if (MINS) f16_row((const uint16_t *)(head + 32 * (1 + HALVES + h)), min);
            continue;
        }
        if (IS_BYTES) f16_row((const uint16_t *)head, d);
        else f16_pairs(head, d, m);
        const char *q = head + (IS_BYTES ? 2 : 4) * NR + (2 * g + h) * NR;
        for (int n = 0; n < NR; n++) {
            scale[n] = d[n] * (float)(IS_BYTES ? (int8_t)q[n] : q[n] & 15);
            if (!IS_BYTES) min[n] = 0.f - m[n] * (float)((uint8_t)q[n] >> 4);
        }
    }
}

static inline void loosen(const char *head, const char *levels, int g, char *to)
{
    float *scale = (float *)(to + LEVELS), min[2 * NR];
    load_levels((const uint8_t *)levels, (uint8_t *)to);
    load_scales(head, g, scale, MINS ? scale + NR * (1 + HALVES) : min);
}

/* ---- tiles --------------------------------------------------------------------------------------- */

static void add_rows(int rows, const char *x, const char *loose, float *sum);

static __attribute__((noinline)) void tile_loose(int rows, const char *x, const char *p, int64_t groups, float *sum, bool first, struct ahead a)
{
    (void)a;
    if (first) memset(sum, 0, (size_t)rows * NR * sizeof *sum);
    for (; groups > 0; groups--, p += LOOSE, x += rows * X_GROUP) add_rows(rows, x, p, sum);
}

static __attribute__((noinline)) void tile_packed(int rows, const char *x, const char *p, int64_t blocks, float *sum, struct ahead a)
{
    (void)a;
    _Alignas(64) char loose[LOOSE];
    memset(sum, 0, (size_t)rows * NR * sizeof *sum);
    for (; blocks > 0; blocks--, p += BLOCK)
        for (int g = 0; g < GROUPS; g++, x += rows * X_GROUP) {
            loosen(p, p + HEAD_BYTES + g * GROUP_BYTES, g, loose);
            add_rows(rows, x, loose, sum);
        }
}

/* What the sum of half h of a row's group starts with. */
static inline int32_t start_of(const char *x, int h)
{
    int32_t start = 0;
    if (OFFSET != 0 && !MINS) memcpy(&start, x + GROUP + 4 + 4 * h, 4);
    return start;
}

#endif
