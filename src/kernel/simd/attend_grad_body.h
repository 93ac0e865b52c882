/* attend_grad in one pass over all pairs of key block and row tile: five small products each (Dao et al. 2022,
 * FlashAttention, algorithm 4), probabilities recomputed from lse.  Include block_ISA.h before.
 *
 * Work is split into units: rows that share no key with rows of other units (in packed training: documents),
 * times kv heads.  One thread owns a unit's dq, dk and dv, so nothing is added to from two sides and every sum
 * has one order, whatever nth is. */
#include "kernel/simd/attend_tile.h"

enum { Q, K, V, RANGE, O, LSE, DO };
enum { DQ, DK, DV };

struct area { float *q, *d_o, *kt, *vt, *k, *p, *ds, *dk, *dv, *lse, *delta; struct keys *keys; };

/* Rows of one query head against one block of keys.  first: row; base, block: keys count from base + block. */
struct work { int64_t first, n, head, kv_head, base, block; };

static size_t area_floats(const struct sizes *s)
{
    size_t n = (size_t)(2 * TILE * s->dp + 2 * BLOCK * s->d + 3 * BLOCK * s->dp + 2 * TILE * BLOCK + 4 * TILE);
    return (n + 15) / 16 * 16;
}

static struct area area_at(const struct sizes *s, float *ws)
{
    struct area w = {.q = ws};
    w.d_o = w.q + TILE * s->dp;
    w.k = w.d_o + TILE * s->dp;
    w.dk = w.k + BLOCK * s->dp;
    w.dv = w.dk + BLOCK * s->dp;
    w.kt = w.dv + BLOCK * s->dp;
    w.vt = w.kt + BLOCK * s->d;
    w.p = w.vt + BLOCK * s->d;
    w.ds = w.p + TILE * BLOCK;
    w.lse = w.ds + TILE * BLOCK;
    w.delta = w.lse + TILE;
    w.keys = (struct keys *)(w.delta + TILE);
    return w;
}

/* Shared by the threads: delta [N,H] = do . o, then the units' first rows [N+1] and their number. */
struct plan { float *delta; int32_t *first, *later_lo; int64_t *n; };

static size_t plan_bytes(const struct sizes *s) { return ((size_t)(s->rows * s->heads + 2 * s->rows + 2) * 4 + 8 + 127) / 64 * 64; }

static struct plan plan_at(const struct sizes *s, void *ws)
{
    struct plan p = {.n = ws};
    p.delta = (float *)(p.n + 1);
    p.first = (int32_t *)(p.delta + s->rows * s->heads);
    p.later_lo = p.first + s->rows + 1;
    return p;
}

/* A unit ends before row n when no later row sees a key that an earlier row saw. */
static void find_units(const struct dan_args *a, const struct sizes *s, const struct plan *p)
{
    int32_t lo = INT32_MAX, hi = 0;
    for (int64_t n = s->rows; n-- > 0;) {
        const int32_t *r = dan_row(&a->in[RANGE], n);
        if (r[1] < r[2]) lo = (int32_t)least(lo, r[1]);
        p->later_lo[n] = lo;
    }
    *p->n = 0;
    for (int64_t n = 0; n < s->rows; n++) {
        const int32_t *r = dan_row(&a->in[RANGE], n);
        if (n == 0 || p->later_lo[n] >= hi) p->first[(*p->n)++] = (int32_t)n;
        if (r[1] < r[2]) hi = (int32_t)most(hi, r[2]);
    }
    p->first[*p->n] = (int32_t)s->rows;
}

static float dot(const float *x, const float *y, int64_t n)
{
    vf sum = vf_set(0);
    for (int64_t i = 0; i < n; i += VF) sum = vf_fma(vf_load_n(x + i, n - i), vf_load_n(y + i, n - i), sum);
    return vf_sum(sum);
}

static void zero_rows(const struct dan_args *a, const struct dan_tensor *t)
{
    int64_t lo, hi;
    dan_share(a, t->shape.d[0], 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) memset(dan_row(t, r), 0, (size_t)t->shape.d[1] * sizeof(float));
}

static void prepare(const struct dan_args *a, const struct sizes *s, const struct plan *p)
{
    int64_t lo, hi;
    dan_share(a, s->rows, 1, &lo, &hi);
    for (int64_t n = lo; n < hi; n++) {
        const float *o = dan_row(&a->in[O], n), *d_o = dan_row(&a->in[DO], n);
        for (int64_t h = 0; h < s->heads; h++) p->delta[n * s->heads + h] = dot(o + h * s->d, d_o + h * s->d, s->d);
    }
    for (int i = 0; i < 3; i++) zero_rows(a, &a->out[i]);
    if (a->ith == 0) find_units(a, s, p);
}

