/* attend without the matrix of scores (Dao et al. 2022, FlashAttention): a tile of items walks its blocks of
 * keys with a maximum that follows and a sum.  Per 64 keys: K transposed and V copied once for up to TILE items, then
 * two small products and one exponential per score.  Include block_ISA.h before.
 *
 * An item is one query row of one head; the G = H/K heads that read the same kv head are neighbours: item i
 * of kv head h is row i / G, head h G + i % G.  A tile is up to TILE items of one run of rows with equal
 * base.  The bits of an item's result depend on its own row and keys only, so prefill and decode agree:
 * every sum runs over keys (or head dim) in order, and keys that only other items of the tile see add an
 * exact zero. */
enum { TILE = 256, BLOCK = 64 };
#include "kernel/simd/attend_tile.h"

enum { SLACK = 8 };
struct tile { int64_t head, first, n, base; };         /* items first .. first + n of kv head `head` */

/* Rows [at, stop) have one base; `item` is the next item to hand out, `end` where rows end. */
struct walk { int64_t at, stop, end, item; };

/* The next tile, for any kv head; false when there is none. */
static bool next_tile(const struct dan_args *a, const struct sizes *s, int64_t most_items, struct walk *w, struct tile *t)
{
    if (w->item >= w->stop * s->group) {
        w->at = w->stop;
        if (w->at >= w->end) return false;
        w->stop = run_end(a, w->at, w->end);
        w->item = w->at * s->group;
    }
    t->first = w->item;
    t->n = least(most_items, w->stop * s->group - w->item);
    t->base = *(const int32_t *)dan_row(&a->in[3], w->at);
    w->item += t->n;
    return true;
}

static struct keys tile_keys(const struct dan_args *a, const struct sizes *s, const struct tile *t, struct keys *each)
{
    struct keys all = {0, 0};
    for (int64_t i = 0; i < t->n; i++) {
        const int32_t *range = dan_row(&a->in[3], (t->first + i) / s->group);
        struct keys k = {range[1] - range[0], range[2] - range[0]};
        each[i] = k.lo < k.hi ? k : (struct keys){0, 0};
        all = join(all, each[i]);
    }
    return all;
}

static inline float *row_item_at(const struct dan_tensor *x, const struct sizes *s, const struct tile *t, int64_t i)
{
    int64_t item = t->first + i;
    return (float *)dan_row(x, item / s->group) + (t->head * s->group + item % s->group) * s->d;
}

static inline const float *key_at(const struct dan_tensor *x, const struct sizes *s, const struct tile *t, int64_t key)
{
    return (const float *)dan_row(x, t->base + key) + t->head * s->d;
}

struct area { float *q, *kt, *v, *p, *o, *sum, *max; struct keys *keys; };

static size_t area_floats(const struct sizes *s)
{
    return (size_t)(2 * TILE * s->dp + BLOCK * s->d + BLOCK * s->dp + TILE * BLOCK + TILE * VF + TILE + 2 * TILE + 15) / 16 * 16;
}

static struct area area_at(const struct sizes *s, float *ws)
{
    struct area w = {.q = ws};
    w.o = w.q + TILE * s->dp;
    w.v = w.o + TILE * s->dp;
    w.kt = w.v + BLOCK * s->dp;
    w.p = w.kt + BLOCK * s->d;
    w.sum = w.p + TILE * BLOCK;
    w.max = w.sum + TILE * VF;
    w.keys = (struct keys *)(w.max + TILE);
    return w;
}

static void begin_tile(const struct dan_args *a, const struct sizes *s, const struct tile *t, const struct area *w)
{
    vf scale = vf_set(s->scale * LOG2E), zero = vf_set(0);      /* scores in powers of 2 */
    for (int64_t i = 0; i < t->n; i++) {
        const float *q = row_item_at(&a->in[0], s, t, i);
        for (int64_t c = 0; c < s->d; c += VF) {
            vf_store(w->q + i * s->dp + c, vf_mul(scale, vf_load_n(q + c, s->d - c)));
            vf_store(w->o + i * s->dp + c, zero);
        }
        vf_store(w->sum + i * VF, zero);
        w->max[i] = -INFINITY;
    }
}

