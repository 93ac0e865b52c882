/* GGUF's iq4_nl: blocks of 32, x = d level[q] with 16 levels that lie as normal weights do; 4.5 bits a weight. */
#include "dtype/search.h"

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

/* The level nearest to x; halfway to the upper one. */
static int nearest(float x)
{
    int q = 0;
    for (int k = 1; k < 16; k++) q += x >= 0.5f * (float)(level[k - 1] + level[k]);
    return q;
}

static inline dan_lanes nearest_value(dan_lanes x)
{
    dan_lanes v = dan_all((float)level[0]);
    for (int k = 1; k < 16; k++) v += dan_pick(x >= 0.5f * (float)(level[k - 1] + level[k]), dan_all((float)(level[k] - level[k - 1])), dan_all(0));
    return v;
}

/* As dan_search_scale: sum w x v and sum w v^2 for the values v nearest to inverse x. */
static void value_sums(const struct dan_groups *g, dan_lanes inverse, dan_lanes *xv, dan_lanes *vv)
{
    *xv = *vv = dan_all(0);
    for (int i = 0; i < BLOCK; i++) {
        dan_lanes v = nearest_value(inverse * g->x[i]);
        *xv += g->w[i] * v * g->x[i];
        *vv += g->w[i] * v * v;
    }
}

/* The value of largest magnitude becomes about level[0]: candidates inverse = (level[0] + s) / m, s = -7 .. 7, and -level[0] / m. */
static dan_lanes search(const struct dan_groups *g, dan_lanes max)
{
    dan_lanes xv, vv, scale, best;
    value_sums(g, 1 / (-max / (float)level[0]), &xv, &vv);
    scale = dan_pick(vv > 0, xv / vv, -max / (float)level[0]);            /* importance 0: as without */
    best = scale * xv;
    for (int s = -7; s <= 7; s++) {
        value_sums(g, (float)(s + level[0]) / max, &xv, &vv);
        dan_mask better = (vv > 0) & (xv * xv > best * vv);
        scale = dan_pick(better, xv / vv, scale);
        best = dan_pick(better, scale * xv, best);
    }
    return scale;
}

/* d of up to four blocks. */
static void scales_of(const float *x, const float *w, int blocks, float *d)
{
    struct dan_groups g;
    dan_lanes max = dan_all(1);
    dan_groups_set(&g, x, w, blocks, BLOCK);
    for (int k = 0; k < blocks; k++) {
        float m = dan_largest(x + k * BLOCK, BLOCK);
        if (fabsf(m) >= 1e-15f) max[k] = m;
        d[k] = m;
    }
    dan_lanes scale = search(&g, max);
    for (int k = 0; k < blocks; k++) d[k] = fabsf(d[k]) >= 1e-15f ? scale[k] : 0;
}

static void weights_of(const float *x, const float *importance, float *w)
{
    if (importance) dan_weights(x, importance, 2.0f / BLOCK * dan_sum_squares(x, BLOCK), BLOCK, w);
    else for (int i = 0; i < BLOCK; i++) w[i] = x[i] * x[i];
}

static void convert(const float *src, const float *importance, struct block *b, int64_t n)
{
    float w[DAN_LANES * BLOCK], d[DAN_LANES];
    for (int64_t at = 0; at < n; at += DAN_LANES * BLOCK) {
        int blocks = n - at < DAN_LANES * BLOCK ? (int)(n - at) / BLOCK : DAN_LANES;
        for (int k = 0; k < blocks; k++) weights_of(src + at + k * BLOCK, importance ? importance + at + k * BLOCK : NULL, w + k * BLOCK);
        scales_of(src + at, w, blocks, d);
        for (int k = 0; k < blocks; k++, b++) {
            const float *x = src + at + k * BLOCK;
            float inverse = d[k] != 0 ? 1 / d[k] : 0;
            b->d = dan_f32_to_f16(dan_scale_of(d[k], x, BLOCK));
            for (int i = 0; i < BLOCK / 2; i++) b->q[i] = (uint8_t)(nearest(inverse * x[i]) | nearest(inverse * x[i + BLOCK / 2]) << 4);
        }
    }
}

static void fit(const float *x, const float *importance, void *block)
{
    struct block *b = block;
    convert(x, importance, b, BLOCK);
    *b = (struct block){.d = b->d};
}

static float put(void *block, int i, float x)
{
    struct block *b = block;
    float d = dan_f16_to_f32(b->d);
    int q = nearest(x * (d != 0 ? 1 / d : 0));
    dan_put_half(b->q, i, q);
    return d * (float)level[q];
}

static void from_f32(const float *src, void *dst, int64_t n) { convert(src, NULL, dst, n); }
static void from_f32_weighted(const float *src, const float *importance, void *dst, int64_t n) { convert(src, importance, dst, n); }

const struct dan_dtype dan_dtype_iq4_nl = {
    .name = "iq4_nl", .block = BLOCK, .bytes = sizeof(struct block), .gguf_id = 20, .to_f32 = to_f32, .from_f32 = from_f32,
    .from_f32_weighted = from_f32_weighted, .fit = fit, .put = put, .max_rmse = 0.09f,
};
