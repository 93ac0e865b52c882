/* attend for q, k, v stored as bf16, on AMX tiles (Dao et al. 2022, FlashAttention).  Scores and outputs are summed in
 * f32, weights are rounded to bf16 for their product with v.
 *
 * A tile is up to `rows` items of one run of rows with equal base: for them a block of keys is packed once.  Groups of
 * 32 items then take it: 32 x 32 scores a time, one exponential each, and the sums of the block go on top of the
 * outputs inside the tiles.
 *
 * The maximum that is subtracted follows the scores lazily: it moves when one is 2^8 above it, so outputs are rarely
 * scaled.  The bits of an item's result depend on its own row and keys only: blocks count from the base, every sum runs
 * over keys in order, and keys that only other items see add an exact zero. */
#include <math.h>
#include "kernel/simd/attend_amx.h"

enum { ROWS = 512, BLOCK = 256, SLACK = 8 };

/* steps: of 32 along the head dim; o has 32 steps columns.  rows: most items of a tile. */
struct shape { struct sizes s; int64_t steps, rows; bool bf16; };

/* Keys of a group of 32 items: some see `any`, all see `all`. */
struct group { struct keys any, all; bool fresh; };

struct area { char *q, *k, *v, *p; float *s, *o, *sum, *max; struct keys *keys; struct item *item; struct group *group; };

struct tile { int64_t head, row, first, n, base; };     /* items first .. first + n, counted from `row`, of kv head `head` */

static size_t area_bytes(const struct shape *s)
{
    size_t tiles = (size_t)((ROWS + 2 * BLOCK) / 16 * s->steps + 2 * BLOCK / 32) * TILE_BYTES;
    size_t floats = (size_t)(32 * BLOCK + ROWS * 32 * s->steps + ROWS * 16 + ROWS) * sizeof(float);
    return tiles + floats + ROWS * (sizeof(struct keys) + sizeof(struct item)) + (ROWS / 32 * sizeof(struct group) + 63) / 64 * 64;
}

static struct area area_at(const struct shape *s, char *ws)
{
    struct area w = {.q = ws};
    w.k = w.q + ROWS / 16 * s->steps * TILE_BYTES;
    w.v = w.k + BLOCK / 16 * s->steps * TILE_BYTES;
    w.p = w.v + BLOCK / 16 * s->steps * TILE_BYTES;
    w.s = (float *)(w.p + 2 * BLOCK / 32 * TILE_BYTES);
    w.o = w.s + 32 * BLOCK;
    w.sum = w.o + ROWS * 32 * s->steps;
    w.max = w.sum + ROWS * 16;
    w.keys = (struct keys *)(w.max + ROWS);
    w.item = (struct item *)(w.keys + ROWS);
    w.group = (struct group *)(w.item + ROWS);
    return w;
}

/* Keys of the tile's items and of its groups; returns those that any item sees. */
static struct keys find_keys(const struct dan_args *a, const struct shape *s, const struct tile *t, const struct area *w)
{
    struct keys seen = {0, 0};
    list_items(w->item, t->n, &s->s, t->row, t->head, t->first);
    for (int64_t i = t->n; i < up32(t->n); i++) w->keys[i] = (struct keys){0, 0};
    for (int64_t i = 0; i < t->n; i++) w->keys[i] = keys_of(a, w->item[i].row, t->base);
    for (int64_t i = 0; i < up32(t->n); i += 32) {
        struct group *g = &w->group[i / 32];
        *g = (struct group){.any = all_of(w->keys + i, 32, true), .all = all_of(w->keys + i, 32, false), .fresh = true};
        seen = join(seen, g->any);
    }
    return seen;
}

static void begin_tile(const struct dan_args *a, const struct shape *s, const struct tile *t, const struct area *w)
{
    for (int64_t i = 0; i < up32(t->n); i += 16) {
        struct lines l;
        for (int r = 0; r < 16; r++) l.at[r] = i + r < t->n ? (const uint16_t *)item_at(&a->in[0], &s->s, w->item[i + r]) : NULL;
        pack_left(w->q + i / 16 * s->steps * TILE_BYTES, TILE_BYTES, &l, s->s.d);
        _mm512_store_ps(w->max + i, _mm512_set1_ps(-INFINITY));
        for (int r = 0; r < 16; r++) _mm512_store_ps(w->sum + (i + r) * 16, _mm512_setzero_ps());
    }
}

/* 32 rows of keys or values from c of the block at b.  What nobody in the tile sees is not read: it may be anything. */
INLINE void point_at(struct lines l[2], const struct dan_tensor *x, const struct shape *s, const struct tile *t, struct keys k,
                     int64_t b, int64_t c)
{
    const char *p = (const char *)x->data + (t->base + b + c) * x->stride[0] + t->head * s->s.d * 2;
    for (int i = 0; i < 32; i++, p += x->stride[0]) l[i / 16].at[i % 16] = c + i >= k.lo && c + i < k.hi ? (const uint16_t *)p : NULL;
}

