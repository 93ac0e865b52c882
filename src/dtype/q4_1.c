/* GGUF's q4_1: blocks of 32, x = d q + m, q of 4 bits, m the minimum; 5 bits a weight. */
#include "dtype/search.h"

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

static void set(struct block *b, int i, int level)
{
    dan_put_half(b->q, i, level);
}

static const struct dan_line_search search = {.top = 15, .steps = 36, .from = -0.9f, .step = 0.05f};

/* Weights from the mean square of the row; four blocks at a time. */
static void from_f32_weighted(const float *src, const float *importance, void *dst, int64_t n)
{
    struct block *b = dst;
    struct dan_groups g;
    struct dan_lines s;
    float w[DAN_LANES * BLOCK], square = dan_sum_squares(src, n) / (float)n;
    for (int64_t at = 0; at < n; at += DAN_LANES * BLOCK) {
        int blocks = n - at < DAN_LANES * BLOCK ? (int)(n - at) / BLOCK : DAN_LANES;
        dan_weights(src + at, importance + at, square, blocks * BLOCK, w);
        dan_groups_set(&g, src + at, w, blocks, BLOCK);
        dan_search_line(&g, &search, &s);
        for (int k = 0; k < blocks; k++, b++) {
            const float *x = src + at + k * BLOCK;
            *b = (struct block){.d = dan_f32_to_f16(dan_scale_of(s.scale[k], x, BLOCK)), .m = dan_f32_to_f16(s.min[k])};
            for (int i = 0; i < BLOCK; i++) set(b, i, dan_nearest_level(s.inverse[k] * (x[i] - s.low[k]), 0, 15));
        }
    }
}

static void fit(const float *x, const float *importance, void *block)
{
    struct block *b = block;
    float min, max;
    if (importance) {
        from_f32_weighted(x, importance, b, BLOCK);
        *b = (struct block){.d = b->d, .m = b->m};
        return;
    }
    dan_range(x, BLOCK, &min, &max);
    *b = (struct block){.d = dan_f32_to_f16(dan_scale_of((max - min) / 15, x, BLOCK)), .m = dan_f32_to_f16(min)};
}

static float put(void *block, int i, float x)
{
    struct block *b = block;
    float d = dan_f16_to_f32(b->d), m = dan_f16_to_f32(b->m);
    int level = dan_level((x - m) * (d != 0 ? 1 / d : 0) + 0.5f, 15);
    set(b, i, level);
    return d * (float)level + m;
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
    .name = "q4_1", .block = BLOCK, .bytes = sizeof(struct block), .gguf_id = 3, .to_f32 = to_f32, .from_f32 = from_f32, .from_f32_weighted = from_f32_weighted, .fit = fit, .put = put,
    .max_rmse = 0.1f,
};
