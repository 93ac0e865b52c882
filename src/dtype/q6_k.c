/* GGUF's q6_k: blocks of 256 in 16 groups of 16, x = d scale (q - 32); q of 6 bits, scale int8.  6.5625 bits a weight. */
#include "dtype/blocks.h"

enum { BLOCK = 256 };
/* low: 64 bytes hold 128 elements, first the low halves; high: 32 bytes hold two bits of 128 elements */
struct block { uint8_t low[BLOCK / 2], high[BLOCK / 4]; int8_t scale[16]; uint16_t d; };
_Static_assert(sizeof(struct block) == 210, "as in the file");

static void to_f32(const void *src, float *dst, int64_t n)
{
    const struct block *b = src;
    for (; n > 0; n -= BLOCK, b++) {
        float d = dan_f16_to_f32(b->d);
        for (int g = 0; g < 8; g++) {          /* 32 elements: two groups */
            const uint8_t *low = b->low + g / 4 * 64 + g % 2 * 32, *high = b->high + g / 4 * 32;
            for (int i = 0; i < 32; i++) {
                int q = (low[i] >> g % 4 / 2 * 4 & 15) | (high[i] >> g % 4 * 2 & 3) << 4;
                *dst++ = d * (float)b->scale[2 * g + i / 16] * (float)(q - 32);
            }
        }
    }
}

const struct dan_dtype dan_dtype_q6_k = {.name = "q6_k", .block = BLOCK, .bytes = sizeof(struct block), .gguf_id = 14, .to_f32 = to_f32};
