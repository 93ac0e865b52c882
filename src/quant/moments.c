/* Sums over the inputs of a product. */
#include <math.h>
#include "base/mem.h"
#include "quant/rounding.h"

enum { ROWS = 512 };                           /* rows of one f32 product; their sums are added in f64 */

int dan_moments_new(int64_t k, bool with_h, struct dan_moments *out, struct dan_err *e)
{
    *out = (struct dan_moments){.k = k};
    out->squares = dan_calloc((size_t)k + 1, sizeof *out->squares);
    if (with_h) out->h = dan_calloc((size_t)k * (size_t)k + 1, sizeof *out->h);
    if (out->squares && (out->h || !with_h)) return DAN_OK;
    dan_moments_release(out);
    return dan_fail(e, DAN_ENOMEM, "not enough memory for the moments of %lld inputs; use a method without H (imatrix, mse)", (long long)k);
}

void dan_moments_release(struct dan_moments *m)
{
    dan_free(m->squares);
    dan_free(m->h);
    *m = (struct dan_moments){0};
}

struct add { struct dan_moments *m; const float *x, *xx; int64_t rows; };

/* Columns are shared out: every sum has one order. */
static void add_squares(void *ctx, int ith, int nth)
{
    struct add *a = ctx;
    int64_t k = a->m->k, lo = k * ith / nth, hi = k * (ith + 1) / nth;
    for (int64_t r = 0; r < a->rows; r++)
        for (int64_t j = lo; j < hi; j++) a->m->squares[j] += (double)a->x[r * k + j] * (double)a->x[r * k + j];
}

static void add_h(void *ctx, int ith, int nth)
{
    struct add *a = ctx;
    int64_t n = a->m->k * a->m->k;
    for (int64_t i = n * ith / nth; i < n * (ith + 1) / nth; i++) a->m->h[i] += (double)a->xx[i];
}

int dan_moments_add(struct dan_moments *m, const float *x, int64_t rows, struct dan_pool *pool, struct dan_err *e)
{
    struct add a = {.m = m, .x = x, .rows = rows};
    struct dan_dense *p = NULL;
    int rc = DAN_OK;
    dan_pool_run(pool, add_squares, &a);
    if (m->h && rows) rc = dan_dense_new(rows < ROWS ? rows : ROWS, m->k, true, pool, &p, e);
    for (int64_t r = 0; m->h && r < rows && !rc; r += ROWS) {
        rc = dan_dense_run(p, x + r * m->k, rows - r < ROWS ? rows - r : ROWS, NULL, &a.xx, e);
        if (!rc) dan_pool_run(pool, add_h, &a);
    }
    dan_dense_free(p);
    if (!rc) m->n += rows;
    return rc;
}
