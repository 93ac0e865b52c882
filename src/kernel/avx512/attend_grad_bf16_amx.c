/* attend_grad for q, k, v, o and do stored as bf16, on AMX tiles: one pass over pairs of a block of keys and a block of
 * items (Dao et al. 2022, FlashAttention, algorithm 4), five products a pair, probabilities recomputed from lse.  Sums are
 * f32; p and ds are rounded to bf16 for their products.
 *
 * Scores are kept as [keys][items], so that lse and delta of 16 items are one vector:
 *   s' = k q', dp' = v do' - delta  ->  p', ds'  ->  dv += p' do, dk += ds' q, dq' += k' ds'
 * p' and ds' are left factors as they are; pairs of rows of ds' make the right factor of dq', with items in the order
 * that unpacking gives (item_of).
 * q and do are packed twice for the whole unit, contraction over the head dim and over items; k, v and k' for a block. */
#include <math.h>
#include "kernel/simd/attend_amx.h"
#include "kernel/simd/attend_units.h"

enum { Q, K, V, RANGE, O, LSE, DO };
enum { DQ, DK, DV };
enum { KEYS = 64, ITEMS = 128 };                       /* of a block; a tile: 32 of them */

/* A tile of items: some see `any`, all see `all`. */
struct group { struct keys any, all; };

/* One thread's: k, v [KEYS/16][steps], kt [KEYS/32][2 steps]; p, ds [KEYS/16][ITEMS/32], dst [KEYS/32][ITEMS/32][2];
 * dk, dv [KEYS/16][2 steps], all tiles of 1 KiB; s, dp: 32 x 32 floats. */
struct area { char *k, *v, *kt, *p, *ds, *dst, *dk, *dv; float *s, *dp; };

/* A unit's, a thread's own or shared: q, d_o [items/16][steps] and qi, d_oi [items/32][2 steps] tiles; dq [items/32][2 steps][2]. */
struct slot {
    char *q, *d_o, *qi, *d_oi, *dq;
    float *lse, *delta;
    int32_t *lo, *hi, *done;                           /* done: by block of items; the block of keys that adds to dq next */
    struct item *item;
    struct keys *keys;
    struct group *group;
};

struct grad { struct sizes s; int64_t steps, cap; struct units *units; struct area w; struct slot own, common; };

/* Items 0 .. n of a unit, rows from `first` on, and n_keys keys from `key` on, of `last`, counted from row `origin`. */
struct block { int64_t origin, first, n, head, last, key, n_keys; };

static size_t area_bytes(int64_t steps)
{
    int64_t tiles = 2 * KEYS / 16 * steps + 2 * KEYS / 32 * steps + 3 * KEYS / 16 * (ITEMS / 32) + 4 * KEYS / 16 * steps + 8;
    return (size_t)tiles * TILE_BYTES;
}

static struct area area_at(int64_t steps, char *ws)
{
    struct area w = {.k = ws};
    w.v = w.k + KEYS / 16 * steps * TILE_BYTES;
    w.kt = w.v + KEYS / 16 * steps * TILE_BYTES;
    w.p = w.kt + 2 * KEYS / 32 * steps * TILE_BYTES;
    w.ds = w.p + KEYS / 16 * ITEMS / 32 * TILE_BYTES;
    w.dst = w.ds + KEYS / 16 * ITEMS / 32 * TILE_BYTES;
    w.dk = w.dst + KEYS / 16 * ITEMS / 32 * TILE_BYTES;
    w.dv = w.dk + 2 * KEYS / 16 * steps * TILE_BYTES;
    w.s = (float *)(w.dv + 2 * KEYS / 16 * steps * TILE_BYTES);
    w.dp = w.s + 32 * 32;
    return w;
}

static size_t slot_bytes(int64_t steps, int64_t cap)
{
    return (size_t)(cap / 32) * ((size_t)(12 * steps) * TILE_BYTES + 9 * 32 * 4 + 64);
}

