/* GGUF's q2_k: blocks of 256 in 16 groups of 16, x = d scale q - m min; q of 2 bits, scale and min of 4.  2.625 bits a weight. */
#include "dtype/affine.h"

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

static const struct dan_affine_rule rule = {
    .groups = 16, .n = 16, .scale_top = 15, .square = 1,
    .plain = {.top = 3, .steps = 15, .from = -0.5f, .step = 0.1f, .absolute = true},
    .weighted = {.top = 3, .steps = 36, .from = -0.9f, .step = 0.05f},
};

/* Scales without levels. */
static void start(struct block *b, const struct dan_affine *a)
{
    *b = (struct block){.d = a->d, .m = a->m};
    for (int g = 0; g < 16; g++) b->scale[g] = (uint8_t)(a->scale[g] | a->min[g] << 4);
}

static void set(struct block *b, int i, int level)
{
    uint8_t *q = b->q + i / 128 * 32 + i % 32;
    int shift = i % 128 / 32 * 2;
    *q = (uint8_t)((*q & ~(3 << shift)) | level << shift);
}

static void fit(const float *x, const float *importance, void *block)
{
    struct dan_affine a;
    dan_affine_fit(&rule, x, importance, &a);
    start(block, &a);
}

static float put(void *block, int i, float x)
{
    struct block *b = block;
    float scale = dan_f16_to_f32(b->d) * (float)(b->scale[i / 16] & 15), minus = dan_f16_to_f32(b->m) * (float)(b->scale[i / 16] >> 4);
    int level = dan_affine_level(x, scale, minus, 3);
    set(b, i, level);
    return scale * (float)level - minus;
}

static void convert(const float *src, const float *importance, struct block *b, int64_t n)
{
    struct dan_affine a;
    uint8_t level[BLOCK];
    for (int64_t at = 0; at < n; at += BLOCK, b++) {
        dan_affine_fit(&rule, src + at, importance ? importance + at : NULL, &a);
        dan_affine_levels(&rule, src + at, &a, level);
        start(b, &a);
        for (int i = 0; i < 64; i++) {
            const uint8_t *l = level + i / 32 * 128 + i % 32;
            b->q[i] = (uint8_t)(l[0] | l[32] << 2 | l[64] << 4 | l[96] << 6);
        }
    }
}

static void from_f32(const float *src, void *dst, int64_t n) { convert(src, NULL, dst, n); }
static void from_f32_weighted(const float *src, const float *importance, void *dst, int64_t n) { convert(src, importance, dst, n); }

const struct dan_dtype dan_dtype_q2_k = {
    .name = "q2_k", .block = BLOCK, .bytes = sizeof(struct block), .gguf_id = 10, .to_f32 = to_f32, .from_f32 = from_f32,
    .from_f32_weighted = from_f32_weighted, .fit = fit, .put = put, .max_rmse = 0.3f, .fallback = "iq4_nl",
};
