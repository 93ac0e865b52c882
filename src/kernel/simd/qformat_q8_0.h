/* q8_0 for qgemm_body.h: f16 scale, 32 int8. */
#include "kernel/simd/qformat.h"

enum { BITS = 8, OFFSET = 128, GROUPS = 1, HALVES = 0, MINS = 0, HEAD = Q_PLAIN };
static const struct dan_dtype *const q_type = &dan_dtype_q8_0;
static const uint8_t *const q_table = NULL;

static inline void q_levels(const uint8_t *b, int g, uint8_t *to)
{
    (void)g;
    for (int i = 0; i < GROUP; i++) to[i] = b[2 + i] ^ 0x80;
}

static inline void q_scales(const uint8_t *const *b, uint8_t *to) { q_f16(b, 0, to, 2); }
