#include "base/mem.h"
#include "quant/imatrix.h"
#include "quant/round.h"

struct collect { struct dan_moments *of; struct dan_pool *pool; };      /* [n_inputs] */

static bool wants(void *ctx, const struct dan_product *p)
{
    (void)ctx;
    return p->first;
}

static int see(void *ctx, const struct dan_product *p, const float *x, int64_t n, struct dan_err *e)
{
    struct collect *c = ctx;
    struct dan_moments *m = &c->of[p->input];
    int rc = m->squares ? DAN_OK : dan_moments_new(p->k, false, m, e);
    return rc ? rc : dan_moments_add(m, x, n, c->pool, e);
}

int dan_imatrix_collect(const struct dan_lm *lm, const struct dan_sequences *text, struct dan_pool *pool, struct dan_imatrix *out, struct dan_err *e)
{
    struct dan_products p;
    int rc = dan_products_new(lm, &p, e);
    if (rc) return rc;
    struct collect c = {dan_calloc((size_t)p.n_inputs + 1, sizeof *c.of), pool};
    struct dan_observe_opts o = {.pool = pool, .wants = wants, .see = see, .ctx = &c};
    rc = c.of ? dan_observe(lm, text, &o, NULL, e) : dan_fail(e, DAN_ENOMEM, "not enough memory for an importance matrix");
    for (size_t i = 0; i < p.n && !rc; i++) {
        const struct dan_moments *m = &c.of[p.v[i].input];
        rc = dan_imatrix_add(out, p.v[i].name, m->squares, m->n, m->k, e);
    }
    for (int32_t i = 0; c.of && i < p.n_inputs; i++) dan_moments_release(&c.of[i]);
    dan_free(c.of);
    dan_products_release(&p);
    out->chunks = (int32_t)text->n;
    return rc;
}