/* Keys and values k of the block at b. */
static void pack_block(const struct dan_args *a, const struct shape *s, const struct tile *t, const struct area *w, struct keys k,
                       int64_t b)
{
    for (int64_t c = k.lo / 32 * 32; c < k.hi; c += 32) {
        struct lines key[2], value[2];
        point_at(key, &a->in[1], s, t, k, b, c);
        point_at(value, &a->in[2], s, t, k, b, c);
        for (int i = 0; i < 2; i++) pack_right(w->k + (c / 16 + i) * s->steps * TILE_BYTES, TILE_BYTES, &key[i], s->s.d);
        pack_right_rows(w->v + c / 16 * s->steps * TILE_BYTES, TILE_BYTES, value, s->s.d);
    }
}

/* s[32][c1 - c0] = q k^T of group g.  Rows lie as close as they can: at a distance of 1 KiB they would share few cache sets. */
static void score(const struct shape *s, const struct area *w, int64_t g, int64_t c0, int64_t c1)
{
    int64_t row = s->steps * TILE_BYTES, ld = (c1 - c0) * 4;                 /* row: 16 rows of q or of k */
    const char *q = w->q + 2 * g * row;
    for (int64_t c = c0; c < c1; c += 32) {
        const char *k = w->k + c / 16 * row;
        tiles_zero();
        tiles_product(q, q + row, TILE_BYTES, k, k + row, TILE_BYTES, s->steps);
        tiles_store((char *)(w->s + c - c0), 64, 16 * ld, ld);
    }
}

/* Outputs and sums of the items whose maximum moved. */
static void rescale(const struct shape *s, const struct area *w, int64_t item, __mmask16 moved, __m512 drop)
{
    _Alignas(64) float by[16];
    _mm512_store_ps(by, drop);
    for (; moved; moved &= (__mmask16)(moved - 1)) {
        int i = __builtin_ctz(moved);
        __m512 x = _mm512_set1_ps(by[i]);
        float *o = w->o + (item + i) * 32 * s->steps, *sum = w->sum + (item + i) * 16;
        for (int64_t c = 0; c < 32 * s->steps; c += 16) _mm512_store_ps(o + c, _mm512_mul_ps(x, _mm512_load_ps(o + c)));
        _mm512_store_ps(sum, _mm512_mul_ps(x, _mm512_load_ps(sum)));
    }
}

/* Columns [from, to) of a block for 16 items; those before `all` and after it only some see.  Rows of scores are to - from
 * floats apart, and p points to where column 0 would be. */
struct span { int64_t from, to; struct keys all; };

/* The loops over columns of a span: masked, plain, masked. */
INLINE __m512 top_of(bool all, const float *p, struct keys k, int64_t from, int64_t to, __m512 top)
{
    for (int64_t c = from; c < to; c += 32) {
        uint32_t see = all ? 0 : columns_of(k, c);
        __m512 x = _mm512_load_ps(p + c), y = _mm512_load_ps(p + c + 16);
        top = all ? _mm512_max_ps(top, x) : _mm512_mask_max_ps(top, (__mmask16)see, top, x);
        top = all ? _mm512_max_ps(top, y) : _mm512_mask_max_ps(top, (__mmask16)(see >> 16), top, y);
    }
    return top;
}

/* New maxima of 16 items with scores p[16][..]. */
static void find_tops(const struct shape *s, const struct area *w, int64_t item, bool fresh, const float *p, const struct keys *each,
                      const struct span *c)
{
    __m512 r[16], old = _mm512_load_ps(w->max + item);
    for (int i = 0; i < 16; i++, p += c->to - c->from) {
        r[i] = top_of(false, p, each[i], c->from, c->all.lo, _mm512_set1_ps(-INFINITY));
        r[i] = top_of(true, p, each[i], c->all.lo, c->all.hi, r[i]);
        r[i] = top_of(false, p, each[i], c->all.hi, c->to, r[i]);
    }
    __m512 top = _mm512_mul_ps(fold(false, r), _mm512_set1_ps(s->s.scale * LOG2E));
    __mmask16 moved = _mm512_cmp_ps_mask(top, _mm512_add_ps(old, _mm512_set1_ps(SLACK)), _CMP_GT_OQ);
    if (!moved) return;
    _mm512_mask_store_ps(w->max + item, moved, top);
    if (!fresh) rescale(s, w, item, moved, exp2_of(_mm512_sub_ps(_mm512_max_ps(old, _mm512_set1_ps(-1e30f)), top)));
}

