#include "dtype/affine.h"

/* Of one group without importance. */
static void plain_weights(const struct dan_affine_rule *r, const float *x, float *w)
{
    float base = r->plain.absolute ? 0 : sqrtf(dan_sum_squares(x, r->n) / (float)r->n);
    for (int i = 0; i < r->n; i++) w[i] = base + fabsf(x[i]);
}

/* s and t of all groups as floats, before d and m; w[256] are the weights. */
static void search_groups(const struct dan_affine_rule *r, const struct dan_line_search *how, const float *x, const float *w, float *s, float *t,
                          struct dan_affine *out)
{
    struct dan_groups g;
    struct dan_lines l;
    for (int at = 0; at < r->groups; at += DAN_LANES) {
        dan_groups_set(&g, x + at * r->n, w + at * r->n, DAN_LANES, r->n);
        dan_search_line(&g, how, &l);
        for (int k = 0; k < DAN_LANES; k++) {
            s[at + k] = l.scale[k];
            t[at + k] = -l.min[k];
            out->inverse[at + k] = l.inverse[k];
            out->low[at + k] = l.low[k];
        }
    }
}

/* The largest becomes top: q[n], and the factor to get x back. */
static float by_largest(const float *x, int n, int top, uint8_t *q)
{
    float max = 0;
    for (int i = 0; i < n; i++) max = x[i] > max ? x[i] : max;
    float inverse = max > 0 ? (float)top / max : 0;
    for (int i = 0; i < n; i++) q[i] = (uint8_t)dan_nearest_level(inverse * x[i], 0, top);
    return max / (float)top;
}

static void sums(const float *w, int groups, int n, float *sum)
{
    for (int g = 0; g < groups; g++) {
        sum[g] = 0;
        for (int i = 0; i < n; i++) sum[g] += w[g * n + i];
    }
}

void dan_affine_fit(const struct dan_affine_rule *r, const float *x, const float *importance, struct dan_affine *out)
{
    float w[DAN_K_BLOCK], s[16], t[16], sum[16], d, m;
    if (importance) {
        dan_weights(x, importance, r->square * dan_sum_squares(x, DAN_K_BLOCK) / DAN_K_BLOCK, DAN_K_BLOCK, w);
        search_groups(r, &r->weighted, x, w, s, t, out);
        sums(w, r->groups, r->n, sum);
        d = dan_search_positive(s, sum, r->groups, r->scale_top, out->scale);
        m = dan_search_positive(t, sum, r->groups, r->scale_top, out->min);
    } else {
        for (int g = 0; g < r->groups; g++) plain_weights(r, x + g * r->n, w + g * r->n);
        search_groups(r, &r->plain, x, w, s, t, out);
        d = by_largest(s, r->groups, r->scale_top, out->scale);
        m = by_largest(t, r->groups, r->scale_top, out->min);
    }
    out->d = dan_f32_to_f16(dan_scale_of(d, x, DAN_K_BLOCK));
    out->m = dan_f32_to_f16(m);
}

void dan_affine_levels(const struct dan_affine_rule *r, const float *x, const struct dan_affine *a, uint8_t *level)
{
    float d = dan_f16_to_f32(a->d), m = dan_f16_to_f32(a->m), top = (float)r->plain.top;
    for (int g = 0; g < r->groups; g++, x += r->n, level += r->n) {
        float scale = d * (float)a->scale[g], minus = m * (float)a->min[g], q[DAN_GROUP];
        if (scale != 0) for (int i = 0; i < r->n; i++) q[i] = dan_nearest((x[i] + minus) / scale);
        else for (int i = 0; i < r->n; i++) q[i] = dan_nearest(a->inverse[g] * (x[i] - a->low[g]));
        for (int i = 0; i < r->n; i++) level[i] = (uint8_t)(q[i] > 0 ? q[i] < top ? q[i] : top : 0);
    }
}

void dan_k_pack(const struct dan_affine *a, uint8_t *to)
{
    for (int j = 0; j < 4; j++) {
        to[j] = (uint8_t)(a->scale[j] | a->scale[j + 4] >> 4 << 6);
        to[j + 4] = (uint8_t)(a->min[j] | a->min[j + 4] >> 4 << 6);
        to[j + 8] = (uint8_t)((a->scale[j + 4] & 15) | (a->min[j + 4] & 15) << 4);
    }
}
