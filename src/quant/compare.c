#include "quant/compare.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "base/mem.h"
#include "infer/session.h"

struct dan_baseline {
    const struct dan_sequences *text;
    int64_t vocab, targets, longest;
    float *logits;                             /* [targets, V] */
};

/* ---- a model over the windows ---- */

typedef void on_window(void *ctx, int64_t window, int64_t first, int64_t n, const float *logits);   /* targets [first, first + n) */

struct walk { const struct dan_sequences *text; int64_t longest, targets; on_window *see; void *ctx; };

static int measure(const struct dan_sequences *text, struct walk *w, struct dan_err *e)
{
    for (int64_t i = 0; i < text->n; i++) {
        int64_t n = text->start[i + 1] - text->start[i];
        if (n < 2) return dan_fail(e, DAN_EINVAL, "window %lld of the text has %lld tokens, it takes two; give more text", (long long)i, (long long)n);
        if (n > w->longest) w->longest = n;
        w->targets += n - 1;
    }
    return w->targets > 0 ? DAN_OK : dan_fail(e, DAN_EINVAL, "the text has no token to predict; give more text");
}

static int one_window(struct dan_session *s, const struct walk *w, int64_t i, int64_t first, float *logits, struct dan_err *e)
{
    int64_t at = w->text->start[i], n = w->text->start[i + 1] - at;
    struct dan_feed f = {.tokens = w->text->ids + at, .n = n - 1, .n_logits = n - 1, .logits = logits};
    dan_session_reset(s, 0);
    int rc = dan_session_feed(s, &f, 1, e);
    if (!rc) w->see(w->ctx, i, first, n - 1, logits);
    return rc;
}

static int walk(struct dan_lm *lm, const struct walk *w, const struct dan_compare_opts *o, struct dan_err *e)
{
    struct dan_session *s = NULL;
    struct dan_session_opts so = {.context = w->longest, .max_rows = w->longest, .max_select = w->longest, .pool = o->pool, .cpu_mask = o->cpu_mask};
    int rc = dan_session_new(lm, &so, &s, e);
    if (rc) return rc;
    int64_t first = 0;
    float *logits = dan_malloc((size_t)w->longest * (size_t)dan_session_vocab(s) * sizeof *logits);
    if (!logits) rc = dan_fail(e, DAN_ENOMEM, "not enough memory for the logits of %lld tokens; use shorter windows", (long long)w->longest);
    for (int64_t i = 0; i < w->text->n && !rc; i++) {
        rc = one_window(s, w, i, first, logits, e);
        first += w->text->start[i + 1] - w->text->start[i] - 1;
        if (!rc && o->progress && !o->progress(o->ctx, first, w->targets)) rc = dan_fail(e, DAN_ECANCELLED, "interrupted");
    }
    dan_free(logits);
    dan_session_free(s);
    return rc;
}

/* ---- the reference ---- */

static void keep(void *ctx, int64_t window, int64_t first, int64_t n, const float *logits)
{
    struct dan_baseline *b = ctx;
    (void)window;
    memcpy(b->logits + first * b->vocab, logits, (size_t)(n * b->vocab) * sizeof *logits);
}

int dan_baseline_new(struct dan_lm *lm, const struct dan_sequences *text, const struct dan_compare_opts *o, struct dan_baseline **out, struct dan_err *e)
{
    struct dan_baseline *b = dan_calloc(1, sizeof *b);
    struct walk w = {.text = text, .see = keep, .ctx = b};
    if (!b) return dan_fail(e, DAN_ENOMEM, "not enough memory to compare models");
    int rc = measure(text, &w, e);
    b->text = text;
    b->vocab = lm->cfg.vocab;
    b->targets = w.targets;
    b->longest = w.longest;
    if (!rc) b->logits = dan_malloc((size_t)w.targets * (size_t)b->vocab * sizeof(float));
    if (!rc && !b->logits)
        rc = dan_fail(e, DAN_ENOMEM, "not enough memory for %lld rows of %lld logits; use less text", (long long)w.targets, (long long)b->vocab);
    if (!rc) rc = walk(lm, &w, o, e);
    if (rc) dan_baseline_free(b);
    else *out = b;
    return rc;
}

void dan_baseline_free(struct dan_baseline *b)
{
    if (!b) return;
    dan_free(b->logits);
    dan_free(b);
}

/* ---- the other ---- */

static double log_sum(const float *x, int64_t n, int64_t *top)
{
    double max = (double)x[0], sum = 0;
    *top = 0;
    for (int64_t i = 1; i < n; i++)
        if ((double)x[i] > max) max = (double)x[i], *top = i;
    for (int64_t i = 0; i < n; i++) sum += exp((double)x[i] - max);
    return max + log(sum);
}

