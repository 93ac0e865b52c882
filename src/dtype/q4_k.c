/* GGUF's q4_k: blocks of 256 in 8 groups of 32, x = d scale q - m min; q of 4 bits, scale and min of 6.  4.5 bits a weight. */
#include "dtype/blocks.h"

enum { BLOCK = 256 };
struct block { uint16_t d, m; uint8_t scale[12], q[BLOCK / 2]; };      /* q: 32 bytes hold the low halves of one group, the high of the next */
_Static_assert(sizeof(struct block) == 144, "as in the file");

static void to_f32(const void *src, float *dst, int64_t n)
{
    const struct block *b = src;
    for (; n > 0; n -= BLOCK, b++) {
        float d = dan_f16_to_f32(b->d), m = dan_f16_to_f32(b->m);
        for (int g = 0; g < 8; g++) {
            const uint8_t *q = b->q + g / 2 * 32;
            int s, min;
            dan_k_scale(b->scale, g, &s, &min);
            float scale = d * (float)s, minus = m * (float)min;
            for (int i = 0; i < 32; i++) *dst++ = scale * (float)(q[i] >> g % 2 * 4 & 15) - minus;
        }
    }
}

const struct dan_dtype dan_dtype_q4_k = {.name = "q4_k", .block = BLOCK, .bytes = sizeof(struct block), .gguf_id = 12, .to_f32 = to_f32};
