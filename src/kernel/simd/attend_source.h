/* Keys and values as the f32 kernels of attend read them: rows of f32, or a cache by heads (core/kv.h) in f32, bf16 or i8.
 * A block of them becomes f32 in the layout of attend_tile.h. */
#ifndef DAN_KERNEL_ATTEND_SOURCE_H
#define DAN_KERNEL_ATTEND_SOURCE_H
#include "core/kv.h"
#include "kernel/simd/attend_tile.h"

/* One kv head of keys or values.  cache: c; else rows `ld` floats apart. */
struct source { bool cache; struct dan_kv c; const char *plane; const float *rows, *scale; int64_t ld; };

static inline struct source source_of(const struct dan_args *a, const struct sizes *s, int k, int64_t head)
{
    const struct dan_tensor *t = &a->in[k];
    struct source x = {.cache = t->shape.n == 3};
    if (x.cache) {
        x.c = dan_kv_of(t, k == 2);
        x.plane = x.c.data + head * x.c.plane;
        x.scale = t->dtype == &dan_dtype_i8 ? dan_kv_scales(&x.c, head) : NULL;
    } else {
        x.rows = (const float *)t->data + head * s->d;
        x.ld = t->stride[0] / 4;
    }
    return x;
}

static inline int64_t source_rows(const struct dan_tensor *t) { return t->shape.d[t->shape.n - 2]; }

/* The numbers of a vector of words, as f32: `per` vectors. */
INLINE void unpack(int per, vf w, vf x[4])
{
    if (per == 1) x[0] = w;
    if (per == 2) x[0] = vf_low_bf16(w), x[1] = vf_high_bf16(w);
    for (int i = 0; i < 4 && per == 4; i++) x[i] = vf_byte(w, i);
}

/* dst[W][BLOCK], columns [c0, c1) in whole vectors: keys from row `at` on, which is a multiple of the cache's group. */
INLINE void unpack_keys(int per, const struct source *x, int64_t at, int64_t c0, int64_t c1, float *dst)
{
    const int64_t words = x->c.width / per;
    for (int64_t c = c0; c < c1; c += VF) {
        const float *from = (const float *)x->plane + (at + c) / DAN_KV_GROUP * words * DAN_KV_GROUP + c % DAN_KV_GROUP;
        float *to = dst + c;
        for (int64_t i = 0; i < words; i++, from += DAN_KV_GROUP) {
            vf y[4];
            unpack(per, vf_load(from), y);
            for (int k = 0; k < per; k++, to += BLOCK) vf_store(to, y[k]);
        }
    }
}

/* dst[row][ld], rows [lo, hi): values from row `at` on, a multiple of `per`.  Up to per - 1 rows beside them are written. */
INLINE void unpack_values(int per, const struct source *x, int64_t at, int64_t lo, int64_t hi, float *dst, int64_t ld, int64_t d)
{
    for (int64_t r = lo / per * per; r < hi; r += per) {
        const float *from = (const float *)x->plane + (at + r) / per * x->c.width;
        for (int64_t i = 0; i < d; i += VF) {
            vf y[4];
            unpack(per, vf_load_n(from + i, d - i), y);
            for (int k = 0; k < per; k++) vf_store(dst + (r + k) * ld + i, y[k]);
        }
    }
}

/* A cache row at any place. */
static void read_row(const struct source *x, int64_t row, float *dst, int64_t step, int64_t d)
{
    struct dan_kv c = x->c;
    c.data = (char *)(uintptr_t)x->plane;
    for (int64_t i = 0; i < d; i++) {
        const void *p = dan_kv_at(&c, 0, row, i);
        if (c.per == 4) dst[i * step] = (float)*(const int8_t *)p;
        else if (c.per == 2) c.dtype->to_f32(p, &dst[i * step], 1);
        else dst[i * step] = *(const float *)p;
    }
}

/* Keys k of the block whose key 0 is row `at`, transposed: dst[d][BLOCK].  What lies beside them in a vector is anything. */
static void load_keys(const struct source *x, int64_t at, struct keys k, float *dst, int64_t d)
{
    int64_t c0 = k.lo / VF * VF;
    if (!x->cache) {
        pack_transposed(dst + c0, x->rows + (at + c0) * x->ld, x->ld, k.hi - c0, d);
        return;
    }
    if (at % DAN_KV_GROUP) {
        for (int64_t c = c0; c < k.hi; c++) read_row(x, at + c, dst + c, BLOCK, d);
        for (int64_t c = k.hi; c < pad(k.hi); c++)
            for (int64_t i = 0; i < d; i++) dst[i * BLOCK + c] = 0;
        return;
    }
    if (x->c.per == 1) unpack_keys(1, x, at, c0, k.hi, dst);
    else if (x->c.per == 2) unpack_keys(2, x, at, c0, k.hi, dst);
    else unpack_keys(4, x, at, c0, k.hi, dst);
}

/* Values k of the block: the address of row 0 with rows *ld apart, in `room` [BLOCK][pad(d)] unless copy says that they may stay
 * where they are. */
static const float *load_values(const struct source *x, int64_t at, struct keys k, float *room, int64_t d, bool copy, int64_t *ld)
{
    const float *rows = x->cache ? (const float *)x->plane + at * x->c.width : x->rows + at * x->ld;
    bool plain = !x->cache || x->c.per == 1;
    *ld = x->cache ? x->c.width : x->ld;
    if (plain && !copy && d % VF == 0) return rows;
    int64_t from = *ld;
    *ld = pad(d);
    if (plain) {
        pack_rows(room + k.lo * *ld, rows + k.lo * from, from, k.hi - k.lo, d);
    } else if (at % x->c.per) {
        memset(room + k.lo * *ld, 0, (size_t)((k.hi - k.lo) * *ld) * sizeof *room);
        for (int64_t r = k.lo; r < k.hi; r++) read_row(x, at + r, room + r * *ld, 1, d);
    } else if (x->c.per == 2) {
        unpack_values(2, x, at, k.lo, k.hi, room, *ld, d);
    } else {
        unpack_values(4, x, at, k.lo, k.hi, room, *ld, d);
    }
    return room;
}

/* n rows of one head from `at` on are on their way to the cache: the hardware does not foresee rows that lie far apart, nor
 * the next page. */
static void fetch(const struct source *x, int64_t at, int64_t n, int64_t d)
{
    int64_t bytes = x->cache ? x->c.width * 4 / x->c.per : d * 4;
    if (x->cache && n > 0) {
        const char *p = x->plane + at / DAN_KV_GROUP * DAN_KV_GROUP * bytes;
        for (int64_t i = 0; i < n * bytes; i += 64) __builtin_prefetch(p + i);
    }
    for (int64_t r = at; r < at + n && !x->cache; r++)
        for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch((const char *)(x->rows + r * x->ld) + i);
}

/* Scales of keys k of the block, zeros behind up to a whole vector; NULL where there are none. */
static const float *load_scales(const struct source *x, int64_t at, struct keys k, float *room)
{
    if (!x->scale) return NULL;
    for (int64_t c = k.lo / VF * VF; c < k.hi; c += VF) vf_store(room + c, vf_load_n(x->scale + at + c, k.hi - c));
    return room;
}

#endif
