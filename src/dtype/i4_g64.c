/* Groups of 64, x = d l, l in -8 .. 7; 4.25 bits a weight.  dtype/grouped.h has the rules. */
#include "dtype/grouped.h"

enum { GROUP = 64 };

static void to_f32(const void *src, float *dst, int64_t n) { dan_i4_to_f32(src, dst, n, GROUP); }
static void from_f32(const float *src, void *dst, int64_t n) { dan_i4_from_f32(src, NULL, dst, n, GROUP); }
static void from_f32_weighted(const float *src, const float *w, void *dst, int64_t n) { dan_i4_from_f32(src, w, dst, n, GROUP); }
static void fit(const float *x, const float *importance, void *block) { dan_i4_fit(x, importance, block, GROUP); }

const struct dan_dtype dan_dtype_i4_g64 = {
    .name = "i4_g64", .block = GROUP, .bytes = 2 + GROUP / 2, .gguf_id = -1, .to_f32 = to_f32, .from_f32 = from_f32,
    .from_f32_weighted = from_f32_weighted, .fit = fit, .put = dan_i4_put, .max_rmse = 0.1f, .fallback = "i4_g32",
};
