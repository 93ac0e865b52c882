#include "quant/static.h"
#include <math.h>
#include <string.h>
#include "base/mem.h"
#include "model/quantize_rows.h"

struct watch { const struct dan_static_opts *o; struct dan_histogram *h; const char **reader; };   /* by input: the product that shows it */

static bool wanted(void *ctx, const struct dan_product *p)
{
    const struct watch *w = ctx;
    return w->reader[p->input] && !strcmp(w->reader[p->input], p->name);
}

static int see(void *ctx, const struct dan_product *p, const float *x, int64_t n, struct dan_err *e)
{
    struct watch *w = ctx;
    return dan_histogram_add(&w->h[p->input], x, n * p->k, p->name, e);
}

static bool progress(void *ctx, int64_t done, int64_t total)
{
    const struct dan_static_opts *o = ((struct watch *)ctx)->o;
    return !o->progress || o->progress(o->ctx, done, total);
}

static bool asks(const struct dan_static_opts *o, const struct dan_product *p) { return !o->wants || o->wants(o->ctx, p); }

static int open_watch(struct watch *w, const struct dan_products *p, struct dan_err *e)
{
    size_t n = (size_t)p->n_inputs;
    w->h = dan_calloc(n + 1, sizeof *w->h);
    w->reader = dan_calloc(n + 1, sizeof *w->reader);
    if (!w->h || !w->reader) return dan_fail(e, DAN_ENOMEM, "not enough memory to watch %zu inputs of products", n);
    int rc = DAN_OK;
    for (size_t i = 0; i < p->n && !rc; i++) {
        const struct dan_product *q = &p->v[i];
        if (!asks(w->o, q) || w->reader[q->input]) continue;
        w->reader[q->input] = q->name;
        rc = dan_histogram_init(&w->h[q->input], w->o->momentum, e);
    }
    return rc;
}

static void close_watch(struct watch *w, const struct dan_products *p)
{
    for (int32_t i = 0; i < p->n_inputs && w->h; i++) dan_histogram_release(&w->h[i]);
    dan_free(w->h);
    dan_free(w->reader);
}

static double outside(const struct dan_histogram *h, const struct dan_range *r)
{
    uint64_t n = 0;
    for (int64_t b = 0; b < h->n_bins; b++)
        n += (h->width * (double)b >= r->hi ? h->pos[b] : 0) + (h->width * (double)b >= -r->lo ? h->neg[b] : 0);
    return h->count && h->width > 0 ? (double)n / (double)h->count : 0;
}

static int add_scale(struct dan_static *s, const struct watch *w, const struct dan_product *p, struct dan_err *e)
{
    const struct dan_histogram *h = &w->h[p->input];
    const struct dan_calibrator *c = w->o->calibrator ? w->o->calibrator : &dan_calibrator_minmax;
    struct dan_static_scale *to = &s->v[s->n++];
    *to = (struct dan_static_scale){.name = p->name, .seen = {h->lo, h->hi}, .input = p->input};
    int rc = c->range(h, &w->o->range, &to->range, e);
    if (rc) return rc;
    to->clipped = outside(h, &to->range);
    dan_range_scale(&to->range, &w->o->range, &to->scale, &to->zero);
    return DAN_OK;
}

static int make_scales(struct dan_static *s, const struct watch *w, struct dan_err *e)
{
    s->v = dan_calloc(s->products.n + 1, sizeof *s->v);
    int rc = s->v ? DAN_OK : dan_fail(e, DAN_ENOMEM, "not enough memory for %zu scales", s->products.n);
    for (size_t i = 0; i < s->products.n && !rc; i++)
        if (asks(w->o, &s->products.v[i])) rc = add_scale(s, w, &s->products.v[i], e);
    return rc;
}

int dan_static_observe(const struct dan_lm *lm, const struct dan_sequences *text, const struct dan_static_opts *o, struct dan_static *out,
                       struct dan_observed *seen, struct dan_err *e)
{
    static const struct dan_static_opts none;
    struct watch w = {.o = o ? o : &none};
    *out = (struct dan_static){0};
    int rc = dan_products_new(lm, &out->products, e);
    if (rc) return rc;
    rc = open_watch(&w, &out->products, e);
    if (!rc) {
        struct dan_observe_opts oo = {.pool = w.o->pool, .wants = wanted, .see = see, .progress = progress, .ctx = &w};
        rc = dan_observe(lm, text, &oo, seen, e);
    }
    if (!rc) rc = make_scales(out, &w, e);
    close_watch(&w, &out->products);
    if (rc) dan_static_release(out);
    return rc;
}

int dan_static_apply(const struct dan_static *s, struct dan_lm *lm, size_t *n, struct dan_err *e)
{
    size_t done = 0;
    for (size_t i = 0; i < s->n; i++) {
        const struct dan_tensor *t = dan_store_find(lm->store, s->v[i].name);
        if (!t) return dan_fail(e, DAN_EINVAL, "the model has no weights '%s'; these scales belong to another one", s->v[i].name);
        if (t->dtype != &dan_dtype_i8) continue;
        int rc = dan_lm_set_input_scale(lm, s->v[i].name, s->v[i].scale, s->v[i].zero, e);
        if (rc) return rc;
        done++;
    }
    if (n) *n = done;
    return DAN_OK;
}

void dan_static_release(struct dan_static *s)
{
    dan_free(s->v);
    dan_products_release(&s->products);
    *s = (struct dan_static){0};
}
