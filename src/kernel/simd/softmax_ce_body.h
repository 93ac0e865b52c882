/* softmax_ce and its gradient on vectors; one row at a time, so a row's bits never depend on its neighbours. */
#include <math.h>
#include "core/args.h"
#include "kernel/simd/rows.h"

static float row_max(const float *x, int64_t n)
{
    float m = -INFINITY;
    int64_t i = 0;
    vf v = vf_set(-INFINITY);
    for (; i + VF <= n; i += VF) v = vf_max(vf_load(x + i), v);
    if (n >= VF) m = vf_top(v);
    for (; i < n; i++) m = x[i] > m ? x[i] : m;
    return m;
}

/* sum of exp(x - m); writes the exponentials to e unless it is NULL */
static float row_exp(const float *x, float m, float *e, int64_t n)
{
    vf sum = vf_set(0.f), top = vf_set(m);
    int64_t i = 0;
    for (; i + VF <= n; i += VF) {
        vf v = vf_exp(vf_sub(vf_load(x + i), top));
        if (e) vf_store(e + i, v);
        sum = vf_add(sum, v);
    }
    float total = vf_sum(sum);
    if (i < n) {
        float tail[VF] = {0};
        vf_store_n(tail, vf_exp(vf_sub(vf_load_n(x + i, n - i), top)), n - i);
        for (int64_t k = 0; k < n - i; k++) {
            total += tail[k];
            if (e) e[i + k] = tail[k];
        }
    }
    return total;
}

static void row_scale(float *e, float by, int64_t n)
{
    int64_t i = 0;
    for (; i + VF <= n; i += VF) vf_store(e + i, vf_mul(vf_load(e + i), vf_set(by)));
    if (i < n) vf_store_n(e + i, vf_mul(vf_load_n(e + i, n - i), vf_set(by)), n - i);
}

static bool accepts(const struct dan_args *a) { return rows_f32(&a->in[0]); }

static void run_ce(const struct dan_args *a)
{
    const int32_t *target = a->in[1].data;
    float *loss = a->out[0].data;
    int64_t lo, hi, v = dan_cols(&a->in[0]);
    dan_share(a, dan_rows(&a->in[0]), 1, &lo, &hi);
    for (int64_t i = lo; i < hi; i++) {
        const float *x = dan_row(&a->in[0], i);
        loss[i] = 0;
        if (target[i] < 0 || target[i] >= v) continue;
        float m = row_max(x, v);
        loss[i] = logf(row_exp(x, m, NULL, v)) + (m - x[target[i]]);
    }
}

static void run_grad(const struct dan_args *a)
{
    const int32_t *target = a->in[1].data;
    const float *dloss = a->in[2].data;
    int64_t lo, hi, v = dan_cols(&a->in[0]);
    dan_share(a, dan_rows(&a->in[0]), 1, &lo, &hi);
    for (int64_t i = lo; i < hi; i++) {
        const float *x = dan_row(&a->in[0], i);
        float *dx = dan_row(&a->out[0], i);
        if (target[i] < 0 || target[i] >= v) {
            for (int64_t k = 0; k < v; k++) dx[k] = 0;
            continue;
        }
        int32_t t = target[i];
        float m = row_max(x, v), d = dloss[i];
        row_scale(dx, d / row_exp(x, m, dx, v), v);
        dx[t] -= d;
    }
}