/* Largest scores of an item in columns [c0, c1), lane by lane.  all: the item sees them all. */
INLINE vf top_scores(bool all, const float *p, struct keys k, int64_t c0, int64_t c1)
{
    vf none = vf_set(-INFINITY), top = none;
    for (int64_t c = c0; c < c1; c += VF) top = vf_max(all ? vf_load(p + c) : vf_keep(vf_load(p + c), k.lo - c, k.hi - c, none), top);
    return top;
}

/* Scores become 2^(score - max), 0 where the item does not see the key; returns their sum on top of `sum`. */
INLINE vf soften(bool all, float *p, struct keys k, int64_t c0, int64_t c1, float max, vf sum)
{
    vf m = vf_set(max), zero = vf_set(0);
    for (int64_t c = c0; c < c1; c += VF) {
        vf x = vf_exp2(vf_sub(vf_load(p + c), m));
        if (!all) x = vf_keep(x, k.lo - c, k.hi - c, zero);
        vf_store(p + c, x);
        sum = vf_add(sum, x);
    }
    return sum;
}

/* An item's new maximum; what was summed under the old one is scaled. */
static void move_top(const struct sizes *s, const struct area *w, int64_t i, float top)
{
    float *o = w->o + i * s->dp, *sum = w->sum + i * VF, old = w->max[i];
    w->max[i] = top;
    if (old == -INFINITY) return;                      /* zeros */
    vf drop = vf_exp2(vf_set(old - top));
    vf_store(sum, vf_mul(drop, vf_load(sum)));
    for (int64_t c = 0; c < s->dp; c += VF) vf_store(o + c, vf_mul(drop, vf_load(o + c)));
}

/* Scores, in powers of 2, in columns [c0, c1): cap tanh(score / cap). */
static void cap_scores(float *p, int64_t c0, int64_t c1, float cap)
{
    vf by = vf_set(cap * LOG2E), inv = vf_set(1 / (cap * LOG2E));
    for (int64_t c = c0; c < c1; c += VF) vf_store(p + c, vf_mul(by, vf_tanh(vf_mul(inv, vf_load(p + c)))));
}

/* Scores p of item i, which sees keys k of the block, become weights in columns [c0, c1); maximum, sum and older outputs are
 * brought up to date.  A maximum moves when a score is 2^SLACK above it: seldom, and what is kept has the same precision. */
static inline void weigh(const struct sizes *s, const struct area *w, float *p, int64_t i, struct keys k, int64_t c0, int64_t c1)
{
    float *sum = w->sum + i * VF;
    bool all = k.lo <= c0 && k.hi >= c1;
    if (no_keys(k)) {
        memset(p + c0, 0, (size_t)(c1 - c0) * sizeof *p);
        return;
    }
    vf top = all ? top_scores(true, p, k, c0, c1) : top_scores(false, p, k, c0, c1);
    if (vf_any_above(top, vf_set(w->max[i] + SLACK))) move_top(s, w, i, vf_top(top));
    vf_store(sum, all ? soften(true, p, k, c0, c1, w->max[i], vf_load(sum)) : soften(false, p, k, c0, c1, w->max[i], vf_load(sum)));
}

/* Items i0 .. i0 + n against the block that starts at key b.  v: key row 0 of the block. */
static void attend_items(const struct sizes *s, const struct area *w, int64_t i0, int64_t n, int64_t b, const float *v, int64_t ldv)
{
    struct keys each[TILE], groups[GROUPS];
    meet(w->keys + i0, n, b, each, groups);
    set_products(n, groups, (struct left){w->q + i0 * s->dp, s->dp, 1}, w->kt, BLOCK, w->p, BLOCK, s->d);
    for (int64_t i = 0; i < n; i++) {
        struct keys k = groups[i / TILE_ROWS];
        if (no_keys(k)) continue;
        if (s->cap > 0) cap_scores(w->p + i * BLOCK, k.lo / VF * VF, pad(k.hi), s->cap);
        weigh(s, w, w->p + i * BLOCK, i0 + i, each[i], k.lo / VF * VF, pad(k.hi));
    }
    add_products(n, groups, (struct left){w->p, BLOCK, 1}, v, ldv, w->o + i0 * s->dp, s->dp, s->d);
}

