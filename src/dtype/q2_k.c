/* GGUF's q2_k: blocks of 256 in 16 groups of 16, x = d scale q - m min; q of 2 bits, scale and min of 4.  2.625 bits a weight. */
#include "dtype/blocks.h"

enum { BLOCK = 256 };
struct block { uint8_t scale[16], q[64]; uint16_t d, m; };     /* scale: low half scale, high half min; q: 32 bytes hold 128 elements */
_Static_assert(sizeof(struct block) == 84, "as in the file");

static void to_f32(const void *src, float *dst, int64_t n)
{
    const struct block *b = src;
    for (; n > 0; n -= BLOCK, b++) {
        float d = dan_f16_to_f32(b->d), m = dan_f16_to_f32(b->m);
        for (int g = 0; g < 16; g++) {
            const uint8_t *q = b->q + g / 8 * 32 + g % 2 * 16;
            float scale = d * (float)(b->scale[g] & 15), min = m * (float)(b->scale[g] >> 4);
            for (int i = 0; i < 16; i++) *dst++ = scale * (float)(q[i] >> g % 8 / 2 * 2 & 3) - min;
        }
    }
}

const struct dan_dtype dan_dtype_q2_k = {.name = "q2_k", .block = BLOCK, .bytes = sizeof(struct block), .gguf_id = 10, .to_f32 = to_f32};