enum { BASE, LOSS, MORE, KL, N_SUMS };
struct compare {
    const struct dan_baseline *b;
    const float *logits;
    int64_t window, first, n;
    double *kl;                                /* [targets] */
    double *token;                             /* [longest, 2]: loss of the reference, of the model */
    int8_t *same;                              /* [longest] */
    double *window_sum;                        /* [windows, N_SUMS] */
    double sum[N_SUMS], same_sum;
    struct dan_pool *pool;
};

static void one_token(struct compare *c, int64_t i)
{
    int64_t v = c->b->vocab, top, other;
    const float *p = c->b->logits + (c->first + i) * v, *q = c->logits + i * v;
    double zp = log_sum(p, v, &top), zq = log_sum(q, v, &other), kl = 0;
    int32_t target = c->b->text->ids[c->b->text->start[c->window] + i + 1];
    for (int64_t k = 0; k < v; k++) kl += exp((double)p[k] - zp) * (((double)p[k] - zp) - ((double)q[k] - zq));
    c->kl[c->first + i] = kl > 0 ? kl : isnan(kl) ? INFINITY : 0;
    c->token[2 * i] = zp - (double)p[target];
    c->token[2 * i + 1] = zq - (double)q[target];
    c->same[i] = top == other;
}

static void some_tokens(void *ctx, int ith, int nth)
{
    struct compare *c = ctx;
    for (int64_t i = c->n * ith / nth; i < c->n * (ith + 1) / nth; i++) one_token(c, i);
}

static void on_logits(void *ctx, int64_t window, int64_t first, int64_t n, const float *logits)
{
    struct compare *c = ctx;
    double sum[N_SUMS] = {0};
    c->window = window, c->first = first, c->n = n, c->logits = logits;
    dan_pool_run(c->pool, some_tokens, c);
    for (int64_t i = 0; i < n; i++) {
        sum[BASE] += c->token[2 * i];
        sum[LOSS] += c->token[2 * i + 1];
        sum[MORE] += c->token[2 * i + 1] - c->token[2 * i];
        sum[KL] += c->kl[first + i];
        c->same_sum += c->same[i];
    }
    for (int k = 0; k < N_SUMS; k++) {
        c->window_sum[window * N_SUMS + k] = sum[k];
        c->sum[k] += sum[k];
    }
}

/* Standard error of a mean over tokens that come in windows of n_i (Cochran 1977, cluster sampling with a ratio estimator):
 * sum of (s_i - mean n_i)^2 over windows, times W / (W - 1), its root over the tokens. */
static double error_of(const struct compare *c, int k)
{
    const int64_t *start = c->b->text->start;
    int64_t n = c->b->text->n;
    double total = (double)c->b->targets, mean = c->sum[k] / total, square = 0;
    if (n < 2) return 0;
    for (int64_t i = 0; i < n; i++) {
        double d = c->window_sum[i * N_SUMS + k] - mean * (double)(start[i + 1] - start[i] - 1);
        square += d * d;
    }
    return sqrt(square * (double)n / (double)(n - 1)) / total;
}

static int rising(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void conclude(struct compare *c, struct dan_comparison *out)
{
    double n = (double)c->b->targets;
    qsort(c->kl, (size_t)c->b->targets, sizeof *c->kl, rising);
    *out = (struct dan_comparison){.tokens = c->b->targets, .windows = c->b->text->n,
                                   .base = c->sum[BASE] / n, .base_error = error_of(c, BASE), .loss = c->sum[LOSS] / n, .loss_error = error_of(c, LOSS),
                                   .more = c->sum[MORE] / n, .more_error = error_of(c, MORE), .kl = c->sum[KL] / n, .kl_error = error_of(c, KL),
                                   .kl_p99 = c->kl[(int64_t)ceil(0.99 * n) - 1], .kl_max = c->kl[c->b->targets - 1], .same_top = c->same_sum / n};
}

int dan_compare(const struct dan_baseline *b, struct dan_lm *lm, const struct dan_compare_opts *o, struct dan_comparison *out, struct dan_err *e)
{
    struct compare c = {.b = b, .pool = o->pool};
    struct walk w = {.text = b->text, .longest = b->longest, .targets = b->targets, .see = on_logits, .ctx = &c};
    if (lm->cfg.vocab != b->vocab)
        return dan_fail(e, DAN_EINVAL, "the models have vocabularies of %lld and %lld tokens; compare models of one tokenizer", (long long)b->vocab,
                        (long long)lm->cfg.vocab);
    c.kl = dan_malloc((size_t)b->targets * sizeof *c.kl);
    c.token = dan_malloc(2 * (size_t)b->longest * sizeof *c.token);
    c.same = dan_malloc((size_t)b->longest);
    c.window_sum = dan_malloc((size_t)b->text->n * N_SUMS * sizeof *c.window_sum);
    int rc = c.kl && c.token && c.same && c.window_sum ? walk(lm, &w, o, e) : dan_fail(e, DAN_ENOMEM, "not enough memory to compare models");
    if (!rc) conclude(&c, out);
    dan_free(c.kl);
    dan_free(c.token);
    dan_free(c.same);
    dan_free(c.window_sum);
    return rc;
}
