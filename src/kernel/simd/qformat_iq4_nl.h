/* iq4_nl for qgemm_body.h: f16 scale, 32 numbers of 16 levels. */
#include "kernel/simd/qformat.h"

enum { BITS = 4, OFFSET = 128, GROUPS = 1, HALVES = 0, MINS = 0, HEAD = Q_PLAIN };
static const struct dan_dtype *const q_type = &dan_dtype_iq4_nl;
/* level + 128 */
static const uint8_t level[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};
static const uint8_t *const q_table = level;

static inline void q_levels(const uint8_t *b, int g, uint8_t *to)
{
    (void)g;
    q_nibbles(b + 2, to);
}

static inline void q_scales(const uint8_t *const *b, uint8_t *to) { q_f16(b, 0, to, 2); }