/* cap: items, a multiple of ITEMS */
static struct slot slot_at(int64_t steps, int64_t cap, char *ws)
{
    int64_t tile = 2 * (cap / 32) * steps * TILE_BYTES;
    struct slot u = {.q = ws, .d_o = ws + tile, .qi = ws + 2 * tile, .d_oi = ws + 3 * tile, .dq = ws + 4 * tile};
    u.lse = (float *)(u.dq + 2 * tile);
    u.delta = u.lse + cap;
    u.lo = (int32_t *)(u.delta + cap);
    u.hi = u.lo + cap;
    u.done = u.hi + cap;
    u.item = (struct item *)(u.done + cap);
    u.keys = (struct keys *)(u.item + cap);
    u.group = (struct group *)(u.keys + cap);
    return u;
}

/* ---- a unit's items ----------------------------------------------------------------------------------------- */

INLINE __m512 dot(const uint16_t *x, const uint16_t *y, int64_t d)
{
    __m512 sum = _mm512_setzero_ps();
    for (int64_t c = 0; x && c < d; c += 32) sum = _mm512_dpbf16_ps(sum, (__m512bh)line(x, c, d), (__m512bh)line(y, c, d));
    return sum;
}

/* Rows of 16 items from i of a tensor. */
INLINE void point_at(struct lines *l, const struct dan_tensor *x, const struct grad *g, const struct slot *u, const struct block *b,
                     int64_t i)
{
    for (int64_t r = 0; r < 16; r++) l->at[r] = i + r < b->n ? (const uint16_t *)item_at(x, &g->s, u->item[i + r]) : NULL;
}

/* Keys, lse in base 2 and -delta of 16 items from i; an item that sees nothing gets weights of 2^-inf. */
static void load_items(const struct dan_args *a, const struct grad *g, const struct slot *u, const struct block *b, int64_t i,
                       const struct lines *d_o)
{
    struct lines o;
    __m512 delta[16];
    const char *lse = a->in[LSE].data;
    point_at(&o, &a->in[O], g, u, b, i);
    for (int r = 0; r < 16; r++) delta[r] = dot(o.at[r], d_o->at[r], g->s.d);
    _mm512_store_ps(u->delta + i, _mm512_sub_ps(_mm512_setzero_ps(), fold(true, delta)));
    for (int64_t j = i; j < i + 16; j++) {
        bool is = j < b->n;                            /* no other item in its place: that may be another thread's */
        struct keys k = is ? keys_of(a, u->item[j].row, b->origin) : (struct keys){0, 0};
        u->keys[j] = k;
        u->lo[j] = k.lo;
        u->hi[j] = k.hi;
        u->lse[j] = no_keys(k) ? INFINITY : ((const float *)(lse + u->item[j].row * a->in[LSE].stride[0]))[u->item[j].head] * LOG2E;
    }
}

static void load_tile(const struct dan_args *a, const struct grad *g, const struct slot *u, const struct block *b, int64_t t)
{
    struct lines q[2], d_o[2];
    int64_t tile = g->steps * TILE_BYTES;
    for (int h = 0; h < 2; h++) {
        point_at(&q[h], &a->in[Q], g, u, b, 32 * t + 16 * h);
        point_at(&d_o[h], &a->in[DO], g, u, b, 32 * t + 16 * h);
        load_items(a, g, u, b, 32 * t + 16 * h, &d_o[h]);
        pack_right(u->q + (2 * t + h) * tile, TILE_BYTES, &q[h], g->s.d);
        pack_right(u->d_o + (2 * t + h) * tile, TILE_BYTES, &d_o[h], g->s.d);
    }
    pack_right_rows(u->qi + 2 * t * tile, TILE_BYTES, q, g->s.d);
    pack_right_rows(u->d_oi + 2 * t * tile, TILE_BYTES, d_o, g->s.d);
    u->group[t] = (struct group){all_of(u->keys + 32 * t, 32, true), all_of(u->keys + 32 * t, 32, false)};
}

/* Keys that some item of tiles [t, t + n) sees. */
static struct keys seen_by(const struct slot *u, int64_t t, int64_t n)
{
    struct keys k = {0, 0};
    for (int64_t i = t; i < t + n; i++) k = join(k, u->group[i].any);
    return k;
}

static void zero_item(const struct dan_args *a, const struct grad *g, struct item x)
{
    memset(item_at(&a->out[DQ], &g->s, x), 0, (size_t)g->s.d * a->out[DQ].dtype->bytes);
}

