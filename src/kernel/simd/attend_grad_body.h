/* attend_grad in one pass over all pairs of key block and row tile: five small products each (Dao et al. 2022,
 * FlashAttention, algorithm 4), probabilities recomputed from lse.  Include block_ISA.h before. */
enum { TILE = 64, BLOCK = 128 };
#include "kernel/simd/attend_tile.h"
#include "kernel/simd/attend_units.h"

enum { Q, K, V, RANGE, O, LSE, DO };
enum { DQ, DK, DV };

struct area { float *q, *d_o, *kt, *vt, *k, *p, *ds, *dk, *dv, *lse, *delta; struct keys *keys; };

/* Rows of one query head against the keys from base + block on. */
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

/* delta [N,H] = do . o; done [G tiles of rows]: block of keys that may add to dq next, where threads share a unit */
struct grad { struct sizes s; struct units *units; float *delta; int32_t *done; struct area w; };

static int64_t max_tiles(const struct sizes *s) { return s->group * (s->rows / TILE + 1); }

static size_t common_bytes(const struct sizes *s)
{
    return units_bytes(s) + ((size_t)(s->rows * s->heads + max_tiles(s)) * 4 + 63) / 64 * 64;
}

static float dot(const float *x, const float *y, int64_t n)
{
    vf sum = vf_set(0);
    for (int64_t i = 0; i < n; i += VF) sum = vf_fma(vf_load_n(x + i, n - i), vf_load_n(y + i, n - i), sum);
    return vf_sum(sum);
}

/* Keys of rows first .. first + n. */
static struct keys rows_keys(const struct dan_args *a, int64_t base, int64_t first, int64_t n, struct keys *each)
{
    struct keys all = {0, 0};
    for (int64_t i = 0; i < n; i++) {
        struct keys k = keys_of(a, first + i, base);
        if (each) each[i] = k;
        all = join(all, k);
    }
    return all;
}

static void load_rows(const struct dan_args *a, const struct grad *g, const struct work *t)
{
    const struct sizes *s = &g->s;
    const struct area *w = &g->w;
    pack_rows(w->q, (const float *)dan_row(&a->in[Q], t->first) + t->head * s->d, a->in[Q].stride[0] / 4, t->n, s->d);
    pack_rows(w->d_o, (const float *)dan_row(&a->in[DO], t->first) + t->head * s->d, a->in[DO].stride[0] / 4, t->n, s->d);
    for (int64_t i = 0; i < t->n; i++) {
        w->lse[i] = ((const float *)dan_row(&a->in[LSE], t->first + i))[t->head];
        w->delta[i] = g->delta[(t->first + i) * s->heads + t->head];
    }
}

/* In columns [c0, c1): p holds q.k and becomes p; ds holds do.v and becomes ds.  all: the row sees them all. */
INLINE void grad_scores(bool all, float *p, float *ds, struct keys k, int64_t c0, int64_t c1, float scale, float lse, float delta)
{
    vf by = vf_set(scale * LOG2E), zero = vf_set(0), less = vf_set(-lse * LOG2E);
    for (int64_t c = c0; c < c1; c += VF) {
        vf x = vf_exp2(vf_fma(vf_load(p + c), by, less));
        if (!all) x = vf_keep(x, k.lo - c, k.hi - c, zero);
        vf_store(p + c, x);
        vf_store(ds + c, vf_mul(vf_mul(x, vf_set(scale)), vf_sub(vf_load(ds + c), vf_set(delta))));
    }
}

/* The same where scores are capped. */
static void grad_capped(float *p, float *ds, struct keys k, int64_t c0, int64_t c1, const struct sizes *s, float lse, float delta)
{
    vf zero = vf_set(0), one = vf_set(1), less = vf_set(-lse * LOG2E), inv = vf_set(s->scale / s->cap), by = vf_set(s->cap * LOG2E);
    for (int64_t c = c0; c < c1; c += VF) {
        vf t = vf_tanh(vf_mul(inv, vf_load(p + c))), x = vf_keep(vf_exp2(vf_fma(t, by, less)), k.lo - c, k.hi - c, zero);
        vf slope = vf_mul(vf_set(s->scale), vf_sub(one, vf_mul(t, t)));
        vf_store(p + c, x);
        vf_store(ds + c, vf_mul(vf_mul(x, slope), vf_sub(vf_load(ds + c), vf_set(delta))));
    }
}

