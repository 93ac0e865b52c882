/* GGUF's q3_k: blocks of 256 in 16 groups of 16, x = d (scale - 32) (q - 4); q of 3 bits, scale of 6.  3.4375 bits a weight. */
#include "dtype/search.h"

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

/* Scales s of the 16 groups, and levels 0 .. 7 of the search, which stay where s becomes 0. */
struct found { float scale[16]; uint8_t level[BLOCK]; };

static void search_plain(const float *x, struct found *f)
{
    float w[BLOCK];
    struct dan_groups g;
    dan_lanes scale, level[16];
    for (int i = 0; i < BLOCK; i++) w[i] = x[i] * x[i];
    for (int at = 0; at < 16; at += DAN_LANES) {
        dan_groups_set(&g, x + 16 * at, w + 16 * at, DAN_LANES, 16);
        dan_refine_scale(&g, 4, &scale, level);
        for (int k = 0; k < DAN_LANES; k++) {
            f->scale[at + k] = scale[k];
            for (int i = 0; i < 16; i++) f->level[16 * (at + k) + i] = (uint8_t)dan_nearest_level(level[i][k], 0, 7);
        }
    }
}

static void search_weighted(const float *x, const float *w, struct found *f)
{
    struct dan_groups g;
    struct dan_scales s;
    for (int at = 0; at < 16; at += DAN_LANES) {
        dan_groups_set(&g, x + 16 * at, w + 16 * at, DAN_LANES, 16);
        dan_search_scale(&g, 4, &s);
        for (int k = 0; k < DAN_LANES; k++) {
            f->scale[at + k] = s.scale[k];
            for (int i = 0; i < 16; i++) f->level[16 * (at + k) + i] = (uint8_t)dan_scale_level(x[16 * (at + k) + i], s.inverse[k], 4);
        }
    }
}

/* l[16] in 0 .. 63 for s = l - 32, and d: the scale of largest magnitude becomes -32. */
static float plain_scales(const float *scale, int *l)
{
    float max = dan_largest(scale, 16), inverse = max != 0 ? -32 / max : 0;
    for (int g = 0; g < 16; g++) l[g] = max != 0 ? dan_nearest_level(inverse * scale[g], -32, 31) + 32 : 0;
    return max != 0 ? 1 / inverse : 0;
}

/* The same searched for, with the sums of each group's weights. */
static float weighted_scales(const float *scale, const float *w, int *l)
{
    float sum[16] = {0};
    struct dan_groups g;
    struct dan_scales s;
    for (int i = 0; i < BLOCK; i++) sum[i / 16] += w[i];
    dan_groups_set(&g, scale, sum, 1, 16);
    dan_search_scale(&g, 32, &s);
    for (int i = 0; i < 16; i++) l[i] = dan_scale_level(scale[i], s.inverse[0], 32);
    return s.scale[0];
}

static void pack_scales(struct block *b, const int *l)
{
    for (int g = 0; g < 16; g++) {
        b->scale[g % 8] |= (uint8_t)((l[g] & 15) << g / 8 * 4);
        b->scale[8 + g % 4] |= (uint8_t)(l[g] >> 4 << g / 4 * 2);
    }
}

/* Scales without levels. */
static void start(const float *x, const float *importance, struct block *b, struct found *f)
{
    float w[BLOCK], d;
    int l[16];
    if (importance) {
        dan_weights(x, importance, 2 * dan_sum_squares(x, BLOCK) / BLOCK, BLOCK, w);
        search_weighted(x, w, f);
        d = weighted_scales(f->scale, w, l);
    } else {
        search_plain(x, f);
        d = plain_scales(f->scale, l);
    }
    *b = (struct block){.d = dan_f32_to_f16(dan_scale_of(d, x, BLOCK))};
    pack_scales(b, l);
}

static void set(struct block *b, int i, int level)
{
    uint8_t *q = b->q + i / 128 * 32 + i % 32;
    int shift = i % 128 / 32 * 2;
    *q = (uint8_t)((*q & ~(3 << shift)) | (level & 3) << shift);
    b->high[i % 32] = (uint8_t)((b->high[i % 32] & ~(1 << i / 32)) | level >> 2 << i / 32);
}

static void convert(const float *src, const float *importance, struct block *b, int64_t n)
{
    struct found f;
    for (int64_t at = 0; at < n; at += BLOCK, b++) {
        const float *x = src + at;
        start(x, importance ? importance + at : NULL, b, &f);
        float d = dan_f16_to_f32(b->d);
        for (int g = 0; g < 16; g++) {
            float scale = d * (float)scale_of(b, g);
            for (int i = 16 * g; i < 16 * g + 16; i++)
                if (scale != 0) f.level[i] = (uint8_t)(dan_nearest_level(x[i] / scale, -4, 3) + 4);
        }
        for (int i = 0; i < BLOCK; i++) set(b, i, f.level[i]);
    }
}

static void fit(const float *x, const float *importance, void *block)
{
    struct found f;
    start(x, importance, block, &f);
}

static float put(void *block, int i, float x)
{
    struct block *b = block;
    float scale = dan_f16_to_f32(b->d) * (float)scale_of(b, i / 16);
    int level = scale != 0 ? dan_nearest_level(x / scale, -4, 3) : 0;
    set(b, i, level + 4);
    return scale * (float)level;
}

static void from_f32(const float *src, void *dst, int64_t n) { convert(src, NULL, dst, n); }
static void from_f32_weighted(const float *src, const float *importance, void *dst, int64_t n) { convert(src, importance, dst, n); }

const struct dan_dtype dan_dtype_q3_k = {
    .name = "q3_k", .block = BLOCK, .bytes = sizeof(struct block), .gguf_id = 11, .to_f32 = to_f32, .from_f32 = from_f32,
    .from_f32_weighted = from_f32_weighted, .fit = fit, .put = put, .max_rmse = 0.17f, .fallback = "iq4_nl",
};
