/* How the integer products lay out weights b [N,K] of a block format, once (dan_kernel.pack) or panel by panel.  A format's own
 * header (qformat_NAME.h, plain C, any ISA) defines
 *
 *   enum { BITS }              of a level: 8, or 4 (+ 1, + 2), or 2 (+ 1)
 *   enum { OFFSET }            a level stands for level - OFFSET
 *   enum { GROUPS }            groups of 32 in a block of the file
 *   enum { HALVES }            1: a group has a scale (and minimum) for each 16
 *   enum { MINS }              1: there is a term that is added: x = scale level + min
 *   enum { HEAD }              how scales lie in a packed block: enum q_head
 *   q_type                     the format
 *   q_table                    NULL, or 16 levels: what is stored are their numbers
 *   q_levels(block, g, to)     the 32 stored levels of group g of a block of the file
 *   q_scales(blocks, to)       the head of a packed block, from 16 blocks of the file
 *
 * A panel is 16 columns.  It holds, block after block of K: the head (scales of all 16 columns), then GROUPS times the levels of 32 x 16.
 * In a group the four levels of k = 4j .. 4j+3 of one column lie together, 16 columns make 64 bytes, "row" j.  8 bits: rows 0 .. 7.
 * Else, what there is of: 4 x 64 bytes with the low halves of row j and, shifted by 4, of row j + 4; 64 bytes whose bit j is the
 * odd bit of row j; 2 x 64 bytes whose bits 2j, 2j + 1 are two bits of row j, then of row j + 4.
 * A packed weight takes the bytes of the file. */
#ifndef DAN_KERNEL_QFORMAT_H
#define DAN_KERNEL_QFORMAT_H
#include <stdint.h>
#include <string.h>
#include "core/args.h"

enum { NR = 16, GROUP = 32 };

/* Q_PLAIN: f16 scale[16], and with MINS f16 min[16]; for each half of a group where there are HALVES.
 * Q_SIX: q4_k, q5_k: (f16 d, f16 min)[16], then their 12 bytes of 6-bit scales as three times 4 bytes [16].
 * Q_BYTES: q6_k: f16 d[16], then int8 scale[2 GROUPS][16].
 * Q_HALF_BYTES: q2_k: (f16 d, f16 min)[16], then bytes scale | min << 4 [2 GROUPS][16]. */
enum q_head { Q_PLAIN, Q_SIX, Q_BYTES, Q_HALF_BYTES };

/* f16 at `at` of each of 16 blocks, `step` bytes apart in to. */
static inline void q_f16(const uint8_t *const *b, int at, uint8_t *to, int step)
{
    for (int n = 0; n < NR; n++) memcpy(to + n * step, b[n] + at, 2);
}

/* Eight levels at a time in a word: compilers make no vectors of the plain loops, which take 10 times as long. */
static inline uint64_t q_word(const void *p)
{
    uint64_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

static inline void q_nibbles(const uint8_t *q, uint8_t *to)    /* low halves are elements 0 .. 15 */
{
    const uint64_t half = 0x0f0f0f0f0f0f0f0fu;
    for (int i = 0; i < 2; i++) {
        uint64_t x = q_word(q + 8 * i), low = x & half, high = x >> 4 & half;
        memcpy(to + 8 * i, &low, sizeof low);
        memcpy(to + 16 + 8 * i, &high, sizeof high);
    }
}

/* Bits 0 .. 31 of four bytes as bit 4 of 32 levels. */
static inline void q_fifth(const uint8_t *high, uint8_t *to)
{
    for (int i = 0; i < 4; i++) {
        uint64_t one = high[i] * 0x0101010101010101u & 0x8040201008040201u;            /* byte j: bit j of high[i], in its place */
        uint64_t x = q_word(to + 8 * i) | ((one + 0x7f7f7f7f7f7f7f7fu) >> 3 & 0x1010101010101010u);
        memcpy(to + 8 * i, &x, sizeof x);
    }
}

#endif
