/* K-quants with a scale and a minimum per group, x = d s l - m t: scales s and minima t of a block of 256 are small integers themselves. */
#ifndef DAN_DTYPE_AFFINE_H
#define DAN_DTYPE_AFFINE_H
#include "dtype/search.h"

enum { DAN_K_BLOCK = 256 };
struct dan_affine_rule {
    int groups, n, scale_top;                  /* groups of n elements; s and t in 0 .. scale_top */
    struct dan_line_search plain, weighted;    /* without and with importance */
    float square;                              /* with importance: weights from so many times the mean square of the block */
};
struct dan_affine {
    uint16_t d, m;                             /* f16; NaN when a value is not finite */
    uint8_t  scale[16], min[16];               /* s and t */
    float    inverse[16], low[16];             /* levels of the search, which stay where d s is 0: clamp(nearest(inverse (x - low))) */
};
/* x[256], importance[256] or NULL.  Without importance weights are |x| (absolute) or |x| + root mean square of the group, and the
 * largest s and t become scale_top; with it d and m are searched for. */
void dan_affine_fit(const struct dan_affine_rule *r, const float *x, const float *importance, struct dan_affine *out);
/* level[256] under the stored scales. */
void dan_affine_levels(const struct dan_affine_rule *r, const float *x, const struct dan_affine *a, uint8_t *level);
/* The level of one x for d s = scale and m t = minus. */
static inline int dan_affine_level(float x, float scale, float minus, int top)
{
    return scale != 0 ? dan_nearest_level((x + minus) / scale, 0, top) : 0;
}

/* 6-bit scales and minima of 8 groups in 12 bytes: Q4_K and Q5_K. */
void dan_k_pack(const struct dan_affine *a, uint8_t *to);

#endif
