/* q3_k for qgemm_body.h: 32 bytes of third bits, 16 x 16 levels of 2 bits, 12 bytes of 6-bit scales, f16 d.  The scales become int8:
 * 3.5625 bits a weight instead of 3.4375. */
#include "kernel/simd/qformat.h"

enum { BITS = 3, OFFSET = 4, GROUPS = 8, HALVES = 1, MINS = 0, HEAD = Q_BYTES };
static const struct dan_dtype *const q_type = &dan_dtype_q3_k;
static const uint8_t *const q_table = NULL;

static inline void q_levels(const uint8_t *b, int g, uint8_t *to)
{
    const uint8_t *q = b + 32 + g / 4 * 32;
    int at = g % 4 * 2;
    for (int i = 0; i < GROUP; i++) to[i] = (uint8_t)((q[i] >> at & 3) | (b[i] >> g & 1) << 2);
}

/* ggml-common.h: 8 bytes with two low halves each, then 4 bytes with four times two high bits. */
static inline uint8_t q_scale_of(const uint8_t *s, int g)
{
    int low = g < 8 ? s[g] & 15 : s[g - 8] >> 4;
    return (uint8_t)((low | (s[8 + g % 4] >> g / 4 * 2 & 3) << 4) - 32);
}

static inline void q_scales(const uint8_t *const *b, uint8_t *to)
{
    q_f16(b, 108, to, 2);
    for (int g = 0; g < 2 * GROUPS; g++)
        for (int n = 0; n < NR; n++) to[2 * NR + g * NR + n] = q_scale_of(b[n] + 96, g);
}
