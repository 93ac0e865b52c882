/* u4_gN for qgemm_body.h, after enum { GROUPS } and q_type: f16 scale and minimum, then 16 bytes of 32 levels for each group of 32. */
#include "kernel/simd/qformat.h"

enum { BITS = 4, OFFSET = 0, HALVES = 0, MINS = 1, HEAD = Q_PLAIN };
static const uint8_t *const q_table = NULL;

static inline void q_levels(const uint8_t *b, int g, uint8_t *to) { q_nibbles(b + 4 + 16 * g, to); }

static inline void q_scales(const uint8_t *const *b, uint8_t *to)
{
    q_f16(b, 0, to, 2);
    q_f16(b, 2, to + 2 * NR, 2);
}
