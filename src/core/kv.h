/* How a cache of keys or values lies in memory: a tensor [K,S,E], one plane a kv head, in which vectors need no transposition.
 * Numbers come in words of 4 bytes, P = 4 / bytes of them (1 of f32, 2 of bf16, 4 of i8), and W = D up to a multiple of P:
 *   keys    word (j / 16, i / P, j % 16), number i % P:   [S/16][W/P][16] words; a word is P dims of one token
 *   values  word (j / P, i), number j % P:                [S/P][W] words; a word is one dim of P tokens
 * for token j and dim i, S a multiple of 16.  E = W, but for i8: there behind the levels of a plane stand S scales (f32), one a
 * token, E = W + 4, and a number is scale x level.  A token's numbers are written once and touch no other token's: appending
 * never changes what is there. */
#ifndef DAN_CORE_KV_H
#define DAN_CORE_KV_H
#include <math.h>
#include <string.h>
#include "core/args.h"

enum { DAN_KV_GROUP = 16 };

struct dan_kv {
    char   *data;
    int64_t plane, heads, rows, width;         /* plane: bytes from one head to the next; rows: S; width: W */
    int     per;                               /* P */
    bool    values;
    const struct dan_dtype *dtype;
};

static inline int64_t dan_kv_scale_bytes(const struct dan_dtype *t) { return t == &dan_dtype_i8 ? 4 : 0; }

/* Plain formats of 1, 2 or 4 bytes that can be written. */
static inline bool dan_kv_takes(const struct dan_dtype *t)
{
    bool size = t->bytes == 1 || t->bytes == 2 || t->bytes == 4;
    return t == &dan_dtype_i8 || (t->block == 1 && size && t->from_f32 && t->to_f32 && t != &dan_dtype_i32);
}

static inline struct dan_shape dan_kv_shape(const struct dan_dtype *t, int64_t heads, int64_t rows, int64_t dim)
{
    int64_t per = 4 / t->bytes, width = (dim + per - 1) / per * per;
    const int64_t d[] = {heads, (rows + DAN_KV_GROUP - 1) / DAN_KV_GROUP * DAN_KV_GROUP, width + dan_kv_scale_bytes(t)};
    return dan_shape_of(d, 3);
}

/* A cache's tensor [K,S,E]. */
static inline struct dan_kv dan_kv_of(const struct dan_tensor *t, bool values)
{
    return (struct dan_kv){.data = t->data, .plane = t->stride[0], .heads = t->shape.d[0], .rows = t->shape.d[1],
                           .width = t->shape.d[2] - dan_kv_scale_bytes(t->dtype), .per = 4 / t->dtype->bytes, .values = values,
                           .dtype = t->dtype};
}

/* Number i of token j; those of one token lie `step` bytes apart while i / P (keys) or i (values) grows by one. */
static inline char *dan_kv_at(const struct dan_kv *c, int64_t head, int64_t j, int64_t i)
{
    int64_t p = c->per, word = c->values ? j / p * c->width + i : (j / DAN_KV_GROUP * (c->width / p) + i / p) * DAN_KV_GROUP + j % DAN_KV_GROUP;
    return c->data + head * c->plane + word * 4 + (c->values ? j % p : i % p) * c->dtype->bytes;
}

static inline float *dan_kv_scales(const struct dan_kv *c, int64_t head)
{
    return (float *)(void *)(c->data + head * c->plane + c->rows * c->width);
}

/* Token j of a head as f32. */
static inline void dan_kv_read(const struct dan_kv *c, int64_t head, int64_t j, float *x, int64_t d)
{
    float scale = c->dtype == &dan_dtype_i8 ? dan_kv_scales(c, head)[j] : 1;
    for (int64_t i = 0; i < d; i++) {
        const char *p = dan_kv_at(c, head, j, i);
        if (c->dtype == &dan_dtype_i8) x[i] = scale * (float)*(const int8_t *)p;
        else c->dtype->to_f32(p, &x[i], 1);
    }
}

/* What a level of x is; inv = 1 / scale. */
static inline int8_t dan_kv_level(float x, float inv)
{
    float v = rintf(x * inv);
    return (int8_t)(v > 127 ? 127 : v >= -127 ? v : -127);
}

/* The scale, max|x| / 127, and what x is multiplied by to give levels; top: max|x|. */
static inline float dan_kv_scale(float top, float *inv)
{
    *inv = top > 1e-30f ? 127 / top : 0;
    return top / 127;
}

/* The scale of a head with few numbers, at most DAN_KV_FEW.  Whether 8 numbers lie near the levels of max|x| / 127 is luck; of that scale and some that
 * are up to 6 % larger the one with the least squared error is taken: 0.58 of the mean squared error at 8 numbers, 0.72 at 16, hardly less with more. */
enum { DAN_KV_FEW = 16, DAN_KV_TRIES = 16 };
static inline float dan_kv_scale_of_few(const float *x, int64_t d, float top, float *inv)
{
    float least = INFINITY, best = dan_kv_scale(top, inv);
    for (int t = 0; t < DAN_KV_TRIES && top > 1e-30f; t++) {
        float levels = 127 - 0.5f * (float)t, to_levels = levels / top, scale = top / levels, sum = 0;
        for (int64_t i = 0; i < d; i++) {
            float off = x[i] - scale * (float)dan_kv_level(x[i], to_levels), square = off * off;
            sum += square;
        }
        if (!(sum < least)) continue;
        least = sum;
        best = scale;
        *inv = to_levels;
    }
    return best;
}

/* Numbers of `bytes` bytes, already in the cache's format, become token j of a head. */
static inline void dan_kv_put(const struct dan_kv *c, int64_t head, int64_t j, const void *x, int64_t d)
{
    const int64_t p = c->per, step = c->values ? 4 : 4 * DAN_KV_GROUP;
    const char *from = x;
    char *to = dan_kv_at(c, head, j, 0);
    const int64_t each = c->values ? 1 : p, bytes = c->dtype->bytes;      /* numbers that lie together */
    int64_t i = 0;
    if (each * bytes == 4)
        for (; i + each <= d; i += each, to += step) memcpy(to, from + i * bytes, 4);
    else if (bytes == 2)
        for (; i < d; i++, to += step) memcpy(to, from + i * 2, 2);
    else
        for (; i < d; i++, to += step) *to = from[i];
    if (i < d) memcpy(to, from + i * bytes, (size_t)((d - i) * bytes));
}

/* Token j of a head = x[d]; tmp: d floats. */
static inline void dan_kv_write_row(const struct dan_kv *c, int64_t head, int64_t j, const float *x, int64_t d, void *tmp)
{
    if (c->dtype == &dan_dtype_i8) {
        float inv, top = 0;
        for (int64_t i = 0; i < d; i++) top = fabsf(x[i]) > top ? fabsf(x[i]) : top;
        dan_kv_scales(c, head)[j] = d <= DAN_KV_FEW ? dan_kv_scale_of_few(x, d, top, &inv) : dan_kv_scale(top, &inv);
        for (int64_t i = 0; i < d; i++) ((int8_t *)tmp)[i] = dan_kv_level(x[i], inv);
    } else {
        c->dtype->from_f32(x, tmp, d);
    }
    dan_kv_put(c, head, j, tmp, d);
}

#endif