/* Keys or values [lo, hi) of a tile on their way to the cache: rows of one head lie far apart, which the
 * hardware does not foresee. */
static void fetch_rows(const struct dan_tensor *x, const struct sizes *s, const struct tile *t, int64_t lo, int64_t hi)
{
    for (int64_t r = lo; r < hi; r++) {
        const char *p = (const char *)key_at(x, s, t, r);
        for (int64_t i = 0; i < s->d * 4; i += 64) __builtin_prefetch(p + i);
    }
}

static void attend_block(const struct dan_args *a, const struct sizes *s, const struct tile *t, const struct area *w,
                         struct keys all, int64_t b)
{
    struct keys k = in_block(all, b, BLOCK);
    if (k.lo >= k.hi) return;
    int64_t c0 = k.lo / VF * VF, ldk = a->in[1].stride[0] / 4, ldv = a->in[2].stride[0] / 4;
    pack_transposed(w->kt + c0, key_at(&a->in[1], s, t, b + c0), ldk, k.hi - c0, s->d);
    const float *v = key_at(&a->in[2], s, t, b);
    if (t->n <= 8) {                                   /* decode waits for memory */
        fetch_rows(&a->in[1], s, t, b + BLOCK, least(all.hi, b + 2 * BLOCK));
        fetch_rows(&a->in[2], s, t, b + BLOCK, least(all.hi, b + 2 * BLOCK));
    }
    if (t->n > 8 || s->d % VF) {                       /* several items read it: 64 rows at a power of 2 would share few cache sets */
        pack_rows(w->v + k.lo * s->dp, v + k.lo * ldv, ldv, k.hi - k.lo, s->d);
        v = w->v;
        ldv = s->dp;
    }
    int64_t step = s->d <= 64 ? TILE_ROWS : TILE;      /* keys and values of a block stay in L1, or a panel of them */
    for (int64_t i = 0; i < t->n; i += step) attend_items(s, w, i, least(step, t->n - i), b, v, ldv);
}

static void end_tile(const struct dan_args *a, const struct sizes *s, const struct tile *t, const struct area *w)
{
    for (int64_t i = 0; i < t->n; i++) {
        float sum = vf_sum(vf_load(w->sum + i * VF)), *o = row_item_at(&a->out[0], s, t, i);
        bool any = w->keys[i].lo < w->keys[i].hi;
        vf inv = vf_set(any ? 1 / sum : 0);
        for (int64_t c = 0; c < s->d; c += VF) vf_store_n(o + c, vf_mul(inv, vf_load(w->o + i * s->dp + c)), s->d - c);
        int64_t item = t->first + i;
        float *lse = (float *)dan_row(&a->out[1], item / s->group) + t->head * s->group + item % s->group;
        *lse = any ? w->max[i] * LN2 + logf(sum) : -INFINITY;
    }
}

static void attend_tile(const struct dan_args *a, const struct sizes *s, const struct tile *t, const struct area *w)
{
    struct keys all = tile_keys(a, s, t, w->keys);
    begin_tile(a, s, t, w);
    for (int64_t b = all.lo / BLOCK * BLOCK; b < all.hi; b += BLOCK) attend_block(a, s, t, w, all, b);
    end_tile(a, s, t, w);
}

static bool accepts(const struct dan_args *a) { return all_stored(a->in, a->n_in, &dan_dtype_f32); }

static size_t workspace(const struct dan_args *a, int nth)
{
    struct sizes s = sizes_of(a);
    return (size_t)nth * area_floats(&s) * sizeof(float);
}

/* Tiles go to the threads in turn, kv heads innermost: with causal masks neighbours in this order cost the same. */
static void run(const struct dan_args *a)
{
    struct sizes s = sizes_of(a);
    struct area w = area_at(&s, (float *)a->ws + area_floats(&s) * (size_t)a->ith);
    struct walk walk = {.end = s.rows};
    struct tile t;
    int64_t turn = 0, items = TILE;
    while (a->nth > 1 && items > 64 && s.rows * s.heads < 8 * a->nth * items) items /= 2;              /* enough for all threads */
    while (next_tile(a, &s, items, &walk, &t))
        for (t.head = 0; t.head < s.kv; t.head++, turn++)
            if (turn % a->nth == a->ith) attend_tile(a, &s, &t, &w);
}