/* p and ds of the tile's rows and n keys, from products in columns of their groups; zero where a row does not see the key. */
static void weigh_rows(const struct sizes *s, const struct work *t, const struct area *w, const struct keys *each,
                       const struct keys *groups, int64_t n)
{
    for (int64_t i = 0; i < t->n; i++) {
        struct keys g = groups[i / TILE_ROWS], k = each[i];
        float *p = w->p + i * BLOCK, *ds = w->ds + i * BLOCK;
        int64_t c0 = g.lo / VF * VF, c1 = pad(g.hi);
        if (no_keys(k)) c0 = c1 = pad(n);
        for (int64_t c = 0; c < c0; c += VF) vf_store(p + c, vf_set(0)), vf_store(ds + c, vf_set(0));
        for (int64_t c = c1; c < n; c += VF) vf_store(p + c, vf_set(0)), vf_store(ds + c, vf_set(0));
        if (no_keys(k)) continue;
        if (s->cap > 0) grad_capped(p, ds, k, c0, c1, s, w->lse[i], w->delta[i]);
        else if (k.lo <= c0 && k.hi >= c1) grad_scores(true, p, ds, k, c0, c1, s->scale, w->lse[i], w->delta[i]);
        else grad_scores(false, p, ds, k, c0, c1, s->scale, w->lse[i], w->delta[i]);
    }
}

static inline bool row_sees(const struct work *t, const struct area *w, int64_t i, struct keys k)
{
    return w->keys[i].lo < t->block + k.hi && t->block + k.lo < w->keys[i].hi;
}

/* By group of keys of the block: rows of the tile that see one of them, all between the first and the last. */
static void meet_rows(const struct work *t, const struct area *w, int64_t n_keys, struct keys *groups)
{
    for (int64_t j = 0; j < n_keys; j += TILE_ROWS) {
        struct keys k = {(int32_t)j, (int32_t)least(j + TILE_ROWS, n_keys)};
        int64_t lo = 0, hi = t->n;
        while (lo < hi && !row_sees(t, w, lo, k)) lo++;
        while (lo < hi && !row_sees(t, w, hi - 1, k)) hi--;
        groups[j / TILE_ROWS] = (struct keys){(int32_t)lo, (int32_t)hi};
    }
}

/* The tile against n keys of the block.  done: threads share the unit, dq of a tile takes blocks in order. */
static void grad_tile(const struct dan_args *a, const struct grad *g, const struct work *t, int64_t n, int32_t *done)
{
    const struct sizes *s = &g->s;
    const struct area *w = &g->w;
    struct keys seen = rows_keys(a, t->base, t->first, t->n, w->keys), each[TILE], groups[GROUPS];
    if (no_keys(in_block(seen, t->block, BLOCK))) return;
    load_rows(a, g, t);
    meet(w->keys, t->n, t->block, each, groups);
    set_products(t->n, groups, (struct left){w->q, s->dp, 1}, w->kt, BLOCK, w->p, BLOCK, s->d);
    set_products(t->n, groups, (struct left){w->d_o, s->dp, 1}, w->vt, BLOCK, w->ds, BLOCK, s->d);
    weigh_rows(s, t, w, each, groups, n);
    float *dq = (float *)dan_row(&a->out[DQ], t->first) + t->head * s->d;
    if (done) dan_wait_for(done, (int32_t)(t->block / BLOCK));
    add_products(t->n, groups, (struct left){w->ds, BLOCK, 1}, w->k, s->dp, dq, a->out[DQ].stride[0] / 4, s->d);
    if (done) __atomic_store_n(done, (int32_t)(t->block / BLOCK) + 1, __ATOMIC_RELEASE);
    meet_rows(t, w, n, groups);
    add_products(n, groups, (struct left){w->p, 1, BLOCK}, w->d_o, s->dp, w->dv, s->dp, s->dp);
    add_products(n, groups, (struct left){w->ds, 1, BLOCK}, w->q, s->dp, w->dk, s->dp, s->dp);
}

static void write_rows(float *y, int64_t ld, const float *x, const struct sizes *s, int64_t n)
{
    for (int64_t r = 0; r < n; r++, y += ld, x += s->dp)
        for (int64_t c = 0; c < s->d; c += VF) vf_store_n(y + c, vf_load(x + c), s->d - c);
}

