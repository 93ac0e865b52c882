/* GGUF's q4_k: blocks of 256 in 8 groups of 32, x = d scale q - m min; q of 4 bits, scale and min of 6.  4.5 bits a weight. */
#include "dtype/affine.h"

enum { BLOCK = 256 };
struct block { uint16_t d, m; uint8_t scale[12], q[BLOCK / 2]; };      /* q: 32 bytes hold the low halves of one group, the high of the next */
_Static_assert(sizeof(struct block) == 144, "as in the file");

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
            for (int i = 0; i < 32; i++) *dst++ = scale * (float)(q[i] >> g % 2 * 4 & 15) - minus;
        }
    }
}

static const struct dan_affine_rule rule = {
    .groups = 8, .n = 32, .scale_top = 63, .square = 2,
    .plain = {.top = 15, .steps = 20, .from = -1, .step = 0.1f},
    .weighted = {.top = 15, .steps = 36, .from = -0.9f, .step = 0.05f},
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
    int level = dan_affine_level(x, scale, minus, 15);
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
        for (int i = 0; i < BLOCK / 2; i++) {
            const uint8_t *l = level + i / 32 * 64 + i % 32;
            b->q[i] = (uint8_t)(l[0] | l[32] << 4);
        }
    }
}

static void from_f32(const float *src, void *dst, int64_t n) { convert(src, NULL, dst, n); }
static void from_f32_weighted(const float *src, const float *importance, void *dst, int64_t n) { convert(src, importance, dst, n); }

const struct dan_dtype dan_dtype_q4_k = {
    .name = "q4_k", .block = BLOCK, .bytes = sizeof(struct block), .gguf_id = 12, .to_f32 = to_f32, .from_f32 = from_f32,
    .from_f32_weighted = from_f32_weighted, .fit = fit, .put = put, .max_rmse = 0.08f, .fallback = "q5_0",
};
