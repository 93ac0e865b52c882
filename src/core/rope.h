/* How positions become angles: rotary position embeddings (Su et al. 2021) and how their frequencies are changed for contexts
 * longer than those of training.  Angle i of a row is pos * frequency i; cosine and sine are multiplied by `by`.
 * Formulas and key names are those of Hugging Face's config.json ("rope_type"). */
#ifndef DAN_CORE_ROPE_H
#define DAN_CORE_ROPE_H
#include <math.h>
#include <stdbool.h>
#include "core/args.h"

enum dan_rope_kind {
    DAN_ROPE_PLAIN,                            /* "default": base^(-2i/dim) */
    DAN_ROPE_LINEAR,                           /* positions divided by factor (Chen et al. 2023) */
    DAN_ROPE_DYNAMIC,                          /* a base that grows with the sequence beyond `original` (NTK) */
    DAN_ROPE_YARN,                             /* slow angles as linear, fast ones as plain, a ramp between (Peng et al. 2023) */
    DAN_ROPE_YARN_SMOOTH,                      /* the same with "truncate": false: the ramp's ends are not rounded */
    DAN_ROPE_LLAMA3,                           /* the same idea with a ramp over wavelengths (Llama 3.1) */
    DAN_N_ROPE_KINDS
};

/* Members but `part` are the attributes of op rope_table, in this order.  {0} is completed by dan_rope_complete. */
struct dan_rope {
    int64_t dim, kind;                         /* dims of a head that turn, from the front; enum dan_rope_kind */
    double  base, factor;                      /* theta; how many times `original` the context is */
    double  low, high;                         /* yarn: beta_slow, beta_fast (turns within `original`); llama3: *_freq_factor */
    double  original;                          /* tokens of the context before scaling */
    double  by;                                /* cosines and sines are multiplied by it ("attention_factor") */
    double  part;                              /* of the head dim that turns ("partial_rotary_factor") */
};

static inline struct dan_rope dan_rope_of_attr(const union dan_attr *a)
{
    return (struct dan_rope){a[0].i, a[1].i, a[2].f, a[3].f, a[4].f, a[5].f, a[6].f, a[7].f, 1};
}

/* What a config leaves open: 0 becomes the default.  head_dim: of the model; context: its longest (for `original`). */
static inline void dan_rope_complete(struct dan_rope *r, int64_t head_dim, int64_t context)
{
    bool yarn = r->kind == DAN_ROPE_YARN || r->kind == DAN_ROPE_YARN_SMOOTH;
    if (!(r->part > 0)) r->part = 1;
    if (r->dim < 1) r->dim = (int64_t)((double)head_dim * r->part);
    if (!(r->base > 0)) r->base = 10000;
    if (!(r->original > 0)) r->original = (double)context;
    if (!(r->factor > 0)) r->factor = yarn && r->original > 0 ? (double)context / r->original : 1;
    if (!(r->low > 0)) r->low = 1;
    if (!(r->high > 0)) r->high = yarn ? 32 : 4;
    if (!(r->by > 0)) r->by = yarn && r->factor > 1 ? 0.1 * log(r->factor) + 1 : 1;
}

/* 0 where a dim is fast and keeps its frequency, 1 where it is slow and is divided by factor. */
static inline double dan_rope_yarn_ramp(const struct dan_rope *r, int64_t i)
{
    const double turn = 6.28318530717958647692, dim = (double)r->dim;
    double from = dim * log(r->original / (r->high * turn)) / (2 * log(r->base));
    double to = dim * log(r->original / (r->low * turn)) / (2 * log(r->base));
    if (r->kind == DAN_ROPE_YARN) from = floor(from), to = ceil(to);
    if (from < 0) from = 0;
    if (to > dim - 1) to = dim - 1;
    if (from == to) to += 0.001;
    double x = ((double)i - from) / (to - from);
    return x < 0 ? 0 : x > 1 ? 1 : x;
}

static inline double dan_rope_llama3_ramp(const struct dan_rope *r, double frequency)
{
    double turns = r->original * frequency / 6.28318530717958647692;           /* original / wavelength */
    if (turns > r->high) return 0;
    if (turns < r->low) return 1;
    return 1 - (turns - r->low) / (r->high - r->low);
}

/* Radians per position of pair i < dim / 2.  length: tokens of the row's sequence (DYNAMIC alone looks at it). */
static inline double dan_rope_frequency(const struct dan_rope *r, int64_t i, double length)
{
    double base = r->base, dim = (double)r->dim, ramp = 0;
    if (r->kind == DAN_ROPE_DYNAMIC && length > r->original)
        base *= pow(r->factor * length / r->original - (r->factor - 1), dim / (dim - 2));
    double f = pow(base, -2 * (double)i / dim);
    if (r->kind == DAN_ROPE_LINEAR) ramp = 1;
    if (r->kind == DAN_ROPE_YARN || r->kind == DAN_ROPE_YARN_SMOOTH) ramp = dan_rope_yarn_ramp(r, i);
    if (r->kind == DAN_ROPE_LLAMA3) ramp = dan_rope_llama3_ramp(r, f);
    return ramp == 0 ? f : f * (1 - ramp) + f / r->factor * ramp;
}

/* GGUF files of Llama 3.1 and later hold what divides each frequency, f[n], instead of the parameters.  True and *r set
 * when one of the published parameter sets gives these divisors; r has base and dim. */
static inline bool dan_rope_llama3_from_factors(const float *f, int64_t n, struct dan_rope *r)
{
    static const double factor[] = {8, 32, 16, 4, 2};
    struct dan_rope plain = *r, like = *r;
    plain.kind = DAN_ROPE_PLAIN;
    like.kind = DAN_ROPE_LLAMA3;
    like.low = 1;
    like.high = 4;
    like.original = 8192;
    for (int k = 0; k < 5; k++) {
        int64_t same = 0;
        like.factor = factor[k];
        for (int64_t i = 0; i < n; i++) {
            double want = dan_rope_frequency(&plain, i, 0) / dan_rope_frequency(&like, i, 0);
            same += fabs(want - (double)f[i]) <= 1e-4 * want;
        }
        if (same == n && n == r->dim / 2) {
            *r = like;
            return true;
        }
    }
    return false;
}

#endif
