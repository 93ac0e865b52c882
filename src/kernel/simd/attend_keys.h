/* What all attention kernels share: sizes, and which keys rows see.  Needs VF (block_ISA.h). */
#ifndef DAN_KERNEL_ATTEND_KEYS_H
#define DAN_KERNEL_ATTEND_KEYS_H
#include <string.h>
#include "base/sys.h"
#include "core/args.h"
#include "op/attrs.h"
#include "kernel/simd/unroll.h"

#define INLINE static inline __attribute__((always_inline))

static const float LOG2E = 1.44269504f, LN2 = 0.693147181f;

static inline int64_t least(int64_t x, int64_t y) { return x < y ? x : y; }
static inline int64_t most(int64_t x, int64_t y) { return x > y ? x : y; }
static inline int64_t pad(int64_t n) { return (n + VF - 1) / VF * VF; }
static inline int64_t up32(int64_t n) { return (n + 31) / 32 * 32; }

/* dp: head dim padded to vectors */
struct sizes { int64_t rows, heads, kv, group, d, dp; float scale, cap; };

static inline struct sizes sizes_of(const struct dan_args *a)
{
    struct sizes s = {.rows = a->in[0].shape.d[0], .heads = a->attr[DAN_ATTEND_HEADS].i, .kv = a->attr[DAN_ATTEND_KV_HEADS].i};
    s.group = s.heads / s.kv;
    s.d = a->in[0].shape.d[1] / s.heads;
    s.dp = pad(s.d);
    s.scale = (float)a->attr[DAN_ATTEND_SCALE].f;
    s.cap = (float)a->attr[DAN_ATTEND_CAP].f;
    return s;
}

/* (base, lo, hi) of a row */
static inline const int32_t *range_of(const struct dan_args *a, int64_t row)
{
    return (const int32_t *)((const char *)a->in[3].data + row * a->in[3].stride[0]);
}

/* First row from r on (at most `end`) whose base differs from row r's. */
static inline int64_t run_end(const struct dan_args *a, int64_t r, int64_t end)
{
    int32_t base = *range_of(a, r);
    do r++;
    while (r < end && *range_of(a, r) == base);
    return r;
}

/* Keys [lo, hi) of a row, relative to some origin; empty ones are 0, 0. */
struct keys { int32_t lo, hi; };

static inline struct keys keys_of(const struct dan_args *a, int64_t row, int64_t origin)
{
    const int32_t *r = range_of(a, row);
    return r[1] < r[2] ? (struct keys){(int32_t)(r[1] - origin), (int32_t)(r[2] - origin)} : (struct keys){0, 0};
}

/* The part of keys k in the n keys from b on, relative to b. */
static inline struct keys in_block(struct keys k, int64_t b, int64_t n)
{
    struct keys r = {(int32_t)most(k.lo - b, 0), (int32_t)least(k.hi - b, n)};
    return r.lo < r.hi ? r : (struct keys){0, 0};
}

static inline bool no_keys(struct keys k) { return k.lo >= k.hi; }

static inline struct keys join(struct keys x, struct keys y)
{
    if (no_keys(x)) return y;
    if (no_keys(y)) return x;
    return (struct keys){(int32_t)least(x.lo, y.lo), (int32_t)most(x.hi, y.hi)};
}

/* An item is one row of one query head; the G = H/K heads that read the same kv head are neighbours: item i of kv head h
 * from row `first` on is row first + i / G, head h G + i % G.  Divisions are slow: lists are made once. */
struct item { int32_t row, head; };

static inline void list_items(struct item *x, int64_t n, const struct sizes *s, int64_t first, int64_t kv_head, int64_t from)
{
    int64_t row = first + from / s->group, g = from % s->group;
    for (int64_t i = 0; i < n; i++) {
        x[i] = (struct item){(int32_t)row, (int32_t)(kv_head * s->group + g)};
        if (++g == s->group) g = 0, row++;
    }
}

/* The item's D numbers of x, which has H D columns. */
static inline char *item_at(const struct dan_tensor *x, const struct sizes *s, struct item i)
{
    return (char *)x->data + i.row * x->stride[0] + i.head * s->d * x->dtype->bytes;
}

/* The n tensors are stored as t, or are absent or integers. */
static inline bool all_stored(const struct dan_tensor *x, int n, const struct dan_dtype *t)
{
    for (int i = 0; i < n; i++)
        if (x[i].dtype && x[i].dtype != t && x[i].dtype != &dan_dtype_i32) return false;
    return true;
}

/* Work that threads take from a counter: who does what changes nothing but the time. */
static inline int64_t take(int64_t *next) { return __atomic_fetch_add(next, 1, __ATOMIC_RELAXED); }

#endif