/* Keys of rows first .. first + n, relative to the base they share. */
static struct keys rows_keys(const struct dan_args *a, int64_t first, int64_t n, struct keys *each)
{
    struct keys all = {0, 0};
    for (int64_t i = 0; i < n; i++) {
        const int32_t *r = dan_row(&a->in[RANGE], first + i);
        struct keys k = {r[1] - r[0], r[2] - r[0]};
        if (each) each[i] = k.lo < k.hi ? k : (struct keys){0, 0};
        all = join(all, k);
    }
    return all.lo < all.hi ? all : (struct keys){0, 0};
}

static void load_rows(const struct dan_args *a, const struct sizes *s, const struct plan *p, const struct work *t, const struct area *w)
{
    pack_rows(w->q, (const float *)dan_row(&a->in[Q], t->first) + t->head * s->d, a->in[Q].stride[0] / 4, t->n, s->d);
    pack_rows(w->d_o, (const float *)dan_row(&a->in[DO], t->first) + t->head * s->d, a->in[DO].stride[0] / 4, t->n, s->d);
    for (int64_t i = 0; i < t->n; i++) {
        w->lse[i] = ((const float *)dan_row(&a->in[LSE], t->first + i))[t->head];
        w->delta[i] = p->delta[(t->first + i) * s->heads + t->head];
    }
}

/* In columns [c0, c1): p holds q.k and becomes p; ds holds do.v and becomes ds.  all: the row sees them all. */
INLINE void grad_scores(bool all, float *p, float *ds, struct keys k, int64_t c0, int64_t c1, float scale, float lse, float delta)
{
    vf by = vf_set(scale), zero = vf_set(0);
    for (int64_t c = c0; c < c1; c += VF) {
        vf x = vf_exp(vf_sub(vf_mul(vf_load(p + c), by), vf_set(lse)));
        if (!all) x = vf_keep(x, k.lo - c, k.hi - c, zero);
        vf_store(p + c, x);
        vf_store(ds + c, vf_mul(vf_mul(x, by), vf_sub(vf_load(ds + c), vf_set(delta))));
    }
}

/* Rows [i0, i0 + n) of the tile, n <= TILE_ROWS: p, ds and their part of dq. */
static void grad_group(const struct dan_args *a, const struct sizes *s, const struct work *t, const struct area *w, int64_t i0, int64_t n)
{
    struct keys each[TILE_ROWS], all = {0, 0};
    float *p = w->p + i0 * BLOCK, *ds = w->ds + i0 * BLOCK;
    for (int64_t i = 0; i < n; i++) all = join(all, each[i] = in_block(w->keys[i0 + i], t->block));
    if (all.lo > 0 || all.hi < BLOCK) {                /* what no row of the group sees stays zero */
        memset(p, 0, (size_t)n * BLOCK * sizeof *p);
        memset(ds, 0, (size_t)n * BLOCK * sizeof *ds);
    }
    if (all.lo >= all.hi) return;
    int64_t c0 = all.lo / VF * VF, c1 = pad(all.hi), ldq = a->out[DQ].stride[0] / 4;
    set_product(n, (struct left){w->q + i0 * s->dp, s->dp, 1}, w->kt + c0, BLOCK, p + c0, BLOCK, s->d, c1 - c0);
    set_product(n, (struct left){w->d_o + i0 * s->dp, s->dp, 1}, w->vt + c0, BLOCK, ds + c0, BLOCK, s->d, c1 - c0);
    for (int64_t i = 0; i < n; i++) {
        bool full = each[i].lo <= c0 && each[i].hi >= c1;
        float *pi = p + i * BLOCK, *dsi = ds + i * BLOCK;
        if (full) grad_scores(true, pi, dsi, each[i], c0, c1, s->scale, w->lse[i0 + i], w->delta[i0 + i]);
        else if (each[i].lo < each[i].hi) grad_scores(false, pi, dsi, each[i], c0, c1, s->scale, w->lse[i0 + i], w->delta[i0 + i]);
        else memset(pi, 0, BLOCK * sizeof *pi), memset(dsi, 0, BLOCK * sizeof *dsi);
    }
    float *dq = (float *)dan_row(&a->out[DQ], t->first + i0) + t->head * s->d;
    add_product(n, (struct left){ds + all.lo, BLOCK, 1}, w->k + all.lo * s->dp, s->dp, dq, ldq, all.hi - all.lo, s->d);
}

/* Rows of the tile that see one of the keys [k.lo, k.hi) of the block: all between the first and the last. */
static struct keys rows_seeing(const struct work *t, const struct area *w, struct keys k)
{
    struct keys r = {0, 0};
    for (int64_t i = 0; i < t->n; i++) {
        struct keys x = in_block(w->keys[i], t->block);
        if (x.lo < k.hi && k.lo < x.hi) r = join(r, (struct keys){(int32_t)i, (int32_t)i + 1});
    }
    return r;
}