/* Rows [first, end) against n keys of the block, for all query heads of the group. */
static void grad_block(const struct dan_args *a, const struct grad *g, struct work *t, int64_t first, int64_t end, int64_t n, int32_t *done)
{
    const struct sizes *s = &g->s;
    const struct area *w = &g->w;
    int64_t key = t->base + t->block, col = t->kv_head * s->d, ldk = a->in[K].stride[0] / 4, ldv = a->in[V].stride[0] / 4;
    const float *keys = (const float *)dan_row(&a->in[K], key) + col, *values = (const float *)dan_row(&a->in[V], key) + col;
    pack_transposed(w->kt, keys, ldk, n, s->d);
    pack_transposed(w->vt, values, ldv, n, s->d);
    pack_rows(w->k, keys, ldk, n, s->d);
    memset(w->dk, 0, (size_t)(n * s->dp) * sizeof(float));
    memset(w->dv, 0, (size_t)(n * s->dp) * sizeof(float));
    for (t->head = t->kv_head * s->group; t->head < (t->kv_head + 1) * s->group; t->head++)
        for (t->first = first; t->first < end; t->first += TILE) {
            t->n = least(TILE, end - t->first);
            grad_tile(a, g, t, n, done);
            done += done ? 1 : 0;
        }
    write_rows((float *)dan_row(&a->out[DK], key) + col, a->out[DK].stride[0] / 4, w->dk, s, n);
    write_rows((float *)dan_row(&a->out[DV], key) + col, a->out[DV].stride[0] / 4, w->dv, s, n);
}

/* dq is zero; `done` says which block adds to each tile first. */
static void begin_unit_rows(const struct dan_args *a, const struct grad *g, int64_t head, int64_t base, int64_t first, int64_t end,
                            bool shared)
{
    const struct sizes *s = &g->s;
    size_t bytes = (size_t)(s->group * s->d) * sizeof(float);
    int64_t lo = first, hi = end, n_tiles = (end - first + TILE - 1) / TILE;
    if (shared) {
        dan_args_barrier(a);                           /* the last shared unit is done */
        dan_share(a, end - first, TILE, &lo, &hi);
        lo += first;
        hi += first;
    }
    for (int64_t r = lo; r < hi; r++) memset((float *)dan_row(&a->out[DQ], r) + head * s->group * s->d, 0, bytes);
    for (int64_t r = lo; r < hi && shared; r += TILE) {
        int32_t block = rows_keys(a, base, r, least(TILE, end - r), NULL).lo / BLOCK;
        for (int64_t h = 0; h < s->group; h++) g->done[h * n_tiles + (r - first) / TILE] = block;
    }
    if (shared) dan_args_barrier(a);
}

static void grad_unit(const struct dan_args *a, const struct grad *g, int64_t i, int64_t head, bool shared)
{
    const struct unit *u = &g->units->at[i];
    struct work t = {.kv_head = head, .base = u->lo};
    int64_t turn = 0;
    begin_unit_rows(a, g, head, u->lo, u->first, u[1].first, shared);
    for (t.block = 0; t.block < u->hi - u->lo; t.block += BLOCK, turn++)
        if (!shared || turn % a->nth == a->ith)
            grad_block(a, g, &t, u->first, u[1].first, least(BLOCK, u->hi - u->lo - t.block), shared ? g->done : NULL);
}

static bool accepts(const struct dan_args *a) { return all_stored(a->in, a->n_in, &dan_dtype_f32); }

static size_t workspace(const struct dan_args *a, int nth)
{
    struct sizes s = sizes_of(a);
    return common_bytes(&s) + (size_t)nth * area_floats(&s) * sizeof(float);
}

static void run(const struct dan_args *a)
{
    struct grad g = {.s = sizes_of(a), .units = a->ws};
    const struct sizes *s = &g.s;
    int64_t lo, hi;
    g.delta = (float *)((char *)a->ws + units_bytes(s));
    g.done = (int32_t *)(g.delta + s->rows * s->heads);
    g.w = area_at(s, (float *)((char *)a->ws + common_bytes(s)) + area_floats(s) * (size_t)a->ith);
    dan_share(a, s->rows, 1, &lo, &hi);
    for (int64_t n = lo; n < hi; n++) {
        const float *o = dan_row(&a->in[O], n), *d_o = dan_row(&a->in[DO], n);
        for (int64_t h = 0; h < s->heads; h++) g.delta[n * s->heads + h] = dot(o + h * s->d, d_o + h * s->d, s->d);
    }
    if (a->ith == 0) find_units(a, s, g.units);
    dan_args_barrier(a);
    grad_units(a, &g, s, g.units, BLOCK);
}
