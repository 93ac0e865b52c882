/* Scales that make the weighted squared error of a group of elements small: what ggml's quantisers do beyond taking the largest value.
 * Every search rounds the group to levels under some candidate scales, solves for the best scale (and minimum) of those levels in
 * closed form, and keeps the best of all.  Four groups are searched side by side, one in each lane of a vector; sums within a lane are
 * in the order of the elements and nothing is contracted, so the result is that of ggml's scalar code, to the bit. */
#ifndef DAN_DTYPE_SEARCH_H
#define DAN_DTYPE_SEARCH_H
#include "dtype/blocks.h"

enum { DAN_LANES = 4, DAN_GROUP = 128 };       /* groups have at most 128 elements */
typedef float dan_lanes __attribute__((vector_size(4 * DAN_LANES)));
typedef int32_t dan_mask __attribute__((vector_size(4 * DAN_LANES)));          /* of a comparison: -1 or 0 in each lane */

static inline dan_lanes dan_pick(dan_mask m, dan_lanes yes, dan_lanes no) { return (dan_lanes)((m & (dan_mask)yes) | (~m & (dan_mask)no)); }
static inline dan_lanes dan_all(float x) { return (dan_lanes){x, x, x, x}; }
static inline dan_lanes dan_at_least(dan_lanes x, float least) { return dan_pick(x > least, x, dan_all(least)); }     /* NaN: least */
static inline dan_lanes dan_at_most(dan_lanes x, float most) { return dan_pick(x < most, x, dan_all(most)); }

/* To the nearest integer, halves to even, for |x| <= 2^22: beyond the sum a float has no fraction left. */
static inline float dan_nearest(float x) { return x + 12582912.0f - 12582912.0f; }
/* The same within lo .. hi as an integer; NaN: lo. */
static inline int dan_nearest_level(float x, int lo, int hi)
{
    float r = dan_nearest(x);
    return !(r > (float)lo) ? lo : r > (float)hi ? hi : (int)r;
}

/* Up to four groups of n elements with the weights of their squared errors: lane k of x[i] is element i of group k. */
struct dan_groups { int n; dan_lanes x[DAN_GROUP], w[DAN_GROUP]; };
/* From x[groups][n] and w[groups][n]; lanes beyond are zeros. */
void dan_groups_set(struct dan_groups *g, const float *x, const float *w, int groups, int n);

/* x = scale l with levels l in -top .. top - 1.  inverse: the candidate that the levels come from, l = clamp(nearest(inverse x)); 0 for
 * a group of nothing but zeros (below 1e-15).
 *
 * 19 candidates, inverse = -(top + s / 10) / m for s = -9 .. 9 and the value m of largest magnitude.  For given levels
 * sum w (x - scale l)^2 is least for scale = sum w x l / sum w l^2, and then is sum w x^2 - (sum w x l)^2 / sum w l^2. */
struct dan_scales { dan_lanes scale, inverse; };
void dan_search_scale(const struct dan_groups *g, int top, struct dan_scales *out);
/* l + top of one element as it is stored; a group of zeros has 0 there. */
static inline int dan_scale_level(float x, float inverse, int top)
{
    return inverse != 0 ? dan_nearest_level(inverse * x, -top, top - 1) + top : 0;
}

/* The same for weights x^2 from one candidate (s = 0), then moving one level at a time to its best place while that lowers the error,
 * at most five rounds.  level[n]: l + top. */
void dan_refine_scale(const struct dan_groups *g, int top, dan_lanes *scale, dan_lanes *level);

/* x = scale l + min with levels 0 .. top and min <= 0.  Candidates inverse = (top + from + step s) / (max - low), s = 0 .. steps, where
 * low is at first the least value or 0, then the min of the best line so far; for given levels scale and min solve the normal equations
 *     sum w l^2 scale + sum w l min = sum w l x,   sum w l scale + sum w min = sum w x
 * (min > 0: then min = 0, scale = sum w l x / sum w l^2).  absolute: the sum of w |error| decides between candidates, not of w error^2.
 * Levels are clamp(nearest(inverse (x - low))). */
struct dan_lines { dan_lanes scale, min, inverse, low; };
struct dan_line_search { int top, steps; float from, step; bool absolute; };
void dan_search_line(const struct dan_groups *g, const struct dan_line_search *how, struct dan_lines *out);

/* Scales of groups, x[n] >= 0, n <= 16, themselves as scale l with levels 0 .. top: nine candidates, then moved one by one. */
float dan_search_positive(const float *x, const float *w, int n, int top, uint8_t *level);

/* ggml's weights with an importance: importance[i] sqrt(square + x_i^2), square a multiple of the mean square of x around. */
void dan_weights(const float *x, const float *importance, float square, int n, float *w);
float dan_sum_squares(const float *x, int64_t n);
/* The groups of `each` elements that x[left] begins with, at most DAN_LANES, with those weights, side by side: how many. */
int  dan_groups_weighted(struct dan_groups *g, const float *x, const float *importance, float square, int64_t left, int each);

#endif
