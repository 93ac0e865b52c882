/* A format of blocks of 32, x = d l + m with levels l in 0 .. TOP and the minimum m: q4_1, q5_1.
 * Before the include: TOP; struct block with d and m; level_of(b, i); set(b, i, level); fill(b, level[BLOCK]). */
static void to_f32(const void *src, float *dst, int64_t n)
{
    const struct block *b = src;
    for (; n > 0; n -= BLOCK, b++, dst += BLOCK) {
        float d = dan_f16_to_f32(b->d), m = dan_f16_to_f32(b->m);
        for (int i = 0; i < BLOCK / 2; i++) {
            dst[i] = d * (float)level_of(b, i) + m;
            dst[i + BLOCK / 2] = d * (float)level_of(b, i + BLOCK / 2) + m;
        }
    }
}

static void from_f32(const float *src, void *dst, int64_t n)
{
    struct block *b = dst;
    uint8_t level[BLOCK];
    for (; n > 0; n -= BLOCK, b++, src += BLOCK) {
        float min, max;
        dan_range(src, BLOCK, &min, &max);
        float d = (max - min) / TOP, inverse = d != 0 ? 1 / d : 0;
        *b = (struct block){.d = dan_f32_to_f16(dan_scale_of(d, src, BLOCK)), .m = dan_f32_to_f16(min)};
        for (int i = 0; i < BLOCK; i++) level[i] = (uint8_t)dan_level((src[i] - min) * inverse + 0.5f, TOP);
        fill(b, level);
    }
}

static const struct dan_line_search search = {.top = TOP, .steps = 36, .from = -0.9f, .step = 0.05f};

/* Weights from the mean square of the row; four blocks at a time. */
static void from_f32_weighted(const float *src, const float *importance, void *dst, int64_t n)
{
    struct block *b = dst;
    struct dan_groups g;
    struct dan_lines s;
    float square = dan_sum_squares(src, n) / (float)n;
    for (int64_t at = 0; at < n; at += DAN_LANES * BLOCK) {
        int blocks = dan_groups_weighted(&g, src + at, importance + at, square, n - at, BLOCK);
        dan_search_line(&g, &search, &s);
        for (int k = 0; k < blocks; k++, b++) {
            const float *x = src + at + k * BLOCK;
            *b = (struct block){.d = dan_f32_to_f16(dan_scale_of(s.scale[k], x, BLOCK)), .m = dan_f32_to_f16(s.min[k])};
            for (int i = 0; i < BLOCK; i++) set(b, i, dan_nearest_level(s.inverse[k] * (x[i] - s.low[k]), 0, TOP));
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
    *b = (struct block){.d = dan_f32_to_f16(dan_scale_of((max - min) / TOP, x, BLOCK)), .m = dan_f32_to_f16(min)};
}

static float put(void *block, int i, float x)
{
    struct block *b = block;
    float d = dan_f16_to_f32(b->d), m = dan_f16_to_f32(b->m);
    int level = dan_level((x - m) * (d != 0 ? 1 / d : 0) + 0.5f, TOP);
    set(b, i, level);
    return d * (float)level + m;
}
