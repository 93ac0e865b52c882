/* A K-quant with a scale and a minimum per group (affine.h): q2_k, q4_k, q5_k.
 * Before the include: BLOCK; struct block with d and m; `rule`; scale_of(b, g, &s, &min) and pack_scales(a, b); levels_of(b, g, level), the levels
 * of group g; set(b, i, level); fill(b, level[BLOCK]). */
static void to_f32(const void *src, float *dst, int64_t n)
{
    const struct block *b = src;
    uint8_t level[32];
    for (; n > 0; n -= BLOCK, b++) {
        float d = dan_f16_to_f32(b->d), m = dan_f16_to_f32(b->m);
        for (int g = 0; g < rule.groups; g++, dst += rule.n) {
            int s, min;
            scale_of(b, g, &s, &min);
            levels_of(b, g, level);
            float scale = d * (float)s, minus = m * (float)min;
            for (int i = 0; i < rule.n; i++) dst[i] = scale * (float)level[i] - minus;
        }
    }
}

/* Scales without levels. */
static void start(struct block *b, const struct dan_affine *a)
{
    *b = (struct block){.d = a->d, .m = a->m};
    pack_scales(a, b);
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
    scale_of(b, i / rule.n, &s, &min);
    float scale = dan_f16_to_f32(b->d) * (float)s, minus = dan_f16_to_f32(b->m) * (float)min;
    int level = dan_affine_level(x, scale, minus, rule.plain.top);
    set(b, i, level);
    return scale * (float)level - minus;
}

static void from_f32_weighted(const float *src, const float *importance, void *dst, int64_t n)
{
    struct block *b = dst;
    struct dan_affine a;
    uint8_t level[BLOCK];
    for (int64_t at = 0; at < n; at += BLOCK, b++) {
        dan_affine_fit(&rule, src + at, importance ? importance + at : NULL, &a);
        dan_affine_levels(&rule, src + at, &a, level);
        start(b, &a);
        fill(b, level);
    }
}

static void from_f32(const float *src, void *dst, int64_t n) { from_f32_weighted(src, NULL, dst, n); }
