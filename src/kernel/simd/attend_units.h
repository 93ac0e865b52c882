/* How attend_grad is divided.  A unit is a run of rows that share no key with rows of other units: in packed training, a
 * document.  One thread takes a unit of one kv head, so nothing is added to from two sides.  Units that are long compared
 * with all the work, and left over when every thread has got as many, are shared: threads take blocks of keys in turn and
 * add to dq in the order of the blocks, each waiting for the one before.  Either way every sum has one order. */
#ifndef DAN_KERNEL_ATTEND_UNITS_H
#define DAN_KERNEL_ATTEND_UNITS_H
#include "base/threads.h"
#include "kernel/simd/attend_keys.h"

/* Rows first .. the next unit's first; keys lo .. hi, and those from `gap` to lo that nobody sees. */
struct unit { int32_t first, gap, lo, hi, later_lo; int64_t cost; };

/* n units and the end; `next` hands out pairs of unit and kv head; cost: of all units of one head. */
struct units { int64_t n, next, cost; struct unit at[]; };

static inline size_t units_bytes(const struct sizes *s)
{
    return (sizeof(struct units) + (size_t)(s->rows + 1) * sizeof(struct unit) + 127) / 64 * 64;
}

static inline void begin_unit(struct units *u, int64_t row, int32_t key)
{
    struct unit *x = &u->at[u->n++];
    x->first = (int32_t)row;
    x->gap = x->hi = key;
    x->lo = INT32_MAX;
    x->cost = 0;
}

/* A unit ends before row n when no later row sees a key that an earlier row saw.  One thread, before a barrier. */
static inline void find_units(const struct dan_args *a, const struct sizes *s, struct units *u)
{
    int32_t lo = INT32_MAX, hi = 0;
    for (int64_t n = s->rows; n-- > 0;) {
        const int32_t *r = range_of(a, n);
        if (r[1] < r[2]) lo = (int32_t)least(lo, r[1]);
        u->at[n].later_lo = lo;
    }
    u->n = u->next = u->cost = 0;
    for (int64_t n = 0; n < s->rows; n++) {
        const int32_t *r = range_of(a, n);
        if (n == 0 || u->at[n].later_lo >= hi) begin_unit(u, n, hi);
        struct unit *x = &u->at[u->n - 1];
        if (r[1] >= r[2]) continue;
        x->lo = (int32_t)least(x->lo, r[1]);
        x->hi = hi = (int32_t)most(hi, r[2]);
        x->cost += r[2] - r[1];
        u->cost += r[2] - r[1];
    }
    begin_unit(u, s->rows, hi);                        /* its gap: keys behind all */
    u->n--;
    u->at[u->n].lo = (int32_t)a->in[1].shape.d[0];
    for (int64_t i = 0; i < u->n; i++)
        if (u->at[i].lo > u->at[i].hi) u->at[i].lo = u->at[i].hi;
}

/* Whether a unit of one kv head is more than a quarter of a thread's share, and more than a block. */
static inline bool is_long(const struct units *u, int64_t i, int64_t kv, int64_t nth, int64_t block)
{
    return nth > 1 && u->at[i].cost * 4 * nth > u->cost * kv && u->at[i].hi - u->at[i].lo > block;
}

/* Of the long ones (unit, kv head), in order: the first of those that all threads share. */
static inline int64_t first_shared(const struct units *u, int64_t kv, int64_t nth, int64_t block)
{
    int64_t n = 0;
    for (int64_t i = 0; i < u->n; i++) n += is_long(u, i, kv, nth, block) ? kv : 0;
    return n - n % nth;
}

/* dk and dv are zero for keys that nobody sees: columns of one kv head, rows [from, to). */
static inline void zero_keys(const struct dan_args *a, const struct sizes *s, int64_t head, int64_t from, int64_t to)
{
    for (int i = 1; i <= 2; i++) {
        int64_t bytes = s->d * a->out[i].dtype->bytes;
        for (int64_t r = from; r < to; r++) memset((char *)dan_row(&a->out[i], r) + head * bytes, 0, (size_t)bytes);
    }
}

struct grad;                                           /* what the kernel needs */
/* Unit i of one kv head, by one thread or by all. */
static void grad_unit(const struct dan_args *a, const struct grad *g, int64_t i, int64_t head, bool shared);

static void grad_units(const struct dan_args *a, const struct grad *g, const struct sizes *s, struct units *u, int64_t block)
{
    int64_t shared = first_shared(u, s->kv, a->nth, block), n_long = 0, turn = 0, mine;
    for (int64_t i = 0; i < u->n; i++)
        for (int64_t h = 0; h < s->kv && is_long(u, i, s->kv, a->nth, block); h++)
            if (n_long++ >= shared) {
                if (a->ith == 0) zero_keys(a, s, h, u->at[i].gap, u->at[i].lo);
                grad_unit(a, g, i, h, true);
            }
    if (n_long > shared) dan_args_barrier(a);          /* what they used together is free */
    n_long = 0;
    mine = take(&u->next);
    for (int64_t i = 0; i < u->n; i++)
        for (int64_t h = 0; h < s->kv; h++) {
            if (is_long(u, i, s->kv, a->nth, block) && n_long++ >= shared) continue;
            if (turn++ != mine) continue;
            zero_keys(a, s, h, u->at[i].gap, u->at[i].lo);
            grad_unit(a, g, i, h, false);
            mine = take(&u->next);
        }
    for (int64_t h = 0; h < s->kv && a->ith == 0; h++) zero_keys(a, s, h, u->at[u->n].gap, u->at[u->n].lo);
}

#endif
