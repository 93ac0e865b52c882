/* GGUF's q6_k: blocks of 256 in 16 groups of 16, x = d scale (q - 32); q of 6 bits, scale int8.  6.5625 bits a weight. */
#include "dtype/search.h"

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

/* Scales without levels: the group scale of largest magnitude becomes -128.  inverse[16]: where the levels of the search come from, which
 * stay where a scale becomes 0. */
static void start(const float *x, const float *importance, struct block *b, float *inverse)
{
    float w[BLOCK], scale[16];
    struct dan_groups g;
    struct dan_scales s;
    for (int i = 0; i < BLOCK; i++) w[i] = importance ? importance[i] : x[i] * x[i];
    for (int at = 0; at < 16; at += DAN_LANES) {
        dan_groups_set(&g, x + 16 * at, w + 16 * at, DAN_LANES, 16);
        dan_search_scale(&g, 32, &s);
        for (int k = 0; k < DAN_LANES; k++) {
            scale[at + k] = s.scale[k];
            inverse[at + k] = s.inverse[k];
        }
    }
    float max = dan_largest(scale, 16), factor = fabsf(max) < 1e-15f ? 0 : -128 / max;
    *b = (struct block){.d = dan_f32_to_f16(dan_scale_of(factor != 0 ? 1 / factor : 0, x, BLOCK))};
    for (int k = 0; k < 16; k++) {
        b->scale[k] = (int8_t)(factor != 0 ? dan_nearest_level(factor * scale[k], -128, 127) : 0);
        if (factor == 0) inverse[k] = 0;       /* ggml leaves such a block empty */
    }
}

static void set(struct block *b, int i, int level)
{
    uint8_t *low = b->low + i / 128 * 64 + i % 64, *high = b->high + i / 128 * 32 + i % 32;
    int shift = i % 128 / 32 * 2;
    *low = (uint8_t)(i % 128 < 64 ? (*low & 0xf0) | (level & 15) : (*low & 15) | (level & 15) << 4);
    *high = (uint8_t)((*high & ~(3 << shift)) | level >> 4 << shift);
}

static void convert(const float *src, const float *importance, struct block *b, int64_t n)
{
    float inverse[16];
    for (int64_t at = 0; at < n; at += BLOCK, b++) {
        const float *x = src + at;
        start(x, importance ? importance + at : NULL, b, inverse);
        float d = dan_f16_to_f32(b->d);
        for (int i = 0; i < BLOCK; i++) {
            float scale = d * (float)b->scale[i / 16];
            set(b, i, scale != 0 ? dan_nearest_level(x[i] / scale, -32, 31) + 32 : dan_scale_level(x[i], inverse[i / 16], 32));
        }
    }
}

static void fit(const float *x, const float *importance, void *block)
{
    float inverse[16];
    start(x, importance, block, inverse);
}

static float put(void *block, int i, float x)
{
    struct block *b = block;
    float scale = dan_f16_to_f32(b->d) * (float)b->scale[i / 16];
    int level = scale != 0 ? dan_nearest_level(x / scale, -32, 31) : 0;
    set(b, i, level + 32);
    return scale * (float)level;
}

static void from_f32(const float *src, void *dst, int64_t n) { convert(src, NULL, dst, n); }
static void from_f32_weighted(const float *src, const float *importance, void *dst, int64_t n) { convert(src, importance, dst, n); }

const struct dan_dtype dan_dtype_q6_k = {
    .name = "q6_k", .block = BLOCK, .bytes = sizeof(struct block), .gguf_id = 14, .to_f32 = to_f32, .from_f32 = from_f32,
    .from_f32_weighted = from_f32_weighted, .fit = fit, .put = put, .max_rmse = 0.02f, .fallback = "q8_0",
};
