#include "dtype/search.h"

static const float tiny = 1e-15f;              /* a group of smaller values is one of zeros */

void dan_groups_set(struct dan_groups *g, const float *x, const float *w, int groups, int n)
{
    g->n = n;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < DAN_LANES; k++) {
            g->x[i][k] = k < groups ? x[k * n + i] : 0;
            g->w[i][k] = k < groups ? w[k * n + i] : 0;
        }
}

static inline dan_lanes nearest(dan_lanes x) { return x + 12582912.0f - 12582912.0f; }
static inline dan_lanes magnitude(dan_lanes x) { return (dan_lanes)((dan_mask)x & 0x7fffffff); }
static inline dan_lanes signed_level(dan_lanes x, float top) { return dan_at_most(dan_at_least(nearest(x), -top), top - 1); }
static inline dan_lanes level(dan_lanes x, float top) { return dan_at_most(dan_at_least(nearest(x), 0), top); }

/* The value of largest magnitude; the first of equals. */
static dan_lanes largest(const struct dan_groups *g)
{
    dan_lanes max = {0}, most = {0};
    for (int i = 0; i < g->n; i++) {
        dan_lanes a = magnitude(g->x[i]);
        max = dan_pick(a > most, g->x[i], max);
        most = dan_pick(a > most, a, most);
    }
    return max;
}

/* sum w x l and sum w l^2 for the levels under `inverse`. */
static inline void level_sums(const struct dan_groups *g, dan_lanes inverse, float top, dan_lanes *xl, dan_lanes *ll)
{
    dan_lanes a = {0}, b = {0};
    for (int i = 0; i < g->n; i++) {
        dan_lanes l = signed_level(inverse * g->x[i], top);
        a += g->w[i] * g->x[i] * l;
        b += g->w[i] * l * l;
    }
    *xl = a;
    *ll = b;
}

void dan_search_scale(const struct dan_groups *g, int top, struct dan_scales *out)
{
    dan_lanes max = largest(g), xl, ll, best;
    dan_mask dead = magnitude(max) < tiny;
    max = dan_pick(dead, dan_all(1), max);
    out->inverse = dan_all((float)-top) / max;
    level_sums(g, out->inverse, (float)top, &xl, &ll);
    out->scale = dan_pick(ll != 0, xl / ll, dan_all(0));
    best = out->scale * xl;
    for (int s = -9; s <= 9; s++) {
        if (s == 0) continue;
        dan_lanes inverse = dan_all(-((float)top + 0.1f * (float)s)) / max;
        level_sums(g, inverse, (float)top, &xl, &ll);
        dan_mask better = (ll > 0) & (xl * xl > best * ll);
        out->inverse = dan_pick(better, inverse, out->inverse);
        out->scale = dan_pick(better, xl / ll, out->scale);
        best = dan_pick(better, out->scale * xl, best);
    }
    out->scale = dan_pick(dead, dan_all(0), out->scale);
    out->inverse = dan_pick(dead, dan_all(0), out->inverse);
}

/* One round over the elements: xl and ll without element i, then its level at x / scale of the rest.  Whether a level moved. */
static bool move_levels(const struct dan_groups *g, float top, dan_lanes *l, dan_lanes *xl, dan_lanes *ll)
{
    dan_mask any = {0};
    for (int i = 0; i < g->n; i++) {
        dan_lanes x = g->x[i], w = g->w[i], a = *xl - w * x * l[i], b = *ll - w * l[i] * l[i];
        dan_mask fine = a > 0;
        dan_lanes other = signed_level(x * b / a, top);
        fine &= other != l[i];
        a += w * x * other;
        b += w * other * other;
        fine &= (b > 0) & (a * a * *ll > *xl * *xl * b);
        l[i] = dan_pick(fine, other, l[i]);
        *xl = dan_pick(fine, a, *xl);
        *ll = dan_pick(fine, b, *ll);
        any |= fine;
    }
    return any[0] | any[1] | any[2] | any[3];
}