static void grad_tile(const struct dan_args *a, const struct sizes *s, const struct plan *p, const struct work *t, const struct area *w)
{
    struct keys all = in_block(rows_keys(a, t->first, t->n, w->keys), t->block);
    if (all.lo >= all.hi) return;
    load_rows(a, s, p, t, w);
    for (int64_t i = 0; i < t->n; i += TILE_ROWS) grad_group(a, s, t, w, i, least(TILE_ROWS, t->n - i));
    for (int64_t j = all.lo; j < all.hi; j += TILE_ROWS) {
        int64_t n = least(TILE_ROWS, all.hi - j);
        struct keys r = rows_seeing(t, w, (struct keys){(int32_t)j, (int32_t)(j + n)});
        struct left pt = {w->p + r.lo * BLOCK + j, 1, BLOCK}, dst = {w->ds + r.lo * BLOCK + j, 1, BLOCK};
        add_product(n, pt, w->d_o + r.lo * s->dp, s->dp, w->dv + j * s->dp, s->dp, r.hi - r.lo, s->dp);
        add_product(n, dst, w->q + r.lo * s->dp, s->dp, w->dk + j * s->dp, s->dp, r.hi - r.lo, s->dp);
    }
}

static void add_rows(float *y, int64_t ld, const float *x, const struct sizes *s, int64_t n)
{
    for (int64_t r = 0; r < n; r++, y += ld, x += s->dp)
        for (int64_t c = 0; c < s->d; c += VF) vf_store_n(y + c, vf_add(vf_load_n(y + c, s->d - c), vf_load(x + c)), s->d - c);
}

/* All rows [first, end) of one base against the keys k of block t->block, for all query heads of the group. */
static void grad_block(const struct dan_args *a, const struct sizes *s, const struct plan *p, struct work *t,
                       int64_t first, int64_t end, struct keys k, const struct area *w)
{
    int64_t c0 = k.lo / VF * VF, key = t->base + t->block, col = t->kv_head * s->d;
    int64_t ldk = a->in[K].stride[0] / 4, ldv = a->in[V].stride[0] / 4;
    const float *keys = (const float *)dan_row(&a->in[K], key) + col, *values = (const float *)dan_row(&a->in[V], key) + col;
    pack_transposed(w->kt + c0, keys + c0 * ldk, ldk, k.hi - c0, s->d);
    pack_transposed(w->vt + c0, values + c0 * ldv, ldv, k.hi - c0, s->d);
    pack_rows(w->k + k.lo * s->dp, keys + k.lo * ldk, ldk, k.hi - k.lo, s->d);
    memset(w->dk, 0, (size_t)(BLOCK * s->dp) * sizeof(float));
    memset(w->dv, 0, (size_t)(BLOCK * s->dp) * sizeof(float));
    for (t->head = t->kv_head * s->group; t->head < (t->kv_head + 1) * s->group; t->head++)
        for (t->first = first; t->first < end; t->first += TILE) {
            t->n = least(TILE, end - t->first);
            grad_tile(a, s, p, t, w);
        }
    key += k.lo;
    add_rows((float *)dan_row(&a->out[DK], key) + col, a->out[DK].stride[0] / 4, w->dk + k.lo * s->dp, s, k.hi - k.lo);
    add_rows((float *)dan_row(&a->out[DV], key) + col, a->out[DV].stride[0] / 4, w->dv + k.lo * s->dp, s, k.hi - k.lo);
}

/* Rows [first, end): one unit. */
static void grad_unit(const struct dan_args *a, const struct sizes *s, const struct plan *p, int64_t first, int64_t end,
                      int64_t kv_head, const struct area *w)
{
    while (first < end) {
        int64_t stop = run_end(a, first, end);
        struct keys all = rows_keys(a, first, stop - first, NULL);
        struct work t = {.kv_head = kv_head, .base = *(const int32_t *)dan_row(&a->in[RANGE], first)};
        for (t.block = all.lo / BLOCK * BLOCK; t.block < all.hi; t.block += BLOCK) {
            struct keys k = in_block(all, t.block);
            if (k.lo < k.hi) grad_block(a, s, p, &t, first, stop, k, w);
        }
        first = stop;
    }
}

static bool accepts(const struct dan_args *a) { return all_f32(a->in, a->n_in); }

static size_t workspace(const struct dan_args *a, int nth)
{
    struct sizes s = sizes_of(a);
    return plan_bytes(&s) + (size_t)nth * area_floats(&s) * sizeof(float);
}

static void run(const struct dan_args *a)
{
    struct sizes s = sizes_of(a);
    struct plan p = plan_at(&s, a->ws);
    struct area w = area_at(&s, (float *)((char *)a->ws + plan_bytes(&s)) + area_floats(&s) * (size_t)a->ith);
    prepare(a, &s, &p);
    dan_args_barrier(a);
    int64_t turn = 0;
    for (int64_t u = 0; u < *p.n; u++)
        for (int64_t h = 0; h < s.kv; h++, turn++)
            if (turn % a->nth == a->ith) grad_unit(a, &s, &p, p.first[u], p.first[u + 1], h, &w);
}
