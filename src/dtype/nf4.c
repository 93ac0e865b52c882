/* Blocks of 64: x = largest level[q], `largest` the block's largest magnitude as f32; 4.5 bits a weight. */
#include <string.h>
#include "dtype/nf4.h"

enum { BLOCK = 64 };
struct block { uint16_t largest[2]; uint8_t q[BLOCK / 2]; };   /* f32 at even addresses */
_Static_assert(sizeof(struct block) == 36, "as in the file");

const float dan_nf4_level[16] = {
    -1, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f, -0.18477343022823334f,
    -0.09105003625154495f, 0, 0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f,
    0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1,
};

int dan_nf4_nearest(float x)
{
    int q = 0;
    if (isnan(x)) return 7;
    for (int k = 1; k < 16; k++) q += x > 0.5f * (dan_nf4_level[k - 1] + dan_nf4_level[k]);
    return q;
}

float dan_largest_magnitude(const float *x, int n)
{
    return dan_scale_of(fabsf(dan_largest(x, n)), x, n);
}

void dan_nf4_read(const uint8_t *q, float scale, float *dst)
{
    for (int i = 0; i < BLOCK; i++) dst[i] = scale * dan_nf4_level[q[i / 32 * 16 + i % 16] >> i / 16 % 2 * 4 & 15];
}

void dan_nf4_write(const float *x, float scale, uint8_t *q)
{
    memset(q, 0, BLOCK / 2);
    for (int i = 0; i < BLOCK; i++) q[i / 32 * 16 + i % 16] |= (uint8_t)(dan_nf4_nearest(scale != 0 ? x[i] / scale : 0) << i / 16 % 2 * 4);
}

float dan_nf4_put(uint8_t *q, float scale, int i, float x)
{
    int level = dan_nf4_nearest(scale != 0 ? x / scale : 0);
    dan_put_half(q + i / 32 * 16, i % 32, level);
    return scale * dan_nf4_level[level];
}

static float scale_of(const struct block *b)
{
    float x;
    memcpy(&x, b->largest, sizeof x);
    return x;
}

static void to_f32(const void *src, float *dst, int64_t n)
{
    const struct block *b = src;
    for (; n > 0; n -= BLOCK, b++, dst += BLOCK) dan_nf4_read(b->q, scale_of(b), dst);
}

static void fit(const float *x, const float *importance, void *block)
{
    struct block *b = block;
    float largest = dan_largest_magnitude(x, BLOCK);
    (void)importance;
    *b = (struct block){{0}, {0}};
    memcpy(b->largest, &largest, sizeof largest);
}

static float put(void *block, int i, float x)
{
    struct block *b = block;
    return dan_nf4_put(b->q, scale_of(b), i, x);
}

static void from_f32(const float *src, void *dst, int64_t n)
{
    struct block *b = dst;
    for (; n > 0; n -= BLOCK, b++, src += BLOCK) {
        fit(src, NULL, b);
        dan_nf4_write(src, scale_of(b), b->q);
    }
}

const struct dan_dtype dan_dtype_nf4 = {
    .name = "nf4", .block = BLOCK, .bytes = sizeof(struct block), .gguf_id = -1, .to_f32 = to_f32, .from_f32 = from_f32,
    .fit = fit, .put = put, .max_rmse = 0.11f, .fallback = "iq4_nl",
};
