/* GGUF's q4_1: blocks of 32, x = d q + m, q of 4 bits, m the minimum; 5 bits a weight. */
#include "dtype/blocks.h"

enum { BLOCK = 32 };
struct block { uint16_t d, m; uint8_t q[BLOCK / 2]; };         /* q: elements i and i + 16 */
_Static_assert(sizeof(struct block) == 20, "as in the file");

static void to_f32(const void *src, float *dst, int64_t n)
{
    const struct block *b = src;
    for (; n > 0; n -= BLOCK, b++, dst += BLOCK) {
        float d = dan_f16_to_f32(b->d), m = dan_f16_to_f32(b->m);
        for (int i = 0; i < BLOCK / 2; i++) {
            dst[i] = d * (float)(b->q[i] & 15) + m;
            dst[i + BLOCK / 2] = d * (float)(b->q[i] >> 4) + m;
        }
    }
}

static void from_f32(const float *src, void *dst, int64_t n)
{
    struct block *b = dst;
    for (; n > 0; n -= BLOCK, b++, src += BLOCK) {
        float min, max;
        dan_range(src, BLOCK, &min, &max);
        float d = (max - min) / 15, inverse = d != 0 ? 1 / d : 0;
        b->d = dan_f32_to_f16(dan_scale_of(d, src, BLOCK));
        b->m = dan_f32_to_f16(min);
        for (int i = 0; i < BLOCK / 2; i++)
            b->q[i] = (uint8_t)(dan_level((src[i] - min) * inverse + 0.5f, 15) | dan_level((src[i + BLOCK / 2] - min) * inverse + 0.5f, 15) << 4);
    }
}

const struct dan_dtype dan_dtype_q4_1 = {
    .name = "q4_1", .block = BLOCK, .bytes = sizeof(struct block), .gguf_id = 3, .to_f32 = to_f32, .from_f32 = from_f32, .max_rmse = 0.1f,
};