INLINE __m512 weights_of(bool all, const float *p, struct keys k, int64_t from, int64_t to, __m512 by, __m512 max, char *dst, __m512 sum)
{
    for (int64_t c = from; c < to; c += 32) {
        __m512 x = exp2_of(_mm512_fmsub_ps(_mm512_load_ps(p + c), by, max));
        __m512 y = exp2_of(_mm512_fmsub_ps(_mm512_load_ps(p + c + 16), by, max));
        uint32_t see = all ? 0 : columns_of(k, c);
        if (!all) x = _mm512_maskz_mov_ps((__mmask16)see, x);
        if (!all) y = _mm512_maskz_mov_ps((__mmask16)(see >> 16), y);
        sum = _mm512_add_ps(sum, x);
        sum = _mm512_add_ps(sum, y);
        _mm512_store_si512(dst + c / 32 * TILE_BYTES, to_bf16(x, y));
    }
    return sum;
}

/* Scores p[16][..] become weights, as left factor [c / 32][16][32]; sums grow by them. */
static void weigh(const struct shape *s, const struct area *w, int64_t item, const float *p, char *dst, const struct keys *each,
                  const struct span *c)
{
    __m512 by = _mm512_set1_ps(s->s.scale * LOG2E);
    for (int i = 0; i < 16; i++, p += c->to - c->from, dst += 64) {
        __m512 max = _mm512_set1_ps(w->max[item + i]), sum = _mm512_load_ps(w->sum + (item + i) * 16);
        sum = weights_of(false, p, each[i], c->from, c->all.lo, by, max, dst, sum);
        sum = weights_of(true, p, each[i], c->all.lo, c->all.hi, by, max, dst, sum);
        sum = weights_of(false, p, each[i], c->all.hi, c->to, by, max, dst, sum);
        _mm512_store_ps(w->sum + (item + i) * 16, sum);
    }
}

/* o[32][d] += p[32][c0 .. c1) v */
static void add_values(const struct shape *s, const struct area *w, int64_t g, bool fresh, int64_t c0, int64_t c1)
{
    int64_t ld = 32 * s->steps * 4, row = 2 * s->steps * TILE_BYTES;         /* row: 32 values */
    const char *p = w->p + c0 / 32 * TILE_BYTES, *v = w->v + c0 / 32 * row;
    for (int64_t c = 0; c < s->steps; c++, v += 2 * TILE_BYTES) {
        char *o = (char *)(w->o + g * 32 * 32 * s->steps + c * 32);
        if (fresh) tiles_zero();
        else tiles_load(o, 64, 16 * ld, ld);
        tiles_product(p, p + BLOCK / 32 * TILE_BYTES, TILE_BYTES, v, v + TILE_BYTES, row, (c1 - c0) / 32);
        tiles_store(o, 64, 16 * ld, ld);
    }
}

/* Group g against the keys of the block at b. */
static void attend_group(const struct shape *s, const struct area *w, int64_t g, int64_t b)
{
    struct group *group = &w->group[g];
    struct keys any = in_block(group->any, b, BLOCK), all = in_block(group->all, b, BLOCK);
    if (no_keys(any)) return;
    struct span c = {.from = any.lo / 32 * 32, .to = up32(any.hi)};
    c.all.lo = (int32_t)least(most(up32(all.lo), c.from), c.to);
    c.all.hi = (int32_t)most(all.hi / 32 * 32, c.all.lo);
    score(s, w, g, c.from, c.to);
    fence();
    for (int64_t h = 0; h < 2; h++) {
        struct keys each[16];
        int64_t item = 32 * g + 16 * h;
        const float *p = w->s + h * 16 * (c.to - c.from) - c.from;
        for (int i = 0; i < 16; i++) each[i] = in_block(w->keys[item + i], b, BLOCK);
        find_tops(s, w, item, group->fresh, p, each, &c);
        weigh(s, w, item, p, w->p + h * BLOCK / 32 * TILE_BYTES, each, &c);
    }
    fence();
    add_values(s, w, g, group->fresh, c.from, c.to);
    fence();
    group->fresh = false;
}

/* Items i .. i + 15: their log-sum-exp goes to lse, the return value is what outputs are scaled by. */
static __m512 end_sums(const struct area *w, int64_t i, float *lse)
{
    __m512 part[16], top = _mm512_load_ps(w->max + i);
    for (int r = 0; r < 16; r++) part[r] = _mm512_load_ps(w->sum + (i + r) * 16);
    __m512 sum = fold(true, part);
    __mmask16 any = _mm512_cmp_ps_mask(top, _mm512_set1_ps(-INFINITY), _CMP_NEQ_OQ);
    top = _mm512_fmadd_ps(top, _mm512_set1_ps(LN2), log_of(sum));
    _mm512_store_ps(lse, _mm512_mask_blend_ps(any, _mm512_set1_ps(-INFINITY), top));
    return _mm512_maskz_div_ps(any, _mm512_set1_ps(1), sum);
}