/* Blocks [from, to) of ITEMS items. */
static void load_unit(const struct dan_args *a, const struct grad *g, const struct slot *u, const struct block *b, int64_t from, int64_t to)
{
    list_items(u->item + from * ITEMS, least(to * ITEMS, b->n) - from * ITEMS, &g->s, b->first, b->head, from * ITEMS);
    for (int64_t m = from; m < to; m++) {
        for (int64_t t = m * ITEMS / 32; t < (m + 1) * ITEMS / 32; t++) {
            if (32 * t < b->n) load_tile(a, g, u, b, t);
            else u->group[t] = (struct group){{0, 0}, {0, 0}};
        }
        struct keys k = seen_by(u, m * ITEMS / 32, ITEMS / 32);
        u->done[m] = k.lo / KEYS;                      /* the first block that adds to dq */
        for (int64_t i = m * ITEMS; no_keys(k) && i < least((m + 1) * ITEMS, b->n); i++) zero_item(a, g, u->item[i]);
    }
}

/* ---- a block of keys ------------------------------------------------------------------------------------------ */

static void load_keys(const struct dan_args *a, const struct grad *g, const struct block *b)
{
    int64_t tile = g->steps * TILE_BYTES;
    for (int64_t c = 0; c < b->n_keys; c += 32) {
        struct lines k[2], v[2];
        for (int64_t i = 0; i < 32; i++) {
            int64_t row = b->origin + b->key + c + i, col = b->head * g->s.d;
            bool is = c + i < b->n_keys;
            k[i / 16].at[i % 16] = is ? (const uint16_t *)dan_row(&a->in[K], row) + col : NULL;
            v[i / 16].at[i % 16] = is ? (const uint16_t *)dan_row(&a->in[V], row) + col : NULL;
        }
        for (int h = 0; h < 2; h++) {
            pack_left(g->w.k + (c / 16 + h) * tile, TILE_BYTES, &k[h], g->s.d);
            pack_left(g->w.v + (c / 16 + h) * tile, TILE_BYTES, &v[h], g->s.d);
        }
        pack_left_rows(g->w.kt + c / 16 * tile, TILE_BYTES, k, g->s.d);
    }
}

/* s = k q' and dp = v do' - delta of 32 keys from c and the items of tile t. */
static void score(const struct grad *g, const struct slot *u, int64_t c, int64_t t)
{
    int64_t tile = g->steps * TILE_BYTES;
    const char *k = g->w.k + c / 16 * tile, *v = g->w.v + c / 16 * tile, *q = u->q + 2 * t * tile, *d_o = u->d_o + 2 * t * tile;
    tiles_zero();
    tiles_product(k, k + tile, TILE_BYTES, q, q + tile, TILE_BYTES, g->steps);
    tiles_store((char *)g->w.s, 64, 16 * 128, 128);
    tiles_load((const char *)(u->delta + 32 * t), 64, 0, 0);            /* every key's row starts from the same */
    tiles_product(v, v + tile, TILE_BYTES, d_o, d_o + tile, TILE_BYTES, g->steps);
    tiles_store((char *)g->w.dp, 64, 16 * 128, 128);
}

struct row { __m512i p, ds; };

/* Key `key` of the unit against 32 items, rows s and dp of scores. */
INLINE struct row weigh_row(bool all, const float *s, const float *dp, __m512 by, const __m512 lse[2], const __m512i lo[2],
                            const __m512i hi[2], int64_t key)
{
    __m512 p[2], ds[2];
    for (int h = 0; h < 2; h++) {
        p[h] = exp2_of(_mm512_fmsub_ps(_mm512_load_ps(s + 16 * h), by, lse[h]));
        if (!all) {
            __m512i j = _mm512_set1_epi32((int)key);
            p[h] = _mm512_maskz_mov_ps(_mm512_mask_cmpgt_epi32_mask(_mm512_cmple_epi32_mask(lo[h], j), hi[h], j), p[h]);
        }
        ds[h] = _mm512_mul_ps(p[h], _mm512_load_ps(dp + 16 * h));
    }
    return (struct row){to_bf16(p[0], p[1]), to_bf16(ds[0], ds[1])};
}

