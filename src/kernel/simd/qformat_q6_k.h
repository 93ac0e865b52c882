/* q6_k for qgemm_body.h: 16 x 16 levels of 6 bits, 16 int8 scales, f16 d. */
#include "kernel/simd/qformat.h"

enum { BITS = 6, OFFSET = 32, GROUPS = 8, HALVES = 1, MINS = 0, HEAD = Q_BYTES };
static const struct dan_dtype *const q_type = &dan_dtype_q6_k;
static const uint8_t *const q_table = NULL;

static inline void q_levels(const uint8_t *b, int g, uint8_t *to)
{
    const uint8_t *low = b + g / 4 * 64 + g % 2 * 32, *high = b + 128 + g / 4 * 32;
    int low_at = g % 4 / 2 * 4, high_at = g % 4 * 2;
    for (int i = 0; i < GROUP; i++) to[i] = (uint8_t)((low[i] >> low_at & 15) | (high[i] >> high_at & 3) << 4);
}

static inline void q_scales(const uint8_t *const *b, uint8_t *to)
{
    q_f16(b, 208, to, 2);
    for (int g = 0; g < 2 * GROUPS; g++)
        for (int n = 0; n < NR; n++) to[2 * NR + g * NR + n] = b[n][192 + g];
}
