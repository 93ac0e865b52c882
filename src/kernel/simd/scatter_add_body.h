/* scatter_add: threads own columns, rows come in order.  Include math_ISA.h before. */
#include <string.h>
#include "base/sys.h"
#include "core/args.h"

static bool accepts(const struct dan_args *a)
{
    return a->in[0].dtype == &dan_dtype_f32 && a->in[2].shape.n == 1;
}

static void run(const struct dan_args *a)
{
    const int32_t *ids = a->in[2].data;
    int64_t lo, hi, v = a->out[0].shape.d[0], n = dan_rows(&a->in[1]);
    dan_share(a, a->out[0].shape.d[1], 16, &lo, &hi);
    if (a->out[0].data != a->in[0].data)
        for (int64_t r = 0; r < v && lo < hi; r++)
            memcpy((float *)dan_row(&a->out[0], r) + lo, (const float *)dan_row(&a->in[0], r) + lo, (size_t)(hi - lo) * sizeof(float));
    for (int64_t r = 0; r < n; r++) {
        if (ids[r] < 0 || ids[r] >= v) continue;
        float *y = dan_row(&a->out[0], ids[r]);
        const float *x = dan_row(&a->in[1], r);
        for (int64_t i = lo; i < hi; i += VF) vf_store_n(y + i, vf_add(vf_load_n(y + i, hi - i), vf_load_n(x + i, hi - i)), hi - i);
    }
}