/* p and ds of 32 keys from c of the block and tile t, which is tile i of its block of items. */
INLINE void weigh(bool all, const struct grad *g, const struct slot *u, const struct block *b, int64_t c, int64_t t, int64_t i)
{
    __m512 by = _mm512_set1_ps(g->s.scale * LOG2E), lse[2];
    __m512i lo[2], hi[2];
    for (int h = 0; h < 2; h++) {
        lse[h] = _mm512_load_ps(u->lse + 32 * t + 16 * h);
        lo[h] = _mm512_load_si512(u->lo + 32 * t + 16 * h);
        hi[h] = _mm512_load_si512(u->hi + 32 * t + 16 * h);
    }
    char *dst = g->w.dst + (c / 16 * (ITEMS / 32) + 2 * i) * TILE_BYTES;
    for (int64_t r = 0; r < 32; r += 2) {
        int64_t at = ((c + r) / 16 * (ITEMS / 32) + i) * TILE_BYTES + r % 16 * 64, key = b->key + c + r;
        struct row x = weigh_row(all, g->w.s + r * 32, g->w.dp + r * 32, by, lse, lo, hi, key);
        struct row y = weigh_row(all, g->w.s + r * 32 + 32, g->w.dp + r * 32 + 32, by, lse, lo, hi, key + 1);
        _mm512_store_si512(g->w.p + at, x.p);
        _mm512_store_si512(g->w.p + at + 64, y.p);
        _mm512_store_si512(g->w.ds + at, x.ds);
        _mm512_store_si512(g->w.ds + at + 64, y.ds);
        _mm512_store_si512(dst + r / 2 * 64, _mm512_unpacklo_epi16(x.ds, y.ds));
        _mm512_store_si512(dst + TILE_BYTES + r / 2 * 64, _mm512_unpackhi_epi16(x.ds, y.ds));
    }
}

/* sum[32 keys from c][d] += left[32 keys][items] right[items][d] over tiles t + i with live[i]; fresh: the sum is new. */
static void add_keys(const struct grad *g, char *sum, const char *left, const char *right, int64_t c, int64_t t, unsigned live, bool fresh)
{
    int64_t row = 2 * g->steps * TILE_BYTES;
    left += c / 16 * (ITEMS / 32) * TILE_BYTES;
    right += t * row;
    sum += c / 16 * row;
    for (int64_t j = 0; j < g->steps; j++, sum += 2 * TILE_BYTES, right += 2 * TILE_BYTES) {
        if (fresh) tiles_zero();
        else tiles_load(sum, TILE_BYTES, row, 64);
        for (int64_t i = 0; i < ITEMS / 32; i++) {
            const char *x = left + i * TILE_BYTES, *y = right + i * row;
            if (live >> i & 1) tiles_product(x, x + ITEMS / 32 * TILE_BYTES, 0, y, y + TILE_BYTES, 0, 1);
        }
        tiles_store(sum, TILE_BYTES, row, 64);
    }
}

/* dq'[d][items of tile t] += k' ds' over the tiles of keys in `live` */
static void add_items(const struct grad *g, const struct slot *u, int64_t t, int64_t i, unsigned live, bool fresh)
{
    char *dq = u->dq + 4 * t * g->steps * TILE_BYTES;
    for (int64_t j = 0; j < g->steps; j++, dq += 4 * TILE_BYTES) {
        if (fresh) tiles_zero();
        else tiles_load(dq, TILE_BYTES, 2 * TILE_BYTES, 64);
        for (int64_t c = 0; c < KEYS / 32; c++) {
            const char *k = g->w.kt + 2 * (c * g->steps + j) * TILE_BYTES, *ds = g->w.dst + 2 * (c * (ITEMS / 32) + i) * TILE_BYTES;
            if (live >> c & 1) tiles_product(k, k + TILE_BYTES, 0, ds, ds + TILE_BYTES, 0, 1);
        }
        tiles_store(dq, TILE_BYTES, 2 * TILE_BYTES, 64);
    }
}

/* Which item of its tile column n of half h of dq' is. */
static inline int64_t item_of(int64_t n, int64_t h) { return n / 4 * 8 + n % 4 + 4 * h; }

