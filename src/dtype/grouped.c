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

/* Scales of up to four groups; the search looks at them side by side. */
static void i4_scales(const float *x, const float *importance, int groups, int group, float *d)
{
    struct dan_groups g;
    struct dan_scales s = {0};
    if (importance) {
        dan_groups_set(&g, x, importance, groups, group);
        dan_search_scale(&g, 8, &s);
    }
    for (int k = 0; k < groups; k++) d[k] = dan_scale_of(importance ? s.scale[k] : dan_largest(x + k * group, group) / -8, x + k * group, group);
}

static void i4_start(struct i4 *b, float d, int group)
{
    b->d = dan_f32_to_f16(d);
    memset(b->q, 0, (size_t)group / 2);
}

void dan_i4_fit(const float *x, const float *importance, void *block, int group)
{
    float d;
    i4_scales(x, importance, 1, group, &d);
    i4_start(block, d, group);
}

static int i4_level(float x, float d) { return d != 0 ? dan_nearest_level(x / d, -8, 7) + 8 : 8; }

static void i4_write(struct i4 *b, const float *x, float scale, int group)
{
    i4_start(b, scale, group);
    float d = dan_f16_to_f32(b->d);
    for (int i = 0; i < group / 2; i++) {
        int k = i / 16 * 32 + i % 16;
        b->q[i] = (uint8_t)(i4_level(x[k], d) | i4_level(x[k + 16], d) << 4);
    }
}

void dan_i4_from_f32(const float *src, const float *importance, void *dst, int64_t n, int group)
{
    char *at = dst;
    float d[DAN_LANES];
    for (int64_t from = 0; from < n; from += DAN_LANES * group) {
        int groups = n - from < DAN_LANES * group ? (int)(n - from) / group : DAN_LANES;
        i4_scales(src + from, importance ? importance + from : NULL, groups, group, d);
        for (int k = 0; k < groups; k++, at += 2 + group / 2) i4_write((void *)at, src + from + k * group, d[k], group);
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

/* Scales and minima of up to four groups.  The search takes minima of at most 0: of a group above 0 the range serves. */
static void u4_lines(const float *x, const float *importance, int groups, int group, float *d, float *m)
{
    static const struct dan_line_search search = {.top = 15, .steps = 36, .from = -0.9f, .step = 0.05f};
    struct dan_groups g;
    struct dan_lines l = {0};
    if (importance) {
        dan_groups_set(&g, x, importance, groups, group);
        dan_search_line(&g, &search, &l);
    }
    for (int k = 0; k < groups; k++, x += group) {
        float max;
        dan_range(x, group, &m[k], &max);
        bool searched = importance && m[k] <= 0;
        d[k] = dan_scale_of(searched ? l.scale[k] : (max - m[k]) / 15, x, group);
        m[k] = searched ? l.min[k] : m[k];
    }
}

static void u4_start(struct u4 *b, float d, float m, int group)
{
    b->d = dan_f32_to_f16(d);
    b->m = dan_f32_to_f16(m);
    memset(b->q, 0, (size_t)group / 2);
}

void dan_u4_fit(const float *x, const float *importance, void *block, int group)
{
    float d, m;
    u4_lines(x, importance, 1, group, &d, &m);
    u4_start(block, d, m, group);
}

static int u4_level(float x, float d, float m) { return d != 0 ? dan_nearest_level((x - m) / d, 0, 15) : 0; }

static void u4_write(struct u4 *b, const float *x, float scale, float min, int group)
{
    u4_start(b, scale, min, group);
    float d = dan_f16_to_f32(b->d), m = dan_f16_to_f32(b->m);
    for (int i = 0; i < group / 2; i++) {
        int k = i / 16 * 32 + i % 16;
        b->q[i] = (uint8_t)(u4_level(x[k], d, m) | u4_level(x[k + 16], d, m) << 4);
    }
}

void dan_u4_from_f32(const float *src, const float *importance, void *dst, int64_t n, int group)
{
    char *at = dst;
    float d[DAN_LANES], m[DAN_LANES];
    for (int64_t from = 0; from < n; from += DAN_LANES * group) {
        int groups = n - from < DAN_LANES * group ? (int)(n - from) / group : DAN_LANES;
        u4_lines(src + from, importance ? importance + from : NULL, groups, group, d, m);
        for (int k = 0; k < groups; k++, at += 4 + group / 2) u4_write((void *)at, src + from + k * group, d[k], m[k], group);
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
