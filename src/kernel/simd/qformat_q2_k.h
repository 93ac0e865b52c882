/* q2_k for qgemm_body.h: 16 bytes of 4-bit scales and minima, 16 x 16 levels of 2 bits, f16 d and minimum. */
#include "kernel/simd/qformat.h"

enum { BITS = 2, OFFSET = 0, GROUPS = 8, HALVES = 1, MINS = 1, HEAD = Q_HALF_BYTES };
static const struct dan_dtype *const q_type = &dan_dtype_q2_k;
static const uint8_t *const q_table = NULL;

static inline void q_levels(const uint8_t *b, int g, uint8_t *to)
{
    const uint8_t *q = b + 16 + g / 4 * 32;
    int at = g % 4 * 2;
    for (int i = 0; i < GROUP; i++) to[i] = q[i] >> at & 3;
}

static inline void q_scales(const uint8_t *const *b, uint8_t *to)
{
    q_f16(b, 80, to, 4);
    q_f16(b, 82, to + 2, 4);
    for (int g = 0; g < 2 * GROUPS; g++)
        for (int n = 0; n < NR; n++) to[4 * NR + g * NR + n] = b[n][g];
}
