/* q5_1 for qgemm_body.h: f16 scale and minimum, 4 bytes of fifth bits, 32 levels of 4 bits. */
#include "kernel/simd/qformat.h"

enum { BITS = 5, OFFSET = 0, GROUPS = 1, HALVES = 0, MINS = 1, HEAD = Q_PLAIN };
static const struct dan_dtype *const q_type = &dan_dtype_q5_1;
static const uint8_t *const q_table = NULL;

static inline void q_levels(const uint8_t *b, int g, uint8_t *to)
{
    (void)g;
    q_nibbles(b + 8, to);
    q_fifth(b + 4, to);
}

static inline void q_scales(const uint8_t *const *b, uint8_t *to)
{
    q_f16(b, 0, to, 2);
    q_f16(b, 2, to + 2 * NR, 2);
}
