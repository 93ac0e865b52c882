/* attend without the matrix of scores (Dao et al. 2022, FlashAttention): a tile of items walks its blocks of
 * keys with a maximum that follows and a sum.  Per 64 keys: K transposed and V copied once for up to TILE items, then
 * two small products and one exponential per score.  Include block_ISA.h before.
 *
 * An item is one query row of one head; the G = H/K heads that read the same kv head are neighbours: item i
 * of kv head h is row i / G, head h G + i % G.  A tile is up to TILE items of one run of rows with equal
 * base.  Every SPLIT keys, counted from the base, begin a part with a maximum and sums of its own; parts are joined in their order,
 * so several threads may share a long cache.  The bits of an item's result depend on its own row and keys only, so prefill and
 * decode agree: every sum runs over keys (or head dim) in order, and keys that only other items of the tile see add an
 * exact zero. */
enum { TILE = 256, BLOCK = 64, SPLIT = 256 };
#include "kernel/simd/attend_few.h"

/* FEW items wait for memory.  PARTS: floats of parts that threads made for each other. */
enum { SLACK = 8, FEW = 8, PARTS = 1 << 18 };
struct tile { int64_t head, first, n, base; struct source k, v; };     /* items first .. first + n of kv head `head` */

/* Of n items: outputs [n][dp], sums of weights [n][VF], the maximum [n] in powers of 2 (-inf: no key). */
struct part { float *o, *sum, *max; };

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

struct area { float *q, *kt, *v, *p, *scale; struct part now, all; struct keys *keys; };

static size_t area_floats(const struct sizes *s)
{
    size_t items = (size_t)(3 * TILE * s->dp + 2 * TILE * VF + TILE * BLOCK + 4 * TILE);
    return (items + (size_t)(BLOCK * (s->d + 3) + BLOCK * s->dp + 2 * BLOCK) + 15) / 16 * 16;
}

static struct area area_at(const struct sizes *s, float *ws)
{
    struct area w = {.q = ws};
    w.now.o = w.q + TILE * s->dp;
    w.all.o = w.now.o + TILE * s->dp;
    w.v = w.all.o + TILE * s->dp;
    w.kt = w.v + BLOCK * s->dp;
    w.p = w.kt + BLOCK * (s->d + 3);
    w.scale = w.p + TILE * BLOCK;
    w.now.sum = w.scale + 2 * BLOCK;
    w.all.sum = w.now.sum + TILE * VF;
    w.now.max = w.all.sum + TILE * VF;
    w.all.max = w.now.max + TILE;
    w.keys = (struct keys *)(w.all.max + TILE);
    return w;
}

/* Queries, multiplied so that scores come in powers of 2. */
static void begin_tile(const struct dan_args *a, const struct sizes *s, const struct tile *t, const struct area *w)
{
    vf scale = vf_set(s->scale * LOG2E);
    for (int64_t i = 0; i < t->n; i++) {
        const float *q = row_item_at(&a->in[0], s, t, i);
        for (int64_t c = 0; c < s->d; c += VF) vf_store(w->q + i * s->dp + c, vf_mul(scale, vf_load_n(q + c, s->d - c)));
        w->all.max[i] = -INFINITY;
    }
}

static void begin_part(const struct sizes *s, const struct part *x, int64_t n)
{
    vf zero = vf_set(0);
    for (int64_t i = 0; i < n * s->dp; i += VF) vf_store(x->o + i, zero);
    for (int64_t i = 0; i < n; i++) {
        vf_store(x->sum + i * VF, zero);
        x->max[i] = -INFINITY;
    }
}

