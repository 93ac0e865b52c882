/* NF4 with double quantisation: blocks of 256 in 4 groups of 64, x = d s level[q], where d s with s of 8 bits stands for the group's largest
 * magnitude and 255 d for the block's; 4.1875 bits a weight.  (bitsandbytes keeps a mean per matrix and 8-bit floats in blocks of
 * 256 x 64 weights: 4.127 bits, and rows that cannot be cut or moved by themselves.) */
#include "dtype/nf4.h"

enum { BLOCK = 256, GROUPS = 4, GROUP = 64 };
struct block { uint16_t d; uint8_t s[GROUPS], q[BLOCK / 2]; };
_Static_assert(sizeof(struct block) == 134, "as in the file");

static float scale_of(const struct block *b, int g) { return dan_f16_to_f32(b->d) * (float)b->s[g]; }

static void to_f32(const void *src, float *dst, int64_t n)
{
    const struct block *b = src;
    for (; n > 0; n -= BLOCK, b++)
        for (int g = 0; g < GROUPS; g++, dst += GROUP) dan_nf4_read(b->q + g * GROUP / 2, scale_of(b, g), dst);
}

static void fit(const float *x, const float *importance, void *block)
{
    struct block *b = block;
    (void)importance;
    *b = (struct block){.d = dan_f32_to_f16(dan_largest_magnitude(x, BLOCK) / 255)};
    float d = dan_f16_to_f32(b->d);
    for (int g = 0; g < GROUPS; g++)
        b->s[g] = (uint8_t)dan_level(d != 0 ? fabsf(dan_largest(x + g * GROUP, GROUP)) / d + 0.5f : 0, 255);
}

static float put(void *block, int i, float x)
{
    struct block *b = block;
    int g = i / GROUP;
    return dan_nf4_put(b->q + g * GROUP / 2, scale_of(b, g), i % GROUP, x);
}

static void from_f32(const float *src, void *dst, int64_t n)
{
    struct block *b = dst;
    for (; n > 0; n -= BLOCK, b++) {
        fit(src, NULL, b);
        for (int g = 0; g < GROUPS; g++, src += GROUP) dan_nf4_write(src, scale_of(b, g), b->q + g * GROUP / 2);
    }
}

const struct dan_dtype dan_dtype_nf4_dq = {
    .name = "nf4_dq", .block = BLOCK, .bytes = sizeof(struct block), .gguf_id = -1, .to_f32 = to_f32, .from_f32 = from_f32,
    .fit = fit, .put = put, .max_rmse = 0.11f, .fallback = "nf4",
};