/* dq of tile t is complete. */
static void write_items(const struct dan_args *a, const struct grad *g, const struct slot *u, const struct block *b, int64_t t)
{
    const char *dq = u->dq + 4 * t * g->steps * TILE_BYTES;
    __m512 scale = _mm512_set1_ps(g->s.scale);
    bool bf16 = a->out[DQ].dtype == &dan_dtype_bf16;
    for (int64_t j = 0; j < g->steps; j++)
        for (int64_t h = 0; h < 2; h++) {
            __m512i x[16], y[16];
            for (int i = 0; i < 16; i++) {
                x[i] = _mm512_load_si512(dq + (4 * j + h) * TILE_BYTES + i * 64);
                y[i] = _mm512_load_si512(dq + (4 * j + 2 + h) * TILE_BYTES + i * 64);
            }
            transpose16(x);
            transpose16(y);
            for (int i = 0; i < 16; i++) {
                int64_t item = 32 * t + item_of(i, h);
                if (item >= b->n) continue;
                __m512 lo = _mm512_mul_ps(scale, _mm512_castsi512_ps(x[i])), hi = _mm512_mul_ps(scale, _mm512_castsi512_ps(y[i]));
                store_as(bf16, item_at(&a->out[DQ], &g->s, u->item[item]), 32 * j, lo, hi, g->s.d - 32 * j);
            }
        }
}

/* Block m of items against the block of keys. */
static void grad_items(const struct dan_args *a, const struct grad *g, const struct slot *u, const struct block *b, int64_t m,
                       unsigned *fresh, bool shared)
{
    int64_t t0 = m * ITEMS / 32, at = b->key / KEYS;
    struct keys seen = seen_by(u, t0, ITEMS / 32);
    unsigned by_key[KEYS / 32] = {0}, by_item[ITEMS / 32] = {0};
    if (no_keys(in_block(seen, b->key, KEYS))) return;
    for (int64_t i = 0; i < ITEMS / 32; i++)
        for (int64_t c = 0; c < KEYS; c += 32) {
            struct group x = u->group[t0 + i];
            if (no_keys(in_block(x.any, b->key + c, 32))) continue;
            by_key[c / 32] |= 1u << i;
            by_item[i] |= 1u << c / 32;
            score(g, u, c, t0 + i);
            fence();
            if (x.all.lo <= b->key + c && x.all.hi >= b->key + c + 32) weigh(true, g, u, b, c, t0 + i, i);
            else weigh(false, g, u, b, c, t0 + i, i);
            fence();
        }
    for (int64_t c = 0; c < KEYS / 32; c++) {
        if (!by_key[c]) continue;
        add_keys(g, g->w.dv, g->w.p, u->d_oi, 32 * c, t0, by_key[c], *fresh >> c & 1);
        add_keys(g, g->w.dk, g->w.ds, u->qi, 32 * c, t0, by_key[c], *fresh >> c & 1);
        *fresh &= ~(1u << c);
    }
    if (shared) dan_wait_for(&u->done[m], (int32_t)at);
    for (int64_t i = 0; i < ITEMS / 32; i++)
        if (by_item[i]) add_items(g, u, t0 + i, i, by_item[i], u->group[t0 + i].any.lo / KEYS == at);
    fence();
    if ((seen.hi - 1) / KEYS > at) {
        __atomic_store_n(&u->done[m], (int32_t)at + 1, __ATOMIC_RELEASE);
        return;
    }
    for (int64_t i = 0; i < ITEMS / 32; i++) {
        if (!no_keys(u->group[t0 + i].any)) write_items(a, g, u, b, t0 + i);
        else for (int64_t j = 0; j < 32 && 32 * (t0 + i) + j < b->n; j++) zero_item(a, g, u->item[32 * (t0 + i) + j]);
    }
}

/* Sums of keys to rows of dk or dv; fresh tiles have none. */
static void write_keys(const struct dan_tensor *y, const struct grad *g, const struct block *b, const char *sum, float by, unsigned fresh)
{
    bool bf16 = y->dtype == &dan_dtype_bf16;
    for (int64_t r = 0; r < b->n_keys; r++) {
        const char *from = sum + r / 16 * 2 * g->steps * TILE_BYTES + r % 16 * 64;
        char *row = (char *)dan_row(y, b->origin + b->key + r) + b->head * g->s.d * y->dtype->bytes;
        __m512 scale = _mm512_set1_ps(by);
        for (int64_t j = 0; j < g->steps; j++, from += 2 * TILE_BYTES) {
            bool none = fresh >> r / 32 & 1;
            __m512 lo = none ? _mm512_setzero_ps() : _mm512_mul_ps(scale, _mm512_load_ps(from));
            __m512 hi = none ? _mm512_setzero_ps() : _mm512_mul_ps(scale, _mm512_load_ps(from + TILE_BYTES));
            store_as(bf16, row, 32 * j, lo, hi, g->s.d - 32 * j);
        }
    }
}

