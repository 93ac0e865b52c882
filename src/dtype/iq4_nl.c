/* GGUF's iq4_nl: blocks of 32, x = d level[q] with 16 levels that lie as normal weights do; 4.5 bits a weight. */
#include "dtype/blocks.h"

enum { BLOCK = 32 };
struct block { uint16_t d; uint8_t q[BLOCK / 2]; };            /* q: elements i and i + 16 */
_Static_assert(sizeof(struct block) == 18, "as in the file");

static const int8_t level[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

static void to_f32(const void *src, float *dst, int64_t n)
{
    const struct block *b = src;
    for (; n > 0; n -= BLOCK, b++, dst += BLOCK) {
        float d = dan_f16_to_f32(b->d);
        for (int i = 0; i < BLOCK / 2; i++) {
            dst[i] = d * (float)level[b->q[i] & 15];
            dst[i + BLOCK / 2] = d * (float)level[b->q[i] >> 4];
        }
    }
}

const struct dan_dtype dan_dtype_iq4_nl = {.name = "iq4_nl", .block = BLOCK, .bytes = sizeof(struct block), .gguf_id = 20, .to_f32 = to_f32};
