#include "infer/sampler.h"
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "base/rng.h"

enum { MAX_SAMPLERS = 32 };

struct dan_draw {
    struct dan_candidates c;
    const struct dan_sampler *order[MAX_SAMPLERS];     /* by rank */
    int n_samplers;
};

int dan_sampling_check(const struct dan_sampling *p, struct dan_err *e)
{
    if (!(p->temperature >= 0) || isinf(p->temperature))
        return dan_fail(e, DAN_EINVAL, "temperature %g is not possible; use 0 (greedy) or more, e.g. 0.8", p->temperature);
    if (p->top_k < 0) return dan_fail(e, DAN_EINVAL, "top-k %lld is not possible; use 0 (off) or more", (long long)p->top_k);
    if (!(p->top_p >= 0 && p->top_p <= 1))
        return dan_fail(e, DAN_EINVAL, "top-p %g is not possible; use a value in [0, 1], 1 is off", p->top_p);
    if (!(p->min_p >= 0 && p->min_p <= 1))
        return dan_fail(e, DAN_EINVAL, "min-p %g is not possible; use a value in [0, 1], 0 is off", p->min_p);
    if (!(p->repetition_penalty >= 0))
        return dan_fail(e, DAN_EINVAL, "repetition penalty %g is not possible; use 1 (off) or a little more, e.g. 1.1",
                        p->repetition_penalty);
    return DAN_OK;
}

static void sort_by_rank(struct dan_draw *d)
{
    for (int i = 0; dan_samplers[i] && d->n_samplers < MAX_SAMPLERS; i++) {
        int k = d->n_samplers++;
        for (; k > 0 && d->order[k - 1]->rank > dan_samplers[i]->rank; k--) d->order[k] = d->order[k - 1];
        d->order[k] = dan_samplers[i];
    }
}

int dan_draw_new(int64_t vocab, struct dan_draw **out, struct dan_err *e)
{
    struct dan_draw *d = dan_calloc(1, sizeof *d);
    size_t n = (size_t)vocab;
    if (d) {
        d->c = (struct dan_candidates){.id = dan_malloc(n * sizeof *d->c.id),
                                       .logit = dan_malloc(n * sizeof *d->c.logit),
                                       .vocab = vocab,
                                       .p = dan_malloc(n * sizeof *d->c.p),
                                       .scratch = dan_malloc(n * sizeof *d->c.scratch),
                                       .mark = dan_calloc(n, 1)};
        sort_by_rank(d);
    }
    if (!d || !d->c.id || !d->c.logit || !d->c.p || !d->c.scratch || !d->c.mark) {
        dan_draw_free(d);
        return dan_fail(e, DAN_ENOMEM, "not enough memory to draw from %lld tokens", (long long)vocab);
    }
    *out = d;
    return DAN_OK;
}

void dan_draw_free(struct dan_draw *d)
{
    if (!d) return;
    dan_free(d->c.id);
    dan_free(d->c.logit);
    dan_free(d->c.p);
    dan_free(d->c.scratch);
    dan_free(d->c.mark);
    dan_free(d);
}

/* The loops below go over 32 k or 128 k logits for every token and are written for the compiler's vectors: LANES sums
 * side by side, no calls, no branches.  A draw from 32 k tokens took 190 us with libm and one sum, now 60; with top-p 600,
 * now 290; greedily 30, now 16.  A token of a 15 M model takes 500 (one core of a virtual machine). */
enum { LANES = 8, PIECE = 256 };

/* Not a number counts as smaller than all. */
static float top_of(const float *x, int64_t n)
{
    float m[LANES], top = -INFINITY;
    int64_t i = 0;
    for (int k = 0; k < LANES; k++) m[k] = -INFINITY;
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++) m[k] = x[i + k] > m[k] ? x[i + k] : m[k];
    for (; i < n; i++) m[0] = x[i] > m[0] ? x[i] : m[0];
    for (int k = 0; k < LANES; k++) top = m[k] > top ? m[k] : top;
    return top;
}

float dan_candidates_top(const struct dan_candidates *c) { return top_of(c->logit, c->n); }

/* e^x for -87 <= x <= 0 within 1e-7: x = n ln 2 + r and Cephes' expf polynomial in r. */
static inline float exp_of(float x)
{
    int32_t n = (int32_t)(x * 1.44269504f - 0.5f), bits = (n + 127) * (1 << 23);
    float scale, r = x - (float)n * 0.693359375f + (float)n * 2.12194440e-4f;
    float p = ((((1.9875691500e-4f * r + 1.3981999507e-3f) * r + 8.3334519073e-3f) * r + 4.1665795894e-2f) * r + 1.6666665459e-1f) * r;
    memcpy(&scale, &bits, sizeof scale);
    return ((p + 5.0000001201e-1f) * r * r + r + 1) * scale;
}

