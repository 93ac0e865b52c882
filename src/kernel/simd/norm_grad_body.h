/* layer_norm_grad and rms_norm_grad: dx row by row, and while the row is in cache its part of dgamma and
 * dbeta.  Those are summed over chunks of CHUNK rows, then chunk by chunk in order: fixed, whatever nth is.
 * The file that includes this defines LAYER as 1 or 0 (an enum), and includes math_ISA.h before. */
#include "kernel/simd/norm_rows.h"

enum { CHUNK = 32 };

struct row { const float *x, *gamma, *dres; const void *dy; float *dx, *dgamma, *dbeta; int64_t c; struct stats s; };
struct means { float g, gx; };                         /* of dy gamma and of dy gamma xh */

ALWAYS struct means row_means(bool half, const struct row *r)
{
    vf g0 = vf_set(0), g1 = g0, x0 = g0, x1 = g0, mean = vf_set(r->s.mean), rstd = vf_set(r->s.rstd);
    int64_t i = 0;
    for (; i + 2 * VF <= r->c; i += 2 * VF) {
        vf a = vf_mul(load_row(half, r->dy, i, VF), vf_load(r->gamma + i)), b = vf_mul(load_row(half, r->dy, i + VF, VF), vf_load(r->gamma + i + VF));
        g0 = vf_add(g0, a);
        g1 = vf_add(g1, b);
        x0 = vf_fma(a, vf_mul(vf_sub(vf_load(r->x + i), mean), rstd), x0);
        x1 = vf_fma(b, vf_mul(vf_sub(vf_load(r->x + i + VF), mean), rstd), x1);
    }
    for (; i < r->c; i += VF) {                        /* lanes beyond c have dy = 0 */
        vf a = vf_mul(load_row(half, r->dy, i, r->c - i), vf_load_n(r->gamma + i, r->c - i));
        g0 = vf_add(g0, a);
        x0 = vf_fma(a, vf_mul(vf_sub(vf_load_n(r->x + i, r->c - i), mean), rstd), x0);
    }
    return (struct means){LAYER ? vf_sum(vf_add(g0, g1)) / (float)r->c : 0, vf_sum(vf_add(x0, x1)) / (float)r->c};
}

ALWAYS void grad_row(bool half, const struct row *r)
{
    struct means m = row_means(half, r);
    vf mean = vf_set(r->s.mean), rstd = vf_set(r->s.rstd), mg = vf_set(m.g), mgx = vf_set(-m.gx);
    for (int64_t i = 0; i < r->c; i += VF) {
        int64_t n = r->c - i;
        vf dy = load_row(half, r->dy, i, n), xh = vf_mul(vf_sub(vf_load_n(r->x + i, n), mean), rstd);
        vf g = vf_fma(xh, mgx, vf_sub(vf_mul(dy, vf_load_n(r->gamma + i, n)), mg));
        vf_store_n(r->dx + i, r->dres ? vf_fma(g, rstd, vf_load_n(r->dres + i, n)) : vf_mul(g, rstd), n);
        vf_store_n(r->dgamma + i, vf_fma(dy, xh, vf_load_n(r->dgamma + i, n)), n);
        if (LAYER) vf_store_n(r->dbeta + i, vf_add(dy, vf_load_n(r->dbeta + i, n)), n);
    }
}

/* Rows of one chunk; `part` is its [1 + LAYER][C] of sums. */
static void grad_chunk(const struct dan_args *a, int64_t chunk, float *part)
{
    int64_t c = dan_cols(&a->in[0]), n = dan_rows(&a->in[0]), end = (chunk + 1) * CHUNK < n ? (chunk + 1) * CHUNK : n;
    float eps = (float)a->attr[DAN_NORM_EPS].f;
    memset(part, 0, (size_t)(c * (1 + LAYER)) * sizeof *part);
    for (int64_t r = chunk * CHUNK; r < end; r++) {
        struct row row = {
            .x = dan_row(&a->in[0], r), .gamma = a->in[1].data, .dy = dan_row(&a->in[2], r),
            .dres = a->in[3].data ? dan_row(&a->in[3], r) : NULL, .dx = dan_row(&a->out[0], r), .dgamma = part, .dbeta = part + c, .c = c,
        };
        row.s = LAYER ? layer_stats(row.x, c, eps) : rms_stats(row.x, c, eps);
        if (dan_is_bf16(&a->in[2])) grad_row(true, &row);
        else grad_row(false, &row);
    }
}

static void sum_chunks(const float *part, int64_t n_chunks, int64_t step, float *y, int64_t lo, int64_t hi)
{
    for (int64_t i = lo; i < hi; i += VF) {
        vf s = vf_set(0);
        for (int64_t k = 0; k < n_chunks; k++) s = vf_add(s, vf_load_n(part + k * step + i, hi - i));
        vf_store_n(y + i, s, hi - i);
    }
}

static bool accepts(const struct dan_args *a) { return norm_accepts(a, 4, 0); }

static size_t workspace(const struct dan_args *a, int nth)
{
    (void)nth;
    return (size_t)((dan_rows(&a->in[0]) + CHUNK - 1) / CHUNK * dan_cols(&a->in[0]) * (1 + LAYER)) * sizeof(float);
}

static void run(const struct dan_args *a)
{
    int64_t c = dan_cols(&a->in[0]), n_chunks = (dan_rows(&a->in[0]) + CHUNK - 1) / CHUNK, step = c * (1 + LAYER), lo, hi;
    float *part = a->ws;
    dan_share(a, n_chunks, 1, &lo, &hi);
    for (int64_t k = lo; k < hi; k++) grad_chunk(a, k, part + k * step);
    dan_args_barrier(a);
    dan_share(a, c, VF, &lo, &hi);
    sum_chunks(part, n_chunks, step, a->out[1].data, lo, hi);
    if (LAYER) sum_chunks(part + c, n_chunks, step, a->out[2].data, lo, hi);
}
