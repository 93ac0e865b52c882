/* A format of blocks of 32, x = d (l - ZERO) with levels l in 0 .. 2 ZERO - 1, where the value of largest magnitude becomes -ZERO d: q4_0, q5_0.
 * Before the include: ZERO; struct block with its scale d; level_of(b, i); set(b, i, level); fill(b, level[BLOCK]). */
static void to_f32(const void *src, float *dst, int64_t n)
{
    const struct block *b = src;
    for (; n > 0; n -= BLOCK, b++, dst += BLOCK) {
        float d = dan_f16_to_f32(b->d);
        for (int i = 0; i < BLOCK / 2; i++) {
            dst[i] = d * (float)(level_of(b, i) - ZERO);
            dst[i + BLOCK / 2] = d * (float)(level_of(b, i + BLOCK / 2) - ZERO);
        }
    }
}

static void from_f32(const float *src, void *dst, int64_t n)
{
    struct block *b = dst;
    uint8_t level[BLOCK];
    for (; n > 0; n -= BLOCK, b++, src += BLOCK) {
        float d = dan_largest(src, BLOCK) / -ZERO, inverse = d != 0 ? 1 / d : 0;
        *b = (struct block){.d = dan_f32_to_f16(dan_scale_of(d, src, BLOCK))};
        for (int i = 0; i < BLOCK; i++) level[i] = (uint8_t)dan_level(src[i] * inverse + (ZERO + 0.5f), 2 * ZERO - 1);
        fill(b, level);
    }
}

/* Weights from the mean square of the row; four blocks at a time. */
static void from_f32_weighted(const float *src, const float *importance, void *dst, int64_t n)
{
    struct block *b = dst;
    struct dan_groups g;
    struct dan_scales s;
    float square = dan_sum_squares(src, n) / (float)n;
    for (int64_t at = 0; at < n; at += DAN_LANES * BLOCK) {
        int blocks = dan_groups_weighted(&g, src + at, importance + at, square, n - at, BLOCK);
        dan_search_scale(&g, ZERO, &s);
        for (int k = 0; k < blocks; k++, b++) {
            const float *x = src + at + k * BLOCK;
            *b = (struct block){.d = dan_f32_to_f16(dan_scale_of(s.scale[k], x, BLOCK))};
            for (int i = 0; i < BLOCK; i++) set(b, i, dan_scale_level(x[i], s.inverse[k], ZERO));
        }
    }
}

static void fit(const float *x, const float *importance, void *block)
{
    struct block *b = block;
    if (importance) from_f32_weighted(x, importance, b, BLOCK);
    *b = (struct block){.d = importance ? b->d : dan_f32_to_f16(dan_scale_of(dan_largest(x, BLOCK) / -ZERO, x, BLOCK))};
}

static float put(void *block, int i, float x)
{
    struct block *b = block;
    float d = dan_f16_to_f32(b->d);
    int level = dan_level(x * (d != 0 ? 1 / d : 0) + (ZERO + 0.5f), 2 * ZERO - 1);
    set(b, i, level);
    return d * (float)(level - ZERO);
}