void dan_refine_scale(const struct dan_groups *g, int top, dan_lanes *scale, dan_lanes *levels)
{
    dan_lanes max = largest(g), xl = {0}, ll = {0};
    dan_mask dead = magnitude(max) < tiny;
    dan_lanes inverse = dan_all((float)-top) / dan_pick(dead, dan_all(1), max);
    for (int i = 0; i < g->n; i++) {
        levels[i] = signed_level(inverse * g->x[i], (float)top);
        xl += g->w[i] * g->x[i] * levels[i];
        ll += g->w[i] * levels[i] * levels[i];
    }
    for (int round = 0; round < 5 && move_levels(g, (float)top, levels, &xl, &ll); round++) continue;
    *scale = dan_pick(dead | (ll == 0), dan_all(0), xl / ll);
    for (int i = 0; i < g->n; i++) levels[i] = dan_pick(dead, dan_all(0), levels[i] + (float)top);
}

/* The range with zero in it, sum w and sum w x. */
struct ends { dan_lanes low, high, w, wx; };

static struct ends ends_of(const struct dan_groups *g)
{
    dan_lanes min = g->x[0], max = g->x[0], w = g->w[0], wx = w * g->x[0];
    for (int i = 1; i < g->n; i++) {
        min = dan_pick(g->x[i] < min, g->x[i], min);
        max = dan_pick(g->x[i] > max, g->x[i], max);
        w += g->w[i];
        wx += g->w[i] * g->x[i];
    }
    min = dan_pick(min > 0, dan_all(0), min);
    return (struct ends){min, max, w, wx};
}

static inline dan_lanes line_error(const struct dan_groups *g, const dan_lanes *l, dan_lanes scale, dan_lanes min, bool absolute)
{
    dan_lanes sum = {0};
    for (int i = 0; i < g->n; i++) {
        dan_lanes d = scale * l[i] + min - g->x[i];
        sum += g->w[i] * (absolute ? magnitude(d) : d * d);
    }
    return sum;
}

/* Levels under `inverse`, and the line that fits them best; the mask says where there is one. */
static inline dan_mask fit_line(const struct dan_groups *g, const struct ends *e, dan_lanes inverse, float top, dan_lanes *l, dan_lanes *scale,
                                dan_lanes *min)
{
    dan_lanes sl = {0}, sll = {0}, sxl = {0};
    for (int i = 0; i < g->n; i++) {
        dan_lanes wl;
        l[i] = level(inverse * (g->x[i] - e->low), top);
        wl = g->w[i] * l[i];
        sl += wl;
        sll += wl * l[i];
        sxl += wl * g->x[i];
    }
    dan_lanes det = e->w * sll - sl * sl;
    *scale = (e->w * sxl - e->wx * sl) / det;
    *min = (sll * e->wx - sl * sxl) / det;
    dan_mask above = *min > 0;
    *scale = dan_pick(above, sxl / sll, *scale);
    *min = dan_pick(above, dan_all(0), *min);
    return det > 0;
}

/* A better line moves the low end of the range from which the next candidates come. */
void dan_search_line(const struct dan_groups *g, const struct dan_line_search *how, struct dan_lines *out)
{
    struct ends e = ends_of(g);
    dan_lanes l[DAN_GROUP], error, low = e.low;
    float top = (float)how->top;
    dan_mask dead = e.high <= e.low;
    e.high = dan_pick(dead, e.low + 1, e.high);
    *out = (struct dan_lines){.inverse = dan_all(top) / (e.high - e.low), .min = e.low, .low = e.low};
    out->scale = 1 / out->inverse;
    for (int i = 0; i < g->n; i++) l[i] = level(out->inverse * (g->x[i] - e.low), top);
    error = line_error(g, l, out->scale, out->min, how->absolute);
    for (int s = 0; s <= how->steps; s++) {
        dan_lanes scale, min, inverse = dan_all(how->from + how->step * (float)s + top) / (e.high - e.low);
        dan_mask better = fit_line(g, &e, inverse, top, l, &scale, &min);
        dan_lanes now = line_error(g, l, scale, min, how->absolute);
        better &= now < error;
        error = dan_pick(better, now, error);
        out->scale = dan_pick(better, scale, out->scale);
        out->inverse = dan_pick(better, inverse, out->inverse);
        out->low = dan_pick(better, e.low, out->low);
        e.low = dan_pick(better, min, e.low);
    }
    out->min = dan_pick(dead, low, e.low);
    out->scale = dan_pick(dead, dan_all(0), out->scale);
    out->inverse = dan_pick(dead, dan_all(0), out->inverse);
}

