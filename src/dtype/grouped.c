#include "dtype/grouped.h"
#include <string.h>
#include "dtype/search.h"

struct i4 { uint16_t d; uint8_t q[]; };
struct u4 { uint16_t d, m; uint8_t q[]; };

static void halves(const uint8_t *q, float *l, int group)
{
    for (int at = 0; at < group; at += 32, q += 16, l += 32)
        for (int i = 0; i < 16; i++) {
            l[i] = (float)(q[i] & 15);
            l[i + 16] = (float)(q[i] >> 4);
        }
}

/* ---- symmetric ---- */

void dan_i4_to_f32(const void *src, float *dst, int64_t n, int group)
{
    const char *at = src;
    for (; n > 0; n -= group, dst += group, at += 2 + group / 2) {
        const struct i4 *b = (const void *)at;
        float d = dan_f16_to_f32(b->d);
        halves(b->q, dst, group);
        for (int i = 0; i < group; i++) dst[i] = d * (dst[i] - 8);
    }
}

static float i4_scale(const float *x, const float *importance, int group)
{
    struct dan_groups g;
    struct dan_scales s;
    if (!importance) return dan_largest(x, group) / -8;
    dan_groups_set(&g, x, importance, 1, group);
    dan_search_scale(&g, 8, &s);
    return s.scale[0];
}

void dan_i4_fit(const float *x, const float *importance, void *block, int group)
{
    struct i4 *b = block;
    b->d = dan_f32_to_f16(dan_scale_of(i4_scale(x, importance, group), x, group));
    memset(b->q, 0, (size_t)group / 2);
}

static int i4_level(float x, float d) { return d != 0 ? dan_nearest_level(x / d, -8, 7) + 8 : 8; }

void dan_i4_from_f32(const float *src, const float *importance, void *dst, int64_t n, int group)
{
    char *at = dst;
    for (int64_t from = 0; from < n; from += group, at += 2 + group / 2) {
        struct i4 *b = (void *)at;
        const float *x = src + from;
        dan_i4_fit(x, importance ? importance + from : NULL, b, group);
        float d = dan_f16_to_f32(b->d);
        for (int i = 0; i < group / 2; i++) {
            int k = i / 16 * 32 + i % 16;
            b->q[i] = (uint8_t)(i4_level(x[k], d) | i4_level(x[k + 16], d) << 4);
        }
    }
}

float dan_i4_put(void *block, int i, float x)
{
    struct i4 *b = block;
    float d = dan_f16_to_f32(b->d);
    int level = i4_level(x, d);
    dan_put_half(b->q + i / 32 * 16, i % 32, level);
    return d * (float)(level - 8);
}

/* ---- with a minimum ---- */

void dan_u4_to_f32(const void *src, float *dst, int64_t n, int group)
{
    const char *at = src;
    for (; n > 0; n -= group, dst += group, at += 4 + group / 2) {
        const struct u4 *b = (const void *)at;
        float d = dan_f16_to_f32(b->d), m = dan_f16_to_f32(b->m);
        halves(b->q, dst, group);
        for (int i = 0; i < group; i++) dst[i] = d * dst[i] + m;
    }
}

/* The search takes minima of at most 0: of a group above 0 (below 0 likewise, turned round) the range serves. */
static void u4_line(const float *x, const float *importance, int group, float *d, float *m)
{
    static const struct dan_line_search search = {.top = 15, .steps = 36, .from = -0.9f, .step = 0.05f};
    struct dan_groups g;
    struct dan_lines l;
    float max;
    dan_range(x, group, m, &max);
    *d = (max - *m) / 15;
    if (!importance || *m > 0) return;
    dan_groups_set(&g, x, importance, 1, group);
    dan_search_line(&g, &search, &l);
    *d = l.scale[0];
    *m = l.min[0];
}

void dan_u4_fit(const float *x, const float *importance, void *block, int group)
{
    struct u4 *b = block;
    float d, m;
    u4_line(x, importance, group, &d, &m);
    b->d = dan_f32_to_f16(dan_scale_of(d, x, group));
    b->m = dan_f32_to_f16(m);
    memset(b->q, 0, (size_t)group / 2);
}

static int u4_level(float x, float d, float m) { return d != 0 ? dan_nearest_level((x - m) / d, 0, 15) : 0; }

void dan_u4_from_f32(const float *src, const float *importance, void *dst, int64_t n, int group)
{
    char *at = dst;
    for (int64_t from = 0; from < n; from += group, at += 4 + group / 2) {
        struct u4 *b = (void *)at;
        const float *x = src + from;
        dan_u4_fit(x, importance ? importance + from : NULL, b, group);
        float d = dan_f16_to_f32(b->d), m = dan_f16_to_f32(b->m);
        for (int i = 0; i < group / 2; i++) {
            int k = i / 16 * 32 + i % 16;
            b->q[i] = (uint8_t)(u4_level(x[k], d, m) | u4_level(x[k + 16], d, m) << 4);
        }
    }
}

float dan_u4_put(void *block, int i, float x)
{
    struct u4 *b = block;
    float d = dan_f16_to_f32(b->d), m = dan_f16_to_f32(b->m);
    int level = u4_level(x, d, m);
    dan_put_half(b->q + i / 32 * 16, i % 32, level);
    return d * (float)level + m;
}