/* y = e^(x - max), 0 below e^-87.  One step a loop: choices inside a long body would become branches. */
static void exp_all(const float *x, float max, float *y, int64_t n)
{
    float d[PIECE];
    for (int64_t i = 0; i < n; i++) d[i] = x[i] - max;
    for (int64_t i = 0; i < n; i++) y[i] = d[i] > -87 ? d[i] : -87;
    for (int64_t i = 0; i < n; i++) y[i] = exp_of(y[i]);
    for (int64_t i = 0; i < n; i++) y[i] = d[i] > -87 ? y[i] : 0;
}

double dan_candidates_softmax(const struct dan_candidates *c, double *p)
{
    float max = dan_candidates_top(c), e[PIECE];
    double part[LANES] = {0}, sum = 0;
    if (max == -INFINITY) max = 0;             /* all are: all get 0 / 0 */
    for (int64_t at = 0; at < c->n; at += PIECE) {
        int64_t n = c->n - at < PIECE ? c->n - at : PIECE;
        exp_all(c->logit + at, max, e, n);
        for (int64_t i = n; i % LANES; i++) e[i] = 0;
        for (int64_t i = 0; i < n; i += LANES)
            for (int k = 0; k < LANES; k++) part[k] += (double)e[i + k];
        for (int64_t i = 0; i < n; i++) p[at + i] = (double)e[i];
    }
    for (int k = 0; k < LANES; k++) sum += part[k];
    double by = 1 / sum;
    for (int64_t i = 0; i < c->n; i++) p[i] *= by;
    return by;
}

void dan_candidates_at_least(struct dan_candidates *c, float logit)
{
    int64_t n = 0;
    for (int64_t i = 0; i < c->n; i++) {
        float x = c->logit[i];                 /* no branch: nobody could predict it */
        c->id[n] = c->id[i];
        c->logit[n] = x;
        n += x >= logit;
    }
    c->n = n;
}

/* NaN logits (a broken model) count as -inf, so that something is chosen. */
static void start(struct dan_candidates *c, const float *logits, const int32_t *history, int64_t n_history)
{
    c->n = c->vocab;
    c->history = history;
    c->n_history = n_history;
    for (int64_t i = 0; i < c->n; i++) {
        c->id[i] = (int32_t)i;
        c->logit[i] = isnan(logits[i]) ? -INFINITY : logits[i];
    }
}

const struct dan_candidates *dan_draw_candidates(struct dan_draw *d, const struct dan_sampling *p, const float *logits,
                                                 const int32_t *history, int64_t n_history)
{
    start(&d->c, logits, history, n_history);
    for (int i = 0; i < d->n_samplers; i++)
        if (d->order[i]->on(p) && (p->temperature > 0 || d->order[i]->greedy)) d->order[i]->apply(p, &d->c);
    return &d->c;
}

/* The first of the largest; 0 when none is a number. */
static int64_t largest(const float *x, int64_t n)
{
    float top = top_of(x, n);
    for (int64_t i = 0; i < n; i++)
        if (x[i] == top) return i;
    return 0;
}

static bool changes_greedy(const struct dan_draw *d, const struct dan_sampling *p)
{
    for (int i = 0; i < d->n_samplers; i++)
        if (d->order[i]->greedy && d->order[i]->on(p)) return true;
    return false;
}

/* Inverts the distribution function, ids rising, at a number with 53 bits. */
static int64_t drawn(const struct dan_candidates *c, const struct dan_sampling *p, uint64_t counter)
{
    uint32_t r[4];
    double at = 0;
    int64_t last = 0;
    dan_philox(p->seed, p->stream, counter, r);
    double u = ((double)(r[0] >> 5) * 67108864.0 + (double)(r[1] >> 6)) / 9007199254740992.0;
    dan_candidates_softmax(c, c->p);
    for (int64_t i = 0; i < c->n; i++) {
        if (!(c->p[i] > 0)) continue;
        last = i;
        at += c->p[i];
        if (u < at) return i;
    }
    return last;
}

int32_t dan_draw_token(struct dan_draw *d, const struct dan_sampling *p, const float *logits, const int32_t *history, int64_t n_history,
                       uint64_t counter)
{
    if (!(p->temperature > 0) && !changes_greedy(d, p)) return (int32_t)largest(logits, d->c.vocab);
    const struct dan_candidates *c = dan_draw_candidates(d, p, logits, history, n_history);
    return c->id[p->temperature > 0 ? drawn(c, p, counter) : largest(c->logit, c->n)];
}