/* ---- a few scales of one block, one after the other ---- */

static float positive_error(const float *x, const float *w, int n, int top, float inverse, float scale)
{
    float sum = 0;
    for (int i = 0; i < n; i++) {
        float d = x[i] - scale * (float)dan_nearest_level(inverse * x[i], 0, top);
        sum += w[i] * d * d;
    }
    return sum;
}

static float best_inverse(const float *x, const float *w, int n, int top, float max)
{
    float inverse = (float)top / max, error = positive_error(x, w, n, top, inverse, 1 / inverse);
    for (int s = -4; s <= 4; s++) {
        float other = (0.1f * (float)s + (float)top) / max, now = s ? positive_error(x, w, n, top, other, 1 / other) : error;
        if (now < error) {
            error = now;
            inverse = other;
        }
    }
    return inverse;
}

static bool move_positive(const float *x, const float *w, int n, int top, uint8_t *l, float *xl, float *ll)
{
    bool any = false;
    for (int i = 0; i < n; i++) {
        float a = *xl - w[i] * x[i] * (float)l[i], b = *ll - w[i] * (float)l[i] * (float)l[i];
        if (!(a > 0 && b > 0)) continue;
        int other = dan_nearest_level(x[i] * b / a, 0, top);
        if (other == l[i]) continue;
        a += w[i] * x[i] * (float)other;
        b += w[i] * (float)other * (float)other;
        if (!(a * a * *ll > *xl * *xl * b)) continue;
        l[i] = (uint8_t)other;
        *xl = a;
        *ll = b;
        any = true;
    }
    return any;
}

float dan_search_positive(const float *x, const float *w, int n, int top, uint8_t *l)
{
    float max = 0, xl = 0, ll = 0;
    for (int i = 0; i < n; i++) max = x[i] > max ? x[i] : max;
    for (int i = 0; i < n; i++) l[i] = 0;
    if (!(max >= tiny)) return 0;
    float inverse = best_inverse(x, w, n, top, max);
    for (int i = 0; i < n; i++) {
        l[i] = (uint8_t)dan_nearest_level(inverse * x[i], 0, top);
        xl += w[i] * x[i] * (float)l[i];
        ll += w[i] * (float)l[i] * (float)l[i];
    }
    for (int round = 0; round < 5 && move_positive(x, w, n, top, l, &xl, &ll); round++) continue;
    return ll > 0 ? xl / ll : 0;
}

void dan_weights(const float *x, const float *importance, float square, int n, float *w)
{
    for (int i = 0; i < n; i++) w[i] = importance[i] * sqrtf(square + x[i] * x[i]);
}

float dan_sum_squares(const float *x, int64_t n)
{
    float sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
    return sum;
}

int dan_groups_weighted(struct dan_groups *g, const float *x, const float *importance, float square, int64_t left, int each)
{
    float w[DAN_LANES * DAN_GROUP];
    int groups = left < DAN_LANES * each ? (int)left / each : DAN_LANES;
    dan_weights(x, importance, square, groups * each, w);
    dan_groups_set(g, x, w, groups, each);
    return groups;
}
