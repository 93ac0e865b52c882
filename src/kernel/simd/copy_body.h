/* copy between f32 and bf16 rows; included by ISA/copy.c after vec_ISA.h. */
#include "core/args.h"

static void widen(const uint16_t *x, float *y, int64_t n)
{
    int64_t i = 0;
    for (; i + VF <= n; i += VF) vf_store(y + i, vf_load_bf16(x + i));
    if (i < n) dan_dtype_bf16.to_f32(x + i, y + i, n - i);
}

static void narrow(const float *x, uint16_t *y, int64_t n)
{
    int64_t i = 0;
    for (; i + VF <= n; i += VF) vf_store_bf16(y + i, vf_load(x + i));
    if (i < n) dan_dtype_bf16.from_f32(x + i, y + i, n - i);
}

static bool is(const struct dan_tensor *t, const struct dan_dtype *d) { return t->dtype == d; }

static bool accepts(const struct dan_args *a)
{
    const struct dan_tensor *x = &a->in[0], *y = &a->out[0];
    return (is(x, &dan_dtype_f32) && is(y, &dan_dtype_bf16)) || (is(x, &dan_dtype_bf16) && is(y, &dan_dtype_f32));
}

static void run(const struct dan_args *a)
{
    const struct dan_tensor *x = &a->in[0], *y = &a->out[0];
    int64_t lo, hi;
    dan_share(a, dan_rows(y), 1, &lo, &hi);
    for (int64_t r = lo; r < hi; r++) {
        if (y->dtype == &dan_dtype_f32) widen(dan_row(x, r), dan_row(y, r), dan_cols(y));
        else narrow(dan_row(x, r), dan_row(y, r), dan_cols(y));
    }
}
