/* Few items against a cache by heads: products straight from its words, with the bits of attend_tile.h's products of the same
 * block as f32, which more items share.  `items` (1, 2 or 4), `per` and `vecs` are constants where these are inlined. */
#ifndef DAN_KERNEL_ATTEND_FEW_H
#define DAN_KERNEL_ATTEND_FEW_H
#include "kernel/simd/attend_source.h"

enum { FEW_VECS = TILE_VECS, FEW_ITEMS = 4 };

/* Items that see the same keys: queries and outputs in rows of dp, scores in rows of BLOCK. */
struct few { const float *q; float *p, *o; int64_t dp, d; };

/* Scores in columns c .. c + vecs VF; `from`: word 0 of the first key, further vectors at from + next[j]. */
INLINE void score_vecs(int per, int items, int vecs, const struct few *f, const float *from, const int64_t *next, int64_t words, int64_t c)
{
    vf s[FEW_ITEMS][FEW_VECS];
    const float *q = f->q;
    UNROLL
    for (int m = 0; m < items; m++)
        UNROLL
        for (int j = 0; j < vecs; j++) s[m][j] = vf_set(0);
    for (int64_t i = 0; i < words; i++, from += DAN_KV_GROUP, q += per) {
        int64_t here = least(per, f->d - i * per);
        UNROLL
        for (int j = 0; j < vecs; j++) {
            vf y[4];
            unpack(per, vf_load(from + next[j]), y);
            UNROLL
            for (int k = 0; k < per; k++) {
                if (k >= here) continue;
                UNROLL
                for (int m = 0; m < items; m++) s[m][j] = vf_fma(vf_set(q[m * f->dp + k]), y[k], s[m][j]);
            }
        }
    }
    UNROLL
    for (int m = 0; m < items; m++)
        UNROLL
        for (int j = 0; j < vecs; j++) vf_store(f->p + m * BLOCK + c + j * VF, s[m][j]);
}

/* Scores in columns [c0, c1) of the block whose key 0 is row `at`, a multiple of the cache's group. */
INLINE void score_few(int per, int items, const struct source *x, int64_t at, struct keys k, const struct few *f)
{
    const int64_t words = x->c.width / per, c1 = pad(k.hi);
    for (int64_t c = k.lo / VF * VF; c < c1;) {
        int64_t next[FEW_VECS], first = c % DAN_KV_GROUP;
        const float *from = (const float *)x->plane + (at + c) / DAN_KV_GROUP * words * DAN_KV_GROUP + first;
        for (int j = 0; j < FEW_VECS; j++)
            next[j] = (first + j * VF) / DAN_KV_GROUP * words * DAN_KV_GROUP + (first + j * VF) % DAN_KV_GROUP - first;
        if (c1 - c >= FEW_VECS * VF) {
            score_vecs(per, items, FEW_VECS, f, from, next, words, c);
            c += FEW_VECS * VF;
        } else {
            score_vecs(per, items, 1, f, from, next, words, c);
            c += VF;
        }
    }
}

/* Columns c .. c + vecs VF of the outputs += weights times values k; `from`: word of row 0 in the first of these columns. */
INLINE void add_vecs(int per, int items, int vecs, const struct few *f, const float *from, int64_t width, struct keys k, int64_t c)
{
    vf s[FEW_ITEMS][FEW_VECS];
    UNROLL
    for (int m = 0; m < items; m++)
        UNROLL
        for (int j = 0; j < vecs; j++) s[m][j] = vf_set(0);
    from += k.lo / per * width;
    for (int64_t r = k.lo / per * per; r < k.hi; r += per, from += width) {
        bool all = r >= k.lo && r + per <= k.hi;
        UNROLL
        for (int j = 0; j < vecs; j++) {
            vf y[4];
            unpack(per, vecs > 1 ? vf_load(from + j * VF) : vf_load_n(from, f->d - c), y);
            UNROLL
            for (int i = 0; i < per; i++) {
                if (!all && (r + i < k.lo || r + i >= k.hi)) continue;
                UNROLL
                for (int m = 0; m < items; m++) s[m][j] = vf_fma(vf_set(f->p[m * BLOCK + r + i]), y[i], s[m][j]);
            }
        }
    }
    UNROLL
    for (int m = 0; m < items; m++)
        UNROLL
        for (int j = 0; j < vecs; j++) {
            float *o = f->o + m * f->dp + c + j * VF;
            vf_store(o, vf_add(s[m][j], vf_load(o)));
        }
}

INLINE void add_few(int per, int items, const struct source *x, int64_t at, struct keys k, const struct few *f)
{
    const float *from = (const float *)x->plane + at / per * x->c.width;
    int64_t c = 0;
    for (; c + FEW_VECS * VF <= f->d; c += FEW_VECS * VF) add_vecs(per, items, FEW_VECS, f, from + c, x->c.width, k, c);
    for (; c < f->d; c += VF) add_vecs(per, items, 1, f, from + c, x->c.width, k, c);
}

INLINE void few_of(int items, bool values, const struct source *x, int64_t at, struct keys k, const struct few *f)
{
    if (x->c.per == 1) values ? add_few(1, items, x, at, k, f) : score_few(1, items, x, at, k, f);
    else if (x->c.per == 2) values ? add_few(2, items, x, at, k, f) : score_few(2, items, x, at, k, f);
    else values ? add_few(4, items, x, at, k, f) : score_few(4, items, x, at, k, f);
}

static void score_items(int items, const struct source *x, int64_t at, struct keys k, const struct few *f)
{
    if (items == 4) few_of(4, false, x, at, k, f);
    else if (items == 2) few_of(2, false, x, at, k, f);
    else few_of(1, false, x, at, k, f);
}

static void add_items(int items, const struct source *x, int64_t at, struct keys k, const struct few *f)
{
    if (items == 4) few_of(4, true, x, at, k, f);
    else if (items == 2) few_of(2, true, x, at, k, f);
    else few_of(1, true, x, at, k, f);
}

#endif
