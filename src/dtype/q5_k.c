/* GGUF's q5_k: blocks of 256 in 8 groups of 32, x = d scale q - m min; q of 5 bits, scale and min of 6.  5.5 bits a weight. */
#include "dtype/affine.h"

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

static const struct dan_affine_rule rule = {
    .groups = 8, .n = 32, .scale_top = 63, .square = 2,
    .plain = {.top = 31, .steps = 15, .from = -0.5f, .step = 0.1f},
    .weighted = {.top = 31, .steps = 36, .from = -0.9f, .step = 0.05f},
};

/* Scales without levels. */
static void start(struct block *b, const struct dan_affine *a)
{
    *b = (struct block){.d = a->d, .m = a->m};
    dan_k_pack(a, b->scale);
}

static void set(struct block *b, int i, int level)
{
    uint8_t *q = b->q + i / 64 * 32 + i % 32;
    *q = (uint8_t)(i / 32 % 2 ? (*q & 15) | (level & 15) << 4 : (*q & 0xf0) | (level & 15));
    b->high[i % 32] = (uint8_t)((b->high[i % 32] & ~(1 << i / 32)) | level >> 4 << i / 32);
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
    int s, min;
    dan_k_scale(b->scale, i / 32, &s, &min);
    float scale = dan_f16_to_f32(b->d) * (float)s, minus = dan_f16_to_f32(b->m) * (float)min;
    int level = dan_affine_level(x, scale, minus, 31);
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
        for (int i = 0; i < BLOCK; i++) set(b, i, level[i]);
    }
}

static void from_f32(const float *src, void *dst, int64_t n) { convert(src, NULL, dst, n); }
static void from_f32_weighted(const float *src, const float *importance, void *dst, int64_t n) { convert(src, importance, dst, n); }

const struct dan_dtype dan_dtype_q5_k = {
    .name = "q5_k", .block = BLOCK, .bytes = sizeof(struct block), .gguf_id = 13, .to_f32 = to_f32, .from_f32 = from_f32,
    .from_f32_weighted = from_f32_weighted, .fit = fit, .put = put, .max_rmse = 0.04f, .fallback = "q5_1",
};
