/* q4_k for qgemm_body.h: f16 d and minimum, 12 bytes of 6-bit scales and minima, 8 x 32 levels of 4 bits. */
#include "kernel/simd/qformat_k.h"

enum { BITS = 4, OFFSET = 0, GROUPS = 8, HALVES = 0, MINS = 1, HEAD = Q_SIX };
static const struct dan_dtype *const q_type = &dan_dtype_q4_k;
static const uint8_t *const q_table = NULL;

static inline void q_levels(const uint8_t *b, int g, uint8_t *to) { q_levels_of_pair(b + 16, g, to); }
static inline void q_scales(const uint8_t *const *b, uint8_t *to) { q_scales_six(b, to); }