static void end_tile(const struct dan_args *a, const struct shape *s, const struct tile *t, const struct area *w)
{
    _Alignas(64) float by[16], lse[16];
    char *to = a->out[1].data;
    for (int64_t i = 0; i < t->n; i++) {
        struct item x = w->item[i];
        if (i % 16 == 0) _mm512_store_ps(by, end_sums(w, i, lse));
        const float *from = w->o + i * 32 * s->steps;
        char *o = item_at(&a->out[0], &s->s, x);
        __m512 scale = _mm512_set1_ps(by[i % 16]);
        __mmask16 any = by[i % 16] ? 0xffff : 0;       /* outputs of who sees nothing were never written */
        for (int64_t c = 0; c < s->s.d; c += 32)
            store_as(s->bf16, o, c, _mm512_maskz_mul_ps(any, scale, _mm512_load_ps(from + c)),
                     _mm512_maskz_mul_ps(any, scale, _mm512_load_ps(from + c + 16)), s->s.d - c);
        ((float *)(to + x.row * a->out[1].stride[0]))[x.head] = lse[i % 16];
    }
}

static void attend_tile(const struct dan_args *a, const struct shape *s, const struct tile *t, const struct area *w)
{
    struct keys seen = find_keys(a, s, t, w);
    begin_tile(a, s, t, w);
    for (int64_t b = seen.lo / BLOCK * BLOCK; b < seen.hi; b += BLOCK) {
        struct keys k = in_block(seen, b, BLOCK);
        if (no_keys(k)) continue;
        pack_block(a, s, t, w, k, b);
        fence();
        for (int64_t g = 0; g < up32(t->n) / 32; g++) attend_group(s, w, g, b);
    }
    end_tile(a, s, t, w);
}

/* Tiles from the last to the first: with causal masks the last are the longest, and the short ones fill the gaps.
 * Rows [at, end) have one base; `item` items of them are left. */
struct walk { int64_t at, item; };

static bool next_tile(const struct dan_args *a, const struct shape *s, struct walk *w, struct tile *t)
{
    if (w->item == 0) {
        int64_t end = w->at;
        if (end == 0) return false;
        do w->at--;
        while (w->at > 0 && *range_of(a, w->at - 1) == *range_of(a, end - 1));
        w->item = (end - w->at) * s->s.group;
    }
    t->n = w->item % s->rows ? w->item % s->rows : s->rows;
    w->item -= t->n;
    t->row = w->at;
    t->first = w->item;
    t->base = *range_of(a, w->at);
    return true;
}

static struct shape shape_of(const struct dan_args *a)
{
    struct shape s = {.s = sizes_of(a), .bf16 = a->out[0].dtype == &dan_dtype_bf16};
    s.steps = up32(s.s.d) / 32;
    s.rows = ROWS;
    while (a->nth > 1 && s.rows > 64 && s.s.rows * s.s.heads < 4 * a->nth * s.rows) s.rows /= 2;       /* enough for all threads */
    return s;
}

static bool accepts(const struct dan_args *a)
{
    bool stored = all_stored(a->in, 3, &dan_dtype_bf16) && a->out[1].dtype == &dan_dtype_f32;
    return stored && a->in[1].shape.n == 2 && a->attr[DAN_ATTEND_SCALE].f > 0 && !(a->attr[DAN_ATTEND_CAP].f > 0);
}

static size_t workspace(const struct dan_args *a, int nth)
{
    struct shape s = shape_of(a);
    return 64 + (size_t)nth * area_bytes(&s);
}

static void run(const struct dan_args *a)
{
    struct shape s = shape_of(a);
    int64_t *next = a->ws, turn = 0;
    struct area w = area_at(&s, (char *)a->ws + 64 + area_bytes(&s) * (size_t)a->ith);
    if (a->ith == 0) *next = 0;
    dan_args_barrier(a);
    tiles_begin();
    struct walk walk = {.at = s.s.rows};
    struct tile t;
    int64_t mine = take(next);
    while (next_tile(a, &s, &walk, &t))
        for (t.head = 0; t.head < s.s.kv; t.head++)
            if (turn++ == mine) {
                attend_tile(a, &s, &t, &w);
                mine = take(next);
            }
    _tile_release();
}

const struct dan_kernel dan_kernel_attend_bf16_amx = {
    .op = "attend", .isa = "avx512", .name = "attend_bf16_amx",
    .needs = DAN_CPU_AVX512 | DAN_CPU_AVX512_BF16 | DAN_CPU_AMX_BF16, .rank = 50,
    .accepts = accepts, .workspace = workspace, .run = run, .half = true, .rtol = 2e-3f,
};
