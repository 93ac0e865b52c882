/* GGUF's q5_k: blocks of 256 in 8 groups of 32, x = d scale q - m min; q of 5 bits, scale and min of 6.  5.5 bits a weight. */
#include "dtype/blocks.h"

enum { BLOCK = 256 };
/* q: 32 bytes hold the low halves of one group, the high of the next; high: bit g of byte i is the fifth of element i of group g */
struct block { uint16_t d, m; uint8_t scale[12], high[32], q[BLOCK / 2]; };
_Static_assert(sizeof(struct block) == 176, "as in the file");

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
            for (int i = 0; i < 32; i++) *dst++ = scale * (float)((q[i] >> g % 2 * 4 & 15) | (b->high[i] >> g & 1) << 4) - minus;
        }
    }
}

const struct dan_dtype dan_dtype_q5_k = {.name = "q5_k", .block = BLOCK, .bytes = sizeof(struct block), .gguf_id = 13, .to_f32 = to_f32};
