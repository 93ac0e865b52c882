#include "quant/mixed.h"
#include <stdint.h>
#include <stdlib.h>
#include "base/mem.h"

enum { MOST = 1 << 18 };                       /* sums kept after each group */

struct sum { size_t bytes; double cost; int32_t from; int16_t choice; };      /* from: the sum of the groups before it came from */
struct front { struct sum *v; size_t n; };

static int by_bytes(const void *a, const void *b)
{
    const struct sum *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
    if (x->cost != y->cost) return x->cost < y->cost ? -1 : 1;
    return x->choice - y->choice ? x->choice - y->choice : (x->from > y->from) - (x->from < y->from);
}

/* Keeps what nothing smaller is cheaper than. */
static void prune(struct front *f)
{
    size_t kept = 0;
    qsort(f->v, f->n, sizeof *f->v, by_bytes);
    for (size_t i = 0; i < f->n; i++)
        if (kept == 0 || f->v[i].cost < f->v[kept - 1].cost) f->v[kept++] = f->v[i];
    f->n = kept;
}

/* Too many: every so manieth, and always the last, which is the cheapest. */
static bool thin(struct front *f)
{
    if (f->n <= MOST) return false;
    size_t step = (f->n + MOST - 1) / MOST, kept = 0;
    for (size_t i = 0; i < f->n; i++)
        if (i % step == 0 || i + 1 == f->n) f->v[kept++] = f->v[i];
    f->n = kept;
    return true;
}

static int extend(const struct front *before, const struct dan_mixed_item *item, size_t budget, struct front *out, struct dan_err *e)
{
    out->v = dan_malloc((before->n * (size_t)item->n + 1) * sizeof *out->v);
    if (!out->v) return dan_fail(e, DAN_ENOMEM, "not enough memory to choose formats; offer fewer of them");
    for (size_t i = 0; i < before->n; i++)
        for (int k = 0; k < item->n; k++) {
            size_t bytes = before->v[i].bytes + item->bytes[k];
            if (bytes <= budget) out->v[out->n++] = (struct sum){bytes, before->v[i].cost + item->cost[k], (int32_t)i, (int16_t)k};
        }
    prune(out);
    return DAN_OK;
}

/* front[n + 1]; front[0] is the empty sum. */
static int fill(struct front *front, const struct dan_mixed_item *item, size_t n, size_t budget, bool *exact, struct dan_err *e)
{
    size_t least = 0;
    for (size_t i = 0; i < n; i++) {
        size_t min = item[i].bytes[0];
        for (int k = 1; k < item[i].n; k++) min = item[i].bytes[k] < min ? item[i].bytes[k] : min;
        least += min;
    }
    if (least > budget)
        return dan_fail(e, DAN_EINVAL, "a budget of %zu bytes is too small: the smallest formats offered take %zu; raise it, or offer smaller formats", budget,
                        least);
    front[0].v = dan_calloc(1, sizeof *front[0].v);
    front[0].n = 1;
    if (!front[0].v) return dan_fail(e, DAN_ENOMEM, "not enough memory to choose formats");
    for (size_t i = 0; i < n; i++) {
        int rc = extend(&front[i], &item[i], budget, &front[i + 1], e);
        if (rc) return rc;
        if (thin(&front[i + 1])) *exact = false;
    }
    return front[n].n ? DAN_OK : dan_fail(e, DAN_EINVAL, "no choice of formats fits in %zu bytes; raise the budget a little", budget);
}

int dan_mixed_choose(const struct dan_mixed_item *item, size_t n, size_t budget, struct dan_mixed_plan *out, struct dan_err *e)
{
    struct front *front = dan_calloc(n + 1, sizeof *front);
    if (!front) return dan_fail(e, DAN_ENOMEM, "not enough memory to choose formats");
    out->exact = true;
    int rc = fill(front, item, n, budget, &out->exact, e);
    if (!rc) {
        size_t at = front[n].n - 1;            /* the last is the largest and the cheapest */
        out->cost = front[n].v[at].cost;
        out->bytes = front[n].v[at].bytes;
        for (size_t i = n; i > 0; i--) {
            const struct sum *s = &front[i].v[at];
            out->choice[i - 1] = s->choice;
            at = (size_t)s->from;
        }
    }
    for (size_t i = 0; i <= n; i++) dan_free(front[i].v);
    dan_free(front);
    return rc;
}