/* Item i of x also counts item j of y. */
static void join_parts(const struct sizes *s, const struct part *x, int64_t i, const struct part *y, int64_t j)
{
    float *o = x->o + i * s->dp, *sum = x->sum + i * VF, old = x->max[i], new = y->max[j];
    const float *more = y->o + j * s->dp;
    if (new == -INFINITY) return;
    if (old == -INFINITY) {
        memcpy(o, more, (size_t)s->dp * sizeof *o);
        vf_store(sum, vf_load(y->sum + j * VF));
        x->max[i] = new;
        return;
    }
    float top = new > old ? new : old;
    vf f = vf_exp2(vf_set(old - top)), g = vf_exp2(vf_set(new - top));
    vf_store(sum, vf_fma(g, vf_load(y->sum + j * VF), vf_mul(f, vf_load(sum))));
    for (int64_t c = 0; c < s->dp; c += VF) vf_store(o + c, vf_fma(g, vf_load(more + c), vf_mul(f, vf_load(o + c))));
    x->max[i] = top;
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
static void move_top(const struct sizes *s, const struct part *x, int64_t i, float top)
{
    float *o = x->o + i * s->dp, *sum = x->sum + i * VF, old = x->max[i];
    x->max[i] = top;
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
static inline void weigh(const struct sizes *s, const struct part *x, float *p, int64_t i, struct keys k, int64_t c0, int64_t c1)
{
    float *sum = x->sum + i * VF;
    bool all = k.lo <= c0 && k.hi >= c1;
    if (no_keys(k)) {
        memset(p + c0, 0, (size_t)(c1 - c0) * sizeof *p);
        return;
    }
    vf top = all ? top_scores(true, p, k, c0, c1) : top_scores(false, p, k, c0, c1);
    if (vf_any_above(top, vf_set(x->max[i] + SLACK))) move_top(s, x, i, vf_top(top));
    vf_store(sum, all ? soften(true, p, k, c0, c1, x->max[i], vf_load(sum)) : soften(false, p, k, c0, c1, x->max[i], vf_load(sum)));
}

/* Every key's score or weight by the key's scale, where there are scales. */
static inline void scale_keys(float *p, int64_t c0, int64_t c1, const float *scale)
{
    for (int64_t c = c0; c < c1 && scale; c += VF) vf_store(p + c, vf_mul(vf_load(scale + c), vf_load(p + c)));
}

/* The keys from `at` on: values in rows `ld` apart; scales of an i8 cache, else NULL. */
struct block { int64_t at, ld; const float *v, *k_scale, *v_scale; };

/* Scores p of item i become weights, for products with values as the cache has them: levels. */
static inline void finish_item(const struct sizes *s, const struct area *w, float *p, int64_t i, struct keys mine, struct keys k,
                               const struct block *b)
{
    int64_t c0 = k.lo / VF * VF, c1 = pad(k.hi);
    scale_keys(p, c0, c1, b->k_scale);
    if (s->cap > 0) cap_scores(p, c0, c1, s->cap);
    weigh(s, &w->now, p, i, mine, c0, c1);
    scale_keys(p, c0, c1, b->v_scale);
}

/* Items i0 .. i0 + n against the block. */
static void attend_items(const struct sizes *s, const struct area *w, int64_t i0, int64_t n, const struct block *b)
{
    struct keys each[TILE], groups[GROUPS];
    meet(w->keys + i0, n, b->at, each, groups);
    set_products(n, groups, (struct left){w->q + i0 * s->dp, s->dp, 1}, w->kt, BLOCK, w->p, BLOCK, s->d);
    for (int64_t i = 0; i < n; i++)
        if (!no_keys(groups[i / TILE_ROWS])) finish_item(s, w, w->p + i * BLOCK, i0 + i, each[i], groups[i / TILE_ROWS], b);
    add_products(n, groups, (struct left){w->p, BLOCK, 1}, b->v, b->ld, w->now.o + i0 * s->dp, s->dp, s->d);
}

/* How many of the tile's items from i on, 4, 2 or 1, see the same keys: heads of one row. */
static int alike(const struct tile *t, const struct area *w, int64_t i)
{
    int n = 1;
    while (n < FEW_ITEMS && i + n < t->n && w->keys[i + n].lo == w->keys[i].lo && w->keys[i + n].hi == w->keys[i].hi) n++;
    return n == 3 ? 2 : n;
}

/* The same for few items, straight from the cache. */
static void attend_direct(const struct sizes *s, const struct tile *t, const struct area *w, const struct block *b)
{
    for (int64_t i = 0, n; i < t->n; i += n) {
        struct few f = {w->q + i * s->dp, w->p, w->now.o + i * s->dp, s->dp, s->d};
        struct keys k = in_block(w->keys[i], b->at, BLOCK);
        n = alike(t, w, i);
        if (no_keys(k)) continue;
        score_items((int)n, &t->k, t->base + b->at, k, &f);
        for (int64_t m = 0; m < n; m++) finish_item(s, w, w->p + m * BLOCK, i + m, k, k, b);
        add_items((int)n, &t->v, t->base + b->at, k, &f);
    }
}

/* A cache where a block begins with a group is read as it is by FEW items; of i8, whose words cost more to unpack than to keep, by less. */
static bool is_direct(const struct tile *t, int64_t at)
{
    return t->k.cache && at % DAN_KV_GROUP == 0 && t->n <= (t->k.c.per == 4 ? FEW_ITEMS : FEW);
}

static void attend_block(const struct sizes *s, const struct tile *t, const struct area *w, struct keys all, int64_t b)
{
    struct keys k = in_block(all, b, BLOCK);
    int64_t at = t->base + b;
    if (no_keys(k)) return;
    if (t->n <= FEW) {
        fetch(&t->k, at + BLOCK, least(all.hi - b - BLOCK, BLOCK), s->d);
        fetch(&t->v, at + BLOCK, least(all.hi - b - BLOCK, BLOCK), s->d);
    }
    struct block x = {.at = b, .k_scale = load_scales(&t->k, at, k, w->scale), .v_scale = load_scales(&t->v, at, k, w->scale + BLOCK)};
    if (is_direct(t, at)) {
        attend_direct(s, t, w, &x);
        return;
    }
    load_keys(&t->k, at, k, w->kt, s->d);
    x.v = load_values(&t->v, at, k, w->v, s->d, t->n > FEW, &x.ld);    /* 64 rows at a power of 2 would share few cache sets */
    int64_t step = s->d <= 64 ? TILE_ROWS : TILE;      /* keys and values of a block stay in L1, or a panel of them */
    for (int64_t i = 0; i < t->n; i += step) attend_items(s, w, i, least(step, t->n - i), &x);
}

/* The tile's part of number n, into w->now. */
static void attend_part(const struct sizes *s, const struct tile *t, const struct area *w, struct keys all, int64_t n)
{
    int64_t from = most(n * SPLIT, all.lo / BLOCK * BLOCK), to = least((n + 1) * SPLIT, all.hi);
    begin_part(s, &w->now, t->n);
    for (int64_t b = from; b < to; b += BLOCK) attend_block(s, t, w, all, b);
}

/* Item i of x is complete: item `item` of kv head t->head. */
static void end_item(const struct dan_args *a, const struct sizes *s, const struct tile *t, const struct part *x, int64_t i)
{
    bool any = x->max[i] != -INFINITY;
    float sum = vf_sum(vf_load(x->sum + i * VF)), *o = row_item_at(&a->out[0], s, t, i);
    vf inv = vf_set(any ? 1 / sum : 0);
    for (int64_t c = 0; c < s->d; c += VF) vf_store_n(o + c, any ? vf_mul(inv, vf_load(x->o + i * s->dp + c)) : inv, s->d - c);
    int64_t item = t->first + i;
    float *lse = (float *)dan_row(&a->out[1], item / s->group) + t->head * s->group + item % s->group;
    *lse = any ? x->max[i] * LN2 + logf(sum) : -INFINITY;
}

static void set_head(const struct dan_args *a, const struct sizes *s, struct tile *t, int64_t head)
{
    t->head = head;
    t->k = source_of(a, s, 1, head);
    t->v = source_of(a, s, 2, head);
}

static struct keys last_part(struct keys k) { return (struct keys){k.lo / SPLIT, (k.hi + SPLIT - 1) / SPLIT}; }

static void attend_tile(const struct dan_args *a, const struct sizes *s, const struct tile *t, const struct area *w)
{
    struct keys all = tile_keys(a, s, t, w->keys), parts = last_part(all);
    begin_tile(a, s, t, w);
    for (int64_t n = parts.lo; n < parts.hi; n++) {
        attend_part(s, t, w, all, n);
        for (int64_t i = 0; i < t->n; i++) join_parts(s, &w->all, i, &w->now, i);
    }
    for (int64_t i = 0; i < t->n; i++) end_item(a, s, t, &w->all, i);
}

/* Tiles go to the threads in turn, kv heads innermost: with causal masks neighbours in this order cost the same. */
static void attend_whole(const struct dan_args *a, const struct sizes *s, const struct area *w)
{
    struct walk walk = {.end = s->rows};
    struct tile t;
    int64_t turn = 0, items = TILE;
    while (a->nth > 1 && items > 64 && s->rows * s->heads < 8 * a->nth * items) items /= 2;            /* enough for all threads */
    while (next_tile(a, s, items, &walk, &t))
        for (int64_t h = 0; h < s->kv; h++, turn++)
            if (turn % a->nth == a->ith) {
                set_head(a, s, &t, h);
                attend_tile(a, s, &t, w);
            }
}

/* ---- few tiles, long caches: threads take parts, then join them ---------------------------------------------- */

/* Parts of row r and head h: number (r H + h) n. */
static struct part parts_at(const struct dan_args *a, const struct sizes *s, int64_t count)
{
    float *o = (float *)a->ws + (int64_t)area_floats(s) * a->nth;
    return (struct part){o, o + count * s->dp, o + count * (s->dp + VF)};
}

static int64_t part_floats(const struct sizes *s) { return s->dp + VF + 1; }

/* The most parts that a row has. */
static int64_t most_parts(const struct dan_args *a, const struct sizes *s)
{
    int64_t n = 0;
    for (int64_t r = 0; r < s->rows; r++) n = most(n, last_part(keys_of(a, r, range_of(a, r)[0])).hi);
    return n;
}

static void keep_parts(const struct sizes *s, const struct tile *t, const struct part *from, const struct part *to, int64_t each, int64_t n)
{
    for (int64_t i = 0; i < t->n; i++) {
        int64_t item = t->first + i, at = (item / s->group * s->heads + t->head * s->group + item % s->group) * each + n;
        memcpy(to->o + at * s->dp, from->o + i * s->dp, (size_t)s->dp * sizeof(float));
        vf_store(to->sum + at * VF, vf_load(from->sum + i * VF));
        to->max[at] = from->max[i];
    }
}

static void make_parts(const struct dan_args *a, const struct sizes *s, const struct area *w, const struct part *to, int64_t each)
{
    struct walk walk = {.end = s->rows};
    struct tile t;
    int64_t turn = 0;
    while (next_tile(a, s, TILE, &walk, &t)) {
        struct keys all = tile_keys(a, s, &t, w->keys), parts = last_part(all);
        for (int64_t h = 0; h < s->kv; h++) {
            int64_t first = ((a->ith - turn) % a->nth + a->nth) % a->nth;
            turn += parts.hi - parts.lo;
            if (parts.lo + first >= parts.hi) continue;
            set_head(a, s, &t, h);
            begin_tile(a, s, &t, w);
            for (int64_t n = parts.lo + first; n < parts.hi; n += a->nth) {
                attend_part(s, &t, w, all, n);
                keep_parts(s, &t, &w->now, to, each, n);
            }
        }
    }
}

static void end_parts(const struct dan_args *a, const struct sizes *s, const struct area *w, const struct part *from, int64_t each)
{
    int64_t lo, hi;
    dan_share(a, s->rows * s->heads, 1, &lo, &hi);
    for (int64_t x = lo; x < hi; x++) {
        int64_t row = x / s->heads, head = x % s->heads;
        struct tile t = {.head = head / s->group, .first = row * s->group + head % s->group, .n = 1};
        struct keys parts = last_part(keys_of(a, row, range_of(a, row)[0]));
        w->all.max[0] = -INFINITY;
        for (int64_t n = parts.lo; n < parts.hi; n++) join_parts(s, &w->all, 0, from, x * each + n);
        end_item(a, s, &t, &w->all, 0);
    }
}

/* Parts that each row and head gets room for when threads share them; 0: they do not. */
static int64_t shared_parts(const struct dan_args *a, const struct sizes *s)
{
    if (a->nth == 1 || s->kv % a->nth == 0 || s->rows * s->heads * part_floats(s) > PARTS) return 0;
    int64_t runs = 0, n = most_parts(a, s);
    for (int64_t r = 0; r < s->rows; r = run_end(a, r, s->rows)) runs++;
    return n > 1 && runs * s->kv < 8 * a->nth && s->rows * s->heads * n * part_floats(s) <= PARTS ? n : 0;
}

static bool accepts(const struct dan_args *a)
{
    const struct dan_tensor *k = &a->in[1];
    bool cache = k->shape.n == 3 && (dan_f32_or_bf16(k) || k->dtype == &dan_dtype_i8);
    return a->in[0].dtype == &dan_dtype_f32 && (cache || k->dtype == &dan_dtype_f32) && all_stored(a->out, 2, &dan_dtype_f32);
}

static size_t workspace(const struct dan_args *a, int nth)
{
    struct sizes s = sizes_of(a);
    int64_t parts = s.rows * s.heads * ((source_rows(&a->in[1]) + SPLIT - 1) / SPLIT) * part_floats(&s);
    return ((size_t)nth * area_floats(&s) + (nth > 1 ? (size_t)least(parts, PARTS) : 0)) * sizeof(float);
}

static void run(const struct dan_args *a)
{
    struct sizes s = sizes_of(a);
    struct area w = area_at(&s, (float *)a->ws + area_floats(&s) * (size_t)a->ith);
    int64_t each = shared_parts(a, &s);
    if (!each) {
        attend_whole(a, &s, &w);
        return;
    }
    struct part parts = parts_at(a, &s, s.rows * s.heads * each);
    make_parts(a, &s, &w, &parts, each);
    dan_args_barrier(a);
    end_parts(a, &s, &w, &parts, each);
}
