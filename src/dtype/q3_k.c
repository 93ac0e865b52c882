/* GGUF's q3_k: blocks of 256 in 16 groups of 16, x = d (scale - 32) (q - 4); q of 3 bits, scale of 6.  3.4375 bits a weight. */
#include "dtype/blocks.h"

enum { BLOCK = 256 };
/* high: bit g of byte i is the third bit of element 32 g + i; q: 32 bytes hold 128 elements;
 * scale: 8 bytes with two low halves each, then 4 bytes with four times two high bits */
struct block { uint8_t high[32], q[64], scale[12]; uint16_t d; };
_Static_assert(sizeof(struct block) == 110, "as in the file");

static int scale_of(const struct block *b, int g)
{
    int low = g < 8 ? b->scale[g] & 15 : b->scale[g - 8] >> 4;
    return (low | (b->scale[8 + g % 4] >> g / 4 * 2 & 3) << 4) - 32;
}

static void to_f32(const void *src, float *dst, int64_t n)
{
    const struct block *b = src;
    for (; n > 0; n -= BLOCK, b++) {
        float d = dan_f16_to_f32(b->d);
        for (int g = 0; g < 16; g++) {
            const uint8_t *q = b->q + g / 8 * 32 + g % 2 * 16, *high = b->high + g % 2 * 16;
            float scale = d * (float)scale_of(b, g);
            for (int i = 0; i < 16; i++) *dst++ = scale * (float)((q[i] >> g % 8 / 2 * 2 & 3) - (high[i] >> g / 2 & 1 ? 0 : 4));
        }
    }
}

const struct dan_dtype dan_dtype_q3_k = {.name = "q3_k", .block = BLOCK, .bytes = sizeof(struct block), .gguf_id = 11, .to_f32 = to_f32};