static void grad_block(const struct dan_args *a, const struct grad *g, const struct slot *u, struct block *b, bool shared)
{
    unsigned fresh = ~0u;
    load_keys(a, g, b);
    fence();
    for (int64_t m = 0; m * ITEMS < b->n; m++) grad_items(a, g, u, b, m, &fresh, shared);
    write_keys(&a->out[DK], g, b, g->w.dk, g->s.scale, fresh);
    write_keys(&a->out[DV], g, b, g->w.dv, 1, fresh);
}

static void grad_unit(const struct dan_args *a, const struct grad *g, int64_t i, int64_t head, bool shared)
{
    const struct unit *x = &g->units->at[i];
    struct block b = {.origin = x->lo, .first = x->first, .n = (x[1].first - x->first) * g->s.group, .head = head, .last = x->hi - x->lo};
    const struct slot *u = shared ? &g->common : &g->own;
    int64_t from = 0, to = (b.n + ITEMS - 1) / ITEMS, turn = 0;
    if (shared) {
        dan_args_barrier(a);                           /* the last unit in the slot is done */
        dan_share(a, to, 1, &from, &to);
    }
    load_unit(a, g, u, &b, from, to);
    if (shared) dan_args_barrier(a);
    fence();
    for (b.key = 0; b.key < b.last; b.key += KEYS, turn++) {
        b.n_keys = least(KEYS, b.last - b.key);
        if (!shared || turn % a->nth == a->ith) grad_block(a, g, u, &b, shared);
    }
}

static bool accepts(const struct dan_args *a)
{
    if (a->in[LSE].dtype != &dan_dtype_f32 || a->attr[DAN_ATTEND_CAP].f > 0) return false;
    return all_stored(a->in, 3, &dan_dtype_bf16) && a->in[O].dtype == &dan_dtype_bf16 && a->in[DO].dtype == &dan_dtype_bf16;
}

static int64_t cap_of(const struct sizes *s) { return (s->rows * s->group + ITEMS - 1) / ITEMS * ITEMS; }

/* Shared units live in thread 0's slot: units of single threads come after them. */
static size_t workspace(const struct dan_args *a, int nth)
{
    struct sizes s = sizes_of(a);
    int64_t steps = up32(s.d) / 32;
    return units_bytes(&s) + (size_t)nth * (area_bytes(steps) + slot_bytes(steps, cap_of(&s)));
}

static void run(const struct dan_args *a)
{
    struct grad g = {.s = sizes_of(a), .units = a->ws};
    g.steps = up32(g.s.d) / 32;
    g.cap = cap_of(&g.s);
    size_t own = area_bytes(g.steps) + slot_bytes(g.steps, g.cap);
    char *ws = (char *)a->ws + units_bytes(&g.s);
    g.w = area_at(g.steps, ws + own * (size_t)a->ith);
    g.own = slot_at(g.steps, g.cap, ws + own * (size_t)a->ith + area_bytes(g.steps));
    g.common = slot_at(g.steps, g.cap, ws + area_bytes(g.steps));
    if (a->ith == 0) find_units(a, &g.s, g.units);
    dan_args_barrier(a);
    tiles_begin();
    grad_units(a, &g, &g.s, g.units, KEYS);
    _tile_release();
}

const struct dan_kernel dan_kernel_attend_grad_bf16_amx = {
    .op = "attend_grad", .isa = "avx512", .name = "attend_grad_bf16_amx",
    .needs = DAN_CPU_AVX512 | DAN_CPU_AVX512_BF16 | DAN_CPU_AMX_BF16, .rank = 50,
    .accepts = accepts, .workspace = workspace, .run = run, .half = true, .rtol = 4e-3f,
};
