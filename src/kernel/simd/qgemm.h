/* Sizes of what qgemm_body.h and its vectors (qgemm_ISA.h) share; after qformat_NAME.h. */
#ifndef DAN_KERNEL_QGEMM_H
#define DAN_KERNEL_QGEMM_H
#include "kernel/simd/qformat.h"

/* What a level of BITS is made of, and where its odd bit and its two bits stand. */
enum { HAS_NIBBLES = BITS >= 4 && BITS < 8, HAS_ODD = BITS == 5 || BITS == 3, HAS_TWO = BITS == 6 || BITS == 2 || BITS == 3,
       ODD_AT = BITS == 5 ? 4 : 2, TWO_AT = BITS == 6 ? 4 : 0 };

enum { IS_PLAIN = (int)HEAD == (int)Q_PLAIN, IS_SIX = (int)HEAD == (int)Q_SIX, IS_BYTES = (int)HEAD == (int)Q_BYTES };

/* Bytes: of a block's head, of a packed group, of the packed block; of a group's levels and of all when loose (qgemm_body.h). */
enum { HEAD_BYTES = IS_PLAIN ? 2 * NR * (1 + HALVES) * (1 + MINS) : IS_SIX ? 16 * NR : (IS_BYTES ? 2 : 4) * NR + 2 * GROUPS * NR,
       GROUP_BYTES = GROUP * NR / 8 * BITS, BLOCK = HEAD_BYTES + GROUPS * GROUP_BYTES,
       LEVELS = GROUP * NR, LOOSE = LEVELS + 4 * NR * (1 + HALVES) * (1 + MINS) };

/* A group of a quantised row: 32 int8, f32 scale; then, for each sum that has a scale, what it starts with (int32 -OFFSET sum(x)), or with
 * MINS scale sum(x), which the minimum multiplies. */
enum { X_GROUP = GROUP + 4 + 4 * (1 + HALVES) };

/* What a tile asks for meanwhile, from memory: so many lines of 64 bytes a group.  The hardware stops at the end of a page. */
struct ahead { const char *p; int lines; };

#endif
