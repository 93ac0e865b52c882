/* See optim_step.h. */
#include "train/optim_step.h"
#include <math.h>
#include "base/mem.h"
#include "base/sys.h"

/* 32 KiB an array: what AdamW touches of a chunk, 128 KiB, stays in L2, and small models still divide among threads. */
enum { CHUNK = 1 << 13, CHAINS = 16 };

struct dan_optim_chunk { int32_t span; int64_t at, n, before; };   /* before: elements of all chunks in front */

static int64_t chunks_of(int64_t n) { return (n + CHUNK - 1) / CHUNK; }

static void cut(struct dan_optim_plan *p, int32_t span)
{
    int64_t n = p->span[span].n;
    for (int64_t at = 0; at < n; at += CHUNK) {
        struct dan_optim_chunk *c = &p->chunk[p->n_chunks++];
        *c = (struct dan_optim_chunk){span, at, n - at < CHUNK ? n - at : CHUNK, p->n_elements};
        p->n_elements += c->n;
    }
}

int dan_optim_plan_new(const struct dan_optim *o, const struct dan_optim_span *span, int32_t n, uint64_t cpu,
                       struct dan_optim_plan *out, struct dan_err *e)
{
    struct dan_optim_plan p = {.optim = o, .span = span, .avx2 = cpu & DAN_CPU_AVX2};
    int64_t chunks = 1;
    for (int32_t i = 0; i < n; i++) chunks += chunks_of(span[i].n);
    p.chunk = dan_calloc((size_t)chunks, sizeof *p.chunk);
    p.partial = dan_calloc((size_t)chunks, sizeof *p.partial);
    if (!p.chunk || !p.partial) {
        dan_optim_plan_release(&p);
        return dan_fail(e, DAN_ENOMEM, "not enough memory for the gradient norm of %d parameters", n);
    }
    for (int32_t i = 0; i < n; i++) cut(&p, i);
    *out = p;
    return DAN_OK;
}

void dan_optim_plan_release(struct dan_optim_plan *p)
{
    dan_free(p->chunk);
    dan_free(p->partial);
    *p = (struct dan_optim_plan){0};
}

/* Sixteen chains: four vectors of doubles whose additions do not wait for each other; the order is fixed. */
DAN_INLINE double squares(const float *g, int64_t n)
{
    double s[CHAINS] = {0};
    int64_t i = 0;
    for (; i + CHAINS <= n; i += CHAINS)
        for (int k = 0; k < CHAINS; k++) s[k] += (double)g[i + k] * g[i + k];
    for (int k = 0; i < n; i++, k++) s[k] += (double)g[i] * g[i];
    for (int d = CHAINS / 2; d; d /= 2)
        for (int k = 0; k < d; k++) s[k] += s[k + d];
    return s[0];
}

static double squares_plain(const float *g, int64_t n) { return squares(g, n); }
DAN_FOR_AVX2 static double squares_avx2(const float *g, int64_t n) { return squares(g, n); }

struct job { const struct dan_optim_plan *p; struct dan_pool *pool; struct dan_optim_args a; double clip, keep, norm; bool apply; };

/* First chunk of thread ith: equal numbers of elements, whole chunks, neighbours together. */
static int64_t first_chunk(const struct dan_optim_plan *p, int ith, int nth)
{
    int64_t want = (int64_t)((double)p->n_elements * ith / nth), lo = 0, hi = p->n_chunks;
    if (ith == nth) return p->n_chunks;
    while (lo < hi) {
        int64_t mid = (lo + hi) / 2;
        if (p->chunk[mid].before < want) lo = mid + 1;
        else hi = mid;
    }
    return lo;
}

static void update_chunk(const struct job *j, const struct dan_optim_chunk *c, double scale)
{
    const struct dan_optim *o = j->p->optim;
    const struct dan_optim_span *s = &j->p->span[c->span];
    float *slot[DAN_MAX_SLOTS] = {0}, *w = s->w + c->at;
    struct dan_optim_args a = j->a;
    for (int k = 0; k < o->n_slots; k++) slot[k] = s->slot[k] + c->at;
    a.grad_scale = scale;
    if (s->rate > 0) a.lr *= s->rate;
    if (!s->decay) a.weight_decay = 0;
    (j->p->avx2 && o->update_avx2 ? o->update_avx2 : o->update)(w, s->g + c->at, slot, c->n, &a);
    const float keep = (float)j->keep, take = (float)(1 - j->keep);
    float *ema = s->ema ? s->ema + c->at : NULL;
    for (int64_t k = 0; ema && k < c->n; k++) ema[k] = keep * ema[k] + take * w[k];
}

static void thread_main(void *ctx, int ith, int nth)
{
    struct job *j = ctx;
    const struct dan_optim_plan *p = j->p;
    const int64_t lo = first_chunk(p, ith, nth), hi = first_chunk(p, ith + 1, nth);
    double sum = 0;
    for (int64_t i = lo; i < hi; i++) {
        const float *g = p->span[p->chunk[i].span].g;
        if (g) g += p->chunk[i].at;
        p->partial[i] = !g ? 0 : p->avx2 ? squares_avx2(g, p->chunk[i].n) : squares_plain(g, p->chunk[i].n);
    }
    if (nth > 1) dan_pool_barrier(j->pool);
    for (int64_t i = 0; i < p->n_chunks; i++) sum += p->partial[i];
    double norm = sqrt(sum), scale = j->clip > 0 && norm > j->clip ? j->clip / (norm + 1e-6) : 1;
    if (ith == 0) j->norm = norm;
    if (!j->apply || !isfinite(norm)) return;
    for (int64_t i = hi; i-- > lo;)
        if (p->span[p->chunk[i].span].g) update_chunk(j, &p->chunk[i], scale);       /* the last read are the nearest */
}

double dan_optim_step(const struct dan_optim_plan *p, struct dan_pool *pool, const struct dan_optim_args *a, double clip,
                      double ema_keep, bool apply)
{
    struct job j = {.p = p, .pool = pool, .a = *a, .clip = clip, .keep = ema_keep, .apply = apply};
    dan_pool_run(pool, thread_main, &j);
    return j.norm;
}
